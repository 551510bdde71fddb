//! A late answer makes no temporary destination once more.

use super::*;
use crate::limits::GONE_NAMES_MAX;

const CLIENT: &str = "ID:host-1-1:1";

fn name(number: u32) -> DestinationName {
    DestinationName::new(&format!("{CLIENT}:{number}")).unwrap()
}

fn told(bench: &mut Bench, number: u32, is_there: bool) {
    told_of(bench, number, Whose::Here, is_there);
}

fn told_of(bench: &mut Bench, number: u32, whose: Whose, is_there: bool) {
    let name = name(number);
    bench.step(Input::Temporary {
        name,
        whose,
        is_there,
    });
}

/// Sends one message there: whether it goes to the shard, and what is confirmed at once.
fn send(bench: &mut Bench, number: u32, message: u64) -> (usize, Vec<(u64, u32, Outcome)>) {
    let sent = Publication {
        destination: Destination::queue(name(number)),
        ..publication(message)
    };
    let mut effects = bench.step(Input::Publish {
        call: CALL,
        producer: None,
        messages: vec![Ok(sent)],
        trace: None,
    });
    effects.extend(bench.step(Input::Drained));
    (submitted(&effects).len(), confirms(&effects))
}

#[test]
fn what_is_over_is_not_made_again_by_a_late_answer() {
    let mut bench = Bench::linked();
    assert_eq!(send(&mut bench, 1, 1), (1, Vec::new()));
    told(&mut bench, 1, false);
    let refused = vec![(1, 1, Outcome::UnknownDestination)];
    assert_eq!(send(&mut bench, 1, 2), (0, refused));
    // Its client is back and has it again.
    told(&mut bench, 1, true);
    bench.hear(NODE_A, 1, all(1, Outcome::Stored));
    assert_eq!(send(&mut bench, 1, 3), (1, Vec::new()));
}

/// A client has come to this gateway before the one that it had says that it is gone, or the other way round.
#[test]
fn what_somebody_has_is_neither_refused_nor_deleted() {
    let mut bench = Bench::linked();
    told_of(&mut bench, 1, Whose::Elsewhere, true);
    told(&mut bench, 1, true);
    told_of(&mut bench, 1, Whose::Elsewhere, false);
    assert_eq!(send(&mut bench, 1, 1), (1, Vec::new()));
    told_of(&mut bench, 1, Whose::Elsewhere, true);
    told(&mut bench, 1, false);
    let delete = Input::Purge {
        call: CallId(2),
        destination: Destination::queue(name(1)),
        what: Removal::Temporary,
    };
    let effects = bench.step(delete.clone());
    let is_done = |effect: &Effect| matches!(effect, Effect::Purged { removed: 0, .. });
    assert!(effects.iter().any(is_done) && submitted(&effects).is_empty());
    told_of(&mut bench, 1, Whose::Elsewhere, false);
    let effects = bench.step(delete);
    assert!(!effects.iter().any(is_done));
    assert_eq!(send(&mut bench, 1, 2).0, 0);
}

#[test]
fn the_latest_are_known() {
    let mut bench = Bench::linked();
    let most = u32::try_from(GONE_NAMES_MAX).unwrap();
    for number in 0..=most {
        told(&mut bench, number, false);
    }
    assert_eq!(send(&mut bench, most, 1).0, 0);
    assert_eq!(send(&mut bench, 1, 1).0, 0);
    assert_eq!(send(&mut bench, 0, 1).0, 1);
}
