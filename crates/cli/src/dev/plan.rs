//! Which processes to start, with which names, ports and configuration.

use std::{
    collections::BTreeMap,
    env, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Dev, store::DevStore};

/// Replicas of each shard, if there are so many nodes.
const REPLICAS: u16 = 3;
/// Configuration keys that are handed on from the environment of `quorate dev` to its children.
const HANDED_ON: [&str; 3] = ["QUORATE_LOG", "QUORATE_LOG_FORMAT", "QUORATE_OTLP_ENDPOINT"];

/// A process to start.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) address: String,
    pub(super) health: String,
    pub(super) log: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    arguments: Dev,
    coordinators: Vec<Place>,
    nodes: Vec<Place>,
    gateways: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    port: u16,
    health_port: u16,
    /// The flags that move the ports.
    flags: [&'static str; 2],
}

impl Plan {
    pub(super) fn new(arguments: &Dev) -> Result<Self> {
        let places = |prefix: &str, count: u16, ports: [u16; 2], flags: [&'static str; 2]| {
            (0..count)
                .map(|place| {
                    let port = |first: u16, flag: &str| {
                        first
                            .checked_add(place)
                            .filter(|port| *port > 0)
                            .with_context(|| format!("{flag} {first} leaves too few ports"))
                    };
                    Ok(Place {
                        name: format!("{prefix}{:02}", place + 1),
                        port: port(ports[0], flags[0])?,
                        health_port: port(ports[1], flags[1])?,
                        flags,
                    })
                })
                .collect::<Result<Vec<_>>>()
        };
        ensure!(
            arguments.coordinators == 1 || arguments.store != DevStore::Embedded,
            "the embedded store takes one coordinator; for {} give them a store that they share, with --store etcd://host:port or zookeeper://host:port",
            arguments.coordinators
        );
        if let (true, Some(removal)) = (arguments.fresh, arguments.store.removal()) {
            bail!(
                "--fresh removes the nodes' data, and not what the store knows of them; remove both with `{removal}` and `rm -r {}`, and start without it",
                arguments.data.display()
            );
        }
        let plan = Self {
            coordinators: places(
                "co",
                arguments.coordinators,
                [
                    arguments.coordinator_port,
                    arguments.coordinator_health_port,
                ],
                ["--coordinator-port", "--coordinator-health-port"],
            )?,
            nodes: places(
                "mq",
                arguments.nodes,
                [arguments.node_port, arguments.node_health_port],
                ["--node-port", "--node-health-port"],
            )?,
            gateways: places(
                "gw",
                arguments.gateways,
                [arguments.gateway_port, arguments.console_port],
                ["--gateway-port", "--console-port"],
            )?,
            arguments: arguments.clone(),
        };
        plan.check_overlap()?;
        Ok(plan)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.coordinators
            .iter()
            .chain(&self.nodes)
            .chain(&self.gateways)
    }

    fn ports(&self) -> impl Iterator<Item = (u16, &Place, &'static str)> {
        self.places().flat_map(|place| {
            [
                (place.port, place, place.flags[0]),
                (place.health_port, place, place.flags[1]),
            ]
        })
    }

    fn check_overlap(&self) -> Result<()> {
        let mut seen: BTreeMap<u16, &str> = BTreeMap::new();
        for (port, place, flag) in self.ports() {
            if let Some(other) = seen.insert(port, &place.name) {
                bail!(
                    "port {port} is wanted for {other} and for {}; change {flag}",
                    place.name
                );
            }
        }
        Ok(())
    }

    /// Checks that nobody listens where the processes will.
    pub(super) fn check_ports(&self) -> Result<()> {
        for (port, place, flag) in self.ports() {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                    "port {port}, for {}, is taken: is another `quorate dev` running? Stop what uses it, or give other ports with {flag} and its like",
                    place.name
                ),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("listen on port {port} for {}", place.name));
                }
            }
        }
        Ok(())
    }

    /// The address for clients.
    pub(super) fn url(&self) -> String {
        let gateways: Vec<String> = self
            .gateway_addresses()
            .map(|address| format!("tcp://{address}"))
            .collect();
        format!("failover:({})", gateways.join(","))
    }

    /// The gateways, `host:port`.
    pub(super) fn gateway_addresses(&self) -> impl Iterator<Item = String> {
        self.gateways.iter().map(|place| local(place.port))
    }

    /// All processes, the coordinators first.
    pub(super) fn processes(&self, data: &Path) -> Result<Vec<Process>> {
        let mut processes = Vec::new();
        for place in &self.coordinators {
            let mut keys = self.arguments.store.keys();
            keys.extend([
                ("EXPECTED_NODES", self.arguments.nodes.to_string()),
                ("SHARDS", self.arguments.shards.to_string()),
                ("REPLICAS", REPLICAS.min(self.arguments.nodes).to_string()),
                ("DATA", folder(data, place)),
            ]);
            processes.push(process("quorate-coordinator", place, data, &keys)?);
        }
        let addresses: Vec<String> = self
            .coordinators
            .iter()
            .map(|place| local(place.port))
            .collect();
        let coordinators = ("COORDINATORS", addresses.join(","));
        for place in &self.nodes {
            let keys = [("DATA", folder(data, place)), coordinators.clone()];
            processes.push(process("quorate-storage-node", place, data, &keys)?);
        }
        for place in &self.gateways {
            let keys = [
                coordinators.clone(),
                ("USERS_FILE", users_file(data).display().to_string()),
                ("ANONYMOUS", "true".to_owned()),
            ];
            processes.push(process("quorate-gateway", place, data, &keys)?);
        }
        Ok(processes)
    }
}

fn process(program: &str, place: &Place, data: &Path, keys: &[(&str, String)]) -> Result<Process> {
    let common = [
        ("CLUSTER", "dev".to_owned()),
        ("LISTEN", local(place.port)),
        ("HEALTH_LISTEN", local(place.health_port)),
    ];
    let mut environment: BTreeMap<String, String> = HANDED_ON
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
        .collect();
    environment.extend(
        common
            .iter()
            .chain(keys)
            .map(|(key, value)| (format!("QUORATE_{key}"), value.clone())),
    );
    Ok(Process {
        name: place.name.clone(),
        program: beside_this(program)?,
        address: local(place.port),
        health: local(place.health_port),
        log: data.join(format!("{}.log", place.name)),
        environment,
    })
}

/// Where the gateways find their users.
pub(super) fn users_file(data: &Path) -> PathBuf {
    data.join("users.properties")
}

fn folder(data: &Path, place: &Place) -> String {
    data.join(&place.name).display().to_string()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn beside_this(program: &str) -> Result<PathBuf> {
    let this = env::current_exe().context("find this program's own folder")?;
    let path = this.with_file_name(program);
    ensure!(
        path.is_file(),
        "{} is missing; build all programs with `cargo build --workspace --bins`, or install them beside `quorate`",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        dev: Dev,
    }

    fn plan(arguments: &[&str]) -> Result<Plan> {
        let line = Line::try_parse_from(std::iter::once(&"dev").chain(arguments))?;
        Plan::new(&line.dev)
    }

    #[test]
    fn ports_and_names_are_those_of_the_manual() {
        let plan = plan(&[]).expect("the defaults");
        let ports: Vec<(String, u16, u16)> = plan
            .places()
            .map(|place| (place.name.clone(), place.port, place.health_port))
            .collect();
        let expected = [
            ("co01", 62001, 9201),
            ("mq01", 61601, 9101),
            ("mq02", 61602, 9102),
            ("mq03", 61603, 9103),
            ("gw01", 60001, 8161),
            ("gw02", 60002, 8162),
            ("gw03", 60003, 8163),
        ]
        .map(|(name, port, health)| (name.to_owned(), port, health));
        assert_eq!(ports, expected);
        assert_eq!(plan.url(), crate::arguments::DEFAULT_URL);
    }

    #[test]
    fn ports_that_meet_or_run_out_are_refused() {
        let error = plan(&["--node-port", "60002"]).expect_err("they meet");
        assert!(error.to_string().contains("port 60002"), "{error}");
        let error = plan(&["--gateway-port", "65534"]).expect_err("they run out");
        assert!(error.to_string().contains("--gateway-port"), "{error}");
        assert!(plan(&["--nodes", "0"]).is_err());
    }

    #[test]
    fn coordinators_share_a_store_and_everybody_knows_all_of_them() {
        let error = plan(&["--coordinators", "3"]).expect_err("nothing to share");
        assert!(error.to_string().contains("--store etcd://"), "{error}");
        let plan = plan(&["--coordinators", "3", "--store", "etcd://127.0.0.1:2379"]);
        let places: Vec<(String, u16)> = plan
            .expect("a plan")
            .coordinators
            .iter()
            .map(|place| (place.name.clone(), place.port))
            .collect();
        let expected = [("co01", 62001), ("co02", 62002), ("co03", 62003)];
        assert_eq!(places, expected.map(|(name, port)| (name.to_owned(), port)));
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port().to_string();
        let plan = plan(&["--coordinator-health-port", &port]).expect("a plan");
        let text = plan.check_ports().expect_err("taken").to_string();
        // Another port may be taken on this machine too; then that one is named first.
        assert!(text.contains("is taken"), "{text}");
    }
}
