//! Consumers: their session, their credit, how much they hold.

use std::collections::BTreeMap;

use quorate_message::{ConsumerId, GatewayId};

use super::LaneId;
use crate::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, IN_FLIGHT_MAX};
use crate::{Credit, Delivery, SessionId, Terms};

/// Names a consumer while it is attached or may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsumerRef(u32);

/// One consumer.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    /// None while its session is gone and it may come back.
    pub(crate) session: Option<SessionId>,
    /// Through which gateway it came last.
    pub(crate) gateway: Option<GatewayId>,
    /// Its gateway is not yet attached, or about to be lost.
    pub(crate) is_held_back: bool,
    pub(crate) generation: u64,
    pub(crate) lane: LaneId,
    pub(crate) credit: Credit,
    /// Messages in its hands.
    pub(crate) in_flight: u32,
    /// Whether its lane's ring has it.
    pub(crate) is_in_ring: bool,
    /// On what terms it takes messages.
    pub(crate) terms: Terms,
    /// Its place in the order in which consumers came.
    pub(super) arrival: u64,
    /// Another consumer of its queue is the only one that gets messages.
    pub(crate) stands_by: bool,
    /// Its credit is a share of what it has at several shards.
    pub(super) shares_credit: bool,
    /// It was told that a message waits, and has got no credit since.
    pub(super) is_told: bool,
    /// What goes to it in this step.
    pub(super) outbox: Vec<Delivery>,
}

impl Consumer {
    pub(super) fn new(id: ConsumerId, lane: LaneId) -> Self {
        Self {
            id,
            session: None,
            gateway: None,
            is_held_back: false,
            generation: 0,
            lane,
            credit: Credit::default(),
            in_flight: 0,
            is_in_ring: false,
            terms: Terms::default(),
            arrival: 0,
            stands_by: false,
            shares_credit: false,
            is_told: false,
            outbox: Vec::new(),
        }
    }

    /// Whether it can take a message.
    pub(crate) fn wants(&self) -> bool {
        self.session.is_some()
            && !self.stands_by
            && !self.is_held_back
            && self.credit.messages > 0
            && self.credit.bytes > 0
            && self.in_flight < IN_FLIGHT_MAX
    }

    /// How many messages it can take, as far as their number goes.
    pub(super) fn room(&self) -> u32 {
        self.credit.messages.min(IN_FLIGHT_MAX - self.in_flight)
    }

    pub(super) fn add_credit(&mut self, more: Credit) {
        self.is_told = false;
        let Credit { messages, bytes } = &mut self.credit;
        *messages = messages
            .saturating_add(more.messages)
            .min(CREDIT_MESSAGES_MAX);
        *bytes = bytes.saturating_add(more.bytes).min(CREDIT_BYTES_MAX);
    }

    /// Counts a message that is sent to it. The last one may exceed the credit in bytes.
    pub(super) fn took(&mut self, size_bytes: u64) {
        assert!(self.credit.messages > 0, "only with credit");
        self.credit.messages -= 1;
        self.credit.bytes = self.credit.bytes.saturating_sub(size_bytes);
        self.in_flight += 1;
    }
}

/// All consumers of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consumers {
    slots: Vec<Option<Consumer>>,
    free: Vec<u32>,
    by_id: BTreeMap<ConsumerId, ConsumerRef>,
    arrivals: u64,
}

impl Consumers {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: ConsumerId) -> Option<ConsumerRef> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn add(&mut self, mut consumer: Consumer) -> ConsumerRef {
        let id = consumer.id;
        self.arrivals += 1;
        consumer.arrival = self.arrivals;
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(consumer);
                place
            }
            None => {
                self.slots.push(Some(consumer));
                u32::try_from(self.slots.len() - 1).expect("bounded by `CONSUMERS_MAX`")
            }
        };
        self.by_id.insert(id, ConsumerRef(place));
        ConsumerRef(place)
    }

    /// Removes a consumer that holds nothing.
    pub(super) fn remove(&mut self, reference: ConsumerRef) {
        if let Some(consumer) = self.slots[reference.0 as usize].take() {
            assert!(consumer.in_flight == 0, "what it held was given back");
            self.by_id.remove(&consumer.id);
            self.free.push(reference.0);
        }
    }

    pub(crate) fn get(&self, reference: ConsumerRef) -> &Consumer {
        self.slots[reference.0 as usize]
            .as_ref()
            .expect("references go with their consumer")
    }

    pub(super) fn get_mut(&mut self, reference: ConsumerRef) -> &mut Consumer {
        self.slots[reference.0 as usize]
            .as_mut()
            .expect("references go with their consumer")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConsumerRef, &Consumer)> {
        self.by_id
            .values()
            .map(|reference| (*reference, self.get(*reference)))
    }
}
