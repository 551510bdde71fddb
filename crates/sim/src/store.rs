//! The coordination store: linearizable rows with versions, a lock for the active coordinator, and bad days.
//!
//! A change takes effect at one moment between the question and the answer. The answer may be lost, then the change
//! was made, is made later, or is never made; in an outage nothing is answered at all.

use std::collections::BTreeMap;

use quorate_coordinator::controller::{Change, Key, Row, Stored, WriteOutcome};
use quorate_replication::RecordVersion;

/// The rows, as they are at this moment.
#[derive(Debug, Default)]
pub struct CoordinationStore {
    rows: BTreeMap<Key, Stored>,
    /// The coordinator that holds the lock.
    active: Option<usize>,
    generation: u64,
    /// No question gets through.
    pub is_out: bool,
    counts: StoreCounts,
}

/// What the store did, for the counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Changes made.
    pub made: u64,
    /// Changes refused because of the version.
    pub conflicts: u64,
    /// Changes made whose answer was lost.
    pub made_unknown: u64,
    /// Changes not made whose answer was lost.
    pub dropped_unknown: u64,
    /// Changes made long after the answer had been given up.
    pub made_late: u64,
}

impl CoordinationStore {
    /// Makes a change if the row has the expected version.
    pub fn swap(&mut self, change: &Change) -> WriteOutcome {
        let key = change.row.key();
        let found = self
            .rows
            .get(&key)
            .map_or(RecordVersion(0), |row| row.version);
        if found != change.expected {
            self.counts.conflicts += 1;
            return WriteOutcome::Conflict;
        }
        let version = RecordVersion(found.0 + 1);
        let row = change.row.clone();
        self.rows.insert(key, Stored { version, row });
        self.counts.made += 1;
        WriteOutcome::Stored(version)
    }

    /// Reads a row.
    #[must_use]
    pub fn read(&self, key: Key) -> Option<&Stored> {
        self.rows.get(&key)
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> Vec<Stored> {
        self.rows.values().cloned().collect()
    }

    /// The record of a shard.
    #[must_use]
    pub fn record(
        &self,
        shard: quorate_replication::ShardId,
    ) -> Option<&quorate_replication::ShardRecord> {
        match &self.rows.get(&Key::Shard(shard))?.row {
            Row::Shard(record) => Some(record),
            Row::Cluster(_) | Row::Node(_) | Row::Settings(_) | Row::Overrides(_) => None,
        }
    }

    /// Who is the active coordinator.
    #[must_use]
    pub fn active(&self) -> Option<usize> {
        self.active
    }

    /// Gives the lock to a coordinator and returns the generation.
    pub fn activate(&mut self, coordinator: usize) -> u64 {
        self.active = Some(coordinator);
        self.generation += 1;
        self.generation
    }

    /// Takes the lock away from a coordinator, if it has it.
    pub fn lapse(&mut self, coordinator: usize) {
        if self.active == Some(coordinator) {
            self.active = None;
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> StoreCounts {
        self.counts
    }

    /// For the cluster to count what became of lost answers.
    pub fn counts_mut(&mut self) -> &mut StoreCounts {
        &mut self.counts
    }
}
