//! The coordinator's side of giving one shard a leader: probe, claim, fence, choose, grant, lead.
//!
//! ```text
//!  Probing --quorum--> Claiming --done--> Fencing --chosen--> Granting --done--> Leading --serving--> over
//!     ^                   |                  |                   |                  |
//!     +--conflict, refusal, unknown result, unanswered (then the record is read first)
//! ```
//! Guarantees: fences only under a claim that the store confirmed; grants only against the version which that claim
//! produced, and never again on a record that was read; uses no answer to another claim. Does not know of stores,
//! sockets, clocks or randomness. Made to be thrown away: a new one for each loss of a leader.

mod input;
mod stuck;

pub use input::{
    ElectionEffect, ElectionEffects, ElectionEvent, ElectionInput, RequestId, Swapped,
};
pub use stuck::Stuck;

use crate::quorum::Preference;
use crate::{ClaimId, ElectionConfig, RecordVersion, ShardRecord, Time};

/// One shard's way to a leader that serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Election {
    config: ElectionConfig,
    record: ShardRecord,
    version: RecordVersion,
    preference: Preference,
    now: Time,
}

impl Election {
    /// Begins a new claim: the leader that `record` names, if any, is to be replaced. `preference.preferred` is to be
    /// a node that is alive: its answer is waited for a moment. `effects` gets the first orders.
    pub fn claim(
        config: ElectionConfig,
        record: ShardRecord,
        version: RecordVersion,
        preference: Preference,
        now: Time,
        fresh: ClaimId,
        effects: &mut ElectionEffects,
    ) -> Self {
        let _ = (fresh, &effects);
        Self {
            config,
            record,
            version,
            preference,
            now,
        }
    }

    /// What a new active coordinator does with a record that it finds: with `leader = none` it claims again; a named
    /// leader is sent `Lead` again, and the shard is claimed if it refuses or does not answer in time.
    pub fn take_over(
        config: ElectionConfig,
        record: ShardRecord,
        version: RecordVersion,
        preference: Preference,
        now: Time,
        fresh: ClaimId,
        effects: &mut ElectionEffects,
    ) -> Self {
        Self::claim(config, record, version, preference, now, fresh, effects)
    }

    /// Takes one fact and asks for what follows from it. `fresh` is a random number never used before: it becomes
    /// the id of a claim or the nonce of a probe if the step starts one.
    pub fn step(
        &mut self,
        now: Time,
        fresh: ClaimId,
        input: ElectionInput,
        effects: &mut ElectionEffects,
    ) {
        let _ = (fresh, input, effects, &self.config, &self.preference);
        self.now = now;
    }

    /// When `Elapsed` is wanted, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Whether a leader serves: nothing more will come of this election.
    #[must_use]
    pub fn is_over(&self) -> bool {
        false
    }

    /// The record as this election last knew it, with its version.
    #[must_use]
    pub fn record(&self) -> (&ShardRecord, RecordVersion) {
        (&self.record, self.version)
    }

    /// What is being waited for; none when the leader serves.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        None
    }
}
