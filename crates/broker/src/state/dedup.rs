//! Which numbers of which producer were stored: an exact window per producer and queue.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use quorate_message::ProducerId;

use super::QueueId;
use super::codec::{Cursor, Sink};
use crate::limits::WINDOW;

const WORDS: usize = (WINDOW / 64) as usize;

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen before; it counts as seen from here on.
    New,
    /// Seen before.
    Duplicate,
    /// Below the window: not known.
    TooOld,
}

type Key = (QueueId, ProducerId);

/// The windows of all producers. The one unused longest, by the entry of its last use, makes room for a new one; those
/// of shards that forward stay for good, beside the others.
#[derive(Clone, Debug)]
pub(crate) struct Dedup {
    windows_max: u32,
    index: BTreeMap<Key, u32>,
    windows: Vec<Slot>,
    free: Vec<u32>,
    /// Without those of shards.
    by_use: BTreeSet<(u64, QueueId, ProducerId)>,
    /// The window used last: neighbours in a batch mostly share it.
    last: Option<(Key, u32)>,
}

#[derive(Clone, Debug)]
struct Slot {
    used_at: u64,
    window: Window,
}

/// The highest number seen, and which below it, within [`WINDOW`], were not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    highest: u64,
    missing: Option<Box<Missing>>,
}

/// A bit per number of the window, at the number's remainder by [`WINDOW`], set when it was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    bits: [u64; WORDS],
    count: u32,
}

impl Dedup {
    pub(crate) fn new(windows_max: u32) -> Self {
        Self {
            windows_max,
            index: BTreeMap::new(),
            windows: Vec::new(),
            free: Vec::new(),
            by_use: BTreeSet::new(),
            last: None,
        }
    }

    /// Judges a number of a producer, used at `entry`. Entries never go back.
    pub(crate) fn judge(
        &mut self,
        queue: QueueId,
        producer: ProducerId,
        number: u64,
        entry: u64,
    ) -> Verdict {
        let key = (queue, producer);
        let place = match self.last {
            Some((last, place)) if last == key => place,
            _ => self.place(key, entry),
        };
        self.last = Some((key, place));
        let slot = &mut self.windows[place as usize];
        if slot.used_at != entry {
            if self.by_use.remove(&(slot.used_at, queue, producer)) {
                self.by_use.insert((entry, queue, producer));
            }
            slot.used_at = entry;
        }
        slot.window.judge(number)
    }

    /// The highest number of a producer that counts as seen; 0 when none does.
    pub(crate) fn highest(&self, queue: QueueId, producer: ProducerId) -> u64 {
        self.window(queue, producer)
            .map_or(0, |window| window.highest)
    }

    /// Whether a number would be judged to be new. It counts as seen no more than before.
    pub(crate) fn is_new(&self, queue: QueueId, producer: ProducerId, number: u64) -> bool {
        self.window(queue, producer)
            .is_none_or(|window| window.is_new(number))
    }

    fn window(&self, queue: QueueId, producer: ProducerId) -> Option<&Window> {
        let place = self.index.get(&(queue, producer))?;
        Some(&self.windows[*place as usize].window)
    }

    /// What `judge` would say, without counting the number as seen.
    pub(crate) fn peek(&self, queue: QueueId, producer: ProducerId, number: u64) -> Verdict {
        let window = self.window(queue, producer);
        window.map_or(Verdict::New, |window| window.peek(number))
    }

    /// How many windows there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn place(&mut self, key: Key, entry: u64) -> u32 {
        if let Some(place) = self.index.get(&key) {
            return *place;
        }
        if key.1.shard().is_none() && self.by_use.len() >= self.windows_max as usize {
            self.evict();
        }
        let slot = Slot {
            used_at: entry,
            window: Window::default(),
        };
        self.insert(key, slot)
    }

    fn insert(&mut self, key: Key, slot: Slot) -> u32 {
        if key.1.shard().is_none() {
            self.by_use.insert((slot.used_at, key.0, key.1));
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.windows[place as usize] = slot;
                place
            }
            None => {
                self.windows.push(slot);
                u32::try_from(self.windows.len() - 1).expect("bounded by `windows_max`")
            }
        };
        self.index.insert(key, place);
        place
    }

    /// The window of a producer.
    pub(super) fn window_of(&self, queue: QueueId, producer: ProducerId) -> Option<Window> {
        self.window(queue, producer).cloned()
    }

    /// The windows of a queue behind a producer's, in the order of their producers.
    pub(super) fn windows_after(
        &self,
        queue: QueueId,
        after: Option<ProducerId>,
    ) -> impl Iterator<Item = (ProducerId, &Window)> {
        let first = match after {
            Some(after) => Bound::Excluded((queue, after)),
            None => Bound::Included((queue, ProducerId([0; 16]))),
        };
        let last = Bound::Included((queue, ProducerId([u8::MAX; 16])));
        let places = self.index.range((first, last));
        places.map(|((_, producer), place)| (*producer, &self.windows[*place as usize].window))
    }

    /// Takes over what another shard knows of a producer, unless what is known here reaches further.
    pub(super) fn adopt(
        &mut self,
        (queue, producer): (QueueId, ProducerId),
        window: Window,
        entry: u64,
    ) {
        if self.highest(queue, producer) > window.highest {
            return;
        }
        let place = self.place((queue, producer), entry);
        self.last = None;
        let slot = &mut self.windows[place as usize];
        if self.by_use.remove(&(slot.used_at, queue, producer)) {
            self.by_use.insert((entry, queue, producer));
        }
        *slot = Slot {
            used_at: entry,
            window,
        };
    }

    /// Forgets the producers of a queue that are no shards.
    pub(crate) fn forget_clients(&mut self, queue: QueueId) {
        let windows = self
            .windows_after(queue, None)
            .map(|(producer, _)| producer);
        let clients: Vec<ProducerId> = windows
            .filter(|producer| producer.shard().is_none())
            .collect();
        for producer in clients {
            if let Some(place) = self.index.remove(&(queue, producer)) {
                let slot = &mut self.windows[place as usize];
                slot.window = Window::default();
                self.by_use.remove(&(slot.used_at, queue, producer));
                self.free.push(place);
            }
        }
        self.last = None;
    }

    fn evict(&mut self) {
        if let Some((_, queue, producer)) = self.by_use.pop_first() {
            let key = (queue, producer);
            let place = self.index.remove(&key).expect("both name the same windows");
            self.windows[place as usize].window = Window::default();
            self.free.push(place);
            self.last = None;
        }
    }

    /// Appends the windows in the order of their keys.
    pub(crate) fn encode(&self, sink: &mut Sink) {
        sink.u32(self.windows_max);
        sink.varint(self.index.len() as u64);
        for ((queue, producer), place) in &self.index {
            let slot = &self.windows[*place as usize];
            sink.varint(u64::from(queue.0));
            sink.bytes(&producer.0);
            sink.varint(slot.used_at);
            slot.window.encode(sink);
            sink.spill();
        }
    }

    /// The same windows under other names; those without one are forgotten.
    pub(crate) fn renamed(self, name: impl Fn(QueueId) -> Option<QueueId>) -> Self {
        let mut renamed = Self::new(self.windows_max);
        let mut windows = self.windows;
        for ((queue, producer), place) in self.index {
            if let Some(queue) = name(queue) {
                let slot = &mut windows[place as usize];
                let slot = Slot {
                    used_at: slot.used_at,
                    window: std::mem::take(&mut slot.window),
                };
                renamed.insert((queue, producer), slot);
            }
        }
        renamed
    }

    /// Reads what `encode` wrote; `queues` is how many queues there are.
    pub(crate) fn decode(cursor: &mut Cursor<'_>, queues: u32, applied: u64) -> Option<Self> {
        let mut dedup = Self::new(cursor.u32()?);
        let count = cursor.varint()?;
        let mut before = None;
        for _ in 0..count {
            let queue = u32::try_from(cursor.varint()?)
                .ok()
                .filter(|id| *id < queues)?;
            let key = (QueueId(queue), ProducerId(cursor.array()?));
            if before.is_some_and(|before| before >= key) {
                return None;
            }
            before = Some(key);
            let used_at = cursor.varint().filter(|used_at| *used_at <= applied)?;
            let window = Window::decode(cursor)?;
            dedup.insert(key, Slot { used_at, window });
        }
        (dedup.by_use.len() <= dedup.windows_max as usize).then_some(dedup)
    }
}

impl Window {
    /// Appends: highest varint, flag u8, 64 words u64 if flag.
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.highest);
        match &self.missing {
            None => sink.u8(0),
            Some(missing) => {
                sink.u8(1);
                missing.bits.iter().for_each(|word| sink.u64(*word));
            }
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let highest = cursor.varint()?;
        let missing = match cursor.u8()? {
            0 => None,
            1 => Some(Missing::decode(cursor)?),
            _ => return None,
        };
        Some(Self { highest, missing })
    }

    fn peek(&self, number: u64) -> Verdict {
        if self.is_new(number) {
            Verdict::New
        } else if self.highest - number >= WINDOW {
            Verdict::TooOld
        } else {
            Verdict::Duplicate
        }
    }

    fn judge(&mut self, number: u64) -> Verdict {
        if number > self.highest {
            self.advance(number);
            return Verdict::New;
        }
        if self.highest - number >= WINDOW {
            return Verdict::TooOld;
        }
        let Some(missing) = &mut self.missing else {
            return Verdict::Duplicate;
        };
        if !missing.take(number) {
            return Verdict::Duplicate;
        }
        if missing.count == 0 {
            self.missing = None;
        }
        Verdict::New
    }

    fn is_new(&self, number: u64) -> bool {
        let is_missing = |missing: &Missing| missing.is_set(number);
        number > self.highest
            || (self.highest - number < WINDOW && self.missing.as_deref().is_some_and(is_missing))
    }

    /// Moves the window up to `number`; what was skipped is missing, as far as the window reaches.
    fn advance(&mut self, number: u64) {
        let skipped_from = (self.highest + 1).max(number.saturating_sub(WINDOW - 1));
        if number == skipped_from && self.missing.is_none() {
            self.highest = number;
            return;
        }
        let missing = self.missing.get_or_insert_with(|| {
            Box::new(Missing {
                bits: [0; WORDS],
                count: 0,
            })
        });
        if number - self.highest >= WINDOW {
            **missing = Missing {
                bits: [0; WORDS],
                count: 0,
            };
        }
        (skipped_from..number).for_each(|skipped| missing.set(skipped));
        missing.take(number);
        if missing.count == 0 {
            self.missing = None;
        }
        self.highest = number;
    }
}

impl Missing {
    fn place(number: u64) -> (usize, u64) {
        let bit = number % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn set(&mut self, number: u64) {
        let (word, mask) = Self::place(number);
        if self.bits[word] & mask == 0 {
            self.bits[word] |= mask;
            self.count += 1;
        }
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, mask) = Self::place(number);
        self.bits[word] & mask != 0
    }

    /// Clears the number's bit; whether it was set.
    fn take(&mut self, number: u64) -> bool {
        let (word, mask) = Self::place(number);
        let was_set = self.bits[word] & mask != 0;
        if was_set {
            self.bits[word] &= !mask;
            self.count -= 1;
        }
        was_set
    }

    fn decode(cursor: &mut Cursor<'_>) -> Option<Box<Self>> {
        let mut missing = Box::new(Self {
            bits: [0; WORDS],
            count: 0,
        });
        for word in &mut missing.bits {
            *word = cursor.u64()?;
        }
        missing.count = missing.bits.iter().map(|word| word.count_ones()).sum();
        (missing.count > 0).then_some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(dedup: &mut Dedup, producer: u8, number: u64, entry: u64) -> Verdict {
        dedup.judge(QueueId(0), ProducerId([producer; 16]), number, entry)
    }

    #[test]
    fn a_gap_is_filled_once() {
        let mut dedup = Dedup::new(10);
        assert_eq!(judge(&mut dedup, 1, 3, 1), Verdict::New);
        assert_eq!(judge(&mut dedup, 1, 1, 2), Verdict::New);
        assert_eq!(judge(&mut dedup, 1, 1, 2), Verdict::Duplicate);
        assert_eq!(judge(&mut dedup, 1, 3, 2), Verdict::Duplicate);
        assert_eq!(judge(&mut dedup, 1, 2, 3), Verdict::New);
        assert_eq!(dedup.windows[0].window.missing, None);
    }

    #[test]
    fn below_the_window_nothing_is_known() {
        let mut dedup = Dedup::new(10);
        judge(&mut dedup, 1, 1, 1);
        judge(&mut dedup, 1, WINDOW + 5, 1);
        assert_eq!(judge(&mut dedup, 1, 5, 1), Verdict::TooOld);
        assert_eq!(judge(&mut dedup, 1, 6, 1), Verdict::New);
        assert_eq!(judge(&mut dedup, 1, 6, 1), Verdict::Duplicate);
        assert_eq!(judge(&mut dedup, 1, u64::MAX, 1), Verdict::New);
        assert_eq!(judge(&mut dedup, 1, u64::MAX - WINDOW, 1), Verdict::TooOld);
        assert_eq!(judge(&mut dedup, 1, u64::MAX - 1, 1), Verdict::New);
    }

    #[test]
    fn the_window_of_a_shard_stays() {
        let mut dedup = Dedup::new(1);
        let shard = ProducerId::of_shard(3);
        let from_shard =
            |dedup: &mut Dedup, number, entry| dedup.judge(QueueId(0), shard, number, entry);
        assert_eq!(from_shard(&mut dedup, 1, 1), Verdict::New);
        for producer in 1..5 {
            judge(&mut dedup, producer, 1, u64::from(producer) + 1);
        }
        assert_eq!(dedup.len(), 2);
        assert_eq!(from_shard(&mut dedup, 1, 9), Verdict::Duplicate);
        assert_eq!(judge(&mut dedup, 4, 1, 9), Verdict::Duplicate);
    }

    #[test]
    fn the_window_unused_longest_makes_room() {
        let mut dedup = Dedup::new(2);
        judge(&mut dedup, 1, 1, 1);
        judge(&mut dedup, 2, 1, 2);
        judge(&mut dedup, 1, 2, 3);
        judge(&mut dedup, 3, 1, 4);
        assert_eq!(dedup.len(), 2);
        assert_eq!(judge(&mut dedup, 1, 2, 5), Verdict::Duplicate);
        assert_eq!(judge(&mut dedup, 2, 1, 6), Verdict::New);
    }
}
