//! How fast the disk itself is: writes into a zero-filled file, each followed by fdatasync, as the log does them.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::produce::micros;
use crate::limits::{DISK_FILE_BYTES, DISK_TIME};

/// The rates of one disk.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Disk {
    pub(super) folder: PathBuf,
    pub(super) fdatasync_4k: Rate,
    pub(super) fdatasync_64k: Rate,
}

/// The rate of one size of write.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rate {
    pub(super) per_second: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// Measures the disk that holds `folder`, with a file that is removed again.
pub(super) fn measure(folder: &Path) -> Result<Disk> {
    let path = folder.join(format!(".quorate-bench-{}", std::process::id()));
    let doing = || format!("measure the disk with {}", path.display());
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .open(&path)
        .with_context(doing)?;
    let result = (|| {
        let zeros = vec![0; 1024 * 1024];
        for _ in 0..DISK_FILE_BYTES / zeros.len() as u64 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok::<_, anyhow::Error>(Disk {
            folder: folder.to_owned(),
            fdatasync_4k: rate(&file, 4 * 1024)?,
            fdatasync_64k: rate(&file, 64 * 1024)?,
        })
    })();
    let removed = std::fs::remove_file(&path);
    let disk = result.with_context(doing)?;
    removed.with_context(doing)?;
    Ok(disk)
}

fn rate(file: &File, size: usize) -> Result<Rate> {
    let block = vec![0x5a; size];
    let mut latency = Histogram::<u64>::new(3)?;
    let mut offset = 0;
    let started = Instant::now();
    while started.elapsed() < DISK_TIME {
        let begun = Instant::now();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        latency.record(micros(begun.elapsed()))?;
        offset = (offset + size as u64) % DISK_FILE_BYTES;
    }
    Ok(Rate {
        per_second: per_second(latency.len(), started.elapsed().as_secs_f64()),
        p50_us: latency.value_at_quantile(0.5),
        p99_us: latency.value_at_quantile(0.99),
    })
}

/// Returns a rate as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a figure for people: the counts and times of a bench are far from the limits"
)]
pub(super) fn per_second(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 {
        (count as f64 / seconds).round() as u64
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_has_rates_and_keeps_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = measure(folder.path()).expect("it can be measured");
        assert!(disk.fdatasync_4k.per_second > 0 && disk.fdatasync_64k.p99_us > 0);
        let left = std::fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_rate_is_rounded() {
        assert_eq!(per_second(15, 2.0), 8);
        assert_eq!(per_second(15, 0.0), 0);
    }
}
