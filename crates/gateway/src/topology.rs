//! The cluster as the coordinators tell it: watched at any of them, kept when all are away.

use std::{sync::Arc, time::Duration};

use quorate_proto::internal::v1 as wire;
use quorate_service::health::Health;
use tokio::{sync::watch, time::Instant};
use tokio_stream::StreamExt;
use tonic::Streaming;
use tracing::{debug, info, warn};
use wire::coordination_service_client::CoordinationServiceClient;

use crate::{
    convert::node::topology,
    engine::{Engine, Event},
    limits::{
        CONNECT_TIMEOUT, COORDINATOR_KEEP_ALIVE, COORDINATOR_KEEP_ALIVE_TIMEOUT, COORDINATORS_AWAY,
        RECONNECT_MAX, RECONNECT_MIN,
    },
    session::Input,
    upstream::{Introduction, describe, endpoint},
};

/// What is known of the cluster, for the questions that operators ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterView {
    /// The newest picture; none before the first.
    pub(crate) topology: Option<Arc<wire::Topology>>,
    /// A coordinator answers now.
    pub(crate) coordinator_reachable: bool,
}

/// Component of the process's health.
pub(crate) const COMPONENT: &str = "topology";

/// Watches the topology at one coordinator after the other.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) engine: Engine,
    pub(crate) who: Introduction,
    pub(crate) advertise: String,
    pub(crate) coordinators: Vec<String>,
    pub(crate) view: watch::Sender<ClusterView>,
    pub(crate) health: Health,
}

impl Watcher {
    /// Watches for as long as the engine runs.
    pub(crate) async fn run(self) {
        let mut pause = RECONNECT_MIN;
        let mut away = Away::default();
        loop {
            for coordinator in &self.coordinators {
                match self.open(coordinator).await {
                    Ok((mut pictures, attending)) => {
                        let (told, why) = self.follow(&mut pictures, attending).await;
                        self.view
                            .send_modify(|view| view.coordinator_reachable = false);
                        if told {
                            away = Away::default();
                            pause = RECONNECT_MIN;
                            info!(
                                coordinator,
                                why, "topology is watched no longer; what is known is kept"
                            );
                        } else {
                            away.note(coordinator, &why);
                        }
                    }
                    Err(why) => away.note(coordinator, &why),
                }
            }
            away.complain(&self.coordinators);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    async fn open(
        &self,
        coordinator: &str,
    ) -> Result<
        (
            Streaming<wire::WatchTopologyResponse>,
            Streaming<wire::AttendGatewayResponse>,
        ),
        String,
    > {
        let channel = endpoint(coordinator)?
            .http2_keep_alive_interval(COORDINATOR_KEEP_ALIVE)
            .keep_alive_timeout(COORDINATOR_KEEP_ALIVE_TIMEOUT)
            .connect()
            .await;
        let channel = channel.map_err(|error| describe(&error))?;
        let mut client = CoordinationServiceClient::new(channel);
        let mut other = client.clone();
        let watching = client.watch_topology(wire::WatchTopologyRequest {
            cluster: self.who.cluster.clone(),
            gateway: self.who.gateway.clone(),
        });
        let attending = other.attend_gateway(wire::AttendGatewayRequest {
            cluster: self.who.cluster.clone(),
            name: self.who.gateway.clone(),
            address: self.advertise.clone(),
        });
        let opened = async { tokio::try_join!(watching, attending) };
        let (watching, attending) = tokio::time::timeout(CONNECT_TIMEOUT, opened)
            .await
            .map_err(|_| "it does not answer in time".to_owned())?
            .map_err(|status| status.to_string())?;
        Ok((watching.into_inner(), attending.into_inner()))
    }

    /// Takes in what a coordinator tells, until it ends. Returns whether it told anything, and why it ended.
    async fn follow(
        &self,
        pictures: &mut Streaming<wire::WatchTopologyResponse>,
        attending: Streaming<wire::AttendGatewayResponse>,
    ) -> (bool, String) {
        let mut told = false;
        let why = self.take_in(pictures, attending, &mut told).await;
        (told, why)
    }

    async fn take_in(
        &self,
        pictures: &mut Streaming<wire::WatchTopologyResponse>,
        mut attending: Streaming<wire::AttendGatewayResponse>,
        has_told: &mut bool,
    ) -> String {
        loop {
            let told = tokio::select! {
                told = pictures.next() => told,
                ended = attending.next() => match ended {
                    Some(Ok(wire::AttendGatewayResponse {})) => continue,
                    Some(Err(status)) => return status.to_string(),
                    None => return "the coordinator ended the attendance".to_owned(),
                },
            };
            let told = match told {
                Some(Ok(response)) => response.topology,
                Some(Err(status)) => return status.to_string(),
                None => return "the coordinator ended the stream".to_owned(),
            };
            let Some(told) = told else { continue };
            if told.cluster != self.who.cluster {
                return format!(
                    "it is of cluster `{}` and this gateway of `{}`; see the keys `cluster` and `coordinators`",
                    told.cluster, self.who.cluster
                );
            }
            let input = Event::Input(Input::Topology(topology(&told)));
            if let Err(stopping) = self.engine.tell(input).await {
                return stopping.to_string();
            }
            if !std::mem::replace(has_told, true) {
                info!("topology is watched");
            }
            self.assess(&told);
            self.view.send_modify(|view| {
                view.topology = Some(Arc::new(told));
                view.coordinator_reachable = true;
            });
        }
    }

    /// Ready is who knows where queues live, whether every shard has a leader or not.
    fn assess(&self, told: &wire::Topology) {
        match told.slots.is_empty() {
            true => self.health.not_ready(
                COMPONENT,
                "the cluster has no shards yet; start the storage nodes that it expects",
            ),
            false => self.health.ready(COMPONENT),
        }
    }
}

/// The time without any coordinator: told once when it begins, and louder once when it lasts.
#[derive(Debug)]
struct Away {
    since: Instant,
    noted: bool,
    complained: bool,
}

impl Default for Away {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            noted: false,
            complained: false,
        }
    }
}

impl Away {
    fn note(&mut self, coordinator: &str, why: &str) {
        match std::mem::replace(&mut self.noted, true) {
            false => info!(coordinator, why, "coordinator cannot be watched; trying on"),
            true => debug!(coordinator, why, "coordinator cannot be watched"),
        }
    }

    fn complain(&mut self, coordinators: &[String]) {
        if !self.complained && self.since.elapsed() >= COORDINATORS_AWAY {
            self.complained = true;
            warn!(
                ?coordinators,
                "no coordinator answers; messages flow, but nothing is elected"
            );
        }
    }
}

/// Waits a moment between two tries of a question about the cluster.
pub(crate) async fn pause(view: &mut watch::Receiver<ClusterView>, most: Duration) {
    let changed = tokio::time::timeout(most, view.changed()).await;
    // Whether the picture changed or the time passed, the next try sees what is there.
    drop(changed);
}
