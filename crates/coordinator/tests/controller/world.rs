//! The world around one controller, in one thread, from one seed. Its replicas promise, lead and report as
//! replication.md says; they keep no log but a position.

use std::collections::{BTreeMap, BTreeSet};

use quorate_coordinator::controller::{
    Attempt, Change, Config, Controller, Effect, Heartbeat, Input, Key, Led, MoveAnswer,
    MoveRequest, Note, OperatorRequest, ReadOutcome, RedialOutcome, Refusal, Registration, Row,
    SettingsAnswer, SettingsRequest, Stored, StreamId, Topology, Wish, WriteNumber, WriteOutcome,
};
use quorate_message::{
    Settings,
    settings::{PartialSettings, Rule},
};
use quorate_replication::{
    Claim, DiskId, Duration, Epoch, FenceAnswer, Incarnation, Index, Member, NodeId, Order,
    Position, RecordVersion, Report, ShardId, ShardRecord, Time,
};

pub(crate) const TIMEOUT_MS: u64 = 1_000;
pub(crate) const HEARTBEAT_MS: u64 = 200;

pub(crate) fn config() -> Config {
    Config {
        expected_nodes: 3,
        shards: 8,
        replicas: 3,
        node_timeout: Duration::from_millis(TIMEOUT_MS),
        heartbeat: Duration::from_millis(HEARTBEAT_MS),
        rebalance: true,
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) promise: Claim,
    pub(crate) end: Position,
    pub(crate) led: BTreeSet<Epoch>,
    pub(crate) leads: Option<Epoch>,
    pub(crate) is_impaired: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) disk: DiskId,
    pub(crate) boot: u64,
    pub(crate) is_running: bool,
    /// The host answers connections to it.
    pub(crate) is_reachable: bool,
    pub(crate) is_disk_healthy: bool,
    /// It wants to stop.
    pub(crate) is_leaving: bool,
    /// How far its wall clock is ahead.
    pub(crate) clock_error_ms: i64,
    /// Neither sends nor receives, without its connections breaking.
    pub(crate) is_cut_off: bool,
    pub(crate) stream: Option<StreamId>,
    pub(crate) node: Option<NodeId>,
    pub(crate) hears: Vec<NodeId>,
    pub(crate) replicas: BTreeMap<ShardId, Replica>,
}

#[derive(Clone, Debug)]
enum Event {
    ToController(Input),
    Order {
        stream: StreamId,
        process: usize,
        shard: ShardId,
        order: Order,
    },
    Report {
        process: usize,
        shard: ShardId,
        report: Report,
    },
    Heartbeat {
        process: usize,
    },
    Connect {
        process: usize,
    },
    Elapsed,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) controller: Controller,
    pub(crate) is_active: bool,
    pub(crate) processes: Vec<Process>,
    pub(crate) rows: BTreeMap<Key, Stored>,
    pub(crate) notes: Vec<Note>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) topologies: Vec<Topology>,
    pub(crate) answers: Vec<(SettingsRequest, SettingsAnswer)>,
    pub(crate) moves: Vec<(MoveRequest, MoveAnswer)>,
    /// Writes and reads are not answered (a result of unknown comes instead).
    pub(crate) is_store_away: bool,
    /// Of a hundred orders and reports, how many are lost.
    pub(crate) loss_percent: u64,
    pub(crate) writes: usize,
    /// Followers get what their leader has.
    pub(crate) is_replicating: bool,
    /// Leaders hand over when they are asked to.
    pub(crate) hands_over: bool,
    /// How long that takes.
    pub(crate) hand_over_us: u64,
    /// What became of what operators wanted.
    pub(crate) operated: Vec<(OperatorRequest, Result<(), Refusal>)>,
    generation: u64,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    next_stream: u64,
    random: u64,
    /// Who was ever granted an epoch, and by which claim.
    grants: BTreeMap<(ShardId, Epoch), (Claim, Member)>,
    claims: BTreeMap<(ShardId, Epoch), Claim>,
    /// Which life of which node ever led an epoch.
    leaders: BTreeMap<(ShardId, Epoch), (usize, u64)>,
}

impl World {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        let processes = (1..=nodes)
            .map(|number| Process {
                name: format!("mq{number:02}"),
                disk: DiskId(number as u64 * 100),
                boot: 0,
                is_running: false,
                is_reachable: true,
                is_disk_healthy: true,
                is_leaving: false,
                clock_error_ms: 0,
                is_cut_off: false,
                stream: None,
                node: None,
                hears: Vec::new(),
                replicas: BTreeMap::new(),
            })
            .collect();
        let mut world = Self {
            now: Time(1_000_000),
            controller: Controller::new(config()),
            is_active: false,
            processes,
            rows: BTreeMap::new(),
            notes: Vec::new(),
            refusals: Vec::new(),
            topologies: Vec::new(),
            answers: Vec::new(),
            moves: Vec::new(),
            is_store_away: false,
            loss_percent: 0,
            writes: 0,
            is_replicating: true,
            hands_over: true,
            hand_over_us: 0,
            operated: Vec::new(),
            generation: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            next_stream: 1,
            random: seed,
            grants: BTreeMap::new(),
            claims: BTreeMap::new(),
            leaders: BTreeMap::new(),
        };
        world.activate();
        world
    }

    /// A bootstrapped cluster of three nodes in which every shard is served.
    pub(crate) fn settled(seed: u64) -> Self {
        let mut world = Self::new(3, seed);
        for process in 0..3 {
            world.start(process);
        }
        world.run_until("every shard is served", 2_000, Self::is_served);
        world.run(1_000);
        world
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    // What can be done to it.

    pub(crate) fn activate(&mut self) {
        self.generation += 1;
        self.is_active = true;
        self.queue
            .retain(|_, event| !matches!(event, Event::ToController(_)));
        self.controller = Controller::new(config());
        let rows = self.rows.values().cloned().collect();
        let seed = self.random(u64::MAX);
        self.tell(Input::Activated {
            generation: self.generation,
            seed,
            rows,
        });
        for process in &mut self.processes {
            process.stream = None;
        }
        for process in 0..self.processes.len() {
            self.connect(process, 1_000);
        }
    }

    pub(crate) fn deactivate(&mut self) {
        self.is_active = false;
        self.tell(Input::Deactivated);
    }

    pub(crate) fn start(&mut self, process: usize) {
        let found = &mut self.processes[process];
        found.is_running = true;
        found.boot += 1;
        found.stream = None;
        self.connect(process, 1_000);
    }

    pub(crate) fn wipe(&mut self, process: usize) {
        let found = &mut self.processes[process];
        found.disk = DiskId(found.disk.0 + 1);
        found.boot = 0;
        found.node = None;
        found.replicas.clear();
    }

    pub(crate) fn kill(&mut self, process: usize) {
        let found = &mut self.processes[process];
        found.is_running = false;
        for replica in found.replicas.values_mut() {
            replica.leads = None;
        }
        self.break_stream(process);
    }

    pub(crate) fn break_stream(&mut self, process: usize) {
        let cut_off = self.processes[process].is_cut_off;
        if let Some(stream) = self.processes[process].stream.take()
            && !cut_off
        {
            self.later(100, Event::ToController(Input::StreamClosed { stream }));
        }
        self.connect(process, 2_000);
    }

    fn connect(&mut self, process: usize, after_us: u64) {
        self.later(after_us, Event::Connect { process });
    }

    /// The controller's process stands still; when it goes on, its clock is the first thing that it notices.
    pub(crate) fn pause(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
        self.tell(Input::Elapsed);
    }

    // What goes on in it.

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.next(end) {}
        self.now = end;
    }

    pub(crate) fn run_until(
        &mut self,
        what: &str,
        millis: u64,
        is_so: impl Fn(&Self) -> bool,
    ) -> u64 {
        let begin = self.now;
        let end = self.now.after(Duration::from_millis(millis));
        while !is_so(self) {
            assert!(
                self.next(end),
                "within {millis} ms: {what}\n{:#?}\n{:#?}",
                self.controller.topology(),
                self.notes
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            );
        }
        self.now.since(begin).0
    }

    fn next(&mut self, end: Time) -> bool {
        if let Some(deadline) = self.controller.next_deadline() {
            let due = deadline.max(self.now);
            if self.queue.keys().next().is_none_or(|(at, _)| *at > due) {
                self.sequence += 1;
                self.queue.insert((due, self.sequence), Event::Elapsed);
            }
        }
        let Some(entry) = self.queue.first_entry() else {
            return false;
        };
        if entry.key().0 > end {
            return false;
        }
        let ((at, _), event) = entry.remove_entry();
        self.now = self.now.max(at);
        self.handle(event);
        true
    }

    fn later(&mut self, after_us: u64, event: Event) {
        self.sequence += 1;
        let at = self.now.after(Duration(after_us));
        self.queue.insert((at, self.sequence), event);
    }

    fn latency(&mut self) -> u64 {
        50 + self.random(400)
    }

    fn is_lost(&mut self) -> bool {
        let percent = self.loss_percent;
        self.random(100) < percent
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToController(input) => self.tell(input),
            Event::Elapsed => self.tell(Input::Elapsed),
            Event::Connect { process } => self.try_connect(process),
            Event::Heartbeat { process } => self.heartbeat(process),
            Event::Report {
                process,
                shard,
                report,
            } => self.report(process, shard, report),
            Event::Order {
                stream,
                process,
                shard,
                order,
            } => {
                let found = &self.processes[process];
                if found.stream == Some(stream) && !found.is_cut_off {
                    self.obey(process, shard, order);
                }
            }
        }
    }

    fn try_connect(&mut self, process: usize) {
        let found = &self.processes[process];
        if !found.is_running || found.stream.is_some() {
            return;
        }
        if found.is_cut_off || !self.is_active {
            self.connect(process, 50_000);
            return;
        }
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let wall_ms = self.wall_ms(process);
        let found = &mut self.processes[process];
        found.stream = Some(stream);
        let registration = Registration {
            name: found.name.clone(),
            address: format!("{}:61601", found.name),
            disk: found.disk,
            boot: found.boot,
            incarnation: Incarnation(found.boot),
            pid: 1,
            node: found.node,
            zone: String::new(),
            weight: 100,
            version: String::new(),
            wall_ms,
        };
        self.later(
            300,
            Event::ToController(Input::Registered {
                stream,
                registration,
            }),
        );
    }

    fn wall_ms(&self, process: usize) -> u64 {
        let right = 1_700_000_000_000 + self.now.0 / 1_000;
        right.saturating_add_signed(self.processes[process].clock_error_ms)
    }

    fn heartbeat(&mut self, process: usize) {
        for shard in 1..=8 {
            self.follow(ShardId(shard));
        }
        let found = &self.processes[process];
        let (Some(stream), true, Some(_)) = (found.stream, found.is_running, found.node) else {
            return;
        };
        let heartbeat = Heartbeat {
            number: 1,
            position: 0,
            is_disk_healthy: found.is_disk_healthy,
            is_leaving: found.is_leaving,
            hears: found.hears.clone(),
            wall_ms: self.wall_ms(process),
            led: found
                .replicas
                .iter()
                .filter_map(|(shard, replica)| {
                    replica.leads.map(|epoch| Led {
                        shard: *shard,
                        epoch,
                        serving: true,
                    })
                })
                .collect(),
        };
        if !found.is_cut_off {
            self.later(
                100,
                Event::ToController(Input::Heartbeat { stream, heartbeat }),
            );
        }
        self.later(HEARTBEAT_MS * 1_000, Event::Heartbeat { process });
    }

    #[expect(clippy::too_many_lines, reason = "one arm per order")]
    fn obey(&mut self, process: usize, shard: ShardId, order: Order) {
        let found = &mut self.processes[process];
        let incarnation = Incarnation(found.boot);
        let disk = found.disk;
        let life = (process, found.boot);
        let replica = found.replicas.entry(shard).or_default();
        let report = match order {
            Order::Probe { nonce } => Report::Probed {
                nonce,
                impaired: replica.is_impaired,
                wiped: false,
            },
            Order::Fence { claim } => {
                if claim.epoch > replica.promise.epoch || claim == replica.promise {
                    replica.promise = claim;
                    replica.leads = replica.leads.filter(|epoch| *epoch == claim.epoch);
                    Report::Fenced(FenceAnswer {
                        claim,
                        end: replica.end,
                        impaired: replica.is_impaired,
                        wiped: false,
                        bound: Some(replica.end),
                        disk,
                        incarnation,
                    })
                } else {
                    Report::FenceRefused {
                        claim,
                        promise: replica.promise,
                    }
                }
            }
            Order::HandOver { claim, to } => Report::HandedOver {
                claim,
                to,
                ready: replica.leads == Some(claim.epoch) && self.hands_over,
            },
            Order::Lead {
                claim,
                incarnation: ordered,
                ..
            } => {
                let is_leading = replica.leads == Some(claim.epoch);
                if !is_leading && (replica.promise != claim || ordered != incarnation) {
                    Report::LeadRefused {
                        claim,
                        promise: replica.promise,
                    }
                } else {
                    if !is_leading {
                        assert!(replica.led.insert(claim.epoch), "led an epoch twice");
                        replica.leads = Some(claim.epoch);
                        replica.end = Position {
                            epoch: claim.epoch,
                            index: Index(replica.end.index.0 + 1),
                        };
                        let first = self.leaders.insert((shard, claim.epoch), life);
                        assert!(
                            first.is_none_or(|first| first == life),
                            "two leaders of {shard} in {}",
                            claim.epoch
                        );
                    }
                    Report::Leading {
                        epoch: claim.epoch,
                        serving: true,
                    }
                }
            }
        };
        self.follow(shard);
        match report {
            Report::HandedOver { .. } if self.hand_over_us > 0 => {
                let event = Event::Report {
                    process,
                    shard,
                    report,
                };
                self.later(self.hand_over_us, event);
            }
            report => self.report(process, shard, report),
        }
    }

    /// Replication in one stroke: followers adopt the leader's epoch, as an append makes them, and hold what it holds.
    fn follow(&mut self, shard: ShardId) {
        let leader = self.processes.iter().find_map(|process| {
            let replica = process.replicas.get(&shard)?;
            let leads = replica.leads.filter(|_| process.is_running)?;
            (leads == replica.promise.epoch).then_some((replica.promise, replica.end))
        });
        let Some((claim, end)) = leader.filter(|_| self.is_replicating) else {
            return;
        };
        for process in &mut self.processes {
            if let Some(replica) = process.replicas.get_mut(&shard)
                && process.is_running
                && (replica.promise.epoch < claim.epoch || replica.promise == claim)
            {
                replica.promise = claim;
                replica.leads = replica.leads.filter(|epoch| *epoch == claim.epoch);
                replica.end = end;
            }
        }
    }

    pub(crate) fn report(&mut self, process: usize, shard: ShardId, report: Report) {
        let found = &self.processes[process];
        let Some(stream) = found.stream.filter(|_| !found.is_cut_off) else {
            return;
        };
        if self.is_lost() {
            return;
        }
        let latency = self.latency();
        self.later(
            latency,
            Event::ToController(Input::Reported {
                stream,
                shard,
                report,
            }),
        );
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.controller.step(self.now, input, &mut effects);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn process_of(&self, stream: StreamId) -> Option<usize> {
        self.processes
            .iter()
            .position(|process| process.stream == Some(stream))
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Admit { stream, node } => {
                if let Some(process) = self.process_of(stream) {
                    self.processes[process].node = Some(node);
                    self.later(500, Event::Heartbeat { process });
                }
            }
            Effect::Refuse { stream, refusal } => {
                self.refusals.push(refusal);
                if let Some(process) = self.process_of(stream) {
                    self.processes[process].stream = None;
                    self.connect(process, 200_000);
                }
            }
            Effect::AnswerHeartbeat { .. } => {}
            Effect::Send {
                stream,
                node: _,
                shard,
                order,
            } => {
                if let Some(process) = self.process_of(stream)
                    && !self.is_lost()
                {
                    let latency = self.latency();
                    self.later(
                        latency,
                        Event::Order {
                            stream,
                            process,
                            shard,
                            order,
                        },
                    );
                }
            }
            Effect::Redial {
                attempt, address, ..
            } => self.redial(attempt, &address),
            Effect::Write { write, changes } => self.write(write, changes),
            Effect::Read { key } => self.read(key),
            Effect::AnswerSettings { request, answer } => self.answers.push((request, answer)),
            Effect::AnswerMove { request, answer } => self.moves.push((request, answer)),
            Effect::AnswerOperator { request, answer } => self.operated.push((request, answer)),
            Effect::PublishTopology(topology) => {
                if let Some(last) = self.topologies.last() {
                    assert!(topology.version > last.version, "the version went back");
                }
                self.topologies.push(topology);
            }
            Effect::Note(note) => self.notes.push(note),
        }
    }

    fn redial(&mut self, attempt: Attempt, address: &str) {
        let process = self
            .processes
            .iter()
            .find(|process| address == format!("{}:61601", process.name));
        let outcome = match process {
            Some(process) if !process.is_reachable || process.is_cut_off => {
                RedialOutcome::Unanswered
            }
            Some(process) if process.is_running => RedialOutcome::Accepted,
            _ => RedialOutcome::Refused,
        };
        self.later(
            200,
            Event::ToController(Input::Redialed { attempt, outcome }),
        );
    }

    fn write(&mut self, write: WriteNumber, changes: Vec<Change>) {
        self.writes += 1;
        let is_away = self.is_store_away;
        let mut outcomes = Vec::new();
        for change in changes {
            // A result that is not known may be of a change that was made.
            let is_made = !is_away || self.random(2) == 0;
            let outcome = if is_made {
                self.change(change.expected, change.row)
            } else {
                WriteOutcome::Unknown
            };
            outcomes.push(if is_away {
                WriteOutcome::Unknown
            } else {
                outcome
            });
        }
        self.later(
            1_000,
            Event::ToController(Input::Written { write, outcomes }),
        );
    }

    fn read(&mut self, key: Key) {
        let outcome = match self.rows.get(&key) {
            _ if self.is_store_away => ReadOutcome::Failed,
            Some(stored) => ReadOutcome::Found(stored.clone()),
            None => ReadOutcome::Absent,
        };
        self.later(500, Event::ToController(Input::Read { key, outcome }));
    }

    fn change(&mut self, expected: RecordVersion, row: Row) -> WriteOutcome {
        let key = row.key();
        let version = self
            .rows
            .get(&key)
            .map_or(RecordVersion(0), |stored| stored.version);
        if version != expected {
            return WriteOutcome::Conflict;
        }
        if let Row::Shard(record) = &row {
            self.check_record(record);
        }
        let version = RecordVersion(version.0 + 1);
        self.rows.insert(key, Stored { version, row });
        WriteOutcome::Stored(version)
    }

    /// What must never happen to a record, judged when it is stored.
    fn check_record(&mut self, record: &ShardRecord) {
        let key = (record.shard, record.claim.epoch);
        let claim = *self.claims.entry(key).or_insert(record.claim);
        assert_eq!(claim, record.claim, "two claims of one epoch");
        if let Some(leader) = record.leader {
            assert!(record.voters.contains(&leader), "the leader is no voter");
            let first = *self.grants.entry(key).or_insert((record.claim, leader));
            assert_eq!(first, (record.claim, leader), "two grants of one epoch");
        }
    }

    /// An operator wants something.
    pub(crate) fn wish(&mut self, request: u64, wish: Wish) {
        let request = OperatorRequest(request);
        self.tell(Input::Wished { request, wish });
        self.run(5);
    }

    /// A gateway wants a rule of `orders` with so many messages in place of the settings of this version.
    pub(crate) fn want_settings(&mut self, request: u64, expected: u64, max_messages: u64) {
        let rule = Rule {
            pattern: "orders".parse().expect("a pattern"),
            settings: PartialSettings {
                max_messages: Some(max_messages),
                ..PartialSettings::default()
            },
        };
        self.tell(Input::SettingsWanted {
            request: SettingsRequest(request),
            expected,
            settings: Settings::with_rules(0, [rule]).expect("a good rule"),
        });
    }

    /// A gateway wants `orders` to live in a shard.
    pub(crate) fn want_move(&mut self, request: u64, name: &str, to: u32) {
        self.tell(Input::MoveWanted {
            request: MoveRequest(request),
            name: name.parse().expect("a name"),
            to: ShardId(to),
        });
    }

    // What can be seen of it.

    /// Version of the settings that are told, and what they say of `orders`.
    pub(crate) fn settings(&self) -> (u64, u64) {
        let settings = &self.controller.topology().settings;
        let orders = "orders".parse().expect("a name");
        (settings.version(), settings.of(&orders).max_messages)
    }

    pub(crate) fn record(&self, shard: u32) -> ShardRecord {
        match self
            .rows
            .get(&Key::Shard(ShardId(shard)))
            .map(|row| &row.row)
        {
            Some(Row::Shard(record)) => record.clone(),
            other => panic!("no record of shard {shard}: {other:?}"),
        }
    }

    pub(crate) fn leader(&self, shard: u32) -> Option<usize> {
        let leader = self.record(shard).leader?;
        self.processes
            .iter()
            .position(|process| process.node == Some(leader.node))
    }

    /// Every shard is led, in the store's epoch, by a running node that the topology names.
    pub(crate) fn is_served(&self) -> bool {
        let topology = self.controller.topology();
        topology.shards.len() == 8
            && topology.shards.iter().all(|status| {
                let record = self.record(status.shard.0);
                record.leader.is_some_and(|leader| {
                    status.leader == Some(leader)
                        && status.epoch == record.claim.epoch
                        && self.processes.iter().any(|process| {
                            process.node == Some(leader.node)
                                && process.disk == leader.disk
                                && process.is_running
                                && process.replicas.get(&status.shard).is_some_and(|replica| {
                                    replica.leads == Some(record.claim.epoch)
                                })
                        })
                })
            })
    }

    pub(crate) fn leads(&self) -> Vec<usize> {
        let mut leads = vec![0; self.processes.len()];
        for shard in 1..=8 {
            if let Some(leader) = self.leader(shard) {
                leads[leader] += 1;
            }
        }
        leads
    }

    pub(crate) fn epochs(&self) -> Vec<u64> {
        (1..=8)
            .map(|shard| self.record(shard).claim.epoch.0)
            .collect()
    }

    pub(crate) fn reason(&self, shard: u32) -> String {
        let topology = self.controller.topology();
        let status = topology
            .shards
            .iter()
            .find(|status| status.shard.0 == shard);
        status
            .map(|status| status.reason.clone())
            .unwrap_or_default()
    }

    pub(crate) fn elections(&self) -> usize {
        self.notes
            .iter()
            .filter(|note| matches!(note, Note::ElectionStarted { .. }))
            .count()
    }
}
