//! Puts a gateway together and serves it until it shall stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use quorate_message::{GatewayId, ProducerId};
use quorate_proto::v1::{
    admin_service_server::AdminServiceServer, messaging_service_server::MessagingServiceServer,
};
use quorate_service::{health::Health, metrics::Metrics, shutdown::Shutdown};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Router};
use tracing::{info, warn};

use crate::{
    accounts::{Accounts, AccountsError},
    admin::Admin,
    browse::Browser,
    config::Config,
    coordinators::Coordinators,
    engine::Engine,
    limits::{
        CLIENT_CONNECTION_WINDOW_BYTES, CLIENT_KEEP_ALIVE, CLIENT_KEEP_ALIVE_TIMEOUT,
        CLIENT_STREAM_WINDOW_BYTES, HEADER_BYTES_MAX, LEAVE_FLUSH, LEAVE_TIMEOUT,
        NEIGHBOUR_GOODBYE, PENDING_RESETS_MAX, REQUEST_BYTES_MAX, STOP_TIMEOUT,
    },
    listener::{Accepting, Doors, Serves},
    messaging::Messaging,
    metrics::GatewayMetrics,
    nodes::Nodes,
    openwire::{self, Announcements, Clients},
    rules::Rules,
    session::{Config as SessionConfig, Core},
    topology::{COMPONENT, ClusterView, Watcher},
    upstream::{Introduction, keep_links},
};

/// Components of a gateway's health.
pub const COMPONENTS: &[&str] = &[COMPONENT];

const SERVICES: &[&str] = &["quorate.v1.MessagingService", "quorate.v1.AdminService"];

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error(
        "listen for clients on {address}: {source}; change the key `{key}` or stop what uses that port"
    )]
    Listen {
        /// What configures it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The users are not known.
    #[error(transparent)]
    Accounts(AccountsError),
    /// The system gives no random numbers.
    #[error("get random numbers: {0}")]
    Random(getrandom::Error),
    /// The reflection service cannot be built.
    #[error("describe the services for reflection: {0}")]
    Reflection(tonic_reflection::server::Error),
    /// The server failed.
    #[error("serve clients: {0}")]
    Serve(tonic::transport::Error),
}

/// A gateway that listens and is not yet served.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    accounts: Accounts,
    listener: TcpListener,
    /// Serves OpenWire alone.
    openwire: Option<TcpListener>,
    address: SocketAddr,
}

impl Gateway {
    /// Reads the users and takes the ports.
    ///
    /// # Errors
    /// When the users cannot be read, or a port cannot be had.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let accounts = Accounts::read(config.users_file.as_deref(), config.anonymous);
        let accounts = accounts.map_err(ServeError::Accounts)?;
        let (listener, address) = listen("listen", config.listen).await?;
        let openwire = match config.openwire_listen {
            Some(address) => Some(listen("openwire_listen", address).await?.0),
            None => None,
        };
        Ok(Self {
            config,
            accounts,
            listener,
            openwire,
            address,
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop is asked for, then lets open calls end for a moment.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn serve(
        self,
        health: Health,
        metrics: &Metrics,
        shutdown: Shutdown,
    ) -> Result<(), ServeError> {
        let counts = GatewayMetrics::new(metrics);
        let config = &self.config;
        let incarnation = GatewayId(random_producer()?.0);
        let core = Core::new(SessionConfig {
            incarnation,
            producer: random_producer()?,
            transient_producer: random_producer()?,
            deadline_micros: config.deadline_ms * 1_000,
            memory_bytes: config.memory_bytes,
        });
        let (engine, wishes) = Engine::start(core, counts.clone());
        let who = Introduction {
            cluster: config.cluster.clone(),
            gateway: config.name.clone(),
            incarnation,
        };
        tokio::spawn(keep_links(engine.clone(), wishes, who.clone()));
        let (view, viewed) = watch::channel(ClusterView::default());
        let watcher = Watcher {
            engine: engine.clone(),
            who,
            advertise: config.advertised(),
            coordinators: config.coordinators.clone(),
            view,
            health: health.clone(),
        };
        tokio::spawn(watcher.run());
        let nodes = Nodes::new(viewed.clone(), Duration::from_millis(config.deadline_ms));
        let router = router(config, &engine, nodes.clone(), &health)?;
        let parts = openwire::Parts {
            engine: engine.clone(),
            life: incarnation,
            name: config.name.clone(),
            clients: Clients::default(),
            announcements: Announcements::default(),
            view: viewed,
            shutdown: shutdown.clone(),
            metrics: counts.clone(),
        };
        let (context, exchanging) =
            openwire::Context::new(parts, Browser { nodes }, self.accounts, config);
        let exchanging = tokio::spawn(exchanging);
        let (grpc, connections) = mpsc::channel(1);
        let (openwire, openwire_connections) = mpsc::channel(1);
        tokio::spawn(openwire::serve(openwire_connections, Arc::new(context)));
        let doors = Doors { grpc, openwire };
        let connected = counts.connections.clone();
        let accepting = Accepting::new(config.max_connections, connected, doors);
        if let Some(openwire) = self.openwire {
            tokio::spawn(accepting.clone().accept(openwire, Serves::OpenWire));
        }
        tokio::spawn(accepting.accept(self.listener, Serves::Everything));
        info!(address = %self.address, "clients are served");
        let connections = ReceiverStream::new(connections);
        let stop = shutdown.clone();
        let serving =
            router.serve_with_incoming_shutdown(connections, async move { stop.requested().await });
        let served = tokio::select! {
            served = serving => served.map_err(ServeError::Serve),
            () = stopped(&shutdown) => {
                warn!("calls are still open; they are cut off");
                Ok(())
            }
        };
        // The other gateways are told first, while calls are served.
        drop(tokio::time::timeout(NEIGHBOUR_GOODBYE, exchanging).await);
        engine.leave(LEAVE_TIMEOUT).await;
        tokio::time::sleep(LEAVE_FLUSH).await;
        served
    }
}

async fn listen(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen {
        key,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn stopped(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
}

fn random_producer() -> Result<ProducerId, ServeError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(ServeError::Random)?;
    Ok(ProducerId(id))
}

fn router(
    config: &Config,
    engine: &Engine,
    nodes: Nodes,
    health: &Health,
) -> Result<Router, ServeError> {
    let messaging = Messaging {
        engine: engine.clone(),
        browser: Browser {
            nodes: nodes.clone(),
        },
        message_bytes_max: config.max_message_bytes,
    };
    let coordinators = Coordinators {
        cluster: config.cluster.clone(),
        addresses: config.coordinators.clone(),
    };
    let rules = Rules {
        coordinators: coordinators.clone(),
        nodes: nodes.clone(),
    };
    let admin = Admin {
        engine: engine.clone(),
        nodes,
        rules,
        coordinators,
    };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTOR_SET)
        .build_v1()
        .map_err(ServeError::Reflection)?;
    Ok(Server::builder()
        .initial_stream_window_size(CLIENT_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CLIENT_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(config.max_calls_per_connection)
        .http2_keepalive_interval(Some(CLIENT_KEEP_ALIVE))
        .http2_keepalive_timeout(Some(CLIENT_KEEP_ALIVE_TIMEOUT))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_service(
            MessagingServiceServer::new(messaging).max_decoding_message_size(REQUEST_BYTES_MAX),
        )
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(REQUEST_BYTES_MAX))
        .add_service(health.grpc(SERVICES))
        .add_service(reflection))
}
