//! The bounds of the gateway, each with its reason. What an operator may want to change is in `config`.

use std::time::Duration;

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

/// Bytes of the messages of one transaction: it waits here until it is committed.
pub const TRANSACTION_BYTES_MAX: u64 = 16 << 20;

/// Messages that one transaction sends and settles: each is remembered here and in its shard.
pub const TRANSACTION_COMMANDS_MAX: usize = 65_536;

/// Time, in milliseconds, for an attempt to commit a transaction: several elections fit, and what a gateway leaves behind
/// is out of its queues no longer than that. More than the 5 s by which clocks may differ.
pub const TRANSACTION_MS: u64 = 15_000;

/// How long, in microseconds, the answer to a committed transaction waits for shards that have not finished it.
pub const TRANSACTION_VISIBLE_MICROS: u64 = 1_000_000;

/// Unanswered batches of transactions that a shard's leader has at one time. Many, since each transaction has batches of
/// its own.
pub const TRANSACTIONS_IN_FLIGHT_MAX: usize = 64;

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

/// Messages that a consumer may hold unsettled: as many as the broker lets one have. Each is remembered here, and
/// named at every change of leader.
pub const HELD_MAX: usize = 65_536;

/// Sessions of one OpenWire connection: an application server's pool has some hundreds.
pub const SESSIONS_MAX: usize = 4_096;

/// Producers of one OpenWire connection.
pub const PRODUCERS_MAX: usize = 16_384;

/// Consumers of one OpenWire connection: each is a call of the session machine.
pub const CONSUMERS_MAX: usize = 4_096;

/// Browsers among them: each may have a page of messages waiting.
pub const BROWSERS_MAX: usize = 64;

/// Transactions of one OpenWire connection that have begun: a session has one.
pub const TRANSACTIONS_MAX: usize = 4_096;

/// Temporary destinations of one OpenWire connection that are there at one time.
pub const TEMPORARIES_MAX: usize = 16_384;

/// Temporary destinations of others that one OpenWire connection was told of, and whose answers may be under way. Its
/// client remembers as many.
pub const TOLD_MAX: usize = 16_384;

/// Messages of one OpenWire connection without an outcome; its client is not read from above that.
pub const SENDS_MAX: usize = 16_384;

/// Calls of one OpenWire connection that are under way; its client is not read from above that. More than its consumers
/// and transactions together.
pub const CALLS_MAX: usize = 16_384;

/// How long, in microseconds, a pull that does not want to wait gives a message that is there to arrive: the way to the
/// leader and back, and a leader that is busy.
pub const PULL_AT_ONCE_MICROS: u64 = 200_000;

/// How long, in microseconds, an OpenWire client that closes something waits for its consumers to be gone from their
/// leaders. Usually that takes milliseconds; more only when a leader is away.
pub const REMOVAL_MICROS: u64 = 1_000_000;

/// How long, in microseconds, an OpenWire client tries to open a durable subscription that has a consumer: one that was
/// closed a moment ago is gone by then, and a client that is refused rightly hears of it soon.
pub const REOPEN_MICROS: u64 = 1_500_000;

/// Pause between two such tries, in microseconds.
pub const REOPEN_PAUSE_MICROS: u64 = 50_000;

/// Settlements of one consumer that are not answered; its client is not read from above that.
pub const SETTLEMENTS_MAX: usize = 100_000;

/// Byte credit is passed on when so much has come together, or when the leader would otherwise run dry.
pub const CREDIT_STEP_BYTES: u64 = 64 << 10;

/// Message credit is passed on when so many have come together, or when the leader would otherwise run dry.
pub const CREDIT_STEP_MESSAGES: u64 = 64;

/// Messages in one request of a publish call: several batches' worth.
pub const FRAME_MESSAGES_MAX: usize = 16 * 1024;

/// Destinations of one message. Each is another copy on its way.
pub const COMPOSITE_MAX: usize = 32;

/// Positions in one request to settle: several batches' worth.
pub const SETTLE_POSITIONS_MAX: usize = 16 * 1024;

/// Frames that may wait for the engine. Each is from another call or link, or its sender waits.
pub const ENGINE_INPUTS_MAX: usize = 1024;

/// Frames that the engine takes in before it forms batches.
pub const ENGINE_STEP_INPUTS: usize = 256;

/// Bytes of batches in one frame to a node, unless one batch alone is larger.
pub const PARCEL_BYTES: usize = 1 << 20;

/// Bytes of messages in one frame to a client, unless one message alone is larger.
pub const OFFER_BYTES: usize = 256 << 10;

/// Bytes of commands in one frame to a node, and one command more.
pub const COMMAND_BYTES: usize = 1 << 20;

/// Commands in one frame to a node.
pub const COMMANDS_IN_FRAME: usize = 1024;

/// Time to open a connection and both streams; a host that is gone answers nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// First pause before a connection is tried again: a process that restarts is back within that order.
pub const RECONNECT_MIN: Duration = Duration::from_millis(5);

/// Longest pause before a connection is tried again.
pub const RECONNECT_MAX: Duration = Duration::from_millis(500);

/// Flow-control window of one stream to a node.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Flow-control window of one connection to a node.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A quiet connection to a node is asked for a sign of life this often. Whether a node leads is not decided here, so
/// that this only finds half-open connections and need not be short.
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A connection without an answer for so long is given up.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest frame that is taken from a node: a page of browsed messages of 1 MiB is the largest.
pub const NODE_FRAME_BYTES_MAX: usize = 64 << 20;

/// Time for one question to a node.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// A client that connects must say what it speaks within this.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);

/// The first request of a consumer's call must come within this.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted, so that a lack of file descriptors is no busy loop.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Flow-control window of one call of a client.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Flow-control window of one connection of a client.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A quiet client is asked for a sign of life this often.
pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A client without an answer for so long is gone.
pub const CLIENT_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls that a client may open and reset before they were served: more is an attack ("rapid reset").
pub const PENDING_RESETS_MAX: usize = 64;

/// Bytes of the headers of one call.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Largest request: several messages of the greatest size.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Messages in one page of a browsed queue: even of the greatest size they fit one frame of a node.
pub const BROWSE_PAGE_MESSAGES: u32 = 32;

/// Open calls get so long to end when the gateway stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Dead letters in one page: they are listed without their bodies.
pub const DEAD_LETTERS_PAGE: u32 = 256;

/// Positions that one move may name: as many as a node takes.
pub const TRANSFER_POSITIONS_MAX: usize = 65_536;
/// When the gateway stops, what clients held is given back through the log within this. A shard that cannot answer
/// finds out by itself.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for the last words to a node to leave the process.
pub const LEAVE_FLUSH: Duration = Duration::from_millis(20);

/// Pause between two tries of a question to a leader that cannot be had now.
pub const QUESTION_PAUSE: Duration = Duration::from_millis(50);

/// A coordinator is asked for a sign of life this often: one that hangs is left before another one is active in its
/// place, so that the first picture of that one is not missed.
pub const COORDINATOR_KEEP_ALIVE: Duration = Duration::from_millis(500);

/// A coordinator that gives none for so long is left.
pub const COORDINATOR_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Without any coordinator for so long the operator is told: a restart is over by then.
pub const COORDINATORS_AWAY: Duration = Duration::from_secs(10);

/// Message groups that are remembered as one consumer's own, to be named to the next leader: as many as a leader
/// remembers for a queue.
pub const OWNED_GROUPS_MAX: usize = 65_536;

/// How often a change of settings is made anew because others came in between.
pub const SETTINGS_TRIES: usize = 10;

/// A consumer is looked at so often within the acknowledgement time-out of its queue: one that hangs is found late by no
/// more than that part of the time, and one that settles well costs little.
pub const LOOKS_IN_TIMEOUT: u64 = 16;

/// A consumer is looked at no more often than this, in microseconds, however short the time-out is.
pub const LOOK_MICROS_MIN: u64 = 50_000;

/// First pause, in microseconds, before messages are sent again for which their destination had no room.
pub const ROOM_MICROS_MIN: u64 = 20_000;

/// Longest such pause, in microseconds: a destination that stays full costs its shard two small entries a second for each
/// gateway, and room is found within this.
pub const ROOM_MICROS_MAX: u64 = 500_000;

/// Temporary destinations that are over and known to be: those of the last seconds where each request makes one. About
/// 2 MB.
pub const GONE_NAMES_MAX: usize = 10_000;

/// Messages that are sent again at one time for one destination: about a batch.
pub const ROOM_TRY_MESSAGES: usize = 1024;

/// Messages of one call that wait for room; its client is not read from above that.
pub const HELD_BACK_MESSAGES_MAX: u64 = 4_096;

/// What a message that waits for room takes here beside its bytes.
pub const HELD_BACK_OVERHEAD_BYTES: u64 = 512;

/// A client with a time-out that is held back is told why so long before it is over, or a tenth of it.
pub const PATIENCE_MARGIN: Duration = Duration::from_millis(200);
/// A transaction that met a name on its way to another shard is tried again after this, in microseconds: some commits.
pub const DIVERT_PAUSE_MICROS: u64 = 5_000;

/// A consumer that was turned away since its queue lives elsewhere asks again after this, in microseconds, unless it hears
/// before where that is.
pub const FOLLOW_PAUSE_MICROS: u64 = 50_000;

/// A subscription that cannot end since its topic is on its way is tried again after this, in microseconds.
pub const ENDING_PAUSE_MICROS: u64 = 200_000;

/// For so long, in microseconds: most moves are over sooner, and what is left behind is deleted by hand.
pub const ENDING_MICROS: u64 = 600_000_000;

/// So many of them at a time; more are given up.
pub const ENDINGS_MAX: usize = 10_000;

/// Names of calls that one connection of many calls has for itself: more than it can use up.
pub const CONNECTION_CALLS: u64 = 1 << 32;

/// A connection whose client has connected again has so long to give back what it held: a step of the engine, and the
/// client waits meanwhile.
pub const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A client id of an OpenWire connection is let in after this, in microseconds, if nobody has answered its claim: far more
/// than the way to a leader and back, and little for a client to wait while that leader is away.
pub const CLAIM_MICROS: u64 = 500_000;

/// The other gateways have so long, in microseconds, to answer the first hello of this one. Those without clients of
/// OpenWire never do.
pub const NEIGHBOUR_ANSWERS_MICROS: u64 = 500_000;

/// Pause, in microseconds, before this gateway says hello again: all answer it.
pub const NEIGHBOUR_HELLO_MICROS: u64 = 250_000;

/// Pause, in microseconds, before this gateway says again what was refused: a leader without room needs time to get some.
pub const NEIGHBOUR_PAUSE_MICROS: u64 = 1_000_000;

/// A gateway that no coordinator sees is given up when it owes an answer for so long, in microseconds. An answer takes
/// milliseconds; one that the coordinator's own end made invisible has answered by then.
pub const NEIGHBOUR_GONE_MICROS: u64 = 1_000_000;

/// One that a coordinator sees is given up after this, in microseconds: it may be cut off from one leader, or on a busy
/// machine, and what its clients have should not flicker.
pub const NEIGHBOUR_SILENT_MICROS: u64 = 10_000_000;

/// After this, in microseconds, the temporary destinations of clients that a lost gateway had are deleted, if nobody has
/// them by then. Longer than clients take to find out that they have lost it, and that they are connected elsewhere.
pub const NEIGHBOUR_ORPHAN_MICROS: u64 = 60_000_000;

/// Other gateways that are known: as many as a coordinator lets attend.
pub const NEIGHBOURS_MAX: usize = 256;

/// Temporary destinations of one gateway that the others are told of: four connections with as many as they may have, or
/// tens of thousands of connections with their one.
pub const NEIGHBOUR_ENTRIES_MAX: usize = 65_536;

/// Temporary destinations and client ids of all others that are known: some 50 MB.
pub const NEIGHBOUR_ALL_ENTRIES_MAX: usize = 262_144;

/// Length of a client id, a connection id or a gateway's name that other gateways are told.
pub const NEIGHBOUR_TEXT_BYTES_MAX: usize = 1024;

/// Bytes of what a gateway says to the others at one time, and one thing more.
pub const NEIGHBOUR_FRAME_BYTES: usize = 32 << 10;

/// What others say that may wait for this gateway: frames are taken in at once.
pub const NEIGHBOUR_CREDIT_MESSAGES: u64 = 1024;

/// Temporary destinations that may wait to be told to other gateways; who makes or removes more waits.
pub const NEIGHBOUR_NEWS_MAX: usize = 1024;

/// The others are told within this that the gateway stops, or find out.
pub const NEIGHBOUR_GOODBYE: Duration = Duration::from_millis(500);

/// Pause before a subscription that failed is made again.
pub const NEIGHBOUR_REOPEN: Duration = Duration::from_secs(1);

/// An OpenWire client must have said what it speaks and how within this.
pub const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that wait for the socket of an OpenWire client, one frame more at most; above that nothing else is taken for it.
pub const OPENWIRE_OUT_BYTES: usize = 256 << 10;

/// Bytes read from the socket of an OpenWire client at one time.
pub const OPENWIRE_READ_BYTES: usize = 64 << 10;

/// What a frame of the largest message takes beside its body: properties and ids.
pub const OPENWIRE_FRAME_OVERHEAD: usize = 1 << 20;

/// The last words to an OpenWire client have so long to leave.
pub const OPENWIRE_FAREWELL: Duration = Duration::from_secs(2);

/// Announcements of temporary destinations that an OpenWire connection may be behind before it is told anew of all that
/// are there.
pub const ANNOUNCEMENTS_MAX: usize = 1024;

/// Signs of life go to an OpenWire client no more often than this, however short a time the client has asked for.
pub const OPENWIRE_ALIVE_MIN: Duration = Duration::from_millis(50);
