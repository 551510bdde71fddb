//! The numbers of a storage node. Labels hold shard numbers only, and those are bounded.

use std::{collections::VecDeque, fmt::Write as _};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use quorate_replication::{Index, RoleName, ShardId, Write, WriteId};
use quorate_service::metrics::seconds_histogram;

use crate::runtime::Published;

/// All metrics of the process.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    appended_entries: Counter,
    appended_bytes: Counter,
    committed_entries: Counter,
    dropped_messages: Counter,
    transient_lost: Counter,
    write_seconds: Histogram,
    commit_seconds: Histogram,
    role: Family<ShardLabel, Gauge>,
    epoch: Family<ShardLabel, Gauge>,
    impaired: Family<ShardLabel, Gauge>,
    commit_index: Family<ShardLabel, Gauge>,
    uncommitted_entries: Family<ShardLabel, Gauge>,
    apply_lag_entries: Family<ShardLabel, Gauge>,
    follower_lag_entries: Family<ShardLabel, Gauge>,
    queue_messages: Family<ShardLabel, Gauge>,
    outbox_messages: Family<ShardLabel, Gauge>,
    /// Connected gateways.
    pub(crate) sessions: Gauge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ShardNumber(u32);

impl EncodeLabelValue for ShardNumber {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: ShardNumber,
}

/// The metrics of one shard, looked up once.
#[derive(Debug)]
pub(crate) struct ShardMetrics {
    all: Metrics,
    role: Gauge,
    epoch: Gauge,
    impaired: Gauge,
    commit_index: Gauge,
    uncommitted_entries: Gauge,
    apply_lag_entries: Gauge,
    follower_lag_entries: Gauge,
    queue_messages: Gauge,
    outbox_messages: Gauge,
    last_commit: Option<u64>,
    /// As the broker counted them last.
    last_transient_lost: u64,
    /// Ends of the log of a leader that are not committed, with the moment in microseconds at which they were reached.
    uncommitted: VecDeque<(Index, u64)>,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &quorate_service::metrics::Metrics) -> Self {
        let this = Self {
            appended_entries: Counter::default(),
            appended_bytes: Counter::default(),
            committed_entries: Counter::default(),
            dropped_messages: Counter::default(),
            transient_lost: Counter::default(),
            write_seconds: seconds_histogram(),
            commit_seconds: seconds_histogram(),
            role: Family::default(),
            epoch: Family::default(),
            impaired: Family::default(),
            commit_index: Family::default(),
            uncommitted_entries: Family::default(),
            apply_lag_entries: Family::default(),
            follower_lag_entries: Family::default(),
            queue_messages: Family::default(),
            outbox_messages: Family::default(),
            sessions: Gauge::default(),
        };
        this.register(registry);
        this.register_outbox(registry);
        this
    }

    /// Those of one shard.
    pub(crate) fn shard(&self, shard: ShardId) -> ShardMetrics {
        let label = ShardLabel {
            shard: ShardNumber(shard.0),
        };
        let of = |family: &Family<ShardLabel, Gauge>| family.get_or_create(&label).clone();
        ShardMetrics {
            role: of(&self.role),
            epoch: of(&self.epoch),
            impaired: of(&self.impaired),
            commit_index: of(&self.commit_index),
            uncommitted_entries: of(&self.uncommitted_entries),
            apply_lag_entries: of(&self.apply_lag_entries),
            follower_lag_entries: of(&self.follower_lag_entries),
            queue_messages: of(&self.queue_messages),
            outbox_messages: of(&self.outbox_messages),
            all: self.clone(),
            last_commit: None,
            last_transient_lost: 0,
            uncommitted: VecDeque::new(),
        }
    }

    fn register_outbox(&self, registry: &quorate_service::metrics::Metrics) {
        let messages = self.outbox_messages.clone();
        let lost = self.transient_lost.clone();
        registry.register(move |registry| {
            const HELP: &str = "Messages on their way to other destinations";
            registry.register("outbox_messages", HELP, messages);
            registry.register(
                "non_persistent_messages_lost",
                "Non-persistent messages that were lost with a leadership or a move of their name",
                lost,
            );
        });
    }

    fn register(&self, registry: &quorate_service::metrics::Metrics) {
        let this = self.clone();
        registry.register(move |registry| {
            registry.register(
                "log_entries",
                "Entries handed to the log",
                this.appended_entries,
            );
            registry.register(
                "log_bytes",
                "Bytes of entries handed to the log",
                this.appended_bytes,
            );
            registry.register(
                "committed_entries",
                "Entries that became committed",
                this.committed_entries,
            );
            registry.register(
                "peer_messages_dropped",
                "Messages to peers that were dropped",
                this.dropped_messages,
            );
            registry.register(
                "commit_seconds",
                "Time from an append of a leader to its commit",
                this.commit_seconds,
            );
            registry.register(
                "log_write_seconds",
                "Time from a write to its durability",
                this.write_seconds,
            );
            registry.register(
                "shard_role",
                "0 idle, 1 follower, 2 leader, 3 serving leader",
                this.role,
            );
            registry.register("shard_epoch", "Epoch that the replica promised", this.epoch);
            registry.register(
                "shard_impaired",
                "1 when the replica neither leads nor counts",
                this.impaired,
            );
            registry.register(
                "shard_commit_index",
                "Last committed entry",
                this.commit_index,
            );
            registry.register(
                "shard_uncommitted_entries",
                "Entries not yet committed",
                this.uncommitted_entries,
            );
            registry.register(
                "shard_apply_lag_entries",
                "Committed entries not yet applied",
                this.apply_lag_entries,
            );
            registry.register(
                "shard_follower_lag_entries",
                "As leader: entries that the slowest voter has not made durable",
                this.follower_lag_entries,
            );
            registry.register(
                "shard_messages",
                "Messages stored and not settled",
                this.queue_messages,
            );
            registry.register("sessions", "Connected gateways", this.sessions);
        });
    }
}

impl ShardMetrics {
    /// A write became durable after so long.
    pub(crate) fn wrote(&self, micros: u64) {
        self.all
            .write_seconds
            .observe(std::time::Duration::from_micros(micros).as_secs_f64());
    }

    /// Writes are handed to the log.
    pub(crate) fn appending(&self, writes: &[(WriteId, Write)]) {
        for (_, write) in writes {
            if let Write::Append(entries) = write {
                let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
                self.all.appended_entries.inc_by(entries.len() as u64);
                self.all.appended_bytes.inc_by(bytes as u64);
            }
        }
    }

    /// Messages to a peer were dropped.
    pub(crate) fn dropped(&self, count: u64) {
        self.all.dropped_messages.inc_by(count);
    }

    /// The state at the end of a round.
    pub(crate) fn publish(&mut self, published: &Published, end: Index) {
        let role = match (published.role, published.is_serving) {
            (RoleName::Idle, _) => 0,
            (RoleName::Follower, _) => 1,
            (RoleName::Leader, false) => 2,
            (RoleName::Leader, true) => 3,
        };
        self.commits(published, end);
        let commit = published.commit.0;
        let before = self.last_commit.replace(commit).unwrap_or(commit);
        self.all
            .committed_entries
            .inc_by(commit.saturating_sub(before));
        set(&self.role, role);
        set(&self.epoch, published.epoch.0);
        set(&self.impaired, u64::from(published.is_impaired));
        set(&self.commit_index, commit);
        set(&self.uncommitted_entries, end.0.saturating_sub(commit));
        set(
            &self.apply_lag_entries,
            commit.saturating_sub(published.applied.0),
        );
        let voters = published
            .peers
            .iter()
            .map(|(peer, _)| peer)
            .filter(|peer| peer.voter);
        let slowest = voters.map(|peer| peer.matched).min().unwrap_or(end);
        set(&self.follower_lag_entries, end.0.saturating_sub(slowest.0));
    }

    fn commits(&mut self, published: &Published, end: Index) {
        const KEPT: usize = 1024;
        if published.role != RoleName::Leader {
            self.uncommitted.clear();
            return;
        }
        let now = published.at_micros;
        let is_committed = |(index, _): &mut (Index, u64)| *index <= published.commit;
        while let Some((_, since)) = self.uncommitted.pop_front_if(is_committed) {
            let took = std::time::Duration::from_micros(now.saturating_sub(since));
            self.all.commit_seconds.observe(took.as_secs_f64());
        }
        let is_new = self
            .uncommitted
            .back()
            .is_none_or(|(index, _)| *index < end);
        if is_new && end > published.commit && self.uncommitted.len() < KEPT {
            self.uncommitted.push_back((end, now));
        }
    }

    /// Non-persistent messages that the broker lost so far. It counts anew when it is replaced.
    pub(crate) fn lost(&mut self, count: u64) {
        let before = std::mem::replace(&mut self.last_transient_lost, count);
        self.all.transient_lost.inc_by(count.saturating_sub(before));
    }

    /// Messages stored and not settled.
    pub(crate) fn stored(&self, messages: u64) {
        set(&self.queue_messages, messages);
    }

    /// Messages that are on their way to other destinations.
    pub(crate) fn on_the_way(&self, messages: u64) {
        set(&self.outbox_messages, messages);
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
