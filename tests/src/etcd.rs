//! A real etcd of one or three members on the loopback interface, with its data in a temporary folder. Its members can
//! be killed, paused and started again.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{cluster::free_ports, eventually::eventually};

/// How long a start or an election may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long one question to one member may take.
const ASK: Duration = Duration::from_secs(1);

/// A running etcd. Its members end when it is dropped, and when the test's thread ends.
#[derive(Debug)]
pub struct Etcd {
    folder: TempDir,
    members: Mutex<Vec<Member>>,
    /// What the members are told beside where they are.
    arguments: Vec<String>,
    scheme: &'static str,
}

#[derive(Debug)]
struct Member {
    name: String,
    port: u16,
    peer_port: u16,
    child: Option<Child>,
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

impl Etcd {
    /// Starts so many members and waits until they have a leader.
    ///
    /// # Errors
    /// When etcd is not there or does not come up.
    pub async fn start(members: usize) -> Result<Self> {
        Self::start_with(members, "http", Vec::new()).await
    }

    /// As [`start`](Self::start), with further arguments and clients that write `scheme`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
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
            child: None,
        };
        let etcd = Self {
            folder: TempDir::with_prefix("quorate-etcd-")?,
            members: Mutex::new((0..members).map(member).collect()),
            arguments,
            scheme,
        };
        etcd.start_all()?;
        if scheme == "http" {
            etcd.leader().await?;
        }
        Ok(etcd)
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// "host:port" of each member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.members();
        members
            .iter()
            .map(|member| format!("{}://127.0.0.1:{}", self.scheme, member.port))
            .collect()
    }

    /// Starts what does not run, and lets go on what is paused.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start_all(&self) -> Result<()> {
        let mut members = self.members();
        let peers: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        for member in &mut *members {
            match &member.child {
                Some(child) => signal(child, Signal::CONT)?,
                None => member.child = Some(self.spawn(member, &peers.join(","))?),
            }
        }
        Ok(())
    }

    fn spawn(&self, member: &Member, peers: &str) -> Result<Child> {
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
        command.args(["--initial-cluster", peers]);
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

    /// Waits for a leader that a majority knows; its place.
    ///
    /// # Errors
    /// When there is none for too long.
    pub async fn leader(&self) -> Result<usize> {
        eventually("etcd to have a leader", START_LIMIT, async || {
            let mut known = Vec::new();
            for (place, endpoint) in self.endpoints().iter().enumerate() {
                if let Ok(Ok(status)) = tokio::time::timeout(ASK, status(endpoint)).await {
                    known.push((place, status));
                }
            }
            let leads = known.iter().find(|(_, (own, leader, _))| own == leader);
            let Some((place, (own, _, _))) = leads else {
                return Ok(None);
            };
            let agree = known.iter().filter(|(_, (_, leader, _))| leader == own);
            let is_majority = agree.count() * 2 > self.members().len();
            Ok(is_majority.then_some(*place))
        })
        .await
    }

    /// What runs, in words: version and number of members.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn describe(&self) -> Result<String> {
        let endpoints = self.endpoints();
        let mut client = Client::connect(&endpoints, None).await?;
        let version = client.status().await?.version().to_owned();
        let members = client.member_list().await?.members().len();
        Ok(format!("etcd {version}, {members} members"))
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

    /// Kills one member.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, place: usize) -> Result<()> {
        let mut members = self.members();
        let child = members[place].child.take();
        let mut child = child.context("this member does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Kills every member that runs.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub fn kill_all(&self) -> Result<()> {
        let running: Vec<usize> = {
            let members = self.members();
            let places = members.iter().enumerate();
            places
                .filter(|(_, member)| member.child.is_some())
                .map(|(place, _)| place)
                .collect()
        };
        running.into_iter().try_for_each(|place| self.kill(place))
    }

    /// Pauses one member.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, place: usize) -> Result<()> {
        let members = self.members();
        let child = members[place].child.as_ref();
        signal(child.context("this member does not run")?, Signal::STOP)
    }

    /// Pauses every member.
    ///
    /// # Errors
    /// When one does not run.
    pub fn pause_all(&self) -> Result<()> {
        let count = self.members().len();
        (0..count).try_for_each(|place| self.pause(place))
    }
}

/// Own number, leader's number, version of one member.
async fn status(endpoint: &str) -> Result<(u64, u64, String)> {
    let mut client = Client::connect([endpoint], None).await?;
    let status = client.status().await?;
    ensure!(status.leader() != 0, "no leader");
    let own = status.header().context("no head")?.member_id();
    Ok((own, status.leader(), status.version().to_owned()))
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut *self.members() {
            if let Some(mut child) = member.child.take() {
                // A process that is gone already needs no killing.
                if child.kill().is_ok() {
                    child.wait().ok();
                }
            }
        }
    }
}
