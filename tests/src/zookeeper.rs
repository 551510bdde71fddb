//! A real ZooKeeper of one or three members on the loopback interface, with its data in a temporary folder. Its members
//! can be killed, paused and started again.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{cluster::free_ports, eventually::eventually};

/// How long a start or an election may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one question to one member may take.
const ASK: Duration = Duration::from_millis(500);
/// ZooKeeper's unit of time in milliseconds; the shortest session is twice as long.
const TICK_MS: u32 = 500;

/// The libraries that a server and its tools need, of those that Debian's packages have.
const JARS: [&str; 9] = [
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "metrics-core",
    "commons-io",
    "commons-cli",
    "netty-all",
    "snappy-java",
];

/// A running ZooKeeper. Its members end when it is dropped, and when the test's thread ends.
#[derive(Debug)]
pub struct Zookeeper {
    folder: TempDir,
    members: Mutex<Vec<Member>>,
    /// Lines of their configuration beside where they are.
    settings: Vec<String>,
}

#[derive(Debug)]
struct Member {
    number: usize,
    port: u16,
    peer_ports: [u16; 2],
    child: Option<Child>,
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

impl Zookeeper {
    /// Starts so many members and waits until they have a leader.
    ///
    /// # Errors
    /// When ZooKeeper is not there or does not come up.
    pub async fn start(members: usize) -> Result<Self> {
        Self::start_with(members, Vec::new()).await
    }

    /// As [`start`](Self::start), with further lines of the servers' configuration.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(members: usize, settings: Vec<String>) -> Result<Self> {
        let ports = free_ports(3 * members)?;
        let member = |i: usize| Member {
            number: i + 1,
            port: ports[3 * i],
            peer_ports: [ports[3 * i + 1], ports[3 * i + 2]],
            child: None,
        };
        let zookeeper = Self {
            folder: TempDir::with_prefix("quorate-zookeeper-")?,
            members: Mutex::new((0..members).map(member).collect()),
            settings,
        };
        zookeeper.start_all()?;
        zookeeper.ready().await?;
        Ok(zookeeper)
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.members().len()
    }

    fn port(&self, place: usize) -> u16 {
        self.members()[place].port
    }

    /// "host:port" of each member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.members();
        let ports = members.iter().map(|member| member.port);
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Starts what does not run, and lets go on what is paused.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start_all(&self) -> Result<()> {
        let mut members = self.members();
        let peer = |member: &Member| {
            let [data, vote] = member.peer_ports;
            format!("server.{}=127.0.0.1:{data}:{vote}", member.number)
        };
        let mut peers: Vec<String> = members.iter().map(peer).collect();
        if peers.len() == 1 {
            peers.clear();
        }
        for member in &mut *members {
            match &member.child {
                Some(child) => signal(child, Signal::CONT)?,
                None => member.child = Some(self.spawn(member, &peers)?),
            }
        }
        Ok(())
    }

    fn spawn(&self, member: &Member, peers: &[String]) -> Result<Child> {
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
        lines.extend(peers.iter().cloned());
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

    /// Waits until every member that runs serves, one of them as the leader; its place.
    ///
    /// # Errors
    /// When they do not for too long.
    pub async fn ready(&self) -> Result<usize> {
        eventually("ZooKeeper to serve", START_LIMIT, async || {
            let modes = self.modes().await;
            let running = {
                let members = self.members();
                members
                    .iter()
                    .filter(|member| member.child.is_some())
                    .count()
            };
            let serving = modes.iter().filter(|mode| mode.is_some()).count();
            ensure!(serving == running, "{modes:?}");
            Ok(place_of_leader(&modes))
        })
        .await
        .with_context(|| self.log_ends())
    }

    /// Waits for a leader; its place.
    ///
    /// # Errors
    /// When there is none for too long.
    pub async fn leader(&self) -> Result<usize> {
        eventually("ZooKeeper to have a leader", START_LIMIT, async || {
            Ok(place_of_leader(&self.modes().await))
        })
        .await
        .with_context(|| self.log_ends())
    }

    /// What each member says that it is.
    async fn modes(&self) -> Vec<Option<String>> {
        let mut modes = Vec::new();
        for place in 0..self.count() {
            let answer = self.ask(place, "srvr").await.unwrap_or_default();
            let mut lines = answer.lines();
            modes.push(lines.find_map(|line| Some(line.strip_prefix("Mode: ")?.to_owned())));
        }
        modes
    }

    /// What runs, in words: version and number of members.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn describe(&self) -> Result<String> {
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

    /// What a member answers to a four-letter word.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ask(&self, place: usize, word: &str) -> Result<String> {
        let port = self.port(place);
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
        (0..self.count()).try_for_each(|place| self.pause(place))
    }

    fn log_ends(&self) -> String {
        let end = |number: usize| {
            let log = self.folder.path().join(format!("{number}.log"));
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(5).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("--- member {number}\n{}\n", lines.join("\n"))
        };
        (1..=self.count()).map(end).collect()
    }
}

fn place_of_leader(modes: &[Option<String>]) -> Option<usize> {
    let leads = |mode: &Option<String>| {
        let mode = mode.as_deref();
        matches!(mode, Some("leader" | "standalone"))
    };
    modes.iter().position(leads)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_child(child), signal)?)
}

impl Drop for Zookeeper {
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
