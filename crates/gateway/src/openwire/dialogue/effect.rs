//! What an OpenWire connection asks of its shell. Effects of one step are carried out in their order.

use quorate_message::{DestinationName, Selector};
use quorate_wire::openwire::{Command, Destination};

use crate::session::{self, CallId};

/// A request of the machine.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Send this to the client.
    Say(Command),
    /// A call begins; what the session machine says of it shall come here. `Tell` of `Dropped` ends it.
    Call(CallId),
    /// Tell the session machine.
    Tell(session::Input),
    /// Deliveries of a call have become commands, or none: their stored bytes count as taken once the socket has taken
    /// everything said before.
    Taken {
        /// The consumer's call.
        call: CallId,
        /// Stored bytes.
        bytes: u64,
    },
    /// May this client come in? Answered by `Input::Admitted`. If it may, the shell has written it down, and another
    /// connection of the same connection id has been told `Input::TakenOver` before.
    Admit {
        /// Keeps its value over reconnects.
        connection_id: String,
        /// Unique among connections, if it is there.
        client_id: Option<String>,
        /// Who.
        user: Option<String>,
        /// Secret.
        password: Option<String>,
    },
    /// The client leaves: its client id is free from here on.
    Vacate,
    /// The client made a temporary destination or removed it: other connections may be told.
    Announce {
        /// The destination.
        destination: Destination,
        /// Whether it is made.
        is_there: bool,
    },
    /// Begin to show a queue: one page, then one more for each `BrowseMore`.
    Browse {
        /// The browser; never used again.
        browser: u64,
        /// The queue.
        queue: DestinationName,
        /// Which messages.
        selector: Option<Selector>,
    },
    /// The next page, once the socket has taken everything said before.
    BrowseMore {
        /// The browser.
        browser: u64,
    },
    /// No more of it.
    StopBrowse {
        /// The browser.
        browser: u64,
    },
    /// Close the socket once everything said is sent. Everything is given back; nothing more has to be told.
    Close(Closing),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The client said goodbye.
    Done,
    /// It was not let in, and has been told so.
    Refused,
    /// The same client has connected again.
    TakenOver,
    /// It did not keep to the protocol, in a way that nothing can follow.
    Misspoke(&'static str),
    /// The cluster gave no answer in time, and the client finds out elsewhere what has become of what it said.
    Unserved,
    /// The socket is gone.
    Lost,
}
