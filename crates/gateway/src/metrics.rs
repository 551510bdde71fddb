//! What this gateway counts. Names begin with `quorate_gateway_`.

use quorate_service::{
    metrics::Metrics,
    prometheus_client::metrics::{counter::Counter, gauge::Gauge},
};

use crate::session::{Core, Outcome};

/// Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct GatewayMetrics {
    confirmed: Counter,
    refused: Counter,
    delivered: Counter,
    batches: Counter,
    batch_bytes: Counter,
    resent: Counter,
    dropped: Counter,
    failed: Counter,
    hung: Counter,
    refused_news: Counter,
    calls: Gauge,
    consumers: Gauge,
    waiting_bytes: Gauge,
    held_back: Gauge,
    shards: Gauge,
    shards_reachable: Gauge,
    neighbours: Gauge,
    pub(crate) connections: Gauge,
}

impl GatewayMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(|registry| {
            for (name, help, counter) in this.counters() {
                registry.register(name, help, counter.clone());
            }
            for (name, help, gauge) in this.gauges() {
                registry.register(name, help, gauge.clone());
            }
        });
        this
    }

    fn counters(&self) -> [(&'static str, &'static str, &Counter); 10] {
        [
            (
                "confirmed_messages",
                "Messages stored or accepted",
                &self.confirmed,
            ),
            (
                "refused_messages",
                "Messages whose outcome is an error",
                &self.refused,
            ),
            (
                "delivered_messages",
                "Messages handed to consumers",
                &self.delivered,
            ),
            (
                "batches",
                "Batches of messages sent to leaders",
                &self.batches,
            ),
            (
                "batch_bytes",
                "Bytes of batches of messages sent to leaders",
                &self.batch_bytes,
            ),
            (
                "resent_batches",
                "Batches sent again after a change of leader or link",
                &self.resent,
            ),
            (
                "dropped_deliveries",
                "Deliveries that a consumer held already, or that were out of date",
                &self.dropped,
            ),
            (
                "failed_calls",
                "Calls that ended without success",
                &self.failed,
            ),
            (
                "hung_consumers",
                "Consumers that were ended by an acknowledgement time-out",
                &self.hung,
            ),
            (
                "refused_news",
                "What gateways tell each other that was not understood, or had no room",
                &self.refused_news,
            ),
        ]
    }

    fn gauges(&self) -> [(&'static str, &'static str, &Gauge); 8] {
        [
            ("calls", "Calls that are open", &self.calls),
            ("consumers", "Consumers that are open", &self.consumers),
            (
                "waiting_bytes",
                "Bytes of messages that wait for an answer",
                &self.waiting_bytes,
            ),
            (
                "held_back_messages",
                "Messages that wait for room in a full destination",
                &self.held_back,
            ),
            ("shards", "Shards that are known", &self.shards),
            (
                "shards_reachable",
                "Shards whose leader is linked",
                &self.shards_reachable,
            ),
            (
                "neighbours",
                "Other gateways that serve OpenWire, as far as this one hears them",
                &self.neighbours,
            ),
            ("connections", "Connections of clients", &self.connections),
        ]
    }

    pub(crate) fn confirmed(&self, outcome: Outcome, count: u32) {
        let counter = match outcome.is_stored() {
            true => &self.confirmed,
            false => &self.refused,
        };
        counter.inc_by(u64::from(count));
    }

    pub(crate) fn wrong(&self) {
        self.refused.inc();
    }

    pub(crate) fn delivered(&self, messages: usize) {
        self.delivered.inc_by(messages as u64);
    }

    pub(crate) fn batch(&self, bytes: usize) {
        self.batches.inc();
        self.batch_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn resent(&self, batches: usize) {
        self.resent.inc_by(batches as u64);
    }

    pub(crate) fn dropped(&self, deliveries: usize) {
        self.dropped.inc_by(deliveries as u64);
    }

    pub(crate) fn failed(&self) {
        self.failed.inc();
    }

    pub(crate) fn hung(&self) {
        self.hung.inc();
    }

    pub(crate) fn refused_news(&self) {
        self.refused_news.inc();
    }

    pub(crate) fn neighbours(&self, gateways: usize) {
        self.neighbours.set(bounded(gateways as u64));
    }

    /// Takes over what the machine knows.
    pub(crate) fn observe(&self, core: &Core, calls: usize) {
        self.calls.set(bounded(calls as u64));
        self.consumers.set(bounded(core.consumers() as u64));
        self.waiting_bytes.set(bounded(core.waiting_bytes()));
        self.held_back.set(bounded(core.held_back() as u64));
        self.shards.set(bounded(core.shards() as u64));
        self.shards_reachable
            .set(bounded(core.shards_reachable() as u64));
    }
}

fn bounded(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
