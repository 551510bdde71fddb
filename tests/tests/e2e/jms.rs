//! The unchanged ActiveMQ client 5.x and Spring JMS on the gateways: what ActiveMQ does in one process the cluster does too,
//! and an application sees a pause where a process dies.

#![expect(
    clippy::print_stderr,
    reason = "each run tells what was checked, what was killed and what the application saw"
)]

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use quorate_client::Client;
use quorate_sim::rng::Rng;
use quorate_tests::{
    cluster::{Cluster, Size, free_ports},
    eventually::eventually,
    jms::{self, App, Report},
};
use tokio::time::sleep;

use crate::failover::{rejoin, run_for_a_while, seed};

/// How long no send may return without a majority of nodes. Elections are over long before.
const WAITS: Duration = Duration::from_secs(5);

/// Temporary destinations of clients that have gone stay for 15 s at most.
const DELETED_LIMIT: Duration = Duration::from_secs(60);

/// An address of some gateways, by their places: a place may come twice.
fn through(cluster: &Cluster, gateways: &[usize]) -> String {
    let address = |gateway: &usize| format!("tcp://127.0.0.1:{}", cluster.gateway_ports[*gateway]);
    let addresses: Vec<String> = gateways.iter().map(address).collect();
    format!("failover:({})", addresses.join(","))
}

/// Ends the application and demands that nothing is lost and no send was given up.
async fn conclude(app: App, cluster: &Cluster) -> Result<Report> {
    let report = app.report().await.with_context(|| cluster.log_ends())?;
    eprintln!("{report:?}");
    ensure!(report.confirmed > 0, "nothing was confirmed");
    ensure!(report.lost == 0, "lost: {report:?}");
    ensure!(report.failed == 0, "given up: {report:?}");
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(report)
}

/// As [`conclude`]; the application must not have noticed a thing.
async fn conclude_unnoticed(app: App, cluster: &Cluster) -> Result<Report> {
    let report = conclude(app, cluster).await?;
    ensure!(report.exceptions.is_empty(), "thrown: {report:?}");
    ensure!(report.duplicated == 0, "came twice: {report:?}");
    Ok(report)
}

/// Runs checks, which must pass.
async fn check(cluster: &Cluster, url: &str, second: Option<&str>, names: &[&str]) -> Result<()> {
    let lines = jms::checks(url, second, names)
        .await
        .map_err(|error| cluster.blame(&error))?;
    eprintln!("{}", lines.join("\n"));
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn every_check_passes_through_one_gateway() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    check(&cluster, &through(&cluster, &[0]), None, &[]).await
}

#[tokio::test]
async fn what_clients_share_they_share_across_gateways() -> Result<()> {
    let cluster = Cluster::start(Size::default()).await?;
    // Each connection goes to a gateway of its own choice, and some go to another one than that.
    let families = [
        "Temporary",
        "Topics",
        "Durables",
        "Destinations",
        "Sharing",
        "Connections",
    ];
    let second = format!("tcp://127.0.0.1:{}", cluster.gateway_ports[1]);
    for first in [cluster.url(), through(&cluster, &[0])] {
        check(&cluster, &first, Some(&second), &families).await?;
    }
    Ok(())
}

/// A request makes a queue for its answer. What is asked here leaves none, whether it waits for its answer or not.
#[tokio::test]
async fn temporary_destinations_leave_no_names() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    check(&cluster, &through(&cluster, &[0]), None, &["Temporary"]).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    eventually(
        "temporary queues to be deleted",
        DELETED_LIMIT,
        async || {
            let queues = client.queues("").await?.queues;
            let mut names = queues.into_iter().map(|queue| queue.name);
            let left = names.find(|name| name.starts_with("ID:"));
            left.map_or(Ok(Some(())), |name| Err(anyhow!("{name} is there")))
        },
    )
    .await
}

/// Whoever dies, what is shared is shared again by whoever is there.
#[tokio::test]
async fn what_clients_share_they_share_after_kills() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let names = [
        "gone_when_deleted",
        "gone_with_its_socket",
        "known_at_another_address",
        "topic_reaches_all",
        "client_id_is_used_once_at_a_time",
        "client_id_of_another_address_too",
        "client_id_goes_with_its_connection_to_another_address",
    ];
    let first = through(&cluster, &[0]);
    let second = format!("tcp://127.0.0.1:{}", cluster.gateway_ports[1]);
    check(&cluster, &first, Some(&second), &names).await?;
    cluster.gateways[1].kill()?;
    rejoin(&mut cluster).await?;
    check(&cluster, &first, Some(&second), &names).await?;
    let (_, leader) = cluster.leader_of("quorate.internal.neighbours").await?;
    cluster.nodes[leader].kill()?;
    cluster.ready().await?;
    check(&cluster, &first, Some(&second), &names).await?;
    rejoin(&mut cluster).await?;
    check(&cluster, &first, Some(&second), &names).await
}

/// Users are asked for at both ports, and the one for OpenWire serves nothing else.
#[tokio::test]
async fn who_does_not_know_a_users_password_is_not_let_in() -> Result<()> {
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let users = folder.path().join("users.properties");
    std::fs::write(&users, "# as ActiveMQ is shipped\nsystem=manager\n")?;
    let [port] = free_ports(1)?[..] else {
        bail!("one port was asked for");
    };
    let own = format!("127.0.0.1:{port}");
    let gateway = &mut cluster.gateways[0];
    ensure!(gateway.stop()?, "a clean stop");
    gateway.set("USERS_FILE", users.to_str().context("a path that is text")?);
    gateway.set("OPENWIRE_LISTEN", &own);
    gateway.start()?;
    cluster.ready().await?;
    let known = ["--user", "system", "--password", "manager"];
    let names = [
        &known[..],
        &["unknown_user", "wrong_password", "says_what_the_broker_is"],
    ]
    .concat();
    for url in [format!("tcp://{own}"), through(&cluster, &[0])] {
        check(&cluster, &url, None, &names).await?;
        // Nobody is let in without a name.
        let refused = jms::checks(&url, None, &["says_what_the_broker_is"]).await;
        let said = format!("{:?}", refused.err().context("it was let in")?);
        ensure!(said.contains("JMSSecurityException"), "{said}");
    }
    let here = Client::connect(cluster.url().parse()?).await?;
    here.cluster().await?;
    let there = Client::connect(format!("tcp://{own}?timeout=500").parse()?).await;
    let is_served = match there {
        Ok(there) => there.cluster().await.is_ok(),
        Err(_) => false,
    };
    ensure!(!is_served, "gRPC is served at the port for OpenWire");
    Ok(())
}

#[tokio::test]
async fn a_spring_application_that_nobody_disturbs() -> Result<()> {
    let cluster = Cluster::start(Size::default()).await?;
    let ways: [(&[&str], u64); 3] = [
        (&["--rate", "50"], 200),
        (&["--rate", "0", "--caching"], 2000),
        (&["--rate", "0", "--caching", "--transacted", "false"], 2000),
    ];
    for (options, count) in ways {
        let app = App::start(&cluster.url(), options).await?;
        app.has_confirmed(count).await?;
        let report = conclude_unnoticed(app, &cluster).await?;
        ensure!(report.out_of_order == 0, "out of order: {report:?}");
        ensure!(report.interruptions == 0, "interrupted: {report:?}");
        ensure!(report.received_unconfirmed == 0, "{report:?}");
    }
    Ok(())
}

/// Kills nodes at random moments of the application's work, whatever they lead.
async fn kill_nodes(options: &[&str], kills: usize) -> Result<()> {
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size::default()).await?;
    let mut app = App::start(&cluster.url(), options).await?;
    for kill in 1..=kills {
        run_for_a_while(&mut rng).await;
        let victim = usize::try_from(rng.below(3))?;
        cluster.nodes[victim].kill()?;
        eprintln!("kill {kill}: {}", cluster.nodes[victim].name());
        app.goes_on().await.with_context(|| cluster.log_ends())?;
        rejoin(&mut cluster).await?;
    }
    conclude_unnoticed(app, &cluster).await?;
    Ok(())
}

#[tokio::test]
async fn a_spring_application_notices_nothing_of_twenty_kills_of_nodes() -> Result<()> {
    kill_nodes(&["--rate", "50"], 20).await
}

#[tokio::test]
async fn one_with_cached_connections_and_three_consumers_notices_nothing_either() -> Result<()> {
    let options = ["--rate", "200", "--caching", "--concurrency", "3"];
    kill_nodes(&options, 20).await
}

/// Kills one gateway after the other.
async fn kill_gateways(options: &[&str], kills: usize) -> Result<()> {
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size::default()).await?;
    let mut app = App::start(&cluster.url(), options).await?;
    for kill in 0..kills {
        run_for_a_while(&mut rng).await;
        let victim = kill % cluster.gateways.len();
        cluster.gateways[victim].kill()?;
        eprintln!("kill {}: {}", kill + 1, cluster.gateways[victim].name());
        app.goes_on().await.with_context(|| cluster.log_ends())?;
        rejoin(&mut cluster).await?;
    }
    conclude(app, &cluster).await?;
    Ok(())
}

#[tokio::test]
async fn a_spring_application_loses_nothing_when_gateways_are_killed() -> Result<()> {
    kill_gateways(&["--rate", "200", "--caching", "--retries", "3"], 9).await
}

#[tokio::test]
async fn one_with_a_connection_for_each_send_loses_nothing_when_gateways_are_killed() -> Result<()>
{
    kill_gateways(&["--rate", "50", "--retries", "3"], 3).await
}

#[tokio::test]
async fn a_gateway_and_a_node_are_killed_together() -> Result<()> {
    let mut rng = Rng::new(seed());
    let mut cluster = Cluster::start(Size::default()).await?;
    let options = ["--rate", "100", "--caching", "--retries", "3"];
    let mut app = App::start(&cluster.url(), &options).await?;
    for round in 0..3 {
        run_for_a_while(&mut rng).await;
        let (_, leader) = cluster.leader_of("my_queue").await?;
        cluster.gateways[round].kill()?;
        cluster.nodes[leader].kill()?;
        app.goes_on().await.with_context(|| cluster.log_ends())?;
        rejoin(&mut cluster).await?;
    }
    conclude(app, &cluster).await?;
    Ok(())
}

#[tokio::test]
async fn sends_wait_while_one_node_of_three_is_left() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let mut app = App::start(&cluster.url(), &["--rate", "100", "--caching"]).await?;
    for node in [0, 1] {
        cluster.nodes[node].kill()?;
    }
    let before = app.confirmed().await?;
    sleep(WAITS).await;
    let after = app.confirmed().await?;
    ensure!(
        before == after,
        "{} messages were confirmed by one node",
        after - before
    );
    cluster.nodes[0].start()?;
    app.goes_on().await.with_context(|| cluster.log_ends())?;
    rejoin(&mut cluster).await?;
    conclude_unnoticed(app, &cluster).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_may_be_named_twice() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let url = through(&cluster, &[0, 0, 1]);
    let mut app = App::start(&url, &["--rate", "100", "--caching", "--retries", "3"]).await?;
    for victim in [0, 1] {
        cluster.gateways[victim].kill()?;
        app.goes_on().await.with_context(|| cluster.log_ends())?;
        rejoin(&mut cluster).await?;
    }
    conclude(app, &cluster).await?;
    Ok(())
}
