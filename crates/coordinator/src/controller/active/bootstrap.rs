//! The first records: made once, when the expected nodes have registered.
//!
//! The cluster's row first, then those of its shards. Each is made only if it is not there, so that a start that was
//! cut short, or two coordinators at once, end up with one set of records.

use quorate_replication::{Duration, Member, RecordVersion, ShardId, ShardRecord, Time};

use super::{Active, Purpose};
use crate::{
    controller::{
        effect::{Effect, Note},
        input::{ReadOutcome, WriteOutcome},
        placement,
        row::{Change, Key, Row},
        shard::Shard,
    },
    limits::STORE_RETRY_MS,
};

impl Active {
    /// Makes what is missing, if enough nodes attend.
    pub(super) fn create_missing(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.creating.is_empty() || now < self.create_after {
            return;
        }
        let is_complete = self
            .cluster
            .as_ref()
            .is_some_and(|cluster| self.shards.len() as u64 >= u64::from(cluster.shards));
        if is_complete {
            return;
        }
        let members: Vec<Member> = self
            .nodes
            .values()
            .filter(|node| node.is_alive() && node.stream.is_some())
            .map(|node| node.member())
            .collect();
        if (members.len() as u64) < u64::from(self.config.expected_nodes) {
            return;
        }
        let Some(cluster) = &self.cluster else {
            let row = placement::cluster(self.config.shards, self.config.replicas);
            self.create(Row::Cluster(row), Purpose::CreateCluster);
            return;
        };
        let missing: Vec<ShardRecord> = (1..=cluster.shards)
            .map(ShardId)
            .filter(|shard| !self.shards.contains_key(shard))
            .map(|shard| placement::new_shard(shard, cluster.replicas, &members))
            .collect();
        effects.push(Effect::Note(Note::Bootstrapped {
            shards: cluster.shards,
            nodes: members.iter().map(|member| member.node).collect(),
        }));
        for record in missing {
            let shard = record.shard;
            self.create(Row::Shard(record), Purpose::CreateShard(shard));
        }
    }

    fn create(&mut self, row: Row, purpose: Purpose) {
        self.creating.insert(row.key());
        let expected = RecordVersion(0);
        self.outbox.push((Change { expected, row }, purpose));
    }

    pub(super) fn cluster_written(
        &mut self,
        now: Time,
        outcome: WriteOutcome,
        effects: &mut Vec<Effect>,
    ) {
        match outcome {
            WriteOutcome::Stored(_) => {
                self.creating.remove(&Key::Cluster);
                let row = placement::cluster(self.config.shards, self.config.replicas);
                self.cluster = Some(row);
                self.is_changed = true;
                self.create_missing(now, effects);
            }
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                effects.push(Effect::Read { key: Key::Cluster });
            }
        }
    }

    pub(super) fn cluster_read(&mut self, now: Time, outcome: ReadOutcome) {
        self.creating.remove(&Key::Cluster);
        if let ReadOutcome::Found(stored) = outcome
            && let Row::Cluster(row) = stored.row
        {
            self.cluster = Some(row);
            self.is_changed = true;
        }
        self.create_after = now.after(Duration::from_millis(STORE_RETRY_MS));
    }

    pub(super) fn shard_written(
        &mut self,
        now: Time,
        id: ShardId,
        outcome: WriteOutcome,
        effects: &mut Vec<Effect>,
    ) {
        match outcome {
            // What was written is read back even then: the record is taken from the store only.
            WriteOutcome::Stored(_) | WriteOutcome::Conflict | WriteOutcome::Unknown => {
                effects.push(Effect::Read {
                    key: Key::Shard(id),
                });
            }
        }
        self.create_after = now.after(Duration::from_millis(STORE_RETRY_MS));
    }

    /// The answer to the read of a shard that was created.
    pub(super) fn created_shard_read(
        &mut self,
        now: Time,
        id: ShardId,
        found: Option<(ShardRecord, RecordVersion)>,
        effects: &mut Vec<Effect>,
    ) {
        self.creating.remove(&Key::Shard(id));
        if let Some((record, version)) = found {
            self.shards.insert(id, Shard::new(record, version, now));
            self.is_changed = true;
            self.judge(now, id, effects);
        }
    }
}
