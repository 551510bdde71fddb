//! Applying what is committed: every entry once, in order, from memory when it is there and from the log otherwise.
//!
//! One read is under way at a time, and one step applies a bounded amount; the rest follows at the deadline, so that
//! a long replay does not hold up heartbeats. A replica whose state turns out to differ from the leader's stops here.

use quorate_message::Batch;
use quorate_replication::{Entry, EntryKind, Index, Input as ReplicaInput, Time};

use super::{
    Purpose, Shard,
    checkpoint::is_checkpoint,
    effect::{Act, Effect, Note, Read},
    input::Clock,
    note_all,
};
use crate::limits::{APPLY_LOAD_BYTES, APPLY_STEP_BYTES, LOAD_RETRY};

/// How far the broker is.
#[derive(Clone, Debug)]
pub(super) struct Applier {
    applied: Index,
    /// What the replica lets be applied.
    committed: Index,
    is_loading: bool,
    /// More is to be done, but not in this step.
    resume_at: Option<Time>,
    /// The broker differs from the leader's since this entry.
    pub(super) diverged: Option<Index>,
    is_halted: bool,
    /// An entry is in the broker's hands.
    pub(super) is_applying: bool,
}

impl Applier {
    /// Starts after what a checkpoint contains.
    pub(super) fn new(applied: Index) -> Self {
        Self {
            applied,
            committed: applied,
            is_loading: false,
            resume_at: None,
            diverged: None,
            is_halted: false,
            is_applying: false,
        }
    }

    /// Entries up to this one may be applied.
    pub(super) fn commit(&mut self, index: Index) {
        self.committed = self.committed.max(index);
    }

    /// The last entry that was applied.
    pub(super) fn applied(&self) -> Index {
        self.applied
    }

    /// Whether nothing is applied any more.
    pub(super) fn is_halted(&self) -> bool {
        self.is_halted
    }

    /// When to go on.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.resume_at
    }

    /// Continues after an installed checkpoint.
    pub(super) fn installed(&mut self, applied: Index) {
        self.applied = applied;
        self.commit(applied);
        self.resume_at = None;
    }
}

impl Shard {
    /// Applies what is committed, up to the bound of one step.
    pub(super) fn apply(&mut self, now: Clock, out: &mut Vec<Effect>) {
        if self.applier.is_halted || self.applier.is_loading {
            return;
        }
        if self.applier.resume_at.is_some_and(|at| now.time < at) {
            return;
        }
        self.applier.resume_at = None;
        let mut bytes = 0;
        while self.applier.applied < self.applier.committed && !self.applier.is_halted {
            if bytes >= APPLY_STEP_BYTES {
                self.applier.resume_at = Some(now.time);
                return;
            }
            let next = self.applier.applied.next();
            let Some(entry) = self.replica.tail_entry(next).cloned() else {
                self.load_committed(next, out);
                return;
            };
            bytes += entry.cost_bytes();
            self.apply_entry(now, &entry, out);
        }
    }

    /// The entries that `load_committed` asked for.
    pub(super) fn apply_loaded(&mut self, now: Clock, entries: Vec<Entry>, out: &mut Vec<Effect>) {
        self.applier.is_loading = false;
        let before = self.applier.applied;
        for entry in entries {
            let is_next = entry.index == self.applier.applied.next();
            if is_next && entry.index <= self.applier.committed && !self.applier.is_halted {
                self.apply_entry(now, &entry, out);
            }
        }
        if self.applier.applied == before && !self.applier.is_halted {
            // Not readable: perhaps not written yet, or the log was switched meanwhile. Asked for again.
            self.applier.resume_at = Some(now.time.after(LOAD_RETRY));
            if self.replica.durable() > before && self.replica.base().index <= before {
                note_all(Some(Note::Dropped("committed entry cannot be read")), out);
                self.replicate(now, ReplicaInput::Damaged, out);
            }
        }
    }

    fn load_committed(&mut self, first: Index, out: &mut Vec<Effect>) {
        // Entries in memory need not be read.
        let last = self
            .applier
            .committed
            .min(self.replica.tail_first().previous().max(first));
        self.applier.is_loading = true;
        let request = self.request(Purpose::Apply);
        let read = Read::Range {
            first,
            last,
            max_bytes: APPLY_LOAD_BYTES,
        };
        out.push(Effect {
            after: None,
            act: Act::Load { request, read },
        });
    }

    fn apply_entry(&mut self, now: Clock, entry: &Entry, out: &mut Vec<Effect>) {
        if entry.kind == EntryKind::Commands {
            let batch = match self.submits.parsed(entry.index) {
                Some(batch) => batch,
                None => match Batch::parse(entry.payload.clone()) {
                    Ok(batch) => batch,
                    Err(error) => {
                        self.halt(entry.index, error.to_string(), out);
                        return;
                    }
                },
            };
            let is_checkpoint = is_checkpoint(&batch);
            let input = quorate_broker::Input::Committed {
                entry: entry.index.0,
                stamp_ms: entry.stamp.0,
                batch,
            };
            self.applier.is_applying = true;
            self.deliver(now, input, out);
            self.applier.is_applying = false;
            if let Some(at) = self.applier.diverged {
                self.diverge(now, at, out);
                return;
            }
            self.applier.applied = entry.index;
            if is_checkpoint {
                self.make_checkpoint(now, entry, out);
            } else {
                self.checkpointer.applied(now.time, entry.cost_bytes());
            }
        }
        self.applier.applied = entry.index;
        // Before the entries after it: their outcomes are the new leader's to tell.
        self.serve_if_due(now, out);
    }

    fn diverge(&mut self, now: Clock, at: Index, out: &mut Vec<Effect>) {
        self.applier.is_halted = true;
        self.checkpointer.forget();
        note_all(Some(Note::Diverged { at }), out);
        self.replicate(now, ReplicaInput::Damaged, out);
        out.push(Effect {
            after: None,
            act: Act::ForgetCheckpoint,
        });
    }

    fn halt(&mut self, at: Index, reason: String, out: &mut Vec<Effect>) {
        self.applier.is_halted = true;
        note_all(Some(Note::Halted { at, reason }), out);
    }
}
