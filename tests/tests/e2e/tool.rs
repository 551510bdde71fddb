//! The `quorate` tool as its user calls it.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    process::program,
};
use serde_json::Value;
use tokio::task::spawn_blocking;

const PATIENCE: Duration = Duration::from_secs(60);

fn quorate(url: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("quorate")?);
    command
        .args(["--url", url])
        .args(arguments)
        .stdin(Stdio::null());
    Ok(command)
}

async fn output(url: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = quorate(url, arguments)?;
    Ok(spawn_blocking(move || command.output()).await??)
}

async fn json(url: &str, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--output", "json"])
        .collect();
    let output = output(url, &arguments).await?;
    ensure!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).context("it is no JSON")
}

/// Lines as of an access log, told apart by their number.
fn access_log(lines: u32) -> String {
    let line = |i: u32| {
        let (status, size) = (200 + i % 5 * 100, i.wrapping_mul(2_654_435_761) % 90_000);
        format!(
            "192.0.2.{} - - [{i}] \"GET /items/{} HTTP/1.1\" {status} {size}\n",
            i % 250,
            i / 3
        )
    };
    (0..lines).map(line).collect()
}

async fn finish(mut child: Child) -> Result<()> {
    let status = spawn_blocking(move || child.wait()).await??;
    ensure!(status.success(), "{status}");
    Ok(())
}

async fn queued(url: &str, queue: &str) -> Result<u64> {
    let queues = json(url, &["queues"]).await?;
    let found = queues["queues"].as_array().context("no `queues`")?.iter();
    let found = found.filter(|entry| entry["name"] == queue);
    Ok(found.filter_map(|entry| entry["messages"].as_u64()).sum())
}

async fn kill_leader(cluster: &mut Cluster, queue: &str) -> Result<()> {
    let (_, leader) = cluster.leader_of(queue).await?;
    cluster.nodes[leader].kill()?;
    Ok(())
}

async fn restart_nodes(cluster: &mut Cluster) -> Result<()> {
    for node in &mut cluster.nodes {
        if !node.is_running() {
            node.start()?;
        }
    }
    cluster.ready().await
}

fn lines_in(path: &Path) -> usize {
    std::fs::read(path)
        .map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
        .unwrap_or(0)
}

#[tokio::test]
async fn a_file_arrives_identical_and_in_order_while_leaders_and_a_gateway_are_killed() -> Result<()>
{
    const LINES: u32 = 60_000;
    let mut cluster = Cluster::start(Size::default()).await?;
    let url = cluster.url();
    let source = cluster.folder().join("access.log");
    let target = cluster.folder().join("out.log");
    std::fs::write(&source, access_log(LINES))?;

    let source_name = source.display().to_string();
    let sender = quorate(&url, &["send", "orders", "--file", &source_name])?.spawn()?;
    for part in 1..=2 {
        eventually("a part of the file to be queued", PATIENCE, async || {
            Ok((queued(&url, "orders").await? >= u64::from(part * LINES / 4)).then_some(()))
        })
        .await?;
        kill_leader(&mut cluster, "orders").await?;
        restart_nodes(&mut cluster).await?;
    }
    cluster.gateways[0].kill()?;
    finish(sender).await.context("send")?;
    cluster.gateways[0].start()?;
    cluster.ready().await?;
    ensure!(
        queued(&url, "orders").await? == u64::from(LINES),
        "{} queued",
        queued(&url, "orders").await?
    );

    let (target_name, count) = (target.display().to_string(), LINES.to_string());
    let arguments = [
        "receive",
        "orders",
        "--to-file",
        &target_name,
        "--count",
        &count,
    ];
    let receiver = quorate(&url, &arguments)?.spawn()?;
    for part in 1..=2_usize {
        let wanted = usize::try_from(LINES)? * part / 4;
        eventually("a part of the file to be received", PATIENCE, async || {
            Ok((lines_in(&target) >= wanted).then_some(()))
        })
        .await?;
        kill_leader(&mut cluster, "orders").await?;
        if part == 2 {
            cluster.gateways[1].kill()?;
        }
        restart_nodes(&mut cluster).await?;
    }
    finish(receiver).await.context("receive")?;
    let (sent, received) = (std::fs::read(&source)?, std::fs::read(&target)?);
    ensure!(
        sent.len() == received.len(),
        "sent {} bytes, received {}",
        sent.len(),
        received.len()
    );
    ensure!(sent == received, "the same length, but not the same");
    ensure!(queued(&url, "orders").await? == 0, "something is left");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn a_queue_is_browsed_and_purged() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let url = cluster.url();
    for body in ["one", "two", "three"] {
        let sent = output(&url, &["send", "letters", "--message", body]).await?;
        ensure!(
            sent.status.success(),
            "{}",
            String::from_utf8_lossy(&sent.stderr)
        );
    }
    let browsed = output(&url, &["browse", "letters"]).await?;
    let shown = String::from_utf8_lossy(&browsed.stdout).into_owned();
    ensure!(
        ["one", "two", "three"]
            .iter()
            .all(|body| shown.contains(body)),
        "{shown}"
    );
    ensure!(
        queued(&url, "letters").await? == 3,
        "browsing removed something"
    );

    let purged = json(&url, &["purge", "letters", "--yes"]).await?;
    ensure!(purged["removed"] == 3, "{purged}");
    ensure!(
        queued(&url, "letters").await? == 0,
        "the purge left something"
    );

    let deleted = json(&url, &["purge", "letters", "--delete", "--yes"]).await?;
    ensure!(deleted["removed"] == 0, "{deleted}");
    let queues = json(&url, &["queues"]).await?.to_string();
    ensure!(!queues.contains("letters"), "{queues}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    ensure!(cluster.warnings().is_empty(), "{:#?}", cluster.warnings());
    Ok(())
}

#[tokio::test]
async fn the_cluster_is_shown_with_stable_names() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let url = cluster.url();
    // A node that came late gets its share as soon as it is steady.
    let picture = eventually("every node to lead", PATIENCE, async || {
        let picture = json(&url, &["cluster"]).await?;
        let shards = picture["shards"].as_array().context("no `shards`")?;
        let leaders = shards.iter().filter_map(|shard| shard["leader"].as_str());
        let leaders: std::collections::BTreeSet<&str> = leaders.collect();
        Ok((leaders.len() == 3).then_some(picture))
    })
    .await?;
    let shards = picture["shards"].as_array().context("no `shards`")?;
    ensure!(shards.len() == 8, "{picture}");
    for shard in shards {
        ensure!(
            shard["leader"].is_string() && shard["epoch"].as_u64() > Some(0),
            "{shard}"
        );
        ensure!(
            shard["voters"]
                .as_array()
                .is_some_and(|voters| voters.len() == 3),
            "{shard}"
        );
    }
    for node in picture["nodes"].as_array().context("no `nodes`")? {
        ensure!(
            node["alive"] == true && node["pid"].as_u64() > Some(0),
            "{node}"
        );
        ensure!(
            node["address"]
                .as_str()
                .is_some_and(|address| address.contains(':')),
            "{node}"
        );
    }
    let place = json(&url, &["cluster", "where", "orders"]).await?;
    ensure!(
        place["leader"].is_string() && place["shard"].is_u64(),
        "{place}"
    );

    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    ensure!(cluster.warnings().is_empty(), "{:#?}", cluster.warnings());
    Ok(())
}

#[tokio::test]
async fn a_wrong_address_is_an_error_that_says_what_to_do() -> Result<()> {
    let output = output("tcp://127.0.0.1:1?timeout=500", &["queues"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.contains("quorate dev"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn bench_prints_its_figures() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let url = cluster.url();
    let figures = json(
        &url,
        &[
            "bench",
            "--seconds",
            "1",
            "--producers",
            "2",
            "--window",
            "64",
        ],
    )
    .await?;
    ensure!(figures.to_string().contains("p99"), "{figures}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
