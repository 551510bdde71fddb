//! Messages on their way to consumers, and what consumers and the broker acknowledge.

use super::Header;
use crate::openwire::destination::Destination;
use crate::openwire::ids::{ConsumerId, MessageId, ProducerId, TransactionId};
use crate::openwire::message::Message;
use crate::openwire::structure::{codes, structure};
use crate::openwire::throwable::Throwable;

structure! {
    /// A consumer without prefetch asks for one message.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MessagePull = 20 {
        /// Number and response.
        pub header: Header,
        /// The consumer.
        pub consumer_id: ConsumerId,
        /// What it consumes.
        pub destination: Option<Destination>,
        /// Milliseconds that it waits; 0: for ever; -1: not at all.
        pub timeout: i64,
        /// Which answer it wants.
        pub correlation_id: Option<String> [since 3],
        /// Which message it wants.
        pub message_id: Option<MessageId> [since 3],
    }
}

structure! {
    /// A message for a consumer. Without a message it is the end of a browser's, or a pull's answer that there is none.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MessageDispatch = 21 {
        /// Number and response.
        pub header: Header,
        /// The consumer.
        pub consumer_id: ConsumerId,
        /// What it consumes.
        pub destination: Option<Destination>,
        /// The message.
        pub message: Option<Box<Message>>,
        /// How often it has been delivered before.
        pub redelivery_counter: i32,
    }
}

codes! {
    /// What a consumer says of messages.
    pub enum AckType {
        /// They arrived: the broker may send more, but they are not done.
        Delivered = 0,
        /// The client gives up on them.
        Poison = 1,
        /// They are done.
        Standard = 2,
        /// The client delivers them again itself.
        Redelivered = 3,
        /// The last one is done, and no other.
        Individual = 4,
        /// They are not wanted by this durable subscription.
        Unmatched = 5,
        /// They expired at the client.
        Expired = 6,
    }
}

structure! {
    /// What a consumer says of the messages from the first to the last, in the order in which they were dispatched to it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct MessageAck = 22 {
        /// Number and response.
        pub header: Header,
        /// Where the messages come from.
        pub destination: Option<Destination>,
        /// The transaction that it belongs to.
        pub transaction_id: Option<TransactionId>,
        /// The consumer.
        pub consumer_id: ConsumerId,
        /// What is said.
        pub ack_type: AckType,
        /// The first; none: from the oldest that is not acknowledged.
        pub first_message_id: Option<MessageId>,
        /// The last.
        pub last_message_id: Option<MessageId>,
        /// How many they are.
        pub message_count: i32,
        /// Why the client gave up.
        pub poison_cause: Option<Throwable> [since 7],
    }
}

structure! {
    /// The broker took a message of a producer with a window.
    #[derive(Clone, Debug, Default, Eq, PartialEq)]
    pub struct ProducerAck = 19 {
        /// Number and response.
        pub header: Header,
        /// The producer.
        pub producer_id: Option<ProducerId>,
        /// [`Message::window_bytes`] of the message.
        pub size: i32,
    }
}
