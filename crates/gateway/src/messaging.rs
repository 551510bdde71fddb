//! The calls of `quorate.v1.MessagingService`: they check what clients say and move frames to and from the engine.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quorate_message::ConsumerId;
use quorate_proto::v1::{self, consume_request::Kind, messaging_service_server::MessagingService};
use quorate_service::{clock::wall_ms, trace_context};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use tracing::{Instrument, Span, debug, info_span};

use crate::{
    browse::Browser,
    calls::{Confirms, Offers},
    convert::{
        self, Publications,
        outcome::{is_shortage, outcome_error},
    },
    engine::{Answer, CallGuard, Caller, Engine, Event},
    limits::{FIRST_REQUEST_TIMEOUT, PATIENCE_MARGIN},
    listener::first,
    mailbox::{Frames, Mailbox},
    session::{CallId, Failure, Input, Sent},
    status::failure_status,
    transact::TransactReader,
};

/// Serves clients that send and receive.
#[derive(Clone, Debug)]
pub(crate) struct Messaging {
    pub(crate) engine: Engine,
    pub(crate) browser: Browser,
    pub(crate) message_bytes_max: usize,
}

/// The answer to a unary call that the engine carries out.
pub(crate) async fn ask(
    engine: &Engine,
    input: impl FnOnce(CallId) -> Input,
) -> Result<Answer, Status> {
    ask_within(engine, input, None).await
}

/// The same for a client that gives it so much time.
async fn ask_within(
    engine: &Engine,
    input: impl FnOnce(CallId) -> Input,
    patience: Option<Duration>,
) -> Result<Answer, Status> {
    let (reply, mut answer) = oneshot::channel();
    let guard = engine.call(Caller::Unary(reply)).await?;
    let call = guard.call;
    engine.tell(Event::Input(input(call))).await?;
    let answered = tokio::select! {
        answered = &mut answer => Some(answered),
        () = over(patience) => None,
    };
    let answer: Result<Answer, Failure> = match answered {
        Some(answered) => answered,
        None => {
            engine.tell(Event::Input(Input::GiveUp { call })).await?;
            answer.await
        }
    }
    .map_err(|_| Status::unavailable("gateway is stopping; retry on another gateway"))?;
    answer.map_err(|failure| failure_status(&failure))
}

/// The span of a call, within the caller's trace.
pub(crate) fn span_of(span: Span, metadata: &MetadataMap) -> Span {
    trace_context::continue_from(&span, metadata);
    span
}

/// The trace of a call that goes on to the storage nodes, when the client follows it.
fn trace_of(span: &Span, metadata: &MetadataMap) -> Option<Arc<str>> {
    trace_context::asked_for(span, metadata).map(Arc::from)
}

/// How long the client of a call waits at most, less the time that it takes to tell it why it waited.
fn patience_of(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let digits = text.len().checked_sub(1)?;
    let (value, unit) = text.split_at_checked(digits)?;
    let value: u64 = value.parse().ok()?;
    let patience = match unit {
        "H" => Duration::from_secs(value.saturating_mul(3_600)),
        "M" => Duration::from_secs(value.saturating_mul(60)),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(patience.saturating_sub((patience / 10).min(PATIENCE_MARGIN)))
}

/// Ends when a client waits no longer.
async fn over(patience: Option<Duration>) {
    match patience {
        Some(patience) => tokio::time::sleep(patience).await,
        None => std::future::pending().await,
    }
}

impl Messaging {
    async fn send_one(
        &self,
        request: v1::SendRequest,
        (trace, patience): (Option<Arc<str>>, Option<Duration>),
    ) -> Result<v1::SendResponse, Status> {
        let named = !request.producer_id.is_empty();
        let producer = match named {
            true => Some(convert::producer(&request.producer_id)?),
            false => None,
        };
        let message = request
            .message
            .ok_or_else(|| Status::invalid_argument("the request holds no message"))?;
        if !named && message.number != 0 {
            return Err(Status::invalid_argument(
                "message has a number but no producer_id; give both, or none to let the gateway number it",
            ));
        }
        let messages = Publications::new(self.message_bytes_max).read_all(vec![message], named)?;
        let messages = messages.into_iter().map(Ok).collect();
        let publish = |call| Input::Publish {
            call,
            producer,
            messages,
            trace,
        };
        match ask_within(&self.engine, publish, patience).await? {
            Answer::Confirmed(outcome, _) if outcome.is_stored() => Ok(v1::SendResponse {
                outcome: convert::outcome(outcome) as i32,
            }),
            Answer::Confirmed(outcome, cause) => {
                let error = outcome_error(outcome, cause.as_deref());
                Err(match is_shortage(outcome) {
                    true => Status::resource_exhausted(error),
                    false => Status::failed_precondition(error),
                })
            }
            Answer::Wrong(reason) => Err(Status::invalid_argument(&*reason)),
            Answer::Purged(_) | Answer::Committed | Answer::Unsubscribed(_) => {
                Err(Status::internal("a message was answered as something else"))
            }
        }
    }
}

#[tonic::async_trait]
impl MessagingService for Messaging {
    type PublishStream = Frames<Confirms, CallGuard>;
    type ConsumeStream = OfferStream;
    type BrowseStream = crate::browse::Pages;

    async fn send(
        &self,
        request: Request<v1::SendRequest>,
    ) -> Result<Response<v1::SendResponse>, Status> {
        let span = span_of(info_span!("send"), request.metadata());
        let trace = trace_of(&span, request.metadata());
        let patience = patience_of(request.metadata());
        let sent = self.send_one(request.into_inner(), (trace, patience));
        let sent = sent.instrument(span);
        sent.await.map(Response::new)
    }

    async fn publish(
        &self,
        request: Request<Streaming<v1::PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let span = span_of(info_span!("publish"), request.metadata());
        let mailbox = Mailbox::new();
        let caller = Caller::Publisher(Arc::clone(&mailbox));
        let guard = self.engine.call(caller).await?;
        let reader = PublishReader {
            engine: self.engine.clone(),
            call: guard.call,
            publications: Publications::new(self.message_bytes_max),
            producer: None,
            trace: trace_of(&span, request.metadata()),
            patience: patience_of(request.metadata()),
            mailbox: Arc::clone(&mailbox),
        };
        tokio::spawn(reader.run(request.into_inner()).instrument(span));
        Ok(Response::new(Frames::new(mailbox, guard)))
    }

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let span = span_of(info_span!("consume"), request.metadata());
        let mailbox = Mailbox::new();
        let caller = Caller::Consumer(Arc::clone(&mailbox));
        let guard = self.engine.call(caller).await?;
        let reader = ConsumeReader {
            engine: self.engine.clone(),
            call: guard.call,
            mailbox: Arc::clone(&mailbox),
        };
        tokio::spawn(reader.run(request.into_inner()).instrument(span));
        Ok(Response::new(OfferStream {
            guard,
            frames: Frames::new(mailbox, ()),
        }))
    }

    async fn transact(
        &self,
        request: Request<Streaming<v1::TransactRequest>>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        let span = span_of(info_span!("transact"), request.metadata());
        let reader = TransactReader::new(&self.engine, self.message_bytes_max);
        let committed = reader.run(request.into_inner()).instrument(span);
        committed.await.map(Response::new)
    }

    async fn browse(
        &self,
        request: Request<v1::BrowseRequest>,
    ) -> Result<Response<Self::BrowseStream>, Status> {
        let span = span_of(info_span!("browse"), request.metadata());
        let pages = self.browser.browse(&request.into_inner(), span)?;
        Ok(Response::new(pages))
    }
}

/// The client's side of a publish call.
struct PublishReader {
    engine: Engine,
    call: CallId,
    publications: Publications,
    producer: Option<(bytes::Bytes, quorate_message::ProducerId)>,
    trace: Option<Arc<str>>,
    /// Until when the client waits.
    patience: Option<Duration>,
    mailbox: Arc<Mailbox<Confirms>>,
}

impl PublishReader {
    async fn run(mut self, mut requests: Streaming<v1::PublishRequest>) {
        let mailbox = Arc::clone(&self.mailbox);
        let (engine, call, patience) = (self.engine.clone(), self.call, self.patience);
        let ended = tokio::select! {
            read = self.read(&mut requests) => read,
            () = over(patience) => engine.tell(Event::Input(Input::GiveUp { call })).await,
        };
        if let Err(status) = ended {
            debug!(%call, %status, "publish call ends");
            mailbox.end(Err(status));
        }
    }

    async fn read(&mut self, requests: &mut Streaming<v1::PublishRequest>) -> Result<(), Status> {
        let call = self.call;
        while self.mailbox.may_read().await {
            let next = tokio::select! {
                next = requests.message() => next?,
                () = self.mailbox.ended() => return Ok(()),
            };
            let Some(request) = next else {
                let finished = Event::Input(Input::Finished { call });
                self.engine.tell(finished).await?;
                // Its time runs on: what it sent may wait for room.
                self.mailbox.ended().await;
                return Ok(());
            };
            let (producer, messages) = self.check(request)?;
            let input = Input::Publish {
                call,
                producer: Some(producer),
                messages,
                trace: self.trace.clone(),
            };
            self.engine.tell(Event::Input(input)).await?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        request: v1::PublishRequest,
    ) -> Result<(quorate_message::ProducerId, Vec<Sent>), Status> {
        let id = request.producer_id;
        let producer = match &self.producer {
            Some((named, producer)) if id.is_empty() || *named == id => *producer,
            Some(_) => {
                return Err(Status::invalid_argument(
                    "producer_id changed within the call; open another call for another producer",
                ));
            }
            None => {
                let producer = convert::producer(&id)?;
                self.producer = Some((bytes::Bytes::copy_from_slice(&id), producer));
                producer
            }
        };
        Ok((producer, self.publications.read(request.messages, true)?))
    }
}

/// The client's side of a consumer's call.
struct ConsumeReader {
    engine: Engine,
    call: CallId,
    mailbox: Arc<Mailbox<Offers>>,
}

impl ConsumeReader {
    async fn run(self, mut requests: Streaming<v1::ConsumeRequest>) {
        if let Err(status) = self.read(&mut requests).await {
            debug!(call = %self.call, %status, "consumer's call ends");
            self.mailbox.end(Err(status));
        }
    }

    async fn read(&self, requests: &mut Streaming<v1::ConsumeRequest>) -> Result<(), Status> {
        let call = self.call;
        let request = first(requests.message(), FIRST_REQUEST_TIMEOUT).await?;
        let Some(Kind::Open(open)) = request.kind else {
            return Err(Status::invalid_argument(
                "the first request of a consumer must be `open`",
            ));
        };
        let mut random = ConsumerId::default();
        getrandom::fill(&mut random.0)
            .map_err(|error| Status::internal(format!("randomness: {error}")))?;
        let open = convert::open(open, random, wall_ms().saturating_mul(1_000))?;
        self.engine
            .tell(Event::Input(Input::Consume { call, open }))
            .await?;
        while self.mailbox.may_read().await {
            let next = tokio::select! {
                next = requests.message() => next?,
                () = self.mailbox.ended() => return Ok(()),
            };
            let input = match next {
                None => Input::Finished { call },
                Some(request) => self.check(request)?,
            };
            let is_last = matches!(input, Input::Finished { .. });
            self.engine.tell(Event::Input(input)).await?;
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn check(&self, request: v1::ConsumeRequest) -> Result<Input, Status> {
        let call = self.call;
        match request.kind {
            Some(Kind::Credit(credit)) => Ok(Input::Credited {
                call,
                credit: convert::credit(&credit),
            }),
            Some(Kind::Settle(settle)) => {
                let (settlement, positions) = convert::settle(&settle)?;
                Ok(Input::Settle {
                    call,
                    settlement,
                    positions,
                    token: settle.token,
                })
            }
            Some(Kind::Open(_)) => Err(Status::invalid_argument(
                "the consumer is open; open another call for another consumer",
            )),
            None => Err(Status::invalid_argument(
                "request of no kind; send `credit` or `settle`",
            )),
        }
    }
}

/// What a consumer is sent. What the connection takes, the leader may send again.
#[derive(Debug)]
pub(crate) struct OfferStream {
    guard: CallGuard,
    frames: Frames<Offers, ()>,
}

impl Stream for OfferStream {
    type Item = Result<v1::ConsumeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.frames).poll_next(context);
        polled.map(|next| {
            next.map(|frame| {
                let frame = frame?;
                if frame.taken > 0 {
                    self.guard.taken(frame.taken);
                }
                frame.response
            })
        })
    }
}
