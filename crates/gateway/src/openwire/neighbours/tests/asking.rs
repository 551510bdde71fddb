//! Client ids.

use super::*;
use crate::limits::{
    CLAIM_MICROS, NEIGHBOUR_GONE_MICROS, NEIGHBOUR_HELLO_MICROS, TAKEOVER_TIMEOUT,
};

fn taken(seat: u64) -> Option<Result<(), String>> {
    Some(Err(format!("seat {seat}")))
}

const LET_IN: Option<Result<(), String>> = Some(Ok(()));

#[test]
fn of_two_that_ask_at_once_one_is_let_in() {
    let mut world = World::at_rest(3);
    world.claim(1, 1, "orders", "a");
    world.claim(2, 2, "orders", "b");
    assert_eq!(world.decision(1, 1), None, "it waits for its own claim");
    // The second gets its place first.
    world.publish(2);
    world.settle();
    assert_eq!(world.decision(1, 1), taken(2));
    assert_eq!(world.decision(2, 2), LET_IN);
    world.claim(3, 3, "other", "c");
    world.settle();
    assert_eq!(world.decision(3, 3), LET_IN);
}

#[test]
fn it_is_free_for_whoever_asks_after_the_release_is_said() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, "orders", "a");
    world.settle();
    world.release(1, 1, "orders");
    assert!(!world.gateways[&1].freed.contains(&SeatId(1)));
    world.publish(1);
    assert!(world.gateways[&1].freed.contains(&SeatId(1)));
    world.claim(2, 2, "orders", "b");
    world.settle();
    assert_eq!(world.decision(2, 2), LET_IN);
}

#[test]
fn a_late_release_of_an_earlier_seat_takes_nothing_from_the_present_one() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, "orders", "a");
    world.settle();
    world.claim(1, 2, "orders", "a");
    assert_eq!(world.decision(1, 2), LET_IN, "it has it already");
    world.release(1, 1, "orders");
    world.settle();
    world.claim(2, 3, "orders", "b");
    world.settle();
    assert_eq!(world.decision(2, 3), taken(2));
}

#[test]
fn a_client_that_comes_back_elsewhere_gets_its_place_when_the_earlier_connection_has_left() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, "orders", "a");
    world.settle();
    world.claim(2, 2, "orders", "a");
    world.settle();
    assert!(world.gateways[&1].leaves.contains(&SeatId(1)));
    assert_eq!(world.decision(2, 2), None);
    world.release(1, 1, "orders");
    world.settle();
    assert_eq!(world.decision(2, 2), LET_IN);
    assert!(world.gateways[&2].leaves.is_empty());
}

#[test]
fn an_earlier_connection_that_does_not_leave_is_not_waited_for_without_end() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, "orders", "a");
    world.settle();
    world.claim(2, 2, "orders", "a");
    world.wait(u64::try_from(TAKEOVER_TIMEOUT.as_micros()).expect("short"));
    assert_eq!(world.decision(2, 2), LET_IN);
}

#[test]
fn without_an_answer_a_client_is_let_in_after_a_while_and_then_has_it() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, "orders", "a");
    // The frame is under way for long.
    world.now = world.now.after(CLAIM_MICROS);
    world.tell(1, Input::Elapsed);
    assert_eq!(world.decision(1, 1), LET_IN);
    let is_told = |note: &Note| matches!(note, Note::Unanswered { .. });
    assert!(world.gateways[&1].notes.iter().any(is_told));
    world.settle();
    world.claim(2, 2, "orders", "b");
    world.settle();
    assert_eq!(world.decision(2, 2), taken(1));
}

#[test]
fn a_gateway_without_the_topic_lets_in_after_a_while() {
    let mut world = World::new(2);
    world.attend();
    world.claim(1, 1, "orders", "a");
    world.wait(CLAIM_MICROS - MOMENT);
    assert_eq!(world.decision(1, 1), None);
    world.wait(MOMENT);
    assert_eq!(world.decision(1, 1), LET_IN);
    // Both come to the topic, and the other learns of it before it decides.
    world.tell(1, Input::Opened);
    world.tell(2, Input::Opened);
    world.claim(2, 2, "orders", "b");
    world.settle();
    assert_eq!(world.decision(2, 2), taken(1));
}

#[test]
fn who_has_just_come_waits_until_the_others_have_said_what_they_have() {
    let mut world = World::at_rest(1);
    world.claim(1, 1, "orders", "a");
    assert_eq!(world.decision(1, 1), LET_IN, "it is alone");
    world.start(2, 2);
    world.attend();
    world.tell(2, Input::Opened);
    world.claim(2, 2, "orders", "b");
    // Its own words come back before the other says anything.
    for _ in 0..4 {
        world.publish(2);
        world.hear(2);
    }
    assert_eq!(world.decision(2, 2), None);
    world.settle();
    assert_eq!(world.decision(2, 2), taken(1));
}

#[test]
fn the_id_of_a_gateway_that_died_is_free_once_it_is_missed_and_does_not_answer() {
    let mut world = World::at_rest(3);
    world.claim(1, 1, "orders", "a");
    world.claim(1, 2, "bills", "b");
    world.settle();
    world.gateways.remove(&1);
    world.claim(2, 3, "orders", "c");
    world.settle();
    assert_eq!(world.decision(2, 3), taken(1), "nobody has missed it");
    world.attend();
    // The same client is not kept waiting for it, another one is.
    world.claim(3, 4, "bills", "b");
    world.claim(2, 5, "orders", "d");
    world.claim(3, 6, "orders", "e");
    world.settle();
    assert_eq!(world.decision(3, 4), LET_IN);
    assert_eq!(world.decision(2, 5), None);
    world.wait(NEIGHBOUR_GONE_MICROS + 2 * NEIGHBOUR_HELLO_MICROS);
    let decided = [world.decision(2, 5), world.decision(3, 6)];
    assert!(decided.contains(&LET_IN), "{decided:?}");
    assert_ne!(decided[0], decided[1], "one of both: {decided:?}");
}

#[test]
fn what_is_too_long_to_be_told_is_let_in_and_noted() {
    let mut world = World::at_rest(2);
    world.claim(1, 1, &"x".repeat(2_000), "a");
    assert_eq!(world.decision(1, 1), LET_IN);
    let notes = &world.gateways[&1].notes;
    assert!(matches!(notes.last(), Some(Note::Full { .. })), "{notes:?}");
}
