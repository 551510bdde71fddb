//! The task that owns the controller: events in, `step`, effects carried out. It takes no decision of its own.
//!
//! Everything that waits is taken before effects are carried out, and of several topologies only the last is sent.
//! Writes, reads and redials run beside it and come back as events.

mod log;
mod waiting;

use std::{collections::BTreeMap, sync::Arc};

use quorate_proto::internal::v1::{
    AttendGatewayResponse, AttendResponse, Registered, Topology as ProtoTopology, TopologyChange,
    attend_response::Kind,
};
use quorate_replication::{Duration, NodeId, Time};
use quorate_service::{clock, health::Health};
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tracing::{debug, info};

use self::{log::Log, waiting::Waiting};
use crate::{
    config::Config,
    controller::{
        Controller, Effect, Input, MoveAnswer, MoveRequest, OperatorRequest, Refusal,
        SettingsAnswer, SettingsRequest, Stored, StreamId, Topology,
    },
    convert,
    events::{Event, Outgoing},
    limits::{EVENTS_AT_ONCE, REGISTRATIONS_PER_SECOND},
    metrics::Counts,
    outside::Outside,
    store::Store,
};

/// The component of health that waits for this process to be the active coordinator.
pub(crate) const ACTIVE: &str = "active";

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShellError {
    /// The store is of no use until the process starts anew.
    #[error("{0}")]
    Store(String),
}

/// The task's state.
pub(crate) struct Shell<S> {
    config: Config,
    controller: Controller,
    outside: Outside<S>,
    events: mpsc::Receiver<Event>,
    nodes: BTreeMap<StreamId, NodeStream>,
    gateways: BTreeMap<StreamId, Outgoing<AttendGatewayResponse>>,
    /// Requests for other settings that are not answered.
    settings: Waiting<SettingsAnswer>,
    /// Requests for moves that are not answered.
    moves: Waiting<MoveAnswer>,
    /// What operators want and is not answered.
    wishes: Waiting<Result<(), Refusal>>,
    topology: watch::Sender<Option<Arc<ProtoTopology>>>,
    health: Health,
    counts: Counts,
    log: Log,
    effects: Vec<Effect>,
    /// The newest picture that is not sent yet.
    picture: Option<Topology>,
    /// Streams of nodes that do not read what is sent to them.
    stuck: Vec<StreamId>,
    registrations: Rate,
}

struct NodeStream {
    outgoing: Outgoing<AttendResponse>,
    /// Who it is, once it is admitted.
    node: Option<NodeId>,
}

impl NodeStream {
    fn new(outgoing: Outgoing<AttendResponse>) -> Self {
        Self {
            outgoing,
            node: None,
        }
    }
}

/// Counts within seconds.
struct Rate {
    second: u64,
    count: u32,
}

impl<S: Store> Shell<S> {
    pub(crate) fn new(
        config: Config,
        store: S,
        sender: mpsc::Sender<Event>,
        events: mpsc::Receiver<Event>,
        topology: watch::Sender<Option<Arc<ProtoTopology>>>,
        health: Health,
        counts: Counts,
    ) -> Self {
        let controller = Controller::new(config.controller());
        let outside = Outside::new(store, config.cluster.clone(), sender, counts.clone());
        Self {
            config,
            controller,
            outside,
            events,
            nodes: BTreeMap::new(),
            gateways: BTreeMap::new(),
            settings: Waiting::default(),
            moves: Waiting::default(),
            wishes: Waiting::default(),
            topology,
            health,
            counts,
            log: Log::default(),
            effects: Vec::new(),
            picture: None,
            stuck: Vec::new(),
            registrations: Rate {
                second: 0,
                count: 0,
            },
        }
    }

    /// Runs until the store breaks; dropped by the caller for a clean stop.
    pub(crate) async fn run(mut self) -> ShellError {
        self.outside.campaign();
        self.health.not_ready(ACTIVE, "not the active coordinator");
        loop {
            let event = self.next_event().await;
            let mut next = event;
            let mut taken = 0;
            loop {
                if let Err(error) = self.take(next) {
                    return error;
                }
                taken += 1;
                if taken >= EVENTS_AT_ONCE {
                    break;
                }
                match self.events.try_recv() {
                    Ok(event) => next = event,
                    Err(_) => break,
                }
            }
            let is_due = |deadline| deadline <= now();
            if self.controller.next_deadline().is_some_and(is_due) {
                self.step(Input::Elapsed);
            }
            self.carry_out();
            self.send_picture();
            self.end_stuck();
        }
    }

    /// The next event, or `Elapsed` when the controller wants it.
    async fn next_event(&mut self) -> Event {
        let Some(deadline) = self.controller.next_deadline() else {
            return match self.events.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            };
        };
        let wait = deadline.since(now());
        tokio::select! {
            biased;
            event = self.events.recv() => match event {
                Some(event) => event,
                None => std::future::pending().await,
            },
            () = tokio::time::sleep(std::time::Duration::from_micros(wait.0)) => Event::Told(Input::Elapsed),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), ShellError> {
        let input = match event {
            Event::Registered {
                stream,
                registration,
                outgoing,
            } => {
                if !self.admits(&outgoing) {
                    return Ok(());
                }
                self.nodes.insert(stream, NodeStream::new(outgoing));
                Input::Registered {
                    stream,
                    registration,
                }
            }
            Event::GatewayAttended {
                stream,
                name,
                address,
                outgoing,
            } => {
                if !self.admits(&outgoing) {
                    return Ok(());
                }
                self.gateways.insert(stream, outgoing);
                Input::GatewayAttended {
                    stream,
                    name,
                    address,
                }
            }
            Event::SettingsWanted {
                expected,
                settings,
                answer,
            } => Input::SettingsWanted {
                request: SettingsRequest(self.settings.ask(answer)),
                expected,
                settings,
            },
            Event::MoveWanted { name, to, answer } => {
                let request = MoveRequest(self.moves.ask(answer));
                Input::MoveWanted { request, name, to }
            }
            Event::Wished { wish, answer } => {
                let request = OperatorRequest(self.wishes.ask(answer));
                Input::Wished { request, wish }
            }
            Event::Told(input) => self.told(input),
            Event::Answered { activation, input } => {
                if activation != self.outside.activation() {
                    debug!("answer to an earlier activation is dropped");
                    return Ok(());
                }
                input
            }
            Event::Won {
                generation,
                rows,
                since,
            } => {
                info!(generation, rows = rows.len(), waited = ?since.elapsed(), "active coordinator");
                self.win(generation, rows)?
            }
            Event::Broken(reason) => return Err(ShellError::Store(reason)),
            Event::Lost => self.lose(),
        };
        self.step(input);
        Ok(())
    }

    /// This process is active.
    fn win(&mut self, generation: u64, rows: Vec<Stored>) -> Result<Input, ShellError> {
        self.turn(Outside::begin);
        self.health.ready(ACTIVE);
        let seed = seed().map_err(ShellError::Store)?;
        Ok(Input::Activated {
            generation,
            seed,
            rows,
        })
    }

    /// Another process may be active: nothing is told any more, and this one is in the running again.
    fn lose(&mut self) -> Input {
        self.health.not_ready(ACTIVE, "not the active coordinator");
        self.turn(Outside::end);
        self.topology.send_replace(None);
        self.outside.campaign();
        Input::Deactivated
    }

    /// Whether one more registration is taken in this second; if not, it is refused.
    fn admits<T>(&mut self, outgoing: &Outgoing<T>) -> bool {
        let admits = self.registrations.admits(now());
        if !admits {
            drop(outgoing.messages.try_send(Err(busy())));
        }
        admits
    }

    fn told(&mut self, input: Input) -> Input {
        self.note_position(&input);
        self.forget(&input);
        input
    }

    /// Hands on how far a node's logs reach, for those who look at the store.
    fn note_position(&self, input: &Input) {
        if let Input::Heartbeat { stream, heartbeat } = input
            && let Some(node) = self.nodes.get(stream).and_then(|known| known.node)
        {
            self.outside.note_position(node, heartbeat.position);
        }
    }

    /// Lets go of a stream that ended.
    fn forget(&mut self, input: &Input) {
        match input {
            Input::StreamClosed { stream } => drop(self.nodes.remove(stream)),
            Input::GatewayLeft { stream } => drop(self.gateways.remove(stream)),
            _ => {}
        }
    }

    /// An activation begins or ends: what was asked for before is asked for in its name, and no picture of before is
    /// sent after.
    fn turn(&mut self, turn: impl FnOnce(&mut Outside<S>)) {
        self.carry_out();
        self.picture = None;
        turn(&mut self.outside);
    }

    fn step(&mut self, input: Input) {
        self.controller.step(now(), input, &mut self.effects);
    }

    fn carry_out(&mut self) {
        let effects = std::mem::take(&mut self.effects);
        for effect in effects {
            match effect {
                Effect::Admit { stream, node } => {
                    if let Some(known) = self.nodes.get_mut(&stream) {
                        known.node = Some(node);
                    }
                    let registered = Registered {
                        node: node.0,
                        node_timeout_ms: self.config.node_timeout_ms,
                        heartbeat_ms: self.config.heartbeat_ms,
                    };
                    self.send(stream, convert::response(Kind::Registered(registered)));
                    self.send_current_picture(stream);
                }
                Effect::Refuse { stream, refusal } => self.refuse(stream, &refusal),
                Effect::AnswerHeartbeat {
                    stream,
                    number,
                    clock,
                } => {
                    let answer = convert::heartbeat_answer(number, clock);
                    self.send(stream, convert::response(Kind::Heartbeat(answer)));
                }
                Effect::Send {
                    stream,
                    node: _,
                    shard,
                    order,
                } => self.send(stream, convert::order(shard, order)),
                Effect::Redial {
                    attempt,
                    node: _,
                    address,
                } => self.outside.redial(attempt, address),
                Effect::Write { write, changes } => self.outside.write(write, &changes),
                Effect::Read { key } => self.outside.read(key),
                Effect::AnswerSettings { request, answer } => {
                    self.settings.answer(request.0, answer);
                }
                Effect::AnswerMove { request, answer } => self.moves.answer(request.0, answer),
                Effect::AnswerOperator { request, answer } => {
                    self.wishes.answer(request.0, answer);
                }
                Effect::PublishTopology(topology) => self.picture = Some(topology),
                Effect::Note(note) => {
                    self.counts.note(&note);
                    self.log.note(&note);
                }
            }
        }
        self.log.end_round();
    }

    fn send(&mut self, stream: StreamId, response: AttendResponse) {
        if let Some(node) = self.nodes.get(&stream)
            && node.outgoing.messages.try_send(Ok(response)).is_err()
        {
            self.stuck.push(stream);
        }
    }

    fn refuse(&mut self, stream: StreamId, refusal: &Refusal) {
        let status = convert::status(refusal);
        if let Some(node) = self.nodes.remove(&stream) {
            drop(node.outgoing.messages.try_send(Err(status)));
        } else if let Some(gateway) = self.gateways.remove(&stream) {
            drop(gateway.messages.try_send(Err(status)));
        }
    }

    fn send_picture(&mut self) {
        let Some(picture) = self.picture.take() else {
            return;
        };
        self.counts.topology(&picture);
        self.outside.publish_members(&picture);
        let picture = convert::topology(&self.config.cluster, &picture);
        self.topology.send_replace(Some(Arc::new(picture)));
        let admitted: Vec<StreamId> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.node.is_some())
            .map(|(stream, _)| *stream)
            .collect();
        for stream in admitted {
            self.send_current_picture(stream);
        }
    }

    fn send_current_picture(&mut self, stream: StreamId) {
        let picture = self.topology.borrow().clone();
        if let Some(picture) = picture {
            let topology = Some(picture.as_ref().clone());
            let change = TopologyChange { topology };
            self.send(stream, convert::response(Kind::Topology(change)));
        }
    }

    /// Ends streams whose nodes do not read, as if they had broken.
    fn end_stuck(&mut self) {
        for stream in std::mem::take(&mut self.stuck) {
            if self.nodes.remove(&stream).is_some() {
                self.step(Input::StreamClosed { stream });
                self.carry_out();
            }
        }
    }
}

impl Rate {
    fn admits(&mut self, now: Time) -> bool {
        let second = now.0 / Duration::from_millis(1_000).0;
        if second != self.second {
            *self = Self { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= REGISTRATIONS_PER_SECOND
    }
}

fn busy() -> Status {
    Status::resource_exhausted("too many registrations in this second; try again")
}

fn now() -> Time {
    Time(clock::monotonic_micros())
}

fn seed() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("no randomness: {error}"))
}

#[cfg(test)]
mod tests;
