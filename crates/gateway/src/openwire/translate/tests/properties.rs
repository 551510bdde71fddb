//! Whatever a client sends comes back; whatever anybody stores does no harm.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use quorate_message::{Message, MessagePosition, Value};
use quorate_wire::openwire::{self, Blob, Map, MessageKind};

use super::{content, delivered, publish, queue, received, sent, stored, topic};

fn kind() -> impl Strategy<Value = MessageKind> {
    let blob = (option::of(".{0,20}"), option::of(".{0,20}"), any::<bool>());
    prop_oneof![
        Just(MessageKind::Plain),
        Just(MessageKind::Bytes),
        Just(MessageKind::Map),
        Just(MessageKind::Object),
        Just(MessageKind::Stream),
        Just(MessageKind::Text),
        blob.prop_map(|(remote_blob_url, mime_type, deleted_by_broker)| {
            MessageKind::Blob(Blob {
                remote_blob_url,
                mime_type,
                deleted_by_broker,
            })
        }),
    ]
}

/// Content that is a text's in modified UTF-8, one in UTF-8, or anything.
fn any_content() -> impl Strategy<Value = Option<Vec<u8>>> {
    let surrogates = vec(
        select(vec![
            &b"a"[..],
            b"\xC3\xA9",
            b"\xC0\x80",
            b"\0",
            b"\xED\xA0\xBD\xED\xB8\x80",
            b"\xED\xA0\xBD",
            b"\xF0\x9F\x98\x80",
            b"\xC1\x81",
        ]),
        0..6,
    );
    option::of(prop_oneof![
        ".{0,30}".prop_map(|text| content(text.as_bytes())),
        surrogates.prop_map(|parts| content(&parts.concat())),
        vec(any::<u8>(), 0..60),
        Just(vec![0xFF; 4]),
    ])
}

fn java_value() -> impl Strategy<Value = openwire::Value> {
    use openwire::Value as Java;
    let leaf = prop_oneof![
        Just(Java::Null),
        any::<bool>().prop_map(Java::Boolean),
        any::<i8>().prop_map(Java::Byte),
        any::<u16>().prop_map(Java::Char),
        any::<i16>().prop_map(Java::Short),
        any::<i32>().prop_map(Java::Int),
        any::<i64>().prop_map(Java::Long),
        proptest::num::f64::ANY.prop_map(Java::Double),
        proptest::num::f32::NORMAL.prop_map(Java::Float),
        Just(Java::Float(f32::NEG_INFINITY)),
        Just(Java::Float(f32::NAN)),
        Just(Java::Float(-0.0)),
        ".{0,20}".prop_map(Java::Text),
        (8190..8195_usize).prop_map(|length| Java::Text("é".repeat(length))),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Java::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec((".{0,8}", inner.clone()), 0..4)
                .prop_map(|entries| Java::Map(Map::from_iter(entries))),
            vec(inner, 0..4).prop_map(Java::List),
        ]
    })
}

fn java_properties() -> impl Strategy<Value = BTreeMap<String, openwire::Value>> {
    btree_map("[a-zé_. -]{1,12}", java_value(), 0..8)
}

fn destination() -> impl Strategy<Value = openwire::Destination> {
    let name = "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}";
    prop_oneof![
        name.prop_map(|name| queue(&name)),
        name.prop_map(|name| topic(&name)),
        (1..99_u32).prop_map(|n| {
            let physical_name = format!("ID:host-1-1:1:{n}");
            openwire::TempQueue { physical_name }.into()
        }),
        (1..99_u32).prop_map(|n| {
            let physical_name = format!("ID:host-1-1:1:{n}");
            openwire::TempTopic { physical_name }.into()
        }),
        Just(queue("a,topic://b")),
    ]
}

/// A text field: none, empty, short, and at the length that the stored message has no room for.
fn field() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![".{0,20}", "[a-z]{254,258}"])
}

prop_compose! {
    fn headers()(
        texts in (field(), field(), field(), field()),
        group_sequence in any::<i32>(),
        numbers in (any::<i64>(), -2..12_i8, any::<i64>()),
        marks in (any::<bool>(), any::<bool>(), any::<bool>()),
        reply_to in option::of(destination()),
        original_destination in option::of(destination()),
        text_view in option::of("ID:[a-z:0-9]{0,260}"),
    ) -> openwire::Message {
        let mut message = sent(MessageKind::Plain, None);
        (message.group_id, message.correlation_id, message.jms_type, message.user_id) = texts;
        message.group_sequence = group_sequence;
        (message.expiration, message.priority, message.timestamp) = numbers;
        (message.persistent, message.compressed, message.droppable) = marks;
        message.reply_to = reply_to;
        message.original_destination = original_destination;
        message.message_id.text_view = text_view;
        message
    }
}

/// What of a message an application sees, or the client goes by.
pub(super) fn seen(message: &openwire::Message) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (
            message.kind.clone(),
            message.content.clone(),
            message.compressed,
        ),
        message.message_id.to_string(),
        (message.group_id.clone(), message.group_sequence),
        (message.correlation_id.clone(), message.jms_type.clone()),
        (message.user_id.clone(), message.reply_to.clone()),
        message.original_destination.clone(),
        (message.persistent, message.droppable),
        (message.expiration.max(0), message.priority.clamp(0, 9)),
        message.timestamp.max(0),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_a_client_sends_another_one_gets(
        mut message in headers(),
        kind in kind(),
        content in any_content(),
        properties in java_properties(),
    ) {
        message.kind = kind;
        message.content = content.map(Bytes::from);
        let map: Map = properties.into_iter().collect();
        let is_empty = map.is_empty();
        message.marshalled_properties = Some(map.encode().expect("a short map"));
        let again = delivered(message.clone());
        prop_assert_eq!(seen(&again), seen(&message));
        let expected = message.marshalled_properties.filter(|_| !is_empty);
        prop_assert_eq!(again.marshalled_properties, expected);
    }

    #[test]
    fn whatever_a_client_sends_is_stored_or_refused(
        kind in kind(),
        content in any_content(),
        properties in vec(any::<u8>(), 0..40),
        compressed in any::<bool>(),
        name in ".{0,20}",
    ) {
        let mut message = sent(kind, content.as_deref());
        message.compressed = compressed;
        message.destination = queue(&name);
        message.marshalled_properties = Some(properties.into());
        if let Ok(publication) = publish(message) {
            prop_assert!(Message::decode(&publication.message).is_ok());
        }
    }

    #[test]
    fn whatever_is_stored_is_a_message_for_a_client(
        content_type in prop_oneof![
            Just("application/x-jms-text".to_owned()),
            Just("application/x-jms-blob".to_owned()),
            Just("application/x-jms-map".to_owned()),
            Just("text/plain".to_owned()),
            Just(String::new()),
            ".{0,20}",
        ],
        body in vec(any::<u8>(), 0..40),
        facts in vec(any::<u8>(), 0..20),
        reply_to in ".{0,20}",
        correlation_id in ".{0,20}",
        others in btree_map(".{1,20}", neutral_value(), 0..4),
        reserved in btree_map(reserved_name(), neutral_value(), 0..6),
    ) {
        let mut properties: Vec<_> = others.into_iter().chain(reserved).collect();
        let facts = [&[1, 0][..], &facts].concat();
        properties.push(("quorate_jms".to_owned(), Value::Binary(facts.into())));
        let stored = stored(&Message {
            content_type,
            reply_to,
            correlation_id,
            properties,
            body: body.into(),
            ..Message::default()
        });
        let message = received(&stored, MessagePosition::new(1, 1), &queue("a"));
        let command = openwire::Command::Message(Box::new(message));
        let mut frame = BytesMut::new();
        let offer = openwire::Offer::default();
        let format = offer.agree(&offer.info()).expect("one of our own kind");
        prop_assert!(openwire::encode(&command, &format, &mut frame).is_ok());
    }
}

fn neutral_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<f64>().prop_map(Value::Double),
        ".{0,20}".prop_map(Value::Text),
        Just(Value::Text("\0".repeat(40_000))),
        Just(Value::Text("😀".repeat(12_000))),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Binary(bytes.into())),
    ]
}

fn reserved_name() -> impl Strategy<Value = String> {
    let names = [
        "JMSType",
        "JMSXUserID",
        "JMSXGroupID",
        "JMSXGroupSeq",
        "JMSCorrelationID",
        "quorate_jms",
        "quorate_jms_compressed",
        "quorate_dead_letter_reason",
        "quorate_dead_letter_queue",
        "quorate_dead_letter_deliveries",
        "quorate_dead_letter_expiry_ms",
    ];
    select(names.map(str::to_owned).to_vec())
}
