//! Gateway: client protocols, routing and failover.

pub mod limits;
pub mod session;
