//! Kinds of runs beside the plain one.

use crate::trace::Mode;

use super::{Cluster, options::Options, report::Report};

impl Cluster {
    /// Runs one seed with all faults, and up to two scenes beside the plain queues.
    #[must_use]
    pub fn run_scenes(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Options::stage).run_to_end(seed)
    }

    /// Runs one seed with all faults and an operator at work.
    #[must_use]
    pub fn run_operated(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Options::operate).run_to_end(seed)
    }

    /// Runs one seed with all faults and a queue that moves from shard to shard.
    #[must_use]
    pub fn run_moved(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Options::relocate).run_to_end(seed)
    }

    /// Runs one seed with all faults and a topic that moves from shard to shard with its subscriptions.
    #[must_use]
    pub fn run_moved_topics(seed: u64, mode: Mode) -> Report {
        Self::new(seed, mode, Options::relocate_topic).run_to_end(seed)
    }
}
