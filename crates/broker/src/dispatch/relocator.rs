//! What the serving leader does about names that leave its shard.
//!
//! ```text
//!  Leave applied
//!    Expecting   the target is told, with what this shard's outbox had stored here; again, each time later, and not for ever
//!    Deciding    the target expects it: Ship. It cannot take it, or does not answer: Stay
//!  Ship applied
//!    Draining    consumers settle what they have, for a while: what comes back keeps its place
//!    Shipping    messages go into the outbox in their turn, some ahead of what has arrived; new ones are taken in
//!    Cutting     little is left: Cut. The rest is shipped
//!  Cut applied, nothing left but what consumers have
//!    Adopting    the target is told what is known of the producers, piece by piece
//!    Opening     the target is told that everybody may send there
//!    Ending      what comes back from consumers is shipped; when nothing is left: Depart
//! ```
//! A new leader begins at the start of what is logged, whatever the former one did: every step may come twice. Without a
//! lease nothing is done, and nothing is due.

mod shipping;
mod steps;

use std::collections::BTreeMap;

use quorate_message::{
    Destination, DestinationKind, DestinationName, MessagePosition, Outcome, ProducerId,
    Relocating, Step as Logged, root,
};

use super::{Dispatcher, Lane, LaneId};
use crate::limits::{CUT_AT, DRAIN_MAX, RELOCATE_PAUSE, RELOCATE_PAUSE_MAX, RELOCATE_TIMEOUT};
use crate::state::{Obstacle, QueueId, Sink, Stage, State};
use crate::{AttachRefusal, Effect, Outcomes};
use shipping::on_the_way;
use steps::{announce, ask, decide, expect, log, stay, tell_windows};

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
    /// When it began here.
    since: u64,
    /// When the step is looked at again, if nothing happens before.
    due: u64,
    /// How long it waits when the target does not answer, or refuses; 0 while all goes well.
    pause: u64,
    /// The entry as of which the target was told last what is to come.
    told_as_of: u64,
    proposed: Proposed,
    /// Messages that were left when the present round began, and how many were shipped since.
    round: Option<(u64, u64)>,
    /// Windows of producers are told from here on: of the destination, behind the producer.
    told: (usize, Option<ProducerId>),
    /// Where the next piece begins, once this one is there.
    next: (usize, Option<ProducerId>),
    /// The target was told that what it was told is final.
    is_announced: bool,
    /// `Depart` was proposed; until then it is not proposed again.
    departs: u64,
}

/// What was put on its way, and is not applied.
#[derive(Clone, Debug, Default)]
struct Proposed {
    messages: Vec<(QueueId, MessagePosition)>,
    /// Then it is taken to be lost, or refused.
    until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Expecting,
    Deciding,
    Draining { until: u64 },
    Shipping,
    Cutting,
    Adopting,
    Opening,
    Ending,
}

/// What came of a step that the target was asked to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// It is logged that the target does not do it.
    Refused,
    /// It may be logged or not.
    None,
}

impl Answer {
    fn of(outcomes: Option<&Outcomes>) -> Self {
        match outcomes {
            None => Self::None,
            Some(outcomes) if outcomes.iter().all(|one| one == Outcome::Applied) => Self::Done,
            Some(_) => Self::Refused,
        }
    }
}

impl Course {
    fn new(now: u64, relocating: Relocating) -> Self {
        Self {
            relocating,
            step: Step::Expecting,
            since: now,
            due: now,
            pause: 0,
            told_as_of: 0,
            proposed: Proposed::default(),
            round: None,
            told: (0, None),
            next: (0, None),
            is_announced: false,
            departs: 0,
        }
    }

    fn go(&mut self, step: Step, now: u64) {
        (self.step, self.due) = (step, now);
    }

    /// Waits before the same is tried again, each time longer.
    fn wait(&mut self, now: u64) {
        self.pause = (self.pause * 2).clamp(RELOCATE_PAUSE, RELOCATE_PAUSE_MAX);
        self.due = now.saturating_add(self.pause);
    }

    /// What is logged may have gone on, by whichever leader.
    fn catch_up(&mut self, now: u64, stage: Stage) {
        match (stage, self.step) {
            (Stage::Shipping, Step::Expecting | Step::Deciding) => {
                let until = now.saturating_add(DRAIN_MAX);
                self.go(Step::Draining { until }, now);
            }
            (
                Stage::Cut,
                Step::Expecting | Step::Deciding | Step::Draining { .. } | Step::Cutting,
            ) => self.go(Step::Shipping, now),
            (
                Stage::Leaving { .. }
                | Stage::Shipping
                | Stage::Cut
                | Stage::Gone
                | Stage::Expected { .. }
                | Stage::Here
                | Stage::Stays(_),
                Step::Expecting
                | Step::Deciding
                | Step::Draining { .. }
                | Step::Shipping
                | Step::Cutting
                | Step::Adopting
                | Step::Opening
                | Step::Ending,
            ) => {}
        }
    }
}

impl Relocator {
    /// Moves began, went on or ended.
    pub(crate) fn changed(&mut self) {
        self.is_current = false;
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.courses.values().map(|course| course.due).min()
    }

    /// Begins with names that leave, and forgets those that left, or stay.
    fn refresh(&mut self, now: u64, state: &State) {
        if self.is_current {
            return;
        }
        self.is_current = true;
        let leaving = state.relocations().iter().filter(|(_, moved)| {
            matches!(
                moved.stage,
                Stage::Leaving { .. } | Stage::Shipping | Stage::Cut
            )
        });
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
    /// A name began to move, went on, or moved.
    pub(crate) fn relocated(&mut self) {
        self.relocator.changed();
        // What came with its name may be nobody's.
        self.orphans.look_again();
        self.touch_all();
    }

    /// A subscription is where its topic went, and so are its consumers. Returns how many non-persistent messages are lost
    /// with it.
    pub(crate) fn followed(&mut self, queue: QueueId, effects: &mut Vec<Effect>) -> u64 {
        let lane = self.by_queue.get(&queue).copied();
        let lost = lane.map_or(0, |id| self.drop_transient(id));
        self.ended(queue, AttachRefusal::Moved, effects);
        lost
    }

    /// A name left. Returns how many non-persistent messages are lost with it.
    pub(crate) fn left(&mut self, name: &DestinationName) -> u64 {
        let lanes = self
            .by_name
            .iter()
            .filter(|(at, _)| at.kind == DestinationKind::Queue && root(&at.name) == name.as_str());
        let lanes: Vec<LaneId> = lanes.map(|(_, id)| *id).collect();
        lanes.into_iter().map(|id| self.drop_transient(id)).sum()
    }

    /// What another shard made of what it was asked last about a name.
    pub(super) fn asked(
        &mut self,
        now: u64,
        name: &DestinationName,
        outcomes: Option<&Outcomes>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(course) = self.relocator.courses.get_mut(name) else {
            return;
        };
        let answer = Answer::of(outcomes);
        if answer == Answer::Done {
            course.pause = 0;
        }
        match (course.step, answer) {
            (Step::Expecting, Answer::Done) => {
                let mut told = Sink::keeping();
                told.varint(course.told_as_of);
                decide(now, (name, course), Logged::Ship, told, effects);
            }
            (Step::Expecting, Answer::Refused) => {
                stay(now, (name, course), Obstacle::TargetFull, effects);
            }
            (Step::Adopting, Answer::Done) => (course.told, course.due) = (course.next, now),
            (Step::Opening, Answer::Done) => course.go(Step::Ending, now),
            (Step::Expecting | Step::Adopting | Step::Opening, Answer::None | Answer::Refused) => {
                course.wait(now);
            }
            (Step::Draining { .. } | Step::Shipping, Answer::None) => course.is_announced = false,
            // It answers what was asked before.
            (Step::Draining { .. } | Step::Shipping, Answer::Done | Answer::Refused)
            | (
                Step::Deciding | Step::Cutting | Step::Ending,
                Answer::Done | Answer::Refused | Answer::None,
            ) => {}
        }
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
                course.catch_up(now, stage);
                self.go_on(now, (name, course, stage), state, effects);
            }
            // Whatever it waits for makes a step; and if that was lost, it looks again.
            if course.due <= now {
                course.due = now.saturating_add(RELOCATE_TIMEOUT);
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
            Step::Expecting if course.due <= now => expect(now, (name, course), state, effects),
            // It was not committed, or the target is to be told more.
            Step::Deciding if course.due <= now => {
                course.go(Step::Expecting, now);
                expect(now, (name, course), state, effects);
            }
            Step::Draining { until } => {
                announce(now, (name, course), state, effects);
                // Beyond it the report of a gateway is waited for, which makes a step.
                course.due = match until > now {
                    true => until,
                    false => now.saturating_add(RELOCATE_TIMEOUT),
                };
                let is_waiting = self.gateways.is_waiting();
                if !is_waiting && (until <= now || self.is_drained(name, state)) {
                    course.go(Step::Shipping, now);
                    self.ship(now, (name, course, stage), state, effects);
                }
            }
            Step::Shipping => self.ship(now, (name, course, stage), state, effects),
            Step::Cutting if course.due <= now => {
                course.go(Step::Shipping, now);
                self.ship(now, (name, course, stage), state, effects);
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
                let is_left = is_shipped && state.is_emptied(name);
                if is_left && !self.is_held_in_memory(name, state) && course.departs <= now {
                    log(now, (name, course), (Logged::Depart, &[]), effects);
                    course.departs = course.due;
                }
            }
            Step::Expecting | Step::Deciding | Step::Cutting | Step::Adopting | Step::Opening => {}
        }
    }

    fn lanes_of(&self, name: &DestinationName, state: &State) -> impl Iterator<Item = &Lane> {
        // One that was never stored has no place among the queues.
        let own = self.by_name.get(&Destination::queue(name.clone()));
        let lanes = state.household(name).into_iter();
        let lanes = lanes
            .filter_map(|queue| self.by_queue.get(&queue))
            .chain(own);
        lanes.map(|id| &self.lanes[id.0])
    }

    /// Whether a consumer has a non-persistent message of a name.
    fn is_held_in_memory(&self, name: &DestinationName, state: &State) -> bool {
        let mut lanes = self.lanes_of(name, state);
        lanes.any(|lane| {
            let mut held = lane.in_flight.keys();
            held.any(|position| position.is_transient())
        })
    }

    /// Whether no consumer has anything of a name.
    fn is_drained(&self, name: &DestinationName, state: &State) -> bool {
        let mut lanes = self.lanes_of(name, state);
        lanes.all(|lane| {
            let mut held = lane.in_flight.keys();
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
        announce(now, (name, course), state, effects);
        let is_shipped = self.put_on_its_way(now, (name, course), state, effects);
        let on_the_way = on_the_way(name, state) as u64;
        match stage {
            Stage::Shipping => {
                let left = self.left_of(name, state) + on_the_way;
                let is_time = left <= CUT_AT || course.is_endless(left);
                // While a transaction is to store something there it would be refused; its end makes a step.
                if is_time && !state.transactions().has_prepared(name) {
                    course.go(Step::Cutting, now);
                    log(now, (name, course), (Logged::Cut, &[]), effects);
                }
            }
            Stage::Cut if is_shipped && on_the_way == 0 => {
                course.go(Step::Adopting, now);
                course.told = (0, None);
                tell_windows(now, (name, course), state, effects);
            }
            Stage::Leaving { .. }
            | Stage::Cut
            | Stage::Gone
            | Stage::Expected { .. }
            | Stage::Here
            | Stage::Stays(_) => {}
        }
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
