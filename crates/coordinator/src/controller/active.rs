//! What an active coordinator holds in memory, and how one input goes through it.
//!
//! The parts: `registration` (who is who), `liveness` (who lives), `judgement` and `elections` (who leads), `bootstrap` (the first
//! records), `balance` (who should lead), `picture` (what everybody is told).

use std::collections::{BTreeMap, BTreeSet};

use quorate_replication::{Duration, NodeId, RequestId, ShardId, Time};

use crate::{
    controller::{
        Config,
        earliest::Earliest,
        effect::{Effect, Note, Refusal},
        input::{
            Attempt, Input, MoveRequest, ReadOutcome, SettingsRequest, StreamId, WriteNumber,
            WriteOutcome,
        },
        node::Node,
        random::Random,
        row::{Change, ClusterRow, Key, Row, Stored},
        shard::Shard,
        topology::{GatewayStatus, Topology},
    },
    limits::{GATEWAYS_MAX, MOVE_PERIOD_MS, TICKS_PER_TIMEOUT},
};

mod balance;
mod bootstrap;
mod elections;
mod judgement;
mod liveness;
mod moves;
mod operating;
mod picture;
mod placing;
mod registration;
mod settings;

use placing::Placing;
use settings::Governing;

/// What a change is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Register(NodeId),
    Drain(NodeId),
    Election {
        shard: ShardId,
        election: u64,
        request: RequestId,
    },
    CreateCluster,
    CreateShard(ShardId),
    ReplaceSettings,
    ReplaceOverrides,
}

/// The state of an active coordinator.
#[derive(Clone, Debug)]
pub(super) struct Active {
    config: Config,
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    /// Streams of nodes, admitted or with their registration under way.
    streams: BTreeMap<StreamId, NodeId>,
    gateways: BTreeMap<StreamId, GatewayStatus>,
    cluster: Option<ClusterRow>,
    governing: Governing,
    placing: Placing,
    shards: BTreeMap<ShardId, Shard>,
    /// Of all elections that run.
    elections_due: Earliest,
    /// Of all moves of leaderships that are prepared.
    moves_due: Earliest,
    /// Rows whose creation is under way.
    creating: BTreeSet<Key>,
    /// Nothing is created before this: the store refused or did not answer.
    create_after: Time,
    outbox: Vec<(Change, Purpose)>,
    writes: BTreeMap<WriteNumber, Vec<Purpose>>,
    last_write: WriteNumber,
    last_attempt: Attempt,
    last_step: Time,
    /// When any node was heard.
    heard_any: Time,
    next_tick: Time,
    /// Nodes and leaders are as they are since then.
    steady_since: Time,
    next_move: Time,
    topology: Topology,
    is_published: bool,
    /// Something changed that the topology shows.
    is_changed: bool,
}

impl Active {
    /// Begins with what the store holds.
    pub(super) fn new(
        config: Config,
        generation: u64,
        seed: u64,
        rows: Vec<Stored>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Self {
        let topology = Topology {
            // The lower half leaves room for the changes of one activation.
            version: generation << 32,
            ..Topology::default()
        };
        let mut active = Self {
            config,
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            streams: BTreeMap::new(),
            gateways: BTreeMap::new(),
            cluster: None,
            governing: Governing::default(),
            placing: Placing::default(),
            shards: BTreeMap::new(),
            elections_due: Earliest::none(),
            moves_due: Earliest::none(),
            creating: BTreeSet::new(),
            create_after: now,
            outbox: Vec::new(),
            writes: BTreeMap::new(),
            last_write: WriteNumber(0),
            last_attempt: Attempt(0),
            last_step: now,
            heard_any: now,
            next_tick: now,
            steady_since: now,
            next_move: now.after(Duration::from_millis(MOVE_PERIOD_MS)),
            topology,
            is_published: false,
            is_changed: true,
        };
        for stored in rows {
            match stored.row {
                Row::Cluster(row) => active.cluster = Some(row),
                Row::Node(row) => {
                    let node = Node::new(row, stored.version, now);
                    active.nodes.insert(node.row.node, node);
                }
                Row::Shard(record) => {
                    let shard = Shard::new(record, stored.version, now);
                    active.shards.insert(shard.record.shard, shard);
                }
                Row::Settings(settings) => {
                    active.governing = Governing::new(settings, stored.version);
                }
                Row::Overrides(overrides) => {
                    active.placing = Placing::new(overrides, stored.version);
                }
            }
        }
        effects.push(Effect::Note(Note::Activated { generation }));
        active.redial_absent(now);
        active.judge_all(now, effects);
        active.hand_in(effects);
        active.publish(now, effects);
        active
    }

    /// Takes one input in.
    pub(super) fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.notice_pause(now, effects);
        let is_due = matches!(input, Input::Elapsed);
        match input {
            Input::Activated { .. } | Input::Deactivated => {
                unreachable!("the controller takes these itself")
            }
            Input::Registered {
                stream,
                registration,
            } => self.registered(now, stream, registration, effects),
            Input::Heartbeat { stream, heartbeat } => {
                self.heartbeat(now, stream, heartbeat, effects);
            }
            Input::Reported {
                stream,
                shard,
                report,
            } => self.reported(now, stream, shard, report, effects),
            Input::StreamClosed { stream } => self.stream_closed(now, stream, effects),
            Input::Redialed { attempt, outcome } => self.redialed(now, attempt, outcome, effects),
            Input::Written { write, outcomes } => self.written(now, write, &outcomes, effects),
            Input::Read { key, outcome } => self.read(now, key, outcome, effects),
            Input::SettingsWanted {
                request,
                expected,
                settings,
            } => self.settings_wanted(request, expected, settings, effects),
            Input::MoveWanted { request, name, to } => {
                self.move_wanted(request, name, to, effects);
            }
            Input::MoveReported(report) => self.move_reported(report, effects),
            Input::Wished { request, wish } => self.wished(now, request, &wish, effects),
            Input::GatewayAttended {
                stream,
                name,
                address,
            } => self.gateway_attended(stream, GatewayStatus { name, address }, effects),
            Input::GatewayLeft { stream } => {
                self.is_changed |= self.gateways.remove(&stream).is_some();
            }
            Input::Elapsed => {}
        }
        self.run_due(now, effects);
        if is_due {
            self.hand_in(effects);
            self.publish(now, effects);
        }
        self.last_step = now;
    }

    /// When to step at the latest.
    pub(super) fn next_deadline(&self) -> Time {
        // At once, but after the inputs that wait: a write of the store, and a picture of hundreds of shards, for each
        // answer about one of them would take longer than their elections.
        if self.is_changed || !self.outbox.is_empty() {
            return self.last_step;
        }
        let redials = self
            .nodes
            .values()
            .filter_map(|node| node.redial.as_ref())
            .filter(|redial| redial.attempt.is_none())
            .map(|redial| redial.next);
        let elections = self.election_deadlines().map(|(_, deadline)| deadline);
        redials
            .chain(elections)
            .chain([self.next_tick])
            .min()
            .unwrap_or(self.next_tick)
    }

    /// The request for other settings that is not answered.
    pub(super) fn settings_request(&self) -> Option<SettingsRequest> {
        self.governing.request()
    }

    /// The request for a move that is not answered.
    pub(super) fn move_request(&self) -> Option<MoveRequest> {
        self.placing.request()
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Every stream, to be told that this coordinator is no longer active.
    pub(super) fn all_streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().chain(self.gateways.keys()).copied()
    }

    fn timeouts(&self, count: u64) -> Duration {
        Duration(self.config.node_timeout.0.saturating_mul(count))
    }

    /// What is due by the clock, whatever the input was. It comes after the input, so that a node whose heartbeat
    /// was waiting is not called silent first.
    fn run_due(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.run_redials(now, effects);
        self.run_elections(now, effects);
        self.tend_moves(now, effects);
        if now < self.next_tick {
            return;
        }
        let tick = Duration((self.config.node_timeout.0 / TICKS_PER_TIMEOUT).max(1));
        self.next_tick = now.after(tick);
        self.find_silent(now, effects);
        self.end_exclusions(now, effects);
        self.judge_all(now, effects);
        self.create_missing(now, effects);
        self.move_one(now, effects);
        self.note_stuck(now, effects);
    }

    /// Asks for what the steps gathered: one write for all changes.
    fn hand_in(&mut self, effects: &mut Vec<Effect>) {
        if !self.outbox.is_empty() {
            let (changes, purposes) = self.outbox.drain(..).unzip();
            self.last_write.0 += 1;
            self.writes.insert(self.last_write, purposes);
            effects.push(Effect::Write {
                write: self.last_write,
                changes,
            });
        }
    }

    /// Tells the topology if it changed.
    fn publish(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let picture = self.picture(now);
        // The first one says that this coordinator is active, even when there is nothing to show.
        if picture != self.topology || !self.is_published {
            self.is_published = true;
            self.topology = picture;
            self.topology.version += 1;
            effects.push(Effect::PublishTopology(self.topology.clone()));
        }
    }

    fn written(
        &mut self,
        now: Time,
        write: WriteNumber,
        outcomes: &[WriteOutcome],
        effects: &mut Vec<Effect>,
    ) {
        let Some(purposes) = self.writes.remove(&write) else {
            effects.push(Effect::Note(Note::Dropped("answer to an unknown write")));
            return;
        };
        for (number, purpose) in purposes.into_iter().enumerate() {
            let outcome = outcomes
                .get(number)
                .copied()
                .unwrap_or(WriteOutcome::Unknown);
            match purpose {
                Purpose::Register(node) => self.register_written(now, node, outcome, effects),
                Purpose::Drain(node) => self.drain_written(node, outcome, effects),
                Purpose::Election {
                    shard,
                    election,
                    request,
                } => self.election_written(now, shard, election, request, outcome, effects),
                Purpose::CreateCluster => self.cluster_written(now, outcome, effects),
                Purpose::CreateShard(shard) => self.shard_written(now, shard, outcome, effects),
                Purpose::ReplaceSettings => self.settings_written(outcome, effects),
                Purpose::ReplaceOverrides => self.overrides_written(outcome, effects),
            }
        }
    }

    fn read(&mut self, now: Time, key: Key, outcome: ReadOutcome, effects: &mut Vec<Effect>) {
        match key {
            Key::Cluster => self.cluster_read(now, outcome),
            Key::Node(node) => {
                self.drain_read(node, &outcome, effects);
                self.node_read(now, node, outcome);
            }
            Key::Shard(shard) => self.shard_read(now, shard, outcome, effects),
            Key::Settings => self.settings_read(outcome, effects),
            Key::Overrides => self.overrides_read(outcome, effects),
        }
    }

    fn gateway_attended(
        &mut self,
        stream: StreamId,
        gateway: GatewayStatus,
        effects: &mut Vec<Effect>,
    ) {
        // A gateway that comes again before its old stream is seen to end takes its own place.
        let old: Vec<StreamId> = self
            .gateways
            .iter()
            .filter(|(_, known)| known.name == gateway.name && known.address == gateway.address)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in old {
            self.gateways.remove(&stream);
            effects.push(Effect::Refuse {
                stream,
                refusal: Refusal::Superseded,
            });
        }
        if self.gateways.len() >= GATEWAYS_MAX {
            let refusal = Refusal::TooManyGateways {
                limit: GATEWAYS_MAX,
            };
            effects.push(Effect::Note(Note::Refused(refusal.clone())));
            effects.push(Effect::Refuse { stream, refusal });
            return;
        }
        self.gateways.insert(stream, gateway);
        self.is_changed = true;
    }
}
