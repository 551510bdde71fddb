//! What lost consumers had: after a while it is returned through the log, so that every later leader knows that it
//! was delivered in vain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_message::{Destination, GatewayId, MessagePosition, Settlement};

use super::gateways::give_back_batches;
use super::{ConsumerRef, Dispatcher, Holder, LaneId};
use crate::Effect;
use crate::limits::RETURN_RETRY;
use crate::state::State;

/// Consumers that may come back, and returns that are on their way through the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returns {
    /// By when.
    waiting: BTreeSet<(u64, ConsumerRef)>,
    until: BTreeMap<ConsumerRef, u64>,
    proposed: VecDeque<Proposed>,
    /// Messages whose return is not applied.
    open: usize,
}

#[derive(Clone, Debug)]
struct Proposed {
    /// When it is proposed again, for what has not come back by then.
    due: u64,
    lane: LaneId,
    positions: Vec<MessagePosition>,
    settlement: Settlement,
}

impl Returns {
    /// How many messages are on their way back.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether any is.
    pub(super) fn are_open(&self) -> bool {
        self.open > 0
    }

    /// One has come back, or is gone.
    pub(super) fn ended(&mut self) {
        self.open -= 1;
    }

    /// Gives a consumer time to come back.
    pub(super) fn wait_for(&mut self, consumer: ConsumerRef, until: u64) {
        self.cancel(consumer);
        self.until.insert(consumer, until);
        self.waiting.insert((until, consumer));
    }

    /// The consumer came back, or left for good.
    pub(super) fn cancel(&mut self, consumer: ConsumerRef) {
        if let Some(until) = self.until.remove(&consumer) {
            self.waiting.remove(&(until, consumer));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let lost = self.waiting.first().map(|(until, _)| *until);
        let retry = self.proposed.front().map(|proposed| proposed.due);
        lost.into_iter().chain(retry).min()
    }

    fn take_lost(&mut self, now: u64) -> Option<ConsumerRef> {
        let (until, consumer) = *self.waiting.first()?;
        if until > now {
            return None;
        }
        self.cancel(consumer);
        Some(consumer)
    }
}

impl Dispatcher {
    /// Returns what consumers had that did not come back in time.
    pub(super) fn return_lost(&mut self, now: u64, effects: &mut Vec<Effect>) {
        while let Some(lost) = self.returns.take_lost(now) {
            let id = self.consumers.get(lost).lane;
            let (transient, persistent): (Vec<_>, Vec<_>) = self
                .held_by(lost)
                .into_iter()
                .partition(|position| position.is_transient());
            for position in transient {
                self.lanes[id.0].transient.raise_count(position);
                self.give_back(id, position);
            }
            for position in &persistent {
                self.let_go(id, *position, Holder::Consumer(lost));
                self.start_return(id, *position, Settlement::Return);
            }
            self.remove_consumer(lost);
            self.propose_returns(now, id, persistent, Settlement::Return, effects);
        }
        while let Some(proposed) = self.returns.proposed.pop_front_if(|front| front.due <= now) {
            let in_flight = &self.lanes[proposed.lane.0].in_flight;
            let mut open = proposed.positions;
            open.retain(|position| {
                let held = in_flight.get(position);
                held.is_some_and(|held| held.holder == Holder::Returning(proposed.settlement))
            });
            self.propose_returns(now, proposed.lane, open, proposed.settlement, effects);
        }
    }

    /// Keeps a message that nobody has from everybody until its return is applied.
    pub(super) fn start_return(
        &mut self,
        lane: LaneId,
        position: MessagePosition,
        settlement: Settlement,
    ) {
        if let Some(held) = self.lanes[lane.0].in_flight.get_mut(&position) {
            held.holder = Holder::Returning(settlement);
            self.returns.open += 1;
        }
    }

    /// Whether a settlement that is on its way through the log sets its message aside.
    pub(super) fn is_set_aside(
        &self,
        (lane, position): (LaneId, MessagePosition),
        settlement: Settlement,
        state: &State,
    ) -> bool {
        let queue = self.lanes[lane.0].queue;
        let queue = queue.filter(|_| settlement == Settlement::Return);
        queue.is_some_and(|queue| state.is_set_aside_when_returned(queue, position))
    }

    /// A gateway is back: its consumers have their time again, since each comes by a request of its own.
    pub(super) fn wait_for_consumers_of(&mut self, now: u64, gateway: GatewayId) {
        let until = now.saturating_add(self.limits.reattach_grace);
        let gone = self.consumers.iter();
        let gone = gone.filter(|(_, it)| it.session.is_none() && it.gateway == Some(gateway));
        let gone: Vec<ConsumerRef> = gone.map(|(reference, _)| reference).collect();
        for reference in gone {
            self.returns.wait_for(reference, until);
        }
    }

    pub(super) fn propose_returns(
        &mut self,
        now: u64,
        lane: LaneId,
        positions: Vec<MessagePosition>,
        settlement: Settlement,
        effects: &mut Vec<Effect>,
    ) {
        if positions.is_empty() {
            return;
        }
        let Some(at) = self.name_of(lane) else {
            return;
        };
        let batches = give_back_batches(&at, &positions, settlement).into_iter();
        effects.extend(batches.map(|batch| Effect::Propose { batch }));
        self.returns.proposed.push_back(Proposed {
            due: now.saturating_add(RETURN_RETRY),
            lane,
            positions,
            settlement,
        });
    }

    fn name_of(&self, lane: LaneId) -> Option<Destination> {
        let mut names = self.by_name.iter();
        names
            .find(|(_, id)| **id == lane)
            .map(|(name, _)| name.clone())
    }
}
