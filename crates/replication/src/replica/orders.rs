//! Obeying the coordinator: probe, fence, lead (replication.md, One rule for every change).

use bytes::Bytes;

use super::leader::Leader;
use super::{Replica, Role};
use crate::{
    Act, Claim, Effects, Entry, EntryKind, Event, FenceAnswer, Incarnation, Member, Order,
    RecordVersion, Report, ShardRecord, Time,
};

impl Replica {
    pub(super) fn obey(&mut self, now: Time, order: Order, effects: &mut Effects) {
        match order {
            Order::Probe { nonce } => {
                let (impaired, wiped) = (self.impaired, self.wiped);
                effects.now(Act::Report(Report::Probed {
                    nonce,
                    impaired,
                    wiped,
                }));
            }
            Order::Fence { claim } => self.fence(now, claim, effects),
            Order::Lead {
                claim,
                incarnation,
                record,
                version,
            } => {
                self.lead(now, claim, incarnation, record, version, effects);
            }
            Order::HandOver { .. } => super::dropped(
                effects,
                "an order to hand over, which is the affair of the layer above",
            ),
        }
    }

    /// Fence: promises, and tells its position once that and all before it is durable. A repeated fence is answered
    /// again.
    fn fence(&mut self, now: Time, claim: Claim, effects: &mut Effects) {
        if claim.epoch > self.promise.epoch {
            self.promise_to(now, claim, effects);
        }
        let promise = self.promise;
        if claim != promise {
            // (m) An equal epoch with another claim id too.
            return self.answer(
                Act::Report(Report::FenceRefused { claim, promise }),
                effects,
            );
        }
        let answer = Act::Report(Report::Fenced(FenceAnswer {
            claim,
            end: self.tail.end(),
            impaired: self.impaired,
            wiped: self.wiped,
            bound: if self.wiped { None } else { self.bound },
            disk: self.me.disk,
            incarnation: self.incarnation,
        }));
        // (m) The position that it answers is durable: not only the promise but every append and cut before it.
        match self.writes.newest_pending() {
            Some(write) => effects.after(write, answer),
            None => effects.now(answer),
        }
    }

    fn lead(
        &mut self,
        now: Time,
        claim: Claim,
        incarnation: Incarnation,
        record: ShardRecord,
        version: RecordVersion,
        effects: &mut Effects,
    ) {
        if let Role::Leader(leader) = &self.role
            && leader.claim() == claim
        {
            let serving = leader.is_serving();
            let epoch = claim.epoch;
            return effects.now(Act::Report(Report::Leading { epoch, serving }));
        }
        if !self.may_lead(claim, incarnation, &record) {
            let promise = self.promise;
            return self.answer(Act::Report(Report::LeadRefused { claim, promise }), effects);
        }
        let epoch = claim.epoch;
        self.led = epoch;
        let first = Entry {
            epoch,
            index: self.tail.end().index.next(),
            // The coordinator's order carries no clock of this node; the first proposal does.
            stamp: self.tail.stamp(),
            kind: EntryKind::NewEpoch,
            payload: Bytes::from(record.encode()),
        };
        effects.now(Act::Note(Event::BecameLeader(epoch)));
        effects.now(Act::Led { epoch });
        effects.now(Act::Report(Report::Leading {
            epoch,
            serving: false,
        }));
        let uncommitted = self
            .tail
            .from(self.commit.next())
            .map(Entry::cost_bytes)
            .sum();
        let leader = Leader::new(
            now,
            &self.config,
            self.me,
            record,
            version,
            first.index,
            uncommitted,
        );
        self.role = Role::Leader(Box::new(leader));
        self.append(now, vec![first], effects);
    }

    /// (m) It leads an epoch at most once, and never with a log that may have lost something.
    fn may_lead(&self, claim: Claim, incarnation: Incarnation, record: &ShardRecord) -> bool {
        let me: Member = self.me;
        claim == self.promise
            && self.writes.is_durable(self.gate)
            && incarnation == self.incarnation
            && !self.impaired
            && self.led < claim.epoch
            && record.shard == self.shard
            && record.claim == claim
            && record.leader == Some(me)
            && record.is_voter(me)
    }
}
