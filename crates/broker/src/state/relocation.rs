//! Names that moved from one shard to another, or are on their way.
//!
//! ```text
//! source   Leave: nothing is delivered     Cut: nothing is taken in     Depart: nothing is left
//!          messages go out, in order       the rest goes out
//! target   Expect: only the source sends   Adopt: its producers' numbers   Open: everybody sends
//! ```
//! A shard remembers every name that left it or came to it: a command for a name that lives elsewhere is answered with
//! `Moved` and does nothing, whoever is out of date. Steps of a move with a number that is not the highest do nothing,
//! so that each may come twice and late.
//!
//! The numbers of this shard's own outbox are apart from those of other producers: from `Leave` on whatever goes from
//! here to the name goes to the target, under numbers that go on; so what of it was stored here is told with `Expect`.

mod telling;

use std::collections::BTreeMap;

use quorate_message::{
    Batch, Command, Destination, DestinationKind, DestinationName, MoveReason, Outcome, ProducerId,
    Relocating, Relocation, Step, root,
};
use thiserror::Error;

use super::codec::{Cursor, Sink};
use super::repeat::Repeat;
use super::{Change, QueueId, Record, State, Turn};
use crate::limits::{FAMILY_MAX, MOVED_NAMES_MAX};
use telling::{Adopted, decode_expected};

/// How far a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It leaves; messages are taken in and not delivered.
    Leaving,
    /// It leaves; nothing is taken in.
    Cut,
    /// It left.
    Gone,
    /// It is to come.
    Expected,
    /// It came, and lives here.
    Here,
}

/// One name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) relocating: Relocating,
    pub(crate) stage: Stage,
}

impl Moved {
    /// The shard in which the name lives, or is to; none: here.
    pub(crate) fn elsewhere(&self) -> Option<u32> {
        match self.stage {
            Stage::Leaving | Stage::Cut | Stage::Gone => Some(self.relocating.to),
            Stage::Expected | Stage::Here => None,
        }
    }

    /// Whether this producer's messages are taken here.
    pub(super) fn takes(&self, producer: ProducerId) -> bool {
        match self.stage {
            Stage::Leaving => producer.shard() != Some(self.relocating.from),
            Stage::Cut | Stage::Gone => false,
            Stage::Expected => producer.shard() == Some(self.relocating.from),
            Stage::Here => true,
        }
    }

    /// Whether a message is not taken here. What a topic retains does not move: it waits until the topic is there.
    pub(super) fn refuses(&self, producer: ProducerId, is_retained: bool) -> bool {
        !self.takes(producer) || (is_retained && self.is_leaving())
    }

    /// Whether it is on its way elsewhere and takes messages in.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// Whether messages of the name are delivered here.
    fn is_delivered(&self) -> bool {
        match self.stage {
            Stage::Leaving | Stage::Cut | Stage::Gone => false,
            Stage::Expected | Stage::Here => true,
        }
    }
}

/// All names that moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relocations {
    by_name: BTreeMap<DestinationName, Moved>,
}

/// Why a name cannot be moved from its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Obstacle {
    /// It is a topic with subscriptions.
    #[error("the topic has {count} subscriptions, which cannot be moved; end them first")]
    Subscriptions {
        /// How many.
        count: usize,
    },
    /// It is a topic that keeps messages.
    #[error(
        "the topic keeps messages (retained, or for replay), which cannot be moved; clear them first"
    )]
    Kept,
    /// It is a virtual topic with too many queues.
    #[error("the virtual topic has {count} queues; at most {FAMILY_MAX} can be moved")]
    TooManyQueues {
        /// How many.
        count: usize,
    },
    /// The shard remembers as many names as it can.
    #[error(
        "{MOVED_NAMES_MAX} names have moved from or to the shard, the most that it can remember"
    )]
    TooManyNames,
}

impl Relocations {
    /// The move of a name, by the name itself.
    pub(crate) fn get(&self, name: &str) -> Option<&Moved> {
        if self.by_name.is_empty() {
            return None;
        }
        self.by_name.get(name)
    }

    /// The move of the name with which a destination is placed. Subscriptions have none.
    pub(crate) fn of(&self, destination: &Destination) -> Option<&Moved> {
        if self.by_name.is_empty() {
            return None;
        }
        match destination.kind {
            DestinationKind::Queue => self.by_name.get(root(&destination.name)),
            DestinationKind::Topic => self.by_name.get(destination.name.as_str()),
            DestinationKind::Subscription => None,
        }
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&DestinationName, &Moved)> {
        self.by_name.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// ```text
    /// names varint, each ascending: length u8, name, number varint, from u32, to u32, stage u8
    /// ```
    pub(super) fn encode(&self, sink: &mut Sink) {
        sink.varint(self.by_name.len() as u64);
        for (name, moved) in &self.by_name {
            let text = name.as_str();
            sink.u8(u8::try_from(text.len()).expect("names have at most 255 bytes"));
            sink.bytes(text.as_bytes());
            sink.varint(moved.relocating.number);
            sink.u32(moved.relocating.from);
            sink.u32(moved.relocating.to);
            sink.u8(match moved.stage {
                Stage::Leaving => 1,
                Stage::Cut => 2,
                Stage::Gone => 3,
                Stage::Expected => 4,
                Stage::Here => 5,
            });
            sink.spill();
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<Self> {
        let count = cursor.varint()?;
        let mut by_name = BTreeMap::new();
        for _ in 0..count {
            let name = decode_name(cursor)?;
            let relocating = Relocating {
                number: cursor.varint()?,
                from: cursor.u32()?,
                to: cursor.u32()?,
            };
            let stage = match cursor.u8()? {
                1 => Stage::Leaving,
                2 => Stage::Cut,
                3 => Stage::Gone,
                4 => Stage::Expected,
                5 => Stage::Here,
                _ => return None,
            };
            let last = by_name.last_key_value();
            if last.is_some_and(|(last, _)| *last >= name) || by_name.len() >= MOVED_NAMES_MAX {
                return None;
            }
            by_name.insert(name, Moved { relocating, stage });
        }
        Some(Self { by_name })
    }
}

fn decode_name(cursor: &mut Cursor<'_>) -> Option<DestinationName> {
    let length = usize::from(cursor.u8()?);
    let name = std::str::from_utf8(cursor.take(length)?).ok()?;
    DestinationName::new(name).ok()
}

impl State {
    /// The names that moved.
    pub(crate) fn relocations(&self) -> &Relocations {
        &self.relocations
    }

    /// The move of a destination. Looked up once in a batch: its commands name few destinations.
    pub(super) fn moved_of(
        &self,
        destination: u16,
        batch: &Batch,
        record: &mut Record,
    ) -> Option<Moved> {
        if self.relocations.is_empty() {
            return None;
        }
        let count = batch.destinations().len();
        if record.moved.len() < count {
            record.moved.resize(count, None);
        }
        let of = || self.relocations.of(batch.destination(destination)).copied();
        *record.moved[usize::from(destination)].get_or_insert_with(of)
    }

    /// Whether a destination does not take this producer's message, since it lives elsewhere or is to come.
    pub(crate) fn is_elsewhere(&self, destination: &Destination, producer: ProducerId) -> bool {
        self.relocations
            .of(destination)
            .is_some_and(|moved| !moved.takes(producer))
    }

    /// The same for an operator's or a consumer's command.
    pub(super) fn is_managed_elsewhere(&self, destination: &Destination) -> bool {
        self.is_elsewhere(destination, ProducerId::default())
    }

    /// Whether a destination is on its way elsewhere and takes messages in.
    pub(super) fn is_leaving(&self, destination: &Destination) -> bool {
        let moved = self.relocations.of(destination);
        moved.is_some_and(Moved::is_leaving)
    }

    /// Whether what a queue holds is delivered here.
    pub(crate) fn is_delivered(&self, id: QueueId) -> bool {
        if self.relocations.is_empty() {
            return true;
        }
        let queue = self.queue(id);
        let moved = match queue.kind() {
            DestinationKind::Queue => self.relocations.get(root(queue.name())),
            DestinationKind::Topic | DestinationKind::Subscription => None,
        };
        moved.is_none_or(Moved::is_delivered)
    }

    /// Everything that is placed with a name and exists: the queue, the topic, the queues of the virtual topic.
    pub(crate) fn family(&self, name: &DestinationName) -> Vec<QueueId> {
        let queue = self.queue_id(name);
        let topic = self.topics.topic_id(name);
        let queues = self.topics.exactly(name);
        let queues = queues.filter(|id| self.queue(*id).kind() == DestinationKind::Queue);
        queue.into_iter().chain(topic).chain(queues).collect()
    }

    /// Why a name cannot leave this shard.
    pub(crate) fn obstacle(&self, name: &DestinationName) -> Option<Obstacle> {
        let exactly = self.topics.exactly(name);
        let subscriptions =
            exactly.filter(|id| self.queue(*id).kind() == DestinationKind::Subscription);
        let count = subscriptions.count();
        if count > 0 {
            return Some(Obstacle::Subscriptions { count });
        }
        let topic = self.topics.topic_id(name);
        if topic.is_some_and(|id| self.queue(id).keeps_any() || self.settings_of(id).retain_ms > 0)
        {
            return Some(Obstacle::Kept);
        }
        let count = self.family(name).len();
        if count > FAMILY_MAX {
            return Some(Obstacle::TooManyQueues { count });
        }
        let names = &self.relocations.by_name;
        let is_full = names.len() >= MOVED_NAMES_MAX && !names.contains_key(name);
        is_full.then_some(Obstacle::TooManyNames)
    }

    /// Whether nothing of a name that leaves is here any more, in anybody's hands or on its way.
    pub(crate) fn is_emptied(&self, name: &DestinationName) -> bool {
        let is_empty = |id: &QueueId| {
            let queue = self.queue(*id);
            let target = self.outbox.target_id(&queue.destination());
            let on_the_way = target.is_some_and(|target| !self.outbox.target(target).is_empty());
            queue.is_emptied() && !on_the_way
        };
        self.family(name).iter().all(is_empty) && !self.transactions.has_prepared(name)
    }

    /// Applies a step of a move.
    pub(super) fn relocate(
        &mut self,
        (entry, ordinal): (u64, u16),
        command: Command,
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        let Command::Relocate {
            destination,
            step,
            relocating,
        } = command
        else {
            unreachable!("only steps of moves come here")
        };
        let destination = batch.destination(destination).clone();
        let body = batch.body(ordinal).unwrap_or_default();
        let outcome = match step {
            Step::Leave => self.leave(&destination.name, relocating),
            Step::Expect => self.expect((entry, &body), &destination.name, relocating, record),
            Step::Cut => self.cut(&destination.name, relocating),
            Step::Adopt => self.adopt((entry, &body), &destination, relocating, record),
            Step::Open => self.advance(&destination.name, relocating, Stage::Expected, Stage::Here),
            Step::Depart => self.depart(&destination.name, relocating),
        };
        record.changes.push(Change::Relocated);
        record.moved.clear();
        outcome
    }

    /// Whether a move is the newest of its name, and new.
    fn is_new_move(&self, name: &DestinationName, relocating: Relocating) -> bool {
        let known = self.relocations.by_name.get(name);
        known.is_none_or(|known| known.relocating.number < relocating.number)
    }

    /// Goes from one stage of a move to the next; where it is not in that stage nothing is to be done.
    fn advance(
        &mut self,
        name: &DestinationName,
        relocating: Relocating,
        from: Stage,
        to: Stage,
    ) -> Outcome {
        let known = self.relocations.by_name.get_mut(name);
        if let Some(known) =
            known.filter(|known| known.relocating == relocating && known.stage == from)
        {
            known.stage = to;
        }
        Outcome::Applied
    }

    fn leave(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        if !self.is_new_move(name, relocating) {
            return Outcome::Applied;
        }
        let known = self.relocations.by_name.get(name);
        let is_here = known.is_none_or(|known| known.stage == Stage::Here);
        if !is_here || self.obstacle(name).is_some() {
            return Outcome::LimitReached;
        }
        let stage = Stage::Leaving;
        self.relocations
            .by_name
            .insert(name.clone(), Moved { relocating, stage });
        Outcome::Applied
    }

    /// The name is to come, and what the source's own outbox had stored there.
    fn expect(
        &mut self,
        (entry, body): (u64, &[u8]),
        name: &DestinationName,
        relocating: Relocating,
        record: &mut Record,
    ) -> Outcome {
        if !self.is_new_move(name, relocating) {
            return Outcome::Applied;
        }
        let names = &self.relocations.by_name;
        let Some(windows) = decode_expected(&mut Cursor(body), name) else {
            return Outcome::UnknownMessage;
        };
        let missing = windows.iter().filter(|(at, _)| self.id_of(at).is_none());
        let room = self.queues_max as usize + self.topics.free_count() - self.queues.len();
        let is_full = names.len() >= MOVED_NAMES_MAX && !names.contains_key(name);
        if is_full || missing.count() > room {
            return Outcome::LimitReached;
        }
        let stage = Stage::Expected;
        self.relocations
            .by_name
            .insert(name.clone(), Moved { relocating, stage });
        let source = ProducerId::of_shard(relocating.from);
        for (at, window) in windows {
            if let Some(id) = self.id_of(&at).or_else(|| self.make(&at, record)) {
                self.dedup.adopt((id, source), window, entry);
            }
        }
        Outcome::Applied
    }

    fn cut(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        // What a transaction is to store takes its place among the messages of its time.
        if self.transactions.has_prepared(name) {
            return Outcome::LimitReached;
        }
        self.advance(name, relocating, Stage::Leaving, Stage::Cut)
    }

    /// What the source knows of the producers of one destination.
    fn adopt(
        &mut self,
        (entry, body): (u64, &[u8]),
        destination: &Destination,
        relocating: Relocating,
        record: &mut Record,
    ) -> Outcome {
        let moved = self.relocations.of(destination);
        let is_expected = moved
            .is_some_and(|moved| moved.relocating == relocating && moved.stage == Stage::Expected);
        if !is_expected {
            return Outcome::Applied;
        }
        let Some(adopted) = Adopted::decode(body) else {
            return Outcome::UnknownMessage;
        };
        let known = self.id_of(destination);
        let Some(id) = known.or_else(|| self.make(destination, record)) else {
            return Outcome::LimitReached;
        };
        let queue = &mut self.queues[id.0 as usize];
        queue.is_paused = adopted.is_paused;
        queue.has_groups |= adopted.has_groups;
        let source = ProducerId::of_shard(relocating.from);
        for (producer, window) in adopted.windows {
            if producer != source {
                self.dedup.adopt((id, producer), window, entry);
            }
        }
        Outcome::Applied
    }

    fn depart(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        if !self.is_emptied(name) {
            return Outcome::LimitReached;
        }
        let known = self.relocations.by_name.get(name);
        let is_cut =
            known.is_some_and(|known| known.relocating == relocating && known.stage == Stage::Cut);
        if is_cut {
            for id in self.family(name) {
                if self.queue(id).kind() == DestinationKind::Topic {
                    self.empty(id);
                }
                self.dedup.forget_clients(id);
            }
        }
        self.advance(name, relocating, Stage::Cut, Stage::Gone)
    }

    /// Whether a message of this queue may be put on its way with its name.
    pub(super) fn may_relocate(&self, id: QueueId) -> bool {
        let moved = self.relocations.of(&self.queue(id).destination());
        moved.is_some_and(|moved| match moved.stage {
            Stage::Leaving | Stage::Cut => true,
            Stage::Gone | Stage::Expected | Stage::Here => false,
        })
    }

    /// What a message takes along.
    pub(super) fn luggage(
        &self,
        id: QueueId,
        position: quorate_message::MessagePosition,
        due_ms: u64,
    ) -> Relocation {
        let queue = self.queue(id);
        let repeat = queue.timing.repeats.get(&position);
        let is_waiting = queue.timing.waiting.contains(position);
        Relocation {
            count: queue.count(position),
            was_sent: queue.was_sent(position),
            due_ms: match repeat {
                Some(repeat) => repeat.next_ms,
                None if is_waiting => due_ms,
                None => 0,
            },
            period_ms: repeat.map_or(0, |repeat| repeat.period_ms),
            left: repeat.map_or(0, |repeat| repeat.left),
            cron: repeat.map_or_else(String::new, |repeat| repeat.cron.clone()),
        }
    }

    /// Stores what came with its name, if it waits for its time. False: it does not wait.
    pub(super) fn store_arrived_waiting(
        &mut self,
        id: QueueId,
        turn: Turn,
        bytes: u64,
        arrived: &Relocation,
    ) -> bool {
        if arrived.due_ms == 0 {
            return false;
        }
        let repeat = (arrived.left > 0).then(|| Repeat {
            cron: arrived.cron.clone(),
            period_ms: arrived.period_ms,
            left: arrived.left,
            next_ms: arrived.due_ms,
        });
        self.store_waiting_until(id, turn, bytes, (arrived.due_ms, repeat));
        true
    }

    /// Remembers what a message that is stored brought along.
    pub(super) fn unpack(&mut self, id: QueueId, turn: Turn, arrived: &Relocation) {
        let queue = &mut self.queues[id.0 as usize];
        if arrived.count > 0 {
            queue.counts.insert(turn.position(), arrived.count);
        }
        if arrived.was_sent {
            queue.mark_sent(turn.position());
        }
    }
}

/// Whether a transfer goes with its name.
pub(super) fn is_relocation(reason: MoveReason) -> bool {
    match reason {
        MoveReason::Relocated => true,
        MoveReason::Expired
        | MoveReason::DeliveryLimit
        | MoveReason::Rejected
        | MoveReason::QueueFull
        | MoveReason::Moved
        | MoveReason::Copied
        | MoveReason::Retried
        | MoveReason::VirtualTopic => false,
    }
}
