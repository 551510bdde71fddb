//! When it is a message's turn: the order of a queue in one key.

use quorate_message::MessagePosition;
use quorate_message::limits::PRIORITY_MAX;

/// A message's place in the order of its queue: higher priorities first, and by position within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// How far below the highest priority.
    behind: u8,
    position: MessagePosition,
}

impl Turn {
    /// The turn of a message. A priority beyond the highest counts as that.
    pub(crate) fn new(priority: u8, position: MessagePosition) -> Self {
        Self {
            behind: PRIORITY_MAX.saturating_sub(priority),
            position,
        }
    }

    pub(crate) fn priority(self) -> u8 {
        PRIORITY_MAX - self.behind
    }

    pub(crate) fn position(self) -> MessagePosition {
        self.position
    }

    /// Right behind this turn, for ranges.
    pub(crate) fn next(self) -> Self {
        Self {
            behind: self.behind,
            position: self.position.next(),
        }
    }
}

impl Default for Turn {
    /// No message comes before it.
    fn default() -> Self {
        Self::new(PRIORITY_MAX, MessagePosition::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_priority_goes_first_and_then_the_older_message() {
        let at = |entry| MessagePosition::new(entry, 0);
        let ordered = [
            Turn::default(),
            Turn::new(9, at(7)),
            Turn::new(4, at(1)),
            Turn::new(4, at(2)),
            Turn::new(0, at(1)),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b));
        assert_eq!((ordered[1].priority(), ordered[1].position()), (9, at(7)));
    }
}
