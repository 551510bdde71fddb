//! Transactions in the checkpoint.
//!
//! ```text
//! committed windows, as `dedup.rs` has it
//! prepared varint, each in the order of names:
//!     name: origin 16 bytes, number varint; attempt u64, owner u64 (plus one; 0: this shard), parts varint
//!     commands varint, each:
//!         1 publish  destination: kind u8, length u8, name; position varint, priority u8, expiry varint, size varint,
//!                    retention u8
//!         2 settle   queue varint, priority u8, position varint, count varint, bytes varint,
//!                    settlement u8
//! decisions varint, each in the order of names and attempts: name, attempt u64, participants varint, each u32
//! rolled back varint, each in the order of attempts and names: attempt u64, name
//! ```

use std::collections::BTreeSet;

use quorate_message::limits::PRIORITY_MAX;
use quorate_message::{
    Attempt, Destination, DestinationName, MessagePosition, ProducerId, Settlement, TransactionId,
};

use super::{Prepared, Transactions, Work};
use crate::limits::{ROLLED_BACK_MAX, TRANSACTIONS_MAX};
use crate::state::apply::Retention;
use crate::state::codec::{Cursor, Sink};
use crate::state::queue::Taken;
use crate::state::{Dedup, Queue, QueueId, Turn, topic_codec};

const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;

impl Transactions {
    /// Appends everything but what is derived.
    pub(in crate::state) fn encode(&self, sink: &mut Sink) {
        self.committed.encode(sink);
        sink.varint(self.prepared.len() as u64);
        for (id, prepared) in &self.prepared {
            encode_id(*id, sink);
            sink.u64(prepared.attempt.value());
            sink.u64(prepared.owner.map_or(0, |owner| u64::from(owner) + 1));
            sink.varint(u64::from(prepared.parts));
            sink.varint(prepared.work.len() as u64);
            prepared
                .work
                .iter()
                .for_each(|work| encode_work(work, sink));
            sink.spill();
        }
        sink.varint(self.decisions.len() as u64);
        for ((id, attempt), participants) in &self.decisions {
            encode_id(*id, sink);
            sink.u64(attempt.value());
            sink.varint(participants.len() as u64);
            participants.iter().for_each(|shard| sink.u32(*shard));
            sink.spill();
        }
        sink.varint(self.rolled_back.len() as u64);
        for (attempt, id) in &self.rolled_back {
            sink.u64(attempt.value());
            encode_id(*id, sink);
        }
    }

    /// Reads what `encode` wrote, and counts in `queues` what transactions hold of them.
    pub(in crate::state) fn decode(
        cursor: &mut Cursor<'_>,
        queues: &mut [Queue],
        applied: u64,
    ) -> Option<Self> {
        let mut transactions = Self {
            committed: Dedup::decode(cursor, 1, applied)?,
            ..Self::default()
        };
        let count = bounded(cursor.varint()?, TRANSACTIONS_MAX)?;
        let destinations = queues.iter().map(Queue::destination);
        let known: BTreeSet<Destination> = destinations.take_while(|_| count > 0).collect();
        for _ in 0..count {
            let id = decode_id(cursor)?;
            let prepared = decode_prepared(cursor, (queues, &known), applied)?;
            for work in &prepared.work {
                *transactions.positions.entry(work.position()).or_insert(0) += 1;
                transactions.bytes += work.cost_bytes();
            }
            let is_next = transactions
                .prepared
                .last_key_value()
                .is_none_or(|last| *last.0 < id);
            transactions.prepared.insert(id, prepared);
            is_next.then_some(())?;
        }
        for _ in 0..bounded(cursor.varint()?, TRANSACTIONS_MAX)? {
            let key = (decode_id(cursor)?, Attempt::from_value(cursor.u64()?));
            let mut participants = BTreeSet::new();
            for _ in 0..cursor.varint()? {
                let shard = cursor.u32()?;
                let is_next = participants.last().is_none_or(|last| *last < shard);
                participants.insert(shard);
                is_next.then_some(())?;
            }
            let is_next = transactions
                .decisions
                .last_key_value()
                .is_none_or(|last| *last.0 < key);
            (is_next && !participants.is_empty()).then_some(())?;
            transactions.decisions.insert(key, participants);
        }
        for _ in 0..bounded(cursor.varint()?, ROLLED_BACK_MAX)? {
            let key = (Attempt::from_value(cursor.u64()?), decode_id(cursor)?);
            let is_next = transactions
                .rolled_back
                .last()
                .is_none_or(|last| *last < key);
            transactions.rolled_back.insert(key);
            is_next.then_some(())?;
        }
        Some(transactions)
    }
}

fn bounded(count: u64, most: usize) -> Option<usize> {
    usize::try_from(count).ok().filter(|count| *count <= most)
}

fn encode_id(id: TransactionId, sink: &mut Sink) {
    sink.bytes(&id.origin.0);
    sink.varint(id.number);
}

fn decode_id(cursor: &mut Cursor<'_>) -> Option<TransactionId> {
    Some(TransactionId {
        origin: ProducerId(cursor.array()?),
        number: cursor.varint()?,
    })
}

fn encode_work(work: &Work, sink: &mut Sink) {
    match work {
        Work::Publish {
            destination,
            position,
            priority,
            expires_at_ms,
            size_bytes,
            retention,
        } => {
            sink.u8(PUBLISH);
            sink.u8(topic_codec::kind_code(destination.kind));
            let name = destination.name.as_str();
            sink.u8(u8::try_from(name.len()).expect("names have at most 255 bytes"));
            sink.bytes(name.as_bytes());
            sink.varint(position.value());
            sink.u8(*priority);
            sink.varint(*expires_at_ms);
            sink.varint(u64::from(*size_bytes));
            sink.u8(match retention {
                Retention::None => 0,
                Retention::Keep => 1,
                Retention::Clear => 2,
            });
        }
        Work::Settle {
            queue,
            taken,
            settlement,
        } => {
            sink.u8(SETTLE);
            sink.varint(u64::from(queue.0));
            sink.u8(taken.turn.priority());
            sink.varint(taken.turn.position().value());
            sink.varint(u64::from(taken.count));
            sink.varint(taken.bytes);
            sink.u8(match settlement {
                Settlement::Accept => 1,
                Settlement::Release => 2,
                Settlement::Return => 3,
                Settlement::Reject => 4,
                Settlement::Expire => 5,
                Settlement::Cancel => 6,
            });
        }
    }
}

fn decode_prepared(
    cursor: &mut Cursor<'_>,
    (queues, known): (&mut [Queue], &BTreeSet<Destination>),
    applied: u64,
) -> Option<Prepared> {
    let attempt = Attempt::from_value(cursor.u64()?);
    let owner = match cursor.u64()? {
        0 => None,
        owner => Some(u32::try_from(owner - 1).ok()?),
    };
    let parts = u16::try_from(cursor.varint()?).ok()?;
    let count = cursor.varint()?;
    let mut work = Vec::new();
    for _ in 0..count {
        let item = decode_work(cursor)?;
        if item.position().entry() > applied {
            return None;
        }
        match &item {
            Work::Publish { destination, .. } => {
                known.contains(destination).then_some(())?;
            }
            Work::Settle { queue, .. } => queues.get_mut(queue.0 as usize)?.locked += 1,
        }
        work.push(item);
    }
    Some(Prepared {
        attempt,
        owner,
        parts,
        work,
    })
}

fn decode_turn(cursor: &mut Cursor<'_>) -> Option<Turn> {
    let priority = cursor.u8().filter(|priority| *priority <= PRIORITY_MAX)?;
    let position = MessagePosition::from_value(cursor.varint()?);
    Some(Turn::new(priority, position))
}

fn decode_work(cursor: &mut Cursor<'_>) -> Option<Work> {
    match cursor.u8()? {
        PUBLISH => {
            let kind = topic_codec::kind_of(cursor.u8()?)?;
            let length = usize::from(cursor.u8()?);
            let name = std::str::from_utf8(cursor.take(length)?).ok()?;
            let name = DestinationName::new(name).ok()?;
            Some(Work::Publish {
                destination: Destination { kind, name },
                position: MessagePosition::from_value(cursor.varint()?),
                priority: cursor.u8().filter(|priority| *priority <= PRIORITY_MAX)?,
                expires_at_ms: cursor.varint()?,
                size_bytes: u32::try_from(cursor.varint()?).ok()?,
                retention: match cursor.u8()? {
                    0 => Retention::None,
                    1 => Retention::Keep,
                    2 => Retention::Clear,
                    _ => return None,
                },
            })
        }
        SETTLE => Some(Work::Settle {
            queue: QueueId(u32::try_from(cursor.varint()?).ok()?),
            taken: Taken {
                turn: decode_turn(cursor)?,
                count: u32::try_from(cursor.varint()?).ok()?,
                bytes: cursor.varint()?,
            },
            settlement: match cursor.u8()? {
                1 => Settlement::Accept,
                2 => Settlement::Release,
                3 => Settlement::Return,
                4 => Settlement::Reject,
                5 => Settlement::Expire,
                6 => Settlement::Cancel,
                _ => return None,
            },
        }),
        _ => None,
    }
}
