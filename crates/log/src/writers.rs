//! SIGNATURES, bodies follow.
use quorate_replication::{ShardId, Write, WriteId};

use crate::{LogError, ShardLog};

/// Called on a writer thread: everything up to this write is durable, or the log failed.
pub type Completion = Box<dyn Fn(ShardId, Result<WriteId, LogError>) + Send + Sync>;

/// Up to four threads that write the logs of one disk; each log is served by one.
#[derive(Debug)]
pub struct Writers {}

impl Writers {
    /// Starts the threads.
    pub fn start(threads: usize, completion: Completion) -> Self { todo!() }
    /// Takes a log over.
    pub fn adopt(&self, log: ShardLog) { todo!() }
    /// Hands writes in; they are carried out in order and reported through the completion. Never blocks. After
    /// `LogError::Full` the refused writes are kept and tried again with each later call for this shard.
    pub fn submit(&self, shard: ShardId, writes: Vec<(WriteId, Write)>) { todo!() }
    /// Runs something on the log between writes, in order with them: dropping segments, installing.
    pub fn run(&self, shard: ShardId, job: Box<dyn FnOnce(&mut ShardLog) + Send>) { todo!() }
    /// Gives a log back, after everything handed in before is done.
    pub fn release(&self, shard: ShardId) -> Option<ShardLog> { todo!() }
}

/// A few threads that carry out reads.
#[derive(Debug)]
pub struct Readers {}

/// Too many reads wait.
#[derive(Debug, thiserror::Error)]
#[error("too many reads wait; try again")]
pub struct Busy;

impl Readers {
    /// Starts the threads.
    pub fn start(threads: usize) -> Self { todo!() }
    /// Runs a read on one of them.
    pub fn run(&self, read: Box<dyn FnOnce() + Send>) -> Result<(), Busy> { todo!() }
}
