//! Sends messages, many at a time, each confirmed once.
//!
//! [`Producer::send`] puts a message into the window and returns at once while there is room; a task sends what waits,
//! as much as fits into a request, and takes the confirms. When the gateway is lost the task turns to another and
//! sends everything unconfirmed again. The cost of a message is one lock and one copy of its head.

mod window;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use quorate_proto::v1::{PublishRequest, messaging_service_client::MessagingServiceClient};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tracing::warn;

use crate::{
    Error, OutboundMessage,
    client::random_id,
    gateways::Gateways,
    limits::{ANSWER_BYTES, WINDOW_MESSAGES},
};
use window::{Room, Window};

/// Bytes of one permit of the window's byte bound: the semaphore counts in 32 bits.
const BYTES_PER_PERMIT: usize = 64;
/// What a message takes beside its body.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// How much a producer sends ahead of its confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// Most unconfirmed messages; at most 2,048.
    pub window_messages: usize,
    /// Most bytes of unconfirmed messages; one message may always be sent.
    pub window_bytes: usize,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            window_messages: 1024,
            window_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Sends messages to any number of destinations. May be used from several tasks; the order is that of the calls.
///
/// Dropping it gives up what is unconfirmed; [`Producer::close`] waits for it.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    window: Mutex<Window>,
    room_messages: Semaphore,
    room_bytes: Semaphore,
    window_bytes: usize,
    /// Something was pushed into an empty window.
    work: Notify,
    /// Everything is confirmed, or the producer has ended.
    drained: Notify,
    /// When the window last was empty or something was confirmed.
    progress: Mutex<Instant>,
}

impl Producer {
    pub(crate) fn start(gateways: Gateways, options: &ProducerOptions) -> Result<Self, Error> {
        let id = random_id()?;
        let shared = Arc::new(Shared {
            window: Mutex::new(Window::new(id)),
            room_messages: Semaphore::new(options.window_messages.clamp(1, WINDOW_MESSAGES)),
            room_bytes: Semaphore::new(permits(options.window_bytes)),
            window_bytes: permits(options.window_bytes) * BYTES_PER_PERMIT,
            work: Notify::new(),
            drained: Notify::new(),
            progress: Mutex::new(Instant::now()),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), gateways));
        Ok(Self { shared, task })
    }

    /// Takes a message to be sent and returns the future of its confirm; waits while the window is full.
    ///
    /// # Errors
    /// If the producer has ended, with the reason.
    pub async fn send(&self, message: OutboundMessage) -> Result<Confirm, Error> {
        let bytes = message.message.body.len() + message.destination.len() + MESSAGE_OVERHEAD_BYTES;
        // Counted in whole permits, and never more than there are, so that one large message can be sent alone.
        let permits = permits(bytes).min(self.shared.window_bytes / BYTES_PER_PERMIT);
        let closed = |_| self.shared.reason();
        let counted = self.shared.room_messages.acquire().await.map_err(closed)?;
        let sized = self
            .shared
            .room_bytes
            .acquire_many(u32::try_from(permits).unwrap_or(u32::MAX))
            .await
            .map_err(closed)?;
        let room = Room {
            messages: 1,
            bytes: permits * BYTES_PER_PERMIT,
        };
        let mut window = self.shared.lock();
        let was_empty = window.is_empty();
        let sequence = window.push(message, room)?;
        let wakers = window.take_wakers();
        drop(window);
        counted.forget();
        sized.forget();
        wake(wakers);
        if was_empty {
            self.shared.progressed();
            self.shared.work.notify_one();
        }
        Ok(Confirm {
            shared: Arc::clone(&self.shared),
            sequence,
            asked: false,
        })
    }

    /// Waits until nothing is unconfirmed.
    ///
    /// # Errors
    /// If the producer ends before.
    pub async fn flush(&self) -> Result<(), Error> {
        loop {
            let drained = self.shared.drained.notified();
            {
                let window = self.shared.lock();
                if window.is_empty() {
                    return Ok(());
                }
                if let Some(error) = window.ended() {
                    return Err(error.clone());
                }
            }
            drained.await;
        }
    }

    /// Waits until everything is confirmed, and ends.
    ///
    /// # Errors
    /// If the producer ends before everything is confirmed.
    pub async fn close(self) -> Result<(), Error> {
        self.flush().await
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end(Error::Closed);
    }
}

/// The future of a confirm: ready when the message is committed by a durable quorum (non-persistent: accepted).
///
/// Dropping it does not take the message back.
#[derive(Debug)]
#[must_use = "a message is safe only once its confirm is ready"]
pub struct Confirm {
    shared: Arc<Shared>,
    sequence: u64,
    asked: bool,
}

impl Future for Confirm {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self
            .shared
            .lock()
            .poll_outcome(self.sequence, context.waker());
        match outcome {
            Some(outcome) => {
                self.asked = true;
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if !self.asked {
            self.shared.lock().abandon(self.sequence);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Window> {
        // No code runs under this lock that panics half way through a change.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progressed(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn progress(&self) -> Instant {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reason(&self) -> Error {
        self.lock().ended().cloned().unwrap_or(Error::Closed)
    }

    fn end(&self, error: Error) {
        let mut window = self.lock();
        window.end(error);
        let wakers = window.take_wakers();
        drop(window);
        self.room_messages.close();
        self.room_bytes.close();
        wake(wakers);
        self.drained.notify_waiters();
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

fn permits(bytes: usize) -> usize {
    bytes
        .div_ceil(BYTES_PER_PERMIT)
        .clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))
}

/// Sends until the producer ends.
async fn run(shared: Arc<Shared>, mut gateways: Gateways) {
    let timeout = gateways.timeout();
    let error = tokio::select! {
        error = deliver(&shared, &mut gateways) => error,
        () = stalled(&shared, timeout) => match (gateways.gave_up(), shared.lock().held_back()) {
            (Error::Unanswered { .. }, held_back) if !held_back.is_empty() => {
                Error::Unanswered { last: held_back }
            }
            (error, _) => error,
        },
    };
    let destinations = shared.lock().unconfirmed_destinations();
    warn!(%error, ?destinations, "producer ends with unconfirmed messages");
    shared.end(error);
}

/// Makes call after call; returns only what no other gateway could mend.
async fn deliver(shared: &Arc<Shared>, gateways: &mut Gateways) -> Error {
    loop {
        while shared.lock().is_empty() {
            shared.work.notified().await;
        }
        let channel = gateways.connect().await;
        let error = call(shared, gateways, channel).await;
        if !error.is_retryable() {
            return error;
        }
        gateways.failed(&error.to_string());
    }
}

/// Sends and takes confirms through one gateway until that fails.
async fn call(shared: &Arc<Shared>, gateways: &mut Gateways, channel: Channel) -> Error {
    let mut client = MessagingServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
    let requests = Requests {
        call: shared.lock().begin_call(),
        shared: Arc::clone(shared),
    };
    let mut responses = match client.publish(requests).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.into(),
    };
    loop {
        let response = match responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Error::Unavailable("the gateway ended the call".to_owned()),
            Err(status) => return status.into(),
        };
        gateways.progressed();
        for held in &response.held_back {
            warn!(reason = held.reason, "producer is held back");
        }
        let mut window = shared.lock();
        let confirmed = window.confirm(response);
        let wakers = window.take_wakers();
        let drained = window.is_empty();
        drop(window);
        wake(wakers);
        shared.progressed();
        match confirmed {
            Ok(room) => {
                shared.room_messages.add_permits(room.messages);
                shared.room_bytes.add_permits(room.bytes / BYTES_PER_PERMIT);
            }
            Err(not_sent) => {
                return Error::Unavailable(format!(
                    "the gateway confirmed message {} of this call, which was not sent",
                    not_sent.ordinal
                ));
            }
        }
        if drained {
            shared.drained.notify_waiters();
        }
    }
}

/// Returns when something has been unconfirmed for `timeout` and no confirm came in that time.
async fn stalled(shared: &Shared, timeout: Option<Duration>) {
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    loop {
        let quiet = shared.progress().elapsed();
        if shared.lock().is_empty() {
            tokio::time::sleep(timeout).await;
        } else if quiet >= timeout {
            return;
        } else {
            tokio::time::sleep(timeout - quiet).await;
        }
    }
}

/// What is sent in one call: whatever waits, each time the connection can take more.
struct Requests {
    shared: Arc<Shared>,
    call: u64,
}

impl Stream for Requests {
    type Item = PublishRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PublishRequest>> {
        let mut window = self.shared.lock();
        if !window.is_current(self.call) {
            return Poll::Ready(None);
        }
        if let Some(request) = window.next_request(self.call) {
            return Poll::Ready(Some(request));
        }
        window.wake_sender(context.waker().clone());
        Poll::Pending
    }
}
