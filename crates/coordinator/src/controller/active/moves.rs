//! Planned moves of leaderships: the leader hands over, then a claim follows that prefers the target.
//!
//! ```text
//! HandOver ----> leader
//!          <---- HandedOver(ready)      election, the target preferred
//!          <---- HandedOver(not ready)  it leads on
//!          nothing for a while          it leads on: it goes on by itself
//! ```
//! The log decides as in every election, so that a move that goes wrong is at worst an ordinary change of leader.

use quorate_replication::{Claim, Duration, Member, NodeId, Order, ShardId, Time};

use super::{Active, elections::Wanted};
use crate::{
    controller::{
        effect::{Effect, ElectionCause, MoveCause, Note},
        placement,
        shard::{Moving, Shard},
    },
    limits::{MOVE_RETRY_DOUBLINGS, MOVE_RETRY_MS, MOVE_TIMEOUT_MS, MOVES_AT_ONCE},
};

impl Active {
    /// Why a node should lead nothing while others can.
    pub(super) fn unwanted(&self, node: NodeId) -> Option<MoveCause> {
        let node = self.nodes.get(&node)?;
        if node.heartbeat.is_leaving {
            return Some(MoveCause::Leaving);
        }
        if node.row.is_drained {
            return Some(MoveCause::Drained);
        }
        let ahead_ms = node.clock.verdict.off_ms();
        ahead_ms.map(|_| MoveCause::ClockOff)
    }

    /// Asks the leader to hand over. False: nothing can be asked of it now.
    pub(super) fn start_move(
        &mut self,
        now: Time,
        id: ShardId,
        to: Member,
        cause: MoveCause,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(shard) = self.shards.get(&id).filter(|shard| shard.is_settled()) else {
            return false;
        };
        let claim = shard.record.claim;
        let leader = shard.record.leader;
        let Some(leader) = leader.filter(|leader| *leader != to && self.is_reachable(*leader))
        else {
            return false;
        };
        let stream = self.nodes.get(&leader.node).and_then(|node| node.stream);
        let Some(stream) = stream else {
            return false;
        };
        let until = now.after(Duration::from_millis(MOVE_TIMEOUT_MS));
        self.moves_due.note(Some(until));
        if let Some(shard) = self.shards.get_mut(&id) {
            shard.moving = Some(Moving {
                to,
                claim,
                cause,
                until,
            });
        }
        effects.push(Effect::Note(Note::MoveStarted {
            shard: id,
            to: to.node,
            cause,
        }));
        effects.push(Effect::Send {
            stream,
            node: leader.node,
            shard: id,
            order: Order::HandOver { claim, to },
        });
        true
    }

    /// A leader has handed over, or leads on.
    pub(super) fn handed_over(
        &mut self,
        now: Time,
        id: ShardId,
        (claim, to): (Claim, Member),
        is_ready: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let moving = shard
            .moving
            .take_if(|moving| (moving.claim, moving.to) == (claim, to));
        let Some(moving) = moving else {
            effects.push(Effect::Note(Note::Dropped("answer to a move that is over")));
            return;
        };
        if !is_ready {
            return self.move_failed(now, id, effects);
        }
        // A leader that has handed over does nothing more until somebody leads. Should the target have become unfit
        // meanwhile, the old leader is the only one that still knows what it handed over.
        let leader = shard.record.leader.filter(|_| !self.can_lead(to));
        let preferred = leader.unwrap_or(to).node;
        let cause = ElectionCause::Moved(moving.cause);
        let wanted = Wanted {
            leader: Some(preferred),
            excluded: None,
        };
        let mut loads = self.loads();
        self.start_election(now, id, cause, wanted, &mut loads, effects);
    }

    /// The election of a planned move is over. The next one waits, each time longer, if it was for nothing: every
    /// move holds up the shard's messages for a moment.
    pub(super) fn moved(&mut self, now: Time, id: ShardId, leader: NodeId) {
        let is_unwanted = self.unwanted(leader).is_some();
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        if !is_unwanted {
            shard.vain_moves = 0;
            return;
        }
        let wait = MOVE_RETRY_MS << shard.vain_moves.min(MOVE_RETRY_DOUBLINGS);
        shard.vain_moves = shard.vain_moves.saturating_add(1);
        shard.move_after = now.after(Duration::from_millis(wait));
    }

    /// A node is about to stop: it does not wait, so that moves which were for nothing before are tried again at once.
    pub(super) fn forget_vain_moves(&mut self, leader: Member) {
        for shard in self.shards.values_mut() {
            if shard.record.leader == Some(leader) {
                shard.vain_moves = 0;
                shard.move_after = Time::default();
            }
        }
    }

    /// Gives up moves that were not answered, and moves leaderships away from nodes that should have none.
    pub(super) fn tend_moves(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.moves_due.is_due(now) {
            self.give_up_moves(now, effects);
        }
        let mut nodes = self.nodes.keys();
        if !nodes.any(|node| self.unwanted(*node).is_some()) {
            return;
        }
        let moving = |shard: &&Shard| shard.moving.is_some() || is_moved(shard);
        let mut under_way = self.shards.values().filter(moving).count();
        let ids: Vec<ShardId> = self.shards.keys().copied().collect();
        for id in ids {
            if under_way >= MOVES_AT_ONCE {
                return;
            }
            if let Some((to, cause)) = self.better_leader(now, id)
                && self.start_move(now, id, to, cause, effects)
            {
                under_way += 1;
            }
        }
    }

    fn give_up_moves(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let shards = self.shards.values_mut();
        let given_up: Vec<ShardId> = shards
            .filter_map(|shard| {
                shard
                    .moving
                    .take_if(|moving| moving.until <= now)
                    .map(|_| shard.record.shard)
            })
            .collect();
        for id in given_up {
            self.move_failed(now, id, effects);
        }
        let left = self.shards.values();
        self.moves_due = left
            .filter_map(|shard| shard.moving.map(|moving| moving.until))
            .collect();
    }

    /// Who should lead instead of a leader that is not wanted.
    fn better_leader(&self, now: Time, id: ShardId) -> Option<(Member, MoveCause)> {
        let shard = self.shards.get(&id)?;
        if !shard.is_settled() || now < shard.move_after {
            return None;
        }
        let leader = shard.record.leader?;
        let cause = self.unwanted(leader.node)?;
        let voters = &shard.record.voters;
        let fit = voters.iter().filter(|voter| {
            **voter != leader && self.can_lead(**voter) && self.unwanted(voter.node).is_none()
        });
        let best = placement::preferred(fit.map(|voter| voter.node), &self.loads())?;
        let to = voters.iter().find(|voter| voter.node == best)?;
        Some((*to, cause))
    }

    fn move_failed(&mut self, now: Time, id: ShardId, effects: &mut Vec<Effect>) {
        if let Some(shard) = self.shards.get_mut(&id) {
            shard.move_after = now.after(Duration::from_millis(MOVE_RETRY_MS));
        }
        effects.push(Effect::Note(Note::MoveFailed { shard: id }));
    }
}

/// Whether the election of a planned move runs.
fn is_moved(shard: &Shard) -> bool {
    shard
        .election
        .as_ref()
        .is_some_and(|running| matches!(running.cause, ElectionCause::Moved(_)))
}
