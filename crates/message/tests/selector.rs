//! Laws of selectors: no text makes the reader panic, what is written back means the same, and three-valued logic is
//! itself.

use bytes::BytesMut;
use proptest::prelude::*;
use quorate_message::selector::{Selector, Truth};
use quorate_message::{Message, MessagePosition, MessageView, Value};

/// Names that messages have, and one that none has.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "absent", "JMSPriority", "\"x y\""])
        .prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = String> {
    let operand = prop_oneof![
        name(),
        (0_i64..5).prop_map(|number| number.to_string()),
        (0_i64..5).prop_map(|number| format!("-{number}")),
        (0_u8..8).prop_map(|halves| format!("{:?}", f64::from(halves) / 2.0)),
        Just("9223372036854775807".to_owned()),
    ];
    operand.prop_recursive(3, 8, 2, |inner| {
        let sign = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (inner.clone(), sign, inner.clone())
                .prop_map(|(left, sign, right)| format!("({left}) {sign} {right}")),
            inner.clone().prop_map(|inner| format!("- {inner}")),
            inner.prop_map(|inner| format!("({inner})")),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    "[xy'_%]{0,3}".prop_map(|text| format!("'{}'", text.replace('\'', "''")))
}

fn condition() -> impl Strategy<Value = String> {
    let not = || prop::sample::select(vec!["", "NOT "]);
    let comparison = || prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (number(), comparison(), number()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (name(), prop::sample::select(vec!["=", "<>"]), text())
            .prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (number(), not(), number(), number())
            .prop_map(|(a, not, b, c)| format!("{a} {not}BETWEEN {b} AND {c}")),
        (name(), not(), prop::collection::vec(text(), 1..4))
            .prop_map(|(a, not, list)| format!("{a} {not}IN ({})", list.join(","))),
        (name(), not(), text()).prop_map(|(a, not, b)| format!("{a} {not}LIKE {b}")),
        (name(), not()).prop_map(|(a, not)| format!("{a} IS {not}NULL")),
        name(),
        Just("TRUE".to_owned()),
        Just("false".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} OR ({b})")),
            inner.clone().prop_map(|a| format!("NOT ({a})")),
            inner.clone().prop_map(|a| format!("not {a}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) = ({b})")),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        (-3_i32..5).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        prop_oneof![any::<f64>(), Just(2.0), Just(f64::NAN)].prop_map(Value::Double),
        "[xy'_%]{0,3}".prop_map(Value::Text),
        Just(Value::Binary((&b"x"[..]).into())),
    ]
}

fn stored() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec!["a", "b", "c", "d", "x y", "other"]);
    let property = (names.prop_map(str::to_owned), value());
    (prop::collection::vec(property, 0..6), 0_u8..10).prop_map(|(properties, priority)| {
        let message = Message {
            priority,
            properties,
            ..Message::default()
        };
        let mut stored = BytesMut::new();
        message.encode(&mut stored).expect("small");
        stored.to_vec()
    })
}

fn truth(selector: &str, stored: &[u8]) -> Truth {
    let selector = Selector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    let view = MessageView::new(stored).expect("encoded here");
    selector.evaluate(MessagePosition::new(1, 0), &view)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
        if let Err(error) = Selector::parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_mixture_of_words_makes_the_reader_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "a", "NOT", "AND", "OR", "BETWEEN", "LIKE", "IN", "IS", "ESCAPE", "NULL", "TRUE", "(", ")", ",", "'x'",
            "'%'", "1", "-", "+", "*", "0x", "1e3", "9223372036854775808", "=", "<>", "<", "\"q\"", "'", ".5", "0",
        ]), 0..12)
    ) {
        if let Ok(selector) = Selector::parse(&words.join(" ")) {
            let mut stored = BytesMut::new();
            Message::default().encode(&mut stored).expect("small");
            std::hint::black_box(selector.selects(MessagePosition::new(1, 0), &stored));
        }
    }

    #[test]
    fn no_bytes_make_the_evaluation_panic(
        text in condition(),
        bytes in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let selector = Selector::parse(&text).expect("made by the grammar");
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        std::hint::black_box(selector.selects(MessagePosition::new(1, 0), &bytes));
    }

    #[test]
    fn written_back_it_is_read_as_the_same(text in condition(), stored in stored()) {
        let written = Selector::parse(&text).expect("made by the grammar").to_string();
        let again = Selector::parse(&written).map_err(|error| {
            TestCaseError::fail(format!("{text} was written as {written}: {error}"))
        })?;
        prop_assert_eq!(&again.to_string(), &written);
        prop_assert_eq!(truth(&text, &stored), truth(&written, &stored), "{} and {}", text, written);
    }

    #[test]
    fn logic_has_three_values(a in condition(), b in condition(), stored in stored()) {
        let of = |text: String| truth(&text, &stored);
        let (left, right) = (of(a.clone()), of(b.clone()));
        prop_assert_eq!(of(format!("({a}) AND ({b})")), left.min(right));
        prop_assert_eq!(of(format!("({a}) OR ({b})")), left.max(right));
        prop_assert_eq!(of(format!("NOT NOT ({a})")), left);
        prop_assert_eq!(
            of(format!("NOT (({a}) AND ({b}))")),
            of(format!("NOT ({a}) OR NOT ({b})"))
        );
        // There is a third: neither need hold, but never do both.
        prop_assert_ne!(of(format!("({a}) AND NOT ({a})")), Truth::True);
        prop_assert_ne!(of(format!("({a}) OR NOT ({a})")), Truth::False);
    }

    #[test]
    fn words_are_short_for_comparisons(n in name(), x in text(), y in text(), stored in stored()) {
        let of = |text: String| truth(&text, &stored);
        prop_assert_eq!(of(format!("{n} IN ({x}, {y})")), of(format!("{n} = {x} OR {n} = {y}")));
        prop_assert_eq!(
            of(format!("{n} NOT IN ({x}, {y})")),
            of(format!("NOT ({n} = {x} OR {n} = {y})"))
        );
        prop_assert_eq!(
            of(format!("{n} BETWEEN 1 AND 3")),
            of(format!("{n} >= 1 AND {n} <= 3"))
        );
        prop_assert_eq!(
            of(format!("{n} NOT BETWEEN 1 AND 3")),
            of(format!("{n} < 1 OR {n} > 3"))
        );
    }
}
