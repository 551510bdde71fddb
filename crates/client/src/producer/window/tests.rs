//! Tests of the window: numbers, repeats after a lost call, outcomes.

use super::*;

const ROOM: Room = Room {
    messages: 1,
    bytes: 10,
};

fn window() -> Window {
    Window::new(Bytes::from_static(&[7; 16]))
}

fn push(window: &mut Window, destination: &str) -> u64 {
    window
        .push(OutboundMessage::text(destination, "x"), ROOM)
        .expect("the producer is open")
}

fn sent(window: &mut Window, call: u64) -> Vec<(String, u64)> {
    window
        .next_request(call)
        .map(|request| request.messages)
        .unwrap_or_default()
        .into_iter()
        .map(|message| (message.destination, message.number))
        .collect()
}

fn confirm(window: &mut Window, first: u64, count: u32, outcome: Outcome) -> Result<Room, NotSent> {
    window.confirm(PublishResponse {
        confirms: vec![Confirm {
            first,
            count,
            outcome: outcome.into(),
            error: String::new(),
        }],
        held_back: Vec::new(),
    })
}

fn ask(window: &mut Window, sequence: u64) -> Option<Result<(), Error>> {
    window.poll_outcome(sequence, Waker::noop())
}

fn numbered(numbers: &[u64]) -> Vec<(String, u64)> {
    numbers.iter().map(|n| ("a".to_owned(), *n)).collect()
}

#[test]
fn numbers_rise_by_one_for_each_destination() {
    let mut window = window();
    for destination in ["a", "b", "a", "a", "b"] {
        push(&mut window, destination);
    }
    let call = window.begin_call();
    let numbers: Vec<u64> = sent(&mut window, call).iter().map(|(_, n)| *n).collect();
    assert_eq!(numbers, [1, 1, 2, 3, 2]);
    assert_eq!(window.unconfirmed_destinations(), ["a", "b"]);
}

#[test]
fn only_the_first_request_of_a_call_names_the_producer() {
    let mut window = window();
    let call = window.begin_call();
    assert_eq!(window.next_request(call), None);
    for expected in [16, 0] {
        push(&mut window, "a");
        let request = window.next_request(call).expect("something waits");
        assert_eq!(request.producer_id.len(), expected);
    }
    let call = window.begin_call();
    let request = window.next_request(call).expect("all again");
    assert_eq!((request.producer_id.len(), request.messages.len()), (16, 2));
}

#[test]
fn a_new_call_sends_what_is_unconfirmed_in_order_under_the_same_numbers() {
    let mut window = window();
    let sequences: Vec<u64> = (0..5).map(|_| push(&mut window, "a")).collect();
    let call = window.begin_call();
    assert_eq!(sent(&mut window, call), numbered(&[1, 2, 3, 4, 5]));
    assert_eq!(
        confirm(&mut window, 2, 1, Outcome::Stored),
        Ok(Room::default())
    );

    let call = window.begin_call();
    push(&mut window, "a");
    assert_eq!(sent(&mut window, call), numbered(&[1, 2, 4, 5, 6]));
    assert_eq!(ask(&mut window, sequences[3]), None);
    // Ordinal 2 of this call is number 4.
    assert_eq!(
        confirm(&mut window, 2, 1, Outcome::Duplicate),
        Ok(Room::default())
    );
    assert_eq!(ask(&mut window, sequences[3]), Some(Ok(())));
    assert_eq!(ask(&mut window, sequences[4]), None);
    let all = Room {
        messages: 6,
        bytes: 60,
    };
    let mut made = Room::default();
    for (first, count) in [(0, 2), (3, 2)] {
        let room = confirm(&mut window, first, count, Outcome::Stored).expect("they were sent");
        made.messages += room.messages;
        made.bytes += room.bytes;
    }
    assert_eq!(made, all);
    assert!(window.is_empty());
}

#[test]
fn what_was_not_sent_cannot_be_confirmed() {
    let mut window = window();
    push(&mut window, "a");
    let call = window.begin_call();
    assert_eq!(
        confirm(&mut window, 0, 1, Outcome::Stored),
        Err(NotSent { ordinal: 0 })
    );
    sent(&mut window, call);
    push(&mut window, "a");
    for first in [1, u64::MAX] {
        let result = confirm(&mut window, first, u32::MAX, Outcome::Stored);
        assert!(first == u64::MAX || result == Err(NotSent { ordinal: first }));
    }
    assert!(!window.is_empty());
    assert!(confirm(&mut window, 0, 1, Outcome::Stored).is_ok());
}

#[test]
fn each_error_reaches_the_one_who_asks_and_only_once() {
    let mut window = window();
    let old = push(&mut window, "a");
    let full = push(&mut window, "a");
    let wrong = push(&mut window, "a");
    let nobody = push(&mut window, "a");
    let call = window.begin_call();
    sent(&mut window, call);
    window.abandon(nobody);
    for (ordinal, outcome) in [
        Outcome::NumberTooOld,
        Outcome::LimitReached,
        Outcome::Unspecified,
        Outcome::LimitReached,
    ]
    .into_iter()
    .enumerate()
    {
        confirm(&mut window, ordinal as u64, 1, outcome).expect("they were sent");
    }
    assert!(matches!(
        ask(&mut window, old),
        Some(Err(Error::NumberTooOld { number: 1, .. }))
    ));
    assert!(matches!(
        ask(&mut window, full),
        Some(Err(Error::LimitReached(_)))
    ));
    window.abandon(wrong);
    assert!(window.failed.is_empty(), "nothing is kept for nobody");
}

#[test]
fn frames_are_bounded_by_messages_and_bytes_but_one_always_fits() {
    let mut window = window();
    for _ in 0..=FRAME_MESSAGES {
        push(&mut window, "a");
    }
    let call = window.begin_call();
    assert_eq!(sent(&mut window, call).len(), FRAME_MESSAGES);
    assert_eq!(sent(&mut window, call).len(), 1);
    let large = Room {
        messages: 1,
        bytes: FRAME_BYTES * 2,
    };
    for _ in 0..2 {
        window
            .push(OutboundMessage::text("a", "x"), large)
            .expect("the producer is open");
    }
    assert_eq!(sent(&mut window, call).len(), 1);
    assert_eq!(sent(&mut window, call).len(), 1);
    assert_eq!(sent(&mut window, call).len(), 0);
}

#[test]
fn after_the_end_everybody_is_told_why() {
    let mut window = window();
    let confirmed = push(&mut window, "a");
    let open = push(&mut window, "a");
    let call = window.begin_call();
    sent(&mut window, call);
    confirm(&mut window, 0, 1, Outcome::Stored).expect("it was sent");
    window.end(Error::Closed);
    assert!(!window.is_current(call));
    assert_eq!(ask(&mut window, confirmed), Some(Ok(())));
    assert_eq!(ask(&mut window, open), Some(Err(Error::Closed)));
    assert_eq!(
        window.push(OutboundMessage::default(), ROOM),
        Err(Error::Closed)
    );
}

#[test]
fn why_messages_wait_is_remembered_until_they_are_confirmed_or_sent_elsewhere() {
    let mut window = window();
    let held = || PublishResponse {
        confirms: Vec::new(),
        held_back: vec![v1::HeldBack {
            destination: "queue://a".to_owned(),
            reason: "queue://a is full".to_owned(),
        }],
    };
    push(&mut window, "a");
    let call = window.begin_call();
    sent(&mut window, call);
    window.confirm(held()).expect("nothing is confirmed");
    assert_eq!(window.held_back(), "queue://a is full");
    let call = window.begin_call();
    assert_eq!(window.held_back(), "", "another gateway says it itself");
    sent(&mut window, call);
    window.confirm(held()).expect("nothing is confirmed");
    confirm(&mut window, 0, 1, Outcome::Stored).expect("it was sent");
    assert_eq!(window.held_back(), "");
}
