//! Segmented log, promise and checkpoint stores of one storage node.

mod disk;
pub mod limits;
mod node_disk;
mod shard_log;
mod store;
mod writers;

pub use disk::{Disk, DiskFile};
pub use node_disk::{CheckpointMark, DiskError, Finding, NodeDisk, Opened, Space};
pub use shard_log::{LogError, ReadError, ReadRange, Reader, SegmentStatus, ShardLog};
pub use store::{Checkpoint, CheckpointStore, Checkpoints, SledStore, StoreError};
pub use writers::{Busy, Completion, Readers, Writers};
