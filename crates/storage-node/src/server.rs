//! What others ask of this node over gRPC.
//!
//! Whatever comes in is bounded before it is looked at: frames by size, streams by number, a stream's first frame by
//! time. What is malformed ends its stream with a status that names the field.

mod node;
mod replication;
mod session;

use std::{net::SocketAddr, sync::Arc};

use quorate_proto::{
    DESCRIPTOR_SET,
    internal::v1::{
        node_service_server::NodeServiceServer,
        replication_service_server::ReplicationServiceServer,
        session_service_server::SessionServiceServer,
    },
};
use quorate_service::{health::Health, shutdown::Shutdown};
use tokio::net::TcpListener;
use tonic::{
    Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

pub(crate) use self::node::Identity;
use crate::{
    limits::{
        CONNECTION_WINDOW_BYTES, HELLO_TIMEOUT, KEEP_ALIVE_TIMEOUT, NAME_BYTES_MAX,
        PEER_FRAME_BYTES_MAX, SESSION_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES,
        STREAMS_PER_CONNECTION_MAX,
    },
    runtime::Shards,
    sessions::Sessions,
};

const SERVICES: &[&str] = &[
    "quorate.internal.v1.ReplicationService",
    "quorate.internal.v1.SessionService",
    "quorate.internal.v1.NodeService",
];

/// Everything that the services need.
#[derive(Debug)]
pub(crate) struct Services {
    /// The cluster: streams of another one are refused.
    pub(crate) cluster: String,
    /// The shards.
    pub(crate) shards: Arc<Shards>,
    /// The gateways.
    pub(crate) sessions: Arc<Sessions>,
    /// Who this node is.
    pub(crate) identity: Arc<Identity>,
    /// Ends the long streams when the node stops.
    pub(crate) shutdown: Shutdown,
}

/// Why the node cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken.
    #[error("listen on {address}: change the key `listen` or stop what uses that port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The descriptors of the services cannot be read.
    #[error("reflection service")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server ended.
    #[error("serve")]
    Transport(#[from] tonic::transport::Error),
}

/// Listens; separate from `serve`, so that a taken port is known before anything else is begun.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// Serves until a stop is asked for.
pub(crate) async fn serve(
    listener: TcpListener,
    services: Arc<Services>,
    health: &Health,
) -> Result<(), ServeError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .build_v1()?;
    let replication = ReplicationServiceServer::from_arc(Arc::clone(&services))
        .max_decoding_message_size(PEER_FRAME_BYTES_MAX);
    let sessions = SessionServiceServer::from_arc(Arc::clone(&services))
        .max_decoding_message_size(SESSION_FRAME_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let node = NodeServiceServer::from_arc(Arc::clone(&services));
    let shutdown = services.shutdown.clone();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_TIMEOUT))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(health.grpc(SERVICES))
        .add_service(reflection)
        .add_service(replication)
        .add_service(sessions)
        .add_service(node)
        .serve_with_incoming_shutdown(incoming, async move { shutdown.requested().await })
        .await?;
    Ok(())
}

/// The first frame of a stream, which must come soon.
async fn first<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, stream.message()).await;
    first
        .map_err(|_| Status::deadline_exceeded("the stream must begin with a hello; none came"))??
        .ok_or_else(|| Status::invalid_argument("the stream must begin with a hello; it ended"))
}

/// Refuses those of another cluster and overlong names.
fn check_hello(cluster: &str, named: &str, name: &str) -> Result<(), Status> {
    if name.len() > NAME_BYTES_MAX || named.len() > NAME_BYTES_MAX {
        return Err(Status::invalid_argument("hello: a name is too long"));
    }
    if cluster != named {
        return Err(Status::failed_precondition(format!(
            "this node belongs to cluster {cluster}, not {named}"
        )));
    }
    Ok(())
}
