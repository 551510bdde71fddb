//! A bounded, exhaustive search over the real replicas and the real election.
//!
//! Three replicas of one shard, a coordinator and its store. Messages may be reordered, lost (by never being delivered) and,
//! within a budget, repeated; replicas restart and lose what was not durable; elections begin without a reason and cut each
//! other short. Time stands still: every deadline only repeats what a message did already. The rules are those of
//! `quorate_replication::invariant`. A planted [`Bug`] changes what the shell around the machines does, never the
//! machines, and each has to be found.

mod judge;
mod slot;
mod state;

use quorate_replication::NodeId;
use stateright::{Model, Property};

pub use self::state::{Action, Envelope, State};

/// How far the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// Elections after the first one.
    pub elections: u8,
    /// Entries proposed.
    pub proposals: u8,
    /// Restarts that lose what was not durable.
    pub restarts: u8,
    /// Messages delivered twice.
    pub repeats: u8,
    /// Answers of the store that are lost although the change was made.
    pub unknowns: u8,
    /// The leader that later elections prefer.
    pub preferred: Option<NodeId>,
}

/// A mistake in the shell around the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// None: nothing may be found.
    None,
    /// Appends are answered before they are durable.
    AnswersBeforeDurable,
    /// Fences are answered before the log is synced and the promise written.
    FencesBeforeSync,
    /// An answer to an append of a lower epoch is taken for one of the leader's own.
    CountsLowerEpoch,
    /// A restart forgets the promise.
    ForgetsPromise,
    /// A restart shortens the log in silence.
    ShortensLog,
}

/// The model: a budget and a mistake.
#[derive(Clone, Debug)]
pub struct Shards {
    /// How far the search goes.
    pub budget: Budget,
    /// The mistake that is made.
    pub bug: Bug,
}

/// The property that no rule is broken.
pub const SAFE: &str = "no rule is broken";

impl Model for Shards {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::led(self.bug, self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation().is_none() {
            state.actions(actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |_: &Self, state: &State| state.violation().is_none()),
            Property::sometimes("a proposal is committed", |_: &Self, state: &State| {
                state.committed_proposals() > 0
            }),
            Property::sometimes("a second leader serves", |_: &Self, state: &State| {
                state.highest_serving().0 > 1
            }),
        ]
    }
}

#[cfg(test)]
mod tests;
