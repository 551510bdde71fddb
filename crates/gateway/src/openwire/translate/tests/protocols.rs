//! What clients of gRPC and of JMS see of each other's messages.

use std::collections::HashMap;

use bytes::Bytes;
use quorate_message::{
    ConsumerId, Message, MessagePosition, MessageView, MoveReason, Value as Neutral,
};
use quorate_proto::v1;
use quorate_wire::openwire::{self, MessageKind, Value as Java};

use super::{
    content, entries, entry, published, queue, received, sent, stored, text_message, topic,
    with_properties,
};
use crate::convert::{Publications, delivery};
use crate::session::{Generation, ShardId, StoredDelivery};

/// What a client of gRPC gets of a JMS client's message.
fn to_grpc(message: openwire::Message) -> v1::Message {
    let stored = StoredDelivery {
        consumer: ConsumerId::default(),
        generation: Generation(1),
        position: MessagePosition::new(1, 1),
        delivery_count: 0,
        group: None,
        redelivered: false,
        message: published(message).message,
    };
    let delivery = delivery(ShardId(3), &stored).expect("it can be read");
    delivery.message.expect("a delivery has a message")
}

/// What a JMS client gets of a gRPC client's message.
fn to_jms(message: v1::Message) -> openwire::Message {
    let outbound = v1::OutboundMessage {
        destination: "orders".to_owned(),
        message: Some(message),
        ..v1::OutboundMessage::default()
    };
    let publications = Publications::new(1024).read_all(vec![outbound], false);
    let publication = publications.expect("it can be sent").remove(0);
    let position = MessagePosition::new(77, 4);
    received(&publication.message, position, &queue("orders"))
}

fn of_type(content_type: &str, body: &[u8]) -> v1::Message {
    v1::Message {
        content_type: content_type.to_owned(),
        body: Bytes::copy_from_slice(body),
        ..v1::Message::default()
    }
}

#[test]
fn grpc_reads_what_jms_sent() {
    let check = |kind, content: &[u8], content_type: &str, body: &[u8]| {
        let message = to_grpc(sent(kind, Some(content)));
        assert_eq!(message.content_type, content_type);
        assert_eq!(message.body.as_ref(), body);
    };
    let text = "text/plain; charset=utf-8";
    check(
        MessageKind::Text,
        &content("é".as_bytes()),
        text,
        "é".as_bytes(),
    );
    let smile = content(b"\xED\xA0\xBD\xED\xB8\x80\xC0\x80");
    check(MessageKind::Text, &smile, text, "😀\0".as_bytes());
    let lone = content(b"\xED\xA0\xBD");
    check(MessageKind::Text, &lone, "application/x-jms-text", &lone);
    check(
        MessageKind::Bytes,
        b"\0\x01",
        "application/octet-stream",
        b"\0\x01",
    );
    check(MessageKind::Map, b"m", "application/x-jms-map", b"m");
    check(MessageKind::Stream, b"s", "application/x-jms-stream", b"s");
    check(MessageKind::Plain, b"", "application/x-jms-message", b"");
    let object = "application/x-java-serialized-object";
    check(MessageKind::Object, b"\xAC\xED", object, b"\xAC\xED");
}

#[test]
fn grpc_reads_the_fields_of_jms() {
    let mut message = with_properties(
        text_message("a"),
        &[("n", Java::Short(7)), ("f", Java::Float(0.5))],
    );
    message.correlation_id = Some("c".to_owned());
    message.group_id = Some("g".to_owned());
    message.group_sequence = 3;
    message.jms_type = Some("t".to_owned());
    message.reply_to = Some(
        openwire::TempQueue {
            physical_name: "ID:h-1-1:1:4".to_owned(),
        }
        .into(),
    );
    let message = to_grpc(message);
    assert_eq!(message.message_id, "ID:host-40123-1700000000000-1:1:1:1:7");
    assert_eq!(message.correlation_id, "c");
    assert_eq!(message.reply_to, "temp-queue://ID:h-1-1:1:4");
    assert_eq!((message.group.as_str(), message.group_sequence), ("g", 3));
    let kind = |name: &str| message.properties[name].kind.clone();
    assert_eq!(kind("n"), Some(v1::value::Kind::Int(7)));
    assert_eq!(kind("f"), Some(v1::value::Kind::Double(0.5)));
    assert_eq!(kind("JMSType"), Some(v1::value::Kind::Text("t".to_owned())));
    let mut compressed = sent(MessageKind::Text, Some(b"\x78\x9c"));
    compressed.compressed = true;
    let message = to_grpc(compressed);
    assert_eq!(message.content_type, "application/x-jms-text");
    assert_eq!(
        message.properties["quorate_jms_compressed"].kind,
        Some(v1::value::Kind::Boolean(true))
    );
}

#[test]
fn jms_gets_a_kind_by_the_content_type() {
    let check = |content_type: &str, body: &[u8], kind: MessageKind, content: Option<&[u8]>| {
        let message = to_jms(of_type(content_type, body));
        assert_eq!(message.kind, kind, "{content_type}");
        assert_eq!(message.content.as_deref(), content, "{content_type}");
    };
    check("text/plain", b"a", MessageKind::Text, Some(&content(b"a")));
    check("text/plain", b"", MessageKind::Text, Some(&content(b"")));
    let smile = content(b"\xED\xA0\xBD\xED\xB8\x80");
    check(
        "application/json",
        "😀".as_bytes(),
        MessageKind::Text,
        Some(&smile),
    );
    check("text/plain", b"\xFF", MessageKind::Bytes, Some(b"\xFF"));
    check("", b"plain text", MessageKind::Bytes, Some(b"plain text"));
    check("", b"", MessageKind::Bytes, None);
    let object = "application/x-java-serialized-object";
    check(object, b"\xAC\xED", MessageKind::Object, Some(b"\xAC\xED"));
}

#[test]
fn jms_reads_the_fields_of_grpc() {
    use v1::value::Kind;
    let property = |name: &str, kind| (name.to_owned(), v1::Value { kind: Some(kind) });
    let properties = HashMap::from([
        property("order-id", Kind::Long(7)),
        property("raw", Kind::Binary(Bytes::from_static(b"r"))),
        property("JMSType", Kind::Text("t".to_owned())),
        property("JMSXUserID", Kind::Int(5)),
    ]);
    let message = to_jms(v1::Message {
        message_id: "order-7".to_owned(),
        correlation_id: "c".to_owned(),
        reply_to: "answers".to_owned(),
        priority: Some(8),
        timestamp_ms: 5,
        expires_at_ms: 6,
        group: "g".to_owned(),
        group_sequence: i64::MAX,
        properties,
        ..v1::Message::default()
    });
    assert_eq!(message.message_id.to_string(), "ID:order-7");
    assert_eq!(message.producer_id.to_string(), "ID:quorate-3:1:77");
    assert_eq!(message.correlation_id.as_deref(), Some("c"));
    assert_eq!(message.reply_to, Some(queue("answers")));
    assert_eq!(
        (message.priority, message.timestamp, message.expiration),
        (8, 5, 6)
    );
    assert_eq!(message.group_id.as_deref(), Some("g"));
    assert_eq!(message.group_sequence, i32::MAX);
    assert_eq!(message.jms_type.as_deref(), Some("t"));
    assert_eq!(entry(&message, "order-id"), Some(Java::Long(7)));
    assert_eq!(
        entry(&message, "raw"),
        Some(Java::Bytes(Bytes::from_static(b"r")))
    );
    assert_eq!(
        entry(&message, "JMSXUserID"),
        Some(Java::Int(5)),
        "no text, no user"
    );
    assert_eq!(message.user_id, None);
    let nameless = to_jms(v1::Message::default());
    assert_eq!(nameless.message_id.to_string(), "ID:quorate-3:1:77:5");
    assert_eq!(nameless.message_id.text_view, None);
}

#[test]
fn the_facts_of_jms_are_hidden_from_jms() {
    let mut message = with_properties(text_message("a"), &[("n", Java::Byte(7))]);
    message.droppable = true;
    let stored = published(message).message;
    let view = MessageView::new(&stored).expect("a message");
    assert!(view.property("quorate_jms").is_some());
    let again = received(&stored, MessagePosition::new(1, 1), &queue("orders"));
    assert_eq!(entries(&again), [("n".to_owned(), Java::Byte(7))]);
}

#[test]
fn types_survive_a_client_of_grpc_that_passes_a_message_on() {
    let message = to_grpc(with_properties(
        text_message("a"),
        &[
            ("z", Java::Byte(7)),
            ("a", Java::Int(8)),
            ("m", Java::Short(9)),
        ],
    ));
    let again = to_jms(message);
    assert_eq!(entry(&again, "z"), Some(Java::Byte(7)));
    assert_eq!(entry(&again, "a"), Some(Java::Int(8)));
    assert_eq!(entry(&again, "m"), Some(Java::Short(9)));
}

#[test]
fn a_dead_letter_tells_why_as_activemq_does() {
    let text = |text: &str| Neutral::Text(text.to_owned());
    let died = |place: &str| {
        let properties = [
            (
                "quorate_dead_letter_reason",
                text(&MoveReason::DeliveryLimit.to_string()),
            ),
            ("quorate_dead_letter_queue", text(place)),
            ("quorate_dead_letter_deliveries", Neutral::Int(7)),
            ("quorate_dead_letter_expiry_ms", Neutral::Long(55)),
        ];
        let properties = properties.into_iter();
        let stored = stored(&Message {
            properties: properties
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..Message::default()
        });
        received(&stored, MessagePosition::new(1, 1), &queue("ActiveMQ.DLQ"))
    };
    let message = died("queue://orders");
    assert_eq!(message.original_destination, Some(queue("orders")));
    assert_eq!(
        entry(&message, "dlqDeliveryFailureCause"),
        Some(Java::Text(
            "delivery-limit after 7 failed deliveries at queue://orders".to_owned()
        ))
    );
    assert_eq!(entry(&message, "originalExpiration"), Some(Java::Long(55)));
    assert_eq!(
        entry(&message, "quorate_dead_letter_reason"),
        Some(Java::Text("delivery-limit".to_owned()))
    );
    assert_eq!(died("subscription://x").original_destination, None);
}

#[test]
fn a_copy_of_a_virtual_topic_tells_the_topic() {
    let stored = published(text_message("a")).message;
    let at = |name: &str| received(&stored, MessagePosition::new(1, 1), &queue(name));
    assert_eq!(
        at("Consumer.A.VirtualTopic.X").original_destination,
        Some(topic("VirtualTopic.X"))
    );
    assert_eq!(at("orders").original_destination, None);
}
