//! `quorate bench`: throughput and latency of confirmed sends, alone or end to end.
//!
//! | | sends | a latency is |
//! |---|---|---|
//! | closed loop | as fast as the window lets it | from the send to the confirm |
//! | open loop (`--rate`) | at fixed moments, whatever the cluster does | from the moment at which the send was due |
//!
//! The open loop is free of coordinated omission: a pause of the cluster counts for every message that was due in it.
//! It all runs on one thread, with a window of futures for each producer and no queue between: the cluster's processes
//! need the machine more than the bench does.

mod consume;
mod disk;
mod drain;
mod elections;
mod failover;
mod mix;
mod produce;
mod report;
mod transactions;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ProducerOptions};
use tokio::task::JoinSet;

use crate::{
    arguments::Common,
    connection::connect,
    limits::{DRAIN, SUBSCRIBED_LOOK},
    progress,
};
use mix::Mix;
use produce::{Pace, Stop, Workload};
use report::{Measured, Report};

/// Delay of the delayed messages of `--mixed`: they stay where they are while the bench looks.
const HELD_BACK: Duration = Duration::from_secs(3600);

/// Flags of `quorate bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    load: Load,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Kills leaders under load, and times each gap from the kill to the next confirm
    Failover(failover::Failover),
    /// Kills nodes, and times how long until all the shards that each led are led again
    Elections(elections::Elections),
    /// Sends several messages all or none, within one shard or across shards
    Transactions(transactions::Load),
    /// Fills queues and empties them, plain and with priorities, expiries and delays mixed, in turn
    Drain(drain::Drain),
}

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
struct Load {
    /// Producers, each with a connection of its own
    #[arg(long, default_value_t = 4)]
    producers: usize,

    /// Unconfirmed messages of each producer; 256 in the closed loop and 2048 in the open loop if not given
    #[arg(long)]
    window: Option<usize>,

    /// Bytes of each message
    #[arg(long, default_value_t = 1024)]
    size: usize,

    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// Send so many messages in all, instead of for a time
    #[arg(long, conflicts_with_all = ["seconds", "rate"])]
    messages: Option<u64>,

    /// Seconds before the measurement begins, not counted
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// Open loop: messages a second, of all producers together
    #[arg(long)]
    rate: Option<f64>,

    /// Queues that the producers are spread over
    #[arg(long, default_value_t = 4)]
    destinations: usize,

    /// Begin of the queues' names. They are purged before and after
    #[arg(long, default_value = "bench")]
    prefix: String,

    /// Consumers: measures end to end
    #[arg(long, default_value_t = 0)]
    consumers: usize,

    /// Publish to topics: each consumer is a live subscriber, and gets every message of its topic
    #[arg(long)]
    topics: bool,

    /// Send messages that live in the leader's memory only
    #[arg(long)]
    non_persistent: bool,

    /// Mix priorities 0 to 9, an expiry in an hour on a third of the messages, and a delay of an hour on a tenth
    #[arg(long, conflicts_with_all = ["non_persistent", "consumers"])]
    mixed: bool,

    /// Leave the messages in the queues
    #[arg(long)]
    keep: bool,

    /// Measure the fdatasync rate of the disk that holds this folder, too
    #[arg(long, value_name = "FOLDER")]
    disk_dir: Option<PathBuf>,
}

impl Load {
    fn queues(&self) -> Vec<String> {
        let scheme = if self.topics { "topic://" } else { "" };
        (1..=self.destinations)
            .map(|number| format!("{scheme}{}-{number}", self.prefix))
            .collect()
    }

    /// How many consumers get each message.
    fn copies(&self) -> u64 {
        match self.topics {
            true => (self.consumers / self.destinations) as u64,
            false => 1,
        }
    }

    fn window(&self) -> usize {
        let most = if self.rate.is_some() { 2048 } else { 256 };
        self.window.unwrap_or(most).clamp(1, 2048)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.producers > 0, "--producers must be at least 1");
        ensure!(self.destinations > 0, "--destinations must be at least 1");
        ensure!(
            self.consumers == 0 || self.consumers >= self.destinations,
            "--consumers {} leaves some of the {} queues without one; give more, or fewer --destinations",
            self.consumers,
            self.destinations
        );
        ensure!(
            !self.topics || self.consumers.is_multiple_of(self.destinations),
            "with --topics, --consumers must be a multiple of --destinations: every topic has as many subscribers"
        );
        ensure!(
            self.consumers == 0 || self.size >= consume::STAMP_BYTES,
            "end to end, --size must be at least {}",
            consume::STAMP_BYTES
        );
        ensure!(
            self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()),
            "--rate must be above 0"
        );
        Ok(())
    }
}

pub(crate) async fn run(common: &Common, arguments: Bench) -> Result<()> {
    match arguments.what {
        Some(What::Failover(failover)) => failover::run(common, failover).await,
        Some(What::Elections(elections)) => elections::run(common, elections).await,
        Some(What::Transactions(load)) => transactions::run(common, load).await,
        Some(What::Drain(drain)) => drain::run(common, drain).await,
        None => measure(common, arguments.load).await,
    }
}

async fn measure(common: &Common, load: Load) -> Result<()> {
    load.check()?;
    let disk = match load.disk_dir.clone() {
        Some(folder) => Some(
            tokio::task::spawn_blocking(move || disk::measure(&folder))
                .await
                .context("measure the disk")??,
        ),
        None => None,
    };
    let client = connect(common).await?;
    purge(&client, &load).await?;
    let measured = run_load(&client, &load).await?;
    if !load.keep {
        purge(&client, &load).await?;
    }
    report::print(common.output, &Report::new(&load, &measured, disk))
}

async fn purge(client: &Client, load: &Load) -> Result<()> {
    let queues = load.queues();
    for queue in queues.into_iter().filter(|_| !load.topics) {
        client
            .purge(&queue)
            .await
            .with_context(|| format!("purge {queue}"))?;
    }
    Ok(())
}

/// Waits until every subscriber gets what is published from here on.
async fn subscribed(client: &Client, load: &Load) -> Result<()> {
    let all = async {
        loop {
            let listed = client.subscriptions().await?.subscriptions;
            let received = listed.iter().filter(|kept| kept.consumers > 0);
            if received.count() >= load.consumers {
                return anyhow::Ok(());
            }
            tokio::time::sleep(SUBSCRIBED_LOOK).await;
        }
    };
    let all = tokio::time::timeout(DRAIN, all).await;
    all.context("the subscribers were not attached in time")?
        .context("look for the subscribers")
}

async fn run_load(client: &Client, load: &Load) -> Result<Measured> {
    let seconds = |value: f64, name: &str| {
        Duration::try_from_secs_f64(value).with_context(|| format!("--{name} {value} is no time"))
    };
    let warmup = if load.messages.is_some() {
        Duration::ZERO
    } else {
        seconds(load.warmup, "warmup")?
    };
    let queues = load.queues();
    let mut attached = Vec::new();
    for number in 0..load.consumers {
        let queue = &queues[number % queues.len()];
        attached.push(client.consumer(queue, &quorate_client::ConsumerOptions::default())?);
    }
    if load.topics {
        subscribed(client, load).await?;
    }
    let started = Instant::now();
    let counted_from = started + warmup;
    let stop = match load.messages {
        Some(messages) => Stop::After(messages.div_ceil(load.producers as u64)),
        None => Stop::At(counted_from + seconds(load.seconds, "seconds")?),
    };
    let mut consumers = JoinSet::new();
    let consumed = Arc::new(consume::Consumed::stamped(started, counted_from));
    for consumer in attached {
        consumers.spawn(consume::run(consumer, Arc::clone(&consumed)));
    }
    let pace = load
        .rate
        .map(|rate| Pace::start(started, rate, load.producers));
    let bar = progress::messages(load.messages);
    let mut producers = JoinSet::new();
    for number in 0..load.producers {
        let options = ProducerOptions {
            window_messages: load.window(),
            window_bytes: (load.window() * (load.size + 512)).max(16 << 20),
        };
        let workload = Workload {
            producer: client.producer(&options)?,
            queue: queues[number % queues.len()].clone(),
            window: load.window(),
            size: load.size,
            stamped_from: (load.consumers > 0).then_some(started),
            non_persistent: load.non_persistent,
            mix: load.mixed.then(|| Mix::with_delay(HELD_BACK)),
            counted_from,
            stop,
            bar: bar.clone(),
        };
        let pace = pace.as_ref().map(|pace| pace.of(number)).transpose()?;
        producers.spawn(workload.run(pace));
    }
    let mut measured = Measured::new(counted_from)?;
    while let Some(done) = producers.join_next().await {
        measured.add(&done.context("a producer")??)?;
    }
    if load.consumers > 0 {
        let due = measured.stored.saturating_mul(load.copies());
        let drained = consumed.reach(due);
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            measured.undelivered = due.saturating_sub(consumed.count());
        }
        consumers.shutdown().await;
        measured.end_to_end(&consumed)?;
    }
    bar.finish_and_clear();
    Ok(measured)
}
