//! Subscriptions with selectors through changes of leader, lost proposals, failed reads and transactions: what matches
//! is delivered, all of it, nothing else ever is, and in the end nothing else is kept, for an absent subscriber neither.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_broker::{Broker, Clock, Credit, Effect, Input, Limits, Selector, SessionId, Terms};
use quorate_message::settings::{PartialSettings, Rule};
use quorate_message::{
    Attempt, Batch, BatchBuilder, ConsumerId, Decision, Destination, DestinationKind,
    DestinationName, Lifetime, Message, MessagePosition, Pattern, ProducerId, Publication,
    Settings, Settlement, Sharing, Start, Subscription, TransactionId, Value,
};

/// What is published has one of these as its property `n`; the last has none.
const KINDS: u8 = 4;

const SELECTORS: [&str; 4] = ["n = 0", "n <> 1", "n IS NULL OR n = 2", "FALSE"];

#[derive(Clone, Debug)]
enum Action {
    Publish(Vec<u8>),
    Prepare {
        kinds: Vec<u8>,
        settles: u8,
    },
    Finish {
        commits: bool,
    },
    Subscribe {
        key: u8,
        selector: u8,
        replays: bool,
    },
    Attach {
        key: u8,
        credit: u32,
    },
    Detach(u8),
    Accept {
        key: u8,
        most: u8,
    },
    CommitProposals(u8),
    LoseProposals,
    AnswerFetches {
        fails: bool,
    },
    Advance(u64),
    Failover {
        restarts: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => vec(0..KINDS, 1..20).prop_map(Action::Publish),
        2 => (vec(0..KINDS, 0..6), 0..4_u8)
            .prop_map(|(kinds, settles)| Action::Prepare { kinds, settles }),
        3 => any::<bool>().prop_map(|commits| Action::Finish { commits }),
        1 => (0..3_u8, 0..4_u8, any::<bool>())
            .prop_map(|(key, selector, replays)| Action::Subscribe { key, selector, replays }),
        3 => (0..2_u8, 0..12_u32).prop_map(|(key, credit)| Action::Attach { key, credit }),
        1 => (0..2_u8).prop_map(Action::Detach),
        3 => (0..2_u8, 1..8_u8).prop_map(|(key, most)| Action::Accept { key, most }),
        3 => (1..4_u8).prop_map(Action::CommitProposals),
        1 => Just(Action::LoseProposals),
        3 => any::<bool>().prop_map(|fails| Action::AnswerFetches { fails }),
        4 => (1..900_000_u64).prop_map(Action::Advance),
        1 => any::<bool>().prop_map(|restarts| Action::Failover { restarts }),
    ]
}

struct Known {
    selector: Selector,
    generation: u64,
    /// Bodies that are to come, or are pending.
    expected: BTreeSet<String>,
    /// In a consumer's hands.
    held: BTreeMap<MessagePosition, String>,
}

/// A prepared transaction: its number, what it publishes, and what it settles of which subscription.
type Prepared = (u64, Vec<(String, u8)>, Vec<(u8, MessagePosition)>);

struct World {
    leader: Broker,
    follower: Broker,
    log: BTreeMap<u64, Batch>,
    entry: u64,
    epoch: u64,
    now: u64,
    sent: u64,
    attaches: u64,
    proposals: VecDeque<Bytes>,
    fetches: Vec<Vec<MessagePosition>>,
    known: BTreeMap<u8, Known>,
    attached: BTreeMap<u8, u64>,
    prepared: Option<Prepared>,
    published: Vec<(String, u8)>,
}

fn key(number: u8) -> DestinationName {
    DestinationName::new(&format!("durable:c:{number}")).unwrap()
}

fn topic() -> Destination {
    Destination::topic(DestinationName::new("prices").unwrap())
}

fn message(body: &str, kind: u8) -> Message {
    let property = ("n".to_owned(), Value::Int(i32::from(kind)));
    Message {
        properties: (kind + 1 < KINDS).then_some(property).into_iter().collect(),
        ..Message::with_body(body.to_owned())
    }
}

fn matches(selector: &Selector, body: &str, kind: u8) -> bool {
    let mut encoded = bytes::BytesMut::new();
    message(body, kind).encode(&mut encoded).unwrap();
    selector.selects(MessagePosition::default(), &encoded)
}

fn transaction(number: u64) -> (TransactionId, Attempt) {
    let origin = ProducerId([9; 16]);
    // Every run is over by then.
    (TransactionId { origin, number }, Attempt::new(200_000, 0))
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            leader: Broker::new(Limits::default()),
            follower: Broker::new(Limits::default()),
            log: BTreeMap::new(),
            entry: 0,
            epoch: 0,
            now: 1_000_000,
            sent: 0,
            attaches: 0,
            proposals: VecDeque::new(),
            fetches: Vec::new(),
            known: BTreeMap::new(),
            attached: BTreeMap::new(),
            prepared: None,
            published: Vec::new(),
        };
        world.failover(false);
        let mut settings = PartialSettings::default();
        settings.set_text("retain_ms", "1000000000").unwrap();
        let pattern = "prices".parse().unwrap();
        let settings = Settings::with_rules(1, vec![Rule { pattern, settings }]).unwrap();
        let mut builder = BatchBuilder::persistent();
        builder.configure(&settings).unwrap();
        world.commit(builder.finish());
        world.subscribe(0, 0, false);
        world.subscribe(2, 1, false);
        world
    }

    fn tell(&mut self, input: Input) {
        let clock = Clock {
            micros: self.now,
            stamp_ms: self.now / 1000,
        };
        let mut effects = Vec::new();
        self.leader.step(clock, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Deliver {
                    consumer,
                    deliveries,
                    ..
                } => {
                    let known = self.known.get_mut(&consumer.0[0]).unwrap();
                    for delivery in deliveries {
                        let read = Message::decode(&delivery.message).unwrap();
                        let body = String::from_utf8(read.body.to_vec()).unwrap();
                        let selected = known.selector.selects(delivery.position, &delivery.message);
                        assert!(selected, "{body} is delivered and not selected");
                        assert!(
                            known.expected.contains(&body),
                            "{body} was settled, or never due"
                        );
                        let before = known.held.insert(delivery.position, body);
                        assert_eq!(before, None, "delivered to two at once");
                    }
                }
                Effect::Propose { batch } => self.proposals.push_back(batch),
                Effect::Fetch { positions } => self.fetches.push(positions),
                Effect::AttachRefused { consumer, .. } => {
                    self.attached.remove(&consumer.0[0]);
                }
                Effect::Attached { lost, .. } => assert_eq!(lost, []),
                Effect::Diverged { entry } => panic!("diverged at {entry}"),
                Effect::Applied { .. }
                | Effect::Ask { .. }
                | Effect::TransientApplied { .. }
                | Effect::Waiting { .. }
                | Effect::Recalled { .. }
                | Effect::Forward { .. }
                | Effect::Resolve { .. } => {}
            }
        }
        quorate_broker::invariant::check(&self.leader).unwrap();
    }

    fn commit(&mut self, bytes: Bytes) {
        self.entry += 1;
        let batch = Batch::parse(bytes).unwrap();
        self.log.insert(self.entry, batch.clone());
        let input = Input::Committed {
            entry: self.entry,
            stamp_ms: self.now / 1000,
            batch,
        };
        let clock = Clock {
            micros: self.now,
            stamp_ms: self.now / 1000,
        };
        self.follower.step(clock, input.clone(), &mut Vec::new());
        self.tell(input);
        assert_eq!(self.leader.digest(), self.follower.digest());
    }

    fn publish_into(&mut self, builder: &mut BatchBuilder, kinds: &[u8]) -> Vec<(String, u8)> {
        let mut published = Vec::new();
        for kind in kinds {
            self.sent += 1;
            let publication = Publication {
                destination: &topic(),
                producer: ProducerId([1; 16]),
                number: self.sent,
                priority: 4 + kind % 2,
                expires_at_ms: 0,
                is_retained: false,
            };
            let body = format!("m{}", self.sent);
            let message = message(&body, *kind);
            builder.publish_message(&publication, &message).unwrap();
            published.push((body, *kind));
        }
        published
    }

    fn due(&mut self, published: Vec<(String, u8)>) {
        for (body, kind) in &published {
            for known in self.known.values_mut() {
                if matches(&known.selector, body, *kind) {
                    known.expected.insert(body.clone());
                }
            }
        }
        self.published.extend(published);
    }

    fn subscribe(&mut self, number: u8, selector: u8, replays: bool) {
        let selector = Selector::parse(SELECTORS[usize::from(selector)]).unwrap();
        let generation = self
            .known
            .get(&number)
            .map_or(1, |known| known.generation + 1);
        let wanted = Subscription {
            pattern: Pattern::new("prices").unwrap(),
            selector: selector.text().to_owned(),
            lifetime: Lifetime::Durable,
            sharing: Sharing::Exclusive,
            client: "c".to_owned(),
            name: number.to_string(),
            owner: [0; 16],
            generation,
            wants_retained: false,
            start: match replays {
                true => Start::Position(MessagePosition::default()),
                false => Start::Next,
            },
        };
        let is_same = self
            .known
            .get(&number)
            .is_some_and(|known| known.selector == selector);
        if !is_same {
            let published = self
                .published
                .iter()
                .filter(|(body, kind)| replays && matches(&selector, body, *kind));
            let known = Known {
                expected: published.map(|(body, _)| body.clone()).collect(),
                held: BTreeMap::new(),
                generation,
                selector,
            };
            self.known.insert(number, known);
            if let Some((_, _, settles)) = &mut self.prepared {
                settles.retain(|(key, _)| *key != number);
            }
        }
        let mut builder = BatchBuilder::persistent();
        builder.subscribe(&key(number), &wanted).unwrap();
        self.commit(builder.finish());
    }

    fn attach(&mut self, number: u8, credit: u32) {
        let Some(known) = self.known.get(&number) else {
            return;
        };
        self.attaches += 1;
        self.attached.insert(number, self.attaches);
        let held = known.held.keys().copied().collect();
        self.tell(Input::Attach {
            session: SessionId(1),
            consumer: ConsumerId([number; 16]),
            generation: self.attaches,
            queue: Destination::subscription(key(number)),
            credit: Credit {
                messages: credit,
                bytes: 1_000_000,
            },
            held,
            terms: Terms::default(),
            shares_credit: false,
        });
    }

    fn prepare(&mut self, kinds: &[u8], settles: u8) {
        if self.prepared.is_some() {
            return;
        }
        let number = self.sent + 1;
        let mut builder = BatchBuilder::persistent();
        let (id, attempt) = transaction(number);
        builder.prepare((id, attempt), Some(1), 0).unwrap();
        let published = self.publish_into(&mut builder, kinds);
        let mut settled = Vec::new();
        for (key_, known) in &self.known {
            for position in known.held.keys().take(usize::from(settles)) {
                let at = (DestinationKind::Subscription, &key(*key_));
                builder
                    .settle_at(at, *position, Settlement::Accept)
                    .unwrap();
                settled.push((*key_, *position));
            }
        }
        self.sent += 1;
        if builder.len() > 1 {
            self.commit(builder.finish());
            self.prepared = Some((number, published, settled));
        }
    }

    fn finish(&mut self, commits: bool) {
        let Some((number, published, settled)) = self.prepared.take() else {
            return;
        };
        if commits {
            self.due(published);
        }
        for (key, position) in settled {
            let known = self.known.get_mut(&key).unwrap();
            if let Some(body) = known.held.remove(&position).filter(|_| commits) {
                known.expected.remove(&body);
            }
        }
        let decision = match commits {
            true => Decision::Commit,
            false => Decision::Rollback,
        };
        let (id, attempt) = transaction(number);
        let mut builder = BatchBuilder::persistent();
        builder.finish_transaction(id, attempt, decision).unwrap();
        self.commit(builder.finish());
    }

    fn accept(&mut self, number: u8, most: usize) {
        let locked: Vec<_> = self
            .prepared
            .iter()
            .flat_map(|(_, _, settled)| settled)
            .collect();
        let Some(known) = self.known.get(&number) else {
            return;
        };
        let held = known.held.iter();
        let free = held.filter(|(position, _)| !locked.contains(&&(number, **position)));
        let taken: Vec<_> = free
            .take(most)
            .map(|(at, body)| (*at, body.clone()))
            .collect();
        let mut builder = BatchBuilder::persistent();
        for (position, body) in taken {
            let at = (DestinationKind::Subscription, &key(number));
            builder.settle_at(at, position, Settlement::Accept).unwrap();
            let known = self.known.get_mut(&number).unwrap();
            known.held.remove(&position);
            known.expected.remove(&body);
        }
        if !builder.is_empty() {
            self.commit(builder.finish());
        }
    }

    fn detach(&mut self, number: u8) {
        let Some(generation) = self.attached.remove(&number) else {
            return;
        };
        // What a transaction settles is out of reach; the rest is anybody's again.
        let locked: Vec<_> = self
            .prepared
            .iter()
            .flat_map(|(_, _, settled)| settled)
            .collect();
        let known = self.known.get_mut(&number).unwrap();
        known
            .held
            .retain(|position, _| locked.contains(&&(number, *position)));
        self.tell(Input::Detach {
            session: SessionId(1),
            consumer: ConsumerId([number; 16]),
            generation,
        });
    }

    fn answer(&mut self, fails: bool) {
        for positions in std::mem::take(&mut self.fetches) {
            let read = |at: &MessagePosition| self.log[&at.entry()].message(at.ordinal()).unwrap();
            let input = match fails {
                true => Input::Fetched {
                    messages: Vec::new(),
                    missing: positions,
                },
                false => Input::Fetched {
                    messages: positions.iter().map(|at| (*at, read(at))).collect(),
                    missing: Vec::new(),
                },
            };
            self.tell(input);
        }
    }

    fn failover(&mut self, restarts: bool) {
        if restarts {
            self.leader = Broker::restore(&self.follower.checkpoint()).unwrap();
        } else {
            std::mem::swap(&mut self.leader, &mut self.follower);
            let clock = Clock {
                micros: self.now,
                stamp_ms: self.now / 1000,
            };
            self.follower.step(clock, Input::Deposed, &mut Vec::new());
        }
        self.fetches.clear();
        self.proposals.clear();
        self.epoch += 1;
        self.entry += 1;
        let (epoch, at) = (self.epoch, self.entry);
        self.tell(Input::Serving { epoch, at });
        self.attached.clear();
        for number in 0..2 {
            if self
                .known
                .get(&number)
                .is_some_and(|known| !known.held.is_empty())
            {
                // What is locked is not the consumer's to name.
                let locked = self.prepared.iter().flat_map(|(_, _, settled)| settled);
                let locked: Vec<_> = locked.map(|(_, position)| *position).collect();
                let known = self.known.get_mut(&number).unwrap();
                let kept = known.held.clone();
                known.held.retain(|position, _| !locked.contains(position));
                self.attach(number, 0);
                self.known.get_mut(&number).unwrap().held.extend(kept);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish(kinds) => {
                let mut builder = BatchBuilder::persistent();
                let published = self.publish_into(&mut builder, &kinds);
                self.due(published);
                self.commit(builder.finish());
            }
            Action::Prepare { kinds, settles } => self.prepare(&kinds, settles),
            Action::Finish { commits } => self.finish(commits),
            Action::Subscribe {
                key,
                selector,
                replays,
            } => self.subscribe(key, selector, replays),
            Action::Attach { key, credit } => {
                self.detach(key);
                let is_locked =
                    |(_, _, settled): &Prepared| settled.iter().any(|(other, _)| *other == key);
                if !self.prepared.as_ref().is_some_and(is_locked) {
                    self.attach(key, credit);
                }
            }
            Action::Detach(key) => self.detach(key),
            Action::Accept { key, most } => self.accept(key, usize::from(most)),
            Action::CommitProposals(most) => {
                for _ in 0..most {
                    if let Some(batch) = self.proposals.pop_front() {
                        self.commit(batch);
                    }
                }
            }
            Action::LoseProposals => self.proposals.clear(),
            Action::AnswerFetches { fails } => self.answer(fails),
            Action::Advance(micros) => {
                self.now += micros;
                self.tell(Input::Elapsed);
            }
            Action::Failover { restarts } => self.failover(restarts),
        }
    }

    /// Everything works from here on: what was due comes, and nothing else stays.
    fn settle_down(&mut self) {
        self.finish(true);
        for number in 0..2 {
            self.detach(number);
            self.attach(number, 60_000);
        }
        for _ in 0..40 {
            self.now += 600_000;
            self.tell(Input::Elapsed);
            while !self.fetches.is_empty() || !self.proposals.is_empty() {
                self.answer(false);
                while let Some(batch) = self.proposals.pop_front() {
                    self.commit(batch);
                }
            }
        }
        for number in [0, 1] {
            if let Some(known) = self.known.get(&number) {
                let came: BTreeSet<String> = known.held.values().cloned().collect();
                assert_eq!(came, known.expected, "of subscription {number}");
            }
        }
        for status in self.leader.statuses(DestinationKind::Subscription) {
            let known = self.known.values().zip(self.known.keys());
            let (known, _) = known
                .into_iter()
                .find(|(_, it)| key(**it) == status.name)
                .unwrap();
            assert_eq!(
                status.messages,
                known.expected.len() as u64,
                "{}",
                status.name
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_matches_is_delivered_and_kept(actions in vec(action(), 1..80)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
        }
        world.settle_down();
    }
}
