//! SIGNATURES, bodies follow.
use std::io;
use std::sync::Arc;

use quorate_replication::{Claim, DiskId, Incarnation, Index, NodeId, Position, Recovered, ShardId, Stamp};

use crate::{Disk, ShardLog};

/// The data folder of one storage node: who it is, and the folders of its shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeDisk {}

/// Whether there is room for new messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is.
    Enough,
    /// The disk is full and the reserve is in use: refuse what takes space, allow what frees it.
    Reserve,
}

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The folder belongs to another cluster.
    #[error("data folder belongs to cluster {found}, not {expected}; give it another folder")]
    OtherCluster {
        /// Cluster in the folder.
        found: String,
        /// Cluster asked for.
        expected: String,
    },
    /// Both slots of the identity file are unreadable.
    #[error("identity file is damaged; the disk cannot be trusted, start with an empty data folder")]
    Damaged,
    /// The node number is set already, to another.
    #[error("data folder belongs to node {found}, not {expected}")]
    OtherNode {
        /// Node in the folder.
        found: NodeId,
        /// Node asked for.
        expected: NodeId,
    },
    /// The disk failed.
    #[error("{attempt}")]
    Io {
        /// What was tried.
        attempt: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// The newest durable checkpoint of a shard, as the checkpoint store has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointMark {
    /// The entry that it stands for.
    pub at: Position,
    /// Stamp of that entry.
    pub stamp: Stamp,
}

/// An opened shard.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready to be written.
    pub log: ShardLog,
    /// What the replica starts from.
    pub recovered: Recovered,
    /// What recovery met that somebody should know of; to be logged.
    pub findings: Vec<Finding>,
}

/// What recovery or a scrub found. `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Writes that no sync covered were cut off the end: normal after a crash.
    TornTail {
        /// Last index that stays.
        after: Index,
    },
    /// Damage at or below what may have been acknowledged: the replica is impaired.
    Damage {
        /// First index that is bad or missing.
        at: Index,
        /// What was seen.
        what: String,
    },
}

impl NodeDisk {
    /// Opens a data folder, or takes an empty one into use under the identity `fresh` (chosen at random by the caller).
    /// Raises the boot counter, durably.
    pub fn open(disk: Arc<dyn Disk>, cluster: &str, fresh: DiskId) -> Result<Self, DiskError> { todo!() }
    /// The identity of the disk.
    pub fn disk_id(&self) -> DiskId { todo!() }
    /// This life of the node: the boot counter.
    pub fn incarnation(&self) -> Incarnation { todo!() }
    /// The node's number, once it has registered.
    pub fn node(&self) -> Option<NodeId> { todo!() }
    /// Keeps the node's number, durably.
    pub fn register(&self, node: NodeId) -> Result<(), DiskError> { todo!() }
    /// The shards that have a folder here, ascending.
    pub fn shards(&self) -> Result<Vec<ShardId>, DiskError> { todo!() }
    /// Makes the folder of a shard that this disk never had, with its first promise. Durable when it returns.
    pub fn create_shard(&self, shard: ShardId, initial: Claim) -> Result<(), DiskError> { todo!() }
    /// Opens a shard. `checkpoint` is the newest durable one in the checkpoint store; a sealed install is finished
    /// if the checkpoint is its own and discarded otherwise. `Recovered::committed` is `checkpoint.at.index`.
    pub fn open_shard(&self, shard: ShardId, checkpoint: CheckpointMark) -> Result<Opened, DiskError> { todo!() }
    /// Whether there is room for new messages. Asked before each proposal; costs one atomic load.
    pub fn space(&self) -> Space { todo!() }
    /// Tries to take the reserve back after space was freed; call it now and then while `space` is `Reserve`.
    pub fn reclaim(&self) -> Space { todo!() }
}
