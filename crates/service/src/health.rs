//! Health: what keeps this process from serving, over HTTP and gRPC.
//!
//! ```text
//! GET /healthz   200 as long as the process answers at all
//! GET /readyz    200 "ready", or 503 with one line "component: reason" for each that is not
//! GET /metrics   OpenMetrics text
//! ```
//! A component is not ready until it says so. The gRPC health service says SERVING exactly while `/readyz` is 200.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthService, HealthServer},
};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// Content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Reasons = BTreeMap<&'static str, String>;

/// What keeps this process from serving. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    /// Components that are not ready, and why.
    reasons: Arc<watch::Sender<Reasons>>,
}

impl Health {
    /// Creates the health of a process whose components are all still starting.
    #[must_use]
    pub fn new(components: &[&'static str]) -> Self {
        let reasons = components
            .iter()
            .map(|component| (*component, "starting".to_owned()))
            .collect();
        Self {
            reasons: Arc::new(watch::Sender::new(reasons)),
        }
    }

    /// Says that a component can serve. Logged when it could not before.
    pub fn ready(&self, component: &'static str) {
        let changed = self
            .reasons
            .send_if_modified(|reasons| reasons.remove(component).is_some());
        if changed {
            info!(component, "ready");
        }
    }

    /// Says why a component cannot serve. Logged when the reason is another than before.
    pub fn not_ready(&self, component: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        let changed = self.reasons.send_if_modified(|reasons| {
            if reasons.get(component) == Some(&reason) {
                return false;
            }
            reasons.insert(component, reason.clone());
            true
        });
        if changed {
            info!(component, reason, "not ready");
        }
    }

    /// Returns whether every component can serve.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons.borrow().is_empty()
    }

    /// Returns the components that are not ready, with their reasons.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.reasons.borrow().clone()
    }

    /// Returns the gRPC health service; it follows this health as long as the runtime lives.
    ///
    /// `services` are the full names of the services that are ready with the process, such as
    /// `quorate.v1.MessagingService`; the empty name, for the process itself, is always there.
    #[must_use]
    pub fn grpc(&self, services: &'static [&'static str]) -> HealthServer<impl HealthService> {
        let (reporter, server) = tonic_health::server::health_reporter();
        let mut reasons = self.reasons.subscribe();
        tokio::spawn(async move {
            loop {
                let status = if reasons.borrow_and_update().is_empty() {
                    ServingStatus::Serving
                } else {
                    ServingStatus::NotServing
                };
                for service in [""].iter().chain(services) {
                    reporter.set_service_status(*service, status).await;
                }
                if reasons.changed().await.is_err() {
                    return;
                }
            }
        });
        server
    }
}

/// Why the health port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "listen for health and metrics on {address}: {source}; change the key `health_listen` or stop what uses that port"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// The HTTP server of health and metrics; it ends when this is dropped.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Http {
    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves health and metrics over HTTP until the returned value is dropped.
///
/// # Errors
/// If the port cannot be had.
pub async fn listen(
    address: SocketAddr,
    health: &Health,
    metrics: &Metrics,
) -> Result<Http, ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let router = router(health.clone(), metrics.clone());
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            warn!(%error, "health and metrics are served no longer");
        }
    });
    Ok(Http {
        address: bound,
        task,
    })
}

/// Returns the routes, for a service that serves more than these on its HTTP port.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(scrape).with_state(metrics))
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse + use<> {
    let reasons = health.reasons();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let text = reasons
        .iter()
        .map(|(component, reason)| format!("{component}: {reason}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse + use<> {
    match metrics.encode() {
        Ok(text) => (StatusCode::OK, [("content-type", OPENMETRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            format!("encode metrics: {error}\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tonic::Request;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus as Answer};

    use super::*;

    async fn get(http: &Http, path: &str) -> String {
        let mut stream = TcpStream::connect(http.address())
            .await
            .expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it can be asked");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing_until_nothing_is() {
        let health = Health::new(&["log", "topology"]);
        let any = "127.0.0.1:0".parse().expect("an address");
        let http = listen(any, &health, &Metrics::new("test"))
            .await
            .expect("a free port");
        assert!(get(&http, "/healthz").await.starts_with("HTTP/1.1 200"));
        health.not_ready("topology", "no coordinator answers");
        health.ready("log");
        let answer = get(&http, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\ntopology: no coordinator answers\n"),
            "{answer}"
        );
        health.ready("topology");
        assert!(get(&http, "/readyz").await.starts_with("HTTP/1.1 200"));
        let answer = get(&http, "/metrics").await;
        assert!(answer.contains("quorate_test_build_info"), "{answer}");
        assert!(answer.contains(OPENMETRICS), "{answer}");
        let error = listen(http.address(), &health, &Metrics::new("test"))
            .await
            .expect_err("the port is taken");
        assert!(error.to_string().contains("health_listen"), "{error}");
    }

    #[tokio::test]
    async fn grpc_health_follows() {
        let health = Health::new(&["topology"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(health.grpc(&["quorate.v1.MessagingService"]))
                .serve_with_incoming(incoming),
        );
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .expect("an endpoint")
            .connect()
            .await
            .expect("it listens");
        let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
        let mut watch = client
            .watch(Request::new(HealthCheckRequest {
                service: "quorate.v1.MessagingService".to_owned(),
            }))
            .await
            .expect("it answers")
            .into_inner();
        let mut seen = watch.message().await.expect("a status").expect("open");
        if seen.status() == Answer::ServiceUnknown {
            seen = watch.message().await.expect("a status").expect("open");
        }
        assert_eq!(seen.status(), Answer::NotServing);
        health.ready("topology");
        let seen = watch.message().await.expect("a status").expect("open");
        assert_eq!(seen.status(), Answer::Serving);
    }
}
