//! A state of the search and what can happen in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_replication::quorum::Preference;
use quorate_replication::{
    Act, Claim, ClaimId, Effects, Election, ElectionConfig, ElectionEffect, ElectionEffects,
    ElectionInput, Entry, EntryKind, Epoch, Input, Message, NodeId, Order, RecordVersion, Report,
    RequestId, ShardId, ShardRecord, Stamp, Swapped, Time, Write, WriteId, invariant::Violation,
};

use super::judge::Judge;
use super::slot::Slot;
use super::{Budget, Bug};

/// Steps within which the first leader must serve when everything is delivered.
const FIRST_ELECTION_STEPS: usize = 1_000;

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Envelope {
    /// From replica to replica.
    Peer(NodeId, NodeId, Message),
    /// From the coordinator to a replica.
    Order(NodeId, Order),
    /// From a replica to the coordinator.
    Report(NodeId, Report),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A message arrives.
    Deliver(Envelope),
    /// A message arrives and will arrive again.
    Repeat(Envelope),
    /// All writes of a replica become durable.
    Sync(usize),
    /// A replica restarts and loses what was not durable.
    Restart(usize),
    /// An entry is proposed to a replica that leads.
    Propose(usize),
    /// A coordinator begins a new election; a running one is forgotten.
    Elect,
    /// The store carries out the change that was asked for first.
    Swap,
    /// The same, and the answer is lost.
    SwapUnknown,
    /// The election's deadline passes.
    Elapse,
}

/// A change that the store was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AskedSwap {
    request: RequestId,
    expected: RecordVersion,
    record: ShardRecord,
    /// Of which election; the answer to another than the running one is dropped.
    election: u64,
}

/// Everything that the future depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    slots: Vec<Slot>,
    network: BTreeSet<Envelope>,
    record: ShardRecord,
    version: RecordVersion,
    election: Option<Election>,
    elections: u64,
    swaps: Vec<AskedSwap>,
    fresh: u64,
    judge: Judge,
    budget: Budget,
    bug: Bug,
}

impl State {
    /// The state in which a first leader serves and nothing is on its way.
    pub(super) fn led(bug: Bug, budget: Budget) -> Self {
        let slots: Vec<Slot> = (1..=3).map(Slot::new).collect();
        let record = ShardRecord {
            shard: ShardId(1),
            claim: Claim::default(),
            leader: None,
            voters: slots.iter().map(|slot| slot.member).collect(),
            next_voters: None,
            learners: Vec::new(),
        };
        let mut state = Self {
            slots,
            network: BTreeSet::new(),
            record,
            version: RecordVersion(1),
            election: None,
            elections: 0,
            swaps: Vec::new(),
            fresh: 0,
            judge: Judge::default(),
            budget: Budget {
                elections: 1,
                preferred: None,
                ..budget
            },
            bug: Bug::None,
        };
        state.act(Action::Elect);
        for _ in 0..FIRST_ELECTION_STEPS {
            let mut actions = Vec::new();
            state.actions(&mut actions);
            let is_progress = |action: &Action| {
                matches!(action, Action::Deliver(_) | Action::Sync(_) | Action::Swap)
            };
            match actions.into_iter().find(is_progress) {
                Some(action) => state.act(action),
                None => break,
            }
        }
        assert_eq!(state.judge.violation, None, "the first election");
        assert_eq!(state.judge.serving, Epoch(1), "the first leader serves");
        state.budget = budget;
        state.bug = bug;
        state.election = None;
        state
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.judge.violation.as_ref()
    }

    pub(super) fn committed_proposals(&self) -> usize {
        let committed = self.judge.committed().values();
        committed
            .filter(|entry| entry.kind == EntryKind::Commands)
            .count()
    }

    pub(super) fn highest_serving(&self) -> Epoch {
        self.judge.serving
    }

    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for envelope in &self.network {
            actions.push(Action::Deliver(envelope.clone()));
            if self.budget.repeats > 0 {
                actions.push(Action::Repeat(envelope.clone()));
            }
        }
        for (at, slot) in self.slots.iter().enumerate() {
            if !slot.pending.is_empty() {
                actions.push(Action::Sync(at));
            }
            if self.budget.restarts > 0 {
                actions.push(Action::Restart(at));
            }
            if self.budget.proposals > 0 && slot.replica.can_propose() {
                actions.push(Action::Propose(at));
            }
        }
        if !self.swaps.is_empty() {
            actions.push(Action::Swap);
            if self.budget.unknowns > 0 {
                actions.push(Action::SwapUnknown);
            }
        }
        if self.budget.elections > 0 {
            actions.push(Action::Elect);
        }
        let running = self.election.as_ref();
        if running.is_some_and(|election| election.next_deadline() == Some(Time(0))) {
            actions.push(Action::Elapse);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(envelope) => {
                self.network.remove(&envelope);
                self.deliver(envelope);
            }
            Action::Repeat(envelope) => {
                self.budget.repeats -= 1;
                self.deliver(envelope);
            }
            Action::Sync(at) => self.sync(at),
            Action::Restart(at) => {
                self.budget.restarts -= 1;
                self.slots[at].restart(self.bug);
            }
            Action::Propose(at) => {
                self.budget.proposals -= 1;
                let payload = Bytes::from(vec![self.budget.proposals]);
                let input = Input::Proposed {
                    stamp: Stamp(1),
                    payloads: vec![payload],
                };
                self.step(at, input);
            }
            Action::Elect => self.elect(),
            Action::Swap => self.swap(true),
            Action::SwapUnknown => {
                self.budget.unknowns -= 1;
                self.swap(false);
            }
            Action::Elapse => self.elect_step(ElectionInput::Elapsed),
        }
    }

    fn elect(&mut self) {
        self.budget.elections -= 1;
        self.elections += 1;
        let mut effects = ElectionEffects::default();
        let fresh = self.fresh();
        let election = Election::claim(
            ElectionConfig::default(),
            self.record.clone(),
            self.version,
            self.preference(),
            Time(0),
            fresh,
            &mut effects,
        );
        self.election = Some(election);
        self.carry_out(effects);
    }

    fn preference(&self) -> Preference {
        Preference {
            preferred: self.budget.preferred,
            ..Preference::default()
        }
    }

    fn swap(&mut self, is_answered: bool) {
        let asked = self.swaps.remove(0);
        let result = if asked.expected == self.version {
            self.version.0 += 1;
            self.record = asked.record;
            Swapped::Done(self.version)
        } else {
            Swapped::Conflict {
                record: self.record.clone(),
                version: self.version,
            }
        };
        if asked.election != self.elections {
            return;
        }
        let result = if is_answered {
            result
        } else {
            Swapped::Unknown
        };
        self.elect_step(ElectionInput::Swapped {
            request: asked.request,
            result,
        });
    }

    fn elect_step(&mut self, input: ElectionInput) {
        let fresh = self.fresh();
        let Some(election) = self.election.as_mut() else {
            return;
        };
        let mut effects = ElectionEffects::default();
        election.step(Time(0), fresh, input, &mut effects);
        let is_over = election.is_over();
        self.carry_out(effects);
        if is_over {
            self.election = None;
        }
    }

    fn carry_out(&mut self, effects: ElectionEffects) {
        for effect in effects.0 {
            match effect {
                ElectionEffect::Order { to, order } => {
                    let envelope = Envelope::Order(to.node, order.clone());
                    match order {
                        // A probe promises nothing: it is asked and answered at once.
                        Order::Probe { .. } => self.deliver(envelope),
                        Order::Fence { .. } | Order::Lead { .. } | Order::HandOver { .. } => {
                            self.network.insert(envelope);
                        }
                    }
                }
                ElectionEffect::Swap {
                    request,
                    expected,
                    record,
                } => self.swaps.push(AskedSwap {
                    request,
                    expected,
                    record,
                    election: self.elections,
                }),
                ElectionEffect::Read { request } => {
                    let found = Some((self.record.clone(), self.version));
                    self.elect_step(ElectionInput::Read { request, found });
                }
                ElectionEffect::Recorded { .. }
                | ElectionEffect::Serves { .. }
                | ElectionEffect::Note(_) => {}
            }
        }
    }

    fn deliver(&mut self, envelope: Envelope) {
        match envelope {
            Envelope::Peer(from, to, message) => {
                let at = place(to);
                let message = self.spoil(at, message);
                self.step(at, Input::Received { from, message });
            }
            Envelope::Order(to, order) => {
                let at = place(to);
                self.step(at, Input::Ordered(order));
            }
            Envelope::Report(from, report) => {
                let from = self.slots[place(from)].member;
                self.elect_step(ElectionInput::Reported { from, report });
            }
        }
    }

    /// The bug that counts answers of a lower epoch.
    fn spoil(&self, at: usize, message: Message) -> Message {
        match message {
            Message::Appended {
                epoch,
                disk,
                impaired,
                matched,
                round,
            } if self.bug == Bug::CountsLowerEpoch => Message::Appended {
                epoch: epoch.max(self.slots[at].replica.epoch()),
                disk,
                impaired,
                matched,
                round,
            },
            other => other,
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut effects = Effects::default();
        self.slots[at].replica.step(Time(0), input, &mut effects);
        for effect in effects.0 {
            match effect.after {
                Some(write) if !self.ignores_order(&effect.act) => {
                    self.slots[at].held.push((write, effect.act));
                }
                Some(_) | None => self.perform(at, effect.act),
            }
        }
    }

    fn ignores_order(&self, act: &Act) -> bool {
        match self.bug {
            Bug::FencesBeforeSync => matches!(act, Act::Report(Report::Fenced(_))),
            Bug::None
            | Bug::AnswersBeforeDurable
            | Bug::CountsLowerEpoch
            | Bug::ForgetsPromise
            | Bug::ShortensLog => false,
        }
    }

    fn perform(&mut self, at: usize, act: Act) {
        let node = self.slots[at].member.node;
        match act {
            Act::Persist { id, write } => self.persist(at, id, write),
            Act::Send { to, message } => {
                self.watch_answer(at, &message);
                self.network.insert(Envelope::Peer(node, to, message));
            }
            Act::Report(report) => self.report(at, report),
            Act::Commit(index) => self.committed(at, index),
            Act::Load {
                to, first, last, ..
            } => {
                let wanted = first.0..=last.0;
                let entries: Vec<Entry> = wanted
                    .map_while(|index| self.slots[at].entry(quorate_replication::Index(index)))
                    .collect();
                self.step(at, Input::Loaded { to, first, entries });
            }
            Act::Led { epoch } => {
                let replica = &self.slots[at].replica;
                let base = replica.base().index;
                self.judge
                    .led(epoch, node, base, |index| replica.epoch_at(index));
            }
            Act::Serving { epoch, .. } => self.judge.serving = epoch.max(self.judge.serving),
            Act::InstallNeeded { .. } => unreachable!("no log begins after its start"),
            Act::Deposed { .. } | Act::Lease { .. } | Act::Note(_) => {}
        }
    }

    fn persist(&mut self, at: usize, id: WriteId, write: Write) {
        let is_append = matches!(write, Write::Append(_));
        self.slots[at].pending.push((id, write));
        if self.bug == Bug::AnswersBeforeDurable && is_append {
            self.step(at, Input::Persisted(id));
        }
    }

    fn report(&mut self, at: usize, report: Report) {
        let node = self.slots[at].member.node;
        match &report {
            Report::Fenced(answer) if !answer.impaired && !answer.wiped => {
                self.judge.counted(node, answer.end);
            }
            Report::Fenced(_)
            | Report::FenceRefused { .. }
            | Report::Leading { .. }
            | Report::LeadRefused { .. }
            | Report::Outranked { .. }
            | Report::LostQuorum { .. }
            | Report::HandedOver { .. }
            | Report::Probed { .. } => {}
        }
        let envelope = Envelope::Report(node, report.clone());
        match report {
            Report::Probed { .. } => self.deliver(envelope),
            _ => {
                self.network.insert(envelope);
            }
        }
    }

    /// Remembers what a replica acknowledges.
    fn watch_answer(&mut self, at: usize, message: &Message) {
        if let Message::Appended {
            impaired: false,
            matched,
            ..
        } = message
            && let Some(entry) = self.slots[at].entry(*matched)
        {
            self.judge
                .acknowledged(self.slots[at].member.node, entry.position());
        }
    }

    fn committed(&mut self, at: usize, index: quorate_replication::Index) {
        for index in 1..=index.0 {
            let index = quorate_replication::Index(index);
            let Some(entry) = self.slots[at].entry(index) else {
                continue;
            };
            let holders = self
                .slots
                .iter()
                .filter(|slot| slot.durable.entry(index) == Some(&entry));
            let epoch = self.slots[at].replica.epoch();
            self.judge.commit(&entry, epoch, holders.count());
            self.check_leaders(epoch);
        }
    }

    /// Leaders of higher epochs hold what is committed in a lower one, also if that is learned later.
    fn check_leaders(&mut self, committed_in: Epoch) {
        for slot in &self.slots {
            let replica = &slot.replica;
            if replica.is_leading() && replica.epoch() > committed_in {
                let base = replica.base().index;
                self.judge
                    .leads(replica.epoch(), base, |index| replica.epoch_at(index));
            }
        }
    }

    fn sync(&mut self, at: usize) {
        let before = self.slots[at].durable.promise;
        let Some(last) = self.slots[at].sync() else {
            return;
        };
        self.judge.promised(before, self.slots[at].durable.promise);
        self.release(at, last);
        self.step(at, Input::Persisted(last));
    }

    fn release(&mut self, at: usize, durable: WriteId) {
        let held = std::mem::take(&mut self.slots[at].held);
        for (write, act) in held {
            if write <= durable {
                self.perform(at, act);
            } else {
                self.slots[at].held.push((write, act));
            }
        }
    }

    fn fresh(&mut self) -> ClaimId {
        self.fresh += 1;
        ClaimId(self.fresh)
    }
}

fn place(node: NodeId) -> usize {
    node.0 as usize - 1
}
