//! Messages of the workload: each names its producer, its number and where it was sent, and its body depends on them.

use bytes::{Bytes, BytesMut};
use quorate_message::{DestinationName, GROUP_PROPERTY, Message, Value};

use crate::rng::finish;

/// The property that selectors of the workload look at.
pub(super) const KIND_PROPERTY: &str = "kind";

/// What a message says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) producer: String,
    pub(super) number: u64,
    /// The queue or topic that it was sent to, with what its order depends on behind a colon.
    pub(super) origin: String,
    pub(super) group: Option<String>,
    pub(super) kind: Option<i64>,
    /// Why it became a dead letter, when, and when it was to expire.
    pub(super) death: Option<(String, u64, u64)>,
    pub(super) expires_at_ms: u64,
    pub(super) digest: u64,
}

/// What a producer writes on a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Label {
    pub(super) priority: Option<u8>,
    pub(super) expires_at_ms: u64,
    pub(super) group: Option<String>,
    pub(super) kind: Option<i64>,
}

/// A message in its stored encoding.
pub(super) fn content(producer: &str, number: u64, origin: &str, label: &Label) -> Bytes {
    let fill = usize::try_from(finish(number) % 200).expect("small");
    let body = format!("{producer}/{number}/{origin}/{}", "x".repeat(fill));
    let mut properties = Vec::new();
    if let Some(group) = &label.group {
        properties.push((GROUP_PROPERTY.to_owned(), Value::Text(group.clone())));
    }
    if let Some(kind) = label.kind {
        properties.push((KIND_PROPERTY.to_owned(), Value::Long(kind)));
    }
    let message = Message {
        priority: label
            .priority
            .unwrap_or(quorate_message::limits::PRIORITY_DEFAULT),
        expires_at_ms: label.expires_at_ms,
        properties,
        ..Message::with_body(body)
    };
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).expect("a small message");
    bytes.freeze()
}

/// Reads what a message says of itself; of one that nobody here sent, nothing.
pub(super) fn named(bytes: &Bytes) -> Named {
    let Ok(message) = Message::decode(bytes) else {
        return Named::default();
    };
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let mut parts = text.split('/');
    let producer = parts.next().unwrap_or_default().to_owned();
    let number = parts.next().and_then(|number| number.parse().ok());
    let origin = parts.next().unwrap_or_default().to_owned();
    let of = |wanted: &str| {
        let mut properties = message.properties.iter();
        properties
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
    };
    let whole = |wanted: &str| match of(wanted) {
        Some(Value::Long(value)) => Some(*value),
        Some(Value::Int(value)) => Some(i64::from(*value)),
        Some(
            Value::Null | Value::Boolean(_) | Value::Double(_) | Value::Text(_) | Value::Binary(_),
        )
        | None => None,
    };
    let text_of = |wanted: &str| match of(wanted) {
        Some(Value::Text(text)) => Some(text.to_string()),
        Some(
            Value::Null
            | Value::Boolean(_)
            | Value::Int(_)
            | Value::Long(_)
            | Value::Double(_)
            | Value::Binary(_),
        )
        | None => None,
    };
    let moment = |wanted: &str| {
        whole(wanted)
            .and_then(|at| u64::try_from(at).ok())
            .unwrap_or(0)
    };
    let death = text_of("quorate_dead_letter_reason").map(|reason| {
        let at_ms = moment("quorate_dead_letter_at_ms");
        (reason, at_ms, moment("quorate_dead_letter_expiry_ms"))
    });
    Named {
        producer,
        number: number.unwrap_or(0),
        origin,
        group: text_of(GROUP_PROPERTY),
        kind: whole(KIND_PROPERTY),
        death,
        expires_at_ms: message.expires_at_ms,
        digest: digest(&message),
    }
}

/// The digest of a message.
pub(super) fn digest_of(bytes: &Bytes) -> u64 {
    Message::decode(bytes).map_or(0, |message| digest(&message))
}

/// Of the body and the properties; what dead letters are given beside them is not looked at.
fn digest(message: &Message) -> u64 {
    let own = message.properties.iter();
    let own = own.filter(|(name, _)| !name.starts_with("quorate_"));
    let text: String = own
        .map(|(name, value)| format!("{name}={value:?};"))
        .collect();
    let bytes = message.body.iter().chain(text.as_bytes());
    bytes.fold(message.body.len() as u64, |sum, byte| {
        finish(sum ^ u64::from(*byte))
    })
}

/// A name of the workload.
pub(super) fn name(text: &str) -> DestinationName {
    DestinationName::new(text).expect("the names of the workload are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_what_it_is() {
        let label = Label {
            group: Some("g1".into()),
            kind: Some(2),
            ..Label::default()
        };
        let named = named(&content("p1", 7, "orders:4", &label));
        assert_eq!((named.producer.as_str(), named.number), ("p1", 7));
        assert_eq!(named.origin, "orders:4");
        assert_eq!(named.group.as_deref(), Some("g1"));
        assert_eq!(named.kind, Some(2));
        assert_eq!(named.death, None);
    }
}
