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
}

impl FromStr for DevStore {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let Some(servers) = text.strip_prefix("etcd://") else {
            bail!("write `embedded`, or `etcd://host:port,host:port` with the servers of an etcd");
        };
        let servers: Vec<String> = servers.split(',').map(str::to_owned).collect();
        for server in &servers {
            let port = server.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            ensure!(
                matches!(port, Some(Ok(1..))),
                "`{server}` is no `host:port` of an etcd server, like 127.0.0.1:2379"
            );
        }
        Ok(Self::Etcd(servers))
    }
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
        for wrong in [
            "etcd",
            "etcd://",
            "etcd://a",
            "etcd://a:b",
            "etcd://a:0",
            "zookeeper",
        ] {
            assert!(wrong.parse::<DevStore>().is_err(), "{wrong}");
        }
    }
}
