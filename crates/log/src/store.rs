//! The checkpoint store: a small ordered map on the disk for what is keyed, small, and can be rebuilt from the log.
//!
//! Nothing on the path of a confirm waits for it. Two implementations pass one suite: sled, which the product uses, and
//! redb, against which it is checked.

#[cfg(test)]
mod redb_store;
mod sled_store;

use std::error::Error;
use std::fmt;

use bytes::Bytes;

#[cfg(test)]
pub(crate) use redb_store::RedbStore;
pub use sled_store::SledStore;

/// An ordered map from keys to values. Handles may be used by several threads.
pub trait CheckpointStore: Send + Sync + fmt::Debug {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Sets several keys, all or none. Durable only after `flush_durable`.
    fn put_batch(&self, pairs: &[(Vec<u8>, Bytes)]) -> Result<(), StoreError>;
    /// Removes a key; it is no error if it is not there. Durable only after `flush_durable`.
    fn delete(&self, key: &[u8]) -> Result<(), StoreError>;
    /// The first pairs, at most `limit`, with `first <= key < end`, ascending.
    fn range(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;
    /// Makes everything that was done before durable.
    fn flush_durable(&self) -> Result<(), StoreError>;
}

/// A key with its value.
pub type Pair = (Vec<u8>, Bytes);

/// The store failed.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint store: {attempt}")]
pub struct StoreError {
    /// What was tried.
    pub attempt: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Names what was tried when it fails.
pub(crate) fn store_error<E: Into<Box<dyn Error + Send + Sync>>>(
    attempt: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError {
        attempt,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
