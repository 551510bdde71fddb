//! Compare-and-set and what becomes of it (replication.md, Claim and Grant).

use std::collections::BTreeMap;

use super::{
    Election, ElectionEffect, ElectionEffects, ElectionEvent, Grant, Phase, Purpose, RequestId,
    Swapped,
};
use crate::{ClaimId, Incarnation, RecordVersion, ShardRecord, Time};

impl Election {
    /// Asks for the record to be written against the version that this election knows. (m) For a grant that is the
    /// version which its own claim produced, since nothing else changes it between the two.
    pub(super) fn swap(&mut self, record: ShardRecord, effects: &mut ElectionEffects) {
        self.request = RequestId(self.request.0 + 1);
        let (request, expected) = (self.request, self.version);
        effects.0.push(ElectionEffect::Swap {
            request,
            expected,
            record,
        });
    }

    pub(super) fn ask_store(&mut self, effects: &mut ElectionEffects) {
        self.request = RequestId(self.request.0 + 1);
        let request = self.request;
        effects.0.push(ElectionEffect::Read { request });
    }

    pub(super) fn read_for(&mut self, now: Time, purpose: Purpose, effects: &mut ElectionEffects) {
        self.resends_at = now.after(self.config.retry);
        self.phase = Phase::Reading {
            purpose,
            asked: true,
        };
        self.ask_store(effects);
    }

    /// Whether the answer is to the newest request; a late one to another is dropped.
    pub(super) fn is_expected(&self, request: RequestId, effects: &mut ElectionEffects) -> bool {
        let is_expected = request == self.request;
        if !is_expected {
            effects.note(ElectionEvent::Dropped(
                "an answer of the store to an earlier request",
            ));
        }
        is_expected
    }

    pub(super) fn swapped(
        &mut self,
        now: Time,
        fresh: ClaimId,
        result: Swapped,
        effects: &mut ElectionEffects,
    ) {
        match (&self.phase, result) {
            (Phase::Claiming(claimed), Swapped::Done(version)) => {
                let record = claimed.clone();
                self.recorded(record, version, effects);
                effects.note(ElectionEvent::Claimed(self.record.claim));
                self.phase = Phase::Fencing {
                    answers: BTreeMap::new(),
                    waits_until: None,
                };
                self.send_to_silent(now, effects);
            }
            (Phase::Granting(grant), Swapped::Done(version)) => {
                let grant = grant.clone();
                self.granted(now, grant, version, effects);
            }
            (Phase::Claiming(_) | Phase::Granting(_), Swapped::Conflict { record, version }) => {
                effects.note(ElectionEvent::StartsOver("another one changed the record"));
                self.recorded(record, version, effects);
                self.go_on(now, fresh, effects);
            }
            // Whether the claim holds is not asked: if it does, the record has no leader, and is claimed again.
            (Phase::Claiming(_), Swapped::Unknown) => {
                self.read_for(now, Purpose::StartOver, effects);
            }
            (Phase::Granting(grant), Swapped::Unknown) => {
                let purpose = Purpose::Verify(grant.clone());
                self.read_for(now, purpose, effects);
            }
            (
                Phase::Probing { .. }
                | Phase::Fencing { .. }
                | Phase::Reading { .. }
                | Phase::Leading { .. }
                | Phase::Over,
                Swapped::Done(_) | Swapped::Conflict { .. } | Swapped::Unknown,
            ) => effects.note(ElectionEvent::Dropped("a result that was not asked for")),
        }
    }

    pub(super) fn read(
        &mut self,
        now: Time,
        fresh: ClaimId,
        found: Option<(ShardRecord, RecordVersion)>,
        effects: &mut ElectionEffects,
    ) {
        let Phase::Reading { purpose, asked } = &mut self.phase else {
            return effects.note(ElectionEvent::Dropped("a record that was not asked for"));
        };
        *asked = false;
        self.resends_at = now.after(self.config.retry);
        let Some((record, version)) = found else {
            return;
        };
        match purpose.clone() {
            Purpose::StartOver => {
                self.recorded(record, version, effects);
                self.go_on(now, fresh, effects);
            }
            // (m) Exactly this grant, or the shard is claimed again.
            Purpose::Verify(grant) if record == grant.record => {
                self.granted(now, grant, version, effects);
            }
            Purpose::Verify(_) => {
                self.recorded(record, version, effects);
                effects.note(ElectionEvent::StartsOver("the grant did not hold"));
                self.go_on(now, fresh, effects);
            }
            Purpose::Compare { member, promise } | Purpose::Behind { member, promise } => {
                let knows = record.claim == promise || record.claim.epoch > promise.epoch;
                self.recorded(record, version, effects);
                if knows {
                    effects.note(ElectionEvent::StartsOver(
                        "a replica promised a newer claim",
                    ));
                    self.go_on(now, fresh, effects);
                } else {
                    // (m) The store went back in time: nothing is claimed, and it is read again and again.
                    let purpose = Purpose::Behind { member, promise };
                    self.phase = Phase::Reading {
                        purpose,
                        asked: false,
                    };
                }
            }
        }
    }

    fn granted(
        &mut self,
        now: Time,
        grant: Grant,
        version: RecordVersion,
        effects: &mut ElectionEffects,
    ) {
        let Grant {
            record,
            leader,
            incarnation,
        } = grant;
        self.recorded(record, version, effects);
        effects.note(ElectionEvent::Granted(self.record.claim, leader));
        self.lead(now, leader, incarnation, effects);
    }

    /// Goes on with a record that was found. One without a leader, or with the leader that is to be replaced, is
    /// claimed; a leader that another coordinator named is asked whether it leads. (The incarnation that answered
    /// that fence is not known here, and 0 is no node's: only one that leads already will say that it does.)
    pub(super) fn go_on(&mut self, now: Time, fresh: ClaimId, effects: &mut ElectionEffects) {
        let is_replaced = self.replaced == Some(self.record.claim);
        match self.record.leader {
            Some(leader) if !is_replaced => self.lead(now, leader, Incarnation(0), effects),
            Some(_) | None => self.probe(now, fresh, effects),
        }
    }

    fn lead(
        &mut self,
        now: Time,
        leader: crate::Member,
        incarnation: Incarnation,
        effects: &mut ElectionEffects,
    ) {
        let expires_at = now.after(self.config.lead_timeout);
        self.phase = Phase::Leading {
            leader,
            incarnation,
            leads: false,
            expires_at,
        };
        self.send_to_silent(now, effects);
    }

    fn recorded(
        &mut self,
        record: ShardRecord,
        version: RecordVersion,
        effects: &mut ElectionEffects,
    ) {
        effects.0.push(ElectionEffect::Recorded {
            record: record.clone(),
            version,
        });
        self.record = record;
        self.version = version;
    }
}
