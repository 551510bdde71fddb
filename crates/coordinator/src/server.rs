//! The gRPC service: streams in, events out. It checks what comes in and takes no decision.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quorate_proto::internal::v1::{
    AttendGatewayRequest, AttendGatewayResponse, AttendRequest, AttendResponse, MoveNameRequest,
    MoveNameResponse, OperateRequest, OperateResponse, ReplaceSettingsRequest,
    ReplaceSettingsResponse, Topology, WatchTopologyRequest, WatchTopologyResponse,
    attend_request::Kind, coordination_service_server::CoordinationService,
};
use quorate_replication::ShardId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, WatchStream},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    controller::{Input, StreamId},
    convert::{self, Said},
    events::{Event, Outgoing},
    limits::{OUTGOING, REGISTER_TIMEOUT_MS, STREAMS_MAX, WATCHERS_MAX},
};

/// The service; clones share everything.
#[derive(Clone)]
pub(crate) struct Server {
    cluster: Arc<str>,
    events: mpsc::Sender<Event>,
    topology: watch::Receiver<Option<Arc<Topology>>>,
    next_stream: Arc<AtomicU64>,
    streams: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

impl Server {
    pub(crate) fn new(
        cluster: &str,
        events: mpsc::Sender<Event>,
        topology: watch::Receiver<Option<Arc<Topology>>>,
    ) -> Self {
        Self {
            cluster: Arc::from(cluster),
            events,
            topology,
            next_stream: Arc::new(AtomicU64::new(1)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        }
    }

    fn new_stream(&self) -> Result<(StreamId, OwnedSemaphorePermit), Status> {
        let permit = take(&self.streams, "streams")?;
        let number = self.next_stream.fetch_add(1, Ordering::Relaxed);
        Ok((StreamId(number), permit))
    }

    async fn tell(&self, event: Event) -> Result<(), Status> {
        self.events
            .send(event)
            .await
            .map_err(|_| Status::unavailable("this coordinator is stopping"))
    }
}

fn take(semaphore: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(semaphore)
        .try_acquire_owned()
        .map_err(|_| Status::resource_exhausted(format!("too many {what} are open")))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl CoordinationService for Server {
    type AttendStream = Answers<AttendResponse>;
    type WatchTopologyStream = Answers<WatchTopologyResponse>;
    type AttendGatewayStream = Answers<AttendGatewayResponse>;

    async fn attend(
        &self,
        request: Request<Streaming<AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let (stream, permit) = self.new_stream()?;
        let (messages, answers) = mpsc::channel(OUTGOING);
        let server = self.clone();
        let incoming = request.into_inner();
        // The answer's head goes out before the first message has come: a client may wait for it before it speaks.
        tokio::spawn(async move {
            let refused = messages.clone();
            if let Err(status) = server.read_node(stream, incoming, messages).await {
                drop(refused.send(Err(status)).await);
            }
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn watch_topology(
        &self,
        request: Request<WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let request = request.into_inner();
        convert::check_cluster(&self.cluster, &request.cluster)?;
        let permit = take(&self.watchers, "watches of the topology")?;
        let pictures = WatchStream::new(self.topology.clone()).map(move |picture| {
            let _held = &permit;
            match picture {
                Some(picture) => Ok(WatchTopologyResponse {
                    topology: Some(picture.as_ref().clone()),
                }),
                None => Err(Status::failed_precondition(
                    "this coordinator is not the active one; try the others",
                )),
            }
        });
        Ok(Response::new(Box::pin(pictures)))
    }

    async fn replace_settings(
        &self,
        request: Request<ReplaceSettingsRequest>,
    ) -> Result<Response<ReplaceSettingsResponse>, Status> {
        let request = request.into_inner();
        convert::check_cluster(&self.cluster, &request.cluster)?;
        let settings = convert::wanted_settings(&request.settings)?;
        let (answer, answered) = oneshot::channel();
        self.tell(Event::SettingsWanted {
            expected: request.expected_version,
            settings,
            answer,
        })
        .await?;
        let answer = answered
            .await
            .map_err(|_| Status::unavailable("this coordinator is stopping; try again"))?;
        convert::settings_answer(answer).map(Response::new)
    }

    async fn move_name(
        &self,
        request: Request<MoveNameRequest>,
    ) -> Result<Response<MoveNameResponse>, Status> {
        let request = request.into_inner();
        convert::check_cluster(&self.cluster, &request.cluster)?;
        let name = convert::destination_name(&request.name)?;
        let (answer, answered) = oneshot::channel();
        let to = ShardId(request.shard);
        self.tell(Event::MoveWanted { name, to, answer }).await?;
        let answer = answered
            .await
            .map_err(|_| Status::unavailable("this coordinator is stopping; try again"))?;
        convert::move_answer(answer).map(Response::new)
    }

    async fn operate(
        &self,
        request: Request<OperateRequest>,
    ) -> Result<Response<OperateResponse>, Status> {
        let request = request.into_inner();
        convert::check_cluster(&self.cluster, &request.cluster)?;
        let wish = convert::wish(request)?;
        let (answer, answered) = oneshot::channel();
        self.tell(Event::Wished { wish, answer }).await?;
        let answer = answered
            .await
            .map_err(|_| Status::unavailable("this coordinator is stopping; try again"))?;
        match answer {
            Ok(()) => Ok(Response::new(OperateResponse {})),
            Err(refusal) => Err(convert::status(&refusal)),
        }
    }

    async fn attend_gateway(
        &self,
        request: Request<AttendGatewayRequest>,
    ) -> Result<Response<Self::AttendGatewayStream>, Status> {
        let request = request.into_inner();
        convert::check_cluster(&self.cluster, &request.cluster)?;
        convert::check_name("name", &request.name)?;
        convert::check_address(&request.address)?;
        let (stream, permit) = self.new_stream()?;
        let (messages, answers) = mpsc::channel(1);
        let (reader, ended) = oneshot::channel();
        let gone = messages.clone();
        self.tell(Event::GatewayAttended {
            stream,
            name: request.name,
            address: request.address,
            outgoing: Outgoing {
                messages,
                _reader: reader,
            },
        })
        .await?;
        let server = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = gone.closed() => {
                    drop(server.tell(Event::Told(Input::GatewayLeft { stream })).await);
                }
                _ = ended => {}
            }
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

impl Server {
    /// Reads a node's stream to its end. An error is what the node is told.
    async fn read_node(
        &self,
        stream: StreamId,
        mut incoming: Streaming<AttendRequest>,
        messages: mpsc::Sender<Result<AttendResponse, Status>>,
    ) -> Result<(), Status> {
        let limit = Duration::from_millis(REGISTER_TIMEOUT_MS);
        let first = tokio::time::timeout(limit, incoming.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no registration came"))??;
        let Some(Kind::Register(register)) = first.and_then(|first| first.kind) else {
            return Err(Status::invalid_argument(
                "the stream must begin with a registration",
            ));
        };
        convert::check_cluster(&self.cluster, &register.cluster)?;
        let registration = convert::registration(register)?;
        let (reader, mut ended) = oneshot::channel();
        self.tell(Event::Registered {
            stream,
            registration,
            outgoing: Outgoing {
                messages,
                _reader: reader,
            },
        })
        .await?;
        let result = loop {
            let request = tokio::select! {
                // The controller ended the stream and needs no telling.
                _ = &mut ended => return Ok(()),
                request = incoming.message() => request,
            };
            match request.map(|request| request.map(convert::said)) {
                Ok(Some(Ok(said))) => {
                    let input = match said {
                        Said::Heartbeat(heartbeat) => Input::Heartbeat { stream, heartbeat },
                        Said::Report(shard, report) => Input::Reported {
                            stream,
                            shard,
                            report,
                        },
                        Said::Move(report) => Input::MoveReported(report),
                    };
                    self.tell(Event::Told(input)).await?;
                }
                Ok(Some(Err(status))) => break Err(status),
                Ok(None) | Err(_) => break Ok(()),
            }
        };
        self.tell(Event::Told(Input::StreamClosed { stream }))
            .await?;
        result
    }
}
