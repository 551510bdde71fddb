//! One queue's replicated part: the positions of what is stored and not settled, and what was returned how often.

use std::collections::BTreeMap;

use quorate_message::{Destination, DestinationKind, DestinationName, MessagePosition};

use super::sizes::Sizes;
use super::timing::Timing;
use super::{Levels, Turn};
use roaring::RoaringTreemap;

/// A queue, or what is pending in a subscription or kept by a topic. Only persistent positions occur.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(super) kind: DestinationKind,
    pub(super) name: DestinationName,
    /// The topic whose settings hold for a subscription to one.
    governed_as: Option<DestinationName>,
    pub(super) pending: Levels,
    /// How often a message was returned; only for those that were.
    pub(super) counts: BTreeMap<MessagePosition, u32>,
    /// The bytes of all that is stored.
    pub(super) sizes: Sizes,
    /// Nothing of it is delivered.
    pub(super) is_paused: bool,
    /// A message that belongs to a group was stored once.
    pub(super) has_groups: bool,
    /// Those that were in somebody's hands and came back, or may have been.
    pub(super) sent: RoaringTreemap,
    /// No message beyond was sent; `u64::MAX` when there is no such bound.
    pub(super) dispatched_to: u64,
    pub(super) enqueued_total: u64,
    pub(super) settled_total: u64,
    /// How many messages transactions hold that are prepared: stored, not settled, and not pending.
    pub(super) locked: u64,
    pub(super) timing: Timing,
    /// When something may be due, as the state knows it. Derived from `timing`.
    pub(super) due_ms: Option<u64>,
}

/// A message that is out of its queue, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) turn: Turn,
    pub(super) count: u32,
    pub(super) bytes: u64,
}

impl Queue {
    pub(super) fn new(kind: DestinationKind, name: DestinationName) -> Self {
        Self {
            kind,
            name,
            governed_as: None,
            pending: Levels::default(),
            counts: BTreeMap::new(),
            sizes: Sizes::default(),
            is_paused: false,
            has_groups: false,
            sent: RoaringTreemap::new(),
            dispatched_to: u64::MAX,
            enqueued_total: 0,
            settled_total: 0,
            locked: 0,
            timing: Timing::default(),
            due_ms: None,
        }
    }

    /// Stands where a subscription ended, until another destination gets the place.
    pub(super) fn nobody() -> Self {
        let name = DestinationName::new("ended").expect("a good name");
        Self::new(DestinationKind::Subscription, name)
    }

    /// Under which name settings are found.
    pub(crate) fn settings_name(&self) -> &DestinationName {
        self.governed_as.as_ref().unwrap_or(&self.name)
    }

    pub(super) fn govern_as(&mut self, topic: Option<DestinationName>) {
        self.governed_as = topic;
    }

    /// What it is, and of what name.
    pub(crate) fn destination(&self) -> Destination {
        Destination {
            kind: self.kind,
            name: self.name.clone(),
        }
    }

    pub(crate) fn kind(&self) -> DestinationKind {
        self.kind
    }

    pub(crate) fn name(&self) -> &DestinationName {
        &self.name
    }

    /// How many messages are stored and not settled, those that transactions hold included, those that wait for their
    /// time left out.
    pub(crate) fn pending_count(&self) -> u64 {
        self.pending.len() + self.locked
    }

    /// The bytes of what is stored, as `sizes.rs` counts them.
    pub(crate) fn bytes(&self) -> u64 {
        self.sizes.bytes()
    }

    /// Whether nothing of it is to be delivered.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether messages that belong to groups may be in it.
    pub(crate) fn has_groups(&self) -> bool {
        self.has_groups
    }

    /// How many messages wait for their time.
    pub(crate) fn waiting_count(&self) -> u64 {
        self.timing.waiting.len()
    }

    /// How many messages are stored, pending and waiting.
    fn stored_count(&self) -> u64 {
        self.pending.len() + self.waiting_count()
    }

    /// Whether nothing is stored, held by a transaction or waiting, what a topic keeps by itself left out.
    pub(super) fn is_emptied(&self) -> bool {
        let keeps = self.kind == DestinationKind::Topic;
        self.waiting_count() == 0 && self.locked == 0 && (keeps || self.pending.len() == 0)
    }

    /// Whether something is pending, in a topic: kept.
    pub(super) fn keeps_any(&self) -> bool {
        self.pending.len() > 0
    }

    /// How many messages expired.
    pub(crate) fn expired_total(&self) -> u64 {
        self.timing.expired_total
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(crate) fn enqueued_total(&self) -> u64 {
        self.enqueued_total
    }

    pub(crate) fn settled_total(&self) -> u64 {
        self.settled_total
    }

    pub(crate) fn contains(&self, position: MessagePosition) -> bool {
        self.pending.contains(position)
    }

    /// Whether the message is stored, pending or waiting for its time.
    pub(crate) fn holds(&self, position: MessagePosition) -> bool {
        self.pending.contains(position) || self.timing.waiting.contains(position)
    }

    /// When it is a pending message's turn.
    pub(crate) fn turn_of(&self, position: MessagePosition) -> Option<Turn> {
        let priority = self.pending.priority_of(position)?;
        Some(Turn::new(priority, position))
    }

    /// How often the message was returned.
    pub(crate) fn count(&self, position: MessagePosition) -> u32 {
        self.counts.get(&position).copied().unwrap_or(0)
    }

    /// Pending positions of one priority from `from` on, ascending.
    pub(crate) fn pending_at(
        &self,
        priority: u8,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        self.pending.at_priority(priority, from)
    }

    /// All pending messages from `from` on, in their turn.
    pub(crate) fn in_turn(&self, from: Turn) -> impl Iterator<Item = Turn> + '_ {
        self.pending.in_turn(from)
    }

    /// The least pending position from `from` on.
    pub(crate) fn first_pending_from(&self, from: MessagePosition) -> Option<MessagePosition> {
        self.pending.first_from(from)
    }

    /// All pending positions from `from` on.
    pub(crate) fn pending_since(&self, from: MessagePosition) -> RoaringTreemap {
        let mut positions = RoaringTreemap::new();
        self.pending.bitmaps().for_each(|level| positions |= level);
        positions.remove_range(..from.value());
        positions
    }

    /// The least stored position from `from` on, pending or waiting.
    pub(crate) fn first_stored_from(&self, from: MessagePosition) -> Option<MessagePosition> {
        let pending = self.pending.first_from(from);
        let waiting = self.timing.waiting.first_from(from);
        pending.into_iter().chain(waiting).min()
    }

    /// Stores the messages of one entry from `first` to `last`, ordinals without a gap.
    pub(super) fn store(
        &mut self,
        priority: u8,
        (first, last): (MessagePosition, MessagePosition),
        bytes: u64,
    ) {
        let added = self.pending.insert(priority, first, last);
        self.enqueued_total += added;
        if added > 0 {
            self.sizes.add(first, added, bytes);
        }
    }

    /// Counts messages that went through and are not kept.
    pub(super) fn pass(&mut self, count: u64) {
        self.enqueued_total += count;
        self.settled_total += count;
    }

    /// Keeps a message that was counted when it went through.
    pub(super) fn keep(&mut self, turn: Turn, bytes: u64) {
        let position = turn.position();
        let added = self.pending.insert(turn.priority(), position, position);
        self.settled_total -= added;
        if added > 0 {
            self.sizes.add(position, added, bytes);
        }
    }

    /// Begins with these messages and their bytes; nothing is pending yet.
    pub(super) fn begin_with(&mut self, (pending, sizes): (Levels, Sizes)) {
        self.enqueued_total = pending.len();
        self.pending = pending;
        self.sizes = sizes;
    }

    /// Stores a message that waits for its time.
    pub(super) fn store_waiting(&mut self, turn: Turn, bytes: u64) {
        let position = turn.position();
        let waiting = &mut self.timing.waiting;
        let added = waiting.insert(turn.priority(), position, position);
        self.enqueued_total += added;
        if added > 0 {
            self.sizes.add(position, added, bytes);
        }
    }

    /// Removes a message, pending or waiting; the turn that it had.
    pub(super) fn remove(&mut self, position: MessagePosition) -> Option<Turn> {
        let pending = self.pending.remove(position);
        let priority = match pending {
            Some(priority) => priority,
            None => self.timing.waiting.remove(position)?,
        };
        self.settled_total += 1;
        let _bytes = self.sizes.remove(position);
        self.forget_failures(position);
        self.timing.forget(position);
        // What a transaction holds may come back, and is still to expire then.
        if self.locked == 0 {
            self.timing.sweep(&self.pending);
        }
        Some(Turn::new(priority, position))
    }

    /// Forgets how often a message was returned.
    pub(super) fn forget_failures(&mut self, position: MessagePosition) {
        if !self.counts.is_empty() {
            self.counts.remove(&position);
        }
        if !self.sent.is_empty() {
            self.sent.remove(position.value());
        }
    }

    /// Takes a message out for a transaction, with all that is known of it. None when it is not there.
    pub(super) fn take_out(&mut self, position: MessagePosition) -> Option<Taken> {
        let priority = self.pending.remove(position)?;
        self.locked += 1;
        self.timing.unripe(position);
        self.sent.remove(position.value());
        Some(Taken {
            turn: Turn::new(priority, position),
            count: self.counts.remove(&position).unwrap_or(0),
            bytes: self.sizes.remove(position),
        })
    }

    /// Puts back what was taken out.
    pub(super) fn put_back(&mut self, taken: Taken) {
        let position = taken.turn.position();
        let added = self
            .pending
            .insert(taken.turn.priority(), position, position);
        assert_eq!(added, 1, "what is put back was taken out");
        // It was settled, so somebody had it.
        self.mark_sent(position);
        self.locked -= 1;
        self.sizes.add(position, 1, taken.bytes);
        if taken.count > 0 {
            self.counts.insert(position, taken.count);
        }
    }

    /// Counts a return of a message that is there.
    pub(super) fn raise_count(&mut self, position: MessagePosition) {
        let count = self.counts.entry(position).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Removes everything and returns what was pending and what waited; `timing` is the caller's to clear.
    pub(super) fn purge(&mut self) -> [Levels; 2] {
        let pending = std::mem::take(&mut self.pending);
        let waiting = std::mem::take(&mut self.timing.waiting);
        self.settled_total += pending.len() + waiting.len();
        self.counts.clear();
        self.sizes = Sizes::default();
        self.sent.clear();
        [pending, waiting]
    }

    /// Whether the redundant parts agree, and how many positions there are.
    pub(crate) fn is_consistent(&self) -> bool {
        self.pending.is_consistent()
            && self.timing.is_consistent(&self.pending)
            && self.enqueued_total == self.settled_total + self.stored_count() + self.locked
            && self.sizes.messages() == self.stored_count()
            && self.counts.keys().all(|position| self.holds(*position))
            && self
                .sent
                .iter()
                .all(|value| self.holds(MessagePosition::from_value(value)))
    }
}
