//! Messages on their way to consumers.

use bytes::Bytes;
use quorate_message::{MessagePosition, Settlement};
use quorate_wire::openwire::{Command, ConsumerId, Destination, Header, Message, MessageDispatch};

use super::{
    Dialogue, Effect, Now,
    consumer::{Phase, Serial},
    exception::Exception,
};
use crate::{
    openwire::translate::{self, Seen},
    session::{self, CallId, ShardId, StoredDelivery},
};

/// What becomes of messages that the client does not get.
#[derive(Debug, Default)]
struct Kept {
    released: Vec<(ShardId, MessagePosition)>,
    accepted: Vec<(ShardId, MessagePosition)>,
    rejected: Vec<(ShardId, MessagePosition)>,
}

/// A stored message, and what there is to say of its delivery.
pub(super) struct Offered<'a> {
    pub(super) shard: ShardId,
    pub(super) position: MessagePosition,
    pub(super) stored: &'a Bytes,
    pub(super) failures: u32,
    pub(super) is_first_in_group: bool,
}

impl Dialogue {
    /// Messages come for a consumer.
    pub(super) fn delivered(
        &mut self,
        now: Now,
        (call, serial): (CallId, Serial),
        (shard, deliveries): (ShardId, Vec<StoredDelivery>),
        effects: &mut Vec<Effect>,
    ) {
        let mut kept = Kept::default();
        let mut bytes = 0;
        for delivery in deliveries {
            bytes += delivery.message.len() as u64;
            self.deliver(now, serial, (shard, &delivery), &mut kept, effects);
        }
        effects.push(Effect::Taken { call, bytes });
        Self::settle(call, Settlement::Release, kept.released, effects);
        Self::settle(call, Settlement::Accept, kept.accepted, effects);
        Self::settle(call, Settlement::Reject, kept.rejected, effects);
        self.lend(serial, effects);
    }

    fn deliver(
        &mut self,
        now: Now,
        serial: Serial,
        (shard, delivery): (ShardId, &StoredDelivery),
        kept: &mut Kept,
        effects: &mut Vec<Effect>,
    ) {
        let position = (shard, delivery.position);
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return kept.released.push(position);
        };
        consumer.window.arrived(delivery.message.len() as u64);
        let is_unwanted = consumer.window.is_pulled() && consumer.pull.is_none();
        if is_unwanted || matches!(consumer.phase, Phase::Leaving(_)) {
            return kept.released.push(position);
        }
        let (id, destination) = (consumer.id.clone(), consumer.destination.clone());
        let no_local = consumer.no_local;
        let offered = Offered {
            shard,
            position: delivery.position,
            stored: &delivery.message,
            // What was sent to a consumer that never looked at it is not marked: a client counts failures.
            failures: delivery.delivery_count,
            is_first_in_group: delivery.group.is_some_and(|group| group.is_first),
        };
        let sequence = self.next_sequence;
        let message = match self.message(now, &destination, &offered) {
            Ok(message) => message,
            Err(exception) => {
                self.complain(exception, effects);
                return kept.rejected.push(position);
            }
        };
        if no_local && self.is_local(&message) {
            return kept.accepted.push(position);
        }
        self.pull_over(&id);
        if let Some(consumer) = self.consumers.get_mut(&serial) {
            consumer
                .window
                .dispatch(sequence, position, &message.message_id);
        }
        self.dispatch(now, (id, message), offered.failures, effects);
    }

    /// The message as its consumer sees it, under the connection's next sequence.
    pub(super) fn message(
        &mut self,
        now: Now,
        destination: &Destination,
        offered: &Offered<'_>,
    ) -> Result<Message, Exception> {
        let seen = Seen {
            shard: offered.shard,
            position: offered.position,
            redelivery_counter: i32::try_from(offered.failures).unwrap_or(i32::MAX),
            is_first_in_group: offered.is_first_in_group,
            destination,
            broker_sequence_id: i64::try_from(self.next_sequence).unwrap_or(i64::MAX),
            now_ms: i64::try_from(now.wall_ms).unwrap_or(i64::MAX),
        };
        self.next_sequence += 1;
        translate::outbound(offered.stored, &seen).map_err(|error| {
            Exception::jms(format!(
                "message {}.{} of {} cannot be read and goes to the dead letters: {error}",
                offered.shard,
                offered.position,
                destination.name()
            ))
        })
    }

    /// Sends a message to its consumer. One that asks for an answer at a temporary destination comes behind the word that
    /// there is such a destination: a client sends to none that it was not told of.
    pub(super) fn dispatch(
        &mut self,
        now: Now,
        (consumer_id, message): (ConsumerId, Message),
        failures: u32,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(reply_to) = &message.reply_to {
            self.tell_of_temporary(now, reply_to, effects);
        }
        effects.push(Effect::Say(Command::MessageDispatch(MessageDispatch {
            header: Header::default(),
            consumer_id,
            destination: Some(message.destination.clone()),
            message: Some(Box::new(message)),
            redelivery_counter: i32::try_from(failures).unwrap_or(i32::MAX),
        })));
    }

    /// Whether this connection sent it. A message's text is the id that it was sent with.
    fn is_local(&self, message: &Message) -> bool {
        let text = message.message_id.text_view.as_deref().unwrap_or_default();
        let rest = text.strip_prefix(self.connection_id.as_str());
        rest.is_some_and(|rest| rest.starts_with(':'))
    }

    /// Settles, unless there is nothing to settle.
    pub(super) fn settle(
        call: CallId,
        settlement: Settlement,
        positions: Vec<(ShardId, MessagePosition)>,
        effects: &mut Vec<Effect>,
    ) {
        if !positions.is_empty() {
            effects.push(Effect::Tell(session::Input::Settle {
                call,
                settlement,
                positions,
                token: 0,
            }));
        }
    }
}
