//! The naive model: queues as plain maps, everything looked at one by one, and the world that plays the parts around
//! a broker (log, sessions, consumers, clock).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use quorate_broker::{
    Broker, Clock, Credit, Delivery, Effect, Forwarded, Input, Limits, Outcomes, SessionId, Terms,
};
use quorate_message::settings::{OnFull, PartialSettings, Rule};
use quorate_message::{
    Batch, BatchBuilder, Command, ConsumerId, Destination, DestinationName, Message,
    MessagePosition, Outcome, Pattern, ProducerId, Publication, Schedule, Settings, Settlement,
};

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Publish(Vec<Sent>),
    PublishTransient(Vec<Sent>),
    Attach {
        consumer: u8,
        session: u8,
        queue: u8,
        credit: u32,
        names_held: bool,
    },
    Detach(u8),
    SessionLost(u8),
    Credit {
        consumer: u8,
        messages: u32,
        bytes: u64,
    },
    Settle {
        consumer: u8,
        settlement: u8,
        most: u8,
    },
    SettleAny {
        queue: u8,
        place: u16,
    },
    Purge(u8),
    Delete {
        queue: u8,
        with_messages: bool,
    },
    /// The queue may hold so many messages; 0: any number.
    Limit {
        queue: u8,
        most: u64,
        on_full: OnFull,
    },
    AnswerFetch {
        all: bool,
        skip: u8,
    },
    Lease(bool),
    Advance(u64),
    CommitProposals,
    Checkpoint,
    Failover {
        restarts: bool,
    },
}

/// What a producer sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) queue: u8,
    pub(crate) producer: u8,
    /// 0: a repeat, 1: with a gap, 2: the next, 3: into a gap.
    pub(crate) kind: u8,
    pub(crate) priority: u8,
    pub(crate) time: Span,
}

/// What time has to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    None,
    Lives(u64),
    Delayed(u64),
    Repeated { period_ms: u64, repeat: u32 },
}

/// A message as the model sees it.
#[derive(Clone, Debug)]
struct Stored {
    bytes: Bytes,
    count: u32,
    producer: u8,
    priority: u8,
    time: Span,
    /// When it expires; 0 for never.
    expires_at_ms: u64,
    /// Until when it waits.
    waits_until: Option<u64>,
    /// Of a repeated message: when it is due next, and how often yet.
    next_ms: u64,
    left: u32,
}

impl Stored {
    fn new(sent: Sent, bytes: Bytes, now_ms: u64) -> Self {
        let waits_until = match sent.time {
            Span::None | Span::Lives(_) => None,
            Span::Delayed(millis) => Some(now_ms + millis),
            Span::Repeated { .. } => Some(now_ms),
        };
        Self {
            bytes,
            count: 0,
            producer: sent.producer,
            priority: sent.priority,
            time: sent.time,
            expires_at_ms: expiry(sent.time, now_ms),
            waits_until,
            next_ms: now_ms,
            left: match sent.time {
                Span::Repeated { repeat, .. } => repeat + 1,
                Span::None | Span::Lives(_) | Span::Delayed(_) => 0,
            },
        }
    }

    /// Time has passed: how many copies leave, and whether the message itself does.
    fn tick(&mut self, until_ms: u64) -> (usize, bool) {
        let Span::Repeated { period_ms, .. } = self.time else {
            if self.waits_until.is_some_and(|due| due <= until_ms) {
                self.waits_until = None;
            }
            return (0, false);
        };
        let mut copies = 0;
        while self.next_ms <= until_ms {
            if self.left == 1 {
                return (copies, true);
            }
            copies += 1;
            self.left -= 1;
            self.next_ms += period_ms;
        }
        (copies, false)
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.expires_at_ms > 0 && self.expires_at_ms <= now_ms
    }
}

/// Bodies are unlike each other.
fn body_of(message: &Bytes) -> Bytes {
    Message::decode(message).unwrap().body
}

fn expiry(time: Span, now_ms: u64) -> u64 {
    match time {
        Span::Lives(millis) => now_ms + millis,
        Span::None | Span::Delayed(_) | Span::Repeated { .. } => 0,
    }
}

fn schedule(time: Span) -> Option<Schedule> {
    match time {
        Span::None | Span::Lives(_) => None,
        Span::Delayed(millis) => Some(Schedule::after(millis)),
        Span::Repeated { period_ms, repeat } => Some(Schedule {
            period_ms,
            repeat,
            ..Schedule::default()
        }),
    }
}

#[derive(Clone, Debug, Default)]
struct ModelConsumer {
    session: u8,
    generation: u64,
    queue: u8,
    /// Reached through its session now.
    is_attached: bool,
    credit: Credit,
    /// What it got and has not settled, in order.
    held: Vec<MessagePosition>,
}

#[derive(Debug)]
pub(crate) struct World {
    now: u64,
    epoch: u64,
    leader: Broker,
    follower: Broker,
    entry: u64,
    log: BTreeMap<u64, Batch>,
    queues: BTreeMap<u8, BTreeMap<MessagePosition, Stored>>,
    transient: BTreeMap<u8, BTreeMap<MessagePosition, Stored>>,
    numbers: BTreeMap<(bool, u8, u8), BTreeSet<u64>>,
    limits: BTreeMap<u8, (u64, OnFull)>,
    rules_version: u64,
    consumers: BTreeMap<u8, ModelConsumer>,
    proposals: Vec<Bytes>,
    fetches: Vec<Vec<MessagePosition>>,
    has_lease: bool,
    submissions: u64,
    /// What is on its way to another place, or back to its own: target, position, body.
    transit: Vec<(Destination, MessagePosition, Bytes)>,
    /// Where the messages are that were forwarded, by target and number.
    numbered: BTreeMap<(Destination, u64), MessagePosition>,
    /// What the broker wants stored by a target.
    forwards: Vec<(Destination, Vec<Forwarded>)>,
    /// Numbers that the queues here have stored.
    arrived: BTreeSet<(u8, u64)>,
    last_sent: BTreeMap<(u8, u8, u8, u8), MessagePosition>,
    /// Persistent messages delivered in this step: queue, how far below the highest priority, position.
    sent_now: Vec<(u8, u8, MessagePosition)>,
}

fn name(queue: u8) -> DestinationName {
    // The last is deleted when nobody uses it.
    let text = match queue {
        2 => "ID:model:2".to_owned(),
        _ => format!("queue.{queue}"),
    };
    DestinationName::new(&text).unwrap()
}

fn consumer_id(consumer: u8) -> ConsumerId {
    ConsumerId([consumer; 16])
}

fn settlement(number: u8) -> Settlement {
    match number {
        0 => Settlement::Accept,
        1 => Settlement::Release,
        2 => Settlement::Return,
        _ => Settlement::Reject,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let limits = Limits {
            read_ahead_bytes: 20_000,
            ..Limits::default()
        };
        let mut world = Self {
            now: 0,
            epoch: 0,
            leader: Broker::new(limits),
            follower: Broker::new(limits),
            entry: 0,
            log: BTreeMap::new(),
            queues: BTreeMap::new(),
            transient: BTreeMap::new(),
            numbers: BTreeMap::new(),
            limits: BTreeMap::new(),
            rules_version: 0,
            consumers: BTreeMap::new(),
            proposals: Vec::new(),
            fetches: Vec::new(),
            has_lease: true,
            submissions: 0,
            transit: Vec::new(),
            numbered: BTreeMap::new(),
            forwards: Vec::new(),
            arrived: BTreeSet::new(),
            last_sent: BTreeMap::new(),
            sent_now: Vec::new(),
        };
        world.serve();
        world
    }

    pub(crate) fn leader_checkpoint(&self) -> Vec<u8> {
        self.leader.checkpoint()
    }

    pub(crate) fn act(&mut self, action: &Action) {
        match action {
            Action::Publish(messages) => self.publish(messages, false),
            Action::PublishTransient(messages) => self.publish(messages, true),
            Action::Attach {
                consumer,
                session,
                queue,
                credit,
                names_held,
            } => {
                let credit = Credit {
                    messages: *credit,
                    bytes: u64::from(*credit) * 60,
                };
                self.attach(*consumer, *session, *queue, credit, *names_held);
            }
            Action::Detach(consumer) => self.detach(*consumer),
            Action::SessionLost(session) => self.session_lost(*session),
            Action::Credit {
                consumer,
                messages,
                bytes,
            } => {
                let credit = Credit {
                    messages: *messages,
                    bytes: *bytes,
                };
                self.credit(*consumer, credit);
            }
            Action::Settle {
                consumer,
                settlement: number,
                most,
            } => {
                self.settle_held(*consumer, settlement(*number), usize::from(*most));
            }
            Action::SettleAny { queue, place } => {
                let position = MessagePosition::new(u64::from(place / 4), place % 4);
                self.settle(*queue, &[position], Settlement::Accept);
            }
            Action::Purge(queue) => self.purge(*queue),
            Action::Delete {
                queue,
                with_messages,
            } => self.delete(*queue, *with_messages),
            Action::Limit {
                queue,
                most,
                on_full,
            } => self.limit(*queue, *most, *on_full),
            Action::AnswerFetch { all, skip } => self.answer_fetch(*all, *skip),
            Action::Lease(held) => {
                self.has_lease = *held;
                self.tell(Input::Lease { held: *held });
            }
            Action::Advance(span) => {
                self.now += span;
                self.tell(Input::Elapsed);
            }
            Action::CommitProposals => self.commit_proposals(),
            Action::Checkpoint => self.checkpoint(),
            Action::Failover { restarts } => self.failover(*restarts),
        }
        quorate_broker::invariant::check(&self.leader).unwrap();
        self.check_counts();
    }

    /// Everything works again: what is left must reach a consumer, and then nothing is left.
    pub(crate) fn drain(&mut self) {
        self.act(&Action::Lease(true));
        for consumer in 0..4 {
            self.act(&Action::Detach(consumer));
        }
        self.act(&Action::Advance(10_000_000));
        self.settle_down();
        for queue in 0..3 {
            self.act(&Action::Attach {
                consumer: queue,
                session: 0,
                queue,
                credit: 0,
                names_held: false,
            });
        }
        for round in 0..400 {
            // Mostly one message at a time: little credit must not make a queue stand still.
            let messages = if round % 4 == 3 { 50 } else { 1 };
            for queue in 0..3 {
                self.act(&Action::Credit {
                    consumer: queue,
                    messages,
                    bytes: 4_000,
                });
                self.settle_down();
                self.act(&Action::Settle {
                    consumer: queue,
                    settlement: 0,
                    most: 255,
                });
                self.settle_down();
            }
            self.act(&Action::Advance(2_000_000));
            self.settle_down();
            if self.left() == 0 {
                break;
            }
        }
        assert_eq!(self.left(), 0, "messages that no consumer gets");
        assert!(
            self.leader
                .queues()
                .all(|queue| queue.messages == 0 && queue.in_flight == 0)
        );
        assert!(!self.leader.has_live(0, self.entry));
        assert_eq!(self.leader.live_entries(0, self.entry).next(), None);
        assert_eq!(self.leader.message_count(), 0);
        assert_eq!(self.leader.digest(), self.follower.digest());
    }

    fn settle_down(&mut self) {
        for _ in 0..100 {
            let is_quiet = self.fetches.is_empty() && self.forwards.is_empty();
            if is_quiet && self.proposals.is_empty() {
                return;
            }
            self.act(&Action::AnswerFetch {
                all: true,
                skip: 255,
            });
            self.act(&Action::CommitProposals);
        }
        panic!("the broker asks and asks");
    }

    fn left(&self) -> usize {
        let queues = self.queues.values().chain(self.transient.values());
        let queued: usize = queues.map(BTreeMap::len).sum();
        queued + self.transit.len()
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one message after the other, nothing else"
    )]
    fn publish(&mut self, messages: &[Sent], is_transient: bool) {
        let mut builder = if is_transient {
            BatchBuilder::transient()
        } else {
            BatchBuilder::persistent()
        };
        let mut expected = Vec::new();
        let mut bodies = Vec::new();
        let entry = self.entry + 1;
        for (ordinal, sent) in (0..).zip(messages) {
            let Sent {
                queue,
                producer,
                kind,
                priority,
                time,
            } = sent;
            let seen = self
                .numbers
                .entry((is_transient, *queue, *producer))
                .or_default();
            let highest = seen.last().copied().unwrap_or(0);
            let number = match kind {
                0 => highest.max(1),
                1 => highest + 3,
                3 => highest.saturating_sub(1).max(1),
                _ => highest + 1,
            };
            let size = 10 + usize::from(*kind) * 15 + usize::from(*producer);
            let mut body = vec![*producer; size];
            body.extend_from_slice(&self.entry.to_le_bytes());
            body.push(u8::try_from(expected.len()).unwrap());
            let message = Message {
                priority: *priority,
                expires_at_ms: expiry(*time, self.now / 1000),
                ..Message::with_body(body)
            };
            let publication = Publication {
                destination: &Destination::queue(name(*queue)),
                producer: ProducerId([*producer; 16]),
                number,
                priority: *priority,
                expires_at_ms: message.expires_at_ms,
                is_retained: false,
            };
            let mut body = BytesMut::new();
            message.encode(&mut body).unwrap();
            let body = body.freeze();
            match schedule(*time) {
                Some(schedule) => builder.publish_scheduled(&publication, &schedule, &body),
                None => builder.publish(&publication, &body),
            }
            .unwrap();
            let outcome = match seen.contains(&number) {
                true => Outcome::Duplicate,
                false if is_transient => Outcome::Stored,
                false => self.make_room(*queue, number <= highest + 1),
            };
            if outcome == Outcome::Stored {
                let key = (is_transient, *queue, *producer);
                self.numbers.entry(key).or_default().insert(number);
                if !is_transient {
                    let stored = Stored::new(*sent, body.clone(), self.now / 1000);
                    let position = MessagePosition::new(entry, ordinal);
                    self.queues
                        .entry(*queue)
                        .or_default()
                        .insert(position, stored);
                }
            }
            expected.push(outcome);
            bodies.push((*sent, body));
        }
        let batch = Batch::parse(builder.finish()).unwrap();
        if is_transient {
            self.publish_transient(batch, &expected, bodies);
            return;
        }
        self.commit(batch, Some(&expected), None);
    }

    /// What becomes of a new message for a queue, with room made for it if need be.
    fn make_room(&mut self, queue: u8, is_next: bool) -> Outcome {
        let Some((most, on_full)) = self.limits.get(&queue).copied() else {
            return Outcome::Stored;
        };
        let messages = self.queues.entry(queue).or_default();
        let is_full = messages.len() as u64 >= most;
        match on_full {
            OnFull::Refuse if is_full => Outcome::QueueFull,
            OnFull::Block if is_full || !is_next => Outcome::Blocked,
            OnFull::Refuse | OnFull::Block | OnFull::DeadLetter => Outcome::Stored,
            OnFull::DropHead => {
                while messages.len() as u64 >= most {
                    let (dropped, _) = messages.pop_first().unwrap();
                    for known in self.consumers.values_mut() {
                        known.held.retain(|held| *held != dropped);
                    }
                }
                Outcome::Stored
            }
        }
    }

    fn limit(&mut self, queue: u8, most: u64, on_full: OnFull) {
        self.limits.remove(&queue);
        if most > 0 {
            self.limits.insert(queue, (most, on_full));
        }
        let rules = self.limits.iter().map(|(queue, (most, on_full))| Rule {
            pattern: Pattern::exact(&name(*queue)),
            settings: PartialSettings {
                max_messages: Some(*most),
                on_full: Some(*on_full),
                ..PartialSettings::default()
            },
        });
        self.rules_version += 1;
        let settings = Settings::with_rules(self.rules_version, rules).unwrap();
        let mut builder = BatchBuilder::persistent();
        builder.configure(&settings).unwrap();
        let batch = Batch::parse(builder.finish()).unwrap();
        self.commit(batch, Some(&[Outcome::Applied]), None);
    }

    fn publish_transient(
        &mut self,
        batch: Batch,
        expected: &[Outcome],
        bodies: Vec<(Sent, Bytes)>,
    ) {
        // The model learns the positions from the outcomes: they are counted from the leader's first on.
        let mut next = self.submissions;
        for ((sent, body), outcome) in bodies.into_iter().zip(expected) {
            if *outcome == Outcome::Stored {
                let position = MessagePosition::transient(self.epoch, next);
                next += 1;
                let stored = Stored::new(sent, body, self.now / 1000);
                self.transient
                    .entry(sent.queue)
                    .or_default()
                    .insert(position, stored);
            }
        }
        self.submissions = next;
        self.tell_transient(batch, expected);
    }

    fn tell_transient(&mut self, batch: Batch, expected: &[Outcome]) {
        let input = Input::Transient {
            session: SessionId(9),
            number: 77,
            batch,
        };
        let effects = self.step(input);
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::TransientApplied {
                outcomes,
                number: 77,
                ..
            } => Some(outcomes.iter().collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(answer.as_deref(), Some(expected));
        self.take(effects);
    }

    fn attach(&mut self, consumer: u8, session: u8, queue: u8, credit: Credit, names_held: bool) {
        // What it does not name goes back as if it had not been sent.
        self.last_sent.clear();
        let known = self.consumers.entry(consumer).or_default();
        known.generation += 1;
        let keeps = names_held && known.queue == queue;
        let held = if keeps {
            known.held.clone()
        } else {
            Vec::new()
        };
        known.session = session;
        known.queue = queue;
        known.is_attached = true;
        known.credit = credit;
        known.held.clone_from(&held);
        let generation = known.generation;
        let input = Input::Attach {
            session: SessionId(u64::from(session)),
            consumer: consumer_id(consumer),
            generation,
            queue: Destination::queue(name(queue)),
            credit,
            held: held.clone(),
            terms: Terms::default(),
            shares_credit: false,
        };
        let effects = self.step(input);
        let lost = effects.iter().find_map(|effect| match effect {
            Effect::Attached {
                lost,
                generation: attached,
                ..
            } if *attached == generation => Some(lost.clone()),
            _ => None,
        });
        let lost = lost.expect("every attachment is answered");
        for position in &held {
            let is_there = self.stored(queue, *position).is_some();
            assert!(
                lost.contains(position) || is_there,
                "{position} is gone and was left with a consumer"
            );
        }
        let known = self.consumers.get_mut(&consumer).unwrap();
        known.held.retain(|position| !lost.contains(position));
        self.take(effects);
    }

    fn detach(&mut self, consumer: u8) {
        let Some(known) = self.consumers.get_mut(&consumer) else {
            return;
        };
        known.is_attached = false;
        known.held.clear();
        // What goes back unsettled never reached its client.
        self.last_sent.clear();
        let known = &self.consumers[&consumer];
        let input = Input::Detach {
            session: SessionId(u64::from(known.session)),
            consumer: consumer_id(consumer),
            generation: known.generation,
        };
        self.tell(input);
    }

    fn session_lost(&mut self, session: u8) {
        for known in self
            .consumers
            .values_mut()
            .filter(|known| known.session == session)
        {
            known.is_attached = false;
        }
        self.tell(Input::SessionLost {
            session: SessionId(u64::from(session)),
        });
    }

    fn credit(&mut self, consumer: u8, credit: Credit) {
        let Some(known) = self
            .consumers
            .get_mut(&consumer)
            .filter(|known| known.is_attached)
        else {
            return;
        };
        known.credit.messages += credit.messages;
        known.credit.bytes += credit.bytes;
        let session = SessionId(u64::from(known.session));
        self.tell(Input::Credited {
            session,
            consumer: consumer_id(consumer),
            credit,
        });
    }

    fn settle_held(&mut self, consumer: u8, settlement: Settlement, most: usize) {
        let Some(known) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let queue = known.queue;
        let most = most.min(known.held.len());
        let taken: Vec<MessagePosition> = known.held.drain(..most).collect();
        let (transient, persistent): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .partition(|position| position.is_transient());
        self.settle(queue, &persistent, settlement);
        self.settle_transient(queue, &transient, settlement);
    }

    /// The model's side of a settlement: its outcome. Whoever held a message that goes back holds it no longer.
    fn settle_one(
        &mut self,
        queue: u8,
        position: MessagePosition,
        settlement: Settlement,
    ) -> Outcome {
        let queues = if position.is_transient() {
            &mut self.transient
        } else {
            &mut self.queues
        };
        let messages = queues.entry(queue).or_default();
        let Some(stored) = messages.get_mut(&position) else {
            return Outcome::UnknownMessage;
        };
        if stored.waits_until.is_some() && settlement != Settlement::Expire {
            return Outcome::UnknownMessage;
        }
        match settlement {
            Settlement::Accept | Settlement::Cancel => {
                messages.remove(&position);
            }
            Settlement::Reject | Settlement::Expire => {
                let gone = messages.remove(&position);
                self.buried(position, gone);
            }
            Settlement::Return => {
                stored.count += 1;
                if stored.count >= 7 && !position.is_transient() {
                    let gone = messages.remove(&position);
                    self.buried(position, gone);
                }
            }
            Settlement::Release => {}
        }
        for known in self.consumers.values_mut() {
            known.held.retain(|held| *held != position);
        }
        self.last_sent.clear();
        Outcome::Applied
    }

    fn settle(&mut self, queue: u8, positions: &[MessagePosition], settlement: Settlement) {
        if positions.is_empty() {
            return;
        }
        let mut builder = BatchBuilder::persistent();
        let mut expected = Vec::new();
        for position in positions {
            builder.settle(&name(queue), *position, settlement).unwrap();
            expected.push(self.settle_one(queue, *position, settlement));
        }
        self.commit(
            Batch::parse(builder.finish()).unwrap(),
            Some(&expected),
            None,
        );
    }

    fn settle_transient(
        &mut self,
        queue: u8,
        positions: &[MessagePosition],
        settlement: Settlement,
    ) {
        if positions.is_empty() {
            return;
        }
        let mut builder = BatchBuilder::transient();
        let mut expected = Vec::new();
        for position in positions {
            builder.settle(&name(queue), *position, settlement).unwrap();
            expected.push(self.settle_one(queue, *position, settlement));
        }
        self.tell_transient(Batch::parse(builder.finish()).unwrap(), &expected);
    }

    fn purge(&mut self, queue: u8) {
        let mut builder = BatchBuilder::persistent();
        builder.purge(&name(queue)).unwrap();
        let removed = self.emptied(queue);
        self.commit(
            Batch::parse(builder.finish()).unwrap(),
            Some(&[Outcome::Applied]),
            Some(removed),
        );
    }

    fn delete(&mut self, queue: u8, with_messages: bool) {
        let mut builder = BatchBuilder::persistent();
        let destination = Destination::queue(name(queue));
        builder.delete(&destination, with_messages).unwrap();
        let removed = match with_messages {
            true => self.emptied(queue),
            false => 0,
        };
        let outcome = match self.deleted(queue) {
            true => Outcome::Applied,
            false => Outcome::UnknownMessage,
        };
        self.commit(
            Batch::parse(builder.finish()).unwrap(),
            Some(&[outcome]),
            Some(removed),
        );
    }

    /// A queue that may go does, and nobody's numbers are known in it; whether it went.
    fn deleted(&mut self, queue: u8) -> bool {
        let has_messages = self
            .queues
            .get(&queue)
            .is_some_and(|queue| !queue.is_empty());
        let knows_forwarded = self.arrived.iter().any(|(at, _)| *at == queue);
        let goes = !has_messages && !knows_forwarded;
        if goes {
            self.numbers.retain(|(_, at, _), _| *at != queue);
        }
        goes
    }

    /// Of a temporary queue that only the leader's memory knew the numbers go with its last consumer.
    fn forget_unused(&mut self) {
        let is_known = self.leader.queues().any(|queue| queue.name == name(2));
        if !is_known {
            self.numbers
                .retain(|(is_transient, at, _), _| !*is_transient || *at != 2);
        }
    }

    /// All messages of a queue go; how many there were.
    fn emptied(&mut self, queue: u8) -> u64 {
        let stored = self.queues.get(&queue).map_or(0, BTreeMap::len) as u64;
        let mut removed = stored;
        let mut gone: BTreeSet<MessagePosition> = BTreeSet::new();
        if let Some(messages) = self.queues.get_mut(&queue) {
            gone.extend(std::mem::take(messages).into_keys());
        }
        if let Some(messages) = self.transient.get_mut(&queue) {
            removed += messages.len() as u64;
            gone.extend(std::mem::take(messages).into_keys());
        }
        for known in self.consumers.values_mut() {
            known.held.retain(|held| !gone.contains(held));
        }
        removed
    }

    fn checkpoint(&mut self) {
        let mut builder = BatchBuilder::persistent();
        builder.checkpoint(self.leader.last_checkpoint()).unwrap();
        self.commit(
            Batch::parse(builder.finish()).unwrap(),
            Some(&[Outcome::Applied]),
            Some(0),
        );
        let bytes = self.follower.checkpoint();
        assert_eq!(bytes, self.leader.checkpoint());
        let restored = Broker::restore(&bytes).unwrap();
        assert_eq!(restored.checkpoint(), bytes);
        // From here on the follower is one that was restored.
        self.follower = restored;
    }

    fn answer_fetch(&mut self, all: bool, skip: u8) {
        if self.fetches.is_empty() {
            return;
        }
        let count = if all { self.fetches.len() } else { 1 };
        for positions in self.fetches.drain(..count).collect::<Vec<_>>() {
            let mut messages = Vec::new();
            let mut missing = Vec::new();
            for (place, position) in positions.into_iter().enumerate() {
                if place % 5 == usize::from(skip) {
                    missing.push(position);
                } else {
                    let message = self.log[&position.entry()]
                        .message(position.ordinal())
                        .unwrap();
                    messages.push((position, message));
                }
            }
            // In two parts, as a large read is answered.
            let rest = messages.split_off(messages.len() / 2);
            self.tell(Input::Fetched {
                messages,
                missing: Vec::new(),
            });
            self.tell(Input::Fetched {
                messages: rest,
                missing,
            });
        }
    }

    fn commit_proposals(&mut self) {
        self.answer_forwards();
        for batch in std::mem::take(&mut self.proposals) {
            let batch = Batch::parse(batch).unwrap();
            let commands: Vec<_> = batch.commands().map(|(_, command)| command).collect();
            for command in commands {
                self.proposed(command, &batch);
            }
            self.commit(batch, None, None);
        }
    }

    /// The model's side of a command of the broker's own.
    fn proposed(&mut self, command: Command, batch: &Batch) {
        match command {
            Command::Settle {
                destination,
                position,
                settlement,
            } => {
                let queue =
                    (0..3).find(|queue| name(*queue) == batch.destination(destination).name);
                let queue = queue.unwrap();
                if settlement == Settlement::Expire {
                    let stored = self.stored(queue, position);
                    assert!(
                        stored.is_none_or(|stored| stored.is_over(self.now / 1000)),
                        "{position} goes before its time is over"
                    );
                    let mut consumers = self.consumers.values();
                    assert!(
                        consumers
                            .all(|known| !known.is_attached || !known.held.contains(&position)),
                        "{position} is taken from its consumer"
                    );
                } else {
                    assert_eq!(settlement, Settlement::Return);
                }
                self.settle_one(queue, position, settlement);
            }
            Command::Tick { until_ms } => {
                assert!(until_ms <= self.now / 1000);
                for (queue, messages) in &mut self.queues {
                    let own = Destination::queue(name(*queue));
                    messages.retain(|position, stored| {
                        let (copies, leaves) = stored.tick(until_ms);
                        let body = body_of(&stored.bytes);
                        let parts = std::iter::repeat_n(
                            (own.clone(), *position, body),
                            copies + usize::from(leaves),
                        );
                        self.transit.extend(parts);
                        !leaves
                    });
                }
            }
            Command::Transferred {
                destination,
                first,
                last,
            } => {
                let target = batch.destination(destination);
                for number in first..=last {
                    let position = self.numbered[&(target.clone(), number)];
                    let mut transit = self.transit.iter();
                    let place = transit.position(|(to, at, _)| (to, *at) == (target, position));
                    self.transit.remove(place.unwrap());
                }
            }
            Command::Delete {
                destination,
                with_messages,
            } => {
                assert!(!with_messages && batch.destination(destination).name == name(2));
                self.deleted(2);
            }
            // Whose the batch is; no session here names a gateway.
            Command::Origin { .. } => {}
            other => panic!("the broker proposes no {other:?}"),
        }
    }

    fn buried(&mut self, position: MessagePosition, gone: Option<Stored>) {
        if let Some(gone) = gone.filter(|_| !position.is_transient()) {
            let target = Destination::queue(DestinationName::new("ActiveMQ.DLQ").unwrap());
            self.transit.push((target, position, body_of(&gone.bytes)));
        }
    }

    /// What is on its way is stored where it belongs: the queues are here, the dead letters are not looked at.
    fn answer_forwards(&mut self) {
        for (target, messages) in std::mem::take(&mut self.forwards) {
            let outcomes = messages
                .iter()
                .map(|message| (message.number, Outcome::Stored));
            let outcomes = outcomes.collect();
            for message in &messages {
                let number = (target.clone(), message.number);
                if self.numbered.contains_key(&number) {
                    continue;
                }
                // Copies of a repeated message have one body; each is numbered once, in the order in which they left.
                let body = body_of(&message.message);
                let is_it = |(to, _, other): &&(Destination, MessagePosition, Bytes)| {
                    (to, other) == (&target, &body)
                };
                let is_numbered = |at: &MessagePosition| {
                    let mut numbered = self.numbered.iter();
                    numbered.any(|((to, _), other)| (to, other) == (&target, at))
                };
                let mut fresh = self.transit.iter().filter(is_it);
                let found = fresh.find(|(_, at, _)| !is_numbered(at));
                let found = found.or_else(|| self.transit.iter().find(is_it));
                let (_, position, _) = found.expect("only what is on its way is forwarded");
                self.numbered.insert(number, *position);
            }
            if let Some(queue) = (0..3).find(|queue| name(*queue) == target.name) {
                self.store_forwarded(queue, &messages);
            }
            self.tell(Input::Forwarded { target, outcomes });
        }
    }

    fn store_forwarded(&mut self, queue: u8, messages: &[Forwarded]) {
        let mut builder = BatchBuilder::persistent();
        let mut expected = Vec::new();
        for (ordinal, message) in (0..).zip(messages) {
            let publication = Publication {
                destination: &Destination::queue(name(queue)),
                producer: ProducerId::of_shard(1),
                number: message.number,
                priority: message.priority,
                expires_at_ms: message.expires_at_ms,
                is_retained: false,
            };
            builder.publish(&publication, &message.message).unwrap();
            if !self.arrived.insert((queue, message.number)) {
                expected.push(Outcome::Duplicate);
                continue;
            }
            expected.push(Outcome::Stored);
            let sent = Sent {
                queue,
                producer: 200,
                kind: 2,
                priority: message.priority,
                time: Span::None,
            };
            let stored = Stored::new(sent, message.message.clone(), 0);
            let position = MessagePosition::new(self.entry + 1, ordinal);
            self.queues
                .entry(queue)
                .or_default()
                .insert(position, stored);
        }
        let batch = Batch::parse(builder.finish()).unwrap();
        self.commit(batch, Some(&expected), None);
    }

    fn failover(&mut self, restarts: bool) {
        let now = self.clock();
        self.leader.step(now, Input::Deposed, &mut Vec::new());
        let old = std::mem::replace(&mut self.leader, self.follower.clone());
        self.follower = if restarts {
            Broker::restore(&old.checkpoint()).unwrap()
        } else {
            old
        };
        assert_eq!(self.leader.digest(), self.follower.digest());
        self.proposals.clear();
        self.forwards.clear();
        self.fetches.clear();
        self.transient.clear();
        self.numbers.retain(|(is_transient, _, _), _| !is_transient);
        self.submissions = 0;
        self.has_lease = true;
        for known in self.consumers.values_mut() {
            known.is_attached = false;
        }
        self.serve();
    }

    fn serve(&mut self) {
        self.epoch += 1;
        self.entry += 1;
        self.last_sent.clear();
        self.tell(Input::Serving {
            epoch: self.epoch,
            at: self.entry,
        });
    }

    fn commit(
        &mut self,
        batch: Batch,
        expected: Option<&[Outcome]>,
        expected_removed: Option<u64>,
    ) {
        self.entry += 1;
        self.log.insert(self.entry, batch.clone());
        let input = Input::Committed {
            entry: self.entry,
            stamp_ms: self.now / 1000,
            batch,
        };
        let mut silent = Vec::new();
        let now = self.clock();
        self.follower.step(now, input.clone(), &mut silent);
        assert_eq!(silent, [], "a follower asks for nothing");
        let effects = self.step(input);
        let applied = effects.iter().find_map(|effect| match effect {
            Effect::Applied {
                entry,
                outcomes,
                removed,
            } if *entry == self.entry => Some((outcomes, *removed)),
            _ => None,
        });
        let (outcomes, removed): (&Outcomes, u64) = applied.expect("the leader answers");
        if let Some(expected) = expected {
            assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);
        }
        if let Some(expected_removed) = expected_removed {
            assert_eq!(removed, expected_removed);
        }
        self.take(effects);
    }

    fn tell(&mut self, input: Input) {
        let effects = self.step(input);
        self.take(effects);
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let now = self.clock();
        self.leader.step(now, input, &mut effects);
        self.forget_unused();
        effects
    }

    fn clock(&self) -> Clock {
        Clock {
            micros: self.now,
            stamp_ms: self.now / 1000,
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Deliver {
                    session,
                    consumer,
                    generation,
                    deliveries,
                } => {
                    self.delivered(session, consumer, generation, deliveries);
                }
                Effect::Fetch { positions } => self.fetches.push(positions),
                Effect::Propose { batch } => self.proposals.push(batch),
                Effect::Diverged { entry } => panic!("replicas differ at {entry}"),
                Effect::Forward { target, messages } => self.forwards.push((target, messages)),
                Effect::Waiting { .. } | Effect::Recalled { .. } => {
                    panic!("no consumer shares its credit")
                }
                Effect::AttachRefused { reason, .. } => panic!("refused: {reason}"),
                Effect::Applied { .. }
                | Effect::TransientApplied { .. }
                | Effect::Ask { .. }
                | Effect::Resolve { .. }
                | Effect::Attached { .. } => {}
            }
        }
        self.check_turns();
    }

    /// Messages whose return is on its way through the log.
    fn returning(&self) -> BTreeSet<MessagePosition> {
        let batches = self.proposals.iter();
        let batches = batches.map(|batch| Batch::parse(batch.clone()).unwrap());
        let mut returning = BTreeSet::new();
        for batch in batches {
            for (_, command) in batch.commands() {
                if let Command::Settle { position, .. } = command {
                    returning.insert(position);
                }
            }
        }
        returning
    }

    /// Nothing was delivered in this step ahead of a message that nobody has.
    fn check_turns(&mut self) {
        let sent = std::mem::take(&mut self.sent_now);
        let returning = if sent.is_empty() {
            BTreeSet::new()
        } else {
            self.returning()
        };
        for (queue, behind, position) in sent {
            for (other, stored) in &self.queues[&queue] {
                let mut consumers = self.consumers.values();
                let is_held =
                    returning.contains(other) || consumers.any(|known| known.held.contains(other));
                let is_none = stored.waits_until.is_some() || stored.is_over(self.now / 1000);
                assert!(
                    is_none || is_held || (9 - stored.priority, *other) >= (behind, position),
                    "{position} is delivered before {other}"
                );
            }
        }
    }

    fn stored(&self, queue: u8, position: MessagePosition) -> Option<&Stored> {
        let queues = if position.is_transient() {
            &self.transient
        } else {
            &self.queues
        };
        queues
            .get(&queue)
            .and_then(|messages| messages.get(&position))
    }

    fn delivered(
        &mut self,
        session: SessionId,
        to: ConsumerId,
        generation: u64,
        deliveries: Vec<Delivery>,
    ) {
        assert!(self.has_lease, "nothing is delivered without a lease");
        let number = to.0[0];
        for delivery in deliveries {
            let position = delivery.position;
            // Only attached consumers count: what another held before a failover it may have lost.
            for (other, known) in &self.consumers {
                assert!(
                    !known.is_attached || !known.held.contains(&position),
                    "{position} goes to {number} and is with {other}"
                );
            }
            let known = self.consumers.get_mut(&number).unwrap();
            assert!(known.is_attached && SessionId(u64::from(known.session)) == session);
            assert_eq!(known.generation, generation);
            assert!(
                known.credit.messages > 0 && known.credit.bytes > 0,
                "credit is exceeded"
            );
            known.credit.messages -= 1;
            known.credit.bytes = known
                .credit
                .bytes
                .saturating_sub(delivery.message.len() as u64);
            known.held.push(position);
            let queue = known.queue;
            let stored = self.stored(queue, position);
            let stored = stored.unwrap_or_else(|| panic!("{position} is delivered and not stored"));
            assert_eq!(stored.bytes, delivery.message);
            assert_eq!(stored.waits_until, None, "{position} comes before its time");
            assert!(
                !stored.is_over(self.now / 1000),
                "{position} comes after its time"
            );
            // What a lost consumer had of the leader's memory is returned there, without a command.
            let may_be_more = position.is_transient() && delivery.count > stored.count;
            assert!(stored.count == delivery.count || may_be_more);
            assert!(delivery.count == 0 || delivery.redelivered);
            // Fresh messages of one producer come to a consumer in its order; what was given back comes again.
            let (producer, priority) = (stored.producer, stored.priority);
            let is_in_order = matches!(stored.time, Span::None | Span::Lives(_));
            if !position.is_transient() {
                self.sent_now.push((queue, 9 - priority, position));
            }
            if is_in_order && !position.is_transient() && !delivery.redelivered {
                let last = self
                    .last_sent
                    .insert((number, queue, producer, priority), position);
                assert!(
                    last.is_none_or(|last| last < position),
                    "{position} comes after {last:?}"
                );
            }
        }
    }

    fn check_counts(&self) {
        for status in self.leader.queues() {
            let queue = (0..3).find(|queue| name(*queue) == status.name).unwrap();
            let messages = self.queues.get(&queue).into_iter().flatten();
            let waiting = messages.filter(|(_, stored)| stored.waits_until.is_some());
            let waiting = waiting.count() as u64;
            let all = self.queues.get(&queue).map_or(0, BTreeMap::len) as u64;
            let stored = all - waiting;
            assert_eq!(status.scheduled, waiting);
            let transient = self.transient.get(&queue).map_or(0, BTreeMap::len) as u64;
            assert_eq!(
                (status.messages, status.non_persistent),
                (stored, transient)
            );
            let all = self.leader.browse(&status.name, None, usize::MAX);
            assert_eq!(all.len() as u64, stored + transient);
        }
        let live: BTreeSet<u64> = self
            .queues
            .values()
            .flatten()
            .map(|(position, _)| position)
            .chain(self.transit.iter().map(|(_, position, _)| position))
            .map(|position| position.entry())
            .collect();
        assert!(
            self.leader
                .live_entries(0, self.entry)
                .eq(live.iter().copied())
        );
        assert_eq!(
            self.leader.has_live(2, 5),
            live.range(2..=5).next().is_some()
        );
    }
}
