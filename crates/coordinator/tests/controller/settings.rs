//! Settings of destinations: replaced by compare-and-set, told with the topology, kept from one active coordinator to
//! the next.

use quorate_coordinator::controller::{Refusal, SettingsAnswer};

use crate::world::World;

/// The answers since the last call, in short.
fn answers(world: &mut World) -> Vec<(u64, String)> {
    let answers = std::mem::take(&mut world.answers).into_iter();
    answers
        .map(|(request, answer)| {
            let shown = match answer {
                SettingsAnswer::Replaced(settings) => format!("replaced {}", settings.version()),
                SettingsAnswer::Differ(settings) => format!("differ {}", settings.version()),
                SettingsAnswer::Refused(refusal) => format!("{refusal:?}"),
            };
            (request.0, shown)
        })
        .collect()
}

#[test]
fn settings_are_replaced_only_over_the_expected_version_and_outlive_the_coordinator() {
    let mut world = World::settled(31);
    assert_eq!(world.settings(), (0, 0));
    world.want_settings(1, 0, 10);
    // One at a time.
    world.want_settings(2, 0, 20);
    world.run(100);
    assert_eq!(
        answers(&mut world),
        [
            (2, format!("{:?}", Refusal::SettingsBusy)),
            (1, "replaced 1".to_owned())
        ]
    );
    world.want_settings(3, 0, 30);
    world.want_settings(4, 1, 40);
    world.run(100);
    assert_eq!(
        answers(&mut world),
        [(3, "differ 1".to_owned()), (4, "replaced 2".to_owned())]
    );
    assert_eq!(world.settings(), (2, 40));
    world.deactivate();
    world.want_settings(5, 2, 50);
    assert_eq!(
        answers(&mut world),
        [(5, format!("{:?}", Refusal::NotActive))]
    );
    world.activate();
    assert_eq!(world.settings(), (2, 40));
}

#[test]
fn a_request_that_is_under_way_is_answered_when_the_coordinator_steps_down() {
    let mut world = World::settled(32);
    world.want_settings(1, 0, 10);
    world.deactivate();
    assert_eq!(
        answers(&mut world),
        [(1, format!("{:?}", Refusal::NotActive))]
    );
}

#[test]
fn a_version_never_names_two_sets_of_rules_over_a_store_that_fails() {
    for seed in 0..40 {
        let mut world = World::settled(100 + seed);
        let mut told = std::collections::BTreeMap::new();
        for request in 1..30 {
            world.is_store_away = request % 3 == 0;
            let (version, _) = world.settings();
            world.want_settings(request, version, request);
            world.run(if request % 2 == 0 { 1 } else { 50 });
            for topology in &world.topologies {
                let orders = "orders".parse().expect("a name");
                let settings = &topology.settings;
                let says = settings.of(&orders).max_messages;
                let first = *told.entry(settings.version()).or_insert(says);
                assert_eq!(first, says, "version {}", settings.version());
            }
        }
        world.is_store_away = false;
        world.run(1_000);
        assert!(world.settings().0 > 0);
        let requests: std::collections::BTreeSet<u64> =
            world.answers.iter().map(|(request, _)| request.0).collect();
        assert_eq!(requests.len(), 29, "each request is answered");
        assert_eq!(world.answers.len(), 29, "and once");
    }
}
