//! Producers that are held back: their messages for a full destination wait here, in their order and without an error,
//! until it has room.
//!
//! The shard's log is what decides: it stores no message of a producer while an earlier one of that producer is refused
//! for lack of room. Such a message is named as the first of its producer only when no earlier one is anywhere under
//! way; that holds for the first one of each producer in a try, since everything before it was answered. What the
//! gateway numbers for clients without a name has no order to keep.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_message::{Destination, DestinationName, Outcome, ProducerId, root};

use super::{
    backlog::{Backlog, Origin, Place, Tried, Waiting, is_to_be_tried},
    core::{Call, Core},
    diverting::IsTransient,
    effect::{Cause, Effect, Failure},
    ids::{CallId, Time},
    input::Publication,
    lane::{Again, Producer},
    shard::Kind,
};
use crate::limits::HELD_BACK_OVERHEAD_BYTES;

impl Core {
    /// Whether messages for this destination have to queue up behind others.
    pub(super) fn is_held_back(
        &self,
        destination: &Destination,
        is_transient: IsTransient,
    ) -> bool {
        let backlogs = self.backlogs.of(is_transient);
        !backlogs.is_empty() && backlogs.contains_key(destination)
            || !is_transient.0 && self.has_forerunners(&destination.name)
    }

    /// Lets a message wait for room.
    ///
    /// # Errors
    /// When the gateway has none for it either.
    pub(super) fn hold_back(
        &mut self,
        (origin, returned): (Origin, Option<Place>),
        producer: ProducerId,
        mut publication: Publication,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let call = origin.call;
        let size = publication.message.len() as u64 + HELD_BACK_OVERHEAD_BYTES;
        let destination = publication.destination.clone();
        if self.held_back_bytes.saturating_add(size) > self.config.memory_bytes {
            let cause = self.cause(&destination);
            return Err(Failure::HeldBack { cause });
        }
        self.bytes += size;
        self.held_back_bytes += size;
        // Of its own, so that one message that waits does not keep a whole frame or batch.
        publication.message = Bytes::copy_from_slice(&publication.message);
        let now = self.now;
        let is_transient = IsTransient(publication.non_persistent);
        let backlog = self.backlogs.of_mut(is_transient).entry(destination);
        let backlog = backlog.or_insert_with(|| Backlog::new(now));
        let message = Waiting {
            origin,
            producer,
            publication,
        };
        let destination = message.publication.destination.clone();
        if backlog.add(returned, message) {
            let cause = self.cause(&destination);
            effects.push(Effect::HeldBack { call, cause });
        }
        if let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call) {
            publisher.held_back += 1;
        }
        Ok(())
    }

    /// What there is to say of a destination that does not take a message.
    pub(super) fn cause(&self, destination: &Destination) -> Box<Cause> {
        let settings = self.settings.of(&destination.name);
        Box::new(Cause {
            destination: destination.clone(),
            max_messages: settings.max_messages,
            max_bytes: settings.max_bytes,
            is_moving: self.is_moving(&destination.name),
        })
    }

    /// What waits of a name is tried at once: it is known where the name goes.
    pub(super) fn hurry(&mut self, name: &DestinationName) {
        let now = self.now;
        for (destination, backlog) in self.backlogs.iter_mut() {
            if root(&destination.name) == name.as_str() {
                backlog.hurry(now);
            }
        }
    }

    /// The same of several names.
    pub(super) fn hurry_all(&mut self, names: &BTreeSet<DestinationName>) {
        for name in names {
            self.hurry(name);
        }
    }

    /// When something that waits is to be tried.
    pub(super) fn next_try(&self) -> Option<Time> {
        let times = self.backlogs.iter().filter_map(|(to, kind, backlog)| {
            let at = backlog.try_at()?;
            self.may_try(to, kind).then_some(at)
        });
        times.min()
    }

    /// What is sent elsewhere now waits for what went before it.
    fn may_try(&self, destination: &Destination, is_transient: IsTransient) -> bool {
        is_transient.0 || !self.has_forerunners(&destination.name)
    }

    /// Sends what it is time to try, in a batch of its own for each destination.
    pub(super) fn try_again(&mut self, now: Time) {
        if self.next_try().is_none_or(|at| at > now) {
            return;
        }
        self.backlogs.tidy();
        let due = self.backlogs.iter().filter(|(to, kind, backlog)| {
            backlog.try_at().is_some_and(|at| at <= now) && self.may_try(to, *kind)
        });
        let due: Vec<_> = due.map(|(to, kind, _)| (to.clone(), kind)).collect();
        for (destination, is_transient) in due {
            self.try_destination(now, &destination, is_transient);
        }
    }

    fn try_destination(&mut self, now: Time, destination: &Destination, kind: IsTransient) {
        let id = self.sends_to(&destination.name, kind);
        let Some(shard) = id.and_then(|id| self.shards.get_mut(&id)) else {
            return;
        };
        let Some(backlog) = self.backlogs.of_mut(kind).get_mut(destination) else {
            return;
        };
        let (lane, numbers) = shard.lane(match kind {
            IsTransient(false) => Kind::Stored,
            IsTransient(true) => Kind::Transient,
        });
        let own = self.config.producer;
        let mut seen = BTreeSet::new();
        let tries = backlog.begin_try().map(|(place, waiting)| Again {
            origin: waiting.origin,
            place,
            producer: Producer {
                id: waiting.producer,
                is_first: waiting.producer == own || seen.insert(waiting.producer),
            },
            publication: &waiting.publication,
        });
        let sent = lane.again(now, numbers, tries);
        debug_assert!(sent > 0, "what waits was in a batch before, or was checked");
        if sent == 0 {
            backlog.tried(now, (0, 1));
        }
    }

    /// A message that was tried again has its outcome.
    pub(super) fn tried(
        &mut self,
        (destination, is_transient): (&Destination, IsTransient),
        place: Place,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        if is_to_be_tried(outcome, is_transient) {
            return;
        }
        let backlog = self.backlogs.of_mut(is_transient).get_mut(destination);
        let Some(waiting) = backlog.and_then(|backlog| backlog.remove(place)) else {
            return;
        };
        self.free_held_back(&waiting);
        let Origin {
            call,
            ordinal,
            is_copy,
        } = waiting.origin;
        let size = waiting.publication.message.len() as u64;
        let cause = match outcome.is_stored() {
            true => None,
            false => Some(self.cause(destination)),
        };
        if is_copy {
            return self.copied((call, ordinal), (outcome, size), cause, effects);
        }
        if let Some(Call::Publishing(_)) = self.calls.get(&call) {
            effects.push(Effect::Confirmed {
                call,
                first: ordinal,
                count: 1,
                outcome,
                cause,
            });
            self.unburden(call, 1, size, effects);
        }
    }

    /// A whole try was answered.
    pub(super) fn try_is_over(&mut self, tried: Tried<'_>) {
        let Tried {
            what: Some((destination, is_transient)),
            taken,
            refused,
        } = tried
        else {
            return;
        };
        let now = self.now;
        let backlogs = self.backlogs.of_mut(is_transient);
        if let Some(backlog) = backlogs.get_mut(destination) {
            backlog.tried(now, (taken, refused));
            if backlog.is_over() {
                backlogs.remove(destination);
            }
        }
    }

    /// Lets go of what waits for a call.
    pub(super) fn forget_held_back(&mut self, call: CallId) {
        if self.backlogs.is_empty() {
            return;
        }
        let backlogs = self.backlogs.iter_mut();
        let gone: Vec<Waiting> = backlogs.flat_map(|(_, b)| b.remove_call(call)).collect();
        for waiting in gone {
            self.free_held_back(&waiting);
        }
    }

    fn free_held_back(&mut self, waiting: &Waiting) {
        let size = waiting.publication.message.len() as u64 + HELD_BACK_OVERHEAD_BYTES;
        self.bytes -= size;
        self.held_back_bytes -= size;
        if let Some(Call::Publishing(publisher)) = self.calls.get_mut(&waiting.origin.call) {
            publisher.held_back -= 1;
        }
    }

    /// The client's time for a call is over: it is told if that is for lack of room.
    pub(super) fn give_up(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let held = self.backlogs.iter().find(|(_, _, b)| b.holds(call));
        if let Some(destination) = held.map(|(destination, ..)| destination.clone()) {
            let cause = self.cause(&destination);
            self.fail(call, Failure::HeldBack { cause }, effects);
        }
    }

    /// Messages that wait for room in their destinations.
    #[must_use]
    pub fn held_back(&self) -> usize {
        self.backlogs.iter().map(|(_, _, b)| b.len()).sum()
    }
}
