//! Who should lead: leaderships go back to a node that returned, one at a time and slowly.

use quorate_replication::{Duration, ShardId, Time};

use super::Active;
use crate::{
    controller::{
        effect::{Effect, ElectionCause},
        placement,
        shard::Shard,
    },
    limits::{MOVE_AGAIN_MS, MOVE_PERIOD_MS, MOVE_STEADY_MS},
};

impl Active {
    /// Moves one leadership by a new claim that prefers the new leader and leaves the old one out of the choice: it
    /// would have the longest log of all as long as anybody publishes. The log decides; a node that is not caught up
    /// is not chosen, and the shard is then left alone for a while.
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
        let old = shard.record.leader;
        self.start_election(
            now,
            id,
            ElectionCause::Rebalance,
            old,
            Some(found.to),
            effects,
        );
    }
}
