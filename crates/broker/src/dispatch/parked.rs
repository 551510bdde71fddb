//! Messages that wait for certain consumers, by whom they are for: positions in bitmaps, without their bytes.

use std::collections::BTreeMap;

use super::ConsumerRef;
use crate::limits::CLASSES_MAX;
use crate::state::{Levels, Turn};

/// A selector that some consumer of the queue has, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SelectorId(pub(super) u32);

/// Whom messages are for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    /// The consumer that owns their group: only it gets them while it is there.
    pub(super) owner: Option<ConsumerRef>,
    /// The selectors that select them, ascending. Consumers without a selector want everything.
    pub(super) selectors: Vec<SelectorId>,
    /// Selectors from this one on were not asked.
    pub(super) asked: SelectorId,
}

/// All that is parked in a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parked {
    classes: BTreeMap<Class, Levels>,
    /// How many messages of no owner each selector selects.
    selected: BTreeMap<SelectorId, u64>,
    /// How many messages of no owner were not asked about from which selector on.
    asked: BTreeMap<SelectorId, u64>,
    count: u64,
}

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every message that is parked.
    pub(crate) fn turns(&self) -> impl Iterator<Item = Turn> + '_ {
        let classes = self.classes.values();
        classes.flat_map(|class| class.in_turn(Turn::default()))
    }

    /// Parks a message; false when there are too many classes already for one more.
    pub(super) fn park(&mut self, turn: Turn, class: Class) -> bool {
        if self.classes.len() >= CLASSES_MAX && !self.classes.contains_key(&class) {
            return false;
        }
        self.count_class(&class, 1);
        let position = turn.position();
        let levels = self.classes.entry(class).or_default();
        self.count += levels.insert(turn.priority(), position, position);
        true
    }

    /// Whether a selector was not asked about something that it may select.
    pub(super) fn has_unasked(&self, id: SelectorId) -> bool {
        self.asked.range(..=id).next().is_some()
    }

    /// Whether something waits for this owner of groups.
    pub(super) fn has_owned(&self, owner: ConsumerRef) -> bool {
        self.owned(owner).next().is_some()
    }

    fn owned(&self, owner: ConsumerRef) -> impl Iterator<Item = (&Class, &Levels)> {
        let from = Class {
            owner: Some(owner),
            selectors: Vec::new(),
            asked: SelectorId(0),
        };
        let classes = self.classes.range(from..);
        classes.take_while(move |(class, _)| class.owner == Some(owner))
    }

    /// Takes out messages that a consumer may get, or may want, the first in turn: as many of them as are among the first
    /// `wanted`, those counted in that are on their way to it already, in turn.
    pub(super) fn take_for(
        &mut self,
        consumer: ConsumerRef,
        selector: Option<SelectorId>,
        wanted: u32,
        under_way: &[Turn],
    ) -> Vec<Turn> {
        let mut found: Vec<(Turn, &Class)> = Vec::new();
        let wanted = wanted as usize;
        let mut take = |class, levels: &Levels| {
            let turns = levels.in_turn(Turn::default()).take(wanted);
            found.extend(turns.map(|turn| (turn, class)));
        };
        self.owned(consumer)
            .for_each(|(class, levels)| take(class, levels));
        let is_wanted =
            selector.is_none_or(|id| self.selected.contains_key(&id) || self.has_unasked(id));
        let classes = self.classes.iter().take_while(|_| is_wanted);
        for (class, levels) in classes.take_while(|(class, _)| class.owner.is_none()) {
            let is_for = selector
                .is_none_or(|id| class.asked <= id || class.selectors.binary_search(&id).is_ok());
            if is_for {
                take(class, levels);
            }
        }
        found.sort_unstable();
        let mut place = 0;
        found.retain(|(turn, _)| {
            place += 1;
            place + under_way.partition_point(|other| other < turn) <= wanted
        });
        let found: Vec<(Turn, Class)> = found
            .into_iter()
            .map(|(turn, class)| (turn, class.clone()))
            .collect();
        for (turn, class) in &found {
            self.take_from(class, *turn);
        }
        found.into_iter().map(|(turn, _)| turn).collect()
    }

    /// Takes a message out, whoever it is for; whether it was here.
    pub(super) fn remove(&mut self, turn: Turn) -> bool {
        if self.count == 0 {
            return false;
        }
        let mut classes = self.classes.iter();
        let found = classes.find(|(_, levels)| levels.contains(turn.position()));
        let Some(class) = found.map(|(class, _)| class.clone()) else {
            return false;
        };
        self.take_from(&class, turn)
    }

    /// What waited for the owner of groups is for whom it fits.
    pub(super) fn disown(&mut self, owner: ConsumerRef) {
        self.change_classes(|class| {
            (class.owner == Some(owner)).then(|| Class {
                owner: None,
                ..class.clone()
            })
        });
    }

    /// A selector is nobody's any longer. `next` is the first one there is from another on, so that classes that differ
    /// in nothing that is left become one.
    pub(super) fn drop_selector(
        &mut self,
        id: SelectorId,
        next: impl Fn(SelectorId) -> SelectorId,
    ) {
        self.change_classes(|class| {
            let mut changed = class.clone();
            changed.selectors.retain(|other| *other != id);
            changed.asked = next(class.asked);
            (changed != *class).then_some(changed)
        });
    }

    pub(super) fn is_consistent(&self) -> bool {
        let lengths = self.classes.values().map(Levels::len);
        let mut counted = Self::default();
        for (class, levels) in &self.classes {
            counted.count_class(class, levels.len());
        }
        lengths.sum::<u64>() == self.count
            && (&counted.selected, &counted.asked) == (&self.selected, &self.asked)
            && self.classes.values().all(|levels| levels.len() > 0)
    }

    fn take_from(&mut self, class: &Class, turn: Turn) -> bool {
        let Some(levels) = self.classes.get_mut(class) else {
            return false;
        };
        if levels.remove(turn.position()).is_none() {
            return false;
        }
        if levels.len() == 0 {
            self.classes.remove(class);
        }
        self.count -= 1;
        self.count_class_down(class, 1);
        true
    }

    fn count_class(&mut self, class: &Class, by: u64) {
        if class.owner.is_none() {
            for id in &class.selectors {
                *self.selected.entry(*id).or_insert(0) += by;
            }
            *self.asked.entry(class.asked).or_insert(0) += by;
        }
    }

    fn count_class_down(&mut self, class: &Class, by: u64) {
        let down = |counts: &mut BTreeMap<SelectorId, u64>, id: SelectorId| {
            if let Some(count) = counts.get_mut(&id) {
                *count -= by;
                if *count == 0 {
                    counts.remove(&id);
                }
            }
        };
        if class.owner.is_none() {
            class
                .selectors
                .iter()
                .for_each(|id| down(&mut self.selected, *id));
            down(&mut self.asked, class.asked);
        }
    }

    /// Moves whole classes.
    fn change_classes(&mut self, change: impl Fn(&Class) -> Option<Class>) {
        let changed = self.classes.keys();
        let changed: Vec<(Class, Class)> = changed
            .filter_map(|class| Some((class.clone(), change(class)?)))
            .collect();
        for (from, to) in changed {
            let Some(levels) = self.classes.remove(&from) else {
                continue;
            };
            let count = levels.len();
            self.count_class_down(&from, count);
            self.count_class(&to, count);
            self.classes.entry(to).or_default().absorb(&levels);
        }
    }
}
