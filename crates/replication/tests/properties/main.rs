//! Random histories of a small cluster: whatever is lost, repeated, reordered or crashed, what must never happen does
//! not; and when the faults end, the shard serves again.

mod cluster;

use cluster::{COORDINATORS, Cluster, NODES};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    Deliver {
        which: usize,
        keep: bool,
    },
    Lose {
        which: usize,
        later: bool,
    },
    Sync {
        node: usize,
        count: usize,
        tell: bool,
    },
    Crash {
        node: usize,
        survive: usize,
    },
    Start {
        node: usize,
    },
    Propose {
        node: usize,
        count: usize,
    },
    Tick {
        node: usize,
    },
    Pass {
        millis: u64,
    },
    Elect {
        by: usize,
    },
    TakeOver {
        by: usize,
    },
    TickCoordinator {
        by: usize,
    },
    Checkpoint {
        node: usize,
    },
    Calm {
        rounds: usize,
    },
    Rot {
        node: usize,
        lost: usize,
    },
}

fn happening(rot: bool) -> impl Strategy<Value = Happening> {
    let node = 0..NODES;
    let by = 0..COORDINATORS;
    let which = prop_oneof![3 => Just(0_usize), 2 => 0..64_usize];
    let lost = if rot { 0..3_usize } else { 0..1 };
    prop_oneof![
        60 => (which.clone(), prop::bool::weighted(0.1)).prop_map(|(which, keep)| Happening::Deliver { which, keep }),
        8 => (which, any::<bool>()).prop_map(|(which, later)| Happening::Lose { which, later }),
        30 => (node.clone(), 1..4_usize, prop::bool::weighted(0.8))
            .prop_map(|(node, count, tell)| Happening::Sync { node, count, tell }),
        3 => (node.clone(), 0..4_usize).prop_map(|(node, survive)| Happening::Crash { node, survive }),
        12 => node.clone().prop_map(|node| Happening::Start { node }),
        20 => (node.clone(), 1..4_usize).prop_map(|(node, count)| Happening::Propose { node, count }),
        8 => node.clone().prop_map(|node| Happening::Tick { node }),
        8 => (1..400_u64).prop_map(|millis| Happening::Pass { millis }),
        3 => by.clone().prop_map(|by| Happening::Elect { by }),
        1 => by.clone().prop_map(|by| Happening::TakeOver { by }),
        4 => by.prop_map(|by| Happening::TickCoordinator { by }),
        3 => node.clone().prop_map(|node| Happening::Checkpoint { node }),
        10 => (1..6_usize).prop_map(|rounds| Happening::Calm { rounds }),
        2 => (node, lost).prop_map(|(node, lost)| Happening::Rot { node, lost }),
    ]
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    match *happening {
        Happening::Deliver { which, keep } => cluster.deliver(which, keep),
        Happening::Lose { which, later } => cluster.lose(which, later),
        Happening::Sync { node, count, tell } => cluster.sync(node, count, tell),
        Happening::Crash { node, survive } => cluster.crash(node, survive),
        Happening::Start { node } => cluster.start(node),
        Happening::Propose { node, count } => cluster.propose(node, count),
        Happening::Tick { node } => cluster.tick(node),
        Happening::Pass { millis } => cluster.pass(millis),
        Happening::Elect { by } => cluster.elect(by),
        Happening::TakeOver { by } => cluster.take_over(by),
        Happening::TickCoordinator { by } => cluster.tick_coordinator(by),
        Happening::Checkpoint { node } => cluster.checkpoint(node),
        Happening::Calm { rounds } => cluster.calm(rounds, 20),
        Happening::Rot { node, lost } => cluster.rot(node, lost),
    }
}

/// The faults end: all nodes run, one coordinator is active.
fn recover(cluster: &mut Cluster) -> Option<usize> {
    for node in 0..NODES {
        cluster.start(node);
    }
    cluster.coordinators[1] = None;
    cluster.calm(30, 20);
    cluster.take_over(0);
    cluster.calm(400, 20);
    cluster.serving()
}

/// Demands that a fresh proposal is committed, and that every replica gets the whole log and counts again.
fn demand_progress(cluster: &mut Cluster) {
    let stuck = |cluster: &Cluster| {
        cluster.coordinators[0]
            .as_ref()
            .and_then(|c| c.election.stuck())
    };
    let Some(leader) = recover(cluster) else {
        panic!("no leader serves: {:?}", stuck(cluster));
    };
    let commit = |cluster: &Cluster, node: usize| {
        cluster.nodes[node]
            .replica
            .as_ref()
            .expect("all are up")
            .commit()
    };
    let before = commit(cluster, leader);
    cluster.propose(leader, 2);
    cluster.calm(400, 20);
    assert!(
        commit(cluster, leader) > before,
        "a proposal was not committed"
    );
    for node in 0..NODES {
        assert_eq!(
            commit(cluster, node),
            commit(cluster, leader),
            "node {node} is behind"
        );
        let replica = cluster.nodes[node].replica.as_ref().expect("all are up");
        assert!(!replica.is_impaired(), "node {node} is not healed");
        assert_eq!(replica.durable(), replica.end().index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_committed_is_lost_and_the_shard_recovers(
        happenings in prop::collection::vec(happening(false), 100..1500),
    ) {
        let mut cluster = Cluster::new();
        cluster.elect(0);
        cluster.calm(10, 20);
        for happening in &happenings {
            happen(&mut cluster, happening);
        }
        demand_progress(&mut cluster);
    }

    /// With torn and rotten records a shard may stay without a leader, but never loses anything, and says why.
    #[test]
    fn nothing_committed_is_lost_when_logs_lose_records(
        happenings in prop::collection::vec(happening(true), 100..1500),
    ) {
        let mut cluster = Cluster::new();
        cluster.elect(0);
        cluster.calm(10, 20);
        for happening in &happenings {
            happen(&mut cluster, happening);
        }
        let serving = recover(&mut cluster).is_some();
        let known = cluster.coordinators[0].as_ref().expect("it was just made");
        prop_assert!(serving || known.election.stuck().is_some());
    }
}
