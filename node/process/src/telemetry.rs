//! Logs to stderr, spans to an OTLP collector if one is configured, metrics over loopback HTTP.

use crate::config::TelemetryConfig;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use std::cell::Cell;
use std::io::IsTerminal;
use std::net::SocketAddr;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// State changes of ours; of consensus only what an operator must see: it retries aloud.
const DEFAULT_FILTER: &str = "info,openraft=error";

/// Flushes what is still buffered when the role ends.
pub struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

/// Starts logging, tracing and metrics of a role. Called once per process.
///
/// # Errors
/// The OTLP endpoint is not a valid address, or the metrics port is taken.
pub async fn start(role: &'static str, config: &TelemetryConfig) -> Result<Telemetry, String> {
    let filter =
        EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match config.json_logs {
        true => lines.json().with_filter(filter).boxed(),
        false => lines.with_filter(filter).boxed(),
    };
    let spans = config.otlp_endpoint.as_deref().map(|at| exporter(role, at)).transpose()?;
    let tracer = spans.as_ref().map(|spans| {
        let tracer = spans.tracer("muster");
        // Spans of dependencies would drown the journeys.
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new("off,muster=info,muster_api=info,muster_manager=info,muster_agent=info,muster_store=info"))
    });
    tracing_subscriber::registry().with(lines).with(tracer).init();
    if let Some(listen) = config.metrics_listen {
        serve_metrics(listen).await?;
    }
    Ok(Telemetry { spans })
}

fn exporter(role: &'static str, endpoint: &str) -> Result<SdkTracerProvider, String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| format!("telemetry.otlp_endpoint: {endpoint:?}: {error}"))?;
    let resource = Resource::builder().with_service_name(format!("muster-{role}")).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_id_generator(RootsNamedByTrace::default())
        .with_resource(resource)
        .build())
}

/// Upper bounds of histograms of durations: fixed, so that the series of several managers add up
/// and a histogram costs a hundred bytes.
const SECONDS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];
/// Upper bounds of histograms of counts.
const COUNTS: [f64; 12] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

async fn serve_metrics(listen: SocketAddr) -> Result<(), String> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_per_fsync".into()), &COUNTS)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| format!("installing the metrics recorder: {error}"))?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| format!("telemetry.metrics_listen: {listen}: {error}"))?;
    let upkeep = recorder.clone();
    let routes = axum::Router::new().route(
        "/metrics",
        axum::routing::get(move || {
            let text = recorder.render();
            async move { text }
        }),
    );
    tokio::spawn(async move {
        let mut turn = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            turn.tick().await;
            upkeep.run_upkeep();
        }
    });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics listener ended");
        }
    });
    Ok(())
}

impl Telemetry {
    /// Whether spans go anywhere.
    pub fn exports_spans(&self) -> bool {
        self.spans.is_some()
    }

    /// Sends what is still buffered.
    pub fn finish(self) {
        if let Some(spans) = self.spans
            && let Err(error) = spans.shutdown()
        {
            tracing::warn!(%error, "last spans were not exported");
        }
    }
}

/// The trace that the current span belongs to, if spans are exported.
pub fn current_trace() -> Option<muster_model::TraceId> {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid()
        .then(|| muster_model::TraceId::from_bits(u128::from_be_bytes(span.trace_id().to_bytes())))
}

/// Makes a span part of a trace of which only the id is known: a child of the trace's root.
pub fn adopt_trace(trace: muster_model::TraceId, span: &tracing::Span) {
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let id = TraceId::from(trace.bits());
    let root = SpanContext::new(id, root_of(id), TraceFlags::SAMPLED, true, TraceState::default());
    // A span that is not exported has no parent to be given.
    span.set_parent(opentelemetry::Context::new().with_remote_span_context(root)).ok();
}

/// Traces that begin here have a root whose id is the lower half of the trace's, so that whoever
/// knows the trace knows its root, on every machine and without more bytes in the log.
#[derive(Debug, Default)]
struct RootsNamedByTrace(RandomIdGenerator);

thread_local! {
    /// The id of the span being made: the exporter asks for it first, then for a trace if the span
    /// is a root.
    static SPAN: Cell<SpanId> = const { Cell::new(SpanId::INVALID) };
}

impl IdGenerator for RootsNamedByTrace {
    fn new_trace_id(&self) -> TraceId {
        let half = u128::from(u64::from_be_bytes(SPAN.get().to_bytes()));
        let random = u128::from_be_bytes(self.0.new_trace_id().to_bytes());
        TraceId::from(random >> 64 << 64 | half)
    }

    fn new_span_id(&self) -> SpanId {
        let id = self.0.new_span_id();
        SPAN.set(id);
        id
    }
}

fn root_of(trace: TraceId) -> SpanId {
    let bits = u128::from_be_bytes(trace.to_bytes());
    SpanId::from((bits & u128::from(u64::MAX)) as u64)
}

/// Makes a span the child of what a request's `traceparent` names.
pub fn adopt_parent(headers: &http::HeaderMap, span: &tracing::Span) {
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a http::HeaderMap);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key).and_then(|value| value.to_str().ok())
        }
        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }
    if headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // A span that is not exported has no parent to be given.
        span.set_parent(parent).ok();
    }
}
