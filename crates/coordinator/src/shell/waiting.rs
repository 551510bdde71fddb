//! The ways back to those who asked the controller for something. Those who no longer wait are forgotten, so that what
//! is kept is bounded by the open calls.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

/// Requests of one kind that are not answered.
#[derive(Debug)]
pub(super) struct Waiting<A> {
    last: u64,
    answers: BTreeMap<u64, oneshot::Sender<A>>,
}

impl<A> Default for Waiting<A> {
    fn default() -> Self {
        Self {
            last: 0,
            answers: BTreeMap::new(),
        }
    }
}

impl<A> Waiting<A> {
    /// Keeps the way back; the number of the request.
    pub(super) fn ask(&mut self, answer: oneshot::Sender<A>) -> u64 {
        self.answers.retain(|_, waiting| !waiting.is_closed());
        self.last += 1;
        self.answers.insert(self.last, answer);
        self.last
    }

    /// Answers a request. Whoever asked may be gone; what was done is done.
    pub(super) fn answer(&mut self, request: u64, answer: A) {
        if let Some(waiting) = self.answers.remove(&request) {
            drop(waiting.send(answer));
        }
    }
}
