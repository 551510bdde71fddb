//! Messages and purges on their way to their shards, and their confirms on the way back.

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::{
    BatchBuilder, Destination, DestinationName, MessagePosition, Outcome, ProducerId,
};

use super::{
    backlog::{Origin, Tried},
    confirming::Parsed,
    core::{Call, Core, size_of},
    diverting::IsTransient,
    effect::{Effect, Failure},
    ids::{CallId, ShardId, Time},
    input::{Outcomes, Publication, Removal, Sent},
    lane::{Part, Pending, Producer, check},
    shard::Kind,
};
use crate::limits::{CALL_BYTES_MAX, CALL_MESSAGES_MAX, HELD_BACK_MESSAGES_MAX};

/// A call that sends messages.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// Ordinal of the next message of this call.
    next: u64,
    /// Messages and bytes that are not answered.
    messages: u64,
    bytes: u64,
    finished: bool,
    /// Its own bound is reached.
    full: bool,
    /// Shards whose bound is reached and to which it sends.
    full_shards: BTreeSet<ShardId>,
    /// Messages that wait for room in their destinations.
    pub(super) held_back: u64,
    paused: bool,
}

impl Publisher {
    /// The client sends nothing more. True when everything is answered.
    pub(super) fn finish(&mut self) -> bool {
        self.finished = true;
        self.messages == 0
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sees whether the client must be held back or let go; `crowded` when much waits for room in the gateway.
    fn weigh(&mut self, call: CallId, crowded: bool, effects: &mut Vec<Effect>) {
        let (bytes_max, messages_max) = match self.full {
            true => (CALL_BYTES_MAX / 2, CALL_MESSAGES_MAX / 2),
            false => (CALL_BYTES_MAX, CALL_MESSAGES_MAX),
        };
        self.full = self.bytes > bytes_max || self.messages > messages_max;
        let holds_much = self.held_back > HELD_BACK_MESSAGES_MAX || self.held_back > 0 && crowded;
        let pause = self.full || holds_much || !self.full_shards.is_empty();
        if pause != self.paused {
            self.paused = pause;
            effects.push(match pause {
                true => Effect::Pause { call },
                false => Effect::Resume { call },
            });
        }
    }
}

impl Core {
    pub(super) fn publish(
        &mut self,
        now: Time,
        (call, trace): (CallId, Option<Arc<str>>),
        producer: Option<ProducerId>,
        messages: Vec<Sent>,
        effects: &mut Vec<Effect>,
    ) {
        let size = size_of(messages.iter().flatten());
        if self.is_too_much(size) {
            let bytes_max = self.config.memory_bytes;
            return self.fail(call, Failure::OutOfMemory { bytes_max }, effects);
        }
        let publisher = || Call::Publishing(Publisher::default());
        let Call::Publishing(publisher) = self.calls.entry(call).or_insert_with(publisher) else {
            return;
        };
        let first = publisher.next;
        publisher.next += messages.len() as u64;
        publisher.messages += messages.len() as u64;
        publisher.bytes += size;
        let from = (call, first, trace.as_ref());
        let shards = match self.gather(now, from, producer, messages, effects) {
            Ok(shards) => shards,
            Err(failure) => return self.fail(call, failure, effects),
        };
        let crowded = self.is_crowded();
        let most = self.shard_bytes_max();
        for id in shards {
            let shard = self.shards.get_mut(&id);
            if let Some(shard) = shard.filter(|shard| shard.bytes > most)
                && let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call)
            {
                shard.paused.insert(call);
                publisher.full_shards.insert(id);
            }
        }
        if let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call) {
            publisher.weigh(call, crowded, effects);
        }
    }

    /// Much waits for room: whoever adds to that is not read from.
    fn is_crowded(&self) -> bool {
        self.held_back_bytes > self.config.memory_bytes / 4
    }

    /// Puts messages into the batches of their shards. Returns which shards these are.
    fn gather(
        &mut self,
        now: Time,
        (call, first, trace): (CallId, u64, Option<&Arc<str>>),
        producer: Option<ProducerId>,
        messages: Vec<Sent>,
        effects: &mut Vec<Effect>,
    ) -> Result<BTreeSet<ShardId>, Failure> {
        let mut touched = BTreeSet::new();
        let mut last: Option<(DestinationName, IsTransient, ShardId)> = None;
        for (ordinal, publication) in (first..).zip(messages) {
            let mut publication = match publication {
                Ok(publication) => publication,
                Err(reason) => {
                    self.found_wrong((call, ordinal), (reason, 0), effects);
                    continue;
                }
            };
            if !publication.also.is_empty() {
                let copied = (producer, publication);
                self.copies(now, (call, ordinal), copied, &mut touched, effects)?;
                continue;
            }
            if self.gone.has(&publication.destination.name) {
                self.refuse_late((call, ordinal), &publication, effects);
                continue;
            }
            let sender = self.producer_of(producer, &mut publication);
            let is_transient = IsTransient(publication.non_persistent);
            if self.is_held_back(&publication.destination, is_transient) {
                self.queue_up((call, ordinal), sender.id, publication, effects)?;
                continue;
            }
            let id = match &last {
                Some((name, of, id))
                    if *name == publication.destination.name && *of == is_transient =>
                {
                    *id
                }
                Some(_) | None => {
                    let name = &publication.destination.name;
                    let id = self.sends_to(name, is_transient);
                    let id = id.ok_or(Failure::NoTopology)?;
                    last = Some((name.clone(), is_transient, id));
                    touched.insert(id);
                    id
                }
            };
            let Some(shard) = self.shards.get_mut(&id) else {
                return Err(Failure::NoTopology);
            };
            let (lane, numbers) = shard.lane(kind_of_publication(&publication));
            let from = (call, ordinal, trace);
            let size = publication.message.len() as u64;
            if let Err(full) = lane.publish(now, numbers, sender, from, &publication) {
                let reason = Arc::from(full.to_string());
                self.found_wrong((call, ordinal), (reason, size), effects);
                continue;
            }
            shard.bytes += size;
            self.bytes += size;
        }
        Ok(touched)
    }

    /// Whose a message is; one without a producer gets this gateway's name and next number. Those have no order.
    pub(super) fn producer_of(
        &mut self,
        named: Option<ProducerId>,
        publication: &mut Publication,
    ) -> Producer {
        if let Some(id) = named {
            return Producer {
                id,
                is_first: false,
            };
        }
        self.own_number += 1;
        publication.number = self.own_number;
        let id = match publication.non_persistent {
            true => self.config.transient_producer,
            false => self.config.producer,
        };
        Producer { id, is_first: true }
    }

    /// Lets a message wait behind others for the same destination.
    fn queue_up(
        &mut self,
        (call, ordinal): (CallId, u64),
        producer: ProducerId,
        publication: Publication,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if let Err(full) = check(&publication) {
            let size = publication.message.len() as u64;
            let wrong = (Arc::from(full.to_string()), size);
            self.found_wrong((call, ordinal), wrong, effects);
            return Ok(());
        }
        let origin = Origin {
            call,
            ordinal,
            is_copy: false,
        };
        self.hold_back((origin, None), producer, publication, effects)
    }

    /// A message of a call can never be stored.
    pub(super) fn found_wrong(
        &mut self,
        (call, ordinal): (CallId, u64),
        (reason, bytes): (Arc<str>, u64),
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Wrong {
            call,
            ordinal,
            reason,
        });
        self.unburden(call, 1, bytes, effects);
    }

    /// An operator pauses a queue or resumes it. Answered as a purge that removes nothing.
    pub(super) fn set_paused(
        &mut self,
        now: Time,
        call: CallId,
        (queue, is_paused): (&DestinationName, bool),
        effects: &mut Vec<Effect>,
    ) {
        let id = self.shard_of(queue);
        self.set_paused_at(now, (call, id), (queue, is_paused), effects);
    }

    /// The same in one shard.
    pub(super) fn set_paused_at(
        &mut self,
        now: Time,
        (call, id): (CallId, Option<ShardId>),
        (queue, is_paused): (&DestinationName, bool),
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = id.and_then(|id| self.shards.get_mut(&id)) else {
            return self.fail(call, Failure::NoTopology, effects);
        };
        let id = shard.id;
        self.calls.insert(call, Call::Purging);
        let (lane, numbers) = shard.lane(Kind::Settle);
        let pause = |builder: &mut BatchBuilder| builder.pause(queue, is_paused);
        if let Err(full) = lane.single(now, numbers, Part::Purge { call }, pause) {
            let reason = Arc::from(full.to_string());
            self.fail(call, Failure::Malformed { shard: id, reason }, effects);
        }
    }

    pub(super) fn purge(
        &mut self,
        now: Time,
        call: CallId,
        (destination, what): (&Destination, Removal),
        effects: &mut Vec<Effect>,
    ) {
        if what == Removal::Temporary && !self.gone.has(&destination.name) {
            self.calls.insert(call, Call::Over);
            return effects.push(Effect::Purged { call, removed: 0 });
        }
        let id = self.shard_of(&destination.name);
        let Some(shard) = id.and_then(|id| self.shards.get_mut(&id)) else {
            return self.fail(call, Failure::NoTopology, effects);
        };
        let id = shard.id;
        self.calls.insert(call, Call::Purging);
        let (lane, numbers) = shard.lane(Kind::Settle);
        if let Err(full) = lane.purge(now, numbers, call, (destination, what)) {
            let reason = Arc::from(full.to_string());
            self.fail(call, Failure::Malformed { shard: id, reason }, effects);
        }
    }

    /// Gives every command of a batch its outcome.
    pub(super) fn answered(
        &mut self,
        id: ShardId,
        batch: Pending,
        (outcomes, removed): (&Outcomes, u64),
        effects: &mut Vec<Effect>,
    ) {
        if outcomes.get(batch.commands().saturating_sub(1)).is_none() {
            let reason = Arc::from("the answer has fewer outcomes than the batch has commands");
            return self.malformed(id, &batch, &reason, effects);
        }
        let mut at = batch.lead;
        let mut freed = 0;
        let mut tried = Tried::default();
        let parsed = Parsed::new(&batch);
        let elsewhere = self.note_moved(id, &parsed, outcomes);
        for part in &batch.parts {
            let range = at..at + part.commands();
            at = range.end;
            let last = outcomes.get(at.saturating_sub(1));
            match part {
                Part::Messages {
                    call,
                    first,
                    count,
                    bytes,
                } => {
                    freed += bytes;
                    let run = (*call, *first, *count, *bytes);
                    self.confirm(run, (outcomes, &parsed, range.start), effects);
                }
                Part::Again {
                    destination,
                    is_transient,
                    place,
                    ..
                } => {
                    let outcome = last.unwrap_or(Outcome::Stored);
                    let what = (destination, *is_transient);
                    tried.count(what, outcome);
                    self.tried(what, *place, outcome, effects);
                }
                Part::Settlements {
                    call,
                    request,
                    first,
                    ..
                } => {
                    let outcomes = range.filter_map(|at| outcomes.get(at));
                    let repeated = batch.tries > 1;
                    self.settled((*call, *request), (*first, repeated), outcomes, effects);
                }
                Part::Transaction { call, step, .. } => {
                    let outcomes: Vec<Outcome> = range.filter_map(|at| outcomes.get(at)).collect();
                    self.transacted(id, (*call, *step), &outcomes, &batch, effects);
                }
                Part::Admission { call } => self.admitted((*call, id), last, effects),
                Part::Unsubscribe { call, ending } => {
                    self.unsubscribed((*call, id), ending, (last, removed), effects);
                }
                Part::Copy {
                    call,
                    ordinal,
                    bytes,
                } => {
                    freed += bytes;
                    let copy = (*call, *ordinal, *bytes);
                    self.copy_answered(copy, (outcomes, &parsed, at - 1), effects);
                }
                Part::Purge { call } => {
                    self.purged((id, *call), (last, removed), (&parsed, at - 1), effects);
                }
            }
        }
        self.try_is_over(tried);
        self.hurry_all(&elsewhere);
        self.free(id, freed, effects);
    }

    /// Lets go of a batch that can never be taken.
    pub(super) fn malformed(
        &mut self,
        id: ShardId,
        batch: &Pending,
        reason: &Arc<str>,
        effects: &mut Vec<Effect>,
    ) {
        let mut freed = 0;
        for part in &batch.parts {
            if let Part::Messages { bytes, .. } | Part::Copy { bytes, .. } = part {
                freed += bytes;
            }
            if let Part::Again {
                destination,
                is_transient,
                ..
            } = part
            {
                let mut tried = Tried::default();
                tried.count((destination, *is_transient), Outcome::Stored);
                self.try_is_over(tried);
            }
            let reason = Arc::clone(reason);
            if let Part::Transaction { call, step, .. } = part {
                self.transaction_malformed(batch.since, id, (*call, *step), effects);
                continue;
            }
            self.fail(
                part.call(),
                Failure::Malformed { shard: id, reason },
                effects,
            );
        }
        self.free(id, freed, effects);
    }

    /// Messages of a call are answered.
    pub(super) fn unburden(
        &mut self,
        call: CallId,
        messages: u64,
        bytes: u64,
        effects: &mut Vec<Effect>,
    ) {
        let crowded = self.is_crowded();
        let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call) else {
            return;
        };
        publisher.messages -= messages;
        publisher.bytes -= bytes;
        if publisher.finished && publisher.messages == 0 {
            return self.end(call, effects);
        }
        publisher.weigh(call, crowded, effects);
    }

    /// Bytes of a shard are answered.
    fn free(&mut self, id: ShardId, bytes: u64, effects: &mut Vec<Effect>) {
        self.bytes -= bytes;
        self.let_followers_on(id);
        let most = self.shard_bytes_max();
        let crowded = self.is_crowded();
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        shard.bytes -= bytes;
        if shard.bytes > most / 2 {
            return;
        }
        for call in std::mem::take(&mut shard.paused) {
            if let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call) {
                publisher.full_shards.remove(&id);
                publisher.weigh(call, crowded, effects);
            }
        }
    }

    fn purged(
        &mut self,
        (shard, call): (ShardId, CallId),
        (outcome, removed): (Option<Outcome>, u64),
        of: (&Parsed<'_>, usize),
        effects: &mut Vec<Effect>,
    ) {
        let Some(Call::Purging) = self.calls.get(&call) else {
            return;
        };
        if let Some((to, queue, is_paused)) = self.paused_elsewhere((shard, outcome), of) {
            let what = (&queue, is_paused);
            return self.set_paused_at(self.now, (call, Some(to)), what, effects);
        }
        match outcome {
            None | Some(Outcome::Applied | Outcome::UnknownMessage) => {
                self.calls.insert(call, Call::Over);
                effects.push(Effect::Purged { call, removed });
            }
            Some(
                outcome @ (Outcome::Stored
                | Outcome::Duplicate
                | Outcome::NumberTooOld
                | Outcome::LimitReached
                | Outcome::QueueFull
                | Outcome::Blocked
                | Outcome::UnknownDestination
                | Outcome::RolledBack
                | Outcome::InDoubt
                | Outcome::Moved),
            ) => self.fail(call, Failure::Refused { shard, outcome }, effects),
        }
    }
}

/// Whether a position is one of the leader's memory only.
pub(super) fn kind_of(position: MessagePosition) -> Kind {
    match position.is_transient() {
        true => Kind::SettleTransient,
        false => Kind::Settle,
    }
}

/// The lane of a message.
pub(super) fn kind_of_publication(publication: &Publication) -> Kind {
    match publication.non_persistent {
        true => Kind::Transient,
        false => Kind::Stored,
    }
}
