//! Messages through both doors.

mod captured;
mod properties;
mod protocols;
mod selected;

use bytes::{Bytes, BytesMut};
use quorate_message::{Message, MessagePosition};
use quorate_wire::openwire::{self, Map, MessageKind};

use super::{Refusal, Seen, inbound, outbound};
use crate::session::{Publication, ShardId};

/// The bound of a body in these tests.
const BODY_BYTES_MAX: usize = 1024 * 1024;

fn queue(name: &str) -> openwire::Destination {
    let physical_name = name.to_owned();
    openwire::Queue { physical_name }.into()
}

fn topic(name: &str) -> openwire::Destination {
    let physical_name = name.to_owned();
    openwire::Topic { physical_name }.into()
}

/// A message as a client sends it.
fn sent(kind: MessageKind, content: Option<&[u8]>) -> openwire::Message {
    let id = openwire::MessageId {
        text_view: None,
        producer_id: openwire::ProducerId {
            connection_id: "ID:host-40123-1700000000000-1:1".to_owned(),
            session_id: 1,
            value: 1,
        },
        producer_sequence_id: 7,
        broker_sequence_id: 0,
    };
    openwire::Message {
        kind,
        persistent: true,
        timestamp: 1_764_160_000_123,
        content: content.map(Bytes::copy_from_slice),
        ..openwire::Message::new(id, queue("orders"))
    }
}

/// A text message's content.
fn content(text: &[u8]) -> Vec<u8> {
    let length = i32::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text].concat()
}

fn text_message(text: &str) -> openwire::Message {
    sent(MessageKind::Text, Some(&content(text.as_bytes())))
}

fn with_properties(
    mut message: openwire::Message,
    entries: &[(&str, openwire::Value)],
) -> openwire::Message {
    let entries = entries.iter();
    let map: Map = entries
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    message.marshalled_properties = Some(map.encode().expect("a short map"));
    message
}

fn publish(message: openwire::Message) -> Result<Publication, Refusal> {
    let mut buffer = BytesMut::new();
    let published = inbound(message, BODY_BYTES_MAX, &mut buffer);
    assert!(buffer.is_empty(), "nothing is left in the buffer");
    published
}

fn published(message: openwire::Message) -> Publication {
    publish(message).expect("it can be published")
}

fn position(publication: &Publication) -> MessagePosition {
    if publication.non_persistent {
        MessagePosition::transient(3, 5000)
    } else {
        MessagePosition::new(77, 4)
    }
}

/// The message that a consumer gets of what is stored.
fn received(
    stored: &Bytes,
    position: MessagePosition,
    destination: &openwire::Destination,
) -> openwire::Message {
    let seen = Seen {
        shard: ShardId(3),
        position,
        redelivery_counter: 2,
        is_first_in_group: true,
        destination,
        broker_sequence_id: 99,
        now_ms: 1_764_160_000_999,
    };
    outbound(stored, &seen).expect("it can be read")
}

/// Through both doors.
fn delivered(message: openwire::Message) -> openwire::Message {
    let publication = published(message);
    let position = position(&publication);
    received(&publication.message, position, &queue("orders"))
}

fn stored(message: &Message) -> Bytes {
    let mut buffer = BytesMut::new();
    message.encode(&mut buffer).expect("it can be stored");
    buffer.freeze()
}

fn entries(message: &openwire::Message) -> Vec<(String, openwire::Value)> {
    let map = message.marshalled_properties.as_ref();
    let map = map.map(|map| Map::decode(map).expect("a map"));
    map.unwrap_or_default().into_iter().collect()
}

fn entry(message: &openwire::Message, name: &str) -> Option<openwire::Value> {
    let entries = entries(message).into_iter();
    let mut named = entries.filter(|(entry, _)| entry == name);
    named.next_back().map(|(_, value)| value)
}

#[test]
fn a_short_text_takes_few_bytes_more() {
    let publication = published(text_message("0123456789"));
    // Version, fields, priority, the id with its length, the content type with its length, the timestamp, the text.
    let id = "ID:host-40123-1700000000000-1:1:1:1:7".len();
    assert_eq!(publication.message.len(), 3 + 1 + id + 1 + 25 + 8 + 10);
    let stored = Message::decode(&publication.message).expect("a message");
    assert_eq!(stored.properties, []);
    assert_eq!(
        publication.message.as_ref().last_chunk(),
        Some(b"0123456789")
    );
}

#[test]
fn the_view_of_the_consumer_is_on_the_message() {
    let publication = published(text_message("a"));
    let message = received(&publication.message, position(&publication), &topic("b"));
    assert_eq!(message.destination, topic("b"));
    assert_eq!(message.redelivery_counter, 2);
    assert_eq!(message.message_id.broker_sequence_id, 99);
    assert_eq!(message.message_id.producer_id, message.producer_id);
    assert_eq!(message.producer_id.to_string(), "ID:quorate-3:1:77");
    assert_eq!(message.message_id.producer_sequence_id, 5);
    assert!(message.jmsx_group_first_for_consumer);
    assert_eq!(message.broker_in_time, 1_764_160_000_123);
    assert_eq!(message.broker_out_time, 1_764_160_000_999);
    assert_eq!(
        message.message_id.to_string(),
        "ID:host-40123-1700000000000-1:1:1:1:7"
    );
}

#[test]
fn a_publication_says_what_the_broker_goes_by() {
    let mut message = text_message("a");
    message.destination = queue("a,topic://b");
    message.expiration = 5;
    message.priority = 12;
    message.persistent = false;
    let publication = published(message);
    assert_eq!(publication.destination.to_string(), "queue://a");
    assert_eq!(publication.also.len(), 1);
    assert_eq!(publication.also[0].to_string(), "topic://b");
    assert_eq!(publication.number, 7);
    assert_eq!((publication.priority, publication.expires_at_ms), (9, 5));
    assert!(publication.non_persistent && !publication.is_retained);
    let message = received(&publication.message, position(&publication), &queue("a"));
    assert_eq!(message.original_destination, Some(queue("a,topic://b")));
    assert!(!message.persistent);
    let mut message = text_message("a");
    message.priority = -3;
    message.expiration = -1;
    let publication = published(message);
    assert_eq!((publication.priority, publication.expires_at_ms), (0, 0));
}

#[test]
fn a_schedule_is_taken_out_of_the_properties() {
    let later = |mut message: openwire::Message| {
        message.persistent = false;
        let delay = ("AMQ_SCHEDULED_DELAY", openwire::Value::Long(500));
        with_properties(message, &[delay, ("n", openwire::Value::Int(1))])
    };
    let publication = published(later(text_message("a")));
    let schedule = publication.schedule.as_deref();
    assert_eq!(schedule, Some(&quorate_message::Schedule::after(500)));
    assert!(
        !publication.non_persistent,
        "the broker keeps no other for later"
    );
    let message = delivered(later(text_message("a")));
    assert!(!message.persistent, "the application sees what it sent");
    assert_eq!(entry(&message, "AMQ_SCHEDULED_DELAY"), None);
    assert_eq!(entry(&message, "n"), Some(openwire::Value::Int(1)));
    assert_eq!(
        entry(&message, "scheduledJobId"),
        Some(openwire::Value::Text(message.message_id.to_string()))
    );
}

#[test]
fn each_delivery_of_a_repeated_message_has_an_id_of_its_own() {
    let message = with_properties(
        text_message("a"),
        &[
            ("AMQ_SCHEDULED_PERIOD", openwire::Value::Long(500)),
            ("AMQ_SCHEDULED_REPEAT", openwire::Value::Int(3)),
        ],
    );
    let stored = published(message.clone()).message;
    let at = |entry| received(&stored, MessagePosition::new(entry, 0), &queue("orders"));
    let (first, second) = (at(5), at(6));
    assert_ne!(first.message_id.to_string(), second.message_id.to_string());
    let job = openwire::Value::Text(message.message_id.to_string());
    assert_eq!(entry(&first, "scheduledJobId"), Some(job.clone()));
    assert_eq!(entry(&second, "scheduledJobId"), Some(job));
}

#[test]
fn what_is_sent_in_a_transaction_keeps_its_delivery_mode() {
    let mut message = text_message("a");
    message.persistent = false;
    message.transaction_id = Some(openwire::TransactionId::Local(
        openwire::LocalTransactionId {
            value: 1,
            connection_id: openwire::ConnectionId {
                value: "c".to_owned(),
            },
        },
    ));
    let publication = published(message);
    let message = received(
        &publication.message,
        MessagePosition::new(1, 1),
        &queue("orders"),
    );
    assert!(!message.persistent);
    assert_eq!(message.transaction_id, None);
}

#[test]
fn what_cannot_be_stored_is_named() {
    let refused = |change: &dyn Fn(&mut openwire::Message)| {
        let mut message = text_message("a");
        change(&mut message);
        publish(message).expect_err("refused").to_string()
    };
    assert_eq!(
        refused(&|m| m.message_id.producer_sequence_id = 0),
        "message has sequence 0; a producer numbers its messages from 1"
    );
    assert!(refused(&|m| m.destination = topic("a.>")).starts_with("destination \"a.>\": "));
    let large = |m: &mut openwire::Message| {
        m.content = Some(vec![b'a'; BODY_BYTES_MAX + 1].into());
    };
    assert!(refused(&large).starts_with("message has a body of 1048577 bytes"));
    let cut = |m: &mut openwire::Message| m.marshalled_properties = Some(vec![0, 0, 0, 1].into());
    assert!(refused(&cut).starts_with("message properties: "));
    let nameless = |m: &mut openwire::Message| {
        *m = with_properties(m.clone(), &[("", openwire::Value::Null)]);
    };
    assert!(refused(&nameless).starts_with("a property has no name"));
    let far = |m: &mut openwire::Message| m.reply_to = Some(queue(&"x".repeat(300)));
    assert!(refused(&far).starts_with("reply destination has 308 bytes"));
    let crowded = |m: &mut openwire::Message| {
        let names: Vec<String> = (0..1100).map(|n| format!("p{n}")).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), openwire::Value::Null))
            .collect();
        *m = with_properties(m.clone(), &entries);
    };
    assert!(refused(&crowded).starts_with("message has 1100 properties"));
}

#[test]
fn a_claim_takes_no_memory() {
    let refused = |map: Vec<u8>| {
        let mut message = text_message("a");
        message.marshalled_properties = Some(map.into());
        publish(message).expect_err("refused").to_string()
    };
    let claims = |tag: u8| [&i32::MAX.to_be_bytes()[..], &[0, 1, b'a', tag]].concat();
    for tag in [10, 11, 12, 13] {
        let bytes = [claims(tag), i32::MAX.to_be_bytes().to_vec()].concat();
        assert!(refused(bytes).starts_with("message properties: "), "{tag}");
    }
    let mut nested = openwire::Value::Null;
    for _ in 0..40 {
        nested = openwire::Value::List(vec![nested]);
    }
    let deep = with_properties(text_message("a"), &[("a", nested)]);
    let deep = publish(deep).expect_err("refused").to_string();
    assert!(deep.contains("nested deeper"), "{deep}");
    let large = refused(vec![0; 2 << 20]);
    assert!(large.starts_with("message takes 2097152 bytes"), "{large}");
}

#[test]
fn long_texts_survive() {
    let mut message = text_message("a");
    let long = "x".repeat(60_000);
    message.correlation_id = Some(long.clone());
    message.jms_type = Some(long.clone());
    message.group_id = Some(long.clone());
    message.message_id.text_view = Some(format!("ID:{long}"));
    let again = delivered(message.clone());
    assert_eq!(again.correlation_id, message.correlation_id);
    assert_eq!(again.jms_type, message.jms_type);
    assert_eq!(again.group_id, message.group_id);
    assert_eq!(again.message_id.text_view, message.message_id.text_view);
    assert_eq!(again.marshalled_properties, None);
}

#[test]
fn names_that_the_gateway_keeps_for_itself_are_not_the_clients() {
    let message = with_properties(
        text_message("a"),
        &[
            ("quorate_jms", openwire::Value::Int(1)),
            ("quorate_jms_compressed", openwire::Value::Boolean(true)),
            ("JMSXGroupID", openwire::Value::Text("g".to_owned())),
            ("mine", openwire::Value::Boolean(true)),
        ],
    );
    let again = delivered(message);
    assert_eq!(
        entries(&again),
        [("mine".to_owned(), openwire::Value::Boolean(true))]
    );
    assert!(!again.compressed);
    assert_eq!(again.group_id, None);
}

#[test]
fn who_consumes_a_pattern_is_told_the_topic() {
    let mut message = text_message("a");
    message.destination = topic("prices.eu");
    let stored = published(message).message;
    let position = MessagePosition::new(77, 4);
    for (consumed, shown) in [
        ("prices.*", "prices.eu"),
        (">", "prices.eu"),
        ("prices.eu", "prices.eu"),
        // Not what was sent there: the word of a sender about another topic counts for nothing.
        ("orders.*", "orders.*"),
    ] {
        let again = received(&stored, position, &topic(consumed));
        assert_eq!(again.destination, topic(shown), "{consumed}");
    }
    let again = received(&stored, position, &queue("prices.eu"));
    assert_eq!(again.destination, queue("prices.eu"));
}

#[test]
fn a_body_may_have_all_the_bytes_that_are_allowed_whatever_its_frame_adds() {
    let check = |bytes: usize| {
        let message = text_message(&"x".repeat(bytes));
        inbound(message, 1000, &mut BytesMut::new()).map(|_| ())
    };
    assert_eq!(check(1000), Ok(()));
    assert_eq!(
        check(1001),
        Err(Refusal::Body {
            bytes: 1001,
            bytes_max: 1000
        })
    );
}
