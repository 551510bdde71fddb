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

/// Cache of the embedded store: all its rows together are a few hundred kilobytes.
pub const STORE_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// How long one call of a replicated store may take before another of its servers is asked: far above a healthy answer,
/// far below a session.
pub const STORE_CALL_MS: u64 = 1_000;

/// How long making a connection to a server of the store may take.
pub const STORE_CONNECT_MS: u64 = 500;

/// How long one call of ZooKeeper may take: its client waits while it has no server, and needs a third of a session to
/// leave one that hangs. Below the time after which a write or read counts as unknown.
pub const STORE_WAIT_MS: u64 = 3_000;

/// Rows that are read from ZooKeeper before the first answer is waited for.
pub const STORE_READS_AT_ONCE: usize = 100;

/// Bytes of the values in one transaction of ZooKeeper, which takes packets of 1 MiB unless it is told otherwise.
pub const STORE_TXN_BYTES: usize = 512 * 1024;

/// Changes in one transaction. etcd takes 128 operations unless it is told otherwise; some are left for the fence.
pub const STORE_TXN_SWAPS: usize = 100;

/// Rows in one answer of etcd: a few hundred kilobytes, where gRPC would take 4 MiB.
pub const STORE_PAGE: i64 = 500;

/// How often a coordinator that waits asks whether the active one is gone: short against a session, and nothing to a
/// store.
pub const STORE_CAMPAIGN_POLL_MS: u64 = 200;

/// HTTP/2 pings to a server of the store: etcd closes connections that ping more often than every 5 s.
pub const STORE_PING_MS: u64 = 6_000;

/// Least session of an active coordinator: the least that etcd grants with its default election timeout.
pub const STORE_SESSION_MS_MIN: u64 = 2_000;

/// Greatest session of an active coordinator: no election can begin for so long after its machine died.
pub const STORE_SESSION_MS_MAX: u64 = 60_000;

/// Servers of a coordination store that can be named.
pub const STORE_ENDPOINTS_MAX: usize = 16;

/// Bytes of a password or certificate file.
pub const STORE_FILE_BYTES: u64 = 256 * 1024;

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

/// How long an election may take before the log says so: the first start of a busy machine makes files for seconds.
pub const WARN_AFTER_MS: u64 = 3_000;

/// Time between two moves of leaderships, so that a move is settled before the next one.
pub const MOVE_PERIOD_MS: u64 = 2_000;

/// How long nodes and leaders must have been steady before leaderships are moved: a node that just returned catches
/// up first.
pub const MOVE_STEADY_MS: u64 = 5_000;

/// How long a shard that was moved stays where it is, wherever that is.
pub const MOVE_AGAIN_MS: u64 = 60_000;

/// Leaderships that are moved away from nodes at the same time: each stops its shard's messages for some milliseconds,
/// and a node that is to stop wants to be done in a second.
pub const MOVES_AT_ONCE: usize = 8;

/// How long a leader may take to hand over: above what it gives itself for each of its steps together.
pub const MOVE_TIMEOUT_MS: u64 = 6_000;

/// How long a shard stays that could not be moved away from a node which should lead nothing.
pub const MOVE_RETRY_MS: u64 = 1_000;

/// How often that doubles when the leader that nobody wants is chosen again: up to half a minute.
pub const MOVE_RETRY_DOUBLINGS: u32 = 5;

/// A node whose wall clock differs by more than this from those of most nodes leads nothing while others can: messages
/// expire by the leaders' clocks, and people see a difference of seconds.
pub const CLOCK_OFF_MS: u64 = 5_000;

/// How near it has to come to count as right again.
pub const CLOCK_RIGHT_MS: u64 = 4_000;

/// How long a clock that was right must differ: what a node says may come late, when it or this process stood still.
pub const CLOCK_DOUBT_MS: u64 = 2_000;

/// A difference that changes by less is told as it was, so that a clock that runs away slowly is no news all the time.
pub const CLOCK_STEP_MS: u64 = 1_000;

/// How often the store shows how far the live nodes' logs reach: often enough to see that they move, rarely enough to be
/// no load for a store.
pub const MEMBERS_REFRESH_MS: u64 = 5_000;

/// How long to wait before something that the store refused or did not answer is tried again.
pub const STORE_RETRY_MS: u64 = 500;

/// Replicas of a shard. A record bounds its members, and more than this many copies help nobody.
pub const REPLICAS_MAX: u32 = 7;

/// Shortest node timeout: below, the scheduling of a busy machine looks like death.
pub const NODE_TIMEOUT_MS_MIN: u64 = 100;

/// Bytes of a name of a node, gateway, zone or version. It is part of the topology.
pub const NAME_BYTES: usize = 64;

/// Bytes of an address: a DNS name has at most 253, and then the port.
pub const ADDRESS_BYTES: usize = 260;

/// Greatest weight of a node, so that sums and products stay small numbers.
pub const WEIGHT_MAX: u32 = 10_000;

/// Bytes of one message to the coordinator. A heartbeat of a node that leads all shards is some 10 KiB.
pub const REQUEST_BYTES: usize = 512 * 1024;

/// Streams of nodes and gateways that may be open at the same time, registered or not.
pub const STREAMS_MAX: usize = 1_024;

/// Watchers of the topology.
pub const WATCHERS_MAX: usize = 1_024;

/// Registrations, of nodes and gateways together, that are taken in one second. A whole cluster of the greatest size
/// may come back at once; a client in a loop may not fill the store's log.
pub const REGISTRATIONS_PER_SECOND: u32 = 600;

/// How long a stream may stay open before it says who it is.
pub const REGISTER_TIMEOUT_MS: u64 = 5_000;

/// Events that wait for the controller; streams are read no faster than it works.
pub const EVENTS: usize = 4_096;

/// Events that are taken before what they ask for is carried out.
pub const EVENTS_AT_ONCE: usize = 256;

/// Answers and orders that wait for one node: some for each shard. A node that lags further is cut off.
pub const OUTGOING: usize = 4_096;

/// How long a write or read of the store may take before its result counts as unknown.
pub const STORE_TIMEOUT_MS: u64 = 5_000;

/// How long a clean stop waits for the store to hear of it.
pub const RESIGN_MS: u64 = 1_500;

/// Bytes of the file of an export: far more than all rows of the greatest cluster.
pub const EXPORT_BYTES: u64 = 256 * 1024 * 1024;

/// How long an export or import waits beyond a session for the place of the active coordinator: a store lets a session
/// lapse with some delay.
pub const TRANSFER_WAIT_MS: u64 = 3_000;

/// How often a coordinator whose store is away says so in its log.
pub const STORE_AWAY_NOTE_MS: u64 = 30_000;

/// How long a redial waits for an answer.
pub const REDIAL_TIMEOUT_MS: u64 = 500;

/// HTTP/2 pings to whoever holds a stream, so that a vanished gateway's line of the topology goes away.
pub const KEEPALIVE_MS: u64 = 5_000;

/// Bytes of the reason why a name cannot be moved: a sentence with a name of the greatest length in it.
pub(crate) const REFUSAL_BYTES: usize = 1024;
