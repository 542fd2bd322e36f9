//! What the leader decided: each step is judged alone, by the same rules whoever planned it, and
//! stands or falls as a whole.
//!
//! A step may be beaten by an entry that was committed after the plan was made; it is refused,
//! the rest stands, and the next plan repairs.

use super::bounds::Bounds;
use super::{deployment, find, job, pin, report, schedule, shift, tags, task, task_set};
use crate::command::{Response, Step};
use crate::error::{Error, Kind};
use crate::ids::{DefinitionId, DeploymentId, Epoch, InstanceId, ServiceId, Slot, TaskId};
use crate::instance::{Health, Instance, InstanceStatus};
use crate::limits;
use crate::service::{Event, RolloutState, Service, ServiceStatus};
use crate::spec::Overrides;
use crate::state::State;
use crate::task::{Owner, Phase, StopCode, Task, Waiting, reason};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn apply(state: &mut State, epoch: Epoch, steps: &[Step]) -> Result<Response, Error> {
    let current = state.meta().epoch;
    if epoch != current {
        return Err(Error::StaleEpoch { refused: epoch, current });
    }
    let mut refused = Vec::new();
    let mut bounds = Bounds::default();
    let mut beaten = BTreeSet::new();
    for (position, step) in (0u32..).zip(steps) {
        let result = match step {
            Step::Event { service, .. } if beaten.contains(service) => {
                Err(Error::refused("a step that it tells of was refused"))
            }
            _ => one(state, &mut bounds, step),
        };
        if let Err(why) = result {
            beaten.extend(told_of(state, step));
            refused.push((position, why));
        }
    }
    Ok(Response::Plan { refused })
}

/// The service whose history tells of the step: it must not tell of what did not happen.
fn told_of(state: &State, step: &Step) -> Option<ServiceId> {
    match step {
        Step::CreateTasks { service, .. }
        | Step::FailDeployment { service, .. }
        | Step::AnswerHook { service, .. }
        | Step::Turn { service, .. } => Some(*service),
        Step::Stop { task, .. } => state.task(*task)?.service(),
        _ => None,
    }
}

/// Changes nothing if it fails.
pub(super) fn one(state: &mut State, bounds: &mut Bounds, step: &Step) -> Result<(), Error> {
    match step {
        Step::CreateTasks { service, deployment, tasks } => {
            create_tasks(state, bounds, *service, *deployment, tasks)
        }
        Step::Place { task, instance, ports } => place(state, bounds, *task, *instance, ports),
        Step::Stop { task, code, reason } => stop(state, bounds, *task, *code, reason),
        Step::Abandon { task } => abandon(state, bounds, *task),
        Step::SetHealth { instance, health } => set_health(state, bounds, *instance, *health),
        Step::Advance { service, deployment, rollout } => {
            bounds.forget(*service);
            deployment::advance(state, *service, *deployment, *rollout)
        }
        Step::Event { service, text } => event(state, *service, text),
        Step::Explain { task, waiting } => explain(state, *task, waiting),
        Step::Forget { tasks } => forget(state, tasks),
        Step::Retire { service } => retire(state, *service),
        Step::Purge { services, instances } => purge(state, services, instances),
        Step::RemoveDefinitions { definitions } => remove_definitions(state, definitions),
        Step::FailDeployment { service, deployment, back_to } => {
            bounds.forget(*service);
            deployment::fail(state, *service, *deployment, *back_to)
        }
        Step::Turn { service, deployment, turn } => {
            bounds.forget(*service);
            shift::turn(state, *service, *deployment, *turn)
        }
        Step::Fire { schedule, due, latest, missed, next } => {
            let (schedule, due, latest) = (*schedule, *due, *latest);
            let said = schedule::Fire { schedule, due, latest, missed: *missed, next: *next };
            schedule::fire(state, said)
        }
        Step::StartAttempts { job, tasks } => job::start(state, *job, tasks),
        Step::TimeOutJob { job } => job::time_out(state, *job),
        Step::AnswerHook { service, deployment, hook, answer } => {
            bounds.forget(*service);
            shift::answer(state, *service, *deployment, hook, *answer)
        }
        Step::RetireTaskSet { service, set } => {
            bounds.forget(*service);
            task_set::retire(state, *service, *set)
        }
    }
}

fn create_tasks(
    state: &mut State,
    bounds: &mut Bounds,
    service: ServiceId,
    deployment: DeploymentId,
    tasks: &[(Slot, TaskId)],
) -> Result<(), Error> {
    let row = find::active_service(state, service)?;
    let Some(plan) = row.deployments.iter().find(|d| d.id == deployment) else {
        return Err(Error::not_found(Kind::Deployment, deployment));
    };
    if plan.rollout == RolloutState::Failed {
        return Err(Error::refused(format!("deployment {deployment} failed: it starts no tasks")));
    }
    let Some(side) = state.side_growing_by(&row, deployment) else {
        let why = format!("deployment {deployment} makes up no side: it starts no tasks");
        return Err(Error::refused(why));
    };
    let definition = find::definition(state, plan.definition)?;
    task::unused(state, tasks.iter().map(|(_, id)| *id))?;
    let mut slots = BTreeSet::new();
    for (slot, _) in tasks {
        if !slots.insert(*slot) {
            return Err(Error::refused(format!("slot {slot} appears twice")));
        }
        if let Some(holder) = state.in_slot(service, *slot) {
            return Err(Error::refused(format!("slot {slot} is held by task {}", holder.id)));
        }
    }
    bounds.may_start(state, &row, side, tasks.len())?;
    let tags = tags::of_service(state, &row, &definition);
    // ECS: a change of it reaches the tasks that start afterwards.
    let enable_execute_command = row.spec.enable_execute_command;
    let overrides = enable_execute_command
        .then(|| Arc::new(Overrides { enable_execute_command, ..Overrides::default() }));
    let now = state.now();
    for (slot, id) in tasks {
        let owner = Owner::Service { service, slot: *slot, deployment };
        let new = Task::new(*id, row.cluster, owner, plan.definition, now);
        let (tags, overrides) = (tags.clone(), overrides.clone());
        state.put_task(Arc::new(Task { tags, overrides, ..new }));
    }
    if row.spec.strict {
        // Its fencing token.
        let version = row.version + 1;
        state.put_service(Arc::new(Service { version, ..Service::clone(&row) }));
    }
    Ok(())
}

fn place(
    state: &mut State,
    bounds: &mut Bounds,
    id: TaskId,
    instance: InstanceId,
    ports: &[u16],
) -> Result<(), Error> {
    let task = find::task(state, id)?;
    let instance = find::instance(state, instance)?;
    state.check_place(&task, &instance, ports)?;
    bounds.reserves.take(state, &task, &instance)?;
    drop(task);
    let now = state.now();
    state.change_task(id, |task| {
        task.instance = Some(instance.id);
        task.placed_at = Some(now);
        task.ports = ports.into();
        task.waiting = None;
        task.version += 1;
    });
    Ok(())
}

fn stop(
    state: &mut State,
    bounds: &mut Bounds,
    id: TaskId,
    code: StopCode,
    why: &Arc<str>,
) -> Result<(), Error> {
    let task = find::task(state, id)?;
    if !task.wanted() {
        return Err(Error::refused(format!("task {id} is not wanted any more")));
    }
    let unhealthy = state.is_unhealthy(&task);
    if code == StopCode::ServiceSchedulerInitiated && is_spared(state, &task) && !unhealthy {
        return Err(Error::refused(format!("task {id} is protected from scale-in")));
    }
    bounds.may_stop(state, &task)?;
    bounds.reserves.leave(&task);
    task::stop(state, &task, code, reason(why));
    if unhealthy {
        report::gave_up(state, &task);
    }
    Ok(())
}

/// A service that is being deleted protects nothing. Protection is from scaling in and from
/// deployments: as in ECS it does not keep a task whose health checks fail.
fn is_spared(state: &State, task: &Task) -> bool {
    let service = task.service().and_then(|id| state.service(id));
    service.is_some_and(|row| row.status == ServiceStatus::Active)
        && state.spared_until(task).is_some()
}

fn abandon(state: &mut State, bounds: &mut Bounds, id: TaskId) -> Result<(), Error> {
    let task = find::task(state, id)?;
    if !task.reserves() {
        let why = format!("task {id} is not placed, has stopped or is abandoned already");
        return Err(Error::refused(why));
    }
    let on = task.instance.and_then(|id| state.instance(id));
    if state.is_strict(&task) && on.is_some_and(|row| row.ready()) {
        // A leader that has seen it come back may have let it run on.
        return Err(Error::refused(format!("strict task {id} is within reach")));
    }
    bounds.lose(state, &task);
    bounds.reserves.leave(&task);
    task::abandon(state, &task);
    Ok(())
}

/// Saying the same again is not an error: leases are judged at every tick. While it is `Down`,
/// `since` stays when it was first so.
fn set_health(
    state: &mut State,
    bounds: &mut Bounds,
    id: InstanceId,
    health: Health,
) -> Result<(), Error> {
    let old = find::registered_instance(state, id)?;
    let down = |health: Health| matches!(health, Health::Down { .. });
    if old.health == health || (down(old.health) && down(health)) {
        return Ok(());
    }
    bounds.change(state, old.cluster);
    let mut new = Instance::clone(&old);
    new.health = health;
    new.version += 1;
    state.put_instance(Arc::new(new));
    Ok(())
}

/// Events are history beside the row: they do not change the service's version.
pub(super) fn event(state: &mut State, service: ServiceId, text: &Arc<str>) -> Result<(), Error> {
    let mut row = Service::clone(&*find::service(state, service)?);
    let number = row.next_event;
    row.next_event = number.saturating_add(1);
    let at = state.now();
    state.put_service(Arc::new(row));
    state.put_event(service, number, Arc::new(Event { at, text: reason(text) }));
    if let Some(oldest) = number.checked_sub(limits::EVENTS_PER_SERVICE_MAX as u64) {
        state.remove_event(service, oldest);
    }
    Ok(())
}

fn explain(state: &mut State, id: TaskId, waiting: &Waiting) -> Result<(), Error> {
    let task = find::task(state, id)?;
    if !task.wanted() || task.instance.is_some() {
        return Err(Error::refused(format!("task {id} does not wait for an instance")));
    }
    if task.waiting.as_deref() != Some(waiting) {
        drop(task);
        state.change_task(id, |task| {
            task.waiting = Some(Arc::new(waiting.clone()));
            task.version += 1;
        });
    }
    Ok(())
}

/// Tasks that are gone already are skipped.
fn forget(state: &mut State, tasks: &[TaskId]) -> Result<(), Error> {
    for id in tasks {
        if state.task(*id).is_some_and(|task| task.ended_at().is_none()) {
            return Err(Error::refused(format!("task {id} has not ended")));
        }
    }
    for id in tasks {
        state.remove_task(*id);
    }
    Ok(())
}

/// ECS: INACTIVE when no task of it is left before STOPPING.
fn retire(state: &mut State, id: ServiceId) -> Result<(), Error> {
    let old = find::service(state, id)?;
    if old.status != ServiceStatus::Draining {
        return Err(Error::refused(format!("service {} is not DRAINING", old.spec.name)));
    }
    if let Some(task) = state.tasks_of(id).find(|task| task.last_status() < Phase::Stopping) {
        return Err(Error::refused(format!("task {} still runs", task.id)));
    }
    let mut new = Service::clone(&old);
    new.status = ServiceStatus::Inactive;
    new.deleted_at = Some(state.now());
    new.deployments.clear();
    new.past.clear();
    new.version += 1;
    pin::prune(state, &new);
    state.remove_task_sets(id);
    state.put_service(Arc::new(new));
    Ok(())
}

/// Rows that are gone already are skipped.
fn purge(state: &mut State, services: &[ServiceId], instances: &[InstanceId]) -> Result<(), Error> {
    for id in services {
        if state.service(*id).is_some_and(|row| row.status != ServiceStatus::Inactive) {
            return Err(Error::refused(format!("service {id} is not INACTIVE")));
        }
    }
    for id in instances {
        if state.instance(*id).is_some_and(|row| row.status != InstanceStatus::Inactive) {
            return Err(Error::refused(format!("container instance {id} is not INACTIVE")));
        }
    }
    for id in services {
        state.remove_service(*id);
    }
    for id in instances {
        state.remove_instance(*id);
    }
    Ok(())
}

/// Definitions that are gone already are skipped. The newest of a family stays: the next revision
/// is counted from it.
fn remove_definitions(state: &mut State, definitions: &[DefinitionId]) -> Result<(), Error> {
    let gone: BTreeSet<DefinitionId> = definitions.iter().copied().collect();
    for id in &gone {
        if state.definition(*id).is_some() && state.deleted_since(*id).is_none() {
            return Err(Error::refused(format!("task definition {id} is not being deleted")));
        }
        if state.is_newest(*id) {
            return Err(Error::refused(format!(
                "task definition {id} is the newest of its family"
            )));
        }
    }
    if let Some(task) = state.tasks().find(|task| gone.contains(&task.definition)) {
        return Err(Error::refused(format!("task {} refers to its definition", task.id)));
    }
    let refers = |row: &Service| row.deployments.iter().any(|d| gone.contains(&d.definition));
    if let Some(row) = state.services().find(|row| refers(row)) {
        return Err(Error::refused(format!("service {} refers to its definition", row.spec.name)));
    }
    if let Some(row) = state.jobs().find(|row| gone.contains(&row.definition)) {
        return Err(Error::refused(format!("job {} refers to its definition", row.spec.name)));
    }
    for id in gone {
        state.remove_definition(id);
    }
    Ok(())
}
