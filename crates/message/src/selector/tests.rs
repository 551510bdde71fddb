//! What selectors mean, as tables.

use bytes::BytesMut;

use super::{Selector, SelectorError, Truth};
use crate::{Message, MessagePosition, MessageView, Value};

/// A message with one property of each type, and what it is in.
fn message() -> Message {
    let text = |text: &str| Value::Text(text.to_owned());
    let properties = [
        ("age", Value::Int(17)),
        ("big", Value::Long(i64::MAX)),
        ("least", Value::Long(i64::MIN)),
        ("weight", Value::Double(2.5)),
        ("nan", Value::Double(f64::NAN)),
        ("color", text("blue")),
        ("quote", text("it's")),
        ("under", text("a_b%c")),
        ("digits", text("5")),
        ("yes", Value::Boolean(true)),
        ("no", Value::Boolean(false)),
        ("nothing", Value::Null),
        ("raw", Value::Binary((&b"blue"[..]).into())),
        ("order-id", text("o-1")),
        ("Gr\u{f6}\u{df}e", Value::Int(3)),
        ("$cash_1", Value::Int(4)),
        ("JMSType", text("car")),
        ("color", text("a second of this name")),
    ];
    Message {
        id: "ID:7".to_owned(),
        correlation_id: "c-1".to_owned(),
        priority: 8,
        timestamp_ms: 1_000,
        properties: properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        ..Message::with_body(&b"body"[..])
    }
}

fn truth(selector: &str, message: &Message, position: MessagePosition) -> Truth {
    let selector = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    let mut stored = BytesMut::new();
    message.encode(&mut stored).unwrap();
    selector.evaluate(position, &MessageView::new(&stored).unwrap())
}

#[track_caller]
fn check(expected: Truth, selectors: &[&str]) {
    for selector in selectors {
        let said = truth(selector, &message(), MessagePosition::new(1, 0));
        assert_eq!(said, expected, "{selector}");
    }
}

#[test]
fn what_holds() {
    check(
        Truth::True,
        &[
            "age = 17",
            "age=17L AND age = 17.0 AND age = 1.7e1 AND age = 170E-1 AND age = 17d",
            "age = 0x11 and age = 021",
            "age <> 18 AND age < 18 AND age <= 17 AND age > 16 AND age >= 17",
            "-age = -17 AND - -age = 17 AND +age = 17",
            "age + 1 = 18 AND age - 1 = 16 AND age * 2 = 34 AND age / 2 = 8 AND age % 5 = 2",
            "1 + 2 * 3 = 7 AND (1 + 2) * 3 = 9 AND 10 - 4 - 3 = 3 AND 24 / 4 / 2 = 3",
            "weight / 2 = 1.25 AND age / 2.0 = 8.5",
            "big = 9223372036854775807 AND least = -9223372036854775808",
            "color = 'blue' AND color <> 'red' AND quote = 'it''s'",
            "yes AND NOT no AND yes = TRUE AND no = false AND yes <> no",
            "(age > 1) = TRUE",
            "age BETWEEN 17 AND 20 AND age NOT BETWEEN 18 AND 20",
            "age NOT BETWEEN 10 AND 12 AND age BETWEEN weight AND big",
            "color IN ('red', 'blue') AND color NOT IN ('red', 'green')",
            "color LIKE 'b%' AND color NOT LIKE 'r%' AND under LIKE '_!_b!%_' ESCAPE '!'",
            "nothing IS NULL AND absent IS NULL AND age IS NOT NULL AND raw IS NOT NULL",
            "\"order-id\" = 'o-1' AND Gr\u{f6}\u{df}e = 3 AND $cash_1 = 4",
            "JMSPriority > 7 AND JMSTimestamp = 1000 AND JMSMessageID = 'ID:7'",
            "JMSCorrelationID LIKE 'c-%' AND JMSType = 'car' AND JMSDeliveryMode = 'PERSISTENT'",
            "JMSExpiration IS NULL AND JMSReplyTo IS NULL",
            "nan <> 1 AND NOT nan = nan",
            // AND binds more tightly than OR, NOT more loosely than comparison.
            "yes OR no AND no",
            "NOT age = 18",
            "NOT color IS NULL",
            // Unknown beside what settles it.
            "absent = 1 OR yes",
        ],
    );
}

#[test]
fn what_does_not_hold() {
    check(
        Truth::False,
        &[
            "age = 18",
            "color = 'Blue'",
            // Unlike types are neither equal nor unequal.
            "age = '17'",
            "age <> '17'",
            "digits = 5",
            "digits > 4",
            "color = yes",
            "raw = 'blue'",
            "raw <> 'blue'",
            // Texts and booleans have no order.
            "color < under",
            "yes > no",
            "color BETWEEN 1 AND 2",
            "color NOT BETWEEN 1 AND 2",
            "age LIKE '17'",
            "age IN ('17')",
            "absent = 1 AND no",
            "nan = nan",
            "Color IS NOT NULL",
        ],
    );
}

#[test]
fn what_is_unknown() {
    check(
        Truth::Unknown,
        &[
            "absent = 1",
            "absent <> 1",
            "absent = absent",
            "absent",
            "nothing = 'x'",
            "NOT absent",
            "absent BETWEEN 1 AND 2",
            "age BETWEEN absent AND 20",
            "absent IN ('x')",
            "absent NOT IN ('x')",
            "absent LIKE '%'",
            "absent NOT LIKE '%'",
            "absent = 1 AND yes",
            "absent = 1 OR no",
            // No result.
            "age / 0 = 1",
            "age % 0 = 1",
            "weight / 0 = 1",
            "big + 1 > 0",
            "least - 1 < 0",
            "-least > 0",
            "least / -1 > 0",
            "color + 1 = 1",
            "-color = 1",
            // No condition.
            "color",
            "NOT age",
            "JMSExpiration > 0",
        ],
    );
}

#[test]
fn settled_bounds_beat_an_absent_one() {
    check(
        Truth::False,
        &["age BETWEEN 18 AND absent", "age BETWEEN absent AND 3"],
    );
    check(Truth::True, &["age NOT BETWEEN 18 AND absent"]);
}

#[test]
fn the_mode_of_delivery_is_that_of_the_position() {
    let transient = MessagePosition::transient(1, 1);
    let selector = "JMSDeliveryMode = 'NON_PERSISTENT'";
    assert_eq!(truth(selector, &message(), transient), Truth::True);
}

#[test]
fn a_long_chain_is_not_deep() {
    let many = vec!["age = 18"; 500].join(" OR ");
    check(Truth::False, &[&many]);
    check(Truth::True, &[&format!("{many} OR age = 17")]);
    let sum = format!("age + {} = 1017", vec!["1"; 1_000].join(" + "));
    check(Truth::True, &[&sum]);
}

#[test]
fn a_message_that_takes_too_long_is_not_selected() {
    let text = |text: String| Value::Text(text);
    let mut long = message();
    long.properties = vec![("long".to_owned(), text("a".repeat(1 << 20)))];
    let costly = format!("long LIKE '{}b' OR TRUE", "%a".repeat(1_000));
    let said = truth(&costly, &long, MessagePosition::new(1, 0));
    assert_eq!(said, Truth::Unknown);
}

#[test]
fn bytes_that_are_no_message_are_not_selected() {
    let selector = Selector::parse("a IS NULL").unwrap();
    assert!(!selector.selects(MessagePosition::new(1, 0), &[9, 9, 9]));
}

#[test]
fn an_empty_selector_is_none() {
    assert_eq!(Selector::parse_optional(""), Ok(None));
    assert_eq!(Selector::parse_optional(" \t"), Ok(None));
    assert!(Selector::parse_optional("a").unwrap().is_some());
}

#[track_caller]
fn check_error(selector: &str, expected: &str) {
    let error = Selector::parse(selector).expect_err(selector);
    let text = error.to_string();
    let told = text.strip_prefix("selector is invalid at column ");
    assert_eq!(told.unwrap_or(&text), expected, "{selector}");
}

/// Texts that are no selectors, with the column and what the error says of it.
const REFUSED: &[(&str, &str)] = &[
    (
        "",
        "1: expected a property, a literal or '(', found the end",
    ),
    (
        "a = ",
        "5: expected a property, a literal or '(', found the end",
    ),
    (
        "a = 1 b",
        "7: expected AND, OR or the end of the selector, found \"b\"",
    ),
    (
        "a = 1 = 1",
        "7: expected AND, OR or the end of the selector, found \"=\"",
    ),
    (
        "a == 1",
        "4: expected a property, a literal or '(', found \"=\"",
    ),
    ("(a = 1", "7: expected ')', found the end"),
    ("\u{e4} = 'x", "5: expected a closing quote, found \"'\""),
    (
        "a != 1",
        "3: expected a property, a literal or an operator, found \"!\"",
    ),
    ("a = 12x", "5: expected a number, found \"12x\""),
    (
        "a = 08",
        "5: expected digits 0 to 7 behind a leading 0, which makes a number octal, found \"08\"",
    ),
    (
        "a = 0x",
        "5: expected hexadecimal digits behind 0x, found \"0x\"",
    ),
    (
        "a = 9223372036854775808",
        "5: expected an integer of at most 64 bits, found the number 9223372036854775808",
    ),
    (
        "a = 99999999999999999999",
        "5: expected an integer of at most 64 bits, found \"99999999999999999999\"",
    ),
    (
        "a = 1e999",
        "5: expected a number within the range of a double, found \"1e999\"",
    ),
    (
        "a = NULL",
        "5: nothing equals NULL; write IS NULL or IS NOT NULL",
    ),
    ("a IS 3", "6: expected NULL or NOT NULL, found the number 3"),
    ("a NOT = 3", "7: expected BETWEEN, IN or LIKE, found \"=\""),
    ("a LIKE b", "8: expected a pattern in quotes, found \"b\""),
    (
        "a LIKE 'b' ESCAPE 'xy'",
        "19: expected exactly one character in quotes, found the text \"xy\"",
    ),
    (
        "a LIKE 'b!c' ESCAPE '!'",
        "8: the escape character stands before '_', '%' or itself only",
    ),
    (
        "'a' LIKE 'b'",
        "1: expected a property before IS, IN or LIKE, found the text \"a\"",
    ),
    ("a IN ()", "7: expected a text in quotes, found \")\""),
    (
        "a IN ('x' 'y')",
        "11: expected ',' or ')', found the text \"y\"",
    ),
    (
        "a BETWEEN 1 OR 2",
        "13: expected AND and the upper bound, found OR",
    ),
    (
        "17",
        "1: expected a condition (for instance a comparison), found the number 17",
    ),
    (
        "a = 1 AND 'x'",
        "11: expected a condition (for instance a comparison), found the text \"x\"",
    ),
    (
        "NOT 'x'",
        "5: expected a condition (for instance a comparison), found the text \"x\"",
    ),
    (
        "a > 'x'",
        "5: expected a number or a property, found the text \"x\"",
    ),
    (
        "'x' + 1 = a",
        "1: expected a number or a property, found the text \"x\"",
    ),
    (
        "a + TRUE = 1",
        "5: expected a number or a property, found TRUE",
    ),
    (
        "\"\" = 1",
        "1: expected a name between the quotes, found \"\\\"\"",
    ),
    (
        "JMSRedelivered",
        "1: JMSRedelivered, JMSXDeliveryCount and JMSDestination cannot be selected on",
    ),
];

#[test]
fn an_error_names_the_column_and_what_was_expected() {
    for (selector, expected) in REFUSED {
        check_error(selector, expected);
    }
}

#[test]
fn every_bound_is_named() {
    let deep = format!("{}a{}", "(".repeat(65), ")".repeat(65));
    check_error(
        &deep,
        "66: nested too deeply; at most 64 levels are allowed",
    );
    let deep = format!("{}a", "NOT ".repeat(100));
    check_error(
        &deep,
        "261: nested too deeply; at most 64 levels are allowed",
    );
    assert!(Selector::parse(&format!("{}a{}", "(".repeat(64), ")".repeat(64))).is_ok());
    let names: Vec<String> = (0..65).map(|n| format!("n{n} = 1")).collect();
    assert!(Selector::parse(&names[..64].join(" OR ")).is_ok());
    let error = Selector::parse(&names.join(" OR ")).unwrap_err();
    assert!(matches!(error, SelectorError::Refused { .. }), "{error}");
    assert_eq!(
        Selector::parse(&" ".repeat(8_193)),
        Err(SelectorError::TooLong { bytes: 8_193 })
    );
}

#[test]
fn written_back_it_has_one_form() {
    for (selector, expected) in [
        ("((a))=(1)", "a = 1"),
        ("not(a and b)or(c)", "NOT (a AND b) OR c"),
        ("a-(b-c)*2=-3", "a - (b - c) * 2 = -3"),
        ("(a * b) / c = 1 + (2 + 3)", "a * b / c = 1 + (2 + 3)"),
        ("\"not\" in ('b','a','b')", "\"not\" IN ('a', 'b')"),
        (
            "a not like '!%''' escape '!'",
            "a NOT LIKE '!%''' ESCAPE '!'",
        ),
        (
            "(a = 1) = (b between 1 and 2)",
            "(a = 1) = (b BETWEEN 1 AND 2)",
        ),
        ("- -a > 1e3", "- - a > 1000.0"),
        ("not not a is not null", "NOT NOT a IS NOT NULL"),
    ] {
        assert_eq!(Selector::parse(selector).unwrap().to_string(), expected);
    }
}
