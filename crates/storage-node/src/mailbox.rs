//! A bounded queue with many senders and one receiver, made for batches: a sender adds any number of items under one
//! lock, the receiver takes everything that waits. Nothing is woken while something still waits to be taken.
//!
//! The bound is in bytes. A sender that must never be refused (the disk's answers) says so.

use std::{
    fmt, mem,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

/// The queue; shared by an `Arc`.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    limit_bytes: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: Vec<T>,
    size_bytes: usize,
    waker: Option<Waker>,
    is_closed: bool,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("items", &self.items.len())
            .field("size_bytes", &self.size_bytes)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

/// Why items were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Too much waits.
    Full,
    /// Nobody takes anything out any more.
    Closed,
}

impl<T> Mailbox<T> {
    /// An empty one that takes about this much.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            state: Mutex::new(State {
                items: Vec::new(),
                size_bytes: 0,
                waker: None,
                is_closed: false,
            }),
        }
    }

    /// Adds items that together cost `size_bytes`; all or none.
    pub(crate) fn push(
        &self,
        items: impl IntoIterator<Item = T>,
        size_bytes: usize,
    ) -> Result<(), Refused> {
        self.add(items, size_bytes, self.limit_bytes)
    }

    /// Adds items whatever waits: their number is bounded where they come from. False: closed.
    pub(crate) fn push_always(
        &self,
        items: impl IntoIterator<Item = T>,
        size_bytes: usize,
    ) -> bool {
        self.add(items, size_bytes, usize::MAX).is_ok()
    }

    /// Takes everything, at the end of `into`, or remembers whom to wake. None: closed and empty.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut Vec<T>) -> Poll<Option<()>> {
        let mut state = self.lock();
        if state.items.is_empty() {
            if state.is_closed {
                return Poll::Ready(None);
            }
            if !state
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        state.size_bytes = 0;
        if into.is_empty() {
            mem::swap(into, &mut state.items);
        } else {
            into.append(&mut state.items);
        }
        Poll::Ready(Some(()))
    }

    /// Waits until something is there and takes it all. None: closed and empty.
    pub(crate) async fn take(&self, into: &mut Vec<T>) -> Option<()> {
        std::future::poll_fn(|cx| self.poll_take(cx, into)).await
    }

    /// Takes nothing in any more; what waits can still be taken out.
    pub(crate) fn close(&self) {
        let waker = {
            let mut state = self.lock();
            state.is_closed = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Throws away what waits.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.items.clear();
        state.size_bytes = 0;
    }

    fn add(
        &self,
        items: impl IntoIterator<Item = T>,
        size_bytes: usize,
        limit_bytes: usize,
    ) -> Result<(), Refused> {
        let waker = {
            let mut state = self.lock();
            if state.is_closed {
                return Err(Refused::Closed);
            }
            // One batch always fits into an empty queue.
            let total = state.size_bytes.saturating_add(size_bytes);
            if total > limit_bytes && !state.items.is_empty() {
                return Err(Refused::Full);
            }
            state.items.extend(items);
            state.size_bytes = total;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_waits_comes_together_and_in_order() {
        let mailbox = Arc::new(Mailbox::new(100));
        mailbox.push([1, 2], 10).unwrap();
        mailbox.push([3], 10).unwrap();
        let mut taken = Vec::new();
        mailbox.take(&mut taken).await.unwrap();
        assert_eq!(taken, [1, 2, 3]);
        taken.clear();
        let sender = Arc::clone(&mailbox);
        let waiting = tokio::spawn(async move {
            mailbox.take(&mut taken).await;
            taken
        });
        tokio::task::yield_now().await;
        sender.push([4], 1).unwrap();
        assert_eq!(waiting.await.unwrap(), [4]);
    }

    #[tokio::test]
    async fn is_bounded_but_takes_one_batch_of_any_size_and_whatever_must_come_in() {
        let mailbox = Mailbox::new(100);
        mailbox.push([1], 1000).unwrap();
        assert_eq!(mailbox.push([2], 1), Err(Refused::Full));
        assert!(mailbox.push_always([3], 1));
        let mut taken = Vec::new();
        mailbox.take(&mut taken).await.unwrap();
        assert_eq!(taken, [1, 3]);
        mailbox.push([4], 1).unwrap();
        mailbox.close();
        assert_eq!(mailbox.push([5], 1), Err(Refused::Closed));
        taken.clear();
        mailbox.take(&mut taken).await.unwrap();
        assert_eq!(taken, [4]);
        assert!(mailbox.take(&mut taken).await.is_none());
    }
}
