//! One queue's replicated part: the positions of what is stored and not settled, and what was returned how often.

use std::collections::BTreeMap;

use quorate_message::{DestinationName, MessagePosition};
use roaring::RoaringTreemap;

/// A queue. Only persistent positions occur.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(super) name: DestinationName,
    pub(super) pending: RoaringTreemap,
    /// Size of `pending`, which the bitmap would have to add up.
    pub(super) pending_count: u64,
    /// How often a message was returned; only for those that were.
    pub(super) counts: BTreeMap<MessagePosition, u32>,
    pub(super) enqueued_total: u64,
    pub(super) settled_total: u64,
}

impl Queue {
    pub(super) fn new(name: DestinationName) -> Self {
        Self {
            name,
            pending: RoaringTreemap::new(),
            pending_count: 0,
            counts: BTreeMap::new(),
            enqueued_total: 0,
            settled_total: 0,
        }
    }

    pub(crate) fn name(&self) -> &DestinationName {
        &self.name
    }

    /// How many messages are stored and not settled.
    pub(crate) fn pending_count(&self) -> u64 {
        self.pending_count
    }

    pub(crate) fn enqueued_total(&self) -> u64 {
        self.enqueued_total
    }

    pub(crate) fn settled_total(&self) -> u64 {
        self.settled_total
    }

    pub(crate) fn contains(&self, position: MessagePosition) -> bool {
        self.pending.contains(position.value())
    }

    /// How often the message was returned.
    pub(crate) fn count(&self, position: MessagePosition) -> u32 {
        self.counts.get(&position).copied().unwrap_or(0)
    }

    /// Pending positions from `from` on, ascending.
    pub(crate) fn pending_from(
        &self,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        let mut positions = self.pending.iter();
        positions.advance_to(from.value());
        positions.map(MessagePosition::from_value)
    }

    /// Stores the messages of one entry from `first` to `last`, ordinals without a gap.
    pub(super) fn store(&mut self, first: MessagePosition, last: MessagePosition) {
        let added = if first == last {
            u64::from(self.pending.insert(first.value()))
        } else {
            self.pending.insert_range(first.value()..=last.value())
        };
        self.pending_count += added;
        self.enqueued_total += added;
    }

    /// Removes a message; false when it was not there.
    pub(super) fn remove(&mut self, position: MessagePosition) -> bool {
        let removed = self.pending.remove(position.value());
        if removed {
            self.pending_count -= 1;
            self.settled_total += 1;
            if !self.counts.is_empty() {
                self.counts.remove(&position);
            }
        }
        removed
    }

    /// Counts a return of a message that is there.
    pub(super) fn raise_count(&mut self, position: MessagePosition) {
        let count = self.counts.entry(position).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Removes everything and returns what it was.
    pub(super) fn purge(&mut self) -> RoaringTreemap {
        self.settled_total += self.pending_count;
        self.pending_count = 0;
        self.counts.clear();
        std::mem::take(&mut self.pending)
    }

    /// Whether the redundant parts agree, and how many positions there are.
    pub(crate) fn is_consistent(&self) -> bool {
        self.pending.len() == self.pending_count
            && self.enqueued_total == self.settled_total + self.pending_count
            && self.counts.keys().all(|position| self.contains(*position))
    }
}
