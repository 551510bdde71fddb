//! Transactions on their way through their shards.
//!
//! What must hold: the decision is sent when every participant is prepared; a participant is told to roll back only when
//! no decision to commit can be in any log; a committed transaction is seen through, whether its client waits or not.
//! What this gateway does not live to do is done by the leaders of the shards.

use std::collections::{BTreeSet, btree_map::Entry};

use bytes::Bytes;
use quorate_message::{
    Attempt, Decision, MessagePosition, Outcome, Settlement, TransactionId, limits::ENTRY_MAX,
};

use super::{
    confirming::Parsed,
    core::{Call, Core, size_of},
    diverting::IsTransient,
    effect::{Effect, Failure},
    ids::{CallId, ShardId, Time},
    input::{Publication, TransactedSettlement},
    lane::{Part, Pending, Step},
    shard::Kind,
    transaction::{Phase, Plan, Refusal, Settled, Transaction},
};
use crate::limits::{
    DIVERT_PAUSE_MICROS, TRANSACTION_BYTES_MAX, TRANSACTION_COMMANDS_MAX, TRANSACTION_MS,
    TRANSACTION_VISIBLE_MICROS,
};

impl Core {
    /// A client adds to its transaction.
    pub(super) fn transact(
        &mut self,
        call: CallId,
        id: TransactionId,
        (sends, settlements): (Vec<Publication>, Vec<TransactedSettlement>),
        effects: &mut Vec<Effect>,
    ) {
        let is_new = !self.calls.contains_key(&call);
        if is_new {
            self.calls.insert(call, Call::Transacting);
            self.transactions.insert(call, Transaction::new(id));
        }
        let size = size_of(&sends);
        let is_too_much = self.is_too_much(size);
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        if !transaction.is_awaited || !matches!(transaction.phase, Phase::Gathering) {
            return;
        }
        let named: usize = settlements.iter().map(|s| s.positions.len()).sum();
        let commands = transaction.len() + sends.len() + named;
        let is_too_large =
            commands > TRANSACTION_COMMANDS_MAX || transaction.bytes + size > TRANSACTION_BYTES_MAX;
        if is_too_large {
            return self.fail(call, Failure::TransactionTooLarge, effects);
        }
        if is_too_much {
            let bytes_max = self.config.memory_bytes;
            return self.fail(call, Failure::OutOfMemory { bytes_max }, effects);
        }
        transaction.sends.extend(sends);
        transaction.bytes += size;
        self.bytes += size;
        let of_earlier_tries = self.reserved_by_other_tries(call, id);
        for settlement in settlements {
            self.reserve(call, settlement, &of_earlier_tries);
        }
    }

    /// What other calls that try to commit the same transaction have taken out of their consumers' hands.
    fn reserved_by_other_tries(
        &self,
        call: CallId,
        id: TransactionId,
    ) -> BTreeSet<(ShardId, MessagePosition)> {
        let others = self.transactions.iter();
        let others = others.filter(|(other, transaction)| **other != call && transaction.id == id);
        let settled = others.flat_map(|(_, transaction)| &transaction.settled);
        let reserved = settled.filter(|settled| settled.reserved_in.is_some());
        reserved.map(|s| (s.shard, s.position)).collect()
    }

    /// Takes messages out of their consumer's hands, as far as this gateway knows it.
    ///
    /// One that it does not hold is no reason to refuse: an earlier try, through another gateway or still under way
    /// through this one, may have committed the transaction, and the message with it. Only the shards know. They are
    /// asked with a position that no message has: a transaction that was committed is answered as such before anybody
    /// looks for its messages, and every other one is refused for it.
    fn reserve(
        &mut self,
        call: CallId,
        named: TransactedSettlement,
        of_earlier_tries: &BTreeSet<(ShardId, MessagePosition)>,
    ) {
        for (shard, position) in named.positions {
            let of = named.consumer.and_then(|id| self.holder_at(id, shard));
            let holder = of.and_then(|call| self.consumers.get_mut(&call));
            let reserved = holder.map(|consumer| {
                consumer.shard == shard && consumer.reserve(position, named.settlement)
            });
            // What is settled behind the commit is not among what the shards look at.
            let is_nobodys = reserved == Some(false)
                && !position.is_transient()
                && !of_earlier_tries.contains(&(shard, position));
            if let Some(transaction) = self.transactions.get_mut(&call) {
                transaction.settled.push(Settled {
                    consumer: named.consumer,
                    destination: named.destination.clone(),
                    shard,
                    position: if is_nobodys { nobodys() } else { position },
                    settlement: named.settlement,
                    reserved_in: of.filter(|_| reserved == Some(true)),
                });
            }
        }
    }

    /// A client wants its transaction committed.
    pub(super) fn commit(
        &mut self,
        now: Time,
        call: CallId,
        (wall_ms, nonce): (u64, u64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            // A transaction in which nothing was done.
            if let Entry::Vacant(place) = self.calls.entry(call) {
                place.insert(Call::Over);
                effects.push(Effect::Committed { call });
            }
            return;
        };
        if !matches!(transaction.phase, Phase::Gathering) {
            return;
        }
        transaction.attempt = Attempt::new(wall_ms.saturating_add(TRANSACTION_MS), nonce);
        self.try_to_commit(now, call, effects);
    }

    /// Cuts a transaction by where its destinations live, and sends it there.
    fn try_to_commit(&mut self, now: Time, call: CallId, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.get(&call) else {
            return;
        };
        let names = transaction
            .sends
            .iter()
            .map(|send| send.destination.name.clone());
        let names: Vec<_> = names.collect();
        let is_transient = IsTransient(false);
        let shards = names.iter().map(|name| self.sends_to(name, is_transient));
        let shards: Option<Vec<ShardId>> = shards.collect();
        let known = |shard: &ShardId| self.shards.contains_key(shard);
        let Some(shards) = shards.filter(|shards| shards.iter().all(known)) else {
            return self.fail(call, Failure::NoTopology, effects);
        };
        let Some(transaction) = self.transactions.get(&call) else {
            return;
        };
        let foreign = transaction
            .settled
            .iter()
            .map(|s| s.shard)
            .find(|s| !known(s));
        if foreign.is_some() {
            // Another gateway may know the shard, and may have committed the transaction there.
            return self.fail(call, Failure::NoTopology, effects);
        }
        match transaction.plan(&shards) {
            Ok(Some(plan)) => self.carry_out(now, call, plan),
            Ok(None) => self.committed(now, call, effects),
            Err(full) => {
                let shard = shards.first().copied().unwrap_or_default();
                let reason = full.to_string().into();
                self.fail(call, Failure::Malformed { shard, reason }, effects);
            }
        }
    }

    fn carry_out(&mut self, now: Time, call: CallId, mut plan: Plan) {
        let prepares = std::mem::take(&mut plan.prepares);
        if prepares.is_empty() {
            return self.decide(now, call, plan);
        }
        let open = prepares.len();
        for (shard, batch, len) in prepares {
            self.submit(now, call, (shard, Step::Prepare), (batch, len));
        }
        if let Some(transaction) = self.transactions.get_mut(&call) {
            transaction.phase = Phase::Preparing {
                plan,
                open,
                refusal: None,
            };
        }
    }

    fn decide(&mut self, now: Time, call: CallId, plan: Plan) {
        let batch = plan.decide.clone();
        self.submit(now, call, (plan.owner, Step::Decide), batch);
        if let Some(transaction) = self.transactions.get_mut(&call) {
            transaction.phase = Phase::Deciding { plan };
        }
    }

    fn submit(
        &mut self,
        now: Time,
        call: CallId,
        (shard, step): (ShardId, Step),
        (batch, commands): (Bytes, usize),
    ) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            let (lane, numbers) = shard.lane(Kind::Transactions);
            let part = Part::Transaction {
                call,
                step,
                commands,
            };
            lane.submit(now, numbers, batch, part);
        }
    }

    /// A shard answered a step of a transaction.
    pub(super) fn transacted(
        &mut self,
        shard: ShardId,
        (call, step): (CallId, Step),
        outcomes: &[Outcome],
        batch: &Pending,
        effects: &mut Vec<Effect>,
    ) {
        let now = batch.since;
        let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Applied | Outcome::Duplicate);
        let is_taken = outcomes.first().is_some_and(is_done);
        match step {
            Step::Prepare => {
                let refusal = (!is_taken).then(|| refusal(shard, outcomes, batch));
                self.prepared(now, call, refusal, effects);
            }
            Step::Decide if is_taken => self.decided(now, call, effects),
            Step::Decide => {
                // Of two copies in the log the later may be judged otherwise: then the shards ask the owner, and the
                // client asks again.
                let mut refusal = refusal(shard, outcomes, batch);
                // What moved away takes no copy any more.
                let is_final = batch.tries == 1 || refusal.outcome == Outcome::Moved;
                if !is_final {
                    refusal.outcome = Outcome::InDoubt;
                }
                self.refused(now, (call, is_final), refusal, effects);
            }
            Step::Finish => self.finished_in(now, call, shard, effects),
            Step::Forget => {}
        }
    }

    /// A shard can never take a step of a transaction.
    pub(super) fn transaction_malformed(
        &mut self,
        now: Time,
        shard: ShardId,
        (call, step): (CallId, Step),
        effects: &mut Vec<Effect>,
    ) {
        let refusal = Refusal {
            shard,
            outcome: Outcome::RolledBack,
            destination: None,
        };
        match step {
            Step::Prepare => self.prepared(now, call, Some(refusal), effects),
            Step::Decide => self.refused(now, (call, true), refusal, effects),
            Step::Finish | Step::Forget => {}
        }
    }

    fn prepared(
        &mut self,
        now: Time,
        call: CallId,
        refused: Option<Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        let is_awaited = transaction.is_awaited;
        let Phase::Preparing { open, refusal, .. } = &mut transaction.phase else {
            return;
        };
        if refusal.is_none() {
            *refusal = refused;
        }
        *open -= 1;
        let (open, refusal) = (*open, refusal.clone());
        if open > 0 {
            return;
        }
        let gathering = std::mem::replace(&mut transaction.phase, Phase::Gathering);
        let Phase::Preparing { plan, .. } = gathering else {
            return;
        };
        match refusal {
            None if is_awaited => self.decide(now, call, plan),
            None => {
                self.roll_back(now, call, &plan);
                self.end_transaction(call, Decision::Rollback);
            }
            Some(refusal) => {
                self.roll_back(now, call, &plan);
                if !self.tries_elsewhere(now, call, &refusal) {
                    self.not_committed(call, refusal, effects);
                }
            }
        }
    }

    /// The owner did not commit.
    fn refused(
        &mut self,
        now: Time,
        (call, is_final): (CallId, bool),
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        let deciding = std::mem::replace(&mut transaction.phase, Phase::Gathering);
        if let Phase::Deciding { plan } = deciding
            && is_final
        {
            self.roll_back(now, call, &plan);
            if self.tries_elsewhere(now, call, &refusal) {
                return;
            }
        }
        self.not_committed(call, refusal, effects);
    }

    /// A destination lives elsewhere: nothing was done, and it is tried again by where it lives, under another attempt of
    /// the same deadline.
    fn tries_elsewhere(&mut self, now: Time, call: CallId, refusal: &Refusal) -> bool {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return false;
        };
        if refusal.outcome != Outcome::Moved || !transaction.is_awaited {
            return false;
        }
        let attempt = transaction.attempt;
        transaction.attempt = Attempt::new(attempt.deadline_ms(), attempt.value() + 1);
        transaction.retry_at = Some(now.after(DIVERT_PAUSE_MICROS));
        let names = transaction.sends.iter();
        let names: BTreeSet<_> = names.map(|send| send.destination.name.clone()).collect();
        for name in names {
            if self.leaves(&name, refusal.shard, IsTransient(false)) {
                self.hurry(&name);
            }
        }
        true
    }

    /// Nothing of it happens: no decision to commit is in any log, nor under way.
    fn roll_back(&mut self, now: Time, call: CallId, plan: &Plan) {
        let Some((id, attempt)) = self.transactions.get(&call).map(|t| (t.id, t.attempt)) else {
            return;
        };
        for shard in &plan.participants {
            self.add(now, call, (*shard, Step::Forget), |builder| {
                builder.finish_transaction(id, attempt, Decision::Rollback)
            });
        }
        if plan.own_parts > 0 {
            self.add(now, call, (plan.owner, Step::Forget), |builder| {
                builder.roll_back(id, attempt)
            });
        }
    }

    fn not_committed(&mut self, call: CallId, refusal: Refusal, effects: &mut Vec<Effect>) {
        let is_awaited = self.transactions.get(&call).is_some_and(|t| t.is_awaited);
        self.end_transaction(call, Decision::Rollback);
        if is_awaited {
            let failure = Failure::NotCommitted {
                shard: refusal.shard,
                outcome: refusal.outcome,
                cause: refusal.destination.map(|of| self.cause(&of)),
            };
            self.fail(call, failure, effects);
        }
    }

    /// The owner committed: the others are told, and the client when they have done it.
    fn decided(&mut self, now: Time, call: CallId, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        let (id, attempt) = (transaction.id, transaction.attempt);
        let deciding = std::mem::replace(&mut transaction.phase, Phase::Gathering);
        let Phase::Deciding { plan } = deciding else {
            return;
        };
        let open = plan.participants.clone();
        if open.is_empty() {
            return self.committed(now, call, effects);
        }
        transaction.phase = Phase::Finishing {
            plan,
            open: open.clone(),
            until: now.after(TRANSACTION_VISIBLE_MICROS),
        };
        for shard in open {
            self.add(now, call, (shard, Step::Finish), |builder| {
                builder.finish_transaction(id, attempt, Decision::Commit)
            });
        }
    }

    fn finished_in(&mut self, now: Time, call: CallId, shard: ShardId, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        let (id, attempt) = (transaction.id, transaction.attempt);
        let Phase::Finishing { plan, open, .. } = &mut transaction.phase else {
            return;
        };
        open.remove(&shard);
        let owner = plan.owner;
        let is_last = open.is_empty();
        self.add(now, call, (owner, Step::Forget), |builder| {
            builder.forget(id, attempt, shard.0)
        });
        if is_last {
            self.committed(now, call, effects);
        }
    }

    /// It is committed, and seen wherever its shards can be reached.
    fn committed(&mut self, now: Time, call: CallId, effects: &mut Vec<Effect>) {
        self.settle_transient(now, call);
        self.tell_committed(call, effects);
        self.end_transaction(call, Decision::Commit);
    }

    fn tell_committed(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        let Some(transaction) = self.transactions.get_mut(&call) else {
            return;
        };
        if std::mem::take(&mut transaction.is_awaited) {
            self.calls.insert(call, Call::Over);
            effects.push(Effect::Committed { call });
        }
    }

    /// Messages of a leader's memory are settled when the rest is committed: they are lost in a crash anyway.
    fn settle_transient(&mut self, now: Time, call: CallId) {
        let Some(transaction) = self.transactions.get(&call) else {
            return;
        };
        for settled in transaction
            .settled
            .iter()
            .filter(|s| s.position.is_transient())
        {
            let Some(shard) = self.shards.get_mut(&settled.shard) else {
                continue;
            };
            let (lane, numbers) = shard.lane(Kind::SettleTransient);
            // No request of a consumer waits for it; what cannot be settled stays in the leader's memory.
            let _settled = lane.settle(
                now,
                numbers,
                (call, 0, 0),
                &settled.destination,
                settled.position,
                settled.settlement,
            );
        }
    }

    /// Lets go of a transaction and of what its consumers held.
    fn end_transaction(&mut self, call: CallId, decision: Decision) {
        let Some(transaction) = self.transactions.remove(&call) else {
            return;
        };
        self.bytes -= transaction.bytes;
        let mut holders = BTreeSet::new();
        for settled in transaction.settled {
            // What is committed is gone for whoever has it here.
            let present = settled.consumer.filter(|_| decision == Decision::Commit);
            let present = present.and_then(|id| self.holder_at(id, settled.shard));
            let of = [settled.reserved_in, present];
            for holder in of.into_iter().flatten().collect::<BTreeSet<_>>() {
                if let Some(consumer) = self.consumers.get_mut(&holder)
                    && consumer.shard == settled.shard
                {
                    consumer.unreserve(self.now, settled.position, decision);
                    holders.insert(holder);
                }
            }
        }
        for holder in holders {
            self.restless.insert(holder);
            self.look_later(self.now, holder);
        }
    }

    /// The client waits no longer: what is not on its way is forgotten, the rest is seen through.
    pub(super) fn abandon_transaction(&mut self, call: CallId) {
        if let Some(transaction) = self.transactions.get_mut(&call) {
            transaction.is_awaited = false;
            if matches!(transaction.phase, Phase::Gathering) {
                self.end_transaction(call, Decision::Rollback);
            }
        }
    }

    /// When a client is to be told that its transaction is committed, though not seen everywhere.
    pub(super) fn transaction_deadline(&self) -> Option<Time> {
        let finishing = self.transactions.values().filter_map(|t| match &t.phase {
            Phase::Finishing { until, .. } if t.is_awaited => Some(*until),
            Phase::Finishing { .. }
            | Phase::Gathering
            | Phase::Preparing { .. }
            | Phase::Deciding { .. } => None,
        });
        let retries = self.transactions.values().filter_map(|t| t.retry_at);
        finishing.chain(retries).min()
    }

    pub(super) fn elapsed_for_transactions(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let due = |transaction: &Transaction| match &transaction.phase {
            Phase::Finishing { until, .. } => transaction.is_awaited && *until <= now,
            Phase::Gathering | Phase::Preparing { .. } | Phase::Deciding { .. } => false,
        };
        let due = self.transactions.iter().filter(|(_, t)| due(t));
        for call in due.map(|(call, _)| *call).collect::<BTreeSet<_>>() {
            self.tell_committed(call, effects);
        }
        let again = self.transactions.iter_mut().filter_map(|(call, t)| {
            let is_due = t.retry_at.take_if(|at| *at <= now).is_some();
            is_due.then_some(*call)
        });
        for call in again.collect::<Vec<_>>() {
            self.try_to_commit(now, call, effects);
        }
    }

    /// Adds a small command about a transaction to what is gathered for a shard.
    fn add(
        &mut self,
        now: Time,
        call: CallId,
        (shard, step): (ShardId, Step),
        command: impl Fn(&mut quorate_message::BatchBuilder) -> Result<u16, quorate_message::BatchFull>,
    ) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            let (lane, numbers) = shard.lane(Kind::Transactions);
            lane.about_transaction(now, numbers, (call, step), command);
        }
    }
}

/// A position that no message has.
fn nobodys() -> MessagePosition {
    MessagePosition::new(ENTRY_MAX, 0)
}

/// Why a shard refused: the outcome that is a reason, rather than one that followed from another.
fn refusal(shard: ShardId, outcomes: &[Outcome], batch: &Pending) -> Refusal {
    let is_reason = |outcome: &&Outcome| {
        !matches!(
            outcome,
            Outcome::RolledBack | Outcome::Applied | Outcome::Stored
        )
    };
    let at = outcomes.iter().position(|outcome| is_reason(&outcome));
    Refusal {
        shard,
        outcome: at.map_or(Outcome::RolledBack, |at| outcomes[at]),
        destination: at.and_then(|at| Parsed::new(batch).destination(at).cloned()),
    }
}

/// Whether a transaction may settle like this: what a consumer gives back is none of it.
#[must_use]
pub(crate) fn may_transact(settlement: Settlement) -> bool {
    match settlement {
        Settlement::Accept | Settlement::Reject => true,
        Settlement::Release | Settlement::Return | Settlement::Expire | Settlement::Cancel => false,
    }
}
