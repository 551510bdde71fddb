//! What streams carry, and what will happen.

use std::sync::Arc;

use bytes::Bytes;
use quorate_coordinator::controller as coordination;
use quorate_gateway::session as gateway;
use quorate_message::GatewayId;
use quorate_replication::{Message, NodeId, Order, Report, ShardId};
use quorate_storage_node::shard::between::ShardMessage;
use quorate_storage_node::shard::effect::{Read, SessionEvent};
use quorate_storage_node::shard::input::{Checkpoint, RequestId, SessionRequest};

use crate::network::{Host, Side, StreamNumber};

/// One message on a stream.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// A node introduces itself to a coordinator.
    Register(Box<coordination::Registration>),
    /// A node lives.
    Heartbeat(coordination::Heartbeat),
    /// A replica reports.
    Report(ShardId, Report),
    /// The leader of a shard says what became of the move of a name.
    MoveReport(coordination::MoveReport),
    /// A gateway introduces itself to a coordinator.
    Announce(usize),
    /// A coordinator knows the node.
    Registered(NodeId),
    /// What a coordinator thinks of a node's wall clock, when that is news.
    ClockJudged(coordination::ClockVerdict),
    /// A coordinator orders a replica.
    Order(ShardId, Order),
    /// A coordinator's picture.
    Topology(Arc<coordination::Topology>),
    /// A gateway opens a session with a node.
    Hello(GatewayId),
    /// A gateway's batch: its number and that of the one before it.
    Submit(ShardId, (u64, Option<u64>), Bytes, Lane),
    /// A gateway asks for something.
    Ask(ShardId, SessionRequest),
    /// A node tells a gateway.
    Event(ShardId, SessionEvent),
}

/// Which of the two gRPC streams of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Control,
    Payload,
}

impl Packet {
    pub(super) fn lane(&self) -> usize {
        match self {
            Self::Submit(_, _, _, Lane::Payload) | Self::Event(_, SessionEvent::Deliver { .. }) => {
                1
            }
            Self::Register(_)
            | Self::Heartbeat(_)
            | Self::Report(..)
            | Self::MoveReport(_)
            | Self::Announce(_)
            | Self::Registered(_)
            | Self::ClockJudged(_)
            | Self::Order(..)
            | Self::Topology(_)
            | Self::Hello(_)
            | Self::Submit(_, _, _, Lane::Control)
            | Self::Ask(..)
            | Self::Event(..) => 0,
        }
    }
}

/// Reads and saves beside the log's writes.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Read(RequestId, Read),
    LoadCheckpoint(RequestId),
    SaveCheckpoint(Checkpoint),
    ForgetCheckpoint,
}

/// One thing that will happen. What belongs to a process carries its life and is dropped if that is over.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A datagram between replicas.
    Datagram {
        node: usize,
        from: NodeId,
        shard: ShardId,
        message: Message,
    },
    /// A datagram from the leader of another shard.
    Letter {
        node: usize,
        from: ShardId,
        shard: ShardId,
        message: ShardMessage,
    },
    /// A message on a stream.
    Arrived(StreamNumber, Side, Packet),
    /// This end learns that the stream is closed.
    Closed(StreamNumber, Side),
    /// A stream that a cut stalled breaks if it is still stalled.
    Stalled(StreamNumber),
    /// A process does what it does at intervals: heartbeats, redials.
    Tick(Host, u64),
    /// A shard's deadline.
    ShardDue(usize, u64, ShardId),
    /// The next step of a shard's disk work.
    DiskWork(usize, u64, ShardId),
    /// Work beside the log.
    Background(usize, u64, ShardId, Task),
    /// A gateway's or coordinator's deadline.
    Due(Host, u64),
    /// The coordination store gets a question.
    StoreAsked(usize, u64, StoreQuestion),
    /// It makes a change whose answer was given up long ago.
    StoreLate(Vec<coordination::Change>),
    /// A coordinator gets an answer of the store or of a redial.
    Told(usize, u64, u64, coordination::Input),
    /// A coordinator tries to become the active one.
    Campaign(usize, u64),
    /// The lock of a coordinator lapses.
    Lapse(usize, u64),
    /// A gateway tries to link to a node.
    Link(usize, u64, gateway::NodeId),
    /// A client does something.
    Client(usize),
    /// What a gateway tells a client.
    ToClient(usize, gateway::CallId, ClientEvent),
    /// A host starts again.
    Start(Host),
    /// A paused host goes on.
    Resume(Host, u64),
    /// The nemesis strikes.
    Strike,
    /// An operator restarts a node.
    Operator(usize, u64),
    /// Cuts heal.
    HealCuts(u64),
    /// The store is back.
    StoreBack,
    /// The disk has space again.
    SpaceBack(usize),
    /// The cluster is looked at.
    Inspect,
}

/// A question to the coordination store.
#[derive(Clone, Debug)]
pub(super) enum StoreQuestion {
    Write(coordination::WriteNumber, Vec<coordination::Change>),
    Read(coordination::Key),
}

/// What a client is told.
#[derive(Clone, Debug)]
pub(super) enum ClientEvent {
    Confirmed {
        first: u64,
        count: u32,
        outcome: gateway::Outcome,
    },
    Opened {
        lost: Vec<(gateway::ShardId, quorate_message::MessagePosition)>,
    },
    Delivered {
        shard: gateway::ShardId,
        deliveries: Vec<gateway::StoredDelivery>,
    },
    Settled {
        token: u64,
        outcomes: Vec<gateway::Outcome>,
    },
    Ended,
    /// A transaction is committed.
    Committed,
    /// What an operator asked for is done.
    Done,
    /// The call failed, or its gateway died. `is_refused`: what it asked for did not happen, and never will.
    Failed {
        is_refused: bool,
    },
}
