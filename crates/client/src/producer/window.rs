//! The unconfirmed messages of one producer, in order: what to send, what to send again, what is confirmed.
//!
//! Pure. A message gets its number for its destination when it is pushed and keeps both until it is confirmed,
//! whatever call it travels in. A call names messages by ordinal, so each call remembers what it carried:
//!
//! ```text
//! ordinal in the call   0 .. again.len()            then on
//! sequence              again[ordinal]              first_new + (ordinal - again.len())
//! ```
//! The window is contiguous: a message that waits holds up the room of those behind it. So no number ever falls so far
//! behind that the broker forgets it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    task::Waker,
};

use bytes::Bytes;
use quorate_proto::v1::{self, Confirm, Outcome, PublishRequest, PublishResponse};

use crate::{
    Error, OutboundMessage,
    limits::{FRAME_BYTES, FRAME_MESSAGES, HELD_BACK, PRODUCER_DESTINATIONS},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    producer: Bytes,
    /// Last number given, for each destination.
    numbers: HashMap<String, u64>,
    /// Sequence of the oldest message in `slots`.
    base: u64,
    slots: VecDeque<Slot>,
    /// Outcomes of messages that have left the window, if they are errors and somebody will ask.
    failed: HashMap<u64, Error>,
    call: Call,
    /// What the gateway said of destinations that hold this producer back, since everything was confirmed last.
    held_back: Vec<String>,
    ended: Option<Error>,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
struct Slot {
    /// The message, until it is confirmed.
    unconfirmed: Option<v1::OutboundMessage>,
    room: Room,
    waker: Option<Waker>,
    /// Nobody will ask for the outcome.
    abandoned: bool,
}

/// What one call carries.
#[derive(Debug, Default)]
struct Call {
    number: u64,
    opened: bool,
    again: Vec<u64>,
    again_sent: usize,
    first_new: u64,
    next_new: u64,
    waker: Option<Waker>,
}

/// Room in the window that messages take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// A gateway confirmed what it was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSent {
    pub(super) ordinal: u64,
}

impl Window {
    pub(super) fn new(producer: Bytes) -> Self {
        Self {
            producer,
            numbers: HashMap::new(),
            base: 0,
            slots: VecDeque::new(),
            failed: HashMap::new(),
            call: Call::default(),
            held_back: Vec::new(),
            ended: None,
            wakers: Vec::new(),
        }
    }

    /// Takes a message and returns its sequence, by which its outcome is asked for.
    pub(super) fn push(&mut self, message: OutboundMessage, room: Room) -> Result<u64, Error> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let number = if let Some(number) = self.numbers.get_mut(&message.destination) {
            *number += 1;
            *number
        } else {
            if self.numbers.len() >= PRODUCER_DESTINATIONS {
                return Err(Error::Refused(format!(
                    "one producer sends to at most {PRODUCER_DESTINATIONS} destinations; use another for {}",
                    message.destination
                )));
            }
            self.numbers.insert(message.destination.clone(), 1);
            1
        };
        self.slots.push_back(Slot {
            unconfirmed: Some(message.numbered(number)),
            room,
            waker: None,
            abandoned: false,
        });
        self.wakers.extend(self.call.waker.take());
        Ok(self.base + self.slots.len() as u64 - 1)
    }

    /// Returns whether nothing is unconfirmed.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns why this producer ended, if it did.
    pub(super) fn ended(&self) -> Option<&Error> {
        self.ended.as_ref()
    }

    /// Begins a call, which sends all that is unconfirmed again; the call before it gets nothing more.
    pub(super) fn begin_call(&mut self) -> u64 {
        let end = self.base + self.slots.len() as u64;
        let again = (self.base..end)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.unconfirmed.is_some())
            .map(|(sequence, _)| sequence)
            .collect();
        self.wakers.extend(self.call.waker.take());
        self.held_back.clear();
        self.call = Call {
            number: self.call.number + 1,
            opened: false,
            again,
            again_sent: 0,
            first_new: end,
            next_new: end,
            waker: None,
        };
        self.call.number
    }

    /// Returns what waits to be sent in call `number`, as one request; `None` if nothing waits.
    pub(super) fn next_request(&mut self, number: u64) -> Option<PublishRequest> {
        debug_assert_eq!(number, self.call.number);
        let mut messages = Vec::new();
        let mut bytes = 0;
        while messages.len() < FRAME_MESSAGES {
            let sequence = match self.call.again.get(self.call.again_sent) {
                Some(sequence) => *sequence,
                None => self.call.next_new,
            };
            // A message that this call has not carried yet cannot have been confirmed, so it is still in the window.
            let Some(slot) = sequence
                .checked_sub(self.base)
                .and_then(|place| self.slots.get(usize::try_from(place).ok()?))
            else {
                break;
            };
            let Some(message) = &slot.unconfirmed else {
                break;
            };
            if bytes + slot.room.bytes > FRAME_BYTES && !messages.is_empty() {
                break;
            }
            bytes += slot.room.bytes;
            messages.push(message.clone());
            if self.call.again_sent < self.call.again.len() {
                self.call.again_sent += 1;
            } else {
                self.call.next_new += 1;
            }
        }
        if messages.is_empty() {
            return None;
        }
        let producer_id = if mem::replace(&mut self.call.opened, true) {
            Bytes::new()
        } else {
            self.producer.clone()
        };
        Some(PublishRequest {
            producer_id,
            messages,
        })
    }

    /// Returns whether `number` is the call that may still send.
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.call.number == number && self.ended.is_none()
    }

    /// Remembers whom to wake when there is something to send.
    pub(super) fn wake_sender(&mut self, waker: Waker) {
        self.call.waker = Some(waker);
    }

    /// Takes the confirms of the current call and returns the room that they make.
    pub(super) fn confirm(&mut self, response: PublishResponse) -> Result<Room, NotSent> {
        self.held_back
            .extend(response.held_back.into_iter().map(|held| held.reason));
        for confirm in response.confirms {
            for ordinal in confirm.first..confirm.first.saturating_add(u64::from(confirm.count)) {
                let sequence = self.sequence_of(ordinal).ok_or(NotSent { ordinal })?;
                self.settle(sequence, &confirm);
            }
        }
        let room = self.advance();
        if self.is_empty() {
            self.held_back.clear();
        }
        self.held_back.truncate(HELD_BACK);
        Ok(room)
    }

    /// Returns what the gateway said of why messages wait; empty when it said nothing.
    pub(super) fn held_back(&self) -> String {
        self.held_back.join("; ")
    }

    fn sequence_of(&self, ordinal: u64) -> Option<u64> {
        let again = self.call.again.len() as u64;
        if ordinal < again {
            let place = usize::try_from(ordinal).ok()?;
            return (place < self.call.again_sent).then(|| self.call.again[place]);
        }
        let sequence = self.call.first_new.checked_add(ordinal - again)?;
        (sequence < self.call.next_new).then_some(sequence)
    }

    fn settle(&mut self, sequence: u64, confirm: &Confirm) {
        let Some(slot) = sequence
            .checked_sub(self.base)
            .and_then(|place| self.slots.get_mut(usize::try_from(place).ok()?))
        else {
            return;
        };
        let Some(message) = slot.unconfirmed.take() else {
            return;
        };
        self.wakers.extend(slot.waker.take());
        if slot.abandoned {
            return;
        }
        if let Err(error) = outcome(confirm, message) {
            self.failed.insert(sequence, error);
        }
    }

    fn advance(&mut self) -> Room {
        let mut room = Room::default();
        while let Some(slot) = self.slots.front() {
            if slot.unconfirmed.is_some() {
                break;
            }
            room.messages += slot.room.messages;
            room.bytes += slot.room.bytes;
            self.slots.pop_front();
            self.base += 1;
        }
        room
    }

    /// Returns the outcome of a message, once; `None` while it is not known, and then `waker` is woken.
    pub(super) fn poll_outcome(
        &mut self,
        sequence: u64,
        waker: &Waker,
    ) -> Option<Result<(), Error>> {
        if let Some(error) = self.failed.remove(&sequence) {
            return Some(Err(error));
        }
        let Some(slot) = sequence
            .checked_sub(self.base)
            .and_then(|place| self.slots.get_mut(usize::try_from(place).ok()?))
        else {
            return Some(Ok(()));
        };
        if slot.unconfirmed.is_none() {
            return Some(Ok(()));
        }
        if let Some(error) = &self.ended {
            return Some(Err(error.clone()));
        }
        match &mut slot.waker {
            Some(present) => present.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }

    /// Nobody will ask for this outcome.
    pub(super) fn abandon(&mut self, sequence: u64) {
        self.failed.remove(&sequence);
        let slot = sequence
            .checked_sub(self.base)
            .and_then(|place| self.slots.get_mut(usize::try_from(place).ok()?));
        if let Some(slot) = slot {
            slot.abandoned = true;
            slot.waker = None;
        }
    }

    /// Ends the producer: what is unconfirmed stays so, and everybody who waits is told `error`.
    pub(super) fn end(&mut self, error: Error) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(error);
        for slot in &mut self.slots {
            self.wakers.extend(slot.waker.take());
        }
        self.wakers.extend(self.call.waker.take());
    }

    /// Takes those that are to be woken, once no lock is held.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        mem::take(&mut self.wakers)
    }

    /// Counts the destinations of unconfirmed messages, for messages to people.
    pub(super) fn unconfirmed_destinations(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        self.slots
            .iter()
            .filter_map(|slot| Some(&slot.unconfirmed.as_ref()?.destination))
            .filter(|destination| seen.insert(*destination))
            .cloned()
            .collect()
    }
}

fn outcome(confirm: &Confirm, message: v1::OutboundMessage) -> Result<(), Error> {
    match confirm.outcome() {
        Outcome::Stored | Outcome::Duplicate => Ok(()),
        Outcome::NumberTooOld => Err(Error::NumberTooOld {
            destination: message.destination,
            number: message.number,
        }),
        Outcome::LimitReached | Outcome::QueueFull => {
            Err(Error::LimitReached(if confirm.error.is_empty() {
                "a limit of the shard is reached".to_owned()
            } else {
                confirm.error.clone()
            }))
        }
        Outcome::Unspecified
        | Outcome::Applied
        | Outcome::UnknownMessage
        | Outcome::Blocked
        | Outcome::UnknownDestination
        | Outcome::Invalid
        | Outcome::RolledBack
        | Outcome::InDoubt
        | Outcome::Moved => Err(Error::Refused(if confirm.error.is_empty() {
            format!("gateway answered {:?}", confirm.outcome())
        } else {
            confirm.error.clone()
        })),
    }
}

#[cfg(test)]
mod tests;
