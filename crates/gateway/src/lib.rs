//! Gateway: client protocols, routing and failover.
