//! Waiting for a condition with a deadline, instead of sleeping for luck.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Calls `probe` until it yields a value, or fails with `what` and the last reason after `limit`.
///
/// # Errors
/// When the time is over.
pub async fn eventually<T, F, P>(what: &str, limit: Duration, mut probe: P) -> Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    let mut looks = interval(LOOK);
    // A slow probe must not crowd out what it waits for.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::from("not yet");
    loop {
        looks.tick().await;
        match probe().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} for {what}: {last}");
        }
    }
}
