//! `quorate node drain` and `undrain`: a node leads nothing, or may lead again.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use quorate_client::Client;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    arguments::{Common, Format},
    cluster::picture,
    connection::connect,
    limits::LOOK_AGAIN,
    output,
};

/// The commands of `quorate node`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Node {
    /// Moves everything that a node leads to others, and lets it lead nothing until it is undrained
    Drain {
        /// The node's name
        name: String,
        /// How long to wait until it leads nothing, in seconds; 0: not at all
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u64,
    },
    /// Lets a drained node lead again
    Undrain {
        /// The node's name
        name: String,
    },
}

#[derive(Debug, Serialize)]
struct State {
    node: String,
    drained: bool,
    /// Shards that it leads.
    leads: usize,
}

pub(crate) async fn run(common: &Common, command: Node) -> Result<()> {
    let client = connect(common).await?;
    let (name, drained, wait) = match command {
        Node::Drain { name, wait } => (name, true, wait),
        Node::Undrain { name } => (name, false, 0),
    };
    let verb = if drained { "drain" } else { "undrain" };
    client
        .drain_node(&name, drained)
        .await
        .with_context(|| format!("{verb} {name}"))?;
    let leads = wait_until_free(&client, &name, Duration::from_secs(wait)).await?;
    match common.output {
        Format::Json => output::json(&State {
            node: name.clone(),
            drained,
            leads,
        })?,
        Format::Text if drained => output::line(&format!(
            "{name} is drained and leads {leads} shards; it gets none while others can lead"
        ))?,
        Format::Text => output::line(&format!(
            "{name} may lead again; leaderships come back to it one by one"
        ))?,
    }
    if wait > 0 && leads > 0 {
        bail!(
            "{name} still leads {leads} shards: nobody else can lead them; `quorate cluster` shows why"
        );
    }
    Ok(())
}

/// How many shards the node leads in the end.
async fn wait_until_free(client: &Client, name: &str, wait: Duration) -> Result<usize> {
    let until = Instant::now() + wait;
    loop {
        let picture = picture(client).await?;
        let leads = picture.leads(name);
        if leads == 0 || Instant::now() >= until {
            return Ok(leads);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
