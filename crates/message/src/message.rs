//! The message as applications see it, and its stored encoding. The body is never looked into, and decoding slices
//! it out of the stored bytes.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::Value;
use crate::limits::{
    MESSAGE_BYTES_MAX, PRIORITY_DEFAULT, PRIORITY_MAX, PROPERTIES_MAX, REPLY_TO_BYTES_MAX,
    SHORT_TEXT_BYTES_MAX,
};
use crate::reader::Reader;
use crate::view::{
    HAS_CONTENT_TYPE, HAS_CORRELATION_ID, HAS_EXPIRY, HAS_ID, HAS_PROPERTIES, HAS_REPLY_TO,
    HAS_TIMESTAMP, MessageView, VERSION,
};

/// A message. Empty texts and zero times mean absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The application's own identity of the message.
    pub id: String,
    /// Ties an answer to its question.
    pub correlation_id: String,
    /// Where an answer goes.
    pub reply_to: String,
    /// Media type of the body.
    pub content_type: String,
    /// 0 to 9.
    pub priority: u8,
    /// When the sender made it, in milliseconds since 1970; 0 is unknown.
    pub timestamp_ms: u64,
    /// After when it is of no use, in milliseconds since 1970; 0 is never.
    pub expires_at_ms: u64,
    /// The application's properties, in its order.
    pub properties: Vec<(String, Value)>,
    /// What it carries.
    pub body: Bytes,
}

/// Why a message cannot be stored, or stored bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// A field exceeds its length.
    #[error("{field} has {bytes} bytes; at most {allowed} are allowed")]
    FieldTooLong {
        /// Which.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        allowed: usize,
    },
    /// A property without a name.
    #[error("a property has no name; give each 1 to 255 bytes")]
    NamelessProperty,
    /// Too many properties.
    #[error("message has {count} properties; at most {PROPERTIES_MAX} are allowed")]
    TooManyProperties {
        /// How many.
        count: usize,
    },
    /// A priority that does not exist.
    #[error("priority {priority} does not exist; use 0 to 9")]
    Priority {
        /// Which.
        priority: u8,
    },
    /// The whole is too large.
    #[error(
        "message takes {bytes} bytes with its properties; at most {MESSAGE_BYTES_MAX} are allowed"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A version that this build does not know.
    #[error("message has encoding version {version}; this build reads version {VERSION}")]
    Version {
        /// Which.
        version: u8,
    },
    /// Bytes that no encoder made.
    #[error("stored message is malformed")]
    Malformed,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            id: String::new(),
            correlation_id: String::new(),
            reply_to: String::new(),
            content_type: String::new(),
            priority: PRIORITY_DEFAULT,
            timestamp_ms: 0,
            expires_at_ms: 0,
            properties: Vec::new(),
            body: Bytes::new(),
        }
    }
}

impl Message {
    /// A message with this body and nothing else.
    #[must_use]
    pub fn with_body(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Checks every bound and returns the size that [`Message::encode`] will take.
    ///
    /// # Errors
    /// When a bound is exceeded; the error names it.
    pub fn check(&self) -> Result<usize, MessageError> {
        let short = SHORT_TEXT_BYTES_MAX;
        check_length("message id", self.id.len(), short)?;
        check_length("correlation id", self.correlation_id.len(), short)?;
        check_length("reply destination", self.reply_to.len(), REPLY_TO_BYTES_MAX)?;
        check_length("content type", self.content_type.len(), short)?;
        if self.priority > PRIORITY_MAX {
            return Err(MessageError::Priority {
                priority: self.priority,
            });
        }
        if self.properties.len() > PROPERTIES_MAX {
            return Err(MessageError::TooManyProperties {
                count: self.properties.len(),
            });
        }
        for (name, _) in &self.properties {
            check_length("property name", name.len(), short)?;
            if name.is_empty() {
                return Err(MessageError::NamelessProperty);
            }
        }
        let bytes = self.encoded_bytes();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLarge { bytes });
        }
        Ok(bytes)
    }

    /// Appends the stored encoding.
    ///
    /// # Errors
    /// When a bound is exceeded ([`Message::check`]); then nothing is appended.
    pub fn encode(&self, into: &mut BytesMut) -> Result<(), MessageError> {
        let bytes = self.check()?;
        into.reserve(bytes);
        into.put_u8(VERSION);
        into.put_u8(self.present());
        into.put_u8(self.priority);
        for text in [&self.id, &self.correlation_id, &self.content_type] {
            put_short(text, into);
        }
        if !self.reply_to.is_empty() {
            into.put_u16_le(count_u16(self.reply_to.len()));
            into.put_slice(self.reply_to.as_bytes());
        }
        for time in [self.timestamp_ms, self.expires_at_ms] {
            if time != 0 {
                into.put_u64_le(time);
            }
        }
        if !self.properties.is_empty() {
            into.put_u16_le(count_u16(self.properties.len()));
        }
        for (name, value) in &self.properties {
            put_short(name, into);
            value.encode(into);
        }
        into.put_slice(&self.body);
        Ok(())
    }

    /// Reads the stored encoding. The body and binary properties are slices of `bytes`.
    ///
    /// # Errors
    /// When the bytes are no message, or one that exceeds a bound.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8().ok_or(MessageError::Malformed)?;
        if version != VERSION {
            return Err(MessageError::Version { version });
        }
        let message = Self::decode_fields(&mut reader, bytes).ok_or(MessageError::Malformed)?;
        message.check()?;
        Ok(message)
    }

    fn decode_fields<'a>(reader: &mut Reader<'a>, bytes: &'a Bytes) -> Option<Self> {
        let view = MessageView::read(reader, bytes)?;
        // Not reserved by the count that the bytes claim, so that what is allocated follows what is there.
        let mut properties = Vec::new();
        for _ in 0..view.count {
            let name = reader.short_text()?.to_owned();
            properties.push((name, Value::decode(reader, bytes)?));
        }
        let message = Self {
            id: view.id.to_owned(),
            correlation_id: view.correlation_id.to_owned(),
            reply_to: view.reply_to.to_owned(),
            content_type: view.content_type.to_owned(),
            priority: view.priority,
            timestamp_ms: view.timestamp_ms,
            expires_at_ms: view.expires_at_ms,
            properties,
            body: bytes.slice(reader.position()..),
        };
        // One message has one encoding: a field that is marked present is not empty.
        (message.present() == view.present).then_some(message)
    }

    fn present(&self) -> u8 {
        let mark = |present: bool, field: u8| if present { field } else { 0 };
        mark(!self.id.is_empty(), HAS_ID)
            | mark(!self.correlation_id.is_empty(), HAS_CORRELATION_ID)
            | mark(!self.reply_to.is_empty(), HAS_REPLY_TO)
            | mark(!self.content_type.is_empty(), HAS_CONTENT_TYPE)
            | mark(self.timestamp_ms != 0, HAS_TIMESTAMP)
            | mark(self.expires_at_ms != 0, HAS_EXPIRY)
            | mark(!self.properties.is_empty(), HAS_PROPERTIES)
    }

    fn encoded_bytes(&self) -> usize {
        let behind = |prefix: usize, length: usize| if length == 0 { 0 } else { prefix + length };
        let time = |time: u64| if time == 0 { 0 } else { 8 };
        let properties = self
            .properties
            .iter()
            .map(|(name, value)| 1 + name.len() + value.encoded_bytes())
            .sum();
        3 + behind(1, self.id.len())
            + behind(1, self.correlation_id.len())
            + behind(1, self.content_type.len())
            + behind(2, self.reply_to.len())
            + time(self.timestamp_ms)
            + time(self.expires_at_ms)
            + behind(2, properties)
            + self.body.len()
    }
}

fn check_length(field: &'static str, bytes: usize, allowed: usize) -> Result<(), MessageError> {
    if bytes > allowed {
        return Err(MessageError::FieldTooLong {
            field,
            bytes,
            allowed,
        });
    }
    Ok(())
}

/// Appends a text that is not empty behind a length of one byte.
fn put_short(text: &str, into: &mut BytesMut) {
    if let Some(length) = u8::try_from(text.len()).ok().filter(|length| *length > 0) {
        into.put_u8(length);
        into.put_slice(text.as_bytes());
    }
}

fn count_u16(count: usize) -> u16 {
    u16::try_from(count).expect("checked against a bound below 65,536")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_message_costs_three_bytes() {
        let mut encoded = BytesMut::new();
        Message::with_body(&b"body"[..])
            .encode(&mut encoded)
            .unwrap();
        assert_eq!(&encoded[..], [1, 0, 4, b'b', b'o', b'd', b'y']);
    }

    #[test]
    fn each_bound_is_named() {
        let long = "x".repeat(256);
        let with_id = Message {
            id: long,
            ..Message::default()
        };
        assert_eq!(
            with_id.check().unwrap_err().to_string(),
            "message id has 256 bytes; at most 255 are allowed"
        );
        let nameless = Message {
            properties: vec![(String::new(), Value::Null)],
            ..Message::default()
        };
        assert_eq!(nameless.check(), Err(MessageError::NamelessProperty));
        let crowded = Message {
            properties: vec![("a".to_owned(), Value::Null); 1025],
            ..Message::default()
        };
        assert_eq!(
            crowded.check(),
            Err(MessageError::TooManyProperties { count: 1025 })
        );
        let large = Message::with_body(vec![0; MESSAGE_BYTES_MAX]);
        assert!(matches!(large.check(), Err(MessageError::TooLarge { .. })));
        let urgent = Message {
            priority: 10,
            ..Message::default()
        };
        assert_eq!(urgent.check(), Err(MessageError::Priority { priority: 10 }));
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(
            Message::decode(&Bytes::from_static(&[9, 0, 4])),
            Err(MessageError::Version { version: 9 })
        );
        assert_eq!(
            Message::decode(&Bytes::from_static(&[1, 0])),
            Err(MessageError::Malformed)
        );
        assert_eq!(
            Message::decode(&Bytes::from_static(&[1, 0x80, 4])),
            Err(MessageError::Malformed)
        );
    }

    #[test]
    fn the_body_is_a_slice_of_what_was_stored() {
        let mut encoded = BytesMut::new();
        Message::with_body(vec![7; 100])
            .encode(&mut encoded)
            .unwrap();
        let stored = encoded.freeze();
        let message = Message::decode(&stored).unwrap();
        assert_eq!(message.body.as_ptr(), stored[3..].as_ptr());
    }
}
