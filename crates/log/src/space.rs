//! Room on the disk: a reserve for when it is full, and a few used segment files kept to be written again.
//!
//! The reserve is a file of zeros. When the disk is full, the file is removed, what was being written goes on, and
//! [`Space::Reserve`] tells the node to refuse new messages; settlements, which free space, still find room. The reserve
//! is taken back when twice its size is free again, so that the state does not flap.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{Disk, DiskFile};
use crate::segment::zero;

const RESERVE: &str = "reserve";
const SPARE_FOLDER: &str = "spare";

/// Whether there is room for new messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is.
    Enough,
    /// The disk is full and the reserve is in use: refuse what takes space, allow what frees it.
    Reserve,
}

/// Sizes of files. The defaults are for real disks; tests take small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The first segment of a shard; each next one is twice as large.
    pub segment_first_bytes: u64,
    /// The largest segment.
    pub segment_max_bytes: u64,
    /// Zeros are written ahead of the tail in pieces of this size.
    pub fill_bytes: u64,
    /// Kept free for settlements on a full disk.
    pub reserve_bytes: u64,
    /// Segment files kept for another use, per disk.
    pub spare_files: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_first_bytes: 4 << 20,
            segment_max_bytes: 128 << 20,
            fill_bytes: 1 << 20,
            reserve_bytes: 16 << 20,
            spare_files: 4,
        }
    }
}

/// The room of one disk, shared by its logs.
#[derive(Debug)]
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    pub(crate) sizes: Sizes,
    in_reserve: AtomicBool,
    names: AtomicU64,
    /// Serialises changes of the reserve and of the spare files.
    spares: Mutex<Vec<Spare>>,
}

#[derive(Debug)]
struct Spare {
    name: String,
    capacity: u64,
}

impl Room {
    /// Takes the reserve, as far as there is room, and finds the spare files.
    pub(crate) fn open(disk: Arc<dyn Disk>, sizes: Sizes) -> io::Result<Self> {
        disk.create_folder(SPARE_FOLDER)?;
        // What was being recycled when the node stopped is not worth finding out about.
        for name in disk.list(SPARE_FOLDER)? {
            disk.remove(&format!("{SPARE_FOLDER}/{name}"))?;
        }
        let room = Self {
            disk,
            sizes,
            in_reserve: AtomicBool::new(false),
            names: AtomicU64::new(0),
            spares: Mutex::new(Vec::new()),
        };
        let size = match room.disk.open(RESERVE) {
            Ok(file) => file.size_bytes()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if size < sizes.reserve_bytes && !room.take_reserve(sizes.reserve_bytes)? {
            room.in_reserve.store(true, Ordering::Release);
        }
        Ok(room)
    }

    pub(crate) fn space(&self) -> Space {
        if self.in_reserve.load(Ordering::Acquire) {
            Space::Reserve
        } else {
            Space::Enough
        }
    }

    /// Gives the reserve and the spare files up because the disk is full. False: they are used up already.
    pub(crate) fn release(&self) -> io::Result<bool> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = !spares.is_empty();
        for spare in spares.drain(..) {
            self.disk
                .remove(&format!("{SPARE_FOLDER}/{}", spare.name))?;
        }
        if !self.in_reserve.swap(true, Ordering::AcqRel) {
            freed |= remove_if_there(self.disk.as_ref(), RESERVE)?;
        }
        Ok(freed)
    }

    /// Takes the reserve back if twice its size is free.
    pub(crate) fn reclaim(&self) -> io::Result<Space> {
        let _guard = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if self.space() == Space::Reserve {
            const PROBE: &str = "reserve.probe";
            remove_if_there(self.disk.as_ref(), PROBE)?;
            let free = self.fill(PROBE, self.sizes.reserve_bytes)?;
            let taken = free && self.take_reserve(self.sizes.reserve_bytes)?;
            remove_if_there(self.disk.as_ref(), PROBE)?;
            if taken {
                self.in_reserve.store(false, Ordering::Release);
            }
        }
        Ok(self.space())
    }

    /// Keeps a segment file that is no longer needed, or removes it.
    pub(crate) fn retire(&self, path: &str, capacity: u64) -> io::Result<()> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if self.space() == Space::Reserve || spares.len() >= self.sizes.spare_files {
            return self.disk.remove(path);
        }
        let name = self.names.fetch_add(1, Ordering::Relaxed).to_string();
        self.disk.rename(path, &format!("{SPARE_FOLDER}/{name}"))?;
        // Before the file is written again its old name must be gone for good.
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.disk.sync_folder(folder)?;
        spares.push(Spare { name, capacity });
        Ok(())
    }

    /// A file for a new segment: a spare one of that capacity, with old contents, or a new one.
    pub(crate) fn file(&self, path: &str, capacity: u64) -> io::Result<Arc<dyn DiskFile>> {
        remove_if_there(self.disk.as_ref(), path)?;
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = spares.iter().position(|spare| spare.capacity == capacity) {
            let spare = spares.swap_remove(at);
            self.disk
                .rename(&format!("{SPARE_FOLDER}/{}", spare.name), path)?;
            return self.disk.open(path);
        }
        self.disk.create(path)
    }

    fn take_reserve(&self, size: u64) -> io::Result<bool> {
        remove_if_there(self.disk.as_ref(), RESERVE)?;
        self.fill(RESERVE, size)
    }

    /// Makes a file of zeros; false, and no file, if the disk is full.
    fn fill(&self, path: &str, size: u64) -> io::Result<bool> {
        let filled = self.disk.create(path).and_then(|file| {
            zero(file.as_ref(), 0, size)?;
            file.sync()
        });
        match filled {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => {
                remove_if_there(self.disk.as_ref(), path)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the error says that the disk is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Removes a file; true if it was there.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<bool> {
    match disk.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
