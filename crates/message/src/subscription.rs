//! A subscription as a command carries it: which topics, for whom, from where on; and the name under which a shard
//! keeps it.
//!
//! ```text
//! generation u64, flags u8, start u8, start value u64, owner 16 bytes
//! pattern short text, client short text, name short text, zero u8, selector text
//! ```

use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::limits::{NAME_BYTES_MAX, SELECTOR_BYTES_MAX, SHORT_TEXT_BYTES_MAX};
use crate::reader::Reader;
use crate::{DestinationName, MessagePosition, Pattern};

const SHARED: u8 = 1;
const DURABLE: u8 = 2;
const RETAINED: u8 = 4;

/// How long a subscription lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifetime {
    /// Until it is deleted: what comes while nobody receives is kept.
    Durable,
    /// As long as somebody receives.
    Live,
}

/// How many may receive at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sharing {
    /// One consumer.
    Exclusive,
    /// Several, each message going to one of them.
    Shared,
}

/// Which of the messages that were published before a subscription was made belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Start {
    /// None.
    Next,
    /// Those from this position on that their topics still keep.
    Position(MessagePosition),
    /// Those from this time on, in milliseconds since 1970, that their topics still keep.
    Time(u64),
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub pattern: Pattern,
    /// A selector, or empty.
    pub selector: String,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// How many may receive.
    pub sharing: Sharing,
    /// Who subscribed; may be empty.
    pub client: String,
    /// The subscription's name with that client.
    pub name: String,
    /// The gateway that a live subscription is for; zero for a durable one.
    pub owner: [u8; 16],
    /// Of two commands about one subscription the one with the higher generation counts.
    pub generation: u64,
    /// Whether it begins with the retained messages of its topics.
    pub wants_retained: bool,
    /// Where else it begins.
    pub start: Start,
}

/// Why a subscription cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubscriptionError {
    /// A part is too long.
    #[error("{field} of the subscription has {bytes} bytes; at most {most} are allowed")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// Its bound.
        most: usize,
    },
    /// Client id and name make too long a key.
    #[error(
        "client id and name of the subscription are too long together; use at most 200 plain characters"
    )]
    Key,
}

impl Subscription {
    /// Checks the bounds of the texts.
    ///
    /// # Errors
    /// When one is too long.
    pub fn check(&self) -> Result<(), SubscriptionError> {
        let short = SHORT_TEXT_BYTES_MAX;
        for (field, text, most) in [
            ("client id", &self.client, short),
            ("name", &self.name, short),
            ("selector", &self.selector, SELECTOR_BYTES_MAX),
        ] {
            let bytes = text.len();
            if bytes > most {
                return Err(SubscriptionError::TooLong { field, bytes, most });
            }
        }
        Ok(())
    }

    /// Whether the two stand for the same messages: if not, the later one is another subscription under the same key.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.pattern == other.pattern
            && self.selector == other.selector
            && self.lifetime == other.lifetime
            && self.sharing == other.sharing
    }

    /// Whether only some of what is published belongs to it.
    #[must_use]
    pub fn has_selector(&self) -> bool {
        !self.selector.trim().is_empty()
    }

    /// The encoding: that of the command's body.
    ///
    /// # Errors
    /// When a text is too long.
    pub fn encode(&self) -> Result<Bytes, SubscriptionError> {
        self.check()?;
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(self.generation);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        bytes.put_u8(
            flag(self.sharing == Sharing::Shared, SHARED)
                | flag(self.lifetime == Lifetime::Durable, DURABLE)
                | flag(self.wants_retained, RETAINED),
        );
        let (start, value) = match self.start {
            Start::Next => (0, 0),
            Start::Position(position) => (1, position.value()),
            Start::Time(stamp_ms) => (2, stamp_ms),
        };
        bytes.put_u8(start);
        bytes.put_u64_le(value);
        bytes.put_slice(&self.owner);
        for text in [self.pattern.as_str(), &self.client, &self.name] {
            bytes.put_u8(u8::try_from(text.len()).expect("checked"));
            bytes.put_slice(text.as_bytes());
        }
        bytes.put_u8(0);
        bytes.put_u16_le(u16::try_from(self.selector.len()).expect("checked"));
        bytes.put_slice(self.selector.as_bytes());
        Ok(bytes.freeze())
    }

    /// Reads what [`Subscription::encode`] wrote. None for any other bytes.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let generation = reader.u64()?;
        let flags = reader.u8()?;
        if flags & !(SHARED | DURABLE | RETAINED) != 0 {
            return None;
        }
        let start = reader.u8()?;
        let value = reader.u64()?;
        let start = match (start, value) {
            (0, 0) => Start::Next,
            (1, value) => Start::Position(MessagePosition::from_value(value)),
            (2, value) => Start::Time(value),
            _ => return None,
        };
        let owner = *reader.take(16)?.first_chunk()?;
        let pattern = Pattern::new(reader.short_text()?).ok()?;
        let client = reader.short_text()?.to_owned();
        let name = reader.short_text()?.to_owned();
        let zero = reader.u8()?;
        let selector = reader.text()?.to_owned();
        if zero != 0 || selector.len() > SELECTOR_BYTES_MAX || reader.position() != bytes.len() {
            return None;
        }
        Some(Self {
            pattern,
            selector,
            lifetime: match flags & DURABLE {
                0 => Lifetime::Live,
                _ => Lifetime::Durable,
            },
            sharing: match flags & SHARED {
                0 => Sharing::Exclusive,
                _ => Sharing::Shared,
            },
            client,
            name,
            owner,
            generation,
            wants_retained: flags & RETAINED != 0,
            start,
        })
    }
}

/// The name under which shards keep a subscription of this scope, client and name. Different parts never make the
/// same key.
///
/// # Errors
/// When the parts are too long together.
pub fn subscription_key(
    scope: &str,
    client: &str,
    name: &str,
) -> Result<DestinationName, SubscriptionError> {
    let mut key = String::from(scope);
    for part in [client, name] {
        key.push(':');
        for character in part.chars() {
            match character {
                '%' | ':' | ',' | '*' | '>' => {
                    write!(key, "%{:02x}", u32::from(character)).expect("text takes any");
                }
                other if other.is_control() || other.is_whitespace() => {
                    write!(key, "%u{:x}%", u32::from(other)).expect("text takes any");
                }
                other => key.push(other),
            }
        }
    }
    if key.len() > NAME_BYTES_MAX {
        return Err(SubscriptionError::Key);
    }
    DestinationName::new(&key).map_err(|_| SubscriptionError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Subscription {
        Subscription {
            pattern: Pattern::new("prices.>").expect("a pattern"),
            selector: "a > 1".to_owned(),
            lifetime: Lifetime::Durable,
            sharing: Sharing::Shared,
            client: "c".to_owned(),
            name: "n".to_owned(),
            owner: [3; 16],
            generation: 7,
            wants_retained: true,
            start: Start::Time(9),
        }
    }

    #[test]
    fn a_subscription_comes_back_and_a_cut_one_does_not() {
        let bytes = subscription().encode().expect("within the bounds");
        assert_eq!(Subscription::decode(&bytes), Some(subscription()));
        for end in 0..bytes.len() {
            assert_eq!(Subscription::decode(&bytes.slice(..end)), None, "{end}");
        }
    }

    #[test]
    fn keys_of_different_parts_differ() {
        let key = |client, name| subscription_key("durable", client, name).expect("short");
        let keys = [
            key("a:b", "c"),
            key("a", "b:c"),
            key("a b", "c"),
            key("a", " b"),
            key("a.>", "*"),
            key("", ""),
            key("a%20b", "c"),
        ];
        let unique: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
        assert!(subscription_key("durable", &"x".repeat(300), "").is_err());
    }
}
