//! Topics at the leader: non-persistent messages go to every subscription, and consumers lose a subscription that ended.

use bytes::Bytes;
use quorate_message::{
    Destination, DestinationKind, DestinationName, Outcome, ProducerId, Sharing,
};

use super::transient::TransientMessage;
use super::{ConsumerRef, Dispatcher, LaneId};
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::state::{QueueId, State};
use crate::{AttachRefusal, Effect};

impl Dispatcher {
    /// What a lost consumer of an exclusive subscription left behind goes back at once, when another comes.
    pub(super) fn end_leftovers(
        &mut self,
        now: u64,
        known: Option<ConsumerRef>,
        destination: &Destination,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        let id = state.id_of(destination);
        let subscription = id.and_then(|id| state.topics().subscription(id));
        if subscription.is_none_or(|one| one.sharing != Sharing::Exclusive) {
            return;
        }
        let lane = id.and_then(|id| self.by_queue.get(&id).copied());
        for other in lane.map_or_else(Vec::new, |lane| self.consumers_of(lane)) {
            if known != Some(other) && self.consumers.get(other).session.is_none() {
                self.returns.cancel(other);
                self.leave_ring(other);
                self.take_back_rest(now, other, &[], true, effects);
                self.remove_consumer(other);
            }
        }
    }

    /// Whether a consumer may be attached here.
    pub(super) fn admit_to_subscription(
        &mut self,
        known: Option<ConsumerRef>,
        destination: &Destination,
        state: &State,
    ) -> Result<(), AttachRefusal> {
        if destination.kind != DestinationKind::Subscription {
            return Ok(());
        }
        let id = state.id_of(destination);
        let id = id.ok_or(AttachRefusal::NoSubscription)?;
        self.admit_selector(id)?;
        let subscription = state.topics().subscription(id);
        let is_exclusive = subscription.is_some_and(|s| s.sharing == Sharing::Exclusive);
        let lane = self.by_queue.get(&id).copied();
        let Some(lane) = lane.filter(|lane| is_exclusive && self.lanes[lane.0].consumers > 0)
        else {
            return Ok(());
        };
        for other in self.consumers_of(lane) {
            if known != Some(other) {
                return Err(AttachRefusal::SubscriptionInUse);
            }
        }
        Ok(())
    }

    fn consumers_of(&self, lane: LaneId) -> Vec<ConsumerRef> {
        let consumers = self.consumers.iter();
        consumers
            .filter(|(_, consumer)| consumer.lane == lane)
            .map(|(reference, _)| reference)
            .collect()
    }

    /// A subscription is no more here: its consumers are told why, and its lane is another's.
    pub(crate) fn ended(
        &mut self,
        queue: QueueId,
        reason: AttachRefusal,
        effects: &mut Vec<Effect>,
    ) {
        self.forget_place(queue);
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return;
        };
        for reference in self.consumers_of(id) {
            let consumer = self.consumers.get(reference);
            if let Some(session) = consumer.session {
                effects.push(Effect::AttachRefused {
                    session,
                    consumer: consumer.id,
                    generation: consumer.generation,
                    reason,
                });
            }
            self.returns.cancel(reference);
            self.give_back_all(reference);
            self.remove_consumer(reference);
        }
        self.empty(id);
        self.by_queue.remove(&queue);
        self.free_lane(id);
    }

    /// Takes a non-persistent message of a topic: it goes to everything that gets the topic's messages.
    pub(super) fn accept_transient_of_topic(
        &mut self,
        name: &DestinationName,
        (producer, number): (ProducerId, u64),
        mut message: TransientMessage,
        state: &State,
    ) -> Outcome {
        let mut targets = match name.is_internal() {
            // What the cluster's services say to each other is for no wildcard. Only non-persistent messages go there.
            true => state.topics().exactly(name).collect(),
            false => state.topics().matching(name),
        };
        let mut numbered = self.transient_numbered();
        targets.retain(|target| {
            let is_selected = self.sifters.selects(*target, numbered, &message.bytes);
            if is_selected {
                numbered = numbered.next();
            }
            is_selected
        });
        let cost = message.bytes.len() as u64 + MESSAGE_OVERHEAD_BYTES;
        let copies = targets.len() as u64;
        let topic = Destination::topic(name.clone());
        let mut lanes = Vec::with_capacity(targets.len());
        for target in targets {
            let destination = state.queue(target).destination();
            lanes.extend(self.lane_of(&destination, state));
        }
        let lane = self.lane_of(&topic, state);
        let Some(lane) = lane.filter(|_| self.has_transient_room(cost, copies)) else {
            return Outcome::LimitReached;
        };
        if lanes.len() as u64 != copies {
            return Outcome::LimitReached;
        }
        if let Some(seen) = self.seen_transient(lane, producer, number) {
            return seen;
        }
        // One copy, so that it does not keep the whole batch in memory for as long as it waits.
        message.bytes = Bytes::copy_from_slice(&message.bytes);
        for lane in lanes {
            self.put_transient(lane, message.clone());
        }
        Outcome::Stored
    }
}
