//! Messages and purges on their way to their shards, and their confirms on the way back.

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::{
    BatchBuilder, Destination, DestinationName, MessagePosition, Outcome, ProducerId,
};

use super::{
    core::{Call, Core},
    effect::{Effect, Failure},
    ids::{CallId, ShardId, Time},
    input::{Outcomes, Publication},
    lane::{Part, Pending},
    shard::Kind,
};
use crate::limits::{CALL_BYTES_MAX, CALL_MESSAGES_MAX};

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
    paused: bool,
}

/// A message that goes to several destinations, until all have answered.
#[derive(Debug)]
pub(super) struct Composite {
    left: usize,
    /// The worst of the outcomes so far.
    outcome: Outcome,
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

    /// Sees whether the client must be held back or let go.
    fn weigh(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let (bytes_max, messages_max) = match self.full {
            true => (CALL_BYTES_MAX / 2, CALL_MESSAGES_MAX / 2),
            false => (CALL_BYTES_MAX, CALL_MESSAGES_MAX),
        };
        self.full = self.bytes > bytes_max || self.messages > messages_max;
        let pause = self.full || !self.full_shards.is_empty();
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
        messages: Vec<Publication>,
        effects: &mut Vec<Effect>,
    ) {
        let size: u64 = messages.iter().map(|m| m.message.len() as u64).sum();
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
        let shards = match self.gather(now, (call, first, trace.as_ref()), producer, messages) {
            Ok(shards) => shards,
            Err(failure) => return self.fail(call, failure, effects),
        };
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
            publisher.weigh(call, effects);
        }
    }

    /// Puts messages into the batches of their shards. Returns which shards these are.
    fn gather(
        &mut self,
        now: Time,
        (call, first, trace): (CallId, u64, Option<&Arc<str>>),
        producer: Option<ProducerId>,
        messages: Vec<Publication>,
    ) -> Result<BTreeSet<ShardId>, Failure> {
        let mut touched = BTreeSet::new();
        let mut last: Option<(DestinationName, ShardId)> = None;
        for (ordinal, mut publication) in (first..).zip(messages) {
            if !publication.also.is_empty() {
                self.copies(now, (call, ordinal), producer, publication, &mut touched)?;
                continue;
            }
            let id = match &last {
                Some((name, id)) if *name == publication.destination.name => *id,
                Some(_) | None => {
                    let name = &publication.destination.name;
                    let id = self.shard_of(name);
                    let id = id.ok_or(Failure::NoTopology)?;
                    last = Some((name.clone(), id));
                    touched.insert(id);
                    id
                }
            };
            let Some(shard) = self.shards.get_mut(&id) else {
                return Err(Failure::NoTopology);
            };
            let (kind, own) = match publication.non_persistent {
                true => (Kind::Transient, self.config.transient_producer),
                false => (Kind::Stored, self.config.producer),
            };
            let producer = producer.unwrap_or_else(|| {
                self.own_number += 1;
                publication.number = self.own_number;
                own
            });
            let (lane, numbers) = shard.lane(kind);
            let from = (call, ordinal, trace);
            if let Err(full) = lane.publish(now, numbers, producer, from, &publication) {
                let reason = Arc::from(full.to_string());
                return Err(Failure::Malformed { shard: id, reason });
            }
            shard.bytes += publication.message.len() as u64;
            self.bytes += publication.message.len() as u64;
        }
        Ok(touched)
    }

    /// Puts a message with a composite destination into the batches of each.
    fn copies(
        &mut self,
        now: Time,
        (call, ordinal): (CallId, u64),
        producer: Option<ProducerId>,
        mut publication: Publication,
        touched: &mut BTreeSet<ShardId>,
    ) -> Result<(), Failure> {
        let (kind, own) = match publication.non_persistent {
            true => (Kind::Transient, self.config.transient_producer),
            false => (Kind::Stored, self.config.producer),
        };
        let also = std::mem::take(&mut publication.also);
        let destinations: BTreeSet<_> = [publication.destination.clone()]
            .into_iter()
            .chain(also)
            .collect();
        let producer = match producer {
            Some(producer) => of_composite(producer, &destinations),
            None => {
                self.own_number += 1;
                publication.number = self.own_number;
                own
            }
        };
        let composite = Composite {
            left: destinations.len(),
            outcome: Outcome::Duplicate,
        };
        self.composites.insert((call, ordinal), composite);
        for destination in destinations {
            let id = self.shard_of(&destination.name);
            let shard = id.and_then(|id| self.shards.get_mut(&id));
            let shard = shard.ok_or(Failure::NoTopology)?;
            let id = shard.id;
            touched.insert(id);
            publication.destination = destination;
            let (lane, numbers) = shard.lane(kind);
            let added = lane.publish_copy(now, numbers, producer, (call, ordinal), &publication);
            added.map_err(|full| Failure::Malformed {
                shard: id,
                reason: Arc::from(full.to_string()),
            })?;
            shard.bytes += publication.message.len() as u64;
            self.bytes += publication.message.len() as u64;
        }
        Ok(())
    }

    /// One of the destinations of a message has answered.
    fn copied(
        &mut self,
        (call, ordinal): (CallId, u64),
        (outcome, bytes): (Option<Outcome>, u64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(composite) = self.composites.get_mut(&(call, ordinal)) else {
            return;
        };
        composite.left -= 1;
        let outcome = outcome.unwrap_or(Outcome::Stored);
        if !outcome.is_stored() || composite.outcome == Outcome::Duplicate {
            composite.outcome = outcome;
        }
        if composite.left > 0 {
            return;
        }
        let outcome = composite.outcome;
        self.composites.remove(&(call, ordinal));
        if let Some(Call::Publishing(_)) = self.calls.get(&call) {
            effects.push(Effect::Confirmed {
                call,
                first: ordinal,
                count: 1,
                outcome,
            });
            self.unburden(call, 1, bytes, effects);
        }
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
        (destination, only): (&Destination, Option<MessagePosition>),
        effects: &mut Vec<Effect>,
    ) {
        let id = self.shard_of(&destination.name);
        let Some(shard) = id.and_then(|id| self.shards.get_mut(&id)) else {
            return self.fail(call, Failure::NoTopology, effects);
        };
        let id = shard.id;
        self.calls.insert(call, Call::Purging);
        let (lane, numbers) = shard.lane(Kind::Settle);
        if let Err(full) = lane.purge(now, numbers, call, (destination, only)) {
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
        let commands = batch.lead + batch.parts.iter().map(Part::commands).sum::<usize>();
        if outcomes.get(commands.saturating_sub(1)).is_none() {
            let reason = Arc::from("the answer has fewer outcomes than the batch has commands");
            return self.malformed(id, &batch, &reason, effects);
        }
        let mut at = batch.lead;
        let mut freed = 0;
        for part in &batch.parts {
            let range = at..at + part.commands();
            at = range.end;
            match part {
                Part::Messages {
                    call,
                    first,
                    count,
                    bytes,
                } => {
                    freed += bytes;
                    if let Some(Call::Publishing(_)) = self.calls.get(call) {
                        confirm((*call, *first), *count, outcomes, range.start, effects);
                        self.unburden(*call, u64::from(*count), *bytes, effects);
                    }
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
                Part::Admission { call } => self.admitted(*call, outcomes.get(at - 1), effects),
                Part::Unsubscribe { call } => {
                    self.unsubscribed(*call, (outcomes.get(at - 1), removed), effects);
                }
                Part::Copy {
                    call,
                    ordinal,
                    bytes,
                } => {
                    freed += bytes;
                    let answer = (outcomes.get(at - 1), *bytes);
                    self.copied((*call, *ordinal), answer, effects);
                }
                Part::Purge { call } => {
                    self.purged(id, *call, (outcomes.get(at - 1), removed), effects)
                }
            }
        }
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
            if let Part::Copy { call, ordinal, .. } = part {
                self.composites.remove(&(*call, *ordinal));
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
    fn unburden(&mut self, call: CallId, messages: u64, bytes: u64, effects: &mut Vec<Effect>) {
        let Some(Call::Publishing(publisher)) = self.calls.get_mut(&call) else {
            return;
        };
        publisher.messages -= messages;
        publisher.bytes -= bytes;
        if publisher.finished && publisher.messages == 0 {
            return self.end(call, effects);
        }
        publisher.weigh(call, effects);
    }

    /// Bytes of a shard are answered.
    fn free(&mut self, id: ShardId, bytes: u64, effects: &mut Vec<Effect>) {
        self.bytes -= bytes;
        let most = self.shard_bytes_max();
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
                publisher.weigh(call, effects);
            }
        }
    }

    fn purged(
        &mut self,
        shard: ShardId,
        call: CallId,
        (outcome, removed): (Option<Outcome>, u64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(Call::Purging) = self.calls.get(&call) else {
            return;
        };
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
                | Outcome::InDoubt),
            ) => self.fail(call, Failure::Refused { shard, outcome }, effects),
        }
    }
}

/// The name under which a producer's messages for a composite destination are known at each of its parts: apart from
/// those that it sends there directly, which have numbers of their own.
fn of_composite(producer: ProducerId, destinations: &BTreeSet<Destination>) -> ProducerId {
    let mut mixed = u128::from_le_bytes(producer.0);
    for destination in destinations {
        for byte in destination.to_string().bytes().chain([0]) {
            mixed =
                (mixed ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    ProducerId(mixed.to_le_bytes())
}

/// Whether a position is one of the leader's memory only.
pub(super) fn kind_of(position: MessagePosition) -> Kind {
    match position.is_transient() {
        true => Kind::SettleTransient,
        false => Kind::Settle,
    }
}

/// Confirms neighbours, those of one outcome together.
fn confirm(
    (call, first): (CallId, u64),
    count: u32,
    outcomes: &Outcomes,
    at: usize,
    effects: &mut Vec<Effect>,
) {
    let each = match outcomes {
        Outcomes::All(outcome) => {
            effects.push(Effect::Confirmed {
                call,
                first,
                count,
                outcome: *outcome,
            });
            return;
        }
        Outcomes::Each(each) => &each[at..at + count as usize],
    };
    let mut ordinal = first;
    for run in each.chunk_by(|a, b| a == b) {
        let count = u32::try_from(run.len()).expect("a run is no longer than the part");
        effects.push(Effect::Confirmed {
            call,
            first: ordinal,
            count,
            outcome: run[0],
        });
        ordinal += u64::from(count);
    }
}
