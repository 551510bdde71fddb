//! Unit tests of values: their bytes, and their bounds.

use super::*;

/// A map of one entry `n` comes and goes as these bytes behind the name.
fn check(value: Value, bytes: &[u8]) {
    let whole: Bytes = [b"\0\0\0\x01\0\x01n", bytes].concat().into();
    let map = Map::from_iter([("n".to_owned(), value)]);
    assert_eq!(map.encode().as_ref(), Ok(&whole), "{map:?}");
    assert_eq!(Map::decode(&whole), Ok(map));
}

fn refuse(bytes: &[u8], error: ValueError) {
    assert_eq!(Map::decode(&Bytes::copy_from_slice(bytes)), Err(error));
}

#[test]
fn each_kind_of_value_has_its_bytes() {
    check(Value::Null, b"\0");
    check(Value::Boolean(true), b"\x01\x01");
    check(Value::Byte(-1), b"\x02\xFF");
    check(Value::Char(0x20AC), b"\x03\x20\xAC");
    check(Value::Short(-2), b"\x04\xFF\xFE");
    check(Value::Int(7), b"\x05\0\0\0\x07");
    check(Value::Long(-1), b"\x06\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    check(Value::Double(1.5), b"\x07\x3F\xF8\0\0\0\0\0\0");
    check(Value::Float(-0.5), b"\x08\xBF\0\0\0");
    check(Value::Text("a\0".to_owned()), b"\x09\0\x03a\xC0\x80");
    check(Value::Bytes(Bytes::from_static(b"xy")), b"\x0A\0\0\0\x02xy");
    check(Value::Map(Map::new()), b"\x0B\0\0\0\0");
    check(
        Value::List(vec![Value::Null, Value::List(Vec::new())]),
        b"\x0C\0\0\0\x02\0\x0C\0\0\0\0",
    );
}

/// The client counts UTF-16 units, not bytes, to choose between the two lengths.
#[test]
fn long_texts_have_a_longer_length() {
    let short = "\u{20AC}".repeat(LONG_TEXT_UNITS - 1);
    check(
        Value::Text(short.clone()),
        &[&b"\x09\x5F\xFA"[..], short.as_bytes()].concat(),
    );
    let long = "x".repeat(LONG_TEXT_UNITS);
    check(
        Value::Text(long.clone()),
        &[&b"\x0D\0\0\x1F\xFF"[..], long.as_bytes()].concat(),
    );
}

#[test]
fn null_counts_as_empty() {
    let null = Bytes::from_static(b"\xFF\xFF\xFF\xFF");
    assert_eq!(Map::decode(&null), Ok(Map::new()));
    let inner = Bytes::from_static(b"\0\0\0\x01\0\x01n\x0C\xFF\xFF\xFF\xFF");
    let map = Map::decode(&inner).unwrap();
    assert_eq!(map.get("n"), Some(&Value::List(Vec::new())));
}

#[test]
fn the_last_of_a_name_counts() {
    let entries = [("a", 1), ("b", 2), ("a", 3)];
    let entries = entries.map(|(name, number)| (name.to_owned(), Value::Int(number)));
    let map = Map::from_iter(entries);
    assert_eq!(map.get("a"), Some(&Value::Int(3)));
    assert_eq!(map.get("c"), None);
    let names: Vec<&str> = map.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "a"]);
}

#[test]
fn what_is_wrong_is_named() {
    refuse(b"", Truncated { wanted: 4, left: 0 }.into());
    refuse(b"\0\0\0\0x", ValueError::Trailing(1));
    refuse(b"\0\0\0\x01\0\0\x0E", ValueError::UnknownTag(14));
    refuse(b"\xFF\xFF\xFF\xFE", ValueError::NegativeLength(-2));
    refuse(
        b"\0\0\0\x01\0\0\x0A\x80\0\0\0",
        ValueError::NegativeLength(i32::MIN),
    );
    refuse(b"\0\0\0\x01\0\x01\x80\0", MalformedText { at: 0 }.into());
    // A count that nothing stands behind takes no memory.
    refuse(b"\x7F\xFF\xFF\xFF", Truncated { wanted: 2, left: 0 }.into());
}

#[test]
fn values_are_nested_so_deep_and_no_deeper() {
    let nested = |depth: usize| {
        let mut bytes = b"\0\0\0\x01\0\0".to_vec();
        bytes.extend(b"\x0C\0\0\0\x01".repeat(depth));
        bytes.push(0);
        Map::decode(&bytes.into()).map(|map| map.len())
    };
    assert_eq!(nested(VALUE_NESTING_MAX.into()), Ok(1));
    assert_eq!(
        nested(usize::from(VALUE_NESTING_MAX) + 1),
        Err(ValueError::TooDeep)
    );
}

#[test]
fn values_are_so_many_and_no_more() {
    let nulls = |count: u32| {
        let bytes = vec![0; count.try_into().unwrap()];
        decode_sequence(&bytes.into()).map(|values| values.len().try_into())
    };
    assert_eq!(nulls(VALUES_MAX), Ok(Ok(VALUES_MAX)));
    assert_eq!(nulls(VALUES_MAX + 1), Err(ValueError::TooMany));
}
