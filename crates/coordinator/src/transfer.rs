//! Moves what a coordination store holds of a cluster to another store, through a file (`snapshot`).
//!
//! Whoever exports or imports holds the place of the active coordinator meanwhile, so that nothing is decided beside it.
//! An import marks the store before the first row and takes the mark away after the last: until then no coordinator
//! becomes active there, and the same import goes on where it was cut short.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    config::{Config, ConfigError, StoreKind},
    limits::{EXPORT_BYTES, TRANSFER_WAIT_MS},
    rows::{
        RowError,
        generation::{Closed, GENERATION, Generation},
    },
    store::{
        OptionsError, Store, StoreError, Swap, Swapped, Versioned, embedded::EmbeddedStore,
        etcd::EtcdStore, zookeeper::ZookeeperStore,
    },
};
use snapshot::{Snapshot, SnapshotRow};

mod snapshot;

pub use snapshot::SnapshotError;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Writes all that the store holds of the cluster to a file.
    Export {
        /// The file, which must not be there.
        file: PathBuf,
        /// No coordinator uses the store any more after it.
        is_retired: bool,
    },
    /// Fills a store that is empty from a file.
    Import {
        /// The file.
        file: PathBuf,
    },
    /// Lets coordinators use a store again that was retired.
    Reinstate,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Somebody decides.
    #[error(
        "a coordinator is active, or was a moment ago; stop all coordinators of cluster {0} that use this store, and \
         try again"
    )]
    Active(String),
    /// There is nothing to export.
    #[error(
        "the store holds nothing of cluster {0}; see the keys `store`, `data`, `store_endpoints` and `store_path`"
    )]
    Nothing(String),
    /// It holds something already.
    #[error(
        "the store is not empty: it holds {found}; give an empty one with `store_path` or `data`{hint}"
    )]
    NotEmpty {
        /// What it holds.
        found: String,
        /// What else may be meant.
        hint: &'static str,
    },
    /// Another import was cut short.
    #[error(
        "an import of another file ({0}) into this store has begun and not ended; run it to its end, or remove all below \
         `store_path`"
    )]
    OtherImport(String),
    /// The file is that of another cluster.
    #[error(
        "{file} is of cluster {found}, the configuration of {expected}; change the key `cluster`, or take another file"
    )]
    OtherCluster {
        /// The file.
        file: String,
        /// Named in it.
        found: String,
        /// Named in the configuration.
        expected: String,
    },
    /// What was read is not of one moment.
    #[error(
        "somebody changed the store while it was read; stop all coordinators of cluster {0} that use this store, and try \
         again"
    )]
    ChangedMeanwhile(String),
    /// The store does not hold what was written to it.
    #[error("row {0} is not as it was written: somebody else changed the store meanwhile")]
    Changed(String),
    /// The store was never retired.
    #[error("the store is not retired; there is nothing to reinstate")]
    NotRetired,
    /// The file cannot be used.
    #[error("{file}: {source}")]
    Snapshot {
        /// The file.
        file: String,
        /// Why.
        source: SnapshotError,
    },
    /// The file cannot be read or written.
    #[error("{attempt} {file}: {source}")]
    File {
        /// What was tried.
        attempt: &'static str,
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be reached as configured.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A key is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A row cannot be used.
    #[error("{0}")]
    Row(String),
}

impl From<RowError> for TransferError {
    fn from(error: RowError) -> Self {
        Self::Row(error.to_string())
    }
}

/// Does it, on the store of a configuration; says what was done.
///
/// # Errors
/// When it was not done. An import can then be run again.
pub async fn run(config: &Config, task: &Task) -> Result<String, TransferError> {
    match config.store {
        // A wrong `data` would be an empty store, and another folder that somebody wonders about.
        StoreKind::Embedded
            if !matches!(task, Task::Import { .. }) && !EmbeddedStore::is_there(&config.data) =>
        {
            Err(TransferError::Nothing(config.cluster.clone()))
        }
        StoreKind::Embedded => on(&EmbeddedStore::open(&config.data)?, config, task).await,
        StoreKind::Etcd => on(&EtcdStore::new(config.servers()?)?, config, task).await,
        StoreKind::Zookeeper => on(&ZookeeperStore::new(config.servers()?)?, config, task).await,
    }
}

async fn on(store: &impl Store, config: &Config, task: &Task) -> Result<String, TransferError> {
    let cluster = &config.cluster;
    // What can be refused without touching the store is.
    let read = match task {
        Task::Import { file } => Some(read(file, cluster)?),
        Task::Export { file, .. } => {
            refuse_existing(file)?;
            None
        }
        Task::Reinstate => None,
    };
    let session = Duration::from_millis(config.store_session_ms);
    // One that was killed is still taken for active until its session has lapsed.
    let wait = session + Duration::from_millis(TRANSFER_WAIT_MS);
    match timeout(wait, store.campaign()).await {
        Ok(won) => won?,
        Err(_) => return Err(TransferError::Active(cluster.clone())),
    }
    let done = match (task, read) {
        (Task::Export { file, is_retired }, _) => export(store, cluster, file, *is_retired).await,
        (Task::Import { .. }, Some((snapshot, checksum))) => {
            import(store, &snapshot, &checksum).await
        }
        (Task::Import { .. }, None) | (Task::Reinstate, _) => reinstate(store, cluster).await,
    };
    store.resign().await;
    done
}

async fn generation(
    store: &impl Store,
    cluster: &str,
) -> Result<Option<(Generation, u64)>, TransferError> {
    match store.read(GENERATION).await? {
        Some(found) => Ok(Some((Generation::read(&found, cluster)?, found.version))),
        None => Ok(None),
    }
}

async fn export(
    store: &impl Store,
    cluster: &str,
    file: &Path,
    is_retired: bool,
) -> Result<String, TransferError> {
    let Some((row, version)) = generation(store, cluster).await? else {
        return Err(TransferError::Nothing(cluster.to_owned()));
    };
    if let Some(closed @ Closed::Importing(_)) = row.closed {
        return Err(RowError::Closed(closed).into());
    }
    let wrong = |source| TransferError::Snapshot {
        file: file.display().to_string(),
        source,
    };
    let found = store.read_all("").await?;
    // Had this process lost its place meanwhile, another one would have counted its activation.
    if generation(store, cluster).await? != Some((row.clone(), version)) {
        return Err(TransferError::ChangedMeanwhile(cluster.to_owned()));
    }
    let rows = found.iter().filter(|row| row.key != GENERATION);
    let rows = rows.map(|row| SnapshotRow::of(row).map_err(wrong));
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let snapshot = Snapshot {
        cluster: cluster.to_owned(),
        generation: row.generation,
        rows,
    };
    write(file, &snapshot.text().0)?;
    let mut said = format!(
        "exported cluster {cluster}: {} rows to {}",
        snapshot.rows.len(),
        file.display()
    );
    if is_retired {
        let closed = Some(Closed::Retired);
        let retired = close(store, Generation { closed, ..row }, version).await;
        if let Err(error) = retired {
            // It would be in the way of the next try, which finds all of it in the store, retired or not.
            fs::remove_file(file).map_err(failed("remove", file))?;
            return Err(error);
        }
        said.push_str("; no coordinator uses the store any more");
    }
    Ok(said)
}

async fn import(
    store: &impl Store,
    snapshot: &Snapshot,
    checksum: &str,
) -> Result<String, TransferError> {
    let cluster = &snapshot.cluster;
    let mark = Closed::Importing(checksum.to_owned());
    let begun = Generation {
        cluster: cluster.clone(),
        generation: snapshot.generation,
        closed: Some(mark.clone()),
    };
    let ended = Generation {
        closed: None,
        ..begun.clone()
    };
    let version = match generation(store, cluster).await? {
        None => {
            if let Some(row) = store.read_all("").await?.first() {
                return Err(not_empty(&format!("the row {}", row.key), ""));
            }
            close(store, begun.clone(), 0).await?
        }
        Some((row, version)) => match row.closed {
            Some(closed) if closed == mark => version,
            Some(Closed::Importing(other)) => return Err(TransferError::OtherImport(other)),
            Some(Closed::Retired) => {
                let hint = ", or take this one back with `reinstate`";
                return Err(not_empty(&format!("cluster {cluster}, retired"), hint));
            }
            // The answer to the last step may have been lost: it is done, as long as nobody has used the store since.
            None if row == ended && compare(store, snapshot).await.is_ok() => {
                return Ok(imported(snapshot));
            }
            None => return Err(not_empty(&format!("cluster {cluster}"), "")),
        },
    };
    fill(store, snapshot).await?;
    close(store, ended, version).await?;
    Ok(imported(snapshot))
}

fn imported(snapshot: &Snapshot) -> String {
    format!(
        "imported cluster {}: {} rows; start the coordinators",
        snapshot.cluster,
        snapshot.rows.len()
    )
}

/// Makes the rows that are not there, and demands that the store then holds them and nothing else.
async fn fill(store: &impl Store, snapshot: &Snapshot) -> Result<(), TransferError> {
    let mut found = store.read_all("").await?;
    found.retain(is_row);
    let missing = snapshot
        .rows
        .iter()
        .filter(|row| !found.iter().any(|found| found.key == row.key));
    let swaps: Vec<Swap> = missing
        .map(|row| Swap {
            key: row.key.clone(),
            expected: 0,
            value: row.value.clone().into(),
        })
        .collect();
    store.compare_and_set_many(swaps).await?;
    compare(store, snapshot).await
}

fn is_row(found: &Versioned) -> bool {
    found.key != GENERATION
}

/// Demands that the store holds these rows and nothing else.
async fn compare(store: &impl Store, snapshot: &Snapshot) -> Result<(), TransferError> {
    let mut found = store.read_all("").await?;
    found.retain(is_row);
    for row in &snapshot.rows {
        let at = found.iter().position(|found| found.key == row.key);
        let held = at.map(|at| found.swap_remove(at));
        if held.is_none_or(|held| held.value != row.value) {
            return Err(TransferError::Changed(row.key.clone()));
        }
    }
    match found.first() {
        Some(strange) => Err(TransferError::Changed(strange.key.clone())),
        None => Ok(()),
    }
}

async fn reinstate(store: &impl Store, cluster: &str) -> Result<String, TransferError> {
    match generation(store, cluster).await? {
        Some((row, version)) if row.closed == Some(Closed::Retired) => {
            close(
                store,
                Generation {
                    closed: None,
                    ..row
                },
                version,
            )
            .await?;
            Ok(format!(
                "coordinators of cluster {cluster} may use the store again"
            ))
        }
        Some(_) => Err(TransferError::NotRetired),
        None => Err(TransferError::Nothing(cluster.to_owned())),
    }
}

/// Says who may use the store; the row's new version.
async fn close(store: &impl Store, row: Generation, version: u64) -> Result<u64, TransferError> {
    let swap = Swap {
        key: GENERATION.to_owned(),
        expected: version,
        value: row.text(),
    };
    match store.compare_and_set(swap).await? {
        Swapped::Stored(version) => Ok(version),
        Swapped::Conflict(_) => Err(TransferError::Changed(GENERATION.to_owned())),
    }
}

fn not_empty(found: &str, hint: &'static str) -> TransferError {
    TransferError::NotEmpty {
        found: found.to_owned(),
        hint,
    }
}

fn failed(attempt: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> TransferError {
    let file = file.display().to_string();
    move |source| TransferError::File {
        attempt,
        file,
        source,
    }
}

fn read(file: &Path, cluster: &str) -> Result<(Snapshot, String), TransferError> {
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(EXPORT_BYTES).read_to_string(&mut text))
        .map_err(failed("read", file))?;
    let name = || file.display().to_string();
    let (snapshot, checksum) =
        Snapshot::parse(&text).map_err(|source| TransferError::Snapshot {
            file: name(),
            source,
        })?;
    if snapshot.cluster == cluster {
        return Ok((snapshot, checksum));
    }
    Err(TransferError::OtherCluster {
        file: name(),
        found: snapshot.cluster,
        expected: cluster.to_owned(),
    })
}

fn refuse_existing(file: &Path) -> Result<(), TransferError> {
    if file.exists() {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(failed("make", file)(exists));
    }
    Ok(())
}

/// Writes a file that is there as a whole, durably, or not at all. Nobody else may read it.
fn write(file: &Path, text: &str) -> Result<(), TransferError> {
    refuse_existing(file)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = file.with_file_name(name);
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut part| {
            part.write_all(text.as_bytes())?;
            part.sync_all()
        })
        .and_then(|()| fs::rename(&part, file))
        .and_then(|()| {
            let folder = file.parent().filter(|folder| *folder != Path::new(""));
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
        });
    written.map_err(failed("write", file))
}

#[cfg(test)]
mod tests;
