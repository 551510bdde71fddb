//! Consumers begin, are opened, get credit, change their prefetch.

use quorate_message::{Destination as Source, MessagePosition, Selector, Subscription, Terms};
use quorate_wire::openwire::{
    Command, ConsumerControl, ConsumerId, ConsumerInfo, Destination, Header,
};

use super::{
    Closing, Dialogue, Effect, Now,
    answering::Asked,
    calls::Role,
    consumer::{Consumer, ConsumerKey, Delivered, Phase, Serial, Window},
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
        if let Some(serial) = self.names.get(&key) {
            let consumer = self.consumers.get_mut(serial);
            return match consumer.map(|consumer| &mut consumer.phase) {
                Some(Phase::Opening(waiting)) => waiting.push(asked),
                Some(Phase::Open | Phase::Leaving(_)) | None => Self::done(asked, effects),
            };
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
        match self.opening(now, info) {
            Ok(open) => self.open(now, (info, open), asked, effects),
            Err(exception) => self.refuse(asked, exception, effects),
        }
    }

    /// What the session machine is asked for.
    fn opening(&self, now: Now, info: &ConsumerInfo) -> Result<OpenConsumer, Exception> {
        let consumer = translate::consumer_id(&info.consumer_id);
        let (queue, subscription) = self.source_of(info, consumer)?;
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
        consumer: quorate_message::ConsumerId,
    ) -> Result<(Source, Option<Subscription>), Exception> {
        self.may_consume(&info.destination)?;
        let sources = translate::sources(&info.destination)
            .map_err(|error| Exception::destination(error.to_string()))?;
        let [read] = &sources[..] else {
            return Err(Exception::destination(format!(
                "consumer of {} destinations at once; open a consumer for each of {:?}",
                sources.len(),
                info.destination.name()
            )));
        };
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
        (info, mut open): (&ConsumerInfo, OpenConsumer),
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let serial = Serial(self.serial());
        let call = self.begin(Role::Consuming(serial), effects);
        let mut window = Window::new(info.prefetch_size);
        if let Some(credit) = window.lend(false) {
            open.credit.messages = credit.messages;
        }
        let consumer = Consumer {
            id: info.consumer_id.clone(),
            stored_id: open.consumer,
            call,
            source: open.queue.clone(),
            destination: info.destination.clone(),
            no_local: info.no_local,
            phase: Phase::Opening(vec![asked]),
            window,
            pull: None,
            is_finished: false,
            reopening: Reopening::of(now, &open),
        };
        self.consumers.insert(serial, consumer);
        self.names
            .insert(ConsumerKey::of(&info.consumer_id), serial);
        effects.push(Effect::Tell(session::Input::Consume { call, open }));
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
            for asked in std::mem::take(waiting) {
                Self::done(asked, effects);
            }
            consumer.phase = Phase::Open;
            consumer.reopening = None;
            consumer.begin_to_wait(now);
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
        let Some(serial) = control.consumer_id.as_ref().and_then(|id| self.named(id)) else {
            return;
        };
        if control.close {
            self.leave(serial, Delivered::Unknown, effects);
            return;
        }
        if let Some(consumer) = self.consumers.get_mut(&serial) {
            consumer.window.set_prefetch(control.prefetch);
        }
        self.lend(serial, effects);
    }

    /// The consumer of this id.
    pub(super) fn named(&self, id: &ConsumerId) -> Option<Serial> {
        let is_own = id.connection_id == self.connection_id;
        let serial = self.names.get(&ConsumerKey::of(id)).copied();
        serial.filter(|_| is_own)
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
        self.names.retain(|_, named| *named != serial);
        let waiting = match consumer.phase {
            Phase::Leaving(_) => return,
            Phase::Opening(waiting) => waiting,
            Phase::Open => Vec::new(),
        };
        let exception = Exception::of_failure(failure);
        if is_unserved(failure) {
            self.complain(exception, effects);
            return self.close(Closing::Unserved, effects);
        }
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
