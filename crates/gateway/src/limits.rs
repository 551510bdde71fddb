//! The bounds of the gateway, each with its reason. What an operator may want to change is in `config`.

/// Unanswered batches of one kind that a shard's leader has at one time. Few, so that what waits meanwhile becomes
/// one larger batch; enough that the leader's disk, its network and the gateway all have work.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;

/// Bytes of one kind of batch that a shard's leader has unanswered: below its stream's window, so that a stalled
/// shard does not hold up the others on the same stream.
pub const BYTES_IN_FLIGHT_MAX: usize = 3 << 20;

/// Unanswered bytes of one publish call; its client is not read from above that.
pub const CALL_BYTES_MAX: u64 = 8 << 20;

/// Unanswered messages of one publish call: small messages cost more to remember than their bytes say.
pub const CALL_MESSAGES_MAX: u64 = 64 * 1024;

/// Bytes that may wait for one shard, whatever share of the memory bound that is: one full batch being filled while
/// another is under way.
pub const SHARD_BYTES_MIN: u64 = 4 << 20;

/// A call is failed when the gateway holds this many times its memory bound: that much can only come from frames that
/// were on their way when their calls were paused.
pub const MEMORY_OVERSHOOT: u64 = 2;

/// First pause after a leader refused, in microseconds: a new leader needs about that long to be told that it leads.
pub const PAUSE_MICROS_MIN: u64 = 4_000;

/// Longest pause between two tries on one leader, in microseconds. A new topology ends it at once.
pub const PAUSE_MICROS_MAX: u64 = 100_000;

/// An attachment without an answer is asked for again after this, in microseconds.
pub const ATTACH_RETRY_MICROS: u64 = 1_000_000;

/// How far the first repeat of an attachment raises its generation, in microseconds of wall clock; each further one
/// ten times as far. An earlier gateway whose clock is ahead is overtaken within seconds.
pub const GENERATION_JUMP: u64 = 1_000_000;

/// Messages of credit that are counted for one consumer.
pub const CREDIT_MESSAGES_MAX: u64 = 65_536;

/// Bytes of credit that are counted for one consumer.
pub const CREDIT_BYTES_MAX: u64 = 64 << 20;

/// Bytes that a consumer may have on their way and waiting for its connection: enough for a fast network, little
/// enough that a slow client costs only itself.
pub const CONSUMER_BYTES_MAX: u64 = 4 << 20;

/// The same for each of very many consumers, that share the memory bound.
pub const CONSUMER_BYTES_MIN: u64 = 64 << 10;

/// Messages that a consumer may hold unsettled: each is remembered here, and named at every change of leader.
pub const HELD_MAX: usize = 100_000;

/// Settlements of one consumer that are not answered; its client is not read from above that.
pub const SETTLEMENTS_MAX: usize = 100_000;

/// Byte credit is passed on when so much has come together, or when the leader would otherwise run dry.
pub const CREDIT_STEP_BYTES: u64 = 64 << 10;

/// Message credit is passed on when so many have come together, or when the leader would otherwise run dry.
pub const CREDIT_STEP_MESSAGES: u64 = 64;
