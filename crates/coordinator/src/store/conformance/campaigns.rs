//! Campaigns: one process is active at a time, and only what it asks for is done.

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
