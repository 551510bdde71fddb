//! The metrics of one process, as Prometheus reads them.
//!
//! Names are `quorate_<service>_<noun>_<unit>`; labels never hold unbounded values. Counting is lock free; only
//! registration and a scrape take the lock.

use std::{
    fmt, fs,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

/// The registry of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Creates the registry of `service` (for instance `storage_node`), with its version and memory in it.
    #[must_use]
    pub fn new(service: &str) -> Self {
        let mut registry = Registry::with_prefix(format!("quorate_{service}"));
        registry.register(
            "build",
            "Version of this process",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(ResidentMemory));
        Self {
            registry: Arc::new(Mutex::new(registry)),
        }
    }

    /// Registers metrics; names get the prefix `quorate_<service>_`.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        // A panic while registering leaves the registry usable: it only lacks a metric.
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(&mut registry)
    }

    /// Returns all metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// If a collector fails.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        self.register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))?;
        Ok(text)
    }
}

/// Creates a histogram of seconds, from 50 microseconds to about 13 seconds, each bucket twice the one before.
#[must_use]
pub fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 19))
}

#[derive(Debug)]
struct ResidentMemory;

impl Collector for ResidentMemory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(bytes) = resident_bytes() else {
            return Ok(());
        };
        let metric = encoder.encode_descriptor(
            "resident_memory_bytes",
            "Memory of this process that is in RAM",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(bytes).encode(metric)
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_registered_is_encoded_with_prefix_version_and_memory() {
        let metrics = Metrics::new("gateway");
        let confirms: Counter = Counter::default();
        metrics.register(|registry| registry.register("confirms", "Confirms", confirms.clone()));
        confirms.inc_by(3);
        let text = metrics.encode().expect("it can be encoded");
        for expected in [
            "quorate_gateway_confirms_total 3",
            "quorate_gateway_build_info{version=\"",
            "quorate_gateway_resident_memory_bytes ",
            "# EOF",
        ] {
            assert!(text.contains(expected), "no {expected} in\n{text}");
        }
    }

    #[test]
    fn resident_memory_is_plausible() {
        let bytes = resident_bytes().expect("proc is mounted");
        assert!((100_000..10_000_000_000).contains(&bytes), "{bytes}");
    }
}
