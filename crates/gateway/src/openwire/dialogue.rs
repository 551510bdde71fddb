//! One OpenWire connection: what its client says becomes calls of the session machine, and the answers become what an
//! ActiveMQ client expects.
//!
//! A pure machine with one door, [`Dialogue::step`]. It promises: every command that requires a response gets exactly
//! one; a consumer never has more than its prefetch; what the client held when it ends, in whatever way, goes back. It
//! knows no sockets, no clock and no other connections.

mod effect;
mod input;

pub(crate) use effect::{Closing, Effect};
pub(crate) use input::{BrowsedMessage, Input, Refusal};

use crate::session::{CallId, Time};

/// What a connection is made with.
#[derive(Clone, Debug)]
pub(crate) struct DialogueConfig {
    /// The first of the calls that this connection names itself; 2^32 are its own.
    pub(crate) first_call: CallId,
    /// The gateway as clients know it: the broker's id, unique among all.
    pub(crate) broker_id: String,
    /// Its name.
    pub(crate) broker_name: String,
    /// Its address, such as `tcp://host:61616`.
    pub(crate) broker_url: String,
    /// Addresses of all gateways, this one among them; empty: clients are told nothing.
    pub(crate) peers: Vec<String>,
    /// Largest body.
    pub(crate) message_bytes_max: usize,
    /// Randomness of this connection alone: names its attempts to commit.
    pub(crate) seed: u64,
}

/// The clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Monotonic.
    pub(crate) mono: Time,
    /// Milliseconds since 1970.
    pub(crate) wall_ms: u64,
}
