//! The one source of randomness: a small generator of our own, so that a seed means the same run for ever.
//!
//! xoshiro256** (Blackman and Vigna), seeded through `splitmix64`. Nothing in the simulator draws from anywhere else, and
//! whoever may be added or removed without changing the draws of the others gets a generator of its own by [`Rng::fork`].

/// A generator; the same seed gives the same numbers on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator that depends on the seed alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed;
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            finish(mixed)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    /// A generator of its own for one part, which takes one number from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.word())
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "a draw needs at least one outcome");
        // The bias of the remainder is below 2^-40 for the small ranges that are drawn here.
        self.word() % end
    }

    /// A number from `first` to `last`, both possible.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// An index into a sequence of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("smaller than a length")
    }

    /// True in `part` of `whole` cases.
    pub fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.below(whole) < part
    }

    /// One of the values; none of an empty sequence.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            None
        } else {
            let at = self.index(from.len());
            from.get(at)
        }
    }

    /// Brings the values into a random order.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            let other = self.index(last + 1);
            values.swap(last, other);
        }
    }

    /// A span with many short and few long values: the product of two draws, at most `max`.
    pub fn short(&mut self, max: u64) -> u64 {
        let first = self.below(1_024);
        let second = self.below(1_024);
        max.saturating_mul(first).saturating_mul(second) >> 20
    }
}

/// Mixes one word so that every bit depends on every bit; also used for digests of payloads.
#[must_use]
pub fn finish(word: u64) -> u64 {
    let mut mixed = word;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut rng = Rng::new(42);
        let drawn = [rng.word(), rng.word(), rng.word()];
        assert_eq!(
            drawn,
            [
                1_546_998_764_402_558_742,
                6_990_951_692_964_543_102,
                12_544_586_762_248_559_009
            ]
        );
    }

    #[test]
    fn ranges_are_kept_and_reached() {
        let mut rng = Rng::new(7);
        let mut seen = [0_u32; 4];
        for _ in 0..4_000 {
            let drawn = usize::try_from(rng.between(3, 6)).unwrap();
            seen[drawn - 3] += 1;
        }
        assert!(seen.iter().all(|count| *count > 800), "{seen:?}");
    }

    #[test]
    fn a_shuffle_keeps_every_value() {
        let mut values: Vec<u32> = (0..100).collect();
        Rng::new(1).shuffle(&mut values);
        assert_ne!(values, (0..100).collect::<Vec<_>>());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    }
}
