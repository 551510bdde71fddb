//! The Java clients in `tests/clients/jms`: the checks that run to their end, and the Spring application that goes on while
//! a test breaks what it goes through. Both are the unchanged ActiveMQ client to a gateway.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::eventually::eventually;

/// How long an application may make no progress: a client that closes a connection as its gateway dies waits for 15 s, and
/// one that finds no gateway comes back after up to 20 s.
const PROGRESS_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to receive all that it has sent and to end.
const END_LIMIT: Duration = Duration::from_secs(180);
/// Lines that are kept for a failure's message.
const LAST_LINES: usize = 20;

/// Checks of what ActiveMQ does and Quorate does not: docs/migrating-from-activemq.md says so. One that passes fails the test,
/// so that this list and that page stay true.
const DIFFERENT: [&str; 4] = [
    "destination_as_a_property",
    "acknowledgements_through_a_wildcard",
    "wildcard_of_queues_that_come_later",
    "wildcard_of_queues_that_exist",
];

/// What fails now and then in this one way, for a reason that is not found: the ledger has it among what is open.
const OPEN: [(&str, &str); 1] = [("broken_connection_gives_back", "text is b, not a")];

/// The script that compiles the Java clients and runs one.
fn script() -> Result<Command> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // `make test` leaves these tests out, and says so, where setting this up was not possible.
    ensure!(
        root.join("target/test-jms/complete").exists(),
        "there is no ActiveMQ client: run `make test-setup`"
    );
    let mut command = Command::new("sh");
    command.arg(root.join("tests/scripts/jms.sh"));
    Ok(command)
}

/// Compiles the Java clients if that is due.
///
/// # Errors
/// When that fails; the error is what the compiler said.
pub async fn compile() -> Result<()> {
    let output = finished(script()?, &["compile".into()]).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "compile: {said}");
    Ok(())
}

/// Runs the JMS checks: an address, another one of the same cluster if wanted, and other options and the names of checks or of
/// classes of them, none for all. Returns one line for each.
///
/// # Errors
/// When one fails; the error names those.
pub async fn checks(url: &str, second: Option<&str>, names: &[&str]) -> Result<Vec<String>> {
    let mut arguments = vec!["checks.Checks".to_owned(), "--url".into(), url.into()];
    if let Some(second) = second {
        arguments.extend(["--second".into(), second.into()]);
    }
    arguments.extend(names.iter().map(|name| (*name).to_owned()));
    let output = finished(script()?, &arguments).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        lines.last().is_some_and(|last| last.starts_with("done")),
        "the checks did not end: {said}\n{errors}"
    );
    let wrong: Vec<&String> = lines.iter().filter(|line| is_wrong(line)).collect();
    ensure!(
        wrong.is_empty(),
        "{errors}\nof {} checks: {wrong:#?}",
        lines.len()
    );
    Ok(lines)
}

/// Whether a check failed, or did not where we are known to differ from ActiveMQ.
fn is_wrong(line: &str) -> bool {
    let mut words = line.split([' ', ':']);
    let (word, name) = (words.next(), words.next().unwrap_or_default());
    match word {
        Some("FAILED")
            if OPEN
                .iter()
                .any(|(open, how)| *open == name && line.contains(how)) =>
        {
            false
        }
        Some("FAILED") => !DIFFERENT.contains(&name),
        Some("ok") => DIFFERENT.contains(&name),
        Some(_) | None => false,
    }
}

/// Runs a command to its end; the test goes on meanwhile.
async fn finished(mut command: Command, arguments: &[String]) -> Result<Output> {
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    output.context("run tests/scripts/jms.sh")
}

/// What the application says in its last line.
#[derive(Debug, serde::Deserialize)]
pub struct Report {
    /// Sends that returned.
    pub confirmed: u64,
    /// Sends that threw, as often as they were tried.
    pub failed: u64,
    /// Confirmed messages that never came.
    pub lost: u64,
    /// Receipts of messages that had come before.
    pub duplicated: u64,
    /// Messages that came though their send had not returned.
    pub received_unconfirmed: u64,
    /// Messages that came for the first time after later ones.
    pub out_of_order: u64,
    /// The longest time without a confirm, or without a receipt.
    pub longest_gap_ms: u64,
    /// How often a client of the application looked for another gateway.
    pub interruptions: u64,
    /// What was thrown, by class: from sends, from the listener's container.
    pub exceptions: BTreeMap<String, u64>,
}

/// A running Spring application. It ends when it is dropped.
#[derive(Debug)]
pub struct App {
    child: Child,
    /// The application stops sending when this closes.
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
}

fn locked(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down every line that comes, until there are no more.
fn take_down(from: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            locked(&lines).push(line);
        }
    });
}

impl App {
    /// Starts the application with an address and further options, and waits until it has received something.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn start(url: &str, options: &[&str]) -> Result<Self> {
        compile().await?;
        let mut command = script()?;
        command
            .args(["app.App", "--until-eof", "--url", url])
            .args(options);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("run tests/scripts/jms.sh")?;
        let lines = Arc::default();
        take_down(child.stdout.take().context("no output")?, &lines);
        take_down(child.stderr.take().context("no output")?, &lines);
        let input = child.stdin.take();
        let mut app = Self {
            child,
            input,
            lines,
        };
        app.goes_on().await?;
        Ok(app)
    }

    /// How many messages were confirmed and how many were received, as of the last line that says so.
    fn counts(&self) -> (u64, u64) {
        let number = |line: &str, place: usize| line.split(' ').nth(place)?.parse().ok();
        let counts = |line: &String| {
            line.starts_with("confirmed ")
                .then(|| Some((number(line, 1)?, number(line, 3)?)))?
        };
        locked(&self.lines)
            .iter()
            .rev()
            .find_map(counts)
            .unwrap_or_default()
    }

    /// The last lines that it wrote, for a failure's message.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = locked(&self.lines);
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Messages confirmed so far, as of a line written after this was called.
    ///
    /// # Errors
    /// When it writes none.
    pub async fn confirmed(&mut self) -> Result<u64> {
        let before = locked(&self.lines).len();
        eventually("two lines of the application", PROGRESS_LIMIT, async || {
            // The first may have been under way.
            Ok((locked(&self.lines).len() > before + 1).then_some(()))
        })
        .await
        .with_context(|| self.tail())?;
        Ok(self.counts().0)
    }

    /// Waits until messages are confirmed and received that were not when this was called.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn goes_on(&mut self) -> Result<()> {
        let (confirmed, received) = self.counts();
        let went_on = eventually("more confirms and receipts", PROGRESS_LIMIT, async || {
            let (more_confirmed, more_received) = self.counts();
            Ok((more_confirmed > confirmed && more_received > received).then_some(()))
        })
        .await;
        let ended = self.child.try_wait()?;
        went_on.with_context(|| format!("ended: {ended:?}\n{}", self.tail()))
    }

    /// Waits until so many messages are confirmed.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn has_confirmed(&self, count: u64) -> Result<()> {
        let confirmed = eventually("so many confirms", END_LIMIT, async || {
            Ok((self.counts().0 >= count).then_some(()))
        });
        confirmed.await.with_context(|| self.tail())
    }

    /// Lets it stop sending and receive the rest, and returns what it says at its end.
    ///
    /// # Errors
    /// When it does not end in time, or says something else.
    pub async fn report(mut self) -> Result<Report> {
        self.input = None;
        let ended = eventually("the end of the application", END_LIMIT, async || {
            let line = locked(&self.lines)
                .iter()
                .find(|line| line.starts_with('{'))
                .cloned();
            Ok(line)
        })
        .await
        .with_context(|| self.tail())?;
        serde_json::from_str(&ended).with_context(|| ended)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // A process that is gone already needs no killing.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}
