//! Cron expressions of five fields, in UTC: minute, hour, day of the month, month, day of the week.
//!
//! ```text
//! field  *  or parts separated by commas
//! part   VALUE, FIRST-LAST or *, each with /STEP if wanted; a value with a step begins an open range
//! names  JAN to DEC and SUN to SAT, in any case; Sunday is 0 and 7
//! ```
//! When both days are restricted either may match, as every cron has it. Written here and not taken from a library:
//! when a message is due is part of the replicated state, so the answer must be the same on every node of every
//! version, for ever.

use thiserror::Error;

/// A parsed expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day must match by its number, by its weekday, or by any of the two.
    rule: DayRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DayRule {
    Both,
    Either,
}

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CronError {
    /// Not five fields.
    #[error("cron expression has {count} fields; it takes five: minute hour day month weekday")]
    Fields {
        /// How many.
        count: usize,
    },
    /// A field that cannot be.
    #[error("cron expression has an invalid {field} `{text}`; allowed are {allowed}")]
    Field {
        /// Which.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A date that does not exist.
    #[error("cron expression never matches: no month of it has such a day")]
    Never,
}

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
    allowed: &'static str,
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Days looked at for the next match: the 29th of February on a given weekday comes within 40 years.
const DAYS_LOOKED_AT: u64 = 41 * 366;

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
        allowed: "0 to 59",
    },
    Field {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
        allowed: "0 to 23",
    },
    Field {
        name: "day of the month",
        first: 1,
        last: 31,
        names: &[],
        allowed: "1 to 31",
    },
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &[
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ],
        allowed: "1 to 12 and JAN to DEC",
    },
    Field {
        name: "day of the week",
        first: 0,
        last: 7,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        allowed: "0 to 7 (0 and 7 are Sunday) and SUN to SAT",
    },
];

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// When it is none, or one that never matches.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let texts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = texts[..] else {
            return Err(CronError::Fields { count: texts.len() });
        };
        let [in_hour, in_day, in_month, in_year, in_week] = &FIELDS;
        let is_any = |text: &str| text.starts_with('*');
        let weekday_bits = in_week.read(weekdays)?;
        let cron = Self {
            minutes: in_hour.read(minutes)?,
            hours: in_day.read(hours)?,
            days: in_month.read(days)?,
            months: in_year.read(months)?,
            // Sunday is both 0 and 7.
            weekdays: (weekday_bits | weekday_bits >> 7) & 0x7f,
            rule: if is_any(days) || is_any(weekdays) {
                DayRule::Both
            } else {
                DayRule::Either
            },
        };
        // Any leap cycle will do: what does not match within one never does.
        cron.next_after(0).map(|_| cron).ok_or(CronError::Never)
    }

    /// The first match after this time, both in milliseconds since 1970; none when it never matches again.
    #[must_use]
    pub fn next_after(&self, after_ms: u64) -> Option<u64> {
        let start = (after_ms / MINUTE_MS)
            .checked_add(1)?
            .checked_mul(MINUTE_MS)?;
        let (first_day, first_minute) = (start / DAY_MS, start % DAY_MS / MINUTE_MS);
        for day in first_day..first_day.checked_add(DAYS_LOOKED_AT)? {
            if !self.has_day(day) {
                continue;
            }
            let from = if day == first_day { first_minute } else { 0 };
            if let Some(minute) = self.minute_from(from) {
                return day.checked_mul(DAY_MS)?.checked_add(minute * MINUTE_MS);
            }
        }
        None
    }

    /// The first matching minute of a day from `from` on.
    fn minute_from(&self, from: u64) -> Option<u64> {
        let first_hour = from / 60;
        (first_hour..24)
            .filter(|hour| self.hours >> hour & 1 == 1)
            .find_map(|hour| {
                let start = if hour == first_hour { from % 60 } else { 0 };
                let left = self.minutes >> start;
                (left != 0).then(|| hour * 60 + start + u64::from(left.trailing_zeros()))
            })
    }

    fn has_day(&self, day: u64) -> bool {
        let (month, number) = month_and_day(day);
        // The first day of 1970 was a Thursday.
        let weekday = (day + 4) % 7;
        let by_number = self.days >> number & 1 == 1;
        let by_weekday = self.weekdays >> weekday & 1 == 1;
        let is_day = match self.rule {
            DayRule::Both => by_number && by_weekday,
            DayRule::Either => by_number || by_weekday,
        };
        is_day && self.months >> month & 1 == 1
    }
}

impl Field {
    /// The values as bits.
    fn read(&self, text: &str) -> Result<u64, CronError> {
        let mut bits = 0;
        for part in text.split(',') {
            let read = self.part(part).ok_or_else(|| CronError::Field {
                field: self.name,
                text: text.to_owned(),
                allowed: self.allowed,
            })?;
            bits |= read;
        }
        Ok(bits)
    }

    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.first, self.last),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if step.is_some() => (self.value(range)?, self.last),
            None => (self.value(range)?, self.value(range)?),
        };
        if first > last {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        Some(
            (first..=last)
                .step_by(step)
                .fold(0, |bits, value| bits | 1 << value),
        )
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        let value = match named {
            Some(place) => self.first + u32::try_from(place).ok()?,
            None => number(text)?,
        };
        (self.first..=self.last).contains(&value).then_some(value)
    }
}

/// Digits alone, few enough.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Month and day of the month, counted from 1, of a day counted from 1970.
fn month_and_day(day: u64) -> (u64, u64) {
    // Days since the first of March of year 0, so that a leap day ends its year.
    let day = day + 719_468;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let number = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (month, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01 00:00 UTC, a Sunday.
    const MARCH: u64 = 20_513 * DAY_MS;

    #[track_caller]
    fn check(text: &str, after: u64, minutes_later: u64) {
        let cron = Cron::parse(text).expect("a valid expression");
        let next = cron.next_after(after).expect("it matches again");
        assert_eq!(next - MARCH, minutes_later * MINUTE_MS, "{text}");
        assert!(next > after);
    }

    #[test]
    fn the_next_match_is_found() {
        check("* * * * *", MARCH, 1);
        check("* * * * *", MARCH - 1, 0);
        check("*/15 * * * *", MARCH + 1, 15);
        check("5 0 * * *", MARCH + 5 * MINUTE_MS, 24 * 60 + 5);
        check("30 8-10 * * *", MARCH, 8 * 60 + 30);
        check("30 8-10 * * *", MARCH + 9 * 60 * MINUTE_MS, 9 * 60 + 30);
        check("0 12 * * MON-fri", MARCH, (24 + 12) * 60);
        check("0 0 * * 7", MARCH, 7 * 24 * 60);
        check("0 0 1 apr *", MARCH, 31 * 24 * 60);
        check("0 0 31 * *", MARCH, 30 * 24 * 60);
        check("10/20 * * * *", MARCH, 10);
        check("59 23 31 12 *", MARCH, 305 * 24 * 60 + 23 * 60 + 59);
    }

    #[test]
    fn either_day_matches_when_both_are_restricted() {
        check("0 0 13 * FRI", MARCH, 5 * 24 * 60);
        check("0 0 3 * FRI", MARCH, 2 * 24 * 60);
    }

    #[test]
    fn a_leap_day_comes() {
        let cron = Cron::parse("0 0 29 2 *").expect("a valid expression");
        let next = cron.next_after(MARCH).expect("in 2028");
        assert_eq!(month_and_day(next / DAY_MS), (2, 29));
        assert_eq!((next - MARCH) / DAY_MS, 730);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Cron::parse(text).map_err(|error| error.to_string());
        assert_eq!(
            error("* * *"),
            Err(
                "cron expression has 3 fields; it takes five: minute hour day month weekday"
                    .to_owned()
            )
        );
        assert_eq!(
            error("60 * * * *"),
            Err("cron expression has an invalid minute `60`; allowed are 0 to 59".to_owned())
        );
        for wrong in [
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "-1 * * * *",
            "1,, * * * *",
            "+1 * * * *",
        ] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Cron::parse("0 0 31 2 *"), Err(CronError::Never));
    }
}
