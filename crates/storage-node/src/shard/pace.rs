//! The stamps of a leader: the wall clock, which may be set by whoever may set clocks, at a pace at which messages
//! neither expire early nor stand still.
//!
//! A leader's stamps begin with its wall clock. From there on they go as time goes, a little faster while the wall clock
//! is ahead and slower while it is behind. A clock that was set forward and stays there is followed only after a while,
//! and only if the coordinator finds that it agrees with those of most nodes: by then a leader whose clock is wrong leads
//! no longer if another can. One that leads all the same goes by the others' clocks, as far as the coordinator told them.

use quorate_replication::{Stamp, Time};

use super::input::{Clock, ClockJudgement};
use crate::limits::{CLOCK_CATCH_UP, CLOCK_FALL_BACK, CLOCK_LEAP, CLOCK_LEAP_AFTER};

/// Where the stamps are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The time of the last step, in microseconds, and the stamp then, in microseconds too.
    at: u64,
    stamp: u64,
    judgement: ClockJudgement,
    /// Since when the wall clock, which agrees with others, is far ahead of the stamps.
    ahead_since: Option<u64>,
}

impl Pace {
    /// What the coordinator thinks of this node's wall clock.
    pub(super) fn judged(&mut self, judgement: ClockJudgement) {
        self.judgement = judgement;
    }

    /// The clock of a step of a replica that leads or does not.
    pub(super) fn clock(&mut self, now: Clock, is_leading: bool) -> Clock {
        let Time(time) = now.time;
        let wall = self.corrected(now.stamp).saturating_mul(1_000);
        let passed = time.saturating_sub(self.at);
        self.at = time;
        self.stamp = if !is_leading || self.may_leap(time, wall) {
            wall
        } else {
            let least = self.stamp.saturating_add(passed / CLOCK_FALL_BACK);
            let most = self.stamp.saturating_add(passed + passed / CLOCK_CATCH_UP);
            wall.clamp(least, most)
        };
        Clock {
            time: now.time,
            stamp: Stamp(self.stamp / 1_000),
        }
    }

    /// The stamp of the last step.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp(self.stamp / 1_000)
    }

    /// What the wall clock would show if it were right.
    fn corrected(&self, stamp: Stamp) -> u64 {
        match self.judgement {
            ClockJudgement::Off { ahead_ms } => {
                stamp.0.saturating_add_signed(ahead_ms.saturating_neg())
            }
            ClockJudgement::Unknown | ClockJudgement::Agrees => stamp.0,
        }
    }

    fn may_leap(&mut self, time: u64, wall: u64) -> bool {
        let is_ahead = wall > self.stamp.saturating_add(CLOCK_LEAP.0);
        if !is_ahead || self.judgement != ClockJudgement::Agrees {
            self.ahead_since = None;
            return false;
        }
        let since = *self.ahead_since.get_or_insert(time);
        let is_time = time.saturating_sub(since) >= CLOCK_LEAP_AFTER.0;
        if is_time {
            self.ahead_since = None;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leader whose wall clock is ahead by so much while so many milliseconds pass, in steps.
    struct Leader {
        pace: Pace,
        millis: u64,
    }

    impl Leader {
        fn new() -> Self {
            let mut leader = Self {
                pace: Pace::default(),
                millis: 1_000_000,
            };
            let now = leader.now(0);
            assert_eq!(leader.pace.clock(now, false), now);
            leader
        }

        fn now(&self, ahead_ms: i64) -> Clock {
            Clock {
                time: Time(self.millis * 1_000),
                stamp: Stamp(self.millis.saturating_add_signed(ahead_ms)),
            }
        }

        /// How far the stamps are ahead of the time that passed.
        fn lead(&mut self, millis: u64, ahead_ms: i64) -> i64 {
            let mut stamp = Stamp(0);
            for _ in 0..millis / 10 {
                self.millis += 10;
                stamp = self.pace.clock(self.now(ahead_ms), true).stamp;
            }
            stamp.0.cast_signed() - self.millis.cast_signed()
        }
    }

    #[test]
    fn stamps_are_the_wall_clock_while_that_goes_as_time_does() {
        let mut leader = Leader::new();
        assert_eq!(leader.lead(100_000, 0), 0);
    }

    #[test]
    fn a_clock_that_jumps_forward_is_caught_up_with_slowly() {
        let mut leader = Leader::new();
        assert_eq!(leader.lead(1_000, 3_600_000), 125);
        assert_eq!(leader.lead(1_000, 3_600_000), 250);
        // Set right again: the stamps wait for it.
        assert_eq!(leader.lead(1_000, 0), 0);
        assert_eq!(leader.lead(8_000, 1_000), 1_000);
    }

    #[test]
    fn a_clock_that_is_set_back_slows_the_stamps_down() {
        let mut leader = Leader::new();
        assert_eq!(leader.lead(1_000, -3_600_000), -500);
        assert_eq!(leader.lead(1_000, -3_600_000), -1_000);
        assert_eq!(leader.lead(1_000, 0), -875);
    }

    #[test]
    fn a_jump_that_others_made_as_well_is_followed_after_a_while() {
        let mut leader = Leader::new();
        leader.pace.judged(ClockJudgement::Agrees);
        assert!(leader.lead(9_900, 3_600_000) < 1_300);
        assert_eq!(leader.lead(200, 3_600_000), 3_600_000);
        assert!(leader.lead(9_900, 7_200_000) < 3_602_000);
        leader.pace.judged(ClockJudgement::Unknown);
        assert!(leader.lead(20_000, 7_200_000) < 3_610_000);
    }

    #[test]
    fn a_clock_that_is_known_to_be_off_is_corrected() {
        let mut leader = Leader::new();
        leader.lead(2_000, 60_000);
        leader.pace.judged(ClockJudgement::Off { ahead_ms: 60_000 });
        assert_eq!(leader.lead(1_000, 60_000), 0);
        assert_eq!(leader.lead(100_000, 60_000), 0);
    }
}
