//! A container of a task starts at most once. Without it a job that must run once, a migration or a
//! payment, runs twice although its user sees one task.

use crate::sim::world::short;
use muster_model::TaskId;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn check(
    started: &mut BTreeSet<(TaskId, Arc<str>)>,
    task: TaskId,
    container: &Arc<str>,
) -> Result<(), String> {
    if started.insert((task, container.clone())) {
        return Ok(());
    }
    Err(format!("container {container} of {} starts a second time", short(task)))
}
