//! Applying what a batch says of transactions: first everything is checked, then it is done.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{Attempt, Batch, Command, Decision, MessagePosition, Outcome, TransactionId};

use super::super::apply::{Change, Record, Retention, Run};
use super::super::room::{Arrival, Room};
use super::super::{QueueId, State, Turn, Verdict};
use super::Work;
use crate::limits::{ATTEMPT_MS_MAX, PREPARED_OVERHEAD_BYTES};

/// What a batch wants of a transaction: its head.
#[derive(Clone, Copy, Debug)]
struct Head {
    id: TransactionId,
    attempt: Attempt,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Prepare { owner: Option<u32>, part: u16 },
    Commit { parts: u16 },
}

impl Head {
    fn of(batch: &Batch) -> Option<Self> {
        let command = batch.command(0)?;
        if let Command::Prepare {
            transaction: id,
            attempt,
            owner,
            part,
        } = command
        {
            let kind = Kind::Prepare { owner, part };
            return Some(Self { id, attempt, kind });
        }
        if let Command::Decide {
            transaction: id,
            attempt,
            decision: Decision::Commit,
            parts,
        } = command
        {
            let kind = Kind::Commit { parts };
            return Some(Self { id, attempt, kind });
        }
        None
    }
}

impl State {
    /// Applies a batch whose commands happen all or none.
    pub(crate) fn transact(&mut self, entry: u64, batch: &Batch, record: &mut Record) {
        let Some(head) = Head::of(batch) else {
            return;
        };
        self.transactions.forget_overdue(self.stamp_ms);
        if let Some(outcome) = self.judge_transaction(head, batch) {
            batch.commands().for_each(|_| record.outcomes.push(outcome));
            return;
        }
        let outcomes = self.check_work(batch);
        if !outcomes.iter().all(Option::is_none) {
            record.outcomes.push(Outcome::RolledBack);
            for outcome in outcomes {
                record.outcomes.push(outcome.unwrap_or(Outcome::RolledBack));
            }
            return;
        }
        record.outcomes.push(Outcome::Applied);
        match head.kind {
            Kind::Prepare { owner, .. } => {
                let work = self.put_aside(entry, batch, record);
                self.transactions.keep((head.id, head.attempt), owner, work);
            }
            Kind::Commit { .. } => {
                let prepared = self.transactions.take(head.id, head.attempt);
                self.commit_work(head.id, prepared.unwrap_or_default(), record);
                let work = self.put_aside(entry, batch, record);
                self.commit_work(head.id, work, record);
                self.transactions.committed(head.id, entry);
                let participants: BTreeSet<u32> = batch.participants(0).into_iter().collect();
                if !participants.is_empty() {
                    let key = (head.id, head.attempt);
                    self.transactions.decisions.insert(key, participants);
                }
            }
        }
    }

    /// What the whole batch comes to before its commands are looked at; none: they are looked at.
    fn judge_transaction(&self, head: Head, batch: &Batch) -> Option<Outcome> {
        let transactions = &self.transactions;
        match transactions.was_committed(head.id) {
            Verdict::New => {}
            Verdict::Duplicate => return Some(Outcome::Duplicate),
            Verdict::TooOld => return Some(Outcome::NumberTooOld),
        }
        let deadline_ms = head.attempt.deadline_ms();
        if self.stamp_ms > deadline_ms || transactions.is_rolled_back(head.id, head.attempt) {
            return Some(Outcome::RolledBack);
        }
        if deadline_ms - self.stamp_ms > ATTEMPT_MS_MAX {
            return Some(Outcome::LimitReached);
        }
        let prepared = transactions.prepared.get(&head.id);
        if prepared.is_some_and(|prepared| prepared.attempt != head.attempt) {
            return Some(Outcome::InDoubt);
        }
        let parts_here = prepared.map_or(0, |prepared| prepared.parts);
        match head.kind {
            // The answer to the same part was lost.
            Kind::Prepare { part, .. } if part < parts_here => Some(Outcome::Applied),
            Kind::Prepare { part, .. } if part > parts_here => Some(Outcome::RolledBack),
            Kind::Prepare { .. } => {
                let bytes = batch.size_bytes() as u64;
                let overhead = PREPARED_OVERHEAD_BYTES * batch.len() as u64;
                (!transactions.has_room(bytes + overhead)).then_some(Outcome::LimitReached)
            }
            Kind::Commit { parts } if parts != parts_here => Some(Outcome::RolledBack),
            Kind::Commit { .. } => {
                let has_others = !batch.participants(0).is_empty();
                (has_others && !transactions.can_decide()).then_some(Outcome::LimitReached)
            }
        }
    }

    /// What stands against each command behind the head. Nothing is changed.
    fn check_work(&self, batch: &Batch) -> Vec<Option<Outcome>> {
        let mut new_queues = BTreeSet::new();
        let mut settled = BTreeSet::new();
        let mut arriving: BTreeMap<QueueId, (u64, u64)> = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(batch.len() - 1);
        for (_, command) in batch.commands().skip(1) {
            let mut against = None;
            if let Command::Publish {
                destination,
                size_bytes,
                is_scheduled,
                ..
            } = command
            {
                let to = batch.destination(destination);
                if self.is_managed_elsewhere(to) || self.would_stay_behind(to) {
                    outcomes.push(Some(Outcome::Moved));
                    continue;
                }
                if is_scheduled {
                    // Its time would run before it is decided whether there is such a message.
                    against = Some(Outcome::LimitReached);
                }
                let wanted = batch.destination(destination);
                if self.id_of(wanted).is_none() {
                    new_queues.insert(wanted);
                }
                let places = self.queues_max as usize + self.topics.free_count();
                let is_full = self.queues.len() + new_queues.len() > places;
                let bytes = u64::from(size_bytes);
                if let Some(queue) = self.id_of(wanted) {
                    let before = arriving.entry(queue).or_insert((0, 0));
                    if self.lacks_room(queue, *before, bytes) {
                        against = Some(Outcome::QueueFull);
                    }
                    *before = (before.0 + 1, before.1 + bytes);
                } else if is_full {
                    against = Some(Outcome::LimitReached);
                } else if !self.settings.rules().of(&wanted.name).auto_create {
                    against = Some(Outcome::UnknownDestination);
                }
            }
            if let Command::Settle {
                destination,
                position,
                ..
            } = command
            {
                let queue = self.id_of(batch.destination(destination));
                let is_there = queue.is_some_and(|queue| self.queue(queue).contains(position));
                let is_first = settled.insert((queue, position));
                if !is_there || !is_first {
                    against = Some(Outcome::UnknownMessage);
                }
            }
            outcomes.push(against);
        }
        outcomes
    }

    /// Puts aside what was checked: messages unseen, settled ones taken out of their queues.
    fn put_aside(&mut self, entry: u64, batch: &Batch, record: &mut Record) -> Vec<Work> {
        let mut work = Vec::with_capacity(batch.len() - 1);
        let mut stored = 0;
        for (ordinal, command) in batch.commands().skip(1) {
            if let Command::Publish {
                destination,
                producer: _,
                number: _,
                priority,
                expires_at_ms,
                size_bytes,
                is_retained,
                is_first: _,
                is_grouped,
                is_scheduled: _,
                is_relocated: _,
            } = command
            {
                // Made at once, so that the commit cannot fail for the lack of room.
                let queue = self.queue_for(destination, false, batch, record);
                let queue = queue.expect("checked: the queue is there or can be made");
                self.queues[queue.0 as usize].has_groups |= is_grouped;
                stored += 1;
                work.push(Work::Publish {
                    destination: batch.destination(destination).clone(),
                    position: MessagePosition::new(entry, ordinal),
                    priority,
                    expires_at_ms,
                    size_bytes,
                    retention: match is_retained {
                        true => Retention::of(batch, ordinal),
                        false => Retention::None,
                    },
                });
                record.outcomes.push(Outcome::Stored);
            }
            if let Command::Settle {
                destination,
                position,
                settlement,
            } = command
            {
                let queue = self.queue_of(destination, batch, record);
                let queue = queue.expect("checked: the message is there");
                let taken = self.queues[queue.0 as usize].take_out(position);
                let taken = taken.expect("checked: the message is there");
                self.refresh_due(queue);
                record.changes.push(Change::Removed(queue, taken.turn));
                work.push(Work::Settle {
                    queue,
                    taken,
                    settlement,
                });
                record.outcomes.push(Outcome::Applied);
            }
        }
        self.live.added(entry, stored);
        work
    }

    /// What was put aside happens.
    fn commit_work(&mut self, id: TransactionId, work: Vec<Work>, record: &mut Record) {
        let mut run = Run::default();
        for item in work {
            match item {
                Work::Publish {
                    destination,
                    position,
                    priority,
                    expires_at_ms,
                    size_bytes,
                    retention,
                } => {
                    let queue = self.id_of(&destination);
                    let queue = queue.expect("made when the message was prepared");
                    self.live.removed(position.entry());
                    let turn = Turn::new(priority, position);
                    let bytes = u64::from(size_bytes);
                    if expires_at_ms > 0 {
                        self.store_expiry(queue, position, expires_at_ms);
                    }
                    let arrival = Arrival {
                        queue,
                        producer: id.origin,
                        number: id.number,
                        bytes,
                        is_first: true,
                    };
                    // What was promised is stored, even if the queue has become full since.
                    let room = self.make_room(&arrival, &mut run, record);
                    self.put(queue, turn, (bytes, retention), (&mut *record, &mut run));
                    if room == Room::Beyond {
                        self.move_beyond(queue, &mut run, record);
                    }
                }
                Work::Settle {
                    queue,
                    taken,
                    settlement,
                } => {
                    self.store(std::mem::take(&mut run), record);
                    self.queues[queue.0 as usize].put_back(taken);
                    self.settle(queue, taken.turn.position(), settlement, record);
                }
            }
        }
        self.store(run, record);
    }

    /// What was put aside is as if it had never been.
    fn roll_back_work(&mut self, work: Vec<Work>, record: &mut Record) {
        for item in work {
            match item {
                Work::Publish { position, .. } => self.live.removed(position.entry()),
                Work::Settle { queue, taken, .. } => {
                    self.queues[queue.0 as usize].put_back(taken);
                    record.changes.push(Change::PutBack(queue, taken.turn));
                }
            }
        }
    }

    /// Applies a command about a transaction that heads none.
    pub(crate) fn about_transaction(
        &mut self,
        entry: u64,
        command: Command,
        record: &mut Record,
    ) -> Outcome {
        if let Command::Decide {
            transaction,
            attempt,
            ..
        } = command
        {
            return self.refuse_transaction((transaction, attempt), record);
        }
        if let Command::Finish {
            transaction,
            attempt,
            decision,
        } = command
        {
            return self.finish_transaction(entry, (transaction, attempt), decision, record);
        }
        if let Command::Forget {
            transaction,
            attempt,
            participant,
        } = command
        {
            return self.forget_participant(transaction, attempt, participant);
        }
        unreachable!("what heads a transaction is applied with its batch")
    }

    /// A subscription ended: what is prepared to be settled in it is settled.
    pub(in crate::state) fn drop_prepared(&mut self, of: QueueId) {
        for position in self.transactions.drop_settlements(of) {
            self.live.removed(position.entry());
        }
    }

    /// Ends what was prepared here.
    fn finish_transaction(
        &mut self,
        entry: u64,
        (id, attempt): (TransactionId, Attempt),
        decision: Decision,
        record: &mut Record,
    ) -> Outcome {
        let Some(work) = self.transactions.take(id, attempt) else {
            return Outcome::Duplicate;
        };
        match decision {
            Decision::Commit => {
                self.commit_work(id, work, record);
                self.transactions.committed(id, entry);
            }
            Decision::Rollback => self.roll_back_work(work, record),
        }
        Outcome::Applied
    }

    /// Decides, as owner, that an attempt is not to be committed any more; too late once it was.
    fn refuse_transaction(
        &mut self,
        (id, attempt): (TransactionId, Attempt),
        record: &mut Record,
    ) -> Outcome {
        self.transactions.forget_overdue(self.stamp_ms);
        if self.transactions.is_decided(id, attempt) {
            return Outcome::Duplicate;
        }
        if let Some(work) = self.transactions.take(id, attempt) {
            self.roll_back_work(work, record);
        }
        if self.stamp_ms <= attempt.deadline_ms() {
            self.transactions.roll_back(id, attempt);
        }
        Outcome::Applied
    }

    /// Strikes a participant that has finished from a decision.
    fn forget_participant(
        &mut self,
        id: TransactionId,
        attempt: Attempt,
        participant: u32,
    ) -> Outcome {
        match self.transactions.forget(id, attempt, participant) {
            true => Outcome::Applied,
            false => Outcome::Duplicate,
        }
    }
}
