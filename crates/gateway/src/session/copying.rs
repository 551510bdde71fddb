//! Messages with a composite destination: a copy to each, confirmed once all have it.

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::{Destination, Outcome, ProducerId};

use super::{
    backlog::Origin,
    core::{Call, Core},
    diverting::IsTransient,
    effect::{Cause, Effect, Failure},
    ids::{CallId, ShardId, Time},
    input::Publication,
    lane::check,
    publishing::kind_of_publication,
};

/// A message that goes to several destinations, until all have answered.
#[derive(Debug)]
pub(super) struct Composite {
    left: usize,
    /// The worst of the outcomes so far, and what there is to say of it.
    outcome: Outcome,
    cause: Option<Box<Cause>>,
}

impl Core {
    /// Puts a message with a composite destination into the batches of each.
    pub(super) fn copies(
        &mut self,
        now: Time,
        (call, ordinal): (CallId, u64),
        (producer, mut publication): (Option<ProducerId>, Publication),
        touched: &mut BTreeSet<ShardId>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if let Err(full) = check(&publication) {
            let size = publication.message.len() as u64;
            let wrong = (Arc::from(full.to_string()), size);
            self.found_wrong((call, ordinal), wrong, effects);
            return Ok(());
        }
        let also = std::mem::take(&mut publication.also);
        let destinations: BTreeSet<_> = [publication.destination.clone()]
            .into_iter()
            .chain(also)
            .collect();
        let named = producer.map(|producer| of_composite(producer, &destinations));
        let producer = self.producer_of(named, &mut publication);
        let composite = Composite {
            left: destinations.len(),
            outcome: Outcome::Duplicate,
            cause: None,
        };
        self.composites.insert((call, ordinal), composite);
        for destination in destinations {
            let is_transient = IsTransient(publication.non_persistent);
            if self.is_held_back(&destination, is_transient) {
                let origin = Origin {
                    call,
                    ordinal,
                    is_copy: true,
                };
                publication.destination = destination;
                let (id, copy) = (producer.id, publication.clone());
                self.hold_back((origin, None), id, copy, effects)?;
                continue;
            }
            let id = self.sends_to(&destination.name, is_transient);
            let shard = id.and_then(|id| self.shards.get_mut(&id));
            let shard = shard.ok_or(Failure::NoTopology)?;
            let id = shard.id;
            touched.insert(id);
            publication.destination = destination;
            let (lane, numbers) = shard.lane(kind_of_publication(&publication));
            let added = lane.publish_copy(now, numbers, producer, (call, ordinal), &publication);
            added.map_err(|full| Failure::Malformed {
                shard: id,
                reason: Arc::from(full.to_string()),
            })?;
            shard.bytes += publication.message.len() as u64;
            self.bytes += publication.message.len() as u64;
        }
        Ok(())
    }

    /// A call is over: nobody asks any more what becomes of its messages with composite destinations.
    pub(super) fn forget_composites(&mut self, call: CallId) {
        let of_call = self.composites.range((call, 0)..=(call, u64::MAX));
        for key in of_call.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.composites.remove(&key);
        }
    }

    /// One of the destinations of a message has answered.
    pub(super) fn copied(
        &mut self,
        (call, ordinal): (CallId, u64),
        (outcome, bytes): (Outcome, u64),
        cause: Option<Box<Cause>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(composite) = self.composites.get_mut(&(call, ordinal)) else {
            return;
        };
        composite.left -= 1;
        if !outcome.is_stored() || composite.outcome == Outcome::Duplicate {
            composite.outcome = outcome;
            composite.cause = cause;
        }
        if composite.left > 0 {
            return;
        }
        let Some(Composite { outcome, cause, .. }) = self.composites.remove(&(call, ordinal))
        else {
            return;
        };
        if let Some(Call::Publishing(_)) = self.calls.get(&call) {
            effects.push(Effect::Confirmed {
                call,
                first: ordinal,
                count: 1,
                outcome,
                cause,
            });
            self.unburden(call, 1, bytes, effects);
        }
    }
}

/// The name under which a producer's messages for a composite destination are known at each of its parts: apart from
/// those that it sends there directly, which have numbers of their own.
fn of_composite(producer: ProducerId, destinations: &BTreeSet<Destination>) -> ProducerId {
    let mut mixed = u128::from_le_bytes(producer.0);
    for destination in destinations {
        for byte in destination.to_string().bytes().chain([0]) {
            mixed =
                (mixed ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    ProducerId(mixed.to_le_bytes())
}
