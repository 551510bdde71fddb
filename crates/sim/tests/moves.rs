//! Planned moves of leaderships with nothing else going wrong: nobody notices. Half of the seeds send non-persistent
//! messages, of which not one may be lost.

use quorate_sim::cluster::{Cluster, Counts};
use quorate_sim::trace::Mode;

const SEEDS: u64 = 60;

#[test]
fn planned_moves_lose_nothing_send_nothing_twice_and_fail_no_call() {
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        let report = Cluster::run_planned(seed, Mode::Hash);
        if !report.failures.is_empty() || report.counts.failed_calls > 0 {
            failed.push(report.to_string());
        }
        counts.add(&report.counts);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        counts.taken_over > SEEDS * 3,
        "too few moves took place as planned: {}",
        counts.taken_over
    );
}
