//! A name moves from one shard to another, with a leader killed after each single one of its effects, while its producer
//! says the same to both shards all the time: in the end every message is at the target, once, in order.

use std::sync::Arc;

use quorate_broker::SessionId;
use quorate_message::{
    BatchBuilder, Destination, Message, MessagePosition, Outcome, Overrides, SLOTS, Subscription,
};
use quorate_replication::{NodeId, ShardId};

use super::cluster::{Cluster, publishes, queue, settles};
use crate::shard::{
    between::ShardMessage,
    effect::SessionEvent,
    input::{Input, Placement},
    moving::{MoveAction, MoveQuery},
};

const BEFORE: u64 = 5;
const ALL: u64 = 10;

/// Shards, a network between their leaders that delivers at once, and where each is led.
struct Pair {
    clusters: Vec<Cluster>,
    leaders: Vec<u32>,
    overrides: Arc<Overrides>,
    batches: u64,
    network: Network,
}

/// What becomes of what shards say to each other.
#[derive(Clone, Copy, PartialEq)]
enum Network {
    Delivers,
    /// Targets have no room for another name.
    Refuses,
    Loses,
}

impl Pair {
    fn new() -> Self {
        Self::of(2)
    }

    fn of(count: usize) -> Self {
        let mut pair = Self {
            clusters: (1..)
                .take(count)
                .map(ShardId)
                .map(Cluster::of_shard)
                .collect(),
            leaders: vec![1; count],
            overrides: Arc::default(),
            batches: 0,
            network: Network::Delivers,
        };
        for place in 0..count {
            pair.elect(place, 1);
        }
        pair.publish(0, 1, BEFORE);
        pair
    }

    fn publish(&mut self, place: usize, first: u64, count: u64) {
        self.batches += 1;
        let batch = publishes("orders", first, count);
        let (leader, number) = (self.leaders[place], self.batches);
        self.clusters[place].submit(leader, number, batch);
    }

    fn place(&mut self, at: usize) {
        let placement = Placement {
            slots: vec![ShardId(1); usize::from(SLOTS)].into(),
            overrides: Arc::clone(&self.overrides),
        };
        for node in 1..=3 {
            self.clusters[at].input(node, Input::Placed(placement.clone()));
        }
    }

    fn elect(&mut self, place: usize, leader: u32) {
        self.place(place);
        self.clusters[place].elect(leader);
        self.leaders[place] = leader;
    }

    /// The topology says that "orders" goes from the shard where it is to the other one.
    fn begin(&mut self, to: u32) {
        let begun = self.overrides.begin(&queue("orders"), 1, to);
        self.overrides = Arc::new(begun.unwrap());
        self.place_all();
    }

    /// The topology says that the move is over.
    fn end(&mut self) {
        self.end_for(None);
    }

    fn end_for(&mut self, refusal: Option<&str>) {
        let number = self.overrides.version();
        let ended = self.overrides.end(&queue("orders"), number, (1, refusal));
        self.overrides = Arc::new(ended.unwrap());
        self.place_all();
    }

    fn place_all(&mut self) {
        for place in 0..self.clusters.len() {
            self.place(place);
        }
    }

    /// Delivers letters until none is left.
    fn exchange(&mut self) {
        for _ in 0..1_000 {
            let mut letters = Vec::new();
            for (from, cluster) in (1..).map(ShardId).zip(&mut self.clusters) {
                let sent = std::mem::take(&mut cluster.letters);
                letters.extend(sent.into_iter().map(|(to, message)| (from, to, message)));
            }
            if letters.is_empty() {
                return;
            }
            for (from, to, message) in letters {
                let (from, to, message) = match (self.network, &message) {
                    (Network::Loses, _) => continue,
                    (Network::Refuses, ShardMessage::Submit { ask, .. }) => {
                        let (ask, outcome) = (*ask, Outcome::LimitReached);
                        let outcomes = quorate_broker::Outcomes::All { outcome, count: 1 };
                        (to, from, ShardMessage::Outcomes { ask, outcomes })
                    }
                    (Network::Refuses | Network::Delivers, _) => (from, to, message),
                };
                let place = usize::try_from(to.0).unwrap() - 1;
                let leader = self.leaders[place];
                self.clusters[place].input(leader, Input::FromShard { from, message });
            }
        }
        panic!("letters without end");
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

    /// Lets time pass until the shard that the name leaves says that it is done.
    fn run(&mut self, from: usize, also: impl Fn(&mut Self)) {
        assert_eq!(self.outcome(from, also), "");
    }

    /// The same, and what it says.
    fn outcome(&mut self, from: usize, also: impl Fn(&mut Self)) -> String {
        let number = self.overrides.version();
        for _ in 0..800 {
            self.advance(50);
            also(self);
            self.exchange();
            let told: Vec<(u64, String)> = self.clusters[from].moves.drain(..).collect();
            let told = told.into_iter().find(|(told, _)| *told == number);
            if let Some((_, refusal)) = told {
                for place in 0..self.clusters.len() {
                    self.mourn(place);
                }
                return refusal;
            }
        }
        panic!("the move does not come to its end");
    }

    fn advance(&mut self, millis: u64) {
        for _ in 0..millis / 50 {
            for place in 0..self.clusters.len() {
                self.clusters[place].advance(50);
                self.mourn(place);
            }
            self.exchange();
        }
    }

    /// Puts a message of a queue "lines" of a shard on its way to "orders".
    fn send_from(&mut self, place: usize, number: u64) {
        let leader = self.leaders[place];
        self.clusters[place].submit(leader, 200, publishes("lines", number, 1));
        let query = MoveQuery {
            query: 1,
            queue: queue("lines"),
            action: MoveAction::Move(Destination::queue(queue("orders"))),
            only: Vec::new(),
            after: None,
            upto: None,
            limit: 1,
            selector: None,
        };
        self.clusters[place].input(leader, Input::Move(Box::new(query)));
    }

    fn positions(&self, place: usize) -> Vec<MessagePosition> {
        let node = self.clusters[place].node(self.leaders[place]);
        node.shard.broker().browse(&queue("orders"), None, 100)
    }

    /// The bodies of what a shard holds, in their turn.
    fn bodies(&self, place: usize) -> Vec<String> {
        let node = self.clusters[place].node(self.leaders[place]);
        let read = |position: MessagePosition| {
            let index = quorate_replication::Index(position.entry());
            let payload = node.disk.entries[&index].payload.clone();
            let batch = quorate_message::Batch::parse(payload).unwrap();
            let message = batch.message(position.ordinal()).unwrap();
            let body = Message::decode(&message).unwrap().body;
            String::from_utf8(body.to_vec()).unwrap()
        };
        self.positions(place).into_iter().map(read).collect()
    }

    /// So many messages of a shard are on their way and wait.
    fn check_held(&self, place: usize, count: u64) {
        let node = self.clusters[place].node(self.leaders[place]);
        assert_eq!(node.shard.broker().outbox_count(), count);
    }

    fn check_all_are_at(&self, place: usize, numbers: impl Iterator<Item = u64>) {
        let expected: Vec<String> = numbers.map(|number| format!("message {number}")).collect();
        assert_eq!(self.bodies(place), expected);
        for other in (0..self.clusters.len()).filter(|other| *other != place) {
            assert_eq!(self.bodies(other), Vec::<String>::new());
        }
        for cluster in &self.clusters {
            for node in cluster.nodes.values() {
                quorate_broker::invariant::check(node.shard.broker()).unwrap();
                assert_eq!(node.shard.broker().outbox_count(), 0);
            }
        }
    }
}

/// The producer says again all that it said, and more: to where the name was, and once that shard takes nothing any
/// more, to the other one.
fn repeat(pair: &mut Pair, from: usize) {
    pair.clusters[from].told();
    pair.publish(from, 1, ALL);
    let told = pair.clusters[from].told();
    let has_moved = told.iter().any(|event| match event {
        SessionEvent::Outcomes { outcomes, .. } => {
            outcomes.iter().any(|outcome| outcome == Outcome::Moved)
        }
        _ => false,
    });
    if has_moved {
        pair.publish(1 - from, 1, ALL);
    }
}

/// Runs a move with one leader killed after so many of its effects. False: it was not killed any more.
fn run(victim: Option<usize>, effects: u64) -> bool {
    let mut pair = Pair::new();
    if let Some(place) = victim {
        pair.clusters[place].doomed = Some((NodeId(pair.leaders[place]), effects));
    }
    pair.begin(2);
    pair.run(0, |pair| repeat(pair, 0));
    let was_killed = victim.is_some_and(|place| pair.clusters[place].doomed.is_none());
    for cluster in &mut pair.clusters {
        cluster.doomed = None;
    }
    pair.end();
    repeat(&mut pair, 0);
    pair.exchange();
    pair.check_all_are_at(1, 1..=ALL);
    was_killed
}

#[test]
fn every_message_moves_with_its_name_once_whoever_dies_after_whatever_effect() {
    assert!(!run(None, 0));
    for victim in [0, 1] {
        let mut effects = 0;
        while run(Some(victim), effects) {
            effects += 1;
        }
        assert!(effects > 20, "only {effects} effects");
    }
}

#[test]
fn a_name_that_goes_and_comes_back_is_known_to_its_producers() {
    let mut pair = Pair::new();
    for round in 0..3 {
        pair.begin(2);
        pair.run(0, |pair| repeat(pair, 0));
        pair.end();
        pair.check_all_are_at(1, 1..=ALL);
        pair.begin(1);
        pair.run(1, |pair| repeat(pair, 1));
        pair.end();
        pair.check_all_are_at(0, 1..=ALL);
        assert!(pair.overrides.is_empty(), "round {round}: home again");
    }
}

#[test]
fn what_a_consumer_has_is_settled_where_it_got_it_and_the_rest_follows() {
    let mut pair = Pair::new();
    let leader = pair.leaders[0];
    pair.clusters[0].attach(leader, 1, Vec::new());
    pair.clusters[0].advance(20);
    let held = pair.positions(0);
    assert_eq!(held.len(), 5);
    pair.begin(2);
    pair.clusters[0].submit(leader, 100, settles("orders", &held[..2]));
    // What is in a consumer's hands is waited for, for a while.
    for _ in 0..20 {
        pair.clusters[0].advance(50);
        pair.exchange();
    }
    assert_eq!(pair.bodies(1), Vec::<String>::new());
    pair.publish(0, 6, 5);
    for _ in 0..300 {
        for place in 0..2 {
            pair.clusters[place].advance(50);
        }
        pair.exchange();
    }
    let moved: Vec<String> = (6..=10).map(|number| format!("message {number}")).collect();
    assert_eq!(pair.bodies(1), moved, "the others do not wait for ever");
    assert_eq!(pair.clusters[0].moves, [], "something is left");
    pair.clusters[0].told();
    pair.clusters[0].submit(leader, 101, settles("orders", &held[2..4]));
    let applied = pair.clusters[0].told().into_iter().any(|event| {
        let both = |outcomes: &quorate_broker::Outcomes| {
            outcomes.iter().all(|outcome| outcome == Outcome::Applied)
        };
        matches!(event, SessionEvent::Outcomes { number: 101, outcomes, .. } if both(&outcomes))
    });
    assert!(applied, "what was in flight is settled, once");
    // The last one comes back, and follows its name.
    let session = SessionId(1);
    pair.clusters[0].input(leader, Input::SessionLost { session });
    pair.run(0, |_| {});
    pair.check_all_are_at(1, (6..=10).chain([5]));
    let node = pair.clusters[1].node(pair.leaders[1]);
    let last = pair.positions(1)[5];
    let count = node.shard.broker().delivery_count(&queue("orders"), last);
    assert_eq!(count, 1, "its consumer was lost with it");
}

#[test]
fn a_topic_with_too_many_subscriptions_does_not_leave() {
    let mut pair = Pair::new();
    let mut builder = BatchBuilder::persistent();
    let wanted = Subscription {
        pattern: "orders".parse().unwrap(),
        selector: format!("a = '{}'", "x".repeat(8_000)),
        lifetime: quorate_message::Lifetime::Durable,
        sharing: quorate_message::Sharing::Exclusive,
        client: "client".to_owned(),
        name: "name".to_owned(),
        owner: [0; 16],
        generation: 1,
        wants_retained: false,
        start: quorate_message::Start::Next,
    };
    for key in 0..70 {
        let key = queue(&format!("key.{key}"));
        builder.subscribe(&key, &wanted).unwrap();
    }
    let leader = pair.leaders[0];
    pair.clusters[0].submit(leader, 100, builder.finish());
    pair.begin(2);
    pair.clusters[0].advance(100);
    let (number, refusal) = pair.clusters[0].moves.pop().unwrap();
    assert_eq!(number, 1);
    assert!(refusal.contains("70 subscriptions"), "{refusal}");
    pair.check_all_are_at(0, 1..=BEFORE);
}

/// A node that leads no more and does not know it hears of a move before it hears of the new leader. By what it knows the
/// name is not there.
#[test]
fn a_leader_that_was_deposed_refuses_no_move() {
    let mut pair = Pair::new();
    pair.begin(2);
    pair.run(0, |_| {});
    pair.end();
    let deposed = pair.clusters[0].part_with(1);
    pair.elect(0, 2);
    pair.begin(1);
    pair.run(1, |_| {});
    pair.end();
    let present = pair.clusters[0].replace(1, deposed);
    pair.begin(2);
    assert_eq!(pair.clusters[0].moves, []);
    pair.clusters[0].replace(1, present);
    pair.run(0, |_| {});
    pair.end();
    pair.check_all_are_at(1, 1..=BEFORE);
}

/// What cannot be logged is told all the same, by a leader that has committed something since.
#[test]
fn a_name_that_is_not_there_is_refused() {
    let mut pair = Pair::new();
    pair.begin(2);
    pair.run(0, |_| {});
    // A coordinator that knows nothing of that move.
    pair.overrides = Arc::default();
    for _ in 0..2 {
        let begun = pair.overrides.begin(&queue("orders"), 1, 2);
        pair.overrides = Arc::new(begun.unwrap());
        if pair.overrides.version() == 1 {
            pair.end_for(Some("meanwhile"));
        }
    }
    pair.place_all();
    let refusal = pair.outcome(0, |_| {});
    assert!(refusal.contains("does not live"), "{refusal}");
}

#[test]
fn what_is_on_its_way_follows_a_name_that_moved_on() {
    let mut pair = Pair::of(3);
    pair.begin(2);
    pair.run(0, |_| {});
    pair.end();
    // Before the second move is known here, and after.
    let known = Arc::clone(&pair.overrides);
    pair.begin(3);
    pair.run(1, |_| {});
    pair.end();
    let newest = std::mem::replace(&mut pair.overrides, known);
    pair.place(0);
    pair.send_from(0, 6);
    pair.advance(200);
    pair.check_held(0, 1);
    pair.overrides = newest;
    pair.place(0);
    pair.advance(1_000);
    pair.send_from(1, 7);
    pair.advance(1_000);
    pair.check_all_are_at(2, 1..=7);
    // And home again.
    pair.begin(1);
    pair.run(2, |_| {});
    pair.end();
    for place in 0..3 {
        pair.send_from(place, 8 + place as u64);
        pair.advance(1_000);
    }
    pair.check_all_are_at(0, 1..=10);
}

#[test]
fn a_name_that_its_target_refuses_stays_and_is_served() {
    let mut pair = Pair::new();
    pair.network = Network::Refuses;
    pair.begin(2);
    let refusal = pair.outcome(0, |_| {});
    assert!(refusal.contains("too many destinations"), "{refusal}");
    pair.network = Network::Delivers;
    pair.end_for(Some(&refusal));
    pair.publish(0, 6, 1);
    pair.send_from(0, 7);
    pair.send_from(1, 8);
    pair.advance(1_000);
    pair.check_all_are_at(0, 1..=8);
    let leader = pair.leaders[0];
    pair.clusters[0].attach(leader, 1, Vec::new());
    pair.clusters[0].advance(20);
    let positions = pair.positions(0);
    pair.clusters[0].submit(leader, 300, settles("orders", &positions[..7]));
    pair.begin(2);
    pair.run(0, |pair| {
        let session = SessionId(1);
        let leader = pair.leaders[0];
        pair.clusters[0].input(leader, Input::SessionLost { session });
    });
    pair.end();
    pair.check_all_are_at(1, 8..=8);
}

#[test]
fn a_name_whose_target_is_away_is_served_and_stays() {
    let mut pair = Pair::new();
    let leader = pair.leaders[0];
    pair.network = Network::Loses;
    pair.begin(2);
    pair.advance(100);
    pair.clusters[0].attach(leader, 1, Vec::new());
    pair.clusters[0].told();
    pair.publish(0, 6, 1);
    pair.clusters[0].advance(100);
    let told = pair.clusters[0].told();
    let delivered = told
        .iter()
        .any(|event| matches!(event, SessionEvent::Deliver { .. }));
    assert!(delivered, "it is delivered all the time: {told:?}");
    let before = pair.clusters[0].node(leader).shard.applied();
    let refusal = pair.outcome(0, |_| {});
    assert!(refusal.contains("did not answer"), "{refusal}");
    let entries = pair.clusters[0].node(leader).shard.applied().0 - before.0;
    assert!(entries < 10, "{entries} entries");
    pair.network = Network::Delivers;
    pair.end_for(Some(&refusal));
    let session = SessionId(1);
    pair.clusters[0].input(leader, Input::SessionLost { session });
    // What was said of the move and comes late does no harm.
    let mut builder = BatchBuilder::persistent();
    let relocating = quorate_message::Relocating {
        number: 1,
        from: 1,
        to: 2,
    };
    let to = Destination::queue(queue("orders"));
    let step = quorate_message::Step::Expect;
    builder.relocate(&to, step, relocating, &[9, 0]).unwrap();
    let ask = crate::shard::between::Ask {
        epoch: quorate_replication::Epoch(1),
        number: 999,
    };
    let batch = builder.finish();
    let late = ShardMessage::Submit { ask, batch };
    pair.clusters[0].letters.push((ShardId(2), late));
    pair.exchange();
    let known = pair.clusters[1]
        .node(1)
        .shard
        .broker()
        .relocation(&queue("orders"));
    assert!(known.is_some(), "the letter came");
    pair.send_from(1, 7);
    pair.advance(1_000);
    pair.check_all_are_at(0, 1..=7);
    pair.begin(2);
    pair.run(0, |_| {});
    pair.end();
    pair.send_from(1, 8);
    pair.send_from(0, 9);
    pair.advance(1_000);
    pair.check_all_are_at(1, 1..=9);
}

#[test]
fn a_paused_queue_is_paused_where_it_goes() {
    let mut pair = Pair::new();
    let mut builder = BatchBuilder::persistent();
    builder.pause(&queue("orders"), true).unwrap();
    let leader = pair.leaders[0];
    pair.clusters[0].submit(leader, 100, builder.finish());
    let there = pair.leaders[1];
    pair.clusters[1].attach(there, 1, Vec::new());
    pair.clusters[1].told();
    pair.begin(2);
    pair.run(0, |pair| {
        let told = pair.clusters[1].told();
        let delivered = told
            .iter()
            .any(|event| matches!(event, SessionEvent::Deliver { .. }));
        assert!(!delivered, "{told:?}");
    });
    pair.end();
    pair.check_all_are_at(1, 1..=BEFORE);
}
