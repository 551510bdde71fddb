//! Who gets which message, on real processes: selectors stay exact and groups stay with their consumer while the leader is
//! killed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_client::{
    Client, Consumer, ConsumerOptions, Delivery, Error, OutboundMessage, Value, value::Kind,
};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};
use tokio::time::timeout;

const MESSAGES: usize = 600;
const COLORS: [&str; 3] = ["red", "blue", "green"];
const GROUPS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(30);

fn text(value: &str) -> Value {
    Value {
        kind: Some(Kind::Text(value.to_owned())),
    }
}

fn message(queue: &str, number: usize) -> OutboundMessage {
    let mut message = OutboundMessage::text(queue, number.to_string());
    let properties = &mut message.message.properties;
    properties.insert("color".to_owned(), text(COLORS[number % COLORS.len()]));
    let number_of_it = i64::try_from(number).unwrap_or_default();
    properties.insert(
        "number".to_owned(),
        Value {
            kind: Some(Kind::Long(number_of_it)),
        },
    );
    message
}

fn number_of(delivery: &Delivery) -> Result<usize> {
    let body = String::from_utf8(delivery.message.body.to_vec())?;
    body.parse().with_context(|| format!("body {body:?}"))
}

async fn send(client: &Client, messages: Vec<OutboundMessage>) -> Result<()> {
    let producer = client.producer(&quorate_client::ProducerOptions::default())?;
    let mut confirms = Vec::new();
    for message in messages {
        confirms.push(producer.send(message).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    let delivery = timeout(PATIENCE, consumer.receive()).await;
    Ok(delivery.context("nothing came in time")??)
}

fn choosy(selector: &str) -> ConsumerOptions {
    ConsumerOptions {
        selector: selector.to_owned(),
        prefetch_messages: 20,
        ..ConsumerOptions::default()
    }
}

/// Waits until a queue has so many consumers.
async fn attached(client: &Client, queue: &str, consumers: u32) -> Result<()> {
    eventually("the consumers to be attached", PATIENCE, async || {
        let found = client.queues(queue).await?;
        let attached: u32 = found.queues.iter().map(|queue| queue.consumers).sum();
        Ok((attached == consumers).then_some(()))
    })
    .await
}

async fn kill_leader(cluster: &mut Cluster, queue: &str) -> Result<()> {
    let (_, leader) = cluster.leader_of(queue).await?;
    cluster.nodes[leader].kill()
}

#[tokio::test]
async fn selectors_are_exact_over_a_leader_kill() -> Result<()> {
    const QUEUE: &str = "paint";
    let mut cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let refused = client.consumer(QUEUE, &choosy("color == 'red'"))?;
    let mut refused = refused;
    match timeout(PATIENCE, refused.receive()).await? {
        Err(Error::Refused(reason)) => {
            ensure!(reason.contains("at column 8"), "{reason}");
        }
        other => anyhow::bail!("a selector that is none was taken: {other:?}"),
    }
    send(
        &client,
        (0..MESSAGES).map(|it| message(QUEUE, it)).collect(),
    )
    .await?;
    let mut red = client.consumer(QUEUE, &choosy("color = 'red' AND number < 300"))?;
    let mut blue = client.consumer(QUEUE, &choosy("color IN ('blue', 'none')"))?;
    let mut seen: BTreeMap<usize, u32> = BTreeMap::new();
    let (mut reds, mut blues) = (Vec::new(), Vec::new());
    for round in 0..MESSAGES {
        if round == 40 {
            kill_leader(&mut cluster, QUEUE).await?;
        }
        for (consumer, numbers, all) in [
            (&mut red, &mut reds, 100),
            (&mut blue, &mut blues, MESSAGES / 3),
        ] {
            if numbers.len() < all {
                let delivery = next(consumer).await?;
                let number = number_of(&delivery)?;
                *seen.entry(number).or_default() += 1;
                numbers.push(number);
                consumer.accept(&delivery);
            }
        }
    }
    ensure!(reds == (0..300).step_by(3).collect::<Vec<_>>(), "{reds:?}");
    ensure!(
        blues == (1..MESSAGES).step_by(3).collect::<Vec<_>>(),
        "{blues:?}"
    );
    ensure!(seen.values().all(|times| *times == 1), "{seen:?}");
    red.close().await?;
    blue.close().await?;
    // What nobody wanted is there, in order, and browsing with a selector tells some of it.
    let mut page = client
        .browse_selected(QUEUE, "color <> 'green' AND number >= 590", None, 0)
        .await?;
    let mut browsed = Vec::new();
    while let Some(deliveries) = page.next().await? {
        for delivery in &deliveries {
            browsed.push(number_of(delivery)?);
        }
    }
    ensure!(browsed == [591, 594, 597], "{browsed:?}");
    let mut rest = client.consumer(QUEUE, &ConsumerOptions::default())?;
    for _ in 0..MESSAGES - 100 - MESSAGES / 3 {
        let delivery = next(&mut rest).await?;
        rest.accept(&delivery);
    }
    rest.close().await?;
    Ok(())
}

#[tokio::test]
async fn groups_stay_with_their_consumer_over_a_leader_kill() -> Result<()> {
    const QUEUE: &str = "ledger";
    let mut cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let grouped = |number: usize| {
        let mut message = message(QUEUE, number);
        message.message.group = format!("account {}", number % GROUPS);
        message
    };
    let options = ConsumerOptions {
        prefetch_messages: 50,
        ..ConsumerOptions::default()
    };
    // Two gateways, which must behave as one broker.
    let mut consumers = Vec::new();
    for gateway in 0..2 {
        let url = format!("tcp://127.0.0.1:{}", cluster.gateway_ports[gateway]);
        let client = Client::connect(url.parse()?).await?;
        consumers.push(client.consumer(QUEUE, &options)?);
    }
    // A consumer that is alone gets all groups, and keeps them.
    attached(&client, QUEUE, 2).await?;
    let half = MESSAGES / 2;
    send(&client, (0..half).map(grouped).collect()).await?;
    let mut owners: BTreeMap<usize, usize> = BTreeMap::new();
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut received = 0;
    while received < MESSAGES {
        if received == half {
            send(&client, (half..MESSAGES).map(grouped).collect()).await?;
        }
        if received == half / 2 || received == half + 20 {
            kill_leader(&mut cluster, QUEUE).await?;
            for node in &mut cluster.nodes {
                if !node.is_running() {
                    node.start()?;
                }
            }
        }
        let (first, second) = consumers.split_at_mut(1);
        let both = async {
            tokio::select! {
                delivery = first[0].receive() => delivery.map(|it| (0, it)),
                delivery = second[0].receive() => delivery.map(|it| (1, it)),
            }
        };
        let (owner, delivery) = timeout(PATIENCE, both).await.context("nothing came")??;
        let number = number_of(&delivery)?;
        let group = number % GROUPS;
        ensure!(
            delivery.message.group == format!("account {group}"),
            "{delivery:?}"
        );
        let known = *owners.entry(group).or_insert(owner);
        ensure!(
            known == owner,
            "group {group} went from consumer {known} to {owner} with message {number}"
        );
        let before = last.insert(group, number);
        ensure!(
            before.is_none_or(|before| before + GROUPS == number),
            "group {group}: {number} after {before:?}"
        );
        consumers[owner].accept(&delivery);
        received += 1;
    }
    let of_first = owners.values().filter(|owner| **owner == 0).count();
    ensure!(of_first > 0 && of_first < GROUPS, "all groups went to one");
    for consumer in consumers {
        consumer.close().await?;
    }
    Ok(())
}
