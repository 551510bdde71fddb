//! How far a queue may be sent: a bound in the log, so that a later leader which learns that a gateway is gone knows
//! which messages may have been in its hands.
//!
//! A queue has no bound as long as little waits in it: whatever is stored may be sent at once, and costs nothing. When
//! a backlog grows, the bound is set behind what is in flight, and then runs ahead of what is sent by
//! [`DISPATCH_AHEAD`] messages, raised when half of them are sent; near the end of the queue it goes away again.
//! Nothing beyond the logged bound is sent, nor beyond one that is lower and on its way through the log.

use std::collections::BTreeMap;

use quorate_message::{BatchBuilder, DestinationKind, MessagePosition};

use super::{Dispatcher, LaneId};
use crate::Effect;
use crate::limits::{DISPATCH_AHEAD, PROPOSE_RETRY};
use crate::state::{QueueId, State};

/// No bound.
const NONE: u64 = u64::MAX;

/// Bounds that are on their way through the log: the value, and when it is proposed again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    proposed: BTreeMap<QueueId, (u64, u64)>,
    /// To be proposed at the end of the step.
    wanted: BTreeMap<QueueId, u64>,
}

impl Bounds {
    /// The last position of a queue that may be sent now.
    pub(super) fn of(&self, queue: QueueId, state: &State) -> u64 {
        let logged = state.queue(queue).dispatched_to();
        let proposed = self.proposed.get(&queue);
        proposed.map_or(logged, |(value, _)| logged.min(*value))
    }

    fn is_settled(&self, queue: QueueId) -> bool {
        !self.proposed.contains_key(&queue) && !self.wanted.contains_key(&queue)
    }

    /// The queue is no more; its place may be another's.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.proposed.remove(&queue);
        self.wanted.remove(&queue);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.proposed.values().map(|(_, due)| *due).min()
    }
}

impl Dispatcher {
    /// Messages were stored: sets a bound when more waits than is worth going without.
    pub(crate) fn watch_backlog(&mut self, queue: QueueId, state: &State) {
        let stored = state.queue(queue);
        let is_short = stored.pending_count() <= 2 * DISPATCH_AHEAD;
        let is_topic = stored.kind() == DestinationKind::Topic;
        if is_short || is_topic || stored.dispatched_to() != NONE || self.gateways.is_waiting() {
            return;
        }
        let lane = self.by_queue.get(&queue).map(|id| &self.lanes[id.0]);
        // What waits for another consumer was taken out before, and is sent whatever the bound is then.
        if lane.is_some_and(|lane| lane.routing.is_some()) {
            return;
        }
        let in_flight = lane.map_or(0, |lane| lane.in_flight.len() as u64);
        if stored.pending_count() - in_flight.min(stored.pending_count()) <= 2 * DISPATCH_AHEAD
            || !self.bounds.is_settled(queue)
        {
            return;
        }
        let sent = lane.and_then(|lane| {
            let mut in_flight = lane.in_flight.keys().rev();
            in_flight.find(|position| !position.is_transient())
        });
        // What was given back is marked by itself.
        let bound = sent.map_or(0, |sent| {
            stored.position_ahead(sent.value(), DISPATCH_AHEAD)
        });
        if bound != NONE {
            self.bounds.wanted.insert(queue, bound);
        }
    }

    /// The last position that may be sent of a lane.
    pub(super) fn bound_of(&self, id: LaneId, state: &State) -> MessagePosition {
        let queue = self.lanes[id.0].queue;
        let bound = queue.map_or(NONE, |queue| self.bounds.of(queue, state));
        MessagePosition::from_value(bound)
    }

    /// Something is about to be sent, or was: raises the bound in time.
    pub(super) fn raise_bound(&mut self, id: LaneId, last: MessagePosition, state: &State) {
        let Some(queue) = self.lanes[id.0].queue else {
            return;
        };
        let stored = state.queue(queue);
        let bound = stored.dispatched_to();
        if bound == NONE || last.is_transient() || !self.bounds.is_settled(queue) {
            return;
        }
        if last.value() > bound || stored.position_ahead(last.value(), DISPATCH_AHEAD / 2) > bound {
            let ahead = stored.position_ahead(last.value(), DISPATCH_AHEAD);
            if ahead > bound {
                self.bounds.wanted.insert(queue, ahead);
            }
        }
    }

    /// A bound is logged.
    pub(crate) fn bounded(&mut self, queue: QueueId, state: &State) {
        let logged = state.queue(queue).dispatched_to();
        let proposed = self.bounds.proposed.get(&queue);
        if proposed.is_some_and(|(value, _)| *value == logged) {
            self.bounds.proposed.remove(&queue);
        }
        if let Some(id) = self.by_queue.get(&queue).copied() {
            self.touch(id);
        }
    }

    /// Proposes the bounds that are wanted, and again those that were not committed.
    pub(super) fn propose_bounds(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        for (queue, (value, due)) in &self.bounds.proposed {
            if *due <= now {
                self.bounds.wanted.insert(*queue, *value);
            }
        }
        if self.bounds.wanted.is_empty() {
            return;
        }
        let due = now.saturating_add(PROPOSE_RETRY);
        let mut builder = BatchBuilder::persistent();
        for (queue, value) in std::mem::take(&mut self.bounds.wanted) {
            self.bounds.proposed.insert(queue, (value, due));
            let at = state.queue(queue).destination();
            if builder.dispatched(&at, value).is_err() {
                effects.push(Effect::Propose {
                    batch: builder.finish(),
                });
                builder
                    .dispatched(&at, value)
                    .expect("an empty batch has room");
            }
        }
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
    }
}
