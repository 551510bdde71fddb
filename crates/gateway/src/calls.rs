//! What waits for a client: confirms of a publish call, and everything that a consumer is told.

use std::collections::VecDeque;

use quorate_proto::v1;
use tonic::Status;

use crate::{
    convert::{
        self,
        outcome::{held_back, outcome_error, push_confirm},
    },
    limits::OFFER_BYTES,
    mailbox::Gather,
    session::{Cause, Effect, Outcome, ShardId, StoredDelivery},
};

/// Confirms, neighbours together.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    confirms: Vec<v1::Confirm>,
    held_back: Vec<v1::HeldBack>,
}

impl Confirms {
    /// Neighbours from `first` on have an outcome.
    pub(crate) fn push(
        &mut self,
        (first, count): (u64, u32),
        outcome: Outcome,
        cause: Option<&Cause>,
    ) {
        let error = outcome_error(outcome, cause);
        let outcome = convert::outcome(outcome);
        push_confirm(&mut self.confirms, (first, count), outcome, error);
    }

    /// A message is wrong as it is.
    pub(crate) fn push_wrong(&mut self, ordinal: u64, reason: &str) {
        let (outcome, error) = (v1::Outcome::Invalid, reason.to_owned());
        push_confirm(&mut self.confirms, (ordinal, 1), outcome, error);
    }

    /// Messages for a destination wait for room.
    pub(crate) fn push_held_back(&mut self, cause: &Cause) {
        self.held_back.push(v1::HeldBack {
            destination: cause.destination.to_string(),
            reason: held_back(cause),
        });
    }
}

impl Gather for Confirms {
    type Frame = v1::PublishResponse;

    fn take(&mut self) -> Option<v1::PublishResponse> {
        let confirms = std::mem::take(&mut self.confirms);
        let held_back = std::mem::take(&mut self.held_back);
        let is_empty = confirms.is_empty() && held_back.is_empty();
        (!is_empty).then_some(v1::PublishResponse {
            confirms,
            held_back,
        })
    }

    fn len(&self) -> usize {
        self.confirms.len() + self.held_back.len()
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
            | Effect::Wrong { .. }
            | Effect::HeldBack { .. }
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

/// What a connection of many calls is told, in order, as the machine says it.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<Effect>);

impl Told {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }
}

impl Gather for Told {
    type Frame = Vec<Effect>;

    fn take(&mut self) -> Option<Vec<Effect>> {
        (!self.0.is_empty()).then(|| std::mem::take(&mut self.0))
    }

    /// Bounded by what the connection has under way, and by its credit.
    fn len(&self) -> usize {
        0
    }
}
