//! A transaction over three shards, with a gateway or a leader lost, or a connection broken, between each pair of its
//! steps, and between each two pairs: all of it or nothing, and nothing left behind.
//!
//! The gateway's and the brokers' real machines, with logs that commit at once. What is on its way when somebody dies is
//! lost, before or after it took effect, as the step has it.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate_broker::{Broker, Clock, Effect as Asked, Input as Told, Limits, Outcomes, Resolution};
use quorate_gateway::session::{
    BatchNumber, CallId, Command, Config, Core, Effect, Epoch, Failure, Input, LinkId, NodeEvent,
    NodeId, Outcomes as Answers, Publication, ShardId, Time, Topology, TopologyNode, TopologyShard,
    TransactedSettlement,
};
use quorate_message::{
    Batch, BatchBuilder, Destination, DestinationName, GatewayId, Message, MessagePosition,
    Outcome, ProducerId, Publication as Head, Settlement, TransactionId, slot,
};

const SHARDS: [u32; 3] = [1, 2, 3];
const ID: TransactionId = TransactionId {
    origin: ProducerId([9; 16]),
    number: 1,
};
/// The wall clock at the start, in milliseconds.
const WALL_MS: u64 = 1_000_000;
/// Time that passes at least when nothing is on its way.
const SHORTEST_MICROS: u64 = 10_000;
/// Enough for every deadline to pass.
const LONGEST_MICROS: u64 = 120_000_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The gateway dies, and its client goes away.
    Gateway,
    /// The gateway dies, and its client repeats the transaction through another.
    GatewayAndRepeat,
    /// The leader of a shard dies; another has its log.
    Leader(u32),
    /// The streams between the gateway and a shard's leader break.
    Link(u32),
    /// What is next on its way between two shards is lost.
    Between,
}

const FAULTS: [Fault; 9] = [
    Fault::Gateway,
    Fault::GatewayAndRepeat,
    Fault::Leader(1),
    Fault::Leader(2),
    Fault::Leader(3),
    Fault::Link(1),
    Fault::Link(2),
    Fault::Link(3),
    Fault::Between,
];

/// What is on its way.
#[derive(Clone, Debug)]
enum Event {
    Batch(u32, u64, Bytes),
    Answer(u32, u64, Outcomes),
    Between(u32, u32, Resolution),
    Own(u32, Bytes),
}

/// What the client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Committed,
    /// Nothing happened, or will.
    RolledBack,
    /// It may repeat.
    Unknown,
}

struct Shard {
    log: Vec<(u64, Batch)>,
    broker: Broker,
    epoch: u64,
    link: u64,
}

struct World {
    now: u64,
    core: Core,
    shards: BTreeMap<u32, Shard>,
    events: VecDeque<Event>,
    calls: u64,
    heard: Heard,
    repeats: bool,
    settles_unknown: bool,
    links: u64,
    steps: usize,
}

fn name(shard: u32) -> DestinationName {
    let names = (0..).map(|n| DestinationName::new(&format!("q{n}")).unwrap());
    let mut of_shard = names.filter(|name| u32::from(slot(name).0) % 3 + 1 == shard);
    of_shard.next().unwrap()
}

fn stored(text: &str) -> Bytes {
    let mut into = BytesMut::new();
    let message = Message::with_body(text.as_bytes().to_vec());
    message.encode(&mut into).unwrap();
    into.freeze()
}

fn core() -> Core {
    Core::new(Config {
        incarnation: GatewayId([3; 16]),
        producer: ProducerId([1; 16]),
        transient_producer: ProducerId([2; 16]),
        deadline_micros: 30_000_000,
        memory_bytes: 64 << 20,
    })
}

impl World {
    fn new(settles_unknown: bool) -> Self {
        let shards = SHARDS.map(|shard| {
            let mut made = Shard {
                log: Vec::new(),
                broker: Broker::new(Limits::default()),
                epoch: 0,
                link: 0,
            };
            let mut builder = BatchBuilder::persistent();
            let destination = Destination::queue(name(shard));
            let head = Head {
                destination: &destination,
                producer: ProducerId([5; 16]),
                number: 1,
                priority: 4,
                expires_at_ms: 0,
                is_retained: false,
            };
            builder.publish(&head, &stored("old")).unwrap();
            made.log
                .push((WALL_MS, Batch::parse(builder.finish()).unwrap()));
            (shard, made)
        });
        let mut world = Self {
            now: 1_000_000,
            core: core(),
            shards: shards.into_iter().collect(),
            events: VecDeque::new(),
            calls: 0,
            heard: Heard::Nothing,
            repeats: false,
            settles_unknown,
            links: 0,
            steps: 0,
        };
        for shard in SHARDS {
            world.elect(shard);
        }
        world.gateway();
        world
    }

    fn stamp(&self) -> u64 {
        WALL_MS + self.now / 1000
    }

    fn clock(&self) -> Clock {
        Clock {
            micros: self.now,
            stamp_ms: self.stamp(),
        }
    }

    /// A new leader: it applies the whole log.
    fn elect(&mut self, id: u32) {
        let now = self.clock();
        let shard = self.shards.get_mut(&id).unwrap();
        shard.epoch += 1;
        shard.broker = Broker::new(Limits::default());
        let mut effects = Vec::new();
        for (entry, (stamp_ms, batch)) in (1..).zip(shard.log.clone()) {
            let input = Told::Committed {
                entry,
                stamp_ms,
                batch,
            };
            shard.broker.step(now, input, &mut effects);
        }
        let at = shard.log.len() as u64 + 1;
        // The entry of the new epoch.
        let serving = Told::Serving {
            epoch: shard.epoch,
            at,
        };
        shard.broker.step(now, serving, &mut effects);
        self.asked(id, 0, effects);
    }

    fn commit(&mut self, id: u32, number: u64, batch: Bytes) {
        let (now, stamp_ms) = (self.clock(), self.stamp());
        let shard = self.shards.get_mut(&id).unwrap();
        let batch = Batch::parse(batch).unwrap();
        shard.log.push((stamp_ms, batch.clone()));
        let input = Told::Committed {
            entry: shard.log.len() as u64,
            stamp_ms,
            batch,
        };
        let mut effects = Vec::new();
        shard.broker.step(now, input, &mut effects);
        quorate_broker::invariant::check(&shard.broker).unwrap();
        self.asked(id, number, effects);
    }

    fn asked(&mut self, id: u32, number: u64, effects: Vec<Asked>) {
        for effect in effects {
            match effect {
                Asked::Applied { outcomes, .. } if number > 0 => {
                    self.events.push_back(Event::Answer(id, number, outcomes));
                }
                Asked::Propose { batch } => self.events.push_back(Event::Own(id, batch)),
                Asked::Resolve { shard, message } => {
                    self.events.push_back(Event::Between(id, shard, message));
                }
                _ => {}
            }
        }
    }

    fn topology(&self) -> Topology {
        Topology {
            version: 1,
            nodes: SHARDS
                .iter()
                .map(|id| TopologyNode {
                    id: NodeId(*id),
                    name: format!("mq{id}").into(),
                    address: format!("10.0.0.{id}:1").into(),
                })
                .collect(),
            shards: SHARDS
                .iter()
                .map(|id| TopologyShard {
                    id: ShardId(*id),
                    epoch: Epoch(self.shards[id].epoch),
                    leader: Some(NodeId(*id)),
                    leaderless_reason: "".into(),
                })
                .collect(),
            slots: (0..1024).map(|slot| ShardId(slot % 3 + 1)).collect(),
            settings: None,
            overrides: std::sync::Arc::default(),
        }
    }

    /// A gateway that knows the cluster, and a client's transaction.
    fn gateway(&mut self) {
        self.core = core();
        self.step(Input::Topology(self.topology()));
        for shard in SHARDS {
            self.link(shard);
        }
    }

    fn link(&mut self, id: u32) {
        self.links += 1;
        let link = self.links;
        self.shards.get_mut(&id).unwrap().link = link;
        let (node, link) = (NodeId(id), LinkId(link));
        self.step(Input::Linked { node, link });
    }

    fn transact(&mut self) {
        self.calls += 1;
        self.heard = Heard::Nothing;
        let call = CallId(self.calls);
        let sends = SHARDS.map(|shard| Publication {
            destination: Destination::queue(name(shard)),
            also: Vec::new(),
            is_retained: false,
            number: 0,
            non_persistent: false,
            priority: 4,
            expires_at_ms: 0,
            schedule: None,
            message: stored("new"),
        });
        let settlements = [1, 2].map(|shard| TransactedSettlement {
            consumer: None,
            destination: Destination::queue(name(shard)),
            settlement: Settlement::Accept,
            positions: vec![(
                ShardId(shard),
                MessagePosition::new(1 + 10 * u64::from(self.settles_unknown && shard == 2), 0),
            )],
        });
        self.step(Input::Transact {
            call,
            transaction: ID,
            sends: sends.to_vec(),
            settlements: settlements.to_vec(),
        });
        let nonce = self.calls;
        let wall_ms = self.stamp();
        self.step(Input::Commit {
            call,
            wall_ms,
            nonce,
        });
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        let now = Time(self.now);
        self.core.step(now, input, &mut effects);
        self.core.step(now, Input::Drained, &mut effects);
        for effect in effects {
            match effect {
                Effect::Submit {
                    link,
                    shard,
                    number,
                    batch,
                    ..
                }
                | Effect::Control {
                    link,
                    shard,
                    command: Command::Submit { number, batch, .. },
                    ..
                } if self.shards[&shard.0].link == link.0 => {
                    self.events
                        .push_back(Event::Batch(shard.0, number.0, batch));
                }
                Effect::Committed { call } if call.0 == self.calls => {
                    self.heard = Heard::Committed;
                }
                Effect::Failed { call, failure } if call.0 == self.calls => {
                    self.heard = match failure {
                        Failure::NotCommitted {
                            outcome: Outcome::UnknownMessage,
                            ..
                        } => Heard::RolledBack,
                        _ => Heard::Unknown,
                    };
                }
                _ => {}
            }
        }
    }

    fn carry(&mut self, event: Event) {
        match event {
            Event::Batch(shard, number, batch) => self.commit(shard, number, batch),
            Event::Own(shard, batch) => self.commit(shard, 0, batch),
            Event::Answer(shard, number, outcomes) => {
                let event = NodeEvent::Outcomes {
                    number: BatchNumber(number),
                    outcomes: Answers::Each(outcomes.iter().collect()),
                    removed: 0,
                };
                self.step(Input::FromNode {
                    node: NodeId(shard),
                    link: LinkId(self.shards[&shard].link),
                    shard: ShardId(shard),
                    event,
                });
            }
            Event::Between(from, to, message) => {
                let now = self.clock();
                let mut effects = Vec::new();
                let broker = &mut self.shards.get_mut(&to).unwrap().broker;
                broker.step(now, Told::Resolve { from, message }, &mut effects);
                self.asked(to, 0, effects);
            }
        }
    }

    /// What is on its way between the gateway and this shard, or all, is lost.
    fn cut(&mut self, from: Option<u32>) {
        self.events.retain(|event| match event {
            Event::Batch(shard, ..) | Event::Answer(shard, ..) => {
                from.is_some_and(|from| from != *shard)
            }
            Event::Between(..) | Event::Own(..) => true,
        });
    }

    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::Gateway | Fault::GatewayAndRepeat => {
                self.cut(None);
                self.gateway();
                self.repeats = matches!(fault, Fault::GatewayAndRepeat);
                if self.repeats {
                    self.transact();
                } else {
                    self.calls += 1;
                }
            }
            Fault::Leader(shard) => {
                self.cut(Some(shard));
                self.events.retain(|event| match event {
                    Event::Own(of, _) => *of != shard,
                    Event::Between(from, to, _) => *from != shard && *to != shard,
                    Event::Batch(..) | Event::Answer(..) => true,
                });
                self.elect(shard);
                self.step(Input::Topology(self.topology()));
            }
            Fault::Link(shard) => {
                self.cut(Some(shard));
                let link = LinkId(self.shards[&shard].link);
                let node = NodeId(shard);
                self.step(Input::LinkLost { node, link });
                self.link(shard);
            }
            Fault::Between => {
                let between = |event: &Event| matches!(event, Event::Between(..));
                if let Some(at) = self.events.iter().position(between) {
                    self.events.remove(at);
                }
            }
        }
    }

    /// The next moment at which something is due; false when nothing will be.
    fn wait(&mut self) -> bool {
        let brokers = self
            .shards
            .values()
            .map(|shard| shard.broker.next_deadline());
        let core = self.core.next_deadline().map(|time| time.0);
        let next = brokers.chain([core]).flatten().min();
        let Some(next) = next.filter(|_| self.now < LONGEST_MICROS) else {
            return false;
        };
        self.now = next.max(self.now + SHORTEST_MICROS);
        self.step(Input::Elapsed);
        for shard in SHARDS {
            let mut effects = Vec::new();
            let now = self.clock();
            let broker = &mut self.shards.get_mut(&shard).unwrap().broker;
            broker.step(now, Told::Elapsed, &mut effects);
            self.asked(shard, 0, effects);
        }
        true
    }

    /// Runs to the end, with faults before these steps. How many steps there were.
    fn run(&mut self, faults: &[(usize, Fault)]) -> usize {
        self.transact();
        let mut idle = 0;
        loop {
            let due = self.steps;
            for (_, fault) in faults.iter().filter(|(at, _)| *at == due) {
                self.fail(*fault);
            }
            self.steps += 1;
            assert!(self.steps < 100_000, "it comes to no end");
            if let Some(event) = self.events.pop_front() {
                idle = 0;
                self.carry(event);
            } else if self.heard == Heard::Unknown && self.repeats {
                self.now += 100_000;
                self.transact();
            } else {
                idle += 1;
                let is_quiet = self
                    .shards
                    .values()
                    .all(|shard| shard.broker.open_transactions() == 0);
                if idle > 20 && is_quiet || !self.wait() {
                    return self.steps;
                }
            }
        }
    }

    fn check(&self, faults: &[(usize, Fault)]) {
        let mut kept = Vec::new();
        for (id, shard) in &self.shards {
            assert_eq!(
                shard.broker.open_transactions(),
                0,
                "left in shard {id}: {faults:?}"
            );
            let queue = shard.broker.queues().next().unwrap();
            let messages = shard.broker.browse(&name(*id), None, 10);
            let has_old = messages.contains(&MessagePosition::new(1, 0));
            kept.push((queue.messages, has_old));
        }
        let all = [(1, false), (1, false), (2, true)];
        let none = [(1, true), (1, true), (1, true)];
        let happened = kept == all;
        assert!(happened || kept == none, "{kept:?} after {faults:?}");
        match self.heard {
            Heard::Committed => assert!(happened, "confirmed and lost: {faults:?}"),
            Heard::RolledBack => assert!(!happened, "refused and done: {faults:?}"),
            Heard::Nothing | Heard::Unknown => assert!(!self.repeats, "no answer: {faults:?}"),
        }
        assert!(
            !(happened && self.settles_unknown),
            "it could not happen: {faults:?}"
        );
    }
}

fn play(settles_unknown: bool, faults: &[(usize, Fault)]) -> usize {
    let mut world = World::new(settles_unknown);
    let steps = world.run(faults);
    world.check(faults);
    steps
}

#[test]
fn without_a_fault_it_is_committed_or_refused() {
    let mut world = World::new(false);
    world.run(&[]);
    world.check(&[]);
    assert_eq!(world.heard, Heard::Committed);
    let mut world = World::new(true);
    world.run(&[]);
    world.check(&[]);
    assert_eq!(world.heard, Heard::RolledBack);
}

/// How far apart two faults are at most: with more between them each is as alone.
const NEAR: usize = 8;
/// The steps of the protocol itself; behind them only time passes.
const STEPS: usize = 24;

#[test]
fn one_fault_between_any_two_steps_leaves_all_or_nothing() {
    for settles_unknown in [false, true] {
        for at in 0..STEPS {
            for fault in FAULTS {
                play(settles_unknown, &[(at, fault)]);
            }
        }
    }
}

#[test]
fn two_faults_between_any_steps_leave_all_or_nothing() {
    for first_at in 0..STEPS {
        for second_at in first_at..first_at + NEAR {
            for first in FAULTS {
                for second in FAULTS {
                    play(false, &[(first_at, first), (second_at, second)]);
                }
            }
        }
    }
}
