//! Non-persistent messages: in the leader's memory only, bounded, refused when full, lost with the leader.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_message::{
    Batch, Command, Destination, DestinationKind, GatewayId, MessagePosition, Outcome, ProducerId,
    Settlement,
};

use super::{Dispatcher, Holder, LaneId};
use crate::Outcomes;
use crate::broker::Counters;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::state::{Dedup, QueueId, State, Turn, Verdict};

/// What all lanes share.
#[derive(Clone, Debug)]
pub(crate) struct Transient {
    /// Messages numbered so far in this epoch.
    numbered: u64,
    bytes: u64,
    /// Where each message is.
    lanes: BTreeMap<MessagePosition, LaneId>,
    /// Windows of producers, apart from those of the log.
    dedup: Dedup,
    /// Messages that expire, by when.
    expiry: BTreeSet<(u64, MessagePosition)>,
    /// Counts batches, as the clock of `dedup`.
    batches: u64,
}

/// A non-persistent message.
#[derive(Clone, Debug)]
pub(crate) struct TransientMessage {
    pub(crate) priority: u8,
    pub(crate) is_grouped: bool,
    /// Milliseconds since 1970; 0 for never.
    pub(crate) expires_at_ms: u64,
    /// In the stored encoding.
    pub(crate) bytes: Bytes,
}

/// The non-persistent messages of one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransientLane {
    pub(crate) messages: BTreeMap<MessagePosition, TransientMessage>,
    /// Those in nobody's hands.
    pub(crate) available: BTreeSet<Turn>,
    counts: BTreeMap<MessagePosition, u32>,
    /// A message that belongs to a group came once.
    pub(super) has_groups: bool,
}

impl Transient {
    pub(super) fn new(windows_max: u32) -> Self {
        Self {
            numbered: 0,
            bytes: 0,
            lanes: BTreeMap::new(),
            dedup: Dedup::new(windows_max),
            expiry: BTreeSet::new(),
            batches: 0,
        }
    }

    /// The clock of the windows.
    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// The windows of producers, by the number of the lane.
    pub(super) fn windows(&self) -> &Dedup {
        &self.dedup
    }

    /// Goes on with the windows of an earlier leader.
    pub(super) fn resume(&mut self, batches: u64, windows: Dedup) {
        self.batches = batches;
        self.dedup = windows;
    }

    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        self.expiry.first().map(|(at_ms, _)| *at_ms)
    }
}

impl TransientLane {
    pub(super) fn take_next(&mut self) -> Option<(Turn, Bytes)> {
        let turn = self.available.pop_first()?;
        let message = self.messages.get(&turn.position())?;
        Some((turn, message.bytes.clone()))
    }

    /// Takes a message that is in nobody's hands out of turn.
    pub(super) fn take_out(&mut self, position: MessagePosition) -> Option<Turn> {
        let turn = self.turn_of(position)?;
        self.available.remove(&turn).then_some(turn)
    }

    /// When a message expires; 0 for never.
    pub(super) fn expiry(&self, position: MessagePosition) -> u64 {
        let message = self.messages.get(&position);
        message.map_or(0, |message| message.expires_at_ms)
    }

    fn turn_of(&self, position: MessagePosition) -> Option<Turn> {
        let message = self.messages.get(&position)?;
        Some(Turn::new(message.priority, position))
    }

    /// How often the message was returned.
    pub(super) fn count(&self, position: MessagePosition) -> u32 {
        self.counts.get(&position).copied().unwrap_or(0)
    }

    pub(super) fn raise_count(&mut self, position: MessagePosition) {
        let count = self.counts.entry(position).or_insert(0);
        *count = count.saturating_add(1);
    }
}

impl Dispatcher {
    fn publish_transient(
        &mut self,
        ordinal: u16,
        command: Command,
        (batch, elsewhere): (&Batch, &[bool]),
        state: &State,
    ) -> Outcome {
        let Command::Publish {
            destination,
            producer,
            number,
            priority,
            is_grouped,
            expires_at_ms,
            ..
        } = command
        else {
            unreachable!("only publishes come here");
        };
        if elsewhere.get(usize::from(destination)) == Some(&true) {
            return Outcome::Moved;
        }
        let to = batch.destination(destination);
        let bytes = batch.message(ordinal).expect("a publish has a message");
        let message = TransientMessage {
            priority,
            is_grouped,
            expires_at_ms,
            bytes,
        };
        match to.kind {
            DestinationKind::Queue => self.accept_transient(to, producer, number, message, state),
            DestinationKind::Topic | DestinationKind::Subscription => {
                self.accept_transient_of_topic(&to.name, (producer, number), message, state)
            }
        }
    }

    pub(super) fn transient_batch(
        &mut self,
        from: Option<GatewayId>,
        batch: &Batch,
        state: &State,
    ) -> Outcomes {
        self.transient.batches += 1;
        let elsewhere = elsewhere(batch, state);
        let mut outcomes = Outcomes::new();
        for (ordinal, command) in batch.commands() {
            let outcome = match command {
                Command::Publish { .. } => {
                    self.publish_transient(ordinal, command, (batch, &elsewhere), state)
                }
                Command::Settle {
                    destination,
                    position,
                    settlement,
                } => {
                    let at = batch.destination(destination);
                    self.settle_transient(from, at, position, settlement)
                }
                // The batch's own check lets none of these through.
                Command::Purge { .. }
                | Command::Configure { .. }
                | Command::Pause { .. }
                | Command::Tick { .. }
                | Command::Transfer { .. }
                | Command::Transferred { .. }
                | Command::Subscribe { .. }
                | Command::Unsubscribe { .. }
                | Command::Register { .. }
                | Command::Delete { .. }
                | Command::Skip { .. }
                | Command::Prepare { .. }
                | Command::Decide { .. }
                | Command::Finish { .. }
                | Command::Forget { .. }
                | Command::GatewayAttached { .. }
                | Command::GatewayLost { .. }
                | Command::Dispatched { .. }
                | Command::Origin { .. }
                | Command::Relocate { .. }
                | Command::Checkpoint { .. } => Outcome::UnknownMessage,
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    fn accept_transient(
        &mut self,
        queue: &Destination,
        producer: ProducerId,
        number: u64,
        mut message: TransientMessage,
        state: &State,
    ) -> Outcome {
        let cost = message.bytes.len() as u64 + MESSAGE_OVERHEAD_BYTES;
        let lane = match self.has_transient_room(cost, 1) {
            true => self.lane_of(queue, state),
            false => None,
        };
        let Some(id) = lane else {
            return Outcome::LimitReached;
        };
        if let Some(seen) = self.seen_transient(id, producer, number) {
            return seen;
        }
        // A copy, so that it does not keep the whole batch in memory for as long as it waits.
        message.bytes = Bytes::copy_from_slice(&message.bytes);
        self.put_transient(id, message);
        Outcome::Stored
    }

    /// Whether there is room for so many copies of a message.
    pub(super) fn has_transient_room(&self, cost: u64, copies: u64) -> bool {
        let bytes = self
            .transient
            .bytes
            .saturating_add(cost.saturating_mul(copies));
        bytes <= self.limits.transient_bytes_max
            && self.transient.numbered + copies <= MessagePosition::TRANSIENT_MAX
    }

    /// What becomes of a message whose number was seen before at this lane; none for a new one.
    pub(super) fn seen_transient(
        &mut self,
        id: LaneId,
        producer: ProducerId,
        number: u64,
    ) -> Option<Outcome> {
        let key = Self::window_key(id);
        let batches = self.transient.batches;
        match self.transient.dedup.judge(key, producer, number, batches) {
            Verdict::New => None,
            Verdict::Duplicate => Some(Outcome::Duplicate),
            Verdict::TooOld => Some(Outcome::NumberTooOld),
        }
    }

    /// Forgets which numbers of which producers a lane has had.
    pub(super) fn forget_windows(&mut self, id: LaneId) {
        self.transient.dedup.forget_clients(Self::window_key(id));
    }

    /// The position that the next message gets.
    pub(super) fn transient_numbered(&self) -> MessagePosition {
        let last = MessagePosition::TRANSIENT_MAX - 1;
        MessagePosition::transient(self.epoch, self.transient.numbered.min(last))
    }

    /// Under which name the windows of a lane are kept.
    pub(super) fn window_key(id: LaneId) -> QueueId {
        QueueId(u32::try_from(id.0).expect("lanes are bounded"))
    }

    /// Takes over a message of an earlier leader, under the name that it had there.
    pub(super) fn resume_transient(
        &mut self,
        id: LaneId,
        position: MessagePosition,
        message: TransientMessage,
        (count, was_sent): (u32, bool),
    ) {
        let lane = &mut self.lanes[id.0];
        if count > 0 {
            lane.transient.counts.insert(position, count);
        }
        if was_sent {
            lane.sent.insert(position.value());
        }
        self.put_at(id, position, message);
    }

    /// Puts a message, for which there is room, into a lane.
    pub(super) fn put_transient(&mut self, id: LaneId, message: TransientMessage) {
        let position = MessagePosition::transient(self.epoch, self.transient.numbered);
        self.transient.numbered += 1;
        self.put_at(id, position, message);
    }

    fn put_at(&mut self, id: LaneId, position: MessagePosition, message: TransientMessage) {
        self.transient.bytes += message.bytes.len() as u64 + MESSAGE_OVERHEAD_BYTES;
        self.transient.lanes.insert(position, id);
        let lane = &mut self.lanes[id.0].transient;
        lane.available.insert(Turn::new(message.priority, position));
        lane.has_groups |= message.is_grouped;
        if message.expires_at_ms > 0 {
            let expiry = (message.expires_at_ms, position);
            self.transient.expiry.insert(expiry);
        }
        lane.messages.insert(position, message);
        self.touch(id);
    }

    pub(super) fn settle_transient(
        &mut self,
        from: Option<GatewayId>,
        at: &Destination,
        position: MessagePosition,
        settlement: Settlement,
    ) -> Outcome {
        let id = self.by_name.get(at).copied();
        let is_here = |id: &LaneId| {
            let messages = &self.lanes[id.0].transient.messages;
            messages.contains_key(&position)
        };
        let Some(id) = id.filter(is_here) else {
            return Outcome::UnknownMessage;
        };
        match settlement {
            Settlement::Accept | Settlement::Reject | Settlement::Expire | Settlement::Cancel => {
                if let Some(turn) = self.remove_transient(id, position) {
                    self.forget(id, turn);
                }
            }
            // What another gateway's consumer has by now was given back before: this is a repeat.
            Settlement::Release | Settlement::Return
                if !self.is_held_through(id, position, from) => {}
            Settlement::Release => self.give_back(id, position),
            Settlement::Return => {
                self.lanes[id.0].transient.raise_count(position);
                self.give_back(id, position);
            }
        }
        Outcome::Applied
    }

    /// Whether nobody has a message, or one who came through this gateway.
    fn is_held_through(
        &self,
        id: LaneId,
        position: MessagePosition,
        from: Option<GatewayId>,
    ) -> bool {
        let held = self.lanes[id.0].in_flight.get(&position);
        match held.map(|held| held.holder) {
            Some(Holder::Consumer(consumer)) => {
                let gateway = self.consumers.get(consumer).gateway;
                from.is_none() || gateway.is_none() || gateway == from
            }
            Some(Holder::Leaving(gateway)) => from == Some(gateway),
            Some(Holder::Returning(_) | Holder::Expiring | Holder::Skipped) | None => true,
        }
    }

    pub(super) fn remove_transient(
        &mut self,
        id: LaneId,
        position: MessagePosition,
    ) -> Option<Turn> {
        let lane = &mut self.lanes[id.0].transient;
        let message = lane.messages.remove(&position)?;
        let turn = Turn::new(message.priority, position);
        lane.available.remove(&turn);
        lane.counts.remove(&position);
        self.transient.bytes -= message.bytes.len() as u64 + MESSAGE_OVERHEAD_BYTES;
        self.transient.lanes.remove(&position);
        let expiry = (message.expires_at_ms, position);
        self.transient.expiry.remove(&expiry);
        Some(turn)
    }

    /// Removes non-persistent messages whose time is over, unless a consumer has them.
    pub(super) fn expire_transient(&mut self, counters: &mut Counters) {
        while let Some((at_ms, position)) = self.transient.expiry.first().copied()
            && self.timed.is_over(at_ms)
        {
            self.transient.expiry.pop_first();
            if let Some(id) = self.transient.lanes.get(&position).copied()
                && !self.lanes[id.0].in_flight.contains_key(&position)
                && let Some(turn) = self.remove_transient(id, position)
            {
                self.forget(id, turn);
                counters.transient_expired += 1;
            }
        }
    }

    /// Removes all non-persistent messages of a lane; how many there were. None is in flight any longer.
    pub(super) fn purge_transient(&mut self, id: LaneId) -> u64 {
        let messages = &self.lanes[id.0].transient.messages;
        let positions: Vec<MessagePosition> = messages.keys().copied().collect();
        for position in &positions {
            self.remove_transient(id, *position);
        }
        positions.len() as u64
    }

    /// Drops all non-persistent messages of a lane, in whoever's hands they are; how many there were.
    pub(super) fn drop_transient(&mut self, id: LaneId) -> u64 {
        let messages = &self.lanes[id.0].transient.messages;
        let positions: Vec<MessagePosition> = messages.keys().copied().collect();
        for position in &positions {
            if let Some(turn) = self.remove_transient(id, *position) {
                self.forget(id, turn);
            }
        }
        positions.len() as u64
    }

    pub(crate) fn transient_count(&self) -> u64 {
        self.transient.lanes.len() as u64
    }

    pub(crate) fn transient_bytes(&self) -> u64 {
        self.transient.bytes
    }

    pub(crate) fn transient_from(
        &self,
        at: &Destination,
        from: MessagePosition,
    ) -> impl Iterator<Item = MessagePosition> + '_ {
        let lane = self.by_name.get(at).map(|id| &self.lanes[id.0]);
        lane.into_iter()
            .flat_map(move |lane| lane.transient.messages.range(from..))
            .map(|(position, _)| *position)
    }

    pub(crate) fn transient_message(&self, position: MessagePosition) -> Option<Bytes> {
        let id = self.transient.lanes.get(&position)?;
        let message = self.lanes[id.0].transient.messages.get(&position)?;
        Some(message.bytes.clone())
    }
}

/// Of each destination of a batch whether it lives in another shard; empty while no name has ever moved.
fn elsewhere(batch: &Batch, state: &State) -> Vec<bool> {
    let relocations = state.relocations();
    if relocations.is_empty() {
        return Vec::new();
    }
    let is_elsewhere = |to| {
        let moved = relocations.of(to);
        moved.is_some_and(|moved| !moved.is_remembered())
    };
    batch.destinations().iter().map(is_elsewhere).collect()
}
