//! How a process becomes the active coordinator: with a candidate of its own, when all with lower numbers are gone. Each
//! candidate watches the one before it only, so that the end of one wakes one.

use std::time::Duration;

use quorate_service::clock;
use tracing::debug;
use zookeeper_client::{AddWatchMode, Client, CreateMode, Error};

use crate::{
    limits::STORE_CAMPAIGN_POLL_MS,
    store::{
        StoreError,
        zookeeper::{
            Campaign,
            failure::{bounded, is_disconnected, is_session_over},
            place::{Place, clean},
            session::{Held, sign},
        },
    },
};

/// What became of a candidate.
enum Outcome {
    Won {
        /// When the last answered sign of life was sent.
        sent: u64,
    },
    /// Its session is over.
    Lost,
}

/// Waits until this process's candidate is the lowest.
pub(super) async fn win(place: &Place, campaign: &Campaign) -> Result<Held, StoreError> {
    loop {
        let client = place.connect().await?;
        place.ensure(&client).await?;
        check_version(place, &client).await?;
        clear(place, campaign, &client).await?;
        let id = unique(place)?;
        // Remembered before it is made: whatever becomes of the request, the node is found again.
        campaign.former().push(id.clone());
        let name = create(place, &client, &id).await?;
        match wait(place, &client, &name).await? {
            Outcome::Won { sent } => {
                let path = format!("{}/{name}", place.candidates());
                return Ok(Held::new(client, path, sent));
            }
            Outcome::Lost => debug!("a session ended while its candidate waited"),
        }
    }
}

/// Releases before 3.6 get no corrections any more and are not tested. Persistent watches, which came with it, tell them
/// apart without a right that nothing else needs.
async fn check_version(place: &Place, client: &Client) -> Result<(), StoreError> {
    let path = place.candidates();
    let watched = bounded(client.watch(&path, AddWatchMode::Persistent)).await;
    watched
        .map(drop)
        .map_err(|error| place.error(&path, &error))
}

/// Removes candidates of this process whose sessions are over for it, but perhaps not for ZooKeeper.
async fn clear(place: &Place, campaign: &Campaign, client: &Client) -> Result<(), StoreError> {
    let former = campaign.former().clone();
    if former.is_empty() {
        return Ok(());
    }
    let path = place.candidates();
    let wrong = |error| place.error(&path, &error);
    for name in bounded(client.list_children(&path)).await.map_err(wrong)? {
        if !former.iter().any(|id| name.starts_with(id.as_str())) {
            continue;
        }
        debug!(name, "former session is given back");
        match bounded(client.delete(&format!("{path}/{name}"), None)).await {
            Ok(()) | Err(Error::NoNode) => {}
            Err(error) => return Err(wrong(error)),
        }
    }
    // One whose request is still on its way makes a node of a session that nobody keeps alive.
    campaign.former().retain(|id| !former.contains(id));
    Ok(())
}

/// A name that no other candidate ever has.
fn unique(place: &Place) -> Result<String, StoreError> {
    let number = getrandom::u64()
        .map_err(|error| StoreError::Broken(format!("no randomness for a name: {error}")))?;
    Ok(format!("{}-{number:016x}", clean(&place.options.name)))
}

/// Makes the candidate; its name.
async fn create(place: &Place, client: &Client, id: &str) -> Result<String, StoreError> {
    let path = format!("{}/{id}-", place.candidates());
    let options = CreateMode::EphemeralSequential.with_acls(place.rights(false));
    let made = client.create(&path, place.options.name.as_bytes(), &options);
    match bounded(made).await {
        Ok((_, number)) => Ok(format!("{id}-{number}")),
        Err(error) => Err(place.error(&path, &error)),
    }
}

/// The number that ZooKeeper put behind a candidate's name.
fn number(name: &str) -> Option<u64> {
    name.rsplit_once('-')?.1.parse().ok()
}

async fn wait(place: &Place, client: &Client, own: &str) -> Result<Outcome, StoreError> {
    loop {
        let step = match bounded(step(place, client, own)).await {
            Ok(step) => step,
            Err(error) if is_session_over(&error) => return Ok(Outcome::Lost),
            // For as long as the session may live, its candidate keeps its place.
            Err(error) if is_passing(&error) => {
                if client.state().is_terminated() {
                    return Ok(Outcome::Lost);
                }
                rest().await;
                continue;
            }
            Err(error) => return Err(place.error(&place.candidates(), &error)),
        };
        match step {
            Step::Gone => return Ok(Outcome::Lost),
            Step::First => {
                let path = format!("{}/{own}", place.candidates());
                let sent = clock::monotonic_micros();
                match sign(client, &path).await {
                    Ok(()) => return Ok(Outcome::Won { sent }),
                    Err((Some(_), Error::NoNode)) => return Ok(Outcome::Lost),
                    Err((_, error)) if is_session_over(&error) => return Ok(Outcome::Lost),
                    Err((_, error)) if is_passing(&error) => rest().await,
                    Err((_, error)) => return Err(place.error(&path, &error)),
                }
            }
            // It ends with the node, with its session, or with ours.
            Step::Behind(watcher) => drop(watcher.changed().await),
            Step::Again => {}
        }
    }
}

/// Where a candidate stands.
enum Step {
    First,
    Behind(zookeeper_client::OneshotWatcher),
    /// The one before it went while it was looked at.
    Again,
    Gone,
}

async fn step(place: &Place, client: &Client, own: &str) -> Result<Step, Error> {
    let folder = place.candidates();
    // Made by this session: a list on the same connection holds it, and all that were made before it and live.
    let mut names = client.list_children(&folder).await?;
    names.retain(|name| number(name).is_some());
    names.sort_by_key(|name| number(name));
    let Some(at) = names.iter().position(|name| name == own) else {
        return Ok(Step::Gone);
    };
    let Some(before) = at.checked_sub(1).and_then(|at| names.get(at)) else {
        return Ok(Step::First);
    };
    let (found, watcher) = client
        .check_and_watch_stat(&format!("{folder}/{before}"))
        .await?;
    Ok(match found {
        Some(_) => Step::Behind(watcher),
        None => Step::Again,
    })
}

/// A pause before the next try.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(STORE_CAMPAIGN_POLL_MS)).await;
}

/// Whether the session may live on.
fn is_passing(error: &Error) -> bool {
    is_disconnected(error) || matches!(error, Error::Timeout | Error::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_stand_in_the_order_of_their_numbers() {
        let mut names = vec!["b-0f-0000000009", "a-1e-0000000011", "c-00-0000000010"];
        names.sort_by_key(|name| number(name));
        assert_eq!(
            names,
            ["b-0f-0000000009", "c-00-0000000010", "a-1e-0000000011"]
        );
        assert_eq!(number("somebody else's"), None);
    }
}
