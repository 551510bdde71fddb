//! Rust client with failover addresses.
