//! Consumers: they take messages of a queue or a subscription, settle, give back, reject, hang and die.

use std::collections::{BTreeMap, VecDeque};

use quorate_broker::Terms;
use quorate_gateway::session::{
    CallId, Credit, Input, OpenConsumer, Outcome, ShardId, StoredDelivery,
};
use quorate_message::{
    ConsumerId, Destination, Lifetime, MessagePosition, Settlement, Subscription, subscription_key,
};

use super::transactor::Transactor;
use super::{Client, Role};
use crate::checker::history::{self, Record};
use crate::cluster::Cluster;
use crate::cluster::content::{Named, name, named};
use crate::cluster::handover::Arrival;
use crate::cluster::owners::Took;
use crate::schedule::Moment;

/// Credit of a consumer in messages.
const PREFETCH: u64 = 12;
/// Bits below the epoch in the position of a non-persistent message.
const TRANSIENT_COUNT_BITS: u32 = 40;
/// A live subscriber that was away for so long may have missed something; less than the broker keeps it for.
const LIVE_US: u64 = 10_000_000;

/// Where a consumer reads.
#[derive(Clone, Debug)]
pub(in crate::cluster) enum Source {
    /// A queue.
    Queue(String),
    /// A subscription; the number is that of the subscriber in the cluster's list.
    Subscription(Box<Subscription>),
}

/// What a consumer does with its messages, in percent.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Habits {
    pub(in crate::cluster) releases: u64,
    pub(in crate::cluster) returns: u64,
    pub(in crate::cluster) rejects: u64,
}

impl Habits {
    /// It gives back now and then.
    pub(in crate::cluster) const USUAL: Self = Self {
        releases: 5,
        returns: 5,
        rejects: 0,
    };
    /// It fails often.
    pub(in crate::cluster) const BAD: Self = Self {
        releases: 5,
        returns: 25,
        rejects: 15,
    };
}

/// Reads one queue or subscription.
#[derive(Debug)]
pub(in crate::cluster) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) name: String,
    attachments: u64,
    pub(in crate::cluster) source: Source,
    pub(in crate::cluster) terms: Terms,
    habits: Habits,
    prefetch: u64,
    /// Its subscriber among the cluster's.
    subscriber: Option<usize>,
    /// Since when it has no connection.
    pub(super) gone_since: Moment,
    /// What it holds unsettled, in the order in which it came.
    pub(in crate::cluster) held: VecDeque<Held>,
    /// Settlements under way, by token.
    settling: BTreeMap<u64, (Held, Settlement, Moment)>,
    last_token: u64,
    /// It settles in transactions.
    pub(super) transactor: Option<Transactor>,
}

/// A message in a consumer's hands.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Held {
    pub(super) shard: ShardId,
    pub(super) position: MessagePosition,
    /// Where it came from, as the history names it.
    pub(super) place: String,
    pub(super) producer: String,
    pub(super) number: u64,
    /// It was accepted before, and nobody knows with what outcome.
    pub(super) was_accepted: bool,
}

impl Consumer {
    pub(in crate::cluster) fn new(id: [u8; 16], name: String, source: Source) -> Self {
        Self {
            id: ConsumerId(id),
            name,
            attachments: 0,
            source,
            terms: Terms::default(),
            habits: Habits::USUAL,
            prefetch: PREFETCH,
            subscriber: None,
            gone_since: 0,
            held: VecDeque::new(),
            settling: BTreeMap::new(),
            last_token: 0,
            transactor: None,
        }
    }

    pub(in crate::cluster) fn with_habits(mut self, habits: Habits) -> Self {
        self.habits = habits;
        self
    }

    pub(in crate::cluster) fn with_terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    pub(in crate::cluster) fn with_prefetch(mut self, prefetch: u64) -> Self {
        self.prefetch = prefetch;
        self
    }

    pub(in crate::cluster) fn with_subscriber(mut self, subscriber: usize) -> Self {
        self.subscriber = Some(subscriber);
        self
    }

    pub(in crate::cluster) fn with_transactor(mut self, transactor: Transactor) -> Self {
        self.transactor = Some(transactor);
        self
    }

    /// Holds nothing and waits for no answer.
    pub(in crate::cluster) fn is_idle(&self) -> bool {
        let open = self.transactor.as_ref().is_some_and(Transactor::is_open);
        self.held.is_empty() && self.settling.is_empty() && !open
    }

    pub(super) fn history_name(&self) -> String {
        format!("{}.{}", self.name, self.attachments)
    }

    pub(super) fn transacts_in(&self, call: CallId) -> bool {
        let transactor = self.transactor.as_ref();
        transactor.is_some_and(|transactor| transactor.is_in(call))
    }

    pub(super) fn gateway_died(&mut self, gateway: usize) {
        if let Some(transactor) = &mut self.transactor {
            transactor.gateway_died(gateway);
        }
    }

    /// Where it reads.
    pub(super) fn destination(&self) -> Destination {
        match &self.source {
            Source::Queue(queue) => Destination::queue(name(queue)),
            Source::Subscription(subscription) => {
                Destination::subscription(key_of(self.id, subscription))
            }
        }
    }

    fn subscription(&self) -> Option<Box<Subscription>> {
        match &self.source {
            Source::Queue(_) => None,
            Source::Subscription(subscription) => Some(subscription.clone()),
        }
    }
}

/// The key of a subscription, as the gateway's shell makes it.
fn key_of(consumer: ConsumerId, of: &Subscription) -> quorate_message::DestinationName {
    let hex: String = consumer
        .0
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = match of.name.as_str() {
        "" => subscription_key("live", "", &hex),
        named => subscription_key("durable", &of.client, named),
    };
    key.expect("the names of the workload are short")
}

/// Where the history says that a message of this origin is, when it comes from there.
pub(in crate::cluster) fn place_at(origin: &str, queue: &str) -> String {
    if origin.split(':').next() == Some(queue) {
        origin.to_owned()
    } else {
        format!("{origin}>{queue}")
    }
}

impl Cluster {
    pub(super) fn connect_consumer(&mut self, client: usize, gateway: usize, call: CallId) {
        let now = self.now();
        let wall_micros = self.gateways[gateway].body.clock.stamp(now).0 * 1_000;
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        if let Source::Subscription(wanted) = &consumer.source
            && wanted.lifetime == Lifetime::Live
            && now > consumer.gone_since + LIVE_US
            && let Some(subscriber) = consumer.subscriber
        {
            self.subscribers[subscriber].ends();
        }
        consumer.attachments += 1;
        if let Some(subscriber) = consumer.subscriber {
            self.watched.subscribers.insert(consumer.id, subscriber);
        }
        // What was being settled is held as well: its settlement may not have arrived.
        let settling = std::mem::take(&mut consumer.settling);
        for (mut held, settlement, _) in settling.into_values() {
            held.was_accepted |= settlement == Settlement::Accept;
            consumer.held.push_back(held);
        }
        let in_transaction = consumer.transactor.iter().flat_map(Transactor::accepts);
        let held = consumer.held.iter().chain(in_transaction);
        let held: Vec<_> = held.map(|held| (held.shard, held.position)).collect();
        let open = OpenConsumer {
            consumer: consumer.id,
            queue: consumer.destination(),
            subscription: consumer.subscription(),
            terms: consumer.terms.clone(),
            credit: Credit {
                messages: consumer.prefetch.saturating_sub(held.len() as u64),
                bytes: 1 << 20,
            },
            held,
            wall_micros,
        };
        self.step_gateway(gateway, Input::Consume { call, open });
    }

    /// A consumer is attached: what it does not hold any longer it forgets, and gives the credit of it back.
    pub(super) fn opened(&mut self, client: usize, lost: &[(ShardId, MessagePosition)]) {
        let now = self.now();
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        if let Some(subscriber) = consumer.subscriber {
            self.subscribers[subscriber].opens();
        }
        let is_lost = |held: &Held| lost.contains(&(held.shard, held.position));
        let (gone, kept): (Vec<Held>, Vec<Held>) = consumer.held.drain(..).partition(is_lost);
        consumer.held.extend(kept);
        let forgotten = gone.len() as u64;
        let consumer_name = consumer.history_name();
        for held in gone.into_iter().filter(|held| held.was_accepted) {
            let record = accepted(&held, &consumer_name, now, history::Outcome::Unknown);
            self.history.records.push(record);
        }
        if let Some((gateway, call)) = self.clients[client].connection
            && forgotten > 0
        {
            self.credit(gateway, call, forgotten);
        }
    }

    pub(super) fn delivered(&mut self, client: usize, shard: ShardId, delivery: &StoredDelivery) {
        let now = self.now();
        let position = delivery.position.value();
        let key = (shard.0, position, delivery.consumer, delivery.generation.0);
        let at_us = self.watched.sent.get(&key).copied().unwrap_or(now);
        let mark = if delivery.redelivered { " again" } else { "" };
        let count = delivery.delivery_count;
        let message = named(&delivery.message);
        self.say(format_args!(
            "client {client} gets {shard} {position} {}#{} x{count}{mark}",
            message.producer, message.number
        ));
        let was_sent = self.was_sent(client, (shard, position), &message);
        let is_forgotten = self.may_be_forgotten(&message);
        let gateway = self.gateway_of(client);
        // Of a leader that dies they are lost, and come again from elsewhere; a planned move keeps them.
        let is_transient = delivery.position.is_transient() && !self.options.is_volatile;
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let (place, is_loose, is_roaming) = match (&consumer.source, consumer.subscriber) {
            (_, Some(subscriber)) => {
                self.counts.subscribed += 1;
                let at = &self.subscribers[subscriber];
                let is_roaming = self.scenes.is_roaming(at.pattern.as_str());
                (format!("{}@{}", message.origin, at.name), false, is_roaming)
            }
            (Source::Queue(queue), None) => {
                let is_loose = self.scenes.is_loose(queue) || is_forgotten;
                let place = place_at(&message.origin, queue);
                (place, is_loose, self.scenes.is_roaming(queue))
            }
            (Source::Subscription(_), None) => return,
        };
        let consumer_name = consumer.history_name();
        consumer.held.push_back(Held {
            shard,
            position: delivery.position,
            place: place.clone(),
            producer: message.producer.clone(),
            number: message.number,
            was_accepted: false,
        });
        let is_fixed = !is_loose && !is_transient && !is_roaming;
        if let (Some(gateway), true) = (gateway, is_fixed) {
            let wrong = self.handover.arrived(Arrival {
                key: (place.clone(), message.producer.clone(), message.number),
                consumer: consumer_name.clone(),
                gateway,
                shard: quorate_replication::ShardId(shard.0),
                sent_us: at_us,
                is_marked: delivery.redelivered,
                was_sent,
            });
            self.failures.extend(wrong);
            self.look_at_owner(client, (gateway, shard), &message, at_us);
        }
        self.look_at_message(client, &message);
        self.history
            .records
            .push(Record::Delivery(history::Delivery {
                queue: place,
                consumer: consumer_name,
                producer: message.producer,
                number: message.number,
                digest: message.digest,
                at_us,
                position: is_fixed.then_some(position),
                redelivered: delivery.redelivered || is_loose || is_transient,
                resent: was_sent || self.watched.passed_over.contains(&(shard.0, position)),
                copy: copy_of(delivery.position),
            }));
    }

    /// Whether a message was sent more than once, to whomever.
    fn was_sent(&self, client: usize, (shard, position): (ShardId, u64), message: &Named) -> bool {
        let subscriber = match &self.clients[client].role {
            Role::Consumer(consumer) => consumer.subscriber,
            Role::Producer(_) | Role::Operator(_) => None,
        };
        let pattern = subscriber.map(|at| self.subscribers[at].pattern.as_str());
        match self.scenes.is_roaming(pattern.unwrap_or(&message.origin)) {
            true => self.watched.has_roamed(subscriber, message),
            false => self.watched.was_sent(shard.0, position),
        }
    }

    /// The life of the gateway that a client is connected to.
    fn gateway_of(&self, client: usize) -> Option<quorate_message::GatewayId> {
        let (at, _) = self.clients[client].connection?;
        let process = self.gateways[at].process.as_ref()?;
        Some(process.incarnation)
    }

    /// Whether somebody else may have a message of this group or exclusive queue.
    fn look_at_owner(
        &mut self,
        client: usize,
        (gateway, shard): (quorate_message::GatewayId, ShardId),
        message: &Named,
        sent_us: Moment,
    ) {
        let Client {
            role: Role::Consumer(consumer),
            ..
        } = &self.clients[client]
        else {
            return;
        };
        let Source::Queue(queue) = &consumer.source else {
            return;
        };
        let owned = match (&message.group, consumer.terms.is_exclusive) {
            (Some(group), _) => (queue.clone(), Some(group.clone())),
            (None, true) => (queue.clone(), None),
            (None, false) => return,
        };
        let took = Took {
            client,
            consumer: consumer.history_name(),
            gateway,
            shard: quorate_replication::ShardId(shard.0),
            sent_us,
        };
        let clients = &self.clients;
        let holds = |client: usize| match &clients[client].role {
            Role::Consumer(consumer) => !consumer.held.is_empty(),
            Role::Producer(_) | Role::Operator(_) => false,
        };
        let wrong = self.owners.took(owned, took, &self.handover, holds);
        self.failures.extend(wrong);
    }

    /// What a consumer does: in transactions, or message by message.
    pub(super) fn consume(&mut self, client: usize) {
        if !self.transact(client) {
            self.settle_some(client);
        }
    }

    fn settle_some(&mut self, client: usize) {
        let now = self.now();
        let draws = [self.rng.below(100), self.rng.between(1, 4)];
        let Some((gateway, call)) = self.clients[client].connection else {
            return;
        };
        let is_calm = self.is_draining;
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let Habits {
            releases,
            returns,
            rejects,
        } = consumer.habits;
        let settlement = match draws[0] {
            _ if is_calm => Settlement::Accept,
            draw if draw < releases => Settlement::Release,
            draw if draw < releases + returns => Settlement::Return,
            draw if draw < releases + returns + rejects => Settlement::Reject,
            _ => Settlement::Accept,
        };
        let mut asked = Vec::new();
        let mut said = Vec::new();
        while (asked.len() as u64) < draws[1]
            && let Some(held) = consumer.held.pop_front()
        {
            consumer.last_token += 1;
            let token = consumer.last_token;
            asked.push((token, vec![(held.shard, held.position)]));
            said.push(format!(
                "client {client} {settlement:?} {:?} as {token}",
                held.position
            ));
            let key = (held.place.clone(), held.producer.clone(), held.number);
            if settlement == Settlement::Reject {
                self.rejected.insert((held.producer.clone(), held.number));
            }
            if settlement != Settlement::Accept {
                self.handover.gave_back(key, consumer.history_name());
            }
            consumer.settling.insert(token, (held, settlement, now));
        }
        let count = asked.len() as u64;
        for text in said {
            self.say(format_args!("{text}"));
        }
        for (token, positions) in asked {
            let input = Input::Settle {
                call,
                settlement,
                positions,
                token,
            };
            self.step_gateway(gateway, input);
        }
        if count > 0 {
            self.credit(gateway, call, count);
        }
    }

    pub(super) fn credit(&mut self, gateway: usize, call: CallId, messages: u64) {
        let credit = Credit {
            messages,
            bytes: messages * 1_024,
        };
        self.step_gateway(gateway, Input::Credited { call, credit });
    }

    pub(super) fn settled(&mut self, client: usize, token: u64, outcomes: &[Outcome]) {
        let now = self.now();
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let Some((held, settlement, invoked_us)) = consumer.settling.remove(&token) else {
            return;
        };
        let text = format!(
            "client {client} {settlement:?} {:?}: {outcomes:?}",
            held.position
        );
        let outcome = match outcomes.first() {
            Some(Outcome::Applied) => history::Outcome::Confirmed,
            // It was not there, and no earlier try can have ended it.
            Some(Outcome::UnknownMessage) if !held.was_accepted => history::Outcome::Refused,
            Some(_) | None => history::Outcome::Unknown,
        };
        if held.was_accepted && settlement != Settlement::Accept {
            // The earlier try may have been the end of it.
            let record = accepted(
                &held,
                &consumer.history_name(),
                now,
                history::Outcome::Unknown,
            );
            self.history.records.push(record);
        }
        self.history.records.push(Record::Settle(history::Settle {
            queue: held.place,
            consumer: consumer.history_name(),
            producer: held.producer,
            number: held.number,
            invoked_us,
            done_us: now,
            position: Some(held.position.value()),
            copy: copy_of(held.position),
            accepted: settlement == Settlement::Accept,
            outcome,
        }));
        self.say(format_args!("{text}"));
    }

    /// A consumer's client is dead, and another takes its place.
    pub(super) fn kill_consumer(&mut self, client: usize) {
        let now = self.now();
        let id = self.random_id();
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let consumer_name = consumer.history_name();
        consumer.id = ConsumerId(id);
        let settling = std::mem::take(&mut consumer.settling).into_values();
        let mut tried: Vec<Held> = consumer
            .held
            .drain(..)
            .filter(|held| held.was_accepted)
            .collect();
        tried.extend(
            settling
                .filter(|one| one.1 == Settlement::Accept || one.0.was_accepted)
                .map(|one| one.0),
        );
        for held in tried {
            let record = accepted(&held, &consumer_name, now, history::Outcome::Unknown);
            self.history.records.push(record);
        }
        if let Source::Subscription(wanted) = &consumer.source
            && wanted.lifetime == Lifetime::Live
            && let Some(subscriber) = consumer.subscriber
        {
            // Another consumer id is another subscription. What the one before has pending ends with it.
            let mut next = self.subscribers[subscriber].clone();
            next.begins_anew();
            self.subscribers[subscriber].ends();
            consumer.subscriber = Some(self.subscribers.len());
            self.subscribers.push(next);
        }
        self.kill_transactor(client);
    }
}

/// In which leader's memory a message is, by the epoch in its position; 0 for one in the log.
fn copy_of(position: MessagePosition) -> u64 {
    match position.is_transient() {
        true => position.value() >> TRANSIENT_COUNT_BITS,
        false => 0,
    }
}

/// A try to accept a message.
pub(super) fn accepted(
    held: &Held,
    consumer: &str,
    now: Moment,
    outcome: history::Outcome,
) -> Record {
    Record::Settle(history::Settle {
        queue: held.place.clone(),
        consumer: consumer.to_owned(),
        producer: held.producer.clone(),
        number: held.number,
        invoked_us: now,
        done_us: now,
        position: Some(held.position.value()),
        copy: copy_of(held.position),
        accepted: true,
        outcome,
    })
}
