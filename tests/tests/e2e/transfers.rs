//! A cluster that carries messages moves from one coordination store to another, and to a third.

#![expect(
    clippy::print_stderr,
    reason = "each move tells how long no coordinator was active"
)]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ConsumerOptions, OutboundMessage};
use quorate_tests::{
    cluster::{Cluster, Coordination, Size},
    ensemble::Ensemble,
    etcd::Etcd,
    load::Load,
    process::Service,
    zookeeper::Zookeeper,
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    coordinators::{SHAPE, conclude, coordinated, epochs, flows, queues},
    stores::{self, Lone},
};

const SIZE: Size = Size {
    nodes: 3,
    gateways: 2,
};
/// How long messages must flow while nobody coordinates.
const WHILE: Duration = Duration::from_secs(1);
/// Messages that nobody receives before the last move.
const KEPT: usize = 50;

/// Runs a command of the coordinator's program that must succeed.
async fn demand(service: &Service, arguments: &[&str]) -> Result<()> {
    let output = service.run(arguments).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?}: {said}{wrong}");
    eprintln!("{}", said.trim());
    Ok(())
}

/// Runs one that must fail, and say so.
async fn refused(service: &Service, arguments: &[&str], because: &str) -> Result<()> {
    let output = service.run(arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{arguments:?} succeeded");
    ensure!(said.contains(because), "{arguments:?}: {said}");
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

#[tokio::test]
async fn a_running_cluster_moves_from_embedded_to_etcd_and_on_to_zookeeper() -> Result<()> {
    let (etcd, zookeeper) = tokio::try_join!(Etcd::start(3), Zookeeper::start(3))?;
    let coordination = Coordination {
        // Only what must move moves.
        settings: vec![("REBALANCE", "false".to_owned())],
        ..Coordination::default()
    };
    let mut cluster = Cluster::start_on(SIZE, &[], &coordination).await?;
    let queues = queues(&cluster).await?;
    coordinated(&mut cluster).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let producer = client.producer(&Default::default())?;
    for number in 0..KEPT {
        let message = OutboundMessage::text("kept", number.to_string());
        producer.send(message).await?.await?;
    }
    let mut load = Load::start(&cluster.url(), &queues, SHAPE).await?;
    load.next_confirm(&queues[0], Instant::now()).await?;

    let folder = TempDir::with_prefix("quorate-export-")?;
    let file = folder.path().join("from-embedded");
    let busy = ["export", text(&file)?];
    refused(&cluster.coordinator, &busy, "stop all coordinators").await?;
    let data = cluster.folder().join("co01").display().to_string();
    moves(&mut cluster, &mut load, &queues, &file, &etcd).await?;
    // The store that was left starts no second cluster beside this one.
    let mut former = Lone::new(folder.path(), "test", &[("DATA", data)])?;
    let said = former.refuses().await?;
    ensure!(said.contains("reinstate"), "{said}");

    let file = folder.path().join("from-etcd");
    moves(&mut cluster, &mut load, &queues, &file, &zookeeper).await?;
    let said = text(&file)?;
    refused(&cluster.coordinator, &["import", said], "stop all coord").await?;

    let mut consumer = client.consumer("kept", &ConsumerOptions::default())?;
    for number in 0..KEPT {
        let delivery = consumer.receive().await?;
        ensure!(delivery.message.body == number.to_string().as_bytes());
        consumer.accept(&delivery);
    }
    consumer.flush().await?;
    conclude(load, &cluster).await
}

/// Moves the cluster's coordination data to another store while messages flow, and kills a leader after it.
async fn moves<E: Ensemble>(
    cluster: &mut Cluster,
    load: &mut Load,
    queues: &[String],
    file: &Path,
    to: &E,
) -> Result<()> {
    let before = epochs(cluster).await?;
    let stopped = Instant::now();
    ensure!(cluster.coordinator.stop()?, "a clean stop");
    demand(&cluster.coordinator, &["export", "--retire", text(file)?]).await?;
    for (key, value) in stores::settings(to) {
        cluster.coordinator.set(key, &value);
    }
    let damaged = file.with_extension("damaged");
    let exported = fs::read_to_string(file)?;
    fs::write(
        &damaged,
        exported.replacen("\\\"epoch\\\":", "\\\"epoch\\\":1", 1),
    )?;
    let damaged = ["import", text(&damaged)?];
    refused(&cluster.coordinator, &damaged, "checksum").await?;
    demand(&cluster.coordinator, &["import", text(file)?]).await?;
    // Whoever missed the answer asks again.
    demand(&cluster.coordinator, &["import", text(file)?]).await?;
    let longest = flows(cluster, load, queues, WHILE).await?;
    cluster.coordinator.start()?;
    coordinated(cluster).await?;
    eprintln!(
        "to {}: {:?} without a coordinator, longest confirm {longest:?}",
        E::STORE,
        stopped.elapsed()
    );
    let after = epochs(cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );

    let (shard, leader) = cluster.leader_of(&queues[0]).await?;
    cluster.nodes[leader].kill()?;
    let gap = load.next_confirm(&queues[0], Instant::now()).await;
    gap.with_context(|| cluster.log_ends())?;
    cluster.nodes[leader].start()?;
    coordinated(cluster).await?;
    rises(&before, &epochs(cluster).await?, shard)
}

/// Demands that no epoch went back, and that of one shard rose.
fn rises(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>, shard: u32) -> Result<()> {
    let went_back = before.iter().find(|(shard, epoch)| after[shard] < **epoch);
    ensure!(went_back.is_none(), "{before:?}, then {after:?}");
    ensure!(before[&shard] < after[&shard], "{before:?}, then {after:?}");
    Ok(())
}
