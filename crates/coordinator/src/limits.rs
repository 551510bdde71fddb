//! Every bound of the coordinator, with its reason.

/// Storage nodes that a cluster can have. The topology is sent whole and must stay far below a gRPC frame.
pub const NODES_MAX: usize = 256;

/// How often a waiting coordinator tries the lock of the embedded store: short against the time that a takeover may
/// take, long against the cost of one system call.
pub const STORE_LOCK_POLL_MS: u64 = 50;

/// Requests that wait for the store's thread; whoever asks waits beyond that.
pub const STORE_QUEUE: usize = 1024;

/// Requests that share one flush; bounds the time to the first answer.
pub const STORE_GROUP: usize = 256;

/// Changes that a watcher may lag behind before it is cut off.
pub const STORE_WATCH_LAG: usize = 1024;

/// Cache of the embedded store: all its rows together are a few hundred kilobytes.
pub const STORE_CACHE_BYTES: u64 = 16 * 1024 * 1024;
