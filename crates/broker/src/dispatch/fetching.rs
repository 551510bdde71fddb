//! What is being read from the log, and for which lanes: a message of a topic may be wanted by many subscriptions at
//! one time, and is read once for all of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_message::MessagePosition;

use super::{Dispatcher, LaneId};
use crate::Effect;
use crate::broker::Counters;
use crate::limits::UNREADABLE_RETRY;
use crate::state::{State, Turn};

/// Who waits for which message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetching {
    wanted: BTreeMap<MessagePosition, Vec<(LaneId, Turn)>>,
    count: usize,
}

impl Fetching {
    /// A lane wants a message. Whether it has to be read: nobody else waits for it.
    fn add(&mut self, id: LaneId, turn: Turn) -> bool {
        let waiting = self.wanted.entry(turn.position()).or_default();
        waiting.push((id, turn));
        self.count += 1;
        waiting.len() == 1
    }

    /// A lane waits for a message no longer.
    pub(super) fn drop(&mut self, id: LaneId, position: MessagePosition) {
        let Some(waiting) = self.wanted.get_mut(&position) else {
            return;
        };
        let before = waiting.len();
        waiting.retain(|(other, _)| *other != id);
        self.count -= before - waiting.len();
        if waiting.is_empty() {
            self.wanted.remove(&position);
        }
    }

    /// A message is here, or cannot be read: who waited for it.
    fn take(&mut self, position: MessagePosition) -> Vec<(LaneId, Turn)> {
        let waiting = self.wanted.remove(&position).unwrap_or_default();
        self.count -= waiting.len();
        waiting
    }

    /// How many messages lanes wait for, each counted for each lane.
    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

impl Dispatcher {
    /// Asks for messages that a lane wants.
    pub(super) fn fetch(&mut self, id: LaneId, turns: &[Turn], effects: &mut Vec<Effect>) {
        let unread = turns.iter().filter(|turn| self.fetching.add(id, **turn));
        let positions: Vec<MessagePosition> = unread.map(|turn| turn.position()).collect();
        if !positions.is_empty() {
            effects.push(Effect::Fetch { positions });
        }
    }

    /// A message was read, or could not be.
    pub(super) fn read(
        &mut self,
        now: u64,
        (position, message): (MessagePosition, Option<Bytes>),
        state: &State,
        counters: &mut Counters,
        effects: &mut Vec<Effect>,
    ) {
        self.forwarder
            .fetched(now, position, message.as_ref(), state, effects);
        self.sift_read(now, (position, message.as_ref()), state);
        match message {
            Some(message) => self.fetched(position, &message),
            None => self.missing(now, position, counters),
        }
    }

    fn fetched(&mut self, position: MessagePosition, message: &Bytes) {
        for (id, turn) in self.fetching.take(position) {
            self.lanes[id.0].fetched(turn, message.clone(), &mut self.read_ahead);
            self.touch(id);
        }
    }

    fn missing(&mut self, now: u64, position: MessagePosition, counters: &mut Counters) {
        for (id, turn) in self.fetching.take(position) {
            counters.unreadable += 1;
            self.lanes[id.0].missing(turn, &mut self.read_ahead);
            self.touch(id);
            let retry = now.saturating_add(UNREADABLE_RETRY);
            self.unreadable_at.get_or_insert(retry);
        }
    }
}
