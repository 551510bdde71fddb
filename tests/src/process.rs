//! One service as a child process: started with its name on the command line and its configuration in the
//! environment, its log in a file.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How to start one service, and the running process if there is one.
#[derive(Debug)]
pub struct Service {
    program: PathBuf,
    name: String,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    child: Option<Child>,
    /// The child's standard input: when it closes the child ends. Apart from the child, whose `wait` would close it.
    lifeline: Option<ChildStdin>,
}

/// The programs stand beside the folder of the test binary.
///
/// # Errors
/// When the program was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("find the test binary")?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("the test binary has no folder")?;
    let path = folder.join(name);
    ensure!(
        path.exists(),
        "{} is not there: run `cargo build --bins` first",
        path.display()
    );
    Ok(path)
}

impl Service {
    /// Describes a service; it is not started.
    ///
    /// # Errors
    /// When the program was not built.
    pub fn new(
        program_name: &str,
        name: &str,
        folder: &Path,
        environment: BTreeMap<String, String>,
    ) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        Ok(Self {
            program: program(program_name)?,
            name: name.into(),
            environment,
            log,
            child: None,
            lifeline: None,
        })
    }

    /// Starts the process; its log goes on where the last one stopped.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(["--name", &self.name]).envs(&self.environment);
        // The services end when this pipe closes, so that a test that dies leaves nothing running.
        command
            .env("QUORATE_EXIT_WITH_PARENT", "true")
            .stdin(Stdio::piped());
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.lifeline = child.stdin.take();
        self.child = Some(child);
        Ok(())
    }

    /// Sets a key of its configuration for the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        let name = format!("QUORATE_{key}");
        self.environment.insert(name, value.to_owned());
    }

    /// Runs its program with its configuration and further arguments, to the end of the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(["--name", &self.name]).args(arguments);
        command.envs(&self.environment).stdin(Stdio::null());
        // What else the test does goes on meanwhile.
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        output.with_context(|| format!("run {}", self.program.display()))
    }

    /// The name given on the command line.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills with SIGKILL and reaps.
    ///
    /// # Errors
    /// When there is nothing to kill.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self
            .child
            .take()
            .with_context(|| format!("{} does not run", self.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal: `Signal::STOP` pauses, `Signal::CONT` goes on, `Signal::TERM` asks to stop.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(kill_process(pid.context("it does not run")?, signal)?)
    }

    /// Asks to stop with SIGTERM and waits for the end; tells whether it ended with success.
    ///
    /// # Errors
    /// When there is nothing to stop.
    pub fn stop(&mut self) -> Result<bool> {
        self.signal(Signal::TERM)?;
        let mut child = self
            .child
            .take()
            .with_context(|| format!("{} does not run", self.name))?;
        Ok(child.wait()?.success())
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in bytes, while it runs (Linux).
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that is gone already needs no killing.
            if child.kill().is_ok() {
                child.wait().ok();
            }
        }
    }
}

/// A file that exists and can be read by a service.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    File::create(path)?
        .write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
