//! The configuration of a coordinator.

use std::{net::SocketAddr, path::PathBuf};

use quorate_replication::Duration;
use quorate_service::telemetry::LogFormat;
use serde::{Deserialize, Serialize};

use crate::{
    controller,
    limits::{NODE_TIMEOUT_MS_MIN, NODES_MAX, REPLICAS_MAX, SHARDS_MAX},
};

mod access;

/// The keys, with their defaults. Unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster: processes of another one are refused.
    pub cluster: String,
    /// Name of this coordinator.
    pub name: String,
    /// Where nodes and gateways reach it.
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    pub health_listen: SocketAddr,
    /// The folder of the embedded store.
    pub data: PathBuf,
    /// The coordination store.
    pub store: StoreKind,
    /// The servers of a store that is not embedded, "host:port" each; for etcd also "https://host:port", for ZooKeeper
    /// the last one may end with the path under which everything is.
    pub store_endpoints: Vec<String>,
    /// Where the store keeps what the coordinator knows; empty: `/quorate-state/<cluster>`.
    pub store_path: String,
    /// Where the store shows the live storage nodes, one child each; empty: `/quorate/<cluster>`.
    #[serde(alias = "zk_path")]
    pub members_path: String,
    /// Silence after which the active coordinator is replaced by another one.
    pub store_session_ms: u64,
    /// Who this process is to the store; none: nobody.
    pub store_user: Option<String>,
    /// File with that user's password.
    pub store_password_file: Option<PathBuf>,
    /// File with the certificates of who signed those of the store's servers (PEM).
    pub store_ca_file: Option<PathBuf>,
    /// File with this process's certificate for the store (PEM), if its servers ask for one.
    pub store_certificate_file: Option<PathBuf>,
    /// File with the key of that certificate (PEM).
    pub store_key_file: Option<PathBuf>,
    /// Nodes that must have registered before the shards are created.
    pub expected_nodes: u32,
    /// Shards that are created then; fixed from there on.
    pub shards: u32,
    /// Replicas of each shard.
    pub replicas: u32,
    /// Silence after which a node is taken for dead.
    pub node_timeout_ms: u64,
    /// How often a node says that it lives.
    pub heartbeat_ms: u64,
    /// Whether leaderships are spread anew, slowly, after a node returned.
    pub rebalance: bool,
    /// What is logged.
    pub log: String,
    /// How: "text" or "json".
    pub log_format: LogFormat,
    /// Where traces go; none: nowhere.
    pub otlp_endpoint: Option<String>,
}

/// A coordination store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a folder of this machine; not replicated.
    #[default]
    Embedded,
    /// In etcd.
    Etcd,
    /// In ZooKeeper.
    Zookeeper,
}

/// Why a configuration makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key `{key}`: {reason}")]
pub struct ConfigError {
    key: &'static str,
    reason: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "quorate".to_owned(),
            name: "co01".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 62001)),
            health_listen: SocketAddr::from(([127, 0, 0, 1], 9201)),
            data: PathBuf::from("data/coordinator"),
            store: StoreKind::default(),
            store_endpoints: Vec::new(),
            store_path: String::new(),
            members_path: String::new(),
            store_session_ms: 3_000,
            store_user: None,
            store_password_file: None,
            store_ca_file: None,
            store_certificate_file: None,
            store_key_file: None,
            expected_nodes: 3,
            shards: 8,
            replicas: 3,
            node_timeout_ms: 1_000,
            heartbeat_ms: 200,
            rebalance: true,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            otlp_endpoint: None,
        }
    }
}

impl Config {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the key and what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: String| Err(ConfigError { key, reason });
        if self.cluster.is_empty() {
            return refuse("cluster", "give the cluster a name".to_owned());
        }
        let nodes = u32::try_from(NODES_MAX).unwrap_or(u32::MAX);
        if !(1..=nodes).contains(&self.expected_nodes) {
            return refuse("expected_nodes", format!("give a number from 1 to {nodes}"));
        }
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return refuse("shards", format!("give a number from 1 to {SHARDS_MAX}"));
        }
        if !(1..=REPLICAS_MAX).contains(&self.replicas) || self.replicas > self.expected_nodes {
            return refuse(
                "replicas",
                format!("give a number from 1 to {REPLICAS_MAX}, at most `expected_nodes`"),
            );
        }
        if self.node_timeout_ms < NODE_TIMEOUT_MS_MIN {
            let reason = format!("give at least {NODE_TIMEOUT_MS_MIN} milliseconds");
            return refuse("node_timeout_ms", reason);
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms > self.node_timeout_ms / 3 {
            let reason = "give at most a third of `node_timeout_ms`, and not 0".to_owned();
            return refuse("heartbeat_ms", reason);
        }
        access::validate(self)
    }

    /// What the controller is to know of it.
    #[must_use]
    pub fn controller(&self) -> controller::Config {
        controller::Config {
            expected_nodes: self.expected_nodes,
            shards: self.shards,
            replicas: self.replicas,
            node_timeout: Duration::from_millis(self.node_timeout_ms),
            heartbeat: Duration::from_millis(self.heartbeat_ms),
            rebalance: self.rebalance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_key() {
        let check = |change: fn(&mut Config), key: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().expect_err(key);
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        };
        check(|config| config.cluster.clear(), "cluster");
        check(|config| config.expected_nodes = 0, "expected_nodes");
        check(|config| config.shards = 2_000, "shards");
        check(|config| config.replicas = 4, "replicas");
        check(|config| config.node_timeout_ms = 1, "node_timeout_ms");
        check(|config| config.heartbeat_ms = 900, "heartbeat_ms");
        check(|config| config.store = StoreKind::Etcd, "store_endpoints");
        check(
            |config| config.store = StoreKind::Zookeeper,
            "store_endpoints",
        );
        check(|config| config.store_user = Some("q".into()), "store_user");
        check(|config| config.store_session_ms = 1_000, "store_session_ms");
    }
}
