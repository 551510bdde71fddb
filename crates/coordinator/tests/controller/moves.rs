//! Planned moves: by an operator, away from drained and stopping nodes, and what becomes of those that fail.

use quorate_coordinator::controller::{
    ElectionCause, MoveCause, Note, OperatorRequest, Refusal, Wish,
};
use quorate_replication::ShardId;

use crate::world::World;

fn drain(node: &str, is_drained: bool) -> Wish {
    Wish::Drain {
        node: node.to_owned(),
        is_drained,
    }
}

fn moved(world: &World, cause: MoveCause) -> usize {
    let cause = ElectionCause::Moved(cause);
    let elections = world.notes.iter().filter(
        |note| matches!(note, Note::ElectionStarted { cause: found, .. } if *found == cause),
    );
    elections.count()
}

/// The answers since the last call.
fn answers(world: &mut World) -> Vec<(u64, Result<(), Refusal>)> {
    let answers = std::mem::take(&mut world.operated).into_iter();
    answers
        .map(|(OperatorRequest(request), answer)| (request, answer))
        .collect()
}

/// Leaves out what rebalancing would do: leaderships must not come back by themselves.
fn is_free(world: &World, process: usize) -> bool {
    world.is_served() && world.leads()[process] == 0
}

#[test]
fn a_drained_node_leads_nothing_and_may_lead_again() {
    let mut world = World::settled(70);
    let led = world.leads()[0];
    assert!(led > 0);
    world.wish(1, drain("mq01", true));
    world.run_until("drained", 2_000, |world| is_free(world, 0));
    assert_eq!(answers(&mut world), [(1, Ok(()))]);
    assert_eq!(moved(&world, MoveCause::Drained), led);
    let topology = world.controller.topology();
    assert!(topology.nodes[0].is_drained && !topology.nodes[1].is_drained);
    // Neither rebalancing nor the death of another node gives it anything while others can lead.
    world.run(30_000);
    assert_eq!(world.leads()[0], 0);
    // The mark outlives the node's life and the coordinator.
    world.kill(0);
    world.run(2_000);
    world.start(0);
    world.run(1_000);
    world.deactivate();
    world.run(500);
    world.activate();
    world.run(20_000);
    assert!(world.controller.topology().nodes[0].is_drained);
    assert_eq!(world.leads()[0], 0);
    world.wish(2, drain("mq01", false));
    world.run(40_000);
    assert_eq!(answers(&mut world), [(2, Ok(()))]);
    let mut leads = world.leads();
    leads.sort_unstable();
    assert_eq!(leads, [2, 3, 3]);
}

#[test]
fn a_drained_node_leads_when_nobody_else_can() {
    let mut world = World::settled(71);
    world.wish(1, drain("mq01", true));
    world.run_until("drained", 2_000, |world| is_free(world, 0));
    world.wish(2, drain("mq02", true));
    world.run_until("drained", 2_000, |world| is_free(world, 1));
    assert_eq!(world.leads(), [0, 0, 8]);
    world.kill(2);
    world.run_until("served by the drained", 3_000, World::is_served);
    let leads = world.leads();
    assert_eq!(leads[0] + leads[1], 8, "{leads:?}");
}

#[test]
fn a_node_that_is_about_to_stop_is_relieved_at_once() {
    let mut world = World::settled(72);
    let led = world.leads()[1];
    world.processes[1].is_leaving = true;
    let took = world.run_until("relieved", 2_000, |world| is_free(world, 1));
    assert!(took < 500_000, "{took} us");
    assert_eq!(moved(&world, MoveCause::Leaving), led);
    // In its next life it is as any other.
    world.kill(1);
    world.processes[1].is_leaving = false;
    world.start(1);
    world.run(60_000);
    assert!(world.leads()[1] > 0);
}

#[test]
fn an_operator_moves_a_leadership() {
    let mut world = World::settled(73);
    let leader = world.leader(1).expect("led");
    let target = (leader + 1) % 3;
    let name = world.processes[target].name.clone();
    let wish = |shard, node: &str| Wish::MoveLeader {
        shard: ShardId(shard),
        node: node.to_owned(),
    };
    world.wish(1, wish(1, &name));
    world.run_until("moved", 1_000, |world| world.leader(1) == Some(target));
    world.wish(2, wish(1, &name));
    world.wish(3, wish(99, &name));
    world.wish(4, wish(1, "nobody"));
    let shard = ShardId(99);
    let unknown = Refusal::UnknownNode {
        name: "nobody".to_owned(),
    };
    assert_eq!(
        answers(&mut world),
        [
            (1, Ok(())),
            (2, Ok(())),
            (3, Err(Refusal::UnknownShard { shard })),
            (4, Err(unknown)),
        ]
    );
    world.kill(leader);
    world.run(100);
    let name = world.processes[leader].name.clone();
    world.wish(5, wish(1, &name));
    assert_eq!(
        answers(&mut world),
        [(5, Err(Refusal::CannotLead { name }))]
    );
}

#[test]
fn a_leader_that_does_not_hand_over_leads_on_and_is_asked_again() {
    let mut world = World::settled(74);
    world.hands_over = false;
    let before = world.epochs();
    let led = world.leads()[0];
    world.wish(1, drain("mq01", true));
    world.run(5_000);
    assert_eq!(world.epochs(), before, "nothing was claimed");
    assert_eq!(world.leads()[0], led);
    let failed = world.notes.iter();
    let failed = failed.filter(|note| matches!(note, Note::MoveFailed { .. }));
    assert!(failed.count() >= led);
    world.hands_over = true;
    world.run_until("drained", 3_000, |world| is_free(world, 0));
}

#[test]
fn an_order_that_is_lost_is_given_up_in_time() {
    let mut world = World::settled(75);
    world.loss_percent = 100;
    world.wish(1, drain("mq01", true));
    world.run(1_000);
    world.loss_percent = 0;
    world.run_until("drained", 10_000, |world| is_free(world, 0));
}

#[test]
fn a_mark_that_is_not_known_to_be_stored_is_not_answered_as_done() {
    let mut world = World::settled(76);
    world.is_store_away = true;
    world.wish(1, drain("mq01", true));
    world.run(20_000);
    assert_eq!(answers(&mut world), [(1, Err(Refusal::StoreAway))]);
    world.is_store_away = false;
    world.run(2_000);
    world.wish(2, drain("mq01", true));
    world.run(1_000);
    assert_eq!(answers(&mut world), [(2, Ok(()))]);
}

#[test]
fn a_leader_that_handed_over_to_one_that_died_leads_again_at_once() {
    let mut world = World::settled(77);
    let leader = world.leader(1).expect("led");
    let epoch = world.epochs()[0];
    world.hand_over_us = 20_000;
    let name = world.processes[leader].name.clone();
    world.wish(1, drain(&name, true));
    let target = world.notes.iter().find_map(|note| match note {
        Note::MoveStarted { shard, to, .. } if *shard == ShardId(1) => Some(*to),
        _ => None,
    });
    let mut processes = world.processes.iter();
    let target = processes.position(|process| process.node == target);
    world.kill(target.expect("it moves"));
    world.run(100);
    assert!(world.epochs()[0] > epoch, "it does nothing more by itself");
    // It alone knows what it handed over, drained or not.
    assert_eq!(world.leader(1), Some(leader));
    world.run_until("drained", 3_000, |world| is_free(world, leader));
}

#[test]
fn a_leader_that_nobody_wants_and_that_wins_is_left_alone_for_longer_and_longer() {
    let mut world = World::settled(78);
    let led = world.leads()[0];
    assert!(led > 0);
    // The others cannot be chosen, which shows only when they are asked.
    let set_impaired = |world: &mut World, is_impaired| {
        for process in &mut world.processes[1..] {
            let replicas = process.replicas.values_mut();
            replicas.for_each(|replica| replica.is_impaired = is_impaired);
        }
    };
    set_impaired(&mut world, true);
    world.wish(1, drain("mq01", true));
    world.run(10_000);
    assert_eq!(world.leads()[0], led);
    let tried = moved(&world, MoveCause::Drained);
    assert!((3 * led..=5 * led).contains(&tried), "{tried} for {led}");
    set_impaired(&mut world, false);
    world.run_until("drained", 40_000, |world| is_free(world, 0));
}

#[test]
fn a_node_whose_clock_is_off_leads_nothing_and_may_lead_again() {
    let mut world = World::settled(79);
    let led = world.leads()[0];
    world.processes[0].clock_error_ms = 4_900;
    world.run(10_000);
    assert_eq!(world.leads()[0], led);
    world.processes[0].clock_error_ms = 7_000;
    world.run(1_500);
    assert_eq!(world.leads()[0], led, "one reading may have come late");
    world.run_until("relieved", 3_000, |world| is_free(world, 0));
    assert_eq!(moved(&world, MoveCause::ClockOff), led);
    assert_eq!(
        world.controller.topology().nodes[0].clock_off_ms,
        Some(7_000)
    );
    let is_told = |world: &World, wanted: &str| {
        let mut notes = world.notes.iter().map(ToString::to_string);
        notes.any(|note| note.contains(wanted))
    };
    assert!(is_told(&world, "clock of mq01 (n1) is 7 s ahead"));
    let wish = Wish::MoveLeader {
        shard: ShardId(1),
        node: "mq01".to_owned(),
    };
    world.wish(1, wish);
    let name = "mq01".to_owned();
    assert_eq!(
        answers(&mut world),
        [(1, Err(Refusal::CannotLead { name }))]
    );
    // A death gives it nothing while another can lead.
    world.kill(1);
    world.run_until("served", 3_000, World::is_served);
    assert_eq!(world.leads(), [0, 0, 8]);
    world.start(1);
    world.processes[0].clock_error_ms = -100;
    world.run(60_000);
    assert!(is_told(&world, "clock of mq01 (n1) is right"));
    assert!(world.leads()[0] > 0);
}

#[test]
fn a_node_that_comes_with_a_clock_that_is_off_is_known_at_once() {
    let mut world = World::new(3, 80);
    world.processes[2].clock_error_ms = -60_000;
    for process in 0..3 {
        world.start(process);
    }
    world.run_until("served", 2_000, World::is_served);
    world.run_until("relieved", 500, |world| is_free(world, 2));
    // Where nobody is wanted nothing moves.
    world.wish(1, drain("mq01", true));
    world.wish(2, drain("mq02", true));
    world.run(2_000);
    assert_eq!(world.leads()[2], 0, "all are unwanted: it stays");
}

#[test]
fn of_two_clocks_that_differ_nobody_knows_which_is_wrong() {
    let mut world = World::settled(81);
    world.kill(2);
    world.run(1_000);
    // The clock of the one that died says nothing any more, to this coordinator as little as to another.
    world.processes[0].clock_error_ms = 9_000;
    let led = world.leads()[0];
    for _ in 0..2 {
        world.run(10_000);
        let nodes = &world.controller.topology().nodes;
        assert!(nodes.iter().all(|node| node.clock_off_ms.is_none()));
        assert_eq!(world.leads()[0], led);
        world.deactivate();
        world.activate();
    }
}

#[test]
fn a_clock_that_is_right_again_is_steady_for_a_while_before_anything_is_evened_out() {
    let mut world = World::settled(82);
    world.processes[0].clock_error_ms = 7_000;
    world.run_until("relieved", 5_000, |world| is_free(world, 0));
    world.run(20_000);
    world.processes[0].clock_error_ms = 0;
    let is_right = |world: &World| world.controller.topology().nodes[0].clock_off_ms.is_none();
    world.run_until("right", 3_000, is_right);
    let took = world.run_until("it leads again", 20_000, |world| world.leads()[0] > 0);
    assert!(took > 4_900_000, "{took} us");
}

#[test]
fn a_node_that_is_about_to_stop_does_not_wait_for_what_was_in_vain() {
    let mut world = World::settled(83);
    // The others cannot be chosen, which shows only when they are asked: each try is later than the one before.
    let set_impaired = |world: &mut World, is_impaired| {
        for process in &mut world.processes[1..] {
            let replicas = process.replicas.values_mut();
            replicas.for_each(|replica| replica.is_impaired = is_impaired);
        }
    };
    set_impaired(&mut world, true);
    world.wish(1, drain("mq01", true));
    world.run(20_000);
    assert!(world.leads()[0] > 0);
    set_impaired(&mut world, false);
    world.processes[0].is_leaving = true;
    let took = world.run_until("relieved", 10_000, |world| is_free(world, 0));
    assert!(took < 500_000, "{took} us");
}
