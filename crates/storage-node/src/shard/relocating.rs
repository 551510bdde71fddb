//! Names that leave this shard: the serving leader proposes the first step of a move that the topology asks for, and tells
//! the coordinator when it is done, or why it cannot be. All between is the broker's.
//!
//! What is told is told again until the topology shows it: a coordinator may be away, or another one.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_broker::{Broker, Input as BrokerInput, Obstacle, Standing};
use quorate_message::{BatchBuilder, Destination, DestinationName, Overrides, Relocating, Step};
use quorate_replication::{Index, ShardId, Time};

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
    wanted: BTreeMap<DestinationName, Wanted>,
    /// Batches for other shards that the broker wants logged there.
    asking: Vec<(ShardId, DestinationName, Bytes)>,
    /// The newest ask about each name.
    asks: BTreeMap<DestinationName, Ask>,
}

/// A name that is to leave.
#[derive(Debug)]
struct Wanted {
    relocating: Relocating,
    /// When something is done about it again; none: it is under way.
    due: Option<Time>,
    /// The coordinator was told what came of it.
    is_reported: bool,
    /// Where the log ended when the first step was proposed first.
    proposed_at: Option<Index>,
}

impl Wanted {
    fn new(relocating: Relocating) -> Self {
        Self {
            relocating,
            due: Some(Time::default()),
            is_reported: false,
            proposed_at: None,
        }
    }
}

/// What this shard has to do about a move that the topology asks for.
enum Task {
    /// It is the broker's; when it is done a step follows.
    None,
    /// The first step is to be logged.
    Begin,
    /// It is done, or why it cannot be.
    Report(Option<Obstacle>),
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
            Some((name.clone(), Wanted::new(relocating)))
        });
        self.wanted = leaving.collect();
    }

    /// Another leadership begins, or none.
    pub(super) fn clear(&mut self) {
        for wanted in self.wanted.values_mut() {
            *wanted = Wanted::new(wanted.relocating);
        }
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
        self.wanted.values().filter_map(|wanted| wanted.due).min()
    }
}

impl Shard {
    /// Begins moves that are wanted, and tells of those that are done, or refused.
    pub(super) fn relocate(&mut self, now: Clock, out: &mut Vec<Effect>) {
        if self.relocations.wanted.is_empty() || !self.is_serving() {
            return;
        }
        let (applied, end) = (self.applied(), self.replica.end().index);
        for (name, wanted) in &mut self.relocations.wanted {
            let is_vouched = wanted.proposed_at.is_some_and(|end| end < applied);
            let task = match task(&self.broker, name, wanted.relocating, is_vouched) {
                Task::None => {
                    wanted.due = None;
                    continue;
                }
                task @ (Task::Begin | Task::Report(_)) => task,
            };
            let is_first = matches!(task, Task::Report(_)) && !wanted.is_reported;
            if !is_first && wanted.due.is_some_and(|due| due > now.time) {
                continue;
            }
            wanted.due = Some(now.time.after(RELOCATE_REPEAT));
            match task {
                Task::None => {}
                Task::Begin => {
                    wanted.proposed_at.get_or_insert(end);
                    let mut builder = BatchBuilder::persistent();
                    let at = Destination::queue(name.clone());
                    builder
                        .relocate(&at, Step::Leave, wanted.relocating, &[])
                        .expect("a step fits an empty batch");
                    note_all(self.submits.push_own(builder.finish()), out);
                }
                Task::Report(refusal) => {
                    let refusal = refusal.map_or_else(String::new, |why| why.to_string());
                    wanted.is_reported = true;
                    out.push(report(name.clone(), wanted.relocating, refusal));
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

/// What comes next. Only what is logged counts: what might yet change is no reason to refuse. `is_vouched`: this leader
/// has committed something since it heard of the move. Before that it may be one that was deposed, and not know where the
/// name went since.
fn task(broker: &Broker, name: &DestinationName, relocating: Relocating, is_vouched: bool) -> Task {
    let known = broker.relocation(name);
    if let Some(known) = known.filter(|known| known.relocating == relocating) {
        return match known.standing {
            Standing::Leaving | Standing::Expected | Standing::Here => Task::None,
            Standing::Gone => Task::Report(None),
            Standing::Stays(obstacle) => Task::Report(Some(obstacle)),
        };
    }
    match broker.obstacle(name) {
        // These do not go away, and cannot be logged.
        Some(obstacle @ (Obstacle::NotHere | Obstacle::TooManyNames)) if is_vouched => {
            Task::Report(Some(obstacle))
        }
        Some(
            Obstacle::NotHere
            | Obstacle::TooManyNames
            | Obstacle::TooManySubscriptions { .. }
            | Obstacle::TooManyQueues { .. }
            | Obstacle::TargetFull
            | Obstacle::TargetAway,
        )
        | None => Task::Begin,
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
