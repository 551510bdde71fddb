//! `quorate bench elections`: kills the node that leads most, again and again, on this machine, and times each gap from
//! the kill until all the shards that it led are led again, as a gateway sees it.
//!
//! Nothing is sent meanwhile, so that what is measured is the election: the coordinator's notice of the death, the
//! fences of the replicas, the writes of the coordination store, and the news of it at the gateway.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use quorate_client::Client;
use serde::Serialize;

use super::{
    failover::{LOOK, check_is_node, is_whole, kill, random_pause},
    produce::micros,
    report::{Latency, latency},
};
use crate::{
    arguments::{Common, Format},
    cluster::{self, Picture},
    connection::connect,
    limits::RECOVERY,
    output, progress,
};

/// Pause between two looks at who leads.
const LEADERS_LOOK: Duration = Duration::from_millis(1);
/// How long the cluster must have been whole before the next kill.
const STEADY: Duration = Duration::from_secs(2);
/// From then on the node may lead again itself, so that epochs must be looked at, which costs more.
const MAY_BE_BACK: Duration = Duration::from_secs(1);

/// Flags of `quorate bench elections`.
#[derive(Debug, clap::Args)]
pub(crate) struct Elections {
    /// How many kills
    #[arg(long, default_value_t = 10)]
    kills: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    shards: usize,
    kills: Vec<Kill>,
    all_led_us: Latency,
}

#[derive(Debug, Serialize)]
struct Kill {
    node: String,
    pid: u32,
    led: usize,
    all_led_us: u64,
}

/// A node, and what it leads: the epoch of each shard.
struct Victim {
    name: String,
    id: u32,
    pid: u32,
    led: BTreeMap<u32, u64>,
}

pub(super) async fn run(common: &Common, arguments: Elections) -> Result<()> {
    let client = connect(common).await?;
    let bar = progress::messages(Some(arguments.kills.into()));
    let mut kills = Vec::new();
    let mut shards = 0;
    for _ in 0..arguments.kills {
        let picture = whole(&client).await?;
        shards = picture.shards.len();
        random_pause().await?;
        let victim = victim(&cluster::picture(&client).await?)?;
        check_is_node(victim.pid)?;
        let killed = Instant::now();
        kill(victim.pid)?;
        all_led(&client, &victim, killed).await?;
        kills.push(Kill {
            all_led_us: micros(killed.elapsed()),
            node: victim.name,
            pid: victim.pid,
            led: victim.led.len(),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    print(common.output, shards, kills)
}

/// Waits until all nodes live, and all shards are led with all replicas in their quorums, and that has lasted for a while:
/// of a node that has just come back, some leaders have not heard yet, and two of three nodes are no quorum.
async fn whole(client: &Client) -> Result<Picture> {
    let deadline = Instant::now() + RECOVERY;
    let mut since = None;
    loop {
        let picture = cluster::picture(client).await?;
        since = since.filter(|_| is_whole(&picture));
        if is_whole(&picture) && since.get_or_insert_with(Instant::now).elapsed() >= STEADY {
            return Ok(picture);
        }
        ensure!(
            Instant::now() < deadline,
            "after {} s a node is still away; `quorate dev` starts killed nodes again unless --no-restart is given",
            RECOVERY.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}

fn victim(picture: &Picture) -> Result<Victim> {
    let mut nodes = picture.nodes.iter();
    let first = nodes.next().context("a cluster without nodes")?;
    let node = nodes.fold(first, |most, node| {
        if picture.leads(&node.name) > picture.leads(&most.name) {
            node
        } else {
            most
        }
    });
    let led = picture
        .shards
        .iter()
        .filter(|shard| shard.leader.as_ref() == Some(&node.name));
    Ok(Victim {
        name: node.name.clone(),
        id: node.id,
        pid: node.pid,
        led: led.map(|shard| (shard.id, shard.epoch)).collect(),
    })
}

/// Waits until every shard that the victim led is led in a later epoch.
async fn all_led(client: &Client, victim: &Victim, killed: Instant) -> Result<()> {
    loop {
        let left = if killed.elapsed() < MAY_BE_BACK {
            let shards = client.placement("").await?.shards.into_iter();
            let left = shards
                .filter(|shard| shard.leader == 0 || shard.leader == victim.id)
                .filter(|shard| victim.led.contains_key(&shard.shard));
            left.count()
        } else {
            let shards = cluster::picture(client).await?.shards.into_iter();
            let left = shards.filter(|shard| {
                let before = victim.led.get(&shard.id);
                before.is_some_and(|before| shard.leader.is_none() || shard.epoch <= *before)
            });
            left.count()
        };
        if left == 0 {
            return Ok(());
        }
        ensure!(
            killed.elapsed() < RECOVERY,
            "{left} shards of {} are not led after {} s",
            victim.name,
            RECOVERY.as_secs()
        );
        tokio::time::sleep(LEADERS_LOOK).await;
    }
}

fn print(format: Format, shards: usize, kills: Vec<Kill>) -> Result<()> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for kill in &kills {
        histogram.record(kill.all_led_us)?;
    }
    let report = Report {
        shards,
        kills,
        all_led_us: Latency::from(&histogram),
    };
    if format == Format::Json {
        return output::json(&report);
    }
    for kill in &report.kills {
        output::line(&format!(
            "killed {} (process {}) that led {} of {shards} shards: all led again after {}.{} ms",
            kill.node,
            kill.pid,
            kill.led,
            kill.all_led_us / 1000,
            kill.all_led_us % 1000 / 100
        ))?;
    }
    output::line(&format!(
        "{} kills, {shards} shards; kill to all led again: {}",
        report.kills.len(),
        latency(&report.all_led_us)
    ))
}
