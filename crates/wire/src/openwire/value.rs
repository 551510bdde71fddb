//! Values that Java's primitive maps and lists hold: properties, map and stream bodies, the negotiation.
//!
//! ```text
//! map  = i32 count (-1: null, read as empty), then count times: u16 length, name, value
//! list = i32 count (-1: null, read as empty), then the values
//! value = u8 tag, then
//!   0 null  1 boolean  2 byte  3 char, two bytes  4 short  5 int  6 long  7 double  8 float
//!   9 text behind u16  10 bytes behind i32  11 map  12 list  13 text behind i32
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::field::signed_length;
use super::modified_utf8::{self, MalformedText};
use super::output::EncodeError;
use crate::limits::{LONG_TEXT_UNITS, VALUE_NESTING_MAX, VALUES_MAX};
use crate::reader::{Reader, Truncated};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// None.
    Null,
    /// Java's `boolean`.
    Boolean(bool),
    /// Java's `byte`.
    Byte(i8),
    /// Java's `char`: one UTF-16 unit.
    Char(u16),
    /// Java's `short`.
    Short(i16),
    /// Java's `int`.
    Int(i32),
    /// Java's `long`.
    Long(i64),
    /// Java's `double`.
    Double(f64),
    /// Java's `float`.
    Float(f32),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// Names and values.
    Map(Map),
    /// Values.
    List(Vec<Self>),
}

/// Names and values in the order of the wire. Of a name that comes twice the last value counts, as in Java.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<(String, Value)>,
}

/// Bytes that are no values, or more of them than the bounds allow.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ValueError {
    /// They end within a value.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// They go on after the last value.
    #[error("{0} bytes after the last value")]
    Trailing(usize),
    /// A tag without a meaning.
    #[error("unknown tag {0} of a value")]
    UnknownTag(u8),
    /// A length or count below zero.
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// A text that is not modified UTF-8.
    #[error(transparent)]
    Text(#[from] MalformedText),
    /// Maps and lists within each other beyond the bound.
    #[error("values nested deeper than {VALUE_NESTING_MAX}")]
    TooDeep,
    /// More values than the bound.
    #[error("more than {VALUES_MAX} values")]
    TooMany,
}

const NULL: u8 = 0;
const BOOLEAN: u8 = 1;
const BYTE: u8 = 2;
const CHAR: u8 = 3;
const SHORT: u8 = 4;
const INT: u8 = 5;
const LONG: u8 = 6;
const DOUBLE: u8 = 7;
const FLOAT: u8 = 8;
const TEXT: u8 = 9;
const BYTES: u8 = 10;
const MAP: u8 = 11;
const LIST: u8 = 12;
const LONG_TEXT: u8 = 13;

/// How Java counts what is not there.
const NULL_COUNT: i32 = -1;

impl Map {
    /// A map without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut latest_first = self.entries.iter().rev();
        latest_first
            .find(|(entry, _)| entry == name)
            .map(|(_, value)| value)
    }

    /// Adds an entry behind all others; it does not look for one of the same name.
    pub fn push(&mut self, name: impl Into<String>, value: Value) {
        self.entries.push((name.into(), value));
    }

    /// The entries, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads a map that takes all of the bytes.
    ///
    /// # Errors
    /// They are no map, or beyond the bounds.
    pub fn decode(bytes: &Bytes) -> Result<Self, ValueError> {
        let mut values = Values::new(bytes);
        let map = values.map()?;
        values.finish().map(|()| map)
    }

    /// Writes the map.
    ///
    /// # Errors
    /// A name or the whole is too long.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        put_map(self, &mut out)?;
        Ok(out.freeze())
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// Reads values one after the other until the bytes end, as the body of a stream has them.
pub(crate) fn decode_sequence(bytes: &Bytes) -> Result<Vec<Value>, ValueError> {
    let mut values = Values::new(bytes);
    let mut sequence = Vec::new();
    while values.reader.remaining() > 0 {
        sequence.push(values.value()?);
    }
    Ok(sequence)
}

/// Writes values one after the other.
pub(crate) fn encode_sequence(values: &[Value]) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::new();
    for value in values {
        put_value(value, &mut out)?;
    }
    Ok(out.freeze())
}

/// Bytes that are being read as values, and what bounds are left.
struct Values<'a> {
    reader: Reader<'a>,
    depth_left: u8,
    values_left: u32,
}

impl<'a> Values<'a> {
    fn new(bytes: &'a Bytes) -> Self {
        Self {
            reader: Reader::new(bytes),
            depth_left: VALUE_NESTING_MAX,
            values_left: VALUES_MAX,
        }
    }

    fn finish(&self) -> Result<(), ValueError> {
        match self.reader.remaining() {
            0 => Ok(()),
            trailing => Err(ValueError::Trailing(trailing)),
        }
    }

    fn value(&mut self) -> Result<Value, ValueError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(ValueError::TooMany)?;
        Ok(match self.reader.u8()? {
            NULL => Value::Null,
            BOOLEAN => Value::Boolean(self.reader.u8()? != 0),
            BYTE => Value::Byte(self.reader.i8()?),
            CHAR => Value::Char(self.reader.u16()?),
            SHORT => Value::Short(self.reader.i16()?),
            INT => Value::Int(self.reader.i32()?),
            LONG => Value::Long(self.reader.i64()?),
            DOUBLE => Value::Double(self.reader.f64()?),
            FLOAT => Value::Float(self.reader.f32()?),
            TEXT => Value::Text(self.short_text()?),
            BYTES => {
                let length = self.length()?;
                Value::Bytes(self.reader.bytes(length)?)
            }
            MAP => Value::Map(self.deeper(Self::map)?),
            LIST => Value::List(self.deeper(Self::list)?),
            LONG_TEXT => {
                let length = self.length()?;
                Value::Text(modified_utf8::decode(self.reader.take(length)?)?)
            }
            other => return Err(ValueError::UnknownTag(other)),
        })
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(ValueError::TooDeep)?;
        let inner = read(self)?;
        self.depth_left = self.depth_left.saturating_add(1);
        Ok(inner)
    }

    /// Memory is taken as entries come, not by the count.
    fn map(&mut self) -> Result<Map, ValueError> {
        let mut map = Map::new();
        for _ in 0..self.count()? {
            let name = self.short_text()?;
            map.push(name, self.value()?);
        }
        Ok(map)
    }

    fn list(&mut self) -> Result<Vec<Value>, ValueError> {
        let mut list = Vec::new();
        for _ in 0..self.count()? {
            list.push(self.value()?);
        }
        Ok(list)
    }

    fn count(&mut self) -> Result<u32, ValueError> {
        match self.reader.i32()? {
            NULL_COUNT => Ok(0),
            count => u32::try_from(count).map_err(|_| ValueError::NegativeLength(count)),
        }
    }

    fn length(&mut self) -> Result<usize, ValueError> {
        let length = self.reader.i32()?;
        usize::try_from(length).map_err(|_| ValueError::NegativeLength(length))
    }

    fn short_text(&mut self) -> Result<String, ValueError> {
        let length = self.reader.u16()?;
        Ok(modified_utf8::decode(self.reader.take(length.into())?)?)
    }
}

fn put_value(value: &Value, out: &mut BytesMut) -> Result<(), EncodeError> {
    match value {
        Value::Null => out.put_u8(NULL),
        Value::Boolean(boolean) => out.put_slice(&[BOOLEAN, (*boolean).into()]),
        Value::Byte(number) => {
            out.put_u8(BYTE);
            out.put_i8(*number);
        }
        Value::Char(unit) => {
            out.put_u8(CHAR);
            out.put_u16(*unit);
        }
        Value::Short(number) => {
            out.put_u8(SHORT);
            out.put_i16(*number);
        }
        Value::Int(number) => {
            out.put_u8(INT);
            out.put_i32(*number);
        }
        Value::Long(number) => {
            out.put_u8(LONG);
            out.put_i64(*number);
        }
        Value::Double(number) => {
            out.put_u8(DOUBLE);
            out.put_f64(*number);
        }
        Value::Float(number) => {
            out.put_u8(FLOAT);
            out.put_f32(*number);
        }
        Value::Text(text) => put_text(text, out)?,
        Value::Bytes(bytes) => {
            out.put_u8(BYTES);
            out.put_i32(signed_length(bytes.len())?);
            out.put_slice(bytes);
        }
        Value::Map(map) => {
            out.put_u8(MAP);
            put_map(map, out)?;
        }
        Value::List(list) => {
            out.put_u8(LIST);
            out.put_i32(signed_length(list.len())?);
            list.iter().try_for_each(|value| put_value(value, out))?;
        }
    }
    Ok(())
}

fn put_map(map: &Map, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_i32(signed_length(map.len())?);
    for (name, value) in map.iter() {
        put_short_text(name, out)?;
        put_value(value, out)?;
    }
    Ok(())
}

/// The tag depends on the length as the client chooses it, so that what it wrote is written again byte for byte.
fn put_text(text: &str, out: &mut BytesMut) -> Result<(), EncodeError> {
    if text.encode_utf16().count() < LONG_TEXT_UNITS {
        out.put_u8(TEXT);
        put_short_text(text, out)
    } else {
        out.put_u8(LONG_TEXT);
        put_long_text(text, out)
    }
}

fn put_short_text(text: &str, out: &mut BytesMut) -> Result<(), EncodeError> {
    let bytes = modified_utf8::encoded_len(text);
    let length = u16::try_from(bytes).map_err(|_| EncodeError::TextTooLong { bytes })?;
    out.put_u16(length);
    modified_utf8::encode(text, out);
    Ok(())
}

/// Writes a text behind a length of four bytes.
pub(crate) fn put_long_text(text: &str, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_i32(signed_length(modified_utf8::encoded_len(text))?);
    modified_utf8::encode(text, out);
    Ok(())
}

#[cfg(test)]
mod tests;
