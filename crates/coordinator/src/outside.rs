//! What the controller's task has done outside of it: the campaign, writes and reads of the store, redials.
//!
//! Each runs as a task of its own with a time limit, and comes back as exactly one event. What comes back carries the
//! activation that asked: numbers of writes and redials begin anew with each.

use std::{
    io,
    time::{Duration, Instant},
};

use quorate_replication::NodeId;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tracing::warn;

use crate::{
    controller::{
        Attempt, Change, Input, Key, ReadOutcome, RedialOutcome, Stored, Topology, WriteNumber,
        WriteOutcome,
    },
    events::{Activation, Event},
    limits::{REDIAL_TIMEOUT_MS, STORE_AWAY_NOTE_MS, STORE_RETRY_MS, STORE_TIMEOUT_MS},
    members::Publisher,
    metrics::Counts,
    rows::{
        self,
        generation::{self, GENERATION},
    },
    store::{Store, StoreError, Swapped},
};

/// The way outside.
pub(crate) struct Outside<S> {
    store: S,
    cluster: String,
    events: mpsc::Sender<Event>,
    counts: Counts,
    /// What is asked for now is answered to this one.
    activation: Activation,
    /// While this process is active.
    publisher: Option<Publisher>,
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
            activation: Activation::default(),
            publisher: None,
        }
    }

    /// An activation begins: what an earlier one asked for is not answered to it.
    pub(crate) fn begin(&mut self) {
        self.activation.0 += 1;
        self.publisher = Some(Publisher::start(self.store.clone()));
    }

    /// The activation is over.
    pub(crate) fn end(&mut self) {
        self.activation.0 += 1;
        self.publisher = None;
    }

    /// Which activation is answered at the moment.
    pub(crate) fn activation(&self) -> Activation {
        self.activation
    }

    /// Tries to become the active coordinator; tells when that is so, and when it is no longer.
    pub(crate) fn campaign(&self) {
        let store = self.store.clone();
        let events = self.events.clone();
        let cluster = self.cluster.clone();
        let since = Instant::now();
        tokio::spawn(async move {
            let mut told = None::<Instant>;
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
                        let again = Duration::from_millis(STORE_AWAY_NOTE_MS);
                        if told.is_none_or(|told| told.elapsed() >= again) {
                            warn!(%error, "cannot become the active coordinator yet; trying on");
                            told = Some(Instant::now());
                        }
                        tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)).await;
                    }
                    // The session was over before everything was read: that is a campaign anew.
                    Err(ActivateError::Store(StoreError::NotActive)) => {}
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
        let activation = self.activation;
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
            let input = Input::Written { write, outcomes };
            drop(events.send(Event::Answered { activation, input }).await);
        });
    }

    pub(crate) fn read(&self, key: Key) {
        let store = self.store.clone();
        let events = self.events.clone();
        let activation = self.activation;
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
            let input = Input::Read { key, outcome };
            drop(events.send(Event::Answered { activation, input }).await);
        });
    }

    pub(crate) fn redial(&self, attempt: Attempt, address: String) {
        let events = self.events.clone();
        let activation = self.activation;
        tokio::spawn(async move {
            let limit = Duration::from_millis(REDIAL_TIMEOUT_MS);
            let outcome = match timeout(limit, TcpStream::connect(&address)).await {
                Ok(Ok(_connection)) => RedialOutcome::Accepted,
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    RedialOutcome::Refused
                }
                Ok(Err(_)) | Err(_) => RedialOutcome::Unanswered,
            };
            let input = Input::Redialed { attempt, outcome };
            drop(events.send(Event::Answered { activation, input }).await);
        });
    }

    /// Notes how far a node's logs reach, to be published with it.
    pub(crate) fn note_position(&self, node: NodeId, position: u64) {
        if let Some(publisher) = &self.publisher {
            publisher.note_position(node, position);
        }
    }

    /// Publishes the live nodes. Operators read it; no decision hangs on it.
    pub(crate) fn publish_members(&self, topology: &Topology) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(topology);
        }
    }
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
    // Another cluster's store is told from this one's at once, not when its active coordinator is gone.
    match store.read(GENERATION).await {
        Ok(found) => drop(generation::next(found.as_ref(), cluster)?),
        // The embedded store is read by the active coordinator only.
        Err(StoreError::NotActive) => {}
        Err(error) => return Err(error.into()),
    }
    store.campaign().await?;
    let generation = loop {
        let found = store.read(GENERATION).await?;
        let (swap, generation) = generation::next(found.as_ref(), cluster)?;
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
