//! Data in, data out: what the machine does about each fact.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_message::{
    Batch, Command as Stored, ConsumerId, Destination, DestinationName, GatewayId, Message,
    MessagePosition, ProducerId, Settings, Settlement,
};

use super::*;

mod consuming;
mod following;
mod gone;
mod hanging;
mod holding_back;
mod properties;
mod publishing;
mod subscribers;
mod topics;
mod transacting;
mod unopened;

pub(super) const NODE_A: NodeId = NodeId(1);
pub(super) const NODE_B: NodeId = NodeId(2);
pub(super) const SHARD: ShardId = ShardId(1);
pub(super) const CALL: CallId = CallId(1);
pub(super) const DEADLINE: u64 = 30_000_000;

pub(super) fn queue() -> DestinationName {
    DestinationName::new("orders").unwrap()
}

pub(super) fn stored(text: &str) -> Bytes {
    let mut into = BytesMut::new();
    let message = Message::with_body(text.as_bytes().to_vec());
    message.encode(&mut into).unwrap();
    into.freeze()
}

pub(super) fn publication(number: u64) -> Publication {
    Publication {
        destination: Destination::queue(queue()),
        number,
        also: Vec::new(),
        is_retained: false,
        non_persistent: false,
        priority: 4,
        expires_at_ms: 0,
        schedule: None,
        message: stored(&format!("m{number}")),
    }
}

/// One shard on every slot, led by that node in that epoch.
pub(super) fn topology(version: u64, epoch: u64, leader: Option<NodeId>) -> Topology {
    let node = |id: NodeId| TopologyNode {
        id,
        name: format!("mq{:02}", id.0).into(),
        address: format!("10.0.0.{}:61601", id.0).into(),
    };
    Topology {
        version,
        nodes: vec![node(NODE_A), node(NODE_B)],
        shards: vec![TopologyShard {
            id: SHARD,
            epoch: Epoch(epoch),
            leader,
            leaderless_reason: "a majority is away".into(),
        }],
        slots: vec![SHARD; 1024],
        settings: None,
        overrides: Arc::default(),
    }
}

/// A machine and its clock.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Time,
}

impl Bench {
    pub(super) fn bare() -> Self {
        Self {
            core: Core::new(Config {
                incarnation: GatewayId([3; 16]),
                producer: ProducerId([1; 16]),
                transient_producer: ProducerId([2; 16]),
                deadline_micros: DEADLINE,
                memory_bytes: 16 << 20,
            }),
            now: Time(1_000_000),
        }
    }

    /// Linked to node A as link 1 and node B as link 2; A leads in epoch 1.
    pub(super) fn linked() -> Self {
        let mut bench = Self::bare();
        bench.step(Input::Topology(topology(1, 1, Some(NODE_A))));
        bench.link(NODE_A, 1);
        bench.link(NODE_B, 2);
        bench
    }

    pub(super) fn link(&mut self, node: NodeId, link: u64) -> Vec<Effect> {
        let link = LinkId(link);
        self.step(Input::Linked { node, link })
    }

    /// One input, and then everything that was gathered goes out.
    pub(super) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.step(self.now, input, &mut effects);
        self.core.step(self.now, Input::Drained, &mut effects);
        effects
    }

    /// Time passes, as far as the machine's own next deadline.
    pub(super) fn wait(&mut self) -> Vec<Effect> {
        self.now = self
            .now
            .max(self.core.next_deadline().expect("something is awaited"));
        self.step(Input::Elapsed)
    }

    pub(super) fn publish(&mut self, numbers: std::ops::RangeInclusive<u64>) -> Vec<Effect> {
        self.step(Input::Publish {
            call: CALL,
            producer: Some(ProducerId([9; 16])),
            messages: numbers.map(publication).map(Ok).collect(),
            trace: None,
        })
    }

    pub(super) fn hear(&mut self, node: NodeId, link: u64, event: NodeEvent) -> Vec<Effect> {
        self.step(Input::FromNode {
            node,
            link: LinkId(link),
            shard: SHARD,
            event,
        })
    }
}

/// Batches of messages that go out: to whom, under which number, with which producer's numbers.
pub(super) fn submitted(effects: &[Effect]) -> Vec<(NodeId, u64, Vec<u64>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Submit {
                node,
                number,
                batch,
                ..
            } => Some((*node, number.0, numbers(batch))),
            _ => None,
        })
        .collect()
}

/// Batches of messages that go out, each with the one that the leader must have taken right before it.
pub(super) fn chained(effects: &[Effect]) -> Vec<(u64, Option<u64>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Submit {
                number, previous, ..
            } => Some((number.0, previous.map(|previous| previous.0))),
            _ => None,
        })
        .collect()
}

pub(super) fn numbers(batch: &Bytes) -> Vec<u64> {
    let heads = heads(batch).into_iter();
    heads.map(|(number, _)| number).collect()
}

/// The numbers in a batch of messages, and whether each is named as its producer's first.
pub(super) fn heads(batch: &Bytes) -> Vec<(u64, bool)> {
    let batch = Batch::parse(batch.clone()).unwrap();
    let commands = batch.commands();
    commands
        .map(|(_, command)| match command {
            Stored::Publish {
                number, is_first, ..
            } => (number, is_first),
            other => panic!("not a publish: {other:?}"),
        })
        .collect()
}

/// Batches of messages that go out: their numbers, and their heads.
pub(super) fn submitted_heads(effects: &[Effect]) -> Vec<(u64, Vec<(u64, bool)>)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Submit { number, batch, .. } => Some((number.0, heads(batch))),
        _ => None,
    });
    sent.collect()
}

/// Commands on the control stream, but for what is reported.
pub(super) fn commands(effects: &[Effect]) -> Vec<&Command> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Control {
                command: Command::Report { .. } | Command::Reported,
                ..
            } => None,
            Effect::Control { command, .. } => Some(command),
            _ => None,
        })
        .collect()
}

/// Settlements in a batch on the control stream, with its number.
pub(super) fn settlements(command: &Command) -> (u64, Vec<(MessagePosition, Settlement)>) {
    let Command::Submit { number, batch, .. } = command else {
        panic!("not a batch: {command:?}");
    };
    let batch = Batch::parse(batch.clone()).unwrap();
    let settled = batch.commands().filter_map(|(_, command)| match command {
        Stored::Settle {
            position,
            settlement,
            ..
        } => Some((position, settlement)),
        Stored::Origin { gateway, .. } => {
            assert_eq!(gateway, GatewayId([3; 16]));
            None
        }
        other => panic!("not a settlement: {other:?}"),
    });
    (number.0, settled.collect())
}

pub(super) fn confirms(effects: &[Effect]) -> Vec<(u64, u32, Outcome)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Confirmed {
                first,
                count,
                outcome,
                ..
            } => Some((*first, *count, *outcome)),
            _ => None,
        })
        .collect()
}

pub(super) fn all(number: u64, outcome: Outcome) -> NodeEvent {
    NodeEvent::Outcomes {
        number: BatchNumber(number),
        outcomes: Outcomes::All(outcome),
        removed: 0,
    }
}

pub(super) fn position(entry: u64) -> MessagePosition {
    MessagePosition::new(entry, 0)
}

pub(super) const CONSUMER: ConsumerId = ConsumerId([7; 16]);

pub(super) fn delivery(generation: u64, entry: u64) -> StoredDelivery {
    StoredDelivery {
        consumer: CONSUMER,
        generation: Generation(generation),
        position: position(entry),
        delivery_count: 0,
        group: None,
        redelivered: false,
        message: stored("body"),
    }
}
