//! Subscriptions with a selector: what the state knows of the messages that were shown to it.
//!
//! Only the leader asks selectors. It looks at every message as it comes, and says in the log, many messages at once,
//! what is not selected: that is removed on all replicas, and pins nothing, whether anybody receives or not. Below
//! `judged_to` whatever is pending is selected, so that a new leader asks about what came last and no more. Messages
//! that join by a later entry than their own are kept apart until they are judged one by one.

use quorate_message::{Batch, MessagePosition, Outcome, Runs};
use roaring::RoaringTreemap;

use super::apply::{Change, Record};
use super::codec::{Cursor, Sink};
use super::levels::ascending;
use super::{QueueId, State, positions};

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sift {
    /// The entry that made the subscription.
    made: u64,
    judged_to: MessagePosition,
    /// Joined late, and not judged.
    late: RoaringTreemap,
}

impl Eq for Sift {}

impl Sift {
    pub(super) fn new(made: u64) -> Self {
        Self {
            made,
            ..Self::default()
        }
    }

    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// What is pending before this position, and is not late, is selected.
    pub(crate) fn judged_to(&self) -> MessagePosition {
        self.judged_to
    }

    /// Whether a message joined late and is not judged.
    pub(crate) fn is_late(&self, position: MessagePosition) -> bool {
        self.late.contains(position.value())
    }

    /// Those that joined late and are not judged.
    pub(crate) fn late(&self) -> &RoaringTreemap {
        &self.late
    }

    pub(super) fn joined_late(&mut self, first: MessagePosition, last: MessagePosition) {
        self.late.insert_range(first.value()..=last.value());
    }

    pub(super) fn forget(&mut self, position: MessagePosition) {
        self.late.remove(position.value());
    }

    pub(super) fn purged(&mut self) {
        self.late.clear();
    }

    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.made);
        sink.varint(self.judged_to.value());
        positions::encode(&self.late, sink);
    }

    /// Reads what `encode` wrote; positions lie below `end`.
    pub(super) fn decode(cursor: &mut Cursor<'_>, end: u64) -> Option<Self> {
        Some(Self {
            made: cursor.varint()?,
            judged_to: MessagePosition::from_value(cursor.varint()?),
            late: positions::decode(cursor, end)?,
        })
    }

    /// Takes late ones out that lie in these runs.
    fn take_late(&mut self, runs: &Runs) -> Vec<MessagePosition> {
        let mut taken = Vec::new();
        for (first, last) in runs.iter() {
            taken.extend(ascending(&self.late, first).take_while(|late| *late <= last));
            self.late.remove_range(first.value()..=last.value());
        }
        taken
    }
}

impl State {
    /// Removes what a selector does not select. Of a subscription that was made anew since then it says nothing.
    pub(super) fn skip(
        &mut self,
        destination: u16,
        (made, judged_to): (u64, MessagePosition),
        (batch, ordinal): (&Batch, u16),
        record: &mut Record,
    ) -> Outcome {
        let key = &batch.destination(destination).name;
        let Some(id) = self.topics.subscription_id(key) else {
            return Outcome::UnknownMessage;
        };
        let sift = self.topics.sifts.get_mut(&id);
        let Some(sift) = sift.filter(|sift| sift.made == made) else {
            return Outcome::UnknownMessage;
        };
        let skipped = batch.skipped(ordinal);
        let skipped = skipped.expect("checked when the batch was parsed");
        let mut gone = sift.take_late(&skipped.late_skipped);
        sift.take_late(&skipped.late_selected);
        sift.judged_to = sift.judged_to.max(judged_to);
        let queue = &self.queues[id.0 as usize];
        for (first, last) in skipped.ranges.iter() {
            let mut next = queue.first_stored_from(first);
            while let Some(position) = next.filter(|next| *next <= last) {
                if !sift.is_late(position) {
                    gone.push(position);
                }
                next = queue.first_stored_from(position.next());
            }
        }
        for position in gone {
            self.remove(id, position, record);
        }
        record.changes.push(Change::Sifted(id));
        Outcome::Applied
    }

    /// What is known of a subscription with a selector; none for any other place.
    pub(crate) fn sift(&self, id: QueueId) -> Option<&Sift> {
        self.topics.sifts.get(&id)
    }
}
