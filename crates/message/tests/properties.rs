//! Encodings come back as they went in, and no bytes make a decoder panic.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_message::limits::BATCH_COMMANDS_MAX;
use quorate_message::settings::{PartialSettings, Rule};
use quorate_message::{
    Batch, BatchBuilder, BatchError, BatchFull, Command, Destination, DestinationName, GatewayId,
    Lifetime, Message, MessagePosition, MoveReason, Pattern, PreviousCheckpoint, ProducerId,
    Publication, Runs, Schedule, Settings, Settlement, Sharing, Skipped, Start, Subscription,
    Value,
};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        (-1e300..1e300).prop_map(Value::Double),
        ".{0,40}".prop_map(Value::Text),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Binary(bytes.into())),
    ]
}

prop_compose! {
    fn message()(
        texts in (".{0,20}", ".{0,20}", ".{0,20}", ".{0,20}"),
        times in (any::<u64>(), any::<u64>()),
        priority in 0..=9_u8,
        properties in vec((".{1,20}", value()), 0..6),
        body in vec(any::<u8>(), 0..200),
        present in any::<[bool; 4]>(),
    ) -> Message {
        let text = |present: bool, text: String| if present { text } else { String::new() };
        Message {
            id: text(present[0], texts.0),
            correlation_id: text(present[1], texts.1),
            reply_to: text(present[2], texts.2),
            content_type: text(present[3], texts.3),
            priority,
            timestamp_ms: times.0,
            expires_at_ms: times.1,
            properties,
            body: body.into(),
        }
    }
}

#[derive(Clone, Debug)]
enum Wish {
    Publish(u8, u8, u64, Message),
    Settle(u8, u64, Settlement),
    Purge(u8),
    Delete(u8, bool),
    Transfer(u8, u64, u8, MoveReason),
    Transferred(u8, u64, u64),
    Subscribe(u8, u64),
    Unsubscribe(u8, u64, Option<u8>),
    Skip(u8, u64, Vec<u16>),
    Register(u8),
    Checkpoint(Option<PreviousCheckpoint>),
    Configure(u8),
    Pause(u8, bool),
    Schedule(u8, u64, Schedule, Message),
    Tick(u64),
    GatewayAttached(u8),
    GatewayLost(u8, bool),
    Dispatched(u8, u64),
    Origin(u8, u64),
}

fn settlement() -> impl Strategy<Value = Settlement> {
    prop_oneof![
        Just(Settlement::Accept),
        Just(Settlement::Release),
        Just(Settlement::Return),
        Just(Settlement::Reject),
        Just(Settlement::Expire),
        Just(Settlement::Cancel),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let repeated = (0..1_000_000_u64, 1..1_000_000_u64, 1..=u32::MAX);
    prop_oneof![
        (1..1_000_000_u64).prop_map(Schedule::after),
        repeated.prop_map(|(delay_ms, period_ms, repeat)| Schedule {
            delay_ms,
            period_ms,
            repeat,
            cron: String::new(),
        }),
        (0..60_u8).prop_map(|minute| Schedule {
            cron: format!("{minute} */2 * * MON-FRI"),
            ..Schedule::default()
        }),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let checkpoint = (any::<u64>(), any::<u64>())
        .prop_map(|(entry, digest)| PreviousCheckpoint { entry, digest });
    prop_oneof![
        4 => (0..4_u8, 0..4_u8, 1..u64::MAX, message())
            .prop_map(|(queue, producer, number, message)| Wish::Publish(queue, producer, number, message)),
        2 => (0..4_u8, 0..1_u64 << 63, settlement())
            .prop_map(|(queue, position, settlement)| Wish::Settle(queue, position, settlement)),
        1 => (0..4_u8).prop_map(Wish::Purge),
        1 => (0..4_u8, any::<bool>()).prop_map(|(queue, with_messages)| Wish::Delete(queue, with_messages)),
        1 => (0..4_u8, 0..1_u64 << 63, 0..4_u8, 1..=8_u8).prop_map(|(queue, position, target, reason)| {
            Wish::Transfer(queue, position, target, MoveReason::from_code(reason).unwrap())
        }),
        1 => (0..4_u8, 1..u64::MAX / 2, 0..u64::MAX / 2)
            .prop_map(|(target, first, more)| Wish::Transferred(target, first, first + more)),
        1 => (0..4_u8, any::<u64>()).prop_map(|(key, generation)| Wish::Subscribe(key, generation)),
        1 => (0..4_u8, any::<u64>(), proptest::option::of(0..4_u8))
            .prop_map(|(key, generation, topic)| Wish::Unsubscribe(key, generation, topic)),
        1 => (0..4_u8, any::<u64>(), vec(any::<u16>(), 0..40))
            .prop_map(|(key, made, positions)| Wish::Skip(key, made, positions)),
        1 => (0..4_u8).prop_map(Wish::Register),
        1 => proptest::option::of(checkpoint).prop_map(Wish::Checkpoint),
        1 => (0..4_u8).prop_map(Wish::Configure),
        1 => (0..4_u8, any::<bool>()).prop_map(|(queue, is_paused)| Wish::Pause(queue, is_paused)),
        1 => (0..4_u8, 1..u64::MAX, schedule(), message())
            .prop_map(|(queue, number, schedule, message)| Wish::Schedule(queue, number, schedule, message)),
        1 => any::<u64>().prop_map(Wish::Tick),
        1 => (0..4_u8).prop_map(Wish::GatewayAttached),
        1 => (0..4_u8, any::<bool>())
            .prop_map(|(gateway, is_known)| Wish::GatewayLost(gateway, is_known)),
        1 => (0..4_u8, any::<u64>()).prop_map(|(queue, upto)| Wish::Dispatched(queue, upto)),
        1 => (0..4_u8, 1..u64::MAX).prop_map(|(gateway, number)| Wish::Origin(gateway, number)),
    ]
}

fn name(number: u8) -> DestinationName {
    DestinationName::new(&format!("queue.{number}")).unwrap()
}

/// Odd numbers are topics.
fn destination(number: u8) -> Destination {
    match number % 2 {
        0 => Destination::queue(name(number)),
        _ => Destination::topic(name(number)),
    }
}

fn id(number: u8) -> GatewayId {
    GatewayId([number; 16])
}

fn subscription(generation: u64) -> Subscription {
    Subscription {
        pattern: Pattern::new("prices.*.>").unwrap(),
        selector: "weight > 2".repeat((generation % 3) as usize),
        lifetime: Lifetime::Live,
        sharing: Sharing::Shared,
        client: "client".to_owned(),
        name: String::new(),
        owner: [9; 16],
        generation,
        wants_retained: generation.is_multiple_of(2),
        start: Start::Time(generation),
    }
}

fn skipped(positions: &[u16]) -> Skipped {
    Skipped {
        ranges: runs(positions),
        late_skipped: runs(&positions[..positions.len() / 2]),
        late_selected: runs(&positions[positions.len() / 2..]),
    }
}

fn runs(positions: &[u16]) -> Runs {
    let positions = positions.iter().map(|position| u64::from(*position));
    Runs::of(positions.map(MessagePosition::from_value))
}

/// So many rules.
fn settings(rules: u8) -> Settings {
    let mut settings = Settings::new();
    for number in 0..rules {
        let named = PartialSettings {
            max_messages: Some(u64::from(number)),
            ..PartialSettings::default()
        };
        let pattern = Pattern::exact(&name(number));
        settings
            .set(Rule {
                pattern,
                settings: named,
            })
            .unwrap();
    }
    settings
}

#[expect(clippy::too_many_lines, reason = "one arm per command, nothing else")]
fn build(wishes: &[Wish]) -> Bytes {
    let mut builder = BatchBuilder::persistent();
    for wish in wishes {
        match wish {
            Wish::Publish(queue, producer, number, message) => {
                let destination = destination(*queue);
                let publication = Publication {
                    destination: &destination,
                    producer: ProducerId([*producer; 16]),
                    number: *number,
                    priority: message.priority,
                    expires_at_ms: message.expires_at_ms,
                    is_retained: false,
                };
                builder.publish_message(&publication, message).unwrap()
            }
            Wish::Settle(queue, position, settlement) => {
                let position = MessagePosition::from_value(*position);
                builder
                    .settle(&name(*queue), position, *settlement)
                    .unwrap()
            }
            Wish::Purge(queue) => builder.purge(&name(*queue)).unwrap(),
            Wish::Delete(queue, with_messages) => builder
                .delete(&destination(*queue), *with_messages)
                .unwrap(),
            Wish::Transfer(queue, position, target, reason) => {
                let position = MessagePosition::from_value(*position);
                builder
                    .transfer(&name(*queue), position, &destination(*target), *reason)
                    .unwrap()
            }
            Wish::Transferred(target, first, last) => builder
                .transferred(&destination(*target), *first, *last)
                .unwrap(),
            Wish::Subscribe(key, generation) => builder
                .subscribe_by_move(&name(*key), &subscription(*generation), generation / 2)
                .unwrap(),
            Wish::Unsubscribe(key, generation, None) => {
                builder.unsubscribe(&name(*key), *generation).unwrap()
            }
            Wish::Unsubscribe(key, generation, Some(topic)) => builder
                .unsubscribe_unless_of(&name(*key), *generation, &name(*topic))
                .unwrap(),
            Wish::Skip(key, made, positions) => {
                let judged_to = MessagePosition::new(made >> 20, 0);
                builder
                    .skip(&name(*key), (*made, judged_to), &skipped(positions))
                    .unwrap()
            }
            Wish::Register(queue) => builder
                .register_by_move(&name(*queue), u64::from(*queue))
                .unwrap(),
            Wish::Checkpoint(previous) => builder.checkpoint(*previous).unwrap(),
            Wish::Configure(rules) => builder.configure(&settings(*rules)).unwrap(),
            Wish::Pause(queue, is_paused) => builder.pause(&name(*queue), *is_paused).unwrap(),
            Wish::Schedule(queue, number, schedule, message) => {
                let destination = destination(*queue);
                let publication = Publication {
                    destination: &destination,
                    producer: ProducerId([7; 16]),
                    number: *number,
                    priority: message.priority,
                    expires_at_ms: message.expires_at_ms,
                    is_retained: false,
                };
                let mut encoded = BytesMut::new();
                message.encode(&mut encoded).unwrap();
                builder
                    .publish_scheduled(&publication, schedule, &encoded)
                    .unwrap()
            }
            Wish::Tick(until_ms) => builder.tick(*until_ms).unwrap(),
            Wish::GatewayAttached(gateway) => builder.gateway_attached(id(*gateway)).unwrap(),
            Wish::GatewayLost(gateway, is_known) => {
                builder.gateway_lost(id(*gateway), *is_known).unwrap()
            }
            Wish::Dispatched(queue, upto) => {
                let queue = Destination::queue(name(*queue));
                builder.dispatched(&queue, *upto).unwrap()
            }
            Wish::Origin(gateway, number) => builder.origin(id(*gateway), *number).unwrap(),
        };
    }
    let size = builder.size_bytes();
    let bytes = builder.finish();
    assert_eq!(bytes.len(), size);
    assert!(builder.is_empty());
    bytes
}

#[expect(clippy::too_many_lines, reason = "one arm per command, nothing else")]
fn check_same(batch: &Batch, wishes: &[Wish]) {
    assert_eq!(batch.len(), wishes.len());
    for ((ordinal, command), wish) in batch.commands().zip(wishes) {
        assert_eq!(batch.command(ordinal), Some(command));
        match (command, wish) {
            (
                Command::Publish {
                    destination,
                    producer,
                    number,
                    priority,
                    expires_at_ms,
                    is_scheduled: false,
                    size_bytes,
                    is_first,
                    ..
                },
                Wish::Publish(queue, from, wished, message),
            ) => {
                assert_eq!(*batch.destination(destination), self::destination(*queue));
                assert_eq!(producer, ProducerId([*from; 16]));
                assert_eq!(number, *wished);
                assert!(!is_first);
                let stored = batch.message(ordinal).unwrap();
                assert_eq!(stored.len(), size_bytes as usize);
                assert_eq!(batch.body(ordinal).as_ref(), Some(&stored));
                let stored = Message::decode(&stored).unwrap();
                assert_eq!(
                    (stored.priority, stored.expires_at_ms),
                    (priority, expires_at_ms)
                );
                assert_eq!(&stored, message);
            }
            (
                Command::Settle {
                    destination,
                    position,
                    settlement,
                },
                Wish::Settle(queue, at, wished),
            ) => {
                assert_eq!(batch.destination(destination).name, name(*queue));
                assert_eq!(position.value(), *at);
                assert_eq!(settlement, *wished);
                assert_eq!(batch.message(ordinal), None);
                assert_eq!(batch.body(ordinal), Some(Bytes::new()));
            }
            (
                Command::Delete {
                    destination: to,
                    with_messages,
                },
                Wish::Delete(queue, wished),
            ) => {
                assert_eq!(*batch.destination(to), destination(*queue));
                assert_eq!(with_messages, *wished);
            }
            (Command::Purge { destination }, Wish::Purge(queue)) => {
                assert_eq!(batch.destination(destination).name, name(*queue));
            }
            (
                Command::Transfer {
                    destination,
                    position,
                    target,
                    reason,
                    due_ms: 0,
                },
                Wish::Transfer(queue, at, to, wished),
            ) => {
                assert_eq!(batch.destination(destination).name, name(*queue));
                assert_eq!((position.value(), reason), (*at, *wished));
                assert_eq!(*batch.destination(target), self::destination(*to));
            }
            (
                Command::Transferred {
                    destination,
                    first,
                    last,
                },
                Wish::Transferred(to, from, upto),
            ) => {
                assert_eq!(*batch.destination(destination), self::destination(*to));
                assert_eq!((first, last), (*from, *upto));
            }
            (
                Command::Subscribe {
                    destination,
                    by_move,
                },
                Wish::Subscribe(key, generation),
            ) => {
                assert_eq!(by_move, generation / 2);
                assert_eq!(
                    *batch.destination(destination),
                    Destination::subscription(name(*key))
                );
                assert_eq!(batch.subscription(ordinal), Some(subscription(*generation)));
                assert_eq!(batch.message(ordinal), None);
            }
            (
                Command::Unsubscribe {
                    destination,
                    generation,
                    unless_of,
                },
                Wish::Unsubscribe(key, wished, topic),
            ) => {
                let unless_of = unless_of.map(|topic| batch.destination(topic).name.clone());
                assert_eq!(unless_of, topic.map(name));
                assert_eq!(batch.destination(destination).name, name(*key));
                assert_eq!(generation, *wished);
            }
            (
                Command::Skip {
                    destination,
                    made,
                    judged_to,
                },
                Wish::Skip(key, wished, positions),
            ) => {
                assert_eq!(batch.destination(destination).name, name(*key));
                assert_eq!(made, *wished);
                assert_eq!(judged_to, MessagePosition::new(wished >> 20, 0));
                assert_eq!(batch.skipped(ordinal), Some(skipped(positions)));
            }
            (
                Command::Register {
                    destination,
                    by_move,
                },
                Wish::Register(queue),
            ) => {
                assert_eq!(by_move, u64::from(*queue));
                assert_eq!(
                    *batch.destination(destination),
                    Destination::queue(name(*queue))
                );
            }
            (Command::Checkpoint { previous }, Wish::Checkpoint(wished)) => {
                assert_eq!(previous, *wished);
            }
            (Command::Configure { version }, Wish::Configure(rules)) => {
                assert_eq!(version, u64::from(*rules));
                let body = batch.body(ordinal).unwrap();
                assert_eq!(Settings::decode(&body), Some(settings(*rules)));
            }
            (
                Command::Pause {
                    destination,
                    is_paused,
                },
                Wish::Pause(queue, wished),
            ) => {
                assert_eq!(batch.destination(destination).name, name(*queue));
                assert_eq!(is_paused, *wished);
            }
            (
                Command::Publish {
                    is_scheduled: true, ..
                },
                Wish::Schedule(_, _, schedule, message),
            ) => {
                assert_eq!(batch.schedule(ordinal).as_ref(), Some(schedule));
                let stored = Message::decode(&batch.message(ordinal).unwrap()).unwrap();
                assert_eq!(&stored, message);
            }
            (Command::Tick { until_ms }, Wish::Tick(wished)) => assert_eq!(until_ms, *wished),
            (Command::GatewayAttached { gateway }, Wish::GatewayAttached(wished)) => {
                assert_eq!(gateway, id(*wished));
            }
            (Command::GatewayLost { gateway, is_known }, Wish::GatewayLost(wished, known)) => {
                assert_eq!((gateway, is_known), (id(*wished), *known));
            }
            (Command::Dispatched { destination, upto }, Wish::Dispatched(queue, wished)) => {
                assert_eq!(batch.destination(destination).name, name(*queue));
                assert_eq!(upto, *wished);
            }
            (Command::Origin { gateway, number }, Wish::Origin(wished, count)) => {
                assert_eq!((gateway, number), (id(*wished), *count));
            }
            other => panic!("another command came back: {other:?}"),
        }
    }
}

/// Walks all that a batch offers, as its users do.
fn use_everything(batch: &Batch) {
    for (ordinal, command) in batch.commands() {
        match command {
            Command::Publish { destination, .. }
            | Command::Settle { destination, .. }
            | Command::Purge { destination }
            | Command::Transferred { destination, .. }
            | Command::Relocate { destination, .. }
            | Command::Pause { destination, .. }
            | Command::Subscribe { destination, .. }
            | Command::Unsubscribe { destination, .. }
            | Command::Skip { destination, .. }
            | Command::Dispatched { destination, .. }
            | Command::Register { destination, .. }
            | Command::Delete { destination, .. } => {
                assert!(!batch.destination(destination).name.as_str().is_empty());
            }
            Command::Transfer {
                destination,
                target,
                ..
            } => {
                assert!(!batch.destination(destination).name.as_str().is_empty());
                assert!(!batch.destination(target).name.as_str().is_empty());
            }
            Command::Tick { .. } => {}
            Command::Configure { version } => {
                let body = batch.body(ordinal).unwrap();
                assert_eq!(Settings::decode(&body).unwrap().version(), version);
            }
            Command::Checkpoint { .. }
            | Command::Prepare { .. }
            | Command::Decide { .. }
            | Command::Finish { .. }
            | Command::Forget { .. } => {
                let _participants = batch.participants(ordinal);
            }
            Command::GatewayAttached { .. }
            | Command::GatewayLost { .. }
            | Command::Origin { .. } => {}
        }
        let _schedule = batch.schedule(ordinal);
        if let Some(message) = batch.message(ordinal) {
            let _decoded = Message::decode(&message);
        }
        let _skipped = batch
            .skipped(ordinal)
            .map(|skipped| skipped.ranges.iter().count());
        let _subscription = batch.subscription(ordinal);
    }
}

proptest! {
    #[test]
    fn a_message_comes_back(message in message()) {
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded).unwrap();
        prop_assert_eq!(encoded.len(), message.check().unwrap());
        let encoded = encoded.freeze();
        let decoded = Message::decode(&encoded).unwrap();
        prop_assert_eq!(&decoded, &message);
    }

    #[test]
    fn a_batch_comes_back(wishes in vec(wish(), 1..40)) {
        let batch = Batch::parse(build(&wishes)).unwrap();
        check_same(&batch, &wishes);
    }

    #[test]
    fn a_publish_is_repeated_as_it_was(wishes in vec(wish(), 1..40)) {
        let batch = Batch::parse(build(&wishes)).unwrap();
        let mut builder = BatchBuilder::persistent();
        let mut repeated = Vec::new();
        for (ordinal, wish) in (0..).zip(&wishes) {
            match builder.repeat(&batch, ordinal) {
                Ok(_) => repeated.push(wish.clone()),
                Err(error) => {
                    prop_assert_eq!(error, BatchFull::Command { field: "kind" });
                    prop_assert!(!matches!(wish, Wish::Publish(..)));
                }
            }
        }
        if let Some(last) = repeated.len().checked_sub(1) {
            let mut marked = builder.clone();
            check_same(&Batch::parse(builder.finish()).unwrap(), &repeated);
            let last = u16::try_from(last).unwrap();
            marked.mark_first(last);
            let marked = Batch::parse(marked.finish()).unwrap();
            for (ordinal, command) in marked.commands() {
                let Command::Publish { is_first, .. } = command else { panic!("{command:?}") };
                prop_assert_eq!(is_first, ordinal == last);
            }
        }
    }

    #[test]
    fn random_bytes_are_never_trouble(bytes in vec(any::<u8>(), 0..400)) {
        let bytes = Bytes::from(bytes);
        let _message = Message::decode(&bytes);
        prop_assert!(Batch::parse(bytes).is_err());
    }

    #[test]
    fn random_bytes_behind_a_version_are_never_trouble(bytes in vec(any::<u8>(), 0..400)) {
        let message: Bytes = [&[1][..], &bytes[..]].concat().into();
        let batch: Bytes = [&[2][..], &bytes[..]].concat().into();
        if let Ok(decoded) = Message::decode(&message) {
            let mut again = BytesMut::new();
            decoded.encode(&mut again).unwrap();
            prop_assert_eq!(&again[..], &message[..]);
        }
        if let Ok(batch) = Batch::parse(batch) {
            use_everything(&batch);
        }
    }

    #[test]
    fn a_damaged_batch_is_refused_or_whole(
        wishes in vec(wish(), 1..20),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = build(&wishes).to_vec();
        // Mostly in the head and the index, where it hurts.
        let reach = bytes.len().min(16 + wishes.len() * 48);
        for (place, value) in damage {
            bytes[place.index(reach)] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(batch) = Batch::parse(bytes.into()) {
            use_everything(&batch);
        }
    }

    #[test]
    fn a_damaged_message_is_refused_or_whole(
        message in message(),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded).unwrap();
        let place = place.index(encoded.len());
        encoded[place] = value;
        let _decoded = Message::decode(&encoded.freeze());
    }
}

#[test]
fn a_builder_says_when_it_is_full() {
    let mut builder = BatchBuilder::persistent();
    for _ in 0..BATCH_COMMANDS_MAX {
        builder.purge(&name(0)).unwrap();
    }
    assert_eq!(builder.purge(&name(0)), Err(BatchFull::Full));
    assert_eq!(
        Batch::parse(builder.finish()).unwrap().len(),
        BATCH_COMMANDS_MAX
    );
}

#[test]
fn the_largest_message_goes_alone() {
    let body = vec![7; 1024 * 1024 + 1000];
    let destination = destination(0);
    let publication = Publication {
        destination: &destination,
        producer: ProducerId([1; 16]),
        number: 1,
        priority: 4,
        expires_at_ms: 0,
        is_retained: false,
    };
    let mut builder = BatchBuilder::persistent();
    builder.publish(&publication, &body).unwrap();
    assert_eq!(builder.publish(&publication, &body), Err(BatchFull::Full));
    assert_eq!(builder.publish(&publication, b"x"), Err(BatchFull::Full));
    let batch = Batch::parse(builder.finish()).unwrap();
    assert_eq!(batch.message(0).unwrap().len(), body.len());
}

#[test]
fn the_modes_are_kept_apart() {
    let mut transient = BatchBuilder::transient();
    let kind = Err(BatchFull::Command { field: "kind" });
    assert_eq!(transient.purge(&name(0)), kind);
    assert_eq!(transient.checkpoint(None), kind);
    let stored = MessagePosition::new(1, 0);
    assert_eq!(
        transient.settle(&name(0), stored, Settlement::Accept),
        Err(BatchFull::Command { field: "position" })
    );
    let position = MessagePosition::transient(1, 0);
    transient
        .settle(&name(0), position, Settlement::Accept)
        .unwrap();
    let mut bytes = transient.finish().to_vec();
    assert!(Batch::parse(bytes.clone().into()).unwrap().is_transient());
    // The same commands, said to be for the log.
    bytes[1] = 0;
    assert_eq!(
        Batch::parse(bytes.into()),
        Err(BatchError::Command {
            ordinal: 0,
            field: "position"
        })
    );
}

#[test]
fn overlapping_messages_are_refused() {
    let destination = destination(0);
    let mut builder = BatchBuilder::persistent();
    for number in 1..=2 {
        let publication = Publication {
            destination: &destination,
            producer: ProducerId([1; 16]),
            number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        builder.publish(&publication, b"body").unwrap();
    }
    let mut bytes = builder.finish().to_vec();
    bytes[16 + 32 + 24] = 0;
    assert_eq!(
        Batch::parse(bytes.into()),
        Err(BatchError::Command {
            ordinal: 1,
            field: "offset"
        })
    );
}
