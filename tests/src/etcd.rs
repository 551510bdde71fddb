//! A real etcd of one or three members on the loopback interface, with its data in a temporary folder.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions, GetOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cluster::free_ports,
    ensemble::{Ensemble, Processes},
    eventually::eventually,
};

/// How long a start or an election may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long one question to one member may take.
const ASK: Duration = Duration::from_secs(1);

/// A running etcd. Its members end when it is dropped, and when the test's thread ends.
#[derive(Debug)]
pub struct Etcd {
    folder: TempDir,
    members: Vec<Member>,
    processes: Processes,
    /// What the members are told beside where they are.
    arguments: Vec<String>,
    scheme: &'static str,
}

#[derive(Debug)]
struct Member {
    name: String,
    port: u16,
    peer_port: u16,
}

/// A program: Debian's, installed or unpacked by `make test-setup`.
fn program(name: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let unpacked = root.join("target/test-etcd/usr/bin");
    let installed = [PathBuf::from("/usr/bin"), unpacked];
    installed
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} on this machine: run `make test-setup`"))
}

impl Ensemble for Etcd {
    const STORE: &'static str = "etcd";

    async fn start(servers: usize) -> Result<Self> {
        Self::start_with(servers, "http", Vec::new()).await
    }

    fn processes(&self) -> &Processes {
        &self.processes
    }

    fn spawn(&self, place: usize) -> Result<Child> {
        let member = &self.members[place];
        let peers = self.members.iter();
        let peers: Vec<String> = peers
            .map(|peer| format!("{}=http://127.0.0.1:{}", peer.name, peer.peer_port))
            .collect();
        let log = self.folder.path().join(format!("{}.log", member.name));
        let log = File::options().create(true).append(true).open(log)?;
        let client = format!("{}://127.0.0.1:{}", self.scheme, member.port);
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        // Not left behind when the test is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program("etcd")?);
        command.args(["--name", &member.name, "--logger", "zap"]);
        command.args(["--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers.join(",")]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        command
            .arg("--data-dir")
            .arg(self.folder.path().join(&member.name))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().context("start etcd")
    }

    fn endpoints(&self) -> Vec<String> {
        let members = self.members.iter();
        members
            .map(|member| format!("{}://127.0.0.1:{}", self.scheme, member.port))
            .collect()
    }

    async fn leader(&self) -> Result<usize> {
        eventually("etcd to have a leader", START_LIMIT, async || {
            let mut known = Vec::new();
            for (place, endpoint) in self.endpoints().iter().enumerate() {
                if let Ok(Ok(status)) = tokio::time::timeout(ASK, status(endpoint)).await {
                    known.push((place, status));
                }
            }
            let leads = known.iter().find(|(_, (own, leader))| own == leader);
            let Some((place, (own, _))) = leads else {
                return Ok(None);
            };
            let agree = known.iter().filter(|(_, (_, leader))| leader == own);
            let is_majority = agree.count() * 2 > self.members.len();
            Ok(is_majority.then_some(*place))
        })
        .await
    }

    async fn describe(&self) -> Result<String> {
        let endpoints = self.endpoints();
        let mut client = Client::connect(&endpoints, None).await?;
        let version = client.status().await?.version().to_owned();
        let members = client.member_list().await?.members().len();
        Ok(format!("etcd {version}, {members} members"))
    }

    async fn members(&self, cluster: &str) -> Result<Vec<Value>> {
        let mut client = self.client(None).await?;
        let all = GetOptions::new().with_prefix();
        let found = client
            .get(format!("/quorate/{cluster}/"), Some(all))
            .await?;
        let members = found.kvs().iter();
        members
            .map(|kv| Ok(serde_json::from_slice(kv.value())?))
            .collect()
    }

    async fn depose(&self, cluster: &str) -> Result<()> {
        let mut client = self.client(None).await?;
        let key = format!("/quorate-state/{cluster}/active");
        let removed = client.delete(key, None).await?.deleted();
        ensure!(removed == 1, "nobody is active");
        Ok(())
    }
}

impl Etcd {
    /// As [`start`](Ensemble::start), with further arguments and clients that write `scheme`.
    ///
    /// # Errors
    /// As [`start`](Ensemble::start).
    pub async fn start_with(
        members: usize,
        scheme: &'static str,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let ports = free_ports(2 * members)?;
        let member = |i: usize| Member {
            name: format!("e{}", i + 1),
            port: ports[2 * i],
            peer_port: ports[2 * i + 1],
        };
        let etcd = Self {
            folder: TempDir::with_prefix("quorate-etcd-")?,
            members: (0..members).map(member).collect(),
            processes: Processes::new(members),
            arguments,
            scheme,
        };
        etcd.start_all()?;
        if scheme == "http" {
            etcd.leader().await?;
        }
        Ok(etcd)
    }

    /// A client of the first member that answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn client(&self, options: Option<ConnectOptions>) -> Result<Client> {
        Ok(Client::connect(self.endpoints(), options).await?)
    }

    /// Runs etcd's own command line tool; what it prints.
    ///
    /// # Errors
    /// When it is not there or fails.
    pub async fn shell(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program("etcdctl")?);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoints().join(",")])
            .args(arguments);
        // The leases of the test's own thread must live on meanwhile.
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.context("run etcdctl")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "etcdctl {arguments:?}: {wrong}");
        Ok(said)
    }
}

/// Own number and leader's number of one member.
async fn status(endpoint: &str) -> Result<(u64, u64)> {
    let mut client = Client::connect([endpoint], None).await?;
    let status = client.status().await?;
    ensure!(status.leader() != 0, "no leader");
    let own = status.header().context("no head")?.member_id();
    Ok((own, status.leader()))
}
