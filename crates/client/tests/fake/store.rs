//! What the fake gateways share: queues that know repeats and hold back what is in flight.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_proto::v1::{Delivery, Message, OutboundMessage, Outcome, Position, Settlement};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    queues: BTreeMap<String, Queue>,
    /// Numbers seen, by producer and queue.
    seen: BTreeSet<(Bytes, String, u64)>,
    /// Repeats of messages and settlements that were recognised.
    pub(crate) repeats: u64,
}

#[derive(Debug, Default)]
struct Queue {
    messages: BTreeMap<u64, Message>,
    /// Consumer of each message in flight.
    in_flight: BTreeMap<u64, Bytes>,
    stored: Vec<String>,
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

impl Store {
    pub(crate) fn publish(&mut self, producer: &Bytes, message: OutboundMessage) -> Outcome {
        let key = (
            producer.clone(),
            message.destination.clone(),
            message.number,
        );
        if !self.seen.insert(key) {
            self.repeats += 1;
            return Outcome::Duplicate;
        }
        let queue = self.queues.entry(message.destination).or_default();
        let body = message.message.unwrap_or_default();
        queue.stored.push(text(&body));
        let position = queue.stored.len() as u64;
        queue.messages.insert(position, body);
        Outcome::Stored
    }

    pub(crate) fn fill(&mut self, queue: &str, bodies: &[String]) {
        let queue = self.queues.entry(queue.to_owned()).or_default();
        for body in bodies {
            queue.stored.push(body.clone());
            let message = Message {
                body: body.clone().into(),
                ..Message::default()
            };
            queue.messages.insert(queue.stored.len() as u64, message);
        }
    }

    /// Attaches a consumer: it keeps of `held` what is there and nobody else's, and gives back the rest.
    pub(crate) fn attach(
        &mut self,
        queue: &str,
        consumer: &Bytes,
        held: &[Position],
    ) -> Vec<Position> {
        let queue = self.queues.entry(queue.to_owned()).or_default();
        let (kept, lost): (Vec<Position>, Vec<Position>) = held.iter().partition(|position| {
            let holder = queue.in_flight.get(&position.value);
            queue.messages.contains_key(&position.value)
                && holder.is_none_or(|holder| holder == consumer)
        });
        queue.in_flight.retain(|_, holder| holder != consumer);
        for position in kept {
            queue.in_flight.insert(position.value, consumer.clone());
        }
        lost
    }

    /// Returns what is in flight with a consumer.
    pub(crate) fn detach(&mut self, queue: &str, consumer: &Bytes) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.in_flight.retain(|_, holder| holder != consumer);
        }
    }

    pub(crate) fn take(&mut self, queue: &str, consumer: &Bytes, most: u32) -> Vec<Delivery> {
        let queue = self.queues.entry(queue.to_owned()).or_default();
        let free: Vec<u64> = queue
            .messages
            .keys()
            .filter(|position| !queue.in_flight.contains_key(position))
            .take(most as usize)
            .copied()
            .collect();
        free.into_iter()
            .map(|value| {
                queue.in_flight.insert(value, consumer.clone());
                Delivery {
                    position: Some(Position { shard: 0, value }),
                    message: Some(queue.messages[&value].clone()),
                    delivery_count: 0,
                    redelivered: false,
                    ..Delivery::default()
                }
            })
            .collect()
    }

    pub(crate) fn settle(
        &mut self,
        queue: &str,
        settlement: Settlement,
        position: &Position,
    ) -> Outcome {
        let queue = self.queues.entry(queue.to_owned()).or_default();
        if !queue.messages.contains_key(&position.value) {
            self.repeats += 1;
            return Outcome::UnknownMessage;
        }
        queue.in_flight.remove(&position.value);
        match settlement {
            Settlement::Accept | Settlement::Reject => {
                queue.messages.remove(&position.value);
            }
            Settlement::Release | Settlement::Return | Settlement::Unspecified => {}
        }
        Outcome::Applied
    }

    pub(crate) fn purge(&mut self, queue: &str) -> u64 {
        let queue = self.queues.entry(queue.to_owned()).or_default();
        queue.in_flight.clear();
        std::mem::take(&mut queue.messages).len() as u64
    }

    pub(crate) fn stored(&self, queue: &str) -> Vec<String> {
        self.queues[queue].stored.clone()
    }

    pub(crate) fn queued(&self, queue: &str) -> Vec<String> {
        self.queues[queue].messages.values().map(text).collect()
    }

    pub(crate) fn in_flight(&self, queue: &str) -> usize {
        self.queues[queue].in_flight.len()
    }
}
