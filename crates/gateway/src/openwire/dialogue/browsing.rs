//! Browsers: a queue's messages as they are, page by page, as fast as the client takes them, and then the word that there
//! are no more. Nothing that a client says of them changes the queue.

use std::collections::VecDeque;

use quorate_wire::openwire::{ConsumerId, ConsumerInfo, Destination, MessageAck};

use super::{
    BrowsedMessage, Dialogue, Effect, Now,
    answering::Asked,
    consumer::{ConsumerKey, Window},
    consuming::selector,
    dispatching::Offered,
    exception::Exception,
    pulling::nothing,
};
use crate::openwire::translate;

/// A browser.
#[derive(Debug)]
pub(super) struct Browser {
    number: u64,
    id: ConsumerId,
    destination: Destination,
    window: Window,
    /// Messages that the window lets in, and that have not come.
    room: u64,
    /// Part of a page that waits for room.
    waiting: VecDeque<BrowsedMessage>,
    source: Pages,
}

/// Where the next messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    /// A page has been asked for.
    Coming,
    /// There are more.
    More,
    /// All have come.
    Done,
    /// And the client knows it.
    Told,
}

impl Dialogue {
    /// A browser begins.
    pub(super) fn browse(&mut self, info: &ConsumerInfo, asked: Asked, effects: &mut Vec<Effect>) {
        let wanted = queue_of(&info.destination).and_then(|queue| Ok((queue, selector(info)?)));
        let (queue, selector) = match wanted {
            Ok(wanted) => wanted,
            Err(exception) => return self.refuse(asked, exception, effects),
        };
        let number = self.serial();
        // A client that asks for each message gets what there is in small portions all the same.
        let prefetch = info.prefetch_size.max(1);
        let browser = Browser {
            number,
            id: info.consumer_id.clone(),
            destination: info.destination.clone(),
            window: Window::new(prefetch),
            room: 0,
            waiting: VecDeque::new(),
            source: Pages::Coming,
        };
        let key = ConsumerKey::of(&info.consumer_id);
        self.browsers.insert(key, browser);
        Self::done(asked, effects);
        effects.push(Effect::Browse {
            browser: number,
            queue,
            selector,
        });
    }

    /// A page came.
    pub(super) fn browsed(
        &mut self,
        now: Now,
        number: u64,
        (messages, is_end): (Vec<BrowsedMessage>, bool),
        effects: &mut Vec<Effect>,
    ) {
        let Some(key) = self.browser(number) else {
            return;
        };
        if let Some(browser) = self.browsers.get_mut(&key) {
            browser.waiting.extend(messages);
            browser.source = match is_end {
                true => Pages::Done,
                false => Pages::More,
            };
        }
        self.show(now, key, effects);
    }

    /// The queue cannot be shown: the client sees the end, and is told why.
    pub(super) fn browse_failed(&mut self, number: u64, reason: String, effects: &mut Vec<Effect>) {
        let Some(key) = self.browser(number) else {
            return;
        };
        self.complain(Exception::jms(reason), effects);
        if let Some(browser) = self.browsers.get_mut(&key) {
            browser.source = Pages::Told;
            effects.push(nothing(&browser.id));
        }
    }

    /// What a client says of messages that it was shown.
    pub(super) fn acknowledge_browsed(
        &mut self,
        now: Now,
        ack: &MessageAck,
        effects: &mut Vec<Effect>,
    ) {
        let key = ConsumerKey::of(&ack.consumer_id);
        let Some(browser) = self.browsers.get_mut(&key) else {
            return;
        };
        if ack.consumer_id.connection_id != self.connection_id {
            return;
        }
        let last = ack.last_message_id.as_ref();
        for sequence in browser.window.range(None, last).unwrap_or_default() {
            browser.window.remove(sequence);
        }
        self.show(now, key, effects);
    }

    /// A browser ends.
    pub(super) fn stop_browsing(&mut self, key: ConsumerKey, effects: &mut Vec<Effect>) {
        if let Some(browser) = self.browsers.remove(&key)
            && matches!(browser.source, Pages::Coming | Pages::More)
        {
            let browser = browser.number;
            effects.push(Effect::StopBrowse { browser });
        }
    }

    /// Shows as much as there is room for.
    fn show(&mut self, now: Now, key: ConsumerKey, effects: &mut Vec<Effect>) {
        while let Some(shown) = self.browsers.get_mut(&key).and_then(Browser::next) {
            let (id, destination, next) = shown;
            let offered = Offered {
                shard: next.shard,
                position: next.position,
                stored: &next.message,
                failures: next.delivery_count,
                is_first_in_group: false,
            };
            let sequence = self.next_sequence;
            match self.message(now, &destination, &offered) {
                Ok(message) => {
                    if let Some(browser) = self.browsers.get_mut(&key) {
                        let place = (next.shard, next.position);
                        let window = &mut browser.window;
                        window.dispatch(sequence, place, &message.message_id);
                    }
                    self.dispatch(now, (id, message), next.delivery_count, effects);
                }
                Err(exception) => self.complain(exception, effects),
            }
        }
        let Some(browser) = self.browsers.get_mut(&key) else {
            return;
        };
        if !browser.waiting.is_empty() {
            return;
        }
        match browser.source {
            Pages::More => {
                browser.source = Pages::Coming;
                let browser = browser.number;
                effects.push(Effect::BrowseMore { browser });
            }
            Pages::Done => {
                browser.source = Pages::Told;
                effects.push(nothing(&browser.id));
            }
            Pages::Coming | Pages::Told => {}
        }
    }

    fn browser(&self, number: u64) -> Option<ConsumerKey> {
        let mut all = self.browsers.iter();
        all.find(|(_, browser)| browser.number == number)
            .map(|(key, _)| *key)
    }
}

impl Browser {
    /// The next message that there is room for.
    fn next(&mut self) -> Option<(ConsumerId, Destination, BrowsedMessage)> {
        self.room += self.window.lend(false).map_or(0, |credit| credit.messages);
        if self.room == 0 {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.room -= 1;
        self.window.arrived(0);
        Some((self.id.clone(), self.destination.clone(), next))
    }
}

/// The queue that a browser shows: one.
fn queue_of(destination: &Destination) -> Result<quorate_message::DestinationName, Exception> {
    let sources = translate::sources(destination)
        .map_err(|error| Exception::destination(error.to_string()))?;
    match &sources[..] {
        [translate::Source::Queue(queue)] => Ok(queue.clone()),
        _ => Err(Exception::destination(format!(
            "{:?} cannot be browsed; name one queue",
            destination.name()
        ))),
    }
}
