//! A leader and a follower against a naive model, through everything that can happen: no message is lost, none is
//! delivered after it was settled or to two at once, credit is never exceeded, numbers are stored once, replicas agree.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

mod properties {
    pub(crate) mod model;
}

use properties::model::{Action, Sent, Span, World};
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_message::settings::OnFull;

fn sent(is_transient: bool) -> impl Strategy<Value = Sent> {
    let priority = prop_oneof![3 => Just(4), 1 => 0..10_u8];
    let time = if is_transient {
        Just(Span::None).boxed()
    } else {
        prop_oneof![
            8 => Just(Span::None),
            2 => (1..3_000_u64).prop_map(Span::Lives),
            2 => (1..2_000_u64).prop_map(Span::Delayed),
            1 => (1..800_u64, 1..4_u32)
                .prop_map(|(period_ms, repeat)| Span::Repeated { period_ms, repeat }),
        ]
        .boxed()
    };
    (0..3_u8, 0..3_u8, 0..4_u8, priority, time).prop_map(
        |(queue, producer, kind, priority, time)| Sent {
            queue,
            producer,
            kind,
            priority,
            time,
        },
    )
}

fn on_full() -> impl Strategy<Value = OnFull> {
    prop_oneof![
        Just(OnFull::Refuse),
        Just(OnFull::Block),
        Just(OnFull::DropHead),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => vec(sent(false), 1..12).prop_map(Action::Publish),
        2 => vec(sent(true), 1..6).prop_map(Action::PublishTransient),
        4 => (0..4_u8, 0..2_u8, 0..3_u8, 0..12_u32, any::<bool>())
            .prop_map(|(consumer, session, queue, credit, names_held)| {
                Action::Attach { consumer, session, queue, credit, names_held }
            }),
        1 => (0..4_u8).prop_map(Action::Detach),
        1 => (0..2_u8).prop_map(Action::SessionLost),
        3 => (0..4_u8, 1..12_u32, 1..400_u64)
            .prop_map(|(consumer, messages, bytes)| Action::Credit { consumer, messages, bytes }),
        6 => (0..4_u8, 0..4_u8, 1..8_u8)
            .prop_map(|(consumer, settlement, most)| Action::Settle { consumer, settlement, most }),
        1 => (0..3_u8, 0..60_u16).prop_map(|(queue, place)| Action::SettleAny { queue, place }),
        1 => (0..3_u8).prop_map(Action::Purge),
        1 => (0..3_u8, any::<bool>())
            .prop_map(|(queue, with_messages)| Action::Delete { queue, with_messages }),
        1 => (0..3_u8, 0..9_u64, on_full())
            .prop_map(|(queue, most, on_full)| Action::Limit { queue, most, on_full }),
        5 => (any::<bool>(), 0..4_u8).prop_map(|(all, skip)| Action::AnswerFetch { all, skip }),
        1 => any::<bool>().prop_map(Action::Lease),
        2 => prop_oneof![0..800_000_u64, Just(15_000_000)].prop_map(Action::Advance),
        2 => Just(Action::CommitProposals),
        1 => Just(Action::Checkpoint),
        1 => any::<bool>().prop_map(|restarts| Action::Failover { restarts }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broker_does_what_the_model_says(actions in vec(action(), 1..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(&action);
        }
        world.drain();
    }

    #[test]
    fn restoring_any_bytes_is_never_trouble(bytes in vec(any::<u8>(), 0..300)) {
        let behind_a_version = [&[1][..], &bytes[..]].concat();
        prop_assert!(quorate_broker::Broker::restore(&bytes).is_err() || bytes.first() == Some(&1));
        let _restored = quorate_broker::Broker::restore(&behind_a_version);
    }

    #[test]
    fn restoring_a_damaged_checkpoint_is_never_trouble(
        actions in vec(action(), 1..30),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut world = World::new();
        for action in actions {
            world.act(&action);
        }
        let mut bytes = world.leader_checkpoint();
        let place = place.index(bytes.len());
        bytes[place] = value;
        if let Ok(broker) = quorate_broker::Broker::restore(&bytes) {
            // What is taken is a state: it is written and read like any other.
            let again = quorate_broker::Broker::restore(&broker.checkpoint()).unwrap();
            prop_assert_eq!(again.digest(), broker.digest());
            quorate_broker::invariant::check(&broker).unwrap();
        }
    }
}
