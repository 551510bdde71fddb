//! Producers: they number their messages, send them through any gateway, and send again what is not confirmed.

use std::collections::BTreeMap;

use quorate_gateway::session::{Input, Outcome, Publication};
use quorate_message::{Destination, DestinationKind, ProducerId, Schedule, TransactionId};

use super::Role;
use crate::checker::history;
use crate::cluster::Cluster;
use crate::cluster::content::{Label, content};
use crate::rng::{Rng, finish};
use crate::schedule::Moment;

/// Messages that a producer has unconfirmed.
const WINDOW: usize = 16;

/// What a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Load {
    /// Messages to queues, nothing else.
    Plain,
    /// To one queue, of all priorities.
    Urgent,
    /// To one queue, in groups.
    Grouped,
    /// To one queue, for consumers with selectors.
    Picky,
    /// To one queue, some with a time to live or a delay.
    Timed,
    /// To one queue, each delivered several times.
    Repeated,
    /// To queues that hold a bounded number: what is refused is tried again, or not.
    Bounded,
    /// To one queue, in the leader's memory only.
    Transient,
    /// As plain ones, in the leader's memory only, and none may be lost.
    Volatile,
    /// To topics and composites.
    Topics,
}

/// Sends numbered messages.
#[derive(Debug)]
pub(in crate::cluster) struct Producer {
    id: ProducerId,
    name: String,
    load: Load,
    targets: Vec<Destination>,
    next: u64,
    last: u64,
    unconfirmed: BTreeMap<u64, Sent>,
    /// Refused ones that are tried again.
    refused: Vec<u64>,
    /// The numbers sent on the present call, by ordinal.
    ordinals: Vec<u64>,
}

/// A message that was sent.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Sent {
    pub(in crate::cluster) publication: Publication,
    /// As it stands in the message.
    pub(in crate::cluster) origin: String,
    pub(in crate::cluster) invoked_us: u64,
    pub(in crate::cluster) out_of_order: bool,
    /// An earlier try may still be under way.
    is_resent: bool,
    /// The subscriptions that were open when it was sent, with how often each had been made by then.
    pub(in crate::cluster) subscribed: Vec<(usize, u64)>,
}

/// The transaction that sent a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Commit {
    pub(in crate::cluster) id: TransactionId,
    pub(in crate::cluster) begun_at: Moment,
    /// How often its client asked for it.
    pub(in crate::cluster) tries: u32,
}

/// A message of which the producer knows what became of it.
#[derive(Debug)]
pub(in crate::cluster) struct Ended {
    pub(in crate::cluster) transaction: Option<Commit>,
    pub(in crate::cluster) producer: String,
    pub(in crate::cluster) number: u64,
    pub(in crate::cluster) sent: Sent,
    pub(in crate::cluster) done_us: u64,
    pub(in crate::cluster) outcome: history::Outcome,
}

impl Sent {
    /// One without anything special.
    pub(super) fn plain(publication: Publication, origin: String, invoked_us: u64) -> Self {
        Self {
            publication,
            origin,
            invoked_us,
            out_of_order: false,
            is_resent: false,
            subscribed: Vec::new(),
        }
    }
}

impl Producer {
    pub(in crate::cluster) fn new(
        id: [u8; 16],
        name: String,
        (load, targets): (Load, Vec<Destination>),
        last: u64,
    ) -> Self {
        Self {
            id: ProducerId(id),
            name,
            load,
            targets,
            next: 1,
            last,
            unconfirmed: BTreeMap::new(),
            refused: Vec::new(),
            ordinals: Vec::new(),
        }
    }

    pub(in crate::cluster) fn is_done(&self) -> bool {
        self.next > self.last && self.unconfirmed.is_empty()
    }

    pub(in crate::cluster) fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// What was sent on a failed call may be stored in another order.
    pub(super) fn lose_order(&mut self) {
        for sent in self.unconfirmed.values_mut() {
            sent.out_of_order = true;
        }
    }

    /// When it sent a message that is not confirmed.
    pub(super) fn invoked_us(&self, producer: &str, number: u64) -> Option<u64> {
        let sent = self.unconfirmed.get(&number);
        let sent = sent.filter(|_| self.name == producer);
        sent.map(|sent| sent.invoked_us)
    }

    /// What is not confirmed when a run ends: it may be stored or not.
    pub(in crate::cluster) fn unknown(&self, now: u64) -> impl Iterator<Item = Ended> + '_ {
        self.unconfirmed.iter().map(move |(number, sent)| Ended {
            transaction: None,
            producer: self.name.clone(),
            number: *number,
            sent: sent.clone(),
            done_us: now,
            outcome: history::Outcome::Unknown,
        })
    }

    /// The next message.
    #[expect(clippy::too_many_lines, reason = "one arm per load")]
    fn compose(&mut self, rng: &mut Rng, (now, wall_ms): (u64, u64)) -> u64 {
        let number = self.next;
        self.next += 1;
        let at = usize::try_from(finish(number) % self.targets.len() as u64);
        let target = self.targets[at.expect("a small number")].clone();
        let mut label = Label::default();
        let mut origin = target.name.as_str().to_owned();
        let mut schedule = None;
        let mut also = Vec::new();
        let mut is_retained = false;
        match self.load {
            Load::Plain | Load::Bounded | Load::Transient | Load::Volatile => {}
            Load::Urgent => {
                let priority = u8::try_from(rng.below(10)).expect("a digit");
                label.priority = Some(priority);
                origin = format!("{origin}:{priority}");
            }
            Load::Grouped => {
                let group = format!("g{}", rng.below(4));
                origin = format!("{origin}:{group}");
                label.group = Some(group);
            }
            Load::Picky => label.kind = i64::try_from(rng.below(3)).ok(),
            Load::Timed => match rng.below(4) {
                0 => {
                    let delay_ms = rng.between(1, 3_000);
                    schedule = Some(Box::new(Schedule::after(delay_ms)));
                    label.kind = i64::try_from(delay_ms).ok();
                    origin = format!("{origin}:late");
                }
                1 => label.expires_at_ms = wall_ms + rng.between(20, 3_000),
                2 => label.expires_at_ms = wall_ms + 120_000,
                _ => {}
            },
            Load::Repeated => {
                schedule = Some(Box::new(Schedule {
                    delay_ms: rng.below(300),
                    period_ms: rng.between(50, 500),
                    repeat: 2,
                    cron: String::new(),
                }));
            }
            Load::Topics => {
                if target.kind == DestinationKind::Queue {
                    // A composite: the queue, and the first topic.
                    let topics = self.targets.iter();
                    also.extend(
                        topics
                            .filter(|one| one.kind == DestinationKind::Topic)
                            .take(1)
                            .cloned(),
                    );
                } else {
                    is_retained = rng.chance(1, 6);
                }
            }
        }
        let message = content(&self.name, number, &origin, &label);
        // While the policy of a full queue changes, what waits for room is overtaken.
        let out_of_order = schedule.is_some() || self.load == Load::Bounded;
        let publication = Publication {
            destination: target,
            number,
            non_persistent: matches!(self.load, Load::Transient | Load::Volatile),
            priority: label
                .priority
                .unwrap_or(quorate_message::limits::PRIORITY_DEFAULT),
            expires_at_ms: label.expires_at_ms,
            also,
            is_retained,
            schedule,
            message,
        };
        let mut sent = Sent::plain(publication, origin, now);
        sent.out_of_order = out_of_order;
        self.unconfirmed.insert(number, sent);
        number
    }
}

impl Cluster {
    pub(super) fn produce(&mut self, client: usize) {
        let now = self.now();
        let count = self.rng.between(1, 6);
        let Some((gateway, _)) = self.clients[client].connection else {
            return;
        };
        let wall_ms = self.gateways[gateway].body.clock.stamp(now).0;
        let is_calm = self.is_draining;
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        let mut numbers = Vec::new();
        // Of what was refused for want of room, one at a time; while everything else is over, until there is room.
        let refused = std::mem::take(&mut producer.refused);
        for number in refused {
            let gives_up = !is_calm && finish(number).is_multiple_of(2);
            if gives_up {
                let sent = producer.unconfirmed.remove(&number);
                let name = producer.name.clone();
                self.ended.extend(sent.map(|sent| Ended {
                    transaction: None,
                    producer: name,
                    number,
                    outcome: if sent.is_resent {
                        history::Outcome::Unknown
                    } else {
                        history::Outcome::Refused
                    },
                    sent,
                    done_us: now,
                }));
            } else {
                numbers.push(number);
            }
        }
        let first_new = numbers.len();
        for _ in 0..count {
            if producer.next > producer.last || producer.unconfirmed.len() >= WINDOW {
                break;
            }
            numbers.push(producer.compose(&mut self.rng, (now, wall_ms)));
        }
        for number in &numbers[first_new..] {
            let Some(sent) = producer.unconfirmed.get_mut(number) else {
                continue;
            };
            let topics =
                std::iter::once(&sent.publication.destination).chain(&sent.publication.also);
            let topics: Vec<_> = topics
                .filter(|one| one.kind == DestinationKind::Topic)
                .collect();
            let open = self.subscribers.iter().enumerate();
            let open = open.filter(|(_, sub)| sub.is_open);
            let open =
                open.filter(|(_, sub)| topics.iter().any(|topic| sub.pattern.matches(&topic.name)));
            sent.subscribed = open.map(|(at, sub)| (at, sub.times_made)).collect();
        }
        self.publish_numbers(client, &numbers);
    }

    /// Sends again what is not confirmed.
    pub(super) fn connect_producer(&mut self, client: usize) {
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        producer.ordinals.clear();
        producer.refused.clear();
        for sent in producer.unconfirmed.values_mut() {
            sent.is_resent = true;
        }
        let numbers: Vec<u64> = producer.unconfirmed.keys().copied().collect();
        if !numbers.is_empty() {
            self.counts.resends += 1;
            self.publish_numbers(client, &numbers);
        }
    }

    fn publish_numbers(&mut self, client: usize, numbers: &[u64]) {
        let Some((gateway, call)) = self.clients[client].connection else {
            return;
        };
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        if numbers.is_empty() {
            return;
        }
        producer.ordinals.extend(numbers);
        let messages = numbers
            .iter()
            .map(|number| Ok(producer.unconfirmed[number].publication.clone()))
            .collect();
        let input = Input::Publish {
            call,
            producer: Some(producer.id),
            messages,
            trace: None,
        };
        self.step_gateway(gateway, input);
    }

    pub(super) fn confirmed(&mut self, client: usize, first: u64, count: u32, outcome: Outcome) {
        let now = self.now();
        let Role::Producer(producer) = &mut self.clients[client].role else {
            return;
        };
        for ordinal in first..first + u64::from(count) {
            let at = usize::try_from(ordinal).expect("a small number");
            let Some(number) = producer.ordinals.get(at).copied() else {
                self.failures
                    .push(format!("a confirm for ordinal {ordinal} that was not sent"));
                return;
            };
            let is_again = producer.load == Load::Bounded
                && matches!(outcome, Outcome::QueueFull | Outcome::Blocked);
            if is_again && let Some(sent) = producer.unconfirmed.get_mut(&number) {
                sent.out_of_order = true;
                producer.refused.push(number);
                continue;
            }
            let Some(sent) = producer.unconfirmed.remove(&number) else {
                continue;
            };
            let outcome = match outcome {
                Outcome::Stored | Outcome::Duplicate => history::Outcome::Confirmed,
                Outcome::LimitReached
                | Outcome::QueueFull
                | Outcome::Blocked
                | Outcome::UnknownDestination
                | Outcome::RolledBack
                | Outcome::InDoubt
                | Outcome::Moved => history::Outcome::Refused,
                Outcome::NumberTooOld | Outcome::Applied | Outcome::UnknownMessage => {
                    history::Outcome::Unknown
                }
            };
            self.confirms += u64::from(outcome == history::Outcome::Confirmed);
            self.ended.push(Ended {
                transaction: None,
                producer: producer.name.clone(),
                number,
                sent,
                done_us: now,
                outcome,
            });
        }
    }
}
