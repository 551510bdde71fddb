//! SIGNATURES, bodies follow.
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_replication::{Position, ShardId, Stamp};

use crate::CheckpointMark;

/// A small ordered map on the disk for what can be rebuilt.
pub trait CheckpointStore: Send + Sync + std::fmt::Debug {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Sets several keys, all or none.
    fn put_batch(&self, pairs: &[(Vec<u8>, Bytes)]) -> Result<(), StoreError>;
    /// Removes a key; it is no error if it is not there.
    fn delete(&self, key: &[u8]) -> Result<(), StoreError>;
    /// Pairs with `first <= key < end`, ascending, at most `limit`.
    fn range(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError>;
    /// Makes everything before it durable.
    fn flush_durable(&self) -> Result<(), StoreError>;
}

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint store: {attempt}")]
pub struct StoreError {
    /// What was tried.
    pub attempt: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The store on sled.
#[derive(Debug)]
pub struct SledStore {}

impl SledStore {
    /// Opens or creates the store in a folder.
    pub fn open(folder: &Path) -> Result<Self, StoreError> { todo!() }
}

/// A checkpoint as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it stands for.
    pub mark: CheckpointMark,
    /// The encoded state.
    pub state: Bytes,
}

/// The checkpoints of the shards of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints {}

impl Checkpoints {
    /// On a store.
    pub fn new(store: Arc<dyn CheckpointStore>) -> Self { todo!() }
    /// Saves a checkpoint; durable when it returns. Older ones of the shard are removed after.
    pub fn save(&self, shard: ShardId, mark: CheckpointMark, state: &[u8]) -> Result<(), StoreError> { todo!() }
    /// The newest complete one.
    pub fn load(&self, shard: ShardId) -> Result<Option<Checkpoint>, StoreError> { todo!() }
}
