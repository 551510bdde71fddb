//! Between the generated types and those of the session machine: the only file that knows both.
//!
//! Whatever a client gets wrong is refused here with a status that names the thing and the remedy.

pub(crate) mod node;
pub(crate) mod outcome;
pub(crate) mod subscription;
pub(crate) mod terms;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_message::{
    ConsumerId, Destination, DestinationName, Message, MessagePosition, MessageView, ProducerId,
    Schedule, Settlement, TransactionId, Value, limits::PRIORITY_DEFAULT,
};
use quorate_proto::v1;
use tonic::Status;

use crate::{
    internal,
    limits::{COMPOSITE_MAX, FRAME_MESSAGES_MAX, SETTLE_POSITIONS_MAX},
    session::{
        Credit, OpenConsumer, Outcome, Publication, Sent, ShardId, StoredDelivery,
        TransactedSettlement, may_transact,
    },
};

/// The queue of this name.
pub(crate) fn queue(name: &str) -> Result<DestinationName, Status> {
    crate::source::queue(name).map_err(Status::invalid_argument)
}

/// Where a message goes: a queue, a topic, or several of them with commas between.
fn destinations(text: &str) -> Result<(Destination, Vec<Destination>), Status> {
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > COMPOSITE_MAX {
        return Err(Status::invalid_argument(format!(
            "destination names {} queues and topics; at most {COMPOSITE_MAX} are allowed",
            parts.len()
        )));
    }
    let mut parsed = parts.into_iter().map(|part| {
        let destination: Result<Destination, _> = part.parse();
        let destination = destination
            .map_err(|error| Status::invalid_argument(format!("destination {part:?}: {error}")))?;
        let free = internal::refuse(&destination).map(|()| destination);
        free.map_err(Status::invalid_argument)
    });
    let first = parsed.next().transpose()?;
    let first = first.ok_or_else(|| Status::invalid_argument("destination is missing"))?;
    Ok((first, parsed.collect::<Result<_, _>>()?))
}

/// The producer of this id.
pub(crate) fn producer(id: &[u8]) -> Result<ProducerId, Status> {
    ProducerId::try_from(id)
        .map_err(|error| Status::invalid_argument(format!("producer_id: {error}")))
}

/// The consumer of this id; none when the client leaves it to the gateway.
pub(crate) fn consumer(id: &[u8]) -> Result<Option<ConsumerId>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    ConsumerId::try_from(id)
        .map(Some)
        .map_err(|error| Status::invalid_argument(format!("consumer_id: {error}")))
}

/// Reads the messages of one call. It keeps the name last used, since neighbours mostly share it.
#[derive(Debug)]
pub(crate) struct Publications {
    message_bytes_max: usize,
    last: Option<(String, Destination, Vec<Destination>)>,
}

impl Publications {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            last: None,
        }
    }

    /// The messages of a frame, each encoded once, all into one buffer.
    ///
    /// # Errors
    /// When there are too many. One that is wrong costs only itself.
    pub(crate) fn read(
        &mut self,
        messages: Vec<v1::OutboundMessage>,
        needs_numbers: bool,
    ) -> Result<Vec<Sent>, Status> {
        if messages.len() > FRAME_MESSAGES_MAX {
            return Err(Status::invalid_argument(format!(
                "request holds {} messages; at most {FRAME_MESSAGES_MAX} are allowed, send the rest in the next",
                messages.len()
            )));
        }
        let bodies = messages.iter().filter_map(|m| m.message.as_ref());
        let mut buffer = BytesMut::with_capacity(bodies.map(|m| m.body.len() + 64).sum());
        let read = messages.into_iter().map(|outbound| {
            let read = self.read_one(outbound, needs_numbers, &mut buffer);
            read.map_err(|status| Arc::from(status.message()))
        });
        Ok(read.collect())
    }

    /// The messages of a frame, of which none may be wrong.
    pub(crate) fn read_all(
        &mut self,
        messages: Vec<v1::OutboundMessage>,
        needs_numbers: bool,
    ) -> Result<Vec<Publication>, Status> {
        let read = self.read(messages, needs_numbers)?.into_iter();
        read.map(|one| one.map_err(|reason| Status::invalid_argument(&*reason)))
            .collect()
    }

    fn read_one(
        &mut self,
        outbound: v1::OutboundMessage,
        needs_number: bool,
        buffer: &mut BytesMut,
    ) -> Result<Publication, Status> {
        let (queue, also) = match &self.last {
            Some((name, queue, also)) if *name == outbound.destination => {
                (queue.clone(), also.clone())
            }
            Some(_) | None => {
                let (queue, also) = destinations(&outbound.destination)?;
                self.last = Some((outbound.destination, queue.clone(), also.clone()));
                (queue, also)
            }
        };
        if needs_number && outbound.number == 0 {
            return Err(Status::invalid_argument(format!(
                "message for {queue} has number 0; a producer numbers its messages for each destination from 1"
            )));
        }
        let (number, non_persistent) = (outbound.number, outbound.non_persistent);
        let timing = Timing {
            deliver_after_ms: outbound.deliver_after_ms,
            period_ms: outbound.period_ms,
            repeat: outbound.repeat,
            cron: outbound.cron,
        };
        // An empty message is sent as one that is there and has nothing in it.
        let message = outbound.message.ok_or_else(|| {
            Status::invalid_argument(format!(
                "message {number} for {queue} is missing; set `message`"
            ))
        })?;
        if message.body.len() > self.message_bytes_max {
            return Err(Status::invalid_argument(format!(
                "message {} for {queue} has a body of {} bytes; at most {} are allowed (the gateway's \
                 max_message_bytes)",
                number,
                message.body.len(),
                self.message_bytes_max
            )));
        }
        let schedule = schedule(&timing, non_persistent, outbound.retained).map_err(|reason| {
            Status::invalid_argument(format!("message {number} for {queue}: {reason}"))
        })?;
        let message = stored(message)?;
        message.encode(buffer).map_err(|error| {
            Status::invalid_argument(format!("message {number} for {queue}: {error}"))
        })?;
        Ok(Publication {
            destination: queue,
            also,
            is_retained: outbound.retained,
            number,
            non_persistent,
            priority: message.priority,
            expires_at_ms: message.expires_at_ms,
            schedule,
            message: buffer.split().freeze(),
        })
    }
}

/// What a client says of when a message is to be delivered.
struct Timing {
    deliver_after_ms: u64,
    period_ms: u64,
    repeat: i32,
    cron: String,
}

/// The schedule, or why there can be none; nothing is said with all of it zero.
fn schedule(
    timing: &Timing,
    non_persistent: bool,
    is_retained: bool,
) -> Result<Option<Box<Schedule>>, String> {
    let Timing {
        deliver_after_ms,
        period_ms,
        repeat,
        cron,
    } = timing;
    if (*deliver_after_ms, *period_ms, *repeat) == (0, 0, 0) && cron.is_empty() {
        return Ok(None);
    }
    if non_persistent {
        return Err(
            "a non-persistent message is delivered at once; leave out its schedule".to_owned(),
        );
    }
    if is_retained {
        return Err(
            "a topic does not retain a message that has a schedule; leave out one of both"
                .to_owned(),
        );
    }
    let repeat = match *repeat {
        -1 => Schedule::FOREVER,
        repeat => u32::try_from(repeat)
            .map_err(|_| format!("repeat {repeat} is no number of deliveries; -1 means no end"))?,
    };
    let schedule = Schedule {
        delay_ms: *deliver_after_ms,
        period_ms: *period_ms,
        repeat,
        cron: cron.clone(),
    };
    schedule.check().map_err(|error| error.to_string())?;
    Ok(Some(Box::new(schedule)))
}

fn stored(message: v1::Message) -> Result<Message, Status> {
    let priority = match message.priority {
        None => PRIORITY_DEFAULT,
        Some(priority) => u8::try_from(priority).map_err(|_| {
            Status::invalid_argument(format!("priority {priority} is not one of 0 to 9"))
        })?,
    };
    let mut properties: Vec<_> =
        terms::with_group(message.properties, message.group, message.group_sequence)
            .into_iter()
            .map(|(name, property)| (name, value(property)))
            .collect();
    // The generated map has no order of its own; a message has one encoding.
    properties.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Message {
        id: message.message_id,
        correlation_id: message.correlation_id,
        reply_to: message.reply_to,
        content_type: message.content_type,
        priority,
        timestamp_ms: message.timestamp_ms,
        expires_at_ms: message.expires_at_ms,
        properties,
        body: message.body,
    })
}

fn value(value: v1::Value) -> Value {
    use v1::value::Kind;
    match value.kind {
        None => Value::Null,
        Some(Kind::Boolean(value)) => Value::Boolean(value),
        Some(Kind::Int(value)) => Value::Int(value),
        Some(Kind::Long(value)) => Value::Long(value),
        Some(Kind::Double(value)) => Value::Double(value),
        Some(Kind::Text(value)) => Value::Text(value),
        Some(Kind::Binary(value)) => Value::Binary(value),
    }
}

fn proto_value(value: Value) -> v1::Value {
    use v1::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Boolean(value) => Some(Kind::Boolean(value)),
        Value::Int(value) => Some(Kind::Int(value)),
        Value::Long(value) => Some(Kind::Long(value)),
        Value::Double(value) => Some(Kind::Double(value)),
        Value::Text(value) => Some(Kind::Text(value)),
        Value::Binary(value) => Some(Kind::Binary(value)),
    };
    v1::Value { kind }
}

/// What a client asks for when it opens a consumer; `random` is its id when it names none.
pub(crate) fn open(
    open: v1::OpenConsumer,
    random: ConsumerId,
    wall_micros: u64,
) -> Result<OpenConsumer, Status> {
    let consumer = consumer(&open.consumer_id)?.unwrap_or(random);
    let (queue, subscription) = subscription::source(&open, consumer)?;
    Ok(OpenConsumer {
        consumer,
        queue,
        terms: terms::of(&open, subscription.as_ref())?,
        subscription: subscription.map(Box::new),
        held: open.held.iter().map(position).collect(),
        credit: open.credit.as_ref().map_or_else(Credit::default, credit),
        wall_micros,
    })
}

pub(crate) fn position(position: &v1::Position) -> (ShardId, MessagePosition) {
    let value = MessagePosition::from_value(position.value);
    (ShardId(position.shard), value)
}

pub(crate) fn proto_position((shard, position): (ShardId, MessagePosition)) -> v1::Position {
    v1::Position {
        shard: shard.0,
        value: position.value(),
    }
}

pub(crate) fn credit(credit: &v1::Credit) -> Credit {
    Credit {
        messages: u64::from(credit.messages),
        bytes: credit.bytes,
    }
}

/// How a client settles, and what.
pub(crate) fn settle(
    settle: &v1::Settle,
) -> Result<(Settlement, Vec<(ShardId, MessagePosition)>), Status> {
    if settle.positions.len() > SETTLE_POSITIONS_MAX {
        return Err(Status::invalid_argument(format!(
            "settle names {} positions; at most {SETTLE_POSITIONS_MAX} are allowed, settle the rest in the next",
            settle.positions.len()
        )));
    }
    let settlement = match settle.settlement() {
        v1::Settlement::Accept => Settlement::Accept,
        v1::Settlement::Release => Settlement::Release,
        v1::Settlement::Return => Settlement::Return,
        v1::Settlement::Reject => Settlement::Reject,
        v1::Settlement::Unspecified => {
            return Err(Status::invalid_argument(
                "settle names no settlement; choose ACCEPT, RELEASE, RETURN or REJECT",
            ));
        }
    };
    Ok((settlement, settle.positions.iter().map(position).collect()))
}

/// The transaction of this name.
pub(crate) fn transaction(id: &[u8], number: u64) -> Result<TransactionId, Status> {
    let origin = ProducerId::try_from(id)
        .map_err(|error| Status::invalid_argument(format!("transaction_id: {error}")))?;
    if number == 0 {
        return Err(Status::invalid_argument(
            "transaction has number 0; transactions of one transaction_id are numbered from 1",
        ));
    }
    Ok(TransactionId { origin, number })
}

/// What a transaction settles.
pub(crate) fn transacted(settle: &v1::TransactedSettle) -> Result<TransactedSettlement, Status> {
    let (settlement, positions) = self::settle(&v1::Settle {
        settlement: settle.settlement,
        positions: settle.positions.clone(),
        token: 0,
    })?;
    if !may_transact(settlement) {
        return Err(Status::invalid_argument(
            "a transaction accepts or rejects messages; release or return them outside of it",
        ));
    }
    Ok(TransactedSettlement {
        consumer: consumer(&settle.consumer_id)?,
        destination: Destination::queue(queue(&settle.queue)?),
        settlement,
        positions,
    })
}

/// A stored message as clients see it.
pub(crate) fn delivery(shard: ShardId, delivery: &StoredDelivery) -> Result<v1::Delivery, Status> {
    let position = (shard, delivery.position);
    let message = message(&delivery.message).map_err(|error| {
        Status::data_loss(format!(
            "message {shard}.{} cannot be read: {error}",
            delivery.position
        ))
    })?;
    Ok(v1::Delivery {
        position: Some(proto_position(position)),
        message: Some(message),
        delivery_count: delivery.delivery_count,
        redelivered: delivery.redelivered,
        first_in_group: delivery.group.is_some_and(|group| group.is_first),
    })
}

fn message(stored: &Bytes) -> Result<v1::Message, quorate_message::MessageError> {
    let message = Message::decode(stored)?;
    let group = MessageView::new(stored).and_then(|view| view.group());
    Ok(v1::Message {
        group: group.map_or_else(String::new, |group| group.name.to_owned()),
        group_sequence: group.map_or(0, |group| group.sequence),
        message_id: message.id,
        correlation_id: message.correlation_id,
        reply_to: message.reply_to,
        content_type: message.content_type,
        priority: Some(u32::from(message.priority)),
        timestamp_ms: message.timestamp_ms,
        expires_at_ms: message.expires_at_ms,
        properties: message
            .properties
            .into_iter()
            .map(|(name, value)| (name, proto_value(value)))
            .collect(),
        body: message.body,
    })
}

pub(crate) fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Stored => v1::Outcome::Stored,
        Outcome::Duplicate => v1::Outcome::Duplicate,
        Outcome::Applied => v1::Outcome::Applied,
        Outcome::UnknownMessage => v1::Outcome::UnknownMessage,
        Outcome::NumberTooOld => v1::Outcome::NumberTooOld,
        Outcome::LimitReached => v1::Outcome::LimitReached,
        Outcome::QueueFull => v1::Outcome::QueueFull,
        Outcome::Blocked => v1::Outcome::Blocked,
        Outcome::UnknownDestination => v1::Outcome::UnknownDestination,
        Outcome::RolledBack => v1::Outcome::RolledBack,
        Outcome::InDoubt => v1::Outcome::InDoubt,
        Outcome::Moved => v1::Outcome::Moved,
    }
}
