//! The session machine: one for a whole gateway, owned by one task.

use quorate_message::ProducerId;

use super::{effect::Effect, ids::Time, input::Input};

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Config {
    /// Under this name the gateway numbers messages whose clients have no name of their own. 16 random bytes,
    /// other ones at each start.
    pub producer: ProducerId,
    /// After so many microseconds without an answer a call fails with a retryable error.
    pub deadline_micros: u64,
    /// Bytes of messages that may wait in the gateway, in all.
    pub memory_bytes: u64,
}

/// The session machine.
#[derive(Debug)]
pub struct Core {
    config: Config,
}

impl Core {
    /// A gateway that knows of no node and no client.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// Takes in one fact and appends what is to be done about it.
    pub fn step(&mut self, _now: Time, _input: Input, _effects: &mut Vec<Effect>) {
        let _ = &self.config;
    }

    /// When to come back with `Input::Elapsed` if nothing else happens before. In the past when something gathered
    /// waits for `Input::Drained`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }
}
