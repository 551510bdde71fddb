//! Transactions: what goes to which shard, in which order, and what the client is told.

use quorate_message::{Decision, Terms, TransactionId};

use super::{topics::two_shards, *};
use crate::limits::{TRANSACTION_BYTES_MAX, TRANSACTION_VISIBLE_MICROS};

const SECOND: ShardId = ShardId(2);
const ID: TransactionId = TransactionId {
    origin: ProducerId([9; 16]),
    number: 1,
};

/// A step of a transaction on its way to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    /// So many messages and settlements behind the head.
    Prepare(ShardId, usize),
    Commit(ShardId, usize),
    Finish(ShardId, Decision),
    RollBack(ShardId),
    Forget(ShardId, u32),
}

/// All that goes out about transactions, with the numbers of the batches.
fn sent(effects: &[Effect]) -> Vec<(u64, Sent)> {
    let mut all = Vec::new();
    for effect in effects {
        let Effect::Submit {
            shard,
            number,
            batch,
            ..
        } = effect
        else {
            continue;
        };
        let batch = Batch::parse(batch.clone()).unwrap();
        let rest = batch.len() - 1;
        for (_, command) in batch.commands() {
            let step = match command {
                Stored::Prepare { .. } => Sent::Prepare(*shard, rest),
                Stored::Decide {
                    decision: Decision::Commit,
                    ..
                } => Sent::Commit(*shard, rest),
                Stored::Decide { .. } => Sent::RollBack(*shard),
                Stored::Finish { decision, .. } => Sent::Finish(*shard, decision),
                Stored::Forget { participant, .. } => Sent::Forget(*shard, participant),
                _ => continue,
            };
            all.push((number.0, step));
        }
    }
    all
}

fn steps(effects: &[Effect]) -> Vec<Sent> {
    sent(effects).into_iter().map(|(_, step)| step).collect()
}

/// A name that lives in this shard.
fn name_in(bench: &Bench, shard: ShardId) -> DestinationName {
    let names = (0..).map(|n| DestinationName::new(&format!("q{n}")).unwrap());
    let mut here = names.filter(|name| bench.core.shard_of(name) == Some(shard));
    here.next().unwrap()
}

fn message_in(bench: &Bench, shard: ShardId) -> Publication {
    Publication {
        destination: Destination::queue(name_in(bench, shard)),
        ..publication(0)
    }
}

fn transact(bench: &mut Bench, sends: Vec<Publication>, settles: &[u64]) -> Vec<Effect> {
    let destination = Destination::queue(name_in(bench, SHARD));
    let settlements = settles.iter().map(|entry| TransactedSettlement {
        consumer: Some(CONSUMER),
        destination: destination.clone(),
        settlement: Settlement::Accept,
        positions: vec![(SHARD, position(*entry))],
    });
    bench.step(Input::Transact {
        call: CallId(5),
        transaction: ID,
        sends,
        settlements: settlements.collect(),
    })
}

fn commit(bench: &mut Bench) -> Vec<Effect> {
    bench.step(Input::Commit {
        call: CallId(5),
        wall_ms: 1_000,
        nonce: 7,
    })
}

/// The shard of a batch answers with one outcome for all of it.
fn answer(bench: &mut Bench, (number, step): &(u64, Sent), outcome: Outcome) -> Vec<Effect> {
    let shard = match step {
        Sent::Prepare(shard, _)
        | Sent::Commit(shard, _)
        | Sent::Finish(shard, _)
        | Sent::RollBack(shard)
        | Sent::Forget(shard, _) => *shard,
    };
    bench.step(Input::FromNode {
        node: NODE_A,
        link: LinkId(1),
        shard,
        event: all(*number, outcome),
    })
}

fn is_committed(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Committed { .. }))
}

fn failure(effects: &[Effect]) -> Option<&Failure> {
    effects.iter().find_map(|effect| match effect {
        Effect::Failed { failure, .. } => Some(failure),
        _ => None,
    })
}

/// A consumer that holds the message of entry 5 in the first shard.
fn holding(bench: &mut Bench) {
    let queue = Destination::queue(name_in(bench, SHARD));
    bench.step(Input::Consume {
        call: CallId(9),
        open: OpenConsumer {
            consumer: CONSUMER,
            queue,
            subscription: None,
            held: vec![(SHARD, position(5))],
            terms: Terms::default(),
            credit: Credit {
                messages: 10,
                bytes: 1 << 20,
            },
            wall_micros: 100,
        },
    });
    bench.hear(
        NODE_A,
        1,
        NodeEvent::Attached {
            consumer: CONSUMER,
            generation: Generation(101),
            lost: Vec::new(),
        },
    );
}

/// A transaction over both shards whose parts are out: who is prepared, and the owner.
fn over_two(bench: &mut Bench) -> ((u64, Sent), ShardId) {
    let sends = vec![message_in(bench, SHARD), message_in(bench, SECOND)];
    assert!(steps(&transact(bench, sends, &[])).is_empty());
    let effects = commit(bench);
    let [(number, Sent::Prepare(participant, 1))] = sent(&effects)[..] else {
        panic!("{effects:?}");
    };
    let owner = match participant == SHARD {
        true => SECOND,
        false => SHARD,
    };
    ((number, Sent::Prepare(participant, 1)), owner)
}

#[test]
fn within_one_shard_one_entry_decides() {
    let mut bench = two_shards();
    holding(&mut bench);
    let message = message_in(&bench, SHARD);
    transact(&mut bench, vec![message.clone(), message], &[5]);
    let effects = commit(&mut bench);
    let decide = &sent(&effects)[..];
    assert_eq!(decide[0].1, Sent::Commit(SHARD, 3));
    assert!(!is_committed(&effects));
    let effects = answer(&mut bench, &decide[0], Outcome::Applied);
    assert!(is_committed(&effects) && steps(&effects).is_empty());
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn over_two_shards_one_is_prepared_the_other_decides_and_the_first_finishes() {
    let mut bench = two_shards();
    let (prepare, owner) = over_two(&mut bench);
    let Sent::Prepare(participant, _) = prepare.1 else {
        panic!("{prepare:?}");
    };
    let effects = answer(&mut bench, &prepare, Outcome::Applied);
    let decide = sent(&effects);
    assert_eq!(decide[0].1, Sent::Commit(owner, 1));
    let effects = answer(&mut bench, &decide[0], Outcome::Applied);
    let finish = sent(&effects);
    assert_eq!(finish[0].1, Sent::Finish(participant, Decision::Commit));
    assert!(!is_committed(&effects), "it is not visible everywhere");
    let effects = answer(&mut bench, &finish[0], Outcome::Applied);
    assert!(is_committed(&effects));
    assert_eq!(steps(&effects), [Sent::Forget(owner, participant.0)]);
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn a_refused_part_rolls_all_back_and_names_what_refused_it() {
    let mut bench = two_shards();
    holding(&mut bench);
    let sends = vec![message_in(&bench, SHARD), message_in(&bench, SECOND)];
    transact(&mut bench, sends, &[5]);
    let effects = commit(&mut bench);
    let (number, prepare) = sent(&effects)[0].clone();
    let Sent::Prepare(participant, rest) = prepare else {
        panic!("{prepare:?}");
    };
    let mut outcomes = vec![Outcome::RolledBack; rest + 1];
    outcomes[rest] = Outcome::Blocked;
    let effects = bench.step(Input::FromNode {
        node: NODE_A,
        link: LinkId(1),
        shard: participant,
        event: NodeEvent::Outcomes {
            number: BatchNumber(number),
            outcomes: Outcomes::Each(outcomes),
            removed: 0,
        },
    });
    assert_eq!(
        steps(&effects),
        [Sent::Finish(participant, Decision::Rollback)]
    );
    let Some(Failure::NotCommitted {
        shard,
        outcome,
        cause,
    }) = failure(&effects)
    else {
        panic!("{effects:?}");
    };
    assert_eq!((*shard, *outcome), (participant, Outcome::Blocked));
    let refused = name_in(&bench, participant);
    assert_eq!(cause.as_ref().unwrap().destination.name, refused);
    // What it was to settle is the consumer's as before.
    let effects = bench.step(Input::Settle {
        call: CallId(9),
        settlement: Settlement::Accept,
        positions: vec![(SHARD, position(5))],
        token: 0,
    });
    let settled = commands(&effects).into_iter();
    let settled: Vec<_> = settled.flat_map(|command| settlements(command).1).collect();
    assert_eq!(settled, [(position(5), Settlement::Accept)]);
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn a_refused_decision_is_final_only_if_it_was_sent_once() {
    for is_repeated in [false, true] {
        let mut bench = two_shards();
        let (prepare, _) = over_two(&mut bench);
        let effects = answer(&mut bench, &prepare, Outcome::Applied);
        let mut decide = sent(&effects)[0].clone();
        if is_repeated {
            let (node, link) = (NODE_A, LinkId(1));
            bench.step(Input::LinkLost { node, link });
            let effects = bench.link(NODE_A, 3);
            decide = sent(&effects)[0].clone();
        }
        let Sent::Commit(owner, _) = decide.1 else {
            panic!("{decide:?}");
        };
        let effects = bench.step(Input::FromNode {
            node: NODE_A,
            link: LinkId(if is_repeated { 3 } else { 1 }),
            shard: owner,
            event: all(decide.0, Outcome::RolledBack),
        });
        let Some(Failure::NotCommitted { outcome, .. }) = failure(&effects) else {
            panic!("{effects:?}");
        };
        // Of two copies the first may have committed it: then nobody may roll back.
        let (told, expected) = match is_repeated {
            true => (0, Outcome::InDoubt),
            false => (1, Outcome::RolledBack),
        };
        assert_eq!((steps(&effects).len(), *outcome), (told, expected));
    }
}

#[test]
fn a_client_that_leaves_rolls_back_what_is_not_decided_and_nothing_else() {
    // Before the commit nothing has happened.
    let mut bench = two_shards();
    let message = message_in(&bench, SHARD);
    transact(&mut bench, vec![message], &[]);
    assert!(steps(&bench.step(Input::Dropped { call: CallId(5) })).is_empty());
    assert_eq!(bench.core.waiting_bytes(), 0);
    // Once it is prepared it is rolled back.
    let mut bench = two_shards();
    let (prepare, _) = over_two(&mut bench);
    bench.step(Input::Dropped { call: CallId(5) });
    let effects = answer(&mut bench, &prepare, Outcome::Applied);
    assert!(
        matches!(
            steps(&effects)[..],
            [Sent::Finish(_, Decision::Rollback), ..]
        ),
        "{effects:?}"
    );
    // Once its decision is under way it is seen through.
    let mut bench = two_shards();
    let (prepare, _) = over_two(&mut bench);
    let effects = answer(&mut bench, &prepare, Outcome::Applied);
    let decide = sent(&effects)[0].clone();
    bench.step(Input::Dropped { call: CallId(5) });
    let effects = answer(&mut bench, &decide, Outcome::Applied);
    assert!(
        matches!(steps(&effects)[..], [Sent::Finish(_, Decision::Commit)]),
        "{effects:?}"
    );
    assert!(!is_committed(&effects), "nobody is told");
    let finish = sent(&effects)[0].clone();
    answer(&mut bench, &finish, Outcome::Applied);
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn a_commit_is_told_in_time_though_a_shard_has_not_finished() {
    let mut bench = two_shards();
    let (prepare, _) = over_two(&mut bench);
    let effects = answer(&mut bench, &prepare, Outcome::Applied);
    let decide = sent(&effects)[0].clone();
    let effects = answer(&mut bench, &decide, Outcome::Applied);
    let finish = sent(&effects)[0].clone();
    bench.now = bench.now.after(TRANSACTION_VISIBLE_MICROS - 1);
    assert!(!is_committed(&bench.step(Input::Elapsed)));
    bench.now = bench.now.after(1);
    assert!(is_committed(&bench.step(Input::Elapsed)));
    // And it is seen through all the same.
    let effects = answer(&mut bench, &finish, Outcome::Applied);
    assert!(matches!(steps(&effects)[..], [Sent::Forget(..)]));
}

#[test]
fn what_a_shard_cannot_read_is_rolled_back() {
    let mut bench = two_shards();
    let (prepare, _) = over_two(&mut bench);
    let Sent::Prepare(participant, _) = prepare.1 else {
        panic!("{prepare:?}");
    };
    let effects = bench.step(Input::FromNode {
        node: NODE_A,
        link: LinkId(1),
        shard: participant,
        event: NodeEvent::Malformed {
            number: BatchNumber(prepare.0),
            reason: "no batch".into(),
        },
    });
    assert!(matches!(
        failure(&effects),
        Some(Failure::NotCommitted {
            outcome: Outcome::RolledBack,
            ..
        })
    ));
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn bounds_are_refused_before_anything_happens() {
    let mut bench = two_shards();
    assert!(is_committed(&commit(&mut bench)), "nothing to do is done");

    let mut bench = two_shards();
    let mut large = message_in(&bench, SHARD);
    large.message = stored(&"x".repeat(1 << 20));
    let count = usize::try_from(TRANSACTION_BYTES_MAX >> 20).unwrap();
    let effects = transact(&mut bench, vec![large; count], &[]);
    assert_eq!(failure(&effects), Some(&Failure::TransactionTooLarge));
    assert_eq!(bench.core.waiting_bytes(), 0);
}

/// The positions that a commit of this step settles.
fn settled_by(effects: &[Effect]) -> Vec<MessagePosition> {
    let batches = effects.iter().filter_map(|effect| match effect {
        Effect::Submit { batch, .. } => Some(Batch::parse(batch.clone()).unwrap()),
        _ => None,
    });
    let mut settled = Vec::new();
    for batch in batches {
        settled.extend(batch.commands().filter_map(|(_, command)| match command {
            Stored::Settle { position, .. } => Some(position),
            _ => None,
        }));
    }
    settled
}

#[test]
fn whether_a_transaction_is_committed_that_settles_what_its_consumer_does_not_hold_the_shard_says()
{
    for outcome in [Outcome::Duplicate, Outcome::UnknownMessage] {
        let mut bench = two_shards();
        holding(&mut bench);
        let message = message_in(&bench, SHARD);
        let effects = transact(&mut bench, vec![message], &[6]);
        assert_eq!(
            failure(&effects),
            None,
            "an earlier try may have committed it"
        );
        let effects = commit(&mut bench);
        let decide = sent(&effects)[0].clone();
        assert_eq!(decide.1, Sent::Commit(SHARD, 2));
        let settled = settled_by(&effects);
        assert_eq!(settled.len(), 1);
        assert_ne!(settled, [position(6)], "it may be another consumer's");
        let effects = answer(&mut bench, &decide, outcome);
        let refused = match failure(&effects) {
            Some(Failure::NotCommitted { outcome, .. }) => Some(*outcome),
            _ => None,
        };
        match outcome {
            Outcome::Duplicate => assert!(is_committed(&effects)),
            outcome => assert_eq!(refused, Some(outcome)),
        }
        assert_eq!(bench.core.waiting_bytes(), 0);
    }
}

#[test]
fn a_repeat_through_the_same_gateway_follows_its_first_try() {
    let mut bench = two_shards();
    holding(&mut bench);
    let message = message_in(&bench, SHARD);
    transact(&mut bench, vec![message.clone()], &[5]);
    let first = sent(&commit(&mut bench))[0].clone();
    bench.step(Input::Dropped { call: CallId(5) });
    let destination = Destination::queue(name_in(&bench, SHARD));
    let mut effects = bench.step(Input::Transact {
        call: CallId(6),
        transaction: ID,
        sends: vec![message],
        settlements: vec![TransactedSettlement {
            consumer: Some(CONSUMER),
            destination,
            settlement: Settlement::Accept,
            positions: vec![(SHARD, position(5))],
        }],
    });
    effects.extend(bench.step(Input::Commit {
        call: CallId(6),
        wall_ms: 2_000,
        nonce: 8,
    }));
    effects.extend(answer(&mut bench, &first, Outcome::QueueFull));
    assert_eq!(failure(&effects), None);
    let second = sent(&effects).pop().unwrap();
    assert_eq!(second.1, Sent::Commit(SHARD, 2));
    assert_eq!(settled_by(&effects), [position(5)], "its consumer holds it");
    assert!(is_committed(&answer(&mut bench, &second, Outcome::Applied)));
    assert_eq!(bench.core.waiting_bytes(), 0);
}

#[test]
fn what_a_client_that_left_was_to_settle_is_its_consumers_again() {
    let mut bench = two_shards();
    holding(&mut bench);
    let sends = vec![message_in(&bench, SHARD), message_in(&bench, SECOND)];
    transact(&mut bench, sends, &[5]);
    let prepare = sent(&commit(&mut bench))[0].clone();
    bench.step(Input::Dropped { call: CallId(5) });
    answer(&mut bench, &prepare, Outcome::Applied);
    assert_eq!(bench.core.waiting_bytes(), 0);
    let effects = bench.step(Input::Settle {
        call: CallId(9),
        settlement: Settlement::Accept,
        positions: vec![(SHARD, position(5))],
        token: 0,
    });
    let settled = commands(&effects).into_iter();
    let settled: Vec<_> = settled.flat_map(|command| settlements(command).1).collect();
    assert_eq!(settled, [(position(5), Settlement::Accept)]);
}

#[test]
fn what_a_transaction_does_not_settle_of_a_consumer_that_is_gone_is_given_back() {
    let mut bench = two_shards();
    holding(&mut bench);
    let sends = vec![message_in(&bench, SHARD), message_in(&bench, SECOND)];
    transact(&mut bench, sends, &[5]);
    let prepare = sent(&commit(&mut bench))[0].clone();
    let is_detached = |effects: &[Effect]| {
        let mut commands = commands(effects).into_iter();
        commands.any(|command| matches!(command, Command::Detach { .. }))
    };
    let effects = bench.step(Input::Dropped { call: CallId(9) });
    assert!(!is_detached(&effects), "{effects:?}");
    let effects = answer(&mut bench, &prepare, Outcome::RolledBack);
    let settled = commands(&effects).into_iter();
    let settled: Vec<_> = settled.flat_map(|command| settlements(command).1).collect();
    assert_eq!(settled, [(position(5), Settlement::Release)]);
    assert!(!is_detached(&effects), "{effects:?}");
}

#[test]
fn what_a_transaction_settles_is_nobodys_meanwhile() {
    let mut bench = two_shards();
    holding(&mut bench);
    transact(&mut bench, Vec::new(), &[5]);
    let effects = bench.step(Input::Settle {
        call: CallId(9),
        settlement: Settlement::Accept,
        positions: vec![(SHARD, position(5))],
        token: 3,
    });
    let outcomes = effects.iter().find_map(|effect| match effect {
        Effect::Settled { outcomes, .. } => Some(outcomes.clone()),
        _ => None,
    });
    assert_eq!(outcomes, Some(vec![Outcome::UnknownMessage]));
    let effects = commit(&mut bench);
    let decide = sent(&effects)[0].clone();
    assert_eq!(decide.1, Sent::Commit(SHARD, 1));
    assert!(is_committed(&answer(&mut bench, &decide, Outcome::Applied)));
}
