//! Messages that are unlike each other: priorities, expiries and delays, the same mixture in every run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_client::OutboundMessage;

/// Expiry of the messages that have one: none expires while a bench runs.
const EXPIRY: Duration = Duration::from_secs(3600);

/// How the messages of a producer differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    delay: Duration,
    expires_at_ms: u64,
}

impl Mix {
    /// Every tenth message is delayed by so much.
    pub(super) fn with_delay(delay: Duration) -> Self {
        let expires_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            + EXPIRY
            + delay;
        Self {
            delay,
            expires_at_ms: u64::try_from(expires_at.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Makes the producer's message of this number what it is in the mixture.
    pub(super) fn apply(&self, message: &mut OutboundMessage, number: u64) {
        // 7 and 10 have no common divisor: neighbours are far apart in priority, and every priority is as frequent.
        message.message.priority = Some((number * 7 % 10) as u32);
        if number.is_multiple_of(3) {
            message.message.expires_at_ms = self.expires_at_ms;
        }
        if number / 10 % 10 == 9 {
            message.schedule.delay = self.delay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_has_every_priority_and_its_share_of_delays() {
        let mix = Mix::with_delay(Duration::from_secs(1));
        let mut priorities = [0; 10];
        let (mut expiring, mut delayed) = (0, 0);
        for number in 0..3000 {
            let mut message = OutboundMessage::bytes("orders", "x");
            mix.apply(&mut message, number);
            priorities[message.message.priority.expect("a priority") as usize] += 1;
            expiring += u32::from(message.message.expires_at_ms > 0);
            delayed += u32::from(!message.schedule.delay.is_zero());
        }
        assert_eq!(priorities, [300; 10]);
        assert_eq!((expiring, delayed), (1000, 300));
    }
}
