//! What clients ask for before the gateway knows where destinations live: it waits, within a bound and for a time.

use std::collections::BTreeSet;

use super::{
    core::{Call, Core, size_of},
    effect::{Effect, Failure},
    ids::{CallId, Time},
    input::Input,
};

/// An input that came before the gateway knew where destinations live.
#[derive(Debug)]
pub(super) struct Unrouted {
    pub(super) since: Time,
    pub(super) call: CallId,
    bytes: u64,
    input: Input,
}

impl Core {
    pub(super) fn wait_for_topology(
        &mut self,
        now: Time,
        call: CallId,
        input: Input,
        effects: &mut Vec<Effect>,
    ) {
        if matches!(self.calls.get(&call), Some(Call::Over)) {
            return;
        }
        let mut bytes = 0;
        if let Input::Publish { messages, .. } = &input {
            bytes = size_of(messages.iter().flatten());
        }
        if let Input::Transact { sends, .. } = &input {
            bytes = size_of(sends);
        }
        if self.is_too_much(bytes) {
            let bytes_max = self.config.memory_bytes;
            return self.fail(call, Failure::OutOfMemory { bytes_max }, effects);
        }
        self.bytes += bytes;
        if !self.unrouted.iter().any(|waiting| waiting.call == call) {
            effects.push(Effect::Pause { call });
        }
        self.unrouted.push_back(Unrouted {
            since: now,
            call,
            bytes,
            input,
        });
    }

    /// Carries out what waited for the topology.
    pub(super) fn route(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.slots.is_empty() {
            return;
        }
        let mut resumed = BTreeSet::new();
        while let Some(waiting) = self.unrouted.pop_front() {
            self.bytes -= waiting.bytes;
            resumed.insert(waiting.call);
            self.called(now, waiting.input, effects);
        }
        for call in resumed {
            match self.calls.get(&call) {
                Some(Call::Publishing(publisher)) if publisher.is_paused() => {}
                Some(Call::Over) | None => {}
                Some(
                    Call::Publishing(_)
                    | Call::Consuming
                    | Call::Purging
                    | Call::Transacting
                    | Call::Unsubscribing { .. },
                ) => {
                    effects.push(Effect::Resume { call });
                }
            }
        }
    }

    pub(super) fn forget_unrouted(&mut self, call: CallId) {
        let bytes = &mut self.bytes;
        self.unrouted.retain(|waiting| {
            let keep = waiting.call != call;
            if !keep {
                *bytes -= waiting.bytes;
            }
            keep
        });
    }
}
