//! Transactions: messages sent and messages settled, all or none, in any number of queues.
//!
//! Nothing of a transaction exists in the cluster before its commit, which carries all of it; so it can be repeated
//! through any gateway under the same name, and happens once.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_proto::v1::{self, Settlement, messaging_service_client::MessagingServiceClient};

use crate::{
    Client, Consumer, Delivery, Error, OutboundMessage,
    client::random_id,
    consumer::Handle,
    limits::{
        TRANSACTION_BYTES, TRANSACTION_COMMANDS, TRANSACTION_REQUEST_BYTES,
        TRANSACTION_REQUEST_MESSAGES,
    },
};

/// What a message takes beside its body.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// Begins transactions under one name, numbered in the order in which they were begun. Commit them in about that order:
/// the cluster remembers which of the last 4,096 were committed.
#[derive(Debug)]
pub struct Transactions {
    client: Client,
    origin: Bytes,
    numbers: AtomicU64,
}

impl Transactions {
    pub(crate) fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            origin: random_id()?,
            numbers: AtomicU64::new(0),
        })
    }

    /// Begins a transaction. Dropping it rolls it back.
    #[must_use]
    pub fn begin(&self) -> Transaction {
        Transaction {
            client: self.client.clone(),
            origin: self.origin.clone(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            messages: Vec::new(),
            settlements: Vec::new(),
            settled: Vec::new(),
            bytes: 0,
        }
    }
}

/// Messages to be sent and settled together.
#[derive(Debug)]
pub struct Transaction {
    client: Client,
    origin: Bytes,
    number: u64,
    messages: Vec<v1::OutboundMessage>,
    settlements: Vec<v1::TransactedSettle>,
    settled: Vec<(Handle, v1::Position)>,
    bytes: usize,
}

impl Transaction {
    /// Adds a message. Within a transaction every message is persistent.
    ///
    /// # Errors
    /// If the transaction gets larger than 16 MiB or 65,536 commands; it stays as it was.
    pub fn send(&mut self, message: OutboundMessage) -> Result<(), Error> {
        let bytes = message.message.body.len() + message.destination.len() + MESSAGE_OVERHEAD_BYTES;
        self.check_room(bytes)?;
        self.bytes += bytes;
        self.messages.push(message.numbered(0));
        Ok(())
    }

    /// Adds the acceptance of a message that the consumer holds.
    ///
    /// # Errors
    /// As for [`Transaction::send`].
    pub fn accept(&mut self, consumer: &Consumer, delivery: &Delivery) -> Result<(), Error> {
        self.settle(consumer, delivery, Settlement::Accept)
    }

    /// Adds the rejection of a message that the consumer holds.
    ///
    /// # Errors
    /// As for [`Transaction::send`].
    pub fn reject(&mut self, consumer: &Consumer, delivery: &Delivery) -> Result<(), Error> {
        self.settle(consumer, delivery, Settlement::Reject)
    }

    /// How many messages it sends and settles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len() + self.settled.len()
    }

    /// Whether it sends and settles nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Commits it: when this returns, all of it has happened and can be seen. A lost gateway or leader is a pause.
    ///
    /// # Errors
    /// [`Error::Refused`]: nothing of it has happened, or will; what it was to settle is still the consumer's. If no
    /// gateway answers in time, it is not known whether it happened.
    pub async fn commit(self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let requests = self.requests();
        self.client
            .ask(move |channel| {
                let requests = tokio_stream::iter(requests.clone());
                async move {
                    MessagingServiceClient::new(channel)
                        .transact(requests)
                        .await
                }
            })
            .await?;
        for (consumer, position) in self.settled {
            consumer.settled_elsewhere(&position);
        }
        Ok(())
    }

    /// Gives it up: nothing of it happens, and what it was to settle is still the consumer's.
    pub fn roll_back(self) {
        drop(self);
    }

    fn settle(
        &mut self,
        consumer: &Consumer,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<(), Error> {
        self.check_room(0)?;
        let handle = consumer.handle();
        let (queue, consumer_id) = handle.name();
        let last = self.settlements.last_mut().filter(|last| {
            last.consumer_id == consumer_id
                && last.settlement == i32::from(settlement)
                && last.positions.len() < TRANSACTION_REQUEST_MESSAGES
        });
        match last {
            Some(last) => last.positions.push(delivery.position),
            None => self.settlements.push(v1::TransactedSettle {
                queue,
                consumer_id,
                settlement: settlement.into(),
                positions: vec![delivery.position],
            }),
        }
        self.settled.push((handle, delivery.position));
        Ok(())
    }

    fn check_room(&self, bytes: usize) -> Result<(), Error> {
        if self.len() >= TRANSACTION_COMMANDS || self.bytes + bytes > TRANSACTION_BYTES {
            return Err(Error::Refused(format!(
                "a transaction has at most {TRANSACTION_COMMANDS} messages and {TRANSACTION_BYTES} bytes; commit \
                 more often"
            )));
        }
        Ok(())
    }

    /// The whole of it, in requests of a moderate size; the last one commits.
    fn requests(&self) -> Vec<v1::TransactRequest> {
        let empty = || v1::TransactRequest {
            transaction_id: self.origin.clone(),
            number: self.number,
            ..v1::TransactRequest::default()
        };
        let mut requests = vec![empty()];
        let mut bytes = 0;
        for message in &self.messages {
            let size =
                message.message.as_ref().map_or(0, |m| m.body.len()) + MESSAGE_OVERHEAD_BYTES;
            let count = requests.last().map_or(0, |last| last.messages.len());
            let is_full =
                bytes + size > TRANSACTION_REQUEST_BYTES || count >= TRANSACTION_REQUEST_MESSAGES;
            if bytes > 0 && is_full {
                requests.push(empty());
                bytes = 0;
            }
            bytes += size;
            if let Some(last) = requests.last_mut() {
                last.messages.push(message.clone());
            }
        }
        if let Some(last) = requests.last_mut() {
            last.commit = true;
        }
        let positions = self.settlements.iter().map(|settle| settle.positions.len());
        if positions.clone().sum::<usize>() <= TRANSACTION_REQUEST_MESSAGES {
            requests[0].settlements.clone_from(&self.settlements);
            return requests;
        }
        let each = self.settlements.iter().map(|settle| v1::TransactRequest {
            settlements: vec![settle.clone()],
            ..empty()
        });
        requests.splice(0..0, each);
        requests
    }
}
