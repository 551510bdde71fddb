//! Advisories, as far as clients depend on them: which temporary destinations there are. A client sends to none that it
//! was not told of.
//!
//! A client hears of another one's temporary destination when its gateway does, and at the latest right before the first
//! message that asks for an answer there. It hears that one is gone when its gateway does, or when so many others were told
//! since that its own memory of them would grow too large. Consumers of other advisories are admitted and hear nothing.

use std::collections::BTreeMap;

use quorate_message::{DestinationName, Pattern};
use quorate_wire::openwire::{
    Command, ConnectionId, ConsumerId, ConsumerInfo, Destination, DestinationInfo,
    DestinationOperation, Header, Map, Message, MessageDispatch, MessageId, ProducerId, Structure,
    Topic, Value,
};

use super::{Dialogue, Effect, Now, consumer::ConsumerKey};
use crate::{limits::TOLD_MAX, openwire::translate};

/// What advisory topics begin with.
const PREFIX: &str = "ActiveMQ.Advisory.";

/// Where clients hear of temporary queues.
const QUEUES: &str = "ActiveMQ.Advisory.TempQueue";

/// Where clients hear of temporary topics.
const TOPICS: &str = "ActiveMQ.Advisory.TempTopic";

/// Who listens, and what they were told.
#[derive(Debug, Default)]
pub(super) struct Advisories {
    listeners: BTreeMap<ConsumerKey, Listener>,
    /// Temporary destinations of others, in the order in which they became known.
    told: BTreeMap<u64, Destination>,
    /// The same, to be found.
    known: BTreeMap<Destination, u64>,
    next_told: u64,
    /// Counts advisories.
    sequence: i64,
}

#[derive(Debug)]
struct Listener {
    id: ConsumerId,
    patterns: Vec<Pattern>,
    no_local: bool,
}

impl Listener {
    fn hears(&self, topic: &str) -> bool {
        let name = DestinationName::new(topic);
        name.is_ok_and(|name| self.patterns.iter().any(|pattern| pattern.matches(&name)))
    }
}

impl Advisories {
    pub(super) fn consumers(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn has(&self, key: ConsumerKey) -> bool {
        self.listeners.contains_key(&key)
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) {
        self.listeners.remove(&key);
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ConsumerKey> {
        self.listeners.keys().copied()
    }

    /// Whoever hears of a temporary destination, and where.
    fn listeners_of(&self, destination: &Destination) -> (&'static str, Vec<(ConsumerId, bool)>) {
        let topic = topic_of(destination);
        let listeners = self.listeners.values();
        let listeners = listeners.filter(|listener| listener.hears(topic));
        let listeners = listeners.map(|listener| (listener.id.clone(), listener.no_local));
        (topic, listeners.collect())
    }
}

/// Whether a consumer of this destination hears what the broker tells of itself, and nothing else.
pub(super) fn is_advisory(destination: &Destination) -> bool {
    match destination {
        Destination::Topic(topic) => parts(topic).all(|part| part.starts_with(PREFIX)),
        Destination::Queue(_) | Destination::TempQueue(_) | Destination::TempTopic(_) => false,
    }
}

fn parts(topic: &Topic) -> impl Iterator<Item = &str> {
    let parts = topic.physical_name.split(',').map(str::trim);
    parts.map(|part| part.strip_prefix("topic://").unwrap_or(part))
}

fn topic_of(destination: &Destination) -> &'static str {
    match destination {
        Destination::TempTopic(_) | Destination::Topic(_) => TOPICS,
        Destination::TempQueue(_) | Destination::Queue(_) => QUEUES,
    }
}

impl Dialogue {
    /// A consumer of advisories is told what is there.
    pub(super) fn subscribe_to_advisories(
        &mut self,
        now: Now,
        info: &ConsumerInfo,
        effects: &mut Vec<Effect>,
    ) {
        let Destination::Topic(topic) = &info.destination else {
            return;
        };
        let listener = Listener {
            id: info.consumer_id.clone(),
            patterns: parts(topic)
                .filter_map(|part| Pattern::new(part).ok())
                .collect(),
            no_local: info.no_local,
        };
        let own = self.temporaries.own().filter(|_| !info.no_local);
        let there: Vec<Destination> = own.chain(self.advisories.told.values()).cloned().collect();
        for destination in there.iter().filter(|there| listener.hears(topic_of(there))) {
            let to = (topic_of(destination), &listener.id);
            self.advise(now, to, (destination, DestinationOperation::Add), effects);
        }
        let key = ConsumerKey::of(&info.consumer_id);
        self.advisories.listeners.insert(key, listener);
    }

    /// A message that is about to be dispatched asks for an answer there.
    pub(super) fn tell_of_temporary(
        &mut self,
        now: Now,
        destination: &Destination,
        effects: &mut Vec<Effect>,
    ) {
        let is_temporary = match destination {
            Destination::TempQueue(_) | Destination::TempTopic(_) => true,
            Destination::Queue(_) | Destination::Topic(_) => false,
        };
        // Whoever listens later is told then.
        let is_heard = self.advisories.consumers() > 0;
        if is_temporary && is_heard {
            self.learn(now, destination, effects);
        }
    }

    /// The gateway heard that another connection made a temporary destination, or removed it.
    pub(super) fn announced(
        &mut self,
        now: Now,
        (destination, is_there): (&Destination, bool),
        effects: &mut Vec<Effect>,
    ) {
        match is_there {
            true => self.learn(now, destination, effects),
            false => self.forget(now, destination, effects),
        }
    }

    fn learn(&mut self, now: Now, destination: &Destination, effects: &mut Vec<Effect>) {
        let owner = translate::owner(destination.name());
        let is_own = owner.is_some_and(|owner| owner == self.connection_id);
        if is_own || self.advisories.known.contains_key(destination) {
            return;
        }
        if self.advisories.told.len() >= TOLD_MAX
            && let Some((_, oldest)) = self.advisories.told.pop_first()
        {
            self.forget(now, &oldest, effects);
        }
        let advisories = &mut self.advisories;
        let at = advisories.next_told;
        advisories.next_told += 1;
        advisories.told.insert(at, destination.clone());
        advisories.known.insert(destination.clone(), at);
        self.advise_all(
            now,
            (destination, DestinationOperation::Add),
            |_| true,
            effects,
        );
    }

    fn forget(&mut self, now: Now, destination: &Destination, effects: &mut Vec<Effect>) {
        if let Some(at) = self.advisories.known.remove(destination) {
            self.advisories.told.remove(&at);
            let what = (destination, DestinationOperation::Remove);
            self.advise_all(now, what, |_| true, effects);
        }
    }

    /// The connection itself made a temporary destination, or removed it.
    pub(super) fn tell_of_own(
        &mut self,
        now: Now,
        destination: &Destination,
        operation: DestinationOperation,
        effects: &mut Vec<Effect>,
    ) {
        let wants_own = |no_local: bool| !no_local;
        self.advise_all(now, (destination, operation), wants_own, effects);
    }

    fn advise_all(
        &mut self,
        now: Now,
        what: (&Destination, DestinationOperation),
        is_wanted: impl Fn(bool) -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let (topic, listeners) = self.advisories.listeners_of(what.0);
        for (id, _) in listeners
            .iter()
            .filter(|(_, no_local)| is_wanted(*no_local))
        {
            self.advise(now, (topic, id), what, effects);
        }
    }

    fn advise(
        &mut self,
        now: Now,
        (topic, consumer): (&str, &ConsumerId),
        (destination, operation): (&Destination, DestinationOperation),
        effects: &mut Vec<Effect>,
    ) {
        let message = self.advisory(now, (topic, consumer), (destination, operation));
        effects.push(Effect::Say(Command::MessageDispatch(MessageDispatch {
            header: Header::default(),
            consumer_id: consumer.clone(),
            destination: Some(message.destination.clone()),
            message: Some(Box::new(message)),
            redelivery_counter: 0,
        })));
    }

    fn advisory(
        &mut self,
        now: Now,
        (topic, consumer): (&str, &ConsumerId),
        (destination, operation): (&Destination, DestinationOperation),
    ) -> Message {
        self.advisories.sequence += 1;
        let producer_id = ProducerId {
            connection_id: format!(
                "{}:advisories:{}",
                self.config.broker_id, self.connection_id
            ),
            value: 1,
            session_id: 1,
        };
        let owner = translate::owner(destination.name()).map(|value| ConnectionId {
            value: value.to_owned(),
        });
        let told = DestinationInfo {
            header: Header::default(),
            connection_id: owner,
            destination: destination.clone(),
            operation,
            timeout: 0,
            broker_path: None,
        };
        let now_ms = i64::try_from(now.wall_ms).unwrap_or(i64::MAX);
        let id = MessageId {
            text_view: None,
            producer_id,
            producer_sequence_id: self.advisories.sequence,
            broker_sequence_id: 0,
        };
        let topic = Topic {
            physical_name: topic.to_owned(),
        };
        Message {
            priority: 0,
            timestamp: now_ms,
            jms_type: Some("Advisory".to_owned()),
            marshalled_properties: self.origin().encode().ok(),
            data_structure: Some(Structure::Command(Box::new(Command::DestinationInfo(told)))),
            target_consumer_id: Some(consumer.clone()),
            broker_in_time: now_ms,
            broker_out_time: now_ms,
            ..Message::new(id, topic.into())
        }
    }

    /// Which broker says so.
    fn origin(&self) -> Map {
        let mut origin = Map::new();
        for (name, text) in [
            ("originBrokerId", &self.config.broker_id),
            ("originBrokerName", &self.config.broker_name),
            ("originBrokerURL", &self.config.broker_url),
        ] {
            origin.push(name, Value::Text(text.clone()));
        }
        origin
    }
}
