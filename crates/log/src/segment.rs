//! One segment: a file of records behind a head of 4 KiB, named by its first index.
//!
//! A file `<first>.seg` is part of the contiguous log, `<first>.live` holds what an install brought: live entries with
//! gaps between them. A head is durable before the file gets its name, so a segment with a bad head was damaged.
//! Heads are chained by `previous_first`, so that a missing file is noticed without reading the one before it.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_replication::{Epoch, Index, Position, ShardId, Stamp};

use crate::disk::{Disk, DiskFile};
use crate::fields::{Fields, put_u64s};
use crate::limits::{HEAD_EPOCHS_MAX, INDEX_POINT_BYTES, SEGMENT_HEAD_BYTES};
use crate::record::ZEROS;

const MAGIC: u64 = 0x3147_4553_5441_5251;

/// What the records of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// Every index from the first on.
    Contiguous,
    /// Ascending indexes with gaps.
    Sparse,
}

/// The head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) shard: ShardId,
    pub(crate) kind: SegmentKind,
    pub(crate) first: Index,
    /// The entry before the first one.
    pub(crate) previous: Position,
    pub(crate) previous_stamp: Stamp,
    /// First index of the segment before this one; 0: this was the first.
    pub(crate) previous_first: Index,
    /// Seeds the checksums of the records; new for each use of a file.
    pub(crate) salt: u64,
    pub(crate) capacity: u64,
    /// Epochs that begin in the segment before this one. None: too many to name here.
    pub(crate) previous_starts: Option<Vec<EpochStart>>,
}

/// The first entry of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochStart {
    pub(crate) epoch: Epoch,
    pub(crate) first: Index,
}

/// One open segment, shared by the writer and the readers.
pub(crate) struct Segment {
    pub(crate) head: SegmentHead,
    pub(crate) file: Arc<dyn DiskFile>,
    extent: Mutex<Extent>,
}

/// How far a segment reaches, and where its records are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Last index; that before the first while empty.
    pub(crate) last: Index,
    /// Behind the last record. Unknown (none) until a segment found at start is scanned.
    pub(crate) end: Option<u64>,
    /// Index and offset of a record every 32 KiB or so.
    pub(crate) points: Vec<Point>,
    /// Epochs that begin here.
    pub(crate) starts: Vec<EpochStart>,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) index: Index,
    pub(crate) offset: u64,
}

impl Segment {
    pub(crate) fn new(head: SegmentHead, file: Arc<dyn DiskFile>, extent: Extent) -> Self {
        Self {
            head,
            file,
            extent: Mutex::new(extent),
        }
    }

    pub(crate) fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> String {
        file_name(self.head.kind, self.head.first)
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segment({})", self.name())
    }
}

impl Extent {
    /// That of a segment without records.
    pub(crate) fn empty(first: Index) -> Self {
        Self {
            last: first.previous(),
            end: Some(SEGMENT_HEAD_BYTES as u64),
            points: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Takes a record in.
    pub(crate) fn push(&mut self, point: Point, starts: Option<Epoch>, end: u64) {
        let far = |last: &Point| point.offset - last.offset >= INDEX_POINT_BYTES;
        if self.points.last().is_none_or(far) {
            self.points.push(point);
        }
        if let Some(epoch) = starts {
            self.starts.push(EpochStart {
                epoch,
                first: point.index,
            });
        }
        self.last = point.index;
        self.end = Some(end);
    }

    /// Forgets what lies after an index that is kept; `end` is behind its record.
    pub(crate) fn cut(&mut self, after: Index, end: u64) {
        self.last = after;
        self.end = Some(end);
        self.points.retain(|point| point.index <= after);
        self.starts.retain(|start| start.first <= after);
    }

    /// Where to start looking for an index.
    pub(crate) fn seek(&self, index: Index) -> u64 {
        let at = self.points.partition_point(|point| point.index <= index);
        match at.checked_sub(1) {
            Some(at) => self.points[at].offset,
            None => SEGMENT_HEAD_BYTES as u64,
        }
    }
}

impl SegmentHead {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEAD_BYTES);
        let kind = match self.kind {
            SegmentKind::Contiguous => 1,
            SegmentKind::Sparse => 2,
        };
        put_u64s(
            &mut bytes,
            &[
                MAGIC,
                u64::from(self.shard.0),
                kind,
                self.first.0,
                self.previous.epoch.0,
                self.previous.index.0,
                self.previous_stamp.0,
                self.previous_first.0,
                self.salt,
                self.capacity,
            ],
        );
        match &self.previous_starts {
            Some(starts) if starts.len() <= HEAD_EPOCHS_MAX => {
                put_u64s(&mut bytes, &[starts.len() as u64]);
                for start in starts {
                    put_u64s(&mut bytes, &[start.epoch.0, start.first.0]);
                }
            }
            Some(_) | None => put_u64s(&mut bytes, &[u64::MAX]),
        }
        let crc = crc32c::crc32c(&bytes);
        put_u64s(&mut bytes, &[u64::from(crc)]);
        bytes.resize(SEGMENT_HEAD_BYTES, 0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        (fields.u64()? == MAGIC).then_some(())?;
        let shard = ShardId(u32::try_from(fields.u64()?).ok()?);
        let kind = match fields.u64()? {
            1 => SegmentKind::Contiguous,
            2 => SegmentKind::Sparse,
            _ => return None,
        };
        let first = Index(fields.u64()?);
        let previous = Position {
            epoch: Epoch(fields.u64()?),
            index: Index(fields.u64()?),
        };
        let previous_stamp = Stamp(fields.u64()?);
        let previous_first = Index(fields.u64()?);
        let salt = fields.u64()?;
        let capacity = fields.u64()?;
        let count = fields.u64()?;
        let previous_starts = if count == u64::MAX {
            None
        } else {
            (count <= HEAD_EPOCHS_MAX as u64).then_some(())?;
            let mut starts = Vec::new();
            for _ in 0..count {
                starts.push(EpochStart {
                    epoch: Epoch(fields.u64()?),
                    first: Index(fields.u64()?),
                });
            }
            Some(starts)
        };
        let size = bytes.len() - fields.0.len();
        (fields.u64()? == u64::from(crc32c::crc32c(&bytes[..size]))).then_some(())?;
        Some(Self {
            shard,
            kind,
            first,
            previous,
            previous_stamp,
            previous_first,
            salt,
            capacity,
            previous_starts,
        })
    }
}

/// Opens the file of a segment and reads its head; no head if it is damaged.
pub(crate) fn open(
    disk: &dyn Disk,
    path: &str,
) -> io::Result<(Arc<dyn DiskFile>, Option<SegmentHead>)> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; SEGMENT_HEAD_BYTES];
    file.read_at(0, &mut bytes)?;
    Ok((file, SegmentHead::decode(&bytes)))
}

/// Writes zeros over a range of a file.
pub(crate) fn zero(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    const PARTS: usize = 64;
    let mut at = from;
    while at < to {
        let mut parts = Vec::with_capacity(PARTS);
        let begin = at;
        while at < to && parts.len() < PARTS {
            let count = usize::try_from(to - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            parts.push(IoSlice::new(&ZEROS[..count]));
            at += count as u64;
        }
        file.write_at(begin, &parts)?;
    }
    Ok(())
}

/// The name of a segment's file.
pub(crate) fn file_name(kind: SegmentKind, first: Index) -> String {
    match kind {
        SegmentKind::Contiguous => format!("{:020}.seg", first.0),
        SegmentKind::Sparse => format!("{:020}.live", first.0),
    }
}

/// Reads a name written by [`file_name`].
pub(crate) fn parse_name(name: &str) -> Option<(SegmentKind, Index)> {
    let (number, kind) = match name.split_once('.')? {
        (number, "seg") => (number, SegmentKind::Contiguous),
        (number, "live") => (number, SegmentKind::Sparse),
        _ => return None,
    };
    Some((kind, Index(number.parse().ok()?)))
}

/// Segments that were dropped on purpose, from the first index of the first one to the last index of the last one,
/// as an empty file `<first>-<last>.gone`: a gap that it covers is no damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gone {
    pub(crate) first: Index,
    pub(crate) last: Index,
}

impl Gone {
    pub(crate) fn file_name(self) -> String {
        format!("{:020}-{:020}.gone", self.first.0, self.last.0)
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(".gone")?.split_once('-')?;
        Some(Self {
            first: Index(first.parse().ok()?),
            last: Index(last.parse().ok()?),
        })
    }
}
