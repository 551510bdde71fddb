//! What nobody uses any longer is deleted through the log: live subscriptions without a consumer, and temporary queues
//! and topics without one and without messages. A lane that nothing in the log stands behind goes at once.
//!
//! Whoever makes a temporary destination says when it is over. This is for what that leaves: an answer that came too
//! late made the queue once more, or a gateway died with its client.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{BatchBuilder, BatchFull, Destination, DestinationKind, Lifetime};

use super::{Dispatcher, LaneId};
use crate::Effect;
use crate::limits::{LIVE_GRACE, RETURN_RETRY};
use crate::state::{Queue, QueueId, State};

/// What may be unused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    /// To be looked at in this step.
    suspects: BTreeSet<QueueId>,
    /// Of temporary destinations that the log does not know.
    lanes: BTreeSet<LaneId>,
    /// When each is deleted.
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

    /// Nobody may use it; what is not of this kind does no harm.
    pub(super) fn suspect(&mut self, id: QueueId) {
        self.suspects.insert(id);
    }

    /// Nobody may use a lane.
    pub(super) fn suspect_lane(&mut self, id: LaneId) {
        self.lanes.insert(id);
    }

    /// All are to be looked at again.
    pub(super) fn look_again(&mut self) {
        self.is_known = false;
    }

    /// The lane is nobody's.
    pub(super) fn forget_lane(&mut self, id: LaneId) {
        self.lanes.remove(&id);
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|(until, _)| *until)
    }
}

impl Dispatcher {
    /// Deletes what had no use for long enough.
    pub(super) fn end_orphans(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        if !self.orphans.is_known {
            self.orphans.is_known = true;
            let places = (0..).map(QueueId).zip(state.queues());
            let may_go = |queue: &Queue| {
                queue.kind() == DestinationKind::Subscription || queue.name().is_temporary()
            };
            let suspects = places.filter(|(_, queue)| may_go(queue));
            self.orphans.suspects.extend(suspects.map(|(id, _)| id));
        }
        for id in std::mem::take(&mut self.orphans.lanes) {
            self.free_if_unused(id);
        }
        for id in std::mem::take(&mut self.orphans.suspects) {
            if self.is_orphan(id, state) || is_temporary_topic(id, state) {
                self.orphans.wait(id, now.saturating_add(LIVE_GRACE));
            }
        }
        let mut builder = BatchBuilder::persistent();
        while let Some((until, id)) = self.orphans.due.first().copied() {
            if until > now {
                break;
            }
            self.orphans.forget(id);
            if !self.is_orphan(id, state) {
                // Nothing tells when the last one stops to listen.
                if is_temporary_topic(id, state) {
                    self.orphans.wait(id, now.saturating_add(LIVE_GRACE));
                }
                continue;
            }
            // If this is not committed it is tried again.
            self.orphans.wait(id, now.saturating_add(RETURN_RETRY));
            if end(&mut builder, id, state).is_err() {
                effects.push(Effect::Propose {
                    batch: builder.finish(),
                });
                end(&mut builder, id, state).expect("one command fits a batch");
            }
        }
        if !builder.is_empty() {
            effects.push(Effect::Propose {
                batch: builder.finish(),
            });
        }
    }

    fn is_orphan(&self, id: QueueId, state: &State) -> bool {
        let is_unused = match state.topics().subscription(id) {
            Some(subscription) => subscription.lifetime == Lifetime::Live,
            None => state.is_idle(id),
        };
        let lane = self.by_queue.get(&id).map(|lane| &self.lanes[lane.0]);
        is_unused
            && !state.is_on_its_way(id)
            && lane.is_none_or(|lane| lane.consumers == 0 && lane.transient.messages.is_empty())
    }

    /// A queue or topic is no more, if there was one in the log. Consumers wait for one that is made later.
    pub(crate) fn deleted(&mut self, destination: &Destination, queue: Option<QueueId>) {
        if let Some(queue) = queue {
            self.forget_place(queue);
            if let Some(id) = self.by_queue.remove(&queue) {
                self.lanes[id.0].queue = None;
            }
        }
        if let Some(id) = self.by_name.get(destination).copied() {
            self.forget_windows(id);
            self.free_if_unused(id);
        }
    }

    /// The place is another's by now.
    pub(super) fn forget_place(&mut self, queue: QueueId) {
        self.orphans.forget(queue);
        self.orphans.suspects.remove(&queue);
        self.sifters.ended(queue);
        self.bounds.forget(queue);
    }
}

fn is_temporary_topic(id: QueueId, state: &State) -> bool {
    let queue = state.queue(id);
    queue.kind() == DestinationKind::Topic && queue.name().is_temporary()
}

/// Adds the end of what has this place.
fn end(builder: &mut BatchBuilder, id: QueueId, state: &State) -> Result<u16, BatchFull> {
    let destination = state.queue(id).destination();
    match state.topics().subscription(id) {
        Some(subscription) => builder.unsubscribe(&destination.name, subscription.generation),
        None => builder.delete(&destination, false),
    }
}
