//! Queues move from shard to shard while they are used, and while the leaders of both shards are killed: what was confirmed
//! is received, once and in order, and no client sees an error.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ConsumerOptions, OutboundMessage, ProducerOptions};
use quorate_sim::checker::Rules;
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    load::{Load, Shape},
};
use tokio::time::Instant;

/// How long a move may take, and a node until it counts again.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

async fn client(cluster: &Cluster) -> Result<Client> {
    Client::connect(cluster.url().parse()?)
        .await
        .context("connect")
}

/// Waits until a queue lives in a shard and is not being moved.
pub(super) async fn arrived(client: &Client, queue: &str, shard: u32) -> Result<()> {
    eventually("the queue to be there", LIMIT, async || {
        let placed = client.placement(queue).await?.destination;
        let placed = placed.context("the answer names the queue")?;
        Ok((placed.shard == shard && placed.moving_to == 0).then_some(()))
    })
    .await
}

/// Another shard than this one, led by another node if there is one.
pub(super) async fn another(client: &Client, than: u32) -> Result<u32> {
    let shards = client.placement("").await?.shards;
    let leader = |of: u32| {
        let found = shards.iter().find(|shard| shard.shard == of);
        found.map(|shard| shard.leader)
    };
    let other = shards
        .iter()
        .map(|shard| shard.shard)
        .filter(|shard| *shard != than);
    let mut other: Vec<u32> = other.collect();
    other.sort_by_key(|shard| leader(*shard) == leader(than));
    other.first().copied().context("there is one shard only")
}

pub(super) async fn rejoin(cluster: &mut Cluster) -> Result<()> {
    for node in &mut cluster.nodes {
        if !node.is_running() {
            node.start()?;
        }
    }
    cluster.ready().await?;
    eventually("every replica to count again", LIMIT, async || {
        let picture = cluster.picture(0).await?;
        let is_whole = picture.shards.iter().all(|shard| {
            let counted = shard.replicas.iter().filter(|replica| replica.in_quorum);
            counted.count() == 3
        });
        Ok(is_whole.then_some(()))
    })
    .await
    .with_context(|| cluster.log_ends())
}

#[tokio::test]
async fn a_queue_moves_under_load_while_leaders_are_killed() -> Result<()> {
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let queues = ["moved".to_owned(), "other".to_owned()];
    let mut load = Load::start(
        &cluster.url(),
        &queues,
        Shape {
            producers: 2,
            consumers: 2,
        },
    )
    .await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    let client = client(&cluster).await?;
    // Nobody, the leader of the shard that it leaves, that of the one that it goes to.
    for (round, victim) in [None, Some(false), Some(true), None]
        .into_iter()
        .enumerate()
    {
        let (from, source) = cluster.leader_of("moved").await?;
        let to = another(&client, from).await?;
        let begun = Instant::now();
        client.move_destination("moved", to).await?;
        if let Some(is_target) = victim {
            let shards = client.placement("").await?.shards;
            let target = shards.iter().find(|shard| shard.shard == to);
            let target = target.map_or(0, |shard| shard.leader);
            let picture = cluster.picture(0).await?;
            let name = picture.nodes.iter().find(|node| node.id == target);
            let name = name.map(|node| node.name.clone()).unwrap_or_default();
            let place = match is_target {
                false => source,
                true => {
                    let mut nodes = cluster.nodes.iter();
                    let found = nodes.position(|node| node.name() == name);
                    found.context("the target's leader is one of the nodes")?
                }
            };
            cluster.nodes[place].kill()?;
        }
        let gap = load.next_confirm(&queues[0], begun).await;
        let gap = gap.with_context(|| cluster.log_ends())?;
        arrived(&client, "moved", to)
            .await
            .with_context(|| cluster.log_ends())?;
        let took = begun.elapsed();
        eprintln!(
            "round {round}: shard {from} to {to}, killed {victim:?}, next confirm after {gap:?}, there after {took:?}"
        );
        let after = load.next_confirm(&queues[0], Instant::now()).await;
        after.with_context(|| cluster.log_ends())?;
        rejoin(&mut cluster).await?;
    }
    let verdict = load
        .judge(Rules::default())
        .await
        .with_context(|| cluster.log_ends())?;
    eprintln!("{verdict}");
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn a_backlog_moves_in_order() -> Result<()> {
    const MESSAGES: usize = 3_000;
    let cluster = Cluster::start(Size::default()).await?;
    let client = client(&cluster).await?;
    let producer = client.producer(&ProducerOptions::default())?;
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        let message = OutboundMessage::text("backlog", number.to_string());
        confirms.push(producer.send(message).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    let (from, _) = cluster.leader_of("backlog").await?;
    let to = another(&client, from).await?;
    client.move_destination("backlog", to).await?;
    arrived(&client, "backlog", to)
        .await
        .with_context(|| cluster.log_ends())?;
    let refused = client.move_destination("backlog", to).await;
    ensure!(refused.is_err(), "it is there");
    let mut consumer = client.consumer("backlog", &ConsumerOptions::default())?;
    for number in 0..MESSAGES {
        let delivery = consumer.receive().await?;
        ensure!(
            delivery.message.body == number.to_string().as_bytes(),
            "message {number} is {:?}",
            delivery.message.body
        );
        ensure!(!delivery.redelivered, "nobody had message {number}");
        consumer.accept(&delivery);
    }
    consumer.flush().await?;
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
