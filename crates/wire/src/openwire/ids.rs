//! Who is who: connections, sessions, consumers, producers, messages, transactions. Clients choose these ids, and they
//! are unique by the connection's, so that a broker needs no table to make them.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::structure::{choice, structure};

structure! {
    /// A client's connection, kept over its reconnects.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct ConnectionId = 120 {
        /// Such as `ID:host-40123-1700000000000-1:1`.
        pub value: String,
    }
}

structure! {
    /// A session of a connection.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct SessionId = 121 {
        /// The connection's id.
        pub connection_id: String,
        /// Counted by the client; -1 is the connection's own session, for advisories.
        pub value: i64,
    }
}

structure! {
    /// A consumer of a session.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct ConsumerId = 122 {
        /// The connection's id.
        pub connection_id: String,
        /// The session's number.
        pub session_id: i64,
        /// Counted by the client.
        pub value: i64,
    }
}

structure! {
    /// A producer of a session. On the wire its own number stands before the session's, unlike a consumer's.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct ProducerId = 123 {
        /// The connection's id.
        pub connection_id: String,
        /// Counted by the client.
        pub value: i64,
        /// The session's number.
        pub session_id: i64,
    }
}

structure! {
    /// A broker.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct BrokerId = 124 {
        /// Any text; clients only compare it.
        pub value: String,
    }
}

structure! {
    /// A message, by the producer that sent it and its number there.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct MessageId = 110 {
        /// The text by which the application knows the message, where it came by another protocol.
        pub text_view: Option<String> [since 10],
        /// The producer.
        pub producer_id: ProducerId,
        /// Rises by one with each message of the producer: what repeats are recognised by.
        pub producer_sequence_id: i64,
        /// Rises with each message of the broker, which sets it; 0 from a client. The client gives it back in
        /// [`RemoveInfo`](super::RemoveInfo).
        pub broker_sequence_id: i64,
    }
}

structure! {
    /// A transaction of one connection.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct LocalTransactionId = 111 {
        /// Counted by the client.
        pub value: i64,
        /// The connection.
        pub connection_id: ConnectionId,
    }
}

structure! {
    /// A branch of a distributed transaction, named by its transaction manager.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub struct XaTransactionId = 112 {
        /// How the other two are to be understood.
        pub format_id: i32,
        /// The transaction.
        pub global_transaction_id: Bytes,
        /// The branch.
        pub branch_qualifier: Bytes,
    }
}

choice! {
    /// A transaction.
    #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
    pub enum TransactionId {
        /// Of one connection.
        Local(LocalTransactionId),
        /// Of a transaction manager.
        Xa(XaTransactionId),
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.connection_id, self.value)
    }
}

impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connection_id,
            session_id,
            value,
        } = self;
        write!(f, "{connection_id}:{session_id}:{value}")
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connection_id,
            value,
            session_id,
        } = self;
        write!(f, "{connection_id}:{session_id}:{value}")
    }
}

/// What JMSMessageID begins with, by the specification.
const ID_PREFIX: &str = "ID:";

/// The text that an application sees as JMSMessageID.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text_view {
            Some(text) if text.starts_with(ID_PREFIX) => f.write_str(text),
            Some(text) => write!(f, "{ID_PREFIX}{text}"),
            None => write!(f, "{}:{}", self.producer_id, self.producer_sequence_id),
        }
    }
}

/// A text that is no message id of a client.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a message id: `connection:session:producer:sequence` expected")]
pub struct MalformedMessageId;

impl std::str::FromStr for MessageId {
    type Err = MalformedMessageId;

    /// Reads what [`Display`](fmt::Display) writes for an id without a text of its own.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, producer_sequence_id) = split_number(text)?;
        let (rest, value) = split_number(rest)?;
        let (connection_id, session_id) = split_number(rest)?;
        Ok(Self {
            text_view: None,
            producer_id: ProducerId {
                connection_id: connection_id.to_owned(),
                value,
                session_id,
            },
            producer_sequence_id,
            broker_sequence_id: 0,
        })
    }
}

fn split_number(text: &str) -> Result<(&str, i64), MalformedMessageId> {
    let (rest, number) = text.rsplit_once(':').ok_or(MalformedMessageId)?;
    Ok((rest, number.parse().map_err(|_| MalformedMessageId)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_read_from_its_text() {
        let text = "ID:host-40123-1700000000000-1:1:2:3:44";
        let id: MessageId = text.parse().expect("a message id");
        assert_eq!(
            id.producer_id.connection_id,
            "ID:host-40123-1700000000000-1:1"
        );
        assert_eq!((id.producer_id.session_id, id.producer_id.value), (2, 3));
        assert_eq!(id.producer_sequence_id, 44);
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn other_texts_are_no_message_ids() {
        for text in ["", "ID:a", "ID:a:1:2", "ID:a:1:2:x", "1:2:3"] {
            assert_eq!(text.parse::<MessageId>(), Err(MalformedMessageId), "{text}");
        }
    }

    #[test]
    fn a_text_of_its_own_goes_first() {
        let mut id: MessageId = "c:1:2:3".parse().expect("a message id");
        id.text_view = Some("order-7".to_owned());
        assert_eq!(id.to_string(), "ID:order-7");
        id.text_view = Some("ID:order-7".to_owned());
        assert_eq!(id.to_string(), "ID:order-7");
    }
}
