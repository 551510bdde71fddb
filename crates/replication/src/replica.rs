//! One storage node's copy of a shard.
//!
//! ```text
//!           Append of the promised claim          Lead of the promised claim
//!  Follower <--------------------------- Idle ---------------------------> Leader
//!     |                                   ^  ^                               |
//!     +------ a higher promise -----------+  +--- a higher promise, damage --+
//! ```
//! Guarantees: answers nothing that depends on a promise, an entry or a flag before that is durable; counts its own
//! copy only once durable; leads an epoch at most once; cuts nothing that is committed. Does not know what payloads
//! mean, who decides on elections, or how disks and networks work.

mod feed;
mod follower;
mod heal;
mod leader;
mod orders;
mod peer;
mod status;

pub use status::{PeerStatus, RoleName};

use crate::tail::Tail;
use crate::writes::Writes;
use crate::{
    Act, Claim, Config, Effects, Epoch, Event, Incarnation, Index, Input, Member, Message, NodeId,
    Position, Recovered, Report, ShardId, Stamp, Time, Write, WriteId,
};
use follower::Follower;
use leader::Leader;

/// One storage node's copy of a shard. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    config: Config,
    shard: ShardId,
    me: Member,
    incarnation: Incarnation,
    /// No valid promise was found: it counts for nothing, writes nothing and follows nobody in this life, so that
    /// the mark of it, the missing promise, stays on the disk.
    wiped: bool,
    promise: Claim,
    /// Writes up to this one are durable before anything is answered that depends on promise, bound or flag.
    gate: WriteId,
    /// Upper bound of what may have been acknowledged. Covers every entry that an unimpaired replica writes.
    bound: Option<Position>,
    impaired: bool,
    /// Damage within the log was found in this life: only a new log mends it, agreement of positions does not.
    damaged: bool,
    /// The write that clears `impaired`.
    clearing: Option<WriteId>,
    tail: Tail,
    writes: Writes,
    commit: Index,
    /// What the layer above was told of `commit`.
    announced: Index,
    /// The greatest epoch that it led in this life.
    led: Epoch,
    role: Role,
}

/// What only a leader or only a follower has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Idle,
    Follower(Follower),
    Leader(Box<Leader>),
}

impl Replica {
    /// Opens a replica from what was found on the disk. What was found is durable: the log layer syncs it first.
    #[must_use]
    pub fn open(config: Config, recovered: Recovered, _now: Time) -> Self {
        let tail = Tail::new(&recovered);
        let end = recovered.end;
        // A promise behind the log's last epoch cannot be: promises are durable before entries of their epoch.
        let promise = recovered
            .promise
            .filter(|promise| promise.epoch >= end.epoch);
        let wiped = promise.is_none();
        // A log that ends below what a checkpoint says is committed, or that has entries and no bound, has lost
        // something.
        let lost =
            recovered.committed > end.index || (recovered.bound.is_none() && end.index.0 > 0);
        let commit = recovered.committed.max(recovered.base.index);
        Self {
            config,
            shard: recovered.shard,
            me: Member {
                node: recovered.node,
                disk: recovered.disk,
            },
            incarnation: recovered.incarnation,
            wiped,
            promise: promise.unwrap_or_default(),
            gate: WriteId(0),
            bound: recovered.bound,
            impaired: recovered.impaired || wiped || lost,
            damaged: false,
            clearing: None,
            writes: Writes::new(end.index),
            tail,
            commit,
            announced: commit,
            led: Epoch(0),
            role: Role::Idle,
        }
    }

    /// Takes one fact and asks for what follows from it. Entries that an earlier step announced as committed may
    /// leave memory: the caller has taken them.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        self.tail.shrink(
            self.announced.min(self.writes.durable()),
            self.config.tail_bytes,
        );
        // Whatever comes in, it comes in after the clock has moved: a lease that lapsed meanwhile is lost first.
        self.lapse_lease(now, effects);
        match input {
            Input::Received { from, message } => self.receive(now, from, message, effects),
            Input::Ordered(order) => self.obey(now, order, effects),
            Input::Proposed { stamp, payloads } => self.propose(now, stamp, payloads, effects),
            Input::Persisted(write) => self.persisted(now, write, effects),
            Input::Loaded { to, first, entries } => self.loaded(now, to, first, entries, effects),
            Input::Trimmed { base } => self.trimmed(base, effects),
            Input::Installed { at, stamp, .. } => self.installed(now, at, stamp, effects),
            Input::Damaged => self.became_damaged(now, effects),
            Input::Elapsed { nonce } => self.elapsed(now, nonce, effects),
        }
        self.settle(now, effects);
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Idle => None,
            Role::Follower(_) => self.ask_deadline(),
            Role::Leader(leader) => {
                Some(leader.next_deadline(&self.config, self.writes.waiting_since()))
            }
        }
    }

    fn receive(&mut self, now: Time, from: NodeId, message: Message, effects: &mut Effects) {
        match message {
            Message::Append { .. } => self.receive_append(now, from, message, effects),
            Message::Appended { .. }
            | Message::Parted { .. }
            | Message::Refused { .. }
            | Message::HealAsk { .. } => self.receive_answer(now, from, message, effects),
            Message::HealAnswer { epoch, nonce, end } => {
                self.receive_heal_answer(now, epoch, nonce, end, effects);
            }
            Message::InstallChunk { .. }
            | Message::InstallAnswer { .. }
            | Message::HandOver { .. }
            | Message::HandOverTaken { .. } => dropped(
                effects,
                "a piece of a transfer, which is the affair of the layer above",
            ),
        }
    }

    fn elapsed(&mut self, now: Time, nonce: crate::Nonce, effects: &mut Effects) {
        match &self.role {
            Role::Idle => {}
            Role::Follower(_) => self.ask_to_heal(now, nonce, effects),
            Role::Leader(_) => self.keep_time(now, effects),
        }
    }

    fn persisted(&mut self, now: Time, write: WriteId, effects: &mut Effects) {
        self.writes.persisted(write);
        if self
            .clearing
            .is_some_and(|clearing| self.writes.is_durable(clearing))
        {
            self.clearing = None;
            self.impaired = false;
            effects.now(Act::Note(Event::Healed(self.promise.epoch)));
        }
        self.answer_what_is_owed(effects);
        self.heal(now, effects);
    }

    /// What follows from a step, whatever it was: entries that are committed by it are announced.
    fn settle(&mut self, now: Time, effects: &mut Effects) {
        self.advance_commit();
        let told = match &self.role {
            Role::Leader(_) => self.commit,
            Role::Follower(_) | Role::Idle => self.commit.min(self.writes.durable()),
        };
        if told > self.announced {
            self.announced = told;
            effects.now(Act::Commit(told));
        }
        self.begin_to_serve(effects);
        self.renew_lease(now, effects);
    }

    /// Promises a claim of a higher epoch: whatever it did for a lower one ends here.
    fn promise_to(&mut self, now: Time, claim: Claim, effects: &mut Effects) {
        assert!(claim.epoch > self.promise.epoch, "a promise goes up");
        self.step_down(claim, effects);
        self.promise = claim;
        if !self.wiped {
            self.gate = self.writes.issue(now, Write::Promise(claim), effects);
        }
        effects.now(Act::Note(Event::Promised(claim)));
    }

    /// Ends its role. What it matched in the epoch is forgotten with it.
    fn step_down(&mut self, because: Claim, effects: &mut Effects) {
        let role = std::mem::replace(&mut self.role, Role::Idle);
        if let Role::Leader(leader) = role {
            effects.now(Act::Deposed {
                epoch: leader.epoch(),
            });
            effects.now(Act::Note(Event::SteppedDown(because)));
        }
    }

    /// Raises the bound, if it must be, before entries up to `end` are written. An impaired replica acknowledges
    /// nothing that counts, and its bound stays what it was until it is healed.
    fn cover(&mut self, now: Time, end: Position, effects: &mut Effects) -> Option<WriteId> {
        if !self.may_count() || self.bound.is_some_and(|bound| bound >= end) {
            return None;
        }
        Some(self.raise_bound(now, end, effects))
    }

    /// Raises the bound ahead of time, behind the append that came near to it, so that appends seldom wait for it.
    fn look_ahead(&mut self, now: Time, effects: &mut Effects) {
        let end = self.tail.end();
        let is_near = self.bound.is_some_and(|bound| {
            bound.epoch == end.epoch
                && bound.index.0.saturating_sub(end.index.0) < self.config.bound_step / 2
        });
        if is_near && self.may_count() {
            self.raise_bound(now, end, effects);
        }
    }

    /// Whether what is written from here on may be acknowledged so that it counts: it is unimpaired, or will be before
    /// later writes are durable.
    fn may_count(&self) -> bool {
        !self.impaired || self.clearing.is_some()
    }

    fn raise_bound(&mut self, now: Time, end: Position, effects: &mut Effects) -> WriteId {
        let bound = Position {
            epoch: end.epoch,
            index: Index(end.index.0.saturating_add(self.config.bound_step)),
        };
        self.bound = Some(bound);
        self.writes.issue(now, Write::Bound(bound), effects)
    }

    /// Says something that depends on the promise, once that is durable.
    fn answer(&self, act: Act, effects: &mut Effects) {
        if self.writes.is_durable(self.gate) {
            effects.now(act);
        } else {
            effects.after(self.gate, act);
        }
    }

    fn send(&self, to: NodeId, message: Message, effects: &mut Effects) {
        self.answer(Act::Send { to, message }, effects);
    }

    /// Damage was found: it neither leads nor counts, durably.
    fn became_damaged(&mut self, now: Time, effects: &mut Effects) {
        self.damaged = true;
        self.become_impaired(now, effects);
    }

    fn become_impaired(&mut self, now: Time, effects: &mut Effects) {
        if !self.impaired || self.clearing.is_some() {
            self.impaired = true;
            self.clearing = None;
            self.gate = self.writes.issue(now, Write::Impaired(true), effects);
            effects.now(Act::Note(Event::Impaired));
        }
        if let Role::Leader(leader) = &self.role {
            let claim = leader.claim();
            self.step_down(claim, effects);
            let promise = self.promise;
            self.answer(Act::Report(Report::LeadRefused { claim, promise }), effects);
        }
    }

    fn trimmed(&mut self, base: Position, effects: &mut Effects) {
        let is_settled = base.index <= self.commit.min(self.writes.durable());
        if base.index > self.tail.base().index && is_settled && self.tail.holds(base) {
            self.tail.rebase(base);
        } else {
            dropped(
                effects,
                "a trim to a base that is not in the durable, committed log",
            );
        }
    }

    /// The log on the disk was replaced. What is known of it follows.
    fn installed(&mut self, now: Time, at: Position, stamp: Stamp, effects: &mut Effects) {
        assert!(!self.is_leading(), "a leader's log is not replaced");
        self.tail.install(at, stamp);
        self.writes.installed(at.index);
        self.commit = self.commit.max(at.index);
        self.announced = self.announced.max(at.index);
        self.damaged = false;
        if let Role::Follower(follower) = &mut self.role {
            follower.forget_matched();
        }
        if let Some(bound) = self.cover(now, at, effects) {
            self.gate = bound;
        }
    }
}

/// Notes that something was dropped.
fn dropped(effects: &mut Effects, reason: &'static str) {
    effects.now(Act::Note(Event::Dropped(reason)));
}

#[cfg(test)]
mod tests;
