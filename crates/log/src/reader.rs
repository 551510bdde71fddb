//! Reads entries, on any thread, without holding up the writer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quorate_replication::{Entry, Index};

use crate::limits::{LOOK_UP_BYTES, READ_BYTES};
use crate::node_disk::Finding;
use crate::record::{RECORD_HEAD_BYTES, RecordHead, RecordKind};
use crate::scan::scan;
use crate::segment::{Segment, SegmentKind};
use crate::table::{SegmentStatus, Table, index};

/// Reads entries of one shard. Cheap to clone; valid as long as the log is, and harmless after.
#[derive(Clone, Debug)]
pub struct Reader {
    table: Arc<Table>,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry is damaged on the disk: the replica is to be told (`Input::Damaged`), and the shard to be opened again,
    /// which cuts the log there so that it is written anew from the leader's.
    #[error("entry {index} is damaged on the disk")]
    Damaged {
        /// The entry.
        index: Index,
    },
    /// The disk failed.
    #[error("read entries")]
    Io(#[from] io::Error),
}

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// First index wanted.
    pub first: Index,
    /// Last index wanted.
    pub last: Index,
    /// Stop before the entry that would pass this many bytes; at least one entry is read.
    pub max_bytes: usize,
}

impl Reader {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    /// Consecutive entries from `first` on; empty if that one is not in the log.
    pub fn read(&self, range: ReadRange) -> Result<Vec<Entry>, ReadError> {
        let version = self.table.version();
        let mut entries = Vec::new();
        let result = self.read_into(range, &mut entries);
        self.judge(version, result)?;
        Ok(entries)
    }

    /// The entries at these indexes, which ascend; those that are not there are left out.
    pub fn read_entries(&self, indexes: &[Index]) -> Result<Vec<Entry>, ReadError> {
        let version = self.table.version();
        let mut entries = Vec::with_capacity(indexes.len());
        let result = self.read_each(indexes, &mut entries);
        self.judge(version, result)?;
        Ok(entries)
    }

    /// Reads and checks every record of the segment that starts at `first`, for a scrub. Nothing is found if the
    /// segment is not there, or is the one that is written (its records were checked when the log was opened).
    pub fn verify(&self, first: Index) -> Result<Vec<Finding>, ReadError> {
        let version = self.table.version();
        let segments = self.table.all();
        let Some(at) = segments
            .iter()
            .position(|segment| segment.head.first == first)
        else {
            return Ok(Vec::new());
        };
        if at + 1 == segments.len() {
            return Ok(Vec::new());
        }
        let finding = check_sealed(&segments[at], segments[at + 1].head.first)?;
        if self.table.version() != version {
            return Ok(Vec::new());
        }
        if finding.is_some() {
            self.table.note_damage();
        }
        Ok(finding.into_iter().collect())
    }

    /// All segments, ascending, those below the base too.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentStatus> {
        self.table.statuses()
    }

    /// A bad record in what was removed meanwhile only ends the read.
    fn judge(&self, version: u64, result: Result<(), ReadError>) -> Result<(), ReadError> {
        match result {
            Err(ReadError::Damaged { .. }) if self.table.version() != version => Ok(()),
            Err(ReadError::Damaged { index }) => {
                self.table.note_damage();
                Err(ReadError::Damaged { index })
            }
            other => other,
        }
    }

    fn read_into(&self, range: ReadRange, entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let chunk = range.max_bytes.saturating_add(LOOK_UP_BYTES);
        let mut next = range.first;
        let mut taken = 0;
        while next <= range.last {
            let Some(mut cursor) = self.cursor(next, chunk.min(READ_BYTES))? else {
                return Ok(());
            };
            let mut found = cursor.seek(next)?;
            if found.is_none() {
                return Ok(());
            }
            while let Some(head) = found {
                let size = head.payload_bytes as usize + Entry::OVERHEAD_BYTES;
                let full = !entries.is_empty() && taken + size > range.max_bytes;
                if head.index != next || head.index > range.last || full {
                    return Ok(());
                }
                entries.push(cursor.entry(&head)?);
                taken += size;
                next = next.next();
                found = cursor.head()?;
            }
        }
        Ok(())
    }

    fn read_each(&self, indexes: &[Index], entries: &mut Vec<Entry>) -> Result<(), ReadError> {
        let mut held: Option<Cursor> = None;
        for &wanted in indexes {
            let ahead = held.take().filter(|cursor| cursor.is_before(wanted));
            let cursor = match ahead {
                Some(cursor) => Some(cursor),
                None => self.cursor(wanted, LOOK_UP_BYTES)?,
            };
            let Some(mut cursor) = cursor else { continue };
            if let Some(head) = cursor.seek(wanted)?
                && head.index == wanted
            {
                let mut entry = cursor.entry(&head)?;
                // A slice would keep all that was read around it in memory.
                entry.payload = Bytes::copy_from_slice(&entry.payload);
                entries.push(entry);
            }
            held = Some(cursor);
        }
        Ok(())
    }

    fn cursor(&self, wanted: Index, chunk_bytes: usize) -> Result<Option<Cursor>, ReadError> {
        let Some(segment) = self.table.find(wanted) else {
            return Ok(None);
        };
        index(&segment)?;
        let extent = segment.extent();
        if wanted > extent.last {
            return Ok(None);
        }
        let offset = extent.seek(wanted);
        let (last, end) = (extent.last, extent.end.unwrap_or(offset));
        drop(extent);
        Ok(Some(Cursor {
            segment,
            offset,
            end,
            last,
            wanted,
            passed: Index(0),
            chunk_bytes,
            chunk_start: 0,
            chunk: Bytes::new(),
        }))
    }
}

/// Checks all of a segment whose successor starts at `next`.
pub(crate) fn check_sealed(segment: &Segment, next: Index) -> io::Result<Option<Finding>> {
    let found = scan(&segment.head, segment.file.as_ref(), Index(u64::MAX))?;
    let complete = match segment.head.kind {
        SegmentKind::Contiguous => found.last.index.next() == next,
        // Gaps are normal; only a record that is not zero and not good tells of damage.
        SegmentKind::Sparse => match found.stop {
            crate::scan::Stop::Sealed => true,
            crate::scan::Stop::Unwritten
            | crate::scan::Stop::Torn
            | crate::scan::Stop::Damaged
            | crate::scan::Stop::Passed => false,
        },
    };
    Ok((!complete).then_some(Finding::Damage {
        at: found.last.index.next().max(segment.head.first),
        what: "a record is damaged",
    }))
}

/// A place in a segment.
struct Cursor {
    segment: Arc<Segment>,
    offset: u64,
    /// Behind the last record.
    end: u64,
    last: Index,
    /// What was looked for last: what a bad record is reported as.
    wanted: Index,
    /// The last record that was gone past.
    passed: Index,
    chunk_bytes: usize,
    chunk_start: u64,
    chunk: Bytes,
}

impl Cursor {
    /// Whether going on from here finds the index at least as fast as a look-up.
    fn is_before(&self, wanted: Index) -> bool {
        let extent = self.segment.extent();
        wanted <= self.last && wanted > self.wanted && extent.seek(wanted) <= self.offset
    }

    /// Goes to the first record at or after an index.
    fn seek(&mut self, wanted: Index) -> Result<Option<RecordHead>, ReadError> {
        self.wanted = wanted;
        loop {
            match self.head()? {
                Some(head) if head.index < wanted => self.pass(&head),
                other => return Ok(other),
            }
        }
    }

    /// The head of the record here; none at the end.
    fn head(&mut self) -> Result<Option<RecordHead>, ReadError> {
        if self.offset >= self.end {
            // The records end before what the table promises: the rest is damaged.
            return match self.segment.head.kind {
                SegmentKind::Contiguous if self.passed < self.last => Err(self.damaged()),
                SegmentKind::Contiguous | SegmentKind::Sparse => Ok(None),
            };
        }
        let bytes = self.take(self.offset, RECORD_HEAD_BYTES)?;
        let salt = self.segment.head.salt;
        match RecordHead::decode(salt, &bytes) {
            Some(head) if head.kind != RecordKind::Seal => Ok(Some(head)),
            _ => Err(self.damaged()),
        }
    }

    /// Takes the entry here and goes past it.
    fn entry(&mut self, head: &RecordHead) -> Result<Entry, ReadError> {
        self.wanted = head.index;
        let kind = match head.kind {
            RecordKind::Entry(kind) => kind,
            RecordKind::Seal => return Err(self.damaged()),
        };
        let offset = self.offset + RECORD_HEAD_BYTES as u64;
        let payload = self.take(offset, head.payload_bytes as usize)?;
        if crc32c::crc32c(&payload) != head.payload_crc {
            return Err(self.damaged());
        }
        self.pass(head);
        Ok(Entry {
            epoch: head.epoch,
            index: head.index,
            stamp: head.stamp,
            kind,
            payload,
        })
    }

    fn pass(&mut self, head: &RecordHead) {
        self.passed = head.index;
        self.offset += head.size_bytes();
    }

    fn damaged(&self) -> ReadError {
        ReadError::Damaged { index: self.wanted }
    }

    fn take(&mut self, offset: u64, count: usize) -> Result<Bytes, ReadError> {
        let within = offset.checked_sub(self.chunk_start);
        let within = within.and_then(|from| usize::try_from(from).ok());
        match within {
            Some(from) if from + count <= self.chunk.len() => {
                Ok(self.chunk.slice(from..from + count))
            }
            _ => {
                let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
                let mut bytes = vec![0; count.max(self.chunk_bytes.min(left))];
                self.segment.file.read_at(offset, &mut bytes)?;
                self.chunk = Bytes::from(bytes);
                self.chunk_start = offset;
                Ok(self.chunk.slice(..count))
            }
        }
    }
}
