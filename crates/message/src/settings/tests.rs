//! What the rules say of a name, and their bytes.

use super::*;
use crate::limits::SETTINGS_BYTES_MAX;

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("a pattern")
}

fn name(text: &str) -> DestinationName {
    DestinationName::new(text).expect("a name")
}

fn rule(text: &str, change: impl FnOnce(&mut PartialSettings)) -> Rule {
    let mut settings = PartialSettings::default();
    change(&mut settings);
    Rule {
        pattern: pattern(text),
        settings,
    }
}

fn some() -> Settings {
    let mut settings = Settings::new();
    for rule in [
        rule(">", |s| {
            s.max_messages = Some(1000);
            s.dead_letter_queue = Some(None);
        }),
        rule("orders.>", |s| {
            s.max_messages = Some(10);
            s.on_full = Some(OnFull::Block);
            s.dead_letter_queue = Some(Some(name("orders.dead")));
        }),
        rule("orders.eu", |s| {
            s.max_messages = Some(0);
            s.exclusive = Some(true);
        }),
    ] {
        settings.set(rule).expect("a rule");
    }
    settings
}

#[test]
fn each_setting_is_that_of_the_most_specific_pattern_that_names_it() {
    let settings = some();
    let eu = settings.of(&name("orders.eu"));
    assert_eq!((eu.max_messages, eu.on_full), (0, OnFull::Block));
    assert!(eu.exclusive);
    let us = settings.of(&name("orders.us"));
    assert_eq!((us.max_messages, us.exclusive), (10, false));
    assert_eq!(us.dead_letter_queue, Some(name("orders.dead")));
    let other = settings.of(&name("stock"));
    assert_eq!((other.max_messages, other.dead_letter_queue), (1000, None));
    assert_eq!(Settings::new().of(&name("a")), QueueSettings::default());
}

#[test]
fn a_dead_letter_queue_has_none_of_its_own() {
    let own = Settings::new().of(&name(DEAD_LETTER_QUEUE));
    assert_eq!((own.dead_letter_queue, own.max_deliveries), (None, 0));
}

#[test]
fn a_change_makes_a_new_version() {
    let mut settings = some();
    assert_eq!(settings.version(), 3);
    assert!(!settings.remove(&pattern("nobody")));
    assert_eq!(settings.version(), 3);
    assert!(settings.remove(&pattern("orders.eu")));
    assert_eq!(settings.version(), 4);
    assert_eq!(settings.of(&name("orders.eu")).max_messages, 10);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut settings = some();
    let before = settings.clone();
    let empty = settings.set(rule("a", |_| {})).expect_err("names nothing");
    assert!(empty.to_string().contains("`a`"), "{empty}");
    let wide = rule("a.>", |s| s.redelivery_multiplier_percent = Some(7));
    let error = settings.set(wide).expect_err("shrinks");
    assert_eq!(
        error.to_string(),
        "`redelivery_multiplier_percent` of `a.>` is 7; it must be 100 to 10000"
    );
    assert_eq!(settings, before);
    for number in 3..RULES_MAX {
        let one = rule(&format!("q{number}"), |s| s.exclusive = Some(true));
        settings.set(one).expect("room");
    }
    let more = rule("one.more", |s| s.exclusive = Some(true));
    assert_eq!(settings.set(more), Err(SettingsError::TooMany));
    assert!(settings.encode().len() <= SETTINGS_BYTES_MAX);
}

#[test]
fn rules_come_back_from_their_bytes_and_nothing_else_does() {
    let bytes = some().encode();
    assert_eq!(Settings::decode(&bytes), Some(some()));
    for end in 0..bytes.len() {
        assert_eq!(Settings::decode(&bytes[..end]), None, "cut at {end}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Settings::decode(&longer), None);
    // Whatever is changed, what is read has exactly these bytes again.
    for place in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] ^= change;
            if let Some(read) = Settings::decode(&changed) {
                assert_eq!(read.encode(), changed, "byte {place}");
            }
        }
    }
}

#[test]
fn waits_grow_up_to_the_longest() {
    let settings = QueueSettings {
        redelivery_delay_ms: 100,
        redelivery_multiplier_percent: 300,
        redelivery_delay_max_ms: 1000,
        ..QueueSettings::default()
    };
    let waits: Vec<u64> = (1..5).map(|n| settings.redelivery_wait_ms(n)).collect();
    assert_eq!(waits, [100, 300, 900, 1000]);
    let endless = QueueSettings {
        redelivery_delay_max_ms: 0,
        ..settings
    };
    assert_eq!(endless.redelivery_wait_ms(u32::MAX), SETTING_MS_MAX);
    assert_eq!(QueueSettings::default().redelivery_wait_ms(9), 0);
}

#[test]
fn a_message_larger_than_the_limit_finds_room_in_an_empty_destination() {
    let settings = QueueSettings {
        max_messages: 2,
        max_bytes: 100,
        ..QueueSettings::default()
    };
    assert!(!settings.is_full(0, 0, 500));
    assert!(settings.is_full(1, 50, 51));
    assert!(!settings.is_full(1, 50, 50));
    assert!(settings.is_full(2, 2, 1));
    assert!(!QueueSettings::default().is_full(u64::MAX, u64::MAX, u64::MAX));
}

#[test]
fn settings_come_back_from_their_text() {
    let texts = [
        ("max_deliveries", "3"),
        ("dead_letter_queue", ""),
        ("expired", "drop"),
        ("max_bytes", "1000000"),
        ("on_full", "drop-head"),
        ("exclusive", "true"),
    ];
    let mut settings = PartialSettings::default();
    for (name, value) in texts {
        settings.set_text(name, value).expect("a setting");
    }
    let shown = settings.texts();
    let shown: Vec<(&str, &str)> = shown.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(shown, texts);
    settings.set_text("max_bytes", "1_000").expect("readable");
    assert_eq!(settings.max_bytes, Some(1000));
    settings.clear("max_bytes").expect("a setting");
    assert_eq!(settings.max_bytes, None);
    for (name, value, error) in [
        (
            "on_full",
            "explode",
            "`on_full` cannot be `explode`; it is `refuse`, `block`, `drop-head` or `dead-letter`",
        ),
        (
            "max_bytes",
            "-1",
            "`max_bytes` cannot be `-1`; it is a whole number below 2^64",
        ),
        (
            "dead_letter_queue",
            "a.>",
            "`dead_letter_queue` cannot be `a.>`; it is the name of a queue, or empty for none",
        ),
    ] {
        let refused = settings.set_text(name, value).expect_err("refused");
        assert_eq!(refused.to_string(), error);
    }
    let unknown = settings.set_text("colour", "red").expect_err("unknown");
    assert!(
        unknown
            .to_string()
            .contains("max_deliveries, redelivery_delay_ms")
    );
}
