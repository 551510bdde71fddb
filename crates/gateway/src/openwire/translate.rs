//! Between OpenWire's messages and the neutral one that is stored.
//!
//! [`inbound`] makes of a client's message what the session machine publishes, [`outbound`] makes of stored bytes the message
//! that a client gets, whichever protocol they came by. What one JMS client sent, another one gets back: content byte
//! for byte, properties with their types and in their order, and every header that JMS knows. Between the two, the
//! stored message is one that selectors and clients of other protocols read without knowing JMS.
//!
//! Pure: no input or output, clock or randomness. Whatever a client sends, nothing here panics, and memory is taken in
//! proportion to the message. The mapping is one table, `docs/message-mapping.md`.

mod body;
mod facts;
mod identity;
mod inbound;
mod names;
mod outbound;
mod properties;
mod refusal;
mod schedule;
#[cfg(test)]
mod tests;

pub(crate) use identity::{consumer_id, hash16, origin_id, producer_id};
pub(crate) use inbound::inbound;
pub(crate) use names::{Source, destination_of, sources, targets};
pub(crate) use outbound::{Seen, outbound};
pub(crate) use quorate_message::temporary_owner as owner;
pub(crate) use refusal::Refusal;
