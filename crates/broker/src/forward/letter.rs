//! What becomes of a message when it is forwarded: a dead letter gets its reason and history as properties, a retried
//! one loses them, and all else stays as it was sent.
//!
//! The names of the properties are identifiers, so that every protocol shows them and selectors can name them.

use bytes::{Bytes, BytesMut};
use quorate_message::limits::PRIORITY_DEFAULT;
use quorate_message::{Message, MoveReason, Value};

use crate::effect::Forwarded;
use crate::limits::DEAD_LETTER_HISTORY_MAX;
use crate::state::Item;

/// Why it became a dead letter, as `MoveReason` writes it: text.
pub const DEAD_LETTER_REASON: &str = "quorate_dead_letter_reason";
/// Where it was, as `queue://name`: text.
pub const DEAD_LETTER_QUEUE: &str = "quorate_dead_letter_queue";
/// How often it had been returned: an integer.
pub const DEAD_LETTER_DELIVERIES: &str = "quorate_dead_letter_deliveries";
/// When it became one, in milliseconds since 1970: a long integer.
pub const DEAD_LETTER_AT_MS: &str = "quorate_dead_letter_at_ms";
/// When it would have expired, if that was set: a long integer.
pub const DEAD_LETTER_EXPIRY_MS: &str = "quorate_dead_letter_expiry_ms";
/// One line for each time it became one, the newest last: `at-ms reason deliveries queue`. Text.
pub const DEAD_LETTER_HISTORY: &str = "quorate_dead_letter_history";

/// What a retry takes off.
const OF_THE_LAST_DEATH: [&str; 5] = [
    DEAD_LETTER_REASON,
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_DELIVERIES,
    DEAD_LETTER_AT_MS,
    DEAD_LETTER_EXPIRY_MS,
];

/// The message as its target is to store it. Bytes that are no message, and one that has no room for its properties,
/// go as they are: nothing is lost for the sake of what is added.
pub(crate) fn rewritten(number: u64, item: &Item, stored: &Bytes) -> Forwarded {
    let as_is = |priority, expires_at_ms| Forwarded {
        number,
        priority,
        expires_at_ms,
        message: stored.clone(),
        luggage: item.luggage.clone(),
    };
    let Ok(mut message) = Message::decode(stored) else {
        return as_is(PRIORITY_DEFAULT, 0);
    };
    let priority = message.priority;
    if item.reason.is_death() {
        bury(&mut message, item);
    } else {
        match item.reason {
            MoveReason::Retried => revive(&mut message),
            MoveReason::Moved
            | MoveReason::Copied
            | MoveReason::VirtualTopic
            | MoveReason::Relocated => {
                return as_is(priority, message.expires_at_ms);
            }
            MoveReason::Expired
            | MoveReason::DeliveryLimit
            | MoveReason::Rejected
            | MoveReason::QueueFull => {}
        }
    }
    let mut encoded = BytesMut::new();
    if message.encode(&mut encoded).is_err() {
        return as_is(priority, 0);
    }
    Forwarded {
        number,
        priority,
        expires_at_ms: message.expires_at_ms,
        message: encoded.freeze(),
        luggage: None,
    }
}

fn bury(message: &mut Message, item: &Item) {
    let before = text_of(message, DEAD_LETTER_HISTORY);
    let line = format!(
        "{} {} {} {}",
        item.at_ms, item.reason, item.deliveries, item.source
    );
    let mut lines: Vec<&str> = before.iter().flat_map(|text| text.lines()).collect();
    lines.push(&line);
    let history = lines[lines.len().saturating_sub(DEAD_LETTER_HISTORY_MAX)..].join("\n");
    take_off(message);
    let properties = &mut message.properties;
    properties.retain(|(name, _)| name != DEAD_LETTER_HISTORY);
    let mut add = |name: &str, value| properties.push((name.to_owned(), value));
    add(DEAD_LETTER_REASON, Value::Text(item.reason.to_string()));
    add(DEAD_LETTER_QUEUE, Value::Text(item.source.to_string()));
    let deliveries = i32::try_from(item.deliveries).unwrap_or(i32::MAX);
    add(DEAD_LETTER_DELIVERIES, Value::Int(deliveries));
    add(DEAD_LETTER_AT_MS, long(item.at_ms));
    if message.expires_at_ms != 0 {
        add(DEAD_LETTER_EXPIRY_MS, long(message.expires_at_ms));
    }
    add(DEAD_LETTER_HISTORY, Value::Text(history));
    message.expires_at_ms = 0;
}

/// The history stays, for the next time.
fn revive(message: &mut Message) {
    take_off(message);
    message.expires_at_ms = 0;
}

fn take_off(message: &mut Message) {
    let is_old = |name: &String| OF_THE_LAST_DEATH.contains(&name.as_str());
    message.properties.retain(|(name, _)| !is_old(name));
}

fn text_of(message: &Message, wanted: &str) -> Option<String> {
    let mut properties = message.properties.iter();
    properties.find_map(|(name, value)| match value {
        Value::Text(text) if name == wanted => Some(text.clone()),
        Value::Null
        | Value::Boolean(_)
        | Value::Int(_)
        | Value::Long(_)
        | Value::Double(_)
        | Value::Text(_)
        | Value::Binary(_) => None,
    })
}

fn long(value: u64) -> Value {
    Value::Long(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use quorate_message::{Destination, DestinationName, MessagePosition};

    use super::*;

    fn item(reason: MoveReason, at_ms: u64) -> Item {
        Item {
            position: MessagePosition::new(1, 0),
            source: Destination::queue(DestinationName::new("orders").expect("a name")),
            reason,
            deliveries: 6,
            at_ms,
            luggage: None,
        }
    }

    fn encoded(message: &Message) -> Bytes {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).expect("a small message");
        bytes.freeze()
    }

    fn sent() -> Message {
        Message {
            id: "m1".to_owned(),
            priority: 7,
            expires_at_ms: 99,
            properties: vec![("colour".to_owned(), Value::Text("red".to_owned()))],
            ..Message::with_body(&b"body"[..])
        }
    }

    #[test]
    fn a_dead_letter_says_why_and_never_expires() {
        let forwarded = rewritten(3, &item(MoveReason::DeliveryLimit, 50), &encoded(&sent()));
        let letter = Message::decode(&forwarded.message).expect("a message");
        assert_eq!((forwarded.number, forwarded.priority), (3, 7));
        assert_eq!((forwarded.expires_at_ms, letter.expires_at_ms), (0, 0));
        assert_eq!((letter.id.as_str(), &letter.body[..]), ("m1", &b"body"[..]));
        let text = |text: &str| Value::Text(text.to_owned());
        let expected = [
            ("colour", text("red")),
            (DEAD_LETTER_REASON, text("delivery-limit")),
            (DEAD_LETTER_QUEUE, text("queue://orders")),
            (DEAD_LETTER_DELIVERIES, Value::Int(6)),
            (DEAD_LETTER_AT_MS, Value::Long(50)),
            (DEAD_LETTER_EXPIRY_MS, Value::Long(99)),
            (
                DEAD_LETTER_HISTORY,
                text("50 delivery-limit 6 queue://orders"),
            ),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(letter.properties, expected);
    }

    #[test]
    fn history_outlives_a_retry_and_is_bounded() {
        let mut stored = encoded(&sent());
        for at_ms in 0..DEAD_LETTER_HISTORY_MAX as u64 + 3 {
            stored = rewritten(1, &item(MoveReason::Rejected, at_ms), &stored).message;
            stored = rewritten(1, &item(MoveReason::Retried, at_ms), &stored).message;
        }
        let retried = Message::decode(&stored).expect("a message");
        let names: Vec<&str> = retried.properties.iter().map(|p| p.0.as_str()).collect();
        assert_eq!(names, ["colour", DEAD_LETTER_HISTORY]);
        let history = text_of(&retried, DEAD_LETTER_HISTORY).expect("it died");
        assert_eq!(history.lines().count(), DEAD_LETTER_HISTORY_MAX);
        assert!(history.starts_with("3 rejected"), "{history}");
    }

    #[test]
    fn what_is_moved_or_cannot_be_read_stays_as_it_is() {
        let stored = encoded(&sent());
        let moved = rewritten(1, &item(MoveReason::Moved, 5), &stored);
        assert_eq!((moved.message, moved.expires_at_ms), (stored, 99));
        let odd = Bytes::from_static(b"no message");
        let buried = rewritten(1, &item(MoveReason::Expired, 5), &odd);
        assert_eq!(buried.message, odd);
    }
}
