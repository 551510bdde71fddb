//! One trace runs from the client's `traceparent` through the gateway to the storage node.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use quorate_proto::v1::{
    Message, OutboundMessage, SendRequest, messaging_service_client::MessagingServiceClient,
};
use quorate_tests::{
    cluster::{Cluster, Size},
    eventually::eventually,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Service name and span, as they come in.
#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().map_err(|_| Status::internal("poisoned"))?;
        for resource in request.into_inner().resource_spans {
            let attributes = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default();
            let name = attributes
                .iter()
                .find(|attribute| attribute.key == "service.name");
            let name = format!("{:?}", name.and_then(|attribute| attribute.value.clone()));
            let all = resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| (name.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_trace_runs_from_the_client_to_the_storage_node() -> Result<()> {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(incoming));

    let size = Size {
        nodes: 3,
        gateways: 1,
    };
    let cluster = Cluster::start_with(size, &[("OTLP_ENDPOINT", &endpoint)]).await?;
    let mut client = MessagingServiceClient::new(cluster.channel(0).await?);
    let message = Message {
        body: Bytes::from_static(b"traced"),
        ..Message::default()
    };
    let message = OutboundMessage {
        destination: "traced".into(),
        message: Some(message),
        number: 0,
        non_persistent: false,
        ..OutboundMessage::default()
    };
    let mut request = Request::new(SendRequest {
        producer_id: Bytes::new(),
        message: Some(message),
    });
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse()?);
    client.send(request).await?;

    eventually(
        "the spans of the gateway and of a storage node",
        Duration::from_secs(30),
        async || {
            let spans = collector.0.lock().ok().context("poisoned")?.clone();
            let ours: Vec<_> = spans
                .iter()
                .filter(|(_, span)| hex(&span.trace_id) == TRACE)
                .collect();
            let Some((_, first)) = ours.iter().find(|(service, span)| {
                service.contains("gateway") && hex(&span.parent_span_id) == PARENT
            }) else {
                return Ok(None);
            };
            let known: Vec<String> = ours.iter().map(|(_, span)| hex(&span.span_id)).collect();
            let stored = ours.iter().find(|(service, _)| service.contains("storage"));
            let Some((_, stored)) = stored else {
                return Ok(None);
            };
            ensure!(
                known.contains(&hex(&stored.parent_span_id)),
                "{stored:?} hangs loose beside {first:?}"
            );
            Ok(Some(()))
        },
    )
    .await
}
