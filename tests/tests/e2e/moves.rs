//! Changes of leader that nobody may notice: planned moves, drained nodes and nodes that are stopped in order lose not
//! even non-persistent messages; kills send nothing twice to consumers whose gateway lives.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quorate_client::Client;
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    strict::{Line, Strict},
};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::failover::{queues, rejoin};

const LIMIT: Duration = Duration::from_secs(30);
/// Messages confirmed between two disturbances.
const BETWEEN: usize = 150;

async fn cluster() -> Result<Cluster> {
    let size = Size {
        nodes: 3,
        gateways: 2,
    };
    Cluster::start(size).await
}

/// Persistent and non-persistent messages on each queue.
fn both(queues: &[String]) -> Vec<Line> {
    let line = |queue: &String, non_persistent| Line {
        queue: queue.clone(),
        prefetch: 100,
        non_persistent,
    };
    let lines = queues
        .iter()
        .flat_map(|queue| [line(queue, false), line(queue, true)]);
    lines.collect()
}

/// How many shards each node leads, by its place.
async fn leads(cluster: &Cluster, node: usize) -> Result<usize> {
    let picture = cluster.picture(0).await?;
    let name = cluster.nodes[node].name();
    let id = picture.nodes.iter().find(|known| known.name == name);
    let id = id.context("the node is known")?.id;
    let led = picture.shards.iter().filter(|shard| shard.leader == id);
    Ok(led.count())
}

#[tokio::test]
async fn leaders_are_moved_round_and_round_and_nodes_drained_and_nobody_notices() -> Result<()> {
    const MOVES: usize = 20;
    let cluster = cluster().await?;
    let queues = queues(&cluster, 2).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let load = Strict::start(&cluster.url(), &both(&queues)).await?;
    load.go_on(BETWEEN).await?;
    let mut took = Vec::new();
    for number in 0..MOVES {
        let queue = &queues[number % queues.len()];
        let (shard, leader) = cluster.leader_of(queue).await?;
        let target = (leader + 1 + number % 2) % cluster.nodes.len();
        let begun = Instant::now();
        client
            .move_leader(shard, cluster.nodes[target].name())
            .await?;
        eventually("the leader to be another", LIMIT, async || {
            Ok((cluster.leader_of(queue).await?.1 == target).then_some(()))
        })
        .await
        .with_context(|| cluster.log_ends())?;
        took.push(begun.elapsed());
        load.go_on(BETWEEN).await?;
    }
    took.sort();
    eprintln!(
        "{MOVES} moves took {:?} to {:?}",
        took.first().context("some")?,
        took.last().context("some")?
    );
    for node in 0..cluster.nodes.len() {
        let name = cluster.nodes[node].name();
        client.drain_node(name, true).await?;
        eventually("the node to lead nothing", LIMIT, async || {
            Ok((leads(&cluster, node).await? == 0).then_some(()))
        })
        .await
        .with_context(|| cluster.log_ends())?;
        load.go_on(BETWEEN).await?;
        client.drain_node(name, false).await?;
        load.go_on(BETWEEN).await?;
    }
    let count = load.finish().await.with_context(|| cluster.log_ends())?;
    eprintln!("{count} messages, none lost, none twice");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn nodes_are_stopped_in_order_one_after_the_other_and_nobody_notices() -> Result<()> {
    let mut cluster = cluster().await?;
    let queues = queues(&cluster, 2).await?;
    let load = Strict::start(&cluster.url(), &both(&queues)).await?;
    load.go_on(BETWEEN).await?;
    for node in 0..cluster.nodes.len() {
        let begun = Instant::now();
        cluster.nodes[node].signal(Signal::TERM)?;
        let stopping = std::cell::RefCell::new(&mut cluster.nodes[node]);
        eventually("the node to stop", LIMIT, async || {
            Ok((!stopping.borrow_mut().is_running()).then_some(()))
        })
        .await?;
        ensure!(
            cluster.nodes[node].log().contains("leads nothing"),
            "it did not hand over: {}",
            cluster.log_ends()
        );
        eprintln!(
            "{} stopped in {:?}",
            cluster.nodes[node].name(),
            begun.elapsed()
        );
        load.go_on(BETWEEN).await?;
        rejoin(&mut cluster).await?;
        load.go_on(BETWEEN).await?;
    }
    let count = load.finish().await.with_context(|| cluster.log_ends())?;
    eprintln!("{count} messages, none lost, none twice");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn twenty_kills_of_leaders_send_nothing_twice_at_any_prefetch() -> Result<()> {
    const KILLS: usize = 20;
    let mut cluster = cluster().await?;
    let queues = queues(&cluster, 3).await?;
    let lines: Vec<Line> = queues
        .iter()
        .zip([1, 100, 1000])
        .map(|(queue, prefetch)| Line {
            queue: queue.clone(),
            prefetch,
            non_persistent: false,
        })
        .collect();
    let load = Strict::start(&cluster.url(), &lines).await?;
    load.go_on(BETWEEN).await?;
    for kill in 0..KILLS {
        let queue = &queues[kill % queues.len()];
        let (_, leader) = cluster.leader_of(queue).await?;
        cluster.nodes[leader].kill()?;
        load.go_on(BETWEEN).await?;
        rejoin(&mut cluster).await?;
    }
    let count = load.finish().await.with_context(|| cluster.log_ends())?;
    eprintln!("{KILLS} kills, {count} messages, none lost, none twice, none marked");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
