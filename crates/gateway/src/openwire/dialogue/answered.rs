//! Answers of the session machine: each goes to what its call is for. One for a call that has ended says nothing.

use super::{Dialogue, Effect, Now, calls::Role, exception::Exception};
use crate::session::{self, CallId, Failure};

impl Dialogue {
    pub(super) fn answered(
        &mut self,
        now: Now,
        answer: session::Effect,
        effects: &mut Vec<Effect>,
    ) {
        use session::Effect as Answer;
        match answer {
            Answer::Confirmed {
                call,
                first,
                count,
                outcome,
                cause,
            } => {
                if let Some(Role::Publishing) = self.calls.role(call) {
                    self.confirmed((first, count), (outcome, cause.as_deref()), effects);
                }
            }
            Answer::Wrong {
                call,
                ordinal,
                reason,
            } => {
                if let Some(Role::Publishing) = self.calls.role(call) {
                    self.sent(ordinal, Some(Exception::jms(&*reason)), effects);
                }
            }
            Answer::Opened { call, lost, .. } => {
                if let Some(Role::Consuming(serial)) = self.calls.role(call) {
                    self.opened(now, *serial, &lost, effects);
                }
            }
            Answer::Delivered {
                call,
                shard,
                deliveries,
            } => {
                if let Some(Role::Consuming(serial)) = self.calls.role(call) {
                    let to = (call, *serial);
                    self.delivered(now, to, (shard, deliveries), effects);
                }
            }
            Answer::Purged { call, .. } => {
                if let Some(Role::Purging(asked)) = self.end(call, effects) {
                    Self::done(asked, effects);
                }
            }
            Answer::Committed { call } => {
                if let Some(Role::Transacting(number)) = self.end(call, effects) {
                    self.committed(number, effects);
                }
            }
            Answer::Unsubscribed { call, removed } => {
                if let Some(Role::Unsubscribing(asked, name)) = self.end(call, effects) {
                    let went = self.unsubscribed(&name, removed);
                    self.answer(asked, went, effects);
                }
            }
            Answer::Ended { call } => self.call_ended(call, effects),
            Answer::Failed { call, failure } => self.call_failed(now, call, &failure, effects),
            Answer::Pause { call } => self.calls.pause(call),
            Answer::Resume { call } => self.calls.resume(call),
            // Nothing asks for outcomes of settlements; and a client that is held back has no way to hear of it.
            Answer::Settled { .. } | Answer::HeldBack { .. } => {}
            Answer::Link { .. }
            | Answer::Unlink { .. }
            | Answer::Submit { .. }
            | Answer::Control { .. }
            | Answer::Left
            | Answer::Note(_) => {
                debug_assert!(false, "not for a connection");
            }
        }
    }

    fn call_ended(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        match self.end(call, effects) {
            Some(Role::Publishing) => self.publisher = None,
            Some(Role::Consuming(serial)) => {
                self.consumers.remove(&serial);
            }
            Some(Role::Transacting(_) | Role::Purging(_) | Role::Unsubscribing(..)) | None => {}
        }
        self.call_over(call, effects);
    }

    fn call_failed(
        &mut self,
        now: Now,
        call: CallId,
        failure: &Failure,
        effects: &mut Vec<Effect>,
    ) {
        match self.end(call, effects) {
            Some(Role::Publishing) => self.publisher_failed(failure, effects),
            Some(Role::Consuming(serial)) => self.consumer_failed(now, serial, failure, effects),
            Some(Role::Transacting(number)) => self.transaction_failed(number, failure, effects),
            Some(Role::Purging(asked) | Role::Unsubscribing(asked, _)) => {
                self.refuse(asked, Exception::of_failure(failure), effects);
            }
            None => {}
        }
        self.call_over(call, effects);
    }

    pub(super) fn elapsed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.pulls_elapsed(now, effects);
        self.removals_elapsed(now, effects);
        self.reopenings_elapsed(now, effects);
    }
}
