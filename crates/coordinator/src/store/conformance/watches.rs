//! Watches: the present first, then every change in order, and an end instead of a gap.

use std::time::Duration;

use super::{Place, active, swap};
use crate::store::{Store, Swapped};

pub(super) async fn watch_shows_every_change_in_order(place: impl Place) {
    let store = active(&place).await;
    let first = store.compare_and_set(swap("w/a", 0, "0")).await;
    let Ok(Swapped::Stored(mut version)) = first else {
        panic!("{first:?}");
    };
    let mut watch = store.watch("w/").await.expect("watch");
    assert_eq!(watch.recv().await.map(|row| row.value), Some("0".into()));
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

pub(super) async fn slow_watcher_is_cut_off(place: impl Place) {
    let store = active(&place).await;
    let mut watch = store.watch("").await.expect("watch");
    let fill = async {
        let mut count = 0;
        while !watch.is_closed() {
            let swaps = (count..count + 100).map(|count| swap(&format!("k{count}"), 0, ""));
            store
                .compare_and_set_many(swaps.collect())
                .await
                .expect("many");
            count += 100;
        }
        count
    };
    let limit = Duration::from_secs(60);
    let count = tokio::time::timeout(limit, fill)
        .await
        .expect("it is cut off");
    let mut seen = 0;
    while watch.recv().await.is_some() {
        seen += 1;
    }
    // It ended, instead of going on with a gap.
    assert!(seen < count, "{seen} of {count}");
}
