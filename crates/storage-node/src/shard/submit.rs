//! From a session's batch to an entry, and from the applied entry back to the session.
//!
//! A batch is validated once, here; its bytes go into the log unchanged. Batches that arrived together are proposed
//! together. The answer waits in a queue in the order of the entries until the broker has applied the entry. A
//! replica that stops leading answers everything that waits with `NotLeading`: whether it was stored is told by the
//! repeat, under the producers' numbers.
//!
//! Sessions send batches before those ahead of them are answered. So that none is stored ahead of one that was
//! refused, a batch names its predecessor, and is refused unless that is the one taken last of its lane.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_broker::SessionId;
use quorate_message::{Batch, Command, Settlement};
use quorate_replication::{Epoch, Index, Input as ReplicaInput, ShardId};

use super::{
    Shard,
    asking::Early,
    between::{Ask, ShardMessage, Unwilling, to_shard},
    effect::{Act, Effect, SessionEvent},
    input::{Clock, Submission},
    note_all,
};
use crate::{
    limits::{OWN_BATCHES_MAX, PROPOSAL_BYTES_MAX, PROPOSAL_ENTRIES_MAX, SESSIONS_MAX},
    shard::effect::Note,
};

/// What was proposed and is not answered, and what waits to be proposed.
#[derive(Debug, Default)]
pub(super) struct Submits {
    waiting: VecDeque<Waiting>,
    /// The broker's own batches.
    own: VecDeque<Bytes>,
    /// Sessions that asked for something in this leadership: they are told when it ends.
    sessions: BTreeSet<SessionId>,
    /// What was taken of each lane of a session, in this leadership.
    taken: BTreeMap<SessionId, [Option<Taken>; Lane::COUNT]>,
    /// The disk has no room for messages.
    pub(super) is_space_low: bool,
}

/// Batches by their numbers.
#[derive(Clone, Copy, Debug)]
struct Taken {
    last: u64,
    /// What comes again is below.
    highest: u64,
}

/// The batches of a session that keep their order among each other: those of one kind.
#[derive(Clone, Copy, Debug)]
enum Lane {
    Messages = 0,
    TransientMessages = 1,
    Settlements = 2,
    TransientSettlements = 3,
    Transactions = 4,
}

impl Lane {
    const COUNT: usize = 5;

    fn of(is_transient: bool, has_messages: bool) -> Self {
        match (has_messages, is_transient) {
            (true, false) => Self::Messages,
            (true, true) => Self::TransientMessages,
            (false, false) => Self::Settlements,
            (false, true) => Self::TransientSettlements,
        }
    }
}

/// Who is told what became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A gateway, by the number that it gave.
    Session {
        /// Its session.
        session: SessionId,
        /// The number.
        number: u64,
    },
    /// Another shard, or this one.
    Shard {
        /// Which.
        from: ShardId,
        /// Its name for the batch.
        ask: Ask,
    },
    /// An operator who moves messages.
    Move {
        /// The query.
        query: u64,
    },
}

#[derive(Debug)]
struct Waiting {
    entry: Index,
    asker: Asker,
    /// Until it is applied, so that it is parsed once.
    batch: Option<Batch>,
}

impl Submits {
    /// Forgets everything: another leadership begins.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.own.clear();
        self.sessions.clear();
        self.taken.clear();
    }

    /// Whether a batch may follow what was taken of its lane. Without a predecessor it always may.
    fn may_follow(&self, session: SessionId, lane: Lane, previous: Option<u64>) -> bool {
        let taken = self.taken.get(&session).and_then(|t| t[lane as usize]);
        previous.is_none() || taken.map(|taken| taken.last) == previous
    }

    /// Whether a batch was taken in this leadership and is not answered: proposed, or about to be. Numbers of a lane rise, so
    /// that most are new by their number.
    fn is_under_way(
        &self,
        (session, lane, number): (SessionId, Lane, u64),
        accepted: &[(Asker, Batch)],
    ) -> bool {
        let taken = self.taken.get(&session).and_then(|t| t[lane as usize]);
        let asker = Asker::Session { session, number };
        let waiting = self.waiting.iter().map(|waiting| waiting.asker);
        let mut under_way = waiting.chain(accepted.iter().map(|(asker, _)| *asker));
        taken.is_some_and(|taken| number <= taken.highest) && under_way.any(|other| other == asker)
    }

    /// Takes a batch; whether it is not under way already.
    fn take(
        &mut self,
        (session, lane, number): (SessionId, Lane, u64),
        accepted: &[(Asker, Batch)],
    ) -> bool {
        let is_new = !self.is_under_way((session, lane, number), accepted);
        let taken = &mut self.taken.entry(session).or_default()[lane as usize];
        let highest = taken.map_or(number, |taken| taken.highest.max(number));
        let last = number;
        *taken = Some(Taken { last, highest });
        // A batch can come after the end of its session was told. The oldest session is given up: should it live
        // after all, it is refused once and starts anew.
        if self.taken.len() > SESSIONS_MAX {
            self.taken.pop_first();
        }
        is_new
    }

    /// A session asked for something.
    pub(super) fn seen(&mut self, session: SessionId) {
        self.sessions.insert(session);
    }

    /// A session is gone. Answers to it are still taken off the queue in their turn.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.taken.remove(&session);
    }

    /// Keeps a batch of the broker until there is room.
    pub(super) fn push_own(&mut self, batch: Bytes) -> Option<Note> {
        if self.own.len() >= OWN_BATCHES_MAX {
            return Some(Note::Dropped("batch of the broker: too many wait"));
        }
        self.own.push_back(batch);
        None
    }

    /// Whether batches of the broker wait for room.
    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The batch of an entry, if it was parsed here.
    pub(super) fn parsed(&mut self, entry: Index) -> Option<Batch> {
        let at = self
            .waiting
            .binary_search_by_key(&entry, |waiting| waiting.entry)
            .ok()?;
        self.waiting[at].batch.take()
    }

    /// Whom to tell about an applied entry.
    pub(super) fn answered(&mut self, entry: Index) -> Option<Asker> {
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.entry < entry)
        {
            self.waiting.pop_front();
        }
        let waiting = self
            .waiting
            .pop_front_if(|waiting| waiting.entry == entry)?;
        Some(waiting.asker)
    }
}

impl Shard {
    /// Batches that arrived together.
    pub(super) fn submitted(
        &mut self,
        now: Clock,
        submissions: Vec<Submission>,
        out: &mut Vec<Effect>,
    ) {
        let mut payloads = Vec::with_capacity(submissions.len());
        let mut accepted = Vec::with_capacity(submissions.len());
        let mut size_bytes = 0;
        for submission in submissions {
            let (session, number) = (submission.session, submission.number);
            let payload = submission.batch.clone();
            match self.check(submission, &accepted) {
                Ok(None) => {}
                Ok(Some(batch)) if batch.is_transient() && self.deliveries.serving.is_none() => {
                    self.keep_early(Early::Transient(session, number, batch));
                }
                Ok(Some(batch)) if batch.is_transient() => {
                    let input = quorate_broker::Input::Transient {
                        session,
                        number,
                        batch,
                    };
                    self.deliver(now, input, out);
                }
                Ok(Some(batch)) => {
                    size_bytes += payload.len();
                    payloads.push(payload);
                    accepted.push((Asker::Session { session, number }, batch));
                    if payloads.len() >= PROPOSAL_ENTRIES_MAX || size_bytes >= PROPOSAL_BYTES_MAX {
                        self.propose(now, &mut payloads, &mut accepted, out);
                        size_bytes = 0;
                    }
                }
                Err(event) => out.push(to_session(session, event)),
            }
        }
        self.propose(now, &mut payloads, &mut accepted, out);
    }

    /// Proposes the broker's own batches while there is room.
    pub(super) fn propose_own(&mut self, now: Clock, out: &mut Vec<Effect>) {
        while self.replica.can_propose() {
            let Some(batch) = self.submits.own.pop_front() else {
                return;
            };
            let input = ReplicaInput::Proposed {
                stamp: now.stamp,
                payloads: vec![batch],
            };
            self.replicate(now, input, out);
        }
    }

    /// Tells everybody that this replica leads no longer.
    pub(super) fn refuse_all(&mut self, epoch: Epoch, out: &mut Vec<Effect>) {
        for waiting in std::mem::take(&mut self.submits.waiting) {
            match waiting.asker {
                Asker::Session { session, number } => {
                    let event = SessionEvent::NotLeading { number, epoch };
                    out.push(to_session(session, event));
                }
                Asker::Shard { from, ask } => {
                    let reason = Unwilling::NotLeading;
                    out.extend(
                        (from != self.id)
                            .then(|| to_shard(from, ShardMessage::Refused { ask, reason })),
                    );
                }
                Asker::Move { query } => self.move_lost(query, out),
            }
        }
        for session in std::mem::take(&mut self.submits.sessions) {
            out.push(to_session(
                session,
                SessionEvent::NotLeading { number: 0, epoch },
            ));
        }
        self.submits.own.clear();
        self.submits.taken.clear();
    }

    /// None: the batch is on its way already, and answered when that is applied. Of two copies in the log the first could be
    /// refused and the second stored, and its sender was told of the first.
    fn check(
        &mut self,
        submission: Submission,
        accepted: &[(Asker, Batch)],
    ) -> Result<Option<Batch>, SessionEvent> {
        let number = submission.number;
        if !self.replica.is_leading() || self.is_halted() {
            let epoch = self.replica.epoch();
            return Err(SessionEvent::NotLeading { number, epoch });
        }
        let overloaded = |reason| Err(SessionEvent::Overloaded { number, reason });
        let malformed = |reason| SessionEvent::Malformed { number, reason };
        // Looked at first: a batch that finds no room is not parsed, and comes again.
        let is_for_log = Batch::is_transient_by_head(&submission.batch) == Some(false);
        if is_for_log && !self.replica.can_propose() {
            return overloaded("log of the shard: too much is not yet committed");
        }
        let batch = Batch::parse(submission.batch).map_err(|error| malformed(error.to_string()))?;
        let mut frees_space = true;
        let mut is_transaction = false;
        for (_, command) in batch.commands() {
            match Sort::of(command) {
                Sort::Message => frees_space = false,
                Sort::Transaction => is_transaction = true,
                Sort::Other => {}
                Sort::NotTheirs(reason) => return Err(malformed(reason.to_owned())),
            }
        }
        if self.submits.is_space_low && !frees_space {
            return overloaded("disk: no space left for messages; settle or purge some");
        }
        if batch.is_transient() && !self.takes_transient(&batch) {
            return overloaded("shard: the new leader does not serve yet");
        }
        let session = submission.session;
        let lane = match is_transaction {
            true => Lane::Transactions,
            false => Lane::of(batch.is_transient(), !frees_space),
        };
        if !self.submits.may_follow(session, lane, submission.previous) {
            return overloaded("shard: the batch before this one was not taken");
        }
        let is_new = self.submits.take((session, lane, number), accepted);
        self.submits.seen(session);
        Ok(is_new.then_some(batch))
    }

    /// Whether a transient batch can be taken, or kept until this leader serves.
    fn takes_transient(&self, batch: &Batch) -> bool {
        self.deliveries.serving.is_some() || self.has_early_room(batch.bytes().len())
    }

    /// Proposes one batch of this shard's own making.
    pub(super) fn propose_for(
        &mut self,
        now: Clock,
        asker: Asker,
        payload: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let batch = Batch::parse(payload.clone()).expect("the builder makes whole batches");
        self.propose(now, &mut vec![payload], &mut vec![(asker, batch)], out);
    }

    /// Proposes batches; each asker is told when its own is applied.
    pub(super) fn propose(
        &mut self,
        now: Clock,
        payloads: &mut Vec<Bytes>,
        accepted: &mut Vec<(Asker, Batch)>,
        out: &mut Vec<Effect>,
    ) {
        if payloads.is_empty() {
            return;
        }
        let before = self.replica.end().index;
        // Queued before the replica is stepped: with one voter the step may commit at once.
        for (entry, (asker, batch)) in (before.0 + 1..).zip(accepted.drain(..)) {
            self.submits.waiting.push_back(Waiting {
                entry: Index(entry),
                asker,
                batch: Some(batch),
            });
        }
        let proposed = payloads.len() as u64;
        let input = ReplicaInput::Proposed {
            stamp: now.stamp,
            payloads: std::mem::take(payloads),
        };
        self.replicate(now, input, out);
        let appended = self.replica.end().index.0 - before.0;
        if self.replica.is_leading() && appended != proposed {
            note_all(
                Some(Note::Dropped(
                    "proposal: the replica took another number of entries",
                )),
                out,
            );
            let epoch = self.replica.epoch();
            self.refuse_all(epoch, out);
        }
    }
}

/// What a gateway may ask for, as far as it makes a difference here.
enum Sort {
    Message,
    Transaction,
    Other,
    NotTheirs(&'static str),
}

impl Sort {
    fn of(command: Command) -> Self {
        match command {
            Command::Publish { producer, .. } if producer.shard().is_some() => {
                Self::NotTheirs("producer: the name is a shard's")
            }
            Command::Publish { .. } => Self::Message,
            Command::Settle {
                settlement: Settlement::Expire,
                ..
            }
            | Command::Checkpoint { .. }
            | Command::Tick { .. }
            | Command::GatewayAttached { .. }
            | Command::GatewayLost { .. }
            | Command::Dispatched { .. }
            | Command::Skip { .. }
            | Command::Relocate { .. }
            | Command::Transfer { .. }
            | Command::Transferred { .. } => Self::NotTheirs(
                "checkpoints, ticks, expiries, transfers, moves, gateways, bounds and what selectors \
                 skip are the shard's own",
            ),
            Command::Configure { .. } => Self::NotTheirs("settings come from the coordinator"),
            Command::Settle { .. }
            | Command::Subscribe { .. }
            | Command::Unsubscribe { .. }
            | Command::Register { .. }
            | Command::Delete { .. }
            | Command::Pause { .. }
            | Command::Origin { .. }
            | Command::Purge { .. } => Self::Other,
            Command::Prepare { .. }
            | Command::Decide { .. }
            | Command::Finish { .. }
            | Command::Forget { .. } => Self::Transaction,
        }
    }
}

/// An event for a session.
pub(super) fn to_session(session: SessionId, event: SessionEvent) -> Effect {
    Effect {
        after: None,
        act: Act::ToSession { session, event },
    }
}
