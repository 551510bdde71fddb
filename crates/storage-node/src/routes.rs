//! Where the leaders of shards are: the way of what one shard says to another.
//!
//! What is known comes from the topology; of two pictures of a shard the one with the higher epoch counts. A message
//! to a shard that nobody leads, or to a leader that moved meanwhile, is lost, and offered again by its sender.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use quorate_message::{Overrides, Settings};
use quorate_proto::internal::v1::Topology;
use quorate_replication::{Epoch, NodeId, RoleName, ShardId};
use tracing::warn;

use crate::{
    convert::between,
    peer::Peers,
    runtime::{Item, Shards},
    shard::{
        between::ShardMessage,
        input::{Input, Placement},
    },
};

/// The leader of each shard, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    leaders: RwLock<BTreeMap<ShardId, (Epoch, NodeId)>>,
}

impl Routes {
    /// Takes in a picture of the cluster.
    pub(crate) fn learn(&self, topology: &Topology) {
        let mut leaders = self.leaders.write().unwrap_or_else(PoisonError::into_inner);
        for shard in &topology.shards {
            let told = (Epoch(shard.epoch), NodeId(shard.leader));
            let known = leaders.entry(ShardId(shard.id)).or_insert(told);
            if told.0 >= known.0 {
                *known = told;
            }
        }
    }

    /// Sends to the leader of a shard. False: it was dropped.
    pub(crate) fn send(
        &self,
        (shards, peers): (&Shards, &Peers),
        from: ShardId,
        to: ShardId,
        message: ShardMessage,
    ) -> bool {
        let cost = between::cost_bytes(&message);
        let here = shards.get(to);
        if here.is_some_and(|here| here.status().role == RoleName::Leader) {
            let item = Item::Input(Input::FromShard { from, message });
            return shards.offer(to, vec![item], cost).is_ok();
        }
        let leaders = self.leaders.read().unwrap_or_else(PoisonError::into_inner);
        let leader = leaders.get(&to).map(|(_, leader)| *leader);
        drop(leaders);
        let message = between::encode(from, to, message);
        leader
            .and_then(|leader| peers.outbox(leader))
            .is_some_and(|outbox| outbox.push(vec![(message, cost)]))
    }
}

/// The settings of destinations that a topology carries.
pub(crate) fn settings(topology: &Topology) -> Option<Arc<Settings>> {
    if topology.settings.is_empty() {
        return None;
    }
    let settings = Settings::decode(&topology.settings);
    if settings.is_none() {
        warn!("settings of the coordinator cannot be read; upgrade this node; those in force stay");
    }
    settings.map(Arc::new)
}

/// The slot map of a topology and the names that live elsewhere, if it has them whole.
pub(crate) fn placement(topology: &Topology) -> Option<Placement> {
    if topology.slots.len() != usize::from(quorate_message::SLOTS) {
        return None;
    }
    let overrides = match topology.overrides.is_empty() {
        true => Some(Overrides::new()),
        false => Overrides::decode(&topology.overrides),
    };
    if overrides.is_none() {
        warn!("overrides of the coordinator cannot be read; upgrade this node; those known stay");
    }
    Some(Placement {
        slots: topology.slots.iter().copied().map(ShardId).collect(),
        overrides: Arc::new(overrides?),
    })
}

#[cfg(test)]
mod tests {
    use quorate_proto::internal::v1::ShardInfo;

    use super::*;

    fn picture(epoch: u64, leader: u32) -> Topology {
        Topology {
            shards: vec![ShardInfo {
                id: 1,
                epoch,
                leader,
                ..ShardInfo::default()
            }],
            ..Topology::default()
        }
    }

    #[test]
    fn an_older_picture_does_not_bring_a_leader_back() {
        let routes = Routes::default();
        for (epoch, leader) in [(3, 2), (2, 1), (3, 0)] {
            routes.learn(&picture(epoch, leader));
        }
        let leaders = routes.leaders.read().unwrap();
        assert_eq!(leaders[&ShardId(1)], (Epoch(3), NodeId(0)));
    }

    #[test]
    fn a_slot_map_is_taken_only_whole() {
        let mut topology = picture(1, 1);
        topology.slots = vec![4; 1023];
        assert_eq!(placement(&topology), None);
        topology.slots.push(5);
        let placement = placement(&topology).unwrap();
        assert_eq!(placement.slots[1023], ShardId(5));
    }
}
