//! Where messages of a name that moves are sent: to the shard that it leaves, until that one says that it takes none any
//! more; then to the one that it goes to.
//!
//! What a shard did not take waits in the backlog of its destination, in its order, and is tried again ahead of whatever
//! came in later: the shard that the name goes to says the same until it is ready. Non-persistent messages are not taken
//! as soon as the name begins to leave; they are sent on at once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{Batch, Command, DestinationName, Outcome, root};

use super::{core::Core, ids::ShardId, input::Outcomes, lane::Pending};

/// Whether messages are kept in the leader's memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IsTransient(pub(super) bool);

/// Names that the shard takes no more that they leave, by the number of their move.
#[derive(Debug, Default)]
pub(super) struct Switches {
    moves: BTreeMap<(DestinationName, IsTransient), u64>,
}

fn key(name: &DestinationName, is_transient: IsTransient) -> (DestinationName, IsTransient) {
    let root = match root(name) {
        whole if whole == name.as_str() => name.clone(),
        topic => DestinationName::new(topic).unwrap_or_else(|_| name.clone()),
    };
    (root, is_transient)
}

impl Core {
    /// The shard that messages of a name are sent to.
    pub(super) fn sends_to(
        &self,
        name: &DestinationName,
        is_transient: IsTransient,
    ) -> Option<ShardId> {
        match self.switched_to(name, is_transient) {
            Some(shard) => Some(shard),
            None => self.shard_of(name),
        }
    }

    /// Where a name goes that the shard takes no more that it leaves.
    pub(super) fn switched_to(
        &self,
        name: &DestinationName,
        is_transient: IsTransient,
    ) -> Option<ShardId> {
        let place = self.overrides.place(name)?;
        let number = place.moving?.number;
        let switched = self.switches.moves.get(&key(name, is_transient));
        (switched == Some(&number)).then_some(ShardId(place.shard))
    }

    /// A shard takes no more of a name. If that is since the name leaves it, messages go where it goes from here on. True:
    /// that is new.
    pub(super) fn leaves(
        &mut self,
        name: &DestinationName,
        from: ShardId,
        is_transient: IsTransient,
    ) -> bool {
        let place = self.overrides.place(name);
        let moving = place.and_then(|place| place.moving);
        let Some(moving) = moving.filter(|moving| moving.from == from.0) else {
            return false;
        };
        let key = key(name, is_transient);
        self.switches.moves.insert(key, moving.number) != Some(moving.number)
    }

    /// Notes which names of a batch a shard takes no more. Returns those of which that is new.
    pub(super) fn note_moved(
        &mut self,
        id: ShardId,
        batch: &Pending,
        outcomes: &Outcomes,
    ) -> BTreeSet<DestinationName> {
        let mut switched = BTreeSet::new();
        if !outcomes.has(Outcome::Moved) {
            return switched;
        }
        let Ok(parsed) = Batch::parse(batch.batch.clone()) else {
            return switched;
        };
        let is_transient = IsTransient(parsed.is_transient());
        for (ordinal, command) in parsed.commands() {
            if let Command::Publish { destination, .. } = command
                && outcomes.get(usize::from(ordinal)) == Some(Outcome::Moved)
            {
                let name = &parsed.destination(destination).name;
                if self.leaves(name, id, is_transient) {
                    switched.insert(key(name, is_transient).0);
                }
            }
        }
        switched
    }

    /// The overrides are others: what is remembered of moves that are over is forgotten, and what waits is tried.
    pub(super) fn replaced(&mut self) {
        let overrides = &self.overrides;
        self.switches.moves.retain(|(name, _), number| {
            let moving = overrides.place(name).and_then(|place| place.moving);
            moving.is_some_and(|moving| moving.number == *number)
        });
    }
}
