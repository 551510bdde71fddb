//! The bounds of this crate, each with its reason.

use quorate_message::limits::BATCH_COMMANDS_MAX;

/// Queues of one shard. A queue costs a few hundred bytes; names made up by a faulty client must end somewhere.
pub const QUEUES_MAX: u32 = 100_000;

/// Windows of producers, one per producer and queue. A client that opens a connection per message brings a new
/// producer each time; the window unused longest goes. A window costs 100 bytes, 600 with a gap in its numbers.
pub const WINDOWS_MAX: u32 = 200_000;

/// Numbers below a producer's highest for which it is known exactly whether they were stored. More than a gateway
/// keeps unconfirmed for one producer.
pub const WINDOW: u64 = 4096;

/// Messages of a shard that are delivered repeatedly. Each costs up to 300 bytes, in memory and in checkpoints.
pub const REPEATS_MAX: usize = 100_000;

/// Firings of one message that one tick carries out, so that a cron expression that was not looked at for a year does
/// not hold up a shard.
pub const FIRINGS_MAX: usize = 64;

/// When, in milliseconds, a firing that found no room, or came after too many others, is tried again.
pub const FIRING_RETRY_MS: u64 = 100;

/// When, in milliseconds, it is looked again whether a message whose time is over is still held by a transaction.
pub const LOCKED_RETRY_MS: u64 = 5_000;

/// Messages that one tick looks at: some milliseconds of work.
pub const TICK_ITEMS_MAX: u64 = 10_000;

/// Bytes of non-persistent messages in the leader's memory, their overhead included.
pub const TRANSIENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a message in memory is taken to cost besides its bytes.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// Consumers of one shard.
pub const CONSUMERS_MAX: usize = 100_000;

/// Messages that one consumer may have unsettled, and hold when it attaches.
pub const IN_FLIGHT_MAX: u32 = 65_536;

/// Credit is counted up to this many messages.
pub const CREDIT_MESSAGES_MAX: u32 = 65_536;

/// Credit is counted up to this many bytes.
pub const CREDIT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bodies read ahead for one queue: keeps a reader of the backlog busy for some milliseconds.
pub const READ_AHEAD_QUEUE_BYTES: u64 = 2 * 1024 * 1024;

/// Bodies read ahead for all queues of a shard.
pub const READ_AHEAD_BYTES: u64 = 16 * 1024 * 1024;

/// Messages read ahead for one queue.
pub const READ_AHEAD_MESSAGES: usize = BATCH_COMMANDS_MAX;

/// Size that a message is taken to have before one of its queue was seen.
pub const SIZE_GUESS_BYTES: u64 = 16 * 1024;

/// Different selectors of the consumers of one queue. A message that nobody has credit for is shown to all of them.
pub const SELECTORS_MAX: usize = 1024;

/// Sets of consumers that messages of one queue wait for. Beyond, what waits for another set keeps its place and holds
/// up what is behind it.
pub const CLASSES_MAX: usize = 16_384;

/// Messages that are read again for one consumer at a time, out of those that waited for it.
pub const RECALL_MESSAGES: u32 = 256;

/// Message groups of one queue whose owners are remembered; those with nothing in flight go first.
pub const GROUPS_MAX: usize = 65_536;

/// How long, in microseconds, a gateway may be silent before it is declared lost: a new leader holds back older
/// messages for one that has not said what it holds, and a leader those of a consumer whose session broke.
pub const REATTACH_GRACE: u64 = 1_000_000;

/// Gateways that may be attached to a shard. Each start of a gateway counts as another one, until the one before is
/// declared lost.
pub const GATEWAYS_MAX: usize = 1024;

/// Gateways declared lost whose last settlements are remembered, so that one that is back and repeats them is answered as
/// the first time.
pub const LOST_GATEWAYS_MAX: usize = 64;

/// Batches of settlements of a gateway of which it is remembered what was not applied: several times what a gateway has
/// unanswered at once.
pub const REPEATED_BATCHES: u64 = 16;

/// Messages of a queue that may be sent beyond what is being sent, before the bound of it is logged anew. What lies
/// within it is marked as redelivered when the leader and a gateway die at once; a smaller number is more exact and
/// costs more entries.
pub const DISPATCH_AHEAD: u64 = 4096;

/// When, in microseconds, a command of the leader's own about a gateway or a bound is proposed again if it was not
/// committed.
pub const PROPOSE_RETRY: u64 = 1_000_000;

/// How long, in microseconds, what a subscription's selector does not select may wait to be logged, so that many
/// messages share one command. They pin the log meanwhile.
pub const SKIP_AFTER: u64 = 500_000;

/// Messages of one subscription that are not selected and are logged without waiting for more.
pub const SKIP_MESSAGES: u64 = 1024;

/// Runs of each kind in one command about what is not selected: 12 bytes each, far below what a batch holds.
pub const SKIP_RUNS_MAX: usize = 4096;

/// Subscriptions about which one step proposes such commands.
pub const SKIP_COMMANDS_MAX: usize = 256;

/// After so many messages it is logged how far a subscription's selector was asked, though it selects all of them: a
/// new leader reads about as many again.
pub const SIFT_LOG_EVERY: u64 = 4096;

/// Answers of selectors to messages that were just stored, in one step: some milliseconds of work for plain ones. The
/// rest is read again and asked about in later steps.
pub const SIFT_AT_ONCE_MAX: usize = 16_384;

/// Bytes that are read at once to be shown to selectors, about.
pub const SIFT_READ_BYTES: u64 = 256 * 1024;

/// Messages that are read at once for that.
pub const SIFT_READ_MESSAGES: usize = 256;

/// When, in microseconds, a message that could not be read is asked for again.
pub const UNREADABLE_RETRY: u64 = 1_000_000;

/// How finely a topic tells apart what it keeps for replay, in milliseconds: a replay from a time begins up to so much
/// earlier.
pub const HISTORY_STEP_MS: u64 = 1_000;

/// How long, in microseconds, a live subscription without a consumer is kept: longer than any failover of its gateway's
/// sessions, little enough that what is gone costs nothing for long.
pub const LIVE_GRACE: u64 = 15_000_000;

/// When, in microseconds, a return that was proposed and not committed is proposed again. Long, since a return that
/// takes effect twice counts twice.
pub const RETURN_RETRY: u64 = 30_000_000;

/// Messages of one shard that left their place and are not stored at their target. What wants to leave beyond that
/// stays where it is for the time being. An item costs 200 bytes, and its message stays in the log.
pub const OUTBOX_MAX: u32 = 16_384;

/// Destinations that messages of one shard are forwarded to, ever: a number is kept for each.
pub const OUTBOX_TARGETS_MAX: usize = 100_000;

/// Messages that are offered to a target at once. Far below [`WINDOW`], in which it recognises a repeat.
pub const FORWARD_ITEMS_MAX: usize = 256;

/// The same while nothing is known of their size.
pub const FORWARD_ITEMS_FIRST: usize = 4;

/// Bytes that are offered to a target at once, about: a batch holds as many.
pub const FORWARD_BYTES: u64 = 768 * 1024;

/// Targets of one shard with something under way: bounds what is read at once to some mebibytes.
pub const FORWARD_TARGETS_MAX: usize = 8;

/// When, in microseconds, what is under way for a target is done again, since it or its answer was lost.
pub const FORWARD_TIMEOUT: u64 = 1_000_000;

/// How long, in microseconds, a target is left alone that could not be reached or refused: as long as an election
/// takes. Doubled each time.
pub const FORWARD_PAUSE_FIRST: u64 = 50_000;

/// The longest pause, in microseconds: a target that is full is asked now and then.
pub const FORWARD_PAUSE_MAX: u64 = 5_000_000;

/// Lines of a dead letter's history: who dies more often has told enough.
pub const DEAD_LETTER_HISTORY_MAX: usize = 16;

/// Transactions that are prepared in one shard, and decisions that its participants have not all confirmed. A gateway
/// prepares one at a time for each client's call; a client that is refused repeats its commit.
pub const TRANSACTIONS_MAX: usize = 4096;

/// Bytes of messages that are prepared in one shard: they stay in the log, however old, until they are finished.
pub const PREPARED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that a prepared command is counted with besides its message.
pub const PREPARED_OVERHEAD_BYTES: u64 = 256;

/// Attempts that are rolled back before their deadline and remembered up to it.
pub const ROLLED_BACK_MAX: usize = 4096;

/// Those whose committed transactions are remembered, each with [`WINDOW`] numbers.
pub const TRANSACTION_ORIGINS_MAX: u32 = 50_000;

/// How far, in milliseconds, the deadline of an attempt may lie ahead of the shard's stamps: an attempt whose gateway is
/// gone holds its messages no longer than that, even if that gateway's clock was wrong.
pub const ATTEMPT_MS_MAX: u64 = 300_000;

/// After how long, in microseconds, a leader asks a transaction's owner how it was decided: a gateway that lives is done
/// by then, unless a leader failed meanwhile.
pub const PREPARED_ASK_AFTER: u64 = 3_000_000;

/// After how long, in microseconds, an owner tells the participants itself: a gateway that lives has done it by then.
pub const DECIDED_TELL_AFTER: u64 = 2_000_000;

/// How often, in microseconds, both are repeated.
pub const RESOLVE_EVERY: u64 = 500_000;

/// Transactions that one round asks or tells about, so that the round is short.
pub const RESOLVE_MAX: usize = 256;

/// Names that moved from or to a shard, ever: each costs 300 bytes, and is remembered so that nobody who is out of date
/// sends to where it was.
pub const MOVED_NAMES_MAX: usize = 16_384;

/// Destinations that move with one name: queues of a virtual topic. What is told of them fits one entry.
pub const FAMILY_MAX: usize = 256;

/// Bytes of the records of the subscriptions that move with one topic: some thousands. With the queues of a virtual topic they
/// are told in one entry.
pub const SUBSCRIPTIONS_BYTES: usize = 512 * 1024;

/// Messages of a moving name that are put on their way by one entry, of a topic once for each subscription.
pub const RELOCATE_PAGE: usize = 512;

/// Messages of a moving name that are on their way at a time: enough for the next batch to be there always, little of
/// the outbox.
pub const RELOCATE_AHEAD: usize = 2048;

/// Nothing more is taken in where a name leaves once so few messages of it are left: some commits' worth, so that
/// producers wait some milliseconds.
pub const CUT_AT: u64 = 256;

/// Bytes of producers' windows that one entry brings to where a name goes.
pub const ADOPT_BYTES: usize = 768 * 1024;

/// How long, in microseconds, a name that is to leave waits for what is in consumers' hands. What comes back in this time
/// keeps its place; what comes back later goes behind the others.
pub const DRAIN_MAX: u64 = 10_000_000;

/// When, in microseconds, a step of a move is tried again that the other shard refused, or could not be asked about. Doubled
/// each time.
pub const RELOCATE_PAUSE: u64 = 50_000;

/// The longest such pause, in microseconds: an election is over by then, and a shard without a leader is asked rarely.
pub const RELOCATE_PAUSE_MAX: u64 = 5_000_000;

/// How long, in microseconds, a name that is to leave waits for its target: longer than elections, and than a node takes to
/// start again. Then it stays.
pub const EXPECT_MAX: u64 = 30_000_000;

/// When, in microseconds, a step of a move is tried again that was not answered.
pub const RELOCATE_TIMEOUT: u64 = 1_000_000;

/// The least time, in microseconds, from one tick to the next: what comes due meanwhile is done by one entry.
pub const TICK_PAUSE: u64 = 5_000;

/// When, in microseconds, a tick that was proposed and not committed is proposed again.
pub const TICK_RETRY: u64 = 1_000_000;

/// How often, in microseconds, messages whose time is over and that are still there are looked at.
pub const RIPE_LOOK: u64 = 1_000_000;

/// How many of them are looked at in one step.
pub const RIPE_LOOKED_AT_MAX: usize = 16 * BATCH_COMMANDS_MAX;

/// How often, in microseconds, the wall clock is looked at while something is due some day: it may be set.
pub const WALL_LOOK: u64 = 10_000_000;

/// The bounds that a test may want smaller. Those of the state are part of the checkpoint: all replicas have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`QUEUES_MAX`]; replicated.
    pub queues_max: u32,
    /// See [`WINDOWS_MAX`]; replicated.
    pub windows_max: u32,
    /// See [`OUTBOX_MAX`]; replicated.
    pub outbox_max: u32,
    /// See [`TRANSIENT_BYTES_MAX`]; the leader's.
    pub transient_bytes_max: u64,
    /// See [`READ_AHEAD_BYTES`]; the leader's.
    pub read_ahead_bytes: u64,
    /// See [`REATTACH_GRACE`]; the leader's.
    pub reattach_grace: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queues_max: QUEUES_MAX,
            windows_max: WINDOWS_MAX,
            outbox_max: OUTBOX_MAX,
            transient_bytes_max: TRANSIENT_BYTES_MAX,
            read_ahead_bytes: READ_AHEAD_BYTES,
            reattach_grace: REATTACH_GRACE,
        }
    }
}
