//! The layout of a batch, shared by the one that writes it and the one that reads it.
//!
//! ```text
//! head         16 bytes  version u8, flags u8, commands u16, destinations u16, producers u16,
//!                        bytes of the destination table u32, zero u32
//! commands     32 bytes each, see `COMMAND_*`
//! producers    16 bytes each
//! destinations kind u8, length u8, name
//! bodies       those of the commands that have one, in their order, without gaps
//! ```
//! All numbers are little-endian. A batch has exactly one encoding of its commands: what is unused is zero.

/// The version that is written and read.
pub(crate) const VERSION: u8 = 2;

/// Set when no command touches the log: the batch is for the leader's memory.
pub(crate) const FLAG_TRANSIENT: u8 = 1;

/// Length of the head.
pub(crate) const HEAD_BYTES: usize = 16;

/// Length of one record of the index.
pub(crate) const COMMAND_BYTES: usize = 32;

/// Length of one record of the producer table.
pub(crate) const PRODUCER_BYTES: usize = 16;

/// Kinds of command.
pub(crate) const PUBLISH: u8 = 1;
pub(crate) const SETTLE: u8 = 2;
pub(crate) const PURGE: u8 = 3;
pub(crate) const CHECKPOINT: u8 = 4;
pub(crate) const GATEWAY_ATTACHED: u8 = 8;
pub(crate) const GATEWAY_LOST: u8 = 10;
pub(crate) const DISPATCHED: u8 = 11;
pub(crate) const SUBSCRIBE: u8 = 12;
pub(crate) const UNSUBSCRIBE: u8 = 13;
pub(crate) const REGISTER: u8 = 15;
pub(crate) const DELETE: u8 = 14;
pub(crate) const SKIP: u8 = 18;
pub(crate) const CONFIGURE: u8 = 6;
pub(crate) const PAUSE: u8 = 7;
pub(crate) const TRANSFER: u8 = 16;
pub(crate) const TRANSFERRED: u8 = 17;
pub(crate) const TICK: u8 = 5;
pub(crate) const ORIGIN: u8 = 24;
pub(crate) const RELOCATE: u8 = 30;

pub(crate) const PREPARE: u8 = 20;
pub(crate) const DECIDE: u8 = 21;
pub(crate) const FINISH: u8 = 22;
pub(crate) const FORGET: u8 = 23;

/// The owner of what is prepared in the owner's own shard.
pub(crate) const OWNER_HERE: u32 = u32::MAX;

/// Kinds of destination.
pub(crate) const QUEUE: u8 = 1;
pub(crate) const TOPIC: u8 = 2;
pub(crate) const SUBSCRIPTION: u8 = 3;

/// Flag of a publish: its topic keeps it for those who subscribe later.
pub(crate) const RETAINED: u16 = 4;

/// Flag of a publish: the message belongs to a group.
pub(crate) const GROUPED: u16 = 2;

/// Set on a publish whose body begins with a [`crate::Schedule`]: length of the rest u8, delay u64, period u64,
/// repeat u32, cron text.
pub(crate) const SCHEDULED: u16 = 1;

/// Set on a publish of a shard whose message moves with its name: its body begins with a [`crate::Relocation`].
pub(crate) const RELOCATED: u16 = 8;

/// What the flags of a publish may be.
pub(crate) const PUBLISH_FLAGS: u16 = SCHEDULED | GROUPED | RETAINED | PUBLISH_FIRST | RELOCATED;

/// No message of the producer for this destination with a lower number waits to be sent again.
pub(crate) const PUBLISH_FIRST: u16 = 16;

/// One record of the index, in the order of its fields:
///
/// | offset | field | publish | settle | purge | checkpoint |
/// |---|---|---|---|---|---|
/// | 0 | kind u8 | 1 | 2 | 3 | 4 |
/// | 1 | detail u8 | priority | settlement | 0 | 1 when there is a previous one |
/// | 2 | destination u16 | index | index | index | 0 |
/// | 4 | producer u16 | index | 0 | 0 | 0 |
/// | 6 | flags u16 | of the kind | 0 | 0 | 0 |
/// | 8 | first u64 | number | position | 0 | previous entry |
/// | 16 | second u64 | expiry | 0 | 0 | previous digest |
/// | 24 | offset u32 | of the body in the bodies | 0 | 0 | 0 |
/// | 28 | length u32 | of the body: the extensions that the flags name, and the message | 0 | 0 | 0 |
///
/// A tick (5) has in `first` the time up to which things are due. A command without a body has zero for both. Those of
/// the outbox:
///
/// | field | transfer (16) | transferred (17) |
/// |---|---|---|
/// | detail | reason | 0 |
/// | destination | index of the queue | index of the target |
/// | producer | index of the target in the destinations | 0 |
/// | first | position | first number |
/// | second | when it is due, for one that moves with its name | last number |
///
/// Those about topics:
///
/// | field | subscribe | unsubscribe | register | skip |
/// |---|---|---|---|---|
/// | kind | 12 | 13 | 15 | 18 |
/// | destination | the subscription | the subscription | the queue | the subscription |
/// | first | 0 | generation | 0 | the entry that made it |
/// | second | 0 | 0 | 0 | position |
/// | body | `Subscription` | none | none | `Skipped` |
///
/// The deletion of a queue or topic (14) has 1 in `detail` when messages go with it.
///
/// And those of settings:
///
/// | field | configure (6) | pause (7) |
/// |---|---|---|
/// | detail | 0 | 1 to pause, 2 to resume |
/// | destination | 0 | index of the queue |
/// | first | version of the rules | 0 |
/// | body | the rules, as `settings/codec.rs` has them | none |
///
/// The commands of transactions:
///
/// | field | prepare | decide | finish | forget |
/// |---|---|---|---|---|
/// | kind | 20 | 21 | 22 | 23 |
/// | detail | 0 | 1 commit, 2 rollback | 1 commit, 2 rollback | 0 |
/// | producer | of the transaction | the same | the same | the same |
/// | flags | part | parts | 0 | 0 |
/// | first | number of the transaction | the same | the same | the same |
/// | second | attempt | attempt | attempt | attempt |
/// | body | owner u32, all ones for this shard | participants u32 each | | participant u32 |
///
/// Those about gateways, which are named in the producer table:
///
/// | kind | detail | destination | producer | first |
/// |---|---|---|---|---|
/// | 8 gateway attached | 0 | 0 | gateway | 0 |
/// | 10 gateway lost | 1 when what it held is known | 0 | gateway | 0 |
/// | 11 dispatched | 0 | index | 0 | the bound |
/// | 24 origin | 0 | 0 | gateway | number |
///
/// A step of the move of a name (30) has the step in `detail`, the queue or topic of the name in `destination`, the
/// number of the move in `first`, and in `second` the shard that it leaves, in the upper half, and the one that it
/// goes to; its body is what the step brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: u8,
    pub(crate) detail: u8,
    pub(crate) destination: u16,
    pub(crate) producer: u16,
    pub(crate) flags: u16,
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl Record {
    /// The bytes of the record.
    pub(crate) fn to_bytes(self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[0] = self.kind;
        bytes[1] = self.detail;
        bytes[2..4].copy_from_slice(&self.destination.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.producer.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.second.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.offset.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// The record that these bytes are.
    pub(crate) fn from_bytes(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let [k, d, d0, d1, p0, p1, f0, f1, rest @ ..] = *bytes;
        let (first, rest) = rest.split_first_chunk().expect("24 bytes are left");
        let (second, rest) = rest.split_first_chunk().expect("16 bytes are left");
        let (offset, rest) = rest.split_first_chunk().expect("8 bytes are left");
        let length = rest.first_chunk().expect("4 bytes are left");
        Self {
            kind: k,
            detail: d,
            destination: u16::from_le_bytes([d0, d1]),
            producer: u16::from_le_bytes([p0, p1]),
            flags: u16::from_le_bytes([f0, f1]),
            first: u64::from_le_bytes(*first),
            second: u64::from_le_bytes(*second),
            offset: u32::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length),
        }
    }
}
