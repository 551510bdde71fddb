//! The properties by which ActiveMQ's clients have a message delivered later, as a schedule.
//!
//! | property | |
//! |---|---|
//! | `AMQ_SCHEDULED_DELAY` | milliseconds until the first delivery; if absent or 0, the period |
//! | `AMQ_SCHEDULED_PERIOD` | milliseconds between two deliveries |
//! | `AMQ_SCHEDULED_REPEAT` | deliveries after the first; -1: without end |
//! | `AMQ_SCHEDULED_CRON` | a cron expression; stands alone |

use quorate_message::Schedule;
use quorate_wire::openwire::Value;

use super::Refusal;

const DELAY: &str = "AMQ_SCHEDULED_DELAY";
const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";
const CRON: &str = "AMQ_SCHEDULED_CRON";

/// The property that a message has which was delivered by a schedule.
pub(super) const JOB_PROPERTY: &str = "scheduledJobId";

/// What clients say for repeats without end.
const WITHOUT_END: i64 = -1;

/// What a message's properties say of its schedule.
#[derive(Debug, Default)]
pub(super) struct Timing {
    delay_ms: u64,
    period_ms: u64,
    repeat: i64,
    cron: String,
}

impl Timing {
    /// Takes a property that is about the schedule; any other is not taken.
    pub(super) fn take(&mut self, name: &str, value: &Value) -> Result<bool, Refusal> {
        match name {
            DELAY => self.delay_ms = milliseconds(DELAY, value)?,
            PERIOD => self.period_ms = milliseconds(PERIOD, value)?,
            REPEAT => {
                let repeat = number(REPEAT, value)?;
                let is_number = (WITHOUT_END..i64::from(u32::MAX)).contains(&repeat);
                self.repeat = is_number
                    .then_some(repeat)
                    .ok_or_else(|| refused(REPEAT, value))?;
            }
            CRON => match value {
                Value::Text(text) => text.trim().clone_into(&mut self.cron),
                Value::Null => {}
                Value::Boolean(_)
                | Value::Byte(_)
                | Value::Char(_)
                | Value::Short(_)
                | Value::Int(_)
                | Value::Long(_)
                | Value::Double(_)
                | Value::Float(_)
                | Value::Bytes(_)
                | Value::Map(_)
                | Value::List(_) => return Err(refused(CRON, value)),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The schedule. None when the message is to be delivered at once; a number of repeats alone says nothing.
    pub(super) fn schedule(self) -> Result<Option<Box<Schedule>>, Refusal> {
        let Self {
            delay_ms,
            period_ms,
            repeat,
            cron,
        } = self;
        if delay_ms == 0 && period_ms == 0 && cron.is_empty() {
            return Ok(None);
        }
        let repeat = match repeat {
            WITHOUT_END => Schedule::FOREVER,
            repeat => u32::try_from(repeat).expect("checked when it was taken"),
        };
        let schedule = Schedule {
            delay_ms: if delay_ms == 0 { period_ms } else { delay_ms },
            // A message that comes once has no period, whatever was set.
            period_ms: if repeat == 0 { 0 } else { period_ms },
            repeat,
            cron,
        };
        schedule.check()?;
        Ok(Some(Box::new(schedule)))
    }
}

fn milliseconds(name: &'static str, value: &Value) -> Result<u64, Refusal> {
    u64::try_from(number(name, value)?).map_err(|_| refused(name, value))
}

/// Clients take the number from whatever can be converted to it.
fn number(name: &'static str, value: &Value) -> Result<i64, Refusal> {
    match value {
        Value::Null => Ok(0),
        Value::Byte(number) => Ok(i64::from(*number)),
        Value::Short(number) => Ok(i64::from(*number)),
        Value::Int(number) => Ok(i64::from(*number)),
        Value::Long(number) => Ok(*number),
        Value::Text(text) => text.trim().parse().map_err(|_| refused(name, value)),
        Value::Boolean(_)
        | Value::Char(_)
        | Value::Double(_)
        | Value::Float(_)
        | Value::Bytes(_)
        | Value::Map(_)
        | Value::List(_) => Err(refused(name, value)),
    }
}

/// Characters of a value that an error shows.
const SHOWN_CHARACTERS: usize = 64;

fn refused(name: &'static str, value: &Value) -> Refusal {
    let value = format!("{value:?}")
        .chars()
        .take(SHOWN_CHARACTERS)
        .collect();
    Refusal::ScheduleProperty { name, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: &[(&str, Value)]) -> Result<Option<Schedule>, String> {
        let mut timing = Timing::default();
        for (name, value) in properties {
            let is_taken = timing
                .take(name, value)
                .map_err(|error| error.to_string())?;
            assert!(is_taken, "{name}");
        }
        let schedule = timing.schedule().map_err(|error| error.to_string())?;
        Ok(schedule.map(|schedule| *schedule))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn properties_make_a_schedule() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(REPEAT, Value::Int(3))]), Ok(None));
        assert_eq!(read(&[(DELAY, Value::Long(0))]), Ok(None));
        assert_eq!(
            read(&[(DELAY, Value::Long(50))]),
            Ok(Some(Schedule::after(50)))
        );
        assert_eq!(read(&[(DELAY, text("50"))]), Ok(Some(Schedule::after(50))));
        assert_eq!(
            read(&[(DELAY, Value::Int(50)), (PERIOD, Value::Long(9))]),
            Ok(Some(Schedule::after(50)))
        );
        let repeated = |delay_ms, repeat| Schedule {
            delay_ms,
            period_ms: 9,
            repeat,
            cron: String::new(),
        };
        assert_eq!(
            read(&[(PERIOD, Value::Long(9)), (REPEAT, Value::Int(2))]),
            Ok(Some(repeated(9, 2)))
        );
        assert_eq!(
            read(&[
                (DELAY, Value::Short(5)),
                (PERIOD, Value::Byte(9)),
                (REPEAT, Value::Int(-1))
            ]),
            Ok(Some(repeated(5, Schedule::FOREVER)))
        );
        let cron = Schedule {
            cron: "0 8 * * *".to_owned(),
            ..Schedule::default()
        };
        assert_eq!(read(&[(CRON, text(" 0 8 * * *"))]), Ok(Some(cron)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = |properties: &[(&str, Value)]| read(properties).expect_err("refused");
        assert_eq!(
            refused(&[(DELAY, Value::Long(-5))]),
            "property AMQ_SCHEDULED_DELAY: Long(-5) is no number that it can have"
        );
        assert!(refused(&[(PERIOD, text("soon"))]).contains("AMQ_SCHEDULED_PERIOD"));
        assert!(refused(&[(REPEAT, Value::Int(-2))]).contains("AMQ_SCHEDULED_REPEAT"));
        assert!(refused(&[(REPEAT, Value::Long(i64::MAX))]).contains("AMQ_SCHEDULED_REPEAT"));
        assert!(refused(&[(CRON, Value::Int(1))]).contains("AMQ_SCHEDULED_CRON"));
        assert!(refused(&[(CRON, text("* * *"))]).starts_with("schedule of the message: "));
        assert!(
            refused(&[(CRON, text("* * * * *")), (DELAY, Value::Long(1))]).contains("stands alone")
        );
        assert!(
            refused(&[(DELAY, Value::Long(1)), (REPEAT, Value::Int(1))]).contains("period above 0")
        );
        assert!(refused(&[(DELAY, text(&"9".repeat(100_000)))]).len() < 200);
    }

    #[test]
    fn other_properties_are_left() {
        let mut timing = Timing::default();
        assert_eq!(timing.take("AMQ_SCHEDULED", &Value::Int(1)), Ok(false));
    }
}
