//! What waits for a client: confirms of a publish call, and everything that a consumer is told.

use std::collections::VecDeque;

use quorate_proto::v1;
use tonic::Status;

use crate::{
    convert,
    limits::OFFER_BYTES,
    mailbox::Gather,
    session::{Effect, Outcome, ShardId, StoredDelivery},
};

/// Confirms, neighbours together.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    confirms: Vec<v1::Confirm>,
}

impl Confirms {
    pub(crate) fn push(&mut self, first: u64, count: u32, outcome: Outcome) {
        convert::push_confirm(&mut self.confirms, first, count, outcome);
    }
}

impl Gather for Confirms {
    type Frame = v1::PublishResponse;

    fn take(&mut self) -> Option<v1::PublishResponse> {
        let confirms = std::mem::take(&mut self.confirms);
        (!confirms.is_empty()).then_some(v1::PublishResponse { confirms })
    }

    fn len(&self) -> usize {
        self.confirms.len()
    }
}

/// What a consumer is told, in order.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    offers: VecDeque<Offer>,
    /// Those that are no deliveries.
    answers: usize,
}

#[derive(Debug)]
enum Offer {
    Opened(v1::Opened),
    Delivery(ShardId, StoredDelivery),
    Settled(v1::Settled),
}

/// A frame for a consumer, and the stored bytes that it takes off the machine's account.
#[derive(Debug)]
pub(crate) struct OfferFrame {
    pub(crate) response: Result<v1::ConsumeResponse, Status>,
    pub(crate) taken: u64,
}

impl Offers {
    /// Takes in an effect that is for a consumer.
    pub(crate) fn push(&mut self, effect: Effect) {
        match effect {
            Effect::Opened { consumer, lost, .. } => {
                self.answers += 1;
                self.offers.push_back(Offer::Opened(v1::Opened {
                    lost: lost.into_iter().map(convert::proto_position).collect(),
                    consumer_id: bytes::Bytes::copy_from_slice(&consumer.0),
                }));
            }
            Effect::Delivered {
                shard, deliveries, ..
            } => {
                let deliveries = deliveries.into_iter();
                self.offers
                    .extend(deliveries.map(|d| Offer::Delivery(shard, d)));
            }
            Effect::Settled {
                token, outcomes, ..
            } => {
                self.answers += 1;
                let outcomes = outcomes.into_iter().map(|o| convert::outcome(o) as i32);
                self.offers.push_back(Offer::Settled(v1::Settled {
                    token,
                    outcomes: outcomes.collect(),
                }));
            }
            Effect::Link { .. }
            | Effect::Unlink { .. }
            | Effect::Submit { .. }
            | Effect::Control { .. }
            | Effect::Confirmed { .. }
            | Effect::Purged { .. }
            | Effect::Committed { .. }
            | Effect::Unsubscribed { .. }
            | Effect::Ended { .. }
            | Effect::Failed { .. }
            | Effect::Pause { .. }
            | Effect::Resume { .. }
            | Effect::Left
            | Effect::Note(_) => unreachable!("not for a consumer"),
        }
    }

    /// The deliveries at the front, as many as fit a frame, `first` included.
    fn deliveries(&mut self, shard: ShardId, first: StoredDelivery) -> OfferFrame {
        let mut taken = first.message.len();
        let mut stored = vec![(shard, first)];
        while taken < OFFER_BYTES {
            match self
                .offers
                .pop_front_if(|offer| matches!(offer, Offer::Delivery(..)))
            {
                Some(Offer::Delivery(shard, delivery)) => {
                    taken += delivery.message.len();
                    stored.push((shard, delivery));
                }
                Some(Offer::Opened(_) | Offer::Settled(_)) | None => break,
            }
        }
        let deliveries = stored
            .iter()
            .map(|(shard, delivery)| convert::delivery(*shard, delivery))
            .collect::<Result<_, _>>();
        OfferFrame {
            response: deliveries.map(|deliveries| {
                response(v1::consume_response::Kind::Deliveries(v1::Deliveries {
                    deliveries,
                }))
            }),
            taken: taken as u64,
        }
    }
}

fn response(kind: v1::consume_response::Kind) -> v1::ConsumeResponse {
    v1::ConsumeResponse { kind: Some(kind) }
}

impl Gather for Offers {
    type Frame = OfferFrame;

    fn take(&mut self) -> Option<OfferFrame> {
        use v1::consume_response::Kind;
        let answer = match self.offers.pop_front()? {
            Offer::Opened(opened) => Kind::Opened(opened),
            Offer::Settled(settled) => Kind::Settled(settled),
            Offer::Delivery(shard, delivery) => return Some(self.deliveries(shard, delivery)),
        };
        self.answers -= 1;
        Some(OfferFrame {
            response: Ok(response(answer)),
            taken: 0,
        })
    }

    /// Deliveries do not count: they are bounded by credit, and a client that holds many must be able to settle.
    fn len(&self) -> usize {
        self.answers
    }
}
