//! Consumers: attached to the leader of their queue's shard, again after every change, fed and settled.

use std::sync::Arc;

use bytes::Bytes;
use quorate_message::{ConsumerId, Message, MessagePosition, Outcome, Settlement};

use super::{
    consumer::{Attachment, Consumer, Phase},
    core::{Call, Core},
    effect::{Command, Effect, Failure, Note},
    ids::{CallId, Generation, ShardId, Time},
    input::{Credit, OpenConsumer, StoredDelivery},
    publishing::kind_of,
    reporting::{Which, report_of},
    subscribing::Admission,
    unopened::Unopened,
};
use crate::limits::{HELD_MAX, SETTLEMENTS_MAX};

impl Core {
    pub(super) fn consume(
        &mut self,
        now: Time,
        call: CallId,
        open: OpenConsumer,
        effects: &mut Vec<Effect>,
    ) {
        if self.calls.contains_key(&call) {
            return;
        }
        let mut shards = self.shards_of(&open);
        self.begin_where_held(&open, &mut shards);
        let Some(first) = shards.first().copied() else {
            return self.fail(call, Failure::NoTopology, effects);
        };
        if open.held.len() > HELD_MAX {
            let held_max = HELD_MAX;
            return self.fail(call, Failure::TooManyHeld { held_max }, effects);
        }
        let mut held = open.held.iter();
        if let Some((foreign, _)) = held.find(|(of, _)| !shards.contains(of)) {
            let failure = Failure::ForeignPosition {
                shard: *foreign,
                expected: first,
            };
            return self.fail(call, failure, effects);
        }
        self.end_elsewhere(now, &open, &shards);
        match shards[..] {
            [shard] => self.consume_at(now, (call, shard), open, effects),
            _ => self.consume_group(now, call, (open, &shards), effects),
        }
    }

    /// What a consumer brings of a queue or topic that moves it settles where it got it, and follows then.
    fn begin_where_held(&self, open: &OpenConsumer, shards: &mut [ShardId]) {
        let Some((at, _)) = open.held.first() else {
            return;
        };
        let is_there = open.held.iter().all(|(of, _)| of == at);
        if let [only] = shards
            && is_there
            && self.shards.contains_key(at)
        {
            *only = *at;
        }
    }

    /// Opens a consumer of one shard.
    pub(super) fn consume_at(
        &mut self,
        now: Time,
        (call, shard): (CallId, ShardId),
        open: OpenConsumer,
        effects: &mut Vec<Effect>,
    ) {
        let mut generation = Generation(open.wall_micros);
        if let Some(old) = self.consumer_calls.get(&open.consumer).copied() {
            generation = generation.max(self.take_over(old, (shard, &open), effects));
        }
        let admission = Admission::of(&open, generation);
        let what = (open.consumer, open.queue, shard);
        let mut consumer = Consumer::new(call, what, admission, generation, now);
        consumer.follows = self.consumer_calls.get(&open.consumer).copied();
        for (_, position) in &open.held {
            consumer.hold(now, *position);
        }
        // What a subscriber names of another shard may be wrong, and is no reason to make its subscription there.
        let home = consumer.name_of_source();
        let home = home.and_then(|name| self.reads_from(&name));
        let is_brought = open.subscription.is_some() && home.is_some_and(|home| home != shard);
        consumer.is_admitted |= is_brought;
        consumer.patience_micros = self.patience(&consumer);
        consumer.terms = open.terms;
        consumer.credited(open.credit);
        self.calls.insert(call, Call::Consuming);
        self.consumer_calls.insert(open.consumer, call);
        self.consumers.insert(call, consumer);
        if !open.held.is_empty() {
            self.unopened.insert(call, Unopened::default());
        }
        self.restless.insert(call);
        self.detached.insert(call);
        // Perhaps it begins where it holds something.
        self.following.far.insert(call);
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.consumers.insert(call);
        }
        self.look_later(now, call);
        if !is_brought && let Err(failure) = self.ask_admission(now, call) {
            self.fail(call, failure, effects);
        }
    }

    /// Ends an earlier call of a consumer that is opened anew. Returns its generation.
    fn take_over(
        &mut self,
        old: CallId,
        (shard, open): (ShardId, &OpenConsumer),
        effects: &mut Vec<Effect>,
    ) -> Generation {
        let Some(consumer) = self.consumers.get_mut(&old) else {
            return Generation(0);
        };
        let generation = consumer.generation;
        if consumer.shard == shard && consumer.queue == open.queue {
            // The new attachment takes over what this one has; to detach it first would give that away.
            consumer.taken_over();
            for (_, position) in &open.held {
                consumer.hand_over(*position);
            }
        }
        self.fail(old, Failure::TakenOver, effects);
        generation
    }

    pub(super) fn credited(&mut self, call: CallId, credit: Credit) {
        self.credited_group(call, credit);
        if let Some(consumer) = self.consumers.get_mut(&call) {
            consumer.credited(credit);
            self.restless.insert(call);
        }
    }

    pub(super) fn taken(&mut self, call: CallId, bytes: u64) {
        self.taken_group(call, bytes);
        if let Some(consumer) = self.consumers.get_mut(&call) {
            consumer.taken(bytes);
            self.restless.insert(call);
        }
    }

    pub(super) fn settle(
        &mut self,
        now: Time,
        call: CallId,
        settlement: Settlement,
        (named, token): (&[(ShardId, MessagePosition)], u64),
        effects: &mut Vec<Effect>,
    ) {
        self.settle_group(now, call, settlement, (named, token), effects);
        if self.keep_unopened(call, settlement, (named, token), effects) {
            return;
        }
        let consumer = self.consumers.get_mut(&call);
        let Some(consumer) = consumer.filter(|c| c.phase != Phase::Gone) else {
            return;
        };
        let shard = consumer.shard;
        let is_foreign = |of: &ShardId| *of != shard && !self.shards.contains_key(of);
        if let Some((foreign, _)) = named.iter().find(|(of, _)| is_foreign(of)) {
            let failure = Failure::ForeignPosition {
                shard: *foreign,
                expected: shard,
            };
            return self.fail(call, failure, effects);
        }
        // What is of another shard it does not hold: it was settled before the consumer came here.
        let here = |(of, position): &(ShardId, MessagePosition)| match *of == shard {
            true => *position,
            false => MessagePosition::from_value(u64::MAX),
        };
        let positions: Vec<_> = named.iter().map(here).collect();
        let (request, wanted) = consumer.settle(settlement, &positions, token);
        let queue = consumer.queue.clone();
        if consumer.settling > SETTLEMENTS_MAX && !consumer.paused {
            consumer.paused = true;
            effects.push(Effect::Pause { call });
        }
        let Some(state) = self.shards.get_mut(&shard) else {
            return;
        };
        for at in wanted {
            let position = positions[at as usize];
            let (lane, numbers) = state.lane(kind_of(position));
            let named = (call, request, at);
            match lane.settle(now, numbers, named, &queue, position, settlement) {
                Ok(number) => consumer.gathered(position, number),
                Err(full) => {
                    let reason = Arc::from(full.to_string());
                    return self.fail(call, Failure::Malformed { shard, reason }, effects);
                }
            }
        }
        self.complete(call, request, effects);
    }

    /// Outcomes of a batch for neighbours in a request.
    pub(super) fn settled(
        &mut self,
        (call, request): (CallId, u64),
        (first, repeated): (u32, bool),
        outcomes: impl Iterator<Item = Outcome>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        consumer.settled(request, first, outcomes, repeated);
        self.resume_settling(call, effects);
        self.complete(call, request, effects);
    }

    fn complete(&mut self, call: CallId, request: u64, effects: &mut Vec<Effect>) {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        if let Some(settled) = consumer.complete(request)
            && consumer.phase != Phase::Gone
        {
            effects.push(Effect::Settled {
                call,
                token: settled.token,
                outcomes: settled.outcomes,
            });
        }
        if consumer.phase != Phase::Open || consumer.held_len() + 1 >= HELD_MAX / 2 {
            self.restless.insert(call);
        }
    }

    /// The leader of a shard is another one, or not reachable: its consumers are attached nowhere.
    pub(super) fn detach_consumers(&mut self, now: Time, shard: ShardId) {
        let Some(shard) = self.shards.get(&shard) else {
            return;
        };
        for call in &shard.consumers {
            if let Some(consumer) = self.consumers.get_mut(call) {
                consumer.detach(now);
                if let Some(group) = self.legs.get(call) {
                    consumer.forfeit();
                    self.restless_groups.insert(*group);
                }
                self.detached.insert(*call);
            }
        }
    }

    /// Whether `tend_consumers` could do something.
    pub(super) fn restless_ready(&self) -> bool {
        self.restless.iter().any(|call| {
            let consumer = self.consumers.get(call);
            consumer.is_some_and(|consumer| {
                let waits = consumer.waits_until.is_some();
                let shard = self.shards.get(&consumer.shard);
                consumer.is_admitted
                    && !waits
                    && shard.is_some_and(|shard| shard.target().is_some())
            })
        })
    }

    /// Says to the leaders what consumers want: to be attached, more, or to be detached.
    pub(super) fn tend_consumers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let window = self.window();
        for call in std::mem::take(&mut self.restless) {
            let Some(consumer) = self.consumers.get_mut(&call) else {
                continue;
            };
            let follows = consumer.follows;
            let shard = self.shards.get(&consumer.shard);
            let target = shard.and_then(super::shard::Shard::target);
            // What it brought is its own only when the leader says so, also to give it back.
            let is_over = consumer.phase != Phase::Open && !self.unopened.contains_key(&call);
            match consumer.attachment {
                _ if is_over => self.see_through(call, target, effects),
                Attachment::Detached => {
                    let is_ready = consumer.is_admitted && consumer.waits_until.is_none();
                    let Some((node, link)) = target.filter(|_| is_ready) else {
                        continue;
                    };
                    if follows.is_some_and(|earlier| self.consumers.contains_key(&earlier)) {
                        continue;
                    }
                    let Some(consumer) = self.consumers.get_mut(&call) else {
                        continue;
                    };
                    effects.extend(report_of(consumer, Which::Persistent, (node, link)));
                    let credit = consumer.attach(now, window);
                    effects.push(Effect::Control {
                        node,
                        link,
                        shard: consumer.shard,
                        command: Command::Attach {
                            consumer: consumer.id,
                            generation: consumer.generation,
                            queue: consumer.queue.clone(),
                            shares_credit: self.legs.contains_key(&call),
                            credit,
                            held: consumer.held(),
                            terms: consumer.present_terms(),
                        },
                    });
                }
                // What came to it meanwhile is lent once it is attached.
                Attachment::Asked { .. } => {}
                Attachment::Attached => {
                    let Some((node, link)) = target else { continue };
                    // What it would get there it gets where its name goes.
                    if self.following.far.contains(&call) {
                        continue;
                    }
                    if let Some(credit) = consumer.grant(window) {
                        effects.push(Effect::Control {
                            node,
                            link,
                            shard: consumer.shard,
                            command: Command::Credit {
                                consumer: consumer.id,
                                credit,
                            },
                        });
                    }
                }
            }
        }
    }

    /// The consumer of this attachment, if it is the present one.
    pub(super) fn attachment(
        &mut self,
        (id, generation): (ConsumerId, Generation),
    ) -> Option<&mut Consumer> {
        let call = self.consumer_calls.get(&id)?;
        let consumer = self.consumers.get_mut(call)?;
        let asked = consumer.attachment != Attachment::Detached;
        (asked && consumer.generation == generation).then_some(consumer)
    }

    pub(super) fn attached(
        &mut self,
        which: (ConsumerId, Generation),
        shard: ShardId,
        lost: &[MessagePosition],
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.attachment(which) else {
            return;
        };
        if consumer.attachment == Attachment::Attached {
            return;
        }
        let call = consumer.call;
        let early = std::mem::take(&mut consumer.early);
        self.told_what_is_lost((call, shard), lost, effects);
        self.detached.remove(&call);
        self.restless.insert(call);
        self.deliver(shard, false, early, effects);
    }

    /// A consumer knows what it still holds.
    pub(super) fn told_what_is_lost(
        &mut self,
        (call, shard): (CallId, ShardId),
        lost: &[MessagePosition],
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&call) else {
            return;
        };
        let id = consumer.id;
        let lost = consumer.attached(lost);
        if consumer.phase == Phase::Open {
            effects.push(Effect::Opened {
                call,
                consumer: id,
                lost: lost.into_iter().map(|position| (shard, position)).collect(),
            });
        }
        self.open_unopened(call, effects);
    }

    pub(super) fn attach_refused(
        &mut self,
        which: (ConsumerId, Generation),
        shard: ShardId,
        (reason, is_gone): (Arc<str>, bool),
        effects: &mut Vec<Effect>,
    ) {
        let now = self.now;
        if let Some(consumer) = self.attachment(which) {
            let call = consumer.call;
            if is_gone && self.subscription_is_gone(now, call, effects) {
                return;
            }
            if let Some(consumer) = self.consumers.get_mut(&call) {
                consumer.attachment = Attachment::Detached;
            }
            self.fail(call, Failure::AttachRefused { shard, reason }, effects);
        }
    }

    /// Hands deliveries to their consumers, neighbours together. `stale`: they are a deposed leader's.
    pub(super) fn deliver(
        &mut self,
        shard: ShardId,
        stale: bool,
        deliveries: Vec<StoredDelivery>,
        effects: &mut Vec<Effect>,
    ) {
        let now = self.now;
        let mut dropped = 0;
        let mut rest = deliveries.into_iter().peekable();
        while let Some(first) = rest.next() {
            let which = (first.consumer, first.generation);
            let mut run = vec![first];
            while let Some(next) = rest.next_if(|d| (d.consumer, d.generation) == which) {
                run.push(next);
            }
            let consumer = self.attachment(which).filter(|_| !stale);
            // What no client gets goes back when the consumer is detached, as if it had not been sent.
            let consumer = consumer.filter(|c| c.shard == shard && c.phase == Phase::Open);
            let Some(consumer) = consumer else {
                dropped += run.len();
                continue;
            };
            if consumer.attachment != Attachment::Attached {
                consumer.early.append(&mut run);
                continue;
            }
            let before = run.len();
            run.retain(|delivery| {
                let body = body_bytes(&delivery.message);
                consumer.deliver(now, delivery, body)
            });
            dropped += before - run.len();
            let call = consumer.call;
            if !run.is_empty() {
                self.look_later(now, call);
                effects.push(Effect::Delivered {
                    call,
                    shard,
                    deliveries: run,
                });
            }
            self.restless.insert(call);
        }
        if dropped > 0 {
            effects.push(Effect::Note(Note::Dropped {
                shard,
                deliveries: dropped,
            }));
        }
    }

    /// Asks again for attachments without an answer, and fails consumers that stayed without one for too long.
    pub(super) fn elapsed_for_consumers(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.elapsed_for_followers(now, effects);
        self.elapsed_for_endings(now);
        let deadline = self.config.deadline_micros;
        for call in self.detached.iter().copied().collect::<Vec<_>>() {
            let Some(consumer) = self.consumers.get_mut(&call) else {
                self.detached.remove(&call);
                continue;
            };
            if consumer.give_up_attaching(now) {
                self.restless.insert(call);
            }
            if consumer.detached_since.after(deadline) <= now {
                let shard = consumer.shard;
                let state = self.shards.get(&shard);
                let reason = state.map_or_else(|| Arc::from("it is unknown"), |s| s.why());
                let reason = consumer.why_detached(reason);
                self.fail(call, Failure::Deadline { shard, reason }, effects);
                // Its call is over, and what it settles is seen through, however long that takes.
                self.detached.remove(&call);
            }
        }
    }
}

/// What a delivery takes of the client's credit. A message that cannot be read counts whole; whoever reads it says so.
pub(super) fn body_bytes(stored: &Bytes) -> u64 {
    Message::decode(stored).map_or(stored.len(), |message| message.body.len()) as u64
}
