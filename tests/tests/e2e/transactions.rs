//! Transactions over three shards, one after another of many clients, while gateways and leaders are killed and at last
//! the clients and every gateway at once: no transaction is ever there in part, and each that was confirmed is there once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, OutboundMessage, Transactions};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
const SHARDS: usize = 3;
/// Transactions between two kills.
const BETWEEN_KILLS: u64 = 60;
/// What a lost gateway left is resolved within its attempts' 15 s.
const RESOLVED_LIMIT: Duration = Duration::from_secs(60);

/// Names of queues that live in different shards.
async fn queues(client: &Client) -> Result<Vec<String>> {
    let mut shards = BTreeMap::new();
    for number in 0..500 {
        let name = format!("transactions.{number}");
        let shard = client.locate(&name).await?.shard;
        shards.entry(shard).or_insert(name);
        if shards.len() == SHARDS {
            break;
        }
    }
    Ok(shards.into_values().collect())
}

/// Commits one transaction after another, a message to each queue.
async fn commit(
    transactions: Transactions,
    queues: Vec<String>,
    committed: Arc<AtomicU64>,
) -> Result<()> {
    loop {
        let mut transaction = transactions.begin();
        for queue in &queues {
            transaction.send(OutboundMessage::text(queue.clone(), "part"))?;
        }
        transaction.commit().await.context("commit")?;
        committed.fetch_add(1, Ordering::Relaxed);
    }
}

async fn counts(client: &Client) -> Result<Vec<u64>> {
    let listed = client.queues("transactions.").await?;
    Ok(listed.queues.iter().map(|queue| queue.messages).collect())
}

#[tokio::test]
async fn no_transaction_is_there_in_part_whatever_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let queues = queues(&client).await?;
    ensure!(queues.len() == SHARDS, "{queues:?}");
    let committed = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let transactions = client.transactions()?;
        clients.spawn(commit(transactions, queues.clone(), Arc::clone(&committed)));
    }
    for round in 0..6 {
        let before = committed.load(Ordering::Relaxed);
        eventually("transactions to be committed", RESOLVED_LIMIT, async || {
            let more = committed.load(Ordering::Relaxed) - before;
            Ok((more >= BETWEEN_KILLS).then_some(()))
        })
        .await?;
        if round % 2 == 0 {
            let place = round / 2 % cluster.gateways.len();
            cluster.gateways[place].kill()?;
            cluster.gateways[place].start()?;
        } else {
            let (_, node) = cluster.leader_of(&queues[round / 2]).await?;
            cluster.nodes[node].kill()?;
            cluster.nodes[node].start()?;
        }
    }
    // Nobody is left who could repeat: what was under way is the shards' own to resolve.
    for gateway in &mut cluster.gateways {
        gateway.kill()?;
    }
    clients.shutdown().await;
    for gateway in &mut cluster.gateways {
        gateway.start()?;
    }
    cluster.ready().await?;
    let confirmed = committed.load(Ordering::Relaxed);
    eventually("all shards to have the same", RESOLVED_LIMIT, async || {
        let counts = counts(&client).await?;
        let is_whole = counts.len() == SHARDS && counts.iter().all(|count| *count == counts[0]);
        Ok((is_whole && counts[0] >= confirmed).then_some(()))
    })
    .await
    .with_context(|| cluster.log_ends())?;
    let counts = counts(&client).await?;
    let most = confirmed + CLIENTS as u64;
    ensure!(counts[0] <= most, "{counts:?} of {confirmed} confirmed");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
