//! The controller: decides about nodes, elections and the topology. Pure.
//!
//! It is told what happened through `step` and asks for what it wants done through effects; it knows no store, stream,
//! clock or randomness of its own. It is idle until `Input::Activated`.

pub mod effect;
pub mod input;
pub mod row;
pub mod topology;

use quorate_replication::{Duration, Time};

pub use effect::{DeathCause, Effect, ElectionCause, Note, Refusal};
pub use input::{
    Attempt, Heartbeat, Input, Led, ReadOutcome, RedialOutcome, Registration, StreamId,
    WriteNumber, WriteOutcome,
};
pub use row::{Change, ClusterRow, Key, NodeRow, Row, Stored};
pub use topology::{GatewayStatus, NodeStatus, ShardStatus, Topology};

/// What an operator chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Nodes that must have registered before the shards are created.
    pub expected_nodes: u32,
    /// Shards that are created then.
    pub shards: u32,
    /// Replicas of each shard; at most `expected_nodes`.
    pub replicas: u32,
    /// Silence after which a node is taken for dead.
    pub node_timeout: Duration,
    /// How often a node sends its heartbeat.
    pub heartbeat: Duration,
    /// Whether leaderships are moved back, slowly, after a node returned.
    pub rebalance: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Controller {
    config: Config,
}

impl Controller {
    /// Makes a controller that is not active.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes one input in. `now` never goes back. Appends what is to be done.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects, &self.config);
    }

    /// When to step with `Elapsed` at the latest; none: only when something happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// The newest picture.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        unreachable_topology()
    }
}

fn unreachable_topology() -> &'static Topology {
    static EMPTY: Topology = Topology {
        version: 0,
        nodes: Vec::new(),
        shards: Vec::new(),
        slots: Vec::new(),
        gateways: Vec::new(),
    };
    &EMPTY
}
