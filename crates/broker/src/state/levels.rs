//! A set of positions by priority. A queue whose messages all have one priority has one level, and pays for one.

use quorate_message::MessagePosition;
use roaring::RoaringTreemap;

use super::codec::{Cursor, Sink};
use super::{Turn, positions};

/// Positions, each at one priority.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    /// By priority, the highest first. A level that ran empty stays.
    levels: Vec<Level>,
    /// How many positions there are, which the bitmaps would have to add up.
    count: u64,
    /// The level in which a position was found last: neighbours mostly share theirs.
    hint: usize,
}

#[derive(Clone, Debug)]
struct Level {
    priority: u8,
    positions: RoaringTreemap,
}

impl Levels {
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// Adds a run of positions; how many were not there.
    pub(crate) fn insert(
        &mut self,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
    ) -> u64 {
        let positions = self.level(priority);
        let added = if first == last {
            u64::from(positions.insert(first.value()))
        } else {
            positions.insert_range(first.value()..=last.value())
        };
        self.count += added;
        added
    }

    /// Takes in a set that has no position with this one in common.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for level in &other.levels {
            *self.level(level.priority) |= &level.positions;
        }
        self.count += other.count;
    }

    /// Takes a position out; the priority that it had.
    pub(crate) fn remove(&mut self, position: MessagePosition) -> Option<u8> {
        let value = position.value();
        let hinted = self.levels.get_mut(self.hint);
        if let Some(level) = hinted.filter(|level| level.positions.contains(value)) {
            level.positions.remove(value);
            self.count -= 1;
            return Some(level.priority);
        }
        let mut levels = self.levels.iter_mut();
        let place = levels.position(|level| level.positions.remove(value))?;
        self.hint = place;
        self.count -= 1;
        Some(self.levels[place].priority)
    }

    /// The priority of a position that is here.
    pub(crate) fn priority_of(&self, position: MessagePosition) -> Option<u8> {
        let value = position.value();
        let hinted = self.levels.get(self.hint);
        let mut levels = hinted.into_iter().chain(&self.levels);
        let level = levels.find(|level| level.positions.contains(value));
        level.map(|level| level.priority)
    }

    pub(crate) fn contains(&self, position: MessagePosition) -> bool {
        self.priority_of(position).is_some()
    }

    /// Positions of one priority from `from` on, ascending.
    pub(crate) fn at_priority(
        &self,
        priority: u8,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        let levels = self.levels.iter();
        levels
            .filter(move |level| level.priority == priority)
            .flat_map(move |level| ascending(&level.positions, from))
    }

    /// All from `from` on, in their turn.
    pub(crate) fn in_turn(&self, from: Turn) -> impl Iterator<Item = Turn> + '_ {
        let levels = self.levels.iter();
        let levels = levels.filter(move |level| level.priority <= from.priority());
        levels.flat_map(move |level| {
            let start = if level.priority == from.priority() {
                from.position()
            } else {
                MessagePosition::default()
            };
            ascending(&level.positions, start).map(|position| Turn::new(level.priority, position))
        })
    }

    /// The least position of any priority from `from` on.
    pub(super) fn first_from(&self, from: MessagePosition) -> Option<MessagePosition> {
        let levels = self.levels.iter();
        levels
            .filter_map(|level| ascending(&level.positions, from).next())
            .min()
    }

    /// The bitmap of each level.
    pub(super) fn bitmaps(&self) -> impl Iterator<Item = &RoaringTreemap> {
        self.levels.iter().map(|level| &level.positions)
    }

    /// Whether the redundant parts agree.
    pub(crate) fn is_consistent(&self) -> bool {
        let is_apart = self.levels.iter().enumerate().all(|(place, level)| {
            let mut others = self.levels[place + 1..].iter();
            others.all(|other| level.positions.is_disjoint(&other.positions))
        });
        let lengths = self.bitmaps().map(RoaringTreemap::len);
        is_apart && lengths.sum::<u64>() == self.count
    }

    /// Appends the set: for each level that is not empty, the highest first, `10 - behind` and its positions; then 0.
    pub(super) fn encode(&self, sink: &mut Sink) {
        for level in &self.levels {
            if !level.positions.is_empty() {
                sink.u8(level.priority + 1);
                positions::encode(&level.positions, sink);
            }
        }
        sink.u8(0);
    }

    /// Reads a set whose positions all lie below `end`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, end: u64) -> Option<Self> {
        let mut read = Self::default();
        let mut above = quorate_message::limits::PRIORITY_MAX + 2;
        loop {
            let mark = cursor.u8().filter(|mark| *mark < above)?;
            above = mark;
            let Some(priority) = mark.checked_sub(1) else {
                break;
            };
            let positions = positions::decode(cursor, end)?;
            if positions.is_empty() {
                return None;
            }
            read.count += positions.len();
            read.levels.push(Level {
                priority,
                positions,
            });
        }
        read.is_consistent().then_some(read)
    }

    fn level(&mut self, priority: u8) -> &mut RoaringTreemap {
        let place = self
            .levels
            .partition_point(|level| level.priority > priority);
        if self
            .levels
            .get(place)
            .is_none_or(|level| level.priority != priority)
        {
            let positions = RoaringTreemap::new();
            self.levels.insert(
                place,
                Level {
                    priority,
                    positions,
                },
            );
            self.hint = place;
        }
        &mut self.levels[place].positions
    }
}

/// The positions of a set from `from` on.
pub(super) fn ascending(
    positions: &RoaringTreemap,
    from: MessagePosition,
) -> impl Iterator<Item = MessagePosition> + '_ {
    let mut positions = positions.iter();
    positions.advance_to(from.value());
    positions.map(MessagePosition::from_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(entry: u64) -> MessagePosition {
        MessagePosition::new(entry, 0)
    }

    #[test]
    fn each_position_is_found_at_its_priority() {
        let mut levels = Levels::default();
        assert_eq!(levels.insert(4, at(1), at(1)), 1);
        assert_eq!(levels.insert(9, at(2), MessagePosition::new(2, 3)), 4);
        assert_eq!(levels.insert(0, at(3), at(3)), 1);
        assert_eq!(levels.insert(0, at(3), at(3)), 0);
        let turns: Vec<Turn> = levels
            .in_turn(Turn::new(9, MessagePosition::new(2, 2)))
            .collect();
        let expected = [
            Turn::new(9, MessagePosition::new(2, 2)),
            Turn::new(9, MessagePosition::new(2, 3)),
            Turn::new(4, at(1)),
            Turn::new(0, at(3)),
        ];
        assert_eq!(turns, expected);
        assert_eq!(levels.first_from(at(2)), Some(at(2)));
        assert_eq!(levels.remove(at(1)), Some(4));
        assert_eq!(levels.remove(at(1)), None);
        assert_eq!((levels.priority_of(at(3)), levels.len()), (Some(0), 5));
        assert!(levels.is_consistent());
    }

    #[test]
    fn one_set_has_one_encoding() {
        let encoded = |levels: &Levels| {
            let mut sink = Sink::keeping();
            levels.encode(&mut sink);
            sink.into_bytes()
        };
        let mut levels = Levels::default();
        levels.insert(4, at(1), at(1));
        levels.insert(7, at(2), at(2));
        levels.remove(at(1));
        let bytes = encoded(&levels);
        let restored = Levels::decode(&mut Cursor(&bytes), 1 << 20).expect("encoded here");
        assert_eq!(encoded(&restored), bytes);
        assert_eq!(restored.priority_of(at(2)), Some(7));
        let twice = [&bytes[..bytes.len() - 1], &bytes[..]].concat();
        assert!(Levels::decode(&mut Cursor(&twice), 1 << 20).is_none());
    }
}
