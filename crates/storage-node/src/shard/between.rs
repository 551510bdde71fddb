//! Between shards: the leader of one asks the leader of another to take a batch.
//!
//! ```text
//!  source's leader                                   target's leader
//!  outbox -> Forward -> Submit(ask, batch)  ------>  proposed, committed, applied
//!  outbox <- Forwarded <------- Outcomes(ask) <----  or Refused(ask)
//! ```
//! Messages are datagrams: whatever is lost, the broker offers again, and the numbers of the batch make a repeat
//! harmless. What comes for another leadership is dropped. A target in this same shard takes the same way, without
//! leaving it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_broker::{Forwarded, Input as BrokerInput, Outcomes, Resolution, Route};
use quorate_message::{
    Batch, BatchBuilder, Command, Destination, Outcome, ProducerId, Publication,
};
use quorate_replication::{Epoch, ShardId};

use super::{
    Shard,
    effect::{Act, Effect, Note},
    input::{Clock, Placement},
    note_all,
    submit::Asker,
};

/// What one shard's leader says to another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardMessage {
    /// Take this batch: publishes of the producer that the sender is.
    Submit {
        /// Names the answer.
        ask: Ask,
        /// The batch, in its stored encoding.
        batch: Bytes,
    },
    /// The batch is committed and applied.
    Outcomes {
        /// That of the batch.
        ask: Ask,
        /// What became of each command.
        outcomes: Outcomes,
    },
    /// The batch was not taken.
    Refused {
        /// That of the batch.
        ask: Ask,
        /// Why.
        reason: Unwilling,
    },
    /// About a transaction that its gateway did not finish.
    Resolution(Resolution),
}

/// Names a request between shards: the leadership that asks, and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// The epoch of the shard that asks.
    pub epoch: Epoch,
    /// Fresh within it.
    pub number: u64,
}

/// Why a shard does not take what another asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unwilling {
    /// It does not lead here.
    NotLeading,
    /// It has no room now.
    Overloaded,
    /// It can never take it.
    Malformed,
}

/// What this shard has asked of others.
#[derive(Debug, Default)]
pub(super) struct Between {
    placement: Option<Placement>,
    /// What the broker wants forwarded.
    outgoing: Vec<(Destination, Vec<Forwarded>)>,
    /// Targets that moved from where the placement has them: they are offered to where they go.
    diverted: BTreeSet<Destination>,
    /// The newest offer to each target, and the numbers in it.
    offers: BTreeMap<Destination, Offer>,
    asked: u64,
}

#[derive(Debug)]
struct Offer {
    ask: Ask,
    numbers: Vec<u64>,
}

impl Between {
    /// Forgets everything of a leadership.
    pub(super) fn clear(&mut self) {
        self.outgoing.clear();
        self.offers.clear();
        self.asked = 0;
    }

    /// Where destinations live.
    pub(super) fn placed(&mut self, placement: Placement) {
        self.diverted.clear();
        self.placement = Some(placement);
    }

    /// The broker wants something forwarded.
    pub(super) fn push(&mut self, target: Destination, messages: Vec<Forwarded>) {
        self.outgoing.push((target, messages));
    }

    fn shard_of(&self, target: &Destination) -> Option<ShardId> {
        let placement = self.placement.as_ref()?;
        let place = placement.overrides.place(&target.name);
        match place.filter(|_| self.diverted.contains(target)) {
            Some(place) => Some(ShardId(place.shard)),
            None => placement.shard_of(&target.name),
        }
    }

    /// The shard of a target that moves, or moved, to `shard` by the move of this number.
    fn shard_since(&self, target: &Destination, number: u64, shard: u32) -> Option<ShardId> {
        let overrides = self.placement.as_ref().map(|placed| &placed.overrides);
        let is_over = overrides.is_some_and(|overrides| {
            let place = overrides.place(&target.name);
            let moving = place.and_then(|place| place.moving);
            overrides.version() >= number && moving.is_none_or(|moving| moving.number != number)
        });
        match is_over {
            true => self.shard_of(target),
            false => Some(ShardId(shard)),
        }
    }

    /// The target lives elsewhere: the next offer goes to the other one of the two shards that it can be in.
    fn divert(&mut self, target: &Destination) {
        if !self.diverted.remove(target) {
            self.diverted.insert(target.clone());
        }
    }

    fn take_offer(&mut self, ask: Ask) -> Option<(Destination, Vec<u64>)> {
        let mut offers = self.offers.iter();
        let (target, _) = offers.find(|(_, offer)| offer.ask == ask)?;
        let target = target.clone();
        let offer = self.offers.remove(&target)?;
        Some((target, offer.numbers))
    }
}

impl Shard {
    /// Offers to their targets what the broker wants forwarded.
    pub(super) fn forward(&mut self, now: Clock, out: &mut Vec<Effect>) {
        for (target, messages) in std::mem::take(&mut self.between.outgoing) {
            let shard = match self.broker.route(&target) {
                Route::Placement => self.between.shard_of(&target),
                Route::Here => Some(self.id),
                Route::Elsewhere(shard) => Some(ShardId(shard)),
                Route::NotYet => None,
                Route::Since { number, shard } => self.between.shard_since(&target, number, shard),
            };
            let (Some(shard), Some(ask)) = (shard, self.next_ask()) else {
                self.deliver(now, BrokerInput::ForwardRefused { target }, out);
                continue;
            };
            let (batch, numbers) = batch_of(self.id, &target, &messages);
            self.between.offers.insert(target, Offer { ask, numbers });
            let message = ShardMessage::Submit { ask, batch };
            if shard == self.id {
                self.heard(now, shard, message, out);
            } else {
                out.push(to_shard(shard, message));
            }
        }
    }

    /// A name for the next request to another shard; none when this replica does not lead.
    pub(super) fn next_ask(&mut self) -> Option<Ask> {
        let epoch = self.deliveries.leading?;
        self.between.asked += 1;
        let number = self.between.asked;
        Some(Ask { epoch, number })
    }

    /// Another shard's leader says something; or this one, to itself.
    pub(super) fn heard(
        &mut self,
        now: Clock,
        from: ShardId,
        message: ShardMessage,
        out: &mut Vec<Effect>,
    ) {
        match message {
            ShardMessage::Submit { ask, batch } => {
                if let Err(reason) = self.take_batch(now, (from, ask), batch, out) {
                    let refused = ShardMessage::Refused { ask, reason };
                    self.answer_shard(now, from, refused, out);
                }
            }
            ShardMessage::Resolution(message) => {
                let from = from.0;
                self.deliver(now, BrokerInput::Resolve { from, message }, out);
            }
            ShardMessage::Outcomes { .. } | ShardMessage::Refused { .. } => {
                if let Some(input) = self.answered_by_shard(message, out) {
                    self.deliver(now, input, out);
                }
            }
        }
    }

    /// What the broker is told of an answer.
    pub(super) fn answered_by_shard(
        &mut self,
        message: ShardMessage,
        out: &mut Vec<Effect>,
    ) -> Option<BrokerInput> {
        let (ask, outcomes) = match message {
            ShardMessage::Outcomes { ask, outcomes } => (ask, Some(outcomes)),
            ShardMessage::Refused { ask, reason } => {
                if reason == Unwilling::Malformed {
                    note_all(Some(Note::Dropped("batch that another shard refused")), out);
                }
                (ask, None)
            }
            ShardMessage::Submit { .. } | ShardMessage::Resolution(_) => return None,
        };
        if self.deliveries.leading != Some(ask.epoch) {
            return None;
        }
        if let Some(name) = self.relocations.take(ask) {
            return Some(BrokerInput::Asked { name, outcomes });
        }
        let (target, numbers) = self.between.take_offer(ask)?;
        Some(match outcomes {
            Some(outcomes) if outcomes.iter().any(|outcome| outcome == Outcome::Moved) => {
                self.between.divert(&target);
                // What was stored before it moved is known where it is.
                BrokerInput::ForwardRefused { target }
            }
            Some(outcomes) => BrokerInput::Forwarded {
                target,
                outcomes: numbers.into_iter().zip(outcomes.iter()).collect(),
            },
            None => BrokerInput::ForwardRefused { target },
        })
    }

    /// Tells a shard that asked.
    pub(super) fn answer_shard(
        &mut self,
        now: Clock,
        to: ShardId,
        message: ShardMessage,
        out: &mut Vec<Effect>,
    ) {
        if to != self.id {
            out.push(to_shard(to, message));
        } else if let Some(input) = self.answered_by_shard(message, out) {
            self.deliver(now, input, out);
        }
    }

    fn take_batch(
        &mut self,
        now: Clock,
        (from, ask): (ShardId, Ask),
        batch: Bytes,
        out: &mut Vec<Effect>,
    ) -> Result<(), Unwilling> {
        if !self.replica.is_leading() || self.is_halted() {
            return Err(Unwilling::NotLeading);
        }
        if !self.replica.can_propose() || self.submits.is_space_low {
            return Err(Unwilling::Overloaded);
        }
        let batch = Batch::parse(batch).map_err(|_| Unwilling::Malformed)?;
        if !is_of_shard(&batch, (from, self.id)) {
            return Err(Unwilling::Malformed);
        }
        let asker = Asker::Shard { from, ask };
        let payload = batch.bytes().clone();
        self.propose(now, &mut vec![payload], &mut vec![(asker, batch)], out);
        Ok(())
    }
}

/// Whether a batch holds nothing but what one shard forwards, and what it says of names that move from there to here.
fn is_of_shard(batch: &Batch, (from, to): (ShardId, ShardId)) -> bool {
    let wanted = ProducerId::of_shard(from.0);
    let mut commands = batch.commands();
    !batch.is_transient()
        && commands.all(|(_, command)| {
            if let Command::Relocate {
                step, relocating, ..
            } = command
            {
                let ends = (ShardId(relocating.from), ShardId(relocating.to));
                return step.is_of_target() && ends == (from, to);
            }
            matches!(command, Command::Publish { producer, .. } if producer == wanted)
        })
}

/// The batch that has messages stored at their target, and the numbers of those that it has room for: the first
/// always. The rest is offered later.
fn batch_of(from: ShardId, target: &Destination, messages: &[Forwarded]) -> (Bytes, Vec<u64>) {
    let mut builder = BatchBuilder::persistent();
    let mut numbers = Vec::with_capacity(messages.len());
    for forwarded in messages {
        let publication = Publication {
            destination: target,
            producer: ProducerId::of_shard(from.0),
            number: forwarded.number,
            priority: forwarded.priority,
            expires_at_ms: forwarded.expires_at_ms,
            is_retained: false,
        };
        let added = match &forwarded.luggage {
            None => builder.publish(&publication, &forwarded.message),
            Some(luggage) => builder.publish_relocated(&publication, luggage, &forwarded.message),
        };
        match added {
            Ok(_) => numbers.push(forwarded.number),
            Err(_) => break,
        }
    }
    (builder.finish(), numbers)
}

/// Something for another shard.
pub(super) fn to_shard(shard: ShardId, message: ShardMessage) -> Effect {
    Effect {
        after: None,
        act: Act::ToShard { shard, message },
    }
}
