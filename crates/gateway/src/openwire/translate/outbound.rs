//! A stored message on its way to a client.

use bytes::Bytes;
use quorate_message::{MessageError, MessagePosition};
use quorate_wire::openwire;

use crate::session::ShardId;

/// How a consumer sees a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// The shard that it is in.
    pub(crate) shard: ShardId,
    /// Its place there.
    pub(crate) position: MessagePosition,
    /// How often its delivery failed: JMSXDeliveryCount less one.
    pub(crate) redelivery_counter: i32,
    /// From this message on its group is the consumer's.
    pub(crate) is_first_in_group: bool,
    /// The destination under the name by which the consumer knows it: one, even if it consumes a pattern.
    pub(crate) destination: &'a openwire::Destination,
    /// A number that rises with each message given to the connection; the client gives it back when it leaves.
    pub(crate) broker_sequence_id: i64,
    /// The wall clock, in milliseconds since 1970: JMSActiveMQBrokerOutTime.
    pub(crate) now_ms: i64,
}

/// The message that a client gets for stored bytes.
///
/// # Errors
/// The bytes are no message.
pub(crate) fn outbound(
    stored: &Bytes,
    seen: &Seen<'_>,
) -> Result<openwire::Message, MessageError> {
    let _ = (stored, seen);
    Err(MessageError::Malformed)
}
