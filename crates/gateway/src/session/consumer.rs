//! One consumer: what it holds, what it may be sent, and what it settles.
//!
//! A position is held from its delivery until its settlement is committed; held positions are named at every change
//! of leader, so that the new one does not send them again. The client's credit is kept here, and lent to the leader
//! no further than the client's connection keeps up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate_message::{
    ConsumerId, Decision, Destination, DestinationName, GroupId, GroupMark, MessagePosition,
    Outcome, Settlement, Terms,
};

use super::{
    ids::{CallId, Generation, ShardId, Time},
    input::{Credit, StoredDelivery},
    subscribing::Admission,
};
use crate::limits::{
    ATTACH_RETRY_MICROS, CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, CREDIT_STEP_BYTES,
    CREDIT_STEP_MESSAGES, GENERATION_JUMP, OWNED_GROUPS_MAX,
};

/// Where a consumer stands with the present leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// Not asked for.
    Detached,
    /// Asked for at that time.
    Asked { at: Time },
    /// Answered.
    Attached,
}

/// How the client's call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client takes part.
    Open,
    /// The client sends nothing more; it waits for the outcomes of its settlements.
    Finished,
    /// The call is gone; its settlements are still under way.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// Order of arrival; a position that came back after a release has another.
    order: u64,
    /// Since when it is in the consumer's hands without a word about it.
    since: Time,
    /// The settlement that is under way.
    settling: Option<Settlement>,
    /// The gateway's number in the batch of that; 0: none.
    settled_in: u64,
}

impl Held {
    /// Whether it is on its way out of the consumer's hands. What a transaction settles may come back; of what is not
    /// persistent an accept that finds nothing is as good as one that was applied.
    fn is_leaving(&self) -> bool {
        match self.settling {
            Some(Settlement::Release | Settlement::Return) => true,
            Some(
                Settlement::Accept | Settlement::Reject | Settlement::Expire | Settlement::Cancel,
            ) => self.settled_in > 0,
            None => false,
        }
    }
}

/// A client's request to settle, until all of it is answered.
#[derive(Debug)]
struct Request {
    token: u64,
    settlement: Settlement,
    positions: Vec<(MessagePosition, u64)>,
    outcomes: Vec<Outcome>,
    unanswered: usize,
}

/// A settlement that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) token: u64,
    pub(super) outcomes: Vec<Outcome>,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) call: CallId,
    pub(super) id: ConsumerId,
    pub(super) queue: Destination,
    /// What has to be in the log before it is attached.
    pub(super) admission: Admission,
    pub(super) is_admitted: bool,
    /// A message waits at the shard, and the leader has no credit left.
    pub(super) waits: bool,
    /// The leader was asked for what is left of its credit.
    pub(super) is_recalling: bool,
    pub(super) shard: ShardId,
    pub(super) phase: Phase,
    pub(super) attachment: Attachment,
    pub(super) generation: Generation,
    /// Since when it is not attached.
    pub(super) detached_since: Time,
    /// How often the present attachment was asked for without an answer.
    repeats: u32,
    /// What the client may still be sent; bytes may be overdrawn by the last message.
    credit_messages: u64,
    credit_bytes: i64,
    /// What the leader believes that it may still send.
    lent: Credit,
    /// Stored bytes that wait in the shell for the client's connection.
    outbound: u64,
    held: BTreeMap<MessagePosition, Held>,
    orders: u64,
    requests: BTreeMap<u64, Request>,
    request_numbers: u64,
    /// Settlements that are not answered.
    pub(super) settling: usize,
    /// Deliveries of the present attachment that came before its answer.
    pub(super) early: Vec<StoredDelivery>,
    pub(super) paused: bool,
    asked: bool,
    /// An earlier call of this consumer, whose settlements are waited for before this one is attached.
    pub(super) follows: Option<CallId>,
    /// It was turned away, and asks again then.
    pub(super) waits_until: Option<Time>,
    /// On what terms it takes messages.
    pub(super) terms: Terms,
    /// The groups that are its own.
    owned: BTreeSet<GroupId>,
    /// How long, in microseconds, it may hold a message without settling it; none: for ever.
    pub(super) patience_micros: Option<u64>,
    /// When it is looked at next.
    pub(super) looked_at: Option<Time>,
}

impl Consumer {
    pub(super) fn new(
        call: CallId,
        (id, queue, shard): (ConsumerId, Destination, ShardId),
        admission: Admission,
        generation: Generation,
        now: Time,
    ) -> Self {
        Self {
            call,
            id,
            queue,
            is_admitted: matches!(admission, Admission::Free),
            admission,
            waits: false,
            is_recalling: false,
            shard,
            phase: Phase::Open,
            attachment: Attachment::Detached,
            generation,
            detached_since: now,
            repeats: 0,
            credit_messages: 0,
            credit_bytes: 0,
            lent: Credit::default(),
            outbound: 0,
            held: BTreeMap::new(),
            orders: 0,
            requests: BTreeMap::new(),
            request_numbers: 0,
            settling: 0,
            early: Vec::new(),
            asked: false,
            follows: None,
            paused: false,
            waits_until: None,
            terms: Terms::default(),
            owned: BTreeSet::new(),
            patience_micros: None,
            looked_at: None,
        }
    }

    /// On what terms it is attached again: with the groups that became its own.
    pub(super) fn present_terms(&self) -> Terms {
        Terms {
            owned_groups: self.owned.iter().copied().collect(),
            ..self.terms.clone()
        }
    }

    /// Remembers whose a message's group is.
    fn note_group(&mut self, group: Option<GroupMark>) {
        self.terms.was_active = true;
        let Some(mark) = group else { return };
        if mark.is_last {
            self.owned.remove(&mark.id);
        } else {
            self.owned.insert(mark.id);
        }
        if self.owned.len() > OWNED_GROUPS_MAX {
            self.owned.pop_first();
        }
    }

    /// Remembers a position as held, the last in order.
    pub(super) fn hold(&mut self, now: Time, position: MessagePosition) {
        self.orders += 1;
        let held = Held {
            order: self.orders,
            since: now,
            settling: None,
            settled_in: 0,
        };
        self.held.insert(position, held);
    }

    /// Whether it holds nothing and settles nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.settling == 0
    }

    /// The queue or topic that it reads from; none: topics by a pattern.
    pub(super) fn name_of_source(&self) -> Option<DestinationName> {
        match &self.admission {
            Admission::Subscribe(wanted) => wanted.pattern.as_name(),
            Admission::Free | Admission::Register => Some(self.queue.name.clone()),
        }
    }

    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// What it holds and claims from a new leader, in the order in which it came. Not what it settles: that may be applied
    /// before the claim, whatever came of it, and the message would then stay in the hands of a consumer that knows nothing
    /// of it.
    pub(super) fn held(&self) -> Vec<MessagePosition> {
        let held = self.held.iter().filter(|(_, held)| !held.is_leaving());
        let mut held: Vec<_> = held.map(|(p, h)| (h.order, *p)).collect();
        held.sort_unstable();
        held.into_iter().map(|(_, position)| position).collect()
    }

    /// A settlement is in the batch of this number of the gateway.
    pub(super) fn gathered(&mut self, position: MessagePosition, number: u64) {
        if let Some(held) = self.held.get_mut(&position) {
            held.settled_in = number;
        }
    }

    /// What it settles and does not claim, by the number of the batch: nobody may have it before the settlement is
    /// applied. While it claims, what a transaction settles stays with it.
    pub(super) fn leaving(&self) -> BTreeMap<u64, Vec<MessagePosition>> {
        let is_claiming = self.phase == Phase::Open;
        let held = self
            .held
            .iter()
            .filter(|(_, held)| held.is_leaving() || (!is_claiming && held.settling.is_some()));
        let mut leaving: BTreeMap<u64, Vec<MessagePosition>> = BTreeMap::new();
        for (position, held) in held {
            leaving.entry(held.settled_in).or_default().push(*position);
        }
        leaving
    }

    /// What its client had in hand and has not settled, in the order in which it came.
    pub(super) fn unsettled(&self) -> Vec<MessagePosition> {
        let held = self.held.iter().filter(|(_, held)| held.settling.is_none());
        let mut held: Vec<_> = held.map(|(p, h)| (h.order, *p)).collect();
        held.sort_unstable();
        held.into_iter().map(|(_, position)| position).collect()
    }

    /// When the message came that it has held unsettled for longest.
    pub(super) fn oldest_unsettled(&self) -> Option<Time> {
        let held = self.held.values().filter(|held| held.settling.is_none());
        held.map(|held| held.since).min()
    }

    /// What it has held unsettled since `until` or before, in the order in which it came.
    pub(super) fn unsettled_since(&self, until: Time) -> Vec<MessagePosition> {
        let unsettled = self.unsettled().into_iter();
        unsettled
            .filter(|position| self.held[position].since <= until)
            .collect()
    }

    /// Another call has this message from now on.
    pub(super) fn hand_over(&mut self, position: MessagePosition) {
        if self
            .held
            .get(&position)
            .is_some_and(|h| h.settling.is_none())
        {
            self.held.remove(&position);
        }
    }

    /// Adds to what the client can take.
    pub(super) fn credited(&mut self, credit: Credit) {
        self.credit_messages = self
            .credit_messages
            .saturating_add(credit.messages)
            .min(CREDIT_MESSAGES_MAX);
        let bytes = i64::try_from(credit.bytes).unwrap_or(i64::MAX);
        let most = i64::try_from(CREDIT_BYTES_MAX).unwrap_or(i64::MAX);
        self.credit_bytes = self.credit_bytes.saturating_add(bytes).min(most);
    }

    /// What of its group's credit it has and was not sent.
    pub(super) fn assigned(&self) -> (u64, u64) {
        let bytes = u64::try_from(self.credit_bytes).unwrap_or(0);
        (self.credit_messages, bytes)
    }

    /// The leader gave back what it did not use.
    pub(super) fn recalled(&mut self, credit: Credit) {
        self.is_recalling = false;
        self.lent.messages = self.lent.messages.saturating_sub(credit.messages);
        self.lent.bytes = self.lent.bytes.saturating_sub(credit.bytes);
        // What is still on its way from the leader stays.
        self.credit_messages = self.credit_messages.min(self.lent.messages);
        let on_its_way = i64::try_from(self.lent.bytes).unwrap_or(i64::MAX);
        self.credit_bytes = self.credit_bytes.min(on_its_way);
    }

    /// Of a group whose leader is another one, or gone: what was lent to it is the group's again.
    pub(super) fn forfeit(&mut self) {
        (self.credit_messages, self.credit_bytes) = (0, 0);
        (self.waits, self.is_recalling) = (false, false);
    }

    /// What the leader should be able to send when `window` bytes may be on their way to the client.
    fn lendable(&self, window: u64) -> Credit {
        let bytes = u64::try_from(self.credit_bytes).unwrap_or(0);
        Credit {
            messages: self.credit_messages,
            bytes: bytes.min(window.saturating_sub(self.outbound)),
        }
    }

    /// Begins a new attachment: returns the credit that goes with it. What the leader had before counts no more.
    pub(super) fn attach(&mut self, now: Time, window: u64) -> Credit {
        let jump = match self.repeats {
            0 => 1,
            n => GENERATION_JUMP.saturating_mul(10_u64.saturating_pow(n - 1)),
        };
        self.generation.0 = self.generation.0.saturating_add(jump);
        self.attachment = Attachment::Asked { at: now };
        self.asked = true;
        self.early.clear();
        self.lent = self.lendable(window);
        self.lent
    }

    /// The leader is another one, or gone: what it promised counts no more.
    pub(super) fn detach(&mut self, now: Time) {
        if self.attachment == Attachment::Attached {
            self.detached_since = now;
        }
        self.attachment = Attachment::Detached;
        self.repeats = 0;
        self.early.clear();
    }

    /// Another call attaches under its name, with a higher generation: there is nothing to detach.
    pub(super) fn taken_over(&mut self) {
        self.attachment = Attachment::Detached;
        self.asked = false;
    }

    /// Whether an attachment was asked for, ever: a leader may know of it.
    pub(super) fn was_asked_for(&self) -> bool {
        self.asked
    }

    /// When an attachment without an answer is asked for again.
    pub(super) fn attach_deadline(&self) -> Option<Time> {
        match self.attachment {
            Attachment::Asked { at } => Some(at.after(ATTACH_RETRY_MICROS)),
            Attachment::Detached | Attachment::Attached => None,
        }
    }

    /// Gives an attachment up that had no answer in time, so that it is asked for again. True when it did.
    pub(super) fn give_up_attaching(&mut self, now: Time) -> bool {
        let over = self.attach_deadline().is_some_and(|at| at <= now);
        if over {
            self.attachment = Attachment::Detached;
            self.repeats += 1;
        }
        over
    }

    /// The leader answered. Returns what is lost and not being settled anyway.
    pub(super) fn attached(&mut self, lost: &[MessagePosition]) -> Vec<MessagePosition> {
        self.attachment = Attachment::Attached;
        self.repeats = 0;
        let mut gone = Vec::new();
        for position in lost {
            if self
                .held
                .get(position)
                .is_some_and(|h| h.settling.is_none())
            {
                self.held.remove(position);
                gone.push(*position);
            }
        }
        gone
    }

    /// Takes a delivery of the present attachment. False when the client holds the message already.
    pub(super) fn deliver(
        &mut self,
        now: Time,
        delivery: &StoredDelivery,
        body_bytes: u64,
    ) -> bool {
        let size = delivery.message.len() as u64;
        self.lent.messages = self.lent.messages.saturating_sub(1);
        self.lent.bytes = self.lent.bytes.saturating_sub(size);
        // What is leaving went back, or was not its own, and came again before the answer to the settlement did.
        let held = self.held.get(&delivery.position);
        if held.is_some_and(|held| !held.is_leaving()) {
            return false;
        }
        self.hold(now, delivery.position);
        self.note_group(delivery.group);
        self.credit_messages = self.credit_messages.saturating_sub(1);
        let body = i64::try_from(body_bytes).unwrap_or(i64::MAX);
        self.credit_bytes = self.credit_bytes.saturating_sub(body);
        self.outbound += size;
        true
    }

    /// The client's connection took so many stored bytes.
    pub(super) fn taken(&mut self, bytes: u64) {
        self.outbound = self.outbound.saturating_sub(bytes);
    }

    /// Credit to pass on to the leader, when it is worth a command.
    pub(super) fn grant(&mut self, window: u64) -> Option<Credit> {
        let target = self.lendable(window);
        let messages = target.messages.saturating_sub(self.lent.messages);
        let bytes = target.bytes.saturating_sub(self.lent.bytes);
        let dry =
            self.lent.messages <= messages && messages > 0 || self.lent.bytes <= bytes && bytes > 0;
        if !dry && messages < CREDIT_STEP_MESSAGES && bytes < CREDIT_STEP_BYTES {
            return None;
        }
        self.lent.messages += messages;
        self.lent.bytes += bytes;
        Some(Credit { messages, bytes })
    }

    /// Marks a message as one that a transaction settles; false when it is not held, or is being settled.
    pub(super) fn reserve(&mut self, position: MessagePosition, settlement: Settlement) -> bool {
        let held = self.held.get_mut(&position);
        let Some(held) = held.filter(|held| held.settling.is_none()) else {
            return false;
        };
        held.settling = Some(settlement);
        held.settled_in = 0;
        true
    }

    /// The transaction is over: what it settled is gone, or the consumer's as if it had just come.
    pub(super) fn unreserve(&mut self, now: Time, position: MessagePosition, decision: Decision) {
        match decision {
            Decision::Commit => {
                self.held.remove(&position);
            }
            Decision::Rollback => {
                if let Some(held) = self.held.get_mut(&position) {
                    held.settling = None;
                    held.since = now;
                }
            }
        }
    }

    /// Begins to settle. Returns the request's number and, of its positions, the indices of those to be sent to the
    /// shard: the others are not held and have their outcome.
    pub(super) fn settle(
        &mut self,
        settlement: Settlement,
        positions: &[MessagePosition],
        token: u64,
    ) -> (u64, Vec<u32>) {
        let mut request = Request {
            token,
            settlement,
            positions: Vec::with_capacity(positions.len()),
            outcomes: vec![Outcome::UnknownMessage; positions.len()],
            unanswered: 0,
        };
        let mut wanted = Vec::with_capacity(positions.len());
        for (at, position) in (0_u32..).zip(positions) {
            let held = self.held.get_mut(position);
            let held = held.filter(|held| held.settling.is_none());
            request
                .positions
                .push((*position, held.as_ref().map_or(0, |h| h.order)));
            if let Some(held) = held {
                held.settling = Some(settlement);
                wanted.push(at);
            }
        }
        request.unanswered = wanted.len();
        self.settling += wanted.len();
        self.request_numbers += 1;
        self.requests.insert(self.request_numbers, request);
        (self.request_numbers, wanted)
    }

    /// Notes outcomes of neighbours in a request. `repeated`: the batch was sent more than once.
    pub(super) fn settled(
        &mut self,
        number: u64,
        first: u32,
        outcomes: impl Iterator<Item = Outcome>,
        repeated: bool,
    ) {
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        let gone = matches!(request.settlement, Settlement::Accept | Settlement::Reject);
        for (at, outcome) in (first as usize..).zip(outcomes) {
            let Some((position, order)) = request.positions.get(at) else {
                return;
            };
            // The answer to an earlier try may have been lost, and the message gone, as it should be: of what is not
            // persistent no shard remembers that.
            let is_forgotten = repeated && position.is_transient();
            request.outcomes[at] = match outcome {
                Outcome::UnknownMessage if gone && is_forgotten => Outcome::Applied,
                Outcome::UnknownMessage
                | Outcome::Stored
                | Outcome::Duplicate
                | Outcome::Applied
                | Outcome::NumberTooOld
                | Outcome::LimitReached
                | Outcome::QueueFull
                | Outcome::Blocked
                | Outcome::UnknownDestination
                | Outcome::RolledBack
                | Outcome::InDoubt
                | Outcome::Moved => outcome,
            };
            if self
                .held
                .get(position)
                .is_some_and(|held| held.order == *order)
            {
                self.held.remove(position);
            }
            request.unanswered = request.unanswered.saturating_sub(1);
            self.settling = self.settling.saturating_sub(1);
        }
    }

    /// Takes out a request that is complete, if its client wants to know.
    pub(super) fn complete(&mut self, number: u64) -> Option<Settled> {
        if self.requests.get(&number)?.unanswered > 0 {
            return None;
        }
        let request = self.requests.remove(&number)?;
        (request.token != 0).then_some(Settled {
            token: request.token,
            outcomes: request.outcomes,
        })
    }

    /// Says why it waits, for a failed call.
    pub(super) fn why_detached(&self, shard: Arc<str>) -> Arc<str> {
        match self.attachment {
            Attachment::Asked { .. } => Arc::from("its leader does not attach the consumer"),
            Attachment::Detached | Attachment::Attached => shard,
        }
    }
}
