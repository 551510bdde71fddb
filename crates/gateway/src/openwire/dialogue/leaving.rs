//! What ends: consumers, producers, sessions, the connection. What a client had goes back, and an orderly end is answered
//! when it has: whoever opens the same durable subscription next finds it free, and what was sent before is sent.

use std::collections::BTreeSet;

use quorate_message::Settlement;
use quorate_wire::openwire::{RemoveInfo, Removed};

use super::{
    Closing, Dialogue, Effect, Now,
    answering::Asked,
    calls::Role,
    connecting::Phase as ConnectionPhase,
    consumer::{ConsumerKey, Delivered, Phase, Serial},
    exception::Exception,
    sending::ProducerKey,
};
use crate::{
    limits::REMOVAL_MICROS,
    session::{self, CallId, Time},
};

/// An end that is answered when its calls are over.
#[derive(Debug)]
pub(super) struct Removal {
    asked: Asked,
    calls: BTreeSet<CallId>,
    /// Consumers are waited for no longer: a leader that is away is not the client's concern.
    until: Time,
}

impl Dialogue {
    /// Something ends.
    pub(super) fn remove(
        &mut self,
        now: Now,
        info: &RemoveInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let delivered = Delivered::of(info.last_delivered_sequence_id);
        let calls = match &info.object_id {
            Removed::Connection(id) => match self.own(&id.value) {
                Ok(()) => {
                    effects.push(Effect::Vacate);
                    self.remove_all(delivered, effects)
                }
                Err(exception) => return self.refuse(asked, exception, effects),
            },
            Removed::Session(id) => match self.own(&id.connection_id) {
                Ok(()) => self.remove_session(id.value, delivered, effects),
                Err(exception) => return self.refuse(asked, exception, effects),
            },
            Removed::Consumer(id) => {
                let key = ConsumerKey::of(id);
                match self.own(&id.connection_id) {
                    Ok(()) => self.remove_consumer(key, delivered, effects),
                    Err(exception) => return self.refuse(asked, exception, effects),
                }
            }
            Removed::Producer(id) => {
                self.producers.remove(&ProducerKey::of(id));
                BTreeSet::new()
            }
        };
        self.answer_when_over(now, calls, asked, effects);
    }

    fn answer_when_over(
        &mut self,
        now: Now,
        calls: BTreeSet<CallId>,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        if calls.is_empty() || !asked.is_awaited() {
            return Self::done(asked, effects);
        }
        self.removals.push(Removal {
            asked,
            calls,
            until: now.mono.after(REMOVAL_MICROS),
        });
    }

    /// A call is over.
    pub(super) fn call_over(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        for removal in &mut self.removals {
            removal.calls.remove(&call);
        }
        self.answer_removals(effects);
    }

    fn answer_removals(&mut self, effects: &mut Vec<Effect>) {
        for removal in std::mem::take(&mut self.removals) {
            match removal.calls.is_empty() {
                true => Self::done(removal.asked, effects),
                false => self.removals.push(removal),
            }
        }
    }

    /// When the first of them stops to wait for consumers.
    pub(super) fn removal_deadline(&self) -> Option<Time> {
        let is_publishing =
            |call: &CallId| matches!(self.calls.role(*call), Some(Role::Publishing));
        let waiting = self.removals.iter();
        let waiting = waiting.filter(|removal| !removal.calls.iter().all(is_publishing));
        waiting.map(|removal| removal.until).min()
    }

    pub(super) fn removals_elapsed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let calls = &self.calls;
        for removal in &mut self.removals {
            if removal.until <= now.mono {
                let is_publishing = |call| matches!(calls.role(call), Some(Role::Publishing));
                removal.calls.retain(|call| is_publishing(*call));
            }
        }
        self.answer_removals(effects);
    }

    /// Everything of the connection ends. Returns the calls that are to be waited for.
    fn remove_all(&mut self, delivered: Delivered, effects: &mut Vec<Effect>) -> BTreeSet<CallId> {
        for number in self.transactions.keys().copied().collect::<Vec<_>>() {
            self.roll_back(number, effects);
        }
        let mut calls = BTreeSet::new();
        for session in std::mem::take(&mut self.sessions) {
            calls.extend(self.remove_session(session, delivered, effects));
        }
        self.remove_temporaries(effects);
        if let Some(publisher) = self.publisher.take_if(|publisher| publisher.is_idle()) {
            self.end(publisher.call, effects);
        }
        if let Some(publisher) = &self.publisher {
            calls.insert(publisher.call);
            let call = publisher.call;
            effects.push(Effect::Tell(session::Input::Finished { call }));
        }
        calls
    }

    fn remove_session(
        &mut self,
        session: i64,
        delivered: Delivered,
        effects: &mut Vec<Effect>,
    ) -> BTreeSet<CallId> {
        self.sessions.remove(&session);
        self.producers.retain(|key, _| key.session != session);
        let consumers = self.names.keys().chain(self.browsers.keys());
        let consumers = consumers.copied().chain(self.advisories.keys());
        let consumers: Vec<_> = consumers.filter(|key| key.session == session).collect();
        let calls = consumers
            .into_iter()
            .flat_map(|key| self.remove_consumer(key, delivered, effects));
        calls.collect()
    }

    /// A client's consumer ends. Returns its calls that are to be waited for.
    pub(super) fn remove_consumer(
        &mut self,
        key: ConsumerKey,
        delivered: Delivered,
        effects: &mut Vec<Effect>,
    ) -> BTreeSet<CallId> {
        self.stop_browsing(key, effects);
        self.advisories.remove(key);
        let legs = self.names.remove(&key).unwrap_or_default().into_iter();
        legs.filter_map(|serial| self.leave(serial, delivered, effects))
            .collect()
    }

    /// A consumer without a name is closed: what its client has and no transaction acknowledged goes back. Returns its
    /// call, if that is to be waited for.
    fn leave(
        &mut self,
        serial: Serial,
        delivered: Delivered,
        effects: &mut Vec<Effect>,
    ) -> Option<CallId> {
        let consumer = self.consumers.get_mut(&serial)?;
        consumer.pull = None;
        let call = consumer.call;
        let phase = std::mem::replace(&mut consumer.phase, Phase::Leaving(delivered));
        if let Phase::Opening(waiting) = phase {
            for asked in waiting {
                let exception = Exception::jms("the consumer was closed before it was open");
                self.refuse(asked, exception, effects);
            }
        }
        self.give_back(serial, effects);
        let is_over = self.finish_if_empty(serial, effects);
        is_over.then_some(call)
    }

    /// Gives back what a leaving consumer was sent and no transaction has.
    pub(super) fn give_back(&mut self, serial: Serial, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.consumers.get(&serial) else {
            return;
        };
        let Phase::Leaving(delivered) = consumer.phase else {
            return;
        };
        let unclaimed = consumer.window.unclaimed();
        let (failed, unseen): (Vec<u64>, Vec<u64>) = unclaimed
            .into_iter()
            .partition(|sequence| delivered.has_failed(*sequence));
        self.settle_sequences(serial, Settlement::Return, &failed, effects);
        self.settle_sequences(serial, Settlement::Release, &unseen, effects);
    }

    /// A leaving consumer that has nothing left ends. True if it does.
    pub(super) fn finish_if_empty(&mut self, serial: Serial, effects: &mut Vec<Effect>) -> bool {
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return false;
        };
        let is_leaving = matches!(consumer.phase, Phase::Leaving(_));
        if !is_leaving || !consumer.window.is_empty() {
            return false;
        }
        if consumer.is_waiting() {
            self.consumers.remove(&serial);
            return false;
        }
        if !std::mem::replace(&mut consumer.is_finished, true) {
            let call = consumer.call;
            effects.push(Effect::Tell(session::Input::Finished { call }));
        }
        true
    }

    /// The connection is over, in whatever way. Everything goes back, nothing is waited for.
    pub(super) fn close(&mut self, closing: Closing, effects: &mut Vec<Effect>) {
        if matches!(self.phase, ConnectionPhase::Over) {
            return;
        }
        for number in self.transactions.keys().copied().collect::<Vec<_>>() {
            // Nobody is there to be told that a commit failed, and it may succeed.
            if let Some(transaction) = self.transactions.get_mut(&number) {
                transaction.forget_asked();
            }
            self.roll_back(number, effects);
        }
        for serial in self.consumers.keys().copied().collect::<Vec<_>>() {
            if let Some(consumer) = self.consumers.get_mut(&serial)
                && !matches!(consumer.phase, Phase::Leaving(_))
            {
                consumer.phase = Phase::Leaving(Delivered::Unknown);
            }
            self.give_back(serial, effects);
        }
        for key in self.browsers.keys().copied().collect::<Vec<_>>() {
            self.stop_browsing(key, effects);
        }
        self.remove_temporaries(effects);
        self.removals.clear();
        for call in self.calls.open() {
            self.end(call, effects);
        }
        self.consumers.clear();
        self.names.clear();
        self.publisher = None;
        self.phase = ConnectionPhase::Over;
        effects.push(Effect::Close(closing));
    }
}
