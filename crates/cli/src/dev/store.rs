//! The coordination store of `quorate dev`, as it is written on the command line.

use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

/// A coordination store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DevStore {
    /// In the coordinator's own folder.
    Embedded,
    /// In an etcd that runs already: `host:port` of its servers.
    Etcd(Vec<String>),
    /// In a ZooKeeper that runs already.
    Zookeeper {
        /// `host:port` of its servers.
        servers: Vec<String>,
        /// Where live nodes are shown, and beside it our own records; none: where they are by default.
        path: Option<String>,
    },
}

/// The port of a ZooKeeper server, if none is given.
const ZOOKEEPER_PORT: u16 = 2181;

impl FromStr for DevStore {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        if let Some(servers) = text.strip_prefix("etcd://") {
            let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
            for server in &servers {
                ensure!(
                    has_port(server),
                    "`{server}` is no `host:port` of an etcd server, like 127.0.0.1:2379"
                );
            }
            return Ok(Self::Etcd(servers));
        }
        let Some(text) = text.strip_prefix("zookeeper://") else {
            bail!(
                "write `embedded`, `etcd://host:port,host:port` with the servers of an etcd, or \
                 `zookeeper://host,host,host/path` with those of a ZooKeeper"
            );
        };
        let (servers, path) = match text.split_once('/') {
            Some((servers, path)) => (servers, Some(format!("/{path}"))),
            None => (text, None),
        };
        let is_path = |path: &String| !path.ends_with('/') && !path.contains("//");
        ensure!(
            path.as_ref().is_none_or(is_path),
            "`{}` is no path in ZooKeeper, like /quorate/dev",
            path.unwrap_or_default()
        );
        let servers = servers.split(',').map(|server| {
            let server = match server.rsplit_once(':') {
                None if !server.is_empty() => format!("{server}:{ZOOKEEPER_PORT}"),
                None | Some(_) => server.to_owned(),
            };
            ensure!(
                has_port(&server),
                "`{server}` is no `host` or `host:port` of a ZooKeeper server"
            );
            Ok(server)
        });
        Ok(Self::Zookeeper {
            servers: servers.collect::<Result<_>>()?,
            path,
        })
    }
}

fn has_port(server: &str) -> bool {
    let port = server.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    matches!(port, Some(Ok(1..)))
}

impl DevStore {
    /// The coordinator's configuration keys for it.
    pub(super) fn keys(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Embedded => vec![("STORE", "embedded".to_owned())],
            Self::Etcd(servers) => vec![
                ("STORE", "etcd".to_owned()),
                ("STORE_ENDPOINTS", servers.join(",")),
            ],
            Self::Zookeeper { servers, path } => {
                let mut keys = vec![
                    ("STORE", "zookeeper".to_owned()),
                    ("STORE_ENDPOINTS", servers.join(",")),
                ];
                if let Some(path) = path {
                    keys.push(("MEMBERS_PATH", path.clone()));
                    keys.push(("STORE_PATH", format!("{path}-state")));
                }
                keys
            }
        }
    }

    /// How what an earlier cluster left in it is removed; none: with the coordinator's folder.
    pub(super) fn removal(&self) -> Option<String> {
        match self {
            Self::Embedded => None,
            Self::Etcd(_) => Some("etcdctl del --prefix /quorate-state/dev/".to_owned()),
            Self::Zookeeper { path, .. } => {
                let path = path.as_ref().map_or_else(
                    || "/quorate-state/dev".to_owned(),
                    |path| format!("{path}-state"),
                );
                Some(format!("zkCli.sh deleteall {path}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_read_or_refused_with_what_would_be_right() {
        let etcd: DevStore = "etcd://127.0.0.1:2379,b:2380".parse().expect("servers");
        assert_eq!(
            etcd.keys(),
            [
                ("STORE", "etcd".to_owned()),
                ("STORE_ENDPOINTS", "127.0.0.1:2379,b:2380".to_owned())
            ]
        );
        assert_eq!(
            "embedded".parse::<DevStore>().ok(),
            Some(DevStore::Embedded)
        );
        let zookeeper: DevStore = "zookeeper://h1,h2:2182,h3/activemq/mqstores"
            .parse()
            .expect("servers");
        assert_eq!(
            zookeeper.keys(),
            [
                ("STORE", "zookeeper".to_owned()),
                ("STORE_ENDPOINTS", "h1:2181,h2:2182,h3:2181".to_owned()),
                ("MEMBERS_PATH", "/activemq/mqstores".to_owned()),
                ("STORE_PATH", "/activemq/mqstores-state".to_owned()),
            ]
        );
        let zookeeper: DevStore = "zookeeper://h1".parse().expect("a server");
        assert_eq!(zookeeper.keys().len(), 2);
        for wrong in [
            "etcd",
            "etcd://",
            "etcd://a",
            "etcd://a:b",
            "etcd://a:0",
            "zookeeper",
            "zookeeper://",
            "zookeeper://h1:",
            "zookeeper://h1/a//b",
            "zookeeper://h1/a/",
        ] {
            assert!(wrong.parse::<DevStore>().is_err(), "{wrong}");
        }
    }
}
