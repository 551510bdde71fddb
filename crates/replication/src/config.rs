//! What may be set about a replica and an election, with the defaults that the design counts with.

use crate::Duration;

/// Settings of a replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Config {
    /// A leader delivers only while a commit quorum answered a message that it sent less than this ago; a write of
    /// its own that takes longer counts as a stalled disk.
    pub node_timeout: Duration,
    /// Time between heartbeats of a leader.
    pub heartbeat: Duration,
    /// Most bytes of entries in one append; at least one entry is sent.
    pub max_append_bytes: usize,
    /// Most bytes of entries sent to one follower and not yet known to be durable there.
    pub max_in_flight_bytes: usize,
    /// Bytes of recent entries kept in memory. Entries that are not both durable and committed are kept beyond it.
    pub tail_bytes: usize,
    /// A leader takes no proposals while more bytes than this are not committed.
    pub max_uncommitted_bytes: usize,
    /// How many entries the durable bound is ahead of the log's end when it is raised.
    pub bound_step: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_timeout: Duration::from_millis(1_000),
            heartbeat: Duration::from_millis(200),
            max_append_bytes: 1024 * 1024,
            max_in_flight_bytes: 8 * 1024 * 1024,
            tail_bytes: 8 * 1024 * 1024,
            max_uncommitted_bytes: 16 * 1024 * 1024,
            bound_step: 4_096,
        }
    }
}

/// Settings of an election.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElectionConfig {
    /// Orders that are not answered are sent again after this.
    pub retry: Duration,
    /// A chosen leader that does not answer for this long is given up, and the shard claimed again.
    pub lead_timeout: Duration,
    /// How long a fence quorum waits for the preferred leader's answer.
    pub preferred_wait: Duration,
}

impl Default for ElectionConfig {
    fn default() -> Self {
        Self {
            retry: Duration::from_millis(100),
            lead_timeout: Duration::from_millis(1_000),
            preferred_wait: Duration::from_millis(30),
        }
    }
}
