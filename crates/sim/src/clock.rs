//! The clocks of a host: a monotonic one that drifts, and a wall clock that is wrong and jumps.

use quorate_replication::{Stamp, Time};

use crate::schedule::Moment;

/// Wall time at the start of every run, in milliseconds since 1970.
const START_MS: u64 = 1_700_000_000_000;
/// How fast a clock may be wrong: parts per million, beyond what any crystal does.
pub const DRIFT_PPM_MAX: u64 = 2_000;

/// One host's clocks, derived from the simulation's time.
#[derive(Clone, Debug)]
pub struct HostClock {
    /// What the monotonic clock showed at the start of the run: no two hosts agree on it.
    start: u64,
    /// Microseconds gained in a second; may be negative.
    drift_ppm: i64,
    /// Error of the wall clock in milliseconds.
    wall_error_ms: i64,
}

impl HostClock {
    /// Clocks with this start, this drift and this error of the wall clock.
    #[must_use]
    pub fn new(start: u64, drift_ppm: i64, wall_error_ms: i64) -> Self {
        Self {
            start,
            drift_ppm,
            wall_error_ms,
        }
    }

    /// The monotonic clock; it runs on while the host is paused.
    #[must_use]
    pub fn time(&self, now: Moment) -> Time {
        let gained = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        let shown = i128::from(now) + gained + i128::from(self.start);
        Time(u64::try_from(shown).expect("the drift is far below the time itself"))
    }

    /// The wall clock.
    #[must_use]
    pub fn stamp(&self, now: Moment) -> Stamp {
        Stamp((START_MS + now / 1_000).saturating_add_signed(self.wall_error_ms))
    }

    /// The moment at which the monotonic clock shows at least `time`.
    #[must_use]
    pub fn moment_of(&self, time: Time) -> Moment {
        let span = i128::from(time.0) - i128::from(self.start);
        if span <= 0 {
            return 0;
        }
        let moment = span * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        let mut moment = u64::try_from(moment.max(0)).unwrap_or(u64::MAX);
        while self.time(moment) < time {
            moment += 1;
        }
        moment
    }

    /// Moves the wall clock.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_error_ms += by_ms;
    }
}

#[cfg(test)]
mod tests {
    use quorate_replication::Time;

    use super::HostClock;

    #[test]
    fn a_deadline_is_reached_at_the_moment_that_is_named_for_it() {
        for drift in [-2_000, -1, 0, 1, 2_000] {
            let clock = HostClock::new(123_456, drift, 0);
            for target in [0_u64, 1, 123_456, 123_457, 200_000, 99_999_999] {
                let moment = clock.moment_of(Time(target));
                assert!(
                    clock.time(moment) >= Time(target),
                    "drift {drift} target {target}"
                );
                assert!(
                    moment == 0 || clock.time(moment - 1) < Time(target),
                    "drift {drift} target {target}: {moment} is not the first"
                );
            }
        }
    }
}
