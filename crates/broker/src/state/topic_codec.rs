//! Topics and subscriptions in a checkpoint. What is derived is derived again.
//!
//! ```text
//! topics varint, each in the order of their places:
//!     place varint, retained varint (position plus one, 0: none)
//!     steps varint, each: stamp varint, first varint, until varint
//! subscriptions varint, each in the order of their places:
//!     place varint, length u32, as a command has it; with a selector: as `sift.rs` has it
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_message::{DestinationKind, MessagePosition, Subscription};

use super::codec::{Cursor, Sink};
use super::topic::{Step, Topics};
use super::{Queue, QueueId, Sift};

/// The kind of a destination in a checkpoint.
pub(super) fn kind_code(kind: DestinationKind) -> u8 {
    match kind {
        DestinationKind::Queue => 1,
        DestinationKind::Topic => 2,
        DestinationKind::Subscription => 3,
    }
}

/// The kind that a code stands for.
pub(super) fn kind_of(code: u8) -> Option<DestinationKind> {
    match code {
        1 => Some(DestinationKind::Queue),
        2 => Some(DestinationKind::Topic),
        3 => Some(DestinationKind::Subscription),
        _ => None,
    }
}

impl Topics {
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.topics.len() as u64);
        for (id, topic) in &self.topics {
            sink.varint(u64::from(id.0));
            sink.varint(topic.retained.map_or(0, |position| position.value() + 1));
            sink.varint(topic.history.len() as u64);
            for step in &topic.history {
                sink.varint(step.stamp_ms);
                sink.varint(step.first.value());
                sink.varint(step.until_ms);
            }
            sink.spill();
        }
        sink.varint(self.subscriptions.len() as u64);
        for (id, subscription) in &self.subscriptions {
            sink.varint(u64::from(id.0));
            let bytes = subscription.encode().expect("it came as a command");
            sink.u32(u32::try_from(bytes.len()).expect("bounded by its texts"));
            sink.bytes(&bytes);
            if let Some(sift) = self.sifts.get(id) {
                sift.encode(sink);
            }
            sink.spill();
        }
    }

    /// Reads what `encode` wrote into the parts that are empty yet. `queues` are all places.
    /// Positions lie below `end`.
    pub(super) fn decode(
        &mut self,
        cursor: &mut Cursor<'_>,
        (queues, end): (&mut [Queue], u64),
    ) -> Option<()> {
        let place = |cursor: &mut Cursor<'_>, queues: &[Queue], kind: DestinationKind| {
            let id = u32::try_from(cursor.varint()?).ok()?;
            let queue = queues.get(id as usize)?;
            (queue.kind() == kind).then(|| (QueueId(id), queue.name().clone()))
        };
        for (queue, id) in queues.iter().zip((0..).map(QueueId)) {
            if queue.kind() == DestinationKind::Queue {
                self.queue_made(id, queue.name());
            }
        }
        for _ in 0..cursor.varint()? {
            let (id, name) = place(cursor, queues, DestinationKind::Topic)?;
            if self.topics.contains_key(&id) || self.topic_id(&name).is_some() {
                return None;
            }
            self.topic_made(id, name);
            let retained = cursor.varint()?.checked_sub(1);
            let retained = retained.map(MessagePosition::from_value);
            let mut history = VecDeque::new();
            for _ in 0..cursor.varint()? {
                history.push_back(Step {
                    stamp_ms: cursor.varint()?,
                    first: MessagePosition::from_value(cursor.varint()?),
                    until_ms: cursor.varint()?,
                });
            }
            let topic = self.topics.get_mut(&id)?;
            topic.retained = retained;
            topic.history = history;
            self.expect_due(id);
        }
        for _ in 0..cursor.varint()? {
            let (id, key) = place(cursor, queues, DestinationKind::Subscription)?;
            let length = usize::try_from(cursor.u32()?).ok()?;
            let bytes = Bytes::copy_from_slice(cursor.take(length)?);
            let subscription = Subscription::decode(&bytes)?;
            let is_known = self.is_free(id) || self.subscription(id).is_some();
            if is_known || self.subscription_id(&key).is_some() {
                return None;
            }
            if subscription.has_selector() {
                self.sifts.insert(id, Sift::decode(cursor, end)?);
            }
            queues[id.0 as usize].govern_as(subscription.pattern.as_name());
            self.subscribed(id, key, subscription);
        }
        let places = self.topics.len() + self.subscriptions.len() + self.free.len();
        let others = queues
            .iter()
            .filter(|queue| queue.kind() != DestinationKind::Queue);
        (places == others.count()).then_some(())
    }
}
