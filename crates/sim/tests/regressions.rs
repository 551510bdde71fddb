//! Seeds that found something once, by the name of what they found. What a seed does changes whenever a machine or the
//! simulator changes; each of these is kept because it was the first to show its bug, and `tests/LEDGER.md` says which.

use quorate_sim::cluster::{Cluster, Report};
use quorate_sim::trace::Mode;

#[track_caller]
fn runs_well(seed: u64) {
    is_clean(&Cluster::run(seed, Mode::Tail));
}

/// With scenes beside the plain queues.
#[track_caller]
fn plays_well(seed: u64) {
    is_clean(&Cluster::run_scenes(seed, Mode::Tail));
}

/// With an operator who pauses, purges, moves, copies and browses.
#[track_caller]
fn is_operated_well(seed: u64) {
    is_clean(&Cluster::run_operated(seed, Mode::Tail));
}

/// With a queue that moves from shard to shard.
#[track_caller]
fn moves_well(seed: u64) {
    is_clean(&Cluster::run_moved(seed, Mode::Tail));
}

#[track_caller]
fn is_clean(report: &Report) {
    assert!(
        report.failures.is_empty(),
        "{report}\n{}",
        report.tail.join("\n")
    );
}

#[test]
fn a_returned_message_blocked_by_what_was_read_ahead() {
    for seed in [3, 5, 8, 17, 29] {
        runs_well(seed);
    }
}

#[test]
fn a_detach_swallowed_by_a_pause() {
    runs_well(2262);
}

#[test]
fn a_released_message_claimed_from_a_new_leader() {
    for seed in [2526, 2881, 3537, 4709, 6768] {
        runs_well(seed);
    }
}

#[test]
fn an_attachment_given_up_that_had_arrived() {
    runs_well(6263);
}

#[test]
fn a_registration_that_landed_late() {
    runs_well(5463);
}

#[test]
fn an_election_that_span_while_nobody_could_be_chosen() {
    runs_well(109_272);
}

/// Found in the simulator itself: requests before the greeting, names of folders, writes cut within a sector.
#[test]
fn mistakes_of_the_fake_parts() {
    for seed in [1048, 1258, 1942, 2325, 7711, 15469] {
        runs_well(seed);
    }
}

#[test]
fn a_report_taken_for_the_whole_by_a_leader_that_refused_its_beginning() {
    for seed in [98, 124] {
        runs_well(seed);
    }
}

#[test]
fn a_gateway_that_was_back_before_its_returns_were_committed() {
    for seed in [330, 382] {
        runs_well(seed);
    }
}

#[test]
fn a_report_whose_beginning_was_refused_without_an_answer() {
    runs_well(549);
}

#[test]
fn a_transaction_that_was_committed_and_refused_since_its_consumer_held_nothing_any_more() {
    plays_well(1807);
}

#[test]
fn of_two_that_were_active_the_later_one_is() {
    plays_well(308_691);
}

#[test]
fn an_exclusive_consumer_that_was_given_up_takes_its_place_back_from_nobody() {
    plays_well(233);
}

#[test]
fn a_settlement_applied_before_the_report_that_names_it() {
    for seed in [1358, 1438] {
        plays_well(seed);
    }
}

#[test]
fn a_transaction_outlives_its_consumer() {
    plays_well(2124);
}

#[test]
fn an_accept_of_what_had_expired_that_was_repeated() {
    plays_well(3356);
}

#[test]
fn a_message_recalled_too_early_overtakes_what_was_parked_since() {
    for seed in [39_034, 207_944] {
        plays_well(seed);
    }
}

#[test]
fn a_repeat_that_gave_away_what_a_later_settlement_had() {
    for seed in [202_672, 203_713, 205_116, 206_112] {
        plays_well(seed);
    }
}

#[test]
fn an_attachment_that_came_without_the_report_before_it() {
    plays_well(99_573);
}

/// Found in the simulated clients and the checker: credit of what was lost, order behind a client that died and among
/// transactions that are not visible yet, copies in the memories of two leaders.
#[test]
fn mistakes_of_the_clients_and_the_checker() {
    for seed in [
        32_356, 79_354, 107_557, 200_211, 203_795, 210_945, 211_301, 214_173,
    ] {
        plays_well(seed);
    }
}

#[test]
fn a_gateway_that_span_while_a_shard_had_no_leader() {
    for seed in [6019, 11171, 12268] {
        plays_well(seed);
    }
}

/// Found in the simulated operator: it took the answer to a pause for that to a resume which it could not ask for, and went
/// home while the queue was paused; or did so when a pause that had not been answered came behind its resume.
#[test]
fn an_operator_leaves_no_queue_paused() {
    for seed in [500_447, 501_067, 501_107, 501_117, 501_230, 501_428] {
        moves_well(seed);
    }
    for seed in [500_163, 501_073, 603_309] {
        is_operated_well(seed);
    }
}

#[test]
fn a_move_that_a_deposed_leader_refused() {
    moves_well(601_986);
}

/// Found in the checker: what was on its way to one consumer when its queue left comes to another one later.
#[test]
fn what_did_not_arrive_before_a_queue_moved() {
    for seed in [501_372, 501_435, 600_757, 601_702, 601_750, 604_594] {
        moves_well(seed);
    }
}

/// Found in the checker: what was not confirmed when its queue was deleted is stored once more when it is repeated.
#[test]
fn a_queue_deleted_before_a_confirm() {
    for seed in [500_333, 500_945, 501_227, 501_486, 601_219, 602_558] {
        is_operated_well(seed);
    }
}

/// Found in the simulated operator: it browsed at a leader that was deposed and did not know it.
#[test]
fn a_page_of_a_deposed_leader() {
    for seed in [601_416, 601_727, 603_759, 604_014, 606_979] {
        is_operated_well(seed);
    }
}

#[test]
fn a_message_given_back_by_one_gateway_while_another_settles_it() {
    is_operated_well(616_420);
}
