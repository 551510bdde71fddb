//! What every coordination store must hold, as one suite. Each implementation runs all of it.

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::store::{MEMBERS, Store, Swap, Swapped, Versioned};

/// Where stores are made: every handle is a new process's view of the same place.
pub(crate) trait Place {
    /// The implementation.
    type Store: Store;

    /// Makes another handle that shares nothing with earlier ones but the place.
    fn handle(&self) -> Self::Store;
}

fn swap(key: &str, expected: u64, value: &str) -> Swap {
    Swap {
        key: key.to_owned(),
        expected,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn versioned(key: &str, version: u64, value: &str) -> Versioned {
    Versioned {
        key: key.to_owned(),
        version,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

async fn active(place: &impl Place) -> impl Store {
    let store = place.handle();
    store.campaign().await.expect("campaign");
    store
}

pub(crate) async fn change_needs_the_expected_version(place: impl Place) {
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

pub(crate) async fn many_changes_are_judged_each_for_itself(place: impl Place) {
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

pub(crate) async fn contenders_never_both_win_a_version(place: impl Place) {
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
                    let count: usize = text.split(' ').next().unwrap().parse().expect("count");
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

pub(crate) async fn watch_shows_every_change_in_order(place: impl Place) {
    let store = active(&place).await;
    store
        .compare_and_set(swap("w/a", 0, "0"))
        .await
        .expect("first");
    let mut watch = store.watch("w/").await.expect("watch");
    assert_eq!(watch.recv().await.map(|row| row.value), Some("0".into()));
    let mut version = 1;
    for count in 1..=50 {
        let change = swap("w/a", version, &count.to_string());
        let other = swap(&format!("elsewhere/{count}"), 0, "");
        let outcomes = store.compare_and_set_many(vec![other, change]).await;
        let Swapped::Stored(new) = outcomes.expect("swap")[1] else {
            panic!("conflict");
        };
        version = new;
    }
    for count in 1..=50 {
        let row = watch.recv().await.expect("still watching");
        assert_eq!(
            (row.key.as_str(), row.value),
            ("w/a", count.to_string().into())
        );
    }
}

pub(crate) async fn slow_watcher_is_cut_off(place: impl Place) {
    let store = active(&place).await;
    let mut watch = store.watch("").await.expect("watch");
    let many = crate::limits::STORE_WATCH_LAG + 10;
    let swaps = (0..many)
        .map(|count| swap(&format!("k{count}"), 0, ""))
        .collect();
    store.compare_and_set_many(swaps).await.expect("many");
    let mut seen = 0;
    while watch.recv().await.is_some() {
        seen += 1;
    }
    // It ended, instead of going on with a gap.
    assert!(seen < many);
}

pub(crate) async fn exactly_one_wins_the_campaign(place: impl Place) {
    let first = active(&place).await;
    first
        .compare_and_set(swap("a", 0, "first"))
        .await
        .expect("swap");
    let second = place.handle();
    let mut campaign = Box::pin(second.campaign());
    // The second one waits for as long as the first one lives, here as long as some work of the first takes.
    tokio::select! {
        biased;
        won = &mut campaign => panic!("two active coordinators: {won:?}"),
        () = async {
            for version in 1..100 {
                first.compare_and_set(swap("a", version, "more")).await.expect("swap");
            }
        } => {}
    }
    drop(first);
    campaign.await.expect("campaign");
    let found = second.read("a").await.expect("read").expect("there");
    assert_eq!(found.value, "more");
}

pub(crate) async fn rows_survive_and_members_do_not(place: impl Place) {
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
