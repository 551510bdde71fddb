//! Subscriptions come and go, through the log, and so do queues and topics that nobody needs any more.

use quorate_message::{
    Batch, Command, Destination, DestinationKind, DestinationName, Outcome, Subscription,
    virtual_topic,
};

use super::apply::{Change, Record, is_repeat};
use super::sizes::Sizes;
use super::{Levels, Queue, QueueId, Sift, Stage, State};

impl State {
    /// Makes a subscription, or confirms that it is there. Under other conditions than before it begins anew, as JMS
    /// says of a durable subscriber that changes its topic or selector.
    pub(super) fn subscribe(
        &mut self,
        (destination, by_move): (u16, u64),
        (batch, ordinal): (&Batch, u16),
        record: &mut Record,
    ) -> Outcome {
        let key = &batch.destination(destination).name;
        let wanted = batch.subscription(ordinal);
        let wanted = wanted.expect("checked when the batch was parsed");
        let topic = wanted.pattern.as_name().map(Destination::topic);
        let is_early =
            |to: &Destination| self.is_before_move(to, by_move) || self.is_not_sure_of(to);
        if topic.as_ref().is_some_and(is_early) {
            return Outcome::Moved;
        }
        let known = self.topics.subscription_id(key);
        if let Some(id) = known
            && let Some(known) = self.topics.subscriptions.get_mut(&id)
        {
            if wanted.generation < known.generation {
                return Outcome::Applied;
            }
            if known.is_same(&wanted) {
                known.generation = wanted.generation;
                known.owner = wanted.owner;
                return Outcome::Applied;
            }
        }
        if topic.is_some_and(|to| self.waits_for_subscriptions(&to))
            || known.is_some_and(|id| self.is_on_its_way(id))
        {
            return Outcome::Moved;
        }
        if let Some(id) = known {
            self.end_subscription(id, record);
        }
        let first = self.first_pending(&wanted);
        match self.add_subscription(key, wanted, first, record) {
            Some(_) => Outcome::Applied,
            None => Outcome::LimitReached,
        }
    }

    /// Makes a subscription, which nobody has, with what is pending in it and its bytes. None when there are too many
    /// destinations.
    pub(super) fn add_subscription(
        &mut self,
        key: &DestinationName,
        wanted: Subscription,
        first: (Levels, Sizes),
        record: &mut Record,
    ) -> Option<QueueId> {
        let destination = Destination::subscription(key.clone());
        let id = self.make(&destination, record)?;
        let bitmaps = first.0.bitmaps();
        bitmaps.for_each(|positions| self.live.added_all(positions));
        let queue = &mut self.queues[id.0 as usize];
        queue.begin_with(first);
        queue.govern_as(wanted.pattern.as_name());
        self.settings.made(id, queue.settings_name());
        if wanted.has_selector() {
            self.topics.sifts.insert(id, Sift::new(self.applied));
        }
        self.subscriptions_changed(&wanted);
        self.topics.subscribed(id, key.clone(), wanted);
        Some(id)
    }

    /// Ends a subscription that has no higher generation, and is not to exactly the topic that is spared. On its way it is two
    /// shards', and stays the same in both.
    pub(super) fn unsubscribe(
        &mut self,
        command: Command,
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        let Command::Unsubscribe {
            destination,
            generation,
            unless_of,
        } = command
        else {
            unreachable!("only ends of subscriptions come here");
        };
        let key = &batch.destination(destination).name;
        let id = self.topics.subscription_id(key);
        let spared = unless_of.map(|topic| batch.destination(topic).name.as_str());
        let is_spared = |kept: &Subscription| spared == Some(kept.pattern.as_str());
        let known = id.and_then(|id| self.topics.subscription(id));
        match (id, known.filter(|known| !is_spared(known))) {
            (Some(id), Some(known)) if known.generation <= generation => {
                if self.is_on_its_way(id) {
                    return Outcome::Moved;
                }
                record.removed += self.end_subscription(id, record);
                Outcome::Applied
            }
            (Some(_) | None, Some(_) | None) => Outcome::UnknownMessage,
        }
    }

    /// Deletes a subscription; how many messages were pending in it.
    pub(super) fn end_subscription(&mut self, id: QueueId, record: &mut Record) -> u64 {
        let removed = self.forget_subscription(id, record);
        record.changes.push(Change::Ended(id));
        removed
    }

    /// Takes a subscription out of the books; how many messages were pending in it.
    pub(super) fn forget_subscription(&mut self, id: QueueId, record: &mut Record) -> u64 {
        if let Some(kept) = self.topics.subscription(id).cloned() {
            self.subscriptions_changed(&kept);
        }
        let key = self.queue(id).name().clone();
        let removed = self.empty(id);
        self.drop_prepared(id);
        self.vacate(id, record);
        self.topics.unsubscribed(id, &key);
        removed
    }

    /// Deletes a queue or topic. One that something else depends on stays.
    pub(super) fn delete(
        &mut self,
        (destination, with_messages): (u16, bool),
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        if is_repeat(record) {
            return Outcome::Applied;
        }
        let at = batch.destination(destination);
        if self.is_managed_elsewhere(at) {
            return Outcome::Moved;
        }
        let id = self.queue_of(destination, batch, record);
        if with_messages && at.kind == DestinationKind::Queue {
            record.removed += id.map_or(0, |id| self.empty(id));
            record.changes.push(Change::Purged(destination));
        }
        if id.is_some_and(|id| !self.is_deletable(id, with_messages)) {
            return Outcome::UnknownMessage;
        }
        if let Some(id) = id {
            record.removed += self.empty(id);
            self.dedup.forget_clients(id);
            match at.kind {
                DestinationKind::Topic => self.topics.topic_deleted(id, &at.name),
                DestinationKind::Queue | DestinationKind::Subscription => {
                    self.by_name.remove(&at.name);
                    self.topics.queue_deleted(id);
                }
            }
            self.vacate(id, record);
        }
        record.changes.push(Change::Deleted(destination, id));
        Outcome::Applied
    }

    /// Whether nothing depends on a queue or topic, but what goes with it.
    fn is_deletable(&self, id: QueueId, with_messages: bool) -> bool {
        let queue = self.queue(id);
        let at = queue.destination();
        let is_unused = match at.kind {
            DestinationKind::Queue => {
                virtual_topic(at.name.as_str()).is_none()
                    && queue.is_emptied()
                    && (with_messages || !queue.is_paused)
            }
            DestinationKind::Topic => with_messages || self.is_unheard(id),
            DestinationKind::Subscription => false,
        };
        // What a shard has forwarded must be known as long as it may be forwarded again.
        let mut producers = self
            .dedup
            .windows_after(id, None)
            .map(|(producer, _)| producer);
        is_unused
            && queue.locked == 0
            && self.relocations.of(&at).is_none()
            && !self.transactions.has_prepared(&at.name)
            && producers.all(|producer| producer.shard().is_none())
    }

    /// Whether a topic goes to nobody and keeps nothing.
    pub(crate) fn is_unheard(&self, topic: QueueId) -> bool {
        let queue = self.queue(topic);
        self.topics.targets(topic).is_empty() && !queue.keeps_any() && queue.is_emptied()
    }

    /// Whether a temporary destination has nothing, as far as the log knows.
    pub(crate) fn is_idle(&self, id: QueueId) -> bool {
        let queue = self.queue(id);
        queue.name().is_temporary()
            && match queue.kind() {
                DestinationKind::Queue => queue.is_emptied() && !queue.is_paused(),
                DestinationKind::Topic => self.is_unheard(id),
                DestinationKind::Subscription => false,
            }
    }

    /// Nobody has this place any more.
    fn vacate(&mut self, id: QueueId, record: &mut Record) {
        let nobody = Queue::nobody();
        self.settings.made(id, nobody.settings_name());
        self.queues[id.0 as usize] = nobody;
        record.forget_places();
    }

    /// Makes a queue that somebody consumes from, so that a virtual topic goes to it.
    pub(super) fn register(
        &mut self,
        (destination, by_move): (u16, u64),
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        let at = batch.destination(destination);
        if self.is_before_move(at, by_move) {
            return Outcome::Moved;
        }
        let is_there = self.id_of(at).is_some();
        let moved = self.relocations.of(at).map(|moved| moved.stage);
        let is_taken = match moved {
            // What is there was told by the shard that it leaves, and is delivered here.
            Some(Stage::Expected { .. } | Stage::Shipping) => is_there,
            Some(Stage::Cut | Stage::Gone) => false,
            Some(Stage::Leaving { .. } | Stage::Here | Stage::Stays(_)) | None => true,
        };
        if !is_taken {
            return Outcome::Moved;
        }
        match self.queue_for(destination, false, batch, record) {
            Ok(_) => Outcome::Applied,
            Err(outcome) => outcome,
        }
    }
}
