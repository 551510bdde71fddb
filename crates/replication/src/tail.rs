//! What a replica knows of its log without the disk: where it begins and ends, which epoch each entry is of, and the
//! most recent entries themselves.
//!
//! ```text
//!   base | ... on disk only ... | first ... entries in memory ... end
//! ```
//! Guarantees: the entries in memory are consecutive and end at `end`. Does not know what is durable or committed.

use std::collections::VecDeque;

use crate::{Entry, Epoch, Index, Position, Recovered, Stamp};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    base: Position,
    end: Position,
    /// First index of each epoch present after `base`; both ascend.
    epochs: Vec<(Epoch, Index)>,
    stamp: Stamp,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Tail {
    pub(crate) fn new(recovered: &Recovered) -> Self {
        Self {
            base: recovered.base,
            end: recovered.end,
            epochs: recovered.epochs.clone(),
            stamp: recovered.stamp,
            entries: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn base(&self) -> Position {
        self.base
    }

    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// At least the stamp of the last entry; a cut does not lower it.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// First index in memory; one past the end when none is.
    pub(crate) fn first(&self) -> Index {
        self.entries
            .front()
            .map_or_else(|| self.end.index.next(), |entry| entry.index)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first().0)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries in memory from `index` on.
    pub(crate) fn from(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let skipped = index.0.saturating_sub(self.first().0);
        let skipped = usize::try_from(skipped)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        self.entries.range(skipped..)
    }

    /// The epoch of an entry of the log, or of its base.
    pub(crate) fn epoch_at(&self, index: Index) -> Option<Epoch> {
        if index == self.base.index {
            return Some(self.base.epoch);
        }
        if index < self.base.index || index > self.end.index {
            return None;
        }
        let after = self.epochs.partition_point(|(_, first)| *first <= index);
        let (epoch, _) = self.epochs.get(after.checked_sub(1)?)?;
        Some(*epoch)
    }

    /// Whether the log, or its base, holds exactly this position.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.epoch_at(position.index) == Some(position.epoch)
    }

    /// The last position of this log with neither a greater index nor a greater epoch than `other`: the furthest that
    /// this log and one that ends with `other` can agree. None when that would be below the base.
    pub(crate) fn agreement(&self, other: Position) -> Option<Position> {
        let mut last = self.end.index.min(other.index);
        for (epoch, first) in self.epochs.iter().rev() {
            if *first > last {
                continue;
            }
            if *epoch <= other.epoch {
                return Some(Position {
                    epoch: *epoch,
                    index: last,
                });
            }
            last = first.previous();
        }
        let reaches_base = last >= self.base.index && self.base.epoch <= other.epoch;
        reaches_base.then_some(self.base)
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        assert_eq!(
            entry.index,
            self.end.index.next(),
            "entries are consecutive"
        );
        assert!(
            entry.epoch >= self.end.epoch,
            "epochs do not go back in a log"
        );
        if self
            .epochs
            .last()
            .is_none_or(|(last, _)| *last < entry.epoch)
        {
            self.epochs.push((entry.epoch, entry.index));
        }
        self.end = entry.position();
        self.stamp = self.stamp.max(entry.stamp);
        self.bytes += entry.cost_bytes();
        self.entries.push_back(entry);
    }

    /// Drops every entry after `after`, which is not below the base.
    pub(crate) fn cut(&mut self, after: Index) {
        assert!(after >= self.base.index, "the base is never cut");
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.index > after) {
            self.bytes -= entry.cost_bytes();
        }
        let epoch = self.epoch_at(after).expect("the cut is within the log");
        self.epochs.retain(|(_, first)| *first <= after);
        self.end = Position {
            epoch,
            index: after,
        };
    }

    /// Drops the oldest entries from memory, none above `limit`, while more than `bytes` are held.
    pub(crate) fn shrink(&mut self, limit: Index, bytes: usize) {
        while self.bytes > bytes
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.index <= limit)
        {
            self.bytes -= entry.cost_bytes();
        }
    }

    /// The log begins after `base`, a position that it holds.
    pub(crate) fn rebase(&mut self, base: Position) {
        assert!(self.holds(base), "the new base is in the log");
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.index <= base.index) {
            self.bytes -= entry.cost_bytes();
        }
        let next = base.index.next();
        let next_epoch = self.epoch_at(next);
        self.base = base;
        self.epochs
            .retain(|(epoch, _)| next_epoch.is_some_and(|kept| *epoch >= kept));
        if let Some((_, first)) = self.epochs.first_mut() {
            *first = (*first).max(next);
        }
    }

    /// The log was replaced by an empty one that begins after `at`.
    pub(crate) fn install(&mut self, at: Position, stamp: Stamp) {
        self.base = at;
        self.end = at;
        self.epochs.clear();
        self.entries.clear();
        self.bytes = 0;
        self.stamp = self.stamp.max(stamp);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{DiskId, EntryKind, Incarnation, NodeId, ShardId};

    fn position(epoch: u64, index: u64) -> Position {
        Position {
            epoch: Epoch(epoch),
            index: Index(index),
        }
    }

    fn tail(base: Position, epochs: &[u64]) -> Tail {
        let mut tail = Tail::new(&Recovered {
            shard: ShardId(1),
            node: NodeId(1),
            disk: DiskId(1),
            incarnation: Incarnation(1),
            promise: None,
            bound: None,
            impaired: false,
            base,
            end: base,
            epochs: Vec::new(),
            stamp: Stamp(0),
            committed: base.index,
        });
        for epoch in epochs {
            tail.push(Entry {
                epoch: Epoch(*epoch),
                index: tail.end.index.next(),
                stamp: Stamp(0),
                kind: EntryKind::Commands,
                payload: Bytes::from_static(b"x"),
            });
        }
        tail
    }

    #[test]
    fn the_epoch_of_each_entry_is_known() {
        let tail = tail(position(1, 3), &[1, 2, 2, 5]);
        let epochs: Vec<_> = (2..=8)
            .map(|i| tail.epoch_at(Index(i)).map(|e| e.0))
            .collect();
        assert_eq!(
            epochs,
            [None, Some(1), Some(1), Some(2), Some(2), Some(5), None]
        );
    }

    #[test]
    fn agreement_is_the_last_position_that_both_can_hold() {
        let tail = tail(position(1, 3), &[1, 2, 2, 5]);
        for (other, expected) in [
            (position(5, 9), Some(position(5, 7))),
            (position(4, 9), Some(position(2, 6))),
            (position(2, 5), Some(position(2, 5))),
            (position(1, 9), Some(position(1, 4))),
            (position(9, 4), Some(position(1, 4))),
            (position(1, 3), Some(position(1, 3))),
            (position(1, 2), None),
            (position(0, 9), None),
        ] {
            assert_eq!(tail.agreement(other), expected, "{other}");
        }
    }

    #[test]
    fn a_cut_takes_epochs_with_it() {
        let mut tail = tail(position(0, 0), &[1, 1, 2, 3]);
        tail.cut(Index(2));
        assert_eq!(tail.end(), position(1, 2));
        assert_eq!(tail.epoch_at(Index(3)), None);
        assert_eq!(tail.first(), Index(1));
        tail.cut(Index(0));
        assert_eq!((tail.end(), tail.bytes), (position(0, 0), 0));
    }

    #[test]
    fn shrinking_stops_at_the_limit_and_at_the_budget() {
        let mut tail = tail(position(0, 0), &[1, 1, 1, 1]);
        let one = Entry::OVERHEAD_BYTES + 1;
        tail.shrink(Index(4), 2 * one);
        assert_eq!(tail.first(), Index(3));
        tail.shrink(Index(3), 0);
        assert_eq!(tail.first(), Index(4));
        assert_eq!(tail.epoch_at(Index(1)), Some(Epoch(1)));
        assert!(tail.get(Index(3)).is_none() && tail.get(Index(4)).is_some());
    }

    #[test]
    fn a_new_base_keeps_what_is_known_of_the_rest() {
        let mut tail = tail(position(0, 0), &[1, 2, 2, 3]);
        tail.rebase(position(2, 2));
        assert_eq!((tail.base(), tail.first()), (position(2, 2), Index(3)));
        assert_eq!(tail.epoch_at(Index(3)), Some(Epoch(2)));
        assert_eq!(tail.epoch_at(Index(1)), None);
        tail.rebase(position(3, 4));
        assert_eq!((tail.end(), tail.epochs.len()), (position(3, 4), 0));
    }
}
