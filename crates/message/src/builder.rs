//! Gathers commands into one batch. A builder is persistent or transient for good.

mod ending;
mod forwarding;
mod governing;
mod repeating;
mod transaction;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::layout::{
    CHECKPOINT, COMMAND_BYTES, FLAG_TRANSIENT, GROUPED, HEAD_BYTES, PRODUCER_BYTES, PUBLISH, QUEUE,
    RETAINED, Record, SCHEDULED, SETTLE, SKIP, SUBSCRIBE, SUBSCRIPTION, TICK, TOPIC, VERSION,
};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_BYTES_TARGET, BATCH_COMMANDS_MAX, MESSAGE_BYTES_MAX, PRIORITY_MAX,
};
use crate::{
    Destination, DestinationKind, DestinationName, Message, MessageError, MessagePosition,
    MessageView, PreviousCheckpoint, ProducerId, Schedule, ScheduleError, Settlement, Skipped,
    Subscription,
};

/// Everything about a publish but the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Where it goes.
    pub destination: &'a Destination,
    /// Who sends.
    pub producer: ProducerId,
    /// The producer's number of this message for this destination, from 1.
    pub number: u64,
    /// 0 to 9.
    pub priority: u8,
    /// Milliseconds since 1970; 0 for never.
    pub expires_at_ms: u64,
    /// A topic keeps it for those who subscribe later.
    pub is_retained: bool,
}

/// The command did not go into the batch; nothing of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchFull {
    /// The batch is full: finish it and put the command into the next.
    #[error("batch is full; put the command into the next")]
    Full,
    /// The message can go into no batch.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The schedule cannot be.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The command can go into no batch of this builder.
    #[error("command cannot be batched: invalid {field}")]
    Command {
        /// Which of its fields.
        field: &'static str,
    },
}

/// Builds one batch after another; [`BatchBuilder::finish`] leaves it empty.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    is_transient: bool,
    records: BytesMut,
    producers: Vec<ProducerId>,
    producer_index: BTreeMap<ProducerId, u16>,
    destinations: BytesMut,
    destination_index: BTreeMap<Destination, u16>,
    bodies: BytesMut,
    /// The names last used, since neighbours mostly share them.
    last_producer: Option<(ProducerId, u16)>,
    last_destination: Option<(Destination, u16)>,
    /// The first command heads a transaction.
    is_headed: bool,
}

impl BatchBuilder {
    /// A builder of batches for the log.
    #[must_use]
    pub fn persistent() -> Self {
        Self::new(false)
    }

    /// A builder of batches for the leader's memory: non-persistent messages and settlements of such.
    #[must_use]
    pub fn transient() -> Self {
        Self::new(true)
    }

    fn new(is_transient: bool) -> Self {
        Self {
            is_transient,
            records: BytesMut::new(),
            producers: Vec::new(),
            producer_index: BTreeMap::new(),
            destinations: BytesMut::new(),
            destination_index: BTreeMap::new(),
            bodies: BytesMut::new(),
            last_producer: None,
            last_destination: None,
            is_headed: false,
        }
    }

    /// Adds a publish, encoding the message straight into the batch, and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or the message breaks a bound.
    pub fn publish_message(
        &mut self,
        publication: &Publication<'_>,
        message: &Message,
    ) -> Result<u16, BatchFull> {
        let bytes = message.check()?;
        let name = &publication.destination.name;
        self.check_room(Some(name), Some(publication.producer), bytes)?;
        check_publication(publication)?;
        let offset = self.bodies.len();
        message.encode(&mut self.bodies)?;
        let flags = group_flag(&self.bodies[offset..]);
        Ok(self.push_publish(publication, flags, offset))
    }

    /// Adds a publish of a message in its stored encoding that is delivered by its schedule, and returns the command's
    /// ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient, or the message or the schedule breaks a bound.
    pub fn publish_scheduled(
        &mut self,
        publication: &Publication<'_>,
        schedule: &Schedule,
        message: &[u8],
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        schedule.check()?;
        let bytes = schedule.encoded_bytes() + message.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { bytes }.into());
        }
        let name = &publication.destination.name;
        self.check_room(Some(name), Some(publication.producer), bytes)?;
        check_publication(publication)?;
        let offset = self.bodies.len();
        schedule.encode(&mut self.bodies);
        self.bodies.put_slice(message);
        let flags = SCHEDULED | group_flag(message);
        Ok(self.push_publish(publication, flags, offset))
    }

    /// Adds a tick and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn tick(&mut self, until_ms: u64) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(None, None, 0)?;
        Ok(self.push(Record {
            kind: TICK,
            first: until_ms,
            ..Record::default()
        }))
    }

    /// Adds a publish of a message in its stored encoding and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or the message too large.
    pub fn publish(
        &mut self,
        publication: &Publication<'_>,
        message: &[u8],
    ) -> Result<u16, BatchFull> {
        if message.len() > MESSAGE_BYTES_MAX {
            let bytes = message.len();
            return Err(MessageError::TooLarge { bytes }.into());
        }
        self.publish_with(publication, (&[], 0), message)
    }

    /// Adds a publish whose message has something in front of it, with the flag that says so.
    pub(crate) fn publish_with(
        &mut self,
        publication: &Publication<'_>,
        (front, flag): (&[u8], u16),
        message: &[u8],
    ) -> Result<u16, BatchFull> {
        let (name, producer) = (&publication.destination.name, publication.producer);
        self.check_room(Some(name), Some(producer), front.len() + message.len())?;
        check_publication(publication)?;
        let offset = self.bodies.len();
        self.bodies.put_slice(front);
        self.bodies.put_slice(message);
        Ok(self.push_publish(publication, flag | group_flag(message), offset))
    }

    /// Adds a settlement of a queue's message and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full, or the position is of the other mode than the builder.
    pub fn settle(
        &mut self,
        queue: &DestinationName,
        position: MessagePosition,
        settlement: Settlement,
    ) -> Result<u16, BatchFull> {
        self.settle_at((DestinationKind::Queue, queue), position, settlement)
    }

    /// Adds a settlement of a message of a queue or subscription and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full, the position is of the other mode than the builder, or the destination a topic.
    pub fn settle_at(
        &mut self,
        (kind, name): (DestinationKind, &DestinationName),
        position: MessagePosition,
        settlement: Settlement,
    ) -> Result<u16, BatchFull> {
        if position.is_transient() != self.is_transient {
            return Err(BatchFull::Command { field: "position" });
        }
        if settlement != Settlement::Cancel {
            check_holds_messages(kind)?;
        }
        self.check_room(Some(name), None, 0)?;
        let destination = self.destination(kind, name);
        Ok(self.push(Record {
            kind: SETTLE,
            detail: settlement_code(settlement),
            destination,
            first: position.value(),
            ..Record::default()
        }))
    }

    /// Adds what the selector of a subscription, made by the entry `made`, came to, and returns the command's ordinal.
    /// Of what is pending before `judged_to` all but what is skipped or late is selected.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn skip(
        &mut self,
        key: &DestinationName,
        (made, judged_to): (u64, MessagePosition),
        skipped: &Skipped,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        let destination = Destination::subscription(key.clone());
        self.push_with_body(&destination, &skipped.encode(), |destination| Record {
            kind: SKIP,
            destination,
            first: made,
            second: judged_to.value(),
            ..Record::default()
        })
    }

    /// Adds a subscription under this key and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient, or a text of the subscription too long.
    pub fn subscribe(
        &mut self,
        key: &DestinationName,
        subscription: &Subscription,
    ) -> Result<u16, BatchFull> {
        self.subscribe_by_move(key, subscription, 0)
    }

    /// The same where the topic moves to, by the move of this number: refused unless that move is known there.
    ///
    /// # Errors
    /// When the batch is full or transient, or a text of the subscription too long.
    pub fn subscribe_by_move(
        &mut self,
        key: &DestinationName,
        subscription: &Subscription,
        by_move: u64,
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        let body = subscription.encode();
        let body = body.map_err(|_| BatchFull::Command {
            field: "subscription",
        })?;
        let destination = Destination::subscription(key.clone());
        self.push_with_body(&destination, &body, |destination| Record {
            kind: SUBSCRIBE,
            destination,
            first: by_move,
            ..Record::default()
        })
    }

    /// Adds a checkpoint and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn checkpoint(&mut self, previous: Option<PreviousCheckpoint>) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        self.check_room(None, None, 0)?;
        Ok(self.push(Record {
            kind: CHECKPOINT,
            detail: u8::from(previous.is_some()),
            first: previous.map_or(0, |previous| previous.entry),
            second: previous.map_or(0, |previous| previous.digest),
            ..Record::default()
        }))
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len() / COMMAND_BYTES
    }

    /// Whether there is no command yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the batches are for the leader's memory.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// The size that the batch has now.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        HEAD_BYTES
            + self.records.len()
            + self.producers.len() * PRODUCER_BYTES
            + self.destinations.len()
            + self.bodies.len()
    }

    /// The batch; the builder is empty afterwards.
    ///
    /// # Panics
    /// When no command was added: an empty batch does not exist.
    pub fn finish(&mut self) -> Bytes {
        assert!(!self.is_empty(), "a batch holds at least one command");
        let mut batch = BytesMut::with_capacity(self.size_bytes());
        batch.put_u8(VERSION);
        batch.put_u8(if self.is_transient { FLAG_TRANSIENT } else { 0 });
        batch.put_u16_le(bounded_u16(self.len()));
        batch.put_u16_le(bounded_u16(self.destination_index.len()));
        batch.put_u16_le(bounded_u16(self.producers.len()));
        batch.put_u32_le(bounded_u32(self.destinations.len()));
        batch.put_u32_le(0);
        batch.put_slice(&self.records);
        for producer in &self.producers {
            batch.put_slice(&producer.0);
        }
        batch.put_slice(&self.destinations);
        batch.put_slice(&self.bodies);
        self.clear();
        batch.freeze()
    }

    fn clear(&mut self) {
        self.records.clear();
        self.producers.clear();
        self.producer_index.clear();
        self.destinations.clear();
        self.destination_index.clear();
        self.bodies.clear();
        self.last_producer = None;
        self.last_destination = None;
        self.is_headed = false;
    }

    pub(crate) fn check_persistent(&self) -> Result<(), BatchFull> {
        if self.is_transient {
            return Err(BatchFull::Command { field: "kind" });
        }
        Ok(())
    }

    /// Refuses what would make the batch too long; a command that is alone may take it to the greatest size.
    pub(crate) fn check_room(
        &self,
        queue: Option<&DestinationName>,
        producer: Option<ProducerId>,
        body_bytes: usize,
    ) -> Result<(), BatchFull> {
        let names = queue.map_or(0, |queue| 2 + queue.as_str().len())
            + producer.map_or(0, |_| PRODUCER_BYTES);
        let bytes = self.size_bytes() + COMMAND_BYTES + names + body_bytes;
        let allowed = if self.len() <= usize::from(self.is_headed) {
            BATCH_BYTES_MAX
        } else {
            BATCH_BYTES_TARGET
        };
        if self.len() >= BATCH_COMMANDS_MAX || bytes > allowed {
            return Err(BatchFull::Full);
        }
        Ok(())
    }

    fn push_publish(&mut self, publication: &Publication<'_>, flags: u16, offset: usize) -> u16 {
        let length = self.bodies.len() - offset;
        let record = Record {
            kind: PUBLISH,
            detail: publication.priority,
            destination: self
                .destination(publication.destination.kind, &publication.destination.name),
            producer: self.producer(publication.producer),
            flags: flags | if publication.is_retained { RETAINED } else { 0 },
            first: publication.number,
            second: publication.expires_at_ms,
            offset: bounded_u32(offset),
            length: bounded_u32(length),
        };
        self.push(record)
    }

    /// Adds a command with a body that is no message.
    pub(crate) fn push_with_body(
        &mut self,
        destination: &Destination,
        body: &[u8],
        record: impl FnOnce(u16) -> Record,
    ) -> Result<u16, BatchFull> {
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(BatchFull::Command { field: "body" });
        }
        self.check_room(Some(&destination.name), None, body.len())?;
        let offset = bounded_u32(self.bodies.len());
        self.bodies.put_slice(body);
        let index = self.destination(destination.kind, &destination.name);
        Ok(self.push(Record {
            offset,
            length: bounded_u32(body.len()),
            ..record(index)
        }))
    }

    pub(crate) fn push(&mut self, record: Record) -> u16 {
        let ordinal = bounded_u16(self.len());
        self.records.put_slice(&record.to_bytes());
        ordinal
    }

    pub(crate) fn destination(&mut self, kind: DestinationKind, name: &DestinationName) -> u16 {
        if let Some((last, index)) = &self.last_destination
            && last.kind == kind
            && last.name == *name
        {
            return *index;
        }
        let name = name.clone();
        let destination = Destination { kind, name };
        let index = match self.destination_index.get(&destination) {
            Some(index) => *index,
            None => {
                let index = bounded_u16(self.destination_index.len());
                let text = destination.name.as_str();
                self.destinations.put_u8(match kind {
                    DestinationKind::Queue => QUEUE,
                    DestinationKind::Topic => TOPIC,
                    DestinationKind::Subscription => SUBSCRIPTION,
                });
                self.destinations
                    .put_u8(u8::try_from(text.len()).expect("names have at most 255 bytes"));
                self.destinations.put_slice(text.as_bytes());
                self.destination_index.insert(destination.clone(), index);
                index
            }
        };
        self.last_destination = Some((destination, index));
        index
    }

    pub(crate) fn producer(&mut self, producer: ProducerId) -> u16 {
        if let Some((last, index)) = self.last_producer
            && last == producer
        {
            return index;
        }
        let next = bounded_u16(self.producers.len());
        let index = *self.producer_index.entry(producer).or_insert(next);
        if index == next {
            self.producers.push(producer);
        }
        self.last_producer = Some((producer, index));
        index
    }
}

/// Messages are settled where they wait, not at the topic that they came through.
fn check_holds_messages(kind: DestinationKind) -> Result<(), BatchFull> {
    match kind {
        DestinationKind::Queue | DestinationKind::Subscription => Ok(()),
        DestinationKind::Topic => Err(BatchFull::Command {
            field: "destination",
        }),
    }
}

fn settlement_code(settlement: Settlement) -> u8 {
    match settlement {
        Settlement::Accept => 1,
        Settlement::Release => 2,
        Settlement::Return => 3,
        Settlement::Reject => 4,
        Settlement::Expire => 5,
        Settlement::Cancel => 6,
    }
}

/// Says of a message in its stored encoding whether it belongs to a group, so that applying need not look into it.
fn group_flag(message: &[u8]) -> u16 {
    let group = MessageView::new(message).and_then(|view| view.group());
    group.map_or(0, |_| GROUPED)
}

fn check_publication(publication: &Publication<'_>) -> Result<(), BatchFull> {
    if publication.number == 0 {
        return Err(BatchFull::Command { field: "number" });
    }
    if publication.priority > PRIORITY_MAX {
        return Err(BatchFull::Command { field: "priority" });
    }
    match publication.destination.kind {
        DestinationKind::Queue | DestinationKind::Topic => Ok(()),
        DestinationKind::Subscription => Err(BatchFull::Command {
            field: "destination",
        }),
    }
}

fn bounded_u16(count: usize) -> u16 {
    u16::try_from(count).expect("a batch holds at most 1,024 commands")
}

fn bounded_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch holds at most 2 MiB")
}
