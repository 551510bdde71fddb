//! `quorate purge`: removes all messages of a queue, and the queue if that is wanted, after asking.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate purge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    /// The queue
    queue: String,

    /// Delete the queue as well; it is there again when it is used
    #[arg(long)]
    delete: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Purged {
    queue: String,
    removed: u64,
}

pub(crate) async fn run(common: &Common, arguments: Purge) -> Result<()> {
    let client = connect(common).await?;
    if !arguments.yes && !agreed(&arguments.queue)? {
        bail!("nothing was removed");
    }
    let removed = match arguments.delete {
        true => client.delete_queue(&arguments.queue).await,
        false => client.purge(&arguments.queue).await,
    };
    let removed = removed.with_context(|| format!("purge {}", arguments.queue))?;
    match common.output {
        Format::Json => output::json(&Purged {
            queue: arguments.queue,
            removed,
        }),
        Format::Text => output::line(&format!(
            "removed {removed} messages from {}",
            arguments.queue
        )),
    }
}

fn agreed(queue: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "purge asks before it removes messages, and there is no terminal to ask on; give --yes"
        );
    }
    let mut stderr = io::stderr();
    write!(
        stderr,
        "Remove every message of {queue}, those in flight included? [y/N] "
    )?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
