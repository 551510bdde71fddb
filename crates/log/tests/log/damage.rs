//! Rot, missing files, lost slots: noticed, never a shorter log in silence.

use quorate_log::{Disk, Finding, ReadError, ReadRange};
use quorate_replication::{Entry, Index, Write, WriteId};

use crate::memory_disk::{Dice, MemoryDisk};
use crate::{SHARD, append, claim, entry, mark, node, open, open_at, position, read_all};

/// Where the slots of the promise and of the state of `SHARD` begin in the file of slots.
const PROMISE: usize = 7 * 6 * 4096;
const STATE: usize = PROMISE + 2 * 4096;

/// A log of several segments, closed cleanly, with a bound beyond its end.
fn written(disk: &MemoryDisk) -> Vec<Entry> {
    let mut log = open(disk).log;
    let mut id = 1;
    log.write(&[(WriteId(1), Write::Bound(position(2, 1000)))])
        .unwrap();
    let mut entries = append(&mut log, &mut id, 1, &[700; 30]);
    id += 1;
    log.write(&[(WriteId(id), Write::Promise(claim(2)))])
        .unwrap();
    entries.extend(append(&mut log, &mut id, 2, &[900; 30]));
    entries.extend(append(&mut log, &mut id, 2, &[333; 3]));
    entries
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let disk = MemoryDisk::default();
        let entries = written(&disk);
        let mut files = disk.files("shards");
        files.push("slots".to_owned());
        let path = &files[dice.below(files.len())];
        disk.change(path, |bytes| {
            let from = if path == "slots" { PROMISE } else { 0 };
            let bytes = &mut bytes[from..];
            let used = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(1, |last| last + 1);
            let at = dice.below(used);
            bytes[at] ^= 1 << dice.below(8);
        });
        let opened = open(&disk);
        let recovered = &opened.recovered;
        assert_eq!(
            recovered.promise.map(|claim| claim.epoch.0),
            Some(2),
            "seed {seed}"
        );
        assert_eq!(recovered.bound, Some(position(2, 1000)), "seed {seed}");
        if recovered.end != position(2, 63) {
            assert!(
                recovered.impaired,
                "seed {seed}: shortened in silence, {path}"
            );
            assert!(
                opened.findings.iter().any(Finding::is_damage),
                "seed {seed}"
            );
        }
        let reader = opened.log.reader();
        let mut found = 0;
        for index in 1..=recovered.end.index.0 {
            match reader.read_entries(&[Index(index)]) {
                Ok(read) => assert_eq!(
                    read,
                    entries[usize::try_from(index).unwrap() - 1..][..1],
                    "seed {seed}"
                ),
                Err(ReadError::Damaged { .. }) => found += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        let scrubbed: Vec<Finding> = reader
            .segments()
            .iter()
            .flat_map(|segment| reader.verify(segment.first).unwrap())
            .collect();
        assert!(
            found == 0 || !scrubbed.is_empty(),
            "seed {seed}: the scrub missed {found} entries"
        );
    }
}

#[test]
fn an_impaired_log_is_checked_throughout_and_cut_at_the_damage() {
    let disk = MemoryDisk::default();
    let entries = written(&disk);
    let mut log = open(&disk).log;
    log.write(&[(WriteId(1), Write::Impaired(true))]).unwrap();
    let segments = log.segments();
    drop(log);
    let path = format!("shards/00007/log/{:020}.seg", segments[1].first.0);
    disk.change(&path, |bytes| bytes[8000] ^= 4);
    let opened = open(&disk);
    assert!(opened.recovered.impaired);
    let kept = read_all(&opened.log);
    assert!(kept.len() as u64 >= segments[1].first.0 && (kept.len() as u64) < segments[1].last.0);
    assert_eq!(kept, entries[..kept.len()]);
    assert!(
        disk.files("shards")
            .iter()
            .any(|path| path.contains("damaged"))
    );
    // It goes on from there, and is whole when it is healed.
    let mut log = opened.log;
    let more = append(&mut log, &mut 0, 3, &[500; 60]);
    log.write(&[(WriteId(9), Write::Impaired(false))]).unwrap();
    drop(log);
    let opened = open(&disk);
    assert!(!opened.recovered.impaired, "{:?}", opened.findings);
    assert_eq!(read_all(&opened.log), [kept, more].concat());
}

#[test]
fn a_missing_segment_is_damage_the_last_one_too() {
    for at in 0..3 {
        let disk = MemoryDisk::default();
        let entries = written(&disk);
        let segments: Vec<String> = disk
            .files("shards")
            .into_iter()
            .filter(|path| path.ends_with(".seg"))
            .collect();
        assert!(segments.len() >= 3, "{segments:?}");
        disk.remove(&segments[segments.len() - 1 - at]).unwrap();
        let opened = open(&disk);
        assert!(opened.recovered.impaired, "{at}");
        let kept = read_all(&opened.log);
        assert!(kept.len() < entries.len());
        assert_eq!(kept, entries[..kept.len()]);
    }
}

#[test]
fn damage_below_the_checkpoint_puts_the_log_aside() {
    let disk = MemoryDisk::default();
    written(&disk);
    let segments: Vec<String> = disk
        .files("shards")
        .into_iter()
        .filter(|path| path.ends_with(".seg"))
        .collect();
    disk.remove(&segments[0]).unwrap();
    let opened = open_at(&disk, mark(2, 50));
    let recovered = &opened.recovered;
    assert!(recovered.impaired && opened.findings.contains(&Finding::PutAside));
    assert_eq!(
        (recovered.committed, recovered.end),
        (Index(0), position(0, 0))
    );
    // Opening again with the checkpoint still there loses nothing more.
    drop(opened);
    let opened = open_at(&disk, mark(2, 50));
    assert!(opened.recovered.impaired && !opened.findings.contains(&Finding::PutAside));
    assert!(
        disk.files("shards")
            .iter()
            .any(|path| path.contains("damaged"))
    );
}

#[test]
fn a_lost_promise_means_wiped_for_good() {
    let disk = MemoryDisk::default();
    written(&disk);
    disk.change("slots", |bytes| bytes[PROMISE..STATE].fill(0));
    let mut opened = open(&disk);
    assert_eq!(
        (opened.recovered.promise, opened.recovered.impaired),
        (None, true)
    );
    opened
        .log
        .write(&[
            (WriteId(1), Write::Promise(claim(9))),
            (WriteId(2), Write::Impaired(false)),
        ])
        .unwrap();
    drop(opened);
    let opened = open(&disk);
    assert_eq!(
        (opened.recovered.promise, opened.recovered.impaired),
        (None, true)
    );
}

#[test]
fn a_missing_shard_folder_is_a_wiped_replica() {
    let disk = MemoryDisk::default();
    let opened = node(&disk).open_shard(SHARD, mark(0, 0)).unwrap();
    assert_eq!(
        (opened.recovered.promise, opened.recovered.impaired),
        (None, true)
    );
    assert_eq!(opened.recovered.end, position(0, 0));
}

/// Everything up to the sync stays, wherever the unsynced rest ends; whatever the bound says, an honest tear at a sector is
/// no damage.
#[test]
fn the_tail_may_end_at_any_byte() {
    for bound in [30, 1000] {
        let disk = MemoryDisk::default();
        let mut log = open(&disk).log;
        let mut id = 1;
        log.write(&[(WriteId(1), Write::Bound(position(1, bound)))])
            .unwrap();
        let mut entries = append(&mut log, &mut id, 1, &[60; 30]);
        entries.extend((31..=40).map(|index| entry(1, index, 380)));
        log.write(&[(WriteId(9), Write::Append(entries[30..].to_vec()))])
            .unwrap();
        drop(log);
        let path = "shards/00007/log/00000000000000000001.seg";
        let mut whole = Vec::new();
        disk.change(path, |bytes| whole.clone_from(bytes));
        let unsynced = 4096 + 30 * 128;
        let end = unsynced + 10 * 448;
        for at in unsynced..=end {
            disk.change(path, |bytes| {
                bytes.clone_from(&whole);
                bytes[at..].fill(0);
            });
            let opened = open(&disk);
            let found = read_all(&opened.log);
            assert_eq!(found, entries[..found.len()], "cut at {at}");
            assert!(found.len() >= 30 + (at - unsynced) / 448, "cut at {at}");
            if bound == 30 || at % 512 == 0 {
                assert!(
                    !opened.recovered.impaired,
                    "cut at {at}: {:?}",
                    opened.findings
                );
            } else if opened.recovered.impaired {
                // A sector written in part does not happen to honest disks; it counts as rot, which is the safe side.
                disk.remove_folder("shards/00007").unwrap();
                let mut log = open(&disk).log;
                log.write(&[(WriteId(1), Write::Bound(position(1, bound)))])
                    .unwrap();
                append(&mut log, &mut 1, 1, &[60; 30]);
                log.write(&[(WriteId(9), Write::Append(entries[30..].to_vec()))])
                    .unwrap();
                disk.change(path, |bytes| whole.clone_from(bytes));
            }
        }
    }
}

#[test]
fn reading_past_the_end_finds_nothing() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    let range = ReadRange {
        first: Index(1),
        last: Index(9),
        max_bytes: 1,
    };
    assert_eq!(log.reader().read(range).unwrap(), []);
    let entries = append(&mut log, &mut 0, 1, &[10, 20]);
    assert_eq!(log.reader().read(range).unwrap(), entries[..1]);
    assert_eq!(
        log.reader()
            .read(ReadRange {
                first: Index(3),
                ..range
            })
            .unwrap(),
        []
    );
}

/// The path of the only segment, and what is in it.
fn only_segment(disk: &MemoryDisk) -> (&'static str, Vec<u8>) {
    let path = "shards/00007/log/00000000000000000001.seg";
    let mut bytes = Vec::new();
    disk.change(path, |found| bytes.clone_from(found));
    (path, bytes)
}

#[test]
fn an_entry_that_is_gone_is_damage_if_something_proves_that_it_was_durable() {
    for proof in ["none", "mark", "later record"] {
        let disk = MemoryDisk::default();
        let mut log = open(&disk).log;
        let mut id = 1;
        log.write(&[(WriteId(1), Write::Bound(position(1, 1000)))])
            .unwrap();
        append(&mut log, &mut id, 1, &[1000; 5]);
        match proof {
            "mark" => log.prepare().unwrap(),
            "later record" => {
                append(&mut log, &mut id, 1, &[1000; 2]);
            }
            _ => {}
        }
        drop(log);
        // The fourth record, as if it had never been written.
        let (path, _) = only_segment(&disk);
        disk.change(path, |bytes| bytes[4096 + 3 * 1088..][..1088].fill(0));
        let opened = open(&disk);
        assert_eq!(opened.recovered.end, position(1, 3), "{proof}");
        assert_eq!(opened.recovered.impaired, proof != "none", "{proof}");
    }
}

#[test]
fn the_remains_of_a_torn_write_are_zeroed_before_anything_is_written_there() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    log.write(&[(WriteId(1), Write::Bound(position(1, 1000)))])
        .unwrap();
    append(&mut log, &mut 1, 1, &[448]);
    let torn = (2..=5).map(|index| entry(1, index, 700)).collect();
    log.write(&[(WriteId(9), Write::Append(torn))]).unwrap();
    drop(log);
    let (path, whole) = only_segment(&disk);
    assert!(whole[4096 + 512..].iter().any(|byte| *byte != 0));
    disk.change(path, |bytes| bytes[4096 + 512..][..512].fill(0));
    let opened = open(&disk);
    assert_eq!(opened.findings, [Finding::TornTail { after: Index(1) }]);
    assert!(!opened.recovered.impaired);
    let (_, bytes) = only_segment(&disk);
    assert!(bytes[4096 + 512..].iter().all(|byte| *byte == 0));
}

#[test]
fn rot_in_one_slot_takes_no_promise_back() {
    for slot in 0..2 {
        let disk = MemoryDisk::default();
        let mut log = open(&disk).log;
        log.write(&[
            (WriteId(1), Write::Promise(claim(4))),
            (WriteId(2), Write::Promise(claim(5))),
        ])
        .unwrap();
        log.write(&[(WriteId(3), Write::Bound(position(5, 1)))])
            .unwrap();
        log.write(&[(WriteId(4), Write::Bound(position(5, 2)))])
            .unwrap();
        drop(log);
        disk.change("slots", |bytes| {
            bytes[PROMISE + slot * 4096 + 20] ^= 1;
            bytes[STATE + slot * 4096 + 20] ^= 1;
        });
        for _ in 0..2 {
            let recovered = open(&disk).recovered;
            assert_eq!(
                (recovered.promise, recovered.bound),
                (Some(claim(5)), Some(position(5, 2)))
            );
        }
    }
}

#[test]
fn damage_found_while_running_keeps_the_log_impaired_until_it_is_opened_again() {
    let disk = MemoryDisk::default();
    let entries = written(&disk);
    let mut log = open(&disk).log;
    let segments = log.segments();
    let path = format!("shards/00007/log/{:020}.seg", segments[1].first.0);
    disk.change(&path, |bytes| bytes[8000] ^= 4);
    assert!(!log.reader().verify(segments[1].first).unwrap().is_empty());
    log.write(&[
        (WriteId(1), Write::Impaired(true)),
        (WriteId(2), Write::Impaired(false)),
    ])
    .unwrap();
    drop(log);
    let opened = open(&disk);
    assert!(opened.recovered.impaired);
    let kept = read_all(&opened.log);
    assert!(kept.len() < entries.len() && kept == entries[..kept.len()]);
}

#[test]
fn a_cut_into_damage_stops_the_node_and_is_mended_when_it_opens_again() {
    let disk = MemoryDisk::default();
    let entries = written(&disk);
    let mut log = open(&disk).log;
    let segments = log.segments();
    let path = format!("shards/00007/log/{:020}.seg", segments[0].first.0);
    disk.change(&path, |bytes| bytes[4096] ^= 4);
    let outcome = log.write(&[(WriteId(1), Write::Cut { after: Index(2) })]);
    assert!(
        matches!(outcome, Err(quorate_log::LogError::Failed { .. })),
        "{outcome:?}"
    );
    drop(log);
    let opened = open(&disk);
    assert!(opened.recovered.impaired);
    assert_eq!(read_all(&opened.log), entries[..0]);
}
