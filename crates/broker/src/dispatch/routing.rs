//! Who may get which message of one queue, where not every consumer may get every message: selectors, groups, priorities
//! of consumers, an exclusive one. A queue without any of these has no routing and pays nothing for it.
//!
//! ```text
//! a message is   for one who has credit   -> it goes there
//!                for some, none of whom has credit   -> parked, under whom it is for
//!                for nobody who is attached          -> parked, under nobody
//! ```
//! What is parked is a position in a bitmap, without bytes, and is not looked at until somebody whom it is for has
//! credit: then as many are *recalled*, the first in turn first, as that consumer has credit for. So a message is read
//! once to be looked at and once for each recall, and nobody's message waits behind another's. Consumers whose
//! selector is known already, or who have none, come and go without a second look. For a selector that is new, what
//! was parked without asking it is looked at again, in turn and piece by piece, while nothing else can be sent and while
//! one who has it has credit; until it has seen all of it, it gets nothing that is behind.

use std::collections::{BTreeMap, VecDeque};

use quorate_message::{GroupId, MessagePosition, MessageView};

use super::ConsumerRef;
use super::groups::Groups;
use super::parked::{Class, Parked, SelectorId};
use crate::limits::{RECALL_MESSAGES, SELECTORS_MAX};
use crate::state::Turn;
use crate::{GroupMark, Selector};

/// The routing of one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routing {
    selectors: BTreeMap<SelectorId, Known>,
    next_selector: u32,
    members: BTreeMap<ConsumerRef, Member>,
    parked: Parked,
    /// Messages that were taken out of `parked` for a consumer and have not come up yet.
    recalled: BTreeMap<Turn, ConsumerRef>,
    recalls: BTreeMap<ConsumerRef, u32>,
    groups: Groups,
    /// Whether messages are looked at for their group.
    has_groups: bool,
    /// Whether some member has another priority than 0.
    has_priorities: bool,
    /// What each selector said of the message at hand.
    answers: BTreeMap<SelectorId, bool>,
}

#[derive(Clone, Debug)]
struct Known {
    selector: Selector,
    members: u32,
}

/// A consumer of the queue.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// None: it wants everything.
    selector: Option<SelectorId>,
    priority: i8,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To a consumer with credit.
    To(ConsumerRef, Option<GroupMark>),
    /// It was parked.
    Parked,
    /// It can be put nowhere: it stays where it is until something changes.
    Stays,
}

impl Routing {
    /// Whether a consumer with this selector can be taken in.
    pub(super) fn has_room_for(&self, selector: Option<&Selector>) -> bool {
        selector.is_none_or(|selector| {
            self.selectors.len() < SELECTORS_MAX || self.find(selector).is_some()
        })
    }

    /// A consumer is there, or is there on other terms.
    pub(super) fn entered(
        &mut self,
        consumer: ConsumerRef,
        selector: Option<&Selector>,
        priority: i8,
    ) {
        let id = selector.map(|selector| match self.find(selector) {
            Some(id) => id,
            None => {
                let id = SelectorId(self.next_selector);
                self.next_selector += 1;
                let known = Known {
                    selector: selector.clone(),
                    members: 0,
                };
                self.selectors.insert(id, known);
                id
            }
        });
        if let Some(known) = id.and_then(|id| self.selectors.get_mut(&id)) {
            known.members += 1;
        }
        let member = Member {
            selector: id,
            priority,
        };
        if let Some(before) = self.members.insert(consumer, member) {
            if before.selector != id {
                // What waited for it as the owner of a group may be for others.
                self.parked.disown(consumer);
            }
            self.drop_selector(before.selector);
        }
        self.has_priorities = self.members.values().any(|member| member.priority != 0);
    }

    /// A consumer is gone for good: its groups are nobody's, and what was parked for it alone is for whom it fits.
    pub(super) fn left(&mut self, consumer: ConsumerRef) {
        let Some(member) = self.members.remove(&consumer) else {
            return;
        };
        self.groups.left(consumer);
        self.parked.disown(consumer);
        self.recalls.remove(&consumer);
        self.recalled.retain(|_, other| *other != consumer);
        self.drop_selector(member.selector);
        self.has_priorities = self.members.values().any(|member| member.priority != 0);
    }

    /// Whether messages that belong to groups may come.
    pub(super) fn has_groups(&self) -> bool {
        self.has_groups
    }

    /// From now on messages are looked at for their group.
    pub(super) fn look_for_groups(&mut self) {
        self.has_groups = true;
    }

    /// Lets a consumer keep a group that it had before, if it is nobody's.
    pub(super) fn keep_group(&mut self, group: GroupId, consumer: ConsumerRef) {
        self.groups.keep(group, consumer, &self.parked);
    }

    /// The groups that are a consumer's.
    pub(super) fn owned_by(&self, consumer: ConsumerRef) -> Vec<GroupId> {
        self.groups.owned_by(consumer)
    }

    /// The group of a message in a consumer's hands.
    pub(super) fn group_of(&self, position: MessagePosition) -> Option<GroupId> {
        self.groups.group_of(position)
    }

    /// A message of a group is in the hands of the group's owner, as an earlier leader knew.
    pub(super) fn resume_group(
        &mut self,
        group: GroupId,
        consumer: ConsumerRef,
        position: MessagePosition,
    ) {
        self.groups.resume(group, consumer, position);
    }

    /// Whether every consumer may get every message, and nothing waits here: the routing can go.
    pub(super) fn is_needless(&self) -> bool {
        !self.has_groups
            && !self.has_priorities
            && self.selectors.is_empty()
            && self.parked.is_empty()
            && self.recalled.is_empty()
    }

    /// Says where a message goes, of those in the ring, who have credit, and parks it if it goes nowhere.
    pub(super) fn route(
        &mut self,
        turn: Turn,
        message: &[u8],
        ring: &VecDeque<ConsumerRef>,
    ) -> Route {
        let recalled_for = self.came_up(turn);
        self.answers.clear();
        let position = turn.position();
        let view = MessageView::new(message);
        let view = view.as_ref();
        let group = view
            .filter(|_| self.has_groups)
            .and_then(MessageView::group);
        let owner = group.and_then(|group| {
            let owner = self.groups.owner(&group)?;
            // A consumer that does not want the message does not keep it from the others either.
            self.fits(owner, position, view).then_some(owner)
        });
        let to = match owner {
            Some(owner) => Some(owner).filter(|owner| ring.contains(owner)),
            None => self.choose(ring, recalled_for, position, view),
        };
        if let Some(to) = to {
            let mark = group.map(|group| {
                let mark = self.groups.sent(&group, to, position, &self.parked);
                if mark.is_last {
                    // What waited for it as the group's owner may go elsewhere.
                    self.parked.disown(to);
                }
                mark
            });
            return Route::To(to, mark);
        }
        if let Some(consumer) = recalled_for {
            self.recall_anew(consumer);
        }
        let class = Class {
            owner,
            selectors: self.fitting(position, view),
            asked: SelectorId(self.next_selector),
        };
        if self.parked.park(turn, class) {
            Route::Parked
        } else {
            Route::Stays
        }
    }

    /// Takes out of what is parked as much as the consumer has room for, what has been recalled for it counted in as far as
    /// it comes before: what was parked since may be older. None for one that has not seen all of it.
    pub(super) fn recall(&mut self, consumer: ConsumerRef, room: u32) -> Vec<Turn> {
        if self.parked.is_empty() || self.is_behind(consumer) {
            return Vec::new();
        }
        let under_way = match self.recalls.contains_key(&consumer) {
            true => self.recalled_for(consumer),
            false => Vec::new(),
        };
        self.take_out(consumer, room.min(RECALL_MESSAGES), &under_way)
    }

    /// What was recalled for a consumer and has not come up, in turn.
    fn recalled_for(&self, consumer: ConsumerRef) -> Vec<Turn> {
        let recalled = self.recalled.iter();
        let recalled = recalled.filter(|(_, other)| **other == consumer);
        recalled.map(|(turn, _)| *turn).collect()
    }

    /// Takes out the next of what the consumer's selector was not asked about, when the last of it has come up.
    pub(super) fn look_again(&mut self, consumer: ConsumerRef) -> Vec<Turn> {
        if self.is_behind(consumer) && !self.recalls.contains_key(&consumer) {
            return self.take_out(consumer, RECALL_MESSAGES, &[]);
        }
        Vec::new()
    }

    fn take_out(&mut self, consumer: ConsumerRef, wanted: u32, under_way: &[Turn]) -> Vec<Turn> {
        let member = self.members.get(&consumer);
        let Some(member) = member.filter(|_| wanted > 0) else {
            return Vec::new();
        };
        let turns = self
            .parked
            .take_for(consumer, member.selector, wanted, under_way);
        for turn in &turns {
            self.recalled.insert(*turn, consumer);
        }
        if !turns.is_empty() {
            let count = u32::try_from(turns.len()).expect("bounded by `RECALL_MESSAGES`");
            *self.recalls.entry(consumer).or_insert(0) += count;
        }
        turns
    }

    /// Whether a message was taken out for a consumer.
    pub(super) fn is_recalled(&self, turn: Turn) -> bool {
        self.recalled.contains_key(&turn)
    }

    /// A message that was sent is in its consumer's hands no longer.
    pub(super) fn ended(&mut self, position: MessagePosition) {
        self.groups.ended(position);
    }

    /// A message is gone from the queue, or is in a consumer's hands. Whether it was parked.
    pub(super) fn forget(&mut self, turn: Turn) -> bool {
        self.came_up(turn);
        self.parked.remove(turn)
    }

    /// All messages of the queue are gone.
    pub(super) fn purged(&mut self) {
        self.recalled.clear();
        self.recalls.clear();
        self.parked = Parked::default();
        self.groups.purged();
    }

    pub(crate) fn parked(&self) -> &Parked {
        &self.parked
    }

    /// Whether the counts agree with what they count.
    pub(crate) fn is_consistent(&self) -> bool {
        let counts = self.recalls.values().map(|count| *count as usize);
        let mut known = self.selectors.iter();
        counts.sum::<usize>() == self.recalled.len()
            && self.parked.is_consistent()
            && self.groups.is_consistent()
            && known.all(|(id, known)| {
                let members = self.members.values();
                let members = members.filter(|member| member.selector == Some(*id));
                members.count() == known.members as usize
            })
    }

    fn find(&self, selector: &Selector) -> Option<SelectorId> {
        let mut known = self.selectors.iter();
        let found = known.find(|(_, known)| known.selector.text() == selector.text());
        found.map(|(id, _)| *id)
    }

    fn drop_selector(&mut self, id: Option<SelectorId>) {
        let Some((id, known)) = id.and_then(|id| Some((id, self.selectors.get_mut(&id)?))) else {
            return;
        };
        known.members -= 1;
        if known.members == 0 {
            self.selectors.remove(&id);
            let (selectors, next) = (&self.selectors, SelectorId(self.next_selector));
            self.parked.drop_selector(id, |asked| {
                let mut behind = selectors.range(asked..);
                behind.next().map_or(next, |(id, _)| *id)
            });
        }
    }

    /// Whether something is parked that the consumer's selector was not asked about.
    fn is_behind(&self, consumer: ConsumerRef) -> bool {
        let selector = self
            .members
            .get(&consumer)
            .and_then(|member| member.selector);
        selector.is_some_and(|id| self.parked.has_unasked(id))
    }

    /// A message that was recalled for a consumer is parked again: what was recalled behind it does not count as on its way
    /// to the consumer any more, or it would be preferred to this one.
    fn recall_anew(&mut self, consumer: ConsumerRef) {
        if self.recalls.remove(&consumer).is_some() {
            self.recalled.retain(|_, recalled| *recalled != consumer);
        }
    }

    /// A recalled message is at hand, or gone. For whom it was.
    fn came_up(&mut self, turn: Turn) -> Option<ConsumerRef> {
        let consumer = self.recalled.remove(&turn)?;
        if let Some(count) = self.recalls.get_mut(&consumer) {
            *count -= 1;
            if *count == 0 {
                self.recalls.remove(&consumer);
            }
        }
        Some(consumer)
    }

    /// The first in the ring that wants the message, of the highest priority that has one.
    fn choose(
        &mut self,
        ring: &VecDeque<ConsumerRef>,
        recalled_for: Option<ConsumerRef>,
        position: MessagePosition,
        view: Option<&MessageView<'_>>,
    ) -> Option<ConsumerRef> {
        let mut best: Option<(i8, ConsumerRef)> = None;
        for consumer in ring {
            let priority = self.members.get(consumer)?.priority;
            if best.is_some_and(|(best, _)| best >= priority) {
                continue;
            }
            // One that has not seen all that is parked gets things in turn only.
            let is_in_turn = recalled_for == Some(*consumer) || !self.is_behind(*consumer);
            if is_in_turn && self.fits(*consumer, position, view) {
                if !self.has_priorities {
                    return Some(*consumer);
                }
                best = Some((priority, *consumer));
            }
        }
        best.map(|(_, consumer)| consumer)
    }

    /// Whether a consumer wants the message. Each selector is asked once a message.
    fn fits(
        &mut self,
        consumer: ConsumerRef,
        position: MessagePosition,
        view: Option<&MessageView<'_>>,
    ) -> bool {
        match self.members.get(&consumer).map(|member| member.selector) {
            None => false,
            Some(None) => true,
            Some(Some(id)) => self.is_selected(id, position, view),
        }
    }

    fn is_selected(
        &mut self,
        id: SelectorId,
        position: MessagePosition,
        view: Option<&MessageView<'_>>,
    ) -> bool {
        if let Some(answer) = self.answers.get(&id) {
            return *answer;
        }
        let known = self.selectors.get(&id);
        let answer = known.is_some_and(|known| {
            view.is_some_and(|view| {
                known.selector.evaluate(position, view) == quorate_message::selector::Truth::True
            })
        });
        self.answers.insert(id, answer);
        answer
    }

    /// Every selector that selects the message.
    fn fitting(
        &mut self,
        position: MessagePosition,
        view: Option<&MessageView<'_>>,
    ) -> Vec<SelectorId> {
        let ids: Vec<SelectorId> = self.selectors.keys().copied().collect();
        let fits = |id: &SelectorId| self.is_selected(*id, position, view);
        ids.into_iter().filter(fits).collect()
    }
}
