//! A name moves from one shard to another: the steps in both logs, and what a message brings along.
//!
//! What a relocated message brings stands in front of it, in the body of its publish:
//!
//! ```text
//! length of the numbers and cron u8, count u32, flags u8, due u64, period u64, left u32, cron text,
//!     with flag 4: published u64, retained u8
//!     with flag 2: subscriptions u16, each: key short text, count u32, was sent u8
//! flags: 1 it was sent, 2 it is pending in subscriptions, 4 its topic keeps it
//! ```

use bytes::{BufMut, BytesMut};

use crate::layout::{RELOCATE, RELOCATED, Record};
use crate::limits::{CRON_BYTES_MAX, MESSAGE_BYTES_MAX, RELOCATION_BYTES_MAX};
use crate::reader::Reader;
use crate::{
    Batch, BatchBuilder, BatchFull, Command, Cron, Destination, DestinationName, MessageError,
    Publication,
};

/// A step of the move of a name. Some are the source's to log, the others the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The name is to leave, unless something stands against it.
    Leave,
    /// The name is to come: nobody but the source sends to it.
    Expect,
    /// The target expects it: nothing of it is delivered here any more, and what is here goes there.
    Ship,
    /// The target cannot take it: it stays.
    Stay,
    /// Nothing is taken in any more.
    Cut,
    /// What the source knows of its producers.
    Adopt,
    /// Everything has come: the name lives here.
    Open,
    /// Everything is gone.
    Depart,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Leave,
        Self::Expect,
        Self::Ship,
        Self::Stay,
        Self::Cut,
        Self::Adopt,
        Self::Open,
        Self::Depart,
    ];

    /// Whether the shard that the name goes to logs it, for the one that it leaves.
    #[must_use]
    pub fn is_of_target(self) -> bool {
        match self {
            Self::Expect | Self::Adopt | Self::Open => true,
            Self::Leave | Self::Ship | Self::Stay | Self::Cut | Self::Depart => false,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Leave => 1,
            Self::Expect => 2,
            Self::Ship => 3,
            Self::Stay => 4,
            Self::Cut => 5,
            Self::Adopt => 6,
            Self::Open => 7,
            Self::Depart => 8,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.code() == code)
    }
}

/// The move of a name, as each of its steps names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relocating {
    /// Of two moves the later one has the higher number; from 1.
    pub number: u64,
    /// The shard that the name leaves.
    pub from: u32,
    /// The shard that it goes to.
    pub to: u32,
}

/// What a message that moves with its name brings along.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Relocation {
    /// How often it was returned.
    pub count: u32,
    /// Somebody had it, or may have had.
    pub was_sent: bool,
    /// When it is to be delivered, in milliseconds since 1970; 0: at once.
    pub due_ms: u64,
    /// Between one delivery and the next, if it is delivered repeatedly.
    pub period_ms: u64,
    /// Deliveries to come, if it is delivered repeatedly, [`crate::Schedule::FOREVER`] without end; 0 if it is not.
    pub left: u32,
    /// The cron expression by which it is delivered; empty for none.
    pub cron: String,
    /// Of a topic's message that its topic keeps, what for.
    pub kept: Option<Kept>,
    /// Of a topic's message, the subscriptions to the topic that it is pending in.
    pub pending: Vec<PendingIn>,
}

/// What a topic keeps a message for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kept {
    /// When it was published, in milliseconds since 1970, if it may be replayed; 0 if not.
    pub published_ms: u64,
    /// It is the topic's retained message.
    pub is_retained: bool,
}

/// A subscription that a message is pending in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingIn {
    /// The key of the subscription.
    pub subscription: DestinationName,
    /// How often it was returned there.
    pub count: u32,
    /// Somebody had it from there, or may have had.
    pub was_sent: bool,
}

impl PendingIn {
    /// Length of the encoding.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        6 + self.subscription.as_str().len()
    }
}

/// Bytes of the numbers of the encoding.
const NUMBERS_BYTES: usize = 25;

const WAS_SENT: u8 = 1;
const IS_PENDING: u8 = 2;
const IS_KEPT: u8 = 4;

impl Relocation {
    /// Length of the encoding.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let kept = self.kept.map_or(0, |_| 9);
        let pending: usize = self.pending.iter().map(PendingIn::encoded_bytes).sum();
        let count = if self.pending.is_empty() { 0 } else { 2 };
        1 + NUMBERS_BYTES + self.cron.len() + kept + count + pending
    }

    /// Whether one more subscription that it is pending in has room.
    #[must_use]
    pub fn has_room_for(&self, more: &PendingIn) -> bool {
        self.encoded_bytes() + 2 + more.encoded_bytes() <= RELOCATION_BYTES_MAX
    }

    /// Appends the encoding.
    ///
    /// # Panics
    /// When the cron expression is longer than one can be, or it is pending in more subscriptions than there is room for.
    pub fn encode(&self, into: &mut impl BufMut) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let length = NUMBERS_BYTES + self.cron.len();
        into.put_u8(u8::try_from(length).expect("a cron expression is short"));
        into.put_u32_le(self.count);
        into.put_u8(
            flag(self.was_sent, WAS_SENT)
                | flag(!self.pending.is_empty(), IS_PENDING)
                | flag(self.kept.is_some(), IS_KEPT),
        );
        into.put_u64_le(self.due_ms);
        into.put_u64_le(self.period_ms);
        into.put_u32_le(self.left);
        into.put_slice(self.cron.as_bytes());
        if let Some(kept) = self.kept {
            into.put_u64_le(kept.published_ms);
            into.put_u8(u8::from(kept.is_retained));
        }
        if self.pending.is_empty() {
            return;
        }
        let count = u16::try_from(self.pending.len()).expect("`has_room_for` is asked before");
        into.put_u16_le(count);
        for pending in &self.pending {
            let key = pending.subscription.as_str();
            into.put_u8(u8::try_from(key.len()).expect("names have at most 255 bytes"));
            into.put_slice(key.as_bytes());
            into.put_u32_le(pending.count);
            into.put_u8(u8::from(pending.was_sent));
        }
    }

    /// Reads it off the front of a body, and how long it was.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(body);
        let length = usize::from(reader.u8()?);
        let count = reader.u32()?;
        let flags = reader.u8()?;
        let has = |flag| flags & flag != 0;
        if flags & !(WAS_SENT | IS_PENDING | IS_KEPT) != 0 {
            return None;
        }
        let mut relocation = Self {
            count,
            was_sent: has(WAS_SENT),
            due_ms: reader.u64()?,
            period_ms: reader.u64()?,
            left: reader.u32()?,
            ..Self::default()
        };
        let cron = reader.take(length.checked_sub(NUMBERS_BYTES)?)?;
        std::str::from_utf8(cron)
            .ok()?
            .clone_into(&mut relocation.cron);
        if has(IS_KEPT) {
            relocation.kept = Some(Kept {
                published_ms: reader.u64()?,
                is_retained: flag_of(reader.u8()?)?,
            });
        }
        if has(IS_PENDING) {
            let count = reader.u16().filter(|count| *count > 0)?;
            for _ in 0..count {
                relocation.pending.push(PendingIn {
                    subscription: DestinationName::new(reader.short_text()?).ok()?,
                    count: reader.u32()?,
                    was_sent: flag_of(reader.u8()?)?,
                });
            }
        }
        let bytes = reader.position();
        let is_cron = relocation.cron.is_empty() || Cron::parse(&relocation.cron).is_ok();
        let is_good = is_cron && relocation.cron.len() <= CRON_BYTES_MAX;
        (is_good && bytes <= RELOCATION_BYTES_MAX).then_some((relocation, bytes))
    }
}

fn flag_of(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

impl BatchBuilder {
    /// Adds a step of the move of a name and returns the command's ordinal. The destination is a queue or a topic; the
    /// body is what the step brings.
    ///
    /// # Errors
    /// When the batch is full or transient, the body too long, or the number zero.
    pub fn relocate(
        &mut self,
        destination: &Destination,
        step: Step,
        relocating: Relocating,
        body: &[u8],
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        if relocating.number == 0 {
            return Err(BatchFull::Command { field: "number" });
        }
        self.push_with_body(destination, body, |destination| Record {
            kind: RELOCATE,
            detail: step.code(),
            destination,
            first: relocating.number,
            second: u64::from(relocating.from) << 32 | u64::from(relocating.to),
            ..Record::default()
        })
    }

    /// Adds a publish of a message that moves with its name, and returns the command's ordinal.
    ///
    /// # Errors
    /// When the batch is full or transient, or the message too large.
    pub fn publish_relocated(
        &mut self,
        publication: &Publication<'_>,
        relocation: &Relocation,
        message: &[u8],
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        let bytes = relocation.encoded_bytes() + message.len();
        // What was stored has at most the greatest size by itself.
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { bytes }.into());
        }
        let mut head = BytesMut::with_capacity(relocation.encoded_bytes());
        relocation.encode(&mut head);
        self.publish_with(publication, (&head, RELOCATED), message)
    }
}

impl Batch {
    /// What the message that the command of this ordinal publishes brings along, if it moves with its name.
    #[must_use]
    pub fn relocation(&self, ordinal: u16) -> Option<Relocation> {
        let (record, _) = self.publish_record(ordinal)?;
        let is_relocated = record.flags & RELOCATED != 0;
        let body = self.body(ordinal).filter(|_| is_relocated)?;
        Relocation::decode(&body).map(|(relocation, _)| relocation)
    }
}

/// The command that a record of the move of a name is.
pub(crate) fn command(record: &Record) -> Result<Command, &'static str> {
    let from = u32::try_from(record.second >> 32).map_err(|_| "shards")?;
    let to = u32::try_from(record.second & u64::from(u32::MAX)).map_err(|_| "shards")?;
    Ok(Command::Relocate {
        destination: record.destination,
        step: Step::of_code(record.detail).ok_or("step")?,
        relocating: Relocating {
            number: record.first,
            from,
            to,
        },
    })
}

/// Checks such a record, and clears what it uses.
pub(crate) fn check(record: &mut Record, is_transient: bool) -> Result<(), &'static str> {
    if is_transient {
        return Err("kind");
    }
    Step::of_code(record.detail).ok_or("step")?;
    if record.first == 0 {
        return Err("number");
    }
    (
        record.detail,
        record.destination,
        record.first,
        record.second,
    ) = (0, 0, 0, 0);
    (record.offset, record.length) = (0, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::ProducerId;

    fn pending_in((key, count, was_sent): (&str, u32, bool)) -> PendingIn {
        PendingIn {
            subscription: DestinationName::new(key).expect("a good name"),
            count,
            was_sent,
        }
    }

    fn orders() -> Destination {
        Destination::queue(DestinationName::new("orders").expect("a good name"))
    }

    #[test]
    fn steps_and_messages_of_a_move_come_back_from_a_batch() {
        let relocating = Relocating {
            number: 7,
            from: 3,
            to: u32::MAX,
        };
        let relocation = Relocation {
            count: 2,
            was_sent: true,
            due_ms: 1 << 40,
            period_ms: 0,
            left: 5,
            cron: "*/5 * * * *".to_owned(),
            kept: Some(Kept {
                published_ms: 1 << 41,
                is_retained: true,
            }),
            pending: [("a", 3, true), ("b", 0, false)].map(pending_in).to_vec(),
        };
        let publication = Publication {
            destination: &orders(),
            producer: ProducerId::of_shard(3),
            number: 9,
            priority: 8,
            expires_at_ms: 0,
            is_retained: false,
        };
        let mut builder = BatchBuilder::persistent();
        for step in Step::ALL {
            let added = builder.relocate(&orders(), step, relocating, b"body");
            added.expect("room");
        }
        builder
            .publish_relocated(&publication, &relocation, b"message")
            .expect("room");
        let batch = Batch::parse(builder.finish()).expect("a good batch");
        for (ordinal, step) in (0..).zip(Step::ALL) {
            let expected = Command::Relocate {
                destination: 0,
                step,
                relocating,
            };
            assert_eq!(batch.command(ordinal), Some(expected));
            assert_eq!(batch.body(ordinal).as_deref(), Some(&b"body"[..]));
        }
        assert_eq!(batch.relocation(8), Some(relocation));
        assert_eq!(batch.message(8), Some(Bytes::from_static(b"message")));
        assert_eq!(batch.relocation(7), None);
    }

    #[test]
    fn what_a_message_brings_is_refused_unless_it_is_whole() {
        let relocation = Relocation {
            left: 1,
            cron: "* * * * *".to_owned(),
            kept: Some(Kept::default()),
            pending: vec![pending_in(("a", 1, false))],
            ..Relocation::default()
        };
        let mut bytes = BytesMut::new();
        relocation.encode(&mut bytes);
        assert_eq!(Relocation::decode(&bytes), Some((relocation, bytes.len())));
        for length in 0..bytes.len() {
            assert_eq!(Relocation::decode(&bytes[..length]), None, "{length}");
        }
        bytes[5] |= 8;
        assert_eq!(Relocation::decode(&bytes), None, "a flag that is none");
    }

    #[test]
    fn what_a_message_brings_has_a_bound() {
        let mut relocation = Relocation::default();
        let more = pending_in((&"k".repeat(255), 1, true));
        while relocation.has_room_for(&more) {
            relocation.pending.push(more.clone());
        }
        let mut bytes = BytesMut::new();
        relocation.encode(&mut bytes);
        assert_eq!(relocation.encoded_bytes(), bytes.len());
        assert!(bytes.len() <= RELOCATION_BYTES_MAX);
        assert!(Relocation::decode(&bytes).is_some());
        relocation.pending.push(more);
        bytes.clear();
        relocation.encode(&mut bytes);
        assert_eq!(Relocation::decode(&bytes), None);
    }
}
