//! What the controller's task has done outside of it: the campaign, writes and reads of the store, redials.
//!
//! Each runs as a task of its own with a time limit, and comes back as exactly one event.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tracing::warn;

use crate::{
    controller::{
        Attempt, Change, Input, Key, ReadOutcome, RedialOutcome, Stored, Topology, WriteNumber,
        WriteOutcome,
    },
    events::Event,
    limits::{REDIAL_TIMEOUT_MS, STORE_RETRY_MS, STORE_TIMEOUT_MS},
    metrics::Counts,
    rows,
    store::{Store, StoreError, Swapped},
};

/// The way outside.
pub(crate) struct Outside<S> {
    store: S,
    cluster: String,
    events: mpsc::Sender<Event>,
    counts: Counts,
    /// Members as they were published last.
    members: BTreeMap<String, Bytes>,
}

/// A live storage node, as operators see it in the store.
#[derive(Serialize)]
struct MemberText<'a> {
    id: u32,
    address: &'a str,
    /// Whether it leads anything.
    elected: bool,
    leads: Vec<u32>,
}

impl<S: Store> Outside<S> {
    pub(crate) fn new(
        store: S,
        cluster: String,
        events: mpsc::Sender<Event>,
        counts: Counts,
    ) -> Self {
        Self {
            store,
            cluster,
            events,
            counts,
            members: BTreeMap::new(),
        }
    }

    /// Tries to become the active coordinator; tells when that is so, and when it is no longer.
    pub(crate) fn campaign(&self) {
        let store = self.store.clone();
        let events = self.events.clone();
        let cluster = self.cluster.clone();
        let since = Instant::now();
        tokio::spawn(async move {
            let event = loop {
                match activate(&store, &cluster).await {
                    Ok((generation, rows)) => {
                        break Event::Won {
                            generation,
                            rows,
                            since,
                        };
                    }
                    Err(ActivateError::Store(error)) if error.is_retryable() => {
                        warn!(%error, "campaign");
                        tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)).await;
                    }
                    Err(error) => break Event::Broken(error.to_string()),
                }
            };
            let is_won = matches!(event, Event::Won { .. });
            drop(events.send(event).await);
            if is_won {
                store.lost().await;
                drop(events.send(Event::Lost).await);
            }
        });
    }

    pub(crate) fn write(&self, write: WriteNumber, changes: &[Change]) {
        let swaps: Vec<_> = changes.iter().map(rows::swap).collect();
        let count = swaps.len();
        let store = self.store.clone();
        let events = self.events.clone();
        let counts = self.counts.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let limit = Duration::from_millis(STORE_TIMEOUT_MS);
            let result = timeout(limit, store.compare_and_set_many(swaps)).await;
            counts.store_seconds.observe(began.elapsed().as_secs_f64());
            let outcomes = match result {
                Ok(Ok(swapped)) => swapped.into_iter().map(outcome).collect(),
                Ok(Err(error)) => {
                    counts.store_errors.inc();
                    if report_broken(&events, &error).await {
                        return;
                    }
                    vec![WriteOutcome::Unknown; count]
                }
                Err(_) => {
                    counts.store_errors.inc();
                    warn!(?limit, "store did not answer a write in time");
                    vec![WriteOutcome::Unknown; count]
                }
            };
            drop(
                events
                    .send(Event::Told(Input::Written { write, outcomes }))
                    .await,
            );
        });
    }

    pub(crate) fn read(&self, key: Key) {
        let store = self.store.clone();
        let events = self.events.clone();
        let counts = self.counts.clone();
        tokio::spawn(async move {
            let text = rows::key_text(key);
            let limit = Duration::from_millis(STORE_TIMEOUT_MS);
            let outcome = match timeout(limit, store.read(&text)).await {
                Ok(Ok(None)) => ReadOutcome::Absent,
                Ok(Ok(Some(found))) => match rows::decode(&found) {
                    Ok(Some(stored)) => ReadOutcome::Found(stored),
                    Ok(None) => ReadOutcome::Absent,
                    Err(error) => {
                        drop(events.send(Event::Broken(error.to_string())).await);
                        return;
                    }
                },
                Ok(Err(error)) => {
                    counts.store_errors.inc();
                    if report_broken(&events, &error).await {
                        return;
                    }
                    ReadOutcome::Failed
                }
                Err(_) => {
                    counts.store_errors.inc();
                    warn!(?limit, "store did not answer a read in time");
                    ReadOutcome::Failed
                }
            };
            drop(events.send(Event::Told(Input::Read { key, outcome })).await);
        });
    }

    pub(crate) fn redial(&self, attempt: Attempt, address: String) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let limit = Duration::from_millis(REDIAL_TIMEOUT_MS);
            let outcome = match timeout(limit, TcpStream::connect(&address)).await {
                Ok(Ok(_connection)) => RedialOutcome::Accepted,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    RedialOutcome::Refused
                }
                Ok(Err(_)) | Err(_) => RedialOutcome::Unanswered,
            };
            drop(
                events
                    .send(Event::Told(Input::Redialed { attempt, outcome }))
                    .await,
            );
        });
    }

    /// Publishes what changed of the live nodes. Operators read it; no decision hangs on it.
    pub(crate) fn publish_members(&mut self, topology: &Topology) {
        let members = members(topology);
        let mut changes: Vec<(String, Option<Bytes>)> = Vec::new();
        for (name, member) in &members {
            if self.members.get(name) != Some(member) {
                changes.push((name.clone(), Some(member.clone())));
            }
        }
        for name in self.members.keys() {
            if !members.contains_key(name) {
                changes.push((name.clone(), None));
            }
        }
        self.members = members;
        if changes.is_empty() {
            return;
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            for (name, member) in changes {
                if let Err(error) = store.publish_member(&name, member).await {
                    warn!(%error, name, "publish member");
                }
            }
        });
    }
}

fn members(topology: &Topology) -> BTreeMap<String, Bytes> {
    let alive = topology.nodes.iter().filter(|node| node.is_alive);
    alive
        .map(|node| {
            let led = topology
                .shards
                .iter()
                .filter(|shard| shard.leader.is_some_and(|leader| leader.node == node.node));
            let leads: Vec<u32> = led.map(|shard| shard.shard.0).collect();
            let text = serde_json::to_vec(&MemberText {
                id: node.node.0,
                address: &node.address,
                elected: !leads.is_empty(),
                leads,
            });
            let text = text.expect("a member holds nothing that JSON cannot express");
            (node.name.clone(), Bytes::from(text))
        })
        .collect()
}

fn outcome(swapped: Swapped) -> WriteOutcome {
    match swapped {
        Swapped::Stored(version) => {
            WriteOutcome::Stored(quorate_replication::RecordVersion(version))
        }
        Swapped::Conflict(_) => WriteOutcome::Conflict,
    }
}

/// Tells that the store is of no use any more, if that is what the error says.
async fn report_broken(events: &mpsc::Sender<Event>, error: &StoreError) -> bool {
    match error {
        StoreError::Broken(_) => {
            drop(events.send(Event::Broken(error.to_string())).await);
            true
        }
        StoreError::Away(_) | StoreError::NotActive => {
            warn!(%error, "store");
            false
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ActivateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Row(#[from] rows::RowError),
}

/// Wins the campaign, counts the activation durably, and reads everything.
async fn activate(store: &impl Store, cluster: &str) -> Result<(u64, Vec<Stored>), ActivateError> {
    store.campaign().await?;
    let generation = loop {
        let found = store.read(rows::GENERATION).await?;
        let (swap, generation) = rows::next_generation(found.as_ref(), cluster)?;
        match store.compare_and_set(swap).await? {
            Swapped::Stored(_) => break generation,
            // A former active coordinator was still writing, or this one did not hear its own answer.
            Swapped::Conflict(_) => {}
        }
    };
    let mut stored = Vec::new();
    for found in store.read_all("").await? {
        stored.extend(rows::decode(&found)?);
    }
    Ok((generation, stored))
}
