//! The commands of transactions.

use bytes::BufMut;

use super::{BatchBuilder, BatchFull, bounded_u32};
use crate::layout::{DECIDE, FINISH, FORGET, OWNER_HERE, PREPARE, Record};
use crate::limits::PARTICIPANTS_MAX;
use crate::{Attempt, Decision, TransactionId};

impl BatchBuilder {
    /// Begins a batch whose commands are kept, without effect, until the transaction is finished. No `owner`: the shard
    /// of this batch decides.
    ///
    /// # Errors
    /// When the batch is transient or has a command already.
    pub fn prepare(
        &mut self,
        (transaction, attempt): (TransactionId, Attempt),
        owner: Option<u32>,
        part: u16,
    ) -> Result<u16, BatchFull> {
        let record = Record {
            kind: PREPARE,
            flags: part,
            ..Record::default()
        };
        self.head(
            record,
            (transaction, attempt),
            &[owner.unwrap_or(OWNER_HERE)],
        )
    }

    /// Begins a batch whose commands happen all or none, and with them the `parts` that were prepared in this shard and
    /// what was prepared in the shards of the participants.
    ///
    /// # Errors
    /// When the batch is transient or has a command already.
    pub fn commit(
        &mut self,
        (transaction, attempt): (TransactionId, Attempt),
        parts: u16,
        participants: &[u32],
    ) -> Result<u16, BatchFull> {
        let record = Record {
            kind: DECIDE,
            detail: decision_detail(Decision::Commit),
            flags: parts,
            ..Record::default()
        };
        self.head(record, (transaction, attempt), participants)
    }

    /// Adds the decision to roll back, in the owner's shard.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn roll_back(
        &mut self,
        transaction: TransactionId,
        attempt: Attempt,
    ) -> Result<u16, BatchFull> {
        let record = Record {
            kind: DECIDE,
            detail: decision_detail(Decision::Rollback),
            ..Record::default()
        };
        self.about(record, (transaction, attempt), &[])
    }

    /// Adds the end of a transaction in a participant's shard.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn finish_transaction(
        &mut self,
        transaction: TransactionId,
        attempt: Attempt,
        decision: Decision,
    ) -> Result<u16, BatchFull> {
        let record = Record {
            kind: FINISH,
            detail: decision_detail(decision),
            ..Record::default()
        };
        self.about(record, (transaction, attempt), &[])
    }

    /// Adds, in the owner's shard, that a participant has finished.
    ///
    /// # Errors
    /// When the batch is full or transient.
    pub fn forget(
        &mut self,
        transaction: TransactionId,
        attempt: Attempt,
        participant: u32,
    ) -> Result<u16, BatchFull> {
        let record = Record {
            kind: FORGET,
            ..Record::default()
        };
        self.about(record, (transaction, attempt), &[participant])
    }

    fn head(
        &mut self,
        record: Record,
        names: (TransactionId, Attempt),
        words: &[u32],
    ) -> Result<u16, BatchFull> {
        if !self.is_empty() {
            return Err(BatchFull::Full);
        }
        let ordinal = self.about(record, names, words)?;
        self.is_headed = true;
        Ok(ordinal)
    }

    fn about(
        &mut self,
        record: Record,
        (transaction, attempt): (TransactionId, Attempt),
        words: &[u32],
    ) -> Result<u16, BatchFull> {
        self.check_persistent()?;
        if transaction.number == 0 {
            return Err(BatchFull::Command { field: "number" });
        }
        if words.len() > PARTICIPANTS_MAX {
            let field = "participants";
            return Err(BatchFull::Command { field });
        }
        let body_bytes = size_of_val(words);
        self.check_room(None, Some(transaction.origin), body_bytes)?;
        let has_body = record.kind != FINISH;
        let offset = if has_body { self.bodies.len() } else { 0 };
        words.iter().for_each(|word| self.bodies.put_u32_le(*word));
        let producer = self.producer(transaction.origin);
        Ok(self.push(Record {
            producer,
            first: transaction.number,
            second: attempt.value(),
            offset: bounded_u32(offset),
            length: bounded_u32(body_bytes),
            ..record
        }))
    }
}

fn decision_detail(decision: Decision) -> u8 {
    match decision {
        Decision::Commit => 1,
        Decision::Rollback => 2,
    }
}
