//! A whole gateway on loopback, between real gRPC clients and a cluster that is played by one process: a coordinator
//! that names one node, and a node that keeps messages in memory.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod cluster;

use std::time::Duration;

use cluster::Cluster;
use quorate_gateway::{
    config::Config,
    server::{COMPONENTS, Gateway},
};
use quorate_proto::v1::{
    self, admin_service_client::AdminServiceClient, consume_request, consume_response,
    messaging_service_client::MessagingServiceClient,
};
use quorate_service::{health::Health, metrics::Metrics, shutdown::Shutdown};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Streaming, transport::Channel};

struct Running {
    cluster: Cluster,
    channel: Channel,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

async fn start() -> Running {
    let cluster = Cluster::start().await;
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        coordinators: vec![cluster.address.to_string()],
        ..Config::default()
    };
    let gateway = Gateway::bind(config).await.unwrap();
    let address = gateway.address();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let metrics = Metrics::new("gateway");
        gateway
            .serve(Health::new(COMPONENTS), &metrics, stop)
            .await
            .unwrap();
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    Running {
        cluster,
        channel: channel.connect().await.unwrap(),
        shutdown,
    }
}

/// No test waits longer than this for anything.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

fn outbound(number: u64, body: &str) -> v1::OutboundMessage {
    v1::OutboundMessage {
        destination: "orders".to_owned(),
        message: Some(v1::Message {
            body: body.to_owned().into(),
            properties: [(
                "colour".to_owned(),
                v1::Value {
                    kind: Some(v1::value::Kind::Text("red".to_owned())),
                },
            )]
            .into(),
            ..v1::Message::default()
        }),
        number,
        non_persistent: false,
        ..v1::OutboundMessage::default()
    }
}

fn publish(numbers: std::ops::RangeInclusive<u64>) -> v1::PublishRequest {
    v1::PublishRequest {
        producer_id: vec![3; 16].into(),
        messages: numbers
            .map(|number| outbound(number, &format!("body {number}")))
            .collect(),
    }
}

/// Confirms until so many messages are covered.
async fn confirmed(responses: &mut Streaming<v1::PublishResponse>, count: u64) -> Vec<u64> {
    let mut ordinals = Vec::new();
    while (ordinals.len() as u64) < count {
        let response = soon(responses.next()).await.expect("open").unwrap();
        for confirm in response.confirms {
            assert!(confirm.error.is_empty(), "{}", confirm.error);
            ordinals.extend(confirm.first..confirm.first + u64::from(confirm.count));
        }
    }
    ordinals
}

async fn consumer(
    channel: &Channel,
    credit: u32,
) -> (
    mpsc::Sender<v1::ConsumeRequest>,
    Streaming<v1::ConsumeResponse>,
) {
    let (requests, outgoing) = mpsc::channel(8);
    let open = consume_request::Kind::Open(v1::OpenConsumer {
        queue: "queue://orders".to_owned(),
        credit: Some(v1::Credit {
            messages: credit,
            bytes: 1 << 20,
        }),
        ..v1::OpenConsumer::default()
    });
    requests
        .send(v1::ConsumeRequest { kind: Some(open) })
        .await
        .unwrap();
    let mut client = MessagingServiceClient::new(channel.clone());
    let responses = soon(client.consume(ReceiverStream::new(outgoing)))
        .await
        .unwrap();
    (requests, responses.into_inner())
}

async fn kind(responses: &mut Streaming<v1::ConsumeResponse>) -> consume_response::Kind {
    soon(responses.next())
        .await
        .expect("open")
        .unwrap()
        .kind
        .unwrap()
}

async fn received(
    responses: &mut Streaming<v1::ConsumeResponse>,
    count: usize,
) -> Vec<v1::Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        match kind(responses).await {
            consume_response::Kind::Deliveries(more) => deliveries.extend(more.deliveries),
            consume_response::Kind::Opened(_) => {}
            other @ consume_response::Kind::Settled(_) => panic!("unexpected: {other:?}"),
        }
    }
    deliveries
}

#[tokio::test]
async fn messages_go_through_from_publish_to_settle() {
    let running = start().await;
    let mut client = MessagingServiceClient::new(running.channel.clone());
    let frames = tokio_stream::iter([publish(1..=300), publish(301..=500)]);
    let mut confirms = soon(client.publish(frames)).await.unwrap().into_inner();
    let mut ordinals = confirmed(&mut confirms, 500).await;
    ordinals.sort_unstable();
    assert_eq!(ordinals, (0..500).collect::<Vec<_>>());
    assert!(
        soon(confirms.next()).await.is_none(),
        "the call ends after the last confirm"
    );

    let (requests, mut responses) = consumer(&running.channel, 500).await;
    assert!(matches!(
        kind(&mut responses).await,
        consume_response::Kind::Opened(_)
    ));
    let deliveries = received(&mut responses, 500).await;
    let first = deliveries[0].message.clone().unwrap();
    assert_eq!(
        first,
        v1::Message {
            priority: Some(4),
            ..outbound(1, "body 1").message.unwrap()
        }
    );
    let settle = consume_request::Kind::Settle(v1::Settle {
        settlement: v1::Settlement::Accept as i32,
        positions: deliveries.iter().filter_map(|d| d.position).collect(),
        token: 77,
    });
    requests
        .send(v1::ConsumeRequest { kind: Some(settle) })
        .await
        .unwrap();
    drop(requests);
    let consume_response::Kind::Settled(settled) = kind(&mut responses).await else {
        panic!("not settled");
    };
    assert_eq!(settled.token, 77);
    assert_eq!(settled.outcomes, [v1::Outcome::Applied as i32; 500]);
    assert!(
        soon(responses.next()).await.is_none(),
        "the call ends after the last answer"
    );
    assert_eq!(running.cluster.messages(), 0);
    soon(running.cluster.detached()).await;
}

#[tokio::test]
async fn a_lost_link_is_a_pause_and_not_an_error() {
    let running = start().await;
    let mut client = MessagingServiceClient::new(running.channel.clone());
    let (requests, outgoing) = mpsc::channel(8);
    requests.send(publish(1..=10)).await.unwrap();
    let calls = soon(client.publish(ReceiverStream::new(outgoing))).await;
    let mut confirms = calls.unwrap().into_inner();
    confirmed(&mut confirms, 10).await;
    let (_consuming, mut responses) = consumer(&running.channel, 100).await;
    assert_eq!(received(&mut responses, 10).await.len(), 10);

    running.cluster.lose_answers(true);
    requests.send(publish(11..=20)).await.unwrap();
    soon(running.cluster.stored(20)).await;
    running.cluster.lose_answers(false);
    running.cluster.break_links();
    assert_eq!(confirmed(&mut confirms, 10).await.len(), 10);
    assert_eq!(running.cluster.messages(), 20, "stored once");
    let bodies: Vec<_> = received(&mut responses, 10)
        .await
        .into_iter()
        .map(|delivery| String::from_utf8(delivery.message.unwrap().body.to_vec()).unwrap())
        .collect();
    let expected: Vec<_> = (11..=20).map(|number| format!("body {number}")).collect();
    assert_eq!(bodies, expected, "what it holds is not sent again");
}

#[tokio::test]
async fn a_client_that_sends_no_more_is_told_in_time_that_its_messages_wait_for_room() {
    let running = start().await;
    let mut client = MessagingServiceClient::new(running.channel.clone());
    let mut message = outbound(1, "x");
    message.destination = cluster::FULL.to_owned();
    let frames = tokio_stream::iter([v1::PublishRequest {
        producer_id: vec![3; 16].into(),
        messages: vec![message],
    }]);
    let mut request = tonic::Request::new(frames);
    request.set_timeout(Duration::from_millis(1_500));
    let mut responses = soon(client.publish(request)).await.unwrap().into_inner();
    let status = loop {
        match soon(responses.next()).await.expect("an error ends it") {
            Ok(response) => assert!(response.confirms.is_empty(), "{response:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("queue://full"), "{status}");
}

#[tokio::test]
async fn what_a_client_gets_wrong_is_named_with_its_remedy() {
    let running = start().await;
    let mut client = MessagingServiceClient::new(running.channel.clone());
    let send = |message: v1::OutboundMessage, producer: usize| v1::SendRequest {
        producer_id: vec![1; producer].into(),
        message: Some(message),
    };
    let mut named = outbound(1, "x");
    named.destination = "a,nothing://b".to_owned();
    let mut topic = outbound(1, "x");
    topic.destination = "topic://a.>".to_owned();
    let large = outbound(1, &"x".repeat((1 << 20) + 1));
    let cases = [
        (
            send(named, 16),
            Code::InvalidArgument,
            "destination kind `nothing` is unknown",
        ),
        (send(topic, 16), Code::InvalidArgument, "one destination"),
        (
            send(large, 16),
            Code::InvalidArgument,
            "at most 1048576 are allowed",
        ),
        (
            send(outbound(1, "x"), 5),
            Code::InvalidArgument,
            "16 bytes, got 5",
        ),
        (
            send(outbound(0, "x"), 16),
            Code::InvalidArgument,
            "has number 0",
        ),
        (
            send(outbound(1, "x"), 0),
            Code::InvalidArgument,
            "give both, or none",
        ),
    ];
    for (request, code, text) in cases {
        let status = soon(client.send(request)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    let sent = soon(client.send(send(outbound(0, "x"), 0))).await.unwrap();
    assert_eq!(sent.into_inner().outcome(), v1::Outcome::Stored);

    let not_open = tokio_stream::iter([v1::ConsumeRequest {
        kind: Some(consume_request::Kind::Credit(v1::Credit::default())),
    }]);
    let mut responses = soon(client.consume(not_open)).await.unwrap().into_inner();
    let status = soon(responses.next()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn operators_see_queues_messages_and_the_cluster() {
    let running = start().await;
    let mut client = MessagingServiceClient::new(running.channel.clone());
    let frames = tokio_stream::iter([publish(1..=100)]);
    let mut confirms = soon(client.publish(frames)).await.unwrap().into_inner();
    confirmed(&mut confirms, 100).await;

    let browse = v1::BrowseRequest {
        queue: "orders".to_owned(),
        after: None,
        limit: 70,
        ..v1::BrowseRequest::default()
    };
    let mut pages = soon(client.browse(browse)).await.unwrap().into_inner();
    let mut bodies = Vec::new();
    while let Some(page) = soon(pages.next()).await {
        bodies.extend(
            page.unwrap()
                .messages
                .into_iter()
                .map(|d| d.message.unwrap().body),
        );
    }
    let expected: Vec<_> = (1..=70).map(|number| format!("body {number}")).collect();
    assert_eq!(bodies, expected);

    let mut admin = AdminServiceClient::new(running.channel.clone());
    let cluster = soon(admin.get_cluster(v1::GetClusterRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(cluster.nodes[0].name, "mq01");
    assert!(cluster.coordinator_reachable);
    assert_eq!(cluster.shards[0].replicas.len(), 1);
    let queues = v1::ListQueuesRequest::default();
    let queues = soon(admin.list_queues(queues)).await.unwrap().into_inner();
    assert_eq!(
        (queues.queues[0].name.as_str(), queues.queues[0].messages),
        ("orders", 100)
    );
    assert_eq!(queues.unanswered_shards, [0; 0]);
    let located = soon(admin.locate_destination(v1::LocateDestinationRequest {
        destination: "orders".to_owned(),
    }));
    assert_eq!(located.await.unwrap().into_inner().leader, 1);
    let purge = v1::PurgeQueueRequest {
        queue: "orders".to_owned(),
        delete_queue: false,
    };
    let purged = soon(admin.purge_queue(purge)).await.unwrap().into_inner();
    assert_eq!(purged.removed, 100);
    assert_eq!(running.cluster.messages(), 0);
}
