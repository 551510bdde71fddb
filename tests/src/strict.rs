//! A load that forgives nothing: every message comes once and unmarked, the non-persistent ones too, and no call fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, Consumer, ConsumerOptions, OutboundMessage, Producer};
use tokio::{task::JoinSet, time::interval};

use crate::eventually::eventually;

/// Messages of each producer at each tick.
const MESSAGES_PER_TICK: u64 = 3;
const TICK: Duration = Duration::from_millis(5);
/// A consumer waits for the answers to its settlements after so many.
const SETTLE_EVERY: usize = 20;
/// How long what was confirmed may take to come.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// One producer and one consumer.
#[derive(Clone, Debug)]
pub struct Line {
    /// Their queue.
    pub queue: String,
    /// Of the consumer, in messages.
    pub prefetch: u32,
    /// What is sent.
    pub non_persistent: bool,
}

/// A running load.
#[derive(Debug)]
pub struct Strict {
    seen: Arc<Seen>,
    url: String,
    queues: BTreeSet<String>,
    producers: JoinSet<Result<()>>,
    consumers: JoinSet<Result<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    confirmed: Mutex<BTreeSet<String>>,
    /// How often each message came, and whether it was ever marked as redelivered.
    delivered: Mutex<BTreeMap<String, (u32, bool)>>,
    is_over: AtomicBool,
    is_done: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Strict {
    /// Starts it.
    ///
    /// # Errors
    /// When no gateway answers.
    pub async fn start(url: &str, lines: &[Line]) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for (number, line) in lines.iter().enumerate() {
            let client = Client::connect(url.parse()?).await?;
            let options = ConsumerOptions {
                prefetch_messages: line.prefetch,
                ..ConsumerOptions::default()
            };
            let consumer = client.consumer(&line.queue, &options)?;
            let settle_every = SETTLE_EVERY.min(usize::try_from(line.prefetch)?);
            consumers.spawn(consume(Arc::clone(&seen), consumer, settle_every));
            let client = Client::connect(url.parse()?).await?;
            let producer = client.producer(&Default::default())?;
            producers.spawn(produce(Arc::clone(&seen), producer, line.clone(), number));
        }
        Ok(Self {
            seen,
            url: url.to_owned(),
            queues: lines.iter().map(|line| line.queue.clone()).collect(),
            producers,
            consumers,
        })
    }

    /// Messages confirmed so far.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        locked(&self.seen.confirmed).len()
    }

    /// Waits until something more is confirmed on every line, as a sign that all shards are served.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn go_on(&self, messages: usize) -> Result<()> {
        let until = self.confirmed() + messages;
        eventually("more confirms", DRAIN_LIMIT, async || {
            Ok((self.confirmed() >= until).then_some(()))
        })
        .await
    }

    /// Waits until no queue holds anything that could come once more.
    async fn emptied(&self) -> Result<()> {
        let client = Client::connect(self.url.parse()?).await?;
        eventually("the queues to be empty", DRAIN_LIMIT, async || {
            let listed = client.queues("").await?.queues;
            for name in &self.queues {
                let queue = listed.iter().find(|queue| queue.name == *name);
                let queue = queue.with_context(|| format!("{name} is not listed"))?;
                let left = queue.messages + queue.in_flight + queue.non_persistent;
                ensure!(left == 0, "{queue:?}");
            }
            Ok(Some(()))
        })
        .await
    }

    /// Stops, waits until everything has come, and says what should not be.
    ///
    /// # Errors
    /// When something is lost, came twice or marked, or a client's call failed.
    pub async fn finish(mut self) -> Result<usize> {
        self.seen.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.producers.join_next().await {
            ended?.context("a producer failed")?;
        }
        let all_came = eventually("all that was confirmed", DRAIN_LIMIT, async || {
            let delivered = locked(&self.seen.delivered);
            let confirmed = locked(&self.seen.confirmed);
            let missing: Vec<&String> = confirmed
                .iter()
                .filter(|body| !delivered.contains_key(*body))
                .collect();
            ensure!(
                missing.is_empty(),
                "{} of {} have not come: {:?}",
                missing.len(),
                confirmed.len(),
                missing.iter().take(5).collect::<Vec<_>>()
            );
            Ok(Some(()))
        })
        .await;
        if let Some(ended) = self.consumers.try_join_next() {
            ended?.context("a consumer failed")?;
        }
        all_came?;
        self.emptied().await?;
        self.seen.is_done.store(true, Ordering::Relaxed);
        while let Some(ended) = self.consumers.join_next().await {
            ended?.context("a consumer failed")?;
        }
        let delivered = locked(&self.seen.delivered);
        let wrong: Vec<_> = delivered
            .iter()
            .filter(|(_, (count, is_marked))| *count > 1 || *is_marked)
            .take(10)
            .collect();
        ensure!(wrong.is_empty(), "came twice or marked: {wrong:?}");
        Ok(delivered.len())
    }
}

async fn produce(seen: Arc<Seen>, producer: Producer, line: Line, number: usize) -> Result<()> {
    // One that takes message by message takes no more than some in a second.
    let (tick, messages) = match line.prefetch {
        1 => (8 * TICK, 1),
        _ => (TICK, MESSAGES_PER_TICK),
    };
    let mut ticks = interval(tick);
    let mut confirms = JoinSet::new();
    let mut count = 0;
    while !seen.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..messages {
            count += 1;
            let body = format!("{number} {count} {}", "x".repeat(200));
            let message = OutboundMessage {
                non_persistent: line.non_persistent,
                ..OutboundMessage::text(&line.queue, body.clone())
            };
            let confirm = producer.send(message).await?;
            let seen = Arc::clone(&seen);
            confirms.spawn(async move {
                confirm.await?;
                locked(&seen.confirmed).insert(body);
                anyhow::Ok(())
            });
        }
        while let Some(ended) = confirms.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = confirms.join_next().await {
        ended??;
    }
    Ok(())
}

async fn consume(seen: Arc<Seen>, mut consumer: Consumer, settle_every: usize) -> Result<()> {
    let mut looks = interval(Duration::from_millis(50));
    let mut open = 0;
    loop {
        tokio::select! {
            // What has come is taken before it is asked whether all is over.
            biased;
            delivery = consumer.receive() => {
                let delivery = delivery?;
                let body = String::from_utf8(delivery.message.body.to_vec())?;
                {
                    let mut delivered = locked(&seen.delivered);
                    let known = delivered.entry(body).or_default();
                    known.0 += 1;
                    known.1 |= delivery.redelivered;
                }
                consumer.accept(&delivery);
                open += 1;
                if open < settle_every {
                    continue;
                }
            }
            _ = looks.tick() => {}
        }
        if open > 0 {
            consumer.flush().await?;
            open = 0;
        }
        if seen.is_done.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}
