//! The log against disks that fail: crashes at any operation, damage, lack of space.
#![expect(clippy::unwrap_used, reason = "what fails to unwrap fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod crash;
mod damage;
mod install;
mod memory_disk;
mod space;
mod threads;
mod together;

use std::sync::Arc;

use bytes::Bytes;
use quorate_log::{CheckpointMark, NodeDisk, Opened, ReadRange, ShardLog, Sizes};
use quorate_replication::{
    Claim, ClaimId, DiskId, Entry, EntryKind, Epoch, Index, Position, ShardId, Stamp, Write,
    WriteId,
};

use crate::memory_disk::{Dice, MemoryDisk};

const SHARD: ShardId = ShardId(7);

/// Sizes at which a few entries fill a segment.
const SMALL: Sizes = Sizes {
    segment_first_bytes: 16 << 10,
    segment_max_bytes: 64 << 10,
    fill_bytes: 8 << 10,
    reserve_bytes: 64 << 10,
    spare_files: 2,
};

fn node(disk: &MemoryDisk) -> NodeDisk {
    NodeDisk::open_sized(Arc::new(disk.clone()), "test", DiskId(77), SMALL).unwrap()
}

fn claim(epoch: u64) -> Claim {
    Claim {
        epoch: Epoch(epoch),
        id: ClaimId(epoch * 11),
    }
}

fn open(disk: &MemoryDisk) -> Opened {
    open_at(disk, CheckpointMark::default())
}

fn open_at(disk: &MemoryDisk, checkpoint: CheckpointMark) -> Opened {
    let node = node(disk);
    node.create_shard(SHARD, claim(1)).unwrap();
    node.open_shard(SHARD, checkpoint).unwrap()
}

fn position(epoch: u64, index: u64) -> Position {
    Position {
        epoch: Epoch(epoch),
        index: Index(index),
    }
}

fn mark(epoch: u64, index: u64) -> CheckpointMark {
    CheckpointMark {
        at: position(epoch, index),
        stamp: Stamp(index),
    }
}

/// An entry whose payload follows from its position and size; with stretches of zeros in it.
fn entry(epoch: u64, index: u64, size: usize) -> Entry {
    let mut dice = Dice(epoch * 1_000_003 + index);
    let mut payload = Vec::with_capacity(size);
    while payload.len() < size {
        let left = size - payload.len();
        if dice.below(20) == 0 {
            payload.resize(payload.len() + left.min(1000), 0);
        } else {
            payload.extend_from_slice(&dice.next().to_le_bytes()[..left.min(8)]);
        }
    }
    Entry {
        epoch: Epoch(epoch),
        index: Index(index),
        stamp: Stamp(index * 10),
        kind: if index % 5 == 1 {
            EntryKind::NewEpoch
        } else {
            EntryKind::Commands
        },
        payload: Bytes::from(payload),
    }
}

fn read_all(log: &ShardLog) -> Vec<Entry> {
    let reader = log.reader();
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let first = entries
            .last()
            .map_or_else(|| log.base().index, |entry| entry.index)
            .next();
        let range = ReadRange {
            first,
            last: Index(u64::MAX),
            max_bytes: 5_000,
        };
        let more = reader.read(range).unwrap();
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

/// Appends entries of one epoch with the sizes given, and syncs.
fn append(log: &mut ShardLog, id: &mut u64, epoch: u64, sizes: &[usize]) -> Vec<Entry> {
    let first = log.end().index.0 + 1;
    let entries: Vec<Entry> = (first..)
        .zip(sizes)
        .map(|(index, size)| entry(epoch, index, *size))
        .collect();
    *id += 1;
    log.write(&[(WriteId(*id), Write::Append(entries.clone()))])
        .unwrap();
    log.sync().unwrap();
    entries
}

#[test]
fn a_batch_of_appends_costs_one_write_and_one_sync() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    let mut id = 0;
    append(&mut log, &mut id, 1, &[100]);
    log.prepare().unwrap();
    let before = disk.counts();
    let writes = [
        (
            WriteId(2),
            Write::Append(vec![entry(1, 2, 100), entry(1, 3, 5000)]),
        ),
        (WriteId(3), Write::Append(vec![entry(1, 4, 70)])),
    ];
    log.write(&writes).unwrap();
    assert_eq!(log.sync().unwrap(), WriteId(3));
    let after = disk.counts();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs),
        (1, 1)
    );
}

#[test]
fn what_was_written_is_read_and_found_again() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    let mut id = 0;
    let mut entries = append(&mut log, &mut id, 1, &[0, 1, 63, 64, 65, 4096, 5000]);
    entries.extend(append(&mut log, &mut id, 2, &[40_000, 200_000, 10]));
    entries.extend(append(&mut log, &mut id, 4, &[300; 400]));
    assert_eq!(read_all(&log), entries);
    assert!(log.segments().len() > 3);
    drop(log);
    let opened = open(&disk);
    assert_eq!(opened.findings, []);
    let recovered = &opened.recovered;
    assert_eq!(recovered.end, position(4, 410));
    assert_eq!(recovered.base, Position::default());
    assert_eq!(
        recovered.epochs,
        [
            (Epoch(1), Index(1)),
            (Epoch(2), Index(8)),
            (Epoch(4), Index(11))
        ]
    );
    assert_eq!(recovered.stamp, Stamp(4100));
    assert_eq!(
        recovered.promise,
        Some(Claim {
            epoch: Epoch(4),
            id: ClaimId(0)
        })
    );
    assert!(!recovered.impaired);
    assert_eq!(read_all(&opened.log), entries);
    let wanted: Vec<Index> = (1..=410)
        .step_by(7)
        .map(Index)
        .chain([Index(500)])
        .collect();
    let found = opened.log.reader().read_entries(&wanted).unwrap();
    let expected: Vec<Entry> = entries
        .iter()
        .filter(|entry| entry.index.0 % 7 == 1)
        .cloned()
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn dropped_segments_raise_the_base_and_stay_dropped() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    let mut id = 0;
    let entries = append(&mut log, &mut id, 3, &[1500; 200]);
    let segments = log.segments();
    assert!(segments.len() >= 5, "{segments:?}");
    // One in the middle: what lies before it stays readable, and below the base.
    let base = log.drop_segments(&[segments[1].first]).unwrap();
    assert_eq!(base, position(3, segments[1].last.0));
    drop(log);
    let checkpoint = mark(3, segments[2].last.0);
    let mut opened = open_at(&disk, checkpoint);
    assert_eq!(opened.findings, []);
    assert_eq!(opened.recovered.base, base);
    assert_eq!(opened.recovered.epochs, [(Epoch(3), base.index.next())]);
    assert_eq!(opened.recovered.committed, checkpoint.at.index);
    let below = opened.log.reader().read_entries(&[
        Index(1),
        segments[0].last,
        segments[1].first,
        Index(200),
    ]);
    let pick = |index: Index| entries[usize::try_from(index.0).unwrap() - 1].clone();
    assert_eq!(
        below.unwrap(),
        [pick(Index(1)), pick(segments[0].last), pick(Index(200))]
    );
    // Then the first and the third: one gap from the start.
    let base = opened
        .log
        .drop_segments(&[segments[0].first, segments[2].first])
        .unwrap();
    assert_eq!(base, position(3, segments[2].last.0));
    drop(opened);
    let opened = open_at(&disk, checkpoint);
    assert_eq!((opened.findings, opened.recovered.base), (Vec::new(), base));
    assert_eq!(
        disk.files("shards")
            .iter()
            .filter(|path| path.ends_with(".gone"))
            .count(),
        1
    );
}

#[test]
fn identity_is_kept_and_checked() {
    let disk = MemoryDisk::default();
    let first = node(&disk);
    assert_eq!(
        (first.disk_id(), first.incarnation().0, first.node()),
        (DiskId(77), 1, None)
    );
    first.register(quorate_replication::NodeId(3)).unwrap();
    assert!(first.register(quorate_replication::NodeId(4)).is_err());
    let again = NodeDisk::open_sized(Arc::new(disk.clone()), "test", DiskId(5), SMALL).unwrap();
    assert_eq!((again.disk_id(), again.incarnation().0), (DiskId(77), 2));
    assert_eq!(again.node(), Some(quorate_replication::NodeId(3)));
    assert!(NodeDisk::open_sized(Arc::new(disk.clone()), "other", DiskId(5), SMALL).is_err());
    again.create_shard(SHARD, claim(1)).unwrap();
    quorate_log::Disk::remove(&disk, "identity").unwrap();
    assert!(NodeDisk::open_sized(Arc::new(disk), "test", DiskId(5), SMALL).is_err());
}
