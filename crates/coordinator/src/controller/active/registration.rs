//! Who is who: nodes by name, number, disk and boot counter, durable before they are admitted.

use std::collections::BTreeMap;

use quorate_replication::{DiskId, ElectionInput, NodeId, RecordVersion, Time};

use super::{Active, Purpose};
use crate::{
    controller::{
        effect::{Effect, Note, Refusal},
        input::{Heartbeat, ReadOutcome, Registration, StreamId, WriteOutcome},
        node::{Node, State},
        row::{Change, Key, NodeRow, Row},
    },
    limits::{DISKS_MAX, NODES_MAX},
};

impl Active {
    pub(super) fn registered(
        &mut self,
        now: Time,
        stream: StreamId,
        registration: Registration,
        effects: &mut Vec<Effect>,
    ) {
        if self.streams.contains_key(&stream) {
            effects.push(Effect::Note(Note::Dropped(
                "second registration of a stream",
            )));
            return;
        }
        let wall_ms = registration.wall_ms;
        let row = match self.judge_registration(&registration) {
            Ok(row) => row,
            Err(refusal) => {
                effects.push(Effect::Note(Note::Refused(refusal.clone())));
                effects.push(Effect::Refuse { stream, refusal });
                return;
            }
        };
        let number = row.node;
        self.streams.insert(stream, number);
        self.nodes
            .entry(number)
            .or_insert_with(|| Node::new(row.clone(), RecordVersion(0), now));
        self.clock_read(now, number, wall_ms, effects);
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        if node.version != RecordVersion(0) && node.row == row {
            self.admit(now, stream, number, row, effects);
            return;
        }
        node.pending = Some((stream, row.clone()));
        let change = Change {
            expected: node.version,
            row: Row::Node(row),
        };
        self.outbox.push((change, Purpose::Register(number)));
    }

    /// The row that the node is to have, or why it is refused.
    fn judge_registration(&self, registration: &Registration) -> Result<NodeRow, Refusal> {
        let name = || registration.name.clone();
        let known = self.known_as(registration);
        let number = known.map(|node| node.row.node);
        if let Some(claimed) = registration.node
            && number != Some(claimed)
        {
            let name = name();
            return Err(Refusal::UnknownNumber { name, claimed });
        }
        if let Some(other) = self
            .nodes
            .values()
            .find(|node| node.row.disk == registration.disk && node.row.name != registration.name)
        {
            return Err(Refusal::DiskTaken {
                name: name(),
                other: other.row.name.clone(),
            });
        }
        let Some(node) = known else {
            if self.nodes.len() >= NODES_MAX {
                return Err(Refusal::TooManyNodes { limit: NODES_MAX });
            }
            let last = self.nodes.last_key_value().map_or(0, |(node, _)| node.0);
            let number = NodeId(last + 1);
            return Ok(row(number, registration, BTreeMap::new(), false));
        };
        if node.pending.is_some() || node.draining.is_some() {
            // One write of a row at a time: the node tries again in a moment.
            return Err(Refusal::StoreAway);
        }
        let is_other_disk = node.row.disk != registration.disk;
        if is_other_disk && node.is_alive() && node.stream.is_some() {
            return Err(Refusal::NameTaken { name: name() });
        }
        if let Some(seen) = node.row.boots.get(&registration.disk).copied() {
            let is_same_life =
                seen == registration.boot && node.row.incarnation == registration.incarnation;
            // An equal counter of another life is a copy of a disk that was used since, too.
            if registration.boot < seen || (registration.boot == seen && !is_same_life) {
                return Err(Refusal::OldImage {
                    name: name(),
                    boot: registration.boot,
                    seen,
                });
            }
        }
        let mut boots = node.row.boots.clone();
        if boots.len() >= DISKS_MAX && !boots.contains_key(&registration.disk) {
            boots.retain(|disk, _| *disk == node.row.disk || self.is_disk_needed(*disk));
        }
        let is_drained = node.row.is_drained;
        Ok(row(node.row.node, registration, boots, is_drained))
    }

    /// The row of a node. A write that was given up can land when its node has another number already: then there
    /// are two rows of one name, and the node's own number decides, or else where replicas were placed.
    fn known_as(&self, registration: &Registration) -> Option<&Node> {
        let named = self
            .nodes
            .values()
            .filter(|node| node.row.name == registration.name);
        match registration.node {
            Some(claimed) => named.into_iter().find(|node| node.row.node == claimed),
            None => named.max_by_key(|node| {
                let number = node.row.node;
                (self.is_placed(number), std::cmp::Reverse(number))
            }),
        }
    }

    /// Whether a shard has a replica on a node.
    fn is_placed(&self, number: NodeId) -> bool {
        let mut shards = self.shards.values();
        shards.any(|shard| shard.record.voters.iter().any(|voter| voter.node == number))
    }

    /// Whether some shard counts on a disk.
    fn is_disk_needed(&self, disk: DiskId) -> bool {
        self.shards.values().any(|shard| {
            let record = &shard.record;
            let next = record.next_voters.iter().flatten();
            let members = record.voters.iter().chain(next).chain(&record.learners);
            members.into_iter().any(|member| member.disk == disk)
        })
    }

    pub(super) fn register_written(
        &mut self,
        now: Time,
        number: NodeId,
        outcome: WriteOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let Some((stream, row)) = node.pending.take() else {
            return;
        };
        match outcome {
            WriteOutcome::Stored(version) => {
                let is_new = node.version == RecordVersion(0);
                node.version = version;
                if is_new {
                    let name = row.name.clone();
                    let node = number;
                    effects.push(Effect::Note(Note::Joined { node, name }));
                }
                if self.streams.contains_key(&stream) {
                    self.admit(now, stream, number, row, effects);
                } else {
                    node.row = row;
                }
            }
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                let refusal = Refusal::StoreAway;
                effects.push(Effect::Note(Note::Refused(refusal.clone())));
                if self.streams.remove(&stream).is_some() {
                    effects.push(Effect::Refuse { stream, refusal });
                }
                // What the store holds of the node is read before it may try again.
                node.pending = Some((stream, row));
                let key = Key::Node(number);
                effects.push(Effect::Read { key });
            }
        }
        self.is_changed = true;
    }

    pub(super) fn node_read(&mut self, now: Time, number: NodeId, outcome: ReadOutcome) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        node.pending = None;
        match outcome {
            ReadOutcome::Found(stored) => {
                if let Row::Node(row) = stored.row {
                    node.row = row;
                    node.version = stored.version;
                }
            }
            ReadOutcome::Absent | ReadOutcome::Failed => {
                if node.version == RecordVersion(0) {
                    // It may be there, or come yet: its number is not given away, and the next try meets a conflict
                    // or makes it.
                    node.become_state(State::Absent, now);
                }
            }
        }
        self.is_changed = true;
    }

    /// The node's row is durable: it counts from here.
    fn admit(
        &mut self,
        now: Time,
        stream: StreamId,
        number: NodeId,
        row: NodeRow,
        effects: &mut Vec<Effect>,
    ) {
        self.end_deafness(now, effects);
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        let former = (node.row.incarnation != row.incarnation).then(|| node.member());
        node.row = row;
        if let Some(old) = node.stream.replace(stream) {
            self.streams.remove(&old);
            effects.push(Effect::Refuse {
                stream: old,
                refusal: Refusal::Superseded,
            });
        }
        node.redial = None;
        node.heartbeat = Heartbeat {
            is_disk_healthy: true,
            ..Heartbeat::default()
        };
        if node.state != State::Alive || former.is_some() {
            self.steady_since = now;
        }
        node.become_state(State::Alive, now);
        node.heard = now;
        let member = node.member();
        self.is_changed = true;
        let node = number;
        effects.push(Effect::Admit { stream, node });
        effects.push(Effect::Note(Note::Returned { node }));
        if self.has_foreign_disk(node) {
            let found = member;
            effects.push(Effect::Note(Note::ForeignDisk { node, found }));
        }
        if let Some(former) = former {
            // What the former life promised is on the disk, but it will not lead what it was chosen for.
            self.tell_elections(now, former, &ElectionInput::Lost(former), effects);
        }
        self.keep_leaderships(number, effects);
        self.tell_elections(now, member, &ElectionInput::Came(member), effects);
        self.judge_all(now, effects);
        self.create_missing(now, effects);
    }

    /// Whether the node has replicas on another disk than the one that it came with.
    pub(super) fn has_foreign_disk(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|known| {
            self.shards.values().any(|shard| {
                let mut voters = shard.record.voters.iter();
                voters.any(|voter| voter.node == node && voter.disk != known.row.disk)
            })
        })
    }
}

fn row(
    node: NodeId,
    registration: &Registration,
    mut boots: BTreeMap<DiskId, u64>,
    is_drained: bool,
) -> NodeRow {
    boots.insert(registration.disk, registration.boot);
    NodeRow {
        node,
        name: registration.name.clone(),
        address: registration.address.clone(),
        disk: registration.disk,
        boots,
        incarnation: registration.incarnation,
        pid: registration.pid,
        zone: registration.zone.clone(),
        weight: registration.weight,
        version: registration.version.clone(),
        is_drained,
    }
}
