//! What the leader does about the passing of time: it proposes ticks when the state has something due, and the removal
//! of messages whose time is over and that no consumer has.
//!
//! A message that is with a consumer when its time is over stays with it: it may be processed. It goes when it comes
//! back. Neither is proposed before the consumers of an earlier leader had their time to say what they hold.

use std::collections::BTreeMap;

use quorate_message::limits::BATCH_COMMANDS_MAX;
use quorate_message::{BatchBuilder, MessagePosition, MessageView, Settlement};

use super::{Dispatcher, Held, Holder, LaneId};
use crate::Effect;
use crate::broker::Counters;
use crate::limits::{RIPE_LOOK, RIPE_LOOKED_AT_MAX, TICK_PAUSE, TICK_RETRY, WALL_LOOK};
use crate::state::{QueueId, State, Turn};

/// What is proposed and what is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timed {
    /// The wall clock, which never goes back here.
    wall_ms: u64,
    /// When a tick that was proposed is given up.
    tick_until: Option<u64>,
    /// No tick before.
    pause_until: u64,
    /// When there is something to do.
    wake_at: Option<u64>,
    /// Messages to remove.
    over: Vec<(QueueId, MessagePosition)>,
    /// Messages whose removal is on its way through the log.
    proposed: BTreeMap<MessagePosition, QueueId>,
    /// When ripe messages, and removals that did not come back, are looked at again.
    look_at: Option<u64>,
}

impl Timed {
    pub(super) fn new() -> Self {
        Self {
            look_at: Some(0),
            ..Self::default()
        }
    }

    pub(super) fn set_wall(&mut self, stamp_ms: u64) {
        self.wall_ms = self.wall_ms.max(stamp_ms);
    }

    /// A tick was applied, by whoever proposed it.
    pub(super) fn ticked(&mut self) {
        self.tick_until = None;
    }

    /// A message is gone.
    pub(super) fn removed(&mut self, position: MessagePosition) {
        self.proposed.remove(&position);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.wake_at
    }

    /// Whether a message is not to be delivered any more.
    pub(super) fn is_over(&self, expires_at_ms: u64) -> bool {
        expires_at_ms > 0 && expires_at_ms <= self.wall_ms
    }
}

impl Dispatcher {
    /// Lets the wall clock act.
    pub(super) fn pass_time(
        &mut self,
        now: u64,
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        self.expire_transient(counters);
        if self.has_lease && !self.gateways.is_waiting() {
            self.look_at_ripe(now, state);
            self.propose_removals(now, state, effects);
            self.propose_tick(now, state, effects);
        }
        self.timed.wake_at = self.wake_at(now, state);
    }

    /// What was passed over, its time being over, is to be removed before anything else happens: a leader that takes over
    /// with an earlier clock would deliver it, behind what was newer.
    pub(super) fn expire_passed_over(
        &mut self,
        now: u64,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        if !self.timed.over.is_empty() && self.has_lease && !self.gateways.is_waiting() {
            self.propose_removals(now, state, effects);
            self.timed.wake_at = self.wake_at(now, state);
        }
    }

    /// A message's time is over, as a tick found.
    pub(crate) fn ripened(&mut self, queue: QueueId, position: MessagePosition) {
        self.timed.over.push((queue, position));
    }

    /// A message that waited for its time is pending.
    pub(crate) fn readied(&mut self, queue: QueueId, turn: Turn, state: &State) {
        if let Some(id) = self.by_queue.get(&queue).copied()
            && !self.is_kept_for_settlement(id, turn, state)
        {
            self.lanes[id.0].readied(turn);
            self.touch(id);
        }
    }

    /// Whether a message that is about to be delivered is not to be; then it is set aside.
    pub(super) fn sets_aside(
        &mut self,
        id: LaneId,
        turn: Turn,
        message: &[u8],
        state: &State,
        counters: &mut Counters,
    ) -> bool {
        let position = turn.position();
        if position.is_transient() {
            let expires_at_ms = self.lanes[id.0].transient.expiry(position);
            let is_over = self.timed.is_over(expires_at_ms);
            if is_over && let Some(turn) = self.remove_transient(id, position) {
                self.forget(id, turn);
                counters.transient_expired += 1;
            }
            return is_over;
        }
        if self.is_sifted_out(id, turn, message, state) {
            return true;
        }
        let queue = self.lanes[id.0].queue;
        let queue = queue.filter(|queue| state.queue(*queue).timing().has_expiring());
        let Some(queue) = queue.filter(|_| self.timed.is_over(expiry_of(message))) else {
            return false;
        };
        self.set_aside(id, turn);
        self.timed.over.push((queue, position));
        true
    }

    /// Puts a message that is available nowhere else into nobody's hands until it is removed.
    fn set_aside(&mut self, id: LaneId, turn: Turn) {
        let held = Held {
            holder: Holder::Expiring,
            priority: turn.priority(),
        };
        self.lanes[id.0].hold_back(turn, held);
    }

    /// A lane was made: what is about to be removed from its queue is in nobody's hands there.
    pub(super) fn hold_all_expiring(&mut self, queue: QueueId, id: LaneId, state: &State) {
        let stored = state.queue(queue);
        let proposed = self.timed.proposed.iter();
        let proposed = proposed.filter(|(_, at)| **at == queue);
        let turns: Vec<Turn> = proposed
            .filter_map(|(position, _)| stored.turn_of(*position))
            .collect();
        for turn in turns {
            self.take_out(id, turn);
            self.set_aside(id, turn);
        }
    }

    /// Now and then: messages that came back after their time, and removals that did not take effect.
    fn look_at_ripe(&mut self, now: u64, state: &State) {
        if self.timed.look_at.is_none_or(|at| now < at) {
            return;
        }
        self.timed.look_at = None;
        let again = std::mem::take(&mut self.timed.proposed);
        let again = again.into_iter().map(|(position, queue)| (queue, position));
        self.timed.over.extend(again);
        for id in state.ripe_queues() {
            let room = RIPE_LOOKED_AT_MAX.saturating_sub(self.timed.over.len());
            let ripe = state.queue(id).timing().ripe().take(room);
            self.timed.over.extend(ripe.map(|position| (id, position)));
        }
    }

    /// Proposes to remove what is over, unless a consumer has it.
    fn propose_removals(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        let mut builder = BatchBuilder::persistent();
        for (queue, position) in std::mem::take(&mut self.timed.over) {
            if !self.is_removable(queue, position, state) {
                continue;
            }
            self.timed.proposed.insert(position, queue);
            let name = state.queue(queue).name();
            if builder.len() >= BATCH_COMMANDS_MAX {
                effects.push(Effect::Propose {
                    batch: builder.finish(),
                });
            }
            builder
                .settle(name, position, Settlement::Expire)
                .expect("a settlement fits a batch that is not full");
        }
        if !builder.is_empty() {
            effects.push(Effect::Propose {
                batch: builder.finish(),
            });
        }
        let is_open = !self.timed.proposed.is_empty() || state.ripe_queues().next().is_some();
        if is_open && self.timed.look_at.is_none() {
            self.timed.look_at = Some(now.saturating_add(RIPE_LOOK));
        }
    }

    /// Whether a message is stored, in nobody's hands, and its removal not under way. It is set aside then.
    fn is_removable(&mut self, queue: QueueId, position: MessagePosition, state: &State) -> bool {
        let stored = state.queue(queue);
        if !stored.holds(position) || self.timed.proposed.contains_key(&position) {
            return false;
        }
        let (Some(id), Some(turn)) = (self.by_queue.get(&queue).copied(), stored.turn_of(position))
        else {
            return true;
        };
        match self.lanes[id.0]
            .in_flight
            .get(&position)
            .map(|held| held.holder)
        {
            Some(Holder::Consumer(_) | Holder::Leaving(_) | Holder::Returning(_)) => false,
            Some(Holder::Expiring | Holder::Skipped) => true,
            None => {
                self.take_out(id, turn);
                self.set_aside(id, turn);
                true
            }
        }
    }

    fn propose_tick(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        let wall_ms = self.timed.wall_ms;
        let is_due = state.next_due_ms().is_some_and(|due_ms| due_ms <= wall_ms);
        let is_open = self.timed.tick_until.is_some_and(|until| now < until);
        if !is_due || is_open || now < self.timed.pause_until {
            return;
        }
        let mut builder = BatchBuilder::persistent();
        builder.tick(wall_ms).expect("a tick fits an empty batch");
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
        self.timed.tick_until = Some(now.saturating_add(TICK_RETRY));
        self.timed.pause_until = now.saturating_add(TICK_PAUSE);
    }

    /// When the wall clock has something to do next, in the time of deadlines. Looked at anew now and then, since the
    /// wall clock may be set.
    fn wake_at(&self, now: u64, state: &State) -> Option<u64> {
        let is_idle = !self.has_lease || self.gateways.is_waiting();
        let due = state.next_due_ms().filter(|_| !is_idle);
        let due = due.into_iter().chain(self.transient.next_expiry_ms()).min();
        let tick = due.map(|due_ms| {
            let wait = due_ms
                .saturating_sub(self.timed.wall_ms)
                .saturating_mul(1000);
            let open = self
                .timed
                .tick_until
                .unwrap_or(0)
                .max(self.timed.pause_until);
            now.saturating_add(wait.min(WALL_LOOK)).max(open)
        });
        let look = self.timed.look_at.filter(|_| !is_idle);
        tick.into_iter().chain(look).min()
    }
}

/// When a stored message expires; 0 for never, and for bytes that are no message.
fn expiry_of(message: &[u8]) -> u64 {
    MessageView::new(message).map_or(0, |message| message.expires_at_ms)
}
