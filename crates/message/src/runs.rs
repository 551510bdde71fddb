//! Positions side by side, in the body of a command.
//!
//! ```text
//! each run: first u64, count u32, little-endian
//! ```
//! Runs ascend and neither touch nor overlap, so that a set of positions has one encoding.

use bytes::Bytes;

use crate::MessagePosition;

/// Length of one run.
pub(crate) const RUN_BYTES: usize = 12;

/// A checked set of positions, in runs. Cloning shares the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(Bytes);

impl Runs {
    /// The runs of these positions, in whatever order they come.
    #[must_use]
    pub fn of(positions: impl IntoIterator<Item = MessagePosition>) -> Self {
        let mut values: Vec<u64> = positions.into_iter().map(MessagePosition::value).collect();
        values.sort_unstable();
        values.dedup();
        let mut bytes = Vec::new();
        for run in values.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            for part in run.chunks(u32::MAX as usize) {
                let count = u32::try_from(part.len()).expect("chunked to fit");
                bytes.extend_from_slice(&part[0].to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        Self(bytes.into())
    }

    /// These ranges, from the first to the last position of each: ascending, and neither touching nor overlapping.
    ///
    /// # Panics
    /// When a range has more than `u32::MAX` positions.
    #[must_use]
    pub fn of_ranges(ranges: impl IntoIterator<Item = (MessagePosition, MessagePosition)>) -> Self {
        let mut bytes = Vec::new();
        for (first, last) in ranges {
            let count = u32::try_from(last.value() - first.value() + 1);
            let count = count.expect("a range has at most `u32::MAX` positions");
            bytes.extend_from_slice(&first.value().to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        Self(bytes.into())
    }

    /// Checks bytes; none when they are no runs, or hold a position of the other mode than `is_transient`.
    pub(crate) fn parse(bytes: Bytes, is_transient: bool) -> Option<Self> {
        let (runs, rest) = bytes.as_chunks::<RUN_BYTES>();
        let mut end = None;
        for run in runs {
            let (first, count) = read(run);
            let last = first.checked_add(u64::from(count).checked_sub(1)?)?;
            let is_of_mode = |value| MessagePosition::from_value(value).is_transient();
            if is_of_mode(first) != is_transient || is_of_mode(last) != is_transient {
                return None;
            }
            if end.is_some_and(|end: u64| first <= end.saturating_add(1)) {
                return None;
            }
            end = Some(last);
        }
        rest.is_empty().then_some(Self(bytes))
    }

    /// The runs: first and last position of each, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (MessagePosition, MessagePosition)> + '_ {
        let (runs, _) = self.0.as_chunks::<RUN_BYTES>();
        runs.iter().map(|run| {
            let (first, count) = read(run);
            let last = first + u64::from(count) - 1;
            (
                MessagePosition::from_value(first),
                MessagePosition::from_value(last),
            )
        })
    }

    /// Whether no position is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of the body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

fn read(run: &[u8; RUN_BYTES]) -> (u64, u32) {
    let (first, count) = run.split_first_chunk().expect("twelve bytes");
    let count = count.first_chunk().expect("four bytes are left");
    (u64::from_le_bytes(*first), u32::from_le_bytes(*count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[u64]) -> Runs {
        Runs::of(values.iter().copied().map(MessagePosition::from_value))
    }

    #[test]
    fn neighbours_share_a_run_whatever_the_order() {
        let runs = set(&[7, 3, 5, 4, 4, 9, 8]);
        let read: Vec<_> = runs.iter().map(|(a, b)| (a.value(), b.value())).collect();
        assert_eq!(read, [(3, 5), (7, 9)]);
        assert_eq!(Runs::parse(runs.bytes().clone(), false), Some(runs));
    }

    #[test]
    fn what_is_no_canonical_set_is_refused() {
        let good = set(&[3, 4, 9]);
        let touching = [&set(&[3]).bytes()[..], &set(&[4]).bytes()[..]].concat();
        let empty_run = [&3_u64.to_le_bytes()[..], &0_u32.to_le_bytes()[..]].concat();
        for bytes in [&good.bytes()[1..], &touching[..], &empty_run[..]] {
            assert_eq!(Runs::parse(Bytes::copy_from_slice(bytes), false), None);
        }
        assert_eq!(Runs::parse(good.bytes().clone(), true), None);
    }
}
