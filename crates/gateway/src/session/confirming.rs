//! What becomes of messages that a shard has answered: confirmed, refused with the reason, or held back until there is
//! room.

use quorate_message::{Batch, Command, Destination, Outcome, ProducerId};

use super::{
    backlog::{Origin, Place, is_to_be_tried},
    core::{Call, Core},
    diverting::IsTransient,
    effect::Effect,
    ids::{CallId, Time},
    input::{Outcomes, Publication},
    lane::{Pending, Producer},
    shard::Kind,
};

impl Core {
    /// Confirms neighbours, those of one outcome together. In `batch` they begin at `at`.
    pub(super) fn confirm(
        &mut self,
        (call, first, count, bytes): (CallId, u64, u32, u64),
        (outcomes, batch, at): (&Outcomes, &Pending, usize),
        effects: &mut Vec<Effect>,
    ) {
        let each = (at..at + count as usize).map(|at| outcomes.get(at).unwrap_or(Outcome::Stored));
        let each: Vec<Outcome> = match outcomes {
            Outcomes::All(outcome) if outcome.is_stored() => {
                effects.push(Effect::Confirmed {
                    call,
                    first,
                    count,
                    outcome: *outcome,
                    cause: None,
                });
                return self.unburden(call, u64::from(count), bytes, effects);
            }
            Outcomes::All(_) | Outcomes::Each(_) => each.collect(),
        };
        // The time is spent only where something went wrong.
        let parsed = Parsed::new(batch, &each);
        let mut done = (u64::from(count), bytes);
        let mut from = 0;
        let places: Vec<usize> = (0..each.len()).collect();
        let alike = |a: &usize, b: &usize| {
            each[*a] == each[*b] && parsed.destination(at + a) == parsed.destination(at + b)
        };
        for run in places.chunk_by(alike) {
            let outcome = each[from];
            let (run_at, ordinal) = (at + from, first + from as u64);
            from += run.len();
            if outcome == Outcome::Moved && parsed.is_transient() {
                let to = (call, ordinal);
                let sent = self.send_on(&parsed, (run_at, run.len()), to, batch.since);
                if let Some(bytes) = sent {
                    done = (done.0 - run.len() as u64, done.1 - bytes);
                    continue;
                }
            }
            if !is_to_be_tried(outcome) || parsed.is_transient() {
                let count = u32::try_from(run.len()).expect("a run is no longer than the part");
                let destination = parsed.destination(run_at);
                effects.push(Effect::Confirmed {
                    call,
                    first: ordinal,
                    count,
                    outcome,
                    cause: destination.map(|destination| self.cause(destination)),
                });
                continue;
            }
            for (at, ordinal) in (run_at..run_at + run.len()).zip(ordinal..) {
                let origin = Origin {
                    call,
                    ordinal,
                    is_copy: false,
                };
                let size = self.hold_back_returned(&parsed, (batch, at), origin, effects);
                let Some(size) = size else { return };
                done = (done.0 - 1, done.1 - size);
            }
        }
        self.unburden(call, done.0, done.1, effects);
    }

    /// A copy of a message with a composite destination has its answer, at `at` of its batch.
    pub(super) fn copy_answered(
        &mut self,
        (call, ordinal, bytes): (CallId, u64, u64),
        (outcome, batch, at): (Outcome, &Pending, usize),
        effects: &mut Vec<Effect>,
    ) {
        let parsed = Parsed::new(batch, &[outcome]);
        let is_open = matches!(self.calls.get(&call), Some(Call::Publishing(_)));
        if is_to_be_tried(outcome) && is_open && !parsed.is_transient() {
            let origin = Origin {
                call,
                ordinal,
                is_copy: true,
            };
            self.hold_back_returned(&parsed, (batch, at), origin, effects);
            return;
        }
        let cause = parsed.destination(at).map(|d| self.cause(d));
        self.copied((call, ordinal), (outcome, bytes), cause, effects);
    }

    /// Sends non-persistent messages on to where their name goes. Returns their bytes; none: that is not known.
    fn send_on(
        &mut self,
        parsed: &Parsed,
        (at, count): (usize, usize),
        (call, ordinal): (CallId, u64),
        since: Time,
    ) -> Option<u64> {
        let name = parsed.destination(at)?.name.clone();
        let id = self.switched_to(&name, IsTransient(true))?;
        let mut bytes = 0;
        for (at, ordinal) in (at..at + count).zip(ordinal..) {
            let (id_of_producer, publication) = parsed.publication(at)?;
            let producer = Producer {
                id: id_of_producer,
                is_first: false,
            };
            let shard = self.shards.get_mut(&id)?;
            let (lane, numbers) = shard.lane(Kind::Transient);
            let from = (call, ordinal, None);
            // It fitted a batch before.
            lane.publish(since, numbers, producer, from, &publication)
                .ok()?;
            let size = publication.message.len() as u64;
            shard.bytes += size;
            self.bytes += size;
            bytes += size;
        }
        Some(bytes)
    }

    /// Lets what a shard did not take for lack of room wait. Returns its bytes; none: its call has failed.
    fn hold_back_returned(
        &mut self,
        parsed: &Parsed,
        (batch, at): (&Pending, usize),
        origin: Origin,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let (producer, publication) = parsed.publication(at)?;
        let size = publication.message.len() as u64;
        let place = Some(Place::Returned(batch.number, at));
        match self.hold_back((origin, place), producer, publication, effects) {
            Ok(()) => Some(size),
            Err(failure) => {
                self.fail(origin.call, failure, effects);
                None
            }
        }
    }
}

/// A batch that is looked into again, if something of it was not stored.
struct Parsed(Option<Batch>);

/// Where the message at a place of a batch goes.
pub(super) fn destination_of(batch: &Pending, at: usize) -> Option<Destination> {
    let parsed = Parsed(Batch::parse(batch.batch.clone()).ok());
    parsed.destination(at).cloned()
}

impl Parsed {
    fn is_transient(&self) -> bool {
        self.0.as_ref().is_some_and(Batch::is_transient)
    }

    fn new(batch: &Pending, outcomes: &[Outcome]) -> Self {
        let is_wanted = outcomes.iter().any(|outcome| !outcome.is_stored());
        let parsed = is_wanted.then(|| Batch::parse(batch.batch.clone()).ok());
        Self(parsed.flatten())
    }

    /// Where the message at a place of the batch goes.
    fn destination(&self, at: usize) -> Option<&Destination> {
        let batch = self.0.as_ref()?;
        match batch.command(u16::try_from(at).ok()?)? {
            Command::Publish { destination, .. } => Some(batch.destination(destination)),
            _ => None,
        }
    }

    /// The message at a place of the batch, as it came.
    fn publication(&self, at: usize) -> Option<(ProducerId, Publication)> {
        let batch = self.0.as_ref()?;
        let ordinal = u16::try_from(at).ok()?;
        let Command::Publish {
            destination,
            producer,
            number,
            priority,
            expires_at_ms,
            is_retained,
            ..
        } = batch.command(ordinal)?
        else {
            return None;
        };
        let publication = Publication {
            destination: batch.destination(destination).clone(),
            number,
            also: Vec::new(),
            is_retained,
            non_persistent: batch.is_transient(),
            priority,
            expires_at_ms,
            schedule: batch.schedule(ordinal).map(Box::new),
            message: batch.message(ordinal)?,
        };
        Some((producer, publication))
    }
}
