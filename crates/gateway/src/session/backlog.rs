//! What waits for room in one destination, because it is full and its settings hold producers back, or for the shard that
//! it goes to.
//!
//! Messages keep the order in which they came. A try takes some from the front, under their own names and numbers, and
//! leaves them here until it is answered: what the destination took goes, the rest stays in its place. Tries grow while
//! all is taken and shrink to one message when none is, so that a destination that stays full costs a small entry of
//! its shard's log now and then, and one that has room again is filled at speed.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{Destination, Outcome, ProducerId};

use super::{
    diverting::IsTransient,
    ids::{BatchNumber, CallId, Time},
    input::Publication,
};
use crate::limits::{ROOM_MICROS_MAX, ROOM_MICROS_MIN, ROOM_TRY_MESSAGES};

/// Where a message stands in the order of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// It was sent, in this batch at this place of it, before anything waited.
    Returned(BatchNumber, usize),
    /// It came when others waited.
    Arrived(u64),
}

/// For whom a message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) call: CallId,
    pub(super) ordinal: u64,
    /// One of the copies of a message with a composite destination.
    pub(super) is_copy: bool,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) origin: Origin,
    pub(super) producer: ProducerId,
    pub(super) publication: Publication,
}

/// What a batch said of a try.
#[derive(Debug, Default)]
pub(super) struct Tried<'a> {
    /// What was tried; none: nothing was.
    pub(super) what: Option<(&'a Destination, IsTransient)>,
    /// Messages that were taken, or will never be.
    pub(super) taken: usize,
    /// Messages for which there was no room.
    pub(super) refused: usize,
}

impl<'a> Tried<'a> {
    /// One message more.
    pub(super) fn count(&mut self, what: (&'a Destination, IsTransient), outcome: Outcome) {
        self.what = Some(what);
        match is_to_be_tried(outcome, what.1) {
            true => self.refused += 1,
            false => self.taken += 1,
        }
    }
}

/// Whether a message that has this outcome is tried again: its destination is on its way to another shard, or is full and
/// holds back what is stored.
pub(super) fn is_to_be_tried(outcome: Outcome, is_transient: IsTransient) -> bool {
    outcome == Outcome::Moved || outcome == Outcome::Blocked && !is_transient.0
}

/// What waits, by destination; what is stored apart from what is not.
#[derive(Debug, Default)]
pub(super) struct Backlogs([BTreeMap<Destination, Backlog>; 2]);

impl Backlogs {
    pub(super) fn of(&self, is_transient: IsTransient) -> &BTreeMap<Destination, Backlog> {
        &self.0[usize::from(is_transient.0)]
    }

    pub(super) fn of_mut(
        &mut self,
        is_transient: IsTransient,
    ) -> &mut BTreeMap<Destination, Backlog> {
        &mut self.0[usize::from(is_transient.0)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(BTreeMap::is_empty)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Destination, IsTransient, &Backlog)> {
        let each = [false, true].map(IsTransient).into_iter().zip(&self.0);
        each.flat_map(|(kind, of_kind)| of_kind.iter().map(move |(to, b)| (to, kind, b)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Destination, &mut Backlog)> {
        self.0.iter_mut().flatten()
    }

    /// Forgets those in which nothing is left.
    pub(super) fn tidy(&mut self) {
        for of_kind in &mut self.0 {
            of_kind.retain(|_, backlog| !backlog.is_over());
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: BTreeMap<Place, Waiting>,
    arrivals: u64,
    /// Messages of the next try.
    window: usize,
    /// When the next try is; none: one is under way.
    try_at: Option<Time>,
    pause_micros: u64,
    /// Calls that were told that they are held back, and where what they have here stands.
    told: BTreeMap<CallId, BTreeSet<Place>>,
}

impl Backlog {
    /// One whose first message was refused at this time.
    pub(super) fn new(now: Time) -> Self {
        Self {
            waiting: BTreeMap::new(),
            arrivals: 0,
            window: 1,
            try_at: Some(now.after(ROOM_MICROS_MIN)),
            pause_micros: ROOM_MICROS_MIN,
            told: BTreeMap::new(),
        }
    }

    /// Adds a message, behind all others or where it was. True when its call has nothing else here and never had.
    pub(super) fn add(&mut self, returned: Option<Place>, message: Waiting) -> bool {
        let call = message.origin.call;
        let is_new = !self.told.contains_key(&call);
        let place = returned.unwrap_or_else(|| {
            self.arrivals += 1;
            Place::Arrived(self.arrivals)
        });
        self.told.entry(call).or_default().insert(place);
        self.waiting.insert(place, message);
        is_new
    }

    /// What waits is to be tried at once, and more of it: it is known where it goes.
    pub(super) fn hurry(&mut self, now: Time) {
        if self.try_at.is_some() {
            self.try_at = Some(now);
            self.window = ROOM_TRY_MESSAGES;
        }
    }

    /// When something is to be tried; none while a try is under way.
    pub(super) fn try_at(&self) -> Option<Time> {
        self.try_at
    }

    /// Begins a try: what it is to take, in order.
    pub(super) fn begin_try(&mut self) -> impl Iterator<Item = (Place, &Waiting)> {
        self.try_at = None;
        let waiting = self.waiting.iter().take(self.window);
        waiting.map(|(place, message)| (*place, message))
    }

    /// A try was answered: so many of its messages were taken, or will never be, and so many not.
    pub(super) fn tried(&mut self, now: Time, (taken, refused): (usize, usize)) {
        if refused == 0 {
            self.window = (self.window * 2).min(ROOM_TRY_MESSAGES);
            self.pause_micros = ROOM_MICROS_MIN;
            self.try_at = Some(now);
        } else {
            self.window = 1;
            let pause = match taken {
                0 => self.pause_micros,
                // There was room a moment ago; perhaps the next one only waited for its forerunner to be known.
                _ => 0,
            };
            self.pause_micros = match taken {
                0 => (self.pause_micros * 2).min(ROOM_MICROS_MAX),
                _ => ROOM_MICROS_MIN,
            };
            self.try_at = Some(now.after(pause));
        }
    }

    /// Takes out a message; none: its call is gone.
    pub(super) fn remove(&mut self, place: Place) -> Option<Waiting> {
        let message = self.waiting.remove(&place)?;
        if let Some(places) = self.told.get_mut(&message.origin.call) {
            places.remove(&place);
        }
        Some(message)
    }

    /// Takes out everything of a call.
    pub(super) fn remove_call(&mut self, call: CallId) -> Vec<Waiting> {
        let places = self.told.remove(&call).unwrap_or_default();
        let waiting = &mut self.waiting;
        places.iter().filter_map(|at| waiting.remove(at)).collect()
    }

    /// Whether something of a call waits.
    pub(super) fn holds(&self, call: CallId) -> bool {
        let places = self.told.get(&call);
        places.is_some_and(|places| !places.is_empty())
    }

    /// Whether nothing waits, and nothing is under way.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.try_at.is_some()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
