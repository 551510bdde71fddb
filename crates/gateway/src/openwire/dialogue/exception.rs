//! What went wrong, as the Java exception that an ActiveMQ client makes of it. Class names are those of JMS 1.1: later
//! clients translate them.

use quorate_wire::openwire::Throwable;

use crate::{
    convert::outcome::{is_shortage, outcome_error},
    session::{Cause, Failure, Outcome},
    status::failure_text,
};

/// See the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    class: &'static str,
    text: String,
}

impl Exception {
    /// Of no class of its own.
    pub(super) fn jms(text: impl Into<String>) -> Self {
        Self::new("javax.jms.JMSException", text)
    }

    /// A destination that cannot be used like this, or a subscription that is not there.
    pub(super) fn destination(text: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidDestinationException", text)
    }

    /// A selector that cannot be read.
    pub(super) fn selector(text: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidSelectorException", text)
    }

    /// A client id that is missing or in use.
    pub(super) fn client_id(text: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidClientIDException", text)
    }

    /// There is no room.
    pub(super) fn shortage(text: impl Into<String>) -> Self {
        Self::new("javax.jms.ResourceAllocationException", text)
    }

    /// Nothing of a transaction was done.
    pub(super) fn rolled_back(text: impl Into<String>) -> Self {
        Self::new("javax.jms.TransactionRolledBackException", text)
    }

    /// User or password is wrong. The client makes a `JMSSecurityException` of it.
    pub(super) fn security(text: impl Into<String>) -> Self {
        Self::new("java.lang.SecurityException", text)
    }

    /// What a distributed transaction cannot do; the client reads the code from the end of the text.
    pub(super) fn distributed(text: &str) -> Self {
        let text = format!("{text} xaErrorCode:{XA_RESOURCE_MANAGER_ERROR}");
        Self::new("javax.transaction.xa.XAException", text)
    }

    /// Of a message that is not stored; none if it is.
    pub(super) fn of_outcome(outcome: Outcome, cause: Option<&Cause>) -> Option<Self> {
        let text = outcome_error(outcome, cause);
        match outcome {
            Outcome::Stored | Outcome::Duplicate | Outcome::Applied | Outcome::UnknownMessage => {
                None
            }
            Outcome::UnknownDestination => Some(Self::destination(text)),
            _ if is_shortage(outcome) => Some(Self::shortage(text)),
            Outcome::NumberTooOld
            | Outcome::LimitReached
            | Outcome::RolledBack
            | Outcome::InDoubt
            | Outcome::Moved
            | Outcome::QueueFull
            | Outcome::Blocked => Some(Self::jms(text)),
        }
    }

    /// Of a call that failed.
    pub(super) fn of_failure(failure: &Failure) -> Self {
        let text = failure_text(failure);
        match failure {
            Failure::HeldBack { .. } | Failure::OutOfMemory { .. } => Self::shortage(text),
            Failure::Deadline { .. }
            | Failure::NoTopology
            | Failure::Malformed { .. }
            | Failure::AttachRefused { .. }
            | Failure::TakenOver
            | Failure::TooManyHeld { .. }
            | Failure::ForeignPosition { .. }
            | Failure::Hangs { .. }
            | Failure::TransactionTooLarge
            | Failure::NotCommitted { .. }
            | Failure::Refused { .. } => Self::jms(text),
        }
    }

    /// Of a commit that failed. Where it may have happened all the same it is not called rolled back.
    pub(super) fn of_commit(failure: &Failure) -> Self {
        let text = failure_text(failure);
        match failure {
            Failure::Deadline { .. }
            | Failure::NotCommitted {
                outcome: Outcome::InDoubt | Outcome::NumberTooOld,
                ..
            } => Self::jms(text),
            Failure::NoTopology
            | Failure::OutOfMemory { .. }
            | Failure::HeldBack { .. }
            | Failure::Malformed { .. }
            | Failure::AttachRefused { .. }
            | Failure::TakenOver
            | Failure::TooManyHeld { .. }
            | Failure::ForeignPosition { .. }
            | Failure::Hangs { .. }
            | Failure::TransactionTooLarge
            | Failure::NotCommitted { .. }
            | Failure::Refused { .. } => Self::rolled_back(text),
        }
    }

    /// What it says.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// As it is sent.
    pub(super) fn throwable(self) -> Throwable {
        Throwable {
            class: self.class.to_owned(),
            message: Some(self.text),
        }
    }

    fn new(class: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { class, text }
    }
}

/// XAER_RMERR of the XA specification.
const XA_RESOURCE_MANAGER_ERROR: i32 = -3;
