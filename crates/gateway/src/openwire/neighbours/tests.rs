//! Several gateways at one topic, which may lose what is under way when its subscription is opened anew.

mod asking;
mod properties;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_wire::openwire::{Destination, TempQueue, TempTopic};

use super::*;

/// A step of time that is less than any patience.
const MOMENT: u64 = 1_000;

fn life(number: u8) -> GatewayId {
    GatewayId([number; 16])
}

fn name(number: u8) -> String {
    format!("gw{number:02}")
}

fn queue(text: &str) -> Destination {
    let physical_name = format!("ID:{text}:1");
    TempQueue { physical_name }.into()
}

fn topic(text: &str) -> Destination {
    let physical_name = format!("ID:{text}:1");
    TempTopic { physical_name }.into()
}

/// A gateway, as its shell sees it.
struct Gateway {
    machine: Neighbours,
    /// The topic's messages that it has heard, counted over all that there ever were.
    heard: usize,
    /// What it has published and was not told of.
    in_flight: Option<Vec<u8>>,
    is_open: bool,
    announced: BTreeSet<Destination>,
    orphaned: BTreeSet<Destination>,
    decided: BTreeMap<SeatId, Result<(), String>>,
    leaves: BTreeSet<SeatId>,
    freed: BTreeSet<SeatId>,
    notes: Vec<Note>,
    has_left: bool,
}

/// The topic, and who is at it.
struct World {
    now: Time,
    /// In order, for all. One that is lost is heard by nobody.
    topic: Vec<Option<Bytes>>,
    gateways: BTreeMap<u8, Gateway>,
    published: usize,
}

impl World {
    /// Gateways that know that they are all; none is at the topic yet.
    fn new(count: u8) -> Self {
        let mut world = Self {
            now: Time(1_000_000),
            topic: Vec::new(),
            gateways: BTreeMap::new(),
            published: 0,
        };
        for number in 1..=count {
            world.start(number, number);
        }
        world
    }

    /// The same, at the topic and at rest.
    fn at_rest(count: u8) -> Self {
        let mut world = Self::new(count);
        world.attend();
        for number in 1..=count {
            world.tell(number, Input::Opened);
        }
        world.settle();
        world
    }

    /// A gateway begins, under the name of that number.
    fn start(&mut self, number: u8, named: u8) {
        let gateway = Gateway {
            machine: Neighbours::new(life(number), &name(named)),
            heard: self.topic.len(),
            in_flight: None,
            is_open: false,
            announced: BTreeSet::new(),
            orphaned: BTreeSet::new(),
            decided: BTreeMap::new(),
            leaves: BTreeSet::new(),
            freed: BTreeSet::new(),
            notes: Vec::new(),
            has_left: false,
        };
        self.gateways.insert(number, gateway);
    }

    /// Everybody is told who is there.
    fn attend(&mut self) {
        let all: BTreeSet<String> = self
            .gateways
            .values()
            .map(|g| g.machine.name.clone())
            .collect();
        for number in self.gateways.keys().copied().collect::<Vec<_>>() {
            self.tell(number, Input::Attending(all.clone()));
        }
    }

    fn tell(&mut self, number: u8, input: Input) {
        let now = self.now;
        let gateway = self.gateways.get_mut(&number).expect("it runs");
        gateway.is_open |= matches!(input, Input::Opened);
        let mut effects = Vec::new();
        gateway.machine.step(now, input, &mut effects);
        gateway.machine.check();
        for effect in effects {
            gateway.carry_out(effect, &mut self.published);
        }
    }

    /// What a gateway has under way gets its place in the topic. Returns whether there was something.
    fn publish(&mut self, number: u8) -> bool {
        let gateway = self.gateways.get_mut(&number).expect("it runs");
        let Some(frame) = gateway.in_flight.take() else {
            return false;
        };
        self.topic.push(Some(Bytes::from(frame)));
        self.tell(number, Input::Published { is_taken: true });
        true
    }

    /// A gateway hears the next thing. Returns whether there was something.
    fn hear(&mut self, number: u8) -> bool {
        let gateway = self.gateways.get_mut(&number).expect("it runs");
        if !gateway.is_open {
            gateway.heard = self.topic.len();
        }
        let Some(next) = self.topic.get(gateway.heard).cloned() else {
            return false;
        };
        gateway.heard += 1;
        if let Some(frame) = next {
            self.tell(number, Input::Heard(frame));
        }
        true
    }

    /// Whatever can happen without time happens.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_quiet = true;
            for number in self.gateways.keys().copied().collect::<Vec<_>>() {
                is_quiet &= !self.publish(number);
                is_quiet &= !self.hear(number);
            }
            if is_quiet {
                return;
            }
        }
        panic!("they talk without end");
    }

    /// Time passes, deadline by deadline.
    fn wait(&mut self, micros: u64) {
        let end = self.now.after(micros);
        self.settle();
        loop {
            let deadlines = self.gateways.values();
            let next = deadlines.filter_map(|g| g.machine.next_deadline()).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            for number in self.gateways.keys().copied().collect::<Vec<_>>() {
                self.tell(number, Input::Elapsed);
            }
            self.settle();
        }
        self.now = end;
    }

    fn announce(&mut self, number: u8, destination: &Destination, is_there: bool) {
        let destination = destination.clone();
        self.tell(
            number,
            Input::Announced {
                destination,
                is_there,
            },
        );
    }

    fn claim(&mut self, number: u8, seat: u64, client: &str, connection: &str) {
        self.tell(
            number,
            Input::Claimed {
                seat: SeatId(seat),
                client_id: client.to_owned(),
                connection_id: connection.to_owned(),
                holder: format!("seat {seat}"),
            },
        );
    }

    fn release(&mut self, number: u8, seat: u64, client: &str) {
        self.tell(
            number,
            Input::Released {
                seat: SeatId(seat),
                client_id: client.to_owned(),
            },
        );
    }

    /// The leader of the topic's shard dies with what its subscribers have not heard.
    fn lose(&mut self) {
        let first = self.gateways.values().map(|gateway| gateway.heard).min();
        for message in &mut self.topic[first.unwrap_or_default()..] {
            *message = None;
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        for number in self.gateways.keys().copied().collect::<Vec<_>>() {
            if self.gateways[&number].is_open {
                self.tell(number, Input::Opened);
            }
        }
    }

    fn announced(&self, number: u8) -> Vec<Destination> {
        self.gateways[&number].announced.iter().cloned().collect()
    }

    fn decision(&self, number: u8, seat: u64) -> Option<Result<(), String>> {
        self.gateways[&number].decided.get(&SeatId(seat)).cloned()
    }
}

impl Gateway {
    fn carry_out(&mut self, effect: Effect, published: &mut usize) {
        match effect {
            Effect::Publish(frame) => {
                *published += 1;
                assert!(self.in_flight.replace(frame).is_none(), "one at a time");
            }
            Effect::Announce {
                destination,
                is_there,
            } => {
                let is_news = match is_there {
                    true => self.announced.insert(destination),
                    false => self.announced.remove(&destination),
                };
                assert!(is_news, "only news are told");
            }
            Effect::Orphaned { destination } => drop(self.orphaned.insert(destination)),
            Effect::Decided { seat, decision } => {
                assert!(
                    self.decided.insert(seat, decision).is_none(),
                    "decided once"
                );
            }
            Effect::Leave { seat } => drop(self.leaves.insert(seat)),
            Effect::Freed { seat } => assert!(self.freed.insert(seat), "freed once"),
            Effect::Left => self.has_left = true,
            Effect::Note(note) => self.notes.push(note),
        }
    }
}
