//! The search finds nothing in the machines as they are, and finds every planted mistake.

use std::time::{Duration, Instant};

use quorate_replication::NodeId;
use stateright::{Checker, Model};

use super::{Budget, Bug, SAFE, Shards};

/// States per search: keeps all searches together within half a minute.
const STATES_MAX: usize = 4_000_000;

fn search(bug: Bug, budget: Budget) -> (usize, Option<String>) {
    let began = Instant::now();
    let checker = Shards { budget, bug }
        .checker()
        .threads(2)
        .target_state_count(STATES_MAX)
        .timeout(Duration::from_secs(60))
        .spawn_bfs()
        .join();
    let found = checker.discovery(SAFE).map(|path| {
        let last = path.last_state().violation().cloned();
        let actions = path.into_actions();
        let steps: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
        format!(
            "{last:?} after {} steps:\n{}",
            steps.len(),
            steps.join("\n")
        )
    });
    let states = checker.unique_state_count();
    println!("{bug:?}: {states} states in {:?}", began.elapsed());
    if bug == Bug::None {
        for name in ["a proposal is committed", "a second leader serves"] {
            assert!(
                checker.discovery(name).is_some(),
                "the search never saw: {name}"
            );
        }
    }
    (states, found)
}

const SMALL: Budget = Budget {
    elections: 1,
    proposals: 1,
    restarts: 1,
    repeats: 0,
    unknowns: 0,
    preferred: None,
};

#[track_caller]
fn finds(bug: Bug, budget: Budget, rule: &str) {
    let (_, found) = search(bug, budget);
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(
        found.contains(rule),
        "{bug:?} was found as something else: {found}"
    );
}

#[test]
fn nothing_is_found_in_the_machines() {
    let (states, found) = search(Bug::None, SMALL);
    assert_eq!(found, None, "{}", found.as_deref().unwrap_or_default());
    assert!(states > 10_000, "only {states} states were searched");
}

#[test]
fn answers_before_durable_are_found() {
    finds(
        Bug::AnswersBeforeDurable,
        SMALL,
        "a confirm is for a committed entry",
    );
}

#[test]
fn fences_answered_before_sync_are_found() {
    let budget = Budget {
        preferred: Some(NodeId(3)),
        ..SMALL
    };
    finds(
        Bug::FencesBeforeSync,
        budget,
        "a leader holds every committed entry",
    );
}

#[test]
fn answers_of_a_lower_epoch_that_count_are_found() {
    finds(
        Bug::CountsLowerEpoch,
        SMALL,
        "a confirm is for a committed entry",
    );
}

#[test]
fn a_forgotten_promise_is_found() {
    let budget = Budget {
        preferred: Some(NodeId(3)),
        ..SMALL
    };
    finds(
        Bug::ForgetsPromise,
        budget,
        "a leader holds every committed entry",
    );
}

#[test]
fn a_log_that_is_shortened_in_silence_is_found() {
    finds(
        Bug::ShortensLog,
        SMALL,
        "who counts holds what it acknowledged",
    );
}
