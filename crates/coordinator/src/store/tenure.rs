//! How long a process may take itself for the active coordinator: by a clock of its own that runs out before the store
//! gives its place away, and through the machine's sleep.
//!
//! ```text
//! sent ---- answered                       the store gives the place away at the earliest
//!   |<------ window: 2/3 of the session ----->|..................|
//!   this process counts as active until here  |
//! ```
//! Safety does not hang on it: the store refuses the changes of whoever was replaced.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use quorate_service::clock;
use tokio::sync::watch;

/// Signs of life within the window: one or two may go unanswered.
pub(super) const SIGNS: u32 = 4;

/// Longest sleep before the clock is looked at: tokio's stands still while the machine sleeps, ours does not.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Tenure {
    /// By the clock that runs through suspension, in microseconds.
    valid_until: AtomicU64,
    has_ended: watch::Sender<bool>,
    window: Duration,
}

impl Tenure {
    /// Begins one with a sign of life that was answered, and sent at `sent` (microseconds of the monotonic clock).
    pub(super) fn new(sent: u64, window: Duration) -> Self {
        Self {
            valid_until: AtomicU64::new(sent + micros(window)),
            has_ended: watch::channel(false).0,
            window,
        }
    }

    /// The time from one sign of life to the next.
    pub(super) fn pause(&self) -> Duration {
        self.window / SIGNS
    }

    /// A sign of life that was sent at `sent` was answered.
    pub(super) fn extend(&self, sent: u64) {
        let until = sent + micros(self.window);
        self.valid_until.fetch_max(until, Ordering::AcqRel);
    }

    /// Whether this process may take itself for the active one.
    pub(super) fn is_valid(&self) -> bool {
        !*self.has_ended.borrow()
            && clock::monotonic_micros() < self.valid_until.load(Ordering::Acquire)
    }

    /// Ends it, for good.
    pub(super) fn end(&self) {
        self.has_ended.send_replace(true);
    }

    /// Waits until it is over, by whatever happens first.
    pub(super) async fn ended(&self) {
        let mut has_ended = self.has_ended.subscribe();
        while self.is_valid() {
            let left = self
                .valid_until
                .load(Ordering::Acquire)
                .saturating_sub(clock::monotonic_micros());
            let wait = Duration::from_micros(left).min(LOOK);
            tokio::select! {
                _ = has_ended.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.end();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_by_the_clock_and_stays_ended() {
        let window = Duration::from_millis(30);
        let tenure = Tenure::new(clock::monotonic_micros(), window);
        assert!(tenure.is_valid());
        tenure.ended().await;
        assert!(!tenure.is_valid());
        // A sign of life that is answered late revives nobody.
        tenure.extend(clock::monotonic_micros());
        assert!(!tenure.is_valid());
    }
}
