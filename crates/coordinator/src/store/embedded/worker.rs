//! The thread that owns sled: it takes all requests that wait, applies them in order, makes them durable with one
//! flush and one sync, and only then answers them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    limits::{STORE_CACHE_BYTES, STORE_GROUP},
    store::{MEMBERS, StoreError, Swap, Swapped, Versioned},
};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Request {
    Read {
        key: String,
        answer: Answer<Option<Versioned>>,
    },
    ReadAll {
        prefix: String,
        answer: Answer<Vec<Versioned>>,
    },
    Swap {
        swaps: Vec<Swap>,
        answer: Answer<Vec<Swapped>>,
    },
    Publish {
        name: String,
        member: Option<Bytes>,
        answer: Answer<()>,
    },
}

/// An answer that waits for the group to be durable.
enum Waiting {
    One(Answer<Option<Versioned>>, Option<Versioned>),
    All(Answer<Vec<Versioned>>, Vec<Versioned>),
    Swapped(Answer<Vec<Swapped>>, Vec<Swapped>),
    Published(Answer<()>),
}

struct Worker {
    db: sled::Db,
    rows: sled::Tree,
    /// sled's file, opened beside it: syncing it is the barrier that sled's flush is not.
    file: File,
    /// Live nodes, for operators; gone with the process.
    members: BTreeMap<String, Versioned>,
    members_version: u64,
    broken: Option<StoreError>,
}

/// Where sled keeps its files.
pub(super) fn files(folder: &Path) -> PathBuf {
    folder.join("sled")
}

/// Runs until every handle is gone. `lock` is held as long.
pub(super) fn run(
    folder: &Path,
    lock: File,
    mut requests: mpsc::Receiver<Request>,
    opened: oneshot::Sender<Result<(), StoreError>>,
) {
    let mut worker = match Worker::open(folder) {
        Ok(worker) => worker,
        Err(error) => {
            drop(opened.send(Err(error)));
            return;
        }
    };
    drop(opened.send(Ok(())));
    let mut group = Vec::new();
    while let Some(first) = requests.blocking_recv() {
        group.push(first);
        while group.len() < STORE_GROUP
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        worker.serve(group.drain(..));
    }
    // sled's own files are closed before the lock is given back.
    drop(worker);
    drop(lock);
}

impl Worker {
    fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = files(folder);
        let db = sled::Config::new()
            .path(&path)
            .cache_capacity(STORE_CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|error| broken("open", error))?;
        let rows = db
            .open_tree("rows")
            .map_err(|error| broken("open rows of", error))?;
        let file = File::open(path.join("db")).map_err(|error| broken_io("open file of", error))?;
        let mut worker = Self {
            db,
            rows,
            file,
            members: BTreeMap::new(),
            members_version: 0,
            broken: None,
        };
        // The files may have been made by this very start: their names must be durable, too.
        worker.sync()?;
        for made in [path.join("conf"), path, folder.to_path_buf()] {
            File::open(&made)
                .and_then(|made| made.sync_all())
                .map_err(|error| broken_io("sync", error))?;
        }
        Ok(worker)
    }

    fn serve(&mut self, group: impl Iterator<Item = Request>) {
        let mut waiting = Vec::new();
        let mut is_changed = false;
        for request in group {
            if let Err(error) = self.apply(request, &mut waiting, &mut is_changed) {
                self.broken = Some(error);
            }
        }
        if is_changed
            && self.broken.is_none()
            && let Err(error) = self.sync()
        {
            self.broken = Some(error);
        }
        let broken = self.broken.clone();
        for answer in waiting {
            answer.give(broken.as_ref());
        }
    }

    /// Applies one request; its answer waits. An error breaks the store, and every answer of the group says so.
    fn apply(
        &mut self,
        request: Request,
        waiting: &mut Vec<Waiting>,
        is_changed: &mut bool,
    ) -> Result<(), StoreError> {
        match request {
            Request::Read { key, answer } => {
                let found = self.read(&key);
                waiting.push(Waiting::One(answer, found.clone().unwrap_or_default()));
                found.map(drop)
            }
            Request::ReadAll { prefix, answer } => {
                let found = self.read_all(&prefix);
                waiting.push(Waiting::All(answer, found.clone().unwrap_or_default()));
                found.map(drop)
            }
            Request::Swap { swaps, answer } => {
                let outcomes = self.swap_many(swaps, is_changed);
                waiting.push(Waiting::Swapped(
                    answer,
                    outcomes.clone().unwrap_or_default(),
                ));
                outcomes.map(drop)
            }
            Request::Publish {
                name,
                member,
                answer,
            } => {
                self.publish(&name, member);
                waiting.push(Waiting::Published(answer));
                Ok(())
            }
        }
    }

    fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        if key.starts_with(MEMBERS) {
            return Ok(self.members.get(key).cloned());
        }
        match self.rows.get(key).map_err(|error| broken("read", error))? {
            Some(stored) => decode(key.as_bytes(), &stored).map(Some),
            None => Ok(None),
        }
    }

    fn read_all(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        if prefix.starts_with(MEMBERS) {
            let found = self.members.range(prefix.to_owned()..);
            return Ok(found
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(_, member)| member.clone())
                .collect());
        }
        let mut found = Vec::new();
        for item in self.rows.scan_prefix(prefix) {
            let (key, stored) = item.map_err(|error| broken("scan", error))?;
            found.push(decode(&key, &stored)?);
        }
        Ok(found)
    }

    fn swap_many(
        &self,
        swaps: Vec<Swap>,
        is_changed: &mut bool,
    ) -> Result<Vec<Swapped>, StoreError> {
        let mut outcomes = Vec::with_capacity(swaps.len());
        for swap in swaps {
            let found = self.read(&swap.key)?.map_or(0, |found| found.version);
            if found != swap.expected {
                outcomes.push(Swapped::Conflict(found));
                continue;
            }
            let version = found + 1;
            let mut stored = Vec::with_capacity(8 + swap.value.len());
            stored.extend_from_slice(&version.to_be_bytes());
            stored.extend_from_slice(&swap.value);
            self.rows
                .insert(&swap.key, stored)
                .map_err(|error| broken("write", error))?;
            *is_changed = true;
            outcomes.push(Swapped::Stored(version));
        }
        Ok(outcomes)
    }

    fn publish(&mut self, name: &str, member: Option<Bytes>) {
        let key = format!("{MEMBERS}{name}");
        let Some(value) = member else {
            self.members.remove(&key);
            return;
        };
        self.members_version += 1;
        let version = self.members_version;
        self.members.insert(
            key.clone(),
            Versioned {
                key,
                version,
                value,
            },
        );
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| broken("flush", error))?;
        self.file
            .sync_all()
            .map_err(|error| broken_io("sync", error))
    }
}

impl Waiting {
    /// Answers; whoever asked may have gone away, which is its own affair.
    fn give(self, broken: Option<&StoreError>) {
        fn send<T>(answer: Answer<T>, value: T, broken: Option<&StoreError>) {
            drop(answer.send(match broken {
                None => Ok(value),
                Some(error) => Err(error.clone()),
            }));
        }
        match self {
            Self::One(answer, value) => send(answer, value, broken),
            Self::All(answer, value) => send(answer, value, broken),
            Self::Swapped(answer, value) => send(answer, value, broken),
            Self::Published(answer) => send(answer, (), broken),
        }
    }
}

/// A stored value: 8 bytes of version, big-endian, then the value.
fn decode(key: &[u8], stored: &[u8]) -> Result<Versioned, StoreError> {
    let torn = || StoreError::Broken(format!("row {} is torn", String::from_utf8_lossy(key)));
    let (version, value) = stored.split_first_chunk::<8>().ok_or_else(torn)?;
    Ok(Versioned {
        key: String::from_utf8(key.to_vec()).map_err(|_| torn())?,
        version: u64::from_be_bytes(*version),
        value: Bytes::copy_from_slice(value),
    })
}

fn broken(attempt: &str, error: sled::Error) -> StoreError {
    StoreError::Broken(format!("{attempt} sled: {error}"))
}

fn broken_io(attempt: &str, error: io::Error) -> StoreError {
    StoreError::Broken(format!("{attempt} sled: {error}"))
}
