//! Receives from one queue, and settles.
//!
//! Messages are sent ahead, up to the prefetch; they count until they are settled. When the gateway is lost a task
//! turns to another with everything that is held, so that no message that the application has seen and not settled
//! is given to it, or to another consumer, a second time.

mod holding;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_proto::v1::{
    self, ConsumeRequest, Message, Position, Settlement,
    messaging_service_client::MessagingServiceClient,
};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::{
    Error,
    client::random_id,
    gateways::Gateways,
    limits::{ANSWER_BYTES, CLOSE, PREFETCH_BYTES, PREFETCH_MESSAGES},
};
use holding::{Holding, Room};

/// How much a consumer holds, and which subscription it has of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Most messages that are sent ahead or not settled; at most 16,384.
    pub prefetch_messages: u32,
    /// Most bytes of these, give or take one message; at most 64 MiB.
    pub prefetch_bytes: u64,
    /// Of a consumer of topics.
    pub subscription: Subscription,
    /// Which messages it wants, as a selector (`color = 'red' AND amount > 5`); empty: all. That of a
    /// durable subscription is part of it: under another one it begins anew.
    pub selector: String,
    /// Of the exclusive consumers of a queue only one gets messages.
    pub exclusive: bool,
    /// It gets messages before consumers of a lower priority.
    pub priority: i8,
}

/// What a consumer of topics gets. The default is what is published while it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The name of a durable or shared subscription; empty for one of its own.
    pub name: String,
    /// To whom the name belongs; a durable subscription that is not shared needs one.
    pub client_id: String,
    /// It is kept, with what comes in, until it is deleted.
    pub durable: bool,
    /// Several consumers may receive from it: each message goes to one of them.
    pub shared: bool,
    /// A new one begins with the retained messages of its topics.
    pub retained: bool,
    /// A new one begins with what its topics keep from this time on, in milliseconds since 1970; 0: with nothing.
    pub since_ms: u64,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            prefetch_messages: 1000,
            prefetch_bytes: 16 * 1024 * 1024,
            subscription: Subscription::default(),
            selector: String::new(),
            exclusive: false,
            priority: 0,
        }
    }
}

/// A message that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Names the message for settlement.
    pub position: Position,
    /// The message.
    pub message: Message,
    /// How often it was given to a consumer that failed with it.
    pub delivery_count: u32,
    /// It may have been given to a consumer before.
    pub redelivered: bool,
    /// The message's group is this consumer's from this message on.
    pub first_in_group: bool,
}

impl Delivery {
    /// `None` for one without a position, which cannot be settled.
    pub(crate) fn from_proto(delivery: v1::Delivery) -> Option<Self> {
        Some(Self {
            position: delivery.position?,
            message: delivery.message.unwrap_or_default(),
            delivery_count: delivery.delivery_count,
            redelivered: delivery.redelivered,
            first_in_group: delivery.first_in_group,
        })
    }
}

/// Receives from one queue. Dropping it returns what is not settled to the queue, as does [`Consumer::close`], which
/// waits for the settlements first.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    holding: Mutex<Holding>,
    /// A settlement was confirmed, or the consumer has ended.
    settled: Notify,
    /// When the cluster last did what the consumer waited for.
    progress: Mutex<Instant>,
}

/// A consumer whose messages a transaction settles.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    /// Its queue and its identity.
    pub(crate) fn name(&self) -> (String, Bytes) {
        self.0.lock().name()
    }

    /// A transaction settled this message: the consumer holds it no longer.
    pub(crate) fn settled_elsewhere(&self, position: &Position) {
        let mut holding = self.0.lock();
        holding.settled_elsewhere(position);
        let wakers = holding.take_wakers();
        drop(holding);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Consumer {
    pub(crate) fn start(
        gateways: Gateways,
        queue: String,
        options: &ConsumerOptions,
    ) -> Result<Self, Error> {
        let prefetch = Room {
            messages: options.prefetch_messages.clamp(1, PREFETCH_MESSAGES),
            bytes: options.prefetch_bytes.clamp(1, PREFETCH_BYTES),
        };
        let shared = Arc::new(Shared {
            holding: Mutex::new(
                Holding::new(
                    (queue, options.subscription.clone()),
                    random_id()?,
                    prefetch,
                )
                .on_terms(options),
            ),
            settled: Notify::new(),
            progress: Mutex::new(Instant::now()),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), gateways));
        Ok(Self { shared, task })
    }

    /// What a transaction keeps of the consumer.
    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Waits for the next message. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// If the consumer has ended, with the reason.
    pub async fn receive(&mut self) -> Result<Delivery, Error> {
        poll_fn(|context| {
            let mut holding = self.shared.lock();
            if let Some(delivery) = holding.receive() {
                return Poll::Ready(Ok(delivery));
            }
            if let Some(error) = holding.ended() {
                return Poll::Ready(Err(error.clone()));
            }
            holding.wake_receiver(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Returns the next message if it is here already.
    pub fn try_receive(&mut self) -> Option<Delivery> {
        self.shared.lock().receive()
    }

    /// The message is processed: it is removed.
    pub fn accept(&self, delivery: &Delivery) {
        self.settle(delivery, Settlement::Accept);
    }

    /// The message is not processed: back to its place in the queue.
    pub fn release(&self, delivery: &Delivery) {
        self.settle(delivery, Settlement::Release);
    }

    /// Processing failed: back to its place in the queue, its delivery count goes up.
    pub fn return_failed(&self, delivery: &Delivery) {
        self.settle(delivery, Settlement::Return);
    }

    /// The message is not acceptable: it is removed.
    pub fn reject(&self, delivery: &Delivery) {
        self.settle(delivery, Settlement::Reject);
    }

    fn settle(&self, delivery: &Delivery, settlement: Settlement) {
        self.shared.change(|holding| {
            let idle = !holding.has_unconfirmed();
            holding.settle(delivery.position, settlement);
            if idle {
                self.shared.progressed();
            }
        });
    }

    /// Waits until all settlements are committed.
    ///
    /// # Errors
    /// If the consumer ends before.
    pub async fn flush(&self) -> Result<(), Error> {
        loop {
            let settled = self.shared.settled.notified();
            {
                let holding = self.shared.lock();
                if !holding.has_unconfirmed() {
                    return Ok(());
                }
                if let Some(error) = holding.ended() {
                    return Err(error.clone());
                }
            }
            settled.await;
        }
    }

    /// Returns how many settlements found no message: it was settled before, or had been given to another consumer.
    #[must_use]
    pub fn unknown_settlements(&self) -> u64 {
        self.shared.lock().unknown()
    }

    /// Waits until all settlements are committed, then leaves the queue in good order.
    ///
    /// # Errors
    /// If the consumer ends before.
    pub async fn close(mut self) -> Result<(), Error> {
        self.flush().await?;
        self.shared.change(Holding::close);
        if tokio::time::timeout(CLOSE, &mut self.task).await.is_err() {
            debug!("the gateway did not see the consumer off in time");
        }
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.change(|holding| holding.end(Error::Closed));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Holding> {
        // No code runs under this lock that panics half way through a change.
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Holding) -> T) -> T {
        let mut holding = self.lock();
        let result = change(&mut holding);
        let wakers: Vec<Waker> = holding.take_wakers();
        drop(holding);
        for waker in wakers {
            waker.wake();
        }
        result
    }

    fn progressed(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn progress(&self) -> Instant {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives until the consumer ends.
async fn run(shared: Arc<Shared>, mut gateways: Gateways) {
    let timeout = gateways.timeout();
    let error = tokio::select! {
        error = attend(&shared, &mut gateways) => error,
        () = stalled(&shared, timeout) => gateways.gave_up(),
    };
    if error != Error::Closed {
        warn!(%error, "consumer ends");
    }
    shared.change(|holding| holding.end(error));
    shared.settled.notify_waiters();
}

/// Makes call after call; returns only what no other gateway could mend, or `Closed`.
async fn attend(shared: &Arc<Shared>, gateways: &mut Gateways) -> Error {
    loop {
        let channel = gateways.connect().await;
        let error = call(shared, gateways, channel).await;
        if !error.is_retryable() {
            return error;
        }
        if shared.lock().is_done() {
            return Error::Closed;
        }
        if gateways.has_progressed() {
            // The wait for another gateway begins here, however quiet the queue was before.
            shared.progressed();
        }
        gateways.failed(&error.to_string());
    }
}

/// Receives and settles through one gateway until that fails.
async fn call(shared: &Arc<Shared>, gateways: &mut Gateways, channel: Channel) -> Error {
    let mut client = MessagingServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
    let requests = Requests {
        call: shared.change(Holding::begin_call),
        shared: Arc::clone(shared),
    };
    let mut responses = match client.consume(requests).await {
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
        shared.progressed();
        if shared.change(|holding| holding.take(response)).is_err() {
            return Error::Unavailable("the gateway sends more than it has credit for".to_owned());
        }
        shared.settled.notify_waiters();
    }
}

/// Returns when the cluster has owed an attachment or a confirm for `timeout`.
async fn stalled(shared: &Shared, timeout: Option<Duration>) {
    let Some(timeout) = timeout else {
        return std::future::pending().await;
    };
    loop {
        let quiet = shared.progress().elapsed();
        if !shared.lock().is_waiting() {
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
    type Item = ConsumeRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ConsumeRequest>> {
        let mut holding = self.shared.lock();
        if !holding.is_current(self.call) {
            return Poll::Ready(None);
        }
        if let Some(request) = holding.next_request() {
            return Poll::Ready(Some(request));
        }
        if holding.is_done() {
            return Poll::Ready(None);
        }
        holding.wake_sender(context.waker().clone());
        Poll::Pending
    }
}
