//! What ten million queued messages take, and what one message costs. Run by hand, optimised:
//! `cargo test --release -p quorate-broker --test capacity -- --ignored --nocapture --test-threads 1`.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::fs;

use bytes::{Bytes, BytesMut};
use quorate_broker::{Broker, Clock, Credit, Effect, Input, Limits, SessionId, Terms};
use quorate_message::{
    Batch, BatchBuilder, ConsumerId, Destination, DestinationName, Message, MessagePosition,
    ProducerId, Publication, Schedule, Settlement,
};

const MESSAGES: u64 = 10_000_000;

/// Memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[expect(clippy::disallowed_methods, reason = "the measurement is of real time")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

fn queue() -> DestinationName {
    DestinationName::new("orders").unwrap()
}

/// A batch of so many messages of 100 bytes, whose numbers can be patched.
fn template(count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::persistent();
    for number in 1..=count as u64 {
        let publication = Publication {
            destination: &Destination::queue(queue()),
            producer: ProducerId([1; 16]),
            number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        builder.publish(&publication, &[7; 100]).unwrap();
    }
    builder.finish().to_vec()
}

/// The template with its messages numbered from `first` on.
fn numbered(template: &[u8], count: usize, first: u64) -> Bytes {
    let mut bytes = template.to_vec();
    for place in 0..count {
        let at = 16 + place * 32 + 8;
        bytes[at..at + 8].copy_from_slice(&(first + place as u64).to_le_bytes());
    }
    bytes.into()
}

fn load(broker: &mut Broker, messages: u64, per_entry: usize) {
    let template = template(per_entry);
    let mut effects = Vec::new();
    for entry in 1..=messages / per_entry as u64 {
        let first = (entry - 1) * per_entry as u64 + 1;
        let batch = Batch::parse(numbered(&template, per_entry, first)).unwrap();
        broker.step(
            Clock::default(),
            Input::Committed {
                entry,
                stamp_ms: 0,
                batch,
            },
            &mut effects,
        );
        effects.clear();
    }
}

#[test]
#[ignore = "takes half a minute and a machine of its own"]
fn ten_million_messages_stay_small() {
    for per_entry in [500, 1] {
        let before = resident_bytes();
        let mut broker = Broker::new(Limits::default());
        let started = clock();
        load(&mut broker, MESSAGES, per_entry);
        let loaded = started.elapsed();
        let grown = resident_bytes().saturating_sub(before);
        let started = clock();
        let digest = broker.digest();
        let digested = started.elapsed();
        let started = clock();
        let checkpoint = broker.checkpoint();
        let written = started.elapsed();
        let started = clock();
        let restored = Broker::restore(&checkpoint).unwrap();
        let read = started.elapsed();
        assert_eq!(restored.digest(), digest);
        println!(
            "{per_entry} per entry: {} KiB, loaded in {loaded:?}, digest {digested:?}, checkpoint {} KiB in \
             {written:?}, restored in {read:?}",
            grown / 1024,
            checkpoint.len() / 1024
        );
        assert!(grown < 100 * 1024 * 1024, "{grown} bytes");
    }
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::too_many_lines, reason = "one measurement from end to end")]
fn a_message_from_publish_to_settlement() {
    for per_entry in [1, 30, 500] {
        let mut broker = Broker::new(Limits::default());
        let mut effects = Vec::new();
        broker.step(
            Clock::default(),
            Input::Serving { epoch: 1, at: 1 },
            &mut effects,
        );
        let input = Input::Attach {
            session: SessionId(1),
            consumer: ConsumerId([1; 16]),
            generation: 1,
            queue: Destination::queue(queue()),
            credit: Credit::default(),
            held: Vec::new(),
            terms: Terms::default(),
            shares_credit: false,
        };
        broker.step(Clock::default(), input, &mut effects);
        let template = template(per_entry);
        let rounds = 2_000_000 / per_entry as u64;
        let batches: Vec<Bytes> = (0..rounds.min(4000))
            .map(|round| numbered(&template, per_entry, round * per_entry as u64 + 1))
            .collect();
        let mut entry = 1;
        let (mut parsing, mut storing, mut settling) = (0, 0, 0);
        for bytes in &batches {
            let started = clock();
            let batch = Batch::parse(bytes.clone()).unwrap();
            parsing += started.elapsed().as_nanos();
            let credit = Credit {
                messages: u32::try_from(per_entry).unwrap(),
                bytes: 1 << 20,
            };
            let input = Input::Credited {
                session: SessionId(1),
                consumer: ConsumerId([1; 16]),
                credit,
            };
            effects.clear();
            entry += 1;
            let started = clock();
            broker.step(Clock::default(), input, &mut effects);
            broker.step(
                Clock::default(),
                Input::Committed {
                    entry,
                    stamp_ms: 0,
                    batch,
                },
                &mut effects,
            );
            storing += started.elapsed().as_nanos();
            let got: Vec<MessagePosition> = effects
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Deliver { deliveries, .. } => Some(deliveries),
                    _ => None,
                })
                .flatten()
                .map(|delivery| delivery.position)
                .collect();
            assert_eq!(got.len(), per_entry);
            let mut builder = BatchBuilder::persistent();
            for position in got {
                builder
                    .settle(&queue(), position, Settlement::Accept)
                    .unwrap();
            }
            let bytes = builder.finish();
            effects.clear();
            entry += 1;
            let started = clock();
            let batch = Batch::parse(bytes).unwrap();
            broker.step(
                Clock::default(),
                Input::Committed {
                    entry,
                    stamp_ms: 0,
                    batch,
                },
                &mut effects,
            );
            settling += started.elapsed().as_nanos();
        }
        let messages = batches.len() as u128 * per_entry as u128;
        println!(
            "{per_entry} per entry: parse {} ns, store and deliver {} ns, settle {} ns a message",
            parsing / messages,
            storing / messages,
            settling / messages
        );
    }
}

/// How messages are loaded for a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// One priority, no expiry, no delay.
    Plain,
    /// Any priority; a third each expires within a day, waits for up to a day, or neither.
    Mixed,
}

const STAMP_MS: u64 = 1_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Numbers without a pattern.
fn scatter(step: u64) -> u64 {
    let mixed = (step ^ step >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

fn message(expires_at_ms: u64) -> Bytes {
    let message = Message {
        expires_at_ms,
        ..Message::with_body(vec![7; 100])
    };
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded).unwrap();
    encoded.freeze()
}

fn load_as(load: Load, broker: &mut Broker, messages: u64, per_entry: u64) {
    let mut builder = BatchBuilder::persistent();
    let mut effects = Vec::new();
    let to = Destination::queue(queue());
    for entry in 1..=messages / per_entry {
        for place in 0..per_entry {
            let number = (entry - 1) * per_entry + place + 1;
            let (mut priority, mut expires_at_ms, mut schedule) = (4, 0, None);
            if load == Load::Mixed {
                let span = 1_000 + scatter(number + 7) % DAY_MS;
                priority = u8::try_from(scatter(number) % 10).unwrap();
                match scatter(number + 3) % 3 {
                    0 => expires_at_ms = STAMP_MS + 2 * DAY_MS + span,
                    1 => schedule = Some(Schedule::after(span)),
                    _ => {}
                }
            }
            let publication = Publication {
                destination: &to,
                producer: ProducerId([1; 16]),
                number,
                priority,
                expires_at_ms,
                is_retained: false,
            };
            let message = message(expires_at_ms);
            match schedule {
                Some(schedule) => builder.publish_scheduled(&publication, &schedule, &message),
                None => builder.publish(&publication, &message),
            }
            .unwrap();
        }
        let input = Input::Committed {
            entry,
            stamp_ms: STAMP_MS,
            batch: Batch::parse(builder.finish()).unwrap(),
        };
        broker.step(Clock::default(), input, &mut effects);
        effects.clear();
    }
}

#[test]
#[ignore = "takes a minute and a machine of its own"]
fn ten_million_mixed_messages_stay_small() {
    for per_entry in [500, 1] {
        let before = resident_bytes();
        let mut broker = Broker::new(Limits::default());
        let started = clock();
        load_as(Load::Mixed, &mut broker, MESSAGES, per_entry);
        let loaded = started.elapsed();
        let grown = resident_bytes().saturating_sub(before);
        println!(
            "mixed, {per_entry} per entry: {} KiB, loaded in {loaded:?}, checkpoint {} KiB",
            grown / 1024,
            broker.checkpoint().len() / 1024
        );
        assert!(grown < 300 * 1024 * 1024, "{grown} bytes");
    }
}

#[test]
#[ignore = "a measurement"]
fn mixed_messages_are_dispatched_almost_as_fast() {
    for load in [Load::Plain, Load::Mixed] {
        let (taken, nanos) = dispatch_all(load, 1_000_000);
        println!(
            "{load:?}: {taken} delivered and settled, {} ns each",
            nanos / taken
        );
    }
}

/// Delivers and settles everything that is loaded; how many, and how long the broker took.
#[expect(clippy::too_many_lines, reason = "one measurement from end to end")]
fn dispatch_all(load: Load, messages: u64) -> (u128, u128) {
    let mut broker = Broker::new(Limits::default());
    load_as(load, &mut broker, messages, 100);
    let mut entry = messages / 100 + 1;
    // All that waited is due; nothing has expired.
    let now = Clock {
        micros: 10_000_000,
        stamp_ms: STAMP_MS + DAY_MS + 2_000,
    };
    let mut effects = Vec::new();
    broker.step(
        Clock::default(),
        Input::Serving {
            epoch: 1,
            at: entry,
        },
        &mut effects,
    );
    let input = Input::Attach {
        session: SessionId(1),
        consumer: ConsumerId([1; 16]),
        generation: 1,
        queue: Destination::queue(queue()),
        credit: Credit::default(),
        held: Vec::new(),
        shares_credit: false,
        terms: Terms::default(),
    };
    effects.clear();
    broker.step(now, input, &mut effects);
    let bytes = message(STAMP_MS + 2 * DAY_MS);
    let mut builder = BatchBuilder::persistent();
    let (mut taken, mut nanos, mut quiet) = (0, 0, 0);
    while quiet < 1000 {
        let credit = Credit {
            messages: 500,
            bytes: 1 << 20,
        };
        let mut inputs = vec![Input::Credited {
            session: SessionId(1),
            consumer: ConsumerId([1; 16]),
            credit,
        }];
        let mut settled = 0;
        while let Some(input) = inputs.pop() {
            effects.clear();
            let later = Clock {
                micros: now.micros + quiet * 10_000,
                ..now
            };
            let started = clock();
            broker.step(later, input, &mut effects);
            nanos += started.elapsed().as_nanos();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Fetch { positions } => inputs.push(Input::Fetched {
                        messages: positions
                            .into_iter()
                            .map(|at| (at, bytes.clone()))
                            .collect(),
                        missing: Vec::new(),
                    }),
                    Effect::Deliver { deliveries, .. } => {
                        settled += deliveries.len();
                        for delivery in deliveries {
                            if builder.len() >= 1000 {
                                entry += 1;
                                inputs.push(Input::Committed {
                                    entry,
                                    stamp_ms: now.stamp_ms,
                                    batch: Batch::parse(builder.finish()).unwrap(),
                                });
                            }
                            builder
                                .settle(&queue(), delivery.position, Settlement::Accept)
                                .unwrap();
                        }
                    }
                    Effect::Propose { batch } => {
                        entry += 1;
                        inputs.push(Input::Committed {
                            entry,
                            stamp_ms: now.stamp_ms,
                            batch: Batch::parse(batch).unwrap(),
                        });
                    }
                    _ => {}
                }
            }
            if inputs.is_empty() && !builder.is_empty() {
                entry += 1;
                inputs.push(Input::Committed {
                    entry,
                    stamp_ms: now.stamp_ms,
                    batch: Batch::parse(builder.finish()).unwrap(),
                });
            }
        }
        taken += settled as u128;
        quiet = if settled == 0 { quiet + 1 } else { 0 };
    }
    (taken, nanos)
}
