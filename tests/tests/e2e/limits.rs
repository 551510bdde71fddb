//! Settings as an operator changes them, and what they do to producers and consumers while leaders are killed.

use std::{
    collections::BTreeSet,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use quorate_client::{Client, ConsumerOptions, Delivery, Error, OutboundMessage, Producer};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
    process::program,
};
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_blocking};

const PATIENCE: Duration = Duration::from_secs(60);
/// Room of the queues.
const ROOM: usize = 10;

async fn quorate(url: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program("quorate")?);
    command
        .args(["--url", url])
        .args(arguments)
        .stdin(Stdio::null());
    Ok(spawn_blocking(move || command.output()).await??)
}

async fn told(url: &str, arguments: &[&str]) -> Result<String> {
    let output = quorate(url, arguments).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn json(url: &str, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--output", "json"])
        .collect();
    serde_json::from_str(&told(url, &arguments).await?).context("it is no JSON")
}

/// Sets something, and waits until every shard goes by it.
async fn set(url: &str, arguments: &[&str]) -> Result<()> {
    let arguments: Vec<&str> = ["settings"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    told(url, &arguments).await?;
    eventually("the shards to go by the settings", PATIENCE, async || {
        let listed = json(url, &["settings", "list"]).await?;
        let behind = listed["behind_shards"]
            .as_array()
            .context("no `behind_shards`")?;
        ensure!(behind.is_empty(), "{listed}");
        Ok(Some(()))
    })
    .await
}

/// One setting as it holds for a destination.
async fn setting(url: &str, destination: &str, name: &str) -> Result<String> {
    let listed = json(url, &["settings", "list", destination]).await?;
    let value = listed["effective"][name].as_str();
    value
        .map(str::to_owned)
        .with_context(|| format!("no `{name}` in {listed}"))
}

async fn start() -> Result<(Cluster, Client)> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    Ok((cluster, client))
}

async fn kill_leader(cluster: &mut Cluster, queue: &str) -> Result<()> {
    let (_, leader) = cluster.leader_of(queue).await?;
    cluster.nodes[leader].kill()?;
    cluster.ready().await?;
    cluster.nodes[leader].start()
}

/// Sends numbered messages and tells what became of each.
async fn send(
    producer: &Producer,
    queue: &str,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<Result<(), Error>>> {
    let mut confirms = Vec::new();
    for number in numbers {
        let message = OutboundMessage::text(queue, number.to_string());
        confirms.push(producer.send(message).await?);
    }
    let mut outcomes = Vec::new();
    for confirm in confirms {
        outcomes.push(confirm.await);
    }
    Ok(outcomes)
}

async fn numbers_in(client: &Client, queue: &str) -> Result<Vec<usize>> {
    let mut numbers = Vec::new();
    let mut pages = client.browse(queue, None, 0).await?;
    while let Some(page) = pages.next().await? {
        for delivery in page {
            numbers.push(number_of(&delivery)?);
        }
    }
    Ok(numbers)
}

fn number_of(delivery: &Delivery) -> Result<usize> {
    Ok(std::str::from_utf8(&delivery.message.body)?.parse()?)
}

fn fine(cluster: &Cluster) -> Result<()> {
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn settings_are_set_listed_imported_and_taken_back() -> Result<()> {
    let (mut cluster, _) = start().await?;
    let url = cluster.url();
    set(
        &url,
        &[
            "set",
            "orders.>",
            "max_messages=5",
            "on_full=block",
            "ack_timeout_ms=60000",
        ],
    )
    .await?;
    ensure!(setting(&url, "orders.eu", "on_full").await? == "block");
    ensure!(setting(&url, "orders.eu", "ack_timeout_ms").await? == "60000");
    kill_leader(&mut cluster, "orders.eu").await?;
    ensure!(setting(&url, "orders.eu", "max_messages").await? == "5");
    set(&url, &["unset", "orders.>", "on_full"]).await?;
    ensure!(setting(&url, "orders.eu", "on_full").await? == "refuse");

    let file = cluster.folder().join("settings.toml");
    std::fs::write(
        &file,
        "[\"bills.*\"]\nmax_bytes = 1_000\non_full = \"drop-head\"\n",
    )?;
    let file = file.display().to_string();
    set(&url, &["import", &file, "--replace-all"]).await?;
    ensure!(setting(&url, "bills.may", "on_full").await? == "drop-head");
    ensure!(setting(&url, "orders.eu", "max_messages").await? == "0");
    set(&url, &["remove", "bills.*"]).await?;
    ensure!(setting(&url, "bills.may", "max_bytes").await? == "0");

    let wrong = quorate(&url, &["settings", "set", "orders", "on_full=explode"]).await?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(
        !wrong.status.success() && said.contains("`on_full` cannot be `explode`"),
        "{said}"
    );
    fine(&cluster)
}

#[tokio::test]
async fn a_full_queue_refuses_drops_or_dead_letters_over_a_kill_of_its_leader() -> Result<()> {
    let (mut cluster, client) = start().await?;
    let url = cluster.url();
    let room = format!("max_messages={ROOM}");
    set(&url, &["set", "refusing", &room]).await?;
    set(&url, &["set", "dropping", &room, "on_full=drop-head"]).await?;
    set(&url, &["set", "dead", &room, "on_full=dead-letter"]).await?;
    let producer = client.producer(&Default::default())?;
    for queue in ["refusing", "dropping", "dead"] {
        let half = send(&producer, queue, 0..ROOM / 2).await?;
        ensure!(half.iter().all(Result::is_ok), "{half:?}");
        kill_leader(&mut cluster, queue).await?;
        let rest = send(&producer, queue, ROOM / 2..ROOM * 2).await?;
        let stored = rest.iter().filter(|outcome| outcome.is_ok()).count();
        let expected: Vec<usize> = match queue {
            "dropping" => (ROOM..ROOM * 2).collect(),
            _ => (0..ROOM).collect(),
        };
        let there = numbers_in(&client, queue).await?;
        ensure!(there == expected, "{queue}: {there:?}");
        if queue == "refusing" {
            ensure!(stored == ROOM / 2, "{stored} were stored");
            let error = rest.last().and_then(|last| last.as_ref().err());
            let error = error.context("the last one is refused")?.to_string();
            for part in ["queue://refusing is full", &room, "quorate settings"] {
                ensure!(error.contains(part), "{error}");
            }
        } else {
            ensure!(stored == rest.len(), "{queue}: {stored} were stored");
        }
    }
    let tool = quorate(&url, &["send", "refusing", "--message", "one more"]).await?;
    let said = String::from_utf8_lossy(&tool.stderr).into_owned();
    ensure!(
        !tool.status.success() && said.contains("queue://refusing is full"),
        "{said}"
    );
    eventually(
        "what was beyond to be a dead letter",
        PATIENCE,
        async || {
            let letters: BTreeSet<_> = numbers_in(&client, "ActiveMQ.DLQ")
                .await?
                .into_iter()
                .collect();
            Ok((letters == (ROOM..ROOM * 2).collect()).then_some(()))
        },
    )
    .await?;
    fine(&cluster)
}

/// Sends numbered messages as far as they are taken, and tells when all are confirmed.
fn pour(client: &Client, queue: &str, count: usize) -> Result<JoinHandle<Result<()>>> {
    let producer = client.producer(&Default::default())?;
    let queue = queue.to_owned();
    Ok(tokio::spawn(async move {
        for outcome in send(&producer, &queue, 0..count).await? {
            outcome?;
        }
        Ok(())
    }))
}

#[tokio::test]
async fn a_producer_is_held_back_and_each_message_arrives_once_over_kills() -> Result<()> {
    const COUNT: usize = 600;
    let (mut cluster, client) = start().await?;
    let url = cluster.url();
    let room = format!("max_messages={ROOM}");
    set(&url, &["set", "orders", &room, "on_full=block"]).await?;
    let held = pour(&client, "orders", COUNT)?;
    eventually("the queue to be full", PATIENCE, async || {
        Ok((numbers_in(&client, "orders").await?.len() == ROOM).then_some(()))
    })
    .await?;
    // Others go on meanwhile.
    let producer = client.producer(&Default::default())?;
    let others = send(&producer, "bills", 0..50).await?;
    ensure!(others.iter().all(Result::is_ok), "{others:?}");
    ensure!(!held.is_finished(), "it is held back");

    let mut consumer = client.consumer("orders", &ConsumerOptions::default())?;
    let mut received = Vec::new();
    while received.len() < COUNT {
        let delivery = tokio::time::timeout(PATIENCE, consumer.receive()).await;
        let delivery = delivery.with_context(|| cluster.log_ends())??;
        received.push(number_of(&delivery)?);
        consumer.accept(&delivery);
        ensure!(
            numbers_in(&client, "orders").await?.len() <= ROOM,
            "it is full"
        );
        match received.len() {
            100 => kill_leader(&mut cluster, "orders").await?,
            200 => {
                cluster.gateways[0].kill()?;
                cluster.gateways[0].start()?;
            }
            300 => {
                cluster.gateways[1].kill()?;
                cluster.gateways[1].start()?;
            }
            400 => kill_leader(&mut cluster, "orders").await?,
            _ => {}
        }
    }
    consumer.flush().await?;
    held.await??;
    // A consumer's gateway died, so some may have come twice; none may be lost, or in the queue twice.
    let mut firsts = Vec::new();
    let mut seen = BTreeSet::new();
    for number in received {
        if seen.insert(number) {
            firsts.push(number);
        }
    }
    while seen.len() < COUNT {
        let delivery = tokio::time::timeout(PATIENCE, consumer.receive()).await??;
        if seen.insert(number_of(&delivery)?) {
            firsts.push(number_of(&delivery)?);
        }
        consumer.accept(&delivery);
    }
    ensure!(firsts.is_sorted(), "the order is lost: {firsts:?}");
    consumer.flush().await?;
    ensure!(
        numbers_in(&client, "orders").await?.is_empty(),
        "something is left"
    );
    let queues = client.queues("orders").await?.queues;
    let stored: u64 = queues.iter().map(|queue| queue.enqueued_total).sum();
    ensure!(stored == COUNT as u64, "{stored} were stored");
    fine(&cluster)
}

#[tokio::test]
async fn who_is_held_back_for_too_long_is_told_by_what() -> Result<()> {
    let (cluster, client) = start().await?;
    let url = cluster.url();
    set(&url, &["set", "orders", "max_messages=1", "on_full=block"]).await?;
    let producer = client.producer(&Default::default())?;
    let first = send(&producer, "orders", 0..1).await?;
    ensure!(first.iter().all(Result::is_ok), "{first:?}");

    let patient = format!("{url}?timeout=2000");
    let other = Client::connect(patient.parse()?).await?;
    let producer = other.producer(&Default::default())?;
    let confirm = producer.send(OutboundMessage::text("orders", "1")).await?;
    let error = confirm.await.err().context("there is no room")?;
    ensure!(error.is_retryable(), "{error}");
    let error = error.to_string();
    ensure!(
        error.contains("queue://orders is full (max_messages=1)"),
        "{error}"
    );

    let mut sending = quorate_proto::v1::messaging_service_client::MessagingServiceClient::new(
        cluster.channel(0).await?,
    );
    let mut request = tonic::Request::new(quorate_proto::v1::SendRequest {
        producer_id: Default::default(),
        message: Some(quorate_proto::v1::OutboundMessage {
            destination: "orders".to_owned(),
            message: Some(Default::default()),
            ..Default::default()
        }),
    });
    request.set_timeout(Duration::from_secs(2));
    let status = sending
        .send(request)
        .await
        .err()
        .context("there is no room")?;
    ensure!(status.code() == tonic::Code::ResourceExhausted, "{status}");
    ensure!(
        status.message().contains("queue://orders is full"),
        "{status}"
    );
    fine(&cluster)
}

#[tokio::test]
async fn a_consumer_that_hangs_is_ended_and_its_messages_go_to_another() -> Result<()> {
    let (mut cluster, client) = start().await?;
    let url = cluster.url();
    set(&url, &["set", "orders", "ack_timeout_ms=3000"]).await?;
    let mut hanging = client.consumer("orders", &ConsumerOptions::default())?;
    let producer = client.producer(&Default::default())?;
    let sent = send(&producer, "orders", 0..20).await?;
    ensure!(sent.iter().all(Result::is_ok), "{sent:?}");
    let first = hanging.receive().await?;
    // The leader is another one, and the time goes on.
    kill_leader(&mut cluster, "orders").await?;

    let mut working = client.consumer("orders", &ConsumerOptions::default())?;
    let mut received = BTreeSet::new();
    while received.len() < 20 {
        let delivery = tokio::time::timeout(PATIENCE, working.receive()).await;
        let delivery = delivery.with_context(|| cluster.log_ends())??;
        ensure!(
            delivery.delivery_count == 1,
            "it counts as a failure: {delivery:?}"
        );
        ensure!(
            received.insert(number_of(&delivery)?),
            "{delivery:?} came twice"
        );
        working.accept(&delivery);
    }
    working.flush().await?;
    let ended = hanging
        .receive()
        .await
        .err()
        .context("it goes on")?
        .to_string();
    for part in [
        "queue://orders",
        "3000 ms (ack_timeout_ms",
        "raise the setting",
    ] {
        ensure!(ended.contains(part), "{ended}");
    }
    // What it says now changes nothing.
    hanging.accept(&first);
    ensure!(hanging.flush().await.is_err(), "nobody took that");
    ensure!(
        numbers_in(&client, "orders").await?.is_empty(),
        "something is left"
    );
    fine(&cluster)
}
