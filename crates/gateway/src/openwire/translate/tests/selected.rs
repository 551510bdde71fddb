//! Selectors over what is stored say what JMS says of what was sent.

use quorate_message::Selector;
use quorate_wire::openwire::Value as Java;

use super::{position, published, queue, text_message, with_properties};

/// A message with all that selectors can ask for.
fn message() -> quorate_wire::openwire::Message {
    let text = |text: &str| Java::Text(text.to_owned());
    let mut message = with_properties(
        text_message("a"),
        &[
            ("flag", Java::Boolean(true)),
            ("small", Java::Byte(-3)),
            ("short", Java::Short(300)),
            ("int", Java::Int(70_000)),
            ("long", Java::Long(1 << 40)),
            ("float", Java::Float(0.5)),
            ("double", Java::Double(2.25)),
            ("letter", Java::Char(u16::from(b'x'))),
            ("colour", text("red")),
            ("nothing", Java::Null),
            ("bytes", Java::Bytes(b"b".to_vec().into())),
            ("list", Java::List(vec![Java::Int(1)])),
        ],
    );
    message.correlation_id = Some("c-1".to_owned());
    message.jms_type = Some("order".to_owned());
    message.user_id = Some("ann".to_owned());
    message.group_id = Some("g".to_owned());
    message.reply_to = Some(queue("answers"));
    message.priority = 7;
    message.expiration = 1_764_160_009_999;
    message
}

#[test]
fn header_fields_and_properties_are_what_was_sent() {
    let publication = published(message());
    for (selector, expected) in [
        ("JMSType = 'order'", true),
        ("JMSCorrelationID = 'c-1'", true),
        (
            "JMSMessageID = 'ID:host-40123-1700000000000-1:1:1:1:7'",
            true,
        ),
        ("JMSPriority = 7", true),
        ("JMSPriority > 7", false),
        ("JMSTimestamp = 1764160000123", true),
        ("JMSExpiration = 1764160009999", true),
        ("JMSDeliveryMode = 'PERSISTENT'", true),
        ("JMSDeliveryMode = 'NON_PERSISTENT'", false),
        ("JMSReplyTo = 'queue://answers'", true),
        ("JMSXUserID = 'ann'", true),
        ("JMSXGroupID = 'g' AND JMSXGroupSeq = 0", true),
        ("flag", true),
        ("small = -3", true),
        ("short BETWEEN 299 AND 301", true),
        ("int = 70000 AND long > 1099511627775", true),
        ("float = 0.5 AND double = 2.25", true),
        ("letter = 'x'", true),
        ("colour LIKE 'r%'", true),
        ("colour = 'blue'", false),
        ("nothing IS NULL AND missing IS NULL", true),
        ("bytes = 'b'", false),
        ("list = 1", false),
        ("quorate_jms IS NULL", false),
    ] {
        let parsed = Selector::parse(selector).expect("a selector");
        let selects = parsed.selects(position(&publication), &publication.message);
        assert_eq!(selects, expected, "{selector}");
    }
}

#[test]
fn what_was_not_sent_is_absent() {
    let mut message = text_message("a");
    message.persistent = false;
    message.timestamp = 0;
    let publication = published(message);
    for absent in [
        "JMSType",
        "JMSCorrelationID",
        "JMSExpiration",
        "JMSTimestamp",
        "JMSReplyTo",
        "JMSXUserID",
        "JMSXGroupID",
    ] {
        let selector = format!("{absent} IS NULL AND JMSDeliveryMode = 'NON_PERSISTENT'");
        let parsed = Selector::parse(&selector).expect("a selector");
        assert!(
            parsed.selects(position(&publication), &publication.message),
            "{absent}"
        );
    }
}
