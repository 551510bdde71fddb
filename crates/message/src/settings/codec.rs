//! The rules as bytes. One set of rules has one encoding, so that equal settings are equal bytes on every replica.
//!
//! ```text
//! format u8 = 1, version u64, rules u16, most specific first; each:
//!     pattern length u8, pattern
//!     named u32, a bit per setting in the order of their declaration
//!     the values of those that are named, in the same order
//! ```

use std::cmp::Ordering;

use super::field::put_text;
use super::{PartialSettings, Rule, Settings};
use crate::Pattern;
use crate::limits::{RULES_MAX, SETTINGS_BYTES_MAX};
use crate::reader::Reader;

const FORMAT: u8 = 1;

impl Settings {
    /// The rules as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.version.to_le_bytes());
        let count = u16::try_from(self.rules.len()).expect("bounded by `RULES_MAX`");
        bytes.extend_from_slice(&count.to_le_bytes());
        for rule in &self.rules {
            put_text(rule.pattern.as_str(), &mut bytes);
            rule.settings.encode_fields(&mut bytes);
        }
        bytes
    }

    /// Reads what [`Settings::encode`] wrote; `None` when the bytes are anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > SETTINGS_BYTES_MAX {
            return None;
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let version = reader.u64()?;
        let count = usize::from(reader.u16()?);
        if count > RULES_MAX {
            return None;
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(count);
        for _ in 0..count {
            let rule = Rule {
                pattern: Pattern::new(reader.short_text()?).ok()?,
                settings: PartialSettings::decode_fields(&mut reader)?,
            };
            let is_sorted = rules.last().is_none_or(|before| {
                before.pattern.by_specificity(&rule.pattern) == Ordering::Less
            });
            if !is_sorted || rule.check().is_err() {
                return None;
            }
            rules.push(rule);
        }
        (reader.position() == bytes.len()).then_some(Self { version, rules })
    }
}
