//! The end of a run: what is still missing, the verdict, and what a run counts.

use std::fmt;

use quorate_message::DestinationKind;
use quorate_replication::ShardId;

use crate::checker::{self, Rules, Verdict};
use crate::cluster::Cluster;
use crate::cluster::client::Role;
use crate::disk::DiskCounts;
use crate::network::NetworkCounts;
use crate::store::StoreCounts;

/// A deposed leader that does not know it may deliver until its lease ends: the node timeout, by a clock that drifts.
const ZOMBIE_US: u64 = 1_010_000;

/// How often each thing happened in a run. A fault counts when it takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults drawn.
    pub strikes: u64,
    /// Node processes killed.
    pub node_kills: u64,
    /// Nodes that lost power.
    pub power_cuts: u64,
    /// Whole clusters that lost power.
    pub blackouts: u64,
    /// Nodes that died in the middle of disk work, or of a failing disk.
    pub disk_crashes: u64,
    /// Gateways killed.
    pub gateway_kills: u64,
    /// Coordinators killed.
    pub coordinator_kills: u64,
    /// Hosts paused.
    pub pauses: u64,
    /// Cuts of the network.
    pub cuts: u64,
    /// Outages of the coordination store.
    pub store_outages: u64,
    /// Jumps of wall clocks.
    pub clock_jumps: u64,
    /// What operators wanted of nodes and leaders.
    pub wishes: u64,
    /// Leaders that went on where the one before had handed over.
    pub taken_over: u64,
    /// Clients killed.
    pub client_kills: u64,
    /// Slow disk operations.
    pub disk_stalls: u64,
    /// Writes refused by a log for want of space.
    pub full_refusals: u64,
    /// Calls that gateways failed.
    pub failed_calls: u64,
    /// Producers that sent again on another connection.
    pub resends: u64,
    /// Coordinators that became active.
    pub activations: u64,
    /// Nodes restarted by an operator because their log was damaged.
    pub operator_restarts: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Segments dropped.
    pub dropped_segments: u64,
    /// Checkpoints installed from a leader.
    pub installs: u64,
    /// Epochs led, over all shards.
    pub epochs: u64,
    /// Entries committed.
    pub entries: u64,
    /// Messages confirmed.
    pub confirms: u64,
    /// Transactions that a client knows to be committed.
    pub transactions: u64,
    /// Those that it knows not to have happened.
    pub rollbacks: u64,
    /// Deliveries of dead letters.
    pub dead_letters: u64,
    /// Deliveries of subscriptions.
    pub subscribed: u64,
    /// Changes of settings that were answered.
    pub settings: u64,
    /// Purges that were answered.
    pub purges: u64,
    /// Queues that were delivered again after a pause.
    pub resumes: u64,
    /// Messages that operators moved, copied or retried.
    pub moved: u64,
    /// Messages that operators saw.
    pub browsed: u64,
    /// Names that moved to another shard.
    pub relocated: u64,
    /// Names that were to move and stayed.
    pub stayed: u64,
    /// What disks did.
    pub disk: DiskCounts,
    /// What the network did.
    pub network: NetworkCounts,
    /// What the coordination store did.
    pub store: StoreCounts,
}

impl Counts {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.strikes, other.strikes),
            (&mut self.node_kills, other.node_kills),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.blackouts, other.blackouts),
            (&mut self.disk_crashes, other.disk_crashes),
            (&mut self.gateway_kills, other.gateway_kills),
            (&mut self.coordinator_kills, other.coordinator_kills),
            (&mut self.pauses, other.pauses),
            (&mut self.cuts, other.cuts),
            (&mut self.store_outages, other.store_outages),
            (&mut self.clock_jumps, other.clock_jumps),
            (&mut self.wishes, other.wishes),
            (&mut self.taken_over, other.taken_over),
            (&mut self.client_kills, other.client_kills),
            (&mut self.disk_stalls, other.disk_stalls),
            (&mut self.full_refusals, other.full_refusals),
            (&mut self.failed_calls, other.failed_calls),
            (&mut self.resends, other.resends),
            (&mut self.activations, other.activations),
            (&mut self.operator_restarts, other.operator_restarts),
            (&mut self.checkpoints, other.checkpoints),
            (&mut self.dropped_segments, other.dropped_segments),
            (&mut self.installs, other.installs),
            (&mut self.epochs, other.epochs),
            (&mut self.entries, other.entries),
            (&mut self.confirms, other.confirms),
            (&mut self.transactions, other.transactions),
            (&mut self.rollbacks, other.rollbacks),
            (&mut self.dead_letters, other.dead_letters),
            (&mut self.subscribed, other.subscribed),
            (&mut self.settings, other.settings),
            (&mut self.purges, other.purges),
            (&mut self.resumes, other.resumes),
            (&mut self.moved, other.moved),
            (&mut self.browsed, other.browsed),
            (&mut self.relocated, other.relocated),
            (&mut self.stayed, other.stayed),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.add_parts(other);
    }

    fn add_parts(&mut self, other: &Self) {
        let pairs = [
            (&mut self.disk.lost_sectors, other.disk.lost_sectors),
            (&mut self.disk.torn_files, other.disk.torn_files),
            (&mut self.disk.lost_names, other.disk.lost_names),
            (&mut self.disk.full, other.disk.full),
            (&mut self.disk.failed, other.disk.failed),
            (&mut self.disk.rotten, other.disk.rotten),
            (&mut self.disk.cut_short, other.disk.cut_short),
            (&mut self.network.delivered, other.network.delivered),
            (&mut self.network.lost, other.network.lost),
            (&mut self.network.cut, other.network.cut),
            (&mut self.network.repeated, other.network.repeated),
            (&mut self.network.straggled, other.network.straggled),
            (&mut self.network.broken, other.network.broken),
            (&mut self.store.made, other.store.made),
            (&mut self.store.conflicts, other.store.conflicts),
            (&mut self.store.made_unknown, other.store.made_unknown),
            (&mut self.store.dropped_unknown, other.store.dropped_unknown),
            (&mut self.store.made_late, other.store.made_late),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }

    /// Whether the run was worth its time: something died, or a leader changed.
    #[must_use]
    pub fn is_eventful(&self, shards: u32) -> bool {
        let crashes = self.node_kills + self.power_cuts + self.disk_crashes;
        crashes > 0 || self.epochs > u64::from(shards)
    }
}

/// What became of one seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong; empty when all is well.
    pub failures: Vec<String>,
    /// The checker's judgement.
    pub verdict: Verdict,
    /// What happened how often.
    pub counts: Counts,
    /// The hash of the trace.
    pub hash: u64,
    /// Virtual time.
    pub virtual_us: u64,
    /// Whether a crash or an election happened.
    pub is_eventful: bool,
    /// The last lines of the trace, if they were kept.
    pub tail: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: hash {:016x}", self.seed, self.hash)?;
        for failure in self.failures.iter().take(10) {
            writeln!(f, "  {failure}")?;
        }
        write!(
            f,
            "  replay: cargo run -p quorate-sim --bin sim -- --seed {} --trace",
            self.seed
        )
    }
}

impl Cluster {
    /// What a healed cluster still has to do; empty when it is done.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for client in &self.clients {
            if let Role::Producer(producer) = &client.role
                && !producer.is_done()
            {
                missing.push(format!(
                    "{} messages are not confirmed",
                    producer.unconfirmed()
                ));
            }
            if let Role::Operator(operator) = &client.role
                && !operator.is_done()
            {
                missing.push(format!("an operator waits: {operator:?}"));
            }
            if let Role::Consumer(consumer) = &client.role
                && !consumer.is_idle()
            {
                missing.push(format!("a consumer waits: {consumer:?}"));
            }
        }
        if self.is_any_moving() {
            missing.push("a name moves".to_owned());
        }
        for number in 1..=self.options.shards {
            self.missing_in(ShardId(number), &mut missing);
        }
        missing
    }

    fn missing_in(&self, shard: ShardId, missing: &mut Vec<String>) {
        let serving = self
            .replicas(shard)
            .find(|(_, runtime)| runtime.shard.is_serving());
        let Some((_, leader)) = serving else {
            return missing.push(format!("{shard} is not served"));
        };
        let replica = leader.shard.replica();
        if replica.commit() < replica.end().index || !replica.can_propose() {
            missing.push(format!(
                "{shard} committed {} of {}, durable {}, proposals taken {}",
                replica.commit(),
                replica.end(),
                replica.durable(),
                replica.can_propose()
            ));
        }
        let broker = leader.shard.broker();
        let open = broker.open_transactions() as u64 + broker.outbox_count();
        if open > 0 {
            missing.push(format!(
                "{shard} has {open} messages or transactions on their way"
            ));
        }
        let subscriptions = broker.statuses(DestinationKind::Subscription);
        for queue in broker.queues().chain(subscriptions) {
            if queue.messages + queue.scheduled > 0 {
                missing.push(format!(
                    "{shard} {} holds {} messages, {} scheduled, {} in flight, {} consumers, paused {}, lease {}, first {:?}",
                    queue.name.as_str(),
                    queue.messages,
                    queue.scheduled,
                    queue.in_flight,
                    queue.consumers,
                    queue.is_paused,
                    leader.shard.replica().holds_lease(),
                    leader.shard.broker().browse(&queue.name, None, 3)
                ));
            }
        }
        let applied = leader.shard.applied();
        for (node, runtime) in self.replicas(shard) {
            let is_behind = runtime.shard.applied() < applied;
            let is_damaged = runtime.shard.replica().is_impaired();
            let is_excused = self.judge.may_be_damaged == Some(node) && runtime.shard.is_halted();
            if (is_behind || is_damaged) && !is_excused {
                missing.push(format!(
                    "{shard} node {node} applied {} of {applied}, impaired {is_damaged}",
                    runtime.shard.applied()
                ));
            }
        }
    }

    fn replicas(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (usize, &crate::cluster::node::Runtime)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(move |(node, host)| {
                let runtime = host.process.as_ref()?.shards.get(&shard)?;
                Some((node, runtime))
            })
    }

    pub(super) fn finish(mut self, seed: u64) -> Report {
        if self.is_done {
            for number in 1..=self.options.shards {
                let shard = ShardId(number);
                for host in &self.nodes {
                    let process = host.process.as_ref();
                    if let Some(runtime) = process.and_then(|one| one.shards.get(&shard)) {
                        self.judge.compare(shard, &runtime.shard);
                    }
                }
            }
        }
        let now = self.now();
        for client in 0..self.clients.len() {
            if let Role::Producer(producer) = &self.clients[client].role {
                self.ended.extend(producer.unknown(now));
            }
            self.kill_transactor(client);
        }
        self.account();
        let rules = Rules {
            stray_delivery_us: ZOMBIE_US,
            judges_rivals: true,
        };
        let verdict = checker::judge(&self.history, rules);
        let mut failures = std::mem::take(&mut self.failures);
        failures.append(&mut self.judge.violations);
        failures.extend(verdict.violations.iter().map(ToString::to_string));
        self.counts.epochs = self.judge.epochs_led();
        self.counts.entries = self.judge.committed();
        self.counts.confirms = self.confirms;
        self.counts.network = self.network.counts();
        self.counts.store = self.store.counts();
        let mut disks = Counts::default();
        for node in &self.nodes {
            let counts = Counts {
                disk: node.disk.counts(),
                ..Counts::default()
            };
            disks.add(&counts);
        }
        self.counts.disk = disks.disk;
        self.trace
            .mix(&[self.now(), verdict.counts.delivered, self.confirms]);
        Report {
            seed,
            failures,
            verdict,
            is_eventful: self.counts.is_eventful(self.options.shards),
            counts: self.counts,
            hash: self.trace.hash(),
            virtual_us: self.now(),
            tail: self.trace.tail().map(str::to_owned).collect(),
        }
    }
}
