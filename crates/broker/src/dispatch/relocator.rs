//! What the serving leader does about names that leave its shard.
//!
//! ```text
//!  Leave applied
//!    Expecting   the target is told, with what this shard's outbox had stored here
//!    Draining    consumers settle what they have, for a while: what comes back keeps its place
//!    Shipping    messages go into the outbox in their turn, some ahead of what has arrived; new ones are taken in
//!    Cutting     little is left: Cut. The rest is shipped
//!  Cut applied, nothing left but what consumers have
//!    Adopting    the target is told what is known of the producers, piece by piece
//!    Opening     the target is told that everybody may send there
//!    Ending      what comes back from consumers is shipped; when nothing is left: Depart
//! ```
//! A new leader begins at the start, whatever the former one did: every step may come twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_message::{
    BatchBuilder, Destination, DestinationKind, DestinationName, MessagePosition, Outcome,
    ProducerId, Relocating, Step as Logged,
};

use super::{Dispatcher, LaneId};
use crate::limits::{
    ADOPT_BYTES, CUT_AT, DRAIN_MAX, RELOCATE_AHEAD, RELOCATE_PAGE, RELOCATE_PAUSE, RELOCATE_TIMEOUT,
};
use crate::state::{QueueId, Stage, State, Turn};
use crate::{Effect, Outcomes};

/// The leader's side of the moves. Nothing of it is logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relocator {
    courses: BTreeMap<DestinationName, Course>,
    /// The state was looked through since a move changed.
    is_current: bool,
}

/// How far one move is.
#[derive(Clone, Debug)]
struct Course {
    relocating: Relocating,
    step: Step,
    /// When the step is looked at again, if nothing happens before.
    due: u64,
    /// What was put on its way, and is not applied.
    proposed: Vec<(QueueId, MessagePosition)>,
    /// Messages that were left when the present round began, and how many were shipped since.
    round: Option<(u64, u64)>,
    /// Windows of producers are told from here on: of the destination, behind the producer.
    told: (usize, Option<ProducerId>),
    /// Where the next piece begins, once this one is there.
    next: (usize, Option<ProducerId>),
    /// `Depart` was proposed; until then it is not proposed again.
    departs: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Expecting,
    Draining { until: u64 },
    Shipping,
    Cutting,
    Adopting,
    Opening,
    Ending,
}

impl Course {
    fn new(now: u64, relocating: Relocating) -> Self {
        Self {
            relocating,
            step: Step::Expecting,
            due: now,
            proposed: Vec::new(),
            round: None,
            told: (0, None),
            next: (0, None),
            departs: 0,
        }
    }

    fn go(&mut self, step: Step, now: u64) {
        (self.step, self.due) = (step, now);
    }
}

impl Relocator {
    /// Moves began, went on or ended.
    pub(crate) fn changed(&mut self) {
        self.is_current = false;
    }

    /// Whether the target of a name that leaves expects it.
    pub(crate) fn is_expected(&self, name: &str) -> bool {
        let course = self.courses.get(name);
        course.is_none_or(|course| course.step != Step::Expecting)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.courses.values().map(|course| course.due).min()
    }

    /// What the target made of the step that it was told last.
    fn answered(
        &mut self,
        now: u64,
        name: &DestinationName,
        outcomes: Option<&Outcomes>,
        stage: Option<Stage>,
    ) {
        let Some(course) = self.courses.get_mut(name) else {
            return;
        };
        let is_done = outcomes.is_some_and(|outcomes| {
            let mut outcomes = outcomes.iter();
            outcomes.all(|outcome| outcome == Outcome::Applied)
        });
        if !is_done {
            course.due = now.saturating_add(RELOCATE_PAUSE);
            return;
        }
        match course.step {
            Step::Expecting if stage == Some(Stage::Cut) => course.go(Step::Shipping, now),
            Step::Expecting => {
                let until = now.saturating_add(DRAIN_MAX);
                course.go(Step::Draining { until }, now);
            }
            Step::Adopting => (course.told, course.due) = (course.next, now),
            Step::Opening => course.go(Step::Ending, now),
            Step::Draining { .. } | Step::Shipping | Step::Cutting | Step::Ending => {}
        }
    }

    /// Begins with names that leave, and forgets those that left.
    fn refresh(&mut self, now: u64, state: &State) {
        if self.is_current {
            return;
        }
        self.is_current = true;
        let leaving = state
            .relocations()
            .iter()
            .filter(|(_, moved)| matches!(moved.stage, Stage::Leaving | Stage::Cut));
        let leaving: BTreeMap<_, _> = leaving
            .map(|(name, moved)| (name.clone(), moved.relocating))
            .collect();
        self.courses
            .retain(|name, course| leaving.get(name) == Some(&course.relocating));
        for (name, relocating) in leaving {
            let course = || Course::new(now, relocating);
            self.courses.entry(name).or_insert_with(course);
        }
    }
}

impl Dispatcher {
    /// A name began to move, went on, or moved. Returns how many non-persistent messages are lost with what left.
    pub(crate) fn relocated(&mut self, state: &State) -> u64 {
        self.relocator.changed();
        self.touch_all();
        let names = state.relocations().iter();
        let gone = names.filter(|(_, moved)| moved.stage == Stage::Gone);
        let gone: Vec<_> = gone.flat_map(|(name, _)| state.family(name)).collect();
        let lanes: Vec<LaneId> = gone
            .iter()
            .filter_map(|queue| self.by_queue.get(queue).copied())
            .collect();
        lanes.into_iter().map(|id| self.purge_transient(id)).sum()
    }

    pub(crate) fn relocator(&self) -> &Relocator {
        &self.relocator
    }

    /// What another shard made of what it was asked last about a name.
    pub(super) fn asked(
        &mut self,
        now: u64,
        name: &DestinationName,
        outcomes: Option<&Outcomes>,
        state: &State,
    ) {
        let moved = state.relocations().get(name.as_str());
        let stage = moved.map(|moved| moved.stage);
        self.relocator.answered(now, name, outcomes, stage);
    }

    /// Goes on with every move.
    pub(super) fn relocate(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        self.relocator.refresh(now, state);
        if self.relocator.courses.is_empty() || !self.has_lease {
            return;
        }
        let mut courses = std::mem::take(&mut self.relocator.courses);
        for (name, course) in &mut courses {
            let stage = state.relocations().get(name.as_str());
            if let Some(stage) = stage.map(|moved| moved.stage) {
                self.go_on(now, (name, course, stage), state, effects);
                // Whatever it waits for makes a step; and if that was lost, it looks again.
                if course.due <= now {
                    course.due = now.saturating_add(RELOCATE_TIMEOUT);
                }
            }
        }
        self.relocator.courses = courses;
    }

    fn go_on(
        &mut self,
        now: u64,
        (name, course, stage): (&DestinationName, &mut Course, Stage),
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        match course.step {
            Step::Expecting if course.due <= now => {
                let body = state.expected_body(name, course.relocating.from);
                let at = Destination::queue(name.clone());
                ask(now, (name, course), (&at, Logged::Expect, &body), effects);
            }
            Step::Draining { until } => {
                course.due = until.max(now.saturating_add(1));
                let is_waiting = self.gateways.is_waiting();
                if !is_waiting && (until <= now || self.is_drained(name, state)) {
                    course.go(Step::Shipping, now);
                    self.ship(now, (name, course, stage), state, effects);
                }
            }
            Step::Shipping => self.ship(now, (name, course, stage), state, effects),
            Step::Cutting => {
                if stage == Stage::Cut || course.due <= now {
                    course.go(Step::Shipping, now);
                    self.ship(now, (name, course, stage), state, effects);
                }
            }
            Step::Adopting if course.due <= now => {
                tell_windows(now, (name, course), state, effects)
            }
            Step::Opening if course.due <= now => {
                let at = Destination::queue(name.clone());
                ask(now, (name, course), (&at, Logged::Open, &[]), effects);
            }
            Step::Ending => {
                let is_shipped = self.put_on_its_way(now, (name, course), state, effects);
                if is_shipped && state.is_emptied(name) && course.departs <= now {
                    log(now, (name, course), Logged::Depart, effects);
                    course.departs = course.due;
                }
            }
            Step::Expecting | Step::Adopting | Step::Opening => {}
        }
    }

    /// Whether no consumer has anything of a name.
    fn is_drained(&self, name: &DestinationName, state: &State) -> bool {
        let lanes = state.family(name).into_iter();
        let mut lanes = lanes.filter_map(|queue| self.by_queue.get(&queue));
        lanes.all(|id| {
            let mut held = self.lanes[id.0].in_flight.keys();
            held.all(|position| position.is_transient())
        })
    }

    /// Ships what is there, and cuts or tells the rest when it is time.
    fn ship(
        &mut self,
        now: u64,
        (name, course, stage): (&DestinationName, &mut Course, Stage),
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        if self.gateways.is_waiting() {
            course.due = now.saturating_add(RELOCATE_TIMEOUT);
            return;
        }
        let is_shipped = self.put_on_its_way(now, (name, course), state, effects);
        let on_the_way = on_the_way(name, state) as u64;
        match stage {
            Stage::Leaving => {
                let left = self.left_of(name, state) + on_the_way;
                if left <= CUT_AT || course.is_endless(left) {
                    course.go(Step::Cutting, now);
                    log(now, (name, course), Logged::Cut, effects);
                    // Refused while a transaction is to store something; then it is tried again, and shipped on.
                    course.due = now.saturating_add(RELOCATE_PAUSE);
                }
            }
            Stage::Cut if is_shipped && on_the_way == 0 => {
                course.go(Step::Adopting, now);
                course.told = (0, None);
                tell_windows(now, (name, course), state, effects);
            }
            Stage::Cut | Stage::Gone | Stage::Expected | Stage::Here => {}
        }
    }

    /// How many messages of a name are stored here and in nobody's hands.
    fn left_of(&self, name: &DestinationName, state: &State) -> u64 {
        let of_queue = |queue: QueueId| {
            let stored = state.queue(queue);
            let lane = self.by_queue.get(&queue).map(|id| &self.lanes[id.0]);
            let held = lane.map_or(0, |lane| {
                let held = lane.in_flight.keys();
                held.filter(|position| !position.is_transient()).count() as u64
            });
            let pending = match stored.kind() {
                DestinationKind::Queue => stored.pending_count().saturating_sub(held),
                DestinationKind::Topic | DestinationKind::Subscription => 0,
            };
            pending + stored.waiting_count()
        };
        state.family(name).into_iter().map(of_queue).sum()
    }

    /// Puts the next messages on their way, as far as there is room. True: none is left that nobody has, and what was put
    /// on its way is logged.
    fn put_on_its_way(
        &mut self,
        now: u64,
        (name, course): (&DestinationName, &mut Course),
        state: &State,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if course.due <= now {
            // Not committed in time, or refused: again.
            course.proposed.clear();
        }
        course
            .proposed
            .retain(|(queue, position)| state.queue(*queue).holds(*position));
        if !course.proposed.is_empty() {
            return false;
        }
        let ahead = on_the_way(name, state);
        let next = self.next_to_ship(name, state);
        if next.is_empty() {
            return true;
        }
        if ahead >= RELOCATE_AHEAD {
            course.due = now.saturating_add(RELOCATE_TIMEOUT);
            return false;
        }
        let mut builder = BatchBuilder::persistent();
        for (queue, position, due_ms) in next {
            let at = state.queue(queue).destination();
            if builder.transfer_relocated(&at, position, due_ms).is_err() {
                break;
            }
            course.proposed.push((queue, position));
        }
        if let Some((_, shipped)) = &mut course.round {
            *shipped += course.proposed.len() as u64;
        }
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
        course.due = now.saturating_add(RELOCATE_TIMEOUT);
        false
    }

    /// The next messages in their turn, those in somebody's hands left out; those that wait for their time come last,
    /// with when that is.
    fn next_to_ship(
        &self,
        name: &DestinationName,
        state: &State,
    ) -> Vec<(QueueId, MessagePosition, u64)> {
        let mut next = Vec::new();
        let family = state.family(name);
        for queue in &family {
            let stored = state.queue(*queue);
            if stored.kind() == DestinationKind::Topic {
                continue;
            }
            let lane = self.by_queue.get(queue).map(|id| &self.lanes[id.0]);
            let is_free = |position: &MessagePosition| {
                lane.is_none_or(|lane| !lane.in_flight.contains_key(position))
            };
            let turns = stored.in_turn(Turn::default()).map(Turn::position);
            let room = RELOCATE_PAGE - next.len();
            let free = turns.filter(is_free).take(room);
            next.extend(free.map(|position| (*queue, position, 0)));
        }
        if !next.is_empty() {
            return next;
        }
        for queue in &family {
            let room = RELOCATE_PAGE - next.len();
            let waiting = state.queue(*queue).timing().page(None, room);
            let waiting = waiting.into_iter();
            next.extend(waiting.map(|waits| (*queue, waits.position, waits.due_ms)));
        }
        next
    }
}

impl Course {
    /// Whether shipping does not get ahead of what comes in: a round that shipped as many as there were leaves more
    /// than half as many. Then producers have to wait.
    fn is_endless(&mut self, left: u64) -> bool {
        match self.round {
            Some((goal, shipped)) if shipped < goal => false,
            Some((goal, _)) if left > goal / 2 => true,
            Some(_) | None => {
                self.round = Some((left, 0));
                false
            }
        }
    }
}

/// How many messages of a name are on their way.
fn on_the_way(name: &DestinationName, state: &State) -> usize {
    let outbox = state.outbox();
    let targets = state.family(name).into_iter();
    let targets = targets.filter_map(|id| outbox.target_id(&state.queue(id).destination()));
    targets.map(|target| outbox.target(target).len()).sum()
}

/// Tells the target the next piece of what is known of the producers, or that it was the last.
fn tell_windows(
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
fn ask(
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
fn log(
    now: u64,
    (name, course): (&DestinationName, &mut Course),
    step: Logged,
    effects: &mut Vec<Effect>,
) {
    let at = Destination::queue(name.clone());
    effects.push(Effect::Propose {
        batch: batch_of(&at, step, course.relocating, &[]),
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
