//! Collecting the answers to a fence, and choosing from them (replication.md, Fence and Choose).

use super::{Election, ElectionEffects, ElectionEvent, Grant, Phase};
use crate::quorum::{self, Choice, Preference};
use crate::{FenceAnswer, Member, ShardRecord, Time};

impl Election {
    /// (m) Answers to another claim are not used, nor those of another disk than the record names.
    pub(super) fn fenced(
        &mut self,
        from: Member,
        answer: FenceAnswer,
        effects: &mut ElectionEffects,
    ) {
        let is_member = quorum::fenced_members(&self.record).contains(&from);
        let claim = self.record.claim;
        let Phase::Fencing { answers, .. } = &mut self.phase else {
            return;
        };
        if answer.claim != claim || answer.disk != from.disk || !is_member {
            return effects.note(ElectionEvent::Dropped(
                "an answer to another claim, or of no member",
            ));
        }
        // An answer of an earlier life that comes late does not replace a newer one: its incarnation leads no more.
        let is_newer = answers
            .get(&from)
            .is_none_or(|known| known.incarnation <= answer.incarnation);
        if is_newer {
            answers.insert(from, answer);
        }
    }

    /// Chooses a leader if the answers allow it, and asks the store to name it.
    pub(super) fn choose(&mut self, now: Time, effects: &mut ElectionEffects) {
        let Choice::Chosen(leader) = self.choice() else {
            return;
        };
        if self.lost.contains(&leader) || self.waits_for_preferred(now, leader) {
            return;
        }
        let Phase::Fencing { answers, .. } = &self.phase else {
            return;
        };
        let incarnation = answers
            .get(&leader)
            .expect("who is chosen has answered")
            .incarnation;
        let record = ShardRecord {
            leader: Some(leader),
            ..self.record.clone()
        };
        effects.note(ElectionEvent::Chose(record.claim, leader));
        self.swap(record.clone(), effects);
        self.phase = Phase::Granting(Grant {
            record,
            leader,
            incarnation,
        });
    }

    /// Whether somebody could be chosen now.
    pub(super) fn is_choosable(&self) -> bool {
        match self.choice() {
            Choice::Chosen(leader) => !self.lost.contains(&leader),
            Choice::NoQuorum | Choice::NoCandidate { .. } => false,
        }
    }

    /// What the answers so far allow.
    pub(super) fn choice(&self) -> Choice {
        let Phase::Fencing { answers, .. } = &self.phase else {
            return Choice::NoQuorum;
        };
        let gone = self.lost.iter().map(|member| member.node);
        let preference = Preference {
            preferred: self.preference.preferred,
            avoid: self.preference.avoid.iter().copied().chain(gone).collect(),
        };
        let answers = answers.iter().map(|(member, answer)| (*member, answer));
        quorum::choose(&self.record, answers, &preference)
    }

    /// Whether the preferred leader's answer is worth a moment.
    fn waits_for_preferred(&mut self, now: Time, chosen: Member) -> bool {
        let until = now.after(self.config.preferred_wait);
        let preferred = self
            .preference
            .preferred
            .filter(|node| *node != chosen.node && !self.preference.avoid.contains(node));
        let members = quorum::fenced_members(&self.record);
        let Phase::Fencing {
            answers,
            waits_until,
        } = &mut self.phase
        else {
            return false;
        };
        let is_awaited = members.iter().any(|member| {
            Some(member.node) == preferred
                && !self.lost.contains(member)
                && !answers.contains_key(member)
        });
        is_awaited && now < *waits_until.get_or_insert(until)
    }
}
