//! Subscriptions on their way through the log: a consumer is attached once its subscription is committed.

use std::{collections::BTreeSet, sync::Arc};

use quorate_message::{Lifetime, Outcome, Subscription, virtual_topic};

use super::{
    consumer::{Attachment, Phase},
    core::Core,
    effect::{Effect, Failure},
    ids::{CallId, Generation, ShardId, Time},
    input::OpenConsumer,
    lane::Part,
    shard::Kind,
};

/// What has to be committed before a consumer can be attached.
#[derive(Clone, Debug)]
pub(super) enum Admission {
    /// Nothing.
    Free,
    /// The queue of a virtual topic, so that it gets the topic's messages.
    Register,
    /// The subscription.
    Subscribe(Box<Subscription>),
}

impl Admission {
    pub(super) fn of(open: &OpenConsumer, generation: Generation) -> Self {
        match &open.subscription {
            Some(wanted) => {
                let mut wanted = wanted.clone();
                wanted.generation = generation.0;
                Self::Subscribe(wanted)
            }
            None if virtual_topic(open.queue.name.as_str()).is_some() => Self::Register,
            None => Self::Free,
        }
    }
}

impl Core {
    /// The shards that a consumer reads from.
    pub(super) fn shards_of(&self, open: &OpenConsumer) -> Vec<ShardId> {
        let name = match &open.subscription {
            None => Some(open.queue.name.clone()),
            Some(subscription) => subscription.pattern.as_name(),
        };
        match name {
            Some(name) => self.reads_from(&name).into_iter().collect(),
            None => self.all_shards(),
        }
    }

    pub(super) fn all_shards(&self) -> Vec<ShardId> {
        let shards: BTreeSet<ShardId> = self.slots.iter().copied().collect();
        shards.into_iter().collect()
    }

    /// Puts into the log what a consumer needs. True when it needs nothing.
    pub(super) fn ask_admission(&mut self, now: Time, call: CallId) -> Result<bool, Failure> {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return Ok(true);
        };
        let shard = consumer.shard;
        let name = consumer.name_of_source();
        let place = name.and_then(|name| self.overrides.place(&name));
        let place = place.filter(|place| ShardId(place.shard) == shard);
        // Where its name goes, nothing is made for it before that is known there.
        let by_move = place
            .and_then(|place| place.moving)
            .map_or(0, |moving| moving.number);
        let Some(state) = self.shards.get_mut(&shard) else {
            return Ok(false);
        };
        let key = &consumer.queue.name;
        let (lane, numbers) = state.lane(Kind::Settle);
        let part = Part::Admission { call };
        let asked = match &consumer.admission {
            Admission::Free => return Ok(true),
            Admission::Register => {
                lane.single(now, numbers, part, |b| b.register_by_move(key, by_move))
            }
            Admission::Subscribe(wanted) => lane.single(now, numbers, part, |b| {
                b.subscribe_by_move(key, wanted, by_move)
            }),
        };
        consumer.is_admitted = false;
        asked.map(|()| false).map_err(|full| Failure::Malformed {
            shard,
            reason: Arc::from(full.to_string()),
        })
    }

    /// What a consumer needs is committed in a shard, or refused.
    pub(super) fn admitted(
        &mut self,
        (call, asked): (CallId, ShardId),
        outcome: Option<Outcome>,
        effects: &mut Vec<Effect>,
    ) {
        let consumer = self.consumers.get_mut(&call);
        // It may have followed its name since it asked there.
        let Some(consumer) = consumer.filter(|consumer| consumer.shard == asked) else {
            return;
        };
        match outcome {
            None | Some(Outcome::Applied) => {
                consumer.is_admitted = true;
                self.restless.insert(call);
            }
            // What it holds of a queue that left it settles there, and a queue that leaves needs no registration.
            Some(Outcome::Moved)
                if matches!(consumer.admission, Admission::Register) && consumer.held_len() > 0 =>
            {
                consumer.is_admitted = true;
                self.restless.insert(call);
            }
            // It is on its way here, or elsewhere.
            Some(Outcome::Moved) => {
                let now = self.now;
                self.wait_for_place(now, call);
            }
            Some(outcome) => {
                let shard = consumer.shard;
                self.fail(call, Failure::Refused { shard, outcome }, effects);
            }
        }
    }

    /// The leader knows of no such subscription. A live one is made again: its gateway was away for too long. One that went with
    /// its topic is found where that is, and what its consumer had here comes again there.
    pub(super) fn subscription_is_gone(
        &mut self,
        now: Time,
        call: CallId,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let place = self.place_of_consumer(call);
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return false;
        };
        let Admission::Subscribe(wanted) = &consumer.admission else {
            return false;
        };
        let shard = consumer.shard;
        if place.is_some_and(|place| place != shard) {
            let lost = consumer.held();
            self.told_what_is_lost((call, shard), &lost, effects);
            self.leave_shard(now, call);
            return true;
        }
        if wanted.lifetime == Lifetime::Durable || consumer.phase != Phase::Open {
            return false;
        }
        consumer.attachment = Attachment::Detached;
        self.detached.insert(call);
        match self.ask_admission(now, call) {
            Ok(_) => {}
            Err(failure) => self.fail(call, failure, effects),
        }
        true
    }
}
