//! The played cluster: one node, one shard, one queue, in memory, behind the real services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use quorate_message::{Batch, Command, MessagePosition, ProducerId};
use quorate_proto::{
    internal::v1::{
        self as wire,
        coordination_service_server::{CoordinationService, CoordinationServiceServer},
        node_service_server::{NodeService, NodeServiceServer},
        session_service_server::{SessionService, SessionServiceServer},
    },
    v1,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const ROOM: usize = 100_000;

/// A queue that never has room, and holds producers back.
pub(crate) const FULL: &str = "full";

#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    broken: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    entries: u64,
    messages: BTreeMap<MessagePosition, Bytes>,
    seen: BTreeSet<(ProducerId, u64)>,
    consumer: Option<Consumer>,
    control: Option<mpsc::Sender<Result<wire::ControlResponse, Status>>>,
    payload: Option<mpsc::Sender<Result<wire::PayloadResponse, Status>>>,
    lose_answers: bool,
}

struct Consumer {
    id: Bytes,
    generation: u64,
    credit: u64,
    sent: BTreeSet<MessagePosition>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            changed: Arc::default(),
            broken: Arc::new(watch::Sender::new(0)),
        };
        let server = Server::builder()
            .add_service(CoordinationServiceServer::new(cluster.clone()))
            .add_service(SessionServiceServer::new(cluster.clone()))
            .add_service(NodeServiceServer::new(cluster.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(async move { server.await.unwrap() });
        cluster
    }

    pub(crate) fn messages(&self) -> usize {
        self.state().messages.len()
    }

    /// Answers are lost from now on, or no longer.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.state().lose_answers = lose;
    }

    /// Ends all streams of all sessions.
    pub(crate) fn break_links(&self) {
        self.state().consumer = None;
        self.broken.send_modify(|times| *times += 1);
    }

    pub(crate) async fn stored(&self, count: usize) {
        self.when(|state| state.messages.len() >= count).await;
    }

    pub(crate) async fn detached(&self) {
        self.when(|state| state.consumer.is_none()).await;
    }

    async fn when(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn topology(&self) -> wire::Topology {
        wire::Topology {
            cluster: "quorate".to_owned(),
            version: 1,
            nodes: vec![wire::NodeInfo {
                id: 1,
                name: "mq01".to_owned(),
                address: self.address.to_string(),
                alive: true,
                ..wire::NodeInfo::default()
            }],
            shards: vec![wire::ShardInfo {
                id: 1,
                epoch: 1,
                leader: 1,
                voters: vec![wire::Member { node: 1, disk: 1 }],
                leaderless_reason: String::new(),
            }],
            slots: vec![1; 1024],
            ..wire::Topology::default()
        }
    }

    /// Reads a stream until it ends or the links break.
    fn read<T: Send + 'static>(
        &self,
        mut stream: Streaming<T>,
        mut take: impl FnMut(&mut State, T) + Send + 'static,
    ) {
        let cluster = self.clone();
        let mut broken = self.broken.subscribe();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = stream.next() => next,
                    _ = broken.changed() => {
                        let mut state = cluster.state();
                        state.control = None;
                        state.payload = None;
                        return;
                    }
                };
                let Some(Ok(frame)) = next else { return };
                let mut state = cluster.state();
                take(&mut state, frame);
                state.deliver();
                drop(state);
                cluster.changed.notify_waiters();
            }
        });
    }
}

impl State {
    fn say(&self, kind: wire::control_event::Kind) {
        if self.lose_answers {
            return;
        }
        if let Some(control) = &self.control {
            let event = wire::ControlEvent {
                shard: 1,
                kind: Some(kind),
            };
            let events = vec![event];
            drop(control.try_send(Ok(wire::ControlResponse { events })));
        }
    }

    fn submit(&mut self, number: u64, batch: Bytes) {
        self.entries += 1;
        let batch = Batch::parse(batch).unwrap();
        let mut removed = 0;
        let mut each = Vec::new();
        for (ordinal, command) in batch.commands() {
            each.push(match command {
                Command::Publish { destination, .. }
                    if batch.destination(destination).name.as_str() == FULL =>
                {
                    v1::Outcome::Blocked as i32
                }
                Command::Publish {
                    producer, number, ..
                } => {
                    if self.seen.insert((producer, number)) {
                        let position = MessagePosition::new(self.entries, ordinal);
                        let message = batch.message(ordinal).unwrap();
                        self.messages.insert(position, message);
                        v1::Outcome::Stored as i32
                    } else {
                        v1::Outcome::Duplicate as i32
                    }
                }
                Command::Settle { position, .. } => match self.messages.remove(&position) {
                    Some(_) => v1::Outcome::Applied as i32,
                    None => v1::Outcome::UnknownMessage as i32,
                },
                Command::Purge { .. } | Command::Delete { .. } => {
                    removed = self.messages.len() as u64;
                    self.messages.clear();
                    v1::Outcome::Applied as i32
                }
                Command::Subscribe { .. }
                | Command::Unsubscribe { .. }
                | Command::Pause { .. }
                | Command::Origin { .. }
                | Command::Register { .. } => v1::Outcome::Applied as i32,
                Command::Checkpoint { .. }
                | Command::Relocate { .. }
                | Command::Configure { .. }
                | Command::Tick { .. }
                | Command::GatewayAttached { .. }
                | Command::Skip { .. }
                | Command::GatewayLost { .. }
                | Command::Dispatched { .. }
                | Command::Transfer { .. }
                | Command::Transferred { .. }
                | Command::Prepare { .. }
                | Command::Decide { .. }
                | Command::Finish { .. }
                | Command::Forget { .. } => panic!("no gateway sends these"),
            });
        }
        let same = each.iter().all(|outcome| *outcome == each[0]);
        self.say(wire::control_event::Kind::Outcomes(wire::Outcomes {
            number,
            all: if same { each[0] } else { 0 },
            each: if same { Vec::new() } else { each },
            removed,
        }));
    }

    fn command(&mut self, command: wire::ControlCommand) {
        use wire::control_command::Kind;
        match command.kind.unwrap() {
            Kind::Attach(attach) => {
                let held = attach
                    .held
                    .iter()
                    .map(|held| MessagePosition::from_value(*held));
                self.consumer = Some(Consumer {
                    id: attach.consumer.clone(),
                    generation: attach.generation,
                    credit: u64::from(attach.credit_messages),
                    sent: held.collect(),
                });
                self.say(wire::control_event::Kind::Attached(wire::Attached {
                    consumer: attach.consumer,
                    generation: attach.generation,
                    lost: Vec::new(),
                }));
            }
            Kind::Report(_) | Kind::Leave(_) => {}
            Kind::Detach(_) => self.consumer = None,
            Kind::Credit(credit) => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.credit += u64::from(credit.messages);
                }
            }
            Kind::Recall(_) => panic!("no consumer reads from several shards"),
            Kind::Submit(submit) => self.submit(submit.number, submit.batch),
        }
    }

    fn deliver(&mut self) {
        let (Some(consumer), Some(payload)) = (&mut self.consumer, &self.payload) else {
            return;
        };
        let mut deliveries = Vec::new();
        for (position, message) in &self.messages {
            if consumer.credit == 0 || !consumer.sent.insert(*position) {
                continue;
            }
            consumer.credit -= 1;
            deliveries.push(stored(
                &consumer.id,
                consumer.generation,
                *position,
                message,
            ));
        }
        if !deliveries.is_empty() {
            let deliveries = vec![wire::ShardDeliveries {
                shard: 1,
                epoch: 1,
                deliveries,
            }];
            drop(payload.try_send(Ok(wire::PayloadResponse { deliveries })));
        }
    }
}

fn stored(
    consumer: &Bytes,
    generation: u64,
    position: MessagePosition,
    message: &Bytes,
) -> wire::StoredDelivery {
    wire::StoredDelivery {
        consumer: consumer.clone(),
        generation,
        position: position.value(),
        delivery_count: 0,
        redelivered: false,
        message: message.clone(),
        ..wire::StoredDelivery::default()
    }
}

#[tonic::async_trait]
impl SessionService for Cluster {
    type ControlStream = Answers<wire::ControlResponse>;
    type PayloadStream = Answers<wire::PayloadResponse>;

    async fn control(
        &self,
        request: Request<Streaming<wire::ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (answers, receiver) = mpsc::channel(ROOM);
        self.state().control = Some(answers);
        self.read(request.into_inner(), |state, frame| {
            match frame.kind.unwrap() {
                wire::control_request::Kind::Hello(hello) => assert_eq!(hello.cluster, "quorate"),
                wire::control_request::Kind::Commands(commands) => {
                    for command in commands.commands {
                        state.command(command);
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn payload(
        &self,
        request: Request<Streaming<wire::PayloadRequest>>,
    ) -> Result<Response<Self::PayloadStream>, Status> {
        let (answers, receiver) = mpsc::channel(ROOM);
        self.state().payload = Some(answers);
        self.read(request.into_inner(), |state, frame| {
            match frame.kind.unwrap() {
                wire::payload_request::Kind::Hello(hello) => assert_eq!(hello.cluster, "quorate"),
                wire::payload_request::Kind::Batches(batches) => {
                    for batch in batches.batches {
                        state.submit(batch.number, batch.batch);
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[tonic::async_trait]
impl NodeService for Cluster {
    async fn check_move(
        &self,
        _request: Request<wire::CheckMoveRequest>,
    ) -> Result<Response<wire::CheckMoveResponse>, Status> {
        Err(Status::unimplemented("nothing moves here"))
    }

    async fn list_scheduled(
        &self,
        _: Request<wire::ListScheduledRequest>,
    ) -> Result<Response<wire::ListScheduledResponse>, Status> {
        Ok(Response::new(wire::ListScheduledResponse {
            messages: Vec::new(),
            end: true,
        }))
    }

    async fn list_queues(
        &self,
        _request: Request<wire::ListQueuesRequest>,
    ) -> Result<Response<wire::ListQueuesResponse>, Status> {
        let queue = wire::QueueStatus {
            name: "orders".to_owned(),
            shard: 1,
            messages: self.messages() as u64,
            ..wire::QueueStatus::default()
        };
        Ok(Response::new(wire::ListQueuesResponse {
            queues: vec![queue],
            shards: vec![1],
        }))
    }

    async fn browse_page(
        &self,
        request: Request<wire::BrowsePageRequest>,
    ) -> Result<Response<wire::BrowsePageResponse>, Status> {
        let request = request.into_inner();
        let state = self.state();
        let rest = state
            .messages
            .iter()
            .filter(|(at, _)| at.value() > request.after);
        let rest: Vec<_> = rest
            .map(|(position, message)| stored(&Bytes::new(), 0, *position, message))
            .collect();
        let limit = request.limit as usize;
        Ok(Response::new(wire::BrowsePageResponse {
            end: rest.len() <= limit,
            messages: rest.into_iter().take(limit).collect(),
        }))
    }

    async fn move_page(
        &self,
        _request: Request<wire::MovePageRequest>,
    ) -> Result<Response<wire::MovePageResponse>, Status> {
        Err(Status::unimplemented("nothing is moved here"))
    }

    async fn list_topics(
        &self,
        _request: Request<wire::ListTopicsRequest>,
    ) -> Result<Response<wire::ListTopicsResponse>, Status> {
        Ok(Response::new(wire::ListTopicsResponse::default()))
    }

    async fn list_subscriptions(
        &self,
        _request: Request<wire::ListSubscriptionsRequest>,
    ) -> Result<Response<wire::ListSubscriptionsResponse>, Status> {
        Ok(Response::new(wire::ListSubscriptionsResponse::default()))
    }

    async fn list_outbox(
        &self,
        _request: Request<wire::ListOutboxRequest>,
    ) -> Result<Response<wire::ListOutboxResponse>, Status> {
        Ok(Response::new(wire::ListOutboxResponse::default()))
    }

    async fn get_status(
        &self,
        _request: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        Ok(Response::new(wire::GetStatusResponse {
            node: 1,
            replicas: vec![wire::ReplicaStatus {
                shard: 1,
                ..wire::ReplicaStatus::default()
            }],
            ..wire::GetStatusResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl CoordinationService for Cluster {
    type AttendStream = Answers<wire::AttendResponse>;
    type WatchTopologyStream = Answers<wire::WatchTopologyResponse>;
    type AttendGatewayStream = Answers<wire::AttendGatewayResponse>;

    async fn move_name(
        &self,
        _request: Request<wire::MoveNameRequest>,
    ) -> Result<Response<wire::MoveNameResponse>, Status> {
        Err(Status::unimplemented("nothing moves here"))
    }

    async fn operate(
        &self,
        _request: Request<wire::OperateRequest>,
    ) -> Result<Response<wire::OperateResponse>, Status> {
        Err(Status::unimplemented("nobody operates here"))
    }

    async fn replace_settings(
        &self,
        _request: Request<wire::ReplaceSettingsRequest>,
    ) -> Result<Response<wire::ReplaceSettingsResponse>, Status> {
        Err(Status::unimplemented("no settings here"))
    }

    async fn attend(
        &self,
        _request: Request<Streaming<wire::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        Err(Status::unimplemented("no nodes here"))
    }

    async fn watch_topology(
        &self,
        _request: Request<wire::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let topology = Some(self.topology());
        let first = tokio_stream::once(Ok(wire::WatchTopologyResponse { topology }));
        Ok(Response::new(Box::pin(
            first.chain(tokio_stream::pending()),
        )))
    }

    async fn attend_gateway(
        &self,
        _request: Request<wire::AttendGatewayRequest>,
    ) -> Result<Response<Self::AttendGatewayStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}
