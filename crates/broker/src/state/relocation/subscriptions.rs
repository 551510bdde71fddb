//! Topics that move: their subscriptions go ahead of the messages; each message goes once, with the subscriptions that it is
//! pending in; what the topic keeps for those who subscribe later goes by itself.

use quorate_message::{
    Destination, DestinationKind, DestinationName, Kept, MessagePosition, Outcome, PendingIn,
    Relocation, Subscription,
};

use super::super::apply::Retention;
use super::super::{Change, Levels, QueueId, Record, State, Turn, sizes::Sizes};
use super::{Moved, Stage};

impl State {
    /// The subscriptions to exactly this topic.
    pub(crate) fn subscriptions_to(
        &self,
        topic: &DestinationName,
    ) -> impl Iterator<Item = QueueId> + '_ {
        let exactly = self.topics.exactly(topic);
        exactly.filter(|id| self.queue(*id).kind() == DestinationKind::Subscription)
    }

    /// Everything that moves with a name: its family, and the subscriptions to its topic.
    pub(crate) fn household(&self, name: &DestinationName) -> Vec<QueueId> {
        let mut all = self.family(name);
        all.extend(self.subscriptions_to(name));
        all
    }

    /// The move of the name with which a place moves. Subscriptions with wildcards have none.
    pub(crate) fn moved_at(&self, id: QueueId) -> Option<&Moved> {
        if self.relocations.is_empty() {
            return None;
        }
        match self.topics.subscription(id) {
            Some(kept) if !kept.pattern.is_exact() => None,
            Some(kept) => self.relocations.get(kept.pattern.as_str()),
            None => self.relocations.of(&self.queue(id).destination()),
        }
    }

    /// Whether a subscription, or another place, is on its way: nobody is missed here whose consumers are where it goes, or not
    /// there yet.
    pub(crate) fn is_on_its_way(&self, id: QueueId) -> bool {
        self.moved_at(id).is_some_and(|moved| match moved.stage {
            Stage::Shipping | Stage::Cut | Stage::Expected { .. } => true,
            Stage::Leaving { .. } | Stage::Gone | Stage::Here | Stage::Stays(_) => false,
        })
    }

    /// Whether a name is to come by this move, and this shard has not heard of it: what would be made for it here would miss
    /// what is published elsewhere.
    pub(in crate::state) fn is_before_move(&self, at: &Destination, by_move: u64) -> bool {
        let known = self.relocations.of(at);
        known.map_or(0, |known| known.relocating.number) < by_move
    }

    /// Where what is pending at a place goes when it moves: that of a subscription goes to its topic.
    pub(crate) fn moves_to(&self, id: QueueId) -> Destination {
        let topic = self.topics.subscription(id);
        let topic = topic.and_then(|kept| kept.pattern.as_name());
        topic.map_or_else(|| self.queue(id).destination(), Destination::topic)
    }

    /// A topic that leaves has a subscription more, less, or another one.
    pub(in crate::state) fn subscriptions_changed(&mut self, kept: &Subscription) {
        if let Some(topic) = kept.pattern.as_name() {
            self.relocations
                .untold(&Destination::topic(topic), self.applied);
        }
    }

    /// How many bytes it takes to tell of the subscriptions to a topic, and how many they are.
    pub(super) fn subscriptions_bytes(&self, topic: &DestinationName) -> (usize, u64) {
        let mut total = (0, 0);
        for id in self.subscriptions_to(topic) {
            let kept = self.topics.subscription(id);
            let record = kept.and_then(|kept| kept.encode().ok());
            // With the key and both lengths.
            total.0 += record.map_or(0, |record| record.len()) + 4;
            total.0 += self.queue(id).name().as_str().len();
            total.1 += 1;
        }
        total
    }

    /// The subscriptions to a topic that is to come are these.
    pub(super) fn expect_subscriptions(
        &mut self,
        topic: &DestinationName,
        told: Vec<(DestinationName, Subscription)>,
        record: &mut Record,
    ) {
        // What the source told of before and has ended since.
        let known: Vec<QueueId> = self.subscriptions_to(topic).collect();
        for id in known {
            let key = self.queue(id).name();
            if !told.iter().any(|(other, _)| other == key) {
                self.end_subscription(id, record);
            }
        }
        for (key, wanted) in told {
            if let Some(id) = self.topics.subscription_id(&key)
                && let Some(known) = self.topics.subscriptions.get_mut(&id)
            {
                if known.is_same(&wanted) {
                    known.generation = known.generation.max(wanted.generation);
                    continue;
                }
                if known.generation > wanted.generation {
                    // It is another topic's by now, and about to end at the source.
                    continue;
                }
                self.end_subscription(id, record);
            }
            let nothing = (Levels::default(), Sizes::default());
            self.add_subscription(&key, wanted, nothing, record);
        }
    }

    /// The subscriptions to a topic that left are where it went.
    pub(super) fn release_subscriptions(&mut self, topic: &DestinationName, record: &mut Record) {
        let left: Vec<QueueId> = self.subscriptions_to(topic).collect();
        for id in left {
            self.forget_subscription(id, record);
            record.changes.push(Change::Followed(id));
        }
    }

    /// A message of a subscription as it goes to where the topic goes.
    pub(in crate::state) fn pending_in(
        &self,
        id: QueueId,
        position: MessagePosition,
    ) -> Option<PendingIn> {
        let queue = self.queue(id);
        (queue.kind() == DestinationKind::Subscription).then(|| PendingIn {
            subscription: queue.name().clone(),
            count: queue.count(position),
            was_sent: queue.was_sent(position),
        })
    }

    /// What a topic keeps one of its messages for.
    pub(super) fn kept_for(&self, id: QueueId, position: MessagePosition) -> Option<Kept> {
        let topic = self.topics.topics.get(&id)?;
        self.queue(id).contains(position).then(|| {
            let later = topic.history.partition_point(|step| step.first <= position);
            let step = later.checked_sub(1).and_then(|at| topic.history.get(at));
            Kept {
                published_ms: step.map_or(0, |step| step.stamp_ms),
                is_retained: topic.retained == Some(position),
            }
        })
    }

    /// A topic keeps a message no longer: it goes where the topic goes.
    pub(in crate::state) fn unkeep(&mut self, id: QueueId, position: MessagePosition) {
        let topic = self.topics.topics.get_mut(&id);
        if let Some(topic) = topic.filter(|topic| topic.retained == Some(position)) {
            topic.retained = None;
        }
    }

    /// A message came with its topic: it is pending where it was, as far as that is here, and kept for what it was kept for.
    pub(in crate::state) fn arrived_in_topic(
        &mut self,
        topic: QueueId,
        (turn, bytes, expires_at_ms): (Turn, u64, u64),
        brought: &Relocation,
        record: &mut Record,
    ) -> Outcome {
        let position = turn.position();
        let name = self.queue(topic).name().clone();
        let has_groups = self.queue(topic).has_groups();
        for pending in &brought.pending {
            let id = self.topics.subscription_id(&pending.subscription);
            let is_of_topic = |id: &QueueId| {
                let kept = self.topics.subscription(*id);
                kept.is_some_and(|kept| kept.pattern.as_str() == name.as_str())
            };
            let Some(id) = id.filter(is_of_topic) else {
                continue;
            };
            if expires_at_ms > 0 {
                self.store_expiry(id, position, expires_at_ms);
            }
            let queue = &mut self.queues[id.0 as usize];
            queue.has_groups |= has_groups;
            queue.store(turn.priority(), (position, position), bytes);
            if pending.count > 0 {
                queue.counts.insert(position, pending.count);
            }
            if pending.was_sent {
                queue.mark_sent(position);
            }
            self.live.added(position.entry(), 1);
            record.changes.push(Change::Stored {
                queue: id,
                priority: turn.priority(),
                first: position,
                last: position,
            });
        }
        if let Some(kept) = brought.kept {
            self.keep_arrived(topic, turn, bytes, kept);
        }
        Outcome::Stored
    }

    fn keep_arrived(&mut self, topic: QueueId, turn: Turn, bytes: u64, kept: Kept) {
        let position = turn.position();
        let queue = &mut self.queues[topic.0 as usize];
        queue.store(turn.priority(), (position, position), bytes);
        self.live.added(position.entry(), 1);
        if kept.published_ms > 0 {
            self.note_step(topic, kept.published_ms, position);
        }
        if kept.is_retained {
            self.retain(topic, turn, (bytes, Retention::Keep));
        }
    }
}
