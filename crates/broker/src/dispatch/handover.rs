//! What a serving leader knows beyond the log, as bytes for the replica that is to lead next: who holds what, whose the
//! groups are, what is being given back, and the non-persistent messages with the windows of their producers.
//!
//! The image is exact for the log that it was made at: the leader is frozen before, so that nothing changes behind it.
//! Its taker knows everybody's hands and waits for no report. Consumers in it are without a session until they attach,
//! as if theirs had been lost at this moment; one that does not come in time is lost.
//!
//! ```text
//! version u8, batches varint, old lanes varint
//! lanes      count, each: kind u8, name, old number; non-persistent messages: count, each:
//!            position u64, priority u8, grouped u8, expiry varint, returns varint, sent u8, bytes
//! gateways   count, each: id, leaving: count, each: lane varint, position u64
//! consumers  in the order in which they came: count, each: id, gateway, generation varint, lane varint, terms,
//!            held: count, each: position u64, group
//! windows of the producers of non-persistent messages
//! ```

use bytes::Bytes;
use quorate_message::{
    ConsumerId, Destination, DestinationKind, DestinationName, GatewayId, GroupId, MessagePosition,
};

use super::consumer::ConsumerRef;
use super::transient::TransientMessage;
use super::{Consumer, Dispatcher, Held, Holder, LaneId};
use crate::state::{Cursor, Dedup, QueueId, Sink, State};
use crate::{Selector, Terms};

/// Version of the image. One of another version is not taken.
const VERSION: u8 = 1;

/// What an image says.
#[derive(Debug)]
struct Image {
    batches: u64,
    lanes: Vec<LaneImage>,
    gateways: Vec<(GatewayId, Vec<(usize, MessagePosition)>)>,
    consumers: Vec<ConsumerImage>,
    /// By the old numbers of lanes.
    windows: Dedup,
}

#[derive(Debug)]
struct LaneImage {
    destination: Destination,
    number: u32,
    messages: Vec<MessageImage>,
}

#[derive(Debug)]
struct MessageImage {
    position: MessagePosition,
    message: TransientMessage,
    count: u32,
    was_sent: bool,
}

#[derive(Debug)]
struct ConsumerImage {
    id: ConsumerId,
    gateway: Option<GatewayId>,
    generation: u64,
    lane: usize,
    terms: Terms,
    held: Vec<(MessagePosition, Option<GroupId>)>,
}

impl Dispatcher {
    /// Does nothing more of its own accord, so that what it knows stays as it is; or goes on.
    pub(crate) fn freeze(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
        if !is_frozen {
            self.touch_all();
        }
    }

    /// Whether it is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// Whether it knows everybody's hands, and nothing is on its way through the log that only it knows of.
    pub(crate) fn can_hand_over(&self) -> bool {
        !self.gateways.is_waiting() && !self.returns.are_open()
    }

    /// The image; none while it does not know all.
    pub(crate) fn hand_over(&self) -> Option<Bytes> {
        if !self.can_hand_over() {
            return None;
        }
        let mut sink = Sink::keeping();
        sink.u8(VERSION);
        sink.varint(self.transient.batches());
        sink.varint(self.lanes.len() as u64);
        let lanes: Vec<(&Destination, LaneId)> =
            self.by_name.iter().map(|(name, id)| (name, *id)).collect();
        let mut places = vec![0; self.lanes.len()];
        sink.varint(lanes.len() as u64);
        for (place, (destination, id)) in lanes.iter().enumerate() {
            places[id.0] = place;
            sink.u8(kind_code(destination.kind));
            put_text(&mut sink, destination.name.as_str());
            sink.varint(id.0 as u64);
            self.put_messages(&mut sink, *id);
        }
        self.put_gateways(&mut sink, &places);
        self.put_consumers(&mut sink, &places);
        self.transient.windows().encode(&mut sink);
        Some(Bytes::from(sink.into_bytes()))
    }

    /// Takes an image in, into a dispatcher that has just been made; false: it is not taken, and nothing may be used.
    pub(crate) fn resume(&mut self, now: u64, image: &[u8], state: &State) -> bool {
        let Some(image) = Image::decode(image) else {
            return false;
        };
        let mut ids = Vec::with_capacity(image.lanes.len());
        let mut renamed = std::collections::BTreeMap::new();
        for lane in image.lanes {
            let Some(id) = self.lane_of(&lane.destination, state) else {
                return false;
            };
            ids.push(id);
            renamed.insert(QueueId(lane.number), Self::window_key(id));
            for one in lane.messages {
                self.resume_transient(id, one.position, one.message, (one.count, one.was_sent));
            }
        }
        let windows = image.windows.renamed(|old| renamed.get(&old).copied());
        self.transient.resume(image.batches, windows);
        let lost_at = now.saturating_add(self.limits.reattach_grace);
        for (gateway, leaving) in image.gateways {
            self.gateways.resume(gateway, lost_at);
            for (place, position) in leaving {
                let Some(id) = ids.get(place).copied() else {
                    return false;
                };
                self.resume_leaving(gateway, id, position, state);
            }
        }
        for consumer in image.consumers {
            let Some(id) = ids.get(consumer.lane).copied() else {
                return false;
            };
            self.resume_consumer(now, id, consumer, state);
        }
        self.gateways.know_all();
        true
    }

    fn put_messages(&self, sink: &mut Sink, id: LaneId) {
        let lane = &self.lanes[id.0];
        sink.varint(lane.transient.messages.len() as u64);
        for (position, message) in &lane.transient.messages {
            sink.u64(position.value());
            sink.u8(message.priority);
            sink.u8(u8::from(message.is_grouped));
            sink.varint(message.expires_at_ms);
            sink.varint(u64::from(lane.transient.count(*position)));
            sink.u8(u8::from(lane.sent.contains(position.value())));
            sink.varint(message.bytes.len() as u64);
            sink.bytes(&message.bytes);
        }
    }

    fn put_gateways(&self, sink: &mut Sink, places: &[usize]) {
        let known: Vec<GatewayId> = self.gateways.ids().collect();
        sink.varint(known.len() as u64);
        for gateway in known {
            sink.bytes(&gateway.0);
            let leaving = self.gateways.leaving();
            let leaving: Vec<_> = leaving.filter(|(of, _, _)| *of == gateway).collect();
            sink.varint(leaving.len() as u64);
            for (_, id, position) in leaving {
                sink.varint(places[id.0] as u64);
                sink.u64(position.value());
            }
        }
    }

    fn put_consumers(&self, sink: &mut Sink, places: &[usize]) {
        let mut consumers: Vec<(ConsumerRef, &Consumer)> = self.consumers.iter().collect();
        consumers.sort_by_key(|(_, consumer)| consumer.arrival);
        let mut held = vec![Vec::new(); places.len()];
        for (id, lane) in self.lanes.iter().enumerate() {
            let of_consumers = lane.in_flight.iter().filter_map(|(position, held)| {
                let Holder::Consumer(consumer) = held.holder else {
                    return None;
                };
                Some((consumer, *position))
            });
            held[id].extend(of_consumers);
            held[id].sort_unstable();
        }
        sink.varint(consumers.len() as u64);
        for (reference, consumer) in consumers {
            sink.bytes(&consumer.id.0);
            sink.u8(u8::from(consumer.gateway.is_some()));
            sink.bytes(&consumer.gateway.unwrap_or_default().0);
            sink.varint(consumer.generation);
            sink.varint(places[consumer.lane.0] as u64);
            self.put_terms(sink, reference, consumer);
            let held = &held[consumer.lane.0];
            let first = held.partition_point(|(holder, _)| *holder < reference);
            let held = held[first..].iter();
            let held: Vec<_> = held.take_while(|(it, _)| *it == reference).collect();
            let routing = self.lanes[consumer.lane.0].routing.as_ref();
            sink.varint(held.len() as u64);
            for (_, position) in held {
                sink.u64(position.value());
                let group = routing.and_then(|routing| routing.group_of(*position));
                put_group(sink, group);
            }
        }
    }

    fn put_terms(&self, sink: &mut Sink, reference: ConsumerRef, consumer: &Consumer) {
        let lane = &self.lanes[consumer.lane.0];
        let terms = &consumer.terms;
        let selector = terms.selector.as_ref().map_or("", Selector::text);
        put_text(sink, selector);
        sink.u8(u8::from(terms.is_exclusive));
        sink.u8(terms.priority.cast_unsigned());
        sink.u8(u8::from(lane.active == Some(reference)));
        let routing = lane.routing.as_ref();
        let groups = routing.map_or_else(Vec::new, |routing| routing.owned_by(reference));
        sink.varint(groups.len() as u64);
        groups.iter().for_each(|group| sink.u64(group.0));
    }

    /// What this gateway's client gave back stays from everybody until its settlement is applied.
    fn resume_leaving(
        &mut self,
        gateway: GatewayId,
        id: LaneId,
        position: MessagePosition,
        state: &State,
    ) {
        let Some(turn) = self.take_out_at(id, position, state) else {
            return;
        };
        let held = Held {
            holder: Holder::Leaving(gateway),
            priority: turn.priority(),
        };
        self.lanes[id.0].in_flight.insert(position, held);
        self.gateways.resume_leaving(gateway, id, position);
    }

    /// A consumer is there with what it holds, and may come within the grace.
    fn resume_consumer(&mut self, now: u64, id: LaneId, image: ConsumerImage, state: &State) {
        let is_admitted = |gateway| self.gateways.is_admitted(gateway, state);
        let is_held_back = image.gateway.is_some_and(|gateway| !is_admitted(gateway));
        self.lanes[id.0].consumers += 1;
        let mut consumer = Consumer::new(image.id, id);
        consumer.gateway = image.gateway;
        consumer.is_held_back = is_held_back;
        consumer.generation = image.generation;
        consumer.terms = image.terms;
        let reference = self.consumers.add(consumer);
        let positions: Vec<MessagePosition> = image.held.iter().map(|(at, _)| *at).collect();
        // What it holds in vain it hears of when it attaches.
        self.take_held(reference, id, &positions, state);
        self.enter(id, reference, state);
        for (position, group) in image.held {
            let is_here = self.lanes[id.0].in_flight.contains_key(&position);
            let routing = self.lanes[id.0].routing.as_mut();
            if let (Some(group), Some(routing)) = (group.filter(|_| is_here), routing) {
                routing.resume_group(group, reference, position);
            }
        }
        let until = now.saturating_add(self.limits.reattach_grace);
        self.returns.wait_for(reference, until);
    }
}

impl Image {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        if cursor.u8()? != VERSION {
            return None;
        }
        let batches = cursor.varint()?;
        let numbers = u32::try_from(cursor.varint()?).ok()?;
        let lanes = list(&mut cursor, LaneImage::decode)?;
        let gateways = list(&mut cursor, |cursor| {
            let gateway = GatewayId(cursor.array()?);
            let leaving = list(cursor, |cursor| Some((place(cursor)?, position(cursor)?)))?;
            Some((gateway, leaving))
        })?;
        let consumers = list(&mut cursor, ConsumerImage::decode)?;
        let windows = Dedup::decode(&mut cursor, numbers, batches)?;
        cursor.is_empty().then_some(Self {
            batches,
            lanes,
            gateways,
            consumers,
            windows,
        })
    }
}

impl LaneImage {
    fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let kind = match cursor.u8()? {
            0 => DestinationKind::Queue,
            1 => DestinationKind::Topic,
            2 => DestinationKind::Subscription,
            _ => return None,
        };
        let name = DestinationName::new(text(cursor)?).ok()?;
        let number = u32::try_from(cursor.varint()?).ok()?;
        let messages = list(cursor, |cursor| {
            let position = position(cursor).filter(|position| position.is_transient())?;
            let priority = cursor.u8()?;
            let is_grouped = cursor.flag()?;
            let expires_at_ms = cursor.varint()?;
            let count = u32::try_from(cursor.varint()?).ok()?;
            let was_sent = cursor.flag()?;
            let length = usize::try_from(cursor.varint()?).ok()?;
            let message = TransientMessage {
                priority: (priority <= quorate_message::limits::PRIORITY_MAX)
                    .then_some(priority)?,
                is_grouped,
                expires_at_ms,
                bytes: Bytes::copy_from_slice(cursor.take(length)?),
            };
            Some(MessageImage {
                position,
                message,
                count,
                was_sent,
            })
        })?;
        Some(Self {
            destination: Destination { kind, name },
            number,
            messages,
        })
    }
}

impl ConsumerImage {
    fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let id = ConsumerId(cursor.array()?);
        let has_gateway = cursor.flag()?;
        let gateway = GatewayId(cursor.array()?);
        let generation = cursor.varint()?;
        let lane = place(cursor)?;
        let selector = Selector::parse_optional(text(cursor)?).ok()?;
        let is_exclusive = cursor.flag()?;
        let priority = cursor.u8()?.cast_signed();
        let was_active = cursor.flag()?;
        let owned_groups = list(cursor, |cursor| cursor.u64().map(GroupId))?;
        let held = list(cursor, |cursor| Some((position(cursor)?, group(cursor)?)))?;
        Some(Self {
            id,
            gateway: has_gateway.then_some(gateway),
            generation,
            lane,
            terms: Terms {
                selector,
                is_exclusive,
                priority,
                owned_groups,
                was_active,
            },
            held,
        })
    }
}

fn kind_code(kind: DestinationKind) -> u8 {
    match kind {
        DestinationKind::Queue => 0,
        DestinationKind::Topic => 1,
        DestinationKind::Subscription => 2,
    }
}

fn put_text(sink: &mut Sink, text: &str) {
    sink.varint(text.len() as u64);
    sink.bytes(text.as_bytes());
}

fn put_group(sink: &mut Sink, group: Option<GroupId>) {
    sink.u8(u8::from(group.is_some()));
    if let Some(group) = group {
        sink.u64(group.0);
    }
}

/// As many as are said to be there; memory is taken as they come.
fn list<T>(
    cursor: &mut Cursor<'_>,
    mut read: impl FnMut(&mut Cursor<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = cursor.varint()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(cursor)?);
    }
    Some(all)
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let length = usize::try_from(cursor.varint()?).ok()?;
    std::str::from_utf8(cursor.take(length)?).ok()
}

fn place(cursor: &mut Cursor<'_>) -> Option<usize> {
    usize::try_from(cursor.varint()?).ok()
}

fn position(cursor: &mut Cursor<'_>) -> Option<MessagePosition> {
    cursor.u64().map(MessagePosition::from_value)
}

fn group(cursor: &mut Cursor<'_>) -> Option<Option<GroupId>> {
    Some(match cursor.flag()? {
        true => Some(GroupId(cursor.u64()?)),
        false => None,
    })
}
