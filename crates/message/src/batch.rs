//! A batch of commands: the payload of one log entry, checked once so that applying it cannot fail.

mod fields;
mod transaction;

use bytes::Bytes;
use thiserror::Error;

use crate::layout::{
    CHECKPOINT, COMMAND_BYTES, CONFIGURE, DECIDE, DELETE, FINISH, FLAG_TRANSIENT, FORGET, GROUPED,
    HEAD_BYTES, PAUSE, PREPARE, PRODUCER_BYTES, PUBLISH, PUBLISH_FIRST, PURGE, QUEUE, REGISTER,
    RELOCATE, RELOCATED, RETAINED, Record, SCHEDULED, SETTLE, SKIP, SUBSCRIBE, SUBSCRIPTION, TICK,
    TOPIC, TRANSFER, TRANSFERRED, UNSUBSCRIBE, VERSION,
};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, MESSAGE_BYTES_MAX, RELOCATION_BYTES_MAX};
use crate::reader::Reader;
use crate::{
    Command, Destination, DestinationKind, DestinationName, MessagePosition, MoveReason,
    PreviousCheckpoint, ProducerId, Relocation, Schedule, Settings, Settlement, Skipped,
    Subscription,
};
use crate::{gateway, relocation};
use fields::check_fields;

/// A checked view over the bytes of a batch. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    destinations: Vec<Destination>,
    commands: u16,
    producers_at: usize,
    bodies_at: usize,
    is_transient: bool,
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// More bytes than a batch may have.
    #[error("batch has {bytes} bytes; at most {BATCH_BYTES_MAX} are allowed")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// A version that this build does not know.
    #[error("batch has version {version}; this build reads version {VERSION}")]
    Version {
        /// Which.
        version: u8,
    },
    /// No command, or more than a batch may have.
    #[error("batch has {commands} commands; 1 to {BATCH_COMMANDS_MAX} are allowed")]
    Count {
        /// How many.
        commands: usize,
    },
    /// The head does not fit what follows it.
    #[error("batch is malformed: its {part} does not fit")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// A destination that no name check lets through, or a kind that this version does not carry.
    #[error("batch names an unusable destination (number {index} of its table)")]
    Destination {
        /// Which.
        index: usize,
    },
    /// A command that cannot be.
    #[error("command {ordinal} of the batch has an invalid {field}")]
    Command {
        /// Which command.
        ordinal: usize,
        /// Which of its fields.
        field: &'static str,
    },
}

impl Batch {
    /// Checks bytes and makes the view. Every offset, count, name and field is checked here, once.
    ///
    /// # Errors
    /// When the bytes are no batch. Messages are not looked into.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge { bytes: bytes.len() });
        }
        let head = Head::read(&bytes)?;
        let producers_at = HEAD_BYTES + head.commands * COMMAND_BYTES;
        let destinations_at = producers_at + head.producers * PRODUCER_BYTES;
        let bodies_at = destinations_at
            .checked_add(head.destination_bytes)
            .filter(|end| *end <= bytes.len())
            .ok_or(BatchError::Malformed { part: "head" })?;
        let destinations =
            read_destinations(&bytes[destinations_at..bodies_at], head.destinations)?;
        let batch = Self {
            destinations,
            commands: u16::try_from(head.commands).expect("at most 1,024"),
            producers_at,
            bodies_at,
            is_transient: head.is_transient,
            bytes,
        };
        batch.check_commands(head.producers)?;
        batch.check_transaction()?;
        Ok(batch)
    }

    /// Whether the head of these bytes is that of a transient batch; none: that of no batch. Cheap, beside `parse`.
    #[must_use]
    pub fn is_transient_by_head(bytes: &[u8]) -> Option<bool> {
        Head::read(bytes).ok().map(|head| head.is_transient)
    }

    /// How many commands there are, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.commands)
    }

    /// Whether all commands are for the leader's memory; if not, none is.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// The destinations that commands name by index.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The destination of this index.
    ///
    /// # Panics
    /// When a command of another batch is asked for; those of this batch were checked.
    #[must_use]
    pub fn destination(&self, index: u16) -> &Destination {
        &self.destinations[usize::from(index)]
    }

    /// The commands in their order, each with its ordinal.
    pub fn commands(&self) -> impl Iterator<Item = (u16, Command)> + '_ {
        self.records().zip(0..).map(|(record, ordinal)| {
            let command = self.command_of(record);
            (ordinal, command.expect("checked when the batch was parsed"))
        })
    }

    /// The command of this ordinal.
    #[must_use]
    pub fn command(&self, ordinal: u16) -> Option<Command> {
        self.command_of(self.record(ordinal)?).ok()
    }

    /// The message that the command of this ordinal publishes, a slice of the batch.
    #[must_use]
    pub fn message(&self, ordinal: u16) -> Option<Bytes> {
        let record = self.record(ordinal)?;
        if record.kind != PUBLISH {
            return None;
        }
        let body = self.body_of(&record)?;
        Some(body.slice(extension_bytes(&record, &body)..))
    }

    /// The schedule of the message that the command of this ordinal publishes, if it has one.
    #[must_use]
    pub fn schedule(&self, ordinal: u16) -> Option<Schedule> {
        let record = self.record(ordinal).filter(is_scheduled)?;
        Schedule::decode(&self.body_of(&record)?).map(|(schedule, _)| schedule)
    }

    /// The body of the command of this ordinal, a slice of the batch; empty for a command without one.
    #[must_use]
    pub fn body(&self, ordinal: u16) -> Option<Bytes> {
        self.body_of(&self.record(ordinal)?)
    }

    /// The subscription that the command of this ordinal makes.
    #[must_use]
    pub fn subscription(&self, ordinal: u16) -> Option<Subscription> {
        let record = self.record(ordinal)?;
        let body = self.body_of(&record).filter(|_| record.kind == SUBSCRIBE)?;
        Subscription::decode(&body)
    }

    /// What the command of this ordinal says that a selector came to.
    #[must_use]
    pub fn skipped(&self, ordinal: u16) -> Option<Skipped> {
        let record = self.record(ordinal)?;
        let body = self.body_of(&record).filter(|_| record.kind == SKIP)?;
        Skipped::decode(&body)
    }

    /// The record of a publish, and its producer.
    pub(crate) fn publish_record(&self, ordinal: u16) -> Option<(Record, ProducerId)> {
        let record = self.record(ordinal)?;
        (record.kind == PUBLISH).then(|| (record, self.producer(record.producer)))
    }

    /// The length of the batch in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of the batch, as they are stored.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let (records, _) = self.bytes[HEAD_BYTES..self.producers_at].as_chunks();
        records.iter().map(Record::from_bytes)
    }

    fn record(&self, ordinal: u16) -> Option<Record> {
        let (records, _) = self.bytes[HEAD_BYTES..self.producers_at].as_chunks();
        records.get(usize::from(ordinal)).map(Record::from_bytes)
    }

    fn body_of(&self, record: &Record) -> Option<Bytes> {
        let start = self.bodies_at + usize::try_from(record.offset).ok()?;
        let end = start + usize::try_from(record.length).ok()?;
        Some(self.bytes.slice(start..end))
    }

    pub(crate) fn producer(&self, index: u16) -> ProducerId {
        let start = self.producers_at + usize::from(index) * PRODUCER_BYTES;
        let bytes = self.bytes[start..].first_chunk();
        ProducerId(*bytes.expect("indices are checked against the table"))
    }

    /// What a record says, or the field of it that cannot be. Indices into the tables are checked by the caller.
    fn command_of(&self, record: Record) -> Result<Command, &'static str> {
        let destination = record.destination;
        Ok(match record.kind {
            PUBLISH => Command::Publish {
                destination,
                producer: self.producer(record.producer),
                number: record.first,
                priority: record.detail,
                expires_at_ms: record.second,
                is_scheduled: is_scheduled(&record),
                size_bytes: record.length,
                is_retained: record.flags & RETAINED != 0,
                is_first: record.flags & PUBLISH_FIRST != 0,
                is_grouped: record.flags & GROUPED != 0,
                is_relocated: is_relocated(&record),
            },
            SETTLE => Command::Settle {
                destination,
                position: MessagePosition::from_value(record.first),
                settlement: settlement(record.detail).ok_or("settlement")?,
            },
            PURGE => Command::Purge { destination },
            CONFIGURE => Command::Configure {
                version: record.first,
            },
            PAUSE => Command::Pause {
                destination,
                is_paused: record.detail == 1,
            },
            TRANSFER => Command::Transfer {
                destination,
                position: MessagePosition::from_value(record.first),
                target: record.producer,
                reason: MoveReason::from_code(record.detail).ok_or("reason")?,
                due_ms: record.second,
            },
            TRANSFERRED => Command::Transferred {
                destination,
                first: record.first,
                last: record.second,
            },
            SUBSCRIBE | UNSUBSCRIBE | SKIP | REGISTER | DELETE => coming_or_going(&record),
            CHECKPOINT => Command::Checkpoint {
                previous: (record.detail == 1).then_some(PreviousCheckpoint {
                    entry: record.first,
                    digest: record.second,
                }),
            },
            PREPARE | DECIDE | FINISH | FORGET => self.transaction_command(&record)?,
            TICK => Command::Tick {
                until_ms: record.first,
            },
            RELOCATE => relocation::command(&record)?,
            kind if gateway::is_about(kind) => self.gateway_command(&record),
            _ => return Err("kind"),
        })
    }

    fn check_commands(&self, producers: usize) -> Result<(), BatchError> {
        let mut bodies_end = 0_usize;
        for (record, ordinal) in self.records().zip(0..) {
            let fail = |field| BatchError::Command { ordinal, field };
            self.check_indices(&record, producers).map_err(fail)?;
            match transaction::is_about(record.kind) {
                true => transaction::check_fields(&record, self.is_transient).map_err(fail)?,
                false => check_fields(&record, self.is_transient).map_err(fail)?,
            }
            if has_body(record.kind) {
                // Bodies lie side by side: none is stored twice over, so that what a batch costs is its size.
                let offset = usize::try_from(record.offset).map_err(|_| fail("offset"))?;
                let length = usize::try_from(record.length).map_err(|_| fail("length"))?;
                if offset != bodies_end {
                    return Err(fail("offset"));
                }
                // What moves with its name brings some bytes along.
                let front = usize::from(is_relocated(&record)) * RELOCATION_BYTES_MAX;
                if length > MESSAGE_BYTES_MAX + front {
                    return Err(fail("length"));
                }
                bodies_end += length;
                if self.bodies_at + bodies_end > self.bytes.len() {
                    return Err(BatchError::Malformed { part: "length" });
                }
                self.check_body(&record).map_err(fail)?;
            }
        }
        if self.bodies_at + bodies_end != self.bytes.len() {
            return Err(BatchError::Malformed { part: "length" });
        }
        self.check_bodies()
    }

    /// Checks the bodies that apply reads.
    fn check_bodies(&self) -> Result<(), BatchError> {
        for (record, ordinal) in self.records().zip(0..) {
            let is_configure = record.kind == CONFIGURE;
            let body = is_configure.then(|| self.body_of(&record)).flatten();
            let rules = body.and_then(|body| Settings::decode(&body));
            if is_configure && rules.is_none_or(|rules| rules.version() != record.first) {
                let field = "rules";
                return Err(BatchError::Command { ordinal, field });
            }
        }
        Ok(())
    }

    fn check_indices(&self, record: &Record, producers: usize) -> Result<(), &'static str> {
        let names_transaction = transaction::is_about(record.kind);
        let names_gateway = gateway::names(record.kind);
        let names_destination = !names_transaction
            && !names_gateway
            && !matches!(record.kind, CHECKPOINT | CONFIGURE | TICK);
        if names_destination && usize::from(record.destination) >= self.destinations.len() {
            return Err("destination");
        }
        let names_producer = names_gateway || record.kind == PUBLISH || names_transaction;
        if names_producer && usize::from(record.producer) >= producers {
            return Err("producer");
        }
        if names_second_destination(record)
            && usize::from(record.producer) >= self.destinations.len()
        {
            return Err("target");
        }
        if names_destination {
            let kind = self.destination(record.destination).kind;
            if !takes(record.kind, kind) {
                return Err("destination");
            }
        }
        Ok(())
    }

    /// Checks the body of a command that is no message. The body lies within the batch.
    fn check_body(&self, record: &Record) -> Result<(), &'static str> {
        let body = || self.body_of(record).ok_or("length");
        match record.kind {
            SUBSCRIBE => Subscription::decode(&body()?).map(drop).ok_or("body"),
            SKIP => Skipped::decode(&body()?).map(drop).ok_or("body"),
            PUBLISH if is_scheduled(record) => {
                Schedule::decode(&body()?).map(drop).ok_or("schedule")
            }
            PUBLISH if is_relocated(record) => {
                Relocation::decode(&body()?).map(drop).ok_or("relocation")
            }
            _ => Ok(()),
        }
    }
}

/// What a record says of a queue, topic or subscription that comes or goes, or of what a subscription selects.
fn coming_or_going(record: &Record) -> Command {
    let destination = record.destination;
    match record.kind {
        SUBSCRIBE => Command::Subscribe {
            destination,
            by_move: record.first,
        },
        UNSUBSCRIBE => Command::Unsubscribe {
            destination,
            generation: record.first,
            unless_of: (record.detail == 1).then_some(record.producer),
        },
        SKIP => Command::Skip {
            destination,
            made: record.first,
            judged_to: MessagePosition::from_value(record.second),
        },
        REGISTER => Command::Register {
            destination,
            by_move: record.first,
        },
        _ => Command::Delete {
            destination,
            with_messages: record.detail == 1,
        },
    }
}

/// Whether the record has the index of another destination where others have that of a producer.
fn names_second_destination(record: &Record) -> bool {
    record.kind == TRANSFER || record.kind == UNSUBSCRIBE && record.detail == 1
}

/// Whether a command of this kind can be about a destination of that one.
fn takes(command: u8, kind: DestinationKind) -> bool {
    match (command, kind) {
        (PUBLISH, DestinationKind::Subscription) => false,
        (PUBLISH, DestinationKind::Queue | DestinationKind::Topic) => true,
        (RELOCATE | DELETE, DestinationKind::Subscription) => false,
        (SUBSCRIBE | UNSUBSCRIBE | SKIP, kind) => kind == DestinationKind::Subscription,
        (REGISTER, kind) => kind == DestinationKind::Queue,
        (TRANSFERRED, _) => true,
        (_, DestinationKind::Queue | DestinationKind::Subscription) => true,
        // What is scheduled for a topic can be cancelled there, and moves with it.
        (SETTLE | TRANSFER | RELOCATE | DELETE, DestinationKind::Topic) => true,
        (_, DestinationKind::Topic) => false,
    }
}

struct Head {
    is_transient: bool,
    commands: usize,
    destinations: usize,
    producers: usize,
    destination_bytes: usize,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        const SHORT: BatchError = BatchError::Malformed { part: "head" };
        let mut reader = Reader::new(bytes);
        let version = reader.u8().ok_or(SHORT)?;
        if version != VERSION {
            return Err(BatchError::Version { version });
        }
        let flags = reader.u8().ok_or(SHORT)?;
        let commands = usize::from(reader.u16().ok_or(SHORT)?);
        let destinations = usize::from(reader.u16().ok_or(SHORT)?);
        let producers = usize::from(reader.u16().ok_or(SHORT)?);
        let destination_bytes = reader.u32().ok_or(SHORT)?;
        let zero = reader.u32().ok_or(SHORT)?;
        if commands == 0 || commands > BATCH_COMMANDS_MAX {
            return Err(BatchError::Count { commands });
        }
        if flags & !FLAG_TRANSIENT != 0 || zero != 0 {
            return Err(SHORT);
        }
        // A transfer names two.
        if destinations > 2 * commands || producers > commands {
            return Err(BatchError::Malformed { part: "tables" });
        }
        Ok(Self {
            is_transient: flags & FLAG_TRANSIENT != 0,
            commands,
            destinations,
            producers,
            destination_bytes: usize::try_from(destination_bytes).map_err(|_| SHORT)?,
        })
    }
}

fn read_destinations(bytes: &[u8], count: usize) -> Result<Vec<Destination>, BatchError> {
    let mut reader = Reader::new(bytes);
    let mut destinations = Vec::with_capacity(count);
    for index in 0..count {
        let fail = BatchError::Destination { index };
        let kind = match reader.u8() {
            Some(QUEUE) => DestinationKind::Queue,
            Some(TOPIC) => DestinationKind::Topic,
            Some(SUBSCRIPTION) => DestinationKind::Subscription,
            Some(_) | None => return Err(fail),
        };
        let name = reader.short_text().ok_or(fail)?;
        let name = DestinationName::new(name).map_err(|_| fail)?;
        destinations.push(Destination { kind, name });
    }
    if reader.position() != bytes.len() {
        return Err(BatchError::Malformed {
            part: "destination table",
        });
    }
    Ok(destinations)
}

fn is_scheduled(record: &Record) -> bool {
    record.kind == PUBLISH && record.flags & SCHEDULED != 0
}

fn is_relocated(record: &Record) -> bool {
    record.kind == PUBLISH && record.flags & RELOCATED != 0
}

/// Length of what lies before the message in its body.
fn extension_bytes(record: &Record, body: &[u8]) -> usize {
    match body.first() {
        Some(length) if is_scheduled(record) => 1 + usize::from(*length),
        Some(_) if is_relocated(record) => Relocation::decode(body).map_or(0, |(_, bytes)| bytes),
        Some(_) | None => 0,
    }
}

/// Whether commands of this kind have a body.
fn has_body(kind: u8) -> bool {
    matches!(
        kind,
        PUBLISH | CONFIGURE | SUBSCRIBE | SKIP | PREPARE | DECIDE | FORGET | RELOCATE
    )
}

fn settlement(detail: u8) -> Option<Settlement> {
    match detail {
        1 => Some(Settlement::Accept),
        2 => Some(Settlement::Release),
        3 => Some(Settlement::Return),
        4 => Some(Settlement::Reject),
        5 => Some(Settlement::Expire),
        6 => Some(Settlement::Cancel),
        _ => None,
    }
}
