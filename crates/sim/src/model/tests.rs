//! The search finds nothing in the machines as they are, and finds every planted mistake.

use std::time::{Duration, Instant};

use quorate_replication::{Message, NodeId};
use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::{Action, Budget, Bug, Envelope, SAFE, Shards, State};

/// States that the search in breadth generates, unless `MODEL_STATES` says otherwise: about ten seconds.
const STATES_MAX: usize = 700_000;
/// Walks start here, so that they are the same each time.
const SEED: u64 = 1;
/// A walk that takes longer than this found nothing.
const PATIENCE: Duration = Duration::from_secs(60);

const SMALL: Budget = Budget {
    elections: 1,
    proposals: 1,
    restarts: 1,
    repeats: 0,
    unknowns: 0,
    preferred: None,
};

const WIDE: Budget = Budget {
    elections: 2,
    proposals: 2,
    restarts: 1,
    repeats: 1,
    unknowns: 1,
    preferred: None,
};

fn states_max() -> usize {
    let asked = std::env::var("MODEL_STATES").ok();
    asked.map_or(STATES_MAX, |states| {
        states.parse().expect("MODEL_STATES is a number of states")
    })
}

/// Searches in breadth, up to a number of states.
fn search(budget: Budget) {
    let began = Instant::now();
    let bug = Bug::None;
    let checker = Shards { budget, bug }
        .checker()
        .threads(2)
        .target_state_count(states_max())
        .spawn_bfs()
        .join();
    println!(
        "{} states in {:?}",
        checker.unique_state_count(),
        began.elapsed()
    );
    if let Some(path) = checker.discovery(SAFE) {
        let violation = path.last_state().violation().cloned();
        panic!("{violation:?} after\n{}", steps(path.into_actions()));
    }
    for name in ["a proposal is committed", "a second leader serves"] {
        assert!(
            checker.discovery(name).is_some(),
            "the search never saw: {name}"
        );
    }
    assert!(checker.unique_state_count() > 50_000, "too few states");
}

/// Walks at random, deep, until a rule is broken.
#[track_caller]
fn finds(bug: Bug, budget: Budget, rules: &[&str]) {
    let began = Instant::now();
    let checker = Shards { budget, bug }
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .timeout(PATIENCE)
        .spawn_simulation(SEED, UniformChooser)
        .join();
    let path = checker
        .discovery(SAFE)
        .unwrap_or_else(|| panic!("{bug:?} was not found"));
    let violation = path
        .last_state()
        .violation()
        .cloned()
        .expect("a broken rule");
    println!("{bug:?}: {violation} in {:?}", began.elapsed());
    assert!(
        rules.contains(&violation.rule),
        "{violation} after\n{}",
        steps(path.into_actions())
    );
}

fn steps(actions: Vec<Action>) -> String {
    let lines: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    lines.join("\n")
}

#[test]
fn nothing_is_found_in_the_machines_in_breadth() {
    search(SMALL);
}

#[test]
fn nothing_is_found_in_the_machines_by_walking() {
    let checker = Shards {
        budget: WIDE,
        bug: Bug::None,
    }
    .checker()
    .finish_when(HasDiscoveries::AnyFailures)
    .timeout(Duration::from_secs(5))
    .spawn_simulation(SEED, UniformChooser)
    .join();
    println!("{} states", checker.state_count());
    if let Some(path) = checker.discovery(SAFE) {
        let violation = path.last_state().violation().cloned();
        panic!("{violation:?} after\n{}", steps(path.into_actions()));
    }
}

#[test]
fn answers_before_durable_are_found() {
    let rules = [
        "who counts holds what it acknowledged",
        "a confirm is for a committed entry",
    ];
    finds(Bug::AnswersBeforeDurable, WIDE, &rules);
}

#[test]
fn a_log_that_is_shortened_in_silence_is_found() {
    finds(
        Bug::ShortensLog,
        WIDE,
        &["who counts holds what it acknowledged"],
    );
}

/// The mistakes below need a dozen steps in one order, which no search of a few seconds meets: they are led there, and
/// the same steps without the mistake break no rule.
fn led(bug: Bug, script: impl Fn(&mut State), rule: &str) {
    for bug in [Bug::None, bug] {
        let budget = Budget {
            preferred: (rule == HOLDS).then_some(NodeId(3)),
            ..WIDE
        };
        let mut state = State::led(bug, budget);
        script(&mut state);
        let found = state.violation().map(|violation| violation.rule);
        let expected = (bug != Bug::None).then_some(rule);
        assert_eq!(found, expected, "{bug:?}: {:?}", state.violation());
    }
}

const HOLDS: &str = "a leader holds every committed entry";

/// Does the first thing that can happen and is wanted; false if there is none.
fn takes(state: &mut State, wanted: impl Fn(&Action) -> bool) -> bool {
    let mut actions = Vec::new();
    state.actions(&mut actions);
    let action = actions.into_iter().find(wanted);
    if let Some(action) = action {
        state.act(action);
        return true;
    }
    false
}

fn delivers(state: &mut State, wanted: impl Fn(&Envelope) -> bool) -> bool {
    takes(
        state,
        |action| matches!(action, Action::Deliver(envelope) if wanted(envelope)),
    )
}

fn append_to(node: u32) -> impl Fn(&Envelope) -> bool {
    move |envelope| matches!(envelope, Envelope::Peer(_, to, Message::Append { .. }) if *to == NodeId(node))
}

fn order_to(node: u32) -> impl Fn(&Envelope) -> bool {
    move |envelope| matches!(envelope, Envelope::Order(to, _) if *to == NodeId(node))
}

fn report_of(node: u32) -> impl Fn(&Envelope) -> bool {
    move |envelope| matches!(envelope, Envelope::Report(from, _) if *from == NodeId(node))
}

fn acknowledged_by(node: u32) -> impl Fn(&Envelope) -> bool {
    move |envelope| matches!(envelope, Envelope::Peer(from, _, Message::Appended { .. }) if *from == NodeId(node))
}

/// Node 3, ahead by an entry, is chosen for epoch 2 by its own answer and that of node 2, which then restarts; node 1
/// goes on in epoch 1 with node 2.
fn goes_on_with_a_fenced_follower(state: &mut State) {
    assert!(takes(state, |action| *action == Action::Propose(0)));
    assert!(delivers(state, append_to(3)));
    assert!(takes(state, |action| *action == Action::Sync(2)));
    assert!(takes(state, |action| *action == Action::Elect));
    assert!(takes(state, |action| *action == Action::Swap));
    assert!(delivers(state, order_to(3)));
    assert!(takes(state, |action| *action == Action::Sync(2)));
    assert!(delivers(state, report_of(3)));
    assert!(delivers(state, order_to(2)));
    // A sound shell gives the answer only after this.
    if !delivers(state, report_of(2)) {
        assert!(takes(state, |action| *action == Action::Sync(1)));
        assert!(delivers(state, report_of(2)));
    }
    assert!(takes(state, |action| *action == Action::Swap));
    assert!(takes(state, |action| *action == Action::Restart(1)));
    assert!(takes(state, |action| *action == Action::Propose(0)));
    while delivers(state, append_to(2)) {}
    let _ = takes(state, |action| *action == Action::Sync(1));
    while delivers(state, acknowledged_by(2)) {}
    assert!(takes(state, |action| *action == Action::Sync(0)));
    assert!(delivers(state, order_to(3)));
}

#[test]
fn fences_answered_before_sync_are_found() {
    led(Bug::FencesBeforeSync, goes_on_with_a_fenced_follower, HOLDS);
}

#[test]
fn a_forgotten_promise_is_found() {
    led(Bug::ForgetsPromise, goes_on_with_a_fenced_follower, HOLDS);
}

/// Node 1 loses what node 2 acknowledged, leads again, and then gets that acknowledgement.
fn hears_an_answer_to_its_former_life(state: &mut State) {
    assert!(takes(state, |action| *action == Action::Propose(0)));
    assert!(delivers(state, append_to(2)));
    assert!(takes(state, |action| *action == Action::Sync(1)));
    assert!(takes(state, |action| *action == Action::Restart(0)));
    assert!(takes(state, |action| *action == Action::Elect));
    assert!(takes(state, |action| *action == Action::Swap));
    for (node, at) in [(1, 0), (3, 2)] {
        assert!(delivers(state, order_to(node)));
        assert!(takes(state, |action| *action == Action::Sync(at)));
        assert!(delivers(state, report_of(node)));
    }
    assert!(takes(state, |action| *action == Action::Swap));
    assert!(delivers(state, order_to(1)));
    assert!(takes(state, |action| *action == Action::Propose(0)));
    assert!(takes(state, |action| *action == Action::Sync(0)));
    assert!(delivers(state, acknowledged_by(2)));
}

#[test]
fn answers_of_a_lower_epoch_that_count_are_found() {
    let rule = "a confirm is for a committed entry";
    led(
        Bug::CountsLowerEpoch,
        hears_an_answer_to_its_former_life,
        rule,
    );
}
