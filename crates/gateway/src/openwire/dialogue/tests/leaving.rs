//! What ends, and what goes back then.

use super::*;
use crate::session::Failure;

fn remove_consumer(bench: &mut Bench, last_delivered: i64) -> Vec<Effect> {
    bench.say(|header| remove(header, Removed::Consumer(consumer_id(1)), last_delivered))
}

fn open(count: u64) -> (Bench, CallId, Vec<MessageId>) {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let ids = bench.receive(call, count);
    (bench, call, ids)
}

fn is_finished(effects: &[Effect], call: CallId) -> bool {
    let told = told(effects).into_iter();
    let mut finished =
        told.filter(|told| matches!(told, Told::Finished { call: of } if *of == call));
    finished.next().is_some()
}

fn is_dropped(effects: &[Effect], call: CallId) -> bool {
    let told = told(effects).into_iter();
    let mut dropped = told.filter(|told| matches!(told, Told::Dropped { call: of } if *of == call));
    dropped.next().is_some()
}

#[test]
fn of_a_consumer_that_is_closed_only_what_reached_the_application_has_failed() {
    let (mut bench, call, ids) = open(3);
    let effects = remove_consumer(&mut bench, ids[1].broker_sequence_id);
    assert_eq!(
        settled(&effects),
        [
            (Settlement::Return, vec![1, 2]),
            (Settlement::Release, vec![3])
        ]
    );
    assert!(is_finished(&effects, call));
    let effects = bench.answer(Answer::Ended { call });
    assert!(is_dropped(&effects, call));
}

#[test]
fn where_nothing_reached_the_application_nothing_has_failed() {
    let (mut bench, _, _) = open(2);
    let effects = remove_consumer(&mut bench, -1);
    assert_eq!(settled(&effects), [(Settlement::Release, vec![1, 2])]);
}

#[test]
fn where_it_is_unknown_what_reached_the_application_all_has_failed() {
    let (mut bench, _, _) = open(2);
    let effects = remove_consumer(&mut bench, -2);
    assert_eq!(settled(&effects), [(Settlement::Return, vec![1, 2])]);
}

#[test]
fn what_an_open_transaction_has_stays_until_it_ends() {
    let (mut bench, call, ids) = open(3);
    bench.begin(1);
    bench.say(|header| ack(header, (1, AckType::Individual), (None, &ids[0]), Some(1)));
    let effects = remove_consumer(&mut bench, ids[0].broker_sequence_id);
    assert_eq!(settled(&effects), [(Settlement::Release, vec![2, 3])]);
    assert!(!is_finished(&effects, call), "the commit needs it");
    let effects = bench.deliver(call, 1);
    assert!(dispatched(&effects).is_empty());
    assert_eq!(
        settled(&effects),
        [(Settlement::Release, vec![4])],
        "nobody receives any more"
    );
    let effects = bench.ask(|header| transaction(header, 1, TransactionOperation::Rollback));
    assert_eq!(settled(&effects), [(Settlement::Return, vec![1])]);
    assert!(is_finished(&effects, call));
}

#[test]
fn a_session_takes_its_consumers_and_producers_with_it() {
    let (mut bench, call, _) = open(2);
    bench.ask(|header| producer(header, 1, 0));
    let effects = bench.ask(|header| remove(header, Removed::Session(session_id(1)), -1));
    assert_eq!(settled(&effects), [(Settlement::Release, vec![1, 2])]);
    assert!(
        responses(&effects).is_empty(),
        "not before the consumer is gone"
    );
    let effects = bench.answer(Answer::Ended { call });
    assert_eq!(response(&effects), None);
    assert!(bench.dialogue.producers.is_empty());
}

#[test]
fn the_end_of_a_connection_waits_for_what_was_sent() {
    let mut bench = Bench::open();
    let call = begun(&bench.say(|header| send(header, 1))).expect("a call");
    let connection = || {
        Removed::Connection(ConnectionId {
            value: CLIENT.to_owned(),
        })
    };
    let effects = bench.ask(|header| remove(header, connection(), -1));
    assert!(responses(&effects).is_empty(), "it might be lost");
    assert!(is_finished(&effects, call));
    let is_free = effects.iter().any(|it| matches!(it, Effect::Vacate));
    assert!(is_free, "another connection may have its client id");
    assert_eq!(
        bench.dialogue.next_deadline(),
        None,
        "however long it takes"
    );
    bench.answer(confirmed(call, 0, Outcome::Stored));
    let effects = bench.answer(Answer::Ended { call });
    assert_eq!(response(&effects), None);
    assert_eq!(
        response(&bench.ask(|header| remove(header, connection(), -1))),
        None
    );
}

#[test]
fn an_end_does_not_wait_long_for_consumers() {
    let (mut bench, _, _) = open(1);
    let effects = bench.ask(|header| remove(header, Removed::Consumer(consumer_id(1)), -1));
    assert!(responses(&effects).is_empty());
    assert_eq!(response(&bench.wait()), None);
}

#[test]
fn a_lost_socket_rolls_back_returns_and_ends_everything() {
    let (mut bench, consumer, ids) = open(3);
    bench.begin(1);
    let transact =
        bench.say(|header| ack(header, (1, AckType::Individual), (None, &ids[0]), Some(1)));
    let transact = begun(&transact).expect("a call");
    let publish = begun(&bench.say(|header| send(header, 1))).expect("a call");
    let effects = bench.step(Input::Closed);
    let calls = told(&effects);
    let rolled_back = calls
        .iter()
        .position(|told| matches!(told, Told::Dropped { call } if *call == transact));
    let returned = calls
        .iter()
        .position(|told| matches!(told, Told::Settle { .. }));
    assert!(
        rolled_back < returned,
        "what it has goes back to the consumer first"
    );
    assert_eq!(settled(&effects), [(Settlement::Return, vec![1, 2, 3])]);
    for call in [consumer, transact, publish] {
        assert!(is_dropped(&effects, call));
    }
    assert_eq!(closing(&effects), Some(Closing::Lost));
    assert!(bench.step(Input::Closed).is_empty());
    assert!(bench.answer(Answer::Ended { call: consumer }).is_empty());
}

#[test]
fn a_connection_that_is_taken_over_gives_everything_back() {
    let (mut bench, _, _) = open(1);
    let effects = bench.step(Input::TakenOver);
    assert_eq!(settled(&effects), [(Settlement::Return, vec![1])]);
    assert_eq!(closing(&effects), Some(Closing::TakenOver));
}

#[test]
fn a_consumer_that_is_closed_before_it_is_attached_answers_whoever_opened_it() {
    let mut bench = Bench::open();
    let mut info = consumer_info(1);
    let effects = bench.ask(|header| {
        info.header = header;
        Command::ConsumerInfo(Box::new(info))
    });
    let call = begun(&effects).expect("a call");
    let effects = remove_consumer(&mut bench, -1);
    assert!(response(&effects).is_some());
    assert!(is_finished(&effects, call));
    let failure = Failure::NoTopology;
    let effects = bench.answer(Answer::Failed { call, failure });
    assert_eq!(closing(&effects), None, "nobody wants it any more");
}

#[test]
fn a_closed_consumers_name_is_free_at_once() {
    let (mut bench, call, _) = open(1);
    remove_consumer(&mut bench, -1);
    let next = bench.consume(1, "orders", 10);
    assert_ne!(next, call);
    bench.answer(Answer::Ended { call });
    assert_eq!(bench.receive(next, 1).len(), 1);
}
