//! A client comes in, and what concerns its connection as a whole.

use quorate_wire::openwire::{
    BrokerId, BrokerInfo, Command, ConnectionControl, ConnectionInfo, Header, KeepAliveInfo,
};

use super::{Closing, Dialogue, Effect, Now, Refusal, answering::Asked, exception::Exception};
use crate::limits::SESSIONS_MAX;

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing was said.
    Fresh,
    /// Whether its client may come in is being asked.
    Admitting {
        /// For its ConnectionInfo.
        asked: Asked,
        /// What it said meanwhile: one that reconnects does not wait.
        waiting: Vec<Command>,
    },
    /// In.
    Open,
    /// Closed, with everything given back.
    Over,
}

impl Dialogue {
    /// The first thing said must be who it is.
    pub(super) fn heard_first(&mut self, command: Command, effects: &mut Vec<Effect>) {
        let Some(header) = command.header() else {
            return self.close(Closing::Misspoke("formats are agreed once"), effects);
        };
        let asked = Asked::of(header);
        match command {
            Command::ConnectionInfo(info) => self.connect(*info, asked, effects),
            // Connections that are kept in reserve say this and no more.
            Command::KeepAliveInfo(alive) => Self::keep_alive(alive, effects),
            Command::ConnectionControl(_) | Command::FlushCommand(_) => Self::done(asked, effects),
            Command::ShutdownInfo(_) => {
                Self::done(asked, effects);
                self.close(Closing::Done, effects);
            }
            Command::Message(_)
            | Command::MessageAck(_)
            | Command::MessageDispatch(_)
            | Command::Response(_)
            | Command::ExceptionResponse(_)
            | Command::DataResponse(_)
            | Command::DataArrayResponse(_)
            | Command::IntegerResponse(_)
            | Command::TransactionInfo(_)
            | Command::MessagePull(_)
            | Command::ProducerAck(_)
            | Command::SessionInfo(_)
            | Command::ConsumerInfo(_)
            | Command::ProducerInfo(_)
            | Command::RemoveInfo(_)
            | Command::DestinationInfo(_)
            | Command::RemoveSubscriptionInfo(_)
            | Command::ConsumerControl(_)
            | Command::BrokerInfo(_)
            | Command::ConnectionError(_)
            | Command::ControlCommand(_)
            | Command::WireFormatInfo(_) => {
                let exception = Exception::security("the connection is not open; say who you are");
                self.refuse(asked, exception, effects);
                self.close(Closing::Refused, effects);
            }
        }
    }

    fn connect(&mut self, info: ConnectionInfo, asked: Asked, effects: &mut Vec<Effect>) {
        self.connection_id = info.connection_id.value;
        self.client_id = info.client_id.filter(|id| !id.is_empty());
        self.phase = Phase::Admitting {
            asked,
            waiting: Vec::new(),
        };
        effects.push(Effect::Admit {
            connection_id: self.connection_id.clone(),
            client_id: self.client_id.clone(),
            user: info.user_name,
            password: info.password,
        });
    }

    /// It is decided whether the client may come in.
    pub(super) fn admitted(
        &mut self,
        now: Now,
        admitted: Result<(), Refusal>,
        effects: &mut Vec<Effect>,
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Open);
        let Phase::Admitting { asked, waiting } = phase else {
            self.phase = phase;
            return;
        };
        if let Err(refusal) = admitted {
            self.refuse(asked, refused(&refusal, self.client_id.as_deref()), effects);
            return self.close(Closing::Refused, effects);
        }
        // Above whatever a gateway gave to the same client before.
        self.next_sequence = now.wall_ms.saturating_mul(1_000).max(1);
        effects.push(Effect::Say(Command::BrokerInfo(Box::new(
            self.broker_info(),
        ))));
        Self::done(asked, effects);
        self.tell_peers(effects);
        for command in waiting {
            self.heard(now, command, effects);
        }
    }

    /// Said again by a client that does not know whether it was heard.
    pub(super) fn connect_again(
        &mut self,
        info: &ConnectionInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let went = self.own(&info.connection_id.value);
        self.answer(asked, went, effects);
    }

    pub(super) fn peers_changed(&mut self, peers: Vec<String>, effects: &mut Vec<Effect>) {
        if self.config.peers == peers {
            return;
        }
        self.config.peers = peers;
        if matches!(self.phase, Phase::Open) {
            self.tell_peers(effects);
        }
    }

    /// No response of its own: what comes back is the same command.
    pub(super) fn keep_alive(alive: KeepAliveInfo, effects: &mut Vec<Effect>) {
        if alive.header.response_required {
            let header = Header {
                response_required: false,
                ..alive.header
            };
            effects.push(Effect::Say(Command::KeepAliveInfo(KeepAliveInfo {
                header,
            })));
        }
    }

    /// A session begins, said or not.
    pub(super) fn add_session(&mut self, session: i64) -> Result<(), Exception> {
        if !self.sessions.contains(&session) && self.sessions.len() >= SESSIONS_MAX {
            return Err(Exception::shortage(format!(
                "connection has its {SESSIONS_MAX} sessions; close some, or open another connection"
            )));
        }
        self.sessions.insert(session);
        Ok(())
    }

    fn tell_peers(&self, effects: &mut Vec<Effect>) {
        let control = ConnectionControl {
            connected_brokers: Some(self.config.peers.join(",")),
            reconnect_to: Some(String::new()),
            ..ConnectionControl::default()
        };
        effects.push(Effect::Say(Command::ConnectionControl(control)));
    }

    fn broker_info(&self) -> BrokerInfo {
        BrokerInfo {
            header: Header::default(),
            broker_id: Some(BrokerId {
                value: self.config.broker_id.clone(),
            }),
            broker_url: Some(self.config.broker_url.clone()),
            peers: None,
            broker_name: Some(self.config.broker_name.clone()),
            slave_broker: false,
            master_broker: false,
            fault_tolerant_configuration: false,
            duplex_connection: false,
            network_connection: false,
            connection_id: 0,
            broker_upload_url: None,
            network_properties: None,
        }
    }
}

fn refused(refusal: &Refusal, client_id: Option<&str>) -> Exception {
    match refusal {
        Refusal::Credentials => Exception::security("User name or password is invalid."),
        Refusal::ClientIdInUse { holder } => {
            let client_id = client_id.unwrap_or_default();
            Exception::client_id(format!(
                "client id {client_id:?} is in use by a connection from {holder}; close that one, or choose another id"
            ))
        }
    }
}
