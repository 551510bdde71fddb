//! The process: store, controller's task, gRPC server, health, wired together.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use quorate_proto::{
    DESCRIPTOR_SET, internal::v1::coordination_service_server::CoordinationServiceServer,
};
use quorate_service::{
    health::{self, Health},
    metrics::Metrics,
    shutdown::Shutdown,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::transport::server::TcpIncoming;
use tracing::info;

use crate::{
    config::{Config, StoreKind},
    limits::{EVENTS, KEEPALIVE_MS, REQUEST_BYTES, RESIGN_MS},
    metrics::Counts,
    server::Server,
    shell::{ACTIVE, Shell},
    store::{Store, embedded::EmbeddedStore, etcd::EtcdStore, zookeeper::ZookeeperStore},
};

/// Runs a coordinator until `shutdown`, or until its store breaks. Must be called within a tokio runtime.
///
/// # Errors
/// When a port cannot be had, or the store cannot be used.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    match config.store {
        StoreKind::Embedded => {
            let store = EmbeddedStore::open(&config.data)?;
            serve(config, store, shutdown).await
        }
        StoreKind::Etcd => {
            let store = EtcdStore::new(config.servers()?)?;
            serve(config, store, shutdown).await
        }
        StoreKind::Zookeeper => {
            let store = ZookeeperStore::new(config.servers()?)?;
            serve(config, store, shutdown).await
        }
    }
}

async fn serve(config: Config, store: impl Store, shutdown: Shutdown) -> Result<()> {
    let health = Health::new(&[ACTIVE]);
    let metrics = Metrics::new("coordinator");
    let counts = Counts::register(&metrics);
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "listen on {}; change the key `listen` or stop what uses that port",
            config.listen
        )
    })?;
    let _http = health::listen(config.health_listen, &health, &metrics).await?;
    let (sender, events) = mpsc::channel(EVENTS);
    let (topology, pictures) = watch::channel(None::<Arc<_>>);
    let service = Server::new(&config.cluster, sender.clone(), pictures);
    let coordination =
        CoordinationServiceServer::new(service).max_decoding_message_size(REQUEST_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .build_v1()
        .context("build the reflection service")?;
    let keepalive = Duration::from_millis(KEEPALIVE_MS);
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive))
        .add_service(coordination)
        .add_service(health.grpc(&["quorate.internal.v1.CoordinationService"]))
        .add_service(reflection)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    info!(listen = %config.listen, cluster = config.cluster, "coordinator listens");
    let shell = Shell::new(
        config,
        store.clone(),
        sender,
        events,
        topology,
        health,
        counts,
    );
    // Streams are open for as long as nodes live: a clean stop ends them, it does not wait for them.
    tokio::select! {
        served = server => served.context("serve gRPC"),
        error = shell.run() => Err(error.into()),
        () = shutdown.requested() => {
            // The next active coordinator need not wait for the session to lapse.
            let limit = Duration::from_millis(RESIGN_MS);
            if tokio::time::timeout(limit, store.resign()).await.is_err() {
                info!("the store does not answer; the session lapses by itself");
            }
            info!("stopped");
            Ok(())
        }
    }
}
