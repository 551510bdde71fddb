//! Moves of names: begun by a gateway, ended by the leader that lets the name go, kept from one active coordinator to
//! the next.

use quorate_coordinator::controller::{Input, MoveAnswer, MoveReport, Refusal};
use quorate_replication::ShardId;

use crate::world::World;

/// The answers since the last call, in short.
fn answers(world: &mut World) -> Vec<(u64, String)> {
    let answers = std::mem::take(&mut world.moves).into_iter();
    answers
        .map(|(request, answer)| {
            let shown = match answer {
                MoveAnswer::Begun(overrides) => format!("begun {}", overrides.version()),
                MoveAnswer::Impossible(refusal) => refusal.to_string(),
                MoveAnswer::Refused(refusal) => format!("{refusal:?}"),
            };
            (request.0, shown)
        })
        .collect()
}

/// Where a name is told to live: the shard, and the move's shard of origin and number.
fn place(world: &World, name: &str) -> Option<(u32, Option<(u32, u64)>)> {
    let name = name.parse().expect("a name");
    let overrides = &world.controller.topology().overrides;
    let place = overrides.place(&name)?;
    let moving = place.moving.map(|moving| (moving.from, moving.number));
    Some((place.shard, moving))
}

fn home(world: &World, name: &str) -> u32 {
    let name = name.parse().expect("a name");
    let slot = usize::from(quorate_message::slot(&name).0);
    world.controller.topology().slots[slot].0
}

fn report(world: &mut World, from: u32, number: u64, refusal: Option<&str>) {
    world.tell(Input::MoveReported(MoveReport {
        from: ShardId(from),
        name: "orders".parse().expect("a name"),
        number,
        refusal: refusal.map(str::to_owned),
    }));
    world.run(100);
}

#[test]
fn a_name_moves_when_its_shard_let_it_go_and_outlives_the_coordinator() {
    let mut world = World::settled(51);
    let home = home(&world, "orders");
    let to = home % 2 + 1;
    world.want_move(1, "orders", to);
    world.want_move(2, "prices", to);
    world.run(100);
    assert_eq!(
        answers(&mut world),
        [
            (2, format!("{:?}", Refusal::MoveBusy)),
            (1, "begun 1".to_owned())
        ]
    );
    assert_eq!(place(&world, "orders"), Some((to, Some((home, 1)))));
    world.want_move(3, "orders", home);
    world.want_move(4, "lines", 99);
    let said = answers(&mut world);
    assert!(said[0].1.contains("is being moved to shard"), "{said:?}");
    assert!(said[1].1.contains("there is no"), "{said:?}");
    world.deactivate();
    world.want_move(5, "orders", home);
    assert_eq!(
        answers(&mut world),
        [(5, format!("{:?}", Refusal::NotActive))]
    );
    world.activate();
    assert_eq!(place(&world, "orders"), Some((to, Some((home, 1)))));
    // Another shard's word, or that of another move, counts for nothing.
    report(&mut world, to, 1, None);
    report(&mut world, home, 2, None);
    assert_eq!(place(&world, "orders"), Some((to, Some((home, 1)))));
    report(&mut world, home, 1, None);
    assert_eq!(place(&world, "orders"), Some((to, None)));
    report(&mut world, home, 1, None);
    assert_eq!(place(&world, "orders"), Some((to, None)));
    world.want_move(6, "orders", home);
    world.run(100);
    report(&mut world, to, 3, None);
    assert_eq!(place(&world, "orders"), None, "home again");
}

#[test]
fn a_name_that_cannot_go_stays() {
    let mut world = World::settled(52);
    let home = home(&world, "orders");
    world.want_move(1, "orders", home % 2 + 1);
    world.run(100);
    report(&mut world, home, 1, Some("it has subscriptions"));
    assert_eq!(place(&world, "orders"), None);
    let overrides = &world.controller.topology().overrides;
    let refused: Vec<_> = overrides.refused().collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].1.reason, "it has subscriptions");
}

#[test]
fn a_version_never_names_two_sets_of_overrides_over_a_store_that_fails() {
    for seed in 0..40 {
        let mut world = World::settled(200 + seed);
        let mut told = std::collections::BTreeMap::new();
        for request in 1..30 {
            world.is_store_away = request % 3 == 0;
            world.want_move(request, &format!("q{request}"), 1);
            world.want_move(100 + request, &format!("q{request}"), 2);
            world.run(if request % 2 == 0 { 1 } else { 50 });
            for topology in &world.topologies {
                let overrides = &topology.overrides;
                let first = told.entry(overrides.version());
                let first = first.or_insert_with(|| std::sync::Arc::clone(overrides));
                assert_eq!(first, overrides, "version {}", overrides.version());
            }
        }
        world.is_store_away = false;
        world.run(1_000);
        assert!(world.controller.topology().overrides.version() > 0);
        assert_eq!(world.moves.len(), 58, "each request is answered, once");
    }
}
