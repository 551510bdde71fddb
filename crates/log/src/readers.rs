//! A few threads that carry out reads of the backlog, so that the thread that runs a shard never waits for a disk.

use std::fmt;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::limits::WAITING_READS_MAX;

type Read = Box<dyn FnOnce() + Send>;

/// The reader threads. Dropping it ends them after what waits is done.
pub struct Readers {
    reads: Option<SyncSender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

/// Too many reads wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many reads wait; try again later")]
pub struct Busy;

impl Readers {
    /// Starts the threads.
    #[must_use]
    pub fn start(threads: usize) -> Self {
        let (reads, waiting) = mpsc::sync_channel::<Read>(WAITING_READS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |_| {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name("log-reader".to_owned())
                .spawn(move || run(&waiting))
                .expect("the system has threads left at start")
        };
        Self {
            reads: Some(reads),
            threads: (0..threads.max(1)).map(start).collect(),
        }
    }

    /// Runs a read on one of the threads. Never blocks.
    pub fn run(&self, read: Box<dyn FnOnce() + Send>) -> Result<(), Busy> {
        let reads = self.reads.as_ref().ok_or(Busy)?;
        reads.try_send(read).map_err(|_| Busy)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.reads = None;
        for thread in self.threads.drain(..) {
            // A reader that panicked has said so already.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readers({})", self.threads.len())
    }
}

fn run(waiting: &Mutex<Receiver<Read>>) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match next {
            Ok(read) => read(),
            Err(_) => return,
        }
    }
}
