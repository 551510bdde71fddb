//! What the machine knows of the cluster: where destinations live, who leads, and which nodes it is linked to.
//!
//! It keeps a link to every node of the topology, so that the next leader is there when it is needed. What it knows
//! stays when all coordinators are away.

use std::{collections::BTreeMap, sync::Arc};

use quorate_message::{DestinationName, slot};

use super::{
    core::Core,
    effect::{Effect, Note},
    ids::{LinkId, NodeId, ShardId, Time},
    input::Topology,
    shard::Shard,
};

/// A storage node.
#[derive(Debug)]
pub(super) struct Node {
    address: Arc<str>,
    /// The pair of streams that is open.
    pub(super) link: Option<LinkId>,
}

impl Core {
    /// The shard of a destination, while it is moved the one that it leaves; none while no topology is known.
    #[must_use]
    pub fn shard_of(&self, queue: &DestinationName) -> Option<ShardId> {
        if let Some(place) = self.overrides.place(queue) {
            let shard = place.moving.map_or(place.shard, |moving| moving.from);
            return Some(ShardId(shard));
        }
        self.slots.get(usize::from(slot(queue).0)).copied()
    }

    /// Shards that have a leader to which this gateway has a link.
    #[must_use]
    pub fn shards_reachable(&self) -> usize {
        let shards = self.shards.values();
        shards.filter(|shard| shard.target().is_some()).count()
    }

    /// Shards that the gateway knows of.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn learn(&mut self, now: Time, told: &Topology, effects: &mut Vec<Effect>) {
        let newest = told.version >= self.version;
        self.version = self.version.max(told.version);
        let whole = told.slots.len() == usize::from(quorate_message::SLOTS);
        if whole && (newest || self.slots.is_empty()) {
            self.slots.clone_from(&told.slots);
            if self.overrides != told.overrides {
                self.replace_overrides(&told.overrides);
                self.find_followers();
            }
            for id in &told.slots {
                let gateway = self.config.incarnation;
                let known = self.shards.entry(*id);
                known.or_insert_with(|| Shard::new(*id, gateway));
            }
        }
        self.learn_nodes(now, told, newest, effects);
        for shard in &told.shards {
            let known = self.shards.entry(shard.id);
            let gateway = self.config.incarnation;
            let known = known.or_insert_with(|| Shard::new(shard.id, gateway));
            if known.learn(shard) {
                let (epoch, leader) = (known.epoch, known.leader);
                effects.push(Effect::Note(Note::Leader {
                    shard: shard.id,
                    epoch,
                    leader,
                }));
                self.restart(now, shard.id, effects);
            }
        }
    }

    fn learn_nodes(&mut self, now: Time, told: &Topology, newest: bool, effects: &mut Vec<Effect>) {
        let named: BTreeMap<_, _> = told.nodes.iter().map(|n| (n.id, &n.address)).collect();
        if newest {
            let gone = self.nodes.keys().filter(|node| !named.contains_key(node));
            for node in gone.copied().collect::<Vec<_>>() {
                self.linked(now, node, None, effects);
                self.nodes.remove(&node);
                effects.push(Effect::Unlink { node });
            }
        }
        for (id, address) in named {
            let known = self.nodes.get(&id);
            // Of a node that is known an older picture tells nothing.
            let same = known.is_some_and(|node| !newest || node.address == *address);
            if same {
                continue;
            }
            let link = known.and_then(|node| node.link);
            let address = Arc::clone(address);
            effects.push(Effect::Link {
                node: id,
                address: Arc::clone(&address),
            });
            self.nodes.insert(id, Node { address, link });
        }
    }

    /// A link opened, or was lost: everything with that node starts over.
    pub(super) fn linked(
        &mut self,
        now: Time,
        id: NodeId,
        link: Option<LinkId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.link = link;
        let led = self.shards.values().filter(|s| s.leader == Some(id));
        for shard in led.map(|shard| shard.id).collect::<Vec<_>>() {
            self.restart(now, shard, effects);
        }
    }

    /// Starts over with the leader of a shard: batches from the first, consumers with what they hold.
    fn restart(&mut self, now: Time, id: ShardId, effects: &mut Vec<Effect>) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let node = shard.leader.and_then(|leader| self.nodes.get(&leader));
        let batches = shard.restart(node.and_then(|node| node.link));
        if let Some((node, _)) = shard.target()
            && batches > 0
        {
            effects.push(Effect::Note(Note::Resent {
                shard: id,
                node,
                batches,
            }));
        }
        self.detach_consumers(now, id);
        if let Some(shard) = self.shards.get(&id) {
            self.restless.extend(shard.consumers.iter().copied());
        }
    }
}
