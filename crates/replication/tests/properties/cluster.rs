//! A small cluster around the real machines: disks that lose what is not synced, a network that loses, repeats and
//! reorders, a store with compare-and-set, coordinators. Every step is judged by the crate's invariants.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_replication::{
    Act, Claim, ClaimId, Config, DiskId, Duration, Effect, Effects, Election, ElectionConfig,
    ElectionEffect, ElectionEffects, ElectionInput, Entry, Epoch, Incarnation, Index, Input,
    Member, Message, NodeId, Nonce, Order, Position, RecordVersion, Recovered, Replica, Report,
    RequestId, ShardId, ShardRecord, Stamp, Swapped, Time, Write, WriteId, invariant,
    quorum::{self, Preference},
};

pub(crate) const NODES: usize = 3;
pub(crate) const COORDINATORS: usize = 2;

/// What a node's disk holds for good.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    promise: Claim,
    bound: Option<Position>,
    impaired: bool,
    base: Position,
    log: Vec<Entry>,
}

impl Disk {
    fn end(&self) -> Position {
        self.log.last().map_or(self.base, Entry::position)
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Append(entries) => {
                for entry in entries {
                    assert_eq!(
                        entry.index,
                        self.end().index.next(),
                        "appends follow the log's end"
                    );
                    self.log.push(entry);
                }
            }
            Write::Cut { after } => self.log.retain(|entry| entry.index <= after),
            Write::Promise(claim) => {
                check(invariant::promise_never_goes_back(self.promise, claim));
                self.promise = claim;
            }
            Write::Bound(bound) => self.bound = Some(bound),
            Write::Impaired(impaired) => self.impaired = impaired,
        }
    }

    fn holds(&self, position: Position) -> bool {
        position.index <= self.base.index
            || self.log.iter().any(|entry| entry.position() == position)
    }

    fn read(&self, first: Index, last: Index) -> Vec<Entry> {
        let wanted = first..=last;
        self.log
            .iter()
            .filter(|entry| wanted.contains(&entry.index))
            .take(3)
            .cloned()
            .collect()
    }
}

pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) replica: Option<Replica>,
    incarnation: u64,
    pending: Vec<(WriteId, Write)>,
    synced: WriteId,
    told: WriteId,
    held: Vec<Effect>,
    announced: Index,
    checkpoint: Index,
}

#[derive(Clone, Debug)]
enum Packet {
    Peer {
        from: usize,
        to: usize,
        message: Message,
    },
    Order {
        to: usize,
        order: Order,
    },
    Report {
        from: usize,
        report: Report,
    },
    Swap {
        by: usize,
        life: u64,
        request: RequestId,
        expected: RecordVersion,
        record: ShardRecord,
    },
    Read {
        by: usize,
        life: u64,
        request: RequestId,
    },
}

pub(crate) struct Coordinator {
    pub(crate) election: Election,
    life: u64,
}

pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) coordinators: Vec<Option<Coordinator>>,
    network: Vec<Packet>,
    record: ShardRecord,
    version: RecordVersion,
    fresh: u64,
    leaders: BTreeMap<Epoch, NodeId>,
    committed: BTreeMap<Index, Entry>,
    pub(crate) rotted: bool,
    proposed: u64,
}

fn check(result: Result<(), invariant::Violation>) {
    if let Err(violation) = result {
        panic!("{violation}");
    }
}

pub(crate) fn member(node: usize) -> Member {
    let number = u32::try_from(node + 1).expect("few nodes");
    Member {
        node: NodeId(number),
        disk: DiskId(100 + u64::from(number)),
    }
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.0).expect("few nodes") - 1
}

fn config() -> Config {
    Config {
        max_append_bytes: 200,
        max_in_flight_bytes: 400,
        tail_bytes: 300,
        bound_step: 4,
        ..Config::default()
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let disk = Disk {
            promise: Claim::default(),
            bound: None,
            impaired: false,
            base: Position::default(),
            log: Vec::new(),
        };
        let node = |_| Node {
            disk: disk.clone(),
            replica: None,
            incarnation: 0,
            pending: Vec::new(),
            synced: WriteId(0),
            told: WriteId(0),
            held: Vec::new(),
            announced: Index(0),
            checkpoint: Index(0),
        };
        let mut cluster = Self {
            now: Time(0),
            nodes: (0..NODES).map(node).collect(),
            coordinators: (0..COORDINATORS).map(|_| None).collect(),
            network: Vec::new(),
            record: ShardRecord {
                shard: ShardId(1),
                claim: Claim::default(),
                leader: None,
                voters: (0..NODES).map(member).collect(),
                next_voters: None,
                learners: Vec::new(),
            },
            version: RecordVersion(1),
            fresh: 0,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            rotted: false,
            proposed: 0,
        };
        for node in 0..NODES {
            cluster.start(node);
        }
        cluster
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
    }

    /// Starts a node that is down.
    pub(crate) fn start(&mut self, node: usize) {
        let now = self.now;
        let Node {
            disk,
            replica,
            incarnation,
            announced,
            checkpoint,
            ..
        } = &mut self.nodes[node];
        if replica.is_some() {
            return;
        }
        *incarnation += 1;
        let mut epochs: Vec<(Epoch, Index)> = Vec::new();
        for entry in &disk.log {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < entry.epoch) {
                epochs.push((entry.epoch, entry.index));
            }
        }
        let recovered = Recovered {
            shard: ShardId(1),
            node: member(node).node,
            disk: member(node).disk,
            incarnation: Incarnation(*incarnation),
            promise: Some(disk.promise),
            bound: disk.bound,
            impaired: disk.impaired,
            base: disk.base,
            end: disk.end(),
            epochs,
            stamp: Stamp(0),
            committed: *checkpoint,
        };
        *announced = *checkpoint;
        *replica = Some(Replica::open(config(), recovered, now));
    }

    /// Kills a node: of its unsynced writes the first `survive` reach the disk all the same.
    pub(crate) fn crash(&mut self, node: usize, survive: usize) {
        let node = &mut self.nodes[node];
        let survive = survive.min(node.pending.len());
        for (_, write) in node.pending.drain(..survive) {
            node.disk.apply(write);
        }
        node.pending.clear();
        node.held.clear();
        (node.synced, node.told) = (WriteId(0), WriteId(0));
        node.replica = None;
    }

    /// A record that was torn by a crash, or has rotted, at or below the bound: the log layer cannot tell which, cuts
    /// the log there and says impaired.
    pub(crate) fn rot(&mut self, node: usize, lost: usize) {
        self.crash(node, 0);
        let disk = &mut self.nodes[node].disk;
        let keep = disk.log.len().saturating_sub(lost);
        if lost > 0 && keep < disk.log.len() {
            disk.log.truncate(keep);
            disk.impaired = true;
            self.rotted = true;
        }
    }

    /// Syncs the first `count` waiting writes, and tells the replica if `tell`.
    pub(crate) fn sync(&mut self, node: usize, count: usize, tell: bool) {
        let target = &mut self.nodes[node];
        let count = count.min(target.pending.len());
        for (id, write) in target.pending.drain(..count) {
            target.disk.apply(write);
            target.synced = id;
        }
        if tell && target.told < target.synced && target.replica.is_some() {
            target.told = target.synced;
            let synced = target.synced;
            let (ready, held) = std::mem::take(&mut target.held)
                .into_iter()
                .partition(|effect| effect.after.is_none_or(|after| after <= synced));
            target.held = held;
            self.carry_out(node, ready);
            self.step(node, Input::Persisted(synced));
        }
    }

    pub(crate) fn step(&mut self, node: usize, input: Input) {
        let (now, target) = (self.now, &mut self.nodes[node]);
        let Some(replica) = &mut target.replica else {
            return;
        };
        let mut effects = Effects::default();
        let before = replica.commit();
        replica.step(now, input, &mut effects);
        check(invariant::commit_never_goes_back(before, replica.commit()));
        let synced = target.told;
        let (ready, held): (Vec<_>, Vec<_>) = effects
            .0
            .into_iter()
            .partition(|effect| effect.after.is_none_or(|after| after <= synced));
        target.held.extend(held);
        self.carry_out(node, ready);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<Effect>) {
        for Effect { act, .. } in effects {
            match act {
                Act::Persist { id, write } => self.nodes[node].pending.push((id, write)),
                Act::Send { to, message } => {
                    self.judge_answer(node, &message);
                    self.network.push(Packet::Peer {
                        from: node,
                        to: place(to),
                        message,
                    });
                }
                Act::Report(report) => {
                    self.judge_report(node, &report);
                    self.network.push(Packet::Report { from: node, report });
                }
                Act::Commit(index) => self.judge_commit(node, index),
                Act::Load {
                    to, first, last, ..
                } => {
                    let entries = self.nodes[node].disk.read(first, last);
                    self.step(node, Input::Loaded { to, first, entries });
                }
                Act::InstallNeeded { to } => self.install(node, place(to)),
                Act::Led { epoch } => self.judge_leader(node, epoch),
                Act::Serving { .. } | Act::Deposed { .. } | Act::Lease { .. } | Act::Note(_) => {}
            }
        }
    }

    /// What is acknowledged is on the disk, within a bound that is on the disk too.
    fn judge_answer(&self, node: usize, message: &Message) {
        let disk = &self.nodes[node].disk;
        if let Message::Appended {
            impaired: false,
            matched,
            epoch,
            ..
        } = message
        {
            assert!(
                disk.promise.epoch >= *epoch,
                "an answer before the promise is durable"
            );
            assert!(!disk.impaired, "unimpaired before that is durable");
            if let Some(entry) = disk.log.iter().find(|entry| entry.index == *matched) {
                assert!(
                    disk.bound >= Some(entry.position()),
                    "acknowledged beyond the bound"
                );
            } else {
                assert!(
                    *matched <= disk.base.index,
                    "acknowledged what is not durable"
                );
            }
        }
    }

    fn judge_report(&self, node: usize, report: &Report) {
        if let Report::Fenced(answer) = report {
            let disk = &self.nodes[node].disk;
            assert!(
                disk.promise.epoch >= answer.claim.epoch,
                "fenced before the promise is durable"
            );
        }
    }

    fn judge_leader(&mut self, node: usize, epoch: Epoch) {
        check(invariant::leads_an_epoch_once(&self.leaders, epoch));
        check(invariant::one_leader_per_epoch(
            &mut self.leaders,
            epoch,
            member(node).node,
        ));
        let replica = self.nodes[node].replica.as_ref().expect("who leads is up");
        let committed = self
            .committed
            .iter()
            .map(|(index, entry)| (*index, entry.epoch))
            .collect();
        check(invariant::leader_holds_committed(
            &committed,
            epoch,
            replica.base().index,
            |index| replica.epoch_at(index),
        ));
    }

    fn judge_commit(&mut self, node: usize, index: Index) {
        let replica = self.nodes[node]
            .replica
            .as_ref()
            .expect("who commits is up");
        let (leads, first) = (replica.is_leading(), self.nodes[node].announced.next());
        let mut at = first;
        while at <= index {
            let on_disk = || {
                self.nodes[node]
                    .disk
                    .log
                    .iter()
                    .find(|entry| entry.index == at)
            };
            let entry = replica
                .tail_entry(at)
                .or_else(on_disk)
                .expect("what is committed is at hand");
            check(invariant::one_entry_per_committed_index(
                &mut self.committed,
                at,
                entry,
            ));
            at = at.next();
        }
        if leads && !self.rotted {
            let position = Position {
                epoch: self.committed[&index].epoch,
                index,
            };
            assert!(
                quorum::is_quorum(&self.record, |m| self.nodes[place(m.node)]
                    .disk
                    .holds(position)),
                "{position} was committed without a durable majority"
            );
        }
        self.nodes[node].announced = index;
    }

    /// A durable checkpoint of what a node was told is committed; the log below it goes.
    pub(crate) fn checkpoint(&mut self, node: usize) {
        let target = &mut self.nodes[node];
        let Some(replica) = &target.replica else {
            return;
        };
        let at = target.announced.min(replica.durable());
        let on_disk = target.disk.log.iter().find(|entry| entry.index == at);
        let Some(base) = on_disk.map(Entry::position) else {
            return;
        };
        if !target.pending.is_empty() || at <= target.disk.base.index {
            return;
        }
        target.checkpoint = at;
        target.disk.base = base;
        target.disk.log.retain(|entry| entry.index > at);
        self.step(node, Input::Trimmed { base });
        assert_eq!(
            self.nodes[node].replica.as_ref().map(Replica::base),
            Some(base)
        );
    }

    /// The layer above: a checkpoint transfer, all at once.
    fn install(&mut self, leader: usize, to: usize) {
        let at = self.nodes[leader].disk.base;
        let promise = self.nodes[leader].replica.as_ref().map(Replica::promise);
        let target = &mut self.nodes[to];
        let Some(replica) = &target.replica else {
            return;
        };
        let is_wanted = replica.wants_install(at) && Some(replica.promise()) == promise;
        if !is_wanted || !target.pending.is_empty() {
            return;
        }
        (target.disk.base, target.checkpoint) = (at, at.index);
        target.disk.log.clear();
        target.announced = target.announced.max(at.index);
        let (stamp, transfer) = (Stamp(0), Nonce(0));
        self.step(
            to,
            Input::Installed {
                at,
                stamp,
                transfer,
            },
        );
    }

    pub(crate) fn propose(&mut self, node: usize, count: usize) {
        let can = self.nodes[node]
            .replica
            .as_ref()
            .is_some_and(Replica::can_propose);
        if !can {
            return;
        }
        let payloads = (0..count)
            .map(|_| {
                self.proposed += 1;
                Bytes::from(self.proposed.to_be_bytes().to_vec())
            })
            .collect();
        self.step(
            node,
            Input::Proposed {
                stamp: Stamp(0),
                payloads,
            },
        );
    }

    pub(crate) fn tick(&mut self, node: usize) {
        let nonce = Nonce(self.fresh());
        self.step(node, Input::Elapsed { nonce });
    }

    /// A coordinator begins anew, with what the store says at this moment.
    pub(crate) fn take_over(&mut self, by: usize) {
        let (record, version) = (self.record.clone(), self.version);
        self.begin(by, record, version, true);
    }

    /// A coordinator replaces the leader that it knows of, which may be an old one.
    pub(crate) fn elect(&mut self, by: usize) {
        let (record, version) = match &self.coordinators[by] {
            Some(coordinator) => {
                let (record, version) = coordinator.election.record();
                (record.clone(), version)
            }
            None => (self.record.clone(), self.version),
        };
        self.begin(by, record, version, false);
    }

    fn begin(&mut self, by: usize, record: ShardRecord, version: RecordVersion, over: bool) {
        let fresh = ClaimId(self.fresh());
        let life = self.fresh();
        let mut effects = ElectionEffects::default();
        let make = if over {
            Election::take_over
        } else {
            Election::claim
        };
        let preference = Preference::default();
        let config = ElectionConfig::default();
        let election = make(
            config,
            record,
            version,
            preference,
            self.now,
            fresh,
            &mut effects,
        );
        self.coordinators[by] = Some(Coordinator { election, life });
        self.decide(by, life, effects);
    }

    pub(crate) fn tick_coordinator(&mut self, by: usize) {
        self.tell(by, ElectionInput::Elapsed);
    }

    fn tell(&mut self, by: usize, input: ElectionInput) {
        let fresh = ClaimId(self.fresh());
        let now = self.now;
        let Some(coordinator) = &mut self.coordinators[by] else {
            return;
        };
        let mut effects = ElectionEffects::default();
        coordinator.election.step(now, fresh, input, &mut effects);
        let life = coordinator.life;
        let stuck = coordinator.election.stuck();
        check(invariant::leaderless_has_a_reason(
            coordinator.election.is_over(),
            stuck.as_ref(),
        ));
        self.decide(by, life, effects);
    }

    fn decide(&mut self, by: usize, life: u64, effects: ElectionEffects) {
        for effect in effects.0 {
            match effect {
                ElectionEffect::Order { to, order } => {
                    self.network.push(Packet::Order {
                        to: place(to.node),
                        order,
                    });
                }
                ElectionEffect::Swap {
                    request,
                    expected,
                    record,
                } => {
                    self.network.push(Packet::Swap {
                        by,
                        life,
                        request,
                        expected,
                        record,
                    });
                }
                ElectionEffect::Read { request } => {
                    self.network.push(Packet::Read { by, life, request });
                }
                ElectionEffect::Recorded { .. }
                | ElectionEffect::Serves { .. }
                | ElectionEffect::Note(_) => {}
            }
        }
    }

    fn store_answers(&mut self, by: usize, life: u64, input: ElectionInput) {
        let is_same = self.coordinators[by]
            .as_ref()
            .is_some_and(|known| known.life == life);
        if is_same {
            self.tell(by, input);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.network.len()
    }

    /// Delivers one of the packets under way, and again if `keep`.
    pub(crate) fn deliver(&mut self, which: usize, keep: bool) {
        if self.network.is_empty() {
            return;
        }
        let which = which % self.network.len();
        let packet = self.network.remove(which);
        if keep && !matches!(packet, Packet::Swap { .. } | Packet::Read { .. }) {
            self.network.push(packet.clone());
        }
        match packet {
            Packet::Peer { from, to, message } => {
                self.step(
                    to,
                    Input::Received {
                        from: member(from).node,
                        message,
                    },
                );
            }
            Packet::Order { to, order } => self.step(to, Input::Ordered(order)),
            Packet::Report { from, report } => {
                for by in 0..COORDINATORS {
                    let (from, report) = (member(from), report.clone());
                    self.tell(by, ElectionInput::Reported { from, report });
                }
            }
            Packet::Swap {
                by,
                life,
                request,
                expected,
                record,
            } => {
                let result = self.swap(expected, record);
                self.store_answers(by, life, ElectionInput::Swapped { request, result });
            }
            Packet::Read { by, life, request } => {
                let found = Some((self.record.clone(), self.version));
                self.store_answers(by, life, ElectionInput::Read { request, found });
            }
        }
    }

    fn swap(&mut self, expected: RecordVersion, record: ShardRecord) -> Swapped {
        if expected != self.version {
            return Swapped::Conflict {
                record: self.record.clone(),
                version: self.version,
            };
        }
        self.record = record;
        self.version = RecordVersion(self.version.0 + 1);
        Swapped::Done(self.version)
    }

    /// Loses a packet. The answer of the store is not lost but unknown, and the write itself may still come.
    pub(crate) fn lose(&mut self, which: usize, later: bool) {
        if self.network.is_empty() {
            return;
        }
        let which = which % self.network.len();
        match self.network.remove(which) {
            Packet::Peer { .. } | Packet::Order { .. } | Packet::Report { .. } => {}
            Packet::Swap {
                by,
                life,
                request,
                expected,
                record,
            } => {
                if later {
                    let life = 0;
                    self.network.push(Packet::Swap {
                        by,
                        life,
                        request,
                        expected,
                        record,
                    });
                }
                let result = Swapped::Unknown;
                self.store_answers(by, life, ElectionInput::Swapped { request, result });
            }
            Packet::Read { by, life, request } => {
                self.store_answers(
                    by,
                    life,
                    ElectionInput::Read {
                        request,
                        found: None,
                    },
                );
            }
        }
    }

    /// Lets everything happen in order, without faults, for a while.
    pub(crate) fn calm(&mut self, rounds: usize, millis: u64) {
        for _ in 0..rounds {
            for _ in 0..self.waiting().min(200) {
                self.deliver(0, false);
            }
            for node in 0..NODES {
                self.sync(node, usize::MAX, true);
            }
            self.pass(millis);
            for node in 0..NODES {
                let deadline = self.nodes[node]
                    .replica
                    .as_ref()
                    .and_then(Replica::next_deadline);
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.tick(node);
                }
            }
            for by in 0..COORDINATORS {
                let known = self.coordinators[by].as_ref();
                let deadline = known.and_then(|known| known.election.next_deadline());
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.tick_coordinator(by);
                }
            }
        }
    }

    /// The node that serves in the highest epoch.
    pub(crate) fn serving(&self) -> Option<usize> {
        let serves = |node: &Node| node.replica.as_ref().is_some_and(Replica::is_serving);
        (0..NODES)
            .filter(|node| serves(&self.nodes[*node]))
            .max_by_key(|node| self.nodes[*node].replica.as_ref().map(Replica::epoch))
    }
}
