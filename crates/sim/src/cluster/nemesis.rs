//! The faults: what strikes, when, and how everything is healed at the end.

use quorate_coordinator::controller::{Input, OperatorRequest, Wish};
use quorate_replication::ShardId;

use crate::cluster::Cluster;
use crate::cluster::host::Power;
use crate::cluster::node::name_of;
use crate::cluster::packet::Happening;
use crate::network::{Host, Weather};

/// A cluster that does not work by then is struck all the same.
const BOOT_US: u64 = 20_000_000;

/// A fault that can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillNode,
    PowerOffNode,
    PowerOffAll,
    Fuse,
    KillGateway,
    KillCoordinator,
    PauseNode,
    PauseGateway,
    PauseCoordinator,
    CutNode,
    CutOneWay,
    CutBridge,
    StoreOut,
    DiskFull,
    FailSync,
    Rot,
    ClockJump,
    KillClient,
    MoveLeader,
    Drain,
}

/// Faults with their weights.
const FAULTS: [(Fault, u64); 20] = [
    (Fault::KillNode, 10),
    (Fault::PowerOffNode, 8),
    (Fault::PowerOffAll, 4),
    (Fault::Fuse, 8),
    (Fault::KillGateway, 5),
    (Fault::KillCoordinator, 4),
    (Fault::PauseNode, 6),
    (Fault::PauseGateway, 3),
    (Fault::PauseCoordinator, 3),
    (Fault::CutNode, 6),
    (Fault::CutOneWay, 5),
    (Fault::CutBridge, 4),
    (Fault::StoreOut, 4),
    (Fault::DiskFull, 4),
    (Fault::FailSync, 4),
    (Fault::Rot, 6),
    (Fault::ClockJump, 3),
    (Fault::KillClient, 6),
    (Fault::MoveLeader, 12),
    (Fault::Drain, 4),
];

impl Cluster {
    /// One more fault, or the end of the faults.
    pub(crate) fn strike(&mut self) {
        if self.counts.strikes == 0 && self.confirms == 0 && self.now() < BOOT_US {
            // The first fault waits until the cluster works.
            return self.schedule.after(self.options.calm_us, Happening::Strike);
        }
        if self.options.strikes == 0 {
            return self.heal_all();
        }
        if self.counts.strikes == 0 {
            let weather = self.options.weather;
            self.network.set_weather(weather);
        }
        self.options.strikes -= 1;
        self.counts.strikes += 1;
        let drawn = self.draw();
        // After a long time of idleness the segments are gone: a replica that is built anew needs a checkpoint.
        let is_last = self.options.is_long && self.options.strikes == 0;
        let fault = if is_last && self.options.rots {
            Fault::Rot
        } else {
            drawn
        };
        self.say(format_args!("strike: {fault:?}"));
        self.carry_out_fault(fault);
        let mut gap = self.rng.between(10_000, self.options.strike_gap_us);
        if self.options.is_long && self.options.strikes == 1 {
            // Long enough for checkpoints of idle shards, and for segments to be dropped.
            gap += 40_000_000;
        }
        self.schedule.after(gap, Happening::Strike);
    }

    fn draw(&mut self) -> Fault {
        if self.options.is_planned {
            let is_drain = self.rng.chance(1, 5);
            return if is_drain {
                Fault::Drain
            } else {
                Fault::MoveLeader
            };
        }
        let all = FAULTS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.below(all);
        for (fault, weight) in FAULTS {
            if left < weight {
                return fault;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }

    fn carry_out_fault(&mut self, fault: Fault) {
        let node = self.rng.index(self.nodes.len());
        let span = self.rng.between(50_000, 4_000_000);
        match fault {
            Fault::KillNode => self.kill(Host::Node(node), span),
            Fault::PowerOffNode => self.power_off_for(node, span),
            Fault::PowerOffAll => self.power_off_all(),
            Fault::Fuse => {
                let operations = self.rng.between(0, 40);
                self.nodes[node]
                    .disk
                    .light_fuse(u32::try_from(operations).expect("small"));
            }
            Fault::KillGateway => {
                let gateway = self.rng.index(self.options.gateways);
                self.kill(Host::Gateway(gateway), span);
            }
            Fault::KillCoordinator => {
                let coordinator = self.rng.index(self.options.coordinators);
                self.kill(Host::Coordinator(coordinator), span);
            }
            Fault::PauseNode => self.pause(Host::Node(node), span),
            Fault::PauseGateway => {
                let gateway = self.rng.index(self.options.gateways);
                self.pause(Host::Gateway(gateway), span);
            }
            Fault::PauseCoordinator => {
                let coordinator = self.rng.index(self.options.coordinators);
                self.pause(Host::Coordinator(coordinator), span);
            }
            Fault::CutNode | Fault::CutOneWay | Fault::CutBridge => self.cut(fault, node, span),
            Fault::StoreOut => self.store_out(span),
            Fault::DiskFull => {
                let free = self.rng.below(64 << 10);
                self.fill_disk(node, free, span);
            }
            Fault::FailSync => self.nodes[node].disk.fail_sync(),
            Fault::Rot => self.rot(node),
            Fault::ClockJump => {
                // What waits for its time waits as long as the clock is ahead: not for hours where a run looks at it.
                let most = if self.options.scenes.is_empty() {
                    3_600_000
                } else {
                    2_000
                };
                let by = i64::try_from(self.rng.below(2 * most)).expect("small");
                self.jump_clock(node, by - i64::try_from(most).expect("small"));
            }
            Fault::KillClient => {
                let client = self.rng.index(self.clients.len());
                self.kill_client(client);
            }
            Fault::MoveLeader => self.move_leader(node),
            Fault::Drain => {
                let is_drained = self.rng.chance(2, 3);
                self.drain(node, is_drained);
            }
        }
    }

    /// An operator wants a node to lead a shard.
    pub(crate) fn move_leader(&mut self, node: usize) {
        let shard = self.rng.between(1, u64::from(self.options.shards));
        let shard = ShardId(u32::try_from(shard).expect("small"));
        let node = name_of(node);
        self.wish(Wish::MoveLeader { shard, node });
    }

    /// An operator wants a node to lead nothing, or lets it lead again.
    fn drain(&mut self, node: usize, is_drained: bool) {
        let node = name_of(node);
        self.wish(Wish::Drain { node, is_drained });
    }

    fn wish(&mut self, wish: Wish) {
        let active = self.coordinators.iter().position(|host| {
            let process = host.process.as_ref();
            host.body.is_up() && process.is_some_and(|process| process.generation > 0)
        });
        if let Some(active) = active {
            self.counts.wishes += 1;
            let request = OperatorRequest(self.counts.wishes);
            self.step_coordinator(active, Input::Wished { request, wish });
        }
    }

    fn cut(&mut self, fault: Fault, node: usize, span: u64) {
        let hosts = self.hosts();
        let one = if self.rng.chance(1, 5) {
            let at = self.rng.index(hosts.len());
            hosts[at]
        } else {
            Host::Node(node)
        };
        match fault {
            Fault::CutOneWay => {
                let is_deaf = self.rng.chance(1, 2);
                for other in hosts {
                    if is_deaf {
                        self.network.cut(other, one);
                    } else {
                        self.network.cut(one, other);
                    }
                }
            }
            Fault::CutBridge => {
                // Two nodes do not hear each other; everybody else hears both.
                let other = Host::Node((node + 1) % self.nodes.len());
                self.network.cut(Host::Node(node), other);
                self.network.cut(other, Host::Node(node));
            }
            _ => {
                for other in hosts {
                    self.network.cut(one, other);
                    self.network.cut(other, one);
                }
            }
        }
        self.after_cut(span);
    }

    fn heal_all(&mut self) {
        self.say(format_args!("everything heals"));
        self.network.set_weather(Weather {
            delay_max: 1_000,
            ..Weather::CALM
        });
        self.is_draining = true;
        self.healed_at = self.now();
        self.store.is_out = false;
        self.heal_cuts(self.cuts);
        self.options.store_unknown = 0;
        self.options.store_slow = 0;
        for node in &self.nodes {
            node.disk.leave_free(None);
            node.disk.quench_fuse();
            node.disk.calm();
        }
        for host in self.hosts() {
            let pause = self.body_of(host).pauses;
            if self.body_of(host).paused.is_some() {
                self.resume(host, pause);
            }
            let delay = self.rng.between(1_000, 200_000);
            self.schedule.after(delay, Happening::Start(host));
        }
    }

    fn kill(&mut self, host: Host, span: u64) {
        if !self.body_of(host).is_up() {
            return;
        }
        match host {
            Host::Node(_) => self.counts.node_kills += 1,
            Host::Gateway(_) => self.counts.gateway_kills += 1,
            Host::Coordinator(_) => self.counts.coordinator_kills += 1,
        }
        self.stop(host, Power::Killed);
        self.schedule.after(span, Happening::Start(host));
    }

    fn power_off_for(&mut self, node: usize, span: u64) {
        if self.nodes[node].body.is_up() {
            self.counts.power_cuts += 1;
            self.power_off(node);
            self.schedule
                .after(span, Happening::Start(Host::Node(node)));
        }
    }

    fn power_off_all(&mut self) {
        self.counts.blackouts += 1;
        for node in 0..self.nodes.len() {
            let span = self.rng.between(50_000, 1_500_000);
            self.power_off_for(node, span);
        }
    }

    fn store_out(&mut self, span: u64) {
        self.counts.store_outages += 1;
        self.store.is_out = true;
        self.schedule.after(span, Happening::StoreBack);
    }

    fn fill_disk(&mut self, node: usize, free: u64, span: u64) {
        self.nodes[node].disk.leave_free(Some(free));
        self.schedule.after(span, Happening::SpaceBack(node));
    }

    /// Rot strikes one node of a run only: two damaged copies of three may be the end of an entry.
    fn rot(&mut self, node: usize) {
        if !self.options.rots || self.judge.may_be_damaged.is_some_and(|other| other != node) {
            return;
        }
        self.judge.may_be_damaged = Some(node);
        self.kill(Host::Node(node), 100_000);
        self.nodes[node].disk.rot("/log/");
    }

    fn jump_clock(&mut self, node: usize, by_ms: i64) {
        self.counts.clock_jumps += 1;
        self.nodes[node].body.clock.jump(by_ms);
    }
}
