//! Coordinators: the real controller, with the store's lock and answers as the store gives them.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_coordinator::controller::{
    Change, ClockVerdict, Config, Controller, Effect, Input, Note, ReadOutcome, RedialOutcome,
    SettingsAnswer, StreamId, Topology, WriteOutcome,
};
use quorate_replication::{Duration, NodeId};

use crate::cluster::Cluster;
use crate::cluster::host::{Body, Power};
use crate::cluster::node::place_of;
use crate::cluster::packet::{Happening, Packet, StoreQuestion};
use crate::network::{Host, Side, StreamNumber};

/// How often a coordinator tries to get the lock.
const CAMPAIGN_US: u64 = 150_000;
/// Time after which an answer of the store is given up.
const STORE_TIMEOUT_US: u64 = 700_000;

/// A coordinator's machine.
#[derive(Debug)]
pub(super) struct CoordinatorHost {
    pub(super) body: Body,
    pub(super) process: Option<CoordinatorProcess>,
}

/// A node's stream.
#[derive(Debug, Default)]
struct Attending {
    is_admitted: bool,
    /// What it was told of its wall clock.
    clock: ClockVerdict,
}

/// A running coordinator.
#[derive(Debug)]
pub(super) struct CoordinatorProcess {
    pub(super) controller: Controller,
    /// The generation while active, else 0.
    pub(super) generation: u64,
    nodes: BTreeMap<StreamNumber, Attending>,
    gateways: BTreeMap<StreamNumber, ()>,
    picture: Option<Arc<Topology>>,
    due: Option<u64>,
}

impl CoordinatorProcess {
    /// What it shows to nodes and gateways.
    pub(super) fn picture(&self) -> Option<&Topology> {
        self.picture.as_deref()
    }
}

impl Cluster {
    /// Starts a coordinator's process.
    pub(super) fn start_coordinator(&mut self, coordinator: usize) {
        let config = Config {
            expected_nodes: u32::try_from(self.nodes.len()).expect("a small cluster"),
            shards: self.options.shards,
            replicas: 3,
            node_timeout: Duration::from_millis(1_000),
            heartbeat: Duration::from_millis(200),
            rebalance: self.options.rebalances,
        };
        let host = &mut self.coordinators[coordinator];
        host.process = Some(CoordinatorProcess {
            controller: Controller::new(config),
            generation: 0,
            nodes: BTreeMap::new(),
            gateways: BTreeMap::new(),
            picture: None,
            due: None,
        });
        let life = host.body.life;
        self.schedule
            .after(1_000, Happening::Campaign(coordinator, life));
    }

    /// Becomes the active one if the lock is free, or learns that it was lost.
    pub(super) fn campaign(&mut self, coordinator: usize) {
        let life = self.coordinators[coordinator].body.life;
        let delay = CAMPAIGN_US + self.rng.below(50_000);
        self.schedule
            .after(delay, Happening::Campaign(coordinator, life));
        if self.store.is_out {
            return;
        }
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        let holds = self.store.active() == Some(coordinator);
        if process.generation > 0 && !holds {
            process.generation = 0;
            process.picture = None;
            self.step_coordinator(coordinator, Input::Deactivated);
        } else if process.generation == 0 && self.store.active().is_none() {
            let generation = self.store.activate(coordinator);
            process.generation = generation;
            let input = Input::Activated {
                generation,
                seed: self.rng.word(),
                rows: self.store.rows(),
            };
            self.counts.activations += 1;
            self.step_coordinator(coordinator, input);
        }
    }

    pub(super) fn coordinator_arrived(
        &mut self,
        coordinator: usize,
        number: StreamNumber,
        packet: Packet,
    ) {
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        let stream = StreamId(number.0);
        let input = match packet {
            Packet::Register(registration) => {
                process.nodes.insert(number, Attending::default());
                Input::Registered {
                    stream,
                    registration: *registration,
                }
            }
            Packet::Heartbeat(heartbeat) => Input::Heartbeat { stream, heartbeat },
            Packet::Report(shard, report) => Input::Reported {
                stream,
                shard,
                report,
            },
            Packet::MoveReport(report) => Input::MoveReported(report),
            Packet::Announce(gateway) => {
                process.gateways.insert(number, ());
                if let Some(picture) = process.picture.clone() {
                    self.send(number, Side::Opener, Packet::Topology(picture));
                }
                Input::GatewayAttended {
                    stream,
                    name: format!("gw{gateway:02}"),
                    address: format!("gateway:{gateway}"),
                }
            }
            Packet::Registered(_)
            | Packet::ClockJudged(_)
            | Packet::Order(..)
            | Packet::Topology(_)
            | Packet::Hello(_)
            | Packet::Submit(..)
            | Packet::Ask(..)
            | Packet::Event(..) => unreachable!("nobody sends that to a coordinator"),
        };
        self.step_coordinator(coordinator, input);
    }

    pub(super) fn coordinator_closed(&mut self, coordinator: usize, number: StreamNumber) {
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        let stream = StreamId(number.0);
        if process.nodes.remove(&number).is_some() {
            self.step_coordinator(coordinator, Input::StreamClosed { stream });
        } else if process.gateways.remove(&number).is_some() {
            self.step_coordinator(coordinator, Input::GatewayLeft { stream });
        }
    }

    pub(super) fn step_coordinator(&mut self, coordinator: usize, input: Input) {
        let now = self.coordinators[coordinator].body.clock.time(self.now());
        let Some(process) = self.coordinators[coordinator].process.as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        process.controller.step(now, input, &mut effects);
        self.trace
            .mix(&[200 + coordinator as u64, now.0, effects.len() as u64]);
        for effect in effects {
            self.carry_out_coordinator(coordinator, effect);
        }
        self.set_coordinator_due(coordinator);
    }

    pub(super) fn coordinator_due(&mut self, coordinator: usize) {
        let now = self.coordinators[coordinator].body.clock.time(self.now());
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        process.due = None;
        if process
            .controller
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.step_coordinator(coordinator, Input::Elapsed);
        } else {
            self.set_coordinator_due(coordinator);
        }
    }

    fn set_coordinator_due(&mut self, coordinator: usize) {
        let now = self.now();
        let host = &mut self.coordinators[coordinator];
        let Some(process) = host.process.as_mut() else {
            return;
        };
        let Some(deadline) = process.controller.next_deadline() else {
            return;
        };
        let moment = host.body.clock.moment_of(deadline).max(now + 1);
        if process.due.is_none_or(|due| due <= now || due > moment) {
            process.due = Some(moment);
            let life = host.body.life;
            self.schedule
                .at(moment, Happening::Due(Host::Coordinator(coordinator), life));
        }
    }

    fn carry_out_coordinator(&mut self, coordinator: usize, effect: Effect) {
        let life = self.coordinators[coordinator].body.life;
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        let generation = process.generation;
        match effect {
            Effect::Admit { stream, node } => {
                let number = StreamNumber(stream.0);
                if let Some(attending) = process.nodes.get_mut(&number) {
                    attending.is_admitted = true;
                }
                let picture = process.picture.clone();
                self.welcome(number, node, picture);
            }
            Effect::Refuse { stream, refusal } => {
                let number = StreamNumber(stream.0);
                process.nodes.remove(&number);
                process.gateways.remove(&number);
                self.say(format_args!("coordinator {coordinator} refuses: {refusal}"));
                self.hang_up(number, Side::Accepter);
            }
            Effect::AnswerHeartbeat { stream, clock, .. } => {
                self.tell_clock(coordinator, StreamNumber(stream.0), clock);
            }
            Effect::Send {
                stream,
                shard,
                order,
                ..
            } => self.send(
                StreamNumber(stream.0),
                Side::Opener,
                Packet::Order(shard, order),
            ),
            Effect::Redial {
                attempt, address, ..
            } => {
                let outcome = self.redial(coordinator, &address);
                let delay = match outcome {
                    RedialOutcome::Accepted | RedialOutcome::Refused => self.network.delay(),
                    RedialOutcome::Unanswered => 500_000,
                };
                let told = Input::Redialed { attempt, outcome };
                self.schedule
                    .after(delay, Happening::Told(coordinator, life, generation, told));
            }
            Effect::Write { write, changes } => {
                let delay = self.store_delay();
                let question = StoreQuestion::Write(write, changes);
                self.schedule
                    .after(delay, Happening::StoreAsked(coordinator, life, question));
            }
            Effect::Read { key } => {
                let delay = self.store_delay();
                let question = StoreQuestion::Read(key);
                self.schedule
                    .after(delay, Happening::StoreAsked(coordinator, life, question));
            }
            // Whoever asks looks again.
            Effect::AnswerMove { .. } | Effect::AnswerOperator { .. } => {}
            Effect::AnswerSettings { answer, .. } => match answer {
                SettingsAnswer::Replaced(_) => self.counts.settings += 1,
                // The operator looks again.
                SettingsAnswer::Differ(_) | SettingsAnswer::Refused(_) => {}
            },
            Effect::PublishTopology(topology) => self.publish(coordinator, topology),
            Effect::Note(note) => self.noted_by(coordinator, &note),
        }
    }

    fn noted_by(&mut self, coordinator: usize, note: &Note) {
        if let Note::MoveEnded { refusal, .. } = note {
            self.counts.relocated += u64::from(refusal.is_none());
            self.counts.stayed += u64::from(refusal.is_some());
        }
        self.say(format_args!("coordinator {coordinator}: {note}"));
    }

    /// Tells a node that it is admitted, and the picture if there is one.
    fn welcome(&mut self, to: StreamNumber, node: NodeId, picture: Option<Arc<Topology>>) {
        self.send(to, Side::Opener, Packet::Registered(node));
        if let Some(picture) = picture {
            self.send(to, Side::Opener, Packet::Topology(picture));
        }
    }

    /// Tells a node what is thought of its wall clock, if that is news.
    fn tell_clock(&mut self, coordinator: usize, number: StreamNumber, clock: ClockVerdict) {
        let process = self.coordinators[coordinator].process.as_mut();
        let attending = process.and_then(|process| process.nodes.get_mut(&number));
        if attending.is_some_and(|it| std::mem::replace(&mut it.clock, clock) != clock) {
            self.send(number, Side::Opener, Packet::ClockJudged(clock));
        }
    }

    fn publish(&mut self, coordinator: usize, topology: Topology) {
        let picture = Arc::new(topology);
        let process = self.coordinators[coordinator]
            .process
            .as_mut()
            .expect("the process runs");
        process.picture = Some(Arc::clone(&picture));
        let admitted = process
            .nodes
            .iter()
            .filter(|(_, attending)| attending.is_admitted);
        let mut streams: Vec<StreamNumber> = admitted.map(|(stream, _)| *stream).collect();
        streams.extend(process.gateways.keys());
        for stream in streams {
            self.send(stream, Side::Opener, Packet::Topology(Arc::clone(&picture)));
        }
    }

    fn redial(&self, coordinator: usize, address: &str) -> RedialOutcome {
        let Some(node) = place_of(address) else {
            return RedialOutcome::Unanswered;
        };
        let (here, there) = (Host::Coordinator(coordinator), Host::Node(node));
        if self.network.is_cut(here, there) || self.network.is_cut(there, here) {
            return RedialOutcome::Unanswered;
        }
        match self.nodes[node].body.power {
            Power::Up => RedialOutcome::Accepted,
            Power::Killed => RedialOutcome::Refused,
            Power::Off => RedialOutcome::Unanswered,
        }
    }

    fn store_delay(&mut self) -> u64 {
        let usual = self.rng.between(200, 3_000);
        if self.rng.chance(self.options.store_slow, 1_000) {
            usual + self.rng.short(2_000_000)
        } else {
            usual
        }
    }

    /// A question reaches the store, or is lost on its way there or back.
    pub(super) fn store_asked(&mut self, coordinator: usize, life: u64, question: StoreQuestion) {
        let is_lost = self.store.is_out;
        let is_answer_lost = self.rng.chance(self.options.store_unknown, 1_000);
        let generation = match &self.coordinators[coordinator].process {
            Some(process) => process.generation,
            None => 0,
        };
        let (input, delay) = match question {
            StoreQuestion::Read(key) if is_lost || is_answer_lost => {
                let outcome = ReadOutcome::Failed;
                (Input::Read { key, outcome }, STORE_TIMEOUT_US)
            }
            StoreQuestion::Read(key) => {
                let found = self.store.read(key).cloned();
                let outcome = found.map_or(ReadOutcome::Absent, ReadOutcome::Found);
                (Input::Read { key, outcome }, self.store_delay())
            }
            StoreQuestion::Write(write, changes) if is_lost || is_answer_lost => {
                let outcomes = vec![WriteOutcome::Unknown; changes.len()];
                self.lose_answer(changes, is_lost);
                (Input::Written { write, outcomes }, STORE_TIMEOUT_US)
            }
            StoreQuestion::Write(write, changes) => {
                let outcomes = changes
                    .iter()
                    .map(|change| self.store.swap(change))
                    .collect();
                (Input::Written { write, outcomes }, self.store_delay())
            }
        };
        self.schedule
            .after(delay, Happening::Told(coordinator, life, generation, input));
    }

    /// Nobody learns what becomes of these changes: they are made, made late, or never made.
    fn lose_answer(&mut self, changes: Vec<Change>, is_out: bool) {
        match self.rng.below(3) {
            0 if !is_out => {
                for change in &changes {
                    self.store.swap(change);
                }
                self.store.counts_mut().made_unknown += 1;
            }
            1 => {
                let delay = self.rng.between(1_000, 3_000_000);
                self.schedule.after(delay, Happening::StoreLate(changes));
            }
            _ => self.store.counts_mut().dropped_unknown += 1,
        }
    }

    /// A change is made whose answer was given up.
    pub(super) fn store_late(&mut self, changes: &[Change]) {
        for change in changes {
            self.store.swap(change);
        }
        self.store.counts_mut().made_late += 1;
    }

    /// An answer reaches a coordinator; one from an earlier activation is dropped, as its shell does.
    pub(super) fn coordinator_told(&mut self, coordinator: usize, generation: u64, input: Input) {
        let process = self.coordinators[coordinator]
            .process
            .as_ref()
            .expect("the process runs");
        if process.generation == generation {
            self.step_coordinator(coordinator, input);
        }
    }
}
