//! What crosses from one shard to another, with a leader killed after each single one of its effects: in the end
//! every message is in one place, once; and at no moment is one in two.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_broker::letter;
use quorate_message::{
    BatchBuilder, Destination, Message, MessagePosition, MoveReason, SLOTS, Value, slot,
};
use quorate_replication::{NodeId, ShardId};

use super::cluster::{Cluster, publishes, queue};
use crate::shard::input::{Input, Placement};

const MESSAGES: u64 = 5;
/// In the order in which they are killed: nobody, the leader of the source, that of the target.
const VICTIMS: [Option<usize>; 3] = [None, Some(0), Some(1)];

/// Two shards, a network between their leaders that delivers at once, and where each is led.
struct Pair {
    clusters: [Cluster; 2],
    leaders: [u32; 2],
    target: &'static str,
}

impl Pair {
    /// A pair in which "orders" lives in the first shard; the target lives in the second unless it is its neighbour.
    fn new(target: &'static str) -> Self {
        let clusters = [ShardId(1), ShardId(2)].map(Cluster::of_shard);
        let mut pair = Self {
            clusters,
            leaders: [1, 1],
            target,
        };
        for place in 0..2 {
            pair.elect(place, 1);
        }
        pair.clusters[0].submit(1, 1, publishes("orders", 1, MESSAGES));
        pair
    }

    fn elect(&mut self, place: usize, leader: u32) {
        let orders = usize::from(slot(&queue("orders")).0);
        let mut slots = vec![ShardId(2); usize::from(SLOTS)];
        slots[orders] = ShardId(1);
        if self.target == "neighbour" {
            slots = vec![ShardId(1); usize::from(SLOTS)];
        }
        let placement = Placement {
            slots: slots.into(),
            overrides: std::sync::Arc::default(),
        };
        for node in 1..=3 {
            self.clusters[place].input(node, Input::Placed(placement.clone()));
        }
        self.clusters[place].elect(leader);
        self.leaders[place] = leader;
    }

    /// Has the source's leader log that every message leaves for the target; those that have left, stay away.
    fn transfer_all(&mut self) {
        let mut builder = BatchBuilder::persistent();
        let target = Destination::queue(queue(self.target));
        let source = queue("orders");
        let first = self.first_entry();
        for ordinal in 0..MESSAGES {
            let ordinal = u16::try_from(ordinal).unwrap();
            let position = MessagePosition::new(first, ordinal);
            let reason = MoveReason::DeliveryLimit;
            builder
                .transfer(&source, position, &target, reason)
                .unwrap();
        }
        let (cluster, leader) = (&mut self.clusters[0], self.leaders[0]);
        let node = cluster.nodes.get_mut(&NodeId(leader)).unwrap();
        assert_eq!(node.shard.submits.push_own(builder.finish()), None);
        // Any fact makes it propose.
        cluster.input(leader, Input::Space { is_low: false });
        self.exchange();
    }

    /// The entry in which the messages were stored: the second, after the first leader's.
    fn first_entry(&self) -> u64 {
        2
    }

    /// Delivers letters until none is left.
    fn exchange(&mut self) {
        for _ in 0..100 {
            self.check_places();
            let mut letters = Vec::new();
            for (from, cluster) in [ShardId(1), ShardId(2)].into_iter().zip(&mut self.clusters) {
                let sent = std::mem::take(&mut cluster.letters);
                letters.extend(sent.into_iter().map(|(to, message)| (from, to, message)));
            }
            if letters.is_empty() {
                return;
            }
            for (from, to, message) in letters {
                let place = usize::try_from(to.0).unwrap() - 1;
                let leader = self.leaders[place];
                self.clusters[place].input(leader, Input::FromShard { from, message });
                self.check_places();
            }
        }
        panic!("letters without end");
    }

    fn advance(&mut self, millis: u64) {
        for _ in 0..millis / 50 {
            if self.is_done() {
                return;
            }
            for place in 0..2 {
                self.clusters[place].advance(50);
                self.mourn(place);
            }
            self.exchange();
            for place in 0..2 {
                self.mourn(place);
            }
        }
    }

    /// Everything has arrived and is forgotten where it was, on all replicas.
    fn is_done(&self) -> bool {
        let mut nodes = self.clusters[0].nodes.values();
        let is_empty = nodes.all(|node| node.shard.broker().outbox_count() == 0);
        let place = usize::from(self.target != "neighbour");
        is_empty && self.messages(place, self.target) == MESSAGES
    }

    /// A node that died starts again, and another leads.
    fn mourn(&mut self, place: usize) {
        let cluster = &mut self.clusters[place];
        let Some(dead) = cluster.down.pop_first() else {
            return;
        };
        cluster.doomed = None;
        cluster.restart(dead.0);
        let next = self.leaders[place] % 3 + 1;
        self.elect(place, next);
    }

    fn messages(&self, place: usize, name: &str) -> u64 {
        let node = self.clusters[place].node(self.leaders[place]);
        let mut queues = node.shard.broker().queues();
        queues
            .find(|status| status.name == queue(name))
            .map_or(0, |status| status.messages)
    }

    /// Consumers never see a message at both ends; with those on their way, the most that can be is all.
    fn check_places(&self) {
        let place = usize::from(self.target != "neighbour");
        let (here, there) = (
            self.messages(0, "orders"),
            self.messages(place, self.target),
        );
        assert!(here + there <= MESSAGES, "{here} here, {there} there");
    }

    /// What the target holds, as bodies with the properties of a dead letter.
    fn arrived(&self) -> Vec<Message> {
        let place = usize::from(self.target != "neighbour");
        let node = self.clusters[place].node(self.leaders[place]);
        let positions = node.shard.broker().browse(&queue(self.target), None, 100);
        let read = |position: MessagePosition| {
            let index = quorate_replication::Index(position.entry());
            let payload = node.disk.entries[&index].payload.clone();
            let batch = quorate_message::Batch::parse(payload).unwrap();
            Message::decode(&batch.message(position.ordinal()).unwrap()).unwrap()
        };
        positions.into_iter().map(read).collect()
    }

    fn check_all_arrived_once(&self) {
        let mut bodies: BTreeMap<Bytes, u64> = BTreeMap::new();
        for message in self.arrived() {
            let reason = message
                .properties
                .iter()
                .find(|(name, _)| name == letter::DEAD_LETTER_REASON);
            let expected = Value::Text("delivery-limit".to_owned());
            assert_eq!(reason.map(|(_, value)| value), Some(&expected));
            *bodies.entry(message.body).or_insert(0) += 1;
        }
        let expected: BTreeMap<Bytes, u64> = (1..=MESSAGES)
            .map(|number| (Bytes::from(format!("message {number}")), 1))
            .collect();
        assert_eq!(bodies, expected);
        assert_eq!(self.messages(0, "orders"), 0);
        for cluster in &self.clusters {
            for node in cluster.nodes.values() {
                quorate_broker::invariant::check(node.shard.broker()).unwrap();
                assert_eq!(node.shard.broker().outbox_count(), 0);
            }
        }
    }
}

/// Runs a transfer with one leader killed after so many of its effects. False: it was not killed any more.
fn run(target: &'static str, victim: Option<usize>, effects: u64) -> bool {
    let mut pair = Pair::new(target);
    if let Some(place) = victim {
        pair.clusters[place].doomed = Some((NodeId(pair.leaders[place]), effects));
    }
    pair.transfer_all();
    pair.advance(100);
    assert!(pair.clusters[0].down.is_empty() && pair.clusters[1].down.is_empty());
    let was_killed = victim.is_some_and(|place| pair.clusters[place].doomed.is_none());
    for cluster in &mut pair.clusters {
        cluster.doomed = None;
    }
    // If the entry was lost with the leader it is logged again; what has left does not leave twice.
    pair.transfer_all();
    pair.advance(2_000);
    pair.check_all_arrived_once();
    was_killed
}

#[test]
fn every_message_reaches_the_other_shard_once_whoever_dies_after_whatever_effect() {
    for victim in VICTIMS {
        let mut effects = 0;
        while run("dead", victim, effects) {
            effects += 1;
        }
        assert!(effects > 6 || victim.is_none(), "only {effects} effects");
    }
}

#[test]
fn a_target_in_the_same_shard_is_reached_the_same_way() {
    let mut effects = 0;
    while run("neighbour", Some(0), effects) {
        effects += 1;
    }
    assert!(effects > 8, "only {effects} effects");
}
