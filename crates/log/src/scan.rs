//! Walks the records of a segment and says where and why the good ones end.
//!
//! Every walk checks the head and payload of each record and its place in the log: index and epoch follow from the record
//! before. What the end means for a replica is decided in `recovery.rs`.

use std::io;

use quorate_replication::{Epoch, Index, Position, Stamp};

use crate::disk::DiskFile;
use crate::limits::{RECORD_ALIGN_BYTES, SCAN_BYTES, SEGMENT_HEAD_BYTES};
use crate::record::{RECORD_HEAD_BYTES, RecordHead, RecordKind, zero_sectors};
use crate::segment::{Extent, Point, SegmentHead, SegmentKind};

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The segment was sealed: its successor exists, or did.
    Sealed,
    /// Nothing was written here.
    Unwritten,
    /// Part of a record was written.
    Torn,
    /// A record was written and is damaged.
    Damaged,
    /// The wanted index was passed.
    Passed,
}

/// What a walk found.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) extent: Extent,
    /// The last good entry, or the one before the segment.
    pub(crate) last: Position,
    pub(crate) stamp: Stamp,
    /// Offset behind the last good record.
    pub(crate) end: u64,
    /// The highest index that some record proves to have been durable.
    pub(crate) durable: Index,
    pub(crate) stop: Stop,
}

/// Walks a segment from its first record on, up to and including the entry `until`.
pub(crate) fn scan(head: &SegmentHead, file: &dyn DiskFile, until: Index) -> io::Result<Scanned> {
    let mut window = Window::new(file);
    let mut found = Scanned {
        extent: Extent::empty(head.first),
        last: head.previous,
        stamp: head.previous_stamp,
        end: SEGMENT_HEAD_BYTES as u64,
        durable: Index(0),
        stop: Stop::Unwritten,
    };
    loop {
        let bytes = window.get(found.end, RECORD_HEAD_BYTES)?;
        let Some(record) = RecordHead::decode(head.salt, bytes) else {
            let unwritten = bytes.iter().all(|byte| *byte == 0);
            found.stop = if unwritten {
                Stop::Unwritten
            } else {
                Stop::Damaged
            };
            return Ok(found);
        };
        if !follows(head, &record, found.last) {
            // Left from before a crash, behind a record that is not there.
            found.stop = Stop::Torn;
            return Ok(found);
        }
        if record.kind == RecordKind::Seal {
            found.durable = found.durable.max(record.durable);
            found.stop = Stop::Sealed;
            return Ok(found);
        }
        if record.index > until {
            found.stop = Stop::Passed;
            return Ok(found);
        }
        let payload = window.get(
            found.end + RECORD_HEAD_BYTES as u64,
            record.payload_bytes as usize,
        )?;
        if crc32c::crc32c(payload) != record.payload_crc {
            let torn = zero_sectors(found.end, payload) > record.zero_sectors;
            found.stop = if torn { Stop::Torn } else { Stop::Damaged };
            return Ok(found);
        }
        let begins = (record.epoch != found.last.epoch).then_some(record.epoch);
        let point = Point {
            index: record.index,
            offset: found.end,
        };
        found.end += record.size_bytes();
        found.extent.push(point, begins, found.end);
        found.durable = found.durable.max(record.durable);
        found.last = Position {
            epoch: record.epoch,
            index: record.index,
        };
        found.stamp = record.stamp;
    }
}

/// What heads of records lie behind the good ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The highest index that one of them proves to have been durable.
    pub(crate) durable: Index,
    /// Offset behind the last of them; 0: there is none.
    pub(crate) end: u64,
}

/// Looks for heads of records from an offset on to the end of the file.
pub(crate) fn remains(salt: u64, file: &dyn DiskFile, from: u64) -> io::Result<Remains> {
    let size = file.size_bytes()?;
    let mut window = Window::new(file);
    let mut found = Remains::default();
    let mut at = from;
    while at < size {
        let count = SCAN_BYTES.min(usize::try_from(size - at).unwrap_or(SCAN_BYTES));
        let bytes = window.get(at, count)?;
        for (step, place) in bytes.chunks(RECORD_ALIGN_BYTES).enumerate() {
            // Kind and version first: it spares the checksum of nearly everything that is no head.
            if place.len() < RECORD_HEAD_BYTES || place[12] == 0 || place[12] > 3 || place[13] != 1
            {
                continue;
            }
            if let Some(record) = RecordHead::decode(salt, place) {
                let offset = at + (step * RECORD_ALIGN_BYTES) as u64;
                found.durable = found.durable.max(record.durable);
                found.end = found.end.max(offset + record.size_bytes());
            }
        }
        at += count as u64;
    }
    Ok(found)
}

fn follows(head: &SegmentHead, record: &RecordHead, last: Position) -> bool {
    match head.kind {
        SegmentKind::Contiguous => {
            let epochs = match record.kind {
                RecordKind::Entry(_) => record.epoch >= last.epoch,
                RecordKind::Seal => true,
            };
            record.index == last.index.next() && record.previous == last.epoch && epochs
        }
        SegmentKind::Sparse => record.index > last.index || last.epoch == Epoch(0),
    }
}

/// A file read through a buffer; zeros behind its end.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn get(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = offset + count as u64;
        let held = self.start + self.bytes.len() as u64;
        if offset < self.start || end > held {
            self.bytes.clear();
            self.bytes.resize(count.max(SCAN_BYTES), 0);
            self.start = offset;
            if let Err(error) = self.file.read_at(offset, &mut self.bytes) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = usize::try_from(offset - self.start).expect("within the buffer");
        Ok(&self.bytes[from..from + count])
    }
}
