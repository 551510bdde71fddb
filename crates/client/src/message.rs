//! A message on its way out.

use bytes::Bytes;
use quorate_proto::v1;

use crate::Message;

/// A message and where it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutboundMessage {
    /// `orders` or `queue://orders`, `topic://prices`, or several with commas between.
    pub destination: String,
    /// The message itself.
    pub message: Message,
    /// Kept in the leader's memory only, and lost in its crash.
    pub non_persistent: bool,
    /// A topic keeps it, in place of the one before, for those who subscribe later. An empty body clears.
    pub retained: bool,
}

impl OutboundMessage {
    /// Creates a persistent message of these bytes.
    #[must_use]
    pub fn bytes(destination: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            destination: destination.into(),
            message: Message {
                body: body.into(),
                ..Message::default()
            },
            non_persistent: false,
            retained: false,
        }
    }

    /// Creates a persistent message of this text.
    #[must_use]
    pub fn text(destination: impl Into<String>, text: impl Into<String>) -> Self {
        let mut message = Self::bytes(destination, text.into());
        message.message.content_type = "text/plain".to_owned();
        message
    }

    pub(crate) fn numbered(self, number: u64) -> v1::OutboundMessage {
        v1::OutboundMessage {
            destination: self.destination,
            message: Some(self.message),
            number,
            non_persistent: self.non_persistent,
            retained: self.retained,
        }
    }
}
