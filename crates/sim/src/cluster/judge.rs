//! What the cluster may never do, checked while it runs: the rules of `quorate_replication::invariant` over all shards,
//! and what each disk was told to keep.

use std::collections::BTreeMap;

use quorate_replication::invariant::{self, Violation};
use quorate_replication::{
    Claim, Epoch, Index, NodeId, Position, Recovered, ShardId, Write, WriteId,
};
use quorate_storage_node::shard::Shard;

use crate::rng::finish;

/// Broker states are compared at every so many entries.
const DIGEST_STEP: u64 = 4;

/// The memory of the judge.
#[derive(Debug, Default)]
pub(super) struct Judge {
    shards: BTreeMap<ShardId, Watched>,
    pub(super) violations: Vec<String>,
    /// A bit of a segment was flipped on this node: its log may come back impaired.
    pub(super) may_be_damaged: Option<usize>,
    /// The highest stamp of any committed entry, in milliseconds.
    newest_stamp: u64,
}

#[derive(Debug, Default)]
struct Watched {
    leaders: BTreeMap<Epoch, NodeId>,
    committed: BTreeMap<Index, (Epoch, u64)>,
    /// In which epoch each entry was first known to be committed: leaders of later ones must hold it.
    committed_in: BTreeMap<Index, Epoch>,
    digests: BTreeMap<Index, u64>,
    disks: BTreeMap<usize, DiskMemory>,
    seen: BTreeMap<usize, Seen>,
    highest: Index,
    /// The stamp of each committed entry.
    stamps: BTreeMap<Index, u64>,
}

/// What a node's disk must keep.
#[derive(Debug, Default)]
struct DiskMemory {
    epochs: BTreeMap<Index, Epoch>,
    base: Position,
    promise: Claim,
    is_impaired: bool,
}

/// What was last seen of a running replica.
#[derive(Debug, Default)]
struct Seen {
    commit: Index,
    applied: Index,
}

impl Judge {
    fn keep(&mut self, shard: ShardId, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violations.push(format!("{shard}: {violation}"));
        }
    }

    /// A sync of these writes succeeded: they are on the disk for good.
    pub(super) fn synced(&mut self, node: usize, shard: ShardId, writes: Vec<(WriteId, Write)>) {
        let disk = self
            .shards
            .entry(shard)
            .or_default()
            .disks
            .entry(node)
            .or_default();
        let before = disk.promise;
        let mut promised = Ok(());
        for (_, write) in writes {
            match write {
                Write::Append(entries) => {
                    disk.epochs
                        .extend(entries.iter().map(|entry| (entry.index, entry.epoch)));
                }
                Write::Cut { after } => drop(disk.epochs.split_off(&after.next())),
                Write::Promise(claim) => {
                    let kept = invariant::promise_never_goes_back(before, claim);
                    promised = promised.and(kept);
                    disk.promise = claim;
                }
                Write::Impaired(is_impaired) => disk.is_impaired = is_impaired,
                Write::Bound(_) => {}
            }
        }
        self.keep(shard, promised);
    }

    /// These writes are carried out now: a cut may be durable before anybody is told.
    pub(super) fn writing(&mut self, node: usize, shard: ShardId, writes: &[(WriteId, Write)]) {
        let disk = self
            .shards
            .entry(shard)
            .or_default()
            .disks
            .entry(node)
            .or_default();
        for (_, write) in writes {
            if let Write::Cut { after } = write {
                drop(disk.epochs.split_off(&after.next()));
            }
        }
    }

    /// The log of a node was replaced by a checkpoint.
    pub(super) fn installed(&mut self, node: usize, shard: ShardId, at: Position) {
        let disk = self
            .shards
            .entry(shard)
            .or_default()
            .disks
            .entry(node)
            .or_default();
        disk.base = at;
        disk.epochs.clear();
    }

    /// A replica was opened: what was synced is there, unless the replica says that it is damaged.
    pub(super) fn opened(&mut self, node: usize, shard: ShardId, found: &Recovered) {
        let watched = self.shards.entry(shard).or_default();
        watched.seen.remove(&node);
        let disk = watched.disks.entry(node).or_default();
        let last = disk.epochs.iter().next_back();
        let synced = last.map_or(disk.base, |(index, epoch)| Position {
            epoch: *epoch,
            index: *index,
        });
        let is_excused = self.may_be_damaged == Some(node);
        let mut problems = Vec::new();
        if !found.impaired && found.end < synced {
            problems.push(format!(
                "{shard}: node {node} opened its log at {} and had synced {synced}",
                found.end
            ));
        }
        if found.impaired && !disk.is_impaired && !is_excused && found.end < synced {
            problems.push(format!(
                "{shard}: node {node} is impaired although its disk kept everything"
            ));
        }
        match found.promise {
            Some(promise) if promise.epoch < disk.promise.epoch => {
                problems.push(format!(
                    "{shard}: node {node} promised {} and remembers {promise}",
                    disk.promise
                ));
            }
            None if !is_excused => {
                problems.push(format!("{shard}: node {node} forgot its promise"));
            }
            Some(_) | None => {}
        }
        disk.is_impaired = found.impaired;
        // More than was synced may be found: from here on it counts as durable. What rotted was durable when it was
        // acknowledged, and such an answer may still be under way.
        if !(is_excused && found.impaired) {
            disk.epochs.clear();
        }
        disk.epochs.append(&mut epochs_of(found));
        disk.base = found.base;
        self.violations.extend(problems);
    }

    /// A replica began to lead.
    pub(super) fn led(&mut self, node: NodeId, id: ShardId, epoch: Epoch, shard: &Shard) {
        let watched = self.shards.entry(id).or_default();
        let once = invariant::leads_an_epoch_once(&watched.leaders, epoch);
        let one = invariant::one_leader_per_epoch(&mut watched.leaders, epoch, node);
        let replica = shard.replica();
        let known = watched.committed.iter();
        let epochs = known
            .filter(|(index, _)| {
                watched
                    .committed_in
                    .get(index)
                    .is_some_and(|one| *one < epoch)
            })
            .map(|(index, (epoch, _))| (*index, *epoch))
            .collect();
        let base = replica.base().index;
        let holds = invariant::leader_holds_committed(&epochs, epoch, base, |index| {
            replica.epoch_at(index)
        });
        self.keep(id, once);
        self.keep(id, one);
        self.keep(id, holds);
    }

    /// Looks at a replica after it was stepped.
    pub(super) fn look(&mut self, node: usize, id: ShardId, shard: &Shard, voters: &[usize]) {
        let replica = shard.replica();
        let watched = self.shards.entry(id).or_default();
        let seen = watched.seen.entry(node).or_default();
        let (before, commit) = (seen.commit, replica.commit());
        seen.commit = commit;
        let applied = shard.applied();
        let was_applied = std::mem::replace(&mut seen.applied, applied);
        let mut results = vec![invariant::commit_never_goes_back(before, commit)];
        for index in before.0 + 1..=commit.0 {
            let index = Index(index);
            let Some(entry) = replica.tail_entry(index) else {
                continue;
            };
            let found = (entry.epoch, digest(&entry.payload) ^ entry.stamp.0);
            watched.stamps.insert(index, entry.stamp.0);
            self.newest_stamp = self.newest_stamp.max(entry.stamp.0);
            results.push(invariant::one_entry_per_committed_index(
                &mut watched.committed,
                index,
                &found,
            ));
            watched
                .committed_in
                .entry(index)
                .or_insert_with(|| replica.epoch());
            if replica.is_leading() {
                let holders = voters.iter().filter(|voter| {
                    let disk = watched.disks.get(*voter);
                    disk.is_some_and(|disk| {
                        disk.base.index >= index || disk.epochs.get(&index) == Some(&entry.epoch)
                    })
                });
                let durable = holders.count() * 2 > voters.len();
                let committed = if durable { index } else { index.previous() };
                results.push(invariant::confirmed_is_committed(committed, index));
            }
        }
        watched.highest = watched.highest.max(commit);
        if applied != was_applied && applied.0.is_multiple_of(DIGEST_STEP) && !shard.is_halted() {
            let digest = shard.broker().digest();
            results.push(invariant::one_state_per_index(
                &mut watched.digests,
                applied,
                digest,
            ));
        }
        for result in results {
            self.keep(id, result);
        }
    }

    /// At the end: replicas that stand at the same entry have the same state.
    pub(super) fn compare(&mut self, id: ShardId, shard: &Shard) {
        let watched = self.shards.entry(id).or_default();
        let digest = shard.broker().digest();
        let same = invariant::one_state_per_index(&mut watched.digests, shard.applied(), digest);
        self.keep(id, same);
    }

    /// The stamp of an entry, if it is known to be committed.
    pub(super) fn stamp_of(&self, shard: ShardId, entry: u64) -> Option<u64> {
        self.shards.get(&shard)?.stamps.get(&Index(entry)).copied()
    }

    /// The highest stamp of any committed entry, in milliseconds.
    pub(super) fn newest_stamp(&self) -> u64 {
        self.newest_stamp
    }

    /// The newest epoch in which a shard was led.
    pub(super) fn newest_epoch(&self, shard: ShardId) -> Option<Epoch> {
        let watched = self.shards.get(&shard)?;
        watched.leaders.keys().next_back().copied()
    }

    /// Epochs that had a leader, over all shards.
    pub(super) fn epochs_led(&self) -> u64 {
        self.shards
            .values()
            .map(|shard| shard.leaders.len() as u64)
            .sum()
    }

    /// Entries committed, over all shards.
    pub(super) fn committed(&self) -> u64 {
        self.shards.values().map(|shard| shard.highest.0).sum()
    }
}

/// The epoch of each entry that was found on a disk.
fn epochs_of(found: &Recovered) -> BTreeMap<Index, Epoch> {
    let mut epochs = BTreeMap::new();
    for (at, (epoch, first)) in found.epochs.iter().enumerate() {
        let end = found
            .epochs
            .get(at + 1)
            .map_or(found.end.index.0 + 1, |(_, next)| next.0);
        epochs.extend((first.0..end).map(|index| (Index(index), *epoch)));
    }
    epochs
}

fn digest(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| finish(sum ^ word))
}
