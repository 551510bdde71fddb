//! A whole cluster of real processes on free ports of the loopback interface, with its data in a temporary folder.

use std::{collections::BTreeMap, net::TcpListener, path::Path, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use quorate_proto::v1::{
    GetClusterRequest, GetClusterResponse, LocateDestinationRequest,
    admin_service_client::AdminServiceClient,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};

use crate::{eventually::eventually, process::Service};

/// How long a whole cluster may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a process may take to say whether it is ready.
const READY_LIMIT: Duration = Duration::from_millis(500);

/// How many processes of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Storage nodes.
    pub nodes: usize,
    /// Gateways.
    pub gateways: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            nodes: 3,
            gateways: 3,
        }
    }
}

/// How a cluster is coordinated.
#[derive(Clone, Debug)]
pub struct Coordination {
    /// Coordinators, of which one is active.
    pub coordinators: usize,
    /// Settings of the coordinators alone, keys without prefix.
    pub settings: Vec<(&'static str, String)>,
    /// Where each of them finds the store, if not all at the same addresses: its `store_endpoints`.
    pub endpoints: Vec<String>,
}

impl Default for Coordination {
    fn default() -> Self {
        Self {
            coordinators: 1,
            settings: Vec::new(),
            endpoints: Vec::new(),
        }
    }
}

/// A running cluster. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    /// The first coordinator, with the embedded store if nothing else is said.
    pub coordinator: Service,
    /// Further coordinators, co02 and on.
    pub standbys: Vec<Service>,
    /// Storage nodes, mq01 and on.
    pub nodes: Vec<Service>,
    /// Gateways, gw01 and on.
    pub gateways: Vec<Service>,
    /// Ports of the gateways, in their order.
    pub gateway_ports: Vec<u16>,
    /// Ports of the storage nodes, in their order.
    pub node_ports: Vec<u16>,
    /// Port of the first coordinator.
    pub coordinator_port: u16,
    /// HTTP ports for health and metrics: coordinators, nodes, gateways.
    pub health_ports: Vec<u16>,
}

/// Ports that are free now. They are held until all are known, so that none comes twice.
///
/// # Errors
/// When the system has none.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// Whether a process says on its health port that it is ready.
pub async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    let answered = tokio::time::timeout(READY_LIMIT, ask).await;
    matches!(answered, Ok(Ok(true)))
}

fn environment(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| (format!("QUORATE_{key}"), value.clone()))
        .collect()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Cluster {
    /// Starts all processes and waits until every shard is led and every gateway serves.
    ///
    /// # Errors
    /// When a program is missing or the cluster does not come up in time; the error holds the logs' ends.
    pub async fn start(size: Size) -> Result<Self> {
        Self::start_with(size, &[]).await
    }

    /// As [`start`](Self::start), with further settings (key without prefix, value) for every process.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(size: Size, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(size, settings, &Coordination::default()).await
    }

    /// As [`start_with`](Self::start_with), coordinated as said.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(
        size: Size,
        settings: &[(&str, &str)],
        coordination: &Coordination,
    ) -> Result<Self> {
        let mut cluster = Self::describe(size, settings, coordination)?;
        cluster.coordinator.start()?;
        for standby in &mut cluster.standbys {
            standby.start()?;
        }
        for service in cluster.nodes.iter_mut().chain(&mut cluster.gateways) {
            service.start()?;
        }
        cluster.ready().await.with_context(|| cluster.log_ends())?;
        Ok(cluster)
    }

    fn describe(
        size: Size,
        settings: &[(&str, &str)],
        coordination: &Coordination,
    ) -> Result<Self> {
        let heads = coordination.coordinators.max(1);
        let mut folder = TempDir::with_prefix("quorate-test-")?;
        // For looking at the logs of a failure.
        folder.disable_cleanup(std::env::var_os("TEST_KEEP").is_some());
        let ports = free_ports(2 * (heads + size.nodes + size.gateways))?;
        let (ports, health_ports) = ports.split_at(heads + size.nodes + size.gateways);
        let coordinator_port = ports[0];
        let build = |program: &str, name: &str, place: usize, extra: &[(&str, String)]| {
            let data = folder.path().join(name).display().to_string();
            let mut pairs = vec![
                ("CLUSTER", "test".into()),
                ("LISTEN", local(ports[place])),
                ("HEALTH_LISTEN", local(health_ports[place])),
            ];
            if program != "quorate-gateway" {
                pairs.push(("DATA", data));
            }
            pairs.extend(
                settings
                    .iter()
                    .map(|(key, value)| (*key, (*value).to_owned())),
            );
            pairs.extend(extra.iter().cloned());
            Service::new(program, name, folder.path(), environment(&pairs))
        };
        let mut head_settings = coordination.settings.clone();
        head_settings.push(("EXPECTED_NODES", size.nodes.to_string()));
        let addresses: Vec<String> = ports[..heads].iter().map(|port| local(*port)).collect();
        let coordinators = [("COORDINATORS", addresses.join(","))];
        let head = |i: usize| {
            let mut settings = head_settings.clone();
            let own = coordination.endpoints.get(i).cloned();
            settings.extend(own.map(|endpoints| ("STORE_ENDPOINTS", endpoints)));
            build(
                "quorate-coordinator",
                &format!("co{:02}", i + 1),
                i,
                &settings,
            )
        };
        let standbys = (1..heads).map(head).collect::<Result<_>>()?;
        let node = |i: usize| {
            build(
                "quorate-storage-node",
                &format!("mq{:02}", i + 1),
                heads + i,
                &coordinators,
            )
        };
        let nodes = (0..size.nodes).map(node).collect::<Result<_>>()?;
        let first_gateway = heads + size.nodes;
        let gateway = |i: usize| {
            build(
                "quorate-gateway",
                &format!("gw{:02}", i + 1),
                first_gateway + i,
                &coordinators,
            )
        };
        let gateways = (0..size.gateways).map(gateway).collect::<Result<_>>()?;
        Ok(Self {
            coordinator: head(0)?,
            standbys,
            nodes,
            gateways,
            gateway_ports: ports[first_gateway..].to_vec(),
            node_ports: ports[heads..first_gateway].to_vec(),
            coordinator_port,
            health_ports: health_ports.to_vec(),
            folder,
        })
    }

    /// Waits until every shard is led, as seen through every gateway that runs.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn ready(&mut self) -> Result<()> {
        for gateway in 0..self.gateways.len() {
            if !self.gateways[gateway].is_running() {
                continue;
            }
            eventually("every shard to be led", START_LIMIT, async || {
                let picture = self.picture(gateway).await?;
                let led = picture
                    .shards
                    .iter()
                    .filter(|shard| shard.leader != 0)
                    .count();
                ensure!(
                    led > 0 && led == picture.shards.len(),
                    "{led} shards are led"
                );
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The coordinators, in their order.
    pub fn coordinators(&mut self) -> impl Iterator<Item = &mut Service> {
        std::iter::once(&mut self.coordinator).chain(&mut self.standbys)
    }

    /// The places of the coordinators that say that they are active, in their order.
    pub async fn active(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for place in 0..=self.standbys.len() {
            if is_ready(self.health_ports[place]).await {
                found.push(place);
            }
        }
        found
    }

    /// The address that clients are given: all gateways.
    #[must_use]
    pub fn url(&self) -> String {
        let addresses = self
            .gateway_ports
            .iter()
            .map(|port| format!("tcp://{}", local(*port)));
        format!("failover:({})", addresses.collect::<Vec<_>>().join(","))
    }

    /// A channel to one gateway.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn channel(&self, gateway: usize) -> Result<Channel> {
        let uri = format!("http://{}", local(self.gateway_ports[gateway]));
        let endpoint = Endpoint::from_shared(uri)?.connect_timeout(Duration::from_secs(2));
        Ok(endpoint.connect().await?)
    }

    /// The cluster as one gateway sees it.
    ///
    /// # Errors
    /// When the gateway does not answer.
    pub async fn picture(&self, gateway: usize) -> Result<GetClusterResponse> {
        let mut admin = AdminServiceClient::new(self.channel(gateway).await?);
        Ok(admin.get_cluster(GetClusterRequest {}).await?.into_inner())
    }

    /// Shard and leader (as a place in `nodes`) of a queue, once somebody leads it.
    ///
    /// # Errors
    /// When nobody leads it for too long.
    pub async fn leader_of(&self, queue: &str) -> Result<(u32, usize)> {
        let gateway = 0;
        eventually("a leader", START_LIMIT, async || {
            let mut admin = AdminServiceClient::new(self.channel(gateway).await?);
            let request = LocateDestinationRequest {
                destination: queue.into(),
            };
            let place = admin.locate_destination(request).await?.into_inner();
            let nodes = self.picture(gateway).await?.nodes;
            let leader = nodes.iter().find(|node| node.id == place.leader);
            let Some(leader) = leader else {
                return Ok(None);
            };
            let found = self
                .nodes
                .iter()
                .position(|service| service.name() == leader.name);
            Ok(found.map(|node| (place.shard, node)))
        })
        .await
    }

    /// The folder with the logs and the data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        std::iter::once(&self.coordinator)
            .chain(&self.standbys)
            .chain(&self.nodes)
            .chain(&self.gateways)
    }

    /// The last lines of every log, for a failure's message.
    #[must_use]
    pub fn log_ends(&self) -> String {
        let end = |service: &Service| {
            let log = service.log();
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("--- {}\n{}\n", service.name(), lines.join("\n"))
        };
        self.services().map(end).collect()
    }

    /// An error with the logs' ends before it: what was wrong stands last, where output that is cut still has it.
    #[must_use]
    pub fn blame(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!("{}\n{error:#}", self.log_ends())
    }

    /// Lines of any log that say ERROR or a panic: nothing that a test does may cause one.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.lines_with(&[" ERROR ", "panicked at"])
    }

    /// Lines of any log that say WARN: a quiet cluster has none.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.lines_with(&[" WARN "])
    }

    fn lines_with(&self, marks: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for service in self.services() {
            let log = service.log();
            let lines = log
                .lines()
                .filter(|line| marks.iter().any(|mark| line.contains(mark)));
            found.extend(lines.map(|line| format!("{}: {line}", service.name())));
        }
        found
    }
}
