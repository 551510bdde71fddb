//! What goes to storage nodes and coordinators and comes from them. What cannot be read is refused whole: the stream it
//! came on ends, since nothing after it can be trusted.

use std::sync::Arc;

use bytes::Bytes;
use quorate_message::{
    ConsumerId, Destination, DestinationKind, GroupId, GroupMark, MessagePosition, Outcome,
    Overrides, Settings, Terms,
};
use quorate_proto::{internal::v1 as wire, v1};

use crate::session::{
    BatchNumber, Command, Credit, Epoch, Generation, Leaving, NodeEvent, NodeId, Outcomes, ShardId,
    StoredDelivery, Topology, TopologyNode, TopologyShard,
};

/// A node said what no version of it says.
#[derive(Debug, thiserror::Error)]
#[error("storage node sent {0}; are gateway and node of compatible versions?")]
pub(crate) struct Unreadable(&'static str);

fn selector_text(terms: &Terms) -> String {
    let selector = terms.selector.as_ref();
    selector.map_or_else(String::new, |selector| selector.text().to_owned())
}

/// A command as the control stream carries it.
pub(crate) fn command(shard: ShardId, command: Command) -> wire::ControlCommand {
    use wire::control_command::Kind;
    let kind = match command {
        Command::Attach {
            consumer,
            generation,
            queue,
            shares_credit,
            credit,
            held,
            terms,
        } => Kind::Attach(wire::Attach {
            consumer: id_bytes(consumer),
            kind: kind_of(&queue),
            queue: queue.name.as_str().to_owned(),
            credit_messages: bounded(credit.messages),
            credit_bytes: credit.bytes,
            held: held.into_iter().map(MessagePosition::value).collect(),
            generation: generation.0,
            shares_credit,
            selector: selector_text(&terms),
            exclusive: terms.is_exclusive,
            priority: i32::from(terms.priority),
            owned_groups: terms.owned_groups.iter().map(|group| group.0).collect(),
            was_active: terms.was_active,
        }),
        Command::Detach {
            consumer,
            generation,
        } => Kind::Detach(wire::Detach {
            consumer: id_bytes(consumer),
            generation: generation.0,
        }),
        Command::Recall {
            consumer,
            generation,
        } => Kind::Recall(wire::Recall {
            consumer: id_bytes(consumer),
            generation: generation.0,
        }),
        Command::Credit { consumer, credit } => Kind::Credit(wire::CreditGrant {
            consumer: id_bytes(consumer),
            messages: bounded(credit.messages),
            bytes: credit.bytes,
        }),
        Command::Report { is_first, leaving } => Kind::Report(wire::Report {
            first: is_first,
            leaving: leaving.into_iter().map(self::leaving).collect(),
            complete: false,
        }),
        Command::Reported => Kind::Report(wire::Report {
            complete: true,
            ..wire::Report::default()
        }),
        Command::Leave => Kind::Leave(wire::Leave {}),
        Command::Submit {
            number,
            previous,
            batch,
        } => Kind::Submit(wire::Submit {
            number: number.0,
            batch,
            previous: before(previous),
        }),
    };
    wire::ControlCommand {
        shard: shard.0,
        kind: Some(kind),
    }
}

/// The names of a topology that live elsewhere than its slots say; none if they cannot be read.
pub(crate) fn overrides(told: &wire::Topology) -> Option<Overrides> {
    match told.overrides.is_empty() {
        true => Some(Overrides::new()),
        false => Overrides::decode(&told.overrides),
    }
}

/// What the name of a source means.
fn kind_of(source: &Destination) -> u32 {
    match source.kind {
        DestinationKind::Queue => 0,
        DestinationKind::Topic => 2,
        DestinationKind::Subscription => 3,
    }
}

fn leaving(leaving: Leaving) -> wire::Leaving {
    wire::Leaving {
        consumer: id_bytes(leaving.consumer),
        queue: leaving.queue.name.as_str().to_owned(),
        kind: kind_of(&leaving.queue),
        number: leaving.number,
        positions: leaving
            .positions
            .into_iter()
            .map(MessagePosition::value)
            .collect(),
    }
}

/// A batch of messages as the payload stream carries it.
pub(crate) fn batch(
    shard: ShardId,
    number: BatchNumber,
    previous: Option<BatchNumber>,
    batch: Bytes,
    trace: Option<&str>,
) -> wire::ShardBatch {
    wire::ShardBatch {
        shard: shard.0,
        number: number.0,
        batch,
        previous: before(previous),
        traceparent: trace.unwrap_or_default().to_owned(),
    }
}

fn before(previous: Option<BatchNumber>) -> u64 {
    previous.map_or(0, |previous| previous.0)
}

fn id_bytes(consumer: ConsumerId) -> Bytes {
    Bytes::copy_from_slice(&consumer.0)
}

fn bounded(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

/// What a node said on the control stream.
pub(crate) fn event(event: wire::ControlEvent) -> Result<(ShardId, NodeEvent), Unreadable> {
    use wire::control_event::Kind;
    let shard = ShardId(event.shard);
    let event = match event.kind.ok_or(Unreadable("an event of no kind"))? {
        Kind::Outcomes(outcomes) => NodeEvent::Outcomes {
            number: BatchNumber(outcomes.number),
            removed: outcomes.removed,
            outcomes: self::outcomes(&outcomes)?,
        },
        Kind::Attached(attached) => NodeEvent::Attached {
            consumer: consumer(&attached.consumer)?,
            generation: Generation(attached.generation),
            lost: attached
                .lost
                .into_iter()
                .map(MessagePosition::from_value)
                .collect(),
        },
        Kind::NotLeading(refused) => NodeEvent::NotLeading {
            number: BatchNumber(refused.number),
            epoch: Epoch(refused.epoch),
        },
        Kind::Overloaded(refused) => NodeEvent::Overloaded {
            number: BatchNumber(refused.number),
            reason: refused.reason.into(),
        },
        Kind::Malformed(refused) => NodeEvent::Malformed {
            number: BatchNumber(refused.number),
            reason: refused.reason.into(),
        },
        Kind::AttachRefused(refused) => NodeEvent::AttachRefused {
            consumer: consumer(&refused.consumer)?,
            generation: Generation(refused.generation),
            reason: refused.reason.into(),
            is_no_subscription: refused.no_subscription,
        },
        Kind::Moved(moved) => {
            NodeEvent::Moved(consumer(&moved.consumer)?, Generation(moved.generation))
        }
        Kind::Waiting(waiting) => NodeEvent::Waiting {
            consumer: consumer(&waiting.consumer)?,
            generation: Generation(waiting.generation),
        },
        Kind::Recalled(recalled) => NodeEvent::Recalled {
            consumer: consumer(&recalled.consumer)?,
            generation: Generation(recalled.generation),
            credit: Credit {
                messages: u64::from(recalled.messages),
                bytes: recalled.bytes,
            },
        },
    };
    Ok((shard, event))
}

/// What a node said on the payload stream.
pub(crate) fn deliveries(said: wire::ShardDeliveries) -> Result<(ShardId, NodeEvent), Unreadable> {
    let mut deliveries: Vec<StoredDelivery> = Vec::with_capacity(said.deliveries.len());
    for one in said.deliveries {
        // A message for several consumers comes with the first of them.
        let carrier = match one.carrier {
            0 => None,
            place => Some(carried(&deliveries, place)?),
        };
        let mut read = delivery(one)?;
        if let Some(message) = carrier {
            read.message = message;
        }
        deliveries.push(read);
    }
    Ok((
        ShardId(said.shard),
        NodeEvent::Deliveries {
            epoch: Epoch(said.epoch),
            deliveries,
        },
    ))
}

/// The message of an earlier delivery, counted from 1.
fn carried(before: &[StoredDelivery], place: u32) -> Result<Bytes, Unreadable> {
    let carrier = usize::try_from(place)
        .ok()
        .and_then(|place| before.get(place - 1));
    let carrier = carrier.ok_or(Unreadable("a delivery whose message is in a later one"))?;
    Ok(carrier.message.clone())
}

/// A delivery of a node.
pub(crate) fn delivery(said: wire::StoredDelivery) -> Result<StoredDelivery, Unreadable> {
    Ok(StoredDelivery {
        consumer: consumer(&said.consumer)?,
        generation: Generation(said.generation),
        position: MessagePosition::from_value(said.position),
        delivery_count: said.delivery_count,
        group: (said.group != 0).then_some(GroupMark {
            id: GroupId(said.group),
            is_first: said.first_in_group,
            is_last: said.last_in_group,
        }),
        redelivered: said.redelivered,
        message: said.message,
    })
}

fn consumer(id: &[u8]) -> Result<ConsumerId, Unreadable> {
    // A page of browsed messages is for no consumer.
    if id.is_empty() {
        return Ok(ConsumerId::default());
    }
    ConsumerId::try_from(id).map_err(|_| Unreadable("a consumer id that has not 16 bytes"))
}

fn outcomes(said: &wire::Outcomes) -> Result<Outcomes, Unreadable> {
    if said.each.is_empty() {
        return outcome(said.all).map(Outcomes::All);
    }
    let each = said.each.iter().map(|each| outcome(*each));
    each.collect::<Result<_, _>>().map(Outcomes::Each)
}

fn outcome(said: i32) -> Result<Outcome, Unreadable> {
    match v1::Outcome::try_from(said) {
        Ok(v1::Outcome::Stored) => Ok(Outcome::Stored),
        Ok(v1::Outcome::Duplicate) => Ok(Outcome::Duplicate),
        Ok(v1::Outcome::Applied) => Ok(Outcome::Applied),
        Ok(v1::Outcome::UnknownMessage) => Ok(Outcome::UnknownMessage),
        Ok(v1::Outcome::NumberTooOld) => Ok(Outcome::NumberTooOld),
        Ok(v1::Outcome::LimitReached) => Ok(Outcome::LimitReached),
        Ok(v1::Outcome::QueueFull) => Ok(Outcome::QueueFull),
        Ok(v1::Outcome::Blocked) => Ok(Outcome::Blocked),
        Ok(v1::Outcome::UnknownDestination) => Ok(Outcome::UnknownDestination),
        Ok(v1::Outcome::RolledBack) => Ok(Outcome::RolledBack),
        Ok(v1::Outcome::InDoubt) => Ok(Outcome::InDoubt),
        Ok(v1::Outcome::Moved) => Ok(Outcome::Moved),
        Ok(v1::Outcome::Unspecified | v1::Outcome::Invalid) | Err(_) => {
            Err(Unreadable("an outcome that is unknown"))
        }
    }
}

/// The topology as the session machine knows it.
pub(crate) fn topology(told: &wire::Topology) -> Topology {
    Topology {
        version: told.version,
        nodes: told
            .nodes
            .iter()
            .map(|node| TopologyNode {
                id: NodeId(node.id),
                name: node.name.as_str().into(),
                address: node.address.as_str().into(),
            })
            .collect(),
        shards: told
            .shards
            .iter()
            .map(|shard| TopologyShard {
                id: ShardId(shard.id),
                epoch: Epoch(shard.epoch),
                leader: (shard.leader != 0).then_some(NodeId(shard.leader)),
                leaderless_reason: shard.leaderless_reason.as_str().into(),
            })
            .collect(),
        slots: told.slots.iter().map(|shard| ShardId(*shard)).collect(),
        settings: match told.settings.is_empty() {
            true => Some(Arc::default()),
            false => Settings::decode(&told.settings).map(Arc::new),
        },
        overrides: overrides(told).unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(consumer: u8, carrier: u32, message: &'static [u8]) -> wire::StoredDelivery {
        wire::StoredDelivery {
            consumer: Bytes::from(vec![consumer; 16]),
            carrier,
            message: Bytes::from_static(message),
            ..wire::StoredDelivery::default()
        }
    }

    fn read(all: Vec<wire::StoredDelivery>) -> Result<Vec<(u8, Bytes)>, Unreadable> {
        let said = wire::ShardDeliveries {
            shard: 1,
            epoch: 1,
            deliveries: all,
        };
        let (_, event) = deliveries(said)?;
        let NodeEvent::Deliveries { deliveries, .. } = event else {
            panic!("{event:?}");
        };
        let read = deliveries.into_iter();
        Ok(read.map(|one| (one.consumer.0[0], one.message)).collect())
    }

    #[test]
    fn a_message_is_read_where_its_carrier_has_it() {
        let all = vec![
            said(1, 0, b"a"),
            said(2, 0, b"b"),
            said(3, 1, b""),
            said(4, 2, b""),
        ];
        let read = read(all).expect("well formed");
        let bodies: Vec<&[u8]> = read.iter().map(|(_, message)| &message[..]).collect();
        assert_eq!(bodies, [&b"a"[..], b"b", b"a", b"b"]);
        // One copy in memory, however many have it.
        assert_eq!(read[0].1.as_ptr(), read[2].1.as_ptr());
    }

    #[test]
    fn a_carrier_that_does_not_come_before_is_refused() {
        assert!(read(vec![said(1, 1, b"")]).is_err());
        assert!(read(vec![said(1, 0, b"a"), said(2, 3, b"")]).is_err());
        assert!(read(vec![said(1, u32::MAX, b"")]).is_err());
    }
}
