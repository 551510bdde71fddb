//! Deliveries on their way to one gateway. What a shard sends to several of its consumers in one round, as it does with
//! the messages of a topic, goes over the wire once, with one small record for each of them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use bytes::Bytes;
use quorate_broker::Delivery;
use quorate_message::{ConsumerId, MessagePosition};
use quorate_proto::internal::v1 as proto;
use quorate_replication::{Epoch, ShardId};

use crate::{frames::Costed, limits::SESSION_FRAME_BYTES};

/// What a delivery costs besides its message: a little more than its encoding has.
const DELIVERY_COST_BYTES: usize = 64;

/// The deliveries of one shard to one gateway in a round.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    frames: Vec<Costed<proto::ShardDeliveries>>,
    /// Of the last frame.
    carried: CarriedBytes,
}

/// Which delivery of a frame, counted from 1, has which bytes.
#[derive(Debug, Default)]
struct CarriedBytes {
    /// Whose deliveries are added.
    consumer: Option<ConsumerId>,
    /// What the first consumer of the frame gets: each of its deliveries has its own bytes. Most frames have no other.
    first: Vec<Carried>,
    /// All, from the second consumer on.
    all: HashMap<Carried, u32, BuildHasherDefault<CarriedHasher>>,
}

impl CarriedBytes {
    fn clear(&mut self) {
        self.first.clear();
        self.all.clear();
    }

    /// Deliveries of this consumer follow.
    fn follow(&mut self, consumer: ConsumerId) {
        if self.consumer.replace(consumer) != Some(consumer) {
            self.all.extend(self.first.drain(..).zip(1..));
        }
    }

    /// Which delivery has the bytes of the one at this place: itself, if none before it.
    fn carrier(&mut self, carried: Carried, place: u32) -> u32 {
        if self.first.len() + 1 == place as usize && self.all.is_empty() {
            self.first.push(carried);
            return place;
        }
        *self.all.entry(carried).or_insert(place)
    }
}

/// Positions and addresses, which nobody outside chooses: their bits only have to be spread.
#[derive(Debug, Default)]
struct CarriedHasher(u64);

impl Hasher for CarriedHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(SPREAD);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its places from the low bits, and the high bits are the mixed ones.
        self.0.rotate_left(32)
    }
}

/// Bytes that are known to be the same. Copies of a non-persistent message have positions of their own, and share
/// their bytes in memory, which a delivery of the frame keeps there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Carried {
    Stored(MessagePosition),
    InMemory { address: usize, length: usize },
}

impl Carried {
    fn of(delivery: &Delivery) -> Self {
        if delivery.position.is_transient() {
            let bytes = &delivery.message;
            return Self::InMemory {
                address: bytes.as_ptr().addr(),
                length: bytes.len(),
            };
        }
        Self::Stored(delivery.position)
    }
}

impl Gathered {
    /// Adds what a consumer is sent, behind all before.
    pub(crate) fn add(
        &mut self,
        (shard, epoch): (ShardId, Epoch),
        (consumer, generation): (ConsumerId, u64),
        deliveries: Vec<Delivery>,
    ) {
        self.carried.follow(consumer);
        let consumer = Bytes::copy_from_slice(&consumer.0);
        for delivery in deliveries {
            let is_full = self.frames.last().is_none_or(|(frame, cost)| {
                *cost >= SESSION_FRAME_BYTES || frame.epoch != epoch.0 || frame.shard != shard.0
            });
            if is_full {
                let frame = proto::ShardDeliveries {
                    shard: shard.0,
                    epoch: epoch.0,
                    deliveries: Vec::new(),
                };
                self.frames.push((frame, DELIVERY_COST_BYTES));
                self.carried.clear();
            }
            let (frame, cost) = self.frames.last_mut().expect("one was pushed if need be");
            let mut wire = encode(consumer.clone(), generation, &delivery);
            let place = u32::try_from(frame.deliveries.len() + 1).expect("bounded by its cost");
            let carrier = self.carried.carrier(Carried::of(&delivery), place);
            *cost += DELIVERY_COST_BYTES;
            if carrier == place {
                *cost += delivery.message.len();
                wire.message = delivery.message;
            } else {
                wire.carrier = carrier;
            }
            frame.deliveries.push(wire);
        }
    }

    /// What is to be sent, in order.
    pub(crate) fn into_frames(self) -> Vec<Costed<proto::ShardDeliveries>> {
        self.frames
    }
}

/// A delivery without its message.
fn encode(consumer: Bytes, generation: u64, delivery: &Delivery) -> proto::StoredDelivery {
    proto::StoredDelivery {
        consumer,
        generation,
        position: delivery.position.value(),
        delivery_count: delivery.count,
        redelivered: delivery.redelivered,
        message: Bytes::new(),
        carrier: 0,
        group: delivery.group.map_or(0, |group| group.id.0),
        first_in_group: delivery.group.is_some_and(|group| group.is_first),
        last_in_group: delivery.group.is_some_and(|group| group.is_last),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    const SUBSCRIBERS: u8 = 100;
    const MESSAGE_BYTES: usize = 1024;

    fn delivery(position: MessagePosition, message: &Bytes) -> Delivery {
        Delivery {
            position,
            count: 0,
            redelivered: false,
            group: None,
            message: message.clone(),
        }
    }

    fn add(gathered: &mut Gathered, consumer: u8, deliveries: Vec<Delivery>) {
        let consumer = ConsumerId([consumer + 1; 16]);
        gathered.add((ShardId(3), Epoch(7)), (consumer, 1), deliveries);
    }

    /// What a gateway reads: for each delivery its consumer, its position and its bytes.
    fn read(frame: &proto::ShardDeliveries) -> Vec<(u8, u64, Bytes)> {
        let message = |delivery: &proto::StoredDelivery| match delivery.carrier {
            0 => delivery.message.clone(),
            place => frame.deliveries[place as usize - 1].message.clone(),
        };
        let all = frame.deliveries.iter();
        all.map(|delivery| (delivery.consumer[0], delivery.position, message(delivery)))
            .collect()
    }

    #[test]
    fn a_message_for_a_hundred_subscribers_goes_over_the_wire_once() {
        let message = Bytes::from(vec![9; MESSAGE_BYTES]);
        let mut gathered = Gathered::default();
        for subscriber in 0..SUBSCRIBERS {
            let at = MessagePosition::new(5, 0);
            add(&mut gathered, subscriber, vec![delivery(at, &message)]);
        }
        let frames = gathered.into_frames();
        assert_eq!(frames.len(), 1);
        let (frame, cost) = &frames[0];
        let bytes = frame.encoded_len();
        let records = usize::from(SUBSCRIBERS) * DELIVERY_COST_BYTES;
        assert!(bytes <= *cost, "{bytes} bytes cost {cost}");
        assert!(bytes <= MESSAGE_BYTES + records, "{bytes} bytes");
        assert_eq!(read(frame).len(), usize::from(SUBSCRIBERS));
        assert!(read(frame).iter().all(|(_, _, read)| *read == message));
    }

    #[test]
    fn every_consumer_keeps_its_own_order_and_its_own_position() {
        let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
        let at = |ordinal| MessagePosition::new(5, ordinal);
        let in_memory = |count| MessagePosition::transient(1, count);
        let mut gathered = Gathered::default();
        add(
            &mut gathered,
            0,
            vec![delivery(at(0), &first), delivery(at(1), &second)],
        );
        add(
            &mut gathered,
            1,
            vec![delivery(at(1), &second), delivery(at(0), &first)],
        );
        add(&mut gathered, 2, vec![delivery(in_memory(1), &second)]);
        add(&mut gathered, 3, vec![delivery(in_memory(2), &second)]);
        let frames = gathered.into_frames();
        let [(frame, _)] = &frames[..] else {
            panic!("{} frames", frames.len());
        };
        let read = read(frame);
        let expected = [
            (1, at(0), &first),
            (1, at(1), &second),
            (2, at(1), &second),
            (2, at(0), &first),
            (3, in_memory(1), &second),
            (4, in_memory(2), &second),
        ];
        let expected = expected.map(|(to, at, message)| (to, at.value(), message.clone()));
        assert_eq!(read, expected);
        let carried = frame.deliveries.iter().filter(|one| one.carrier == 0);
        assert_eq!(carried.count(), 3);
    }

    #[test]
    fn a_frame_that_is_full_is_followed_by_one_with_bytes_of_its_own() {
        let message = Bytes::from(vec![9; SESSION_FRAME_BYTES / 2]);
        let mut gathered = Gathered::default();
        for subscriber in 0..3 {
            let all = (0..3).map(|n| delivery(MessagePosition::new(n, 0), &message));
            add(&mut gathered, subscriber, all.collect());
        }
        let frames = gathered.into_frames();
        let deliveries: usize = frames.iter().map(|(frame, _)| read(frame).len()).sum();
        assert_eq!(deliveries, 9);
        for (frame, _) in &frames {
            assert!(read(frame).iter().all(|(_, _, read)| *read == message));
        }
    }
}
