//! What is thought of the nodes' wall clocks. The leaders' clocks stamp the entries of the log, and messages expire by
//! those stamps: a node whose clock differs from those of most should lead nothing.
//!
//! ```text
//!  Unknown --most agree with it--> Agrees --most differ, for a while--> Off
//!     +------------------most differ--------------------------------->--+
//!     +<-----neither, and it has moved-----------------------------<----+--most agree--> Agrees
//! ```
//! A reading is a node's wall clock less the clock of this coordinator at the moment at which it comes in. It can come
//! late and is then too low, never too high: one alone does not make a clock wrong that was right. What the nodes' clocks
//! show is compared with each other only. Of two that differ nobody knows which is wrong.

use quorate_replication::{Duration, Time};

use crate::limits::{CLOCK_DOUBT_MS, CLOCK_OFF_MS, CLOCK_RIGHT_MS, CLOCK_STEP_MS};

/// What is thought of a node's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockVerdict {
    /// Too few clocks are known, or no majority agrees or differs.
    #[default]
    Unknown,
    /// It agrees with those of most nodes.
    Agrees,
    /// It differs from those of most nodes.
    Off {
        /// How far it is ahead of them, in milliseconds; negative: behind.
        ahead_ms: i64,
    },
}

impl ClockVerdict {
    /// How far the clock is ahead, if it is off.
    #[must_use]
    pub fn off_ms(self) -> Option<i64> {
        match self {
            Self::Off { ahead_ms } => Some(ahead_ms),
            Self::Unknown | Self::Agrees => None,
        }
    }
}

/// A node's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeClock {
    /// In milliseconds; none: it has not said.
    pub reading_ms: Option<i64>,
    pub verdict: ClockVerdict,
    /// Since when a clock that agreed seems to differ.
    doubted_since: Option<Time>,
    /// The reading that was found to differ last, in milliseconds.
    differed_ms: Option<i64>,
}

impl NodeClock {
    /// Takes in what a node's wall clock shows; 0: it does not say. `others` are the readings of the other nodes.
    pub(super) fn read(&mut self, now: Time, wall_ms: u64, others: Vec<i64>) {
        if wall_ms == 0 {
            *self = Self::default();
            return;
        }
        let own_ms = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
        let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        let reading_ms = wall_ms - own_ms;
        self.reading_ms = Some(reading_ms);
        let found = judge(reading_ms, others, self.verdict.off_ms().is_some());
        match found.off_ms() {
            Some(_) => self.differed_ms = Some(reading_ms),
            None => self.doubted_since = None,
        }
        let last_ms = self.differed_ms;
        let has_moved = last_ms.is_none_or(|last| last.abs_diff(reading_ms) >= CLOCK_STEP_MS);
        self.verdict = match (self.verdict, found) {
            (ClockVerdict::Agrees, ClockVerdict::Off { .. }) => {
                let since = *self.doubted_since.get_or_insert(now);
                let is_sure = now.since(since) >= Duration::from_millis(CLOCK_DOUBT_MS);
                if is_sure { found } else { self.verdict }
            }
            // What everybody is told of it changes in steps.
            (ClockVerdict::Off { ahead_ms: told }, ClockVerdict::Off { ahead_ms })
                if told.abs_diff(ahead_ms) < CLOCK_STEP_MS =>
            {
                self.verdict
            }
            // Fewer clocks to compare with make none right that was off.
            (ClockVerdict::Off { .. }, ClockVerdict::Unknown) if !has_moved => self.verdict,
            (_, found) => found,
        };
    }
}

fn judge(reading_ms: i64, mut others: Vec<i64>, was_off: bool) -> ClockVerdict {
    // One that was off has to come nearer, so that it is not judged this way and that.
    let near_ms = if was_off {
        CLOCK_RIGHT_MS
    } else {
        CLOCK_OFF_MS
    };
    let is_near = |other: &i64| other.abs_diff(reading_ms) <= near_ms;
    let all = others.len() + 1;
    let agreeing = 1 + others.iter().filter(|other| is_near(other)).count();
    if 2 * agreeing > all {
        return ClockVerdict::Agrees;
    }
    if 2 * (all - agreeing) <= all {
        return ClockVerdict::Unknown;
    }
    others.sort_unstable();
    let middle = others[others.len() / 2];
    ClockVerdict::Off {
        ahead_ms: reading_ms.saturating_sub(middle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: ClockVerdict = ClockVerdict::Off { ahead_ms: 7_000 };

    fn check(reading_ms: i64, others: &[i64], was_off: bool, expected: ClockVerdict) {
        assert_eq!(judge(reading_ms, others.to_vec(), was_off), expected);
    }

    #[test]
    fn a_clock_is_off_when_most_differ_from_it() {
        check(0, &[], false, ClockVerdict::Agrees);
        check(0, &[5_000], false, ClockVerdict::Agrees);
        check(0, &[5_001], false, ClockVerdict::Unknown);
        check(7_000, &[0, 0], false, OFF);
        check(7_000, &[0, 7_000], false, ClockVerdict::Agrees);
        check(7_000, &[0, 0, 7_000], false, ClockVerdict::Unknown);
        check(7_000, &[-60_000, 0, 90_000], false, OFF);
        let behind = ClockVerdict::Off { ahead_ms: -7_000 };
        check(
            -7_000,
            &[0, 1_000],
            false,
            ClockVerdict::Off { ahead_ms: -8_000 },
        );
        check(-7_000, &[0, 0], false, behind);
        check(
            i64::MIN,
            &[i64::MAX, i64::MAX],
            false,
            ClockVerdict::Off { ahead_ms: i64::MIN },
        );
    }

    #[test]
    fn one_that_was_off_has_to_come_nearer() {
        check(4_500, &[0, 0], false, ClockVerdict::Agrees);
        check(4_500, &[0, 0], true, ClockVerdict::Off { ahead_ms: 4_500 });
        check(4_000, &[0, 0], true, ClockVerdict::Agrees);
    }

    #[test]
    fn a_clock_that_was_off_stays_so_while_nothing_tells_otherwise() {
        let mut clock = NodeClock::default();
        let mut read = |now_ms: u64, wall: u64, others: &[i64]| {
            clock.read(Time(now_ms * 1_000), wall, others.to_vec());
            clock.verdict
        };
        assert_eq!(read(1_000, 8_000, &[0, 0]), OFF);
        assert_eq!(read(2_000, 9_000, &[0]), OFF, "a node is gone");
        assert_eq!(read(3_000, 10_400, &[0]), OFF, "it drifts");
        assert_eq!(read(4_000, 4_000, &[0]), ClockVerdict::Agrees);
        assert_eq!(read(5_000, 12_000, &[0]), ClockVerdict::Unknown);
        assert_eq!(read(6_000, 13_000, &[0, 0]), OFF);
        let moved = read(7_000, 20_000, &[0]);
        assert_eq!(moved, ClockVerdict::Unknown, "it is another clock by now");
    }

    #[test]
    fn a_node_that_does_not_say_has_no_clock_to_compare_with() {
        let mut clock = NodeClock::default();
        clock.read(Time(5), 7_000, vec![0, 0]);
        clock.read(Time(6), 0, vec![0, 0]);
        assert_eq!(clock.reading_ms, None);
        assert_eq!(clock.verdict, ClockVerdict::Unknown);
    }

    #[test]
    fn a_reading_that_comes_late_makes_no_clock_wrong() {
        let mut clock = NodeClock::default();
        let at = |millis: u64| Time(millis * 1_000);
        let mut read = |now: u64, wall: u64| {
            clock.read(at(now), wall, vec![0, 0]);
            clock.verdict
        };
        assert_eq!(read(1_000, 1_000), ClockVerdict::Agrees);
        assert_eq!(read(20_000, 1_200), ClockVerdict::Agrees);
        assert_eq!(read(20_001, 20_000), ClockVerdict::Agrees);
        assert_eq!(read(20_200, 1), ClockVerdict::Agrees);
        assert_eq!(read(22_199, 2_000), ClockVerdict::Agrees);
        let off = ClockVerdict::Off { ahead_ms: -20_200 };
        assert_eq!(read(22_200, 2_000), off);
        assert_eq!(read(22_400, 2_300), off);
        assert_eq!(read(22_600, 3_600), ClockVerdict::Off { ahead_ms: -19_000 });
        assert_eq!(read(22_800, 22_800), ClockVerdict::Agrees);
    }
}
