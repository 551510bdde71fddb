//! One clean stop: on SIGTERM, on SIGINT, or when the process that started this one is gone.
//!
//! The first request begins the stop, a second signal ends the process at once (it is always safe to be killed).
//! With `QUORATE_EXIT_WITH_PARENT=1` (or `true`) the end of standard input is a request too: a parent that holds the other end
//! of that pipe takes its children with it however it dies. Should the stop then hang, the process exits by itself,
//! since nobody is left to see to it.

use std::{
    env,
    io::{self, Read},
    process,
    time::Instant,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::limits::ORPHAN_EXIT;

/// Environment variable that ties a process to its parent's end of its standard input.
pub const EXIT_WITH_PARENT: &str = "QUORATE_EXIT_WITH_PARENT";

/// A request to stop that any number of tasks can wait for.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: watch::Sender<bool>,
}

impl Shutdown {
    /// Creates one that stops only by [`Shutdown::request`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            requested: watch::Sender::new(false),
        }
    }

    /// Creates one that listens to SIGTERM and SIGINT from this moment, and to the parent's end if asked for by the
    /// environment. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(shutdown.clone().follow_signals(terminate, interrupt));
        if env::var_os(EXIT_WITH_PARENT).is_some_and(|value| value == "1" || value == "true") {
            let shutdown = shutdown.clone();
            std::thread::Builder::new()
                .name("parent".to_owned())
                .spawn(move || shutdown.follow_parent())?;
        }
        Ok(shutdown)
    }

    /// Asks for the stop.
    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Returns whether the stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Waits until the stop is asked for. Safe to drop and call again.
    pub async fn requested(&self) {
        let mut requested = self.requested.subscribe();
        requested
            .wait_for(|requested| *requested)
            .await
            .expect("this holds the sender");
    }

    async fn follow_signals(self, mut terminate: Signal, mut interrupt: Signal) {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if self.is_requested() {
                warn!(signal = name, "second signal; the process exits at once");
                process::exit(130);
            }
            info!(signal = name, "stopping");
            self.request();
        }
    }

    fn follow_parent(self) {
        wait_for_end(io::stdin().lock());
        warn!("the parent process is gone; stopping");
        self.request();
        let deadline = Instant::now() + ORPHAN_EXIT;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        process::exit(1);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

fn wait_for_end(mut input: impl Read) {
    let mut ignored = [0; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::Duration,
    };

    use super::*;

    const CHILD: &str = "QUORATE_TEST_SHUTDOWN_CHILD";

    /// Runs in a child process, started by the tests below; does nothing otherwise.
    #[tokio::test]
    async fn child_that_waits() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        let shutdown = Shutdown::on_signals().expect("handlers can be installed");
        println!("ready");
        tokio::time::timeout(Duration::from_secs(20), shutdown.requested())
            .await
            .expect("the parent stops this in time");
        println!("stopped cleanly");
    }

    fn child(exit_with_parent: &str) -> process::Child {
        let mut child = Command::new(env::current_exe().expect("the test has a path"))
            .args([
                "--exact",
                "shutdown::tests::child_that_waits",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .env(EXIT_WITH_PARENT, exit_with_parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let output = child.stdout.as_mut().expect("stdout is piped");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("ready") {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).expect("the pipe works"), 1);
            seen.push(byte[0]);
        }
        child
    }

    fn ends_cleanly(mut child: process::Child) -> bool {
        let mut rest = String::new();
        child
            .stdout
            .take()
            .expect("stdout is piped")
            .read_to_string(&mut rest)
            .expect("the output is text");
        child.wait().expect("the child ends").success() && rest.contains("stopped cleanly")
    }

    #[test]
    fn sigterm_and_sigint_ask_for_the_stop() {
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
            let child = child("0");
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, signal).expect("the child is there");
            assert!(ends_cleanly(child));
        }
    }

    #[test]
    fn the_end_of_standard_input_asks_for_the_stop_only_when_tied_to_the_parent() {
        for yes in ["1", "true"] {
            let mut tied = child(yes);
            drop(tied.stdin.take());
            assert!(ends_cleanly(tied));
        }

        let mut free = child("0");
        drop(free.stdin.take());
        let pid = rustix::process::Pid::from_child(&free);
        assert!(free.try_wait().expect("the child is ours").is_none());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the child is there");
        assert!(ends_cleanly(free));
    }

    #[tokio::test]
    async fn a_request_reaches_every_waiter_early_or_late() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        shutdown.request();
        early.await.expect("the waiter ends");
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
