//! Logs on standard error and, if an endpoint is set, traces to an OpenTelemetry collector.
//!
//! A collector that is away costs traces and nothing else: sending happens on a thread of its own with a bounded
//! queue. Logs of the transport itself never become traces, since sending them would make more.

use std::{io, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::{Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::FilterFn, fmt::MakeWriter, layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::limits::TELEMETRY_STOP;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object in each line.
    Json,
}

/// What to log and where to send traces.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kind of service, for instance `gateway`.
    pub service: &'static str,
    /// Name of this process.
    pub name: String,
    /// Filter in the notation of `RUST_LOG`, for instance `info,quorate_gateway=debug`: the key `log`.
    pub log: String,
    /// The key `log_format`.
    pub format: LogFormat,
    /// Collector, for instance `http://127.0.0.1:4317`: the key `otlp_endpoint`.
    pub otlp_endpoint: Option<String>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "key `log`: `{filter}` is no filter ({reason}); write for instance `info` or `info,quorate_gateway=debug`"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The endpoint cannot be used.
    #[error(
        "key `otlp_endpoint`: `{endpoint}` cannot be used ({reason}); write for instance `http://127.0.0.1:4317`"
    )]
    Endpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else has set the subscriber of this process.
    #[error("telemetry was started twice in this process")]
    Twice,
}

/// Telemetry that runs; [`Telemetry::stop`] sends what waits.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging and, with an endpoint, tracing for this process. Must be called within a tokio runtime.
///
/// # Errors
/// If a key cannot be used, or on a second call.
pub fn start(options: &Options) -> Result<Telemetry, TelemetryError> {
    let (subscriber, provider) = assemble(options, io::stderr)?;
    subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the traces that wait, for a bounded time.
    pub async fn stop(self) {
        let Some(provider) = self.provider else {
            return;
        };
        let stopped =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(TELEMETRY_STOP));
        match tokio::time::timeout(TELEMETRY_STOP, stopped).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the last traces were not sent"),
            Ok(Err(error)) => warn!(%error, "the last traces were not sent"),
            Err(_) => warn!("the last traces were not sent in time"),
        }
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn assemble<W>(
    options: &Options,
    writer: W,
) -> Result<
    (
        impl Subscriber + Send + Sync + use<W>,
        Option<SdkTracerProvider>,
    ),
    TelemetryError,
>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::builder()
            .parse(&options.log)
            .map_err(|error| TelemetryError::Filter {
                filter: options.log.clone(),
                reason: error.to_string(),
            })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines: BoxedLayer = match options.format {
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let mut layers = vec![lines];
    let mut provider = None;
    if let Some(endpoint) = &options.otlp_endpoint {
        let started = exporter(options, endpoint)?;
        let traces = tracing_opentelemetry::layer()
            .with_tracer(started.tracer("quorate"))
            .with_filter(FilterFn::new(|metadata| {
                metadata.target().starts_with("quorate")
                    && *metadata.level() <= tracing::Level::INFO
            }));
        layers.push(traces.boxed());
        provider = Some(started);
    }
    Ok((Registry::default().with(layers), provider))
}

fn exporter(options: &Options, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let wrong = |reason: String| TelemetryError::Endpoint {
        endpoint: endpoint.to_owned(),
        reason,
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(format!("quorate-{}", options.service))
        .with_attribute(KeyValue::new("service.instance.id", options.name.clone()))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, subscriber::with_default};

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn options(log: &str, format: LogFormat) -> Options {
        Options {
            service: "gateway",
            name: "gw01".to_owned(),
            log: log.to_owned(),
            format,
            otlp_endpoint: None,
        }
    }

    fn logged(log: &str, format: LogFormat) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, provider) =
            assemble(&options(log, format), move || writer.clone()).expect("good options");
        assert!(provider.is_none());
        with_default(subscriber, || {
            info!(shard = 3, "became leader");
            tracing::debug!("detail");
        });
        let bytes = captured.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn lines_are_text_or_json_and_filtered() {
        let text = logged("info", LogFormat::Text);
        assert!(text.contains("became leader shard=3"), "{text}");
        assert!(!text.contains("detail"), "{text}");
        let json = logged("debug", LogFormat::Json);
        assert!(
            json.contains(r#""message":"became leader","shard":3"#),
            "{json}"
        );
        assert!(json.contains("detail"), "{json}");
        assert_eq!(logged("error", LogFormat::Text), "");
    }

    #[test]
    fn a_bad_filter_or_endpoint_is_named() {
        let error = assemble(&options("info,=x=", LogFormat::Text), io::stderr)
            .err()
            .expect("no filter");
        assert!(error.to_string().contains("`info,=x=`"), "{error}");
        let mut bad = options("info", LogFormat::Text);
        bad.otlp_endpoint = Some("not a url".to_owned());
        let error = assemble(&bad, io::stderr).err().expect("no endpoint");
        assert!(error.to_string().contains("otlp_endpoint"), "{error}");
    }

    #[tokio::test]
    async fn a_collector_that_is_away_does_not_hold_up_the_stop() {
        let mut away = options("info", LogFormat::Text);
        away.otlp_endpoint = Some("http://127.0.0.1:1".to_owned());
        let (subscriber, provider) = assemble(&away, io::sink).expect("good options");
        with_default(subscriber, || drop(tracing::info_span!("lost").entered()));
        let limit = TELEMETRY_STOP * 2;
        tokio::time::timeout(limit, Telemetry { provider }.stop())
            .await
            .expect("the stop is bounded");
    }
}
