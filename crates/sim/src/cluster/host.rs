//! What every host has: a life, a clock, and the states that faults put it in.

use crate::clock::HostClock;
use crate::cluster::packet::Happening;

/// Whether a host's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// It runs.
    Up,
    /// The process is dead, the machine lives: connections are refused.
    Killed,
    /// The machine is off: nothing answers.
    Off,
}

/// The part of a host that is the same for nodes, gateways and coordinators.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) clock: HostClock,
    pub(super) power: Power,
    /// Counts the starts of the process.
    pub(super) life: u64,
    /// Paused: what happens to it waits here.
    pub(super) paused: Option<Vec<Happening>>,
    /// Names the newest pause.
    pub(super) pauses: u64,
}

impl Body {
    pub(super) fn new(clock: HostClock) -> Self {
        Self {
            clock,
            power: Power::Killed,
            life: 0,
            paused: None,
            pauses: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.power == Power::Up
    }

    /// Whether this life is the present one and runs.
    pub(super) fn lives(&self, life: u64) -> bool {
        self.is_up() && self.life == life
    }
}
