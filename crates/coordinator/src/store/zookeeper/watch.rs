//! A watch that outlives its server and its session. It has a session of its own, so that it does not keep its process
//! active.
//!
//! ZooKeeper says that a node changed, not to what: it is read then. While the connection is broken it says nothing, and
//! forgets: so it is asked anew after it (of its own, the client asks again for other kinds of watches only), everything
//! is read, and what is newer than what was shown is shown.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};
use tracing::debug;
use zookeeper_client::{
    AddWatchMode, Client, EventType, PersistentWatcher, SessionState, WatchedEvent,
};

use crate::{
    limits::{STORE_RETRY_MS, STORE_WATCH_LAG},
    store::{
        StoreError, Versioned,
        zookeeper::{
            failure::bounded,
            place::{Folder, Place, present, versioned},
        },
    },
};

/// Begins a watch: the present is in the channel when it returns.
pub(super) async fn start(
    place: Arc<Place>,
    prefix: &str,
) -> Result<mpsc::Receiver<Versioned>, StoreError> {
    let (client, watcher) = open(&place, prefix).await?;
    let found = place.find(&client, prefix).await?;
    let (changes, watched) = mpsc::channel(found.len() + STORE_WATCH_LAG);
    let mut watch = Watch {
        folder: place.folder(Folder::of(prefix)),
        place,
        prefix: prefix.to_owned(),
        seen: BTreeMap::new(),
        changes,
    };
    // The channel has room for all of them.
    watch.show_all(found);
    tokio::spawn(watch.run(client, watcher));
    Ok(watched)
}

/// A session, and the news of its folder.
async fn open(place: &Place, prefix: &str) -> Result<(Client, PersistentWatcher), StoreError> {
    let client = place.connect().await?;
    let folder = place.folder(Folder::of(prefix));
    let watched = bounded(client.watch(&folder, AddWatchMode::PersistentRecursive)).await;
    let watcher = watched.map_err(|error| place.error(&folder, &error))?;
    Ok((client, watcher))
}

/// See the module.
struct Watch {
    place: Arc<Place>,
    prefix: String,
    folder: String,
    /// The version of each node that was shown.
    seen: BTreeMap<String, u64>,
    changes: mpsc::Sender<Versioned>,
}

/// Whether there is still somebody who watches, and keeps up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    There,
    Gone,
}

/// What is to be done after an event.
enum Next {
    Nothing,
    /// One node may hold something newer.
    Read(String),
    /// All may, and nobody would say so.
    Rewatch,
    /// The session is over.
    Reopen,
}

impl Watch {
    async fn run(mut self, mut client: Client, mut watcher: PersistentWatcher) {
        loop {
            let event = tokio::select! {
                biased;
                () = self.changes.closed() => return,
                event = watcher.changed() => event,
            };
            let there = match self.next(&event) {
                Next::Nothing => Watcher::There,
                Next::Read(node) => match self.read(&client, &node).await {
                    Ok(there) => there,
                    // Whatever it missed by that.
                    Err(_) => self.read_all(&client).await,
                },
                Next::Rewatch => match self.rewatch(&client).await {
                    Some(anew) => {
                        watcher = anew;
                        self.read_all(&client).await
                    }
                    // Of the end of the session, or of the watcher, the next round hears.
                    None => Watcher::There,
                },
                Next::Reopen => {
                    let Some(opened) = self.reopen().await else {
                        return;
                    };
                    (client, watcher) = opened;
                    self.read_all(&client).await
                }
            };
            if there == Watcher::Gone {
                return;
            }
        }
    }

    fn next(&mut self, event: &WatchedEvent) -> Next {
        match event.event_type {
            EventType::Session => match event.session_state {
                SessionState::SyncConnected => Next::Rewatch,
                state if state.is_terminated() => Next::Reopen,
                _ => Next::Nothing,
            },
            EventType::NodeCreated | EventType::NodeDataChanged => {
                let node = event.path.strip_prefix(&self.folder);
                match node.and_then(|node| node.strip_prefix('/')) {
                    Some(node) if self.is_wanted(node) => Next::Read(node.to_owned()),
                    Some(_) | None => Next::Nothing,
                }
            }
            // Rows are never removed; of members only what is there is told.
            EventType::NodeDeleted => {
                let node = event.path.strip_prefix(&self.folder);
                if let Some(node) = node.and_then(|node| node.strip_prefix('/')) {
                    self.seen.remove(node);
                }
                Next::Nothing
            }
            EventType::NodeChildrenChanged => Next::Nothing,
        }
    }

    fn is_wanted(&self, node: &str) -> bool {
        let key = Folder::of(&self.prefix).key(node);
        key.is_some_and(|key| key.starts_with(&self.prefix))
    }

    async fn read(&mut self, client: &Client, node: &str) -> Result<Watcher, StoreError> {
        let path = format!("{}/{node}", self.folder);
        let data = bounded(async { present(client.get_data(&path).await) });
        let data = data
            .await
            .map_err(|error| self.place.error(&path, &error))?;
        let key = Folder::of(&self.prefix).key(node);
        Ok(match data.zip(key) {
            Some((data, key)) => self.show(node.to_owned(), versioned(key, data)),
            None => Watcher::There,
        })
    }

    /// Reads everything, for as long as that takes, and shows what is newer.
    async fn read_all(&mut self, client: &Client) -> Watcher {
        loop {
            match self.place.find(client, &self.prefix).await {
                Ok(found) => return self.show_all(found),
                Err(error) => {
                    debug!(%error, "watch cannot read");
                    // Of the end of the session an event tells.
                    if client.state().is_terminated() {
                        return Watcher::There;
                    }
                    if self.rest().await == Watcher::Gone {
                        return Watcher::Gone;
                    }
                }
            }
        }
    }

    /// Asks for news again after the connection broke. None: that has become pointless.
    async fn rewatch(&self, client: &Client) -> Option<PersistentWatcher> {
        loop {
            let watched = client.watch(&self.folder, AddWatchMode::PersistentRecursive);
            match bounded(watched).await {
                Ok(watcher) => return Some(watcher),
                Err(error) => debug!(%error, "watch is not taken again"),
            }
            if client.state().is_terminated() || self.rest().await == Watcher::Gone {
                return None;
            }
        }
    }

    async fn reopen(&self) -> Option<(Client, PersistentWatcher)> {
        loop {
            match open(&self.place, &self.prefix).await {
                Ok(opened) => return Some(opened),
                Err(error) => debug!(%error, "watch finds no server"),
            }
            if self.rest().await == Watcher::Gone {
                return None;
            }
        }
    }

    /// A pause between two tries.
    async fn rest(&self) -> Watcher {
        let pause = Duration::from_millis(STORE_RETRY_MS / 5);
        match timeout(pause, self.changes.closed()).await {
            Ok(()) => Watcher::Gone,
            Err(_) => Watcher::There,
        }
    }

    fn show_all(&mut self, found: Vec<(String, Versioned)>) -> Watcher {
        for (node, row) in found {
            if self.show(node, row) == Watcher::Gone {
                return Watcher::Gone;
            }
        }
        Watcher::There
    }

    /// Hands on what is newer than what was shown.
    fn show(&mut self, node: String, row: Versioned) -> Watcher {
        let seen = self.seen.entry(node).or_default();
        if row.version <= *seen {
            return Watcher::There;
        }
        *seen = row.version;
        match self.changes.try_send(row) {
            Ok(()) => Watcher::There,
            Err(_) => Watcher::Gone,
        }
    }
}
