//! The checkpoint store on redb, with which the one on sled is compared.

use std::path::Path;

use bytes::Bytes;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::store::{CheckpointStore, Pair, StoreError, store_error};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("checkpoints");

/// The store on redb.
#[derive(Debug)]
pub(crate) struct RedbStore {
    db: Database,
}

impl RedbStore {
    /// Opens the store in a file, or makes it.
    pub(crate) fn open(file: &Path) -> Result<Self, StoreError> {
        let store = Self {
            db: Database::create(file).map_err(store_error("open"))?,
        };
        store.change(&[], None, Durability::Immediate)?;
        Ok(store)
    }

    fn change(
        &self,
        pairs: &[Pair],
        delete: Option<&[u8]>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut change = self.db.begin_write().map_err(store_error("begin"))?;
        change
            .set_durability(durability)
            .map_err(store_error("begin"))?;
        {
            let mut table = change
                .open_table(TABLE)
                .map_err(store_error("open table"))?;
            for (key, value) in pairs {
                table
                    .insert(key.as_slice(), value.as_ref())
                    .map_err(store_error("put"))?;
            }
            if let Some(key) = delete {
                table.remove(key).map_err(store_error("delete"))?;
            }
        }
        change.commit().map_err(store_error("commit"))
    }
}

impl CheckpointStore for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let read = self.db.begin_read().map_err(store_error("begin"))?;
        let table = read.open_table(TABLE).map_err(store_error("open table"))?;
        let value = table.get(key).map_err(store_error("get"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn put_batch(&self, pairs: &[Pair]) -> Result<(), StoreError> {
        self.change(pairs, None, Durability::None)
    }

    fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.change(&[], Some(key), Durability::None)
    }

    fn range(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let mut pairs = Vec::new();
        if first >= end {
            return Ok(pairs);
        }
        let read = self.db.begin_read().map_err(store_error("begin"))?;
        let table = read.open_table(TABLE).map_err(store_error("open table"))?;
        let range = table
            .range::<&[u8]>(first..end)
            .map_err(store_error("read range"))?;
        for pair in range.take(limit) {
            let (key, value) = pair.map_err(store_error("read range"))?;
            pairs.push((key.value().to_vec(), Bytes::copy_from_slice(value.value())));
        }
        Ok(pairs)
    }

    fn flush_durable(&self) -> Result<(), StoreError> {
        self.change(&[], None, Durability::Immediate)
    }
}
