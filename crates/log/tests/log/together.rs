//! Promises and bounds of many shards, written with the same syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use quorate_log::{CheckpointMark, Disk, LogError, NodeDisk, Opened, ShardLog, Writers};
use quorate_replication::{Entry, Index, ShardId, Write, WriteId};

use crate::memory_disk::{Dice, MemoryDisk};
use crate::{claim, entry, node, position, read_all};

const PATIENCE: Duration = Duration::from_secs(20);
/// Enough for drafts.
const SHARDS: u32 = 9;
/// Bytes of the pairs of one shard, and of those that were files before.
const PAIRS: usize = 6 * 4096;
const FORMER: usize = 4 * 4096;

type Report = (ShardId, Result<WriteId, LogError>);

fn shards() -> impl Iterator<Item = ShardId> {
    (1..=SHARDS).map(ShardId)
}

fn open_all(node: &NodeDisk) -> Vec<Opened> {
    let open = |shard| {
        node.create_shard(shard, claim(1)).unwrap();
        node.open_shard(shard, CheckpointMark::default()).unwrap()
    };
    shards().map(open).collect()
}

fn start(node: &NodeDisk) -> (Writers, mpsc::Receiver<Report>) {
    let (tx, reports) = mpsc::channel();
    let report = move |shard, outcome| {
        // Nobody listens any more when a test is over.
        drop(tx.send((shard, outcome)));
    };
    let writers = Writers::start(1, Box::new(report));
    for opened in open_all(node) {
        writers.adopt(opened.log);
    }
    (writers, reports)
}

/// Hands in the same for every shard while the thread is held up, so that it finds all of it at once.
fn hand_in(writers: &Writers, mut writes: impl FnMut() -> Vec<(WriteId, Write)>) {
    let (go, held) = mpsc::channel::<()>();
    // The end of the sender lets the thread go on.
    let hold = move |_: &mut ShardLog| assert!(held.recv().is_err());
    writers.run(ShardId(1), Box::new(hold));
    for shard in shards() {
        writers.submit(shard, writes());
    }
    drop(go);
}

fn await_all(reports: &mpsc::Receiver<Report>) -> BTreeMap<ShardId, Result<WriteId, LogError>> {
    let mut found = BTreeMap::new();
    while found.len() < SHARDS as usize {
        let (shard, outcome) = reports.recv_timeout(PATIENCE).unwrap();
        found.insert(shard, outcome);
    }
    found
}

fn promise(id: u64, epoch: u64) -> (WriteId, Write) {
    (WriteId(id), Write::Promise(claim(epoch)))
}

fn first_entry(id: u64) -> Vec<(WriteId, Write)> {
    vec![
        (WriteId(id), Write::Bound(position(2, 100))),
        (WriteId(id + 1), Write::Append(vec![entry(2, 1, 50)])),
    ]
}

#[test]
fn promises_bounds_and_first_entries_of_many_shards_cost_two_syncs_each() {
    let disk = MemoryDisk::default();
    let (writers, reports) = start(&node(&disk));
    let before = disk.counts().syncs;
    hand_in(&writers, || vec![promise(1, 2)]);
    for (shard, outcome) in await_all(&reports) {
        assert_eq!(outcome.unwrap(), WriteId(1), "{shard}");
    }
    let promised = disk.counts().syncs;
    assert_eq!(promised - before, 2);
    hand_in(&writers, || first_entry(2));
    for (shard, outcome) in await_all(&reports) {
        assert_eq!(outcome.unwrap(), WriteId(3), "{shard}");
    }
    // Two for the bounds, two for the drafts of all entries.
    assert_eq!(disk.counts().syncs - promised, 4);
    drop(writers);
    for opened in open_all(&node(&disk)) {
        assert_eq!(opened.recovered.promise, Some(claim(2)));
        assert_eq!(opened.recovered.bound, Some(position(2, 100)));
        assert_eq!(read_all(&opened.log), [entry(2, 1, 50)]);
    }
}

/// Of each shard at least what was reported is found, and never anything older or torn.
#[test]
fn a_crash_at_any_operation_takes_no_reported_promise_back() {
    for seed in 0..100_u64 {
        let mut dice = Dice(seed);
        let disk = MemoryDisk::default();
        let (writers, reports) = start(&node(&disk));
        hand_in(&writers, || vec![promise(1, 2)]);
        await_all(&reports);
        disk.light_fuse(1 + dice.next() % 90);
        hand_in(&writers, || {
            let mut writes = vec![promise(2, 3)];
            writes.extend(first_entry(3));
            writes
        });
        let found = await_all(&reports);
        drop(writers);
        let is_dead = disk.is_dead();
        disk.crash(&mut dice);
        for (shard, opened) in shards().zip(open_all(&node(&disk))) {
            let (at_least, outcome) = (&opened.recovered, &found[&shard]);
            assert!(!at_least.impaired, "seed {seed}, {shard}");
            let promise = at_least.promise.unwrap();
            match outcome {
                Ok(_) => {
                    assert_eq!(promise, claim(3), "seed {seed}, {shard}");
                    assert_eq!(at_least.bound, Some(position(2, 100)), "seed {seed}");
                    assert_eq!(read_all(&opened.log).len(), 1, "seed {seed}, {shard}");
                }
                Err(_) => {
                    assert!(is_dead, "seed {seed}, {shard}: {outcome:?}");
                    assert!(promise == claim(2) || promise == claim(3), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_failed_sync_reports_none_of_those_that_shared_it() {
    let disk = MemoryDisk::default();
    let (writers, reports) = start(&node(&disk));
    let all = disk.counts().operations;
    hand_in(&writers, || vec![promise(1, 2)]);
    await_all(&reports);
    // The last operation of such a group is the second sync.
    let each = disk.counts().operations - all;
    disk.light_fuse(each);
    hand_in(&writers, || vec![promise(2, 3)]);
    for (shard, outcome) in await_all(&reports) {
        assert!(outcome.is_err(), "{shard}: {outcome:?}");
    }
}

/// Moves what is in a shard's slots to files in its folder, where they were kept before.
fn as_before(disk: &MemoryDisk, shard: ShardId) {
    let mut pairs = Vec::new();
    let at = shard.0 as usize * PAIRS;
    disk.change("slots", |bytes| {
        bytes.resize(bytes.len().max(at + PAIRS), 0);
        pairs = bytes[at..at + FORMER].to_vec();
        bytes[at..at + PAIRS].fill(0);
    });
    let names = ["promise", "state"].into_iter();
    for (name, pair) in names.zip(pairs.chunks(FORMER / 2)) {
        let folder = format!("shards/{:05}", shard.0);
        let path = format!("{folder}/{name}");
        disk.create(&path).unwrap();
        disk.sync_folder(&folder).unwrap();
        disk.change(&path, |bytes| *bytes = pair.to_vec());
    }
}

#[test]
fn files_of_before_are_taken_over_whatever_crashes_meanwhile() {
    for fuse in 1..45 {
        let disk = MemoryDisk::default();
        let mut opened = open_all(&node(&disk));
        for opened in &mut opened {
            let mut writes = vec![promise(1, 2)];
            writes.extend(first_entry(2));
            opened.log.write(&writes).unwrap();
            opened.log.sync().unwrap();
        }
        drop(opened);
        shards().for_each(|shard| as_before(&disk, shard));
        disk.light_fuse(fuse);
        drop(std::panic::catch_unwind(|| open_all(&node(&disk))));
        disk.crash(&mut Dice(fuse));
        for opened in open_all(&node(&disk)) {
            assert_eq!(opened.findings, [], "fuse {fuse}");
            assert_eq!(opened.recovered.promise, Some(claim(2)), "fuse {fuse}");
            assert_eq!(opened.recovered.bound, Some(position(2, 100)));
        }
        let left = disk.files("shards");
        let old = |path: &&String| path.ends_with("/promise") || path.ends_with("/state");
        assert_eq!(left.iter().find(old), None, "fuse {fuse}");
    }
}

#[test]
fn a_damaged_file_of_before_means_wiped() {
    let disk = MemoryDisk::default();
    drop(open_all(&node(&disk)));
    as_before(&disk, ShardId(2));
    disk.change("shards/00002/promise", |bytes| bytes.fill(0));
    let found: Vec<_> = open_all(&node(&disk))
        .iter()
        .map(|opened| opened.recovered.promise)
        .collect();
    let mut expected = vec![Some(claim(1)); SHARDS as usize];
    expected[1] = None;
    assert_eq!(found, expected);
}

/// What may be found of one shard.
#[derive(Clone, Debug, Default)]
struct Model {
    epoch: u64,
    written: Vec<Entry>,
    durable: usize,
    is_reported: bool,
}

impl Model {
    /// The next group of writes, and what there is after it. Mostly a little, so that it is drafted; now and then a new
    /// epoch that cuts, or more than fits a draft.
    fn next(&self, id: u64, dice: &mut Dice) -> (Self, Vec<(WriteId, Write)>) {
        let mut after = self.clone();
        after.is_reported = false;
        let mut writes = Vec::new();
        if dice.below(5) == 0 {
            after.epoch += 1;
            writes.push(Write::Promise(claim(after.epoch)));
            let kept = after.written.len() - dice.below(after.written.len().min(3) + 1);
            after.written.truncate(kept);
            after.durable = after.durable.min(kept);
            writes.push(Write::Cut {
                after: Index(kept as u64),
            });
        }
        let first = after.written.len() as u64 + 1;
        let size = if dice.below(6) == 0 { 3000 } else { 200 };
        let count = 1 + dice.below(2) as u64;
        let entries: Vec<Entry> = (first..first + count)
            .map(|index| entry(after.epoch, index, dice.below(size)))
            .collect();
        writes.push(Write::Bound(position(after.epoch, first + 1000)));
        after.written.extend(entries.iter().cloned());
        writes.push(Write::Append(entries));
        let numbered = (id..).map(WriteId).zip(writes).collect();
        (after, numbered)
    }

    /// Takes in what was found after a crash amid the way from this to `after`.
    fn found(&mut self, after: &Self, opened: &Opened, what: &str) {
        assert!(!opened.recovered.impaired, "{what}: {:?}", opened.findings);
        let found = read_all(&opened.log);
        let at_least = self.durable.min(after.durable);
        assert!(
            found.len() >= at_least,
            "{what}: {} of {at_least}",
            found.len()
        );
        let is_prefix = |of: &[Entry]| of.starts_with(&found);
        assert!(
            is_prefix(&self.written) || is_prefix(&after.written),
            "{what}"
        );
        let promise = opened.recovered.promise.unwrap().epoch.0;
        assert!(promise >= self.epoch && promise <= after.epoch, "{what}");
        self.epoch = promise;
        self.durable = found.len();
        self.written = found;
    }
}

/// Hands one group in for every shard; those that were reported are what was to be. True: it goes on.
fn group(
    (writers, reports): &(Writers, mpsc::Receiver<Report>),
    models: &[Model],
    afters: &mut [Model],
    (id, dice): (u64, &mut Dice),
) -> bool {
    let mut shard = 0;
    hand_in(writers, || {
        let (after, writes) = models[shard].next(id, dice);
        afters[shard] = after;
        shard += 1;
        writes
    });
    let mut is_well = true;
    // A group may be reported in two parts.
    let mut waiting: BTreeSet<ShardId> = shards().collect();
    while !waiting.is_empty() {
        let (shard, outcome) = reports.recv_timeout(PATIENCE).unwrap();
        waiting.remove(&shard);
        match outcome {
            Ok(_) => {
                let after = &mut afters[shard.0 as usize - 1];
                after.durable = after.written.len();
                after.is_reported = true;
            }
            Err(_) => is_well = false,
        }
    }
    is_well
}

/// Drafts, syncs of their own, cuts and new segments in any order, with the power going at any operation, several times.
#[test]
fn what_was_reported_is_found_whether_it_was_drafted_or_synced() {
    for seed in 0..60_u64 {
        let mut dice = Dice(seed);
        let disk = MemoryDisk::default();
        let first = Model {
            epoch: 1,
            ..Model::default()
        };
        let mut models = vec![first; SHARDS as usize];
        let mut afters = models.clone();
        for life in 0..4 {
            let writers = start(&node(&disk));
            disk.light_fuse(1 + dice.next() % 500);
            let mut id = 1;
            while group(&writers, &models, &mut afters, (id, &mut dice)) && id < 100 {
                models.clone_from(&afters);
                id += 10;
            }
            drop(writers);
            disk.crash(&mut dice);
            let opened = open_all(&node(&disk));
            for (at, opened) in opened.iter().enumerate() {
                let what = format!("seed {seed}, life {life}, shard {}", at + 1);
                let after = afters[at].clone();
                if after.is_reported {
                    // It was reported: there is no way back from it.
                    models[at].clone_from(&after);
                }
                models[at].found(&after, opened, &what);
            }
            afters.clone_from(&models);
        }
    }
}
