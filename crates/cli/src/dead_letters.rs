//! `quorate dead-letters`: lists them with their reason, sends them back, removes them.

use anyhow::{Context, Result, bail};
use quorate_client::DeadLetter;
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
    transfer::{self, Step, Which},
};

/// Where dead letters are if no setting says otherwise.
const DEFAULT_QUEUE: &str = "ActiveMQ.DLQ";

/// Commands of `quorate dead-letters`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DeadLetters {
    /// Lists dead letters with why, where and when they died
    List(List),
    /// Sends dead letters back to where they came from
    Retry(Chosen),
    /// Removes dead letters
    Purge(Purge),
}

/// Flags of `quorate dead-letters list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The dead-letter queue
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,

    /// At most so many; 0 for all
    #[arg(long, default_value_t = 100)]
    limit: u32,

    /// Show each one's whole history
    #[arg(long)]
    history: bool,
}

/// Flags of `quorate dead-letters retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// The dead-letter queue
    #[arg(default_value = DEFAULT_QUEUE)]
    queue: String,

    #[command(flatten)]
    which: Which,
}

/// Flags of `quorate dead-letters purge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    chosen: Chosen,

    /// Remove them
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Listing {
    queue: String,
    letters: Vec<Shown>,
}

/// A dead letter as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    shard: u32,
    position: u64,
    message_id: String,
    reason: String,
    destination: String,
    deliveries: u32,
    at_ms: u64,
    history: Vec<String>,
    bytes: u64,
}

impl From<DeadLetter> for Shown {
    fn from(letter: DeadLetter) -> Self {
        let position = letter.position.unwrap_or_default();
        Self {
            shard: position.shard,
            position: position.value,
            message_id: letter.message_id,
            reason: letter.reason,
            destination: letter.destination,
            deliveries: letter.deliveries,
            at_ms: letter.at_ms,
            history: letter.history,
            bytes: letter.bytes,
        }
    }
}

pub(crate) async fn run(common: &Common, command: DeadLetters) -> Result<()> {
    match command {
        DeadLetters::List(list) => self::list(common, list).await,
        DeadLetters::Retry(chosen) => {
            transfer::run(common, &chosen.queue, &Step::Retry, &chosen.which).await
        }
        DeadLetters::Purge(purge) => {
            if !purge.yes {
                bail!("dead letters are removed for good; give --yes");
            }
            let chosen = purge.chosen;
            transfer::run(common, &chosen.queue, &Step::Remove, &chosen.which).await
        }
    }
}

async fn list(common: &Common, arguments: List) -> Result<()> {
    let client = connect(common).await?;
    let mut letters = Vec::new();
    let mut after = None;
    loop {
        let left = match arguments.limit {
            0 => 0,
            limit => limit.saturating_sub(u32::try_from(letters.len()).unwrap_or(u32::MAX)),
        };
        if arguments.limit > 0 && left == 0 {
            break;
        }
        let page = client
            .dead_letters(&arguments.queue, after, left)
            .await
            .with_context(|| format!("list dead letters of {}", arguments.queue))?;
        letters.extend(page.letters.into_iter().map(Shown::from));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    match common.output {
        Format::Json => output::json(&Listing {
            queue: arguments.queue,
            letters,
        }),
        Format::Text => {
            for letter in &letters {
                output::line(&short(letter))?;
                for line in letter.history.iter().filter(|_| arguments.history) {
                    output::line(&format!("    {line}"))?;
                }
            }
            Ok(())
        }
    }
}

/// One line: where it is, why it died, where and how often it had failed, and its identity.
fn short(letter: &Shown) -> String {
    let told = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    format!(
        "{}:{}  {}  {}  {} failed  {} bytes  {}",
        letter.shard,
        letter.position,
        told(&letter.reason),
        told(&letter.destination),
        letter.deliveries,
        letter.bytes,
        told(&letter.message_id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_without_a_story_is_shown_with_gaps() {
        let silent = Shown::from(DeadLetter::default());
        assert_eq!(short(&silent), "0:0  -  -  0 failed  0 bytes  -");
        let told = Shown::from(DeadLetter {
            reason: "rejected".to_owned(),
            destination: "queue://orders".to_owned(),
            deliveries: 2,
            message_id: "m1".to_owned(),
            ..DeadLetter::default()
        });
        assert_eq!(
            short(&told),
            "0:0  rejected  queue://orders  2 failed  0 bytes  m1"
        );
    }
}
