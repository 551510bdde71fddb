//! A watch that outlives its server: it goes on at the revision after the last one seen, on whichever server answers.
//!
//! A server that hangs is noticed by questions about progress that it does not answer. The answers' revisions are not
//! used: only a change that was seen moves the place from which to go on. When the store has forgotten the history
//! from there (compaction), everything is read again: if something changed, the watcher is cut off, as one that lagged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    limits::{STORE_RETRY_MS, STORE_WATCH_ASK_MS},
    store::{
        Versioned,
        etcd::{endpoints::Connection, failure::Failure, place::Place, version},
    },
};

/// Questions without an answer after which a server counts as hung.
const UNANSWERED: u32 = 3;

/// See the module.
pub(super) struct Watch {
    place: Arc<Place>,
    prefix: String,
    /// The revision up to which everything was seen.
    seen: i64,
    changes: mpsc::Sender<Versioned>,
}

/// Why one stream of a watch is at its end.
enum Ended {
    /// Nobody takes what is seen, or not fast enough.
    Watcher,
    /// The server failed; another one may go on.
    Server(Failure),
    /// The history from where the watch was is gone.
    Compacted,
}

impl Watch {
    pub(super) fn new(
        place: Arc<Place>,
        prefix: &str,
        seen: i64,
        changes: mpsc::Sender<Versioned>,
    ) -> Self {
        Self {
            place,
            prefix: prefix.to_owned(),
            seen,
            changes,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let connection = match self.place.endpoints.connection().await {
                Ok(connection) => connection,
                Err(failure) => {
                    debug!(?failure, "watch finds no server");
                    if self.rest().await {
                        return;
                    }
                    continue;
                }
            };
            match self.follow(&connection).await {
                Ended::Watcher => return,
                Ended::Server(failure) => {
                    let failure = self.place.endpoints.give_up(&connection, failure);
                    debug!(?failure, "watch goes on at another server");
                }
                Ended::Compacted => {
                    if !self.read_again().await {
                        return;
                    }
                }
            }
            if self.rest().await {
                return;
            }
        }
    }

    /// A pause between two tries. True: nobody watches any more.
    async fn rest(&self) -> bool {
        let pause = Duration::from_millis(STORE_RETRY_MS / 5);
        timeout(pause, self.changes.closed()).await.is_ok()
    }

    async fn follow(&mut self, connection: &Connection) -> Ended {
        let ask = Duration::from_millis(STORE_WATCH_ASK_MS);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.seen + 1);
        let mut client = connection.client.clone();
        let key = self.place.key(&self.prefix);
        let mut stream = match timeout(ask, client.watch(key, Some(options))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Ended::Server(Failure::of(&error, None)),
            Err(_) => return Ended::Server(Failure::late()),
        };
        let mut heard = Instant::now();
        let mut asks = tokio::time::interval(ask);
        loop {
            tokio::select! {
                biased;
                () = self.changes.closed() => return Ended::Watcher,
                message = stream.message() => {
                    heard = Instant::now();
                    match message {
                        Ok(Some(message)) => {
                            if let Some(ended) = self.take(&message) {
                                return ended;
                            }
                        }
                        Ok(None) => return Ended::Server(Failure::late()),
                        Err(error) => return Ended::Server(Failure::of(&error, None)),
                    }
                }
                _ = asks.tick() => {
                    if let Some(ended) = question(&mut stream, heard, ask).await {
                        return ended;
                    }
                }
            }
        }
    }

    /// Hands on what a message shows.
    fn take(&mut self, message: &WatchResponse) -> Option<Ended> {
        if message.compact_revision() > 0 {
            return Some(Ended::Compacted);
        }
        if message.canceled() {
            let reason = message.cancel_reason().to_owned();
            return Some(Ended::Server(Failure::Away {
                reason,
                is_unsent: false,
            }));
        }
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            self.seen = self.seen.max(kv.mod_revision());
            // Rows are never removed; of members only what is there is told.
            if event.event_type() != EventType::Put {
                continue;
            }
            let Some(key) = self.place.name(&self.prefix, kv.key()) else {
                continue;
            };
            let change = Versioned {
                key,
                version: version(kv.mod_revision()),
                value: Bytes::copy_from_slice(kv.value()),
            };
            if self.changes.try_send(change).is_err() {
                return Some(Ended::Watcher);
            }
        }
        None
    }

    /// After the history is gone: true if nothing changed meanwhile, so that there is no gap.
    async fn read_again(&mut self) -> bool {
        loop {
            match self.place.find(&self.prefix).await {
                Ok(found) => {
                    let seen = version(self.seen);
                    self.seen = found.revision;
                    return found.rows.iter().all(|row| row.version <= seen);
                }
                Err(error) => {
                    debug!(%error, "read after compaction");
                    if self.rest().await {
                        return false;
                    }
                }
            }
        }
    }
}

/// Asks whether there is news, and notices when that is not answered.
async fn question(stream: &mut WatchStream, heard: Instant, ask: Duration) -> Option<Ended> {
    if heard.elapsed() > ask * UNANSWERED {
        return Some(Ended::Server(Failure::late()));
    }
    match timeout(ask, stream.request_progress()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Ended::Server(Failure::of(&error, None))),
        Err(_) => Some(Ended::Server(Failure::late())),
    }
}
