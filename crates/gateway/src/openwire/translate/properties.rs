//! Properties: as OpenWire's map and as the neutral ones that selectors read.
//!
//! | Java | neutral | |
//! |---|---|---|
//! | null, boolean, int, long, double, String | the same | |
//! | byte, short | int | the type is a fact |
//! | float | double, exactly | the type is a fact |
//! | char | text of one character | the type is a fact |
//! | byte[] | binary | |
//! | Map, List | binary | the type is a fact; selectors do not look inside |
//!
//! Header fields that the stored message has no field for are properties as well; the map of a client never holds those,
//! since the client reads and writes the field under that name.

use bytes::Bytes;
use quorate_message::{GROUP_PROPERTY, GROUP_SEQUENCE_PROPERTY, Value};
use quorate_wire::openwire::{self, Map};

use super::Refusal;
use super::facts::{COMPRESSED_PROPERTY, FACTS_PROPERTY, Facts, JavaType};
use super::schedule::Timing;

/// JMSType. Selectors know it by this name.
pub(super) const TYPE_PROPERTY: &str = "JMSType";

/// JMSXUserID.
pub(super) const USER_PROPERTY: &str = "JMSXUserID";

/// JMSCorrelationID, where it is too long for the message's own field.
pub(super) const CORRELATION_PROPERTY: &str = "JMSCorrelationID";

/// Bytes of a text field of OpenWire: its length is sixteen bits.
const FIELD_BYTES_MAX: usize = 65_535;

/// What a client's map is read into.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The properties, in their order.
    pub(super) properties: Vec<(String, Value)>,
    /// Those that make a schedule.
    pub(super) timing: Timing,
}

impl Read {
    /// Reads a client's map. What the values do not tell is added to the facts.
    pub(super) fn map(&mut self, map: &Bytes, facts: &mut Facts) -> Result<(), Refusal> {
        for (name, value) in Map::decode(map)? {
            if is_field(&name) || self.timing.take(&name, &value)? {
                continue;
            }
            let (value, java) = neutral(value)?;
            if let Some(java) = java {
                facts.types.insert(name.clone(), java);
            }
            self.properties.push((name, value));
        }
        Ok(())
    }

    /// Adds a property that is made of a field.
    pub(super) fn push(&mut self, name: &str, value: Value) {
        self.properties.push((name.to_owned(), value));
    }
}

/// Whether a name is that of a header field, or of what the gateway keeps for itself.
fn is_field(name: &str) -> bool {
    matches!(
        name,
        GROUP_PROPERTY
            | GROUP_SEQUENCE_PROPERTY
            | TYPE_PROPERTY
            | USER_PROPERTY
            | CORRELATION_PROPERTY
            | FACTS_PROPERTY
            | COMPRESSED_PROPERTY
    )
}

/// The neutral value, and the Java type if the value does not tell it.
fn neutral(value: openwire::Value) -> Result<(Value, Option<JavaType>), Refusal> {
    use openwire::Value as Java;
    Ok(match value {
        Java::Null => (Value::Null, None),
        Java::Boolean(value) => (Value::Boolean(value), None),
        Java::Int(value) => (Value::Int(value), None),
        Java::Long(value) => (Value::Long(value), None),
        Java::Double(value) => (Value::Double(value), None),
        Java::Text(text) => (Value::Text(text), None),
        Java::Bytes(bytes) => (Value::Binary(bytes), None),
        Java::Byte(value) => (Value::Int(i32::from(value)), Some(JavaType::Byte)),
        Java::Short(value) => (Value::Int(i32::from(value)), Some(JavaType::Short)),
        Java::Float(value) => (Value::Double(f64::from(value)), Some(JavaType::Float)),
        Java::Char(unit) => {
            let character = char::from_u32(u32::from(unit));
            let value = character.map_or(Value::Int(i32::from(unit)), |character| {
                Value::Text(character.to_string())
            });
            (value, Some(JavaType::Char))
        }
        Java::Map(_) => (Value::Binary(wrapped(value)?), Some(JavaType::Map)),
        Java::List(_) => (Value::Binary(wrapped(value)?), Some(JavaType::List)),
    })
}

/// A value as a map without a name to it: maps are what can be read back.
fn wrapped(value: openwire::Value) -> Result<Bytes, Refusal> {
    Ok(Map::from_iter([(String::new(), value)]).encode()?)
}

/// The value that a client gets, of the Java type that it had, where the stored value still can have it.
pub(super) fn java(value: Value, java: Option<JavaType>) -> openwire::Value {
    use openwire::Value as Java;
    let restored = java.and_then(|java| match (java, &value) {
        (JavaType::Byte, Value::Int(value)) => i8::try_from(*value).ok().map(Java::Byte),
        (JavaType::Short, Value::Int(value)) => i16::try_from(*value).ok().map(Java::Short),
        (JavaType::Float, Value::Double(value)) => float(*value).map(Java::Float),
        (JavaType::Char, Value::Int(value)) => u16::try_from(*value).ok().map(Java::Char),
        (JavaType::Char, Value::Text(text)) => unit(text).map(Java::Char),
        (JavaType::Map | JavaType::List, Value::Binary(bytes)) => unwrapped(bytes),
        (
            JavaType::Byte
            | JavaType::Short
            | JavaType::Float
            | JavaType::Char
            | JavaType::Map
            | JavaType::List,
            Value::Null
            | Value::Boolean(_)
            | Value::Int(_)
            | Value::Long(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Binary(_),
        ) => None,
    });
    restored.unwrap_or_else(|| match value {
        Value::Null => Java::Null,
        Value::Boolean(value) => Java::Boolean(value),
        Value::Int(value) => Java::Int(value),
        Value::Long(value) => Java::Long(value),
        Value::Double(value) => Java::Double(value),
        Value::Text(text) => Java::Text(text),
        Value::Binary(bytes) => Java::Bytes(bytes),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what does not come back the same is not taken"
)]
fn float(value: f64) -> Option<f32> {
    let float = value as f32;
    (value.is_nan() || f64::from(float).to_bits() == value.to_bits()).then_some(float)
}

/// The one UTF-16 unit of a text.
fn unit(text: &str) -> Option<u16> {
    let mut units = text.encode_utf16();
    units.next().filter(|_| units.next().is_none())
}

/// What [`wrapped`] packed.
fn unwrapped(bytes: &Bytes) -> Option<openwire::Value> {
    let mut values = Map::decode(bytes).ok()?.into_iter();
    let (_, value) = values.next()?;
    let is_nested = matches!(value, openwire::Value::Map(_) | openwire::Value::List(_));
    (is_nested && values.next().is_none()).then_some(value)
}

/// Whether a text fits a field of OpenWire, where NUL takes two bytes, and a character of four bytes six.
pub(super) fn fits_field(text: &str) -> bool {
    let bytes = text.bytes();
    let more = bytes.map(|byte| match byte {
        0 => 1,
        0xF0.. => 2,
        1..0xF0 => 0,
    });
    // Nearly all texts are so short that they fit whatever they hold.
    text.len() <= FIELD_BYTES_MAX / 2 || text.len() + more.sum::<usize>() <= FIELD_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_its_modified_form() {
        let check = |unit: &str, fitting: usize| {
            assert!(fits_field(&unit.repeat(fitting)), "{unit:?}");
            assert!(!fits_field(&unit.repeat(fitting + 1)), "{unit:?}");
        };
        check("a", 65_535);
        check("é", 32_767);
        check("\0", 32_767);
        check("😀", 10_922);
    }

    #[test]
    fn a_type_that_no_longer_fits_has_no_effect() {
        use openwire::Value as Java;
        let check = |value: Value, kind, expected: Java| {
            assert_eq!(java(value, Some(kind)), expected);
        };
        check(Value::Int(300), JavaType::Byte, Java::Int(300));
        check(Value::Int(70_000), JavaType::Short, Java::Int(70_000));
        check(Value::Double(0.1), JavaType::Float, Java::Double(0.1));
        check(
            Value::Text("ab".to_owned()),
            JavaType::Char,
            Java::Text("ab".to_owned()),
        );
        check(Value::Long(1), JavaType::Byte, Java::Long(1));
        let bytes = Bytes::from_static(b"no map");
        check(
            Value::Binary(bytes.clone()),
            JavaType::Map,
            Java::Bytes(bytes),
        );
    }
}
