//! The two clocks of a step.

/// What the time is: by a clock that only runs forward, for deadlines, and by the wall, for what messages say of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// Microseconds.
    pub micros: u64,
    /// Milliseconds since 1970.
    pub stamp_ms: u64,
}
