//! What every coordination store must hold, as one suite. Each implementation runs all of it; `faults` is for those
//! with servers that can fail.

use std::time::Duration;

use bytes::Bytes;

use crate::store::{Store, Swap, Versioned};

mod campaigns;
pub mod faults;
mod rows;

/// How long the store may need to answer again after a fault, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(30);

/// Where stores are made: every handle is a new process's view of the same place.
pub trait Place {
    /// The implementation.
    type Store: Store;

    /// Makes another handle that shares nothing with earlier ones but the place.
    fn handle(&self) -> Self::Store;
}

/// Runs the suite, each case at a place of its own.
pub async fn run<P: Place>(mut place: impl FnMut() -> P) {
    rows::change_needs_the_expected_version(place()).await;
    rows::many_changes_are_judged_each_for_itself(place()).await;
    rows::hundreds_of_changes_keep_their_order(place()).await;
    rows::contenders_never_both_win_a_version(place()).await;
    rows::rows_survive_and_members_do_not(place()).await;
    campaigns::exactly_one_wins_the_campaign(place()).await;
    campaigns::of_many_contenders_one_is_active_at_a_time(place()).await;
    campaigns::who_resigned_changes_nothing_and_can_win_again(place()).await;
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
