//! Temporary destinations, and who is there.

use super::*;
use crate::limits::{NEIGHBOUR_GONE_MICROS, NEIGHBOUR_ORPHAN_MICROS, NEIGHBOUR_SILENT_MICROS};

fn is_lost(note: &Note) -> bool {
    matches!(note, Note::Lost { .. })
}

#[test]
fn what_one_has_the_others_know_and_forget() {
    let mut world = World::at_rest(3);
    world.announce(1, &queue("a"), true);
    world.announce(1, &topic("a"), true);
    world.settle();
    for other in [2, 3] {
        assert_eq!(world.announced(other), [queue("a"), topic("a")]);
    }
    assert!(world.announced(1).is_empty(), "its own it knows");
    world.announce(1, &queue("a"), false);
    world.settle();
    assert_eq!(world.announced(2), [topic("a")]);
}

#[test]
fn who_comes_later_is_told_all() {
    let mut world = World::at_rest(1);
    for number in 0..3_000 {
        world.announce(1, &queue(&format!("host-1-1:{number}")), true);
    }
    world.start(2, 2);
    world.attend();
    world.tell(2, Input::Opened);
    world.settle();
    assert_eq!(world.announced(2).len(), 3_000);
    assert!(world.topic.len() > 3, "in several frames");
}

#[test]
fn who_is_alone_says_nothing() {
    let mut world = World::at_rest(1);
    let before = world.published;
    world.announce(1, &queue("a"), true);
    world.claim(1, 1, "orders", "a");
    assert_eq!(world.decision(1, 1), Some(Ok(())));
    world.release(1, 1, "orders");
    assert!(world.gateways[&1].freed.contains(&SeatId(1)));
    world.wait(60_000_000);
    assert_eq!(world.published, before);
}

#[test]
fn who_hears_nobody_tells_nobody_of_its_destinations() {
    let mut world = World::new(2);
    world.attend();
    world.tell(1, Input::Opened);
    world.wait(2_000_000);
    let before = world.published;
    world.announce(1, &queue("a"), true);
    world.settle();
    assert_eq!(world.published, before, "the other has no clients");
    world.tell(2, Input::Opened);
    world.settle();
    assert_eq!(world.announced(2), [queue("a")]);
}

#[test]
fn what_comes_and_goes_between_two_frames_is_said_once() {
    let mut world = World::at_rest(2);
    let before = world.published;
    for number in 0..100 {
        let destination = queue(&format!("host-1-1:{number}"));
        world.announce(1, &destination, true);
        world.announce(1, &destination, false);
    }
    world.settle();
    assert!(world.published <= before + 2);
    assert!(world.announced(2).is_empty());
}

#[test]
fn a_client_that_changes_its_gateway_keeps_its_destination() {
    let mut world = World::at_rest(3);
    world.announce(1, &queue("a"), true);
    world.settle();
    world.announce(2, &queue("a"), true);
    world.settle();
    world.announce(1, &queue("a"), false);
    world.settle();
    assert_eq!(world.announced(3), [queue("a")]);
    assert_eq!(world.announced(1), [queue("a")]);
}

#[test]
fn who_says_goodbye_is_forgotten() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    world.tell(1, Input::Left);
    world.settle();
    assert!(world.gateways[&1].has_left);
    assert!(world.announced(2).is_empty());
    assert_eq!(world.gateways[&2].machine.others(), 0);
    // Its last words were its last.
    world.announce(1, &queue("b"), true);
    world.settle();
    assert!(world.announced(2).is_empty());
}

#[test]
fn one_without_the_topic_leaves_at_once() {
    let mut world = World::new(2);
    world.attend();
    world.tell(1, Input::Left);
    assert!(world.gateways[&1].has_left);
}

#[test]
fn who_dies_is_forgotten_when_the_coordinator_misses_it_and_it_does_not_answer() {
    let mut world = World::at_rest(3);
    world.announce(1, &queue("a"), true);
    world.settle();
    world.gateways.remove(&1);
    world.wait(60_000_000);
    assert_eq!(world.announced(2), [queue("a")], "nobody has missed it");
    world.attend();
    world.wait(NEIGHBOUR_GONE_MICROS + MOMENT);
    for other in [2, 3] {
        assert!(world.announced(other).is_empty());
        assert_eq!(world.gateways[&other].machine.others(), 1);
    }
    world.wait(2_000_000);
    let before = world.published;
    world.wait(60_000_000);
    assert_eq!(world.published, before, "they are at rest");
}

#[test]
fn what_a_lost_gateway_had_is_deleted_when_no_client_comes_back_for_it() {
    let mut world = World::at_rest(3);
    for text in ["a", "b", "c"] {
        world.announce(1, &queue(text), true);
    }
    world.settle();
    world.gateways.remove(&1);
    world.attend();
    world.wait(NEIGHBOUR_GONE_MICROS + MOMENT);
    world.announce(2, &queue("b"), true);
    world.announce(3, &queue("c"), true);
    world.wait(NEIGHBOUR_ORPHAN_MICROS / 2);
    assert!(world.gateways[&2].orphaned.is_empty(), "it may come back");
    world.wait(NEIGHBOUR_ORPHAN_MICROS);
    for other in [2, 3] {
        assert_eq!(world.gateways[&other].orphaned, [queue("a")].into());
    }
}

#[test]
fn who_says_goodbye_leaves_nothing() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    world.tell(1, Input::Left);
    world.settle();
    world.gateways.remove(&1);
    world.wait(2 * NEIGHBOUR_ORPHAN_MICROS);
    assert!(world.gateways[&2].orphaned.is_empty(), "it has deleted it");
}

#[test]
fn who_is_only_missed_by_the_coordinator_stays() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    let nobody = BTreeSet::new();
    for number in [1, 2] {
        world.tell(number, Input::Attending(nobody.clone()));
    }
    world.wait(60_000_000);
    assert_eq!(world.announced(2), [queue("a")]);
}

#[test]
fn who_hangs_is_forgotten_and_says_all_again_when_it_hears_that() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    // It hears nothing and says nothing, and somebody says hello.
    let mut hangs = world.gateways.remove(&1).expect("it runs");
    world.tell(2, Input::Opened);
    world.wait(NEIGHBOUR_SILENT_MICROS - MOMENT);
    assert_eq!(world.announced(2), [queue("a")]);
    world.wait(3 * MOMENT);
    assert!(world.announced(2).is_empty());
    hangs.notes.clear();
    world.gateways.insert(1, hangs);
    world.settle();
    assert_eq!(world.announced(2), [queue("a")]);
}

#[test]
fn an_answer_that_comes_just_too_late_is_given_again() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    let hangs = world.gateways.remove(&1).expect("it runs");
    world.tell(2, Input::Opened);
    world.wait(NEIGHBOUR_SILENT_MICROS - MOMENT);
    world.now = world.now.after(2 * MOMENT);
    world.tell(2, Input::Elapsed);
    world.publish(2);
    while world.hear(2) {}
    // `lost` is under way when the answer gets its place.
    world.gateways.insert(1, hangs);
    while world.hear(1) | world.publish(1) {}
    world.settle();
    assert_eq!(world.announced(2), [queue("a")]);
    assert!(world.gateways[&2].notes.iter().any(is_lost), "it was said");
}

#[test]
fn a_leader_that_is_away_makes_nobody_be_forgotten() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    // A hello is heard by one; then nothing comes through for long.
    world.tell(2, Input::Opened);
    world.publish(2);
    world.hear(2);
    for _ in 0..30 {
        world.now = world.now.after(1_000_000);
        for number in [1, 2] {
            world.tell(number, Input::Elapsed);
        }
    }
    assert_eq!(world.announced(2), [queue("a")]);
    world.lose();
    // Its next hello comes back before any answer to it.
    for _ in 0..4 {
        world.publish(2);
        world.hear(2);
    }
    world.wait(60_000_000);
    assert!(!world.gateways[&2].notes.iter().any(is_lost));
    assert_eq!(world.announced(2), [queue("a")]);
}

#[test]
fn the_next_life_of_a_gateway_takes_the_place_of_the_one_before() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.settle();
    world.gateways.remove(&1);
    world.start(11, 1);
    world.attend();
    world.tell(11, Input::Opened);
    world.wait(2 * NEIGHBOUR_GONE_MICROS);
    assert!(world.announced(2).is_empty());
    assert_eq!(world.gateways[&2].machine.others(), 1);
}

#[test]
fn a_number_that_is_left_out_makes_all_be_said_again() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.publish(1);
    *world.topic.last_mut().expect("it is there") = None;
    world.announce(1, &queue("b"), true);
    world.wait(2_000_000);
    assert_eq!(world.announced(2), [queue("a"), queue("b")]);
}

#[test]
fn who_alone_misses_something_asks_for_all() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    world.publish(1);
    world.gateways.get_mut(&2).expect("it runs").heard += 1;
    world.announce(1, &queue("b"), true);
    world.wait(2_000_000);
    assert_eq!(world.announced(2), [queue("a"), queue("b")]);
}

#[test]
fn what_the_leader_refuses_is_said_again_later() {
    let mut world = World::at_rest(2);
    world.announce(1, &queue("a"), true);
    let gateway = world.gateways.get_mut(&1).expect("it runs");
    gateway.in_flight.take().expect("it is said");
    world.tell(1, Input::Published { is_taken: false });
    world.settle();
    assert!(world.announced(2).is_empty(), "not at once");
    world.wait(2_000_000);
    assert_eq!(world.announced(2), [queue("a")]);
}

#[test]
fn nonsense_is_noted_and_changes_nothing() {
    let mut world = World::at_rest(2);
    world.tell(1, Input::Heard(Bytes::from_static(b"nonsense")));
    let notes = &world.gateways[&1].notes;
    assert!(
        matches!(notes.last(), Some(Note::Malformed(_))),
        "{notes:?}"
    );
    assert_eq!(world.gateways[&1].machine.others(), 1);
}

#[test]
fn names_that_are_no_temporary_ones_are_not_told() {
    let mut world = World::at_rest(2);
    let before = world.published;
    let physical_name = "orders".to_owned();
    world.announce(1, &TempQueue { physical_name }.into(), true);
    world.settle();
    assert_eq!(world.published, before);
}
