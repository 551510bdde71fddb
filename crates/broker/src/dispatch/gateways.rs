//! Gateways as the serving leader knows them: which are there, which have said what they hold, which are being lost.
//!
//! ```text
//!                 attach of a consumer                   session gone for the grace
//!   known -------> proposed -------> attached -------> losing -------> lost (forgotten)
//!                  (nothing is sent)     |    what it held is given back through the log first
//!   in the state when the leader began --+
//!     waited for until it has reported; if it stays silent, it is lost without anybody knowing what it held
//! ```
//! As long as one is waited for, no message that is older than this leader's epoch is sent to anybody: it may be in
//! somebody's hands. A message in those of a gateway whose client gave it back, while the settlement that says so is
//! on its way, is *leaving*: nobody gets it before that settlement is applied.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{BatchBuilder, Destination, GatewayId, MessagePosition, Settlement};

use super::{Dispatcher, Held, Holder, LaneId};
use crate::limits::{GATEWAYS_MAX, PROPOSE_RETRY};
use crate::state::{Giver, LEADER, State, Turn};
use crate::{Effect, Input, Leaving, SessionId};

/// What was proposed about a gateway, and when it is proposed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proposed {
    Nothing,
    Attachment { due: u64 },
    Loss { due: u64 },
}

/// One gateway.
#[derive(Clone, Debug)]
struct Gateway {
    session: Option<SessionId>,
    /// When it is given up, unless it comes back or says what it holds.
    lost_at: Option<u64>,
    /// It is given up: what it held goes back, then its loss is proposed.
    is_losing: bool,
    proposed: Proposed,
    /// What it gives back by settlements that are under way.
    leaving: BTreeSet<(LaneId, MessagePosition)>,
    /// The same, as the report under way has it so far.
    renewed: BTreeSet<(LaneId, MessagePosition)>,
    /// All that it said to be settling, with its number in the batch, by its last report and by the one under way. One that
    /// waits for its time may come back before that batch is applied.
    said: [BTreeMap<(LaneId, MessagePosition), u64>; 2],
}

impl Gateway {
    fn new(lost_at: Option<u64>) -> Self {
        Self {
            session: None,
            lost_at,
            is_losing: false,
            proposed: Proposed::Nothing,
            leaving: BTreeSet::new(),
            renewed: BTreeSet::new(),
            said: Default::default(),
        }
    }

    /// Whether it said to be settling a message, and the batch is not applied.
    fn is_settling(&self, id: GatewayId, what: (LaneId, MessagePosition), state: &State) -> bool {
        let numbers = self.said.iter().filter_map(|said| said.get(&what));
        let mut open = numbers.filter(|number| !state.gateways().has_said(id, **number));
        !self.is_losing && open.next().is_some()
    }
}

/// All gateways.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateways {
    known: BTreeMap<GatewayId, Gateway>,
    sessions: BTreeMap<SessionId, GatewayId>,
    /// Those that may hold what nobody here knows of.
    waiting: BTreeSet<GatewayId>,
}

impl Gateways {
    /// Those of the state: each is waited for.
    pub(super) fn new(state: &State, lost_at: u64) -> Self {
        let waiting: BTreeSet<GatewayId> = state.gateways().iter().collect();
        let known = waiting.iter();
        let known = known.map(|gateway| (*gateway, Gateway::new(Some(lost_at))));
        Self {
            known: known.collect(),
            sessions: BTreeMap::new(),
            waiting,
        }
    }

    /// Whether somebody may hold what nobody here knows of.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The gateway of a session; none when the session has not named it.
    pub(super) fn of(&self, session: SessionId) -> Option<GatewayId> {
        self.sessions.get(&session).copied()
    }

    /// Those that are given up.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = GatewayId> + '_ {
        let known = self.known.iter().filter(|(_, known)| known.is_losing);
        known.map(|(id, _)| *id)
    }

    /// What is leaving by way of this gateway.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = (GatewayId, LaneId, MessagePosition)> {
        self.known.iter().flat_map(|(gateway, known)| {
            let leaving = known.leaving.iter();
            leaving.map(|(lane, position)| (*gateway, *lane, *position))
        })
    }

    /// A message that was leaving is settled.
    pub(super) fn left(&mut self, gateway: GatewayId, lane: LaneId, position: MessagePosition) {
        if let Some(known) = self.known.get_mut(&gateway) {
            known.leaving.remove(&(lane, position));
            known.renewed.remove(&(lane, position));
        }
    }

    /// Whether messages may be sent to this gateway: its attachment is logged, and its loss is not.
    pub(super) fn is_admitted(&self, gateway: GatewayId, state: &State) -> bool {
        let known = self.known.get(&gateway);
        let is_losing = known.is_some_and(|known| matches!(known.proposed, Proposed::Loss { .. }));
        state.gateways().contains(gateway) && !is_losing
    }

    /// All that are known.
    pub(super) fn ids(&self) -> impl Iterator<Item = GatewayId> + '_ {
        self.known.keys().copied()
    }

    /// One that an earlier leader knew, without a session as yet; it has the time of those in the state to come.
    pub(super) fn resume(&mut self, id: GatewayId, lost_at: u64) {
        let known = self.known.entry(id);
        known.or_insert_with(|| Gateway::new(Some(lost_at)));
    }

    /// A message is leaving by way of a gateway, as an earlier leader knew.
    pub(super) fn resume_leaving(
        &mut self,
        id: GatewayId,
        lane: LaneId,
        position: MessagePosition,
    ) {
        if let Some(known) = self.known.get_mut(&id) {
            known.leaving.insert((lane, position));
        }
    }

    /// What all of them hold is known.
    pub(super) fn know_all(&mut self) {
        self.waiting.clear();
    }

    /// Whether one more gateway would be too many.
    pub(super) fn is_full(&self, gateway: GatewayId, state: &State) -> bool {
        state.gateways().len() >= GATEWAYS_MAX && !state.gateways().contains(gateway)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.known.values().flat_map(|known| {
            let due = match known.proposed {
                Proposed::Nothing => None,
                Proposed::Attachment { due } | Proposed::Loss { due } => Some(due),
            };
            [known.lost_at, due]
        });
        deadlines.flatten().min()
    }
}

impl Dispatcher {
    /// Takes what sessions say of their gateways, and their end.
    pub(super) fn told_of_gateway(&mut self, now: u64, input: Input, state: &State) {
        if let Input::Joined { session, gateway } = input {
            self.session_joined(session, gateway);
            self.wait_for_consumers_of(now, gateway);
        } else if let Input::Reporting {
            session,
            is_first,
            leaving,
        } = input
        {
            self.reporting(session, is_first, &leaving, state);
        } else if let Input::Reported { session } = input {
            self.reported(session);
        } else if let Input::Left { session } = input {
            self.session_lost(now, session);
            self.gateway_gone(now, session, true);
        } else if let Input::SessionLost { session } = input {
            self.session_lost(now, session);
            self.gateway_gone(now, session, false);
        }
    }

    /// A session says whose it is.
    pub(super) fn session_joined(&mut self, session: SessionId, id: GatewayId) {
        let gateways = &mut self.gateways;
        gateways.sessions.insert(session, id);
        let is_waiting = gateways.waiting.contains(&id);
        let known = gateways.known.entry(id);
        let known = known.or_insert_with(|| Gateway::new(None));
        known.session = Some(session);
        if !is_waiting {
            known.lost_at = None;
            known.is_losing = false;
        }
    }

    /// A part of what a gateway says: messages that it gives back or settles, without a consumer that claims them.
    pub(super) fn reporting(
        &mut self,
        session: SessionId,
        is_first: bool,
        leaving: &[Leaving],
        state: &State,
    ) {
        let Some(id) = self.gateways.of(session) else {
            return;
        };
        if is_first && let Some(known) = self.gateways.known.get_mut(&id) {
            known.renewed.clear();
            known.said[1].clear();
        }
        for one in leaving {
            // Applied while the report was on its way: nothing would let go of them a second time.
            if state.gateways().has_said(id, one.number) {
                continue;
            }
            let Some(lane) = self.lane_of(&one.queue, state) else {
                continue;
            };
            for position in &one.positions {
                let is_taken = self.take_leaving(id, one, lane, *position, state);
                let Some(known) = self.gateways.known.get_mut(&id) else {
                    continue;
                };
                if one.number > 0 {
                    known.said[1].insert((lane, *position), one.number);
                }
                if is_taken {
                    known.leaving.insert((lane, *position));
                    known.renewed.insert((lane, *position));
                }
            }
        }
    }

    /// Keeps a message from everybody until its settlement is applied. Not when another consumer has it by now: then
    /// the settlement was applied before.
    fn take_leaving(
        &mut self,
        gateway: GatewayId,
        from: &Leaving,
        id: LaneId,
        position: MessagePosition,
        state: &State,
    ) -> bool {
        let by = self.consumers.find(from.consumer);
        let lane = &self.lanes[id.0];
        match lane.in_flight.get(&position).map(|held| held.holder) {
            Some(Holder::Leaving(other)) => return other == gateway,
            Some(Holder::Consumer(holder)) if Some(holder) == by => {
                let consumer = self.consumers.get(holder);
                if consumer.gateway != Some(gateway) {
                    return false;
                }
                self.let_go(id, position, Holder::Consumer(holder));
            }
            // Given up and back in time: its own settlement comes behind the return in the log, and decides.
            Some(holder @ Holder::Returning(_)) => self.let_go(id, position, holder),
            Some(Holder::Consumer(_) | Holder::Expiring | Holder::Skipped) => return false,
            None => {
                let Some(turn) = self.take_out_at(id, position, state) else {
                    return false;
                };
                let held = Held {
                    holder: Holder::Leaving(gateway),
                    priority: turn.priority(),
                };
                self.lanes[id.0].in_flight.insert(position, held);
            }
        }
        if let Some(held) = self.lanes[id.0].in_flight.get_mut(&position) {
            held.holder = Holder::Leaving(gateway);
        }
        true
    }

    /// A message is available again that waited for its time. One that a gateway's client had, and whose settlement is on
    /// its way all the same, is kept from everybody until that is applied: it would be taken from whoever got it.
    pub(super) fn is_kept_for_settlement(&mut self, id: LaneId, turn: Turn, state: &State) -> bool {
        let what = (id, turn.position());
        let known = self.gateways.known.iter_mut();
        let mut settling =
            known.filter(|(gateway, known)| known.is_settling(**gateway, what, state));
        let Some((gateway, known)) = settling.next() else {
            return false;
        };
        known.leaving.insert(what);
        known.renewed.insert(what);
        let held = Held {
            holder: Holder::Leaving(*gateway),
            priority: turn.priority(),
        };
        self.lanes[id.0].hold_back(turn, held);
        true
    }

    /// A message is given back of which another settlement is on its way, of whichever gateway: it passes from whoever had it
    /// to that one, which would take it from the next.
    pub(super) fn passes_to_settlement(
        &mut self,
        id: LaneId,
        position: MessagePosition,
        state: &State,
    ) -> bool {
        let what = (id, position);
        let mut known = self.gateways.known.iter();
        let settling = known.find(|(gateway, known)| known.is_settling(**gateway, what, state));
        let Some(gateway) = settling.map(|(gateway, _)| *gateway) else {
            return false;
        };
        let Some(held) = self.lanes[id.0].in_flight.get_mut(&position) else {
            return false;
        };
        let before = std::mem::replace(&mut held.holder, Holder::Leaving(gateway));
        self.let_go(id, position, before);
        if let Some(known) = self.gateways.known.get_mut(&gateway) {
            known.leaving.insert(what);
            known.renewed.insert(what);
        }
        true
    }

    /// A gateway has said everything: what it holds is known.
    pub(super) fn reported(&mut self, session: SessionId) {
        let Some(id) = self.gateways.of(session) else {
            return;
        };
        let Some(known) = self.gateways.known.get_mut(&id) else {
            return;
        };
        if known.session == Some(session) && !known.is_losing {
            known.lost_at = None;
        }
        let renewed = std::mem::take(&mut known.renewed);
        known.said[0] = std::mem::take(&mut known.said[1]);
        // Settled meanwhile, by an entry that an earlier leader answered.
        let settled: Vec<_> = known.leaving.difference(&renewed).copied().collect();
        for (lane, position) in settled {
            let held = self.lanes[lane.0].in_flight.get(&position);
            if held.is_some_and(|held| held.holder == Holder::Leaving(id)) {
                self.give_back(lane, position);
            }
        }
        if self.gateways.waiting.remove(&id) {
            self.lift_barrier();
        }
    }

    fn lift_barrier(&mut self) {
        if !self.gateways.is_waiting() {
            self.touch_all();
        }
    }

    /// A gateway's session is gone; it may come back. `is_clean`: it said that it does not.
    pub(super) fn gateway_gone(&mut self, now: u64, session: SessionId, is_clean: bool) {
        let Some(id) = self.gateways.sessions.remove(&session) else {
            return;
        };
        let Some(known) = self.gateways.known.get_mut(&id) else {
            return;
        };
        if known.session == Some(session) {
            known.session = None;
            let until = if is_clean {
                now
            } else {
                now.saturating_add(self.limits.reattach_grace)
            };
            known.lost_at = Some(known.lost_at.map_or(until, |at| at.min(until)));
        }
    }

    /// Has the attachment of a consumer's gateway logged, unless it is.
    pub(super) fn attach_gateway(
        &mut self,
        now: u64,
        id: GatewayId,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        let Some(known) = self.gateways.known.get_mut(&id) else {
            return;
        };
        if state.gateways().contains(id) || known.proposed != Proposed::Nothing {
            return;
        }
        let due = now.saturating_add(PROPOSE_RETRY);
        known.proposed = Proposed::Attachment { due };
        let mut builder = BatchBuilder::persistent();
        builder
            .gateway_attached(id)
            .expect("one command fits a batch");
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
    }

    /// The attachment of a gateway is committed: its consumers are served.
    pub(crate) fn gateway_attached(&mut self, id: GatewayId, state: &State) {
        let Some(known) = self.gateways.known.get_mut(&id) else {
            return;
        };
        // Refused, there being too many: asked for again when its time has come.
        if !state.gateways().contains(id) {
            return;
        }
        if matches!(known.proposed, Proposed::Attachment { .. }) {
            known.proposed = Proposed::Nothing;
        }
        self.admit_consumers(id, state);
    }

    /// The loss of a gateway is committed. If it is there all the same, it is attached anew.
    pub(crate) fn gateway_lost(
        &mut self,
        now: u64,
        id: GatewayId,
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        if self.gateways.waiting.remove(&id) {
            self.lift_barrier();
        }
        let Some(known) = self.gateways.known.get_mut(&id) else {
            return;
        };
        known.proposed = Proposed::Nothing;
        known.is_losing = false;
        if known.session.is_none() && known.leaving.is_empty() {
            self.gateways.known.remove(&id);
        } else {
            known.lost_at = known.session.is_none().then_some(now);
        }
        self.admit_consumers(id, state);
        if self.has_consumers(id) {
            self.attach_gateway(now, id, state, effects);
        }
    }

    fn has_consumers(&self, id: GatewayId) -> bool {
        let mut consumers = self.consumers.iter();
        consumers.any(|(_, consumer)| consumer.gateway == Some(id))
    }

    /// Lets a gateway's consumers have messages, or keeps them from them.
    fn admit_consumers(&mut self, id: GatewayId, state: &State) {
        let is_admitted = self.gateways.is_admitted(id, state);
        let consumers = self.consumers.iter();
        let consumers = consumers.filter(|(_, consumer)| consumer.gateway == Some(id));
        let consumers: Vec<_> = consumers.map(|(reference, _)| reference).collect();
        for reference in consumers {
            self.consumers.get_mut(reference).is_held_back = !is_admitted;
            if is_admitted {
                self.rejoin(reference);
            } else {
                self.leave_ring(reference);
            }
        }
    }

    /// Gives up gateways whose time is over, and proposes again what was not committed.
    pub(super) fn tend_gateways(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        let is_due = self.gateways.next_deadline().is_some_and(|at| at <= now);
        if !is_due && !self.gateways.known.values().any(|known| known.is_losing) {
            return;
        }
        let ids: Vec<GatewayId> = self.gateways.known.keys().copied().collect();
        for id in ids {
            let Some(known) = self.gateways.known.get_mut(&id) else {
                continue;
            };
            if known.lost_at.is_some_and(|at| at <= now) {
                known.lost_at = None;
                known.is_losing = true;
            }
            match known.proposed {
                Proposed::Attachment { due } if due <= now => {
                    known.proposed = Proposed::Nothing;
                    if self.has_consumers(id) {
                        self.attach_gateway(now, id, state, effects);
                    }
                }
                Proposed::Loss { due } if due <= now => known.proposed = Proposed::Nothing,
                Proposed::Nothing | Proposed::Attachment { .. } | Proposed::Loss { .. } => {}
            }
            self.lose(now, id, state, effects);
        }
    }

    /// Proposes the loss of a gateway that is given up, once nothing of it is left to be given back.
    fn lose(&mut self, now: u64, id: GatewayId, state: &State, effects: &mut Vec<Effect>) {
        let Some(known) = self.gateways.known.get(&id) else {
            return;
        };
        if !known.is_losing || known.proposed != Proposed::Nothing {
            return;
        }
        let is_known = !self.gateways.waiting.contains(&id);
        if is_known {
            let leaving: Vec<_> = known.leaving.iter().copied().collect();
            for group in leaving.chunk_by(|(a, _), (b, _)| a == b) {
                let lane = group[0].0;
                let positions = group.iter().map(|(_, position)| *position);
                let (transient, positions): (Vec<_>, Vec<_>) =
                    positions.partition(|position| position.is_transient());
                for position in transient {
                    self.give_back(lane, position);
                }
                for position in &positions {
                    self.let_go(lane, *position, Holder::Leaving(id));
                    self.start_return(lane, *position, Settlement::Release);
                }
                self.propose_returns(now, lane, positions, Settlement::Release, effects);
            }
            // What is on its way back may be this gateway's; its loss comes behind it in the log.
            if self.has_consumers(id) || self.returns.are_open() {
                return;
            }
            if !state.gateways().contains(id) {
                self.gateways.known.remove(&id);
                return;
            }
        }
        if let Some(known) = self.gateways.known.get_mut(&id) {
            let due = now.saturating_add(PROPOSE_RETRY);
            known.proposed = Proposed::Loss { due };
        }
        self.admit_consumers(id, state);
        let mut builder = BatchBuilder::persistent();
        builder
            .gateway_lost(id, is_known)
            .expect("one command fits a batch");
        effects.push(Effect::Propose {
            batch: builder.finish(),
        });
    }

    /// Whether a settlement that gives a message back means the one who has it now.
    pub(super) fn is_meant(&self, holder: Holder, giver: Giver) -> bool {
        match (holder, giver) {
            (Holder::Skipped, _) => false,
            (Holder::Expiring, giver) => giver == Giver::Anybody,
            (Holder::Consumer(_) | Holder::Leaving(_) | Holder::Returning(_), Giver::Anybody) => {
                true
            }
            (Holder::Returning(_), Giver::Gateway { id, .. }) => id == LEADER,
            // A repeat was applied before what is leaving was named: that leaves by a later one.
            (Holder::Leaving(gateway), Giver::Gateway { id, is_repeat, .. }) => {
                gateway == id && !is_repeat
            }
            (Holder::Consumer(_), Giver::Gateway { is_repeat, .. }) if is_repeat => false,
            (Holder::Consumer(consumer), Giver::Gateway { id, .. }) => {
                let gateway = self.consumers.get(consumer).gateway;
                gateway.is_none_or(|gateway| gateway == id)
            }
        }
    }
}

/// The commands by which positions of one queue are given back, in batches.
pub(super) fn give_back_batches(
    at: &Destination,
    positions: &[MessagePosition],
    settlement: Settlement,
) -> Vec<bytes::Bytes> {
    let mut builder = BatchBuilder::persistent();
    let mut batches = Vec::new();
    for chunk in positions.chunks(quorate_message::limits::BATCH_COMMANDS_MAX - 1) {
        // Never a repeat: the leader is not among the gateways that are counted.
        builder.origin(LEADER, 1).expect("an empty batch has room");
        for position in chunk {
            builder
                .settle_at((at.kind, &at.name), *position, settlement)
                .expect("a chunk of settlements fits a batch");
        }
        batches.push(builder.finish());
    }
    batches
}
