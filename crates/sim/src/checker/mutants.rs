//! The checker is proved by breaking a good history in every way that it claims to see.

use super::history::{
    Delivery, Drained, History, Kept, Outcome, Publish, Record, Sending, Settle, Transaction,
};
use super::{Rules, Verdict, Violation, judge};

const PRODUCERS: u64 = 3;
const NUMBERS: u64 = 40;
const RULES: Rules = Rules {
    judges_rivals: true,
    stray_delivery_us: 100,
};

fn publish(producer: u64, number: u64, outcome: Outcome) -> Record {
    Record::Publish(Publish {
        queue: "orders".into(),
        producer: format!("p{producer}"),
        number,
        digest: producer * 1_000 + number,
        invoked_us: number * 10,
        done_us: number * 10 + 5,
        outcome,
        out_of_order: false,
    })
}

fn delivery(producer: u64, number: u64) -> Delivery {
    Delivery {
        queue: "orders".into(),
        consumer: format!("c{}", number % 2),
        producer: format!("p{producer}"),
        number,
        digest: producer * 1_000 + number,
        at_us: number * 10 + 7,
        position: Some(number * 1_024 + producer),
        redelivered: false,
        resent: false,
        copy: 0,
    }
}

fn settle(producer: u64, number: u64) -> Record {
    Record::Settle(Settle {
        queue: "orders".into(),
        consumer: format!("c{}", number % 2),
        producer: format!("p{producer}"),
        number,
        invoked_us: number * 10 + 7,
        done_us: number * 10 + 9,
        position: Some(number * 1_024 + producer),
        copy: 0,
        accepted: true,
        outcome: Outcome::Confirmed,
    })
}

fn kept(producer: u64, number: u64) -> Record {
    Record::Kept(Kept {
        producer: format!("p{producer}"),
        number,
        places: vec!["orders".into(), "orders>dead".into()],
        times: 1,
        outcome: Outcome::Confirmed,
        excused: false,
    })
}

/// It sends two of the messages, and accepts what nobody else does.
fn transaction(outcome: Outcome) -> Record {
    let message = |queue: &str, number| Sending {
        queue: queue.into(),
        producer: "p1".into(),
        number,
    };
    Record::Transaction(Transaction {
        name: "t.1".into(),
        sends: vec![message("orders", 3), message("orders", 4)],
        accepts: vec![message("inbox", 1)],
        outcome,
    })
}

/// A run in which all is well: everything is confirmed, delivered once and settled, one redelivery is marked.
fn good() -> History {
    let mut records = Vec::new();
    for number in 1..=NUMBERS {
        for producer in 0..PRODUCERS {
            records.push(publish(producer, number, Outcome::Confirmed));
            records.push(Record::Delivery(delivery(producer, number)));
            if number == 5 {
                let again = Delivery {
                    redelivered: true,
                    consumer: "c9".into(),
                    ..delivery(producer, number)
                };
                records.push(Record::Delivery(again));
            }
            records.push(settle(producer, number));
            records.push(kept(producer, number));
        }
    }
    records.push(transaction(Outcome::Confirmed));
    records.push(publish(0, NUMBERS + 1, Outcome::Unknown));
    records.push(Record::Drained(Drained {
        queue: "orders".into(),
    }));
    History { records }
}

fn deliveries(history: &mut History) -> Vec<&mut Delivery> {
    let records = history.records.iter_mut();
    records
        .filter_map(|record| match record {
            Record::Delivery(delivery) => Some(delivery),
            Record::Publish(_)
            | Record::Settle(_)
            | Record::Drained(_)
            | Record::Kept(_)
            | Record::Transaction(_) => None,
        })
        .collect()
}

fn check(mutate: impl Fn(&mut History), is_expected: impl Fn(&Violation) -> bool) {
    let mut history = good();
    assert!(judge(&history, RULES).is_clean(), "the unbroken history");
    mutate(&mut history);
    let verdict = judge(&history, RULES);
    assert!(verdict.violations.iter().any(is_expected), "{verdict}");
}

/// Two of a producer's messages reach one consumer in the wrong order; `others` is the name of the other consumer.
fn swapped_beside(one: &str, others: &str) -> Verdict {
    let mut history = good();
    for delivery in deliveries(&mut history) {
        delivery.consumer = if delivery.number % 2 == 0 {
            one
        } else {
            others
        }
        .into();
        if delivery.producer == "p1" {
            delivery.number = match delivery.number {
                20 => 22,
                22 => 20,
                number => number,
            };
        }
    }
    judge(
        &history,
        Rules {
            judges_rivals: false,
            ..RULES
        },
    )
}

#[test]
fn rivals_are_told_by_their_names_though_these_have_dots() {
    let is_order = |violation: &Violation| matches!(violation, Violation::OutOfOrder(..));
    let of_rivals = swapped_beside("load.1-c0", "load.1-c1");
    assert!(!of_rivals.violations.iter().any(is_order), "{of_rivals}");
    let of_one = swapped_beside("load.1-c0.1", "load.1-c0.2");
    assert!(of_one.violations.iter().any(is_order), "{of_one}");
}

#[test]
fn a_dropped_confirmed_message_is_caught() {
    check(
        |history| {
            history.records.retain(|record| {
                !matches!(record, Record::Delivery(d) if d.number == 17 && d.producer == "p1")
            });
        },
        |violation| matches!(violation, Violation::Lost(key) if key.number == 17),
    );
}

#[test]
fn an_unmarked_duplicate_is_caught() {
    check(
        |history| {
            let mut again = delivery(2, 8);
            again.consumer = "c7".into();
            history.records.push(Record::Delivery(again));
        },
        |violation| matches!(violation, Violation::Unmarked(key) if key.number == 8),
    );
}

#[test]
fn a_second_stored_copy_is_caught_even_when_marked() {
    check(
        |history| {
            let again = Delivery {
                position: Some(1),
                redelivered: true,
                ..delivery(2, 8)
            };
            history.records.push(Record::Delivery(again));
        },
        |violation| matches!(violation, Violation::StoredTwice(key, _, 1) if key.number == 8),
    );
}

#[test]
fn two_swapped_messages_are_caught() {
    check(
        |history| {
            let mut all = deliveries(history);
            let places: Vec<usize> = (0..all.len())
                .filter(|at| all[*at].producer == "p0" && [20, 22].contains(&all[*at].number))
                .collect();
            let (first, second) = (all[places[0]].clone(), all[places[1]].clone());
            *all[places[0]] = second;
            *all[places[1]] = first;
        },
        |violation| matches!(violation, Violation::OutOfOrder(key, ..) if key.number == 20),
    );
}

#[test]
fn a_resurrected_message_is_caught() {
    check(
        |history| {
            let again = Delivery {
                at_us: 10_000,
                redelivered: true,
                ..delivery(1, 9)
            };
            history.records.push(Record::Delivery(again));
        },
        |violation| matches!(violation, Violation::Resurrected(key, 10_000, _) if key.number == 9),
    );
}

#[test]
fn an_altered_byte_is_caught() {
    check(
        |history| deliveries(history)[30].digest ^= 1,
        |violation| matches!(violation, Violation::Altered(_)),
    );
}

#[test]
fn an_invented_message_is_caught() {
    check(
        |history| history.records.push(Record::Delivery(delivery(1, 999))),
        |violation| matches!(violation, Violation::Invented(key) if key.number == 999),
    );
}

#[test]
fn a_refused_message_that_comes_is_caught() {
    check(
        |history| {
            history.records.push(publish(0, 500, Outcome::Refused));
            history.records.push(Record::Delivery(delivery(0, 500)));
        },
        |violation| matches!(violation, Violation::Invented(key) if key.number == 500),
    );
}

#[test]
fn a_message_accepted_in_its_queue_and_as_a_dead_letter_is_caught() {
    check(
        |history| {
            let Record::Settle(other) = settle(1, 12) else {
                unreachable!("a settlement is a settlement");
            };
            history.records.push(Record::Settle(Settle {
                queue: "orders>dead".into(),
                ..other
            }));
        },
        |violation| matches!(violation, Violation::EndedTwice(key, 2, 1) if key.number == 12),
    );
}

#[test]
fn a_message_that_nobody_accepted_anywhere_is_caught() {
    check(
        |history| {
            history.records.retain(
                |record| !matches!(record, Record::Settle(s) if s.number == 9 && s.producer == "p0"),
            );
        },
        |violation| matches!(violation, Violation::Vanished(key, 1) if key.number == 9),
    );
}

#[test]
fn an_unknown_try_or_an_excuse_is_no_loss() {
    let mut history = good();
    for record in &mut history.records {
        match record {
            Record::Settle(settle) if settle.number == 9 => settle.outcome = Outcome::Unknown,
            Record::Settle(settle) if settle.number == 10 => settle.outcome = Outcome::Refused,
            Record::Kept(kept) if kept.number == 10 => kept.excused = true,
            Record::Publish(_)
            | Record::Delivery(_)
            | Record::Settle(_)
            | Record::Drained(_)
            | Record::Kept(_)
            | Record::Transaction(_) => {}
        }
    }
    let verdict = judge(&history, RULES);
    assert!(verdict.is_clean(), "{verdict}");
}

#[test]
fn a_transaction_of_which_a_part_came_is_caught() {
    check(
        |history| {
            history.records.retain(|record| match record {
                Record::Delivery(d) => d.number != 4 || d.producer != "p1",
                Record::Publish(p) => p.number != 4 || p.producer != "p1",
                Record::Kept(k) => k.number != 4 || k.producer != "p1",
                Record::Settle(_) | Record::Drained(_) | Record::Transaction(_) => true,
            });
        },
        |violation| matches!(violation, Violation::Torn(_, key) if key.number == 4),
    );
}

#[test]
fn what_a_transaction_accepted_and_another_consumer_too_is_caught() {
    check(
        |history| {
            let Record::Settle(other) = settle(1, 1) else {
                unreachable!("a settlement is a settlement");
            };
            let settled = Settle {
                queue: "inbox".into(),
                ..other
            };
            history.records.push(Record::Settle(settled));
            let Record::Kept(kept) = kept(1, 1) else {
                unreachable!("a message is a message");
            };
            history.records.push(Record::Kept(Kept {
                places: vec!["inbox".into()],
                ..kept
            }));
        },
        |violation| matches!(violation, Violation::EndedTwice(key, 2, 1) if key.queue == "inbox"),
    );
}

/// A message in a leader's memory, in the memories of two leaders.
#[test]
fn what_is_settled_in_a_leaders_memory_and_comes_again_from_there_is_caught() {
    let comes_again = |copy| {
        let mut history = good();
        for record in &mut history.records {
            match record {
                Record::Delivery(one) if one.number == 9 => (one.copy, one.position) = (1, None),
                Record::Settle(one) if one.number == 9 => one.copy = 1,
                _ => {}
            }
        }
        let again = Delivery {
            at_us: 10_000,
            redelivered: true,
            position: None,
            copy,
            ..delivery(1, 9)
        };
        history.records.push(Record::Delivery(again));
        judge(&history, RULES)
    };
    let verdict = comes_again(1);
    let caught = &verdict.violations[..];
    assert!(
        matches!(caught, [Violation::Resurrected(key, 10_000, _)] if key.number == 9),
        "{verdict}"
    );
    // Sent again after the crash of that leader, it is another one.
    assert!(comes_again(2).is_clean());
}

/// The commit of a client that died may come behind that of the one who takes its place; nobody else's may.
#[test]
fn what_a_living_client_sent_is_judged_beside_what_a_dead_one_did() {
    let verdict = |lost: u64, passed: u64| {
        let mut history = good();
        let mut late = Vec::new();
        history.records.retain(|record| match record {
            Record::Delivery(one) if (one.number, one.producer.as_str()) == (passed, "p1") => {
                late.push(record.clone());
                false
            }
            _ => true,
        });
        for record in &mut history.records {
            if let Record::Publish(one) = record
                && (one.number, one.producer.as_str()) == (lost, "p1")
            {
                one.out_of_order = true;
            }
        }
        history.records.extend(late);
        judge(&history, RULES)
    };
    assert!(verdict(10, 10).is_clean());
    let caught = verdict(10, 12);
    assert!(
        matches!(&caught.violations[..], [Violation::OutOfOrder(key, _, _)] if key.number == 12),
        "{caught}"
    );
}

#[test]
fn what_may_happen_is_not_held_against_the_broker() {
    let mut history = good();
    // An unknown one that was stored after all, a stray delivery within the bound, and a queue that was not drained.
    history
        .records
        .push(Record::Delivery(delivery(0, NUMBERS + 1)));
    let stray = Delivery {
        at_us: 40 * 10 + 9 + 100,
        redelivered: true,
        ..delivery(0, 40)
    };
    history.records.push(Record::Delivery(stray));
    let Record::Publish(other) = publish(0, 1, Outcome::Confirmed) else {
        unreachable!("a publish is a publish");
    };
    history.records.push(Record::Publish(Publish {
        queue: "not drained".into(),
        ..other
    }));
    let verdict = judge(&history, RULES);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.counts.recovered, 1);
}

#[test]
fn a_history_survives_its_file() {
    let history = good();
    let mut file = Vec::new();
    history.write(&mut file).unwrap();
    assert_eq!(History::read(file.as_slice()).unwrap(), history);
    let error = History::read(&b"\n{\"record\":\"nonsense\"}\n"[..]).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}
