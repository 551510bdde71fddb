//! Lists dead letters: a page of their queue, with what their properties tell.

use quorate_message::{Message, Value};
use quorate_proto::{internal::v1 as wire, v1};
use tonic::Status;

use crate::{
    convert,
    limits::{BROWSE_PAGE_MESSAGES, DEAD_LETTERS_PAGE},
    nodes::Nodes,
};

/// A page of dead letters.
pub(crate) async fn list(
    nodes: &Nodes,
    request: v1::ListDeadLettersRequest,
) -> Result<v1::ListDeadLettersResponse, Status> {
    let name = match request.queue.as_str() {
        "" => quorate_message::settings::DEAD_LETTER_QUEUE,
        name => name,
    };
    let queue = convert::queue(name)?;
    let limit = match request.limit {
        0 => DEAD_LETTERS_PAGE,
        limit => limit.min(DEAD_LETTERS_PAGE),
    };
    let mut after = request.after.map_or(0, |position| position.value);
    let mut response = v1::ListDeadLettersResponse::default();
    loop {
        let listed = u32::try_from(response.letters.len()).unwrap_or(u32::MAX);
        let wanted = BROWSE_PAGE_MESSAGES.min(limit.saturating_sub(listed));
        let (shard, page) = nodes.browse_page(&queue, after, wanted).await?;
        let Some(last) = page.messages.last() else {
            return Ok(response);
        };
        after = last.position;
        let letters = page.messages.iter().map(|stored| letter(shard, stored));
        response.letters.extend(letters);
        if page.end {
            return Ok(response);
        }
        if response.letters.len() >= limit as usize {
            response.next = Some(v1::Position {
                shard,
                value: after,
            });
            return Ok(response);
        }
    }
}

/// What a stored message tells of its death. One that tells nothing, or cannot be read, is listed all the same.
fn letter(shard: u32, stored: &wire::StoredDelivery) -> v1::DeadLetter {
    let mut letter = v1::DeadLetter {
        position: Some(v1::Position {
            shard,
            value: stored.position,
        }),
        bytes: stored.message.len() as u64,
        ..v1::DeadLetter::default()
    };
    let Ok(message) = Message::decode(&stored.message) else {
        return letter;
    };
    letter.bytes = message.body.len() as u64;
    letter.message_id = message.id;
    for (name, value) in message.properties {
        match (name.as_str(), value) {
            ("quorate_dead_letter_reason", Value::Text(text)) => letter.reason = text,
            ("quorate_dead_letter_queue", Value::Text(text)) => letter.destination = text,
            ("quorate_dead_letter_deliveries", Value::Int(count)) => {
                letter.deliveries = u32::try_from(count).unwrap_or(0);
            }
            ("quorate_dead_letter_at_ms", Value::Long(at)) => {
                letter.at_ms = u64::try_from(at).unwrap_or(0);
            }
            ("quorate_dead_letter_history", Value::Text(text)) => {
                letter.history = text.lines().map(str::to_owned).collect();
            }
            (_, _) => {}
        }
    }
    letter
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quorate_message::MessagePosition;

    use super::*;

    #[test]
    fn a_letter_tells_its_story_and_any_bytes_are_listed() {
        let message = Message {
            id: "m1".to_owned(),
            properties: vec![
                (
                    "quorate_dead_letter_reason".to_owned(),
                    Value::Text("rejected".to_owned()),
                ),
                (
                    "quorate_dead_letter_queue".to_owned(),
                    Value::Text("queue://orders".to_owned()),
                ),
                ("quorate_dead_letter_deliveries".to_owned(), Value::Int(3)),
                ("quorate_dead_letter_at_ms".to_owned(), Value::Long(77)),
                (
                    "quorate_dead_letter_history".to_owned(),
                    Value::Text("1 a\n2 b".to_owned()),
                ),
            ],
            ..Message::with_body(&b"four"[..])
        };
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes).unwrap();
        let mut stored = wire::StoredDelivery {
            position: MessagePosition::new(4, 2).value(),
            message: bytes.freeze(),
            ..wire::StoredDelivery::default()
        };
        let told = letter(5, &stored);
        assert_eq!(
            (told.reason.as_str(), told.destination.as_str()),
            ("rejected", "queue://orders")
        );
        assert_eq!((told.deliveries, told.at_ms, told.bytes), (3, 77, 4));
        assert_eq!(told.history, ["1 a", "2 b"]);
        stored.message = bytes::Bytes::from_static(b"\xff");
        assert_eq!(letter(5, &stored).bytes, 1);
    }
}
