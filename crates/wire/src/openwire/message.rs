//! A message as JMS knows it. Its body and its properties stay bytes, slices of the frame: whoever wants them reads
//! them with [`Message::body`] and [`Message::properties`].

use bytes::Bytes;

use super::command::{Header, Structure};
use super::destination::Destination;
use super::field::Typed;
use super::ids::{BrokerId, ConsumerId, MessageId, ProducerId, TransactionId};
use super::input::{DecodeError, Fault, Input};
use super::output::{EncodeError, Output};
use super::structure::fields;
use super::value::{Map, ValueError};

/// What kind of body a message has. The kinds have the same fields on the wire, but for [`Blob`]'s.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageKind {
    /// No body.
    Plain,
    /// Bytes.
    Bytes,
    /// Names and values.
    Map,
    /// A serialised Java object, opaque.
    Object,
    /// Values.
    Stream,
    /// A text.
    Text,
    /// A reference to what lies elsewhere.
    Blob(Blob),
}

fields! {
    /// Where the body lies that a message refers to.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Blob {
        /// Where.
        pub remote_blob_url: Option<String> [since 3],
        /// What it is.
        pub mime_type: Option<String> [since 3],
        /// Whether the broker deletes it when the message is done.
        pub deleted_by_broker: bool [since 3],
    }
}

fields! {
    /// A message.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Message [
        apart
        /// What its body is.
        kind: MessageKind
    ] {
        /// Number and response, of the producer.
        pub header: Header,
        /// The producer.
        pub producer_id: ProducerId,
        /// Where it was sent.
        pub destination: Destination,
        /// The transaction that it is sent in. It means nothing in a dispatch, though ActiveMQ's broker may leave it there.
        pub transaction_id: Option<TransactionId>,
        /// Where it was sent first, if the broker moved or copied it.
        pub original_destination: Option<Destination>,
        /// Which one it is.
        pub message_id: MessageId,
        /// The transaction that it was sent in.
        pub original_transaction_id: Option<TransactionId>,
        /// JMSXGroupID.
        pub group_id: Option<String>,
        /// JMSXGroupSeq.
        pub group_sequence: i32,
        /// JMSCorrelationID.
        pub correlation_id: Option<String>,
        /// JMSDeliveryMode.
        pub persistent: bool,
        /// JMSExpiration: milliseconds since 1970; 0: never.
        pub expiration: i64,
        /// JMSPriority: 0 to 9.
        pub priority: i8,
        /// JMSReplyTo.
        pub reply_to: Option<Destination>,
        /// JMSTimestamp: milliseconds since 1970.
        pub timestamp: i64,
        /// JMSType.
        pub jms_type: Option<String>,
        /// The body, compressed or not.
        pub content: Option<Bytes>,
        /// The properties, a [`Map`].
        pub marshalled_properties: Option<Bytes>,
        /// The command that an advisory message tells of.
        pub data_structure: Option<Structure>,
        /// The only consumer that may have it.
        pub target_consumer_id: Option<ConsumerId>,
        /// Whether the body is compressed.
        pub compressed: bool,
        /// How often it has been delivered before.
        pub redelivery_counter: i32,
        /// Brokers that it came by.
        pub broker_path: Option<Vec<BrokerId>>,
        /// When it reached its broker.
        pub arrival: i64,
        /// JMSXUserID: who sent it, as the broker knows.
        pub user_id: Option<String>,
        /// Whether it came by a bridge of brokers.
        pub received_by_df_bridge: bool,
        /// Whether the broker may drop it for a slow consumer.
        pub droppable: bool [since 2],
        /// Brokers that it came by within a cluster.
        pub cluster: Option<Vec<BrokerId>> [since 3],
        /// When the broker received it: milliseconds since 1970.
        pub broker_in_time: i64 [since 3],
        /// When the broker dispatched it: milliseconds since 1970.
        pub broker_out_time: i64 [since 3],
        /// JMSXGroupFirstForConsumer.
        pub jmsx_group_first_for_consumer: bool [since 10],
    }
}

const PLAIN: u8 = 23;
const BYTES: u8 = 24;
const MAP: u8 = 25;
const OBJECT: u8 = 26;
const STREAM: u8 = 27;
const TEXT: u8 = 28;
const BLOB: u8 = 29;

/// What a message counts for in a producer's window beside its body and properties, by the client's own sum.
const WINDOW_BYTES_MIN: usize = 1024;

/// JMSPriority where nobody chose one.
const PRIORITY_DEFAULT: i8 = 4;

impl Message {
    /// A message without a body, as a broker makes it: not persistent, of normal priority, without an end.
    #[must_use]
    pub fn new(message_id: MessageId, destination: Destination) -> Self {
        Self {
            kind: MessageKind::Plain,
            header: Header::default(),
            producer_id: message_id.producer_id.clone(),
            destination,
            transaction_id: None,
            original_destination: None,
            message_id,
            original_transaction_id: None,
            group_id: None,
            group_sequence: 0,
            correlation_id: None,
            persistent: false,
            expiration: 0,
            priority: PRIORITY_DEFAULT,
            reply_to: None,
            timestamp: 0,
            jms_type: None,
            content: None,
            marshalled_properties: None,
            data_structure: None,
            target_consumer_id: None,
            compressed: false,
            redelivery_counter: 0,
            broker_path: None,
            arrival: 0,
            user_id: None,
            received_by_df_bridge: false,
            droppable: false,
            cluster: None,
            broker_in_time: 0,
            broker_out_time: 0,
            jmsx_group_first_for_consumer: false,
        }
    }

    /// What the message takes of its producer's window. A [`ProducerAck`](super::ProducerAck) gives exactly this back,
    /// because the client subtracts its own sum.
    #[must_use]
    pub fn window_bytes(&self) -> i32 {
        let content = self.content.as_ref().map_or(0, Bytes::len);
        let properties = self.marshalled_properties.as_ref().map_or(0, Bytes::len);
        let sum = WINDOW_BYTES_MIN
            .saturating_add(content)
            .saturating_add(properties);
        i32::try_from(sum).unwrap_or(i32::MAX)
    }

    /// Reads the properties.
    ///
    /// # Errors
    /// They are no map, or beyond the bounds.
    pub fn properties(&self) -> Result<Map, ValueError> {
        self.marshalled_properties
            .as_ref()
            .map_or_else(|| Ok(Map::new()), Map::decode)
    }

    /// Sets the properties. The client reads none and an empty map alike.
    ///
    /// # Errors
    /// A name or the whole is too long.
    pub fn set_properties(&mut self, properties: &Map) -> Result<(), EncodeError> {
        self.marshalled_properties = if properties.is_empty() {
            None
        } else {
            Some(properties.encode()?)
        };
        Ok(())
    }
}

impl Typed for Message {
    fn admits(data_type: u8) -> bool {
        (PLAIN..=BLOB).contains(&data_type)
    }

    fn data_type(&self) -> u8 {
        match &self.kind {
            MessageKind::Plain => PLAIN,
            MessageKind::Bytes => BYTES,
            MessageKind::Map => MAP,
            MessageKind::Object => OBJECT,
            MessageKind::Stream => STREAM,
            MessageKind::Text => TEXT,
            MessageKind::Blob(_) => BLOB,
        }
    }

    fn decode_fields(data_type: u8, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let kind = match data_type {
            PLAIN => MessageKind::Plain,
            BYTES => MessageKind::Bytes,
            MAP => MessageKind::Map,
            OBJECT => MessageKind::Object,
            STREAM => MessageKind::Stream,
            TEXT => MessageKind::Text,
            BLOB => MessageKind::Blob(Blob::default()),
            other => return Err(Fault::UnexpectedType(other).into()),
        };
        let mut message = Self::read_fields(kind, input)?;
        if let MessageKind::Blob(blob) = &mut message.kind {
            *blob = Blob::read_fields(input)?;
        }
        Ok(message)
    }

    fn encode_fields(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        self.write_fields(output)?;
        match &self.kind {
            MessageKind::Blob(blob) => blob.write_fields(output),
            MessageKind::Plain
            | MessageKind::Bytes
            | MessageKind::Map
            | MessageKind::Object
            | MessageKind::Stream
            | MessageKind::Text => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openwire::Value;

    fn message() -> Message {
        let id: MessageId = "c:1:2:3".parse().expect("a message id");
        Message::new(id, Destination::queue("q"))
    }

    #[test]
    fn a_window_is_taken_by_body_and_properties() {
        let mut message = message();
        assert_eq!(message.window_bytes(), 1024);
        message.content = Some(Bytes::from_static(b"12345"));
        message.marshalled_properties = Some(Bytes::from_static(b"123"));
        assert_eq!(message.window_bytes(), 1032);
    }

    #[test]
    fn properties_are_there_or_not() {
        let mut message = message();
        assert_eq!(message.properties(), Ok(Map::new()));
        let map = Map::from_iter([("n".to_owned(), Value::Int(1))]);
        assert_eq!(message.set_properties(&map), Ok(()));
        assert_eq!(message.properties(), Ok(map));
        assert_eq!(message.set_properties(&Map::new()), Ok(()));
        assert_eq!(message.marshalled_properties, None);
        message.marshalled_properties = Some(Bytes::from_static(b"\0"));
        assert!(message.properties().is_err());
    }

    #[test]
    fn each_kind_has_its_data_type() {
        for data_type in 0..=u8::MAX {
            assert_eq!(
                Message::admits(data_type),
                (23..=29).contains(&data_type),
                "{data_type}"
            );
        }
        let mut message = message();
        message.kind = MessageKind::Blob(Blob::default());
        assert_eq!(message.data_type(), 29);
    }
}
