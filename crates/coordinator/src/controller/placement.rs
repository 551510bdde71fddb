//! Where replicas and leaders go, as pure functions.

use std::collections::BTreeMap;

use quorate_replication::{Claim, Member, NodeId, ShardId, ShardRecord};

use crate::{controller::row::ClusterRow, limits::SLOTS};

/// The nodes that may lead.
pub(super) type Loads = BTreeMap<NodeId, Load>;

/// A node that may lead, with what it leads and what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Shards that it leads or is about to lead.
    pub leads: u64,
    /// Its share. 0: none if another can.
    pub weight: u32,
}

/// Returns the row of a new cluster: slots in ranges of about equal length.
pub(super) fn cluster(shards: u32, replicas: u32) -> ClusterRow {
    let slots = (0..SLOTS).map(|slot| ShardId(1 + slot * shards / SLOTS));
    ClusterRow {
        shards,
        replicas,
        slots: slots.collect(),
    }
}

/// Returns the record of a new shard: `replicas` of the members, round robin by the number of the shard.
pub(super) fn new_shard(shard: ShardId, replicas: u32, members: &[Member]) -> ShardRecord {
    let replicas = usize::try_from(replicas)
        .unwrap_or(usize::MAX)
        .min(members.len());
    let first = usize::try_from(shard.0.saturating_sub(1)).unwrap_or_default();
    let mut voters: Vec<Member> = members
        .iter()
        .cycle()
        .skip(first % members.len().max(1))
        .take(replicas)
        .copied()
        .collect();
    voters.sort_unstable();
    ShardRecord {
        shard,
        claim: Claim::default(),
        leader: None,
        voters,
        next_voters: None,
        learners: Vec::new(),
    }
}

/// Returns who of the candidates should lead one shard more: the least loaded for its weight, then the lowest number.
pub(super) fn preferred(candidates: impl Iterator<Item = NodeId>, loads: &Loads) -> Option<NodeId> {
    candidates
        .filter_map(|node| loads.get(&node).map(|load| (cost(*load), node)))
        .min()
        .map(|(_, node)| node)
}

/// Notes that a shard which one node led, or was to lead, is to be led by another.
pub(super) fn shift(loads: &mut Loads, from: Option<NodeId>, to: Option<NodeId>) {
    if let Some(load) = from.and_then(|from| loads.get_mut(&from)) {
        load.leads = load.leads.saturating_sub(1);
    }
    if let Some(load) = to.and_then(|to| loads.get_mut(&to)) {
        load.leads += 1;
    }
}

/// What one leadership more costs a node, relative to its weight.
fn cost(load: Load) -> u64 {
    match load.weight {
        0 => u64::MAX,
        weight => (load.leads + 1).saturating_mul(u64::from(u32::MAX)) / u64::from(weight),
    }
}

/// A leadership that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub shard: ShardId,
    pub from: NodeId,
    pub to: NodeId,
}

/// Returns the one move that evens the leaderships most, if one is worth it: the receiver must be better off after
/// the move than the giver is before it, so that no two moves undo each other.
pub(super) fn next_move<'a>(
    records: impl Iterator<Item = &'a ShardRecord>,
    loads: &BTreeMap<NodeId, Load>,
) -> Option<Move> {
    let mut best: Option<(u64, Move)> = None;
    for record in records {
        let Some(from) = record.leader.map(|leader| leader.node) else {
            continue;
        };
        let Some(giver) = loads.get(&from) else {
            continue;
        };
        for to in record.voters.iter().map(|voter| voter.node) {
            let Some(receiver) = loads.get(&to).filter(|_| to != from) else {
                continue;
            };
            let before = giver.leads.saturating_mul(u64::from(receiver.weight));
            let after = (receiver.leads + 1).saturating_mul(u64::from(giver.weight));
            let gain = before.saturating_sub(after);
            if gain > 0 && best.is_none_or(|(most, _)| gain > most) {
                let shard = record.shard;
                best = Some((gain, Move { shard, from, to }));
            }
        }
    }
    best.map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use quorate_replication::DiskId;

    use super::*;

    fn members(count: u32) -> Vec<Member> {
        (1..=count)
            .map(|node| Member {
                node: NodeId(node),
                disk: DiskId(u64::from(node) * 10),
            })
            .collect()
    }

    fn loads(leads: &[u64], weights: &[u32]) -> BTreeMap<NodeId, Load> {
        (1..)
            .map(NodeId)
            .zip(leads.iter().zip(weights))
            .map(|(node, (&leads, &weight))| (node, Load { leads, weight }))
            .collect()
    }

    #[test]
    fn a_shard_that_is_to_be_led_by_another_counts_there() {
        let mut shifted = loads(&[2, 0], &[100, 100]);
        shift(&mut shifted, Some(NodeId(1)), Some(NodeId(2)));
        assert_eq!(shifted, loads(&[1, 1], &[100, 100]));
        // Those that may not lead are not among them.
        shift(&mut shifted, Some(NodeId(9)), None);
        shift(&mut shifted, None, Some(NodeId(9)));
        assert_eq!(shifted, loads(&[1, 1], &[100, 100]));
    }

    #[test]
    fn every_slot_has_a_shard_and_every_shard_about_as_many() {
        for shards in [1, 3, 8, 256, 1024] {
            let row = cluster(shards, 3);
            assert_eq!(row.slots.len(), 1024);
            for shard in 1..=shards {
                let share = row.slots.iter().filter(|slot| slot.0 == shard).count();
                let fair = 1024 / shards as usize;
                assert!(
                    (fair..=fair + 1).contains(&share),
                    "{shard} of {shards}: {share}"
                );
            }
        }
    }

    #[test]
    fn replicas_are_spread_round_robin_in_ascending_order() {
        let nodes = members(4);
        let voters = |shard| -> Vec<u32> {
            let record = new_shard(ShardId(shard), 3, &nodes);
            record.voters.iter().map(|voter| voter.node.0).collect()
        };
        assert_eq!(voters(1), [1, 2, 3]);
        assert_eq!(voters(2), [2, 3, 4]);
        assert_eq!(voters(3), [1, 3, 4]);
        assert_eq!(voters(4), [1, 2, 4]);
        assert_eq!(voters(5), [1, 2, 3]);
        assert_eq!(new_shard(ShardId(1), 3, &members(1)).voters.len(), 1);
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_preferred() {
        let nodes = || (1..=3).map(NodeId);
        assert_eq!(
            preferred(nodes(), &loads(&[2, 1, 1], &[1, 1, 1])),
            Some(NodeId(2))
        );
        assert_eq!(
            preferred(nodes(), &loads(&[2, 1, 1], &[9, 1, 1])),
            Some(NodeId(1))
        );
        assert_eq!(
            preferred(nodes(), &loads(&[5, 0, 0], &[1, 0, 0])),
            Some(NodeId(1))
        );
        assert_eq!(preferred(nodes(), &loads(&[0], &[0])), Some(NodeId(1)));
        assert_eq!(preferred(nodes(), &loads(&[], &[])), None);
    }

    #[test]
    fn moves_end_and_leave_an_even_spread() {
        let nodes = members(3);
        let mut records: Vec<_> = (1..=8)
            .map(|shard| new_shard(ShardId(shard), 3, &nodes))
            .collect();
        for record in &mut records {
            record.leader = Some(nodes[0]);
        }
        let mut moves = 0;
        let count = |records: &[ShardRecord]| {
            let mut leads = [0; 3];
            for record in records {
                leads[record.leader.unwrap().node.0 as usize - 1] += 1;
            }
            leads
        };
        while let Some(found) = next_move(records.iter(), &loads(&count(&records), &[1, 1, 1])) {
            let record = &mut records[found.shard.0 as usize - 1];
            assert_eq!(record.leader.unwrap().node, found.from);
            record.leader = Some(nodes[found.to.0 as usize - 1]);
            moves += 1;
            assert!(moves <= 8, "moves do not end");
        }
        let mut leads = count(&records);
        leads.sort_unstable();
        assert_eq!(leads, [2, 3, 3]);
    }
}
