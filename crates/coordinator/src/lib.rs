//! The coordinator: knows which nodes live, gives every shard its leader, tells everybody. It never touches a message.
//!
//! `controller` decides and is pure; `store` keeps what was decided; the rest is the shell around them.

pub mod config;
pub mod controller;
mod convert;
mod events;
pub mod limits;
mod members;
mod metrics;
mod outside;
pub mod process;
mod rows;
mod server;
mod shell;
pub mod store;
pub mod transfer;
