//! What every process has around its work: configuration, telemetry, health, shutdown.
