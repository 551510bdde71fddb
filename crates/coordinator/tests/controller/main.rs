//! The controller against a scripted world: a store, nodes with simple replicas, a network and a clock, all in memory.

mod moves;
mod placing;
mod properties;
mod scenarios;
mod settings;
mod world;
