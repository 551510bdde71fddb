//! One queue as the leader delivers it: which of its pending messages is where.
//!
//! ```text
//! pending, below the cursor:  in flight | ready (bytes here) | being fetched | back (bytes not here) | unreadable
//! pending, from the cursor on: not looked at yet, save for what consumers were found to hold
//! ```
//! The sets are disjoint. Delivery takes the least of them, once it is ready, so that what was given back goes to its
//! old place. What cannot be read holds up what is behind it, for the sake of order, and is tried again; a log that
//! stays unreadable makes its replica unfit to lead, and the next leader reads its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_message::MessagePosition;
use roaring::RoaringTreemap;

use super::ConsumerRef;
use super::transient::TransientLane;
use crate::limits::{
    MESSAGE_OVERHEAD_BYTES, READ_AHEAD_MESSAGES, READ_AHEAD_QUEUE_BYTES, SIZE_GUESS_BYTES,
};
use crate::state::{Queue, QueueId};

/// Who has a message that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A consumer.
    Consumer(ConsumerRef),
    /// Nobody: its consumer is lost, and its return is on the way through the log.
    Returning,
}

/// One queue's delivery.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// None while nothing persistent was ever stored in it.
    pub(crate) queue: Option<QueueId>,
    pub(crate) cursor: MessagePosition,
    /// Nothing available lies from the cursor on.
    pub(crate) is_caught_up: bool,
    pub(crate) ready: VecDeque<(MessagePosition, Bytes)>,
    /// With the bytes reserved for each.
    pub(crate) fetching: BTreeMap<MessagePosition, u64>,
    pub(crate) back: BTreeSet<MessagePosition>,
    pub(crate) unreadable: BTreeSet<MessagePosition>,
    /// Non-persistent messages are here too.
    pub(crate) in_flight: BTreeMap<MessagePosition, Holder>,
    /// Sent by this leader and given back.
    pub(crate) sent: RoaringTreemap,
    /// Consumers that can take a message, in their turn.
    pub(crate) ring: VecDeque<ConsumerRef>,
    pub(crate) consumers: u32,
    pub(crate) transient: TransientLane,
    /// Bytes held in `ready` and reserved in `fetching`.
    pub(crate) read_ahead: u64,
    size_guess: u64,
    takes_transient_next: bool,
    pub(super) is_touched: bool,
    pub(super) is_hungry: bool,
}

impl Lane {
    pub(super) fn new(queue: Option<QueueId>) -> Self {
        Self {
            queue,
            cursor: MessagePosition::default(),
            is_caught_up: queue.is_none(),
            ready: VecDeque::new(),
            fetching: BTreeMap::new(),
            back: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            sent: RoaringTreemap::new(),
            ring: VecDeque::new(),
            consumers: 0,
            transient: TransientLane::default(),
            read_ahead: 0,
            size_guess: SIZE_GUESS_BYTES,
            takes_transient_next: false,
            is_touched: false,
            is_hungry: false,
        }
    }

    /// Whether a message that was just stored can go out without a read: nothing is before it, and somebody waits.
    pub(super) fn can_stage(&self, demand: usize) -> bool {
        self.is_caught_up
            && self.fetching.is_empty()
            && self.back.is_empty()
            && self.unreadable.is_empty()
            && self.ready.len() < demand
    }

    /// Takes in a message that was just stored.
    pub(super) fn stage(&mut self, position: MessagePosition, message: Bytes, total: &mut u64) {
        self.cursor = position.next();
        self.hold(message.len() as u64, total);
        self.ready.push_back((position, message));
    }

    /// Takes in bytes that were asked for. More than fits is let go of again; the first always fits.
    pub(super) fn fetched(&mut self, position: MessagePosition, message: Bytes, total: &mut u64) {
        self.unreserve(position, total);
        let size = message.len() as u64;
        // A moving mean, quick to rise, so that the next fetch is not too large.
        self.size_guess = size.max((self.size_guess * 7 + size) / 8).max(1);
        if self.read_ahead > READ_AHEAD_QUEUE_BYTES && !self.ready.is_empty() {
            self.back.insert(position);
            return;
        }
        self.hold(size, total);
        let place = self.ready.partition_point(|(at, _)| *at < position);
        self.ready.insert(place, (position, message));
    }

    /// Sets aside what could not be read.
    pub(super) fn missing(&mut self, position: MessagePosition, total: &mut u64) {
        self.unreserve(position, total);
        self.unreadable.insert(position);
    }

    /// Lets what could not be read be tried again; whether there was any.
    pub(super) fn retry_unreadable(&mut self) -> bool {
        let had = !self.unreadable.is_empty();
        self.back.append(&mut self.unreadable);
        had
    }

    /// The next message to deliver, of those not before `barrier`. Takes turns between the two modes.
    pub(super) fn take_next(
        &mut self,
        barrier: MessagePosition,
        total: &mut u64,
    ) -> Option<(MessagePosition, Bytes)> {
        let has_persistent = self.is_front_next(barrier);
        let has_transient = !self.transient.available.is_empty();
        if has_transient && (self.takes_transient_next || !has_persistent) {
            self.takes_transient_next = false;
            return self.transient.take_next();
        }
        if !has_persistent {
            return None;
        }
        self.takes_transient_next = true;
        let (position, message) = self.ready.pop_front()?;
        self.let_go(message.len() as u64, total);
        Some((position, message))
    }

    /// Whether the first ready message is the first available one and may be sent.
    fn is_front_next(&self, barrier: MessagePosition) -> bool {
        let Some((front, _)) = self.ready.front() else {
            return false;
        };
        let is_behind = |other: Option<&MessagePosition>| other.is_some_and(|other| other < front);
        *front >= barrier
            && !is_behind(
                self.fetching
                    .first_key_value()
                    .map(|(position, _)| position),
            )
            && !is_behind(self.back.first())
            && !is_behind(self.unreadable.first())
    }

    /// How many messages are here or on their way.
    pub(super) fn read_ahead_messages(&self) -> usize {
        self.ready.len() + self.fetching.len()
    }

    /// Names up to `wanted` messages to fetch, within the bytes that this lane and the shard have room for.
    pub(super) fn start_fetch(
        &mut self,
        queue: &Queue,
        wanted: usize,
        barrier: MessagePosition,
        total: &mut u64,
        total_max: u64,
    ) -> Vec<MessagePosition> {
        let mut positions = Vec::new();
        let cost = self.size_guess + MESSAGE_OVERHEAD_BYTES;
        let room = READ_AHEAD_MESSAGES.saturating_sub(self.read_ahead_messages());
        let wanted = wanted.min(room);
        let has_room = |lane: &Self, total: u64, taken: usize| {
            let reserved = cost * taken as u64;
            let is_first = taken == 0 && lane.read_ahead == 0;
            taken < wanted
                && total + reserved < total_max
                && (is_first || lane.read_ahead + reserved + cost <= READ_AHEAD_QUEUE_BYTES)
        };
        while has_room(self, *total, positions.len())
            && self.back.first().is_some_and(|first| *first >= barrier)
        {
            positions.extend(self.back.pop_first());
        }
        // What was given back lies before the cursor: as long as any is left, nothing behind is looked at.
        if self.back.is_empty() && !self.is_caught_up && has_room(self, *total, positions.len()) {
            let mut pending = queue.pending_from(self.cursor);
            loop {
                if !has_room(self, *total, positions.len()) {
                    break;
                }
                let Some(position) = pending.next() else {
                    self.is_caught_up = true;
                    break;
                };
                if self.in_flight.contains_key(&position) {
                    self.cursor = position.next();
                    continue;
                }
                if position < barrier {
                    break;
                }
                self.cursor = position.next();
                positions.push(position);
            }
        }
        for position in &positions {
            self.fetching.insert(*position, cost);
        }
        self.read_ahead += cost * positions.len() as u64;
        *total += cost * positions.len() as u64;
        positions
    }

    /// Whether there is something that `start_fetch` could name, room permitting.
    pub(super) fn has_more(&self) -> bool {
        !self.back.is_empty() || !self.is_caught_up
    }

    /// Whether what is ready waits for something before it that was given back: that has to be read, however much
    /// is here.
    pub(super) fn is_blocked(&self) -> bool {
        let ready = self.ready.front().map(|(position, _)| position);
        ready.is_some_and(|ready| self.back.first().is_some_and(|back| back < ready))
    }

    /// Whether one more message may be fetched.
    pub(super) fn has_room(&self) -> bool {
        let cost = self.size_guess + MESSAGE_OVERHEAD_BYTES;
        self.read_ahead_messages() < READ_AHEAD_MESSAGES
            && self.read_ahead + cost <= READ_AHEAD_QUEUE_BYTES
    }

    /// Lets go of the bytes of what is ready.
    pub(super) fn drop_ready(&mut self, total: &mut u64) {
        for (position, message) in std::mem::take(&mut self.ready) {
            self.let_go(message.len() as u64, total);
            self.back.insert(position);
        }
    }

    /// Drops all that is known of a message: who had it, and whether it was being fetched.
    pub(super) fn forget(
        &mut self,
        position: MessagePosition,
        total: &mut u64,
    ) -> (Option<Holder>, bool) {
        if !self.sent.is_empty() {
            self.sent.remove(position.value());
        }
        if let Some(holder) = self.in_flight.remove(&position) {
            return (Some(holder), false);
        }
        (None, self.take_out(position, total))
    }

    /// Takes a message out of where it waits; whether it was being fetched.
    pub(super) fn take_out(&mut self, position: MessagePosition, total: &mut u64) -> bool {
        if self.fetching.contains_key(&position) {
            self.unreserve(position, total);
            return true;
        }
        if !self.back.remove(&position)
            && !self.unreadable.remove(&position)
            && let Ok(place) = self.ready.binary_search_by_key(&position, |(at, _)| *at)
            && let Some((_, message)) = self.ready.remove(place)
        {
            self.let_go(message.len() as u64, total);
        }
        false
    }

    /// Makes a message that is in flight available again; who had it.
    pub(super) fn give_back(&mut self, position: MessagePosition) -> Option<Holder> {
        let holder = self.in_flight.remove(&position)?;
        self.sent.insert(position.value());
        if position.is_transient() {
            self.transient.available.insert(position);
        } else if position < self.cursor {
            self.back.insert(position);
        } else {
            // The cursor comes to it yet.
            self.is_caught_up = false;
        }
        Some(holder)
    }

    /// Empties the lane; who had what was in flight.
    pub(super) fn purge(&mut self, total: &mut u64) -> Vec<Holder> {
        *total -= self.read_ahead;
        self.read_ahead = 0;
        self.ready.clear();
        self.fetching.clear();
        self.back.clear();
        self.unreadable.clear();
        self.sent.clear();
        std::mem::take(&mut self.in_flight).into_values().collect()
    }

    fn hold(&mut self, size: u64, total: &mut u64) {
        self.read_ahead += size + MESSAGE_OVERHEAD_BYTES;
        *total += size + MESSAGE_OVERHEAD_BYTES;
    }

    fn let_go(&mut self, size: u64, total: &mut u64) {
        self.read_ahead -= size + MESSAGE_OVERHEAD_BYTES;
        *total -= size + MESSAGE_OVERHEAD_BYTES;
    }

    fn unreserve(&mut self, position: MessagePosition, total: &mut u64) {
        if let Some(reserved) = self.fetching.remove(&position) {
            self.read_ahead -= reserved;
            *total -= reserved;
        }
    }
}
