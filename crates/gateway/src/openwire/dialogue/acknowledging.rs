//! What a client says of the messages that it has.
//!
//! | kind | outside of a transaction | in one |
//! |---|---|---|
//! | standard, unmatched | the range is accepted | with the commit |
//! | individual | the last is accepted | with the commit |
//! | poison | the range is rejected: to the dead letters | refused |
//! | expired | the range is returned: what the leader finds expired as well goes by its rule, the rest comes again, and no oftener than `max_deliveries` says | the same |
//! | delivered | the window widens | the same |
//! | redelivered | nothing | nothing |
//!
//! What is said of unknown consumers and messages is ignored: they are of an earlier connection.

use quorate_message::Settlement;
use quorate_wire::openwire::{AckType, LocalTransactionId, MessageAck, MessageId, TransactionId};

use super::{Dialogue, Effect, Now, answering::Asked, consumer::Serial, exception::Exception};

impl Dialogue {
    /// Takes in an acknowledgement.
    pub(super) fn acknowledge(
        &mut self,
        now: Now,
        ack: &MessageAck,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let went = self.acknowledged(now, ack, effects);
        self.answer(asked, went, effects);
    }

    fn acknowledged(
        &mut self,
        now: Now,
        ack: &MessageAck,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Exception> {
        let transaction = match &ack.transaction_id {
            None => None,
            Some(TransactionId::Local(id)) => Some(id),
            Some(TransactionId::Xa(_)) => return Err(super::transacting::no_distributed()),
        };
        let legs = self.named(&ack.consumer_id);
        if legs.is_empty() {
            self.acknowledge_browsed(now, ack, effects);
            return Ok(());
        }
        let Some((first, last)) = self.bounds(&legs, ack) else {
            return Ok(());
        };
        for serial in legs {
            self.acknowledge_of(serial, (ack.ack_type, transaction), (first, last), effects)?;
        }
        Ok(())
    }

    /// Takes in an acknowledgement as far as it is about one consumer.
    fn acknowledge_of(
        &mut self,
        serial: Serial,
        (kind, transaction): (AckType, Option<&LocalTransactionId>),
        (first, last): (u64, u64),
        effects: &mut Vec<Effect>,
    ) -> Result<(), Exception> {
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return Ok(());
        };
        let range = consumer.window.between(first, last);
        let only = consumer.window.between(last, last);
        match (kind, transaction) {
            (AckType::Delivered, _) => consumer.window.widen(last),
            (AckType::Redelivered, _) => {}
            (AckType::Standard | AckType::Unmatched, None) => {
                self.settle_sequences(serial, Settlement::Accept, &range, effects);
            }
            (AckType::Individual, None) => {
                self.settle_sequences(serial, Settlement::Accept, &only, effects);
            }
            (AckType::Poison, None) => {
                self.settle_sequences(serial, Settlement::Reject, &range, effects);
            }
            (AckType::Expired, _) => {
                self.settle_sequences(serial, Settlement::Return, &range, effects);
            }
            (AckType::Poison, Some(_)) => {
                return Err(Exception::jms(
                    "a transaction does not give up on messages; do that outside of it",
                ));
            }
            (AckType::Standard | AckType::Unmatched, Some(id)) => {
                consumer.window.widen(last);
                self.settle_in_transaction(id, (serial, &range), effects)?;
            }
            (AckType::Individual, Some(id)) => {
                consumer.window.widen_by(last);
                self.settle_in_transaction(id, (serial, &only), effects)?;
            }
        }
        self.lend(serial, effects);
        Ok(())
    }

    /// The first and the last sequence that are meant. None if one of the messages named is not there.
    fn bounds(&self, legs: &[Serial], ack: &MessageAck) -> Option<(u64, u64)> {
        let find = |id: &MessageId| {
            let mut consumers = legs.iter().filter_map(|serial| self.consumers.get(serial));
            consumers.find_map(|consumer| consumer.window.find(id))
        };
        let last = find(ack.last_message_id.as_ref()?)?;
        let first = match &ack.first_message_id {
            Some(first) => find(first)?,
            None => 0,
        };
        Some((first, last))
    }

    /// Settles messages that a consumer was sent, which it has no longer then.
    pub(super) fn settle_sequences(
        &mut self,
        serial: Serial,
        settlement: Settlement,
        sequences: &[u64],
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return;
        };
        let removed = sequences.iter().filter_map(|s| consumer.window.remove(*s));
        let positions = removed.map(|removed| removed.position).collect();
        Self::settle(consumer.call, settlement, positions, effects);
    }
}
