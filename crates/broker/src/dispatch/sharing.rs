//! Consumers of several shards, whose credit their gateway lends to one shard or another: they are told when a message
//! waits here, and give back what they do not use.

use quorate_message::ConsumerId;

use super::{ConsumerRef, Dispatcher, Lane, LaneId};
use crate::broker::Counters;
use crate::state::State;
use crate::{Credit, Effect, SessionId};

impl Dispatcher {
    /// Remembers whether a consumer that was attached shares its credit.
    pub(super) fn set_sharing(&mut self, reference: ConsumerRef, shares_credit: bool) {
        let id = self.consumers.get(reference).lane;
        self.stop_sharing(reference);
        let consumer = self.consumers.get_mut(reference);
        (consumer.shares_credit, consumer.is_told) = (shares_credit, false);
        if shares_credit {
            self.lanes[id.0].sharing.push(reference);
            self.touch(id);
        }
    }

    /// A consumer leaves its lane.
    pub(super) fn stop_sharing(&mut self, reference: ConsumerRef) {
        let consumer = self.consumers.get_mut(reference);
        if std::mem::take(&mut consumer.shares_credit) {
            let id = consumer.lane;
            self.lanes[id.0].sharing.retain(|other| *other != reference);
        }
    }

    pub(super) fn recall(
        &mut self,
        (session, consumer): (SessionId, ConsumerId),
        generation: u64,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.consumers.find(consumer).filter(|known| {
            let known = self.consumers.get(*known);
            known.session == Some(session) && known.generation == generation
        });
        let Some(reference) = known else {
            counters.ignored += 1;
            return;
        };
        let credit = std::mem::take(&mut self.consumers.get_mut(reference).credit);
        self.leave_ring(reference);
        let id = self.consumers.get(reference).lane;
        self.touch(id);
        effects.push(Effect::Recalled {
            session,
            consumer,
            generation,
            credit,
        });
    }

    /// Tells those without credit that something waits for them.
    pub(super) fn tell_waiting(&mut self, id: LaneId, state: &State, effects: &mut Vec<Effect>) {
        if self.lanes[id.0].sharing.is_empty() || !has_available(&self.lanes[id.0], state) {
            return;
        }
        for reference in self.lanes[id.0].sharing.clone() {
            let consumer = self.consumers.get_mut(reference);
            let Some(session) = consumer.session.filter(|_| !consumer.is_told) else {
                continue;
            };
            let Credit { messages, bytes } = consumer.credit;
            if messages > 0 && bytes > 0 {
                continue;
            }
            consumer.is_told = true;
            effects.push(Effect::Waiting {
                session,
                consumer: consumer.id,
                generation: consumer.generation,
            });
        }
    }
}

/// Whether a message is in nobody's hands.
fn has_available(lane: &Lane, state: &State) -> bool {
    let transient = &lane.transient;
    let transient_in_flight = transient.messages.len() - transient.available.len();
    let in_flight = (lane.in_flight.len() - transient_in_flight) as u64;
    let stored = lane
        .queue
        .map_or(0, |queue| state.queue(queue).pending_count());
    stored > in_flight || !transient.available.is_empty()
}
