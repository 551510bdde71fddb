//! What the selector of a subscription came to, as the body of a command.
//!
//! ```text
//! ranges u32, late skipped u32, late selected u32: how many runs each has
//! their runs, as `runs.rs` has them
//! ```
//! A message is late where it joined the subscription by a later entry than the one that holds it: when a transaction
//! was finished. A range may span positions that are none of the subscription's, and says nothing of late ones.

use bytes::Bytes;

use crate::Runs;
use crate::reader::Reader;
use crate::runs::RUN_BYTES;

const HEAD_BYTES: usize = 12;

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// No message from the first to the last position of these is selected, those that are late left out.
    pub ranges: Runs,
    /// Late messages that are not selected.
    pub late_skipped: Runs,
    /// Late messages that are selected.
    pub late_selected: Runs,
}

impl Skipped {
    /// The encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parts = [&self.ranges, &self.late_skipped, &self.late_selected];
        let mut bytes = Vec::new();
        for part in parts {
            let runs = u32::try_from(part.bytes().len() / RUN_BYTES);
            let runs = runs.expect("far fewer than a batch has bytes");
            bytes.extend_from_slice(&runs.to_le_bytes());
        }
        for part in parts {
            bytes.extend_from_slice(part.bytes());
        }
        bytes
    }

    /// Reads what [`Skipped::encode`] wrote. None for any other bytes.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let counts = [reader.u32()?, reader.u32()?, reader.u32()?];
        let mut start = HEAD_BYTES;
        let mut part = |runs: u32| {
            let length = usize::try_from(runs).ok()?.checked_mul(RUN_BYTES)?;
            let end = start
                .checked_add(length)
                .filter(|end| *end <= bytes.len())?;
            let part = Runs::parse(bytes.slice(start..end), false);
            start = end;
            part
        };
        let [ranges, late_skipped, late_selected] = counts;
        let read = Self {
            ranges: part(ranges)?,
            late_skipped: part(late_skipped)?,
            late_selected: part(late_selected)?,
        };
        (start == bytes.len()).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessagePosition;

    #[test]
    fn what_was_skipped_comes_back_and_a_cut_one_does_not() {
        let at = MessagePosition::from_value;
        let skipped = Skipped {
            ranges: Runs::of_ranges([(at(3), at(2000)), (at(5000), at(5000))]),
            late_skipped: Runs::of([at(7), at(8)]),
            late_selected: Runs::of([at(9)]),
        };
        let bytes = Bytes::from(skipped.encode());
        assert_eq!(Skipped::decode(&bytes), Some(skipped));
        for end in 0..bytes.len() {
            assert_eq!(Skipped::decode(&bytes.slice(..end)), None, "{end}");
        }
    }
}
