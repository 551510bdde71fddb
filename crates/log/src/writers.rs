//! Writer threads: a few per disk, each log served by one of them.
//!
//! **Group commit.** A thread takes everything that waits for its logs, writes it log by log, syncs each log once and
//! reports each at once. Promises, bounds and flags of all its logs share their syncs: each log goes as far as the first of
//! them, then they are saved together, and so on. Where many logs have a little to sync, so do these (`draft.rs`). What comes
//! in meanwhile forms the next group. There are no timers.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use quorate_replication::{ShardId, Write, WriteId};

use crate::limits::{DRAFTS_MIN, WAITING_WRITES_MAX, WRITERS_MAX};
use crate::shard_log::{LogError, ShardLog};

/// Called on a writer thread: everything up to this write is durable, or the log failed, or is full for now.
pub type Completion = Box<dyn Fn(ShardId, Result<WriteId, LogError>) + Send + Sync>;

type Job = Box<dyn FnOnce(&mut ShardLog) + Send>;

/// The writer threads of one disk. Dropping it ends them after what was handed in is done.
pub struct Writers {
    queues: Vec<Arc<Queue>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something waits, or the end has come.
    filled: Condvar,
    /// What waited was taken.
    emptied: Condvar,
}

#[derive(Default)]
struct Waiting {
    tasks: Vec<(ShardId, Task)>,
    writes: usize,
    closed: bool,
}

enum Task {
    Write(Vec<(WriteId, Write)>),
    Run(Job),
    Adopt(Box<ShardLog>),
    Release(mpsc::SyncSender<Option<ShardLog>>),
}

impl Writers {
    /// Starts the threads, at most four.
    #[must_use]
    pub fn start(threads: usize, completion: Completion) -> Self {
        let count = threads.clamp(1, WRITERS_MAX);
        let completion: Arc<Completion> = Arc::new(completion);
        let queues: Vec<Arc<Queue>> = (0..count).map(|_| Arc::default()).collect();
        let start = |queue: &Arc<Queue>| {
            let writer = Writer {
                queue: Arc::clone(queue),
                completion: Arc::clone(&completion),
                logs: BTreeMap::new(),
            };
            thread::Builder::new()
                .name("log-writer".to_owned())
                .spawn(move || writer.run())
                .expect("the system has threads left at start")
        };
        let threads = queues.iter().map(start).collect();
        Self { queues, threads }
    }

    /// Takes a log over.
    pub fn adopt(&self, log: ShardLog) {
        self.hand_in(log.shard(), Task::Adopt(Box::new(log)), 0);
    }

    /// Hands writes in. They are carried out in order and reported through the completion. Blocks only while an
    /// absurd number of writes waits. After `LogError::Full` what was refused is kept, and tried again before
    /// whatever comes next for this shard; an empty call serves to try again.
    pub fn submit(&self, shard: ShardId, writes: Vec<(WriteId, Write)>) {
        let count = writes.len();
        self.hand_in(shard, Task::Write(writes), count);
    }

    /// Runs something on the log, after the writes handed in before it and before those handed in after it.
    pub fn run(&self, shard: ShardId, job: Box<dyn FnOnce(&mut ShardLog) + Send>) {
        self.hand_in(shard, Task::Run(job), 0);
    }

    /// Gives a log back, after everything handed in before is done. None: it is not here. Blocks.
    #[must_use]
    pub fn release(&self, shard: ShardId) -> Option<ShardLog> {
        let (answer, log) = mpsc::sync_channel(1);
        self.hand_in(shard, Task::Release(answer), 0);
        log.recv().ok().flatten()
    }

    fn hand_in(&self, shard: ShardId, task: Task, writes: usize) {
        let queue = &self.queues[shard.0 as usize % self.queues.len()];
        let mut waiting = queue.lock();
        while waiting.writes > WAITING_WRITES_MAX {
            waiting = queue
                .emptied
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.writes += writes;
        waiting.tasks.push((shard, task));
        drop(waiting);
        queue.filled.notify_one();
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.lock().closed = true;
            queue.filled.notify_one();
        }
        for thread in self.threads.drain(..) {
            // A writer that panicked has said so already; there is nothing to add while ending.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writers({})", self.queues.len())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that waits; none at the end.
    fn take(&self) -> Option<Vec<(ShardId, Task)>> {
        let mut waiting = self.lock();
        while waiting.tasks.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self
                .filled
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.writes = 0;
        let tasks = mem::take(&mut waiting.tasks);
        drop(waiting);
        self.emptied.notify_all();
        Some(tasks)
    }
}

/// One thread.
struct Writer {
    queue: Arc<Queue>,
    completion: Arc<Completion>,
    logs: BTreeMap<ShardId, Owned>,
}

struct Owned {
    log: ShardLog,
    /// What waits to be written, in order; more than one group only after a refusal.
    waiting: Vec<(WriteId, Write)>,
    /// So many of them are carried out, and not reported.
    done: usize,
    /// The last group was written and its sync is due.
    due: bool,
}

/// How far one log has come.
enum Advanced {
    /// There is nothing to do, or it was refused or failed and that is reported.
    Nothing,
    /// It has staged something, and goes on when that is saved.
    Staged,
    /// All is written; what is left is to make it durable and to report it.
    Written,
}

impl Writer {
    fn run(mut self) {
        while let Some(tasks) = self.queue.take() {
            for (shard, task) in tasks {
                self.take(shard, task);
            }
            let shards = self.logs.keys().copied().collect();
            self.commit(shards);
            for owned in self.logs.values_mut() {
                if mem::take(&mut owned.due)
                    && let Err(error) = owned.log.prepare()
                {
                    (self.completion)(owned.log.shard(), Err(error));
                }
            }
        }
    }

    fn take(&mut self, shard: ShardId, task: Task) {
        match task {
            Task::Adopt(log) => {
                let owned = Owned {
                    log: *log,
                    waiting: Vec::new(),
                    done: 0,
                    due: false,
                };
                self.logs.insert(shard, owned);
            }
            Task::Write(mut writes) => {
                if let Some(owned) = self.logs.get_mut(&shard) {
                    owned.waiting.append(&mut writes);
                }
            }
            Task::Run(job) => {
                self.commit(vec![shard]);
                if let Some(owned) = self.logs.get_mut(&shard) {
                    job(&mut owned.log);
                }
            }
            Task::Release(answer) => {
                self.commit(vec![shard]);
                let log = self.logs.remove(&shard).map(|owned| owned.log);
                // Whoever asked may have gone; then the log is closed with this.
                drop(answer.send(log));
            }
        }
    }

    /// Writes and syncs what waits for these logs, and reports it.
    fn commit(&mut self, mut shards: Vec<ShardId>) {
        loop {
            let mut written = Vec::new();
            shards.retain(|shard| match self.advance(*shard) {
                Advanced::Staged => true,
                Advanced::Written => {
                    written.push(*shard);
                    false
                }
                Advanced::Nothing => false,
            });
            let drafted = self.stage_drafts(&written);
            if drafted.is_empty() {
                self.report(&written);
                written.clear();
            }
            if !(shards.is_empty() && drafted.is_empty()) {
                // Nothing but these has staged anything.
                let logs = self.logs.values_mut().map(|owned| &mut owned.log);
                if let Err(error) = ShardLog::save_staged(logs) {
                    shards.append(&mut written);
                    return self.fail(&shards, error);
                }
            }
            for shard in drafted {
                if let Some(owned) = self.logs.get_mut(&shard) {
                    owned.log.drafted();
                }
            }
            self.report(&written);
            if shards.is_empty() {
                return;
            }
        }
    }

    /// Goes on with what waits for one log.
    fn advance(&mut self, shard: ShardId) -> Advanced {
        let Some(owned) = self.logs.get_mut(&shard) else {
            return Advanced::Nothing;
        };
        if owned.waiting.is_empty() {
            return Advanced::Nothing;
        }
        owned.due = true;
        match owned.log.advance(&owned.waiting[owned.done..]) {
            Ok(count) => {
                owned.done += count;
                if owned.log.is_staged() {
                    return Advanced::Staged;
                }
                owned.waiting.clear();
                owned.done = 0;
                return Advanced::Written;
            }
            Err(LogError::Full { refused }) => {
                owned.waiting.retain(|(id, _)| Some(*id) >= refused);
                // What was taken before the refusal counts.
                (self.completion)(shard, owned.log.sync());
                (self.completion)(shard, Err(LogError::Full { refused }));
            }
            Err(error) => {
                owned.waiting.clear();
                (self.completion)(shard, Err(error));
            }
        }
        owned.done = 0;
        Advanced::Nothing
    }

    /// Stages drafts where many logs have something to sync, and says for which.
    fn stage_drafts(&mut self, written: &[ShardId]) -> Vec<ShardId> {
        if written.len() < DRAFTS_MIN {
            return Vec::new();
        }
        let mut drafted = written.to_vec();
        drafted.retain(|shard| {
            let owned = self.logs.get_mut(shard);
            // An error closes the log, and is told by what it is asked next.
            owned.is_some_and(|owned| owned.log.stage_draft().unwrap_or(false))
        });
        drafted
    }

    /// Makes durable what these logs have written, as far as it is not, and reports it.
    fn report(&mut self, written: &[ShardId]) {
        for shard in written {
            if let Some(owned) = self.logs.get_mut(shard) {
                (self.completion)(*shard, owned.log.sync());
            }
        }
    }

    /// The disk failed while values of these logs were saved: each is told, the first why.
    fn fail(&mut self, shards: &[ShardId], error: LogError) {
        let later = shards.iter().skip(1).map(|_| LogError::Closed);
        for (shard, error) in shards.iter().zip([error].into_iter().chain(later)) {
            if let Some(owned) = self.logs.get_mut(shard) {
                owned.waiting.clear();
                owned.done = 0;
            }
            (self.completion)(*shard, Err(error));
        }
    }
}
