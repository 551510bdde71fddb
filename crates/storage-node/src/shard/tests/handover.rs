//! Planned moves of a leadership: what is handed over is used exactly when nothing happened in between.

use std::ops::Range;

use bytes::Bytes;
use quorate_broker::Selector;
use quorate_message::{
    BatchBuilder, Destination, Message, MessagePosition, Outcome, ProducerId, Publication,
    Settlement,
};
use quorate_replication::{DiskId, Member, NodeId, Order, Report};

use super::cluster::{Cluster, publishes, queue, settles};
use super::{check_equal, is_not_leading, outcomes, positions};
use crate::limits::{HANDOVER_CHUNK_BYTES, HANDOVER_WINDOW_CHUNKS};
use crate::shard::{
    effect::{BrowsePage, Note, SessionEvent},
    input::{BrowseQuery, Input},
    moving::{MoveAction, MovePage, MoveQuery},
};

/// A batch that publishes non-persistent messages.
fn transients(name: &str, first: u64, count: u64) -> Bytes {
    let body = |number| Bytes::from(format!("transient {number}"));
    transients_of(name, first..first + count, body)
}

pub(super) fn transients_of(name: &str, numbers: Range<u64>, body: impl Fn(u64) -> Bytes) -> Bytes {
    let destination = Destination::queue(queue(name));
    let mut builder = BatchBuilder::transient();
    for number in numbers {
        let publication = Publication {
            destination: &destination,
            producer: ProducerId([8; 16]),
            number,
            priority: 4,
            expires_at_ms: 0,
            is_retained: false,
        };
        let message = Message::with_body(body(number));
        builder.publish_message(&publication, &message).unwrap();
    }
    builder.finish()
}

fn settles_transient(name: &str, positions: &[MessagePosition]) -> Bytes {
    let mut builder = BatchBuilder::transient();
    for position in positions {
        builder
            .settle(&queue(name), *position, Settlement::Accept)
            .unwrap();
    }
    builder.finish()
}

/// Three persistent and two non-persistent messages in a consumer's hands; two more of each wait.
fn cluster() -> (Cluster, Vec<MessagePosition>) {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.attach(1, 1, Vec::new());
    cluster.advance(300);
    cluster.submit(1, 1, publishes("orders", 1, 3));
    cluster.submit(1, 2, transients("orders", 1, 2));
    let held = positions(&cluster.told());
    assert_eq!(held.len(), 5);
    cluster.submit(1, 3, publishes("later", 1, 2));
    cluster.submit(1, 4, transients("later", 1, 2));
    cluster.told();
    (cluster, held)
}

fn order(cluster: &mut Cluster, leader: u32, to: u32) {
    let claim = cluster.node(leader).shard.replica().promise();
    let to = Member {
        node: NodeId(to),
        disk: DiskId(u64::from(to) * 11),
    };
    cluster.input(leader, Input::Order(Order::HandOver { claim, to }));
}

fn is_ready(cluster: &Cluster, leader: u32) -> Option<bool> {
    let mut reports = cluster.node(leader).reports.iter().rev();
    reports.find_map(|report| match report {
        Report::HandedOver { ready, .. } => Some(*ready),
        _ => None,
    })
}

fn took_over(cluster: &Cluster, node: u32) -> bool {
    let mut notes = cluster.node(node).notes.iter();
    notes.any(|note| matches!(note, Note::TookOver { .. }))
}

fn transient_count(cluster: &Cluster, node: u32) -> u64 {
    let queues = cluster.node(node).shard.broker().queues();
    queues.map(|queue| queue.non_persistent).sum()
}

#[test]
fn a_moved_leadership_sends_nothing_twice_and_loses_nothing() {
    let (mut cluster, held) = cluster();
    order(&mut cluster, 1, 2);
    assert_eq!(is_ready(&cluster, 1), Some(true));
    // What comes now waits, and is refused by the old leader when the new one leads.
    cluster.submit(1, 9, publishes("orders", 4, 1));
    cluster.submit(1, 10, transients("orders", 3, 1));
    assert!(cluster.told().is_empty());
    cluster.elect(2);
    assert!(took_over(&cluster, 2));
    let told = cluster.told();
    assert!(
        told.iter().any(|event| is_not_leading(event, 9)),
        "{told:?}"
    );
    assert!(
        told.iter().any(|event| is_not_leading(event, 10)),
        "{told:?}"
    );
    assert_eq!(transient_count(&cluster, 2), 4);
    // It never got the last one of either kind.
    let named = [held[0], held[1], held[3]].to_vec();
    cluster.attach(2, 2, named);
    cluster.advance(100);
    let again = positions(&cluster.told());
    assert_eq!(again.len(), 2);
    assert!(
        again.contains(&held[2]) && again.contains(&held[4]),
        "{again:?}"
    );
    cluster.submit(2, 11, settles("orders", &held[..3]));
    cluster.submit(2, 12, settles_transient("orders", &held[3..]));
    // The repeats of what the old leader refused, and of what it took.
    cluster.submit(2, 13, publishes("orders", 4, 1));
    cluster.submit(2, 14, transients("orders", 2, 2));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 11), Some(vec![Outcome::Applied; 3]));
    assert_eq!(outcomes(&told, 12), Some(vec![Outcome::Applied; 2]));
    assert_eq!(outcomes(&told, 13), Some(vec![Outcome::Stored]));
    let both = vec![Outcome::Duplicate, Outcome::Stored];
    assert_eq!(outcomes(&told, 14), Some(both));
    assert_eq!(positions(&told).len(), 2);
    cluster.advance(300);
    check_equal(&cluster);
}

#[test]
fn a_leader_that_nobody_replaces_goes_on_and_what_it_gave_away_is_void() {
    let (mut cluster, held) = cluster();
    order(&mut cluster, 1, 2);
    cluster.submit(1, 10, settles_transient("orders", &held[3..]));
    assert!(cluster.told().is_empty());
    cluster.advance(2_300);
    assert_eq!(is_ready(&cluster, 1), Some(false));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 10), Some(vec![Outcome::Applied; 2]));
    assert_eq!(transient_count(&cluster, 1), 2);
    // A claim that comes late finds the log longer: the image is not used.
    cluster.elect(2);
    assert!(!took_over(&cluster, 2));
    assert_eq!(transient_count(&cluster, 2), 0);
}

#[test]
fn a_leader_that_cannot_commit_does_not_go_on() {
    let (mut cluster, held) = cluster();
    order(&mut cluster, 1, 2);
    cluster.down.extend([NodeId(2), NodeId(3)]);
    cluster.submit(1, 10, settles_transient("orders", &held[3..]));
    cluster.advance(5_000);
    // The image of its target may still be the truth.
    assert!(outcomes(&cluster.told(), 10).is_none());
    cluster.down.clear();
    cluster.down.insert(NodeId(1));
    cluster.elect(2);
    assert!(took_over(&cluster, 2));
    assert_eq!(transient_count(&cluster, 2), 4);
}

#[test]
fn a_target_that_is_gone_costs_half_a_second_and_no_message() {
    let (mut cluster, _) = cluster();
    cluster.down.insert(NodeId(2));
    cluster.submit(1, 9, publishes("orders", 4, 1));
    assert_eq!(positions(&cluster.told()).len(), 1);
    order(&mut cluster, 1, 2);
    cluster.submit(1, 10, publishes("orders", 5, 1));
    assert!(cluster.told().is_empty());
    cluster.advance(600);
    assert_eq!(is_ready(&cluster, 1), Some(false));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 10), Some(vec![Outcome::Stored]));
    assert_eq!(positions(&told).len(), 1);
    assert_eq!(transient_count(&cluster, 1), 4);
}

#[test]
fn a_third_replica_that_leads_instead_knows_nothing() {
    let (mut cluster, held) = cluster();
    order(&mut cluster, 1, 2);
    cluster.elect(3);
    assert!(!took_over(&cluster, 3));
    // The target's image is out of date: somebody led meanwhile.
    cluster.elect(2);
    assert!(!took_over(&cluster, 2));
    cluster.attach(2, 2, held.clone());
    let told = cluster.told();
    let lost = told.iter().find_map(|event| match event {
        SessionEvent::Attached { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    assert_eq!(lost.as_deref(), Some(&held[3..]));
}

#[test]
fn a_leader_that_is_chosen_again_uses_what_it_knew() {
    let (mut cluster, held) = cluster();
    order(&mut cluster, 1, 2);
    cluster.elect(1);
    assert!(took_over(&cluster, 1));
    cluster.attach(1, 2, held);
    assert!(positions(&cluster.told()).is_empty());
    assert_eq!(transient_count(&cluster, 1), 4);
}

#[test]
fn only_the_leader_of_the_claim_hands_over() {
    let (mut cluster, _) = cluster();
    let claim = cluster.node(1).shard.replica().promise();
    order(&mut cluster, 2, 3);
    assert_eq!(is_ready(&cluster, 2), Some(false));
    let to = Member {
        node: NodeId(1),
        disk: DiskId(11),
    };
    cluster.input(1, Input::Order(Order::HandOver { claim, to }));
    assert_eq!(is_ready(&cluster, 1), Some(false));
    cluster.submit(1, 9, publishes("orders", 4, 1));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 9), Some(vec![Outcome::Stored]));
}

#[test]
fn a_page_that_was_read_too_long_is_not_appended_behind_the_image() {
    let (mut cluster, _) = cluster();
    cluster.has_slow_reads = true;
    let query = MoveQuery {
        query: 1,
        queue: queue("later"),
        action: MoveAction::Remove,
        only: Vec::new(),
        after: None,
        upto: None,
        limit: u32::MAX,
        selector: Some(Selector::parse("TRUE").unwrap()),
    };
    cluster.input(1, Input::Move(Box::new(query)));
    order(&mut cluster, 1, 2);
    assert_eq!(is_ready(&cluster, 1), Some(true));
    let end = cluster.node(1).shard.replica().end();
    cluster.read_all();
    assert_eq!(cluster.pages, [MovePage::Overloaded]);
    assert_eq!(cluster.node(1).shard.replica().end(), end);
    cluster.elect(2);
    assert!(took_over(&cluster, 2));
    assert_eq!(transient_count(&cluster, 2), 4);
}

#[test]
fn an_order_that_is_repeated_is_answered_again() {
    let (mut cluster, _) = cluster();
    order(&mut cluster, 1, 2);
    cluster.nodes.get_mut(&NodeId(1)).unwrap().reports.clear();
    order(&mut cluster, 1, 2);
    assert_eq!(is_ready(&cluster, 1), Some(true));
    // Another target is no repeat.
    order(&mut cluster, 1, 3);
    assert_eq!(is_ready(&cluster, 1), Some(false));
    cluster.elect(2);
    assert!(took_over(&cluster, 2));
}

/// What node 1 counts as lost when `leader` leads after it handed over to node 2.
fn lost_when_led_by(leader: u32) -> u64 {
    let (mut cluster, _) = cluster();
    order(&mut cluster, 1, 2);
    assert_eq!(is_ready(&cluster, 1), Some(true));
    cluster.elect(leader);
    cluster.node(1).shard.broker().counters().transient_lost
}

#[test]
fn what_nobody_took_over_is_counted_as_lost() {
    assert_eq!(lost_when_led_by(1), 0);
    assert_eq!(lost_when_led_by(2), 0);
    assert_eq!(lost_when_led_by(3), 4);
}

#[test]
fn what_a_leader_has_not_sent_yet_is_lost_with_it() {
    let (mut cluster, _) = cluster();
    cluster.down.insert(NodeId(2));
    cluster.submit(1, 9, publishes("orders", 4, 1));
    order(&mut cluster, 1, 2);
    assert_eq!(is_ready(&cluster, 1), None);
    cluster.elect(3);
    let counters = cluster.node(1).shard.broker().counters();
    assert_eq!(counters.transient_lost, 4);
}

/// Hands over ten messages of a megabyte each; how many pieces that took.
fn hand_over_much(loses_pieces: bool) -> u64 {
    const COUNT: u64 = 10;
    const BYTES: usize = 1 << 20;
    let mut cluster = Cluster::new();
    cluster.elect(1);
    for number in 1..=COUNT {
        let body = |number: u64| Bytes::from(vec![u8::try_from(number).unwrap(); BYTES]);
        let batch = transients_of("orders", number..number + 1, body);
        cluster.submit(1, number, batch);
    }
    cluster.told();
    cluster.loses_pieces = loses_pieces;
    order(&mut cluster, 1, 2);
    cluster.advance(1_500);
    assert_eq!(is_ready(&cluster, 1), Some(true));
    cluster.elect(2);
    assert!(took_over(&cluster, 2));
    assert_eq!(transient_count(&cluster, 2), COUNT);
    let query = BrowseQuery {
        query: 1,
        queue: queue("orders"),
        after: None,
        limit: 100,
    };
    cluster.input(2, Input::Browse(query));
    let Some(BrowsePage::Messages { messages, .. }) = cluster.browsed.pop() else {
        panic!("a page is answered");
    };
    for (number, message) in (1..).zip(&messages) {
        let message = Message::decode(&message.message).unwrap();
        assert!(message.body.len() == BYTES && message.body.iter().all(|byte| *byte == number));
    }
    assert!(!messages.is_empty());
    cluster.pieces
}

#[test]
fn an_image_of_many_pieces_arrives_whole() {
    let chunks = (10 << 20) / HANDOVER_CHUNK_BYTES as u64;
    assert!(chunks > HANDOVER_WINDOW_CHUNKS as u64);
    assert_eq!(hand_over_much(false), chunks + 1);
    assert!(hand_over_much(true) > chunks + 1);
}
