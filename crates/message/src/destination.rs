//! Destinations: a kind and a checked name, and the slot that a name hashes to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::NAME_BYTES_MAX;

/// Slots that names hash to; the slot map names the shard of each.
pub const SLOTS: u16 = 1024;

/// What the names of topics begin with by which the cluster's own services speak to each other. Clients neither send to
/// these nor read them, and no wildcard stands for them.
const INTERNAL: &str = "quorate.internal.";

/// One of the [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// What a destination does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKind {
    /// Each message goes to one consumer.
    Queue,
    /// Each message goes to every subscriber.
    Topic,
    /// What a shard keeps of a topic for one subscription: messages are settled at it, and never sent to it.
    Subscription,
}

/// The name of a destination, checked: 1 to 255 bytes, no control character, no comma, no space at either end, no
/// element that is a wildcard. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationName(Arc<str>);

/// A destination: `queue://orders`, `topic://prices`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Queue or topic.
    pub kind: DestinationKind,
    /// Its name.
    pub name: DestinationName,
}

/// Why a text names no destination.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// Nothing was named.
    #[error("destination name is empty; give it 1 to 255 bytes")]
    Empty,
    /// The name is too long.
    #[error("destination name has {bytes} bytes; at most 255 are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that no name may hold.
    #[error("destination name holds {character:?}; control characters and commas are not allowed")]
    Character {
        /// The first such character.
        character: char,
    },
    /// A space at the beginning or end.
    #[error("destination name begins or ends with a space; remove it")]
    OuterSpace,
    /// An element that would be a wildcard.
    #[error("destination name holds the wildcard element `{element}`; name one destination")]
    Wildcard {
        /// `*` or `>`.
        element: char,
    },
    /// A kind that does not exist.
    #[error("destination kind `{kind}` is unknown; use `queue://` or `topic://`")]
    Kind {
        /// What stood before `://`.
        kind: String,
    },
}

impl DestinationName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it breaks one of the rules of the type.
    pub fn new(name: &str) -> Result<Self, DestinationError> {
        check(name).map(|()| Self(Arc::from(name)))
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a destination of this name goes when nobody uses it, as [`temporary_owner`] says.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        temporary_owner(&self.0).is_some()
    }

    /// Whether a topic of this name is the cluster's own: no wildcard stands for it, and gateways let no client near it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL)
    }
}

impl Destination {
    /// The queue of this name.
    #[must_use]
    pub fn queue(name: DestinationName) -> Self {
        Self {
            kind: DestinationKind::Queue,
            name,
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(name: DestinationName) -> Self {
        Self {
            kind: DestinationKind::Topic,
            name,
        }
    }

    /// The subscription of this key.
    #[must_use]
    pub fn subscription(key: DestinationName) -> Self {
        Self {
            kind: DestinationKind::Subscription,
            name: key,
        }
    }
}

/// The slot of a name: the hash of `{tag}` where the name holds one that is not empty, else of its root. The root is all
/// of the name, save that `Consumer.A.VirtualTopic.X` hashes as `VirtualTopic.X`, so that a virtual topic and its queues
/// share a log. Names with one tag share a slot, hence a log. The hash is FNV-1a of 64 bits, folded; it never changes.
#[must_use]
pub fn slot(name: &DestinationName) -> Slot {
    let hash = hashed(name)
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let folded = hash ^ hash >> 32 ^ hash >> 16;
    Slot(u16::try_from(folded % u64::from(SLOTS)).expect("the remainder is below 1,024"))
}

/// What of a name its slot is reckoned by: its `{tag}`, the virtual topic, or all of it.
#[must_use]
pub fn hashed(name: &DestinationName) -> &str {
    let name = name.as_str();
    name.split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty())
        .unwrap_or_else(|| virtual_topic(name).unwrap_or(name))
}

/// The name of the virtual topic, or the pattern of such, whose messages a queue of this name gets:
/// `Consumer.A.VirtualTopic.X` those of `VirtualTopic.X`.
#[must_use]
pub fn virtual_topic(queue: &str) -> Option<&str> {
    let (consumer, topic) = queue.strip_prefix("Consumer.")?.split_once('.')?;
    let rest = topic.strip_prefix("VirtualTopic.")?;
    (!consumer.is_empty() && !rest.is_empty()).then_some(topic)
}

/// The connection that a temporary destination belongs to, if the name is that of one: `ID:` and whatever makes the
/// connection's id, a colon, a number. So do clients of ActiveMQ name them.
#[must_use]
pub fn temporary_owner(name: &str) -> Option<&str> {
    let (of_id, number) = name.strip_prefix("ID:")?.rsplit_once(':')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !of_id.is_empty()).then(|| &name[..name.len() - number.len() - 1])
}

fn check(name: &str) -> Result<(), DestinationError> {
    check_text(name)?;
    match name
        .split('.')
        .find(|element| matches!(*element, "*" | ">"))
    {
        Some("*") => Err(DestinationError::Wildcard { element: '*' }),
        Some(_) => Err(DestinationError::Wildcard { element: '>' }),
        None => Ok(()),
    }
}

/// The rules of a name that hold for patterns as well.
pub(crate) fn check_text(name: &str) -> Result<(), DestinationError> {
    if name.is_empty() {
        return Err(DestinationError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(DestinationError::TooLong { bytes: name.len() });
    }
    if let Some(character) = name.chars().find(|c| c.is_control() || *c == ',') {
        return Err(DestinationError::Character { character });
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err(DestinationError::OuterSpace);
    }
    Ok(())
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let (kind, name) = text.split_once("://").unwrap_or(("queue", text));
        let name = match kind {
            "queue" | "topic" => DestinationName::new(name)?,
            _ => {
                return Err(DestinationError::Kind {
                    kind: kind.chars().take(32).collect(),
                });
            }
        };
        Ok(if kind == "queue" {
            Self::queue(name)
        } else {
            Self::topic(name)
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DestinationKind::Queue => write!(f, "queue://{}", self.name),
            DestinationKind::Topic => write!(f, "topic://{}", self.name),
            DestinationKind::Subscription => write!(f, "subscription://{}", self.name),
        }
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for DestinationName {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        Self::new(text)
    }
}

impl AsRef<str> for DestinationName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DestinationName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;
