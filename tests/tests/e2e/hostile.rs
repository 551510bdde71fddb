//! What strangers send to a port: it gets a status that names the thing, nothing panics, memory stays bounded, and
//! the neighbours notice nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use quorate_proto::{
    internal::v1::{
        ControlRequest, PayloadRequest, SessionHello, ShardBatch, SubmitBatches, control_event,
        control_request, payload_request, session_service_client::SessionServiceClient,
    },
    v1::{
        ConsumeRequest, Credit, Message, OpenConsumer, OutboundMessage, Outcome, PublishRequest,
        SendRequest, consume_request, messaging_service_client::MessagingServiceClient,
    },
};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status, transport::Channel};

/// What a gateway may use while strangers do their worst: far below what they send and open.
const GATEWAY_BYTES_MAX: u64 = 400 << 20;
/// A bound for one answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn outbound(destination: &str, body: usize) -> OutboundMessage {
    let message = Message {
        body: Bytes::from(vec![b'x'; body]),
        ..Message::default()
    };
    OutboundMessage {
        destination: destination.into(),
        message: Some(message),
        number: 0,
        non_persistent: false,
        ..OutboundMessage::default()
    }
}

async fn send(channel: &Channel, message: OutboundMessage) -> Result<Outcome, Status> {
    let mut client =
        MessagingServiceClient::new(channel.clone()).max_encoding_message_size(64 << 20);
    let request = SendRequest {
        producer_id: Bytes::new(),
        message: Some(message),
    };
    let answer = client.send(request).await?;
    Ok(answer.into_inner().outcome())
}

/// The status of a send that must be refused.
async fn refusal(channel: &Channel, message: OutboundMessage) -> Result<Status> {
    let size = message.message.as_ref().map(|message| message.body.len());
    let what = format!("{size:?} bytes to {:?}", message.destination);
    match send(channel, message).await {
        Ok(outcome) => bail!("{what}: taken with {outcome:?}"),
        Err(status) => Ok(status),
    }
}

async fn still_serves(cluster: &Cluster) -> Result<()> {
    let outcome = send(&cluster.channel(0).await?, outbound("neighbours", 100)).await?;
    ensure!(outcome == Outcome::Stored, "a neighbour got {outcome:?}");
    let resident = cluster.gateways[0]
        .resident_bytes()
        .context("the gateway is gone")?;
    ensure!(
        resident < GATEWAY_BYTES_MAX,
        "the gateway uses {resident} bytes"
    );
    ensure!(cluster.errors().is_empty(), "{:#?}", cluster.errors());
    Ok(())
}

#[tokio::test]
async fn bad_sends_get_a_status_that_names_the_thing() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let channel = cluster.channel(0).await?;

    for name in [
        "",
        " orders",
        "a\nb",
        "a,,b",
        "queue://",
        "nonsense://x",
        &"n".repeat(300),
    ] {
        let status = refusal(&channel, outbound(name, 1)).await?;
        ensure!(
            status.code() == Code::InvalidArgument,
            "{name:?}: {status:?}"
        );
        ensure!(
            status.message().contains("destination"),
            "{name:?}: {}",
            status.message()
        );
    }
    let status = refusal(&channel, outbound("orders", 3 << 20)).await?;
    let known = [
        Code::InvalidArgument,
        Code::OutOfRange,
        Code::ResourceExhausted,
    ];
    ensure!(known.contains(&status.code()), "too large: {status:?}");
    let status = refusal(&channel, outbound("orders", (1 << 20) + 1)).await?;
    ensure!(status.message().contains("max_message_bytes"), "{status:?}");
    let mut empty = outbound("orders", 1);
    empty.message = None;
    ensure!(refusal(&channel, empty).await?.code() == Code::InvalidArgument);

    let mut client = MessagingServiceClient::new(channel.clone());
    let short = SendRequest {
        producer_id: Bytes::from_static(b"short"),
        message: Some(outbound("orders", 1)),
    };
    let status = client
        .send(short)
        .await
        .err()
        .context("a producer id of 5 bytes was taken")?;
    ensure!(status.message().contains("producer_id"), "{status:?}");
    still_serves(&cluster).await
}

#[tokio::test]
async fn bad_streams_are_ended_with_a_reason() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let mut client = MessagingServiceClient::new(cluster.channel(0).await?);

    let nameless = PublishRequest {
        producer_id: Bytes::new(),
        messages: vec![outbound("orders", 1)],
    };
    let status = first_status(client.publish(tokio_stream::iter([nameless])).await).await?;
    ensure!(
        status.code() == Code::InvalidArgument,
        "no producer id: {status:?}"
    );

    let credit = consume_request::Kind::Credit(Credit {
        messages: 1,
        bytes: 1,
    });
    let requests = tokio_stream::iter([ConsumeRequest { kind: Some(credit) }]);
    let status = first_status(client.consume(requests).await).await?;
    ensure!(
        status.code() == Code::InvalidArgument,
        "credit before open: {status:?}"
    );
    still_serves(&cluster).await
}

/// A call that sends these and stays open.
fn forever<T>(first: Vec<T>) -> impl tokio_stream::Stream<Item = T> {
    tokio_stream::StreamExt::chain(tokio_stream::iter(first), tokio_stream::pending())
}

async fn first_status<T>(
    call: Result<tonic::Response<tonic::Streaming<T>>, Status>,
) -> Result<Status> {
    let mut answers = match call {
        Ok(answers) => answers.into_inner(),
        Err(status) => return Ok(status),
    };
    loop {
        match timeout(PATIENCE, answers.message()).await? {
            Ok(Some(_)) => {}
            Ok(None) => bail!("it ended without a status"),
            Err(status) => return Ok(status),
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_grpc_end_one_connection_only() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut oversized_frame = preface.clone();
    oversized_frame.extend([0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01]);
    let mut noise = preface.clone();
    noise.extend(
        (0_u32..4096).map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap_or(0)),
    );
    let openings = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 65_536],
        b"CONNECT\naccept-version:1.2\n\n\0".to_vec(),
        oversized_frame,
        noise,
    ];
    for port in cluster
        .gateway_ports
        .iter()
        .chain(&cluster.node_ports)
        .chain([&cluster.coordinator_port])
    {
        for opening in &openings {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).await?;
            // The other side may close before it has read everything; that is a refusal too.
            stream.write_all(opening).await.ok();
            stream.shutdown().await.ok();
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .context("it hangs")?
                .ok();
        }
    }
    still_serves(&cluster).await
}

#[tokio::test]
async fn a_flood_of_streams_and_half_open_connections_leaves_the_neighbours_alone() -> Result<()> {
    const STREAMS: usize = 3_000;
    const CONNECTIONS: usize = 500;
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;

    let mut dribblers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.gateway_ports[0])).await?;
        stream.write_all(b"PRI * HT").await?;
        dribblers.push(stream);
    }
    let channel = cluster.channel(0).await?;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..STREAMS {
        let mut client = MessagingServiceClient::new(channel.clone());
        calls.spawn(async move {
            let open = OpenConsumer {
                queue: format!("flood.{}", number % 50),
                credit: Some(Credit {
                    messages: 1,
                    bytes: 1 << 20,
                }),
                ..OpenConsumer::default()
            };
            let kind = Some(consume_request::Kind::Open(open));
            let requests = tokio_stream::StreamExt::chain(
                tokio_stream::iter([ConsumeRequest { kind }]),
                tokio_stream::pending(),
            );
            timeout(Duration::from_secs(2), client.consume(requests))
                .await
                .is_ok()
        });
    }
    still_serves(&cluster).await?;
    while calls.join_next().await.is_some() {}
    still_serves(&cluster).await?;
    drop(dribblers);
    Ok(())
}

#[tokio::test]
async fn a_storage_node_refuses_strange_sessions_and_batches() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let uri = format!("http://127.0.0.1:{}", cluster.node_ports[0]);
    let mut node = SessionServiceClient::connect(uri).await?;
    let hello = |cluster: &str, session| SessionHello {
        cluster: cluster.into(),
        gateway: "stranger".into(),
        session,
        incarnation: vec![7; 16].into(),
    };
    let control = |hello| ControlRequest {
        kind: Some(control_request::Kind::Hello(hello)),
    };

    let foreign = tokio_stream::iter([control(hello("elsewhere", 1))]);
    let status = first_status(node.control(foreign).await).await?;
    ensure!(status.message().contains("cluster"), "{status:?}");

    let mut events = node
        .control(forever(vec![control(hello("test", 2))]))
        .await?
        .into_inner();
    let garbage = (0..50).map(|number| ShardBatch {
        shard: number % 9,
        number: u64::from(number) + 1,
        batch: Bytes::from(vec![0xa5; 200]),
        previous: 0,
        traceparent: "nonsense".to_owned(),
    });
    let payload = |kind| PayloadRequest { kind: Some(kind) };
    let frames = vec![
        payload(payload_request::Kind::Hello(hello("test", 2))),
        payload(payload_request::Kind::Batches(SubmitBatches {
            batches: garbage.collect(),
        })),
    ];
    let _deliveries = node.payload(forever(frames)).await?;
    let mut refused = 0;
    while refused < 50 {
        let frame = timeout(PATIENCE, events.message())
            .await??
            .context("the session was ended")?;
        for event in frame.events {
            match event.kind {
                Some(control_event::Kind::Malformed(_) | control_event::Kind::NotLeading(_)) => {
                    refused += 1
                }
                other => bail!("not a refusal: {other:?}"),
            }
        }
    }
    still_serves(&cluster).await
}

#[tokio::test]
async fn half_open_connections_are_closed_in_time() -> Result<()> {
    let cluster = Cluster::start(Size {
        nodes: 3,
        gateways: 1,
    })
    .await?;
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.gateway_ports[0])).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n").await?;
    let limit = Duration::from_secs(60);
    let mut byte = [0; 64];
    let closed = timeout(limit, async {
        while matches!(stream.read(&mut byte).await, Ok(1..)) {}
    })
    .await;
    ensure!(
        closed.is_ok(),
        "a connection that says nothing is still open after {limit:?}"
    );
    eventually("the gateway to serve", PATIENCE, async || {
        still_serves(&cluster).await?;
        Ok(Some(()))
    })
    .await
}
