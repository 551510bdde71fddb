//! What becomes of messages that a shard has answered: confirmed, refused with the reason, or held back until there is
//! room.

use std::cell::OnceCell;

use quorate_message::{Batch, Command, Destination, Outcome, ProducerId};

use super::{
    backlog::{Origin, Place, is_to_be_tried},
    core::{Call, Core},
    diverting::IsTransient,
    effect::Effect,
    ids::CallId,
    input::{Outcomes, Publication},
    lane::Pending,
};

impl Core {
    /// Confirms neighbours, those of one outcome together. In their batch they begin at `at`.
    pub(super) fn confirm(
        &mut self,
        (call, first, count, bytes): (CallId, u64, u32, u64),
        (outcomes, parsed, at): (&Outcomes, &Parsed<'_>, usize),
        effects: &mut Vec<Effect>,
    ) {
        if !matches!(self.calls.get(&call), Some(Call::Publishing(_))) {
            return;
        }
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
        let mut done = (u64::from(count), bytes);
        let mut from = 0;
        let places: Vec<usize> = (0..each.len()).collect();
        let alike = |a: &usize, b: &usize| {
            let is_one_place = || parsed.destination(at + a) == parsed.destination(at + b);
            each[*a] == each[*b] && (each[*a].is_stored() || is_one_place())
        };
        for run in places.chunk_by(alike) {
            let outcome = each[from];
            let (run_at, ordinal) = (at + from, first + from as u64);
            from += run.len();
            if !parsed.waits(outcome) {
                let count = u32::try_from(run.len()).expect("a run is no longer than the part");
                effects.push(Effect::Confirmed {
                    call,
                    first: ordinal,
                    count,
                    outcome,
                    cause: parsed.cause_of(outcome, run_at).map(|to| self.cause(to)),
                });
                continue;
            }
            for (at, ordinal) in (run_at..run_at + run.len()).zip(ordinal..) {
                let origin = Origin {
                    call,
                    ordinal,
                    is_copy: false,
                };
                let size = self.hold_back_returned(parsed, at, origin, effects);
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
        (outcomes, parsed, at): (&Outcomes, &Parsed<'_>, usize),
        effects: &mut Vec<Effect>,
    ) {
        let outcome = outcomes.get(at).unwrap_or(Outcome::Stored);
        let is_open = matches!(self.calls.get(&call), Some(Call::Publishing(_)));
        if is_open && parsed.waits(outcome) {
            let origin = Origin {
                call,
                ordinal,
                is_copy: true,
            };
            self.hold_back_returned(parsed, at, origin, effects);
            return;
        }
        let cause = parsed.cause_of(outcome, at).map(|to| self.cause(to));
        self.copied((call, ordinal), (outcome, bytes), cause, effects);
    }

    /// Lets what a shard did not take wait. Returns its bytes; none: its call has failed.
    fn hold_back_returned(
        &mut self,
        parsed: &Parsed<'_>,
        at: usize,
        origin: Origin,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        let (producer, publication) = parsed.publication(at)?;
        let size = publication.message.len() as u64;
        let place = Some(Place::Returned(parsed.pending.number, at));
        match self.hold_back((origin, place), producer, publication, effects) {
            Ok(()) => Some(size),
            Err(failure) => {
                self.fail(origin.call, failure, effects);
                None
            }
        }
    }
}

/// A batch that was answered. It is looked into where something of it was not stored, and once for all of it.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pending: &'a Pending,
    batch: OnceCell<Option<Batch>>,
}

impl<'a> Parsed<'a> {
    pub(super) fn new(pending: &'a Pending) -> Self {
        Self {
            pending,
            batch: OnceCell::new(),
        }
    }

    pub(super) fn batch(&self) -> Option<&Batch> {
        let read = || Batch::parse(self.pending.batch.clone()).ok();
        self.batch.get_or_init(read).as_ref()
    }

    pub(super) fn is_transient(&self) -> IsTransient {
        IsTransient(self.batch().is_some_and(Batch::is_transient))
    }

    /// Whether a message of it that has this outcome is tried again.
    fn waits(&self, outcome: Outcome) -> bool {
        !outcome.is_stored() && is_to_be_tried(outcome, self.is_transient())
    }

    /// The destination that an error at a place of the batch is about.
    fn cause_of(&self, outcome: Outcome, at: usize) -> Option<&Destination> {
        match outcome.is_stored() {
            true => None,
            false => self.destination(at),
        }
    }

    /// Where the message at a place of the batch goes.
    pub(super) fn destination(&self, at: usize) -> Option<&Destination> {
        let batch = self.batch()?;
        match batch.command(u16::try_from(at).ok()?)? {
            Command::Publish { destination, .. } => Some(batch.destination(destination)),
            _ => None,
        }
    }

    /// The message at a place of the batch, as it came.
    fn publication(&self, at: usize) -> Option<(ProducerId, Publication)> {
        let batch = self.batch()?;
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
