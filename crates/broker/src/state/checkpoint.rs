//! The state as bytes, and its digest. One state has one encoding, whatever way led to it.
//!
//! ```text
//! version u8 = 5
//! last checkpoint: flag u8, entry u64, digest u64          not part of the digest
//! queues_max u32, applied varint, stamp varint
//! queues varint, each in the order of making:
//!     kind u8, 0 for a free place, that nothing follows
//!     name length u8, name, enqueued varint, settled varint, has groups u8, paused u8,
//!     sizes, as `sizes.rs` has them
//!     returned varint, each: position minus the one before varint, count varint
//!     pending positions by priority, as `levels.rs` has it; what has to do with time, as `timing.rs` has it
//!     positions that were sent and came back, as `positions.rs` has it
//!     bound of what was sent varint, plus one; 0 for none
//! windows_max u32, windows varint, each in the order of (queue, producer):
//!     queue varint, producer 16 bytes, last used varint, highest varint, flag u8, 64 words u64 if flag
//! the outbox, as `outbox.rs` has it
//! topics and subscriptions, as `topic_codec.rs` has it
//! settings: length varint, the rules as `message::settings` has them
//! transactions, as `transaction/codec.rs` has it
//! gateways varint, each in order: id 16 bytes, number of its last batch of settlements varint
//! names that moved, as `relocation.rs` has them
//! ```

use std::collections::BTreeMap;

use quorate_message::limits::ENTRY_MAX;
use quorate_message::{DestinationKind, DestinationName, MessagePosition, PreviousCheckpoint};
use thiserror::Error;

use super::codec::{Cursor, Sink};
use super::dedup::Dedup;
use super::gateways::Gateways;
use super::levels::Levels;
use super::live::Live;
use super::outbox::Outbox;
use super::queue::Queue;
use super::sizes::Sizes;
use super::tick::Calendar;
use super::timing::Timing;
use super::topic::Topics;
use super::{Governing, QueueId, Relocations, State, Transactions, positions, topic_codec};

const VERSION: u8 = 5;

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// A version that this build does not know.
    #[error("checkpoint has version {version}; this build reads version {VERSION}")]
    Version {
        /// Which.
        version: u8,
    },
    /// Bytes that no broker wrote.
    #[error("checkpoint is malformed; rebuild the replica from the leader")]
    Malformed,
}

impl State {
    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        let mut sink = Sink::keeping();
        sink.u8(VERSION);
        sink.u8(u8::from(self.last_checkpoint.is_some()));
        sink.u64(self.last_checkpoint.map_or(0, |last| last.entry));
        sink.u64(self.last_checkpoint.map_or(0, |last| last.digest));
        self.encode(&mut sink);
        sink.into_bytes()
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut sink = Sink::digesting();
        self.encode(&mut sink);
        sink.into_digest()
    }

    fn encode(&self, sink: &mut Sink) {
        sink.u32(self.queues_max);
        sink.varint(self.applied);
        sink.varint(self.stamp_ms);
        sink.varint(self.queues.len() as u64);
        for (queue, id) in self.queues.iter().zip((0..).map(QueueId)) {
            if self.topics.is_free(id) {
                sink.u8(0);
                continue;
            }
            encode_queue(queue, sink);
            sink.spill();
        }
        self.dedup.encode(sink);
        self.outbox.encode(sink);
        self.topics.encode(sink);
        self.settings.encode(sink);
        self.transactions.encode(sink);
        self.gateways.encode(sink);
        self.relocations.encode(sink);
    }

    pub(crate) fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut cursor = Cursor(bytes);
        match cursor.u8() {
            Some(VERSION) => decode(&mut cursor).ok_or(RestoreError::Malformed),
            Some(version) => Err(RestoreError::Version { version }),
            None => Err(RestoreError::Malformed),
        }
    }
}

fn encode_queue(queue: &Queue, sink: &mut Sink) {
    sink.u8(topic_codec::kind_code(queue.kind));
    let name = queue.name.as_str();
    sink.u8(u8::try_from(name.len()).expect("names have at most 255 bytes"));
    sink.bytes(name.as_bytes());
    sink.varint(queue.enqueued_total);
    sink.varint(queue.settled_total);
    sink.u8(u8::from(queue.has_groups));
    sink.u8(u8::from(queue.is_paused));
    queue.sizes.encode(sink);
    sink.varint(queue.counts.len() as u64);
    let mut before = 0;
    for (position, count) in &queue.counts {
        sink.varint(position.value() - before);
        sink.varint(u64::from(*count));
        before = position.value();
    }
    queue.pending.encode(sink);
    queue.timing.encode(sink);
    positions::encode(&queue.sent, sink);
    sink.varint(queue.dispatched_to.wrapping_add(1));
}

fn decode(cursor: &mut Cursor<'_>) -> Option<State> {
    let has_checkpoint = cursor.flag()?;
    let last = PreviousCheckpoint {
        entry: cursor.u64()?,
        digest: cursor.u64()?,
    };
    if !has_checkpoint && (last.entry, last.digest) != (0, 0) {
        return None;
    }
    let queues_max = cursor.u32()?;
    let applied = cursor.varint().filter(|applied| *applied <= ENTRY_MAX)?;
    let stamp_ms = cursor.varint()?;
    let count = u32::try_from(cursor.varint()?).ok()?;
    let mut queues = Vec::new();
    let mut by_name = BTreeMap::new();
    let mut topics = Topics::default();
    let mut live = Live::default();
    let mut calendar = Calendar::default();
    for id in 0..count {
        let id = QueueId(id);
        let Some(queue) = decode_queue(cursor, applied)? else {
            topics.free.insert(id);
            queues.push(Queue::nobody());
            continue;
        };
        let stored = queue.pending.bitmaps();
        let stored = stored.chain(queue.timing.waiting.bitmaps());
        stored.for_each(|positions| live.added_all(positions));
        calendar.restored(id, &queue);
        let name = queue.name.clone();
        let is_new = match queue.kind {
            DestinationKind::Queue => by_name.insert(name, id).is_none(),
            DestinationKind::Topic | DestinationKind::Subscription => true,
        };
        if !is_new {
            return None;
        }
        queues.push(queue);
    }
    let dedup = Dedup::decode(cursor, count, applied)?;
    let outbox = Outbox::decode(cursor, applied)?;
    for (entry, count) in outbox.entries() {
        live.added(entry, count);
    }
    let end = MessagePosition::new(applied, 1023).value() + 1;
    topics.decode(cursor, (&mut queues, end))?;
    let settings = Governing::decode(cursor, &queues)?;
    let transactions = Transactions::decode(cursor, &mut queues, applied)?;
    for (position, held) in transactions.positions_from(MessagePosition::default()) {
        live.added(position.entry(), u64::from(held));
    }
    let gateways = Gateways::decode(cursor)?;
    let relocations = Relocations::decode(cursor)?;
    let is_consistent = queues.iter().all(Queue::is_consistent);
    (cursor.is_empty() && is_consistent).then_some(State {
        queues_max,
        applied,
        stamp_ms,
        queues,
        by_name,
        dedup,
        settings,
        topics,
        transactions,
        gateways,
        last_checkpoint: has_checkpoint.then_some(last),
        outbox,
        relocations,
        live,
        calendar,
    })
}

/// A queue; none within for a free place.
#[expect(
    clippy::option_option,
    reason = "the outer one is that of every decoder"
)]
fn decode_queue(cursor: &mut Cursor<'_>, applied: u64) -> Option<Option<Queue>> {
    let kind = match cursor.u8()? {
        0 => return Some(None),
        code => topic_codec::kind_of(code)?,
    };
    let length = usize::from(cursor.u8()?);
    let name = std::str::from_utf8(cursor.take(length)?).ok()?;
    let mut queue = Queue::new(kind, DestinationName::new(name).ok()?);
    queue.enqueued_total = cursor.varint()?;
    queue.settled_total = cursor.varint()?;
    queue.has_groups = cursor.flag()?;
    queue.is_paused = cursor.flag()?;
    queue.sizes = Sizes::decode(cursor)?;
    let returned = cursor.varint()?;
    let mut before = 0_u64;
    for _ in 0..returned {
        before = before.checked_add(cursor.varint()?)?;
        let count = u32::try_from(cursor.varint()?)
            .ok()
            .filter(|count| *count > 0)?;
        let position = MessagePosition::from_value(before);
        if queue.counts.insert(position, count).is_some() {
            return None;
        }
    }
    let end_allowed = MessagePosition::new(applied, 1023).value() + 1;
    queue.pending = Levels::decode(cursor, end_allowed)?;
    queue.timing = Timing::decode(cursor, end_allowed)?;
    queue.due_ms = queue.timing.next_ms();
    queue.sent = positions::decode(cursor, end_allowed)?;
    queue.dispatched_to = cursor.varint()?.wrapping_sub(1);
    // What the counts must come to is seen when it is known what transactions hold.
    let stored = queue.pending.len().checked_add(queue.waiting_count())?;
    let total = queue.settled_total.checked_add(stored)?;
    (total <= queue.enqueued_total).then_some(Some(queue))
}
