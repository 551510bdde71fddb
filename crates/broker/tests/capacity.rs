//! What ten million queued messages take, and what one message costs. Run by hand, optimised:
//! `cargo test --release -p quorate-broker --test capacity -- --ignored --nocapture --test-threads 1`.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use std::fs;

use bytes::Bytes;
use quorate_broker::{Broker, Clock, Credit, Effect, Input, Limits, SessionId, Terms};
use quorate_message::{
    Batch, BatchBuilder, ConsumerId, Destination, DestinationName, MessagePosition, ProducerId,
    Publication, Settlement,
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
