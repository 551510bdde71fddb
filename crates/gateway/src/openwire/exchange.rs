//! The task that owns the machine in `neighbours`: it reads and writes the topic by which the gateways speak to each other,
//! as a client of the engine like any other. It takes no decision.
//!
//! The topic is read from the first OpenWire client on: a gateway that has none has nothing to tell and nobody to tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use quorate_message::{
    ConsumerId, Destination as Stored, GatewayId, Message, Settlement, Terms,
    limits::PRIORITY_DEFAULT,
};
use quorate_service::{
    clock::{monotonic_micros, wall_ms},
    shutdown::Shutdown,
};
use quorate_wire::openwire::Destination;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_stream::StreamExt;
use tonic::Status;
use tracing::{debug, info, warn};

use super::{
    announcements::Announcements,
    clients::Clients,
    dialogue::Refusal,
    neighbours::{Effect, Input, Neighbours, Note, SeatId},
    tell, translate,
};
use crate::{
    calls::Told,
    engine::{ConnectionCalls, Engine},
    internal,
    limits::{
        CLAIM_MICROS, CREDIT_BYTES_MAX, NEIGHBOUR_CREDIT_MESSAGES, NEIGHBOUR_GOODBYE,
        NEIGHBOUR_NEWS_MAX, NEIGHBOUR_REOPEN,
    },
    mailbox::{Frames, Mailbox},
    metrics::GatewayMetrics,
    session::{
        self, CallId, Credit, OpenConsumer, Publication, Removal, ShardId, StoredDelivery, Time,
        Whose,
    },
    source,
    topology::ClusterView,
};

/// Where the gateways speak.
const TOPIC: &str = "quorate.internal.neighbours";

/// The way to the task. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    news: mpsc::Sender<Input>,
    desk: Arc<Desk>,
}

/// What is told where nobody can wait for room, and who waits for an answer. Bounded by the connections that are open.
#[derive(Debug, Default)]
struct Desk {
    inner: Mutex<Inner>,
    changed: Notify,
    /// The first client is there.
    has_clients: AtomicBool,
    opened: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    inputs: Vec<Input>,
    deciding: BTreeMap<SeatId, oneshot::Sender<Result<(), String>>>,
    freeing: BTreeMap<SeatId, oneshot::Sender<()>>,
    is_over: bool,
}

/// A client id that a connection has. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    desk: Arc<Desk>,
    seat: SeatId,
    /// Until it is given back.
    client_id: Option<String>,
}

/// What the task is made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) life: GatewayId,
    pub(crate) name: String,
    pub(crate) clients: Clients,
    pub(crate) announcements: Announcements,
    pub(crate) view: watch::Receiver<ClusterView>,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: GatewayMetrics,
}

impl Exchange {
    /// The way, and the task: to be run until the gateway stops.
    pub(crate) fn new(parts: Parts) -> (Self, impl Future<Output = ()>) {
        let (news, told) = mpsc::channel(NEIGHBOUR_NEWS_MAX);
        let desk = Arc::<Desk>::default();
        let running = Running::new(parts, Arc::clone(&desk));
        (Self { news, desk }, running.run(told))
    }

    /// A client is let in.
    pub(crate) fn open(&self) {
        if !self.desk.has_clients.swap(true, Ordering::Relaxed) {
            self.desk.opened.notify_one();
        }
    }

    /// A client of this gateway made a temporary destination, or removed it.
    pub(crate) async fn announce(&self, destination: Destination, is_there: bool) {
        let input = Input::Announced {
            destination,
            is_there,
        };
        // When the gateway stops all is said to be gone.
        drop(self.news.send(input).await);
    }

    /// Takes a client id for a connection of this gateway that has none, for as long as what is returned lives.
    pub(crate) async fn claim(
        &self,
        seat: SeatId,
        (client_id, connection_id): (&str, &str),
        holder: String,
    ) -> Result<Claimed, Refusal> {
        let (answer, decision) = oneshot::channel();
        self.desk.push(
            Input::Claimed {
                seat,
                client_id: client_id.to_owned(),
                connection_id: connection_id.to_owned(),
                holder,
            },
            |inner| drop(inner.deciding.insert(seat, answer)),
        );
        let claimed = Claimed {
            desk: Arc::clone(&self.desk),
            seat,
            client_id: Some(client_id.to_owned()),
        };
        match decision.await {
            Ok(Err(holder)) => Err(Refusal::ClientIdInUse { holder }),
            // Nobody decides when the gateway stops.
            Ok(Ok(())) | Err(_) => Ok(claimed),
        }
    }
}

impl Claimed {
    /// Gives the client id back. Returns when whoever asks for it anywhere finds it free, as far as can be told in time.
    pub(crate) async fn release(mut self) {
        let (freed, waiting) = oneshot::channel();
        let seat = self.seat;
        if let Some(client_id) = self.client_id.take() {
            let released = Input::Released { seat, client_id };
            self.desk
                .push(released, |inner| drop(inner.freeing.insert(seat, freed)));
            let most = Duration::from_micros(CLAIM_MICROS);
            drop(tokio::time::timeout(most, waiting).await);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let seat = self.seat;
        if let Some(client_id) = self.client_id.take() {
            self.desk.push(Input::Released { seat, client_id }, |_| ());
        }
    }
}

impl Desk {
    fn push(&self, input: Input, wait: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        if inner.is_over {
            return;
        }
        wait(&mut inner);
        inner.inputs.push(input);
        drop(inner);
        self.changed.notify_one();
    }

    fn take(&self) -> Vec<Input> {
        std::mem::take(&mut self.lock().inputs)
    }

    /// Nobody is answered any longer.
    fn end(&self) {
        *self.lock() = Inner {
            is_over: true,
            ..Inner::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is in it is whole before and after every call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running {
    machine: Neighbours,
    calls: ConnectionCalls,
    answers: Frames<Told, ()>,
    next_call: u64,
    subscriber: Option<CallId>,
    publisher: Option<CallId>,
    /// When the subscription is made again.
    reopens_at: Option<Instant>,
    topic: Stored,
    life: GatewayId,
    clients: Clients,
    announcements: Announcements,
    engine: Engine,
    view: watch::Receiver<ClusterView>,
    shutdown: Shutdown,
    metrics: GatewayMetrics,
    desk: Arc<Desk>,
    /// What there was no room for and was told already.
    complained: BTreeSet<&'static str>,
    has_left: bool,
}

impl Running {
    fn new(parts: Parts, desk: Arc<Desk>) -> Self {
        let mailbox = Mailbox::new();
        let calls = parts.engine.connection(Arc::clone(&mailbox));
        Self {
            machine: Neighbours::new(parts.life, &parts.name),
            next_call: calls.first.0,
            calls,
            answers: Frames::new(mailbox, ()),
            subscriber: None,
            publisher: None,
            reopens_at: None,
            topic: internal::topic(TOPIC),
            life: parts.life,
            clients: parts.clients,
            announcements: parts.announcements,
            engine: parts.engine,
            view: parts.view,
            shutdown: parts.shutdown,
            metrics: parts.metrics,
            desk,
            complained: BTreeSet::new(),
            has_left: false,
        }
    }

    async fn run(mut self, news: mpsc::Receiver<Input>) {
        if let Err(status) = self.serve(news).await {
            debug!(%status, "other gateways are not spoken to any longer");
        }
        self.desk.end();
    }

    async fn serve(&mut self, mut news: mpsc::Receiver<Input>) -> Result<(), Status> {
        let (desk, shutdown, mut view) = (
            Arc::clone(&self.desk),
            self.shutdown.clone(),
            self.view.clone(),
        );
        view.mark_changed();
        let mut leaves_by = None;
        while !self.has_left {
            let due = self.machine.next_deadline().map(|at| {
                let left = at.since(Time(monotonic_micros()));
                Instant::now() + Duration::from_micros(left)
            });
            tokio::select! {
                Some(Ok(told)) = self.answers.next() => {
                    for effect in told {
                        self.told(effect).await?;
                    }
                }
                Some(input) = news.recv() => self.step(input).await?,
                () = desk.changed.notified() => {
                    for input in desk.take() {
                        self.step(input).await?;
                    }
                }
                Ok(()) = view.changed() => {
                    let attending = attending(&view.borrow_and_update());
                    if let Some(attending) = attending {
                        self.step(Input::Attending(attending)).await?;
                    }
                }
                () = sleep_until(due) => self.step(Input::Elapsed).await?,
                () = desk.opened.notified() => self.open().await?,
                () = sleep_until(self.reopens_at) => self.open().await?,
                () = shutdown.requested(), if leaves_by.is_none() => {
                    leaves_by = Some(Instant::now() + NEIGHBOUR_GOODBYE);
                    self.step(Input::Left).await?;
                }
                () = sleep_until(leaves_by) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn step(&mut self, input: Input) -> Result<(), Status> {
        let mut effects = Vec::new();
        let now = Time(monotonic_micros());
        self.machine.step(now, input, &mut effects);
        for effect in effects {
            self.carry_out(effect).await?;
        }
        self.metrics.neighbours(self.machine.others());
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), Status> {
        match effect {
            Effect::Publish(frame) => self.publish(frame).await?,
            Effect::Announce {
                destination,
                is_there,
            } => {
                tell(&self.engine, Whose::Elsewhere, &destination, is_there).await?;
                let announcements = &self.announcements;
                announcements.announce(Whose::Elsewhere, destination, is_there);
            }
            Effect::Orphaned { destination } => self.delete(&destination).await?,
            Effect::Decided { seat, decision } => {
                if let Some(answer) = self.desk.lock().deciding.remove(&seat) {
                    // Who is gone meanwhile says so.
                    drop(answer.send(decision));
                }
            }
            Effect::Freed { seat } => {
                if let Some(freed) = self.desk.lock().freeing.remove(&seat) {
                    // Who waits no longer has gone on.
                    let (Ok(()) | Err(())) = freed.send(());
                }
            }
            Effect::Leave { seat } => self.clients.ask_to_leave(seat),
            Effect::Left => self.has_left = true,
            Effect::Note(note) => self.note(note),
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Found { name, life } => info!(name, %life, "another gateway serves OpenWire"),
            Note::Lost { life } => {
                info!(%life, "another gateway does not answer; what its clients had is gone");
            }
            Note::Malformed(error) => {
                self.metrics.refused_news();
                info!(%error, "what another gateway says is not understood; is it of another version?");
            }
            Note::Full { what } => {
                self.metrics.refused_news();
                if self.complained.insert(what) {
                    warn!(
                        what,
                        "no room to share this between gateways; it is known to one alone"
                    );
                }
            }
            Note::Unanswered { client_id } => {
                info!(
                    client_id,
                    "client id is let in without asking the other gateways: no answer in time"
                );
            }
        }
    }

    /// Makes the subscription.
    async fn open(&mut self) -> Result<(), Status> {
        self.reopens_at = None;
        let call = self.begin().await?;
        self.subscriber = Some(call);
        let consumer = ConsumerId(self.life.0);
        let (queue, subscription) = source::own(&self.topic, consumer);
        let open = OpenConsumer {
            consumer,
            queue,
            subscription: Some(Box::new(subscription)),
            held: Vec::new(),
            terms: Terms::default(),
            credit: Credit {
                messages: NEIGHBOUR_CREDIT_MESSAGES,
                bytes: CREDIT_BYTES_MAX,
            },
            wall_micros: wall_ms().saturating_mul(1_000),
        };
        self.calls
            .tell(session::Input::Consume { call, open })
            .await
    }

    async fn begin(&mut self) -> Result<CallId, Status> {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.calls.begin(call).await?;
        Ok(call)
    }

    async fn publish(&mut self, frame: Vec<u8>) -> Result<(), Status> {
        let call = match self.publisher {
            Some(call) => call,
            None => self.begin().await?,
        };
        self.publisher = Some(call);
        let mut message = BytesMut::new();
        let encoded = Message::with_body(frame).encode(&mut message);
        encoded.expect("a frame is far below the size of a message");
        let publication = Publication {
            destination: self.topic.clone(),
            number: 0,
            also: Vec::new(),
            is_retained: false,
            non_persistent: true,
            priority: PRIORITY_DEFAULT,
            expires_at_ms: 0,
            schedule: None,
            message: message.freeze(),
        };
        self.calls
            .tell(session::Input::Publish {
                call,
                producer: None,
                messages: vec![Ok(publication)],
                trace: None,
            })
            .await
    }

    /// Deletes a temporary destination that nobody has, with what is in it.
    async fn delete(&mut self, destination: &Destination) -> Result<(), Status> {
        let Ok(targets) = translate::targets(destination) else {
            return Ok(());
        };
        let call = self.begin().await?;
        let delete = session::Input::Purge {
            call,
            destination: targets.first,
            what: Removal::Temporary,
        };
        self.calls.tell(delete).await
    }

    /// The engine says something of one of its calls.
    async fn told(&mut self, effect: session::Effect) -> Result<(), Status> {
        use session::Effect as Answer;
        let call = effect.call();
        let is_reading = call.is_some() && call == self.subscriber;
        let is_writing = call.is_some() && call == self.publisher;
        match effect {
            Answer::Opened { .. } if is_reading => self.step(Input::Opened).await,
            Answer::Delivered {
                call,
                shard,
                deliveries,
            } if is_reading => self.delivered(call, shard, deliveries).await,
            Answer::Confirmed { outcome, .. } if is_writing => {
                let is_taken = outcome.is_stored();
                self.step(Input::Published { is_taken }).await
            }
            Answer::Wrong { .. } if is_writing => {
                let is_taken = false;
                self.step(Input::Published { is_taken }).await
            }
            Answer::Failed { call, failure } => {
                debug!(
                    ?failure,
                    is_reading, "the topic of the gateways cannot be had"
                );
                self.over(call).await
            }
            Answer::Ended { call } | Answer::Purged { call, .. } => self.over(call).await,
            Answer::Opened { .. }
            | Answer::Delivered { .. }
            | Answer::Confirmed { .. }
            | Answer::Wrong { .. }
            | Answer::HeldBack { .. }
            | Answer::Settled { .. }
            | Answer::Committed { .. }
            | Answer::Unsubscribed { .. }
            | Answer::Pause { .. }
            | Answer::Resume { .. }
            | Answer::Link { .. }
            | Answer::Unlink { .. }
            | Answer::Submit { .. }
            | Answer::Control { .. }
            | Answer::Left
            | Answer::Note(_) => Ok(()),
        }
    }

    /// A call is over, and another one takes its place.
    async fn over(&mut self, call: CallId) -> Result<(), Status> {
        self.calls.tell(session::Input::Dropped { call }).await?;
        if self
            .subscriber
            .take_if(|reading| *reading == call)
            .is_some()
        {
            self.reopens_at = Some(Instant::now() + NEIGHBOUR_REOPEN);
            return self.step(Input::Closed).await;
        }
        if self.publisher.take_if(|writing| *writing == call).is_some() {
            let is_taken = false;
            return self.step(Input::Published { is_taken }).await;
        }
        Ok(())
    }

    async fn delivered(
        &mut self,
        call: CallId,
        shard: ShardId,
        deliveries: Vec<StoredDelivery>,
    ) -> Result<(), Status> {
        let bytes: u64 = deliveries.iter().map(|d| d.message.len() as u64).sum();
        let credit = Credit {
            messages: deliveries.len() as u64,
            bytes,
        };
        let positions = deliveries.iter().map(|d| (shard, d.position)).collect();
        for told in [
            session::Input::Taken { call, bytes },
            session::Input::Settle {
                call,
                settlement: Settlement::Accept,
                positions,
                token: 0,
            },
            session::Input::Credited { call, credit },
        ] {
            self.calls.tell(told).await?;
        }
        for delivery in deliveries {
            match Message::decode(&delivery.message) {
                Ok(message) => self.step(Input::Heard(message.body)).await?,
                Err(error) => {
                    self.metrics.refused_news();
                    warn!(%error, "a message between gateways cannot be read");
                }
            }
        }
        Ok(())
    }
}

/// The gateways that a coordinator sees, by their names.
fn attending(view: &ClusterView) -> Option<BTreeSet<String>> {
    let topology = view.topology.as_ref()?;
    let gateways = topology.gateways.iter();
    Some(gateways.map(|gateway| gateway.name.clone()).collect())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
impl Exchange {
    /// One whose task has ended: everybody is let in.
    pub(crate) fn over() -> Self {
        let (news, _) = mpsc::channel(1);
        let desk = Arc::<Desk>::default();
        desk.end();
        Self { news, desk }
    }
}
