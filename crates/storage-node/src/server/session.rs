//! The two streams of a gateway.

use std::sync::Arc;

use quorate_message::GatewayId;
use quorate_proto::internal::v1::{
    ControlRequest, ControlResponse, PayloadRequest, PayloadResponse, SessionHello,
    control_request, payload_request, session_service_server::SessionService,
};
use quorate_replication::{Epoch, ShardId};
use quorate_service::trace_context;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Span, info_span};

use super::{Services, check_hello, first};
use crate::{
    convert::session::{
        Decoded, Submitted, decode_batch, decode_command, encode_not_leading, encode_overloaded,
    },
    frames::Frames,
    limits::{CONTROL_COMMANDS_MAX, HELLO_TIMEOUT, SESSION_FRAME_BYTES},
    mailbox::Refused,
    runtime::{Item, Shards},
    sessions::{JoinError, Session, Sessions, Side},
    shard::input::{Input, SessionRequest, Submission},
};

/// What waits costs this much beside its batch.
const ITEM_COST: usize = 128;

#[tonic::async_trait]
impl SessionService for Services {
    type ControlStream =
        Frames<quorate_proto::internal::v1::ControlEvent, Result<ControlResponse, Status>>;
    type PayloadStream =
        Frames<quorate_proto::internal::v1::ShardDeliveries, Result<PayloadResponse, Status>>;

    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let mut stream = request.into_inner();
        let Some(control_request::Kind::Hello(hello)) = first(&mut stream).await?.kind else {
            return Err(Status::invalid_argument(
                "control: the first frame must be `hello`",
            ));
        };
        let session = self.join(hello, Side::Control)?;
        let frames = Frames::new(
            Arc::clone(&session.control),
            SESSION_FRAME_BYTES,
            |events| Ok(ControlResponse { events }),
        )
        .guard(self.guard(&session));
        let guard = self.guard(&session);
        let shards = Arc::clone(&self.shards);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let guard = guard;
            if !wait_for_both(&guard.session).await {
                return;
            }
            loop {
                let frame = tokio::select! {
                    frame = stream.message() => frame,
                    () = shutdown.requested() => return,
                };
                let Ok(Some(frame)) = frame else {
                    return;
                };
                if let Err(status) = control_frame(&shards, &guard.session, frame) {
                    tracing::warn!(gateway = guard.session.gateway, %status, "malformed control frame");
                    return;
                }
            }
        });
        Ok(Response::new(frames))
    }

    async fn payload(
        &self,
        request: Request<Streaming<PayloadRequest>>,
    ) -> Result<Response<Self::PayloadStream>, Status> {
        let mut stream = request.into_inner();
        let Some(payload_request::Kind::Hello(hello)) = first(&mut stream).await?.kind else {
            return Err(Status::invalid_argument(
                "payload: the first frame must be `hello`",
            ));
        };
        let session = self.join(hello, Side::Payload)?;
        let frames = Frames::new(
            Arc::clone(&session.payload),
            SESSION_FRAME_BYTES,
            |deliveries| Ok(PayloadResponse { deliveries }),
        )
        .guard(self.guard(&session));
        let guard = self.guard(&session);
        let shards = Arc::clone(&self.shards);
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let guard = guard;
            if !wait_for_both(&guard.session).await {
                return;
            }
            loop {
                let frame = tokio::select! {
                    frame = stream.message() => frame,
                    () = shutdown.requested() => return,
                };
                let Ok(Some(PayloadRequest {
                    kind: Some(payload_request::Kind::Batches(batches)),
                })) = frame
                else {
                    return;
                };
                for batch in batches.batches {
                    let (shard, submitted) = decode_batch(batch);
                    submit(&shards, &guard.session, shard, submitted);
                }
            }
        });
        Ok(Response::new(frames))
    }
}

/// Ends the session when a part of it is dropped.
struct Guard {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sessions.end(&self.session, "a stream ended");
    }
}

impl Services {
    fn join(&self, hello: SessionHello, side: Side) -> Result<Arc<Session>, Status> {
        check_hello(&self.cluster, &hello.cluster, &hello.gateway)?;
        let incarnation = GatewayId::try_from(&hello.incarnation[..]).map_err(|error| {
            Status::invalid_argument(format!("hello: incarnation: {error}; upgrade the gateway"))
        })?;
        let gateway = (hello.gateway, incarnation);
        let joined = self.sessions.join(gateway, hello.session, side);
        joined.map_err(|error| match error {
            JoinError::Taken => Status::already_exists(error.to_string()),
            JoinError::TooMany => Status::resource_exhausted(error.to_string()),
        })
    }

    fn guard(&self, session: &Arc<Session>) -> Guard {
        Guard {
            sessions: Arc::clone(&self.sessions),
            session: Arc::clone(session),
        }
    }
}

/// Nothing is taken in before the answers have a way back.
async fn wait_for_both(session: &Session) -> bool {
    let both = async { session.both().await };
    tokio::time::timeout(HELLO_TIMEOUT, both).await.is_ok()
}

fn control_frame(shards: &Shards, session: &Session, frame: ControlRequest) -> Result<(), Status> {
    let Some(control_request::Kind::Commands(commands)) = frame.kind else {
        return Err(Status::invalid_argument(
            "control: only `commands` may follow the first frame",
        ));
    };
    if commands.commands.len() > CONTROL_COMMANDS_MAX {
        return Err(Status::invalid_argument(
            "control: too many commands in one frame",
        ));
    }
    for command in commands.commands {
        let (shard, decoded) = decode_command(command)?;
        match decoded {
            Decoded::Submit(submitted) => submit(shards, session, shard, submitted),
            Decoded::Request(request) => ask(shards, session, shard, request),
        }
    }
    Ok(())
}

fn submit(shards: &Shards, session: &Session, shard: ShardId, submitted: Submitted) {
    let number = submitted.number;
    let size_bytes = submitted.batch.len() + ITEM_COST;
    let span = span_of(session, shard, &submitted);
    let submission = Submission {
        session: session.id,
        number,
        previous: submitted.previous,
        batch: submitted.batch,
    };
    let item = Item::Submit(submission, span);
    let event = match shards.offer(shard, vec![item], size_bytes) {
        Ok(()) => return,
        Err(Refused::Full) => encode_overloaded(shard, number, "shard: too much waits"),
        Err(Refused::Closed) => encode_not_leading(shard, number, Epoch(0)),
    };
    session.tell(event, ITEM_COST);
}

/// The span of a batch that belongs to a trace, from its arrival to its outcome; without one it costs nothing.
fn span_of(session: &Session, shard: ShardId, submitted: &Submitted) -> Span {
    if submitted.traceparent.is_empty() {
        return Span::none();
    }
    let (shard, number) = (shard.0, submitted.number);
    let span = info_span!(parent: None, "store", gateway = session.gateway, shard, number);
    trace_context::from_text(&span, &submitted.traceparent);
    span
}

fn ask(shards: &Shards, session: &Session, shard: ShardId, request: SessionRequest) {
    let is_attach = matches!(
        request,
        SessionRequest::Attach { .. } | SessionRequest::Reported
    );
    let item = Item::Input(Input::Session {
        session: session.id,
        gateway: session.incarnation,
        request,
    });
    // Bounded by the frame that it came in; and a lost credit would stall a consumer for good.
    match shards.get(shard) {
        Some(handle) if handle.mailbox.push_always([item], ITEM_COST) => {
            // The session may have ended before this came in: then the shard hears of its end once more, behind it.
            if session.is_ended() {
                let lost = Item::Input(Input::SessionLost {
                    session: session.id,
                });
                handle.mailbox.push_always([lost], ITEM_COST);
            }
        }
        Some(_) | None if is_attach => {
            let event = encode_not_leading(shard, 0, Epoch(0));
            session.tell(event, ITEM_COST);
        }
        Some(_) | None => {}
    }
}
