//! Answers: exactly one to each command that requires a response, and an error of the whole connection for one that
//! failed without anybody waiting for it.

use quorate_wire::openwire::{
    Command, CommandId, ConnectionError, ConnectionId, DataArrayResponse, ExceptionResponse,
    Header, Response,
};

use super::{Dialogue, Effect, exception::Exception};

/// An answer that is owed. Whoever has it answers or keeps it; it cannot be doubled.
#[derive(Debug)]
#[must_use]
pub(super) struct Asked(Option<CommandId>);

impl Asked {
    pub(super) fn of(header: Header) -> Self {
        Self(header.response_required.then_some(header.command_id))
    }

    /// Nobody waits.
    pub(super) fn nobody() -> Self {
        Self(None)
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.is_some()
    }
}

impl Dialogue {
    /// It is done.
    pub(super) fn done(asked: Asked, effects: &mut Vec<Effect>) {
        if let Some(correlation_id) = asked.0 {
            effects.push(Effect::Say(Command::Response(Response {
                header: Header::default(),
                correlation_id,
            })));
        }
    }

    /// It is done, and there is nothing of what was asked for.
    pub(super) fn done_with_none(asked: Asked, effects: &mut Vec<Effect>) {
        if let Some(correlation_id) = asked.0 {
            effects.push(Effect::Say(Command::DataArrayResponse(DataArrayResponse {
                header: Header::default(),
                correlation_id,
                data: Some(Vec::new()),
            })));
        }
    }

    /// It failed.
    pub(super) fn refuse(&self, asked: Asked, exception: Exception, effects: &mut Vec<Effect>) {
        match asked.0 {
            Some(correlation_id) => {
                effects.push(Effect::Say(Command::ExceptionResponse(ExceptionResponse {
                    header: Header::default(),
                    correlation_id,
                    exception: Some(exception.throwable()),
                })));
            }
            None => self.complain(exception, effects),
        }
    }

    /// Something failed that nobody waits for.
    pub(super) fn complain(&self, exception: Exception, effects: &mut Vec<Effect>) {
        let connection_id = ConnectionId {
            value: self.connection_id.clone(),
        };
        effects.push(Effect::Say(Command::ConnectionError(ConnectionError {
            header: Header::default(),
            exception: Some(exception.throwable()),
            connection_id: Some(connection_id),
        })));
    }

    /// Answers as it went.
    pub(super) fn answer(
        &self,
        asked: Asked,
        went: Result<(), Exception>,
        effects: &mut Vec<Effect>,
    ) {
        match went {
            Ok(()) => Self::done(asked, effects),
            Err(exception) => self.refuse(asked, exception, effects),
        }
    }
}
