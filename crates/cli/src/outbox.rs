//! `quorate outbox`: messages that left their place and are on their way to another destination.

use anyhow::{Context, Result};
use quorate_client::OutboxTarget;
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

#[derive(Debug, Serialize)]
struct Listing {
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
struct Target {
    shard: u32,
    target: String,
    messages: u64,
    oldest_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
}

impl From<OutboxTarget> for Target {
    fn from(target: OutboxTarget) -> Self {
        let refusal = (target.refusal != 0).then(|| target.refusal().as_str_name());
        Self {
            shard: target.shard,
            target: target.target,
            messages: target.messages,
            oldest_ms: target.oldest_ms,
            refusal,
        }
    }
}

pub(crate) async fn run(common: &Common) -> Result<()> {
    let client = connect(common).await?;
    let response = client.outbox().await.context("list what is on its way")?;
    let targets: Vec<Target> = response.targets.into_iter().map(Target::from).collect();
    match common.output {
        Format::Json => output::json(&Listing { targets }),
        Format::Text => {
            for target in targets {
                let refusal = target
                    .refusal
                    .map_or(String::new(), |why| format!("  {why}"));
                output::line(&format!(
                    "from shard {}  {} messages to {}{refusal}",
                    target.shard, target.messages, target.target
                ))?;
            }
            Ok(())
        }
    }
}
