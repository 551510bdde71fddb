//! What a new leader is told: what this gateway holds, so that it does not have to wait for it or take it for lost.
//!
//! ```text
//! Report first; for each consumer what it settles and does not claim
//! for each consumer: Report of what else that is by now, then its Attach with what it holds
//! Reported
//! ```
//! All of it goes over one stream, in this order, and batches of settlements behind what names them. The report starts over
//! with every leader and every link, and when an earlier leader answered for settlements that the present one was told of
//! as under way.
//!
//! The leader skips what it has applied by the number of the batch. Settlements of non-persistent messages have none, and are
//! carried out as they come: they are named at the beginning only, when none of them is with this leader.

use quorate_message::MessagePosition;

use super::{
    consumer::{Attachment, Consumer, Phase},
    core::Core,
    effect::{Command, Effect, Leaving},
    ids::{LinkId, NodeId, ShardId},
};

/// How far a report to the present leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Not begun.
    Due,
    /// Begun; consumers are being attached.
    Begun,
    /// Everything is said.
    Done,
}

/// How far the end of the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is not to end.
    Running,
    /// What clients held is being given back.
    Leaving,
    /// The shards are told.
    Left,
}

impl Core {
    /// Begins to report to leaders that can be reached.
    pub(super) fn begin_reports(&mut self, effects: &mut Vec<Effect>) {
        for (id, shard) in &mut self.shards {
            let Some((node, link)) = shard.target().filter(|_| shard.is_to_report()) else {
                continue;
            };
            shard.report = Report::Begun;
            effects.push(Effect::Control {
                node,
                link,
                shard: *id,
                command: Command::Report {
                    is_first: true,
                    leaving: Vec::new(),
                },
            });
            for call in &shard.consumers {
                let consumer = self.consumers.get(call);
                effects.extend(consumer.and_then(|it| report_of(it, Which::All, (node, link))));
            }
        }
    }

    /// Ends reports whose consumers are all attached.
    pub(super) fn end_reports(&mut self, effects: &mut Vec<Effect>) {
        for (id, shard) in &mut self.shards {
            let begun = shard.target().filter(|_| shard.report == Report::Begun);
            let Some((node, link)) = begun else {
                continue;
            };
            let mut consumers = shard.consumers.iter();
            let is_open = consumers.any(|call| {
                let is_unopened = self.unopened.contains_key(call);
                let consumer = self.consumers.get(call);
                consumer.is_some_and(|consumer| is_to_be_attached(consumer, is_unopened))
            });
            if !is_open {
                shard.report = Report::Done;
                effects.push(control(*id, (node, link), Command::Reported));
            }
        }
    }

    /// Lets go of all consumers: the process is about to end.
    pub(super) fn leave(&mut self) {
        self.ending = Ending::Leaving;
        for call in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.settle_abandoned(call);
            self.abandon_consumer(call);
        }
    }

    /// Tells the shards that nobody has to wait for this gateway, once nothing is in its hands.
    pub(super) fn leave_if_done(&mut self, effects: &mut Vec<Effect>) {
        if self.ending != Ending::Leaving || !self.consumers.is_empty() {
            return;
        }
        self.ending = Ending::Left;
        for (id, shard) in &self.shards {
            if let Some(leader) = shard.present() {
                effects.push(control(*id, leader, Command::Leave));
            }
        }
        effects.push(Effect::Left);
    }
}

fn is_to_be_attached(consumer: &Consumer, is_unopened: bool) -> bool {
    (consumer.phase == Phase::Open || is_unopened)
        && consumer.attachment == Attachment::Detached
        && consumer.waits_until.is_none()
}

fn control(shard: ShardId, (node, link): (NodeId, LinkId), command: Command) -> Effect {
    Effect::Control {
        node,
        link,
        shard,
        command,
    }
}

/// Of which messages a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those of the log.
    Persistent,
}

/// What a consumer settles and does not claim, for its leader.
pub(super) fn report_of(
    consumer: &Consumer,
    which: Which,
    (node, link): (NodeId, LinkId),
) -> Option<Effect> {
    let is_named = |position: &MessagePosition| which == Which::All || !position.is_transient();
    let leaving = consumer.leaving().into_iter();
    let leaving = leaving.filter_map(|(number, mut positions)| {
        positions.retain(is_named);
        (!positions.is_empty()).then_some((number, positions))
    });
    let leaving: Vec<Leaving> = leaving
        .map(|(number, positions)| Leaving {
            consumer: consumer.id,
            queue: consumer.queue.clone(),
            number,
            positions,
        })
        .collect();
    if leaving.is_empty() {
        return None;
    }
    let command = Command::Report {
        is_first: false,
        leaving,
    };
    Some(control(consumer.shard, (node, link), command))
}
