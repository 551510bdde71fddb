//! The end of a log: where records are appended, synced, cut.
//!
//! The order of things that recovery relies on:
//! - Records go where zeros are durable, so that what was not written can be told from what was damaged.
//! - A segment is synced before its successor is made, and the successor is durable before the segment is sealed:
//!   only the last segment can have lost something that no sync covered, and a seal without a successor is damage.
//! - A cut is noted durably, then what lies behind it is zeroed and synced, then the note is taken back, and only then are
//!   records written there. A record that was cut is therefore gone before a new one counts; and a crash amid it repeats it.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quorate_replication::{Entry, Epoch, Index, Position, ShardId, Stamp};

use crate::draft::Draft;
use crate::limits::{DRAFT_BYTES_MAX, GATHER_PAYLOAD_BYTES, SEGMENT_HEAD_BYTES};
use crate::node_disk::NodeDisk;
use crate::record::{RECORD_HEAD_BYTES, RecordHead, ZEROS, size_bytes};
use crate::scan::Window;
use crate::segment::{Point, Segment, SegmentHead, SegmentKind, zero};
use crate::shard_files::{create_segment, with_room};
use crate::space::is_full;
use crate::table::{Table, index};

/// The end of a log.
#[derive(Debug)]
pub(crate) struct Tail {
    node: NodeDisk,
    shard: ShardId,
    /// Folder of the segments.
    folder: String,
    table: Arc<Table>,
    active: Arc<Segment>,
    /// Behind the last record, those that are gathered included.
    offset: u64,
    /// Zeros reach up to here.
    filled: u64,
    end: Position,
    stamp: Stamp,
    durable: Index,
    /// What was written from here on no sync of the file covers; a draft may hold it.
    unsynced_from: Option<u64>,
    gather: Gather,
}

/// Where a log ends, as recovery or an install found or made it.
#[derive(Debug)]
pub(crate) struct TailStart {
    pub(crate) active: Arc<Segment>,
    pub(crate) offset: u64,
    pub(crate) filled: u64,
    pub(crate) end: Position,
    pub(crate) stamp: Stamp,
}

/// Why the tail did not do as asked.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The disk is full; nothing was changed.
    Full,
    /// A write or sync failed.
    Failed {
        attempt: &'static str,
        source: io::Error,
    },
}

/// What is to be written with the next vectored write.
#[derive(Debug, Default)]
struct Gather {
    start: u64,
    /// Heads, small payloads and padding, one after the other.
    small: Vec<u8>,
    parts: Vec<Part>,
    records: Vec<Placed>,
}

#[derive(Debug)]
enum Part {
    Small(Range<usize>),
    Payload(Bytes),
}

#[derive(Debug)]
struct Placed {
    point: Point,
    begins: Option<Epoch>,
    end: u64,
}

/// A cut, looked up and not made yet.
#[derive(Debug)]
pub(crate) struct Cut {
    active: Arc<Segment>,
    /// Where the zeros begin.
    from: u64,
    end: Position,
    stamp: Stamp,
}

impl Trouble {
    /// Whether it is about what is on the disk, and not about the disk.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Full => false,
            Self::Failed { source, .. } => source.kind() == io::ErrorKind::InvalidData,
        }
    }
}

impl Tail {
    pub(crate) fn new(
        node: NodeDisk,
        shard: ShardId,
        folder: String,
        table: Arc<Table>,
        start: TailStart,
    ) -> Self {
        Self {
            node,
            shard,
            folder,
            table,
            active: start.active,
            offset: start.offset,
            filled: start.filled,
            durable: start.end.index,
            end: start.end,
            stamp: start.stamp,
            unsynced_from: None,
            gather: Gather::default(),
        }
    }

    pub(crate) fn end(&self) -> Position {
        self.end
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// Gathers an entry; [`Tail::flush`] writes it. On `Full` nothing of it was taken.
    pub(crate) fn place(&mut self, entry: &Entry) -> Result<(), Trouble> {
        assert!(
            entry.index == self.end.index.next() && entry.epoch >= self.end.epoch,
            "entry {} does not follow {}",
            entry.position(),
            self.end
        );
        let size = size_bytes(entry.payload.len());
        let needed = self.offset + size + RECORD_HEAD_BYTES as u64;
        if self.offset > SEGMENT_HEAD_BYTES as u64 && needed > self.active.head.capacity {
            self.roll()?;
        }
        self.fill_to(self.offset + size + RECORD_HEAD_BYTES as u64)?;
        let head = RecordHead::of(entry, self.end.epoch, self.durable, self.offset);
        let point = Point {
            index: entry.index,
            offset: self.offset,
        };
        self.gather
            .push(&head, self.active.head.salt, point, &entry.payload);
        self.gather.records.push(Placed {
            point,
            begins: (entry.epoch != self.end.epoch).then_some(entry.epoch),
            end: self.offset + size,
        });
        self.offset += size;
        self.end = entry.position();
        self.stamp = entry.stamp;
        Ok(())
    }

    /// Writes what is gathered, with one vectored write, and lets readers see it.
    pub(crate) fn flush(&mut self) -> Result<(), Trouble> {
        if self.gather.parts.is_empty() {
            return Ok(());
        }
        let parts = self.gather.slices();
        let written = with_room(&self.node, || {
            self.active.file.write_at(self.gather.start, &parts)
        });
        written.map_err(failed("write entries"))?;
        drop(parts);
        self.unsynced_from.get_or_insert(self.gather.start);
        let mut extent = self.active.extent();
        for placed in self.gather.records.drain(..) {
            extent.push(placed.point, placed.begins, placed.end);
        }
        drop(extent);
        self.gather.small.clear();
        self.gather.parts.clear();
        Ok(())
    }

    /// Makes everything that was placed durable, unless it is so as a draft.
    pub(crate) fn sync(&mut self) -> Result<(), Trouble> {
        if self.durable < self.end.index {
            self.settle()?;
        }
        Ok(())
    }

    /// Makes everything that was placed durable in the segment itself.
    pub(crate) fn settle(&mut self) -> Result<(), Trouble> {
        self.flush()?;
        if self.unsynced_from.is_some() {
            self.active.file.sync().map_err(failed("sync entries"))?;
            self.unsynced_from = None;
        }
        self.durable = self.end.index;
        Ok(())
    }

    /// All that no sync of the segment covers, if anything of it is not durable and it is little.
    pub(crate) fn draft(&self) -> Result<Option<Draft>, Trouble> {
        assert!(self.gather.parts.is_empty(), "what is gathered is written");
        let Some(from) = self.unsynced_from else {
            return Ok(None);
        };
        let size = usize::try_from(self.offset - from).unwrap_or(usize::MAX);
        if self.durable == self.end.index || size > DRAFT_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        let read = self.active.file.read_at(from, &mut bytes);
        if read.map_err(failed("read entries back"))? < size {
            return Ok(None);
        }
        Ok(Some(Draft {
            first: self.active.head.first,
            salt: self.active.head.salt,
            offset: from,
            bytes,
        }))
    }

    /// The draft of what is there is durable.
    pub(crate) fn drafted(&mut self) {
        self.durable = self.end.index;
    }

    /// Writes zeros ahead if few are left, so that the next writes need not. A log that was just opened has as many as this
    /// asks for: of hundreds, the first entry of each must not cost that again.
    pub(crate) fn prepare(&mut self) -> Result<(), Trouble> {
        let ahead = self.node.room().sizes.fill_bytes;
        if self.filled.saturating_sub(self.offset) >= ahead / 2 {
            return Ok(());
        }
        let wanted = (self.offset + ahead).min(self.active.head.capacity);
        match self.fill_to(wanted) {
            // Whoever appends next will be told.
            Err(Trouble::Full) => Ok(()),
            other => other,
        }
    }

    fn fill_to(&mut self, wanted: u64) -> Result<(), Trouble> {
        if wanted <= self.filled {
            return Ok(());
        }
        let piece = self.filled + self.node.room().sizes.fill_bytes;
        let to = wanted.max(piece.min(self.active.head.capacity));
        let from = self.filled;
        let file = self.active.file.as_ref();
        with_room(&self.node, || {
            zero(file, from, to)?;
            file.sync()
        })
        .map_err(full_or_failed("write zeros ahead"))?;
        self.filled = to;
        Ok(())
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> Result<(), Trouble> {
        self.settle()?;
        let old = Arc::clone(&self.active);
        let largest = self.node.room().sizes.segment_max_bytes;
        let head = SegmentHead {
            shard: self.shard,
            kind: SegmentKind::Contiguous,
            first: self.end.index.next(),
            previous: self.end,
            previous_stamp: self.stamp,
            previous_first: old.head.first,
            salt: self.node.salt(),
            capacity: old.head.capacity.saturating_mul(2).min(largest),
            previous_starts: Some(old.extent().starts.clone()),
        };
        let made = create_segment(&self.node, &self.folder, head);
        let (segment, filled) = made.map_err(full_or_failed("create segment"))?;
        let mut seal = Vec::with_capacity(RECORD_HEAD_BYTES);
        RecordHead::seal(segment.head.first, self.end.epoch, self.durable)
            .encode(old.head.salt, &mut seal);
        let sealed = old.file.write_at(self.offset, &[IoSlice::new(&seal)]);
        sealed
            .and_then(|()| old.file.sync())
            .map_err(failed("seal segment"))?;
        self.active = Arc::new(segment);
        self.table.insert(Arc::clone(&self.active));
        self.offset = SEGMENT_HEAD_BYTES as u64;
        self.filled = filled;
        Ok(())
    }

    /// Looks up what a cut after an index would do.
    pub(crate) fn plan_cut(&mut self, after: Index) -> Result<Cut, Trouble> {
        self.settle()?;
        let active = self
            .table
            .find(after.next())
            .expect("a cut is within the log");
        find_cut(active, after).map_err(failed("read where to cut"))
    }

    /// Makes a cut, durable when it returns. The caller noted it durably and takes the note back after.
    pub(crate) fn cut(&mut self, cut: Cut) -> Result<(), Trouble> {
        let first = cut.active.head.first;
        let beyond: Vec<_> = self
            .table
            .all()
            .into_iter()
            .filter(|segment| segment.head.first > first)
            .collect();
        for segment in &beyond {
            self.table.remove(segment.head.first);
        }
        let mut extent = cut.active.extent();
        let written = extent.end.unwrap_or(cut.active.head.capacity) + RECORD_HEAD_BYTES as u64;
        extent.cut(cut.end.index, cut.from);
        drop(extent);
        self.table.raise_version();
        zero(cut.active.file.as_ref(), cut.from, written)
            .and_then(|()| cut.active.file.sync())
            .map_err(failed("zero what was cut"))?;
        for segment in &beyond {
            let path = format!("{}/{}", self.folder, segment.name());
            let retired = self.node.room().retire(&path, segment.head.capacity);
            retired.map_err(failed("remove what was cut"))?;
        }
        self.node
            .disk()
            .sync_folder(&self.folder)
            .map_err(failed("sync folder of segments"))?;
        if !Arc::ptr_eq(&self.active, &cut.active) {
            self.filled = written;
        }
        self.filled = self.filled.max(written);
        self.active = cut.active;
        self.offset = cut.from;
        self.end = cut.end;
        self.stamp = cut.stamp;
        self.durable = cut.end.index;
        self.unsynced_from = None;
        Ok(())
    }
}

impl Gather {
    fn push(&mut self, head: &RecordHead, salt: u64, point: Point, payload: &Bytes) {
        if self.parts.is_empty() {
            self.start = point.offset;
        }
        let begin = self.small.len();
        head.encode(salt, &mut self.small);
        if payload.len() <= GATHER_PAYLOAD_BYTES {
            self.small.extend_from_slice(payload);
            self.close(begin);
        } else {
            self.close(begin);
            self.parts.push(Part::Payload(payload.clone()));
        }
        let size = usize::try_from(head.size_bytes()).expect("payloads are bounded");
        let padding = size - RECORD_HEAD_BYTES - payload.len();
        let begin = self.small.len();
        self.small.extend_from_slice(&ZEROS[..padding]);
        self.close(begin);
    }

    /// Makes what was added to `small` part of what is written, in one piece with what it follows.
    fn close(&mut self, begin: usize) {
        let end = self.small.len();
        match self.parts.last_mut() {
            Some(Part::Small(range)) if range.end == begin => range.end = end,
            _ if end > begin => self.parts.push(Part::Small(begin..end)),
            _ => {}
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            slices.push(match part {
                Part::Small(range) => IoSlice::new(&self.small[range.clone()]),
                Part::Payload(payload) => IoSlice::new(payload),
            });
        }
        slices
    }
}

/// Finds the record of an index that stays, from the nearest point of the sparse index on.
fn find_cut(active: Arc<Segment>, after: Index) -> io::Result<Cut> {
    if after.next() == active.head.first {
        return Ok(Cut {
            from: SEGMENT_HEAD_BYTES as u64,
            end: active.head.previous,
            stamp: active.head.previous_stamp,
            active,
        });
    }
    index(&active)?;
    let mut offset = active.extent().seek(after);
    let mut window = Window::new(active.file.as_ref());
    loop {
        let bytes = window.get(offset, RECORD_HEAD_BYTES)?;
        let head = RecordHead::decode(active.head.salt, bytes).filter(|head| head.index <= after);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an entry is damaged");
        let head = head.ok_or_else(damaged)?;
        offset += head.size_bytes();
        if head.index == after {
            return Ok(Cut {
                from: offset,
                end: Position {
                    epoch: head.epoch,
                    index: head.index,
                },
                stamp: head.stamp,
                active: Arc::clone(&active),
            });
        }
    }
}

fn failed(attempt: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| Trouble::Failed { attempt, source }
}

pub(crate) fn full_or_failed(attempt: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| {
        if is_full(&source) {
            Trouble::Full
        } else {
            Trouble::Failed { attempt, source }
        }
    }
}
