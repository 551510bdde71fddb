//! The task that owns one shard: collect what has arrived, step each input, hand all writes to the log at once, carry
//! out what is released, sleep until the next deadline.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quorate_log::{Reader, Space};
use quorate_message::DestinationKind;
use quorate_proto::internal::v1 as proto;
use quorate_replication::{Index, Nonce, ShardId, Stamp, Time, WriteId};
use quorate_service::{clock, panic};
use tokio::sync::oneshot;
use tracing::{Span, error, info_span, warn};

use super::{
    Item, NodeParts, Published, Question, ShardHandle,
    carry::Outgoing,
    disk::{ReadJob, Task},
    traced::TracedBatches,
};
use crate::{
    limits::{COUNT_MICROS, ROUND_INPUTS_MAX, SCRUB_MICROS, SPACE_RETRY_MICROS},
    mailbox::Mailbox,
    metrics::ShardMetrics,
    shard::{
        Shard,
        effect::{Act, BrowsePage, Effect},
        input::{Clock, Input, Submission},
        moving::MovePage,
    },
};

/// One shard with everything that carries out its effects.
pub(crate) struct ShardTask {
    pub(super) id: ShardId,
    pub(super) shard: Shard,
    pub(super) parts: Arc<NodeParts>,
    pub(super) mailbox: Arc<Mailbox<Item>>,
    published: Arc<Mutex<Published>>,
    pub(super) reader: Reader,
    pub(super) metrics: ShardMetrics,
    /// Everything up to this write is durable.
    durable: WriteId,
    /// Acts that wait for a write.
    held: BTreeMap<WriteId, Vec<Act>>,
    /// Writes of this round.
    writes: Vec<(WriteId, quorate_replication::Write)>,
    /// When writes were handed in, for the time they take.
    written_at: BTreeMap<WriteId, u64>,
    pub(super) outgoing: Outgoing,
    pub(super) traced: TracedBatches,
    read_later: Vec<ReadJob>,
    pub(super) browses: BTreeMap<u64, oneshot::Sender<BrowsePage>>,
    pub(super) moves: BTreeMap<u64, oneshot::Sender<MovePage>>,
    last_query: u64,
    is_space_low: bool,
    space_checked_at: u64,
    counted_at: u64,
    /// The closed segment that was checked last.
    scrubbed: Index,
    scrub_at: u64,
    span: Span,
}

impl ShardTask {
    /// A task for an opened shard, and the way to it.
    pub(crate) fn new(
        id: ShardId,
        shard: Shard,
        reader: Reader,
        parts: Arc<NodeParts>,
    ) -> (Self, ShardHandle) {
        let handle = ShardHandle {
            mailbox: Arc::new(Mailbox::new(crate::limits::SHARD_INBOX_BYTES)),
            published: Arc::new(Mutex::default()),
        };
        let mut task = Self {
            id,
            shard,
            metrics: parts.metrics.shard(id),
            parts,
            mailbox: Arc::clone(&handle.mailbox),
            published: Arc::clone(&handle.published),
            reader,
            durable: WriteId(0),
            held: BTreeMap::new(),
            writes: Vec::new(),
            written_at: BTreeMap::new(),
            outgoing: Outgoing::default(),
            traced: TracedBatches::default(),
            read_later: Vec::new(),
            browses: BTreeMap::new(),
            moves: BTreeMap::new(),
            last_query: 0,
            is_space_low: false,
            space_checked_at: 0,
            counted_at: 0,
            scrubbed: Index(0),
            scrub_at: clock::monotonic_micros() + SCRUB_MICROS,
            span: info_span!("shard", shard = id.0),
        };
        task.publish(clock::monotonic_micros());
        (task, handle)
    }

    /// Runs until the process ends, or the shard must stop.
    pub(crate) async fn run(mut self) {
        let mut waiting: Vec<Item> = Vec::new();
        let mut effects: Vec<Effect> = Vec::new();
        loop {
            if waiting.is_empty() {
                let wait = self.wait_micros(clock::monotonic_micros());
                let taken = self.mailbox.take(&mut waiting);
                match tokio::time::timeout(Duration::from_micros(wait), taken).await {
                    Ok(Some(())) | Err(_) => {}
                    Ok(None) => return,
                }
            }
            let count = waiting.len().min(ROUND_INPUTS_MAX);
            // Taken for the round: a clone of it is counted.
            let span = std::mem::replace(&mut self.span, Span::none());
            let result = span.in_scope(|| self.round(waiting.drain(..count), &mut effects));
            self.span = span;
            if let Err(reason) = result {
                error!(shard = %self.id, reason, "a committed entry cannot be applied; the shard stops on this node");
                self.stop();
                return;
            }
            // Other shards on this thread get their turn, also under load.
            tokio::task::yield_now().await;
        }
    }

    fn wait_micros(&self, now: u64) -> u64 {
        const IDLE: u64 = 1_000_000;
        let mut wait = IDLE;
        if let Some(Time(deadline)) = self.shard.next_deadline() {
            wait = wait.min(deadline.saturating_sub(now));
        }
        for job in &self.read_later {
            wait = wait.min(job.not_before.saturating_sub(now));
        }
        if self.is_space_low {
            wait = wait.min((self.space_checked_at + SPACE_RETRY_MICROS).saturating_sub(now));
        }
        wait
    }

    fn round(
        &mut self,
        items: impl Iterator<Item = Item>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let now = clock_now();
        let mut submissions: Vec<Submission> = Vec::new();
        for item in items {
            match item {
                Item::Input(Input::Persisted(write)) => {
                    self.persisted(now, write);
                    self.step(now, Input::Persisted(write), effects)?;
                }
                Item::Input(input) => self.step(now, input, effects)?,
                Item::Submit(submission, span) => {
                    self.traced
                        .begin((submission.session, submission.number), span);
                    submissions.push(submission);
                }
                Item::Question(question) => self.question(now, question, effects)?,
                Item::ReadLater(job) => self.read_later.push(job),
                Item::DiskFull => self.disk_full(now, effects)?,
            }
        }
        // After everything else: what became durable has made room by then.
        if !submissions.is_empty() {
            self.step(now, Input::Submitted(submissions), effects)?;
        }
        if self
            .shard
            .next_deadline()
            .is_some_and(|deadline| deadline <= now.time)
        {
            let nonce = Nonce(getrandom::u64().expect("the system has randomness"));
            self.step(now, Input::Elapsed { nonce }, effects)?;
        }
        self.space(now, effects)?;
        self.read_again(now);
        self.finish(now);
        Ok(())
    }

    /// Steps the machine and takes its effects up. A panic while an entry is applied stops this shard; any other
    /// is a broken invariant and ends the process.
    fn step(&mut self, now: Clock, input: Input, effects: &mut Vec<Effect>) -> Result<(), String> {
        let shard = &mut self.shard;
        let result = panic::caught(|| shard.step(now, input, effects));
        if let Err(reason) = result {
            if shard.is_applying() {
                return Err(reason);
            }
            error!(shard = %self.id, reason, "an invariant is broken; the process aborts");
            std::process::abort();
        }
        for effect in effects.drain(..) {
            match (effect.after, effect.act) {
                (_, Act::Persist { id, write }) => self.writes.push((id, write)),
                (Some(write), act) if write > self.durable => {
                    self.held.entry(write).or_default().push(act);
                }
                (_, act) => self.carry_out(act),
            }
        }
        Ok(())
    }

    fn persisted(&mut self, now: Clock, write: WriteId) {
        self.durable = self.durable.max(write);
        let later = self.held.split_off(&WriteId(self.durable.0 + 1));
        let released = std::mem::replace(&mut self.held, later);
        for act in released.into_values().flatten() {
            self.carry_out(act);
        }
        let later = self.written_at.split_off(&WriteId(self.durable.0 + 1));
        let done = std::mem::replace(&mut self.written_at, later);
        if let Some(since) = done.into_values().next() {
            self.metrics.wrote(now.time.0.saturating_sub(since));
        }
    }

    fn question(
        &mut self,
        now: Clock,
        question: Question,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match question {
            Question::Queues { prefix, answer } => {
                let queues = self.shard.is_serving().then(|| self.queues(&prefix));
                // The one who asked may be gone.
                drop(answer.send(queues));
                Ok(())
            }
            Question::Topics { prefix, answer } => {
                let topics = self.shard.is_serving().then(|| self.topics(&prefix));
                drop(answer.send(topics));
                Ok(())
            }
            Question::Subscriptions { answer } => {
                let subscriptions = self.shard.is_serving().then(|| self.subscriptions());
                drop(answer.send(subscriptions));
                Ok(())
            }
            Question::Scheduled {
                destination,
                after,
                limit,
                answer,
            } => {
                let broker = self.shard.broker();
                let page = || broker.scheduled(&destination, after, limit);
                // The one who asked may be gone.
                drop(answer.send(self.shard.is_serving().then(page)));
                Ok(())
            }
            Question::Browse { mut query, answer } => {
                self.last_query += 1;
                query.query = self.last_query;
                self.browses.insert(query.query, answer);
                self.step(now, Input::Browse(query), effects)
            }
            Question::Move { mut query, answer } => {
                self.last_query += 1;
                query.query = self.last_query;
                self.moves.insert(query.query, answer);
                self.step(now, Input::Move(query), effects)
            }
            Question::Outbox { answer } => {
                let targets = self.shard.is_serving().then(|| self.outbox());
                drop(answer.send(targets));
                Ok(())
            }
            Question::Obstacle { name, answer } => {
                let obstacle = self.shard.broker().obstacle(&name);
                let obstacle = obstacle.map_or_else(String::new, |why| why.to_string());
                drop(answer.send(self.shard.is_serving().then_some(obstacle)));
                Ok(())
            }
            Question::Status => {
                if now.time.0 >= self.counted_at + COUNT_MICROS {
                    self.counted_at = now.time.0;
                    let queues = self.shard.broker().queues();
                    let lost = self.shard.broker().counters().transient_lost;
                    self.metrics.lost(lost);
                    self.metrics.on_the_way(self.shard.broker().outbox_count());
                    self.metrics
                        .stored(queues.into_iter().map(|queue| queue.messages).sum());
                }
                self.scrub(now.time.0);
                Ok(())
            }
        }
    }

    /// Checks one closed segment now and then, round and round.
    fn scrub(&mut self, now_micros: u64) {
        if now_micros < self.scrub_at {
            return;
        }
        self.scrub_at = now_micros + SCRUB_MICROS;
        let segments = self.reader.segments();
        let closed = || segments.iter().filter(|segment| !segment.is_tail);
        let next = closed()
            .find(|segment| segment.first > self.scrubbed)
            .or_else(|| closed().next());
        if let Some(segment) = next {
            self.scrubbed = segment.first;
            self.start(Task::Verify(segment.first));
        }
    }

    fn queues(&self, prefix: &str) -> Vec<proto::QueueStatus> {
        let queues = self.shard.broker().queues();
        queues
            .into_iter()
            .filter(|queue| queue.name.as_str().starts_with(prefix))
            .map(|queue| crate::convert::session::encode_queue(self.id, &queue))
            .collect()
    }

    fn outbox(&self) -> Vec<proto::OutboxTarget> {
        let targets = self.shard.broker().outbox();
        targets
            .map(|target| crate::convert::moving::encode_target(self.id, &target))
            .collect()
    }

    fn topics(&self, prefix: &str) -> Vec<proto::TopicStatus> {
        let topics = self.shard.broker().topics();
        topics
            .into_iter()
            .filter(|topic| topic.name.as_str().starts_with(prefix))
            .map(|topic| crate::convert::session::encode_topic(self.id, &topic))
            .collect()
    }

    fn subscriptions(&self) -> Vec<proto::SubscriptionStatus> {
        let broker = self.shard.broker();
        let subscriptions = broker.statuses(DestinationKind::Subscription).into_iter();
        subscriptions
            .filter_map(|status| {
                let subscription = broker.subscription(&status.name)?;
                let id = self.id;
                Some(crate::convert::session::encode_subscription(
                    id,
                    &status,
                    subscription,
                ))
            })
            .collect()
    }

    fn disk_full(&mut self, now: Clock, effects: &mut Vec<Effect>) -> Result<(), String> {
        if self.is_space_low {
            return Ok(());
        }
        warn!("the disk is full: new messages are refused until there is space");
        self.is_space_low = true;
        self.space_checked_at = now.time.0;
        self.step(now, Input::Space { is_low: true }, effects)
    }

    /// Looks whether there is room for messages; while there is none, tries to get some.
    fn space(&mut self, now: Clock, effects: &mut Vec<Effect>) -> Result<(), String> {
        let disk = &self.parts.disk.disk;
        if !self.is_space_low {
            return match disk.space() {
                Space::Enough => Ok(()),
                Space::Reserve => self.disk_full(now, effects),
            };
        }
        if now.time.0 < self.space_checked_at + SPACE_RETRY_MICROS {
            return Ok(());
        }
        self.space_checked_at = now.time.0;
        // Writes that were refused are tried again with the next call.
        self.parts.disk.writers.submit(self.id, Vec::new());
        match disk.reclaim() {
            Ok(Space::Reserve) => Ok(()),
            Err(error) => super::disk::fail_stop(self.id, &error),
            Ok(Space::Enough) => {
                warn!("the disk has space again");
                self.is_space_low = false;
                self.step(now, Input::Space { is_low: false }, effects)
            }
        }
    }

    fn read_again(&mut self, now: Clock) {
        for job in std::mem::take(&mut self.read_later) {
            if job.not_before <= now.time.0 {
                self.parts.disk.start(job);
            } else {
                self.read_later.push(job);
            }
        }
    }

    /// Starts a job on the disk's threads.
    pub(super) fn start(&self, task: Task) {
        self.parts.disk.start(ReadJob {
            shard: self.id,
            reader: self.reader.clone(),
            task,
            not_before: 0,
            is_repeat: false,
        });
    }

    /// The end of a round: all writes in one submission, all frames, and what others may know.
    fn finish(&mut self, now: Clock) {
        if let Some((last, _)) = self.writes.last() {
            self.written_at.insert(*last, now.time.0);
            let writes = std::mem::take(&mut self.writes);
            self.metrics.appending(&writes);
            self.parts.disk.writers.submit(self.id, writes);
        }
        self.send_all();
        self.publish(now.time.0);
    }

    fn publish(&mut self, now_micros: u64) {
        let replica = self.shard.replica();
        let now = Time(now_micros);
        let timeout = self.parts.node_timeout;
        let published = Published {
            at_micros: now_micros,
            role: replica.role(),
            epoch: replica.epoch(),
            is_serving: self.shard.is_serving(),
            hears: replica.hears(now),
            is_disk_stalled: replica.is_disk_stalled(now),
            is_impaired: replica.is_impaired(),
            is_wiped: replica.is_wiped(),
            is_halted: self.shard.is_halted(),
            durable: replica.durable(),
            commit: replica.commit(),
            applied: self.shard.applied(),
            base: replica.base(),
            settings_version: self.shard.broker().settings_version(),
            peers: replica
                .peers()
                .map(|peer| (peer, peer.contact.is_some_and(|at| now.since(at) < timeout)))
                .collect(),
        };
        let end = replica.end().index;
        self.metrics.publish(&published, end);
        *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = published;
    }

    /// The shard goes on no more: everybody who asks is told that it does not lead.
    fn stop(&mut self) {
        self.mailbox.close();
        self.mailbox.clear();
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *published = Published {
            is_halted: true,
            epoch: published.epoch,
            ..Published::default()
        };
    }
}

fn clock_now() -> Clock {
    Clock {
        time: Time(clock::monotonic_micros()),
        stamp: Stamp(clock::wall_ms()),
    }
}
