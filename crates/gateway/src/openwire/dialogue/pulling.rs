//! Consumers without prefetch: each message is asked for, and where none comes in time the client is told so.

use quorate_wire::openwire::{Command, ConsumerId, Header, MessageDispatch, MessagePull};

use super::{
    Dialogue, Effect, Now,
    answering::Asked,
    consumer::{Consumer, Phase, Pull},
};
use crate::{limits::PULL_AT_ONCE_MICROS, session::Time};

impl Consumer {
    /// It is attached: a pull that waits for what is there begins to wait.
    pub(super) fn begin_to_wait(&mut self, now: Now) {
        if self.pull == Some(Pull::AtOnce) {
            self.pull = Some(Pull::Until(now.mono.after(PULL_AT_ONCE_MICROS)));
        }
    }

    fn pull_deadline(&self) -> Option<Time> {
        match self.pull? {
            Pull::Until(until) => Some(until),
            Pull::Endless | Pull::AtOnce => None,
        }
    }
}

impl Dialogue {
    /// A client asks for one message. A newer pull takes the place of an older one, which its client has given up.
    pub(super) fn pull(
        &mut self,
        now: Now,
        pull: &MessagePull,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        Self::done(asked, effects);
        for serial in self.named(&pull.consumer_id) {
            let consumer = self.consumers.get_mut(&serial);
            let Some(consumer) = consumer.filter(|consumer| consumer.window.is_pulled()) else {
                continue;
            };
            consumer.pull = Some(match u64::try_from(pull.timeout) {
                Ok(0) => Pull::Endless,
                Ok(timeout_ms) => Pull::Until(now.mono.after(timeout_ms.saturating_mul(1_000))),
                Err(_) => Pull::AtOnce,
            });
            if let Phase::Open = consumer.phase {
                consumer.begin_to_wait(now);
            }
            self.lend(serial, effects);
        }
    }

    /// A pull is answered, whichever of its consumer's destinations that came from.
    pub(super) fn pull_over(&mut self, consumer: &ConsumerId) {
        for serial in self.named(consumer) {
            if let Some(consumer) = self.consumers.get_mut(&serial) {
                consumer.pull = None;
            }
        }
    }

    /// When the first pull is over.
    pub(super) fn pull_deadline(&self) -> Option<Time> {
        let consumers = self.consumers.values();
        consumers.filter_map(Consumer::pull_deadline).min()
    }

    /// Tells clients whose pulls are over that nothing came.
    pub(super) fn pulls_elapsed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let is_over = |consumer: &&Consumer| {
            let until = consumer.pull_deadline();
            until.is_some_and(|until| until <= now.mono)
        };
        while let Some(consumer) = self.consumers.values().find(is_over) {
            let id = consumer.id.clone();
            effects.push(nothing(&id));
            self.pull_over(&id);
        }
    }
}

/// There is no message: of a pull, or of a browser none any more.
pub(super) fn nothing(consumer: &ConsumerId) -> Effect {
    Effect::Say(Command::MessageDispatch(MessageDispatch {
        header: Header::default(),
        consumer_id: consumer.clone(),
        destination: None,
        message: None,
        redelivery_counter: 0,
    }))
}
