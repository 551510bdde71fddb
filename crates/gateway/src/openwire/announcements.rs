//! Temporary destinations that clients have, at this gateway and elsewhere: each connection is told of those of the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quorate_wire::openwire::Destination;
use tokio::sync::broadcast;

use super::dialogue::Input;
use crate::{limits::ANNOUNCEMENTS_MAX, session::Whose};

/// Clones share the table.
#[derive(Clone, Debug)]
pub(crate) struct Announcements(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    there: Mutex<BTreeMap<Destination, Having>>,
    told: broadcast::Sender<(Destination, bool)>,
}

/// Who has it. A client that changes its gateway has it here and there for a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Having {
    here: bool,
    elsewhere: bool,
}

/// What one connection hears.
#[derive(Debug)]
pub(crate) struct Listener {
    announcements: Announcements,
    heard: broadcast::Receiver<(Destination, bool)>,
    /// What is there and was not heard yet.
    backlog: Vec<Destination>,
}

impl Default for Announcements {
    fn default() -> Self {
        let (told, _) = broadcast::channel(ANNOUNCEMENTS_MAX);
        Self(Arc::new(Shared {
            there: Mutex::default(),
            told,
        }))
    }
}

impl Announcements {
    /// A temporary destination is made or removed.
    pub(crate) fn announce(&self, whose: Whose, destination: Destination, is_there: bool) {
        let mut there = self.lock();
        let known = there.get(&destination).copied();
        let mut having = known.unwrap_or_default();
        match whose {
            Whose::Here => having.here = is_there,
            Whose::Elsewhere => having.elsewhere = is_there,
        }
        let is_there = having.here || having.elsewhere;
        match is_there {
            true => drop(there.insert(destination.clone(), having)),
            false => drop(there.remove(&destination)),
        }
        if is_there != known.is_some() {
            // Under the lock, so that all hear one order. Nobody listening is no error.
            drop(self.0.told.send((destination, is_there)));
        }
    }

    /// Hears all that are there, and what is announced from here on.
    pub(crate) fn listen(&self) -> Listener {
        let there = self.lock();
        Listener {
            announcements: self.clone(),
            heard: self.0.told.subscribe(),
            backlog: there.keys().cloned().collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Destination, Having>> {
        // The set is whole before and after every call.
        let there = self.0.there.lock();
        there.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// The next announcement. To drop the future loses none.
    pub(crate) async fn next(&mut self) -> Input {
        loop {
            if let Some(destination) = self.backlog.pop() {
                let is_there = true;
                return Input::Announced {
                    destination,
                    is_there,
                };
            }
            match self.heard.recv().await {
                Ok((destination, is_there)) => {
                    return Input::Announced {
                        destination,
                        is_there,
                    };
                }
                // It was too slow: what is there is told once more, and repeats do no harm.
                Err(broadcast::error::RecvError::Lagged(_)) => *self = self.announcements.listen(),
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// What a connection hears that is not let in yet: nothing.
pub(crate) async fn heard(listener: Option<&mut Listener>) -> Input {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use quorate_wire::openwire::TempQueue;

    use super::*;

    fn queue(name: &str) -> Destination {
        Destination::TempQueue(TempQueue {
            physical_name: name.to_owned(),
        })
    }

    async fn next(listener: &mut Listener) -> (String, bool) {
        match listener.next().await {
            Input::Announced {
                destination,
                is_there,
            } => (destination.name().to_owned(), is_there),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_there_is_heard_and_what_comes_and_goes() {
        let announcements = Announcements::default();
        announcements.announce(Whose::Here, queue("a"), true);
        let mut listener = announcements.listen();
        assert_eq!(next(&mut listener).await, ("a".to_owned(), true));
        announcements.announce(Whose::Here, queue("b"), true);
        announcements.announce(Whose::Here, queue("b"), true);
        announcements.announce(Whose::Here, queue("a"), false);
        assert_eq!(next(&mut listener).await, ("b".to_owned(), true));
        assert_eq!(next(&mut listener).await, ("a".to_owned(), false));
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_again_what_is_there() {
        let announcements = Announcements::default();
        let mut listener = announcements.listen();
        announcements.announce(Whose::Here, queue("stays"), true);
        for number in 0..ANNOUNCEMENTS_MAX + 1 {
            announcements.announce(Whose::Here, queue(&number.to_string()), true);
            announcements.announce(Whose::Here, queue(&number.to_string()), false);
        }
        assert_eq!(next(&mut listener).await, ("stays".to_owned(), true));
    }
}
