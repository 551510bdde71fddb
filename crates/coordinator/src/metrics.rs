//! What the coordinator counts.

use std::sync::atomic::AtomicU64;

use quorate_service::{
    metrics::{Metrics, seconds_histogram},
    prometheus_client::metrics::{
        counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
    },
};

use crate::controller::{Note, Topology};

/// The metrics; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    elections: Counter,
    election_seconds: Histogram,
    deaths: Counter,
    refusals: Counter,
    nodes: Gauge,
    nodes_alive: Gauge,
    /// By the names of nodes, of which there are few.
    node_clock_off: Family<Vec<(String, String)>, Gauge>,
    shards: Gauge,
    shards_leaderless: Gauge,
    gateways: Gauge,
    active: Gauge,
    moves: Counter,
    moves_failed: Counter,
    pub(crate) store_seconds: Histogram,
    pub(crate) store_errors: Counter,
    topology_version: Gauge<u64, AtomicU64>,
}

impl Counts {
    #[expect(clippy::too_many_lines, reason = "one call per metric, nothing else")]
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let counts = Self {
            elections: Counter::default(),
            election_seconds: seconds_histogram(),
            deaths: Counter::default(),
            refusals: Counter::default(),
            nodes: Gauge::default(),
            nodes_alive: Gauge::default(),
            node_clock_off: Family::default(),
            shards: Gauge::default(),
            shards_leaderless: Gauge::default(),
            gateways: Gauge::default(),
            active: Gauge::default(),
            moves: Counter::default(),
            moves_failed: Counter::default(),
            store_seconds: seconds_histogram(),
            store_errors: Counter::default(),
            topology_version: Gauge::default(),
        };
        metrics.register(|registry| {
            let mut counter = |name: &str, help: &str, counter: &Counter| {
                registry.register(name, help, counter.clone());
            };
            counter("elections", "Elections begun", &counts.elections);
            counter("node_deaths", "Nodes taken for dead", &counts.deaths);
            counter(
                "registrations_refused",
                "Registrations refused",
                &counts.refusals,
            );
            counter(
                "store_errors",
                "Calls of the store without a result",
                &counts.store_errors,
            );
            counter("moves", "Planned moves of leaderships begun", &counts.moves);
            counter(
                "moves_failed",
                "Planned moves after which the leader led on",
                &counts.moves_failed,
            );
            let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
                registry.register(name, help, gauge.clone());
            };
            gauge("nodes", "Nodes registered", &counts.nodes);
            gauge(
                "nodes_alive",
                "Nodes counted as living",
                &counts.nodes_alive,
            );
            gauge("shards", "Shards", &counts.shards);
            gauge(
                "shards_leaderless",
                "Shards without a leader in the store",
                &counts.shards_leaderless,
            );
            gauge("gateways", "Gateways that attend", &counts.gateways);
            gauge(
                "active",
                "1 while this is the active coordinator",
                &counts.active,
            );
            registry.register(
                "node_clock_off_ms",
                "How far a node's wall clock is ahead of those of most nodes, if it is off",
                counts.node_clock_off.clone(),
            );
            registry.register(
                "topology_version",
                "Version of the newest topology",
                counts.topology_version.clone(),
            );
            registry.register(
                "election_seconds",
                "From the beginning of an election to a leader that serves",
                counts.election_seconds.clone(),
            );
            registry.register(
                "store_seconds",
                "Time of a compare-and-set of the store",
                counts.store_seconds.clone(),
            );
        });
        counts
    }

    pub(crate) fn note(&self, note: &Note) {
        match note {
            Note::ElectionStarted { .. } => {
                self.elections.inc();
            }
            Note::Serving { took_us, .. } => {
                self.election_seconds.observe(*took_us as f64 / 1e6);
            }
            Note::Died { .. } => {
                self.deaths.inc();
            }
            Note::Refused(_) => {
                self.refusals.inc();
            }
            Note::MoveStarted { .. } => {
                self.moves.inc();
            }
            Note::MoveFailed { .. } => {
                self.moves_failed.inc();
            }
            Note::Activated { .. } => {
                self.active.set(1);
            }
            Note::Deactivated => {
                self.active.set(0);
            }
            Note::Joined { .. }
            | Note::Returned { .. }
            | Note::ForeignDisk { .. }
            | Note::Bootstrapped { .. }
            | Note::SettingsReplaced { .. }
            | Note::MoveBegun { .. }
            | Note::MoveEnded { .. }
            | Note::Drained { .. }
            | Note::ClockOff { .. }
            | Note::ClockRight { .. }
            | Note::StreamBroken { .. }
            | Note::Deferred { .. }
            | Note::Stalled
            | Note::Claimed { .. }
            | Note::Granted { .. }
            | Note::Election { .. }
            | Note::ElectionDropped { .. }
            | Note::ElectionFailed { .. }
            | Note::StoreBehind { .. }
            | Note::Dropped(_) => {}
        }
    }

    pub(crate) fn topology(&self, topology: &Topology) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.topology_version.set(topology.version);
        self.nodes.set(count(topology.nodes.len()));
        let alive = topology.nodes.iter().filter(|node| node.is_alive);
        self.nodes_alive.set(count(alive.count()));
        self.shards.set(count(topology.shards.len()));
        for node in &topology.nodes {
            let label = vec![("node".to_owned(), node.name.clone())];
            let off_ms = node.clock_off_ms.unwrap_or(0);
            self.node_clock_off.get_or_create(&label).set(off_ms);
        }
        let leaderless = topology
            .shards
            .iter()
            .filter(|shard| shard.leader.is_none());
        self.shards_leaderless.set(count(leaderless.count()));
        self.gateways.set(count(topology.gateways.len()));
    }
}
