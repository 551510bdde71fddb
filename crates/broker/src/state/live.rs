//! How many unsettled messages lie in which part of the log, so that it is cheap to say that a segment holds none.
//!
//! Counts are kept per group of [`GROUP`] entries, over all queues; where a question cuts a group that is not empty
//! the queues, the outbox and what is prepared are looked at. A message that several hold counts once for each.

use std::collections::BTreeMap;

use quorate_message::MessagePosition;
use quorate_message::limits::{BATCH_COMMANDS_MAX, ENTRY_MAX};
use roaring::RoaringTreemap;

use super::Transactions;
use super::outbox::Outbox;
use super::queue::Queue;

/// Entries of a group: as many as one container of the bitmaps covers.
const GROUP: u64 = 64;

/// Unsettled messages per group; groups without any are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    groups: BTreeMap<u64, u64>,
    total: u64,
}

/// Who holds messages besides the queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apart<'a> {
    pub(super) outbox: &'a Outbox,
    /// What transactions hold that are prepared.
    pub(super) prepared: &'a Transactions,
}

impl Apart<'_> {
    /// The least position that they hold, from `from` on.
    fn first_from(self, from: MessagePosition) -> Option<MessagePosition> {
        let sent = self.outbox.positions_from(from).next();
        let prepared = self.prepared.positions_from(from).next();
        let prepared = prepared.map(|(position, _)| position);
        sent.into_iter().chain(prepared).min()
    }
}

impl Live {
    pub(super) fn added(&mut self, entry: u64, messages: u64) {
        if messages > 0 {
            *self.groups.entry(entry / GROUP).or_insert(0) += messages;
            self.total += messages;
        }
    }

    pub(super) fn removed(&mut self, entry: u64) {
        self.subtract(entry / GROUP, 1);
    }

    pub(super) fn removed_all(&mut self, positions: &RoaringTreemap) {
        for (group, count) in count_groups(positions) {
            self.subtract(group, count);
        }
    }

    pub(super) fn added_all(&mut self, positions: &RoaringTreemap) {
        for (group, count) in count_groups(positions) {
            *self.groups.entry(group).or_insert(0) += count;
            self.total += count;
        }
    }

    /// Unsettled messages in all.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    fn subtract(&mut self, group: u64, messages: u64) {
        let count = self
            .groups
            .get_mut(&group)
            .expect("what is removed was added");
        *count -= messages;
        self.total -= messages;
        if *count == 0 {
            self.groups.remove(&group);
        }
    }

    pub(super) fn has_any(
        &self,
        queues: &[Queue],
        apart: Apart<'_>,
        first: u64,
        last: u64,
    ) -> bool {
        if first > last {
            return false;
        }
        let mut groups = self.groups.range(first / GROUP..=last / GROUP);
        groups.any(|(group, _)| {
            let (start, end) = (group * GROUP, group * GROUP + GROUP - 1);
            let is_whole = first <= start && end <= last;
            is_whole || holds_any(queues, apart, first.max(start), last.min(end))
        })
    }

    pub(super) fn entries<'a>(
        &'a self,
        queues: &'a [Queue],
        apart: Apart<'a>,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let range = first / GROUP..=last.max(first) / GROUP;
        self.groups.range(range).flat_map(move |(group, _)| {
            let (start, end) = (group * GROUP, group * GROUP + GROUP - 1);
            live_entries(queues, apart, first.max(start), last.min(end))
        })
    }
}

fn holds_any(queues: &[Queue], apart: Apart<'_>, first: u64, last: u64) -> bool {
    let start = start_of(first);
    let is_within = |next: Option<MessagePosition>| next.is_some_and(|next| next.entry() <= last);
    is_within(apart.first_from(start))
        || queues
            .iter()
            .any(|queue| is_within(queue.first_stored_from(start)))
}

/// The live entries of at most one group, by a mask of its entries.
fn live_entries(
    queues: &[Queue],
    apart: Apart<'_>,
    first: u64,
    last: u64,
) -> impl Iterator<Item = u64> + use<> {
    let mut mask = 0_u64;
    let base = first / GROUP * GROUP;
    for queue in queues {
        let mut entry = first;
        // One look per live entry: the rest of an entry's messages is skipped.
        while let Some(position) = queue.first_stored_from(start_of(entry)) {
            if position.entry() > last {
                break;
            }
            mask |= 1 << (position.entry() - base);
            entry = position.entry() + 1;
        }
    }
    let mut entry = first;
    while let Some(position) = apart.first_from(start_of(entry)) {
        if position.entry() > last {
            break;
        }
        mask |= 1 << (position.entry() - base);
        entry = position.entry() + 1;
    }
    (0..GROUP)
        .filter(move |bit| mask >> bit & 1 == 1)
        .map(move |bit| base + bit)
}

fn start_of(entry: u64) -> MessagePosition {
    MessagePosition::new(entry.min(ENTRY_MAX), 0)
}

fn count_groups(positions: &RoaringTreemap) -> Vec<(u64, u64)> {
    const GROUP_POSITIONS: u64 = GROUP * BATCH_COMMANDS_MAX as u64;
    let mut groups: Vec<(u64, u64)> = Vec::new();
    for position in positions {
        let group = position / GROUP_POSITIONS;
        match groups.last_mut() {
            Some((last, count)) if *last == group => *count += 1,
            _ => groups.push((group, 1)),
        }
    }
    groups
}
