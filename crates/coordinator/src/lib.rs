//! The coordinator: knows which nodes live, gives every shard its leader, tells everybody. It never touches a message.

pub mod controller;
pub mod limits;
pub mod store;
