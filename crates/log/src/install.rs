//! Replaces a log by what a checkpoint of the leader stands for: a few live entries, and an empty log after it.
//!
//! Everything is staged in a folder beside the log. The steps, each durable before the next:
//!
//! | step | on the disk | a crash after it |
//! |---|---|---|
//! | begin, entries | `staging/` in the making | discarded |
//! | seal | `staging/` with the file `complete` | discarded, unless the checkpoint is saved |
//! | the caller saves the checkpoint | | finished: recovery finds the checkpoint of the staged log |
//! | commit | `log` becomes `old`, `staging` becomes `log` | finished |
//!
//! Promise, bound and flags lie outside of the log's folder and stay.

use std::io::{self, IoSlice};
use std::sync::Arc;

use quorate_replication::{Entry, Epoch, Index, Position, ShardId, Stamp};

use crate::disk::Disk;
use crate::limits::SEGMENT_HEAD_BYTES;
use crate::node_disk::{CheckpointMark, Finding, NodeDisk};
use crate::record::{RECORD_HEAD_BYTES, RecordHead, ZEROS};
use crate::segment::{self, Point, Segment, SegmentHead, SegmentKind};
use crate::shard_files::{LOG, OLD, STAGING, create_segment, folder};
use crate::shard_log::{LogError, ShardLog, failed};
use crate::space::remove_if_there;
use crate::tail::{Tail, TailStart, Trouble, full_or_failed};

const COMPLETE: &str = "complete";

/// A log in the making.
#[derive(Debug)]
pub(crate) struct Staging {
    at: Position,
    stamp: Stamp,
    folder: String,
    /// Those before the last one are sealed.
    segments: Vec<Arc<Segment>>,
    /// Where the next record goes in the last one.
    offset: u64,
    /// The last entry that was staged.
    last: Position,
    sealed: Option<TailStart>,
}

impl ShardLog {
    /// Starts to stage what a checkpoint at `at` stands for. An earlier staging is discarded.
    pub fn begin_install(&mut self, at: Position, stamp: Stamp) -> Result<(), LogError> {
        self.check()?;
        let begun = Staging::begin(&self.node, self.shard, at, stamp);
        match begun {
            Ok(staging) => {
                self.staging = Some(staging);
                Ok(())
            }
            Err(trouble) => self.conclude(Err(trouble), None),
        }
    }

    /// Stages live entries at or below the checkpoint. Over all calls their indexes ascend; gaps are fine.
    pub fn install_entries(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        self.check()?;
        let staging = self.staging.as_mut().expect("an install was begun");
        let outcome = staging.add(&self.node, self.shard, entries);
        self.conclude(outcome, None)
    }

    /// Everything is staged: makes it durable and marks it complete. The checkpoint is to be saved durably after this,
    /// and before [`ShardLog::commit_install`].
    pub fn seal_install(&mut self) -> Result<(), LogError> {
        self.check()?;
        let staging = self.staging.as_mut().expect("an install was begun");
        let outcome = staging.seal(&self.node, self.shard);
        self.conclude(outcome, None)
    }

    /// Switches to what was staged, durably: the log is empty after the checkpoint, the live entries are readable.
    pub fn commit_install(&mut self) -> Result<(), LogError> {
        self.check()?;
        let mut staging = self.staging.take().expect("an install was begun");
        let start = staging.sealed.take().expect("the install was sealed");
        let outcome = self.switch(staging, start);
        self.conclude(outcome, None)
    }

    /// Throws away what was staged. Not after the checkpoint was saved.
    pub fn abandon_install(&mut self) -> Result<(), LogError> {
        self.check()?;
        if let Some(staging) = self.staging.take() {
            let removed = self.node.disk().remove_folder(&staging.folder);
            return self.conclude(removed.map_err(failed("remove staged log")), None);
        }
        Ok(())
    }

    fn switch(&mut self, staging: Staging, start: TailStart) -> Result<(), Trouble> {
        self.tail.settle()?;
        // The durable mark and the draft speak of the log that goes.
        self.files.kept.cuts += 1;
        self.files.marked = Index(0);
        self.files.save_state().map_err(failed("note an install"))?;
        let folder = folder(self.shard);
        let disk = self.node.disk();
        self.table.replace(staging.segments);
        self.table.raise_version();
        exchange(disk, &folder).map_err(failed("switch to the staged log"))?;
        self.base = start.end;
        self.gone = Vec::new();
        let log = self.log_folder();
        self.tail = Tail::new(
            self.node.clone(),
            self.shard,
            log,
            Arc::clone(&self.table),
            start,
        );
        Ok(())
    }
}

impl Staging {
    fn begin(node: &NodeDisk, shard: ShardId, at: Position, stamp: Stamp) -> Result<Self, Trouble> {
        let folder = format!("{}/{STAGING}", folder(shard));
        let disk = node.disk();
        disk.remove_folder(&folder)
            .map_err(failed("remove staged log"))?;
        disk.create_folder(&folder)
            .map_err(full_or_failed("create folder of staged log"))?;
        Ok(Self {
            at,
            stamp,
            folder,
            segments: Vec::new(),
            offset: 0,
            last: Position::default(),
            sealed: None,
        })
    }

    fn add(&mut self, node: &NodeDisk, shard: ShardId, entries: &[Entry]) -> Result<(), Trouble> {
        assert!(
            self.sealed.is_none(),
            "a sealed install takes no more entries"
        );
        for entry in entries {
            assert!(
                entry.index > self.last.index && entry.index <= self.at.index,
                "live entries ascend and lie at or below the checkpoint"
            );
            let active = self.segments.last().map(Arc::clone);
            let needed = self.offset
                + crate::record::size_bytes(entry.payload.len())
                + RECORD_HEAD_BYTES as u64;
            let active = match active {
                Some(active) if needed <= active.head.capacity => active,
                _ => self.next_segment(node, shard, entry.index)?,
            };
            self.append(&active, entry)
                .map_err(full_or_failed("write live entry"))?;
        }
        Ok(())
    }

    fn append(&mut self, active: &Segment, entry: &Entry) -> io::Result<()> {
        let record = RecordHead::of(entry, Epoch(0), Index(0), self.offset);
        let mut head = Vec::with_capacity(RECORD_HEAD_BYTES);
        record.encode(active.head.salt, &mut head);
        let size = usize::try_from(record.size_bytes()).expect("payloads are bounded");
        let padding = &ZEROS[..size - RECORD_HEAD_BYTES - entry.payload.len()];
        let parts = [
            IoSlice::new(&head),
            IoSlice::new(&entry.payload),
            IoSlice::new(padding),
        ];
        active.file.write_at(self.offset, &parts)?;
        let point = Point {
            index: entry.index,
            offset: self.offset,
        };
        self.offset += record.size_bytes();
        active.extent().push(point, None, self.offset);
        self.last = entry.position();
        Ok(())
    }

    fn next_segment(
        &mut self,
        node: &NodeDisk,
        shard: ShardId,
        first: Index,
    ) -> Result<Arc<Segment>, Trouble> {
        self.close()?;
        let sizes = &node.room().sizes;
        let capacity = match self.segments.last() {
            Some(last) => last
                .head
                .capacity
                .saturating_mul(2)
                .min(sizes.segment_max_bytes),
            None => sizes.segment_first_bytes,
        };
        let head = self.head(node, shard, SegmentKind::Sparse, first, capacity);
        let (segment, _) =
            create_segment(node, &self.folder, head).map_err(full_or_failed("create segment"))?;
        let segment = Arc::new(segment);
        self.segments.push(Arc::clone(&segment));
        self.offset = SEGMENT_HEAD_BYTES as u64;
        Ok(segment)
    }

    /// Ends the segment that was written last.
    fn close(&mut self) -> Result<(), Trouble> {
        if let Some(active) = self.segments.last() {
            let mut seal = Vec::with_capacity(RECORD_HEAD_BYTES);
            RecordHead::seal(self.last.index.next(), Epoch(0), Index(0))
                .encode(active.head.salt, &mut seal);
            let written = active.file.write_at(self.offset, &[IoSlice::new(&seal)]);
            written.map_err(full_or_failed("seal segment"))?;
            active.file.sync().map_err(failed("sync live entries"))?;
        }
        Ok(())
    }

    fn seal(&mut self, node: &NodeDisk, shard: ShardId) -> Result<(), Trouble> {
        self.close()?;
        let capacity = node.room().sizes.segment_first_bytes;
        let head = self.head(
            node,
            shard,
            SegmentKind::Contiguous,
            self.at.index.next(),
            capacity,
        );
        let made = create_segment(node, &self.folder, head);
        let (segment, filled) = made.map_err(full_or_failed("create segment"))?;
        let segment = Arc::new(segment);
        self.segments.push(Arc::clone(&segment));
        let disk = node.disk();
        let complete = disk.create(&format!("{}/{COMPLETE}", self.folder));
        complete.map_err(full_or_failed("mark install complete"))?;
        disk.sync_folder(&self.folder)
            .map_err(failed("sync staged log"))?;
        disk.sync_folder(&folder(shard))
            .map_err(failed("sync folder of shard"))?;
        self.sealed = Some(TailStart {
            active: segment,
            offset: SEGMENT_HEAD_BYTES as u64,
            filled,
            end: self.at,
            stamp: self.stamp,
        });
        Ok(())
    }

    fn head(
        &self,
        node: &NodeDisk,
        shard: ShardId,
        kind: SegmentKind,
        first: Index,
        capacity: u64,
    ) -> SegmentHead {
        let before = self.segments.last().map(|segment| segment.head.first);
        let previous = match kind {
            SegmentKind::Contiguous => self.at,
            SegmentKind::Sparse => self.last,
        };
        SegmentHead {
            shard,
            kind,
            first,
            previous,
            previous_stamp: self.stamp,
            previous_first: before.unwrap_or_default(),
            salt: node.salt(),
            capacity,
            previous_starts: Some(Vec::new()),
        }
    }
}

/// Puts the staged log in the place of the log; goes on where a crash interrupted it.
fn exchange(disk: &dyn Disk, shard: &str) -> io::Result<()> {
    let (log, old, staging) = (
        format!("{shard}/{LOG}"),
        format!("{shard}/{OLD}"),
        format!("{shard}/{STAGING}"),
    );
    let names = disk.list(shard)?;
    if names.iter().any(|name| name == LOG) {
        disk.remove_folder(&old)?;
        disk.sync_folder(shard)?;
        disk.rename(&log, &old)?;
        disk.sync_folder(shard)?;
    }
    disk.rename(&staging, &log)?;
    disk.sync_folder(shard)?;
    remove_if_there(disk, &format!("{log}/{COMPLETE}"))?;
    disk.remove_folder(&old)
}

/// Finishes or discards what a crash left of an install.
pub(crate) fn finish(
    disk: &dyn Disk,
    shard: &str,
    checkpoint: CheckpointMark,
) -> io::Result<Option<Finding>> {
    let names = disk.list(shard)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let staging = format!("{shard}/{STAGING}");
    if !has(STAGING) {
        disk.remove_folder(&format!("{shard}/{OLD}"))?;
        return Ok(None);
    }
    let staged = staged_at(disk, &staging)?;
    let saved = staged.is_some_and(|at| at == checkpoint.at);
    if staged.is_some() && (saved || !has(LOG)) {
        exchange(disk, shard)?;
        return Ok(Some(Finding::InstallFinished));
    }
    disk.remove_folder(&staging)?;
    disk.sync_folder(shard)?;
    Ok(Some(Finding::InstallDiscarded))
}

/// The checkpoint that a complete staged log stands for.
fn staged_at(disk: &dyn Disk, staging: &str) -> io::Result<Option<Position>> {
    let names = disk.list(staging)?;
    if !names.iter().any(|name| name == COMPLETE) {
        return Ok(None);
    }
    for name in names {
        if let Some((SegmentKind::Contiguous, _)) = segment::parse_name(&name) {
            let (_, head) = segment::open(disk, &format!("{staging}/{name}"))?;
            return Ok(head.map(|head| head.previous));
        }
    }
    Ok(None)
}
