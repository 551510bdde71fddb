//! What every process has around its work: configuration, logs and traces, metrics, health, clocks, a clean stop.
//!
//! A service's `main` reads, in this order:
//!
//! ```text
//! let arguments = arguments::Arguments::parse();                 // --config, --name, --check
//! let Some(config) = config::load_or_check::<Config>(&arguments)? else { return Ok(()) };
//! panic::abort_after_logging();                                  // storage node and coordinator only
//! let telemetry = telemetry::start(&options)?;                   // inside the tokio runtime
//! let shutdown = shutdown::Shutdown::on_signals()?;
//! let health = health::Health::new(&["topology"]);
//! let metrics = metrics::Metrics::new("gateway");
//! let http = health::listen(config.health_listen, &health, &metrics).await?;
//! ... serve until shutdown.requested().await ...
//! telemetry.stop().await;
//! ```
//!
//! This crate knows nothing of messages, shards or the protocol between the services.

pub mod arguments;
pub mod clock;
pub mod config;
pub mod health;
mod limits;
pub mod metrics;
pub mod panic;
pub mod shutdown;
pub mod telemetry;
pub mod trace_context;

pub use prometheus_client;
