//! Consumers whose call is over: what they have is settled or given back, then they are detached and forgotten.

use quorate_message::{MessagePosition, Settlement};

use super::{
    consumer::Phase,
    core::Core,
    effect::{Command, Effect},
    ids::{CallId, LinkId, NodeId},
    publishing::kind_of,
    reporting::{Report, Which, report_of},
};

impl Core {
    pub(super) fn finish_consumer(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        self.finish_group(call, effects);
        if let Some(consumer) = self.consumers.get_mut(&call) {
            consumer.phase = Phase::Finished;
            self.restless.insert(call);
            self.release_if_opened(call);
        }
    }

    /// The call is gone: its settlements are seen through, then it is detached. True when it was gone before.
    pub(super) fn abandon_consumer(&mut self, call: CallId) -> bool {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return false;
        };
        let was_gone = consumer.phase == Phase::Gone;
        consumer.phase = Phase::Gone;
        self.restless.insert(call);
        self.release_if_opened(call);
        was_gone
    }

    /// What a client brought is given back when the leader has said that it is its own.
    fn release_if_opened(&mut self, call: CallId) {
        if !self.unopened.contains_key(&call) {
            self.release_unsettled(call);
        } else if let Some(consumer) = self.consumers.get_mut(&call) {
            // Nobody takes more.
            consumer.forfeit();
        }
    }

    /// Gives back, through the log, what a client had in hand: every later leader then knows that it was sent.
    pub(super) fn release_unsettled(&mut self, call: CallId) {
        if let Some(consumer) = self.consumers.get(&call) {
            let positions = consumer.unsettled();
            self.give_back(call, Settlement::Release, &positions);
        }
    }

    /// Settles for a client what it held; nobody waits for the outcomes.
    pub(super) fn give_back(
        &mut self,
        call: CallId,
        settlement: Settlement,
        positions: &[MessagePosition],
    ) {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        if positions.is_empty() {
            return;
        }
        let (request, wanted) = consumer.settle(settlement, positions, 0);
        let (shard, queue) = (consumer.shard, consumer.queue.clone());
        let Some(state) = self.shards.get_mut(&shard) else {
            return;
        };
        for at in wanted {
            let position = positions[at as usize];
            let (lane, numbers) = state.lane(kind_of(position));
            let named = (call, request, at);
            let number = lane
                .settle(self.now, numbers, named, &queue, position, settlement)
                .expect("one settlement fits an empty batch");
            consumer.gathered(position, number);
        }
    }

    /// Ends a consumer whose call is over, once all that it had is settled.
    pub(super) fn see_through(
        &mut self,
        call: CallId,
        target: Option<(NodeId, LinkId)>,
        effects: &mut Vec<Effect>,
    ) {
        // What a transaction had of it and did not settle.
        self.release_unsettled(call);
        let Some(consumer) = self.consumers.get(&call) else {
            return;
        };
        let shard = self.shards.get(&consumer.shard);
        let is_begun = shard.is_some_and(|shard| shard.report == Report::Begun);
        if let Some(target) = target.filter(|_| is_begun) {
            effects.extend(report_of(consumer, Which::Persistent, target));
        }
        if consumer.is_idle() && !self.remove_consumer(call, effects) {
            self.end(call, effects);
        }
    }

    /// Detaches a consumer and forgets it. True when its call was gone already.
    pub(super) fn remove_consumer(&mut self, call: CallId, effects: &mut Vec<Effect>) -> bool {
        let Some(consumer) = self.consumers.remove(&call) else {
            return false;
        };
        if self.consumer_calls.get(&consumer.id) == Some(&call) {
            self.consumer_calls.remove(&consumer.id);
        }
        self.restless.remove(&call);
        self.detached.remove(&call);
        self.unopened.remove(&call);
        self.look_no_more(&consumer);
        if let Some(shard) = self.shards.get_mut(&consumer.shard) {
            shard.consumers.remove(&call);
            // Now or never: the consumer is forgotten here, so a pause must not swallow it, nor an attachment that was
            // given up unanswered and may have arrived all the same.
            if let Some((node, link)) = shard.present()
                && consumer.was_asked_for()
            {
                effects.push(Effect::Control {
                    node,
                    link,
                    shard: consumer.shard,
                    command: Command::Detach {
                        consumer: consumer.id,
                        generation: consumer.generation,
                    },
                });
            }
        }
        if consumer.phase == Phase::Finished && consumer.was_asked_for() {
            self.end_live(consumer.shard, &consumer.queue.name, &consumer.admission);
        }
        // A later call may wait for this.
        self.restless.extend(self.consumer_calls.get(&consumer.id));
        consumer.phase == Phase::Gone
    }
}
