//! Transactions whose gateway did not finish them, as the leader of one of their shards sees them through.
//!
//! ```text
//! participant's leader                     owner's leader
//!   prepared for long   -- Ask -------------> decided: Decided(commit)
//!                                             rolled back, or past the deadline: Decided(rollback)
//!                                             neither: the log is to say that it is rolled back; asked again
//!   finish, logged      <- Decided ----------
//!   not prepared        -- Finished --------> forget, logged
//!                       <- Decided ---------- decided for long and not confirmed
//! ```
//! Every message may be lost, repeated or late: what it says of an attempt stays true for ever.

use std::collections::BTreeMap;

use quorate_message::{Attempt, BatchBuilder, BatchFull, Decision, TransactionId};

use super::Dispatcher;
use crate::effect::{Effect, Resolution};
use crate::limits::{DECIDED_TELL_AFTER, PREPARED_ASK_AFTER, RESOLVE_EVERY, RESOLVE_MAX};
use crate::state::{QueueId, State, Turn};

/// Since when this leader knows of what is not resolved. Nothing of it is logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resolver {
    due: Option<u64>,
    since: BTreeMap<(TransactionId, Attempt), u64>,
}

impl Resolver {
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.due
    }
}

impl Dispatcher {
    /// Asks and tells about what has not been resolved for long.
    pub(super) fn resolve(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        let transactions = state.transactions();
        if transactions.is_quiet() {
            self.resolver = Resolver::default();
            return;
        }
        let due = *self.resolver.due.get_or_insert(now);
        if due > now {
            return;
        }
        self.resolver.due = Some(now.saturating_add(RESOLVE_EVERY));
        let before = std::mem::take(&mut self.resolver.since);
        let since = &mut self.resolver.since;
        let mut is_overdue = |key, after| {
            let first = before.get(&key).copied().unwrap_or(now);
            since.insert(key, first);
            now.saturating_sub(first) >= after
        };
        let mut refused = Vec::new();
        let mut messages = 0;
        for (id, prepared) in transactions.prepared() {
            let attempt = prepared.attempt;
            if !is_overdue((id, attempt), PREPARED_ASK_AFTER) || messages >= RESOLVE_MAX {
                continue;
            }
            messages += 1;
            match prepared.owner {
                Some(shard) => {
                    let message = Resolution::Ask { id, attempt };
                    effects.push(Effect::Resolve { shard, message });
                }
                None => refused.push((id, attempt)),
            }
        }
        for (id, attempt, participants) in transactions.decisions() {
            if !is_overdue((id, attempt), DECIDED_TELL_AFTER) || messages >= RESOLVE_MAX {
                continue;
            }
            for shard in participants {
                messages += 1;
                let message = Resolution::Decided {
                    id,
                    attempt,
                    decision: Decision::Commit,
                };
                let shard = *shard;
                effects.push(Effect::Resolve { shard, message });
            }
        }
        propose(effects, refused, |builder, (id, attempt)| {
            builder.roll_back(id, attempt)
        });
    }

    /// A message that a transaction had taken out is in its queue again; it may have been sent.
    pub(crate) fn put_back(&mut self, queue: QueueId, turn: Turn, state: &State) {
        let position = turn.position();
        if state.sift(queue).is_some_and(|sift| sift.is_late(position)) {
            self.sift_later(queue, position, position);
        }
        let id = self.by_queue.get(&queue).copied();
        if id.is_none_or(|id| !self.is_kept_for_settlement(id, turn, state)) {
            self.join(queue, turn.priority(), position, position);
        }
    }

    /// Another shard's leader asks or tells.
    pub(super) fn resolution(
        &mut self,
        (from, message): (u32, Resolution),
        state: &State,
        effects: &mut Vec<Effect>,
    ) {
        let transactions = state.transactions();
        match message {
            Resolution::Ask { id, attempt } => {
                let decision = if transactions.is_decided_for(id, attempt, from) {
                    Decision::Commit
                } else if transactions.is_decided(id, attempt)
                    || transactions.is_rolled_back(id, attempt)
                    || state.stamp_ms() > attempt.deadline_ms()
                {
                    Decision::Rollback
                } else {
                    // The answer must not come before the log holds it: the asker asks again.
                    propose(effects, [(id, attempt)], |builder, (id, attempt)| {
                        builder.roll_back(id, attempt)
                    });
                    return;
                };
                let message = Resolution::Decided {
                    id,
                    attempt,
                    decision,
                };
                effects.push(Effect::Resolve {
                    shard: from,
                    message,
                });
            }
            Resolution::Decided {
                id,
                attempt,
                decision,
            } if transactions.is_prepared(id, attempt) => {
                propose(effects, [(id, attempt)], |builder, (id, attempt)| {
                    builder.finish_transaction(id, attempt, decision)
                });
            }
            Resolution::Decided { id, attempt, .. } => {
                let message = Resolution::Finished { id, attempt };
                effects.push(Effect::Resolve {
                    shard: from,
                    message,
                });
            }
            Resolution::Finished { id, attempt } => {
                if transactions.is_decided_for(id, attempt, from) {
                    propose(effects, [(id, attempt)], |builder, (id, attempt)| {
                        builder.forget(id, attempt, from)
                    });
                }
            }
        }
    }
}

/// Proposes a command for each of them, in one batch.
fn propose(
    effects: &mut Vec<Effect>,
    attempts: impl IntoIterator<Item = (TransactionId, Attempt)>,
    command: impl Fn(&mut BatchBuilder, (TransactionId, Attempt)) -> Result<u16, BatchFull>,
) {
    let mut builder = BatchBuilder::persistent();
    for attempt in attempts {
        command(&mut builder, attempt).expect("`RESOLVE_MAX` small commands fit a batch");
    }
    if !builder.is_empty() {
        let batch = builder.finish();
        effects.push(Effect::Propose { batch });
    }
}
