//! Tasks as users ask for them: run and stop. Both are requests to the leader and the agents;
//! only a task that no instance has yet ends here at once.

use super::{definition, find, job, privilege, tags};
use crate::command::{Response, RunTask, StartTask};
use crate::error::{Error, Kind};
use crate::ids::{InstanceId, TaskId, TraceId};
use crate::limits;
use crate::spec::Overrides;
use crate::state::{DefinitionRow, State};
use crate::task::{Blocker, Desired, Observed, Owner, Phase, StopCode, Task, reason};
use std::collections::BTreeSet;
use std::sync::Arc;

/// ECS's words when the caller gives none.
const STOPPED_BY_USER: &str = "Task stopped by user";

pub(super) fn run(
    state: &mut State,
    command: &RunTask,
    trace: Option<TraceId>,
) -> Result<Response, Error> {
    for task in drawn_up(state, command, trace)? {
        state.put_task(Arc::new(task));
    }
    Ok(Response::Tasks(command.tasks.clone()))
}

/// Each task on the instance named for it, or not at all: nothing is chosen, nothing waits. A task
/// that was started counts for those after it.
pub(super) fn start(
    state: &mut State,
    command: &StartTask,
    trace: Option<TraceId>,
) -> Result<Response, Error> {
    let (asked, on) = (command.run.tasks.len(), command.on.len());
    if asked != on {
        return Err(Error::refused(format!("{asked} tasks for {on} container instances")));
    }
    find::at_most("containerInstances", on, limits::START_TASK_INSTANCES_MAX)?;
    let (mut tasks, mut refused) = (Vec::new(), Vec::new());
    for (task, instance) in drawn_up(state, &command.run, trace)?.into_iter().zip(&command.on) {
        match started(state, task, *instance) {
            Ok(task) => tasks.push(task),
            Err(blocker) => refused.push((*instance, blocker)),
        }
    }
    Ok(Response::Started { tasks, refused })
}

fn started(state: &mut State, mut task: Task, on: InstanceId) -> Result<TaskId, Blocker> {
    let instance = state.instance(on).ok_or(Blocker::Inactive)?;
    task.ports = state.fit(&task, instance)?.into();
    let (zone, size) = (&instance.spec.zone, state.reservation(&task));
    if state.missing_for_growth(task.cluster, zone, size).is_some() {
        return Err(Blocker::Reserve);
    }
    task.instance = Some(on);
    task.placed_at = Some(state.now());
    let id = task.id;
    state.put_task(Arc::new(task));
    Ok(id)
}

/// The tasks that a run asks for, before any is anywhere.
pub(super) fn drawn_up(
    state: &State,
    command: &RunTask,
    trace: Option<TraceId>,
) -> Result<Vec<Task>, Error> {
    let cluster = find::active_cluster(state, command.cluster)?;
    let definition = find::active_definition(state, command.definition)?;
    privilege::admit(&cluster, &definition)?;
    definition::takes_constraints(&definition, &command.overrides.placement)?;
    if command.tasks.is_empty() {
        return Err(Error::invalid("count", "0", "1 to 10"));
    }
    find::at_most("count", command.tasks.len(), limits::RUN_TASK_COUNT_MAX as usize)?;
    let tags = tags::of_run(&cluster, &definition, &command.overrides, &command.tags);
    tags::at_most(&tags)?;
    unused(state, command.tasks.iter().copied())?;
    let group = group(&command.group, &definition);
    let overrides = overrides(command.overrides.clone());
    let tags = Arc::new(tags);
    let task = |id: &TaskId| {
        let owner = Owner::Run { group: group.clone(), started_by: command.started_by.clone() };
        Task {
            overrides: overrides.clone(),
            tags: tags.clone(),
            trace,
            ..Task::new(*id, command.cluster, owner, command.definition, state.now())
        }
    };
    Ok(command.tasks.iter().map(task).collect())
}

/// ECS: a run without a group is of its family's.
pub(super) fn group(named: &str, definition: &DefinitionRow) -> Arc<str> {
    match named {
        "" => Arc::from(format!("family:{}", definition.family)),
        _ => Arc::from(named),
    }
}

/// Most runs override nothing.
pub(super) fn overrides(said: Arc<Overrides>) -> Option<Arc<Overrides>> {
    (*said != Overrides::default()).then_some(said)
}

/// New ids: each once, none known, and room for all of them.
pub(super) fn unused(
    state: &State,
    ids: impl ExactSizeIterator<Item = TaskId>,
) -> Result<(), Error> {
    find::at_most("tasks", state.task_count() + ids.len(), limits::TASKS_MAX)?;
    // New ids are mostly larger than all that are known: time stands first in them.
    let newest = state.newest_task();
    let known = |id: TaskId| newest >= Some(id) && state.task(id).is_some();
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) || known(id) {
            return Err(Error::Exists { kind: Kind::Task, name: id.to_string() });
        }
    }
    Ok(())
}

/// Stopping a task that stops or has stopped is not an error and changes nothing.
pub(super) fn stop_by_user(
    state: &mut State,
    id: TaskId,
    why: &Arc<str>,
) -> Result<Response, Error> {
    let task = find::task(state, id)?;
    let why = if why.is_empty() { STOPPED_BY_USER } else { why };
    if task.wanted() {
        // As when nobody takes it away: it failed to start.
        let code = match task.found_no_place() {
            true => StopCode::TaskFailedToStart,
            false => StopCode::UserInitiated,
        };
        stop(state, &task, code, reason(why));
    }
    Ok(Response::Done)
}

/// The task must be wanted. One that was never placed ends here: nobody else will report its end,
/// so this is the one place where a manager writes `observed`.
pub(super) fn stop(state: &mut State, old: &Task, code: StopCode, why: Arc<str>) {
    let now = state.now();
    let mut task = old.clone();
    if task.instance.is_none() {
        task.observed = Observed {
            phase: Phase::Stopped,
            stopping_at: Some(now),
            stopped_at: Some(now),
            stop_code: Some(code),
            reason: Some(why.clone()),
            ..Observed::default()
        };
    }
    task.desired = Desired::Stopped { code, reason: why };
    task.version += 1;
    state.put_task(Arc::new(task));
    job::heard(state, old);
}

/// The managers' verdict that a placed task is lost with its instance; frees what it reserved.
pub(super) fn abandon(state: &mut State, old: &Task) {
    let mut task = old.clone();
    task.desired = Desired::Abandoned { at: state.now() };
    task.version += 1;
    state.put_task(Arc::new(task));
    job::heard(state, old);
}
