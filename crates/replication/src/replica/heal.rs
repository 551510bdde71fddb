//! How an impaired replica that kept its disk comes to count again (replication.md, Healing).
//!
//! It asks the leader where its log ends, and is healed when it durably matches that log up to there, in that epoch.
//! The question is a part of the follower's state: a higher promise or a restart starts it over. (m)

use super::follower::Question;
use super::{Replica, Role, dropped};
use crate::{Effects, Epoch, Index, Message, Nonce, Time, Write};

impl Replica {
    /// When an impaired follower asks, or asks again.
    pub(super) fn ask_deadline(&self) -> Option<Time> {
        let Role::Follower(follower) = &self.role else {
            return None;
        };
        if !self.can_heal() {
            return None;
        }
        match &follower.question {
            None => Some(Time(0)),
            Some(Question {
                end: None,
                asked_at,
                ..
            }) => Some(asked_at.after(self.config.node_timeout)),
            Some(Question { end: Some(_), .. }) => None,
        }
    }

    pub(super) fn ask_to_heal(&mut self, now: Time, nonce: Nonce, effects: &mut Effects) {
        if self.ask_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let epoch = self.promise.epoch;
        let Role::Follower(follower) = &mut self.role else {
            return;
        };
        follower.question = Some(Question {
            nonce,
            asked_at: now,
            end: None,
        });
        let leader = follower.leader();
        self.send(leader, Message::HealAsk { epoch, nonce }, effects);
    }

    pub(super) fn receive_heal_answer(
        &mut self,
        now: Time,
        epoch: Epoch,
        nonce: Nonce,
        end: Index,
        effects: &mut Effects,
    ) {
        if let Role::Follower(follower) = &mut self.role
            && epoch == self.promise.epoch
            && let Some(question) = &mut follower.question
            && question.nonce == nonce
        {
            // Of a repeated answer the first counts as well as any: each is an end that the leader's log had after
            // the question.
            question.end.get_or_insert(end);
            self.heal(now, effects);
        } else {
            dropped(effects, "an answer to a question that is not open");
        }
    }

    /// Clears the flag if it may be. The answers go on saying `impaired` until that is durable.
    pub(super) fn heal(&mut self, now: Time, effects: &mut Effects) {
        if !self.can_heal() {
            return;
        }
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let durable = follower.matched().min(self.writes.durable());
        let is_matched = follower
            .question
            .as_ref()
            .and_then(|question| question.end)
            .is_some_and(|end| durable >= end);
        if is_matched {
            let end = self.tail.end();
            if self.bound.is_none_or(|bound| bound < end) {
                self.raise_bound(now, end, effects);
            }
            let clearing = self.writes.issue(now, Write::Impaired(false), effects);
            self.clearing = Some(clearing);
        }
    }

    fn can_heal(&self) -> bool {
        self.impaired && !self.wiped && !self.damaged && self.clearing.is_none()
    }
}
