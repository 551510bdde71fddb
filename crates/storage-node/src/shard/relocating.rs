//! Names that leave this shard: the serving leader proposes the first step of a move that the topology asks for, and tells
//! the coordinator when it is done, or why it cannot be. All between is the broker's.
//!
//! What is told is told again until the topology shows it: a coordinator may be away, or another one.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_broker::Input as BrokerInput;
use quorate_message::{BatchBuilder, Destination, DestinationName, Overrides, Relocating, Step};
use quorate_replication::{ShardId, Time};

use super::{
    Shard,
    between::{Ask, ShardMessage, to_shard},
    effect::{Act, Effect},
    input::Clock,
    note_all,
};
use crate::limits::RELOCATE_REPEAT;

/// What is wanted, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Relocations {
    /// Names that are to leave, by the newest topology.
    wanted: BTreeMap<DestinationName, Relocating>,
    /// When each is looked at again.
    due: BTreeMap<DestinationName, Time>,
    /// Batches for other shards that the broker wants logged there.
    asking: Vec<(ShardId, DestinationName, Bytes)>,
    /// The newest ask about each name.
    asks: BTreeMap<DestinationName, Ask>,
}

impl Relocations {
    /// The topology has these overrides.
    pub(super) fn told(&mut self, shard: ShardId, overrides: &Overrides) {
        let leaving = overrides.iter().filter_map(|(name, place)| {
            let moving = place.moving.filter(|moving| moving.from == shard.0)?;
            let relocating = Relocating {
                number: moving.number,
                from: moving.from,
                to: place.shard,
            };
            Some((name.clone(), relocating))
        });
        self.wanted = leaving.collect();
        self.due.clear();
    }

    /// Another leadership begins, or none.
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.asking.clear();
        self.asks.clear();
    }

    /// The broker wants a batch logged by another shard.
    pub(super) fn push(&mut self, shard: u32, name: DestinationName, batch: Bytes) {
        self.asking.push((ShardId(shard), name, batch));
    }

    /// The name that an ask was about, if it is the newest of it.
    pub(super) fn take(&mut self, ask: Ask) -> Option<DestinationName> {
        let mut asks = self.asks.iter();
        let name = asks.find(|(_, newest)| **newest == ask)?.0.clone();
        self.asks.remove(&name);
        Some(name)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.due.values().min().copied()
    }
}

impl Shard {
    /// Begins moves that are wanted, and tells of those that are done.
    pub(super) fn relocate(&mut self, now: Clock, out: &mut Vec<Effect>) {
        if self.relocations.wanted.is_empty() || !self.is_serving() {
            return;
        }
        for (name, relocating) in self.relocations.wanted.clone() {
            let due = self.relocations.due.get(&name);
            let is_early = due.is_some_and(|due| *due > now.time);
            let known = self.broker.relocation(&name);
            let is_known = known.is_some_and(|known| known.relocating == relocating);
            let is_gone = known.is_some_and(|known| is_known && known.is_gone);
            // One that is under way is the broker's; when it is done a step follows.
            if is_early || (is_known && !is_gone) {
                continue;
            }
            let due = now.time.after(RELOCATE_REPEAT);
            self.relocations.due.insert(name.clone(), due);
            match (is_gone, self.broker.obstacle(&name)) {
                (true, _) => out.push(report(name, relocating, String::new())),
                (false, Some(obstacle)) => {
                    out.push(report(name, relocating, obstacle.to_string()));
                }
                (false, None) => {
                    let mut builder = BatchBuilder::persistent();
                    builder
                        .relocate(&Destination::queue(name), Step::Leave, relocating, &[])
                        .expect("a step fits an empty batch");
                    note_all(self.submits.push_own(builder.finish()), out);
                }
            }
        }
    }

    /// Asks other shards what the broker wants of them.
    pub(super) fn ask_shards(&mut self, now: Clock, out: &mut Vec<Effect>) {
        for (shard, name, batch) in std::mem::take(&mut self.relocations.asking) {
            let Some(ask) = self.next_ask() else {
                let outcomes = None;
                self.deliver(now, BrokerInput::Asked { name, outcomes }, out);
                continue;
            };
            self.relocations.asks.insert(name, ask);
            let message = ShardMessage::Submit { ask, batch };
            if shard == self.id {
                self.heard(now, shard, message, out);
            } else {
                out.push(to_shard(shard, message));
            }
        }
    }
}

fn report(name: DestinationName, relocating: Relocating, refusal: String) -> Effect {
    Effect {
        after: None,
        act: Act::ReportMove {
            name,
            number: relocating.number,
            refusal,
        },
    }
}
