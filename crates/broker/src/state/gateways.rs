//! The gateways that may have been sent messages, and what a settlement of theirs does once only.
//!
//! A later leader waits for each of them to say what it holds. Beside each stands the number of its last batch of
//! settlements: a repeat of that batch or of one before settles nothing a second time, so that a message that was
//! given back is not taken away from whoever has it now.

use std::collections::BTreeMap;

use quorate_message::{Batch, Command, GatewayId, MessagePosition, Outcome};

use super::codec::{Cursor, Sink};
use super::{Change, Queue, QueueId, Record, State};
use crate::limits::GATEWAYS_MAX;

/// By whom a message was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Giver {
    /// Somebody who was not named.
    #[default]
    Anybody,
    /// A gateway.
    Gateway {
        id: GatewayId,
        /// It had told so before.
        is_repeat: bool,
    },
}

/// The attached gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gateways {
    /// With the number of the last batch of settlements of each; 0 before the first.
    numbers: BTreeMap<GatewayId, u64>,
}

impl Gateways {
    pub(crate) fn contains(&self, gateway: GatewayId) -> bool {
        self.numbers.contains_key(&gateway)
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = GatewayId> + '_ {
        self.numbers.keys().copied()
    }

    /// Whether the batch of settlements of this number was applied.
    pub(crate) fn has_said(&self, gateway: GatewayId, number: u64) -> bool {
        let last = self.numbers.get(&gateway);
        last.is_some_and(|last| number > 0 && number <= *last)
    }

    fn attach(&mut self, gateway: GatewayId) -> Outcome {
        if !self.contains(gateway) && self.len() >= GATEWAYS_MAX {
            return Outcome::LimitReached;
        }
        self.numbers.entry(gateway).or_insert(0);
        Outcome::Applied
    }

    /// Notes a batch; whether it was noted before. One of a gateway that is not attached never was.
    fn is_repeat(&mut self, gateway: GatewayId, number: u64) -> bool {
        let Some(last) = self.numbers.get_mut(&gateway) else {
            return false;
        };
        let is_repeat = number <= *last;
        *last = number.max(*last);
        is_repeat
    }

    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.numbers.len() as u64);
        for (gateway, number) in &self.numbers {
            sink.bytes(&gateway.0);
            sink.varint(*number);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let count = cursor.varint()?;
        let mut numbers = BTreeMap::new();
        for _ in 0..count {
            let gateway = GatewayId(cursor.array()?);
            let is_behind = numbers
                .last_key_value()
                .is_none_or(|(last, _)| *last < gateway);
            numbers.insert(gateway, cursor.varint()?);
            if !is_behind || numbers.len() > GATEWAYS_MAX {
                return None;
            }
        }
        Some(Self { numbers })
    }
}

impl State {
    pub(crate) fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// Applies a command about gateways.
    pub(super) fn about_gateways(
        &mut self,
        command: Command,
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        if let Command::GatewayAttached { gateway } = command {
            return self.gateway_attached(gateway, record);
        }
        if let Command::GatewayLost { gateway, is_known } = command {
            return self.gateway_lost(gateway, is_known, record);
        }
        if let Command::Origin { gateway, number } = command {
            return self.origin(gateway, number, record);
        }
        if let Command::Dispatched { destination, upto } = command {
            let queue = self.queue_of(destination, batch, record);
            return self.dispatched(queue, upto, record);
        }
        unreachable!("only commands about gateways come here")
    }

    fn gateway_attached(&mut self, gateway: GatewayId, record: &mut Record) -> Outcome {
        let outcome = self.gateways.attach(gateway);
        record.changes.push(Change::GatewayAttached(gateway));
        outcome
    }

    /// A gateway is gone. If nobody knows what it held, everything that may have been sent counts as sent.
    fn gateway_lost(&mut self, gateway: GatewayId, is_known: bool, record: &mut Record) -> Outcome {
        let was_attached = self.gateways.numbers.remove(&gateway).is_some();
        if was_attached && !is_known {
            self.queues.iter_mut().for_each(Queue::mark_dispatched);
        }
        record.changes.push(Change::GatewayLost(gateway));
        Outcome::Applied
    }

    fn dispatched(&mut self, id: Option<QueueId>, upto: u64, record: &mut Record) -> Outcome {
        if let Some(id) = id {
            self.queues[id.0 as usize].dispatched_to = upto;
            record.changes.push(Change::Dispatched(id));
        }
        Outcome::Applied
    }

    /// Notes whose batch this is.
    fn origin(&mut self, id: GatewayId, number: u64, record: &mut Record) -> Outcome {
        let is_repeat = self.gateways.is_repeat(id, number);
        record.giver = Giver::Gateway { id, is_repeat };
        Outcome::Applied
    }
}

impl Queue {
    /// Whether the message was in somebody's hands and came back.
    pub(crate) fn was_sent(&self, position: MessagePosition) -> bool {
        !self.sent.is_empty() && self.sent.contains(position.value())
    }

    /// No message beyond this position was sent to anybody.
    pub(crate) fn dispatched_to(&self) -> u64 {
        self.dispatched_to
    }

    /// A position with at least `count` pending ones between it and `from`, or `u64::MAX` when there are not so many.
    pub(crate) fn position_ahead(&self, from: u64, count: u64) -> u64 {
        // Of several priorities the first to have so many decides: then there are as many or more.
        let ahead = self.pending.bitmaps().map(|positions| {
            let rank = positions.rank(from);
            positions.select(rank + count).unwrap_or(u64::MAX)
        });
        ahead.min().unwrap_or(u64::MAX)
    }

    /// A message that is there came back.
    pub(super) fn mark_sent(&mut self, position: MessagePosition) {
        self.sent.insert(position.value());
    }

    fn mark_dispatched(&mut self) {
        for positions in self.pending.bitmaps() {
            let mut dispatched = positions.clone();
            if self.dispatched_to < u64::MAX {
                dispatched.remove_range(self.dispatched_to + 1..);
            }
            self.sent |= dispatched;
        }
    }
}
