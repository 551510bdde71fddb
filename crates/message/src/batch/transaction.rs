//! The commands of transactions, checked and read.

use super::{Batch, BatchError};
use crate::layout::{DECIDE, FINISH, FORGET, OWNER_HERE, PREPARE, Record};
use crate::limits::PARTICIPANTS_MAX;
use crate::{Attempt, Command, Decision, Settlement, TransactionId};

impl Batch {
    /// The shards that a decision names beside its owner's; empty for every other command.
    #[must_use]
    pub fn participants(&self, ordinal: u16) -> Vec<u32> {
        let record = self.record(ordinal).filter(|record| record.kind == DECIDE);
        let body = record.and_then(|record| self.body_of(&record));
        let (words, _) = body.as_deref().unwrap_or_default().as_chunks();
        words.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    /// Whether the commands of the batch happen all or none: it is a transaction's, or part of one.
    #[must_use]
    pub fn is_transaction(&self) -> bool {
        self.command(0).is_some_and(Command::heads_transaction)
    }

    pub(super) fn transaction_command(&self, record: &Record) -> Result<Command, &'static str> {
        Ok(match record.kind {
            PREPARE => Command::Prepare {
                transaction: self.transaction_of(record),
                attempt: Attempt::from_value(record.second),
                owner: Some(self.word_of(record).ok_or("owner")?)
                    .filter(|owner| *owner != OWNER_HERE),
                part: record.flags,
            },
            DECIDE => Command::Decide {
                transaction: self.transaction_of(record),
                attempt: Attempt::from_value(record.second),
                decision: decision(record.detail).ok_or("decision")?,
                parts: record.flags,
            },
            FINISH => Command::Finish {
                transaction: self.transaction_of(record),
                attempt: Attempt::from_value(record.second),
                decision: decision(record.detail).ok_or("decision")?,
            },
            FORGET => Command::Forget {
                transaction: self.transaction_of(record),
                attempt: Attempt::from_value(record.second),
                participant: self.word_of(record).ok_or("participant")?,
            },
            _ => return Err("kind"),
        })
    }

    fn transaction_of(&self, record: &Record) -> TransactionId {
        TransactionId {
            origin: self.producer(record.producer),
            number: record.first,
        }
    }

    /// The body of a command that is one number.
    fn word_of(&self, record: &Record) -> Option<u32> {
        let body = self.body_of(record)?;
        Some(u32::from_le_bytes(*body.as_array()?))
    }

    /// What the commands of a transaction may be, and where they may stand.
    pub(super) fn check_transaction(&self) -> Result<(), BatchError> {
        let is_transaction = self.is_transaction();
        let names_none = |record: Record| !matches!(record.kind, PREPARE | DECIDE);
        if !is_transaction && self.records().all(names_none) {
            return Ok(());
        }
        for (ordinal, command) in self.commands() {
            let is_head = command.heads_transaction();
            let may_be = match ordinal {
                0 => is_head == is_transaction,
                _ => !is_head && (!is_transaction || may_follow(command)),
            };
            if !may_be {
                return Err(BatchError::Command {
                    ordinal: usize::from(ordinal),
                    field: "place in the transaction",
                });
            }
        }
        Ok(())
    }
}

/// Whether the command may be part of a transaction. What a consumer gives back is none of it.
fn may_follow(command: Command) -> bool {
    if let Command::Settle { settlement, .. } = command {
        return matches!(settlement, Settlement::Accept | Settlement::Reject);
    }
    // A schedule begins when the message is stored, and not when a transaction is committed.
    matches!(
        command,
        Command::Publish {
            is_scheduled: false,
            ..
        }
    )
}

/// Whether commands of this kind are about a transaction.
pub(super) fn is_about(kind: u8) -> bool {
    matches!(kind, PREPARE | DECIDE | FINISH | FORGET)
}

/// Checks what a record says by itself, and that what its kind does not use is zero.
pub(super) fn check_fields(record: &Record, is_transient: bool) -> Result<(), &'static str> {
    const WORD: usize = size_of::<u32>();
    if is_transient {
        return Err("kind");
    }
    if record.first == 0 {
        return Err("number");
    }
    let decides = matches!(record.kind, DECIDE | FINISH);
    if decides != decision(record.detail).is_some() || (!decides && record.detail != 0) {
        return Err("decision");
    }
    let has_parts = matches!(record.kind, PREPARE | DECIDE);
    if record.destination != 0 || (record.flags != 0 && !has_parts) {
        return Err("unused field");
    }
    let length = usize::try_from(record.length).map_err(|_| "length")?;
    let fits = match record.kind {
        PREPARE | FORGET => length == WORD,
        DECIDE => {
            let commits = decision(record.detail) == Some(Decision::Commit);
            let is_empty = length == 0 && record.flags == 0;
            length.is_multiple_of(WORD)
                && length <= PARTICIPANTS_MAX * WORD
                && (commits || is_empty)
        }
        _ => length == 0 && record.offset == 0,
    };
    if fits { Ok(()) } else { Err("length") }
}

fn decision(detail: u8) -> Option<Decision> {
    match detail {
        1 => Some(Decision::Commit),
        2 => Some(Decision::Rollback),
        _ => None,
    }
}
