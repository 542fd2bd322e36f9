//! An OTLP collector of a test: takes spans over gRPC and writes each as one JSON line to standard
//! output: trace, span, parent, service, name, and its attributes.
//!
//! collector ADDRESS:PORT

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::error::Error;
use std::io::Write as _;
use tonic::{Request, Response, Status};

struct Printer;

#[tonic::async_trait]
impl TraceService for Printer {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut out = std::io::stdout().lock();
        for resource in request.into_inner().resource_spans {
            let of = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = text(&of, "service.name");
            for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                writeln!(out, "{}", line(&service, span))?;
            }
        }
        out.flush()?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn line(service: &str, span: &Span) -> serde_json::Value {
    let attributes = span.attributes.iter();
    let attributes: serde_json::Map<_, _> =
        attributes.map(|a| (a.key.clone(), text(&span.attributes, &a.key).into())).collect();
    serde_json::json!({
        "trace": hex(&span.trace_id), "span": hex(&span.span_id),
        "parent": hex(&span.parent_span_id), "service": service, "name": span.name,
        "attributes": attributes,
    })
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|a| a.key == key).and_then(|a| a.value.clone());
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(other) }) => format!("{other:?}"),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: collector ADDRESS:PORT")?.parse()?;
    let service = TraceServiceServer::new(Printer);
    tonic::transport::Server::builder().add_service(service).serve(address).await?;
    Ok(())
}
