//! A client's message on its way in.

use bytes::BytesMut;
use quorate_message::limits::{MESSAGE_BYTES_MAX, PRIORITY_MAX, SHORT_TEXT_BYTES_MAX};
use quorate_message::{
    DestinationKind, GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY, Message, MessageError, Value,
};
use quorate_wire::openwire;

use super::facts::{COMPRESSED_PROPERTY, FACTS_PROPERTY, Facts};
use super::names::{self, Targets};
use super::properties::{CORRELATION_PROPERTY, Read, TYPE_PROPERTY, USER_PROPERTY};
use super::{Refusal, body};
use crate::session::Publication;

/// What the session machine publishes for a client's message; the stored encoding is split off `buffer`.
///
/// The publication's number is that of the message's producer: together with [`super::producer_id`] a repeat is
/// recognised. A message with a schedule is published as persistent, since the broker keeps no other for later.
///
/// # Errors
/// What is wrong with the message, by name; then nothing is added to the buffer.
pub(crate) fn inbound(
    mut message: openwire::Message,
    body_bytes_max: usize,
    buffer: &mut BytesMut,
) -> Result<Publication, Refusal> {
    let targets = names::targets(&message.destination)?;
    let number = number(&message)?;
    let mut facts = Facts {
        is_droppable: message.droppable,
        original_destination: original(&message),
        topic: topic(&targets),
        ..Facts::default()
    };
    let (content_type, body) = body::take(&mut message, &mut facts);
    let (bytes, bytes_max) = (body.len(), body_bytes_max);
    if bytes > bytes_max {
        return Err(Refusal::Body { bytes, bytes_max });
    }
    let mut stored = Message {
        reply_to: message
            .reply_to
            .as_ref()
            .map_or_else(String::new, names::text),
        content_type: content_type.to_owned(),
        priority: u8::try_from(message.priority.max(0)).map_or(0, |p| p.min(PRIORITY_MAX)),
        timestamp_ms: time(message.timestamp),
        expires_at_ms: time(message.expiration),
        body,
        ..Message::default()
    };
    let mut read = Read::default();
    fields(&mut message, &mut stored, &mut read, &mut facts);
    if let Some(map) = &message.marshalled_properties {
        // Before memory is taken for what cannot be stored.
        let bytes = map.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { bytes }.into());
        }
        read.map(map, &mut facts)?;
    }
    let schedule = read.timing.schedule()?;
    facts.is_scheduled = schedule.is_some();
    let is_repeated = schedule.as_ref().is_some_and(|when| when.is_repeated());
    stored.id = id(&message, is_repeated, &mut facts);
    let is_raised = schedule.is_some() || message.transaction_id.is_some();
    facts.is_non_persistent = is_raised && !message.persistent;
    stored.properties = read.properties;
    if message.compressed {
        let compressed = (COMPRESSED_PROPERTY.to_owned(), Value::Boolean(true));
        stored.properties.push(compressed);
    }
    if let Some(facts) = facts.encode() {
        let facts = (FACTS_PROPERTY.to_owned(), Value::Binary(facts));
        stored.properties.push(facts);
    }
    stored.encode(buffer)?;
    Ok(Publication {
        destination: targets.first,
        number,
        also: targets.also,
        is_retained: false,
        non_persistent: !message.persistent && !is_raised,
        priority: stored.priority,
        expires_at_ms: stored.expires_at_ms,
        schedule,
        message: buffer.split().freeze(),
    })
}

fn number(message: &openwire::Message) -> Result<u64, Refusal> {
    let sequence = message.message_id.producer_sequence_id;
    let number = u64::try_from(sequence).ok().filter(|number| *number > 0);
    number.ok_or(Refusal::Number { sequence })
}

/// What the message tells beside where it goes: a composite, or what the client says.
fn original(message: &openwire::Message) -> Option<String> {
    let composite = Some(&message.destination).filter(|all| names::is_composite(all));
    let original = message.original_destination.as_ref().or(composite);
    original.map(names::text)
}

/// The topic, of a message that goes to nothing else.
fn topic(targets: &Targets) -> Option<String> {
    let is_topic = targets.first.kind == DestinationKind::Topic && targets.also.is_empty();
    is_topic.then(|| targets.first.name.as_str().to_owned())
}

/// The id of the stored message. One that is delivered several times has none, so that each delivery gets its own.
fn id(message: &openwire::Message, is_repeated: bool, facts: &mut Facts) -> String {
    let id = message.message_id.to_string();
    if !is_repeated && id.len() <= SHORT_TEXT_BYTES_MAX {
        return id;
    }
    let place = match is_repeated {
        true => &mut facts.job,
        false => &mut facts.message_id,
    };
    *place = Some(id);
    String::new()
}

/// The header fields that the stored message has no field for, or no room in it.
fn fields(
    message: &mut openwire::Message,
    stored: &mut Message,
    read: &mut Read,
    facts: &mut Facts,
) {
    if let Some(correlation_id) = message.correlation_id.take() {
        facts.has_empty_correlation_id = correlation_id.is_empty();
        if correlation_id.len() <= SHORT_TEXT_BYTES_MAX {
            stored.correlation_id = correlation_id;
        } else {
            read.push(CORRELATION_PROPERTY, Value::Text(correlation_id));
        }
    }
    let has_group = message.group_id.is_some();
    let texts = [
        (GROUP_PROPERTY, message.group_id.take()),
        (TYPE_PROPERTY, message.jms_type.take()),
        (USER_PROPERTY, message.user_id.take()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            read.push(name, Value::Text(text));
        }
    }
    // A group's first message may well have the sequence 0, and selectors ask for it.
    if has_group || message.group_sequence != 0 {
        read.push(GROUP_SEQUENCE_PROPERTY, Value::Int(message.group_sequence));
    }
}

/// Milliseconds since 1970. What is before that is unknown, or never, as in JMS.
fn time(milliseconds: i64) -> u64 {
    u64::try_from(milliseconds).unwrap_or(0)
}
