//! Who should lead: leaderships go back to a node that returned, one at a time and slowly.

use quorate_replication::{Duration, ShardId, Time};

use super::Active;
use crate::{
    controller::{
        effect::{Effect, MoveCause},
        placement,
        shard::Shard,
    },
    limits::{MOVE_AGAIN_MS, MOVE_PERIOD_MS, MOVE_STEADY_MS},
};

impl Active {
    /// Moves one leadership as planned. A shard is then left alone for a while, whether it was moved or not.
    pub(super) fn move_one(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let steady = Duration::from_millis(MOVE_STEADY_MS);
        if !self.config.rebalance || now < self.next_move || now.since(self.steady_since) < steady {
            return;
        }
        if !self.shards.values().all(Shard::is_settled) {
            return;
        }
        let is_whole = |shard: &Shard| {
            let mut voters = shard.record.voters.iter();
            voters.all(|voter| self.can_lead(*voter))
        };
        let movable = self
            .shards
            .values()
            .filter(|shard| shard.settled_until <= now && is_whole(shard))
            .map(|shard| &shard.record);
        let Some(found) = placement::next_move(movable, &self.loads()) else {
            return;
        };
        let id: ShardId = found.shard;
        self.next_move = now.after(Duration::from_millis(MOVE_PERIOD_MS));
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        shard.settled_until = now.after(Duration::from_millis(MOVE_AGAIN_MS));
        let mut voters = shard.record.voters.iter();
        if let Some(to) = voters.find(|voter| voter.node == found.to).copied() {
            self.start_move(now, id, to, MoveCause::Rebalance, effects);
        }
    }
}
