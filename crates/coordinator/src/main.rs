//! The coordinator's process.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use quorate_coordinator::{
    config::Config,
    process,
    transfer::{self, Task},
};
use quorate_service::{arguments::Arguments, config, panic, shutdown::Shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Quorate's coordinator: knows which nodes live and gives every shard its leader
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    arguments: Arguments,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What else it does than to coordinate. No coordinator may be active on the store meanwhile
#[derive(Subcommand)]
enum Command {
    /// Writes all that the coordination store holds of the cluster to a file
    Export {
        /// The file, which must not be there
        file: PathBuf,
        /// Let no coordinator use the store any more: it is imported elsewhere
        #[arg(long)]
        retire: bool,
    },
    /// Fills a coordination store that is empty from a file
    Import {
        /// The file
        file: PathBuf,
    },
    /// Lets coordinators use a store again that was retired by an export
    Reinstate,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let Some(config) = config::load_or_check::<Config>(&flags.arguments)? else {
        return Ok(());
    };
    config.validate()?;
    panic::abort_after_logging();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match flags.command {
        None => runtime.block_on(run(config)),
        Some(command) => {
            let said = runtime.block_on(transfer::run(&config, &command.into()))?;
            writeln!(io::stdout(), "{said}")?;
            Ok(())
        }
    }
}

impl From<Command> for Task {
    fn from(command: Command) -> Self {
        match command {
            Command::Export { file, retire } => Self::Export {
                file,
                is_retired: retire,
            },
            Command::Import { file } => Self::Import { file },
            Command::Reinstate => Self::Reinstate,
        }
    }
}

async fn run(config: Config) -> Result<()> {
    let telemetry = telemetry::start(&telemetry::Options {
        service: "coordinator",
        name: config.name.clone(),
        log: config.log.clone(),
        format: config.log_format,
        otlp_endpoint: config.otlp_endpoint.clone(),
    })?;
    let shutdown = Shutdown::on_signals()?;
    let result = process::run(config, shutdown).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "coordinator stops");
    }
    telemetry.stop().await;
    result
}
