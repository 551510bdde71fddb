//! Names that moved from one shard to another, or are on their way.
//!
//! ```text
//! source   Leave: the target is asked   Ship: nothing is delivered   Cut: nothing is taken in   Depart: nothing is left
//!          Stay: or it stays            messages go out, in order    the rest goes out
//! target   Expect: only the source sends                             Adopt, Open: its producers' numbers; everybody sends
//! ```
//! A shard remembers every name that left it or came to it: a command for a name that lives elsewhere is answered with
//! `Moved` and does nothing, whoever is out of date. Steps of a move with a number that is not the highest do nothing,
//! so that each may come twice and late. What keeps a name from leaving is remembered as well: a move that was refused
//! never begins afterwards. From `Ship` on there is no way back, since messages may be at the target; it is logged only
//! after the target has said that it expects the name.
//!
//! The numbers of this shard's own outbox are apart from those of other producers: from `Leave` on nothing of it is
//! stored here, and from `Ship` on it goes to the target, under numbers that go on; so what of it was stored here is told
//! with `Expect`. Whether queues are paused is told with it too, since the target delivers what arrives: `Ship` does
//! nothing when that has changed since, and the target is told again.

mod luggage;
mod names;
mod obstacle;
mod subscriptions;
mod telling;

use quorate_message::{
    Batch, Command, Destination, DestinationKind, DestinationName, Outcome, ProducerId, Relocating,
    Step, root,
};

use super::codec::Cursor;
use super::{Change, QueueId, Record, State};
pub(super) use luggage::is_relocation;
pub(super) use names::Moved;
use names::decode_name;
pub(crate) use names::{Relocations, Stage};
pub use obstacle::Obstacle;
use telling::{Adopted, Expectation, decode_expected};

impl State {
    /// The names that moved.
    pub(crate) fn relocations(&self) -> &Relocations {
        &self.relocations
    }

    /// Whether a message is not taken here, because of where its destination lives or goes.
    pub(super) fn is_for_elsewhere(
        &self,
        destination: u16,
        producer: ProducerId,
        batch: &Batch,
        record: &mut Record,
    ) -> bool {
        let stays_behind = || self.would_stay_behind(batch.destination(destination));
        let moved = self.moved_of(destination, batch, record);
        moved.is_some_and(|moved| {
            !moved.takes(producer) || moved.stage == Stage::Shipping && stays_behind()
        })
    }

    /// The move of a destination. Looked up once in a batch: its commands name few destinations.
    fn moved_of(&self, destination: u16, batch: &Batch, record: &mut Record) -> Option<Moved> {
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

    /// Whether something would stay behind if it were taken in: a destination of a name that leaves is made where it goes.
    pub(super) fn would_stay_behind(&self, destination: &Destination) -> bool {
        let moved = self.relocations.of(destination);
        moved.is_some_and(|moved| moved.stage == Stage::Shipping)
            && self.id_of(destination).is_none()
    }

    /// Whether a topic is to come, and its subscriptions are not known for good.
    pub(super) fn is_not_sure_of(&self, topic: &Destination) -> bool {
        let moved = self.relocations.of(topic);
        moved.is_some_and(|moved| match moved.stage {
            Stage::Expected { ships, .. } => !ships,
            Stage::Leaving { .. }
            | Stage::Shipping
            | Stage::Cut
            | Stage::Gone
            | Stage::Here
            | Stage::Stays(_) => false,
        })
    }

    /// Whether new subscriptions to a topic wait until it is where it goes.
    pub(super) fn waits_for_subscriptions(&self, topic: &Destination) -> bool {
        let moved = self.relocations.of(topic);
        moved.is_some_and(|moved| match moved.stage {
            Stage::Shipping | Stage::Cut | Stage::Gone | Stage::Expected { .. } => true,
            Stage::Leaving { .. } | Stage::Here | Stage::Stays(_) => false,
        })
    }

    /// Whether what a place holds is delivered here.
    pub(crate) fn is_delivered(&self, id: QueueId) -> bool {
        self.moved_at(id).is_none_or(Moved::is_delivered)
    }

    /// Everything that is placed with a name and exists: the queue, the topic, the queues of the virtual topic.
    pub(crate) fn family(&self, name: &DestinationName) -> Vec<QueueId> {
        let queue = self.queue_id(name);
        let topic = self.topics.topic_id(name);
        let queues = self.topics.exactly(name);
        let queues = queues.filter(|id| self.queue(*id).kind() == DestinationKind::Queue);
        queue.into_iter().chain(topic).chain(queues).collect()
    }

    /// Whether nothing of a name that leaves is here any more, in anybody's hands or on its way.
    pub(crate) fn is_emptied(&self, name: &DestinationName) -> bool {
        let is_empty = |id: &QueueId| {
            let queue = self.queue(*id);
            let target = self.outbox.target_id(&queue.destination());
            let on_the_way = target.is_some_and(|target| !self.outbox.target(target).is_empty());
            queue.is_emptied() && !queue.keeps_any() && !on_the_way
        };
        self.household(name).iter().all(is_empty) && !self.transactions.has_prepared(name)
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
        let place = destination;
        let destination = batch.destination(place).clone();
        let body = batch.body(ordinal).unwrap_or_default();
        let name = &destination.name;
        let outcome = match step {
            Step::Leave => self.leave(name, relocating),
            Step::Expect => self.expect((entry, &body), name, relocating, record),
            Step::Ship => self.ship(name, relocating, &body),
            Step::Stay => self.stay(name, relocating, &body),
            Step::Cut => self.cut(name, relocating),
            Step::Adopt => self.adopt((entry, &body), &destination, relocating, record),
            Step::Open => self.open(name, relocating),
            Step::Depart => self.depart((place, name), relocating, record),
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

    /// How far a move is, if it is the newest of its name.
    fn stage_of(&self, name: &DestinationName, relocating: Relocating) -> Option<Stage> {
        let known = self.relocations.by_name.get(name);
        let known = known.filter(|known| known.relocating == relocating);
        known.map(|known| known.stage)
    }

    fn set_stage(&mut self, name: &DestinationName, relocating: Relocating, stage: Stage) {
        let moved = Moved { relocating, stage };
        self.relocations.by_name.insert(name.clone(), moved);
    }

    fn leave(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        if !self.is_new_move(name, relocating) {
            return Outcome::Applied;
        }
        let known = self.relocations.by_name.get(name);
        if known.is_some_and(|known| !known.stage.is_here()) {
            return Outcome::LimitReached;
        }
        let stage = match self.obstacle(name) {
            None => Stage::Leaving {
                as_of: self.applied,
            },
            Some(obstacle) if obstacle.is_remembered() => Stage::Stays(obstacle),
            Some(_) => return Outcome::LimitReached,
        };
        self.set_stage(name, relocating, stage);
        Outcome::Applied
    }

    /// The name is to come, with what the source's own outbox had stored there and what is paused. The source may tell it
    /// again, with more.
    fn expect(
        &mut self,
        (entry, body): (u64, &[u8]),
        name: &DestinationName,
        relocating: Relocating,
        record: &mut Record,
    ) -> Outcome {
        let Some(told) = decode_expected(&mut Cursor(body), name) else {
            return Outcome::UnknownMessage;
        };
        let Expectation {
            as_of,
            expected,
            subscriptions,
        } = told;
        let is_new = self.is_new_move(name, relocating);
        let is_newer = match self.stage_of(name, relocating) {
            Some(Stage::Expected {
                as_of: known,
                ships,
            }) => known < as_of && !ships,
            Some(
                Stage::Leaving { .. }
                | Stage::Shipping
                | Stage::Cut
                | Stage::Gone
                | Stage::Here
                | Stage::Stays(_),
            )
            | None => false,
        };
        if !is_new && !is_newer {
            return Outcome::Applied;
        }
        let missing = expected
            .iter()
            .filter(|expected| self.id_of(&expected.at).is_none());
        let unknown = subscriptions
            .iter()
            .filter(|(key, _)| self.topics.subscription_id(key).is_none());
        let missing = missing.count() + unknown.count();
        let room = self.queues_max as usize + self.topics.free_count() - self.queues.len();
        if self.relocations.is_full_for(name) || missing > room {
            return Outcome::LimitReached;
        }
        let ships = false;
        self.set_stage(name, relocating, Stage::Expected { as_of, ships });
        let source = ProducerId::of_shard(relocating.from);
        for told in expected {
            let known = self.id_of(&told.at);
            if let Some(id) = known.or_else(|| self.make(&told.at, record)) {
                self.dedup.adopt((id, source), told.window, entry);
                self.queues[id.0 as usize].is_paused = told.is_paused;
                if !told.is_paused {
                    record.changes.push(Change::Resumed(id));
                }
            }
        }
        self.expect_subscriptions(name, subscriptions, record);
        Outcome::Applied
    }

    /// The target expects the name, as it was when it was told: what is here goes there. What has come in the way meanwhile
    /// keeps it here.
    fn ship(&mut self, name: &DestinationName, relocating: Relocating, body: &[u8]) -> Outcome {
        let Some(told) = Cursor(body).varint() else {
            return Outcome::UnknownMessage;
        };
        let Some(Stage::Leaving { as_of }) = self.stage_of(name, relocating) else {
            return Outcome::Applied;
        };
        let stage = match self.obstacle(name) {
            Some(obstacle) => Stage::Stays(obstacle),
            None if told < as_of => return Outcome::LimitReached,
            None => Stage::Shipping,
        };
        self.set_stage(name, relocating, stage);
        Outcome::Applied
    }

    /// The target cannot take the name: it stays. Not after `Ship`.
    fn stay(&mut self, name: &DestinationName, relocating: Relocating, body: &[u8]) -> Outcome {
        let Some(obstacle) = Obstacle::decode(&mut Cursor(body)) else {
            return Outcome::UnknownMessage;
        };
        if let Some(Stage::Leaving { .. }) = self.stage_of(name, relocating) {
            self.set_stage(name, relocating, Stage::Stays(obstacle));
        }
        Outcome::Applied
    }

    fn cut(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        // What a transaction is to store takes its place among the messages of its time.
        if self.transactions.has_prepared(name) {
            return Outcome::LimitReached;
        }
        if self.stage_of(name, relocating) == Some(Stage::Shipping) {
            self.set_stage(name, relocating, Stage::Cut);
        }
        Outcome::Applied
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
        let moved = moved.filter(|moved| moved.relocating == relocating);
        let Some(Stage::Expected { as_of, .. }) = moved.map(|moved| moved.stage) else {
            return Outcome::Applied;
        };
        let Some(adopted) = Adopted::decode(body) else {
            return Outcome::UnknownMessage;
        };
        if let Ok(name) = DestinationName::new(root(&destination.name)) {
            let ships = true;
            self.set_stage(&name, relocating, Stage::Expected { as_of, ships });
        }
        let known = self.id_of(destination);
        let Some(id) = known.or_else(|| self.make(destination, record)) else {
            return Outcome::LimitReached;
        };
        self.queues[id.0 as usize].has_groups |= adopted.has_groups;
        let source = ProducerId::of_shard(relocating.from);
        for (producer, window) in adopted.windows {
            if producer != source {
                self.dedup.adopt((id, producer), window, entry);
            }
        }
        Outcome::Applied
    }

    fn open(&mut self, name: &DestinationName, relocating: Relocating) -> Outcome {
        if let Some(Stage::Expected { .. }) = self.stage_of(name, relocating) {
            self.set_stage(name, relocating, Stage::Here);
        }
        Outcome::Applied
    }

    fn depart(
        &mut self,
        (place, name): (u16, &DestinationName),
        relocating: Relocating,
        record: &mut Record,
    ) -> Outcome {
        if !self.is_emptied(name) {
            return Outcome::LimitReached;
        }
        if self.stage_of(name, relocating) != Some(Stage::Cut) {
            return Outcome::Applied;
        }
        for id in self.family(name) {
            self.dedup.forget_clients(id);
        }
        self.release_subscriptions(name, record);
        record.changes.push(Change::Left(place));
        self.set_stage(name, relocating, Stage::Gone);
        Outcome::Applied
    }

    /// Whether a message of this queue may be put on its way with its name.
    pub(super) fn may_relocate(&self, id: QueueId) -> bool {
        self.moved_at(id).is_some_and(|moved| match moved.stage {
            Stage::Shipping | Stage::Cut => true,
            Stage::Leaving { .. }
            | Stage::Gone
            | Stage::Expected { .. }
            | Stage::Here
            | Stage::Stays(_) => false,
        })
    }
}
