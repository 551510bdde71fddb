//! Topics: a message that is published to one is stored once, and pending in every subscription that matches and in
//! every queue of a virtual topic. Of what reads a virtual topic under one consumer's name, one place gets it: the
//! subscription of a pattern, or without one the queue of the topic.
//!
//! A topic has a place among the queues: the windows of its producers hang on it, and what it keeps by itself, the
//! retained message and what may be replayed, is pending there and in nobody's hands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_message::{Destination, DestinationKind, DestinationName, MessagePosition};
use quorate_message::{Start, Subscription, virtual_topic};

use super::apply::{Change, Record, Retention};
use super::sizes::Sizes;
use super::{Levels, Queue, QueueId, Sift, State, Turn};
use crate::limits::HISTORY_STEP_MS;

/// What is known of topics and subscriptions beyond what is pending in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topics {
    pub(super) topics: BTreeMap<QueueId, Topic>,
    pub(super) subscriptions: BTreeMap<QueueId, Subscription>,
    /// Of the subscriptions that have a selector.
    pub(super) sifts: BTreeMap<QueueId, Sift>,
    /// Places among the queues that nobody has.
    pub(super) free: BTreeSet<QueueId>,
    /// What follows is derived.
    by_topic: BTreeMap<DestinationName, QueueId>,
    by_subscription: BTreeMap<DestinationName, QueueId>,
    /// Subscriptions to one topic, and queues of a virtual topic, by the topic's name.
    exact: BTreeMap<DestinationName, BTreeSet<QueueId>>,
    /// Subscriptions with wildcards.
    patterns: BTreeSet<QueueId>,
    /// The consumer's name of each queue of a virtual topic.
    readers: BTreeMap<QueueId, String>,
    /// The same of each subscription that stands for a pattern of such queues.
    standing: BTreeMap<QueueId, String>,
    /// When topics keep something no longer.
    due: BTreeSet<(u64, QueueId)>,
}

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topic {
    /// Who gets its messages; derived.
    pub(super) targets: Vec<QueueId>,
    pub(super) retained: Option<MessagePosition>,
    /// What may be replayed, oldest first.
    pub(super) history: VecDeque<Step>,
}

/// A part of a topic's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) stamp_ms: u64,
    /// No message of it, nor of a later step, is before this one.
    pub(super) first: MessagePosition,
    /// When it may be forgotten.
    pub(super) until_ms: u64,
}

impl Topics {
    /// The place of a topic.
    pub(super) fn topic_id(&self, name: &DestinationName) -> Option<QueueId> {
        self.by_topic.get(name).copied()
    }

    /// The place of a subscription.
    pub(super) fn subscription_id(&self, key: &DestinationName) -> Option<QueueId> {
        self.by_subscription.get(key).copied()
    }

    /// The subscription that has this place.
    pub(crate) fn subscription(&self, id: QueueId) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    /// The retained message of the topic that has this place.
    pub(crate) fn retained(&self, id: QueueId) -> Option<MessagePosition> {
        self.topics.get(&id)?.retained
    }

    /// All subscriptions.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (QueueId, &Subscription)> {
        self.subscriptions.iter().map(|(id, kept)| (*id, kept))
    }

    /// How many destinations may be made without a place more.
    pub(super) fn free_count(&self) -> usize {
        self.free.len()
    }

    pub(super) fn is_free(&self, id: QueueId) -> bool {
        self.free.contains(&id)
    }

    /// Who gets what is published to a topic of this name, whether it exists or not.
    pub(crate) fn matching(&self, topic: &DestinationName) -> Vec<QueueId> {
        let mut targets: Vec<QueueId> = self
            .exact
            .get(topic)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        targets.retain(|id| !self.is_stood_for(*id, topic));
        let patterns = self.patterns.iter().copied();
        targets.extend(patterns.filter(|id| self.matches(*id, topic)));
        targets.sort_unstable();
        targets
    }

    /// Whether a subscription gets a topic's messages for this queue.
    fn is_stood_for(&self, queue: QueueId, topic: &DestinationName) -> bool {
        if self.standing.is_empty() {
            return false;
        }
        let Some(name) = self.readers.get(&queue) else {
            return false;
        };
        let mut standing = self.standing.iter();
        standing.any(|(id, other)| other == name && self.matches(*id, topic))
    }

    fn matches(&self, subscription: QueueId, topic: &DestinationName) -> bool {
        let subscription = self.subscriptions.get(&subscription);
        subscription.is_some_and(|subscription| subscription.pattern.matches(topic))
    }

    /// Who gets the messages of these topics has changed.
    fn retarget(&mut self, names: &[DestinationName]) {
        for name in names {
            let targets = self.matching(name);
            let topic = self.by_topic.get(name);
            if let Some(topic) = topic.and_then(|id| self.topics.get_mut(id)) {
                topic.targets = targets;
            }
        }
    }

    /// The topics that a subscription with wildcards matches.
    fn topics_of(&self, subscription: QueueId) -> Vec<DestinationName> {
        let names = self.by_topic.keys();
        let matching = names.filter(|name| self.matches(subscription, name));
        matching.cloned().collect()
    }

    /// Who gets what is published to the topic at this place.
    pub(super) fn targets(&self, topic: QueueId) -> &[QueueId] {
        let topic = self.topics.get(&topic);
        topic.map_or(&[], |topic| topic.targets.as_slice())
    }

    /// Subscriptions to exactly this topic, and queues of the virtual topic of this name.
    pub(crate) fn exactly(&self, topic: &DestinationName) -> impl Iterator<Item = QueueId> + '_ {
        self.exact.get(topic).into_iter().flatten().copied()
    }

    /// How many get what is published to a topic of this name.
    pub(crate) fn matching_count(&self, topic: &DestinationName) -> u32 {
        u32::try_from(self.matching(topic).len()).unwrap_or(u32::MAX)
    }

    /// A queue was made: perhaps it is one of a virtual topic's.
    pub(super) fn queue_made(&mut self, id: QueueId, name: &DestinationName) {
        let topic = virtual_topic(name.as_str()).and_then(|topic| DestinationName::new(topic).ok());
        if let Some(topic) = topic {
            self.readers.extend(reader(id, name.as_str()));
            self.add_exact(id, topic);
        }
    }

    pub(super) fn topic_made(&mut self, id: QueueId, name: DestinationName) {
        let topic = Topic {
            targets: self.matching(&name),
            ..Topic::default()
        };
        self.topics.insert(id, topic);
        self.by_topic.insert(name, id);
    }

    pub(super) fn subscribed(&mut self, id: QueueId, key: DestinationName, kept: Subscription) {
        match kept.pattern.as_name() {
            Some(topic) => self.add_exact(id, topic),
            None => {
                self.patterns.insert(id);
                if stands_for_queues(&key, &kept) {
                    self.standing.extend(reader(id, &kept.name));
                }
                for (name, topic) in &self.by_topic {
                    if kept.pattern.matches(name)
                        && let Some(topic) = self.topics.get_mut(topic)
                    {
                        add_sorted(&mut topic.targets, id);
                    }
                }
            }
        }
        self.by_subscription.insert(key, id);
        self.subscriptions.insert(id, kept);
        if self.standing.contains_key(&id) {
            self.retarget(&self.topics_of(id));
        }
    }

    pub(super) fn unsubscribed(&mut self, id: QueueId, key: &DestinationName) {
        let stood_for = match self.standing.contains_key(&id) {
            true => self.topics_of(id),
            false => Vec::new(),
        };
        self.by_subscription.remove(key);
        self.patterns.remove(&id);
        self.standing.remove(&id);
        self.sifts.remove(&id);
        let ended = self.subscriptions.remove(&id);
        if let Some(topic) = ended.and_then(|ended| ended.pattern.as_name())
            && let Some(ids) = self.exact.get_mut(&topic)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.exact.remove(&topic);
            }
        }
        for topic in self.topics.values_mut() {
            topic.targets.retain(|target| *target != id);
        }
        self.retarget(&stood_for);
        self.free.insert(id);
    }

    /// A queue of no virtual topic is no more.
    pub(super) fn queue_deleted(&mut self, id: QueueId) {
        self.free.insert(id);
    }

    /// A topic is no more. Whoever gets the messages of its name gets those of one made later.
    pub(super) fn topic_deleted(&mut self, id: QueueId, name: &DestinationName) {
        let topic = self.topics.remove(&id);
        let step = topic.and_then(|topic| topic.history.front().copied());
        if let Some(step) = step {
            self.due.remove(&(step.until_ms, id));
        }
        self.by_topic.remove(name);
        self.free.insert(id);
    }

    fn add_exact(&mut self, id: QueueId, topic: DestinationName) {
        if !self.is_stood_for(id, &topic)
            && let Some(known) = self.by_topic.get(&topic).copied()
            && let Some(known) = self.topics.get_mut(&known)
        {
            add_sorted(&mut known.targets, id);
        }
        self.exact.entry(topic).or_default().insert(id);
    }

    /// When a topic keeps something no longer.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Remembers when the oldest step of a topic is due; called when it changes.
    pub(super) fn expect_due(&mut self, id: QueueId) {
        let step = self.topics.get(&id).and_then(|topic| topic.history.front());
        if let Some(step) = step {
            self.due.insert((step.until_ms, id));
        }
    }
}

fn add_sorted(targets: &mut Vec<QueueId>, id: QueueId) {
    if let Err(place) = targets.binary_search(&id) {
        targets.insert(place, id);
    }
}

/// Whether a subscription is what consumers of `Consumer.NAME.PATTERN` share.
fn stands_for_queues(key: &DestinationName, kept: &Subscription) -> bool {
    let is_of_queues = key.as_str().starts_with("queue:");
    is_of_queues && virtual_topic(&kept.name) == Some(kept.pattern.as_str())
}

/// The place of a queue `Consumer.NAME.TOPIC`, or of a pattern of such, with NAME.
fn reader(id: QueueId, name: &str) -> Option<(QueueId, String)> {
    let consumer = name.strip_prefix("Consumer.")?.split('.').next()?;
    Some((id, consumer.to_owned()))
}

impl Topic {
    /// Whether the topic keeps this one for replay.
    fn is_in_history(&self, position: MessagePosition) -> bool {
        self.history
            .front()
            .is_some_and(|step| step.first <= position)
    }
}

impl State {
    /// The place of a destination among the queues.
    pub(crate) fn id_of(&self, destination: &Destination) -> Option<QueueId> {
        match destination.kind {
            DestinationKind::Queue => self.queue_id(&destination.name),
            DestinationKind::Topic => self.topics.topic_id(&destination.name),
            DestinationKind::Subscription => self.topics.subscription_id(&destination.name),
        }
    }

    /// What is known of topics and subscriptions.
    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Makes a destination. None when there are too many.
    pub(super) fn make(
        &mut self,
        destination: &Destination,
        record: &mut Record,
    ) -> Option<QueueId> {
        let name = destination.name.clone();
        let id = match self.topics.free.pop_first() {
            Some(id) => {
                self.queues[id.0 as usize] = Queue::new(destination.kind, name.clone());
                id
            }
            None => {
                let next = u32::try_from(self.queues.len()).ok();
                let id = QueueId(next.filter(|next| *next < self.queues_max)?);
                self.queues.push(Queue::new(destination.kind, name.clone()));
                id
            }
        };
        self.settings.made(id, &name);
        self.relocations.untold(destination, self.applied);
        match destination.kind {
            DestinationKind::Queue => {
                self.by_name.insert(name.clone(), id);
                self.topics.queue_made(id, &name);
            }
            DestinationKind::Topic => self.topics.topic_made(id, name),
            // Whoever makes a subscription says what it is.
            DestinationKind::Subscription => {}
        }
        record.changes.push(Change::Made(id));
        Some(id)
    }

    /// Where what is stored at a place is pending: with a topic, at those that get its messages.
    pub(super) fn targets_of(&self, id: QueueId) -> Vec<QueueId> {
        match self.topics.topics.get(&id) {
            Some(topic) => topic.targets.clone(),
            None => vec![id],
        }
    }

    /// Puts a run of a topic's messages into everything that gets them.
    pub(super) fn fan_out(
        &mut self,
        id: QueueId,
        priority: u8,
        (first, last, bytes): (MessagePosition, MessagePosition, u64),
        record: &mut Record,
    ) {
        let Topics { topics, sifts, .. } = &mut self.topics;
        let Some(topic) = topics.get_mut(&id) else {
            return;
        };
        let is_late = first.entry() != self.applied;
        let count = last.value() - first.value() + 1;
        let has_groups = self.queues[id.0 as usize].has_groups;
        for queue in topic.targets.iter().copied() {
            self.queues[queue.0 as usize].has_groups |= has_groups;
            self.queues[queue.0 as usize].store(priority, (first, last), bytes);
            self.live.added(first.entry(), count);
            if let Some(sift) = sifts.get_mut(&queue).filter(|_| is_late) {
                sift.joined_late(first, last);
            }
            record.changes.push(Change::Stored {
                queue,
                priority,
                first,
                last,
            });
        }
        let kept = &mut self.queues[id.0 as usize];
        let retain_ms = self.settings.of(id).retain_ms;
        if retain_ms == 0 {
            kept.pass(count);
            return;
        }
        kept.store(priority, (first, last), bytes);
        self.live.added(first.entry(), count);
        self.note_step(id, self.stamp_ms, first);
        // What a transaction publishes comes behind later positions: whoever replays these is given it too.
        let steps = self.topics.topics.get_mut(&id).into_iter();
        let steps = steps.flat_map(|topic| topic.history.iter_mut().rev());
        for step in steps.take_while(|step| step.first >= first) {
            step.first = first;
        }
    }

    /// A topic keeps what was published at this time, from `first` on, for replay.
    pub(super) fn note_step(&mut self, id: QueueId, stamp_ms: u64, first: MessagePosition) {
        let until_ms = stamp_ms.saturating_add(self.settings.of(id).retain_ms);
        let Some(topic) = self.topics.topics.get_mut(&id) else {
            return;
        };
        let newest = topic.history.back();
        if newest.is_some_and(|newest| newest.stamp_ms + HISTORY_STEP_MS > stamp_ms) {
            return;
        }
        let is_first = newest.is_none();
        topic.history.push_back(Step {
            stamp_ms,
            first,
            until_ms: until_ms.saturating_add(HISTORY_STEP_MS),
        });
        if is_first {
            self.topics.expect_due(id);
        }
    }

    /// A topic keeps this message in place of the one before, or, if it has no body, none.
    pub(super) fn retain(&mut self, id: QueueId, turn: Turn, (bytes, retention): (u64, Retention)) {
        let clears = retention == Retention::Clear;
        let position = turn.position();
        let Some(topic) = self.topics.topics.get_mut(&id) else {
            return;
        };
        let former = topic.retained.take();
        topic.retained = (!clears).then_some(position);
        let queue = &mut self.queues[id.0 as usize];
        if let Some(former) = former.filter(|former| !topic.is_in_history(*former))
            && queue.remove(former).is_some()
        {
            self.live.removed(former.entry());
        }
        if !clears && !queue.contains(position) {
            queue.keep(turn, bytes);
            self.live.added(position.entry(), 1);
        }
    }

    /// Lets topics forget what they have kept for long enough.
    pub(super) fn forget_history(&mut self) {
        while let Some((until_ms, id)) = self.topics.due.first().copied() {
            if until_ms > self.stamp_ms {
                return;
            }
            self.topics.due.pop_first();
            let Some(topic) = self.topics.topics.get_mut(&id) else {
                continue;
            };
            while topic
                .history
                .front()
                .is_some_and(|step| step.until_ms <= self.stamp_ms)
            {
                topic.history.pop_front();
            }
            let end = topic.history.front().map(|step| step.first);
            let retained = topic.retained;
            let queue = &mut self.queues[id.0 as usize];
            let mut next = queue.first_stored_from(MessagePosition::default());
            while let Some(position) = next.filter(|next| end.is_none_or(|end| *next < end)) {
                if retained != Some(position) && queue.remove(position).is_some() {
                    self.live.removed(position.entry());
                }
                next = queue.first_stored_from(position.next());
            }
            self.topics.expect_due(id);
        }
    }

    /// What a new subscription begins with, and its bytes.
    pub(super) fn first_pending(&self, wanted: &Subscription) -> (Levels, Sizes) {
        let mut first = (Levels::default(), Sizes::default());
        for (name, id) in &self.topics.by_topic {
            if wanted.pattern.matches(name) {
                self.add_kept(*id, wanted, &mut first);
            }
        }
        first
    }

    /// Adds what a topic keeps, as far as it is wanted.
    fn add_kept(&self, id: QueueId, wanted: &Subscription, first: &mut (Levels, Sizes)) {
        let topic = &self.topics.topics[&id];
        let kept = &self.queues[id.0 as usize];
        let (pending, sizes) = first;
        let mut add = |turn: Turn| {
            let position = turn.position();
            if pending.insert(turn.priority(), position, position) > 0 {
                sizes.add(position, 1, kept.sizes.mean_at(position));
            }
        };
        let retained = topic.retained.filter(|_| wanted.wants_retained);
        if let Some(turn) = retained.and_then(|position| kept.turn_of(position)) {
            add(turn);
        }
        let from = match wanted.start {
            Start::Next => None,
            Start::Position(from) => Some(from),
            // A step reaches from its stamp to the next one's: the one before may reach into the time wanted.
            Start::Time(stamp_ms) => {
                let later = topic
                    .history
                    .partition_point(|step| step.stamp_ms <= stamp_ms);
                let step = topic.history.get(later.saturating_sub(1));
                step.map(|step| step.first)
            }
        };
        let oldest = topic.history.front().map(|step| step.first);
        let (Some(from), Some(oldest)) = (from, oldest) else {
            return;
        };
        for turn in kept.in_turn(Turn::default()) {
            if turn.position() >= from.max(oldest) {
                add(turn);
            }
        }
    }
}
