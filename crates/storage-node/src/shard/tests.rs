//! Three shards in memory: from publish to settle, over changes of leader, restarts and checkpoint transfers.

mod clocks;
mod cluster;
mod handover;
mod moving;
mod outbox;
mod relocating;

use bytes::Bytes;
use quorate_broker::Outcomes;
use quorate_message::{BatchBuilder, MessagePosition, Outcome};
use quorate_replication::NodeId;

use self::cluster::{Cluster, publishes, settles};
use super::{
    effect::{Note, SessionEvent},
    input::{Input, SessionRequest},
};

/// The outcomes of a batch, if it was answered.
fn outcomes(events: &[SessionEvent], wanted: u64) -> Option<Vec<Outcome>> {
    events.iter().find_map(|event| match event {
        SessionEvent::Outcomes {
            number, outcomes, ..
        } if *number == wanted => Some(outcomes.iter().collect()),
        _ => None,
    })
}

fn positions(events: &[SessionEvent]) -> Vec<MessagePosition> {
    let deliveries = events.iter().filter_map(|event| match event {
        SessionEvent::Deliver { deliveries, .. } => Some(deliveries),
        _ => None,
    });
    deliveries
        .flatten()
        .map(|delivery| delivery.position)
        .collect()
}

fn is_not_leading(event: &SessionEvent, wanted: u64) -> bool {
    matches!(event, SessionEvent::NotLeading { number, .. } if *number == wanted)
}

/// Every replica that is up has applied the same and is in the same state.
fn check_equal(cluster: &Cluster) {
    let states: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|(id, _)| !cluster.down.contains(id))
        .map(|(_, node)| (node.shard.applied(), node.shard.broker().digest()))
        .collect();
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
}

#[test]
fn a_message_goes_from_publish_to_settle() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 3));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 1), Some(vec![Outcome::Stored; 3]));
    cluster.attach(1, 1, Vec::new());
    cluster.advance(1_000);
    let told = cluster.told();
    assert!(matches!(told[0], SessionEvent::Attached { .. }), "{told:?}");
    let delivered = positions(&told);
    assert_eq!(delivered.len(), 3);
    cluster.submit(1, 2, settles("orders", &delivered));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 2), Some(vec![Outcome::Applied; 3]));
    cluster.advance(300);
    check_equal(&cluster);
    let queues: Vec<_> = cluster.node(2).shard.broker().queues().collect();
    assert_eq!((queues[0].messages, queues[0].settled_total), (0, 3));
}

#[test]
fn nothing_is_confirmed_without_a_quorum_and_all_is_when_it_is_back() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.down.extend([NodeId(2), NodeId(3)]);
    cluster.submit(1, 1, publishes("orders", 1, 1));
    cluster.advance(500);
    assert_eq!(cluster.told(), []);
    cluster.down.clear();
    cluster.advance(500);
    assert_eq!(outcomes(&cluster.told(), 1), Some(vec![Outcome::Stored]));
}

#[test]
fn batches_that_arrived_together_are_answered_each_with_its_own_number() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    let submission = |number| super::input::Submission {
        session: quorate_broker::SessionId(1),
        number,
        previous: None,
        batch: publishes("orders", number, 1),
    };
    cluster.input(
        1,
        Input::Submitted(vec![submission(1), submission(2), submission(3)]),
    );
    let told = cluster.told();
    for number in 1..=3 {
        assert_eq!(outcomes(&told, number), Some(vec![Outcome::Stored]));
    }
}

/// Of two copies the first may be refused and the second stored, when there is room again in between.
#[test]
fn a_batch_that_comes_again_before_it_is_answered_is_not_stored_a_second_time() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.down.extend([NodeId(2), NodeId(3)]);
    let end = |cluster: &Cluster| cluster.node(1).shard.replica().end().index;
    cluster.submit(1, 1, publishes("orders", 1, 1));
    cluster.submit_after(1, (Some(1), 2), publishes("orders", 2, 1));
    let before = end(&cluster);
    cluster.submit(1, 1, publishes("orders", 1, 1));
    cluster.submit_after(1, (Some(1), 2), publishes("orders", 2, 1));
    assert_eq!(end(&cluster), before);
    cluster.down.clear();
    cluster.advance(500);
    let told = cluster.told();
    for number in 1..=2 {
        assert_eq!(outcomes(&told, number), Some(vec![Outcome::Stored]));
    }
    // Answered is answered.
    cluster.submit(1, 2, publishes("orders", 2, 1));
    let told = cluster.told();
    assert_eq!(outcomes(&told, 2), Some(vec![Outcome::Duplicate]));
}

/// The attachment of a consumer without what it says beside it would give away what it settles.
#[test]
fn what_comes_behind_a_refused_part_of_a_report_is_not_taken() {
    let report = |is_first| SessionRequest::Report {
        is_first,
        leaving: Vec::new(),
    };
    let is_attached = |told: &[SessionEvent]| {
        let mut told = told.iter();
        told.any(|event| matches!(event, SessionEvent::Attached { .. }))
    };
    let mut cluster = Cluster::new();
    cluster.ask(1, report(true));
    let told = cluster.told();
    assert!(told.iter().any(|event| is_not_leading(event, 0)));
    cluster.elect(1);
    cluster.ask(1, report(false));
    cluster.attach(1, 1, Vec::new());
    cluster.ask(1, SessionRequest::Reported);
    assert!(!is_attached(&cluster.told()));
    cluster.ask(1, report(true));
    cluster.attach(1, 2, Vec::new());
    assert!(is_attached(&cluster.told()));
    // What nobody answers is no part of a report.
    let mut cluster = Cluster::new();
    let credit = quorate_broker::Credit::default();
    let consumer = quorate_message::ConsumerId([9; 16]);
    cluster.ask(1, SessionRequest::Credit { consumer, credit });
    assert!(cluster.told().is_empty());
    cluster.elect(1);
    cluster.attach(1, 1, Vec::new());
    assert!(is_attached(&cluster.told()));
}

#[test]
fn a_deposed_leader_refuses_what_waits_and_the_repeat_is_stored_once() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 2));
    cluster.told();
    // The followers get the entry; their answers do not come back.
    cluster.down.extend([NodeId(2), NodeId(3)]);
    cluster.submit(1, 2, publishes("orders", 3, 2));
    cluster.down.clear();
    cluster.elect(2);
    let told = cluster.told();
    assert!(
        told.iter().any(|event| is_not_leading(event, 2)),
        "{told:?}"
    );
    assert!(
        told.iter().any(|event| is_not_leading(event, 0)),
        "{told:?}"
    );
    for number in [1, 3] {
        cluster.submit(2, number, publishes("orders", number, 2));
    }
    let told = cluster.told();
    assert_eq!(outcomes(&told, 1), Some(vec![Outcome::Duplicate; 2]));
    assert!(
        outcomes(&told, 3)
            .unwrap()
            .iter()
            .all(|outcome| outcome.is_stored())
    );
    cluster.advance(500);
    check_equal(&cluster);
    let queues: Vec<_> = cluster.node(3).shard.broker().queues().collect();
    assert_eq!(queues[0].messages, 4);
}

#[test]
fn what_a_consumer_holds_is_not_sent_again_by_the_next_leader() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 5));
    cluster.attach(1, 1, Vec::new());
    cluster.advance(1_000);
    let held = positions(&cluster.told());
    assert_eq!(held.len(), 5);
    cluster.elect(3);
    cluster.told();
    cluster.attach(3, 2, held.clone());
    cluster.submit(3, 2, publishes("orders", 6, 1));
    cluster.advance(2_000);
    let told = cluster.told();
    let again = positions(&told);
    assert_eq!(again.len(), 1, "only the new one: {told:?}");
    assert!(!held.contains(&again[0]));
}

#[test]
fn a_request_before_the_leader_serves_is_carried_out_when_it_does() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 1));
    cluster.told();
    // Alone it leads, but its first entry is not committed.
    cluster.down.insert(NodeId(3));
    cluster.elect(2);
    cluster.down.extend([NodeId(1), NodeId(3)]);
    cluster.elect(2);
    cluster.attach(2, 1, Vec::new());
    cluster.advance(100);
    assert_eq!(positions(&cluster.told()), []);
    cluster.down.clear();
    cluster.elect(2);
    cluster.attach(2, 2, Vec::new());
    cluster.advance(2_000);
    assert_eq!(positions(&cluster.told()).len(), 1);
}

#[test]
fn bad_batches_are_told_so_and_leave_no_trace() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    let end = cluster.node(1).disk.entries.len();
    cluster.submit(1, 1, Bytes::from_static(b"no batch at all"));
    let mut builder = BatchBuilder::persistent();
    builder.checkpoint(None).unwrap();
    cluster.submit(1, 2, builder.finish());
    for (event, wanted) in cluster.told().iter().zip([1, 2]) {
        assert!(
            matches!(event, SessionEvent::Malformed { number, .. } if *number == wanted),
            "{event:?}"
        );
    }
    cluster.submit(2, 3, publishes("orders", 1, 1));
    assert!(is_not_leading(&cluster.told()[0], 3));
    assert_eq!(cluster.node(1).disk.entries.len(), end);
}

fn is_overloaded(event: &SessionEvent, wanted: u64) -> bool {
    matches!(event, SessionEvent::Overloaded { number, .. } if *number == wanted)
}

#[test]
fn nothing_is_taken_behind_a_batch_that_was_refused() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    let submit = |cluster: &mut Cluster, previous, number| {
        cluster.submit_after(1, (previous, number), publishes("orders", number, 1));
        let mut told = cluster.told();
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    };
    let stored = |event: SessionEvent, number| {
        assert_eq!(outcomes(&[event], number), Some(vec![Outcome::Stored]));
    };
    stored(submit(&mut cluster, None, 1), 1);
    stored(submit(&mut cluster, Some(1), 2), 2);
    cluster.input(1, Input::Space { is_low: true });
    assert!(is_overloaded(&submit(&mut cluster, Some(2), 3), 3));
    cluster.input(1, Input::Space { is_low: false });
    // On their way when the refusal was said.
    assert!(is_overloaded(&submit(&mut cluster, Some(3), 4), 4));
    assert!(is_overloaded(&submit(&mut cluster, Some(4), 5), 5));
    // Settlements have an order of their own.
    cluster.submit_after(
        1,
        (None, 6),
        settles("orders", &[MessagePosition::new(1, 0)]),
    );
    cluster.told();
    stored(submit(&mut cluster, Some(2), 3), 3);
    assert!(is_overloaded(&submit(&mut cluster, Some(4), 5), 5));
    stored(submit(&mut cluster, Some(3), 4), 4);
    stored(submit(&mut cluster, Some(4), 5), 5);
    // What was taken says nothing about the next leadership or another session.
    cluster.elect(2);
    cluster.elect(1);
    cluster.told();
    assert!(is_overloaded(&submit(&mut cluster, Some(5), 7), 7));
    stored(submit(&mut cluster, None, 7), 7);
    let session = quorate_broker::SessionId(1);
    cluster.input(1, Input::SessionLost { session });
    assert!(is_overloaded(&submit(&mut cluster, Some(7), 8), 8));
}

#[test]
fn what_a_lost_session_asked_before_its_leader_served_takes_no_room() {
    let mut cluster = Cluster::new();
    cluster.down.extend([NodeId(2), NodeId(3)]);
    cluster.elect(1);
    let is_refused = |cluster: &mut Cluster, number: u64| {
        let body = |_| Bytes::from(vec![0; 1 << 20]);
        let batch = handover::transients_of("orders", number..number + 1, body);
        cluster.submit(1, number, batch);
        let told = cluster.told();
        told.iter().any(|event| is_overloaded(event, number))
    };
    let refused = (1..100).find(|number| is_refused(&mut cluster, *number));
    assert_eq!(refused, Some(16));
    let session = quorate_broker::SessionId(1);
    cluster.input(1, Input::SessionLost { session });
    assert!(!is_refused(&mut cluster, 200));
}

#[test]
fn a_batch_that_finds_no_room_is_not_looked_into() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.down.extend([NodeId(2), NodeId(3)]);
    let body = Bytes::from(vec![0; 1 << 20]);
    let batch = |number| clocks::publish(number, 0, body.clone());
    let mut is_refused = |number: u64, batch: Bytes| {
        cluster.submit(1, number, batch);
        let told = cluster.told();
        told.iter().any(|event| is_overloaded(event, number))
    };
    assert!((1..100).any(|number| is_refused(number, batch(number))));
    let cut = batch(200).slice(..1000);
    assert!(is_refused(200, cut));
}

#[test]
fn a_full_disk_refuses_messages_and_takes_settlements() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 1));
    cluster.attach(1, 1, Vec::new());
    cluster.advance(1_000);
    let held = positions(&cluster.told());
    cluster.input(1, Input::Space { is_low: true });
    cluster.submit(1, 2, publishes("orders", 2, 1));
    assert!(matches!(
        cluster.told()[0],
        SessionEvent::Overloaded { number: 2, .. }
    ));
    cluster.submit(1, 3, settles("orders", &held));
    assert_eq!(outcomes(&cluster.told(), 3), Some(vec![Outcome::Applied]));
}

/// Publishes and settles twenty batches but one message, then idles until a checkpoint is made.
fn cluster_with_checkpoint(down: &[u32]) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.attach(1, 1, Vec::new());
    cluster.down.extend(down.iter().map(|node| NodeId(*node)));
    for number in 1..=20 {
        cluster.submit(1, number, publishes("orders", number, 1));
    }
    cluster.advance(1_000);
    let mut delivered = positions(&cluster.told());
    assert_eq!(delivered.len(), 20);
    delivered.remove(3);
    cluster.submit(1, 30, settles("orders", &delivered));
    cluster.told();
    cluster.advance(31_000);
    cluster
}

#[test]
fn a_checkpoint_is_made_by_all_at_one_index_and_dead_segments_go() {
    let mut cluster = cluster_with_checkpoint(&[]);
    cluster.advance(500);
    check_equal(&cluster);
    let at = cluster.node(1).disk.checkpoint.clone().unwrap();
    for node in 1..=3 {
        let disk = &cluster.node(node).disk;
        assert_eq!(disk.checkpoint, Some(at.clone()));
        assert!(disk.entries.len() < 10, "{:?}", disk.entries.keys());
        let live: Vec<u64> = cluster
            .node(node)
            .shard
            .broker()
            .live_entries(1, 1000)
            .collect();
        assert_eq!(live.len(), 1);
        assert!(
            disk.entries.keys().any(|index| index.0 == live[0]),
            "the live one stays"
        );
    }
}

#[test]
fn after_a_restart_the_state_is_the_same_and_the_message_below_the_base_is_delivered() {
    let mut cluster = cluster_with_checkpoint(&[]);
    cluster.submit(1, 40, publishes("orders", 50, 2));
    cluster.advance(500);
    let before = cluster.node(1).shard.broker().digest();
    for node in 1..=3 {
        cluster.restart(node);
    }
    cluster.elect(2);
    cluster.told();
    check_equal(&cluster);
    assert_eq!(cluster.node(1).shard.broker().digest(), before);
    cluster.attach(2, 2, Vec::new());
    cluster.advance(2_000);
    assert_eq!(positions(&cluster.told()).len(), 3);
}

#[test]
fn a_follower_behind_the_log_gets_the_checkpoint_and_the_live_entries() {
    let mut cluster = cluster_with_checkpoint(&[3]);
    assert!(cluster.node(1).disk.base.index.0 > 10);
    cluster.down.clear();
    cluster.advance(3_000);
    let notes = &cluster.node(3).notes;
    assert!(
        notes
            .iter()
            .any(|note| matches!(note, Note::Installed { .. })),
        "{notes:?}"
    );
    check_equal(&cluster);
    // It can carry on alone with what it got.
    cluster.submit(1, 41, publishes("orders", 60, 1));
    cluster.advance(300);
    cluster.down.insert(NodeId(1));
    cluster.elect(3);
    cluster.told();
    cluster.attach(3, 2, Vec::new());
    cluster.advance(2_000);
    assert_eq!(positions(&cluster.told()).len(), 2);
}

#[test]
fn a_transfer_survives_a_restart_of_the_follower_in_its_middle() {
    let mut cluster = cluster_with_checkpoint(&[3]);
    cluster.down.clear();
    cluster.advance(10);
    cluster.restart(3);
    cluster.advance(5_000);
    check_equal(&cluster);
}

#[test]
fn outcomes_of_one_kind_take_no_list() {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.submit(1, 1, publishes("orders", 1, 100));
    let told = cluster.told();
    let SessionEvent::Outcomes { outcomes, .. } = &told[0] else {
        panic!("{told:?}");
    };
    assert!(matches!(outcomes, Outcomes::All { count: 100, .. }));
}
