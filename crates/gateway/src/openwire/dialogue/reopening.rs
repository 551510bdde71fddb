//! A durable subscription whose last consumer is only just closed, here or at another gateway: whoever opens it next is
//! not refused at once, but tries again for a moment.

use quorate_message::{Lifetime, Sharing};

use super::{Dialogue, Effect, Now, calls::Role, consumer::Serial};
use crate::{
    limits::{REOPEN_MICROS, REOPEN_PAUSE_MICROS},
    session::{self, Failure, OpenConsumer, Time},
};

/// What a consumer needs to try again.
#[derive(Debug)]
pub(super) struct Reopening {
    open: Box<OpenConsumer>,
    /// Then it gives up.
    until: Time,
    /// When it tries next; none: it is trying.
    at: Option<Time>,
}

impl Reopening {
    /// None for a consumer that cannot be in another one's way.
    pub(super) fn of(now: Now, open: &OpenConsumer) -> Option<Self> {
        let wanted = open.subscription.as_ref()?;
        let is_durable = wanted.lifetime == Lifetime::Durable;
        (is_durable && wanted.sharing == Sharing::Exclusive).then(|| Self {
            open: Box::new(open.clone()),
            until: now.mono.after(REOPEN_MICROS),
            at: None,
        })
    }

    /// It has no call at this moment.
    pub(super) fn is_waiting(&self) -> bool {
        self.at.is_some()
    }
}

impl Dialogue {
    /// A consumer was not attached. True if it tries again.
    pub(super) fn try_again(&mut self, now: Now, serial: Serial, failure: &Failure) -> bool {
        let consumer = self.consumers.get_mut(&serial);
        let Some(reopening) = consumer.and_then(|consumer| consumer.reopening.as_mut()) else {
            return false;
        };
        let next = now.mono.after(REOPEN_PAUSE_MICROS);
        let is_refused = matches!(failure, Failure::AttachRefused { .. });
        if !is_refused || next > reopening.until {
            return false;
        }
        reopening.at = Some(next);
        true
    }

    /// When the next consumer tries again.
    pub(super) fn reopening_deadline(&self) -> Option<Time> {
        let consumers = self.consumers.values();
        let waiting = consumers.filter_map(|consumer| consumer.reopening.as_ref()?.at);
        waiting.min()
    }

    pub(super) fn reopenings_elapsed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.consumers.iter().filter(|(_, consumer)| {
            let at = consumer
                .reopening
                .as_ref()
                .and_then(|reopening| reopening.at);
            at.is_some_and(|at| at <= now.mono)
        });
        for serial in due.map(|(serial, _)| *serial).collect::<Vec<_>>() {
            self.reopen(now, serial, effects);
        }
    }

    fn reopen(&mut self, now: Now, serial: Serial, effects: &mut Vec<Effect>) {
        let call = self.begin(Role::Consuming(serial), effects);
        let Some(consumer) = self.consumers.get_mut(&serial) else {
            return;
        };
        let Some(reopening) = &mut consumer.reopening else {
            return;
        };
        reopening.at = None;
        let mut open = (*reopening.open).clone();
        open.wall_micros = now.wall_ms.saturating_mul(1_000);
        // What came to its credit meanwhile is in this.
        consumer.window.lend(consumer.pull.is_some());
        open.credit.messages = consumer.window.lent();
        consumer.call = call;
        effects.push(Effect::Tell(session::Input::Consume { call, open }));
    }
}
