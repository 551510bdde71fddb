//! What a broker asks for. All but `Diverged` come from the serving leader only.

use bytes::Bytes;
use quorate_message::{
    Attempt, ConsumerId, Decision, Destination, DestinationName, MessagePosition, Relocation,
    TransactionId,
};
use thiserror::Error;

use crate::{Credit, GroupMark, Outcomes, SessionId};

/// A message on its way to a consumer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// Names it for settlement.
    pub position: MessagePosition,
    /// How often it was returned by a consumer that failed with it.
    pub count: u32,
    /// It may have been sent before.
    pub redelivered: bool,
    /// What there is to say of its group, if it belongs to one.
    pub group: Option<GroupMark>,
    /// The message in its stored encoding.
    pub message: Bytes,
}

/// Why a consumer was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum AttachRefusal {
    /// This replica does not serve.
    #[error("shard is not served by this node; attach at its leader")]
    NotServing,
    /// Too many consumers.
    #[error(
        "shard has its {} consumers; detach some",
        crate::limits::CONSUMERS_MAX
    )]
    ConsumerLimit,
    /// Too many gateways.
    #[error("shard has its {} gateways; stop some", crate::limits::GATEWAYS_MAX)]
    GatewayLimit,
    /// The queue lives in another shard, or is on its way there.
    #[error("queue lives in another shard; attach there")]
    Moved,
    /// Too many queues.
    #[error("shard has all the queues that it can have; use an existing one")]
    QueueLimit,
    /// The subscription does not exist, or exists no longer.
    #[error("subscription does not exist; subscribe again")]
    NoSubscription,
    /// The subscription was made by a later version, whose selectors this one cannot read.
    #[error("this node cannot read the subscription's selector; upgrade it")]
    UnreadableSelector,
    /// Somebody else receives from the subscription.
    #[error("subscription has a consumer; close that one, or share the subscription")]
    SubscriptionInUse,
    /// Too many different selectors.
    #[error(
        "queue has consumers with {} different selectors; close some, or share selectors",
        crate::limits::SELECTORS_MAX
    )]
    SelectorLimit,
    /// The consumer says that it holds more than one consumer can.
    #[error(
        "consumer holds {held} messages; at most {} are allowed",
        crate::limits::IN_FLIGHT_MAX
    )]
    HeldLimit {
        /// How many.
        held: usize,
    },
}

/// A message of the outbox as its target is to store it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forwarded {
    /// Its number, this shard's for that target: the same from every leader.
    pub number: u64,
    /// 0 to 9.
    pub priority: u8,
    /// Milliseconds since 1970; 0 for never.
    pub expires_at_ms: u64,
    /// The message in its stored encoding.
    pub message: Bytes,
    /// What it takes along, if it moves with its name.
    pub luggage: Option<Box<Relocation>>,
}

/// What leaders of shards tell each other about transactions whose gateway did not finish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// To the owner: it is prepared here; how was it decided?
    Ask {
        /// The transaction.
        id: TransactionId,
        /// The try to commit it.
        attempt: Attempt,
    },
    /// From the owner: it was decided like this, for good.
    Decided {
        /// The transaction.
        id: TransactionId,
        /// The try to commit it.
        attempt: Attempt,
        /// How.
        decision: Decision,
    },
    /// To the owner: nothing of the attempt is prepared here any more.
    Finished {
        /// The transaction.
        id: TransactionId,
        /// The try to commit it.
        attempt: Attempt,
    },
}

/// An effect of [`crate::Broker::step`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// An entry was applied by the serving leader.
    Applied {
        /// Its index.
        entry: u64,
        /// What became of its commands, in their order.
        outcomes: Outcomes,
        /// How many messages its purges removed.
        removed: u64,
    },
    /// A transient batch was carried out.
    TransientApplied {
        /// Whose it was.
        session: SessionId,
        /// The number it came with.
        number: u64,
        /// What became of its commands, in their order.
        outcomes: Outcomes,
    },
    /// Messages go to a consumer.
    Deliver {
        /// The session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// Its attachment.
        generation: u64,
        /// The messages, in their order.
        deliveries: Vec<Delivery>,
    },
    /// A consumer is attached. Comes before any delivery under this generation.
    Attached {
        /// The session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment.
        generation: u64,
        /// Of what it said that it holds, what it holds no longer.
        lost: Vec<MessagePosition>,
    },
    /// A message waits, and the consumer, which shares its credit between shards, has none left here. Said once, until
    /// it has credit again.
    Waiting {
        /// The session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment.
        generation: u64,
    },
    /// The credit that was left, and is none any longer.
    Recalled {
        /// The session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment.
        generation: u64,
        /// How much.
        credit: Credit,
    },
    /// A consumer was not attached.
    AttachRefused {
        /// The session.
        session: SessionId,
        /// The consumer.
        consumer: ConsumerId,
        /// The attachment that was refused.
        generation: u64,
        /// Why.
        reason: AttachRefusal,
    },
    /// The bytes of these persistent messages are wanted; they ascend within each queue. Answered by `Input::Fetched`.
    Fetch {
        /// Where they are.
        positions: Vec<MessagePosition>,
    },
    /// A batch of the broker's own that is to be appended to the log while this replica leads.
    Propose {
        /// The batch.
        batch: Bytes,
    },
    /// These messages are to be stored at a target under their numbers, by a producer that stands for this shard.
    /// Answered by `Input::Forwarded` or `Input::ForwardRefused`; an answer may be lost.
    Forward {
        /// Where.
        target: Destination,
        /// Ascending by number.
        messages: Vec<Forwarded>,
    },
    /// Another shard is to log a batch about a name that moves there. Answered by `Input::Asked`; an answer may be lost,
    /// and one to an ask before the newest of its name counts for nothing.
    Ask {
        /// The other shard.
        shard: u32,
        /// The name.
        name: DestinationName,
        /// The batch.
        batch: Bytes,
    },
    /// Something for the leader of another shard, about a transaction. May be lost.
    Resolve {
        /// The other shard.
        shard: u32,
        /// What to say.
        message: Resolution,
    },
    /// This replica's state differed from the proposer's at the checkpoint before this entry. It must not go on.
    Diverged {
        /// The entry that told.
        entry: u64,
    },
}
