//! Fake gateways: gRPC servers that break calls on request.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_proto::v1::{
    self, BrowseRequest, BrowseResponse, Confirm, ConsumeRequest, ConsumeResponse, Credit,
    DeleteSubscriptionRequest, DeleteSubscriptionResponse, Deliveries, GetClusterRequest,
    GetClusterResponse, ListQueuesRequest, ListQueuesResponse, ListSubscriptionsRequest,
    ListSubscriptionsResponse, ListTopicsRequest, ListTopicsResponse, LocateDestinationRequest,
    LocateDestinationResponse, MoveDestinationRequest, MoveDestinationResponse, Opened,
    PublishRequest, PublishResponse, PurgeQueueRequest, PurgeQueueResponse, Queue, SendRequest,
    SendResponse, Settled, ShowPlacementRequest, ShowPlacementResponse,
    admin_service_server::{AdminService, AdminServiceServer},
    consume_request, consume_response,
    messaging_service_server::{MessagingService, MessagingServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, sync::oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use crate::store::Store;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fault {
    /// Every so many requests with messages are stored, and the call ends without their confirms.
    pub(crate) break_publish_every: Option<u64>,
    /// Every so many settlements are applied, and the call ends without their answers.
    pub(crate) break_consume_every: Option<u64>,
}

/// See the module.
pub(crate) struct Gateways {
    shared: Arc<Shared>,
    gateways: Vec<Gateway>,
}

struct Gateway {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    store: Mutex<Store>,
    fault: Mutex<Fault>,
    publishes: AtomicU64,
    settles: AtomicU64,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic while locked")
    }

    fn breaks(&self, counter: &AtomicU64, every: impl Fn(&Fault) -> Option<u64>) -> bool {
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = *self.fault.lock().expect("no panic while locked");
        every(&fault).is_some_and(|every| count.is_multiple_of(every))
    }
}

impl Gateways {
    pub(crate) fn start(count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            gateways: (0..count).map(|_| Gateway::start(&shared, any)).collect(),
            shared,
        }
    }

    pub(crate) fn address(&self) -> String {
        let list: Vec<String> = self
            .gateways
            .iter()
            .map(|gateway| format!("tcp://{}", gateway.address))
            .collect();
        format!("failover:({})", list.join(","))
    }

    pub(crate) fn inject(&self, fault: Fault) {
        *self.shared.fault.lock().expect("no panic while locked") = fault;
    }

    /// Cuts every connection of a gateway and closes its port.
    pub(crate) fn kill(&mut self, gateway: usize) {
        self.gateways[gateway].kill();
    }

    pub(crate) fn restart(&mut self, gateway: usize) {
        let address = self.gateways[gateway].address;
        self.gateways[gateway] = Gateway::start(&self.shared, address);
    }

    pub(crate) fn fill(&self, queue: &str, bodies: &[String]) {
        self.shared.store().fill(queue, bodies);
    }

    pub(crate) fn stored(&self, queue: &str) -> Vec<String> {
        self.shared.store().stored(queue)
    }

    pub(crate) fn queued(&self, queue: &str) -> Vec<String> {
        self.shared.store().queued(queue)
    }

    pub(crate) fn in_flight(&self, queue: &str) -> usize {
        self.shared.store().in_flight(queue)
    }

    pub(crate) fn repeats(&self) -> u64 {
        self.shared.store().repeats
    }
}

impl Gateway {
    fn start(shared: &Arc<Shared>, address: SocketAddr) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (listening, bound) = std::sync::mpsc::channel();
        let service = Service(Arc::clone(shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.expect("the port is free");
                listening
                    .send(listener.local_addr().expect("bound"))
                    .expect("the test waits");
                let server = tonic::transport::Server::builder()
                    .add_service(MessagingServiceServer::new(service.clone()))
                    .add_service(AdminServiceServer::new(service))
                    .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
                tokio::select! {
                    _ = stopped => {}
                    served = server => served.expect("it serves"),
                }
            });
            // All connections are tasks of this runtime and end with it.
            drop(runtime);
        });
        Self {
            address: bound.recv().expect("the server starts"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MessagingService for Service {
    type PublishStream = Answers<PublishResponse>;
    type ConsumeStream = Answers<ConsumeResponse>;
    type BrowseStream = Answers<BrowseResponse>;

    async fn send(&self, _: Request<SendRequest>) -> Result<Response<SendResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let result = publish(&shared, request.into_inner(), &sender).await;
            if let Err(status) = result {
                let _gone = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut consumer = Attached::default();
            let result = consumer.serve(&shared, request.into_inner(), &sender).await;
            let is_lost = result.is_err();
            if let Err(status) = result {
                let _gone = sender.send(Err(status)).await;
            }
            if !is_lost {
                shared.store().detach(&consumer.queue, &consumer.id);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn transact(
        &self,
        _request: Request<Streaming<v1::TransactRequest>>,
    ) -> Result<Response<v1::TransactResponse>, Status> {
        Err(Status::unimplemented(
            "the fake gateway knows no transactions",
        ))
    }

    async fn browse(
        &self,
        _: Request<BrowseRequest>,
    ) -> Result<Response<Self::BrowseStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

async fn publish(
    shared: &Shared,
    mut requests: Streaming<PublishRequest>,
    answers: &mpsc::Sender<Result<PublishResponse, Status>>,
) -> Result<(), Status> {
    let mut producer = Bytes::new();
    let mut ordinal = 0;
    while let Some(request) = requests.message().await? {
        if producer.is_empty() {
            producer = request.producer_id;
        }
        if producer.len() != 16 {
            return Err(Status::invalid_argument("producer_id must have 16 bytes"));
        }
        let mut confirms = Vec::new();
        for message in request.messages {
            if message.destination.contains(',') {
                let text = format!("destination {} has a comma", message.destination);
                return Err(Status::invalid_argument(text));
            }
            let outcome = shared.store().publish(&producer, message);
            confirms.push(Confirm {
                first: ordinal,
                count: 1,
                outcome: outcome.into(),
                error: String::new(),
            });
            ordinal += 1;
        }
        if shared.breaks(&shared.publishes, |fault| fault.break_publish_every) {
            return Err(Status::unavailable("broken on purpose"));
        }
        // Later ones first: the order of confirms is free.
        confirms.reverse();
        if answers
            .send(Ok(PublishResponse {
                confirms,
                held_back: Vec::new(),
            }))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Attached {
    queue: String,
    id: Bytes,
    credit: Credit,
}

impl Attached {
    async fn serve(
        &mut self,
        shared: &Shared,
        mut requests: Streaming<ConsumeRequest>,
        answers: &mpsc::Sender<Result<ConsumeResponse, Status>>,
    ) -> Result<(), Status> {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        loop {
            let request = tokio::select! {
                request = requests.message() => request?,
                _ = look.tick() => {
                    self.deliver(shared, answers).await?;
                    continue;
                }
            };
            let Some(request) = request else {
                return Ok(());
            };
            match request.kind {
                Some(consume_request::Kind::Open(open)) => {
                    self.queue = open.queue;
                    self.id = open.consumer_id;
                    self.credit = open.credit.unwrap_or_default();
                    let lost = shared.store().attach(&self.queue, &self.id, &open.held);
                    let opened = Opened {
                        lost,
                        consumer_id: self.id.clone(),
                    };
                    answer(answers, consume_response::Kind::Opened(opened)).await?;
                }
                Some(consume_request::Kind::Credit(credit)) => {
                    self.credit.messages += credit.messages;
                    self.credit.bytes += credit.bytes;
                }
                Some(consume_request::Kind::Settle(settle)) => {
                    let outcomes = settle
                        .positions
                        .iter()
                        .map(|position| {
                            let settlement = settle.settlement();
                            let outcome = shared.store().settle(&self.queue, settlement, position);
                            outcome.into()
                        })
                        .collect();
                    if shared.breaks(&shared.settles, |fault| fault.break_consume_every) {
                        return Err(Status::unavailable("broken on purpose"));
                    }
                    let settled = Settled {
                        token: settle.token,
                        outcomes,
                    };
                    answer(answers, consume_response::Kind::Settled(settled)).await?;
                }
                None => return Err(Status::invalid_argument("empty request")),
            }
        }
    }

    async fn deliver(
        &mut self,
        shared: &Shared,
        answers: &mpsc::Sender<Result<ConsumeResponse, Status>>,
    ) -> Result<(), Status> {
        let mut deliveries = Vec::new();
        while self.credit.messages > 0 && self.credit.bytes > 0 {
            let taken = shared.store().take(&self.queue, &self.id, 1);
            let Some(delivery) = taken.into_iter().next() else {
                break;
            };
            let body = delivery
                .message
                .as_ref()
                .map_or(0, |message| message.body.len());
            self.credit.messages -= 1;
            // As the broker's own encoding, this is more than the body.
            self.credit.bytes = self.credit.bytes.saturating_sub(body as u64 + 100);
            deliveries.push(delivery);
        }
        if deliveries.is_empty() {
            return Ok(());
        }
        let deliveries = Deliveries { deliveries };
        answer(answers, consume_response::Kind::Deliveries(deliveries)).await
    }
}

async fn answer(
    answers: &mpsc::Sender<Result<ConsumeResponse, Status>>,
    kind: consume_response::Kind,
) -> Result<(), Status> {
    let response = ConsumeResponse { kind: Some(kind) };
    answers
        .send(Ok(response))
        .await
        .map_err(|_| Status::cancelled("the client is gone"))
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn move_leader(
        &self,
        _request: Request<v1::MoveLeaderRequest>,
    ) -> Result<Response<v1::MoveLeaderResponse>, Status> {
        Err(Status::unimplemented("move leader"))
    }

    async fn drain_node(
        &self,
        _request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        Err(Status::unimplemented("drain"))
    }

    async fn pause_queue(
        &self,
        _request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::PauseQueueResponse>, Status> {
        Err(Status::unimplemented("pause"))
    }

    async fn resume_queue(
        &self,
        _request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::ResumeQueueResponse>, Status> {
        Err(Status::unimplemented("resume"))
    }

    async fn list_settings(
        &self,
        _request: Request<v1::ListSettingsRequest>,
    ) -> Result<Response<v1::ListSettingsResponse>, Status> {
        Err(Status::unimplemented("settings"))
    }

    async fn change_settings(
        &self,
        _request: Request<v1::ChangeSettingsRequest>,
    ) -> Result<Response<v1::ChangeSettingsResponse>, Status> {
        Err(Status::unimplemented("settings"))
    }

    async fn list_scheduled(
        &self,
        request: Request<v1::ListScheduledRequest>,
    ) -> Result<Response<v1::ListScheduledResponse>, Status> {
        assert_eq!(request.into_inner().destination, "orders");
        Ok(Response::new(v1::ListScheduledResponse {
            messages: vec![v1::Scheduled {
                due_ms: 1000,
                deliveries_left: 1,
                ..v1::Scheduled::default()
            }],
            end: true,
        }))
    }

    async fn cancel_scheduled(
        &self,
        _: Request<v1::CancelScheduledRequest>,
    ) -> Result<Response<v1::CancelScheduledResponse>, Status> {
        Ok(Response::new(v1::CancelScheduledResponse {
            cancelled: true,
        }))
    }

    async fn list_queues(
        &self,
        request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        assert_eq!(request.into_inner().prefix, "ord");
        let queue = Queue {
            name: "orders".to_owned(),
            messages: self.0.store().queued("orders").len() as u64,
            ..Queue::default()
        };
        Ok(Response::new(ListQueuesResponse {
            queues: vec![queue],
            unanswered_shards: Vec::new(),
        }))
    }

    async fn purge_queue(
        &self,
        request: Request<PurgeQueueRequest>,
    ) -> Result<Response<PurgeQueueResponse>, Status> {
        let removed = self.0.store().purge(&request.into_inner().queue);
        Ok(Response::new(PurgeQueueResponse { removed }))
    }

    async fn move_messages(
        &self,
        _: Request<v1::MoveMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn copy_messages(
        &self,
        _: Request<v1::CopyMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn retry_dead_letters(
        &self,
        _: Request<v1::RetryDeadLettersRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn remove_messages(
        &self,
        _: Request<v1::RemoveMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_dead_letters(
        &self,
        _: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_outbox(
        &self,
        _: Request<v1::ListOutboxRequest>,
    ) -> Result<Response<v1::ListOutboxResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_topics(
        &self,
        _: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn list_subscriptions(
        &self,
        _: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn delete_subscription(
        &self,
        _: Request<DeleteSubscriptionRequest>,
    ) -> Result<Response<DeleteSubscriptionResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn get_cluster(
        &self,
        _: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn show_placement(
        &self,
        _: Request<ShowPlacementRequest>,
    ) -> Result<Response<ShowPlacementResponse>, Status> {
        Err(Status::unimplemented("not of interest here"))
    }

    async fn move_destination(
        &self,
        _: Request<MoveDestinationRequest>,
    ) -> Result<Response<MoveDestinationResponse>, Status> {
        Err(Status::unimplemented("not of interest here"))
    }

    async fn locate_destination(
        &self,
        _: Request<LocateDestinationRequest>,
    ) -> Result<Response<LocateDestinationResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }
}
