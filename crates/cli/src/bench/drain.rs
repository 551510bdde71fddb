//! `quorate bench drain`: how fast full queues are emptied, plain ones and ones whose messages differ in priority, expiry
//! and delay. Both in turn in one run: machines are noisy, and only what ran side by side can be compared.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ConsumerOptions, ProducerOptions};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    consume::{self, Consumed},
    mix::Mix,
    produce::{Stop, Workload},
};
use crate::{
    arguments::{Common, Format},
    connection::connect,
    limits::DRAIN,
    output, progress,
};

/// Delay of the delayed messages: it is over before they are consumed.
const DELAY: Duration = Duration::from_secs(1);

/// Between two looks at how many messages are still delayed.
const LOOK: Duration = Duration::from_millis(100);

/// Flags of `quorate bench drain`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Drain {
    /// Messages in all queues together
    #[arg(long, default_value_t = 500_000)]
    messages: u64,

    /// How often to fill and empty the queues, with each kind of messages
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Queues, each with a producer and a consumer of its own
    #[arg(long, default_value_t = 4)]
    destinations: usize,

    /// Bytes of each message
    #[arg(long, default_value_t = 100)]
    size: usize,

    /// Begin of the queues' names. They are purged before and after
    #[arg(long, default_value = "bench-drain")]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Measured {
    messages: u64,
    plain_per_second: Vec<f64>,
    mixed_per_second: Vec<f64>,
    /// Median of the mixed rounds by median of the plain ones.
    ratio: f64,
}

pub(crate) async fn run(common: &Common, drain: Drain) -> Result<()> {
    ensure!(drain.rounds > 0, "--rounds must be at least 1");
    ensure!(drain.destinations > 0, "--destinations must be at least 1");
    let client = connect(common).await?;
    let (mut plain, mut mixed) = (Vec::new(), Vec::new());
    for _ in 0..drain.rounds {
        plain.push(round(&client, &drain, None).await?);
        mixed.push(round(&client, &drain, Some(Mix::with_delay(DELAY))).await?);
    }
    let measured = Measured {
        messages: drain.messages,
        ratio: median(&mixed) / median(&plain),
        plain_per_second: plain,
        mixed_per_second: mixed,
    };
    match common.output {
        Format::Json => output::json(&measured),
        Format::Text => {
            for (plain, mixed) in measured
                .plain_per_second
                .iter()
                .zip(&measured.mixed_per_second)
            {
                output::line(&format!("plain {plain:.0}/s  mixed {mixed:.0}/s"))?;
            }
            output::line(&format!(
                "{} messages received and accepted each time; medians: mixed is {:.2} of plain",
                measured.messages, measured.ratio
            ))
        }
    }
}

/// Fills the queues, waits until nothing is delayed, and returns how many messages a second were received and accepted.
async fn round(client: &Client, drain: &Drain, mix: Option<Mix>) -> Result<f64> {
    let queues: Vec<String> = (1..=drain.destinations)
        .map(|number| format!("{}-{number}", drain.prefix))
        .collect();
    purge(client, &queues).await?;
    let stored = fill(client, drain, &queues, mix).await?;
    while scheduled(client, &drain.prefix).await? > 0 {
        tokio::time::sleep(LOOK).await;
    }
    let consumed = Arc::new(Consumed::counted());
    let started = Instant::now();
    let mut consumers = JoinSet::new();
    for queue in &queues {
        let consumer = client.consumer(queue, &ConsumerOptions::default())?;
        consumers.spawn(consume::run(consumer, Arc::clone(&consumed)));
    }
    tokio::time::timeout(DRAIN, consumed.reach(stored))
        .await
        .with_context(|| format!("only {} of {stored} messages came", consumed.count()))?;
    let seconds = started.elapsed().as_secs_f64();
    consumers.shutdown().await;
    purge(client, &queues).await?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    Ok(stored as f64 / seconds)
}

async fn fill(client: &Client, drain: &Drain, queues: &[String], mix: Option<Mix>) -> Result<u64> {
    let bar = progress::messages(Some(drain.messages));
    let mut producers = JoinSet::new();
    for queue in queues {
        let options = ProducerOptions::default();
        let workload = Workload {
            producer: client.producer(&options)?,
            queue: queue.clone(),
            window: options.window_messages,
            size: drain.size,
            stamped_from: None,
            non_persistent: false,
            mix,
            counted_from: Instant::now(),
            stop: Stop::After(drain.messages.div_ceil(queues.len() as u64)),
            bar: bar.clone(),
        };
        producers.spawn(workload.run(None));
    }
    let mut stored = 0;
    while let Some(done) = producers.join_next().await {
        let produced = done.context("a producer")??;
        if let Some(error) = produced.first_error {
            return Err(error).context("fill the queues");
        }
        stored += produced.stored;
    }
    bar.finish_and_clear();
    Ok(stored)
}

async fn scheduled(client: &Client, prefix: &str) -> Result<u64> {
    let listed = client.queues(prefix).await.context("look at the queues")?;
    Ok(listed.queues.iter().map(|queue| queue.scheduled).sum())
}

async fn purge(client: &Client, queues: &[String]) -> Result<()> {
    for queue in queues {
        let purged = client.purge(queue).await;
        purged.with_context(|| format!("purge {queue}"))?;
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
