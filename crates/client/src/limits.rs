//! The bounds of this crate, each with its reason.

use std::time::Duration;

/// Gateways in one address. Enough for any cluster, few enough to try each within seconds.
pub(crate) const GATEWAYS: usize = 64;

/// Time to open one connection. A host that is gone answers nothing; the next gateway is tried after this.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);

/// A quiet connection is asked for a sign of life this often, and given up after [`KEEP_ALIVE_ANSWER`]: so a gateway
/// that hangs, or a cable that was cut, is noticed within three seconds.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// See [`KEEP_ALIVE`].
pub(crate) const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(2);

/// Flow-control window of one stream: as much as a gateway sends before it waits for us, at 1 GB/s and 4 ms.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Flow-control window of one connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Largest answer that is taken: a gateway's frames are far below, a page of browsed messages of 1 MiB may not be.
pub(crate) const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Most unconfirmed messages of one producer. The broker remembers the last 4,096 numbers of a producer and queue
/// exactly; a repeat must never be older than that, and half leaves room.
pub(crate) const WINDOW_MESSAGES: usize = 2048;

/// Most destinations of one producer. Their numbers are kept as long as the producer lives, since a number that
/// begins again at 1 would be taken for a repeat.
pub(crate) const PRODUCER_DESTINATIONS: usize = 100_000;

/// Messages in one request. The gateway makes batches of at most 1,024.
pub(crate) const FRAME_MESSAGES: usize = 512;
/// Bytes in one request, if it holds more than one message: small enough to keep several under way.
pub(crate) const FRAME_BYTES: usize = 256 * 1024;

/// Positions in one settlement. One batch of the broker holds 1,024 commands.
pub(crate) const SETTLE_POSITIONS: usize = 1024;

/// Most messages that a consumer may hold unsettled. A gateway remembers 65,536 for one consumer.
pub(crate) const PREFETCH_MESSAGES: u32 = 16_384;
/// Messages that a consumer holds or has settled without an answer, above which it gives no more credit: they are all
/// named when it comes back, and a gateway takes 65,536.
pub(crate) const HELD: usize = 32_768;
/// Most bytes that a consumer may hold: the broker counts no more credit.
pub(crate) const PREFETCH_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of the messages of one transaction: a gateway takes as many.
pub(crate) const TRANSACTION_BYTES: usize = 16 * 1024 * 1024;
/// Messages that one transaction sends and settles: a gateway takes as many.
pub(crate) const TRANSACTION_COMMANDS: usize = 65_536;
/// Bytes in one request of a transaction, unless one message is larger.
pub(crate) const TRANSACTION_REQUEST_BYTES: usize = 1024 * 1024;
/// Messages, or positions, in one request of a transaction: a gateway takes 16,384 of each.
pub(crate) const TRANSACTION_REQUEST_MESSAGES: usize = 8192;

/// Longest wait for a gateway to say that a consumer has left in good order.
pub(crate) const CLOSE: Duration = Duration::from_secs(2);

/// Longest time for one attempt of a call that asks a question. Longer than the gateway's own deadline of 30 s.
pub(crate) const UNARY: Duration = Duration::from_secs(35);

/// Destinations of one producer whose reasons for holding it back are remembered, to be told when its time is over.
pub(crate) const HELD_BACK: usize = 16;
