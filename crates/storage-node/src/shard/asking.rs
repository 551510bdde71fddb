//! What sessions ask of the broker: handed on when this replica serves, kept until then, refused when it does not lead.

use quorate_broker::{Input as BrokerInput, SessionId};
use quorate_message::{Batch, GatewayId};

use super::{
    Shard,
    effect::{Effect, SessionEvent},
    input::{Clock, SessionRequest},
    submit::to_session,
};
use crate::limits::{EARLY_BYTES_MAX, EARLY_REQUESTS_MAX};

/// What comes before a leader serves.
#[derive(Clone, Debug)]
pub(super) enum Early {
    /// A session asks for something.
    Asked(SessionId, GatewayId, SessionRequest),
    /// A transient batch by its number.
    Transient(SessionId, u64, Batch),
}

impl Early {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Asked(session, _, _) | Self::Transient(session, _, _) => *session,
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            Self::Asked(..) => 0,
            Self::Transient(_, _, batch) => batch.bytes().len(),
        }
    }
}

impl Shard {
    /// A session asks for something.
    pub(super) fn session(
        &mut self,
        now: Clock,
        (session, gateway): (SessionId, GatewayId),
        request: SessionRequest,
        out: &mut Vec<Effect>,
    ) {
        if !self.replica.is_leading() || self.is_halted() {
            if wants_an_answer(&request) {
                // What comes behind this may find a leader, which must not take it for the whole.
                self.deliveries.torn.insert(session);
                let epoch = self.replica.epoch();
                out.push(to_session(
                    session,
                    SessionEvent::NotLeading { number: 0, epoch },
                ));
            }
            return;
        }
        if let SessionRequest::Report { is_first: true, .. } = request {
            self.deliveries.torn.remove(&session);
        }
        // Something of the report was refused, of which the gateway was told: it starts over. What a consumer holds is told
        // by its attachment and what comes before that together.
        if self.deliveries.torn.contains(&session) && wants_an_answer(&request) {
            return;
        }
        self.submits.seen(session);
        if self.deliveries.serving.is_none() {
            // Leads, but does not serve yet: kept until it does.
            let asked = Early::Asked(session, gateway, request);
            if !self.keep_early(asked) {
                self.deliveries.torn.insert(session);
                let event = SessionEvent::NotLeading {
                    number: 0,
                    epoch: self.replica.epoch(),
                };
                out.push(to_session(session, event));
            }
            return;
        }
        self.ask_broker(now, (session, gateway), request, out);
    }

    /// Keeps what comes before this leader serves, in order: a settlement of non-persistent messages before the report
    /// that counts on it. False: there is no room.
    pub(super) fn keep_early(&mut self, early: Early) -> bool {
        let bytes = early.size_bytes();
        if !self.has_early_room(bytes) {
            return false;
        }
        self.deliveries.early_bytes += bytes;
        self.deliveries.early.push(early);
        true
    }

    /// Whether so many bytes more can be kept until this leader serves.
    pub(super) fn has_early_room(&self, bytes: usize) -> bool {
        self.deliveries.early.len() < EARLY_REQUESTS_MAX
            && self.deliveries.early_bytes + bytes <= EARLY_BYTES_MAX
    }

    /// Drops what a session asked for before this leader served.
    pub(super) fn forget_early(&mut self, session: SessionId) {
        let early = &mut self.deliveries.early;
        early.retain(|one| one.session() != session);
        self.deliveries.early_bytes = early.iter().map(Early::size_bytes).sum();
    }

    /// Takes up what came before this leader served.
    pub(super) fn take_up_early(&mut self, now: Clock, out: &mut Vec<Effect>) {
        self.deliveries.early_bytes = 0;
        for early in std::mem::take(&mut self.deliveries.early) {
            match early {
                Early::Asked(session, gateway, request) => {
                    self.ask_broker(now, (session, gateway), request, out);
                }
                Early::Transient(session, number, batch) => {
                    let input = BrokerInput::Transient {
                        session,
                        number,
                        batch,
                    };
                    self.deliver(now, input, out);
                }
            }
        }
    }

    pub(super) fn ask_broker(
        &mut self,
        now: Clock,
        (session, gateway): (SessionId, GatewayId),
        request: SessionRequest,
        out: &mut Vec<Effect>,
    ) {
        if self.deliveries.joined.insert(session) {
            self.deliver(now, BrokerInput::Joined { session, gateway }, out);
        }
        let input = match request {
            SessionRequest::Attach {
                consumer,
                generation,
                queue,
                credit,
                held,
                terms,
                shares_credit,
            } => BrokerInput::Attach {
                session,
                consumer,
                generation,
                queue,
                credit,
                held,
                terms,
                shares_credit,
            },
            SessionRequest::Recall {
                consumer,
                generation,
            } => BrokerInput::Recall {
                session,
                consumer,
                generation,
            },
            SessionRequest::Detach {
                consumer,
                generation,
            } => BrokerInput::Detach {
                session,
                consumer,
                generation,
            },
            SessionRequest::Credit { consumer, credit } => BrokerInput::Credited {
                session,
                consumer,
                credit,
            },
            SessionRequest::Report { is_first, leaving } => BrokerInput::Reporting {
                session,
                is_first,
                leaving,
            },
            SessionRequest::Reported => BrokerInput::Reported { session },
            SessionRequest::Leave => BrokerInput::Left { session },
        };
        self.deliver(now, input, out);
    }
}

/// Whether a gateway waits until this is taken, and does it again if it is not.
fn wants_an_answer(request: &SessionRequest) -> bool {
    match request {
        SessionRequest::Attach { .. }
        | SessionRequest::Report { .. }
        | SessionRequest::Reported => true,
        SessionRequest::Detach { .. }
        | SessionRequest::Credit { .. }
        | SessionRequest::Recall { .. }
        | SessionRequest::Leave => false,
    }
}
