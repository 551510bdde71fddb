//! Client ids that connections of this gateway want: who is let in, and when.

use quorate_message::GatewayId;

use super::{
    Effect, Neighbours, Note, SeatId,
    claims::Standing,
    frame::{Claim, News, fits},
    saying::Key,
};
use crate::{
    limits::{CLAIM_MICROS, NEIGHBOUR_ANSWERS_MICROS, TAKEOVER_TIMEOUT},
    session::Time,
};

/// What this gateway wants of a client id.
#[derive(Clone, Debug)]
pub(super) struct OwnClaim {
    seat: SeatId,
    connection_id: String,
    holder: String,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its connection waits.
    Pending {
        since: Time,
        /// Let in then at the latest.
        until: Time,
        /// It has come back.
        is_heard: bool,
    },
    /// Its connection is in.
    Granted,
}

impl OwnClaim {
    pub(super) fn waits_until(&self) -> Option<Time> {
        match self.phase {
            Phase::Pending { until, .. } => Some(until),
            Phase::Granted => None,
        }
    }

    pub(super) fn news(&self, client_id: String) -> News {
        let claim = Claim {
            seat: self.seat,
            client_id,
            connection_id: self.connection_id.clone(),
            holder: self.holder.clone(),
        };
        match self.phase {
            Phase::Pending { .. } => News::Claim(claim),
            Phase::Granted => News::Held(claim),
        }
    }

    #[cfg(test)]
    pub(super) fn is_granted(&self) -> bool {
        self.phase == Phase::Granted
    }
}

/// What is to be done about a claim.
enum Verdict {
    Grant,
    Refuse(String),
    /// It may be decided until this long after it was made.
    Wait(u64),
    /// It has to be said again.
    Again,
}

impl Neighbours {
    /// A connection wants a client id.
    pub(super) fn claim(
        &mut self,
        seat: SeatId,
        client_id: String,
        (connection_id, holder): (String, String),
        effects: &mut Vec<Effect>,
    ) {
        if ![&client_id, &connection_id, &holder]
            .into_iter()
            .all(|text| fits(text))
        {
            // What cannot be told is had by one connection of this gateway.
            let what = "a client id as long as this";
            effects.push(Effect::Note(Note::Full { what }));
            let decision = Ok(());
            return effects.push(Effect::Decided { seat, decision });
        }
        let earlier = self.own_claims.get(&client_id);
        let is_granted = earlier.is_some_and(|earlier| {
            earlier.phase == Phase::Granted && earlier.connection_id == connection_id
        });
        let phase = match is_granted {
            // The same client, in the place that it had.
            true => Phase::Granted,
            false => Phase::Pending {
                since: self.now,
                until: self.now.after(CLAIM_MICROS),
                is_heard: false,
            },
        };
        let claim = OwnClaim {
            seat,
            connection_id,
            holder,
            phase,
        };
        self.own_claims.insert(client_id.clone(), claim);
        self.outgoing.changed(Key::Client(client_id));
        if is_granted {
            let decision = Ok(());
            effects.push(Effect::Decided { seat, decision });
        }
    }

    /// A connection wants its client id no longer.
    pub(super) fn release(&mut self, seat: SeatId, client_id: String, effects: &mut Vec<Effect>) {
        let claim = self.own_claims.get(&client_id);
        if claim.is_none_or(|claim| claim.seat != seat) {
            return effects.push(Effect::Freed { seat });
        }
        self.own_claims.remove(&client_id);
        self.outgoing.frees(&client_id, seat);
        self.outgoing.changed(Key::Client(client_id));
    }

    /// One of this gateway's claims has come back.
    pub(super) fn heard_own_claim(&mut self, claim: &Claim) {
        let own = self.own_claims.get_mut(&claim.client_id);
        let own = own.filter(|own| own.seat == claim.seat);
        if let Some(Phase::Pending { is_heard, .. }) = own.map(|own| &mut own.phase) {
            *is_heard = true;
        }
    }

    /// Another gateway wants a client id. If it is for a connection that has it here, that one has come back there.
    pub(super) fn heard_claim(&mut self, claim: &Claim, effects: &mut Vec<Effect>) {
        let own = self.own_claims.get(&claim.client_id);
        let Some(own) = own.filter(|own| own.connection_id == claim.connection_id) else {
            return;
        };
        let is_earlier = match own.phase {
            Phase::Granted => true,
            // One that has not come back will come after that one.
            Phase::Pending { is_heard, .. } => is_heard,
        };
        if is_earlier {
            effects.push(Effect::Leave { seat: own.seat });
        }
    }

    /// Decides what can be decided.
    pub(super) fn decide_all(&mut self, effects: &mut Vec<Effect>) {
        let own = self.own_claims.iter();
        let pending = own.filter(|(_, claim)| claim.waits_until().is_some());
        let pending: Vec<String> = pending.map(|(id, _)| id.clone()).collect();
        for client_id in pending {
            self.decide(client_id, effects);
        }
    }

    fn decide(&mut self, client_id: String, effects: &mut Vec<Effect>) {
        let Some(claim) = self.own_claims.get(&client_id) else {
            return;
        };
        let Phase::Pending {
            since,
            until,
            is_heard,
        } = claim.phase
        else {
            return;
        };
        let seat = claim.seat;
        let (phase, is_news) = match self.verdict(&client_id, claim, is_heard) {
            Verdict::Refuse(holder) => {
                self.own_claims.remove(&client_id);
                self.outgoing.changed(Key::Client(client_id));
                let decision = Err(holder);
                return effects.push(Effect::Decided { seat, decision });
            }
            // Said to all: one that missed something may not have written the claim down.
            Verdict::Grant => (Phase::Granted, true),
            Verdict::Wait(_) | Verdict::Again if until <= self.now => {
                let client_id = client_id.clone();
                effects.push(Effect::Note(Note::Unanswered { client_id }));
                (Phase::Granted, true)
            }
            Verdict::Wait(micros) => {
                let until = until.max(since.after(micros));
                let phase = Phase::Pending {
                    since,
                    until,
                    is_heard,
                };
                (phase, false)
            }
            Verdict::Again => {
                let phase = Phase::Pending {
                    since,
                    until,
                    is_heard: false,
                };
                (phase, true)
            }
        };
        if phase == Phase::Granted {
            let decision = Ok(());
            effects.push(Effect::Decided { seat, decision });
        }
        if let Some(claim) = self.own_claims.get_mut(&client_id) {
            claim.phase = phase;
        }
        if is_news {
            self.outgoing.changed(Key::Client(client_id));
        }
    }

    fn verdict(&self, client_id: &str, claim: &OwnClaim, is_heard: bool) -> Verdict {
        if self.is_alone() {
            return Verdict::Grant;
        }
        if !is_heard || !self.is_in_the_know() {
            return Verdict::Wait(CLAIM_MICROS);
        }
        let takeover = u64::try_from(TAKEOVER_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
        match self
            .claims
            .standing(self.life, client_id, &claim.connection_id)
        {
            Standing::First => Verdict::Grant,
            Standing::Behind(life) if self.is_doubtful(life) => Verdict::Grant,
            Standing::Behind(_) => Verdict::Wait(takeover),
            // Whether its gateway lives is found out meanwhile.
            Standing::Taken { by, .. } if self.is_doubtful(by) => Verdict::Wait(takeover),
            Standing::Taken { holder, .. } => Verdict::Refuse(holder),
            Standing::Unknown => Verdict::Again,
        }
    }

    /// Whether all is known of the others, or of those that there are to all appearances.
    fn is_in_the_know(&self) -> bool {
        let Some(greeted_at) = self.greeted_at else {
            return false;
        };
        let answered = greeted_at.after(NEIGHBOUR_ANSWERS_MICROS) <= self.now;
        self.others.are_whole() && (answered || self.others.are_all(&self.name))
    }

    fn is_doubtful(&self, life: GatewayId) -> bool {
        self.others.is_doubtful(life, &self.name)
    }
}
