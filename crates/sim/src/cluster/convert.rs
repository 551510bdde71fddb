//! Between the words of a gateway and those of a storage node and a coordinator, as the shells convert them.

use std::sync::Arc;

use quorate_coordinator::controller as coordination;
use quorate_gateway::session::{
    BatchNumber, Command, Epoch, Generation, NodeEvent, NodeId, Outcomes, ShardId, StoredDelivery,
    Topology, TopologyNode, TopologyShard,
};
use quorate_storage_node::shard::effect::SessionEvent;
use quorate_storage_node::shard::input::SessionRequest;

use crate::cluster::packet::Packet;

pub(super) fn shard_of(shard: ShardId) -> quorate_replication::ShardId {
    quorate_replication::ShardId(shard.0)
}

#[expect(clippy::too_many_lines, reason = "one arm per command, nothing else")]
pub(super) fn control(shard: ShardId, command: Command) -> Packet {
    let shard = shard_of(shard);
    let credit_of = |credit: quorate_gateway::session::Credit| quorate_broker::Credit {
        messages: u32::try_from(credit.messages).unwrap_or(u32::MAX),
        bytes: credit.bytes,
    };
    match command {
        Command::Attach {
            consumer,
            generation,
            queue,
            shares_credit,
            credit,
            held,
            terms,
        } => Packet::Ask(
            shard,
            SessionRequest::Attach {
                consumer,
                generation: generation.0,
                queue,
                shares_credit,
                credit: credit_of(credit),
                held,
                terms,
            },
        ),
        Command::Detach {
            consumer,
            generation,
        } => Packet::Ask(
            shard,
            SessionRequest::Detach {
                consumer,
                generation: generation.0,
            },
        ),
        Command::Recall {
            consumer,
            generation,
        } => Packet::Ask(
            shard,
            SessionRequest::Recall {
                consumer,
                generation: generation.0,
            },
        ),
        Command::Credit { consumer, credit } => Packet::Ask(
            shard,
            SessionRequest::Credit {
                consumer,
                credit: credit_of(credit),
            },
        ),
        Command::Report { is_first, leaving } => {
            let leaving = leaving.into_iter().map(|one| quorate_broker::Leaving {
                consumer: one.consumer,
                queue: one.queue,
                number: one.number,
                positions: one.positions,
            });
            Packet::Ask(
                shard,
                SessionRequest::Report {
                    is_first,
                    leaving: leaving.collect(),
                },
            )
        }
        Command::Reported => Packet::Ask(shard, SessionRequest::Reported),
        Command::Leave => Packet::Ask(shard, SessionRequest::Leave),
        Command::Submit {
            number,
            previous,
            batch,
        } => {
            let numbers = (number.0, previous.map(|previous| previous.0));
            Packet::Submit(shard, numbers, batch, super::node::CONTROL)
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm per event, nothing else")]
pub(super) fn node_event(event: SessionEvent) -> NodeEvent {
    match event {
        SessionEvent::Outcomes {
            number,
            outcomes,
            removed,
        } => NodeEvent::Outcomes {
            number: BatchNumber(number),
            outcomes: Outcomes::Each(outcomes.iter().collect()),
            removed,
        },
        SessionEvent::NotLeading { number, epoch } => NodeEvent::NotLeading {
            number: BatchNumber(number),
            epoch: Epoch(epoch.0),
        },
        SessionEvent::Overloaded { number, reason } => NodeEvent::Overloaded {
            number: BatchNumber(number),
            reason: reason.into(),
        },
        SessionEvent::Malformed { number, reason } => NodeEvent::Malformed {
            number: BatchNumber(number),
            reason: reason.into(),
        },
        SessionEvent::Attached {
            consumer,
            generation,
            lost,
        } => NodeEvent::Attached {
            consumer,
            generation: Generation(generation),
            lost,
        },
        SessionEvent::AttachRefused {
            consumer,
            generation,
            reason,
            is_no_subscription,
        } => NodeEvent::AttachRefused {
            consumer,
            generation: Generation(generation),
            reason: reason.into(),
            is_no_subscription,
        },
        SessionEvent::Moved(who, generation) => NodeEvent::Moved(who, Generation(generation)),
        SessionEvent::Waiting {
            consumer,
            generation,
        } => NodeEvent::Waiting {
            consumer,
            generation: Generation(generation),
        },
        SessionEvent::Recalled {
            consumer,
            generation,
            credit,
        } => NodeEvent::Recalled {
            consumer,
            generation: Generation(generation),
            credit: quorate_gateway::session::Credit {
                messages: u64::from(credit.messages),
                bytes: credit.bytes,
            },
        },
        SessionEvent::Deliver {
            consumer,
            generation,
            epoch,
            deliveries,
        } => NodeEvent::Deliveries {
            epoch: Epoch(epoch.0),
            deliveries: deliveries
                .into_iter()
                .map(|delivery| StoredDelivery {
                    consumer,
                    generation: Generation(generation),
                    position: delivery.position,
                    delivery_count: delivery.count,
                    group: delivery.group,
                    redelivered: delivery.redelivered,
                    message: delivery.message,
                })
                .collect(),
        },
    }
}

pub(super) fn topology_of(topology: &coordination::Topology) -> Topology {
    Topology {
        version: topology.version,
        nodes: topology
            .nodes
            .iter()
            .map(|node| TopologyNode {
                id: NodeId(node.node.0),
                name: Arc::from(node.name.as_str()),
                address: Arc::from(node.address.as_str()),
            })
            .collect(),
        shards: topology
            .shards
            .iter()
            .map(|shard| TopologyShard {
                id: ShardId(shard.shard.0),
                epoch: Epoch(shard.epoch.0),
                leader: shard.leader.map(|leader| NodeId(leader.node.0)),
                leaderless_reason: Arc::from(shard.reason.as_str()),
            })
            .collect(),
        slots: topology.slots.iter().map(|s| ShardId(s.0)).collect(),
        settings: Some(Arc::clone(&topology.settings)),
        overrides: Arc::clone(&topology.overrides),
    }
}
