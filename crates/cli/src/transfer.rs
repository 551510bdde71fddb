//! `quorate move` and `quorate copy`, and what `quorate dead-letters` shares with them: page after page, with progress.

use anyhow::{Context, Result};
use quorate_client::{Client, MessageSelection, TransferResponse};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output, progress,
};

/// Flags of `quorate move` and `quorate copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The queue that they are in
    from: String,

    /// The destination that they go to: NAME, queue://NAME or topic://NAME
    to: String,

    #[command(flatten)]
    which: Which,
}

/// Which messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only what this selector selects, for instance "colour = 'red'"
    #[arg(long, default_value = "", value_name = "SELECTOR")]
    selector: String,

    /// At most so many; 0 for all
    #[arg(long, default_value_t = 0)]
    limit: u64,
}

/// What is done with each page.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// They go there.
    Move(String),
    /// Copies go there.
    Copy(String),
    /// They go back to where they came from.
    Retry,
    /// They are removed.
    Remove,
}

/// What was done in all.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    queue: String,
    pub(crate) transferred: u64,
    pub(crate) skipped: u64,
}

pub(crate) async fn run_move(common: &Common, arguments: Transfer) -> Result<()> {
    let step = Step::Move(arguments.to);
    run(common, &arguments.from, &step, &arguments.which).await
}

pub(crate) async fn run_copy(common: &Common, arguments: Transfer) -> Result<()> {
    let step = Step::Copy(arguments.to);
    run(common, &arguments.from, &step, &arguments.which).await
}

/// Does it and prints what was done.
pub(crate) async fn run(common: &Common, queue: &str, step: &Step, which: &Which) -> Result<()> {
    let client = connect(common).await?;
    let done = all(&client, queue, step, which).await?;
    let count = done.transferred;
    let told = match step {
        Step::Move(to) => format!("moved {count} messages from {queue} to {to}"),
        Step::Copy(to) => format!("copied {count} messages from {queue} to {to}"),
        Step::Retry => format!("sent {count} dead letters of {queue} back"),
        Step::Remove => format!("removed {count} messages from {queue}"),
    };
    match common.output {
        Format::Json => output::json(&done),
        Format::Text if done.skipped == 0 => output::line(&told),
        Format::Text => output::line(&format!(
            "{told}; {} stay, being delivered now or without a destination to go back to",
            done.skipped
        )),
    }
}

async fn all(client: &Client, queue: &str, step: &Step, which: &Which) -> Result<Done> {
    let mut selection = MessageSelection {
        queue: queue.to_owned(),
        selector: which.selector.clone(),
        ..MessageSelection::default()
    };
    let mut done = Done {
        queue: queue.to_owned(),
        ..Done::default()
    };
    let bar = progress::messages((which.limit > 0).then_some(which.limit));
    loop {
        if which.limit > 0 {
            let left = which.limit.saturating_sub(done.transferred);
            if left == 0 {
                break;
            }
            selection.limit = u32::try_from(left).unwrap_or(u32::MAX);
        }
        let page = page(client, &selection, step).await.with_context(|| {
            format!(
                "after {} messages of {queue}; the same command goes on",
                done.transferred
            )
        })?;
        done.transferred += page.transferred;
        done.skipped += page.skipped;
        bar.set_position(done.transferred);
        let Some(next) = page.next else {
            break;
        };
        selection.cursor = Some(next);
    }
    bar.finish_and_clear();
    Ok(done)
}

async fn page(
    client: &Client,
    selection: &MessageSelection,
    step: &Step,
) -> Result<TransferResponse, quorate_client::Error> {
    match step {
        Step::Move(to) => client.move_messages(selection, to).await,
        Step::Copy(to) => client.copy_messages(selection, to).await,
        Step::Retry => client.retry_dead_letters(selection).await,
        Step::Remove => client.remove_messages(selection).await,
    }
}
