//! The other gateways, each by its life, with the temporary destinations that its clients have.

use std::collections::{BTreeMap, BTreeSet};

use quorate_message::GatewayId;
use quorate_wire::openwire::Destination;

use crate::{
    limits::{NEIGHBOUR_GONE_MICROS, NEIGHBOUR_SILENT_MICROS},
    session::Time,
};

#[derive(Debug, Default)]
pub(super) struct Others {
    lives: BTreeMap<GatewayId, Other>,
    /// How many of them have each.
    temporaries: BTreeMap<Destination, usize>,
    /// The gateways that a coordinator sees; none: it has not said.
    attending: Option<BTreeSet<String>>,
    /// Counts lives as they become known.
    order: u64,
}

#[derive(Debug)]
struct Other {
    name: String,
    order: u64,
    /// The number of its last frame.
    last: u64,
    /// All that it has is known: it has said so since the last time that something may have been missed.
    is_whole: bool,
    /// It is saying all that it has.
    is_saying: bool,
    /// Since when it owes an answer to a hello.
    owes_since: Option<Time>,
    /// With whether each was said again since it began to say all.
    temporaries: BTreeMap<Destination, bool>,
}

/// How a frame stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The next one.
    Next,
    /// It came before.
    Repeated,
    /// Something was missed before it.
    Late,
}

impl Others {
    pub(super) fn len(&self) -> usize {
        self.lives.len()
    }

    pub(super) fn knows(&self, life: GatewayId) -> bool {
        self.lives.contains_key(&life)
    }

    /// How many temporary destinations are known, those of each gateway counted.
    pub(super) fn count(&self) -> usize {
        self.lives
            .values()
            .map(|other| other.temporaries.len())
            .sum()
    }

    pub(super) fn attending(&self) -> Option<&BTreeSet<String>> {
        self.attending.as_ref()
    }

    pub(super) fn attend(&mut self, attending: BTreeSet<String>) {
        self.attending = Some(attending);
    }

    /// A frame comes. What is said next is of a life that is known from here on.
    pub(super) fn heard(&mut self, life: GatewayId, name: &str, number: u64) -> Place {
        let order = self.order;
        let is_new = !self.knows(life);
        let other = self.lives.entry(life).or_insert_with(|| Other {
            name: name.to_owned(),
            order,
            last: number.saturating_sub(1),
            is_whole: false,
            is_saying: false,
            owes_since: None,
            temporaries: BTreeMap::new(),
        });
        if number <= other.last {
            return Place::Repeated;
        }
        let is_next = number == other.last + 1;
        other.last = number;
        if is_new {
            self.order += 1;
        }
        match is_next && !is_new {
            true => Place::Next,
            false => {
                other.is_whole = false;
                other.is_saying = false;
                Place::Late
            }
        }
    }

    /// Something may have been missed, of any of them.
    pub(super) fn may_miss(&mut self) {
        for other in self.lives.values_mut() {
            other.is_whole = false;
            other.is_saying = false;
            // Whoever asked, the answer may be what was missed.
            other.owes_since = None;
        }
    }

    /// Whether something of a life is missed and it is not saying all just now.
    pub(super) fn is_unclear(&self, life: GatewayId) -> bool {
        let other = self.lives.get(&life);
        other.is_some_and(|other| !other.is_whole && !other.is_saying)
    }

    /// Somebody said hello: each owes an answer.
    pub(super) fn greeted(&mut self, now: Time) {
        for other in self.lives.values_mut() {
            other.owes_since.get_or_insert(now);
        }
    }

    pub(super) fn begun(&mut self, life: GatewayId) {
        if let Some(other) = self.lives.get_mut(&life) {
            other.owes_since = None;
            other.is_saying = true;
            for is_said in other.temporaries.values_mut() {
                *is_said = false;
            }
        }
    }

    /// It has said all that it has. Returns what is there no longer, and whether it began.
    pub(super) fn ended(&mut self, life: GatewayId) -> (Vec<Destination>, bool) {
        let Some(other) = self.lives.get_mut(&life).filter(|other| other.is_saying) else {
            return (Vec::new(), false);
        };
        other.is_saying = false;
        other.is_whole = true;
        let temporaries = other.temporaries.iter();
        let unsaid = temporaries.filter(|(_, is_said)| !**is_said);
        let unsaid: Vec<Destination> = unsaid.map(|(destination, _)| destination.clone()).collect();
        let gone = unsaid.into_iter().filter(|gone| self.gone(life, gone));
        (gone.collect(), true)
    }

    /// One of its temporary destinations is there. Returns whether that is news.
    pub(super) fn there(&mut self, life: GatewayId, destination: &Destination) -> bool {
        let Some(other) = self.lives.get_mut(&life) else {
            return false;
        };
        if other
            .temporaries
            .insert(destination.clone(), true)
            .is_some()
        {
            return false;
        }
        let having = self.temporaries.entry(destination.clone()).or_insert(0);
        *having += 1;
        *having == 1
    }

    pub(super) fn has(&self, life: GatewayId, destination: &Destination) -> bool {
        let other = self.lives.get(&life);
        other.is_some_and(|other| other.temporaries.contains_key(destination))
    }

    pub(super) fn anybody_has(&self, destination: &Destination) -> bool {
        self.lives.keys().any(|life| self.has(*life, destination))
    }

    pub(super) fn temporaries_of(&self, life: GatewayId) -> usize {
        self.lives
            .get(&life)
            .map_or(0, |other| other.temporaries.len())
    }

    /// One of its temporary destinations is gone. Returns whether nobody has it.
    pub(super) fn gone(&mut self, life: GatewayId, destination: &Destination) -> bool {
        let other = self.lives.get_mut(&life);
        let had = other.and_then(|other| other.temporaries.remove(destination));
        if had.is_none() {
            return false;
        }
        let Some(having) = self.temporaries.get_mut(destination) else {
            return false;
        };
        *having -= 1;
        let is_last = *having == 0;
        if is_last {
            self.temporaries.remove(destination);
        }
        is_last
    }

    /// What the clients of a life have.
    pub(super) fn temporaries_left(&self, life: GatewayId) -> Vec<Destination> {
        let had = self.lives.get(&life).map(|other| &other.temporaries);
        had.into_iter()
            .flatten()
            .map(|(destination, _)| destination.clone())
            .collect()
    }

    /// A life is over. Returns what nobody has any longer.
    pub(super) fn lost(&mut self, life: GatewayId) -> Vec<Destination> {
        let had = self.temporaries_left(life);
        let gone = had.into_iter().filter(|gone| self.gone(life, gone));
        let gone = gone.collect();
        self.lives.remove(&life);
        gone
    }

    /// Whether all is known of all that are known.
    pub(super) fn are_whole(&self) -> bool {
        self.lives.values().all(|other| other.is_whole)
    }

    /// Whether each gateway that a coordinator sees is known, this one apart. Not, while no coordinator has said.
    pub(super) fn are_all(&self, own: &str) -> bool {
        let names: BTreeSet<&str> = self
            .lives
            .values()
            .map(|other| other.name.as_str())
            .collect();
        let attending = self.attending.iter().flatten();
        let mut others = attending.filter(|name| *name != own);
        self.attending.is_some() && others.all(|name| names.contains(name.as_str()))
    }

    /// Whether there is reason to believe that a life is over: no coordinator sees a gateway of its name, or a later life
    /// has it.
    pub(super) fn is_doubtful(&self, life: GatewayId, own: &str) -> bool {
        let Some(other) = self.lives.get(&life) else {
            return true;
        };
        let is_away = |names: &BTreeSet<String>| !names.contains(&other.name);
        let mut lives = self.lives.values();
        let is_followed = lives.any(|later| later.name == other.name && later.order > other.order);
        is_followed || other.name == own || self.attending.as_ref().is_some_and(is_away)
    }

    /// Those that there is reason to ask whether they live.
    pub(super) fn unasked(&self, own: &str) -> bool {
        let mut lives = self.lives.iter();
        lives.any(|(life, other)| other.owes_since.is_none() && self.is_doubtful(*life, own))
    }

    /// When each that owes an answer has owed it for too long.
    pub(super) fn overdue(&self, own: &str) -> impl Iterator<Item = (GatewayId, Time)> {
        self.lives.iter().filter_map(move |(life, other)| {
            let patience = match self.is_doubtful(*life, own) {
                true => NEIGHBOUR_GONE_MICROS,
                false => NEIGHBOUR_SILENT_MICROS,
            };
            Some((*life, other.owes_since?.after(patience)))
        })
    }

    #[cfg(test)]
    pub(super) fn temporaries(&self) -> BTreeSet<(GatewayId, Destination)> {
        let each = self.lives.iter();
        let each =
            each.flat_map(|(life, other)| other.temporaries.keys().map(|d| (*life, d.clone())));
        each.collect()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut having: BTreeMap<Destination, usize> = BTreeMap::new();
        for (_, destination) in self.temporaries() {
            *having.entry(destination).or_insert(0) += 1;
        }
        assert_eq!(having, self.temporaries, "each is counted");
    }
}
