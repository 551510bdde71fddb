//! A message on its way out.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto::v1;

use crate::Message;

/// A message and where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutboundMessage {
    /// `orders` or `queue://orders`, `topic://prices`, or several with commas between.
    pub destination: String,
    /// The message itself.
    pub message: Message,
    /// Kept in the leader's memory only, and lost in its crash.
    pub non_persistent: bool,
    /// A topic keeps it, in place of the one before, for those who subscribe later. An empty body clears.
    pub retained: bool,
    /// When it is delivered. By default at once.
    pub schedule: Schedule,
}

/// When a persistent message is delivered, if not at once: after a delay, repeatedly, or by a cron expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Delivered so long after it is stored.
    pub delay: Duration,
    /// Delivered again after each period; `repeat` says how often.
    pub period: Duration,
    /// Deliveries after the first; -1 for no end. Takes a period.
    pub repeat: i32,
    /// Delivered whenever this expression matches, in UTC: minute, hour, day of the month, month, day of the week. Stands
    /// alone.
    pub cron: String,
}

impl OutboundMessage {
    /// Creates a persistent message of these bytes.
    #[must_use]
    pub fn bytes(destination: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            destination: destination.into(),
            message: Message {
                body: body.into(),
                ..Message::default()
            },
            non_persistent: false,
            retained: false,
            schedule: Schedule::default(),
        }
    }

    /// Creates a persistent message of this text.
    #[must_use]
    pub fn text(destination: impl Into<String>, text: impl Into<String>) -> Self {
        let mut message = Self::bytes(destination, text.into());
        message.message.content_type = "text/plain".to_owned();
        message
    }

    pub(crate) fn numbered(self, number: u64) -> v1::OutboundMessage {
        v1::OutboundMessage {
            destination: self.destination,
            message: Some(self.message),
            number,
            non_persistent: self.non_persistent,
            retained: self.retained,
            deliver_after_ms: millis(self.schedule.delay),
            period_ms: millis(self.schedule.period),
            repeat: self.schedule.repeat,
            cron: self.schedule.cron,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
