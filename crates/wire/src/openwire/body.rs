//! The body of a message, for whoever passes it on to a client of another protocol. Between clients of this one it stays
//! the bytes that it is.
//!
//! | kind | content |
//! |---|---|
//! | text | i32 length (-1: null), modified UTF-8 |
//! | bytes | themselves |
//! | map | a [`Map`]; an empty one may have no content |
//! | stream | values, one after the other |
//! | object | a Java serialisation stream, opaque |
//!
//! A compressed body is the zlib stream of that; before a bytes message's stands the inflated length. It is not inflated
//! here: that takes a bound of memory which only the caller knows.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::message::{Blob, Message, MessageKind};
use super::modified_utf8::{self, MalformedText};
use super::output::EncodeError;
use super::value::{Map, Value, ValueError, decode_sequence, encode_sequence, put_long_text};
use crate::reader::{Reader, Truncated};

/// A body.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// None: of a message without a kind.
    Empty,
    /// A text, or Java's null.
    Text(Option<String>),
    /// Bytes.
    Bytes(Bytes),
    /// Names and values.
    Map(Map),
    /// Values.
    Stream(Vec<Value>),
    /// A Java serialisation stream; none for Java's null.
    Object(Option<Bytes>),
    /// What lies elsewhere.
    Blob(Blob),
    /// Any of these, compressed.
    Compressed(Compressed),
}

/// A body that has to be inflated before it can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compressed {
    /// How long it is when inflated. Only bytes messages say it, and it is the sender's word.
    pub inflated_length: Option<u32>,
    /// The zlib stream.
    pub zlib: Bytes,
}

/// Content that is not what its kind of message has.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// It ends too early.
    #[error("decode body: {0}")]
    Truncated(#[from] Truncated),
    /// It goes on after its end.
    #[error("decode body: {0} bytes after the text")]
    Trailing(usize),
    /// A length below zero.
    #[error("decode body: length {0} is negative")]
    NegativeLength(i32),
    /// A text that is not modified UTF-8.
    #[error("decode body: {0}")]
    Text(#[from] MalformedText),
    /// The values of a map or a stream.
    #[error("decode body: {0}")]
    Value(#[from] ValueError),
}

/// The length of Java's null text.
const NULL_LENGTH: i32 = -1;

impl Message {
    /// Reads the body.
    ///
    /// # Errors
    /// The content is not what this kind of message has, or beyond the bounds.
    pub fn body(&self) -> Result<Body, BodyError> {
        let content = self.content.as_ref().filter(|content| !content.is_empty());
        if let (true, Some(content)) = (self.compressed, content) {
            return compressed(&self.kind, content);
        }
        Body::decode(&self.kind, content)
    }

    /// Sets the body and with it the kind. A compressed one keeps the kind that the message has.
    ///
    /// # Errors
    /// It is longer than a length field can say.
    pub fn set_body(&mut self, body: Body) -> Result<(), EncodeError> {
        let (kind, content) = match body {
            Body::Empty => (MessageKind::Plain, None),
            Body::Text(None) => (MessageKind::Text, None),
            Body::Text(Some(text)) => (MessageKind::Text, Some(encode_text(&text)?)),
            Body::Bytes(bytes) => (MessageKind::Bytes, Some(bytes)),
            Body::Map(map) if map.is_empty() => (MessageKind::Map, None),
            Body::Map(map) => (MessageKind::Map, Some(map.encode()?)),
            Body::Stream(values) => (MessageKind::Stream, Some(encode_sequence(&values)?)),
            Body::Object(object) => (MessageKind::Object, object),
            Body::Blob(blob) => (MessageKind::Blob(blob), None),
            Body::Compressed(compressed) => {
                self.content = Some(compressed.content()?);
                self.compressed = true;
                return Ok(());
            }
        };
        self.kind = kind;
        self.content = content.filter(|content| !content.is_empty());
        self.compressed = false;
        Ok(())
    }
}

impl Body {
    /// Reads the content of a message of this kind, inflated where it was compressed.
    ///
    /// # Errors
    /// The content is not what this kind of message has, or beyond the bounds.
    pub fn decode(kind: &MessageKind, content: Option<&Bytes>) -> Result<Self, BodyError> {
        Ok(match kind {
            MessageKind::Plain => Self::Empty,
            MessageKind::Text => Self::Text(content.map(decode_text).transpose()?.flatten()),
            MessageKind::Bytes => Self::Bytes(content.cloned().unwrap_or_default()),
            MessageKind::Map => {
                Self::Map(content.map(Map::decode).transpose()?.unwrap_or_default())
            }
            MessageKind::Stream => Self::Stream(
                content
                    .map(decode_sequence)
                    .transpose()?
                    .unwrap_or_default(),
            ),
            MessageKind::Object => Self::Object(content.cloned()),
            MessageKind::Blob(blob) => Self::Blob(blob.clone()),
        })
    }
}

impl Compressed {
    fn content(self) -> Result<Bytes, EncodeError> {
        let Some(length) = self.inflated_length else {
            return Ok(self.zlib);
        };
        let mut content = BytesMut::from(&length.to_be_bytes()[..]);
        content.extend_from_slice(&self.zlib);
        Ok(content.freeze())
    }
}

fn compressed(kind: &MessageKind, content: &Bytes) -> Result<Body, BodyError> {
    let mut reader = Reader::new(content);
    let inflated_length = match kind {
        MessageKind::Bytes => {
            let length = reader.i32()?;
            Some(u32::try_from(length).map_err(|_| BodyError::NegativeLength(length))?)
        }
        MessageKind::Plain
        | MessageKind::Map
        | MessageKind::Object
        | MessageKind::Stream
        | MessageKind::Text
        | MessageKind::Blob(_) => None,
    };
    let zlib = reader.bytes(reader.remaining())?;
    Ok(Body::Compressed(Compressed {
        inflated_length,
        zlib,
    }))
}

fn decode_text(content: &Bytes) -> Result<Option<String>, BodyError> {
    let mut reader = Reader::new(content);
    let length = reader.i32()?;
    let text = match usize::try_from(length) {
        Ok(length) => Some(modified_utf8::decode(reader.take(length)?)?),
        Err(_) if length == NULL_LENGTH => None,
        Err(_) => return Err(BodyError::NegativeLength(length)),
    };
    match reader.remaining() {
        0 => Ok(text),
        trailing => Err(BodyError::Trailing(trailing)),
    }
}

fn encode_text(text: &str) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(text.len().saturating_add(size_of::<i32>()));
    put_long_text(text, &mut out)?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests;
