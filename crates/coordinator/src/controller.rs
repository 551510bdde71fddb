//! The controller: decides about nodes, elections and the topology. Pure.
//!
//! It is told what happened through `step` and asks for what it wants done through effects; it knows no store, stream,
//! clock or randomness of its own. It is idle until `Input::Activated`.

mod active;
pub mod clock;
mod earliest;
pub mod effect;
pub mod input;
mod node;
mod placement;
mod random;
pub mod row;
mod shard;
pub mod topology;

use quorate_replication::{Duration, Time};

use active::Active;

pub use clock::ClockVerdict;
pub use effect::{
    DeathCause, Effect, ElectionCause, MoveAnswer, MoveCause, MoveRefusal, Note, Refusal,
    SettingsAnswer,
};
pub use input::{
    Attempt, Heartbeat, Input, Led, MoveReport, MoveRequest, OperatorRequest, ReadOutcome,
    RedialOutcome, Registration, SettingsRequest, StreamId, Wish, WriteNumber, WriteOutcome,
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
    active: Option<Active>,
    /// What is known while this process is not active: nothing.
    nothing: Topology,
}

impl Controller {
    /// Makes a controller that is not active.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            active: None,
            nothing: Topology::default(),
        }
    }

    /// Takes one input in. `now` never goes back. Appends what is to be done.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Activated {
                generation,
                seed,
                rows,
            } => {
                self.deactivate(effects);
                let config = self.config.clone();
                let active = Active::new(config, generation, seed, rows, now, effects);
                self.active = Some(active);
            }
            Input::Deactivated => self.deactivate(effects),
            Input::Registered { .. }
            | Input::Heartbeat { .. }
            | Input::Reported { .. }
            | Input::StreamClosed { .. }
            | Input::Redialed { .. }
            | Input::Written { .. }
            | Input::Read { .. }
            | Input::SettingsWanted { .. }
            | Input::MoveWanted { .. }
            | Input::MoveReported(_)
            | Input::Wished { .. }
            | Input::GatewayAttended { .. }
            | Input::GatewayLeft { .. }
            | Input::Elapsed => match &mut self.active {
                Some(active) => active.step(now, input, effects),
                None => refuse(&input, effects),
            },
        }
    }

    /// When to step with `Elapsed` at the latest; none: only when something happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.active.as_ref().map(Active::next_deadline)
    }

    /// Whether this is the active coordinator.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// The newest picture that was published; empty while not active.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.active.as_ref().map_or(&self.nothing, Active::topology)
    }

    fn deactivate(&mut self, effects: &mut Vec<Effect>) {
        let Some(active) = self.active.take() else {
            return;
        };
        for stream in active.all_streams() {
            let refusal = Refusal::NotActive;
            effects.push(Effect::Refuse { stream, refusal });
        }
        if let Some(request) = active.settings_request() {
            refuse_settings(request, effects);
        }
        if let Some(request) = active.move_request() {
            refuse_move(request, effects);
        }
        for request in active.operator_requests() {
            refuse_operator(request, effects);
        }
        effects.push(Effect::Note(Note::Deactivated));
    }
}

fn refuse_settings(request: SettingsRequest, effects: &mut Vec<Effect>) {
    let answer = SettingsAnswer::Refused(Refusal::NotActive);
    effects.push(Effect::AnswerSettings { request, answer });
}

fn refuse_move(request: MoveRequest, effects: &mut Vec<Effect>) {
    let answer = MoveAnswer::Refused(Refusal::NotActive);
    effects.push(Effect::AnswerMove { request, answer });
}

fn refuse_operator(request: OperatorRequest, effects: &mut Vec<Effect>) {
    let answer = Err(Refusal::NotActive);
    effects.push(Effect::AnswerOperator { request, answer });
}

/// What a coordinator that is not active says to those who come.
fn refuse(input: &Input, effects: &mut Vec<Effect>) {
    let stream = match input {
        Input::SettingsWanted { request, .. } => return refuse_settings(*request, effects),
        Input::MoveWanted { request, .. } => return refuse_move(*request, effects),
        Input::Wished { request, .. } => return refuse_operator(*request, effects),
        Input::Registered { stream, .. } | Input::GatewayAttended { stream, .. } => *stream,
        Input::Activated { .. }
        | Input::Deactivated
        | Input::Heartbeat { .. }
        | Input::Reported { .. }
        | Input::StreamClosed { .. }
        | Input::Redialed { .. }
        | Input::Written { .. }
        | Input::Read { .. }
        | Input::MoveReported(_)
        | Input::GatewayLeft { .. }
        | Input::Elapsed => return,
    };
    let refusal = Refusal::NotActive;
    effects.push(Effect::Refuse { stream, refusal });
}
