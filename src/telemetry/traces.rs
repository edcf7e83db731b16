//! Traces for OpenTelemetry: spans of calls, handed to a collector by OTLP over gRPC. Off unless a collector is configured; then
//! a call costs a look at whether it is one that is traced.
//!
//! A call's context is that of the task which works on it, so whoever works for it can add a span ([`child`]). Spans hold what
//! the audit log has of the call, identifiers alone, and no more.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderMap, Uri};
use opentelemetry::context::FutureExt as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _, get_active_span,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// How long the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last batch may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// None while nothing is traced.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Where spans go.
pub struct Collector {
    endpoint: Endpoint,
    one_in: u32,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum NoCollector {
    /// Its name is not known.
    #[error("traces.endpoint: {host} cannot be looked up: {error}")]
    Unknown {
        /// The name.
        host: String,
        /// What the resolver said.
        error: std::io::Error,
    },
    /// Its authority cannot be read.
    #[error("traces.ca: {0}")]
    Ca(std::io::Error),
    /// It cannot be talked to.
    #[error("traces.endpoint: {0}")]
    Unusable(#[from] tonic::transport::Error),
    /// There is no way to hand spans over.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

impl Collector {
    /// The collector at `uri`, which has a host; of so many traces that nobody else has decided on, one goes there. Its name is
    /// looked up here and now: what that takes is out of reach in the sandbox.
    ///
    /// # Errors
    /// [`NoCollector`].
    pub fn find(uri: &Uri, ca: Option<&std::path::Path>, one_in: u32) -> Result<Self, NoCollector> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let address = address_of(&host, uri.port_u16().unwrap_or(4317))?;
        let scheme = if is_tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .origin(uri.clone())
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT);
        if let Some(ca) = ca {
            let ca = std::fs::read(ca).map_err(NoCollector::Ca)?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
            endpoint = endpoint.tls_config(tls.domain_name(host))?;
        }
        Ok(Self { endpoint, one_in })
    }
}

fn address_of(host: &str, port: u16) -> Result<SocketAddr, NoCollector> {
    let unknown = |error| NoCollector::Unknown {
        host: host.to_owned(),
        error,
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(unknown)?;
    addresses
        .next()
        .ok_or_else(|| unknown(std::io::ErrorKind::NotFound.into()))
}

/// Traces, for as long as it is not stopped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to trace; a process does so once. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NoCollector::Exporter`].
    pub fn start(collector: &Collector) -> Result<Self, NoCollector> {
        let channel = collector.endpoint.connect_lazy();
        let exporter = SpanExporter::builder().with_tonic().with_channel(channel).build()?;
        let resource = Resource::builder()
            .with_service_name("tresor")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        // Whoever calls us has decided for its traces; of those that begin here some are taken.
        let own = Sampler::TraceIdRatioBased(1.0 / f64::from(collector.one_in));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .with_resource(resource)
            .build();
        let _ = TRACER.set(provider.tracer("tresor"));
        Ok(Self(provider))
    }

    /// Hands over what is left.
    pub async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST_WORDS));
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(%error, "the last traces were not handed over");
        }
    }
}

/// A call that is traced.
pub struct TracedCall(Context);

impl TracedCall {
    /// The call begins. None if it is not traced.
    #[must_use]
    pub fn begin(path: &str, headers: &HeaderMap) -> Option<Self> {
        let tracer = TRACER.get()?;
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let name = path.trim_start_matches('/').to_owned();
        let (service, method) = name.split_once('/').unwrap_or_default();
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
        ];
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let span = span.start_with_context(tracer, &parent);
        span.is_recording().then(|| Self(parent.with_span(span)))
    }

    /// Has the work for the call know whom it is for.
    pub fn around<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone())
    }

    /// Its answer is there, or its stream has begun.
    pub fn end(self, code: Code) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        // As the conventions have it for servers: what is the caller's mistake is none of ours.
        if matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ) {
            span.set_status(Status::error(code.description()));
        }
        span.end();
    }
}

/// A part of the work for a call; it ends when it is dropped.
#[must_use = "it ends when it is dropped"]
pub struct Child(#[expect(dead_code, reason = "it is there to be dropped")] Option<Box<Span>>);

/// A part of the work for the call that this task works on begins.
pub fn child(name: &'static str) -> Child {
    let Some(tracer) = TRACER.get() else {
        return Child(None);
    };
    let is_recording = Context::map_current(|context| context.span().is_recording());
    Child(is_recording.then(|| Box::new(tracer.start(name))))
}

/// Says what the call is about that this task works on.
pub fn describe<const N: usize>(attributes: impl FnOnce() -> [Option<KeyValue>; N]) {
    if TRACER.get().is_none() {
        return;
    }
    get_active_span(|span| {
        if span.is_recording() {
            span.set_attributes(attributes().into_iter().flatten());
        }
    });
}

/// The head of a call, where its caller says which trace it is a part of (W3C Trace Context).
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
