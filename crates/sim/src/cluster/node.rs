//! Storage nodes: the shell around the shards, with fake parts. It does what `storage-node`'s own shell does and takes
//! no decision.

use std::collections::{BTreeMap, VecDeque};

use quorate_broker::SessionId;
use quorate_coordinator::controller as coordination;
use quorate_log::{CheckpointMark, Checkpoints, NodeDisk, Opened, Reader, ShardLog, Sizes};
use quorate_message::GatewayId;
use quorate_replication::{
    Claim, Config, DiskId, Member, NodeId, Position, RoleName, ShardId, Stamp, Write, WriteId,
};
use quorate_storage_node::shard::effect::{Act, SessionEvent};
use quorate_storage_node::shard::input::{Checkpoint, Clock, ClockJudgement, Input, Submission};
use quorate_storage_node::shard::{OpenError, Shard};

use crate::checkpoints::FakeCheckpointStore;
use crate::cluster::Cluster;
use crate::cluster::handover::Said;
use crate::cluster::host::{Body, Power};
use crate::cluster::packet::{Happening, Lane, Packet};
use crate::disk::FakeDisk;
use crate::network::{Host, Side, StreamNumber};
use crate::schedule::Moment;

/// Small files, so that segments turn over within a run.
const SIZES: Sizes = Sizes {
    segment_first_bytes: 16 << 10,
    segment_max_bytes: 64 << 10,
    fill_bytes: 8 << 10,
    reserve_bytes: 32 << 10,
    spare_files: 2,
};

/// The name of every simulated cluster.
const CLUSTER: &str = "sim";

/// A node that cannot start for want of space is started again after this.
const RESTART_US: u64 = 500_000;

/// How often a node sends its heartbeat, or tries to find a coordinator.
pub(super) const TICK_US: u64 = 200_000;

/// A storage node's machine.
#[derive(Debug)]
pub(super) struct NodeHost {
    pub(super) body: Body,
    pub(super) disk: FakeDisk,
    pub(super) checkpoints: FakeCheckpointStore,
    /// The topology file, which the shell replaces durably.
    pub(super) topology: Option<std::sync::Arc<coordination::Topology>>,
    pub(super) process: Option<NodeProcess>,
    /// Its number, once it has one.
    pub(super) number: Option<NodeId>,
}

/// A running node.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) disk: NodeDisk,
    pub(super) checkpoints: Checkpoints,
    pub(super) shards: BTreeMap<ShardId, Runtime>,
    pub(super) sessions: BTreeMap<SessionId, StreamNumber>,
    session_of: BTreeMap<StreamNumber, (SessionId, GatewayId)>,
    /// What came on one lane before the greeting on the other: taken in after it.
    early: BTreeMap<StreamNumber, Vec<Packet>>,
    last_session: u64,
    attended: Option<StreamNumber>,
    is_registered: bool,
    beats: u64,
    /// What its coordinator thinks of its wall clock.
    clock: ClockJudgement,
}

/// A shard on a node, with what lies between it and the disk.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) shard: Shard,
    pub(super) log: ShardLog,
    pub(super) reader: Reader,
    pub(super) durable: WriteId,
    pub(super) held: BTreeMap<WriteId, Vec<Act>>,
    pub(super) jobs: VecDeque<super::replica::DiskJob>,
    pub(super) is_busy: bool,
    /// Written and not synced: what the next disk work makes durable.
    pub(super) unsynced: Vec<(WriteId, Write)>,
    pub(super) due: Option<Moment>,
    pub(super) is_space_low: bool,
    pub(super) space_checked: Moment,
}

impl NodeHost {
    pub(super) fn new(body: Body, disk: FakeDisk) -> Self {
        Self {
            body,
            disk,
            checkpoints: FakeCheckpointStore::default(),
            topology: None,
            process: None,
            number: None,
        }
    }
}

impl Cluster {
    pub(super) fn clock(&self, node: usize) -> Clock {
        let now = self.now();
        let clock = &self.nodes[node].body.clock;
        Clock {
            time: clock.time(now),
            stamp: clock.stamp(now),
        }
    }

    /// Starts a node's process: opens the disk and every shard on it. The disk may die meanwhile.
    pub(super) fn start_node(&mut self, node: usize) {
        let fresh = DiskId(self.rng.word());
        let host = &mut self.nodes[node];
        host.disk.revive();
        let store = std::sync::Arc::new(host.checkpoints.clone());
        let disk = match NodeDisk::open_sized(host.disk.as_disk(), CLUSTER, fresh, SIZES) {
            Ok(disk) => disk,
            Err(error) => return self.failed_to_start(node, &error),
        };
        let shards = match disk.shards() {
            Ok(shards) => shards,
            Err(error) => return self.failed_to_start(node, &error),
        };
        host.process = Some(NodeProcess {
            disk,
            checkpoints: Checkpoints::new(store),
            shards: BTreeMap::new(),
            sessions: BTreeMap::new(),
            session_of: BTreeMap::new(),
            early: BTreeMap::new(),
            last_session: 0,
            attended: None,
            is_registered: false,
            clock: ClockJudgement::default(),
            beats: 0,
        });
        let life = host.body.life;
        self.say(format_args!("node {node} starts, life {life}"));
        if self.nodes[node]
            .process
            .as_ref()
            .is_some_and(|process| process.disk.node().is_some())
        {
            for shard in shards {
                if !self.open_shard(node, shard) {
                    return;
                }
            }
        }
        let delay = self.rng.between(1_000, 20_000);
        self.schedule
            .after(delay, Happening::Tick(Host::Node(node), life));
    }

    fn failed_to_start(&mut self, node: usize, error: &dyn std::error::Error) {
        self.say(format_args!("node {node} cannot start: {}", chain(error)));
        if self.nodes[node].disk.is_full() {
            // Its supervisor starts it again, until there is space.
            self.stop(Host::Node(node), Power::Killed);
            let again = Happening::Start(Host::Node(node));
            return self.schedule.after(RESTART_US, again);
        }
        if !self.nodes[node].disk.is_dead() {
            self.node_cannot_start(node, &chain(error));
        }
        self.crash_by_disk(node);
    }

    /// Opens or makes a shard; false if the node died over it.
    fn open_shard(&mut self, node: usize, shard: ShardId) -> bool {
        let now = self.clock(node).time;
        let host = &mut self.nodes[node];
        let process = host.process.as_mut().expect("the process runs");
        let opened = open(process, shard, now);
        match opened {
            Ok((machine, opened, findings)) => {
                let reader = opened.log.reader();
                self.judge.opened(node, shard, &opened.recovered);
                for finding in findings {
                    self.say(format_args!("node {node} {shard}: {finding}"));
                }
                let runtime = Runtime {
                    shard: machine,
                    log: opened.log,
                    reader,
                    durable: WriteId(0),
                    held: BTreeMap::new(),
                    jobs: VecDeque::new(),
                    is_busy: false,
                    unsynced: Vec::new(),
                    due: None,
                    is_space_low: false,
                    space_checked: 0,
                };
                let process = self.nodes[node].process.as_mut().expect("the process runs");
                process.shards.insert(shard, runtime);
                self.look_at(node, shard);
                self.set_shard_due(node, shard);
                self.place(node, shard);
                let process = self.nodes[node].process.as_ref();
                let judgement = process.map_or_else(ClockJudgement::default, |it| it.clock);
                self.step_shard(node, shard, Input::ClockJudged(judgement));
                true
            }
            Err(error) => {
                self.failed_to_start(node, error.as_ref());
                false
            }
        }
    }

    /// The heartbeat, or a try to find a coordinator.
    pub(super) fn node_tick(&mut self, node: usize) {
        let life = self.nodes[node].body.life;
        let delay = TICK_US + self.rng.below(2_000);
        self.schedule
            .after(delay, Happening::Tick(Host::Node(node), life));
        let Some(process) = self.nodes[node].process.as_ref() else {
            return;
        };
        match process.attended {
            None => self.attend(node),
            Some(stream) if process.is_registered => self.beat(node, stream),
            Some(_) => {}
        }
        self.check_space(node);
    }

    fn attend(&mut self, node: usize) {
        let coordinator = self.rng.index(self.coordinators.len());
        let host = Host::Node(node);
        let Some(stream) = self.connect(host, Host::Coordinator(coordinator)) else {
            return;
        };
        let wall_ms = self.clock(node).stamp.0;
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        process.attended = Some(stream);
        let registration = coordination::Registration {
            name: name_of(node),
            address: format!("node:{node}"),
            disk: process.disk.disk_id(),
            boot: process.disk.incarnation().0,
            incarnation: process.disk.incarnation(),
            pid: 1,
            node: process.disk.node(),
            zone: String::new(),
            weight: 1,
            version: "1".to_owned(),
            wall_ms,
        };
        self.send(
            stream,
            Side::Accepter,
            Packet::Register(Box::new(registration)),
        );
    }

    fn beat(&mut self, node: usize, stream: StreamNumber) {
        let clock = self.clock(node);
        let now = clock.time;
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        process.beats += 1;
        let mut heartbeat = coordination::Heartbeat {
            number: process.beats,
            is_disk_healthy: true,
            wall_ms: clock.stamp.0,
            ..coordination::Heartbeat::default()
        };
        for (id, runtime) in &process.shards {
            let replica = runtime.shard.replica();
            heartbeat.is_disk_healthy &= !replica.is_disk_stalled(now);
            heartbeat.hears.extend(replica.hears(now));
            if replica.role() == RoleName::Leader && !runtime.shard.is_halted() {
                heartbeat.led.push(coordination::Led {
                    shard: *id,
                    epoch: replica.epoch(),
                    serving: runtime.shard.is_serving(),
                });
            }
        }
        heartbeat.hears.sort_unstable();
        heartbeat.hears.dedup();
        self.send(stream, Side::Accepter, Packet::Heartbeat(heartbeat));
    }

    /// A message on one of a node's streams.
    pub(super) fn node_arrived(&mut self, node: usize, stream: StreamNumber, packet: Packet) {
        let is_request = matches!(packet, Packet::Submit(..) | Packet::Ask(..));
        if is_request && self.session_of(node, stream).is_none() {
            if let Some(process) = self.nodes[node].process.as_mut() {
                process.early.entry(stream).or_default().push(packet);
            }
            return;
        }
        match packet {
            Packet::Registered(number) => self.registered(node, number),
            Packet::Order(shard, order) => self.step_shard(node, shard, Input::Order(order)),
            Packet::ClockJudged(verdict) => self.clock_judged(node, verdict),
            Packet::Topology(topology) => self.node_learns(node, topology),
            Packet::Hello(gateway) => {
                let process = self.nodes[node].process.as_mut().expect("the process runs");
                process.last_session += 1;
                let session = SessionId(process.last_session);
                process.sessions.insert(session, stream);
                process.session_of.insert(stream, (session, gateway));
                for packet in process.early.remove(&stream).unwrap_or_default() {
                    self.node_arrived(node, stream, packet);
                }
            }
            Packet::Submit(shard, (number, previous), batch, _) => {
                let Some((session, _)) = self.session_of(node, stream) else {
                    return;
                };
                if self.has_shard(node, shard) {
                    let submission = Submission {
                        session,
                        number,
                        previous,
                        batch,
                    };
                    self.step_shard(node, shard, Input::Submitted(vec![submission]));
                } else {
                    self.not_here(stream, shard, number);
                }
            }
            Packet::Ask(shard, request) => {
                let Some((session, gateway)) = self.session_of(node, stream) else {
                    return;
                };
                if self.has_shard(node, shard) {
                    let now = self.now();
                    let said = Said::of(&request);
                    self.handover
                        .spoke((node, shard), (gateway, session), said, now);
                    let input = Input::Session {
                        session,
                        gateway,
                        request,
                    };
                    self.step_shard(node, shard, input);
                } else {
                    self.not_here(stream, shard, 0);
                }
            }
            Packet::Register(_)
            | Packet::Heartbeat(_)
            | Packet::Report(..)
            | Packet::MoveReport(_)
            | Packet::Announce(_)
            | Packet::Event(..) => unreachable!("nobody sends that to a node"),
        }
    }

    /// A stream of a node ended.
    pub(super) fn node_closed(&mut self, node: usize, stream: StreamNumber) {
        let Some(process) = self.nodes[node].process.as_mut() else {
            return;
        };
        if process.attended == Some(stream) {
            process.attended = None;
            process.is_registered = false;
        }
        if let Some((session, _)) = process.session_of.remove(&stream) {
            process.sessions.remove(&session);
            let shards: Vec<ShardId> = process.shards.keys().copied().collect();
            let now = self.schedule.now();
            self.handover.session_ends(node, session, now);
            for shard in shards {
                self.step_shard(node, shard, Input::SessionLost { session });
            }
        }
    }

    pub(super) fn report(
        &mut self,
        node: usize,
        shard: ShardId,
        report: quorate_replication::Report,
    ) {
        self.tell_coordinator(node, Packet::Report(shard, report));
    }

    /// Tells the coordinator that the node attends, if there is one.
    pub(super) fn tell_coordinator(&mut self, node: usize, packet: Packet) {
        let process = self.nodes[node].process.as_ref();
        let stream = process.and_then(|process| process.attended.filter(|_| process.is_registered));
        if let Some(stream) = stream {
            self.send(stream, Side::Accepter, packet);
        }
    }

    /// The topology as the node knows it: from the file or from the coordinator.
    pub(super) fn peer_of(&self, node: usize, peer: NodeId) -> Option<usize> {
        let topology = self.nodes[node].topology.as_ref()?;
        let status = topology.nodes.iter().find(|status| status.node == peer)?;
        place_of(&status.address)
    }

    fn registered(&mut self, node: usize, number: NodeId) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        process.is_registered = true;
        self.nodes[node].number = Some(number);
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let is_first = process.disk.node().is_none();
        if let Err(error) = process.disk.register(number) {
            return self.failed_to_start(node, &error);
        }
        if is_first && !self.nodes[node].disk.is_dead() {
            let process = self.nodes[node].process.as_ref().expect("the process runs");
            let Ok(shards) = process.disk.shards() else {
                return self.crash_by_disk(node);
            };
            for shard in shards {
                if !self.open_shard(node, shard) {
                    return;
                }
            }
        }
    }

    fn node_learns(&mut self, node: usize, topology: std::sync::Arc<coordination::Topology>) {
        let host = &mut self.nodes[node];
        let process = host.process.as_ref().expect("the process runs");
        let Some(number) = process.disk.node() else {
            return;
        };
        let me = Member {
            node: number,
            disk: process.disk.disk_id(),
        };
        let placed = topology
            .shards
            .iter()
            .filter(|shard| shard.voters.contains(&me));
        let missing: Vec<ShardId> = placed
            .map(|status| status.shard)
            .filter(|shard| !process.shards.contains_key(shard))
            .collect();
        let versions = |topology: &coordination::Topology| {
            (topology.settings.version(), topology.overrides.version())
        };
        let newest = versions(&topology);
        let former = host.topology.replace(topology);
        let is_news = former.is_none_or(|former| versions(&former) != newest);
        let opened: Vec<ShardId> = process.shards.keys().copied().collect();
        for shard in missing {
            if !self.open_shard(node, shard) {
                return;
            }
        }
        for shard in opened.into_iter().filter(|_| is_news) {
            self.place(node, shard);
        }
    }

    fn clock_judged(&mut self, node: usize, verdict: coordination::ClockVerdict) {
        let judgement = match verdict {
            coordination::ClockVerdict::Unknown => ClockJudgement::Unknown,
            coordination::ClockVerdict::Agrees => ClockJudgement::Agrees,
            coordination::ClockVerdict::Off { ahead_ms } => ClockJudgement::Off { ahead_ms },
        };
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        process.clock = judgement;
        let shards: Vec<ShardId> = process.shards.keys().copied().collect();
        for shard in shards {
            self.step_shard(node, shard, Input::ClockJudged(judgement));
        }
    }

    fn session_of(&self, node: usize, stream: StreamNumber) -> Option<(SessionId, GatewayId)> {
        self.nodes[node]
            .process
            .as_ref()?
            .session_of
            .get(&stream)
            .copied()
    }

    fn has_shard(&self, node: usize, shard: ShardId) -> bool {
        let process = self.nodes[node].process.as_ref();
        process.is_some_and(|process| process.shards.contains_key(&shard))
    }

    fn not_here(&mut self, stream: StreamNumber, shard: ShardId, number: u64) {
        let event = SessionEvent::NotLeading {
            number,
            epoch: quorate_replication::Epoch(0),
        };
        self.send(stream, Side::Opener, Packet::Event(shard, event));
    }
}

/// The number of the host that an address names.
pub(super) fn place_of(address: &str) -> Option<usize> {
    address.strip_prefix("node:")?.parse().ok()
}

/// The lane that a gateway's batch takes.
pub(super) const CONTROL: Lane = Lane::Control;

type Error = Box<dyn std::error::Error>;

/// As the shell of the storage node does it: made if the disk never had it, rebuilt if its state is lost.
fn open(
    process: &NodeProcess,
    shard: ShardId,
    now: quorate_replication::Time,
) -> Result<(Shard, Opened, Vec<String>), Error> {
    if !process.disk.shards()?.contains(&shard) {
        process.disk.create_shard(shard, Claim::default())?;
    }
    let checkpoint = process.checkpoints.load(shard)?;
    let mark = checkpoint
        .as_ref()
        .map(|found| found.mark)
        .unwrap_or_default();
    let opened = process.disk.open_shard(shard, mark)?;
    let mut findings: Vec<String> = opened.findings.iter().map(ToString::to_string).collect();
    let checkpoint = checkpoint.map(checkpoint_of);
    match Shard::open(Config::default(), opened.recovered.clone(), checkpoint, now) {
        Ok(machine) => Ok((machine, opened, findings)),
        Err(reason @ (OpenError::Gap { .. } | OpenError::Restore { .. })) => {
            findings.push(format!("rebuilt: {}", chain(&reason)));
            let opened = rebuild(process, shard, opened)?;
            let machine = Shard::open(Config::default(), opened.recovered.clone(), None, now)?;
            Ok((machine, opened, findings))
        }
    }
}

fn rebuild(process: &NodeProcess, shard: ShardId, opened: Opened) -> Result<Opened, Error> {
    let mut log = opened.log;
    log.write(&[(WriteId(1), Write::Impaired(true))])?;
    log.sync()?;
    process.checkpoints.remove(shard)?;
    log.begin_install(Position::default(), Stamp(0))?;
    log.seal_install()?;
    log.commit_install()?;
    drop(log);
    Ok(process.disk.open_shard(shard, CheckpointMark::default())?)
}

pub(super) fn checkpoint_of(found: quorate_log::Checkpoint) -> Checkpoint {
    Checkpoint {
        at: found.mark.at,
        stamp: found.mark.stamp,
        state: found.state,
    }
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The name of a node.
pub(super) fn name_of(node: usize) -> String {
    format!("mq{node:02}")
}
