//! Consumers begin, get credit and messages.

use quorate_message::{GroupMark, Lifetime};
use quorate_wire::openwire::{ConsumerControl, MessagePull};

use super::*;
use crate::session::{Failure, OpenConsumer};

fn opened(effects: &[Effect]) -> (CallId, &OpenConsumer) {
    let opened = told(effects).into_iter().find_map(|told| match told {
        Told::Consume { call, open } => Some((*call, open)),
        _ => None,
    });
    opened.expect("a consumer")
}

fn ask_for(bench: &mut Bench, value: i64, change: impl FnOnce(&mut ConsumerInfo)) -> Vec<Effect> {
    let mut info = consumer_info(value);
    change(&mut info);
    bench.ask(|header| {
        info.header = header;
        Command::ConsumerInfo(Box::new(info))
    })
}

fn attached(call: CallId) -> Answer {
    Answer::Opened {
        call,
        consumer: quorate_message::ConsumerId::default(),
        lost: Vec::new(),
    }
}

#[test]
fn a_consumer_is_answered_when_it_is_attached() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |_| {});
    assert!(
        responses(&effects).is_empty(),
        "what is sent now might miss it"
    );
    let (call, open) = opened(&effects);
    assert_eq!(open.queue.to_string(), "queue://orders");
    assert_eq!(open.credit.messages, 10, "the prefetch");
    assert_eq!(open.consumer, translate::consumer_id(&consumer_id(1)));
    let asked = bench.last();
    assert!(ask_for(&mut bench, 1, |_| {}).is_empty(), "said again");
    let effects = bench.answer(attached(call));
    assert_eq!(responses(&effects), [(asked, None), (asked + 1, None)]);
    assert_eq!(response(&ask_for(&mut bench, 1, |_| {})), None);
    assert!(bench.answer(attached(call)).is_empty(), "to another leader");
}

#[test]
fn a_consumer_that_is_not_attached_is_refused() {
    let mut bench = Bench::open();
    let call = opened(&ask_for(&mut bench, 1, |_| {})).0;
    let failure = Failure::AttachRefused {
        shard: SHARD,
        reason: "subscription has a consumer".into(),
    };
    let effects = bench.answer(Answer::Failed { call, failure });
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
    assert!(
        begun(&ask_for(&mut bench, 1, |_| {})).is_some(),
        "it can be tried again"
    );
}

#[test]
fn messages_are_dispatched_in_order_with_rising_sequences() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let effects = bench.deliver(call, 3);
    let dispatched = dispatched(&effects);
    let sequences = dispatched.iter().map(|dispatch| {
        assert_eq!(dispatch.consumer_id, consumer_id(1));
        assert_eq!(dispatch.redelivery_counter, 0);
        let message = dispatch.message.as_ref().expect("a message");
        assert_eq!(message.destination, queue("orders"));
        message.message_id.broker_sequence_id
    });
    let sequences: Vec<i64> = sequences.collect();
    assert!(sequences.is_sorted_by(|a, b| a < b));
    assert!(
        sequences[0] > 1_700_000_000_000,
        "above those of earlier connections"
    );
    let size = delivery(1).message.len() as u64;
    assert!(
        matches!(effects.last(), Some(Effect::Taken { call: of, bytes }) if *of == call && *bytes == 3 * size)
    );
}

#[test]
fn only_failed_deliveries_are_counted() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let mut deliveries = vec![delivery(1), delivery(2), delivery(3)];
    deliveries[0].delivery_count = 4;
    deliveries[1].redelivered = true;
    deliveries[2].group = Some(GroupMark {
        id: quorate_message::GroupId(1),
        is_first: true,
        is_last: false,
    });
    let shard = SHARD;
    let effects = bench.answer(Answer::Delivered {
        call,
        shard,
        deliveries,
    });
    let dispatched = dispatched(&effects);
    let counters: Vec<i32> = dispatched.iter().map(|d| d.redelivery_counter).collect();
    assert_eq!(counters, [4, 0, 0]);
    let third = dispatched[2].message.as_ref().expect("a message");
    assert!(third.jmsx_group_first_for_consumer);
}

#[test]
fn a_message_that_cannot_be_read_is_rejected() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let mut broken = delivery(9);
    broken.message = Bytes::from_static(b"?");
    let effects = bench.answer(Answer::Delivered {
        call,
        shard: SHARD,
        deliveries: vec![broken],
    });
    assert!(dispatched(&effects).is_empty());
    assert_eq!(settled(&effects), [(Settlement::Reject, vec![9])]);
    assert_eq!(errors(&effects).len(), 1);
    assert_eq!(lent(&effects), 1);
}

#[test]
fn a_prefetch_that_grows_lends_the_difference_and_one_that_shrinks_nothing() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 2);
    let mut control = |prefetch, close| {
        bench.say(|header| {
            Command::ConsumerControl(ConsumerControl {
                header,
                destination: None,
                close,
                consumer_id: Some(consumer_id(1)),
                prefetch,
                flush: false,
                start: false,
                stop: false,
            })
        })
    };
    assert_eq!(lent(&control(5, false)), 3);
    assert_eq!(lent(&control(1, false)), 0);
    assert_eq!(lent(&control(6, false)), 1);
    let effects = control(6, true);
    assert!(matches!(told(&effects)[..], [Told::Finished { call: of }] if *of == call));
}

#[test]
fn a_live_subscription_is_its_consumers_own() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |info| {
        info.destination = topic("prices.>");
        info.selector = Some("a = 1".to_owned());
    });
    let (_, open) = opened(&effects);
    let wanted = open.subscription.as_ref().expect("a subscription");
    assert_eq!(wanted.lifetime, Lifetime::Live);
    assert_eq!(wanted.pattern.as_str(), "prices.>");
    assert_eq!(wanted.selector, "a = 1");
    assert_eq!(open.terms.selector, None, "it is the subscription's");
    let own = format!("subscription://live::{}", open.consumer);
    assert_eq!(open.queue.to_string(), own);
}

#[test]
fn a_durable_subscription_is_the_clients_by_its_name() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |info| {
        info.destination = topic("prices");
        info.subscription_name = Some("audit".to_owned());
    });
    let (_, open) = opened(&effects);
    assert_eq!(open.queue.to_string(), "subscription://named:app:audit");
    let wanted = open.subscription.as_ref().expect("a subscription");
    assert_eq!(wanted.lifetime, Lifetime::Durable);
}

#[test]
fn terms_are_those_of_the_consumer() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |info| {
        info.selector = Some("a = 1".to_owned());
        info.exclusive = true;
        info.priority = 5;
    });
    let terms = &opened(&effects).1.terms;
    assert!(terms.is_exclusive);
    assert_eq!(terms.priority, 5);
    assert_eq!(terms.selector.as_ref().map(|s| s.text()), Some("a = 1"));
}

#[test]
fn what_cannot_be_consumed_is_refused_by_its_exception() {
    let mut bench = Bench::open();
    let mut refused = |change: &dyn Fn(&mut ConsumerInfo)| {
        let effects = ask_for(&mut bench, 1, change);
        assert!(told(&effects).is_empty());
        response(&effects).expect("an exception")
    };
    let destination = "javax.jms.InvalidDestinationException";
    assert_eq!(refused(&|i| i.destination = queue("a.>")), destination);
    let of_two = |info: &mut ConsumerInfo| {
        info.destination = topic("a,b");
        info.subscription_name = Some("audit".to_owned());
    };
    assert_eq!(refused(&of_two), destination);
    assert_eq!(
        refused(&|i| i.destination = temporary(OTHER, 1)),
        destination
    );
    let bad = refused(&|i| i.selector = Some("a ==".to_owned()));
    assert_eq!(bad, "javax.jms.InvalidSelectorException");
}

#[test]
fn a_virtual_topics_queues_may_be_read_by_a_pattern() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |i| {
        i.destination = queue("Consumer.A.VirtualTopic.>")
    });
    let (_, open) = opened(&effects);
    let wanted = open.subscription.as_ref().expect("a subscription");
    assert_eq!(wanted.pattern.as_str(), "VirtualTopic.>");
}

#[test]
fn a_consumer_does_not_see_what_its_own_connection_sent_if_it_says_so() {
    let mut bench = Bench::open();
    let call = bench.consume_with(1, |info| {
        info.destination = topic("prices");
        info.no_local = true;
    });
    let mut foreign = message(Header::default(), 1, topic("prices"));
    foreign.message_id.producer_id.connection_id = format!("{CLIENT}0");
    let mut deliveries = vec![delivery(1), delivery(2)];
    deliveries[1].message = stored(foreign);
    let shard = SHARD;
    let effects = bench.answer(Answer::Delivered {
        call,
        shard,
        deliveries,
    });
    assert_eq!(dispatched(&effects).len(), 1);
    assert_eq!(settled(&effects), [(Settlement::Accept, vec![1])]);
    assert_eq!(lent(&effects), 1, "it takes no place in the window");
}

fn pull(bench: &mut Bench, timeout: i64) -> Vec<Effect> {
    bench.say(|header| {
        Command::MessagePull(MessagePull {
            header,
            consumer_id: consumer_id(1),
            destination: None,
            timeout,
            correlation_id: None,
            message_id: None,
        })
    })
}

#[test]
fn a_pull_gets_one_message() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 0);
    assert_eq!(lent(&pull(&mut bench, 0)), 1);
    assert_eq!(bench.dialogue.next_deadline(), None, "as long as it takes");
    let effects = bench.deliver(call, 1);
    assert_eq!(dispatched(&effects).len(), 1);
    assert_eq!(lent(&effects), 0);
    assert_eq!(lent(&pull(&mut bench, 0)), 1);
}

#[test]
fn a_pull_that_is_over_is_answered_with_nothing_and_a_late_message_goes_back() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 0);
    pull(&mut bench, 50);
    assert_eq!(
        bench.dialogue.next_deadline(),
        Some(bench.now.mono.after(50_000))
    );
    let effects = bench.wait();
    let [nothing] = dispatched(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert!(nothing.message.is_none() && nothing.destination.is_none());
    let effects = bench.deliver(call, 1);
    assert!(dispatched(&effects).is_empty());
    assert_eq!(settled(&effects), [(Settlement::Release, vec![1])]);
    assert_eq!(lent(&pull(&mut bench, 50)), 1);
    pull(&mut bench, 50);
    bench.wait();
    assert_eq!(
        lent(&pull(&mut bench, 50)),
        0,
        "what is lent does for the next one"
    );
}

#[test]
fn a_pull_that_does_not_wait_begins_when_the_consumer_is_attached() {
    let mut bench = Bench::open();
    let call = opened(&ask_for(&mut bench, 1, |info| info.prefetch_size = 0)).0;
    pull(&mut bench, -1);
    assert_eq!(bench.dialogue.next_deadline(), None);
    bench.answer(attached(call));
    assert!(bench.dialogue.next_deadline().is_some());
    assert_eq!(dispatched(&bench.wait()).len(), 1);
}

#[test]
fn a_consumer_that_the_cluster_ends_is_closed_at_the_client() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let failure = Failure::Hangs {
        queue: "queue://orders".parse().expect("a queue"),
        position: (SHARD, MessagePosition::new(1, 0)),
        patience_ms: 100,
    };
    let effects = bench.answer(Answer::Failed { call, failure });
    assert_eq!(errors(&effects).len(), 1);
    let closed = effects.iter().any(|effect| {
        matches!(effect, Effect::Say(Command::ConsumerControl(control))
            if control.close && control.consumer_id == Some(consumer_id(1)))
    });
    assert!(closed, "{effects:?}");
}

#[test]
fn a_consumer_without_a_leader_for_too_long_sends_the_client_away() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let failure = Failure::Deadline {
        shard: SHARD,
        reason: "no leader".into(),
    };
    let effects = bench.answer(Answer::Failed { call, failure });
    assert_eq!(closing(&effects), Some(Closing::Unserved));
}

#[test]
fn what_the_leader_has_taken_away_is_not_the_clients_any_longer() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 2);
    let ids = bench.receive(call, 2);
    let effects = bench.answer(Answer::Opened {
        call,
        consumer: quorate_message::ConsumerId::default(),
        lost: vec![(SHARD, MessagePosition::new(1, 0))],
    });
    assert_eq!(lent(&effects), 1);
    let effects = bench.acknowledge(1, AckType::Standard, Some(&ids[0]), &ids[0]);
    assert!(settled(&effects).is_empty());
}

fn in_use(call: CallId) -> Answer {
    let failure = Failure::AttachRefused {
        shard: SHARD,
        reason: "subscription has a consumer".into(),
    };
    Answer::Failed { call, failure }
}

fn durable(info: &mut ConsumerInfo) {
    info.destination = topic("prices");
    info.subscription_name = Some("audit".to_owned());
}

#[test]
fn a_durable_subscription_that_is_in_use_is_tried_again_for_a_moment() {
    let mut bench = Bench::open();
    let call = opened(&ask_for(&mut bench, 1, durable)).0;
    let asked = bench.last();
    let effects = bench.answer(in_use(call));
    assert!(responses(&effects).is_empty());
    assert!(matches!(told(&effects)[..], [Told::Dropped { call: of }] if *of == call));
    let effects = bench.wait();
    let (next, open) = opened(&effects);
    assert_ne!(next, call);
    assert_eq!(open.credit.messages, 10);
    let effects = bench.answer(attached(next));
    assert_eq!(responses(&effects), [(asked, None)]);
    assert_eq!(bench.dialogue.next_deadline(), None);
}

#[test]
fn a_durable_subscription_that_stays_in_use_is_refused() {
    let mut bench = Bench::open();
    let mut call = opened(&ask_for(&mut bench, 1, durable)).0;
    let begun = bench.now.mono;
    loop {
        let effects = bench.answer(in_use(call));
        if !responses(&effects).is_empty() {
            assert_eq!(
                response(&effects).as_deref(),
                Some("javax.jms.JMSException")
            );
            break;
        }
        call = opened(&bench.wait()).0;
    }
    let waited = bench.now.mono.since(begun);
    assert!((1_000_000..2_000_000).contains(&waited), "{waited}");
}

#[test]
fn a_consumer_that_is_closed_while_it_would_try_again_is_gone() {
    let mut bench = Bench::open();
    let call = opened(&ask_for(&mut bench, 1, durable)).0;
    bench.answer(in_use(call));
    let effects = bench.ask(|header| remove(header, Removed::Consumer(consumer_id(1)), -1));
    let answered = responses(&effects);
    assert_eq!(
        answered.len(),
        2,
        "whoever opened it, and whoever closes it"
    );
    assert!(told(&effects).is_empty());
    assert_eq!(bench.dialogue.next_deadline(), None);
}

/// Opens a consumer of two queues. Returns its calls.
fn of_two(bench: &mut Bench, prefetch: i32) -> [CallId; 2] {
    let effects = ask_for(bench, 1, |info| {
        info.destination = queue("a,b");
        info.prefetch_size = prefetch;
    });
    let [
        Told::Consume {
            call: a,
            open: of_a,
        },
        Told::Consume {
            call: b,
            open: of_b,
        },
    ] = told(&effects)[..]
    else {
        panic!("{effects:?}");
    };
    assert_ne!(of_a.consumer, of_b.consumer);
    let names = [of_a.queue.to_string(), of_b.queue.to_string()];
    assert_eq!(names, ["queue://a", "queue://b"]);
    assert!(lent(&effects) <= u64::try_from(prefetch.max(2)).expect("not negative"));
    let (a, b) = (*a, *b);
    assert!(
        responses(&bench.answer(attached(a))).is_empty(),
        "half of it"
    );
    assert_eq!(response(&bench.answer(attached(b))), None);
    [a, b]
}

#[test]
fn a_consumer_of_two_queues_gets_from_both_and_acknowledges_both() {
    let mut bench = Bench::open();
    let [a, b] = of_two(&mut bench, 10);
    let first = bench.deliver(a, 1);
    let message = dispatched(&first)[0].message.as_ref().expect("a message");
    assert_eq!(message.destination, queue("a"), "its own");
    let mut ids = vec![message.message_id.clone()];
    ids.extend(bench.receive(b, 2));
    let effects = bench.acknowledge(1, AckType::Standard, Some(&ids[0]), &ids[1]);
    let accept = |entries: Vec<u64>| (Settlement::Accept, entries);
    assert_eq!(settled(&effects), [accept(vec![1]), accept(vec![2])]);
    let effects = bench.acknowledge(1, AckType::Individual, None, &ids[2]);
    assert_eq!(settled(&effects), [accept(vec![3])]);
    let effects = bench.ask(|header| remove(header, Removed::Consumer(consumer_id(1)), -1));
    assert!(matches!(
        told(&effects)[..],
        [Told::Finished { .. }, Told::Finished { .. }]
    ));
    assert!(responses(&bench.answer(Answer::Ended { call: a })).is_empty());
    assert_eq!(response(&bench.answer(Answer::Ended { call: b })), None);
}

#[test]
fn a_pull_from_two_queues_gets_one_message() {
    let mut bench = Bench::open();
    let [a, b] = of_two(&mut bench, 0);
    assert_eq!(lent(&pull(&mut bench, 50)), 2);
    assert_eq!(dispatched(&bench.deliver(a, 1)).len(), 1);
    let effects = bench.deliver(b, 1);
    assert!(dispatched(&effects).is_empty());
    assert_eq!(settled(&effects), [(Settlement::Release, vec![2])]);
    pull(&mut bench, 50);
    assert_eq!(dispatched(&bench.wait()).len(), 1, "once");
}

#[test]
fn a_consumer_of_two_queues_ends_with_either() {
    let mut bench = Bench::open();
    let effects = ask_for(&mut bench, 1, |info| info.destination = queue("a,b"));
    let calls = told(&effects).into_iter().filter_map(|told| match told {
        Told::Consume { call, .. } => Some(*call),
        _ => None,
    });
    let calls: Vec<CallId> = calls.collect();
    let effects = bench.answer(in_use(calls[1]));
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
    let finished = told(&effects);
    assert!(
        matches!(finished[..], [Told::Dropped { .. }, Told::Finished { call }] if *call == calls[0])
    );
}
