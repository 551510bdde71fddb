//! A name that moves to another shard: what its producers sent goes there, in order, and its consumers follow.

use quorate_message::Overrides;

use super::consuming::{attached, delivered, deliveries, settle, settled};
use super::*;

pub(super) const OTHER: ShardId = ShardId(2);

/// Two shards, led by A and by B; `orders` is in the first.
pub(super) fn picture(version: u64, overrides: &Overrides) -> Topology {
    let mut topology = topology(version, 1, Some(NODE_A));
    let other = TopologyShard {
        id: OTHER,
        leader: Some(NODE_B),
        ..topology.shards[0].clone()
    };
    topology.shards.push(other);
    topology.overrides = Arc::new(overrides.clone());
    topology
}

pub(super) fn bench() -> Bench {
    let mut bench = Bench::bare();
    bench.step(Input::Topology(picture(1, &Overrides::new())));
    bench.link(NODE_A, 1);
    bench.link(NODE_B, 2);
    bench
}

pub(super) fn moving() -> Overrides {
    Overrides::new().begin(&queue(), 1, 2).unwrap()
}

pub(super) fn hear_other(bench: &mut Bench, event: NodeEvent) -> Vec<Effect> {
    bench.step(Input::FromNode {
        node: NODE_B,
        link: LinkId(2),
        shard: OTHER,
        event,
    })
}

#[test]
fn what_a_shard_takes_no_more_goes_to_the_other_one_in_order() {
    let mut bench = bench();
    bench.publish(1..=1);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    bench.step(Input::Topology(picture(2, &moving())));
    let mut effects = bench.publish(2..=3);
    effects.extend(bench.publish(4..=4));
    let sent = submitted(&effects);
    assert!(
        sent.iter().all(|(node, ..)| *node == NODE_A),
        "while it moves: {sent:?}"
    );
    let mut refusals = 2;
    let mut stored = Vec::new();
    let mut confirmed = Vec::new();
    let mut next = 5;
    for _ in 0..40 {
        let mut more = Vec::new();
        for (node, number, numbers) in submitted(&effects) {
            if node == NODE_A {
                more.extend(bench.hear(NODE_A, 1, all(number, Outcome::Moved)));
                continue;
            }
            // It is not ready at first.
            let outcome = match refusals {
                0 => Outcome::Stored,
                _ => Outcome::Moved,
            };
            refusals = u32::saturating_sub(refusals, 1);
            if outcome == Outcome::Stored {
                stored.extend(numbers);
            }
            more.extend(hear_other(&mut bench, all(number, outcome)));
        }
        if next <= 8 {
            more.extend(bench.publish(next..=next));
            next += 1;
        }
        confirmed.extend(confirms(&more));
        if submitted(&more).is_empty() && stored.len() < 7 {
            more.extend(bench.wait());
        }
        confirmed.extend(confirms(&effects));
        effects = more;
    }
    assert_eq!(stored, [2, 3, 4, 5, 6, 7, 8], "once, and in order");
    let is_good = |(_, _, outcome): &(u64, u32, Outcome)| outcome.is_stored();
    assert!(confirmed.iter().all(is_good), "{confirmed:?}");
    assert_eq!(bench.core.waiting_bytes(), 0);
    // Once it is there nobody is asked where it was.
    let there = moving().end(&queue(), 1, (1, None)).unwrap();
    bench.step(Input::Topology(picture(3, &there)));
    let sent = submitted(&bench.publish(9..=9));
    assert_eq!(sent.first().map(|(node, ..)| *node), Some(NODE_B));
}

/// The shard of the queue's move, when it is over.
fn moved() -> Overrides {
    moving().end(&queue(), 1, (1, None)).unwrap()
}

/// Two batches of one message are unanswered at the first shard.
fn two_under_way(bench: &mut Bench) -> Vec<u64> {
    bench.publish(1..=1);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    let mut effects = bench.publish(2..=2);
    effects.extend(bench.publish(3..=3));
    let sent = submitted(&effects);
    assert!(sent.iter().all(|(node, ..)| *node == NODE_A), "{sent:?}");
    assert_eq!(sent.len(), 2, "{sent:?}");
    sent.into_iter().map(|(_, number, _)| number).collect()
}

/// What goes to the second shard, by its producer's numbers, and what is confirmed.
fn at_other(effects: &[Effect]) -> Vec<u64> {
    let sent = submitted(effects).into_iter();
    let sent = sent.filter(|(node, ..)| *node == NODE_B);
    sent.flat_map(|(_, _, numbers)| numbers).collect()
}

/// The second shard stores whatever goes there; returns the producer's numbers in their order.
fn store_at_other(bench: &mut Bench, mut effects: Vec<Effect>) -> Vec<u64> {
    let mut stored = Vec::new();
    loop {
        let sent = submitted(&effects);
        let Some((_, number, numbers)) = sent.into_iter().find(|(node, ..)| *node == NODE_B) else {
            return stored;
        };
        stored.extend(numbers);
        effects = hear_other(bench, all(number, Outcome::Stored));
    }
}

#[test]
fn later_messages_wait_for_those_that_the_first_shard_has_not_answered() {
    let mut bench = bench();
    let batches = two_under_way(&mut bench);
    bench.step(Input::Topology(picture(2, &moving())));
    // The first one is answered; the answer to the second one is late.
    let effects = bench.hear(NODE_A, 1, all(batches[0], Outcome::Moved));
    let mut stored = store_at_other(&mut bench, effects);
    let effects = bench.publish(4..=4);
    stored.extend(store_at_other(&mut bench, effects));
    let effects = bench.hear(NODE_A, 1, all(batches[1], Outcome::Moved));
    stored.extend(store_at_other(&mut bench, effects));
    assert_eq!(stored, [2, 3, 4]);
    let effects = bench.publish(5..=5);
    assert_eq!(at_other(&effects), [5], "nothing waits any more");
}

#[test]
fn later_messages_wait_too_when_the_whole_move_was_not_heard_of() {
    let mut bench = bench();
    let batches = two_under_way(&mut bench);
    bench.step(Input::Topology(picture(2, &moved())));
    assert_eq!(
        at_other(&bench.publish(4..=4)),
        [0; 0],
        "two are unanswered"
    );
    let effects = bench.hear(NODE_A, 1, all(batches[0], Outcome::Stored));
    assert_eq!(at_other(&effects), [0; 0], "one is unanswered");
    let effects = bench.hear(NODE_A, 1, all(batches[1], Outcome::Moved));
    assert_eq!(store_at_other(&mut bench, effects), [3, 4]);
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn nobody_waits_for_what_has_failed_its_call() {
    let mut bench = bench();
    two_under_way(&mut bench);
    bench.step(Input::Topology(picture(2, &moved())));
    let other = |number| Input::Publish {
        call: CallId(2),
        producer: Some(ProducerId([8; 16])),
        messages: vec![Ok(publication(number))],
        trace: None,
    };
    bench.now = bench.now.after(DEADLINE / 2);
    assert_eq!(at_other(&bench.step(other(1))), [0; 0]);
    bench.now = bench.now.after(DEADLINE / 2);
    let mut effects = bench.step(Input::Elapsed);
    effects.extend(bench.step(Input::Drained));
    assert_eq!(at_other(&effects), [1]);
}

fn transient(number: u64) -> Input {
    Input::Publish {
        call: CALL,
        producer: Some(ProducerId([9; 16])),
        messages: vec![Ok(Publication {
            non_persistent: true,
            ..publication(number)
        })],
        trace: None,
    }
}

#[test]
fn non_persistent_messages_that_a_shard_takes_no_more_go_on_at_once() {
    let mut bench = bench();
    let effects = bench.step(transient(1));
    let (_, number, _) = submitted(&effects)[0];
    bench.step(Input::Topology(picture(2, &moved())));
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Moved));
    assert_eq!(confirms(&effects), []);
    let [(NODE_B, number, numbers)] = &submitted(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*numbers, [1]);
    let effects = hear_other(&mut bench, all(*number, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 1, Outcome::Stored)]);
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn non_persistent_messages_wait_until_it_is_known_where_to() {
    let mut bench = bench();
    let effects = bench.step(transient(1));
    let (_, number, _) = submitted(&effects)[0];
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Moved));
    assert_eq!(confirms(&effects), []);
    assert_eq!(submitted(&effects), []);
    assert_eq!(submitted(&bench.step(transient(2))), []);
    let effects = bench.step(Input::Topology(picture(2, &moving())));
    // It is asked for once more, which says that it leaves.
    let (_, number, _) = submitted(&effects)[0];
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Moved));
    assert_eq!(store_at_other(&mut bench, effects), [1, 2]);
    assert_eq!(bench.core.waiting_bytes(), 0);
    bench.step(Input::Drained);
    assert_eq!(at_other(&bench.step(transient(3))), [3]);
}

/// The nodes and shards of commands, and what they are.
pub(super) fn said(effects: &[Effect]) -> Vec<(ShardId, &'static str)> {
    let controls = effects.iter().filter_map(|effect| match effect {
        Effect::Control { shard, command, .. } => Some((*shard, command)),
        _ => None,
    });
    let named = controls.filter_map(|(shard, command)| match command {
        Command::Attach { .. } => Some((shard, "attach")),
        Command::Detach { .. } => Some((shard, "detach")),
        Command::Submit { .. } => Some((shard, "settle")),
        _ => None,
    });
    named.collect()
}

fn consumer(bench: &mut Bench, held: Vec<(ShardId, MessagePosition)>) -> Vec<Effect> {
    consumer_of(bench, queue(), held)
}

fn consumer_of(
    bench: &mut Bench,
    queue: DestinationName,
    held: Vec<(ShardId, MessagePosition)>,
) -> Vec<Effect> {
    bench.step(Input::Consume {
        call: CALL,
        open: OpenConsumer {
            consumer: CONSUMER,
            queue: Destination::queue(queue),
            subscription: None,
            held,
            terms: quorate_message::Terms::default(),
            credit: Credit {
                messages: 10,
                bytes: 1 << 20,
            },
            wall_micros: 100,
        },
    })
}

#[test]
fn a_consumer_settles_what_it_has_and_follows_its_queue() {
    let mut bench = bench();
    consumer(&mut bench, Vec::new());
    bench.hear(NODE_A, 1, attached(101, &[]));
    assert_eq!(
        delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[7]))),
        [7]
    );
    let effects = bench.step(Input::Topology(picture(2, &moving())));
    assert_eq!(said(&effects), [], "it holds a message");
    let effects = settle(&mut bench, Settlement::Accept, &[7], 1);
    assert_eq!(said(&effects), [(SHARD, "settle")]);
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Applied));
    assert_eq!(said(&effects), [(SHARD, "detach"), (OTHER, "attach")]);
    hear_other(&mut bench, attached(102, &[]));
    let effects = hear_other(&mut bench, deliveries(1, 102, &[3]));
    assert_eq!(delivered(&effects), [3]);
    // What it had before is not its message of the same position there.
    let effects = settle(&mut bench, Settlement::Accept, &[3], 2);
    assert_eq!(settled(&effects), [(2, vec![Outcome::UnknownMessage])]);
    assert_eq!(said(&effects), []);
    let effects = bench.step(Input::Settle {
        call: CALL,
        settlement: Settlement::Accept,
        positions: vec![(OTHER, position(3))],
        token: 3,
    });
    assert_eq!(said(&effects), [(OTHER, "settle")], "it has that one");
}

#[test]
fn a_consumer_that_comes_back_settles_where_it_got_it() {
    let mut bench = bench();
    bench.step(Input::Topology(picture(2, &moving())));
    let effects = consumer(&mut bench, vec![(SHARD, position(7))]);
    assert_eq!(said(&effects), [(SHARD, "attach")]);
    bench.hear(NODE_A, 1, attached(101, &[]));
    let effects = settle(&mut bench, Settlement::Accept, &[7], 1);
    assert_eq!(said(&effects), [(SHARD, "settle")]);
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Applied));
    assert_eq!(said(&effects), [(SHARD, "detach"), (OTHER, "attach")]);
}

#[test]
fn a_consumer_that_is_turned_away_waits_until_it_knows_where() {
    let mut bench = bench();
    consumer(&mut bench, Vec::new());
    let event = NodeEvent::Moved(CONSUMER, Generation(101));
    assert_eq!(said(&bench.hear(NODE_A, 1, event)), []);
    let effects = bench.step(Input::Topology(picture(2, &moving())));
    assert_eq!(said(&effects), [(SHARD, "detach"), (OTHER, "attach")]);
}

/// The shard and number of the first batch on a control stream.
pub(super) fn batch_of(effects: &[Effect]) -> (ShardId, u64) {
    let mut batches = effects.iter().filter_map(|effect| match effect {
        Effect::Control {
            shard,
            command: Command::Submit { number, .. },
            ..
        } => Some((*shard, number.0)),
        _ => None,
    });
    batches.next().expect("a batch goes out")
}

fn of_virtual_topic() -> (DestinationName, DestinationName) {
    let topic = DestinationName::new("VirtualTopic.X").unwrap();
    let queue = DestinationName::new("Consumer.A.VirtualTopic.X").unwrap();
    (topic, queue)
}

#[test]
fn a_consumer_of_a_virtual_topic_settles_what_it_has_of_a_queue_that_left() {
    let mut bench = bench();
    let (topic, queue) = of_virtual_topic();
    let moving = Overrides::new().begin(&topic, 1, 2).unwrap();
    let there = moving.end(&topic, 1, (1, None)).unwrap();
    bench.step(Input::Topology(picture(2, &there)));
    let effects = consumer_of(&mut bench, queue, vec![(SHARD, position(7))]);
    let (shard, number) = batch_of(&effects);
    assert_eq!(shard, SHARD, "it is registered where it holds something");
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Moved));
    assert_eq!(said(&effects), [(SHARD, "attach")]);
    let effects = bench.hear(NODE_A, 1, attached(101, &[7]));
    assert_eq!(said(&effects), [(SHARD, "detach"), (OTHER, "settle")]);
    let (_, number) = batch_of(&effects);
    let effects = hear_other(&mut bench, all(number, Outcome::Applied));
    assert_eq!(said(&effects), [(OTHER, "attach")]);
}

#[test]
fn a_registration_answered_by_another_shard_than_the_present_one_admits_nobody() {
    let mut bench = bench();
    let (topic, queue) = of_virtual_topic();
    let (shard, first) = batch_of(&consumer_of(&mut bench, queue, Vec::new()));
    assert_eq!(shard, SHARD);
    let moving = Overrides::new().begin(&topic, 1, 2).unwrap();
    let effects = bench.step(Input::Topology(picture(2, &moving)));
    let (shard, _) = batch_of(&effects);
    assert_eq!(shard, OTHER, "it follows");
    let effects = bench.hear(NODE_A, 1, all(first, Outcome::Applied));
    assert_eq!(said(&effects), []);
}

#[test]
fn a_queue_is_paused_where_it_goes_once_it_is_delivered_there() {
    let mut bench = bench();
    bench.step(Input::Topology(picture(2, &moving())));
    let pause = Input::Pause {
        call: CALL,
        queue: queue(),
        is_paused: true,
    };
    let effects = bench.step(pause);
    assert_eq!(said(&effects), [(SHARD, "settle")]);
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Moved));
    assert_eq!(said(&effects), [(OTHER, "settle")]);
    let effects = hear_other(&mut bench, all(1, Outcome::Applied));
    let is_done = |effect: &Effect| matches!(effect, Effect::Purged { call: CALL, .. });
    assert!(effects.iter().any(is_done), "{effects:?}");
}
