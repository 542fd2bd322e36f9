//! At rest nothing is proposed: a leader that looks at an unchanged cluster finds nothing to do.
//! Without it an idle cluster writes to its log for ever, and tasks are moved for no reason.

use muster_control::io::{LeaderInput, LeaderOutput, Mandate};
use muster_control::leader::Leader;
use muster_model::{Command, Entry, RaftId, State, Step, Time};
use std::sync::Arc;

pub(super) fn check_entry(entry: &Entry) -> Result<(), String> {
    match &entry.command {
        Command::Plan { steps, .. } => match steps.iter().find(|step| is_work(step)) {
            Some(step) => Err(format!("planned at rest: {step:?}")),
            None => Ok(()),
        },
        Command::Report { .. } => Err("an agent reports something new at rest".to_owned()),
        _ => Ok(()),
    }
}

/// History ages by itself, and explanations are refreshed.
fn is_work(step: &Step) -> bool {
    !matches!(
        step,
        Step::Event { .. }
            | Step::Explain { .. }
            | Step::Purge { .. }
            | Step::Forget { .. }
            | Step::RemoveDefinitions { .. }
    )
}

/// A leader that has just taken over and looks at everything.
pub(super) fn check_end(state: &Arc<State>, now: Time) -> Result<(), String> {
    let mandate = Mandate { manager: RaftId(1), epoch: state.meta().epoch, seed: 7 };
    let now = now.max(state.now());
    let outputs = Leader::new(mandate, now).handle(now, LeaderInput::State(state.clone()));
    for output in outputs {
        if let LeaderOutput::Propose { command: Command::Plan { steps, .. }, .. } = output
            && let Some(step) = steps.iter().find(|step| is_work(step))
        {
            return Err(format!("a full look finds what the diffs did not announce: {step:?}"));
        }
    }
    Ok(())
}
