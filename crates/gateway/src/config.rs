//! The keys of the gateway's configuration.

use std::{net::SocketAddr, path::PathBuf};

use quorate_service::telemetry::LogFormat;
use serde::{Deserialize, Serialize};

/// One flat table; a key that is not here is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the cluster; services of another one are refused.
    pub cluster: String,
    /// Name of this gateway.
    pub name: String,
    /// Where clients connect, whatever they speak.
    pub listen: SocketAddr,
    /// A further port for clients that speak OpenWire, for instance 61616; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openwire_listen: Option<SocketAddr>,
    /// Address that clients are told, "host:port"; absent: the same as `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Health and metrics over HTTP.
    pub health_listen: SocketAddr,
    /// The coordinators, "host:port" each.
    pub coordinators: Vec<String>,
    /// Users of OpenWire, a line `name=password` each; absent: everybody is let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_file: Option<PathBuf>,
    /// With `users_file`: clients that give no name are let in too.
    pub anonymous: bool,
    /// Largest body of a message, at most 1 MiB.
    pub max_message_bytes: usize,
    /// Time without an answer from a shard after which a call fails with a retryable error.
    pub deadline_ms: u64,
    /// Bytes of messages that may wait in this gateway.
    pub memory_bytes: u64,
    /// Connections of clients at one time; further ones wait.
    pub max_connections: usize,
    /// Calls at one time on one connection; further ones wait.
    pub max_calls_per_connection: u32,
    /// What is logged, in the notation of `RUST_LOG`.
    pub log: String,
    /// How it is logged: text or json.
    pub log_format: LogFormat,
    /// Collector of traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "quorate".to_owned(),
            name: "gw01".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 60001)),
            openwire_listen: None,
            advertise: None,
            health_listen: SocketAddr::from(([127, 0, 0, 1], 8161)),
            coordinators: vec!["127.0.0.1:62001".to_owned()],
            users_file: None,
            anonymous: false,
            max_message_bytes: MESSAGE_BYTES_MAX,
            deadline_ms: 30_000,
            memory_bytes: 256 << 20,
            max_connections: 10_000,
            max_calls_per_connection: 1_000,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            otlp_endpoint: None,
        }
    }
}

/// Largest body that a storage node takes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A key has a value that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("key `{key}`: {value} is out of range; give it {range}")]
pub struct OutOfRange {
    key: &'static str,
    value: u64,
    range: &'static str,
}

impl Config {
    /// Checks what a type cannot say.
    ///
    /// # Errors
    /// When a key is out of range.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let rules = [
            (
                "max_message_bytes",
                self.max_message_bytes as u64,
                1..=MESSAGE_BYTES_MAX as u64,
                "1 to 1048576",
            ),
            (
                "deadline_ms",
                self.deadline_ms,
                100..=3_600_000,
                "100 to 3600000",
            ),
            (
                "memory_bytes",
                self.memory_bytes,
                16 << 20..=1 << 40,
                "16 MiB to 1 TiB",
            ),
            (
                "max_connections",
                self.max_connections as u64,
                1..=1_000_000,
                "1 to 1000000",
            ),
            (
                "max_calls_per_connection",
                u64::from(self.max_calls_per_connection),
                1..=100_000,
                "1 to 100000",
            ),
            (
                "coordinators",
                self.coordinators.len() as u64,
                1..=64,
                "1 to 64 addresses",
            ),
        ];
        for (key, value, allowed, range) in rules {
            if !allowed.contains(&value) {
                return Err(OutOfRange { key, value, range });
            }
        }
        Ok(())
    }

    /// Address that clients are told.
    #[must_use]
    pub fn advertised(&self) -> String {
        self.advertise
            .clone()
            .unwrap_or_else(|| self.listen.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use quorate_service::config::{parse, show};

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_survive_being_written() {
        let config = Config::default();
        config.check().unwrap();
        let text = show(&config).unwrap();
        let again: Config = parse(Path::new("example.toml"), &text).unwrap();
        assert_eq!(show(&again).unwrap(), text);
    }

    #[test]
    fn what_is_out_of_range_is_named_with_its_remedy() {
        let config = Config {
            max_message_bytes: 2 << 20,
            ..Config::default()
        };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "key `max_message_bytes`: 2097152 is out of range; give it 1 to 1048576"
        );
    }
}
