//! `quorate browse`: shows messages and removes none.

use anyhow::{Context, Result};
use quorate_client::Delivery;
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    limits::SHOWN_CHARACTERS,
    output,
};

/// Flags of `quorate browse`.
#[derive(Debug, clap::Args)]
pub(crate) struct Browse {
    /// The queue
    queue: String,

    /// At most so many messages; 0 for all
    #[arg(long, default_value_t = 100)]
    limit: u32,

    /// Only messages that this selector selects
    #[arg(long, default_value = "", hide_default_value = true)]
    selector: String,
}

/// A message as it is printed: one field of the message each, empty ones left out.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    shard: u32,
    position: u64,
    delivery_count: u32,
    redelivered: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    message_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    correlation_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reply_to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    content_type: String,
    bytes: usize,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

impl From<Delivery> for Shown {
    fn from(delivery: Delivery) -> Self {
        let message = delivery.message;
        let text = str::from_utf8(&message.body).ok().map(str::to_owned);
        let hex = text.is_none().then(|| {
            message
                .body
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        });
        Self {
            shard: delivery.position.shard,
            position: delivery.position.value,
            delivery_count: delivery.delivery_count,
            redelivered: delivery.redelivered,
            message_id: message.message_id,
            correlation_id: message.correlation_id,
            reply_to: message.reply_to,
            content_type: message.content_type,
            bytes: message.body.len(),
            body: text,
            body_hex: hex,
        }
    }
}

#[derive(Debug, Serialize)]
struct Listing {
    queue: String,
    messages: Vec<Shown>,
}

pub(crate) async fn run(common: &Common, arguments: Browse) -> Result<()> {
    let client = connect(common).await?;
    let doing = || format!("browse {}", arguments.queue);
    let mut pages = client
        .browse_selected(&arguments.queue, &arguments.selector, None, arguments.limit)
        .await
        .with_context(doing)?;
    let mut all = Vec::new();
    while let Some(page) = pages.next().await.with_context(doing)? {
        for message in page.into_iter().map(Shown::from) {
            match common.output {
                Format::Json => all.push(message),
                Format::Text => output::line(&short(&message))?,
            }
        }
    }
    match common.output {
        Format::Json => output::json(&Listing {
            queue: arguments.queue,
            messages: all,
        }),
        Format::Text => Ok(()),
    }
}

/// One line: position, size, how often it failed, and the beginning of the body without control characters.
fn short(message: &Shown) -> String {
    let body = match (&message.body, &message.body_hex) {
        (Some(body), _) => body,
        (None, Some(hex)) => hex,
        (None, None) => "",
    };
    let mut shown: String = body
        .chars()
        .take(SHOWN_CHARACTERS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if body.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    format!(
        "{}:{}  {} bytes  {} failed  {shown}",
        message.shard, message.position, message.bytes, message.delivery_count
    )
}

#[cfg(test)]
mod tests {
    use quorate_client::{Message, Position};

    use super::*;

    fn shown(body: &'static [u8]) -> Shown {
        Shown::from(Delivery {
            position: Position { shard: 3, value: 9 },
            message: Message {
                body: body.into(),
                ..Message::default()
            },
            delivery_count: 1,
            redelivered: true,
            first_in_group: false,
        })
    }

    #[test]
    fn text_is_shown_as_text_and_the_rest_as_hexadecimal() {
        assert_eq!(
            short(&shown(b"one\ntwo")),
            "3:9  7 bytes  1 failed  one two"
        );
        assert_eq!(short(&shown(b"\xff\x00")), "3:9  2 bytes  1 failed  ff00");
        let json = serde_json::to_string(&shown(b"x")).expect("it can be printed");
        assert_eq!(
            json,
            r#"{"shard":3,"position":9,"delivery_count":1,"redelivered":true,"bytes":1,"body":"x"}"#
        );
    }
}
