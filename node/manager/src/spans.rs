//! The leader's part in journeys: what it proposes for a task belongs to the trace of the call that
//! asked for the task.
//!
//! It does not know where spans go: the process says how a trace is adopted, if it exports any.

use muster_model::{Command, State, Step, TaskId, TraceId};
use std::sync::OnceLock;
use tracing::Span;

static ADOPT: OnceLock<fn(TraceId, &Span)> = OnceLock::new();

/// Says how a span becomes part of a trace. Once per process; later calls change nothing.
pub fn adopt_with(adopt: fn(TraceId, &Span)) {
    let _ = ADOPT.set(adopt);
}

/// Makes `span` part of `trace`, if there is one and spans are exported.
pub(crate) fn link(span: &Span, trace: Option<TraceId>) {
    if let (Some(adopt), Some(trace)) = (ADOPT.get(), trace) {
        adopt(trace, span);
    }
}

/// The journey a proposal belongs to. One that serves several belongs to the first of them: an
/// entry has one trace.
pub(crate) fn journey(command: &Command, state: &State) -> Option<TraceId> {
    let trace = |task: TaskId| state.task(task)?.trace;
    match command {
        Command::Plan { steps, .. } => steps.iter().find_map(|step| match step {
            Step::Place { task, .. } | Step::Stop { task, .. } => trace(*task),
            _ => None,
        }),
        Command::Report { reports } => reports.iter().find_map(|report| trace(report.task)),
        _ => None,
    }
}
