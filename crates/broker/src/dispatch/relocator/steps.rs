//! The steps of a move as they are asked for: of the target, or of this shard's own log.

use bytes::Bytes;
use quorate_message::{BatchBuilder, Destination, DestinationName, Relocating, Step as Logged};

use super::{Course, Step};
use crate::Effect;
use crate::limits::{ADOPT_BYTES, EXPECT_MAX, RELOCATE_TIMEOUT};
use crate::state::{Obstacle, Sink, State};

/// Tells the target what is to come, unless something keeps it here.
pub(super) fn expect(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    state: &State,
    effects: &mut Vec<Effect>,
) {
    let is_overdue = course.since.saturating_add(EXPECT_MAX) <= now;
    let overdue = is_overdue.then_some(Obstacle::TargetAway);
    if let Some(obstacle) = state.obstacle(name).or(overdue) {
        return stay(now, (name, course), obstacle, effects);
    }
    course.told_as_of = state.applied();
    let body = state.expected_body(name, course.relocating.from);
    let at = Destination::queue(name.clone());
    ask(now, (name, course), (&at, Logged::Expect, &body), effects);
}

/// Has this shard log that the name does not leave.
pub(super) fn stay(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    obstacle: Obstacle,
    effects: &mut Vec<Effect>,
) {
    let mut why = Sink::keeping();
    obstacle.encode(&mut why);
    decide(now, (name, course), Logged::Stay, why, effects);
}

/// Has this shard log whether the name leaves.
pub(super) fn decide(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    step: Logged,
    body: Sink,
    effects: &mut Vec<Effect>,
) {
    course.go(Step::Deciding, now);
    log(now, (name, course), (step, &body.into_bytes()), effects);
}

/// Tells the target, once, that the subscriptions that it knows stay as they are: so their consumers are let in there.
pub(super) fn announce(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    state: &State,
    effects: &mut Vec<Effect>,
) {
    let is_needed = state.subscriptions_to(name).next().is_some();
    if std::mem::replace(&mut course.is_announced, true) || !is_needed {
        return;
    }
    let at = Destination::topic(name.clone());
    // Of no producer anything is known yet.
    ask(now, (name, course), (&at, Logged::Adopt, &[0, 0]), effects);
}

/// Tells the target the next piece of what is known of the producers, or that it was the last.
pub(super) fn tell_windows(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    state: &State,
    effects: &mut Vec<Effect>,
) {
    let family = state.family(name);
    let (place, after) = course.told;
    let Some(id) = family.get(place).copied() else {
        course.go(Step::Opening, now);
        let at = Destination::queue(name.clone());
        return ask(now, (name, course), (&at, Logged::Open, &[]), effects);
    };
    let (body, next) = state.adopted_body(id, after, ADOPT_BYTES);
    course.next = match next {
        Some(_) => (place, next),
        None => (place + 1, None),
    };
    let at = state.queue(id).destination();
    ask(now, (name, course), (&at, Logged::Adopt, &body), effects);
}

/// Has the target log a step.
pub(super) fn ask(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    (at, step, body): (&Destination, Logged, &[u8]),
    effects: &mut Vec<Effect>,
) {
    effects.push(Effect::Ask {
        shard: course.relocating.to,
        name: name.clone(),
        batch: batch_of(at, step, course.relocating, body),
    });
    course.due = now.saturating_add(RELOCATE_TIMEOUT);
}

/// Has this shard log a step.
pub(super) fn log(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    (step, body): (Logged, &[u8]),
    effects: &mut Vec<Effect>,
) {
    let at = Destination::queue(name.clone());
    effects.push(Effect::Propose {
        batch: batch_of(&at, step, course.relocating, body),
    });
    course.due = now.saturating_add(RELOCATE_TIMEOUT);
}

fn batch_of(at: &Destination, step: Logged, relocating: Relocating, body: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::persistent();
    builder
        .relocate(at, step, relocating, body)
        .expect("a step fits an empty batch");
    builder.finish()
}
