//! What gateways ask and are told.

use bytes::Bytes;
use quorate_broker::limits::GROUPS_MAX;
use quorate_broker::{
    Credit, Delivery, Leaving, Outcomes, QueueStatus, Selector, Terms, TopicStatus,
};
use quorate_message::{
    ConsumerId, Destination, DestinationName, GroupId, Lifetime, MessagePosition, Outcome, Sharing,
    Subscription,
};
use quorate_proto::{
    internal::v1::{self as proto, control_command, control_event::Kind},
    v1,
};
use quorate_replication::{Epoch, ShardId};

use super::{Malformed, apart};
use crate::{
    limits::HELD_POSITIONS_MAX,
    shard::{
        effect::{BrowsePage, SessionEvent},
        input::SessionRequest,
    },
};

/// An event with what it costs in a queue, for the stream that it goes on.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// On the control stream.
    Control(proto::ControlEvent, usize),
    /// On the payload stream.
    Payload(Deliveries),
}

/// What a consumer is sent.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// The consumer.
    pub(crate) consumer: ConsumerId,
    /// Its attachment.
    pub(crate) generation: u64,
    /// The leader's epoch.
    pub(crate) epoch: Epoch,
    /// The messages, in their order.
    pub(crate) deliveries: Vec<Delivery>,
}

/// A command of a control frame.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// For the consumers of a shard.
    Request(SessionRequest),
    /// A batch.
    Submit(Submitted),
}

/// A batch, on either stream.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// The gateway's name for it.
    pub(crate) number: u64,
    /// The one that must have been taken right before it.
    pub(crate) previous: Option<u64>,
    /// The batch.
    pub(crate) batch: Bytes,
    /// The trace that it belongs to; empty: to none.
    pub(crate) traceparent: String,
}

/// A batch of the payload stream, from the wire.
pub(crate) fn decode_batch(batch: proto::ShardBatch) -> (ShardId, Submitted) {
    let submitted = Submitted {
        number: batch.number,
        previous: decode_previous(batch.previous),
        batch: apart(&batch.batch),
        traceparent: batch.traceparent,
    };
    (ShardId(batch.shard), submitted)
}

fn decode_previous(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// An event, to the wire.
#[expect(clippy::too_many_lines, reason = "one arm per event, nothing else")]
pub(crate) fn encode_event(shard: ShardId, event: SessionEvent) -> Encoded {
    const FIXED: usize = 64;
    let mut cost = FIXED;
    let kind = match event {
        SessionEvent::Outcomes {
            number,
            outcomes,
            removed,
        } => {
            let outcomes = encode_outcomes(number, &outcomes, removed);
            cost += outcomes.each.len() * size_of::<i32>();
            Kind::Outcomes(outcomes)
        }
        SessionEvent::NotLeading { number, epoch } => not_leading(number, epoch),
        SessionEvent::Overloaded { number, reason } => Kind::Overloaded(proto::Overloaded {
            number,
            reason: reason.to_owned(),
        }),
        SessionEvent::Malformed { number, reason } => {
            cost += reason.len();
            Kind::Malformed(proto::Malformed { number, reason })
        }
        SessionEvent::Attached {
            consumer,
            generation,
            lost,
        } => {
            cost += lost.len() * size_of::<u64>();
            Kind::Attached(proto::Attached {
                consumer: encode_consumer(consumer),
                generation,
                lost: lost.into_iter().map(MessagePosition::value).collect(),
            })
        }
        SessionEvent::Moved(consumer, generation) => Kind::Moved(proto::Moved {
            consumer: encode_consumer(consumer),
            generation,
        }),
        SessionEvent::Waiting {
            consumer,
            generation,
        } => Kind::Waiting(proto::Waiting {
            consumer: encode_consumer(consumer),
            generation,
        }),
        SessionEvent::Recalled {
            consumer,
            generation,
            credit,
        } => Kind::Recalled(proto::Recalled {
            consumer: encode_consumer(consumer),
            generation,
            messages: credit.messages,
            bytes: credit.bytes,
        }),
        SessionEvent::AttachRefused {
            consumer,
            generation,
            reason,
            is_no_subscription,
        } => {
            cost += reason.len();
            Kind::AttachRefused(proto::AttachRefused {
                consumer: encode_consumer(consumer),
                generation,
                reason,
                no_subscription: is_no_subscription,
            })
        }
        SessionEvent::Deliver {
            consumer,
            generation,
            epoch,
            deliveries,
        } => {
            let deliveries = Deliveries {
                consumer,
                generation,
                epoch,
                deliveries,
            };
            return Encoded::Payload(deliveries);
        }
    };
    let event = proto::ControlEvent {
        shard: shard.0,
        kind: Some(kind),
    };
    Encoded::Control(event, cost)
}

/// Says that this node does not lead the shard.
pub(crate) fn encode_not_leading(shard: ShardId, number: u64, epoch: Epoch) -> proto::ControlEvent {
    proto::ControlEvent {
        shard: shard.0,
        kind: Some(not_leading(number, epoch)),
    }
}

/// Says that a batch was not taken.
pub(crate) fn encode_overloaded(shard: ShardId, number: u64, reason: &str) -> proto::ControlEvent {
    proto::ControlEvent {
        shard: shard.0,
        kind: Some(Kind::Overloaded(proto::Overloaded {
            number,
            reason: reason.to_owned(),
        })),
    }
}

/// A command, from the wire.
pub(crate) fn decode_command(
    command: proto::ControlCommand,
) -> Result<(ShardId, Decoded), Malformed> {
    let shard = ShardId(command.shard);
    let decoded = match command.kind.ok_or(Malformed("kind"))? {
        control_command::Kind::Attach(attach) => Decoded::Request(decode_attach(attach)?),
        control_command::Kind::Detach(detach) => Decoded::Request(SessionRequest::Detach {
            consumer: decode_consumer(&detach.consumer)?,
            generation: detach.generation,
        }),
        control_command::Kind::Credit(grant) => Decoded::Request(SessionRequest::Credit {
            consumer: decode_consumer(&grant.consumer)?,
            credit: Credit {
                messages: grant.messages,
                bytes: grant.bytes,
            },
        }),
        control_command::Kind::Recall(recall) => Decoded::Request(SessionRequest::Recall {
            consumer: decode_consumer(&recall.consumer)?,
            generation: recall.generation,
        }),
        control_command::Kind::Report(report) => Decoded::Request(decode_report(report)?),
        control_command::Kind::Leave(proto::Leave {}) => Decoded::Request(SessionRequest::Leave),
        control_command::Kind::Submit(submit) => Decoded::Submit(Submitted {
            number: submit.number,
            previous: decode_previous(submit.previous),
            batch: apart(&submit.batch),
            traceparent: String::new(),
        }),
    };
    Ok((shard, decoded))
}

/// A queue's counts, to the wire.
pub(crate) fn encode_queue(shard: ShardId, queue: &QueueStatus) -> proto::QueueStatus {
    proto::QueueStatus {
        name: queue.name.as_str().to_owned(),
        shard: shard.0,
        messages: queue.messages,
        in_flight: queue.in_flight,
        consumers: queue.consumers,
        enqueued_total: queue.enqueued_total,
        settled_total: queue.settled_total,
        non_persistent: queue.non_persistent,
        bytes: queue.bytes,
        paused: queue.is_paused,
        scheduled: queue.scheduled,
        expired_total: queue.expired_total,
    }
}

/// A topic's counts, to the wire.
pub(crate) fn encode_topic(shard: ShardId, topic: &TopicStatus) -> proto::TopicStatus {
    proto::TopicStatus {
        name: topic.name.as_str().to_owned(),
        shard: shard.0,
        published_total: topic.published_total,
        kept: topic.kept,
        subscriptions: topic.subscriptions,
    }
}

/// A subscription with the counts of what is pending in it, to the wire.
pub(crate) fn encode_subscription(
    shard: ShardId,
    status: &QueueStatus,
    subscription: &Subscription,
) -> proto::SubscriptionStatus {
    proto::SubscriptionStatus {
        status: Some(encode_queue(shard, status)),
        pattern: subscription.pattern.as_str().to_owned(),
        selector: subscription.selector.clone(),
        client_id: subscription.client.clone(),
        subscription: subscription.name.clone(),
        durable: subscription.lifetime == Lifetime::Durable,
        shared: subscription.sharing == Sharing::Shared,
    }
}

/// A page, to the wire; none when this node does not lead or is too busy.
pub(crate) fn encode_page(page: BrowsePage) -> Result<proto::BrowsePageResponse, tonic::Status> {
    match page {
        BrowsePage::Messages { messages, end } => Ok(proto::BrowsePageResponse {
            messages: messages
                .into_iter()
                .map(|browsed| proto::StoredDelivery {
                    consumer: Bytes::new(),
                    generation: 0,
                    position: browsed.position.value(),
                    delivery_count: browsed.delivery_count,
                    redelivered: false,
                    message: browsed.message,
                    ..proto::StoredDelivery::default()
                })
                .collect(),
            end,
        }),
        BrowsePage::NotLeading { epoch } => Err(tonic::Status::failed_precondition(format!(
            "this node does not lead the shard; it knows {epoch}"
        ))),
        BrowsePage::Overloaded => Err(tonic::Status::resource_exhausted(
            "too many pages are read from this shard; try again",
        )),
    }
}

/// A queue's name, from the wire.
pub(crate) fn decode_queue(name: &str) -> Result<DestinationName, Malformed> {
    DestinationName::new(name).map_err(|_| Malformed("queue"))
}

/// What a consumer reads, from the wire.
fn decode_source(kind: u32, name: &str) -> Result<Destination, Malformed> {
    let name = decode_queue(name)?;
    match kind {
        0 => Ok(Destination::queue(name)),
        3 => Ok(Destination::subscription(name)),
        _ => Err(Malformed("attach.kind")),
    }
}

fn decode_attach(attach: proto::Attach) -> Result<SessionRequest, Malformed> {
    if attach.held.len() > HELD_POSITIONS_MAX {
        return Err(Malformed("attach.held"));
    }
    let terms = decode_terms(&attach)?;
    Ok(SessionRequest::Attach {
        consumer: decode_consumer(&attach.consumer)?,
        generation: attach.generation,
        queue: decode_source(attach.kind, &attach.queue)?,
        credit: Credit {
            messages: attach.credit_messages,
            bytes: attach.credit_bytes,
        },
        held: attach
            .held
            .into_iter()
            .map(MessagePosition::from_value)
            .collect(),
        shares_credit: attach.shares_credit,
        terms,
    })
}

/// On what terms a consumer takes messages, from the wire. The gateway has read the selector before.
fn decode_terms(attach: &proto::Attach) -> Result<Terms, Malformed> {
    if attach.owned_groups.len() > GROUPS_MAX {
        return Err(Malformed("attach.owned_groups"));
    }
    let selector = Selector::parse_optional(&attach.selector);
    let groups = attach.owned_groups.iter();
    Ok(Terms {
        selector: selector.map_err(|_| Malformed("attach.selector"))?,
        is_exclusive: attach.exclusive,
        priority: i8::try_from(attach.priority).map_err(|_| Malformed("attach.priority"))?,
        owned_groups: groups.map(|group| GroupId(*group)).collect(),
        was_active: attach.was_active,
    })
}

fn decode_report(report: proto::Report) -> Result<SessionRequest, Malformed> {
    if report.complete {
        return Ok(SessionRequest::Reported);
    }
    let positions = report.leaving.iter().map(|one| one.positions.len());
    if positions.sum::<usize>() > HELD_POSITIONS_MAX {
        return Err(Malformed("report.leaving"));
    }
    let leaving = report.leaving.into_iter().map(|one| {
        Ok(Leaving {
            consumer: decode_consumer(&one.consumer)?,
            queue: decode_source(one.kind, &one.queue)?,
            number: one.number,
            positions: one
                .positions
                .into_iter()
                .map(MessagePosition::from_value)
                .collect(),
        })
    });
    Ok(SessionRequest::Report {
        is_first: report.first,
        leaving: leaving.collect::<Result<_, _>>()?,
    })
}

fn decode_consumer(bytes: &Bytes) -> Result<ConsumerId, Malformed> {
    ConsumerId::try_from(&bytes[..]).map_err(|_| Malformed("consumer"))
}

fn encode_consumer(consumer: ConsumerId) -> Bytes {
    Bytes::copy_from_slice(&consumer.0)
}

fn not_leading(number: u64, epoch: Epoch) -> Kind {
    Kind::NotLeading(proto::NotLeading {
        number,
        epoch: epoch.0,
    })
}

fn encode_outcomes(number: u64, outcomes: &Outcomes, removed: u64) -> proto::Outcomes {
    let (all, each) = match outcomes {
        Outcomes::All { outcome, .. } => (encode_outcome(*outcome), Vec::new()),
        Outcomes::Each(each) => (
            v1::Outcome::Unspecified,
            each.iter()
                .map(|outcome| encode_outcome(*outcome).into())
                .collect(),
        ),
    };
    proto::Outcomes {
        number,
        all: all.into(),
        each,
        removed,
    }
}

/// What became of a command.
pub(crate) fn encode_outcome(outcome: Outcome) -> v1::Outcome {
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
