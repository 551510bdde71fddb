//! What one shard tells the other of a name that moves there, as bytes.
//!
//! ```text
//! Expect   entry varint, destinations varint, each: kind u8, length u8, name, paused u8, window of the source's own outbox,
//!          and of a topic with subscriptions: their number varint, each: length u8, key, length varint, `Subscription`
//! Adopt    has groups u8, windows varint, each: producer 16 bytes, window
//! ```

use bytes::Bytes;
use quorate_message::{
    Destination, DestinationKind, DestinationName, ProducerId, Subscription, root,
};

use super::super::codec::{Cursor, Sink};
use super::super::dedup::Window;
use super::super::{QueueId, State, topic_codec};
use super::decode_name;

impl State {
    /// What `Expect` tells of a name that leaves: which numbers of this shard's outbox were stored here, what is paused, and
    /// the subscriptions to the topic.
    pub(crate) fn expected_body(&self, name: &DestinationName, source: u32) -> Vec<u8> {
        let family = self.family(name);
        let mut sink = Sink::keeping();
        sink.varint(self.applied);
        sink.varint(family.len() as u64);
        for id in family {
            let queue = self.queue(id);
            sink.u8(topic_codec::kind_code(queue.kind()));
            let text = queue.name().as_str();
            sink.u8(u8::try_from(text.len()).expect("names have at most 255 bytes"));
            sink.bytes(text.as_bytes());
            sink.u8(u8::from(queue.is_paused()));
            let window = self.dedup.window_of(id, ProducerId::of_shard(source));
            window.unwrap_or_default().encode(&mut sink);
        }
        let subscriptions: Vec<QueueId> = self.subscriptions_to(name).collect();
        if !subscriptions.is_empty() {
            sink.varint(subscriptions.len() as u64);
        }
        for id in subscriptions {
            let kept = self.topics.subscription(id);
            let record = kept.map(|kept| kept.encode().expect("it came out of a batch"));
            let record = record.expect("it is a subscription's place");
            let key = self.queue(id).name().as_str();
            sink.u8(u8::try_from(key.len()).expect("names have at most 255 bytes"));
            sink.bytes(key.as_bytes());
            sink.varint(record.len() as u64);
            sink.bytes(&record);
        }
        sink.into_bytes()
    }

    /// What `Adopt` tells of one destination: its producers' windows behind `after`, up to about `bytes_max` bytes, and
    /// where the next piece goes on; none: it was the last.
    pub(crate) fn adopted_body(
        &self,
        id: QueueId,
        after: Option<ProducerId>,
        bytes_max: usize,
    ) -> (Vec<u8>, Option<ProducerId>) {
        let queue = self.queue(id);
        let mut sink = Sink::keeping();
        sink.u8(u8::from(queue.has_groups()));
        let mut windows = Sink::keeping();
        let mut count = 0;
        let mut last = None;
        for (producer, window) in self.dedup.windows_after(id, after) {
            if windows.len() >= bytes_max {
                sink.varint(count);
                sink.bytes(&windows.into_bytes());
                return (sink.into_bytes(), last);
            }
            windows.bytes(&producer.0);
            window.encode(&mut windows);
            count += 1;
            last = Some(producer);
        }
        sink.varint(count);
        sink.bytes(&windows.into_bytes());
        (sink.into_bytes(), None)
    }
}

/// What `Expect` brings.
pub(super) struct Expectation {
    /// The source's entry up to which it tells.
    pub(super) as_of: u64,
    pub(super) expected: Vec<Expected>,
    /// Those to the topic, by key.
    pub(super) subscriptions: Vec<(DestinationName, Subscription)>,
}

/// What is known of one destination of a name that is to come.
pub(super) struct Expected {
    pub(super) at: Destination,
    pub(super) is_paused: bool,
    /// Of the source's own outbox.
    pub(super) window: Window,
}

pub(super) fn decode_expected(
    cursor: &mut Cursor<'_>,
    name: &DestinationName,
) -> Option<Expectation> {
    let as_of = cursor.varint()?;
    let count = cursor.varint()?;
    let mut expected = Vec::new();
    for _ in 0..count {
        let kind = topic_codec::kind_of(cursor.u8()?)?;
        let at = Destination {
            kind,
            name: decode_name(cursor)?,
        };
        if kind == DestinationKind::Subscription || root(&at.name) != name.as_str() {
            return None;
        }
        expected.push(Expected {
            at,
            is_paused: cursor.flag()?,
            window: Window::decode(cursor)?,
        });
    }
    let mut subscriptions = Vec::new();
    let count = match cursor.is_empty() {
        true => 0,
        false => cursor.varint()?,
    };
    for _ in 0..count {
        let key = decode_name(cursor)?;
        let length = usize::try_from(cursor.varint()?).ok()?;
        let record = Bytes::copy_from_slice(cursor.take(length)?);
        let subscription = Subscription::decode(&record)?;
        if subscription.pattern.as_str() != name.as_str() {
            return None;
        }
        subscriptions.push((key, subscription));
    }
    let is_whole = cursor.is_empty();
    is_whole.then_some(Expectation {
        as_of,
        expected,
        subscriptions,
    })
}

/// What `Adopt` brings.
pub(super) struct Adopted {
    pub(super) has_groups: bool,
    pub(super) windows: Vec<(ProducerId, Window)>,
}

impl Adopted {
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let mut adopted = Self {
            has_groups: cursor.flag()?,
            windows: Vec::new(),
        };
        for _ in 0..cursor.varint()? {
            let producer = ProducerId(cursor.array()?);
            let window = Window::decode(&mut cursor)?;
            adopted.windows.push((producer, window));
        }
        cursor.is_empty().then_some(adopted)
    }
}
