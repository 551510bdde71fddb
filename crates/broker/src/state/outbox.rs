//! The outbox: messages that left their place and are on their way to another destination, perhaps of another shard.
//!
//! ```text
//!   queue --move_out--> item --(leader sends, target stores)--> transferred: forgotten
//! ```
//! An item gets its number when it is made, counted per target, so that every leader sends the same message under the
//! same number and the target stores it once. The bytes stay in this shard's log until the item is forgotten. From
//! `move_out` on the message is in the outbox and nowhere else, until the target has it; a copy leaves the original.

use std::collections::BTreeMap;

use quorate_message::{
    Batch, Command, Destination, DestinationName, MessagePosition, MoveReason, Outcome, PendingIn,
    Relocation,
};

use super::codec::{Cursor, Sink};
use super::relocation::is_relocation;
use super::{Change, QueueId, Record, State, topic_codec};
use crate::limits::OUTBOX_TARGETS_MAX;

/// A target of the outbox, by the order in which targets were first used. Targets are never removed, since their
/// numbers go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetId(pub(crate) u32);

/// All that is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    items_max: u32,
    targets: Vec<Target>,
    by_destination: BTreeMap<Destination, TargetId>,
    /// How many items lie at each position; derived from the targets.
    positions: BTreeMap<MessagePosition, u32>,
    len: u32,
}

/// What is on its way to one destination.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    destination: Destination,
    last_number: u64,
    items: BTreeMap<u64, Item>,
}

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Where its bytes are in this shard's log.
    pub(crate) position: MessagePosition,
    /// Where it came from.
    pub(crate) source: Destination,
    pub(crate) reason: MoveReason,
    /// How often it had been returned.
    pub(crate) deliveries: u32,
    /// When it left, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// What it takes along, if it moves with its name.
    pub(crate) luggage: Option<Box<Relocation>>,
}

impl Outbox {
    pub(crate) fn new(items_max: u32) -> Self {
        Self {
            items_max,
            targets: Vec::new(),
            by_destination: BTreeMap::new(),
            positions: BTreeMap::new(),
            len: 0,
        }
    }

    /// How many messages are on their way.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Whether an item for this target is taken.
    pub(crate) fn has_room(&self, target: &Destination) -> bool {
        self.len < self.items_max
            && (self.by_destination.contains_key(target) || self.targets.len() < OUTBOX_TARGETS_MAX)
    }

    pub(crate) fn target(&self, id: TargetId) -> &Target {
        &self.targets[id.0 as usize]
    }

    pub(crate) fn target_id(&self, destination: &Destination) -> Option<TargetId> {
        self.by_destination.get(destination).copied()
    }

    /// All targets ever used, in the order of first use.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        (0..).map(TargetId).zip(&self.targets)
    }

    /// The positions from `from` on that items lie at, ascending, each once.
    pub(crate) fn positions_from(
        &self,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        self.positions.range(from..).map(|(position, _)| *position)
    }

    /// Adds an item under the target's next number. The caller has seen that there is room.
    fn add(&mut self, target: &Destination, item: Item) -> TargetId {
        let id = match self.by_destination.get(target) {
            Some(id) => *id,
            None => {
                let place = u32::try_from(self.targets.len()).expect("bounded by `has_room`");
                self.targets.push(Target {
                    destination: target.clone(),
                    last_number: 0,
                    items: BTreeMap::new(),
                });
                self.by_destination.insert(target.clone(), TargetId(place));
                TargetId(place)
            }
        };
        *self.positions.entry(item.position).or_insert(0) += 1;
        self.len += 1;
        let target = &mut self.targets[id.0 as usize];
        target.last_number += 1;
        target.items.insert(target.last_number, item);
        id
    }

    /// Adds a subscription to those that an item is pending in. False: it is another message, or has no room.
    fn join(
        &mut self,
        (id, number): (TargetId, u64),
        position: MessagePosition,
        pending: &PendingIn,
    ) -> bool {
        let item = self.targets[id.0 as usize].items.get_mut(&number);
        let item = item.filter(|item| item.position == position);
        let luggage = item.and_then(|item| item.luggage.as_mut());
        let Some(luggage) = luggage.filter(|luggage| luggage.has_room_for(pending)) else {
            return false;
        };
        luggage.pending.push(pending.clone());
        true
    }

    /// Forgets an item; returns where its bytes are.
    fn forget(&mut self, id: TargetId, number: u64) -> Option<MessagePosition> {
        let item = self.targets[id.0 as usize].items.remove(&number)?;
        self.len -= 1;
        let count = self.positions.get_mut(&item.position);
        let count = count.expect("every item's position is counted");
        *count -= 1;
        if *count == 0 {
            self.positions.remove(&item.position);
        }
        Some(item.position)
    }

    /// Whether the redundant parts agree.
    pub(crate) fn is_consistent(&self) -> bool {
        let mut positions = BTreeMap::new();
        let items = self.targets.iter().flat_map(|target| target.items.values());
        for item in items {
            *positions.entry(item.position).or_insert(0) += 1;
        }
        let total: u32 = positions.values().sum();
        let is_numbered = |target: &Target| {
            let last = target.items.last_key_value();
            last.is_none_or(|(number, _)| *number <= target.last_number)
        };
        positions == self.positions
            && total == self.len
            && self.len <= self.items_max
            && self.targets.iter().all(is_numbered)
    }
}

impl Target {
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Items from a number on, ascending.
    pub(crate) fn items_from(&self, number: u64) -> impl Iterator<Item = (u64, &Item)> {
        self.items
            .range(number..)
            .map(|(number, item)| (*number, item))
    }

    pub(crate) fn item(&self, number: u64) -> Option<&Item> {
        self.items.get(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl State {
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Takes a message out of its queue into the outbox (copies it there, if the reason is a copy's). False: it was
    /// not there, or the outbox is full; then the message stays where it is, and the caller tries again with a later
    /// entry.
    pub(crate) fn move_out(
        &mut self,
        from: QueueId,
        position: MessagePosition,
        target: &Destination,
        reason: MoveReason,
        record: &mut Record,
    ) -> bool {
        let queue = self.queue(from);
        if !queue.holds(position) || !self.outbox.has_room(target) {
            return false;
        }
        let source = queue.destination();
        let deliveries = queue.count(position);
        if reason.is_copy() {
            self.live.added(position.entry(), 1);
        } else if let Some(turn) = self.take_out(from, position) {
            // The position stays live: the outbox holds it from here on.
            record.changes.push(Change::Removed(from, turn));
        }
        self.departed(
            target,
            position,
            (source, deliveries),
            (reason, None),
            record,
        );
        true
    }

    /// Takes a message out of a place that moves, to its own name in another shard. What one entry takes out of several
    /// subscriptions is one item.
    fn move_along(
        &mut self,
        from: QueueId,
        position: MessagePosition,
        due_ms: u64,
        record: &mut Record,
    ) -> Outcome {
        if !self.queue(from).holds(position) || !self.may_relocate(from) {
            return Outcome::UnknownMessage;
        }
        let pending = self.pending_in(from, position);
        if let (Some(pending), Some(last)) = (&pending, record.joined)
            && self.outbox.join(last, position, pending)
        {
            self.leave_with(from, position, record);
            self.live.removed(position.entry());
            return Outcome::Applied;
        }
        let own = self.moves_to(from);
        let deliveries = self.queue(from).count(position);
        if !self.outbox.has_room(&own) {
            return Outcome::LimitReached;
        }
        let luggage = Box::new(self.luggage(from, position, due_ms));
        self.unkeep(from, position);
        self.leave_with(from, position, record);
        let how = (MoveReason::Relocated, Some(luggage));
        let item = self.departed(&own, position, (own.clone(), deliveries), how, record);
        record.joined = pending.map(|_| item);
        Outcome::Applied
    }

    fn leave_with(&mut self, from: QueueId, position: MessagePosition, record: &mut Record) {
        if let Some(turn) = self.take_out(from, position) {
            record.changes.push(Change::Removed(from, turn));
        }
    }

    /// Carries out a logged transfer. The destinations are indices into the batch.
    pub(super) fn transfer(
        &mut self,
        command: Command,
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        let Command::Transfer {
            destination,
            position,
            target,
            reason,
            due_ms,
        } = command
        else {
            unreachable!("only transfers come here");
        };
        let from = self.queue_of(destination, batch, record);
        let Some(from) = from.filter(|from| self.queue(*from).holds(position)) else {
            return Outcome::UnknownMessage;
        };
        if is_relocation(reason) {
            return self.move_along(from, position, due_ms, record);
        }
        if self.move_out(from, position, batch.destination(target), reason, record) {
            Outcome::Applied
        } else {
            Outcome::LimitReached
        }
    }

    /// Puts a message that is stored at a position of this shard's log on its way to a target, whoever holds it here
    /// otherwise. False: the outbox is full.
    pub(crate) fn copy_out(
        &mut self,
        source: &Destination,
        position: MessagePosition,
        target: &Destination,
        reason: MoveReason,
        record: &mut Record,
    ) -> bool {
        if !self.outbox.has_room(target) {
            return false;
        }
        self.live.added(position.entry(), 1);
        let from = (source.clone(), 0);
        self.departed(target, position, from, (reason, None), record);
        true
    }

    fn departed(
        &mut self,
        target: &Destination,
        position: MessagePosition,
        (source, deliveries): (Destination, u32),
        (reason, luggage): (MoveReason, Option<Box<Relocation>>),
        record: &mut Record,
    ) -> (TargetId, u64) {
        let item = Item {
            position,
            source,
            reason,
            deliveries,
            at_ms: self.stamp_ms,
            luggage,
        };
        let id = self.outbox.add(target, item);
        record.changes.push(Change::Departed(id));
        (id, self.outbox.target(id).last_number)
    }

    /// The target has stored these numbers, `first` to `last`: their items are forgotten. Those that are not there
    /// were forgotten before.
    pub(super) fn transferred(
        &mut self,
        target: &Destination,
        first: u64,
        last: u64,
        record: &mut Record,
    ) {
        let Some(id) = self.outbox.target_id(target) else {
            return;
        };
        let numbers = self.outbox.target(id).items_from(first);
        let numbers: Vec<u64> = numbers
            .map(|(number, _)| number)
            .take_while(|number| *number <= last)
            .collect();
        for number in numbers {
            if let Some(position) = self.outbox.forget(id, number) {
                self.live.removed(position.entry());
            }
        }
        record.changes.push(Change::Transferred(id));
    }
}

/// In a checkpoint:
///
/// ```text
/// items_max u32
/// sources varint, each ascending: destination
/// targets varint, each in the order of first use: destination, last number varint, items varint, each ascending:
///     number minus the one before varint, position varint, source varint (index), reason u8, deliveries varint,
///     at varint, and of one that moves with its name what it takes along, as `message::Relocation` has it
/// destination: kind u8, name length u8, name
/// ```
impl Outbox {
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.u32(self.items_max);
        let items = self.targets.iter().flat_map(|target| target.items.values());
        let mut sources: BTreeMap<&Destination, u64> = BTreeMap::new();
        for item in items {
            sources.entry(&item.source).or_insert(0);
        }
        sink.varint(sources.len() as u64);
        for (index, (destination, place)) in (0..).zip(&mut sources) {
            *place = index;
            encode_destination(destination, sink);
        }
        sink.varint(self.targets.len() as u64);
        for target in &self.targets {
            encode_destination(&target.destination, sink);
            sink.varint(target.last_number);
            sink.varint(target.items.len() as u64);
            let mut before = 0;
            for (number, item) in &target.items {
                sink.varint(number - before);
                before = *number;
                sink.varint(item.position.value());
                sink.varint(sources[&item.source]);
                sink.u8(item.reason.code());
                sink.varint(u64::from(item.deliveries));
                sink.varint(item.at_ms);
                if is_relocation(item.reason) {
                    let mut luggage = Vec::new();
                    item.luggage
                        .clone()
                        .unwrap_or_default()
                        .encode(&mut luggage);
                    sink.bytes(&luggage);
                }
                sink.spill();
            }
            sink.spill();
        }
    }

    /// Reads what `encode` wrote; every position lies at or below the entry `applied`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, applied: u64) -> Option<Self> {
        let mut outbox = Self::new(cursor.u32()?);
        let mut sources: Vec<Destination> = Vec::new();
        for _ in 0..cursor.varint()? {
            let source = decode_destination(cursor)?;
            if sources.last().is_some_and(|last| *last >= source) {
                return None;
            }
            sources.push(source);
        }
        let mut is_used = vec![false; sources.len()];
        for _ in 0..cursor.varint()? {
            let destination = decode_destination(cursor)?;
            let last_number = cursor.varint().filter(|last| *last > 0)?;
            let mut items = BTreeMap::new();
            let mut before = 0_u64;
            for _ in 0..cursor.varint()? {
                let step = cursor.varint().filter(|step| *step > 0)?;
                before = before.checked_add(step)?;
                let (item, source) = decode_item(cursor, &sources, applied)?;
                is_used[source] = true;
                *outbox.positions.entry(item.position).or_insert(0) += 1;
                items.insert(before, item);
            }
            let id = TargetId(u32::try_from(outbox.targets.len()).ok()?);
            let is_new = outbox
                .by_destination
                .insert(destination.clone(), id)
                .is_none();
            outbox.len = outbox.len.checked_add(u32::try_from(items.len()).ok()?)?;
            if !is_new || before > last_number {
                return None;
            }
            outbox.targets.push(Target {
                destination,
                last_number,
                items,
            });
        }
        let is_whole = is_used.into_iter().all(|used| used) && outbox.len <= outbox.items_max;
        is_whole.then_some(outbox)
    }

    /// The entry of each item, with those that share one counted each.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.positions
            .iter()
            .map(|(position, count)| (position.entry(), u64::from(*count)))
    }
}

fn decode_item(
    cursor: &mut Cursor<'_>,
    sources: &[Destination],
    applied: u64,
) -> Option<(Item, usize)> {
    let position = MessagePosition::from_value(cursor.varint()?);
    let source = usize::try_from(cursor.varint()?).ok()?;
    let mut item = Item {
        position,
        source: sources.get(source)?.clone(),
        reason: MoveReason::from_code(cursor.u8()?)?,
        deliveries: u32::try_from(cursor.varint()?).ok()?,
        at_ms: cursor.varint()?,
        luggage: None,
    };
    if is_relocation(item.reason) {
        let (luggage, length) = Relocation::decode(cursor.0)?;
        cursor.take(length)?;
        item.luggage = Some(Box::new(luggage));
    }
    (!position.is_transient() && position.entry() <= applied).then_some((item, source))
}

fn encode_destination(destination: &Destination, sink: &mut Sink) {
    sink.u8(topic_codec::kind_code(destination.kind));
    let name = destination.name.as_str();
    sink.u8(u8::try_from(name.len()).expect("names have at most 255 bytes"));
    sink.bytes(name.as_bytes());
}

fn decode_destination(cursor: &mut Cursor<'_>) -> Option<Destination> {
    let kind = topic_codec::kind_of(cursor.u8()?)?;
    let length = usize::from(cursor.u8()?);
    let name = std::str::from_utf8(cursor.take(length)?).ok()?;
    let name = DestinationName::new(name).ok()?;
    Some(Destination { kind, name })
}
