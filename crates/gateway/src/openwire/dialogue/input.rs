//! What an OpenWire connection is told: commands of its client, answers of the session machine, and what its shell found
//! out for it.

use bytes::Bytes;
use quorate_message::MessagePosition;
use quorate_wire::openwire::{Command, Destination};

use crate::session::{self, ShardId};

/// A fact.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The client said something, after the formats were agreed.
    Heard(Command),
    /// The session machine answered one of this connection's calls.
    Answered(session::Effect),
    /// What became of `Effect::Admit`.
    Admitted(Result<(), Refusal>),
    /// The next page of a browser, asked for with `Effect::Browse` or `Effect::BrowseMore`.
    Browsed {
        /// The browser.
        browser: u64,
        /// The messages, in order. Possibly none.
        messages: Vec<BrowsedMessage>,
        /// There are no more.
        is_end: bool,
    },
    /// A browser's queue cannot be shown.
    BrowseFailed {
        /// The browser.
        browser: u64,
        /// Why.
        reason: String,
    },
    /// Another connection, of this gateway or another one, made a temporary destination or removed it. A connection that
    /// is let in is told of all that are there, if clients are to know them before a message names them.
    Announced {
        /// The destination.
        destination: Destination,
        /// Whether it is made.
        is_there: bool,
    },
    /// Addresses of the gateways as clients know them, in full, whenever they change.
    Peers(Vec<String>),
    /// The same client has connected again: this connection is over, and what it held goes back at once, before the
    /// other one begins.
    TakenOver,
    /// The socket is gone. What the client held goes back.
    Closed,
    /// A deadline may have passed.
    Elapsed,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// User or password is wrong.
    Credentials,
    /// Another connection has this client id.
    ClientIdInUse {
        /// The address of that one, or whatever helps to find it.
        holder: String,
    },
}

/// A message of a browsed queue.
#[derive(Clone, Debug)]
pub(crate) struct BrowsedMessage {
    /// The shard that it is in.
    pub(crate) shard: ShardId,
    /// Its place there.
    pub(crate) position: MessagePosition,
    /// Failed deliveries so far.
    pub(crate) delivery_count: u32,
    /// The message in its stored encoding.
    pub(crate) message: Bytes,
}
