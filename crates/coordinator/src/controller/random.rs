//! Numbers never used before, derived from the one seed that an activation brings.

use quorate_replication::ClaimId;

/// A counter whose values are scrambled by a bijection (SplitMix64): within one activation no number comes twice, and
/// those of two activations have nothing to do with each other.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn fresh(&mut self) -> ClaimId {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ClaimId(mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_do_not_repeat() {
        let mut first = Random::new(1);
        let mut second = Random::new(2);
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            assert!(seen.insert(first.fresh()));
            assert!(seen.insert(second.fresh()));
        }
    }
}
