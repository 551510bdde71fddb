//! What the session machine asks of its shell. Effects of one step are carried out in their order; those for one
//! node on one stream reach the node in that order or its link is reported lost.

use std::sync::Arc;

use bytes::Bytes;
use quorate_message::{ConsumerId, Destination, MessagePosition, Outcome, Terms};

use super::{
    ids::{BatchNumber, CallId, Epoch, Generation, LinkId, NodeId, ShardId},
    input::{Credit, StoredDelivery},
};

/// A request of the machine.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Keep a pair of streams to this node, and open it again whenever it is lost, until told otherwise. Said again
    /// with another address, the node has moved.
    Link {
        /// The node.
        node: NodeId,
        /// "host:port".
        address: Arc<str>,
    },
    /// The node leads nothing: its streams may be closed. No `LinkLost` is expected for it.
    Unlink {
        /// The node.
        node: NodeId,
    },
    /// Send a batch of messages on the payload stream.
    Submit {
        /// To whom.
        node: NodeId,
        /// On which pair of streams; if it is not the open one the request is void.
        link: LinkId,
        /// The shard.
        shard: ShardId,
        /// The trace of the first message in the batch that has one.
        trace: Option<Arc<str>>,
        /// The batch's name.
        number: BatchNumber,
        /// The batch that the leader must have taken right before it; none: everything before it is answered.
        previous: Option<BatchNumber>,
        /// The batch.
        batch: Bytes,
    },
    /// Send a command on the control stream.
    Control {
        /// To whom.
        node: NodeId,
        /// On which pair of streams; if it is not the open one the request is void.
        link: LinkId,
        /// The shard.
        shard: ShardId,
        /// The command.
        command: Command,
    },
    /// Messages of a call, by ordinal, have an outcome.
    Confirmed {
        /// The call.
        call: CallId,
        /// Ordinal of the first.
        first: u64,
        /// How many neighbours share the outcome.
        count: u32,
        /// The outcome.
        outcome: Outcome,
        /// What there is to say of an outcome that is an error, the same for all.
        cause: Option<Box<Cause>>,
    },
    /// A message of a call is not stored, nor ever would be: it is wrong as it is.
    Wrong {
        /// The call.
        call: CallId,
        /// Its ordinal.
        ordinal: u64,
        /// What is wrong.
        reason: Arc<str>,
    },
    /// Messages of a call begin to wait for room in a destination. Said once, until all of them are confirmed.
    HeldBack {
        /// The call.
        call: CallId,
        /// The destination.
        cause: Box<Cause>,
    },
    /// A consumer is attached, for the first time or to a new leader.
    Opened {
        /// The call.
        call: CallId,
        /// The consumer.
        consumer: ConsumerId,
        /// Of what it holds, what is not its own any longer.
        lost: Vec<(ShardId, MessagePosition)>,
    },
    /// Messages for a consumer, in order.
    Delivered {
        /// The call.
        call: CallId,
        /// The shard they are from.
        shard: ShardId,
        /// The messages.
        deliveries: Vec<StoredDelivery>,
    },
    /// Outcomes of a settlement that asked for them.
    Settled {
        /// The call.
        call: CallId,
        /// The client's token.
        token: u64,
        /// One for each position, in order.
        outcomes: Vec<Outcome>,
    },
    /// A purge is committed.
    Purged {
        /// The call.
        call: CallId,
        /// Messages removed.
        removed: u64,
    },
    /// A transaction is committed.
    Committed {
        /// The call.
        call: CallId,
    },
    /// A subscription is deleted.
    Unsubscribed {
        /// The call.
        call: CallId,
        /// Messages that were pending in it; none: there was no such subscription.
        removed: Option<u64>,
    },
    /// Everything on a finished call is answered: close it with success, and say `Input::Dropped` when it is closed.
    Ended {
        /// The call.
        call: CallId,
    },
    /// The call cannot go on: close it with this, and say `Input::Dropped` when it is closed.
    Failed {
        /// The call.
        call: CallId,
        /// Why.
        failure: Failure,
    },
    /// Read nothing more from this call's client until `Resume`.
    Pause {
        /// The call.
        call: CallId,
    },
    /// Go on reading.
    Resume {
        /// The call.
        call: CallId,
    },
    /// Everything is given back and the shards are told: the process may end.
    Left,
    /// For the log and the metrics.
    Note(Note),
}

impl Effect {
    /// The call that it is for, if it is for one.
    pub(crate) fn call(&self) -> Option<CallId> {
        match self {
            Self::Confirmed { call, .. }
            | Self::Wrong { call, .. }
            | Self::HeldBack { call, .. }
            | Self::Opened { call, .. }
            | Self::Delivered { call, .. }
            | Self::Settled { call, .. }
            | Self::Purged { call, .. }
            | Self::Committed { call }
            | Self::Unsubscribed { call, .. }
            | Self::Ended { call }
            | Self::Failed { call, .. }
            | Self::Pause { call }
            | Self::Resume { call } => Some(*call),
            Self::Link { .. }
            | Self::Unlink { .. }
            | Self::Submit { .. }
            | Self::Control { .. }
            | Self::Left
            | Self::Note(_) => None,
        }
    }
}

/// Messages whose settlement is under way and that a consumer does not claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The consumer.
    pub consumer: ConsumerId,
    /// Their queue, or the subscription.
    pub queue: Destination,
    /// The gateway's number in the batch that settles them; 0: none.
    pub number: u64,
    /// The messages.
    pub positions: Vec<MessagePosition>,
}

/// The destination that did not take a message, and what its settings allow it to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The destination.
    pub destination: Destination,
    /// Messages; 0: any number.
    pub max_messages: u64,
    /// Bytes; 0: any number.
    pub max_bytes: u64,
    /// It is being moved to another shard, as far as this gateway knows; what waits for it may wait for that.
    pub is_moving: bool,
}

/// A command on the control stream.
#[derive(Clone, Debug)]
pub enum Command {
    /// Attach a consumer.
    Attach {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: Generation,
        /// The queue or subscription.
        queue: Destination,
        /// Its credit is a share of what it has at several shards.
        shares_credit: bool,
        /// What may be sent to it at first, in messages and stored bytes.
        credit: Credit,
        /// What it holds, in the order in which it came.
        held: Vec<MessagePosition>,
        /// On what terms it takes messages.
        terms: Terms,
    },
    /// Detach a consumer; what it had in flight goes back.
    Detach {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: Generation,
    },
    /// What is left of a consumer's credit is wanted back.
    Recall {
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: Generation,
    },
    /// More may be sent to a consumer.
    Credit {
        /// The consumer.
        consumer: ConsumerId,
        /// How much more, in messages and stored bytes.
        credit: Credit,
    },
    /// What is settled and not claimed.
    Report {
        /// The report starts over; attachments follow, then `Reported`.
        is_first: bool,
        /// The messages.
        leaving: Vec<Leaving>,
    },
    /// All that this gateway holds of the shard is said.
    Reported,
    /// The gateway ends.
    Leave,
    /// A batch of settlements or administrative commands.
    Submit {
        /// The batch's name.
        number: BatchNumber,
        /// The batch that the leader must have taken right before it; none: everything before it is answered.
        previous: Option<BatchNumber>,
        /// The batch.
        batch: Bytes,
    },
}

/// Why a call ends without success. The shell makes a status of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A shard gave no answer within the deadline. What was sent may be stored: retry under the same numbers.
    Deadline {
        /// The shard.
        shard: ShardId,
        /// What is known of the reason.
        reason: Arc<str>,
    },
    /// No coordinator has told this gateway where destinations live, within the deadline.
    NoTopology,
    /// The gateway holds as much as it may.
    OutOfMemory {
        /// Bytes that it may hold.
        bytes_max: u64,
    },
    /// Messages wait for room in their destination, and the client's time is over, or there is no room here to wait in.
    HeldBack {
        /// The destination.
        cause: Box<Cause>,
    },
    /// The shard calls a batch malformed. What was in it is not stored.
    Malformed {
        /// The shard.
        shard: ShardId,
        /// Its reason.
        reason: Arc<str>,
    },
    /// The shard does not take the consumer.
    AttachRefused {
        /// The shard.
        shard: ShardId,
        /// Its reason.
        reason: Arc<str>,
    },
    /// Another call of this gateway opened a consumer of the same id.
    TakenOver,
    /// A consumer held more messages than is allowed.
    TooManyHeld {
        /// The bound.
        held_max: usize,
    },
    /// A consumer of one queue named positions of another shard as its own.
    ForeignPosition {
        /// The shard of the position.
        shard: ShardId,
        /// The shard of the queue.
        expected: ShardId,
    },
    /// A consumer held a message unsettled for longer than its queue's settings allow. What it held is given back.
    Hangs {
        /// The queue or subscription.
        queue: Destination,
        /// The message that it held for longest.
        position: (ShardId, MessagePosition),
        /// How long it may hold one, in milliseconds.
        patience_ms: u64,
    },
    /// A transaction is larger than one may be.
    TransactionTooLarge,
    /// A transaction did not happen.
    NotCommitted {
        /// The shard that refused it.
        shard: ShardId,
        /// Why.
        outcome: Outcome,
        /// The destination whose command was refused, if it was for a destination.
        cause: Option<Box<Cause>>,
    },
    /// A purge met a limit of the shard.
    Refused {
        /// The shard.
        shard: ShardId,
        /// What it answered.
        outcome: Outcome,
    },
}

/// A transition worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A shard has another leader, or none.
    Leader {
        /// The shard.
        shard: ShardId,
        /// The epoch.
        epoch: Epoch,
        /// The leader.
        leader: Option<NodeId>,
    },
    /// Batches go out a second time, to a new leader or on a new link.
    Resent {
        /// The shard.
        shard: ShardId,
        /// To whom.
        node: NodeId,
        /// How many batches.
        batches: usize,
    },
    /// The leader asked for a pause.
    Overloaded {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: Arc<str>,
    },
    /// Deliveries that a consumer holds already, or that a deposed leader or an old attachment sent.
    Dropped {
        /// The shard.
        shard: ShardId,
        /// How many.
        deliveries: usize,
    },
    /// A consumer was ended because it hung.
    Hung {
        /// The shard.
        shard: ShardId,
        /// How many messages it held for too long.
        messages: usize,
    },
    /// Calls reached their deadline.
    Overdue {
        /// The shard.
        shard: ShardId,
        /// How many.
        calls: usize,
    },
}
