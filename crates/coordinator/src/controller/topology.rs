//! The picture of the cluster that nodes and gateways get.

use std::sync::Arc;

use quorate_message::{Overrides, Settings};
use quorate_replication::{Epoch, Member, NodeId, ShardId};

/// The whole picture. Gateways and nodes keep the newest one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Rises with every change, also from one active coordinator to the next.
    pub version: u64,
    /// All nodes ever registered, by number.
    pub nodes: Vec<NodeStatus>,
    /// All shards, by number. Empty until the cluster is bootstrapped.
    pub shards: Vec<ShardStatus>,
    /// Shard of each slot. Empty until the cluster is bootstrapped.
    pub slots: Vec<ShardId>,
    /// The gateways that attend, by name.
    pub gateways: Vec<GatewayStatus>,
    /// The settings of destinations.
    pub settings: Arc<Settings>,
    /// Where destinations live that do not live where the slots say.
    pub overrides: Arc<Overrides>,
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where peers and gateways reach it.
    pub address: String,
    /// Whether it is counted as living.
    pub is_alive: bool,
    /// Process number of its newest life.
    pub pid: u32,
    /// Share of leaderships.
    pub weight: u32,
    /// It is to lead nothing while others can.
    pub is_drained: bool,
    /// It is about to stop.
    pub is_leaving: bool,
    /// How far its wall clock is ahead of those of most nodes, in milliseconds, if it is off.
    pub clock_off_ms: Option<i64>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its number.
    pub shard: ShardId,
    /// Epoch of its record.
    pub epoch: Epoch,
    /// The member that leads it.
    pub leader: Option<Member>,
    /// Its voters.
    pub voters: Vec<Member>,
    /// Why it has no leader, or what is wrong with its voters; empty: nothing is.
    pub reason: String,
}

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub address: String,
}
