//! What a JMS client has to get back and the neutral message has no place for, in one property that selectors, groups
//! and other protocols have no use for. A plain message has none of it, and then there is no property.
//!
//! ```text
//! u8 version = 1, u8 flags, then sections: u8 kind, u16 length (little-endian), bytes
//!   kind 2 byte  3 char  4 short  8 float  11 map  12 list   the name of a property of that Java type
//!   kind 32 message id  33 original destination  34 blob's address  35 blob's media type
//!        36 job  37 topic   a text
//! ```
//! What a client of another protocol sends in its place may be anything: what cannot be read is no fact, and a fact that
//! does not fit the message it is on has no effect.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::properties::fits_field;

/// The name of the property. Clients of OpenWire never see it.
pub(super) const FACTS_PROPERTY: &str = "quorate_jms";

/// The name of the property that says that the body is compressed: true. Clients of OpenWire see a flag instead.
pub(super) const COMPRESSED_PROPERTY: &str = "quorate_jms_compressed";

/// A Java type that the neutral values do not tell from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JavaType {
    /// Stored as an int.
    Byte,
    /// Stored as a text of one character; a surrogate, which is none, as an int.
    Char,
    /// Stored as an int.
    Short,
    /// Stored as a double.
    Float,
    /// Stored as bytes: a map whose only entry, without a name, is the value.
    Map,
    /// Stored in the same way.
    List,
}

/// The facts about one message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// A text message without a text, which is not the same as an empty one.
    pub(super) has_no_content: bool,
    /// A message with a body of no bytes, which is not the same as none.
    pub(super) has_empty_content: bool,
    /// Its delivery mode where it is stored as a persistent one nevertheless.
    pub(super) is_non_persistent: bool,
    /// The client allows that it is dropped for slow consumers.
    pub(super) is_droppable: bool,
    /// It was sent to be delivered later.
    pub(super) is_scheduled: bool,
    /// Its correlation id is an empty text.
    pub(super) has_empty_correlation_id: bool,
    /// The blob that it refers to goes with it.
    pub(super) deletes_blob: bool,
    /// Its id, if that is too long for the message's own field.
    pub(super) message_id: Option<String>,
    /// Where it was sent first: of a composite, all of it.
    pub(super) original_destination: Option<String>,
    /// The topic that it was sent to, for those who receive from several.
    pub(super) topic: Option<String>,
    /// Where its blob lies.
    pub(super) blob_url: Option<String>,
    /// What its blob is.
    pub(super) blob_type: Option<String>,
    /// The id under which it was sent, if each of its deliveries has one of its own.
    pub(super) job: Option<String>,
    /// The types of properties by name, where they are not those of the values.
    pub(super) types: BTreeMap<String, JavaType>,
}

const VERSION: u8 = 1;

const MESSAGE_ID: u8 = 32;
const ORIGINAL_DESTINATION: u8 = 33;
const BLOB_URL: u8 = 34;
const BLOB_TYPE: u8 = 35;
const JOB: u8 = 36;
const TOPIC: u8 = 37;

/// Bytes before a section's content.
const SECTION_HEAD_BYTES: usize = 3;

impl JavaType {
    /// Its number, which is the one of OpenWire.
    fn code(self) -> u8 {
        match self {
            Self::Byte => 2,
            Self::Char => 3,
            Self::Short => 4,
            Self::Float => 8,
            Self::Map => 11,
            Self::List => 12,
        }
    }

    fn of(code: u8) -> Option<Self> {
        let all = [
            Self::Byte,
            Self::Char,
            Self::Short,
            Self::Float,
            Self::Map,
            Self::List,
        ];
        all.into_iter().find(|java| java.code() == code)
    }
}

impl Facts {
    /// The value of the property; none when there is nothing to say.
    pub(super) fn encode(&self) -> Option<Bytes> {
        let texts = [
            (MESSAGE_ID, &self.message_id),
            (ORIGINAL_DESTINATION, &self.original_destination),
            (BLOB_URL, &self.blob_url),
            (BLOB_TYPE, &self.blob_type),
            (JOB, &self.job),
            (TOPIC, &self.topic),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(kind, text)| Some((kind, text.as_deref()?)));
        let types = self.types.iter();
        let types = types.map(|(name, java)| (java.code(), name.as_str()));
        let mut sections = texts.chain(types).peekable();
        let flags = self.flags();
        if flags == 0 && sections.peek().is_none() {
            return None;
        }
        let mut out = BytesMut::new();
        out.put_slice(&[VERSION, flags]);
        for (kind, text) in sections {
            // Only what is behind a `?` makes a composite this long, and it is of no use.
            let Ok(length) = u16::try_from(text.len()) else {
                continue;
            };
            out.put_u8(kind);
            out.put_u16_le(length);
            out.put_slice(text.as_bytes());
        }
        Some(out.freeze())
    }

    /// Reads the property. None if that cannot be read.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, flags], mut rest) = bytes.split_first_chunk()?;
        let mut facts = Self::of_flags(flags).filter(|_| version == VERSION)?;
        while !rest.is_empty() {
            let (&[kind, low, high], behind) = rest.split_first_chunk::<SECTION_HEAD_BYTES>()?;
            let length = usize::from(u16::from_le_bytes([low, high]));
            let (text, behind) = behind.split_at_checked(length)?;
            let text = std::str::from_utf8(text).ok()?;
            // Whoever wrote a longer one was no client of OpenWire, and none could be sent it.
            let text = Some(text).filter(|text| fits_field(text))?.to_owned();
            match kind {
                MESSAGE_ID => facts.message_id = Some(text),
                ORIGINAL_DESTINATION => facts.original_destination = Some(text),
                BLOB_URL => facts.blob_url = Some(text),
                BLOB_TYPE => facts.blob_type = Some(text),
                JOB => facts.job = Some(text),
                TOPIC => facts.topic = Some(text),
                _ => drop(facts.types.insert(text, JavaType::of(kind)?)),
            }
            rest = behind;
        }
        Some(facts)
    }

    fn flags(&self) -> u8 {
        let marks = [
            self.has_no_content,
            self.has_empty_content,
            self.is_non_persistent,
            self.is_droppable,
            self.is_scheduled,
            self.has_empty_correlation_id,
            self.deletes_blob,
        ];
        let marks = marks.into_iter().enumerate();
        marks.fold(0, |flags, (bit, mark)| flags | u8::from(mark) << bit)
    }

    fn of_flags(flags: u8) -> Option<Self> {
        let mark = |bit: u8| flags >> bit & 1 == 1;
        let is_known = !mark(7);
        is_known.then(|| Self {
            has_no_content: mark(0),
            has_empty_content: mark(1),
            is_non_persistent: mark(2),
            is_droppable: mark(3),
            is_scheduled: mark(4),
            has_empty_correlation_id: mark(5),
            deletes_blob: mark(6),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Facts {
        let types = [
            JavaType::Byte,
            JavaType::Char,
            JavaType::Short,
            JavaType::Float,
            JavaType::Map,
            JavaType::List,
        ];
        Facts {
            has_no_content: true,
            deletes_blob: true,
            message_id: Some("x".repeat(300)),
            original_destination: Some("queue://a,b".to_owned()),
            blob_url: Some("http://b".to_owned()),
            blob_type: Some(String::new()),
            job: Some("ID:j".to_owned()),
            topic: Some("prices.eu".to_owned()),
            types: types.map(|java| (format!("{java:?}"), java)).into(),
            ..Facts::default()
        }
    }

    #[test]
    fn facts_come_back_as_they_were() {
        let facts = full();
        let bytes = facts.encode().expect("there is something to say");
        assert_eq!(Facts::decode(&bytes), Some(facts));
        for bit in 0..7 {
            let facts = Facts::of_flags(1 << bit).expect("a known flag");
            assert_ne!(facts, Facts::default());
            let bytes = facts.encode().expect("there is something to say");
            assert_eq!(bytes.len(), 2);
            assert_eq!(Facts::decode(&bytes), Some(facts));
        }
    }

    #[test]
    fn nothing_to_say_takes_no_bytes() {
        assert_eq!(Facts::default().encode(), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_fact() {
        let bytes = full().encode().expect("there is something to say");
        let whole = (0..bytes.len()).filter(|end| Facts::decode(&bytes[..*end]).is_some());
        // A cut between two sections leaves the ones before it.
        assert_eq!(whole.count(), 12);
        let nuls = Facts {
            blob_url: Some("\0".repeat(40_000)),
            ..Facts::default()
        };
        let bytes = nuls.encode().expect("there is something to say");
        assert_eq!(Facts::decode(&bytes), None, "no field can hold it");
        for bytes in [
            &[2, 0][..],
            &[1, 0x80],
            &[1, 0, 99, 0, 0],
            &[1, 0, 32, 1, 0, 0xFF],
        ] {
            assert_eq!(Facts::decode(bytes), None, "{bytes:?}");
        }
    }
}
