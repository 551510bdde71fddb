//! What this gateway says: one frame at a time, with all that has changed since the one before. What was made and removed
//! meanwhile is said once, so that neither a busy client nor a leader that is away makes anything grow but the set of what
//! has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use quorate_message::GatewayId;
use quorate_wire::openwire::Destination;

use super::{
    Effect, Greeting, Neighbours, SeatId,
    frame::{News, Writer},
};
use crate::{
    limits::{NEIGHBOUR_ENTRIES_MAX, NEIGHBOUR_PAUSE_MICROS, NEIGHBOUR_SILENT_MICROS},
    session::Time,
};

/// A thing that others are told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Temporary(Destination),
    Client(String),
}

/// What is to be said.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The number of the last frame.
    number: u64,
    /// What has changed and was not said.
    changed: BTreeSet<Key>,
    lost: BTreeSet<GatewayId>,
    /// All is to be said, or is being said.
    all: Option<Said>,
    /// The frame with the last `begin`, while that has not come back, and since when.
    begun: Option<(u64, Time)>,
    /// Who waits until a release is said.
    freeing: BTreeMap<String, Vec<SeatId>>,
    /// A frame is under way, with what is freed when it has its place.
    flight: Option<Vec<SeatId>>,
    paused_until: Option<Time>,
    leaving: Leaving,
}

/// How much of all has been said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// `begin`, and what is not behind this.
    Upto(Option<Key>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leaving {
    #[default]
    Stays,
    Wanted,
    Said,
    Over,
}

impl Outgoing {
    pub(super) fn changed(&mut self, key: Key) {
        self.changed.insert(key);
        if self.changed.len() > NEIGHBOUR_ENTRIES_MAX {
            // To say all is less by now.
            self.changed.clear();
            self.say_all();
        }
    }

    /// Somebody waits until what has become of a client id is said.
    pub(super) fn frees(&mut self, client_id: &str, seat: SeatId) {
        let waiting = self.freeing.entry(client_id.to_owned()).or_default();
        waiting.push(seat);
    }

    pub(super) fn say_all(&mut self) {
        self.all = Some(Said::Nothing);
    }

    /// Somebody wants to hear all. A `begin` that has not come back comes after that question, and answers it.
    pub(super) fn answer(&mut self, now: Time) {
        let is_begun = self
            .begun
            .is_some_and(|(_, since)| now < since.after(NEIGHBOUR_SILENT_MICROS));
        if !is_begun {
            self.say_all();
        }
    }

    pub(super) fn heard_begin(&mut self, number: u64) {
        self.begun.take_if(|(begun, _)| *begun == number);
    }

    pub(super) fn lost(&mut self, lives: impl Iterator<Item = GatewayId>) {
        self.lost.extend(lives);
    }

    /// What was said before may be heard by nobody.
    pub(super) fn opened(&mut self) {
        self.begun = None;
        self.say_all();
    }

    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::Stays {
            self.leaving = Leaving::Wanted;
        }
    }

    pub(super) fn paused_until(&self) -> Option<Time> {
        self.paused_until
    }
}

impl Neighbours {
    /// A frame has its place in the topic, or none.
    pub(super) fn published(&mut self, is_taken: bool, effects: &mut Vec<Effect>) {
        let Some(freed) = self.outgoing.flight.take() else {
            return;
        };
        effects.extend(freed.into_iter().map(|seat| Effect::Freed { seat }));
        if self.outgoing.leaving == Leaving::Said {
            self.outgoing.leaving = Leaving::Over;
            effects.push(Effect::Left);
        }
        if !is_taken {
            self.outgoing.paused_until = Some(self.now.after(NEIGHBOUR_PAUSE_MICROS));
            // Whatever was in it: with a hello all is said again, and asked again.
            if self.is_open {
                self.greeting = Greeting::Wanted;
            }
        }
    }

    /// Says what there is to say, if it is time.
    pub(super) fn say(&mut self, effects: &mut Vec<Effect>) {
        self.outgoing
            .paused_until
            .take_if(|until| *until <= self.now);
        self.leave_out(effects);
        let is_paused = self.outgoing.paused_until.is_some();
        let is_over = self.outgoing.leaving == Leaving::Over;
        if !self.is_open || is_paused || is_over || self.outgoing.flight.is_some() {
            return;
        }
        let greets = self.greeting == Greeting::Wanted && self.greets_from <= self.now;
        let outgoing = &self.outgoing;
        let has_news = !outgoing.changed.is_empty() || !outgoing.lost.is_empty();
        let leaves = outgoing.leaving == Leaving::Wanted;
        if !(greets || leaves || has_news || outgoing.all.is_some()) {
            return;
        }
        self.outgoing.number += 1;
        let number = self.outgoing.number;
        let mut writer = Writer::new(self.life, number, &self.name);
        if leaves {
            writer.push(&News::Goodbye);
            self.outgoing.leaving = Leaving::Said;
            self.outgoing.flight = Some(Vec::new());
            return effects.push(Effect::Publish(writer.finish()));
        }
        if greets {
            writer.push(&News::Hello);
            self.greets(number);
            self.outgoing.say_all();
        }
        while writer.has_room()
            && let Some(life) = self.outgoing.lost.pop_first()
        {
            writer.push(&News::Lost(life));
        }
        let freed = self.say_changes(&mut writer);
        self.say_more_of_all(&mut writer);
        self.outgoing.flight = Some(freed);
        effects.push(Effect::Publish(writer.finish()));
    }

    /// Leaves out what nobody needs to hear: whoever comes later asks for all.
    fn leave_out(&mut self, effects: &mut Vec<Effect>) {
        let is_alone = self.is_alone();
        let outgoing = &mut self.outgoing;
        if is_alone || !self.is_open {
            outgoing.changed.clear();
            let freed = std::mem::take(&mut outgoing.freeing);
            let freed = freed.into_values().flatten();
            effects.extend(freed.map(|seat| Effect::Freed { seat }));
            if outgoing.leaving == Leaving::Wanted {
                outgoing.leaving = Leaving::Over;
                effects.push(Effect::Left);
            }
        } else if self.others.len() == 0 {
            outgoing.changed.retain(|key| match key {
                Key::Temporary(_) => false,
                Key::Client(_) => true,
            });
        }
    }

    /// Says what has changed. Returns who waited for it.
    fn say_changes(&mut self, writer: &mut Writer) -> Vec<SeatId> {
        let mut freed = Vec::new();
        while writer.has_room()
            && let Some(key) = self.outgoing.changed.pop_first()
        {
            if let Key::Client(client_id) = &key {
                freed.extend(
                    self.outgoing
                        .freeing
                        .remove(client_id)
                        .into_iter()
                        .flatten(),
                );
            }
            writer.push(&self.news_of(key));
        }
        if self.outgoing.changed.is_empty() {
            // Theirs was dropped for the sake of saying all.
            freed.extend(
                std::mem::take(&mut self.outgoing.freeing)
                    .into_values()
                    .flatten(),
            );
        }
        freed
    }

    fn say_more_of_all(&mut self, writer: &mut Writer) {
        let Some(mut said) = self.outgoing.all.take() else {
            return;
        };
        while writer.has_room() {
            let Said::Upto(last) = &said else {
                writer.push(&News::Begin);
                self.outgoing.begun = Some((self.outgoing.number, self.now));
                said = Said::Upto(None);
                continue;
            };
            let Some(next) = self.own_after(last.as_ref()) else {
                return writer.push(&News::End);
            };
            writer.push(&self.news_of(next.clone()));
            said = Said::Upto(Some(next));
        }
        self.outgoing.all = Some(said);
    }

    /// The next thing that this gateway has: temporary destinations first.
    fn own_after(&self, last: Option<&Key>) -> Option<Key> {
        let client = match last {
            None => self.temporaries.first().map(Err),
            Some(Key::Temporary(last)) => {
                let mut rest = self.temporaries.range((Excluded(last), Unbounded));
                rest.next().map(Err)
            }
            Some(Key::Client(last)) => Some(Ok(last)),
        };
        let mut clients = match client {
            Some(Err(destination)) => return Some(Key::Temporary(destination.clone())),
            Some(Ok(last)) => self
                .own_claims
                .range::<String, _>((Excluded(last), Unbounded)),
            None => self.own_claims.range::<String, _>(..),
        };
        clients.next().map(|(id, _)| Key::Client(id.clone()))
    }

    /// What is the case now.
    fn news_of(&self, key: Key) -> News {
        match key {
            Key::Temporary(destination) => match self.temporaries.contains(&destination) {
                true => News::There(destination),
                false => News::Gone(destination),
            },
            Key::Client(client_id) => match self.own_claims.get(&client_id) {
                Some(claim) => claim.news(client_id),
                None => News::Released(client_id),
            },
        }
    }
}
