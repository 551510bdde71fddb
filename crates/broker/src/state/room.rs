//! Whether a queue has room for a message, and what becomes of the message or of others when it has not.
//!
//! Limits are those of the queue's settings as they were logged, so that every replica decides alike. What another
//! shard forwards (dead letters, moved messages) is never refused: it was confirmed before, and is nowhere else.

use quorate_message::settings::OnFull;
use quorate_message::{
    Destination, DestinationKind, MessagePosition, MoveReason, Outcome, ProducerId,
};

use super::apply::{Record, Run};
use super::{QueueId, State};

/// A message that is about to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) queue: QueueId,
    pub(super) producer: ProducerId,
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// No earlier message of its producer for this queue waits to be sent again.
    pub(super) is_first: bool,
}

/// What is to be done with an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is stored.
    Free,
    /// It is stored, and goes to the dead-letter queue at once.
    Beyond,
    /// It is not stored.
    None(Outcome),
}

impl State {
    /// Sees whether there is room, and makes some if the queue's settings say so.
    pub(super) fn make_room(
        &mut self,
        arrival: &Arrival,
        run: &mut Run,
        record: &mut Record,
    ) -> Room {
        let settings = self.settings.of(arrival.queue);
        let is_queue = self.queue(arrival.queue).kind() == DestinationKind::Queue;
        if !is_queue || !settings.has_limit() || arrival.producer.shard().is_some() {
            return Room::Free;
        }
        match settings.on_full {
            OnFull::Refuse => {
                if self.is_refused(arrival, run) {
                    Room::None(Outcome::QueueFull)
                } else {
                    Room::Free
                }
            }
            OnFull::Block => {
                // None may overtake an earlier one that is blocked. Only the gateway knows whether there is one.
                let highest = self.dedup.highest(arrival.queue, arrival.producer);
                let is_next = arrival.is_first || arrival.number <= highest.saturating_add(1);
                if !is_next || self.is_refused(arrival, run) {
                    Room::None(Outcome::Blocked)
                } else {
                    Room::Free
                }
            }
            OnFull::DropHead => {
                while self.is_refused(arrival, run) {
                    self.store(std::mem::take(run), record);
                    if !self.drop_head(arrival.queue, record) {
                        return Room::None(Outcome::QueueFull);
                    }
                }
                Room::Free
            }
            OnFull::DeadLetter => {
                if !self.is_refused(arrival, run) {
                    Room::Free
                } else if self
                    .dead_letters(arrival.queue)
                    .is_some_and(|target| self.outbox.has_room(&target))
                {
                    Room::Beyond
                } else {
                    Room::None(Outcome::QueueFull)
                }
            }
        }
    }

    /// Whether there is no room for a message that was not stored before.
    fn is_refused(&self, arrival: &Arrival, run: &Run) -> bool {
        let sizes = &self.queues[arrival.queue.0 as usize].sizes;
        let (gathered, gathered_bytes) = run.gathered(arrival.queue);
        self.settings.of(arrival.queue).is_full(
            sizes.messages() + gathered,
            sizes.bytes() + gathered_bytes,
            arrival.bytes,
        ) && self
            .dedup
            .is_new(arrival.queue, arrival.producer, arrival.number)
    }

    /// Whether a queue refuses a message, or holds its producer back, when so many messages and bytes come before it.
    pub(super) fn lacks_room(&self, id: QueueId, before: (u64, u64), bytes: u64) -> bool {
        let settings = self.settings.of(id);
        let queue = &self.queues[id.0 as usize];
        let refuses = match settings.on_full {
            OnFull::Refuse | OnFull::Block => true,
            OnFull::DropHead | OnFull::DeadLetter => false,
        };
        let (messages, gathered) = before;
        queue.kind() == DestinationKind::Queue
            && refuses
            && settings.has_limit()
            && settings.is_full(
                queue.sizes.messages() + messages,
                queue.sizes.bytes() + gathered,
                bytes,
            )
    }

    /// Makes room in what gets a topic's messages, where settings say that the oldest go: a subscriber who does not keep up
    /// costs neither the publisher nor the disk. Other policies do not hold for what a topic hands on.
    pub(super) fn bound_targets(&mut self, topic: QueueId, record: &mut Record) {
        let is_bounded = |target: &QueueId| {
            let settings = self.settings.of(*target);
            settings.has_limit() && settings.on_full == OnFull::DropHead
        };
        let targets = self.topics.targets(topic).iter().copied();
        let bounded: Vec<QueueId> = targets.filter(is_bounded).collect();
        for target in bounded {
            let settings = self.settings.of(target);
            let (max_messages, max_bytes) = (settings.max_messages, settings.max_bytes);
            loop {
                let queue = self.queue(target);
                let messages = queue.pending_count();
                let is_beyond = max_messages > 0 && messages > max_messages
                    || max_bytes > 0 && messages > 1 && queue.bytes() > max_bytes;
                if !is_beyond || !self.drop_head(target, record) {
                    break;
                }
            }
        }
    }

    /// Removes the oldest message, whoever holds it: that is what the operator chose. False: there is none.
    fn drop_head(&mut self, queue: QueueId, record: &mut Record) -> bool {
        let oldest = self
            .queue(queue)
            .first_stored_from(MessagePosition::default());
        oldest.is_some_and(|oldest| self.remove(queue, oldest, record))
    }

    /// Where undeliverable messages of a queue go.
    fn dead_letters(&self, queue: QueueId) -> Option<Destination> {
        let target = self.settings.of(queue).dead_letter_queue.clone();
        target.map(Destination::queue)
    }

    /// Sends what was stored without room on to the dead-letter queue.
    pub(super) fn move_beyond(&mut self, queue: QueueId, run: &mut Run, record: &mut Record) {
        let position = run.last();
        self.store(std::mem::take(run), record);
        if let (Some(position), Some(target)) = (position, self.dead_letters(queue)) {
            let moved = self.move_out(queue, position, &target, MoveReason::QueueFull, record);
            debug_assert!(moved, "room in the outbox was seen before");
        }
    }

    /// Sends a scheduled message that was stored without room on to the dead-letter queue.
    pub(super) fn move_beyond_if(
        &mut self,
        room: Room,
        queue: QueueId,
        position: MessagePosition,
        record: &mut Record,
    ) {
        if room == Room::Beyond {
            let moved = self.retire(queue, position, MoveReason::QueueFull, record);
            debug_assert!(moved, "room in the outbox was seen before");
        }
    }
}
