//! Consumers that settle in transactions, together with messages that they send, and commit again what they do not know
//! the outcome of.

use quorate_gateway::session::{CallId, Input, Publication, TransactedSettlement};
use quorate_message::{Destination, ProducerId, Settlement, TransactionId};

use super::Role;
use super::consumer::Held;
use super::producer::{Commit, Ended, Sent};
use crate::checker::history::{self, Record, Sending};
use crate::cluster::Cluster;
use crate::cluster::content::{Label, content, name};
use crate::cluster::packet::ClientEvent;
use crate::schedule::Moment;

/// The part of a consumer that transacts.
#[derive(Debug)]
pub(in crate::cluster) struct Transactor {
    name: String,
    origin: ProducerId,
    /// Where its messages go.
    queues: Vec<String>,
    /// Transactions begun, and those that it is to begin.
    begun: u64,
    last: u64,
    sent: u64,
    open: Option<Open>,
}

/// A transaction whose outcome is not known.
#[derive(Debug)]
struct Open {
    id: TransactionId,
    sends: Vec<Sent>,
    accepts: Vec<Held>,
    begun_at: Moment,
    tries: u32,
    /// The try that is under way.
    call: Option<(usize, CallId)>,
}

impl Transactor {
    pub(in crate::cluster) fn new(
        origin: [u8; 16],
        name: String,
        queues: Vec<String>,
        last: u64,
    ) -> Self {
        Self {
            name,
            origin: ProducerId(origin),
            queues,
            begun: 0,
            last,
            sent: 0,
            open: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn is_in(&self, call: CallId) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.call.is_some_and(|(_, present)| present == call))
    }

    /// What its transaction is to accept.
    pub(super) fn accepts(&self) -> impl Iterator<Item = &Held> {
        self.open.iter().flat_map(|open| &open.accepts)
    }

    pub(super) fn gateway_died(&mut self, gateway: usize) {
        if let Some(open) = &mut self.open
            && open.call.is_some_and(|(at, _)| at == gateway)
        {
            open.call = None;
        }
    }

    fn message(&mut self, at: usize, now: u64) -> Sent {
        self.sent += 1;
        let queue = &self.queues[at];
        let message = content(&self.name, self.sent, queue, &Label::default());
        let publication = Publication {
            destination: Destination::queue(name(queue)),
            number: self.sent,
            also: Vec::new(),
            is_retained: false,
            non_persistent: false,
            priority: quorate_message::limits::PRIORITY_DEFAULT,
            expires_at_ms: 0,
            schedule: None,
            message,
        };
        Sent::plain(publication, queue.clone(), now)
    }
}

impl Cluster {
    /// A consumer that transacts goes on with its transaction, or begins one. False when it does neither.
    pub(super) fn transact(&mut self, client: usize) -> bool {
        let now = self.now();
        let Some((gateway, _)) = self.clients[client].connection else {
            return false;
        };
        let is_calm = self.is_draining;
        let begins = self.rng.chance(2, 3) && !is_calm;
        let (accepts, sends) = (self.rng.below(3), self.rng.between(1, 3));
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return false;
        };
        let consumer_name = consumer.history_name();
        let Some(transactor) = &mut consumer.transactor else {
            return false;
        };
        if let Some(open) = &transactor.open {
            if open.call.is_none() {
                self.commit(client, gateway);
            }
            return true;
        }
        if !begins || transactor.begun == transactor.last {
            return false;
        }
        transactor.begun += 1;
        let mut open = Open {
            id: TransactionId {
                origin: transactor.origin,
                number: transactor.begun,
            },
            sends: Vec::new(),
            accepts: Vec::new(),
            begun_at: now,
            tries: 0,
            call: None,
        };
        for _ in 0..sends {
            let at = self.rng.index(transactor.queues.len());
            open.sends.push(transactor.message(at, now));
        }
        for _ in 0..accepts {
            open.accepts.extend(consumer.held.pop_front());
        }
        // A shard that prepared its acceptance gives it to somebody else when the transaction does not happen.
        for held in &open.accepts {
            let key = (held.place.clone(), held.producer.clone(), held.number);
            self.handover.gave_back(key, consumer_name.clone());
        }
        transactor.open = Some(open);
        self.commit(client, gateway);
        true
    }

    fn commit(&mut self, client: usize, gateway: usize) {
        let Some((gateway, call)) = self.call(client, Some(gateway)) else {
            return;
        };
        let now = self.now();
        let nonce = self.rng.word();
        let wall_ms = self.gateways[gateway].body.clock.stamp(now).0;
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let (id, destination) = (consumer.id, consumer.destination());
        let open = consumer
            .transactor
            .as_mut()
            .and_then(|one| one.open.as_mut());
        let Some(open) = open else {
            return;
        };
        open.call = Some((gateway, call));
        open.tries += 1;
        let settlements = open.accepts.iter().map(|held| TransactedSettlement {
            consumer: Some(id),
            destination: destination.clone(),
            settlement: Settlement::Accept,
            positions: vec![(held.shard, held.position)],
        });
        let input = Input::Transact {
            call,
            transaction: open.id,
            sends: open
                .sends
                .iter()
                .map(|sent| sent.publication.clone())
                .collect(),
            settlements: settlements.collect(),
        };
        let text = format!("client {client} commits {} in {call}", open.id);
        self.say(format_args!("{text}"));
        self.step_gateway(gateway, input);
        let commit = Input::Commit {
            call,
            wall_ms,
            nonce,
        };
        self.step_gateway(gateway, commit);
    }

    /// The gateway told what became of a try.
    pub(super) fn transaction_hears(&mut self, client: usize, event: &ClientEvent) {
        let outcome = match event {
            ClientEvent::Committed => history::Outcome::Confirmed,
            ClientEvent::Failed { is_refused: true } => history::Outcome::Refused,
            ClientEvent::Failed { is_refused: false } => history::Outcome::Unknown,
            ClientEvent::Confirmed { .. }
            | ClientEvent::Opened { .. }
            | ClientEvent::Delivered { .. }
            | ClientEvent::Settled { .. }
            | ClientEvent::Ended
            | ClientEvent::Done => return,
        };
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let open = consumer
            .transactor
            .as_mut()
            .and_then(|one| one.open.as_mut());
        let Some((gateway, call)) = open.and_then(|open| open.call.take()) else {
            return;
        };
        if let Some(process) = self.gateways[gateway].process.as_mut() {
            process.calls.remove(&call);
            self.step_gateway(gateway, Input::Dropped { call });
        }
        match outcome {
            history::Outcome::Unknown => {}
            history::Outcome::Confirmed => {
                self.counts.transactions += 1;
                let settled = self.transaction_ends(client, outcome).len() as u64;
                if let Some((gateway, call)) = self.clients[client].connection
                    && settled > 0
                {
                    self.credit(gateway, call, settled);
                }
            }
            history::Outcome::Refused => {
                self.counts.rollbacks += 1;
                let kept = self.transaction_ends(client, outcome);
                if let Role::Consumer(consumer) = &mut self.clients[client].role {
                    consumer.held.extend(kept);
                }
            }
        }
    }

    /// Writes down how a transaction ended; returns what it was to accept.
    fn transaction_ends(&mut self, client: usize, outcome: history::Outcome) -> Vec<Held> {
        let now = self.now();
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return Vec::new();
        };
        let Some(transactor) = &mut consumer.transactor else {
            return Vec::new();
        };
        let Some(open) = transactor.open.take() else {
            return Vec::new();
        };
        let sends = open.sends.iter().map(|sent| Sending {
            queue: sent.origin.clone(),
            producer: transactor.name.clone(),
            number: sent.publication.number,
        });
        let accepts = open.accepts.iter().map(|held| Sending {
            queue: held.place.clone(),
            producer: held.producer.clone(),
            number: held.number,
        });
        let record = history::Transaction {
            name: open.id.to_string(),
            sends: sends.collect(),
            accepts: accepts.collect(),
            outcome,
        };
        self.history.records.push(Record::Transaction(record));
        let text = format!("client {client}: transaction {} {outcome:?}", open.id);
        let commit = Commit {
            id: open.id,
            begun_at: open.begun_at,
            tries: open.tries,
        };
        for sent in open.sends {
            self.ended.push(Ended {
                transaction: Some(commit),
                producer: transactor.name.clone(),
                number: sent.publication.number,
                sent,
                done_us: now,
                outcome,
            });
        }
        self.say(format_args!("{text}"));
        open.accepts
    }

    /// The client of a transaction is dead: nobody learns its outcome. If it is committed that may be at any time, also behind
    /// what the one who takes its place commits.
    pub(in crate::cluster) fn kill_transactor(&mut self, client: usize) {
        let Role::Consumer(consumer) = &mut self.clients[client].role else {
            return;
        };
        let open = consumer
            .transactor
            .as_mut()
            .and_then(|one| one.open.as_mut());
        let Some(open) = open else {
            return;
        };
        if let Some((gateway, call)) = open.call.take()
            && let Some(process) = self.gateways[gateway].process.as_mut()
        {
            process.calls.remove(&call);
            self.step_gateway(gateway, Input::Dropped { call });
        }
        self.lose_order_of_transaction(client);
        self.transaction_ends(client, history::Outcome::Unknown);
    }

    fn lose_order_of_transaction(&mut self, client: usize) {
        if let Role::Consumer(consumer) = &mut self.clients[client].role
            && let Some(open) = consumer
                .transactor
                .as_mut()
                .and_then(|one| one.open.as_mut())
        {
            for sent in &mut open.sends {
                sent.out_of_order = true;
            }
        }
    }
}
