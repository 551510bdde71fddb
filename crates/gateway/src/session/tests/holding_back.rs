//! Producers that are held back because their destination is full.

use quorate_message::{
    Pattern,
    settings::{OnFull, PartialSettings, Rule},
};

use super::*;

const PRODUCER: ProducerId = ProducerId([9; 16]);

fn to(name: &str, number: u64) -> Publication {
    Publication {
        destination: Destination::queue(DestinationName::new(name).unwrap()),
        ..publication(number)
    }
}

fn send(
    bench: &mut Bench,
    call: u64,
    producer: Option<ProducerId>,
    messages: Vec<Publication>,
) -> Vec<Effect> {
    bench.step(Input::Publish {
        call: CallId(call),
        producer,
        messages: messages.into_iter().map(Ok).collect(),
        trace: None,
    })
}

/// The leader answers each of these batches so.
fn answer(bench: &mut Bench, sent: &[Effect], outcome: impl Fn(u64) -> Outcome) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (_, number, numbers) in submitted(sent) {
        effects.extend(bench.hear(
            NODE_A,
            1,
            NodeEvent::Outcomes {
                number: BatchNumber(number),
                outcomes: Outcomes::Each(numbers.into_iter().map(&outcome).collect()),
                removed: 0,
            },
        ));
    }
    effects
}

fn blocked(_: u64) -> Outcome {
    Outcome::Blocked
}

fn stored(_: u64) -> Outcome {
    Outcome::Stored
}

fn held_back(effects: &[Effect]) -> Vec<(CallId, String)> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::HeldBack { call, cause } => Some((*call, cause.destination.to_string())),
        _ => None,
    });
    told.collect()
}

/// Time passes until something goes out.
fn next_try(bench: &mut Bench) -> Vec<Effect> {
    for _ in 0..20 {
        let effects = bench.wait();
        if !submitted(&effects).is_empty() {
            return effects;
        }
    }
    panic!("nothing is tried");
}

#[test]
fn what_has_no_room_waits_in_order_and_is_confirmed_when_there_is_some() {
    let mut bench = Bench::linked();
    let sent = send(
        &mut bench,
        1,
        Some(PRODUCER),
        (1..=4).map(|n| to("orders", n)).collect(),
    );
    let effects = answer(&mut bench, &sent, |number| match number {
        1 => Outcome::Stored,
        _ => Outcome::Blocked,
    });
    assert_eq!(confirms(&effects), [(0, 1, Outcome::Stored)]);
    assert_eq!(
        held_back(&effects),
        [(CALL, "queue://orders".to_owned())],
        "said once"
    );
    assert_eq!(bench.core.held_back(), 3);
    // Nothing is sent at once; then one message asks, named as the first.
    assert!(submitted(&effects).is_empty());
    let sent = next_try(&mut bench);
    assert_eq!(submitted_heads(&sent)[0].1, [(2, true)]);
    // What comes meanwhile queues up.
    let later = send(&mut bench, 1, Some(PRODUCER), vec![to("orders", 5)]);
    assert!(submitted(&later).is_empty() && held_back(&later).is_empty());
    // There is room: the next tries are larger.
    let effects = answer(&mut bench, &sent, stored);
    assert_eq!(confirms(&effects), [(1, 1, Outcome::Stored)]);
    assert_eq!(submitted_heads(&effects)[0].1, [(3, true), (4, false)]);
    let effects = answer(&mut bench, &effects, stored);
    assert_eq!(submitted_heads(&effects)[0].1, [(5, true)]);
    let effects = answer(&mut bench, &effects, stored);
    assert_eq!(confirms(&effects), [(4, 1, Outcome::Stored)]);
    assert_eq!((bench.core.held_back(), bench.core.waiting_bytes()), (0, 0));
    // It is over: the next message goes at once.
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![to("orders", 6)]);
    assert_eq!(submitted_heads(&sent)[0].1, [(6, false)]);
}

#[test]
fn other_destinations_and_producers_go_on() {
    let mut bench = Bench::linked();
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![to("orders", 1)]);
    answer(&mut bench, &sent, blocked);
    let sent = send(
        &mut bench,
        1,
        Some(PRODUCER),
        vec![to("orders", 2), to("bills", 1)],
    );
    let numbers: Vec<_> = submitted(&sent).into_iter().map(|(_, _, n)| n).collect();
    assert_eq!(numbers, [vec![1]], "that for bills");
    assert_eq!(
        confirms(&answer(&mut bench, &sent, stored)),
        [(2, 1, Outcome::Stored)]
    );
    let sent = send(
        &mut bench,
        2,
        Some(ProducerId([8; 16])),
        vec![to("bills", 1)],
    );
    assert_eq!(submitted(&sent).len(), 1);
}

#[test]
fn a_full_destination_is_asked_ever_more_rarely() {
    let mut bench = Bench::linked();
    let sent = send(
        &mut bench,
        1,
        Some(PRODUCER),
        (1..=9).map(|n| to("orders", n)).collect(),
    );
    answer(&mut bench, &sent, blocked);
    let begin = bench.now;
    let mut tries = 0;
    while bench.now.since(begin) < 10_000_000 {
        let sent = next_try(&mut bench);
        assert_eq!(submitted_heads(&sent)[0].1, [(1, true)], "one message asks");
        answer(&mut bench, &sent, blocked);
        tries += 1;
    }
    assert!((15..30).contains(&tries), "{tries} tries in ten seconds");
}

#[test]
fn what_the_gateway_numbers_has_no_order_to_wait_for() {
    let mut bench = Bench::linked();
    let sent = send(&mut bench, 1, None, vec![to("orders", 0)]);
    assert_eq!(submitted_heads(&sent)[0].1, [(1, true)]);
    answer(&mut bench, &sent, blocked);
    for call in 2..=4 {
        send(&mut bench, call, None, vec![to("orders", 0)]);
    }
    let sent = next_try(&mut bench);
    let sent = answer(&mut bench, &sent, stored);
    assert_eq!(submitted_heads(&sent)[0].1, [(2, true), (3, true)]);
}

#[test]
fn a_client_that_left_leaves_nothing_behind() {
    let mut bench = Bench::linked();
    let sent = send(
        &mut bench,
        1,
        Some(PRODUCER),
        vec![to("orders", 1), to("orders", 2)],
    );
    answer(&mut bench, &sent, blocked);
    let other = ProducerId([8; 16]);
    send(&mut bench, 2, Some(other), vec![to("orders", 1)]);
    let sent = next_try(&mut bench);
    bench.step(Input::Dropped { call: CallId(1) });
    assert_eq!(bench.core.held_back(), 1);
    let effects = answer(&mut bench, &sent, stored);
    assert!(confirms(&effects).is_empty());
    let effects = answer(&mut bench, &effects, stored);
    assert_eq!(confirms(&effects), [(0, 1, Outcome::Stored)]);
    assert_eq!((bench.core.held_back(), bench.core.waiting_bytes()), (0, 0));
}

#[test]
fn a_client_whose_time_is_over_is_told_what_was_full() {
    let mut bench = Bench::linked();
    let rule = Rule {
        pattern: Pattern::new("orders").unwrap(),
        settings: PartialSettings {
            max_messages: Some(7),
            on_full: Some(OnFull::Block),
            ..PartialSettings::default()
        },
    };
    bench.step(Input::Topology(Topology {
        settings: Some(Arc::new(Settings::with_rules(1, [rule]).unwrap())),
        ..topology(2, 1, Some(NODE_A))
    }));
    let sent = send(&mut bench, 1, None, vec![to("orders", 0)]);
    // A call that waits for something else is not touched.
    assert!(bench.step(Input::GiveUp { call: CALL }).is_empty());
    answer(&mut bench, &sent, blocked);
    let effects = bench.step(Input::GiveUp { call: CALL });
    let failed = effects.iter().find_map(|effect| match effect {
        Effect::Failed {
            failure: Failure::HeldBack { cause },
            ..
        } => Some((cause.destination.to_string(), cause.max_messages)),
        _ => None,
    });
    assert_eq!(failed, Some(("queue://orders".to_owned(), 7)));
    assert_eq!((bench.core.held_back(), bench.core.waiting_bytes()), (0, 0));
}

#[test]
fn a_composite_is_confirmed_when_the_full_one_has_it_too() {
    let mut bench = Bench::linked();
    let mut message = to("orders", 1);
    message.also = vec![to("bills", 1).destination];
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![message.clone()]);
    // Copies are in the order of their destinations.
    let number = submitted(&sent)[0].1;
    let effects = bench.hear(
        NODE_A,
        1,
        NodeEvent::Outcomes {
            number: BatchNumber(number),
            outcomes: Outcomes::Each(vec![Outcome::Stored, Outcome::Blocked]),
            removed: 0,
        },
    );
    assert!(confirms(&effects).is_empty());
    assert_eq!(held_back(&effects), [(CALL, "queue://orders".to_owned())]);
    // The next one goes on to the other, and queues up here.
    message.number = 2;
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![message]);
    assert_eq!(submitted(&sent).len(), 1);
    assert!(confirms(&answer(&mut bench, &sent, stored)).is_empty());
    let sent = next_try(&mut bench);
    let effects = answer(&mut bench, &sent, stored);
    assert_eq!(confirms(&effects), [(0, 1, Outcome::Stored)]);
    let effects = answer(&mut bench, &effects, stored);
    assert_eq!(confirms(&effects), [(1, 1, Outcome::Stored)]);
    assert_eq!((bench.core.held_back(), bench.core.waiting_bytes()), (0, 0));
}

#[test]
fn a_producer_that_is_held_back_is_not_read_from_for_ever() {
    let mut bench = Bench::linked();
    let is_paused = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Pause { .. }));
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![to("orders", 1)]);
    answer(&mut bench, &sent, blocked);
    let mut number = 1;
    let paused = loop {
        let first = number + 1;
        number += 500;
        let effects = send(
            &mut bench,
            1,
            Some(PRODUCER),
            (first..=number).map(|n| to("orders", n)).collect(),
        );
        if is_paused(&effects) {
            break number;
        }
    };
    assert!((4_000..5_000).contains(&paused), "{paused}");
    // Room comes, and it is read from again before the last of it is gone.
    let mut effects = next_try(&mut bench);
    while !effects.iter().any(|e| matches!(e, Effect::Resume { .. })) {
        effects = answer(&mut bench, &effects, stored);
    }
    assert!(bench.core.held_back() > 2_000);
}

#[test]
fn what_is_wrong_costs_one_message_and_not_the_call() {
    let mut bench = Bench::linked();
    let effects = bench.step(Input::Publish {
        call: CALL,
        producer: Some(PRODUCER),
        messages: vec![
            Ok(to("orders", 1)),
            Err("destination \"a..b\": empty element".into()),
            Ok(to("orders", 2)),
        ],
        trace: None,
    });
    let wrong: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Wrong { ordinal, .. } => Some(*ordinal),
            _ => None,
        })
        .collect();
    assert_eq!(wrong, [1]);
    bench.step(Input::Finished { call: CALL });
    let effects = answer(&mut bench, &effects, stored);
    assert_eq!(
        confirms(&effects),
        [(0, 1, Outcome::Stored), (2, 1, Outcome::Stored)]
    );
    assert!(effects.iter().any(|e| matches!(e, Effect::Ended { .. })));
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn a_refusal_names_its_destination() {
    let mut bench = Bench::linked();
    let messages = vec![to("orders", 1), to("bills", 1), to("orders", 2)];
    let sent = send(&mut bench, 1, Some(PRODUCER), messages);
    let effects = answer(&mut bench, &sent, |_| Outcome::QueueFull);
    let named: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Confirmed {
                first,
                count,
                cause: Some(cause),
                ..
            } => Some((*first, *count, cause.destination.name.as_str().to_owned())),
            _ => None,
        })
        .collect();
    let named: Vec<_> = named.iter().map(|(f, c, n)| (*f, *c, n.as_str())).collect();
    assert_eq!(named, [(0, 1, "orders"), (1, 1, "bills"), (2, 1, "orders")]);
}

#[test]
fn a_call_leaves_nothing_of_its_composites_behind() {
    let mut bench = Bench::linked();
    let sent = send(&mut bench, 1, Some(PRODUCER), vec![to("orders", 1)]);
    answer(&mut bench, &sent, blocked);
    // The copy for the full one does not find room in the gateway either, when others have been sent.
    let body = "x".repeat(1 << 20);
    let large = |number, also: &[&str]| Publication {
        message: super::stored(&body),
        also: also.iter().map(|name| to(name, 0).destination).collect(),
        ..to("orders", number)
    };
    let mut number = 1;
    let effects = loop {
        number += 1;
        let effects = send(
            &mut bench,
            number,
            Some(ProducerId([8; 16])),
            vec![large(1, &["bills"])],
        );
        if effects.iter().any(|e| matches!(e, Effect::Failed { .. })) {
            break effects;
        }
        assert!(number < 100, "its memory is full at some time");
    };
    bench.step(Input::Dropped {
        call: CallId(number),
    });
    let effects = answer(&mut bench, &effects, stored);
    assert!(confirms(&effects).is_empty());
    let of_call = bench.core.composites.keys();
    assert_eq!(
        of_call.filter(|(call, _)| *call == CallId(number)).count(),
        0
    );
}
