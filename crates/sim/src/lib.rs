//! A whole cluster in one thread from one seed, and the checkers.
//!
//! The machines are the real ones; this crate owns only what they run on (time, network, disks, a coordination store), the
//! load, the faults and the judgement. One seed gives one run, to the last byte.

pub mod checker;
pub mod checkpoints;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod model;
pub mod network;
pub mod rng;
pub mod schedule;
pub mod store;
pub mod trace;
