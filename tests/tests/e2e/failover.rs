//! Kills under load: what was confirmed is received, clients see a pause and no error. The gap between a kill and the
//! next confirm is printed as a distribution and not asserted: machines differ.

#![expect(
    clippy::print_stderr,
    reason = "each run tells what was killed and how long that was felt"
)]

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_proto::v1::GetClusterResponse;
use quorate_sim::{checker::Rules, rng::Rng};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    load::{Load, Shape},
};
use tokio::time::{Instant, sleep_until};

/// How long a restarted node may take to count in every quorum again.
const REJOIN_LIMIT: Duration = Duration::from_secs(60);
/// The load runs this long before each kill, and up to as much longer.
const BETWEEN_KILLS: Duration = Duration::from_millis(300);

pub(crate) fn seed() -> u64 {
    let given = std::env::var("TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed} (again with TEST_SEED={seed})");
    seed
}

/// Names of queues that live in different shards.
pub(crate) async fn queues(cluster: &Cluster, count: usize) -> Result<Vec<String>> {
    let mut shards = BTreeMap::new();
    for number in 0..200 {
        let name = format!("load.{number}");
        let (shard, _) = cluster.leader_of(&name).await?;
        shards.entry(shard).or_insert(name);
        if shards.len() == count {
            break;
        }
    }
    Ok(shards.into_values().collect())
}

/// Waits a random while, so that kills come at no special moment of the load.
pub(crate) async fn run_for_a_while(rng: &mut Rng) {
    let more =
        Duration::from_micros(rng.below(u64::try_from(BETWEEN_KILLS.as_micros()).unwrap_or(1)));
    sleep_until(Instant::now() + BETWEEN_KILLS + more).await;
}

/// Starts what does not run and waits until every replica of every shard counts again.
pub(crate) async fn rejoin(cluster: &mut Cluster) -> Result<()> {
    for node in &mut cluster.nodes {
        if !node.is_running() {
            node.start()?;
        }
    }
    for gateway in &mut cluster.gateways {
        if !gateway.is_running() {
            gateway.start()?;
        }
    }
    cluster.ready().await?;
    eventually("every replica to count again", REJOIN_LIMIT, async || {
        let picture = cluster.picture(0).await?;
        let missing: Vec<String> = picture
            .shards
            .iter()
            .filter(|shard| {
                shard
                    .replicas
                    .iter()
                    .filter(|replica| replica.in_quorum)
                    .count()
                    < 3
            })
            .map(|shard| format!("shard {}: {:?}", shard.id, shard.replicas))
            .collect();
        ensure!(missing.is_empty(), "{missing:#?}");
        Ok(Some(()))
    })
    .await
    .with_context(|| cluster.log_ends())
}

/// Ends the load and judges what its clients saw.
async fn conclude(load: Load, cluster: &Cluster) -> Result<()> {
    let verdict = load
        .judge(Rules::default())
        .await
        .with_context(|| cluster.log_ends())?;
    eprintln!("{verdict}");
    ensure!(verdict.is_clean(), "{verdict}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

fn print_distribution(what: &str, gaps: &mut [Duration]) {
    gaps.sort();
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank within a short list"
        )]
        let rank = ((gaps.len() - 1) as f64 * part).round() as usize;
        gaps.get(rank).copied().unwrap_or_default()
    };
    eprintln!(
        "{what}: {} kills, gap to the next confirm: min {:?}, median {:?}, p90 {:?}, max {:?}",
        gaps.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(1.0)
    );
}

#[tokio::test]
async fn the_leader_is_killed_twenty_times_under_load() -> Result<()> {
    const KILLS: usize = 20;
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let queues = queues(&cluster, 3).await?;
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
    let (mut gaps, mut under_load) = (Vec::new(), 0);
    for kill in 1..=KILLS {
        run_for_a_while(&mut rng).await;
        let queue = &queues[kill % queues.len()];
        let (shard, leader) = cluster.leader_of(queue).await?;
        let unconfirmed = load.unconfirmed();
        cluster.nodes[leader].kill()?;
        let killed = Instant::now();
        let gap = load
            .next_confirm(queue, killed)
            .await
            .with_context(|| cluster.log_ends())?;
        let next = eventually("another leader", REJOIN_LIMIT, async || {
            let (_, now) = cluster.leader_of(queue).await?;
            Ok((now != leader).then_some(now))
        })
        .await?;
        eprintln!(
            "kill {kill}: shard {shard}, leader {} -> {}, {unconfirmed} unconfirmed at the kill, next confirm after {gap:?}",
            cluster.nodes[leader].name(),
            cluster.nodes[next].name(),
        );
        under_load += usize::from(unconfirmed > 0);
        gaps.push(gap);
        rejoin(&mut cluster).await?;
    }
    ensure!(under_load > 0, "no kill hit a leader under load");
    print_distribution("one leader at a time", &mut gaps);
    conclude(load, &cluster).await
}

#[tokio::test]
async fn two_nodes_and_all_nodes_are_killed_at_once() -> Result<()> {
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let queues = queues(&cluster, 2).await?;
    let mut load = Load::start(
        &cluster.url(),
        &queues,
        Shape {
            producers: 2,
            consumers: 1,
        },
    )
    .await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    let mut under_load = 0;
    for (round, victims) in [2, 3, 2, 3].into_iter().enumerate() {
        run_for_a_while(&mut rng).await;
        let (_, leader) = cluster.leader_of(&queues[0]).await?;
        let unconfirmed = load.unconfirmed();
        for place in 0..victims {
            cluster.nodes[(leader + place) % 3].kill()?;
        }
        under_load += usize::from(unconfirmed > 0);
        run_for_a_while(&mut rng).await;
        let back = Instant::now();
        rejoin(&mut cluster).await?;
        let gap = load
            .next_confirm(&queues[0], back)
            .await
            .with_context(|| cluster.log_ends())?;
        eprintln!(
            "round {}: {victims} nodes killed at once, {unconfirmed} unconfirmed, confirms again {gap:?} after the restart",
            round + 1
        );
    }
    ensure!(under_load > 0, "no kill hit a leader under load");
    conclude(load, &cluster).await
}

#[tokio::test]
async fn gateways_are_killed_under_load() -> Result<()> {
    const KILLS: usize = 6;
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size::default()).await?;
    let queues = queues(&cluster, 2).await?;
    let mut load = Load::start(
        &cluster.url(),
        &queues,
        Shape {
            producers: 3,
            consumers: 2,
        },
    )
    .await?;
    load.next_confirm(&queues[0], Instant::now()).await?;
    let mut gaps = Vec::new();
    for kill in 0..KILLS {
        run_for_a_while(&mut rng).await;
        let victim = kill % cluster.gateways.len();
        let unconfirmed = load.unconfirmed();
        cluster.gateways[victim].kill()?;
        let gap = load.next_confirm(&queues[0], Instant::now()).await?;
        eprintln!(
            "gateway {}: {unconfirmed} unconfirmed, next confirm after {gap:?}",
            victim + 1
        );
        gaps.push(gap);
        rejoin(&mut cluster).await?;
    }
    print_distribution("a gateway", &mut gaps);
    conclude(load, &cluster).await
}

fn epochs(picture: &GetClusterResponse) -> BTreeMap<u32, u64> {
    let shards = picture.shards.iter();
    shards.map(|shard| (shard.id, shard.epoch)).collect()
}

/// The shards that a node leads.
fn led_by(picture: &GetClusterResponse, node: &str) -> Vec<u32> {
    let id = picture.nodes.iter().find(|known| known.name == node);
    let led = |leader: u32| id.is_some_and(|node| node.id == leader);
    let shards = picture.shards.iter().filter(|shard| led(shard.leader));
    shards.map(|shard| shard.id).collect()
}

#[tokio::test]
async fn without_a_coordinator_messages_flow_and_elections_wait() -> Result<()> {
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let queues = queues(&cluster, 2).await?;
    let before = cluster.picture(0).await?;
    let mut load = Load::start(
        &cluster.url(),
        &queues,
        Shape {
            producers: 2,
            consumers: 1,
        },
    )
    .await?;
    cluster.coordinator.kill()?;
    for _ in 0..10 {
        run_for_a_while(&mut rng).await;
        load.next_confirm(&queues[0], Instant::now()).await?;
        load.next_confirm(&queues[1], Instant::now()).await?;
    }
    // A follower may die as well; its leader goes on with the other one.
    let (_, leader) = cluster.leader_of(&queues[0]).await?;
    let (_, other) = cluster.leader_of(&queues[1]).await?;
    let follower = (0..3)
        .find(|node| *node != leader && *node != other)
        .context("no follower")?;
    cluster.nodes[follower].kill()?;
    load.next_confirm(&queues[0], Instant::now()).await?;

    cluster.coordinator.start()?;
    rejoin(&mut cluster).await?;
    let after = cluster.picture(0).await?;
    let orphans = led_by(&before, cluster.nodes[follower].name());
    for (shard, epoch) in epochs(&before) {
        let now = epochs(&after).get(&shard).copied();
        let kept = now == Some(epoch) || orphans.contains(&shard);
        ensure!(
            kept,
            "shard {shard} went from epoch {epoch} to {now:?} though its leader lived"
        );
    }
    conclude(load, &cluster).await
}

#[tokio::test]
async fn a_paused_leader_is_replaced_and_confirms_nothing_when_it_wakes() -> Result<()> {
    use rustix::process::Signal;
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let queues = queues(&cluster, 2).await?;
    let mut load = Load::start(
        &cluster.url(),
        &queues,
        Shape {
            producers: 2,
            consumers: 2,
        },
    )
    .await?;
    for round in 1..=3 {
        run_for_a_while(&mut rng).await;
        let (_, leader) = cluster.leader_of(&queues[0]).await?;
        let unconfirmed = load.unconfirmed();
        cluster.nodes[leader].signal(Signal::STOP)?;
        let paused = Instant::now();
        let next = eventually("another leader", REJOIN_LIMIT, async || {
            let (_, now) = cluster.leader_of(&queues[0]).await?;
            Ok((now != leader).then_some(now))
        })
        .await;
        let gap = load
            .next_confirm(&queues[0], paused + Duration::from_millis(100))
            .await;
        cluster.nodes[leader].signal(Signal::CONT)?;
        let next = next.with_context(|| cluster.log_ends())?;
        eprintln!(
            "pause {round}: leader {} -> {}, {unconfirmed} unconfirmed, next confirm {:?} after the pause",
            cluster.nodes[leader].name(),
            cluster.nodes[next].name(),
            gap? + Duration::from_millis(100),
        );
        rejoin(&mut cluster).await?;
    }
    conclude(load, &cluster).await
}
