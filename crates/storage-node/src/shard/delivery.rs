//! Between the broker and the sessions: outcomes, attachments, deliveries, pages.
//!
//! The broker names messages by position; here they are found, in the entries in memory at once, and otherwise by a
//! read that is answered later. A message that is small beside the entry that it lies in is copied, so that it does
//! not keep the whole entry in memory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_broker::{
    AttachRefusal, Effect as BrokerEffect, Input as BrokerInput, Outcomes, SessionId,
};
use quorate_message::{Batch, DestinationName, MessagePosition};
use quorate_replication::{Entry, Epoch, Index, ShardId};

use super::{
    Purpose, Shard,
    asking::Early,
    between::{ShardMessage, to_shard},
    effect::{Act, BrowsePage, BrowsedMessage, Effect, Read, SessionEvent},
    input::{BrowseQuery, Clock},
    note_all,
    submit::{Asker, to_session},
};
use crate::limits::{
    BROWSE_PAGE_BYTES, BROWSE_PAGE_MESSAGES_MAX, BROWSES_WAITING_MAX, FETCH_LOAD_BYTES,
};

/// Where this replica's leadership stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    /// Leads this epoch.
    pub(super) leading: Option<Epoch>,
    /// Serves from this entry on, once it is applied.
    pub(super) serving_from: Option<(Epoch, Index)>,
    /// Serves this epoch.
    pub(super) serving: Option<Epoch>,
    /// What sessions asked for before it served, in order.
    pub(super) early: Vec<Early>,
    /// Bytes of batches in it.
    pub(super) early_bytes: usize,
    /// Sessions whose gateway the broker knows.
    pub(super) joined: BTreeSet<SessionId>,
    /// Sessions of which something was refused or dropped: what they report is not whole until they start over.
    /// Outlives a leadership.
    pub(super) torn: BTreeSet<SessionId>,
    browses: usize,
}

/// Messages that the broker wants.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    /// The leadership in which it asked.
    epoch: Option<Epoch>,
    /// Not found yet, ascending.
    positions: Vec<MessagePosition>,
}

/// A page under way.
#[derive(Clone, Debug)]
pub(super) struct Browse {
    query: u64,
    queue: DestinationName,
    positions: Vec<MessagePosition>,
    /// Transient messages, from the broker itself.
    found: BTreeMap<MessagePosition, Bytes>,
    is_end: bool,
}

impl Shard {
    /// Steps the broker and carries out what it asks for.
    pub(super) fn deliver(&mut self, now: Clock, input: BrokerInput, out: &mut Vec<Effect>) {
        let mut effects = Vec::new();
        let now = quorate_broker::Clock {
            micros: now.time.0,
            stamp_ms: now.stamp.0,
        };
        self.broker.step(now, input, &mut effects);
        // A fetch that is answered from memory makes the broker go on at once.
        let mut from = 0;
        while from < effects.len() {
            let mut fetched = Vec::new();
            for effect in effects.drain(from..) {
                fetched.extend(self.carry_out(effect, out));
            }
            from = 0;
            for input in fetched {
                self.broker.step(now, input, &mut effects);
            }
        }
    }

    /// Becomes the serving leader for the broker when its `NewEpoch` is applied.
    pub(super) fn serve_if_due(&mut self, now: Clock, out: &mut Vec<Effect>) {
        let applied = self.applier.applied();
        let due = self
            .deliveries
            .serving_from
            .take_if(|(_, at)| *at <= applied);
        if let Some((epoch, at)) = due {
            self.deliveries.serving = Some(epoch);
            let input = BrokerInput::Serving {
                epoch: epoch.0,
                at: at.0,
            };
            self.deliver(now, input, out);
            self.use_known(now, at, out);
            self.take_up_early(now, out);
        }
    }

    /// A session is gone.
    pub(super) fn session_lost(&mut self, now: Clock, session: SessionId, out: &mut Vec<Effect>) {
        self.submits.forget(session);
        self.forget_early(session);
        self.deliveries.joined.remove(&session);
        self.deliveries.torn.remove(&session);
        self.deliver(now, BrokerInput::SessionLost { session }, out);
    }

    /// A page of a queue is wanted.
    pub(super) fn browse(&mut self, query: BrowseQuery, out: &mut Vec<Effect>) {
        let answer = |page| Effect {
            after: None,
            act: Act::BrowsePage {
                query: query.query,
                page,
            },
        };
        if !self.is_serving() {
            let epoch = self.replica.epoch();
            out.push(answer(BrowsePage::NotLeading { epoch }));
            return;
        }
        if self.deliveries.browses >= BROWSES_WAITING_MAX {
            out.push(answer(BrowsePage::Overloaded));
            return;
        }
        let limit = query.limit.clamp(1, BROWSE_PAGE_MESSAGES_MAX) as usize;
        let mut positions = self.broker.browse(&query.queue, query.after, limit + 1);
        let is_end = positions.len() <= limit;
        positions.truncate(limit);
        let found = positions
            .iter()
            .filter_map(|position| Some((*position, self.broker.transient_message(*position)?)))
            .collect();
        let browse = Browse {
            query: query.query,
            queue: query.queue.clone(),
            positions,
            found,
            is_end,
        };
        let indexes = entries_of(
            browse
                .positions
                .iter()
                .filter(|position| !position.is_transient()),
        );
        self.deliveries.browses += 1;
        if indexes
            .iter()
            .all(|index| self.replica.tail_entry(*index).is_some())
        {
            let entries = self.tail_entries(&indexes);
            self.browsed(browse, &entries, out);
        } else {
            self.load_entries(indexes, Purpose::Browse(browse), out);
        }
    }

    /// The entries of a page.
    pub(super) fn browsed(&mut self, browse: Browse, entries: &[Entry], out: &mut Vec<Effect>) {
        self.deliveries.browses -= 1;
        let wanted: Vec<MessagePosition> = browse.positions.clone();
        let (mut found, _) = find(&wanted, entries);
        found.extend(browse.found);
        let last_read = entries.last().map(|entry| entry.index);
        let mut messages = Vec::with_capacity(wanted.len());
        let mut size_bytes = 0;
        let mut is_end = browse.is_end;
        for position in wanted {
            let is_unread = last_read.is_some() && entry_of(position) > last_read;
            if is_unread || size_bytes >= BROWSE_PAGE_BYTES {
                is_end = false;
                break;
            }
            if let Some(message) = found.remove(&position) {
                size_bytes += message.len();
                let count = self.broker.delivery_count(&browse.queue, position);
                messages.push(BrowsedMessage {
                    position,
                    delivery_count: count,
                    message,
                });
            }
        }
        out.push(Effect {
            after: None,
            act: Act::BrowsePage {
                query: browse.query,
                page: BrowsePage::Messages {
                    messages,
                    end: is_end,
                },
            },
        });
    }

    /// The entries of messages that the broker wants. What was not read in one go is asked for again; what lies
    /// before the last entry that came and did not come itself is gone.
    pub(super) fn fetched(
        &mut self,
        now: Clock,
        fetch: Fetch,
        entries: &[Entry],
        out: &mut Vec<Effect>,
    ) {
        if fetch.epoch != self.deliveries.leading {
            return;
        }
        let (found, mut missing) = find(&fetch.positions, entries);
        if let Some(last) = entries.last().map(|entry| entry.index) {
            let (gone, rest): (Vec<_>, Vec<_>) = missing
                .into_iter()
                .partition(|position| entry_of(*position) <= Some(last));
            missing = gone;
            if !rest.is_empty() {
                let indexes = entries_of(rest.iter());
                let purpose = Purpose::Fetch(Fetch {
                    epoch: fetch.epoch,
                    positions: rest,
                });
                self.load_entries(indexes, purpose, out);
            }
        }
        let input = BrokerInput::Fetched {
            messages: found.into_iter().collect(),
            missing,
        };
        self.deliver(now, input, out);
    }

    fn carry_out(&mut self, effect: BrokerEffect, out: &mut Vec<Effect>) -> Option<BrokerInput> {
        match effect {
            BrokerEffect::Applied {
                entry,
                outcomes,
                removed,
            } => {
                let asker = self.submits.answered(Index(entry))?;
                return self.answer(asker, outcomes, removed, out);
            }
            BrokerEffect::Fetch { positions } => return self.fetch(positions, out),
            BrokerEffect::Propose { batch } => note_all(self.submits.push_own(batch), out),
            BrokerEffect::Forward { target, messages } => self.between.push(target, messages),
            BrokerEffect::Ask { shard, name, batch } => self.relocations.push(shard, name, batch),
            BrokerEffect::Resolve { shard, message } => {
                let message = ShardMessage::Resolution(message);
                out.push(to_shard(ShardId(shard), message));
            }
            BrokerEffect::Diverged { entry } => self.applier.diverged = Some(Index(entry)),
            BrokerEffect::TransientApplied { .. }
            | BrokerEffect::Deliver { .. }
            | BrokerEffect::Attached { .. }
            | BrokerEffect::Waiting { .. }
            | BrokerEffect::Recalled { .. }
            | BrokerEffect::AttachRefused { .. } => {
                let (session, event) = event_of(effect, self.replica.epoch());
                out.push(to_session(session, event));
            }
        }
        None
    }

    /// Tells whoever asked for a batch what became of it. If that is this shard itself, the broker is told.
    fn answer(
        &mut self,
        asker: Asker,
        outcomes: Outcomes,
        removed: u64,
        out: &mut Vec<Effect>,
    ) -> Option<BrokerInput> {
        match asker {
            Asker::Session { session, number } => {
                let event = SessionEvent::Outcomes {
                    number,
                    outcomes,
                    removed,
                };
                out.push(to_session(session, event));
                None
            }
            Asker::Shard { from, ask } => {
                let message = ShardMessage::Outcomes { ask, outcomes };
                if from == self.id {
                    return self.answered_by_shard(message, out);
                }
                out.push(to_shard(from, message));
                None
            }
            Asker::Move { query } => {
                self.moved(query, &outcomes, out);
                None
            }
        }
    }

    /// Finds messages in memory, and asks the log for the rest.
    fn fetch(
        &mut self,
        positions: Vec<MessagePosition>,
        out: &mut Vec<Effect>,
    ) -> Option<BrokerInput> {
        let mut positions = positions;
        positions.sort_unstable();
        let (in_memory, on_disk): (Vec<_>, Vec<_>) = positions.into_iter().partition(|position| {
            entry_of(*position).is_some_and(|index| self.replica.tail_entry(index).is_some())
        });
        if !on_disk.is_empty() {
            let indexes = entries_of(on_disk.iter());
            let fetch = Fetch {
                epoch: self.deliveries.leading,
                positions: on_disk,
            };
            self.load_entries(indexes, Purpose::Fetch(fetch), out);
        }
        if in_memory.is_empty() {
            return None;
        }
        let entries = self.tail_entries(&entries_of(in_memory.iter()));
        let (found, missing) = find(&in_memory, &entries);
        Some(BrokerInput::Fetched {
            messages: found.into_iter().collect(),
            missing,
        })
    }

    fn tail_entries(&self, indexes: &[Index]) -> Vec<Entry> {
        let entries = indexes
            .iter()
            .filter_map(|index| self.replica.tail_entry(*index));
        entries.cloned().collect()
    }

    /// Reads entries for a purpose.
    pub(super) fn load_entries(
        &mut self,
        indexes: Vec<Index>,
        purpose: Purpose,
        out: &mut Vec<Effect>,
    ) {
        let request = self.request(purpose);
        let read = Read::Entries {
            indexes,
            max_bytes: FETCH_LOAD_BYTES,
        };
        out.push(Effect {
            after: None,
            act: Act::Load { request, read },
        });
    }
}

/// The entries in which positions lie, ascending, each once. The positions ascend.
pub(super) fn entries_of<'a>(positions: impl Iterator<Item = &'a MessagePosition>) -> Vec<Index> {
    let mut indexes: Vec<Index> = positions
        .filter_map(|position| entry_of(*position))
        .collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes
}

/// What a session is told of its consumers and transient batches.
#[expect(clippy::too_many_lines, reason = "one arm per effect, nothing else")]
fn event_of(effect: BrokerEffect, epoch: Epoch) -> (SessionId, SessionEvent) {
    match effect {
        BrokerEffect::TransientApplied {
            session,
            number,
            outcomes,
        } => {
            let event = SessionEvent::Outcomes {
                number,
                outcomes,
                removed: 0,
            };
            (session, event)
        }
        BrokerEffect::Deliver {
            session,
            consumer,
            generation,
            deliveries,
        } => {
            let event = SessionEvent::Deliver {
                consumer,
                generation,
                epoch,
                deliveries,
            };
            (session, event)
        }
        BrokerEffect::Attached {
            session,
            consumer,
            generation,
            lost,
        } => {
            let event = SessionEvent::Attached {
                consumer,
                generation,
                lost,
            };
            (session, event)
        }
        BrokerEffect::Waiting {
            session,
            consumer,
            generation,
        } => {
            let event = SessionEvent::Waiting {
                consumer,
                generation,
            };
            (session, event)
        }
        BrokerEffect::Recalled {
            session,
            consumer,
            generation,
            credit,
        } => {
            let event = SessionEvent::Recalled {
                consumer,
                generation,
                credit,
            };
            (session, event)
        }
        BrokerEffect::AttachRefused {
            session,
            consumer,
            generation,
            reason: AttachRefusal::Moved,
        } => (session, SessionEvent::Moved(consumer, generation)),
        BrokerEffect::AttachRefused {
            session,
            consumer,
            generation,
            reason,
        } => {
            let event = SessionEvent::AttachRefused {
                consumer,
                generation,
                is_no_subscription: reason == AttachRefusal::NoSubscription,
                reason: reason.to_string(),
            };
            (session, event)
        }
        BrokerEffect::Applied { .. }
        | BrokerEffect::Fetch { .. }
        | BrokerEffect::Propose { .. }
        | BrokerEffect::Forward { .. }
        | BrokerEffect::Ask { .. }
        | BrokerEffect::Resolve { .. }
        | BrokerEffect::Diverged { .. } => unreachable!("not for a session"),
    }
}

/// The entry of a position, if the log has it.
pub(super) fn entry_of(position: MessagePosition) -> Option<Index> {
    (!position.is_transient()).then(|| Index(position.entry()))
}

/// Finds messages in entries. Both ascend.
pub(super) fn find(
    positions: &[MessagePosition],
    entries: &[Entry],
) -> (BTreeMap<MessagePosition, Bytes>, Vec<MessagePosition>) {
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    let mut at = 0;
    while at < positions.len() {
        let index = entry_of(positions[at]);
        let end = at + positions[at..].partition_point(|position| entry_of(*position) == index);
        let group = &positions[at..end];
        at = end;
        let batch = entries
            .binary_search_by_key(&index, |entry| Some(entry.index))
            .ok()
            .and_then(|place| Batch::parse(entries[place].payload.clone()).ok());
        let Some(batch) = batch else {
            missing.extend_from_slice(group);
            continue;
        };
        let messages: Vec<Option<Bytes>> = group
            .iter()
            .map(|position| batch.message(position.ordinal()))
            .collect();
        let wanted_bytes: usize = messages.iter().flatten().map(Bytes::len).sum();
        let is_small_part = wanted_bytes < batch.bytes().len() / 2;
        for (position, message) in group.iter().zip(messages) {
            match message {
                Some(message) if is_small_part => {
                    found.insert(*position, Bytes::copy_from_slice(&message));
                }
                Some(message) => {
                    found.insert(*position, message);
                }
                None => missing.push(*position),
            }
        }
    }
    (found, missing)
}
