//! A whole cluster: the loop that takes what happens next, and the phases of a run.
//!
//! Calm, then faults under which only safety is asked for, then everything needed for a quorum is healed and progress is
//! demanded within a bound of virtual time: all messages confirmed, all queues drained, all replicas alike. The machines
//! are the real ones; everything they run on is owned here, and one seed decides all of it.

mod account;
mod client;
mod content;
mod convert;
mod coordinator;
mod gateway;
mod handover;
mod host;
mod judge;
mod nemesis;
mod node;
mod options;
mod owners;
mod packet;
mod power;
mod replica;
mod report;
mod runs;
mod scene;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_message::{Destination, Settings};
use quorate_replication::{NodeId, ShardId};
use quorate_storage_node::shard::effect::Note;

use self::client::{Client, Ended, Load, Purge, Role, Source};
use self::coordinator::CoordinatorHost;
use self::gateway::GatewayHost;
use self::host::Body;
use self::judge::Judge;
use self::node::NodeHost;
pub use self::options::Options;
use self::packet::{Happening, Packet};
pub use self::report::{Counts, Report};
pub use self::scene::Scene;
use self::scene::{Scenes, Subscriber};
use crate::checker::history::History;
use crate::network::{Fate, Host, Network, Side, StreamNumber};
use crate::rng::Rng;
use crate::schedule::{Moment, Schedule};
use crate::store::CoordinationStore;
use crate::trace::{Mode, Trace};

/// Virtual time within which a healed cluster must have done everything.
pub(crate) const PROGRESS_US: u64 = 60_000_000;
/// How often it is looked whether the cluster is done.
const INSPECT_US: u64 = 100_000;
/// Happenings of one run; far above what any run needs, so that a loop without progress ends.
const HAPPENINGS_MAX: u64 = 20_000_000;

/// The simulation of one seed.
#[derive(Debug)]
pub struct Cluster {
    rng: Rng,
    options: Options,
    schedule: Schedule<Happening>,
    network: Network<Packet>,
    nodes: Vec<NodeHost>,
    gateways: Vec<GatewayHost>,
    coordinators: Vec<CoordinatorHost>,
    clients: Vec<Client>,
    store: CoordinationStore,
    judge: Judge,
    trace: Trace,
    history: History,
    counts: Counts,
    watched: watch::Watched,
    handover: handover::Handover,
    owners: owners::Owners,
    scenes: Scenes,
    subscribers: Vec<Subscriber>,
    /// Messages of which their producers know what became of them.
    ended: Vec<Ended>,
    /// Messages that a consumer rejected.
    rejected: BTreeSet<(String, u64)>,
    purges: Vec<Purge>,
    /// Somebody wanted the oldest messages of a full queue to be dropped.
    is_dropping: bool,
    /// The settings that the operator wants.
    wanted: Settings,
    settings_asked: u64,
    queries: u64,
    /// When pages were asked for.
    browses: BTreeMap<u64, Moment>,
    /// Steps of shards.
    steps: u64,
    last_call: u64,
    confirms: u64,
    failures: Vec<String>,
    /// The faults are over and progress is demanded.
    is_draining: bool,
    is_done: bool,
    healed_at: Moment,
    cuts: u64,
}

impl Cluster {
    /// Runs one seed to its end.
    #[must_use]
    pub fn run(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Self::faulty).run_to_end(seed)
    }

    /// Runs one seed in which leaderships are moved as planned and nothing goes wrong.
    #[must_use]
    pub fn run_planned(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Options::calm).run_to_end(seed)
    }

    /// All faults.
    fn faulty(_: &mut Options, _: &mut Rng) {}

    fn run_to_end(self, seed: u64) -> Report {
        let mut cluster = self;
        let mut happened = 0_u64;
        while !cluster.is_done && cluster.failures.is_empty() {
            let Some(happening) = cluster.schedule.take() else {
                break;
            };
            happened += 1;
            if happened > HAPPENINGS_MAX {
                cluster.fail("the run does not end".to_owned());
                cluster.name_the_restless();
            }
            cluster.happen(happening);
            if !cluster.judge.violations.is_empty() {
                let violations = std::mem::take(&mut cluster.judge.violations);
                cluster.failures.extend(violations);
            }
        }
        cluster.finish(seed)
    }

    /// Names the machines whose deadline has passed: `Elapsed` did not move it.
    fn name_the_restless(&mut self) {
        let mut restless = Vec::new();
        for (node, host) in self.nodes.iter().enumerate() {
            let now = host.body.clock.time(self.now());
            for (id, runtime) in host.process.iter().flat_map(|process| &process.shards) {
                let shard = &runtime.shard;
                let deadlines = [
                    shard.next_deadline(),
                    shard.replica().next_deadline(),
                    shard
                        .broker()
                        .next_deadline()
                        .map(quorate_replication::Time),
                ];
                if deadlines.iter().flatten().any(|deadline| *deadline <= now) {
                    restless.push(format!("node {node} {id} at {now}: {deadlines:?}"));
                }
            }
        }
        for (number, host) in self.gateways.iter().enumerate() {
            let now = host.body.clock.time(self.now());
            let deadline = host
                .process
                .as_ref()
                .and_then(|one| one.core.next_deadline());
            if deadline.is_some_and(|deadline| deadline.0 <= now.0) {
                restless.push(format!("gateway {number} at {now}: {deadline:?}"));
            }
        }
        for (number, host) in self.coordinators.iter().enumerate() {
            let now = host.body.clock.time(self.now());
            let process = host.process.as_ref();
            let deadline = process.and_then(|one| one.controller.next_deadline());
            if deadline.is_some_and(|deadline| deadline <= now) {
                restless.push(format!("coordinator {number} at {now}: {deadline:?}"));
            }
        }
        self.failures.append(&mut restless);
    }

    fn new(seed: u64, mode: Mode, shape: fn(&mut Options, &mut Rng)) -> Self {
        let mut rng = Rng::new(seed);
        let mut options = Options::draw(&mut rng);
        shape(&mut options, &mut rng);
        let network = Network::new(rng.fork(), crate::network::Weather::CALM);
        let mut cluster = Self {
            network,
            options,
            schedule: Schedule::default(),
            nodes: Vec::new(),
            gateways: Vec::new(),
            coordinators: Vec::new(),
            clients: Vec::new(),
            store: CoordinationStore::default(),
            judge: Judge::default(),
            trace: Trace::new(mode),
            history: History::default(),
            counts: Counts::default(),
            watched: watch::Watched::default(),
            handover: handover::Handover::default(),
            owners: owners::Owners::default(),
            scenes: Scenes::default(),
            subscribers: Vec::new(),
            ended: Vec::new(),
            rejected: BTreeSet::new(),
            purges: Vec::new(),
            is_dropping: false,
            wanted: Settings::new(),
            settings_asked: 0,
            queries: 0,
            browses: BTreeMap::new(),
            steps: 0,
            last_call: 0,
            confirms: 0,
            failures: Vec::new(),
            is_draining: false,
            is_done: false,
            healed_at: 0,
            cuts: 0,
            rng,
        };
        cluster.populate();
        cluster
    }

    fn populate(&mut self) {
        for _ in 0..self.options.nodes {
            let body = self.body();
            let disk = crate::disk::FakeDisk::new(self.rng.fork());
            if self.trace.mode() == Mode::PrintAll {
                disk.print(format!("node {} disk", self.nodes.len()));
            }
            self.nodes.push(NodeHost::new(body, disk));
        }
        for _ in 0..self.options.gateways {
            let body = self.body();
            self.gateways.push(GatewayHost {
                body,
                process: None,
            });
        }
        for _ in 0..self.options.coordinators {
            let body = self.body();
            self.coordinators.push(CoordinatorHost {
                body,
                process: None,
            });
        }
        for host in self.hosts() {
            let delay = self.rng.between(1, 100_000);
            self.schedule.after(delay, Happening::Start(host));
        }
        let queues: Vec<String> = (0..self.options.queues)
            .map(|number| format!("queue.{number}"))
            .collect();
        for number in 0..self.options.producers {
            let id = self.random_id();
            let name = format!("p{number}");
            let last = self.options.messages;
            let targets = queues
                .iter()
                .map(|queue| Destination::queue(content::name(queue)));
            let load = if self.options.is_volatile {
                Load::Volatile
            } else {
                Load::Plain
            };
            let targets = (load, targets.collect());
            let producer = client::Producer::new(id, name, targets, last);
            self.add_client(Role::Producer(producer));
        }
        for number in 0..self.options.consumers {
            let id = self.random_id();
            let queue = queues[number % queues.len()].clone();
            let source = Source::Queue(queue);
            let consumer = client::Consumer::new(id, format!("c{number}"), source);
            self.add_client(Role::Consumer(consumer));
        }
        self.set_scenes();
        self.schedule.after(self.options.calm_us, Happening::Strike);
        self.schedule.after(INSPECT_US, Happening::Inspect);
        let text = format!("{:?}", self.options);
        self.say(format_args!("{text}"));
    }

    fn add_client(&mut self, role: Role) {
        let number = self.clients.len();
        self.clients.push(Client {
            connection: None,
            role,
        });
        self.schedule.after(200_000, Happening::Client(number));
    }

    fn body(&mut self) -> Body {
        let start = self.rng.below(1_000_000_000) + 10_000_000;
        let drift = self.rng.below(2 * self.options.drift_ppm + 1);
        let drift = i64::try_from(drift).expect("small") - signed(self.options.drift_ppm);
        let error = self.rng.below(2 * self.options.wall_error_ms + 1);
        let error = i64::try_from(error).expect("small") - signed(self.options.wall_error_ms);
        Body::new(crate::clock::HostClock::new(start, drift, error))
    }

    pub(crate) fn hosts(&self) -> Vec<Host> {
        let nodes = (0..self.nodes.len()).map(Host::Node);
        let gateways = (0..self.gateways.len()).map(Host::Gateway);
        let coordinators = (0..self.coordinators.len()).map(Host::Coordinator);
        nodes.chain(gateways).chain(coordinators).collect()
    }

    pub(crate) fn now(&self) -> Moment {
        self.schedule.now()
    }

    pub(crate) fn say(&mut self, text: fmt::Arguments<'_>) {
        if self.trace.is_read() {
            let now = self.now();
            self.trace.line(now, &text);
        }
    }

    pub(crate) fn fail(&mut self, reason: String) {
        self.failures.push(reason);
    }

    fn random_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.rng.word().to_le_bytes());
        id[8..].copy_from_slice(&self.rng.word().to_le_bytes());
        id
    }

    fn body_of(&self, host: Host) -> &Body {
        match host {
            Host::Node(at) => &self.nodes[at].body,
            Host::Gateway(at) => &self.gateways[at].body,
            Host::Coordinator(at) => &self.coordinators[at].body,
        }
    }

    fn body_mut(&mut self, host: Host) -> &mut Body {
        match host {
            Host::Node(at) => &mut self.nodes[at].body,
            Host::Gateway(at) => &mut self.gateways[at].body,
            Host::Coordinator(at) => &mut self.coordinators[at].body,
        }
    }

    /// The host that a happening befalls, with the life that it is for, if it is for one.
    fn befalls(&self, happening: &Happening) -> Option<(Host, Option<u64>)> {
        match happening {
            Happening::Datagram { node, .. } | Happening::Letter { node, .. } => {
                Some((Host::Node(*node), None))
            }
            Happening::Arrived(stream, side, _) | Happening::Closed(stream, side) => {
                self.network.host(*stream, *side).map(|host| (host, None))
            }
            Happening::Tick(host, life) | Happening::Due(host, life) => Some((*host, Some(*life))),
            Happening::ShardDue(node, life, _)
            | Happening::DiskWork(node, life, _)
            | Happening::Background(node, life, _, _) => Some((Host::Node(*node), Some(*life))),
            Happening::Told(coordinator, life, _, _) | Happening::Campaign(coordinator, life) => {
                Some((Host::Coordinator(*coordinator), Some(*life)))
            }
            Happening::Link(gateway, life, _) => Some((Host::Gateway(*gateway), Some(*life))),
            Happening::Stalled(_)
            | Happening::StoreAsked(..)
            | Happening::StoreLate(_)
            | Happening::Lapse(..)
            | Happening::Client(_)
            | Happening::ToClient(..)
            | Happening::Start(_)
            | Happening::Resume(..)
            | Happening::Strike
            | Happening::Operator(..)
            | Happening::HealCuts(_)
            | Happening::StoreBack
            | Happening::SpaceBack(_)
            | Happening::Inspect => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        if let Some((host, life)) = self.befalls(&happening) {
            let body = self.body_mut(host);
            let is_over = !body.is_up() || life.is_some_and(|life| life != body.life);
            if is_over {
                return;
            }
            if let Some(waiting) = body.paused.as_mut() {
                waiting.push(happening);
                return;
            }
        }
        match happening {
            Happening::Datagram {
                node,
                from,
                shard,
                message,
            } => {
                let input = quorate_storage_node::shard::input::Input::Peer { from, message };
                self.step_shard(node, shard, input);
            }
            Happening::Letter {
                node,
                from,
                shard,
                message,
            } => {
                let input = quorate_storage_node::shard::input::Input::FromShard { from, message };
                self.step_shard(node, shard, input);
            }
            Happening::Arrived(stream, side, packet) => self.arrived(stream, side, packet),
            Happening::Closed(stream, side) => self.closed(stream, side),
            Happening::Stalled(stream) => self.break_if_stalled(stream),
            Happening::Tick(Host::Node(node), _) => self.node_tick(node),
            Happening::Tick(Host::Gateway(gateway), _) => self.gateway_tick(gateway),
            Happening::Tick(Host::Coordinator(_), _) => {}
            Happening::ShardDue(node, _, shard) => self.shard_due(node, shard),
            Happening::DiskWork(node, _, shard) => self.disk_work(node, shard),
            Happening::Background(node, life, shard, task) => {
                self.background_work(node, life, shard, task);
            }
            Happening::Due(Host::Gateway(gateway), _) => self.gateway_due(gateway),
            Happening::Due(Host::Coordinator(at), _) => self.coordinator_due(at),
            Happening::Due(Host::Node(_), _) => {}
            Happening::StoreAsked(at, life, question) => self.store_asked(at, life, question),
            Happening::StoreLate(changes) => self.store_late(&changes),
            Happening::Told(at, _, generation, input) => {
                self.coordinator_told(at, generation, input);
            }
            Happening::Campaign(at, _) => self.campaign(at),
            Happening::Lapse(at, life) => self.lapse(at, life),
            Happening::Link(gateway, _, node) => self.link(gateway, node),
            Happening::Client(client) => self.client_acts(client),
            Happening::ToClient(client, call, event) => self.client_hears(client, call, event),
            Happening::Start(host) => self.start(host),
            Happening::Resume(host, pause) => self.resume(host, pause),
            Happening::Strike => self.strike(),
            Happening::Operator(node, life) => self.operate(node, life),
            Happening::HealCuts(cut) => self.heal_cuts(cut),
            Happening::StoreBack => self.store.is_out = false,
            Happening::SpaceBack(node) => self.nodes[node].disk.leave_free(None),
            Happening::Inspect => self.inspect(),
        }
    }

    fn arrived(&mut self, stream: StreamNumber, side: Side, packet: Packet) {
        if !self.network.is_open(stream, side) {
            return;
        }
        if self.trace.mode() == Mode::PrintAll {
            let text: String = format!("{packet:?}").chars().take(4_000).collect();
            let host = self.network.host(stream, side);
            self.say(format_args!("{host:?} {stream:?}: {text}"));
        }
        match self.network.host(stream, side) {
            Some(Host::Node(node)) => self.node_arrived(node, stream, packet),
            Some(Host::Gateway(gateway)) => self.gateway_arrived(gateway, stream, packet),
            Some(Host::Coordinator(at)) => self.coordinator_arrived(at, stream, packet),
            None => {}
        }
    }

    fn closed(&mut self, stream: StreamNumber, side: Side) {
        let host = self.network.host(stream, side);
        if !self.network.close(stream, side) {
            return;
        }
        match host {
            Some(Host::Node(node)) => self.node_closed(node, stream),
            Some(Host::Gateway(gateway)) => self.gateway_closed(gateway, stream),
            Some(Host::Coordinator(at)) => self.coordinator_closed(at, stream),
            None => {}
        }
    }

    /// Opens a stream, if the other side can be reached and its process runs.
    fn connect(&mut self, from: Host, to: Host) -> Option<StreamNumber> {
        if !self.body_of(to).is_up() {
            return None;
        }
        let now = self.now();
        self.network.open(from, to, now)
    }

    fn send(&mut self, stream: StreamNumber, to: Side, packet: Packet) {
        let now = self.now();
        match self.network.send(stream, to, packet.lane(), now) {
            Fate::Arrives(at) => self.schedule.at(at, Happening::Arrived(stream, to, packet)),
            Fate::Stalls => self.network.stall(stream, to, packet),
            Fate::Void => {}
        }
    }

    /// Closes one's own end; the other learns it after what was sent before has arrived.
    fn hang_up(&mut self, stream: StreamNumber, side: Side) {
        let now = self.now();
        let arrives = (0..crate::network::LANES)
            .filter_map(
                |lane| match self.network.send(stream, side.other(), lane, now) {
                    Fate::Arrives(at) => Some(at),
                    Fate::Stalls | Fate::Void => None,
                },
            )
            .max();
        self.network.close(stream, side);
        let at = arrives.unwrap_or(now + 1_000_000);
        self.schedule
            .at(at, Happening::Closed(stream, side.other()));
    }

    fn node_number(&self, node: usize) -> NodeId {
        let process = self.nodes[node].process.as_ref();
        let number = process.and_then(|process| process.disk.node());
        number.expect("a node with shards has its number")
    }

    /// Lets the judge look at a replica.
    fn look_at(&mut self, node: usize, shard: ShardId) {
        let Some(process) = self.nodes[node].process.as_ref() else {
            return;
        };
        let Some(runtime) = process.shards.get(&shard) else {
            return;
        };
        let voters = voters(&self.store, &self.nodes, shard);
        self.judge.look(node, shard, &runtime.shard, &voters);
        if runtime.shard.is_halted() && !self.options.is_damaging() {
            self.failures
                .push(format!("node {node} {shard} stopped applying"));
        }
    }

    fn noted(&mut self, node: usize, shard: ShardId, note: &Note) {
        use quorate_replication::Event;
        match note {
            Note::Replica(Event::BecameLeader(epoch)) => {
                let number = self.node_number(node);
                let process = self.nodes[node].process.as_ref().expect("the process runs");
                if let Some(runtime) = process.shards.get(&shard) {
                    self.judge.led(number, shard, *epoch, &runtime.shard);
                }
            }
            Note::Replica(Event::RefusedCut { .. }) => {
                self.failures.push(format!("node {node} {shard}: {note}"));
            }
            Note::Diverged { .. } | Note::Halted { .. } => {
                self.failures.push(format!("node {node} {shard}: {note}"));
            }
            Note::TookOver { .. } => self.counts.taken_over += 1,
            Note::Replica(_)
            | Note::HandingOver { .. }
            | Note::HandedOver { .. }
            | Note::KeptLeading { .. }
            | Note::Checkpointed { .. }
            | Note::InstallStarted { .. }
            | Note::InstallFinished { .. }
            | Note::Installed { .. }
            | Note::Dropped(_) => {}
        }
    }

    /// Looks whether everything is done; after the bound that is a failure.
    fn inspect(&mut self) {
        self.schedule.after(INSPECT_US, Happening::Inspect);
        if !self.is_draining {
            return;
        }
        let missing = self.missing();
        if missing.is_empty() {
            self.is_done = true;
        } else if self.now() > self.healed_at + PROGRESS_US {
            self.fail(format!("no progress: {}", missing.join("; ")));
        }
    }
}

/// The places of a shard's voters.
fn voters(store: &CoordinationStore, nodes: &[NodeHost], shard: ShardId) -> Vec<usize> {
    let Some(record) = store.record(shard) else {
        return (0..nodes.len()).collect();
    };
    let members = record.voters.iter();
    let places = members.filter_map(|member| {
        nodes
            .iter()
            .position(|host| host.number == Some(member.node))
    });
    places.collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).expect("a small option")
}
