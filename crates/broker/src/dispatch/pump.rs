//! Moving messages: from what is ready to consumers with credit, in turn, and from the log to what is ready.

use bytes::Bytes;
use quorate_message::MessagePosition;

use super::{ConsumerRef, Dispatcher, Held, Holder, LaneId};
use crate::broker::Counters;
use crate::limits::READ_AHEAD_MESSAGES;
use crate::state::{State, Turn};
use crate::{Delivery, Effect, GroupMark};

/// A fetch names at least so many messages when there are, so that a consumer with little credit does not cause a
/// read per message.
const FETCH_MESSAGES_MIN: usize = 64;

impl Dispatcher {
    /// Serves every lane that something happened to.
    pub(super) fn pump_all(
        &mut self,
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        loop {
            while let Some(id) = self.touched.pop_front() {
                self.lanes[id.0].is_touched = false;
                self.pump(id, state, counters, effects);
            }
            if self.hungry.is_empty() || self.read_ahead >= self.limits.read_ahead_bytes {
                return;
            }
            // There is room again: whoever was refused before comes first.
            for id in std::mem::take(&mut self.hungry) {
                self.lanes[id.0].is_hungry = false;
                self.touch(id);
            }
        }
    }

    fn pump(
        &mut self,
        id: LaneId,
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        let queue = self.lanes[id.0].queue;
        let is_paused = queue.is_some_and(|queue| state.queue(queue).is_paused());
        if !self.has_lease || is_paused {
            return;
        }
        // What leaves with its name is delivered where it goes.
        if queue.is_some_and(|queue| !state.is_delivered(queue)) {
            return;
        }
        // Who was the active one is known when all have said what they hold.
        if self.is_held_back() && self.lanes[id.0].active.is_some() {
            return;
        }
        let barrier = self.barrier();
        let bound = self.bound_of(id, state);
        let mut last = None;
        let mut outgoing = Vec::new();
        self.look_for_groups(id, state);
        if self.lanes[id.0].routing.is_some() {
            self.pump_routed(id, state, counters, &mut outgoing);
        }
        while let Some(to) = self.next_in_turn(id) {
            let next = self.lanes[id.0].take_next((barrier, bound), &mut self.read_ahead);
            let Some((turn, message)) = next else {
                break;
            };
            if self.sets_aside(id, turn, &message, state, counters) {
                continue;
            }
            counters.delivered += 1;
            last = Some(turn.position());
            self.deliver(id, (to, None), turn, message, state, &mut outgoing);
        }
        for to in outgoing {
            let consumer = self.consumers.get_mut(to);
            effects.push(Effect::Deliver {
                session: consumer.session.expect("only with a session"),
                consumer: consumer.id,
                generation: consumer.generation,
                deliveries: std::mem::take(&mut consumer.outbox),
            });
        }
        let waits = &self.lanes[id.0];
        let front = waits.ready.front().filter(|_| !waits.ring.is_empty());
        if let Some(last) = front.map(|(front, _)| front.position()).or(last) {
            self.raise_bound(id, last, state);
        }
        self.keep_copies(id);
        self.fetch_more(id, state, barrier, effects);
        self.tell_waiting(id, state, effects);
    }

    /// Who is next, where everybody may get everything.
    fn next_in_turn(&self, id: LaneId) -> Option<ConsumerRef> {
        let lane = &self.lanes[id.0];
        let next = lane.ring.front().copied();
        next.filter(|_| lane.routing.is_none())
    }

    /// Gives a message to a consumer in the ring, mostly the one at its front.
    pub(super) fn deliver(
        &mut self,
        id: LaneId,
        (to, group): (ConsumerRef, Option<GroupMark>),
        turn: Turn,
        message: Bytes,
        state: &State,
        outgoing: &mut Vec<ConsumerRef>,
    ) {
        let position = turn.position();
        let lane = &mut self.lanes[id.0];
        let (count, was_sent) = match lane.queue {
            Some(queue) if !position.is_transient() => {
                let queue = state.queue(queue);
                (queue.count(position), queue.was_sent(position))
            }
            Some(_) | None => {
                let was_sent = lane.sent.contains(position.value());
                (lane.transient.count(position), was_sent)
            }
        };
        let held = Held {
            holder: Holder::Consumer(to),
            priority: turn.priority(),
        };
        lane.in_flight.insert(position, held);
        if lane.ring.front() == Some(&to) {
            lane.ring.pop_front();
        } else {
            lane.ring.retain(|other| *other != to);
        }
        let consumer = self.consumers.get_mut(to);
        consumer.took(message.len() as u64);
        if consumer.outbox.is_empty() {
            outgoing.push(to);
        }
        consumer.outbox.push(Delivery {
            position,
            count,
            redelivered: count > 0 || was_sent,
            group,
            message,
        });
        consumer.is_in_ring = consumer.wants();
        if consumer.is_in_ring {
            lane.ring.push_back(to);
        }
    }

    /// Messages before this one wait for the gateways that may hold them.
    pub(super) fn barrier(&self) -> MessagePosition {
        if self.gateways.is_waiting() {
            self.served_from
        } else {
            MessagePosition::default()
        }
    }

    /// Whether some messages wait for consumers that may hold them.
    pub(super) fn is_held_back(&self) -> bool {
        self.barrier() != MessagePosition::default()
    }

    /// How many messages the lane's consumers can take, up to what is read ahead.
    pub(super) fn demand(&self, id: LaneId) -> usize {
        let mut demand = 0;
        for consumer in &self.lanes[id.0].ring {
            demand += self.consumers.get(*consumer).room() as usize;
            if demand >= READ_AHEAD_MESSAGES {
                return READ_AHEAD_MESSAGES;
            }
        }
        demand
    }

    /// What stays was a slice of something larger, which it would keep in memory: it is copied out.
    fn keep_copies(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        let is_idle = lane.ring.is_empty() && !lane.ready.is_empty();
        if is_idle && self.idle.insert(id) {
            for (_, message) in &mut lane.ready {
                *message = Bytes::copy_from_slice(message);
            }
        }
        if lane.ready.is_empty() {
            self.idle.remove(&id);
        }
    }

    fn fetch_more(
        &mut self,
        id: LaneId,
        state: &State,
        barrier: MessagePosition,
        effects: &mut Vec<Effect>,
    ) {
        let lane = &self.lanes[id.0];
        let Some(queue) = lane
            .queue
            .filter(|_| !lane.ring.is_empty() && lane.has_more())
        else {
            return;
        };
        let is_blocked = lane.is_blocked();
        let wanted = self.demand(id).saturating_sub(lane.read_ahead_messages());
        if wanted == 0 && !is_blocked {
            return;
        }
        let total_max = self.limits.read_ahead_bytes;
        self.reclaim(total_max);
        if is_blocked {
            // What is here cannot be sent before what is not, and must not keep that from being read.
            self.lanes[id.0].make_room(&mut self.read_ahead, total_max);
        }
        if self.read_ahead >= total_max {
            let lane = &mut self.lanes[id.0];
            if !lane.is_hungry {
                lane.is_hungry = true;
                self.hungry.push_back(id);
            }
            return;
        }
        let turns = self.lanes[id.0].start_fetch(
            state.queue(queue),
            wanted.max(FETCH_MESSAGES_MIN),
            barrier,
            &mut self.read_ahead,
            total_max,
        );
        if !turns.is_empty() {
            self.fetch(id, &turns, effects);
        } else if is_blocked && !self.lanes[id.0].is_blocked() {
            // Nothing was before it after all.
            self.touch(id);
        }
    }

    /// Lets go of bytes that nobody has credit for, as far as room is needed.
    fn reclaim(&mut self, total_max: u64) {
        while self.read_ahead >= total_max {
            let Some(id) = self.idle.pop_first() else {
                return;
            };
            self.lanes[id.0].drop_ready(&mut self.read_ahead);
        }
    }
}
