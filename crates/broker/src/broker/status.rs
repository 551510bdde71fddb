//! What can be asked of a broker: queues, topics, what waits, what is on its way, as this replica sees it.

use quorate_message::{
    Destination, DestinationKind, DestinationName, MessagePosition, Outcome, Relocating,
};

use crate::state::Obstacle;

/// One queue, as this replica sees it. What is in flight only the leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// A queue, a subscription by its key, or a topic: then what it keeps, and what went through it.
    pub kind: DestinationKind,
    /// Its name.
    pub name: DestinationName,
    /// Stored and not settled, those in flight included.
    pub messages: u64,
    /// In consumers' hands, non-persistent ones included.
    pub in_flight: u64,
    /// Consumers attached.
    pub consumers: u32,
    /// Stored since the queue exists.
    pub enqueued_total: u64,
    /// Removed since the queue exists.
    pub settled_total: u64,
    /// Non-persistent messages in memory.
    pub non_persistent: u64,
    /// Bytes of what is stored, exact to a few hundred messages where a queue is consumed in order.
    pub bytes: u64,
    /// Nothing is delivered until it is resumed.
    pub is_paused: bool,
    /// Stored messages that wait for their time: delayed, scheduled, or to be delivered again later.
    pub scheduled: u64,
    /// Expired since the queue exists.
    pub expired_total: u64,
}

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// The message.
    pub position: MessagePosition,
    /// When it is delivered next, in milliseconds since 1970.
    pub due_ms: u64,
    /// Between this delivery and the one after; 0 for none, or a cron expression.
    pub period_ms: u64,
    /// Deliveries to come, this one included; [`quorate_message::Schedule::FOREVER`] without end.
    pub left: u32,
    /// The cron expression by which it is delivered; empty for none.
    pub cron: String,
}

/// One topic, as this replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its name.
    pub name: DestinationName,
    /// Messages that were published to it, without non-persistent ones.
    pub published_total: u64,
    /// What it keeps by itself: the retained message, and what may be replayed.
    pub kept: u64,
    /// Subscriptions and queues of a virtual topic that get its messages.
    pub subscriptions: u32,
}

/// What is on its way to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxStatus {
    /// The destination.
    pub target: Destination,
    /// Messages on their way.
    pub messages: u64,
    /// When the oldest of them left, in milliseconds since 1970.
    pub oldest_ms: u64,
    /// On the leader: why the target did not take what it was offered last.
    pub refusal: Option<Outcome>,
}

/// How far the move of a name is, as this replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelocationStatus {
    /// The newest move.
    pub relocating: Relocating,
    /// What came of it.
    pub standing: Standing,
}

/// What came of the newest move of a name in one of its two shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It leaves the shard, or is to.
    Leaving,
    /// It left, and nothing is left of it.
    Gone,
    /// It is to come.
    Expected,
    /// It came.
    Here,
    /// It was to leave, and stays.
    Stays(Obstacle),
}

impl QueueStatus {
    pub(super) fn destination(&self) -> Destination {
        Destination {
            kind: self.kind,
            name: self.name.clone(),
        }
    }
}
