//! `quorate topics`: all topics of the cluster with their counts.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate topics`.
#[derive(Debug, clap::Args)]
pub(crate) struct Topics {
    /// Only names that start with this
    #[arg(default_value = "")]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Listing {
    topics: Vec<Topic>,
    unanswered_shards: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Topic {
    name: String,
    shard: u32,
    published_total: u64,
    kept: u64,
    subscriptions: u32,
}

pub(crate) async fn run(common: &Common, arguments: Topics) -> Result<()> {
    let client = connect(common).await?;
    let response = client.topics(&arguments.prefix).await;
    let response = response.context("list topics")?;
    let topics = response.topics.into_iter().map(|topic| Topic {
        name: topic.name,
        shard: topic.shard,
        published_total: topic.published_total,
        kept: topic.kept,
        subscriptions: topic.subscriptions,
    });
    let listing = Listing {
        topics: topics.collect(),
        unanswered_shards: response.unanswered_shards,
    };
    match common.output {
        Format::Json => output::json(&listing),
        Format::Text => print(&listing),
    }
}

fn print(listing: &Listing) -> Result<()> {
    let rows: Vec<Vec<String>> = listing
        .topics
        .iter()
        .map(|topic| {
            vec![
                topic.name.clone(),
                topic.published_total.to_string(),
                topic.subscriptions.to_string(),
                topic.kept.to_string(),
                topic.shard.to_string(),
            ]
        })
        .collect();
    output::table(
        &["TOPIC", "PUBLISHED", "SUBSCRIPTIONS", "KEPT", "SHARD"],
        &rows,
    )?;
    if !listing.unanswered_shards.is_empty() {
        output::line(&format!(
            "shards {:?} did not answer: their topics are missing here",
            listing.unanswered_shards
        ))?;
    }
    Ok(())
}
