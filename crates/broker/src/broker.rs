//! The machine: one `step`, the replicated state, and on the leader what delivers it.

pub(crate) mod status;

use bytes::Bytes;
use quorate_message::limits::PRIORITY_DEFAULT;
use quorate_message::{
    Batch, Destination, DestinationKind, DestinationName, GatewayId, MessagePosition, Outcome,
    PreviousCheckpoint, Relocating, Subscription, TransactionId,
};

use crate::dispatch::{Dispatcher, Gateways};
use crate::state::{Change, Record, Stage, State, Turn};
use crate::{AttachRefusal, Clock, Effect, Input, Limits, Obstacle, Outcomes, RestoreError};
use status::{OutboxStatus, QueueStatus, RelocationStatus, Scheduled, Standing, TopicStatus};

/// The broker of one shard on one replica.
#[derive(Clone, Debug)]
pub struct Broker {
    limits: Limits,
    state: State,
    /// Present while this replica serves.
    dispatcher: Option<Dispatcher>,
    record: Record,
    counters: Counters,
    /// Non-persistent messages of a leader that was frozen when it was deposed: it is not known yet whether somebody
    /// took them over.
    transient_handed: u64,
}

/// What happened since the broker was made; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Non-persistent messages that were in memory when the leader was deposed, unless another leader took them over.
    pub transient_lost: u64,
    /// Inputs that were out of date: of an older generation or of another session.
    pub ignored: u64,
    /// Times that a message could not be read.
    pub unreadable: u64,
    /// Messages given to consumers.
    pub delivered: u64,
    /// Non-persistent messages whose time was over; they are dropped.
    pub transient_expired: u64,
    /// Times that it took over what an earlier leader knew.
    pub taken_over: u64,
}

/// Where a message goes that this shard forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Where the placement says.
    Placement,
    /// To this shard: it lives here.
    Here,
    /// To that shard: it leaves for there.
    Elsewhere(u32),
    /// It leaves, and is not expected where it goes yet: nowhere now.
    NotYet,
    /// To that shard, unless the placement knows that this move is over: then where the placement says. The name may have
    /// moved on since, or stayed where it was.
    Since {
        /// The number of the move.
        number: u64,
        /// The shard that the name goes to by it.
        shard: u32,
    },
}

impl Broker {
    /// The broker of an empty log.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let state = State::new(limits.queues_max, limits.windows_max, limits.outbox_max);
        Self::with_state(limits, state)
    }

    /// The broker that [`Broker::checkpoint`] wrote. The leader's limits are the default ones.
    ///
    /// # Errors
    /// When the bytes are no checkpoint of a known version.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        Ok(Self::with_state(Limits::default(), State::restore(bytes)?))
    }

    fn with_state(limits: Limits, state: State) -> Self {
        Self {
            limits,
            state,
            dispatcher: None,
            record: Record::default(),
            counters: Counters::default(),
            transient_handed: 0,
        }
    }

    /// Takes one fact and adds what is to be done about it.
    pub fn step(&mut self, now: Clock, input: Input, effects: &mut Vec<Effect>) {
        let (now, stamp_ms) = (now.micros, now.stamp_ms);
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.set_wall(stamp_ms);
        }
        match input {
            Input::Committed {
                entry,
                stamp_ms,
                batch,
            } => self.committed(now, (entry, stamp_ms), &batch, effects),
            Input::Serving { epoch, at } => self.serving((now, stamp_ms), epoch, at),
            Input::HandedOver { image } => self.handed_over(now, stamp_ms, &image),
            Input::Freeze => self.freeze(true),
            Input::Thaw => self.freeze(false),
            Input::Deposed => self.depose(),
            Input::TakenOver { is_taken } => self.taken_over(is_taken),
            Input::Attach {
                session,
                consumer,
                generation,
                ..
            } if self.dispatcher.is_none() => effects.push(Effect::AttachRefused {
                session,
                consumer,
                generation,
                reason: AttachRefusal::NotServing,
            }),
            Input::Transient {
                session,
                number,
                batch,
            } if self.dispatcher.is_none() => {
                let mut outcomes = Outcomes::new();
                batch
                    .commands()
                    .for_each(|_| outcomes.push(Outcome::LimitReached));
                effects.push(Effect::TransientApplied {
                    session,
                    number,
                    outcomes,
                });
            }
            Input::Lease { .. }
            | Input::Joined { .. }
            | Input::Reporting { .. }
            | Input::Reported { .. }
            | Input::Left { .. }
            | Input::Attach { .. }
            | Input::Detach { .. }
            | Input::SessionLost { .. }
            | Input::Credited { .. }
            | Input::Recall { .. }
            | Input::Transient { .. }
            | Input::Fetched { .. }
            | Input::Forwarded { .. }
            | Input::ForwardRefused { .. }
            | Input::Asked { .. }
            | Input::Resolve { .. }
            | Input::Elapsed => {
                if let Some(dispatcher) = &mut self.dispatcher {
                    dispatcher.told(now, input, &self.state, &mut self.counters, effects);
                }
            }
        }
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.work(now, &self.state, &mut self.counters, effects);
        }
    }

    fn serving(&mut self, (now, stamp_ms): (u64, u64), epoch: u64, at: u64) {
        self.depose();
        let mut dispatcher = Dispatcher::new(self.limits, epoch, at, now, &self.state);
        dispatcher.set_wall(stamp_ms);
        self.dispatcher = Some(dispatcher);
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.dispatcher.as_ref().and_then(Dispatcher::next_deadline)
    }

    /// The replicated state as bytes: the same on every replica that applied the same entries.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        self.state.checkpoint()
    }

    /// A hash of the replicated state.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.state.digest()
    }

    /// The digest that was taken at the newest checkpoint command; a leader puts it into its next one.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<PreviousCheckpoint> {
        self.state.last_checkpoint()
    }

    /// The last entry that was applied; 0 before the first.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.state.applied()
    }

    /// The version of the settings that are in force.
    #[must_use]
    pub fn settings_version(&self) -> u64 {
        self.state.settings().rules().version()
    }

    /// How many persistent messages are stored and not settled, in all queues and on their way to other destinations.
    #[must_use]
    pub fn message_count(&self) -> u64 {
        self.state.live().total()
    }

    /// How many transactions wait for their decision here, or were decided here and are not finished everywhere.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.state.transactions().open()
    }

    /// The transactions that wait for their decision here.
    pub fn prepared_transactions(&self) -> impl Iterator<Item = TransactionId> + '_ {
        self.state.transactions().prepared().map(|(id, _)| id)
    }

    /// Whether an entry from `first_entry` to `last_entry` holds a message that is not settled.
    #[must_use]
    pub fn has_live(&self, first_entry: u64, last_entry: u64) -> bool {
        self.state.has_live(first_entry, last_entry)
    }

    /// The entries from `first` to `last` that hold a message that is not settled, ascending.
    pub fn live_entries(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        self.state.live_entries(first, last)
    }

    /// All queues by name: those of the log, and on the leader those that have only consumers or non-persistent
    /// messages.
    pub fn queues(&self) -> impl Iterator<Item = QueueStatus> + use<> {
        self.statuses(DestinationKind::Queue).into_iter()
    }

    /// Destinations of a kind, by name.
    #[must_use]
    pub fn statuses(&self, kind: DestinationKind) -> Vec<QueueStatus> {
        let stored = self.state.queues().iter().map(|queue| QueueStatus {
            kind: queue.kind(),
            name: queue.name().clone(),
            messages: queue.pending_count(),
            scheduled: queue.waiting_count(),
            expired_total: queue.expired_total(),
            in_flight: 0,
            consumers: 0,
            enqueued_total: queue.enqueued_total(),
            settled_total: queue.settled_total(),
            non_persistent: 0,
            bytes: queue.bytes(),
            is_paused: queue.is_paused(),
        });
        let mut queues: Vec<QueueStatus> = stored.collect();
        if let Some(dispatcher) = &self.dispatcher {
            dispatcher.complete_status(&mut queues);
        }
        // A place whose subscription ended is there, and is nobody's.
        queues.retain(|status| {
            let at = status.destination();
            let is_ended = || self.state.id_of(&at).is_none();
            // What moved is listed where it lives.
            let moved = self.state.relocations().of(&at);
            let is_gone = moved.is_some_and(|moved| moved.stage == Stage::Gone);
            let is_kind = status.kind == kind && !is_gone;
            is_kind && (kind != DestinationKind::Subscription || !is_ended())
        });
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    /// All topics by name.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicStatus> {
        let topics = self.statuses(DestinationKind::Topic).into_iter();
        let topics = topics.map(|topic| TopicStatus {
            published_total: topic.enqueued_total,
            kept: topic.messages,
            subscriptions: self.state.topics().matching_count(&topic.name),
            name: topic.name,
        });
        topics.collect()
    }

    /// The subscription of this key.
    #[must_use]
    pub fn subscription(&self, key: &DestinationName) -> Option<&Subscription> {
        let id = self.state.id_of(&Destination::subscription(key.clone()))?;
        self.state.topics().subscription(id)
    }

    /// Up to `limit` messages of a queue behind `after`, in their turn, those in flight included; non-persistent ones
    /// come last. A message that is gone is taken to have had the default priority.
    #[must_use]
    pub fn browse(
        &self,
        queue: &DestinationName,
        after: Option<MessagePosition>,
        limit: usize,
    ) -> Vec<MessagePosition> {
        let id = self.state.queue_id(queue);
        let stored = id.map(|id| self.state.queue(id));
        let from = after.map_or_else(Turn::default, |after| {
            let turn = stored.and_then(|stored| stored.turn_of(after));
            turn.unwrap_or_else(|| Turn::new(PRIORITY_DEFAULT, after))
                .next()
        });
        let has_stored = !from.position().is_transient();
        let stored = stored.filter(|_| has_stored);
        let turns = stored.into_iter().flat_map(|stored| stored.in_turn(from));
        let mut positions: Vec<MessagePosition> = turns.map(Turn::position).take(limit).collect();
        if let Some(dispatcher) = &self.dispatcher {
            let rest = limit - positions.len();
            let queue = Destination::queue(queue.clone());
            let from = from.position();
            positions.extend(dispatcher.transient_from(&queue, from).take(rest));
        }
        positions
    }

    /// The persistent messages of a queue from a position on, ascending, those in flight included.
    pub fn stored_from(
        &self,
        queue: &DestinationName,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        let stored = self.state.queue_id(queue).map(|id| self.state.queue(id));
        let next = move |from| stored.and_then(|stored| stored.first_pending_from(from));
        std::iter::successors(next(from), move |position| next(position.next()))
    }

    /// Whether a persistent message of a queue is in a consumer's hands. Only the leader knows.
    #[must_use]
    pub fn is_in_flight(&self, queue: &DestinationName, position: MessagePosition) -> bool {
        self.dispatcher
            .as_ref()
            .is_some_and(|dispatcher| dispatcher.is_in_flight(queue, position))
    }

    /// Up to `limit` messages of a queue or topic that wait for their time, in the order in which they are due, behind `after`:
    /// when a message is due, and the message.
    #[must_use]
    pub fn scheduled(
        &self,
        destination: &Destination,
        after: Option<(u64, MessagePosition)>,
        limit: usize,
    ) -> Vec<Scheduled> {
        let id = self.state.id_of(destination);
        let page = id.map(|id| self.state.queue(id).timing().page(after, limit));
        page.unwrap_or_default()
    }

    /// The bytes of a non-persistent message.
    #[must_use]
    pub fn transient_message(&self, position: MessagePosition) -> Option<Bytes> {
        self.dispatcher
            .as_ref()
            .and_then(|dispatcher| dispatcher.transient_message(position))
    }

    /// Destinations that messages are on their way to, by name.
    pub fn outbox(&self) -> impl Iterator<Item = OutboxStatus> + use<> {
        let forwarder = self.dispatcher.as_ref().map(Dispatcher::forwarder);
        let targets = self.state.outbox().targets();
        let mut targets: Vec<OutboxStatus> = targets
            .filter(|(_, target)| !target.is_empty())
            .map(|(id, target)| OutboxStatus {
                target: target.destination().clone(),
                messages: target.len() as u64,
                oldest_ms: target
                    .items_from(0)
                    .next()
                    .map_or(0, |(_, item)| item.at_ms),
                refusal: forwarder.and_then(|forwarder| forwarder.refusal(id)),
            })
            .collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets.into_iter()
    }

    /// How far a name is that moved from or to this shard, or is on its way.
    #[must_use]
    pub fn relocation(&self, name: &DestinationName) -> Option<RelocationStatus> {
        let moved = self.state.relocations().get(name.as_str())?;
        Some(RelocationStatus {
            relocating: moved.relocating,
            standing: match moved.stage {
                Stage::Leaving { .. } | Stage::Shipping | Stage::Cut => Standing::Leaving,
                Stage::Gone => Standing::Gone,
                Stage::Expected { .. } => Standing::Expected,
                Stage::Here => Standing::Here,
                Stage::Stays(obstacle) => Standing::Stays(obstacle),
            },
        })
    }

    /// Why a name cannot leave this shard.
    #[must_use]
    pub fn obstacle(&self, name: &DestinationName) -> Option<Obstacle> {
        self.state.obstacle(name)
    }

    /// Where what this shard forwards to a destination goes.
    #[must_use]
    pub fn route(&self, to: &Destination) -> Route {
        let Some(moved) = self.state.relocations().of(to) else {
            return Route::Placement;
        };
        let Relocating { number, to, .. } = moved.relocating;
        match moved.stage {
            Stage::Leaving { .. } => Route::NotYet,
            Stage::Shipping | Stage::Cut => Route::Elsewhere(to),
            Stage::Gone | Stage::Expected { .. } => Route::Since { number, shard: to },
            Stage::Here | Stage::Stays(_) => Route::Here,
        }
    }

    /// How many messages are on their way to other destinations.
    #[must_use]
    pub fn outbox_count(&self) -> u64 {
        u64::from(self.state.outbox().len())
    }

    /// How often a persistent message was returned.
    #[must_use]
    pub fn delivery_count(&self, queue: &DestinationName, position: MessagePosition) -> u32 {
        let id = self.state.queue_id(queue);
        id.map_or(0, |id| self.state.queue(id).count(position))
    }

    /// The gateways whose attachment is logged.
    pub fn gateways(&self) -> impl Iterator<Item = GatewayId> + '_ {
        self.state.gateways().iter()
    }

    /// The gateways that this leader gives up: they were away for too long, and what they held goes back before their loss
    /// is logged.
    pub fn gateways_given_up(&self) -> impl Iterator<Item = GatewayId> + '_ {
        let gateways = self.dispatcher.as_ref().map(Dispatcher::gateways);
        gateways.into_iter().flat_map(Gateways::given_up)
    }

    /// Whether the leader knows what is in everybody's hands, and could hand it over once it is frozen.
    #[must_use]
    pub fn can_hand_over(&self) -> bool {
        let dispatcher = self.dispatcher.as_ref();
        dispatcher.is_some_and(Dispatcher::can_hand_over)
    }

    /// What the frozen leader knows beyond the log, for `Input::HandedOver` at a replica that has applied the same
    /// entries. None when it does not serve or does not know all.
    #[must_use]
    pub fn hand_over(&self) -> Option<Bytes> {
        self.dispatcher.as_ref().and_then(Dispatcher::hand_over)
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn dispatcher(&self) -> Option<&Dispatcher> {
        self.dispatcher.as_ref()
    }

    fn committed(
        &mut self,
        now: u64,
        (entry, stamp_ms): (u64, u64),
        batch: &Batch,
        effects: &mut Vec<Effect>,
    ) {
        self.state.apply(entry, stamp_ms, batch, &mut self.record);
        if self.record.is_diverged {
            effects.push(Effect::Diverged { entry });
        }
        if let Some(dispatcher) = &mut self.dispatcher {
            let mut removed = self.record.removed;
            for change in self.record.changes.drain(..) {
                match change {
                    Change::Made(queue) => dispatcher.made(queue, &self.state),
                    Change::Stored {
                        queue,
                        priority,
                        first,
                        last,
                    } => {
                        if first.entry() == entry {
                            dispatcher.stored(queue, priority, first, last, batch);
                        } else {
                            dispatcher.joined(queue, priority, first, last);
                        }
                        dispatcher.watch_backlog(queue, &self.state);
                    }
                    Change::PutBack(queue, turn) => {
                        dispatcher.put_back(queue, turn, &self.state);
                    }
                    Change::Removed(queue, turn) => dispatcher.removed(queue, turn),
                    Change::Readied(queue, turn) => dispatcher.readied(queue, turn, &self.state),
                    Change::Ripened(queue, position) => dispatcher.ripened(queue, position),
                    Change::Ticked => dispatcher.ticked(),
                    Change::GivenBack(queue, position, giver) => {
                        dispatcher.given_back(queue, position, giver, &self.state);
                    }
                    Change::Departed(target) | Change::Transferred(target) => {
                        dispatcher.outbox_changed(target, &self.state);
                    }
                    Change::Sifted(queue) => dispatcher.sifted(queue, &self.state),
                    Change::Configured => dispatcher.configured(),
                    Change::Relocated => dispatcher.relocated(),
                    Change::Left(destination) => {
                        let name = &batch.destination(destination).name;
                        self.counters.transient_lost += dispatcher.left(name);
                    }
                    Change::Resumed(queue) => dispatcher.resumed(queue),
                    Change::Purged(destination) => {
                        removed += dispatcher.purged(batch.destination(destination), &self.state);
                    }
                    Change::Ended(queue) => {
                        dispatcher.ended(queue, AttachRefusal::NoSubscription, effects);
                    }
                    Change::Followed(queue) => {
                        self.counters.transient_lost += dispatcher.followed(queue, effects);
                    }
                    Change::Deleted(destination, queue) => {
                        dispatcher.deleted(batch.destination(destination), queue);
                    }
                    Change::GatewayAttached(gateway) => {
                        dispatcher.gateway_attached(gateway, &self.state);
                    }
                    Change::GatewayLost(gateway) => {
                        dispatcher.gateway_lost(now, gateway, &self.state, effects);
                    }
                    Change::Dispatched(queue) => dispatcher.bounded(queue, &self.state),
                }
            }
            effects.push(Effect::Applied {
                entry,
                outcomes: std::mem::take(&mut self.record.outcomes),
                removed,
            });
        }
    }

    fn freeze(&mut self, is_frozen: bool) {
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.freeze(is_frozen);
        }
    }

    /// Takes over what an earlier leader knew. What cannot be read is as if it had not come.
    fn handed_over(&mut self, now: u64, stamp_ms: u64, image: &[u8]) {
        let Some(known) = &self.dispatcher else {
            return;
        };
        let mut dispatcher = known.clone();
        dispatcher.set_wall(stamp_ms);
        if dispatcher.resume(now, image, &self.state) {
            self.counters.taken_over += 1;
            self.transient_handed = 0;
            self.dispatcher = Some(dispatcher);
        }
    }

    fn depose(&mut self) {
        let Some(dispatcher) = self.dispatcher.take() else {
            return;
        };
        let count = dispatcher.transient_count();
        if dispatcher.is_frozen() {
            self.transient_handed += count;
        } else {
            self.counters.transient_lost += count;
        }
    }

    fn taken_over(&mut self, is_taken: bool) {
        let handed = std::mem::take(&mut self.transient_handed);
        if !is_taken {
            self.counters.transient_lost += handed;
        }
    }
}
