//! Why a client's message cannot be stored.

use quorate_message::{MessageError, ScheduleError};
use quorate_wire::openwire::{EncodeError, ValueError};
use thiserror::Error;

use super::names::NameError;

/// What is wrong with a message; its client gets it as an exception's text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// Where it goes.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its number.
    #[error("message has sequence {sequence}; a producer numbers its messages from 1")]
    Number {
        /// As it came.
        sequence: i64,
    },
    /// Its body.
    #[error(
        "message has a body of {bytes} bytes; at most {bytes_max} are allowed (the gateway's max_message_bytes)"
    )]
    Body {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Its properties are no map.
    #[error("message properties: {0}")]
    Properties(#[from] ValueError),
    /// One of its properties, a map or a list, is longer than can be kept.
    #[error("message properties: {0}")]
    Nested(#[from] EncodeError),
    /// One of the properties that make a schedule.
    #[error("property {name}: {value} is no number that it can have")]
    ScheduleProperty {
        /// Which.
        name: &'static str,
        /// What it has.
        value: String,
    },
    /// What those properties make.
    #[error("schedule of the message: {0}")]
    Schedule(#[from] ScheduleError),
    /// A bound of what is stored.
    #[error(transparent)]
    Message(#[from] MessageError),
}
