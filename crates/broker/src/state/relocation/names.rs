//! The names that moved, and how far each is.

use std::collections::BTreeMap;

use quorate_message::{
    Destination, DestinationKind, DestinationName, ProducerId, Relocating, root,
};

use super::super::codec::{Cursor, Sink};
use super::obstacle::Obstacle;
use crate::limits::MOVED_NAMES_MAX;

/// How far a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is to leave, and the target is asked; all is as before, but what comes from this shard's own outbox waits.
    Leaving {
        /// The entry that last changed what the target is to be told.
        as_of: u64,
    },
    /// It leaves; messages are taken in and not delivered.
    Shipping,
    /// It leaves; nothing is taken in.
    Cut,
    /// It left.
    Gone,
    /// It is to come.
    Expected {
        /// The source's entry up to which it was told.
        as_of: u64,
        /// The source has logged `Ship`: what it told is final.
        ships: bool,
    },
    /// It came, and lives here.
    Here,
    /// It was to leave, and stays.
    Stays(Obstacle),
}

impl Stage {
    /// Whether the name lives here and is to stay.
    pub(super) fn is_here(self) -> bool {
        match self {
            Self::Here | Self::Stays(_) => true,
            Self::Leaving { .. }
            | Self::Shipping
            | Self::Cut
            | Self::Gone
            | Self::Expected { .. } => false,
        }
    }
}

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) relocating: Relocating,
    pub(crate) stage: Stage,
}

impl Moved {
    /// Whether this producer's messages are taken here.
    pub(in crate::state) fn takes(&self, producer: ProducerId) -> bool {
        match self.stage {
            Stage::Leaving { .. } | Stage::Shipping => {
                producer.shard() != Some(self.relocating.from)
            }
            Stage::Cut | Stage::Gone => false,
            Stage::Expected { .. } => producer.shard() == Some(self.relocating.from),
            Stage::Here | Stage::Stays(_) => true,
        }
    }

    /// Whether messages of the name are delivered here.
    pub(crate) fn is_delivered(&self) -> bool {
        match self.stage {
            Stage::Shipping | Stage::Cut | Stage::Gone => false,
            Stage::Leaving { .. } | Stage::Expected { .. } | Stage::Here | Stage::Stays(_) => true,
        }
    }

    /// Whether non-persistent messages of the name are kept here. Not as soon as it is to leave: the target does not know its
    /// subscriptions yet, and may refuse it.
    pub(crate) fn is_remembered(&self) -> bool {
        match self.stage {
            Stage::Shipping | Stage::Cut | Stage::Gone => false,
            Stage::Leaving { .. } | Stage::Expected { .. } | Stage::Here | Stage::Stays(_) => true,
        }
    }
}

/// All names that moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relocations {
    pub(super) by_name: BTreeMap<DestinationName, Moved>,
}

impl Relocations {
    /// The move of a name, by the name itself.
    pub(crate) fn get(&self, name: &str) -> Option<&Moved> {
        if self.by_name.is_empty() {
            return None;
        }
        self.by_name.get(name)
    }

    /// The move of the name with which a destination is placed. Subscriptions have none.
    pub(crate) fn of(&self, destination: &Destination) -> Option<&Moved> {
        if self.by_name.is_empty() {
            return None;
        }
        match destination.kind {
            DestinationKind::Queue => self.by_name.get(root(&destination.name)),
            DestinationKind::Topic => self.by_name.get(destination.name.as_str()),
            DestinationKind::Subscription => None,
        }
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationName, &Moved)> {
        self.by_name.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// What the target of a destination's name is to be told has changed, by this entry.
    pub(in crate::state) fn untold(&mut self, destination: &Destination, entry: u64) {
        if self.by_name.is_empty() {
            return;
        }
        let name = match destination.kind {
            DestinationKind::Queue => root(&destination.name),
            DestinationKind::Topic => destination.name.as_str(),
            DestinationKind::Subscription => return,
        };
        if let Some(Moved {
            stage: Stage::Leaving { as_of },
            ..
        }) = self.by_name.get_mut(name)
        {
            *as_of = entry;
        }
    }

    pub(super) fn is_full_for(&self, name: &DestinationName) -> bool {
        self.by_name.len() >= MOVED_NAMES_MAX && !self.by_name.contains_key(name)
    }

    /// ```text
    /// names varint, each ascending: length u8, name, number varint, from u32, to u32, stage u8, and
    ///     of one that leaves or is to come: entry varint, of one that stays: why, as `Obstacle` has it
    /// ```
    pub(in crate::state) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.by_name.len() as u64);
        for (name, moved) in &self.by_name {
            let text = name.as_str();
            sink.u8(u8::try_from(text.len()).expect("names have at most 255 bytes"));
            sink.bytes(text.as_bytes());
            sink.varint(moved.relocating.number);
            sink.u32(moved.relocating.from);
            sink.u32(moved.relocating.to);
            encode_stage(moved.stage, sink);
            sink.spill();
        }
    }

    pub(in crate::state) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let count = cursor.varint()?;
        let mut by_name = BTreeMap::new();
        for _ in 0..count {
            let name = decode_name(cursor)?;
            let relocating = Relocating {
                number: cursor.varint()?,
                from: cursor.u32()?,
                to: cursor.u32()?,
            };
            let stage = decode_stage(cursor)?;
            let last = by_name.last_key_value();
            if last.is_some_and(|(last, _)| *last >= name) || by_name.len() >= MOVED_NAMES_MAX {
                return None;
            }
            by_name.insert(name, Moved { relocating, stage });
        }
        Some(Self { by_name })
    }
}

fn encode_stage(stage: Stage, sink: &mut Sink) {
    match stage {
        Stage::Leaving { as_of } => {
            sink.u8(1);
            sink.varint(as_of);
        }
        Stage::Shipping => sink.u8(2),
        Stage::Cut => sink.u8(3),
        Stage::Gone => sink.u8(4),
        Stage::Expected { as_of, ships } => {
            sink.u8(if ships { 8 } else { 5 });
            sink.varint(as_of);
        }
        Stage::Here => sink.u8(6),
        Stage::Stays(obstacle) => {
            sink.u8(7);
            obstacle.encode(sink);
        }
    }
}

fn decode_stage(cursor: &mut Cursor<'_>) -> Option<Stage> {
    Some(match cursor.u8()? {
        1 => Stage::Leaving {
            as_of: cursor.varint()?,
        },
        2 => Stage::Shipping,
        3 => Stage::Cut,
        4 => Stage::Gone,
        code @ (5 | 8) => Stage::Expected {
            as_of: cursor.varint()?,
            ships: code == 8,
        },
        6 => Stage::Here,
        7 => Stage::Stays(Obstacle::decode(cursor)?),
        _ => return None,
    })
}

pub(super) fn decode_name(cursor: &mut Cursor<'_>) -> Option<DestinationName> {
    let length = usize::from(cursor.u8()?);
    let name = std::str::from_utf8(cursor.take(length)?).ok()?;
    DestinationName::new(name).ok()
}
