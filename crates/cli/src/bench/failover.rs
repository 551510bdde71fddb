//! `quorate bench failover`: kills the leader of a queue's shard again and again, under load, on this machine.
//!
//! The gap is from the kill to the first confirm of a message that was sent after it, so that a confirm that was on its
//! way already does not count.

use std::{
    collections::VecDeque,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use quorate_client::{Client, Confirm, OutboundMessage, Producer, ProducerOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{
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

/// What a process must be called to be killed.
const NODE: &str = "quorate-storage-node";
/// How far the load may fall behind and still catch up: timers are not exact.
const CATCH_UP: Duration = Duration::from_millis(5);
/// Pause between two looks at the cluster.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// Flags of `quorate bench failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Failover {
    /// How many kills
    #[arg(long, default_value_t = 10)]
    kills: u32,

    /// The queue whose leader is killed; it is purged at the end
    #[arg(long, default_value = "bench-failover")]
    queue: String,

    /// Bytes of each message
    #[arg(long, default_value_t = 1024)]
    size: usize,

    /// Most unconfirmed messages
    #[arg(long, default_value_t = 256)]
    window: usize,

    /// Messages a second
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    kills: Vec<Kill>,
    confirmed: u64,
    gap_us: Latency,
}

#[derive(Debug, Serialize)]
struct Kill {
    node: String,
    pid: u32,
    unconfirmed: usize,
    gap_us: u64,
}

struct Load {
    producer: Producer,
    queue: String,
    body: bytes::Bytes,
    window: usize,
    interval: Duration,
    due: Instant,
    unconfirmed: VecDeque<(Confirm, Instant)>,
    confirmed: u64,
    errors: u64,
}

pub(super) async fn run(common: &Common, arguments: Failover) -> Result<()> {
    let client = connect(common).await?;
    let options = ProducerOptions {
        window_messages: arguments.window,
        ..ProducerOptions::default()
    };
    let mut load = Load {
        producer: client.producer(&options)?,
        queue: arguments.queue.clone(),
        body: vec![0x71; arguments.size].into(),
        window: arguments.window.max(1),
        interval: Duration::try_from_secs_f64(1.0 / arguments.rate)
            .with_context(|| format!("--rate {} is no rate", arguments.rate))?,
        due: Instant::now(),
        unconfirmed: VecDeque::new(),
        confirmed: 0,
        errors: 0,
    };
    let bar = progress::messages(Some(arguments.kills.into()));
    let mut kills = Vec::new();
    for _ in 0..arguments.kills {
        let (node, pid) = load
            .during(whole(&client, &arguments.queue))
            .await?
            .context("wait for the cluster to be whole")?;
        load.during(random_pause()).await??;
        let unconfirmed = load.unconfirmed.len();
        check_is_node(pid)?;
        kill(pid)?;
        let gap_us = micros(load.gap(Instant::now()).await?);
        kills.push(Kill {
            node,
            pid,
            unconfirmed,
            gap_us,
        });
        bar.inc(1);
    }
    load.drain().await?;
    ensure!(
        load.errors == 0,
        "{} messages were not confirmed",
        load.errors
    );
    client.purge(&arguments.queue).await?;
    bar.finish_and_clear();
    print(common.output, kills, load.confirmed)
}

fn print(format: Format, kills: Vec<Kill>, confirmed: u64) -> Result<()> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for kill in &kills {
        histogram.record(kill.gap_us)?;
    }
    let report = Report {
        kills,
        confirmed,
        gap_us: Latency::from(&histogram),
    };
    if format == Format::Json {
        return output::json(&report);
    }
    for kill in &report.kills {
        output::line(&format!(
            "killed {} (process {}) with {} unconfirmed: next confirm after {}.{:01} ms",
            kill.node,
            kill.pid,
            kill.unconfirmed,
            kill.gap_us / 1000,
            kill.gap_us % 1000 / 100
        ))?;
    }
    output::line(&format!(
        "{} kills, {} messages confirmed; kill to next confirm: {}",
        report.kills.len(),
        report.confirmed,
        latency(&report.gap_us)
    ))
}

impl Load {
    /// Keeps the load up while something else is awaited.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                stepped = self.step() => { stepped?; }
            }
        }
    }

    /// Sends or takes confirms until one comes for a message that was sent after the kill.
    async fn gap(&mut self, killed: Instant) -> Result<Duration> {
        loop {
            if let Some(sent) = self.step().await?
                && sent > killed
            {
                return Ok(killed.elapsed());
            }
        }
    }

    /// Sends a message if one is due and there is room, and returns when the oldest was sent if that is confirmed.
    async fn step(&mut self) -> Result<Option<Instant>> {
        let has_room = self.unconfirmed.len() < self.window;
        let now = Instant::now();
        if has_room && now >= self.due {
            let message = OutboundMessage::bytes(self.queue.clone(), self.body.clone());
            let confirm = self.producer.send(message).await?;
            self.unconfirmed.push_back((confirm, now));
            // What a pause left over is not sent all at once behind it: the load stays what it is.
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            self.due = earliest.max(self.due + self.interval);
        }
        let next = tokio::time::Instant::from_std(self.due);
        let Some((confirm, sent)) = self.unconfirmed.front_mut() else {
            tokio::time::sleep_until(next).await;
            return Ok(None);
        };
        let sent = *sent;
        tokio::select! {
            biased;
            outcome = confirm => Ok(self.settled(outcome, sent)),
            () = tokio::time::sleep_until(next), if has_room => Ok(None),
        }
    }

    fn settled(
        &mut self,
        outcome: Result<(), quorate_client::Error>,
        sent: Instant,
    ) -> Option<Instant> {
        self.unconfirmed.pop_front();
        if outcome.is_ok() {
            self.confirmed += 1;
            Some(sent)
        } else {
            self.errors += 1;
            None
        }
    }

    async fn drain(&mut self) -> Result<()> {
        while let Some((confirm, _)) = self.unconfirmed.front_mut() {
            let outcome = confirm.await;
            self.settled(outcome, Instant::now());
        }
        Ok(())
    }
}

/// Waits until all nodes live and all replicas are counted, and returns the leader of the queue.
async fn whole(client: &Client, queue: &str) -> Result<(String, u32)> {
    let deadline = Instant::now() + RECOVERY;
    loop {
        let picture = cluster::picture(client).await?;
        let place = client.locate(queue).await?;
        let leader = leader(&picture, place.shard);
        if let Some((name, pid)) = leader
            && is_whole(&picture)
        {
            return Ok((name, pid));
        }
        ensure!(
            Instant::now() < deadline,
            "after {} s a node is still away; `quorate dev` starts killed nodes again unless --no-restart is given",
            RECOVERY.as_secs()
        );
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn is_whole(picture: &Picture) -> bool {
    picture.nodes.iter().all(|node| node.alive)
        && picture.shards.iter().all(|shard| {
            shard.leader.is_some() && shard.replicas.iter().all(|replica| replica.in_quorum)
        })
}

fn leader(picture: &Picture, shard: u32) -> Option<(String, u32)> {
    let shard = picture.shards.iter().find(|known| known.id == shard)?;
    let name = shard.leader.as_ref()?;
    let node = picture.nodes.iter().find(|node| node.name == *name)?;
    Some((node.name.clone(), node.pid))
}

/// Waits up to a second, so that kills fall on any moment of the cluster's own rhythm.
pub(super) async fn random_pause() -> Result<()> {
    let random = getrandom::u64().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    tokio::time::sleep(Duration::from_micros(random % 1_000_000)).await;
    Ok(())
}

/// Refuses to kill anything that is not a storage node on this machine.
pub(super) fn check_is_node(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/exe");
    let program = std::fs::read_link(&path).with_context(|| {
        format!("process {pid} is not on this machine, or not yours: failover can only be measured beside the nodes")
    })?;
    let name = program
        .file_name()
        .map(Path::new)
        .unwrap_or_else(|| Path::new(""));
    // A program that was built anew since it started is shown with " (deleted)" behind its name.
    if !name.to_string_lossy().starts_with(NODE) {
        bail!("process {pid} is {}, not {NODE}", program.display());
    }
    Ok(())
}

pub(super) fn kill(pid: u32) -> Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = raw.with_context(|| format!("{pid} is no process"))?;
    kill_process(pid, Signal::KILL).with_context(|| format!("kill process {pid:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_storage_nodes_may_be_killed() {
        let error = check_is_node(std::process::id()).expect_err("a test is no node");
        assert!(error.to_string().contains(NODE), "{error}");
        assert!(check_is_node(0).is_err());
    }
}
