//! Settings of destinations by name pattern: the rules of a cluster, and what they say of one name.
//!
//! Each setting of a destination is that of the most specific pattern that matches its name and names the setting; what
//! no rule names has its default. The rules have one encoding (`codec.rs`), which is what the coordinator hands out and
//! what every shard logs before it goes by them.

mod codec;
mod field;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::limits::{
    MAX_DELIVERIES_DEFAULT, MULTIPLIER_PERCENT_DEFAULT, MULTIPLIER_PERCENT_MAX, RULES_MAX,
    SETTING_MS_MAX,
};
use crate::{DestinationName, Pattern};

pub use field::{Disposal, OnFull};

/// Declares the settings once: the whole of them, and those that one rule names. The place of a setting in this list
/// is its bit in the encoding, so that the list only grows at its end.
macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr,)*) => {
        /// The settings of one destination.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct QueueSettings {
            $($(#[$doc])* pub $name: $type,)*
        }

        /// The settings that one rule names; `None`: left to less specific rules.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct PartialSettings {
            $($(#[$doc])* pub $name: Option<$type>,)*
        }

        impl Default for QueueSettings {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl QueueSettings {
            /// All settings as text, in the order of their declaration.
            #[must_use]
            pub fn texts(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), field::Field::to_text(&self.$name)),)*]
            }
        }

        impl PartialSettings {
            /// Takes from a less specific rule what this one does not name.
            fn complete(&mut self, less_specific: &Self) {
                $(if self.$name.is_none() {
                    self.$name.clone_from(&less_specific.$name);
                })*
            }

            /// Takes over what `newer` names, and keeps the rest.
            pub fn update(&mut self, newer: &Self) {
                $(if newer.$name.is_some() {
                    self.$name.clone_from(&newer.$name);
                })*
            }

            /// All settings, those that are not named with their defaults.
            fn into_whole(self) -> QueueSettings {
                QueueSettings { $($name: self.$name.unwrap_or_else(|| $default),)* }
            }

            /// The settings that are named, as text, in the order of their declaration.
            #[must_use]
            pub fn texts(&self) -> Vec<(&'static str, String)> {
                let mut texts = Vec::new();
                $(if let Some(value) = &self.$name {
                    texts.push((stringify!($name), field::Field::to_text(value)));
                })*
                texts
            }

            /// Names a setting by its name and its value as text, as [`PartialSettings::texts`] has them.
            ///
            /// # Errors
            /// When there is no such setting, or it cannot have such a value.
            pub fn set_text(&mut self, name: &str, value: &str) -> Result<(), TextError> {
                match name {
                    $(stringify!($name) => {
                        let read = field::Field::from_text(value);
                        self.$name = Some(read.ok_or_else(|| TextError::Value {
                            name: stringify!($name),
                            value: value.chars().take(TEXT_SHOWN).collect(),
                            allowed: <$type as field::Field>::ALLOWED,
                        })?);
                    })*
                    _ => return Err(TextError::Name {
                        name: name.chars().take(TEXT_SHOWN).collect(),
                        known: [$(stringify!($name)),*].join(", "),
                    }),
                }
                Ok(())
            }

            /// Names a setting no longer.
            ///
            /// # Errors
            /// When there is no such setting.
            pub fn clear(&mut self, name: &str) -> Result<(), TextError> {
                match name {
                    $(stringify!($name) => self.$name = None,)*
                    _ => return Err(TextError::Name {
                        name: name.chars().take(TEXT_SHOWN).collect(),
                        known: [$(stringify!($name)),*].join(", "),
                    }),
                }
                Ok(())
            }

            fn encode_fields(&self, bytes: &mut Vec<u8>) {
                let mut mask = 0_u32;
                let mut bit = 1_u32;
                $(if self.$name.is_some() {
                    mask |= bit;
                }
                bit <<= 1;)*
                debug_assert!(bit != 0, "the mask has room for every setting");
                bytes.extend_from_slice(&mask.to_le_bytes());
                $(if let Some(value) = &self.$name {
                    field::Field::put(value, bytes);
                })*
            }

            fn decode_fields(reader: &mut crate::reader::Reader<'_>) -> Option<Self> {
                let mut mask = reader.u32()?;
                let mut settings = Self::default();
                $(if mask & 1 == 1 {
                    settings.$name = Some(field::Field::take(reader)?);
                }
                mask >>= 1;)*
                (mask == 0).then_some(settings)
            }
        }
    };
}

settings! {
    /// Deliveries of a message that may fail; the last of them ends it, as `dead_letter_queue` says. 0: any number.
    /// The default is that of ActiveMQ: one delivery and six redeliveries.
    max_deliveries: u32 = MAX_DELIVERIES_DEFAULT,
    /// How long a message that was returned waits before it is delivered again.
    redelivery_delay_ms: u64 = 0,
    /// What each further wait is of the one before, in percent: 100 keeps it, 200 doubles it.
    redelivery_multiplier_percent: u32 = MULTIPLIER_PERCENT_DEFAULT,
    /// No wait is longer; 0: without limit.
    redelivery_delay_max_ms: u64 = 0,
    /// Where messages go that cannot be delivered. None: they are dropped.
    dead_letter_queue: Option<DestinationName> = DestinationName::new(DEAD_LETTER_QUEUE).ok(),
    /// What becomes of a message whose time is over.
    expired: Disposal = Disposal::DeadLetter,
    /// What becomes of a message that a consumer rejects.
    rejected: Disposal = Disposal::DeadLetter,
    /// Persistent messages that the destination holds at most, those in flight included; 0: without limit.
    max_messages: u64 = 0,
    /// Bytes of persistent messages that it holds at most; 0: without limit.
    max_bytes: u64 = 0,
    /// What becomes of a message for which there is no room.
    on_full: OnFull = OnFull::Refuse,
    /// A consumer that has not settled a message for so long is taken to have failed with it; 0: never.
    ack_timeout_ms: u64 = 0,
    /// Whether one consumer at a time gets messages.
    exclusive: bool = false,
    /// How long settled messages are kept for replay; 0: not at all.
    retain_ms: u64 = 0,
    /// Whether the first message makes the destination.
    auto_create: bool = true,
}

/// Where undeliverable messages go if no rule says otherwise: ActiveMQ's name for it.
pub const DEAD_LETTER_QUEUE: &str = "ActiveMQ.DLQ";

/// Characters of a wrong text that an error repeats.
const TEXT_SHOWN: usize = 60;

/// Why a text names no setting.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// There is none of this name.
    #[error("there is no setting `{name}`; there are {known}")]
    Name {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It cannot have this value.
    #[error("`{name}` cannot be `{value}`; it is {allowed}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value.
        value: String,
        /// What it can be.
        allowed: &'static str,
    },
}

/// One rule: what is named for the destinations of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The names that it is for.
    pub pattern: Pattern,
    /// What it names.
    pub settings: PartialSettings,
}

/// The rules of a cluster, most specific pattern first, each pattern once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    version: u64,
    rules: Vec<Rule>,
}

/// Why a rule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// There are too many.
    #[error(
        "there are {RULES_MAX} patterns with settings, the most that can be; remove one, or use a wider pattern"
    )]
    TooMany,
    /// It names nothing.
    #[error("the rule for `{pattern}` names no setting; name one, or remove the rule")]
    Empty {
        /// Its pattern.
        pattern: Pattern,
    },
    /// A value is out of range.
    #[error("`{setting}` of `{pattern}` is {value}; it must be {allowed}")]
    Range {
        /// The pattern of the rule.
        pattern: Pattern,
        /// The setting.
        setting: &'static str,
        /// What it was to be.
        value: u64,
        /// What it may be.
        allowed: String,
    },
}

impl Settings {
    /// No rule: every destination has the defaults. Version 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These rules, in any order, under this version.
    ///
    /// # Errors
    /// When one cannot be, or there are too many.
    pub fn with_rules(
        version: u64,
        rules: impl IntoIterator<Item = Rule>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::new();
        for rule in rules {
            settings.set(rule)?;
        }
        Ok(settings.under_version(version))
    }

    /// The same rules under another version.
    #[must_use]
    pub fn under_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Rises with each change of the rules; of two the one with the higher version is the newer.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The rules, most specific first.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Makes or replaces the rule of a pattern; the version rises.
    ///
    /// # Errors
    /// When the rule cannot be; nothing is changed then.
    pub fn set(&mut self, rule: Rule) -> Result<(), SettingsError> {
        rule.check()?;
        match self.find(&rule.pattern) {
            Ok(place) => self.rules[place] = rule,
            Err(_) if self.rules.len() >= RULES_MAX => return Err(SettingsError::TooMany),
            Err(place) => self.rules.insert(place, rule),
        }
        self.version += 1;
        Ok(())
    }

    /// Removes the rule of a pattern; false when there is none. The version rises if there was.
    pub fn remove(&mut self, pattern: &Pattern) -> bool {
        let Ok(place) = self.find(pattern) else {
            return false;
        };
        self.rules.remove(place);
        self.version += 1;
        true
    }

    /// The rule of a pattern.
    #[must_use]
    pub fn rule(&self, pattern: &Pattern) -> Option<&Rule> {
        self.find(pattern).ok().map(|place| &self.rules[place])
    }

    /// What is said of a destination. One that is its own dead-letter queue is
    /// [without](QueueSettings::without_dead_letters).
    #[must_use]
    pub fn of(&self, name: &DestinationName) -> QueueSettings {
        let merged = self.merged(&self.matching(name));
        if merged.dead_letter_queue.as_ref() == Some(name) {
            merged.without_dead_letters()
        } else {
            merged
        }
    }

    /// What is said of all destinations of a pattern together: by the rules that match each of them.
    #[must_use]
    pub fn of_pattern(&self, pattern: &Pattern) -> QueueSettings {
        let mut merged = PartialSettings::default();
        for rule in self.rules.iter().filter(|r| r.pattern.covers(pattern)) {
            merged.complete(&rule.settings);
        }
        merged.into_whole()
    }

    /// The places of the rules that match a name, most specific first.
    #[must_use]
    pub fn matching(&self, name: &DestinationName) -> Vec<u16> {
        let places = (0_u16..).zip(&self.rules);
        places
            .filter(|(_, rule)| rule.pattern.matches(name))
            .map(|(place, _)| place)
            .collect()
    }

    /// The settings that the rules of these places make together.
    ///
    /// # Panics
    /// When a place is not one of [`Settings::matching`].
    #[must_use]
    pub fn merged(&self, places: &[u16]) -> QueueSettings {
        let mut merged = PartialSettings::default();
        for place in places {
            merged.complete(&self.rules[usize::from(*place)].settings);
        }
        merged.into_whole()
    }

    fn find(&self, pattern: &Pattern) -> Result<usize, usize> {
        self.rules
            .binary_search_by(|rule| rule.pattern.by_specificity(pattern))
    }
}

impl Rule {
    /// Checks what the rule names.
    ///
    /// # Errors
    /// When it names nothing, or a value that cannot be.
    pub fn check(&self) -> Result<(), SettingsError> {
        let settings = &self.settings;
        if *settings == PartialSettings::default() {
            let pattern = self.pattern.clone();
            return Err(SettingsError::Empty { pattern });
        }
        let multiplier = settings.redelivery_multiplier_percent;
        let percents = u64::from(MULTIPLIER_PERCENT_DEFAULT)..=u64::from(MULTIPLIER_PERCENT_MAX);
        self.range(
            "redelivery_multiplier_percent",
            multiplier.map(u64::from),
            percents,
        )?;
        for (setting, value) in [
            ("redelivery_delay_ms", settings.redelivery_delay_ms),
            ("redelivery_delay_max_ms", settings.redelivery_delay_max_ms),
            ("ack_timeout_ms", settings.ack_timeout_ms),
            ("retain_ms", settings.retain_ms),
        ] {
            self.range(setting, value, 0..=SETTING_MS_MAX)?;
        }
        Ok(())
    }

    fn range(
        &self,
        setting: &'static str,
        value: Option<u64>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<(), SettingsError> {
        match value.filter(|value| !range.contains(value)) {
            None => Ok(()),
            Some(value) => Err(SettingsError::Range {
                pattern: self.pattern.clone(),
                setting,
                value,
                allowed: format!("{} to {}", range.start(), range.end()),
            }),
        }
    }
}

impl QueueSettings {
    /// The settings of a dead-letter queue itself: it ends no message, since there is nowhere left to put one.
    #[must_use]
    pub fn without_dead_letters(mut self) -> Self {
        self.dead_letter_queue = None;
        self.max_deliveries = 0;
        self
    }

    /// How long a message waits that was returned this often, at least once. The wait grows by the multiplier with
    /// each return, up to the longest; it never overflows.
    #[must_use]
    pub fn redelivery_wait_ms(&self, returns: u32) -> u64 {
        let longest = match self.redelivery_delay_max_ms {
            0 => SETTING_MS_MAX,
            longest => longest,
        };
        let mut wait = self.redelivery_delay_ms.min(longest);
        if wait == 0 || self.redelivery_multiplier_percent <= 100 {
            return wait;
        }
        for _ in 1..returns {
            // Below 2^41 times 2^14: no overflow. Ends early, whatever the number of returns: a wait of 100 ms or more
            // grows with each round, a shorter one may stand still and then stays as it is.
            let next = (wait * u64::from(self.redelivery_multiplier_percent) / 100).min(longest);
            if next == wait {
                break;
            }
            wait = next;
        }
        wait
    }

    /// Whether anything is limited.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        self.max_messages > 0 || self.max_bytes > 0
    }

    /// Whether a destination that holds so much has no room for one message more of this size. A message that is
    /// larger than the limit finds room in an empty destination, so that nothing waits forever.
    #[must_use]
    pub fn is_full(&self, messages: u64, bytes: u64, next_bytes: u64) -> bool {
        let no_message = self.max_messages > 0 && messages >= self.max_messages;
        let no_bytes =
            self.max_bytes > 0 && messages > 0 && bytes.saturating_add(next_bytes) > self.max_bytes;
        no_message || no_bytes
    }
}
