//! A file: what is written, what of it is synced, and which sectors differ.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_log::DiskFile;
use quorate_log::limits::SECTOR_BYTES;

use super::{DiskCounts, FakeDisk, Loss, dead};
use crate::rng::Rng;

/// Contents of a file, whatever its name is.
#[derive(Debug, Default)]
pub(crate) struct Inode {
    /// As read through the page cache.
    current: Vec<u8>,
    /// As found after a power cut that loses everything unsynced.
    synced: Vec<u8>,
    /// Sectors in which the two differ.
    dirty: BTreeSet<usize>,
}

impl Inode {
    pub(crate) fn size_bytes(&self) -> u64 {
        self.current.len() as u64
    }

    /// Decides for each unsynced sector whether it had reached the disk.
    pub(crate) fn cut_power(&mut self, loss: Loss, rng: &mut Rng, counts: &mut DiskCounts) {
        let dirty = std::mem::take(&mut self.dirty);
        let is_longer = self.current.len() > self.synced.len();
        let mut kept = 0_u64;
        let mut lost = 0_u64;
        for sector in dirty {
            let keeps = match loss {
                Loss::All => false,
                Loss::Nothing => true,
                Loss::Each => rng.chance(1, 2),
            };
            if keeps {
                kept += 1;
                self.settle(sector);
            } else {
                lost += 1;
            }
        }
        if is_longer && loss == Loss::Nothing {
            self.synced.resize(self.current.len(), 0);
        }
        counts.lost_sectors += lost;
        counts.torn_files += u64::from(kept > 0 && lost > 0);
        self.current = self.synced.clone();
    }

    /// Flips one bit of what is synced; false if there is nothing.
    pub(crate) fn rot(&mut self, rng: &mut Rng) -> bool {
        // What is only zeros was never written: rot there would test nothing.
        let used = self.synced.iter().rposition(|byte| *byte != 0);
        let Some(last) = used else { return false };
        let at = rng.index(last + 1);
        let bit = 1 << rng.below(8);
        self.synced[at] ^= bit;
        if let Some(byte) = self.current.get_mut(at) {
            *byte ^= bit;
        }
        true
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.settle(sector);
        }
        if self.synced.len() < self.current.len() {
            self.synced.resize(self.current.len(), 0);
        }
    }

    fn settle(&mut self, sector: usize) {
        let first = sector * SECTOR_BYTES;
        let end = (first + SECTOR_BYTES).min(self.current.len());
        if self.synced.len() < end {
            self.synced.resize(end, 0);
        }
        self.synced[first..end].copy_from_slice(&self.current[first..end]);
    }
}

/// So much of a write from `offset` on as ends with a sector.
fn whole_sectors(offset: usize, length: usize) -> usize {
    let end = (offset + length) / SECTOR_BYTES * SECTOR_BYTES;
    end.saturating_sub(offset)
}

/// An open file.
#[derive(Debug)]
pub(crate) struct FakeFile {
    pub(super) disk: FakeDisk,
    pub(super) inode: Arc<Mutex<Inode>>,
    pub(super) number: usize,
}

impl FakeFile {
    fn inode(&self) -> MutexGuard<'_, Inode> {
        self.inode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for FakeFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let burnt = state.burn();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        state.say(format_args!(
            "write {} at {offset}, {total} bytes",
            self.number
        ));
        let mut offset = usize::try_from(offset).map_err(io::Error::other)?;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut inode = self.inode();
        let grows_bytes = (offset + length).saturating_sub(inode.current.len()) as u64;
        if burnt.is_ok() && grows_bytes > 0 {
            // The inode is locked here, so its own size is not counted through the names.
            let used_bytes = state.names.used_bytes_besides(&self.inode) + inode.size_bytes();
            if used_bytes + grows_bytes > state.capacity_bytes {
                state.counts.full += 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        // The write during which the power went may have reached the disk up to the end of any of its sectors.
        let mut left = match &burnt {
            Ok(()) => length,
            Err(_) => whole_sectors(offset, state.rng.index(length + 1)),
        };
        for part in parts {
            let taken = part.len().min(left);
            inode.write(offset, &part[..taken]);
            offset += taken;
            left -= taken;
        }
        burnt
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.disk.is_dead() {
            return Err(dead());
        }
        let inode = self.inode();
        let size = inode.current.len();
        let first = usize::try_from(offset).unwrap_or(usize::MAX).min(size);
        let count = into.len().min(size - first);
        into[..count].copy_from_slice(&inode.current[first..first + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.burn()?;
        state.say(format_args!("sync {}", self.number));
        state.sync_fails()?;
        self.inode().sync();
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.inode().size_bytes())
    }
}
