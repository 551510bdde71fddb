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
use quorate_wire::openwire::{AckType, MessageAck, TransactionId};

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
        let Some(serial) = self.named(&ack.consumer_id) else {
            self.acknowledge_browsed(now, ack, effects);
            return Ok(());
        };
        let (range, last) = self.range(serial, ack);
        match (ack.ack_type, transaction) {
            (AckType::Delivered, _) => self.widen(serial, ack),
            (AckType::Redelivered, _) => {}
            (AckType::Standard | AckType::Unmatched, None) => {
                self.settle_sequences(serial, Settlement::Accept, &range, effects);
            }
            (AckType::Individual, None) => {
                self.settle_sequences(serial, Settlement::Accept, &last, effects);
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
                self.settle_in_transaction(id, (serial, &range), effects)?;
                self.widen(serial, ack);
            }
            (AckType::Individual, Some(id)) => {
                self.settle_in_transaction(id, (serial, &last), effects)?;
                self.widen_by(serial, &last);
            }
        }
        self.lend(serial, effects);
        Ok(())
    }

    /// The messages that are meant, if a range is, and if only the last is. What a transaction has is in neither.
    fn range(&self, serial: Serial, ack: &MessageAck) -> (Vec<u64>, Vec<u64>) {
        let Some(consumer) = self.consumers.get(&serial) else {
            return (Vec::new(), Vec::new());
        };
        let (first, last) = (ack.first_message_id.as_ref(), ack.last_message_id.as_ref());
        let range = consumer.window.range(first, last).unwrap_or_default();
        let last = consumer.window.range(last, last).unwrap_or_default();
        (range, last)
    }

    fn widen(&mut self, serial: Serial, ack: &MessageAck) {
        if let Some(consumer) = self.consumers.get_mut(&serial)
            && let Some(last) = &ack.last_message_id
            && let Some(last) = consumer.window.find(last)
        {
            consumer.window.widen(last);
        }
    }

    fn widen_by(&mut self, serial: Serial, sequences: &[u64]) {
        if let Some(consumer) = self.consumers.get_mut(&serial) {
            for sequence in sequences {
                consumer.window.widen_by(*sequence);
            }
        }
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
