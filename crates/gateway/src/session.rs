//! The gateway's thinking: clients' calls on one side, the leaders of the shards on the other, and between them
//! batches, retries, credit and what consumers hold.
//!
//! [`Core`] is a pure machine. It promises: what a producer sends under one name reaches a shard in its order, is
//! sent again as the same bytes until it is answered, and is confirmed once; a consumer never gets a message twice
//! from leaders that follow one another while it holds that message; nothing grows without a bound. It knows no
//! sockets, no gRPC and no clock: everything comes in as an [`Input`], everything goes out as an [`Effect`].

mod backlog;
mod cluster;
mod confirming;
mod consumer;
mod consuming;
mod copying;
mod core;
mod departing;
mod diverting;
mod effect;
mod ending;
mod following;
mod forerunners;
mod gone;
mod group;
mod hanging;
mod holding_back;
mod ids;
mod input;
mod lane;
mod publishing;
mod reporting;
mod shard;
mod subscribing;
mod transacting;
mod transaction;
mod unopened;
mod unrouted;

pub use self::core::{Config, Core};
pub use effect::{Cause, Command, Effect, Failure, Leaving, Note};
pub use ids::{BatchNumber, CallId, Epoch, Generation, LinkId, NodeId, ShardId, Time};
pub use input::{
    Credit, Input, NodeEvent, OpenConsumer, Outcomes, Publication, Removal, Sent, StoredDelivery,
    Topology, TopologyNode, TopologyShard, TransactedSettlement, Whose,
};
pub use quorate_message::Outcome;
pub(crate) use transacting::may_transact;

#[cfg(test)]
mod tests;
