//! One epoch acts: an agent never obeys an older leader or older orders than it obeyed before, and
//! a replaced leader's plan changes nothing. Without it a leader that was asleep stops what the new
//! one started, and work runs twice.

use muster_control::io::WorkerOutput;
use muster_model::{Changes, Command, Entry, Epoch, Index, State};

/// `highest`: what this agent obeyed so far, over all its lives.
pub(super) fn check(
    highest: &mut (Epoch, Index),
    authority: (Epoch, Index),
    outputs: &[WorkerOutput],
) -> Result<(), String> {
    let does = |output: &&WorkerOutput| {
        !matches!(output, WorkerOutput::Report { .. } | WorkerOutput::WakeAt(_))
    };
    if authority < *highest {
        let done: Vec<_> = outputs.iter().filter(does).collect();
        if let Some(first) = done.first() {
            return Err(format!("obeyed {highest:?}, then of {authority:?}: {first:?}"));
        }
        return Ok(());
    }
    *highest = authority;
    Ok(())
}

/// `base`: the newest index that the proposer knew.
pub(super) fn check_entry(
    before: &State,
    base: Index,
    changes: &Changes,
    entry: &Entry,
) -> Result<(), String> {
    let Command::Plan { epoch, .. } = &entry.command else { return Ok(()) };
    if base.0 < epoch.0 {
        return Err(format!("epoch {epoch} plans at #{base}, before it began"));
    }
    let current = before.meta().epoch;
    let nothing =
        changes.tasks.is_empty() && changes.services.is_empty() && changes.instances.is_empty();
    if *epoch == current || nothing {
        return Ok(());
    }
    Err(format!("a plan of epoch {epoch} took effect in epoch {current}"))
}
