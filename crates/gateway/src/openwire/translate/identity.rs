//! Who is who: OpenWire's ids, which are texts and numbers, as identities of sixteen bytes; and the ids that stored
//! messages get for clients.
//!
//! A client recognises repeats by a message's producer and number, and JMSMessageID is a text beside them. Both
//! come from what never changes: the text is the one that the message was sent with, producer and number are
//! made of its place in its shard. So a message that is delivered again, by whatever gateway, is known to be the same one; two
//! messages with one id are not, such as those of a schedule that repeats, or of a retried dead letter.
//!
//! ```text
//! producer  ID:quorate-<shard>:1:<entry>    number  ordinal in the entry + 1
//! ```
//! Numbers of one producer stay within 1,024, and the client's window has 2,048: it never takes a late message for one that it
//! has forgotten, and never walks over a gap.

use quorate_message::{ConsumerId, MessagePosition, ProducerId};
use quorate_wire::openwire;
use ring::digest::{SHA256, digest};

use crate::session::ShardId;

/// What the connection of an invented producer begins with.
const CONNECTION: &str = "ID:quorate-";

/// The session of an invented producer. Any number does.
const SESSION: i64 = 1;

/// Bits of a position that number the messages of an invented producer.
const NUMBER_BITS: u32 = 10;

/// Sixteen bytes that stand for a text: the first of its SHA-256, the same in every gateway and version. Nobody finds
/// two texts with the same.
pub(crate) fn hash16(text: &str) -> [u8; 16] {
    let digest = digest(&SHA256, text.as_bytes());
    let first = digest.as_ref().first_chunk();
    *first.expect("SHA-256 has 32 bytes")
}

/// The producer as the broker knows it. Each use of an id hashes it with another prefix, so that a consumer of the same
/// numbers is somebody else.
pub(crate) fn producer_id(producer: &openwire::ProducerId) -> ProducerId {
    ProducerId(hash16(&format!("openwire producer {producer}")))
}

/// The consumer as the broker knows it.
pub(crate) fn consumer_id(consumer: &openwire::ConsumerId) -> ConsumerId {
    ConsumerId(hash16(&format!("openwire consumer {consumer}")))
}

/// Whom the transactions of a connection belong to.
pub(crate) fn origin_id(connection: &openwire::ConnectionId) -> ProducerId {
    ProducerId(hash16(&format!("openwire transactions {connection}")))
}

/// The id of the message at a position, with the text that it was sent with, if any.
pub(crate) fn message_id(
    shard: ShardId,
    position: MessagePosition,
    text: Option<&str>,
    broker_sequence_id: i64,
) -> openwire::MessageId {
    let value = position.value();
    openwire::MessageId {
        text_view: text.map(str::to_owned),
        producer_id: openwire::ProducerId {
            connection_id: format!("{CONNECTION}{}", shard.0),
            session_id: SESSION,
            value: (value >> NUMBER_BITS).cast_signed(),
        },
        producer_sequence_id: (value & ((1 << NUMBER_BITS) - 1)).cast_signed() + 1,
        broker_sequence_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: [u8; 16]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_hash_is_the_same_for_ever() {
        assert_eq!(hex(hash16("abc")), "ba7816bf8f01cfea414140de5dae2223");
        let producer = openwire::ProducerId {
            connection_id: "ID:host-1-1:1".to_owned(),
            session_id: 1,
            value: 2,
        };
        assert_eq!(
            producer_id(&producer).0,
            hash16("openwire producer ID:host-1-1:1:1:2")
        );
    }

    #[test]
    fn one_text_is_another_for_another_use() {
        let connection_id = "c".to_owned();
        let producer = producer_id(&openwire::ProducerId {
            connection_id: connection_id.clone(),
            session_id: 1,
            value: 2,
        });
        let consumer = consumer_id(&openwire::ConsumerId {
            connection_id,
            session_id: 1,
            value: 2,
        });
        let origin = origin_id(&openwire::ConnectionId {
            value: "c:1:2".to_owned(),
        });
        assert_ne!(producer.0, consumer.0);
        assert_ne!(producer, origin);
    }

    #[test]
    fn every_position_has_an_id_of_its_own() {
        let mut ids = std::collections::BTreeSet::new();
        for position in [
            MessagePosition::new(0, 0),
            MessagePosition::new(77, 1023),
            MessagePosition::transient(9, 5000),
            MessagePosition::from_value(u64::MAX),
        ] {
            let id = message_id(ShardId(3), position, None, 9);
            assert!((1..=1024).contains(&id.producer_sequence_id));
            assert!(ids.insert(id.to_string()), "{id}");
        }
        let id = message_id(ShardId(3), MessagePosition::new(7, 4), None, 9);
        assert_eq!(id.to_string(), "ID:quorate-3:1:7:5");
    }
}
