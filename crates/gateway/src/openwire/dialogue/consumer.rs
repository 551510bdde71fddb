//! A consumer of a connection: what it was sent, and how much more it may be sent.
//!
//! The window is ActiveMQ's: as many messages as the prefetch says that are neither acknowledged nor reported as
//! delivered. A report widens it once for each message, and so does an acknowledgement in a transaction; what has been
//! counted so is not counted again when it goes.
//!
//! ```text
//! prefetch = credit lent and not used + messages dispatched that do not widen the window yet + room
//! ```

use std::collections::BTreeMap;

use quorate_message::{ConsumerId as StoredConsumerId, Destination as Source, MessagePosition};
use quorate_wire::openwire::{ConsumerId, Destination, MessageId, ProducerId};

use super::{answering::Asked, reopening::Reopening};
use crate::{
    limits::{CREDIT_MESSAGES_MAX, HELD_MAX},
    session::{CallId, Credit, ShardId, Time},
};

/// Names a consumer within its connection for good: one that is closed and opened anew is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(pub(super) u64);

/// A consumer's id without its connection's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConsumerKey {
    pub(super) session: i64,
    pub(super) value: i64,
}

impl ConsumerKey {
    pub(super) fn of(id: &ConsumerId) -> Self {
        Self {
            session: id.session_id,
            value: id.value,
        }
    }
}

/// A consumer that the session machine feeds. A client's consumer of several destinations is one for each, with a share
/// of the prefetch.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) stored_id: StoredConsumerId,
    pub(super) call: CallId,
    /// The queue or subscription.
    pub(super) source: Source,
    /// As the client named it.
    pub(super) destination: Destination,
    /// What its own connection sent it does not see.
    pub(super) no_local: bool,
    pub(super) phase: Phase,
    pub(super) window: Window,
    pub(super) pull: Option<Pull>,
    /// The session machine knows that it ends.
    pub(super) is_finished: bool,
    /// Until it is attached for the first time.
    pub(super) reopening: Option<Reopening>,
}

impl Consumer {
    /// It is not attached, nor being attached.
    pub(super) fn is_waiting(&self) -> bool {
        self.reopening.as_ref().is_some_and(Reopening::is_waiting)
    }
}

/// How far a consumer is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Whoever opened it waits.
    Opening(Vec<Asked>),
    /// Fed.
    Open,
    /// Closed by its client. What a transaction has acknowledged stays until that ends; the rest has gone back.
    Leaving(Delivered),
}

/// Which of the messages that go back count as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nobody knows what the application saw: all.
    Unknown,
    /// Those up to this sequence.
    Through(u64),
    /// None reached the application.
    Nothing,
}

impl Delivered {
    /// As the client says it when it closes a consumer.
    pub(super) fn of(last_delivered_sequence: i64) -> Self {
        match last_delivered_sequence {
            -1 => Self::Nothing,
            sequence => u64::try_from(sequence).map_or(Self::Unknown, Self::Through),
        }
    }

    pub(super) fn has_failed(self, sequence: u64) -> bool {
        match self {
            Self::Unknown => true,
            Self::Through(last) => sequence <= last,
            Self::Nothing => false,
        }
    }
}

/// A client without prefetch waits for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    /// As long as it takes.
    Endless,
    /// Until this moment.
    Until(Time),
    /// For a moment, once the consumer is attached.
    AtOnce,
}

/// A message that the client has.
#[derive(Clone, Debug)]
pub(super) struct Dispatched {
    pub(super) position: (ShardId, MessagePosition),
    pub(super) id: MessageKey,
    is_credited: bool,
    /// The transaction that acknowledged it.
    pub(super) claim: Option<i64>,
}

/// What of a message's id tells it from others, as the client compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MessageKey(ProducerId, i64);

impl MessageKey {
    pub(super) fn of(id: &MessageId) -> Self {
        Self(id.producer_id.clone(), id.producer_sequence_id)
    }

    fn is(&self, id: &MessageId) -> bool {
        self.1 == id.producer_sequence_id && self.0 == id.producer_id
    }
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Window {
    prefetch: u64,
    /// Credit that the session machine has and has not used.
    lent: u64,
    /// By their sequence, which is the order of dispatch.
    dispatched: BTreeMap<u64, Dispatched>,
    /// Of them, those that do not widen the window.
    narrowing: u64,
    /// Stored bytes that have come and are not credited again.
    bytes_owed: u64,
}

impl Window {
    pub(super) fn new(prefetch: i32) -> Self {
        Self {
            prefetch: bounded(prefetch),
            lent: 0,
            dispatched: BTreeMap::new(),
            narrowing: 0,
            bytes_owed: 0,
        }
    }

    pub(super) fn set_prefetch(&mut self, prefetch: i32) {
        self.prefetch = bounded(prefetch);
    }

    /// The client asks for each message.
    pub(super) fn is_pulled(&self) -> bool {
        self.prefetch == 0
    }

    /// How many messages the session machine may still send.
    pub(super) fn lent(&self) -> u64 {
        self.lent
    }

    /// What may be lent at this moment, which counts as lent from here on; none: nothing.
    pub(super) fn lend(&mut self, is_asked: bool) -> Option<Credit> {
        let room = match self.is_pulled() {
            true => u64::from(is_asked).saturating_sub(self.lent),
            false => self.prefetch.saturating_sub(self.lent + self.narrowing),
        };
        let most = (HELD_MAX as u64).saturating_sub(self.lent + self.dispatched.len() as u64);
        let messages = room.min(most);
        let is_much = self.bytes_owed >= BYTES_STEP;
        if messages == 0 && !is_much {
            return None;
        }
        self.lent += messages;
        let bytes = std::mem::take(&mut self.bytes_owed);
        Some(Credit { messages, bytes })
    }

    /// A message came, of so many stored bytes.
    pub(super) fn arrived(&mut self, bytes: u64) {
        self.lent = self.lent.saturating_sub(1);
        self.bytes_owed += bytes;
    }

    /// The client gets a message. Sequences rise.
    pub(super) fn dispatch(
        &mut self,
        sequence: u64,
        position: (ShardId, MessagePosition),
        id: &MessageId,
    ) {
        self.narrowing += 1;
        let dispatched = Dispatched {
            position,
            id: MessageKey::of(id),
            is_credited: false,
            claim: None,
        };
        self.dispatched.insert(sequence, dispatched);
    }

    /// The sequence of a message as the client names it. A name of an earlier connection is nobody's.
    pub(super) fn find(&self, id: &MessageId) -> Option<u64> {
        let sequence = u64::try_from(id.broker_sequence_id).unwrap_or(0);
        if sequence != 0 {
            let found = self.dispatched.get(&sequence);
            return found.filter(|found| found.id.is(id)).map(|_| sequence);
        }
        let mut all = self.dispatched.iter();
        all.find(|(_, found)| found.id.is(id))
            .map(|(sequence, _)| *sequence)
    }

    /// All from the first named, or the oldest, to the last named, that no transaction has claimed. None if one of the two
    /// is not there.
    pub(super) fn range(
        &self,
        first: Option<&MessageId>,
        last: Option<&MessageId>,
    ) -> Option<Vec<u64>> {
        let first = match first {
            Some(first) => self.find(first)?,
            None => 0,
        };
        let last = self.find(last?)?;
        (first <= last).then(|| self.between(first, last))
    }

    /// All from the first to the last, be they there or not, that no transaction has claimed.
    pub(super) fn between(&self, first: u64, last: u64) -> Vec<u64> {
        if first > last {
            return Vec::new();
        }
        let range = self.dispatched.range(first..=last);
        let free = range.filter(|(_, dispatched)| dispatched.claim.is_none());
        free.map(|(sequence, _)| *sequence).collect()
    }

    /// All up to this one have arrived at the client: they widen the window.
    pub(super) fn widen(&mut self, through: u64) {
        for (_, dispatched) in self.dispatched.range_mut(..=through) {
            self.narrowing -= u64::from(!dispatched.is_credited);
            dispatched.is_credited = true;
        }
    }

    /// This one alone has.
    pub(super) fn widen_by(&mut self, sequence: u64) {
        if let Some(dispatched) = self.dispatched.get_mut(&sequence) {
            self.narrowing -= u64::from(!dispatched.is_credited);
            dispatched.is_credited = true;
        }
    }

    /// It is done with.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Dispatched> {
        let removed = self.dispatched.remove(&sequence)?;
        if !removed.is_credited {
            self.narrowing -= 1;
        }
        Some(removed)
    }

    /// A transaction acknowledges it, or takes that back.
    pub(super) fn claim(&mut self, sequence: u64, claim: Option<i64>) {
        if let Some(dispatched) = self.dispatched.get_mut(&sequence) {
            dispatched.claim = claim;
        }
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Dispatched> {
        self.dispatched.get(&sequence)
    }

    /// Those that no transaction has claimed, in order.
    pub(super) fn unclaimed(&self) -> Vec<u64> {
        let all = self.dispatched.iter();
        let free = all.filter(|(_, dispatched)| dispatched.claim.is_none());
        free.map(|(sequence, _)| *sequence).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dispatched.is_empty()
    }

    /// Those at these places, which are not the client's any longer, are forgotten.
    pub(super) fn lose(&mut self, lost: &[(ShardId, MessagePosition)]) {
        let all = self.dispatched.iter();
        let gone = all.filter(|(_, dispatched)| lost.contains(&dispatched.position));
        for sequence in gone.map(|(sequence, _)| *sequence).collect::<Vec<_>>() {
            self.remove(sequence);
        }
    }

    /// What must hold at any time.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let narrowing = self.dispatched.values().filter(|d| !d.is_credited).count();
        assert_eq!(self.narrowing, narrowing as u64);
    }
}

/// Bytes are credited again when so many have come together, or with messages.
const BYTES_STEP: u64 = 1 << 20;

/// What each of so many consumers gets of a prefetch: at least one message, unless each is asked for.
pub(super) fn share(prefetch: i32, legs: usize, leg: usize) -> i32 {
    let legs = i32::try_from(legs).unwrap_or(i32::MAX).max(1);
    let leg = i32::try_from(leg).unwrap_or(i32::MAX);
    match prefetch > 0 {
        true => (prefetch / legs + i32::from(leg < prefetch % legs)).max(1),
        false => 0,
    }
}

/// A prefetch within the bounds of credit.
fn bounded(prefetch: i32) -> u64 {
    u64::try_from(prefetch)
        .unwrap_or(0)
        .min(CREDIT_MESSAGES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: i64, broker_sequence_id: i64) -> MessageId {
        let mut id: MessageId = format!("c:1:1:{sequence}").parse().expect("a message id");
        id.broker_sequence_id = broker_sequence_id;
        id
    }

    fn place(entry: u64) -> (ShardId, MessagePosition) {
        (ShardId(1), MessagePosition::new(entry, 0))
    }

    /// A window of three of which three came, under the sequences 11, 12, 13.
    fn full() -> Window {
        let mut window = Window::new(3);
        assert_eq!(window.lend(false).expect("room").messages, 3);
        for (at, sequence) in (1..).zip(11..=13) {
            window.arrived(10);
            window.dispatch(sequence, place(at), &id(at as i64, sequence as i64));
        }
        assert_eq!(window.lend(false), None);
        window
    }

    #[test]
    fn a_report_of_arrival_widens_the_window_once() {
        let mut window = full();
        window.widen(12);
        assert_eq!(window.lend(false).expect("room").messages, 2);
        window.widen(12);
        window.remove(11);
        window.remove(12);
        assert_eq!(window.lend(false), None, "it has been counted");
        window.remove(13);
        assert_eq!(window.lend(false).expect("room").messages, 1);
        window.check();
    }

    #[test]
    fn a_range_is_in_the_order_of_dispatch_and_leaves_out_what_is_claimed() {
        let mut window = full();
        assert_eq!(window.range(None, Some(&id(2, 12))), Some(vec![11, 12]));
        assert_eq!(
            window.range(Some(&id(2, 12)), Some(&id(3, 13))),
            Some(vec![12, 13])
        );
        window.claim(12, Some(1));
        assert_eq!(window.range(None, Some(&id(3, 13))), Some(vec![11, 13]));
    }

    #[test]
    fn names_of_an_earlier_connection_are_nobodys() {
        let window = full();
        assert_eq!(window.find(&id(9, 11)), None, "the place of another one");
        assert_eq!(window.range(None, Some(&id(1, 99))), None);
        assert_eq!(window.range(Some(&id(9, 11)), Some(&id(1, 11))), None);
        assert_eq!(
            window.find(&id(2, 0)),
            Some(12),
            "a client that tells no place"
        );
    }

    #[test]
    fn a_smaller_prefetch_lends_nothing_until_there_is_room() {
        let mut window = full();
        window.set_prefetch(1);
        window.remove(11);
        window.remove(12);
        assert_eq!(window.lend(false), None);
        window.remove(13);
        assert_eq!(window.lend(false).expect("room").messages, 1);
        window.set_prefetch(-5);
        assert!(window.is_pulled());
    }

    #[test]
    fn a_prefetch_is_shared_out() {
        let shares = |prefetch, legs| -> Vec<i32> {
            (0..legs).map(|leg| share(prefetch, legs, leg)).collect()
        };
        assert_eq!(shares(10, 1), [10]);
        assert_eq!(shares(8, 3), [3, 3, 2]);
        assert_eq!(shares(1, 2), [1, 1], "none is left without");
        assert_eq!(shares(0, 2), [0, 0]);
        assert_eq!(shares(-1, 1), [0]);
    }

    #[test]
    fn a_pull_lends_for_one_message_however_often_it_is_asked() {
        let mut window = Window::new(0);
        assert_eq!(window.lend(false), None);
        assert_eq!(window.lend(true).expect("asked").messages, 1);
        assert_eq!(window.lend(true), None);
        window.arrived(1);
        assert_eq!(window.lend(true).expect("asked again").messages, 1);
    }
}
