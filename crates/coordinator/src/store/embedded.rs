//! The embedded coordination store: sled in a folder of this machine. It is not replicated: when the folder or its
//! machine is gone, so is the store.
//!
//! ```text
//! handles --requests--> one thread: apply all that waits -> flush() -> sync_all() of sled's file -> answer all
//! ```
//! A change is answered only after both: sled's own flush writes the pages out, but is no barrier against a power cut;
//! syncing the file is. What a read shows is durable, too: reads of a group are answered after its changes are.
//! An error of the disk breaks the store for good, since nobody knows what a failed sync has left behind.
//!
//! The active coordinator is the process that holds the exclusive lock on the folder's `lock` file; the kernel
//! releases it when the process ends, however it ends. Only that process can read and write.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    limits::{STORE_LOCK_POLL_MS, STORE_QUEUE},
    store::{Store, StoreError, Swap, Swapped, Versioned, embedded::worker::Request},
};

mod worker;

/// A handle of the store in one folder.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    folder: Arc<PathBuf>,
    /// There once this process won; the thread ends when the last handle is gone.
    requests: Arc<Mutex<Option<mpsc::Sender<Request>>>>,
}

impl EmbeddedStore {
    /// Makes a handle, and the folder if it is not there. Reads nothing before `campaign` was won.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        create_folder(folder)
            .map_err(|error| StoreError::Broken(format!("create {}: {error}", folder.display())))?;
        Ok(Self {
            folder: Arc::new(folder.to_path_buf()),
            requests: Arc::new(Mutex::new(None)),
        })
    }

    /// Whether a store was ever used in a folder. Makes nothing.
    pub(crate) fn is_there(folder: &Path) -> bool {
        worker::files(folder).exists()
    }

    fn sender(&self) -> Result<mpsc::Sender<Request>, StoreError> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(StoreError::NotActive)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.sender()?
            .send(request(answer))
            .await
            .map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl Store for EmbeddedStore {
    async fn campaign(&self) -> Result<(), StoreError> {
        if self.sender().is_ok() {
            return Ok(());
        }
        let lock = wait_for_lock(&self.folder).await?;
        let (requests, received) = mpsc::channel(STORE_QUEUE);
        let (opened, is_open) = oneshot::channel();
        let folder = Arc::clone(&self.folder);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker::run(&folder, lock, received, opened))
            .map_err(|error| StoreError::Broken(format!("start store thread: {error}")))?;
        is_open.await.map_err(|_| stopped())??;
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = Some(requests);
        Ok(())
    }

    async fn lost(&self) {
        // The lock is held until the process ends; only a thread that stopped gives it back before.
        if let Ok(sender) = self.sender() {
            sender.closed().await;
        }
    }

    async fn resign(&self) {
        // The lock is given back when the thread has answered what waits.
        drop(
            self.requests
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    async fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let key = key.to_owned();
        self.ask(|answer| Request::Read { key, answer }).await
    }

    async fn read_all(&self, prefix: &str) -> Result<Vec<Versioned>, StoreError> {
        let prefix = prefix.to_owned();
        self.ask(|answer| Request::ReadAll { prefix, answer }).await
    }

    async fn compare_and_set_many(&self, swaps: Vec<Swap>) -> Result<Vec<Swapped>, StoreError> {
        self.ask(|answer| Request::Swap { swaps, answer }).await
    }

    async fn publish_member(&self, name: &str, member: Option<Bytes>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.ask(|answer| Request::Publish {
            name,
            member,
            answer,
        })
        .await
    }
}

fn stopped() -> StoreError {
    StoreError::Broken("the store's thread has stopped".to_owned())
}

async fn wait_for_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let broken = |error: io::Error| StoreError::Broken(format!("lock {}: {error}", path.display()));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(broken)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                tokio::time::sleep(Duration::from_millis(STORE_LOCK_POLL_MS)).await;
            }
            Err(TryLockError::Error(error)) => return Err(broken(error)),
        }
    }
}

/// Makes the folder with all above it, so that it is still there after a power cut.
fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Place};

    struct Folder(tempfile::TempDir);

    impl Place for Folder {
        type Store = EmbeddedStore;

        fn handle(&self) -> EmbeddedStore {
            EmbeddedStore::open(&self.0.path().join("data")).expect("open")
        }
    }

    fn folder() -> Folder {
        Folder(tempfile::tempdir().expect("temporary folder"))
    }

    fn run(suite: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime")
            .block_on(suite);
    }

    #[test]
    fn the_suite_holds() {
        run(conformance::run(folder));
    }

    #[test]
    fn a_handle_that_did_not_win_is_refused() {
        run(async {
            let store = folder().handle();
            assert_eq!(store.read("a").await, Err(StoreError::NotActive));
        });
    }
}
