//! Subscriptions with a selector, as the leader sees to them: every message of the topic is shown to the selector once,
//! as it comes, whether anybody receives or not; what is not selected is said in the log, many messages at once, and
//! removed by all replicas.
//!
//! ```text
//! unjudged -> selected                                     delivered like any other
//!          -> skipped: in nobody's hands -> proposed -> removed when that is committed
//! ```
//! What a leader judged and could not log, the next one judges again: the answer is the same. What was not judged as it
//! came (a leader begins, a transaction was finished, a subscription begins with older messages) is read from the log
//! piece by piece. Whatever is about to be delivered is shown to the selector in any case, so that no mistake of this
//! book-keeping delivers what is not wanted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_message::{
    Batch, BatchBuilder, Destination, DestinationKind, MessagePosition, Runs, Selector, Skipped,
};
use roaring::RoaringTreemap;

use super::{Dispatcher, Held, Holder, LaneId};
use crate::limits::{
    PROPOSE_RETRY, SIFT_AT_ONCE_MAX, SIFT_LOG_EVERY, SIFT_READ_BYTES, SIFT_READ_MESSAGES,
    SIZE_GUESS_BYTES, SKIP_AFTER, SKIP_COMMANDS_MAX, SKIP_MESSAGES, SKIP_RUNS_MAX,
    UNREADABLE_RETRY,
};
use crate::state::{QueueId, State, Turn};
use crate::{AttachRefusal, Effect};

/// All subscriptions with a selector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sifters {
    by_queue: BTreeMap<QueueId, Sifter>,
    /// Those that have something to read and judge.
    behind: BTreeSet<QueueId>,
    /// Those whose next proposal may be due at another time.
    changed: BTreeSet<QueueId>,
    due: BTreeSet<(u64, QueueId)>,
    reading: BTreeSet<MessagePosition>,
    /// Whose messages were read last.
    last_read: Option<QueueId>,
    retry_at: Option<u64>,
    size_guess: u64,
    /// How many answers selectors gave in this step.
    asked: usize,
}

/// One of them.
#[derive(Clone, Debug)]
struct Sifter {
    made: u64,
    /// None: this build cannot read it. Nothing is delivered then, and nothing skipped.
    selector: Option<Selector>,
    unjudged: RoaringTreemap,
    /// Not selected, and not proposed to be removed.
    skipped: RoaringTreemap,
    /// Not selected, and proposed to be removed, until when that is given up.
    proposed: RoaringTreemap,
    proposed_until: Option<u64>,
    /// Selected, and late in the state.
    late_selected: RoaringTreemap,
    /// Judged since the last proposal.
    judged: u64,
    due: Option<u64>,
}

impl Sifters {
    pub(super) fn new(state: &State) -> Self {
        let mut sifters = Self {
            size_guess: SIZE_GUESS_BYTES,
            ..Self::default()
        };
        for (id, _) in state.topics().subscriptions() {
            sifters.made(id, state);
        }
        sifters
    }

    /// A subscription is there. Does nothing for one without a selector.
    pub(super) fn made(&mut self, id: QueueId, state: &State) {
        self.ended(id);
        let (Some(sift), Some(subscription)) = (state.sift(id), state.topics().subscription(id))
        else {
            return;
        };
        let queue = state.queue(id);
        let mut unjudged = queue.pending_since(sift.judged_to());
        for value in sift.late() {
            if queue.contains(MessagePosition::from_value(value)) {
                unjudged.insert(value);
            }
        }
        let sifter = Sifter {
            made: sift.made(),
            selector: Selector::parse(&subscription.selector).ok(),
            unjudged,
            skipped: RoaringTreemap::new(),
            proposed: RoaringTreemap::new(),
            proposed_until: None,
            late_selected: RoaringTreemap::new(),
            judged: 0,
            due: None,
        };
        if !sifter.unjudged.is_empty() && sifter.selector.is_some() {
            self.behind.insert(id);
        }
        self.by_queue.insert(id, sifter);
    }

    /// A subscription ended.
    pub(super) fn ended(&mut self, id: QueueId) {
        let ended = self.by_queue.remove(&id);
        if let Some(due) = ended.and_then(|sifter| sifter.due) {
            self.due.remove(&(due, id));
        }
        self.behind.remove(&id);
        self.changed.remove(&id);
    }

    /// A message is gone, or in a transaction's hands.
    pub(super) fn forget(&mut self, id: QueueId, position: MessagePosition) {
        let Some(sifter) = self.by_queue.get_mut(&id) else {
            return;
        };
        let value = position.value();
        sifter.skipped.remove(value);
        sifter.proposed.remove(value);
        sifter.late_selected.remove(value);
        if sifter.unjudged.remove(value) && sifter.unjudged.is_empty() {
            self.behind.remove(&id);
        }
    }

    /// All messages are gone.
    fn purged(&mut self, id: QueueId) {
        if let Some(sifter) = self.by_queue.get_mut(&id) {
            sifter.unjudged.clear();
            sifter.skipped.clear();
            sifter.proposed.clear();
            sifter.late_selected.clear();
            self.behind.remove(&id);
        }
    }

    /// Whether a non-persistent message goes to this place.
    pub(super) fn selects(&self, id: QueueId, position: MessagePosition, message: &[u8]) -> bool {
        self.by_queue.get(&id).is_none_or(|sifter| {
            let selector = sifter.selector.as_ref();
            selector.is_some_and(|selector| selector.selects(position, message))
        })
    }

    /// When something is to be done.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let due = self.due.first().map(|(due, _)| *due);
        due.into_iter().chain(self.retry_at).min()
    }

    /// These messages joined and are to be judged later.
    fn postpone(&mut self, id: QueueId, first: MessagePosition, last: MessagePosition) {
        if let Some(sifter) = self.by_queue.get_mut(&id) {
            sifter.unjudged.insert_range(first.value()..=last.value());
            if sifter.selector.is_some() {
                self.behind.insert(id);
            }
        }
    }

    /// Whether a message that was judged before is selected indeed.
    fn is_known_selected(&self, id: QueueId, position: MessagePosition, message: &[u8]) -> bool {
        let sifter = self.by_queue.get(&id);
        sifter.is_some_and(|sifter| {
            !sifter.unjudged.contains(position.value()) && self.selects(id, position, message)
        })
    }

    /// Asks the selector about one message. None where there is no selector.
    fn judge(
        &mut self,
        id: QueueId,
        position: MessagePosition,
        message: &[u8],
        is_late: bool,
    ) -> Option<bool> {
        let sifter = self.by_queue.get_mut(&id)?;
        let selector = sifter.selector.as_ref()?;
        self.asked += 1;
        let is_selected = selector.selects(position, message);
        let value = position.value();
        if sifter.unjudged.remove(value) && sifter.unjudged.is_empty() {
            self.behind.remove(&id);
        }
        sifter.judged += 1;
        if !is_selected {
            if !sifter.proposed.contains(value) {
                sifter.skipped.insert(value);
            }
        } else if is_late {
            sifter.late_selected.insert(value);
        }
        self.changed.insert(id);
        Some(is_selected)
    }

    /// Puts those that changed where they belong in the order of what is due.
    fn schedule(&mut self, now: u64) {
        for id in std::mem::take(&mut self.changed) {
            let Some(sifter) = self.by_queue.get_mut(&id) else {
                continue;
            };
            let due = sifter.next_due(now);
            if due != sifter.due {
                if let Some(before) = sifter.due {
                    self.due.remove(&(before, id));
                }
                self.due.extend(due.map(|due| (due, id)));
                sifter.due = due;
            }
        }
    }
}

impl Sifter {
    /// When something is to be proposed, if nothing more happens.
    fn next_due(&self, now: u64) -> Option<u64> {
        if self.proposed_until.is_some() {
            return self.proposed_until;
        }
        let is_much = self.skipped.len() >= SKIP_MESSAGES || self.judged >= SIFT_LOG_EVERY;
        let is_any = !self.skipped.is_empty() || !self.late_selected.is_empty();
        match (is_much, is_any) {
            (true, _) => Some(now),
            (false, true) => Some(self.due.unwrap_or_else(|| now.saturating_add(SKIP_AFTER))),
            (false, false) => None,
        }
    }

    /// What is to be logged, and up to where everything is judged then.
    fn verdict(&self, id: QueueId, state: &State) -> (MessagePosition, Skipped) {
        let sift = state.sift(id).expect("it goes when its subscription does");
        let queue = state.queue(id);
        let mut ranges: Vec<(MessagePosition, MessagePosition)> = Vec::new();
        let mut late = Vec::new();
        let mut cut = MessagePosition::new(state.applied() + 1, 0);
        for position in self.skipped.iter().map(MessagePosition::from_value) {
            if sift.is_late(position) {
                late.push(position);
                continue;
            }
            // A range ends before whatever else is stored here, or is in a transaction's hands and may come back.
            let extended = ranges.last_mut().filter(|(first, last)| {
                let next = queue.first_stored_from(last.next());
                let locked = state.transactions().first_held_from(last.next());
                next == Some(position)
                    && locked.is_none_or(|locked| locked > position)
                    && position.value() - first.value() < u64::from(u32::MAX)
            });
            if let Some((_, last)) = extended {
                *last = position;
            } else if ranges.len() + late.len() < SKIP_RUNS_MAX
                && ranges.last().is_none_or(|(_, last)| last.next() < position)
            {
                ranges.push((position, position));
            } else {
                cut = position;
                break;
            }
        }
        let unjudged = self.unjudged.iter().map(MessagePosition::from_value);
        let first_unjudged = unjudged
            .take_while(|at| *at < cut)
            .find(|at| !sift.is_late(*at));
        late.truncate(SKIP_RUNS_MAX);
        let selected = self.late_selected.iter().map(MessagePosition::from_value);
        let skipped = Skipped {
            ranges: Runs::of_ranges(ranges),
            late_skipped: Runs::of(late),
            late_selected: Runs::of(selected.take(SKIP_RUNS_MAX)),
        };
        (first_unjudged.unwrap_or(cut), skipped)
    }
}

impl Dispatcher {
    /// Messages of an entry joined a subscription: they are judged, as many as a step may.
    pub(super) fn sift_stored(
        &mut self,
        queue: QueueId,
        priority: u8,
        (first, last): (MessagePosition, MessagePosition),
        batch: &Batch,
    ) {
        if !self.sifters.by_queue.contains_key(&queue) {
            return;
        }
        let mut next = first;
        while next <= last {
            if self.sifters.asked >= SIFT_AT_ONCE_MAX {
                return self.sifters.postpone(queue, next, last);
            }
            let message = batch.message(next.ordinal());
            let message = message.expect("stored from the batch");
            match self.sifters.judge(queue, next, &message, false) {
                Some(true) => {}
                Some(false) => self.skip_in_lane(queue, Turn::new(priority, next)),
                None => return self.sifters.postpone(queue, next, last),
            }
            next = next.next();
        }
    }

    /// Messages joined that are in the log already.
    pub(super) fn sift_later(
        &mut self,
        queue: QueueId,
        first: MessagePosition,
        last: MessagePosition,
    ) {
        self.sifters.postpone(queue, first, last);
    }

    /// Whether a message that is about to be delivered is not selected; then it is in nobody's hands.
    pub(super) fn is_sifted_out(
        &mut self,
        id: LaneId,
        turn: Turn,
        message: &[u8],
        state: &State,
    ) -> bool {
        let position = turn.position();
        let Some(queue) = self.lanes[id.0].queue else {
            return false;
        };
        let Some(sift) = state.sift(queue) else {
            return false;
        };
        let is_late = sift.is_late(position);
        if self.sifters.is_known_selected(queue, position, message) {
            return false;
        }
        let is_selected = self.sifters.judge(queue, position, message, is_late);
        if is_selected == Some(false) {
            self.hold_skipped(id, turn);
            return true;
        }
        false
    }

    /// A message was read, or could not be: whoever did not judge it yet does.
    pub(super) fn sift_read(
        &mut self,
        now: u64,
        (position, message): (MessagePosition, Option<&Bytes>),
        state: &State,
    ) {
        let was_reading = self.sifters.reading.remove(&position);
        let Some(message) = message else {
            if was_reading {
                let retry = now.saturating_add(UNREADABLE_RETRY);
                self.sifters.retry_at.get_or_insert(retry);
            }
            return;
        };
        let size = message.len() as u64;
        let guess = self.sifters.size_guess;
        self.sifters.size_guess = size.max((guess * 7 + size) / 8).max(1);
        let behind = self.sifters.behind.iter().copied();
        let waiting: Vec<QueueId> = behind
            .filter(|id| {
                let sifter = self.sifters.by_queue.get(id);
                sifter.is_some_and(|sifter| sifter.unjudged.contains(position.value()))
            })
            .collect();
        for id in waiting {
            let is_late = state.sift(id).is_some_and(|sift| sift.is_late(position));
            let is_selected = self.sifters.judge(id, position, message, is_late);
            if is_selected == Some(false)
                && let Some(turn) = state.queue(id).turn_of(position)
            {
                self.skip_in_lane(id, turn);
            }
        }
    }

    /// Takes a message that is not selected out of where it waits.
    fn skip_in_lane(&mut self, queue: QueueId, turn: Turn) {
        let Some(id) = self.by_queue.get(&queue).copied() else {
            return;
        };
        if !self.lanes[id.0].in_flight.contains_key(&turn.position()) {
            self.take_out(id, turn);
            self.hold_skipped(id, turn);
        }
    }

    fn hold_skipped(&mut self, id: LaneId, turn: Turn) {
        let held = Held {
            holder: Holder::Skipped,
            priority: turn.priority(),
        };
        self.lanes[id.0].hold_back(turn, held);
    }

    /// A lane was made: what is skipped already is in nobody's hands there.
    pub(super) fn hold_all_skipped(&mut self, queue: QueueId, id: LaneId, state: &State) {
        let Some(sifter) = self.sifters.by_queue.get(&queue) else {
            return;
        };
        let skipped = sifter.skipped.iter().chain(&sifter.proposed);
        let turns = skipped.filter_map(|value| {
            let position = MessagePosition::from_value(value);
            state.queue(queue).turn_of(position)
        });
        for turn in turns.collect::<Vec<Turn>>() {
            self.hold_skipped(id, turn);
        }
    }

    /// Whether the selector of a subscription can be read here.
    pub(super) fn admit_selector(&self, queue: QueueId) -> Result<(), AttachRefusal> {
        let sifter = self.sifters.by_queue.get(&queue);
        if sifter.is_some_and(|sifter| sifter.selector.is_none()) {
            return Err(AttachRefusal::UnreadableSelector);
        }
        Ok(())
    }

    /// What was proposed is committed, or something else about this subscription was.
    pub(crate) fn sifted(&mut self, queue: QueueId, state: &State) {
        let Some(sift) = state.sift(queue) else {
            return;
        };
        if let Some(sifter) = self.sifters.by_queue.get_mut(&queue) {
            sifter.proposed_until = None;
            let rest = std::mem::take(&mut sifter.proposed);
            sifter.skipped |= rest;
            let late = std::mem::take(&mut sifter.late_selected);
            sifter.late_selected = late & sift.late();
            if let Some(due) = sifter.due.take() {
                self.sifters.due.remove(&(due, queue));
            }
            self.sifters.changed.insert(queue);
        }
    }

    /// A destination was emptied.
    pub(super) fn sifter_purged(&mut self, destination: &Destination, state: &State) {
        if destination.kind == DestinationKind::Subscription
            && let Some(id) = state.id_of(destination)
        {
            self.sifters.purged(id);
        }
    }

    /// Proposes what is due, and reads what was not judged.
    pub(super) fn sift(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        self.sifters.asked = 0;
        if self.sifters.by_queue.is_empty() {
            return;
        }
        self.sifters.schedule(now);
        self.propose_skips(now, state, effects);
        if self.sifters.retry_at.is_some_and(|at| at <= now) {
            self.sifters.retry_at = None;
        }
        if self.sifters.reading.is_empty() && self.sifters.retry_at.is_none() {
            self.read_unjudged(effects);
        }
    }

    fn propose_skips(&mut self, now: u64, state: &State, effects: &mut Vec<Effect>) {
        let mut builder = BatchBuilder::persistent();
        for _ in 0..SKIP_COMMANDS_MAX {
            let next = self.sifters.due.first().copied();
            let Some((due, id)) = next.filter(|(due, _)| *due <= now) else {
                break;
            };
            self.sifters.due.remove(&(due, id));
            let Some(sifter) = self.sifters.by_queue.get_mut(&id) else {
                continue;
            };
            // What was proposed and not committed is proposed again.
            let rest = std::mem::take(&mut sifter.proposed);
            sifter.skipped |= rest;
            let (judged_to, skipped) = sifter.verdict(id, state);
            let until = now.saturating_add(PROPOSE_RETRY);
            sifter.proposed = std::mem::take(&mut sifter.skipped);
            (sifter.proposed_until, sifter.due, sifter.judged) = (Some(until), Some(until), 0);
            let key = state.queue(id).name();
            let made = (sifter.made, judged_to);
            self.sifters.due.insert((until, id));
            if builder.skip(key, made, &skipped).is_err() {
                effects.push(Effect::Propose {
                    batch: builder.finish(),
                });
                builder
                    .skip(key, made, &skipped)
                    .expect("`SKIP_RUNS_MAX` runs of each kind fit an empty batch");
            }
        }
        if !builder.is_empty() {
            effects.push(Effect::Propose {
                batch: builder.finish(),
            });
        }
    }

    /// Asks for the next messages that one of those behind has not judged; they take turns.
    fn read_unjudged(&mut self, effects: &mut Vec<Effect>) {
        let sifters = &mut self.sifters;
        let after = sifters
            .last_read
            .map(|last| QueueId(last.0.saturating_add(1)));
        let mut next = sifters.behind.range(after.unwrap_or(QueueId(0))..);
        let Some(id) = next.next().or_else(|| sifters.behind.first()).copied() else {
            return;
        };
        sifters.last_read = Some(id);
        let wanted = SIFT_READ_BYTES / sifters.size_guess;
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let unjudged = sifters.by_queue.get(&id).map(|sifter| &sifter.unjudged);
        let positions: Vec<MessagePosition> = unjudged
            .into_iter()
            .flatten()
            .map(MessagePosition::from_value)
            .take(wanted.clamp(1, SIFT_READ_MESSAGES))
            .collect();
        sifters.reading.extend(&positions);
        if !positions.is_empty() {
            effects.push(Effect::Fetch { positions });
        }
    }
}
