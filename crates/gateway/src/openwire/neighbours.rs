//! What the clients of all gateways share, as on one broker: temporary destinations, which each client must be told of, and
//! client ids, which one connection has at a time.
//!
//! A pure machine with one door, [`Neighbours::step`]. The gateways speak by a topic whose one leader orders all that they
//! say, so that all hear the same in the same order, their own words included. It keeps what this gateway has and what is
//! known of the others, each by its life, and promises, as long as nothing is missed:
//!
//! - a temporary destination is announced here while a client of another gateway has it;
//! - a client id that a client chose is had by one connection. The first claim in the topic's order wins.
//!
//! What is said waits in a leader's memory and dies with it. A subscription that is opened anew, and a number that is left
//! out, say that something may be missed; then this gateway says hello, and each says all that it has:
//!
//! ```text
//! hello ─> begin, what is there, end      from everybody; what was not said again since `begin` is gone
//! ```
//! **Who is gone.** One that stops says goodbye. Of one that dies, what it had must go, and it must not for one that is
//! only slow or whose coordinator has just changed. So each owes an answer to a hello, whoever said it. One that owes it
//! for long (less long when no coordinator sees it, or another life has its name) is asked again. When that hello has come
//! back, the topic works, and `lost` is said of it. That is heard in order as well: all forget it at the same place, so that
//! they agree on whose claim was next. If it lives, it hears that too and says all again.
//!
//! **Availability over uniqueness.** A claim without an answer is let in after a bounded time, and said to be held from then
//! on: clients connect though the topic's shard has no leader. Who is alone in the cluster asks nobody.

mod claims;
mod deciding;
mod frame;
mod hearing;
mod others;
mod saying;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_message::GatewayId;
use quorate_wire::openwire::Destination;

use self::{
    claims::Claims,
    deciding::OwnClaim,
    others::Others,
    saying::{Key, Outgoing},
};
use crate::{
    limits::{
        NEIGHBOUR_ENTRIES_MAX, NEIGHBOUR_HELLO_MICROS, NEIGHBOUR_SILENT_MICROS,
        NEIGHBOUR_TEXT_BYTES_MAX,
    },
    session::Time,
};
pub(crate) use frame::Malformed;

/// A connection's place at this gateway; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatId(pub(crate) u64);

/// A fact.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// The subscription to the topic is attached to a leader, for the first time or anew: what was said before may be
    /// missed.
    Opened,
    /// There is no subscription any more.
    Closed,
    /// Somebody said something, perhaps this gateway. In the order of the topic.
    Heard(Bytes),
    /// What became of `Effect::Publish`.
    Published {
        /// It has its place in the topic.
        is_taken: bool,
    },
    /// The names of the gateways that a coordinator sees, in full.
    Attending(BTreeSet<String>),
    /// A client of this gateway made a temporary destination, or removed it.
    Announced {
        destination: Destination,
        is_there: bool,
    },
    /// A connection wants a client id that no other connection of this gateway has. Answered by `Effect::Decided`.
    Claimed {
        seat: SeatId,
        client_id: String,
        connection_id: String,
        /// What helps to find the connection.
        holder: String,
    },
    /// It wants it no longer. Answered by `Effect::Freed`.
    Released { seat: SeatId, client_id: String },
    /// The gateway stops. Answered by `Effect::Left`.
    Left,
    /// A deadline may have passed.
    Elapsed,
}

/// A request of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Publish this to the topic, non-persistent. There is never more than one without its `Input::Published`.
    Publish(Vec<u8>),
    /// The connections here are to know that clients of other gateways have a temporary destination, or none does.
    Announce {
        destination: Destination,
        is_there: bool,
    },
    /// A gateway that is lost left this behind, and nobody said for long that it has it: it can be deleted.
    Orphaned { destination: Destination },
    /// A claim has an answer; of one that is refused, what helps to find who has the client id.
    Decided {
        seat: SeatId,
        decision: Result<(), String>,
    },
    /// The same connection has come back at another gateway: this one leaves.
    Leave { seat: SeatId },
    /// Whoever claims the client id after this finds it free.
    Freed { seat: SeatId },
    /// All are told that this gateway stops, as far as they can be.
    Left,
    /// For the log.
    Note(Note),
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Another gateway is heard.
    Found { name: String, life: GatewayId },
    /// It is not there any longer, or does not answer.
    Lost { life: GatewayId },
    /// What came is no frame.
    Malformed(Malformed),
    /// There is no room to remember this.
    Full { what: &'static str },
    /// A client id is let in without an answer of the topic.
    Unanswered { client_id: String },
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Neighbours {
    life: GatewayId,
    name: String,
    now: Time,
    is_open: bool,
    /// The number of the last own frame that came back.
    last_own: u64,
    /// This gateway's own `begin` has come back, and its `end` has not.
    is_own_saying: bool,
    greeting: Greeting,
    /// No hello before this.
    greets_from: Time,
    /// When a hello came back for the first time since the subscription was made.
    greeted_at: Option<Time>,
    others: Others,
    claims: Claims,
    temporaries: BTreeSet<Destination>,
    /// What lost gateways had, and until when it is waited for, in that order.
    orphans: VecDeque<(Time, Destination)>,
    own_claims: BTreeMap<String, OwnClaim>,
    outgoing: Outgoing,
}

/// How far this gateway's own hello is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    /// There is no need for one.
    None,
    Wanted,
    /// It is under way, in the frame of this number.
    Unheard {
        number: u64,
        since: Time,
    },
}

impl Neighbours {
    /// A gateway that has nothing and has said nothing.
    pub(crate) fn new(life: GatewayId, name: &str) -> Self {
        Self {
            life,
            name: name[..name.floor_char_boundary(NEIGHBOUR_TEXT_BYTES_MAX)].to_owned(),
            now: Time::default(),
            is_open: false,
            last_own: 0,
            is_own_saying: false,
            greeting: Greeting::None,
            greets_from: Time::default(),
            greeted_at: None,
            others: Others::default(),
            claims: Claims::default(),
            temporaries: BTreeSet::new(),
            orphans: VecDeque::new(),
            own_claims: BTreeMap::new(),
            outgoing: Outgoing::default(),
        }
    }

    /// Takes in a fact, and says what is to be done about it.
    pub(crate) fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = now;
        match input {
            Input::Opened => self.opened(),
            Input::Closed => {
                self.is_open = false;
                self.greeted_at = None;
                self.greeting = Greeting::None;
            }
            Input::Heard(bytes) => self.heard(&bytes, effects),
            Input::Published { is_taken } => self.published(is_taken, effects),
            Input::Attending(names) => {
                self.others.attend(names);
                if self.others.unasked(&self.name) {
                    self.greet();
                }
            }
            Input::Announced {
                destination,
                is_there,
            } => self.announced(destination, is_there, effects),
            Input::Claimed {
                seat,
                client_id,
                connection_id,
                holder,
            } => self.claim(seat, client_id, (connection_id, holder), effects),
            Input::Released { seat, client_id } => self.release(seat, client_id, effects),
            Input::Left => self.outgoing.leave(),
            Input::Elapsed => {}
        }
        self.look_at_others();
        self.look_at_orphans(effects);
        self.decide_all(effects);
        self.say(effects);
    }

    /// When `Input::Elapsed` is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let answer = match self.greeting {
            Greeting::None => self.others.overdue(&self.name).map(|(_, at)| at).min(),
            Greeting::Wanted => Some(self.greets_from),
            Greeting::Unheard { since, .. } => Some(since.after(NEIGHBOUR_SILENT_MICROS)),
        };
        let claims = self.own_claims.values();
        let claims = claims.filter_map(OwnClaim::waits_until).min();
        let orphaned = self.orphans.front().map(|(at, _)| *at);
        let deadlines = [answer, claims, orphaned, self.outgoing.paused_until()];
        // What is due by now waits for something else than time.
        let ahead = deadlines.into_iter().flatten().filter(|at| *at > self.now);
        ahead.min()
    }

    /// Other gateways that are known.
    pub(crate) fn others(&self) -> usize {
        self.others.len()
    }

    /// A leader has the subscription.
    fn opened(&mut self) {
        self.is_open = true;
        self.is_own_saying = false;
        self.others.may_miss();
        self.outgoing.opened();
        self.greeting = Greeting::Wanted;
        self.greets_from = self.now;
    }

    /// All are to say what they have.
    fn greet(&mut self) {
        if self.is_open && self.greeting == Greeting::None {
            self.greeting = Greeting::Wanted;
        }
    }

    /// Asks again whoever has owed an answer for too long.
    fn look_at_others(&mut self) {
        if let Greeting::Unheard { since, .. } = self.greeting
            && since.after(NEIGHBOUR_SILENT_MICROS) <= self.now
        {
            self.greeting = Greeting::None;
        }
        let mut overdue = self.others.overdue(&self.name);
        if overdue.any(|(_, at)| at <= self.now) {
            drop(overdue);
            self.greet();
        }
    }

    /// What a lost gateway had may be gone for good by now.
    fn look_at_orphans(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        while let Some((_, destination)) = self.orphans.pop_front_if(|(at, _)| *at <= now) {
            if !self.temporaries.contains(&destination) && !self.others.anybody_has(&destination) {
                effects.push(Effect::Orphaned { destination });
            }
        }
    }

    /// A hello goes out in the frame of this number.
    fn greets(&mut self, number: u64) {
        let since = self.now;
        self.greeting = Greeting::Unheard { number, since };
        self.greets_from = since.after(NEIGHBOUR_HELLO_MICROS);
    }

    /// Nobody else is in the cluster, as far as anybody knows.
    fn is_alone(&self) -> bool {
        let attending = self.others.attending();
        let is_only = attending.is_some_and(|all| all.len() == 1 && all.contains(&self.name));
        is_only && self.others.len() == 0
    }

    fn announced(&mut self, destination: Destination, is_there: bool, effects: &mut Vec<Effect>) {
        let is_news = match is_there {
            true if self.temporaries.len() >= NEIGHBOUR_ENTRIES_MAX => {
                let what = "temporary destinations of this gateway";
                return effects.push(Effect::Note(Note::Full { what }));
            }
            true if !frame::is_temporary(destination.name()) => false,
            true => self.temporaries.insert(destination.clone()),
            false => self.temporaries.remove(&destination),
        };
        if is_news {
            self.outgoing.changed(Key::Temporary(destination));
        }
    }

    /// What must hold between two steps.
    #[cfg(test)]
    fn check(&self) {
        self.others.check();
        assert!(
            self.next_deadline().is_none_or(|at| at > self.now),
            "no deadline stays in the past"
        );
    }
}
