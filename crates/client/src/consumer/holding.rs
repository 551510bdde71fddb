//! What one consumer holds: messages not settled, settlements not confirmed, and the credit that it owes.
//!
//! Pure. A message is held from its arrival to its settlement; the settlement is kept until it is confirmed. A new
//! call names both as held, so that no other consumer gets them, and sends the settlements again.
//!
//! ```text
//! arrived -> held (first in the inbox, then with the application)
//!         -> settled: in a group under a token -> sent -> confirmed, forgotten
//! ```

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    mem,
    task::Waker,
};

use bytes::Bytes;
use quorate_proto::v1::{
    self, ConsumeRequest, ConsumeResponse, Credit, OpenConsumer, Outcome, Position, Settle,
    Settled, Settlement, consume_request, consume_response,
};

use super::{ConsumerOptions, Delivery, Subscription};
use crate::{
    Error,
    limits::{HELD, SETTLE_POSITIONS},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Holding {
    queue: String,
    subscription: Subscription,
    consumer: Bytes,
    prefetch: Room,
    /// Which messages it wants, and before whom.
    terms: OpenConsumer,
    arrivals: u64,
    /// Not settled, by arrival.
    held: BTreeMap<u64, Held>,
    held_bytes: u64,
    /// Where each message stands that is held or whose settlement is not confirmed.
    places: HashMap<Key, Place>,
    inbox: VecDeque<Delivery>,
    /// Settled and not confirmed, by token.
    groups: BTreeMap<u64, Group>,
    /// The newest group, as long as it can grow: it has not been sent.
    growing: Option<u64>,
    next_token: u64,
    owed: Room,
    unknown: u64,
    call: Call,
    state: State,
    receiver: Option<Waker>,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    shard: u32,
    value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Held { arrival: u64 },
    Settled { token: u64 },
}

#[derive(Debug)]
struct Held {
    position: Position,
    bytes: u64,
}

#[derive(Debug)]
struct Group {
    settlement: Settlement,
    /// With the arrival of each.
    positions: Vec<(u64, Position)>,
}

/// Room for messages, as credit counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) messages: u32,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Call {
    number: u64,
    open_sent: bool,
    attached: bool,
    /// Tokens of groups that this call has not carried.
    unsent: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Open,
    Closing,
    Ended(Error),
}

/// The gateway sends more than it has credit for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// What a delivery takes of the byte credit: exactly what the gateway counts, so that neither side drifts.
fn credit_bytes(delivery: &v1::Delivery) -> u64 {
    let message = delivery.message.as_ref();
    message.map_or(0, |message| message.body.len() as u64)
}

impl Holding {
    pub(super) fn new(
        (queue, subscription): (String, Subscription),
        consumer: Bytes,
        prefetch: Room,
    ) -> Self {
        Self {
            queue,
            subscription,
            consumer,
            prefetch,
            terms: OpenConsumer::default(),
            arrivals: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            places: HashMap::new(),
            inbox: VecDeque::new(),
            groups: BTreeMap::new(),
            growing: None,
            next_token: 1,
            owed: Room::default(),
            unknown: 0,
            call: Call::default(),
            state: State::Open,
            receiver: None,
            wakers: Vec::new(),
        }
    }

    /// Opens with this selector and so on, each time.
    pub(super) fn on_terms(mut self, options: &ConsumerOptions) -> Self {
        self.terms = OpenConsumer {
            selector: options.selector.clone(),
            exclusive: options.exclusive,
            priority: i32::from(options.priority),
            ..OpenConsumer::default()
        };
        self
    }

    /// Begins a call; the call before it gets nothing more.
    pub(super) fn begin_call(&mut self) -> u64 {
        self.wakers.extend(self.call.waker.take());
        self.owed = Room::default();
        self.call = Call {
            number: self.call.number + 1,
            unsent: self.groups.keys().copied().collect(),
            ..Call::default()
        };
        self.call.number
    }

    /// Returns whether `number` is the call that may still send.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.call.number == number && !matches!(self.state, State::Ended(_))
    }

    /// Returns what waits to be sent in the current call.
    pub(super) fn next_request(&mut self) -> Option<ConsumeRequest> {
        let kind = if self.call.open_sent {
            self.next_settle()
                .map(consume_request::Kind::Settle)
                .or_else(|| self.next_credit().map(consume_request::Kind::Credit))?
        } else {
            self.call.open_sent = true;
            consume_request::Kind::Open(self.open())
        };
        Some(ConsumeRequest { kind: Some(kind) })
    }

    fn open(&self) -> OpenConsumer {
        let mut held: BTreeMap<u64, Position> = self
            .held
            .iter()
            .map(|(arrival, held)| (*arrival, held.position))
            .collect();
        for group in self.groups.values() {
            held.extend(group.positions.iter().copied());
        }
        let count = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        OpenConsumer {
            queue: self.queue.clone(),
            consumer_id: self.consumer.clone(),
            held: held.into_values().collect(),
            credit: Some(Credit {
                messages: self.prefetch.messages.saturating_sub(count),
                bytes: self.prefetch.bytes.saturating_sub(self.held_bytes),
            }),
            subscription: self.subscription.name.clone(),
            client_id: self.subscription.client_id.clone(),
            durable: self.subscription.durable,
            shared: self.subscription.shared,
            retained: self.subscription.retained,
            since_ms: self.subscription.since_ms,
            from: None,
            ..self.terms.clone()
        }
    }

    fn next_settle(&mut self) -> Option<Settle> {
        while let Some(token) = self.call.unsent.pop_front() {
            if self.growing == Some(token) {
                self.growing = None;
            }
            // Gone when the broker has shown meanwhile that it took effect.
            let Some(group) = self.groups.get(&token) else {
                continue;
            };
            return Some(Settle {
                settlement: group.settlement.into(),
                positions: group
                    .positions
                    .iter()
                    .map(|(_, position)| *position)
                    .collect(),
                token,
            });
        }
        None
    }

    /// Credit goes out in quarters of the prefetch, so that it costs little and never runs dry.
    fn next_credit(&mut self) -> Option<Credit> {
        let due = self.owed.messages >= (self.prefetch.messages / 4).max(1)
            || self.owed.bytes >= (self.prefetch.bytes / 4).max(1);
        if !due || self.places.len() >= HELD {
            return None;
        }
        let owed = mem::take(&mut self.owed);
        Some(Credit {
            messages: owed.messages,
            bytes: owed.bytes,
        })
    }

    /// Remembers whom to wake when there is something to send.
    pub(super) fn wake_sender(&mut self, waker: Waker) {
        self.call.waker = Some(waker);
    }

    /// Takes what the gateway said in the current call.
    pub(super) fn take(&mut self, response: ConsumeResponse) -> Result<(), Overrun> {
        match response.kind {
            Some(consume_response::Kind::Opened(opened)) => {
                self.call.attached = true;
                for position in &opened.lost {
                    self.lose(position);
                }
            }
            Some(consume_response::Kind::Deliveries(deliveries)) => {
                for delivery in deliveries.deliveries {
                    self.arrive(delivery)?;
                }
                self.wakers.extend(self.receiver.take());
            }
            Some(consume_response::Kind::Settled(settled)) => self.confirm(&settled),
            // A kind that a later version may send; there is nothing in it that this version could need.
            None => {}
        }
        if self.has_request() {
            self.wakers.extend(self.call.waker.take());
        }
        Ok(())
    }

    fn has_request(&self) -> bool {
        self.owed != Room::default() || !self.call.unsent.is_empty()
    }

    fn lose(&mut self, position: &Position) {
        if self.forget(position).is_some() {
            let key = Key::of(position);
            self.inbox
                .retain(|delivery| Key::of(&delivery.position) != key);
        }
    }

    fn arrive(&mut self, delivery: v1::Delivery) -> Result<(), Overrun> {
        let bytes = credit_bytes(&delivery);
        let Some(delivery) = Delivery::from_proto(delivery) else {
            self.owe(bytes);
            return Ok(());
        };
        let key = Key::of(&delivery.position);
        if self.is_here(key) {
            self.owe(bytes);
            return Ok(());
        }
        let most = (self.prefetch.messages as usize).saturating_mul(2) + SETTLE_POSITIONS;
        if self.held.len() >= most {
            return Err(Overrun);
        }
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.places.insert(key, Place::Held { arrival });
        self.held_bytes += bytes;
        self.held.insert(
            arrival,
            Held {
                position: delivery.position,
                bytes,
            },
        );
        self.inbox.push_back(delivery);
        Ok(())
    }

    /// Returns whether a message that arrives is held, or was removed by a settlement that is not confirmed. One that
    /// went back to the queue arrives rightly: its settlement has taken effect, and is not sent again.
    fn is_here(&mut self, key: Key) -> bool {
        let token = match self.places.get(&key) {
            None => return false,
            Some(Place::Held { .. }) => return true,
            Some(Place::Settled { token }) => *token,
        };
        let Some(group) = self.groups.get_mut(&token) else {
            return false;
        };
        match group.settlement {
            Settlement::Accept | Settlement::Reject | Settlement::Unspecified => true,
            Settlement::Release | Settlement::Return => {
                group
                    .positions
                    .retain(|(_, position)| Key::of(position) != key);
                if group.positions.is_empty() {
                    self.groups.remove(&token);
                }
                false
            }
        }
    }

    fn confirm(&mut self, settled: &Settled) {
        let Some(group) = self.groups.remove(&settled.token) else {
            return;
        };
        let place = Place::Settled {
            token: settled.token,
        };
        for (_, position) in &group.positions {
            let key = Key::of(position);
            if self.places.get(&key) == Some(&place) {
                self.places.remove(&key);
            }
        }
        self.unknown += settled
            .outcomes()
            .filter(|outcome| *outcome == Outcome::UnknownMessage)
            .count() as u64;
        if !self.has_unconfirmed() {
            self.wakers.extend(self.call.waker.take());
        }
    }

    fn owe(&mut self, bytes: u64) {
        self.owed.messages = self.owed.messages.saturating_add(1);
        self.owed.bytes = self.owed.bytes.saturating_add(bytes);
    }

    fn forget(&mut self, position: &Position) -> Option<u64> {
        let key = Key::of(position);
        let Some(Place::Held { arrival }) = self.places.get(&key).copied() else {
            return None;
        };
        self.places.remove(&key);
        let held = self.held.remove(&arrival)?;
        self.held_bytes -= held.bytes;
        self.owe(held.bytes);
        Some(arrival)
    }

    /// Its queue and its identity.
    pub(super) fn name(&self) -> (String, Bytes) {
        (self.queue.clone(), self.consumer.clone())
    }

    /// A message that is held was settled by a transaction; one that is held no longer is left alone.
    pub(super) fn settled_elsewhere(&mut self, position: &Position) {
        self.lose(position);
        self.wakers.extend(self.call.waker.take());
    }

    /// Settles a message that is held; one that is held no longer is left alone.
    pub(super) fn settle(&mut self, position: Position, settlement: Settlement) {
        let Some(arrival) = self.forget(&position) else {
            return;
        };
        let token = self.group_for(settlement);
        self.places
            .insert(Key::of(&position), Place::Settled { token });
        if let Some(group) = self.groups.get_mut(&token) {
            group.positions.push((arrival, position));
        }
        self.wakers.extend(self.call.waker.take());
    }

    /// Returns the group that takes one more settlement of this kind.
    fn group_for(&mut self, settlement: Settlement) -> u64 {
        if let Some(token) = self.growing
            && self.groups.get(&token).is_some_and(|group| {
                group.settlement == settlement && group.positions.len() < SETTLE_POSITIONS
            })
        {
            return token;
        }
        let token = self.next_token;
        self.next_token += 1;
        let group = Group {
            settlement,
            positions: Vec::new(),
        };
        self.groups.insert(token, group);
        self.call.unsent.push_back(token);
        self.growing = Some(token);
        token
    }

    /// Returns the next message for the application.
    pub(super) fn receive(&mut self) -> Option<Delivery> {
        self.inbox.pop_front()
    }

    /// Remembers whom to wake when a message arrives.
    pub(super) fn wake_receiver(&mut self, waker: Waker) {
        self.receiver = Some(waker);
    }

    /// Returns whether settlements are not confirmed yet.
    pub(super) fn has_unconfirmed(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns whether the consumer waits for something that the cluster owes it.
    pub(super) fn is_waiting(&self) -> bool {
        !self.call.attached || self.has_unconfirmed()
    }

    /// Returns how many settlements found no message: it was settled before, or had been given to another consumer.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Lets the call end once every settlement is confirmed.
    pub(super) fn close(&mut self) {
        if matches!(self.state, State::Open) {
            self.state = State::Closing;
        }
        self.wakers.extend(self.call.waker.take());
    }

    /// Returns whether the call is to be ended in good order.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Closing) && !self.has_unconfirmed()
    }

    /// Ends the consumer with a reason. What the application has not taken goes to others.
    pub(super) fn end(&mut self, error: Error) {
        self.inbox.clear();
        if !matches!(self.state, State::Ended(_)) {
            self.state = State::Ended(error);
        }
        self.wakers.extend(self.receiver.take());
        self.wakers.extend(self.call.waker.take());
    }

    /// Returns why this consumer ended, if it did.
    pub(super) fn ended(&self) -> Option<&Error> {
        match &self.state {
            State::Open | State::Closing => None,
            State::Ended(error) => Some(error),
        }
    }

    /// Takes those that are to be woken, once no lock is held.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }
}

impl Key {
    fn of(position: &Position) -> Self {
        Self {
            shard: position.shard,
            value: position.value,
        }
    }
}

#[cfg(test)]
mod tests;
