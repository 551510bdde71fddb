//! `quorate receive`: writes bodies line by line, and accepts each message only once it is written.
//!
//! Bodies go to a file that is synced, or to standard output that is flushed, before the messages are accepted: what is
//! removed from the queue is where it was to go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use quorate_client::{Consumer, ConsumerOptions, Delivery, Subscription};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    browse::Shown,
    connection::connect,
    exit::TooFew,
    limits::RECEIVE_BATCH,
    output, progress,
};

/// How long the queue must be quiet for the command to end, if nothing else is said.
const QUIET: Duration = Duration::from_secs(2);

/// Flags of `quorate receive`.
#[derive(Debug, clap::Args)]
pub(crate) struct Receive {
    /// The queue, topic://NAME, or a pattern of topics: topic://prices.>
    queue: String,

    #[command(flatten)]
    subscription: Subscribe,

    /// Append the bodies to this file instead of printing them
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,

    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,

    /// End when no message came for so long (2 without --count and --follow)
    #[arg(long, value_name = "SECONDS", conflicts_with = "follow")]
    wait: Option<f64>,

    /// Go on until Ctrl-C
    #[arg(long)]
    follow: bool,

    /// Only messages that this selector selects, for instance "color = 'red' AND amount > 5"
    #[arg(long, default_value = "", hide_default_value = true)]
    selector: String,

    /// Be the only one that gets messages, or stand by until that leaves
    #[arg(long)]
    exclusive: bool,

    /// Get messages before consumers of a lower priority: -128 to 127
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i8,
}

/// Which subscription of a topic. Without these: what is published from here on.
#[derive(Debug, clap::Args)]
struct Subscribe {
    /// Keep a subscription of this name, with what comes in, until it is deleted
    #[arg(long, value_name = "NAME")]
    durable: Option<String>,

    /// Receive from the subscription of this name together with others; alone it lasts while somebody receives
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    shared: Option<String>,

    /// To whom the name belongs
    #[arg(long, value_name = "ID", default_value = "")]
    client_id: String,

    /// Begin with the retained messages
    #[arg(long)]
    retained: bool,

    /// Begin with what the topics keep of the last so many seconds
    #[arg(long, value_name = "SECONDS")]
    since: Option<u64>,
}

impl Subscribe {
    fn options(&self) -> Subscription {
        let shared = self.shared.as_deref().filter(|name| !name.is_empty());
        let named = self.durable.as_deref().or(shared);
        let since_ms = self.since.map(|seconds| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |since| since.as_millis());
            let now = u64::try_from(now).unwrap_or(u64::MAX);
            now.saturating_sub(seconds.saturating_mul(1_000)).max(1)
        });
        Subscription {
            name: named.unwrap_or_default().to_owned(),
            client_id: self.client_id.clone(),
            durable: self.durable.is_some(),
            shared: self.shared.is_some(),
            retained: self.retained,
            since_ms: since_ms.unwrap_or(0),
        }
    }
}

impl Receive {
    fn quiet(&self) -> Result<Option<Duration>> {
        match self.wait {
            Some(seconds) => Duration::try_from_secs_f64(seconds)
                .map(Some)
                .with_context(|| format!("--wait {seconds} is no time")),
            None if self.follow || self.count.is_some() => Ok(None),
            None => Ok(Some(QUIET)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Received {
    queue: String,
    received: u64,
    redelivered: u64,
    seconds: f64,
}

pub(crate) async fn run(common: &Common, arguments: Receive) -> Result<()> {
    let quiet = arguments.quiet()?;
    let mut target = Target::open(&arguments, common.output)?;
    let client = connect(common).await?;
    let options = ConsumerOptions {
        subscription: arguments.subscription.options(),
        selector: arguments.selector.clone(),
        exclusive: arguments.exclusive,
        priority: arguments.priority,
        ..ConsumerOptions::default()
    };
    let mut consumer = client.consumer(&arguments.queue, &options)?;
    let started = Instant::now();
    let bar = match &target {
        Target::File(_) => progress::messages(arguments.count),
        Target::Lines | Target::Json => ProgressBar::hidden(),
    };
    let mut received = Received {
        queue: arguments.queue.clone(),
        received: 0,
        redelivered: 0,
        seconds: 0.0,
    };
    while arguments
        .count
        .is_none_or(|count| received.received < count)
    {
        let left = arguments
            .count
            .map_or(u64::MAX, |count| count - received.received);
        let batch = next_batch(&mut consumer, quiet, left)
            .await
            .with_context(|| format!("receive from {}", arguments.queue))?;
        if batch.is_empty() {
            break;
        }
        for delivery in &batch {
            target.write(delivery)?;
        }
        target.flush()?;
        for delivery in &batch {
            consumer.accept(delivery);
            received.redelivered += u64::from(delivery.redelivered);
        }
        received.received += batch.len() as u64;
        bar.set_position(received.received);
    }
    consumer.close().await.context(
        "what was received is written, but not all acceptances are confirmed; it may come again",
    )?;
    received.seconds = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    finish(&target, common.output, &received, arguments.count)
}

fn finish(target: &Target, format: Format, received: &Received, wanted: Option<u64>) -> Result<()> {
    match (target, format) {
        (Target::File(_), Format::Json) => output::json(received)?,
        (Target::File(_), Format::Text) => output::line(&format!(
            "{} messages from {} in {:.2} s",
            received.received, received.queue, received.seconds
        ))?,
        // Standard output holds the messages and nothing else.
        (Target::Lines | Target::Json, Format::Text | Format::Json) => {}
    }
    match wanted {
        Some(wanted) if received.received < wanted => Err(TooFew {
            received: received.received,
            wanted,
        }
        .into()),
        Some(_) | None => Ok(()),
    }
}

/// Waits for a message and takes those that are there with it. Empty when the wait is over, or on Ctrl-C.
async fn next_batch(
    consumer: &mut Consumer,
    quiet: Option<Duration>,
    most: u64,
) -> Result<Vec<Delivery>, quorate_client::Error> {
    let over = async {
        match quiet {
            Some(quiet) => tokio::time::sleep(quiet).await,
            None => std::future::pending().await,
        }
    };
    let first = tokio::select! {
        biased;
        first = consumer.receive() => first?,
        () = over => return Ok(Vec::new()),
        // If Ctrl-C cannot be caught, it ends the process, which is as safe.
        Ok(()) = tokio::signal::ctrl_c() => return Ok(Vec::new()),
    };
    let most = usize::try_from(most)
        .unwrap_or(usize::MAX)
        .min(RECEIVE_BATCH);
    let mut batch = vec![first];
    while batch.len() < most
        && let Some(delivery) = consumer.try_receive()
    {
        batch.push(delivery);
    }
    Ok(batch)
}

/// Where messages go.
enum Target {
    File(io::BufWriter<File>),
    Lines,
    Json,
}

impl Target {
    fn open(arguments: &Receive, format: Format) -> Result<Self> {
        match (&arguments.to_file, format) {
            (Some(path), _) => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(path)
                    .with_context(|| format!("open {}", path.display()))?;
                Ok(Self::File(io::BufWriter::new(file)))
            }
            (None, Format::Text) => Ok(Self::Lines),
            (None, Format::Json) => Ok(Self::Json),
        }
    }

    fn write(&mut self, delivery: &Delivery) -> Result<()> {
        let body = &delivery.message.body;
        match self {
            Self::File(file) => {
                file.write_all(body)?;
                file.write_all(b"\n")?;
            }
            Self::Lines => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(body)?;
                stdout.write_all(b"\n")?;
            }
            Self::Json => {
                let text = serde_json::to_string(&Shown::from(delivery.clone()))?;
                output::line(&text)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::File(file) => {
                file.flush().context("write messages")?;
                let synced = file.get_ref().sync_data();
                // A pipe or a terminal cannot be synced, and needs not to be.
                match synced {
                    Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                        Err(error).context("sync the file of messages")
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Self::Lines | Self::Json => Ok(io::stdout().flush()?),
        }
    }
}
