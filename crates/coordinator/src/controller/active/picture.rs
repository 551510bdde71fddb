//! What everybody is told: the topology, with a reason for everything that is not as it should be.

use quorate_replication::{Duration, Member, NodeId, Stuck, Time, quorum};

use super::Active;
use crate::{
    controller::{
        effect::{DeathCause, Effect, Note},
        node::{Node, State},
        shard::{Running, Shard},
        topology::{NodeStatus, ShardStatus, Topology},
    },
    limits::{REASON_AFTER_MS, WARN_AFTER_MS},
};

impl Active {
    /// The picture of this moment, with the version of the last one.
    pub(super) fn picture(&self, now: Time) -> Topology {
        let mut gateways: Vec<_> = self.gateways.values().cloned().collect();
        gateways.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
        let shards = self.shards.values().map(|shard| ShardStatus {
            shard: shard.record.shard,
            epoch: shard.record.claim.epoch,
            leader: shard.record.leader,
            voters: shard.record.voters.clone(),
            reason: self.reason(now, shard),
        });
        Topology {
            version: self.topology.version,
            nodes: self.node_statuses(),
            shards: shards.collect(),
            slots: self
                .cluster
                .as_ref()
                .map(|cluster| cluster.slots.clone())
                .unwrap_or_default(),
            gateways,
            settings: self.governing.settings(),
            overrides: self.placing.overrides(),
        }
    }

    fn node_statuses(&self) -> Vec<NodeStatus> {
        self.nodes
            .values()
            .filter(|node| node.version.0 > 0)
            .map(|node| NodeStatus {
                node: node.row.node,
                name: node.row.name.clone(),
                address: node.row.address.clone(),
                is_alive: self.counts_as_alive(node),
                pid: node.row.pid,
                weight: node.row.weight,
                is_drained: node.row.is_drained,
                is_leaving: node.heartbeat.is_leaving,
                clock_off_ms: node.clock.verdict.off_ms(),
            })
            .collect()
    }

    /// A silent node that still leads, because its followers hear it, is not called dead.
    fn counts_as_alive(&self, node: &Node) -> bool {
        match node.state {
            State::Alive | State::Absent => true,
            State::Dead(_) => false,
            State::Silent => self.shards.values().any(|shard| {
                shard.record.leader == Some(node.member()) && shard.election.is_none()
            }),
        }
    }

    /// Says on every tick, once per reason, why an election does not come to an end.
    pub(super) fn note_stuck(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut found = Vec::new();
        for shard in self.shards.values() {
            if let Some(running) = &shard.election {
                self.is_changed = true;
                if now.since(running.started) >= Duration::from_millis(WARN_AFTER_MS) {
                    found.push((shard.record.shard, self.reason(now, shard)));
                }
            }
        }
        for (shard, reason) in found {
            let Some(known) = self.shards.get_mut(&shard) else {
                continue;
            };
            if let Some(running) = &mut known.election
                && running.noted != reason
            {
                running.noted.clone_from(&reason);
                effects.push(Effect::Note(Note::ElectionFailed { shard, reason }));
            }
        }
    }

    /// Why the shard has no leader that serves, or what is wrong with its voters. Empty: nothing is.
    fn reason(&self, now: Time, shard: &Shard) -> String {
        if let Some(behind) = shard.behind {
            return format!(
                "the coordination store went back in time: {} knows epoch {}, the store epoch {}; stop the \
                 coordinators and put the newest copy of the store in place",
                self.name(behind.node),
                behind.known.0,
                shard.record.claim.epoch.0
            );
        }
        if let Some(running) = &shard.election {
            return match running.election.stuck().filter(|_| is_long(now, running)) {
                Some(stuck) => self.describe(&stuck),
                None => "an election is under way".to_owned(),
            };
        }
        if shard.record.leader.is_none() {
            return "an election is about to begin".to_owned();
        }
        let record = &shard.record;
        let missing = self.not_attending(&record.voters);
        if !quorum::is_quorum(record, |member| !missing.contains(&member)) {
            return format!(
                "the leader has no majority: {} of {} replicas attend; start one of: {}",
                record.voters.len() - missing.len(),
                record.voters.len(),
                self.list(&missing)
            );
        }
        let mut foreign = missing;
        foreign.retain(|member| self.is_foreign(*member));
        if foreign.is_empty() {
            return String::new();
        }
        format!(
            "one replica less: {}; put the old disk back",
            self.list(&foreign)
        )
    }

    fn not_attending(&self, voters: &[Member]) -> Vec<Member> {
        voters
            .iter()
            .filter(|voter| {
                !self
                    .nodes
                    .get(&voter.node)
                    .is_some_and(|node| node.member() == **voter && self.counts_as_alive(node))
            })
            .copied()
            .collect()
    }

    fn is_foreign(&self, member: Member) -> bool {
        self.nodes
            .get(&member.node)
            .is_some_and(|node| node.row.disk != member.disk)
    }

    fn describe(&self, stuck: &Stuck) -> String {
        match stuck {
            Stuck::NoFenceQuorum { missing, needed } => format!(
                "too few replicas answer; start at least {needed} of: {}",
                self.list(missing)
            ),
            Stuck::NoCandidate { greatest, needed } => format!(
                "no sound replica that answers reaches entry {} of epoch {}; start one of: {}",
                greatest.index.0,
                greatest.epoch.0,
                self.list(needed)
            ),
            Stuck::NoSoundReplica { missing } => format!(
                "every replica that answers is impaired or wiped; start one of: {}",
                self.list(missing)
            ),
            Stuck::StoreBehind { member, promise } => format!(
                "the coordination store went back in time: {} promised epoch {}; stop the coordinators and put the \
                 newest copy of the store in place",
                self.name(member.node),
                promise.epoch.0
            ),
            Stuck::StoreSilent => {
                "the coordination store does not answer; mend it, nothing else is needed".to_owned()
            }
            Stuck::LeaderSilent(member) => format!(
                "the chosen leader does not answer: {}; another is chosen if it stays so",
                self.list(&[*member])
            ),
            Stuck::NotServing(member) => format!(
                "the leader {} does not reach a majority of the replicas; look at the network between the nodes",
                self.name(member.node)
            ),
        }
    }

    /// Names of members, each with what is known of it.
    fn list(&self, members: &[Member]) -> String {
        let described: Vec<String> = members
            .iter()
            .map(|member| {
                let state = match self.nodes.get(&member.node) {
                    None => "never seen",
                    Some(node) if node.row.disk != member.disk => "came back with another disk",
                    Some(node) => match node.state {
                        State::Absent => "not seen yet",
                        State::Alive if node.stream.is_none() => "its connection broke",
                        State::Alive => "attends",
                        State::Silent | State::Dead(DeathCause::Silent) => "silent",
                        State::Dead(DeathCause::Refused) => "not running",
                        State::Dead(DeathCause::Restarted) => "restarted",
                        State::Dead(DeathCause::Absent) => "not seen",
                    },
                };
                format!("{} ({state})", self.name(member.node))
            })
            .collect();
        described.join(", ")
    }

    fn name(&self, node: NodeId) -> String {
        self.nodes
            .get(&node)
            .map_or_else(|| node.to_string(), |node| node.row.name.clone())
    }
}

/// Whether an election takes longer than elections take.
fn is_long(now: Time, running: &Running) -> bool {
    now.since(running.started) >= Duration::from_millis(REASON_AFTER_MS)
}
