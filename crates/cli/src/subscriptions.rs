//! `quorate subscriptions`: who subscribed to which topics, what is pending, and the end of a subscription.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate subscriptions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Subscriptions {
    #[command(subcommand)]
    asked: Asked,
}

#[derive(Debug, clap::Subcommand)]
enum Asked {
    /// Lists all subscriptions
    List,
    /// Deletes a durable or shared subscription with what is pending in it
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// The subscription's name
    name: String,

    /// To whom it belongs
    #[arg(long, value_name = "ID", default_value = "")]
    client_id: String,
}

#[derive(Debug, Serialize)]
struct Listing {
    subscriptions: Vec<Subscription>,
    unanswered_shards: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Subscription {
    topic: String,
    client_id: String,
    subscription: String,
    durable: bool,
    shared: bool,
    selector: String,
    messages: u64,
    in_flight: u64,
    consumers: u32,
    non_persistent: u64,
}

#[derive(Debug, Serialize)]
struct Deleted {
    client_id: String,
    subscription: String,
    removed: u64,
}

pub(crate) async fn run(common: &Common, arguments: Subscriptions) -> Result<()> {
    match arguments.asked {
        Asked::List => list(common).await,
        Asked::Delete(wanted) => delete(common, wanted).await,
    }
}

async fn list(common: &Common) -> Result<()> {
    let client = connect(common).await?;
    let response = client.subscriptions().await.context("list subscriptions")?;
    let subscriptions = response.subscriptions.into_iter().map(|kept| Subscription {
        topic: kept.topic,
        client_id: kept.client_id,
        subscription: kept.subscription,
        durable: kept.durable,
        shared: kept.shared,
        selector: kept.selector,
        messages: kept.messages,
        in_flight: kept.in_flight,
        consumers: kept.consumers,
        non_persistent: kept.non_persistent,
    });
    let listing = Listing {
        subscriptions: subscriptions.collect(),
        unanswered_shards: response.unanswered_shards,
    };
    match common.output {
        Format::Json => output::json(&listing),
        Format::Text => print(&listing),
    }
}

async fn delete(common: &Common, wanted: Delete) -> Result<()> {
    let client = connect(common).await?;
    let deleted = client
        .delete_subscription(&wanted.client_id, &wanted.name)
        .await;
    let removed = deleted.with_context(|| format!("delete subscription {}", wanted.name))?;
    let deleted = Deleted {
        client_id: wanted.client_id,
        subscription: wanted.name,
        removed,
    };
    match common.output {
        Format::Json => output::json(&deleted),
        Format::Text => output::line(&format!(
            "subscription {} deleted with {} messages",
            deleted.subscription, deleted.removed
        )),
    }
}

fn print(listing: &Listing) -> Result<()> {
    let rows: Vec<Vec<String>> = listing
        .subscriptions
        .iter()
        .map(|kept| {
            let kind = match (kept.durable, kept.shared) {
                (true, false) => "durable",
                (true, true) => "durable, shared",
                (false, true) => "shared",
                (false, false) => "live",
            };
            vec![
                kept.topic.clone(),
                kind.to_owned(),
                kept.client_id.clone(),
                kept.subscription.clone(),
                kept.selector.clone(),
                kept.messages.to_string(),
                kept.in_flight.to_string(),
                kept.consumers.to_string(),
                kept.non_persistent.to_string(),
            ]
        })
        .collect();
    output::table(
        &[
            "TOPIC",
            "KIND",
            "CLIENT",
            "NAME",
            "SELECTOR",
            "MESSAGES",
            "IN FLIGHT",
            "CONSUMERS",
            "NON-PERSISTENT",
        ],
        &rows,
    )?;
    if !listing.unanswered_shards.is_empty() {
        output::line(&format!(
            "shards {:?} did not answer: what they hold is missing here",
            listing.unanswered_shards
        ))?;
    }
    Ok(())
}
