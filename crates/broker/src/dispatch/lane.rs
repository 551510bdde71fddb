//! One queue as the leader delivers it: which of its pending messages is where.
//!
//! ```text
//! of each priority:
//! pending, below the cursor:  in flight | ready (bytes here) | being fetched | back (bytes not here) | unreadable
//! pending, from the cursor on: not looked at yet, save for what consumers were found to hold
//! ```
//! The sets are disjoint and kept in their [`Turn`]. Delivery takes the first of all, once it is ready, so that what
//! was given back goes to its old place and what is urgent overtakes what was read ahead. What cannot be read holds up
//! what is behind it, for the sake of order, and is tried again; a log that stays unreadable makes its replica unfit
//! to lead, and the next leader reads its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_message::limits::PRIORITY_MAX;
use quorate_message::{Destination, GatewayId, MessagePosition, Settlement};
use roaring::RoaringTreemap;

use super::ConsumerRef;
use super::routing::Routing;
use super::transient::TransientLane;
use crate::limits::{
    MESSAGE_OVERHEAD_BYTES, READ_AHEAD_MESSAGES, READ_AHEAD_QUEUE_BYTES, SIZE_GUESS_BYTES,
};
use crate::state::{Queue, QueueId, Turn};

/// Who has a message that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A consumer.
    Consumer(ConsumerRef),
    /// Nobody: this gateway's client gave it back, and the settlement that says so is on its way.
    Leaving(GatewayId),
    /// Nobody: its consumer is lost, and a settlement that gives it back is on the way through the log.
    Returning(Settlement),
    /// Nobody: its time is over, and its removal is on the way through the log.
    Expiring,
    /// Nobody: its subscription does not select it, and that is to be logged.
    Skipped,
}

/// A message in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) holder: Holder,
    /// Its priority, so that it finds back to its place.
    pub(crate) priority: u8,
}

const PRIORITIES: usize = PRIORITY_MAX as usize + 1;

/// One bit per priority.
const ALL_LEVELS: u16 = (1 << PRIORITIES) - 1;

/// One queue's delivery.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// None: the lane is free.
    pub(super) destination: Option<Destination>,
    /// None while nothing persistent was ever stored in it.
    pub(crate) queue: Option<QueueId>,
    /// Of each priority.
    cursors: [MessagePosition; PRIORITIES],
    /// The priorities, a bit each, of which something available may lie from the cursor on.
    ahead: u16,
    pub(crate) ready: VecDeque<(Turn, Bytes)>,
    /// With the bytes reserved for each.
    pub(crate) fetching: BTreeMap<Turn, u64>,
    pub(crate) back: BTreeSet<Turn>,
    pub(crate) unreadable: BTreeSet<Turn>,
    /// Non-persistent messages are here too.
    pub(crate) in_flight: BTreeMap<MessagePosition, Held>,
    /// Non-persistent messages that were given back. Of persistent ones the state knows it.
    pub(crate) sent: RoaringTreemap,
    /// Consumers that can take a message, in their turn.
    pub(crate) ring: VecDeque<ConsumerRef>,
    pub(crate) consumers: u32,
    pub(crate) members: BTreeSet<ConsumerRef>,
    /// The only one that gets messages, if one wants to be that. The others stand by.
    pub(crate) active: Option<ConsumerRef>,
    /// Who may get which message, if that makes a difference.
    pub(crate) routing: Option<Box<Routing>>,
    /// Those that share their credit between shards.
    pub(super) sharing: Vec<ConsumerRef>,
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
            destination: None,
            queue,
            cursors: [MessagePosition::default(); PRIORITIES],
            ahead: if queue.is_some() { ALL_LEVELS } else { 0 },
            ready: VecDeque::new(),
            fetching: BTreeMap::new(),
            back: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            sent: RoaringTreemap::new(),
            ring: VecDeque::new(),
            consumers: 0,
            members: BTreeSet::new(),
            active: None,
            routing: None,
            sharing: Vec::new(),
            transient: TransientLane::default(),
            read_ahead: 0,
            size_guess: SIZE_GUESS_BYTES,
            takes_transient_next: false,
            is_touched: false,
            is_hungry: false,
        }
    }

    /// A lane that is free delivers this destination.
    pub(super) fn serve(&mut self, destination: Destination, queue: Option<QueueId>) {
        let fresh = Self::new(queue);
        self.destination = Some(destination);
        (self.queue, self.ahead) = (fresh.queue, fresh.ahead);
    }

    /// The least position of a priority that was not looked at.
    pub(crate) fn cursor(&self, priority: u8) -> MessagePosition {
        self.cursors[usize::from(priority)]
    }

    /// Whether something available of this priority may lie from its cursor on.
    pub(crate) fn is_ahead(&self, priority: u8) -> bool {
        self.ahead >> priority & 1 == 1
    }

    /// Messages of a priority were stored that are not here.
    pub(super) fn stored_ahead(&mut self, priority: u8) {
        self.ahead |= 1 << priority;
    }

    /// Whether a message that was just stored can go out without a read: nothing is before it that is not ready, and
    /// somebody waits.
    pub(super) fn can_stage(&self, turn: Turn, demand: usize) -> bool {
        let is_last = self.ready.back().is_none_or(|(last, _)| *last < turn);
        let before = if is_last {
            self.ready.len()
        } else {
            self.ready.partition_point(|(at, _)| *at < turn)
        };
        before < demand
            && !self.is_ahead(turn.priority())
            && !self.is_held_up(turn)
            && self.read_ahead < READ_AHEAD_QUEUE_BYTES
    }

    /// Takes in a message that was just stored.
    pub(super) fn stage(&mut self, turn: Turn, message: Bytes, total: &mut u64) {
        self.cursors[usize::from(turn.priority())] = turn.position().next();
        self.hold(turn, message, total);
    }

    /// Keeps a message from everybody. Whoever it was recalled for gets another.
    pub(super) fn hold_back(&mut self, turn: Turn, held: Held) {
        if let Some(routing) = &mut self.routing {
            routing.forget(turn);
        }
        self.in_flight.insert(turn.position(), held);
    }

    /// Takes in bytes that were asked for. More than fits is let go of again, the last first; one always fits.
    pub(super) fn fetched(&mut self, turn: Turn, message: Bytes, total: &mut u64) {
        self.unreserve(turn, total);
        let size = message.len() as u64;
        // A moving mean, quick to rise, so that the next fetch is not too large.
        self.size_guess = size.max((self.size_guess * 7 + size) / 8).max(1);
        while self.read_ahead > READ_AHEAD_QUEUE_BYTES {
            match self.ready.back() {
                Some((last, _)) if *last > turn => self.drop_last(total),
                Some(_) => {
                    self.back.insert(turn);
                    return;
                }
                None => break,
            }
        }
        self.hold(turn, message, total);
    }

    /// Sets aside what could not be read.
    pub(super) fn missing(&mut self, turn: Turn, total: &mut u64) {
        self.unreserve(turn, total);
        self.unreadable.insert(turn);
    }

    /// Lets what could not be read be tried again; whether there was any.
    pub(super) fn retry_unreadable(&mut self) -> bool {
        let had = !self.unreadable.is_empty();
        self.back.append(&mut self.unreadable);
        had
    }

    /// The next message to deliver, of those not before `barrier` nor behind `bound`. Takes turns between the two modes.
    pub(super) fn take_next(
        &mut self,
        (barrier, bound): (MessagePosition, MessagePosition),
        total: &mut u64,
    ) -> Option<(Turn, Bytes)> {
        let has_persistent = self.is_front_next(barrier, bound);
        let has_transient = !self.transient.available.is_empty();
        if has_transient && (self.takes_transient_next || !has_persistent) {
            self.takes_transient_next = false;
            return self.transient.take_next();
        }
        if !has_persistent {
            return None;
        }
        self.takes_transient_next = true;
        let (turn, message) = self.ready.pop_front()?;
        self.let_go(message.len() as u64, total);
        Some((turn, message))
    }

    /// Whether the first ready message is the first available one and may be sent.
    fn is_front_next(&self, barrier: MessagePosition, bound: MessagePosition) -> bool {
        let front = self.ready.front().map(|(turn, _)| *turn);
        front.is_some_and(|front| {
            (barrier..=bound).contains(&front.position()) && !self.is_held_up(front)
        })
    }

    /// Whether something available is before this turn, or may be, and is not ready.
    fn is_held_up(&self, turn: Turn) -> bool {
        let is_before = |other: Option<&Turn>| other.is_some_and(|other| *other < turn);
        self.is_more_before(turn)
            || is_before(self.fetching.first_key_value().map(|(turn, _)| turn))
            || is_before(self.unreadable.first())
    }

    /// Whether a fetch could name something before this turn.
    fn is_more_before(&self, turn: Turn) -> bool {
        self.ahead >> turn.priority() >> 1 != 0
            || self.back.first().is_some_and(|back| *back < turn)
    }

    /// How many messages are here or on their way.
    pub(super) fn read_ahead_messages(&self) -> usize {
        self.ready.len() + self.fetching.len()
    }

    /// Names up to `wanted` messages to fetch, in their turn, within the bytes that this lane and the shard have room
    /// for.
    pub(super) fn start_fetch(
        &mut self,
        queue: &Queue,
        wanted: usize,
        barrier: MessagePosition,
        total: &mut u64,
        total_max: u64,
    ) -> Vec<Turn> {
        let cost = self.size_guess + MESSAGE_OVERHEAD_BYTES;
        let most = self.fetch_room(wanted, cost, *total, total_max);
        let mut turns = Vec::new();
        for priority in (0..=PRIORITY_MAX).rev() {
            if turns.len() >= most || !self.name_level(queue, priority, most, barrier, &mut turns) {
                break;
            }
        }
        for turn in &turns {
            self.fetching.insert(*turn, cost);
        }
        self.read_ahead += cost * turns.len() as u64;
        *total += cost * turns.len() as u64;
        turns
    }

    /// How many messages of `cost` bytes may be fetched; one more than fits when nothing is here.
    fn fetch_room(&self, wanted: usize, cost: u64, total: u64, total_max: u64) -> usize {
        let room = READ_AHEAD_MESSAGES.saturating_sub(self.read_ahead_messages());
        let own = READ_AHEAD_QUEUE_BYTES.saturating_sub(self.read_ahead) / cost;
        let own = own.max(u64::from(self.read_ahead == 0));
        let all = total_max.saturating_sub(total).div_ceil(cost);
        let bytes = usize::try_from(own.min(all)).unwrap_or(usize::MAX);
        wanted.min(room).min(bytes)
    }

    /// Names messages of one priority, until there are `most`; whether those of the next lower one may follow.
    fn name_level(
        &mut self,
        queue: &Queue,
        priority: u8,
        most: usize,
        barrier: MessagePosition,
        turns: &mut Vec<Turn>,
    ) -> bool {
        // What was given back lies before the cursor: as long as any is left, nothing behind is looked at.
        while let Some(first) = self
            .back
            .first()
            .filter(|first| first.priority() == priority)
        {
            if turns.len() >= most || first.position() < barrier {
                return false;
            }
            turns.extend(self.back.pop_first());
        }
        if !self.is_ahead(priority) {
            return true;
        }
        let cursor = &mut self.cursors[usize::from(priority)];
        for position in queue.pending_at(priority, *cursor) {
            if self.in_flight.contains_key(&position) {
                *cursor = position.next();
                continue;
            }
            if turns.len() >= most || position < barrier {
                return false;
            }
            *cursor = position.next();
            turns.push(Turn::new(priority, position));
        }
        self.ahead &= !(1 << priority);
        true
    }

    /// Whether there is something that `start_fetch` could name, room permitting.
    pub(super) fn has_more(&self) -> bool {
        !self.back.is_empty() || self.ahead != 0
    }

    /// Whether what is ready waits for something before it that is not on its way: that has to be read, however much
    /// is here.
    pub(super) fn is_blocked(&self) -> bool {
        let front = self.ready.front();
        front.is_some_and(|(front, _)| self.is_more_before(*front))
    }

    /// Whether one more message may be fetched.
    fn has_room(&self) -> bool {
        let cost = self.size_guess + MESSAGE_OVERHEAD_BYTES;
        self.read_ahead_messages() < READ_AHEAD_MESSAGES
            && self.read_ahead + cost <= READ_AHEAD_QUEUE_BYTES
    }

    /// Makes room for one more message to be fetched, at the cost of what would be sent last.
    pub(super) fn make_room(&mut self, total: &mut u64, total_max: u64) {
        while !self.ready.is_empty() && (!self.has_room() || *total >= total_max) {
            self.drop_last(total);
        }
    }

    /// Lets go of the bytes of what is ready.
    pub(super) fn drop_ready(&mut self, total: &mut u64) {
        while !self.ready.is_empty() {
            self.drop_last(total);
        }
    }

    fn drop_last(&mut self, total: &mut u64) {
        if let Some((turn, message)) = self.ready.pop_back() {
            self.let_go(message.len() as u64, total);
            self.back.insert(turn);
        }
    }

    /// Drops all that is known of a message: who had it, and whether it was being fetched.
    pub(super) fn forget(&mut self, turn: Turn, total: &mut u64) -> (Option<Holder>, bool) {
        let position = turn.position();
        if !self.sent.is_empty() {
            self.sent.remove(position.value());
        }
        if let Some(held) = self.in_flight.remove(&position) {
            self.ended(position);
            return (Some(held.holder), false);
        }
        (None, self.take_out(turn, total))
    }

    /// Takes a message out of where it waits; whether it was being fetched.
    pub(super) fn take_out(&mut self, turn: Turn, total: &mut u64) -> bool {
        let routing = self.routing.as_mut();
        if routing.is_some_and(|routing| routing.forget(turn)) {
            return false;
        }
        if self.fetching.contains_key(&turn) {
            self.unreserve(turn, total);
            return true;
        }
        if !self.back.remove(&turn)
            && !self.unreadable.remove(&turn)
            && let Ok(place) = self.ready.binary_search_by_key(&turn, |(at, _)| *at)
            && let Some((_, message)) = self.ready.remove(place)
        {
            self.let_go(message.len() as u64, total);
        }
        false
    }

    /// Makes a message that is in flight available again; who had it.
    pub(super) fn give_back(&mut self, position: MessagePosition) -> Option<Holder> {
        let Held { holder, priority } = self.in_flight.remove(&position)?;
        self.ended(position);
        let turn = Turn::new(priority, position);
        if position.is_transient() {
            self.sent.insert(position.value());
            self.transient.available.insert(turn);
        } else {
            self.readied(turn);
        }
        Some(holder)
    }

    /// A message that is nowhere here became available.
    pub(super) fn readied(&mut self, turn: Turn) {
        if turn.position() < self.cursor(turn.priority()) {
            self.back.insert(turn);
        } else {
            // The cursor comes to it yet.
            self.stored_ahead(turn.priority());
        }
    }

    /// Takes in a message that is available, at whatever place, and whose bytes are not here.
    pub(super) fn join(&mut self, turn: Turn) {
        if turn.position() < self.cursor(turn.priority()) {
            self.back.insert(turn);
        } else {
            // The cursor comes to it yet.
            self.stored_ahead(turn.priority());
        }
    }

    /// Empties the lane; who had what was in flight.
    pub(super) fn purge(&mut self, total: &mut u64) -> BTreeMap<MessagePosition, Held> {
        *total -= self.read_ahead;
        self.read_ahead = 0;
        self.ready.clear();
        self.fetching.clear();
        self.back.clear();
        self.unreadable.clear();
        self.sent.clear();
        if let Some(routing) = &mut self.routing {
            routing.purged();
        }
        std::mem::take(&mut self.in_flight)
    }

    /// Makes messages available that were parked.
    pub(super) fn recalled(&mut self, turns: &[Turn]) {
        for turn in turns {
            if turn.position().is_transient() {
                self.transient.available.insert(*turn);
            } else {
                self.back.insert(*turn);
            }
        }
    }

    /// Puts a message back that was taken and goes nowhere.
    pub(super) fn put_back(&mut self, turn: Turn, message: Bytes, total: &mut u64) {
        if turn.position().is_transient() {
            self.transient.available.insert(turn);
        } else {
            self.hold(turn, message, total);
        }
    }

    fn ended(&mut self, position: MessagePosition) {
        if let Some(routing) = &mut self.routing {
            routing.ended(position);
        }
    }

    /// Puts a message among those that are ready.
    fn hold(&mut self, turn: Turn, message: Bytes, total: &mut u64) {
        let size = message.len() as u64;
        self.read_ahead += size + MESSAGE_OVERHEAD_BYTES;
        *total += size + MESSAGE_OVERHEAD_BYTES;
        if self.ready.back().is_none_or(|(last, _)| *last < turn) {
            self.ready.push_back((turn, message));
        } else {
            let place = self.ready.partition_point(|(at, _)| *at < turn);
            self.ready.insert(place, (turn, message));
        }
    }

    fn let_go(&mut self, size: u64, total: &mut u64) {
        self.read_ahead -= size + MESSAGE_OVERHEAD_BYTES;
        *total -= size + MESSAGE_OVERHEAD_BYTES;
    }

    fn unreserve(&mut self, turn: Turn, total: &mut u64) {
        if let Some(reserved) = self.fetching.remove(&turn) {
            self.read_ahead -= reserved;
            *total -= reserved;
        }
    }
}
