//! Watches: the present first, then every change in order, and an end instead of a gap.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Place, RECOVERY, active, swap};
use crate::store::{Store, Swapped, Versioned};

pub(super) async fn watch_shows_every_change_in_order<P: Place>(place: P) {
    let store = active(&place).await;
    let first = store.compare_and_set(swap("w/a", 0, "0")).await;
    let Ok(Swapped::Stored(mut version)) = first else {
        panic!("{first:?}");
    };
    let mut watch = store.watch("w/").await.expect("watch");
    let shown = watch.recv().await.expect("the present");
    assert_eq!((shown.version, shown.value), (version, "0".into()));
    for count in 1..=50 {
        let change = swap("w/a", version, &count.to_string());
        let other = swap(&format!("elsewhere/{count}"), 0, "");
        let outcomes = store.compare_and_set_many(vec![other, change]).await;
        let Swapped::Stored(new) = outcomes.expect("swap")[1] else {
            panic!("conflict");
        };
        version = new;
    }
    shows_up_to::<P>(&mut watch, "w/a", 1, 50).await;
}

/// Demands that a watch shows a row that counts from `first` to `last`: every number once and in order, or at least
/// ever greater ones and the last, as far as the store can.
pub(super) async fn shows_up_to<P: Place>(
    watch: &mut mpsc::Receiver<Versioned>,
    key: &str,
    first: u64,
    last: u64,
) {
    let mut next = first;
    while next <= last {
        let row = tokio::time::timeout(RECOVERY, watch.recv()).await;
        let row = row.expect("the watch goes on").expect("it was not cut off");
        assert_eq!(row.key, key);
        let text = std::str::from_utf8(&row.value).expect("text");
        let number: u64 = text.parse().expect("a number");
        let is_next = if P::SHOWS_EVERY_VALUE {
            number == next
        } else {
            (next..=last).contains(&number)
        };
        assert!(is_next, "{number} instead of {next}: a gap or a repeat");
        next = number + 1;
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
