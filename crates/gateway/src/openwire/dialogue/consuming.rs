//! Consumers begin, are opened, get credit, change their prefetch.

use quorate_message::{Destination as Source, MessagePosition, Selector, Subscription, Terms};
use quorate_wire::openwire::{
    Command, ConsumerControl, ConsumerId, ConsumerInfo, Destination, Header, Queue, Topic,
};

use super::{
    Closing, Dialogue, Effect, Now,
    answering::Asked,
    calls::Role,
    consumer::{Consumer, ConsumerKey, Delivered, Phase, Serial, Window, share},
    exception::Exception,
    reopening::Reopening,
    sending::is_unserved,
    telling::is_advisory,
};
use crate::{
    limits::CREDIT_BYTES_MAX,
    openwire::translate,
    session::{self, Credit, Failure, OpenConsumer, ShardId},
    source::{self, Wanted},
};

impl Dialogue {
    /// A consumer begins, or says so again.
    pub(super) fn add_consumer(
        &mut self,
        now: Now,
        info: &ConsumerInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let id = &info.consumer_id;
        let key = ConsumerKey::of(id);
        let admitted = self
            .own(&id.connection_id)
            .and_then(|()| self.add_session(id.session_id));
        if let Err(exception) = admitted {
            return self.refuse(asked, exception, effects);
        }
        if self.names.contains_key(&key) {
            return self.done_when_open(key, vec![asked], effects);
        }
        if self.browsers.contains_key(&key) || self.advisories.has(key) {
            return Self::done(asked, effects);
        }
        if let Err(exception) = self.has_room_for_consumer() {
            return self.refuse(asked, exception, effects);
        }
        if is_advisory(&info.destination) {
            Self::done(asked, effects);
            return self.subscribe_to_advisories(now, info, effects);
        }
        if info.browser {
            return self.browse(info, asked, effects);
        }
        match self.openings(now, info) {
            Ok(openings) => {
                let legs = openings.into_iter();
                let legs = legs.map(|opening| self.open(now, info, opening, effects));
                let legs = legs.collect();
                self.names.insert(key, legs);
                self.done_when_open(key, vec![asked], effects);
            }
            Err(exception) => self.refuse(asked, exception, effects),
        }
    }

    /// Answers when each of a consumer's destinations is attached.
    fn done_when_open(&mut self, key: ConsumerKey, asked: Vec<Asked>, effects: &mut Vec<Effect>) {
        for serial in self.names.get(&key).into_iter().flatten() {
            let consumer = self.consumers.get_mut(serial);
            if let Some(Phase::Opening(waiting)) = consumer.map(|consumer| &mut consumer.phase) {
                return waiting.extend(asked);
            }
        }
        for asked in asked {
            Self::done(asked, effects);
        }
    }

    /// What the session machine is asked for, for each of the destinations.
    fn openings(&self, now: Now, info: &ConsumerInfo) -> Result<Vec<Opening>, Exception> {
        self.may_consume(&info.destination)?;
        let sources = translate::sources(&info.destination)
            .map_err(|error| Exception::destination(error.to_string()))?;
        if sources.len() > 1 && info.subscription_name.is_some() {
            return Err(Exception::destination(
                "a durable subscription is of one topic, or of a pattern; make one for each",
            ));
        }
        let legs = sources.iter().enumerate();
        let legs = legs.map(|(leg, read)| {
            Ok(Opening {
                open: self.opening(now, info, (read, leg))?,
                prefetch: share(info.prefetch_size, sources.len(), leg),
                destination: match sources.len() {
                    1 => info.destination.clone(),
                    _ => destination_of(read),
                },
            })
        });
        legs.collect()
    }

    fn opening(
        &self,
        now: Now,
        info: &ConsumerInfo,
        (read, leg): (&translate::Source, usize),
    ) -> Result<OpenConsumer, Exception> {
        let consumer = match leg {
            0 => translate::consumer_id(&info.consumer_id),
            _ => {
                let text = format!("openwire consumer {} leg {leg}", info.consumer_id);
                quorate_message::ConsumerId(translate::hash16(&text))
            }
        };
        let (queue, subscription) = self.source_of(info, read, consumer)?;
        let selector = selector(info)?;
        let is_subscriptions = subscription.as_ref();
        let is_subscriptions = is_subscriptions.is_some_and(Subscription::has_selector);
        Ok(OpenConsumer {
            consumer,
            queue,
            subscription: subscription.map(Box::new),
            held: Vec::new(),
            terms: Terms {
                selector: selector.filter(|_| !is_subscriptions),
                is_exclusive: info.exclusive,
                priority: info.priority,
                ..Terms::default()
            },
            credit: Credit {
                messages: 0,
                bytes: CREDIT_BYTES_MAX,
            },
            wall_micros: now.wall_ms.saturating_mul(1_000),
        })
    }

    fn source_of(
        &self,
        info: &ConsumerInfo,
        read: &translate::Source,
        consumer: quorate_message::ConsumerId,
    ) -> Result<(Source, Option<Subscription>), Exception> {
        let at = match read {
            translate::Source::Queue(name) => format!("queue://{name}"),
            translate::Source::Queues(pattern) => format!("queue://{}", pattern.as_str()),
            translate::Source::Topic(pattern) => format!("topic://{}", pattern.as_str()),
        };
        let mut wanted = Wanted::new(&at);
        if let translate::Source::Topic(_) = read {
            wanted.selector = info.selector.as_deref().unwrap_or_default();
            wanted.wants_retained = info.retroactive;
            if let Some(name) = &info.subscription_name {
                let client_id = info.client_id.as_deref().or(self.client_id.as_deref());
                wanted.is_durable = true;
                wanted.subscription = name;
                wanted.client_id = client_id.unwrap_or_default();
                if wanted.client_id.is_empty() {
                    return Err(Exception::client_id(
                        "a durable subscription belongs to a client; set the connection's client id",
                    ));
                }
            }
        }
        source::source(&wanted, consumer).map_err(Exception::destination)
    }

    /// Only the connection that made a temporary destination consumes from it.
    fn may_consume(&self, destination: &Destination) -> Result<(), Exception> {
        match destination {
            Destination::Queue(_) | Destination::Topic(_) => Ok(()),
            Destination::TempQueue(_) | Destination::TempTopic(_) => {
                let owner = translate::owner(destination.name());
                match owner.is_none_or(|owner| owner == self.connection_id) {
                    true => Ok(()),
                    false => Err(Exception::destination(format!(
                        "temporary destination {} is another connection's; only that one consumes from it",
                        destination.name()
                    ))),
                }
            }
        }
    }

    fn open(
        &mut self,
        now: Now,
        info: &ConsumerInfo,
        opening: Opening,
        effects: &mut Vec<Effect>,
    ) -> Serial {
        let Opening {
            mut open,
            prefetch,
            destination,
        } = opening;
        let serial = Serial(self.serial());
        let call = self.begin(Role::Consuming(serial), effects);
        let mut window = Window::new(prefetch);
        if let Some(credit) = window.lend(false) {
            open.credit.messages = credit.messages;
        }
        let consumer = Consumer {
            id: info.consumer_id.clone(),
            stored_id: open.consumer,
            call,
            source: open.queue.clone(),
            destination,
            no_local: info.no_local,
            phase: Phase::Opening(Vec::new()),
            window,
            pull: None,
            is_finished: false,
            reopening: Reopening::of(now, &open),
        };
        self.consumers.insert(serial, consumer);
        effects.push(Effect::Tell(session::Input::Consume { call, open }));
        serial
    }

    /// A consumer is attached, for the first time or anew.
    pub(super) fn opened(
        &mut self,
        now: Now,
        serial: Serial,
        lost: &[(ShardId, MessagePosition)],
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return;
        };
        consumer.window.lose(lost);
        if let Phase::Opening(waiting) = &mut consumer.phase {
            let waiting = std::mem::take(waiting);
            consumer.phase = Phase::Open;
            consumer.reopening = None;
            consumer.begin_to_wait(now);
            let key = ConsumerKey::of(&consumer.id);
            self.done_when_open(key, waiting, effects);
        }
        self.lend(serial, effects);
        self.finish_if_empty(serial, effects);
    }

    /// Lends as much credit as there is room for.
    pub(super) fn lend(&mut self, serial: Serial, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return;
        };
        if consumer.is_waiting() || matches!(consumer.phase, Phase::Leaving(_)) {
            return;
        }
        if let Some(credit) = consumer.window.lend(consumer.pull.is_some()) {
            let call = consumer.call;
            effects.push(Effect::Tell(session::Input::Credited { call, credit }));
        }
    }

    /// A client changes a consumer's prefetch, or ends it.
    pub(super) fn control_consumer(
        &mut self,
        control: &ConsumerControl,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        Self::done(asked, effects);
        let Some(id) = &control.consumer_id else {
            return;
        };
        let legs = self.named(id);
        if control.close && !legs.is_empty() {
            self.remove_consumer(ConsumerKey::of(id), Delivered::Unknown, effects);
            return;
        }
        for (leg, serial) in legs.iter().enumerate() {
            if let Some(consumer) = self.consumers.get_mut(serial) {
                let prefetch = share(control.prefetch, legs.len(), leg);
                consumer.window.set_prefetch(prefetch);
            }
            self.lend(*serial, effects);
        }
    }

    /// The consumer of this id: one for each of its destinations.
    pub(super) fn named(&self, id: &ConsumerId) -> Vec<Serial> {
        let is_own = id.connection_id == self.connection_id;
        let legs = self.names.get(&ConsumerKey::of(id)).filter(|_| is_own);
        legs.cloned().unwrap_or_default()
    }

    /// The session machine ended a consumer. What the client has of it has gone back already.
    pub(super) fn consumer_failed(
        &mut self,
        now: Now,
        serial: Serial,
        failure: &Failure,
        effects: &mut Vec<Effect>,
    ) {
        if self.try_again(now, serial, failure) {
            return;
        }
        let Some(consumer) = self.consumers.remove(&serial) else {
            return;
        };
        let mut waiting = match consumer.phase {
            Phase::Leaving(_) => return,
            Phase::Opening(waiting) => waiting,
            Phase::Open => Vec::new(),
        };
        let exception = Exception::of_failure(failure);
        if is_unserved(failure) {
            self.complain(exception, effects);
            return self.close(Closing::Unserved, effects);
        }
        // With one of its destinations the whole consumer ends.
        let key = ConsumerKey::of(&consumer.id);
        for serial in self.names.get(&key).into_iter().flatten() {
            let other = self.consumers.get_mut(serial);
            if let Some(Phase::Opening(others)) = other.map(|other| &mut other.phase) {
                waiting.append(others);
            }
        }
        self.remove_consumer(key, Delivered::Unknown, effects);
        if waiting.is_empty() {
            self.complain(exception, effects);
            effects.push(Effect::Say(Command::ConsumerControl(close_of(
                &consumer.id,
            ))));
            return;
        }
        for asked in waiting {
            self.refuse(asked, exception.clone(), effects);
        }
    }
}

/// What one of a consumer's destinations is opened with.
struct Opening {
    open: OpenConsumer,
    prefetch: i32,
    destination: Destination,
}

/// One of the destinations of a composite.
fn destination_of(read: &translate::Source) -> Destination {
    match read {
        translate::Source::Queue(name) => translate::destination_of(&Source::queue(name.clone())),
        translate::Source::Queues(pattern) => Destination::Queue(Queue {
            physical_name: pattern.as_str().to_owned(),
        }),
        translate::Source::Topic(pattern) => match pattern.as_name() {
            Some(name) => translate::destination_of(&Source::topic(name)),
            None => Destination::Topic(Topic {
                physical_name: pattern.as_str().to_owned(),
            }),
        },
    }
}

/// Tells a client that its consumer is closed.
fn close_of(id: &ConsumerId) -> ConsumerControl {
    ConsumerControl {
        header: Header::default(),
        destination: None,
        close: true,
        consumer_id: Some(id.clone()),
        prefetch: 0,
        flush: false,
        start: false,
        stop: false,
    }
}

/// Which messages a consumer wants.
pub(super) fn selector(info: &ConsumerInfo) -> Result<Option<Selector>, Exception> {
    let text = info.selector.as_deref().unwrap_or_default();
    Selector::parse_optional(text).map_err(|error| Exception::selector(error.to_string()))
}
