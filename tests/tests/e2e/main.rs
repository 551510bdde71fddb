//! End to end: real processes, real clients, real kills. One binary, because linking is the cost.

mod clients;
mod coordinators;
mod dead_letters;
mod dev;
mod etcd;
mod failover;
mod hostile;
mod jms;
mod limits;
mod moves;
mod moving_topics;
mod placement;
mod selecting;
mod services;
mod stores;
mod tool;
mod topics;
mod traces;
mod transactions;
mod transfers;
mod zookeeper;
