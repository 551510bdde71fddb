//! The one task that owns the session machine: takes in all that has arrived, steps, and hands out what is to be done.
//!
//! Calls and links talk to it over one bounded channel, a frame at a time; it answers into their mailboxes and never
//! waits for anybody.

mod leaders;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_service::clock::monotonic_micros;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;
use tracing::{debug, info, warn};

use self::leaders::Leaders;
use crate::{
    calls::{Confirms, Offers, Told},
    convert::node as convert,
    limits::{CONNECTION_CALLS, ENGINE_INPUTS_MAX, ENGINE_STEP_INPUTS},
    mailbox::Mailbox,
    metrics::GatewayMetrics,
    session::{CallId, Cause, Core, Effect, Failure, Input, LinkId, NodeId, Note, Outcome, Time},
    status::failure_status,
    upstream::{Commands, Parcels},
};

/// What a unary call gets.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Its message has this outcome, and there is this to say of one that is an error.
    Confirmed(Outcome, Option<Box<Cause>>),
    /// Its message is wrong as it is.
    Wrong(Arc<str>),
    /// So many messages are purged.
    Purged(u64),
    /// Its transaction is committed.
    Committed,
    /// A subscription is deleted, with so many messages pending in it; none: there was none.
    Unsubscribed(Option<u64>),
}

/// Where a call's answers go.
#[derive(Debug)]
pub(crate) enum Caller {
    Unary(oneshot::Sender<Result<Answer, Failure>>),
    Publisher(Arc<Mailbox<Confirms>>),
    Consumer(Arc<Mailbox<Offers>>),
    /// A connection that has many calls and is told what the machine says of each.
    Connection(Arc<Mailbox<Told>>),
}

/// What comes to the engine.
#[derive(Debug)]
pub(crate) enum Event {
    /// A call begins.
    Called { call: CallId, caller: Caller },
    /// Both streams to a node are open.
    Linked {
        node: NodeId,
        link: LinkId,
        commands: Arc<Mailbox<Commands>>,
        parcels: Arc<Mailbox<Parcels>>,
    },
    /// Everything else.
    Input(Input),
}

/// The nodes that shall be linked, with their addresses.
pub(crate) type Wanted = BTreeMap<NodeId, Arc<str>>;

/// The way to the engine. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    events: mpsc::Sender<Event>,
    signals: Arc<Signals>,
    next_call: Arc<AtomicU64>,
    left: Arc<Notify>,
}

/// What is told where nobody can wait for room in the channel: calls that were closed, and deliveries that
/// connections took. Bounded by the calls that are open and the credit that is lent.
#[derive(Debug, Default)]
struct Signals {
    inputs: Mutex<Vec<Input>>,
    changed: Notify,
}

impl Signals {
    fn push(&self, input: Input) {
        let inputs = self.inputs.lock();
        inputs.unwrap_or_else(PoisonError::into_inner).push(input);
        self.changed.notify_one();
    }

    fn take(&self) -> Vec<Input> {
        let inputs = self.inputs.lock();
        std::mem::take(&mut *inputs.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says that its call is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct CallGuard {
    pub(crate) call: CallId,
    signals: Arc<Signals>,
}

impl CallGuard {
    /// Says that the client's connection took so many stored bytes.
    pub(crate) fn taken(&self, bytes: u64) {
        let call = self.call;
        self.signals.push(Input::Taken { call, bytes });
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.signals.push(Input::Dropped { call: self.call });
    }
}

/// The calls of a connection: those that are open when this is dropped are closed.
#[derive(Debug)]
pub(crate) struct ConnectionCalls {
    pub(crate) first: CallId,
    mailbox: Arc<Mailbox<Told>>,
    open: BTreeSet<CallId>,
    engine: Engine,
}

impl ConnectionCalls {
    /// Begins the call of this name, which is one of the connection's.
    pub(crate) async fn begin(&mut self, call: CallId) -> Result<(), Status> {
        self.open.insert(call);
        let caller = Caller::Connection(Arc::clone(&self.mailbox));
        self.engine.tell(Event::Called { call, caller }).await
    }

    /// Tells the engine.
    pub(crate) async fn tell(&mut self, input: Input) -> Result<(), Status> {
        if let Input::Dropped { call } = input {
            self.open.remove(&call);
        }
        self.engine.tell(Event::Input(input)).await
    }
}

impl Drop for ConnectionCalls {
    fn drop(&mut self) {
        for call in std::mem::take(&mut self.open) {
            self.engine.signals.push(Input::Dropped { call });
        }
    }
}

impl Engine {
    /// Starts the engine on the present runtime. The receiver names the nodes that it wants to be linked with.
    pub(crate) fn start(core: Core, metrics: GatewayMetrics) -> (Self, watch::Receiver<Wanted>) {
        let (events, inbox) = mpsc::channel(ENGINE_INPUTS_MAX);
        let (wanted, wishes) = watch::channel(Wanted::new());
        let signals = Arc::<Signals>::default();
        let left = Arc::<Notify>::default();
        let running = Running {
            core,
            calls: BTreeMap::new(),
            links: BTreeMap::new(),
            wanted,
            metrics,
            leaders: Leaders::default(),
            left: Arc::clone(&left),
        };
        tokio::spawn(running.run(inbox, Arc::clone(&signals)));
        let engine = Self {
            events,
            signals,
            next_call: Arc::new(AtomicU64::new(1)),
            left,
        };
        (engine, wishes)
    }

    /// Tells the engine.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Status> {
        let sent = self.events.send(event).await;
        sent.map_err(|_| Status::unavailable("gateway is stopping; retry on another gateway"))
    }

    /// Gives back what clients hold and says to the shards that this gateway ends. Returns when they are told, or when
    /// the time is over: then they find out.
    pub(crate) async fn leave(&self, timeout: Duration) {
        self.signals.push(Input::Leave);
        if tokio::time::timeout(timeout, self.left.notified())
            .await
            .is_err()
        {
            info!("not everything could be given back in time; the shards wait for this gateway");
        }
    }

    /// Names for the calls of one connection, whose answers come to this mailbox.
    pub(crate) fn connection(&self, mailbox: Arc<Mailbox<Told>>) -> ConnectionCalls {
        let first = self
            .next_call
            .fetch_add(CONNECTION_CALLS, Ordering::Relaxed);
        ConnectionCalls {
            first: CallId(first),
            mailbox,
            open: BTreeSet::new(),
            engine: self.clone(),
        }
    }

    /// Begins a call.
    pub(crate) async fn call(&self, caller: Caller) -> Result<CallGuard, Status> {
        let call = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        self.tell(Event::Called { call, caller }).await?;
        Ok(CallGuard {
            call,
            signals: Arc::clone(&self.signals),
        })
    }
}

struct Link {
    link: LinkId,
    commands: Arc<Mailbox<Commands>>,
    parcels: Arc<Mailbox<Parcels>>,
}

struct Running {
    core: Core,
    calls: BTreeMap<CallId, Caller>,
    links: BTreeMap<NodeId, Link>,
    wanted: watch::Sender<Wanted>,
    metrics: GatewayMetrics,
    leaders: Leaders,
    left: Arc<Notify>,
}

impl Running {
    async fn run(mut self, mut inbox: mpsc::Receiver<Event>, signals: Arc<Signals>) {
        let mut events = Vec::with_capacity(ENGINE_STEP_INPUTS);
        let mut effects = Vec::new();
        loop {
            let due = self.core.next_deadline();
            let deadline = due.map(|at| {
                let left = at.since(Time(monotonic_micros()));
                tokio::time::Instant::now() + Duration::from_micros(left)
            });
            tokio::select! {
                biased;
                taken = inbox.recv_many(&mut events, ENGINE_STEP_INPUTS) => {
                    if taken == 0 {
                        return;
                    }
                }
                () = signals.changed.notified() => {}
                () = sleep_until(deadline) => {}
            }
            let now = Time(monotonic_micros());
            for event in events.drain(..) {
                self.take(now, event, &mut effects);
            }
            for input in signals.take() {
                if let Input::Dropped { call } = input {
                    self.calls.remove(&call);
                }
                self.core.step(now, input, &mut effects);
            }
            // Whatever else came: under load something always does.
            let end = match due {
                Some(at) if at <= now => Input::Elapsed,
                Some(_) | None => Input::Drained,
            };
            self.core.step(now, end, &mut effects);
            for effect in effects.drain(..) {
                self.carry_out(effect);
            }
            self.leaders.end_round();
            self.metrics.observe(&self.core, self.calls.len());
            // The other tasks of this thread put in what arrived meanwhile, so that batches grow.
            tokio::task::yield_now().await;
        }
    }

    fn take(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        let input = match event {
            Event::Called { call, caller } => {
                self.calls.insert(call, caller);
                return;
            }
            Event::Linked {
                node,
                link,
                commands,
                parcels,
            } => {
                let state = Link {
                    link,
                    commands,
                    parcels,
                };
                self.links.insert(node, state);
                Input::Linked { node, link }
            }
            Event::Input(input) => {
                if let Input::Dropped { call } = input {
                    self.calls.remove(&call);
                }
                input
            }
        };
        self.core.step(now, input, effects);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Link { node, address } => {
                self.wanted.send_modify(|wanted| {
                    wanted.insert(node, address);
                });
            }
            Effect::Unlink { node } => {
                self.links.remove(&node);
                self.wanted.send_modify(|wanted| {
                    wanted.remove(&node);
                });
            }
            Effect::Submit {
                node,
                link,
                shard,
                trace,
                number,
                previous,
                batch,
            } => {
                self.metrics.batch(batch.len());
                if let Some(state) = self.link(node, link) {
                    let batch = convert::batch(shard, number, previous, batch, trace.as_deref());
                    state.parcels.put(|parcels| parcels.push(batch));
                }
            }
            Effect::Control {
                node,
                link,
                shard,
                command,
            } => {
                if let Some(state) = self.link(node, link) {
                    state.commands.put(|commands| commands.push(shard, command));
                }
            }
            Effect::Left => self.left.notify_one(),
            Effect::Note(note) => self.note(note),
            Effect::Confirmed { .. }
            | Effect::Wrong { .. }
            | Effect::HeldBack { .. }
            | Effect::Opened { .. }
            | Effect::Delivered { .. }
            | Effect::Settled { .. }
            | Effect::Purged { .. }
            | Effect::Committed { .. }
            | Effect::Unsubscribed { .. }
            | Effect::Ended { .. }
            | Effect::Failed { .. }
            | Effect::Pause { .. }
            | Effect::Resume { .. } => self.answer(effect),
        }
    }

    fn link(&self, node: NodeId, link: LinkId) -> Option<&Link> {
        self.links.get(&node).filter(|state| state.link == link)
    }

    /// Hands a call what is for it; a call that is gone gets nothing.
    fn answer(&mut self, effect: Effect) {
        self.count(&effect);
        let caller = effect.call().and_then(|call| self.calls.get(&call));
        if let Some(Caller::Connection(mailbox)) = caller {
            return mailbox.put(|told| told.push(effect));
        }
        match effect {
            Effect::Confirmed {
                call,
                first,
                count,
                outcome,
                cause,
            } => {
                if let Some(Caller::Publisher(mailbox)) = self.calls.get(&call) {
                    let cause = cause.as_deref();
                    mailbox.put(|confirms| confirms.push((first, count), outcome, cause));
                }
                self.reply(call, Ok(Answer::Confirmed(outcome, cause)));
            }
            Effect::Wrong {
                call,
                ordinal,
                reason,
            } => {
                if let Some(Caller::Publisher(mailbox)) = self.calls.get(&call) {
                    mailbox.put(|confirms| confirms.push_wrong(ordinal, &reason));
                }
                self.reply(call, Ok(Answer::Wrong(reason)));
            }
            Effect::HeldBack { call, cause } => {
                if let Some(Caller::Publisher(mailbox)) = self.calls.get(&call) {
                    mailbox.put(|confirms| confirms.push_held_back(&cause));
                }
            }
            Effect::Purged { call, removed } => self.reply(call, Ok(Answer::Purged(removed))),
            Effect::Committed { call } => self.reply(call, Ok(Answer::Committed)),
            Effect::Unsubscribed { call, removed } => {
                self.reply(call, Ok(Answer::Unsubscribed(removed)));
            }
            Effect::Ended { call } => match self.calls.get(&call) {
                Some(Caller::Publisher(mailbox)) => mailbox.end(Ok(())),
                Some(Caller::Consumer(mailbox)) => mailbox.end(Ok(())),
                Some(Caller::Unary(_) | Caller::Connection(_)) | None => {}
            },
            Effect::Failed { call, failure } => self.failed(call, failure),
            Effect::Pause { call } => self.pause(call, true),
            Effect::Resume { call } => self.pause(call, false),
            Effect::Opened { call, .. }
            | Effect::Delivered { call, .. }
            | Effect::Settled { call, .. } => {
                if let Some(Caller::Consumer(mailbox)) = self.calls.get(&call) {
                    mailbox.put(|offers| offers.push(effect));
                }
            }
            Effect::Link { .. }
            | Effect::Unlink { .. }
            | Effect::Submit { .. }
            | Effect::Control { .. }
            | Effect::Left
            | Effect::Note(_) => unreachable!("not for a call"),
        }
    }

    fn count(&self, effect: &Effect) {
        match effect {
            Effect::Confirmed { outcome, count, .. } => self.metrics.confirmed(*outcome, *count),
            Effect::Wrong { .. } => self.metrics.wrong(),
            Effect::Delivered { deliveries, .. } => self.metrics.delivered(deliveries.len()),
            Effect::Failed { .. } => self.metrics.failed(),
            Effect::Link { .. }
            | Effect::Unlink { .. }
            | Effect::Submit { .. }
            | Effect::Control { .. }
            | Effect::HeldBack { .. }
            | Effect::Opened { .. }
            | Effect::Settled { .. }
            | Effect::Purged { .. }
            | Effect::Committed { .. }
            | Effect::Unsubscribed { .. }
            | Effect::Ended { .. }
            | Effect::Pause { .. }
            | Effect::Resume { .. }
            | Effect::Left
            | Effect::Note(_) => {}
        }
    }

    fn reply(&mut self, call: CallId, answer: Result<Answer, Failure>) {
        if let Some(Caller::Unary(_)) = self.calls.get(&call)
            && let Some(Caller::Unary(reply)) = self.calls.remove(&call)
            && reply.send(answer).is_err()
        {
            debug!(%call, "the caller left before its answer");
        }
    }

    fn failed(&mut self, call: CallId, failure: Failure) {
        match self.calls.get(&call) {
            Some(Caller::Publisher(mailbox)) => mailbox.end(Err(failure_status(&failure))),
            Some(Caller::Consumer(mailbox)) => mailbox.end(Err(failure_status(&failure))),
            Some(Caller::Unary(_)) => self.reply(call, Err(failure)),
            Some(Caller::Connection(_)) | None => {}
        }
    }

    fn pause(&self, call: CallId, paused: bool) {
        match self.calls.get(&call) {
            Some(Caller::Publisher(mailbox)) => mailbox.pause(paused),
            Some(Caller::Consumer(mailbox)) => mailbox.pause(paused),
            Some(Caller::Unary(_) | Caller::Connection(_)) | None => {}
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Leader {
                shard,
                epoch,
                leader,
            } => self.leaders.note(leader, (shard, epoch)),
            Note::Resent {
                shard,
                node,
                batches,
            } => {
                self.metrics.resent(batches);
                info!(%shard, %node, batches, "unanswered batches are sent again");
            }
            Note::Overloaded { shard, reason } => {
                debug!(%shard, %reason, "leader asks for a pause");
            }
            Note::Dropped { shard, deliveries } => {
                self.metrics.dropped(deliveries);
                debug!(%shard, deliveries, "deliveries dropped: held already, or out of date");
            }
            Note::Hung { shard, messages } => {
                self.metrics.hung();
                info!(%shard, messages, "consumer ended: it held messages beyond their acknowledgement time-out");
            }
            Note::Overdue { shard, calls } => {
                warn!(%shard, calls, "calls failed: no answer within the deadline");
            }
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use quorate_message::{ConsumerId, Destination, DestinationName, GatewayId, ProducerId, Terms};

    use super::*;
    use crate::session::{Config, Credit, OpenConsumer};

    #[tokio::test]
    async fn deadlines_are_kept_while_something_always_comes_in() {
        let core = Core::new(Config {
            incarnation: GatewayId([1; 16]),
            producer: ProducerId([2; 16]),
            transient_producer: ProducerId([3; 16]),
            deadline_micros: 50_000,
            memory_bytes: 1 << 20,
        });
        let (engine, _wanted) = Engine::start(core, GatewayMetrics::default());
        let (reply, answer) = oneshot::channel();
        let guard = engine.call(Caller::Unary(reply)).await.expect("it runs");
        let call = guard.call;
        let open = OpenConsumer {
            consumer: ConsumerId::default(),
            queue: Destination::queue(DestinationName::new("orders").expect("a name")),
            subscription: None,
            held: Vec::new(),
            terms: Terms::default(),
            credit: Credit::default(),
            wall_micros: 0,
        };
        let waits = Event::Input(Input::Consume { call, open });
        engine.tell(waits).await.expect("it runs");
        let flood = async {
            let until = Instant::now() + Duration::from_secs(10);
            while Instant::now() < until {
                let nothing = Input::GiveUp { call: CallId(0) };
                engine.tell(Event::Input(nothing)).await.expect("it runs");
            }
        };
        tokio::select! {
            answer = answer => {
                let failed = answer.expect("answered").expect_err("nobody knows where it is");
                assert_eq!(failed, Failure::NoTopology);
            }
            () = flood => panic!("the deadline of the call is long over"),
        }
    }
}
