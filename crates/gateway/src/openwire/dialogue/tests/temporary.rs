//! Temporary destinations, the word of them, and durable subscriptions that are deleted.

use quorate_wire::openwire::{
    DestinationInfo, DestinationOperation, RemoveSubscriptionInfo, Structure,
};

use super::*;
use crate::session::Removal;

fn change(
    bench: &mut Bench,
    destination: Destination,
    operation: DestinationOperation,
) -> Vec<Effect> {
    bench.ask(|header| {
        Command::DestinationInfo(DestinationInfo {
            header,
            connection_id: Some(ConnectionId {
                value: CLIENT.to_owned(),
            }),
            destination,
            operation,
            timeout: 0,
            broker_path: None,
        })
    })
}

fn make(bench: &mut Bench, destination: Destination) -> Vec<Effect> {
    change(bench, destination, DestinationOperation::Add)
}

fn unmake(bench: &mut Bench, destination: Destination) -> Vec<Effect> {
    change(bench, destination, DestinationOperation::Remove)
}

fn listen(bench: &mut Bench, value: i64, no_local: bool) -> Vec<Effect> {
    let mut info = consumer_info(value);
    info.destination = topic("ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic");
    info.no_local = no_local;
    bench.ask(|header| {
        info.header = header;
        Command::ConsumerInfo(Box::new(info))
    })
}

/// Messages to consumers: of advisories what they tell.
fn heard(effects: &[Effect]) -> Vec<(i64, Option<(DestinationOperation, Destination)>)> {
    let heard = dispatched(effects).into_iter().map(|dispatch| {
        let message = dispatch.message.as_ref().expect("a message");
        let told = message.data_structure.as_ref().map(|structure| {
            let Structure::Command(command) = structure else {
                panic!("{structure:?}");
            };
            let Command::DestinationInfo(info) = &**command else {
                panic!("{command:?}");
            };
            (info.operation, info.destination.clone())
        });
        (dispatch.consumer_id.value, told)
    });
    heard.collect()
}

fn deliver_asking(bench: &mut Bench, call: CallId, reply_to: Destination) -> Vec<Effect> {
    let mut asking = message(Header::default(), 1, queue("orders"));
    asking.reply_to = Some(reply_to);
    bench.entries += 1;
    let mut delivery = delivery(bench.entries);
    delivery.message = stored(asking);
    bench.answer(Answer::Delivered {
        call,
        shard: SHARD,
        deliveries: vec![delivery],
    })
}

#[test]
fn a_client_hears_of_a_destination_before_the_message_that_asks_for_an_answer_there() {
    let mut bench = Bench::open();
    assert_eq!(response(&listen(&mut bench, 9, true)), None);
    let call = bench.consume(1, "orders", 10);
    let theirs = temporary(OTHER, 3);
    let effects = deliver_asking(&mut bench, call, theirs.clone());
    let add = DestinationOperation::Add;
    assert_eq!(
        heard(&effects),
        [(9, Some((add, theirs.clone()))), (1, None)]
    );
    let effects = deliver_asking(&mut bench, call, theirs.clone());
    assert_eq!(heard(&effects), [(1, None)], "it knows");
    let effects = listen(&mut bench, 10, true);
    assert_eq!(
        heard(&effects),
        [(10, Some((add, theirs)))],
        "who comes later hears it too"
    );
    let effects = deliver_asking(&mut bench, call, queue("answers"));
    assert_eq!(heard(&effects), [(1, None)], "no temporary one");
}

#[test]
fn an_advisory_is_what_the_client_takes_for_one() {
    let mut bench = Bench::open();
    listen(&mut bench, 9, true);
    let call = bench.consume(1, "orders", 10);
    let effects = deliver_asking(&mut bench, call, temporary(OTHER, 3));
    let advisory = dispatched(&effects)[0].message.as_ref().expect("a message");
    assert_eq!(advisory.destination, topic("ActiveMQ.Advisory.TempQueue"));
    assert_eq!(advisory.jms_type.as_deref(), Some("Advisory"));
    assert!(!advisory.persistent);
    assert_eq!(advisory.priority, 0);
    let properties = advisory.properties().expect("properties");
    assert!(properties.get("originBrokerName").is_some());
    let Some(Structure::Command(command)) = &advisory.data_structure else {
        panic!("{advisory:?}");
    };
    let Command::DestinationInfo(info) = &**command else {
        panic!("{command:?}");
    };
    let owner = info
        .connection_id
        .as_ref()
        .map(|owner| owner.value.as_str());
    assert_eq!(owner, Some(OTHER));
}

#[test]
fn without_a_listener_nothing_is_told_nor_remembered() {
    let mut bench = Bench::open();
    let call = bench.consume(1, "orders", 10);
    let theirs = temporary(OTHER, 3);
    assert_eq!(
        heard(&deliver_asking(&mut bench, call, theirs.clone())),
        [(1, None)]
    );
    assert!(heard(&listen(&mut bench, 9, true)).is_empty());
    assert_eq!(heard(&deliver_asking(&mut bench, call, theirs)).len(), 2);
}

#[test]
fn what_is_told_is_bounded_and_the_client_forgets_it_as_well() {
    let mut bench = Bench::open();
    listen(&mut bench, 9, true);
    let call = bench.consume(1, "orders", 32_767);
    let most = u32::try_from(crate::limits::TOLD_MAX).expect("small");
    for number in 0..most {
        deliver_asking(&mut bench, call, temporary(OTHER, number));
    }
    let effects = deliver_asking(&mut bench, call, temporary(OTHER, most));
    let first = (DestinationOperation::Remove, temporary(OTHER, 0));
    let last = (DestinationOperation::Add, temporary(OTHER, most));
    assert_eq!(
        heard(&effects),
        [(9, Some(first)), (9, Some(last)), (1, None)]
    );
}

fn announced(bench: &mut Bench, number: u32, is_there: bool) -> Vec<Effect> {
    let destination = temporary(OTHER, number);
    bench.step(Input::Announced {
        destination,
        is_there,
    })
}

#[test]
fn what_other_connections_make_and_remove_is_told_to_listeners() {
    let mut bench = Bench::open();
    assert!(announced(&mut bench, 1, true).is_empty());
    let add = DestinationOperation::Add;
    let remove = DestinationOperation::Remove;
    let first = temporary(OTHER, 1);
    let effects = listen(&mut bench, 9, true);
    assert_eq!(heard(&effects), [(9, Some((add, first.clone())))]);
    assert!(announced(&mut bench, 1, true).is_empty(), "known");
    let effects = announced(&mut bench, 2, true);
    assert_eq!(heard(&effects), [(9, Some((add, temporary(OTHER, 2))))]);
    let effects = announced(&mut bench, 1, false);
    assert_eq!(heard(&effects), [(9, Some((remove, first)))]);
    assert!(announced(&mut bench, 1, false).is_empty(), "it was told");
}

#[test]
fn what_the_client_makes_and_removes_is_announced() {
    let mut bench = Bench::open();
    let news = |effects: &[Effect]| {
        let news = effects.iter().filter_map(|effect| match effect {
            Effect::Announce { is_there, .. } => Some(*is_there),
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    assert_eq!(news(&make(&mut bench, temporary(CLIENT, 1))), [true]);
    assert!(news(&make(&mut bench, temporary(CLIENT, 1))).is_empty());
    assert_eq!(news(&unmake(&mut bench, temporary(CLIENT, 1))), [false]);
    make(&mut bench, temporary(CLIENT, 2));
    assert_eq!(news(&bench.step(Input::Closed)), [false]);
}

#[test]
fn own_destinations_are_told_to_those_who_want_to_hear_of_them() {
    let mut bench = Bench::open();
    listen(&mut bench, 8, true);
    listen(&mut bench, 9, false);
    let own = temporary(CLIENT, 1);
    let effects = make(&mut bench, own.clone());
    let add = DestinationOperation::Add;
    assert_eq!(heard(&effects), [(9, Some((add, own.clone())))]);
    assert_eq!(response(&effects), None);
    assert_eq!(heard(&listen(&mut bench, 10, false)).len(), 1, "replayed");
    assert_eq!(heard(&unmake(&mut bench, own)).len(), 2);
}

#[test]
fn a_temporary_queue_is_deleted_when_it_is_removed() {
    let mut bench = Bench::open();
    make(&mut bench, temporary(CLIENT, 1));
    assert_eq!(
        response(&make(&mut bench, temporary(CLIENT, 1))),
        None,
        "said again"
    );
    let effects = unmake(&mut bench, temporary(CLIENT, 1));
    assert!(responses(&effects).is_empty());
    let [
        Told::Purge {
            call,
            destination,
            what: Removal::Temporary,
        },
    ] = told(&effects)[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(destination.to_string(), format!("queue://{CLIENT}:1"));
    let (call, removed) = (*call, 3);
    let effects = bench.answer(Answer::Purged { call, removed });
    assert_eq!(response(&effects), None);
    assert_eq!(
        response(&unmake(&mut bench, temporary(CLIENT, 1))),
        None,
        "it is gone"
    );
}

#[test]
fn a_temporary_queue_with_a_consumer_stays() {
    let mut bench = Bench::open();
    make(&mut bench, temporary(CLIENT, 1));
    bench.consume_with(1, |info| info.destination = temporary(CLIENT, 1));
    let effects = unmake(&mut bench, temporary(CLIENT, 1));
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
}

#[test]
fn temporary_queues_go_with_their_connection() {
    let mut bench = Bench::open();
    make(&mut bench, temporary(CLIENT, 1));
    let effects = bench.step(Input::Closed);
    assert!(matches!(
        told(&effects)[..],
        [Told::Purge { .. }, Told::Dropped { .. }]
    ));
}

#[test]
fn a_connection_makes_no_other_ones_destinations() {
    let mut bench = Bench::open();
    let effects = make(&mut bench, temporary(OTHER, 1));
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.InvalidDestinationException")
    );
}

#[test]
fn a_queue_is_made_by_its_use_and_deleted_when_a_client_removes_it() {
    let mut bench = Bench::open();
    assert_eq!(response(&make(&mut bench, queue("orders"))), None);
    let effects = unmake(&mut bench, queue("orders"));
    let [
        Told::Purge {
            call, destination, ..
        },
    ] = told(&effects)[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(destination.to_string(), "queue://orders");
    let (call, removed) = (*call, 3);
    let effects = bench.answer(Answer::Purged { call, removed });
    assert_eq!(response(&effects), None);
    let effects = unmake(&mut bench, topic("prices"));
    let [
        Told::Purge {
            call,
            destination,
            what: Removal::Destination,
        },
    ] = told(&effects)[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!(destination.to_string(), "topic://prices");
    let (call, removed) = (*call, 0);
    let effects = bench.answer(Answer::Purged { call, removed });
    assert_eq!(response(&effects), None);
    bench.consume(1, "orders", 1);
    let effects = unmake(&mut bench, queue("orders"));
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
}

#[test]
fn advisories_of_other_kinds_are_admitted_and_silent() {
    let mut bench = Bench::open();
    let mut info = consumer_info(3);
    info.destination = topic("ActiveMQ.Advisory.Connection");
    let effects = bench.ask(|header| {
        info.header = header;
        Command::ConsumerInfo(Box::new(info))
    });
    assert_eq!(response(&effects), None);
    assert!(told(&effects).is_empty(), "the cluster does not hear of it");
    let id = consumer_id(3);
    let effects = bench.ask(|header| remove(header, Removed::Consumer(id), -1));
    assert_eq!(response(&effects), None);
}

fn unsubscribe(bench: &mut Bench) -> Vec<Effect> {
    bench.ask(|header| {
        Command::RemoveSubscriptionInfo(RemoveSubscriptionInfo {
            header,
            connection_id: None,
            subscription_name: "audit".to_owned(),
            client_id: Some("app".to_owned()),
        })
    })
}

#[test]
fn a_durable_subscription_is_deleted() {
    let mut bench = Bench::open();
    let effects = unsubscribe(&mut bench);
    let [Told::Unsubscribe { call, key }] = told(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(key.as_str(), "named:app:audit");
    let (call, removed) = (*call, Some(0));
    let effects = bench.answer(Answer::Unsubscribed { call, removed });
    assert_eq!(response(&effects), None);
}

#[test]
fn a_subscription_that_is_not_there_cannot_be_deleted() {
    let mut bench = Bench::open();
    let effects = unsubscribe(&mut bench);
    let call = begun(&effects).expect("a call");
    let removed = None;
    let effects = bench.answer(Answer::Unsubscribed { call, removed });
    let class = response(&effects);
    assert_eq!(
        class.as_deref(),
        Some("javax.jms.InvalidDestinationException")
    );
}

#[test]
fn a_subscription_that_somebody_reads_cannot_be_deleted() {
    let mut bench = Bench::open();
    bench.consume_with(1, |info| {
        info.destination = topic("prices");
        info.subscription_name = Some("audit".to_owned());
    });
    let effects = unsubscribe(&mut bench);
    assert_eq!(
        response(&effects).as_deref(),
        Some("javax.jms.JMSException")
    );
    assert!(told(&effects).is_empty());
}
