//! From the grant to a leader that serves.

use std::collections::BTreeSet;

use super::{
    Election, ElectionEffect, ElectionEffects, ElectionEvent, Phase, Probe, Purpose, Stuck,
};
use crate::quorum::{self, Choice};
use crate::{ClaimId, Member, Report, Time};

impl Election {
    /// What the granted leader says of itself.
    pub(super) fn leader_reported(
        &mut self,
        now: Time,
        fresh: ClaimId,
        from: Member,
        report: &Report,
        effects: &mut ElectionEffects,
    ) {
        let own = self.record.claim;
        let Phase::Leading {
            leader,
            leads,
            expires_at,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if *leader != from {
            return;
        }
        match report {
            Report::Leading { epoch, serving } if *epoch == own.epoch => {
                *expires_at = now.after(self.config.lead_timeout);
                if !*leads {
                    *leads = true;
                    effects.note(ElectionEvent::Leads(own, from));
                }
                if *serving {
                    effects.note(ElectionEvent::Serves(own, from));
                    effects.0.push(ElectionEffect::Serves {
                        leader: from,
                        claim: own,
                    });
                    self.phase = Phase::Over;
                }
            }
            Report::LeadRefused { claim, .. } if *claim == own => {
                self.replace(now, fresh, "the leader refused", effects);
            }
            Report::LostQuorum { epoch } if *epoch == own.epoch => {
                self.preference.avoid = BTreeSet::from([from.node]);
                self.replace(now, fresh, "the leader reaches no quorum", effects);
            }
            Report::Outranked { promise } if promise.epoch >= own.epoch && *promise != own => {
                let (member, promise) = (from, *promise);
                self.read_for(now, Purpose::Compare { member, promise }, effects);
            }
            Report::Leading { .. }
            | Report::LeadRefused { .. }
            | Report::LostQuorum { .. }
            | Report::HandedOver { .. }
            | Report::Outranked { .. }
            | Report::Probed { .. }
            | Report::Fenced(_)
            | Report::FenceRefused { .. } => {
                effects.note(ElectionEvent::Dropped("a report on another epoch"));
            }
        }
    }

    pub(super) fn leader_lost(
        &mut self,
        now: Time,
        fresh: ClaimId,
        member: Member,
        effects: &mut ElectionEffects,
    ) {
        if matches!(&self.phase, Phase::Leading { leader, .. } if *leader == member) {
            self.replace(now, fresh, "the leader is lost", effects);
        }
    }

    pub(super) fn give_up_silent_leader(
        &mut self,
        now: Time,
        fresh: ClaimId,
        effects: &mut ElectionEffects,
    ) {
        if let Phase::Leading {
            leader, expires_at, ..
        } = &self.phase
            && now >= *expires_at
        {
            self.preference.avoid = BTreeSet::from([leader.node]);
            self.replace(now, fresh, "the leader does not answer", effects);
        }
    }

    /// The leader that the record names is to be replaced.
    fn replace(
        &mut self,
        now: Time,
        fresh: ClaimId,
        why: &'static str,
        effects: &mut ElectionEffects,
    ) {
        effects.note(ElectionEvent::StartsOver(why));
        self.replaced = Some(self.record.claim);
        self.probe(now, fresh, effects);
    }

    /// What is being waited for; none when the leader serves.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        match &self.phase {
            Phase::Over => None,
            Phase::Probing { answers, .. } => {
                let counts = |member| {
                    answers
                        .get(&member)
                        .is_some_and(|probe: &Probe| !probe.wiped)
                };
                Some(
                    self.no_quorum(counts)
                        .unwrap_or_else(|| Stuck::NoSoundReplica {
                            missing: self.members_without(counts),
                        }),
                )
            }
            Phase::Claiming(_) | Phase::Granting(_) => Some(Stuck::StoreSilent),
            Phase::Reading {
                purpose: Purpose::Behind { member, promise },
                ..
            } => Some(Stuck::StoreBehind {
                member: *member,
                promise: *promise,
            }),
            Phase::Reading { .. } => Some(Stuck::StoreSilent),
            Phase::Fencing { .. } => Some(self.stuck_fencing()),
            Phase::Leading {
                leader,
                leads: false,
                ..
            } => Some(Stuck::LeaderSilent(*leader)),
            Phase::Leading {
                leader,
                leads: true,
                ..
            } => Some(Stuck::NotServing(*leader)),
        }
    }

    fn stuck_fencing(&self) -> Stuck {
        let Phase::Fencing { answers, .. } = &self.phase else {
            unreachable!("asked while fencing")
        };
        let is_sound = |member| {
            answers
                .get(&member)
                .is_some_and(|answer| !answer.impaired && !answer.wiped)
        };
        match self.choice() {
            Choice::Chosen(leader) => Stuck::LeaderSilent(leader),
            Choice::NoCandidate { greatest } => Stuck::NoCandidate {
                greatest,
                needed: self.members_without(is_sound),
            },
            Choice::NoQuorum => self
                .no_quorum(is_sound)
                .unwrap_or_else(|| Stuck::NoSoundReplica {
                    missing: self.members_without(is_sound),
                }),
        }
    }

    /// What is missing for a fence quorum; none when there is one.
    fn no_quorum(&self, counts: impl Fn(Member) -> bool) -> Option<Stuck> {
        let sets = std::iter::once(&self.record.voters).chain(&self.record.next_voters);
        let needed = sets
            .map(|set| {
                let counted = set.iter().filter(|member| counts(**member)).count();
                quorum::majority(set.len()).saturating_sub(counted)
            })
            .max()
            .unwrap_or_default();
        (needed > 0).then(|| Stuck::NoFenceQuorum {
            missing: self.members_without(counts),
            needed,
        })
    }

    fn members_without(&self, counts: impl Fn(Member) -> bool) -> Vec<Member> {
        let mut members = quorum::fenced_members(&self.record);
        members.retain(|member| !counts(*member));
        members
    }
}
