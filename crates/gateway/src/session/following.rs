//! Consumers of names that move: they settle what they have where they got it, and go on where the name goes.
//!
//! A consumer turns to the other shard when it holds nothing and nothing of it is under way. Until then it stays
//! attached where it is, is given no more credit there, and gets nothing more once the name leaves. So whatever it gets
//! there comes behind what it got here.

use std::collections::BTreeSet;

use quorate_message::{ConsumerId, DestinationName};

use super::{
    consumer::{Attachment, Phase},
    core::Core,
    effect::{Command, Effect},
    ids::{CallId, Generation, ShardId, Time},
    subscribing::Admission,
};
use crate::limits::FOLLOW_PAUSE_MICROS;

/// Consumers whose names move.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Their names live elsewhere than where they are attached.
    pub(super) far: BTreeSet<CallId>,
    /// They were turned away, and ask again.
    waiting: BTreeSet<CallId>,
}

impl Core {
    /// The shard in which a consumer of this name finds its messages: of a name that moves the one that it goes to.
    pub(super) fn reads_from(&self, name: &DestinationName) -> Option<ShardId> {
        match self.overrides.place(name) {
            Some(place) => Some(ShardId(place.shard)),
            None => self.shard_of(name),
        }
    }

    /// The shard that a consumer of one shard is to be attached at.
    pub(super) fn place_of_consumer(&self, call: CallId) -> Option<ShardId> {
        if self.legs.contains_key(&call) {
            return None;
        }
        let consumer = self.consumers.get(&call)?;
        let name = consumer.name_of_source()?;
        self.reads_from(&name)
    }

    /// Names live elsewhere: finds the consumers that are to follow.
    pub(super) fn find_followers(&mut self) {
        let calls: BTreeSet<CallId> = self
            .consumers
            .iter()
            .filter(|(call, consumer)| {
                let place = self.place_of_consumer(**call);
                place.is_some_and(|place| place != consumer.shard)
            })
            .map(|(call, _)| *call)
            .collect();
        self.following.far = calls;
    }

    /// Turns consumers that hold nothing to where their names went.
    pub(super) fn tend_followers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for call in self.following.far.clone() {
            let place = self.place_of_consumer(call);
            let consumer = self.consumers.get_mut(&call);
            let consumer = consumer.filter(|consumer| consumer.phase == Phase::Open);
            let (Some(consumer), Some(place)) = (consumer, place) else {
                self.following.far.remove(&call);
                continue;
            };
            if consumer.shard == place {
                self.following.far.remove(&call);
            } else if consumer.is_idle() {
                self.follow(now, call, place, effects);
            }
        }
    }

    /// Attaches a consumer that holds nothing at another shard.
    fn follow(&mut self, now: Time, call: CallId, to: ShardId, effects: &mut Vec<Effect>) {
        self.following.far.remove(&call);
        if !self.shards.contains_key(&to) {
            return;
        }
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        let from = std::mem::replace(&mut consumer.shard, to);
        let command = Command::Detach {
            consumer: consumer.id,
            generation: consumer.generation,
        };
        let was_asked_for = consumer.was_asked_for();
        consumer.detach(now);
        consumer.waits_until = None;
        if let Some(shard) = self.shards.get_mut(&from) {
            shard.consumers.remove(&call);
            if let Some((node, link)) = shard.present().filter(|_| was_asked_for) {
                effects.push(Effect::Control {
                    node,
                    link,
                    shard: from,
                    command,
                });
            }
        }
        if let Some(shard) = self.shards.get_mut(&to) {
            shard.consumers.insert(call);
        }
        self.detached.insert(call);
        self.restless.insert(call);
        if let Err(failure) = self.ask_admission(now, call) {
            self.fail(call, failure, effects);
        }
    }

    /// The leader does not attach a consumer since its queue lives elsewhere; it holds nothing there.
    pub(super) fn turned_away(&mut self, now: Time, which: (ConsumerId, Generation)) {
        if let Some(consumer) = self.attachment(which) {
            let call = consumer.call;
            self.leave_shard(now, call);
        }
    }

    /// A consumer is not attached any more where it was, and waits for where it is to be.
    pub(super) fn leave_shard(&mut self, now: Time, call: CallId) {
        if let Some(consumer) = self.consumers.get_mut(&call) {
            consumer.attachment = Attachment::Detached;
            // Its subscription may have gone with its topic.
            consumer.is_admitted &= !matches!(consumer.admission, Admission::Subscribe(_));
            self.detached.insert(call);
        }
        self.wait_for_place(now, call);
    }

    /// Where a consumer's name goes is not ready, or not known here: it is tried again in a while.
    pub(super) fn wait_for_place(&mut self, now: Time, call: CallId) {
        if let Some(consumer) = self.consumers.get_mut(&call) {
            consumer.waits_until = Some(now.after(FOLLOW_PAUSE_MICROS));
            self.following.waiting.insert(call);
        }
        if self.place_of_consumer(call).is_some() {
            self.following.far.insert(call);
        }
    }

    pub(super) fn followers_deadline(&self) -> Option<Time> {
        let waiting = self.following.waiting.iter();
        let waiting = waiting.filter_map(|call| self.consumers.get(call)?.waits_until);
        waiting.min()
    }

    pub(super) fn elapsed_for_followers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for call in self.following.waiting.clone() {
            let Some(consumer) = self.consumers.get_mut(&call) else {
                self.following.waiting.remove(&call);
                continue;
            };
            if consumer.waits_until.is_some_and(|until| until > now) {
                continue;
            }
            let is_due = consumer.waits_until.take().is_some();
            let (shard, is_admitted) = (consumer.shard, consumer.is_admitted);
            // Nothing is made for it where its name does not live.
            let is_far = self
                .place_of_consumer(call)
                .is_some_and(|place| place != shard);
            self.following.waiting.remove(&call);
            self.restless.insert(call);
            if is_due
                && !is_admitted
                && !is_far
                && let Err(failure) = self.ask_admission(now, call)
            {
                self.fail(call, failure, effects);
            }
        }
    }
}
