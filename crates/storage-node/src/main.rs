//! The binary of the storage node: reads the configuration, starts what surrounds the node, runs it.

use anyhow::Context;
use clap::Parser;
use quorate_service::{
    arguments::Arguments,
    config,
    health::{self, Health},
    metrics::Metrics,
    panic,
    shutdown::Shutdown,
    telemetry,
};
use quorate_storage_node::{Config, node};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Storage node of Quorate: replicates shards by quorum and runs their queues
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> anyhow::Result<()> {
    let command_line = CommandLine::parse();
    let Some(config) = config::load_or_check::<Config>(&command_line.arguments)? else {
        return Ok(());
    };
    panic::abort_after_logging();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(run(config));
    // What still runs on blocking threads must not hold up the stop.
    runtime.shutdown_background();
    result
}

async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::start(&telemetry::Options {
        service: "storage-node",
        name: config.name.clone(),
        log: config.log.clone(),
        format: config.log_format,
        otlp_endpoint: config.otlp_endpoint.clone(),
    })?;
    let shutdown = Shutdown::on_signals().context("install signal handlers")?;
    let health = Health::new(&[node::COMPONENT_DISK, node::COMPONENT_SHARDS]);
    let metrics = Metrics::new("storage_node");
    let _http = health::listen(config.health_listen, &health, &metrics).await?;
    let result = node::run(config, health, metrics, shutdown).await;
    telemetry.stop().await;
    result.map_err(anyhow::Error::from)
}
