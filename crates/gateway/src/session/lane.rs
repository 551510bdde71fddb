//! One kind of command on its way to one shard: what is being gathered into a batch, and the batches that are not
//! answered, in the order in which they go out.
//!
//! A batch is built once, and stays here as the same bytes until it is answered. `sent` of the batches, counted from
//! the front, are with the present leader; to go back is to lower that number. Nothing here knows of leaders, calls
//! or time limits.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use quorate_message::{
    BatchBuilder, BatchFull, Destination, GatewayId, MessagePosition, ProducerId, Settlement,
};

use super::{
    backlog::{Origin, Place},
    diverting::IsTransient,
    ending::Ending,
    ids::{BatchNumber, CallId, Time},
    input::{Publication, Removal},
};

/// For whom commands of a batch are, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Messages of a call that are neighbours in it.
    Messages {
        call: CallId,
        first: u64,
        count: u32,
        bytes: u64,
    },
    /// Neighbours in a request to settle.
    Settlements {
        call: CallId,
        request: u64,
        first: u32,
        count: u32,
    },
    /// A purge.
    Purge { call: CallId },
    /// What a consumer needs before it can be attached.
    Admission { call: CallId },
    /// The end of a subscription.
    Unsubscribe { call: CallId, ending: Box<Ending> },
    /// One of the copies of a message with a composite destination.
    Copy {
        call: CallId,
        ordinal: u64,
        bytes: u64,
    },
    /// A message that waits for room in its destination.
    Again {
        origin: Origin,
        destination: Destination,
        is_transient: IsTransient,
        place: Place,
    },
    /// A step of a transaction: so many commands.
    Transaction {
        call: CallId,
        step: Step,
        commands: usize,
    },
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Prepare,
    Decide,
    Finish,
    /// Nobody waits for the answer.
    Forget,
}

impl Part {
    pub(super) fn call(&self) -> CallId {
        match self {
            Self::Messages { call, .. }
            | Self::Settlements { call, .. }
            | Self::Purge { call }
            | Self::Admission { call }
            | Self::Unsubscribe { call, .. }
            | Self::Copy { call, .. }
            | Self::Transaction { call, .. } => *call,
            Self::Again { origin, .. } => origin.call,
        }
    }

    pub(super) fn commands(&self) -> usize {
        match self {
            Self::Messages { count, .. } | Self::Settlements { count, .. } => *count as usize,
            Self::Purge { .. }
            | Self::Admission { .. }
            | Self::Unsubscribe { .. }
            | Self::Again { .. }
            | Self::Copy { .. } => 1,
            Self::Transaction { commands, .. } => *commands,
        }
    }
}

/// A message that is sent again because its destination may have room.
#[derive(Debug)]
pub(super) struct Again<'a> {
    pub(super) origin: Origin,
    pub(super) place: Place,
    pub(super) producer: Producer,
    pub(super) publication: &'a Publication,
}

/// Whose a message is, and whether no earlier one of his for its destination is under way or has to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Producer {
    pub(super) id: ProducerId,
    pub(super) is_first: bool,
}

/// A batch that is not answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) number: BatchNumber,
    pub(super) batch: Bytes,
    /// Commands before those of the parts.
    pub(super) lead: usize,
    pub(super) parts: Vec<Part>,
    /// The trace of the first of its messages that has one.
    pub(super) trace: Option<Arc<str>>,
    /// When the oldest of its commands came in.
    pub(super) since: Time,
    /// How often it was sent.
    pub(super) tries: u32,
    /// Its calls were failed for the time it took.
    pub(super) overdue: bool,
}

impl Pending {
    /// How many commands it has.
    pub(super) fn commands(&self) -> usize {
        self.lead + self.parts.iter().map(Part::commands).sum::<usize>()
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Lane {
    /// Under whose name and which number batches go out, so that a repeat is known; none: they are not counted.
    origin: Option<(GatewayId, u64)>,
    /// The batch that is being filled, whose commands are these, the oldest of that time.
    builder: BatchBuilder,
    parts: Vec<Part>,
    trace: Option<Arc<str>>,
    since: Time,
    batches: VecDeque<Pending>,
    sent: usize,
    sent_bytes: usize,
    /// The present leader answered a batch of this lane: until then it has one at a time, so that none overtakes
    /// one that was refused.
    proven: bool,
}

impl Lane {
    /// A lane of batches that this builder makes, counted for this gateway if one is given.
    pub(super) fn new(builder: BatchBuilder, gateway: Option<GatewayId>) -> Self {
        Self {
            origin: gateway.map(|gateway| (gateway, 0)),
            builder,
            parts: Vec::new(),
            trace: None,
            since: Time(0),
            batches: VecDeque::new(),
            sent: 0,
            sent_bytes: 0,
            proven: false,
        }
    }

    /// Adds a message of a call at `ordinal` of it, with the trace of the call.
    pub(super) fn publish(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        producer: Producer,
        (call, ordinal, trace): (CallId, u64, Option<&Arc<str>>),
        publication: &Publication,
    ) -> Result<(), BatchFull> {
        self.put(now, numbers, producer, publication)?;
        if self.trace.is_none() {
            self.trace = trace.map(Arc::clone);
        }
        let size = publication.message.len() as u64;
        if let Some(Part::Messages {
            call: last,
            first,
            count,
            bytes,
        }) = self.parts.last_mut()
            && *last == call
            && *first + u64::from(*count) == ordinal
        {
            *count += 1;
            *bytes += size;
        } else {
            self.parts.push(Part::Messages {
                call,
                first: ordinal,
                count: 1,
                bytes: size,
            });
        }
        Ok(())
    }

    fn put(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        producer: Producer,
        publication: &Publication,
    ) -> Result<(), BatchFull> {
        self.add(now, numbers, |builder| {
            put_into(builder, producer, publication)
        })
    }

    /// Adds messages that waited for room, as many of them as fit one batch, alone in it. Returns how many.
    pub(super) fn again<'a>(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        tries: impl Iterator<Item = Again<'a>>,
    ) -> usize {
        self.seal(numbers);
        for next in tries {
            let is_open = self.open(now).is_ok();
            if !is_open || put_into(&mut self.builder, next.producer, next.publication).is_err() {
                break;
            }
            self.parts.push(Part::Again {
                origin: next.origin,
                destination: next.publication.destination.clone(),
                is_transient: IsTransient(next.publication.non_persistent),
                place: next.place,
            });
        }
        let count = self.parts.len();
        self.seal(numbers);
        count
    }

    /// Adds a settlement: the `at`-th of a request of a call. Returns the gateway's number in its batch; 0: none.
    pub(super) fn settle(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        (call, request, at): (CallId, u64, u32),
        queue: &Destination,
        position: MessagePosition,
        settlement: Settlement,
    ) -> Result<u64, BatchFull> {
        self.add(now, numbers, |builder| {
            builder.settle_at((queue.kind, &queue.name), position, settlement)
        })?;
        if let Some(Part::Settlements {
            call: last,
            request: same,
            first,
            count,
        }) = self.parts.last_mut()
            && *last == call
            && *same == request
            && *first + *count == at
        {
            *count += 1;
        } else {
            self.parts.push(Part::Settlements {
                call,
                request,
                first: at,
                count: 1,
            });
        }
        Ok(self.origin.map_or(0, |(_, last)| last))
    }

    /// Adds a command that is alone in its batch, for what `part` says.
    pub(super) fn single(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        part: Part,
        command: impl Fn(&mut BatchBuilder) -> Result<u16, BatchFull>,
    ) -> Result<(), BatchFull> {
        self.seal(numbers);
        self.add(now, numbers, command)?;
        self.parts.push(part);
        self.seal(numbers);
        Ok(())
    }

    /// Adds one copy of a message that goes to several destinations.
    pub(super) fn publish_copy(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        producer: Producer,
        (call, ordinal): (CallId, u64),
        publication: &Publication,
    ) -> Result<(), BatchFull> {
        self.put(now, numbers, producer, publication)?;
        self.parts.push(Part::Copy {
            call,
            ordinal,
            bytes: publication.message.len() as u64,
        });
        Ok(())
    }

    /// Adds a purge, alone in its batch, so that the number of messages removed is its own.
    pub(super) fn purge(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        call: CallId,
        (destination, what): (&Destination, Removal),
    ) -> Result<(), BatchFull> {
        let part = Part::Purge { call };
        self.single(now, numbers, part, |builder| match what {
            Removal::Messages => builder.purge(&destination.name),
            Removal::Destination | Removal::Temporary => builder.delete(destination, true),
            Removal::Message(position) => builder.settle_at(
                (destination.kind, &destination.name),
                position,
                Settlement::Cancel,
            ),
        })
    }

    /// Adds a batch that was built elsewhere.
    pub(super) fn submit(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        batch: Bytes,
        part: Part,
    ) {
        self.seal(numbers);
        numbers.0 += 1;
        self.batches.push_back(Pending {
            number: *numbers,
            batch,
            lead: 0,
            parts: vec![part],
            trace: None,
            since: now,
            tries: 0,
            overdue: false,
        });
    }

    /// Adds a command about a transaction that shares its batch with others.
    pub(super) fn about_transaction(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        (call, step): (CallId, Step),
        command: impl Fn(&mut BatchBuilder) -> Result<u16, BatchFull>,
    ) {
        // Such a command always fits an empty batch.
        if self.add(now, numbers, command).is_ok() {
            self.parts.push(Part::Transaction {
                call,
                step,
                commands: 1,
            });
        }
    }

    /// Adds to the batch being filled, or to the next one when that is full. An error means that the command does
    /// not fit into an empty batch either.
    fn add(
        &mut self,
        now: Time,
        numbers: &mut BatchNumber,
        command: impl Fn(&mut BatchBuilder) -> Result<u16, BatchFull>,
    ) -> Result<(), BatchFull> {
        self.open(now)?;
        match command(&mut self.builder) {
            Ok(_) => {}
            Err(BatchFull::Full) => {
                self.seal(numbers);
                self.open(now)?;
                command(&mut self.builder)?;
            }
            Err(
                error
                @ (BatchFull::Message(_) | BatchFull::Schedule(_) | BatchFull::Command { .. }),
            ) => return Err(error),
        }
        Ok(())
    }

    /// Begins a batch, unless one is begun.
    fn open(&mut self, now: Time) -> Result<(), BatchFull> {
        if !self.builder.is_empty() {
            self.since = self.since.min(now);
            return Ok(());
        }
        self.since = now;
        if let Some((gateway, last)) = &mut self.origin {
            *last += 1;
            self.builder.origin(*gateway, *last)?;
        }
        Ok(())
    }

    /// Ends the batch that is being filled.
    pub(super) fn seal(&mut self, numbers: &mut BatchNumber) {
        if self.builder.is_empty() {
            return;
        }
        numbers.0 += 1;
        self.batches.push_back(Pending {
            number: *numbers,
            batch: self.builder.finish(),
            lead: usize::from(self.origin.is_some()),
            parts: std::mem::take(&mut self.parts),
            trace: self.trace.take(),
            since: self.since,
            tries: 0,
            overdue: false,
        });
    }

    /// The next batch to send, if `most` batches and `bytes_max` bytes in flight allow one, and the one before it if
    /// that is not answered. It counts as sent.
    ///
    /// The leader takes it only right after that one. Without one it takes it always, and may: what came before is
    /// answered, and what is left on the wire from an earlier round follows its own predecessor or is refused.
    pub(super) fn next(
        &mut self,
        numbers: &mut BatchNumber,
        most: usize,
        bytes_max: usize,
    ) -> Option<(&Pending, Option<BatchNumber>)> {
        let most = if self.proven { most } else { 1 };
        if self.sent >= most || (self.sent > 0 && self.sent_bytes >= bytes_max) {
            return None;
        }
        if self.sent == self.batches.len() {
            self.seal(numbers);
        }
        let before = self.sent.checked_sub(1);
        let previous = before.and_then(|at| Some(self.batches.get(at)?.number));
        let next = self.batches.get_mut(self.sent)?;
        next.tries += 1;
        self.sent += 1;
        self.sent_bytes += next.batch.len();
        Some((next, previous))
    }

    /// Takes out the batch of this number, answered by the present leader or by an earlier one.
    pub(super) fn answered(&mut self, number: BatchNumber, by_present: bool) -> Option<Pending> {
        let at = self.find(number)?;
        let batch = self.batches.remove(at)?;
        if at < self.sent {
            self.sent -= 1;
            self.sent_bytes -= batch.batch.len();
            self.proven |= by_present;
        }
        Some(batch)
    }

    /// Goes back to the batch of this number, which was refused: it and what was sent after it will be sent again.
    /// False when it is not here.
    pub(super) fn refused(&mut self, number: BatchNumber) -> bool {
        let Some(at) = self.find(number) else {
            return false;
        };
        self.rewind_to(at);
        true
    }

    /// Goes back to the first batch: the leader is another one. Returns how many will be sent again.
    pub(super) fn rewind(&mut self) -> usize {
        let again = self.batches.iter().filter(|b| b.tries > 0).count();
        self.rewind_to(0);
        again
    }

    fn rewind_to(&mut self, at: usize) {
        self.sent = self.sent.min(at);
        self.sent_bytes = self
            .batches
            .iter()
            .take(self.sent)
            .map(|b| b.batch.len())
            .sum();
        self.proven = false;
    }

    /// The batches whose answers calls wait for, in order.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &Pending> {
        self.batches.iter().filter(|batch| !batch.overdue)
    }

    /// Whether the batch of this number is here, which is not answered then.
    pub(super) fn has(&self, number: BatchNumber) -> bool {
        self.find(number).is_some()
    }

    fn find(&self, number: BatchNumber) -> Option<usize> {
        self.batches
            .binary_search_by_key(&number, |batch| batch.number)
            .ok()
    }

    /// Whether the present leader has a batch that is not answered.
    pub(super) fn is_under_way(&self) -> bool {
        self.sent > 0
    }

    /// Whether something could be sent to a leader that has no more than `most` batches.
    pub(super) fn has_more(&self, most: usize, bytes_max: usize) -> bool {
        let most = if self.proven { most } else { 1 };
        let room = self.sent < most && (self.sent == 0 || self.sent_bytes < bytes_max);
        room && (self.sent < self.batches.len() || !self.builder.is_empty())
    }

    /// When the oldest command came in whose calls still wait.
    pub(super) fn oldest(&self) -> Option<Time> {
        let sealed = self.batches.iter().find(|b| !b.overdue).map(|b| b.since);
        sealed.or_else(|| (!self.builder.is_empty()).then_some(self.since))
    }

    /// Calls of which something came in at `until` or before. They are named once only.
    pub(super) fn overdue(&mut self, numbers: &mut BatchNumber, until: Time) -> Vec<CallId> {
        if !self.builder.is_empty() && self.since <= until {
            self.seal(numbers);
        }
        let mut calls = Vec::new();
        let waiting = self.batches.iter_mut().filter(|batch| !batch.overdue);
        for batch in waiting.take_while(|batch| batch.since <= until) {
            batch.overdue = true;
            calls.extend(batch.parts.iter().map(Part::call));
        }
        calls
    }
}

/// Puts a message into a batch.
fn put_into(
    builder: &mut BatchBuilder,
    producer: Producer,
    publication: &Publication,
) -> Result<u16, BatchFull> {
    let head = publication.head(producer.id, publication.number);
    let message = &publication.message;
    let ordinal = match &publication.schedule {
        None => builder.publish(&head, message),
        Some(schedule) => builder.publish_scheduled(&head, schedule, message),
    }?;
    if producer.is_first {
        builder.mark_first(ordinal);
    }
    Ok(ordinal)
}

/// Whether a message can be in any batch.
pub(super) fn check(publication: &Publication) -> Result<(), BatchFull> {
    let mut builder = match publication.non_persistent {
        true => BatchBuilder::transient(),
        false => BatchBuilder::persistent(),
    };
    let producer = Producer {
        id: ProducerId::default(),
        is_first: false,
    };
    put_into(&mut builder, producer, publication).map(drop)
}
