//! Topics at the leader: non-persistent messages go to every subscription, consumers lose a subscription that ended,
//! and a live subscription that nobody receives from any longer is ended through the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_message::{
    BatchBuilder, Destination, DestinationKind, DestinationName, Lifetime, Outcome, ProducerId,
    Sharing,
};

use super::transient::TransientMessage;
use super::{ConsumerRef, Dispatcher, Lane, LaneId};
use crate::limits::{LIVE_GRACE, MESSAGE_OVERHEAD_BYTES, RETURN_RETRY};
use crate::state::{QueueId, State};
use crate::{AttachRefusal, Effect};

/// Live subscriptions that nobody receives from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    /// Those that may be.
    suspects: BTreeSet<QueueId>,
    /// When each is ended.
    until: BTreeMap<QueueId, u64>,
    due: BTreeSet<(u64, QueueId)>,
    /// Whether those of an earlier leader were looked at.
    is_known: bool,
}

impl Orphans {
    fn wait(&mut self, id: QueueId, until: u64) {
        self.forget(id);
        self.until.insert(id, until);
        self.due.insert((until, id));
    }

    fn forget(&mut self, id: QueueId) {
        if let Some(until) = self.until.remove(&id) {
            self.due.remove(&(until, id));
        }
    }

    /// Nobody may receive from it; what is none of a live subscription does no harm.
    pub(super) fn suspect(&mut self, id: QueueId) {
        self.suspects.insert(id);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|(until, _)| *until)
    }
}

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

    /// A subscription ended: its consumers are told, and its lane is another's.
    pub(crate) fn ended(&mut self, queue: QueueId, effects: &mut Vec<Effect>) {
        self.orphans.forget(queue);
        self.orphans.suspects.remove(&queue);
        self.sifters.ended(queue);
        self.bounds.forget(queue);
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
                    reason: AttachRefusal::NoSubscription,
                });
            }
            self.returns.cancel(reference);
            self.give_back_all(reference);
            self.remove_consumer(reference);
        }
        self.empty(id);
        self.by_queue.remove(&queue);
        self.by_name.retain(|_, other| *other != id);
        let (is_touched, is_hungry) = {
            let lane = &self.lanes[id.0];
            (lane.is_touched, lane.is_hungry)
        };
        self.lanes[id.0] = Lane::new(None);
        self.lanes[id.0].is_touched = is_touched;
        self.lanes[id.0].is_hungry = is_hungry;
        self.idle.remove(&id);
        self.orphans.suspects.remove(&queue);
        self.free_lanes.push(id);
    }

    /// Ends live subscriptions that had no consumer for long enough.
    pub(super) fn end_orphans(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        if !self.orphans.is_known {
            self.orphans.is_known = true;
            let all = state.topics().subscriptions().map(|(id, _)| id);
            self.orphans.suspects.extend(all);
        }
        for id in std::mem::take(&mut self.orphans.suspects) {
            if self.is_orphan(id, state) {
                self.orphans.wait(id, now.saturating_add(LIVE_GRACE));
            }
        }
        let mut builder = BatchBuilder::persistent();
        while let Some((until, id)) = self.orphans.due.first().copied() {
            if until > now {
                break;
            }
            self.orphans.forget(id);
            let subscription = state.topics().subscription(id);
            let Some(subscription) = subscription.filter(|_| self.is_orphan(id, state)) else {
                continue;
            };
            // If this is not committed it is tried again.
            self.orphans.wait(id, now.saturating_add(RETURN_RETRY));
            let key = state.queue(id).name();
            if builder.unsubscribe(key, subscription.generation).is_err() {
                effects.push(Effect::Propose {
                    batch: builder.finish(),
                });
                builder
                    .unsubscribe(key, subscription.generation)
                    .expect("one command fits a batch");
            }
        }
        if !builder.is_empty() {
            effects.push(Effect::Propose {
                batch: builder.finish(),
            });
        }
    }

    fn is_orphan(&self, id: QueueId, state: &State) -> bool {
        let subscription = state.topics().subscription(id);
        let is_live = subscription.is_some_and(|s| s.lifetime == Lifetime::Live);
        let lane = self.by_queue.get(&id).map(|lane| &self.lanes[lane.0]);
        is_live && lane.is_none_or(|lane| lane.consumers == 0)
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
