//! The replicated state: a function of the committed entries alone, equal on all replicas.

mod agenda;
mod apply;
mod checkpoint;
mod codec;
mod dedup;
mod gateways;
mod levels;
mod live;
mod outbox;
mod positions;
mod queue;
mod relocation;
mod repeat;
mod room;
mod settings;
mod sift;
mod sizes;
mod subscription;
mod tick;
mod timing;
mod topic;
mod topic_codec;
mod transaction;
mod turn;

use std::collections::BTreeMap;

use quorate_message::{DestinationName, PreviousCheckpoint, QueueSettings};

pub(crate) use apply::{Change, Record};
pub use checkpoint::RestoreError;
pub(crate) use codec::{Cursor, Sink};
pub(crate) use dedup::{Dedup, Verdict};
pub(crate) use gateways::{Gateways, Giver, LEADER};
pub(crate) use levels::Levels;
use live::{Apart, Live};
pub(crate) use outbox::{Item, Outbox, TargetId};
pub(crate) use queue::Queue;
pub use relocation::Obstacle;
pub(crate) use relocation::{Relocations, Stage};
pub(crate) use settings::Governing;
use sift::Sift;
use tick::Calendar;
pub(crate) use topic::Topics;
pub(crate) use transaction::Transactions;
pub(crate) use turn::Turn;

/// A queue, by the order in which the shard's queues were made. Topics and subscriptions have a place among them; that of
/// one which is no more goes to the next destination that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId(pub(crate) u32);

/// The replicated state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    queues_max: u32,
    /// The last entry that was applied.
    applied: u64,
    /// Its stamp.
    stamp_ms: u64,
    queues: Vec<Queue>,
    by_name: BTreeMap<DestinationName, QueueId>,
    dedup: Dedup,
    settings: Governing,
    topics: Topics,
    transactions: Transactions,
    gateways: Gateways,
    /// The digest at the newest checkpoint command, to compare with the next proposer's. Not part of the digest.
    last_checkpoint: Option<PreviousCheckpoint>,
    outbox: Outbox,
    relocations: Relocations,
    /// Derived from the queues and the outbox.
    live: Live,
    /// Derived from the queues.
    calendar: Calendar,
}

impl State {
    pub(crate) fn new(queues_max: u32, windows_max: u32, outbox_max: u32) -> Self {
        Self {
            queues_max,
            applied: 0,
            stamp_ms: 0,
            queues: Vec::new(),
            by_name: BTreeMap::new(),
            dedup: Dedup::new(windows_max),
            settings: Governing::default(),
            topics: Topics::default(),
            transactions: Transactions::default(),
            gateways: Gateways::default(),
            last_checkpoint: None,
            outbox: Outbox::new(outbox_max),
            relocations: Relocations::default(),
            live: Live::default(),
            calendar: Calendar::default(),
        }
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn last_checkpoint(&self) -> Option<PreviousCheckpoint> {
        self.last_checkpoint
    }

    pub(crate) fn queue_id(&self, name: &DestinationName) -> Option<QueueId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.0 as usize]
    }

    /// All queues, in the order in which they were made.
    pub(crate) fn queues(&self) -> &[Queue] {
        &self.queues
    }

    pub(crate) fn dedup(&self) -> &Dedup {
        &self.dedup
    }

    /// The settings of a queue, as they were logged last.
    pub(crate) fn settings_of(&self, id: QueueId) -> &QueueSettings {
        self.settings.of(id)
    }

    pub(crate) fn settings(&self) -> &Governing {
        &self.settings
    }

    pub(crate) fn stamp_ms(&self) -> u64 {
        self.stamp_ms
    }

    pub(crate) fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Who holds messages besides the queues.
    fn apart(&self) -> Apart<'_> {
        Apart {
            outbox: &self.outbox,
            prepared: &self.transactions,
        }
    }

    /// Whether an entry of this range holds a message that is not settled.
    pub(crate) fn has_live(&self, first: u64, last: u64) -> bool {
        self.live.has_any(&self.queues, self.apart(), first, last)
    }

    /// Entries from `first` to `last` that hold a message that is not settled, ascending.
    pub(crate) fn live_entries(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + '_ {
        self.live.entries(&self.queues, self.apart(), first, last)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }
}
