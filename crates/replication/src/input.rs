//! What a replica is told. Inputs are facts; they come in any order that the outside produces.

use bytes::Bytes;

use crate::{
    Claim, DiskId, Entry, Epoch, Incarnation, Index, Message, NodeId, Nonce, Order, Position,
    ShardId, Stamp, WriteId,
};

/// What was found on the disk when the node started. The log layer fills it in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recovered {
    /// The shard.
    pub shard: ShardId,
    /// This node.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// This life of the node.
    pub incarnation: Incarnation,
    /// The promise, at least the epoch of the last entry. None: no valid slot was found and the replica is wiped
    /// (a replica that is made for the first time writes an initial promise before it is opened).
    pub promise: Option<Claim>,
    /// The durable upper bound of what may have been acknowledged.
    pub bound: Option<Position>,
    /// Whether the log may end below `bound`, is damaged, or the flag was set before.
    pub impaired: bool,
    /// The entry that stands before the log's first one: what the installed or newest checkpoint allowed to drop.
    pub base: Position,
    /// Last entry; equal to `base` when the log is empty.
    pub end: Position,
    /// First index of each epoch present after `base`, ascending in both.
    pub epochs: Vec<(Epoch, Index)>,
    /// Stamp of the last entry, or of the checkpoint.
    pub stamp: Stamp,
    /// Known to be committed: the index of the newest durable checkpoint.
    pub committed: Index,
}

/// An input of `Replica`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// A message from another replica of the shard.
    Received {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// An order from the coordinator. `nonce` is fresh randomness for whatever the order starts.
    Ordered(Order),
    /// Payloads to append, in order, each one entry. Taken only while leading; the caller asks
    /// `can_propose` first, and a proposal to a replica that does not lead is dropped with an event.
    Proposed {
        /// The caller's wall clock.
        stamp: Stamp,
        /// One payload each.
        payloads: Vec<Bytes>,
    },
    /// All writes up to this one are durable.
    Persisted(WriteId),
    /// Entries that a `Load` asked for: consecutive from the first index that was asked for, possibly fewer than
    /// asked for; empty when the first one is no longer in the log.
    Loaded {
        /// The follower that they are for.
        to: NodeId,
        /// The first index that was asked for.
        first: Index,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Everything below the base of the log may be dropped from memory tables: a checkpoint is durable at `base`
    /// and the segments below are gone.
    Trimmed {
        /// The new entry before the first one.
        base: Position,
    },
    /// The layer above carried out an `Install` durably: the log now begins after `at`.
    Installed {
        /// The entry that the checkpoint stands for.
        at: Position,
        /// Its stamp.
        stamp: Stamp,
        /// The transfer.
        transfer: Nonce,
    },
    /// A background check found damage in the log, or the state machine differs from the leader's.
    Damaged,
    /// The clock moved to or past `next_deadline`. `nonce` is fresh randomness for a question.
    Elapsed {
        /// Fresh randomness.
        nonce: Nonce,
    },
}
