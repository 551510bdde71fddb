//! Looks over the shoulder of leaders: what they send, and whether their brokers are sound.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::{ConsumerId, MessagePosition, TransactionId};
use quorate_replication::ShardId;
use quorate_storage_node::shard::Shard;
use quorate_storage_node::shard::effect::{Act, BrowsePage, SessionEvent};

use crate::checker::history::{Outcome, Record};
use crate::cluster::Cluster;
use crate::cluster::client::{Role, place_at};
use crate::cluster::content::{Named, name, named};
use crate::cluster::handover::Seen;
use crate::schedule::Moment;

/// Of so many steps of shards one is looked at closely.
const STEPS: u64 = 64;
/// And one so closely that everything is checked.
const ALL_STEPS: u64 = 1_024;
/// Messages of a queue that are looked at.
const LOOKED_AT: usize = 64;
/// Queues whose messages go out in their turn, whoever takes them.
const IN_TURN: [&str; 3] = ["queue.0", "urgent", "ops"];

/// What leaders were seen to do.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// When each delivery was sent: shard, position, consumer, generation.
    pub(super) sent: BTreeMap<(u32, u64, ConsumerId, u64), Moment>,
    /// How often each message of a queue that moves, or of a subscription whose topic does, was sent, by subscriber, producer
    /// and number: at the other shard it has another position.
    roaming: BTreeMap<(Option<usize>, String, u64), u32>,
    /// Whose consumers were whose, those of clients that died included.
    pub(super) subscribers: BTreeMap<ConsumerId, usize>,
    /// The latest wall clock that a leader of each shard sent messages by.
    newest_ms: BTreeMap<ShardId, u64>,
    /// Messages sent although their time was over for another leader: shard, position.
    pub(super) passed_over: BTreeSet<(u32, u64)>,
    /// When a leader had each transaction prepared last.
    pub(super) prepared: BTreeMap<TransactionId, Moment>,
}

impl Watched {
    /// A message was sent that may be at another position of another shard later.
    pub(super) fn note_roaming(&mut self, subscriber: Option<usize>, message: Named) {
        let key = (subscriber, message.producer, message.number);
        *self.roaming.entry(key).or_default() += 1;
    }

    /// Whether a message at a position that it keeps was sent more than once, to whomever.
    pub(super) fn was_sent(&self, shard: u32, position: u64) -> bool {
        let first = (shard, position, ConsumerId::default(), 0);
        let last = (shard, position, ConsumerId([u8::MAX; 16]), u64::MAX);
        self.sent.range(first..=last).count() > 1
    }

    /// The same of one that does not.
    pub(super) fn has_roamed(&self, subscriber: Option<usize>, message: &Named) -> bool {
        let key = (subscriber, message.producer.clone(), message.number);
        self.roaming.get(&key).is_some_and(|sent| *sent > 1)
    }
}

/// The first messages of each queue that wait to be sent.
pub(super) type Heads = Vec<(&'static str, Vec<MessagePosition>)>;

impl Cluster {
    /// What waits to be sent, before a step that is looked at.
    pub(super) fn heads(&mut self, node: usize, shard: ShardId) -> Option<Heads> {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS) || self.options.is_damaging() {
            return None;
        }
        let process = self.nodes[node].process.as_ref()?;
        let runtime = process.shards.get(&shard)?;
        if !runtime.shard.is_serving() {
            return None;
        }
        if self.steps.is_multiple_of(ALL_STEPS)
            && let Err(wrong) = quorate_broker::invariant::check(runtime.shard.broker())
        {
            self.failures.push(format!("node {node} {shard}: {wrong}"));
        }
        Some(
            IN_TURN
                .map(|queue| (queue, waiting(&runtime.shard, queue)))
                .to_vec(),
        )
    }

    /// What the replica that serves knows of gateways, and what is prepared in it.
    pub(super) fn look_at_leader(&mut self, node: usize, shard: ShardId) {
        let now = self.now();
        let process = self.nodes[node].process.as_ref();
        let Some(runtime) = process.and_then(|process| process.shards.get(&shard)) else {
            return;
        };
        if !runtime.shard.is_serving() {
            return self.handover.is_idle(node, shard);
        }
        let broker = runtime.shard.broker();
        let seen = Seen {
            node,
            shard,
            applied: broker.applied(),
            attached: broker.gateways().collect(),
            giving_up: broker.gateways_given_up().collect(),
        };
        let prepared = broker.prepared_transactions();
        self.watched.prepared.extend(prepared.map(|id| (id, now)));
        let wrong = self.handover.look_at(seen, now);
        self.failures.extend(wrong);
    }

    /// A step sent messages: none of them goes before one that waited already and still does.
    pub(super) fn look_at_turns(
        &mut self,
        node: usize,
        shard: ShardId,
        heads: &Heads,
        acts: &[Act],
    ) {
        let process = self.nodes[node].process.as_ref();
        let Some(runtime) = process.and_then(|process| process.shards.get(&shard)) else {
            return;
        };
        let broker = runtime.shard.broker();
        let mut sent = Vec::new();
        for act in acts {
            if let Act::ToSession {
                event: SessionEvent::Deliver { deliveries, .. },
                ..
            } = act
            {
                sent.extend(deliveries.iter().map(|delivery| delivery.position));
            }
        }
        for (queue, before) in heads {
            let turns = broker.browse(&name(queue), None, 4 * LOOKED_AT);
            let place = |position: &MessagePosition| turns.iter().position(|one| one == position);
            let passed = before.iter().find(|head| {
                let waits = !broker.is_in_flight(&name(queue), **head);
                let turn = place(head).filter(|_| waits);
                turn.is_some_and(|turn| sent.iter().filter_map(place).any(|other| other > turn))
            });
            if let Some(passed) = passed {
                self.failures.push(format!(
                    "out of turn: {shard} sent a message of {queue} before {passed}, which waited"
                ));
            }
        }
    }

    /// What a message says must fit who got it, and when.
    pub(super) fn look_at_message(&mut self, client: usize, message: &Named) {
        let Role::Consumer(consumer) = &self.clients[client].role else {
            return;
        };
        let fits = match consumer
            .terms
            .selector
            .as_ref()
            .map(|selector| selector.text())
        {
            Some("kind = 0") => message.kind == Some(0),
            Some("kind = 1") => message.kind == Some(1),
            Some(_) => message.kind.is_none_or(|kind| kind > 1),
            None => true,
        };
        if !fits {
            self.failures.push(format!(
                "not selected: {}#{} of kind {:?} came to client {client}",
                message.producer, message.number, message.kind
            ));
        }
        if let Some((reason, at_ms, expiry_ms)) = &message.death {
            self.counts.dead_letters += 1;
            if reason == "expired" && at_ms < expiry_ms {
                self.failures.push(format!(
                    "expired early: {}#{} died at {at_ms} and was to expire at {expiry_ms}",
                    message.producer, message.number
                ));
            }
        }
    }

    /// A leader sends a message: not before its delay, not after its time.
    pub(super) fn look_at_time(&mut self, node: usize, shard: ShardId, event: &SessionEvent) {
        let SessionEvent::Deliver { deliveries, .. } = event else {
            return;
        };
        let process = self.nodes[node].process.as_ref();
        let Some(runtime) = process.and_then(|process| process.shards.get(&shard)) else {
            return;
        };
        let stamp_ms = runtime.shard.stamp().0;
        let newest_ms = self.watched.newest_ms.entry(shard).or_insert(stamp_ms);
        *newest_ms = stamp_ms.max(*newest_ms);
        let newest_ms = *newest_ms;
        for delivery in deliveries {
            let message = named(&delivery.message);
            // Its time is over for a leader that had a later clock: that one may have passed it over.
            if (1..=newest_ms).contains(&message.expires_at_ms) {
                self.watched
                    .passed_over
                    .insert((shard.0, delivery.position.value()));
            }
            if message.expires_at_ms > 0 && message.expires_at_ms < stamp_ms {
                self.failures.push(format!(
                    "sent late: {}#{} expired at {} and was sent at {stamp_ms}",
                    message.producer, message.number, message.expires_at_ms
                ));
            }
            let is_late = message.origin.ends_with(":late") && message.death.is_none();
            let stored = self.judge.stamp_of(shard, delivery.position.entry());
            if let (true, Some(delay_ms), Some(stored_ms)) = (is_late, message.kind, stored) {
                let due_ms = stored_ms + u64::try_from(delay_ms).unwrap_or(0);
                if self.judge.newest_stamp() < due_ms {
                    self.failures.push(format!(
                        "sent early: {}#{} is due at {due_ms} and was sent by {}",
                        message.producer,
                        message.number,
                        self.judge.newest_stamp()
                    ));
                }
            }
        }
    }

    /// A page of a queue: nothing in it was accepted for good, and all of it was sent.
    pub(super) fn look_at_page(&mut self, query: u64, page: &BrowsePage) {
        let BrowsePage::Messages { messages, .. } = page else {
            return;
        };
        let Some(asked_us) = self.browses.remove(&query) else {
            return;
        };
        self.counts.browsed += messages.len() as u64;
        for one in messages {
            let message = named(&one.message);
            let place = place_at(&message.origin, "ops");
            let is_over = self.history.records.iter().any(|record| match record {
                Record::Settle(settle) => {
                    settle.accepted
                        && settle.outcome == Outcome::Confirmed
                        && settle.done_us < asked_us
                        && settle.queue == place
                        && settle.producer == message.producer
                        && settle.number == message.number
                }
                Record::Publish(_)
                | Record::Delivery(_)
                | Record::Drained(_)
                | Record::Kept(_)
                | Record::Transaction(_) => false,
            });
            if is_over || message.number == 0 {
                self.failures.push(format!(
                    "browsed: {}#{} is shown and was accepted or never sent",
                    message.producer, message.number
                ));
            }
        }
    }
}

/// The first messages of a queue that wait and are in nobody's hands.
fn waiting(shard: &Shard, queue: &str) -> Vec<MessagePosition> {
    let broker = shard.broker();
    let queue = name(queue);
    let turns = broker.browse(&queue, None, LOOKED_AT).into_iter();
    let turns = turns.filter(|position| !position.is_transient());
    turns
        .filter(|position| !broker.is_in_flight(&queue, *position))
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::content::{Label, content};

    /// What was sent once comes in order wherever it is: only what did not arrive is excused.
    #[test]
    fn a_message_of_a_queue_that_moves_is_excused_when_it_was_sent_before() {
        let message = |number| named(&content("s8", number, "roamer", &Label::default()));
        let mut watched = Watched::default();
        for number in [1, 2, 2] {
            watched.note_roaming(None, message(number));
        }
        assert!(!watched.has_roamed(None, &message(1)));
        assert!(watched.has_roamed(None, &message(2)));
        assert!(!watched.has_roamed(None, &message(3)));
        assert!(!watched.has_roamed(Some(0), &message(2)), "it is another's");
    }
}
