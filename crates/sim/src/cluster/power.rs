//! Lives and deaths of processes and machines, and breaking streams.

use crate::cluster::Cluster;
use crate::cluster::host::Power;
use crate::cluster::packet::Happening;
use crate::network::{Host, Side, StreamNumber};

/// How long the lock of a dead coordinator lasts at most.
const LOCK_US: u64 = 1_500_000;

impl Cluster {
    /// Starts a host's process, if it does not run.
    pub(super) fn start(&mut self, host: Host) {
        let body = self.body_mut(host);
        if body.is_up() {
            return;
        }
        body.power = Power::Up;
        body.life += 1;
        body.paused = None;
        match host {
            Host::Node(node) => self.start_node(node),
            Host::Gateway(gateway) => self.start_gateway(gateway),
            Host::Coordinator(coordinator) => self.start_coordinator(coordinator),
        }
    }

    /// Stops a host's process: killed, or with its machine.
    pub(super) fn stop(&mut self, host: Host, power: Power) {
        let body = self.body_mut(host);
        if !body.is_up() {
            return;
        }
        body.power = power;
        body.paused = None;
        let life = body.life;
        self.say(format_args!("{host:?} stops: {power:?}"));
        let notice = match power {
            Power::Off => self.rng.between(300_000, 2_000_000),
            Power::Killed | Power::Up => self.rng.between(50, 1_000),
        };
        for (stream, side) in self.network.streams_of(host) {
            self.network.close(stream, side);
            self.schedule
                .after(notice, Happening::Closed(stream, side.other()));
        }
        match host {
            Host::Node(node) => {
                self.nodes[node].process = None;
                self.handover.node_ends(node);
            }
            Host::Gateway(gateway) => {
                self.gateways[gateway].process = None;
                self.gateway_died(gateway);
            }
            Host::Coordinator(coordinator) => {
                self.coordinators[coordinator].process = None;
                let delay = self.rng.between(10_000, LOCK_US);
                self.schedule
                    .after(delay, Happening::Lapse(coordinator, life));
            }
        }
    }

    /// Cuts the power of a node.
    pub(super) fn power_off(&mut self, node: usize) {
        self.stop(Host::Node(node), Power::Off);
        let mut rng = self.rng.fork();
        self.nodes[node].disk.cut_power();
        self.nodes[node].checkpoints.cut_power(&mut rng);
    }

    /// The disk died under a node: the machine is reset, what was not synced is lost in part, and it starts again.
    pub(super) fn crash_by_disk(&mut self, node: usize) {
        if !self.nodes[node].body.is_up() {
            return;
        }
        self.counts.disk_crashes += 1;
        self.power_off(node);
        let delay = self.rng.between(100_000, 2_000_000);
        self.schedule
            .after(delay, Happening::Start(Host::Node(node)));
    }

    /// An operator restarts a node that lives the life in which it complained.
    pub(super) fn operate(&mut self, node: usize, life: u64) {
        if self.nodes[node].body.lives(life) {
            self.counts.operator_restarts += 1;
            self.stop(Host::Node(node), Power::Killed);
            self.schedule
                .after(100_000, Happening::Start(Host::Node(node)));
        }
    }

    /// A node that does not start although its disk works: only rot explains that.
    pub(super) fn node_cannot_start(&mut self, node: usize, why: &str) {
        if self.judge.may_be_damaged != Some(node) {
            self.fail(format!("node {node} cannot start on a sound disk: {why}"));
        }
    }

    /// Pauses a host: what happens to it waits.
    pub(super) fn pause(&mut self, host: Host, span_us: u64) {
        let body = self.body_mut(host);
        if !body.is_up() || body.paused.is_some() {
            return;
        }
        body.paused = Some(Vec::new());
        body.pauses += 1;
        let (pause, life) = (body.pauses, body.life);
        self.counts.pauses += 1;
        self.say(format_args!("{host:?} pauses for {span_us} us"));
        self.schedule.after(span_us, Happening::Resume(host, pause));
        if let Host::Coordinator(coordinator) = host
            && span_us > LOCK_US
        {
            self.schedule
                .after(LOCK_US, Happening::Lapse(coordinator, life));
        }
    }

    pub(super) fn resume(&mut self, host: Host, pause: u64) {
        let body = self.body_mut(host);
        if body.pauses != pause {
            return;
        }
        let waiting = body.paused.take().unwrap_or_default();
        for happening in waiting {
            self.schedule.after(0, happening);
        }
    }

    /// The lock of a coordinator lapses, unless it lives and holds it.
    pub(super) fn lapse(&mut self, coordinator: usize, life: u64) {
        let body = &self.coordinators[coordinator].body;
        if !body.lives(life) || body.paused.is_some() {
            self.store.lapse(coordinator);
        }
    }

    /// Cuts are in force: the streams that they stall break after a while, unless they heal before.
    pub(super) fn after_cut(&mut self, span_us: u64) {
        self.cuts += 1;
        self.counts.cuts += 1;
        self.schedule.after(span_us, Happening::HealCuts(self.cuts));
        for stream in self.network.stalled_streams() {
            let delay = self.rng.between(100_000, 3_000_000);
            self.schedule.after(delay, Happening::Stalled(stream));
        }
    }

    pub(super) fn break_if_stalled(&mut self, stream: StreamNumber) {
        if self.network.stalled_streams().contains(&stream) {
            self.network.count_broken();
            for side in [Side::Opener, Side::Accepter] {
                let delay = self.rng.below(500_000);
                self.schedule.after(delay, Happening::Closed(stream, side));
            }
        }
    }

    /// Heals the cuts, if no newer ones came.
    pub(super) fn heal_cuts(&mut self, cut: u64) {
        if cut == self.cuts {
            self.say(format_args!("cuts heal"));
            for (stream, side, packet) in self.network.heal() {
                self.send(stream, side, packet);
            }
        }
    }

    /// The time that a disk operation takes.
    pub(super) fn disk_delay(&mut self, _node: usize) -> u64 {
        let usual = self.rng.between(20, self.options.disk_us);
        if !self.is_draining && self.rng.chance(self.options.disk_stalls, 1_000) {
            self.counts.disk_stalls += 1;
            return usual + self.rng.short(3_000_000);
        }
        usual
    }
}
