//! What time does to a queue's messages: those that wait for theirs, and those whose time will be over.

use std::collections::BTreeMap;

use quorate_message::MessagePosition;
use roaring::RoaringTreemap;

use super::agenda::{Agenda, Due};
use super::codec::{Cursor, Sink};
use super::repeat::Repeat;
use super::{Levels, positions};
use crate::Scheduled;

/// A queue's part that has to do with time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    /// Stored and not to be delivered yet.
    pub(super) waiting: Levels,
    /// When those that wait are to be delivered.
    pub(super) delays: Agenda,
    /// When messages expire.
    pub(super) expiry: Agenda,
    /// Stored messages whose time is over. The leader removes them unless a consumer has them.
    pub(super) ripe: RoaringTreemap,
    /// What is left of the schedules of messages that are delivered more than once.
    pub(super) repeats: BTreeMap<MessagePosition, Repeat>,
    pub(super) expired_total: u64,
}

impl Timing {
    /// From when on something may be due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let next = [self.delays.next_ms(), self.expiry.next_ms()];
        next.into_iter().flatten().min()
    }

    /// Forgets what is known of a message that was removed.
    pub(super) fn forget(&mut self, position: MessagePosition) {
        if !self.ripe.is_empty() {
            self.ripe.remove(position.value());
        }
        if !self.repeats.is_empty() {
            self.repeats.remove(&position);
        }
    }

    /// A message is taken out for a while. Should its time be over, that is found again when it comes back.
    pub(super) fn unripe(&mut self, position: MessagePosition) {
        if self.ripe.remove(position.value()) {
            self.expiry.insert(position, 0, 0);
        }
    }

    /// Whether a message of the queue can expire: only then its time has to be looked at.
    pub(crate) fn has_expiring(&self) -> bool {
        !self.expiry.is_empty() || !self.ripe.is_empty()
    }

    /// Messages that wait, in the order in which they are due.
    pub(crate) fn page(
        &self,
        after: Option<(u64, MessagePosition)>,
        limit: usize,
    ) -> Vec<Scheduled> {
        let after = after.map(|(due_ms, position)| Due { due_ms, position });
        let wants = |position| self.waiting.contains(position);
        let page = self.delays.page(after, limit, wants);
        let page = page.into_iter().map(|Due { due_ms, position }| {
            let repeat = self.repeats.get(&position);
            Scheduled {
                position,
                due_ms,
                period_ms: repeat.map_or(0, |repeat| repeat.period_ms),
                left: repeat.map_or(1, |repeat| repeat.left),
                cron: repeat.map_or_else(String::new, |repeat| repeat.cron.clone()),
            }
        });
        page.collect()
    }

    /// Stored messages whose time is over.
    pub(crate) fn ripe(&self) -> impl Iterator<Item = MessagePosition> + '_ {
        self.ripe.iter().map(MessagePosition::from_value)
    }

    /// Keeps the agendas in proportion to what the queue holds, a few items at a time.
    pub(super) fn sweep(&mut self, pending: &Levels) {
        let Self {
            waiting,
            delays,
            expiry,
            ..
        } = self;
        if expiry.len() > stale_allowed(pending.len() + waiting.len()) {
            expiry.sweep(|position| pending.contains(position) || waiting.contains(position));
        }
        if delays.len() > stale_allowed(pending.len() + waiting.len()) {
            delays.sweep(|position| pending.contains(position) || waiting.contains(position));
        }
    }

    pub(super) fn clear(&mut self) {
        let expired_total = self.expired_total;
        *self = Self {
            expired_total,
            ..Self::default()
        };
    }

    /// Whether the parts agree with each other and with the pending messages.
    pub(crate) fn is_consistent(&self, pending: &Levels) -> bool {
        let is_stored = |position: MessagePosition| {
            pending.contains(position) || self.waiting.contains(position)
        };
        let mut waiting = self.waiting.bitmaps();
        self.waiting.is_consistent()
            && waiting.all(|waiting| pending.bitmaps().all(|other| waiting.is_disjoint(other)))
            && self.repeats.keys().all(|position| is_stored(*position))
            && self
                .ripe
                .iter()
                .all(|value| is_stored(MessagePosition::from_value(value)))
    }

    /// In a checkpoint:
    ///
    /// ```text
    /// flag u8; the rest only if 1: it differs from that of a new queue
    /// waiting as levels, delays and expiry as agendas, ripe as positions, expired varint
    /// repeats varint, each ascending: position less the one before varint, the repeat
    /// ```
    pub(super) fn encode(&self, sink: &mut Sink) {
        let is_plain = self.waiting.len() == 0
            && self.delays.is_empty()
            && self.expiry.is_empty()
            && self.ripe.is_empty()
            && self.repeats.is_empty()
            && self.expired_total == 0;
        sink.u8(u8::from(!is_plain));
        if is_plain {
            return;
        }
        self.waiting.encode(sink);
        self.delays.encode(sink);
        self.expiry.encode(sink);
        positions::encode(&self.ripe, sink);
        sink.varint(self.expired_total);
        sink.varint(self.repeats.len() as u64);
        let mut before = 0;
        for (position, repeat) in &self.repeats {
            sink.varint(position.value() - before);
            before = position.value();
            repeat.encode(sink);
        }
    }

    /// Reads what lies below `end`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, end: u64) -> Option<Self> {
        match cursor.u8()? {
            0 => return Some(Self::default()),
            1 => {}
            _ => return None,
        }
        let mut timing = Self {
            waiting: Levels::decode(cursor, end)?,
            delays: Agenda::decode(cursor, end)?,
            expiry: Agenda::decode(cursor, end)?,
            ripe: positions::decode(cursor, end)?,
            repeats: BTreeMap::new(),
            expired_total: cursor.varint()?,
        };
        let repeats = cursor.varint()?;
        let mut before = 0_u64;
        for _ in 0..repeats {
            before = before.checked_add(cursor.varint()?)?;
            let position = MessagePosition::from_value(before);
            let repeat = Repeat::decode(cursor)?;
            if timing.repeats.insert(position, repeat).is_some() {
                return None;
            }
        }
        Some(timing)
    }
}

/// How many items an agenda may have for so many messages.
fn stale_allowed(messages: u64) -> u64 {
    2 * messages + 1024
}
