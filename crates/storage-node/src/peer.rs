//! Outgoing links: one stream to each peer, opened again whenever it breaks.
//!
//! A shard drops its messages into the peer's mailbox and never waits. While there is no link, and while too much
//! waits, messages are dropped: the protocol repairs every loss. What waited when a link broke is dropped too, since
//! a message that is seconds old only costs the peer work.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use quorate_proto::internal::v1::{
    LinkRequest, PeerHello, PeerMessage, PeerMessages, link_request::Kind,
    replication_service_client::ReplicationServiceClient,
};
use quorate_replication::{Incarnation, NodeId};
use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info};

use crate::{
    frames::{Costed, Frames},
    limits::{
        CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, FRAME_BYTES, KEEP_ALIVE_INTERVAL,
        KEEP_ALIVE_TIMEOUT, PEER_FRAME_BYTES_MAX, PEER_OUTBOX_BYTES, RECONNECT_FIRST,
        RECONNECT_MAX, STREAM_WINDOW_BYTES,
    },
    mailbox::Mailbox,
};

/// All links of this node.
#[derive(Debug)]
pub(crate) struct Peers {
    hello: PeerHello,
    links: RwLock<BTreeMap<NodeId, Link>>,
}

#[derive(Debug)]
struct Link {
    address: String,
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

/// What waits for one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    mailbox: Arc<Mailbox<Costed<PeerMessage>>>,
    is_linked: AtomicBool,
}

impl Outbox {
    /// Adds messages. False: they were dropped.
    pub(crate) fn push(&self, messages: Vec<Costed<PeerMessage>>) -> bool {
        if !self.is_linked.load(Ordering::Relaxed) {
            return false;
        }
        let size_bytes = messages.iter().map(|(_, cost)| cost).sum();
        self.mailbox.push(messages, size_bytes).is_ok()
    }
}

impl Peers {
    /// No links yet.
    pub(crate) fn new(cluster: String, node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            hello: PeerHello {
                cluster,
                node: node.0,
                incarnation: incarnation.0,
            },
            links: RwLock::new(BTreeMap::new()),
        }
    }

    /// Links to exactly these peers. Must be called within the runtime that is to carry the links.
    pub(crate) fn set(&self, peers: &BTreeMap<NodeId, String>) {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        links.retain(|node, link| {
            let stays = peers.get(node) == Some(&link.address);
            if !stays {
                link.task.abort();
            }
            stays
        });
        for (node, address) in peers {
            if links.contains_key(node) {
                continue;
            }
            let outbox = Arc::new(Outbox {
                mailbox: Arc::new(Mailbox::new(PEER_OUTBOX_BYTES)),
                is_linked: AtomicBool::new(false),
            });
            let link = keep_link(
                *node,
                address.clone(),
                self.hello.clone(),
                Arc::clone(&outbox),
            );
            let link = Link {
                address: address.clone(),
                outbox,
                task: tokio::spawn(link).abort_handle(),
            };
            links.insert(*node, link);
        }
    }

    /// The outbox of a peer, if it is known.
    pub(crate) fn outbox(&self, node: NodeId) -> Option<Arc<Outbox>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&node).map(|link| Arc::clone(&link.outbox))
    }
}

/// An endpoint with the settings of all links of this node.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

async fn keep_link(node: NodeId, address: String, hello: PeerHello, outbox: Arc<Outbox>) {
    let endpoint = match endpoint(&address) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%node, address, %error, "address of a peer cannot be used");
            return;
        }
    };
    let mut wait = std::time::Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).clamp(RECONNECT_FIRST, RECONNECT_MAX);
        match endpoint.connect().await {
            Ok(channel) => {
                let had_link = run_link(node, channel, &hello, &outbox).await;
                outbox.is_linked.store(false, Ordering::Relaxed);
                outbox.mailbox.clear();
                if had_link {
                    wait = std::time::Duration::ZERO;
                }
            }
            Err(error) => debug!(%node, address, %error, "peer cannot be reached"),
        }
    }
}

/// Sends until the link breaks. Returns whether the peer had accepted it.
async fn run_link(node: NodeId, channel: Channel, hello: &PeerHello, outbox: &Outbox) -> bool {
    let hello = LinkRequest {
        kind: Some(Kind::Hello(hello.clone())),
    };
    outbox.mailbox.clear();
    let frames = Frames::new(Arc::clone(&outbox.mailbox), FRAME_BYTES, |messages| {
        LinkRequest {
            kind: Some(Kind::Messages(PeerMessages { messages })),
        }
    })
    .first(hello);
    let mut client =
        ReplicationServiceClient::new(channel).max_encoding_message_size(PEER_FRAME_BYTES_MAX);
    let mut answers = match client.link(frames).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            debug!(%node, %status, "peer refuses the link");
            return false;
        }
    };
    outbox.is_linked.store(true, Ordering::Relaxed);
    info!(%node, "linked to peer");
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => {
                info!(%node, "peer ended the link");
                return true;
            }
            Err(status) => {
                info!(%node, %status, "link to peer broke");
                return true;
            }
        }
    }
}
