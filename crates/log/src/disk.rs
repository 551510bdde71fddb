//! What the log asks of a disk: a few operations on files and folders, synchronous, named by paths relative to the
//! data folder and separated by `/`.
//!
//! The promises that recovery builds on, and that an implementation made for tests may use to the full:
//! - bytes written are lost at a crash unless the file was synced after; each aligned block of
//!   [`SECTOR_BYTES`](crate::limits::SECTOR_BYTES) is then found either as before the write or as after it;
//! - a created, renamed or removed name is undone at a crash unless its folder was synced after;
//! - after a failed `sync` nothing is known of what was written since the last good one.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// A disk, or the part of one below a data folder. Handles are shared and may be used by several threads.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a folder. It is no error if it is there; the folder above must be.
    fn create_folder(&self, path: &str) -> io::Result<()>;
    /// Removes a folder with all that is in it. It is no error if it is not there.
    fn remove_folder(&self, path: &str) -> io::Result<()>;
    /// Names of the files and folders in a folder, ascending. `NotFound` if it is not there; "" is the data folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes a new, empty file. `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing. `NotFound` if it is not there.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file or folder; a file in its place is replaced, a folder there is an error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. `NotFound` if it is not there.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a folder durable. "" is the data folder.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// An open file. Stays usable after its name is renamed or removed.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Writes all the parts one after the other from `offset` on; the file grows as needed. A full disk is
    /// [`io::ErrorKind::StorageFull`].
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;
    /// Reads until `into` is full or the file ends, and returns how many bytes that were.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
}
