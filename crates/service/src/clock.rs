//! The two clocks that the shells read and the machines only ever get as arguments.
//!
//! The monotonic clock goes on while the machine sleeps (`CLOCK_BOOTTIME`): a lease must run out during a suspend.
//! The wall clock stamps messages for people; no decision about leadership depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Returns microseconds since the machine started, sleep included. Never goes back.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).expect("the time since boot is not negative");
    let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are not negative");
    seconds * 1_000_000 + nanos / 1_000
}

/// Returns milliseconds of wall-clock time since 1970; 0 if the clock is set before that.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_is_the_kernels_uptime_and_does_not_go_back() {
        let first = monotonic_micros();
        let uptime = std::fs::read_to_string("/proc/uptime").expect("proc is mounted");
        let second = monotonic_micros();
        assert!(first <= second);
        let uptime: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("the first field is seconds");
        // /proc/uptime is rounded to a hundredth.
        let tolerance = 0.02;
        assert!(
            (first as f64 / 1e6) - tolerance <= uptime
                && uptime <= (second as f64 / 1e6) + tolerance
        );
    }

    #[test]
    fn wall_time_is_after_2020() {
        assert!(wall_ms() > 1_577_836_800_000);
    }
}
