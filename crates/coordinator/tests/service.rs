//! The process's gRPC service, from the outside: nodes and gateways are played by this test.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quorate_coordinator::{config::Config, process};
use quorate_proto::internal::v1::{
    AttendGatewayRequest, AttendRequest, AttendResponse, ClaimId, EntryPosition, Fenced, Heartbeat,
    Led, Probed, Register, ShardOrder, ShardReport, Topology, WatchTopologyRequest, attend_request,
    attend_response, coordination_service_client::CoordinationServiceClient, shard_order,
    shard_report,
};
use quorate_service::shutdown::Shutdown;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

type Client = CoordinationServiceClient<Channel>;

struct Coordinator {
    listen: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    _data: tempfile::TempDir,
}

impl Coordinator {
    async fn start() -> Self {
        let data = tempfile::tempdir().expect("temporary folder");
        let config = Config {
            listen: free_address().await,
            health_listen: free_address().await,
            data: data.path().join("coordinator"),
            ..Config::default()
        };
        let listen = config.listen;
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            process::run(config, stop).await.expect("a clean stop");
        });
        Self {
            listen,
            shutdown,
            task,
            _data: data,
        }
    }

    /// A client, once the coordinator is active.
    async fn client(&self) -> Client {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(mut client) = Client::connect(format!("http://{}", self.listen)).await
                && let Ok(mut watch) = watch(&mut client, "quorate").await
                && watch.message().await.is_ok()
            {
                return client;
            }
            assert!(Instant::now() < until, "the coordinator does not answer");
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.shutdown.request();
        self.task.await.expect("the coordinator ends");
    }
}

async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound")
}

async fn watch(
    client: &mut Client,
    cluster: &str,
) -> Result<Streaming<quorate_proto::internal::v1::WatchTopologyResponse>, Status> {
    let request = WatchTopologyRequest {
        cluster: cluster.to_owned(),
        gateway: "gw01".to_owned(),
    };
    Ok(client.watch_topology(request).await?.into_inner())
}

fn register(number: u64, address: SocketAddr) -> Register {
    Register {
        cluster: "quorate".to_owned(),
        name: format!("mq{number:02}"),
        address: address.to_string(),
        disk: number,
        boot: 1,
        incarnation: 1,
        weight: 100,
        ..Register::default()
    }
}

fn request(kind: attend_request::Kind) -> AttendRequest {
    AttendRequest { kind: Some(kind) }
}

/// Opens a stream that begins with `first` and returns what it ends with.
async fn refusal(client: &mut Client, first: AttendRequest) -> Status {
    let (sender, requests) = mpsc::channel(4);
    sender.send(first).await.expect("open");
    let opened = client.attend(ReceiverStream::new(requests)).await;
    match opened {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.expect_err("refused"),
    }
}

/// A storage node whose replicas do as they are told. Aborting its task is a kill: stream and listener go together.
async fn node(client: Client, number: u64) -> JoinHandle<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let _listener = listener;
        let mut client = client;
        let (sender, requests) = mpsc::channel(1024);
        let first = request(attend_request::Kind::Register(register(number, address)));
        sender.send(first).await.expect("open");
        let answers = client.attend(ReceiverStream::new(requests)).await;
        let mut answers = answers.expect("attends").into_inner();
        let mut led = Vec::new();
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                _ = beat.tick() => {
                    let heartbeat = Heartbeat {
                        disk_healthy: true,
                        led: led.clone(),
                        ..Heartbeat::default()
                    };
                    let kind = attend_request::Kind::Heartbeat(heartbeat);
                    if sender.send(request(kind)).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Ok(Some(AttendResponse { kind: Some(kind) })) = answer else {
                return;
            };
            if let attend_response::Kind::Order(order) = kind
                && let Some(report) = obey(order, number, &mut led)
                && sender
                    .send(request(attend_request::Kind::Report(report)))
                    .await
                    .is_err()
            {
                return;
            }
        }
    })
}

fn obey(
    order: ShardOrder,
    disk: u64,
    led: &mut Vec<quorate_proto::internal::v1::LedShard>,
) -> Option<ShardReport> {
    let kind = match order.kind? {
        shard_order::Kind::HandOver(_) => return None,
        shard_order::Kind::Probe(probe) => shard_report::Kind::Probed(Probed {
            nonce: probe.nonce,
            ..Probed::default()
        }),
        shard_order::Kind::Fence(fence) => {
            led.retain(|led| led.shard != order.shard);
            shard_report::Kind::Fenced(Fenced {
                claim: fence.claim,
                end: Some(EntryPosition::default()),
                disk,
                incarnation: 1,
                ..Fenced::default()
            })
        }
        shard_order::Kind::Lead(lead) => {
            let epoch = lead.claim.map_or(0, |claim: ClaimId| claim.epoch);
            led.push(quorate_proto::internal::v1::LedShard {
                shard: order.shard,
                epoch,
                serving: true,
            });
            shard_report::Kind::Led(Led {
                epoch,
                serving: true,
            })
        }
    };
    Some(ShardReport {
        shard: order.shard,
        kind: Some(kind),
    })
}

/// Waits for a picture in which `is_so`.
async fn picture(
    watch: &mut Streaming<quorate_proto::internal::v1::WatchTopologyResponse>,
    is_so: impl Fn(&Topology) -> bool,
) -> Topology {
    let wait = async {
        loop {
            let seen = watch.message().await.expect("watching").expect("open");
            let topology = seen.topology.expect("a picture");
            if is_so(&topology) {
                return topology;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the picture comes in time")
}

fn is_led(topology: &Topology) -> bool {
    topology.shards.len() == 8 && topology.shards.iter().all(|shard| shard.leader != 0)
}

#[tokio::test]
async fn shards_are_led_and_led_again_when_a_node_is_killed() {
    let coordinator = Coordinator::start().await;
    let mut client = coordinator.client().await;
    let mut watch = watch(&mut client, "quorate").await.expect("watch");
    let mut nodes = Vec::new();
    for number in 1..=3 {
        // A channel of its own: killing the node must not break the others' streams.
        let client = coordinator.client().await;
        nodes.push(node(client, number).await);
        let count = usize::try_from(number).expect("small");
        picture(&mut watch, |topology| topology.nodes.len() == count).await;
    }
    let before = picture(&mut watch, is_led).await;
    assert_eq!(before.slots.len(), 1024);
    // Settled: a change of gateways is the next picture.
    let attend = AttendGatewayRequest {
        cluster: "quorate".to_owned(),
        name: "gw01".to_owned(),
        address: "127.0.0.1:60001".to_owned(),
    };
    let gateway = client.attend_gateway(attend).await.expect("attend");
    picture(&mut watch, |topology| topology.gateways.len() == 1).await;
    drop(gateway);
    picture(&mut watch, |topology| topology.gateways.is_empty()).await;

    let killed = before.shards[0].leader;
    let began = Instant::now();
    nodes[usize::try_from(killed).expect("small") - 1].abort();
    let after = picture(&mut watch, |topology| {
        is_led(topology) && topology.shards.iter().all(|shard| shard.leader != killed)
    })
    .await;
    let took = began.elapsed();
    println!("killed to all leaders named: {took:?}");
    assert!(
        took < Duration::from_millis(900),
        "not by the timeout: {took:?}"
    );
    assert!(after.version > before.version);
    let dead = after.nodes.iter().find(|node| node.id == killed);
    assert!(dead.is_some_and(|node| !node.alive));
    coordinator.stop().await;
}

#[tokio::test]
async fn strangers_and_strange_requests_are_refused_clearly() {
    let coordinator = Coordinator::start().await;
    let mut client = coordinator.client().await;
    let address = free_address().await;
    let other = Register {
        cluster: "other".to_owned(),
        ..register(1, address)
    };
    let other = request(attend_request::Kind::Register(other));
    let status = refusal(&mut client, other).await;
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("quorate, not other"), "{status}");

    let early = request(attend_request::Kind::Heartbeat(Heartbeat::default()));
    let status = refusal(&mut client, early).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let nameless = Register {
        name: String::new(),
        ..register(1, address)
    };
    let nameless = request(attend_request::Kind::Register(nameless));
    let status = refusal(&mut client, nameless).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let lost = Register {
        node: 7,
        ..register(1, address)
    };
    let lost = request(attend_request::Kind::Register(lost));
    let status = refusal(&mut client, lost).await;
    assert_eq!(status.code(), Code::DataLoss, "{status}");

    let status = watch(&mut client, "other").await.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    coordinator.stop().await;
}
