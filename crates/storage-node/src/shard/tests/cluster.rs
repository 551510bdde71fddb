//! Three shards wired together in memory: disks that are durable at once, a network that loses only what the test
//! cuts, and a clock that the test moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_broker::{Credit, SessionId};
use quorate_message::{
    BatchBuilder, ConsumerId, Destination, DestinationName, GatewayId, MessagePosition, ProducerId,
    Publication, Settlement,
};
use quorate_replication::{
    Claim, ClaimId, Config, DiskId, Entry, Epoch, Incarnation, Index, Member, Message, NodeId,
    Nonce, Order, Position, RecordVersion, Recovered, Report, ShardId, ShardRecord, Stamp, Time,
    Write, WriteId,
};

use crate::shard::{
    Shard,
    between::ShardMessage,
    effect::{Act, BrowsePage, Effect, Note, Read, SessionEvent},
    input::{Checkpoint, Clock, Input, RequestId, SegmentInfo, SessionRequest, Submission},
    moving::MovePage,
};

/// Entries of one segment of the disks here.
const SEGMENT_ENTRIES: u64 = 4;
/// What a segment says that it takes: more than is kept for followers that lag.
const SEGMENT_BYTES: u64 = 1 << 30;

/// What a node keeps over a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) entries: BTreeMap<Index, Entry>,
    promise: Claim,
    bound: Option<Position>,
    impaired: bool,
    pub(super) base: Position,
    pub(super) checkpoint: Option<Checkpoint>,
    staging: BTreeMap<Index, Entry>,
    end: Position,
    stamp: Stamp,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) disk: Disk,
    incarnation: Incarnation,
    durable: WriteId,
    held: Vec<(WriteId, Act)>,
    inbox: VecDeque<Input>,
    pub(super) reports: Vec<Report>,
    pub(super) notes: Vec<Note>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) down: BTreeSet<NodeId>,
    pub(super) events: Vec<(NodeId, SessionEvent)>,
    /// What goes to leaders of other shards.
    pub(super) letters: Vec<(ShardId, ShardMessage)>,
    /// Pages of queues.
    pub(super) browsed: Vec<BrowsePage>,
    /// What became of pages that were to be moved.
    pub(super) pages: Vec<MovePage>,
    /// What the coordinator is told of moves of names: the move, and why it cannot be.
    pub(super) moves: Vec<(u64, String)>,
    /// A node that dies after so many more of its effects.
    pub(super) doomed: Option<(NodeId, u64)>,
    /// Every twentieth piece of what a leader hands over is lost.
    pub(super) loses_pieces: bool,
    /// Pieces that were sent.
    pub(super) pieces: u64,
    /// Reads of single entries wait until `read_all`.
    pub(super) has_slow_reads: bool,
    reads: Vec<(NodeId, RequestId, Read)>,
    /// How far nodes' wall clocks are ahead.
    pub(super) ahead_ms: BTreeMap<NodeId, u64>,
    shard: ShardId,
    now: u64,
    epoch: u64,
}

fn member(node: NodeId) -> Member {
    Member {
        node,
        disk: DiskId(u64::from(node.0) * 11),
    }
}

pub(super) fn queue(name: &str) -> DestinationName {
    DestinationName::new(name).unwrap()
}

/// A batch that publishes numbers `first..first + count` of one producer.
pub(super) fn publishes(name: &str, first: u64, count: u64) -> Bytes {
    let destination = Destination::queue(queue(name));
    let mut builder = BatchBuilder::persistent();
    for number in first..first + count {
        let publication = Publication {
            destination: &destination,
            producer: ProducerId([7; 16]),
            number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        let message = quorate_message::Message {
            body: Bytes::from(format!("message {number}")),
            ..quorate_message::Message::default()
        };
        builder.publish_message(&publication, &message).unwrap();
    }
    builder.finish()
}

pub(super) fn settles(name: &str, positions: &[MessagePosition]) -> Bytes {
    let mut builder = BatchBuilder::persistent();
    for position in positions {
        builder
            .settle(&queue(name), *position, Settlement::Accept)
            .unwrap();
    }
    builder.finish()
}

impl Node {
    fn open(shard: ShardId, node: NodeId, disk: Disk, incarnation: Incarnation, now: u64) -> Self {
        let mut epochs: Vec<(Epoch, Index)> = Vec::new();
        for entry in disk
            .entries
            .range(disk.base.index.next()..)
            .map(|(_, entry)| entry)
        {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != entry.epoch) {
                epochs.push((entry.epoch, entry.index));
            }
        }
        let recovered = Recovered {
            shard,
            node,
            disk: member(node).disk,
            incarnation,
            promise: Some(disk.promise),
            bound: disk.bound,
            impaired: disk.impaired,
            base: disk.base,
            end: disk.end,
            epochs,
            stamp: disk.stamp,
            committed: disk
                .checkpoint
                .as_ref()
                .map_or(Index(0), |checkpoint| checkpoint.at.index),
        };
        let config = Config {
            // Everything but the newest entry is read from the disk.
            tail_bytes: 1,
            ..Config::default()
        };
        let machine = Shard::open(config, recovered, disk.checkpoint.clone(), Time(now)).unwrap();
        Self {
            shard: machine,
            disk,
            incarnation,
            durable: WriteId(0),
            held: Vec::new(),
            inbox: VecDeque::new(),
            reports: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Append(entries) => {
                for entry in entries {
                    assert_eq!(entry.index, self.end.index.next(), "appends follow the end");
                    self.end = entry.position();
                    self.stamp = entry.stamp;
                    self.entries.insert(entry.index, entry);
                }
            }
            Write::Cut { after } => {
                self.entries.split_off(&after.next());
                let last = self.entries.range(self.base.index.next()..).next_back();
                self.end = last.map_or(self.base, |(_, entry)| entry.position());
            }
            Write::Promise(claim) => self.promise = claim,
            Write::Bound(bound) => self.bound = Some(bound),
            Write::Impaired(impaired) => self.impaired = impaired,
        }
    }

    fn read(&self, read: Read) -> Vec<Entry> {
        match read {
            Read::Range {
                first,
                last,
                max_bytes,
            } => {
                let mut next = first;
                let mut bytes = 0;
                let mut found = Vec::new();
                while let Some(entry) = self.entries.get(&next).filter(|entry| entry.index <= last)
                {
                    bytes += entry.cost_bytes();
                    found.push(entry.clone());
                    next = next.next();
                    if bytes >= max_bytes {
                        break;
                    }
                }
                found
            }
            Read::Entries { indexes, .. } => indexes
                .iter()
                .filter_map(|index| self.entries.get(index).cloned())
                .collect(),
        }
    }

    /// Closed segments, by the number of their first entry.
    fn segments(&self) -> Vec<SegmentInfo> {
        let mut firsts: BTreeMap<u64, (Index, Index)> = BTreeMap::new();
        for index in self.entries.keys() {
            let number = index.0 / SEGMENT_ENTRIES;
            firsts.entry(number).or_insert((*index, *index)).1 = *index;
        }
        firsts.pop_last();
        firsts
            .into_values()
            .map(|(first, last)| SegmentInfo {
                first,
                last,
                size_bytes: SEGMENT_BYTES,
            })
            .collect()
    }

    fn drop_segments(&mut self, firsts: &[Index]) {
        for segment in self.segments() {
            if firsts.contains(&segment.first) {
                let last = self.entries[&segment.last].position();
                self.entries
                    .retain(|index, _| *index < segment.first || *index > segment.last);
                self.base = self.base.max(last);
            }
        }
    }
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self::of_shard(ShardId(1))
    }

    pub(super) fn of_shard(shard: ShardId) -> Self {
        let nodes = (1..=3).map(NodeId);
        Self {
            nodes: nodes
                .map(|node| {
                    (
                        node,
                        Node::open(shard, node, Disk::default(), Incarnation(1), 0),
                    )
                })
                .collect(),
            down: BTreeSet::new(),
            events: Vec::new(),
            letters: Vec::new(),
            browsed: Vec::new(),
            pages: Vec::new(),
            moves: Vec::new(),
            doomed: None,
            loses_pieces: false,
            pieces: 0,
            has_slow_reads: false,
            reads: Vec::new(),
            ahead_ms: BTreeMap::new(),
            shard,
            now: 1_000_000,
            epoch: 0,
        }
    }

    pub(super) fn node(&self, node: u32) -> &Node {
        &self.nodes[&NodeId(node)]
    }

    /// Feeds an input and lets everything settle that follows from it at once.
    pub(super) fn input(&mut self, node: u32, input: Input) {
        self.nodes
            .get_mut(&NodeId(node))
            .unwrap()
            .inbox
            .push_back(input);
        self.settle();
    }

    pub(super) fn submit(&mut self, node: u32, number: u64, batch: Bytes) {
        self.submit_after(node, (None, number), batch);
    }

    /// A batch that is to be taken right after another one.
    pub(super) fn submit_after(
        &mut self,
        node: u32,
        (previous, number): (Option<u64>, u64),
        batch: Bytes,
    ) {
        let submission = Submission {
            session: SessionId(1),
            number,
            previous,
            batch,
        };
        self.input(node, Input::Submitted(vec![submission]));
    }

    pub(super) fn attach(&mut self, node: u32, generation: u64, held: Vec<MessagePosition>) {
        let request = SessionRequest::Attach {
            consumer: ConsumerId([9; 16]),
            generation,
            queue: Destination::queue(queue("orders")),
            credit: Credit {
                messages: 1000,
                bytes: 1 << 20,
            },
            held,
            terms: quorate_broker::Terms::default(),
            shares_credit: false,
        };
        self.ask(node, request);
    }

    /// A gateway's session asks for something.
    pub(super) fn ask(&mut self, node: u32, request: SessionRequest) {
        let session = SessionId(1);
        let gateway = GatewayId([6; 16]);
        self.input(
            node,
            Input::Session {
                session,
                gateway,
                request,
            },
        );
    }

    /// What sessions were told since the last call.
    pub(super) fn told(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
            .into_iter()
            .map(|(_, event)| event)
            .collect()
    }

    /// Moves the clock in steps of ten milliseconds.
    pub(super) fn advance(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now += 10_000;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                let node = self.nodes.get_mut(&id).unwrap();
                let is_due = node
                    .shard
                    .next_deadline()
                    .is_some_and(|at| at.0 <= self.now);
                if is_due && !self.down.contains(&id) {
                    let nonce = Nonce(self.now);
                    node.inbox.push_back(Input::Elapsed { nonce });
                }
            }
            self.settle();
        }
    }

    /// What a node's wall clock shows.
    pub(super) fn wall_ms(&self, node: u32) -> u64 {
        let ahead = self.ahead_ms.get(&NodeId(node));
        self.now / 1000 + ahead.copied().unwrap_or(0)
    }

    /// Fences all that are up, and lets `leader` lead.
    pub(super) fn elect(&mut self, leader: u32) {
        self.epoch += 1;
        let claim = Claim {
            epoch: Epoch(self.epoch),
            id: ClaimId(self.epoch * 100),
        };
        for node in 1..=3 {
            if !self.down.contains(&NodeId(node)) {
                self.input(node, Input::Order(Order::Fence { claim }));
            }
        }
        let record = ShardRecord {
            shard: self.shard,
            claim,
            leader: Some(member(NodeId(leader))),
            voters: (1..=3).map(|node| member(NodeId(node))).collect(),
            next_voters: None,
            learners: Vec::new(),
        };
        let order = Order::Lead {
            claim,
            incarnation: self.node(leader).incarnation,
            record,
            version: RecordVersion(self.epoch),
        };
        self.input(leader, Input::Order(order));
        self.advance(250);
    }

    /// Answers the reads that wait.
    pub(super) fn read_all(&mut self) {
        for (id, request, read) in std::mem::take(&mut self.reads) {
            let node = self.nodes.get_mut(&id).unwrap();
            let entries = node.disk.read(read);
            node.inbox.push_back(Input::Loaded { request, entries });
        }
        self.settle();
    }

    /// Kills a node and starts it again from its disk.
    pub(super) fn restart(&mut self, node: u32) {
        let id = NodeId(node);
        let old = self.nodes.remove(&id).unwrap();
        let incarnation = Incarnation(old.incarnation.0 + 1);
        self.nodes.insert(
            id,
            Node::open(self.shard, id, old.disk, incarnation, self.now),
        );
    }

    /// Starts a node again from its disk, and leaves the process that was there as it is, cut off from everybody.
    pub(super) fn part_with(&mut self, node: u32) -> Node {
        let old = &self.nodes[&NodeId(node)];
        let (disk, incarnation) = (old.disk.clone(), Incarnation(old.incarnation.0 + 1));
        let new = Node::open(self.shard, NodeId(node), disk, incarnation, self.now);
        self.replace(node, new)
    }

    /// Puts another process in a node's place.
    pub(super) fn replace(&mut self, node: u32, process: Node) -> Node {
        let old = self.nodes.insert(NodeId(node), process);
        old.expect("the nodes of a cluster are there from the beginning")
    }

    fn settle(&mut self) {
        let mut steps = 0;
        while let Some(id) = self.next_busy() {
            steps += 1;
            assert!(steps < 100_000, "the cluster does not come to rest");
            let clock = Clock {
                time: Time(self.now),
                stamp: Stamp(self.wall_ms(id.0)),
            };
            let node = self.nodes.get_mut(&id).unwrap();
            let input = node.inbox.pop_front().unwrap();
            if let Input::Persisted(write) = &input {
                node.durable = *write;
            }
            let mut effects = Vec::new();
            let is_elapsed = matches!(input, Input::Elapsed { .. });
            node.shard.step(clock, input, &mut effects);
            let deadline = node.shard.next_deadline().filter(|_| is_elapsed);
            if let Some(at) = deadline {
                assert!(
                    at > clock.time,
                    "what is due at {at:?} is done at {clock:?}"
                );
            }
            for effect in effects {
                self.effect(id, effect);
            }
            self.release(id);
        }
    }

    fn next_busy(&self) -> Option<NodeId> {
        let mut busy = self.nodes.iter().filter(|(_, node)| !node.inbox.is_empty());
        busy.find(|(id, _)| !self.down.contains(id))
            .map(|(id, _)| *id)
    }

    fn release(&mut self, id: NodeId) {
        if self.down.contains(&id) {
            return;
        }
        let node = self.nodes.get_mut(&id).unwrap();
        let durable = node.durable;
        let (ready, held): (Vec<_>, Vec<_>) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(write, _)| *write <= durable);
        node.held = held;
        for (_, act) in ready {
            self.carry_out(id, act);
        }
    }

    fn effect(&mut self, id: NodeId, effect: Effect) {
        if let Some((doomed, left)) = &mut self.doomed
            && *doomed == id
        {
            if *left == 0 {
                self.down.insert(id);
            }
            *left = left.saturating_sub(1);
        }
        if self.down.contains(&id) {
            return;
        }
        let node = self.nodes.get_mut(&id).unwrap();
        match effect.after {
            Some(write) if write > node.durable => node.held.push((write, effect.act)),
            _ => self.carry_out(id, effect.act),
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        if self.down.contains(&to) || self.down.contains(&from) {
            return;
        }
        if let Message::HandOver { .. } = message {
            self.pieces += 1;
            if self.loses_pieces && self.pieces.is_multiple_of(20) {
                return;
            }
        }
        let receiver = self.nodes.get_mut(&to).unwrap();
        receiver.inbox.push_back(Input::Peer { from, message });
    }

    fn load(&mut self, id: NodeId, request: RequestId, read: Read) -> Option<Input> {
        if self.has_slow_reads && matches!(read, Read::Entries { .. }) {
            self.reads.push((id, request, read));
            return None;
        }
        let entries = self.nodes[&id].disk.read(read);
        Some(Input::Loaded { request, entries })
    }

    fn carry_out(&mut self, id: NodeId, act: Act) {
        let node = self.nodes.get_mut(&id).unwrap();
        let answer = match act {
            Act::Persist { id, write } => {
                node.disk.write(write);
                Some(Input::Persisted(id))
            }
            Act::Send { to, message } => return self.send(id, to, message),
            Act::Report(report) => {
                node.reports.push(report);
                None
            }
            Act::Load { request, read } => self.load(id, request, read),
            Act::LoadCheckpoint { request } => Some(Input::CheckpointLoaded {
                request,
                checkpoint: node.disk.checkpoint.clone(),
            }),
            Act::SaveCheckpoint(checkpoint) => {
                let at = checkpoint.at;
                node.disk.checkpoint = Some(checkpoint);
                let segments = node.disk.segments();
                Some(Input::CheckpointSaved { at, segments })
            }
            Act::ForgetCheckpoint => {
                node.disk.checkpoint = None;
                None
            }
            Act::DropSegments(firsts) => {
                node.disk.drop_segments(&firsts);
                let base = node.disk.base;
                Some(Input::SegmentsDropped { base })
            }
            Act::InstallBegin { .. } => {
                node.disk.staging.clear();
                None
            }
            Act::InstallWrite { transfer, entries } => {
                let entries = entries.into_iter().map(|entry| (entry.index, entry));
                node.disk.staging.extend(entries);
                Some(Input::InstallWritten { transfer })
            }
            Act::InstallCommit {
                transfer,
                checkpoint,
            } => {
                let at = checkpoint.at;
                node.disk.entries = std::mem::take(&mut node.disk.staging);
                (node.disk.base, node.disk.end, node.disk.stamp) = (at, at, checkpoint.stamp);
                node.disk.checkpoint = Some(checkpoint);
                Some(Input::InstallCommitted { transfer, at })
            }
            Act::ToSession { event, .. } => {
                self.events.push((id, event));
                return;
            }
            Act::ToShard { shard, message } => return self.letters.push((shard, message)),
            Act::BrowsePage { page, .. } => return self.browsed.push(page),
            Act::MovePage { page, .. } => return self.pages.push(page),
            Act::ReportMove {
                number, refusal, ..
            } => return self.moves.push((number, refusal)),
            Act::Note(note) => {
                node.notes.push(note);
                None
            }
        };
        self.nodes.get_mut(&id).unwrap().inbox.extend(answer);
    }
}
