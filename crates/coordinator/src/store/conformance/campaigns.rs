//! Campaigns: one process is active at a time, and only what it asks for is done.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use super::{Place, active, swap};
use crate::store::{Store, StoreError, Swapped};

pub(super) async fn exactly_one_wins_the_campaign(place: impl Place) {
    let first = active(&place).await;
    let outcome = first.compare_and_set(swap("a", 0, "first")).await;
    let Ok(Swapped::Stored(mut version)) = outcome else {
        panic!("{outcome:?}");
    };
    let second = place.handle();
    let mut campaign = Box::pin(second.campaign());
    // The second one waits for as long as the first one lives, here as long as some work of the first takes.
    tokio::select! {
        biased;
        won = &mut campaign => panic!("two active coordinators: {won:?}"),
        () = async {
            for _ in 1..100 {
                let outcome = first.compare_and_set(swap("a", version, "more")).await;
                let Ok(Swapped::Stored(new)) = outcome else {
                    panic!("{outcome:?}");
                };
                version = new;
            }
        } => {}
    }
    drop(first);
    campaign.await.expect("campaign");
    let found = second.read("a").await.expect("read").expect("there");
    assert_eq!(found.value, "more");
}

pub(super) async fn of_many_contenders_one_is_active_at_a_time(place: impl Place) {
    const CONTENDERS: usize = 8;
    const CHANGES_EACH: u64 = 5;
    let active_now = Arc::new(AtomicUsize::new(0));
    let mut contenders = JoinSet::new();
    for contender in 0..CONTENDERS {
        let store = place.handle();
        let active_now = Arc::clone(&active_now);
        contenders.spawn(async move {
            store.campaign().await.expect("campaign");
            assert_eq!(active_now.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            let found = store.read("count").await.expect("read");
            let mut version = found.map_or(0, |found| found.version);
            for _ in 0..CHANGES_EACH {
                let change = swap("count", version, &contender.to_string());
                let outcome = store.compare_and_set(change).await;
                let Ok(Swapped::Stored(new)) = outcome else {
                    panic!("{contender}: {outcome:?}: somebody else changes rows");
                };
                version = new;
                tokio::task::yield_now().await;
            }
            active_now.fetch_sub(1, Ordering::SeqCst);
            // One that says nothing, and is gone, makes room just the same.
            if contender % 2 == 0 {
                store.resign().await;
            }
        });
    }
    while let Some(ended) = contenders.join_next().await {
        ended.expect("each wins in its turn");
    }
    assert_eq!(active_now.load(Ordering::SeqCst), 0);
}

pub(super) async fn who_resigned_changes_nothing_and_can_win_again(place: impl Place) {
    let first = active(&place).await;
    let outcome = first.compare_and_set(swap("a", 0, "first")).await;
    assert!(matches!(outcome, Ok(Swapped::Stored(_))), "{outcome:?}");
    first.resign().await;
    first.lost().await;
    let outcome = first.compare_and_set(swap("b", 0, "late")).await;
    assert_eq!(outcome, Err(StoreError::NotActive));
    // Nobody has to wait for a session to lapse.
    let second = active(&place).await;
    assert_eq!(second.read("b").await, Ok(None));
    second.resign().await;
    first.campaign().await.expect("again");
    let outcome = first.compare_and_set(swap("b", 0, "again")).await;
    assert!(matches!(outcome, Ok(Swapped::Stored(_))), "{outcome:?}");
}
