//! The figures of a bench, for people and for programs.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Load,
    consume::Consumed,
    disk::{Disk, per_second},
    produce::Produced,
};
use crate::{arguments::Format, output};

/// What was measured, of all producers and consumers.
#[derive(Debug)]
pub(super) struct Measured {
    counted_from: Instant,
    confirm: Histogram<u64>,
    confirmed: u64,
    pub(super) stored: u64,
    errors: u64,
    first_error: Option<String>,
    last_confirm: Instant,
    end_to_end: Histogram<u64>,
    consumed: u64,
    /// From the begin of what counts to the last receipt.
    received_for: Duration,
    pub(super) undelivered: u64,
}

impl Measured {
    pub(super) fn new(counted_from: Instant) -> Result<Self> {
        Ok(Self {
            counted_from,
            confirm: Histogram::new(3)?,
            confirmed: 0,
            stored: 0,
            errors: 0,
            first_error: None,
            last_confirm: counted_from,
            end_to_end: Histogram::new(3)?,
            consumed: 0,
            received_for: Duration::ZERO,
            undelivered: 0,
        })
    }

    /// Adds what one producer did.
    pub(super) fn add(&mut self, produced: &Produced) -> Result<()> {
        self.confirm.add(&produced.latency)?;
        self.confirmed += produced.confirmed;
        self.stored += produced.stored;
        self.errors += produced.errors;
        self.last_confirm = self.last_confirm.max(produced.last_confirm);
        if self.first_error.is_none() {
            self.first_error = produced.first_error.as_ref().map(ToString::to_string);
        }
        Ok(())
    }

    /// Adds what the consumers received.
    pub(super) fn end_to_end(&mut self, consumed: &Consumed) -> Result<()> {
        self.consumed = consumed.add_to(&mut self.end_to_end)?;
        self.received_for = Instant::now().saturating_duration_since(self.counted_from);
        Ok(())
    }
}

/// The figures. Field names are documented and stay.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mode: &'static str,
    producers: usize,
    window: usize,
    size: usize,
    destinations: usize,
    topics: bool,
    consumers: usize,
    persistent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    seconds: f64,
    confirmed: u64,
    errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    messages_per_second: u64,
    megabytes_per_second: f64,
    confirm_us: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_to_end: Option<EndToEnd>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
}

#[derive(Debug, Serialize)]
struct EndToEnd {
    received: u64,
    undelivered: u64,
    received_per_second: u64,
    latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p99_9: u64,
    pub(super) max: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Report {
    pub(super) fn new(load: &Load, measured: &Measured, disk: Option<Disk>) -> Self {
        let seconds = (measured.last_confirm - measured.counted_from).as_secs_f64();
        let messages_per_second = per_second(measured.confirmed, seconds);
        let bytes_per_second = messages_per_second.saturating_mul(load.size as u64);
        Self {
            mode: if load.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            producers: load.producers,
            window: load.window(),
            size: load.size,
            destinations: load.destinations,
            topics: load.topics,
            consumers: load.consumers,
            persistent: !load.non_persistent,
            rate: load.rate,
            seconds,
            confirmed: measured.confirmed,
            errors: measured.errors,
            first_error: measured.first_error.clone(),
            messages_per_second,
            megabytes_per_second: tenths(bytes_per_second, 1_000_000),
            confirm_us: Latency::from(&measured.confirm),
            end_to_end: (load.consumers > 0).then(|| EndToEnd {
                received: measured.consumed,
                undelivered: measured.undelivered,
                received_per_second: per_second(
                    measured.consumed,
                    measured.received_for.as_secs_f64(),
                ),
                latency_us: Latency::from(&measured.end_to_end),
            }),
            disk,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people, rounded to a tenth"
)]
fn tenths(value: u64, unit: u64) -> f64 {
    (value.saturating_mul(10) / unit) as f64 / 10.0
}

/// Prints the figures.
pub(super) fn print(format: Format, report: &Report) -> Result<()> {
    if format == Format::Json {
        return output::json(report);
    }
    let rate = report
        .rate
        .map(|rate| format!(" at {rate} messages/s"))
        .unwrap_or_default();
    output::line(&format!(
        "{} loop{rate}: {} producers, window {}, {} bytes, {} {}, {} consumers, {}",
        report.mode,
        report.producers,
        report.window,
        report.size,
        report.destinations,
        if report.topics { "topics" } else { "queues" },
        report.consumers,
        if report.persistent {
            "persistent"
        } else {
            "non-persistent"
        }
    ))?;
    output::line(&format!(
        "confirmed     {} messages in {:.2} s: {} messages/s, {} MB/s; {} errors",
        report.confirmed,
        report.seconds,
        report.messages_per_second,
        report.megabytes_per_second,
        report.errors
    ))?;
    if let Some(error) = &report.first_error {
        output::line(&format!("first error   {error}"))?;
    }
    output::line(&format!("confirm       {}", latency(&report.confirm_us)))?;
    if let Some(end) = &report.end_to_end {
        output::line(&format!("end to end    {}", latency(&end.latency_us)))?;
        output::line(&format!(
            "received      {} messages: {} messages/s; {} missing at the end",
            end.received, end.received_per_second, end.undelivered
        ))?;
    }
    if let Some(disk) = &report.disk {
        for (name, rate) in [
            ("4 KiB", &disk.fdatasync_4k),
            ("64 KiB", &disk.fdatasync_64k),
        ] {
            output::line(&format!(
                "disk          {name} write + fdatasync: {}/s, p50 {} us, p99 {} us",
                rate.per_second, rate.p50_us, rate.p99_us
            ))?;
        }
    }
    Ok(())
}

/// Latencies in one line, in milliseconds.
pub(super) fn latency(latency: &Latency) -> String {
    let ms = |micros: u64| format!("{}.{:02}", micros / 1000, micros % 1000 / 10);
    format!(
        "p50 {} ms  p90 {} ms  p99 {} ms  p99.9 {} ms  max {} ms",
        ms(latency.p50),
        ms(latency.p90),
        ms(latency.p99),
        ms(latency.p99_9),
        ms(latency.max)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_printed_in_milliseconds() {
        let mut histogram = Histogram::new(3).expect("a histogram");
        for micros in [500, 1500, 123_456] {
            histogram.record(micros).expect("it grows");
        }
        let text = latency(&Latency::from(&histogram));
        assert!(text.starts_with("p50 1.50 ms"), "{text}");
        assert!(
            text.contains("max 123.5") || text.contains("max 123.4"),
            "{text}"
        );
    }
}
