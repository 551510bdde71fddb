//! Messages that cross shards while leaders are killed: each arrives once.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, MessageSelection, OutboundMessage};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};

const MESSAGES: usize = 2_000;
/// How long what is on its way may take to arrive when all live again.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
const DEAD_LETTERS: &str = "ActiveMQ.DLQ";

/// A queue that lives in another shard than the dead letters.
async fn elsewhere(cluster: &Cluster) -> Result<String> {
    let (home, _) = cluster.leader_of(DEAD_LETTERS).await?;
    for number in 0..100 {
        let name = format!("orders.{number}");
        if cluster.leader_of(&name).await?.0 != home {
            return Ok(name);
        }
    }
    anyhow::bail!("every name lives in shard {home}")
}

async fn fill(client: &Client, queue: &str) -> Result<()> {
    let producer = client.producer(&Default::default())?;
    let mut confirms = Vec::with_capacity(MESSAGES);
    for number in 0..MESSAGES {
        let message = OutboundMessage::text(queue, format!("order {number}"));
        confirms.push(producer.send(message).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

/// Kills the leader of a queue and starts it again.
async fn strike(cluster: &mut Cluster, queue: &str) -> Result<()> {
    let (_, leader) = cluster.leader_of(queue).await?;
    cluster.nodes[leader].kill()?;
    cluster.ready().await?;
    cluster.nodes[leader].start()
}

/// How often each body is in a queue, by looking.
async fn bodies(client: &Client, queue: &str) -> Result<BTreeMap<String, usize>> {
    let mut bodies = BTreeMap::new();
    let mut pages = client.browse(queue, None, 0).await?;
    while let Some(page) = pages.next().await? {
        for delivery in page {
            let body = String::from_utf8(delivery.message.body.to_vec())?;
            *bodies.entry(body).or_insert(0) += 1;
        }
    }
    Ok(bodies)
}

async fn all_arrive_once(client: &Client, queue: &str, count: usize) -> Result<()> {
    eventually("everything to arrive", ARRIVAL_LIMIT, async || {
        let under_way = client.outbox().await?.targets;
        ensure!(under_way.is_empty(), "on the way: {under_way:?}");
        let found = bodies(client, queue).await?;
        ensure!(found.len() == count, "{} of {count} are there", found.len());
        Ok(Some(()))
    })
    .await?;
    let found = bodies(client, queue).await?;
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count != 1).collect();
    ensure!(twice.is_empty(), "arrived more than once: {twice:?}");
    Ok(())
}

#[tokio::test]
async fn moved_messages_arrive_once_while_leaders_of_both_shards_are_killed() -> Result<()> {
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let source = elsewhere(&cluster).await?;
    fill(&client, &source).await?;
    let mut selection = MessageSelection {
        queue: source.clone(),
        ..MessageSelection::default()
    };
    let mut moved = 0;
    let mut page_number = 0;
    loop {
        let page = client
            .move_messages(&selection, DEAD_LETTERS)
            .await
            .with_context(|| cluster.log_ends())?;
        moved += page.transferred;
        page_number += 1;
        match page_number {
            1 => strike(&mut cluster, &source).await?,
            3 => strike(&mut cluster, DEAD_LETTERS).await?,
            5 => strike(&mut cluster, &source).await?,
            _ => {}
        }
        let Some(next) = page.next else {
            break;
        };
        selection.cursor = Some(next);
    }
    // A page whose answer was lost is not counted, though it was moved.
    ensure!(moved <= MESSAGES as u64, "{moved} were moved");
    all_arrive_once(&client, DEAD_LETTERS, MESSAGES)
        .await
        .with_context(|| cluster.log_ends())?;
    ensure!(bodies(&client, &source).await?.is_empty(), "some stayed");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
