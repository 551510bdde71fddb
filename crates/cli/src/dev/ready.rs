//! Waiting until every gateway sees every shard led.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use quorate_client::{Address, Client};

use super::plan::Plan;
use crate::limits::DEV_START;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest time for one look.
const LOOK: Duration = Duration::from_secs(2);

/// Waits until the whole cluster serves.
pub(super) async fn wait(plan: &Plan) -> Result<()> {
    let mut last = None;
    let all = async {
        for gateway in plan.gateway_addresses() {
            while let Err(error) = serves(&gateway).await {
                last = Some(error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    if tokio::time::timeout(DEV_START, all).await.is_ok() {
        return Ok(());
    }
    let limit = DEV_START.as_secs();
    match last {
        Some(error) => Err(error).with_context(|| format!("it does not serve after {limit} s")),
        None => bail!("it does not serve after {limit} s"),
    }
}

async fn serves(gateway: &str) -> Result<()> {
    let address: Address = gateway.parse()?;
    let client = Client::connect(address.with_default_timeout(LOOK)).await?;
    let cluster = client.cluster().await?;
    let led = cluster
        .shards
        .iter()
        .filter(|shard| shard.leader != 0)
        .count();
    let shards = cluster.shards.len();
    ensure!(
        shards > 0 && led == shards,
        "gateway {gateway} sees a leader for {led} of {shards} shards"
    );
    Ok(())
}
