//! What a shard's effects ask of the disk, done on the log's own threads; answers come back through the mailbox.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quorate_log::{
    CheckpointMark, Checkpoints, LogError, NodeDisk, ReadError, ReadRange, Reader, Readers,
    ShardLog, Writers,
};
use quorate_replication::{Entry, Index, Nonce, Position, ShardId, Stamp};
use tracing::{error, warn};

use super::{Item, Shards};
use crate::{
    limits::{DAMAGED_RETRY_MICROS, READ_RETRY_MICROS},
    shard::{
        effect::Read,
        input::{Checkpoint, Input, RequestId, SegmentInfo},
    },
};

/// The disk of this node.
#[derive(Clone, Debug)]
pub(crate) struct DiskAccess {
    /// The data folder.
    pub(crate) folder: std::path::PathBuf,
    /// Its identity and space.
    pub(crate) disk: NodeDisk,
    /// Threads that write.
    pub(crate) writers: Arc<Writers>,
    /// Threads that read the log.
    pub(crate) readers: Arc<Readers>,
    /// One thread that saves and loads checkpoints: slow, and nobody waits for it.
    pub(crate) background: Arc<Readers>,
    /// The checkpoints.
    pub(crate) checkpoints: Checkpoints,
    /// The way back.
    pub(crate) shards: Arc<Shards>,
    /// The transfer that each shard's log is staging: what belongs to another one is not written.
    pub(crate) staged: Arc<Mutex<BTreeMap<ShardId, Nonce>>>,
}

/// Something to read or save for one shard; can be handed in again.
#[derive(Clone, Debug)]
pub(crate) struct ReadJob {
    pub(crate) shard: ShardId,
    pub(crate) reader: Reader,
    pub(crate) task: Task,
    /// Not before this moment, in microseconds.
    pub(crate) not_before: u64,
    pub(crate) is_repeat: bool,
}

/// What.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Read(RequestId, Read),
    LoadCheckpoint(RequestId),
    SaveCheckpoint(Checkpoint),
    ForgetCheckpoint,
    /// Check the closed segment that begins here.
    Verify(Index),
}

/// The disk failed: what is on it is unknown, and this process must not go on.
pub(crate) fn fail_stop(shard: ShardId, error: &dyn std::error::Error) -> ! {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    error!(%shard, %error, cause, "the disk failed; the node stops. Check the disk, then start the node again");
    std::process::exit(74)
}

impl DiskAccess {
    /// Hands a job to its threads; it comes back through the mailbox if there is no room.
    pub(crate) fn start(&self, job: ReadJob) {
        let pool = match job.task {
            Task::Read(..) => &self.readers,
            Task::LoadCheckpoint(_)
            | Task::SaveCheckpoint(_)
            | Task::ForgetCheckpoint
            | Task::Verify(_) => &self.background,
        };
        let mut again = job.clone();
        let this = self.clone();
        if pool.run(Box::new(move || this.carry_out(job))).is_err() {
            again.not_before = quorate_service::clock::monotonic_micros() + READ_RETRY_MICROS;
            self.shards.tell(again.shard, Item::ReadLater(again));
        }
    }

    /// Drops segments, in order with the writes of the shard.
    pub(crate) fn drop_segments(&self, shard: ShardId, firsts: Vec<Index>) {
        let shards = Arc::clone(&self.shards);
        self.on_log(shard, move |log| match log.drop_segments(&firsts) {
            Ok(base) => shards.tell(shard, Item::Input(Input::SegmentsDropped { base })),
            Err(error) => fail_unless_full(shard, &error),
        });
    }

    /// Starts to stage a transfer.
    pub(crate) fn install_begin(
        &self,
        shard: ShardId,
        transfer: Nonce,
        at: Position,
        stamp: Stamp,
    ) {
        let this = self.clone();
        self.on_log(shard, move |log| {
            this.set_staged(shard, None);
            match log.begin_install(at, stamp) {
                Ok(()) => this.set_staged(shard, Some(transfer)),
                Err(error) => this.install_failed(shard, transfer, &error),
            }
        });
    }

    /// Stages entries of a transfer.
    pub(crate) fn install_write(&self, shard: ShardId, transfer: Nonce, entries: Vec<Entry>) {
        let this = self.clone();
        self.on_log(shard, move |log| {
            if !this.is_staged(shard, transfer) {
                return;
            }
            match log.install_entries(&entries) {
                Ok(()) => this
                    .shards
                    .tell(shard, Item::Input(Input::InstallWritten { transfer })),
                Err(error) => this.install_failed(shard, transfer, &error),
            }
        });
    }

    /// Seals what is staged, saves the checkpoint, then switches: in this order a crash at any point leaves either
    /// the old log or the new one with its checkpoint.
    pub(crate) fn install_commit(&self, shard: ShardId, transfer: Nonce, checkpoint: Checkpoint) {
        let this = self.clone();
        self.on_log(shard, move |log| {
            if !this.is_staged(shard, transfer) {
                return;
            }
            if let Err(error) = log.seal_install() {
                this.install_failed(shard, transfer, &error);
                return;
            }
            this.set_staged(shard, None);
            let at = checkpoint.at;
            let mark = CheckpointMark {
                at,
                stamp: checkpoint.stamp,
            };
            if let Err(error) = this.checkpoints.save(shard, mark, &checkpoint.state) {
                fail_stop(shard, &error);
            }
            match log.commit_install() {
                Ok(()) => {
                    let committed = Input::InstallCommitted { transfer, at };
                    this.shards.tell(shard, Item::Input(committed));
                }
                Err(error) => fail_stop(shard, &error),
            }
        });
    }

    fn is_staged(&self, shard: ShardId, transfer: Nonce) -> bool {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.get(&shard) == Some(&transfer)
    }

    fn set_staged(&self, shard: ShardId, transfer: Option<Nonce>) {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        match transfer {
            Some(transfer) => staged.insert(shard, transfer),
            None => staged.remove(&shard),
        };
    }

    fn install_failed(&self, shard: ShardId, transfer: Nonce, error: &LogError) {
        if !error.is_retryable() {
            fail_stop(shard, error);
        }
        warn!(%shard, %error, "checkpoint of the leader cannot be taken");
        self.set_staged(shard, None);
        self.shards
            .tell(shard, Item::Input(Input::InstallFailed { transfer }));
    }

    fn on_log(&self, shard: ShardId, job: impl FnOnce(&mut ShardLog) + Send + 'static) {
        self.writers.run(shard, Box::new(job));
    }

    fn carry_out(&self, job: ReadJob) {
        let shard = job.shard;
        match &job.task {
            Task::Read(request, read) => match read_entries(&job.reader, read) {
                Ok(entries) => {
                    let loaded = Input::Loaded {
                        request: *request,
                        entries,
                    };
                    self.shards.tell(shard, Item::Input(loaded));
                }
                Err(error) => self.read_failed(job, &error),
            },
            Task::LoadCheckpoint(request) => {
                let checkpoint = match self.checkpoints.load(shard) {
                    Ok(found) => found.map(checkpoint_of),
                    Err(error) => {
                        warn!(%shard, %error, "checkpoint cannot be loaded");
                        None
                    }
                };
                let loaded = Input::CheckpointLoaded {
                    request: *request,
                    checkpoint,
                };
                self.shards.tell(shard, Item::Input(loaded));
            }
            Task::SaveCheckpoint(checkpoint) => {
                let mark = CheckpointMark {
                    at: checkpoint.at,
                    stamp: checkpoint.stamp,
                };
                if let Err(error) = self.checkpoints.save(shard, mark, &checkpoint.state) {
                    fail_stop(shard, &error);
                }
                let saved = Input::CheckpointSaved {
                    at: checkpoint.at,
                    segments: closed_segments(&job.reader),
                };
                self.shards.tell(shard, Item::Input(saved));
            }
            Task::Verify(first) => self.verify(shard, &job.reader, *first),
            Task::ForgetCheckpoint => {
                if let Err(error) = self.checkpoints.remove(shard) {
                    fail_stop(shard, &error);
                }
            }
        }
    }

    fn verify(&self, shard: ShardId, reader: &Reader, first: Index) {
        match reader.verify(first) {
            Ok(findings) if findings.is_empty() => {}
            Ok(findings) => {
                for finding in findings {
                    error!(%shard, %finding, "the log is damaged; the replica is impaired and heals from the leader");
                }
                self.shards.tell(shard, Item::Input(Input::Damaged));
            }
            Err(error) => {
                error!(%shard, %error, "a segment cannot be read; the replica is impaired and heals from the leader");
                self.shards.tell(shard, Item::Input(Input::Damaged));
            }
        }
    }

    fn read_failed(&self, mut job: ReadJob, error: &ReadError) {
        if !job.is_repeat {
            error!(shard = %job.shard, %error, "log cannot be read; the replica is impaired and heals from the leader");
            self.shards.tell(job.shard, Item::Input(Input::Damaged));
        }
        job.is_repeat = true;
        job.not_before = quorate_service::clock::monotonic_micros() + DAMAGED_RETRY_MICROS;
        self.shards.tell(job.shard, Item::ReadLater(job));
    }
}

/// A checkpoint, as the shard knows it.
pub(crate) fn checkpoint_of(found: quorate_log::Checkpoint) -> Checkpoint {
    Checkpoint {
        at: found.mark.at,
        stamp: found.mark.stamp,
        state: found.state,
    }
}

fn fail_unless_full(shard: ShardId, error: &LogError) {
    if error.is_retryable() {
        warn!(%shard, %error, "segments stay until there is space");
        return;
    }
    fail_stop(shard, error)
}

fn closed_segments(reader: &Reader) -> Vec<SegmentInfo> {
    let segments = reader
        .segments()
        .into_iter()
        .filter(|segment| !segment.is_tail);
    segments
        .map(|segment| SegmentInfo {
            first: segment.first,
            last: segment.last,
            size_bytes: segment.size_bytes,
        })
        .collect()
}

fn read_entries(reader: &Reader, read: &Read) -> Result<Vec<Entry>, ReadError> {
    match read {
        Read::Range {
            first,
            last,
            max_bytes,
        } => reader.read(ReadRange {
            first: *first,
            last: *last,
            max_bytes: *max_bytes,
        }),
        Read::Entries { indexes, max_bytes } => {
            // In small groups, so that many large entries are not all read only to be thrown away.
            const GROUP: usize = 4;
            let mut entries = Vec::new();
            let mut size_bytes = 0;
            for group in indexes.chunks(GROUP) {
                let found = reader.read_entries(group)?;
                size_bytes += found.iter().map(Entry::cost_bytes).sum::<usize>();
                entries.extend(found);
                if size_bytes >= *max_bytes {
                    break;
                }
            }
            Ok(entries)
        }
    }
}
