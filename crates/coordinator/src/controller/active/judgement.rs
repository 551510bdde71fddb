//! When a shard needs an election, judged from its record and from what is known of its leader.

use quorate_replication::{Member, NodeId, ShardId, Time, quorum};

use super::{Active, elections::Wanted};
use crate::{
    controller::{
        effect::{DeathCause, Effect, ElectionCause, Note},
        node::State,
    },
    limits::{DEFERRAL_TIMEOUTS, LOST_QUORUM_TIMEOUTS, MISSED_MAX},
};

impl Active {
    pub(super) fn judge_all(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        self.judge_each(now, &shards, effects);
    }

    pub(super) fn judge_led_by(&mut self, now: Time, node: NodeId, effects: &mut Vec<Effect>) {
        let led: Vec<ShardId> = self
            .shards
            .values()
            .filter(|shard| {
                shard
                    .record
                    .leader
                    .is_some_and(|leader| leader.node == node)
            })
            .map(|shard| shard.record.shard)
            .collect();
        self.judge_each(now, &led, effects);
    }

    /// Begins an election if the shard needs one.
    pub(super) fn judge(&mut self, now: Time, id: ShardId, effects: &mut Vec<Effect>) {
        self.judge_each(now, &[id], effects);
    }

    /// Begins elections of the shards that need one. What nodes lead is counted once for all of them.
    fn judge_each(&mut self, now: Time, shards: &[ShardId], effects: &mut Vec<Effect>) {
        let mut loads = None;
        for id in shards.iter().copied() {
            let Some(cause) = self.election_cause(now, id, effects) else {
                continue;
            };
            let is_living = match cause {
                ElectionCause::LostQuorum | ElectionCause::DiskStalled => true,
                ElectionCause::Leaderless
                | ElectionCause::Dead(_)
                | ElectionCause::NotLeading
                | ElectionCause::Moved(_) => false,
            };
            let leader = self.shards.get(&id).and_then(|shard| shard.record.leader);
            let wanted = Wanted {
                leader: None,
                excluded: leader.filter(|_| is_living),
            };
            let loads = loads.get_or_insert_with(|| self.loads());
            self.start_election(now, id, cause, wanted, loads, effects);
        }
    }

    /// Why the shard needs an election, if it does.
    fn election_cause(
        &mut self,
        now: Time,
        id: ShardId,
        effects: &mut Vec<Effect>,
    ) -> Option<ElectionCause> {
        let shard = self.shards.get(&id)?;
        if shard.election.is_some() || shard.behind.is_some() {
            return None;
        }
        let Some(leader) = shard.record.leader else {
            return Some(ElectionCause::Leaderless);
        };
        let Some(node) = self.nodes.get(&leader.node) else {
            return Some(ElectionCause::NotLeading);
        };
        if node.row.disk != leader.disk {
            return Some(ElectionCause::NotLeading);
        }
        match node.state {
            State::Absent => None,
            // With nobody heard there is nobody to elect, and no telling who is cut off.
            State::Dead(_) | State::Silent if self.is_deaf(now) => None,
            State::Dead(cause) => Some(ElectionCause::Dead(cause)),
            State::Silent => {
                let deferral = self.timeouts(DEFERRAL_TIMEOUTS);
                if now.since(node.since) < deferral
                    && !self.is_quorum_lost(now, id)
                    && self.is_heard_by_followers(now, leader.node, &shard.record)
                {
                    self.note_deferred(id, leader.node, effects);
                    return None;
                }
                Some(ElectionCause::Dead(DeathCause::Silent))
            }
            State::Alive => self.cause_of_living(now, id),
        }
    }

    /// Why the shard of a leader that lives needs an election, if it does.
    fn cause_of_living(&self, now: Time, id: ShardId) -> Option<ElectionCause> {
        let shard = self.shards.get(&id)?;
        let leader = shard.record.leader?;
        let node = self.nodes.get(&leader.node)?;
        if shard
            .led_by
            .is_some_and(|incarnation| incarnation != node.row.incarnation)
        {
            return Some(ElectionCause::Dead(DeathCause::Restarted));
        }
        node.stream?;
        let unserved = shard
            .unserved_since
            .is_some_and(|since| now.since(since) > self.config.node_timeout);
        if shard.missed >= MISSED_MAX || unserved {
            return Some(ElectionCause::NotLeading);
        }
        // A leader that lives is replaced only when the others can do without it.
        if !self.can_do_without(leader, id) {
            return None;
        }
        if self.is_quorum_lost(now, id) {
            return Some(ElectionCause::LostQuorum);
        }
        (!node.heartbeat.is_disk_healthy).then_some(ElectionCause::DiskStalled)
    }

    fn is_quorum_lost(&self, now: Time, id: ShardId) -> bool {
        let believed = self.timeouts(LOST_QUORUM_TIMEOUTS);
        self.shards.get(&id).is_some_and(|shard| {
            shard
                .lost_quorum
                .is_some_and(|reported| now.since(reported) < believed)
        })
    }

    /// Whether the shard's other voters that may lead are a quorum.
    fn can_do_without(&self, leader: Member, id: ShardId) -> bool {
        self.shards.get(&id).is_some_and(|shard| {
            quorum::is_quorum(&shard.record, |member| {
                member != leader && self.can_lead(member)
            })
        })
    }

    /// Whether the member attends with its disk and can be given a leadership.
    pub(super) fn can_lead(&self, member: Member) -> bool {
        self.nodes
            .get(&member.node)
            .is_some_and(|node| node.member() == member && node.can_lead())
    }

    fn note_deferred(&mut self, id: ShardId, node: NodeId, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(&id)
            && !shard.is_deferred
        {
            shard.is_deferred = true;
            effects.push(Effect::Note(Note::Deferred { node, shard: id }));
        }
    }
}
