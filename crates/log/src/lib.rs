//! Segmented log, promise and checkpoint stores of one storage node.
//!
//! [`NodeDisk`] is the data folder; it opens a [`ShardLog`] per shard, which [`Writers`] write with group commit and
//! [`Reader`]s read. [`Checkpoints`] keeps what can be rebuilt from the log. The crate knows of replication only what is
//! written: entries, claims, positions. It touches the disk only through [`Disk`], so that the simulator can put in its own.

mod checkpoints;
mod disk;
mod draft;
mod fields;
mod install;
pub mod limits;
mod node_disk;
mod reader;
mod readers;
mod real_disk;
mod record;
mod recovery;
mod scan;
mod segment;
mod shard_files;
mod shard_log;
mod slots;
mod space;
mod store;
mod survey;
mod table;
mod tail;
mod writers;

pub use checkpoints::{Checkpoint, Checkpoints};
pub use disk::{Disk, DiskFile};
pub use node_disk::{CheckpointMark, DiskError, Finding, NodeDisk, Opened};
pub use reader::{ReadError, ReadRange, Reader};
pub use readers::{Busy, Readers};
pub use real_disk::RealDisk;
pub use shard_log::{LogError, ShardLog};
pub use space::{Sizes, Space};
pub use store::{CheckpointStore, Pair, SledStore, StoreError};
pub use table::SegmentStatus;
pub use writers::{Completion, Writers};
