//! What the controller is told. Inputs are facts; they come in any order that the outside produces.

use quorate_message::{DestinationName, Settings};
use quorate_replication::{DiskId, Incarnation, NodeId, RecordVersion, Report, ShardId};

use crate::controller::row::{Key, Stored};

/// One stream of a storage node or a gateway, numbered by the shell and never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Numbers the writes of one activation, so that an answer finds its question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

/// Numbers the redials of one activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Numbers the requests for other settings, by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SettingsRequest(pub u64);

/// Numbers the requests for moves, by the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveRequest(pub u64);

/// Numbers what operators want, by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorRequest(pub u64);

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A node is to lead nothing while others can, or may lead again.
    Drain {
        /// Its name.
        node: String,
        /// Whether it is to lead nothing.
        is_drained: bool,
    },
    /// A shard is to be led by a node, as planned.
    MoveLeader {
        /// The shard.
        shard: ShardId,
        /// The node's name.
        node: String,
    },
}

/// An input of `Controller`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// This process became the active coordinator. Everything before is forgotten.
    Activated {
        /// Rises with every activation of any coordinator of the cluster, durably. At least 1.
        generation: u64,
        /// Fresh randomness: every claim id and nonce of this activation is derived from it.
        seed: u64,
        /// All rows of the store, read after this process became the active one.
        rows: Vec<Stored>,
    },
    /// This process is not the active coordinator.
    Deactivated,
    /// A storage node opened a stream and says who it is.
    Registered {
        /// The stream.
        stream: StreamId,
        /// Who it is.
        registration: Registration,
    },
    /// A registered node's heartbeat.
    Heartbeat {
        /// The stream that it came on.
        stream: StreamId,
        /// What it says.
        heartbeat: Heartbeat,
    },
    /// A replica's report.
    Reported {
        /// The stream that it came on.
        stream: StreamId,
        /// The shard.
        shard: ShardId,
        /// What the replica says.
        report: Report,
    },
    /// A stream of a storage node ended or broke. Not sent for streams that the controller refused.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// What became of a redial.
    Redialed {
        /// The attempt that is answered.
        attempt: Attempt,
        /// What happened.
        outcome: RedialOutcome,
    },
    /// What became of a write: one outcome for each change, in order.
    Written {
        /// The write that is answered.
        write: WriteNumber,
        /// One for each change.
        outcomes: Vec<WriteOutcome>,
    },
    /// What became of a read.
    Read {
        /// The row that was asked for.
        key: Key,
        /// What was found.
        outcome: ReadOutcome,
    },
    /// A gateway wants the settings of destinations replaced.
    SettingsWanted {
        /// Repeated in the answer.
        request: SettingsRequest,
        /// The version that those in force must have.
        expected: u64,
        /// The rules; their version means nothing.
        settings: Settings,
    },
    /// A gateway wants a name to live in another shard.
    MoveWanted {
        /// Repeated in the answer.
        request: MoveRequest,
        /// The name.
        name: DestinationName,
        /// The shard that it is to go to.
        to: ShardId,
    },
    /// The leader of a shard says what became of a move from there. Repeated until the topology shows it.
    MoveReported(MoveReport),
    /// An operator wants something.
    Wished {
        /// Repeated in the answer.
        request: OperatorRequest,
        /// What.
        wish: Wish,
    },
    /// A gateway announced itself.
    GatewayAttended {
        /// Its stream.
        stream: StreamId,
        /// Its name.
        name: String,
        /// Where clients reach it.
        address: String,
    },
    /// A gateway's stream ended.
    GatewayLeft {
        /// The stream.
        stream: StreamId,
    },
    /// The clock moved to or past `next_deadline`.
    Elapsed,
}

/// Who a storage node says it is. Sizes are checked before it gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Where peers and gateways reach it, "host:port".
    pub address: String,
    /// Identity of its disk.
    pub disk: DiskId,
    /// Boot counter of that disk.
    pub boot: u64,
    /// This life.
    pub incarnation: Incarnation,
    /// Process number.
    pub pid: u32,
    /// The number that it got at an earlier registration, if its disk remembers one.
    pub node: Option<NodeId>,
    /// Failure zone; may be empty.
    pub zone: String,
    /// Share of leaderships.
    pub weight: u32,
    /// Version of its software.
    pub version: String,
    /// What its wall clock shows, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveReport {
    /// The shard that it was to leave.
    pub from: ShardId,
    /// The name.
    pub name: DestinationName,
    /// The move.
    pub number: u64,
    /// Why the shard does not let it go; none: it is gone.
    pub refusal: Option<String>,
}

/// A storage node's heartbeat: one for the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Repeated in the answer.
    pub number: u64,
    /// Whether its newest disk write completed in time.
    pub is_disk_healthy: bool,
    /// The nodes whose leaders it hears, by the rule of replication.md.
    pub hears: Vec<NodeId>,
    /// The shards that it leads.
    pub led: Vec<Led>,
    /// It is about to stop and wants to lead nothing.
    pub is_leaving: bool,
    /// Sum of the ends of its logs. For people; nothing is decided by it.
    pub position: u64,
    /// What its wall clock shows, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// A shard that a node says it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Led {
    /// The shard.
    pub shard: ShardId,
    /// The epoch that it leads.
    pub epoch: quorate_replication::Epoch,
    /// Its `NewEpoch` entry is committed.
    pub serving: bool,
}

/// What became of a redial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedialOutcome {
    /// A connection was made: something lives there.
    Accepted,
    /// The host answered that nothing listens: the process is gone.
    Refused,
    /// Neither; tells nothing.
    Unanswered,
}

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Made, durably; the row's new version.
    Stored(RecordVersion),
    /// Not made: the row has another version.
    Conflict,
    /// The store did not answer, or not in time: the change is made, will be made, or is not made.
    Unknown,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The row.
    Found(Stored),
    /// There is no such row.
    Absent,
    /// The store did not answer.
    Failed,
}
