//! Clients: what they are, how they find a gateway, and what becomes of them when it is gone.

mod consumer;
mod operator;
mod producer;
mod purges;
mod transactor;

use quorate_gateway::session::{CallId, Input};

pub(super) use self::consumer::{Consumer, Habits, Source, place_at};
pub(super) use self::operator::{Deed, Operator};
pub(super) use self::producer::{Commit, Ended, Load, Producer};
pub(super) use self::purges::Purge;
pub(super) use self::transactor::Transactor;
use crate::cluster::Cluster;
use crate::cluster::packet::{ClientEvent, Happening};

/// An operator does something at most so often.
const OPERATOR_GAP_US: u64 = 400_000;

/// One client with its connection.
#[derive(Debug)]
pub(super) struct Client {
    /// The gateway and the call, while connected.
    pub(super) connection: Option<(usize, CallId)>,
    pub(super) role: Role,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a run has a few dozen of them")]
pub(super) enum Role {
    Producer(Producer),
    Consumer(Consumer),
    Operator(Operator),
}

impl Cluster {
    /// A client does what it does next.
    pub(super) fn client_acts(&mut self, client: usize) {
        let is_calm = self.is_draining;
        let delay = match (&self.clients[client].role, is_calm) {
            (Role::Producer(_), _) => self.rng.between(1_000, self.options.send_gap_us),
            (Role::Consumer(_), true) => self.rng.between(500, 3_000),
            (Role::Consumer(_), false) => self.rng.between(500, self.options.settle_gap_us),
            (Role::Operator(_), true) => 100_000,
            (Role::Operator(_), false) => self.rng.between(50_000, OPERATOR_GAP_US),
        };
        self.schedule.after(delay, Happening::Client(client));
        if let Role::Operator(_) = &self.clients[client].role {
            return self.operator_acts(client);
        }
        if self.clients[client].connection.is_none() {
            return self.connect_client(client);
        }
        match &self.clients[client].role {
            Role::Producer(_) => self.produce(client),
            Role::Consumer(_) => self.consume(client),
            Role::Operator(_) => {}
        }
    }

    /// A gateway that takes a call, and the call.
    pub(super) fn call(
        &mut self,
        client: usize,
        gateway: Option<usize>,
    ) -> Option<(usize, CallId)> {
        let drawn = self.rng.index(self.gateways.len());
        let gateway = gateway.unwrap_or(drawn);
        let host = &mut self.gateways[gateway];
        if !host.body.is_up() || host.body.paused.is_some() {
            return None;
        }
        self.last_call += 1;
        let call = CallId(self.last_call);
        let process = host.process.as_mut()?;
        process.calls.insert(call, client);
        Some((gateway, call))
    }

    fn connect_client(&mut self, client: usize) {
        let Some((gateway, call)) = self.call(client, None) else {
            return;
        };
        self.clients[client].connection = Some((gateway, call));
        match &self.clients[client].role {
            Role::Producer(_) => self.connect_producer(client),
            Role::Consumer(_) => self.connect_consumer(client, gateway, call),
            Role::Operator(_) => {}
        }
    }

    /// A gateway told a client something.
    pub(super) fn client_hears(&mut self, client: usize, call: CallId, event: ClientEvent) {
        match &self.clients[client].role {
            Role::Operator(_) => return self.operator_hears(client, call, &event),
            Role::Consumer(consumer) if consumer.transacts_in(call) => {
                return self.transaction_hears(client, &event);
            }
            Role::Consumer(_) | Role::Producer(_) => {}
        }
        let Some((gateway, present)) = self.clients[client].connection else {
            return;
        };
        if present != call {
            return;
        }
        match event {
            ClientEvent::Confirmed {
                first,
                count,
                outcome,
            } => self.confirmed(client, first, count, outcome),
            ClientEvent::Opened { lost } => self.opened(client, &lost),
            ClientEvent::Delivered { shard, deliveries } => {
                let bytes = deliveries.iter().map(|one| one.message.len() as u64).sum();
                for delivery in deliveries {
                    self.delivered(client, shard, &delivery);
                }
                self.step_gateway(gateway, Input::Taken { call, bytes });
            }
            ClientEvent::Settled { token, outcomes } => self.settled(client, token, &outcomes),
            ClientEvent::Ended => self.disconnected(client, false),
            ClientEvent::Failed { .. } => self.disconnected(client, true),
            ClientEvent::Committed | ClientEvent::Done => {}
        }
    }

    /// The connection of a client is gone. After an error of the call the messages sent on it have lost their order.
    pub(super) fn disconnected(&mut self, client: usize, by_error: bool) {
        let now = self.now();
        let Some((gateway, call)) = self.clients[client].connection.take() else {
            return;
        };
        if let Role::Consumer(consumer) = &mut self.clients[client].role {
            consumer.gone_since = now;
            let name = consumer.history_name();
            self.handover.ended(name);
        }
        if let Some(process) = self.gateways[gateway].process.as_mut() {
            process.calls.remove(&call);
            self.step_gateway(gateway, Input::Dropped { call });
        }
        if let Role::Producer(producer) = &mut self.clients[client].role
            && by_error
        {
            producer.lose_order();
        }
    }

    /// A gateway's process died: its clients learn it.
    pub(super) fn gateway_died(&mut self, gateway: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client]
                .connection
                .is_some_and(|(at, _)| at == gateway)
            {
                self.disconnected(client, false);
            }
            match &mut self.clients[client].role {
                Role::Consumer(consumer) => consumer.gateway_died(gateway),
                Role::Operator(operator) => operator.gateway_died(gateway),
                Role::Producer(_) => {}
            }
        }
    }

    /// A client dies: its connection is gone, and what it held is forgotten. A producer comes back as itself, as one
    /// that keeps its numbers in a file would; a consumer as a new one.
    pub(super) fn kill_client(&mut self, client: usize) {
        self.counts.client_kills += 1;
        self.disconnected(client, false);
        self.kill_consumer(client);
    }
}
