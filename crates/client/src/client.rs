//! The way in: producers, consumers, and questions about the cluster.

mod placement;
mod transfers;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use quorate_proto::v1::{
    BrowseRequest, BrowseResponse, CancelScheduledRequest, ChangeSettingsRequest,
    ChangeSettingsResponse, DeleteSubscriptionRequest, DrainNodeRequest, GetClusterRequest,
    GetClusterResponse, ListQueuesRequest, ListQueuesResponse, ListScheduledRequest,
    ListScheduledResponse, ListSettingsRequest, ListSettingsResponse, ListSubscriptionsRequest,
    ListSubscriptionsResponse, ListTopicsRequest, ListTopicsResponse, LocateDestinationRequest,
    LocateDestinationResponse, MoveLeaderRequest, PauseQueueRequest, Position, PurgeQueueRequest,
    ResumeQueueRequest, Scheduled, admin_service_client::AdminServiceClient,
    messaging_service_client::MessagingServiceClient,
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use crate::{
    Address, Consumer, ConsumerOptions, Delivery, Error, Producer, ProducerOptions, Transactions,
    gateways::Gateways,
    limits::{ANSWER_BYTES, UNARY},
};

/// A cluster, through whichever of its gateways answers. Clones share the connection for questions.
#[derive(Clone, Debug)]
pub struct Client {
    address: Arc<Address>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    gateways: Gateways,
    channel: Option<Channel>,
}

impl Client {
    /// Connects to the first gateway that answers. Without a `timeout` in the address it tries for ever.
    ///
    /// # Errors
    /// If no gateway answers within the timeout.
    pub async fn connect(address: Address) -> Result<Self, Error> {
        let address = Arc::new(address);
        let mut gateways = Gateways::new(Arc::clone(&address));
        let channel = within(gateways.timeout(), &mut gateways, async |gateways| {
            gateways.connect().await
        })
        .await?;
        Ok(Self {
            address,
            state: Arc::new(Mutex::new(State {
                gateways,
                channel: Some(channel),
            })),
        })
    }

    /// Creates a producer with an identity and a connection of its own.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn producer(&self, options: &ProducerOptions) -> Result<Producer, Error> {
        Producer::start(Gateways::new(Arc::clone(&self.address)), options)
    }

    /// Creates a consumer of a queue, or of topics (`topic://prices.>`), with an identity and a connection of its own.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn consumer(
        &self,
        queue: impl Into<String>,
        options: &ConsumerOptions,
    ) -> Result<Consumer, Error> {
        let gateways = Gateways::new(Arc::clone(&self.address));
        Consumer::start(gateways, queue.into(), options)
    }

    /// Begins transactions under an identity of their own.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn transactions(&self) -> Result<Transactions, Error> {
        Transactions::new(self.clone())
    }

    /// Lists the queues whose names start with `prefix`.
    ///
    /// # Errors
    /// If no gateway answers in time.
    pub async fn queues(&self, prefix: &str) -> Result<ListQueuesResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_queues(question(ListQueuesRequest {
                    prefix: prefix.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Removes every message of a queue and returns how many there were. The removal is committed.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn purge(&self, queue: &str) -> Result<u64, Error> {
        self.remove(queue, false).await
    }

    /// Deletes a queue with every message and returns how many there were. It is there again when it is used. A queue of
    /// a virtual topic, one that moves, and one that a transaction or another shard is about to send to is emptied only.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        self.remove(queue, true).await
    }

    async fn remove(&self, queue: &str, delete_queue: bool) -> Result<u64, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .purge_queue(question(PurgeQueueRequest {
                    queue: queue.to_owned(),
                    delete_queue,
                }))
                .await
        })
        .await
        .map(|response| response.removed)
    }

    /// Lists the topics whose names start with `prefix`.
    ///
    /// # Errors
    /// If no gateway answers in time.
    pub async fn topics(&self, prefix: &str) -> Result<ListTopicsResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_topics(question(ListTopicsRequest {
                    prefix: prefix.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Lists the messages of a queue or topic that wait for their time, in the order in which they are due, from the one
    /// behind `after`. A page at a time: ask again with the last one until `end` is set.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn scheduled(
        &self,
        destination: &str,
        after: Option<&Scheduled>,
        limit: u32,
    ) -> Result<ListScheduledResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_scheduled(question(ListScheduledRequest {
                    destination: destination.to_owned(),
                    after: after.cloned(),
                    limit,
                }))
                .await
        })
        .await
    }

    /// Lists all subscriptions.
    ///
    /// # Errors
    /// If no gateway answers in time.
    pub async fn subscriptions(&self) -> Result<ListSubscriptionsResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_subscriptions(question(ListSubscriptionsRequest {}))
                .await
        })
        .await
    }

    /// Deletes a durable or shared subscription and returns how many messages were pending in it. Committed.
    ///
    /// # Errors
    /// If no gateway answers in time, or there is no such subscription.
    pub async fn delete_subscription(&self, client_id: &str, name: &str) -> Result<u64, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .delete_subscription(question(DeleteSubscriptionRequest {
                    client_id: client_id.to_owned(),
                    subscription: name.to_owned(),
                }))
                .await
        })
        .await
        .map(|response| response.removed)
    }

    /// Cancels a message that waits for its time; false when there is no such message. The removal is committed.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn cancel_scheduled(
        &self,
        destination: &str,
        position: Position,
    ) -> Result<bool, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .cancel_scheduled(question(CancelScheduledRequest {
                    destination: destination.to_owned(),
                    position: Some(position),
                }))
                .await
        })
        .await
        .map(|response| response.cancelled)
    }

    /// Ends the delivery of a queue's messages until it is resumed; it takes messages in all the same. Committed.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn pause(&self, queue: &str) -> Result<(), Error> {
        let queue = queue.to_owned();
        self.ask(async |channel| {
            let queue = queue.clone();
            AdminServiceClient::new(channel)
                .pause_queue(question(PauseQueueRequest { queue }))
                .await
        })
        .await
        .map(|_| ())
    }

    /// Begins the delivery of a paused queue again. Committed.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn resume(&self, queue: &str) -> Result<(), Error> {
        let queue = queue.to_owned();
        self.ask(async |channel| {
            let queue = queue.clone();
            AdminServiceClient::new(channel)
                .resume_queue(question(ResumeQueueRequest { queue }))
                .await
        })
        .await
        .map(|_| ())
    }

    /// Returns the settings of destinations by name pattern; with a name, those of that destination as well.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn settings(&self, destination: Option<&str>) -> Result<ListSettingsResponse, Error> {
        let destination = destination.unwrap_or_default();
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .list_settings(question(ListSettingsRequest {
                    destination: destination.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Changes settings, all or none, and returns the rules then. Durable in the coordination store.
    ///
    /// # Errors
    /// If a change is wrong, no coordinator takes it, or no gateway answers in time.
    pub async fn change_settings(
        &self,
        request: &ChangeSettingsRequest,
    ) -> Result<ChangeSettingsResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .change_settings(question(request.clone()))
                .await
        })
        .await
    }

    /// Moves the leadership of a shard to a node, named. Returns when the move has begun: who leads is in
    /// [`Client::cluster`].
    ///
    /// # Errors
    /// If there is no such shard or node, the node can lead nothing now, or no gateway answers in time.
    pub async fn move_leader(&self, shard: u32, node: &str) -> Result<(), Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .move_leader(question(MoveLeaderRequest {
                    shard,
                    node: node.to_owned(),
                }))
                .await
        })
        .await
        .map(|_| ())
    }

    /// Lets a node, named, lead nothing while others can, or lead again. Durable; what it leads is moved right after.
    ///
    /// # Errors
    /// If there is no such node, or no gateway answers in time.
    pub async fn drain_node(&self, node: &str, drained: bool) -> Result<(), Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .drain_node(question(DrainNodeRequest {
                    node: node.to_owned(),
                    drained,
                }))
                .await
        })
        .await
        .map(|_| ())
    }

    /// Returns nodes, shards and leaders, as the gateway sees them.
    ///
    /// # Errors
    /// If no gateway answers in time.
    pub async fn cluster(&self) -> Result<GetClusterResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .max_decoding_message_size(ANSWER_BYTES)
                .get_cluster(question(GetClusterRequest {}))
                .await
        })
        .await
    }

    /// Returns shard, leader and replicas of a destination.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn locate(&self, destination: &str) -> Result<LocateDestinationResponse, Error> {
        self.ask(async |channel| {
            AdminServiceClient::new(channel)
                .locate_destination(question(LocateDestinationRequest {
                    destination: destination.to_owned(),
                }))
                .await
        })
        .await
    }

    /// Shows the messages of a queue from the oldest, or after `after`; `limit` 0 shows all.
    ///
    /// # Errors
    /// If no gateway answers in time, or the name is wrong.
    pub async fn browse(
        &self,
        queue: &str,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Browse, Error> {
        self.browse_selected(queue, "", after, limit).await
    }

    /// As [`Client::browse`], only messages that a selector selects.
    ///
    /// # Errors
    /// As [`Client::browse`]; and when the selector cannot be read.
    pub async fn browse_selected(
        &self,
        queue: &str,
        selector: &str,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Browse, Error> {
        let responses = self
            .ask(async |channel| {
                MessagingServiceClient::new(channel)
                    .max_decoding_message_size(ANSWER_BYTES)
                    .browse(BrowseRequest {
                        queue: queue.to_owned(),
                        after,
                        limit,
                        selector: selector.to_owned(),
                    })
                    .await
            })
            .await?;
        Ok(Browse { responses })
    }

    /// Asks one gateway, and then others while that may help.
    pub(crate) async fn ask<T>(
        &self,
        question: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let (mut gateways, mut channel) = {
            let state = self.lock();
            (state.gateways.clone(), state.channel.clone())
        };
        let timeout = gateways.timeout();
        within(timeout, &mut gateways, async |gateways| {
            loop {
                let connected = match channel.take() {
                    Some(channel) => channel,
                    None => gateways.connect().await,
                };
                let error = match question(connected.clone()).await {
                    Ok(response) => {
                        gateways.progressed();
                        let mut state = self.lock();
                        state.gateways = gateways.clone();
                        state.channel = Some(connected);
                        return Ok(response.into_inner());
                    }
                    Err(status) => Error::from(status),
                };
                if !error.is_retryable() {
                    return Err(error);
                }
                gateways.failed(&error.to_string());
            }
        })
        .await?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of a queue, none removed.
#[derive(Debug)]
pub struct Browse {
    responses: Streaming<BrowseResponse>,
}

impl Browse {
    /// Returns the next messages, or `None` after the last.
    ///
    /// # Errors
    /// If the gateway is lost: browse again, after the last position.
    pub async fn next(&mut self) -> Result<Option<Vec<Delivery>>, Error> {
        let page = self.responses.message().await?;
        Ok(page.map(|page| {
            page.messages
                .into_iter()
                .filter_map(Delivery::from_proto)
                .collect()
        }))
    }
}

/// Runs `work` for at most `timeout`, and then says what the gateways said last.
async fn within<T>(
    timeout: Option<Duration>,
    gateways: &mut Gateways,
    work: impl AsyncFnOnce(&mut Gateways) -> T,
) -> Result<T, Error> {
    let Some(timeout) = timeout else {
        return Ok(work(gateways).await);
    };
    match tokio::time::timeout(timeout, work(gateways)).await {
        Ok(result) => Ok(result),
        Err(_) => Err(gateways.gave_up()),
    }
}

fn question<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(UNARY);
    request
}

/// Returns 16 random bytes: the name of a producer or consumer.
pub(crate) fn random_id() -> Result<Bytes, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::Unavailable(format!("the system gives no randomness: {error}")))?;
    Ok(Bytes::copy_from_slice(&id))
}
