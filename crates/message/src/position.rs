//! Where a stored message is: the name under which it is settled, for as long as it exists.

use std::fmt;

use crate::limits::{BATCH_COMMANDS_MAX, ENTRY_MAX};

/// The place of a message in its shard, one number:
///
/// ```text
///  63 62         10 9      0
/// +--+-------------+--------+
/// | 0|  log entry  | ordinal|   persistent: the command `ordinal` of the log's entry
/// +--+-------------+--------+
/// | 1| epoch 62..40 | count  |   non-persistent: leader's memory, counted within its epoch
/// +--+--------------+-------+
/// ```
///
/// Persistent positions sort in the order of the log. The epoch (its low 23 bits) keeps a settlement that was meant
/// for an earlier leader from hitting a message of the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePosition(u64);

const TRANSIENT: u64 = 1 << 63;
const ORDINAL_BITS: u32 = 10;
const COUNT_BITS: u32 = 40;
const EPOCH_MASK: u64 = (1 << 23) - 1;

impl MessagePosition {
    /// How many non-persistent messages one leader can number in one epoch.
    pub const TRANSIENT_MAX: u64 = 1 << COUNT_BITS;

    /// The position of the command `ordinal` of the log's `entry`.
    ///
    /// # Panics
    /// When a part exceeds its bound; a log cannot reach it.
    #[must_use]
    pub fn new(entry: u64, ordinal: u16) -> Self {
        assert!(
            entry <= ENTRY_MAX,
            "entry {entry} exceeds what a position can hold"
        );
        assert!(
            usize::from(ordinal) < BATCH_COMMANDS_MAX,
            "ordinal {ordinal} exceeds a batch"
        );
        Self(entry << ORDINAL_BITS | u64::from(ordinal))
    }

    /// The position of the non-persistent message that the leader of `epoch` counted as `count`.
    ///
    /// # Panics
    /// When `count` reaches [`Self::TRANSIENT_MAX`].
    #[must_use]
    pub fn transient(epoch: u64, count: u64) -> Self {
        assert!(
            count < Self::TRANSIENT_MAX,
            "an epoch numbers fewer non-persistent messages"
        );
        Self(TRANSIENT | (epoch & EPOCH_MASK) << COUNT_BITS | count)
    }

    /// The position as the number that goes over the wire.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }

    /// The position that this number names. Any number names one, though perhaps none that exists.
    #[must_use]
    pub fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// Whether the message is kept in the leader's memory only.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self.0 & TRANSIENT != 0
    }

    /// The log entry that holds the message. That of a transient position is beyond [`ENTRY_MAX`]: no entry's.
    #[must_use]
    pub fn entry(self) -> u64 {
        self.0 >> ORDINAL_BITS
    }

    /// The ordinal of the message in its entry; without meaning for a transient position.
    #[must_use]
    pub fn ordinal(self) -> u16 {
        u16::try_from(self.0 & ((1 << ORDINAL_BITS) - 1)).expect("ten bits")
    }

    /// The position right behind this one, for ranges; the last one has itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for MessagePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_transient() {
            write!(f, "t{}", self.0 & !TRANSIENT)
        } else {
            write!(f, "{}.{}", self.entry(), self.ordinal())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_sort_by_entry_then_ordinal_and_transient_last() {
        let ordered = [
            MessagePosition::new(0, 0),
            MessagePosition::new(0, 1023),
            MessagePosition::new(1, 0),
            MessagePosition::new(ENTRY_MAX, 1023),
            MessagePosition::transient(1, 0),
            MessagePosition::transient(1, 1),
            MessagePosition::transient(2, 0),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b));
        assert_eq!(MessagePosition::new(7, 3).value(), 7 * 1024 + 3);
    }

    #[test]
    fn parts_come_back() {
        let position = MessagePosition::new(ENTRY_MAX, 1023);
        assert_eq!((position.entry(), position.ordinal()), (ENTRY_MAX, 1023));
        let transient = MessagePosition::transient(u64::MAX, 5);
        assert!(transient.is_transient());
        assert!(transient.entry() > ENTRY_MAX);
    }
}
