//! Message groups of one queue: each belongs to one consumer until that leaves or the group is closed.
//!
//! A group is known by a hash of its name. Owners of groups that nothing of is in flight or parked are forgotten when
//! there are too many, which loses no order.

use std::collections::BTreeMap;

use quorate_message::{Group, GroupId, MessagePosition};

use super::ConsumerRef;
use super::parked::Parked;
use crate::GroupMark;
use crate::limits::GROUPS_MAX;

/// How many groups are looked at for one to forget.
const LOOKED_AT: usize = 64;

/// The owners of a queue's groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    owners: BTreeMap<GroupId, Owner>,
    /// Of the messages in consumers' hands, those that belong to a group.
    in_flight: BTreeMap<MessagePosition, (GroupId, u64)>,
    /// How many tenures there were.
    tenures: u64,
    /// Where the search for one to forget goes on.
    forget_from: GroupId,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    consumer: ConsumerRef,
    /// Tells this ownership from others of the group.
    tenure: u64,
    in_flight: u32,
}

impl Groups {
    /// Whose the group is. A message that opens its group anew (number 1) goes to whoever is next, unless something
    /// of the group is still in its owner's hands.
    pub(super) fn owner(&self, group: &Group<'_>) -> Option<ConsumerRef> {
        let owner = self.owners.get(&group.id())?;
        let opens_anew = group.sequence == 1 && owner.in_flight == 0;
        (!opens_anew).then_some(owner.consumer)
    }

    /// A message of the group goes to a consumer. It becomes the owner, unless another is and did not want it.
    pub(super) fn sent(
        &mut self,
        group: &Group<'_>,
        to: ConsumerRef,
        position: MessagePosition,
        parked: &Parked,
    ) -> GroupMark {
        let id = group.id();
        let is_first = self.owner(group).is_none();
        if is_first {
            self.make_room(parked);
            let owner = self.new_owner(to);
            self.owners.insert(id, owner);
        }
        let owns = self
            .owners
            .get(&id)
            .is_some_and(|owner| owner.consumer == to);
        let is_last = group.sequence < 0 && owns;
        if is_last {
            self.owners.remove(&id);
        } else if let Some(owner) = self.owners.get_mut(&id).filter(|_| owns) {
            owner.in_flight += 1;
            self.in_flight.insert(position, (id, owner.tenure));
        }
        GroupMark {
            id,
            is_first,
            is_last,
        }
    }

    /// Lets a consumer keep what it had.
    pub(super) fn keep(&mut self, id: GroupId, consumer: ConsumerRef, parked: &Parked) {
        self.make_room(parked);
        let owner = self.new_owner(consumer);
        self.owners.entry(id).or_insert(owner);
    }

    /// The groups that are a consumer's.
    pub(super) fn owned_by(&self, consumer: ConsumerRef) -> Vec<GroupId> {
        let owners = self.owners.iter();
        let owned = owners.filter(|(_, owner)| owner.consumer == consumer);
        owned.map(|(id, _)| *id).collect()
    }

    /// The group of a message in a consumer's hands.
    pub(super) fn group_of(&self, position: MessagePosition) -> Option<GroupId> {
        self.in_flight.get(&position).map(|(id, _)| *id)
    }

    /// A message of the group is in the hands of its owner, as an earlier leader knew.
    pub(super) fn resume(&mut self, id: GroupId, consumer: ConsumerRef, position: MessagePosition) {
        let owner = self.owners.get_mut(&id);
        if let Some(owner) = owner.filter(|owner| owner.consumer == consumer) {
            owner.in_flight += 1;
            self.in_flight.insert(position, (id, owner.tenure));
        }
    }

    fn new_owner(&mut self, consumer: ConsumerRef) -> Owner {
        self.tenures += 1;
        Owner {
            consumer,
            tenure: self.tenures,
            in_flight: 0,
        }
    }

    /// A message is in nobody's hands.
    pub(super) fn ended(&mut self, position: MessagePosition) {
        let Some((id, tenure)) = self.in_flight.remove(&position) else {
            return;
        };
        let owner = self.owners.get_mut(&id);
        if let Some(owner) = owner.filter(|owner| owner.tenure == tenure) {
            owner.in_flight -= 1;
        }
    }

    /// A consumer is gone: its groups are nobody's.
    pub(super) fn left(&mut self, consumer: ConsumerRef) {
        self.owners.retain(|_, owner| owner.consumer != consumer);
    }

    /// Nothing is in flight any longer.
    pub(super) fn purged(&mut self) {
        self.in_flight.clear();
        for owner in self.owners.values_mut() {
            owner.in_flight = 0;
        }
    }

    pub(super) fn is_consistent(&self) -> bool {
        let mut owners = self.owners.iter();
        owners.all(|(id, owner)| {
            let mut held = self.in_flight.values();
            let of_tenure = (*id, owner.tenure);
            let held = held.by_ref().filter(|other| **other == of_tenure);
            held.count() == owner.in_flight as usize
        })
    }

    /// Forgets an owner when there are too many. One of whose group something is in flight or may be parked is kept, so
    /// that there may be more for a while, though never more than there are messages.
    fn make_room(&mut self, parked: &Parked) {
        if self.owners.len() < GROUPS_MAX {
            return;
        }
        let behind = self.owners.range(self.forget_from..);
        let all = behind.chain(self.owners.range(..self.forget_from));
        let mut last = self.forget_from;
        let mut found = None;
        for (id, owner) in all.take(LOOKED_AT) {
            last = *id;
            if owner.in_flight == 0 && !parked.has_owned(owner.consumer) {
                found = Some(*id);
                break;
            }
        }
        self.forget_from = last;
        if let Some(id) = found {
            self.owners.remove(&id);
        }
    }
}
