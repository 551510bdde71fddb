//! Consumers: attachment, what they hold, credit, settlements.

use quorate_message::GroupId;
use quorate_message::{GroupMark, Selector, Terms};

use super::*;

pub(super) fn open(bench: &mut Bench, held: &[u64]) -> Vec<Effect> {
    bench.step(Input::Consume {
        call: CALL,
        open: OpenConsumer {
            consumer: CONSUMER,
            queue: Destination::queue(queue()),
            subscription: None,
            held: held.iter().map(|entry| (SHARD, position(*entry))).collect(),
            terms: Terms::default(),
            credit: Credit {
                messages: 10,
                bytes: 1 << 20,
            },
            wall_micros: 100,
        },
    })
}

/// Attach commands: generation, credit in messages, held entries.
fn attaches(effects: &[Effect]) -> Vec<(u64, u64, Vec<u64>)> {
    commands(effects)
        .into_iter()
        .filter_map(|command| match command {
            Command::Attach {
                generation,
                credit,
                held,
                ..
            } => {
                let held = held.iter().map(|held| held.value() / 1024).collect();
                Some((generation.0, credit.messages, held))
            }
            _ => None,
        })
        .collect()
}

pub(super) fn attached(generation: u64, lost: &[u64]) -> NodeEvent {
    NodeEvent::Attached {
        consumer: CONSUMER,
        generation: Generation(generation),
        lost: lost.iter().map(|entry| position(*entry)).collect(),
    }
}

pub(super) fn deliveries(epoch: u64, generation: u64, entries: &[u64]) -> NodeEvent {
    NodeEvent::Deliveries {
        epoch: Epoch(epoch),
        deliveries: entries
            .iter()
            .map(|entry| delivery(generation, *entry))
            .collect(),
    }
}

pub(super) fn delivered(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Delivered { deliveries, .. } => Some(deliveries),
            _ => None,
        })
        .flatten()
        .map(|delivery| delivery.position.value() / 1024)
        .collect()
}

fn opened(effects: &[Effect]) -> Vec<Vec<u64>> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Opened { lost, .. } => Some(
                lost.iter()
                    .map(|(_, position)| position.value() / 1024)
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

pub(super) fn settle(
    bench: &mut Bench,
    settlement: Settlement,
    entries: &[u64],
    token: u64,
) -> Vec<Effect> {
    bench.step(Input::Settle {
        call: CALL,
        settlement,
        positions: entries
            .iter()
            .map(|entry| (SHARD, position(*entry)))
            .collect(),
        token,
    })
}

pub(super) fn settled(effects: &[Effect]) -> Vec<(u64, Vec<Outcome>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Settled {
                token, outcomes, ..
            } => Some((*token, outcomes.clone())),
            _ => None,
        })
        .collect()
}

pub(super) fn attached_bench() -> Bench {
    let mut bench = Bench::linked();
    assert_eq!(attaches(&open(&mut bench, &[])), [(101, 10, vec![])]);
    let effects = bench.hear(NODE_A, 1, attached(101, &[]));
    assert_eq!(opened(&effects), [Vec::<u64>::new()]);
    bench
}

#[test]
fn a_new_leader_is_told_what_is_held_and_the_rest_of_the_credit() {
    let mut bench = attached_bench();
    let effects = bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6, 7]));
    assert_eq!(delivered(&effects), [5, 6, 7]);
    let sent = settle(&mut bench, Settlement::Accept, &[6], 0);
    let (number, _) = settlements(commands(&sent)[0]);
    bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(attaches(&effects), [(102, 7, vec![5, 7])]);
    let effects = bench.hear(NODE_B, 2, attached(102, &[5]));
    assert_eq!(opened(&effects), [vec![5]]);
}

#[test]
fn a_settlement_under_way_is_named_and_sent_again() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6]));
    settle(&mut bench, Settlement::Accept, &[5], 3);
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(attaches(&effects), [(102, 8, vec![6])]);
    assert!(said(&effects).contains(&"report false [5]".to_owned()));
    let again = commands(&effects)
        .into_iter()
        .find(|command| matches!(command, Command::Submit { .. }))
        .map(settlements)
        .unwrap();
    assert_eq!(again.1, [(position(5), Settlement::Accept)]);
    // The first try was committed: the position is lost to the new leader, which is no news for the client.
    let effects = bench.hear(NODE_B, 2, attached(102, &[5]));
    assert_eq!(opened(&effects), [Vec::<u64>::new()]);
    let effects = bench.hear(NODE_B, 2, all(again.0, Outcome::Applied));
    assert_eq!(settled(&effects), [(3, vec![Outcome::Applied])]);
}

/// The shard knows the repeat; the message may have expired, and be a dead letter by now.
#[test]
fn a_repeated_settlement_that_found_nothing_is_not_taken_for_one_that_was_applied() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    settle(&mut bench, Settlement::Accept, &[5], 3);
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    let again = commands(&effects)
        .into_iter()
        .find(|command| matches!(command, Command::Submit { .. }))
        .map(settlements)
        .unwrap();
    bench.hear(NODE_B, 2, attached(102, &[]));
    let effects = bench.hear(NODE_B, 2, all(again.0, Outcome::UnknownMessage));
    assert_eq!(settled(&effects), [(3, vec![Outcome::UnknownMessage])]);
}

#[test]
fn what_is_held_or_out_of_date_is_not_delivered() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[5]))).is_empty());
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(1, 100, &[6]))).is_empty());
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(0, 101, &[6]))).is_empty());
    bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[7]))).is_empty());
    bench.hear(NODE_B, 2, attached(102, &[]));
    assert_eq!(
        delivered(&bench.hear(NODE_B, 2, deliveries(2, 102, &[5, 7]))),
        [7]
    );
}

#[test]
fn a_released_message_may_come_again_before_the_answer_to_its_release() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    let sent = settle(&mut bench, Settlement::Release, &[5], 0);
    let (number, _) = settlements(commands(&sent)[0]);
    assert_eq!(
        delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[5]))),
        [5]
    );
    bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    // It is held by its second delivery.
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(attaches(&effects)[0].2, [5]);
}

#[test]
fn deliveries_that_overtake_the_attachment_come_after_it() {
    let mut bench = Bench::linked();
    open(&mut bench, &[5]);
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[5]))).is_empty());
    let effects = bench.hear(NODE_A, 1, attached(101, &[5]));
    assert_eq!(opened(&effects), [vec![5]]);
    assert_eq!(delivered(&effects), [5], "it is lost, and then given again");
}

#[test]
fn settlements_are_answered_when_committed_and_only_for_what_is_held() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6]));
    let sent = settle(&mut bench, Settlement::Accept, &[5, 9, 6], 8);
    assert_eq!(settled(&sent), []);
    let (number, batch) = settlements(commands(&sent)[0]);
    assert_eq!(batch.len(), 2, "what is not held is nobody's to settle");
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    let outcomes = vec![Outcome::Applied, Outcome::UnknownMessage, Outcome::Applied];
    assert_eq!(settled(&effects), [(8, outcomes)]);
    let again = settle(&mut bench, Settlement::Accept, &[5], 9);
    assert_eq!(settled(&again), [(9, vec![Outcome::UnknownMessage])]);
}

#[test]
fn a_consumer_leaves_after_its_settlements_are_answered() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6]));
    let sent = settle(&mut bench, Settlement::Accept, &[5], 1);
    let (number, _) = settlements(commands(&sent)[0]);
    assert_eq!(
        commands(&bench.step(Input::Finished { call: CALL })).len(),
        0
    );
    // What the client did not settle is given back by a settlement of its own, before the consumer is detached.
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    assert_eq!(settled(&effects).len(), 1);
    let (number, released) = settlements(commands(&effects)[0]);
    assert_eq!(released, [(position(6), Settlement::Release)]);
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    assert!(matches!(
        commands(&effects)[..],
        [Command::Detach {
            generation: Generation(101),
            ..
        }]
    ));
    assert!(matches!(effects.last(), Some(Effect::Ended { call: CALL })));
    assert_eq!(bench.core.consumers(), 0);
}

#[test]
fn a_broken_call_is_detached_too_without_a_word_to_it() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    let effects = bench.step(Input::Dropped { call: CALL });
    let (number, released) = settlements(commands(&effects)[0]);
    assert_eq!(released, [(position(5), Settlement::Release)]);
    // What comes meanwhile is nobody's.
    let effects = bench.hear(NODE_A, 1, deliveries(1, 101, &[6]));
    assert!(delivered(&effects).is_empty());
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    assert!(
        matches!(
            effects[..],
            [Effect::Control {
                command: Command::Detach { .. },
                ..
            }]
        ),
        "{effects:?}"
    );
}

/// Everything that a leader is told of what is held, in order.
fn said(effects: &[Effect]) -> Vec<String> {
    let entry = |at: &MessagePosition| at.value() / 1024;
    let words = effects.iter().filter_map(|effect| match effect {
        Effect::Control { command, .. } => Some(match command {
            Command::Report { is_first, leaving } => {
                let leaving = leaving.iter().flat_map(|one| &one.positions);
                let leaving: Vec<_> = leaving.map(entry).collect();
                format!("report {is_first} {leaving:?}")
            }
            Command::Attach { held, .. } => {
                let held: Vec<_> = held.iter().map(entry).collect();
                format!("attach {held:?}")
            }
            Command::Reported => "reported".to_owned(),
            Command::Leave => "leave".to_owned(),
            Command::Detach { .. } => "detach".to_owned(),
            Command::Credit { .. } => "credit".to_owned(),
            Command::Submit { .. } => "submit".to_owned(),
            Command::Recall { .. } => "recall".to_owned(),
        }),
        _ => None,
    });
    words.collect()
}

#[test]
fn a_new_leader_is_told_what_is_under_way_before_what_is_held() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6, 7]));
    settle(&mut bench, Settlement::Release, &[5], 0);
    settle(&mut bench, Settlement::Accept, &[6], 0);
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(
        said(&effects),
        [
            "report true []",
            "report false [5, 6]",
            // As it is when it attaches.
            "report false [5, 6]",
            "attach [7]",
            "reported",
            "submit"
        ]
    );
    // Of a client that is gone, what it accepted is under way as well.
    bench.step(Input::Dropped { call: CALL });
    let effects = bench.step(Input::Topology(topology(3, 3, Some(NODE_A))));
    assert_eq!(
        said(&effects),
        [
            "report true []",
            "report false [5, 6, 7]",
            "report false [5, 6, 7]",
            "reported",
            "submit"
        ]
    );
}

/// It may have been given back through another gateway before, and found waiting for its time by the accept. The leader has
/// said so by then, and gives it to whoever is next.
#[test]
fn an_accepted_message_may_come_again_before_the_answer_that_it_was_not_there() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    settle(&mut bench, Settlement::Accept, &[5], 3);
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    let again = commands(&effects).into_iter();
    let mut again = again.filter(|command| matches!(command, Command::Submit { .. }));
    let (number, _) = settlements(again.next().unwrap());
    bench.hear(NODE_B, 2, attached(102, &[]));
    let effects = bench.hear(NODE_B, 2, deliveries(2, 102, &[5]));
    assert_eq!(delivered(&effects), [5]);
    let effects = bench.hear(NODE_B, 2, all(number, Outcome::UnknownMessage));
    assert_eq!(settled(&effects), [(3, vec![Outcome::UnknownMessage])]);
    // It is held by its second delivery.
    let effects = bench.step(Input::Topology(topology(3, 3, Some(NODE_A))));
    assert_eq!(attaches(&effects)[0].2, [5]);
}

#[test]
fn what_an_earlier_leader_answered_is_not_under_way_for_the_present_one() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    let sent = settle(&mut bench, Settlement::Release, &[5], 0);
    let (number, _) = settlements(commands(&sent)[0]);
    bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    bench.hear(NODE_B, 2, attached(102, &[]));
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    assert_eq!(said(&effects), ["report true []", "reported"]);
}

#[test]
fn a_leader_is_told_as_well_when_nothing_is_held() {
    let mut bench = Bench::linked();
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(said(&effects), ["report true []", "reported"]);
    let event = NodeEvent::NotLeading {
        number: BatchNumber(0),
        epoch: Epoch(2),
    };
    bench.hear(NODE_B, 2, event);
    assert_eq!(said(&bench.wait()), ["report true []", "reported"]);
}

#[test]
fn a_gateway_that_ends_gives_back_what_is_held_and_then_says_so() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    let effects = bench.step(Input::Leave);
    let (number, released) = settlements(commands(&effects)[0]);
    assert_eq!(released, [(position(5), Settlement::Release)]);
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    assert_eq!(said(&effects), ["detach", "leave"]);
    assert!(matches!(effects.last(), Some(Effect::Left)));
}

#[test]
fn the_same_consumer_on_another_call_takes_over_with_a_higher_generation() {
    let mut bench = attached_bench();
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    let effects = bench.step(Input::Consume {
        call: CallId(2),
        open: OpenConsumer {
            consumer: CONSUMER,
            queue: Destination::queue(queue()),
            subscription: None,
            held: vec![(SHARD, position(5))],
            terms: Terms::default(),
            credit: Credit {
                messages: 1,
                bytes: 1,
            },
            wall_micros: 50,
        },
    });
    let taken = |e: &Effect| {
        matches!(
            e,
            Effect::Failed {
                call: CALL,
                failure: Failure::TakenOver
            }
        )
    };
    assert!(effects.iter().any(taken), "{effects:?}");
    assert_eq!(attaches(&effects), [(102, 1, vec![5])]);
    assert_eq!(commands(&effects).len(), 1, "not detached in between");
    // The end of the old call does not touch the new one.
    assert_eq!(
        commands(&bench.step(Input::Dropped { call: CALL })).len(),
        0
    );
    assert_eq!(bench.core.consumers(), 1);
}

#[test]
fn credit_is_passed_on_and_a_connection_that_takes_nothing_gets_no_more() {
    let mut bench = attached_bench();
    let credit = Credit {
        messages: 1_000,
        bytes: 60 << 20,
    };
    let effects = bench.step(Input::Credited { call: CALL, credit });
    let granted = match commands(&effects)[..] {
        [Command::Credit { credit, .. }] => *credit,
        ref other => panic!("no credit: {other:?}"),
    };
    assert_eq!(granted.messages, 1_000);
    // 4 MiB may be on their way to one consumer, 1 MiB was lent before.
    assert_eq!(granted.bytes, 3 << 20);
    let mut large = delivery(101, 5);
    large.message = stored(&"x".repeat(1 << 20));
    let size = large.message.len() as u64;
    let event = NodeEvent::Deliveries {
        epoch: Epoch(1),
        deliveries: vec![large],
    };
    assert_eq!(commands(&bench.hear(NODE_A, 1, event)).len(), 0);
    let effects = bench.step(Input::Taken {
        call: CALL,
        bytes: size,
    });
    match commands(&effects)[..] {
        [Command::Credit { credit, .. }] => assert_eq!(
            *credit,
            Credit {
                messages: 0,
                bytes: size
            }
        ),
        ref other => panic!("no credit: {other:?}"),
    }
}

#[test]
fn an_attachment_without_an_answer_is_asked_for_again_above_any_other_generation() {
    let mut bench = Bench::linked();
    open(&mut bench, &[]);
    assert_eq!(attaches(&bench.wait()), [(1_000_101, 10, vec![])]);
    assert_eq!(attaches(&bench.wait()), [(11_000_101, 10, vec![])]);
    assert_eq!(opened(&bench.hear(NODE_A, 1, attached(101, &[]))).len(), 0);
    assert_eq!(
        opened(&bench.hear(NODE_A, 1, attached(11_000_101, &[]))).len(),
        1
    );
}

#[test]
fn a_consumer_that_nobody_attaches_fails_at_the_deadline() {
    let mut bench = Bench::linked();
    bench.step(Input::Topology(topology(2, 2, None)));
    open(&mut bench, &[]);
    let effects = bench.wait();
    let failed = |e: &Effect| {
        matches!(
            e,
            Effect::Failed {
                failure: Failure::Deadline { .. },
                ..
            }
        )
    };
    assert!(effects.iter().any(failed), "{effects:?}");
}

#[test]
fn positions_of_another_shard_are_refused() {
    let mut bench = attached_bench();
    let effects = bench.step(Input::Settle {
        call: CALL,
        settlement: Settlement::Accept,
        positions: vec![(ShardId(4), position(1))],
        token: 1,
    });
    let failed = |e: &Effect| {
        matches!(
            e,
            Effect::Failed {
                failure: Failure::ForeignPosition { .. },
                ..
            }
        )
    };
    assert!(effects.iter().any(failed), "{effects:?}");
}

/// The terms of the one attach command.
fn terms(effects: &[Effect]) -> Terms {
    let mut attaches = commands(effects)
        .into_iter()
        .filter_map(|command| match command {
            Command::Attach { terms, .. } => Some(terms.clone()),
            _ => None,
        });
    attaches.next().expect("it attaches")
}

fn grouped(generation: u64, entry: u64, group: u64, is_last: bool) -> StoredDelivery {
    StoredDelivery {
        group: Some(GroupMark {
            id: GroupId(group),
            is_first: true,
            is_last,
        }),
        ..delivery(generation, entry)
    }
}

#[test]
fn a_new_leader_is_told_the_terms_and_the_groups_that_are_the_consumers_own() {
    let mut bench = Bench::linked();
    let wanted = Terms {
        selector: Selector::parse_optional("color = 'red'").expect("it is one"),
        is_exclusive: true,
        priority: -3,
        ..Terms::default()
    };
    let effects = bench.step(Input::Consume {
        call: CALL,
        open: OpenConsumer {
            consumer: CONSUMER,
            queue: Destination::queue(queue()),
            subscription: None,
            held: Vec::new(),
            terms: wanted.clone(),
            credit: Credit {
                messages: 10,
                bytes: 1 << 20,
            },
            wall_micros: 100,
        },
    });
    assert_eq!(terms(&effects), wanted);
    bench.hear(NODE_A, 1, attached(101, &[]));
    let event = NodeEvent::Deliveries {
        epoch: Epoch(1),
        deliveries: vec![
            grouped(101, 5, 7, false),
            grouped(101, 6, 8, false),
            grouped(101, 7, 8, true),
        ],
    };
    bench.hear(NODE_A, 1, event);
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    let expected = Terms {
        owned_groups: vec![GroupId(7)],
        was_active: true,
        ..wanted
    };
    assert_eq!(terms(&effects), expected);
}
