//! What is logged of leaders that came and went. Those of one round are told together: of a node that led hundreds of
//! shards a line for each would cost more than the news of it.

use std::fmt;

use tracing::info;

use crate::session::{Epoch, NodeId, ShardId};

/// Leaders of which nothing is logged yet.
#[derive(Debug, Default)]
pub(super) struct Leaders(Vec<Led>);

#[derive(Debug)]
struct Led {
    leader: Option<NodeId>,
    shards: Shards,
}

#[derive(Debug)]
struct Shards(Vec<(ShardId, Epoch)>);

impl Leaders {
    /// Keeps what a shard's leader is until `end_round`.
    pub(super) fn note(&mut self, leader: Option<NodeId>, shard: (ShardId, Epoch)) {
        match self.0.iter_mut().find(|known| known.leader == leader) {
            Some(known) => known.shards.0.push(shard),
            None => self.0.push(Led {
                leader,
                shards: Shards(vec![shard]),
            }),
        }
    }

    /// Logs what was kept.
    pub(super) fn end_round(&mut self) {
        for Led { leader, shards } in self.0.drain(..) {
            match leader {
                Some(leader) => info!(%leader, %shards, "shards have a leader"),
                None => info!(%shards, "shards have no leader; their messages wait"),
            }
        }
    }
}

impl fmt::Display for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (shard, epoch)) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{shard} in {epoch}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_of_one_round_are_told_together() {
        let mut leaders = Leaders::default();
        for (shard, leader) in [(1, Some(2)), (2, None), (3, Some(2))] {
            leaders.note(leader.map(NodeId), (ShardId(shard), Epoch(5)));
        }
        let told: Vec<_> = leaders
            .0
            .iter()
            .map(|led| (led.leader, led.shards.0.len()))
            .collect();
        assert_eq!(told, [(Some(NodeId(2)), 2), (None, 1)]);
        leaders.end_round();
        assert!(leaders.0.is_empty());
    }
}
