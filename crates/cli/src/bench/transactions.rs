//! `quorate bench transactions`: what it costs to send several messages all or none, within one shard and across shards.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use quorate_client::{Client, OutboundMessage, Transactions};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Names that are tried for a queue in yet another shard, before it is said that there are not as many.
const NAMES_TRIED: usize = 1000;

/// Flags of `quorate bench transactions`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// Messages that each transaction sends
    #[arg(long, default_value_t = 10)]
    messages: usize,

    /// Shards that each transaction's messages are spread over
    #[arg(long, default_value_t = 1)]
    shards: usize,

    /// Clients, each with one transaction after another
    #[arg(long, default_value_t = 8)]
    clients: usize,

    /// Bytes of each message
    #[arg(long, default_value_t = 1024)]
    size: usize,

    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    /// Begin of the queues' names. They are purged before and after
    #[arg(long, default_value = "bench-tx")]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Measured {
    transactions: u64,
    messages: u64,
    shards: usize,
    seconds: f64,
    transactions_per_second: f64,
    messages_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

pub(crate) async fn run(common: &Common, load: Load) -> Result<()> {
    ensure!(load.clients > 0, "--clients must be at least 1");
    ensure!(load.shards > 0, "--shards must be at least 1");
    ensure!(
        load.messages >= load.shards,
        "--messages {} cannot be spread over {} shards; send at least one to each",
        load.messages,
        load.shards
    );
    let seconds = Duration::try_from_secs_f64(load.seconds)
        .with_context(|| format!("--seconds {} is no time", load.seconds))?;
    let client = connect(common).await?;
    let queues = queues(&client, &load).await?;
    purge(&client, &queues).await?;
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let transactions = client.transactions()?;
        let work = one_client(
            transactions,
            queues.clone(),
            load.clone(),
            started + seconds,
        );
        clients.spawn(work);
    }
    let mut latencies = Vec::new();
    while let Some(done) = clients.join_next().await {
        latencies.extend(done.context("a client")??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    purge(&client, &queues).await?;
    latencies.sort_unstable();
    let transactions = latencies.len() as u64;
    let messages = transactions * load.messages as u64;
    let measured = Measured {
        transactions,
        messages,
        shards: load.shards,
        seconds: elapsed,
        transactions_per_second: transactions as f64 / elapsed,
        messages_per_second: messages as f64 / elapsed,
        p50_ms: quantile(&latencies, 0.5),
        p99_ms: quantile(&latencies, 0.99),
        max_ms: quantile(&latencies, 1.0),
    };
    match common.output {
        Format::Json => output::json(&measured),
        Format::Text => output::line(&format!(
            "{} transactions of {} messages over {} shards in {:.1} s: {:.0} transactions/s, {:.0} messages/s; \
             commit p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            measured.transactions,
            load.messages,
            measured.shards,
            measured.seconds,
            measured.transactions_per_second,
            measured.messages_per_second,
            measured.p50_ms,
            measured.p99_ms,
            measured.max_ms
        )),
    }
}

async fn one_client(
    transactions: Transactions,
    queues: Vec<String>,
    load: Load,
    until: Instant,
) -> Result<Vec<Duration>> {
    let body = Bytes::from(vec![b'x'; load.size]);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let mut transaction = transactions.begin();
        for number in 0..load.messages {
            let queue = queues[number % queues.len()].clone();
            transaction.send(OutboundMessage::bytes(queue, body.clone()))?;
        }
        let begun = Instant::now();
        transaction.commit().await.context("commit")?;
        latencies.push(begun.elapsed());
    }
    Ok(latencies)
}

/// One queue in each of as many shards as are wanted.
async fn queues(client: &Client, load: &Load) -> Result<Vec<String>> {
    let mut shards = Vec::new();
    let mut queues = Vec::new();
    for number in 0..NAMES_TRIED {
        if queues.len() == load.shards {
            break;
        }
        let name = format!("{}-{number}", load.prefix);
        let shard = client.locate(&name).await?.shard;
        if !shards.contains(&shard) {
            shards.push(shard);
            queues.push(name);
        }
    }
    ensure!(
        queues.len() == load.shards,
        "the cluster has {} shards; give --shards no more than that",
        queues.len()
    );
    Ok(queues)
}

async fn purge(client: &Client, queues: &[String]) -> Result<()> {
    for queue in queues {
        let purged = client.purge(queue).await;
        purged.with_context(|| format!("purge {queue}"))?;
    }
    Ok(())
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in the list"
    )]
    let place = place as usize;
    sorted
        .get(place)
        .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
}
