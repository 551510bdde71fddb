//! A full disk and a failing one.

use quorate_log::{LogError, NodeDisk, ShardLog, Space};
use quorate_replication::{Index, Write, WriteId};

use crate::memory_disk::MemoryDisk;
use crate::{SHARD, claim, entry, node, open, read_all};

fn opened(disk: &MemoryDisk) -> (NodeDisk, ShardLog) {
    let node = node(disk);
    node.create_shard(SHARD, claim(1)).unwrap();
    let log = node
        .open_shard(SHARD, crate::CheckpointMark::default())
        .unwrap()
        .log;
    (node, log)
}

#[test]
fn a_full_disk_uses_the_reserve_then_refuses_and_goes_on() {
    let disk = MemoryDisk::default();
    let (node, mut log) = opened(&disk);
    disk.set_capacity(Some(disk.used() + 40_000));
    assert_eq!(node.space(), Space::Enough);
    let mut entries = Vec::new();
    let mut in_reserve = None;
    let mut refused = None;
    for number in 1..200_u64 {
        let pair = [entry(1, number * 2 - 1, 900), entry(1, number * 2, 900)];
        let outcome = log.write(&[(WriteId(number), Write::Append(pair.to_vec()))]);
        entries.extend(pair);
        if node.space() == Space::Reserve && in_reserve.is_none() {
            in_reserve = Some(number);
        }
        match outcome {
            Ok(()) => assert_eq!(log.sync().unwrap(), WriteId(number)),
            Err(LogError::Full { refused: Some(id) }) => {
                refused = Some(id);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let refused = refused.expect("the disk is small");
    let in_reserve = in_reserve.expect("the reserve is used before anything is refused");
    assert!(in_reserve + 20 < refused.0, "{in_reserve} {refused}");
    assert_eq!(log.sync().unwrap(), WriteId(refused.0 - 1));
    assert_eq!(node.reclaim().unwrap(), Space::Reserve);
    // A promise is small and finds room even now.
    log.write(&[(WriteId(refused.0), Write::Promise(claim(1)))])
        .unwrap();
    disk.set_capacity(None);
    assert_eq!(node.reclaim().unwrap(), Space::Enough);
    let again = entries[entries.len() - 2..].to_vec();
    let left: Vec<_> = again
        .into_iter()
        .filter(|entry| entry.index > log.end().index)
        .collect();
    log.write(&[(WriteId(refused.0 + 1), Write::Append(left))])
        .unwrap();
    log.sync().unwrap();
    assert_eq!(read_all(&log), entries);
    drop(log);
    assert_eq!(read_all(&open(&disk).log), entries);
}

#[test]
fn a_refused_write_handed_in_again_is_taken_once() {
    let disk = MemoryDisk::default();
    let (_node, mut log) = opened(&disk);
    disk.set_capacity(Some(disk.used()));
    let entries: Vec<_> = (1..=300).map(|index| entry(1, index, 900)).collect();
    let writes = [
        (WriteId(1), Write::Append(entries.clone())),
        (WriteId(2), Write::Bound(crate::position(1, 9))),
    ];
    let outcome = log.write(&writes);
    assert!(
        matches!(
            outcome,
            Err(LogError::Full {
                refused: Some(WriteId(1))
            })
        ),
        "{outcome:?}"
    );
    assert!(log.end().index > Index(0), "part of it was taken");
    assert_eq!(log.sync().unwrap(), WriteId(0));
    disk.set_capacity(None);
    log.write(&writes).unwrap();
    assert_eq!(log.sync().unwrap(), WriteId(2));
    assert_eq!(read_all(&log), entries);
}

#[test]
fn a_failed_sync_closes_all_logs_of_the_disk() {
    let disk = MemoryDisk::default();
    let (node, mut log) = opened(&disk);
    node.create_shard(crate::ShardId(8), claim(1)).unwrap();
    let mut other = node
        .open_shard(crate::ShardId(8), crate::CheckpointMark::default())
        .unwrap()
        .log;
    log.write(&[(WriteId(1), Write::Append(vec![entry(1, 1, 10)]))])
        .unwrap();
    disk.fail_next();
    assert!(matches!(log.sync(), Err(LogError::Failed { .. })));
    assert!(matches!(log.sync(), Err(LogError::Closed)));
    let write = [(WriteId(1), Write::Append(vec![entry(1, 1, 10)]))];
    assert!(matches!(other.write(&write), Err(LogError::Closed)));
    assert!(node.has_failed());
}
