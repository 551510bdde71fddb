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

/// Slots that destinations are hashed to; part of the topology, so fixed for good.
pub const SLOTS: u32 = 1024;

/// Shards that a cluster can have: no more than slots.
pub const SHARDS_MAX: u32 = SLOTS;

/// Disks remembered of one node whose counters no shard depends on. Enough for an operator's experiments; more are
/// forgotten, after which an image of such a disk counts as an empty one, which is no voter either.
pub const DISKS_MAX: usize = 16;

/// Gateways that attend at the same time; more are refused. Each is a line of the topology.
pub const GATEWAYS_MAX: usize = 256;

/// Writes or reads of one row that may wait at the same time before something is wrong with the shell.
pub const READS_MAX: usize = 16;

/// Parts of the node timeout at which the controller looks around. A longer gap than half of the timeout between two
/// looks means that this process was paused.
pub const TICKS_PER_TIMEOUT: u64 = 4;

/// Node timeouts that a new active coordinator waits for known nodes to attend before it calls them dead. Nodes try
/// all coordinators in turn, at once at first.
pub const GRACE_TIMEOUTS: u64 = 3;

/// Node timeouts for which a coordinator that hears nobody at all believes that it is itself cut off.
pub const DEAF_TIMEOUTS: u64 = 3;

/// Node timeouts for which a silent leader may stay because its followers hear it.
pub const DEFERRAL_TIMEOUTS: u64 = 10;

/// Node timeouts for which a leader that is to be replaced while it lives is left out of the choice: long enough for
/// the others to answer, short enough not to block the shard when they do not.
pub const EXCLUSION_TIMEOUTS: u64 = 2;

/// Node timeouts for which a leader's report of a lost quorum is believed.
pub const LOST_QUORUM_TIMEOUTS: u64 = 2;

/// Heartbeats without a shard that the store says the node leads, before it is believed that it does not.
pub const MISSED_MAX: u32 = 2;

/// First wait before an address that accepted a connection is dialed again: a dying process closes its sockets one
/// after the other.
pub const REDIAL_FIRST_MS: u64 = 5;

/// Greatest wait between redials of a node whose stream is broken.
pub const REDIAL_MAX_MS: u64 = 200;

/// How long an election may take before its reason names details.
pub const REASON_AFTER_MS: u64 = 300;

/// Time between two moves of leaderships, so that a move is settled before the next one.
pub const MOVE_PERIOD_MS: u64 = 2_000;

/// How long nodes and leaders must have been steady before leaderships are moved: a node that just returned catches
/// up first.
pub const MOVE_STEADY_MS: u64 = 5_000;

/// How long a shard that was moved stays where it is, wherever that is.
pub const MOVE_AGAIN_MS: u64 = 60_000;

/// How long to wait before something that the store refused or did not answer is tried again.
pub const STORE_RETRY_MS: u64 = 500;
