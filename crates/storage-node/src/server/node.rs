//! Questions about this node.

use quorate_message::{Destination, MessagePosition, Schedule};
use quorate_proto::internal::v1::{
    BrowsePageRequest, BrowsePageResponse, CheckMoveRequest, CheckMoveResponse, GetStatusRequest,
    GetStatusResponse, ListOutboxRequest, ListOutboxResponse, ListQueuesRequest,
    ListQueuesResponse, ListScheduledRequest, ListScheduledResponse, ListSubscriptionsRequest,
    ListSubscriptionsResponse, ListTopicsRequest, ListTopicsResponse, MovePageRequest,
    MovePageResponse, PeerStatus, ReplicaStatus, ScheduledMessage,
    node_service_server::NodeService,
};
use quorate_replication::{Incarnation, NodeId, RoleName, ShardId};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use super::Services;
use crate::{
    convert::{
        moving,
        session::{decode_queue, encode_page},
    },
    limits::{NAME_BYTES_MAX, QUESTION_TIMEOUT, SCHEDULED_PAGE_MESSAGES_MAX},
    runtime::{Item, Published, Question},
    shard::input::BrowseQuery,
};

/// Who this node is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: String,
    /// Its number.
    pub(crate) node: NodeId,
    /// This life.
    pub(crate) incarnation: Incarnation,
}

#[tonic::async_trait]
impl NodeService for Services {
    async fn list_queues(
        &self,
        request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let prefix = request.into_inner().prefix;
        if prefix.len() > NAME_BYTES_MAX {
            return Err(Status::invalid_argument("field `prefix` is too long"));
        }
        let question = |answer| Question::Queues {
            prefix: prefix.clone(),
            answer,
        };
        let mut response = ListQueuesResponse::default();
        for (shard, queues) in self.ask_all(question).await {
            response.shards.push(shard.0);
            response.queues.extend(queues);
        }
        Ok(Response::new(response))
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let prefix = request.into_inner().prefix;
        if prefix.len() > NAME_BYTES_MAX {
            return Err(Status::invalid_argument("field `prefix` is too long"));
        }
        let question = |answer| Question::Topics {
            prefix: prefix.clone(),
            answer,
        };
        let mut response = ListTopicsResponse::default();
        for (shard, topics) in self.ask_all(question).await {
            response.shards.push(shard.0);
            response.topics.extend(topics);
        }
        Ok(Response::new(response))
    }

    async fn list_subscriptions(
        &self,
        _request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        let question = |answer| Question::Subscriptions { answer };
        let mut response = ListSubscriptionsResponse::default();
        for (shard, subscriptions) in self.ask_all(question).await {
            response.shards.push(shard.0);
            response.subscriptions.extend(subscriptions);
        }
        Ok(Response::new(response))
    }

    async fn browse_page(
        &self,
        request: Request<BrowsePageRequest>,
    ) -> Result<Response<BrowsePageResponse>, Status> {
        let request = request.into_inner();
        let query = BrowseQuery {
            query: 0,
            queue: decode_queue(&request.queue)?,
            after: (request.after != 0).then(|| MessagePosition::from_value(request.after)),
            limit: request.limit,
        };
        let shard = ShardId(request.shard);
        let (answer, receiver) = oneshot::channel();
        let question = Question::Browse { query, answer };
        self.shards
            .offer(shard, vec![Item::Question(question)], 0)
            .map_err(|_| {
                Status::failed_precondition(format!("this node does not serve shard {}", shard.0))
            })?;
        let page = tokio::time::timeout(QUESTION_TIMEOUT, receiver)
            .await
            .map_err(|_| Status::deadline_exceeded("the shard did not answer in time; try again"))?
            .map_err(|_| Status::unavailable("the shard stopped; try again"))?;
        encode_page(page).map(Response::new)
    }

    async fn move_page(
        &self,
        request: Request<MovePageRequest>,
    ) -> Result<Response<MovePageResponse>, Status> {
        let request = request.into_inner();
        let shard = ShardId(request.shard);
        let query = Box::new(moving::decode_query(request)?);
        let (answer, receiver) = oneshot::channel();
        let question = Question::Move { query, answer };
        self.shards
            .offer(shard, vec![Item::Question(question)], 0)
            .map_err(|_| {
                Status::failed_precondition(format!("this node does not serve shard {}", shard.0))
            })?;
        let page = tokio::time::timeout(QUESTION_TIMEOUT, receiver)
            .await
            .map_err(|_| Status::aborted("the shard did not answer in time; look, then go on"))?
            .map_err(|_| Status::aborted("the shard stopped; look, then go on"))?;
        moving::encode_page(page).map(Response::new)
    }

    async fn list_outbox(
        &self,
        _request: Request<ListOutboxRequest>,
    ) -> Result<Response<ListOutboxResponse>, Status> {
        let mut asked = Vec::new();
        for (_, handle) in self.shards.all() {
            let (answer, receiver) = oneshot::channel();
            let question = Question::Outbox { answer };
            if handle.mailbox.push([Item::Question(question)], 0).is_ok() {
                asked.push(receiver);
            }
        }
        let mut response = ListOutboxResponse::default();
        for receiver in asked {
            if let Ok(Ok(Some(targets))) = tokio::time::timeout(QUESTION_TIMEOUT, receiver).await {
                response.targets.extend(targets);
            }
        }
        Ok(Response::new(response))
    }

    async fn check_move(
        &self,
        request: Request<CheckMoveRequest>,
    ) -> Result<Response<CheckMoveResponse>, Status> {
        let request = request.into_inner();
        let shard = ShardId(request.shard);
        let (answer, receiver) = oneshot::channel();
        let name = decode_queue(&request.name)?;
        let question = Question::Obstacle { name, answer };
        let not_here =
            || Status::failed_precondition(format!("this node does not serve shard {}", shard.0));
        self.shards
            .offer(shard, vec![Item::Question(question)], 0)
            .map_err(|_| not_here())?;
        let obstacle = tokio::time::timeout(QUESTION_TIMEOUT, receiver)
            .await
            .map_err(|_| Status::deadline_exceeded("the shard did not answer in time; try again"))?
            .map_err(|_| Status::unavailable("the shard stopped; try again"))?
            .ok_or_else(not_here)?;
        Ok(Response::new(CheckMoveResponse { obstacle }))
    }

    async fn list_scheduled(
        &self,
        request: Request<ListScheduledRequest>,
    ) -> Result<Response<ListScheduledResponse>, Status> {
        let request = request.into_inner();
        let destination = request.destination.parse::<Destination>();
        let after = MessagePosition::from_value(request.after);
        let limit = request.limit.clamp(1, SCHEDULED_PAGE_MESSAGES_MAX) as usize;
        let (answer, receiver) = oneshot::channel();
        let question = Question::Scheduled {
            destination: destination
                .map_err(|error| Status::invalid_argument(error.to_string()))?,
            after: (request.after != 0).then_some((request.after_due_ms, after)),
            limit: limit + 1,
            answer,
        };
        let shard = ShardId(request.shard);
        let not_here =
            || Status::failed_precondition(format!("this node does not serve shard {}", shard.0));
        self.shards
            .offer(shard, vec![Item::Question(question)], 0)
            .map_err(|_| not_here())?;
        let page = tokio::time::timeout(QUESTION_TIMEOUT, receiver)
            .await
            .map_err(|_| Status::deadline_exceeded("the shard did not answer in time; try again"))?
            .map_err(|_| Status::unavailable("the shard stopped; try again"))?
            .ok_or_else(not_here)?;
        let end = page.len() <= limit;
        let messages = page
            .into_iter()
            .take(limit)
            .map(|scheduled| ScheduledMessage {
                position: scheduled.position.value(),
                due_ms: scheduled.due_ms,
                period_ms: scheduled.period_ms,
                left: match scheduled.left {
                    Schedule::FOREVER => 0,
                    left => left,
                },
                cron: scheduled.cron,
            });
        Ok(Response::new(ListScheduledResponse {
            messages: messages.collect(),
            end,
        }))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let replicas = self
            .shards
            .all()
            .into_iter()
            .map(|(shard, handle)| replica_status(shard, handle.status()))
            .collect();
        Ok(Response::new(GetStatusResponse {
            node: self.identity.node.0,
            name: self.identity.name.clone(),
            pid: std::process::id(),
            incarnation: self.identity.incarnation.0,
            replicas,
        }))
    }
}

impl Services {
    /// Asks every shard; the answers of those that serve and answer in time.
    async fn ask_all<A>(
        &self,
        question: impl Fn(oneshot::Sender<Option<Vec<A>>>) -> Question,
    ) -> Vec<(ShardId, Vec<A>)> {
        let mut asked = Vec::new();
        for (shard, handle) in self.shards.all() {
            let (answer, receiver) = oneshot::channel();
            let question = Item::Question(question(answer));
            if handle.mailbox.push([question], 0).is_ok() {
                asked.push((shard, receiver));
            }
        }
        let mut answers = Vec::new();
        for (shard, receiver) in asked {
            let answer = tokio::time::timeout(QUESTION_TIMEOUT, receiver).await;
            if let Ok(Ok(Some(answer))) = answer {
                answers.push((shard, answer));
            }
        }
        answers
    }
}

fn replica_status(shard: ShardId, published: Published) -> ReplicaStatus {
    let role = match (published.is_halted, published.role) {
        (true, _) => "stopped",
        (false, RoleName::Idle) => "idle",
        (false, RoleName::Follower) => "follower",
        (false, RoleName::Leader) => "leader",
    };
    let peers = published.peers.iter().map(|(peer, is_heard)| PeerStatus {
        node: peer.member.node.0,
        matched: peer.matched.0,
        in_quorum: peer.voter && !peer.impaired && *is_heard,
        impaired: peer.impaired,
    });
    ReplicaStatus {
        shard: shard.0,
        role: role.to_owned(),
        epoch: published.epoch.0,
        durable_index: published.durable.0,
        commit_index: published.commit.0,
        applied_index: published.applied.0,
        first_index: published.base.index.0 + 1,
        impaired: published.is_impaired,
        log_bytes: 0,
        peers: peers.collect(),
        settings_version: published.settings_version,
    }
}
