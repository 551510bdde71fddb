//! What a message takes along when it moves with its name, and what becomes of it where it arrives.

use quorate_message::{MessagePosition, MoveReason, Relocation};

use super::super::repeat::Repeat;
use super::super::{QueueId, State, Turn};

impl State {
    /// What a message takes along.
    pub(in crate::state) fn luggage(
        &self,
        id: QueueId,
        position: MessagePosition,
        due_ms: u64,
    ) -> Relocation {
        let queue = self.queue(id);
        let repeat = queue.timing.repeats.get(&position);
        let is_waiting = queue.timing.waiting.contains(position);
        Relocation {
            count: queue.count(position),
            was_sent: queue.was_sent(position),
            due_ms: match repeat {
                Some(repeat) => repeat.next_ms,
                None if is_waiting => due_ms,
                None => 0,
            },
            period_ms: repeat.map_or(0, |repeat| repeat.period_ms),
            left: repeat.map_or(0, |repeat| repeat.left),
            cron: repeat.map_or_else(String::new, |repeat| repeat.cron.clone()),
            kept: self.kept_for(id, position),
            pending: self.pending_in(id, position).into_iter().collect(),
        }
    }

    /// Stores what came with its name, if it waits for its time. False: it does not wait.
    pub(in crate::state) fn store_arrived_waiting(
        &mut self,
        id: QueueId,
        turn: Turn,
        bytes: u64,
        arrived: &Relocation,
    ) -> bool {
        if arrived.due_ms == 0 {
            return false;
        }
        let repeat = (arrived.left > 0).then(|| Repeat {
            cron: arrived.cron.clone(),
            period_ms: arrived.period_ms,
            left: arrived.left,
            next_ms: arrived.due_ms,
        });
        self.store_waiting_until(id, turn, bytes, (arrived.due_ms, repeat));
        true
    }

    /// Remembers what a message that is stored brought along.
    pub(in crate::state) fn unpack(&mut self, id: QueueId, turn: Turn, arrived: &Relocation) {
        let queue = &mut self.queues[id.0 as usize];
        if arrived.count > 0 {
            queue.counts.insert(turn.position(), arrived.count);
        }
        if arrived.was_sent {
            queue.mark_sent(turn.position());
        }
    }
}

/// Whether a transfer goes with its name.
pub(in crate::state) fn is_relocation(reason: MoveReason) -> bool {
    match reason {
        MoveReason::Relocated => true,
        MoveReason::Expired
        | MoveReason::DeliveryLimit
        | MoveReason::Rejected
        | MoveReason::QueueFull
        | MoveReason::Moved
        | MoveReason::Copied
        | MoveReason::Retried
        | MoveReason::VirtualTopic => false,
    }
}
