//! A draft: a second copy of what a log has written and not synced, kept in the slots that all shards share.
//!
//! When many logs have a little to sync at once, one sync of the slots makes it durable for all of them; the sync of each
//! log's own file is put off until it has more to sync than a draft holds. Opening a log writes its draft to where it belongs
//! before anything of the log is read: after that there is nothing to tell such a log from one that was synced.
//!
//! - A draft holds *all* that its log has unsynced, so that it never leaves a gap before it.
//! - It counts only in the segment for which it was made (by its salt), and only together with the number of cuts at which it
//!   was made: what a cut removed never comes back. Before a cut, an install or the next segment the log's own file is synced.
//! - Like a promise it is in both slots, each synced: no less than the one copy in the log.
//! - Until then what lies in its place is either what it says, or was lost in a crash: writing it again changes nothing else.

use std::io::{self, IoSlice};

use quorate_replication::Index;

use crate::disk::Disk;
use crate::fields::{Fields, put_u64s};
use crate::limits::DRAFT_BYTES_MAX;
use crate::segment::{self, SegmentKind};

/// What a log has written last, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    /// First index and salt of the segment.
    pub(crate) first: Index,
    pub(crate) salt: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Draft {
    pub(crate) fn encode(&self, cuts: u64) -> Vec<u8> {
        assert!(self.bytes.len() <= DRAFT_BYTES_MAX, "a draft fits a slot");
        let mut bytes = Vec::with_capacity(32 + self.bytes.len());
        put_u64s(&mut bytes, &[cuts, self.first.0, self.salt, self.offset]);
        bytes.extend_from_slice(&self.bytes);
        bytes
    }

    /// Reads one that was made at so many cuts; none if it is of before.
    pub(crate) fn decode(bytes: &[u8], cuts: u64) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.u64()? == cuts).then_some(())?;
        Some(Self {
            first: Index(fields.u64()?),
            salt: fields.u64()?,
            offset: fields.u64()?,
            bytes: fields.0.to_vec(),
        })
    }

    /// Where it ends in its segment.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Writes it to where it belongs in the folder of a log, unsynced: it stays durable as a draft. False: its segment is
    /// gone.
    pub(crate) fn redo(&self, disk: &dyn Disk, log: &str) -> io::Result<bool> {
        let name = segment::file_name(SegmentKind::Contiguous, self.first);
        let (file, head) = match segment::open(disk, &format!("{log}/{name}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        if head.is_none_or(|head| head.salt != self.salt) {
            return Ok(false);
        }
        let mut found = vec![0; self.bytes.len()];
        file.read_at(self.offset, &mut found)?;
        if found != self.bytes {
            file.write_at(self.offset, &[IoSlice::new(&self.bytes)])?;
        }
        Ok(true)
    }
}
