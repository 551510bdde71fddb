//! Checkpoint transfers, cut short at every operation.

use quorate_log::{CheckpointMark, Disk, Finding, LogError, ShardLog};
use quorate_replication::{Entry, Index, Stamp, Write, WriteId};

use crate::memory_disk::{Dice, MemoryDisk};
use crate::{append, claim, entry, mark, open, open_at, position, read_all};

fn live() -> Vec<Entry> {
    (1..=60).map(|number| entry(2, number * 7, 900)).collect()
}

/// Installs at 500; reports when the checkpoint would be saved.
fn install(log: &mut ShardLog, saved: &mut bool) -> Result<(), LogError> {
    log.begin_install(position(3, 500), Stamp(500))?;
    for part in live().chunks(25) {
        log.install_entries(part)?;
    }
    log.seal_install()?;
    *saved = true;
    log.commit_install()
}

fn is_installed(log: &ShardLog) -> bool {
    let indexes: Vec<Index> = live().iter().map(|entry| entry.index).collect();
    log.end() == position(3, 500) && log.reader().read_entries(&indexes).unwrap() == live()
}

#[test]
fn an_installed_log_goes_on_after_the_checkpoint() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    append(&mut log, &mut 0, 1, &[100; 50]);
    let reader = log.reader();
    install(&mut log, &mut false).unwrap();
    assert!(is_installed(&log));
    assert_eq!(log.base(), position(3, 500));
    assert_eq!(
        reader.read_entries(&[Index(1), Index(7)]).unwrap(),
        live()[..1]
    );
    let more = append(&mut log, &mut 10, 4, &[2000; 40]);
    assert_eq!(read_all(&log), more);
    let segments = log.segments();
    drop(log);
    let mut opened = open_at(&disk, mark(3, 500));
    assert_eq!(opened.findings, []);
    assert_eq!(
        (opened.recovered.base, opened.recovered.end),
        (position(3, 500), position(4, 540))
    );
    assert_eq!(read_all(&opened.log), more);
    // Live segments are dropped like others, and their absence is no damage then.
    opened
        .log
        .drop_segments(&[segments[0].first, segments[1].first])
        .unwrap();
    drop(opened);
    let opened = open_at(&disk, mark(3, 500));
    assert_eq!(opened.findings, []);
    assert_eq!(opened.recovered.base, position(3, 500));
    assert!(opened.log.segments().len() < segments.len());
}

#[test]
fn a_missing_live_segment_is_damage() {
    let disk = MemoryDisk::default();
    let mut log = open(&disk).log;
    install(&mut log, &mut false).unwrap();
    drop(log);
    let files: Vec<String> = disk
        .files("shards")
        .into_iter()
        .filter(|path| path.ends_with(".live"))
        .collect();
    assert!(files.len() > 1);
    disk.remove(&files[1]).unwrap();
    let opened = open_at(&disk, mark(3, 500));
    assert!(opened.recovered.impaired);
    assert_eq!(opened.recovered.committed, Index(0));
}

#[test]
fn a_crash_at_any_step_leaves_the_old_log_or_the_new_one() {
    let mut outcomes = [0, 0];
    for fuse in 1.. {
        let disk = MemoryDisk::default();
        let mut log = open(&disk).log;
        let old = append(&mut log, &mut 0, 1, &[100; 50]);
        log.write(&[(WriteId(5), Write::Promise(claim(3)))])
            .unwrap();
        disk.light_fuse(fuse);
        let mut saved = false;
        let done = install(&mut log, &mut saved).is_ok();
        drop(log);
        let mut dice = Dice(fuse);
        disk.crash(&mut dice);
        let checkpoint = if saved {
            mark(3, 500)
        } else {
            CheckpointMark::default()
        };
        for _ in 0..3 {
            // Recovery is cut short as well.
            disk.light_fuse(1 + dice.next() % 20);
            drop(std::panic::catch_unwind(|| open_at(&disk, checkpoint)));
            disk.crash(&mut dice);
        }
        let opened = open_at(&disk, checkpoint);
        assert!(
            !opened.findings.iter().any(Finding::is_damage),
            "fuse {fuse}: {:?}",
            opened.findings
        );
        assert_eq!(opened.recovered.promise, Some(claim(3)), "fuse {fuse}");
        if saved {
            assert!(is_installed(&opened.log), "fuse {fuse}");
        } else {
            assert_eq!(read_all(&opened.log), old, "fuse {fuse}");
        }
        assert_eq!(
            disk.list("shards/00007").unwrap(),
            ["log", "mark"],
            "fuse {fuse}"
        );
        outcomes[usize::from(saved)] += 1;
        if done {
            break;
        }
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
}
