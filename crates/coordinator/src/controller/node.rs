//! What the controller knows of one storage node.

use quorate_replication::{Duration, Member, RecordVersion, Time};

use crate::{
    controller::{
        clock::NodeClock,
        effect::DeathCause,
        input::{Attempt, Heartbeat, OperatorRequest, StreamId},
        row::NodeRow,
    },
    limits::{REDIAL_FIRST_MS, REDIAL_MAX_MS},
};

/// Whether a node lives.
///
/// ```text
///  Absent --attends--> Alive --timeout--> Silent      (heard again or attends: Alive)
///    |                   |                  |
///    +-- grace over -----+-- refused -------+--> Dead (attends: Alive)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Known from the store, and not attending since this coordinator became active.
    Absent,
    /// Attends, or its stream broke a moment ago.
    Alive,
    /// Nothing heard for the node timeout.
    Silent,
    /// Gone.
    Dead(DeathCause),
}

/// A redial of a node whose stream is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redial {
    /// The attempt that is under way.
    pub attempt: Option<Attempt>,
    /// When the next one begins, if none is under way.
    pub next: Time,
    /// The wait before the one after.
    pub wait: Duration,
}

impl Redial {
    pub(super) fn new(now: Time) -> Self {
        Self {
            attempt: None,
            next: now,
            wait: Duration::from_millis(REDIAL_FIRST_MS),
        }
    }

    /// The attempt told nothing: waits, each time twice as long.
    pub(super) fn wait(&mut self, now: Time) {
        self.attempt = None;
        self.next = now.after(self.wait);
        let doubled = self.wait.0.saturating_mul(2);
        self.wait = Duration(doubled).min(Duration::from_millis(REDIAL_MAX_MS));
    }
}

/// An operator's wish that is being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draining {
    pub request: OperatorRequest,
    pub is_drained: bool,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// As it is in the store; as it is to be while its first write is under way.
    pub row: NodeRow,
    /// Version of that row. 0: not stored yet.
    pub version: RecordVersion,
    /// The stream whose registration is being stored, and the row that is.
    pub pending: Option<(StreamId, NodeRow)>,
    /// A change of its mark that is being stored.
    pub draining: Option<Draining>,
    /// Its admitted stream.
    pub stream: Option<StreamId>,
    pub state: State,
    /// Since when it is in that state.
    pub since: Time,
    /// When something was heard from it last, or its time began anew.
    pub heard: Time,
    pub redial: Option<Redial>,
    /// Its newest heartbeat.
    pub heartbeat: Heartbeat,
    pub clock: NodeClock,
}

impl Node {
    /// A node as the store knows it.
    pub(super) fn new(row: NodeRow, version: RecordVersion, now: Time) -> Self {
        Self {
            row,
            version,
            pending: None,
            draining: None,
            stream: None,
            state: State::Absent,
            since: now,
            heard: now,
            redial: None,
            heartbeat: Heartbeat {
                is_disk_healthy: true,
                ..Heartbeat::default()
            },
            clock: NodeClock::default(),
        }
    }

    /// The member that this node is with the disk that it came with.
    pub(super) fn member(&self) -> Member {
        Member {
            node: self.row.node,
            disk: self.row.disk,
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.state == State::Alive
    }

    /// Whether it can be given a leadership.
    pub(super) fn can_lead(&self) -> bool {
        self.is_alive() && self.stream.is_some() && self.heartbeat.is_disk_healthy
    }

    pub(super) fn become_state(&mut self, state: State, now: Time) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}
