//! What one shard tells the other of a name that moves there, as bytes.
//!
//! ```text
//! Expect   destinations varint, each: kind u8, length u8, name, window of the source's own outbox
//! Adopt    paused u8, has groups u8, windows varint, each: producer 16 bytes, window
//! ```

use quorate_message::{Destination, DestinationKind, DestinationName, ProducerId, root};

use super::super::codec::{Cursor, Sink};
use super::super::dedup::Window;
use super::super::{QueueId, State, topic_codec};
use super::decode_name;

impl State {
    /// What `Expect` tells of a name that leaves: which numbers of this shard's outbox were stored here.
    pub(crate) fn expected_body(&self, name: &DestinationName, source: u32) -> Vec<u8> {
        let family = self.family(name);
        let mut sink = Sink::keeping();
        sink.varint(family.len() as u64);
        for id in family {
            let queue = self.queue(id);
            sink.u8(topic_codec::kind_code(queue.kind()));
            let text = queue.name().as_str();
            sink.u8(u8::try_from(text.len()).expect("names have at most 255 bytes"));
            sink.bytes(text.as_bytes());
            let window = self.dedup.window_of(id, ProducerId::of_shard(source));
            window.unwrap_or_default().encode(&mut sink);
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
        sink.u8(u8::from(queue.is_paused()));
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

/// What is known of the destinations of a name, as `Expect` brings it.
pub(super) fn decode_expected(
    cursor: &mut Cursor<'_>,
    name: &DestinationName,
) -> Option<Vec<(Destination, Window)>> {
    let count = cursor.varint()?;
    let mut windows = Vec::new();
    for _ in 0..count {
        let kind = topic_codec::kind_of(cursor.u8()?)?;
        let destination = Destination {
            kind,
            name: decode_name(cursor)?,
        };
        if kind == DestinationKind::Subscription || root(&destination.name) != name.as_str() {
            return None;
        }
        windows.push((destination, Window::decode(cursor)?));
    }
    cursor.is_empty().then_some(windows)
}

/// What `Adopt` brings.
pub(super) struct Adopted {
    pub(super) is_paused: bool,
    pub(super) has_groups: bool,
    pub(super) windows: Vec<(ProducerId, Window)>,
}

impl Adopted {
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let mut adopted = Self {
            is_paused: cursor.flag()?,
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
