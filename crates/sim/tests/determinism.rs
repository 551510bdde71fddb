//! One seed is one run: the same trace, the same counts, the same end.

use quorate_sim::cluster::Cluster;
use quorate_sim::trace::Mode;

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=12 {
        let first = Cluster::run(seed, Mode::Hash);
        let second = Cluster::run(seed, Mode::Tail);
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.counts, second.counts, "seed {seed}");
        assert_eq!(first.virtual_us, second.virtual_us, "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_run() {
    let hashes: std::collections::BTreeSet<u64> = (1..=12)
        .map(|seed| Cluster::run(seed, Mode::Hash).hash)
        .collect();
    assert_eq!(hashes.len(), 12);
}
