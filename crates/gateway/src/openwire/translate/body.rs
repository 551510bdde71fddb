//! Bodies: as OpenWire's content and as clients of other protocols read them, told apart by the content type.
//!
//! | kind | content type | body |
//! |---|---|---|
//! | text | `text/plain; charset=utf-8` | the text in UTF-8 |
//! | text that would not come back byte for byte | `application/x-jms-text` | the content |
//! | bytes | `application/octet-stream` | the bytes |
//! | map, stream, blob, none | `application/x-jms-map`, `-stream`, `-blob`, `-message` | the content |
//! | object | `application/x-java-serialized-object` | the Java serialisation stream |
//!
//! The other way a message of any text type is a text if its body is UTF-8. All else, a message without a content
//! type among it, is bytes: what kind an application gets must not depend on what the bytes happen to be.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_wire::openwire::{Blob, Body, Message, MessageKind};

use super::facts::Facts;

const TEXT: &str = "text/plain; charset=utf-8";
const MARSHALLED_TEXT: &str = "application/x-jms-text";
const BYTES: &str = "application/octet-stream";
const MAP: &str = "application/x-jms-map";
const STREAM: &str = "application/x-jms-stream";
const BLOB: &str = "application/x-jms-blob";
const PLAIN: &str = "application/x-jms-message";
const OBJECT: &str = "application/x-java-serialized-object";

/// Bytes of the length before a text.
const LENGTH_BYTES: usize = 4;

/// From this byte on a character of UTF-8 takes four bytes, and six in modified UTF-8.
const FOUR_BYTE_FORM: u8 = 0xF0;

/// Takes the content out of a message: its content type, and the body to be stored.
pub(super) fn take(message: &mut Message, facts: &mut Facts) -> (&'static str, Bytes) {
    let content = message.content.take();
    facts.has_empty_content = content.as_ref().is_some_and(Bytes::is_empty);
    let content_type = match &message.kind {
        MessageKind::Text => return take_text(message, content, facts),
        MessageKind::Plain => PLAIN,
        MessageKind::Bytes => BYTES,
        MessageKind::Map => MAP,
        MessageKind::Object => OBJECT,
        MessageKind::Stream => STREAM,
        MessageKind::Blob(blob) => {
            facts.blob_url.clone_from(&blob.remote_blob_url);
            facts.blob_type.clone_from(&blob.mime_type);
            facts.deletes_blob = blob.deleted_by_broker;
            BLOB
        }
    };
    (content_type, content.unwrap_or_default())
}

fn take_text(
    message: &mut Message,
    content: Option<Bytes>,
    facts: &mut Facts,
) -> (&'static str, Bytes) {
    if message.compressed {
        return (MARSHALLED_TEXT, content.unwrap_or_default());
    }
    let Some(content) = content else {
        facts.has_no_content = true;
        return (TEXT, Bytes::new());
    };
    match neutral_text(message, &content) {
        Some(text) => (TEXT, text),
        None => (MARSHALLED_TEXT, content),
    }
}

/// The text of the content in UTF-8, if it gives the same content again.
fn neutral_text(message: &mut Message, content: &Bytes) -> Option<Bytes> {
    let (length, text) = content.split_first_chunk::<LENGTH_BYTES>()?;
    if usize::try_from(i32::from_be_bytes(*length)) != Ok(text.len()) {
        return None;
    }
    if is_alike(text) {
        return Some(content.slice(LENGTH_BYTES..));
    }
    let Ok(Body::Text(Some(text))) = Body::decode(&MessageKind::Text, Some(content)) else {
        return None;
    };
    let utf8 = Bytes::copy_from_slice(text.as_bytes());
    message.set_body(Body::Text(Some(text))).ok()?;
    (message.content.take().as_ref() == Some(content)).then_some(utf8)
}

/// Whether these bytes are a text in UTF-8 and the same one in modified UTF-8.
fn is_alike(text: &[u8]) -> bool {
    // Without an early end, so that many bytes are looked at in one step.
    let is_odd = |byte: u8| byte == 0 || byte >= FOUR_BYTE_FORM;
    let has_odd = text.iter().fold(false, |odd, byte| odd | is_odd(*byte));
    !has_odd && std::str::from_utf8(text).is_ok()
}

/// What kind of message a stored one is, if its body is the content; else it is a text.
fn kind(content_type: &str, facts: &mut Facts) -> Option<MessageKind> {
    Some(match content_type {
        MARSHALLED_TEXT => MessageKind::Text,
        MAP => MessageKind::Map,
        STREAM => MessageKind::Stream,
        PLAIN => MessageKind::Plain,
        OBJECT => MessageKind::Object,
        BLOB => MessageKind::Blob(Blob {
            remote_blob_url: facts.blob_url.take(),
            mime_type: facts.blob_type.take(),
            deleted_by_broker: facts.deletes_blob,
        }),
        other if is_text(other) => return None,
        _ => MessageKind::Bytes,
    })
}

/// Gives a message the kind and the content of what is stored.
pub(super) fn give(
    message: &mut Message,
    content_type: &str,
    body: Bytes,
    is_compressed: bool,
    facts: &mut Facts,
) {
    if let Some(kind) = kind(content_type, facts) {
        let is_absent = body.is_empty() && !facts.has_empty_content;
        message.kind = kind;
        message.content = Some(body).filter(|_| !is_absent);
        message.compressed = is_compressed;
        return;
    }
    message.kind = MessageKind::Text;
    if body.is_empty() && facts.has_no_content {
        return;
    }
    if let Some(content) = marshalled_text(message, &body) {
        message.content = Some(content);
    } else {
        message.kind = MessageKind::Bytes;
        message.content = Some(body);
    }
}

/// The content of a text message, if the body is a text.
fn marshalled_text(message: &mut Message, body: &Bytes) -> Option<Bytes> {
    if is_alike(body) {
        let mut content = BytesMut::with_capacity(LENGTH_BYTES + body.len());
        content.put_i32(i32::try_from(body.len()).ok()?);
        content.put_slice(body);
        return Some(content.freeze());
    }
    let text = std::str::from_utf8(body).ok()?.to_owned();
    message.set_body(Body::Text(Some(text))).ok()?;
    message.content.take()
}

/// Whether a media type is that of a text in UTF-8: `text/*`, JSON and XML, without another charset.
fn is_text(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_text = media_type.starts_with("text/")
        || matches!(media_type.as_str(), "application/json" | "application/xml")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml");
    is_text && parts.all(is_utf8)
}

/// Whether a parameter of a media type leaves it in UTF-8.
fn is_utf8(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    let utf8 = ["utf-8", "utf8", "us-ascii"];
    !name.trim().eq_ignore_ascii_case("charset")
        || utf8.iter().any(|other| other.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_by_their_media_type() {
        for text in [
            "text/plain",
            "TEXT/HTML; charset=UTF-8",
            "text/csv;header=present; charset=\"utf-8\"",
            "application/json",
            "application/problem+json",
            "image/svg+xml",
        ] {
            assert!(is_text(text), "{text}");
        }
        for other in [
            "",
            "text",
            "application/octet-stream",
            "text/plain; charset=iso-8859-1",
            "application/jsonish",
        ] {
            assert!(!is_text(other), "{other}");
        }
    }

    #[test]
    fn only_texts_alike_in_both_forms_are_taken_as_they_are() {
        assert!(is_alike("grüße €".as_bytes()));
        assert!(is_alike(b""));
        for bytes in [
            "a\0".as_bytes(),
            "😀".as_bytes(),
            b"\xC0\x80",
            b"\xED\xA0\x80",
            b"\xFF",
        ] {
            assert!(!is_alike(bytes), "{bytes:?}");
        }
    }
}
