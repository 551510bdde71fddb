//! Several coordinators over a real etcd or ZooKeeper: one is active, another takes over, and messages flow whatever of them is away.

#![expect(
    clippy::print_stderr,
    reason = "each run tells how long what was away was felt"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_sim::checker::Rules;
use quorate_tests::{
    cluster::{Cluster, Coordination, Size},
    ensemble::Ensemble,
    etcd::Etcd,
    eventually::eventually,
    load::{Load, Shape},
    proxy::Proxy,
    zookeeper::Zookeeper,
};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::stores;

/// How long what waited for a coordinator may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The coordinators' session.
const SESSION: Duration = Duration::from_secs(2);
/// Longer than every session: what is away for so long has lost everything that it held.
const LONGER_THAN_A_SESSION: Duration = Duration::from_secs(4);
/// How much later than a session a busy machine may take over.
const BUSY: Duration = Duration::from_secs(5);
const COORDINATORS: usize = 3;

const SIZE: Size = Size {
    nodes: 3,
    gateways: 2,
};
pub(crate) const SHAPE: Shape = Shape {
    producers: 2,
    consumers: 1,
};

async fn start<E: Ensemble>(store: &E, endpoints: Vec<String>) -> Result<(Cluster, Vec<String>)> {
    let mut settings = stores::settings(store);
    settings.push(("STORE_SESSION_MS", SESSION.as_millis().to_string()));
    // Only what must move moves.
    settings.push(("REBALANCE", "false".to_owned()));
    let coordination = Coordination {
        coordinators: COORDINATORS,
        settings,
        endpoints,
    };
    let cluster = Cluster::start_on(SIZE, &[], &coordination).await?;
    let queues = queues(&cluster).await?;
    Ok((cluster, queues))
}

/// Queues in three shards.
pub(crate) async fn queues(cluster: &Cluster) -> Result<Vec<String>> {
    let mut queues = BTreeMap::new();
    for number in 0..200 {
        let name = format!("load.{number}");
        let (shard, _) = cluster.leader_of(&name).await?;
        queues.entry(shard).or_insert(name);
        if queues.len() == 3 {
            break;
        }
    }
    Ok(queues.into_values().collect())
}

/// The place of the one active coordinator, waited for.
async fn active(cluster: &Cluster) -> Result<usize> {
    eventually("an active coordinator", LIMIT, async || {
        let found = cluster.active().await;
        ensure!(found.len() < 2, "two are active: {found:?}");
        Ok(found.first().copied())
    })
    .await
    .with_context(|| cluster.log_ends())
}

/// Waits until no coordinator takes itself for the active one.
async fn none_is_active(cluster: &Cluster) -> Result<()> {
    eventually("every coordinator to give up", LIMIT, async || {
        let found = cluster.active().await;
        ensure!(found.is_empty(), "active: {found:?}");
        Ok(Some(()))
    })
    .await
    .with_context(|| cluster.log_ends())
}

/// Waits until every gateway that runs hears a coordinator and sees every shard led.
pub(crate) async fn coordinated(cluster: &mut Cluster) -> Result<()> {
    eventually("a coordinator to be heard", LIMIT, async || {
        for gateway in 0..cluster.gateways.len() {
            if !cluster.picture(gateway).await?.coordinator_reachable {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
    .with_context(|| cluster.log_ends())?;
    cluster.ready().await.with_context(|| cluster.log_ends())
}

pub(crate) async fn epochs(cluster: &Cluster) -> Result<BTreeMap<u32, u64>> {
    let picture = cluster.picture(0).await?;
    let shards = picture.shards.iter();
    Ok(shards.map(|shard| (shard.id, shard.epoch)).collect())
}

/// Demands confirms on every queue for as long as `duration`.
pub(crate) async fn flows(
    cluster: &Cluster,
    load: &mut Load,
    queues: &[String],
    duration: Duration,
) -> Result<Duration> {
    let until = Instant::now() + duration;
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        for queue in queues {
            let gap = load.next_confirm(queue, Instant::now()).await;
            longest = longest.max(gap.with_context(|| cluster.log_ends())?);
        }
    }
    Ok(longest)
}

pub(crate) async fn conclude(load: Load, cluster: &Cluster) -> Result<()> {
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
async fn nothing_is_felt_while_all_coordinators_are_away_and_etcd() -> Result<()> {
    Box::pin(nothing_is_felt::<Etcd>()).await
}

#[tokio::test]
async fn nothing_is_felt_while_all_coordinators_are_away_and_zookeeper() -> Result<()> {
    Box::pin(nothing_is_felt::<Zookeeper>()).await
}

#[tokio::test]
async fn another_coordinator_takes_over_and_elects_by_etcd() -> Result<()> {
    Box::pin(another_takes_over::<Etcd>()).await
}

#[tokio::test]
async fn another_coordinator_takes_over_and_elects_by_zookeeper() -> Result<()> {
    Box::pin(another_takes_over::<Zookeeper>()).await
}

#[tokio::test]
async fn one_that_is_cut_off_is_replaced_and_decides_nothing_by_etcd() -> Result<()> {
    Box::pin(one_is_cut_off::<Etcd>()).await
}

#[tokio::test]
async fn one_that_is_cut_off_is_replaced_and_decides_nothing_by_zookeeper() -> Result<()> {
    Box::pin(one_is_cut_off::<Zookeeper>()).await
}

/// Waits until the store shows so many live storage nodes, and checks what it shows of each.
async fn shown<E: Ensemble>(store: &E, cluster: &Cluster, count: usize) -> Result<()> {
    let members = eventually("the store to show the live nodes", LIMIT, async || {
        let members = store.members("test").await?;
        let ids: BTreeSet<_> = members.iter().map(|member| member["id"].as_u64()).collect();
        let has_moved = |member: &Value| member["position"].as_u64() > Some(0);
        let is_right = ids.len() == count && members.len() == count;
        ensure!(is_right && members.iter().all(has_moved), "{members:?}");
        Ok(Some(members))
    })
    .await
    .with_context(|| cluster.log_ends())?;
    let picture = cluster.picture(0).await?;
    for member in &members {
        let node = picture.nodes.iter().find(|node| member["id"] == node.id);
        let node = node.with_context(|| format!("{member} is no node"))?;
        ensure!(member["address"] == node.address, "{member}: {node:?}");
        let leads = member["leads"].as_array().context("a list")?;
        ensure!(member["elected"] == !leads.is_empty(), "{member}");
    }
    Ok(())
}

async fn nothing_is_felt<E: Ensemble>() -> Result<()> {
    let store = E::start(3).await?;
    eprintln!("{}", store.describe().await?);
    let (mut cluster, queues) = start(&store, Vec::new()).await?;
    coordinated(&mut cluster).await?;
    shown(&store, &cluster, 3).await?;
    let mut load = Load::start(&cluster.url(), &queues, SHAPE).await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    let before = epochs(&cluster).await?;

    store.pause_all()?;
    let stalled = flows(&cluster, &mut load, &queues, LONGER_THAN_A_SESSION).await?;
    store.kill_all()?;
    let gone = flows(&cluster, &mut load, &queues, LONGER_THAN_A_SESSION / 2).await?;
    for coordinator in cluster.coordinators() {
        coordinator.kill()?;
    }
    let alone = flows(&cluster, &mut load, &queues, LONGER_THAN_A_SESSION / 2).await?;
    eprintln!(
        "longest confirm: store stalled {stalled:?}, gone {gone:?}, and all coordinators gone {alone:?}"
    );

    for coordinator in cluster.coordinators() {
        coordinator.start()?;
    }
    store.start_all()?;
    coordinated(&mut cluster).await?;
    flows(&cluster, &mut load, &queues, LONGER_THAN_A_SESSION / 2).await?;
    let after = epochs(&cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );

    // What needs an election waits for the store, and no longer.
    store.kill_all()?;
    let (shard, leader) = cluster.leader_of(&queues[0]).await?;
    cluster.nodes[leader].kill()?;
    none_is_active(&cluster).await?;
    store.start_all()?;
    store.leader().await?;
    let back = Instant::now();
    let waited = load.next_confirm(&queues[0], back).await;
    eprintln!(
        "shard {shard} without a leader while the store was away: confirms {:?} after it had a leader",
        waited.with_context(|| cluster.log_ends())?
    );
    cluster.nodes[leader].start()?;
    coordinated(&mut cluster).await?;
    conclude(load, &cluster).await
}

async fn another_takes_over<E: Ensemble>() -> Result<()> {
    let store = E::start(3).await?;
    let (mut cluster, queues) = start(&store, Vec::new()).await?;
    coordinated(&mut cluster).await?;
    let mut load = Load::start(&cluster.url(), &queues, SHAPE).await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    the_active_one_is_killed(&mut cluster, &mut load, &queues).await?;
    // The one that took over shows them again, and nothing of its predecessor's is left.
    shown(&store, &cluster, 3).await?;
    the_active_one_is_paused(&mut cluster, &mut load, &queues).await?;
    conclude(load, &cluster).await
}

/// Another one takes over, nothing moves, and it elects.
async fn the_active_one_is_killed(
    cluster: &mut Cluster,
    load: &mut Load,
    queues: &[String],
) -> Result<()> {
    let before = epochs(cluster).await?;
    let first = active(cluster).await?;
    let killed = Instant::now();
    cluster
        .coordinators()
        .nth(first)
        .context("it runs")?
        .kill()?;
    let second = active(cluster).await?;
    ensure!(second != first, "a killed process is active");
    eprintln!(
        "active coordinator killed: another one after {:?}",
        killed.elapsed()
    );
    coordinated(cluster).await?;
    flows(cluster, load, queues, Duration::from_secs(1)).await?;
    let after = epochs(cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );

    let (_, leader) = cluster.leader_of(&queues[0]).await?;
    cluster.nodes[leader].kill()?;
    let gap = load.next_confirm(&queues[0], Instant::now()).await;
    eprintln!(
        "then a leader killed: next confirm after {:?}",
        gap.with_context(|| cluster.log_ends())?
    );
    cluster.nodes[leader].start()?;
    cluster
        .coordinators()
        .nth(first)
        .context("it runs")?
        .start()?;
    coordinated(cluster).await?;
    Ok(())
}

/// Another one takes over and elects; the one that wakes up decides nothing.
async fn the_active_one_is_paused(
    cluster: &mut Cluster,
    load: &mut Load,
    queues: &[String],
) -> Result<()> {
    let paused = active(cluster).await?;
    cluster
        .coordinators()
        .nth(paused)
        .context("it runs")?
        .signal(Signal::STOP)?;
    let since = Instant::now();
    let (_, leader) = cluster.leader_of(&queues[1]).await?;
    cluster.nodes[leader].kill()?;
    let gap = load.next_confirm(&queues[1], Instant::now()).await;
    eprintln!(
        "active coordinator paused and a leader killed: next confirm after {:?}",
        gap.with_context(|| cluster.log_ends())?
    );
    let third = active(cluster).await?;
    ensure!(third != paused, "a paused process is active");
    eprintln!(
        "another coordinator was active within {:?}",
        since.elapsed()
    );
    cluster.nodes[leader].start()?;
    coordinated(cluster).await?;
    let before = epochs(cluster).await?;
    cluster
        .coordinators()
        .nth(paused)
        .context("it runs")?
        .signal(Signal::CONT)?;
    flows(cluster, load, queues, Duration::from_secs(2)).await?;
    ensure!(
        active(cluster).await? == third,
        "a process that woke up is active"
    );
    let after = epochs(cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );
    Ok(())
}

/// The active coordinator and the store are partitioned, while it hears the nodes and they hear it.
async fn one_is_cut_off<E: Ensemble>() -> Result<()> {
    let store = E::start(3).await?;
    let mut ways = Vec::new();
    for _ in 0..COORDINATORS {
        ways.push(Proxy::to_each(&store.endpoints()).await?);
    }
    let endpoints = ways.iter().map(|ways| {
        let endpoints: Vec<&str> = ways.iter().map(Proxy::endpoint).collect();
        endpoints.join(",")
    });
    let (mut cluster, queues) = start(&store, endpoints.collect()).await?;
    coordinated(&mut cluster).await?;
    let mut load = Load::start(&cluster.url(), &queues, SHAPE).await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    let before = epochs(&cluster).await?;

    let first = active(&cluster).await?;
    let cut = Instant::now();
    ways[first].iter().for_each(Proxy::cut);
    let second = eventually("another coordinator to take over", LIMIT, async || {
        let found = cluster.active().await;
        Ok(match found[..] {
            [place] if place != first => Some(place),
            _ => None,
        })
    });
    let second = second.await.with_context(|| cluster.log_ends())?;
    let took = cut.elapsed();
    eprintln!("active coordinator cut off from the store: another one after {took:?}");
    ensure!(took < SESSION + BUSY, "it took {took:?}");
    coordinated(&mut cluster).await?;
    let after = epochs(&cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );

    // What must be decided, the second one decides.
    let (_, leader) = cluster.leader_of(&queues[0]).await?;
    cluster.nodes[leader].kill()?;
    let gap = load.next_confirm(&queues[0], Instant::now()).await;
    eprintln!(
        "then a leader killed: next confirm after {:?}",
        gap.with_context(|| cluster.log_ends())?
    );
    cluster.nodes[leader].start()?;
    coordinated(&mut cluster).await?;

    // What the first one asked for meanwhile reaches the store, and changes nothing.
    let before = epochs(&cluster).await?;
    ways[first].iter().for_each(Proxy::mend);
    flows(&cluster, &mut load, &queues, LONGER_THAN_A_SESSION).await?;
    ensure!(
        cluster.active().await == [second],
        "one that was cut off is active"
    );
    let after = epochs(&cluster).await?;
    ensure!(
        before == after,
        "elections nobody needed: {before:?}, then {after:?}"
    );
    conclude(load, &cluster).await
}
