//! One transaction of a client: gathered here, and cut into batches when it is to be committed.
//!
//! ```text
//! Gathering --commit--> Preparing --all prepared--> Deciding --committed--> Finishing --finished--> gone
//!                           | refused                   | refused
//!                           +-------- rolled back ------+
//! ```
//! Within one shard there is nothing to prepare, unless its part is too large for a batch: one entry decides.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_message::{
    Attempt, BatchBuilder, BatchFull, ConsumerId, Destination, MessagePosition, Outcome,
    Settlement, TransactionId,
};

use super::{
    ids::{CallId, ShardId, Time},
    input::Publication,
};

/// A message that is settled within a transaction.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) consumer: Option<ConsumerId>,
    pub(super) destination: Destination,
    pub(super) shard: ShardId,
    pub(super) position: MessagePosition,
    pub(super) settlement: Settlement,
    /// The consumer's call out of whose hands it was taken here. A later call of that consumer has another.
    pub(super) reserved_in: Option<CallId>,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) attempt: Attempt,
    pub(super) sends: Vec<Publication>,
    pub(super) settled: Vec<Settled>,
    /// Bytes of its messages.
    pub(super) bytes: u64,
    pub(super) phase: Phase,
    /// The client waits for the end of it.
    pub(super) is_awaited: bool,
    /// When it is tried again, since a destination lives elsewhere.
    pub(super) retry_at: Option<Time>,
}

/// How far a transaction is.
#[derive(Debug)]
pub(super) enum Phase {
    /// It is not to be committed yet.
    Gathering,
    /// So many batches of it are not answered.
    Preparing {
        plan: Plan,
        open: usize,
        refusal: Option<Refusal>,
    },
    /// The owner has not answered.
    Deciding { plan: Plan },
    /// It is committed; these shards have not answered that they have finished. The client is told by then.
    Finishing {
        plan: Plan,
        open: BTreeSet<ShardId>,
        until: Time,
    },
}

/// Why a transaction cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) shard: ShardId,
    pub(super) outcome: Outcome,
    /// Of the command that was refused, if it has one.
    pub(super) destination: Option<Destination>,
}

/// What is to be done to commit a transaction.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) owner: ShardId,
    /// The other shards.
    pub(super) participants: BTreeSet<ShardId>,
    /// To be prepared first, each with its shard and the number of its commands.
    pub(super) prepares: Vec<(ShardId, Bytes, usize)>,
    /// Then the decision.
    pub(super) decide: (Bytes, usize),
    /// How many parts are prepared in the owner's shard.
    pub(super) own_parts: u16,
}

/// A command of a transaction.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Send(&'a Publication),
    Settle(&'a Settled),
}

impl Transaction {
    pub(super) fn new(id: TransactionId) -> Self {
        Self {
            id,
            attempt: Attempt::default(),
            sends: Vec::new(),
            settled: Vec::new(),
            bytes: 0,
            phase: Phase::Gathering,
            is_awaited: true,
            retry_at: None,
        }
    }

    /// How many commands it has.
    pub(super) fn len(&self) -> usize {
        self.sends.len() + self.settled.len()
    }

    /// Cuts it into batches. None when there is nothing for the log; `shard_of` names the shard of each send, in order.
    pub(super) fn plan(&self, shards: &[ShardId]) -> Result<Option<Plan>, BatchFull> {
        let mut work: BTreeMap<ShardId, Vec<Item<'_>>> = BTreeMap::new();
        for settled in &self.settled {
            if !settled.position.is_transient() {
                let items = work.entry(settled.shard).or_default();
                items.push(Item::Settle(settled));
            }
        }
        for (send, shard) in self.sends.iter().zip(shards) {
            work.entry(*shard).or_default().push(Item::Send(send));
        }
        let Some(owner) = self.owner(work.keys().copied()) else {
            return Ok(None);
        };
        let own = work.remove(&owner).unwrap_or_default();
        let participants: BTreeSet<ShardId> = work.keys().copied().collect();
        let names: Vec<u32> = participants.iter().map(|shard| shard.0).collect();
        let mut prepares = Vec::new();
        for (shard, items) in &work {
            let parts = self.prepare(items, Some(owner.0))?;
            prepares.extend(parts.into_iter().map(|(batch, len)| (*shard, batch, len)));
        }
        let key = (self.id, self.attempt);
        let mut decisions = self.pack(&own, |builder, part| builder.commit(key, part, &names))?;
        let mut own_parts = 0;
        if decisions.len() > 1 {
            // Too large for one entry: all of it is prepared, and the decision comes alone.
            let parts = self.prepare(&own, None)?;
            own_parts = u16::try_from(parts.len()).map_err(|_| BatchFull::Full)?;
            prepares.extend(parts.into_iter().map(|(batch, len)| (owner, batch, len)));
            decisions = self.pack(&[], |builder, _| builder.commit(key, own_parts, &names))?;
        }
        let decide = decisions.pop().ok_or(BatchFull::Full)?;
        Ok(Some(Plan {
            owner,
            participants,
            prepares,
            decide,
            own_parts,
        }))
    }

    /// The shard that decides: any of them, and always the same of the same ones, so that a repeat through another
    /// gateway meets the decision.
    fn owner(&self, shards: impl Iterator<Item = ShardId>) -> Option<ShardId> {
        let shards: Vec<ShardId> = shards.collect();
        let seed = self.id.origin.0.iter().fold(self.id.number, |hash, byte| {
            hash.rotate_left(5).wrapping_mul(31) ^ u64::from(*byte)
        });
        let count = u64::try_from(shards.len()).ok()?;
        let place = seed.checked_rem(count)?;
        shards.get(usize::try_from(place).ok()?).copied()
    }

    fn prepare(
        &self,
        items: &[Item<'_>],
        owner: Option<u32>,
    ) -> Result<Vec<(Bytes, usize)>, BatchFull> {
        let key = (self.id, self.attempt);
        self.pack(items, |builder, part| builder.prepare(key, owner, part))
    }

    /// Puts commands into batches, each with a head.
    fn pack(
        &self,
        items: &[Item<'_>],
        head: impl Fn(&mut BatchBuilder, u16) -> Result<u16, BatchFull>,
    ) -> Result<Vec<(Bytes, usize)>, BatchFull> {
        let mut builder = BatchBuilder::persistent();
        let mut batches = Vec::new();
        head(&mut builder, 0)?;
        for item in items {
            match self.add(&mut builder, *item) {
                Err(BatchFull::Full) => {
                    let len = builder.len();
                    batches.push((builder.finish(), len));
                    let part = u16::try_from(batches.len()).map_err(|_| BatchFull::Full)?;
                    head(&mut builder, part)?;
                    self.add(&mut builder, *item)?;
                }
                added => {
                    added?;
                }
            }
        }
        let len = builder.len();
        batches.push((builder.finish(), len));
        Ok(batches)
    }

    fn add(&self, builder: &mut BatchBuilder, item: Item<'_>) -> Result<u16, BatchFull> {
        match item {
            Item::Send(send) => {
                // The transaction's own name tells repeats apart, not the producer's.
                let head = send.head(self.id.origin, self.id.number);
                builder.publish(&head, &send.message)
            }
            Item::Settle(settled) => {
                let (kind, name) = (settled.destination.kind, &settled.destination.name);
                builder.settle_at((kind, name), settled.position, settled.settlement)
            }
        }
    }
}
