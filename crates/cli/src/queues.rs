//! `quorate queues`: all queues of the cluster with their counts.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate queues`.
#[derive(Debug, clap::Args)]
pub(crate) struct Queues {
    /// Only names that start with this
    #[arg(default_value = "")]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Listing {
    queues: Vec<Queue>,
    unanswered_shards: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    shard: u32,
    messages: u64,
    in_flight: u64,
    consumers: u32,
    enqueued_total: u64,
    settled_total: u64,
    non_persistent: u64,
    bytes: u64,
    paused: bool,
    scheduled: u64,
    expired_total: u64,
}

pub(crate) async fn run(common: &Common, arguments: Queues) -> Result<()> {
    let client = connect(common).await?;
    let response = client
        .queues(&arguments.prefix)
        .await
        .context("list queues")?;
    let listing = Listing {
        queues: response
            .queues
            .into_iter()
            .map(|queue| Queue {
                name: queue.name,
                shard: queue.shard,
                messages: queue.messages,
                in_flight: queue.in_flight,
                consumers: queue.consumers,
                enqueued_total: queue.enqueued_total,
                settled_total: queue.settled_total,
                non_persistent: queue.non_persistent,
                bytes: queue.bytes,
                paused: queue.paused,
                scheduled: queue.scheduled,
                expired_total: queue.expired_total,
            })
            .collect(),
        unanswered_shards: response.unanswered_shards,
    };
    match common.output {
        Format::Json => output::json(&listing),
        Format::Text => print(&listing),
    }
}

fn print(listing: &Listing) -> Result<()> {
    let rows: Vec<Vec<String>> = listing
        .queues
        .iter()
        .map(|queue| {
            vec![
                queue.name.clone(),
                queue.messages.to_string(),
                queue.bytes.to_string(),
                queue.in_flight.to_string(),
                queue.consumers.to_string(),
                queue.enqueued_total.to_string(),
                queue.settled_total.to_string(),
                queue.non_persistent.to_string(),
                queue.scheduled.to_string(),
                queue.shard.to_string(),
                if queue.paused { "paused" } else { "" }.to_owned(),
            ]
        })
        .collect();
    output::table(
        &[
            "QUEUE",
            "MESSAGES",
            "BYTES",
            "IN FLIGHT",
            "CONSUMERS",
            "ENQUEUED",
            "SETTLED",
            "NON-PERSISTENT",
            "SCHEDULED",
            "SHARD",
            "STATE",
        ],
        &rows,
    )?;
    if !listing.unanswered_shards.is_empty() {
        output::line(&format!(
            "shards {:?} did not answer: their queues are missing here",
            listing.unanswered_shards
        ))?;
    }
    Ok(())
}
