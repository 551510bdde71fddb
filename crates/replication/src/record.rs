//! The shard record: what the coordination store says of one shard. Changed only by compare-and-set on its version.
//!
//! Its encoding is the payload of `NewEpoch` entries and what stores keep. Deterministic, integers big-endian:
//!
//! ```text
//! version u8 = 1 | shard u32 | epoch u64 | claim u64 | flags u8 | [leader] | n u8, voters | [n u8, next] | n u8, learners
//! flags: 1 = leader present, 2 = next voters present.  member: node u32 | disk u64
//! ```

use thiserror::Error;

use crate::limits::MEMBERS_MAX;
use crate::{Claim, ClaimId, DiskId, Epoch, Member, NodeId, ShardId};

const ENCODING_VERSION: u8 = 1;
const FLAG_LEADER: u8 = 1;
const FLAG_NEXT_VOTERS: u8 = 2;

/// The version of a record in the coordination store. 0: not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordVersion(pub u64);

/// Who leads a shard, by which claim, and who its members are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardRecord {
    /// The shard.
    pub shard: ShardId,
    /// The newest claim; its epoch is the shard's epoch.
    pub claim: Claim,
    /// The member that the claim was granted to; none while the claim is open.
    pub leader: Option<Member>,
    /// The members whose majority commits and fences. In ascending order.
    pub voters: Vec<Member>,
    /// During a change of membership: the voters to be. A majority of both is needed then.
    pub next_voters: Option<Vec<Member>>,
    /// Members that get the log and count for nothing.
    pub learners: Vec<Member>,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// A version that this program does not know.
    #[error(
        "decode shard record: version {0} is unknown; a newer program wrote it, upgrade this one"
    )]
    Version(u8),
    /// Too short, too long, or with parts that cannot be.
    #[error("decode shard record: the bytes are damaged")]
    Damaged,
}

impl ShardRecord {
    /// Encodes the record. The same record always gives the same bytes.
    ///
    /// # Panics
    /// With more than 64 members of one kind, which no record may have.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(ENCODING_VERSION);
        out.extend_from_slice(&self.shard.0.to_be_bytes());
        out.extend_from_slice(&self.claim.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.claim.id.0.to_be_bytes());
        let leader = if self.leader.is_some() {
            FLAG_LEADER
        } else {
            0
        };
        let next = if self.next_voters.is_some() {
            FLAG_NEXT_VOTERS
        } else {
            0
        };
        out.push(leader | next);
        if let Some(leader) = &self.leader {
            encode_member(&mut out, leader);
        }
        encode_members(&mut out, &self.voters);
        if let Some(next) = &self.next_voters {
            encode_members(&mut out, next);
        }
        encode_members(&mut out, &self.learners);
        out
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// When the bytes are not exactly one record of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader(bytes);
        let [version] = reader.take()?;
        if version != ENCODING_VERSION {
            return Err(RecordError::Version(version));
        }
        let shard = ShardId(u32::from_be_bytes(reader.take()?));
        let claim = Claim {
            epoch: Epoch(u64::from_be_bytes(reader.take()?)),
            id: ClaimId(u64::from_be_bytes(reader.take()?)),
        };
        let [flags] = reader.take()?;
        if flags & !(FLAG_LEADER | FLAG_NEXT_VOTERS) != 0 {
            return Err(RecordError::Damaged);
        }
        let leader = match flags & FLAG_LEADER {
            0 => None,
            _ => Some(reader.member()?),
        };
        let voters = reader.members()?;
        let next_voters = match flags & FLAG_NEXT_VOTERS {
            0 => None,
            _ => Some(reader.members()?),
        };
        let learners = reader.members()?;
        if !reader.0.is_empty() {
            return Err(RecordError::Damaged);
        }
        Ok(Self {
            shard,
            claim,
            leader,
            voters,
            next_voters,
            learners,
        })
    }

    /// Every member, of whatever kind, each once, ascending.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let mut members = self.voters.clone();
        members.extend(self.next_voters.iter().flatten());
        members.extend(&self.learners);
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Whether the member counts for commits and fences, now or after the change that is under way.
    #[must_use]
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.contains(&member)
            || self
                .next_voters
                .iter()
                .flatten()
                .any(|next| *next == member)
    }
}

fn encode_member(out: &mut Vec<u8>, member: &Member) {
    out.extend_from_slice(&member.node.0.to_be_bytes());
    out.extend_from_slice(&member.disk.0.to_be_bytes());
}

fn encode_members(out: &mut Vec<u8>, members: &[Member]) {
    assert!(
        members.len() <= MEMBERS_MAX,
        "a record has at most {MEMBERS_MAX} members of a kind"
    );
    out.push(u8::try_from(members.len()).expect("the bound is below 256"));
    for member in members {
        encode_member(out, member);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(RecordError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn member(&mut self) -> Result<Member, RecordError> {
        Ok(Member {
            node: NodeId(u32::from_be_bytes(self.take()?)),
            disk: DiskId(u64::from_be_bytes(self.take()?)),
        })
    }

    fn members(&mut self) -> Result<Vec<Member>, RecordError> {
        let [count] = self.take()?;
        if usize::from(count) > MEMBERS_MAX {
            return Err(RecordError::Damaged);
        }
        (0..count).map(|_| self.member()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u32) -> Member {
        Member {
            node: NodeId(node),
            disk: DiskId(u64::from(node) + 100),
        }
    }

    fn record() -> ShardRecord {
        ShardRecord {
            shard: ShardId(7),
            claim: Claim {
                epoch: Epoch(3),
                id: ClaimId(99),
            },
            leader: Some(member(2)),
            voters: vec![member(1), member(2), member(3)],
            next_voters: Some(vec![member(2), member(3), member(4)]),
            learners: vec![member(5)],
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for (leader, next_voters) in [(None, None), (Some(member(1)), None), (None, Some(vec![]))] {
            let record = ShardRecord {
                leader,
                next_voters,
                ..record()
            };
            assert_eq!(ShardRecord::decode(&record.encode()), Ok(record));
        }
        assert_eq!(ShardRecord::decode(&record().encode()), Ok(record()));
    }

    #[test]
    fn the_encoding_of_version_1_stays_as_it_is() {
        let record = ShardRecord {
            voters: vec![member(1)],
            next_voters: None,
            learners: vec![],
            ..record()
        };
        let mut expected = vec![
            1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 99, 1,
        ];
        expected.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 102]);
        expected.extend([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 101, 0]);
        assert_eq!(record.encode(), expected);
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let bytes = record().encode();
        for len in 0..bytes.len() {
            assert_eq!(
                ShardRecord::decode(&bytes[..len]),
                Err(RecordError::Damaged)
            );
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(ShardRecord::decode(&longer), Err(RecordError::Damaged));
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(ShardRecord::decode(&newer), Err(RecordError::Version(2)));
    }
}
