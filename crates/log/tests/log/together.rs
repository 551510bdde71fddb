//! Promises and bounds of many shards, written with the same syncs.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use quorate_log::{CheckpointMark, Disk, LogError, NodeDisk, Opened, Writers};
use quorate_replication::{ShardId, Write, WriteId};

use crate::memory_disk::{Dice, MemoryDisk};
use crate::{claim, entry, node, position, read_all};

const PATIENCE: Duration = Duration::from_secs(20);
const SHARDS: u32 = 5;
/// Bytes of the two pairs of one shard.
const PAIRS: usize = 4 * 4096;

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
fn hand_in(writers: &Writers, writes: impl Fn() -> Vec<(WriteId, Write)>) {
    let (go, held) = mpsc::channel::<()>();
    // A sender that is dropped lets the thread go on.
    writers.run(ShardId(1), Box::new(move |_| drop(held.recv())));
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
fn promises_and_bounds_of_many_shards_cost_two_syncs() {
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
    // One for the entry of each log.
    let written = disk.counts().syncs - promised;
    assert_eq!(written, 2 + u64::from(SHARDS));
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
    for seed in 0..400_u64 {
        let mut dice = Dice(seed);
        let disk = MemoryDisk::default();
        let (writers, reports) = start(&node(&disk));
        hand_in(&writers, || vec![promise(1, 2)]);
        await_all(&reports);
        disk.light_fuse(1 + dice.next() % 40);
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
        pairs = bytes[at..at + PAIRS].to_vec();
        bytes[at..at + PAIRS].fill(0);
    });
    for (name, pair) in ["promise", "state"]
        .into_iter()
        .zip(pairs.chunks(PAIRS / 2))
    {
        let path = format!("shards/{:05}/{name}", shard.0);
        disk.create(&path).unwrap();
        disk.sync_folder(&format!("shards/{:05}", shard.0)).unwrap();
        disk.change(&path, |bytes| *bytes = pair.to_vec());
    }
}

#[test]
fn files_of_before_are_taken_over_whatever_crashes_meanwhile() {
    for fuse in 1..60 {
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
    let kept = Some(claim(1));
    assert_eq!(found, [kept, None, kept, kept, kept]);
}
