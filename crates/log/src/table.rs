//! The segments of a log, shared by the writer and the readers.
//!
//! The writer first takes out of the table what it is about to remove, then raises the version, then touches the
//! files. A reader that meets a bad record while the version has moved since it began looked at something that was
//! being removed; if the version has not moved, the record is damaged.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_replication::Index;

use crate::scan::scan;
use crate::segment::{Segment, SegmentKind};

/// One segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStatus {
    /// First index; names the segment.
    pub first: Index,
    /// Last index it holds; that before `first` while it is empty.
    pub last: Index,
    /// Bytes on the disk.
    pub size_bytes: u64,
    /// The one that is written; never dropped.
    pub is_tail: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    segments: Mutex<BTreeMap<Index, Arc<Segment>>>,
    version: AtomicU64,
    damaged: AtomicBool,
}

impl Table {
    pub(crate) fn new(segments: impl IntoIterator<Item = Arc<Segment>>) -> Self {
        let table = Self::default();
        table.replace(segments);
        table
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.lock().insert(segment.head.first, segment);
    }

    pub(crate) fn remove(&self, first: Index) -> Option<Arc<Segment>> {
        self.lock().remove(&first)
    }

    pub(crate) fn replace(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        let segments = segments
            .into_iter()
            .map(|segment| (segment.head.first, segment));
        *self.lock() = segments.collect();
    }

    /// To be called after something was taken out, before its bytes change.
    pub(crate) fn raise_version(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Remembers that a record was found damaged. Forgotten when the log is opened again and cut there.
    pub(crate) fn note_damage(&self) {
        self.damaged.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::SeqCst)
    }

    /// The segment that holds an index if any does.
    pub(crate) fn find(&self, index: Index) -> Option<Arc<Segment>> {
        let segments = self.lock();
        let (_, segment) = segments.range(..=index).next_back()?;
        Some(Arc::clone(segment))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn statuses(&self) -> Vec<SegmentStatus> {
        let segments = self.all();
        let tail = segments.last().map(|segment| segment.head.first);
        let status = |segment: &Arc<Segment>| {
            let extent = segment.extent();
            SegmentStatus {
                first: segment.head.first,
                last: extent.last,
                size_bytes: extent.end.unwrap_or(segment.head.capacity),
                is_tail: Some(segment.head.first) == tail,
            }
        };
        segments.iter().map(status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Index, Arc<Segment>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out where the records of a segment are if that is not known yet.
pub(crate) fn index(segment: &Segment) -> io::Result<()> {
    if segment.extent().end.is_some() {
        return Ok(());
    }
    let found = scan(&segment.head, segment.file.as_ref(), Index(u64::MAX))?;
    let mut extent = segment.extent();
    if extent.end.is_none() {
        let last = match segment.head.kind {
            // What the successor says; if the records end before, a read finds the damage.
            SegmentKind::Contiguous => extent.last,
            SegmentKind::Sparse => found.extent.last,
        };
        *extent = found.extent;
        extent.last = last;
    }
    Ok(())
}
