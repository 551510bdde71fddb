//! The values of settings, as bytes and as text.

use crate::DestinationName;
use crate::reader::Reader;

/// What becomes of a message that is not to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Disposal {
    /// It goes to the dead-letter queue.
    DeadLetter,
    /// It is removed.
    Drop,
}

/// What becomes of a message for which its destination has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnFull {
    /// It is refused: the producer gets an error.
    Refuse,
    /// Its producer is held back until there is room, up to its deadline.
    Block,
    /// The oldest message that is not in a consumer's hands makes room and is lost.
    DropHead,
    /// It goes to the dead-letter queue.
    DeadLetter,
}

/// A value that can be written and read back.
pub(super) trait Field: Sized {
    fn put(&self, bytes: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Option<Self>;

    /// What a text may be, for an error.
    const ALLOWED: &'static str;
    fn to_text(&self) -> String;
    fn from_text(text: &str) -> Option<Self>;
}

/// A number as people write it, `1_000_000` included.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit());
    is_plain.then(|| text.replace('_', "").parse().ok())?
}

impl Field for u32 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u32()
    }

    const ALLOWED: &'static str = "a whole number below 2^32";

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        number(text)
    }
}

impl Field for u64 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u64()
    }

    const ALLOWED: &'static str = "a whole number below 2^64";

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        number(text)
    }
}

impl Field for bool {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    const ALLOWED: &'static str = "`true` or `false`";

    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Field for Option<DestinationName> {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_text(self.as_ref().map_or("", DestinationName::as_str), bytes);
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.short_text()? {
            "" => Some(None),
            name => DestinationName::new(name).ok().map(Some),
        }
    }

    const ALLOWED: &'static str = "the name of a queue, or empty for none";

    fn to_text(&self) -> String {
        self.as_ref().map_or("", DestinationName::as_str).to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "" => Some(None),
            name => DestinationName::new(name).ok().map(Some),
        }
    }
}

impl Field for Disposal {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self {
            Self::DeadLetter => 1,
            Self::Drop => 2,
        });
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.u8()? {
            1 => Some(Self::DeadLetter),
            2 => Some(Self::Drop),
            _ => None,
        }
    }

    const ALLOWED: &'static str = "`dead-letter` or `drop`";

    fn to_text(&self) -> String {
        let text = match self {
            Self::DeadLetter => "dead-letter",
            Self::Drop => "drop",
        };
        text.to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "dead-letter" => Some(Self::DeadLetter),
            "drop" => Some(Self::Drop),
            _ => None,
        }
    }
}

impl Field for OnFull {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(match self {
            Self::Refuse => 1,
            Self::Block => 2,
            Self::DropHead => 3,
            Self::DeadLetter => 4,
        });
    }

    fn take(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.u8()? {
            1 => Some(Self::Refuse),
            2 => Some(Self::Block),
            3 => Some(Self::DropHead),
            4 => Some(Self::DeadLetter),
            _ => None,
        }
    }

    const ALLOWED: &'static str = "`refuse`, `block`, `drop-head` or `dead-letter`";

    fn to_text(&self) -> String {
        let text = match self {
            Self::Refuse => "refuse",
            Self::Block => "block",
            Self::DropHead => "drop-head",
            Self::DeadLetter => "dead-letter",
        };
        text.to_owned()
    }

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "refuse" => Some(Self::Refuse),
            "block" => Some(Self::Block),
            "drop-head" => Some(Self::DropHead),
            "dead-letter" => Some(Self::DeadLetter),
            _ => None,
        }
    }
}

/// A text of at most 255 bytes behind its length.
pub(super) fn put_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(u8::try_from(text.len()).expect("names and patterns have at most 255 bytes"));
    bytes.extend_from_slice(text.as_bytes());
}
