//! The checkpoint store on sled.
//!
//! sled's `flush` does not reach the disk on Linux (it issues `sync_file_range`), so its file is synced as well.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Instant;

use bytes::Bytes;

use crate::limits::{STORE_CACHE_BYTES, STORE_UNLOCK};
use crate::store::{CheckpointStore, Pair, StoreError, store_error};

/// The store on sled.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    /// sled's own file, to be synced.
    file: File,
}

impl SledStore {
    /// Opens the store in a folder, or makes it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let db = open_unlocked(folder).map_err(store_error("open"))?;
        let file = File::open(folder.join("db")).map_err(store_error("open file"))?;
        for folder in [Some(folder), folder.parent()].into_iter().flatten() {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(store_error("sync folder"))?;
        }
        Ok(Self { db, file })
    }
}

/// Opens sled. Its own threads hold its lock for a moment after it was closed in this process, hence the patience.
fn open_unlocked(folder: &Path) -> sled::Result<sled::Db> {
    let deadline = Instant::now() + STORE_UNLOCK;
    loop {
        let opened = sled::Config::new()
            .path(folder)
            .cache_capacity(STORE_CACHE_BYTES)
            .use_compression(false)
            .flush_every_ms(None)
            .open();
        match opened {
            Err(sled::Error::Io(error))
                if error.to_string().contains("acquire lock") && Instant::now() < deadline =>
            {
                thread::park_timeout(STORE_UNLOCK / 1000);
            }
            other => return other,
        }
    }
}

impl CheckpointStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get(key).map_err(store_error("get"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn put_batch(&self, pairs: &[Pair]) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in pairs {
            batch.insert(key.as_slice(), value.as_ref());
        }
        self.db.apply_batch(batch).map_err(store_error("put"))
    }

    fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.db.remove(key).map_err(store_error("delete"))?;
        Ok(())
    }

    fn range(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let mut pairs = Vec::new();
        if first >= end {
            return Ok(pairs);
        }
        for pair in self.db.range(first..end).take(limit) {
            let (key, value) = pair.map_err(store_error("read range"))?;
            pairs.push((key.to_vec(), Bytes::copy_from_slice(&value)));
        }
        Ok(pairs)
    }

    fn flush_durable(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(store_error("flush"))?;
        self.file.sync_all().map_err(store_error("sync file"))
    }
}
