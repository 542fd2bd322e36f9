//! A service that keeps failing is started ever more slowly, whoever leads. Without it a broken
//! image is pulled and started as fast as machines allow, and a new leader begins that anew.

use super::heals;
use crate::sim::world::short;
use muster_model::{Changes, Command, Entry, HookAction, Millis, Side, State, Step, Turn};
use std::collections::BTreeSet;

/// Managers' clocks differ by less than this.
const CLOCKS_APART: Millis = Millis(500);

/// `known`: the state that a plan was made on.
pub(super) fn check_entry(known: &State, changes: &Changes, entry: &Entry) -> Result<(), String> {
    forgotten(changes, entry)?;
    let Command::Plan { epoch, steps } = &entry.command else { return Ok(()) };
    if *epoch != known.meta().epoch {
        return Ok(());
    }
    let mut anew = BTreeSet::new();
    for step in steps {
        // What takes the place of a deployment that failed begins a streak of its own.
        if let Step::FailDeployment { service, .. }
        | Step::Turn { service, turn: Turn::RollBack, .. } = step
        {
            anew.insert(*service);
        }
        let Step::CreateTasks { service, deployment, .. } = step else { continue };
        // What the newest deployment failed at does not hold up the one that serves.
        let row = known.service(*service);
        let side = row.and_then(|row| known.side_made_of(row, *deployment));
        if anew.contains(service) || side == Some(Side::Blue) {
            continue;
        }
        let until = match (row, side) {
            (Some(row), Some(side)) => heals::held_back(known, row, side),
            _ => row.map(|row| row.backoff.until).unwrap_or_default(),
        };
        if entry.at + CLOCKS_APART < until {
            let early = until.since(entry.at);
            return Err(format!("{} is started {early} too early", short(*service)));
        }
    }
    Ok(())
}

/// Only what a task did, a new deployment or one that completes or fails ends a streak.
fn forgotten(changes: &Changes, entry: &Entry) -> Result<(), String> {
    for change in &changes.services {
        let (Some(before), Some(after)) = (&change.before, &change.after) else { continue };
        let shorter = after.backoff.failures < before.backoff.failures;
        let ends = |step: &Step| match step {
            Step::Advance { service, .. }
            | Step::FailDeployment { service, .. }
            | Step::Turn { service, turn: Turn::RollBack, .. } => *service == after.id,
            _ => false,
        };
        let allowed = match &entry.command {
            Command::Report { .. }
            | Command::UpdateService(_)
            | Command::StopServiceDeployment { .. } => true,
            Command::ContinueServiceDeployment { action, .. } => *action == HookAction::Rollback,
            Command::Plan { steps, .. } => steps.iter().any(ends),
            _ => false,
        };
        if shorter && !allowed {
            return Err(format!("failures of {} were forgotten", short(after.id)));
        }
    }
    Ok(())
}
