//! The calls of `quorate.v1.AdminService`: questions go to all nodes at once, and a node that does not answer in time
//! is missing in the answer, not an error.

mod topics;

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{
    internal::v1::{self as wire, operate_request::Kind},
    v1::{self, admin_service_server::AdminService},
};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};
use tracing::{Instrument, debug, info_span};

use quorate_message::Destination;

use crate::{
    convert,
    coordinators::Coordinators,
    dead_letters,
    engine::{Answer, Engine},
    messaging::{ask, span_of},
    nodes::Nodes,
    operators::operate,
    placement,
    rules::{self, Rules},
    scheduled,
    session::{Input, Removal},
    transfers::{self, Action},
};

/// Serves operators.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) engine: Engine,
    pub(crate) nodes: Nodes,
    pub(crate) rules: Rules,
    pub(crate) coordinators: Coordinators,
}

impl Admin {
    /// Asks every node the same; the answers of those that gave one.
    async fn ask_all<A, F>(
        &self,
        nodes: &[wire::NodeInfo],
        question: impl Fn(wire::node_service_client::NodeServiceClient<tonic::transport::Channel>) -> F,
    ) -> Vec<(u32, A)>
    where
        A: Send + 'static,
        F: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for node in nodes {
            match self.nodes.client(&node.address) {
                Ok(client) => {
                    let answer = question(client);
                    let id = node.id;
                    asked.spawn(async move { (id, answer.await) }.in_current_span());
                }
                Err(status) => debug!(node = node.id, %status, "node cannot be asked"),
            }
        }
        let mut answers = Vec::new();
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((node, Ok(answer))) => answers.push((node, answer.into_inner())),
                Ok((node, Err(status))) => debug!(node, %status, "node does not answer"),
                Err(error) => debug!(%error, "question ended early"),
            }
        }
        answers
    }

    async fn queues(&self, prefix: String) -> Result<v1::ListQueuesResponse, Status> {
        let topology = self.nodes.topology()?;
        let answers = self
            .ask_all(&topology.nodes, |mut client| {
                let prefix = prefix.clone();
                async move { client.list_queues(wire::ListQueuesRequest { prefix }).await }
            })
            .await;
        let mut queues = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for (_, answer) in answers {
            answered.extend(answer.shards);
            for found in answer.queues {
                let found = queue(found);
                // One that moves is in two shards.
                let known = queues.get(&found.name);
                if known.is_none_or(|known: &v1::Queue| known.messages <= found.messages) {
                    queues.insert(found.name.clone(), found);
                }
            }
        }
        let shards = topology.shards.iter().map(|shard| shard.id);
        Ok(v1::ListQueuesResponse {
            queues: queues.into_values().collect(),
            unanswered_shards: shards.filter(|shard| !answered.contains(shard)).collect(),
        })
    }

    async fn outbox(&self) -> Result<v1::ListOutboxResponse, Status> {
        let topology = self.nodes.topology()?;
        let answers = self
            .ask_all(&topology.nodes, |mut client| async move {
                client.list_outbox(wire::ListOutboxRequest {}).await
            })
            .await;
        let targets = answers.into_iter().flat_map(|(_, answer)| answer.targets);
        let mut targets: Vec<v1::OutboxTarget> = targets
            .map(|target| v1::OutboxTarget {
                shard: target.shard,
                target: target.target,
                messages: target.messages,
                oldest_ms: target.oldest_ms,
                refusal: target.refusal,
            })
            .collect();
        targets.sort_by(|a, b| (&a.target, a.shard).cmp(&(&b.target, b.shard)));
        Ok(v1::ListOutboxResponse { targets })
    }

    /// Shards whose leader does not say that it goes by this version, or a newer one.
    async fn behind(&self, version: u64) -> Result<Vec<u32>, Status> {
        let topology = self.nodes.topology()?;
        let statuses = self
            .ask_all(&topology.nodes, |mut client| async move {
                client.get_status(wire::GetStatusRequest {}).await
            })
            .await;
        let replicas = statuses.iter().flat_map(|(_, status)| &status.replicas);
        let led = replicas.filter(|replica| replica.role == "leader");
        let there: BTreeSet<u32> = led
            .filter(|replica| replica.settings_version >= version)
            .map(|replica| replica.shard)
            .collect();
        let shards = topology.shards.iter().map(|shard| shard.id);
        Ok(shards.filter(|shard| !there.contains(shard)).collect())
    }

    async fn settings(&self, destination: &str) -> Result<v1::ListSettingsResponse, Status> {
        let settings = self.rules.present()?;
        let effective = match destination {
            "" => Vec::new(),
            name => settings.of(&convert::queue(name)?).texts(),
        };
        Ok(v1::ListSettingsResponse {
            version: settings.version(),
            rules: rules::shown(&settings),
            effective: rules::texts(effective),
            behind_shards: self.behind(settings.version()).await?,
        })
    }

    async fn set_paused(&self, queue: &str, is_paused: bool) -> Result<(), Status> {
        let queue = convert::queue(queue)?;
        let pause = |call| Input::Pause {
            call,
            queue,
            is_paused,
        };
        match ask(&self.engine, pause).await? {
            Answer::Purged(_) => Ok(()),
            Answer::Confirmed(..)
            | Answer::Wrong(_)
            | Answer::Committed
            | Answer::Unsubscribed(_) => {
                Err(Status::internal("a pause was answered as something else"))
            }
        }
    }

    async fn cluster(&self) -> Result<v1::GetClusterResponse, Status> {
        let view = self.nodes.view();
        let topology = self.nodes.topology()?;
        let statuses: BTreeMap<_, _> = self
            .ask_all(&topology.nodes, |mut client| async move {
                client.get_status(wire::GetStatusRequest {}).await
            })
            .await
            .into_iter()
            .collect();
        Ok(v1::GetClusterResponse {
            cluster: topology.cluster.clone(),
            nodes: topology.nodes.iter().map(node).collect(),
            shards: topology
                .shards
                .iter()
                .map(|shard| self::shard(shard, &statuses))
                .collect(),
            coordinator_reachable: view.coordinator_reachable,
            topology_version: topology.version,
        })
    }
}

fn queue(status: wire::QueueStatus) -> v1::Queue {
    v1::Queue {
        name: status.name,
        shard: status.shard,
        messages: status.messages,
        in_flight: status.in_flight,
        consumers: status.consumers,
        enqueued_total: status.enqueued_total,
        settled_total: status.settled_total,
        non_persistent: status.non_persistent,
        bytes: status.bytes,
        paused: status.paused,
        scheduled: status.scheduled,
        expired_total: status.expired_total,
    }
}

fn node(info: &wire::NodeInfo) -> v1::Node {
    v1::Node {
        id: info.id,
        name: info.name.clone(),
        address: info.address.clone(),
        alive: info.alive,
        pid: info.pid,
        drained: info.drained,
        clock_off_ms: info.clock_off_ms,
    }
}

fn shard(info: &wire::ShardInfo, statuses: &BTreeMap<u32, wire::GetStatusResponse>) -> v1::Shard {
    let of = |node: u32| {
        let replicas = &statuses.get(&node)?.replicas;
        replicas.iter().find(|replica| replica.shard == info.id)
    };
    let leader = of(info.leader);
    let voters: Vec<_> = info.voters.iter().map(|member| member.node).collect();
    let replicas = voters.iter().filter_map(|voter| {
        let replica = of(*voter)?;
        let peer = leader.and_then(|leader| leader.peers.iter().find(|p| p.node == *voter));
        let is_leader = *voter == info.leader;
        let end = leader.map_or(replica.durable_index, |leader| leader.durable_index);
        Some(v1::Replica {
            node: *voter,
            in_quorum: !replica.impaired && (is_leader || peer.is_some_and(|p| p.in_quorum)),
            durable_index: replica.durable_index,
            commit_index: replica.commit_index,
            lag_entries: end.saturating_sub(replica.durable_index),
            impaired: replica.impaired,
        })
    });
    v1::Shard {
        id: info.id,
        leader: info.leader,
        epoch: info.epoch,
        replicas: replicas.collect(),
        voters,
        leaderless_reason: info.leaderless_reason.clone(),
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let span = span_of(info_span!("list_queues"), request.metadata());
        let queues = self.queues(request.into_inner().prefix).instrument(span);
        queues.await.map(Response::new)
    }

    async fn purge_queue(
        &self,
        request: Request<v1::PurgeQueueRequest>,
    ) -> Result<Response<v1::PurgeQueueResponse>, Status> {
        let span = span_of(info_span!("purge_queue"), request.metadata());
        let request = request.into_inner();
        let queue = convert::queue(&request.queue)?;
        let what = match request.delete_queue {
            true => Removal::Destination,
            false => Removal::Messages,
        };
        let purge = |call| Input::Purge {
            call,
            destination: Destination::queue(queue),
            what,
        };
        match ask(&self.engine, purge).instrument(span).await? {
            Answer::Purged(removed) => Ok(Response::new(v1::PurgeQueueResponse { removed })),
            Answer::Confirmed(..)
            | Answer::Wrong(_)
            | Answer::Committed
            | Answer::Unsubscribed(_) => Err(Status::internal("a purge was answered as a message")),
        }
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let span = span_of(info_span!("list_topics"), request.metadata());
        let topics = self.topics(request.into_inner().prefix).instrument(span);
        topics.await.map(Response::new)
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Result<Response<v1::ListSubscriptionsResponse>, Status> {
        let span = span_of(info_span!("list_subscriptions"), request.metadata());
        self.subscriptions()
            .instrument(span)
            .await
            .map(Response::new)
    }

    async fn delete_subscription(
        &self,
        request: Request<v1::DeleteSubscriptionRequest>,
    ) -> Result<Response<v1::DeleteSubscriptionResponse>, Status> {
        let span = span_of(info_span!("delete_subscription"), request.metadata());
        let request = request.into_inner();
        let (client_id, name) = (&request.client_id, &request.subscription);
        let key = convert::subscription::key_to_delete(client_id, name)?;
        let unsubscribe = |call| Input::Unsubscribe { call, key };
        match ask(&self.engine, unsubscribe).instrument(span).await? {
            Answer::Unsubscribed(Some(removed)) => {
                Ok(Response::new(v1::DeleteSubscriptionResponse { removed }))
            }
            Answer::Unsubscribed(None) => Err(Status::not_found(format!(
                "no subscription {name:?} of client {client_id:?}; `quorate subscriptions list` shows them"
            ))),
            Answer::Confirmed(..) | Answer::Wrong(_) | Answer::Purged(_) | Answer::Committed => {
                Err(Status::internal(
                    "an unsubscription was answered as another call",
                ))
            }
        }
    }

    async fn move_messages(
        &self,
        request: Request<v1::MoveMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let span = span_of(info_span!("move_messages"), request.metadata());
        let request = request.into_inner();
        let action = Action::Move(transfers::target(&request.target)?);
        let moved = transfers::page(&self.nodes, request.selection, action).instrument(span);
        moved.await.map(Response::new)
    }

    async fn copy_messages(
        &self,
        request: Request<v1::CopyMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let span = span_of(info_span!("copy_messages"), request.metadata());
        let request = request.into_inner();
        let action = Action::Copy(transfers::target(&request.target)?);
        let copied = transfers::page(&self.nodes, request.selection, action).instrument(span);
        copied.await.map(Response::new)
    }

    async fn retry_dead_letters(
        &self,
        request: Request<v1::RetryDeadLettersRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let span = span_of(info_span!("retry_dead_letters"), request.metadata());
        let selection = request.into_inner().selection;
        let retried = transfers::page(&self.nodes, selection, Action::Retry).instrument(span);
        retried.await.map(Response::new)
    }

    async fn remove_messages(
        &self,
        request: Request<v1::RemoveMessagesRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let span = span_of(info_span!("remove_messages"), request.metadata());
        let selection = request.into_inner().selection;
        let removed = transfers::page(&self.nodes, selection, Action::Remove).instrument(span);
        removed.await.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let span = span_of(info_span!("list_dead_letters"), request.metadata());
        let letters = dead_letters::list(&self.nodes, request.into_inner()).instrument(span);
        letters.await.map(Response::new)
    }

    async fn list_outbox(
        &self,
        request: Request<v1::ListOutboxRequest>,
    ) -> Result<Response<v1::ListOutboxResponse>, Status> {
        let span = span_of(info_span!("list_outbox"), request.metadata());
        self.outbox().instrument(span).await.map(Response::new)
    }

    async fn pause_queue(
        &self,
        request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::PauseQueueResponse>, Status> {
        let span = span_of(info_span!("pause_queue"), request.metadata());
        let queue = request.into_inner().queue;
        self.set_paused(&queue, true).instrument(span).await?;
        Ok(Response::new(v1::PauseQueueResponse {}))
    }

    async fn resume_queue(
        &self,
        request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::ResumeQueueResponse>, Status> {
        let span = span_of(info_span!("resume_queue"), request.metadata());
        let queue = request.into_inner().queue;
        self.set_paused(&queue, false).instrument(span).await?;
        Ok(Response::new(v1::ResumeQueueResponse {}))
    }

    async fn list_settings(
        &self,
        request: Request<v1::ListSettingsRequest>,
    ) -> Result<Response<v1::ListSettingsResponse>, Status> {
        let span = span_of(info_span!("list_settings"), request.metadata());
        let destination = request.into_inner().destination;
        let settings = self.settings(&destination).instrument(span);
        settings.await.map(Response::new)
    }

    async fn change_settings(
        &self,
        request: Request<v1::ChangeSettingsRequest>,
    ) -> Result<Response<v1::ChangeSettingsResponse>, Status> {
        let span = span_of(info_span!("change_settings"), request.metadata());
        let request = request.into_inner();
        let settings = self.rules.change(&request).instrument(span).await?;
        Ok(Response::new(v1::ChangeSettingsResponse {
            version: settings.version(),
            rules: rules::shown(&settings),
        }))
    }

    async fn move_leader(
        &self,
        request: Request<v1::MoveLeaderRequest>,
    ) -> Result<Response<v1::MoveLeaderResponse>, Status> {
        let span = span_of(info_span!("move_leader"), request.metadata());
        let v1::MoveLeaderRequest { shard, node } = request.into_inner();
        let wish = Kind::MoveLeader(wire::MoveShardLeader { shard, node });
        let operated = operate(&self.coordinators, wish).instrument(span);
        operated.await?;
        Ok(Response::new(v1::MoveLeaderResponse {}))
    }

    async fn drain_node(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let span = span_of(info_span!("drain_node"), request.metadata());
        let v1::DrainNodeRequest { node, drained } = request.into_inner();
        let wish = Kind::Drain(wire::DrainNode { node, drained });
        let operated = operate(&self.coordinators, wish).instrument(span);
        operated.await?;
        Ok(Response::new(v1::DrainNodeResponse {}))
    }

    async fn list_scheduled(
        &self,
        request: Request<v1::ListScheduledRequest>,
    ) -> Result<Response<v1::ListScheduledResponse>, Status> {
        let span = span_of(info_span!("list_scheduled"), request.metadata());
        let page = scheduled::list(&self.nodes, request.into_inner()).instrument(span);
        page.await.map(Response::new)
    }

    async fn cancel_scheduled(
        &self,
        request: Request<v1::CancelScheduledRequest>,
    ) -> Result<Response<v1::CancelScheduledResponse>, Status> {
        let span = span_of(info_span!("cancel_scheduled"), request.metadata());
        let (destination, position) = scheduled::cancelled(request.into_inner())?;
        let cancel = |call| Input::Purge {
            call,
            destination,
            what: Removal::Message(position),
        };
        match ask(&self.engine, cancel).instrument(span).await? {
            Answer::Purged(removed) => Ok(Response::new(v1::CancelScheduledResponse {
                cancelled: removed > 0,
            })),
            Answer::Confirmed(..)
            | Answer::Wrong(_)
            | Answer::Committed
            | Answer::Unsubscribed(_) => {
                Err(Status::internal("a cancel was answered as something else"))
            }
        }
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let span = span_of(info_span!("get_cluster"), request.metadata());
        self.cluster().instrument(span).await.map(Response::new)
    }

    async fn show_placement(
        &self,
        request: Request<v1::ShowPlacementRequest>,
    ) -> Result<Response<v1::ShowPlacementResponse>, Status> {
        let destination = request.into_inner().destination;
        placement::show(&self.nodes, &destination).map(Response::new)
    }

    async fn move_destination(
        &self,
        request: Request<v1::MoveDestinationRequest>,
    ) -> Result<Response<v1::MoveDestinationResponse>, Status> {
        let span = span_of(info_span!("move_destination"), request.metadata());
        let request = request.into_inner();
        let begun = placement::begin(&self.nodes, &self.rules, &request).instrument(span);
        begun.await.map(Response::new)
    }

    async fn locate_destination(
        &self,
        request: Request<v1::LocateDestinationRequest>,
    ) -> Result<Response<v1::LocateDestinationResponse>, Status> {
        let destination = request.into_inner().destination;
        let place = self.nodes.place(&convert::queue(&destination)?)?;
        Ok(Response::new(v1::LocateDestinationResponse {
            destination,
            shard: place.shard.id,
            leader: place.shard.leader,
            replicas: place
                .shard
                .voters
                .iter()
                .map(|member| member.node)
                .collect(),
            epoch: place.shard.epoch,
        }))
    }
}
