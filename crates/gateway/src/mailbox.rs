//! What waits for one stream: the engine puts in, the stream takes out everything that is there as one frame.
//!
//! So frames form by themselves, and nothing costs a channel send per message. A mailbox has no bound of its own: what
//! may be put in is bounded by the session machine (unanswered bytes, lent credit), and a client that does not read its
//! confirms is not read from either ([`Mailbox::is_crowded`]).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::Status;

/// Things that are gathered into frames.
pub(crate) trait Gather: Default + Send {
    /// What a stream carries.
    type Frame: Send;

    /// Takes out a frame, unless nothing waits.
    fn take(&mut self) -> Option<Self::Frame>;

    /// How many things wait.
    fn len(&self) -> usize;
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Mailbox<G> {
    inner: Mutex<Inner<G>>,
    /// The client may be read from: signalled when that may have become so.
    flow: Notify,
}

#[derive(Debug, Default)]
struct Inner<G> {
    waiting: G,
    waker: Option<Waker>,
    end: Option<Result<(), Status>>,
    closed: bool,
    paused: bool,
}

/// Things that may wait before the client that causes them is not read from.
const CROWD: usize = 8 * 1024;

impl<G: Gather> Mailbox<G> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            flow: Notify::new(),
        })
    }

    /// Puts something in.
    pub(crate) fn put(&self, put: impl FnOnce(&mut G)) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        put(&mut inner.waiting);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the stream after what waits. The first end counts.
    pub(crate) fn end(&self, with: Result<(), Status>) {
        let mut inner = self.lock();
        inner.end.get_or_insert(with);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        self.flow.notify_waiters();
    }

    /// Says whether the client may be read from.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        if !paused {
            self.flow.notify_waiters();
        }
    }

    /// Waits until the client may be read from. False when the stream has ended.
    pub(crate) async fn may_read(&self) -> bool {
        loop {
            let mut flow = std::pin::pin!(self.flow.notified());
            flow.as_mut().enable();
            {
                let inner = self.lock();
                if inner.closed || inner.end.is_some() {
                    return false;
                }
                if !inner.paused && inner.waiting.len() < CROWD {
                    return true;
                }
            }
            flow.await;
        }
    }

    /// Waits until the stream has ended.
    pub(crate) async fn ended(&self) {
        loop {
            let mut flow = std::pin::pin!(self.flow.notified());
            flow.as_mut().enable();
            {
                let inner = self.lock();
                if inner.closed || inner.end.is_some() {
                    return;
                }
            }
            flow.await;
        }
    }

    fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiting = G::default();
        drop(inner);
        self.flow.notify_waiters();
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<Result<G::Frame, Status>>> {
        let mut inner = self.lock();
        if let Some(frame) = inner.waiting.take() {
            drop(inner);
            self.flow.notify_waiters();
            return Poll::Ready(Some(Ok(frame)));
        }
        match &inner.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(status)) => {
                let status = status.clone();
                inner.end = Some(Ok(()));
                Poll::Ready(Some(Err(status)))
            }
            None => {
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<G>> {
        // What is put in is whole before and after every call; a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frames of a mailbox, and what shall happen when the stream is dropped.
#[derive(Debug)]
pub(crate) struct Frames<G: Gather, D> {
    mailbox: Arc<Mailbox<G>>,
    _on_drop: D,
}

impl<G: Gather, D> Frames<G, D> {
    pub(crate) fn new(mailbox: Arc<Mailbox<G>>, on_drop: D) -> Self {
        Self {
            mailbox,
            _on_drop: on_drop,
        }
    }
}

impl<G: Gather, D> Drop for Frames<G, D> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl<G: Gather, D: Unpin> Stream for Frames<G, D> {
    type Item = Result<G::Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.mailbox.poll(context)
    }
}

/// The frames of a mailbox towards a node, where an end is no status.
#[derive(Debug)]
pub(crate) struct Requests<G: Gather>(pub(crate) Frames<G, ()>);

impl<G: Gather> Stream for Requests<G> {
    type Item = G::Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<G::Frame>> {
        Pin::new(&mut self.0)
            .poll_next(context)
            .map(|next| next.and_then(Result::ok))
    }
}
