//! Messages that are delivered more than once by their schedule.
//!
//! Each delivery that is due is a firing: a copy of the message goes through the outbox to its own destination, which
//! stores it once, under whatever leader. So there are exactly as many deliveries as the schedule names, each a message
//! of its own. With the last one the scheduled message itself goes.

use quorate_message::{Cron, Schedule};

use super::codec::{Cursor, Sink};

/// What is left of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// The expression, or nothing.
    pub(crate) cron: String,
    pub(crate) period_ms: u64,
    /// Firings to come, at least one; [`Schedule::FOREVER`] without end.
    pub(crate) left: u32,
    /// When the next firing is due.
    pub(crate) next_ms: u64,
}

impl Repeat {
    /// The schedule of a message that was stored at this time.
    pub(super) fn new(schedule: &Schedule, now_ms: u64) -> Self {
        let mut repeat = Self {
            cron: schedule.cron.clone(),
            period_ms: schedule.period_ms,
            left: schedule.repeat.saturating_add(1),
            next_ms: now_ms.saturating_add(schedule.delay_ms),
        };
        if !repeat.cron.is_empty() {
            repeat.left = Schedule::FOREVER;
            repeat.next_ms = repeat.cron_after(now_ms).unwrap_or(u64::MAX);
        }
        repeat
    }

    /// Whether the firing that comes next is the last one.
    pub(super) fn is_last(&self) -> bool {
        self.left == 1 || self.following().is_none()
    }

    /// One firing has left; there is another one.
    pub(super) fn fired(&mut self) {
        if self.left != Schedule::FOREVER {
            self.left -= 1;
        }
        self.next_ms = self.following().unwrap_or(u64::MAX);
    }

    /// When the firing after the next one is due.
    fn following(&self) -> Option<u64> {
        if self.cron.is_empty() {
            self.next_ms.checked_add(self.period_ms)
        } else {
            self.cron_after(self.next_ms)
        }
    }

    fn cron_after(&self, after_ms: u64) -> Option<u64> {
        let cron = Cron::parse(&self.cron).expect("checked with its batch");
        cron.next_after(after_ms)
    }

    /// In a checkpoint: cron length u8, cron, period varint, left u32, next varint.
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.u8(u8::try_from(self.cron.len()).expect("a cron expression is short"));
        sink.bytes(self.cron.as_bytes());
        sink.varint(self.period_ms);
        sink.u32(self.left);
        sink.varint(self.next_ms);
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let length = usize::from(cursor.u8()?);
        let cron = std::str::from_utf8(cursor.take(length)?).ok()?.to_owned();
        if !cron.is_empty() {
            Cron::parse(&cron).ok()?;
        }
        Some(Self {
            cron,
            period_ms: cursor.varint()?,
            left: cursor.u32().filter(|left| *left > 0)?,
            next_ms: cursor.varint()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firings_are_counted_to_the_last() {
        let schedule = Schedule {
            delay_ms: 100,
            period_ms: 10,
            repeat: 4,
            ..Schedule::default()
        };
        let mut repeat = Repeat::new(&schedule, 1000);
        let mut due = Vec::new();
        while !repeat.is_last() {
            due.push((repeat.next_ms, repeat.left));
            repeat.fired();
        }
        assert_eq!(due, [(1100, 5), (1110, 4), (1120, 3), (1130, 2)]);
        assert_eq!((repeat.next_ms, repeat.left), (1140, 1));
    }

    #[test]
    fn a_cron_expression_has_no_end() {
        let schedule = Schedule {
            cron: "*/5 * * * *".to_owned(),
            ..Schedule::default()
        };
        let mut repeat = Repeat::new(&schedule, 60_000);
        assert_eq!(repeat.next_ms, 300_000);
        repeat.fired();
        assert_eq!(
            (repeat.next_ms, repeat.left, repeat.is_last()),
            (600_000, Schedule::FOREVER, false)
        );
    }
}
