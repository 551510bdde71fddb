//! The session machine: one for a whole gateway, owned by one task.
//!
//! This file holds its state and sends each fact to where it is thought about: topology and links in `cluster`,
//! messages and purges in `publishing`, consumers in `consuming`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use quorate_message::{ConsumerId, GatewayId, Overrides, ProducerId, Settings};

use super::{
    backlog::Backlogs,
    cluster::Node,
    consumer::Consumer,
    copying::Composite,
    diverting::Switches,
    effect::{Effect, Failure, Note},
    ending::Postponed,
    following::Following,
    forerunners::Forerunners,
    gone::Gone,
    group::Group,
    ids::{CallId, LinkId, NodeId, ShardId, Time},
    input::{Input, NodeEvent, Publication},
    publishing::Publisher,
    reporting::{Ending, Report},
    shard::Shard,
    transaction::Transaction,
    unopened::Unopened,
    unrouted::Unrouted,
};
use crate::limits::{CONSUMER_BYTES_MAX, CONSUMER_BYTES_MIN, MEMORY_OVERSHOOT, SHARD_BYTES_MIN};

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct Config {
    /// This life of the gateway: 16 random bytes, other ones at each start.
    pub incarnation: GatewayId,
    /// Under this name the gateway numbers messages whose clients have no name of their own. 16 random bytes,
    /// other ones at each start.
    pub producer: ProducerId,
    /// The same for non-persistent messages, whose numbers arrive in another order.
    pub transient_producer: ProducerId,
    /// After so many microseconds without an answer a call fails with a retryable error.
    pub deadline_micros: u64,
    /// Bytes of messages that may wait in the gateway, in all.
    pub memory_bytes: u64,
}

/// What a call is.
#[derive(Debug)]
pub(super) enum Call {
    Publishing(Publisher),
    /// Its state is in `consumers`.
    Consuming,
    Purging,
    /// Its state is in `transactions`.
    Transacting,
    /// Shards that have not answered, and how many messages the others removed, if one had it.
    Unsubscribing {
        left: usize,
        removed: Option<u64>,
        /// Its topic is on its way.
        is_moving: bool,
    },
    /// Ended or failed; the shell has not said that it is closed.
    Over,
}

/// The session machine.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) version: u64,
    pub(super) slots: Vec<ShardId>,
    pub(super) settings: Arc<Settings>,
    pub(super) overrides: Arc<Overrides>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    pub(super) calls: BTreeMap<CallId, Call>,
    pub(super) consumers: BTreeMap<CallId, Consumer>,
    pub(super) consumer_calls: BTreeMap<ConsumerId, CallId>,
    pub(super) transactions: BTreeMap<CallId, Transaction>,
    /// Consumers that may have something to say to their leader.
    pub(super) restless: BTreeSet<CallId>,
    pub(super) following: Following,
    /// Ends of subscriptions that are tried again.
    pub(super) endings: Vec<Postponed>,
    pub(super) switches: Switches,
    pub(super) groups: BTreeMap<CallId, Group>,
    /// Calls of legs, with those of their groups.
    pub(super) legs: BTreeMap<CallId, CallId>,
    pub(super) last_leg: u64,
    /// Groups whose credit may have to move.
    pub(super) restless_groups: BTreeSet<CallId>,
    /// Messages with a composite destination, by call and ordinal.
    pub(super) composites: BTreeMap<(CallId, u64), Composite>,
    /// What waits for room, by destination.
    pub(super) backlogs: Backlogs,
    pub(super) forerunners: Forerunners,
    pub(super) gone: Gone,
    /// When the present step is.
    pub(super) now: Time,
    /// Consumers that are not attached.
    pub(super) detached: BTreeSet<CallId>,
    /// What clients settled before the leader said what of theirs is lost.
    pub(super) unopened: BTreeMap<CallId, Unopened>,
    /// When it is seen whether consumers hang.
    pub(super) looks: BTreeSet<(Time, CallId)>,
    pub(super) unrouted: VecDeque<Unrouted>,
    pub(super) ending: Ending,
    /// Bytes of messages that wait, in all, and of those that wait for room.
    pub(super) bytes: u64,
    pub(super) held_back_bytes: u64,
    /// The number that the gateway gave last.
    pub(super) own_number: u64,
}

impl Core {
    /// A gateway that knows of no node and no client.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            version: 0,
            slots: Vec::new(),
            settings: Arc::default(),
            overrides: Arc::default(),
            nodes: BTreeMap::new(),
            shards: BTreeMap::new(),
            calls: BTreeMap::new(),
            consumers: BTreeMap::new(),
            consumer_calls: BTreeMap::new(),
            transactions: BTreeMap::new(),
            restless: BTreeSet::new(),
            following: Following::default(),
            endings: Vec::new(),
            switches: Switches::default(),
            groups: BTreeMap::new(),
            legs: BTreeMap::new(),
            last_leg: 0,
            restless_groups: BTreeSet::new(),
            composites: BTreeMap::new(),
            backlogs: Backlogs::default(),
            forerunners: Forerunners::default(),
            gone: Gone::default(),
            now: Time(0),
            detached: BTreeSet::new(),
            unopened: BTreeMap::new(),
            looks: BTreeSet::new(),
            unrouted: VecDeque::new(),
            ending: Ending::Running,
            bytes: 0,
            held_back_bytes: 0,
            own_number: 0,
        }
    }

    /// Takes in one fact and appends what is to be done about it.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = now;
        let from = effects.len();
        self.take(now, input, effects);
        self.regroup(from, effects);
    }

    fn take(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Topology(told) => {
                self.learn(now, &told, effects);
                self.govern(now, &told);
                self.route(now, effects);
            }
            Input::Linked { node, link } => self.linked(now, node, Some(link), effects),
            Input::LinkLost { node, link } => {
                let known = self.nodes.get(&node);
                if known.is_some_and(|node| node.link == Some(link)) {
                    self.linked(now, node, None, effects);
                }
            }
            Input::FromNode {
                node,
                link,
                shard,
                event,
            } => {
                let known = self.nodes.get(&node);
                if known.is_some_and(|node| node.link == Some(link)) {
                    self.heard(now, (node, link), shard, event, effects);
                }
            }
            Input::Publish { call, .. }
            | Input::Consume { call, .. }
            | Input::Credited { call, .. }
            | Input::Settle { call, .. }
            | Input::Purge { call, .. }
            | Input::Pause { call, .. }
            | Input::Transact { call, .. }
            | Input::Commit { call, .. }
            | Input::Unsubscribe { call, .. }
            | Input::Finished { call } => {
                if self.slots.is_empty() {
                    self.wait_for_topology(now, call, input, effects);
                } else {
                    self.called(now, input, effects);
                }
            }
            Input::Temporary {
                name,
                whose,
                is_there,
            } => self.gone.told(name, whose, is_there),
            Input::Dropped { call } => self.dropped(call),
            Input::GiveUp { call } => self.give_up(call, effects),
            Input::Leave => self.leave(),
            Input::Taken { call, bytes } => self.taken(call, bytes),
            Input::Drained => self.flush(now, effects),
            Input::Elapsed => {
                self.elapsed(now, effects);
                self.flush(now, effects);
            }
        }
    }

    /// When to come back with `Input::Elapsed` if nothing else happens before. In the past when something gathered
    /// waits for `Input::Drained`.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let deadline = self.config.deadline_micros;
        let shards = self.shards.values().flat_map(|shard| {
            let ready = shard.has_more().then_some(Time(0));
            let overdue = shard.oldest().map(|since| since.after(deadline));
            [ready, shard.pause_until(), overdue]
        });
        let consumers = self.detached.iter().flat_map(|call| {
            let consumer = self.consumers.get(call);
            let overdue = consumer.map(|c| c.detached_since.after(deadline));
            [overdue, consumer.and_then(Consumer::attach_deadline)]
        });
        let unrouted = self.unrouted.front().map(|u| u.since.after(deadline));
        let transactions = self.transaction_deadline();
        let restless = self.restless_ready().then_some(Time(0));
        shards
            .chain(consumers)
            .chain([unrouted, restless, transactions])
            .chain([self.next_look(), self.next_try()])
            .chain([self.followers_deadline(), self.endings_deadline()])
            .flatten()
            .min()
    }

    /// Bytes of messages that wait in the gateway for an answer.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.bytes
    }

    /// Consumers that are open.
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.consumers.len()
    }

    /// Carries out a client's wish; where destinations live is known.
    pub(super) fn called(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Publish {
                call,
                producer,
                messages,
                trace,
            } => self.publish(now, (call, trace), producer, messages, effects),
            Input::Consume { call, open } => self.consume(now, call, open, effects),
            Input::Credited { call, credit } => self.credited(call, credit),
            Input::Settle {
                call,
                settlement,
                positions,
                token,
            } => self.settle(now, call, settlement, (&positions, token), effects),
            Input::Purge {
                call,
                destination,
                what,
            } => self.purge(now, call, (&destination, what), effects),
            Input::Pause {
                call,
                queue,
                is_paused,
            } => self.set_paused(now, call, (&queue, is_paused), effects),
            Input::Transact {
                call,
                transaction,
                sends,
                settlements,
            } => {
                let sends = sends.into_iter().flat_map(Publication::copies).collect();
                self.transact(call, transaction, (sends, settlements), effects);
            }
            Input::Commit {
                call,
                wall_ms,
                nonce,
            } => self.commit(now, call, (wall_ms, nonce), effects),
            Input::Unsubscribe { call, key } => self.unsubscribe(now, call, &key),
            Input::Finished { call } => self.finished(call, effects),
            Input::Topology(_)
            | Input::Linked { .. }
            | Input::LinkLost { .. }
            | Input::FromNode { .. }
            | Input::Temporary { .. }
            | Input::Dropped { .. }
            | Input::GiveUp { .. }
            | Input::Leave
            | Input::Taken { .. }
            | Input::Drained
            | Input::Elapsed => unreachable!("only a client's wishes are routed"),
        }
    }

    /// Whether so many bytes more are beyond anything that back pressure explains.
    pub(super) fn is_too_much(&self, bytes: u64) -> bool {
        let most = self.config.memory_bytes.saturating_mul(MEMORY_OVERSHOOT);
        self.bytes.saturating_add(bytes) > most
    }

    /// Bytes that may wait for one shard.
    pub(super) fn shard_bytes_max(&self) -> u64 {
        let shards = self.shards.len().max(1) as u64;
        (self.config.memory_bytes / shards).max(SHARD_BYTES_MIN)
    }

    /// Bytes that may be on their way to one consumer.
    pub(super) fn window(&self) -> u64 {
        let consumers = self.consumers.len().max(1) as u64;
        (self.config.memory_bytes / consumers).clamp(CONSUMER_BYTES_MIN, CONSUMER_BYTES_MAX)
    }

    /// Sends out what was gathered.
    fn flush(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.try_again(now);
        self.tend_followers(now, effects);
        self.tend_groups(effects);
        self.begin_reports(effects);
        self.tend_consumers(now, effects);
        self.end_reports(effects);
        // Behind the report that names them as under way: one that was applied before would be so for good.
        for shard in self.shards.values_mut() {
            shard.send(effects);
        }
        self.leave_if_done(effects);
    }

    fn elapsed(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let deadline = self.config.deadline_micros;
        let until = now.0.checked_sub(deadline).map(Time);
        let ids: Vec<_> = self.shards.keys().copied().collect();
        for id in ids {
            let Some(shard) = self.shards.get_mut(&id) else {
                continue;
            };
            if shard.unpause(now) {
                self.restless.extend(shard.consumers.iter().copied());
            }
            let Some(until) = until else { continue };
            let overdue = shard.overdue(until);
            if overdue.is_empty() {
                continue;
            }
            let reason = shard.why();
            let calls = overdue.len();
            effects.push(Effect::Note(Note::Overdue { shard: id, calls }));
            for call in overdue {
                // What of a call is seen through after its end fails nobody.
                let is_open = self.calls.contains_key(&call) || self.consumers.contains_key(&call);
                if !is_open {
                    continue;
                }
                let reason = reason.clone();
                self.fail(call, Failure::Deadline { shard: id, reason }, effects);
            }
            self.let_followers_on(id);
        }
        self.elapsed_for_consumers(now, effects);
        self.look_at_consumers(now, effects);
        self.elapsed_for_transactions(now, effects);
        while let Some(waiting) = self.unrouted.front()
            && waiting.since.after(deadline) <= now
        {
            let call = waiting.call;
            self.fail(call, Failure::NoTopology, effects);
        }
    }

    /// Ends a call without success.
    pub(super) fn fail(&mut self, call: CallId, failure: Failure, effects: &mut Vec<Effect>) {
        self.forget_unrouted(call);
        self.forget_held_back(call);
        self.forget_composites(call);
        self.abandon_transaction(call);
        let is_over = matches!(self.calls.get(&call), Some(Call::Over));
        // It is not waited any longer for what the leader says of it.
        self.settle_abandoned(call);
        self.abandon_group(call);
        let is_gone = self.abandon_consumer(call);
        if !is_over && !is_gone {
            self.calls.insert(call, Call::Over);
            effects.push(Effect::Failed { call, failure });
        }
    }

    fn finished(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        match self.calls.get_mut(&call) {
            Some(Call::Publishing(publisher)) => {
                if publisher.finish() {
                    self.end(call, effects);
                }
            }
            Some(Call::Consuming) => self.finish_consumer(call, effects),
            Some(Call::Purging | Call::Transacting | Call::Unsubscribing { .. } | Call::Over) => {}
            // A call that asked for nothing.
            None => self.end(call, effects),
        }
    }

    /// Ends a call with success.
    pub(super) fn end(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        self.calls.insert(call, Call::Over);
        effects.push(Effect::Ended { call });
    }

    fn dropped(&mut self, call: CallId) {
        self.forget_unrouted(call);
        self.forget_held_back(call);
        self.forget_composites(call);
        self.abandon_transaction(call);
        if let Some(Call::Consuming) = self.calls.remove(&call) {
            self.abandon_group(call);
            self.abandon_consumer(call);
        }
        for shard in self.shards.values_mut() {
            shard.paused.remove(&call);
        }
    }

    /// Takes in what a node said on its present pair of streams.
    fn heard(
        &mut self,
        now: Time,
        (node, link): (NodeId, LinkId),
        id: ShardId,
        event: NodeEvent,
        effects: &mut Vec<Effect>,
    ) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let present = shard.is_present(node, link);
        match event {
            NodeEvent::Outcomes {
                number,
                outcomes,
                removed,
            } => {
                if let Some(batch) = shard.answered(number, Some(&outcomes), present) {
                    // The present leader may be told that this is under way: it is told anew what is.
                    if !present {
                        shard.report = Report::Due;
                    }
                    self.answered(id, batch, (&outcomes, removed), effects);
                }
            }
            NodeEvent::Malformed { number, reason } => {
                if let Some(batch) = shard.answered(number, None, present) {
                    self.malformed(id, &batch, &reason, effects);
                }
            }
            NodeEvent::NotLeading { epoch, .. } if present => {
                let reason = format!("{node} does not lead it and knows of epoch {epoch}");
                shard.refused(now, reason.into());
                self.detach_consumers(now, id);
            }
            NodeEvent::Overloaded { number, reason } if present => {
                if shard.overloaded(now, number, reason.clone()) {
                    effects.push(Effect::Note(Note::Overloaded { shard: id, reason }));
                }
            }
            NodeEvent::Attached {
                consumer,
                generation,
                lost,
            } if present => self.attached((consumer, generation), id, &lost, effects),
            NodeEvent::AttachRefused {
                consumer,
                generation,
                reason,
                is_no_subscription,
            } if present => {
                let why = (reason, is_no_subscription);
                self.attach_refused((consumer, generation), id, why, effects);
            }
            NodeEvent::Moved(who, generation) if present => {
                self.turned_away(now, (who, generation))
            }
            NodeEvent::Waiting {
                consumer,
                generation,
            } if present => self.waiting((consumer, generation)),
            NodeEvent::Recalled {
                consumer,
                generation,
                credit,
            } if present => self.recalled((consumer, generation), credit),
            NodeEvent::Deliveries { epoch, deliveries } => {
                let stale = !present || epoch < shard.epoch;
                self.deliver(id, stale, deliveries, effects);
            }
            // What an earlier leader says about leading, load or consumers is out of date.
            NodeEvent::NotLeading { .. }
            | NodeEvent::Overloaded { .. }
            | NodeEvent::Attached { .. }
            | NodeEvent::Moved(..)
            | NodeEvent::Waiting { .. }
            | NodeEvent::Recalled { .. }
            | NodeEvent::AttachRefused { .. } => {}
        }
    }
}

/// Bytes of messages.
pub(super) fn size_of<'a>(messages: impl IntoIterator<Item = &'a Publication>) -> u64 {
    let sizes = messages.into_iter().map(|m| m.message.len() as u64);
    sizes.sum()
}
