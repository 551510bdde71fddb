//! What a shard wants done.

use std::fmt;

use bytes::Bytes;
use quorate_broker::{Credit, Delivery, Outcomes, SessionId};
use quorate_message::{ConsumerId, DestinationName, MessagePosition};
use quorate_replication::{
    Entry, Epoch, Event, Index, Message, NodeId, Nonce, Position, Report, ShardId, Stamp, Write,
    WriteId,
};

use super::{
    between::ShardMessage,
    input::{Checkpoint, RequestId},
    moving::MovePage,
};

/// One request to the shell. `Persist` acts are carried out in the order of their ids, `Install` acts in the order
/// in which they come; nothing else is ordered beyond `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Not before all writes up to this one are durable. None: at once.
    pub after: Option<WriteId>,
    /// What to do.
    pub act: Act,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write to the disk, in the order of the ids, and report `Persisted` when durable.
    Persist {
        /// Names the write.
        id: WriteId,
        /// What to write.
        write: Write,
    },
    /// Send to another replica of the shard; may be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Tell the coordinator; dropped when it is not there.
    Report(Report),
    /// Read entries and answer with `Loaded`.
    Load {
        /// Names the answer.
        request: RequestId,
        /// What to read.
        read: Read,
    },
    /// Read the newest durable checkpoint and answer with `CheckpointLoaded`.
    LoadCheckpoint {
        /// Names the answer.
        request: RequestId,
    },
    /// Make this checkpoint durable in place of the one before and answer with `CheckpointSaved`.
    SaveCheckpoint(Checkpoint),
    /// Forget every checkpoint of this shard, durably: the state in them is wrong.
    ForgetCheckpoint,
    /// Drop these closed segments (each by its first index) and answer with `SegmentsDropped`.
    DropSegments(Vec<Index>),
    /// Prepare an empty staging place for a log that begins after `at`; one of another transfer is discarded.
    InstallBegin {
        /// The transfer.
        transfer: Nonce,
        /// The entry that the checkpoint stands for.
        at: Position,
        /// Stamp of that entry.
        stamp: Stamp,
    },
    /// Write entries at or below `at` into the staging place and answer with `InstallWritten`.
    InstallWrite {
        /// The transfer.
        transfer: Nonce,
        /// Ascending, with holes.
        entries: Vec<Entry>,
    },
    /// Make the checkpoint durable, then the staged log durable and the log of this replica, and answer with
    /// `InstallCommitted`.
    InstallCommit {
        /// The transfer.
        transfer: Nonce,
        /// The state at the start of the log.
        checkpoint: Checkpoint,
    },
    /// Tell a session; dropped when it is gone.
    ToSession {
        /// The session.
        session: SessionId,
        /// What to tell.
        event: SessionEvent,
    },
    /// Tell the leader of another shard; may be lost.
    ToShard {
        /// The shard.
        shard: ShardId,
        /// What to say.
        message: ShardMessage,
    },
    /// Answer to a `Browse`.
    BrowsePage {
        /// That of the query.
        query: u64,
        /// The answer.
        page: BrowsePage,
    },
    /// Answer to a `Move`.
    MovePage {
        /// That of the query.
        query: u64,
        /// The answer.
        page: MovePage,
    },
    /// Tell the coordinator what became of the move of a name from here.
    ReportMove {
        /// The name.
        name: DestinationName,
        /// The move.
        number: u64,
        /// Why it cannot be; empty: it is done.
        refusal: String,
    },
    /// Something that an operator or a trace wants to know.
    Note(Note),
}

/// What to read from the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Read {
    /// Consecutive entries; stop after about `max_bytes`, but read at least one.
    Range {
        /// First index wanted.
        first: Index,
        /// Last index wanted.
        last: Index,
        /// Where to stop.
        max_bytes: usize,
    },
    /// These entries, as far as they are still there (also below the base of the log), ascending. All of them,
    /// unless they come to more than `max_bytes`: then at least one, and the rest is asked for again.
    Entries {
        /// Their indexes, ascending.
        indexes: Vec<Index>,
        /// Where to stop.
        max_bytes: usize,
    },
}

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The batch is committed and applied (transient: accepted).
    Outcomes {
        /// The batch.
        number: u64,
        /// What became of each command.
        outcomes: Outcomes,
        /// Messages that a purge removed.
        removed: u64,
    },
    /// This replica does not lead (any longer): batch `number`, or with 0 whatever was attached here.
    NotLeading {
        /// The batch, or 0.
        number: u64,
        /// The epoch that this replica knows.
        epoch: Epoch,
    },
    /// The batch was not taken; it may be sent again.
    Overloaded {
        /// The batch.
        number: u64,
        /// What is full.
        reason: &'static str,
    },
    /// The batch can never be taken.
    Malformed {
        /// The batch.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The consumer is attached.
    Attached {
        /// The consumer.
        consumer: ConsumerId,
        /// That of its request.
        generation: u64,
        /// What it held and holds no longer.
        lost: Vec<MessagePosition>,
    },
    /// The consumer is not attached.
    AttachRefused {
        /// The consumer.
        consumer: ConsumerId,
        /// That of its request.
        generation: u64,
        /// Why not, and what to do.
        reason: String,
        /// The subscription that it wants does not exist.
        is_no_subscription: bool,
    },
    /// The consumer is not attached under this generation: its queue lives in another shard, or is on its way there.
    Moved(ConsumerId, u64),
    /// A message waits for a consumer that shares its credit and has none here.
    Waiting {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: u64,
    },
    /// What was left of a consumer's credit.
    Recalled {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: u64,
        /// How much.
        credit: Credit,
    },
    /// Messages for a consumer.
    Deliver {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: u64,
        /// The epoch in which they are delivered.
        epoch: Epoch,
        /// The messages.
        deliveries: Vec<Delivery>,
    },
}

/// A page of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrowsePage {
    /// The messages, in order.
    Messages {
        /// Position and stored encoding.
        messages: Vec<BrowsedMessage>,
        /// No message follows.
        end: bool,
    },
    /// This replica does not lead.
    NotLeading {
        /// The epoch that it knows.
        epoch: Epoch,
    },
    /// Too many queries wait.
    Overloaded,
}

/// One message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowsedMessage {
    /// Where it is.
    pub position: MessagePosition,
    /// How often it was returned.
    pub delivery_count: u32,
    /// The stored encoding.
    pub message: Bytes,
}

/// What happened, for logs and traces: one short line each, through `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Of the replica.
    Replica(Event),
    /// The broker differs from the leader's at this entry: the replica is impaired and stops applying; it is built
    /// anew at the next start. Loud.
    Diverged {
        /// The entry with the digest.
        at: Index,
    },
    /// A committed entry cannot be applied: this shard stops here. Loud.
    Halted {
        /// The entry.
        at: Index,
        /// Why.
        reason: String,
    },
    /// Made a checkpoint.
    Checkpointed {
        /// Its last entry.
        at: Index,
        /// Its size.
        size_bytes: usize,
    },
    /// Began to send a checkpoint and the live entries to a follower.
    InstallStarted {
        /// The follower.
        to: NodeId,
        /// The checkpoint.
        at: Position,
    },
    /// A follower has it all.
    InstallFinished {
        /// The follower.
        to: NodeId,
        /// Bytes that were sent.
        size_bytes: u64,
    },
    /// Installed what the leader sent.
    Installed {
        /// The checkpoint.
        at: Position,
    },
    /// Prepares to move its leadership.
    HandingOver {
        /// Who is to lead next.
        to: NodeId,
    },
    /// The target has everything; nothing is done until it leads, or for a moment.
    HandedOver {
        /// Who is to lead next.
        to: NodeId,
        /// The end of the log.
        at: Position,
        /// What is known beyond it.
        size_bytes: usize,
    },
    /// The move was given up.
    KeptLeading {
        /// Who was to lead.
        to: NodeId,
        /// Why it does not.
        reason: &'static str,
    },
    /// Serves with what the leader before knew.
    TookOver {
        /// The end of that one's log.
        at: Position,
    },
    /// Something was dropped, with the reason.
    Dropped(&'static str),
}

impl Note {
    /// Whether a human must act, or at least know at once.
    #[must_use]
    pub fn is_loud(&self) -> bool {
        match self {
            Self::Diverged { .. } | Self::Halted { .. } => true,
            Self::Replica(event) => {
                matches!(event, Event::RefusedCut { .. } | Event::Impaired)
            }
            Self::Checkpointed { .. }
            | Self::InstallStarted { .. }
            | Self::InstallFinished { .. }
            | Self::Installed { .. }
            | Self::HandingOver { .. }
            | Self::HandedOver { .. }
            | Self::KeptLeading { .. }
            | Self::TookOver { .. }
            | Self::Dropped(_) => false,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(event) => write!(f, "{event:?}"),
            Self::Diverged { at } => {
                write!(
                    f,
                    "state differs from the leader's at {at}; impaired: restart this node to build it anew"
                )
            }
            Self::Halted { at, reason } => write!(f, "stopped before {at}: {reason}"),
            Self::Checkpointed { at, size_bytes } => {
                write!(f, "checkpoint at {at}, {size_bytes} bytes")
            }
            Self::InstallStarted { to, at } => write!(f, "sends checkpoint {at} to {to}"),
            Self::InstallFinished { to, size_bytes } => {
                write!(f, "{to} installed the checkpoint, {size_bytes} bytes")
            }
            Self::Installed { at } => write!(f, "installed checkpoint {at}"),
            Self::HandingOver { to } => write!(f, "moves its leadership to {to}"),
            Self::HandedOver { to, at, size_bytes } => {
                write!(f, "handed over to {to} at {at}, {size_bytes} bytes")
            }
            Self::KeptLeading { to, reason } => {
                write!(f, "leads on, and not {to}: {reason}")
            }
            Self::TookOver { at } => write!(f, "took over at {at} what the leader before knew"),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
        }
    }
}
