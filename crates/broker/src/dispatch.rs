//! What the serving leader knows beyond the state: consumers, their credit, what is in flight, what waits in memory.
//! Nothing of it is logged but which gateways are attached and, with a backlog, how far a queue may have been sent. A
//! consumer that lives through a change of leader names what it holds when it attaches.
//!
//! A message is delivered when its bytes are here, no earlier message of its queue is available, and a consumer has
//! credit. Bytes come from the entry that was just committed, or are fetched.

mod attach;
mod bound;
mod consumer;
mod fetching;
mod gateways;
mod groups;
mod handover;
mod lane;
mod lanes;
mod orphans;
mod parked;
mod pump;
mod relocator;
mod resolver;
mod returns;
mod route;
mod routing;
mod sharing;
mod sift;
mod timed;
mod topic;
mod transient;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_message::{Batch, Destination, DestinationName, MessagePosition};

use crate::broker::{Counters, status::QueueStatus};
use crate::forward::Forwarder;
use crate::state::{Giver, QueueId, State, TargetId, Turn};
use crate::{Effect, Input, Limits, SessionId};
use bound::Bounds;
use consumer::Consumers;
pub(crate) use consumer::{Consumer, ConsumerRef};
use fetching::Fetching;
pub(crate) use gateways::Gateways;
pub(crate) use lane::{Held, Holder, Lane};
use orphans::Orphans;
pub(crate) use relocator::Relocator;
use resolver::Resolver;
use returns::Returns;
use sift::Sifters;
use timed::Timed;
use transient::Transient;

/// A queue as the leader delivers it, by the order in which lanes were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId(usize);

/// The leader's delivery of one epoch.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    limits: Limits,
    epoch: u64,
    /// What was stored before waits until all gateways have said what they hold.
    served_from: MessagePosition,
    gateways: Gateways,
    bounds: Bounds,
    has_lease: bool,
    /// Nothing is done of its own accord: what it knows is being handed over.
    is_frozen: bool,
    lanes: Vec<Lane>,
    by_name: BTreeMap<Destination, LaneId>,
    /// Lanes of what is no more.
    free_lanes: Vec<LaneId>,
    orphans: Orphans,
    by_queue: BTreeMap<QueueId, LaneId>,
    consumers: Consumers,
    /// Lanes that something happened to in this step.
    touched: VecDeque<LaneId>,
    /// Lanes that want bytes and found no room.
    hungry: VecDeque<LaneId>,
    /// Lanes that hold bytes that nobody has credit for.
    idle: BTreeSet<LaneId>,
    /// Lanes whose active consumer may be another.
    wants_active: BTreeSet<LaneId>,
    fetching: Fetching,
    sifters: Sifters,
    /// Bytes held or reserved in all lanes.
    read_ahead: u64,
    returns: Returns,
    resolver: Resolver,
    unreadable_at: Option<u64>,
    timed: Timed,
    transient: Transient,
    forwarder: Forwarder,
    relocator: Relocator,
}

impl Dispatcher {
    pub(crate) fn new(limits: Limits, epoch: u64, at: u64, now: u64, state: &State) -> Self {
        Self {
            limits,
            epoch,
            served_from: MessagePosition::new(at, 0),
            gateways: Gateways::new(state, now.saturating_add(limits.reattach_grace)),
            bounds: Bounds::default(),
            has_lease: true,
            is_frozen: false,
            lanes: Vec::new(),
            by_name: BTreeMap::new(),
            free_lanes: Vec::new(),
            orphans: Orphans::default(),
            by_queue: BTreeMap::new(),
            consumers: Consumers::default(),
            touched: VecDeque::new(),
            hungry: VecDeque::new(),
            idle: BTreeSet::new(),
            wants_active: BTreeSet::new(),
            fetching: Fetching::default(),
            sifters: Sifters::new(state),
            read_ahead: 0,
            returns: Returns::default(),
            resolver: Resolver::default(),
            unreadable_at: None,
            timed: Timed::new(),
            transient: Transient::new(limits.windows_max),
            forwarder: Forwarder::default(),
            relocator: Relocator::default(),
        }
    }

    fn leased(&mut self, is_held: bool) {
        self.has_lease = is_held;
        self.touch_all();
    }

    /// Takes an input that is for the leader alone.
    #[expect(clippy::too_many_lines, reason = "one arm per input, nothing else")]
    pub(crate) fn told(
        &mut self,
        now: u64,
        input: Input,
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        match input {
            Input::Lease { held } => self.leased(held),
            Input::Joined { .. }
            | Input::Reporting { .. }
            | Input::Reported { .. }
            | Input::Left { .. }
            | Input::SessionLost { .. } => self.told_of_gateway(now, input, state),
            Input::Attach {
                session,
                consumer,
                generation,
                queue,
                credit,
                held,
                terms,
                shares_credit,
            } => {
                let wanted = attach::Attachment {
                    session,
                    consumer,
                    generation,
                    credit,
                    terms,
                    shares_credit,
                };
                self.attach(now, &wanted, &queue, (&held, state), counters, effects);
            }
            Input::Detach {
                session,
                consumer,
                generation,
            } => self.detach(session, consumer, generation, counters),
            Input::Credited {
                session,
                consumer,
                credit,
            } => self.credited(session, consumer, credit, counters),
            Input::Recall {
                session,
                consumer,
                generation,
            } => self.recall((session, consumer), generation, counters, effects),
            Input::Transient {
                session,
                number,
                batch,
            } => effects.push(self.transient_applied((session, number), &batch, state)),
            Input::Fetched { messages, missing } => {
                let found = messages
                    .into_iter()
                    .map(|(at, message)| (at, Some(message)));
                for read in found.chain(missing.into_iter().map(|at| (at, None))) {
                    self.read(now, read, state, counters, effects);
                }
            }
            Input::Forwarded { target, outcomes } => {
                self.forwarder
                    .answered(now, &target, &outcomes, state, effects);
            }
            Input::ForwardRefused { target } => self.forwarder.refused(now, &target, state),
            Input::Asked { name, outcomes } => self.asked(now, &name, outcomes.as_ref(), effects),
            Input::Resolve { from, message } => self.resolution((from, message), state, effects),
            Input::Elapsed => {}
            Input::Committed { .. }
            | Input::Serving { .. }
            | Input::HandedOver { .. }
            | Input::Freeze
            | Input::Thaw
            | Input::TakenOver { .. }
            | Input::Deposed => {
                unreachable!("the broker takes these itself")
            }
        }
    }

    /// Does what the time demands, then delivers and fetches whatever can be.
    pub(crate) fn work(
        &mut self,
        now: u64,
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_frozen {
            return;
        }
        if self.unreadable_at.is_some_and(|at| at <= now) {
            self.unreadable_at = None;
            for id in self.lane_ids() {
                if self.lanes[id.0].retry_unreadable() {
                    self.touch(id);
                }
            }
        }
        self.return_lost(now, effects);
        self.pass_time(now, state, counters, effects);
        self.forwarder.work(now, state, effects);
        self.end_orphans(now, state, effects);
        self.sift(now, state, effects);
        self.choose_all_active(state);
        self.resolve(now, state, effects);
        self.tend_gateways(now, state, effects);
        self.relocate(now, state, effects);
        self.pump_all(state, counters, effects);
        self.expire_passed_over(now, state, effects);
        self.propose_bounds(now, state, effects);
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.is_frozen {
            return None;
        }
        let deadlines = [
            self.gateways.next_deadline(),
            self.bounds.next_deadline(),
            self.unreadable_at,
            self.returns.next_deadline(),
            self.timed.next_deadline(),
            self.forwarder.next_deadline(),
            self.relocator.next_deadline().filter(|_| self.has_lease),
            self.orphans.next_deadline(),
            self.sifters.next_deadline(),
            self.resolver.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// A queue was made in the state; consumers may have waited for it.
    pub(crate) fn made(&mut self, queue: QueueId, state: &State) {
        let destination = state.queue(queue).destination();
        if let Some(id) = self.by_name.get(&destination).copied() {
            self.lanes[id.0].queue = Some(queue);
            self.by_queue.insert(queue, id);
            self.wants_active.insert(id);
        }
        self.sifters.made(queue, state);
        self.orphans.suspect(queue);
    }

    /// Messages of one priority were stored. If somebody can have them now they are taken out of the batch, without a
    /// read.
    pub(crate) fn stored(
        &mut self,
        queue: QueueId,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
        batch: &Batch,
    ) {
        self.sift_stored(queue, priority, (first, last), batch);
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return;
        };
        self.touch(id);
        let demand = if self.has_lease { self.demand(id) } else { 0 };
        let lane = &mut self.lanes[id.0];
        let has_skipped = lane.in_flight.range(first..=last).next().is_some();
        let mut next = first;
        while next <= last && lane.can_stage(Turn::new(priority, next), demand) {
            let is_skipped = has_skipped && lane.in_flight.contains_key(&next);
            if !is_skipped {
                let message = batch.message(next.ordinal());
                let message = message.expect("stored from the batch");
                lane.stage(Turn::new(priority, next), message, &mut self.read_ahead);
            }
            next = next.next();
        }
        if next <= last {
            lane.stored_ahead(priority);
        }
    }

    /// Messages joined their queue that were stored earlier: their bytes are not here, and their places may have been
    /// passed.
    pub(crate) fn joined(
        &mut self,
        queue: QueueId,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
    ) {
        self.sift_later(queue, first, last);
        self.join(queue, priority, first, last);
    }

    fn join(
        &mut self,
        queue: QueueId,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
    ) {
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return;
        };
        let mut next = first;
        while next <= last {
            self.lanes[id.0].join(Turn::new(priority, next));
            next = next.next();
        }
        self.touch(id);
    }

    /// The wall clock, as it is in this step.
    pub(crate) fn set_wall(&mut self, stamp_ms: u64) {
        self.timed.set_wall(stamp_ms);
    }

    /// Time has passed in the state.
    pub(crate) fn ticked(&mut self) {
        self.timed.ticked();
    }

    /// A message was removed from its queue.
    pub(crate) fn removed(&mut self, queue: QueueId, turn: Turn) {
        self.timed.removed(turn.position());
        self.sifters.forget(queue, turn.position());
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return self.orphans.suspect(queue);
        };
        self.forget(id, turn);
        if self.lanes[id.0].consumers == 0 {
            self.orphans.suspect(queue);
        }
    }

    /// A message was released or returned.
    pub(crate) fn given_back(
        &mut self,
        queue: QueueId,
        position: MessagePosition,
        giver: Giver,
        state: &State,
    ) {
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return;
        };
        let held = self.lanes[id.0].in_flight.get(&position);
        let holder = held.map(|held| held.holder);
        if holder.is_some_and(|holder| self.is_meant(holder, giver))
            && !self.passes_to_settlement(id, position, state)
        {
            self.give_back(id, position);
        }
    }

    /// Messages were put on their way to a target, or arrived there.
    pub(crate) fn outbox_changed(&mut self, target: TargetId, state: &State) {
        self.forwarder.changed(target, state);
    }

    /// Whether a message of a queue is in a consumer's hands.
    pub(crate) fn is_in_flight(&self, queue: &DestinationName, position: MessagePosition) -> bool {
        let lane = self.by_name.get(&Destination::queue(queue.clone()));
        lane.is_some_and(|id| self.lanes[id.0].in_flight.contains_key(&position))
    }

    pub(crate) fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// A queue is delivered again.
    pub(crate) fn resumed(&mut self, queue: QueueId) {
        if let Some(id) = self.by_queue.get(&queue).copied() {
            self.touch(id);
        }
    }

    /// A queue was emptied. Returns how many non-persistent messages went with it.
    pub(crate) fn purged(&mut self, destination: &Destination, state: &State) -> u64 {
        self.sifter_purged(destination, state);
        match self.by_name.get(destination).copied() {
            Some(id) => self.empty(id),
            None => 0,
        }
    }

    /// Empties a lane. Returns how many non-persistent messages went with it.
    fn empty(&mut self, id: LaneId) -> u64 {
        let lane = &mut self.lanes[id.0];
        for turn in lane.fetching.keys() {
            self.fetching.drop(id, turn.position());
        }
        let holders = lane.purge(&mut self.read_ahead);
        for (position, held) in holders {
            self.let_go(id, position, held.holder);
        }
        self.touch(id);
        self.purge_transient(id)
    }

    /// Drops whatever is known of a message.
    fn forget(&mut self, id: LaneId, turn: Turn) {
        let lane = &mut self.lanes[id.0];
        let (holder, was_fetching) = lane.forget(turn, &mut self.read_ahead);
        if was_fetching {
            self.fetching.drop(id, turn.position());
        }
        if let Some(holder) = holder {
            self.let_go(id, turn.position(), holder);
        } else {
            // What waited behind it may be next.
            self.touch(id);
        }
    }

    /// Makes a message that is in flight available again.
    fn give_back(&mut self, id: LaneId, position: MessagePosition) {
        if let Some(holder) = self.lanes[id.0].give_back(position) {
            self.let_go(id, position, holder);
            self.touch(id);
        }
    }

    /// A message that a consumer had is in its hands no longer.
    fn let_go(&mut self, id: LaneId, position: MessagePosition, holder: Holder) {
        match holder {
            Holder::Consumer(consumer) => {
                self.consumers.get_mut(consumer).in_flight -= 1;
                self.rejoin(consumer);
            }
            Holder::Leaving(gateway) => self.gateways.left(gateway, id, position),
            Holder::Returning(_) => self.returns.ended(),
            Holder::Expiring | Holder::Skipped => {}
        }
    }

    /// Puts a consumer that can take messages into its lane's ring.
    fn rejoin(&mut self, reference: ConsumerRef) {
        let consumer = self.consumers.get_mut(reference);
        if consumer.wants() && !consumer.is_in_ring {
            consumer.is_in_ring = true;
            let id = consumer.lane;
            self.lanes[id.0].ring.push_back(reference);
            self.idle.remove(&id);
            self.touch(id);
        }
    }

    fn transient_applied(
        &mut self,
        (session, number): (SessionId, u64),
        batch: &Batch,
        state: &State,
    ) -> Effect {
        let gateway = self.gateways.of(session);
        let outcomes = self.transient_batch(gateway, batch, state);
        Effect::TransientApplied {
            session,
            number,
            outcomes,
        }
    }

    /// Adds what only the leader knows to what the state says of each queue.
    pub(crate) fn complete_status(&self, queues: &mut Vec<QueueStatus>) {
        for (destination, id) in &self.by_name {
            let lane = &self.lanes[id.0];
            let place = match lane.queue {
                Some(queue) => queue.0 as usize,
                None => {
                    queues.push(QueueStatus {
                        kind: destination.kind,
                        name: destination.name.clone(),
                        messages: 0,
                        scheduled: 0,
                        expired_total: 0,
                        in_flight: 0,
                        consumers: 0,
                        enqueued_total: 0,
                        settled_total: 0,
                        non_persistent: 0,
                        bytes: 0,
                        is_paused: false,
                    });
                    queues.len() - 1
                }
            };
            let status = &mut queues[place];
            status.in_flight = lane.in_flight.len() as u64;
            status.consumers = lane.consumers;
            status.non_persistent = lane.transient.messages.len() as u64;
        }
    }

    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    pub(crate) fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    pub(crate) fn returns(&self) -> &Returns {
        &self.returns
    }

    pub(crate) fn consumers(&self) -> &Consumers {
        &self.consumers
    }

    pub(crate) fn read_ahead(&self) -> u64 {
        self.read_ahead
    }

    pub(crate) fn fetching(&self) -> &Fetching {
        &self.fetching
    }
}

impl LaneId {
    pub(crate) fn place(self) -> usize {
        self.0
    }
}
