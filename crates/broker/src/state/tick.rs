//! The passing of time, as the log tells it: messages become ready, or ripe for removal, at ticks.
//!
//! A tick is an entry of the leader's. What it does is bounded; when more is due another one follows. It never goes
//! beyond the stamp of its entry, so that a clock alone expires nothing.

use std::collections::BTreeSet;

use quorate_message::settings::Disposal;
use quorate_message::{
    Destination, DestinationKind, MessagePosition, MoveReason, Outcome, Schedule,
};

use super::agenda::Due;
use super::repeat::Repeat;
use super::{Change, Queue, QueueId, Record, State, Turn};
use crate::limits::{FIRING_RETRY_MS, FIRINGS_MAX, LOCKED_RETRY_MS, REPEATS_MAX, TICK_ITEMS_MAX};

/// What the state knows of all queues' times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calendar {
    /// When something of which queue may be due.
    due: BTreeSet<(u64, QueueId)>,
    /// Queues with messages whose time is over.
    ripe_queues: BTreeSet<QueueId>,
    /// Messages that are delivered repeatedly.
    repeats: usize,
}

impl Calendar {
    /// Takes in a queue of a checkpoint.
    pub(super) fn restored(&mut self, id: QueueId, queue: &Queue) {
        self.due.extend(queue.due_ms.map(|due_ms| (due_ms, id)));
        if !queue.timing.ripe.is_empty() {
            self.ripe_queues.insert(id);
        }
        self.repeats += queue.timing.repeats.len();
    }
}

impl State {
    /// When the next tick has something to do.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let messages = self.calendar.due.first().map(|(due_ms, _)| *due_ms);
        let history = self.topics.next_due_ms();
        messages.into_iter().chain(history).min()
    }

    /// Queues with messages whose time is over.
    pub(crate) fn ripe_queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.calendar.ripe_queues.iter().copied()
    }

    /// Whether one more message can be delivered repeatedly.
    pub(super) fn takes_schedule(&self, schedule: Option<&Schedule>) -> bool {
        !schedule.is_some_and(Schedule::is_repeated) || self.calendar.repeats < REPEATS_MAX
    }

    /// Stores a message that waits for its time.
    pub(super) fn store_scheduled(
        &mut self,
        id: QueueId,
        turn: Turn,
        bytes: u64,
        schedule: &Schedule,
    ) {
        let now = self.stamp_ms;
        let repeat = schedule.is_repeated().then(|| Repeat::new(schedule, now));
        let delayed = now.saturating_add(schedule.delay_ms);
        let due = repeat.as_ref().map_or(delayed, |repeat| repeat.next_ms);
        self.store_waiting_until(id, turn, bytes, (due, repeat));
    }

    /// Stores a message that waits until a time, and what is left of its schedule.
    pub(super) fn store_waiting_until(
        &mut self,
        id: QueueId,
        turn: Turn,
        bytes: u64,
        (due, repeat): (u64, Option<Repeat>),
    ) {
        let now = self.stamp_ms;
        let position = turn.position();
        let queue = &mut self.queues[id.0 as usize];
        queue.store_waiting(turn, bytes);
        if let Some(repeat) = repeat {
            queue.timing.repeats.insert(position, repeat);
            self.calendar.repeats += 1;
        }
        queue.timing.delays.insert(position, due, now);
        self.live.added(position.entry(), 1);
        self.refresh_due(id);
    }

    /// Notes when a message expires, wherever it is pending.
    pub(super) fn store_expiry(&mut self, id: QueueId, position: MessagePosition, at_ms: u64) {
        if self.queue(id).kind() != DestinationKind::Topic {
            return self.store_expiry_in(id, position, at_ms);
        }
        for target in self.targets_of(id) {
            self.store_expiry_in(target, position, at_ms);
        }
    }

    fn store_expiry_in(&mut self, id: QueueId, position: MessagePosition, at_ms: u64) {
        let timing = &mut self.queues[id.0 as usize].timing;
        timing.expiry.insert(position, at_ms, self.stamp_ms);
        self.refresh_due(id);
    }

    /// Takes a pending message out until a later time.
    fn postpone(&mut self, id: QueueId, turn: Turn, until_ms: u64, record: &mut Record) {
        let queue = &mut self.queues[id.0 as usize];
        let position = turn.position();
        if queue.pending.remove(position).is_some() {
            queue
                .timing
                .waiting
                .insert(turn.priority(), position, position);
            queue
                .timing
                .delays
                .insert(position, until_ms, self.stamp_ms);
            record.changes.push(Change::Removed(id, turn));
            self.refresh_due(id);
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, until_ms: u64, record: &mut Record) {
        let until_ms = until_ms.min(self.stamp_ms);
        record.changes.push(Change::Ticked);
        let mut budget = TICK_ITEMS_MAX;
        let mut due = Vec::new();
        while budget > 0
            && let Some((at, id)) = self.calendar.due.first().copied()
            && at <= until_ms
        {
            let queue = &mut self.queues[id.0 as usize];
            queue
                .timing
                .delays
                .take_due(until_ms, &mut budget, &mut due);
            for Due { position, .. } in due.drain(..) {
                self.wake(id, position, until_ms, record);
            }
            let queue = &mut self.queues[id.0 as usize];
            queue
                .timing
                .expiry
                .take_due(until_ms, &mut budget, &mut due);
            for Due { position, .. } in due.drain(..) {
                self.ripen(id, position, record);
            }
            self.refresh_due(id);
        }
    }

    /// The time of a message that waits has come.
    fn wake(&mut self, id: QueueId, position: MessagePosition, now_ms: u64, record: &mut Record) {
        let queue = &mut self.queues[id.0 as usize];
        if !queue.timing.waiting.contains(position) {
            return;
        }
        let is_repeated = queue.timing.repeats.contains_key(&position);
        match queue.kind() {
            DestinationKind::Queue | DestinationKind::Subscription if !is_repeated => {
                if let Some(priority) = queue.timing.waiting.remove(position) {
                    queue.pending.insert(priority, position, position);
                    let turn = Turn::new(priority, position);
                    record.changes.push(Change::Readied(id, turn));
                }
            }
            DestinationKind::Queue | DestinationKind::Subscription | DestinationKind::Topic => {
                self.fire(id, position, now_ms, record);
            }
        }
    }

    /// Sends a copy of a message to its own destination for each firing that is due, and with the last one the message
    /// itself. Without room on the way, or with very many firings due, it goes on at a later tick.
    fn fire(&mut self, id: QueueId, position: MessagePosition, now_ms: u64, record: &mut Record) {
        let own = self.queue(id).destination();
        for _ in 0..FIRINGS_MAX {
            let repeat = self.queue(id).timing.repeats.get(&position);
            if repeat.is_some_and(|repeat| repeat.next_ms > now_ms) {
                break;
            }
            if repeat.is_none_or(Repeat::is_last) {
                if self.move_out(id, position, &own, MoveReason::Moved, record) {
                    return;
                }
                break;
            }
            if !self.copy_out(&own, position, &own, MoveReason::Copied, record) {
                break;
            }
            let timing = &mut self.queues[id.0 as usize].timing;
            if let Some(repeat) = timing.repeats.get_mut(&position) {
                repeat.fired();
            }
        }
        let timing = &mut self.queues[id.0 as usize].timing;
        let next_ms = timing
            .repeats
            .get(&position)
            .map_or(0, |repeat| repeat.next_ms);
        let due_ms = if next_ms > now_ms {
            next_ms
        } else {
            now_ms.saturating_add(FIRING_RETRY_MS)
        };
        timing.delays.insert(position, due_ms, now_ms);
    }

    fn ripen(&mut self, id: QueueId, position: MessagePosition, record: &mut Record) {
        let queue = &mut self.queues[id.0 as usize];
        if queue.holds(position) {
            queue.timing.ripe.insert(position.value());
            self.calendar.ripe_queues.insert(id);
            record.changes.push(Change::Ripened(id, position));
        } else if queue.locked > 0 {
            // Perhaps it is one that a transaction holds.
            let now = self.stamp_ms;
            let later = now.saturating_add(LOCKED_RETRY_MS);
            queue.timing.expiry.insert(position, later, now);
        }
    }

    /// Whether a message that a consumer fails with now does not come again at once.
    pub(crate) fn is_set_aside_when_returned(
        &self,
        id: QueueId,
        position: MessagePosition,
    ) -> bool {
        let settings = self.settings_of(id);
        let count = self.queue(id).count(position).saturating_add(1);
        let is_over = settings.max_deliveries > 0 && count >= settings.max_deliveries;
        is_over || settings.redelivery_wait_ms(count) > 0
    }

    /// A consumer failed with a message: it comes again, after a wait if so set, unless it failed too often.
    pub(super) fn returned(&mut self, id: QueueId, turn: Turn, record: &mut Record) {
        let (position, now) = (turn.position(), self.stamp_ms);
        let settings = self.settings_of(id);
        let most = settings.max_deliveries;
        let queue = &self.queues[id.0 as usize];
        let count = queue.count(position).saturating_add(1);
        let wait_ms = settings.redelivery_wait_ms(count);
        // One whose time is over is to go at once.
        let may_wait = !queue.timing.ripe.contains(position.value());
        self.queues[id.0 as usize].raise_count(position);
        let is_over = most > 0 && count >= most;
        if is_over && self.retire(id, position, MoveReason::DeliveryLimit, record) {
            return;
        }
        if wait_ms > 0 && may_wait {
            self.postpone(id, turn, now.saturating_add(wait_ms), record);
        } else {
            let back = Change::GivenBack(id, position, record.giver);
            record.changes.push(back);
        }
    }

    /// A consumer does not accept a message at all.
    pub(super) fn rejected(&mut self, id: QueueId, turn: Turn, record: &mut Record) -> Outcome {
        let position = turn.position();
        if self.retire(id, position, MoveReason::Rejected, record) {
            return Outcome::Applied;
        }
        self.queues[id.0 as usize].mark_sent(position);
        let back = Change::GivenBack(id, position, record.giver);
        record.changes.push(back);
        Outcome::LimitReached
    }

    /// Removes a message wherever it is, with what is left of its schedule; whether it was there.
    pub(super) fn remove(
        &mut self,
        id: QueueId,
        position: MessagePosition,
        record: &mut Record,
    ) -> bool {
        let Some(turn) = self.take_out(id, position) else {
            return false;
        };
        self.live.removed(position.entry());
        record.changes.push(Change::Removed(id, turn));
        true
    }

    /// Takes a message out of its queue for good. It stays live for whoever takes it over.
    pub(super) fn take_out(&mut self, id: QueueId, position: MessagePosition) -> Option<Turn> {
        if let Some(sift) = self.topics.sifts.get_mut(&id) {
            sift.forget(position);
        }
        let queue = &mut self.queues[id.0 as usize];
        let repeats = queue.timing.repeats.len();
        let turn = queue.remove(position)?;
        self.calendar.repeats -= repeats - queue.timing.repeats.len();
        if queue.timing.ripe.is_empty() {
            self.calendar.ripe_queues.remove(&id);
        }
        if queue.due_ms.is_some() {
            self.refresh_due(id);
        }
        Some(turn)
    }

    /// Removes a message whose time is over, to the dead letters.
    pub(super) fn expire(
        &mut self,
        id: QueueId,
        position: MessagePosition,
        record: &mut Record,
    ) -> Outcome {
        let queue = &self.queues[id.0 as usize];
        if !queue.holds(position) {
            return Outcome::UnknownMessage;
        }
        if !self.retire(id, position, MoveReason::Expired, record) {
            return Outcome::LimitReached;
        }
        self.queues[id.0 as usize].timing.expired_total += 1;
        Outcome::Applied
    }

    /// Takes a message to the dead letters of its queue, or drops it, as the settings say. False: there is no room for
    /// it on the way.
    pub(super) fn retire(
        &mut self,
        id: QueueId,
        position: MessagePosition,
        reason: MoveReason,
        record: &mut Record,
    ) -> bool {
        let settings = self.settings_of(id);
        let disposal = match reason {
            MoveReason::Expired => settings.expired,
            MoveReason::Rejected => settings.rejected,
            MoveReason::DeliveryLimit
            | MoveReason::QueueFull
            | MoveReason::Moved
            | MoveReason::Copied
            | MoveReason::Retried
            | MoveReason::VirtualTopic
            | MoveReason::Relocated => Disposal::DeadLetter,
        };
        match (disposal, settings.dead_letter_queue.clone()) {
            (Disposal::DeadLetter, Some(name)) => {
                self.move_out(id, position, &Destination::queue(name), reason, record)
            }
            (Disposal::DeadLetter, None) | (Disposal::Drop, _) => self.remove(id, position, record),
        }
    }

    /// Removes all messages of a queue, pending and waiting; how many there were.
    pub(super) fn empty(&mut self, id: QueueId) -> u64 {
        let mut removed = 0;
        for messages in self.queues[id.0 as usize].purge() {
            removed += messages.len();
            let bitmaps = messages.bitmaps();
            bitmaps.for_each(|positions| self.live.removed_all(positions));
        }
        if let Some(sift) = self.topics.sifts.get_mut(&id) {
            sift.purged();
        }
        let queue = &mut self.queues[id.0 as usize];
        self.calendar.repeats -= queue.timing.repeats.len();
        queue.timing.clear();
        self.calendar.ripe_queues.remove(&id);
        self.refresh_due(id);
        removed
    }

    /// Puts a queue where it belongs in the order of what is due next.
    pub(super) fn refresh_due(&mut self, id: QueueId) {
        let queue = &mut self.queues[id.0 as usize];
        let next = queue.timing.next_ms();
        if next == queue.due_ms {
            return;
        }
        if let Some(before) = queue.due_ms {
            self.calendar.due.remove(&(before, id));
        }
        queue.due_ms = next;
        self.calendar.due.extend(next.map(|next| (next, id)));
    }
}
