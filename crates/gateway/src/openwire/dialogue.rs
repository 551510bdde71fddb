//! One OpenWire connection: what its client says becomes calls of the session machine, and the answers become what an
//! ActiveMQ client expects.
//!
//! A pure machine with one door, [`Dialogue::step`]. It promises: every command that requires a response gets exactly
//! one; a consumer never has more than its prefetch; what the client held when it ends, in whatever way, goes back. It
//! knows no sockets, no clock and no other connections.
//!
//! ```text
//! Fresh -- ConnectionInfo --> Admitting -- Admitted(Ok) --> Open -- RemoveInfo, ShutdownInfo, a lost socket --> Over
//!                                 `------ Admitted(Err) ------------------------------------------------------^
//! ```
//! What a gateway cannot do for want of a leader, within its deadline, ends the connection: whether it happened is not
//! known, and a client with `failover:` says it again elsewhere under the same ids, where it happens once.

mod acknowledging;
mod answered;
mod answering;
mod browsing;
mod calls;
mod connecting;
mod consumer;
mod consuming;
mod dispatching;
mod effect;
mod exception;
mod input;
mod leaving;
mod pulling;
mod reopening;
mod sending;
mod subscriptions;
mod telling;
mod temporary;
#[cfg(test)]
mod tests;
mod transacting;

use std::collections::{BTreeMap, BTreeSet};

use quorate_wire::openwire::Command;

pub(crate) use effect::{Closing, Effect};
pub(crate) use input::{BrowsedMessage, Input, Refusal};

use self::{
    answering::Asked,
    browsing::Browser,
    calls::{Calls, Role},
    connecting::Phase,
    consumer::{Consumer, ConsumerKey, Serial},
    exception::Exception,
    leaving::Removal,
    sending::{Producer, ProducerKey, Publisher},
    telling::Advisories,
    temporary::Temporaries,
    transacting::Transaction,
};
use crate::{
    limits::{BROWSERS_MAX, CONSUMERS_MAX},
    session::{self, CallId, Time},
};

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

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Dialogue {
    config: DialogueConfig,
    phase: Phase,
    /// Of the client; empty until it says it.
    connection_id: String,
    client_id: Option<String>,
    calls: Calls,
    sessions: BTreeSet<i64>,
    producers: BTreeMap<ProducerKey, Producer>,
    publisher: Option<Publisher>,
    consumers: BTreeMap<Serial, Consumer>,
    /// The present consumers' names; those that leave have none.
    names: BTreeMap<ConsumerKey, Vec<Serial>>,
    browsers: BTreeMap<ConsumerKey, Browser>,
    transactions: BTreeMap<i64, Transaction>,
    removals: Vec<Removal>,
    temporaries: Temporaries,
    advisories: Advisories,
    /// Counts consumers, browsers and attempts to commit.
    next_serial: u64,
    /// Counts dispatched messages, from the wall clock on: what a client says of an earlier connection is below.
    next_sequence: u64,
}

impl Dialogue {
    /// A connection whose formats are agreed and on which nothing else was said.
    pub(crate) fn new(config: DialogueConfig) -> Self {
        Self {
            calls: Calls::new(config.first_call),
            config,
            phase: Phase::Fresh,
            connection_id: String::new(),
            client_id: None,
            sessions: BTreeSet::new(),
            producers: BTreeMap::new(),
            publisher: None,
            consumers: BTreeMap::new(),
            names: BTreeMap::new(),
            browsers: BTreeMap::new(),
            transactions: BTreeMap::new(),
            removals: Vec::new(),
            temporaries: Temporaries::default(),
            advisories: Advisories::default(),
            next_serial: 1,
            next_sequence: 1,
        }
    }

    /// Takes in a fact, and says what is to be done about it.
    pub(crate) fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match input {
            Input::Heard(command) => self.heard(now, command, effects),
            Input::Answered(answer) => self.answered(now, answer, effects),
            Input::Admitted(admitted) => self.admitted(now, admitted, effects),
            Input::Browsed {
                browser,
                messages,
                is_end,
            } => self.browsed(now, browser, (messages, is_end), effects),
            Input::BrowseFailed { browser, reason } => self.browse_failed(browser, reason, effects),
            Input::Announced {
                destination,
                is_there,
            } => self.announced(now, (&destination, is_there), effects),
            Input::Peers(peers) => self.peers_changed(peers, effects),
            Input::TakenOver => self.close(Closing::TakenOver, effects),
            Input::Closed => self.close(Closing::Lost, effects),
            Input::Elapsed => self.elapsed(now, effects),
        }
    }

    /// When `Input::Elapsed` is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.pull_deadline(),
            self.removal_deadline(),
            self.reopening_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether the client may be read from. What has been read already is taken in all the same.
    pub(crate) fn may_read(&self) -> bool {
        let is_admitting = matches!(self.phase, Phase::Admitting { .. });
        let is_full = self.publisher.as_ref().is_some_and(Publisher::is_full);
        !is_admitting && !is_full && !self.calls.is_paused()
    }

    /// The client said something.
    fn heard(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Fresh => self.heard_first(command, effects),
            Phase::Admitting { waiting, .. } => {
                if waiting.len() >= WAITING_MAX {
                    return self
                        .close(Closing::Misspoke("too much said before the login"), effects);
                }
                waiting.push(command);
            }
            Phase::Open => self.obey(now, command, effects),
            Phase::Over => {}
        }
    }

    fn obey(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) {
        let Some(header) = command.header() else {
            return self.close(Closing::Misspoke("formats are agreed once"), effects);
        };
        let asked = Asked::of(header);
        match command {
            Command::Message(message) => self.send(*message, asked, effects),
            Command::MessageAck(ack) => self.acknowledge(now, &ack, asked, effects),
            Command::MessagePull(pull) => self.pull(now, &pull, asked, effects),
            Command::TransactionInfo(info) => self.transact(now, &info, asked, effects),
            Command::ConnectionInfo(info) => self.connect_again(&info, asked, effects),
            Command::SessionInfo(info) => {
                let added = self.own(&info.session_id.connection_id);
                let added = added.and_then(|()| self.add_session(info.session_id.value));
                self.answer(asked, added, effects);
            }
            Command::ConsumerInfo(info) => self.add_consumer(now, &info, asked, effects),
            Command::ProducerInfo(info) => {
                let added = self.add_producer(&info);
                self.answer(asked, added, effects);
            }
            Command::RemoveInfo(info) => self.remove(now, &info, asked, effects),
            Command::DestinationInfo(info) => self.change_destination(now, info, asked, effects),
            Command::RemoveSubscriptionInfo(info) => self.unsubscribe(&info, asked, effects),
            Command::ConsumerControl(control) => self.control_consumer(&control, asked, effects),
            Command::KeepAliveInfo(alive) => Self::keep_alive(alive, effects),
            Command::ShutdownInfo(_) => {
                Self::done(asked, effects);
                self.close(Closing::Done, effects);
            }
            // They ask for nothing that a client can see.
            Command::ControlCommand(_)
            | Command::FlushCommand(_)
            | Command::ConnectionControl(_)
            | Command::BrokerInfo(_)
            | Command::ConnectionError(_) => Self::done(asked, effects),
            Command::WireFormatInfo(_)
            | Command::MessageDispatch(_)
            | Command::Response(_)
            | Command::ExceptionResponse(_)
            | Command::DataResponse(_)
            | Command::DataArrayResponse(_)
            | Command::IntegerResponse(_)
            | Command::ProducerAck(_) => {
                let exception = Exception::jms("a broker says this, not a client");
                self.refuse(asked, exception, effects);
            }
        }
    }

    /// Begins a call of the session machine.
    fn begin(&mut self, role: Role, effects: &mut Vec<Effect>) -> CallId {
        let call = self.calls.begin(role);
        effects.push(Effect::Call(call));
        call
    }

    /// Ends one.
    fn end(&mut self, call: CallId, effects: &mut Vec<Effect>) -> Option<Role> {
        let role = self.calls.end(call)?;
        effects.push(Effect::Tell(session::Input::Dropped { call }));
        Some(role)
    }

    fn serial(&mut self) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        serial
    }

    /// Ids that a client uses are those of its own connection.
    fn own(&self, connection_id: &str) -> Result<(), Exception> {
        match connection_id == self.connection_id {
            true => Ok(()),
            false => Err(Exception::jms(format!(
                "connection {connection_id:?} is not this one; use the id that it was opened with"
            ))),
        }
    }

    /// Whether there is room for one more consumer of any kind.
    fn has_room_for_consumer(&self) -> Result<(), Exception> {
        let browsers = self.browsers.len();
        let consumers = self.consumers.len() + browsers + self.advisories.consumers();
        match consumers < CONSUMERS_MAX && browsers < BROWSERS_MAX {
            true => Ok(()),
            false => Err(Exception::shortage(format!(
                "connection has its {CONSUMERS_MAX} consumers, of them at most {BROWSERS_MAX} browsers; close some, \
                 or open another connection"
            ))),
        }
    }
}

/// Commands that may be said before the client is let in: a client that reconnects says all that it has at once, and is
/// not read from meanwhile.
const WAITING_MAX: usize = 16_384;

#[cfg(test)]
impl Dialogue {
    /// What must hold between two steps.
    fn check(&self) {
        for consumer in self.consumers.values() {
            consumer.window.check();
        }
        for serial in self.names.values().flatten() {
            assert!(self.consumers.contains_key(serial), "a name is somebody's");
        }
    }
}
