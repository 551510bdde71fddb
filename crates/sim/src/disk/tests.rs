//! The fake disk loses what it may lose and keeps what it must keep.

use std::io::{ErrorKind, IoSlice};

use quorate_log::Disk;

use super::FakeDisk;
use crate::rng::Rng;

fn disk(seed: u64) -> FakeDisk {
    FakeDisk::new(Rng::new(seed))
}

fn read(disk: &FakeDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(path).ok()?;
    let mut bytes = vec![0; usize::try_from(file.size_bytes().unwrap()).unwrap()];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    Some(bytes)
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..50 {
        let disk = disk(seed);
        let file = disk.create("a").unwrap();
        file.write_at(0, &[IoSlice::new(&[7; 2_000])]).unwrap();
        file.sync().unwrap();
        disk.sync_folder("").unwrap();
        disk.cut_power();
        assert_eq!(read(&disk, "a"), Some(vec![7; 2_000]), "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_are_old_or_new_each_for_itself() {
    let mut was_torn = false;
    for seed in 0..100 {
        let disk = disk(seed);
        let file = disk.create("a").unwrap();
        file.write_at(0, &[IoSlice::new(&[1; 512 * 8])]).unwrap();
        file.sync().unwrap();
        disk.sync_folder("").unwrap();
        file.write_at(256, &[IoSlice::new(&[2; 512 * 6])]).unwrap();
        disk.cut_power();
        let bytes = read(&disk, "a").unwrap();
        let news = bytes
            .chunks(512)
            .filter(|sector| sector.contains(&2))
            .count();
        for (number, sector) in bytes.chunks(512).enumerate() {
            let twos = sector.iter().filter(|byte| **byte == 2).count();
            let full = match number {
                0 | 6 => 256,
                7 => 0,
                _ => 512,
            };
            assert!(
                [0, full].contains(&twos),
                "seed {seed}, sector {number}: {twos}"
            );
        }
        was_torn |= news > 0 && news < 7;
    }
    assert!(was_torn, "no write was ever torn");
}

#[test]
fn unsynced_names_may_be_lost_and_synced_ones_stay() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = disk(seed);
        disk.create_folder("f").unwrap();
        disk.sync_folder("").unwrap();
        disk.create("f/kept").unwrap();
        disk.sync_folder("f").unwrap();
        disk.rename("f/kept", "f/moved").unwrap();
        disk.cut_power();
        let names = disk.list("f").unwrap();
        assert_eq!(
            names.len(),
            1,
            "seed {seed}: a rename is whole or not at all"
        );
        lost += u32::from(names == ["kept"]);
    }
    assert!((20..80).contains(&lost), "{lost} of 100 lost");
}

#[test]
fn a_synced_folder_is_as_it_was_seen_whatever_becomes_of_others() {
    for seed in 0..50 {
        let disk = disk(seed);
        for folder in ["log", "spare"] {
            disk.create_folder(folder).unwrap();
        }
        disk.create("log/1").unwrap();
        disk.sync_folder("").unwrap();
        disk.sync_folder("log").unwrap();
        disk.rename("log/1", "spare/0").unwrap();
        disk.rename("spare/0", "log/2").unwrap();
        disk.sync_folder("log").unwrap();
        disk.cut_power();
        assert_eq!(disk.list("log").unwrap(), ["2"], "seed {seed}");
        // The same name comes again: what was done to the old one must not befall it.
        disk.rename("log/2", "spare/0").unwrap();
        disk.sync_folder("log").unwrap();
        disk.create("log/2").unwrap();
        disk.sync_folder("log").unwrap();
        disk.cut_power();
        assert_eq!(disk.list("log").unwrap(), ["2"], "seed {seed}");
    }
}

#[test]
fn a_folder_made_anew_under_an_old_name_keeps_what_was_synced_in_it() {
    for seed in 0..50 {
        let disk = disk(seed);
        disk.create_folder("new").unwrap();
        disk.create("new/half").unwrap();
        disk.remove_folder("new").unwrap();
        disk.create_folder("new").unwrap();
        let file = disk.create("new/whole").unwrap();
        file.write_at(0, &[IoSlice::new(&[1; 10])]).unwrap();
        file.sync().unwrap();
        disk.sync_folder("new").unwrap();
        disk.rename("new", "made").unwrap();
        disk.sync_folder("").unwrap();
        disk.cut_power();
        assert_eq!(disk.list("made").unwrap(), ["whole"], "seed {seed}");
        assert_eq!(read(&disk, "made/whole"), Some(vec![1; 10]), "seed {seed}");
    }
}

#[test]
fn a_folder_takes_what_is_in_it_along() {
    let disk = disk(1);
    disk.create_folder("a").unwrap();
    disk.create("a/x").unwrap();
    disk.rename("a", "b").unwrap();
    assert_eq!(disk.list("b").unwrap(), ["x"]);
    assert_eq!(disk.list("a").unwrap_err().kind(), ErrorKind::NotFound);
    disk.remove_folder("b").unwrap();
    assert!(disk.list("").unwrap().is_empty());
    assert_eq!(disk.create("b/y").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn the_fuse_cuts_an_operation_short_and_everything_after_it() {
    let disk = disk(3);
    let file = disk.create("a").unwrap();
    disk.light_fuse(1);
    file.write_at(0, &[IoSlice::new(&[1; 4_096])]).unwrap();
    assert!(file.sync().is_err());
    assert!(disk.is_dead());
    assert!(disk.open("a").is_err());
    disk.cut_power();
    assert!(!disk.is_dead());
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwriting() {
    let disk = disk(4);
    let file = disk.create("a").unwrap();
    file.write_at(0, &[IoSlice::new(&[1; 100])]).unwrap();
    disk.leave_free(Some(10));
    let error = file.write_at(100, &[IoSlice::new(&[1; 11])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    file.write_at(50, &[IoSlice::new(&[2; 60])]).unwrap();
    disk.leave_free(None);
    file.write_at(110, &[IoSlice::new(&[1; 1_000])]).unwrap();
    assert_eq!(disk.counts().full, 1);
}
