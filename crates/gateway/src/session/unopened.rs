//! What a client settles of the messages that it brings, before the leader has said that they are its own.
//!
//! A client that comes from another gateway names what it holds. The leader may have given that to another consumer
//! meanwhile: by a settlement of the same client, sent through the gateway before and not answered. A settlement names no
//! consumer, so it would take the message from whoever has it now, if that is a consumer of this gateway. It waits until the
//! answer to the attachment says what is lost, also when the client is gone meanwhile. Only where no answer is waited for any
//! longer it is settled all the same.

use quorate_message::{MessagePosition, Settlement};

use super::{
    consumer::Phase,
    core::Core,
    effect::Effect,
    ids::{CallId, ShardId},
};
use crate::limits::SETTLEMENTS_MAX;

/// Requests of one call, in their order.
#[derive(Debug, Default)]
pub(super) struct Unopened {
    requests: Vec<Request>,
    positions: usize,
}

impl Unopened {
    pub(super) fn keeps_requests(&self) -> bool {
        !self.requests.is_empty()
    }
}

#[derive(Debug)]
struct Request {
    settlement: Settlement,
    positions: Vec<(ShardId, MessagePosition)>,
    token: u64,
}

impl Core {
    /// Keeps a request to settle until its consumer is attached. False: it is, or brought nothing.
    pub(super) fn keep_unopened(
        &mut self,
        call: CallId,
        settlement: Settlement,
        (positions, token): (&[(ShardId, MessagePosition)], u64),
        effects: &mut Vec<Effect>,
    ) -> bool {
        let (Some(unopened), Some(consumer)) =
            (self.unopened.get_mut(&call), self.consumers.get_mut(&call))
        else {
            return false;
        };
        unopened.positions += positions.len().max(1);
        unopened.requests.push(Request {
            settlement,
            positions: positions.to_vec(),
            token,
        });
        if unopened.positions > SETTLEMENTS_MAX && !consumer.paused {
            consumer.paused = true;
            effects.push(Effect::Pause { call });
        }
        true
    }

    /// The consumer of a call is attached: what was kept is settled; what a client that is gone brought besides goes back.
    pub(super) fn open_unopened(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let phase = self.consumers.get(&call).map(|consumer| consumer.phase);
        if phase == Some(Phase::Gone) {
            self.settle_abandoned(call);
        } else {
            self.settle_unopened(call, effects);
        }
        if phase != Some(Phase::Open) {
            self.release_unsettled(call);
        }
    }

    fn settle_unopened(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let Some(unopened) = self.unopened.remove(&call) else {
            return;
        };
        for request in unopened.requests {
            let what = (&request.positions[..], request.token);
            self.settle(self.now, call, request.settlement, what, effects);
        }
        self.resume_settling(call, effects);
    }

    /// Reads on from a client that has not too much under way any more.
    pub(super) fn resume_settling(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let consumer = self.consumers.get_mut(&call);
        if let Some(consumer) = consumer.filter(|c| c.paused && c.settling <= SETTLEMENTS_MAX / 2) {
            consumer.paused = false;
            effects.push(Effect::Resume { call });
        }
    }

    /// The client is gone: what was kept is settled, and nobody waits for the outcomes.
    pub(super) fn settle_abandoned(&mut self, call: CallId) {
        let Some(unopened) = self.unopened.remove(&call) else {
            return;
        };
        let shard = self.consumers.get(&call).map(|consumer| consumer.shard);
        for request in unopened.requests {
            let here = request
                .positions
                .iter()
                .filter(|(of, _)| Some(*of) == shard);
            let here: Vec<_> = here.map(|(_, position)| *position).collect();
            self.give_back(call, request.settlement, &here);
        }
    }
}
