//! The coordinator's side of giving one shard a leader: probe, claim, fence, choose, grant, lead.
//!
//! ```text
//!  Probing --quorum--> Claiming --done--> Fencing --chosen--> Granting --done--> Leading --serving--> Over
//!     ^                   | unknown          | refused           | unknown          | refused, silent, lost
//!     |                   v                  v                   v                  |
//!     +---------------- Reading <------------+---------------- Reading              |
//!     +-----------------------------------------------------------------------------+
//! ```
//! Guarantees: fences only under a claim that the store confirmed; grants only against the version which that claim
//! produced, and never again on a record that was read; uses no answer to another claim. Does not know of stores,
//! sockets, clocks or randomness. Made to be thrown away: a new one for each loss of a leader.

mod fencing;
mod input;
mod leading;
mod store;
mod stuck;

pub use input::{
    ElectionEffect, ElectionEffects, ElectionEvent, ElectionInput, RequestId, Swapped,
};
pub use stuck::Stuck;

use std::collections::{BTreeMap, BTreeSet};

use crate::quorum::{self, Preference};
use crate::{
    Claim, ClaimId, ElectionConfig, FenceAnswer, Incarnation, Member, Nonce, Order, RecordVersion,
    Report, ShardRecord, Time,
};

/// One shard's way to a leader that serves. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    config: ElectionConfig,
    record: ShardRecord,
    version: RecordVersion,
    preference: Preference,
    /// Nodes that are gone at the moment: not chosen, and not waited for.
    lost: BTreeSet<Member>,
    /// The claim whose leader is to be replaced: a record that still names it is claimed, not taken over.
    replaced: Option<Claim>,
    /// The newest request to the store.
    request: RequestId,
    /// No claim before this moment, so that refusals do not make a storm of claims.
    claims_at: Time,
    /// When what is not answered is sent again.
    resends_at: Time,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Asks who is there, without promising anything.
    Probing {
        nonce: Nonce,
        answers: BTreeMap<Member, Probe>,
    },
    /// The store was asked to write this record.
    Claiming(ShardRecord),
    /// The claim is the record's.
    Fencing {
        answers: BTreeMap<Member, FenceAnswer>,
        /// Until when the preferred leader is waited for; set when a leader can be chosen.
        waits_until: Option<Time>,
    },
    /// The store was asked to write this grant.
    Granting(Grant),
    /// The store was asked what it holds.
    Reading {
        purpose: Purpose,
        /// Whether an answer is awaited; otherwise it is asked at `resends_at`.
        asked: bool,
    },
    /// The grant is the record's.
    Leading {
        leader: Member,
        incarnation: Incarnation,
        /// Whether it said that it leads.
        leads: bool,
        /// When it is given up unless heard.
        expires_at: Time,
    },
    /// A leader serves.
    Over,
}

/// A replica's answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Probe {
    impaired: bool,
    wiped: bool,
}

/// A leader that the store was asked to name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grant {
    record: ShardRecord,
    leader: Member,
    incarnation: Incarnation,
}

/// Why the record is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    /// To start over from what it is.
    StartOver,
    /// The grant's result is unknown: it holds only if the record is exactly it.
    Verify(Grant),
    /// A replica promised something that the record is not known to say.
    Compare { member: Member, promise: Claim },
    /// The store was read and does not know of the promise.
    Behind { member: Member, promise: Claim },
}

impl Election {
    /// Begins a new claim: the leader that `record` names, if any, is to be replaced. The preferred leader's answer
    /// is waited for a moment, so it should be a node that is alive.
    pub fn claim(
        config: ElectionConfig,
        record: ShardRecord,
        version: RecordVersion,
        preference: Preference,
        now: Time,
        fresh: ClaimId,
        effects: &mut ElectionEffects,
    ) -> Self {
        let replaced = Some(record.claim);
        let mut election = Self {
            config,
            record,
            version,
            preference,
            lost: BTreeSet::new(),
            replaced,
            request: RequestId(0),
            claims_at: now,
            resends_at: now,
            phase: Phase::Over,
        };
        election.probe(now, fresh, effects);
        election
    }

    /// What a new active coordinator does with a record that it finds: with `leader = none` it claims again; a named
    /// leader is sent `Lead` again, and the shard is claimed if it refuses or does not answer in time.
    pub fn take_over(
        config: ElectionConfig,
        record: ShardRecord,
        version: RecordVersion,
        preference: Preference,
        now: Time,
        fresh: ClaimId,
        effects: &mut ElectionEffects,
    ) -> Self {
        let mut election = Self {
            config,
            record,
            version,
            preference,
            lost: BTreeSet::new(),
            replaced: None,
            request: RequestId(0),
            claims_at: now,
            resends_at: now,
            phase: Phase::Over,
        };
        election.go_on(now, fresh, effects);
        election
    }

    /// Takes one fact and asks for what follows from it. `fresh` is a random number never used before: it becomes
    /// the id of a claim or the nonce of a probe if the step starts one.
    pub fn step(
        &mut self,
        now: Time,
        fresh: ClaimId,
        input: ElectionInput,
        effects: &mut ElectionEffects,
    ) {
        match input {
            ElectionInput::Reported { from, report } => {
                self.reported(now, fresh, from, report, effects);
            }
            ElectionInput::Swapped { request, result } => {
                if self.is_expected(request, effects) {
                    self.swapped(now, fresh, result, effects);
                }
            }
            ElectionInput::Read { request, found } => {
                if self.is_expected(request, effects) {
                    self.read(now, fresh, found, effects);
                }
            }
            ElectionInput::Lost(member) => {
                self.lost.insert(member);
                self.leader_lost(now, fresh, member, effects);
            }
            ElectionInput::Came(member) => {
                self.lost.remove(&member);
                self.send_again(member, effects);
            }
            ElectionInput::Elapsed => self.elapsed(now, fresh, effects),
        }
        self.choose(now, effects);
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Over | Phase::Claiming(_) | Phase::Granting(_) => None,
            Phase::Reading { asked, .. } => (!asked).then_some(self.resends_at),
            Phase::Probing { .. } if self.can_claim() => Some(self.claims_at.min(self.resends_at)),
            Phase::Probing { .. } => Some(self.resends_at),
            // The wait for the preferred leader is over when there is nobody else to choose meanwhile.
            Phase::Fencing { waits_until, .. } => {
                let waits_until = waits_until.filter(|_| self.is_choosable());
                Some(waits_until.map_or(self.resends_at, |until| until.min(self.resends_at)))
            }
            Phase::Leading { expires_at, .. } => Some(self.resends_at.min(*expires_at)),
        }
    }

    /// Whether a leader serves: nothing more will come of this election.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The record as this election last knew it, with its version.
    #[must_use]
    pub fn record(&self) -> (&ShardRecord, RecordVersion) {
        (&self.record, self.version)
    }

    fn reported(
        &mut self,
        now: Time,
        fresh: ClaimId,
        from: Member,
        report: Report,
        effects: &mut ElectionEffects,
    ) {
        match report {
            Report::Probed {
                nonce,
                impaired,
                wiped,
            } => {
                if let Phase::Probing {
                    nonce: asked,
                    answers,
                } = &mut self.phase
                    && *asked == nonce
                {
                    answers.insert(from, Probe { impaired, wiped });
                    self.claim_if_possible(now, fresh, effects);
                }
            }
            Report::Fenced(answer) => self.fenced(from, answer, effects),
            Report::FenceRefused { claim, promise } => {
                let is_current =
                    matches!(self.phase, Phase::Fencing { .. }) && claim == self.record.claim;
                if is_current {
                    self.read_for(
                        now,
                        Purpose::Compare {
                            member: from,
                            promise,
                        },
                        effects,
                    );
                }
            }
            Report::Leading { .. }
            | Report::LeadRefused { .. }
            | Report::LostQuorum { .. }
            | Report::HandedOver { .. }
            | Report::Outranked { .. } => self.leader_reported(now, fresh, from, &report, effects),
        }
    }

    /// Starts over: asks who is there.
    fn probe(&mut self, now: Time, fresh: ClaimId, effects: &mut ElectionEffects) {
        self.phase = Phase::Probing {
            nonce: Nonce(fresh.0),
            answers: BTreeMap::new(),
        };
        self.send_to_silent(now, effects);
    }

    /// Whether a fence quorum is there, and in it one that can be chosen. Before that, no leader is disturbed.
    fn can_claim(&self) -> bool {
        let Phase::Probing { answers, .. } = &self.phase else {
            return false;
        };
        let is_sound = |probe: &Probe| !probe.wiped && !probe.impaired;
        answers.values().any(is_sound)
            && quorum::is_quorum(&self.record, |member| {
                answers.get(&member).is_some_and(|probe| !probe.wiped)
            })
    }

    fn claim_if_possible(&mut self, now: Time, fresh: ClaimId, effects: &mut ElectionEffects) {
        if now < self.claims_at || !self.can_claim() {
            return;
        }
        let claim = Claim {
            epoch: self.record.claim.epoch.next(),
            id: fresh,
        };
        // A change of membership that is under way stays under way.
        let record = ShardRecord {
            claim,
            leader: None,
            ..self.record.clone()
        };
        self.claims_at = now.after(self.config.retry);
        effects.note(ElectionEvent::Claims(claim));
        self.swap(record.clone(), effects);
        self.phase = Phase::Claiming(record);
    }

    fn elapsed(&mut self, now: Time, fresh: ClaimId, effects: &mut ElectionEffects) {
        self.claim_if_possible(now, fresh, effects);
        self.give_up_silent_leader(now, fresh, effects);
        if now < self.resends_at {
            return;
        }
        match &mut self.phase {
            Phase::Probing { .. } | Phase::Fencing { .. } | Phase::Leading { .. } => {
                self.send_to_silent(now, effects);
            }
            Phase::Reading { asked, .. } if !*asked => {
                *asked = true;
                self.ask_store(effects);
            }
            Phase::Reading { .. } | Phase::Claiming(_) | Phase::Granting(_) | Phase::Over => {}
        }
    }

    /// Sends every member the order of this phase that it has not answered.
    fn send_to_silent(&mut self, now: Time, effects: &mut ElectionEffects) {
        self.resends_at = now.after(self.config.retry);
        for member in quorum::fenced_members(&self.record) {
            let is_silent = match &self.phase {
                Phase::Probing { answers, .. } => !answers.contains_key(&member),
                Phase::Fencing { answers, .. } => !answers.contains_key(&member),
                Phase::Leading { leader, .. } => *leader == member,
                Phase::Claiming(_) | Phase::Granting(_) | Phase::Reading { .. } | Phase::Over => {
                    false
                }
            };
            if is_silent {
                self.send_again(member, effects);
            }
        }
    }

    /// Sends a member the order of this phase.
    fn send_again(&self, to: Member, effects: &mut ElectionEffects) {
        if !quorum::fenced_members(&self.record).contains(&to) {
            return;
        }
        let order = match &self.phase {
            Phase::Probing { nonce, .. } => Order::Probe { nonce: *nonce },
            Phase::Fencing { .. } => Order::Fence {
                claim: self.record.claim,
            },
            Phase::Leading {
                leader,
                incarnation,
                ..
            } if *leader == to => Order::Lead {
                claim: self.record.claim,
                incarnation: *incarnation,
                record: self.record.clone(),
                version: self.version,
            },
            Phase::Leading { .. }
            | Phase::Claiming(_)
            | Phase::Granting(_)
            | Phase::Reading { .. }
            | Phase::Over => return,
        };
        effects.0.push(ElectionEffect::Order { to, order });
    }
}

impl ElectionEffects {
    fn note(&mut self, event: ElectionEvent) {
        self.0.push(ElectionEffect::Note(event));
    }
}

#[cfg(test)]
mod tests;
