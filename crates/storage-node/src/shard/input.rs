//! What a shard is told. Inputs are facts; they come in any order that the outside produces.

use std::sync::Arc;

use bytes::Bytes;
use quorate_broker::{Credit, Leaving, SessionId, Terms};
use quorate_message::{
    ConsumerId, Destination, DestinationName, GatewayId, MessagePosition, Overrides, Settings, slot,
};
use quorate_replication::{
    Entry, Index, Message, NodeId, Nonce, Order, Position, ShardId, Stamp, Time, WriteId,
};

use super::{between::ShardMessage, moving::MoveQuery};

/// The two clocks of a step: one that only runs forward, for deadlines, and the wall clock, for stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock {
    /// Monotonic, runs through suspension.
    pub time: Time,
    /// Milliseconds since 1970.
    pub stamp: Stamp,
}

/// What the coordinator thinks of a node's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockJudgement {
    /// Nothing: it has not said.
    #[default]
    Unknown,
    /// It agrees with those of most nodes.
    Agrees,
    /// It is off.
    Off {
        /// How far it is ahead of those of most nodes, in milliseconds; negative: behind.
        ahead_ms: i64,
    },
}

/// Names a request of the shard (a read, a checkpoint) in its answer. Fresh for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The state of the broker at one index of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// The last entry that it contains.
    pub at: Position,
    /// Stamp of that entry.
    pub stamp: Stamp,
    /// The broker's own encoding.
    pub state: Bytes,
}

/// One closed segment of the log: it is dropped as a whole or stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentInfo {
    /// Index of its first entry; names the segment.
    pub first: Index,
    /// Index of its last entry.
    pub last: Index,
    /// Bytes that it takes on the disk.
    pub size_bytes: u64,
}

/// Where destinations live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// By the number of the slot.
    pub slots: Arc<[ShardId]>,
    /// Names that live elsewhere.
    pub overrides: Arc<Overrides>,
}

impl Placement {
    /// The shard of a destination, while it is moved the one that it leaves; none if the map is not whole.
    #[must_use]
    pub fn shard_of(&self, name: &DestinationName) -> Option<ShardId> {
        if let Some(place) = self.overrides.place(name) {
            let shard = place.moving.map_or(place.shard, |moving| moving.from);
            return Some(ShardId(shard));
        }
        self.slots.get(usize::from(slot(name).0)).copied()
    }
}

/// A batch that a gateway wants in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission {
    /// The session that gets the answer.
    pub session: SessionId,
    /// The gateway's name for it in the answer.
    pub number: u64,
    /// Of the session's batches before it in its lane, the last one that was not answered when this was sent; none:
    /// all were.
    pub previous: Option<u64>,
    /// The batch, in its stored encoding.
    pub batch: Bytes,
}

/// What a session asks for, besides batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// A consumer wants messages.
    Attach {
        /// The consumer.
        consumer: ConsumerId,
        /// Of two attachments of one consumer the higher one counts.
        generation: u64,
        /// The queue or subscription that it reads.
        queue: Destination,
        /// What may be sent to it.
        credit: Credit,
        /// What it holds from before.
        held: Vec<MessagePosition>,
        /// On what terms it takes messages.
        terms: Terms,
        /// Its credit is a share of what it has at several shards.
        shares_credit: bool,
    },
    /// What is left of a consumer's credit is wanted back.
    Recall {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: u64,
    },
    /// A consumer leaves.
    Detach {
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment that ends.
        generation: u64,
    },
    /// More may be sent to a consumer.
    Credit {
        /// The consumer.
        consumer: ConsumerId,
        /// How much more.
        credit: Credit,
    },
    /// The gateway tells what it settles and does not claim. Comes before its attachments.
    Report {
        /// It starts over: attachments and `Reported` follow.
        is_first: bool,
        /// The messages.
        leaving: Vec<Leaving>,
    },
    /// The gateway has said all that it holds of this shard.
    Reported,
    /// The gateway ends and has settled everything.
    Leave,
}

/// A page of a queue is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrowseQuery {
    /// Names the query in its answer; the asker's.
    pub query: u64,
    /// The queue.
    pub queue: DestinationName,
    /// The position after which the page starts; none: from the oldest.
    pub after: Option<MessagePosition>,
    /// Messages wanted; bounded by `limits::BROWSE_PAGE_MESSAGES_MAX`.
    pub limit: u32,
}

/// An input of `Shard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message from another replica of this shard.
    Peer {
        /// The sender.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// An order from the coordinator.
    Order(Order),
    /// All writes up to this one are durable.
    Persisted(WriteId),
    /// Answer to `Act::Load`. A range: consecutive entries from the first one asked for, possibly fewer, or none
    /// when the first is no longer there. Single entries: those that are there, in ascending order.
    Loaded {
        /// The request.
        request: RequestId,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Answer to `Act::LoadCheckpoint`.
    CheckpointLoaded {
        /// The request.
        request: RequestId,
        /// The newest durable checkpoint.
        checkpoint: Option<Checkpoint>,
    },
    /// A checkpoint is durable.
    CheckpointSaved {
        /// The last entry that it contains.
        at: Position,
        /// The closed segments of the log, ascending.
        segments: Vec<SegmentInfo>,
    },
    /// Segments are gone from the disk; the log is without holes after `base`.
    SegmentsDropped {
        /// The entry before the first one that is held without a hole.
        base: Position,
    },
    /// Entries of a transfer are in its staging place (not yet durable).
    InstallWritten {
        /// The transfer.
        transfer: Nonce,
    },
    /// What is staged cannot be kept (the disk is full) and is thrown away.
    InstallFailed {
        /// The transfer.
        transfer: Nonce,
    },
    /// The checkpoint and the entries of a transfer are durable and are the log: it begins after `at`.
    InstallCommitted {
        /// The transfer.
        transfer: Nonce,
        /// The entry that the checkpoint stands for.
        at: Position,
    },
    /// Batches that arrived together, in order.
    Submitted(Vec<Submission>),
    /// A session asks for something.
    Session {
        /// The session.
        session: SessionId,
        /// The life of the gateway whose it is.
        gateway: GatewayId,
        /// What it asks for.
        request: SessionRequest,
    },
    /// A session is gone, with everything attached in it.
    SessionLost {
        /// The session.
        session: SessionId,
    },
    /// A page of a queue is wanted.
    Browse(BrowseQuery),
    /// A page of a queue is to be moved.
    Move(Box<MoveQuery>),
    /// The leader of another shard says something.
    FromShard {
        /// The shard.
        from: ShardId,
        /// What it says.
        message: ShardMessage,
    },
    /// Where destinations live, as the topology has it.
    Placed(Placement),
    /// The settings of destinations, as the topology carries them.
    Governed(Arc<Settings>),
    /// A background check or a read found damage in the log.
    Damaged,
    /// Whether the disk has room for more messages. What frees space is taken all the same.
    Space {
        /// There is none.
        is_low: bool,
    },
    /// What the coordinator thinks of this node's wall clock.
    ClockJudged(ClockJudgement),
    /// The clock moved to or past `next_deadline`.
    Elapsed {
        /// Fresh randomness.
        nonce: Nonce,
    },
}
