//! One shard on one node: steps the machine, carries its effects out, does its disk work piece by piece.

use quorate_coordinator::controller::MoveReport;
use quorate_log::{CheckpointMark, LogError, ReadError, ReadRange, Space};
use quorate_replication::{
    Entry, Index, Message, NodeId, Nonce, Position, ShardId, Stamp, Write, WriteId,
};
use quorate_storage_node::shard::between::ShardMessage;
use quorate_storage_node::shard::effect::{Act, Read, SessionEvent};
use quorate_storage_node::shard::input::{Checkpoint, Input, Placement, SegmentInfo};
use quorate_storage_node::shard::moving::MovePage;

use crate::cluster::Cluster;
use crate::cluster::content::named;
use crate::cluster::node::checkpoint_of;
use crate::cluster::packet::{Happening, Packet, Task};
use crate::cluster::scene::Scene;
use crate::network::{Host, Side};

/// A refused write is tried again after this.
const SPACE_RETRY_US: u64 = 100_000;
/// An operator restarts a node that says its log is damaged: it is then built anew from the leader.
const OPERATOR_US: u64 = 2_500_000;
/// A read that failed is tried again after this.
const READ_RETRY_US: u64 = 1_000_000;

/// Work for the log, done in order.
#[derive(Debug)]
pub(super) enum DiskJob {
    Writes(Vec<(WriteId, Write)>),
    DropSegments(Vec<Index>),
    InstallBegin(Nonce, Position, Stamp),
    InstallWrite(Nonce, Vec<Entry>),
    InstallCommit(Nonce, Checkpoint),
}

impl Cluster {
    /// Steps a shard's machine and carries out what it asks for.
    pub(super) fn step_shard(&mut self, node: usize, shard: ShardId, input: Input) {
        let clock = self.clock(node);
        let heads = self.heads(node, shard);
        let Some(process) = self.nodes[node].process.as_mut() else {
            return;
        };
        let Some(runtime) = process.shards.get_mut(&shard) else {
            return;
        };
        if let Input::Persisted(write) = &input {
            runtime.durable = runtime.durable.max(*write);
        }
        let is_persisted = matches!(input, Input::Persisted(_));
        let mut effects = Vec::new();
        runtime.shard.step(clock, input, &mut effects);
        let mut acts = Vec::new();
        let mut writes = Vec::new();
        if is_persisted {
            let later = runtime.held.split_off(&WriteId(runtime.durable.0 + 1));
            let released = std::mem::replace(&mut runtime.held, later);
            acts.extend(released.into_values().flatten());
        }
        for effect in effects {
            match (effect.after, effect.act) {
                (_, Act::Persist { id, write }) => writes.push((id, write)),
                (Some(write), act) if write > runtime.durable => {
                    runtime.held.entry(write).or_default().push(act);
                }
                (_, act) => acts.push(act),
            }
        }
        if !writes.is_empty() {
            runtime.jobs.push_back(DiskJob::Writes(writes));
        }
        self.trace.mix(&[
            node as u64,
            u64::from(shard.0),
            clock.time.0,
            acts.len() as u64,
        ]);
        if let Some(heads) = heads {
            self.look_at_turns(node, shard, &heads, &acts);
        }
        // What it sends may rest on entries that were committed in the same step.
        self.look_at(node, shard);
        for act in acts {
            self.carry_out(node, shard, act);
        }
        self.look_at(node, shard);
        self.look_at_leader(node, shard);
        self.work(node, shard);
        self.set_shard_due(node, shard);
    }

    /// Makes sure that the shard is stepped at its deadline.
    pub(super) fn set_shard_due(&mut self, node: usize, shard: ShardId) {
        let now = self.now();
        let life = self.nodes[node].body.life;
        let host = &mut self.nodes[node];
        let Some(runtime) = host
            .process
            .as_mut()
            .and_then(|process| process.shards.get_mut(&shard))
        else {
            return;
        };
        let Some(deadline) = runtime.shard.next_deadline() else {
            return;
        };
        let moment = host.body.clock.moment_of(deadline).max(now + 1);
        if runtime.due.is_none_or(|due| due <= now || due > moment) {
            runtime.due = Some(moment);
            self.schedule
                .at(moment, Happening::ShardDue(node, life, shard));
        }
    }

    pub(super) fn shard_due(&mut self, node: usize, shard: ShardId) {
        let now = self.now();
        let time = self.clock(node).time;
        let nonce = Nonce(self.rng.word());
        let process = self.nodes[node].process.as_mut();
        let Some(runtime) = process.and_then(|process| process.shards.get_mut(&shard)) else {
            return;
        };
        if runtime.due.is_some_and(|due| due <= now) {
            runtime.due = None;
        }
        if runtime
            .shard
            .next_deadline()
            .is_some_and(|deadline| deadline <= time)
        {
            self.step_shard(node, shard, Input::Elapsed { nonce });
        } else {
            self.set_shard_due(node, shard);
        }
    }

    fn carry_out(&mut self, node: usize, shard: ShardId, act: Act) {
        let life = self.nodes[node].body.life;
        match act {
            Act::Persist { .. } => unreachable!("writes are gathered before"),
            Act::Send { to, message } => self.datagram(node, shard, to, &message),
            Act::Report(report) => self.report(node, shard, report),
            Act::Load { request, read } => {
                self.background(node, life, shard, Task::Read(request, read))
            }
            Act::LoadCheckpoint { request } => {
                self.background(node, life, shard, Task::LoadCheckpoint(request));
            }
            Act::SaveCheckpoint(checkpoint) => {
                self.counts.checkpoints += 1;
                self.background(node, life, shard, Task::SaveCheckpoint(checkpoint));
            }
            Act::ForgetCheckpoint => self.background(node, life, shard, Task::ForgetCheckpoint),
            Act::DropSegments(firsts) => self.add_job(node, shard, DiskJob::DropSegments(firsts)),
            Act::InstallBegin {
                transfer,
                at,
                stamp,
            } => self.add_job(node, shard, DiskJob::InstallBegin(transfer, at, stamp)),
            Act::InstallWrite { transfer, entries } => {
                self.add_job(node, shard, DiskJob::InstallWrite(transfer, entries));
            }
            Act::InstallCommit {
                transfer,
                checkpoint,
            } => self.add_job(node, shard, DiskJob::InstallCommit(transfer, checkpoint)),
            Act::ToSession { session, event } => {
                if let SessionEvent::NotLeading { number: 0, .. } = event {
                    self.handover.refused((node, shard), session);
                }
                self.note_sent(shard, &event);
                if self.options.scenes.contains(&Scene::Timed) {
                    self.look_at_time(node, shard, &event);
                }
                let process = self.nodes[node].process.as_ref();
                let stream = process.and_then(|process| process.sessions.get(&session).copied());
                if let Some(stream) = stream {
                    self.send(stream, Side::Opener, Packet::Event(shard, event));
                }
            }
            Act::ToShard { shard: to, message } => self.letter(node, shard, to, message),
            Act::BrowsePage { query, page } => self.look_at_page(query, &page),
            Act::MovePage { page, .. } => {
                if let MovePage::Done(done) = page {
                    self.counts.moved += done.moved;
                }
            }
            Act::ReportMove {
                name,
                number,
                refusal,
            } => {
                let report = MoveReport {
                    from: shard,
                    name,
                    number,
                    refusal: (!refusal.is_empty()).then_some(refusal),
                };
                self.tell_coordinator(node, Packet::MoveReport(report));
            }
            Act::Note(note) => {
                self.noted(node, shard, &note);
                self.say(format_args!("node {node} {shard}: {note}"));
            }
        }
    }

    fn datagram(&mut self, node: usize, shard: ShardId, to: NodeId, message: &Message) {
        let Some(peer) = self.peer_of(node, to) else {
            return;
        };
        let from = self.node_number(node);
        for delay in self.network.datagram(Host::Node(node), Host::Node(peer)) {
            let message = message.clone();
            let datagram = Happening::Datagram {
                node: peer,
                from,
                shard,
                message,
            };
            self.schedule.after(delay, datagram);
        }
    }

    /// Sends to the leader of another shard, as far as the node knows it.
    fn letter(&mut self, node: usize, from: ShardId, to: ShardId, message: ShardMessage) {
        let topology = self.nodes[node].topology.as_ref();
        let status = topology.and_then(|known| known.shards.iter().find(|one| one.shard == to));
        let leader = status.and_then(|status| status.leader);
        let Some(peer) = leader.and_then(|leader| self.peer_of(node, leader.node)) else {
            return;
        };
        for delay in self.network.datagram(Host::Node(node), Host::Node(peer)) {
            let letter = Happening::Letter {
                node: peer,
                from,
                shard: to,
                message: message.clone(),
            };
            self.schedule.after(delay, letter);
        }
    }

    /// Tells a shard where destinations live, if the node knows it.
    pub(super) fn place(&mut self, node: usize, shard: ShardId) {
        let topology = self.nodes[node].topology.as_ref();
        let settings = topology.map(|known| std::sync::Arc::clone(&known.settings));
        if let Some(settings) = settings.filter(|settings| settings.version() > 0) {
            self.step_shard(node, shard, Input::Governed(settings));
        }
        let topology = self.nodes[node].topology.as_ref();
        let placement = topology.map(|known| Placement {
            slots: known.slots.iter().copied().collect(),
            overrides: std::sync::Arc::clone(&known.overrides),
        });
        if let Some(placement) = placement {
            self.step_shard(node, shard, Input::Placed(placement));
        }
    }

    /// Remembers when a delivery was sent: the checker judges by that, not by when it came.
    fn note_sent(&mut self, shard: ShardId, event: &SessionEvent) {
        if let SessionEvent::Deliver {
            consumer,
            generation,
            deliveries,
            ..
        } = event
        {
            let now = self.now();
            let scenes = &self.options.scenes;
            let is_moved = scenes.contains(&Scene::Moved) || scenes.contains(&Scene::MovedTopic);
            let subscriber = self.watched.subscribers.get(consumer).copied();
            for delivery in deliveries {
                let key = (shard.0, delivery.position.value(), *consumer, *generation);
                self.watched.sent.insert(key, now);
                if is_moved {
                    self.watched
                        .note_roaming(subscriber, named(&delivery.message));
                }
            }
        }
    }

    fn background(&mut self, node: usize, life: u64, shard: ShardId, task: Task) {
        let delay = self.rng.between(50, 3_000);
        self.schedule
            .after(delay, Happening::Background(node, life, shard, task));
    }

    fn add_job(&mut self, node: usize, shard: ShardId, job: DiskJob) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        if let Some(runtime) = process.shards.get_mut(&shard) {
            runtime.jobs.push_back(job);
        }
    }

    /// Starts the next piece of disk work if none is under way.
    fn work(&mut self, node: usize, shard: ShardId) {
        let stall = self.disk_delay(node);
        let host = &mut self.nodes[node];
        let life = host.body.life;
        let Some(runtime) = host
            .process
            .as_mut()
            .and_then(|process| process.shards.get_mut(&shard))
        else {
            return;
        };
        if runtime.is_busy || (runtime.jobs.is_empty() && runtime.unsynced.is_empty()) {
            return;
        }
        runtime.is_busy = true;
        self.schedule
            .after(stall, Happening::DiskWork(node, life, shard));
    }

    /// Does a piece of disk work: the sync of what was written, or the next job.
    pub(super) fn disk_work(&mut self, node: usize, shard: ShardId) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let Some(runtime) = process.shards.get_mut(&shard) else {
            return;
        };
        runtime.is_busy = false;
        if runtime.unsynced.is_empty() {
            self.disk_job(node, shard);
        } else {
            self.disk_sync(node, shard);
        }
        if self.nodes[node].disk.is_dead() {
            return self.crash_by_disk(node);
        }
        self.work(node, shard);
    }

    fn disk_sync(&mut self, node: usize, shard: ShardId) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let runtime = process.shards.get_mut(&shard).expect("the shard is there");
        let written = std::mem::take(&mut runtime.unsynced);
        let result = runtime.log.sync();
        let prepared = runtime.log.prepare();
        match result {
            Ok(write) => {
                self.judge.synced(node, shard, written);
                self.step_shard(node, shard, Input::Persisted(write));
            }
            Err(error) => self.log_failed(node, shard, &error),
        }
        if let Err(error) = prepared {
            self.log_failed(node, shard, &error);
        }
    }

    fn disk_job(&mut self, node: usize, shard: ShardId) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let checkpoints = process.checkpoints.clone();
        let runtime = process.shards.get_mut(&shard).expect("the shard is there");
        let Some(job) = runtime.jobs.pop_front() else {
            return;
        };
        match job {
            DiskJob::Writes(mut writes) => {
                while let Some(DiskJob::Writes(_)) = runtime.jobs.front() {
                    if let Some(DiskJob::Writes(more)) = runtime.jobs.pop_front() {
                        writes.extend(more);
                    }
                }
                self.write(node, shard, writes);
            }
            DiskJob::DropSegments(firsts) => match runtime.log.drop_segments(&firsts) {
                Ok(base) => {
                    self.counts.dropped_segments += firsts.len() as u64;
                    self.step_shard(node, shard, Input::SegmentsDropped { base });
                }
                Err(error) if error.is_retryable() => {}
                Err(error) => self.log_failed(node, shard, &error),
            },
            DiskJob::InstallBegin(transfer, at, stamp) => {
                if let Err(error) = runtime.log.begin_install(at, stamp) {
                    self.install_failed(node, shard, transfer, &error);
                }
            }
            DiskJob::InstallWrite(transfer, entries) => {
                match runtime.log.install_entries(&entries) {
                    Ok(()) => self.step_shard(node, shard, Input::InstallWritten { transfer }),
                    Err(error) => self.install_failed(node, shard, transfer, &error),
                }
            }
            DiskJob::InstallCommit(transfer, checkpoint) => {
                if let Err(error) = runtime.log.seal_install() {
                    return self.install_failed(node, shard, transfer, &error);
                }
                let (at, mark) = (checkpoint.at, mark_of(&checkpoint));
                if checkpoints.save(shard, mark, &checkpoint.state).is_err() {
                    return;
                }
                match runtime.log.commit_install() {
                    Ok(()) => {
                        self.counts.installs += 1;
                        self.judge.installed(node, shard, at);
                        self.step_shard(node, shard, Input::InstallCommitted { transfer, at });
                    }
                    Err(error) => self.log_failed(node, shard, &error),
                }
            }
        }
    }

    fn write(&mut self, node: usize, shard: ShardId, mut writes: Vec<(WriteId, Write)>) {
        let now = self.now();
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let runtime = process.shards.get_mut(&shard).expect("the shard is there");
        self.judge.writing(node, shard, &writes);
        match runtime.log.write(&writes) {
            Ok(()) => runtime.unsynced = writes,
            Err(LogError::Full { refused }) => {
                let first = writes.iter().position(|(id, _)| Some(*id) >= refused);
                let rest = writes.split_off(first.unwrap_or(writes.len()));
                runtime.unsynced = writes;
                runtime.jobs.push_front(DiskJob::Writes(rest));
                let is_news = !runtime.is_space_low;
                runtime.is_space_low = true;
                runtime.space_checked = now;
                self.counts.full_refusals += 1;
                if is_news {
                    self.step_shard(node, shard, Input::Space { is_low: true });
                }
                // Not at once again: the work goes on when it is looked for space.
                let life = self.nodes[node].body.life;
                let process = self.nodes[node].process.as_mut().expect("the process runs");
                let runtime = process.shards.get_mut(&shard).expect("the shard is there");
                if runtime.unsynced.is_empty() {
                    runtime.is_busy = true;
                    self.schedule
                        .after(SPACE_RETRY_US, Happening::DiskWork(node, life, shard));
                }
            }
            Err(error) => self.log_failed(node, shard, &error),
        }
    }

    /// Looks for space, as the shell does now and then.
    pub(super) fn check_space(&mut self, node: usize) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let disk = process.disk.clone();
        let shards: Vec<ShardId> = process.shards.keys().copied().collect();
        for shard in shards {
            let process = self.nodes[node].process.as_mut();
            let Some(runtime) = process.and_then(|process| process.shards.get_mut(&shard)) else {
                return;
            };
            let is_low = match (runtime.is_space_low, disk.space()) {
                (false, Space::Enough) => continue,
                (false, Space::Reserve) => true,
                (true, _) => match disk.reclaim() {
                    Ok(Space::Reserve) | Err(_) => continue,
                    Ok(Space::Enough) => false,
                },
            };
            runtime.is_space_low = is_low;
            self.step_shard(node, shard, Input::Space { is_low });
        }
        if self.nodes[node].disk.is_dead() {
            self.crash_by_disk(node);
        }
    }

    /// Does work beside the log.
    pub(super) fn background_work(&mut self, node: usize, life: u64, shard: ShardId, task: Task) {
        let process = self.nodes[node].process.as_mut().expect("the process runs");
        let checkpoints = process.checkpoints.clone();
        let Some(runtime) = process.shards.get_mut(&shard) else {
            return;
        };
        match task {
            Task::Read(request, read) => match read_entries(&runtime.reader, &read) {
                Ok(entries) => {
                    let count = entries.len();
                    self.say(format_args!(
                        "node {node} {shard}: read {read:?}: {count} entries"
                    ));
                    self.step_shard(node, shard, Input::Loaded { request, entries });
                }
                Err(error) => {
                    if self.nodes[node].disk.is_dead() {
                        return self.crash_by_disk(node);
                    }
                    self.say(format_args!("node {node} {shard}: {error}"));
                    self.step_shard(node, shard, Input::Damaged);
                    let again = Happening::Background(node, life, shard, Task::Read(request, read));
                    self.schedule.after(READ_RETRY_US, again);
                    self.schedule
                        .after(OPERATOR_US, Happening::Operator(node, life));
                }
            },
            Task::LoadCheckpoint(request) => {
                let found = checkpoints
                    .load(shard)
                    .expect("the store in memory does not fail");
                let checkpoint = found.map(checkpoint_of);
                self.step_shard(
                    node,
                    shard,
                    Input::CheckpointLoaded {
                        request,
                        checkpoint,
                    },
                );
            }
            Task::SaveCheckpoint(checkpoint) => {
                let (at, mark) = (checkpoint.at, mark_of(&checkpoint));
                let saved = checkpoints.save(shard, mark, &checkpoint.state);
                saved.expect("the store in memory does not fail");
                let closed = runtime
                    .reader
                    .segments()
                    .into_iter()
                    .filter(|one| !one.is_tail);
                let segments = closed
                    .map(|segment| SegmentInfo {
                        first: segment.first,
                        last: segment.last,
                        size_bytes: segment.size_bytes,
                    })
                    .collect();
                self.step_shard(node, shard, Input::CheckpointSaved { at, segments });
            }
            Task::ForgetCheckpoint => {
                checkpoints
                    .remove(shard)
                    .expect("the store in memory does not fail");
            }
        }
    }

    fn install_failed(&mut self, node: usize, shard: ShardId, transfer: Nonce, error: &LogError) {
        if error.is_retryable() {
            self.step_shard(node, shard, Input::InstallFailed { transfer });
        } else {
            self.log_failed(node, shard, error);
        }
    }

    /// The node's shell stops the process when its disk fails. A log that fails on a sound disk is a bug.
    fn log_failed(&mut self, node: usize, shard: ShardId, error: &LogError) {
        if !self.nodes[node].disk.is_dead() && !error.is_retryable() {
            let text = super::node::chain(error);
            self.fail(format!(
                "node {node} {shard}: the log failed on a sound disk: {text}"
            ));
        }
    }
}

fn mark_of(checkpoint: &Checkpoint) -> CheckpointMark {
    CheckpointMark {
        at: checkpoint.at,
        stamp: checkpoint.stamp,
    }
}

fn read_entries(reader: &quorate_log::Reader, read: &Read) -> Result<Vec<Entry>, ReadError> {
    match read {
        Read::Range {
            first,
            last,
            max_bytes,
        } => reader.read(ReadRange {
            first: *first,
            last: *last,
            max_bytes: *max_bytes,
        }),
        Read::Entries { indexes, max_bytes } => {
            let mut entries = Vec::new();
            let mut size_bytes = 0;
            for index in indexes {
                let found = reader.read_entries(&[*index])?;
                size_bytes += found.iter().map(Entry::cost_bytes).sum::<usize>();
                entries.extend(found);
                if size_bytes >= *max_bytes {
                    break;
                }
            }
            Ok(entries)
        }
    }
}
