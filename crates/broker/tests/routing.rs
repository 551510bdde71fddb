//! Who gets which message, at random: consumers with selectors, groups, priorities and an exclusive one come, get credit,
//! settle and go. Whoever gets something wants it; a group's messages go to one consumer and in order; whoever has
//! credit gets whatever there is for it; nothing is lost.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_broker::{Broker, Clock, Credit, Effect, Input, Limits, Selector, SessionId, Terms};
use quorate_message::{
    Batch, BatchBuilder, ConsumerId, Destination, DestinationName, GROUP_PROPERTY, Message,
    MessagePosition, ProducerId, Publication, Settlement, Value,
};

const COLORS: [&str; 3] = ["red", "blue", "green"];
const SELECTORS: [&str; 6] = [
    "",
    "color = 'red'",
    "color = 'blue'",
    "color <> 'red'",
    "color IN ('red', 'green')",
    "color = 'none'",
];

#[derive(Clone, Copy, Debug)]
enum Action {
    /// A color, a group (0: none), whether it is kept in memory only.
    Publish(u8, u8, bool),
    Attach {
        consumer: u8,
        selector: u8,
        credit: u8,
        priority: i8,
        is_exclusive: bool,
    },
    Detach(u8),
    Credit(u8, u8),
    Settle(u8, u8, bool),
    Read,
}

fn action(groups: u8, exclusive: f64) -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0_u8..3, 0..=groups, prop::bool::weighted(0.2))
            .prop_map(|(color, group, transient)| Action::Publish(color, group, transient)),
        2 => (0_u8..4, 0_u8..6, 0_u8..4, -1_i8..2, prop::bool::weighted(exclusive)).prop_map(
            |(consumer, selector, credit, priority, is_exclusive)| Action::Attach {
                consumer, selector, credit, priority, is_exclusive,
            }
        ),
        1 => (0_u8..4).prop_map(Action::Detach),
        4 => (0_u8..4, 1_u8..5).prop_map(|(consumer, credit)| Action::Credit(consumer, credit)),
        4 => (0_u8..4, 1_u8..4, any::<bool>())
            .prop_map(|(consumer, most, accepts)| Action::Settle(consumer, most, accepts)),
        4 => Just(Action::Read),
    ]
}

#[derive(Debug)]
struct Sent {
    color: u8,
    group: u8,
    bytes: bytes::Bytes,
}

#[derive(Debug)]
struct Attached {
    selector: Option<Selector>,
    is_exclusive: bool,
    generation: u64,
    credit: u32,
    held: Vec<MessagePosition>,
}

struct World {
    broker: Broker,
    entry: u64,
    number: u64,
    generation: u64,
    stored: BTreeMap<MessagePosition, Sent>,
    consumers: BTreeMap<u8, Attached>,
    /// Whose a group is, since when its owner is there.
    owners: BTreeMap<u8, u8>,
    fetches: Vec<MessagePosition>,
    transients: u64,
}

fn queue() -> DestinationName {
    DestinationName::new("q").unwrap()
}

fn id(consumer: u8) -> ConsumerId {
    ConsumerId([consumer; 16])
}

fn at(micros: u64) -> Clock {
    Clock {
        micros,
        stamp_ms: micros / 1000,
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            broker: Broker::new(Limits::default()),
            entry: 1,
            number: 0,
            generation: 0,
            stored: BTreeMap::new(),
            consumers: BTreeMap::new(),
            owners: BTreeMap::new(),
            fetches: Vec::new(),
            transients: 0,
        };
        world.tell(Input::Serving { epoch: 1, at: 1 });
        world
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        // Late enough for whatever an earlier leader's consumers are waited for.
        self.broker.step(at(10_000_000), input, &mut effects);
        self.broker
            .step(at(20_000_000), Input::Elapsed, &mut effects);
        let mut delivered = Vec::new();
        for effect in effects {
            match effect {
                Effect::Deliver {
                    consumer,
                    deliveries,
                    ..
                } => {
                    for delivery in deliveries {
                        if delivery.group.is_some_and(|mark| mark.is_first) {
                            let group = self.stored[&delivery.position].group;
                            self.owners.insert(group, consumer.0[0]);
                        }
                        delivered.push((consumer.0[0], delivery.position));
                    }
                }
                Effect::Fetch { positions } => self.fetches.extend(positions),
                _ => {}
            }
        }
        for (to, position) in delivered {
            self.delivered(to, position);
        }
    }

    fn delivered(&mut self, to: u8, position: MessagePosition) {
        let sent = &self.stored[&position];
        let consumer = self.consumers.get_mut(&to).unwrap();
        assert!(consumer.credit > 0, "{to} has no credit for {position}");
        consumer.credit -= 1;
        consumer.held.push(position);
        let selector = consumer.selector.as_ref();
        assert!(
            selector.is_none_or(|selector| selector.selects(position, &sent.bytes)),
            "{to} does not want {position}"
        );
        if sent.group > 0 {
            let owner = self.owners[&sent.group];
            let owner_wants = self.consumers.get(&owner).is_some_and(|owner| {
                let selector = owner.selector.as_ref();
                selector.is_none_or(|selector| selector.selects(position, &sent.bytes))
            });
            assert!(
                owner == to || !owner_wants,
                "group {} is {owner}'s, {position} went to {to}",
                sent.group
            );
        }
        let mut exclusive = self.consumers.iter().filter(|(_, it)| it.is_exclusive);
        assert!(
            exclusive.next().is_none() || self.consumers[&to].is_exclusive,
            "{to} is not exclusive and got {position}"
        );
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish(color, group, is_transient) => self.publish(color, group, is_transient),
            Action::Attach {
                consumer,
                selector,
                credit,
                priority,
                is_exclusive,
            } => self.attach(consumer, selector, credit, priority, is_exclusive),
            Action::Detach(consumer) => self.detach(consumer),
            Action::Credit(consumer, credit) => self.credit(consumer, u32::from(credit)),
            Action::Settle(consumer, most, accepts) => self.settle(consumer, most, accepts),
            Action::Read => self.read(),
        }
        quorate_broker::invariant::check(&self.broker).unwrap();
    }

    fn publish(&mut self, color: u8, group: u8, is_transient: bool) {
        self.number += 1;
        let mut properties = vec![(
            "color".to_owned(),
            Value::Text(COLORS[usize::from(color)].to_owned()),
        )];
        if group > 0 {
            properties.push((GROUP_PROPERTY.to_owned(), Value::Text(group.to_string())));
        }
        let message = Message {
            properties,
            ..Message::default()
        };
        let mut builder = if is_transient {
            BatchBuilder::transient()
        } else {
            BatchBuilder::persistent()
        };
        let publication = Publication {
            destination: &Destination::queue(queue()),
            producer: ProducerId([9; 16]),
            number: self.number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        builder.publish_message(&publication, &message).unwrap();
        let batch = Batch::parse(builder.finish()).unwrap();
        let bytes = batch.message(0).unwrap();
        let sent = Sent {
            color,
            group,
            bytes,
        };
        if is_transient {
            let position = MessagePosition::transient(1, self.transients);
            self.transients += 1;
            self.stored.insert(position, sent);
            self.tell(Input::Transient {
                session: SessionId(1),
                number: 1,
                batch,
            });
        } else {
            self.entry += 1;
            self.stored
                .insert(MessagePosition::new(self.entry, 0), sent);
            self.commit(batch);
        }
    }

    fn commit(&mut self, batch: Batch) {
        let entry = self.entry;
        self.tell(Input::Committed {
            entry,
            stamp_ms: entry,
            batch,
        });
    }

    fn attach(&mut self, consumer: u8, selector: u8, credit: u8, priority: i8, is_exclusive: bool) {
        self.generation += 1;
        let selector = Selector::parse_optional(SELECTORS[usize::from(selector)]).unwrap();
        let known = self.consumers.remove(&consumer);
        let held = known.map(|known| known.held).unwrap_or_default();
        let attached = Attached {
            selector: selector.clone(),
            is_exclusive,
            credit: u32::from(credit),
            generation: self.generation,
            held: held.clone(),
        };
        self.consumers.insert(consumer, attached);
        self.tell(Input::Attach {
            session: SessionId(1),
            consumer: id(consumer),
            generation: self.generation,
            queue: Destination::queue(queue()),
            credit: Credit {
                messages: u32::from(credit),
                bytes: 1 << 20,
            },
            held,
            terms: Terms {
                selector,
                is_exclusive,
                priority,
                ..Terms::default()
            },
            shares_credit: false,
        });
    }

    fn detach(&mut self, consumer: u8) {
        if let Some(known) = self.consumers.remove(&consumer) {
            self.owners.retain(|_, owner| *owner != consumer);
            self.tell(Input::Detach {
                session: SessionId(1),
                consumer: id(consumer),
                generation: known.generation,
            });
        }
    }

    fn credit(&mut self, consumer: u8, messages: u32) {
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.credit += messages;
            self.tell(Input::Credited {
                session: SessionId(1),
                consumer: id(consumer),
                credit: Credit {
                    messages,
                    bytes: 1 << 16,
                },
            });
        }
    }

    fn settle(&mut self, consumer: u8, most: u8, accepts: bool) {
        let Some(known) = self.consumers.get_mut(&consumer) else {
            return;
        };
        let most = usize::from(most).min(known.held.len());
        let settled: Vec<MessagePosition> = known.held.drain(..most).collect();
        let settlement = if accepts {
            Settlement::Accept
        } else {
            Settlement::Release
        };
        for position in settled {
            if accepts {
                self.stored.remove(&position);
            }
            let mut builder = if position.is_transient() {
                BatchBuilder::transient()
            } else {
                BatchBuilder::persistent()
            };
            builder.settle(&queue(), position, settlement).unwrap();
            let batch = Batch::parse(builder.finish()).unwrap();
            if position.is_transient() {
                self.tell(Input::Transient {
                    session: SessionId(1),
                    number: 1,
                    batch,
                });
            } else {
                self.entry += 1;
                self.commit(batch);
            }
        }
    }

    /// Answers every read, until there is none.
    fn read(&mut self) {
        for _ in 0..200 {
            if self.fetches.is_empty() {
                self.check_nobody_waits();
                return;
            }
            let wanted: BTreeSet<MessagePosition> =
                std::mem::take(&mut self.fetches).into_iter().collect();
            let messages = wanted.iter().filter_map(|position| {
                let sent = self.stored.get(position)?;
                Some((*position, sent.bytes.clone()))
            });
            let messages = messages.collect();
            self.tell(Input::Fetched {
                messages,
                missing: Vec::new(),
            });
        }
        panic!("the broker reads and reads");
    }

    /// Whoever has credit got all that there is for it.
    fn check_nobody_waits(&self) {
        let held: BTreeSet<MessagePosition> = self
            .consumers
            .values()
            .flat_map(|consumer| consumer.held.iter().copied())
            .collect();
        if self
            .consumers
            .values()
            .any(|consumer| consumer.is_exclusive)
        {
            return;
        }
        for (position, sent) in self.stored.iter().filter(|(it, _)| !held.contains(it)) {
            let wants = |consumer: &Attached| {
                let selector = consumer.selector.as_ref();
                selector.is_none_or(|selector| selector.selects(*position, &sent.bytes))
            };
            let owner = self.owners.get(&sent.group).filter(|owner| {
                let owner = self.consumers.get(owner);
                owner.is_some_and(wants)
            });
            for (name, consumer) in &self.consumers {
                let may = owner.is_none_or(|owner| owner == name) && wants(consumer);
                assert!(
                    !may || consumer.credit == 0,
                    "{name} has credit and does not get {position} ({})",
                    COLORS[usize::from(sent.color)]
                );
            }
        }
    }

    /// In the end one comes who wants everything.
    fn drain(&mut self) {
        for consumer in 0..4 {
            self.detach(consumer);
        }
        self.attach(0, 0, 0, 0, false);
        for _ in 0..500 {
            if self.stored.is_empty() {
                break;
            }
            self.credit(0, 3);
            self.read();
            self.settle(0, 255, true);
        }
        assert!(self.stored.is_empty(), "left: {:?}", self.stored.keys());
        quorate_broker::invariant::check(&self.broker).unwrap();
    }
}

fn play(actions: &[Action]) {
    let mut world = World::new();
    for action in actions {
        world.act(*action);
    }
    world.read();
    world.drain();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn selectors_and_priorities(actions in prop::collection::vec(action(0, 0.0), 1..70)) {
        play(&actions);
    }

    #[test]
    fn groups_among_them(actions in prop::collection::vec(action(4, 0.0), 1..70)) {
        play(&actions);
    }

    #[test]
    fn exclusive_ones_among_them(actions in prop::collection::vec(action(2, 0.3), 1..70)) {
        play(&actions);
    }
}
