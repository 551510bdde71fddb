//! What the controller knows of one shard.

use std::collections::VecDeque;

use quorate_replication::{
    Claim, Election, Epoch, Incarnation, Member, NodeId, RecordVersion, RequestId, ShardRecord,
    Time,
};

use crate::controller::effect::{ElectionCause, MoveCause};

/// A shard.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// The record as last known to be stored.
    pub record: ShardRecord,
    pub version: RecordVersion,
    pub election: Option<Running>,
    /// Numbers the elections of this shard, so that no answer to an earlier one is used.
    pub elections: u64,
    /// Reads of the record that are under way, oldest first.
    pub reads: VecDeque<AwaitedRead>,
    /// A node that knows a higher epoch than the store: nothing is claimed.
    pub behind: Option<Behind>,
    /// The life of the leader's node that was seen to lead this epoch.
    pub led_by: Option<Incarnation>,
    /// Heartbeats of the leader's node in a row that do not name the shard.
    pub missed: u32,
    /// Since when the leader leads without serving.
    pub unserved_since: Option<Time>,
    /// When the leader reported last that it lost its quorum.
    pub lost_quorum: Option<Time>,
    /// A deferral was noted for the present silence.
    pub is_deferred: bool,
    /// A move of its leadership that the leader prepares.
    pub moving: Option<Moving>,
    /// Not moved away from a node that should lead nothing before this.
    pub move_after: Time,
    /// Planned moves in a row after which a leader led that nobody wants.
    pub vain_moves: u32,
    /// Not moved to even out leaderships before this.
    pub settled_until: Time,
}

/// A move of a leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moving {
    /// Who is to lead.
    pub to: Member,
    /// The claim of the leader that prepares it.
    pub claim: Claim,
    pub cause: MoveCause,
    /// When it is given up.
    pub until: Time,
}

/// An election that is under way.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub election: Election,
    pub cause: ElectionCause,
    pub started: Time,
    /// Who is to lead, as far as placement decides: counted as its leader meanwhile.
    pub preferred: Option<NodeId>,
    /// The leader that is to be replaced while it lives: its answers are not used until then.
    pub excluded: Option<(Member, Time)>,
    /// It has asked the store for a change: from there on it cannot be called off.
    pub has_swapped: bool,
    /// The reason that was noted last.
    pub noted: String,
}

/// A read that something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwaitedRead {
    /// An election's compare-and-set met another version.
    Swap { election: u64, request: RequestId },
    /// An election asked.
    Read { election: u64, request: RequestId },
    /// A node spoke of a higher epoch.
    Suspicion(Behind),
}

/// Evidence that the store went back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub node: NodeId,
    pub known: Epoch,
}

impl Shard {
    pub(super) fn new(record: ShardRecord, version: RecordVersion, now: Time) -> Self {
        Self {
            record,
            version,
            election: None,
            elections: 0,
            reads: VecDeque::new(),
            behind: None,
            led_by: None,
            missed: 0,
            unserved_since: None,
            lost_quorum: None,
            is_deferred: false,
            moving: None,
            move_after: now,
            vain_moves: 0,
            settled_until: now,
        }
    }

    pub(super) fn has_voter(&self, member: Member) -> bool {
        self.record.voters.contains(&member)
            || self
                .record
                .next_voters
                .as_ref()
                .is_some_and(|voters| voters.contains(&member))
    }

    /// Takes a record that the store holds, unless a newer one is known.
    pub(super) fn learn(&mut self, record: ShardRecord, version: RecordVersion) {
        if version > self.version {
            if record.claim != self.record.claim || record.leader != self.record.leader {
                self.led_by = None;
                self.missed = 0;
                self.unserved_since = None;
                self.moving = None;
            }
            self.record = record;
            self.version = version;
        }
    }

    /// The node that leads it or is about to.
    pub(super) fn leading(&self) -> Option<NodeId> {
        match (&self.election, &self.moving) {
            (Some(running), _) => running.preferred,
            (None, Some(moving)) => Some(moving.to.node),
            (None, None) => self.record.leader.map(|leader| leader.node),
        }
    }

    pub(super) fn is_electing(&self, election: u64) -> bool {
        self.election.is_some() && self.elections == election
    }

    /// Whether it has a leader of which nothing bad is known.
    pub(super) fn is_settled(&self) -> bool {
        self.election.is_none()
            && self.behind.is_none()
            && self.record.leader.is_some()
            && self.led_by.is_some()
            && self.missed == 0
            && self.unserved_since.is_none()
            && self.moving.is_none()
    }
}
