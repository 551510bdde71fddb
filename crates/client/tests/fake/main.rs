//! The client against gateways that fail: connections drop, confirms are lost, gateways disappear and hang.
//!
//! The gateways are real gRPC servers on loopback, each in a runtime of its own, so that dropping the runtime cuts every
//! connection as a kill would. They share one store, which knows repeats and holds back in-flight messages as the
//! broker does.

mod gateway;
mod store;

use std::time::Duration;

use gateway::{Fault, Gateways};
use quorate_client::{Client, ConsumerOptions, Error, OutboundMessage, ProducerOptions};

/// Nothing here takes longer on any machine, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("this hangs")
}

async fn connect(gateways: &Gateways, options: &str) -> Client {
    let address = format!("{}?{options}", gateways.address());
    within(Client::connect(address.parse().expect("a good address")))
        .await
        .expect("a gateway answers")
}

fn bodies(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn every_message_is_stored_once_in_order_while_calls_break() {
    let gateways = Gateways::start(3);
    gateways.inject(Fault {
        break_publish_every: Some(7),
        ..Fault::default()
    });
    let client = connect(&gateways, "randomize=true").await;
    let producer = client
        .producer(&ProducerOptions {
            window_messages: 64,
            ..ProducerOptions::default()
        })
        .expect("a producer");
    let mut confirms = Vec::new();
    for number in 1..=5000 {
        let queue = if number % 2 == 0 { "even" } else { "odd" };
        let message = OutboundMessage::text(queue, number.to_string());
        confirms.push(within(producer.send(message)).await.expect("it goes on"));
    }
    for confirm in confirms {
        within(confirm).await.expect("it is stored");
    }
    within(producer.close()).await.expect("all is confirmed");
    let odd: Vec<String> = (1..=5000).step_by(2).map(|n| n.to_string()).collect();
    assert_eq!(gateways.stored("odd"), odd);
    assert_eq!(gateways.stored("even").len(), 2500);
    assert!(
        gateways.repeats() > 0,
        "no fault made a repeat: the test tests nothing"
    );
}

#[tokio::test]
async fn a_killed_gateway_is_left_for_another_and_confirms_are_not_lost() {
    let mut gateways = Gateways::start(2);
    let client = connect(&gateways, "randomize=false").await;
    let producer = client
        .producer(&ProducerOptions::default())
        .expect("a producer");
    let mut confirms = Vec::new();
    for number in 1..=2000 {
        if number == 500 {
            gateways.kill(0);
        }
        let message = OutboundMessage::text("orders", number.to_string());
        confirms.push(within(producer.send(message)).await.expect("it goes on"));
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for confirm in confirms {
        within(confirm).await.expect("it is stored");
    }
    assert_eq!(gateways.stored("orders"), bodies(2000));
}

#[tokio::test]
async fn sends_wait_while_no_gateway_lives_and_go_on_when_one_is_back() {
    let mut gateways = Gateways::start(1);
    let client = connect(&gateways, "maxReconnectDelay=20").await;
    let producer = client
        .producer(&ProducerOptions::default())
        .expect("a producer");
    gateways.kill(0);
    let confirm = within(producer.send(OutboundMessage::text("orders", "1")))
        .await
        .expect("there is room");
    let mut confirm = Box::pin(confirm);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut confirm).await;
    assert!(early.is_err(), "confirmed by nobody");
    gateways.restart(0);
    within(confirm).await.expect("it is stored");
    assert_eq!(gateways.stored("orders"), bodies(1));
}

#[tokio::test]
async fn a_timeout_ends_the_wait_with_an_error_that_says_so() {
    let mut gateways = Gateways::start(1);
    let client = connect(&gateways, "timeout=200").await;
    let producer = client
        .producer(&ProducerOptions::default())
        .expect("a producer");
    let mut consumer = client
        .consumer("orders", &ConsumerOptions::default())
        .expect("a consumer");
    gateways.kill(0);
    let confirm = within(producer.send(OutboundMessage::text("orders", "1")))
        .await
        .expect("there is room");
    let error = within(confirm).await.expect_err("nobody confirms");
    assert!(matches!(error, Error::NoGateway { .. }), "{error}");
    assert!(error.is_retryable());
    let error = within(producer.flush()).await.expect_err("it has ended");
    assert!(matches!(error, Error::NoGateway { .. }), "{error}");
    let error = within(consumer.receive()).await.expect_err("nobody sends");
    assert!(matches!(error, Error::NoGateway { .. }), "{error}");
    let error = within(client.queues("")).await.expect_err("nobody answers");
    assert!(matches!(error, Error::NoGateway { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_message_is_an_error_and_not_sent_for_ever() {
    let gateways = Gateways::start(1);
    let client = connect(&gateways, "").await;
    let producer = client
        .producer(&ProducerOptions::default())
        .expect("a producer");
    let confirm = within(producer.send(OutboundMessage::text("bad,name", "1")))
        .await
        .expect("there is room");
    let error = within(confirm).await.expect_err("refused");
    assert!(
        matches!(&error, Error::Refused(text) if text.contains("bad,name")),
        "{error}"
    );
    assert!(!error.is_retryable());
    let error = within(producer.send(OutboundMessage::text("orders", "1")))
        .await
        .expect_err("the producer has ended");
    assert!(matches!(error, Error::Refused(_)), "{error}");
}

#[tokio::test]
async fn every_message_is_received_once_and_in_order_while_calls_break() {
    let mut gateways = Gateways::start(3);
    gateways.fill("orders", &bodies(3000));
    gateways.inject(Fault {
        break_consume_every: Some(40),
        ..Fault::default()
    });
    let client = connect(&gateways, "").await;
    let mut consumer = client
        .consumer(
            "orders",
            &ConsumerOptions {
                prefetch_messages: 50,
                ..ConsumerOptions::default()
            },
        )
        .expect("a consumer");
    let mut received = Vec::new();
    while received.len() < 3000 {
        let delivery = within(consumer.receive()).await.expect("it goes on");
        received.push(String::from_utf8_lossy(&delivery.message.body).into_owned());
        consumer.accept(&delivery);
        if received.len() == 1000 {
            gateways.kill(1);
        }
    }
    within(consumer.close()).await.expect("all is settled");
    assert_eq!(received, bodies(3000));
    assert_eq!(gateways.queued("orders"), Vec::<String>::new());
    assert!(
        gateways.repeats() > 0,
        "no settlement was repeated: the test tests nothing"
    );
}

#[tokio::test]
async fn what_is_not_settled_goes_back_in_order_when_the_consumer_leaves() {
    let gateways = Gateways::start(1);
    gateways.fill("orders", &bodies(10));
    let client = connect(&gateways, "").await;
    let mut consumer = client
        .consumer("orders", &ConsumerOptions::default())
        .expect("a consumer");
    let first = within(consumer.receive()).await.expect("a message");
    let second = within(consumer.receive()).await.expect("a message");
    consumer.accept(&second);
    consumer.release(&first);
    within(consumer.close()).await.expect("all is settled");
    let mut left = bodies(10);
    left.remove(1);
    assert_eq!(gateways.queued("orders"), left);

    let mut again = client
        .consumer("orders", &ConsumerOptions::default())
        .expect("a consumer");
    for expected in left {
        let delivery = within(again.receive()).await.expect("a message");
        assert_eq!(delivery.message.body, expected);
    }
}

#[tokio::test]
async fn credit_never_runs_dry_and_is_never_overdrawn() {
    let gateways = Gateways::start(1);
    gateways.fill("orders", &bodies(500));
    let client = connect(&gateways, "").await;
    for prefetch in [1, 3] {
        gateways.fill("orders", &bodies(100));
        let options = ConsumerOptions {
            prefetch_messages: prefetch,
            prefetch_bytes: 300,
            ..ConsumerOptions::default()
        };
        let mut consumer = client.consumer("orders", &options).expect("a consumer");
        for _ in 0..300 {
            let delivery = within(consumer.receive()).await.expect("a message");
            assert!(gateways.in_flight("orders") <= prefetch as usize);
            consumer.accept(&delivery);
        }
        within(consumer.close()).await.expect("all is settled");
    }
}

#[tokio::test]
async fn questions_go_to_the_next_gateway() {
    let mut gateways = Gateways::start(2);
    let client = connect(&gateways, "randomize=false").await;
    gateways.fill("orders", &bodies(3));
    let queues = within(client.queues("ord")).await.expect("an answer");
    assert_eq!(queues.queues[0].messages, 3);
    gateways.kill(0);
    assert_eq!(within(client.purge("orders")).await, Ok(3));
    let mut browse = within(client.browse("orders", None, 0))
        .await
        .expect("an answer");
    assert_eq!(within(browse.next()).await, Ok(None));
}
