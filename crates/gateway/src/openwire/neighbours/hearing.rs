//! What is heard of the other gateways, and of oneself.

use quorate_message::GatewayId;
use quorate_wire::openwire::Destination;

use super::{
    Effect, Greeting, Neighbours, Note,
    frame::{Claim, Frame, News},
    others::Place,
};
use crate::limits::{
    NEIGHBOUR_ALL_ENTRIES_MAX, NEIGHBOUR_ENTRIES_MAX, NEIGHBOUR_ORPHAN_MICROS, NEIGHBOURS_MAX,
};

impl Neighbours {
    /// Something came by the topic.
    pub(super) fn heard(&mut self, bytes: &[u8], effects: &mut Vec<Effect>) {
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(malformed) => return effects.push(Effect::Note(Note::Malformed(malformed))),
        };
        match frame.life == self.life {
            true => self.heard_own(&frame, effects),
            false => self.heard_other(&frame, effects),
        }
    }

    fn heard_own(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        if frame.number <= self.last_own {
            return;
        }
        let is_late = frame.number > self.last_own + 1;
        self.last_own = frame.number;
        if is_late {
            self.is_own_saying = false;
            self.greet();
        }
        self.take_in(frame, effects);
    }

    fn heard_other(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        let life = frame.life;
        let is_known = self.others.knows(life);
        if !is_known && self.others.len() >= NEIGHBOURS_MAX {
            let what = "other gateways";
            return effects.push(Effect::Note(Note::Full { what }));
        }
        let place = self.others.heard(life, &frame.name, frame.number);
        if !is_known {
            let name = frame.name.clone();
            effects.push(Effect::Note(Note::Found { name, life }));
        }
        match place {
            Place::Repeated => {}
            Place::Next => self.take_in(frame, effects),
            Place::Late => {
                self.take_in(frame, effects);
                if self.others.is_unclear(life) {
                    self.greet();
                }
            }
        }
    }

    fn take_in(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        let life = frame.life;
        let is_own = life == self.life;
        for news in &frame.news {
            match news {
                News::Hello => self.heard_hello(is_own.then_some(frame.number)),
                News::Begin => {
                    self.claims.begun(life);
                    match is_own {
                        true => {
                            self.is_own_saying = true;
                            self.outgoing.heard_begin(frame.number);
                        }
                        false => self.others.begun(life),
                    }
                }
                News::End => self.heard_end(life, effects),
                News::Goodbye if is_own => {}
                News::Goodbye => self.forget(life, effects),
                News::Lost(lost) => self.heard_lost(*lost, effects),
                News::There(_) | News::Gone(_) if is_own => {}
                News::There(destination) => self.heard_there(life, destination, effects),
                News::Gone(destination) => {
                    if self.others.gone(life, destination) {
                        announce(destination, false, effects);
                    }
                }
                News::Claim(claim) => {
                    if is_own || self.has_room(effects) {
                        self.claims.claimed(life, claim);
                    }
                    match is_own {
                        true => self.heard_own_claim(claim),
                        false => self.heard_claim(claim, effects),
                    }
                }
                News::Held(claim) => self.heard_held(life, claim, effects),
                News::Released(client_id) => self.claims.released(life, client_id),
            }
        }
    }

    /// Somebody said hello; with the frame's number, this gateway itself.
    fn heard_hello(&mut self, own: Option<u64>) {
        self.outgoing.answer(self.now);
        if let (Greeting::Unheard { number, .. }, Some(own)) = (self.greeting, own)
            && number == own
        {
            self.greeting = Greeting::None;
            self.greeted_at.get_or_insert(self.now);
            // The topic works, and these have been silent since an earlier one.
            let overdue = self.others.overdue(&self.name);
            let overdue = overdue.filter(|(_, at)| *at <= self.now);
            self.outgoing.lost(overdue.map(|(life, _)| life));
        }
        self.others.greeted(self.now);
    }

    fn heard_end(&mut self, life: GatewayId, effects: &mut Vec<Effect>) {
        let is_whole = match life == self.life {
            true => std::mem::take(&mut self.is_own_saying),
            false => {
                let (gone, is_whole) = self.others.ended(life);
                for destination in gone {
                    announce(&destination, false, effects);
                }
                is_whole
            }
        };
        if is_whole {
            self.claims.ended(life);
        }
    }

    /// Somebody believes that a life is over.
    fn heard_lost(&mut self, life: GatewayId, effects: &mut Vec<Effect>) {
        if life == self.life {
            // All have forgotten what this gateway said, in this place.
            self.claims.lost(life);
            return self.outgoing.say_all();
        }
        if self.others.knows(life) {
            effects.push(Effect::Note(Note::Lost { life }));
        }
        let left = self.others.temporaries_left(life);
        let until = self.now.after(NEIGHBOUR_ORPHAN_MICROS);
        let room = NEIGHBOUR_ALL_ENTRIES_MAX.saturating_sub(self.orphans.len());
        self.orphans
            .extend(left.into_iter().take(room).map(|one| (until, one)));
        self.forget(life, effects);
    }

    fn forget(&mut self, life: GatewayId, effects: &mut Vec<Effect>) {
        for destination in self.others.lost(life) {
            announce(&destination, false, effects);
        }
        self.claims.lost(life);
    }

    fn heard_there(
        &mut self,
        life: GatewayId,
        destination: &Destination,
        effects: &mut Vec<Effect>,
    ) {
        let is_full = self.others.temporaries_of(life) >= NEIGHBOUR_ENTRIES_MAX;
        let is_known = self.others.has(life, destination);
        if !is_known && (is_full || !self.has_room(effects)) {
            let what = "temporary destinations of another gateway";
            return effects.push(Effect::Note(Note::Full { what }));
        }
        if self.others.there(life, destination) {
            announce(destination, true, effects);
        }
    }

    fn heard_held(&mut self, life: GatewayId, claim: &Claim, effects: &mut Vec<Effect>) {
        if life == self.life || self.has_room(effects) {
            self.claims.held(life, claim);
        }
    }

    /// Whether there is room for one more thing of another gateway.
    fn has_room(&self, effects: &mut Vec<Effect>) -> bool {
        let has_room = self.others.count() + self.claims.count() < NEIGHBOUR_ALL_ENTRIES_MAX;
        if !has_room {
            let what = "what other gateways have";
            effects.push(Effect::Note(Note::Full { what }));
        }
        has_room
    }
}

fn announce(destination: &Destination, is_there: bool, effects: &mut Vec<Effect>) {
    let destination = destination.clone();
    effects.push(Effect::Announce {
        destination,
        is_there,
    });
}
