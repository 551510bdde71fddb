//! The checkpoints of the shards of one node, on a checkpoint store.
//!
//! A checkpoint is stored in pieces, and a head that names it and carries a checksum of the whole is written after them:
//!
//! ```text
//! c | shard | index | epoch | 0..n    pieces
//! h | shard                           the newest checkpoint: position, stamp, length, crc32c
//! ```
//!
//! Pieces are made durable before the head, the head before [`Checkpoints::save`] returns, and only then are the pieces of
//! the one before removed.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_replication::{Epoch, Index, Position, ShardId, Stamp};

use crate::fields::{Fields, put_u64s};
use crate::limits::{CHECKPOINT_BATCH_CHUNKS, CHECKPOINT_CHUNK_BYTES};
use crate::node_disk::CheckpointMark;
use crate::store::{CheckpointStore, StoreError, store_error};

/// The checkpoints of the shards of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Arc<dyn CheckpointStore>,
}

/// A checkpoint as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it stands for.
    pub mark: CheckpointMark,
    /// The encoded state.
    pub state: Bytes,
}

struct Head {
    mark: CheckpointMark,
    length: u64,
    crc: u32,
}

impl Checkpoints {
    /// Keeps checkpoints in a store.
    pub fn new(store: Arc<dyn CheckpointStore>) -> Self {
        Self { store }
    }

    /// Saves a checkpoint; durable when it returns. The one before is removed after. To be called only for what is
    /// durable in the shard's own log.
    pub fn save(
        &self,
        shard: ShardId,
        mark: CheckpointMark,
        state: &Bytes,
    ) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        for (number, at) in (0..state.len()).step_by(CHECKPOINT_CHUNK_BYTES).enumerate() {
            let piece = state.slice(at..state.len().min(at + CHECKPOINT_CHUNK_BYTES));
            batch.push((piece_key(shard, mark.at, number as u64), piece));
            if batch.len() == CHECKPOINT_BATCH_CHUNKS {
                self.store.put_batch(&batch)?;
                batch.clear();
            }
        }
        self.store.put_batch(&batch)?;
        self.store.flush_durable()?;
        let head = Head {
            mark,
            length: state.len() as u64,
            crc: crc32c::crc32c(state),
        };
        self.store.put_batch(&[(head_key(shard), head.encode())])?;
        self.store.flush_durable()?;
        self.remove_pieces(shard, Some(mark.at))
    }

    /// The newest checkpoint. A damaged one is an error: the state must not be made up.
    pub fn load(&self, shard: ShardId) -> Result<Option<Checkpoint>, StoreError> {
        let Some(bytes) = self.store.get(&head_key(shard))? else {
            return Ok(None);
        };
        let head = Head::decode(&bytes).ok_or_else(damaged)?;
        let mut state = BytesMut::new();
        let mut number = 0;
        while (state.len() as u64) < head.length {
            let piece = self.store.get(&piece_key(shard, head.mark.at, number))?;
            let piece = piece
                .filter(|piece| !piece.is_empty())
                .ok_or_else(damaged)?;
            state.put_slice(&piece);
            number += 1;
        }
        if state.len() as u64 != head.length || crc32c::crc32c(&state) != head.crc {
            return Err(damaged());
        }
        Ok(Some(Checkpoint {
            mark: head.mark,
            state: state.freeze(),
        }))
    }

    /// Forgets the checkpoint of a shard, durably.
    pub fn remove(&self, shard: ShardId) -> Result<(), StoreError> {
        self.store.delete(&head_key(shard))?;
        self.store.flush_durable()?;
        self.remove_pieces(shard, None)?;
        self.store.flush_durable()
    }

    /// Removes the pieces of all checkpoints but one.
    fn remove_pieces(&self, shard: ShardId, but: Option<Position>) -> Result<(), StoreError> {
        let kept = but.map(|at| piece_key(shard, at, 0));
        let kept = kept.as_deref().map(|key| &key[..key.len() - 8]);
        let mut first = piece_prefix(b'c', shard);
        let end = piece_prefix(b'c', ShardId(shard.0 + 1));
        loop {
            // One at a time: values are large, and there is rarely more than a handful.
            let pairs = self.store.range(&first, &end, 1)?;
            let Some((key, _)) = pairs.into_iter().next() else {
                return Ok(());
            };
            if kept.is_none_or(|kept| !key.starts_with(kept)) {
                self.store.delete(&key)?;
            }
            first = key;
            first.push(0);
        }
    }
}

impl Head {
    fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        let at = self.mark.at;
        put_u64s(
            &mut bytes,
            &[
                at.epoch.0,
                at.index.0,
                self.mark.stamp.0,
                self.length,
                u64::from(self.crc),
            ],
        );
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            mark: CheckpointMark {
                at: Position {
                    epoch: Epoch(fields.u64()?),
                    index: Index(fields.u64()?),
                },
                stamp: Stamp(fields.u64()?),
            },
            length: fields.u64()?,
            crc: u32::try_from(fields.u64()?).ok()?,
        })
    }
}

fn head_key(shard: ShardId) -> Vec<u8> {
    piece_prefix(b'h', shard)
}

fn piece_prefix(letter: u8, shard: ShardId) -> Vec<u8> {
    let mut key = vec![letter];
    key.put_u32(shard.0);
    key
}

fn piece_key(shard: ShardId, at: Position, number: u64) -> Vec<u8> {
    let mut key = piece_prefix(b'c', shard);
    key.put_u64(at.index.0);
    key.put_u64(at.epoch.0);
    key.put_u64(number);
    key
}

fn damaged() -> StoreError {
    store_error("load checkpoint")(
        "the checkpoint is damaged; remove it and let the replica heal from the leader",
    )
}
