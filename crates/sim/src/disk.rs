//! A disk that does what real ones do at the worst moment.
//!
//! It keeps to the promises in `quorate_log::Disk` and to nothing more. A power cut loses any subset of the sectors and
//! names that were not synced; a fuse cuts the power in the middle of an operation; a full disk, a failing sync and rot are
//! switched on by the nemesis. Reads see what was written, as through a page cache, until the power is cut.

mod file;
mod names;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_log::{Disk, DiskFile};

use self::file::{FakeFile, Inode};
use self::names::Names;
use crate::rng::Rng;

/// A shared handle of one host's disk. It outlives the host's processes.
#[derive(Clone, Debug)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

/// What happened on the disk that a run counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Sectors that a power cut lost.
    pub lost_sectors: u64,
    /// Power cuts that kept some unsynced sectors of a file and lost others.
    pub torn_files: u64,
    /// Operations on names that a power cut undid.
    pub lost_names: u64,
    /// Writes refused because the disk was full.
    pub full: u64,
    /// Operations that failed with an error of the device.
    pub failed: u64,
    /// Sectors that rotted.
    pub rotten: u64,
    /// Power cuts in the middle of the log's work.
    pub cut_short: u64,
}

#[derive(Debug)]
pub(crate) struct State {
    names: Names,
    rng: Rng,
    counts: DiskCounts,
    capacity_bytes: u64,
    fuse: Fuse,
    is_dead: bool,
    is_sync_failing: bool,
    /// Print every operation, under this name.
    printed: Option<String>,
    operations: u64,
}

/// Cuts the power after so many operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fuse {
    Off,
    Lit(u32),
}

/// What a power cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Everything that was not synced.
    All,
    /// Nothing: the caches had just been written.
    Nothing,
    /// Each sector and each name for itself.
    Each,
}

impl FakeDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                names: Names::default(),
                rng,
                counts: DiskCounts::default(),
                capacity_bytes: u64::MAX,
                fuse: Fuse::Off,
                is_dead: false,
                is_sync_failing: false,
                printed: None,
                operations: 0,
            })),
        }
    }

    /// The disk as the log sees it.
    #[must_use]
    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Cuts the power now: what was not synced is lost in part, and the disk answers again.
    pub fn cut_power(&self) {
        let mut state = self.lock();
        let loss = match state.rng.below(4) {
            0 => Loss::All,
            1 => Loss::Nothing,
            _ => Loss::Each,
        };
        let State {
            names, rng, counts, ..
        } = &mut *state;
        names.cut_power(loss, rng, counts);
        state.is_dead = false;
        state.is_sync_failing = false;
        state.fuse = Fuse::Off;
    }

    /// Makes the disk answer again after its process died by the fuse; nothing is lost.
    pub fn revive(&self) {
        let mut state = self.lock();
        state.is_dead = false;
        state.fuse = Fuse::Off;
    }

    /// Lets the power be cut after so many more operations.
    pub fn light_fuse(&self, operations: u32) {
        self.lock().fuse = Fuse::Lit(operations);
    }

    /// Takes the fuse out.
    pub fn quench_fuse(&self) {
        self.lock().fuse = Fuse::Off;
    }

    /// Whether the fuse burnt down or the device failed: the host is to be stopped.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Lets the next sync fail with an error of the device.
    pub fn fail_sync(&self) {
        self.lock().is_sync_failing = true;
    }

    /// Takes back a failure that was asked for and did not happen.
    pub fn calm(&self) {
        self.lock().is_sync_failing = false;
    }

    /// Leaves so many bytes free; none: as many as are wanted.
    pub fn leave_free(&self, free_bytes: Option<u64>) {
        let mut state = self.lock();
        let used_bytes = state.names.used_bytes();
        state.capacity_bytes = free_bytes.map_or(u64::MAX, |free| used_bytes + free);
    }

    /// Flips one bit that was synced, in a file whose path contains `part`; false if there is none.
    pub fn rot(&self, part: &str) -> bool {
        let mut state = self.lock();
        let State {
            names, rng, counts, ..
        } = &mut *state;
        let rotten = names.rot(part, rng);
        counts.rotten += u64::from(rotten);
        rotten
    }

    /// Whether somebody limits its space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lock().capacity_bytes != u64::MAX
    }

    /// Prints every operation from here on, under this name.
    pub fn print(&self, name: String) {
        self.lock().printed = Some(name);
    }

    /// Takes everything away: a new, empty disk in the old one's place.
    pub fn wipe(&self) {
        self.lock().names = Names::default();
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.lock().counts
    }

    /// Operations carried out so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation that changes something, and burns the fuse.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.burn()?;
        Ok(state)
    }

    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.is_dead {
            return Err(dead());
        }
        Ok(state)
    }

    fn handle(&self, inode: Arc<Mutex<Inode>>) -> Arc<dyn DiskFile> {
        let number = number(&inode);
        Arc::new(FakeFile {
            disk: self.clone(),
            inode,
            number,
        })
    }
}

impl State {
    fn say(&self, text: std::fmt::Arguments<'_>) {
        if let Some(name) = &self.printed {
            crate::trace::print_line(&format!("      {name} {text}"));
        }
    }

    fn burn(&mut self) -> io::Result<()> {
        if self.is_dead {
            return Err(dead());
        }
        self.operations += 1;
        match self.fuse {
            Fuse::Off => Ok(()),
            Fuse::Lit(0) => {
                self.is_dead = true;
                self.counts.cut_short += 1;
                Err(dead())
            }
            Fuse::Lit(left) => {
                self.fuse = Fuse::Lit(left - 1);
                Ok(())
            }
        }
    }

    /// Fails a sync if that was asked for. The device is of no use after it.
    fn sync_fails(&mut self) -> io::Result<()> {
        if !self.is_sync_failing {
            return Ok(());
        }
        self.is_sync_failing = false;
        self.is_dead = true;
        self.counts.failed += 1;
        Err(io::Error::other("the device reports an error"))
    }
}

impl Disk for FakeDisk {
    fn create_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.change()?;
        state.say(format_args!("create folder {path}"));
        state.names.create_folder(path)
    }

    fn remove_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.change()?;
        state.say(format_args!("remove folder {path}"));
        state.names.remove_folder(path)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.look()?.names.list(folder)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.change()?;
        state.say(format_args!("create {path}"));
        let inode = state.names.create(path)?;
        state.say(format_args!("created as {}", number(&inode)));
        drop(state);
        Ok(self.handle(inode))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.look()?;
        let inode = state.names.open(path)?;
        state.say(format_args!("open {path} as {}", number(&inode)));
        drop(state);
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change()?;
        state.say(format_args!("rename {from} to {to}"));
        state.names.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.change()?;
        state.say(format_args!("remove {path}"));
        state.names.remove(path)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut state = self.change()?;
        state.say(format_args!("sync folder {folder}"));
        state.sync_fails()?;
        state.names.sync_folder(folder);
        Ok(())
    }
}

/// Names a file in what is printed.
fn number(inode: &Arc<Mutex<Inode>>) -> usize {
    Arc::as_ptr(inode).addr() % 1_000_000
}

fn dead() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the power was cut")
}

#[cfg(test)]
mod tests;
