//! A stored message looked at where it lies: fields and properties are read off the stored bytes, and nothing is
//! copied or allocated. For whoever needs a field of many messages and the whole of few.

use crate::property::{ValueRef, read_value};
use crate::reader::Reader;

pub(crate) const VERSION: u8 = 1;

pub(crate) const HAS_ID: u8 = 1;
pub(crate) const HAS_CORRELATION_ID: u8 = 1 << 1;
pub(crate) const HAS_REPLY_TO: u8 = 1 << 2;
pub(crate) const HAS_CONTENT_TYPE: u8 = 1 << 3;
pub(crate) const HAS_TIMESTAMP: u8 = 1 << 4;
pub(crate) const HAS_EXPIRY: u8 = 1 << 5;
pub(crate) const HAS_PROPERTIES: u8 = 1 << 6;
pub(crate) const KNOWN: u8 = (1 << 7) - 1;

/// The name of the property that holds a message's group.
pub const GROUP_PROPERTY: &str = "JMSXGroupID";

/// The name of the property that holds a message's number in its group. Below zero it closes the group.
pub const GROUP_SEQUENCE_PROPERTY: &str = "JMSXGroupSeq";

/// A stored message, borrowed. Empty texts and zero times mean absent.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Which fields the encoding says are there.
    pub(crate) present: u8,
    /// As in [`crate::Message::id`].
    pub id: &'a str,
    /// As in [`crate::Message::correlation_id`].
    pub correlation_id: &'a str,
    /// As in [`crate::Message::content_type`].
    pub content_type: &'a str,
    /// As in [`crate::Message::reply_to`].
    pub reply_to: &'a str,
    /// As in [`crate::Message::priority`].
    pub priority: u8,
    /// As in [`crate::Message::timestamp_ms`].
    pub timestamp_ms: u64,
    /// As in [`crate::Message::expires_at_ms`].
    pub expires_at_ms: u64,
    /// How many properties follow.
    pub(crate) count: u16,
    /// Where they begin.
    pub(crate) properties_at: usize,
    whole: &'a [u8],
}

/// A message's group, as its properties say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name, not empty.
    pub name: &'a str,
    /// The message's number in it; 0 when there is none.
    pub sequence: i64,
}

/// A group by a hash of its name. Two groups that share one share their owner, which does no harm to either's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

impl Group<'_> {
    /// The group's identity: the same wherever and whenever it is asked for (FNV-1a).
    #[must_use]
    pub fn id(&self) -> GroupId {
        let bytes = self.name.bytes();
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // Zero says that there is no group.
        GroupId(hash.max(1))
    }
}

/// The properties of a message in their order. Ends early where the bytes are no property.
#[derive(Debug)]
pub struct Properties<'a> {
    reader: Reader<'a>,
    left: u16,
}

impl<'a> MessageView<'a> {
    /// Reads the fields in front of the properties. None when these bytes are no message of a known version; what the
    /// fields hold is not checked against bounds.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        Self::read(&mut reader, bytes)
    }

    /// Reads what follows the version.
    pub(crate) fn read(reader: &mut Reader<'a>, whole: &'a [u8]) -> Option<Self> {
        let present = reader.u8().filter(|present| present & !KNOWN == 0)?;
        let has = |field: u8| present & field != 0;
        let priority = reader.u8()?;
        let mut short = |field| {
            if has(field) {
                reader.short_text()
            } else {
                Some("")
            }
        };
        let id = short(HAS_ID)?;
        let correlation_id = short(HAS_CORRELATION_ID)?;
        let content_type = short(HAS_CONTENT_TYPE)?;
        let reply_to = if has(HAS_REPLY_TO) {
            reader.text()?
        } else {
            ""
        };
        let mut time = |field| if has(field) { reader.u64() } else { Some(0) };
        let timestamp_ms = time(HAS_TIMESTAMP)?;
        let expires_at_ms = time(HAS_EXPIRY)?;
        let count = if has(HAS_PROPERTIES) {
            reader.u16()?
        } else {
            0
        };
        Some(Self {
            present,
            id,
            correlation_id,
            content_type,
            reply_to,
            priority,
            timestamp_ms,
            expires_at_ms,
            count,
            properties_at: reader.position(),
            whole,
        })
    }

    /// The properties, read as they are asked for.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        let behind = self.whole.get(self.properties_at..).unwrap_or_default();
        Properties {
            reader: Reader::new(behind),
            left: self.count,
        }
    }

    /// The first property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<ValueRef<'a>> {
        let mut properties = self.properties();
        properties
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// The group that the message belongs to, if any.
    #[must_use]
    pub fn group(&self) -> Option<Group<'a>> {
        let mut group = None;
        let mut sequence = 0;
        for (name, value) in self.properties() {
            match value {
                ValueRef::Text(text)
                    if name == GROUP_PROPERTY && group.is_none() && !text.is_empty() =>
                {
                    group = Some(text);
                }
                ValueRef::Int(number) if name == GROUP_SEQUENCE_PROPERTY => {
                    sequence = i64::from(number);
                }
                ValueRef::Long(number) if name == GROUP_SEQUENCE_PROPERTY => sequence = number,
                ValueRef::Null
                | ValueRef::Boolean(_)
                | ValueRef::Int(_)
                | ValueRef::Long(_)
                | ValueRef::Double(_)
                | ValueRef::Text(_)
                | ValueRef::Binary(_) => {}
            }
        }
        group.map(|name| Group { name, sequence })
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = (&'a str, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = self.reader.short_text()?;
        Some((name, read_value(&mut self.reader)?))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::{Message, Value};

    fn stored(message: &Message) -> Bytes {
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded).unwrap();
        encoded.freeze()
    }

    fn with(properties: &[(&str, Value)]) -> Bytes {
        let properties = properties.iter();
        stored(&Message {
            properties: properties
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            ..Message::with_body(&b"body"[..])
        })
    }

    #[test]
    fn a_property_is_read_where_it_lies() {
        let bytes = with(&[
            ("a", Value::Null),
            ("b", Value::Binary(Bytes::from_static(b"xyz"))),
            ("c", Value::Text("sea".to_owned())),
            ("c", Value::Text("second".to_owned())),
        ]);
        let view = MessageView::new(&bytes).unwrap();
        assert_eq!(view.property("a"), Some(ValueRef::Null));
        assert_eq!(view.property("b"), Some(ValueRef::Binary(b"xyz")));
        let Some(ValueRef::Text(text)) = view.property("c") else {
            panic!("it is text");
        };
        assert_eq!(text, "sea");
        assert!(bytes.as_ptr_range().contains(&text.as_ptr()));
        assert_eq!(view.property("d"), None);
        assert_eq!(view.properties().count(), 4);
    }

    #[test]
    fn a_group_is_a_text_that_is_not_empty() {
        let check = |properties: &[(&str, Value)], expected: Option<(&str, i64)>| {
            let bytes = with(properties);
            let group = MessageView::new(&bytes).unwrap().group();
            assert_eq!(group.map(|group| (group.name, group.sequence)), expected);
        };
        let group = |name: &str| (GROUP_PROPERTY, Value::Text(name.to_owned()));
        check(&[group("a")], Some(("a", 0)));
        check(
            &[(GROUP_SEQUENCE_PROPERTY, Value::Int(-1)), group("a")],
            Some(("a", -1)),
        );
        check(
            &[group("a"), (GROUP_SEQUENCE_PROPERTY, Value::Long(7))],
            Some(("a", 7)),
        );
        check(&[group("")], None);
        check(&[(GROUP_PROPERTY, Value::Int(1))], None);
        check(&[(GROUP_SEQUENCE_PROPERTY, Value::Int(1))], None);
    }

    #[test]
    fn cut_bytes_are_no_message_or_have_fewer_properties() {
        let bytes = with(&[("a", Value::Int(1)), ("b", Value::Text("two".to_owned()))]);
        for end in 0..bytes.len() {
            if let Some(view) = MessageView::new(&bytes[..end]) {
                assert!(view.properties().count() <= 2);
            }
        }
        assert!(MessageView::new(&[9, 0, 4]).is_none());
    }
}
