//! `quorate schedule`: what waits for its time, and taking it back.

use anyhow::{Context, Result, bail};
use quorate_client::{Position, Scheduled};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate schedule`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Schedule {
    /// List the messages that wait for their time, the first due first
    List {
        /// The queue or topic (`topic://news`)
        destination: String,
        /// At most so many; 0 lists all
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Remove a message that waits, with what is left of its schedule
    Cancel {
        /// The queue or topic
        destination: String,
        /// The message, as `list` names it: SHARD:POSITION
        #[arg(value_parser = position)]
        message: Position,
    },
}

#[derive(Debug, Serialize)]
struct Waiting {
    message: String,
    due_ms: u64,
    period_ms: u64,
    /// None: without end.
    deliveries_left: Option<u32>,
    cron: String,
}

pub(crate) async fn run(common: &Common, command: Schedule) -> Result<()> {
    match command {
        Schedule::List { destination, limit } => list(common, &destination, limit).await,
        Schedule::Cancel {
            destination,
            message,
        } => cancel(common, &destination, message).await,
    }
}

async fn list(common: &Common, destination: &str, limit: u32) -> Result<()> {
    let client = connect(common).await?;
    let mut found: Vec<Scheduled> = Vec::new();
    let most = match limit {
        0 => usize::MAX,
        limit => limit as usize,
    };
    while found.len() < most {
        let page = client.scheduled(destination, found.last(), 0).await;
        let page = page.with_context(|| format!("list what is scheduled for {destination}"))?;
        found.extend(page.messages);
        if page.end {
            break;
        }
    }
    found.truncate(most);
    let waiting: Vec<Waiting> = found.into_iter().map(waiting).collect();
    match common.output {
        Format::Json => output::json(&waiting),
        Format::Text => {
            for one in &waiting {
                let left = one
                    .deliveries_left
                    .map_or_else(|| "no end".to_owned(), |left| format!("{left} left"));
                let how = match (one.cron.as_str(), one.period_ms) {
                    ("", 0) => String::new(),
                    ("", period) => format!("  every {period} ms, {left}"),
                    (cron, _) => format!("  cron {cron}"),
                };
                output::line(&format!("{}  due {}{how}", one.message, one.due_ms))?;
            }
            output::line(&format!("{} messages", waiting.len()))
        }
    }
}

fn waiting(scheduled: Scheduled) -> Waiting {
    let position = scheduled.position.unwrap_or_default();
    Waiting {
        message: format!("{}:{}", position.shard, position.value),
        due_ms: scheduled.due_ms,
        period_ms: scheduled.period_ms,
        deliveries_left: (scheduled.deliveries_left > 0).then_some(scheduled.deliveries_left),
        cron: scheduled.cron,
    }
}

async fn cancel(common: &Common, destination: &str, message: Position) -> Result<()> {
    let client = connect(common).await?;
    let cancelled = client.cancel_scheduled(destination, message).await;
    if !cancelled.with_context(|| format!("cancel a message of {destination}"))? {
        bail!(
            "no such message waits in {destination}; `quorate schedule list` names those that do"
        );
    }
    match common.output {
        Format::Json => output::json(&true),
        Format::Text => output::line("cancelled"),
    }
}

fn position(text: &str) -> Result<Position, String> {
    let parts = text.split_once(':');
    let parsed = parts.and_then(|(shard, value)| {
        Some(Position {
            shard: shard.parse().ok()?,
            value: value.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| format!("`{text}` is no SHARD:POSITION, for instance 3:12288"))
}
