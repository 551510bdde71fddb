//! What the controller wants done. The shell carries effects out in order and takes no decision.

use std::{fmt, sync::Arc};

use quorate_message::{DestinationName, OverrideError, Overrides, Settings};
use quorate_replication::{Claim, ElectionEvent, Epoch, Member, NodeId, Order, ShardId};

use crate::controller::{
    clock::ClockVerdict,
    input::{Attempt, MoveRequest, OperatorRequest, SettingsRequest, StreamId, WriteNumber},
    row::{Change, Key},
    topology::Topology,
};

/// A request to the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a registration: the node is known and counted from here.
    Admit {
        /// Its stream.
        stream: StreamId,
        /// Its number.
        node: NodeId,
    },
    /// End a stream with a status. No `StreamClosed` is expected for it.
    Refuse {
        /// The stream.
        stream: StreamId,
        /// Why.
        refusal: Refusal,
    },
    /// Answer a heartbeat.
    AnswerHeartbeat {
        /// The stream that it came on.
        stream: StreamId,
        /// Its number.
        number: u64,
        /// What is thought of the node's wall clock.
        clock: ClockVerdict,
    },
    /// Send an order to a replica; may be lost.
    Send {
        /// The stream of its node.
        stream: StreamId,
        /// The node.
        node: NodeId,
        /// The shard.
        shard: ShardId,
        /// The order.
        order: Order,
    },
    /// Connect to the address, say nothing, hang up, and tell what happened.
    Redial {
        /// Repeated in the answer.
        attempt: Attempt,
        /// The node whose stream broke.
        node: NodeId,
        /// Its address.
        address: String,
    },
    /// Make these changes, each for itself, and answer with one outcome each.
    Write {
        /// Repeated in the answer.
        write: WriteNumber,
        /// At least one; each of another row.
        changes: Vec<Change>,
    },
    /// Read a row.
    Read {
        /// The row.
        key: Key,
    },
    /// Answer a request for other settings.
    AnswerSettings {
        /// The request.
        request: SettingsRequest,
        /// What became of it.
        answer: SettingsAnswer,
    },
    /// Answer a request for a move.
    AnswerMove {
        /// Which.
        request: MoveRequest,
        /// What became of it.
        answer: MoveAnswer,
    },
    /// Answer an operator.
    AnswerOperator {
        /// The request.
        request: OperatorRequest,
        /// Done, or why not.
        answer: Result<(), Refusal>,
    },
    /// Send the picture to every admitted node and every watcher, and to later ones until the next picture.
    PublishTopology(Topology),
    /// Something that an operator or a trace wants to know.
    Note(Note),
}

/// What became of a request for a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// It is durable that the name moves; these overrides are in force.
    Begun(Arc<Overrides>),
    /// It cannot be.
    Impossible(MoveRefusal),
    /// Nothing was done, or it is not known.
    Refused(Refusal),
}

/// Why a name cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// The overrides do not allow it.
    #[error(transparent)]
    Override(#[from] OverrideError),
    /// There is no such shard.
    #[error("there is no shard {shard}; the cluster has the shards {first} to {last}")]
    NoShard {
        /// The one that was named.
        shard: ShardId,
        /// The first that there is.
        first: ShardId,
        /// The last.
        last: ShardId,
    },
    /// There are no shards.
    #[error("the cluster has no shards yet; start the storage nodes that it expects")]
    NoShards,
}

/// What became of a request for other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsAnswer {
    /// They are durable, and the topology carries them.
    Replaced(Arc<Settings>),
    /// Those in force have another version than expected, and stay.
    Differ(Arc<Settings>),
    /// Nothing is known to be changed.
    Refused(Refusal),
}

/// Why a stream is ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This process is not the active coordinator.
    #[error("this coordinator is not the active one; try the others")]
    NotActive,
    /// The name is taken by a node that lives.
    #[error("a node named {name} with another disk attends already; give each node its own name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The node was registered with another store.
    #[error(
        "node {name} says that it is number {claimed}, which the coordination store does not know: \
         start the coordinator on the cluster's own store"
    )]
    UnknownNumber {
        /// Its name.
        name: String,
        /// The number that it claims.
        claimed: NodeId,
    },
    /// The disk is an older image of one that was used since.
    #[error(
        "the disk of node {name} is an old image: its boot counter is {boot}, {seen} was seen before; \
         empty the data folder, the node then registers with a new disk"
    )]
    OldImage {
        /// Its name.
        name: String,
        /// Its boot counter.
        boot: u64,
        /// The counter that was seen.
        seen: u64,
    },
    /// A newer stream of the same node replaced this one.
    #[error("a newer stream of this node replaced this one")]
    Superseded,
    /// The disk was registered under another name.
    #[error(
        "the disk of node {name} belongs to node {other}; each node needs a data folder of its own"
    )]
    DiskTaken {
        /// The name that it came with.
        name: String,
        /// The node that it belongs to.
        other: String,
    },
    /// There are as many gateways as the cluster can have.
    #[error("{limit} gateways attend, the most that can")]
    TooManyGateways {
        /// The limit.
        limit: usize,
    },
    /// There are as many nodes as the cluster can have.
    #[error("the cluster has {limit} nodes, the most that it can have")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
    /// The registration could not be made durable.
    #[error("the coordination store does not answer; try again")]
    StoreAway,
    /// Other settings are being stored.
    #[error("other settings are being stored at this moment; try again")]
    SettingsBusy,
    /// Another move is being stored.
    #[error("another move is being stored at this moment; try again")]
    MoveBusy,
    /// No node has this name.
    #[error("there is no node {name}; `quorate cluster` shows them")]
    UnknownNode {
        /// The name.
        name: String,
    },
    /// There is no such shard.
    #[error("there is no {shard}; `quorate cluster` shows them")]
    UnknownShard {
        /// The shard.
        shard: ShardId,
    },
    /// The node has no replica that could lead.
    #[error("node {name} has no replica of {shard}; `quorate cluster` shows who has")]
    NoReplica {
        /// The shard.
        shard: ShardId,
        /// The node.
        name: String,
    },
    /// The node can or should lead nothing.
    #[error(
        "node {name} can lead nothing now: it does not attend, its disk or clock is unfit, or it is drained"
    )]
    CannotLead {
        /// The node.
        name: String,
    },
    /// The leadership of the shard is changing, or its leader cannot be reached.
    #[error("{shard} is changing its leader at this moment; try again")]
    ShardUnsettled {
        /// The shard.
        shard: ShardId,
    },
    /// Something was said on the stream that only a registered node may say.
    #[error("the stream must begin with a registration")]
    NotRegistered,
}

/// What happened, for logs and traces: one short line each, through `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Became the active coordinator.
    Activated {
        /// The generation.
        generation: u64,
    },
    /// Is not the active coordinator.
    Deactivated,
    /// A node registered for the first time.
    Joined {
        /// Its number.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A known node attends again.
    Returned {
        /// Its number.
        node: NodeId,
    },
    /// A node came back with another disk: its replicas are not the voters that promised. Loud.
    ForeignDisk {
        /// Its number.
        node: NodeId,
        /// As it is.
        found: Member,
    },
    /// A registration was refused.
    Refused(Refusal),
    /// The settings of destinations were replaced.
    SettingsReplaced {
        /// Their version.
        version: u64,
    },
    /// The move of a name began.
    MoveBegun {
        /// The name.
        name: DestinationName,
        /// Where it goes.
        to: ShardId,
    },
    /// The move of a name came to its end.
    MoveEnded {
        /// The name.
        name: DestinationName,
        /// Why it did not take place; none: it did.
        refusal: Option<String>,
    },
    /// The shards were created.
    Bootstrapped {
        /// How many.
        shards: u32,
        /// The nodes among which they were spread.
        nodes: Vec<NodeId>,
    },
    /// A stream broke; the node is redialed.
    StreamBroken {
        /// The node.
        node: NodeId,
    },
    /// A node is taken for dead.
    Died {
        /// The node.
        node: NodeId,
        /// What told so.
        cause: DeathCause,
    },
    /// A silent leader stays because a majority of its followers hears it.
    Deferred {
        /// The node.
        node: NodeId,
        /// One of its shards.
        shard: ShardId,
    },
    /// This coordinator was paused or cut off and gives all nodes time to be heard again.
    Stalled,
    /// An election began.
    ElectionStarted {
        /// The shard.
        shard: ShardId,
        /// Why.
        cause: ElectionCause,
    },
    /// A claim was made.
    Claimed {
        /// The shard.
        shard: ShardId,
        /// The claim.
        claim: Claim,
    },
    /// A leader is named in the store.
    Granted {
        /// The shard.
        shard: ShardId,
        /// The leader.
        leader: Member,
        /// The claim.
        claim: Claim,
    },
    /// The leader serves.
    Serving {
        /// The shard.
        shard: ShardId,
        /// The leader.
        leader: NodeId,
        /// The epoch.
        epoch: Epoch,
        /// Microseconds since the election began.
        took_us: u64,
    },
    /// A step of an election.
    Election {
        /// The shard.
        shard: ShardId,
        /// What happened.
        event: ElectionEvent,
    },
    /// A leader was asked to hand over.
    MoveStarted {
        /// The shard.
        shard: ShardId,
        /// Who is to lead.
        to: NodeId,
        /// Why.
        cause: MoveCause,
    },
    /// A leader leads on that was asked to hand over.
    MoveFailed {
        /// The shard.
        shard: ShardId,
    },
    /// A node is to lead nothing, or may lead again.
    Drained {
        /// The node.
        node: NodeId,
        /// Whether it is to lead nothing.
        is_drained: bool,
    },
    /// A node's wall clock is off: it is to lead nothing.
    ClockOff {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
        /// How far its clock is ahead of those of most nodes, in milliseconds; negative: behind.
        ahead_ms: i64,
    },
    /// A node's wall clock is not off any longer.
    ClockRight {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// The leader is back before anything was claimed: it leads on.
    ElectionDropped {
        /// The shard.
        shard: ShardId,
    },
    /// An election does not come to an end; it goes on.
    ElectionFailed {
        /// The shard.
        shard: ShardId,
        /// Why, naming who is missing and what mends it.
        reason: String,
    },
    /// A node knows a higher epoch than the store: nothing is claimed for the shard. Loud.
    StoreBehind {
        /// The shard.
        shard: ShardId,
        /// The epoch of the record.
        record: Epoch,
        /// The epoch that a node knows.
        known: Epoch,
        /// The node.
        node: NodeId,
    },
    /// Something was dropped, with the reason.
    Dropped(&'static str),
}

/// What told that a node is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathCause {
    /// Its stream broke and its address refuses connections.
    Refused,
    /// Nothing was heard for the node timeout.
    Silent,
    /// A newer life of it registered.
    Restarted,
    /// It did not attend within the grace time of a new active coordinator.
    Absent,
}

/// Why an election began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionCause {
    /// The record names no leader.
    Leaderless,
    /// The leader's node is dead.
    Dead(DeathCause),
    /// The leader reports that it lost its quorum.
    LostQuorum,
    /// The leader's disk is stalled.
    DiskStalled,
    /// The named leader does not lead.
    NotLeading,
    /// A planned move: the leader has handed over.
    Moved(MoveCause),
}

/// Why a leadership is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveCause {
    /// Leaderships are spread anew.
    Rebalance,
    /// The leader's node is drained.
    Drained,
    /// The leader's node is about to stop.
    Leaving,
    /// The wall clock of the leader's node is off.
    ClockOff,
    /// An operator wants it.
    Operator,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activated { generation } => write!(f, "active, generation {generation}"),
            Self::Deactivated => write!(f, "not active"),
            Self::Joined { node, name } => write!(f, "node {name} joined as {node}"),
            Self::Returned { node } => write!(f, "{node} attends"),
            Self::ForeignDisk { node, found } => {
                write!(f, "{node} came with another disk: {found} is no voter")
            }
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Bootstrapped { shards, nodes } => {
                write!(f, "created {shards} shards on {} nodes", nodes.len())
            }
            Self::SettingsReplaced { version } => write!(f, "settings of version {version}"),
            Self::MoveBegun { name, to } => write!(f, "{name} moves to {to}"),
            Self::MoveEnded { name, refusal } => match refusal {
                None => write!(f, "{name} has moved"),
                Some(why) => write!(f, "{name} does not move: {why}"),
            },
            Self::ClockOff {
                node,
                name,
                ahead_ms,
            } => clock_off(f, *node, name, *ahead_ms),
            Self::ClockRight { node, name } => write!(f, "the clock of {name} ({node}) is right"),
            Self::StreamBroken { node } => write!(f, "stream of {node} broke"),
            Self::Died { node, cause } => write!(f, "{node} is dead: {cause:?}"),
            Self::Deferred { node, shard } => {
                write!(f, "{node} is silent, but heard by its followers of {shard}")
            }
            Self::Stalled => write!(f, "was paused or cut off; waits"),
            Self::ElectionStarted { shard, cause } => write!(f, "{shard} election: {cause:?}"),
            Self::Claimed { shard, claim } => write!(f, "{shard} claimed {claim}"),
            Self::Granted {
                shard,
                leader,
                claim,
            } => write!(f, "{shard} granted {claim} to {leader}"),
            Self::Serving {
                shard,
                leader,
                epoch,
                took_us,
            } => write!(
                f,
                "{shard} served by {leader} in {epoch} after {took_us} us"
            ),
            Self::Election { shard, event } => write!(f, "{shard} {event:?}"),
            Self::MoveStarted { shard, to, cause } => {
                write!(f, "{shard} is to be led by {to}: {cause:?}")
            }
            Self::MoveFailed { shard } => write!(f, "{shard} was not moved"),
            Self::Drained {
                node,
                is_drained: true,
            } => write!(f, "{node} is drained"),
            Self::Drained {
                node,
                is_drained: false,
            } => write!(f, "{node} may lead again"),
            Self::ElectionDropped { shard } => write!(f, "{shard} keeps its leader"),
            Self::ElectionFailed { shard, reason } => write!(f, "{shard} has no leader: {reason}"),
            Self::StoreBehind {
                shard,
                record,
                known,
                node,
            } => write!(f, "{shard}: {node} knows {known}, the store only {record}"),
            Self::Dropped(reason) => write!(f, "dropped: {reason}"),
        }
    }
}

fn clock_off(f: &mut fmt::Formatter<'_>, node: NodeId, name: &str, ahead_ms: i64) -> fmt::Result {
    let seconds = ahead_ms.unsigned_abs() / 1_000;
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    write!(
        f,
        "the wall clock of {name} ({node}) is {seconds} s {side} those of most nodes; it leads nothing while others can"
    )
}
