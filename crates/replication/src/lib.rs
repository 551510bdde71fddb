//! Quorum replication and election of one shard, as pure machines.
//!
//! `Replica` is one storage node's copy of a shard; `Election` is the coordinator's side of
//! one claim. Both take facts in through `step` and give requests out as effects; neither knows of files, sockets,
//! threads, clocks or randomness, and payloads are opaque bytes. The protocol is `docs/replication.md`, normative;
//! a comment `// replication.md, Fence` cites the rule that the code beside it carries out.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod invariant;
pub mod quorum;

mod config;
mod effect;
mod election;
mod entry;
mod ids;
mod input;
mod limits;
mod message;
mod record;
mod replica;
mod tail;
mod writes;

pub use config::{Config, ElectionConfig};
pub use effect::{Act, Effect, Effects, Event, Write};
pub use election::{
    Election, ElectionEffect, ElectionEffects, ElectionEvent, ElectionInput, RequestId, Stuck,
    Swapped,
};
pub use entry::{Entry, EntryKind};
pub use ids::{
    Claim, ClaimId, DiskId, Duration, Epoch, Incarnation, Index, Member, NodeId, Nonce, Position,
    Round, ShardId, Stamp, Time, WriteId,
};
pub use input::{Input, Recovered};
pub use message::{FenceAnswer, Message, Order, Report};
pub use record::{RecordError, RecordVersion, ShardRecord};
pub use replica::{PeerStatus, Replica, RoleName};
