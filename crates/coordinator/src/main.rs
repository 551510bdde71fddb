//! The coordinator's process.

use anyhow::Result;
use clap::Parser;
use quorate_coordinator::{config::Config, process};
use quorate_service::{arguments::Arguments, config, panic, shutdown::Shutdown, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Quorate's coordinator: knows which nodes live and gives every shard its leader
#[derive(Parser)]
#[command(version)]
struct Flags {
    #[command(flatten)]
    arguments: Arguments,
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
    runtime.block_on(run(config))
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
