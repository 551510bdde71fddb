//! The writes of one replica to its disk that are under way, and how far the log is durable.
//!
//! All writes of a replica are one ordered stream: when a write is durable, so are all before it. The bound and the
//! promise that an append needs are issued before it, so that a durable entry always lies within a durable bound.

use std::collections::VecDeque;

use crate::{Act, Effects, Index, Time, Write, WriteId};

/// One write that is not yet durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    id: WriteId,
    since: Time,
    /// The log is durable up to here when this is; none for what is no append.
    end: Option<Index>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writes {
    last: WriteId,
    persisted: WriteId,
    pending: VecDeque<Pending>,
    durable: Index,
}

impl Writes {
    pub(crate) fn new(durable: Index) -> Self {
        Self {
            last: WriteId(0),
            persisted: WriteId(0),
            pending: VecDeque::new(),
            durable,
        }
    }

    /// Every entry up to here is durable.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The newest write that is not durable; none when all are.
    pub(crate) fn newest_pending(&self) -> Option<WriteId> {
        self.pending.back().map(|write| write.id)
    }

    /// Since when the oldest write waits.
    pub(crate) fn waiting_since(&self) -> Option<Time> {
        self.pending.front().map(|write| write.since)
    }

    pub(crate) fn is_durable(&self, id: WriteId) -> bool {
        id <= self.persisted
    }

    /// Asks for a write.
    pub(crate) fn issue(&mut self, now: Time, write: Write, effects: &mut Effects) -> WriteId {
        self.last = WriteId(self.last.0 + 1);
        let end = match &write {
            Write::Append(entries) => entries.last().map(|entry| entry.index),
            Write::Cut { after } => {
                // What lies behind the cut no longer counts, whenever it becomes durable.
                self.durable = self.durable.min(*after);
                for earlier in &mut self.pending {
                    earlier.end = earlier.end.map(|end| end.min(*after));
                }
                None
            }
            Write::Promise(_) | Write::Bound(_) | Write::Impaired(_) => None,
        };
        let id = self.last;
        self.pending.push_back(Pending {
            id,
            since: now,
            end,
        });
        effects.now(Act::Persist { id, write });
        id
    }

    /// All writes up to `id` are durable.
    pub(crate) fn persisted(&mut self, id: WriteId) {
        assert!(id <= self.last, "only what was written becomes durable");
        self.persisted = self.persisted.max(id);
        while let Some(write) = self.pending.pop_front_if(|write| write.id <= id) {
            self.durable = self.durable.max(write.end.unwrap_or_default());
        }
    }

    /// The log was replaced, durably, by an empty one that begins after `at`.
    pub(crate) fn installed(&mut self, at: Index) {
        self.durable = at;
        for write in &mut self.pending {
            write.end = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Entry, EntryKind, Epoch, Stamp};

    fn append(indices: std::ops::RangeInclusive<u64>) -> Write {
        Write::Append(
            indices
                .map(|index| Entry {
                    epoch: Epoch(1),
                    index: Index(index),
                    stamp: Stamp(0),
                    kind: EntryKind::Commands,
                    payload: Bytes::new(),
                })
                .collect(),
        )
    }

    #[test]
    fn durable_follows_the_appends_that_are() {
        let (mut writes, mut effects) = (Writes::new(Index(0)), Effects::default());
        writes.issue(Time(5), append(1..=2), &mut effects);
        let second = writes.issue(Time(6), append(3..=4), &mut effects);
        writes.persisted(WriteId(1));
        assert_eq!(
            (writes.durable(), writes.waiting_since()),
            (Index(2), Some(Time(6)))
        );
        writes.persisted(second);
        assert_eq!(
            (writes.durable(), writes.newest_pending()),
            (Index(4), None)
        );
    }

    #[test]
    fn an_append_before_a_cut_counts_up_to_the_cut_only() {
        let (mut writes, mut effects) = (Writes::new(Index(2)), Effects::default());
        let before = writes.issue(Time(0), append(3..=6), &mut effects);
        writes.issue(Time(0), Write::Cut { after: Index(4) }, &mut effects);
        let after = writes.issue(Time(0), append(5..=5), &mut effects);
        writes.persisted(before);
        assert_eq!(writes.durable(), Index(4));
        writes.persisted(after);
        assert_eq!(writes.durable(), Index(5));
    }
}
