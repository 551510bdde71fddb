//! Consumers of topics: subscribed before they are attached, over several shards with one credit.

use quorate_message::{Destination, DestinationKind, Lifetime, Pattern, Sharing, Start};
use quorate_message::{Subscription, subscription_key};

use super::*;

const OTHER: ShardId = ShardId(2);

/// Two shards, led by A, that share the slots.
pub(super) fn two_shards() -> Bench {
    let mut bench = Bench::bare();
    let mut topology = topology(1, 1, Some(NODE_A));
    let other = TopologyShard {
        id: OTHER,
        ..topology.shards[0].clone()
    };
    topology.shards.push(other);
    for slot in topology.slots.iter_mut().step_by(2) {
        *slot = OTHER;
    }
    bench.step(Input::Topology(topology));
    bench.link(NODE_A, 1);
    bench
}

fn open(pattern: &str, lifetime: Lifetime, messages: u64) -> OpenConsumer {
    let key = subscription_key("named", "c", "s").unwrap();
    OpenConsumer {
        consumer: CONSUMER,
        queue: Destination::subscription(key),
        subscription: Some(Box::new(Subscription {
            pattern: Pattern::new(pattern).unwrap(),
            selector: String::new(),
            lifetime,
            sharing: Sharing::Exclusive,
            client: "c".to_owned(),
            name: "s".to_owned(),
            owner: [0; 16],
            generation: 0,
            wants_retained: false,
            start: Start::Next,
        })),
        held: Vec::new(),
        terms: quorate_message::Terms::default(),
        credit: Credit {
            messages,
            bytes: 1 << 20,
        },
        wall_micros: 500,
    }
}

/// A durable subscriber of this topic.
pub(super) fn durable(topic: &str) -> OpenConsumer {
    open(topic, Lifetime::Durable, 10)
}

impl Bench {
    fn consume(&mut self, open: OpenConsumer) -> Vec<Effect> {
        let mut effects = self.step(Input::Consume { call: CALL, open });
        effects.extend(self.step(Input::Elapsed));
        effects
    }

    fn hear_from(&mut self, shard: ShardId, event: NodeEvent) -> Vec<Effect> {
        self.step(Input::FromNode {
            node: NODE_A,
            link: LinkId(1),
            shard,
            event,
        })
    }

    /// Answers every batch among the effects, and returns what follows.
    fn answer(&mut self, effects: &[Effect], outcome: Outcome) -> Vec<Effect> {
        let mut follows = Vec::new();
        for effect in effects {
            let (shard, number) = match effect {
                Effect::Control {
                    shard,
                    command: Command::Submit { number, .. },
                    ..
                }
                | Effect::Submit { shard, number, .. } => (*shard, number.0),
                _ => continue,
            };
            follows.extend(self.hear_from(shard, all(number, outcome)));
        }
        follows
    }
}

/// Attachments that are asked for: shard, consumer, generation, credit.
fn attached(effects: &[Effect]) -> Vec<(ShardId, ConsumerId, Generation, u64)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Control {
                shard,
                command:
                    Command::Attach {
                        consumer,
                        generation,
                        credit,
                        queue,
                        ..
                    },
                ..
            } => {
                assert_eq!(queue.kind, DestinationKind::Subscription);
                Some((*shard, *consumer, *generation, credit.messages))
            }
            _ => None,
        })
        .collect()
}

fn lent(effects: &[Effect]) -> Vec<(ShardId, u64)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Control {
                shard,
                command: Command::Credit { credit, .. },
                ..
            } => Some((*shard, credit.messages)),
            _ => None,
        })
        .collect()
}

fn recalled(effects: &[Effect]) -> Vec<ShardId> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Control {
                shard,
                command: Command::Recall { .. },
                ..
            } => Some(*shard),
            _ => None,
        })
        .collect()
}

/// Opened over both shards; the legs.
fn opened(bench: &mut Bench, messages: u64) -> Vec<(ShardId, ConsumerId, Generation, u64)> {
    let effects = bench.consume(open("prices.>", Lifetime::Durable, messages));
    let effects = bench.answer(&effects, Outcome::Applied);
    let legs = attached(&effects);
    assert_eq!(legs.len(), 2, "one for each shard");
    let mut told = Vec::new();
    for (shard, consumer, generation, _) in &legs {
        told.extend(bench.hear_from(
            *shard,
            NodeEvent::Attached {
                consumer: *consumer,
                generation: *generation,
                lost: Vec::new(),
            },
        ));
    }
    let opened = told.iter().filter(|effect| match effect {
        Effect::Opened { call, consumer, .. } => (*call, *consumer) == (CALL, CONSUMER),
        _ => false,
    });
    assert_eq!(opened.count(), 1, "once, when both are attached");
    legs
}

#[test]
fn a_consumer_is_attached_when_its_subscription_is_committed() {
    let mut bench = two_shards();
    let effects = bench.consume(open("prices", Lifetime::Durable, 10));
    assert!(attached(&effects).is_empty());
    let batches = commands(&effects);
    assert_eq!(
        batches.len(),
        2,
        "made here, ended in the other shard: {batches:?}"
    );
    let effects = bench.answer(&effects, Outcome::Applied);
    assert_eq!(attached(&effects).len(), 1);
}

#[test]
fn credit_for_one_message_goes_to_the_shard_that_has_it() {
    let mut bench = two_shards();
    let legs = opened(&mut bench, 1);
    assert!(
        legs.iter().all(|leg| leg.3 == 0),
        "lent only where one waits"
    );
    let (shard, consumer, generation, _) = legs[0];
    let waits = |(_, consumer, generation, _)| NodeEvent::Waiting {
        consumer,
        generation,
    };
    let effects = bench.hear_from(shard, waits(legs[0]));
    assert_eq!(lent(&effects), [(shard, 1)]);
    // The other one waits as well: the credit is called back, and, being used, does not come back.
    let effects = bench.hear_from(legs[1].0, waits(legs[1]));
    assert_eq!(recalled(&effects), [shard]);
    let message = StoredDelivery {
        consumer,
        generation,
        ..delivery(0, 7)
    };
    let event = NodeEvent::Deliveries {
        epoch: Epoch(1),
        deliveries: vec![message],
    };
    let mut effects = bench.hear_from(shard, event);
    effects.extend(bench.hear_from(
        shard,
        NodeEvent::Recalled {
            consumer,
            generation,
            credit: Credit::default(),
        },
    ));
    assert!(lent(&effects).is_empty(), "the client has its one message");
    let is_for_call =
        |effect: &Effect| matches!(effect, Effect::Delivered { call, .. } if *call == CALL);
    assert!(effects.iter().any(is_for_call));
    // More credit goes to the one that still waits.
    let effects = bench.step(Input::Credited {
        call: CALL,
        credit: Credit {
            messages: 1,
            bytes: 0,
        },
    });
    assert_eq!(lent(&effects), [(legs[1].0, 1)]);
}

#[test]
fn unused_credit_moves_to_where_a_message_waits() {
    let mut bench = two_shards();
    let legs = opened(&mut bench, 1);
    let (first, second) = (legs[0], legs[1]);
    let waits = |(_, consumer, generation, _)| NodeEvent::Waiting {
        consumer,
        generation,
    };
    bench.hear_from(first.0, waits(first));
    let effects = bench.hear_from(second.0, waits(second));
    assert_eq!(recalled(&effects), [first.0]);
    let effects = bench.hear_from(
        first.0,
        NodeEvent::Recalled {
            consumer: first.1,
            generation: first.2,
            credit: Credit {
                messages: 1,
                bytes: 1 << 20,
            },
        },
    );
    assert_eq!(lent(&effects), [(second.0, 1)]);
}

#[test]
fn a_settlement_over_two_shards_is_answered_once() {
    let mut bench = two_shards();
    let legs = opened(&mut bench, 100);
    for (shard, consumer, generation, _) in &legs {
        let message = StoredDelivery {
            consumer: *consumer,
            generation: *generation,
            ..delivery(0, 7)
        };
        let event = NodeEvent::Deliveries {
            epoch: Epoch(1),
            deliveries: vec![message],
        };
        bench.hear_from(*shard, event);
    }
    let effects = bench.step(Input::Settle {
        call: CALL,
        settlement: Settlement::Accept,
        positions: vec![
            (OTHER, position(7)),
            (SHARD, position(9)),
            (SHARD, position(7)),
        ],
        token: 5,
    });
    let effects = bench.answer(&effects, Outcome::Applied);
    let settled: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Settled {
                call,
                token,
                outcomes,
            } => Some((*call, *token, outcomes.clone())),
            _ => None,
        })
        .collect();
    let outcomes = vec![Outcome::Applied, Outcome::UnknownMessage, Outcome::Applied];
    assert_eq!(settled, [(CALL, 5, outcomes)]);
}

#[test]
fn a_composite_destination_is_confirmed_when_all_have_it() {
    let mut bench = two_shards();
    let names = ["a", "b", "c", "d"].map(|name| DestinationName::new(name).unwrap());
    let mut message = publication(1);
    message.destination = Destination::queue(names[0].clone());
    message.also = vec![
        Destination::topic(names[1].clone()),
        Destination::queue(names[2].clone()),
        Destination::queue(names[3].clone()),
    ];
    let effects = bench.step(Input::Publish {
        call: CALL,
        producer: Some(ProducerId([9; 16])),
        messages: vec![Ok(message)],
        trace: None,
    });
    let sent = submitted(&effects);
    assert_eq!(sent.len(), 2, "to both shards");
    let follows = bench.answer(&effects[..1], Outcome::Stored);
    let follows = [follows, bench.answer(&effects[1..], Outcome::Stored)];
    let confirmed: Vec<_> = follows.iter().map(|effects| confirms(effects)).collect();
    assert_eq!(confirmed.concat(), [(0, 1, Outcome::Stored)]);
    assert!(!confirmed[1].is_empty(), "by the last answer");
}

#[test]
fn a_live_subscription_that_is_gone_is_made_again() {
    let mut bench = two_shards();
    let effects = bench.consume(open("prices", Lifetime::Live, 10));
    let effects = bench.answer(&effects, Outcome::Applied);
    let (shard, consumer, generation, _) = attached(&effects)[0];
    let mut effects = bench.hear_from(
        shard,
        NodeEvent::AttachRefused {
            consumer,
            generation,
            reason: "gone".into(),
            is_no_subscription: true,
        },
    );
    effects.extend(bench.step(Input::Elapsed));
    let effects = bench.answer(&effects, Outcome::Applied);
    assert_eq!(attached(&effects).len(), 1);
}

#[test]
fn a_subscriber_that_names_what_is_of_another_shard_makes_and_ends_nothing_there() {
    let mut bench = two_shards();
    let mut wrong = open("prices", Lifetime::Durable, 1);
    let home = bench
        .core
        .shard_of(&DestinationName::new("prices").unwrap());
    let other = match home {
        Some(SHARD) => OTHER,
        _ => SHARD,
    };
    wrong.held = vec![(other, position(7))];
    let effects = bench.consume(wrong);
    let (shard, consumer, generation, _) = attached(&effects)[0];
    assert_eq!(shard, other);
    // At home, what is there of another topic under this name.
    bench.answer(&effects, Outcome::UnknownMessage);
    let event = NodeEvent::AttachRefused {
        consumer,
        generation,
        reason: "it is not there".into(),
        is_no_subscription: true,
    };
    let mut effects = bench.hear_from(other, event);
    effects.extend(bench.step(Input::Elapsed));
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Control {
            shard,
            command: Command::Submit { .. },
            ..
        } => Some(*shard),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [home.unwrap()], "{effects:?}");
}

#[test]
fn what_a_transaction_settles_of_several_shards_is_out_of_the_consumers_hands() {
    let mut bench = two_shards();
    let legs = opened(&mut bench, 10);
    let (shard, consumer, generation, _) = legs[0];
    let message = StoredDelivery {
        consumer,
        generation,
        ..delivery(0, 7)
    };
    let event = NodeEvent::Deliveries {
        epoch: Epoch(1),
        deliveries: vec![message],
    };
    bench.hear_from(shard, event);
    bench.step(Input::Transact {
        call: CallId(5),
        transaction: quorate_message::TransactionId {
            origin: ProducerId([8; 16]),
            number: 1,
        },
        sends: Vec::new(),
        settlements: vec![TransactedSettlement {
            consumer: Some(CONSUMER),
            destination: open(">", Lifetime::Durable, 0).queue,
            settlement: Settlement::Accept,
            positions: vec![(shard, position(7))],
        }],
    });
    let settle = |bench: &mut Bench| {
        let effects = bench.step(Input::Settle {
            call: CALL,
            settlement: Settlement::Accept,
            positions: vec![(shard, position(7))],
            token: 3,
        });
        let settled = bench.answer(&effects, Outcome::Applied);
        let outcomes = effects
            .iter()
            .chain(&settled)
            .find_map(|effect| match effect {
                Effect::Settled { outcomes, .. } => Some(outcomes.clone()),
                _ => None,
            });
        outcomes.expect("answered")
    };
    assert_eq!(settle(&mut bench), [Outcome::UnknownMessage]);
    // Rolled back, it is the consumer's again.
    bench.step(Input::Dropped { call: CallId(5) });
    assert_eq!(settle(&mut bench), [Outcome::Applied]);
}
