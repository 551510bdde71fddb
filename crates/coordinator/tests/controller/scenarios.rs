//! One behaviour each.

use quorate_coordinator::controller::{
    Effect, ElectionCause, Input, MoveCause, Note, Refusal, Row, StreamId,
};
use quorate_replication::{Claim, ClaimId, Epoch, NodeId, Report, ShardId};

use crate::world::{TIMEOUT_MS, World};

/// The process that leads the first shard.
fn leader(world: &World) -> usize {
    world.leader(1).expect("shard 1 is led")
}

#[test]
fn shards_are_created_when_the_expected_nodes_are_there_and_leaders_are_spread() {
    let mut world = World::new(3, 1);
    world.start(0);
    world.start(1);
    world.run(3_000);
    assert!(world.controller.topology().shards.is_empty());
    world.start(2);
    let took = world.run_until("served", 1_000, World::is_served);
    assert!(took < 100_000, "{took} us");
    world.run(10);
    let mut leads = world.leads();
    leads.sort_unstable();
    assert_eq!(leads, [2, 3, 3]);
    let topology = world.controller.topology();
    assert_eq!(topology.slots.len(), 1024);
    assert!(topology.shards.iter().all(|shard| shard.voters.len() == 3));
    assert!(topology.shards.iter().all(|shard| shard.reason.is_empty()));
}

#[test]
fn a_killed_leader_is_replaced_at_once_and_its_claims_share_a_write() {
    let mut world = World::settled(2);
    let killed = leader(&world);
    let led = world.leads()[killed];
    let before = world.epochs();
    let writes = world.writes;
    world.kill(killed);
    let took = world.run_until("served again", 1_000, World::is_served);
    // In this world: break 0.1 ms, redial 0.2 ms, probe, claim, fence, grant, lead.
    assert!(took < 20_000, "{took} us");
    assert_eq!(world.leads()[killed], 0);
    let raised = before
        .iter()
        .zip(world.epochs())
        .filter(|(before, after)| *before != after)
        .count();
    assert_eq!(raised, led, "only the shards of the dead node are claimed");
    assert!(world.writes - writes <= 2 * led);
}

#[test]
fn a_host_that_vanishes_is_replaced_after_the_timeout() {
    let mut world = World::settled(3);
    let lost = leader(&world);
    world.processes[lost].is_cut_off = true;
    let took = world.run_until("another leads", 3_000, |world| {
        world.leads()[lost] == 0 && world.is_served()
    });
    assert!(took >= (TIMEOUT_MS - 200) * 1_000, "{took} us is too early");
    assert!(took < 1_500_000, "{took} us");
}

#[test]
fn a_hiccup_of_a_stream_changes_nothing() {
    let mut world = World::settled(4);
    let before = world.epochs();
    let broken = leader(&world);
    world.break_stream(broken);
    world.run(5_000);
    assert_eq!(world.epochs(), before);
    assert_eq!(world.elections(), 8, "only the first ones");
}

#[test]
fn a_silent_leader_that_its_followers_hear_stays_but_not_for_ever() {
    let mut world = World::settled(5);
    let silent = leader(&world);
    let node = world.processes[silent].node.expect("registered");
    for process in &mut world.processes {
        process.hears = vec![node];
    }
    world.processes[silent].is_cut_off = true;
    world.run(5_000);
    assert_eq!(world.leader(1), Some(silent));
    assert!(
        world
            .notes
            .iter()
            .any(|note| matches!(note, Note::Deferred { .. }))
    );
    world.run_until("another leads", 10_000, |world| world.leads()[silent] == 0);
}

#[test]
fn a_silent_leader_that_only_one_of_two_followers_hears_is_replaced() {
    let mut world = World::settled(6);
    let silent = leader(&world);
    let node = world.processes[silent].node.expect("registered");
    world.processes[(silent + 1) % 3].hears = vec![node];
    world.processes[silent].is_cut_off = true;
    world.run_until("another leads", 2_000, |world| world.leads()[silent] == 0);
}

#[test]
fn a_restarted_leader_does_not_resume() {
    let mut world = World::settled(7);
    let restarted = leader(&world);
    let before = world.record(1).claim.epoch;
    // The new life registers before the end of the old stream is seen.
    world.processes[restarted].stream = None;
    for replica in world.processes[restarted].replicas.values_mut() {
        replica.leads = None;
    }
    world.start(restarted);
    let took = world.run_until("served again", 1_000, World::is_served);
    assert!(
        took < 100_000,
        "told by its registration, not by its heartbeats: {took} us"
    );
    assert!(world.record(1).claim.epoch > before);
}

#[test]
fn a_leader_with_a_stalled_disk_hands_over_and_is_not_chosen() {
    let mut world = World::settled(8);
    let stalled = leader(&world);
    world.processes[stalled].is_disk_healthy = false;
    world.run_until("handed over", 2_000, |world| {
        world.leads()[stalled] == 0 && world.is_served()
    });
    let before = world.epochs();
    world.run(5_000);
    assert_eq!(world.epochs(), before, "it is settled");
}

#[test]
fn a_leader_that_lost_its_quorum_is_replaced_by_one_of_the_others() {
    for seed in 0..20 {
        let mut world = World::settled(seed);
        let lost = leader(&world);
        world.is_replicating = false;
        // Its log is longer than anybody's: it would win every choice in which it takes part.
        let replica = world.processes[lost]
            .replicas
            .get_mut(&ShardId(1))
            .expect("a replica");
        replica.end.index.0 += 5;
        let epoch = world.record(1).claim.epoch;
        world.report(lost, ShardId(1), Report::LostQuorum { epoch });
        world.run_until("another leads", 1_000, |world| {
            world.leader(1).is_some_and(|leader| leader != lost) && world.is_served()
        });
    }
}

#[test]
fn without_a_quorum_nothing_is_claimed_and_the_reason_names_who_is_needed() {
    let mut world = World::settled(10);
    let first = leader(&world);
    let second = (first + 1) % 3;
    world.kill(second);
    world.run(500);
    let before = world.epochs();
    world.kill(first);
    world.run(3_000);
    let after = world.epochs();
    assert_eq!(before, after, "no claim without a fence quorum");
    let reason = world.reason(1);
    for dead in [first, second] {
        let name = &world.processes[dead].name;
        assert!(
            reason.contains(&format!("{name} (not running)")),
            "{reason}"
        );
    }
    assert!(reason.contains("start at least 1 of"), "{reason}");
    world.start(second);
    world.run_until("served again", 1_000, World::is_served);
    world.run(10);
    assert_eq!(world.reason(1), "");
}

#[test]
fn all_nodes_cut_off_at_once_start_no_wave() {
    for long in [800, 2_500, 10_000] {
        let mut world = World::settled(11);
        let before = world.epochs();
        for process in &mut world.processes {
            process.is_cut_off = true;
        }
        world.run(long);
        for process in &mut world.processes {
            process.is_cut_off = false;
        }
        assert_eq!(world.elections(), 8, "nobody is there to elect");
        world.run(5_000);
        assert_eq!(world.epochs(), before, "after {long} ms");
        assert!(world.is_served());
    }
}

#[test]
fn a_paused_coordinator_starts_no_wave() {
    let mut world = World::settled(12);
    let before = world.epochs();
    world.pause(30_000);
    world.run(5_000);
    assert_eq!(world.epochs(), before);
    assert!(world.notes.contains(&Note::Stalled));
    let died = |note: &Note| matches!(note, Note::Died { .. });
    assert!(!world.notes.iter().any(died));
}

#[test]
fn a_new_active_coordinator_keeps_leaders_that_lead() {
    let mut world = World::settled(13);
    let before = world.epochs();
    world.activate();
    world.run(10_000);
    assert_eq!(world.epochs(), before);
    assert!(world.is_served());
}

#[test]
fn a_new_active_coordinator_finishes_what_was_begun_and_finds_the_dead() {
    let mut world = World::settled(14);
    let dead = leader(&world);
    world.deactivate();
    world.kill(dead);
    world.run(2_000);
    world.activate();
    let took = world.run_until("served again", 5_000, World::is_served);
    assert!(took < 100_000, "the address refuses: {took} us");
}

#[test]
fn a_new_active_coordinator_waits_for_nodes_that_may_live() {
    let mut world = World::settled(15);
    let gone = leader(&world);
    world.deactivate();
    world.processes[gone].is_cut_off = true;
    world.run(2_000);
    world.activate();
    let took = world.run_until("served again", 10_000, World::is_served_without(gone));
    assert!(took > 2_500_000, "{took} us");
}

impl World {
    fn is_served_without(process: usize) -> impl Fn(&Self) -> bool {
        move |world| world.leads()[process] == 0 && world.is_served()
    }
}

#[test]
fn a_store_that_is_away_stops_elections_and_nothing_else() {
    let mut world = World::settled(16);
    let before = world.epochs();
    world.is_store_away = true;
    world.run(5_000);
    assert_eq!(world.epochs(), before);
    assert!(world.is_served());
    let dead = leader(&world);
    world.kill(dead);
    world.run(3_000);
    assert!(!world.is_served());
    assert!(world.reason(1).contains("store"), "{}", world.reason(1));
    world.is_store_away = false;
    world.run_until("served again", 3_000, World::is_served);
}

#[test]
fn a_wiped_disk_is_no_voter_and_said_loudly() {
    let mut world = World::settled(17);
    let wiped = leader(&world);
    let number = world.processes[wiped].node;
    world.kill(wiped);
    world.run_until("served again", 1_000, World::is_served);
    world.wipe(wiped);
    world.start(wiped);
    world.run(20_000);
    assert_eq!(
        world.processes[wiped].node, number,
        "the name keeps its number"
    );
    assert_eq!(
        world.leads()[wiped],
        0,
        "not even to even out the leaderships"
    );
    assert!(world.is_served());
    assert!(
        world.reason(1).contains("came back with another disk"),
        "{}",
        world.reason(1)
    );
    assert!(
        world
            .notes
            .iter()
            .any(|note| matches!(note, Note::ForeignDisk { .. }))
    );
    // With one of the two real voters gone there is no quorum: the wiped one does not count.
    let other = (0..3).find(|process| *process != wiped).expect("another");
    let before = world.epochs();
    world.kill(other);
    world.run(3_000);
    assert_eq!(world.epochs(), before);
    assert!(!world.is_served());
}

#[test]
fn an_old_image_is_refused() {
    let mut world = World::settled(18);
    world.kill(0);
    world.run(100);
    world.start(0);
    world.run(100);
    world.kill(0);
    world.run(100);
    world.processes[0].boot = 0;
    world.start(0);
    world.run(100);
    assert!(matches!(
        world.refusals.last(),
        Some(Refusal::OldImage {
            boot: 1,
            seen: 2,
            ..
        })
    ));
}

#[test]
fn strangers_are_refused() {
    let mut world = World::settled(19);
    // A second process under a name that is taken, with a disk of its own.
    let mut twin = world.processes[0].clone();
    (twin.disk, twin.node, twin.stream, twin.boot) =
        (quorate_replication::DiskId(9), None, None, 0);
    world.processes.push(twin);
    world.start(3);
    world.run(100);
    assert!(matches!(
        world.refusals.last(),
        Some(Refusal::NameTaken { .. })
    ));
    // A node of another cluster's store.
    world.processes[3].name = "mq09".to_owned();
    world.processes[3].node = Some(NodeId(9));
    world.run(500);
    assert!(matches!(
        world.refusals.last(),
        Some(Refusal::UnknownNumber { .. })
    ));
    // A copy of another node's folder under another name.
    world.processes[3].node = None;
    world.processes[3].disk = world.processes[1].disk;
    world.run(500);
    assert!(matches!(
        world.refusals.last(),
        Some(Refusal::DiskTaken { .. })
    ));
    assert!(world.is_served());
}

#[test]
fn a_store_that_went_back_in_time_claims_nothing() {
    let mut world = World::settled(20);
    let old = world.rows.clone();
    for _ in 0..2 {
        let dead = leader(&world);
        world.kill(dead);
        world.run_until("served again", 1_000, World::is_served);
        world.start(dead);
        world.run(100);
    }
    assert!(world.record(1).claim.epoch.0 >= 3);
    world.deactivate();
    let shard = |rows: &std::collections::BTreeMap<_, quorate_coordinator::controller::Stored>| {
        rows.values()
            .find(|row| matches!(&row.row, Row::Shard(record) if record.shard == ShardId(1)))
            .cloned()
    };
    let restored = shard(&old).expect("a record");
    world.rows.insert(restored.row.key(), restored);
    let before = world.record(1);
    world.activate();
    world.run(10_000);
    assert_eq!(world.record(1), before, "nothing is claimed");
    assert!(
        world.reason(1).contains("went back in time"),
        "{}",
        world.reason(1)
    );
    // Not even when the leader that the old record names is dead.
    let named = leader(&world);
    world.kill(named);
    world.run(10_000);
    assert_eq!(world.record(1), before, "nothing is claimed");
}

#[test]
fn an_outranked_report_of_a_claim_that_is_known_changes_nothing() {
    let mut world = World::settled(21);
    let before = world.epochs();
    let promise = Claim {
        epoch: world.record(1).claim.epoch,
        id: ClaimId(7),
    };
    world.report(0, ShardId(1), Report::Outranked { promise });
    let promise = Claim {
        epoch: Epoch(0),
        ..promise
    };
    world.report(0, ShardId(1), Report::Outranked { promise });
    world.run(3_000);
    assert_eq!(world.epochs(), before);
}

#[test]
fn leaderships_go_back_slowly_and_one_at_a_time() {
    let mut world = World::settled(22);
    let returned = leader(&world);
    world.kill(returned);
    world.run_until("served again", 1_000, World::is_served);
    world.start(returned);
    world.run(4_000);
    assert_eq!(world.leads()[returned], 0, "not at once");
    world.run(20_000);
    let mut leads = world.leads();
    leads.sort_unstable();
    assert_eq!(leads, [2, 3, 3]);
    let moves = world.notes.iter().filter(|note| {
        let cause = ElectionCause::Moved(MoveCause::Rebalance);
        matches!(note, Note::ElectionStarted { cause: found, .. } if *found == cause)
    });
    assert_eq!(moves.count(), 2);
    let settled = world.epochs();
    world.run(120_000);
    assert_eq!(world.epochs(), settled, "it comes to rest");
}

#[test]
fn an_even_cluster_moves_nothing() {
    let mut world = World::settled(23);
    let before = world.epochs();
    world.run(120_000);
    assert_eq!(world.epochs(), before);
    assert_eq!(world.elections(), 8);
}

#[test]
fn gateways_come_and_go_in_the_topology() {
    let mut world = World::settled(24);
    let mut effects = Vec::new();
    let attend = |stream, name: &str| Input::GatewayAttended {
        stream: StreamId(stream),
        name: name.to_owned(),
        address: "127.0.0.1:60001".to_owned(),
    };
    let now = world.now;
    world
        .controller
        .step(now, attend(1_001, "gw01"), &mut effects);
    world
        .controller
        .step(now, attend(1_002, "gw01"), &mut effects);
    let superseded = Effect::Refuse {
        stream: StreamId(1_001),
        refusal: Refusal::Superseded,
    };
    assert!(effects.contains(&superseded));
    world.controller.step(now, Input::Elapsed, &mut effects);
    assert_eq!(world.controller.topology().gateways.len(), 1);
    let gone = Input::GatewayLeft {
        stream: StreamId(1_002),
    };
    world.controller.step(now, gone, &mut effects);
    // What changed is told at once, and after all that waits.
    assert_eq!(world.controller.next_deadline(), Some(now));
    world.controller.step(now, Input::Elapsed, &mut effects);
    assert!(world.controller.topology().gateways.is_empty());
}

#[test]
fn who_is_not_active_refuses() {
    let mut world = World::settled(25);
    world.deactivate();
    assert!(world.controller.next_deadline().is_none());
    assert!(world.controller.topology().nodes.is_empty());
    assert!(world.refusals.contains(&Refusal::NotActive));
}
