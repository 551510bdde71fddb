//! What operators want of nodes and leaders: a node drained or used again, a leadership moved.
//!
//! Drained is a mark in the node's row, durable before it is answered. A move is answered when it begins: who leads is
//! in the topology.

use quorate_replication::{NodeId, ShardId, Time};

use super::{Active, Purpose};
use crate::controller::{
    effect::{Effect, MoveCause, Note, Refusal},
    input::{OperatorRequest, ReadOutcome, Wish, WriteOutcome},
    node::Draining,
    row::{Change, Key, Row},
};

impl Active {
    pub(super) fn wished(
        &mut self,
        now: Time,
        request: OperatorRequest,
        wish: &Wish,
        effects: &mut Vec<Effect>,
    ) {
        let answer = match wish {
            Wish::Drain { node, is_drained } => match self.drain(request, node, *is_drained) {
                // Answered when it is durable.
                Ok(true) => return,
                Ok(false) => Ok(()),
                Err(refusal) => Err(refusal),
            },
            Wish::MoveLeader { shard, node } => self.move_leader(now, *shard, node, effects),
        };
        effects.push(Effect::AnswerOperator { request, answer });
    }

    /// Requests that are not answered.
    pub(in crate::controller) fn operator_requests(
        &self,
    ) -> impl Iterator<Item = OperatorRequest> + '_ {
        let draining = self
            .nodes
            .values()
            .filter_map(|node| node.draining.as_ref());
        draining.map(|draining| draining.request)
    }

    fn named(&self, name: &str) -> Result<NodeId, Refusal> {
        let mut nodes = self.nodes.values();
        let found = nodes.find(|node| node.row.name == name && node.version.0 > 0);
        let unknown = || Refusal::UnknownNode {
            name: name.to_owned(),
        };
        found.map(|node| node.row.node).ok_or_else(unknown)
    }

    /// Whether something is to be written first.
    fn drain(
        &mut self,
        request: OperatorRequest,
        name: &str,
        is_drained: bool,
    ) -> Result<bool, Refusal> {
        let number = self.named(name)?;
        let node = self.nodes.get_mut(&number);
        let node = node.filter(|node| node.pending.is_none() && node.draining.is_none());
        let node = node.ok_or(Refusal::StoreAway)?;
        if node.row.is_drained == is_drained {
            return Ok(false);
        }
        let mut row = node.row.clone();
        row.is_drained = is_drained;
        node.draining = Some(Draining {
            request,
            is_drained,
        });
        let change = Change {
            expected: node.version,
            row: Row::Node(row),
        };
        self.outbox.push((change, Purpose::Drain(number)));
        Ok(true)
    }

    pub(super) fn drain_written(
        &mut self,
        number: NodeId,
        outcome: WriteOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        match outcome {
            WriteOutcome::Stored(version) => {
                if let Some(draining) = node.draining.take() {
                    node.version = version;
                    node.row.is_drained = draining.is_drained;
                    self.is_changed = true;
                    drained(number, &draining, Ok(()), effects);
                }
            }
            // What the store holds is read before it is answered.
            WriteOutcome::Conflict | WriteOutcome::Unknown => {
                let key = Key::Node(number);
                effects.push(Effect::Read { key });
            }
        }
    }

    /// The row was read after a write with an unknown result.
    pub(super) fn drain_read(
        &mut self,
        number: NodeId,
        outcome: &ReadOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let node = self.nodes.get_mut(&number);
        let Some(draining) = node.and_then(|node| node.draining.take()) else {
            return;
        };
        let is_as_wanted = match outcome {
            ReadOutcome::Found(stored) => matches!(
                &stored.row,
                Row::Node(row) if row.is_drained == draining.is_drained
            ),
            ReadOutcome::Absent | ReadOutcome::Failed => false,
        };
        let answer = is_as_wanted.then_some(()).ok_or(Refusal::StoreAway);
        drained(number, &draining, answer, effects);
    }

    fn move_leader(
        &mut self,
        now: Time,
        id: ShardId,
        name: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let node = self.named(name)?;
        let name = || name.to_owned();
        let shard = self.shards.get(&id);
        let shard = shard.ok_or(Refusal::UnknownShard { shard: id })?;
        let mut voters = shard.record.voters.iter();
        let to = voters.find(|voter| voter.node == node).copied();
        let to = to.ok_or_else(|| Refusal::NoReplica {
            shard: id,
            name: name(),
        })?;
        if shard.record.leader == Some(to) && shard.is_settled() {
            return Ok(());
        }
        if shard.moving.as_ref().is_some_and(|moving| moving.to == to) {
            return Ok(());
        }
        if !self.can_lead(to) || self.unwanted(node).is_some() {
            return Err(Refusal::CannotLead { name: name() });
        }
        let is_begun = self.start_move(now, id, to, MoveCause::Operator, effects);
        is_begun
            .then_some(())
            .ok_or(Refusal::ShardUnsettled { shard: id })
    }
}

fn drained(
    node: NodeId,
    draining: &Draining,
    answer: Result<(), Refusal>,
    effects: &mut Vec<Effect>,
) {
    if answer.is_ok() {
        let is_drained = draining.is_drained;
        effects.push(Effect::Note(Note::Drained { node, is_drained }));
    }
    let request = draining.request;
    effects.push(Effect::AnswerOperator { request, answer });
}
