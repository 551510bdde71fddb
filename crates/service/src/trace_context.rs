//! W3C trace context over gRPC metadata, so that one trace runs through all services.
//!
//! Metadata holds it for a call; [`to_text`] and [`from_text`] hold it where only a string fits, such as a message
//! property. Without an exporter there is no context and all of this does nothing.

use std::collections::BTreeMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// Writes the context of `span` into the metadata of an outgoing call.
pub fn inject(span: &Span, metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Metadata(metadata));
}

/// Makes `span` a child of the context in the metadata of an incoming call, if there is one.
///
/// Must be called before the span is entered.
pub fn continue_from(span: &Span, metadata: &MetadataMap) {
    adopt(
        span,
        TraceContextPropagator::new().extract(&MetadataRef(metadata)),
    );
}

/// Returns the context of `span` as the value of a `traceparent`, if it is traced.
#[must_use]
pub fn to_text(span: &Span) -> Option<String> {
    let mut carrier = BTreeCarrier::default();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0.remove(TRACEPARENT)
}

/// Returns the context of the span of a call as the value of a `traceparent`, if its caller traces it: the metadata
/// holds a context, and it is sampled.
#[must_use]
pub fn asked_for(span: &Span, metadata: &MetadataMap) -> Option<String> {
    metadata.get(TRACEPARENT)?;
    let is_sampled = span.context().span().span_context().is_sampled();
    is_sampled.then(|| to_text(span)).flatten()
}

/// Makes `span` a child of a `traceparent`; one that is not valid is as good as none.
pub fn from_text(span: &Span, traceparent: &str) {
    let mut carrier = BTreeCarrier::default();
    carrier.set(TRACEPARENT, traceparent.to_owned());
    adopt(span, TraceContextPropagator::new().extract(&carrier));
}

fn adopt(span: &Span, context: Context) {
    if !context.span().span_context().is_valid() {
        return;
    }
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(%error, "span cannot continue the trace of its caller");
    }
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (
            MetadataKey::from_bytes(key.as_bytes()),
            MetadataValue::try_from(value),
        ) {
            self.0.insert(key, value);
        }
    }
}

struct MetadataRef<'a>(&'a MetadataMap);

impl Extractor for MetadataRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .filter_map(|key| match key {
                tonic::metadata::KeyRef::Ascii(key) => Some(key.as_str()),
                tonic::metadata::KeyRef::Binary(_) => None,
            })
            .collect()
    }
}

#[derive(Default)]
struct BTreeCarrier(BTreeMap<String, String>);

impl Injector for BTreeCarrier {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

impl Extractor for BTreeCarrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::subscriber::with_default;
    use tracing_subscriber::{Registry, layer::SubscriberExt};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traced<T>(work: impl FnOnce() -> T) -> T {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        with_default(Registry::default().with(layer), work)
    }

    #[test]
    fn a_trace_goes_on_through_metadata_with_a_new_span() {
        traced(|| {
            let mut incoming = MetadataMap::new();
            incoming.insert(TRACEPARENT, PARENT.parse().expect("ascii"));
            let span = tracing::info_span!("served");
            continue_from(&span, &incoming);
            let mut outgoing = MetadataMap::new();
            inject(&span, &mut outgoing);
            let text = outgoing
                .get(TRACEPARENT)
                .and_then(|value| value.to_str().ok())
                .expect("injected");
            assert_eq!(text[..36], PARENT[..36], "the same trace");
            assert_ne!(text, PARENT, "another span");
            assert_eq!(to_text(&span).as_deref(), Some(text));
        });
    }

    #[test]
    fn a_trace_is_handed_on_only_if_the_caller_asked_for_it() {
        let handed_on = |parent: Option<&str>| {
            let mut incoming = MetadataMap::new();
            if let Some(parent) = parent {
                incoming.insert(TRACEPARENT, parent.parse().expect("ascii"));
            }
            let span = tracing::info_span!("served");
            continue_from(&span, &incoming);
            asked_for(&span, &incoming)
        };
        traced(|| {
            let text = handed_on(Some(PARENT)).expect("sampled");
            assert_eq!(text[..36], PARENT[..36], "the same trace");
            assert_eq!(handed_on(None), None);
            let not_sampled = format!("{}00", &PARENT[..PARENT.len() - 2]);
            assert_eq!(handed_on(Some(&not_sampled)), None);
        });
        assert_eq!(handed_on(Some(PARENT)), None, "nothing is exported");
    }

    #[test]
    fn nonsense_starts_no_trace_and_does_no_harm() {
        traced(|| {
            for nonsense in ["", "00-zz", "ff-00000000000000000000000000000000-0-1"] {
                let span = tracing::info_span!("served");
                from_text(&span, nonsense);
                let text = to_text(&span).expect("the span has its own trace");
                assert_ne!(text[..36], PARENT[..36]);
            }
        });
        let untraced = tracing::info_span!("served");
        from_text(&untraced, PARENT);
        assert_eq!(to_text(&untraced), None);
    }
}
