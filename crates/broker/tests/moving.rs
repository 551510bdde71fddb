//! A topic moves from one broker to another while it is published to and consumed from, with leaders that fail and answers
//! that are lost: each subscription gets each of its messages once, in order, and what the topic keeps goes along.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_broker::{
    AttachRefusal, Broker, Clock, Credit, Delivery, Effect, Forwarded, Input, Limits, Obstacle,
    Outcomes, SessionId, Standing, Terms,
};
use quorate_message::settings::{PartialSettings, Rule};
use quorate_message::{
    Batch, BatchBuilder, ConsumerId, Destination, DestinationName, GatewayId, Lifetime, Message,
    MessagePosition, Outcome, Pattern, ProducerId, Publication, Relocating, Settings, Settlement,
    Sharing, Start, Step, Subscription, Value,
};

const SOURCE: usize = 0;
const TARGET: usize = 1;

/// What happens.
#[derive(Clone, Debug)]
enum Action {
    Publish {
        priority: u8,
        is_retained: bool,
        is_cleared: bool,
    },
    Subscribe(u8),
    Unsubscribe(u8),
    /// A durable name is opened by a gateway that may know nothing of the move.
    Reopen {
        key: u8,
        at: usize,
    },
    Pull {
        key: u8,
        most: u8,
    },
    Settle {
        key: u8,
        how: u8,
    },
    Move,
    Commit(usize),
    Read(usize),
    Ask {
        arrives: bool,
        is_answered: bool,
    },
    Forward {
        arrives: bool,
        is_answered: bool,
    },
    Advance(u16),
    Fail {
        shard: usize,
        restores: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..3_u8, 0..10_u8).prop_map(|(priority, what)| Action::Publish {
            priority: 3 + priority,
            is_retained: what < 2,
            is_cleared: what == 0,
        }),
        3 => (0..4_u8).prop_map(Action::Subscribe),
        1 => (0..4_u8).prop_map(Action::Unsubscribe),
        1 => (0..4_u8, 0..2_usize).prop_map(|(key, at)| Action::Reopen { key, at }),
        4 => (0..4_u8, 1..4_u8).prop_map(|(key, most)| Action::Pull { key, most }),
        4 => (0..4_u8, 0..4_u8).prop_map(|(key, how)| Action::Settle { key, how }),
        1 => Just(Action::Move),
        6 => (0..2_usize).prop_map(Action::Commit),
        3 => (0..2_usize).prop_map(Action::Read),
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(arrives, is_answered)| Action::Ask { arrives, is_answered }),
        4 => (any::<bool>(), any::<bool>())
            .prop_map(|(arrives, is_answered)| Action::Forward { arrives, is_answered }),
        2 => prop_oneof![1..200_u16, Just(11_000)].prop_map(Action::Advance),
        1 => (0..2_usize, any::<bool>())
            .prop_map(|(shard, restores)| Action::Fail { shard, restores }),
    ]
}

fn name(text: &str) -> DestinationName {
    DestinationName::new(text).unwrap()
}

fn topic() -> Destination {
    Destination::topic(name("prices"))
}

fn key_of(key: u8) -> DestinationName {
    name(&format!("named:{key}"))
}

/// The last one has a selector.
fn subscription(key: u8, generation: u64) -> Subscription {
    Subscription {
        pattern: Pattern::new("prices").unwrap(),
        selector: if key == 3 { "odd = 1" } else { "" }.to_owned(),
        lifetime: Lifetime::Durable,
        sharing: Sharing::Exclusive,
        client: "client".to_owned(),
        name: key.to_string(),
        owner: [0; 16],
        generation,
        wants_retained: false,
        start: Start::Next,
    }
}

fn everything() -> Subscription {
    Subscription {
        wants_retained: true,
        start: Start::Time(0),
        ..subscription(9, 1)
    }
}

/// Which message it is.
fn number_of(message: &Bytes) -> u64 {
    let message = Message::decode(message).unwrap();
    u64::from_le_bytes(message.body[..8].try_into().unwrap())
}

/// A leader with its log.
struct Shard {
    id: u32,
    broker: Broker,
    entry: u64,
    epoch: u64,
    log: BTreeMap<u64, Batch>,
    proposals: Vec<Bytes>,
    fetches: Vec<Vec<MessagePosition>>,
    asks: Vec<(DestinationName, Bytes)>,
    forwards: Vec<(Destination, Vec<Forwarded>)>,
    delivered: Vec<(ConsumerId, Delivery)>,
    attached: Vec<Result<Vec<MessagePosition>, AttachRefusal>>,
    /// Consumers that were told to go elsewhere, or lost their subscription.
    turned_away: Vec<ConsumerId>,
}

impl Shard {
    fn new(id: u32) -> Self {
        let mut shard = Self {
            id,
            broker: Broker::new(Limits::default()),
            entry: 0,
            epoch: 0,
            log: BTreeMap::new(),
            proposals: Vec::new(),
            fetches: Vec::new(),
            asks: Vec::new(),
            forwards: Vec::new(),
            delivered: Vec::new(),
            attached: Vec::new(),
            turned_away: Vec::new(),
        };
        shard.serve(0);
        shard.join(0);
        shard.reported(0);
        shard.commit_proposals(0);
        shard
    }

    fn join(&mut self, now: u64) {
        let (session, gateway) = (SessionId(self.epoch), GatewayId([1; 16]));
        self.tell(now, Input::Joined { session, gateway });
    }

    fn reported(&mut self, now: u64) {
        let session = SessionId(self.epoch);
        self.tell(now, Input::Reported { session });
    }

    fn serve(&mut self, now: u64) {
        self.entry += 1;
        self.epoch += 1;
        let (epoch, at) = (self.epoch, self.entry);
        self.tell(now, Input::Serving { epoch, at });
    }

    fn fail(&mut self, now: u64, restores: bool) {
        self.tell(now, Input::Deposed);
        if restores {
            self.broker = Broker::restore(&self.broker.checkpoint()).unwrap();
        }
        self.proposals.clear();
        self.fetches.clear();
        self.asks.clear();
        self.forwards.clear();
        self.serve(now);
    }

    fn tell(&mut self, now: u64, input: Input) -> Option<Outcomes> {
        let clock = Clock {
            micros: now,
            stamp_ms: now / 1000,
        };
        let mut effects = Vec::new();
        self.broker.step(clock, input, &mut effects);
        quorate_broker::invariant::check(&self.broker).unwrap();
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Applied { outcomes, .. } => answer = Some(outcomes),
                Effect::Deliver {
                    consumer,
                    deliveries,
                    ..
                } => self
                    .delivered
                    .extend(deliveries.into_iter().map(|delivery| (consumer, delivery))),
                Effect::Attached { lost, .. } => self.attached.push(Ok(lost)),
                Effect::AttachRefused {
                    consumer, reason, ..
                } => {
                    self.attached.push(Err(reason));
                    self.turned_away.push(consumer);
                }
                Effect::Fetch { positions } => self.fetches.push(positions),
                Effect::Propose { batch } => self.proposals.push(batch),
                Effect::Forward { target, messages } => self.forwards.push((target, messages)),
                Effect::Ask { name, batch, .. } => self.asks.push((name, batch)),
                other => panic!("{other:?}"),
            }
        }
        answer
    }

    fn commit(&mut self, now: u64, batch: Bytes) -> Outcomes {
        let batch = Batch::parse(batch).unwrap();
        self.entry += 1;
        self.log.insert(self.entry, batch.clone());
        let input = Input::Committed {
            entry: self.entry,
            stamp_ms: now / 1000,
            batch,
        };
        self.tell(now, input).expect("the leader answers")
    }

    fn read(&mut self, now: u64) {
        for positions in std::mem::take(&mut self.fetches) {
            let found = positions.into_iter().map(|position| {
                let batch = &self.log[&position.entry()];
                (position, batch.message(position.ordinal()).unwrap())
            });
            let messages = found.collect();
            self.tell(
                now,
                Input::Fetched {
                    messages,
                    missing: Vec::new(),
                },
            );
        }
    }

    fn commit_proposals(&mut self, now: u64) {
        for batch in std::mem::take(&mut self.proposals) {
            self.commit(now, batch);
        }
    }
}

/// What a subscription is known to have.
#[derive(Default)]
struct Kept {
    /// In its order.
    pending: BTreeSet<u64>,
    /// They came back, and may come again, behind later ones.
    back: BTreeSet<u64>,
    /// The last of each priority that came for the first time.
    last: BTreeMap<u8, u64>,
    at: usize,
    held: Vec<(MessagePosition, u64)>,
    is_attached: bool,
}

struct World {
    now: u64,
    shards: [Shard; 2],
    generation: u64,
    published: u64,
    /// What no shard took yet, in order.
    backlog: Vec<Sent>,
    goes_to: usize,
    subscriptions: BTreeMap<u8, Kept>,
    priorities: BTreeMap<u64, u8>,
    history: BTreeSet<u64>,
    retained: Option<u64>,
    moves: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    priority: u8,
    is_retained: bool,
    is_cleared: bool,
}

impl World {
    fn new(keeps: bool) -> Self {
        let mut shards = [Shard::new(1), Shard::new(2)];
        for shard in &mut shards {
            let settings = PartialSettings {
                retain_ms: Some(if keeps { 3_600_000 } else { 0 }),
                ..PartialSettings::default()
            };
            let rule = Rule {
                pattern: Pattern::new(">").unwrap(),
                settings,
            };
            let mut builder = BatchBuilder::persistent();
            builder
                .configure(&Settings::with_rules(1, vec![rule]).unwrap())
                .unwrap();
            shard.commit(0, builder.finish());
        }
        Self {
            now: 1_000_000,
            shards,
            generation: 10,
            published: 0,
            backlog: Vec::new(),
            goes_to: SOURCE,
            subscriptions: BTreeMap::new(),
            priorities: BTreeMap::new(),
            history: BTreeSet::new(),
            retained: None,
            moves: 0,
        }
    }

    fn commit(&mut self, shard: usize, build: impl FnOnce(&mut BatchBuilder)) -> Outcome {
        let mut builder = BatchBuilder::persistent();
        build(&mut builder);
        let outcomes = self.shards[shard].commit(self.now, builder.finish());
        outcomes.iter().next().unwrap()
    }

    fn act(&mut self, action: &Action, keeps: bool) {
        match *action {
            Action::Publish {
                priority,
                is_retained,
                is_cleared,
            } => {
                self.published += 1;
                self.backlog.push(Sent {
                    number: self.published,
                    priority,
                    is_retained,
                    is_cleared,
                });
                self.flush(keeps);
            }
            Action::Subscribe(key) => self.subscribe(key),
            Action::Unsubscribe(key) => self.unsubscribe(key),
            Action::Reopen { key, at } => self.reopen(key, at),
            Action::Pull { key, most } => self.pull(key, u32::from(most)),
            Action::Settle { key, how } => self.settle(key, how),
            Action::Move if self.stays() => {
                self.moves += 1;
                let relocating = Relocating {
                    number: self.moves,
                    from: 1,
                    to: 2,
                };
                let at = topic();
                self.commit(SOURCE, |b| {
                    b.relocate(&at, Step::Leave, relocating, &[]).unwrap();
                });
            }
            Action::Move => {}
            Action::Commit(shard) => self.shards[shard].commit_proposals(self.now),
            Action::Read(shard) => self.shards[shard].read(self.now),
            Action::Ask {
                arrives,
                is_answered,
            } => self.ask(arrives, is_answered),
            Action::Forward {
                arrives,
                is_answered,
            } => self.forward(arrives, is_answered),
            Action::Advance(millis) => {
                self.now += u64::from(millis) * 1000;
                for shard in &mut self.shards {
                    shard.tell(self.now, Input::Elapsed);
                }
            }
            Action::Fail { shard, restores } => {
                self.shards[shard].fail(self.now, restores);
                self.shards[shard].join(self.now);
                let there = self.subscriptions.iter();
                let there = there.filter(|(_, kept)| kept.at == shard && kept.is_attached);
                for key in there.map(|(key, _)| *key).collect::<Vec<_>>() {
                    self.attach(key, 0);
                }
                self.shards[shard].reported(self.now);
            }
        }
        self.look();
    }

    /// Sends what waits, in order, as gateways do.
    fn flush(&mut self, keeps: bool) {
        while let Some(sent) = self.backlog.first().copied() {
            let mut message = Message {
                priority: sent.priority,
                ..Message::with_body(sent.number.to_le_bytes().to_vec())
            };
            message.properties = vec![(
                "odd".to_owned(),
                Value::Int(i32::try_from(sent.number % 2).unwrap()),
            )];
            if sent.is_cleared {
                message.body = Bytes::new();
            }
            let mut body = BytesMut::new();
            message.encode(&mut body).unwrap();
            let at = topic();
            let publication = Publication {
                destination: &at,
                producer: ProducerId([7; 16]),
                number: sent.number,
                priority: sent.priority,
                expires_at_ms: 0,
                is_retained: sent.is_retained,
            };
            let mut outcome = self.commit(self.goes_to, |b| {
                b.publish(&publication, &body).unwrap();
            });
            if outcome == Outcome::Moved && self.goes_to == SOURCE {
                self.goes_to = TARGET;
                outcome = self.commit(TARGET, |b| {
                    b.publish(&publication, &body).unwrap();
                });
            }
            if outcome == Outcome::Moved {
                return;
            }
            assert_eq!(outcome, Outcome::Stored);
            self.backlog.remove(0);
            self.priorities.insert(sent.number, sent.priority);
            if sent.is_cleared {
                // It has no number, and is not followed.
                self.retained = None;
                continue;
            }
            if keeps {
                self.history.insert(sent.number);
            }
            if sent.is_retained {
                self.retained = Some(sent.number);
            }
            for (key, kept) in &mut self.subscriptions {
                if *key != 3 || sent.number % 2 == 1 {
                    kept.pending.insert(sent.number);
                }
            }
        }
    }

    fn subscribe(&mut self, key: u8) {
        if self.subscriptions.contains_key(&key) {
            return;
        }
        self.generation += 1;
        let wanted = subscription(key, self.generation);
        // A gateway that knows of the move asks where the topic goes, others where it was.
        let order = match self.moves > 0 && key.is_multiple_of(2) {
            true => [TARGET, SOURCE],
            false => [SOURCE, TARGET],
        };
        for shard in order {
            let by_move = if shard == TARGET {
                self.moves.max(1)
            } else {
                0
            };
            let outcome = self.commit(shard, |b| {
                b.subscribe_by_move(&key_of(key), &wanted, by_move).unwrap();
            });
            if outcome == Outcome::Applied {
                let kept = Kept {
                    at: shard,
                    ..Kept::default()
                };
                self.subscriptions.insert(key, kept);
                return;
            }
            assert_eq!(outcome, Outcome::Moved);
        }
    }

    /// The topic does not move, or did not.
    fn stays(&self) -> bool {
        let status = self.shards[SOURCE].broker.relocation(&topic().name);
        status.is_none_or(|status| matches!(status.standing, Standing::Stays(_)))
    }

    /// The target knows that the topic is to come, or has come.
    fn is_told(&self) -> bool {
        self.shards[TARGET]
            .broker
            .relocation(&topic().name)
            .is_some()
    }

    fn unsubscribe(&mut self, key: u8) {
        if !self.subscriptions.contains_key(&key) {
            return;
        }
        let ends = [SOURCE, TARGET].map(|shard| {
            self.commit(shard, |b| {
                b.unsubscribe(&key_of(key), u64::MAX).unwrap();
            })
        });
        if ends.contains(&Outcome::Applied) {
            self.subscriptions.remove(&key);
        } else {
            assert!(ends.contains(&Outcome::Moved), "it is there");
        }
    }

    fn reopen(&mut self, key: u8, at: usize) {
        if !self.subscriptions.contains_key(&key) {
            return;
        }
        self.generation += 1;
        let generation = self.generation;
        self.commit(1 - at, |b| {
            let topic = topic().name;
            b.unsubscribe_unless_of(&key_of(key), generation, &topic)
                .unwrap();
        });
    }

    fn pull(&mut self, key: u8, most: u32) {
        for _ in 0..2 {
            self.generation += 1;
            let Some(kept) = self.subscriptions.get(&key) else {
                return;
            };
            // As gateways do, ahead of an attachment elsewhere than before.
            if !kept.is_attached && kept.held.is_empty() {
                let (at, wanted) = (kept.at, subscription(key, self.generation));
                let outcome = self.commit(at, |b| {
                    b.subscribe(&key_of(key), &wanted).unwrap();
                });
                if outcome == Outcome::Moved {
                    self.turn(key);
                    continue;
                }
                assert_eq!(outcome, Outcome::Applied);
            }
            if self.attach(key, most) {
                return;
            }
        }
    }

    /// Whether a consumer was let in.
    fn attach(&mut self, key: u8, most: u32) -> bool {
        self.generation += 1;
        let kept = self.subscriptions.get_mut(&key).unwrap();
        let shard = &mut self.shards[kept.at];
        shard.attached.clear();
        let input = Input::Attach {
            session: SessionId(shard.epoch),
            consumer: ConsumerId([key; 16]),
            generation: self.generation,
            queue: Destination::subscription(key_of(key)),
            credit: Credit {
                messages: most,
                bytes: u64::from(most) * 1_000_000,
            },
            held: kept.held.iter().map(|(at, _)| *at).collect(),
            terms: Terms::default(),
            shares_credit: false,
        };
        shard.tell(self.now, input);
        match shard.attached.pop().unwrap() {
            Ok(lost) => {
                assert_eq!(lost, [], "what it holds is its own");
                kept.is_attached = true;
                true
            }
            Err(AttachRefusal::Moved) => {
                assert_eq!(kept.held, [], "it settles here what it holds");
                self.turn(key);
                false
            }
            // What a gateway knows of the move tells it why.
            Err(AttachRefusal::NoSubscription) if kept.at == SOURCE && kept.held.is_empty() => {
                self.turn(key);
                false
            }
            Err(refusal) => panic!("{key} at {}: {refusal}", kept.at),
        }
    }

    /// A consumer goes where its topic goes, once that is known there.
    fn turn(&mut self, key: u8) {
        let is_told = self.is_told();
        let kept = self.subscriptions.get_mut(&key).unwrap();
        kept.is_attached = false;
        kept.at = if is_told { 1 - kept.at } else { SOURCE };
    }

    fn settle(&mut self, key: u8, how: u8) {
        let Some(kept) = self.subscriptions.get_mut(&key) else {
            return;
        };
        if kept.held.is_empty() {
            return;
        }
        let (position, number) = kept.held.remove(0);
        let settlement = match how {
            0 | 1 => Settlement::Accept,
            2 => Settlement::Release,
            _ => Settlement::Return,
        };
        if settlement == Settlement::Accept {
            kept.pending.remove(&number);
        } else {
            kept.back.insert(number);
        }
        let at = kept.at;
        let (kind, key) = (quorate_message::DestinationKind::Subscription, key_of(key));
        let outcome = self.commit(at, |b| {
            b.settle_at((kind, &key), position, settlement).unwrap();
        });
        assert_eq!(outcome, Outcome::Applied);
    }

    fn ask(&mut self, arrives: bool, is_answered: bool) {
        if self.shards[SOURCE].asks.is_empty() {
            return;
        }
        let (name, batch) = self.shards[SOURCE].asks.remove(0);
        let outcomes = arrives.then(|| self.shards[TARGET].commit(self.now, batch));
        let outcomes = outcomes.filter(|_| is_answered);
        // The answer to an earlier one counts for nothing.
        let is_newest = self.shards[SOURCE].asks.is_empty();
        if is_newest && (outcomes.is_some() || !arrives) {
            self.shards[SOURCE].tell(self.now, Input::Asked { name, outcomes });
        }
    }

    fn forward(&mut self, arrives: bool, is_answered: bool) {
        if self.shards[SOURCE].forwards.is_empty() {
            return;
        }
        let (target, messages) = self.shards[SOURCE].forwards.remove(0);
        if !arrives {
            self.shards[SOURCE].tell(self.now, Input::ForwardRefused { target });
            return;
        }
        let mut builder = BatchBuilder::persistent();
        for forwarded in &messages {
            let publication = Publication {
                destination: &target,
                producer: ProducerId::of_shard(self.shards[SOURCE].id),
                number: forwarded.number,
                priority: forwarded.priority,
                expires_at_ms: forwarded.expires_at_ms,
                is_retained: false,
            };
            let luggage = forwarded.luggage.as_deref().unwrap();
            builder
                .publish_relocated(&publication, luggage, &forwarded.message)
                .unwrap();
        }
        let outcomes = self.shards[TARGET].commit(self.now, builder.finish());
        assert!(outcomes.iter().all(Outcome::is_stored), "{outcomes:?}");
        if is_answered {
            let numbers = messages.iter().map(|forwarded| forwarded.number);
            let outcomes = numbers.zip(outcomes.iter()).collect();
            self.shards[SOURCE].tell(self.now, Input::Forwarded { target, outcomes });
        }
    }

    /// What consumers got, and whether they may.
    fn look(&mut self) {
        for at in [SOURCE, TARGET] {
            for (consumer, delivery) in std::mem::take(&mut self.shards[at].delivered) {
                let key = consumer.0[0];
                let Some(kept) = self.subscriptions.get_mut(&key) else {
                    continue;
                };
                if Message::decode(&delivery.message).unwrap().body.is_empty() {
                    self.shards[at].tell(self.now, Input::Elapsed);
                    kept.held.push((delivery.position, 0));
                    continue;
                }
                let number = number_of(&delivery.message);
                assert_eq!(at, kept.at, "{number} came from elsewhere");
                assert!(
                    kept.pending.contains(&number),
                    "{number} is not pending in {key}"
                );
                let held = kept.held.iter().any(|(_, held)| *held == number);
                assert!(!held, "{number} came twice to {key}");
                kept.held.push((delivery.position, number));
                if !kept.back.contains(&number) {
                    let priority = self.priorities[&number];
                    let last = kept.last.insert(priority, number);
                    assert!(last < Some(number), "{number} of {key} is behind {last:?}");
                }
            }
            for consumer in std::mem::take(&mut self.shards[at].turned_away) {
                if let Some(kept) = self.subscriptions.get_mut(&consumer.0[0])
                    && kept.at == at
                {
                    assert_eq!(kept.held, [], "its subscription goes only without it");
                    kept.is_attached = false;
                }
            }
        }
    }

    /// Everything that is wanted happens, until nothing is.
    fn settle_down(&mut self, keeps: bool) {
        for _ in 0..200 {
            for shard in [SOURCE, TARGET] {
                self.act(&Action::Commit(shard), keeps);
                self.act(&Action::Read(shard), keeps);
            }
            self.act(
                &Action::Ask {
                    arrives: true,
                    is_answered: true,
                },
                keeps,
            );
            self.act(
                &Action::Forward {
                    arrives: true,
                    is_answered: true,
                },
                keeps,
            );
            self.act(&Action::Advance(300), keeps);
            for key in 0..4 {
                self.act(&Action::Settle { key, how: 0 }, keeps);
            }
            self.flush(keeps);
        }
    }

    fn finish(&mut self, keeps: bool) {
        // What was given up for want of an answer begins again.
        for _ in 0..2 {
            self.act(&Action::Move, keeps);
            self.settle_down(keeps);
        }
        let standing = |shard: &Shard| {
            let status = shard.broker.relocation(&topic().name);
            status.map(|status| status.standing)
        };
        assert_eq!(standing(&self.shards[SOURCE]), Some(Standing::Gone));
        assert_eq!(standing(&self.shards[TARGET]), Some(Standing::Here));
        assert!(self.backlog.is_empty());
        assert_eq!(
            self.shards[SOURCE].broker.message_count(),
            0,
            "nothing stays behind"
        );
        assert_eq!(
            self.shards[SOURCE].broker.live_entries(0, u64::MAX).count(),
            0
        );
        for key in 0..4 {
            self.act(&Action::Pull { key, most: 250 }, keeps);
            for _ in 0..20 {
                self.act(&Action::Read(TARGET), keeps);
                self.act(&Action::Commit(TARGET), keeps);
                self.act(&Action::Advance(600), keeps);
            }
            if let Some(kept) = self.subscriptions.get(&key) {
                let held: BTreeSet<u64> = kept.held.iter().map(|(_, number)| *number).collect();
                let held: BTreeSet<u64> = held.into_iter().filter(|number| *number > 0).collect();
                assert_eq!(held, kept.pending, "subscription {key}");
            }
        }
        self.check_kept();
    }

    /// A subscription that begins with all that is kept gets it.
    fn check_kept(&mut self) {
        let wanted = everything();
        let outcome = self.commit(TARGET, |b| {
            b.subscribe(&key_of(9), &wanted).unwrap();
        });
        assert_eq!(outcome, Outcome::Applied);
        self.subscriptions.insert(
            9,
            Kept {
                is_attached: true,
                at: TARGET,
                ..Kept::default()
            },
        );
        self.pull(9, 250);
        for _ in 0..20 {
            self.shards[TARGET].commit_proposals(self.now);
            self.shards[TARGET].read(self.now);
        }
        let delivered = std::mem::take(&mut self.shards[TARGET].delivered);
        let got: Vec<u64> = delivered
            .iter()
            .filter(|(_, delivery)| !Message::decode(&delivery.message).unwrap().body.is_empty())
            .map(|(_, delivery)| number_of(&delivery.message))
            .collect();
        let mut wanted: BTreeSet<u64> = self.history.clone();
        wanted.extend(self.retained);
        assert_eq!(got.len(), wanted.len(), "{got:?} is not {wanted:?}");
        assert_eq!(got.iter().copied().collect::<BTreeSet<_>>(), wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_topic_moves_whole(actions in vec(action(), 1..150), keeps in any::<bool>()) {
        let mut world = World::new(keeps);
        for action in actions {
            world.act(&action, keeps);
        }
        world.finish(keeps);
    }
}

#[test]
fn what_is_known_of_the_subscriptions_has_a_bound() {
    let mut shard = Shard::new(1);
    let topic = topic();
    for key in 0..70 {
        let mut wanted = subscription(key, 1);
        wanted.selector = format!("a = '{}'", "x".repeat(8_000));
        let mut builder = BatchBuilder::persistent();
        builder.subscribe(&key_of(key), &wanted).unwrap();
        shard.commit(0, builder.finish());
    }
    let obstacle = Some(Obstacle::TooManySubscriptions { count: 70 });
    assert_eq!(shard.broker.obstacle(&topic.name), obstacle);
    let mut builder = BatchBuilder::persistent();
    for key in 0..10 {
        builder.unsubscribe(&key_of(key), 1).unwrap();
    }
    shard.commit(0, builder.finish());
    assert_eq!(shard.broker.obstacle(&topic.name), None);
}
