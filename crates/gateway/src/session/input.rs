//! What the session machine is told: facts about clients, nodes and time.
//!
//! Values are validated before they come in here: names parse, sizes are within the limits, positions belong to a
//! shard. What a client or a node says may still be stale or wrong in substance; the machine copes with that.

use std::sync::Arc;

use bytes::Bytes;
use quorate_message::{
    ConsumerId, Destination, DestinationName, GroupMark, MessagePosition, Outcome, Overrides,
    ProducerId, Publication as Head, Schedule, Settings, Settlement, Subscription, Terms,
    TransactionId,
};

use super::ids::{BatchNumber, CallId, Epoch, Generation, LinkId, NodeId, ShardId};

/// A fact. After one or more of them the shell says [`Input::Drained`]; only then are batches formed, so that they
/// carry everything that waits.
#[derive(Clone, Debug)]
pub enum Input {
    /// A coordinator's picture of the cluster, whole. An older one does no harm: per shard the newest epoch wins.
    Topology(Topology),
    /// Both streams to a node are open. Asked for with `Effect::Link`.
    Linked {
        /// The node.
        node: NodeId,
        /// This pair of streams.
        link: LinkId,
    },
    /// One of the streams ended; what was under way on it may or may not have arrived.
    LinkLost {
        /// The node.
        node: NodeId,
        /// The pair of streams; another one than the newest is ignored.
        link: LinkId,
    },
    /// A node said something about a shard.
    FromNode {
        /// The node.
        node: NodeId,
        /// The pair of streams it came on.
        link: LinkId,
        /// The shard.
        shard: ShardId,
        /// What it said.
        event: NodeEvent,
    },
    /// A client sends messages: a frame of a publish call, or a unary call's one message.
    Publish {
        /// The call. Its messages are confirmed by their ordinal within it, counted from zero over all frames.
        call: CallId,
        /// The producer; none: the gateway names and numbers the messages itself.
        producer: Option<ProducerId>,
        /// The messages, in order.
        messages: Vec<Sent>,
        /// The trace of the call, if its client follows it. Means nothing here.
        trace: Option<Arc<str>>,
    },
    /// A client opens a consumer.
    Consume {
        /// The call; the consumer lives as long as it.
        call: CallId,
        /// What the client asked for.
        open: OpenConsumer,
    },
    /// A client can take more.
    Credited {
        /// The consumer's call.
        call: CallId,
        /// Added to what is left.
        credit: Credit,
    },
    /// A client settles messages that it holds.
    Settle {
        /// The consumer's call.
        call: CallId,
        /// How.
        settlement: Settlement,
        /// Which, in the order in which the outcomes are wanted.
        positions: Vec<(ShardId, MessagePosition)>,
        /// When not zero, the outcomes are reported with it.
        token: u64,
    },
    /// An operator removes something. Answered by `Effect::Purged` or `Effect::Failed`.
    Purge {
        /// The call.
        call: CallId,
        /// From where; a topic only if not its messages are to go.
        destination: Destination,
        /// What.
        what: Removal,
    },
    /// A client has made a temporary destination, or has it no longer. When none has it, no message makes it again.
    Temporary {
        /// The queue or topic.
        name: DestinationName,
        /// Whose client.
        whose: Whose,
        /// Whether it is made.
        is_there: bool,
    },
    /// A client adds to a transaction, which is the call's. Nothing of it happens before its commit; to drop the call rolls
    /// it back.
    Transact {
        /// The call.
        call: CallId,
        /// The transaction: the same each time.
        transaction: TransactionId,
        /// Messages to be sent, in order. All are stored as persistent ones; their numbers mean nothing.
        sends: Vec<Publication>,
        /// Messages to be settled, of any number of consumers.
        settlements: Vec<TransactedSettlement>,
    },
    /// A client commits its transaction. Answered by `Effect::Committed` or `Effect::Failed`, and seen through when the
    /// client is gone.
    Commit {
        /// The call.
        call: CallId,
        /// The wall clock, in milliseconds since 1970.
        wall_ms: u64,
        /// Fresh randomness.
        nonce: u64,
    },
    /// An operator deletes a subscription. Answered by `Effect::Unsubscribed` or `Effect::Failed`.
    Unsubscribe {
        /// The call.
        call: CallId,
        /// The subscription.
        key: DestinationName,
    },
    /// An operator ends or begins again a queue's delivery. Answered by `Effect::Purged` or `Effect::Failed`.
    Pause {
        /// The call.
        call: CallId,
        /// The queue.
        queue: DestinationName,
        /// Whether delivery ends.
        is_paused: bool,
    },
    /// The client's time for this call is about to be over. If its messages wait for room, the call fails and says so.
    GiveUp {
        /// The call.
        call: CallId,
    },
    /// The client sends nothing more on this call. `Effect::Ended` follows when everything is answered.
    Finished {
        /// The call.
        call: CallId,
    },
    /// The call is closed, by its end or its failure or because the client is gone: nothing can be answered on it any
    /// more. The last word of every call.
    Dropped {
        /// The call.
        call: CallId,
    },
    /// The gateway stops: no call is served any longer. What clients still held is given back, then the shards are told
    /// that nobody has to wait for this gateway; `Effect::Left` says when that is done.
    Leave,
    /// The client's connection took deliveries that had waited for it in the shell.
    Taken {
        /// The consumer's call.
        call: CallId,
        /// Their stored size, as counted by [`StoredDelivery::message`].
        bytes: u64,
    },
    /// Nothing more waits to come in at this moment: what was gathered may go out.
    Drained,
    /// A deadline may have passed.
    Elapsed,
}

/// A message as its client sent it; of one that is wrong as it is, what is wrong.
pub type Sent = Result<Publication, Arc<str>>;

/// A message on its way in.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where it goes.
    pub destination: Destination,
    /// The producer's number of it for this destination; ignored when the gateway numbers.
    pub number: u64,
    /// Where else it goes, each under the same number: a composite destination. Confirmed once all have it.
    pub also: Vec<Destination>,
    /// A topic keeps it for those who subscribe later.
    pub is_retained: bool,
    /// Kept in the leader's memory only.
    pub non_persistent: bool,
    /// 0 to 9.
    pub priority: u8,
    /// Wall-clock milliseconds after which it is of no use; 0 is never.
    pub expires_at_ms: u64,
    /// When it is delivered, if not at once.
    pub schedule: Option<Box<Schedule>>,
    /// The message in its stored encoding.
    pub message: Bytes,
}

impl Publication {
    /// All that the batch says of it beside the message, under a producer's name and number.
    pub(super) fn head(&self, producer: ProducerId, number: u64) -> Head<'_> {
        Head {
            destination: &self.destination,
            producer,
            number,
            priority: self.priority,
            expires_at_ms: self.expires_at_ms,
            is_retained: self.is_retained,
        }
    }

    /// One message for each of its destinations.
    pub(super) fn copies(mut self) -> Vec<Self> {
        let also = std::mem::take(&mut self.also);
        let mut copies: Vec<Self> = also
            .into_iter()
            .map(|destination| Self {
                destination,
                ..self.clone()
            })
            .collect();
        copies.push(self);
        copies
    }
}

/// Messages that a transaction settles.
#[derive(Clone, Debug)]
pub struct TransactedSettlement {
    /// The consumer that holds them. One that this gateway knows is asked whether it does.
    pub consumer: Option<ConsumerId>,
    /// Where they are: a queue or a subscription.
    pub destination: Destination,
    /// Accept or reject.
    pub settlement: Settlement,
    /// Which.
    pub positions: Vec<(ShardId, MessagePosition)>,
}

/// What a client asks for when it opens a consumer.
#[derive(Clone, Debug)]
pub struct OpenConsumer {
    /// The consumer, chosen by the client or, when it left that open, by the shell at random.
    pub consumer: ConsumerId,
    /// The queue, or the subscription by its key.
    pub queue: Destination,
    /// The subscription, which is made if it does not exist; its generation is given here. None for a queue.
    pub subscription: Option<Box<Subscription>>,
    /// What it still holds from before, in the order in which it came.
    pub held: Vec<(ShardId, MessagePosition)>,
    /// On what terms it takes messages; what it owned is remembered here.
    pub terms: Terms,
    /// The first credit.
    pub credit: Credit,
    /// Wall clock in microseconds since 1970: the first generation of the attachment, so that a later gateway's is
    /// above that of an earlier one.
    pub wall_micros: u64,
}

/// How much may be sent to a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// Whose clients have a temporary destination. One that changes its gateway has it here and there for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This gateway's.
    Here,
    /// Other gateways'.
    Elsewhere,
}

/// What an operator removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// All messages of a queue.
    Messages,
    /// One message, with its schedule.
    Message(MessagePosition),
    /// The destination, with its messages. It comes into being again when it is used.
    Destination,
    /// The same of a temporary one, unless a client of some gateway has it.
    Temporary,
}

/// What a storage node says about one shard.
#[derive(Clone, Debug)]
pub enum NodeEvent {
    /// A batch was carried out.
    Outcomes {
        /// The batch.
        number: BatchNumber,
        /// One for each of its commands.
        outcomes: Outcomes,
        /// For a purge: how many messages it removed.
        removed: u64,
    },
    /// A consumer is attached.
    Attached {
        /// The consumer.
        consumer: ConsumerId,
        /// Which of its attachments.
        generation: Generation,
        /// Of the positions held, those that are another's or nobody's.
        lost: Vec<MessagePosition>,
    },
    /// A consumer cannot be attached.
    AttachRefused {
        /// The consumer.
        consumer: ConsumerId,
        /// Which of its attachments.
        generation: Generation,
        /// Why.
        reason: Arc<str>,
        /// The subscription that it wants does not exist at this shard.
        is_no_subscription: bool,
    },
    /// A consumer is not attached under this generation, since its queue lives elsewhere.
    Moved(ConsumerId, Generation),
    /// A message waits for a consumer that has no credit left at this shard.
    Waiting {
        /// The consumer.
        consumer: ConsumerId,
        /// Which of its attachments.
        generation: Generation,
    },
    /// What was left of a consumer's credit at this shard, and is none any longer.
    Recalled {
        /// The consumer.
        consumer: ConsumerId,
        /// Which of its attachments.
        generation: Generation,
        /// How much, in messages and stored bytes.
        credit: Credit,
    },
    /// The node does not lead the shard, or not yet.
    NotLeading {
        /// The batch that was refused, or 0.
        number: BatchNumber,
        /// The highest epoch that the node knows of.
        epoch: Epoch,
    },
    /// A batch was not taken; later perhaps.
    Overloaded {
        /// The batch.
        number: BatchNumber,
        /// Why.
        reason: Arc<str>,
    },
    /// A batch can never be taken.
    Malformed {
        /// The batch.
        number: BatchNumber,
        /// Why.
        reason: Arc<str>,
    },
    /// Messages for consumers.
    Deliveries {
        /// The leader's epoch.
        epoch: Epoch,
        /// The messages, in order for each consumer.
        deliveries: Vec<StoredDelivery>,
    },
}

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct StoredDelivery {
    /// For whom.
    pub consumer: ConsumerId,
    /// For which of its attachments.
    pub generation: Generation,
    /// Its place in the shard.
    pub position: MessagePosition,
    /// How often it was given to a consumer that failed with it.
    pub delivery_count: u32,
    /// What there is to say of its group.
    pub group: Option<GroupMark>,
    /// It may have been given to a consumer before.
    pub redelivered: bool,
    /// The message in its stored encoding.
    pub message: Bytes,
}

/// What became of the commands of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// The same for all.
    All(Outcome),
    /// One each, in order.
    Each(Vec<Outcome>),
}

impl Outcomes {
    /// Whether all of it was stored.
    #[must_use]
    pub fn are_stored(&self) -> bool {
        match self {
            Self::All(all) => all.is_stored(),
            Self::Each(each) => each.iter().all(|outcome| outcome.is_stored()),
        }
    }

    /// Whether any command has this outcome.
    #[must_use]
    pub fn has(&self, outcome: Outcome) -> bool {
        match self {
            Self::All(all) => *all == outcome,
            Self::Each(each) => each.contains(&outcome),
        }
    }

    /// The outcome of the command at `ordinal`; none if the answer is shorter than the batch.
    #[must_use]
    pub fn get(&self, ordinal: usize) -> Option<Outcome> {
        match self {
            Self::All(outcome) => Some(*outcome),
            Self::Each(each) => each.get(ordinal).copied(),
        }
    }
}

/// The cluster as a coordinator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Rises with each change at one coordinator.
    pub version: u64,
    /// The storage nodes.
    pub nodes: Vec<TopologyNode>,
    /// The shards.
    pub shards: Vec<TopologyShard>,
    /// The shard of each slot. Of another length than the number of slots: not known.
    pub slots: Vec<ShardId>,
    /// The settings of destinations; none: they cannot be read. Of two the one with the higher version is the newer.
    pub settings: Option<Arc<Settings>>,
    /// Names that live elsewhere.
    pub overrides: Arc<Overrides>,
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyNode {
    /// Its number.
    pub id: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// "host:port" of its services.
    pub address: Arc<str>,
}

/// A shard and who leads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyShard {
    /// The shard.
    pub id: ShardId,
    /// The epoch that this says something about.
    pub epoch: Epoch,
    /// Who leads in that epoch, if somebody does.
    pub leader: Option<NodeId>,
    /// Why nobody does.
    pub leaderless_reason: Arc<str>,
}
