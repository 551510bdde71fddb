//! Two hundred seeds on every change, with plain queues and again with the richer workload: all faults, no violation, and
//! every kind of fault and of work took effect.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_sim::cluster::{Cluster, Counts, Report};
use quorate_sim::trace::Mode;

/// Seeds in which something died or a leader changed; the others do not count.
const EVENTFUL: u64 = 200;
const THREADS: usize = 2;

#[test]
fn two_hundred_eventful_seeds_run_without_a_violation() {
    let counts = run_all(Cluster::run);
    check_counts(&counts);
}

#[test]
fn two_hundred_eventful_seeds_with_scenes_run_without_a_violation() {
    let counts = run_all(Cluster::run_scenes);
    check_counts(&counts);
    let done = [
        ("transaction committed", counts.transactions),
        ("message dead-lettered", counts.dead_letters),
        ("message to a subscription", counts.subscribed),
        ("settings changed", counts.settings),
    ];
    for (what, count) in done {
        assert!(count > 0, "never: {what}");
    }
}

/// A queue, or a topic with its subscriptions, moves from shard to shard under all faults.
#[test]
fn what_moves_runs_without_a_violation() {
    moves_run(Cluster::run_moved);
    moves_run(Cluster::run_moved_topics);
}

#[expect(
    clippy::print_stdout,
    reason = "a run that panics leaves its seed behind"
)]
fn moves_run(run: fn(u64, Mode) -> Report) {
    const SEEDS: u64 = 20;
    let mut counts = Counts::default();
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        let report = run(seed, Mode::Hash);
        assert!(report.failures.is_empty(), "{report}");
        counts.add(&report.counts);
    }
    assert!(counts.relocated > SEEDS, "{} moves", counts.relocated);
}

#[expect(
    clippy::print_stdout,
    reason = "a run that panics leaves its seed behind"
)]
fn run_all(run: fn(u64, Mode) -> Report) -> Counts {
    let next = AtomicU64::new(1);
    let reports: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    let eventful = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while eventful.load(Ordering::Relaxed) < EVENTFUL {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    println!("seed {seed}");
                    let report = run(seed, Mode::Hash);
                    eventful.fetch_add(u64::from(report.is_eventful), Ordering::Relaxed);
                    reports
                        .lock()
                        .expect("no thread panics while it adds")
                        .push(report);
                }
            });
        }
    });
    let reports = reports
        .into_inner()
        .expect("no thread panics while it adds");
    let failed: Vec<String> = reports
        .iter()
        .filter(|report| !report.failures.is_empty())
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let mut counts = Counts::default();
    for report in &reports {
        counts.add(&report.counts);
    }
    counts
}

/// A fault that never strikes tests nothing.
fn check_counts(counts: &Counts) {
    let fired = [
        ("node killed", counts.node_kills),
        ("power cut", counts.power_cuts),
        ("whole cluster without power", counts.blackouts),
        ("disk died in the middle of its work", counts.disk.cut_short),
        ("sync failed", counts.disk.failed),
        ("gateway killed", counts.gateway_kills),
        ("coordinator killed", counts.coordinator_kills),
        ("host paused", counts.pauses),
        ("network cut", counts.cuts),
        ("stream broken by a cut", counts.network.broken),
        ("datagram lost", counts.network.lost),
        ("datagram repeated", counts.network.repeated),
        ("datagram overtaken", counts.network.straggled),
        ("store out", counts.store_outages),
        ("answer of the store lost", counts.store.made_unknown),
        ("change of the store made late", counts.store.made_late),
        ("wall clock jumped", counts.clock_jumps),
        ("leadership to be moved", counts.wishes),
        ("leadership moved as planned", counts.taken_over),
        ("client killed", counts.client_kills),
        ("disk stalled", counts.disk_stalls),
        ("disk full", counts.disk.full),
        ("write torn", counts.disk.torn_files),
        ("name lost", counts.disk.lost_names),
        ("bit rotten", counts.disk.rotten),
        ("checkpoint made", counts.checkpoints),
        ("segment dropped", counts.dropped_segments),
    ];
    for (what, count) in fired {
        assert!(count > 0, "never: {what}");
    }
}
