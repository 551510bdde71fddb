//! A consumer of several shards: one attachment, a leg, for each, and one credit that is lent to them.
//!
//! A leg is a consumer of its own, with a call of its own that only the machine knows; what is said to such a call is
//! said here to the client's. Credit that a shard does not use is called back when another has a message waiting, so
//! that a client with credit for one message gets that one, wherever it is. No order holds between shards.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use quorate_message::{ConsumerId, MessagePosition, Outcome, Settlement};

use super::{
    consumer::Attachment,
    consuming::body_bytes,
    core::{Call, Core},
    effect::{Command, Effect, Failure},
    ids::{CallId, Generation, ShardId, Time},
    input::{Credit, OpenConsumer},
};

/// Calls from here on are those of legs; the shell's stay below.
const FIRST_LEG: u64 = 1 << 63;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Group {
    consumer: ConsumerId,
    legs: BTreeMap<ShardId, CallId>,
    /// What the client may still be sent; bytes may be overdrawn by the last message.
    messages: u64,
    bytes: i64,
    /// Legs that were never attached.
    unopened: BTreeSet<CallId>,
    /// What these lost, to be told once all are attached.
    lost: Vec<(ShardId, MessagePosition)>,
    requests: BTreeMap<u64, Request>,
    last_request: u64,
    paused: BTreeSet<CallId>,
    /// Stored bytes that wait for the client's connection, by leg.
    outbound: VecDeque<(CallId, u64)>,
}

/// A settlement over several legs.
#[derive(Debug)]
struct Request {
    token: u64,
    outcomes: Vec<Outcome>,
    /// For each leg, where its outcomes belong.
    places: BTreeMap<CallId, Vec<usize>>,
}

impl Core {
    /// Opens a consumer of these shards.
    pub(super) fn consume_group(
        &mut self,
        now: Time,
        call: CallId,
        (open, shards): (OpenConsumer, &[ShardId]),
        effects: &mut Vec<Effect>,
    ) {
        let mut generation = Generation(open.wall_micros);
        if let Some(old) = self.consumer_calls.get(&open.consumer).copied() {
            generation = generation.max(self.take_over_group(old, &open.held));
            self.fail(old, Failure::TakenOver, effects);
        }
        let mut group = Group {
            consumer: open.consumer,
            legs: BTreeMap::new(),
            messages: 0,
            bytes: 0,
            unopened: BTreeSet::new(),
            lost: Vec::new(),
            requests: BTreeMap::new(),
            last_request: 0,
            paused: BTreeSet::new(),
            outbound: VecDeque::new(),
        };
        for shard in shards {
            self.last_leg += 1;
            let leg = CallId(FIRST_LEG + self.last_leg);
            group.legs.insert(*shard, leg);
            group.unopened.insert(leg);
            let of_shard = |(of, _): &&(ShardId, MessagePosition)| of == shard;
            let open = OpenConsumer {
                consumer: leg_id(open.consumer, *shard),
                held: open.held.iter().filter(of_shard).copied().collect(),
                credit: Credit::default(),
                wall_micros: generation.0,
                ..open.clone()
            };
            self.legs.insert(leg, call);
            self.consume_at(now, (leg, *shard), open, effects);
        }
        self.calls.insert(call, Call::Consuming);
        self.consumer_calls.insert(group.consumer, call);
        self.groups.insert(call, group);
        self.credited_group(call, open.credit);
    }

    /// An earlier call of a group's consumer gives up its legs without detaching them. Returns their generation.
    fn take_over_group(&mut self, old: CallId, held: &[(ShardId, MessagePosition)]) -> Generation {
        let mut generation = Generation(0);
        let legs = self
            .groups
            .get(&old)
            .into_iter()
            .flat_map(|g| g.legs.values());
        for leg in legs {
            if let Some(consumer) = self.consumers.get_mut(leg) {
                generation = generation.max(consumer.generation);
                consumer.taken_over();
                let shard = consumer.shard;
                for (_, position) in held.iter().filter(|(of, _)| *of == shard) {
                    consumer.hand_over(*position);
                }
            }
        }
        generation
    }

    pub(super) fn credited_group(&mut self, call: CallId, credit: Credit) {
        if let Some(group) = self.groups.get_mut(&call) {
            group.messages = group.messages.saturating_add(credit.messages);
            group.messages = group.messages.min(crate::limits::CREDIT_MESSAGES_MAX);
            let bytes = i64::try_from(credit.bytes).unwrap_or(i64::MAX);
            let most = i64::try_from(crate::limits::CREDIT_BYTES_MAX).unwrap_or(i64::MAX);
            group.bytes = group.bytes.saturating_add(bytes).min(most);
            self.restless_groups.insert(call);
        }
    }

    /// The client's connection took deliveries, in the order in which they came.
    pub(super) fn taken_group(&mut self, call: CallId, bytes: u64) {
        let mut left = bytes;
        let mut taken: Vec<(CallId, u64)> = Vec::new();
        let Some(group) = self.groups.get_mut(&call) else {
            return;
        };
        while left > 0
            && let Some((leg, waiting)) = group.outbound.front_mut()
        {
            let part = left.min(*waiting);
            taken.push((*leg, part));
            left -= part;
            *waiting -= part;
            if *waiting == 0 {
                group.outbound.pop_front();
            }
        }
        for (leg, bytes) in taken {
            self.taken(leg, bytes);
        }
    }

    pub(super) fn settle_group(
        &mut self,
        now: Time,
        call: CallId,
        settlement: Settlement,
        (named, token): (&[(ShardId, MessagePosition)], u64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(group) = self.groups.get_mut(&call) else {
            return;
        };
        let mut parts: BTreeMap<ShardId, Vec<(ShardId, MessagePosition)>> = BTreeMap::new();
        let mut places: BTreeMap<CallId, Vec<usize>> = BTreeMap::new();
        for (at, (shard, position)) in named.iter().enumerate() {
            let Some(leg) = group.legs.get(shard) else {
                let expected = group.legs.keys().next().copied().unwrap_or(*shard);
                let shard = *shard;
                return self.fail(call, Failure::ForeignPosition { shard, expected }, effects);
            };
            parts.entry(*shard).or_default().push((*shard, *position));
            places.entry(*leg).or_default().push(at);
        }
        if parts.is_empty() {
            let outcomes = Vec::new();
            if token != 0 {
                effects.push(Effect::Settled {
                    call,
                    token,
                    outcomes,
                });
            }
            return;
        }
        let mut inner = 0;
        if token != 0 {
            group.last_request += 1;
            inner = group.last_request;
            let request = Request {
                token,
                outcomes: vec![Outcome::UnknownMessage; named.len()],
                places,
            };
            group.requests.insert(inner, request);
        }
        let legs = group.legs.clone();
        for (shard, positions) in parts {
            self.settle(now, legs[&shard], settlement, (&positions, inner), effects);
        }
    }

    /// The client sends nothing more: so it is for every leg.
    pub(super) fn finish_group(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        for leg in self.legs_of(call) {
            self.finish_consumer(leg, effects);
        }
    }

    /// The client is gone, or its call failed: so are the legs.
    pub(super) fn abandon_group(&mut self, call: CallId) -> bool {
        let legs = self.legs_of(call);
        let Some(group) = self.groups.remove(&call) else {
            return false;
        };
        if self.consumer_calls.get(&group.consumer) == Some(&call) {
            self.consumer_calls.remove(&group.consumer);
        }
        self.restless_groups.remove(&call);
        for leg in legs {
            self.calls.remove(&leg);
            self.legs.remove(&leg);
            self.abandon_consumer(leg);
        }
        true
    }

    /// The call that holds what a consumer got from a shard: its own, or that of its leg there.
    pub(super) fn holder_at(&self, consumer: ConsumerId, shard: ShardId) -> Option<CallId> {
        let call = *self.consumer_calls.get(&consumer)?;
        let group = self.groups.get(&call);
        let leg = group.and_then(|group| group.legs.get(&shard));
        Some(leg.copied().unwrap_or(call))
    }

    fn legs_of(&self, call: CallId) -> Vec<CallId> {
        let group = self.groups.get(&call).into_iter();
        group
            .flat_map(|group| group.legs.values())
            .copied()
            .collect()
    }

    /// A message waits for a leg, or its attachment changed: credit may have to move.
    pub(super) fn leg_changed(&mut self, leg: CallId) {
        self.restless_groups.extend(self.legs.get(&leg).copied());
    }

    /// What was left of a leg's credit.
    pub(super) fn recalled(&mut self, which: (ConsumerId, Generation), credit: Credit) {
        if let Some(consumer) = self.attachment(which) {
            consumer.recalled(credit);
            let call = consumer.call;
            self.leg_changed(call);
        }
    }

    pub(super) fn waiting(&mut self, which: (ConsumerId, Generation)) {
        if let Some(consumer) = self.attachment(which) {
            consumer.waits = true;
            let call = consumer.call;
            self.leg_changed(call);
        }
    }

    /// Says to the clients' calls what was said to legs.
    pub(super) fn regroup(&mut self, from: usize, effects: &mut Vec<Effect>) {
        if self.legs.is_empty() {
            return;
        }
        for effect in effects.split_off(from) {
            let call = call_of(&effect);
            let leg = call.filter(|call| call.0 >= FIRST_LEG);
            let Some(leg) = leg else {
                effects.push(effect);
                continue;
            };
            // Without a group nobody hears it.
            if let Some(group) = self.legs.get(&leg).copied() {
                self.leg_said((group, leg), effect, effects);
            }
        }
    }

    fn leg_said(&mut self, (call, leg): (CallId, CallId), said: Effect, effects: &mut Vec<Effect>) {
        if let Effect::Failed { failure, .. } = said {
            return self.fail(call, failure, effects);
        }
        let Some(group) = self.groups.get_mut(&call) else {
            return;
        };
        match said {
            Effect::Opened { lost, .. } => {
                group.lost.extend(lost);
                group.unopened.remove(&leg);
                if group.unopened.is_empty() {
                    let (consumer, lost) = (group.consumer, mem::take(&mut group.lost));
                    effects.push(Effect::Opened {
                        call,
                        consumer,
                        lost,
                    });
                }
                self.restless_groups.insert(call);
            }
            Effect::Delivered {
                shard, deliveries, ..
            } => {
                group.messages = group.messages.saturating_sub(deliveries.len() as u64);
                for delivery in &deliveries {
                    let body = i64::try_from(body_bytes(&delivery.message)).unwrap_or(i64::MAX);
                    group.bytes = group.bytes.saturating_sub(body);
                    group
                        .outbound
                        .push_back((leg, delivery.message.len() as u64));
                }
                effects.push(Effect::Delivered {
                    call,
                    shard,
                    deliveries,
                });
            }
            Effect::Settled {
                token, outcomes, ..
            } => {
                group.settled(call, (leg, token), outcomes, effects);
            }
            Effect::Pause { .. } => {
                if group.paused.is_empty() {
                    effects.push(Effect::Pause { call });
                }
                group.paused.insert(leg);
            }
            Effect::Resume { .. } => {
                if group.paused.remove(&leg) && group.paused.is_empty() {
                    effects.push(Effect::Resume { call });
                }
            }
            Effect::Ended { .. } => {
                group.legs.retain(|_, other| *other != leg);
                let is_last = group.legs.is_empty();
                self.legs.remove(&leg);
                self.calls.remove(&leg);
                if is_last {
                    self.abandon_group(call);
                    self.end(call, effects);
                }
            }
            other => effects.push(other),
        }
    }

    /// Lends what groups may be sent to the legs that can use it.
    pub(super) fn tend_groups(&mut self, effects: &mut Vec<Effect>) {
        for call in mem::take(&mut self.restless_groups) {
            let attached: Vec<CallId> = self
                .legs_of(call)
                .into_iter()
                .filter(|leg| {
                    let consumer = self.consumers.get(leg);
                    consumer.is_some_and(|c| c.attachment == Attachment::Attached)
                })
                .collect();
            if !attached.is_empty() {
                self.lend(call, &attached, effects);
            }
        }
    }

    fn lend(&mut self, call: CallId, attached: &[CallId], effects: &mut Vec<Effect>) {
        let Some(group) = self.groups.get(&call) else {
            return;
        };
        let has = |leg: &CallId| self.consumers.get(leg).map_or((0, 0), |c| c.assigned());
        let assigned = group.legs.values().map(has);
        let (messages, bytes) = assigned.fold((0, 0), |(m, b), (m2, b2)| (m + m2, b + b2));
        let all = (group.messages, u64::try_from(group.bytes).unwrap_or(0));
        let mut free = (all.0.saturating_sub(messages), all.1.saturating_sub(bytes));
        let waits = |leg: &&CallId| self.consumers.get(leg).is_some_and(|c| c.waits);
        let waiting: Vec<CallId> = attached.iter().filter(waits).copied().collect();
        if !waiting.is_empty() && (free.0 == 0 || free.1 == 0) {
            return self.call_back(attached, effects);
        }
        for (at, leg) in waiting.iter().enumerate() {
            let left = (waiting.len() - at) as u64;
            self.assign(
                *leg,
                (free.0.div_ceil(left), free.1.div_ceil(left)),
                &mut free,
            );
        }
        // Everybody has some, so that what comes in need not ask first.
        let legs = 2 * attached.len() as u64;
        let share = (all.0 / legs, all.1 / legs);
        for leg in attached {
            let has = self.consumers.get(leg).map_or(share, |c| c.assigned());
            let missing = (share.0.saturating_sub(has.0), share.1.saturating_sub(has.1));
            if missing.0 > share.0 / 2 || missing.1 > share.1 / 2 {
                self.assign(
                    *leg,
                    (missing.0.min(free.0), missing.1.min(free.1)),
                    &mut free,
                );
            }
        }
    }

    fn assign(&mut self, leg: CallId, (messages, bytes): (u64, u64), free: &mut (u64, u64)) {
        if messages == 0 && bytes == 0 {
            return;
        }
        if let Some(consumer) = self.consumers.get_mut(&leg) {
            consumer.credited(Credit { messages, bytes });
            consumer.waits = false;
            free.0 = free.0.saturating_sub(messages);
            free.1 = free.1.saturating_sub(bytes);
            self.restless.insert(leg);
        }
    }

    /// Wants back what legs have and do not use.
    fn call_back(&mut self, attached: &[CallId], effects: &mut Vec<Effect>) {
        for leg in attached {
            let Some(consumer) = self.consumers.get_mut(leg) else {
                continue;
            };
            let shard = consumer.shard;
            let target = self
                .shards
                .get(&shard)
                .and_then(super::shard::Shard::target);
            let is_idle =
                !consumer.waits && !consumer.is_recalling && consumer.assigned() != (0, 0);
            if let Some((node, link)) = target.filter(|_| is_idle) {
                consumer.is_recalling = true;
                effects.push(Effect::Control {
                    node,
                    link,
                    shard,
                    command: Command::Recall {
                        consumer: consumer.id,
                        generation: consumer.generation,
                    },
                });
            }
        }
    }
}

impl Group {
    fn settled(
        &mut self,
        call: CallId,
        (leg, inner): (CallId, u64),
        outcomes: Vec<Outcome>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(request) = self.requests.get_mut(&inner) else {
            return;
        };
        for (place, outcome) in request
            .places
            .remove(&leg)
            .into_iter()
            .flatten()
            .zip(outcomes)
        {
            request.outcomes[place] = outcome;
        }
        if request.places.is_empty()
            && let Some(request) = self.requests.remove(&inner)
        {
            effects.push(Effect::Settled {
                call,
                token: request.token,
                outcomes: request.outcomes,
            });
        }
    }
}

/// The name of a consumer's leg.
fn leg_id(mut consumer: ConsumerId, shard: ShardId) -> ConsumerId {
    let mark = shard.0.wrapping_add(1).to_le_bytes();
    for (byte, mark) in consumer.0.iter_mut().rev().zip(mark) {
        *byte ^= mark;
    }
    consumer
}

/// The call that an effect of a consumer is for.
fn call_of(effect: &Effect) -> Option<CallId> {
    match effect {
        Effect::Opened { call, .. }
        | Effect::Delivered { call, .. }
        | Effect::Settled { call, .. }
        | Effect::Ended { call }
        | Effect::Failed { call, .. }
        | Effect::Pause { call }
        | Effect::Resume { call } => Some(*call),
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
        | Effect::Left
        | Effect::Note(_) => None,
    }
}
