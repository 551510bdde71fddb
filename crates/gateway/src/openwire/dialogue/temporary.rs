//! Temporary destinations of the connection: its client makes and removes them, and they go with it. A client may remove
//! a queue or topic as well, as an administrator does with ActiveMQ.

use std::collections::BTreeSet;

use quorate_wire::openwire::{Destination, DestinationInfo, DestinationOperation};

use super::{Dialogue, Effect, Now, answering::Asked, calls::Role, exception::Exception};
use crate::{limits::TEMPORARIES_MAX, openwire::translate, session};

/// Those that are there.
#[derive(Debug, Default)]
pub(super) struct Temporaries {
    own: BTreeSet<Destination>,
}

impl Temporaries {
    pub(super) fn own(&self) -> impl Iterator<Item = &Destination> {
        self.own.iter()
    }
}

impl Dialogue {
    /// A destination is made or removed. Queues and topics come into being when they are used.
    pub(super) fn change_destination(
        &mut self,
        now: Now,
        info: DestinationInfo,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let is_temporary = match info.destination {
            Destination::TempQueue(_) | Destination::TempTopic(_) => true,
            Destination::Queue(_) | Destination::Topic(_) => false,
        };
        match (info.operation, is_temporary) {
            (DestinationOperation::Add, true) => {
                let added = self.add_temporary(now, info.destination, effects);
                self.answer(asked, added, effects);
            }
            (DestinationOperation::Add, false) => Self::done(asked, effects),
            (DestinationOperation::Remove, _) => {
                self.remove_destination(now, &info.destination, asked, effects);
            }
        }
    }

    fn add_temporary(
        &mut self,
        now: Now,
        destination: Destination,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Exception> {
        let name = destination.name();
        if translate::owner(name) != Some(self.connection_id.as_str()) {
            return Err(Exception::destination(format!(
                "temporary destination {name:?} is not named by this connection; its name is the connection's id, a \
                 colon, a number"
            )));
        }
        let own = &mut self.temporaries.own;
        if !own.contains(&destination) && own.len() >= TEMPORARIES_MAX {
            return Err(Exception::shortage(format!(
                "connection has its {TEMPORARIES_MAX} temporary destinations; delete some"
            )));
        }
        if own.insert(destination.clone()) {
            let destination = destination.clone();
            let is_there = true;
            effects.push(Effect::Announce {
                destination,
                is_there,
            });
        }
        self.tell_of_own(now, &destination, DestinationOperation::Add, effects);
        Ok(())
    }

    fn remove_destination(
        &mut self,
        now: Now,
        destination: &Destination,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let mut present = self
            .names
            .values()
            .flatten()
            .filter_map(|s| self.consumers.get(s));
        if present.any(|consumer| consumer.destination == *destination) {
            let exception = Exception::jms(format!(
                "{} has a consumer; close that one first",
                destination.name()
            ));
            return self.refuse(asked, exception, effects);
        }
        match destination {
            Destination::TempQueue(_) | Destination::TempTopic(_) => {
                if !self.temporaries.own.remove(destination) {
                    return Self::done(asked, effects);
                }
                self.tell_of_own(now, destination, DestinationOperation::Remove, effects);
                announce_end(destination, effects);
            }
            Destination::Queue(_) | Destination::Topic(_) => {}
        }
        if let Some(asked) = self.delete(destination, asked, effects) {
            Self::done(asked, effects);
        }
    }

    /// All go, since their connection does.
    pub(super) fn remove_temporaries(&mut self, effects: &mut Vec<Effect>) {
        for destination in std::mem::take(&mut self.temporaries.own) {
            announce_end(&destination, effects);
            let _nobody_waits = self.delete(&destination, Asked::nobody(), effects);
        }
    }

    /// Deletes a queue or topic with what is in it; a temporary one not if its client has it at another gateway by now. The answer is given back if there can be none of that name.
    fn delete(
        &mut self,
        destination: &Destination,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) -> Option<Asked> {
        let Ok(targets) = translate::targets(destination) else {
            return Some(asked);
        };
        let what = match destination {
            Destination::TempQueue(_) | Destination::TempTopic(_) => session::Removal::Temporary,
            Destination::Queue(_) | Destination::Topic(_) => session::Removal::Destination,
        };
        let call = self.begin(Role::Purging(asked), effects);
        effects.push(Effect::Tell(session::Input::Purge {
            call,
            destination: targets.first,
            what,
        }));
        None
    }
}

fn announce_end(destination: &Destination, effects: &mut Vec<Effect>) {
    effects.push(Effect::Announce {
        destination: destination.clone(),
        is_there: false,
    });
}
