//! One queue's replicated part: the positions of what is stored and not settled, and what was returned how often.

use std::collections::BTreeMap;

use quorate_message::{Destination, DestinationKind, DestinationName, MessagePosition};

use super::sizes::Sizes;
use super::{Levels, Turn};

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
    /// The bytes of all that is stored; of queues only.
    pub(super) sizes: Sizes,
    /// Nothing of it is delivered.
    pub(super) is_paused: bool,
    /// A message that belongs to a group was stored once.
    pub(super) has_groups: bool,
    pub(super) enqueued_total: u64,
    pub(super) settled_total: u64,
    /// How many messages transactions hold that are prepared: stored, not settled, and not pending.
    pub(super) locked: u64,
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
            enqueued_total: 0,
            settled_total: 0,
            locked: 0,
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

    /// How many messages are stored and not settled, those that transactions hold included.
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

    pub(crate) fn enqueued_total(&self) -> u64 {
        self.enqueued_total
    }

    pub(crate) fn settled_total(&self) -> u64 {
        self.settled_total
    }

    pub(crate) fn contains(&self, position: MessagePosition) -> bool {
        self.pending.contains(position)
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

    /// The least stored position from `from` on.
    pub(crate) fn first_stored_from(&self, from: MessagePosition) -> Option<MessagePosition> {
        self.pending.first_from(from)
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
        if self.kind == DestinationKind::Queue && added > 0 {
            self.sizes.add(first, added, bytes);
        }
    }

    /// Counts messages that went through and are not kept.
    pub(super) fn pass(&mut self, count: u64) {
        self.enqueued_total += count;
        self.settled_total += count;
    }

    /// Keeps a message that was counted when it went through.
    pub(super) fn keep(&mut self, priority: u8, position: MessagePosition) {
        self.settled_total -= self.pending.insert(priority, position, position);
    }

    /// Begins with these messages; nothing is pending yet.
    pub(super) fn begin_with(&mut self, pending: Levels) {
        self.enqueued_total = pending.len();
        self.pending = pending;
    }

    /// Removes a message; the turn that it had.
    pub(super) fn remove(&mut self, position: MessagePosition) -> Option<Turn> {
        let priority = self.pending.remove(position)?;
        self.settled_total += 1;
        if self.kind == DestinationKind::Queue {
            let _bytes = self.sizes.remove(position);
        }
        if !self.counts.is_empty() {
            self.counts.remove(&position);
        }
        Some(Turn::new(priority, position))
    }

    /// Takes a message out for a transaction, with all that is known of it. None when it is not there.
    pub(super) fn take_out(&mut self, position: MessagePosition) -> Option<Taken> {
        let priority = self.pending.remove(position)?;
        self.locked += 1;
        Some(Taken {
            turn: Turn::new(priority, position),
            count: self.counts.remove(&position).unwrap_or(0),
            bytes: match self.kind {
                DestinationKind::Queue => self.sizes.remove(position),
                DestinationKind::Topic | DestinationKind::Subscription => 0,
            },
        })
    }

    /// Puts back what was taken out.
    pub(super) fn put_back(&mut self, taken: Taken) {
        let position = taken.turn.position();
        let added = self
            .pending
            .insert(taken.turn.priority(), position, position);
        assert_eq!(added, 1, "what is put back was taken out");
        self.locked -= 1;
        if self.kind == DestinationKind::Queue {
            self.sizes.add(position, 1, taken.bytes);
        }
        if taken.count > 0 {
            self.counts.insert(position, taken.count);
        }
    }

    /// Counts a return of a message that is there.
    pub(super) fn raise_count(&mut self, position: MessagePosition) {
        let count = self.counts.entry(position).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Removes everything and returns what it was.
    pub(super) fn purge(&mut self) -> Levels {
        self.settled_total += self.pending.len();
        self.counts.clear();
        self.sizes = Sizes::default();
        std::mem::take(&mut self.pending)
    }

    /// Whether the redundant parts agree, and how many positions there are.
    pub(crate) fn is_consistent(&self) -> bool {
        self.pending.is_consistent()
            && self.enqueued_total == self.settled_total + self.pending.len() + self.locked
            && (self.kind != DestinationKind::Queue || self.sizes.messages() == self.pending.len())
            && self.counts.keys().all(|position| self.contains(*position))
    }
}
