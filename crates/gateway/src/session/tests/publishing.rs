//! Messages: batches, order, retries, confirms, deadlines, back pressure.

use super::*;

#[test]
fn what_waits_becomes_one_batch_and_is_confirmed_by_ordinal() {
    let mut bench = Bench::linked();
    assert_eq!(
        submitted(&bench.publish(1..=3)),
        [(NODE_A, 1, vec![1, 2, 3])]
    );
    // The first batch proves the leader; what comes meanwhile waits and becomes one batch.
    assert_eq!(submitted(&bench.publish(4..=5)), []);
    assert_eq!(submitted(&bench.publish(6..=6)), []);
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 3, Outcome::Stored)]);
    assert_eq!(submitted(&effects), [(NODE_A, 2, vec![4, 5, 6])]);
    let each = NodeEvent::Outcomes {
        number: BatchNumber(2),
        outcomes: Outcomes::Each(vec![Outcome::Duplicate, Outcome::Stored, Outcome::Stored]),
        removed: 0,
    };
    assert_eq!(
        confirms(&bench.hear(NODE_A, 1, each)),
        [(3, 1, Outcome::Duplicate), (4, 2, Outcome::Stored)]
    );
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn a_new_leader_gets_unanswered_batches_again_in_order_before_new_ones() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    bench.publish(2..=2);
    bench.publish(3..=3);
    assert_eq!(
        submitted(&bench.step(Input::Topology(topology(2, 2, None)))),
        []
    );
    bench.publish(4..=4);
    let mut effects = bench.step(Input::Topology(topology(3, 3, Some(NODE_B))));
    let mut seen = submitted(&effects);
    for _ in 0..3 {
        let number = seen.last().expect("the leader gets what is unanswered").1;
        effects = bench.hear(NODE_B, 2, all(number, Outcome::Stored));
        seen.extend(submitted(&effects));
    }
    assert_eq!(
        seen,
        [
            (NODE_B, 2, vec![2]),
            (NODE_B, 3, vec![3]),
            (NODE_B, 4, vec![4])
        ]
    );
}

#[test]
fn an_older_picture_of_a_shard_changes_nothing() {
    let mut bench = Bench::linked();
    bench.step(Input::Topology(topology(2, 5, Some(NODE_B))));
    bench.step(Input::Topology(topology(9, 4, Some(NODE_A))));
    assert_eq!(submitted(&bench.publish(1..=1)), [(NODE_B, 1, vec![1])]);
}

#[test]
fn a_late_answer_of_the_old_leader_confirms_once() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 1, Outcome::Stored)]);
    let effects = bench.hear(NODE_B, 2, all(1, Outcome::Duplicate));
    assert_eq!(confirms(&effects), []);
}

#[test]
fn an_answer_on_a_lost_link_is_ignored() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    let link = LinkId(1);
    bench.step(Input::LinkLost { node: NODE_A, link });
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(confirms(&effects), []);
    assert_eq!(submitted(&bench.link(NODE_A, 3)), [(NODE_A, 1, vec![1])]);
}

#[test]
fn a_refused_batch_and_those_after_it_go_again_after_a_pause() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    bench.publish(2..=2);
    bench.publish(3..=3);
    let refused = NodeEvent::Overloaded {
        number: BatchNumber(2),
        reason: "full".into(),
    };
    assert_eq!(submitted(&bench.hear(NODE_A, 1, refused)), []);
    assert_eq!(submitted(&bench.publish(4..=4)), []);
    assert_eq!(submitted(&bench.wait()), [(NODE_A, 2, vec![2])]);
    let effects = bench.hear(NODE_A, 1, all(2, Outcome::Stored));
    assert_eq!(
        submitted(&effects),
        [(NODE_A, 3, vec![3]), (NODE_A, 4, vec![4])]
    );
}

#[test]
fn a_batch_names_the_one_before_it_until_that_is_answered() {
    let mut bench = Bench::linked();
    assert_eq!(chained(&bench.publish(1..=1)), [(1, None)]);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(chained(&bench.publish(2..=2)), [(2, None)]);
    assert_eq!(chained(&bench.publish(3..=3)), [(3, Some(2))]);
    assert_eq!(chained(&bench.publish(4..=4)), [(4, Some(3))]);
    let refused = NodeEvent::Overloaded {
        number: BatchNumber(4),
        reason: "full".into(),
    };
    bench.hear(NODE_A, 1, refused);
    assert_eq!(chained(&bench.wait()), []);
    // Two is answered, three is not: it can still be refused, and then four must not be taken.
    let effects = bench.hear(NODE_A, 1, all(2, Outcome::Stored));
    assert_eq!(chained(&effects), [(4, Some(3))]);
    bench.step(Input::LinkLost {
        node: NODE_A,
        link: LinkId(1),
    });
    assert_eq!(chained(&bench.link(NODE_A, 3)), [(3, None)]);
    let effects = bench.hear(NODE_A, 3, all(3, Outcome::Stored));
    assert_eq!(chained(&effects), [(4, None)]);
}

#[test]
fn a_node_that_does_not_lead_yet_is_asked_again_and_a_new_topology_ends_the_pause() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    let refused = || NodeEvent::NotLeading {
        number: BatchNumber(1),
        epoch: Epoch(0),
    };
    bench.hear(NODE_A, 1, refused());
    assert_eq!(submitted(&bench.wait()), [(NODE_A, 1, vec![1])]);
    bench.hear(NODE_A, 1, refused());
    let effects = bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
    assert_eq!(submitted(&effects), [(NODE_B, 1, vec![1])]);
}

#[test]
fn without_an_answer_the_call_fails_with_the_shard_and_the_reason() {
    let mut bench = Bench::linked();
    bench.publish(1..=1);
    bench.step(Input::Topology(topology(2, 2, None)));
    let effects = bench.wait();
    let failed: Vec<_> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Failed { .. }))
        .collect();
    assert!(
        matches!(&failed[..], [Effect::Failed { call: CALL, failure: Failure::Deadline { shard: SHARD, reason } }]
            if &**reason == "a majority is away"),
        "{failed:?}"
    );
    // The batch stays, in its place before what the client sends again.
    bench.step(Input::Dropped { call: CALL });
    let effects = bench.step(Input::Topology(topology(3, 3, Some(NODE_B))));
    assert_eq!(submitted(&effects), [(NODE_B, 1, vec![1])]);
    assert_eq!(
        confirms(&bench.hear(NODE_B, 2, all(1, Outcome::Stored))),
        []
    );
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn before_the_first_topology_everything_waits_in_order() {
    let mut bench = Bench::bare();
    let effects = bench.publish(1..=1);
    assert!(
        matches!(effects[..], [Effect::Pause { call: CALL }]),
        "{effects:?}"
    );
    bench.publish(2..=2);
    bench.step(Input::Finished { call: CALL });
    let effects = bench.step(Input::Topology(topology(1, 1, Some(NODE_A))));
    assert_eq!(submitted(&effects), []);
    assert_eq!(submitted(&bench.link(NODE_A, 1)), [(NODE_A, 1, vec![1, 2])]);
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 2, Outcome::Stored)]);
    assert!(
        effects
            .iter()
            .any(|e| matches!(e, Effect::Ended { call: CALL }))
    );
    let mut bench = Bench::bare();
    bench.publish(1..=1);
    let effects = bench.wait();
    let failed = |e: &Effect| {
        matches!(
            e,
            Effect::Failed {
                failure: Failure::NoTopology,
                ..
            }
        )
    };
    assert!(effects.iter().any(failed), "{effects:?}");
}

#[test]
fn a_full_shard_holds_back_its_own_publishers_until_it_drains() {
    let mut bench = Bench::linked();
    bench.step(Input::Topology(topology(2, 2, None)));
    let mut large = publication(0);
    large.message = stored(&"x".repeat(900_000));
    let mut sent = 0;
    let paused = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::Pause { .. }));
    loop {
        sent += 1;
        large.number = sent;
        let effects = bench.step(Input::Publish {
            call: CallId(sent),
            producer: Some(ProducerId([9; 16])),
            messages: vec![Ok(large.clone())],
            trace: None,
        });
        if paused(&effects) {
            break;
        }
    }
    let bytes = large.message.len() as u64;
    assert_eq!(sent, (16 << 20) / bytes + 1, "the bound is reached");
    let mut effects = bench.step(Input::Topology(topology(3, 3, Some(NODE_B))));
    let mut answered = 0;
    while !effects.iter().any(|e| matches!(e, Effect::Resume { .. })) {
        let batches = submitted(&effects);
        assert!(!batches.is_empty(), "the leader gets what waits");
        effects.clear();
        for (_, number, _) in batches {
            answered += 1;
            effects.extend(bench.hear(NODE_B, 2, all(number, Outcome::Stored)));
        }
        assert!(answered <= sent, "resumed before everything is answered");
    }
    assert!(answered >= sent / 2);
}

#[test]
fn one_call_cannot_fill_the_memory() {
    let mut bench = Bench::linked();
    let mut large = publication(1);
    large.message = stored(&"x".repeat(1 << 20));
    let messages = vec![Ok(large); 33];
    let effects = bench.step(Input::Publish {
        call: CALL,
        producer: Some(ProducerId([9; 16])),
        messages,
        trace: None,
    });
    let refused = |e: &Effect| {
        matches!(
            e,
            Effect::Failed {
                failure: Failure::OutOfMemory { .. },
                ..
            }
        )
    };
    assert!(effects.iter().any(refused), "{effects:?}");
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn the_gateway_numbers_what_has_no_producer() {
    let mut bench = Bench::linked();
    let mut seen = Vec::new();
    for call in 1..=2 {
        let effects = bench.step(Input::Publish {
            call: CallId(call),
            producer: None,
            messages: vec![Ok(publication(0))],
            trace: None,
        });
        for (_, number, numbers) in submitted(&effects) {
            seen.extend(numbers);
            bench.hear(NODE_A, 1, all(number, Outcome::Stored));
        }
    }
    assert_eq!(seen, [1, 2]);
}

#[test]
fn non_persistent_messages_go_in_batches_of_their_own() {
    let mut bench = Bench::linked();
    let mut second = publication(2);
    second.non_persistent = true;
    let effects = bench.step(Input::Publish {
        call: CALL,
        producer: Some(ProducerId([9; 16])),
        messages: vec![Ok(publication(1)), Ok(second), Ok(publication(3))],
        trace: None,
    });
    let mut batches = submitted(&effects);
    batches.sort_by_key(|(_, _, numbers)| numbers[0]);
    let batches: Vec<_> = batches.into_iter().map(|(_, _, numbers)| numbers).collect();
    assert_eq!(batches, [vec![1, 3], vec![2]]);
}

#[test]
fn a_batch_carries_the_first_trace_of_its_messages_and_only_that_batch() {
    let mut bench = Bench::linked();
    let publish = |bench: &mut Bench, number, trace: Option<&str>| {
        let effects = bench.step(Input::Publish {
            call: CallId(number),
            producer: None,
            messages: vec![Ok(publication(number))],
            trace: trace.map(Into::into),
        });
        traces(&effects)
    };
    assert_eq!(
        publish(&mut bench, 1, Some("first")),
        [Some("first".into())]
    );
    for (number, trace) in [(2, None), (3, Some("third")), (4, Some("fourth"))] {
        assert_eq!(publish(&mut bench, number, trace), []);
    }
    let effects = bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(traces(&effects), [Some("third".into())]);
    bench.hear(NODE_A, 1, all(2, Outcome::Stored));
    assert_eq!(publish(&mut bench, 5, None), [None]);
}

fn traces(effects: &[Effect]) -> Vec<Option<Arc<str>>> {
    let traces = effects.iter().filter_map(|effect| match effect {
        Effect::Submit { trace, .. } => Some(trace.clone()),
        _ => None,
    });
    traces.collect()
}

#[test]
fn a_purge_is_alone_in_its_batch_and_tells_how_many_it_removed() {
    let mut bench = Bench::linked();
    let effects = bench.step(Input::Purge {
        call: CALL,
        destination: Destination::queue(queue()),
        what: Removal::Messages,
    });
    assert!(matches!(commands(&effects)[..], [Command::Submit { .. }]));
    let answer = NodeEvent::Outcomes {
        number: BatchNumber(1),
        outcomes: Outcomes::All(Outcome::Applied),
        removed: 12,
    };
    let effects = bench.hear(NODE_A, 1, answer);
    let purged = |e: &Effect| {
        matches!(
            e,
            Effect::Purged {
                call: CALL,
                removed: 12
            }
        )
    };
    assert!(effects.iter().any(purged), "{effects:?}");
}

#[test]
fn an_answer_that_is_too_short_confirms_nothing() {
    let mut bench = Bench::linked();
    bench.publish(1..=3);
    let short = NodeEvent::Outcomes {
        number: BatchNumber(1),
        outcomes: Outcomes::Each(vec![Outcome::Stored]),
        removed: 0,
    };
    let effects = bench.hear(NODE_A, 1, short);
    assert_eq!(confirms(&effects), []);
    assert!(effects.iter().any(|e| matches!(e, Effect::Failed { .. })));
}

/// The present leader gets the batch as well, and may have room for its messages by then.
#[test]
fn a_refusal_by_an_earlier_leader_is_not_the_end_and_what_it_stored_is() {
    let moved = || {
        let mut bench = Bench::linked();
        let sent = bench.publish(1..=2);
        let (_, number, _) = submitted(&sent)[0].clone();
        bench.step(Input::Topology(topology(2, 2, Some(NODE_B))));
        (bench, number)
    };
    let (mut bench, number) = moved();
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::QueueFull));
    assert_eq!(confirms(&effects), []);
    let effects = bench.hear(NODE_B, 2, all(number, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 2, Outcome::Stored)]);
    let (mut bench, number) = moved();
    let effects = bench.hear(NODE_B, 2, all(number, Outcome::QueueFull));
    assert_eq!(confirms(&effects), [(0, 2, Outcome::QueueFull)]);
    let (mut bench, number) = moved();
    let effects = bench.hear(NODE_A, 1, all(number, Outcome::Stored));
    assert_eq!(confirms(&effects), [(0, 2, Outcome::Stored)]);
}
