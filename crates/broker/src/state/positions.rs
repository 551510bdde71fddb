//! Sets of positions as bytes: canonical, whatever the bitmaps look like inside, and quick, since a leader with ten
//! million messages writes them while its shard waits.
//!
//! ```text
//! for each group of 65,536 positions that is not empty, ascending:
//!     group varint, less the one before (the first: plus one)
//!     kind u8, then the smallest of these, the first of equals:
//!     1 list    count varint, each u16
//!     2 runs    count varint, each: first u16, last u16
//!     3 bitmap  1,024 words u64
//! 0 ends them
//! ```

use roaring::RoaringTreemap;

use super::codec::{Cursor, Sink};

const GROUP_BITS: u32 = 16;
const WORDS: usize = 1024;
const BITMAP_BYTES: usize = WORDS * 8;

const LIST: u8 = 1;
const RUNS: u8 = 2;
const BITMAP: u8 = 3;

/// Appends the set.
pub(super) fn encode(positions: &RoaringTreemap, sink: &mut Sink) {
    let mut last_group = None;
    let mut low = Vec::new();
    for (high, bitmap) in positions.bitmaps() {
        let base = u64::from(high) << (32 - GROUP_BITS);
        let mut current = 0;
        for value in bitmap {
            let [low_bytes @ .., _, _] = value.to_le_bytes();
            let key = value >> GROUP_BITS;
            if key != current && !low.is_empty() {
                encode_group(base + u64::from(current), &mut last_group, &low, sink);
                low.clear();
            }
            current = key;
            low.push(u16::from_le_bytes(low_bytes));
        }
        if !low.is_empty() {
            encode_group(base + u64::from(current), &mut last_group, &low, sink);
            low.clear();
        }
    }
    sink.varint(0);
}

fn encode_group(group: u64, last_group: &mut Option<u64>, low: &[u16], sink: &mut Sink) {
    sink.varint(last_group.map_or(group + 1, |last| group - last));
    *last_group = Some(group);
    let gaps = low.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    let runs = 1 + gaps.count();
    let (list_bytes, run_bytes) = (2 * low.len(), 4 * runs);
    if list_bytes <= run_bytes && list_bytes <= BITMAP_BYTES {
        sink.u8(LIST);
        sink.varint(low.len() as u64);
        low.iter()
            .for_each(|value| sink.bytes(&value.to_le_bytes()));
    } else if run_bytes <= BITMAP_BYTES {
        sink.u8(RUNS);
        sink.varint(runs as u64);
        for run in low.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            sink.bytes(&run[0].to_le_bytes());
            sink.bytes(&run[run.len() - 1].to_le_bytes());
        }
    } else {
        sink.u8(BITMAP);
        let mut words = [0_u64; WORDS];
        for value in low {
            words[usize::from(*value) / 64] |= 1 << (value % 64);
        }
        words.iter().for_each(|word| sink.u64(*word));
    }
    sink.spill();
}

/// Reads a set whose positions all lie below `end`. What it builds is bounded by what it reads.
pub(super) fn decode(cursor: &mut Cursor<'_>, end: u64) -> Option<RoaringTreemap> {
    let mut positions = RoaringTreemap::new();
    let mut last_group = None;
    loop {
        let step = cursor.varint()?;
        if step == 0 {
            break;
        }
        let group = match last_group {
            None => step - 1,
            Some(last) => step.checked_add(last)?,
        };
        last_group = Some(group);
        let base = group
            .checked_mul(1 << GROUP_BITS)
            .filter(|base| *base < end)?;
        decode_group(cursor, base, &mut positions)?;
    }
    positions.optimize();
    let is_within = positions.max().is_none_or(|last| last < end);
    is_within.then_some(positions)
}

fn decode_group(cursor: &mut Cursor<'_>, base: u64, into: &mut RoaringTreemap) -> Option<()> {
    match cursor.u8()? {
        LIST => {
            let count = bounded(cursor.varint()?)?;
            let (low, _) = cursor.take(2 * count)?.as_chunks();
            let low = low
                .iter()
                .map(|bytes| base + u64::from(u16::from_le_bytes(*bytes)));
            into.append(low).ok()?;
        }
        RUNS => {
            let count = bounded(cursor.varint()?)?;
            for _ in 0..count {
                let first = base + u64::from(u16::from_le_bytes(cursor.array()?));
                let last = base + u64::from(u16::from_le_bytes(cursor.array()?));
                if first > last || into.max().is_some_and(|max| max >= first) {
                    return None;
                }
                into.insert_range(first..=last);
            }
        }
        BITMAP => {
            let (words, _) = cursor.take(BITMAP_BYTES)?.as_chunks();
            for (word, at) in words.iter().zip((base..).step_by(64)) {
                let mut word = u64::from_le_bytes(*word);
                while word != 0 {
                    into.insert(at + u64::from(word.trailing_zeros()));
                    word &= word - 1;
                }
            }
        }
        _ => return None,
    }
    Some(())
}

/// How many lists or runs a group can have at most.
fn bounded(count: u64) -> Option<usize> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count > 0 && *count <= 1 << GROUP_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(positions: &RoaringTreemap) -> Vec<u8> {
        let mut sink = Sink::keeping();
        encode(positions, &mut sink);
        sink.into_bytes()
    }

    #[track_caller]
    fn check(positions: impl IntoIterator<Item = u64>, largest: usize) {
        let positions: RoaringTreemap = positions.into_iter().collect();
        let bytes = encoded(&positions);
        assert!(bytes.len() <= largest, "{} bytes", bytes.len());
        let mut cursor = Cursor(&bytes);
        let decoded = decode(&mut cursor, 1 << 50).expect("encoded here");
        assert!(cursor.is_empty());
        assert_eq!(decoded, positions);
        let mut squeezed = positions;
        squeezed.optimize();
        assert_eq!(encoded(&squeezed), bytes, "the same set in another shape");
        assert_eq!(encoded(&decoded), bytes);
    }

    #[test]
    fn every_shape_comes_back() {
        check([], 1);
        check([0], 10);
        check([0, 65_535, 65_536, 1 << 32, 1 << 45], 60);
        check(0..200_000, 40);
        check((0..65_536).filter(|value| value % 3 > 0), 8_300);
        check((0..1_000_000).step_by(1024), 3_000);
    }

    #[test]
    fn what_lies_beyond_the_end_is_refused() {
        let bytes = encoded(&[5_u64, 100].into_iter().collect());
        assert!(decode(&mut Cursor(&bytes), 100).is_none());
        assert!(decode(&mut Cursor(&bytes), 101).is_some());
    }
}
