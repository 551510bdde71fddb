//! Applying one committed entry: the only way in which the state changes. What it does to a batch of a version that
//! exists never changes.

use quorate_message::{
    Batch, Command, DestinationKind, GatewayId, Message, MessagePosition, Outcome,
    PreviousCheckpoint, Settings, Settlement,
};

use super::gateways::Giver;
use super::relocation::Moved;
use super::room::{Arrival, Room};
use super::{QueueId, State, TargetId, Turn, Verdict};
use crate::Outcomes;

/// What an entry did, for the leader's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A queue was made.
    Made(QueueId),
    /// Messages of one priority with neighbouring ordinals were stored.
    Stored {
        queue: QueueId,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
    },
    /// A message was removed.
    Removed(QueueId, Turn),
    /// A message that waited for its time is pending.
    Readied(QueueId, Turn),
    /// Time has passed.
    Ticked,
    /// The time of a message is over.
    Ripened(QueueId, MessagePosition),
    /// A message that is not removed was given back.
    GivenBack(QueueId, MessagePosition, Giver),
    /// A message was put on its way to a target.
    Departed(TargetId),
    /// A target has stored what was on its way to it.
    Transferred(TargetId),
    /// A subscription ended. Its place may be another's by now.
    Ended(QueueId),
    /// A subscription is where its topic went. Its place may be another's by now.
    Followed(QueueId),
    /// A queue or topic, by its index in the batch, was deleted, with the place that it had. That may be another's by
    /// now; the log may not have known it.
    Deleted(u16, Option<QueueId>),
    /// It was logged what the selector of a subscription came to.
    Sifted(QueueId),
    /// Names move, or have moved.
    Relocated,
    /// A name, that of a destination by its index in the batch, left for another shard.
    Left(u16),
    /// Queues may have other settings.
    Configured,
    /// A queue is delivered again.
    Resumed(QueueId),
    /// A message that a transaction had taken out is pending again.
    PutBack(QueueId, Turn),
    /// A destination, by its index in the batch, was emptied. The log may not know it.
    Purged(u16),
    /// A gateway is attached, or could not be.
    GatewayAttached(GatewayId),
    /// A gateway is gone.
    GatewayLost(GatewayId),
    /// The bound of what may be sent of a queue was set.
    Dispatched(QueueId),
}

/// What an entry did. Used over and over, so that it allocates rarely.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) outcomes: Outcomes,
    pub(crate) changes: Vec<Change>,
    /// How many messages purges removed.
    pub(crate) removed: u64,
    /// The proposer's digest at the checkpoint before differs from ours.
    pub(crate) is_diverged: bool,
    /// Whose the batch is.
    pub(super) giver: Giver,
    /// What the entry put on its way last of a topic that moves: the same message of its next subscription joins it.
    pub(super) joined: Option<(TargetId, u64)>,
    /// The queue of each destination of the batch, once looked up.
    resolved: Vec<Resolved>,
    /// Whether each destination of the batch moves, once looked up; empty while no name has ever moved.
    pub(super) moved: Vec<Option<Option<Moved>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolved {
    NotYet,
    To(QueueId),
}

impl Record {
    fn clear(&mut self, batch: &Batch) {
        self.outcomes = Outcomes::new();
        self.changes.clear();
        self.removed = 0;
        self.is_diverged = false;
        self.giver = Giver::Anybody;
        self.joined = None;
        self.resolved.clear();
        self.resolved
            .resize(batch.destinations().len(), Resolved::NotYet);
        self.moved.clear();
    }
}

impl Record {
    /// Where destinations are has to be looked up again: one is no more.
    pub(super) fn forget_places(&mut self) {
        self.resolved.fill(Resolved::NotYet);
    }
}

impl State {
    /// Applies an entry and says in `record` what it did.
    ///
    /// # Panics
    /// When the entry is not behind the last one.
    pub(crate) fn apply(&mut self, entry: u64, stamp_ms: u64, batch: &Batch, record: &mut Record) {
        assert!(
            entry > self.applied,
            "entry {entry} follows entry {}",
            self.applied
        );
        self.applied = entry;
        self.stamp_ms = self.stamp_ms.max(stamp_ms);
        record.clear(batch);
        self.forget_history();
        if batch.is_transaction() {
            return self.transact(entry, batch, record);
        }
        let mut run = Run::None;
        for (ordinal, command) in batch.commands() {
            let outcome = self.command(entry, ordinal, command, batch, record, &mut run);
            record.outcomes.push(outcome);
        }
        self.store(run, record);
    }

    fn command(
        &mut self,
        entry: u64,
        ordinal: u16,
        command: Command,
        batch: &Batch,
        record: &mut Record,
        run: &mut Run,
    ) -> Outcome {
        if !matches!(command, Command::Publish { .. }) {
            self.store(std::mem::take(run), record);
        }
        match command {
            Command::Publish { .. } => self.publish((entry, ordinal), command, batch, record, run),
            Command::Settle {
                destination,
                position,
                settlement,
            } => {
                let queue = self.queue_of(destination, batch, record);
                self.settle_once(queue, (position, ordinal), settlement, record)
            }
            Command::Purge { destination } => self.purged(destination, batch, record),
            Command::Configure { .. } => {
                self.configure(rules_of(batch, ordinal));
                record.changes.push(Change::Configured);
                Outcome::Applied
            }
            Command::Pause {
                destination,
                is_paused,
            } => self.pause(destination, is_paused, batch, record),
            Command::Transfer { .. } => self.transfer(command, batch, record),
            Command::Relocate { .. } => self.relocate((entry, ordinal), command, batch, record),
            Command::Transferred {
                destination,
                first,
                last,
            } => {
                self.transferred(batch.destination(destination), first, last, record);
                Outcome::Applied
            }
            Command::Subscribe {
                destination,
                by_move,
            } => self.subscribe((destination, by_move), (batch, ordinal), record),
            Command::Unsubscribe { .. } => self.unsubscribe(command, batch, record),
            Command::Skip {
                destination,
                made,
                judged_to,
            } => self.skip(destination, (made, judged_to), (batch, ordinal), record),
            Command::Register {
                destination,
                by_move,
            } => self.register((destination, by_move), batch, record),
            Command::Delete {
                destination,
                with_messages,
            } => self.delete((destination, with_messages), batch, record),
            Command::Tick { until_ms } => {
                self.tick(until_ms, record);
                Outcome::Applied
            }
            Command::Checkpoint { previous } => {
                self.compare(entry, previous, record);
                Outcome::Applied
            }
            Command::Prepare { .. }
            | Command::Decide { .. }
            | Command::Finish { .. }
            | Command::Forget { .. } => self.about_transaction(entry, command, record),
            Command::GatewayAttached { .. }
            | Command::GatewayLost { .. }
            | Command::Dispatched { .. }
            | Command::Origin { .. } => self.about_gateways(command, batch, record),
        }
    }

    fn purged(&mut self, destination: u16, batch: &Batch, record: &mut Record) -> Outcome {
        if is_repeat(record) {
            return Outcome::Applied;
        }
        if self.is_managed_elsewhere(batch.destination(destination)) {
            return Outcome::Moved;
        }
        if let Some(queue) = self.queue_of(destination, batch, record) {
            record.removed += self.empty(queue);
        }
        record.changes.push(Change::Purged(destination));
        Outcome::Applied
    }

    fn publish(
        &mut self,
        (entry, ordinal): (u64, u16),
        command: Command,
        batch: &Batch,
        record: &mut Record,
        run: &mut Run,
    ) -> Outcome {
        let Command::Publish {
            destination,
            producer,
            number,
            priority,
            expires_at_ms,
            is_retained,
            is_scheduled,
            is_first,
            size_bytes,
            is_grouped,
            is_relocated,
        } = command
        else {
            unreachable!("only publishes come here");
        };
        if self.is_for_elsewhere(destination, producer, batch, record) {
            return Outcome::Moved;
        }
        if is_relocated {
            return self.arrived((entry, ordinal), command, batch, (record, run));
        }
        let schedule = is_scheduled.then(|| batch.schedule(ordinal)).flatten();
        if !self.takes_schedule(schedule.as_ref()) {
            return Outcome::LimitReached;
        }
        let is_forwarded = producer.shard().is_some();
        let queue = match self.queue_for(destination, is_forwarded, batch, record) {
            Ok(queue) => queue,
            Err(outcome) => return outcome,
        };
        let bytes = u64::from(size_bytes);
        let arrival = Arrival {
            queue,
            producer,
            number,
            bytes,
            is_first,
        };
        let room = self.make_room(&arrival, run, record);
        if let Room::None(outcome) = room {
            return outcome;
        }
        match self.dedup.judge(queue, producer, number, entry) {
            Verdict::New => {}
            Verdict::Duplicate => return Outcome::Duplicate,
            Verdict::TooOld => return Outcome::NumberTooOld,
        }
        self.queues[queue.0 as usize].has_groups |= is_grouped;
        let position = MessagePosition::new(entry, ordinal);
        let turn = Turn::new(priority, position);
        if expires_at_ms > 0 {
            self.store_expiry(queue, position, expires_at_ms);
        }
        if let Some(schedule) = schedule {
            self.store(std::mem::take(run), record);
            self.store_scheduled(queue, turn, bytes, &schedule);
            self.move_beyond_if(room, queue, position, record);
            return Outcome::Stored;
        }
        let retention = match is_retained {
            true => Retention::of(batch, ordinal),
            false => Retention::None,
        };
        self.put(queue, turn, (bytes, retention), (record, run));
        if room == Room::Beyond {
            self.move_beyond(queue, run, record);
        }
        Outcome::Stored
    }

    /// Stores a message that came with its name: whatever the limits of its queue, it was stored before.
    fn arrived(
        &mut self,
        (entry, ordinal): (u64, u16),
        command: Command,
        batch: &Batch,
        (record, run): (&mut Record, &mut Run),
    ) -> Outcome {
        let Command::Publish {
            destination,
            producer,
            number,
            priority,
            expires_at_ms,
            size_bytes,
            is_grouped,
            ..
        } = command
        else {
            unreachable!("only publishes come here");
        };
        let queue = match self.queue_for(destination, true, batch, record) {
            Ok(queue) => queue,
            Err(outcome) => return outcome,
        };
        match self.dedup.judge(queue, producer, number, entry) {
            Verdict::New => {}
            Verdict::Duplicate => return Outcome::Duplicate,
            Verdict::TooOld => return Outcome::NumberTooOld,
        }
        let brought = batch.relocation(ordinal).unwrap_or_default();
        self.queues[queue.0 as usize].has_groups |= is_grouped;
        let turn = Turn::new(priority, MessagePosition::new(entry, ordinal));
        let bytes = u64::from(size_bytes);
        self.store(std::mem::take(run), record);
        let waits = brought.due_ms > 0;
        if self.queue(queue).kind() == DestinationKind::Topic && !waits {
            let message = (turn, bytes, expires_at_ms);
            return self.arrived_in_topic(queue, message, &brought, record);
        }
        if expires_at_ms > 0 {
            self.store_expiry(queue, turn.position(), expires_at_ms);
        }
        if !self.store_arrived_waiting(queue, turn, bytes, &brought) {
            self.put(queue, turn, (bytes, Retention::None), (record, run));
        }
        self.unpack(queue, turn, &brought);
        Outcome::Stored
    }

    pub(super) fn settle(
        &mut self,
        id: QueueId,
        position: MessagePosition,
        settlement: Settlement,
        record: &mut Record,
    ) -> Outcome {
        let turn = self.queue(id).turn_of(position);
        match (settlement, turn) {
            (Settlement::Expire, _) => return self.expire(id, position, record),
            (Settlement::Cancel, _) if self.remove(id, position, record) => record.removed += 1,
            (Settlement::Cancel, _) | (_, None) => return Outcome::UnknownMessage,
            (Settlement::Accept, Some(_)) => {
                self.remove(id, position, record);
            }
            (Settlement::Reject, Some(turn)) => return self.rejected(id, turn, record),
            (Settlement::Return, Some(turn)) => self.returned(id, turn, record),
            (Settlement::Release, Some(_)) => {
                self.queues[id.0 as usize].mark_sent(position);
                let back = Change::GivenBack(id, position, record.giver);
                record.changes.push(back);
            }
        }
        Outcome::Applied
    }

    /// Adds a message to the run, or stores the run and begins the next.
    pub(super) fn put(
        &mut self,
        queue: QueueId,
        turn: Turn,
        (bytes, retention): (u64, Retention),
        (record, run): (&mut Record, &mut Run),
    ) {
        let (priority, position) = (turn.priority(), turn.position());
        if !run.extend(queue, priority, position, bytes) {
            let next = Run::one(queue, priority, position, bytes);
            let ended = std::mem::replace(run, next);
            self.store(ended, record);
        }
        if retention != Retention::None {
            self.store(std::mem::take(run), record);
            self.retain(queue, turn, (bytes, retention));
        }
    }

    /// Puts a run of messages into its queue.
    pub(super) fn store(&mut self, run: Run, record: &mut Record) {
        let Run::Some {
            queue,
            priority,
            first,
            last,
            bytes,
        } = run
        else {
            return;
        };
        if self.queues[queue.0 as usize].kind() == DestinationKind::Topic {
            self.fan_out(queue, priority, (first, last, bytes), record);
            return self.bound_targets(queue, record);
        }
        self.queues[queue.0 as usize].store(priority, (first, last), bytes);
        let count = last.value() - first.value() + 1;
        self.live.added(first.entry(), count);
        record.changes.push(Change::Stored {
            queue,
            priority,
            first,
            last,
        });
    }

    fn compare(&mut self, entry: u64, previous: Option<PreviousCheckpoint>, record: &mut Record) {
        if let (Some(theirs), Some(ours)) = (previous, self.last_checkpoint) {
            // Another checkpoint may lie between, of a leader that the proposer has not heard: nothing to compare.
            record.is_diverged |= theirs.entry == ours.entry && theirs.digest != ours.digest;
        }
        self.last_checkpoint = Some(PreviousCheckpoint {
            entry,
            digest: self.digest(),
        });
    }

    pub(super) fn queue_of(
        &self,
        destination: u16,
        batch: &Batch,
        record: &mut Record,
    ) -> Option<QueueId> {
        let resolved = &mut record.resolved[usize::from(destination)];
        if let Resolved::To(queue) = *resolved {
            return Some(queue);
        }
        let queue = self.id_of(batch.destination(destination))?;
        *resolved = Resolved::To(queue);
        Some(queue)
    }

    /// The queue of a destination, made if it is new; if not, what its command comes to.
    pub(super) fn queue_for(
        &mut self,
        destination: u16,
        always_create: bool,
        batch: &Batch,
        record: &mut Record,
    ) -> Result<QueueId, Outcome> {
        if let Some(queue) = self.queue_of(destination, batch, record) {
            return Ok(queue);
        }
        let name = &batch.destination(destination).name;
        if !always_create && !self.settings.rules().of(name).auto_create {
            return Err(Outcome::UnknownDestination);
        }
        let made = self.make(batch.destination(destination), record);
        let id = made.ok_or(Outcome::LimitReached)?;
        record.resolved[usize::from(destination)] = Resolved::To(id);
        Ok(id)
    }
}

/// What a topic is to do with a message besides handing it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    /// Nothing.
    None,
    /// Keep it in place of the one before.
    Keep,
    /// Keep none: it has no body.
    Clear,
}

impl Retention {
    /// That of a message that is to be retained.
    pub(super) fn of(batch: &Batch, ordinal: u16) -> Self {
        let message = batch
            .message(ordinal)
            .and_then(|bytes| Message::decode(&bytes).ok());
        match message.is_some_and(|message| message.body.is_empty()) {
            true => Self::Clear,
            false => Self::Keep,
        }
    }
}

fn rules_of(batch: &Batch, ordinal: u16) -> Settings {
    let rules = batch.body(ordinal).and_then(|body| Settings::decode(&body));
    rules.expect("checked when the batch was parsed")
}

/// Whether a gateway said all this before, and it was done.
pub(super) fn is_repeat(record: &Record) -> bool {
    match record.giver {
        Giver::Gateway { is_repeat, .. } => is_repeat,
        Giver::Anybody => false,
    }
}

/// Stored messages side by side, gathered so that bitmaps take them as ranges.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Run {
    #[default]
    None,
    Some {
        queue: QueueId,
        priority: u8,
        first: MessagePosition,
        last: MessagePosition,
        bytes: u64,
    },
}

impl Run {
    fn one(queue: QueueId, priority: u8, position: MessagePosition, bytes: u64) -> Self {
        Self::Some {
            queue,
            priority,
            first: position,
            last: position,
            bytes,
        }
    }

    /// How many messages, and of how many bytes, it holds for a queue.
    pub(super) fn gathered(&self, of: QueueId) -> (u64, u64) {
        match self {
            Self::Some {
                queue,
                first,
                last,
                bytes,
                ..
            } if *queue == of => (last.value() - first.value() + 1, *bytes),
            Self::Some { .. } | Self::None => (0, 0),
        }
    }

    /// The message that was gathered last.
    pub(super) fn last(&self) -> Option<MessagePosition> {
        match self {
            Self::Some { last, .. } => Some(*last),
            Self::None => None,
        }
    }

    /// Takes the position in, if it follows.
    fn extend(&mut self, to: QueueId, at: u8, position: MessagePosition, size: u64) -> bool {
        match self {
            Self::Some {
                queue,
                priority,
                last,
                bytes,
                ..
            } if (*queue, *priority, last.next()) == (to, at, position) => {
                *last = position;
                *bytes += size;
                true
            }
            Self::Some { .. } | Self::None => false,
        }
    }
}
