//! A stream of frames out of a mailbox: each frame carries what waits, up to a size, and no timer ever holds one back.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;

use crate::mailbox::Mailbox;

/// An item with what it costs.
pub(crate) type Costed<T> = (T, usize);

/// The stream. `M` is the frame.
pub(crate) struct Frames<T, M> {
    mailbox: Arc<Mailbox<Costed<T>>>,
    first: Option<M>,
    waiting: VecDeque<Costed<T>>,
    scratch: Vec<Costed<T>>,
    limit_bytes: usize,
    build: fn(Vec<T>) -> M,
    /// Dropped with the stream: tells its owner that the other side is gone.
    _guard: Option<Box<dyn Send>>,
}

impl<T, M> Frames<T, M> {
    /// Frames of about `limit_bytes`, each made by `build`.
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Costed<T>>>,
        limit_bytes: usize,
        build: fn(Vec<T>) -> M,
    ) -> Self {
        Self {
            mailbox,
            first: None,
            waiting: VecDeque::new(),
            scratch: Vec::new(),
            limit_bytes,
            build,
            _guard: None,
        }
    }

    /// Sends this frame before all others.
    pub(crate) fn first(mut self, frame: M) -> Self {
        self.first = Some(frame);
        self
    }

    /// Drops this with the stream.
    pub(crate) fn guard(mut self, guard: impl Send + 'static) -> Self {
        self._guard = Some(Box::new(guard));
        self
    }
}

impl<T: Unpin, M: Unpin> Stream for Frames<T, M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        if this.waiting.is_empty() {
            let taken = ready!(this.mailbox.poll_take(cx, &mut this.scratch));
            if taken.is_none() {
                return Poll::Ready(None);
            }
            this.waiting.extend(this.scratch.drain(..));
        }
        let mut size_bytes = 0;
        let mut items = Vec::new();
        while let Some((item, cost)) = this.waiting.pop_front() {
            items.push(item);
            size_bytes += cost;
            if size_bytes >= this.limit_bytes {
                break;
            }
        }
        Poll::Ready(Some((this.build)(items)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_frame_carries_what_waits_up_to_its_size() {
        let mailbox = Arc::new(Mailbox::new(1000));
        mailbox.push((1..=5).map(|item| (item, 10)), 50).unwrap();
        mailbox.close();
        let frames = Frames::new(mailbox, 20, |items| items).first(vec![0]);
        let all: Vec<Vec<i32>> = frames.collect().await;
        assert_eq!(all, [vec![0], vec![1, 2], vec![3, 4], vec![5]]);
    }
}
