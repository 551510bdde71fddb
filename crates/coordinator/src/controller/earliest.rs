//! The earliest of many deadlines, so that not all of them are looked at with every input: an election of hundreds of
//! shards is more than a thousand inputs, and each would look at hundreds of deadlines.

use quorate_replication::Time;

/// A moment at or before the earliest deadline. Deadlines that were moved or dropped may leave it too early, never too
/// late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Earliest(Time);

impl Earliest {
    /// No deadline is known.
    pub(super) fn none() -> Self {
        Self(Time(u64::MAX))
    }

    /// Takes in a deadline that is new or was moved.
    pub(super) fn note(&mut self, deadline: Option<Time>) {
        if let Some(deadline) = deadline {
            self.0 = self.0.min(deadline);
        }
    }

    /// Whether a deadline may be due.
    pub(super) fn is_due(self, now: Time) -> bool {
        self.0 <= now
    }
}

impl FromIterator<Time> for Earliest {
    /// The earliest of all deadlines that there are.
    fn from_iter<T: IntoIterator<Item = Time>>(deadlines: T) -> Self {
        let mut earliest = Self::none();
        for deadline in deadlines {
            earliest.note(Some(deadline));
        }
        earliest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_with_the_earliest_deadline_until_it_is_made_anew() {
        let mut earliest = Earliest::none();
        assert!(!earliest.is_due(Time(u64::MAX - 1)));
        for deadline in [Some(Time(7)), None, Some(Time(9))] {
            earliest.note(deadline);
        }
        assert!(!earliest.is_due(Time(6)));
        assert!(earliest.is_due(Time(7)));
        earliest = [Time(9)].into_iter().collect();
        assert!(!earliest.is_due(Time(8)));
    }
}
