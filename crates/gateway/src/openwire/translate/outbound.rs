//! A stored message on its way to a client.

use bytes::Bytes;
use quorate_message::{
    DestinationName, GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY, Message, MessageError,
    MessagePosition, Pattern, Value, virtual_topic,
};
use quorate_wire::openwire::{self, Map, Topic};

use super::facts::{COMPRESSED_PROPERTY, FACTS_PROPERTY, Facts};
use super::properties::{CORRELATION_PROPERTY, TYPE_PROPERTY, USER_PROPERTY, fits_field, java};
use super::schedule::JOB_PROPERTY;
use super::{body, identity, names};
use crate::session::ShardId;

/// How a consumer sees a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The shard that it is in.
    pub(crate) shard: ShardId,
    /// Its place there.
    pub(crate) position: MessagePosition,
    /// How often its delivery failed: JMSXDeliveryCount less one.
    pub(crate) redelivery_counter: i32,
    /// From this message on its group is the consumer's.
    pub(crate) is_first_in_group: bool,
    /// What the consumer consumes from.
    pub(crate) destination: &'a openwire::Destination,
    /// A number that rises with each message given to the connection; the client gives it back when it leaves.
    pub(crate) broker_sequence_id: i64,
    /// The wall clock, in milliseconds since 1970: JMSActiveMQBrokerOutTime.
    pub(crate) now_ms: i64,
}

/// The property by which ActiveMQ says why a message is a dead letter.
const CAUSE_PROPERTY: &str = "dlqDeliveryFailureCause";

/// The property by which ActiveMQ says when a dead letter would have expired.
const EXPIRATION_PROPERTY: &str = "originalExpiration";

const DEAD_LETTER_REASON: &str = "quorate_dead_letter_reason";
const DEAD_LETTER_QUEUE: &str = "quorate_dead_letter_queue";
const DEAD_LETTER_DELIVERIES: &str = "quorate_dead_letter_deliveries";
const DEAD_LETTER_EXPIRY_MS: &str = "quorate_dead_letter_expiry_ms";

/// The message that a client gets for stored bytes.
///
/// # Errors
/// The bytes are no message.
pub(crate) fn outbound(stored: &Bytes, seen: &Seen<'_>) -> Result<openwire::Message, MessageError> {
    let mut stored = Message::decode(stored)?;
    let mut facts = facts(&stored);
    let mut message = blank(&stored, &mut facts, seen);
    let properties = std::mem::take(&mut stored.properties);
    let is_compressed = give_properties(&mut message, properties, &mut facts);
    let body = std::mem::take(&mut stored.body);
    let content_type = &stored.content_type;
    body::give(&mut message, content_type, body, is_compressed, &mut facts);
    Ok(message)
}

/// The facts of a stored message. Of several properties the last is the gateway's own.
fn facts(stored: &Message) -> Facts {
    let mut latest_first = stored.properties.iter().rev();
    let facts = latest_first.find(|(name, _)| name == FACTS_PROPERTY);
    match facts {
        Some((_, Value::Binary(bytes))) => Facts::decode(bytes).unwrap_or_default(),
        Some(_) | None => Facts::default(),
    }
}

/// The message with all that is not a property nor the body.
fn blank(stored: &Message, facts: &mut Facts, seen: &Seen<'_>) -> openwire::Message {
    let id = facts.message_id.take();
    let id = id.as_deref().or_else(|| present(&stored.id));
    let message_id = identity::message_id(seen.shard, seen.position, id, seen.broker_sequence_id);
    let correlation_id = match present(&stored.correlation_id) {
        Some(correlation_id) => Some(correlation_id.to_owned()),
        None => facts.has_empty_correlation_id.then(String::new),
    };
    let original = facts.original_destination.take();
    openwire::Message {
        original_destination: original.as_deref().map(names::from_text),
        correlation_id,
        persistent: !facts.is_non_persistent && !seen.position.is_transient(),
        expiration: time(stored.expires_at_ms),
        priority: i8::try_from(stored.priority).expect("a stored priority is at most 9"),
        reply_to: present(&stored.reply_to).map(names::from_text),
        timestamp: time(stored.timestamp_ms),
        redelivery_counter: seen.redelivery_counter,
        droppable: facts.is_droppable,
        broker_in_time: time(stored.timestamp_ms),
        broker_out_time: seen.now_ms,
        jmsx_group_first_for_consumer: seen.is_first_in_group,
        ..openwire::Message::new(
            message_id,
            destination(seen.destination, facts.topic.take()),
        )
    }
}

/// What a message tells of its death.
#[derive(Default)]
struct Death {
    reason: Option<String>,
    place: Option<String>,
    deliveries: i32,
    expiry_ms: Option<i64>,
}

impl Death {
    /// Looks at a property, which stays one.
    fn look(&mut self, name: &str, value: &Value) {
        match (name, value) {
            (DEAD_LETTER_REASON, Value::Text(text)) => self.reason = Some(text.clone()),
            (DEAD_LETTER_QUEUE, Value::Text(text)) => self.place = Some(text.clone()),
            (DEAD_LETTER_DELIVERIES, Value::Int(count)) => self.deliveries = *count,
            (DEAD_LETTER_EXPIRY_MS, Value::Long(at_ms)) => self.expiry_ms = Some(*at_ms),
            _ => {}
        }
    }
}

/// Gives a message its properties and the fields that are stored as such. Returns whether its body is compressed.
fn give_properties(
    message: &mut openwire::Message,
    properties: Vec<(String, Value)>,
    facts: &mut Facts,
) -> bool {
    let mut is_compressed = false;
    let mut death = Death::default();
    let mut map = Map::new();
    for (name, value) in properties {
        match (name.as_str(), value) {
            (FACTS_PROPERTY, _) => {}
            (COMPRESSED_PROPERTY, value) => is_compressed = value == Value::Boolean(true),
            (GROUP_SEQUENCE_PROPERTY, Value::Int(sequence)) => message.group_sequence = sequence,
            (GROUP_SEQUENCE_PROPERTY, Value::Long(sequence)) => {
                message.group_sequence = saturated(sequence);
            }
            (_, value) => {
                if let Some(value) = give_text(message, &name, value) {
                    death.look(&name, &value);
                    let kind = facts.types.get(&name).copied();
                    map.push(name, java(value, kind));
                }
            }
        }
    }
    if facts.is_scheduled {
        let id = facts.job.take();
        let id = id.unwrap_or_else(|| message.message_id.to_string());
        map.push(JOB_PROPERTY, openwire::Value::Text(id));
    }
    bury(message, &mut map, death);
    // What is stored is less than a field of OpenWire can hold.
    message.marshalled_properties = map.encode().ok().filter(|_| !map.is_empty());
    is_compressed
}

/// Gives a message the text field of this name; a value that is for none comes back.
fn give_text(message: &mut openwire::Message, name: &str, value: Value) -> Option<Value> {
    let field = match name {
        GROUP_PROPERTY => &mut message.group_id,
        TYPE_PROPERTY => &mut message.jms_type,
        USER_PROPERTY => &mut message.user_id,
        CORRELATION_PROPERTY if message.correlation_id.is_none() => &mut message.correlation_id,
        _ => return Some(value),
    };
    match value {
        Value::Text(text) if field.is_none() && fits_field(&text) => {
            *field = Some(text);
            None
        }
        other => Some(other),
    }
}

/// Tells of a dead letter what ActiveMQ's clients look for, and of a virtual topic's copy where it was sent.
fn bury(message: &mut openwire::Message, map: &mut Map, death: Death) {
    let Death {
        reason,
        place,
        deliveries,
        expiry_ms,
    } = death;
    if let Some(reason) = reason {
        let place = place.as_deref();
        let cause = format!(
            "{reason} after {deliveries} failed deliveries at {}",
            place.unwrap_or("an unknown queue")
        );
        map.push(CAUSE_PROPERTY, openwire::Value::Text(cause));
        if let Some(at_ms) = expiry_ms {
            map.push(EXPIRATION_PROPERTY, openwire::Value::Long(at_ms));
        }
        let place = place.and_then(|place| place.parse().ok());
        if let Some(place) = place {
            message.original_destination = Some(names::destination_of(&place));
        }
    }
    if message.original_destination.is_none() {
        message.original_destination = virtual_origin(&message.destination);
    }
}

/// Where a message is from: the topic that it was sent to, for who consumes from a pattern of them.
fn destination(consumed: &openwire::Destination, topic: Option<String>) -> openwire::Destination {
    let topic = topic.filter(|topic| is_of(consumed, topic));
    match topic {
        Some(topic) => openwire::Destination::Topic(Topic {
            physical_name: topic,
        }),
        None => consumed.clone(),
    }
}

/// Whether topics are consumed by a pattern that this one matches.
fn is_of(consumed: &openwire::Destination, topic: &str) -> bool {
    let openwire::Destination::Topic(consumed) = consumed else {
        return false;
    };
    let pattern = Pattern::new(&consumed.physical_name).ok();
    let pattern = pattern.filter(|pattern| !pattern.is_exact());
    let name = DestinationName::new(topic).ok();
    pattern
        .zip(name)
        .is_some_and(|(pattern, name)| pattern.matches(&name))
}

/// The topic whose messages the queue of this name gets.
fn virtual_origin(destination: &openwire::Destination) -> Option<openwire::Destination> {
    match destination {
        openwire::Destination::Queue(queue) => {
            let physical_name = virtual_topic(&queue.physical_name)?.to_owned();
            Some(Topic { physical_name }.into())
        }
        openwire::Destination::Topic(_)
        | openwire::Destination::TempQueue(_)
        | openwire::Destination::TempTopic(_) => None,
    }
}

fn present(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Milliseconds since 1970; what Java cannot count is never.
fn time(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(0)
}

fn saturated(sequence: i64) -> i32 {
    let bound = |bound: i32| i64::from(bound);
    let sequence = sequence.clamp(bound(i32::MIN), bound(i32::MAX));
    i32::try_from(sequence).expect("clamped to it")
}
