//! Transactions, as far as the log knows them.
//!
//! ```text
//! participant   prepare > kept > finish: commit | roll back
//! owner         decide: commit, with its own part, and remembered until each participant has finished
//!               decide: roll back, remembered until the attempt's deadline
//! ```
//! Nothing is remembered of an attempt that was never decided: behind its deadline it can be neither prepared nor
//! committed, so a shard whose stamps are past it and that has no decision knows that there will be none.
//! What is prepared is out of its queue: it is not delivered, settled, purged or expired by anybody else, and what was
//! published is not seen. It stays live in the log.

mod apply;
mod codec;

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{
    Attempt, Destination, DestinationName, MessagePosition, Settlement, TransactionId, root,
};

use super::apply::Retention;
use super::queue::Taken;
use super::{Dedup, QueueId, Verdict};
use crate::limits::{
    PREPARED_BYTES_MAX, PREPARED_OVERHEAD_BYTES, ROLLED_BACK_MAX, TRANSACTION_ORIGINS_MAX,
    TRANSACTIONS_MAX,
};

/// Numbers of transactions are not of a queue: their windows are under this one.
const NO_QUEUE: QueueId = QueueId(0);

/// The transactions of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Transactions {
    /// Which were committed here, as owner or participant.
    committed: Dedup,
    prepared: BTreeMap<TransactionId, Prepared>,
    /// Committed as owner: the participants that have not finished.
    decisions: BTreeMap<(TransactionId, Attempt), BTreeSet<u32>>,
    /// Rolled back as owner, while that is not plain from the deadline.
    rolled_back: BTreeSet<(Attempt, TransactionId)>,
    /// Where what is prepared lies in the log; derived.
    positions: BTreeMap<MessagePosition, u32>,
    /// What is prepared, in bytes; derived.
    bytes: u64,
}

/// A transaction that waits for its decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) attempt: Attempt,
    /// None: this shard.
    pub(crate) owner: Option<u32>,
    parts: u16,
    work: Vec<Work>,
}

/// A command that waits for its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    /// A message, stored and not seen.
    Publish {
        destination: Destination,
        position: MessagePosition,
        priority: u8,
        expires_at_ms: u64,
        size_bytes: u32,
        retention: Retention,
    },
    /// A message taken out of its queue.
    Settle {
        queue: QueueId,
        taken: Taken,
        settlement: Settlement,
    },
}

impl Work {
    fn position(&self) -> MessagePosition {
        match self {
            Self::Publish { position, .. } => *position,
            Self::Settle { taken, .. } => taken.turn.position(),
        }
    }

    fn cost_bytes(&self) -> u64 {
        let size = match self {
            Self::Publish { size_bytes, .. } => u64::from(*size_bytes),
            Self::Settle { .. } => 0,
        };
        size + PREPARED_OVERHEAD_BYTES
    }
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            committed: Dedup::new(TRANSACTION_ORIGINS_MAX),
            prepared: BTreeMap::new(),
            decisions: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
            positions: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl Transactions {
    /// Where what is prepared lies in the log, from a position on: each with how often it is held.
    pub(super) fn positions_from(
        &self,
        from: MessagePosition,
    ) -> impl Iterator<Item = (MessagePosition, u32)> {
        self.positions.range(from..).map(|(at, held)| (*at, *held))
    }

    /// The least position from `from` on that a transaction holds, of whatever queue.
    pub(crate) fn first_held_from(&self, from: MessagePosition) -> Option<MessagePosition> {
        self.positions_from(from)
            .next()
            .map(|(position, _)| position)
    }

    /// Takes out what is prepared to be settled in a queue that is no more.
    fn drop_settlements(&mut self, of: QueueId) -> Vec<MessagePosition> {
        let mut dropped = Vec::new();
        for prepared in self.prepared.values_mut() {
            prepared.work.retain(|work| match work {
                Work::Settle { queue, taken, .. } if *queue == of => {
                    self.bytes -= work.cost_bytes();
                    dropped.push(taken.turn.position());
                    false
                }
                Work::Settle { .. } | Work::Publish { .. } => true,
            });
        }
        for position in &dropped {
            let_go(&mut self.positions, *position);
        }
        dropped
    }

    /// Whether a message that is prepared here goes to a destination that is placed with this name.
    pub(crate) fn has_prepared(&self, name: &DestinationName) -> bool {
        let work = self.prepared.values().flat_map(|prepared| &prepared.work);
        let mut sends = work.filter_map(|work| match work {
            Work::Publish { destination, .. } => Some(destination),
            Work::Settle { .. } => None,
        });
        sends.any(|to| root(&to.name) == name.as_str())
    }

    /// What waits for a decision.
    pub(crate) fn prepared(&self) -> impl Iterator<Item = (TransactionId, &Prepared)> {
        self.prepared.iter().map(|(id, prepared)| (*id, prepared))
    }

    /// Whether this attempt is prepared here.
    pub(crate) fn is_prepared(&self, id: TransactionId, attempt: Attempt) -> bool {
        let prepared = self.prepared.get(&id);
        prepared.is_some_and(|prepared| prepared.attempt == attempt)
    }

    /// What was committed here as owner, and by whom it is not finished.
    pub(crate) fn decisions(
        &self,
    ) -> impl Iterator<Item = (TransactionId, Attempt, &BTreeSet<u32>)> {
        let decisions = self.decisions.iter();
        decisions.map(|((id, attempt), participants)| (*id, *attempt, participants))
    }

    /// Whether the attempt is committed here as owner and not finished by every participant.
    pub(crate) fn is_decided(&self, id: TransactionId, attempt: Attempt) -> bool {
        self.decisions.contains_key(&(id, attempt))
    }

    /// Whether the attempt is committed here as owner and not finished by this participant.
    pub(crate) fn is_decided_for(
        &self,
        id: TransactionId,
        attempt: Attempt,
        participant: u32,
    ) -> bool {
        let participants = self.decisions.get(&(id, attempt));
        participants.is_some_and(|participants| participants.contains(&participant))
    }

    /// Whether the attempt was rolled back by a decision that is still remembered.
    pub(crate) fn is_rolled_back(&self, id: TransactionId, attempt: Attempt) -> bool {
        self.rolled_back.contains(&(attempt, id))
    }

    /// How many are prepared, or decided and not finished.
    pub(crate) fn open(&self) -> usize {
        self.prepared.len() + self.decisions.len()
    }

    /// Whether there is nothing to be resolved.
    pub(crate) fn is_quiet(&self) -> bool {
        self.prepared.is_empty() && self.decisions.is_empty()
    }

    /// Whether the derived parts agree with the rest.
    pub(crate) fn is_consistent(&self) -> bool {
        let work = self.prepared.values().flat_map(|prepared| &prepared.work);
        let mut positions = BTreeMap::new();
        for item in work.clone() {
            *positions.entry(item.position()).or_insert(0) += 1;
        }
        positions == self.positions && work.map(Work::cost_bytes).sum::<u64>() == self.bytes
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.prepared.len() < TRANSACTIONS_MAX
            && self.bytes.saturating_add(bytes) <= PREPARED_BYTES_MAX
    }

    fn can_decide(&self) -> bool {
        self.decisions.len() < TRANSACTIONS_MAX
    }

    fn was_committed(&self, id: TransactionId) -> Verdict {
        self.committed.peek(NO_QUEUE, id.origin, id.number)
    }

    fn committed(&mut self, id: TransactionId, entry: u64) {
        self.committed.judge(NO_QUEUE, id.origin, id.number, entry);
    }

    /// Keeps the work of one more part.
    fn keep(
        &mut self,
        (id, attempt): (TransactionId, Attempt),
        owner: Option<u32>,
        work: Vec<Work>,
    ) {
        for item in &work {
            *self.positions.entry(item.position()).or_insert(0) += 1;
            self.bytes += item.cost_bytes();
        }
        let prepared = self.prepared.entry(id).or_insert_with(|| Prepared {
            attempt,
            owner,
            parts: 0,
            work: Vec::new(),
        });
        prepared.parts += 1;
        prepared.work.extend(work);
    }

    /// Takes out the work of this attempt.
    fn take(&mut self, id: TransactionId, attempt: Attempt) -> Option<Vec<Work>> {
        if !self.is_prepared(id, attempt) {
            return None;
        }
        let prepared = self.prepared.remove(&id)?;
        for item in &prepared.work {
            let_go(&mut self.positions, item.position());
            self.bytes -= item.cost_bytes();
        }
        Some(prepared.work)
    }

    /// Remembers a rollback up to the attempt's deadline, if there is room; if there is none, whoever asks waits for the
    /// deadline.
    fn roll_back(&mut self, id: TransactionId, attempt: Attempt) {
        if self.rolled_back.len() < ROLLED_BACK_MAX {
            self.rolled_back.insert((attempt, id));
        }
    }

    /// Forgets what is plain from the deadline.
    fn forget_overdue(&mut self, stamp_ms: u64) {
        let is_overdue = |first: &(Attempt, TransactionId)| first.0.deadline_ms() < stamp_ms;
        while self.rolled_back.first().is_some_and(is_overdue) {
            self.rolled_back.pop_first();
        }
    }

    fn forget(&mut self, id: TransactionId, attempt: Attempt, participant: u32) -> bool {
        let Some(participants) = self.decisions.get_mut(&(id, attempt)) else {
            return false;
        };
        let was_there = participants.remove(&participant);
        if participants.is_empty() {
            self.decisions.remove(&(id, attempt));
        }
        was_there
    }
}

/// One hold of a position ends.
fn let_go(positions: &mut BTreeMap<MessagePosition, u32>, position: MessagePosition) {
    if let Some(held) = positions.get_mut(&position) {
        *held -= 1;
        if *held == 0 {
            positions.remove(&position);
        }
    }
}
