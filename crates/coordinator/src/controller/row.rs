//! What the coordinator keeps in the coordination store, as typed rows: the cluster, its nodes, its shards, the settings
//! of destinations, and the names that live elsewhere than the slot map says.
//!
//! How a row is written as text is the affair of `crate::rows`.

use std::collections::BTreeMap;

use quorate_message::{Overrides, Settings};
use quorate_replication::{DiskId, Incarnation, NodeId, RecordVersion, ShardId, ShardRecord};

/// Names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The one row of the cluster itself.
    Cluster,
    /// A storage node.
    Node(NodeId),
    /// A shard.
    Shard(ShardId),
    /// The settings of destinations.
    Settings,
    /// Where destinations live that do not live where the slot map says.
    Overrides,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// The cluster.
    Cluster(ClusterRow),
    /// A storage node.
    Node(NodeRow),
    /// A shard: the record of replication.md.
    Shard(ShardRecord),
    /// The settings of destinations.
    Settings(Settings),
    /// Where destinations live that do not live where the slot map says.
    Overrides(Overrides),
}

impl Row {
    /// Returns the key that the row is kept under.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(_) => Key::Cluster,
            Self::Node(node) => Key::Node(node.node),
            Self::Shard(record) => Key::Shard(record.shard),
            Self::Settings(_) => Key::Settings,
            Self::Overrides(_) => Key::Overrides,
        }
    }
}

/// What is fixed when the cluster is made for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Number of shards, counted from 1.
    pub shards: u32,
    /// Replicas of each shard.
    pub replicas: u32,
    /// Shard of each slot.
    pub slots: Vec<ShardId>,
}

/// What is known of a storage node across its lives and those of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number, by first registration.
    pub node: NodeId,
    /// Its name, which never changes.
    pub name: String,
    /// Where peers and gateways reach it, "host:port".
    pub address: String,
    /// The disk that it came with last.
    pub disk: DiskId,
    /// The greatest boot counter seen of each disk that it ever came with: one that is behind is an old image.
    pub boots: BTreeMap<DiskId, u64>,
    /// Its newest life.
    pub incarnation: Incarnation,
    /// Process number of that life.
    pub pid: u32,
    /// Failure zone; may be empty.
    pub zone: String,
    /// Share of leaderships that it should get, relative to the others. 0: none if another can.
    pub weight: u32,
    /// Version of its software.
    pub version: String,
    /// An operator wants it to lead nothing while others can.
    pub is_drained: bool,
}

/// A change of one row, made only if the row still has the expected version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version that the row must have; 0: it must not be there.
    pub expected: RecordVersion,
    /// The new row.
    pub row: Row,
}

/// A row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its version, at least 1.
    pub version: RecordVersion,
    /// The row.
    pub row: Row,
}
