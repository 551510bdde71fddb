//! Rows: a change is made on the expected version only, each for itself, whoever contends.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Place, active, swap, versioned};
use crate::store::{MEMBERS, Store, Swapped};

pub(super) async fn change_needs_the_expected_version(place: impl Place) {
    let store = active(&place).await;
    assert_eq!(store.read("a").await, Ok(None));
    assert_eq!(
        store.compare_and_set(swap("a", 1, "x")).await,
        Ok(Swapped::Conflict(0))
    );
    let Ok(Swapped::Stored(first)) = store.compare_and_set(swap("a", 0, "x")).await else {
        panic!("creating a row");
    };
    assert!(first >= 1);
    assert_eq!(
        store.compare_and_set(swap("a", 0, "y")).await,
        Ok(Swapped::Conflict(first))
    );
    let Ok(Swapped::Stored(second)) = store.compare_and_set(swap("a", first, "y")).await else {
        panic!("changing a row");
    };
    assert!(second > first);
    assert_eq!(store.read("a").await, Ok(Some(versioned("a", second, "y"))));
    assert_eq!(
        store.compare_and_set(swap("a", first, "z")).await,
        Ok(Swapped::Conflict(second))
    );
}

pub(super) async fn many_changes_are_judged_each_for_itself(place: impl Place) {
    let store = active(&place).await;
    store
        .compare_and_set(swap("b", 0, "old"))
        .await
        .expect("first");
    let outcomes = store
        .compare_and_set_many(vec![
            swap("a", 0, "1"),
            swap("b", 0, "2"),
            swap("c", 0, "3"),
        ])
        .await
        .expect("many");
    assert!(matches!(
        outcomes[..],
        [Swapped::Stored(_), Swapped::Conflict(_), Swapped::Stored(_)]
    ));
    let values: Vec<_> = store.read_all("").await.expect("all");
    let values: Vec<_> = values.iter().map(|row| row.value.as_ref()).collect();
    assert_eq!(values, [b"1".as_slice(), b"old", b"3"]);
}

pub(super) async fn contenders_never_both_win_a_version(place: impl Place) {
    const CONTENDERS: usize = 8;
    const WINS_EACH: usize = 25;
    let store = active(&place).await;
    let mut contenders = JoinSet::new();
    for contender in 0..CONTENDERS {
        let store = store.clone();
        contenders.spawn(async move {
            let mut won = Vec::new();
            while won.len() < WINS_EACH {
                let found = store.read("counter").await.expect("read");
                let (expected, count) = found.map_or((0, 0), |found| {
                    let text = std::str::from_utf8(&found.value).expect("text").to_owned();
                    let count: usize = text
                        .split(' ')
                        .next()
                        .unwrap_or_default()
                        .parse()
                        .expect("count");
                    (found.version, count)
                });
                let value = format!("{} {contender}", count + 1);
                let outcome = store
                    .compare_and_set(swap("counter", expected, &value))
                    .await;
                match outcome.expect("swap") {
                    Swapped::Stored(version) => won.push(version),
                    Swapped::Conflict(_) => tokio::task::yield_now().await,
                }
            }
            won
        });
    }
    let mut versions: Vec<u64> = contenders.join_all().await.into_iter().flatten().collect();
    versions.sort_unstable();
    let wins = versions.len();
    versions.dedup();
    assert_eq!(versions.len(), wins, "two contenders won one version");
    let last = store.read("counter").await.expect("read").expect("there");
    // Each win counted one up from what it replaced, so a lost update would show.
    assert!(last.value.starts_with(format!("{wins} ").as_bytes()));
}

/// More than fit into one round trip of any store, with a conflict and a key that comes twice among them.
pub(super) async fn hundreds_of_changes_keep_their_order(place: impl Place) {
    const COUNT: usize = 450;
    const TAKEN: usize = 222;
    let store = active(&place).await;
    let key = |count: usize| format!("many/{count:04}");
    let outcome = store.compare_and_set(swap(&key(TAKEN), 0, "taken")).await;
    assert!(matches!(outcome, Ok(Swapped::Stored(_))), "{outcome:?}");
    let mut swaps: Vec<_> = (0..COUNT)
        .map(|count| swap(&key(count), 0, "new"))
        .collect();
    swaps.push(swap(&key(7), 0, "again"));
    let outcomes = store.compare_and_set_many(swaps).await.expect("many");
    assert_eq!(outcomes.len(), COUNT + 1);
    for (count, outcome) in outcomes.iter().enumerate() {
        let is_stored = matches!(outcome, Swapped::Stored(version) if *version >= 1);
        assert_eq!(
            is_stored,
            count != TAKEN && count != COUNT,
            "{count}: {outcome:?}"
        );
    }
    assert!(matches!(outcomes[COUNT], Swapped::Conflict(version) if version >= 1));
    let found = store.read_all("many/").await.expect("all");
    assert_eq!(found.len(), COUNT);
    assert!(found.iter().map(|row| &row.key).is_sorted());
    for (count, row) in found.iter().enumerate() {
        let expected = if count == TAKEN { "taken" } else { "new" };
        assert_eq!(
            (row.key.as_str(), row.value.as_ref()),
            (key(count).as_str(), expected.as_bytes())
        );
    }
}

pub(super) async fn rows_survive_and_members_do_not(place: impl Place) {
    let store = active(&place).await;
    let mut version = 0;
    for count in 0..20 {
        let outcome = store
            .compare_and_set(swap("a", version, &count.to_string()))
            .await;
        let Ok(Swapped::Stored(new)) = outcome else {
            panic!("conflict");
        };
        version = new;
    }
    let member = Some(Bytes::from_static(b"{}"));
    store.publish_member("mq01", member).await.expect("publish");
    assert_eq!(store.read_all(MEMBERS).await.expect("members").len(), 1);
    drop(store);
    let store = active(&place).await;
    assert_eq!(
        store.read("a").await,
        Ok(Some(versioned("a", version, "19")))
    );
    assert_eq!(store.read_all(MEMBERS).await, Ok(Vec::new()));
    store.publish_member("mq01", None).await.expect("withdraw");
}
