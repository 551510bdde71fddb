//! Leading: once per epoch, committing, feeding followers, knowing its limits.

use super::*;

fn append_to(bench: &Bench, node: u32) -> Vec<(Position, usize)> {
    let mut appends = Vec::new();
    for (to, message) in bench.sent() {
        if let Message::Append {
            previous, entries, ..
        } = message
            && to == node
        {
            appends.push((*previous, entries.len()));
        }
    }
    appends
}

fn parted(node: u32, round: u64, hint: Position) -> Input {
    Input::Received {
        from: NodeId(node),
        message: Message::Parted {
            epoch: Epoch(1),
            disk: member(node).disk,
            round: Round(round),
            hint,
        },
    }
}

#[test]
fn it_leads_by_its_promise_and_serves_when_its_first_entry_is_committed() {
    let mut bench = Bench::new();
    bench.put(fence(claim(1)));
    bench.put(lead(1));
    assert!(
        !bench.replica.is_leading(),
        "the promise is not durable yet"
    );
    bench.sync();
    bench.put(lead(1));
    assert!(bench.has(&Act::Led { epoch: Epoch(1) }));
    assert_eq!(
        append_to(&bench, 2),
        [(Position::default(), 1)],
        "sent before it is durable"
    );
    bench.put(appended(2, 1, 1, 1));
    assert_eq!(
        bench.replica.commit(),
        Index(0),
        "its own copy is not durable"
    );
    bench.sync();
    assert_eq!(bench.replica.commit(), Index(1));
    let (epoch, at) = (Epoch(1), Index(1));
    assert!(bench.has(&Act::Serving { epoch, at }));
    assert!(bench.reports().contains(&&Report::Leading {
        epoch,
        serving: true
    }));
    bench.put(lead(1));
    assert_eq!(
        bench.reports(),
        [&Report::Leading {
            epoch,
            serving: true
        }]
    );
    assert!(
        bench.writes().is_empty(),
        "a repeated order changes nothing"
    );
}

#[test]
fn two_followers_commit_before_the_leaders_own_disk() {
    let mut bench = Bench::leading();
    bench.propose(1);
    bench.put(appended(2, 1, 2, 2));
    bench.put(appended(3, 1, 2, 2));
    assert_eq!(
        (bench.replica.commit(), bench.replica.durable()),
        (Index(2), Index(1))
    );
    assert!(bench.has(&Act::Commit(Index(2))));
}

#[test]
fn it_leads_an_epoch_at_most_once() {
    let mut bench = Bench::leading();
    bench.put(Input::Damaged);
    assert!(bench.has(&Act::Deposed { epoch: Epoch(1) }));
    bench.put(lead(1));
    assert!(!bench.replica.is_leading());
    let mut restarted = Bench::open(|recovered| {
        recovered.promise = Some(claim(1));
        recovered.incarnation = Incarnation(8);
    });
    restarted.put(lead(1));
    assert!(!restarted.replica.is_leading(), "another life was meant");
}

#[test]
fn entries_of_earlier_epochs_are_committed_with_one_of_its_own() {
    let mut bench = Bench::new();
    bench.put(append(claim(1), Position::default(), &[1, 1], 0, 1));
    bench.put(fence(claim(2)));
    bench.sync();
    bench.put(lead(2));
    bench.sync();
    bench.put(appended(2, 2, 2, 1));
    assert_eq!(bench.replica.commit(), Index(0));
    bench.put(appended(2, 2, 3, 1));
    assert_eq!(bench.replica.commit(), Index(3));
}

#[test]
fn answers_that_do_not_count_commit_nothing() {
    let mut bench = Bench::leading();
    bench.propose(1);
    bench.sync();
    let answer = |epoch, disk, impaired, matched| Input::Received {
        from: NodeId(2),
        message: Message::Appended {
            epoch: Epoch(epoch),
            disk,
            impaired,
            matched: Index(matched),
            round: Round(1),
        },
    };
    let disk = member(2).disk;
    for input in [
        answer(2, disk, false, 2),
        answer(1, DiskId(9), false, 2),
        answer(1, disk, true, 2),
        answer(1, disk, false, 3),
        appended(4, 1, 2, 1),
        appended(2, 1, 2, 99),
    ] {
        bench.put(input.clone());
        assert_eq!(bench.replica.commit(), Index(0), "{input:?}");
    }
    bench.put(answer(1, disk, false, 2));
    assert_eq!(bench.replica.commit(), Index(2));
    let status = bench.replica.peers().find(|peer| peer.member == member(2));
    assert_eq!(status.map(|peer| peer.matched), Some(Index(2)));
}

#[test]
fn a_higher_promise_ends_it() {
    let mut bench = Bench::leading();
    bench.put(fence(claim(2)));
    assert!(bench.has(&Act::Deposed { epoch: Epoch(1) }));
    bench.propose(1);
    assert!(bench.writes().is_empty());
    assert!(matches!(bench.effects[0].act, Act::Note(Event::Dropped(_))));
}

#[test]
fn several_entries_travel_in_one_append_and_several_appends_at_a_time() {
    let mut bench = Bench::leading();
    bench.put(appended(2, 1, 1, 1));
    bench.propose(10);
    let expected = [(position(1, 1), 3), (position(1, 4), 3)];
    assert_eq!(append_to(&bench, 2), expected, "up to the bytes in flight");
    bench.put(appended(2, 1, 4, 2));
    assert_eq!(append_to(&bench, 2), [(position(1, 7), 3)]);
    let stamps: Vec<_> = (2..=11)
        .map(|i| bench.replica.tail_entry(Index(i)).unwrap().stamp)
        .collect();
    assert_eq!(stamps, [Stamp(5); 10]);
}

#[test]
fn what_was_lost_is_sent_again_after_a_heartbeat() {
    let mut bench = Bench::leading();
    bench.put(appended(2, 1, 1, 1));
    bench.propose(2);
    bench.pass(200);
    bench.tick(1);
    assert_eq!(append_to(&bench, 2), [(position(1, 3), 0)]);
    bench.put(parted(2, 3, position(1, 1)));
    assert_eq!(append_to(&bench, 2), [(position(1, 1), 2)]);
    bench.put(parted(2, 2, position(1, 1)));
    assert!(bench.sent().is_empty(), "an answer to what was sent before");
}

#[test]
fn a_follower_behind_the_memory_is_fed_from_the_disk() {
    let mut bench = Bench::leading();
    for _ in 0..4 {
        bench.propose(10);
        bench.sync();
        let end = bench.replica.end().index.0;
        bench.put(appended(3, 1, end, 1));
    }
    bench.put(parted(2, 1, position(1, 4)));
    let first = bench.replica.tail_first();
    assert!(first > Index(20), "{first}");
    let (to, max_bytes) = (NodeId(2), bench.replica.config.max_append_bytes);
    let last = first.previous();
    assert!(bench.has(&Act::Load {
        to,
        first: Index(5),
        last,
        max_bytes
    }));
    let entries = entries(4, &[1, 1]);
    bench.put(Input::Loaded {
        to,
        first: Index(5),
        entries,
    });
    assert_eq!(append_to(&bench, 2), [(position(1, 4), 2)]);
    assert!(bench.has(&Act::Load {
        to,
        first: Index(7),
        last,
        max_bytes
    }));
}

#[test]
fn a_follower_behind_the_base_needs_a_checkpoint() {
    let mut bench = Bench::leading();
    bench.propose(5);
    bench.sync();
    bench.put(appended(3, 1, 6, 1));
    bench.put(Input::Trimmed {
        base: position(1, 4),
    });
    bench.put(parted(2, 1, position(0, 0)));
    assert!(bench.has(&Act::InstallNeeded { to: NodeId(2) }));
    bench.put(parted(2, 2, position(1, 4)));
    assert!(bench.sent().is_empty(), "an answer to what was sent before");
    bench.pass(200);
    bench.tick(1);
    bench.put(parted(2, 4, position(1, 4)));
    assert_eq!(append_to(&bench, 2), [(position(1, 4), 2)]);
}

#[test]
fn the_lease_reaches_from_the_sending_of_what_a_quorum_answered() {
    let mut bench = Bench::leading();
    assert!(!bench.replica.holds_lease());
    bench.pass(300);
    bench.put(appended(2, 1, 1, 1));
    assert!(bench.has(&Act::Lease { held: true }));
    bench.pass(699);
    bench.propose(1);
    assert!(bench.replica.holds_lease());
    bench.pass(1);
    bench.propose(1);
    assert_eq!(
        bench.effects[0].act,
        Act::Lease { held: false },
        "before anything else"
    );
    bench.tick(1);
    assert!(
        bench
            .reports()
            .contains(&&Report::LostQuorum { epoch: Epoch(1) })
    );
    bench.tick(2);
    assert!(bench.reports().is_empty(), "said once per node timeout");
}

#[test]
fn a_stalled_disk_is_reported() {
    let mut bench = Bench::leading();
    bench.put(appended(2, 1, 1, 1));
    bench.propose(1);
    let mut reported = false;
    for round in 2..9 {
        bench.pass(200);
        bench.tick(1);
        reported |= bench
            .reports()
            .contains(&&Report::LostQuorum { epoch: Epoch(1) });
        bench.put(appended(2, 1, 1, round));
        assert!(bench.replica.holds_lease());
    }
    assert!(reported && bench.replica.is_disk_stalled(bench.now));
}

#[test]
fn proposals_stop_at_the_bound_of_what_is_uncommitted() {
    let mut bench = Bench::leading();
    bench.propose(20);
    assert!(!bench.replica.can_propose());
    bench.sync();
    bench.put(appended(2, 1, 21, 1));
    assert!(bench.replica.can_propose());
}

#[test]
fn a_refusal_with_a_higher_promise_is_reported() {
    let mut bench = Bench::leading();
    let refused = |epoch| Input::Received {
        from: NodeId(2),
        message: Message::Refused {
            promise: claim(epoch),
            round: Round(1),
        },
    };
    bench.put(refused(4));
    assert_eq!(bench.reports(), [&Report::Outranked { promise: claim(4) }]);
    bench.put(refused(4));
    assert!(bench.reports().is_empty(), "once per heartbeat");
    assert!(bench.replica.is_leading());
}

#[test]
fn it_tells_an_impaired_follower_where_its_log_ends() {
    let mut bench = Bench::leading();
    bench.propose(2);
    let nonce = crate::Nonce(5);
    let ask = |epoch| Input::Received {
        from: NodeId(3),
        message: Message::HealAsk {
            epoch: Epoch(epoch),
            nonce,
        },
    };
    bench.put(ask(1));
    let (epoch, end) = (Epoch(1), Index(3));
    assert_eq!(
        bench.sent(),
        [(3, &Message::HealAnswer { epoch, nonce, end })]
    );
    bench.put(ask(2));
    assert!(bench.sent().is_empty());
}
