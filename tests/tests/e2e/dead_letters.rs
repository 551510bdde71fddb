//! Messages that cross shards while leaders are killed: each arrives once.

use std::{collections::BTreeMap, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ConsumerOptions, MessageSelection, OutboundMessage};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    process::program,
};
use tokio::{task::spawn_blocking, time::timeout};

const MESSAGES: usize = 2_000;
/// How long what is on its way may take to arrive when all live again.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
/// A consumer that gets nothing for so long looks whether its queue is empty.
const QUIET: Duration = Duration::from_millis(500);
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

/// Fails with every message of a queue, until nothing is in it: rejects each third, returns the others.
async fn fail_with_all(client: &Client, queue: &str) -> Result<()> {
    let mut consumer = client.consumer(queue, &ConsumerOptions::default())?;
    loop {
        let Ok(next) = timeout(QUIET, consumer.receive()).await else {
            consumer.flush().await?;
            let left = client.queues(queue).await?.queues;
            if left.iter().all(|queue| queue.messages == 0) {
                return Ok(());
            }
            continue;
        };
        let delivery = next?;
        let body = String::from_utf8(delivery.message.body.to_vec())?;
        let number: usize = body.trim_start_matches("order ").parse()?;
        match number.is_multiple_of(3) {
            true => consumer.reject(&delivery),
            false => consumer.return_failed(&delivery),
        }
    }
}

/// Consumes as many messages as there are; how often each came.
async fn consume_all(client: &Client, queue: &str) -> Result<BTreeMap<String, usize>> {
    let mut consumer = client.consumer(queue, &ConsumerOptions::default())?;
    let mut consumed = BTreeMap::new();
    for _ in 0..MESSAGES {
        let delivery = timeout(ARRIVAL_LIMIT, consumer.receive()).await??;
        ensure!(delivery.delivery_count == 0, "it begins anew: {delivery:?}");
        let body = String::from_utf8(delivery.message.body.to_vec())?;
        *consumed.entry(body).or_insert(0) += 1;
        consumer.accept(&delivery);
    }
    consumer.flush().await?;
    Ok(consumed)
}

#[tokio::test]
async fn poison_messages_end_as_dead_letters_once_and_are_consumed_once_when_retried() -> Result<()>
{
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let url = cluster.url();
    let client = Client::connect(url.parse()?).await?;
    let source = elsewhere(&cluster).await?;
    fill(&client, &source).await?;
    let striking = async {
        for (letters, struck) in [(100, DEAD_LETTERS), (600, &source), (1_200, DEAD_LETTERS)] {
            eventually("messages to die", ARRIVAL_LIMIT, async || {
                let found = bodies(&client, DEAD_LETTERS).await?.len();
                Ok((found >= letters).then_some(()))
            })
            .await?;
            strike(&mut cluster, struck).await?;
        }
        Ok(())
    };
    let failing = fail_with_all(&client, &source);
    let both = timeout(2 * ARRIVAL_LIMIT, async {
        tokio::try_join!(failing, striking)
    })
    .await;
    both.map_err(anyhow::Error::from)
        .flatten()
        .with_context(|| cluster.log_ends())?;
    all_arrive_once(&client, DEAD_LETTERS, MESSAGES)
        .await
        .with_context(|| cluster.log_ends())?;
    ensure!(bodies(&client, &source).await?.is_empty(), "some stayed");

    let mut retry = Command::new(program("quorate")?);
    retry.args(["--url", &url, "dead-letters", "retry"]);
    let mut retrying = retry.spawn()?;
    eventually("the first to be back", ARRIVAL_LIMIT, async || {
        Ok((!bodies(&client, &source).await?.is_empty()).then_some(()))
    })
    .await
    .with_context(|| cluster.log_ends())?;
    strike(&mut cluster, DEAD_LETTERS).await?;
    strike(&mut cluster, &source).await?;
    let status = timeout(ARRIVAL_LIMIT, spawn_blocking(move || retrying.wait())).await???;
    ensure!(status.success(), "{status}");
    all_arrive_once(&client, &source, MESSAGES)
        .await
        .with_context(|| cluster.log_ends())?;
    ensure!(
        bodies(&client, DEAD_LETTERS).await?.is_empty(),
        "some stayed dead"
    );

    let consumed = consume_all(&client, &source).await?;
    ensure!(
        consumed.len() == MESSAGES,
        "{} of {MESSAGES}",
        consumed.len()
    );
    ensure!(
        bodies(&client, &source).await?.is_empty(),
        "something is left"
    );
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
