//! The log's part in journeys: applying an entry belongs to the trace of the call it came from.
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

/// Span of applying one entry. Only journeys that someone traces get one: this runs for each.
pub(crate) fn apply(index: u64, trace: Option<TraceId>) -> Span {
    let Some(trace) = trace else { return Span::none() };
    let span = tracing::info_span!("raft.apply", index, %trace);
    if let Some(adopt) = ADOPT.get() {
        adopt(trace, &span);
    }
    span
}
