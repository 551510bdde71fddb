//! What clients saw, as records that any client can write down: JSON lines, one per record, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::checker::Counts;

/// One thing that a client did or saw. Times are microseconds of one clock for all clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A producer's message came to its end. A message that was tried again by its number has one record with the
    /// last outcome, or several, of which a confirmation counts.
    Publish(Publish),
    /// A consumer got a message.
    Delivery(Delivery),
    /// A consumer settled a message.
    Settle(Settle),
    /// At the end the queue was emptied: consumers waited until nothing came any more. Loss can be judged only for
    /// a queue with this record.
    Drained(Drained),
    /// A message, and every place at which it may come to its end.
    Kept(Kept),
    /// A transaction came to its end.
    Transaction(Transaction),
}

/// See [`Record::Publish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The queue.
    pub queue: String,
    /// The producer's name.
    pub producer: String,
    /// Its number for the message.
    pub number: u64,
    /// Digest of the bytes.
    pub digest: u64,
    /// When the client began.
    pub invoked_us: u64,
    /// When it learned the outcome.
    pub done_us: u64,
    /// What it learned.
    pub outcome: Outcome,
    /// The client itself broke the order: it sent this one again after an error that left later ones on their way.
    #[serde(default)]
    pub out_of_order: bool,
}

/// See [`Record::Delivery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The queue.
    pub queue: String,
    /// The consumer, another name for each time it attached anew.
    pub consumer: String,
    /// The producer's name, as found in the message.
    pub producer: String,
    /// Its number, as found in the message.
    pub number: u64,
    /// Digest of the bytes that came.
    pub digest: u64,
    /// When it came; or when it was sent, if that is known.
    pub at_us: u64,
    /// Where the message is stored, if the client is told.
    #[serde(default)]
    pub position: Option<u64>,
    /// Marked as perhaps delivered before.
    pub redelivered: bool,
    /// It was sent before and did not arrive, as far as that is known, or was passed over: what was sent meanwhile may have
    /// arrived.
    #[serde(default)]
    pub resent: bool,
    /// In which leader's memory it was, if it is a message that is only there; 0 otherwise. What is sent again after the
    /// crash of a leader is stored again.
    #[serde(default)]
    pub copy: u64,
}

/// See [`Record::Settle`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The queue.
    pub queue: String,
    /// The consumer.
    pub consumer: String,
    /// The producer's name, as found in the message.
    pub producer: String,
    /// Its number, as found in the message.
    pub number: u64,
    /// When the client asked for it.
    pub invoked_us: u64,
    /// When it learned the outcome.
    pub done_us: u64,
    /// Where the message is stored, if the client is told.
    #[serde(default)]
    pub position: Option<u64>,
    /// In which leader's memory it was, as in [`Delivery`].
    #[serde(default)]
    pub copy: u64,
    /// Whether the message is done with; otherwise it was given back.
    pub accepted: bool,
    /// What the client learned.
    pub outcome: Outcome,
}

/// See [`Record::Drained`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// The queue.
    pub queue: String,
}

/// See [`Record::Kept`]. A place is the queue of a [`Settle`] record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The producer.
    pub producer: String,
    /// Its number for the message.
    pub number: u64,
    /// Where it may end: in its queue, as a dead letter, moved.
    pub places: Vec<String>,
    /// How often it is to be accepted, over all places: once, but for a repeated message.
    pub times: u64,
    /// What the producer learned.
    pub outcome: Outcome,
    /// It may have ended in another way: by its expiry, by the policy that the operator chose, by a purge.
    pub excused: bool,
}

impl Kept {
    pub(crate) fn key_at(&self, place: &str) -> MessageKey {
        MessageKey {
            queue: place.to_owned(),
            producer: self.producer.clone(),
            number: self.number,
        }
    }
}

/// See [`Record::Transaction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its name, for the report.
    pub name: String,
    /// The messages that it sends.
    pub sends: Vec<Sending>,
    /// The messages that it accepts.
    pub accepts: Vec<Sending>,
    /// What its client learned.
    pub outcome: Outcome,
}

/// A message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The queue.
    pub queue: String,
    /// The producer.
    pub producer: String,
    /// Its number.
    pub number: u64,
}

impl Sending {
    pub(crate) fn key(&self) -> MessageKey {
        MessageKey {
            queue: self.queue.clone(),
            producer: self.producer.clone(),
            number: self.number,
        }
    }
}

/// What a client learned of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Confirmed,
    /// It was not done and never will be.
    Refused,
    /// It may have been done or may be done later.
    Unknown,
}

/// One message: what a producer names by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// The queue.
    pub queue: String,
    /// The producer.
    pub producer: String,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.queue, self.producer, self.number)
    }
}

/// All records of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In any order.
    pub records: Vec<Record>,
}

impl History {
    /// Reads JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// If reading fails or a line is not a record; the message names the line.
    pub fn read(from: impl BufRead) -> io::Result<Self> {
        let mut records = Vec::new();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let record = serde_json::from_str(&line).map_err(|error| {
                let text = format!("parse record in line {}: {error}", number + 1);
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            records.push(record);
        }
        Ok(Self { records })
    }

    /// Writes JSON lines.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        for record in &self.records {
            serde_json::to_writer(&mut to, record)?;
            to.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A history arranged for judging.
#[derive(Debug, Default)]
pub(crate) struct View<'a> {
    pub(crate) published: BTreeMap<MessageKey, Sent>,
    /// The deliveries of each message in the order of their times.
    pub(crate) delivered: BTreeMap<MessageKey, Vec<&'a Delivery>>,
    /// The earliest confirmed settlement for good of each copy of each message.
    pub(crate) settled_us: BTreeMap<(MessageKey, u64), u64>,
    /// All deliveries, in the order of the records: a consumer's own records are in the order in which it saw them.
    pub(crate) deliveries: Vec<&'a Delivery>,
    pub(crate) drained: BTreeSet<&'a str>,
    pub(crate) kept: Vec<&'a Kept>,
    pub(crate) transactions: Vec<&'a Transaction>,
    /// What became of each try to accept a message, and where it was stored.
    pub(crate) accepts: BTreeMap<MessageKey, Vec<(Outcome, Option<u64>)>>,
}

/// What a producer knows of one of its messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) digest: u64,
    pub(crate) outcome: Outcome,
    pub(crate) out_of_order: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let mut view = Self::default();
        for record in &history.records {
            match record {
                Record::Publish(publish) => view.add_publish(publish),
                Record::Delivery(delivery) => {
                    view.delivered
                        .entry(key_of(delivery))
                        .or_default()
                        .push(delivery);
                    view.deliveries.push(delivery);
                }
                Record::Settle(settle) => view.add_settle(settle),
                Record::Drained(drained) => {
                    view.drained.insert(&drained.queue);
                }
                Record::Kept(kept) => view.kept.push(kept),
                Record::Transaction(transaction) => view.transactions.push(transaction),
            }
        }
        for deliveries in view.delivered.values_mut() {
            deliveries.sort_by_key(|delivery| delivery.at_us);
        }
        view
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |outcome| {
            self.published
                .values()
                .filter(|sent| sent.outcome == outcome)
                .count() as u64
        };
        let recovered = self.published.iter().filter(|(key, sent)| {
            sent.outcome == Outcome::Unknown && self.delivered.contains_key(*key)
        });
        Counts {
            published: self.published.len() as u64,
            confirmed: of(Outcome::Confirmed),
            unknown: of(Outcome::Unknown),
            delivered: self.deliveries.len() as u64,
            repeated: (self.deliveries.len() - self.delivered.len()) as u64,
            settled: self.settled_us.len() as u64,
            recovered: recovered.count() as u64,
        }
    }

    fn add_publish(&mut self, publish: &Publish) {
        let key = MessageKey {
            queue: publish.queue.clone(),
            producer: publish.producer.clone(),
            number: publish.number,
        };
        let sent = self.published.entry(key).or_insert(Sent {
            digest: publish.digest,
            outcome: publish.outcome,
            out_of_order: publish.out_of_order,
        });
        sent.out_of_order |= publish.out_of_order;
        sent.outcome = stronger(sent.outcome, publish.outcome);
    }

    fn add_settle(&mut self, settle: &Settle) {
        if !settle.accepted {
            return;
        }
        let key = MessageKey {
            queue: settle.queue.clone(),
            producer: settle.producer.clone(),
            number: settle.number,
        };
        let tries = self.accepts.entry(key.clone()).or_default();
        tries.push((settle.outcome, settle.position));
        if settle.outcome != Outcome::Confirmed {
            return;
        }
        let copy = (key, settle.copy);
        let first = self.settled_us.entry(copy).or_insert(settle.done_us);
        *first = settle.done_us.min(*first);
    }
}

pub(crate) fn key_of(delivery: &Delivery) -> MessageKey {
    MessageKey {
        queue: delivery.queue.clone(),
        producer: delivery.producer.clone(),
        number: delivery.number,
    }
}

/// Of several attempts with one number: one confirmation confirms, and one unknown attempt leaves a refusal open.
fn stronger(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Confirmed, _) | (_, Outcome::Confirmed) => Outcome::Confirmed,
        (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
        (Outcome::Refused, Outcome::Refused) => Outcome::Refused,
    }
}
