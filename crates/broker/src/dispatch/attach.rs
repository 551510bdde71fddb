//! Consumers come, come back, get credit and go.

use quorate_message::{ConsumerId, Destination, MessagePosition, Settlement};

use super::{Consumer, ConsumerRef, Dispatcher, Held, Holder, LaneId};
use crate::broker::Counters;
use crate::limits::{CONSUMERS_MAX, IN_FLIGHT_MAX};
use crate::state::{State, Turn};
use crate::{AttachRefusal, Credit, Effect, Selector, SessionId, Terms};

/// Who wants to be attached.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) session: SessionId,
    pub(super) consumer: ConsumerId,
    pub(super) generation: u64,
    pub(super) credit: Credit,
    pub(super) terms: Terms,
    pub(super) shares_credit: bool,
}

impl Dispatcher {
    pub(super) fn attach(
        &mut self,
        now: u64,
        wanted: &Attachment,
        queue: &Destination,
        (held, state): (&[MessagePosition], &State),
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.consumers.find(wanted.consumer);
        if known.is_some_and(|known| self.is_out_of_date(known, wanted)) {
            counters.ignored += 1;
            return;
        }
        self.end_leftovers(now, known, queue, state, effects);
        let selector = wanted.terms.selector.as_ref();
        let at = (wanted.session, queue);
        let lane = match self.admit(known, at, (held, selector), state) {
            Ok(lane) => lane,
            Err(reason) => {
                effects.push(Effect::AttachRefused {
                    session: wanted.session,
                    consumer: wanted.consumer,
                    generation: wanted.generation,
                    reason,
                });
                return;
            }
        };
        let gateway = self.gateways.of(wanted.session);
        // Of what came through another gateway its client may have seen more than it names.
        let was_elsewhere = known.is_some_and(|known| self.consumers.get(known).gateway != gateway);
        if let Some(known) = known {
            self.leave_ring(known);
            self.consumers.get_mut(known).session = None;
            let is_same_lane = self.consumers.get(known).lane == lane;
            let named = if is_same_lane { held } else { &[] };
            self.take_back_rest(now, known, named, was_elsewhere, effects);
        }
        let reference = self.take_over(known, wanted, lane);
        let consumer = self.consumers.get_mut(reference);
        consumer.gateway = gateway;
        consumer.is_held_back =
            gateway.is_some_and(|gateway| !self.gateways.is_admitted(gateway, state));
        let lost = self.take_held(reference, lane, held, state);
        self.enter(lane, reference, state);
        if let Some(gateway) = gateway {
            self.attach_gateway(now, gateway, state, effects);
        }
        self.rejoin(reference);
        self.set_sharing(reference, wanted.shares_credit);
        effects.push(Effect::Attached {
            session: wanted.session,
            consumer: wanted.consumer,
            generation: wanted.generation,
            lost,
        });
    }

    fn is_out_of_date(&self, known: ConsumerRef, wanted: &Attachment) -> bool {
        let known = self.consumers.get(known);
        wanted.generation < known.generation
            || (wanted.generation == known.generation && known.session == Some(wanted.session))
    }

    fn admit(
        &mut self,
        known: Option<ConsumerRef>,
        (session, queue): (SessionId, &Destination),
        (held, selector): (&[MessagePosition], Option<&Selector>),
        state: &State,
    ) -> Result<LaneId, AttachRefusal> {
        // What a consumer has of a name that leaves it settles here; it gets no more.
        let moved = match state.id_of(queue) {
            Some(id) => state.moved_at(id),
            None => state.relocations().of(queue),
        };
        let is_elsewhere = moved.is_some_and(|moved| !moved.is_delivered());
        if is_elsewhere && held.is_empty() {
            return Err(AttachRefusal::Moved);
        }
        let gateway = self.gateways.of(session);
        if gateway.is_some_and(|gateway| self.gateways.is_full(gateway, state)) {
            return Err(AttachRefusal::GatewayLimit);
        }
        if held.len() > IN_FLIGHT_MAX as usize {
            return Err(AttachRefusal::HeldLimit { held: held.len() });
        }
        if known.is_none() && self.consumers.len() >= CONSUMERS_MAX {
            return Err(AttachRefusal::ConsumerLimit);
        }
        self.admit_to_subscription(known, queue, state)?;
        let lane = self
            .lane_of(queue, state)
            .ok_or(AttachRefusal::QueueLimit)?;
        let routing = self.lanes[lane.0].routing.as_ref();
        if routing.is_some_and(|routing| !routing.has_room_for(selector)) {
            return Err(AttachRefusal::SelectorLimit);
        }
        Ok(lane)
    }

    /// Makes the consumer, or puts the new attachment in the place of the one before.
    fn take_over(
        &mut self,
        known: Option<ConsumerRef>,
        wanted: &Attachment,
        lane: LaneId,
    ) -> ConsumerRef {
        let reference = match known {
            Some(reference) => {
                self.returns.cancel(reference);
                if self.consumers.get(reference).lane != lane {
                    self.stop_sharing(reference);
                    let before = self.consumers.get(reference).lane;
                    self.leave(before, reference);
                    self.leave_lane(before);
                    self.lanes[lane.0].consumers += 1;
                }
                reference
            }
            None => {
                self.lanes[lane.0].consumers += 1;
                self.consumers.add(Consumer::new(wanted.consumer, lane))
            }
        };
        let consumer = self.consumers.get_mut(reference);
        consumer.lane = lane;
        consumer.session = Some(wanted.session);
        consumer.generation = wanted.generation;
        consumer.credit = Credit::default();
        consumer.add_credit(wanted.credit);
        consumer.terms = wanted.terms.clone();
        consumer.stands_by = false;
        reference
    }

    /// Leaves with the consumer what it holds, as far as nobody else does. Returns what it holds in vain.
    pub(super) fn take_held(
        &mut self,
        reference: ConsumerRef,
        id: LaneId,
        held: &[MessagePosition],
        state: &State,
    ) -> Vec<MessagePosition> {
        let mut lost = Vec::new();
        for position in held.iter().copied() {
            if !self.take_held_one(reference, id, position, state) {
                lost.push(position);
            }
        }
        lost
    }

    /// Takes back what the consumer had and does not name. It never reached its client, unless it came through
    /// another gateway: then it goes back through the log, so that every later leader knows that it may have.
    pub(super) fn take_back_rest(
        &mut self,
        now: u64,
        reference: ConsumerRef,
        held: &[MessagePosition],
        was_elsewhere: bool,
        effects: &mut Vec<Effect>,
    ) {
        let mut named = held.to_vec();
        named.sort_unstable();
        let id = self.consumers.get(reference).lane;
        let mut seen = Vec::new();
        for position in self.held_by(reference) {
            if named.binary_search(&position).is_ok() {
                continue;
            }
            if was_elsewhere && !position.is_transient() {
                self.let_go(id, position, Holder::Consumer(reference));
                self.start_return(id, position, Settlement::Release);
                seen.push(position);
            } else {
                self.give_back(id, position);
            }
        }
        self.propose_returns(now, id, seen, Settlement::Release, effects);
    }

    fn take_held_one(
        &mut self,
        reference: ConsumerRef,
        id: LaneId,
        position: MessagePosition,
        state: &State,
    ) -> bool {
        let lane = &mut self.lanes[id.0];
        match lane.in_flight.get(&position).map(|held| held.holder) {
            Some(Holder::Consumer(holder)) => return holder == reference,
            // A client that came back another way has it; the settlement is of the way that it left.
            Some(Holder::Leaving(gateway)) => self.gateways.left(gateway, id, position),
            // It was given up, and what becomes of it is in the log, if not yet committed: it waits, or is a dead
            // letter. Nobody has it until then.
            Some(Holder::Returning(settlement))
                if self.is_set_aside((id, position), settlement, state) =>
            {
                return false;
            }
            // It was given up, and is back before the return is committed: that takes it from nobody.
            Some(Holder::Returning(_)) => self.returns.ended(),
            Some(Holder::Expiring | Holder::Skipped) => return false,
            None => {}
        }
        let known = self.lanes[id.0].in_flight.get(&position);
        let turn = match known.map(|held| Turn::new(held.priority, position)) {
            Some(turn) => Some(turn),
            None => self.take_out_at(id, position, state),
        };
        let Some(turn) = turn else {
            return false;
        };
        let held = Held {
            holder: Holder::Consumer(reference),
            priority: turn.priority(),
        };
        self.lanes[id.0].in_flight.insert(position, held);
        self.consumers.get_mut(reference).in_flight += 1;
        true
    }

    /// Takes a message that is not in flight out of where it waits, unless it is gone.
    pub(super) fn take_out_at(
        &mut self,
        id: LaneId,
        position: MessagePosition,
        state: &State,
    ) -> Option<Turn> {
        let lane = &mut self.lanes[id.0];
        if position.is_transient() {
            return lane.transient.take_out(position);
        }
        let queue = lane.queue.map(|queue| state.queue(queue));
        let turn = queue.and_then(|queue| queue.turn_of(position))?;
        self.take_out(id, turn);
        Some(turn)
    }

    /// Takes a persistent message out of where it waits. What waited behind it may be next.
    pub(super) fn take_out(&mut self, id: LaneId, turn: Turn) {
        if self.lanes[id.0].take_out(turn, &mut self.read_ahead) {
            self.fetching.drop(id, turn.position());
        }
        self.touch(id);
    }

    pub(super) fn detach(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        generation: u64,
        counters: &mut Counters,
    ) {
        let Some(reference) = self.consumers.find(consumer) else {
            return;
        };
        let known = self.consumers.get(reference);
        let is_other_session = known.session.is_some_and(|known| known != session);
        if generation < known.generation || (generation == known.generation && is_other_session) {
            counters.ignored += 1;
            return;
        }
        self.returns.cancel(reference);
        self.give_back_all(reference);
        self.remove_consumer(reference);
    }

    pub(super) fn credited(
        &mut self,
        session: SessionId,
        consumer: ConsumerId,
        credit: Credit,
        counters: &mut Counters,
    ) {
        let known = self.consumers.find(consumer);
        let known = known.filter(|known| self.consumers.get(*known).session == Some(session));
        let Some(reference) = known else {
            counters.ignored += 1;
            return;
        };
        self.consumers.get_mut(reference).add_credit(credit);
        self.rejoin(reference);
    }

    pub(super) fn session_lost(&mut self, now: u64, session: SessionId) {
        let gone = self.consumers.iter();
        let gone = gone.filter(|(_, consumer)| consumer.session == Some(session));
        let gone: Vec<ConsumerRef> = gone.map(|(reference, _)| reference).collect();
        for reference in gone {
            self.leave_ring(reference);
            self.consumers.get_mut(reference).session = None;
            let until = now.saturating_add(self.limits.reattach_grace);
            self.returns.wait_for(reference, until);
        }
    }

    /// What the consumer has in its hands.
    pub(super) fn held_by(&self, reference: ConsumerRef) -> Vec<MessagePosition> {
        let consumer = self.consumers.get(reference);
        if consumer.in_flight == 0 {
            return Vec::new();
        }
        let lane = &self.lanes[consumer.lane.0];
        let held = lane.in_flight.iter();
        held.filter(|(_, held)| held.holder == Holder::Consumer(reference))
            .map(|(position, _)| *position)
            .collect()
    }

    pub(super) fn give_back_all(&mut self, reference: ConsumerRef) {
        // Without a session it does not get back into the ring meanwhile.
        self.leave_ring(reference);
        self.consumers.get_mut(reference).session = None;
        let id = self.consumers.get(reference).lane;
        for position in self.held_by(reference) {
            self.give_back(id, position);
        }
    }

    pub(super) fn remove_consumer(&mut self, reference: ConsumerRef) {
        self.leave_ring(reference);
        self.stop_sharing(reference);
        let id = self.consumers.get(reference).lane;
        self.leave(id, reference);
        self.leave_lane(id);
        self.consumers.remove(reference);
    }

    /// A lane has a consumer less.
    fn leave_lane(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        lane.consumers -= 1;
        if lane.consumers > 0 {
            return;
        }
        match (lane.queue, &lane.destination) {
            (Some(queue), _) => self.orphans.suspect(queue),
            (None, Some(at)) if at.name.is_temporary() => self.orphans.suspect_lane(id),
            (None, Some(_) | None) => {}
        }
    }

    pub(super) fn leave_ring(&mut self, reference: ConsumerRef) {
        let consumer = self.consumers.get_mut(reference);
        if consumer.is_in_ring {
            consumer.is_in_ring = false;
            let id = consumer.lane;
            self.lanes[id.0].ring.retain(|other| *other != reference);
            self.touch(id);
        }
    }
}
