//! What a replica wants done.

use crate::{Claim, Entry, Epoch, Index, Member, Message, NodeId, Position, Report, WriteId};

/// One request to the shell. Requests of one step are in order; beyond `after` no order is promised or needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effect {
    /// Not before all writes up to this one are durable. None: at once.
    pub after: Option<WriteId>,
    /// What to do.
    pub act: Act,
}

/// The effects of a step, appended in order. The caller clears it between steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects(pub Vec<Effect>);

impl Effects {
    /// Adds an act that may happen at once.
    pub fn now(&mut self, act: Act) {
        self.0.push(Effect { after: None, act });
    }

    /// Adds an act that waits for a write.
    pub fn after(&mut self, write: WriteId, act: Act) {
        self.0.push(Effect {
            after: Some(write),
            act,
        });
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// Write to the disk, in the order of the ids, and report `Persisted` when durable.
    Persist {
        /// Names the write.
        id: WriteId,
        /// What to write.
        write: Write,
    },
    /// Send to another replica of the shard; may be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Tell the coordinator; dropped when it is not there.
    Report(Report),
    /// Entries up to this index are committed: durable on a quorum. Never goes back. A follower says so only of what
    /// is durable on its own disk too; a leader at once, so a checkpoint there waits for `Replica::durable`. The
    /// entries are in memory (`tail_entry`) until the next step, unless they were in the log when the node started.
    Commit(Index),
    /// Read entries for a follower, at most about `max_bytes`, and answer with `Loaded`.
    Load {
        /// The follower.
        to: NodeId,
        /// First index wanted.
        first: Index,
        /// Last index wanted.
        last: Index,
        /// Stop when this many bytes are read (at least one entry is read).
        max_bytes: usize,
    },
    /// The follower needs entries below the base of the log: the layer above sends its checkpoint. Repeated as long
    /// as the follower is there and does not have it, so a transfer that is under way is not started anew.
    InstallNeeded {
        /// The follower.
        to: NodeId,
    },
    /// Leads from here: `NewEpoch` is appended. Confirm and deliver nothing before `Serving`.
    Led {
        /// The epoch.
        epoch: Epoch,
    },
    /// The `NewEpoch` entry of this epoch is committed.
    Serving {
        /// The epoch.
        epoch: Epoch,
        /// Index of its `NewEpoch` entry.
        at: Index,
    },
    /// Leads no longer.
    Deposed {
        /// The epoch that it led.
        epoch: Epoch,
    },
    /// As leader: whether a commit quorum has answered within the lease. Deliver only while it has.
    Lease {
        /// Whether it is held.
        held: bool,
    },
    /// Something that an operator or a trace wants to know.
    Note(Event),
}

/// A write to the disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Write {
    /// Append entries; the first one follows the log's end.
    Append(Vec<Entry>),
    /// Drop every entry after this index.
    Cut {
        /// The last index that stays.
        after: Index,
    },
    /// Promise, in both slots, each synced, after the log is synced.
    Promise(Claim),
    /// Raise the bound of what may be acknowledged. Durable before any answer that it allows.
    Bound(Position),
    /// Set or clear the impaired flag.
    Impaired(bool),
}

/// What happened, for logs and traces: one short line each, through `Display`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Promised a claim.
    Promised(Claim),
    /// Began to lead.
    BecameLeader(Epoch),
    /// Serves: its `NewEpoch` is committed.
    Serves(Epoch),
    /// Stopped leading because of this promise.
    SteppedDown(Claim),
    /// Follows this leader.
    Follows(NodeId, Epoch),
    /// Cut its log.
    Cut {
        /// Last index that stays.
        after: Index,
        /// The end before.
        end: Position,
    },
    /// Would have had to cut a committed entry: impaired instead. Loud.
    RefusedCut {
        /// Commit index of this replica.
        commit: Index,
        /// Index of the conflict.
        at: Index,
    },
    /// Became impaired.
    Impaired,
    /// Healed in this epoch.
    Healed(Epoch),
    /// A follower answers.
    Joined(Member),
    /// A follower stopped answering.
    Left(Member),
    /// Something was dropped, with the reason.
    Dropped(&'static str),
}
