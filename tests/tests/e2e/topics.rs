//! Topics on a whole cluster: who subscribed misses nothing over kills, and a pattern is served by every shard.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use quorate_client::{
    Client, Consumer, ConsumerOptions, OutboundMessage, Producer, ProducerOptions, Subscription,
    Value, value::Kind,
};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};

/// Topics, enough for every shard to have some.
const TOPICS: usize = 24;
/// How long what was confirmed may take to arrive on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(60);

fn topic(number: usize) -> String {
    format!("topic://prices.{number}")
}

fn options(subscription: Subscription) -> ConsumerOptions {
    ConsumerOptions {
        subscription,
        ..ConsumerOptions::default()
    }
}

/// A subscriber and what it got.
struct Subscriber {
    name: &'static str,
    consumer: Consumer,
    got: BTreeSet<String>,
}

impl Subscriber {
    fn new(client: &Client, name: &'static str, topic: &str, of: Subscription) -> Result<Self> {
        Ok(Self {
            name,
            consumer: client.consumer(topic, &options(of))?,
            got: BTreeSet::new(),
        })
    }

    /// Receives until it has all of these.
    async fn has(&mut self, wanted: &BTreeSet<String>) -> Result<()> {
        let all = async {
            while !wanted.is_subset(&self.got) {
                let delivery = self.consumer.receive().await?;
                self.consumer.accept(&delivery);
                self.got
                    .insert(String::from_utf8_lossy(&delivery.message.body).into_owned());
            }
            anyhow::Ok(())
        };
        let all = tokio::time::timeout(ARRIVAL, all).await;
        let missing = wanted.difference(&self.got).count();
        all.with_context(|| format!("{} misses {missing} messages", self.name))?
            .with_context(|| format!("{} ended", self.name))
    }
}

/// Sends one message to each topic, and returns the bodies of the first topic's and of all.
async fn publish(
    producer: &Producer,
    round: usize,
    (first, all): (&mut BTreeSet<String>, &mut BTreeSet<String>),
) -> Result<()> {
    let mut confirms = Vec::new();
    for number in 0..TOPICS {
        let body = format!("{round}/{number}");
        if number == 0 {
            first.insert(body.clone());
        }
        all.insert(body.clone());
        confirms.push(
            producer
                .send(OutboundMessage::text(topic(number), body))
                .await?,
        );
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

async fn subscribed(client: &Client, count: usize) -> Result<()> {
    eventually("subscriptions with their consumers", ARRIVAL, async || {
        let listed = client.subscriptions().await?;
        let received = listed
            .subscriptions
            .iter()
            .filter(|kept| kept.consumers > 0);
        let received = received.count();
        ensure!(received >= count, "{received} are received from");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn subscribers_miss_nothing_over_kills() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let durable = Subscription {
        name: "audit".to_owned(),
        client_id: "app".to_owned(),
        durable: true,
        ..Subscription::default()
    };
    let live = Subscription::default;
    let mut durable = Subscriber::new(&client, "durable", &topic(0), durable)?;
    let mut single = Subscriber::new(&client, "live", &topic(0), live())?;
    let mut pattern = Subscriber::new(&client, "pattern", "topic://prices.>", live())?;
    subscribed(&client, 3).await?;
    let producer = client.producer(&ProducerOptions::default())?;
    let (mut first, mut all) = (BTreeSet::new(), BTreeSet::new());

    for round in 0..10 {
        publish(&producer, round, (&mut first, &mut all)).await?;
    }
    let (_, leader) = cluster.leader_of("prices.0").await?;
    cluster.nodes[leader].kill()?;
    for round in 10..20 {
        publish(&producer, round, (&mut first, &mut all)).await?;
    }
    durable.has(&first).await?;
    single.has(&first).await?;
    pattern.has(&all).await?;

    cluster.nodes[leader].start()?;
    cluster.ready().await?;
    cluster.gateways[0].kill()?;
    for round in 20..30 {
        publish(&producer, round, (&mut first, &mut all)).await?;
    }
    durable.has(&first).await?;
    ensure!(
        durable.got == first,
        "the durable subscriber got what is not its topic's"
    );
    ensure!(
        cluster.errors().is_empty(),
        "errors: {:?}",
        cluster.errors()
    );
    Ok(())
}

#[tokio::test]
async fn a_durable_subscription_waits_and_a_composite_reaches_all() -> Result<()> {
    let cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let subscription = Subscription {
        name: "waits".to_owned(),
        client_id: "app".to_owned(),
        durable: true,
        ..Subscription::default()
    };
    let subscriber = Subscriber::new(&client, "first", "topic://offers", subscription.clone())?;
    subscribed(&client, 1).await?;
    subscriber.consumer.close().await?;
    let producer = client.producer(&ProducerOptions::default())?;
    let everywhere = "topic://offers,queue://copies,queue://Consumer.A.VirtualTopic.X";
    let confirm = producer.send(OutboundMessage::text(everywhere, "composite"));
    confirm.await?.await?;
    let confirm = producer.send(OutboundMessage::text("topic://VirtualTopic.X", "virtual"));
    confirm.await?.await?;
    let composite = BTreeSet::from(["composite".to_owned()]);
    let both = BTreeSet::from(["composite".to_owned(), "virtual".to_owned()]);
    let none = Subscription::default;
    for (source, of, wanted) in [
        ("topic://offers", subscription, &composite),
        ("copies", none(), &composite),
        ("Consumer.A.VirtualTopic.X", none(), &both),
    ] {
        let mut subscriber = Subscriber::new(&client, "second", source, of)?;
        subscriber.has(wanted).await.context(source)?;
        subscriber.consumer.close().await?;
    }
    ensure!(
        client.delete_subscription("app", "waits").await? == 0,
        "all was accepted"
    );
    let again = client.delete_subscription("app", "waits").await;
    ensure!(again.is_err(), "it is gone");
    Ok(())
}

/// Publishes this round's messages, of which every third is marked, and returns the marked ones.
async fn publish_marked(producer: &Producer, round: usize) -> Result<BTreeSet<String>> {
    let mut marked = BTreeSet::new();
    let mut confirms = Vec::new();
    for number in 0..30 {
        let body = format!("{round}/{number}");
        let mut message = OutboundMessage::text("topic://stock.moves", body.clone());
        let kind = if number % 3 == 0 { "marked" } else { "plain" };
        let kind = Kind::Text(kind.to_owned());
        let kind = Value { kind: Some(kind) };
        message.message.properties.insert("kind".to_owned(), kind);
        if number % 3 == 0 {
            marked.insert(body);
        }
        confirms.push(producer.send(message).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(marked)
}

/// Waits until so many messages are pending in the only subscription.
async fn pending(client: &Client, wanted: usize) -> Result<()> {
    eventually("what is not selected is gone", ARRIVAL, async || {
        let listed = client.subscriptions().await?;
        let one = listed.subscriptions.first().context("no subscription")?;
        ensure!(
            one.selector == "kind = 'marked'",
            "selector {}",
            one.selector
        );
        ensure!(
            one.messages == wanted as u64,
            "{} are pending",
            one.messages
        );
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn an_absent_subscriber_gets_what_its_selector_selects_over_kills() -> Result<()> {
    let mut cluster = Cluster::start(Size::default()).await?;
    let client = Client::connect(cluster.url().parse()?).await?;
    let wanted = ConsumerOptions {
        selector: "kind = 'marked'".to_owned(),
        subscription: Subscription {
            name: "audit".to_owned(),
            client_id: "app".to_owned(),
            durable: true,
            ..Subscription::default()
        },
        ..ConsumerOptions::default()
    };
    let topic = "topic://stock.moves";
    let consumer = client.consumer(topic, &wanted)?;
    subscribed(&client, 1).await?;
    consumer.close().await?;

    let producer = client.producer(&ProducerOptions::default())?;
    let mut marked = BTreeSet::new();
    for kill in 0..3 {
        for round in 0..4 {
            marked.extend(publish_marked(&producer, 4 * kill + round).await?);
        }
        // Some of what the leader judged is not logged yet.
        let (_, leader) = cluster.leader_of("stock.moves").await?;
        cluster.nodes[leader].kill()?;
        marked.extend(publish_marked(&producer, 100 + kill).await?);
        cluster.nodes[leader].start()?;
        cluster.ready().await?;
    }
    pending(&client, marked.len()).await?;

    let mut subscriber = Subscriber {
        name: "selective",
        consumer: client.consumer(topic, &wanted)?,
        got: BTreeSet::new(),
    };
    subscriber.has(&marked).await?;
    marked.extend(publish_marked(&producer, 200).await?);
    subscriber.has(&marked).await?;
    ensure!(subscriber.got == marked, "it got what is not selected");
    pending(&client, 0).await?;
    ensure!(
        cluster.errors().is_empty(),
        "errors: {:?}",
        cluster.errors()
    );
    Ok(())
}
