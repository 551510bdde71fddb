//! Consumers that hang: who holds a message for longer than the settings of its queue allow, without a word about it,
//! is ended. What it held too long counts as failed with, the rest goes back as it was.
//!
//! The gateway measures, from the moment at which it hands a message to the client's connection. It owns its consumers
//! and outlives every change of leader; a client that comes back to another gateway has its time anew there.

use quorate_message::{QueueSettings, Settlement};

use super::{
    consumer::{Consumer, Phase},
    core::Core,
    effect::{Effect, Failure, Note},
    ids::{CallId, Time},
    input::Topology,
    subscribing::Admission,
    unopened::Unopened,
};
use crate::limits::{LOOK_MICROS_MIN, LOOKS_IN_TIMEOUT};

impl Core {
    /// Takes newer settings.
    pub(super) fn govern(&mut self, now: Time, told: &Topology) {
        let Some(newer) = &told.settings else { return };
        if newer.version() <= self.settings.version() {
            return;
        }
        self.settings = newer.clone();
        for call in self.consumers.keys().copied().collect::<Vec<_>>() {
            let patience = self.consumers.get(&call).and_then(|c| self.patience(c));
            if let Some(consumer) = self.consumers.get_mut(&call) {
                consumer.patience_micros = patience;
                if let Some(at) = consumer.looked_at.take() {
                    self.looks.remove(&(at, call));
                }
            }
            self.look_later(now, call);
        }
    }

    /// What holds for a consumer's queue, or for all topics of its subscription.
    fn settings_of(&self, consumer: &Consumer) -> QueueSettings {
        match &consumer.admission {
            Admission::Free | Admission::Register => self.settings.of(&consumer.queue.name),
            Admission::Subscribe(subscription) => match subscription.pattern.as_name() {
                Some(topic) => self.settings.of(&topic),
                None => self.settings.of_pattern(&subscription.pattern),
            },
        }
    }

    /// How long a consumer may hold a message, in microseconds.
    pub(super) fn patience(&self, consumer: &Consumer) -> Option<u64> {
        let millis = self.settings_of(consumer).ack_timeout_ms;
        (millis > 0).then_some(millis.saturating_mul(1_000))
    }

    /// Sees to it that a consumer that holds something is looked at in time.
    pub(super) fn look_later(&mut self, now: Time, call: CallId) {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        let Some(patience) = consumer.patience_micros else {
            return;
        };
        if consumer.looked_at.is_some() || consumer.phase != Phase::Open {
            return;
        }
        if let Some(oldest) = consumer.oldest_unsettled() {
            // Consumers that settle well are looked at some times per time-out, however many messages pass.
            let soon = now.after((patience / LOOKS_IN_TIMEOUT).max(LOOK_MICROS_MIN));
            let at = oldest.after(patience).max(soon);
            consumer.looked_at = Some(at);
            self.looks.insert((at, call));
        }
    }

    /// When a consumer is looked at.
    pub(super) fn next_look(&self) -> Option<Time> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// A consumer is gone.
    pub(super) fn look_no_more(&mut self, consumer: &Consumer) {
        if let Some(at) = consumer.looked_at {
            self.looks.remove(&(at, consumer.call));
        }
    }

    /// Looks at the consumers whose time it is.
    pub(super) fn look_at_consumers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some((at, call)) = self.looks.first().copied()
            && at <= now
        {
            self.looks.pop_first();
            let Some(consumer) = self.consumers.get_mut(&call) else {
                continue;
            };
            consumer.looked_at = None;
            let patience = consumer.patience_micros;
            let until = patience.and_then(|patience| now.0.checked_sub(patience).map(Time));
            let overdue = until.map_or_else(Vec::new, |until| consumer.unsettled_since(until));
            // What its client has settled already waits to be sent.
            let keeps = self
                .unopened
                .get(&call)
                .is_some_and(Unopened::keeps_requests);
            let is_open = consumer.phase == Phase::Open && !keeps;
            if let Some(position) = overdue.first().copied().filter(|_| is_open) {
                let failure = Failure::Hangs {
                    queue: consumer.queue.clone(),
                    position: (consumer.shard, position),
                    patience_ms: patience.unwrap_or_default() / 1_000,
                };
                effects.push(Effect::Note(Note::Hung {
                    shard: consumer.shard,
                    messages: overdue.len(),
                }));
                self.give_back(call, Settlement::Return, &overdue);
                self.fail(call, failure, effects);
            } else {
                self.look_later(now, call);
            }
        }
    }
}
