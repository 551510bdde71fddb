//! One storage node's copy of a shard.

use crate::{
    Claim, Config, Effects, Entry, Epoch, Index, Input, Member, NodeId, Position, RecordVersion,
    Recovered, ShardId, ShardRecord, Stamp, Time,
};

/// What a replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Knows of no leader of the epoch that it promised.
    Idle,
    /// Follows a leader.
    Follower,
    /// Leads; whether it serves is `is_serving`.
    Leader,
}

/// What a leader knows of another member, for status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerStatus {
    /// Who.
    pub member: Member,
    /// Counts for commits by membership.
    pub voter: bool,
    /// Holds the leader's log durably up to here.
    pub matched: Index,
    /// Its answers do not count.
    pub impaired: bool,
    /// Gets a checkpoint, being behind the start of the log.
    pub installing: bool,
    /// When it was last sent a message that it answered; none: never in this epoch.
    pub contact: Option<Time>,
}

/// One storage node's copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    config: Config,
    recovered: Recovered,
}

impl Replica {
    /// Opens a replica from what was found on the disk. `effects` of the first step come later; nothing is sent here.
    #[must_use]
    pub fn open(config: Config, recovered: Recovered, now: Time) -> Self {
        let _ = now;
        Self { config, recovered }
    }

    /// Takes one fact and asks for what follows from it.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let _ = (now, input, effects, &self.config);
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.recovered.shard
    }

    /// This node and its disk.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            node: self.recovered.node,
            disk: self.recovered.disk,
        }
    }

    /// What it is at the moment.
    #[must_use]
    pub fn role(&self) -> RoleName {
        RoleName::Idle
    }

    /// The claim that it promised; perhaps not durably yet.
    #[must_use]
    pub fn promise(&self) -> Claim {
        self.recovered.promise.unwrap_or_default()
    }

    /// The epoch of the promise.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.promise().epoch
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        false
    }

    /// Whether it leads and its `NewEpoch` is committed.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        false
    }

    /// Whether proposals are taken: leading, and not too much uncommitted.
    #[must_use]
    pub fn can_propose(&self) -> bool {
        false
    }

    /// The leader that it follows, or itself when leading.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        None
    }

    /// The leader that it hears: an append with `steady` came less than `node_timeout` ago.
    #[must_use]
    pub fn hears(&self, now: Time) -> Option<NodeId> {
        let _ = now;
        None
    }

    /// Whether a write to the disk has been waiting for longer than `node_timeout`.
    #[must_use]
    pub fn is_disk_stalled(&self, now: Time) -> bool {
        let _ = now;
        false
    }

    /// Everything up to here is committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.recovered.committed
    }

    /// The last entry, durable or not.
    #[must_use]
    pub fn end(&self) -> Position {
        self.recovered.end
    }

    /// The entry before the first one of the log.
    #[must_use]
    pub fn base(&self) -> Position {
        self.recovered.base
    }

    /// Stamp of the last entry.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.recovered.stamp
    }

    /// Every entry up to here is durable on this disk.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.recovered.end.index
    }

    /// The epoch of an entry of the log or of its base.
    #[must_use]
    pub fn epoch_at(&self, index: Index) -> Option<Epoch> {
        let _ = index;
        None
    }

    /// An entry, if it is in memory. All that were appended in this life of the node and are not both durable and
    /// committed are; older ones are to be read from the log.
    #[must_use]
    pub fn tail_entry(&self, index: Index) -> Option<&Entry> {
        let _ = index;
        None
    }

    /// First index that is in memory; one past the end when none is.
    #[must_use]
    pub fn tail_first(&self) -> Index {
        self.recovered.end.index.next()
    }

    /// Whether its log may have lost what it acknowledged: then it neither leads nor counts.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        self.recovered.impaired
    }

    /// Whether no valid promise was found on its disk.
    #[must_use]
    pub fn is_wiped(&self) -> bool {
        self.recovered.promise.is_none()
    }

    /// While leading: the record under which it leads, with its version.
    #[must_use]
    pub fn record(&self) -> Option<(&ShardRecord, RecordVersion)> {
        None
    }

    /// While leading: what it knows of the other members.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        std::iter::empty()
    }

    /// Whether a checkpoint at `at` would bring this replica forward; asked before a transfer is carried out.
    #[must_use]
    pub fn wants_install(&self, at: Position) -> bool {
        at.index > self.recovered.end.index
    }
}
