//! Messages of a client on their way in: all that are sent outside of transactions go by one call, each under its
//! producer's name and number, so that one which is said again after a failover is stored once.

use std::collections::BTreeMap;

use bytes::BytesMut;
use quorate_message::ProducerId as StoredProducerId;
use quorate_wire::openwire::{
    Command, Header, Message, ProducerAck, ProducerId, ProducerInfo, TransactionId,
};

use super::{Closing, Dialogue, Effect, answering::Asked, calls::Role, exception::Exception};
use crate::{
    limits::{PRODUCERS_MAX, SENDS_MAX},
    openwire::translate::{self, Refusal},
    session::{self, CallId, Cause, Failure, Outcome, Publication},
};

/// A producer's id without its connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProducerKey {
    pub(super) session: i64,
    value: i64,
}

impl ProducerKey {
    pub(super) fn of(id: &ProducerId) -> Self {
        Self {
            session: id.session_id,
            value: id.value,
        }
    }
}

/// A producer.
#[derive(Debug)]
pub(super) struct Producer {
    stored_id: StoredProducerId,
    /// It wants its bytes acknowledged where it does not want a response.
    has_window: bool,
}

/// The call of all messages that are sent outside of transactions.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) call: CallId,
    /// Ordinal of the next message.
    next: u64,
    /// Those without an outcome.
    sent: BTreeMap<u64, Sent>,
}

/// A message without an outcome.
#[derive(Debug)]
struct Sent {
    asked: Asked,
    /// What its producer's window gets back.
    ack: Option<ProducerAck>,
}

impl Publisher {
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// More would only wait.
    pub(super) fn is_full(&self) -> bool {
        self.sent.len() >= SENDS_MAX
    }
}

impl Dialogue {
    /// A producer begins, or says so again.
    pub(super) fn add_producer(&mut self, info: &ProducerInfo) -> Result<(), Exception> {
        let id = &info.producer_id;
        self.own(&id.connection_id)?;
        self.add_session(id.session_id)?;
        let key = ProducerKey::of(id);
        if !self.producers.contains_key(&key) && self.producers.len() >= PRODUCERS_MAX {
            return Err(Exception::shortage(format!(
                "connection has its {PRODUCERS_MAX} producers; close some, or open another connection"
            )));
        }
        let producer = Producer {
            stored_id: translate::producer_id(id),
            has_window: info.window_size > 0,
        };
        self.producers.insert(key, producer);
        Ok(())
    }

    /// A message comes in.
    pub(super) fn send(&mut self, mut message: Message, asked: Asked, effects: &mut Vec<Effect>) {
        let ack = self.window_ack(&message, &asked);
        let transaction = message.transaction_id.take();
        if let Err(exception) = self.own(&message.message_id.producer_id.connection_id) {
            Self::give_window(ack, effects);
            return self.refuse(asked, exception, effects);
        }
        match transaction {
            None => self.publish(message, (asked, ack), effects),
            Some(TransactionId::Local(id)) => {
                Self::give_window(ack, effects);
                let sent = self.publication(message);
                let sent = sent.map(|(_, publication)| publication);
                let went = self.send_in_transaction(&id, sent, effects);
                self.answer(asked, went, effects);
            }
            Some(TransactionId::Xa(_)) => {
                Self::give_window(ack, effects);
                self.refuse(asked, super::transacting::no_distributed(), effects);
            }
        }
    }

    fn publish(
        &mut self,
        message: Message,
        (asked, ack): (Asked, Option<ProducerAck>),
        effects: &mut Vec<Effect>,
    ) {
        let (producer, publication) = match self.publication(message) {
            Ok(publication) => publication,
            Err(exception) => {
                Self::give_window(ack, effects);
                return self.refuse(asked, exception, effects);
            }
        };
        if self.publisher.is_none() {
            let call = self.begin(Role::Publishing, effects);
            self.publisher = Some(Publisher {
                call,
                next: 0,
                sent: BTreeMap::new(),
            });
        }
        let publisher = self.publisher.as_mut().expect("it was made just now");
        publisher.sent.insert(publisher.next, Sent { asked, ack });
        publisher.next += 1;
        effects.push(Effect::Tell(session::Input::Publish {
            call: publisher.call,
            producer: Some(producer),
            messages: vec![Ok(publication)],
            trace: None,
        }));
    }

    /// What is stored of a message, and under which producer's name.
    fn publication(&self, message: Message) -> Result<(StoredProducerId, Publication), Exception> {
        let producer = &message.message_id.producer_id;
        let known = self.producers.get(&ProducerKey::of(producer));
        let producer = known.map_or_else(
            || translate::producer_id(producer),
            |producer| producer.stored_id,
        );
        let mut buffer = BytesMut::new();
        let publication = translate::inbound(message, self.config.message_bytes_max, &mut buffer);
        match publication {
            Ok(publication) => Ok((producer, publication)),
            Err(refusal @ Refusal::Name(_)) => Err(Exception::destination(refusal.to_string())),
            Err(refusal) => Err(Exception::jms(refusal.to_string())),
        }
    }

    /// What the producer's window gets back once the message is taken. One that gets a response waits for that instead.
    fn window_ack(&self, message: &Message, asked: &Asked) -> Option<ProducerAck> {
        let id = &message.producer_id;
        let producer = self.producers.get(&ProducerKey::of(id))?;
        (producer.has_window && !asked.is_awaited()).then(|| ProducerAck {
            header: Header::default(),
            producer_id: Some(id.clone()),
            size: message.window_bytes(),
        })
    }

    fn give_window(ack: Option<ProducerAck>, effects: &mut Vec<Effect>) {
        if let Some(ack) = ack {
            effects.push(Effect::Say(Command::ProducerAck(ack)));
        }
    }

    /// Messages have an outcome.
    pub(super) fn confirmed(
        &mut self,
        (first, count): (u64, u32),
        (outcome, cause): (Outcome, Option<&Cause>),
        effects: &mut Vec<Effect>,
    ) {
        for ordinal in first..first.saturating_add(u64::from(count)) {
            let exception = Exception::of_outcome(outcome, cause);
            self.sent(ordinal, exception, effects);
        }
    }

    /// A message has an outcome.
    pub(super) fn sent(
        &mut self,
        ordinal: u64,
        exception: Option<Exception>,
        effects: &mut Vec<Effect>,
    ) {
        let publisher = self.publisher.as_mut();
        let Some(sent) = publisher.and_then(|publisher| publisher.sent.remove(&ordinal)) else {
            return;
        };
        Self::give_window(sent.ack, effects);
        self.answer(sent.asked, exception.map_or(Ok(()), Err), effects);
    }

    /// No message of the call gets an outcome any more. Where they may be stored the client must say them again, which
    /// it does when it connects anew; the others are refused.
    pub(super) fn publisher_failed(&mut self, failure: &Failure, effects: &mut Vec<Effect>) {
        let Some(publisher) = self.publisher.take() else {
            return;
        };
        if is_unserved(failure) {
            self.complain(Exception::of_failure(failure), effects);
            return self.close(Closing::Unserved, effects);
        }
        for sent in publisher.sent.into_values() {
            Self::give_window(sent.ack, effects);
            self.refuse(sent.asked, Exception::of_failure(failure), effects);
        }
    }
}

/// Whether a failure is one of the cluster's that another try, elsewhere or later, can mend.
pub(super) fn is_unserved(failure: &Failure) -> bool {
    match failure {
        Failure::Deadline { .. } | Failure::NoTopology => true,
        Failure::OutOfMemory { .. }
        | Failure::HeldBack { .. }
        | Failure::Malformed { .. }
        | Failure::AttachRefused { .. }
        | Failure::TakenOver
        | Failure::TooManyHeld { .. }
        | Failure::ForeignPosition { .. }
        | Failure::Hangs { .. }
        | Failure::TransactionTooLarge
        | Failure::NotCommitted { .. }
        | Failure::Refused { .. } => false,
    }
}
