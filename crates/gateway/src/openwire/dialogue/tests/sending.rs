//! Messages on their way in.

use super::*;
use crate::session::{Cause, Failure};

#[test]
fn a_persistent_message_is_answered_when_it_is_stored() {
    let mut bench = Bench::open();
    bench.ask(|header| producer(header, 1, 0));
    let effects = bench.ask(|header| send(header, 5));
    assert!(responses(&effects).is_empty(), "it is not stored yet");
    let call = begun(&effects).expect("a call");
    let [
        Told::Publish {
            producer, messages, ..
        },
    ] = told(&effects)[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(*producer, Some(translate::producer_id(&producer_id(1))));
    assert_eq!(messages[0].as_ref().expect("well").number, 5);
    let asked = bench.last();
    let effects = bench.answer(confirmed(call, 0, Outcome::Stored));
    assert_eq!(responses(&effects), [(asked, None)]);
    assert!(bench.answer(confirmed(call, 0, Outcome::Stored)).is_empty());
}

#[test]
fn a_repeat_is_answered_like_the_first() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 5))).expect("a call");
    let effects = bench.answer(confirmed(call, 0, Outcome::Duplicate));
    assert_eq!(response(&effects), None);
}

#[test]
fn all_messages_go_by_one_call_and_are_told_apart_by_their_ordinals() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let first = bench.last();
    assert_eq!(begun(&bench.ask(|header| send(header, 2))), None);
    assert_eq!(begun(&bench.say(|header| send(header, 3))), None);
    let effects = bench.answer(confirmed(call, 1, Outcome::Stored));
    assert_eq!(responses(&effects), [(first + 1, None)]);
    let effects = bench.answer(Answer::Confirmed {
        call,
        first: 0,
        count: 3,
        outcome: Outcome::Stored,
        cause: None,
    });
    assert_eq!(responses(&effects), [(first, None)]);
}

#[test]
fn a_full_queue_is_a_resource_exception_that_names_it() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let cause = Cause {
        destination: "queue://orders".parse().expect("a queue"),
        max_messages: 10,
        max_bytes: 0,
        is_moving: false,
    };
    let effects = bench.answer(Answer::Confirmed {
        call,
        first: 0,
        count: 1,
        outcome: Outcome::QueueFull,
        cause: Some(Box::new(cause)),
    });
    let (_, exception) = responses(&effects).remove(0);
    let (class, text) = exception.expect("an exception");
    assert_eq!(class, "javax.jms.ResourceAllocationException");
    assert!(
        text.contains("queue://orders is full (max_messages=10)"),
        "{text}"
    );
}

#[test]
fn an_unknown_destination_has_its_own_exception() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let effects = bench.answer(confirmed(call, 0, Outcome::UnknownDestination));
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.InvalidDestinationException")
    );
}

#[test]
fn a_message_that_nobody_waits_for_fails_as_an_error_of_the_connection() {
    let mut bench = Bench::open();
    let call = begun(&bench.say(|header| send(header, 1))).expect("a call");
    let effects = bench.answer(confirmed(call, 0, Outcome::QueueFull));
    assert!(responses(&effects).is_empty());
    assert_eq!(errors(&effects), ["javax.jms.ResourceAllocationException"]);
}

#[test]
fn a_name_that_cannot_be_sent_to_is_refused_at_once() {
    let mut bench = Bench::open();
    let wildcard = |header| Command::Message(Box::new(message(header, 1, queue("a.>"))));
    let effects = bench.ask(wildcard);
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.InvalidDestinationException")
    );
    assert!(told(&effects).is_empty());
    assert_eq!(errors(&bench.say(wildcard)).len(), 1);
}

#[test]
fn a_message_that_is_wrong_as_it_is_fails_alone() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let effects = bench.answer(Answer::Wrong {
        call,
        ordinal: 0,
        reason: "too large".into(),
    });
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
}

#[test]
fn a_window_gets_back_what_its_client_counted_once_the_message_is_stored() {
    let mut bench = Bench::open();
    bench.ask(|header| producer(header, 1, 4096));
    let effects = bench.say(|header| {
        let mut message = message(header, 1, queue("orders"));
        message.kind = MessageKind::Bytes;
        message.content = Some(Bytes::from_static(b"12345"));
        Command::Message(Box::new(message))
    });
    let call = begun(&effects).expect("a call");
    assert_eq!(effects.len(), 2, "not yet: {effects:?}");
    let acked = |effects: &[Effect]| match effects {
        [Effect::Say(Command::ProducerAck(ack)), ..] => Some(ack.size),
        _ => None,
    };
    let effects = bench.answer(confirmed(call, 0, Outcome::Stored));
    assert_eq!(acked(&effects), Some(1029));
    bench.say(|header| send(header, 2));
    let effects = bench.answer(confirmed(call, 1, Outcome::QueueFull));
    assert_eq!(acked(&effects), Some(1024), "also of one that failed");
    bench.ask(|header| send(header, 3));
    let effects = bench.answer(confirmed(call, 2, Outcome::Stored));
    assert_eq!(acked(&effects), None, "the response does for that");
}

#[test]
fn without_an_answer_of_the_cluster_the_client_is_sent_away_to_say_it_again() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let failure = Failure::NoTopology;
    let effects = bench.answer(Answer::Failed { call, failure });
    assert!(responses(&effects).is_empty(), "it may be stored");
    assert_eq!(closing(&effects), Some(Closing::Unserved));
}

#[test]
fn after_a_call_that_failed_for_want_of_room_the_next_message_has_another_one() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    let failure = Failure::OutOfMemory { bytes_max: 1 };
    let effects = bench.answer(Answer::Failed { call, failure });
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.ResourceAllocationException")
    );
    assert!(matches!(told(&effects)[..], [Told::Dropped { call: dropped }] if *dropped == call));
    let next = begun(&bench.ask(|header| send(header, 2))).expect("another call");
    assert_ne!(next, call);
    assert_eq!(
        response(&bench.answer(confirmed(next, 0, Outcome::Stored))),
        None
    );
}

#[test]
fn a_call_that_is_to_pause_stops_the_reading() {
    let mut bench = Bench::open();
    let call = begun(&bench.ask(|header| send(header, 1))).expect("a call");
    bench.answer(Answer::Pause { call });
    assert!(!bench.dialogue.may_read());
    bench.answer(Answer::Resume { call });
    assert!(bench.dialogue.may_read());
    bench.answer(Answer::Pause { call });
    let failure = Failure::OutOfMemory { bytes_max: 1 };
    bench.answer(Answer::Failed { call, failure });
    assert!(bench.dialogue.may_read(), "the call is over");
}

#[test]
fn more_messages_than_can_be_remembered_stop_the_reading() {
    let mut bench = Bench::open();
    let mut call = None;
    for sequence in 1..=crate::limits::SENDS_MAX {
        assert!(bench.dialogue.may_read());
        let effects = bench.say(|header| send(header, sequence as i64));
        call = call.or_else(|| begun(&effects));
    }
    assert!(!bench.dialogue.may_read());
    bench.answer(confirmed(call.expect("a call"), 0, Outcome::Stored));
    assert!(bench.dialogue.may_read());
}

#[test]
fn a_composite_goes_to_all_and_is_answered_once() {
    let mut bench = Bench::open();
    let effects =
        bench.ask(|header| Command::Message(Box::new(message(header, 1, queue("a,topic://b")))));
    let [Told::Publish { messages, .. }] = told(&effects)[..] else {
        panic!("{effects:?}");
    };
    let publication = messages[0].as_ref().expect("well");
    assert_eq!(publication.destination.to_string(), "queue://a");
    assert_eq!(publication.also.len(), 1);
}
