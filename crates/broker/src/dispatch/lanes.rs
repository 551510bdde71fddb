//! Which lane delivers which destination, and which are to be looked at in this step.

use quorate_message::Destination;

use super::{Dispatcher, Lane, LaneId};
use crate::state::State;

impl Dispatcher {
    /// The lane of a queue, made if need be; none when there are too many.
    pub(super) fn lane_of(&mut self, destination: &Destination, state: &State) -> Option<LaneId> {
        if let Some(id) = self.by_name.get(destination) {
            return Some(*id);
        }
        let queue = state.id_of(destination);
        // Lanes of stored queues are bounded with those; twice as many leaves room for the others.
        if queue.is_none() && self.lanes.len() >= 2 * self.limits.queues_max as usize {
            return None;
        }
        let id = match self.free_lanes.pop() {
            Some(id) => id,
            None => {
                self.lanes.push(Lane::new(None));
                LaneId(self.lanes.len() - 1)
            }
        };
        self.lanes[id.0].serve(destination.clone(), queue);
        self.by_name.insert(destination.clone(), id);
        if let Some(queue) = queue {
            self.by_queue.insert(queue, id);
            self.hold_all_skipped(queue, id, state);
            self.hold_all_expiring(queue, id, state);
        }
        Some(id)
    }

    pub(super) fn lane_ids(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..self.lanes.len()).map(LaneId)
    }

    pub(super) fn touch(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0];
        if !lane.is_touched {
            lane.is_touched = true;
            self.touched.push_back(id);
        }
    }

    pub(super) fn touch_all(&mut self) {
        for id in self.lane_ids() {
            let lane = &self.lanes[id.0];
            if !lane.ring.is_empty() || !lane.sharing.is_empty() {
                self.touch(id);
            }
        }
    }

    /// Frees a lane that holds nothing and that nothing in the log stands behind.
    pub(super) fn free_if_unused(&mut self, id: LaneId) {
        let lane = &self.lanes[id.0];
        let is_unused = lane.queue.is_none()
            && lane.consumers == 0
            && lane.in_flight.is_empty()
            && lane.transient.messages.is_empty();
        if is_unused && lane.destination.is_some() {
            self.free_lane(id);
        }
    }

    /// The lane is empty and nobody's any more: another destination gets it.
    pub(super) fn free_lane(&mut self, id: LaneId) {
        let freed = std::mem::replace(&mut self.lanes[id.0], Lane::new(None));
        self.lanes[id.0].is_touched = freed.is_touched;
        self.lanes[id.0].is_hungry = freed.is_hungry;
        if let Some(destination) = freed.destination {
            self.by_name.remove(&destination);
        }
        self.forget_windows(id);
        self.idle.remove(&id);
        self.orphans.forget_lane(id);
        self.free_lanes.push(id);
    }
}
