//! The coordination store: a small set of versioned rows that change by compare-and-set.
//!
//! Every implementation promises:
//! - a change that is answered as made survives whatever happens to this process, and, as far as the store is durable,
//!   to its machine;
//! - changes and reads are linearizable: a read sees every change that was answered before it began;
//! - versions of a key are at least 1 and rise with every change;
//! - at most one process is the active coordinator (`campaign`), and a change that another one asks for is not made.
//!
//! It knows nothing of what the rows mean. `conformance` is the suite that each implementation passes.

use std::future::Future;

use bytes::Bytes;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod etcd;
mod options;
mod tenure;
pub mod zookeeper;

pub use options::{OptionsError, StoreOptions, Tls};

/// Prefix of the keys of published members.
pub const MEMBERS: &str = "members/";

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The key.
    pub key: String,
    /// Its version, at least 1.
    pub version: u64,
    /// The value.
    pub value: Bytes,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The key.
    pub key: String,
    /// The version that it must have; 0: it must not be there.
    pub expected: u64,
    /// The new value.
    pub value: Bytes,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// Made; the new version.
    Stored(u64),
    /// Not made: the key has this version (0: it is not there).
    Conflict(u64),
}

/// Why the store did not do as asked. The change may have been made all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time.
    #[error("coordination store is away: {0}")]
    Away(String),
    /// It is broken and stays so until the process starts anew.
    #[error("coordination store is broken, restart the coordinator after mending it: {0}")]
    Broken(String),
    /// Only the active coordinator may ask that of this store.
    #[error("this process is not the active coordinator of the store")]
    NotActive,
}

impl StoreError {
    /// Whether the same call may succeed later in this process.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Broken(_) | Self::NotActive => false,
        }
    }
}

/// A handle of a coordination store; clones share it.
pub trait Store: Clone + Send + Sync + 'static {
    /// Waits until this process is the active coordinator: exactly one is at a time. May be called again after `lost`.
    fn campaign(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Waits until this process, having won, is no longer the active coordinator.
    fn lost(&self) -> impl Future<Output = ()> + Send;

    /// Gives up being the active coordinator, so that another one need not wait; as well as that goes.
    fn resign(&self) -> impl Future<Output = ()> + Send;

    /// Reads a key.
    fn read(&self, key: &str)
    -> impl Future<Output = Result<Option<Versioned>, StoreError>> + Send;

    /// Reads all keys that begin with `prefix`, in order.
    fn read_all(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<Versioned>, StoreError>> + Send;

    /// Changes one key if it has the expected version.
    fn compare_and_set(
        &self,
        swap: Swap,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send {
        async {
            let outcomes = self.compare_and_set_many(vec![swap]).await?;
            outcomes
                .first()
                .copied()
                .ok_or_else(|| StoreError::Broken("no outcome for a change".to_owned()))
        }
    }

    /// Changes several keys, each for itself, with one round trip as far as the store can. One outcome each, in order.
    fn compare_and_set_many(
        &self,
        swaps: Vec<Swap>,
    ) -> impl Future<Output = Result<Vec<Swapped>, StoreError>> + Send;

    /// Publishes a live storage node for operators, or withdraws it. No decision hangs on it; gone with this process.
    fn publish_member(
        &self,
        name: &str,
        member: Option<Bytes>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
