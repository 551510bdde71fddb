//! Delivery from a queue where not every consumer may get every message: what [`super::routing`] says is done here.
//! Also which of the consumers of an exclusive queue is the active one; the others stand by.

use std::cmp::Reverse;

use super::consumer::ConsumerRef;
use super::routing::{Route, Routing};
use super::{Dispatcher, LaneId};
use crate::broker::Counters;
use crate::state::State;

impl Dispatcher {
    /// A consumer is attached to a lane, on the terms that it has now.
    pub(super) fn enter(&mut self, id: LaneId, consumer: ConsumerRef, state: &State) {
        self.lanes[id.0].members.insert(consumer);
        let terms = &self.consumers.get(consumer).terms;
        if terms.selector.is_some() || terms.priority != 0 {
            self.make_routing(id);
        }
        self.look_for_groups(id, state);
        if let Some(routing) = &mut self.lanes[id.0].routing {
            let terms = &self.consumers.get(consumer).terms;
            routing.entered(consumer, terms.selector.as_ref(), terms.priority);
            for group in &terms.owned_groups {
                routing.keep_group(*group, consumer);
            }
        }
        self.touch(id);
        // They are the routing's by now.
        let consumer = self.consumers.get_mut(consumer);
        consumer.terms.owned_groups = Vec::new();
        self.choose_active(id, state);
    }

    /// A consumer is a lane's no longer.
    pub(super) fn leave(&mut self, id: LaneId, consumer: ConsumerRef) {
        let lane = &mut self.lanes[id.0];
        lane.members.remove(&consumer);
        if let Some(routing) = &mut lane.routing {
            routing.left(consumer);
            self.touch(id);
        }
        if self.lanes[id.0].active.is_some() {
            self.wants_active.insert(id);
        }
    }

    /// Queues may be exclusive, or no longer, that were not before.
    pub(crate) fn configured(&mut self) {
        let lanes = self.lane_ids();
        self.wants_active.extend(lanes);
    }

    /// Chooses anew where an active consumer left, or settings may have changed.
    pub(super) fn choose_all_active(&mut self, state: &State) {
        while let Some(id) = self.wants_active.pop_first() {
            self.choose_active(id, state);
        }
    }

    /// Finds out who is the active one: of those that want to be, of the highest priority, who is it, who was it under
    /// an earlier leader and has messages in hand, who was it, who came first. One whose gateway was given up and is back does
    /// not take it from another.
    fn choose_active(&mut self, id: LaneId, state: &State) {
        let lane = &self.lanes[id.0];
        let by_settings = lane
            .queue
            .is_some_and(|queue| state.settings_of(queue).exclusive);
        let wants = |consumer: &&ConsumerRef| {
            by_settings || self.consumers.get(**consumer).terms.is_exclusive
        };
        // Nobody has got anything yet from who was chosen before all have said what they hold.
        let current = lane.active.filter(|_| !self.is_held_back());
        let active = lane
            .members
            .iter()
            .filter(wants)
            .max_by_key(|reference| {
                let consumer = self.consumers.get(**reference);
                let terms = &consumer.terms;
                let is_current = current == Some(**reference);
                let came = Reverse(consumer.arrival);
                // One that was it may have been given up since, and not know of who came after it.
                let has_some = consumer.in_flight > 0;
                let was_active = (terms.was_active, has_some);
                (terms.priority, is_current, was_active, came)
            })
            .copied();
        if active.is_none() && lane.active.is_none() {
            return;
        }
        self.lanes[id.0].active = active;
        let members: Vec<ConsumerRef> = self.lanes[id.0].members.iter().copied().collect();
        for consumer in members {
            let stands_by = active.is_some_and(|active| active != consumer);
            self.consumers.get_mut(consumer).stands_by = stands_by;
            if stands_by {
                self.leave_ring(consumer);
            } else {
                self.rejoin(consumer);
            }
        }
    }

    /// Routes the lane from now on, if it has messages that belong to groups.
    pub(super) fn look_for_groups(&mut self, id: LaneId, state: &State) {
        let lane = &self.lanes[id.0];
        let is_grouped = lane.transient.has_groups
            || lane
                .queue
                .is_some_and(|queue| state.queue(queue).has_groups());
        let is_known = lane
            .routing
            .as_ref()
            .is_some_and(|routing| routing.has_groups());
        if is_grouped && !is_known {
            self.make_routing(id).look_for_groups();
        }
    }

    fn make_routing(&mut self, id: LaneId) -> &mut Routing {
        let lane = &mut self.lanes[id.0];
        let consumers = &self.consumers;
        let members = &lane.members;
        lane.routing.get_or_insert_with(|| {
            let mut routing = Box::<Routing>::default();
            for member in members {
                let terms = &consumers.get(*member).terms;
                routing.entered(*member, terms.selector.as_ref(), terms.priority);
            }
            routing
        })
    }

    /// Sends what can be sent from a lane that is routed.
    pub(super) fn pump_routed(
        &mut self,
        id: LaneId,
        state: &State,
        counters: &mut Counters,
        outgoing: &mut Vec<ConsumerRef>,
    ) {
        // Who owns which group is known when all have said what they hold.
        if self.is_held_back() && self.needs_owners(id) {
            return;
        }
        self.recall_for_ring(id);
        loop {
            self.route_ready(id, state, counters, outgoing);
            // What came up may have made room to recall more.
            let is_recalled = self.recall_for_ring(id);
            let is_here = self.look_again(id);
            if !is_recalled && !is_here {
                break;
            }
        }
        let lane = &mut self.lanes[id.0];
        if lane.routing.as_ref().is_some_and(|it| it.is_needless()) {
            lane.routing = None;
        }
    }

    fn needs_owners(&self, id: LaneId) -> bool {
        let routing = self.lanes[id.0].routing.as_ref();
        routing.is_some_and(|routing| routing.has_groups())
    }

    fn route_ready(
        &mut self,
        id: LaneId,
        state: &State,
        counters: &mut Counters,
        outgoing: &mut Vec<ConsumerRef>,
    ) {
        let range = (self.barrier(), self.bound_of(id, state));
        loop {
            let lane = &mut self.lanes[id.0];
            if lane.ring.is_empty() {
                return;
            }
            let Some((turn, message)) = lane.take_next(range, &mut self.read_ahead) else {
                return;
            };
            if self.sets_aside(id, turn, &message, state, counters) {
                continue;
            }
            let lane = &mut self.lanes[id.0];
            let routing = lane.routing.as_mut().expect("only routed lanes come here");
            let was_recalled = routing.is_recalled(turn);
            match routing.route(turn, &message, &lane.ring) {
                Route::To(consumer, mark) => {
                    counters.delivered += 1;
                    self.deliver(id, (consumer, mark), turn, message, state, outgoing);
                    self.recall_for(id, consumer);
                }
                Route::Parked => {}
                Route::Stays => {
                    lane.put_back(turn, message, &mut self.read_ahead);
                    return;
                }
            }
            // What is parked for somebody comes before what is ready behind it.
            if was_recalled {
                self.recall_for_ring(id);
            }
        }
    }

    /// Recalls for all who have credit. Whether any of it can be looked at at once.
    fn recall_for_ring(&mut self, id: LaneId) -> bool {
        let lane = &self.lanes[id.0];
        let is_empty = lane
            .routing
            .as_ref()
            .is_none_or(|it| it.parked().is_empty());
        if is_empty {
            return false;
        }
        let ring: Vec<ConsumerRef> = lane.ring.iter().copied().collect();
        let mut is_here = false;
        for consumer in ring {
            is_here |= self.recall_for(id, consumer);
        }
        is_here
    }

    /// Lets a consumer with credit have what waited for it.
    fn recall_for(&mut self, id: LaneId, consumer: ConsumerRef) -> bool {
        let consumer_now = self.consumers.get(consumer);
        let room = consumer_now.room();
        let routing = self.lanes[id.0].routing.as_mut();
        let Some(routing) = routing.filter(|_| consumer_now.is_in_ring) else {
            return false;
        };
        let turns = routing.recall(consumer, room);
        self.lanes[id.0].recalled(&turns);
        turns.iter().any(|turn| turn.position().is_transient())
    }

    /// Brings up some of what selectors in the ring were not asked about. Whether any of it can be looked at at once.
    fn look_again(&mut self, id: LaneId) -> bool {
        let lane = &mut self.lanes[id.0];
        let mut is_here = false;
        for place in 0..lane.ring.len() {
            let (Some(consumer), Some(routing)) =
                (lane.ring.get(place).copied(), &mut lane.routing)
            else {
                break;
            };
            let turns = routing.look_again(consumer);
            is_here |= turns.iter().any(|turn| turn.position().is_transient());
            lane.recalled(&turns);
        }
        is_here
    }
}
