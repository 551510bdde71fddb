//! What a store with several servers must hold when they fail, one after the other and all together.
//!
//! The measure is a counter: it goes up by one with each change, whatever has to be tried again, and at the end another
//! process must read the number of changes: none was lost and none made twice.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{Place, RECOVERY, active, swap, versioned};
use crate::store::{Store, StoreError, Swapped};

/// Changes before, during and after a fault.
const CHANGES: u64 = 40;

/// The servers of a place, in the hands of a test.
pub trait Servers: Place + Sync {
    /// Kills the server that leads the others; after `start_all` it runs again.
    fn kill_leader(&self) -> impl Future<Output = ()> + Send;
    /// Kills every server.
    fn kill_all(&self) -> impl Future<Output = ()> + Send;
    /// Starts every server that does not run, and lets all go on that are paused.
    fn start_all(&self) -> impl Future<Output = ()> + Send;
    /// Pauses the server that leads the others.
    fn pause_leader(&self) -> impl Future<Output = ()> + Send;
    /// Pauses every server.
    fn pause_all(&self) -> impl Future<Output = ()> + Send;
}

/// Runs the suite. The place is whole before and after each case. `report` gets a line for each.
pub async fn run<P: Servers>(mut place: impl FnMut() -> P, report: impl Fn(String)) {
    counted("leader killed", &place(), &report, async |servers| {
        servers.kill_leader().await;
    })
    .await;
    counted("leader paused", &place(), &report, async |servers| {
        servers.pause_leader().await;
    })
    .await;
    counted("all restarted", &place(), &report, async |servers| {
        servers.kill_all().await;
        servers.start_all().await;
    })
    .await;
    counted("slow", &place(), &report, slow).await;
    a_session_ends_by_the_clock_while_the_store_is_away(&place(), &report).await;
}

/// All servers work a quarter of the time, for two seconds.
async fn slow(servers: &impl Servers) {
    for _ in 0..10 {
        servers.pause_all().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        servers.start_all().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Counts up while `fault` happens, and demands that every change was made once.
async fn counted<P: Servers>(
    name: &str,
    place: &P,
    report: &impl Fn(String),
    fault: impl AsyncFn(&P),
) {
    let store = place.handle();
    store.campaign().await.expect("campaign");
    let mut counter = Counter::new(store.clone());
    counter.count(CHANGES).await;
    let began = Instant::now();
    let ((), ()) = tokio::join!(fault(place), counter.count(CHANGES));
    counter.count(CHANGES).await;
    let took = began.elapsed();
    place.start_all().await;
    counter.count(CHANGES).await;
    assert_eq!(counter.last, 4 * CHANGES);
    let unsure = counter.unsure;
    report(format!(
        "{name}: {} changes in {took:?}, longest wait {:?}, {unsure} unknown outcomes, {} sessions",
        2 * CHANGES,
        counter.longest,
        counter.sessions
    ));
    let version = counter.version;
    store.resign().await;
    // What was answered last is what there is, under the same version: nothing was made twice, or later.
    let other = active(place).await;
    let found = other.read("counter").await.expect("read");
    let last = (4 * CHANGES).to_string();
    assert_eq!(found, Some(versioned("counter", version, &last)));
    other.resign().await;
}

/// A row that goes up by one with each change.
struct Counter<S> {
    store: S,
    last: u64,
    version: u64,
    longest: Duration,
    unsure: u32,
    sessions: u32,
}

impl<S: Store> Counter<S> {
    fn new(store: S) -> Self {
        Self {
            store,
            last: 0,
            version: 0,
            longest: Duration::ZERO,
            unsure: 0,
            sessions: 1,
        }
    }

    async fn count(&mut self, times: u64) {
        for _ in 0..times {
            let began = Instant::now();
            tokio::time::timeout(RECOVERY, self.up())
                .await
                .expect("the store answers again");
            self.longest = self.longest.max(began.elapsed());
        }
    }

    /// One up, exactly once, as a careful caller does it.
    async fn up(&mut self) {
        let value = (self.last + 1).to_string();
        loop {
            let change = swap("counter", self.version, &value);
            match self.store.compare_and_set(change).await {
                Ok(Swapped::Stored(version)) => {
                    self.last += 1;
                    self.version = version;
                    return;
                }
                Ok(Swapped::Conflict(_)) | Err(StoreError::Away(_)) => {
                    self.unsure += 1;
                    if self.is_there(&value).await {
                        return;
                    }
                }
                Err(StoreError::NotActive) => {
                    self.sessions += 1;
                    self.win().await;
                    if self.is_there(&value).await {
                        return;
                    }
                }
                Err(StoreError::Broken(reason)) => panic!("{reason}"),
            }
        }
    }

    /// Whether the change was made although nobody said so.
    async fn is_there(&mut self, value: &str) -> bool {
        loop {
            match self.store.read("counter").await {
                Ok(Some(found)) => {
                    self.version = found.version;
                    let is_there = found.value == value.as_bytes();
                    self.last += u64::from(is_there);
                    return is_there;
                }
                Ok(None) => return false,
                Err(StoreError::Away(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn win(&self) {
        while let Err(error) = self.store.campaign().await {
            assert!(error.is_retryable(), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn a_session_ends_by_the_clock_while_the_store_is_away(
    place: &impl Servers,
    report: &impl Fn(String),
) {
    let store = place.handle();
    store.campaign().await.expect("campaign");
    let first = store.compare_and_set(swap("a", 0, "first")).await;
    assert!(matches!(first, Ok(Swapped::Stored(_))), "{first:?}");
    place.pause_all().await;
    let began = Instant::now();
    tokio::time::timeout(RECOVERY, store.lost())
        .await
        .expect("the clock runs out without the store");
    report(format!(
        "all paused: the active one gave up after {:?}",
        began.elapsed()
    ));
    let late = store.compare_and_set(swap("b", 0, "late")).await;
    assert_eq!(late, Err(StoreError::NotActive));
    place.start_all().await;
    let other = place.handle();
    let mut winner = Counter::new(other.clone());
    tokio::time::timeout(RECOVERY, winner.win())
        .await
        .expect("another one wins when the store is back");
    assert!(!winner.is_there("none").await);
    let late = store.compare_and_set(swap("b", 0, "late")).await;
    assert_eq!(late, Err(StoreError::NotActive));
    winner.count(1).await;
    assert_eq!(other.read("b").await, Ok(None));
    // The first one is in the running again, behind the other one.
    tokio::select! {
        biased;
        won = store.campaign() => panic!("two active coordinators: {won:?}"),
        () = winner.count(20) => {}
    }
    other.resign().await;
    Counter::new(store.clone()).win().await;
    store.resign().await;
}
