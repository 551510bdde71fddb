//! What begins and ends within a connection: sessions, consumers, producers, destinations, durable subscriptions.

use super::{Header, Structure};
use crate::openwire::destination::Destination;
use crate::openwire::ids::{BrokerId, ConnectionId, ConsumerId, ProducerId, SessionId};
use crate::openwire::structure::{choice, codes, structure};

structure! {
    /// A session begins.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct SessionInfo = 4 {
        /// Number and response.
        pub header: Header,
        /// The session.
        pub session_id: SessionId,
    }
}

structure! {
    /// A consumer begins.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ConsumerInfo = 5 {
        /// Number and response.
        pub header: Header,
        /// The consumer.
        pub consumer_id: ConsumerId,
        /// Whether it only looks at a queue's messages.
        pub browser: bool,
        /// What it consumes.
        pub destination: Destination,
        /// How many messages it takes before the first is acknowledged; 0: it asks for each.
        pub prefetch_size: i32,
        /// How many messages a slow consumer of a topic lets the broker keep for it.
        pub maximum_pending_message_limit: i32,
        /// Whether the broker may dispatch outside the sender's turn.
        pub dispatch_async: bool,
        /// Which messages it wants.
        pub selector: Option<String>,
        /// The client's name, for a durable subscription that is not the connection's own.
        pub client_id: Option<String> [since 10],
        /// The name of a durable subscription.
        pub subscription_name: Option<String>,
        /// Whether it leaves out what its own connection sent.
        pub no_local: bool,
        /// Whether it wants a queue for itself.
        pub exclusive: bool,
        /// Whether it wants earlier messages of a topic.
        pub retroactive: bool,
        /// Higher goes first.
        pub priority: i8,
        /// Brokers that it came by.
        pub broker_path: Option<Vec<BrokerId>>,
        /// A filter of bridges of brokers, none of which this codec knows.
        pub additional_predicate: Option<Box<Structure>>,
        /// Whether it is one of a bridge of brokers.
        pub network_subscription: bool,
        /// Whether it acknowledges in batches of its own choice.
        pub optimized_acknowledge: bool,
        /// Whether it never acknowledges ranges.
        pub no_range_acks: bool,
        /// Consumers that it stands for.
        pub network_consumer_path: Option<Vec<ConsumerId>> [since 4],
    }
}

structure! {
    /// A producer begins.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct ProducerInfo = 6 {
        /// Number and response.
        pub header: Header,
        /// The producer.
        pub producer_id: ProducerId,
        /// Where it sends; none: each message says it.
        pub destination: Option<Destination>,
        /// Brokers that it came by.
        pub broker_path: Option<Vec<BrokerId>>,
        /// Whether the broker may dispatch outside the sender's turn.
        pub dispatch_async: bool [since 2],
        /// Bytes that it sends before the first [`ProducerAck`](super::ProducerAck); 0: no limit.
        pub window_size: i32 [since 3],
    }
}

codes! {
    /// What happens to a destination.
    pub enum DestinationOperation {
        /// It is made.
        Add = 0,
        /// It is deleted.
        Remove = 1,
    }
}

structure! {
    /// A destination is made or deleted.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct DestinationInfo = 8 {
        /// Number and response.
        pub header: Header,
        /// Whose it is, if it is temporary.
        pub connection_id: Option<ConnectionId>,
        /// The destination.
        pub destination: Destination,
        /// What happens to it.
        pub operation: DestinationOperation,
        /// Milliseconds.
        pub timeout: i64,
        /// Brokers that it came by.
        pub broker_path: Option<Vec<BrokerId>>,
    }
}

structure! {
    /// A durable subscription is deleted.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct RemoveSubscriptionInfo = 9 {
        /// Number and response.
        pub header: Header,
        /// Whose it is.
        pub connection_id: Option<ConnectionId>,
        /// Its name.
        pub subscription_name: String,
        /// The client's name.
        pub client_id: Option<String>,
    }
}

choice! {
    /// What may end.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub enum Removed {
        /// A connection, and all in it.
        Connection(ConnectionId),
        /// A session, and all in it.
        Session(SessionId),
        /// A consumer.
        Consumer(ConsumerId),
        /// A producer.
        Producer(ProducerId),
    }
}

structure! {
    /// A connection, session, consumer or producer ends.
    #[derive(Clone, Debug, Eq, PartialEq)]
    pub struct RemoveInfo = 12 {
        /// Number and response.
        pub header: Header,
        /// Which.
        pub object_id: Removed,
        /// Broker's sequence of the last message that reached the application; -1: none, -2: not known.
        pub last_delivered_sequence_id: i64 [since 5],
    }
}

structure! {
    /// A consumer's prefetch changes, or it is closed, stopped, started.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ConsumerControl = 17 {
        /// Number and response.
        pub header: Header,
        /// What it consumes.
        pub destination: Option<Destination> [since 6],
        /// It is to end.
        pub close: bool,
        /// The consumer.
        pub consumer_id: Option<ConsumerId>,
        /// How many messages it takes before the first is acknowledged.
        pub prefetch: i32,
        /// Send what is kept for it.
        pub flush: bool [since 2],
        /// Begin to send.
        pub start: bool [since 2],
        /// Stop to send.
        pub stop: bool [since 2],
    }
}

structure! {
    /// A durable subscription, as brokers describe it.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct SubscriptionInfo = 55 {
        /// The client's name.
        pub client_id: Option<String>,
        /// What it consumes.
        pub destination: Option<Destination>,
        /// Which messages it wants.
        pub selector: Option<String>,
        /// Its name.
        pub subscription_name: Option<String>,
        /// What was subscribed, where the destination is one that it stands for.
        pub subscribed_destination: Option<Destination> [since 3],
        /// Whether it leaves out what its own connection sent.
        pub no_local: bool [since 11],
    }
}
