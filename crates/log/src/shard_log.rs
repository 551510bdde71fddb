//! The log of one shard with its promise and bound: the synchronous core. One owner writes, readers share.
//!
//! Writes are carried out in the order in which they come. Appended entries are durable after [`ShardLog::sync`]; a
//! promise, a bound, a flag or a cut is durable when [`ShardLog::write`] returns, and a promise, a cut and a cleared flag
//! only after everything before them. After a failed write or sync nothing is known of the disk: the log, and with it all
//! logs of the disk, take nothing more.

use std::io;
use std::sync::Arc;

use quorate_replication::{Index, Position, ShardId, Write, WriteId};

use crate::install::Staging;
use crate::node_disk::NodeDisk;
use crate::reader::Reader;
use crate::segment::{Gone, SegmentKind};
use crate::shard_files::{LOG, ShardFiles, folder, with_room};
use crate::space::remove_if_there;
use crate::table::{SegmentStatus, Table};
use crate::tail::{Tail, Trouble};

/// The log of one shard.
#[derive(Debug)]
pub struct ShardLog {
    pub(crate) node: NodeDisk,
    pub(crate) shard: ShardId,
    pub(crate) files: ShardFiles,
    pub(crate) table: Arc<Table>,
    pub(crate) tail: Tail,
    pub(crate) base: Position,
    pub(crate) gone: Vec<Gone>,
    pub(crate) staging: Option<Staging>,
    /// The last write that was carried out.
    written: WriteId,
    /// A write that was refused on a full disk, perhaps after some of its entries were taken.
    refused: Option<WriteId>,
}

/// Why the log did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk and its reserve are full; the log goes on. Of writes, those before `refused` are taken; it and those
    /// after it are to be handed in again once space was freed.
    #[error("disk is full; free space on the data disk")]
    Full {
        /// The first write that was not taken. None: it was no write.
        refused: Option<WriteId>,
    },
    /// A write or sync failed. What is on the disk is unknown; the logs of this disk take nothing more.
    #[error("{attempt}")]
    Failed {
        /// What was tried.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// An earlier write or sync on this disk failed.
    #[error("log is closed since a write to the disk failed; restart the node")]
    Closed,
}

impl LogError {
    /// Whether the same may be tried again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Failed { .. } | Self::Closed => false,
        }
    }
}

/// What recovery hands over.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) files: ShardFiles,
    pub(crate) table: Arc<Table>,
    pub(crate) tail: Tail,
    pub(crate) base: Position,
    pub(crate) gone: Vec<Gone>,
}

impl ShardLog {
    pub(crate) fn new(node: NodeDisk, shard: ShardId, parts: Parts) -> Self {
        Self {
            node,
            shard,
            files: parts.files,
            table: parts.table,
            tail: parts.tail,
            base: parts.base,
            gone: parts.gone,
            staging: None,
            written: WriteId(0),
            refused: None,
        }
    }

    /// Carries out writes in their order.
    pub fn write(&mut self, writes: &[(WriteId, Write)]) -> Result<(), LogError> {
        let mut rest = writes;
        loop {
            let done = self.advance(rest)?;
            rest = &rest[done..];
            if !self.is_staged() {
                return Ok(());
            }
            Self::save_staged([&mut *self])?;
        }
    }

    /// Carries out writes in their order until one has staged a value for this shard's slots, and says how many were
    /// carried out. What is staged is to be saved before anything else is asked of the log; then this goes on with the
    /// rest, be it empty.
    pub(crate) fn advance(&mut self, writes: &[(WriteId, Write)]) -> Result<usize, LogError> {
        self.check()?;
        let mut outcome = Ok(());
        for (done, (id, write)) in writes.iter().enumerate() {
            assert!(
                *id > self.written,
                "writes come in the order of their numbers"
            );
            outcome = self.carry_out(*id, write);
            if outcome.is_err() {
                break;
            }
            self.written = *id;
            self.refused = None;
            if self.is_staged() {
                return Ok(done + 1);
            }
        }
        // What was taken before a refusal is written all the same.
        let outcome = match outcome {
            Ok(()) => self.tail.flush(),
            Err(Trouble::Full) => self.tail.flush().and(Err(Trouble::Full)),
            failed => failed,
        };
        let refused = writes
            .iter()
            .map(|(id, _)| *id)
            .find(|id| *id > self.written);
        if matches!(outcome, Err(Trouble::Full)) {
            self.refused = refused;
        }
        self.conclude(outcome, refused)?;
        Ok(writes.len())
    }

    /// Whether a value of this shard waits to be saved.
    pub(crate) fn is_staged(&self) -> bool {
        self.files.is_staged()
    }

    /// Makes durable what logs of one disk have staged: promises, bounds, flags and drafts of all of them for two syncs.
    pub(crate) fn save_staged<'a>(
        logs: impl IntoIterator<Item = &'a mut Self>,
    ) -> Result<(), LogError> {
        let mut node = None;
        let files = logs.into_iter().map(|log| {
            node.get_or_insert_with(|| log.node.clone());
            &mut log.files
        });
        let outcome = ShardFiles::save_staged(files).map_err(failed("write slots of shards"));
        match node {
            Some(node) => conclude(&node, outcome, None),
            None => Ok(()),
        }
    }

    /// Stages a draft of what is not durable. When it is saved, [`ShardLog::drafted`] is to be told. False: there is nothing,
    /// or too much.
    pub(crate) fn stage_draft(&mut self) -> Result<bool, LogError> {
        self.check()?;
        match self.tail.draft() {
            Ok(Some(draft)) => {
                self.files.stage_draft(&draft);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(trouble) => self.conclude(Err(trouble), None).map(|()| false),
        }
    }

    /// The draft was saved: all that was written is durable.
    pub(crate) fn drafted(&mut self) {
        assert!(!self.is_staged(), "the draft was saved");
        self.tail.drafted();
    }

    /// Makes all that was written durable; returns the last write.
    pub fn sync(&mut self) -> Result<WriteId, LogError> {
        self.check()?;
        assert!(!self.is_staged(), "what is staged is saved first");
        let outcome = self.tail.sync();
        self.conclude(outcome, None)?;
        Ok(self.written)
    }

    /// Gets ready for the next writes: zeros ahead of the tail, a hint of what is durable. Promises nothing; to be
    /// called when the confirms have gone out.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        self.check()?;
        let mut outcome = self.tail.prepare();
        if outcome.is_ok() && self.tail.durable() > self.files.marked {
            let marked = self.files.save_mark(self.tail.durable());
            outcome = marked.map_err(failed("write durable mark"));
        }
        self.conclude(outcome, None)
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The entry before the first one of the contiguous log.
    #[must_use]
    pub fn base(&self) -> Position {
        self.base
    }

    /// The last entry, durable or not.
    #[must_use]
    pub fn end(&self) -> Position {
        self.tail.end()
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.table))
    }

    /// All segments, ascending, those below the base too.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentStatus> {
        self.table.statuses()
    }

    /// Drops the segments named by their first index; names that are not there, and the tail, are passed over. The
    /// caller promises that each holds nothing live and lies wholly at or below the durable checkpoint. Returns the
    /// new base: the entry before the contiguous part that is left.
    pub fn drop_segments(&mut self, firsts: &[Index]) -> Result<Position, LogError> {
        self.check()?;
        let outcome = self.drop_named(firsts);
        self.conclude(outcome, None)?;
        Ok(self.base)
    }

    fn carry_out(&mut self, id: WriteId, write: &Write) -> Result<(), Trouble> {
        match write {
            Write::Append(entries) => {
                for entry in entries {
                    // What a refused attempt had taken already is not taken twice.
                    if self.refused == Some(id) && entry.index <= self.tail.end().index {
                        continue;
                    }
                    self.tail.place(entry)?;
                }
                Ok(())
            }
            Write::Cut { after } => self.cut(*after),
            Write::Promise(claim) => {
                self.tail.sync()?;
                self.files.stage_promise(*claim);
                Ok(())
            }
            Write::Bound(bound) => {
                self.files.kept.bound = Some(*bound);
                self.files.stage_state();
                Ok(())
            }
            Write::Impaired(impaired) => {
                self.tail.sync()?;
                // A record known to be damaged is mended only by opening the log again, with the flag set.
                let stays = self.files.kept.wiped || self.table.is_damaged();
                self.files.kept.impaired = *impaired || stays;
                self.files.stage_state();
                Ok(())
            }
        }
    }

    fn cut(&mut self, after: Index) -> Result<(), Trouble> {
        if after == self.tail.end().index {
            return Ok(());
        }
        assert!(
            after >= self.base.index && after < self.tail.end().index,
            "a cut after {after} is within the log from {} to {}",
            self.base,
            self.tail.end()
        );
        let cut = match self.tail.plan_cut(after) {
            Err(trouble) if trouble.is_damage() => {
                // The node stops over this; when it opens the log again, all of it is checked and cut where it is bad.
                self.files.kept.impaired = true;
                self.files
                    .save_state()
                    .map_err(failed("write impaired flag"))?;
                return Err(trouble);
            }
            planned => planned?,
        };
        self.files.kept.cut = Some(after);
        self.files.kept.cuts += 1;
        self.files.marked = Index(0);
        self.files.save_state().map_err(failed("note a cut"))?;
        self.tail.cut(cut)?;
        self.files.kept.cut = None;
        self.files
            .save_state()
            .map_err(failed("note the end of a cut"))
    }

    fn drop_named(&mut self, firsts: &[Index]) -> Result<(), Trouble> {
        let all = self.table.all();
        let mut dropped = Vec::new();
        let mut gone = self.gone.clone();
        for pair in all.windows(2) {
            let [segment, next] = pair else { continue };
            if firsts.contains(&segment.head.first) {
                gone.push(Gone {
                    first: segment.head.first,
                    last: next.head.first.previous(),
                });
                dropped.push(Arc::clone(segment));
            }
        }
        if dropped.is_empty() {
            return Ok(());
        }
        let gone = join(gone);
        self.save_gone(&gone).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => Trouble::Full,
            _ => failed("note dropped segments")(error),
        })?;
        self.gone = gone;
        for segment in &dropped {
            self.table.remove(segment.head.first);
        }
        self.table.raise_version();
        self.base = contiguous_base(&self.table);
        let folder = self.log_folder();
        for segment in &dropped {
            let path = format!("{folder}/{}", segment.name());
            let retired = self.node.room().retire(&path, segment.head.capacity);
            retired.map_err(failed("remove segment"))?;
        }
        Ok(())
    }

    /// First the new names, durably, then without the old ones that they cover.
    fn save_gone(&self, gone: &[Gone]) -> io::Result<()> {
        let folder = self.log_folder();
        let disk = self.node.disk();
        for gone in gone.iter().filter(|gone| !self.gone.contains(gone)) {
            let path = format!("{folder}/{}", gone.file_name());
            remove_if_there(disk, &path)?;
            with_room(&self.node, || disk.create(&path))?;
        }
        disk.sync_folder(&folder)?;
        for old in self.gone.iter().filter(|old| !gone.contains(old)) {
            disk.remove(&format!("{folder}/{}", old.file_name()))?;
        }
        Ok(())
    }

    pub(crate) fn log_folder(&self) -> String {
        format!("{}/{LOG}", folder(self.shard))
    }

    pub(crate) fn check(&self) -> Result<(), LogError> {
        if self.node.has_failed() {
            return Err(LogError::Closed);
        }
        Ok(())
    }

    /// Closes the logs of the disk for good if something failed.
    pub(crate) fn conclude(
        &self,
        outcome: Result<(), Trouble>,
        refused: Option<WriteId>,
    ) -> Result<(), LogError> {
        conclude(&self.node, outcome, refused)
    }
}

fn conclude(
    node: &NodeDisk,
    outcome: Result<(), Trouble>,
    refused: Option<WriteId>,
) -> Result<(), LogError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Trouble::Full) => Err(LogError::Full { refused }),
        Err(Trouble::Failed { attempt, source }) => {
            node.fail();
            Err(LogError::Failed { attempt, source })
        }
    }
}

/// The entry before the part of the log that has no gaps up to the end.
pub(crate) fn contiguous_base(table: &Table) -> Position {
    let segments = table.all();
    let mut base = Position::default();
    let mut before = None;
    for segment in &segments {
        let linked = before == Some((SegmentKind::Contiguous, segment.head.previous_first));
        if !linked {
            base = segment.head.previous;
        }
        before = Some((segment.head.kind, segment.head.first));
    }
    base
}

/// Joins ranges that touch.
pub(crate) fn join(mut gone: Vec<Gone>) -> Vec<Gone> {
    gone.sort_unstable();
    let mut joined: Vec<Gone> = Vec::with_capacity(gone.len());
    for next in gone {
        match joined.last_mut() {
            Some(last) if next.first <= last.last.next() => last.last = last.last.max(next.last),
            _ => joined.push(next),
        }
    }
    joined
}

pub(crate) fn failed(attempt: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| Trouble::Failed { attempt, source }
}
