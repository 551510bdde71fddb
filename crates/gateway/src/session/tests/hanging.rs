//! Consumers that hang.

use quorate_message::{
    Lifetime, Pattern, Sharing, Start, Subscription, Terms,
    settings::{PartialSettings, Rule},
};

use super::{consuming::*, *};

/// A picture in which these patterns have acknowledgement time-outs.
fn patience(version: u64, rules: &[(&str, u64)]) -> Topology {
    let rules = rules.iter().map(|(pattern, millis)| Rule {
        pattern: Pattern::new(pattern).unwrap(),
        settings: PartialSettings {
            ack_timeout_ms: Some(*millis),
            ..PartialSettings::default()
        },
    });
    Topology {
        settings: Some(Arc::new(Settings::with_rules(version, rules).unwrap())),
        ..topology(version, version, Some(NODE_A))
    }
}

fn failures(effects: &[Effect]) -> Vec<&Failure> {
    let failed = effects.iter().filter_map(|effect| match effect {
        Effect::Failed { failure, .. } => Some(failure),
        _ => None,
    });
    failed.collect()
}

fn all_settlements(effects: &[Effect]) -> Vec<(u64, Settlement)> {
    let batches = commands(effects).into_iter();
    batches
        .filter(|command| matches!(command, Command::Submit { .. }))
        .flat_map(|command| settlements(command).1)
        .map(|(position, settlement)| (position.value() / 1024, settlement))
        .collect()
}

fn pass(bench: &mut Bench, millis: u64) -> Vec<Effect> {
    let until = bench.now.after(millis * 1_000);
    let mut effects = Vec::new();
    while let Some(at) = bench.core.next_deadline().filter(|at| *at <= until) {
        bench.now = bench.now.max(at);
        effects.extend(bench.step(Input::Elapsed));
    }
    bench.now = until;
    effects
}

fn patient_bench(millis: u64) -> Bench {
    let mut bench = attached_bench();
    bench.step(Input::Topology(Topology {
        shards: Vec::new(),
        ..patience(2, &[("orders", millis)])
    }));
    bench
}

#[test]
fn a_consumer_that_hangs_is_ended_and_what_it_held_too_long_counts_as_failed_with() {
    let mut bench = patient_bench(1_000);
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5, 6]));
    assert!(failures(&pass(&mut bench, 600)).is_empty());
    bench.hear(NODE_A, 1, deliveries(1, 101, &[7]));
    let effects = pass(&mut bench, 500);
    assert_eq!(
        failures(&effects),
        [&Failure::Hangs {
            queue: Destination::queue(queue()),
            position: (SHARD, position(5)),
            patience_ms: 1_000,
        }]
    );
    assert_eq!(
        all_settlements(&effects),
        [
            (5, Settlement::Return),
            (6, Settlement::Return),
            (7, Settlement::Release)
        ]
    );
    // Nothing more comes to it, and it is detached once that is in the log.
    assert!(delivered(&bench.hear(NODE_A, 1, deliveries(1, 101, &[8]))).is_empty());
    assert!(settled(&settle(&mut bench, Settlement::Accept, &[5], 3)).is_empty());
    let number = effects.iter().find_map(|effect| match effect {
        Effect::Control {
            command: Command::Submit { number, .. },
            ..
        } => Some(number.0),
        _ => None,
    });
    let effects = bench.hear(NODE_A, 1, all(number.unwrap(), Outcome::Applied));
    assert!(
        commands(&effects)
            .iter()
            .any(|command| matches!(command, Command::Detach { .. }))
    );
    assert_eq!(bench.core.consumers(), 0);
}

#[test]
fn who_settles_in_time_is_left_alone_however_long_it_takes_in_all() {
    let mut bench = patient_bench(1_000);
    for entry in 5..30 {
        bench.hear(NODE_A, 1, deliveries(1, 101, &[entry]));
        assert!(failures(&pass(&mut bench, 900)).is_empty());
        let effects = settle(&mut bench, Settlement::Accept, &[entry], 0);
        let (number, _) = settlements(commands(&effects)[0]);
        bench.hear(NODE_A, 1, all(number, Outcome::Applied));
    }
}

#[test]
fn a_settlement_that_waits_for_its_shard_is_no_hanging() {
    let mut bench = patient_bench(1_000);
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    settle(&mut bench, Settlement::Accept, &[5], 0);
    assert!(failures(&pass(&mut bench, 5_000)).is_empty());
}

#[test]
fn the_time_goes_on_over_a_change_of_leader() {
    let mut bench = patient_bench(1_000);
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    pass(&mut bench, 500);
    bench.step(Input::Topology(topology(3, 2, Some(NODE_B))));
    bench.hear(NODE_B, 2, attached(102, &[]));
    let effects = pass(&mut bench, 600);
    assert_eq!(failures(&effects).len(), 1);
    assert_eq!(all_settlements(&effects), [(5, Settlement::Return)]);
}

#[test]
fn a_time_out_that_is_taken_back_ends_nobody() {
    let mut bench = patient_bench(1_000);
    bench.hear(NODE_A, 1, deliveries(1, 101, &[5]));
    bench.step(Input::Topology(patience(3, &[("orders", 0)])));
    assert!(failures(&pass(&mut bench, 5_000)).is_empty());
    // And one that comes later counts from when the message came.
    bench.step(Input::Topology(patience(4, &[("orders", 1_000)])));
    assert_eq!(failures(&pass(&mut bench, 100)).len(), 1);
}

#[test]
fn a_subscription_goes_by_its_topic_and_one_with_wildcards_by_what_covers_all_its_topics() {
    for (pattern, rule, hangs) in [
        ("prices", "prices", true),
        ("prices", "orders", false),
        ("prices.>", "prices.>", true),
        ("prices.>", "prices.eu", false),
    ] {
        let mut bench = Bench::linked();
        bench.step(Input::Topology(patience(2, &[(rule, 1_000)])));
        let effects = bench.step(Input::Consume {
            call: CALL,
            open: OpenConsumer {
                consumer: CONSUMER,
                queue: Destination::subscription(DestinationName::new("live:x").unwrap()),
                subscription: Some(Box::new(Subscription {
                    pattern: Pattern::new(pattern).unwrap(),
                    selector: String::new(),
                    lifetime: Lifetime::Live,
                    sharing: Sharing::Exclusive,
                    client: String::new(),
                    name: String::new(),
                    owner: [3; 16],
                    generation: 0,
                    wants_retained: false,
                    start: Start::Next,
                })),
                held: vec![(SHARD, position(5))],
                terms: Terms::default(),
                credit: Credit {
                    messages: 10,
                    bytes: 1 << 20,
                },
                wall_micros: 100,
            },
        });
        assert!(failures(&effects).is_empty());
        let hung = pass(&mut bench, 2_000);
        assert_eq!(!failures(&hung).is_empty(), hangs, "{pattern} {rule}");
    }
}
