//! Gateway: client protocols, routing and failover.

pub mod session;
