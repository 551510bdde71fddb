//! A checkpoint store in memory: what was not flushed is lost at a power cut, whole batches from the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_log::{CheckpointStore, StoreError};

use crate::rng::Rng;

type Pairs = BTreeMap<Vec<u8>, Bytes>;

/// A shared handle of one host's store; it outlives the host's processes.
#[derive(Clone, Debug, Default)]
pub struct FakeCheckpointStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    current: Pairs,
    durable: Pairs,
    /// What was done since the last flush, in order.
    pending: Vec<Vec<(Vec<u8>, Option<Bytes>)>>,
}

impl FakeCheckpointStore {
    /// Cuts the power: some of the newest unflushed batches are lost.
    pub fn cut_power(&self, rng: &mut Rng) {
        let mut state = self.lock();
        let pending = std::mem::take(&mut state.pending);
        let kept = rng.index(pending.len() + 1);
        for batch in &pending[..kept] {
            carry_out(&mut state.durable, batch);
        }
        state.current = state.durable.clone();
    }

    /// Takes everything away.
    pub fn wipe(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, batch: Vec<(Vec<u8>, Option<Bytes>)>) {
        let mut state = self.lock();
        carry_out(&mut state.current, &batch);
        state.pending.push(batch);
    }
}

impl CheckpointStore for FakeCheckpointStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().current.get(key).cloned())
    }

    fn put_batch(&self, pairs: &[(Vec<u8>, Bytes)]) -> Result<(), StoreError> {
        let batch = pairs
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.clone())));
        self.change(batch.collect());
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.change(vec![(key.to_vec(), None)]);
        Ok(())
    }

    fn range(
        &self,
        first: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        let state = self.lock();
        let pairs = state.current.range(first.to_vec()..end.to_vec());
        Ok(pairs
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn flush_durable(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        for batch in std::mem::take(&mut state.pending) {
            carry_out(&mut state.durable, &batch);
        }
        Ok(())
    }
}

fn carry_out(pairs: &mut Pairs, batch: &[(Vec<u8>, Option<Bytes>)]) {
    for (key, value) in batch {
        match value {
            Some(value) => pairs.insert(key.clone(), value.clone()),
            None => pairs.remove(key),
        };
    }
}
