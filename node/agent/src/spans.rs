//! The agent's part of a journey: spans of what is done for a task, linked to the trace of the call
//! that created it.
//!
//! It does not know where spans go: the process says how a trace is adopted, if it exports any.

use muster_model::TraceId;
use std::sync::OnceLock;
use tracing::Span;

static ADOPT: OnceLock<fn(TraceId, &Span)> = OnceLock::new();

/// Says how a span becomes part of a trace. Once per process; later calls change nothing.
pub fn adopt_with(adopt: fn(TraceId, &Span)) {
    let _ = ADOPT.set(adopt);
}

/// Makes `span` part of `trace`, if there is one and spans are exported.
pub(crate) fn linked(span: Span, trace: Option<TraceId>) -> Span {
    if let (Some(adopt), Some(trace)) = (ADOPT.get(), trace) {
        adopt(trace, &span);
    }
    span
}
