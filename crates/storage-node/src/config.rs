//! The configuration of a storage node.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The keys, with their defaults. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster: processes of another one are refused.
    pub cluster: String,
    /// Name of this node, unique in the cluster.
    pub name: String,
    /// Where peers and gateways reach this node.
    pub listen: SocketAddr,
    /// What peers and gateways are told, "host:port"; empty: `listen`.
    pub advertise: String,
    /// Where health and metrics are served.
    pub health_listen: SocketAddr,
    /// The folder with everything that this node keeps.
    pub data: PathBuf,
    /// The coordinators, "host:port" each.
    pub coordinators: Vec<String>,
    /// Threads that run shards; 0: one per core, at most two.
    pub workers: usize,
    /// Failure zone; may be empty.
    pub zone: String,
    /// Share of leaderships.
    pub weight: u32,
    /// A leader delivers only while a quorum answered within this time.
    pub node_timeout_ms: u64,
    /// Time between a leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Recent log that each shard keeps in memory.
    pub tail_bytes: usize,
    /// What is logged.
    pub log: String,
    /// How: "text" or "json".
    pub log_format: quorate_service::telemetry::LogFormat,
    /// Where traces go; none: nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "quorate".to_owned(),
            name: "mq01".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 61601)),
            advertise: String::new(),
            health_listen: SocketAddr::from(([127, 0, 0, 1], 9101)),
            data: PathBuf::from("data/storage-node"),
            coordinators: vec!["127.0.0.1:62001".to_owned()],
            workers: 0,
            zone: String::new(),
            weight: 100,
            node_timeout_ms: 1_000,
            heartbeat_ms: 200,
            tail_bytes: 8 << 20,
            log: "info".to_owned(),
            log_format: quorate_service::telemetry::LogFormat::default(),
            otlp_endpoint: None,
        }
    }
}

impl Config {
    /// What others use to reach this node.
    #[must_use]
    pub fn address(&self) -> String {
        if self.advertise.is_empty() {
            self.listen.to_string()
        } else {
            self.advertise.clone()
        }
    }

    /// Threads that run shards.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        if self.workers > 0 {
            return self.workers.min(crate::limits::WORKERS_MAX);
        }
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2))
    }
}
