//! The end of a node that is stopped in order: first others take over what it leads, so that nobody notices.
//!
//! It says to the coordinator that it wants to lead nothing, and stops when it leads nothing, when nobody else could, or
//! when it takes too long. Whatever it then leads still is a failure found at once, as if it had been killed.

use std::sync::Arc;

use quorate_proto::internal::v1::Topology;
use quorate_replication::{NodeId, RoleName, ShardId};
use quorate_service::{health::Health, shutdown::Shutdown};
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::{
    limits::{LEAVE_POLL, LEAVE_TIMEOUT},
    node::COMPONENT_SHARDS,
    runtime::Shards,
};

/// What the stream to the coordinator knows and is told.
#[derive(Debug)]
pub(crate) struct Attending {
    /// A coordinator takes this node at the moment.
    pub(crate) is_attending: watch::Receiver<bool>,
    /// This node is about to stop.
    pub(crate) leaving: watch::Sender<bool>,
}

/// What is looked at until it may stop.
#[derive(Debug)]
pub(crate) struct Leaving {
    node: NodeId,
    shards: Arc<Shards>,
    attending: Attending,
    topology: watch::Receiver<Option<Topology>>,
    health: Health,
}

impl Leaving {
    /// Of this node.
    pub(crate) fn new(
        node: NodeId,
        attending: Attending,
        (shards, topology, health): (Arc<Shards>, watch::Receiver<Option<Topology>>, Health),
    ) -> Self {
        Self {
            node,
            shards,
            attending,
            topology,
            health,
        }
    }

    /// Waits for the request beside everything else. Returns what everything else goes by: it goes on until what this
    /// node leads is handed over.
    pub(crate) fn begin(self, requested: Shutdown) -> Shutdown {
        let stop = Shutdown::new();
        tokio::spawn(self.run(requested, stop.clone()));
        stop
    }

    /// Waits for the request, hands over, then lets everything stop.
    async fn run(self, requested: Shutdown, stop: Shutdown) {
        requested.requested().await;
        self.health
            .not_ready(COMPONENT_SHARDS, "stopping: hands over what it leads");
        self.attending.leaving.send_replace(true);
        let begun = Instant::now();
        let led = self.led().len();
        loop {
            let left = self.led();
            if left.is_empty() {
                info!(shards = led, took = ?begun.elapsed(), "leads nothing");
                break;
            }
            if !*self.attending.is_attending.borrow() || !self.can_be_replaced(&left) {
                info!(shards = left.len(), "stops as leader: nobody takes over");
                break;
            }
            if begun.elapsed() >= LEAVE_TIMEOUT {
                warn!(
                    shards = left.len(),
                    "stops as leader: nobody took over in time"
                );
                break;
            }
            tokio::time::sleep(LEAVE_POLL).await;
        }
        stop.request();
    }

    fn led(&self) -> Vec<ShardId> {
        let shards = self.shards.all().into_iter();
        let led = shards.filter(|(_, handle)| {
            let status = handle.status();
            status.role == RoleName::Leader && !status.is_halted
        });
        led.map(|(shard, _)| shard).collect()
    }

    /// Whether another node could lead one of the shards.
    fn can_be_replaced(&self, led: &[ShardId]) -> bool {
        let topology = self.topology.borrow();
        topology
            .as_ref()
            .is_some_and(|topology| can_be_replaced(topology, self.node, led))
    }
}

fn can_be_replaced(topology: &Topology, node: NodeId, led: &[ShardId]) -> bool {
    let is_fit = |id: u32| {
        let mut nodes = topology.nodes.iter();
        nodes.any(|one| one.id == id && one.alive && !one.drained && !one.leaving)
    };
    let shards = topology.shards.iter();
    let mut led = shards.filter(|shard| led.contains(&ShardId(shard.id)));
    led.any(|shard| {
        let mut voters = shard.voters.iter();
        voters.any(|voter| voter.node != node.0 && is_fit(voter.node))
    })
}

#[cfg(test)]
mod tests {
    use quorate_proto::internal::v1::{Member, NodeInfo, ShardInfo};

    use super::*;

    #[test]
    fn a_node_waits_only_for_others_that_could_lead() {
        let node = |id| NodeInfo {
            id,
            alive: true,
            ..NodeInfo::default()
        };
        let voter = |node| Member { node, disk: 1 };
        let mut topology = Topology {
            nodes: vec![node(1), node(2), node(3)],
            shards: vec![ShardInfo {
                id: 7,
                voters: vec![voter(1), voter(2)],
                ..ShardInfo::default()
            }],
            ..Topology::default()
        };
        let can = |topology: &Topology, led| can_be_replaced(topology, NodeId(1), &[ShardId(led)]);
        assert!(can(&topology, 7));
        assert!(!can(&topology, 8));
        for spoil in [
            |node: &mut NodeInfo| node.alive = false,
            |node: &mut NodeInfo| node.drained = true,
            |node: &mut NodeInfo| node.leaving = true,
        ] {
            let mut spoilt = topology.clone();
            spoil(&mut spoilt.nodes[1]);
            assert!(!can(&spoilt, 7));
        }
        topology.shards[0].voters.pop();
        assert!(!can(&topology, 7));
    }
}
