//! Where destinations live that do not live where the slot map says, and those that are being moved.
//!
//! An override is for an exact name: the queue and the topic of that name, and the queues of the virtual topic of that
//! name. One set of overrides has one encoding.
//!
//! ```text
//! format u8 = 1, version u64, overrides u16, by name; each:
//!     name length u8, name, shard u32, flag u8, and if 1: from u32, number u64
//! refused moves u16, by name; each: name length u8, name, shard u32, number u64, reason length u8, reason
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use thiserror::Error;

use crate::limits::{NAME_BYTES_MAX, OVERRIDES_BYTES_MAX, OVERRIDES_MAX, REFUSED_MOVES_MAX};
use crate::reader::Reader;
use crate::{DestinationName, virtual_topic};

const FORMAT: u8 = 1;

/// The overrides of a cluster. The version rises with every change.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Overrides {
    version: u64,
    places: BTreeMap<DestinationName, Place>,
    refused: BTreeMap<DestinationName, RefusedMove>,
}

/// The newest move of a name, if it was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusedMove {
    /// The shard that the name was to go to.
    pub to: u32,
    /// Names the move.
    pub number: u64,
    /// Why it stays, for people; bounded by [`NAME_BYTES_MAX`].
    pub reason: String,
}

/// Where one name lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The shard; of a name that is being moved, the one that it goes to.
    pub shard: u32,
    /// It is being moved there.
    pub moving: Option<Moving>,
}

/// A move that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moving {
    /// The shard that it leaves.
    pub from: u32,
    /// Names the move: of two moves the later one has the higher number.
    pub number: u64,
}

/// Why a name is not moved.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverrideError {
    /// It is one of a virtual topic's queues.
    #[error("`{name}` lives with the virtual topic `{topic}`; move that")]
    OfVirtualTopic {
        /// The queue.
        name: DestinationName,
        /// The topic.
        topic: String,
    },
    /// It is under way already.
    #[error("`{name}` is being moved to shard {shard}; wait until it is there")]
    UnderWay {
        /// The name.
        name: DestinationName,
        /// Where it goes.
        shard: u32,
    },
    /// It is there.
    #[error("`{name}` lives in shard {shard}")]
    Present {
        /// The name.
        name: DestinationName,
        /// Where it is.
        shard: u32,
    },
    /// Too many.
    #[error(
        "the cluster has {OVERRIDES_MAX} overrides, the most that it can have; move some back to where the slot map \
         has them"
    )]
    TooMany,
}

impl Overrides {
    /// None, of version 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rises with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&DestinationName, &Place)> {
        self.places.iter()
    }

    /// The newest moves that were refused, by name.
    pub fn refused(&self) -> impl Iterator<Item = (&DestinationName, &RefusedMove)> {
        self.refused.iter()
    }

    /// The newest move of a name, if it was refused.
    #[must_use]
    pub fn refusal(&self, name: &DestinationName) -> Option<&RefusedMove> {
        self.refused.get(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The override that holds for a destination of this name; none: it lives where the slot map says.
    #[must_use]
    pub fn place(&self, name: &DestinationName) -> Option<&Place> {
        if self.places.is_empty() {
            return None;
        }
        self.places.get(root(name))
    }

    /// The overrides when the move of a name begins. `home` is the shard of its slot.
    ///
    /// # Errors
    /// When it is there, under way, one of a virtual topic's queues, or one too many.
    pub fn begin(&self, name: &DestinationName, home: u32, to: u32) -> Result<Self, OverrideError> {
        if let Some(topic) = virtual_topic(name.as_str()) {
            return Err(OverrideError::OfVirtualTopic {
                name: name.clone(),
                topic: topic.to_owned(),
            });
        }
        let known = self.places.get(name);
        if let Some(place) = known.filter(|place| place.moving.is_some()) {
            return Err(OverrideError::UnderWay {
                name: name.clone(),
                shard: place.shard,
            });
        }
        let from = known.map_or(home, |place| place.shard);
        if from == to {
            return Err(OverrideError::Present {
                name: name.clone(),
                shard: to,
            });
        }
        if known.is_none() && self.places.len() >= OVERRIDES_MAX {
            return Err(OverrideError::TooMany);
        }
        let mut next = self.clone();
        next.version += 1;
        let number = next.version;
        next.refused.remove(name);
        let moving = Some(Moving { from, number });
        next.places
            .insert(name.clone(), Place { shard: to, moving });
        Ok(next)
    }

    /// The overrides when a move came to its end, or was refused for a reason. `home` is the shard of the name's slot.
    /// None: no such move is under way.
    #[must_use]
    pub fn end(
        &self,
        name: &DestinationName,
        number: u64,
        (home, refusal): (u32, Option<&str>),
    ) -> Option<Self> {
        let place = self.places.get(name)?;
        let moving = place.moving.filter(|moving| moving.number == number)?;
        let mut next = self.clone();
        next.version += 1;
        let shard = match refusal {
            None => place.shard,
            Some(reason) => {
                next.refuse(name, (place.shard, number), reason);
                moving.from
            }
        };
        if let Entry::Occupied(mut entry) = next.places.entry(name.clone()) {
            if shard == home {
                entry.remove();
            } else {
                entry.insert(Place {
                    shard,
                    moving: None,
                });
            }
        }
        Some(next)
    }

    fn refuse(&mut self, name: &DestinationName, (to, number): (u32, u64), reason: &str) {
        let mut end = reason.len().min(NAME_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let refused = RefusedMove {
            to,
            number,
            reason: reason[..end].to_owned(),
        };
        self.refused.insert(name.clone(), refused);
        while self.refused.len() > REFUSED_MOVES_MAX {
            let oldest = self
                .refused
                .iter()
                .min_by_key(|(_, refused)| refused.number);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|oldest| self.refused.remove(&oldest));
        }
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.version.to_le_bytes());
        let count = u16::try_from(self.places.len()).expect("bounded by `OVERRIDES_MAX`");
        bytes.extend_from_slice(&count.to_le_bytes());
        for (name, place) in &self.places {
            let text = name.as_str();
            bytes.push(u8::try_from(text.len()).expect("names have at most 255 bytes"));
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(&place.shard.to_le_bytes());
            bytes.push(u8::from(place.moving.is_some()));
            if let Some(moving) = place.moving {
                bytes.extend_from_slice(&moving.from.to_le_bytes());
                bytes.extend_from_slice(&moving.number.to_le_bytes());
            }
        }
        let count = u16::try_from(self.refused.len()).expect("bounded by `REFUSED_MOVES_MAX`");
        bytes.extend_from_slice(&count.to_le_bytes());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.push(u8::try_from(text.len()).expect("bounded by `NAME_BYTES_MAX`"));
            bytes.extend_from_slice(text.as_bytes());
        };
        for (name, refused) in &self.refused {
            text(&mut bytes, name.as_str());
            bytes.extend_from_slice(&refused.to.to_le_bytes());
            bytes.extend_from_slice(&refused.number.to_le_bytes());
            text(&mut bytes, &refused.reason);
        }
        bytes
    }

    /// Reads what [`Overrides::encode`] wrote; `None` when the bytes are anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > OVERRIDES_BYTES_MAX {
            return None;
        }
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return None;
        }
        let version = reader.u64()?;
        let count = usize::from(reader.u16()?);
        let mut places = Vec::with_capacity(count.min(OVERRIDES_MAX));
        for _ in 0..count {
            let name = DestinationName::new(reader.short_text()?).ok()?;
            let shard = reader.u32()?;
            let moving = match reader.u8()? {
                0 => None,
                1 => Some(Moving {
                    from: reader.u32()?,
                    number: reader.u64()?,
                }),
                _ => return None,
            };
            if places.last().is_some_and(|(before, _)| *before >= name) {
                return None;
            }
            places.push((name, Place { shard, moving }));
        }
        let mut refused = Vec::new();
        for _ in 0..reader.u16()? {
            let name = DestinationName::new(reader.short_text()?).ok()?;
            let told = RefusedMove {
                to: reader.u32()?,
                number: reader.u64()?,
                reason: reader.short_text()?.to_owned(),
            };
            if refused.last().is_some_and(|(before, _)| *before >= name) {
                return None;
            }
            refused.push((name, told));
        }
        let is_end = reader.position() == bytes.len();
        is_end.then(|| Self::with_places(version, places, refused))?
    }

    /// These overrides under this version. None when they could not have come about.
    #[must_use]
    pub fn with_places(
        version: u64,
        places: impl IntoIterator<Item = (DestinationName, Place)>,
        refused: impl IntoIterator<Item = (DestinationName, RefusedMove)>,
    ) -> Option<Self> {
        let refused: BTreeMap<DestinationName, RefusedMove> = refused.into_iter().collect();
        let is_refused = |refused: &RefusedMove| {
            refused.number <= version && refused.reason.len() <= NAME_BYTES_MAX
        };
        let places: BTreeMap<DestinationName, Place> = places.into_iter().collect();
        let is_good = |(name, place): (&DestinationName, &Place)| {
            let moving = place.moving;
            virtual_topic(name.as_str()).is_none()
                && moving
                    .is_none_or(|moving| moving.number <= version && moving.from != place.shard)
        };
        let is_whole = places.len() <= OVERRIDES_MAX
            && refused.len() <= REFUSED_MOVES_MAX
            && places.iter().all(is_good)
            && refused.values().all(is_refused);
        is_whole.then_some(Self {
            version,
            places,
            refused,
        })
    }
}

/// The name under which a destination is placed: its own, save that a queue of a virtual topic is placed with the
/// topic.
#[must_use]
pub fn root(name: &DestinationName) -> &str {
    virtual_topic(name.as_str()).unwrap_or(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DestinationName {
        DestinationName::new(text).expect("a good name")
    }

    #[test]
    fn a_move_begins_ends_and_leaves_an_override_unless_it_goes_home() {
        let orders = name("orders");
        let begun = Overrides::new().begin(&orders, 1, 2).expect("begins");
        let moving = Some(Moving { from: 1, number: 1 });
        assert_eq!(begun.place(&orders), Some(&Place { shard: 2, moving }));
        assert!(matches!(
            begun.begin(&orders, 1, 3),
            Err(OverrideError::UnderWay { shard: 2, .. })
        ));
        assert_eq!(begun.end(&orders, 2, (1, None)), None, "another move");
        let ended = begun.end(&orders, 1, (1, None)).expect("under way");
        assert_eq!(ended.place(&orders).map(|place| place.shard), Some(2));
        assert!(matches!(
            ended.begin(&orders, 1, 2),
            Err(OverrideError::Present { .. })
        ));
        let back = ended.begin(&orders, 1, 1).expect("begins");
        let home = back.end(&orders, 3, (1, None)).expect("under way");
        assert!(home.is_empty());
        assert_eq!(home.version(), 4);
    }

    #[test]
    fn a_refused_move_leaves_the_name_where_it_was_and_says_why_until_the_next() {
        let orders = name("orders");
        let begun = Overrides::new().begin(&orders, 1, 2).expect("begins");
        let reason = "ü".repeat(200);
        let refused = begun.end(&orders, 1, (1, Some(&reason)));
        let refused = refused.expect("under way");
        assert!(refused.is_empty());
        let told = refused.refusal(&orders).expect("remembered");
        assert_eq!((told.to, told.number, told.reason.len()), (2, 1, 254));
        assert_eq!(Overrides::decode(&refused.encode()), Some(refused.clone()));
        let again = refused.begin(&orders, 1, 2).expect("begins");
        assert_eq!(again.refusal(&orders), None);
    }

    #[test]
    fn the_oldest_refusals_are_forgotten() {
        let mut overrides = Overrides::new();
        for count in 0..=REFUSED_MOVES_MAX {
            let name = name(&format!("q{count}"));
            let begun = overrides.begin(&name, 1, 2).expect("begins");
            let number = begun.version();
            overrides = begun.end(&name, number, (1, Some("no"))).expect("ends");
        }
        assert_eq!(overrides.refused().count(), REFUSED_MOVES_MAX);
        assert_eq!(overrides.refusal(&name("q0")), None);
        assert!(overrides.refusal(&name("q1")).is_some());
    }

    #[test]
    fn queues_of_a_virtual_topic_live_with_it() {
        let topic = name("VirtualTopic.prices");
        let queue = name("Consumer.a.VirtualTopic.prices");
        let overrides = Overrides::new().begin(&topic, 1, 2).expect("begins");
        assert_eq!(overrides.place(&queue), overrides.place(&topic));
        assert!(matches!(
            overrides.begin(&queue, 1, 3),
            Err(OverrideError::OfVirtualTopic { .. })
        ));
    }

    #[test]
    fn what_is_encoded_comes_back_and_nothing_else() {
        let mut overrides = Overrides::new();
        for (text, to) in [("b", 2), ("a", 3), ("c", 4)] {
            overrides = overrides.begin(&name(text), 1, to).expect("begins");
        }
        overrides = overrides.end(&name("a"), 2, (1, None)).expect("under way");
        overrides = overrides
            .end(&name("c"), 3, (1, Some("it is full")))
            .expect("under way");
        let bytes = overrides.encode();
        assert_eq!(Overrides::decode(&bytes), Some(overrides));
        for length in 0..bytes.len() {
            assert_eq!(Overrides::decode(&bytes[..length]), None);
        }
        let mut swapped = bytes;
        swapped[12] = b'z';
        assert_eq!(Overrides::decode(&swapped), None, "out of order");
    }

    #[test]
    fn there_are_not_more_than_can_be() {
        let mut overrides = Overrides::new();
        for count in 0..OVERRIDES_MAX {
            overrides = overrides
                .begin(&name(&format!("q{count}")), 1, 2)
                .expect("room");
        }
        assert_eq!(
            overrides.begin(&name("more"), 1, 2),
            Err(OverrideError::TooMany)
        );
        assert!(overrides.encode().len() < OVERRIDES_BYTES_MAX);
    }
}
