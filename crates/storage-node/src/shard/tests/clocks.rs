//! What leaders' wall clocks do to messages that expire.

use bytes::Bytes;
use quorate_message::{BatchBuilder, Destination, Message, ProducerId, Publication};
use quorate_replication::NodeId;

use super::cluster::{Cluster, queue};
use crate::shard::input::{ClockJudgement, Input};

/// A batch with one message that expires at this time.
pub(super) fn publish(number: u64, expires_at_ms: u64, body: Bytes) -> Bytes {
    let mut builder = BatchBuilder::persistent();
    let publication = Publication {
        destination: &Destination::queue(queue("orders")),
        producer: ProducerId([8; 16]),
        number,
        priority: 4,
        expires_at_ms,
        is_retained: false,
    };
    let message = Message::with_body(body);
    builder.publish_message(&publication, &message).unwrap();
    builder.finish()
}

fn messages(cluster: &Cluster, leader: u32) -> u64 {
    let queues = cluster.node(leader).shard.broker().queues();
    queues.map(|queue| queue.messages).sum()
}

/// A leader with a message that expires in half a minute.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.elect(1);
    cluster.advance(1_500);
    let expires_at_ms = cluster.wall_ms(1) + 30_000;
    cluster.submit(1, 1, publish(1, expires_at_ms, Bytes::new()));
    cluster
}

#[test]
fn a_leaders_clock_that_jumps_expires_nothing_early() {
    let mut cluster = cluster();
    cluster.ahead_ms.insert(NodeId(1), 3_600_000);
    cluster.advance(20_000);
    assert_eq!(messages(&cluster, 1), 1);
    // A leader whose clock is right goes on from there.
    cluster.elect(2);
    cluster.advance(5_000);
    assert_eq!(messages(&cluster, 2), 1);
    cluster.advance(5_000);
    assert_eq!(messages(&cluster, 2), 0);
}

#[test]
fn a_leader_whose_clock_is_off_goes_by_those_of_the_others() {
    let mut cluster = cluster();
    cluster.ahead_ms.insert(NodeId(3), 3_600_000);
    let judgement = ClockJudgement::Off {
        ahead_ms: 3_600_000,
    };
    cluster.input(3, Input::ClockJudged(judgement));
    cluster.elect(3);
    cluster.advance(25_000);
    assert_eq!(messages(&cluster, 3), 1);
    cluster.advance(6_000);
    assert_eq!(messages(&cluster, 3), 0);
}
