//! What is due when: positions by a time, compact enough for ten million of them.
//!
//! ```text
//! slot    a stretch of time whose width grows with its distance: a 64th to a 128th of it, one millisecond at least
//! chunk   items of one slot, each: position as the difference to the one before (zigzag varint), then when it is due:
//!         0ddddddd                the difference to the item before (zigzag); before the first one is the slot's start
//!         1ooooooo, bytes         the offset in the slot, the high bits first, in as many bytes as the slot's width needs
//! ```
//! When a slot begins its items are taken out: those that are due, and the rest goes into narrower slots. So each item
//! is due to the millisecond, never early, and is touched a few times in its life. A position that is gone is not
//! looked for; its item is dropped when it is due, or swept out when there are more items than messages.

use std::collections::BTreeMap;

use quorate_message::MessagePosition;

use super::codec::{Cursor, Sink};

/// Bytes that a chunk takes at most: small beside a full agenda, large beside its own head. A power of two, so that a
/// vector that doubles comes to exactly as much: most chunks are full, and an allocator hands nothing back of a block
/// that is shrunk by less than half.
const CHUNK_BYTES: usize = 512;

/// Bytes of the largest item. A chunk with less room than this is full, whatever comes next.
const ITEM_BYTES_MAX: usize = 18;

/// Says of a time that it is an offset in its slot.
const OFFSET: u8 = 0x80;

/// Slots of one doubling of the distance are 64, as a power of two.
const SLOTS_LOG2: u32 = 6;

/// Positions by the time at which they are due.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    slots: BTreeMap<Slot, Vec<Chunk>>,
    items: u64,
    /// What is swept next: a chunk of a slot.
    hand: Option<(Slot, u64)>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    start_ms: u64,
    width_log2: u8,
}

#[derive(Clone, Debug)]
struct Chunk {
    bytes: Vec<u8>,
    items: u64,
    /// What the next item is told from.
    last: Last,
}

/// The item before, as numbers.
#[derive(Clone, Copy, Debug)]
struct Last {
    position: u64,
    due_ms: u64,
}

/// One position and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) due_ms: u64,
    pub(crate) position: MessagePosition,
}

impl Slot {
    fn of(due_ms: u64, now_ms: u64) -> Self {
        let distance = due_ms.saturating_sub(now_ms);
        let width_log2 = distance.checked_ilog2().unwrap_or(0);
        let width_log2 = width_log2.saturating_sub(SLOTS_LOG2);
        Self {
            start_ms: due_ms >> width_log2 << width_log2,
            width_log2: u8::try_from(width_log2).expect("below 64"),
        }
    }

    /// Bytes of an offset in it beside the seven bits that the first one holds.
    fn offset_bytes(self) -> u32 {
        u32::from(self.width_log2).saturating_sub(7).div_ceil(8)
    }

    fn holds(self, due_ms: u64) -> bool {
        due_ms >> self.width_log2 << self.width_log2 == self.start_ms
    }
}

impl Last {
    fn before_all(slot: Slot) -> Self {
        Self {
            position: 0,
            due_ms: slot.start_ms,
        }
    }
}

impl Chunk {
    fn new(slot: Slot) -> Self {
        Self {
            bytes: Vec::new(),
            items: 0,
            last: Last::before_all(slot),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() + ITEM_BYTES_MAX > CHUNK_BYTES
    }

    fn push(&mut self, item: Due, slot: Slot) {
        let value = item.position.value();
        put_varint(&mut self.bytes, zigzag(self.last.position, value));
        // Messages that expire a fixed time after they were sent are due one soon after the other.
        match u8::try_from(zigzag(self.last.due_ms, item.due_ms)) {
            Ok(near) if near < OFFSET => self.bytes.push(near),
            Ok(_) | Err(_) => put_offset(&mut self.bytes, item.due_ms - slot.start_ms, slot),
        }
        self.last = Last {
            position: value,
            due_ms: item.due_ms,
        };
        self.items += 1;
    }

    fn items(&self, slot: Slot) -> impl Iterator<Item = Due> + '_ {
        let mut cursor = Cursor(&self.bytes);
        let mut last = Last::before_all(slot);
        std::iter::from_fn(move || read_item(&mut cursor, &mut last, slot))
    }
}

impl Agenda {
    /// How many items there are, those of positions that are gone included.
    pub(crate) fn len(&self) -> u64 {
        self.items
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// From when on something may be due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(slot, _)| slot.start_ms)
    }

    pub(super) fn insert(&mut self, position: MessagePosition, due_ms: u64, now_ms: u64) {
        let slot = Slot::of(due_ms, now_ms);
        self.push(slot, Due { due_ms, position });
    }

    /// Takes out what is due, up to `budget` items looked at; there may be more while [`Agenda::next_ms`] has passed.
    pub(super) fn take_due(&mut self, now_ms: u64, budget: &mut u64, due: &mut Vec<Due>) {
        while *budget > 0
            && let Some(mut first) = self.slots.first_entry()
            && first.key().start_ms <= now_ms
        {
            let slot = *first.key();
            let chunk = first.get_mut().pop();
            if first.get().is_empty() {
                first.remove();
            }
            let Some(chunk) = chunk else {
                continue;
            };
            self.items -= chunk.items;
            *budget = budget.saturating_sub(chunk.items);
            for item in chunk.items(slot) {
                if item.due_ms <= now_ms {
                    due.push(item);
                } else {
                    self.insert(item.position, item.due_ms, now_ms);
                }
            }
        }
    }

    /// Drops the items of one chunk that are not to be kept. Called again and again it comes to all of them.
    pub(super) fn sweep(&mut self, keeps: impl Fn(MessagePosition) -> bool) {
        let next = match self.hand {
            Some((slot, place)) if self.slots.contains_key(&slot) => Some((slot, place)),
            Some((slot, _)) => self
                .slots
                .range(slot..)
                .next()
                .map(|(at, _)| (*at, u64::MAX)),
            None => None,
        };
        let first = self.slots.first_key_value().map(|(at, _)| (*at, u64::MAX));
        let Some((slot, place)) = next.or(first) else {
            self.hand = None;
            return;
        };
        let chunks = self.slots.get_mut(&slot).expect("found above");
        let place = usize::try_from(place)
            .unwrap_or(usize::MAX)
            .min(chunks.len() - 1);
        let chunk = chunks.swap_remove(place);
        if chunks.is_empty() {
            self.slots.remove(&slot);
        }
        self.items -= chunk.items;
        for item in chunk.items(slot) {
            if keeps(item.position) {
                self.push(slot, item);
            }
        }
        // From the last chunk to the first one, so that what is kept, at the end, is behind the hand.
        self.hand = match place.checked_sub(1) {
            Some(before) => Some((slot, before as u64)),
            None => {
                let after = Slot {
                    start_ms: slot.start_ms,
                    width_log2: slot.width_log2 + 1,
                };
                let mut later = self.slots.range(after..);
                later.next().map(|(at, _)| (*at, u64::MAX))
            }
        };
    }

    /// The first `limit` items behind `after`, by time and position, those that are not wanted left out.
    pub(crate) fn page(
        &self,
        after: Option<Due>,
        limit: usize,
        wants: impl Fn(MessagePosition) -> bool,
    ) -> Vec<Due> {
        let mut page = std::collections::BTreeSet::new();
        for (slot, chunks) in &self.slots {
            let is_full = page.len() >= limit;
            if is_full
                && page
                    .last()
                    .is_none_or(|last: &Due| last.due_ms < slot.start_ms)
            {
                break;
            }
            let items = chunks.iter().flat_map(|chunk| chunk.items(*slot));
            for item in items {
                if after.is_none_or(|after| after < item) && wants(item.position) {
                    page.insert(item);
                    if page.len() > limit {
                        page.pop_last();
                    }
                }
            }
        }
        page.into_iter().collect()
    }

    fn push(&mut self, slot: Slot, item: Due) {
        let chunks = self.slots.entry(slot).or_default();
        if chunks.last().is_none_or(Chunk::is_full) {
            chunks.push(Chunk::new(slot));
        }
        let chunk = chunks.last_mut().expect("pushed above");
        chunk.push(item, slot);
        self.items += 1;
    }

    /// Appends the agenda as it is: chunks are part of what later entries do to it.
    ///
    /// ```text
    /// hand: flag u8, start varint, width u8, chunk varint (those only if flag)
    /// slots varint, each ascending: start varint, width u8, chunks varint, each: length varint, bytes
    /// ```
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.u8(u8::from(self.hand.is_some()));
        if let Some((slot, place)) = self.hand {
            sink.varint(slot.start_ms);
            sink.u8(slot.width_log2);
            sink.varint(place);
        }
        sink.varint(self.slots.len() as u64);
        for (slot, chunks) in &self.slots {
            sink.varint(slot.start_ms);
            sink.u8(slot.width_log2);
            sink.varint(chunks.len() as u64);
            for chunk in chunks {
                sink.varint(chunk.bytes.len() as u64);
                sink.bytes(&chunk.bytes);
            }
            sink.spill();
        }
    }

    /// Reads an agenda whose positions all lie below `end`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, end: u64) -> Option<Self> {
        let hand = match cursor.u8()? {
            0 => None,
            1 => Some((decode_slot(cursor)?, cursor.varint()?)),
            _ => return None,
        };
        let mut agenda = Self {
            hand,
            ..Self::default()
        };
        let slots = cursor.varint()?;
        let mut before = None;
        for _ in 0..slots {
            let slot = decode_slot(cursor)?;
            if before.is_some_and(|before| before >= slot) {
                return None;
            }
            before = Some(slot);
            let count = cursor.varint().filter(|count| *count > 0)?;
            let mut chunks = Vec::new();
            for _ in 0..count {
                let chunk = decode_chunk(cursor, slot, end)?;
                agenda.items += chunk.items;
                chunks.push(chunk);
            }
            agenda.slots.insert(slot, chunks);
        }
        Some(agenda)
    }
}

fn decode_slot(cursor: &mut Cursor<'_>) -> Option<Slot> {
    let slot = Slot {
        start_ms: cursor.varint()?,
        width_log2: cursor.u8().filter(|width| *width < 64)?,
    };
    slot.holds(slot.start_ms).then_some(slot)
}

fn decode_chunk(cursor: &mut Cursor<'_>, slot: Slot, end: u64) -> Option<Chunk> {
    let length = usize::try_from(cursor.varint()?).ok()?;
    let mut chunk = Chunk {
        bytes: cursor.take(length)?.to_vec(),
        ..Chunk::new(slot)
    };
    let mut inner = Cursor(&chunk.bytes);
    while !inner.is_empty() {
        let item = read_item(&mut inner, &mut chunk.last, slot)?;
        if item.position.value() >= end || !slot.holds(item.due_ms) {
            return None;
        }
        chunk.items += 1;
    }
    (chunk.items > 0).then_some(chunk)
}

fn read_item(cursor: &mut Cursor<'_>, last: &mut Last, slot: Slot) -> Option<Due> {
    let difference = cursor.varint()?;
    last.position = unzigzag(last.position, difference);
    let first = cursor.u8()?;
    last.due_ms = if first < OFFSET {
        unzigzag(last.due_ms, u64::from(first))
    } else {
        let mut offset = u64::from(first & !OFFSET);
        for _ in 0..slot.offset_bytes() {
            offset = offset << 8 | u64::from(cursor.u8()?);
        }
        slot.start_ms.wrapping_add(offset)
    };
    Some(Due {
        position: MessagePosition::from_value(last.position),
        due_ms: last.due_ms,
    })
}

fn put_offset(bytes: &mut Vec<u8>, offset: u64, slot: Slot) {
    let count = slot.offset_bytes();
    bytes.push((offset >> (8 * count) & 0x7f) as u8 | OFFSET);
    for place in (0..count).rev() {
        bytes.push((offset >> (8 * place) & 0xff) as u8);
    }
}

fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from).cast_signed();
    (difference << 1 ^ difference >> 63).cast_unsigned()
}

fn unzigzag(from: u64, zigzag: u64) -> u64 {
    let difference = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    from.wrapping_add(difference)
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: u64) -> MessagePosition {
        MessagePosition::from_value(value)
    }

    fn same(agenda: &Agenda) -> Agenda {
        let encoded = |agenda: &Agenda| {
            let mut sink = Sink::keeping();
            agenda.encode(&mut sink);
            sink.into_bytes()
        };
        let bytes = encoded(agenda);
        let mut cursor = Cursor(&bytes);
        let restored = Agenda::decode(&mut cursor, 1 << 60).expect("encoded here");
        assert!(cursor.is_empty());
        assert_eq!(encoded(&restored), bytes);
        assert_eq!(restored.len(), agenda.len());
        restored
    }

    /// Numbers without a pattern.
    fn scatter(step: u64) -> u64 {
        step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
    }

    #[test]
    fn everything_is_due_to_the_millisecond() {
        let mut agenda = Agenda::default();
        let mut expected: Vec<Due> = (0..5000)
            .map(|step| Due {
                due_ms: 1_000 + scatter(step) % 10_000_000,
                position: at(scatter(step + 7) % (1 << 40)),
            })
            .collect();
        for item in &expected {
            agenda.insert(item.position, item.due_ms, 1_000);
        }
        expected.sort_unstable();
        let mut taken = Vec::new();
        let mut now = 1_000;
        while let Some(next) = agenda.next_ms() {
            assert!(next > now || taken.is_empty());
            now = next;
            let mut due = Vec::new();
            while agenda.next_ms().is_some_and(|next| next <= now) {
                agenda.take_due(now, &mut 100, &mut due);
            }
            assert!(due.iter().all(|item| item.due_ms == now));
            due.sort_unstable();
            taken.extend(due);
            if taken.len() % 50 == 0 {
                agenda = same(&agenda);
            }
        }
        assert_eq!(taken, expected);
        assert!(agenda.is_empty());
    }

    #[test]
    fn a_jump_takes_all_that_is_due_and_nothing_else() {
        let mut agenda = Agenda::default();
        (1..=1000).for_each(|step| agenda.insert(at(step), step * 1000, 0));
        let mut due = Vec::new();
        while agenda.next_ms().is_some_and(|next| next <= 500_500) {
            agenda.take_due(500_500, &mut 7, &mut due);
        }
        assert_eq!(due.len(), 500);
        assert_eq!(agenda.len(), 500);
    }

    #[test]
    fn sweeping_drops_what_is_gone() {
        let mut agenda = Agenda::default();
        (0..3000).for_each(|step| agenda.insert(at(step), 60_000 + scatter(step) % 60_000, 0));
        for _ in 0..600 {
            agenda.sweep(|position| position.value() % 3 == 0);
            agenda = same(&agenda);
        }
        assert_eq!(agenda.len(), 1000);
        let page = agenda.page(None, 10, |position| position.value() % 2 == 0);
        assert_eq!(page.len(), 10);
        assert!(page.is_sorted());
        let rest = agenda.page(page.last().copied(), usize::MAX, |_| true);
        assert!(rest.iter().all(|item| *item > page[9]));
        let all = agenda.page(None, usize::MAX, |_| true);
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn a_fixed_time_to_live_takes_three_bytes_a_message() {
        let mut agenda = Agenda::default();
        for step in 0..30_000 {
            let now = 2 * step;
            agenda.insert(at(step << 10), now + 3_600_000, now);
        }
        let chunks = agenda.slots.values().flatten();
        let taken: Vec<usize> = chunks.map(|chunk| chunk.bytes.capacity()).collect();
        assert!(taken.iter().all(|bytes| *bytes <= CHUNK_BYTES));
        let taken: usize = taken.iter().sum();
        assert!(taken < 32 * 3_000, "{taken} bytes");
    }

    #[test]
    fn times_at_both_ends_of_a_slot_of_any_width_come_back() {
        for width_log2 in 0..58 {
            let mut agenda = Agenda::default();
            let slot = Slot {
                start_ms: 1 << width_log2,
                width_log2,
            };
            let last = slot.start_ms + ((1 << width_log2) - 1);
            for (place, due_ms) in (1..).zip([last, slot.start_ms, last, last]) {
                let position = at(place << 50);
                agenda.push(slot, Due { due_ms, position });
            }
            let items = same(&agenda).page(None, usize::MAX, |_| true);
            let due: Vec<u64> = items.iter().map(|item| item.due_ms).collect();
            assert_eq!(due, [slot.start_ms, last, last, last]);
        }
    }

    #[test]
    fn what_was_damaged_is_refused_or_is_an_agenda() {
        let mut agenda = Agenda::default();
        (0..100).for_each(|step| agenda.insert(at(step), scatter(step) % 5000, 0));
        let mut sink = Sink::keeping();
        agenda.encode(&mut sink);
        let bytes = sink.into_bytes();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            if let Some(read) = Agenda::decode(&mut Cursor(&damaged), 1 << 40) {
                same(&read);
            }
        }
    }
}
