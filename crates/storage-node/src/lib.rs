//! Storage node: replicates shards by quorum and runs their queues.
//!
//! `shard` thinks, the rest carries: `runtime` owns one task for each shard and carries out what the machine asks
//! for, `server` and `peer` are its doors, `coordinator` its ear. The simulator runs `shard` with parts of its own.

mod config;
mod convert;
mod coordinator;
mod frames;
mod leaving;
pub mod limits;
mod made_shards;
mod mailbox;
mod metrics;
pub mod node;
mod open;
mod peer;
mod routes;
mod runtime;
mod server;
mod sessions;
pub mod shard;
mod topology;

pub use config::Config;
