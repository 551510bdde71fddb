//! One entry of a shard's log.

use bytes::Bytes;

use crate::{Epoch, Index, Position, Stamp};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// The first entry of an epoch; its payload is the encoded shard record under which the leader leads.
    NewEpoch,
    /// A batch of commands for the state machine above; opaque here.
    Commands,
}

/// One entry: identified by (epoch, index), unchanged from leader to follower to disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The epoch whose leader made the entry.
    pub epoch: Epoch,
    /// Its place in the log.
    pub index: Index,
    /// The leader's clock when it made the entry.
    pub stamp: Stamp,
    /// What it is for.
    pub kind: EntryKind,
    /// Encoded once, by the gateway; the same bytes everywhere.
    pub payload: Bytes,
}

impl Entry {
    /// Bytes that an entry costs in memory and on disk besides its payload; an upper bound used for limits.
    pub const OVERHEAD_BYTES: usize = 64;

    /// Where the entry stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            index: self.index,
        }
    }

    /// What the entry counts against limits in bytes.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.payload.len() + Self::OVERHEAD_BYTES
    }
}
