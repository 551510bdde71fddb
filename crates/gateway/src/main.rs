//! The gateway's process.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use quorate_gateway::{
    config::Config,
    server::{COMPONENTS, Gateway},
};
use quorate_service::{
    arguments::Arguments, config, health, health::Health, metrics::Metrics, shutdown::Shutdown,
    telemetry,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gateway of a Quorate cluster: serves clients
#[derive(Debug, Parser)]
#[command(name = "quorate-gateway", version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = CommandLine::parse().arguments;
    let Some(config) = config::load_or_check::<Config>(&arguments)? else {
        return Ok(ExitCode::SUCCESS);
    };
    config.check().context("configuration")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(run(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let telemetry = telemetry::start(&telemetry::Options {
        service: "gateway",
        name: config.name.clone(),
        log: config.log.clone(),
        format: config.log_format,
        otlp_endpoint: config.otlp_endpoint.clone(),
    })?;
    let shutdown = Shutdown::on_signals().context("handle signals")?;
    let health = Health::new(COMPONENTS);
    let metrics = Metrics::new("gateway");
    let _http = health::listen(config.health_listen, &health, &metrics).await?;
    let served = Gateway::bind(config)
        .await?
        .serve(health, &metrics, shutdown)
        .await;
    telemetry.stop().await;
    Ok(served?)
}
