//! Producers and consumers that write down what they see, for the checker to judge, and when confirms came, for the
//! gaps after a kill.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, Consumer, ConsumerOptions, Delivery, OutboundMessage, Producer};
use quorate_sim::checker::{
    Rules, Verdict,
    history::{self, History, Outcome, Record},
    judge,
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::eventually::eventually;

/// Messages that a producer sends at each tick; with [`TICK`] a load that two busy cores can carry.
const MESSAGES_PER_TICK: u64 = 4;
const TICK: Duration = Duration::from_millis(4);
/// How long the last confirms and deliveries may take once everything runs again.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Repeats may still come: the queues are drained when nothing has come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// A consumer asks for the confirmation of its settlements after this many.
const SETTLE_EVERY: usize = 50;

/// What to run on each queue.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Producers on each queue.
    pub producers: usize,
    /// Consumers on each queue.
    pub consumers: usize,
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    queues: Vec<String>,
    url: String,
    producers: JoinSet<Result<()>>,
    consumers: JoinSet<Result<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    records: Mutex<Vec<Record>>,
    /// For each queue, when confirmed messages were sent and when they were confirmed.
    confirms: Mutex<BTreeMap<String, Vec<(Instant, Instant)>>>,
    stop_producing: AtomicBool,
    stop_consuming: AtomicBool,
    unconfirmed: AtomicU64,
    confirmed: AtomicU64,
    delivered: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, record: Record) {
        locked(&self.records).push(record);
    }
}

/// FNV-1a, enough to see an altered byte.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Load {
    /// Starts producers and consumers on each of the queues.
    ///
    /// # Errors
    /// When no gateway answers.
    pub async fn start(url: &str, queues: &[String], shape: Shape) -> Result<Self> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            records: Mutex::default(),
            confirms: Mutex::default(),
            stop_producing: AtomicBool::new(false),
            stop_consuming: AtomicBool::new(false),
            unconfirmed: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        });
        let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
        for queue in queues {
            for number in 0..shape.producers {
                let client = Client::connect(url.parse()?).await?;
                let producer = client.producer(&Default::default())?;
                let name = format!("{queue}-p{number}");
                producers.spawn(produce(Arc::clone(&shared), producer, queue.clone(), name));
            }
            for number in 0..shape.consumers {
                let client = Client::connect(url.parse()?).await?;
                let consumer = client.consumer(queue, &ConsumerOptions::default())?;
                let name = format!("{queue}-c{number}");
                consumers.spawn(consume(Arc::clone(&shared), consumer, queue.clone(), name));
            }
        }
        Ok(Self {
            shared,
            queues: queues.to_vec(),
            url: url.to_owned(),
            producers,
            consumers,
        })
    }

    /// Messages sent and not confirmed at this moment.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.shared.unconfirmed.load(Ordering::Relaxed)
    }

    /// Messages confirmed so far.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.shared.confirmed.load(Ordering::Relaxed)
    }

    /// How long after `moment` the first message of `queue` that was sent after it was confirmed. What was sent before
    /// does not count: its confirm may have been under way.
    ///
    /// # Errors
    /// When none is confirmed for too long, or a producer has failed.
    pub async fn next_confirm(&mut self, queue: &str, moment: Instant) -> Result<Duration> {
        let shared = Arc::clone(&self.shared);
        let found = eventually("a confirm", DRAIN_LIMIT, async || {
            let confirms = locked(&shared.confirms);
            let pairs = confirms.get(queue).map(Vec::as_slice).unwrap_or_default();
            let later = pairs.iter().filter(|(sent, _)| *sent > moment);
            let first = later.map(|(_, confirmed)| *confirmed).min();
            Ok(first.map(|confirmed| confirmed - moment))
        })
        .await;
        if let Some(ended) = self.producers.try_join_next() {
            ended?.context("a producer failed: a kill must be a pause, not an error")?;
        }
        found
    }

    /// Stops the producers, waits until everything that was confirmed has come and been settled, and judges.
    ///
    /// # Errors
    /// When a client failed, or something does not come in time.
    pub async fn judge(mut self, rules: Rules) -> Result<Verdict> {
        self.shared.stop_producing.store(true, Ordering::Relaxed);
        while let Some(ended) = self.producers.join_next().await {
            ended?.context("a producer failed")?;
        }
        let shared = Arc::clone(&self.shared);
        let newest = Cell::new((0, Instant::now()));
        let drained = eventually("the queues to be drained", DRAIN_LIMIT, async || {
            let delivered = shared.delivered.load(Ordering::Relaxed);
            if delivered != newest.get().0 {
                newest.set((delivered, Instant::now()));
            }
            // Counting is cheap; looking at every record is not, and the clients run on the same thread.
            let confirmed = shared.confirmed.load(Ordering::Relaxed);
            ensure!(
                delivered >= confirmed,
                "{delivered} deliveries of {confirmed} confirmed messages"
            );
            if newest.get().1.elapsed() < QUIET {
                return Ok(None);
            }
            let (missing, first) = self.missing();
            ensure!(
                missing == 0,
                "{missing} confirmed messages have not come: {first}"
            );
            Ok(Some(()))
        })
        .await;
        if let Some(ended) = self.consumers.try_join_next() {
            ended?.context("a consumer failed: a kill must be a pause, not an error")?;
        }
        if let Err(error) = drained {
            let queues = Client::connect(self.url.parse()?).await?.queues("").await?;
            return Err(error.context(format!("the queues stand at {:#?}", queues.queues)));
        }
        self.shared.stop_consuming.store(true, Ordering::Relaxed);
        while let Some(ended) = self.consumers.join_next().await {
            ended?.context("a consumer failed")?;
        }
        for queue in &self.queues {
            self.shared.record(Record::Drained(history::Drained {
                queue: queue.clone(),
            }));
        }
        let records = std::mem::take(&mut *locked(&self.shared.records));
        Ok(judge(&History { records }, rules))
    }

    /// How many confirmed messages have not come, and the first of them.
    fn missing(&self) -> (usize, String) {
        let records = locked(&self.shared.records);
        let mut open = std::collections::BTreeSet::new();
        for record in records.iter() {
            if let Record::Publish(publish) = record {
                open.insert((
                    publish.queue.as_str(),
                    publish.producer.as_str(),
                    publish.number,
                ));
            }
        }
        for record in records.iter() {
            if let Record::Delivery(delivery) = record {
                open.remove(&(
                    delivery.queue.as_str(),
                    delivery.producer.as_str(),
                    delivery.number,
                ));
            }
        }
        (
            open.len(),
            format!("{:?}", open.iter().take(5).collect::<Vec<_>>()),
        )
    }
}

async fn produce(
    shared: Arc<Shared>,
    producer: Producer,
    queue: String,
    name: String,
) -> Result<()> {
    let mut ticks = interval(TICK);
    let mut confirms = JoinSet::new();
    let mut number = 0;
    while !shared.stop_producing.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..MESSAGES_PER_TICK {
            number += 1;
            let body = format!(
                "{name} {number} {}",
                "x".repeat(200 + usize::try_from(number % 300)?)
            );
            let digest = digest(body.as_bytes());
            let (sent, invoked_us) = (Instant::now(), shared.micros());
            shared.unconfirmed.fetch_add(1, Ordering::Relaxed);
            let confirm = producer.send(OutboundMessage::text(&queue, body)).await?;
            let (shared, queue, producer) = (Arc::clone(&shared), queue.clone(), name.clone());
            confirms.spawn(async move {
                confirm.await?;
                shared.unconfirmed.fetch_sub(1, Ordering::Relaxed);
                shared.confirmed.fetch_add(1, Ordering::Relaxed);
                locked(&shared.confirms)
                    .entry(queue.clone())
                    .or_default()
                    .push((sent, Instant::now()));
                shared.record(Record::Publish(history::Publish {
                    queue,
                    producer,
                    number,
                    digest,
                    invoked_us,
                    done_us: shared.micros(),
                    outcome: Outcome::Confirmed,
                    out_of_order: false,
                }));
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

/// The producer and number that a body names.
fn origin(body: &[u8]) -> Result<(String, u64)> {
    let text = std::str::from_utf8(body)?;
    let mut words = text.split(' ');
    let producer = words.next().context("no producer in the body")?;
    Ok((
        producer.to_owned(),
        words.next().context("no number in the body")?.parse()?,
    ))
}

async fn consume(
    shared: Arc<Shared>,
    mut consumer: Consumer,
    queue: String,
    name: String,
) -> Result<()> {
    let mut settling: Vec<(String, u64, u64)> = Vec::new();
    let mut looks = interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            delivery = consumer.receive() => {
                let delivery = delivery?;
                let (producer, number) = origin(&delivery.message.body)?;
                shared.record(Record::Delivery(seen(&shared, &delivery, &queue, &name)?));
                shared.delivered.fetch_add(1, Ordering::Relaxed);
                settling.push((producer, number, shared.micros()));
                consumer.accept(&delivery);
                if settling.len() < SETTLE_EVERY {
                    continue;
                }
            }
            _ = looks.tick() => {}
        }
        if !settling.is_empty() {
            consumer.flush().await?;
            for (producer, number, invoked_us) in settling.drain(..) {
                shared.record(Record::Settle(history::Settle {
                    queue: queue.clone(),
                    consumer: name.clone(),
                    producer,
                    number,
                    invoked_us,
                    done_us: shared.micros(),
                    position: None,
                    copy: 0,
                    accepted: true,
                    outcome: Outcome::Confirmed,
                }));
            }
        }
        if shared.stop_consuming.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}

fn seen(
    shared: &Shared,
    delivery: &Delivery,
    queue: &str,
    name: &str,
) -> Result<history::Delivery> {
    let (producer, number) = origin(&delivery.message.body)?;
    Ok(history::Delivery {
        queue: queue.to_owned(),
        consumer: name.to_owned(),
        producer,
        number,
        digest: digest(&delivery.message.body),
        at_us: shared.micros(),
        resent: false,
        copy: 0,
        position: Some(delivery.position.value),
        redelivered: delivery.redelivered,
    })
}
