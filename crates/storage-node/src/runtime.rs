//! The threads that run shards, and the way to each shard.
//!
//! A worker is a thread with a current-thread runtime; a shard is one task on one of them for as long as the process
//! lives, spread by its number. Everything reaches a shard through its mailbox, and nothing else touches its state.

mod carry;
mod disk;
mod shard_task;
mod traced;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
};

use quorate_broker::{Scheduled, SessionId};
use quorate_message::{Destination, DestinationName, MessagePosition};
use quorate_proto::internal::v1::{self as proto, AttendRequest};
use quorate_replication::{
    Duration, Epoch, Index, NodeId, Nonce, PeerStatus, Position, Report, RoleName, ShardId, Time,
};
use tokio::{runtime, sync::oneshot};
use tracing::Span;

pub(crate) use self::{
    disk::{DiskAccess, checkpoint_of, fail_stop},
    shard_task::ShardTask,
};
use crate::{
    frames::Costed,
    mailbox::{Mailbox, Refused},
    metrics::Metrics,
    peer::Peers,
    routes::Routes,
    sessions::Sessions,
    shard::{
        effect::BrowsePage,
        input::{BrowseQuery, ClockJudgement, Input, Submission},
        moving::{MovePage, MoveQuery},
    },
};

/// What reaches a shard.
#[derive(Debug)]
pub(crate) enum Item {
    /// A fact for the machine.
    Input(Input),
    /// A batch with its span; those that wait together become one input.
    Submit(Submission, Span),
    /// A question about its state.
    Question(Question),
    /// A read failed or found no room in the queue: to be tried again.
    ReadLater(disk::ReadJob),
    /// The log did not take a write for want of space.
    DiskFull,
}

/// A question about a shard's state.
#[derive(Debug)]
pub(crate) enum Question {
    /// Its queues with a prefix; none when it does not serve.
    Queues {
        /// The prefix.
        prefix: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Vec<proto::QueueStatus>>>,
    },
    /// Its topics with a prefix; none when it does not serve.
    Topics {
        /// The prefix.
        prefix: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Vec<proto::TopicStatus>>>,
    },
    /// Its subscriptions; none when it does not serve.
    Subscriptions {
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Vec<proto::SubscriptionStatus>>>,
    },
    /// Messages that wait for their time; none when it does not serve.
    Scheduled {
        /// Where.
        destination: Destination,
        /// The one behind which to begin: when it is due, and itself.
        after: Option<(u64, MessagePosition)>,
        /// How many, at most.
        limit: usize,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Vec<Scheduled>>>,
    },
    /// A page of a queue.
    Browse {
        /// Which; its number is given here.
        query: BrowseQuery,
        /// Where the answer goes.
        answer: oneshot::Sender<BrowsePage>,
    },
    /// A page of a queue is to be moved.
    Move {
        /// Which; its number is given here.
        query: Box<MoveQuery>,
        /// Where the answer goes.
        answer: oneshot::Sender<MovePage>,
    },
    /// What is on its way to other destinations; none when it does not serve.
    Outbox {
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Vec<proto::OutboxTarget>>>,
    },
    /// Why a name cannot leave it; empty when it can, none when it does not serve.
    Obstacle {
        /// The name.
        name: DestinationName,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<String>>,
    },
    /// Bring what is published up to date.
    Status,
}

/// What a shard publishes of itself after each round.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// When, by the monotonic clock in microseconds.
    pub(crate) at_micros: u64,
    /// Its role.
    pub(crate) role: RoleName,
    /// Its epoch.
    pub(crate) epoch: Epoch,
    /// Leads and serves.
    pub(crate) is_serving: bool,
    /// The leader that it hears.
    pub(crate) hears: Option<NodeId>,
    /// A write waits for too long.
    pub(crate) is_disk_stalled: bool,
    /// Neither leads nor counts.
    pub(crate) is_impaired: bool,
    /// Without a promise.
    pub(crate) is_wiped: bool,
    /// It stopped for good.
    pub(crate) is_halted: bool,
    /// End of what is durable.
    pub(crate) durable: Index,
    /// End of what is committed.
    pub(crate) commit: Index,
    /// End of what is applied.
    pub(crate) applied: Index,
    /// The entry before the log's first one.
    pub(crate) base: Position,
    /// Version of the settings that it goes by.
    pub(crate) settings_version: u64,
    /// As leader: the others, and whether each has answered lately.
    pub(crate) peers: Vec<(PeerStatus, bool)>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            at_micros: 0,
            role: RoleName::Idle,
            epoch: Epoch(0),
            is_serving: false,
            hears: None,
            is_disk_stalled: false,
            is_impaired: false,
            is_wiped: false,
            is_halted: false,
            durable: Index(0),
            commit: Index(0),
            applied: Index(0),
            base: Position::default(),
            settings_version: 0,
            peers: Vec::new(),
        }
    }
}

/// The way to one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardHandle {
    /// What waits for it.
    pub(crate) mailbox: Arc<Mailbox<Item>>,
    /// What it published last.
    pub(crate) published: Arc<Mutex<Published>>,
}

impl ShardHandle {
    /// The answer to a probe, from what the shard published within this time; none when it must say itself.
    pub(crate) fn probed(&self, nonce: Nonce, fresh: Duration, now: Time) -> Option<Report> {
        let published = self.lock();
        let has_published = published.at_micros > 0;
        let is_fresh = has_published && now.since(Time(published.at_micros)) < fresh;
        (is_fresh && !published.is_halted).then_some(Report::Probed {
            nonce,
            impaired: published.is_impaired,
            wiped: published.is_wiped,
        })
    }

    /// What it published last.
    pub(crate) fn status(&self) -> Published {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shards of this node.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    by_id: RwLock<BTreeMap<ShardId, ShardHandle>>,
    /// What is thought of this node's wall clock.
    clock: Mutex<ClockJudgement>,
}

impl Shards {
    /// The way to a shard.
    pub(crate) fn get(&self, shard: ShardId) -> Option<ShardHandle> {
        let shards = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        shards.get(&shard).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(ShardId, ShardHandle)> {
        let shards = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .map(|(shard, handle)| (*shard, handle.clone()))
            .collect()
    }

    /// Makes a shard known. Replaces nothing: a shard is opened once.
    pub(crate) fn insert(&self, shard: ShardId, handle: ShardHandle) {
        let mut shards = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = Item::Input(Input::ClockJudged(clock));
        handle.mailbox.push_always([judged], 0);
        let before = shards.insert(shard, handle);
        assert!(before.is_none(), "shard {shard} was opened twice");
    }

    /// Tells every shard, also those that are opened later, what is thought of this node's wall clock. Whether that is
    /// news.
    pub(crate) fn judge_clock(&self, judgement: ClockJudgement) -> bool {
        // Held until all are told: a shard that is opened meanwhile is told once.
        let shards = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = std::mem::replace(&mut *clock, judgement) != judgement;
        for handle in shards.values().filter(|_| is_news) {
            let judged = Item::Input(Input::ClockJudged(judgement));
            handle.mailbox.push_always([judged], 0);
        }
        is_news
    }

    /// Adds something that must not be lost: the disk's answers.
    pub(crate) fn tell(&self, shard: ShardId, item: Item) {
        if let Some(handle) = self.get(shard) {
            handle.mailbox.push_always([item], 0);
        }
    }

    /// Adds something that may be refused.
    pub(crate) fn offer(
        &self,
        shard: ShardId,
        items: Vec<Item>,
        size_bytes: usize,
    ) -> Result<(), Refused> {
        let handle = self.get(shard).ok_or(Refused::Closed)?;
        handle.mailbox.push(items, size_bytes)
    }

    /// Tells every shard that a session is gone.
    pub(crate) fn session_lost(&self, session: SessionId) {
        for (_, handle) in self.all() {
            let lost = Item::Input(Input::SessionLost { session });
            handle.mailbox.push_always([lost], 0);
        }
    }
}

/// What every shard task needs of the node.
#[derive(Debug)]
pub(crate) struct NodeParts {
    /// All shards.
    pub(crate) shards: Arc<Shards>,
    /// Links to the other nodes.
    pub(crate) peers: Arc<Peers>,
    /// Where the leaders of shards are.
    pub(crate) routes: Routes,
    /// Connected gateways.
    pub(crate) sessions: Arc<Sessions>,
    /// What goes to the coordinator.
    pub(crate) coordinator: Arc<Mailbox<Costed<AttendRequest>>>,
    /// The disk.
    pub(crate) disk: DiskAccess,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// A peer that has not answered for this long is not counted on.
    pub(crate) node_timeout: Duration,
}

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<runtime::Handle>,
}

impl Workers {
    /// Starts so many threads. They run until the process ends.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let mut handles = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let runtime = runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            handles.push(runtime.handle().clone());
            thread::Builder::new()
                .name(format!("shards-{number}"))
                .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        }
        Ok(Self { handles })
    }

    /// Runs a shard from here on.
    pub(crate) fn run(&self, shard: ShardId, task: ShardTask) {
        let worker = shard.0 as usize % self.handles.len();
        drop(self.handles[worker].spawn(task.run()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_answered_for_a_shard_that_published_lately_and_goes_on() {
        let handle = ShardHandle {
            mailbox: Arc::new(Mailbox::new(1)),
            published: Arc::default(),
        };
        let probed = |published: Published, now| {
            *handle.lock() = published;
            handle.probed(Nonce(7), Duration(10), Time(now))
        };
        let at = |at_micros| Published {
            at_micros,
            ..Published::default()
        };
        let answer = |impaired, wiped| {
            Some(Report::Probed {
                nonce: Nonce(7),
                impaired,
                wiped,
            })
        };
        assert_eq!(probed(at(90), 99), answer(false, false));
        assert_eq!(probed(at(90), 100), None);
        assert_eq!(probed(at(0), 5), None, "it has published nothing yet");
        let impaired = Published {
            is_impaired: true,
            ..at(90)
        };
        assert_eq!(probed(impaired, 99), answer(true, false));
        let wiped = Published {
            is_wiped: true,
            is_impaired: true,
            ..at(90)
        };
        assert_eq!(probed(wiped, 99), answer(true, true));
        let halted = Published {
            is_halted: true,
            ..at(90)
        };
        assert_eq!(probed(halted, 99), None);
    }
}
