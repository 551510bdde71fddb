//! Every bound of the storage node, with its reason.

use quorate_replication::Duration;

/// Log between two checkpoints: what a restart replays at most, about a second's work.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// A shard that has been idle this long makes a checkpoint of what is left, so that its segments can go.
pub const CHECKPOINT_IDLE: Duration = Duration(30_000_000);
/// Entries applied in one step, in bytes: about ten milliseconds, then other work gets its turn.
pub const APPLY_STEP_BYTES: usize = 4 << 20;
/// Entries read at once while the log is replayed.
pub const APPLY_LOAD_BYTES: usize = 4 << 20;
/// Entries read at once for deliveries and browsing.
pub const FETCH_LOAD_BYTES: usize = 4 << 20;
/// How long to wait before an answer that was empty for an entry that is not yet durable is asked for again.
pub const LOAD_RETRY: Duration = Duration(100_000);
/// Batches of the broker itself that wait for room in the log: returns of lost consumers. Far above what the
/// consumers of a shard hold; the broker packs a thousand positions into one.
pub const OWN_BATCHES_MAX: usize = 4096;
/// Messages of one page of a queue.
pub const BROWSE_PAGE_MESSAGES_MAX: u32 = 256;
/// Bytes of one page: with one message more at the most it stays below the frame limit.
pub const BROWSE_PAGE_BYTES: usize = 2 << 20;
/// Browse queries of one shard that wait for the disk.
pub const BROWSES_WAITING_MAX: usize = 16;

/// Messages that are looked through for one page of a move: a batch of transfers holds them all.
pub const MOVE_PAGE_MESSAGES: usize = 256;
/// Positions that one move may name.
pub const MOVE_POSITIONS_MAX: usize = 65_536;
/// Moves of one shard that wait for the disk or for the log.
pub const MOVES_WAITING_MAX: usize = 16;

/// One chunk of a checkpoint transfer: small beside a link's frame, so that heartbeats pass between.
pub const INSTALL_CHUNK_BYTES: usize = 256 << 10;
/// Chunks sent and not answered.
pub const INSTALL_WINDOW_CHUNKS: usize = 16;
/// A window goes out at most once in this time: about 80 MiB/s for one follower.
pub const INSTALL_PACE: Duration = Duration(50_000);
/// Nothing answered for this long: the window is sent again.
pub const INSTALL_RESEND: Duration = Duration(1_000_000);
/// Nothing answered for this long: the transfer is given up; the replica asks for another when the follower is back.
pub const INSTALL_GIVE_UP: Duration = Duration(30_000_000);
/// Transfers at once from one shard.
pub const INSTALLS_AT_ONCE: usize = 2;
/// State of a broker that a follower takes: far above 200,000 producers and 10 million messages.
pub const INSTALL_STATE_BYTES_MAX: u64 = 512 << 20;
/// One entry in a transfer: the largest batch and room.
pub const INSTALL_ENTRY_BYTES_MAX: usize = 8 << 20;
/// Live entries looked up and read at once for a transfer.
pub const INSTALL_READ_ENTRIES: usize = 64;
/// Bytes of entries read at once for a transfer.
pub const INSTALL_READ_BYTES: usize = 1 << 20;
/// Time that a target of a move of leadership has to come near to the end of the log, and gateways to report.
pub const HANDOVER_WAIT: Duration = Duration(3_000_000);
/// A target is near when it lacks no more entries than this: some milliseconds' work.
pub const HANDOVER_LAG_ENTRIES: u64 = 512;
/// Time that the log has to drain while the leader takes nothing new: far below what clients take for an outage.
pub const HANDOVER_DRAIN: Duration = Duration(500_000);
/// Time in which what is known beyond the log must have gone to the target.
pub const HANDOVER_SEND: Duration = Duration(2_000_000);
/// Pieces are sent again when none was answered for so long.
pub const HANDOVER_RESEND: Duration = Duration(200_000);
/// Time that the coordinator has to fence a leader that has handed over: some of its own timeouts would be too long for
/// clients, and a write of a slow store takes a good part of this.
pub const HANDOVER_LEAVE: Duration = Duration(2_000_000);
/// What is known beyond the log: non-persistent messages and what is in flight, with room.
pub const HANDOVER_BYTES_MAX: usize = 192 << 20;
/// One piece of it: small beside a link's frame, so that heartbeats pass between.
pub const HANDOVER_CHUNK_BYTES: usize = 256 << 10;
/// Pieces sent and not answered.
pub const HANDOVER_WINDOW_CHUNKS: usize = 32;
/// Inputs kept while the leadership is moved: some hundred milliseconds' of the busiest gateways.
pub const HANDOVER_HELD_MAX: usize = 65_536;
/// Bytes of batches kept while the leadership is moved.
pub const HANDOVER_HELD_BYTES: usize = 64 << 20;

/// Log that is kept for followers that lag, although nothing in it is needed here. One that is further behind gets
/// a checkpoint.
pub const RETAINED_LOG_BYTES: u64 = 512 << 20;
/// Entries of one proposal: with batches of a mebibyte at most one is far above what a step should append.
pub const PROPOSAL_ENTRIES_MAX: usize = 64;

/// Bytes of batches in one proposal, so that one step does not go far beyond what may be uncommitted.
pub const PROPOSAL_BYTES_MAX: usize = 4 << 20;
/// Threads that run shards: more than any machine has use for.
pub const WORKERS_MAX: usize = 64;
/// Inputs of one round of a shard, so that its writes and frames go out while more comes in.
pub const ROUND_INPUTS_MAX: usize = 1024;
/// What may wait for a shard from sessions and peers. The disk's answers come in on top.
pub const SHARD_INBOX_BYTES: usize = 64 << 20;
/// What may wait for a peer; above it messages are dropped, and the protocol repairs that.
pub const PEER_OUTBOX_BYTES: usize = 64 << 20;
/// Control events that may wait for a gateway; one that does not read them loses its session.
pub const SESSION_CONTROL_BYTES: usize = 64 << 20;
/// Deliveries that may wait for a gateway. Credit bounds them per consumer; this bounds a gateway in all.
pub const SESSION_PAYLOAD_BYTES: usize = 256 << 20;
/// Reports that may wait for a coordinator.
pub const COORDINATOR_OUTBOX_BYTES: usize = 4 << 20;
/// A frame is closed when it has this much: large enough to pay its way, small enough to let others pass.
pub const FRAME_BYTES: usize = 1 << 20;
/// Frames of sessions, as gateway.md wants them.
pub const SESSION_FRAME_BYTES: usize = 256 << 10;
/// Largest frame taken from a peer: a frame, the message that closed it, and room.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// Largest frame taken from a gateway.
pub const SESSION_FRAME_BYTES_MAX: usize = 8 << 20;
/// HTTP/2 window of one stream.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// HTTP/2 window of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Streams on one connection: a gateway has two, a peer one, operators a few.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 64;
/// Sessions at once: two orders of magnitude above a large cluster's gateways.
pub const SESSIONS_MAX: usize = 1024;
/// Length of a name in a hello.
pub const NAME_BYTES_MAX: usize = 255;
/// Positions that one attachment may name.
pub const HELD_POSITIONS_MAX: usize = 65_536;
/// Commands in one control frame.
pub const CONTROL_COMMANDS_MAX: usize = 65_536;

/// Time for the first frame of a stream, and for the second stream of a session.
pub const HELLO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// First wait before a broken link is opened again; the first attempt is made at once.
pub const RECONNECT_FIRST: std::time::Duration = std::time::Duration::from_millis(10);
/// Longest wait before a link is opened again.
pub const RECONNECT_MAX: std::time::Duration = std::time::Duration::from_millis(200);
/// Time to connect to a peer or coordinator.
pub const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);
/// A connection on which nothing is answered for this long is given up, so that a link lives soon after a
/// partition heals. Longer than a stall of the disk or a loaded core.
pub const KEEP_ALIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// How often an idle connection is tried.
pub const KEEP_ALIVE_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
/// How long a read that could not be queued or failed waits before it is tried again.
pub const READ_RETRY_MICROS: u64 = 20_000;
/// How long a read of damaged entries waits before it is tried again: the replica is impaired meanwhile.
pub const DAMAGED_RETRY_MICROS: u64 = 1_000_000;
/// How often a shard on a full disk looks for space.
pub const SPACE_RETRY_MICROS: u64 = 500_000;
/// Threads that write logs: more syncs at once only cost the tail.
pub const WRITER_THREADS: usize = 4;
/// Threads that read logs.
pub const READER_THREADS: usize = 2;
/// How long a node that stops waits for others to take over what it leads: some milliseconds for each shard, and time
/// for one that is behind.
pub const LEAVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a node that stops looks whether it leads nothing any more.
pub const LEAVE_POLL: std::time::Duration = std::time::Duration::from_millis(10);
/// How long a node that stops waits for streams to end.
pub const STOP_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);
/// How long an operator's question waits for a shard.
pub const QUESTION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Nodes in a topology: bounds the links of one node.
pub const NODES_MAX: usize = 256;
/// Largest topology file that is read back.
pub const TOPOLOGY_FILE_BYTES_MAX: u64 = 16 << 20;
/// A leader's stamps go this part of the time that passes faster while its wall clock is ahead: in the seconds in which a
/// leader with a wrong clock is replaced, they gain some hundred milliseconds.
pub const CLOCK_CATCH_UP: u64 = 8;
/// They go at this part of the time that passes while the wall clock is behind: what waits for its time waits longer, not
/// for ever.
pub const CLOCK_FALL_BACK: u64 = 2;
/// A wall clock that is so far ahead of the stamps was set.
pub const CLOCK_LEAP: Duration = Duration(5_000_000);
/// How long it must have been set to be followed: by then the coordinator has heard the clocks of all nodes, and has moved
/// the leadership away from one that is wrong.
pub const CLOCK_LEAP_AFTER: Duration = Duration(10_000_000);
/// Requests of sessions that wait for a new leader to serve: that takes milliseconds.
pub const EARLY_REQUESTS_MAX: usize = 65_536;
/// Bytes of non-persistent batches that wait for a new leader to serve.
pub const EARLY_BYTES_MAX: usize = 16 << 20;
/// How often a shard counts its messages for the metrics: that takes time with the number of its queues.
pub const COUNT_MICROS: u64 = 5_000_000;
/// How often a shard has one closed segment read and checked for damage: at most 128 MiB of it a minute.
pub const SCRUB_MICROS: u64 = 60_000_000;
/// How long a node is without coordinator before it warns: all are started at about the same time.
pub const ALONE_WARNING: std::time::Duration = std::time::Duration::from_secs(3);
/// Traced batches of one shard whose outcome is awaited: more than gateways have unanswered, so that a span is cut
/// short only when its batch will hardly be answered.
pub const TRACED_BATCHES_MAX: usize = 1024;

/// Scheduled messages in one answer: some 100 KB.
pub const SCHEDULED_PAGE_MESSAGES_MAX: u32 = 500;

/// When a move that was to begin, or what became of one, is proposed or told again.
pub const RELOCATE_REPEAT: Duration = Duration(1_000_000);
