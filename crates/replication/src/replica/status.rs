//! What can be asked of a replica without changing it.

use super::{Replica, Role};
use crate::{
    Claim, Entry, Epoch, Incarnation, Index, Member, NodeId, Position, RecordVersion, ShardId,
    ShardRecord, Stamp, Time,
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

impl Replica {
    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// This node and its disk.
    #[must_use]
    pub fn member(&self) -> Member {
        self.me
    }

    /// This life of the node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What it is at the moment.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Idle => RoleName::Idle,
            Role::Follower(_) => RoleName::Follower,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The claim that it promised; perhaps not durably yet.
    #[must_use]
    pub fn promise(&self) -> Claim {
        self.promise
    }

    /// The epoch of the promise.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.promise.epoch
    }

    /// Whether it leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether it leads and its `NewEpoch` is committed.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_serving(),
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// Whether it leads and a commit quorum answered lately: only then it delivers.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.holds_lease(),
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// Whether proposals are taken: leading, and not too much uncommitted.
    #[must_use]
    pub fn can_propose(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.uncommitted_bytes() < self.config.max_uncommitted_bytes,
            Role::Idle | Role::Follower(_) => false,
        }
    }

    /// The leader that it follows, or itself when leading.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Idle => None,
            Role::Follower(follower) => Some(follower.leader()),
            Role::Leader(_) => Some(self.me.node),
        }
    }

    /// The leader that it hears: an append with `steady` came less than `node_timeout` ago.
    #[must_use]
    pub fn hears(&self, now: Time) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.hears(now, self.config.node_timeout),
            Role::Idle | Role::Leader(_) => None,
        }
    }

    /// Whether a write to the disk has been waiting for `node_timeout`.
    #[must_use]
    pub fn is_disk_stalled(&self, now: Time) -> bool {
        self.writes
            .waiting_since()
            .is_some_and(|since| now.since(since) >= self.config.node_timeout)
    }

    /// Everything up to here is committed. The layer above goes by `Act::Commit`, which may be less on a follower.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last entry, durable or not.
    #[must_use]
    pub fn end(&self) -> Position {
        self.tail.end()
    }

    /// The entry before the first one of the log.
    #[must_use]
    pub fn base(&self) -> Position {
        self.tail.base()
    }

    /// No entry of the log has a greater stamp.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.tail.stamp()
    }

    /// Every entry up to here is durable on this disk.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.writes.durable()
    }

    /// The epoch of an entry of the log or of its base.
    #[must_use]
    pub fn epoch_at(&self, index: Index) -> Option<Epoch> {
        self.tail.epoch_at(index)
    }

    /// An entry, if it is in memory. All that were appended in this life of the node and are not both durable and
    /// announced as committed are; older ones are to be read from the log.
    #[must_use]
    pub fn tail_entry(&self, index: Index) -> Option<&Entry> {
        self.tail.get(index)
    }

    /// First index that is in memory; one past the end when none is.
    #[must_use]
    pub fn tail_first(&self) -> Index {
        self.tail.first()
    }

    /// Upper bound of what it may have acknowledged, as last written.
    #[must_use]
    pub fn bound(&self) -> Option<Position> {
        self.bound
    }

    /// Whether its log may have lost what it acknowledged: then it neither leads nor counts.
    #[must_use]
    pub fn is_impaired(&self) -> bool {
        self.impaired
    }

    /// Whether no valid promise was found on its disk.
    #[must_use]
    pub fn is_wiped(&self) -> bool {
        self.wiped
    }

    /// While leading: the record under which it leads, with its version.
    #[must_use]
    pub fn record(&self) -> Option<(&ShardRecord, RecordVersion)> {
        match &self.role {
            Role::Leader(leader) => Some(leader.record()),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// While leading: what it knows of the other members.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        };
        leader.into_iter().flat_map(|leader| leader.statuses())
    }

    /// Whether a checkpoint at `at`, of the claim that it promised, would bring this replica forward. Asked before a
    /// transfer is carried out: a log that holds the position already is not to be replaced.
    #[must_use]
    pub fn wants_install(&self, at: Position) -> bool {
        !self.wiped
            && !self.is_leading()
            && (self.damaged || !self.tail.holds(at))
            && at.index >= self.commit
    }
}
