//! The settings that the shard goes by: the rules as they were logged last, and what they say of each queue.
//!
//! Part of the replicated state: what apply does about a queue may depend on nothing but these. Queues with equal
//! settings share one copy, found again by the rules that match.

use std::collections::BTreeMap;

use quorate_message::{Batch, DestinationName, Outcome, QueueSettings, Settings};

use super::codec::{Cursor, Sink};
use super::{Change, Queue, QueueId, Record, State};

impl State {
    /// Goes by these rules from here on, unless newer ones are in force: a leader that knew less may come later.
    pub(super) fn configure(&mut self, rules: Settings) {
        if rules.version() > self.settings.rules.version() {
            self.settings = Governing::new(rules, &self.queues);
        }
    }

    /// Ends or begins again the delivery of a queue, which is made if it is new.
    pub(super) fn pause(
        &mut self,
        destination: u16,
        is_paused: bool,
        batch: &Batch,
        record: &mut Record,
    ) -> Outcome {
        let at = batch.destination(destination);
        // Of a name that moves, the shard pauses that delivers it.
        let moved = self.relocations.of(at);
        if moved.is_some_and(|moved| !moved.is_delivered()) {
            return Outcome::Moved;
        }
        self.relocations.untold(at, self.applied);
        let queue = match self.queue_for(destination, true, batch, record) {
            Ok(queue) => queue,
            Err(outcome) => return outcome,
        };
        self.queues[queue.0 as usize].is_paused = is_paused;
        if !is_paused {
            record.changes.push(Change::Resumed(queue));
        }
        Outcome::Applied
    }
}

/// Stands behind the places of the rules when the queue is the dead-letter queue that they name.
const OWN_DEAD_LETTERS: u16 = u16::MAX;

/// The rules, and what they say of each queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Governing {
    rules: Settings,
    distinct: Vec<QueueSettings>,
    /// By the places of the rules that match.
    by_places: BTreeMap<Vec<u16>, u32>,
    /// Of each queue, by its number.
    of_queue: Vec<u32>,
}

impl Governing {
    /// The rules as they were logged.
    pub(super) fn new(rules: Settings, queues: &[Queue]) -> Self {
        let mut governing = Self {
            rules,
            ..Self::default()
        };
        for (queue, id) in queues.iter().zip((0..).map(QueueId)) {
            governing.made(id, queue.settings_name());
        }
        governing
    }

    /// The rules.
    pub(crate) fn rules(&self) -> &Settings {
        &self.rules
    }

    /// What is said of a queue.
    pub(crate) fn of(&self, queue: QueueId) -> &QueueSettings {
        &self.distinct[self.of_queue[queue.0 as usize] as usize]
    }

    /// A queue was made: at the next place, or at one that a subscription had.
    pub(super) fn made(&mut self, queue: QueueId, name: &DestinationName) {
        let mut places = self.rules.matching(name);
        let mut place = self.place(&places);
        let settings = &self.distinct[place as usize];
        if settings.dead_letter_queue.as_ref() == Some(name) {
            places.push(OWN_DEAD_LETTERS);
            place = self.place(&places);
        }
        match self.of_queue.get_mut(queue.0 as usize) {
            Some(known) => *known = place,
            None => self.of_queue.push(place),
        }
    }

    /// Appends the rules. What they say of each queue follows from them.
    pub(super) fn encode(&self, sink: &mut Sink) {
        let bytes = self.rules.encode();
        sink.varint(bytes.len() as u64);
        sink.bytes(&bytes);
        sink.spill();
    }

    /// Reads what `encode` wrote, for these queues.
    pub(super) fn decode(cursor: &mut Cursor<'_>, queues: &[Queue]) -> Option<Self> {
        let length = usize::try_from(cursor.varint()?).ok()?;
        let rules = Settings::decode(cursor.take(length)?)?;
        Some(Self::new(rules, queues))
    }

    fn place(&mut self, places: &[u16]) -> u32 {
        if let Some(place) = self.by_places.get(places) {
            return *place;
        }
        let place = u32::try_from(self.distinct.len()).expect("no more than there are queues");
        let settings = match places.split_last() {
            Some((&OWN_DEAD_LETTERS, places)) => self.rules.merged(places).without_dead_letters(),
            Some(_) | None => self.rules.merged(places),
        };
        self.distinct.push(settings);
        self.by_places.insert(places.to_vec(), place);
        place
    }
}
