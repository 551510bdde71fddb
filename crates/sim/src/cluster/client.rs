//! Clients: producers that retry by number through any gateway, consumers that settle, give back, hang and die.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use quorate_gateway::session::{
    CallId, Credit, Input, OpenConsumer, Outcome, Publication, ShardId, StoredDelivery,
};
use quorate_message::{
    ConsumerId, Destination, DestinationName, Message, MessagePosition, ProducerId, Settlement,
};

use crate::checker::history::{self, Record};
use crate::cluster::Cluster;
use crate::cluster::handover::Arrival;
use crate::cluster::packet::{ClientEvent, Happening};
use crate::rng::finish;

/// Messages that a producer has unconfirmed.
const WINDOW: usize = 16;
/// Credit of a consumer.
const PREFETCH: u64 = 12;

/// One client with its connection.
#[derive(Debug)]
pub(super) struct Client {
    /// The gateway and the call, while connected.
    pub(super) connection: Option<(usize, CallId)>,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) enum Role {
    Producer(Producer),
    Consumer(Consumer),
}

/// Sends numbered messages to several queues.
#[derive(Debug)]
pub(super) struct Producer {
    id: ProducerId,
    name: String,
    queues: Vec<String>,
    next: u64,
    pub(super) last: u64,
    pub(super) unconfirmed: BTreeMap<u64, Sent>,
    /// The numbers sent on the present call, by ordinal.
    ordinals: Vec<u64>,
}

/// An unconfirmed message.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    queue: String,
    bytes: Bytes,
    invoked_us: u64,
    out_of_order: bool,
}

/// Reads one queue.
#[derive(Debug)]
pub(super) struct Consumer {
    id: ConsumerId,
    name: String,
    attachments: u64,
    pub(super) queue: String,
    /// What it holds unsettled, in the order in which it came.
    pub(super) held: VecDeque<Held>,
    /// Settlements under way, by token.
    settling: BTreeMap<u64, (Held, Settlement, u64)>,
    last_token: u64,
}

/// A message in a consumer's hands.
#[derive(Clone, Debug)]
pub(super) struct Held {
    shard: ShardId,
    position: MessagePosition,
    producer: String,
    number: u64,
}

impl Producer {
    pub(super) fn new(id: [u8; 16], name: String, queues: Vec<String>, last: u64) -> Self {
        Self {
            id: ProducerId(id),
            name,
            queues,
            next: 1,
            last,
            unconfirmed: BTreeMap::new(),
            ordinals: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next > self.last && self.unconfirmed.is_empty()
    }
}

impl Consumer {
    pub(super) fn new(id: [u8; 16], name: String, queue: String) -> Self {
        Self {
            id: ConsumerId(id),
            name,
            attachments: 0,
            queue,
            held: VecDeque::new(),
            settling: BTreeMap::new(),
            last_token: 0,
        }
    }

    /// Holds nothing and waits for no answer.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.settling.is_empty()
    }

    fn history_name(&self) -> String {
        format!("{}.{}", self.name, self.attachments)
    }
}

impl Cluster {
    /// A client does what it does next.
    pub(super) fn client_acts(&mut self, client: usize) {
        let is_calm = self.is_draining;
        let delay = match (&self.clients[client].role, is_calm) {
            (Role::Producer(_), _) => self.rng.between(1_000, self.options.send_gap_us),
            (Role::Consumer(_), true) => self.rng.between(500, 3_000),
            (Role::Consumer(_), false) => self.rng.between(500, self.options.settle_gap_us),
        };
        self.schedule.after(delay, Happening::Client(client));
        if self.clients[client].connection.is_none() {
            return self.connect_client(client);
        }
        match &self.clients[client].role {
            Role::Producer(_) => self.produce(client),
            Role::Consumer(_) => self.settle_some(client),
        }
    }

    fn connect_client(&mut self, client: usize) {
        let gateway = self.rng.index(self.gateways.len());
        let host = &self.gateways[gateway];
        if !host.body.is_up() || host.body.paused.is_some() {
            return;
        }
        self.last_call += 1;
        let call = CallId(self.last_call);
        let process = self.gateways[gateway]
            .process
            .as_mut()
            .expect("the process runs");
        process.calls.insert(call, client);
        self.clients[client].connection = Some((gateway, call));
        let wall_micros = self.gateways[gateway].body.clock.stamp(self.now()).0 * 1_000;
        match &mut self.clients[client].role {
            Role::Producer(producer) => {
                producer.ordinals.clear();
                let numbers: Vec<u64> = producer.unconfirmed.keys().copied().collect();
                if !numbers.is_empty() {
                    self.counts.resends += 1;
                    self.publish_numbers(client, &numbers);
                }
            }
            Role::Consumer(consumer) => {
                consumer.attachments += 1;
                // What was being settled is held as well: its settlement may not have arrived.
                let settling = std::mem::take(&mut consumer.settling);
                for (held, _, _) in settling.into_values() {
                    consumer.held.push_back(held);
                }
                let held = consumer
                    .held
                    .iter()
                    .map(|held| (held.shard, held.position))
                    .collect();
                let queue = queue_name(&consumer.queue);
                let open = OpenConsumer {
                    consumer: consumer.id,
                    queue: Destination::queue(queue),
                    subscription: None,
                    held,
                    terms: quorate_broker::Terms::default(),
                    credit: Credit {
                        messages: PREFETCH,
                        bytes: 1 << 20,
                    },
                    wall_micros,
                };
                self.step_gateway(gateway, Input::Consume { call, open });
            }
        }
    }

    fn produce(&mut self, client: usize) {
        let now = self.now();
        let count = self.rng.between(1, 6);
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        let mut numbers = Vec::new();
        for _ in 0..count {
            if producer.next > producer.last || producer.unconfirmed.len() >= WINDOW {
                break;
            }
            let number = producer.next;
            producer.next += 1;
            let at = usize::try_from(finish(number) % producer.queues.len() as u64);
            let queue = producer.queues[at.expect("a small number")].clone();
            let bytes = content(&producer.name, number);
            let sent = Sent {
                queue,
                bytes,
                invoked_us: now,
                out_of_order: false,
            };
            producer.unconfirmed.insert(number, sent);
            numbers.push(number);
        }
        self.publish_numbers(client, &numbers);
    }

    fn publish_numbers(&mut self, client: usize, numbers: &[u64]) {
        let Some((gateway, call)) = self.clients[client].connection else {
            return;
        };
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        if numbers.is_empty() {
            return;
        }
        let is_volatile = self.options.is_volatile;
        producer.ordinals.extend(numbers);
        let messages = numbers
            .iter()
            .map(|number| {
                let sent = &producer.unconfirmed[number];
                Publication {
                    destination: Destination::queue(queue_name(&sent.queue)),
                    number: *number,
                    non_persistent: is_volatile,
                    priority: 4,
                    expires_at_ms: 0,
                    also: Vec::new(),
                    is_retained: false,
                    schedule: None,
                    message: sent.bytes.clone(),
                }
            })
            .map(Ok)
            .collect();
        let input = Input::Publish {
            call,
            producer: Some(producer.id),
            messages,
            trace: None,
        };
        self.step_gateway(gateway, input);
    }

    /// A gateway told a client something.
    pub(super) fn client_hears(&mut self, client: usize, call: CallId, event: ClientEvent) {
        let Some((gateway, present)) = self.clients[client].connection else {
            return;
        };
        if present != call {
            return;
        }
        match event {
            ClientEvent::Confirmed {
                first,
                count,
                outcome,
            } => self.confirmed(client, first, count, outcome),
            ClientEvent::Opened { lost } => {
                if let Role::Consumer(consumer) = &mut self.clients[client].role {
                    consumer
                        .held
                        .retain(|held| !lost.contains(&(held.shard, held.position)));
                }
            }
            ClientEvent::Delivered { shard, deliveries } => {
                let bytes = deliveries.iter().map(|one| one.message.len() as u64).sum();
                for delivery in deliveries {
                    self.delivered(client, shard, &delivery);
                }
                self.step_gateway(gateway, Input::Taken { call, bytes });
            }
            ClientEvent::Settled { token, outcomes } => self.settled(client, token, &outcomes),
            ClientEvent::Ended => self.disconnected(client, false),
            ClientEvent::Failed => self.disconnected(client, true),
        }
    }

    /// The connection of a client is gone. After an error of the call the messages sent on it have lost their order.
    pub(super) fn disconnected(&mut self, client: usize, by_error: bool) {
        let Some((gateway, call)) = self.clients[client].connection.take() else {
            return;
        };
        if let Role::Consumer(consumer) = &self.clients[client].role {
            self.handover.ended(consumer.history_name());
        }
        if let Some(process) = self.gateways[gateway].process.as_mut() {
            process.calls.remove(&call);
            self.step_gateway(gateway, Input::Dropped { call });
        }
        if let Role::Producer(producer) = &mut self.clients[client].role
            && by_error
        {
            for sent in producer.unconfirmed.values_mut() {
                sent.out_of_order = true;
            }
        }
    }

    fn confirmed(&mut self, client: usize, first: u64, count: u32, outcome: Outcome) {
        let now = self.now();
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        for ordinal in first..first + u64::from(count) {
            let at = usize::try_from(ordinal).expect("a small number");
            let Some(number) = producer.ordinals.get(at).copied() else {
                self.failures
                    .push(format!("a confirm for ordinal {ordinal} that was not sent"));
                return;
            };
            let Some(sent) = producer.unconfirmed.remove(&number) else {
                continue;
            };
            let outcome = match outcome {
                Outcome::Stored | Outcome::Duplicate => history::Outcome::Confirmed,
                Outcome::LimitReached
                | Outcome::QueueFull
                | Outcome::Blocked
                | Outcome::UnknownDestination
                | Outcome::RolledBack
                | Outcome::InDoubt
                | Outcome::Moved => history::Outcome::Refused,
                Outcome::NumberTooOld | Outcome::Applied | Outcome::UnknownMessage => {
                    history::Outcome::Unknown
                }
            };
            self.confirms += u64::from(outcome == history::Outcome::Confirmed);
            self.history.records.push(Record::Publish(history::Publish {
                queue: sent.queue,
                producer: producer.name.clone(),
                number,
                digest: digest(&sent.bytes),
                invoked_us: sent.invoked_us,
                done_us: now,
                outcome,
                out_of_order: sent.out_of_order,
            }));
        }
    }

    fn delivered(&mut self, client: usize, shard: ShardId, delivery: &StoredDelivery) {
        let now = self.now();
        let position = delivery.position.value();
        let key = (shard.0, position, delivery.consumer, delivery.generation.0);
        let at_us = self.sent.get(&key).copied().unwrap_or(now);
        let mark = if delivery.redelivered { " again" } else { "" };
        let count = delivery.delivery_count;
        self.say(format_args!(
            "client {client} gets {shard} {position} x{count}{mark} {:?}",
            named(&delivery.message)
        ));
        let place = (shard.0, position);
        let sent_before = self.sent.range(
            (place.0, place.1, ConsumerId::default(), 0)
                ..=(place.0, place.1, ConsumerId([u8::MAX; 16]), u64::MAX),
        );
        let was_sent = sent_before.count() > 1;
        let connection = self.clients[client].connection;
        let gateway = connection.and_then(|(at, _)| self.gateways[at].process.as_ref());
        let gateway = gateway.map(|process| process.incarnation);
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let (producer, number) = named(&delivery.message);
        if let Some(gateway) = gateway {
            let wrong = self.handover.arrived(Arrival {
                key: (consumer.queue.clone(), producer.clone(), number),
                consumer: consumer.history_name(),
                gateway,
                shard: quorate_replication::ShardId(shard.0),
                sent_us: at_us,
                is_marked: delivery.redelivered,
                was_sent,
            });
            self.failures.extend(wrong);
        }
        self.history
            .records
            .push(Record::Delivery(history::Delivery {
                queue: consumer.queue.clone(),
                consumer: consumer.history_name(),
                producer: producer.clone(),
                number,
                digest: digest(&delivery.message),
                at_us,
                position: Some(position),
                redelivered: delivery.redelivered,
                resent: was_sent,
            }));
        consumer.held.push_back(Held {
            shard,
            position: delivery.position,
            producer,
            number,
        });
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
        let settlement = match draws[0] {
            0..=4 if !is_calm => Settlement::Release,
            5..=9 if !is_calm => Settlement::Return,
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
            if settlement != Settlement::Accept {
                let key = (consumer.queue.clone(), held.producer.clone(), held.number);
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

    fn credit(&mut self, gateway: usize, call: CallId, messages: u64) {
        let credit = Credit {
            messages,
            bytes: messages * 1_024,
        };
        self.step_gateway(gateway, Input::Credited { call, credit });
    }

    fn settled(&mut self, client: usize, token: u64, outcomes: &[Outcome]) {
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
        let is_applied = outcomes.first() == Some(&Outcome::Applied);
        self.history.records.push(Record::Settle(history::Settle {
            queue: consumer.queue.clone(),
            consumer: consumer.history_name(),
            producer: held.producer,
            number: held.number,
            invoked_us,
            done_us: now,
            accepted: settlement == Settlement::Accept,
            outcome: if is_applied {
                history::Outcome::Confirmed
            } else {
                history::Outcome::Unknown
            },
        }));
        self.say(format_args!("{text}"));
    }

    /// A client dies: its connection is gone, and what it held is forgotten. A producer comes back as itself, as one
    /// that keeps its numbers in a file would; a consumer as a new one.
    pub(super) fn kill_client(&mut self, client: usize) {
        self.counts.client_kills += 1;
        self.disconnected(client, false);
        let id = self.random_id();
        if let Role::Consumer(consumer) = &mut self.clients[client].role {
            consumer.id = ConsumerId(id);
            consumer.held.clear();
            consumer.settling.clear();
        }
    }
}

fn queue_name(queue: &str) -> DestinationName {
    DestinationName::new(queue).expect("the names of the workload are valid")
}

/// What is not confirmed when a run ends may be stored or not.
pub(super) fn unknown(client: &Client, now: u64) -> Vec<Record> {
    let Role::Producer(producer) = &client.role else {
        return Vec::new();
    };
    let records = producer.unconfirmed.iter().map(|(number, sent)| {
        Record::Publish(history::Publish {
            queue: sent.queue.clone(),
            producer: producer.name.clone(),
            number: *number,
            digest: digest(&sent.bytes),
            invoked_us: sent.invoked_us,
            done_us: now,
            outcome: history::Outcome::Unknown,
            out_of_order: sent.out_of_order,
        })
    });
    records.collect()
}

/// A message that names its producer and number; its body depends on both.
fn content(producer: &str, number: u64) -> Bytes {
    let fill = finish(number) % 200;
    let body = format!(
        "{producer}/{number}/{}",
        "x".repeat(usize::try_from(fill).expect("small"))
    );
    let mut bytes = BytesMut::new();
    Message::with_body(body)
        .encode(&mut bytes)
        .expect("a small message");
    bytes.freeze()
}

fn named(bytes: &Bytes) -> (String, u64) {
    let body = Message::decode(bytes)
        .map(|message| message.body)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let mut parts = text.split('/');
    let producer = parts.next().unwrap_or_default().to_owned();
    let number = parts
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    (producer, number)
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| {
        finish(sum ^ u64::from(*byte))
    })
}
