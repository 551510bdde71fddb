//! The harness of the end-to-end tests: starts the real programs on free ports of the loopback interface, kills and
//! restarts them, and waits for conditions. It knows the programs only from outside: command lines, environment,
//! the public API and what they log.

pub mod certificates;
pub mod cluster;
pub mod ensemble;
pub mod etcd;
pub mod eventually;
pub mod jms;
pub mod load;
pub mod process;
pub mod proxy;
pub mod strict;
pub mod zookeeper;
