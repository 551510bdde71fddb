//! Single questions to storage nodes, for browsing and for operators; and where things are, to know whom to ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quorate_message::{DestinationName, Overrides, slot};
use quorate_proto::internal::v1 as wire;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status, transport::Channel};
use wire::node_service_client::NodeServiceClient;

use crate::{
    convert::node::overrides,
    limits::{NODE_FRAME_BYTES_MAX, QUESTION_PAUSE, QUESTION_TIMEOUT},
    topology::{ClusterView, pause},
    upstream::lazy_channel,
};

/// Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    view: watch::Receiver<ClusterView>,
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
    deadline: Duration,
}

/// Where a queue is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) shard: wire::ShardInfo,
    /// Address of the leader.
    pub(crate) leader: Option<String>,
}

impl Nodes {
    pub(crate) fn new(view: watch::Receiver<ClusterView>, deadline: Duration) -> Self {
        Self {
            view,
            channels: Arc::default(),
            deadline,
        }
    }

    /// What is known of the cluster.
    pub(crate) fn view(&self) -> ClusterView {
        self.view.borrow().clone()
    }

    /// The newest topology.
    pub(crate) fn topology(&self) -> Result<Arc<wire::Topology>, Status> {
        self.view().topology.ok_or_else(|| {
            Status::unavailable("no coordinator has told this gateway where queues live; retry")
        })
    }

    /// The names that live elsewhere than the slot map says.
    pub(crate) fn overrides(&self) -> Result<Overrides, Status> {
        let topology = self.topology()?;
        overrides(&topology).ok_or_else(|| {
            Status::data_loss("overrides of the coordinator cannot be read; upgrade this gateway")
        })
    }

    /// The shard of a queue and who leads it.
    pub(crate) fn place(&self, queue: &DestinationName) -> Result<Place, Status> {
        let topology = self.topology()?;
        let overrides = self.overrides()?;
        let place = overrides.place(queue);
        let place = place.map(|place| place.moving.map_or(place.shard, |moving| moving.from));
        let slot = usize::from(slot(queue).0);
        let shard = place.or_else(|| topology.slots.get(slot).copied());
        let shard = shard.and_then(|id| topology.shards.iter().find(|shard| shard.id == id));
        let shard = shard.ok_or_else(|| {
            Status::unavailable(
                "the cluster has no shards yet; start its storage nodes, then retry",
            )
        })?;
        let leader = topology.nodes.iter().find(|node| node.id == shard.leader);
        Ok(Place {
            shard: shard.clone(),
            leader: leader.map(|node| node.address.clone()),
        })
    }

    /// The shard of a queue and the address of its leader.
    fn leader_of(&self, queue: &DestinationName) -> Result<(u32, String), Status> {
        let place = self.place(queue)?;
        let shard = place.shard.id;
        let leader = place.leader.ok_or_else(|| {
            Status::unavailable(format!(
                "shard {shard} has no leader ({})",
                place.shard.leaderless_reason
            ))
        })?;
        Ok((shard, leader))
    }

    /// Why a name cannot leave the shard in which it lives, as the shard's leader says; empty: it can.
    pub(crate) async fn check_move(&self, name: &DestinationName) -> Result<String, Status> {
        let (shard, leader) = self.leader_of(name)?;
        let request = wire::CheckMoveRequest {
            shard,
            name: name.as_str().to_owned(),
        };
        let asked = self.client(&leader)?.check_move(request).await;
        match asked {
            Ok(answer) => Ok(answer.into_inner().obstacle),
            Err(status) => Err(Status::unavailable(format!(
                "the leader of shard {shard} does not say whether {name} can be moved ({}); retry",
                status.message()
            ))),
        }
    }

    /// A client for the node at this address.
    pub(crate) fn client(&self, address: &str) -> Result<NodeServiceClient<Channel>, Status> {
        let channels = self.channels.lock();
        let mut channels = channels.unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let topology = self.view().topology;
                let nodes = topology.iter().flat_map(|topology| &topology.nodes);
                let known: Vec<_> = nodes.map(|node| node.address.as_str()).collect();
                channels.retain(|address, _| known.contains(&address.as_str()));
                let channel = lazy_channel(address, QUESTION_TIMEOUT).map_err(Status::internal)?;
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(NodeServiceClient::new(channel).max_decoding_message_size(NODE_FRAME_BYTES_MAX))
    }

    /// A page of a queue, from whoever leads it; asked again over changes of leader until the deadline.
    pub(crate) async fn browse_page(
        &self,
        queue: &DestinationName,
        after: u64,
        limit: u32,
    ) -> Result<(u32, wire::BrowsePageResponse), Status> {
        let end = Instant::now() + self.deadline;
        let mut view = self.view.clone();
        loop {
            view.mark_unchanged();
            let refused = match self.try_page(queue, after, limit).await {
                Ok(page) => return Ok(page),
                Err(status) if is_permanent(&status) => return Err(status),
                Err(status) => status,
            };
            if Instant::now() >= end {
                return Err(Status::deadline_exceeded(format!(
                    "queue {queue} cannot be browsed: {}; retry",
                    refused.message()
                )));
            }
            pause(&mut view, QUESTION_PAUSE).await;
        }
    }

    /// Until when a question may be repeated that is asked now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Tells when the view changes.
    pub(crate) fn view_receiver(&self) -> watch::Receiver<ClusterView> {
        self.view.clone()
    }

    /// Has the leader of a queue do a page of a move, once.
    pub(crate) async fn move_page(
        &self,
        queue: &DestinationName,
        request: wire::MovePageRequest,
    ) -> Result<wire::MovePageResponse, Status> {
        let (shard, leader) = self.leader_of(queue)?;
        let request = wire::MovePageRequest { shard, ..request };
        let page = self.client(&leader)?.move_page(request).await?;
        Ok(page.into_inner())
    }

    async fn try_page(
        &self,
        queue: &DestinationName,
        after: u64,
        limit: u32,
    ) -> Result<(u32, wire::BrowsePageResponse), Status> {
        let (shard, leader) = self.leader_of(queue)?;
        let request = wire::BrowsePageRequest {
            shard,
            queue: queue.as_str().to_owned(),
            after,
            limit,
        };
        let page = self.client(&leader)?.browse_page(request).await?;
        Ok((shard, page.into_inner()))
    }
}

/// Whether a question would fail again.
pub(crate) fn is_permanent(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::DataLoss | Code::Unimplemented
    )
}
