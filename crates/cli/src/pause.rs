//! `quorate pause` and `quorate resume`: end the delivery of a queue's messages, and begin it again.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    arguments::{Common, Format},
    connection::connect,
    output,
};

/// Flags of `quorate pause` and `quorate resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    /// The queue
    queue: String,
}

#[derive(Debug, Serialize)]
struct State {
    queue: String,
    paused: bool,
}

pub(crate) async fn run(common: &Common, arguments: Pause, paused: bool) -> Result<()> {
    let client = connect(common).await?;
    let queue = arguments.queue;
    let done = if paused {
        client.pause(&queue).await
    } else {
        client.resume(&queue).await
    };
    let verb = if paused { "pause" } else { "resume" };
    done.with_context(|| format!("{verb} {queue}"))?;
    match common.output {
        Format::Json => output::json(&State { queue, paused }),
        Format::Text if paused => output::line(&format!(
            "{queue} is paused: it takes messages in and delivers none until it is resumed"
        )),
        Format::Text => output::line(&format!("{queue} is delivered again")),
    }
}
