//! Messages of a name that were sent to another shard than later ones are: the later ones wait until the earlier ones are
//! answered, so that a producer's order holds when its destination moves.
//!
//! What is answered with `Moved` waits ahead of whatever came later (`backlog`), and what is answered otherwise has its
//! place. What was not answered within the deadline has failed its call: its client sends it again, in its order, and
//! nobody waits for it here.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{Batch, Command, DestinationName, root};

use super::{
    core::Core,
    ids::{BatchNumber, ShardId},
    lane::Lane,
    shard::Kind,
};

/// For each name the shards that have not answered for it, and the last batch of each with a message of the name.
#[derive(Debug, Default)]
pub(super) struct Forerunners {
    by_name: BTreeMap<DestinationName, BTreeMap<ShardId, BatchNumber>>,
}

impl Core {
    /// Whether messages for this destination wait for earlier ones that went to another shard.
    pub(super) fn has_forerunners(&self, name: &DestinationName) -> bool {
        let by_name = &self.forerunners.by_name;
        !by_name.is_empty() && by_name.contains_key(root(name))
    }

    /// Messages of these names go to another shard than this from here on.
    pub(super) fn turned_from(&mut self, shard: ShardId, names: &BTreeSet<DestinationName>) {
        let Some(state) = self.shards.get_mut(&shard) else {
            return;
        };
        let (lane, numbers) = state.lane(Kind::Stored);
        lane.seal(numbers);
        for (name, last) in last_of(lane, names) {
            let of_name = self.forerunners.by_name.entry(name).or_default();
            of_name.insert(shard, last);
        }
    }

    /// A shard has answered something, or has not in time: what waits for nothing else goes on.
    pub(super) fn let_followers_on(&mut self, shard: ShardId) {
        if self.forerunners.by_name.is_empty() {
            return;
        }
        let Some(state) = self.shards.get_mut(&shard) else {
            return;
        };
        let (lane, _) = state.lane(Kind::Stored);
        let mut free = Vec::new();
        self.forerunners.by_name.retain(|name, of_name| {
            if of_name.get(&shard).is_some_and(|last| is_past(lane, *last)) {
                of_name.remove(&shard);
            }
            if of_name.is_empty() {
                free.push(name.clone());
            }
            !of_name.is_empty()
        });
        for name in free {
            self.hurry(&name);
        }
    }
}

/// Of these names the last batch with a message of it.
fn last_of(
    lane: &Lane,
    names: &BTreeSet<DestinationName>,
) -> BTreeMap<DestinationName, BatchNumber> {
    let mut last = BTreeMap::new();
    for waiting in lane.awaited() {
        let Ok(batch) = Batch::parse(waiting.batch.clone()) else {
            continue;
        };
        for (_, command) in batch.commands() {
            if let Command::Publish { destination, .. } = command
                && let Some(name) = names.get(root(&batch.destination(destination).name))
            {
                last.insert(name.clone(), waiting.number);
            }
        }
    }
    last
}

/// Whether nobody waits for this batch or an earlier one.
fn is_past(lane: &Lane, last: BatchNumber) -> bool {
    lane.awaited().all(|batch| batch.number > last)
}
