//! A client's message on its way in.

use bytes::BytesMut;
use quorate_wire::openwire;

use super::Refusal;
use crate::session::Publication;

/// What the session machine publishes for a client's message; the stored encoding is split off `buffer`.
///
/// The publication's number is that of the message's producer: together with [`super::producer_id`] a repeat is
/// recognised. A message with a schedule is published as persistent, since the broker keeps no other for later.
///
/// # Errors
/// What is wrong with the message, by name; then nothing is left in the buffer.
pub(crate) fn inbound(
    message: openwire::Message,
    body_bytes_max: usize,
    buffer: &mut BytesMut,
) -> Result<Publication, Refusal> {
    let _ = (message, body_bytes_max, buffer);
    Err(Refusal::Number { sequence: 0 })
}
