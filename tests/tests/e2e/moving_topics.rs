//! Topics move from shard to shard with their subscriptions, while they are published to and the leader of the shard that
//! they leave is killed: every subscriber gets each message once and in order, and no client sees an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use quorate_client::{
    Client, ConsumerOptions, OutboundMessage, ProducerOptions, Subscription, Value, value::Kind,
};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};
use tokio::{sync::watch, task::JoinHandle};

use super::placement::{LIMIT, another, arrived, rejoin};

const TOPIC: &str = "topic://prices.hot";
const NAME: &str = "prices.hot";
/// Messages that wait for those who are away when the topic begins to move.
const BACKLOG: u64 = 2_000;

fn durable(name: &str) -> ConsumerOptions {
    ConsumerOptions {
        subscription: Subscription {
            name: name.to_owned(),
            client_id: "app".to_owned(),
            durable: true,
            ..Subscription::default()
        },
        ..ConsumerOptions::default()
    }
}

fn odd(mut options: ConsumerOptions) -> ConsumerOptions {
    "odd = 1".clone_into(&mut options.selector);
    options
}

fn message(number: u64) -> OutboundMessage {
    let mut message = OutboundMessage::text(TOPIC, number.to_string());
    let kind = Some(Kind::Long(i64::from(number % 2 == 1)));
    message
        .message
        .properties
        .insert("odd".to_owned(), Value { kind });
    message
}

/// Publishes from a number on, each message when the one before is confirmed, until it is told to stop. Returns the next
/// number.
fn publish(client: &Client, from: u64, stop: &Arc<AtomicBool>) -> Result<JoinHandle<Result<u64>>> {
    let producer = client.producer(&ProducerOptions::default())?;
    let stop = Arc::clone(stop);
    Ok(tokio::spawn(async move {
        let mut next = from;
        while !stop.load(Ordering::Relaxed) {
            producer.send(message(next)).await?.await?;
            next += 1;
        }
        Ok(next)
    }))
}

/// Receives these numbers and nothing else.
async fn receives(
    client: &Client,
    options: &ConsumerOptions,
    wanted: impl Iterator<Item = u64>,
) -> Result<()> {
    let name = options.subscription.name.clone();
    let mut consumer = client.consumer(TOPIC, options)?;
    for number in wanted {
        let delivery = tokio::time::timeout(LIMIT, consumer.receive()).await;
        let delivery = delivery.with_context(|| format!("{name:?} waits for {number}"))??;
        let got = String::from_utf8_lossy(&delivery.message.body).into_owned();
        ensure!(
            got == number.to_string(),
            "{name:?} got {got} for {number}, redelivered: {}",
            delivery.redelivered
        );
        consumer.accept(&delivery);
    }
    consumer.close().await?;
    Ok(())
}

async fn subscriptions(client: &Client, count: usize) -> Result<()> {
    eventually("the subscriptions", LIMIT, async || {
        let listed = client.subscriptions().await?.subscriptions;
        ensure!(listed.len() == count, "{listed:?}");
        Ok(Some(()))
    })
    .await
}

/// Receives from the first message on until it has as many as were published, once it is told how many.
fn follow(
    client: &Client,
    options: ConsumerOptions,
    mut count: watch::Receiver<u64>,
) -> Result<JoinHandle<Result<()>>> {
    let mut consumer = client.consumer(TOPIC, &options)?;
    Ok(tokio::spawn(async move {
        let mut next = 0;
        while next < *count.borrow_and_update() {
            let delivery = tokio::select! {
                delivery = consumer.receive() => delivery?,
                told = count.changed() => {
                    told?;
                    continue;
                }
            };
            let got = String::from_utf8_lossy(&delivery.message.body).into_owned();
            ensure!(
                got == next.to_string(),
                "{:?} got {got} for {next}, redelivered: {}",
                options.subscription.name,
                delivery.redelivered
            );
            consumer.accept(&delivery);
            next += 1;
        }
        consumer.close().await?;
        Ok(())
    }))
}

#[tokio::test]
async fn a_topic_moves_with_its_subscriptions_while_its_leader_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 2,
    })
    .await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let (tell, told) = watch::channel(u64::MAX);
    // Away, away with a selector; there all the time, live and durable.
    for (count, options) in [(1, durable("away")), (2, odd(durable("choosy")))] {
        let consumer = client.consumer(TOPIC, &options)?;
        subscriptions(&client, count).await?;
        consumer.close().await?;
    }
    let live = follow(&client, ConsumerOptions::default(), told.clone())?;
    let there = follow(&client, durable("there"), told)?;
    subscriptions(&client, 4).await?;

    let producer = client.producer(&ProducerOptions::default())?;
    let mut confirms = Vec::new();
    for number in 0..BACKLOG {
        confirms.push(producer.send(message(number)).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish(&client, BACKLOG, &stop)?;
    let (from, source) = cluster.leader_of(NAME).await?;
    let to = another(&client, from).await?;
    client.move_destination(TOPIC, to).await?;
    cluster.nodes[source].kill()?;
    arrived(&client, NAME, to)
        .await
        .with_context(|| cluster.log_ends())?;
    rejoin(&mut cluster).await?;
    // And back, with nobody killed.
    client.move_destination(TOPIC, from).await?;
    arrived(&client, NAME, from)
        .await
        .with_context(|| cluster.log_ends())?;
    stop.store(true, Ordering::Relaxed);
    let count = published.await??;
    eprintln!("{count} messages, shard {from} to {to} and back");
    ensure!(count > BACKLOG, "nothing was published while it moved");

    tell.send(count)?;
    for (name, follower) in [("live", live), ("there", there)] {
        let whole = tokio::time::timeout(LIMIT, follower).await;
        whole
            .with_context(|| format!("{name} misses some"))??
            .context(name)?;
    }
    receives(&client, &durable("away"), 0..count).await?;
    receives(
        &client,
        &odd(durable("choosy")),
        (0..count).skip(1).step_by(2),
    )
    .await?;
    for name in ["away", "choosy", "there"] {
        // What the selector skips last may not be logged yet.
        let pending = client.delete_subscription("app", name).await?;
        ensure!(pending == 0 || name == "choosy", "{name}: {pending}");
        let again = client.delete_subscription("app", name).await;
        ensure!(again.is_err(), "{name} is gone");
    }
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}
