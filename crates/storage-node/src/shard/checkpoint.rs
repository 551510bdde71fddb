//! When checkpoints are made, and what may be dropped after one.
//!
//! The leader proposes a checkpoint as a command of the log, with the digest of its state at the one before; every
//! replica makes its checkpoint when it applies that command, so all are at one index and are compared there. A
//! segment goes when the durable checkpoint covers it wholly and the broker says that nothing in it is live. What was
//! settled after the checkpoint counts as settled: a restart replays the settlement before anything is delivered.

use quorate_message::{Batch, BatchBuilder, Command};
use quorate_replication::{Entry, Index, Input as ReplicaInput, Position, RoleName, Time};

use super::{
    Shard,
    effect::{Act, Effect, Note},
    input::{Checkpoint, Clock, SegmentInfo},
    note_all,
};
use crate::limits::{CHECKPOINT_BYTES, CHECKPOINT_IDLE, RETAINED_LOG_BYTES};

/// The checkpoints of one replica.
#[derive(Clone, Debug)]
pub(super) struct Checkpointer {
    /// The newest one that is durable.
    durable: Position,
    is_saving: bool,
    /// Made, but the log is not durable up to it.
    unsaved: Option<Checkpoint>,
    /// Log applied since the newest one was made, without checkpoints.
    since_bytes: u64,
    /// When something was applied last.
    applied_at: Time,
    /// Proposed and not yet applied, by this leader.
    proposed: Option<Index>,
}

impl Checkpointer {
    /// Starts from the checkpoint on the disk.
    pub(super) fn new(durable: Position) -> Self {
        Self {
            durable,
            is_saving: false,
            unsaved: None,
            since_bytes: 0,
            applied_at: Time(0),
            proposed: None,
        }
    }

    /// Something was applied.
    pub(super) fn applied(&mut self, now: Time, size_bytes: usize) {
        self.since_bytes += size_bytes as u64;
        self.applied_at = now;
    }

    /// The durable checkpoint was replaced by the leader's.
    pub(super) fn installed(&mut self, at: Position) {
        self.durable = at;
        self.since_bytes = 0;
        if self.unsaved.take().is_some() {
            self.is_saving = false;
        }
    }

    /// The state is wrong: what was made of it is not saved.
    pub(super) fn forget(&mut self) {
        self.unsaved = None;
    }

    /// When an idle shard makes its checkpoint. Followers need no deadline: the leader's comes to them.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        (self.since_bytes > 0 && self.proposed.is_none() && !self.is_saving)
            .then(|| self.applied_at.after(CHECKPOINT_IDLE))
    }

    fn is_due(&self, now: Time) -> bool {
        let is_idle = now >= self.applied_at.after(CHECKPOINT_IDLE);
        self.since_bytes >= CHECKPOINT_BYTES || (self.since_bytes > 0 && is_idle)
    }
}

/// Whether a batch is the leader's checkpoint.
pub(super) fn is_checkpoint(batch: &Batch) -> bool {
    batch.len() == 1
        && matches!(
            batch.commands().next(),
            Some((_, Command::Checkpoint { .. }))
        )
}

impl Shard {
    /// Proposes a checkpoint if this replica leads and one is due.
    pub(super) fn checkpoint(&mut self, now: Clock, out: &mut Vec<Effect>) {
        if !self.is_serving() {
            self.checkpointer.proposed = None;
            if self.checkpointer.is_due(now.time) {
                // The leader's comes; until then the deadline must not fire again and again.
                self.checkpointer.applied_at = now.time;
            }
            return;
        }
        let is_busy = self.checkpointer.is_saving
            || self
                .checkpointer
                .proposed
                .is_some_and(|index| index > self.applier.applied());
        if is_busy || !self.checkpointer.is_due(now.time) {
            return;
        }
        if !self.replica.can_propose() {
            // As above: the deadline must not fire again and again while there is no room.
            self.checkpointer.applied_at = now.time;
            return;
        }
        let mut builder = BatchBuilder::persistent();
        builder
            .checkpoint(self.broker.last_checkpoint())
            .expect("an empty batch has room for one command");
        let input = ReplicaInput::Proposed {
            stamp: now.stamp,
            payloads: vec![builder.finish()],
        };
        self.replicate(now, input, out);
        self.checkpointer.proposed = Some(self.replica.end().index);
        self.checkpointer.since_bytes = 0;
    }

    /// A checkpoint command was applied.
    pub(super) fn make_checkpoint(&mut self, now: Clock, entry: &Entry, out: &mut Vec<Effect>) {
        self.checkpointer.since_bytes = 0;
        self.checkpointer.applied_at = now.time;
        if self
            .checkpointer
            .proposed
            .is_some_and(|index| index <= entry.index)
        {
            self.checkpointer.proposed = None;
        }
        if self.checkpointer.is_saving {
            // The disk is slow: the next one will do. Nothing is dropped meanwhile.
            return;
        }
        self.checkpointer.is_saving = true;
        let state = self.broker.checkpoint();
        let note = Note::Checkpointed {
            at: entry.index,
            size_bytes: state.len(),
        };
        note_all(Some(note), out);
        let checkpoint = Checkpoint {
            at: entry.position(),
            stamp: entry.stamp,
            state: state.into(),
        };
        self.checkpointer.unsaved = Some(checkpoint);
    }

    /// Saves the checkpoint that was made, once the log is durable up to it: a checkpoint is never ahead of its log.
    pub(super) fn save_checkpoint(&mut self, out: &mut Vec<Effect>) {
        let durable = self.replica.durable();
        let ready = self
            .checkpointer
            .unsaved
            .take_if(|checkpoint| checkpoint.at.index <= durable);
        out.extend(ready.map(|checkpoint| Effect {
            after: None,
            act: Act::SaveCheckpoint(checkpoint),
        }));
    }

    /// A checkpoint is durable: drops what it makes superfluous.
    pub(super) fn checkpoint_saved(
        &mut self,
        at: Position,
        segments: &[SegmentInfo],
        out: &mut Vec<Effect>,
    ) {
        self.checkpointer.is_saving = false;
        if at.index <= self.checkpointer.durable.index {
            return;
        }
        self.checkpointer.durable = at;
        let kept_for_followers = self.needed_by_followers();
        let mut kept_bytes = segments
            .iter()
            .map(|segment| segment.size_bytes)
            .sum::<u64>();
        let mut dropped = Vec::new();
        for segment in segments {
            let is_covered = segment.last <= at.index
                && segment.last <= self.applier.applied()
                && segment.last <= self.replica.durable();
            let is_needed = segment.last > kept_for_followers && kept_bytes <= RETAINED_LOG_BYTES;
            let is_live = || self.broker.has_live(segment.first.0, segment.last.0);
            if is_covered && is_needed {
                // Looked at again with the next checkpoint, also if nothing else comes.
                self.checkpointer.since_bytes += 1;
            }
            if is_covered && !is_needed && !is_live() {
                kept_bytes -= segment.size_bytes;
                dropped.push(segment.first);
            }
        }
        if !dropped.is_empty() {
            out.push(Effect {
                after: None,
                act: Act::DropSegments(dropped),
            });
        }
    }

    /// Entries after this one may still have to be sent to a follower that lags.
    fn needed_by_followers(&self) -> Index {
        match self.replica.role() {
            RoleName::Leader => {
                let matched = self
                    .replica
                    .peers()
                    .filter(|peer| !peer.installing)
                    .map(|peer| peer.matched);
                let transfers = self.sender.needs_log_after();
                matched.chain(transfers).min().unwrap_or(Index(u64::MAX))
            }
            RoleName::Follower | RoleName::Idle => Index(u64::MAX),
        }
    }
}
