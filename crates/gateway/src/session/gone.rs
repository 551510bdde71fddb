//! Temporary destinations that are over: a late answer does not make one once more.
//!
//! Known of those that this gateway was told of, the latest [`GONE_NAMES_MAX`]. What is not known here goes through, and
//! the shard deletes what nobody uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_message::{DestinationName, Outcome};

use super::{
    core::Core,
    effect::Effect,
    ids::CallId,
    input::{Publication, Whose},
};
use crate::limits::GONE_NAMES_MAX;

/// The latest.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Those that somebody has: here, elsewhere. Known to `announcements` too, but this machine must decide in the order of its
    /// own inputs.
    there: BTreeMap<DestinationName, (bool, bool)>,
    names: BTreeSet<DestinationName>,
    order: VecDeque<DestinationName>,
}

impl Gone {
    /// Clients here or elsewhere have it, or have it no longer. A client that comes back has again what it had.
    pub(super) fn told(&mut self, name: DestinationName, whose: Whose, is_there: bool) {
        if !name.is_temporary() {
            return;
        }
        let (mut here, mut elsewhere) = self.there.get(&name).copied().unwrap_or_default();
        match whose {
            Whose::Here => here = is_there,
            Whose::Elsewhere => elsewhere = is_there,
        }
        if here || elsewhere {
            self.there.insert(name.clone(), (here, elsewhere));
            if self.names.remove(&name) {
                self.order.retain(|other| *other != name);
            }
            return;
        }
        self.there.remove(&name);
        if !self.names.insert(name.clone()) {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > GONE_NAMES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }

    pub(super) fn has(&self, name: &DestinationName) -> bool {
        !self.names.is_empty() && self.names.contains(name)
    }
}

impl Core {
    /// A message is for a destination that is over.
    pub(super) fn refuse_late(
        &mut self,
        (call, ordinal): (CallId, u64),
        publication: &Publication,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Confirmed {
            call,
            first: ordinal,
            count: 1,
            outcome: Outcome::UnknownDestination,
            cause: Some(self.cause(&publication.destination)),
        });
        let size = publication.message.len() as u64;
        self.unburden(call, 1, size, effects);
    }
}
