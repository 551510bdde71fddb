//! Gateways: the real session machine with fake links and a fake shell.

use std::collections::BTreeMap;

use quorate_gateway::session::{
    CallId, Command, Config, Core, Effect, Failure, Input, LinkId, NodeId, Outcome, ShardId, Time,
};
use quorate_message::{GatewayId, ProducerId};

use crate::cluster::Cluster;
use crate::cluster::convert::{control, node_event, shard_of, topology_of};
use crate::cluster::host::Body;
use crate::cluster::node::{TICK_US, place_of};
use crate::cluster::packet::{ClientEvent, Happening, Lane, Packet};
use crate::network::{Host, Side, StreamNumber};

/// Time that a gateway keeps trying before it fails a call; short, so that runs see it.
const DEADLINE_US: u64 = 8_000_000;
/// A lost link is opened again after this.
const RELINK_US: u64 = 20_000;

/// A gateway's machine.
#[derive(Debug)]
pub(super) struct GatewayHost {
    pub(super) body: Body,
    pub(super) process: Option<GatewayProcess>,
}

/// A running gateway.
#[derive(Debug)]
pub(super) struct GatewayProcess {
    pub(super) incarnation: GatewayId,
    pub(super) core: Core,
    links: BTreeMap<NodeId, Link>,
    link_of: BTreeMap<StreamNumber, (NodeId, LinkId)>,
    last_link: u64,
    watched: Option<StreamNumber>,
    /// The client of each call.
    pub(super) calls: BTreeMap<CallId, usize>,
    due: Option<u64>,
    is_drained: bool,
}

#[derive(Debug)]
struct Link {
    place: usize,
    open: Option<(LinkId, StreamNumber)>,
}

impl Cluster {
    /// Starts a gateway's process.
    pub(super) fn start_gateway(&mut self, gateway: usize) {
        let incarnation = GatewayId(self.random_id());
        let config = Config {
            incarnation,
            producer: ProducerId(self.random_id()),
            transient_producer: ProducerId(self.random_id()),
            deadline_micros: DEADLINE_US,
            memory_bytes: 64 << 20,
        };
        let host = &mut self.gateways[gateway];
        host.process = Some(GatewayProcess {
            incarnation,
            core: Core::new(config),
            links: BTreeMap::new(),
            link_of: BTreeMap::new(),
            last_link: 0,
            watched: None,
            calls: BTreeMap::new(),
            due: None,
            is_drained: true,
        });
        let life = host.body.life;
        self.schedule
            .after(1_000, Happening::Tick(Host::Gateway(gateway), life));
    }

    /// Tries to watch the topology if nobody shows it.
    pub(super) fn gateway_tick(&mut self, gateway: usize) {
        let host = Host::Gateway(gateway);
        let life = self.gateways[gateway].body.life;
        self.schedule.after(TICK_US, Happening::Tick(host, life));
        let process = self.gateways[gateway]
            .process
            .as_ref()
            .expect("the process runs");
        if process.watched.is_some() {
            return;
        }
        let coordinator = self.rng.index(self.coordinators.len());
        if let Some(stream) = self.connect(host, Host::Coordinator(coordinator)) {
            let process = self.gateways[gateway]
                .process
                .as_mut()
                .expect("the process runs");
            process.watched = Some(stream);
            self.send(stream, Side::Accepter, Packet::Announce(gateway));
        }
    }

    pub(super) fn gateway_arrived(&mut self, gateway: usize, stream: StreamNumber, packet: Packet) {
        match packet {
            Packet::Topology(topology) => {
                let input = Input::Topology(topology_of(&topology));
                self.step_gateway(gateway, input);
            }
            Packet::Event(shard, event) => {
                let process = self.gateways[gateway]
                    .process
                    .as_ref()
                    .expect("the process runs");
                if let Some((node, link)) = process.link_of.get(&stream).copied() {
                    let input = Input::FromNode {
                        node,
                        link,
                        shard: ShardId(shard.0),
                        event: node_event(event),
                    };
                    self.step_gateway(gateway, input);
                }
            }
            Packet::Register(_)
            | Packet::Heartbeat(_)
            | Packet::Report(..)
            | Packet::MoveReport(_)
            | Packet::Announce(_)
            | Packet::Registered(_)
            | Packet::ClockJudged(_)
            | Packet::Order(..)
            | Packet::Hello(_)
            | Packet::Submit(..)
            | Packet::Ask(..) => unreachable!("nobody sends that to a gateway"),
        }
    }

    pub(super) fn gateway_closed(&mut self, gateway: usize, stream: StreamNumber) {
        let process = self.gateways[gateway]
            .process
            .as_mut()
            .expect("the process runs");
        if process.watched == Some(stream) {
            process.watched = None;
        }
        if let Some((node, link)) = process.link_of.remove(&stream) {
            if let Some(known) = process.links.get_mut(&node)
                && known.open == Some((link, stream))
            {
                known.open = None;
                let life = self.gateways[gateway].body.life;
                self.schedule
                    .after(RELINK_US, Happening::Link(gateway, life, node));
            }
            self.step_gateway(gateway, Input::LinkLost { node, link });
        }
    }

    /// Opens the streams to a node that the machine asked for.
    pub(super) fn link(&mut self, gateway: usize, node: NodeId) {
        let life = self.gateways[gateway].body.life;
        let process = self.gateways[gateway]
            .process
            .as_ref()
            .expect("the process runs");
        let Some(link) = process.links.get(&node).filter(|link| link.open.is_none()) else {
            return;
        };
        let place = link.place;
        let Some(stream) = self.connect(Host::Gateway(gateway), Host::Node(place)) else {
            self.schedule
                .after(RELINK_US, Happening::Link(gateway, life, node));
            return;
        };
        let process = self.gateways[gateway]
            .process
            .as_mut()
            .expect("the process runs");
        process.last_link += 1;
        let link = LinkId(process.last_link);
        process.links.insert(
            node,
            Link {
                place,
                open: Some((link, stream)),
            },
        );
        process.link_of.insert(stream, (node, link));
        let incarnation = process.incarnation;
        self.send(stream, Side::Accepter, Packet::Hello(incarnation));
        self.step_gateway(gateway, Input::Linked { node, link });
    }

    /// Steps the machine; what it gathers goes out when nothing else happens at this moment.
    pub(super) fn step_gateway(&mut self, gateway: usize, input: Input) {
        let now = self.gateway_time(gateway);
        let Some(process) = self.gateways[gateway].process.as_mut() else {
            return;
        };
        let is_flush = matches!(input, Input::Drained | Input::Elapsed);
        let mut effects = Vec::new();
        process.core.step(now, input, &mut effects);
        if is_flush {
            process.is_drained = true;
        } else if std::mem::replace(&mut process.is_drained, false) {
            // Whatever arrives until then goes into the same batches.
            let delay = self.rng.between(1, 200);
            let life = self.gateways[gateway].body.life;
            self.schedule
                .after(delay, Happening::Due(Host::Gateway(gateway), life));
        }
        self.trace
            .mix(&[100 + gateway as u64, now.0, effects.len() as u64]);
        for effect in effects {
            self.carry_out_gateway(gateway, effect);
        }
        self.set_gateway_due(gateway);
    }

    pub(super) fn gateway_due(&mut self, gateway: usize) {
        let now = self.gateway_time(gateway);
        let process = self.gateways[gateway]
            .process
            .as_mut()
            .expect("the process runs");
        process.due = None;
        if !process.is_drained {
            self.step_gateway(gateway, Input::Drained);
        } else if process
            .core
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.step_gateway(gateway, Input::Elapsed);
        } else {
            self.set_gateway_due(gateway);
        }
    }

    fn set_gateway_due(&mut self, gateway: usize) {
        let now = self.now();
        let host = &mut self.gateways[gateway];
        let Some(process) = host.process.as_mut() else {
            return;
        };
        let Some(deadline) = process.core.next_deadline() else {
            return;
        };
        let moment = host
            .body
            .clock
            .moment_of(quorate_replication::Time(deadline.0))
            .max(now + 1);
        if process.due.is_none_or(|due| due <= now || due > moment) {
            process.due = Some(moment);
            let life = host.body.life;
            self.schedule
                .at(moment, Happening::Due(Host::Gateway(gateway), life));
        }
    }

    fn gateway_time(&self, gateway: usize) -> Time {
        Time(self.gateways[gateway].body.clock.time(self.now()).0)
    }

    #[expect(clippy::too_many_lines, reason = "one arm per effect, nothing else")]
    fn carry_out_gateway(&mut self, gateway: usize, effect: Effect) {
        match effect {
            Effect::Link { node, address } => self.ask_link(gateway, node, &address),
            Effect::Unlink { node } => {
                let process = self.gateways[gateway]
                    .process
                    .as_mut()
                    .expect("the process runs");
                let link = process.links.remove(&node);
                if let Some((_, stream)) = link.and_then(|link| link.open) {
                    process.link_of.remove(&stream);
                    self.hang_up(stream, Side::Opener);
                }
            }
            Effect::Submit {
                node,
                link,
                shard,
                number,
                previous,
                batch,
                trace: _,
            } => {
                let numbers = (number.0, previous.map(|previous| previous.0));
                let packet = Packet::Submit(shard_of(shard), numbers, batch, Lane::Payload);
                self.send_link(gateway, node, link, packet);
            }
            Effect::Control {
                node,
                link,
                shard,
                command,
            } => {
                if !matches!(command, Command::Credit { .. } | Command::Submit { .. }) {
                    self.say(format_args!(
                        "gateway {gateway} {shard} to {node}: {command:?}"
                    ));
                }
                let packet = control(shard, command);
                self.send_link(gateway, node, link, packet);
            }
            Effect::Confirmed {
                call,
                first,
                count,
                outcome,
                cause: _,
            } => {
                let event = ClientEvent::Confirmed {
                    first,
                    count,
                    outcome,
                };
                self.tell_client(gateway, call, event);
            }
            Effect::Opened { call, lost, .. } => {
                self.tell_client(gateway, call, ClientEvent::Opened { lost });
            }
            Effect::Delivered {
                call,
                shard,
                deliveries,
            } => self.tell_client(gateway, call, ClientEvent::Delivered { shard, deliveries }),
            Effect::Settled {
                call,
                token,
                outcomes,
            } => self.tell_client(gateway, call, ClientEvent::Settled { token, outcomes }),
            Effect::Ended { call } => self.tell_client(gateway, call, ClientEvent::Ended),
            Effect::Failed { call, failure } => self.call_failed(gateway, call, &failure),
            Effect::Note(note) => self.say(format_args!("gateway {gateway}: {note:?}")),
            Effect::Committed { call } => self.tell_client(gateway, call, ClientEvent::Committed),
            Effect::Purged { call, .. } | Effect::Unsubscribed { call, .. } => {
                self.tell_client(gateway, call, ClientEvent::Done);
            }
            Effect::Wrong {
                call,
                ordinal,
                reason,
            } => self.fail(format!(
                "gateway {gateway} {call}: message {ordinal} is wrong: {reason}"
            )),
            Effect::HeldBack { .. }
            | Effect::Pause { .. }
            | Effect::Resume { .. }
            | Effect::Left => {}
        }
    }

    fn call_failed(&mut self, gateway: usize, call: CallId, failure: &Failure) {
        self.counts.failed_calls += 1;
        self.say(format_args!("gateway {gateway} {call}: {failure:?}"));
        // What is in doubt, or did not get an answer, may have happened.
        let is_refused = match failure {
            Failure::NotCommitted { outcome, .. } => *outcome != Outcome::InDoubt,
            Failure::TransactionTooLarge => true,
            Failure::Deadline { .. }
            | Failure::NoTopology
            | Failure::OutOfMemory { .. }
            | Failure::Malformed { .. }
            | Failure::AttachRefused { .. }
            | Failure::TakenOver
            | Failure::TooManyHeld { .. }
            | Failure::ForeignPosition { .. }
            | Failure::HeldBack { .. }
            | Failure::Hangs { .. }
            | Failure::Refused { .. } => false,
        };
        self.tell_client(gateway, call, ClientEvent::Failed { is_refused });
    }

    fn ask_link(&mut self, gateway: usize, node: NodeId, address: &str) {
        let Some(place) = place_of(address) else {
            return self.fail(format!("gateway {gateway} was given the address {address}"));
        };
        let life = self.gateways[gateway].body.life;
        let process = self.gateways[gateway]
            .process
            .as_mut()
            .expect("the process runs");
        let known = process
            .links
            .entry(node)
            .or_insert(Link { place, open: None });
        known.place = place;
        if known.open.is_none() {
            self.schedule
                .after(100, Happening::Link(gateway, life, node));
        }
    }

    fn send_link(&mut self, gateway: usize, node: NodeId, link: LinkId, packet: Packet) {
        let process = self.gateways[gateway]
            .process
            .as_ref()
            .expect("the process runs");
        let open = process.links.get(&node).and_then(|known| known.open);
        if let Some((_, stream)) = open.filter(|(present, _)| *present == link) {
            self.send(stream, Side::Accepter, packet);
        }
    }

    fn tell_client(&mut self, gateway: usize, call: CallId, event: ClientEvent) {
        let process = self.gateways[gateway]
            .process
            .as_ref()
            .expect("the process runs");
        if let Some(client) = process.calls.get(&call).copied() {
            // In order: nothing overtakes on a connection.
            self.schedule
                .after(0, Happening::ToClient(client, call, event));
        }
    }
}
