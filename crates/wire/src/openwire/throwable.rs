//! An exception as text. The client makes one of this class from the message; stack traces are declined.

use super::field::{Field, Nullable};
use super::input::{DecodeError, Input};
use super::output::{EncodeError, Output};

/// A Java exception.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Throwable {
    /// Its class, such as `javax.jms.JMSException`. A class that the client does not know becomes a plain `Throwable`.
    pub class: String,
    /// Its message.
    pub message: Option<String>,
}

impl Nullable for Throwable {
    fn decode_present(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            class: Field::decode(input).map_err(|error| error.within("Throwable.class"))?,
            message: Field::decode(input).map_err(|error| error.within("Throwable.message"))?,
        })
    }

    fn encode_present(&self, output: &mut Output<'_>) -> Result<(), EncodeError> {
        self.class.encode(output)?;
        self.message.encode(output)
    }
}
