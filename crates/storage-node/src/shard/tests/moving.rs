//! Operators' moves, page by page: by selector, back to where dead letters came from, and over a change of leader.

use bytes::Bytes;
use quorate_broker::{Selector, letter};
use quorate_message::{
    BatchBuilder, Destination, Message, MessagePosition, ProducerId, Publication, SLOTS, Value,
};
use quorate_replication::{NodeId, ShardId};

use super::cluster::{Cluster, publishes, queue};
use crate::shard::{
    input::{Input, Placement},
    moving::{MoveAction, MovePage, MoveQuery, Moved},
};

fn query(name: &str, action: MoveAction) -> MoveQuery {
    MoveQuery {
        query: 1,
        queue: queue(name),
        action,
        only: Vec::new(),
        after: None,
        upto: None,
        limit: u32::MAX,
        selector: None,
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    let slots = vec![ShardId(1); usize::from(SLOTS)].into();
    for node in 1..=3 {
        let placement = Placement {
            slots: std::sync::Arc::clone(&slots),
            overrides: std::sync::Arc::default(),
        };
        cluster.input(node, Input::Placed(placement));
    }
    cluster.elect(1);
    cluster
}

fn page(cluster: &mut Cluster, leader: u32, query: MoveQuery) -> MovePage {
    cluster.input(leader, Input::Move(Box::new(query)));
    cluster.pages.pop().expect("a page is answered")
}

#[track_caller]
fn done(page: MovePage) -> Moved {
    match page {
        MovePage::Done(moved) => moved,
        other => panic!("{other:?}"),
    }
}

fn messages(cluster: &Cluster, leader: u32, name: &str) -> u64 {
    let mut queues = cluster.node(leader).shard.broker().queues();
    queues
        .find(|status| status.name == queue(name))
        .map_or(0, |status| status.messages)
}

/// Messages with a property each, the colours in turn.
fn coloured(name: &str, count: u64, properties: &[(&str, &str)]) -> Bytes {
    let destination = Destination::queue(queue(name));
    let mut builder = BatchBuilder::persistent();
    for number in 1..=count {
        let publication = Publication {
            destination: &destination,
            producer: ProducerId([8; 16]),
            number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        let colour = if number % 2 == 0 { "red" } else { "blue" };
        let mut told = vec![("colour".to_owned(), Value::Text(colour.to_owned()))];
        for (name, value) in properties {
            told.push(((*name).to_owned(), Value::Text((*value).to_owned())));
        }
        let message = Message {
            properties: told,
            ..Message::with_body(format!("message {number}"))
        };
        builder.publish_message(&publication, &message).unwrap();
    }
    builder.finish()
}

fn to(name: &str) -> Destination {
    Destination::queue(queue(name))
}

#[test]
fn a_page_moves_what_is_there_and_says_where_the_next_begins() {
    let mut cluster = cluster();
    for batch in 0..6 {
        cluster.submit(1, batch + 1, publishes("orders", batch * 50 + 1, 50));
    }
    let first = done(page(
        &mut cluster,
        1,
        query("orders", MoveAction::Move(to("other"))),
    ));
    assert_eq!((first.moved, first.skipped, first.end), (256, 0, false));
    // What comes later than the first page stays.
    cluster.submit(1, 9, publishes("orders", 301, 5));
    let rest = MoveQuery {
        after: first.last,
        upto: Some(first.upto),
        ..query("orders", MoveAction::Move(to("other")))
    };
    let second = done(page(&mut cluster, 1, rest.clone()));
    assert_eq!((second.moved, second.end), (44, true));
    // A repeat moves nothing twice.
    assert_eq!(done(page(&mut cluster, 1, rest)).moved, 0);
    cluster.advance(500);
    assert_eq!(messages(&cluster, 1, "orders"), 5);
    assert_eq!(messages(&cluster, 1, "other"), 300);
}

#[test]
fn a_selector_chooses_and_named_positions_bound_it() {
    let mut cluster = cluster();
    cluster.submit(1, 1, coloured("orders", 10, &[]));
    let red = MoveQuery {
        selector: Some(Selector::parse("colour = 'red'").unwrap()),
        limit: 3,
        ..query("orders", MoveAction::Copy(to("other")))
    };
    let copied = done(page(&mut cluster, 1, red));
    assert_eq!((copied.moved, copied.end), (3, false));
    let stored: Vec<MessagePosition> = cluster
        .node(1)
        .shard
        .broker()
        .stored_from(&queue("orders"), MessagePosition::default())
        .collect();
    let some = MoveQuery {
        only: vec![stored[0], stored[7]],
        ..query("orders", MoveAction::Remove)
    };
    assert_eq!(done(page(&mut cluster, 1, some)).moved, 2);
    cluster.advance(500);
    assert_eq!(messages(&cluster, 1, "orders"), 8);
    assert_eq!(messages(&cluster, 1, "other"), 3);
}

#[test]
fn dead_letters_go_back_and_what_names_no_origin_stays() {
    let mut cluster = cluster();
    let origin = [(letter::DEAD_LETTER_QUEUE, "queue://orders")];
    cluster.submit(1, 1, coloured("dead", 4, &origin));
    cluster.submit(1, 2, publishes("dead", 1, 2));
    let retried = done(page(&mut cluster, 1, query("dead", MoveAction::Retry)));
    assert_eq!((retried.moved, retried.skipped, retried.end), (4, 2, true));
    cluster.advance(500);
    assert_eq!(messages(&cluster, 1, "dead"), 2);
    assert_eq!(messages(&cluster, 1, "orders"), 4);
}

#[test]
fn messages_in_hand_stay_and_only_the_leader_moves() {
    let mut cluster = cluster();
    cluster.submit(1, 1, publishes("orders", 1, 3));
    cluster.attach(1, 1, Vec::new());
    cluster.advance(1_000);
    let moved = done(page(
        &mut cluster,
        1,
        query("orders", MoveAction::Move(to("other"))),
    ));
    assert_eq!((moved.moved, moved.skipped, moved.end), (0, 3, true));
    let elsewhere = page(&mut cluster, 2, query("orders", MoveAction::Retry));
    assert!(matches!(elsewhere, MovePage::NotLeading { .. }));
}

#[test]
fn a_deposed_leader_says_that_it_does_not_know() {
    let mut cluster = cluster();
    cluster.submit(1, 1, publishes("orders", 1, 3));
    cluster.down.extend([NodeId(2), NodeId(3)]);
    let asked = query("orders", MoveAction::Move(to("other")));
    cluster.input(1, Input::Move(Box::new(asked.clone())));
    assert_eq!(cluster.pages, []);
    cluster.down.clear();
    cluster.elect(2);
    assert_eq!(cluster.pages.pop(), Some(MovePage::LeaderLost));
    // Asked again it does what is left, if anything is.
    done(page(&mut cluster, 2, asked));
    cluster.advance(500);
    assert_eq!(messages(&cluster, 2, "orders"), 0);
    assert_eq!(messages(&cluster, 2, "other"), 3);
}
