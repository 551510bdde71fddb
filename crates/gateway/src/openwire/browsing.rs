//! Queues that the clients of a connection look through: a page at a time, when the client has room for it.

use std::collections::BTreeMap;

use quorate_message::{DestinationName, Selector};
use tokio::sync::mpsc;
use tracing::info_span;

use super::dialogue::{BrowsedMessage, Input};
use crate::browse::{Browser, Page};

/// The browsers of one connection.
#[derive(Debug)]
pub(crate) struct Browsing {
    browser: Browser,
    /// To each that is open: one more page is wanted.
    open: BTreeMap<u64, mpsc::Sender<()>>,
    pages: mpsc::Sender<Input>,
}

impl Browsing {
    /// Pages come out of the receiver, for whichever browser.
    pub(crate) fn new(browser: Browser) -> (Self, mpsc::Receiver<Input>) {
        let (pages, received) = mpsc::channel(1);
        let this = Self {
            browser,
            open: BTreeMap::new(),
            pages,
        };
        (this, received)
    }

    /// Begins to show a queue, with its first page.
    pub(crate) fn begin(&mut self, id: u64, queue: DestinationName, selector: Option<Selector>) {
        // Asked once before each page.
        let (more, wanted) = mpsc::channel(1);
        let span = info_span!("browse");
        let shown = self.browser.pages(queue, selector, (0, u64::MAX), span);
        tokio::spawn(show(id, shown, wanted, self.pages.clone()));
        self.open.insert(id, more);
        self.more(id);
    }

    /// The next page.
    pub(crate) fn more(&self, id: u64) {
        if let Some(more) = self.open.get(&id) {
            // Full: it is asked for already. Closed: all is shown.
            let (Ok(()) | Err(_)) = more.try_send(());
        }
    }

    /// No more of it.
    pub(crate) fn end(&mut self, id: u64) {
        self.open.remove(&id);
    }
}

async fn show(
    browser: u64,
    mut shown: mpsc::Receiver<Page>,
    mut wanted: mpsc::Receiver<()>,
    pages: mpsc::Sender<Input>,
) {
    while wanted.recv().await.is_some() {
        let (page, is_end) = match shown.recv().await {
            Some(Ok((shard, messages))) => {
                let messages = messages.into_iter().map(|stored| BrowsedMessage {
                    shard,
                    position: stored.position,
                    delivery_count: stored.delivery_count,
                    message: stored.message,
                });
                let messages = messages.collect();
                let is_end = false;
                let page = Input::Browsed {
                    browser,
                    messages,
                    is_end,
                };
                (page, is_end)
            }
            Some(Err(status)) => {
                let reason = status.message().to_owned();
                (Input::BrowseFailed { browser, reason }, true)
            }
            None => {
                let page = Input::Browsed {
                    browser,
                    messages: Vec::new(),
                    is_end: true,
                };
                (page, true)
            }
        };
        // The connection is gone, or that was all.
        if pages.send(page).await.is_err() || is_end {
            return;
        }
    }
}
