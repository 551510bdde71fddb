//! Operators' moves: a page of a queue is looked through here, and what is wanted leaves it by logged commands that
//! name each message.
//!
//! ```text
//!   Move(query) --> candidates --(selector, retry: Load)--> batch of transfers --> committed --> MovePage
//! ```
//! A page is bounded and names where the next one begins, so that whoever asks goes on after a failure: what has left
//! does not leave twice. Messages in consumers' hands stay. What is taken later than the first page stays too.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_broker::{Outcomes, Selector, letter};
use quorate_message::{
    BatchBuilder, Destination, DestinationKind, DestinationName, Message, MessagePosition,
    MoveReason, Outcome, Settlement, Value,
};
use quorate_replication::{Entry, Epoch};

use super::{
    Purpose, Shard,
    delivery::{entries_of, entry_of, find},
    effect::{Act, Effect},
    input::Clock,
    submit::Asker,
};
use crate::limits::{MOVE_PAGE_MESSAGES, MOVES_WAITING_MAX};

/// A page of a queue is to be moved.
#[derive(Clone, Debug, PartialEq)]
pub struct MoveQuery {
    /// Names the query in its answer; the asker's.
    pub query: u64,
    /// The queue.
    pub queue: DestinationName,
    /// What is to become of the messages.
    pub action: MoveAction,
    /// Only these, ascending; empty: all.
    pub only: Vec<MessagePosition>,
    /// The page starts behind this one; none: at the oldest.
    pub after: Option<MessagePosition>,
    /// Nothing beyond this one; none: beyond what is there now.
    pub upto: Option<MessagePosition>,
    /// At most so many leave; bounded by `limits::MOVE_PAGE_MESSAGES`.
    pub limit: u32,
    /// Only what it selects.
    pub selector: Option<Selector>,
}

/// No selector holds a number that differs from itself.
impl Eq for MoveQuery {}

/// What is to become of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAction {
    /// They go to this destination.
    Move(Destination),
    /// Copies go to this destination.
    Copy(Destination),
    /// Dead letters go back to where they came from. What names no such place stays.
    Retry,
    /// They are removed.
    Remove,
}

/// Answer to a `MoveQuery`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MovePage {
    /// The page is done, committed and applied.
    Done(Moved),
    /// This replica does not lead.
    NotLeading {
        /// The epoch that it knows.
        epoch: Epoch,
    },
    /// No room now.
    Overloaded,
    /// The leader changed meanwhile: what left is known by the next page.
    LeaderLost,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many messages left, or were copied.
    pub moved: u64,
    /// How many stay although they were wanted: in a consumer's hands, or without a place to go back to.
    pub skipped: u64,
    /// The next page starts behind this one.
    pub last: Option<MessagePosition>,
    /// The end for the next page.
    pub upto: MessagePosition,
    /// Nothing is left for a next page.
    pub end: bool,
    /// Too much is on its way: the rest of the page comes later.
    pub is_full: bool,
}

/// Pages under way.
#[derive(Debug, Default)]
pub(super) struct Moving {
    reading: usize,
    proposed: BTreeMap<u64, Proposed>,
}

/// A page that is looked through.
#[derive(Clone, Debug)]
pub(super) struct Looking {
    query: MoveQuery,
    candidates: Vec<MessagePosition>,
    so_far: Moved,
}

#[derive(Debug)]
struct Proposed {
    /// In the order of the commands.
    positions: Vec<MessagePosition>,
    after: Option<MessagePosition>,
    page: Moved,
}

impl Shard {
    /// A page is to be moved.
    pub(super) fn begin_move(&mut self, now: Clock, query: MoveQuery, out: &mut Vec<Effect>) {
        if !self.is_serving() {
            let epoch = self.replica.epoch();
            return out.push(page(query.query, MovePage::NotLeading { epoch }));
        }
        if self.moving.reading + self.moving.proposed.len() >= MOVES_WAITING_MAX {
            return out.push(page(query.query, MovePage::Overloaded));
        }
        let looking = self.look(query);
        let needs_bytes = looking.query.selector.is_some()
            || match looking.query.action {
                MoveAction::Retry => true,
                MoveAction::Move(_) | MoveAction::Copy(_) | MoveAction::Remove => false,
            };
        if !needs_bytes || looking.candidates.is_empty() {
            return self.decide(now, looking, &[], out);
        }
        let indexes = entries_of(looking.candidates.iter());
        self.moving.reading += 1;
        self.load_entries(indexes, Purpose::Move(Box::new(looking)), out);
    }

    /// The entries of a page.
    pub(super) fn looked(
        &mut self,
        now: Clock,
        looking: Looking,
        entries: &[Entry],
        out: &mut Vec<Effect>,
    ) {
        self.moving.reading -= 1;
        if !self.is_serving() {
            return out.push(page(looking.query.query, MovePage::LeaderLost));
        }
        self.decide(now, looking, entries, out);
    }

    /// The outcomes of a page's commands.
    pub(super) fn moved(&mut self, query: u64, outcomes: &Outcomes, out: &mut Vec<Effect>) {
        let Some(proposed) = self.moving.proposed.remove(&query) else {
            return;
        };
        let mut done = proposed.page;
        let mut last = proposed.after;
        for (position, outcome) in proposed.positions.into_iter().zip(outcomes.iter()) {
            if outcome == Outcome::LimitReached {
                (done.last, done.end, done.is_full) = (last, false, true);
                break;
            }
            done.moved += u64::from(outcome == Outcome::Applied);
            last = Some(position);
        }
        out.push(page(query, MovePage::Done(done)));
    }

    /// This replica leads no longer, or lost count.
    pub(super) fn move_lost(&mut self, query: u64, out: &mut Vec<Effect>) {
        if self.moving.proposed.remove(&query).is_some() {
            out.push(page(query, MovePage::LeaderLost));
        }
    }

    /// The messages that a page is about, without those in consumers' hands.
    fn look(&self, query: MoveQuery) -> Looking {
        let end = MessagePosition::new(self.applied().0, 1023);
        let upto = query.upto.unwrap_or(end).min(end);
        let from = query
            .after
            .map_or_else(MessagePosition::default, MessagePosition::next);
        let stored = self.broker.stored_from(&query.queue, from);
        let wanted = |position: &MessagePosition| {
            query.only.is_empty() || query.only.binary_search(position).is_ok()
        };
        let mut candidates: Vec<MessagePosition> = stored
            .take_while(|position| *position <= upto)
            .filter(wanted)
            .take(MOVE_PAGE_MESSAGES + 1)
            .collect();
        let is_end = candidates.len() <= MOVE_PAGE_MESSAGES;
        candidates.truncate(MOVE_PAGE_MESSAGES);
        let last = candidates.last().copied().or(query.after);
        let considered = candidates.len();
        candidates.retain(|position| !self.broker.is_in_flight(&query.queue, *position));
        let so_far = Moved {
            moved: 0,
            skipped: (considered - candidates.len()) as u64,
            last,
            upto,
            end: is_end,
            is_full: false,
        };
        Looking {
            query,
            candidates,
            so_far,
        }
    }

    /// Proposes what leaves.
    fn decide(&mut self, now: Clock, looking: Looking, entries: &[Entry], out: &mut Vec<Effect>) {
        let Looking {
            query,
            candidates,
            so_far: mut done,
        } = looking;
        let (mut found, _) = find(&candidates, entries);
        let read_upto = entries.last().map(|entry| entry.index);
        let is_unread = |position| read_upto.is_some() && entry_of(position) > read_upto;
        let limit = (query.limit as usize).clamp(1, MOVE_PAGE_MESSAGES);
        let mut builder = BatchBuilder::persistent();
        let mut positions = Vec::new();
        let mut last = query.after;
        for position in candidates {
            if positions.len() >= limit || is_unread(position) {
                (done.last, done.end) = (last, false);
                break;
            }
            let message = found.remove(&position);
            match verdict(&query, position, message.as_ref()) {
                Verdict::NotSelected => {}
                Verdict::Stays => done.skipped += 1,
                Verdict::Goes(target, reason) => {
                    let queue = &query.queue;
                    let added = match &target {
                        Some(target) => builder.transfer(queue, position, target, reason),
                        None => builder.settle(queue, position, Settlement::Accept),
                    };
                    if added.is_err() {
                        (done.last, done.end) = (last, false);
                        break;
                    }
                    positions.push(position);
                }
            }
            last = Some(position);
        }
        if positions.is_empty() {
            return out.push(page(query.query, MovePage::Done(done)));
        }
        // A page may have been read for longer than this leader does more than hand over.
        if !self.replica.can_propose() || !self.handover.may_append() {
            return out.push(page(query.query, MovePage::Overloaded));
        }
        let proposed = Proposed {
            positions,
            after: query.after,
            page: done,
        };
        self.moving.proposed.insert(query.query, proposed);
        let asker = Asker::Move { query: query.query };
        self.propose_for(now, asker, builder.finish(), out);
    }
}

enum Verdict {
    NotSelected,
    Stays,
    /// To a target, or nowhere.
    Goes(Option<Destination>, MoveReason),
}

fn verdict(query: &MoveQuery, position: MessagePosition, message: Option<&Bytes>) -> Verdict {
    if let Some(selector) = &query.selector {
        // What cannot be read is not selected: it stays.
        let Some(message) = message else {
            return Verdict::Stays;
        };
        if !selector.selects(position, message) {
            return Verdict::NotSelected;
        }
    }
    match &query.action {
        MoveAction::Move(target) => Verdict::Goes(Some(target.clone()), MoveReason::Moved),
        MoveAction::Copy(target) => Verdict::Goes(Some(target.clone()), MoveReason::Copied),
        MoveAction::Remove => Verdict::Goes(None, MoveReason::Moved),
        MoveAction::Retry => match message.and_then(origin) {
            Some(target) if target.name != query.queue => {
                Verdict::Goes(Some(target), MoveReason::Retried)
            }
            Some(_) | None => Verdict::Stays,
        },
    }
}

/// Where a dead letter came from, if it says so and messages can be sent there.
fn origin(message: &Bytes) -> Option<Destination> {
    let message = Message::decode(message).ok()?;
    let mut properties = message.properties.iter();
    let text = properties.find_map(|(name, value)| match value {
        Value::Text(text) if name == letter::DEAD_LETTER_QUEUE => Some(text),
        Value::Null
        | Value::Boolean(_)
        | Value::Int(_)
        | Value::Long(_)
        | Value::Double(_)
        | Value::Text(_)
        | Value::Binary(_) => None,
    })?;
    let destination: Destination = text.parse().ok()?;
    match destination.kind {
        DestinationKind::Queue | DestinationKind::Topic => Some(destination),
        DestinationKind::Subscription => None,
    }
}

pub(super) fn page(query: u64, page: MovePage) -> Effect {
    Effect {
        after: None,
        act: Act::MovePage { query, page },
    }
}
