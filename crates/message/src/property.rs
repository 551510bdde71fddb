//! The value of a property, and its encoding: a byte for the type, then the value.

use bytes::{BufMut, Bytes, BytesMut};

use crate::reader::Reader;

/// A property's value. Which of them a protocol can show is that protocol's matter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Present without a value.
    Null,
    /// True or false.
    Boolean(bool),
    /// An integer of 32 bits.
    Int(i32),
    /// An integer of 64 bits.
    Long(i64),
    /// A double-precision number.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

/// A property's value where it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// As [`Value::Null`].
    Null,
    /// As [`Value::Boolean`].
    Boolean(bool),
    /// As [`Value::Int`].
    Int(i32),
    /// As [`Value::Long`].
    Long(i64),
    /// As [`Value::Double`].
    Double(f64),
    /// As [`Value::Text`].
    Text(&'a str),
    /// As [`Value::Binary`].
    Binary(&'a [u8]),
}

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const LONG: u8 = 4;
const DOUBLE: u8 = 5;
const TEXT: u8 = 6;
const BINARY: u8 = 7;

impl Value {
    /// Bytes that the value takes when encoded.
    pub(crate) fn encoded_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) => 1,
            Self::Int(_) => 5,
            Self::Long(_) | Self::Double(_) => 9,
            Self::Text(text) => 5 + text.len(),
            Self::Binary(bytes) => 5 + bytes.len(),
        }
    }

    /// Appends the value. The caller has checked that a message of this size is allowed.
    pub(crate) fn encode(&self, into: &mut BytesMut) {
        match self {
            Self::Null => into.put_u8(NULL),
            Self::Boolean(false) => into.put_u8(FALSE),
            Self::Boolean(true) => into.put_u8(TRUE),
            Self::Int(value) => {
                into.put_u8(INT);
                into.put_i32_le(*value);
            }
            Self::Long(value) => {
                into.put_u8(LONG);
                into.put_i64_le(*value);
            }
            Self::Double(value) => {
                into.put_u8(DOUBLE);
                into.put_u64_le(value.to_bits());
            }
            Self::Text(text) => put_long(TEXT, text.as_bytes(), into),
            Self::Binary(bytes) => put_long(BINARY, bytes, into),
        }
    }

    /// Reads a value; `whole` is what the reader reads, so that binary values are slices of it.
    pub(crate) fn decode(reader: &mut Reader<'_>, whole: &Bytes) -> Option<Self> {
        Some(match read_value(reader)? {
            ValueRef::Null => Self::Null,
            ValueRef::Boolean(value) => Self::Boolean(value),
            ValueRef::Int(value) => Self::Int(value),
            ValueRef::Long(value) => Self::Long(value),
            ValueRef::Double(value) => Self::Double(value),
            ValueRef::Text(text) => Self::Text(text.to_owned()),
            ValueRef::Binary(bytes) => Self::Binary(whole.slice_ref(bytes)),
        })
    }
}

/// Reads a value without copying it.
pub(crate) fn read_value<'a>(reader: &mut Reader<'a>) -> Option<ValueRef<'a>> {
    Some(match reader.u8()? {
        NULL => ValueRef::Null,
        FALSE => ValueRef::Boolean(false),
        TRUE => ValueRef::Boolean(true),
        INT => ValueRef::Int(i32::from_le_bytes(reader.u32()?.to_le_bytes())),
        LONG => ValueRef::Long(i64::from_le_bytes(reader.u64()?.to_le_bytes())),
        DOUBLE => ValueRef::Double(f64::from_bits(reader.u64()?)),
        TEXT => ValueRef::Text(std::str::from_utf8(reader.long_bytes()?).ok()?),
        BINARY => ValueRef::Binary(reader.long_bytes()?),
        _ => return None,
    })
}

fn put_long(kind: u8, bytes: &[u8], into: &mut BytesMut) {
    into.put_u8(kind);
    into.put_u32_le(u32::try_from(bytes.len()).expect("a message is smaller than 4 GiB"));
    into.put_slice(bytes);
}
