//! Tests of what a consumer holds, across lost calls.

use quorate_proto::v1::{Deliveries, Message, Opened};

use super::*;

fn holding(messages: u32) -> Holding {
    Holding::new(
        ("orders".to_owned(), Subscription::default()),
        Bytes::from_static(&[3; 16]),
        Room {
            messages,
            bytes: 1 << 20,
        },
    )
}

fn at(value: u64) -> Position {
    Position { shard: 2, value }
}

fn deliver(holding: &mut Holding, values: &[u64]) {
    let deliveries = values
        .iter()
        .map(|value| v1::Delivery {
            position: Some(at(*value)),
            message: Some(Message::default()),
            delivery_count: 0,
            redelivered: false,
            ..v1::Delivery::default()
        })
        .collect();
    holding
        .take(ConsumeResponse {
            kind: Some(consume_response::Kind::Deliveries(Deliveries {
                deliveries,
            })),
        })
        .expect("within the credit");
}

fn opened(holding: &mut Holding, lost: &[u64]) {
    holding
        .take(ConsumeResponse {
            kind: Some(consume_response::Kind::Opened(Opened {
                lost: lost.iter().copied().map(at).collect(),
                consumer_id: Bytes::new(),
            })),
        })
        .expect("within the credit");
}

fn confirm(holding: &mut Holding, token: u64, outcome: Outcome) {
    holding
        .take(ConsumeResponse {
            kind: Some(consume_response::Kind::Settled(Settled {
                token,
                outcomes: vec![outcome.into()],
            })),
        })
        .expect("within the credit");
}

fn received(holding: &mut Holding) -> Vec<u64> {
    std::iter::from_fn(|| holding.receive())
        .map(|delivery| delivery.position.value)
        .collect()
}

/// What is sent, in one line each.
fn sent(holding: &mut Holding) -> Vec<String> {
    std::iter::from_fn(|| holding.next_request())
        .map(
            |request| match request.kind.expect("every request has a kind") {
                consume_request::Kind::Open(open) => {
                    let held: Vec<u64> = open.held.iter().map(|position| position.value).collect();
                    let credit = open.credit.expect("an open carries credit").messages;
                    format!("open held {held:?} credit {credit}")
                }
                consume_request::Kind::Credit(credit) => format!("credit {}", credit.messages),
                consume_request::Kind::Settle(settle) => {
                    let values: Vec<u64> = settle.positions.iter().map(|p| p.value).collect();
                    format!(
                        "{:?} {values:?} token {}",
                        settle.settlement(),
                        settle.token
                    )
                }
            },
        )
        .collect()
}

#[test]
fn settlements_of_a_kind_travel_together_and_credit_comes_back_in_quarters() {
    let mut holding = holding(8);
    holding.begin_call();
    assert_eq!(sent(&mut holding), ["open held [] credit 8"]);
    opened(&mut holding, &[]);
    deliver(&mut holding, &[1, 2, 3, 4]);
    assert_eq!(received(&mut holding), [1, 2, 3, 4]);
    holding.settle(at(1), Settlement::Accept);
    assert_eq!(sent(&mut holding), ["Accept [1] token 1"]);
    for value in [2, 3] {
        holding.settle(at(value), Settlement::Accept);
    }
    holding.settle(at(4), Settlement::Return);
    assert_eq!(
        sent(&mut holding),
        ["Accept [2, 3] token 2", "Return [4] token 3", "credit 4"]
    );
    assert!(holding.has_unconfirmed());
    for token in 1..=3 {
        confirm(&mut holding, token, Outcome::Applied);
    }
    assert!(!holding.has_unconfirmed());
}

#[test]
fn a_new_call_holds_what_is_unsettled_or_unconfirmed_and_settles_again() {
    let mut holding = holding(10);
    holding.begin_call();
    sent(&mut holding);
    deliver(&mut holding, &[1, 2, 3, 4]);
    received(&mut holding);
    holding.settle(at(2), Settlement::Accept);
    sent(&mut holding);
    holding.settle(at(1), Settlement::Accept);

    holding.begin_call();
    assert!(holding.is_waiting());
    assert_eq!(
        sent(&mut holding),
        [
            "open held [1, 2, 3, 4] credit 8",
            "Accept [2] token 1",
            "Accept [1] token 2"
        ]
    );
    opened(&mut holding, &[2]);
    confirm(&mut holding, 1, Outcome::UnknownMessage);
    confirm(&mut holding, 2, Outcome::Applied);
    assert!(!holding.is_waiting());
    assert_eq!(holding.unknown(), 1);
    deliver(&mut holding, &[3, 4, 5]);
    assert_eq!(received(&mut holding), [5], "held ones are not given twice");
}

#[test]
fn what_is_lost_is_dropped_unsettled() {
    let mut holding = holding(10);
    holding.begin_call();
    sent(&mut holding);
    deliver(&mut holding, &[1, 2, 3]);
    assert_eq!(holding.receive().map(|d| d.position.value), Some(1));
    holding.begin_call();
    sent(&mut holding);
    opened(&mut holding, &[1, 2]);
    assert_eq!(received(&mut holding), [3]);
    holding.settle(at(1), Settlement::Accept);
    assert_eq!(
        sent(&mut holding),
        ["credit 2"],
        "no settlement of a lost message"
    );
    deliver(&mut holding, &[2]);
    assert_eq!(received(&mut holding), [2], "it may come again");
}

#[test]
fn a_released_message_may_come_again_before_its_settlement_is_confirmed() {
    let mut holding = holding(10);
    holding.begin_call();
    sent(&mut holding);
    deliver(&mut holding, &[1, 2]);
    received(&mut holding);
    holding.settle(at(1), Settlement::Release);
    holding.settle(at(2), Settlement::Accept);
    sent(&mut holding);
    deliver(&mut holding, &[1, 2]);
    assert_eq!(received(&mut holding), [1], "the accepted one is dropped");
    holding.begin_call();
    assert_eq!(
        sent(&mut holding),
        ["open held [2, 1] credit 9", "Accept [2] token 2"]
    );
}

#[test]
fn more_than_the_credit_is_refused_in_the_end() {
    let mut holding = holding(1);
    holding.begin_call();
    let mut overrun = false;
    for value in 0..5000 {
        let result = holding.arrive(v1::Delivery {
            position: Some(at(value)),
            ..v1::Delivery::default()
        });
        overrun |= result.is_err();
    }
    assert!(overrun);
    assert!(holding.held.len() < 2000);
}

#[test]
fn closing_waits_for_confirms() {
    let mut holding = holding(10);
    holding.begin_call();
    sent(&mut holding);
    deliver(&mut holding, &[1]);
    holding.settle(at(1), Settlement::Accept);
    holding.close();
    assert!(!holding.is_done());
    sent(&mut holding);
    confirm(&mut holding, 1, Outcome::Applied);
    assert!(holding.is_done());
    holding.end(Error::Closed);
    assert_eq!(holding.ended(), Some(&Error::Closed));
}

#[test]
fn no_credit_is_given_while_too_many_settlements_are_unconfirmed() {
    let mut holding = holding(10_000);
    holding.begin_call();
    sent(&mut holding);
    let all = HELD as u64;
    for first in (0..all).step_by(1000) {
        let values: Vec<u64> = (first..(first + 1000).min(all)).collect();
        deliver(&mut holding, &values);
        for value in values {
            holding.settle(at(value), Settlement::Accept);
        }
    }
    let settles = sent(&mut holding);
    assert!(settles.iter().all(|line| line.starts_with("Accept")));
    confirm(&mut holding, 1, Outcome::Applied);
    assert_eq!(sent(&mut holding), [format!("credit {all}")]);
}

#[test]
fn what_an_ended_consumer_had_not_handed_out_is_not_handed_out() {
    let mut holding = holding(10);
    holding.begin_call();
    sent(&mut holding);
    deliver(&mut holding, &[1, 2]);
    assert_eq!(holding.receive().map(|d| d.position.value), Some(1));
    holding.end(Error::Refused("it hung".to_owned()));
    assert!(holding.receive().is_none());
    assert!(holding.ended().is_some());
}
