//! Promising, appending, cutting, healing.

use super::*;
use crate::{FenceAnswer, Nonce};

fn fenced(bench: &Bench) -> (Option<WriteId>, FenceAnswer) {
    let found = bench.effects.iter().find_map(|effect| {
        if let Act::Report(Report::Fenced(answer)) = &effect.act {
            return Some((effect.after, answer.clone()));
        }
        None
    });
    found.expect("the fence is answered")
}

#[test]
fn a_fence_is_answered_when_promise_and_log_are_durable() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1], 0, 1));
    bench.put(fence(claim(2)));
    assert_eq!(bench.writes(), [&Write::Promise(claim(2))]);
    let (after, answer) = fenced(&bench);
    assert_eq!(after, Some(bench.written));
    assert_eq!(
        (answer.end, answer.incarnation),
        (position(1, 2), Incarnation(7))
    );
    bench.sync();
    bench.put(fence(claim(2)));
    assert_eq!(fenced(&bench).0, None, "a repeated fence is answered again");
}

#[test]
fn an_equal_epoch_with_another_claim_is_refused() {
    let mut bench = Bench::new();
    bench.put(fence(claim(2)));
    bench.sync();
    let other = Claim {
        id: ClaimId(99),
        ..claim(2)
    };
    for refused in [other, claim(1)] {
        bench.put(fence(refused));
        let promise = claim(2);
        assert_eq!(
            bench.reports(),
            [&Report::FenceRefused {
                claim: refused,
                promise
            }]
        );
        bench.put(append(refused, Position::default(), &[1], 0, 4));
        let refusal = Message::Refused {
            promise,
            round: Round(4),
        };
        assert_eq!(bench.sent(), [(2, &refusal)]);
    }
    assert_eq!(bench.replica.end(), Position::default());
}

#[test]
fn a_refusal_waits_until_the_promise_that_it_carries_is_durable() {
    let mut bench = Bench::new();
    bench.put(fence(claim(2)));
    let promised = bench.written;
    bench.put(append(claim(1), Position::default(), &[1], 0, 1));
    assert_eq!(bench.effects[0].after, Some(promised));
}

#[test]
fn an_append_is_answered_when_it_is_durable() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1], 0, 1));
    let kinds: Vec<_> = bench.writes().into_iter().cloned().collect();
    assert_eq!(kinds[0], Write::Promise(claim(1)));
    assert_eq!(
        kinds[1],
        Write::Bound(position(1, 12)),
        "the bound is written before the entries"
    );
    assert_eq!(kinds[2], Write::Append(entries(0, &[1, 1])));
    assert_eq!(bench.matched(), None);
    bench.sync();
    assert_eq!(bench.matched(), Some(2));
}

#[test]
fn the_bound_is_raised_in_steps() {
    let mut bench = Bench::new();
    let mut bounds = 0;
    bench.put(append(claim(1), Position::default(), &[1], 0, 1));
    for index in 1..=20 {
        bench.put(append(claim(1), position(1, index), &[1], 0, 1));
        bounds += bench
            .writes()
            .iter()
            .filter(|write| matches!(write, Write::Bound(_)))
            .count();
        let end = bench.replica.end();
        assert!(bench.replica.bound() >= Some(end));
    }
    assert!((1..=4).contains(&bounds), "{bounds} bounds for 20 entries");
}

#[test]
fn a_heartbeat_is_answered_at_once_with_what_is_durable() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1], 0, 1));
    bench.sync();
    bench.put(append(claim(1), position(1, 1), &[1], 0, 2));
    bench.put(append(claim(1), position(1, 2), &[], 0, 3));
    assert_eq!(bench.matched(), Some(1));
    bench.sync();
    assert_eq!(
        bench.matched(),
        Some(2),
        "the append is still owed an answer"
    );
}

#[test]
fn what_was_matched_in_a_lower_epoch_does_not_count_in_a_higher_one() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1, 1], 0, 1));
    bench.sync();
    bench.put(append(claim(2), position(1, 1), &[], 0, 1));
    bench.sync();
    bench.put(append(claim(2), position(1, 1), &[], 0, 2));
    assert_eq!(bench.matched(), Some(1));
}

#[test]
fn an_append_that_ends_earlier_cuts_nothing() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1, 1], 0, 1));
    bench.put(append(claim(1), Position::default(), &[1], 0, 2));
    assert_eq!(bench.replica.end(), position(1, 3));
    assert!(bench.writes().is_empty());
}

#[test]
fn a_cut_begins_at_the_first_entry_whose_epoch_differs() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1, 1], 0, 1));
    bench.sync();
    bench.put(append(claim(3), position(1, 1), &[1, 3], 0, 1));
    let writes: Vec<_> = bench.writes().into_iter().cloned().collect();
    assert_eq!(writes[0], Write::Promise(claim(3)));
    assert_eq!(writes[1], Write::Cut { after: Index(2) });
    assert_eq!(writes[3], Write::Append(entries(2, &[3])));
    assert_eq!(bench.replica.durable(), Index(2));
}

#[test]
fn a_committed_entry_is_not_cut() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1, 1], 2, 1));
    bench.sync();
    bench.put(append(claim(3), position(1, 1), &[3], 0, 1));
    assert!(bench.replica.is_impaired());
    assert_eq!(bench.replica.end(), position(1, 3));
    assert!(bench.writes().contains(&&Write::Impaired(true)));
    let (commit, at) = (Index(2), Index(2));
    assert!(bench.has(&Act::Note(Event::RefusedCut { commit, at })));
}

#[test]
fn an_append_commits_no_further_than_it_reaches() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1, 1], 0, 1));
    bench.sync();
    bench.put(append(claim(2), Position::default(), &[1], 3, 1));
    assert_eq!(bench.replica.commit(), Index(1));
    assert!(bench.has(&Act::Commit(Index(1))));
}

#[test]
fn a_follower_announces_what_is_durable_on_its_own_disk() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1], 1, 1));
    assert!(!bench.has(&Act::Commit(Index(1))));
    bench.sync();
    assert!(bench.has(&Act::Commit(Index(1))));
}

#[test]
fn a_gap_is_answered_with_where_the_logs_part() {
    let mut bench = Bench::new();
    bench.put(append(claim(2), Position::default(), &[1, 1, 2], 0, 1));
    bench.sync();
    for (previous, hint) in [
        (position(2, 9), position(2, 3)),
        (position(1, 3), position(1, 2)),
        (position(1, 9), position(1, 2)),
    ] {
        bench.put(append(claim(2), previous, &[], 0, 5));
        let (epoch, disk, round) = (Epoch(2), member(1).disk, Round(5));
        let parted = Message::Parted {
            epoch,
            disk,
            round,
            hint,
        };
        assert_eq!(bench.sent(), [(2, &parted)], "{previous}");
    }
}

#[test]
fn appends_that_no_leader_sends_are_dropped() {
    let mut bench = Bench::new();
    for (previous, epochs) in [(Position::default(), [2, 1]), (Position::default(), [1, 9])] {
        bench.put(append(claim(3), previous, &epochs, 0, 1));
        assert!(bench.writes().is_empty() && bench.sent().is_empty());
    }
    bench.put(append(Claim::default(), Position::default(), &[], 0, 1));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_replica_without_a_promise_counts_for_nothing_and_writes_nothing() {
    for wipe in [
        |recovered: &mut Recovered| recovered.promise = None,
        |recovered: &mut Recovered| {
            recovered.end = position(3, 4);
            recovered.epochs = vec![(Epoch(3), Index(1))];
            recovered.promise = Some(claim(2));
        },
    ] {
        let mut bench = Bench::open(wipe);
        bench.put(fence(claim(5)));
        let (_, answer) = fenced(&bench);
        assert!(answer.wiped && answer.bound.is_none());
        bench.put(append(claim(5), Position::default(), &[5], 0, 1));
        bench.put(lead(5));
        assert!(matches!(bench.reports()[..], [Report::LeadRefused { .. }]));
        assert_eq!(bench.written, WriteId(0));
        assert!(!bench.replica.is_leading());
    }
}

fn impaired() -> Bench {
    Bench::open(|recovered| {
        recovered.promise = Some(claim(1));
        recovered.impaired = true;
        recovered.end = position(1, 2);
        recovered.bound = Some(position(1, 9));
        recovered.epochs = vec![(Epoch(1), Index(1))];
    })
}

fn heal_answer(epoch: u64, nonce: u64, end: u64) -> Input {
    Input::Received {
        from: NodeId(2),
        message: Message::HealAnswer {
            epoch: Epoch(epoch),
            nonce: Nonce(nonce),
            end: Index(end),
        },
    }
}

#[test]
fn an_impaired_replica_heals_when_it_durably_matches_the_leaders_end() {
    let mut bench = impaired();
    bench.put(append(claim(1), position(1, 2), &[], 0, 1));
    assert!(matches!(
        bench.sent()[..],
        [(2, Message::Appended { impaired: true, .. })]
    ));
    assert!(bench.replica.next_deadline().is_some());
    bench.tick(77);
    let (epoch, nonce) = (Epoch(1), Nonce(77));
    assert_eq!(bench.sent(), [(2, &Message::HealAsk { epoch, nonce })]);
    bench.put(heal_answer(1, 76, 2));
    bench.put(heal_answer(1, 77, 4));
    assert!(bench.writes().is_empty());
    bench.put(append(claim(1), position(1, 2), &[1, 1], 0, 2));
    assert_eq!(
        bench.writes().len(),
        1,
        "the entries only: they are not durable yet"
    );
    bench.sync();
    assert_eq!(bench.writes(), [&Write::Impaired(false)]);
    assert!(bench.replica.is_impaired(), "that is not durable yet");
    bench.sync();
    assert!(!bench.replica.is_impaired());
}

#[test]
fn healing_starts_over_with_a_higher_promise() {
    let mut bench = impaired();
    bench.put(append(claim(1), position(1, 2), &[], 0, 1));
    bench.tick(77);
    bench.put(fence(claim(2)));
    bench.sync();
    bench.put(heal_answer(1, 77, 2));
    bench.put(append(claim(2), position(1, 2), &[], 0, 1));
    bench.put(heal_answer(1, 77, 2));
    bench.put(heal_answer(2, 77, 2));
    bench.sync();
    assert!(bench.replica.is_impaired());
}

#[test]
fn an_impaired_replica_answers_its_bound_and_does_not_lead() {
    let mut bench = impaired();
    bench.put(fence(claim(2)));
    let (_, answer) = fenced(&bench);
    assert!(answer.impaired);
    assert_eq!(answer.bound, Some(position(1, 9)));
    bench.sync();
    bench.put(lead(2));
    assert!(!bench.replica.is_leading());
    assert!(matches!(bench.reports()[..], [Report::LeadRefused { .. }]));
}

#[test]
fn a_log_that_ends_below_its_checkpoint_is_impaired() {
    let bench = Bench::open(|recovered| {
        recovered.promise = Some(claim(1));
        recovered.committed = Index(3);
    });
    assert!(bench.replica.is_impaired());
}

#[test]
fn an_installed_checkpoint_replaces_the_log() {
    let mut bench = Bench::new();
    bench.put(append(claim(2), Position::default(), &[1], 0, 1));
    bench.sync();
    assert!(bench.replica.wants_install(position(2, 30)));
    let (at, stamp, transfer) = (position(2, 30), Stamp(9), Nonce(1));
    bench.put(Input::Installed {
        at,
        stamp,
        transfer,
    });
    assert_eq!(bench.writes(), [&Write::Bound(position(2, 40))]);
    assert_eq!(
        (bench.replica.base(), bench.replica.commit()),
        (at, Index(30))
    );
    bench.put(append(claim(2), position(2, 30), &[], 0, 1));
    assert_eq!(
        bench.effects[0].after,
        Some(bench.written),
        "not before the bound is durable"
    );
    assert_eq!(bench.matched(), Some(30));
    assert!(!bench.replica.wants_install(at));
}

#[test]
fn a_steady_leader_is_heard_for_the_node_timeout() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[], 0, 1));
    bench.pass(999);
    assert_eq!(bench.replica.hears(bench.now), Some(NodeId(2)));
    bench.pass(1);
    assert_eq!(bench.replica.hears(bench.now), None);
}
