//! Gateway: client protocols, routing and failover.
//!
//! Stateless: what it holds is sessions, credit and retries, all of it in [`session::Core`]. Around that machine are
//! one task that owns it (`engine`), the links to the storage nodes (`upstream`), the watch on the coordinators
//! (`topology`), and the services that clients call (`messaging`, `admin`).

mod accounts;
mod admin;
mod browse;
mod calls;
pub mod config;
mod convert;
mod coordinators;
mod dead_letters;
mod engine;
mod internal;
pub mod limits;
mod listener;
mod mailbox;
mod messaging;
mod metrics;
mod nodes;
mod openwire;
mod operators;
mod placement;
mod rules;
mod scheduled;
pub mod server;
pub mod session;
mod source;
mod status;
mod topology;
mod transact;
mod transfers;
mod upstream;
