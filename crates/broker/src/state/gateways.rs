//! The gateways that may have been sent messages, and what a settlement of theirs does once only.
//!
//! A later leader waits for each of them to say what it holds. Beside each stands the number of its last batch of
//! settlements: a repeat of that batch or of one before settles nothing a second time, so that a message that was
//! given back is not taken away from whoever has it now. It is answered as the first time: what was not applied then is
//! remembered for the last [`REPEATED_BATCHES`], and for a while of gateways that were declared lost.

use std::collections::{BTreeMap, VecDeque};

use quorate_message::{Batch, Command, GatewayId, MessagePosition, Outcome, Settlement};

use super::codec::{Cursor, Sink};
use super::{Change, Queue, QueueId, Record, State};
use crate::limits::{GATEWAYS_MAX, LOST_GATEWAYS_MAX, REPEATED_BATCHES};

/// By whom a message was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Giver {
    /// Somebody who was not named.
    #[default]
    Anybody,
    /// A gateway.
    Gateway {
        id: GatewayId,
        /// Its number in the batch.
        number: u64,
        /// It had told so before.
        is_repeat: bool,
    },
}

/// What a gateway settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    /// The number of its last batch of settlements; 0 before the first.
    last: u64,
    /// Of the last batches, by number and place in the batch, what was not applied, and why not.
    refused: BTreeMap<(u64, u16), Refused>,
}

/// Why a settlement was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    UnknownMessage = 0,
    LimitReached = 1,
}

impl Refused {
    fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::UnknownMessage => Some(Self::UnknownMessage),
            Outcome::LimitReached => Some(Self::LimitReached),
            Outcome::Applied
            | Outcome::Stored
            | Outcome::Duplicate
            | Outcome::NumberTooOld
            | Outcome::QueueFull
            | Outcome::Blocked
            | Outcome::UnknownDestination
            | Outcome::RolledBack
            | Outcome::InDoubt
            | Outcome::Moved => None,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::UnknownMessage => Outcome::UnknownMessage,
            Self::LimitReached => Outcome::LimitReached,
        }
    }
}

impl Said {
    /// Notes a batch; whether it was noted before.
    fn is_repeat(&mut self, number: u64) -> bool {
        if number <= self.last {
            return true;
        }
        self.last = number;
        let kept = number.saturating_sub(REPEATED_BATCHES - 1);
        self.refused = self.refused.split_off(&(kept, 0));
        false
    }

    fn encode(&self, sink: &mut Sink) {
        sink.varint(self.last);
        sink.varint(self.refused.len() as u64);
        for ((number, ordinal), refused) in &self.refused {
            sink.varint(self.last - number);
            sink.varint(u64::from(*ordinal));
            sink.u8(*refused as u8);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let last = cursor.varint()?;
        let mut refused = BTreeMap::new();
        for _ in 0..cursor.varint()? {
            let back = cursor.varint().filter(|back| *back < REPEATED_BATCHES)?;
            let number = last.checked_sub(back)?;
            let ordinal = u16::try_from(cursor.varint()?).ok()?;
            let why = match cursor.u8()? {
                0 => Refused::UnknownMessage,
                1 => Refused::LimitReached,
                _ => return None,
            };
            let before = refused.last_key_value().map(|(at, _)| *at);
            if before.is_some_and(|before| before >= (number, ordinal)) {
                return None;
            }
            refused.insert((number, ordinal), why);
        }
        Some(Self { last, refused })
    }
}

/// Under this name the leader gives back what is in nobody's hands. It repeats with what is left.
pub(crate) const LEADER: GatewayId = GatewayId([0; 16]);

/// The attached gateways, and those lost last or not attached yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gateways {
    attached: BTreeMap<GatewayId, Said>,
    /// In the order of their losses, or of what they said first.
    lost: VecDeque<(GatewayId, Said)>,
}

impl Gateways {
    pub(crate) fn contains(&self, gateway: GatewayId) -> bool {
        self.attached.contains_key(&gateway)
    }

    pub(crate) fn len(&self) -> usize {
        self.attached.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = GatewayId> + '_ {
        self.attached.keys().copied()
    }

    /// Whether the batch of settlements of this number was applied.
    pub(crate) fn has_said(&self, gateway: GatewayId, number: u64) -> bool {
        let said = self.said(gateway);
        said.is_some_and(|said| number > 0 && number <= said.last)
    }

    /// What became of a settlement in a batch that was said before.
    pub(super) fn outcome(&self, gateway: GatewayId, number: u64, ordinal: u16) -> Outcome {
        let said = self.said(gateway);
        let refused = said.and_then(|said| said.refused.get(&(number, ordinal)));
        refused.map_or(Outcome::Applied, |refused| refused.outcome())
    }

    /// Remembers what became of a settlement.
    pub(super) fn settled(&mut self, gateway: GatewayId, at: (u64, u16), outcome: Outcome) {
        if let Some(refused) = Refused::of(outcome)
            && let Some(said) = self.said_mut(gateway)
        {
            said.refused.insert(at, refused);
        }
    }

    fn said(&self, gateway: GatewayId) -> Option<&Said> {
        self.attached.get(&gateway).or_else(|| {
            let mut lost = self.lost.iter();
            lost.find(|(id, _)| *id == gateway).map(|(_, said)| said)
        })
    }

    fn said_mut(&mut self, gateway: GatewayId) -> Option<&mut Said> {
        self.attached.get_mut(&gateway).or_else(|| {
            let mut lost = self.lost.iter_mut();
            lost.find(|(id, _)| *id == gateway).map(|(_, said)| said)
        })
    }

    fn attach(&mut self, gateway: GatewayId) -> Outcome {
        if self.contains(gateway) {
            return Outcome::Applied;
        }
        if self.len() >= GATEWAYS_MAX {
            return Outcome::LimitReached;
        }
        let place = self.lost.iter().position(|(id, _)| *id == gateway);
        let back = place.and_then(|place| self.lost.remove(place));
        let said = back.map_or_else(Said::default, |(_, said)| said);
        self.attached.insert(gateway, said);
        Outcome::Applied
    }

    /// Whether it was attached.
    fn lose(&mut self, gateway: GatewayId) -> bool {
        let Some(said) = self.attached.remove(&gateway) else {
            return false;
        };
        self.forget_lost();
        self.lost.push_back((gateway, said));
        true
    }

    /// Notes a batch; whether it was noted before. A gateway may settle what its clients bring before it is attached.
    fn is_repeat(&mut self, gateway: GatewayId, number: u64) -> bool {
        if gateway == LEADER {
            return false;
        }
        if self.said(gateway).is_none() {
            self.forget_lost();
            self.lost.push_back((gateway, Said::default()));
        }
        let said = self.said_mut(gateway);
        said.is_some_and(|said| said.is_repeat(number))
    }

    /// Makes room for one more.
    fn forget_lost(&mut self) {
        if self.lost.len() >= LOST_GATEWAYS_MAX {
            self.lost.pop_front();
        }
    }

    /// Appends them.
    ///
    /// ```text
    /// attached varint, each ascending: id, what it said
    /// lost varint, each as it was lost: id, what it said
    /// what it said: last varint, refused varint, each: last less number varint, place varint, why u8
    /// ```
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.attached.len() as u64);
        for (gateway, said) in &self.attached {
            sink.bytes(&gateway.0);
            said.encode(sink);
        }
        sink.varint(self.lost.len() as u64);
        for (gateway, said) in &self.lost {
            sink.bytes(&gateway.0);
            said.encode(sink);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut gateways = Self::default();
        for _ in 0..cursor.varint()? {
            let gateway = GatewayId(cursor.array()?);
            let last = gateways.attached.last_key_value();
            let is_behind = last.is_none_or(|(last, _)| *last < gateway);
            gateways.attached.insert(gateway, Said::decode(cursor)?);
            if !is_behind || gateways.len() > GATEWAYS_MAX {
                return None;
            }
        }
        for _ in 0..cursor.varint()? {
            let gateway = GatewayId(cursor.array()?);
            let is_known = gateways.said(gateway).is_some();
            gateways.lost.push_back((gateway, Said::decode(cursor)?));
            if is_known || gateways.lost.len() > LOST_GATEWAYS_MAX {
                return None;
            }
        }
        Some(gateways)
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
        let was_attached = self.gateways.lose(gateway);
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

    /// Settles, unless the gateway said so before: then it is told again what became of it.
    pub(super) fn settle_once(
        &mut self,
        queue: Option<QueueId>,
        (position, ordinal): (MessagePosition, u16),
        settlement: Settlement,
        record: &mut Record,
    ) -> Outcome {
        if let Giver::Gateway {
            id,
            number,
            is_repeat: true,
        } = record.giver
        {
            // The leader may have been told that it is under way.
            let back = queue.map(|queue| Change::GivenBack(queue, position, record.giver));
            record.changes.extend(back);
            return self.gateways.outcome(id, number, ordinal);
        }
        let outcome = match queue {
            Some(queue) => self.settle(queue, position, settlement, record),
            None => Outcome::UnknownMessage,
        };
        if let Giver::Gateway { id, number, .. } = record.giver {
            self.gateways.settled(id, (number, ordinal), outcome);
        }
        outcome
    }

    /// Notes whose batch this is.
    fn origin(&mut self, id: GatewayId, number: u64, record: &mut Record) -> Outcome {
        let is_repeat = self.gateways.is_repeat(id, number);
        record.giver = Giver::Gateway {
            id,
            number,
            is_repeat,
        };
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
