//! Where messages of a name that moves are sent: to the shard that it leaves, until that one says that it takes none any
//! more; then to the one that it goes to.
//!
//! What a shard did not take waits in the backlog of its destination, in its order, and is tried again ahead of whatever
//! came in later: the shard that the name goes to says the same until it is ready. Non-persistent messages are not taken
//! as soon as the name begins to leave; they wait apart, and go on at once when it is known where to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate_message::{Command, DestinationName, Outcome, Overrides, root};

use super::{confirming::Parsed, core::Core, ids::ShardId, input::Outcomes};

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

    /// Whether a name is on its way, or messages for it wait for those that went where it was.
    pub(super) fn is_moving(&self, name: &DestinationName) -> bool {
        let place = self.overrides.place(name);
        place.is_some_and(|place| place.moving.is_some()) || self.has_forerunners(name)
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
        let root = key.0.clone();
        let is_new = self.switches.moves.insert(key, moving.number) != Some(moving.number);
        if is_new && !is_transient.0 {
            self.turned_from(from, &BTreeSet::from([root]));
        }
        is_new
    }

    /// Notes which names of a batch a shard takes no more. Returns those that are sent elsewhere now.
    pub(super) fn note_moved(
        &mut self,
        id: ShardId,
        parsed: &Parsed<'_>,
        outcomes: &Outcomes,
    ) -> BTreeSet<DestinationName> {
        let mut elsewhere = BTreeSet::new();
        if !outcomes.has(Outcome::Moved) {
            return elsewhere;
        }
        let Some(batch) = parsed.batch() else {
            return elsewhere;
        };
        let is_transient = parsed.is_transient();
        for (ordinal, command) in batch.commands() {
            if let Command::Publish { destination, .. } = command
                && outcomes.get(usize::from(ordinal)) == Some(Outcome::Moved)
            {
                let name = &batch.destination(destination).name;
                let is_new = self.leaves(name, id, is_transient);
                if is_new || self.sends_to(name, is_transient) != Some(id) {
                    elsewhere.insert(key(name, is_transient).0);
                }
            }
        }
        elsewhere
    }

    /// Where a queue is paused or resumed that a shard delivers no more, since it leaves it: where it goes, with what the
    /// command wanted. None: that is not why it was refused.
    pub(super) fn paused_elsewhere(
        &self,
        (from, outcome): (ShardId, Option<Outcome>),
        (parsed, at): (&Parsed<'_>, usize),
    ) -> Option<(ShardId, DestinationName, bool)> {
        if outcome != Some(Outcome::Moved) {
            return None;
        }
        let batch = parsed.batch()?;
        let command = batch.command(u16::try_from(at).ok()?)?;
        let Command::Pause {
            destination,
            is_paused,
        } = command
        else {
            return None;
        };
        let queue = batch.destination(destination).name.clone();
        let place = self.overrides.place(&queue)?;
        let moving = place.moving.filter(|moving| moving.from == from.0);
        moving.map(|_| (ShardId(place.shard), queue, is_paused))
    }

    /// Names live elsewhere than before. What is remembered of moves that are over is forgotten; what waits of names
    /// whose place is another one is tried there, behind what went to the shard before.
    pub(super) fn replace_overrides(&mut self, newer: &Arc<Overrides>) {
        let older = Arc::clone(&self.overrides);
        let is_other = |name: &&DestinationName| older.place(name) != newer.place(name);
        let names = older.iter().chain(newer.iter()).map(|(name, _)| name);
        let names: BTreeSet<_> = names.filter(is_other).cloned().collect();
        let stored = IsTransient(false);
        let before: Vec<_> = names.iter().map(|n| self.sends_to(n, stored)).collect();
        self.overrides = Arc::clone(newer);
        self.switches.moves.retain(|(name, _), number| {
            let moving = newer.place(name).and_then(|place| place.moving);
            moving.is_some_and(|moving| moving.number == *number)
        });
        let mut turned: BTreeMap<ShardId, BTreeSet<DestinationName>> = BTreeMap::new();
        for (name, before) in names.iter().zip(before) {
            if let Some(before) = before.filter(|at| self.sends_to(name, stored) != Some(*at)) {
                turned.entry(before).or_default().insert(name.clone());
            }
        }
        for (shard, names) in turned {
            self.turned_from(shard, &names);
        }
        self.hurry_all(&names);
    }
}
