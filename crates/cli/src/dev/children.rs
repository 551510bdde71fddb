//! The child processes: started, watched, started again, stopped.
//!
//! Each child holds the reading end of a pipe from this process and stops when that closes, so that none is left behind
//! however this process ends. Each is in a process group of its own, so that Ctrl-C reaches this process alone, which
//! then stops them in order.

use std::{
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::plan::Process;
use crate::limits::{DEV_POLL, DEV_RESTART, DEV_STOP};

/// Lines of a log that are shown when its process dies at the start.
const LOG_LINES: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Children {
    /// The coordinators, then the storage nodes, then the gateways.
    children: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    process: Process,
    state: State,
}

#[derive(Debug)]
enum State {
    Runs(Child),
    Died { again_at: Instant },
    Ended,
}

impl Children {
    pub(super) fn new(processes: Vec<Process>) -> Self {
        let children = processes.into_iter().map(|process| Running {
            process,
            state: State::Ended,
        });
        Self {
            children: children.collect(),
        }
    }

    /// Starts all.
    pub(super) fn start(&mut self) -> Result<()> {
        for child in &mut self.children {
            child.state = State::Runs(spawn(&child.process)?);
        }
        Ok(())
    }

    /// Waits for a child to die, and says which and why.
    pub(super) async fn first_death(&mut self) -> anyhow::Error {
        let mut look = tokio::time::interval(DEV_POLL);
        loop {
            look.tick().await;
            for child in &mut self.children {
                if let Some(status) = child.death() {
                    return anyhow!(
                        "{} ended ({}):\n{}",
                        child.process.name,
                        describe(status),
                        last_lines(&child.process)
                    );
                }
            }
        }
    }

    /// Looks after all, and returns what there is to tell.
    pub(super) fn look(&mut self, restart: bool) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for child in &mut self.children {
            let name = &child.process.name;
            if let State::Died { again_at } = child.state
                && Instant::now() >= again_at
            {
                let started = spawn(&child.process)?;
                told.push(format!("{name} is started again, process {}", started.id()));
                child.state = State::Runs(started);
            } else if let Some(status) = child.death() {
                let name = &child.process.name;
                let how = describe(status);
                if restart {
                    told.push(format!(
                        "{name} ended ({how}); it is started again in a second"
                    ));
                    child.state = State::Died {
                        again_at: Instant::now() + DEV_RESTART,
                    };
                } else {
                    told.push(format!("{name} ended ({how}); it is left as it is"));
                }
            }
        }
        Ok(told)
    }

    /// Stops gateways, then storage nodes, then the coordinators; what does not stop in time is killed.
    pub(super) async fn stop(&mut self) {
        let mut programs: Vec<_> = self
            .children
            .iter()
            .map(|child| child.process.program.clone())
            .collect();
        programs.dedup();
        for program in programs.into_iter().rev() {
            let mut group: Vec<&mut Running> = self
                .children
                .iter_mut()
                .filter(|child| child.process.program == program)
                .collect();
            for child in &group {
                child.signal(Signal::TERM);
            }
            let deadline = Instant::now() + DEV_STOP;
            let mut look = tokio::time::interval(DEV_POLL);
            while Instant::now() < deadline && group.iter_mut().any(|child| child.is_alive()) {
                look.tick().await;
            }
            for child in &mut group {
                child.kill();
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill();
        }
    }
}

impl Running {
    /// Returns the status of a child that has just died.
    fn death(&mut self) -> Option<ExitStatus> {
        let State::Runs(child) = &mut self.state else {
            return None;
        };
        // An error here means that the child is not ours to wait for, which cannot be.
        let status = child.try_wait().ok().flatten()?;
        self.state = State::Ended;
        Some(status)
    }

    fn is_alive(&mut self) -> bool {
        self.death();
        matches!(self.state, State::Runs(_))
    }

    fn signal(&self, signal: Signal) {
        if let State::Runs(child) = &self.state {
            // It may have ended by itself: it is not reaped yet, so its number is still its own.
            let _gone = kill_process(Pid::from_child(child), signal);
        }
    }

    fn kill(&mut self) {
        if let State::Runs(child) = &mut self.state {
            // It may have ended by itself; then there is only its status to be taken.
            let _gone = child.kill();
            let _taken = child.wait();
        }
        self.state = State::Ended;
    }
}

fn spawn(process: &Process) -> Result<Child> {
    let doing = || format!("start {} ({})", process.name, process.program.display());
    let log = File::options()
        .create(true)
        .append(true)
        .open(&process.log)
        .with_context(|| format!("open log {}", process.log.display()))?;
    let mut command = Command::new(&process.program);
    command
        .args(["--name", &process.name])
        .stdin(Stdio::piped())
        .stdout(log.try_clone().with_context(doing)?)
        .stderr(log)
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command
        .envs(&process.environment)
        .env("QUORATE_EXIT_WITH_PARENT", "1");
    command.spawn().with_context(doing)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".to_owned(),
    }
}

fn last_lines(process: &Process) -> String {
    let text = fs::read(&process.log).map_or_else(
        |error: io::Error| error.to_string(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    );
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path, time::Duration};

    use super::*;

    /// A process that ignores its arguments and lives until its standard input ends, as the services do.
    fn process(folder: &Path, name: &str) -> Process {
        let program = folder.join(name);
        fs::write(&program, "#!/bin/sh\nexec cat\n").expect("writable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("ours");
        Process {
            name: name.to_owned(),
            program,
            address: String::new(),
            health: String::new(),
            log: folder.join(format!("{name}.log")),
            environment: BTreeMap::new(),
        }
    }

    fn pid(children: &Children) -> Option<Pid> {
        match &children.children[0].state {
            State::Runs(child) => Some(Pid::from_child(child)),
            State::Died { .. } | State::Ended => None,
        }
    }

    #[tokio::test]
    async fn a_child_that_dies_is_told_and_started_again_unless_not_wanted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut children = Children::new(vec![process(folder.path(), "one")]);
        children.start().expect("it starts");
        for (restart, expected) in [(true, "in a second"), (false, "left as it is")] {
            let first = pid(&children);
            let told = tokio::time::timeout(Duration::from_secs(20), async {
                if let Some(pid) = first {
                    kill_process(pid, Signal::KILL).expect("it runs");
                }
                loop {
                    let told = children.look(restart).expect("they can be looked after");
                    if !told.is_empty() {
                        return told;
                    }
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("it is noticed");
            assert!(
                told[0].contains(expected) && told[0].contains("one"),
                "{told:?}"
            );
            if restart {
                tokio::time::timeout(Duration::from_secs(20), async {
                    while pid(&children).is_none() {
                        children.look(restart).expect("they can be looked after");
                        tokio::task::yield_now().await;
                    }
                })
                .await
                .expect("it is started again");
                assert_ne!(pid(&children), first);
            }
        }
    }

    #[tokio::test]
    async fn a_stop_leaves_nothing_running() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut children = Children::new(vec![process(folder.path(), "two")]);
        children.start().expect("it starts");
        let child = pid(&children).expect("it runs");
        children.stop().await;
        assert!(rustix::process::test_kill_process(child).is_err());
    }
}
