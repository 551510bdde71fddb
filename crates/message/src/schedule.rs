//! When a message is to be delivered, if not at once: after a delay, repeatedly, or by a cron expression.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::limits::{CRON_BYTES_MAX, DELAY_MS_MAX};
use crate::reader::Reader;
use crate::{Cron, CronError};

/// The schedule of a message. Times count from the stamp of the entry that stores it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Until the first delivery.
    pub delay_ms: u64,
    /// Between a delivery and the next.
    pub period_ms: u64,
    /// Deliveries after the first; [`Schedule::FOREVER`] for no end.
    pub repeat: u32,
    /// Expression by which it is delivered without end; empty for none. Stands alone.
    pub cron: String,
}

/// Why a schedule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// A time beyond what is allowed.
    #[error("{field} of {value} ms is too long; at most {DELAY_MS_MAX} ms are allowed")]
    TooLong {
        /// Which.
        field: &'static str,
        /// The time.
        value: u64,
    },
    /// Repeats without a period, or a period without repeats.
    #[error("a repeated delivery takes both a period above 0 ms and a number of repeats")]
    Period,
    /// A cron expression with something beside it.
    #[error("a cron expression stands alone: leave out delay, period and repeat")]
    CronAlone,
    /// A cron expression that is too long.
    #[error("cron expression has {bytes} bytes; at most {CRON_BYTES_MAX} are allowed")]
    CronLength {
        /// How many.
        bytes: usize,
    },
    /// A cron expression that is none.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// Nothing at all.
    #[error("a schedule names a delay, a period or a cron expression")]
    Empty,
}

/// Bytes of the numbers of the encoding.
const NUMBERS_BYTES: usize = 20;

impl Schedule {
    /// Repeats without end.
    pub const FOREVER: u32 = u32::MAX;

    /// Delivers once, after a delay.
    #[must_use]
    pub fn after(delay_ms: u64) -> Self {
        Self {
            delay_ms,
            ..Self::default()
        }
    }

    /// Whether it delivers more than once.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeat > 0 || !self.cron.is_empty()
    }

    /// Checks what the encoding and the broker rely on.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), ScheduleError> {
        for (field, value) in [("delay", self.delay_ms), ("period", self.period_ms)] {
            if value > DELAY_MS_MAX {
                return Err(ScheduleError::TooLong { field, value });
            }
        }
        if (self.repeat > 0) != (self.period_ms > 0) {
            return Err(ScheduleError::Period);
        }
        if self.cron.is_empty() {
            let is_empty = self.delay_ms == 0 && self.repeat == 0;
            return if is_empty {
                Err(ScheduleError::Empty)
            } else {
                Ok(())
            };
        }
        if self.delay_ms > 0 || self.repeat > 0 {
            return Err(ScheduleError::CronAlone);
        }
        if self.cron.len() > CRON_BYTES_MAX {
            let bytes = self.cron.len();
            return Err(ScheduleError::CronLength { bytes });
        }
        Cron::parse(&self.cron)?;
        Ok(())
    }

    /// Length of the encoding.
    pub(crate) fn encoded_bytes(&self) -> usize {
        1 + NUMBERS_BYTES + self.cron.len()
    }

    /// Appends the encoding of a schedule that was checked.
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        let length = self.encoded_bytes() - 1;
        into.put_u8(u8::try_from(length).expect("a cron expression is short"));
        into.put_u64_le(self.delay_ms);
        into.put_u64_le(self.period_ms);
        into.put_u32_le(self.repeat);
        into.put_slice(self.cron.as_bytes());
    }

    /// Reads a schedule off the front of a body, and how long it was.
    pub(crate) fn decode(body: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(body);
        let length = usize::from(reader.u8()?);
        let schedule = Self {
            delay_ms: reader.u64()?,
            period_ms: reader.u64()?,
            repeat: reader.u32()?,
            cron: std::str::from_utf8(body.get(1 + NUMBERS_BYTES..1 + length)?)
                .ok()?
                .to_owned(),
        };
        schedule.check().ok()?;
        Some((schedule, 1 + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let cron = |cron: &str| Schedule {
            cron: cron.to_owned(),
            ..Schedule::default()
        };
        assert_eq!(Schedule::after(5).check(), Ok(()));
        assert_eq!(cron("0 8 * * MON").check(), Ok(()));
        assert_eq!(Schedule::default().check(), Err(ScheduleError::Empty));
        let lonely = Schedule {
            repeat: 3,
            ..Schedule::after(5)
        };
        assert_eq!(lonely.check(), Err(ScheduleError::Period));
        let both = Schedule {
            delay_ms: 1,
            ..cron("* * * * *")
        };
        assert_eq!(both.check(), Err(ScheduleError::CronAlone));
        assert!(matches!(
            Schedule::after(u64::MAX).check(),
            Err(ScheduleError::TooLong { .. })
        ));
        assert!(matches!(
            cron(&"*".repeat(201)).check(),
            Err(ScheduleError::CronLength { .. })
        ));
        assert!(matches!(
            cron("* * * *").check(),
            Err(ScheduleError::Cron(_))
        ));
    }
}
