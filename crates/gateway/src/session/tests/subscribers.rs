//! A topic that moves: its subscribers are let in where it goes once that is sure of them, and their subscriptions end in
//! both shards or in neither.

use quorate_message::{Batch, Command as Logged, slot};

use super::consuming::attached;
use super::following::{OTHER, batch_of, bench, hear_other, moving, picture, said};
use super::topics::durable;
use super::*;
use crate::limits::ENDING_MICROS;

fn subscriber(bench: &mut Bench, held: Vec<(ShardId, MessagePosition)>) -> Vec<Effect> {
    let mut open = durable(queue().as_str());
    open.held = held;
    bench.step(Input::Consume { call: CALL, open })
}

/// The first command of each batch on a control stream, with its shard.
fn logged(effects: &[Effect]) -> Vec<(ShardId, Logged)> {
    let batches = effects.iter().filter_map(|effect| match effect {
        Effect::Control {
            shard,
            command: Command::Submit { batch, .. },
            ..
        } => Some((*shard, Batch::parse(batch.clone()).unwrap())),
        _ => None,
    });
    batches
        .map(|(shard, batch)| {
            let mut commands = batch.commands().map(|(_, command)| command);
            let first = commands.find(|command| !matches!(command, Logged::Origin { .. }));
            (shard, first.unwrap())
        })
        .collect()
}

/// The number of the last batch for a shard.
fn number_at(wanted: ShardId, effects: &[Effect]) -> u64 {
    let numbers = effects.iter().filter_map(|effect| match effect {
        Effect::Control {
            shard,
            command: Command::Submit { number, .. },
            ..
        } if *shard == wanted => Some(number.0),
        _ => None,
    });
    numbers.last().expect("a batch goes out")
}

fn subscribed(effects: &[Effect]) -> Vec<(ShardId, u64)> {
    let asked = logged(effects).into_iter();
    let asked = asked.filter_map(|(shard, command)| match command {
        Logged::Subscribe { by_move, .. } => Some((shard, by_move)),
        _ => None,
    });
    asked.collect()
}

/// A subscriber is let in where its topic lives.
fn admitted() -> Bench {
    let mut bench = bench();
    let effects = subscriber(&mut bench, Vec::new());
    let (_, number) = batch_of(&effects);
    bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    bench
}

fn no_subscription(generation: u64) -> NodeEvent {
    NodeEvent::AttachRefused {
        consumer: CONSUMER,
        generation: Generation(generation),
        reason: "it is not there".into(),
        is_no_subscription: true,
    }
}

#[test]
fn a_subscriber_asks_where_its_topic_goes_until_it_is_let_in() {
    let mut bench = bench();
    bench.step(Input::Topology(picture(2, &moving())));
    let effects = subscriber(&mut bench, Vec::new());
    assert_eq!(subscribed(&effects), [(OTHER, 1)], "by the first move");
    let ends = logged(&effects);
    let ends = ends.iter().any(|(shard, command)| {
        *shard == SHARD
            && matches!(
                command,
                Logged::Unsubscribe {
                    unless_of: Some(_),
                    ..
                }
            )
    });
    assert!(ends, "what is there of another topic ends: {effects:?}");
    let mut number = number_at(OTHER, &effects);
    for _ in 0..2 {
        let effects = hear_other(&mut bench, all(number, Outcome::Moved));
        assert_eq!(said(&effects), []);
        let effects = bench.wait();
        assert_eq!(subscribed(&effects), [(OTHER, 1)]);
        number = number_at(OTHER, &effects);
    }
    let effects = hear_other(&mut bench, all(number, Outcome::Applied));
    assert_eq!(said(&effects), [(OTHER, "attach")]);
}

#[test]
fn a_subscriber_settles_what_it_brings_where_it_got_it_and_makes_nothing_there() {
    let mut bench = bench();
    bench.step(Input::Topology(picture(2, &moving())));
    let effects = subscriber(&mut bench, vec![(SHARD, position(7))]);
    assert_eq!(subscribed(&effects), []);
    let attaches = said(&effects);
    assert!(attaches.contains(&(SHARD, "attach")), "{attaches:?}");
    // It has gone with its topic: what was in the client's hands comes again there.
    let effects = bench.hear(NODE_A, 1, no_subscription(501));
    let lost = effects.iter().find_map(|effect| match effect {
        Effect::Opened { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    assert_eq!(lost, Some(vec![(SHARD, position(7))]));
    assert_eq!(subscribed(&effects), [(OTHER, 1)]);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Failed { .. }))
    );
}

#[test]
fn a_subscription_that_is_gone_ends_its_consumer_where_its_topic_lives() {
    let mut bench = admitted();
    let effects = bench.hear(NODE_A, 1, no_subscription(501));
    let failed = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Failed { .. }));
    assert!(failed, "somebody deleted it: {effects:?}");
}

#[test]
fn a_subscriber_that_is_turned_away_asks_again_where_it_is_let_in() {
    let mut bench = admitted();
    bench.hear(NODE_A, 1, attached(501, &[]));
    bench.hear(NODE_A, 1, NodeEvent::Moved(CONSUMER, Generation(501)));
    // It does not know where to.
    let effects = bench.wait();
    assert_eq!(subscribed(&effects), [(SHARD, 0)]);
    let effects = bench.step(Input::Topology(picture(2, &moving())));
    assert_eq!(subscribed(&effects), [(OTHER, 1)]);
}

/// Somebody deletes a subscription while its topic moves from one shard to the other.
fn ending() -> (Bench, Vec<Effect>) {
    let mut bench = bench();
    let mut picture = picture(2, &moving());
    picture.slots.fill(OTHER);
    picture.slots[usize::from(slot(&queue()).0)] = SHARD;
    bench.step(Input::Topology(picture));
    let key = durable("any").queue.name;
    let call = CallId(77);
    let effects = bench.step(Input::Unsubscribe { call, key });
    (bench, effects)
}

#[test]
fn the_end_of_a_subscription_that_takes_too_long_is_refused_and_not_unknown() {
    let (mut bench, effects) = ending();
    bench.now = bench.now.after(ENDING_MICROS);
    let numbers = [number_at(SHARD, &effects), number_at(OTHER, &effects)];
    bench.hear(NODE_A, 1, all(numbers[0], Outcome::Moved));
    let effects = hear_other(&mut bench, all(numbers[1], Outcome::Moved));
    let refused = effects.iter().any(|effect| {
        let Effect::Failed { failure, .. } = effect else {
            return false;
        };
        let moved = Outcome::Moved;
        matches!(failure, Failure::Refused { outcome, .. } if *outcome == moved)
    });
    assert!(refused, "{effects:?}");
}

#[test]
fn the_end_of_a_subscription_waits_until_its_topic_is_there() {
    let (mut bench, mut effects) = ending();
    for outcomes in [
        [Outcome::Moved; 2],
        [Outcome::UnknownMessage, Outcome::Applied],
    ] {
        let asked: Vec<ShardId> = logged(&effects).iter().map(|(shard, _)| *shard).collect();
        assert_eq!(asked, [SHARD, OTHER]);
        let numbers = [number_at(SHARD, &effects), number_at(OTHER, &effects)];
        effects = bench.hear(NODE_A, 1, all(numbers[0], outcomes[0]));
        effects.extend(hear_other(&mut bench, all(numbers[1], outcomes[1])));
        let done = effects.iter().find_map(|effect| match effect {
            Effect::Unsubscribed { removed, .. } => Some(*removed),
            _ => None,
        });
        let wanted = outcomes.contains(&Outcome::Applied).then_some(Some(0));
        assert_eq!(done, wanted);
        if done.is_none() {
            effects = bench.wait();
        }
    }
}
