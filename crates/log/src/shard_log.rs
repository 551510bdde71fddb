//! SIGNATURES, bodies follow.
use std::io;

use quorate_replication::{Entry, Index, Position, ShardId, Stamp, Write, WriteId};

use crate::Finding;

/// The log of one shard with its promise and bound: the synchronous core. One owner writes; readers share.
#[derive(Debug)]
pub struct ShardLog {}

/// Why the log did not take a write.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk and its reserve are full. Writes before `refused` are taken; hand it and those after it in again
    /// once space was freed. The log goes on.
    #[error("disk is full; free space on the data disk")]
    Full {
        /// The first write that was not taken.
        refused: WriteId,
    },
    /// A write or sync failed. What is on the disk is unknown; the log takes nothing more. The node stops.
    #[error("{attempt}; the log is closed for good")]
    Failed {
        /// What was tried.
        attempt: String,
        /// Why it failed.
        source: io::Error,
    },
    /// An earlier write or sync failed.
    #[error("log is closed since a write failed")]
    Poisoned,
}

impl LogError {
    /// Whether the same write may be handed in again.
    pub fn is_retryable(&self) -> bool { matches!(self, Self::Full { .. }) }
}

/// One segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStatus {
    /// First index; names the segment.
    pub first: Index,
    /// Last index it holds.
    pub last: Index,
    /// Bytes on the disk.
    pub size_bytes: u64,
    /// The one that is written; never dropped.
    pub is_tail: bool,
}

impl ShardLog {
    /// The shard.
    pub fn shard(&self) -> ShardId { todo!() }
    /// Carries out writes in their order; what they append is durable only after `sync`. Promises, bounds, cuts and
    /// flags are durable at once, and everything before them with them.
    pub fn write(&mut self, writes: &[(WriteId, Write)]) -> Result<(), LogError> { todo!() }
    /// Makes all that was written durable; returns the last write.
    pub fn sync(&mut self) -> Result<WriteId, LogError> { todo!() }
    /// Zero-fills ahead of the tail if little is left there: call it after the confirms went out.
    pub fn prepare(&mut self) -> Result<(), LogError> { todo!() }
    /// The entry before the first one of the contiguous log.
    pub fn base(&self) -> Position { todo!() }
    /// The last entry.
    pub fn end(&self) -> Position { todo!() }
    /// A handle for reading, for any thread.
    pub fn reader(&self) -> Reader { todo!() }
    /// All segments, ascending, those below the base too.
    pub fn segments(&self) -> Vec<SegmentStatus> { todo!() }
    /// Drops the segments named by their first index; each must lie wholly at or below the durable checkpoint and hold
    /// nothing live. Returns the new base: of the contiguous part that is left.
    pub fn drop_segments(&mut self, firsts: &[Index]) -> Result<Position, LogError> { todo!() }
    /// Starts to stage the state that a checkpoint at `at` stands for; an earlier staging is discarded.
    pub fn begin_install(&mut self, at: Position, stamp: Stamp) -> Result<(), LogError> { todo!() }
    /// Stages live entries at or below `at`, ascending over all calls; gaps are fine.
    pub fn install_entries(&mut self, entries: &[Entry]) -> Result<(), LogError> { todo!() }
    /// Everything is staged: makes it durable and complete. Save the checkpoint durably after this, then commit.
    pub fn seal_install(&mut self) -> Result<(), LogError> { todo!() }
    /// Switches to what was staged: the log is empty after `at`, the live entries are readable. Promise and bound stay.
    pub fn commit_install(&mut self) -> Result<(), LogError> { todo!() }
    /// Throws staging away.
    pub fn abandon_install(&mut self) -> Result<(), LogError> { todo!() }
}

/// Reads entries, on any thread, without holding up the writer.
#[derive(Clone, Debug)]
pub struct Reader {}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is damaged on the disk: tell the replica (`Input::Damaged`).
    #[error("entry {index} is damaged on the disk")]
    Damaged {
        /// The entry.
        index: Index,
    },
    /// The disk failed.
    #[error("read entries")]
    Io(#[from] io::Error),
}

/// Bounds of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// First index wanted.
    pub first: Index,
    /// Last index wanted.
    pub last: Index,
    /// Stop when this many bytes are read; at least one entry is read.
    pub max_bytes: usize,
}

impl Reader {
    /// Consecutive entries from `first` on; empty if that one is not in the log.
    pub fn read(&self, range: ReadRange) -> Result<Vec<Entry>, ReadError> { todo!() }
    /// The entries at these ascending indexes; those not there are left out.
    pub fn read_entries(&self, indexes: &[Index]) -> Result<Vec<Entry>, ReadError> { todo!() }
    /// Reads and checks every record of the segment that starts at `first`, for a scrub.
    pub fn verify(&self, first: Index) -> Result<Vec<Finding>, ReadError> { todo!() }
    /// As [`ShardLog::segments`].
    pub fn segments(&self) -> Vec<SegmentStatus> { todo!() }
}
