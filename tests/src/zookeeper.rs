//! A real ZooKeeper of one or three members on the loopback interface, with its data in a temporary folder.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use zookeeper_client::Client;

use crate::{
    cluster::free_ports,
    ensemble::{Ensemble, Processes},
    eventually::eventually,
};

/// How long a start or an election may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one question to one member may take.
const ASK: Duration = Duration::from_millis(500);
/// ZooKeeper's unit of time in milliseconds; the shortest session is twice as long.
const TICK_MS: u32 = 500;

/// The libraries that a server and its tools need, of those that Debian's packages have.
const JARS: [&str; 16] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "metrics-core",
    "commons-io",
    "commons-cli",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
];

/// A running ZooKeeper. Its members end when it is dropped, and when the test's thread ends.
#[derive(Debug)]
pub struct Zookeeper {
    folder: TempDir,
    members: Vec<Member>,
    processes: Processes,
    /// Lines of their configuration beside where they are.
    settings: Vec<String>,
}

#[derive(Debug)]
struct Member {
    number: usize,
    port: u16,
    peer_ports: [u16; 2],
}

/// The folder that `make test-setup` unpacked Debian's packages into.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-zookeeper")
}

/// The Java that there is: installed, or unpacked.
fn java() -> Result<PathBuf> {
    let machines = unpacked().join("usr/lib/jvm");
    let unpacked = fs::read_dir(machines)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/java")));
    [PathBuf::from("/usr/bin/java")]
        .into_iter()
        .chain(unpacked)
        .find(|path| path.is_file())
        .context("no Java on this machine: run `make test-setup`")
}

/// Java with our libraries, and no more memory and threads than a test needs.
fn command() -> Result<Command> {
    let folder = unpacked().join("usr/share/java");
    let jars = JARS.map(|name| folder.join(format!("{name}.jar")).display().to_string());
    ensure!(
        Path::new(&jars[0]).exists(),
        "no ZooKeeper on this machine: run `make test-setup`"
    );
    // Not left behind when the test is killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(java()?);
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars.join(":"));
    Ok(command)
}

impl Ensemble for Zookeeper {
    const STORE: &'static str = "zookeeper";

    async fn start(servers: usize) -> Result<Self> {
        Self::start_with(servers, Vec::new()).await
    }

    fn processes(&self) -> &Processes {
        &self.processes
    }

    fn spawn(&self, place: usize) -> Result<Child> {
        let member = &self.members[place];
        let folder = self.folder.path().join(member.number.to_string());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("myid"), member.number.to_string())?;
        let mut lines = vec![
            format!("tickTime={TICK_MS}"),
            "initLimit=20".to_owned(),
            "syncLimit=4".to_owned(),
            format!("dataDir={}", folder.display()),
            format!("clientPort={}", member.port),
            "clientPortAddress=127.0.0.1".to_owned(),
            "admin.enableServer=false".to_owned(),
            "4lw.commands.whitelist=srvr,ruok,conf".to_owned(),
        ];
        if self.members.len() > 1 {
            lines.extend(self.members.iter().map(|peer| {
                let [data, vote] = peer.peer_ports;
                format!("server.{}=127.0.0.1:{data}:{vote}", peer.number)
            }));
        }
        lines.extend(self.settings.iter().cloned());
        let configuration = folder.join("zoo.cfg");
        fs::write(&configuration, lines.join("\n"))?;
        let log = self.folder.path().join(format!("{}.log", member.number));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = command()?;
        command
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().context("start ZooKeeper")
    }

    fn endpoints(&self) -> Vec<String> {
        let ports = self.members.iter().map(|member| member.port);
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    async fn leader(&self) -> Result<usize> {
        eventually("ZooKeeper to have a leader", START_LIMIT, async || {
            Ok(place_of_leader(&self.modes().await))
        })
        .await
        .with_context(|| self.log_ends())
    }

    async fn describe(&self) -> Result<String> {
        let answer = self.ask(0, "srvr").await?;
        let version = answer
            .lines()
            .find_map(|line| line.strip_prefix("Zookeeper version: "))
            .context("no version")?;
        let version = version.split(['-', ',']).next().unwrap_or(version);
        let serving = self.modes().await.into_iter().flatten();
        Ok(format!(
            "ZooKeeper {version}, {} members serve",
            serving.count()
        ))
    }

    async fn members(&self, cluster: &str) -> Result<Vec<Value>> {
        let client = self.client().await?;
        let folder = format!("/quorate/{cluster}");
        let mut members = Vec::new();
        for child in client.list_children(&folder).await? {
            let path = format!("{folder}/{child}");
            // It may have gone meanwhile.
            if let Ok((data, stat)) = client.get_data(&path).await {
                ensure!(stat.ephemeral_owner != 0, "{child} would stay for ever");
                members.push(serde_json::from_slice(&data)?);
            }
        }
        Ok(members)
    }

    async fn depose(&self, cluster: &str) -> Result<()> {
        let client = self.client().await?;
        let folder = format!("/quorate-state/{cluster}/candidates");
        let number = |name: &String| name.rsplit_once('-').map(|(_, number)| number.to_owned());
        let candidates = client.list_children(&folder).await?;
        let first = candidates.iter().min_by_key(|name| number(name));
        let first = first.context("nobody is active")?;
        client.delete(&format!("{folder}/{first}"), None).await?;
        Ok(())
    }
}

impl Zookeeper {
    /// As [`start`](Ensemble::start), with further lines of the servers' configuration.
    ///
    /// # Errors
    /// As [`start`](Ensemble::start).
    pub async fn start_with(members: usize, settings: Vec<String>) -> Result<Self> {
        let ports = free_ports(3 * members)?;
        let member = |i: usize| Member {
            number: i + 1,
            port: ports[3 * i],
            peer_ports: [ports[3 * i + 1], ports[3 * i + 2]],
        };
        let zookeeper = Self {
            folder: TempDir::with_prefix("quorate-zookeeper-")?,
            members: (0..members).map(member).collect(),
            processes: Processes::new(members),
            settings,
        };
        zookeeper.start_all()?;
        zookeeper.ready().await?;
        Ok(zookeeper)
    }

    /// A client of any member.
    ///
    /// # Errors
    /// When none answers.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.endpoints().join(",")).await?)
    }

    /// Waits until every member that runs serves, one of them as the leader; its place.
    ///
    /// # Errors
    /// When they do not for too long.
    pub async fn ready(&self) -> Result<usize> {
        eventually("ZooKeeper to serve", START_LIMIT, async || {
            let modes = self.modes().await;
            let serving = modes.iter().filter(|mode| mode.is_some()).count();
            ensure!(serving == self.processes.running(), "{modes:?}");
            Ok(place_of_leader(&modes))
        })
        .await
        .with_context(|| self.log_ends())
    }

    /// What each member says that it is.
    async fn modes(&self) -> Vec<Option<String>> {
        let mut modes = Vec::new();
        for place in 0..self.members.len() {
            let answer = self.ask(place, "srvr").await.unwrap_or_default();
            let mut lines = answer.lines();
            modes.push(lines.find_map(|line| Some(line.strip_prefix("Mode: ")?.to_owned())));
        }
        modes
    }

    /// What a member answers to a four-letter word.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ask(&self, place: usize, word: &str) -> Result<String> {
        let port = self.members[place].port;
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(word.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            ensure!(!answer.is_empty(), "no answer to {word}");
            Ok(answer)
        };
        tokio::time::timeout(ASK, ask).await?
    }

    /// Runs ZooKeeper's own command line tool; what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub async fn shell(&self, commands: &[&str]) -> Result<String> {
        let server = self.endpoints()[0].clone();
        let commands = commands.join("\n");
        // The sessions of the test's own thread must live on meanwhile.
        tokio::task::spawn_blocking(move || shell(&server, &commands)).await?
    }

    fn log_ends(&self) -> String {
        let end = |member: &Member| {
            let number = member.number;
            let log = self.folder.path().join(format!("{number}.log"));
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(5).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("--- member {number}\n{}\n", lines.join("\n"))
        };
        self.members.iter().map(end).collect()
    }
}

fn place_of_leader(modes: &[Option<String>]) -> Option<usize> {
    let leads = |mode: &Option<String>| {
        let mode = mode.as_deref();
        matches!(mode, Some("leader" | "standalone"))
    };
    modes.iter().position(leads)
}

fn shell(server: &str, commands: &str) -> Result<String> {
    let mut command = command()?;
    command.args(["org.apache.zookeeper.ZooKeeperMain", "-server", server]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ZooKeeper's tool")?;
    let mut input = child.stdin.take().context("it has an input")?;
    writeln!(input, "{commands}\nquit")?;
    drop(input);
    let Output { stdout, stderr, .. } = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&stdout).into_owned();
    let wrong = String::from_utf8_lossy(&stderr);
    ensure!(!said.is_empty(), "ZooKeeper's tool: {wrong}");
    Ok(said + &wrong)
}
