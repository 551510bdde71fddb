//! What the serving leader does with the outbox: it reads the messages, makes of each what the target is to store,
//! and hands them over, target by target, until the target has them and the log says so.
//!
//! ```text
//!           read              Forward            outcomes           Transferred applied
//!  Resting -----> Reading ------------> Offered ---------> Settling -------------------> Resting
//!     ^              |                     |  time-out,       | time-out
//!     +--------------+---------------------+--refused---------+
//! ```
//! One batch of a target is under way at a time, so that messages arrive in the order in which they left. Whatever is
//! lost is done again from the start: the numbers are the log's, so nothing is stored twice.

pub mod letter;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_message::{BatchBuilder, Destination, MessagePosition, Outcome};

pub(crate) use letter::rewritten;

use crate::Effect;
use crate::limits::{
    FORWARD_BYTES, FORWARD_ITEMS_FIRST, FORWARD_ITEMS_MAX, FORWARD_PAUSE_FIRST, FORWARD_PAUSE_MAX,
    FORWARD_TARGETS_MAX, FORWARD_TIMEOUT, WINDOW,
};
use crate::state::{State, TargetId};

/// The leader's side of the outbox. Nothing of it is logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarder {
    /// The outbox of the state was looked through once.
    is_started: bool,
    /// Targets with items and nothing under way, whose time has come.
    ready: BTreeSet<TargetId>,
    /// Targets with something under way.
    busy: BTreeMap<TargetId, Busy>,
    /// When to go on with a target, at the latest.
    deadlines: BTreeSet<(u64, TargetId)>,
    courses: BTreeMap<TargetId, Course>,
}

/// How it goes with a target that has items.
#[derive(Clone, Debug, Default)]
struct Course {
    /// When it is looked at again, if that is set.
    deadline: Option<u64>,
    /// The next pause; 0 while all goes well.
    pause: u64,
    /// Size of a message, a mean that is quick to rise; 0 before the first.
    size_guess: u64,
    /// Why the target did not take what it was offered last.
    refusal: Option<Outcome>,
}

/// What is under way for a target.
#[derive(Clone, Debug)]
enum Busy {
    /// Bytes are read.
    Reading {
        /// Not answered yet.
        wanted: BTreeMap<MessagePosition, Vec<u64>>,
        /// By number; the highest are let go of when it gets too much.
        found: BTreeMap<u64, Bytes>,
        found_bytes: u64,
    },
    /// The target has been offered them.
    Offered,
    /// The target has them; the log is to say so of this number, and with it of the others.
    Settling { first: u64 },
}

impl Forwarder {
    /// Items were added for a target, or forgotten.
    pub(crate) fn changed(&mut self, target: TargetId, state: &State) {
        let is_settled = match self.busy.get(&target) {
            Some(Busy::Settling { first }) => state.outbox().target(target).item(*first).is_none(),
            Some(Busy::Reading { .. } | Busy::Offered) => false,
            None => {
                self.make_ready(target);
                return;
            }
        };
        if is_settled {
            self.rest(target, state);
        }
    }

    /// Does what the time demands, and begins with what is ready.
    pub(crate) fn work(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        if !self.is_started {
            self.is_started = true;
            for (id, target) in state.outbox().targets() {
                if !target.is_empty() {
                    self.ready.insert(id);
                }
            }
        }
        while let Some((at, target)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.set_deadline(target, None);
            match self.busy.get(&target) {
                // Lost on the way, or the answer was: all over again, after a pause.
                Some(Busy::Reading { .. } | Busy::Offered | Busy::Settling { .. }) => {
                    self.pause(now, target);
                }
                None => {
                    self.ready.insert(target);
                }
            }
        }
        while self.busy.len() < FORWARD_TARGETS_MAX {
            let Some(target) = self.ready.pop_first() else {
                return;
            };
            self.read(now, target, state, effects);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Bytes came, or could not be read. They may be somebody else's.
    pub(crate) fn fetched(
        &mut self,
        now: u64,
        position: MessagePosition,
        message: Option<&Bytes>,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        let mut complete = Vec::new();
        for (target, busy) in &mut self.busy {
            let Busy::Reading {
                wanted,
                found,
                found_bytes,
            } = busy
            else {
                continue;
            };
            let Some(numbers) = wanted.remove(&position) else {
                continue;
            };
            for number in numbers {
                if let Some(message) = message {
                    *found_bytes += message.len() as u64;
                    found.insert(number, message.clone());
                }
            }
            while *found_bytes > FORWARD_BYTES && found.len() > 1 {
                let (_, dropped) = found.pop_last().expect("there are two");
                *found_bytes -= dropped.len() as u64;
            }
            if wanted.is_empty() {
                complete.push(*target);
            }
        }
        for target in complete {
            self.offer(now, target, state, effects);
        }
    }

    /// The target answered, number by number.
    pub(crate) fn answered(
        &mut self,
        now: u64,
        destination: &Destination,
        outcomes: &[(u64, Outcome)],
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        let Some(target) = state.outbox().target_id(destination) else {
            return;
        };
        match self.busy.get(&target) {
            Some(Busy::Offered) => {}
            // An answer that was given up: what it says comes again.
            Some(Busy::Reading { .. } | Busy::Settling { .. }) | None => return,
        }
        let stored: Vec<u64> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_stored())
            .map(|(number, _)| *number)
            .collect();
        let refusal = outcomes
            .iter()
            .map(|(_, outcome)| *outcome)
            .find(|outcome| !outcome.is_stored());
        let course = self.courses.entry(target).or_default();
        course.refusal = refusal;
        let Some(first) = stored.first().copied() else {
            self.pause(now, target);
            return;
        };
        if refusal.is_none() {
            course.pause = 0;
        }
        let mut builder = BatchBuilder::persistent();
        for run in stored.chunk_by(|a, b| a + 1 == *b) {
            builder
                .transferred(destination, run[0], run[run.len() - 1])
                .expect("no more runs than numbers, which fitted a batch");
        }
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
        self.busy.insert(target, Busy::Settling { first });
        self.set_deadline(target, Some(now.saturating_add(FORWARD_TIMEOUT)));
    }

    /// The target cannot be reached, or takes nothing now.
    pub(crate) fn refused(&mut self, now: u64, destination: &Destination, state: &State) {
        let Some(target) = state.outbox().target_id(destination) else {
            return;
        };
        match self.busy.get(&target) {
            Some(Busy::Offered) => self.pause(now, target),
            Some(Busy::Reading { .. } | Busy::Settling { .. }) | None => {}
        }
    }

    /// Why a target did not take what it was offered last.
    pub(crate) fn refusal(&self, target: TargetId) -> Option<Outcome> {
        self.courses.get(&target).and_then(|course| course.refusal)
    }

    /// Begins with a target's oldest items.
    fn read(&mut self, now: u64, target: TargetId, state: &State, effects: &mut Vec<Effect>) {
        let course = self.courses.entry(target).or_default();
        let count = match FORWARD_BYTES.checked_div(course.size_guess) {
            None => FORWARD_ITEMS_FIRST,
            Some(fitting) => usize::try_from(fitting)
                .unwrap_or(FORWARD_ITEMS_MAX)
                .clamp(1, FORWARD_ITEMS_MAX),
        };
        let mut wanted: BTreeMap<MessagePosition, Vec<u64>> = BTreeMap::new();
        let mut first = None;
        for (number, item) in state.outbox().target(target).items_from(0).take(count) {
            // Far ahead of one that cannot be read the target's window would forget it.
            if number - *first.get_or_insert(number) >= WINDOW / 2 {
                break;
            }
            wanted.entry(item.position).or_default().push(number);
        }
        if wanted.is_empty() {
            self.rest(target, state);
            return;
        }
        let positions = wanted.keys().copied().collect();
        effects.push(Effect::Fetch { positions });
        let reading = Busy::Reading {
            wanted,
            found: BTreeMap::new(),
            found_bytes: 0,
        };
        self.busy.insert(target, reading);
        self.set_deadline(target, Some(now.saturating_add(FORWARD_TIMEOUT)));
    }

    /// Offers what was read.
    fn offer(&mut self, now: u64, target: TargetId, state: &State, effects: &mut Vec<Effect>) {
        let Some(Busy::Reading { found, .. }) = self.busy.insert(target, Busy::Offered) else {
            return;
        };
        let course = self.courses.entry(target).or_default();
        let to = state.outbox().target(target);
        let mut messages = Vec::with_capacity(found.len());
        for (number, bytes) in found {
            let size = bytes.len() as u64;
            course.size_guess = size.max((course.size_guess * 7 + size) / 8).max(1);
            if let Some(item) = to.item(number) {
                messages.push(rewritten(number, item, &bytes));
            }
        }
        if messages.is_empty() {
            self.pause(now, target);
            return;
        }
        effects.push(Effect::Forward {
            target: to.destination().clone(),
            messages,
        });
        self.set_deadline(target, Some(now.saturating_add(FORWARD_TIMEOUT)));
    }

    /// Nothing is under way any more: the next items, if there are any.
    fn rest(&mut self, target: TargetId, state: &State) {
        self.busy.remove(&target);
        self.set_deadline(target, None);
        if state.outbox().target(target).is_empty() {
            self.courses.remove(&target);
            return;
        }
        self.ready.insert(target);
    }

    fn make_ready(&mut self, target: TargetId) {
        let is_waiting = self
            .courses
            .get(&target)
            .is_some_and(|course| course.deadline.is_some());
        if !is_waiting {
            self.ready.insert(target);
        }
    }

    /// Waits before it is tried again, each time longer. Nothing of what was under way counts any more.
    fn pause(&mut self, now: u64, target: TargetId) {
        self.busy.remove(&target);
        let course = self.courses.entry(target).or_default();
        let pause = course.pause.max(FORWARD_PAUSE_FIRST);
        course.pause = (pause * 2).min(FORWARD_PAUSE_MAX);
        self.set_deadline(target, Some(now.saturating_add(pause)));
    }

    fn set_deadline(&mut self, target: TargetId, at: Option<u64>) {
        let course = self.courses.entry(target).or_default();
        if let Some(before) = std::mem::replace(&mut course.deadline, at) {
            self.deadlines.remove(&(before, target));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, target));
        }
    }
}
