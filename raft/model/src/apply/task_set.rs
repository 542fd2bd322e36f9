//! Task sets, as their service's owner writes them: created, scaled, made primary, deleted. What
//! becomes of their tasks is the leader's.
//!
//! Invariant: a service's deployments and the sets of its row are the same ones (`put`).

use super::{author, definition, deployment, find, pin, privilege, reserve, service};
use crate::command::Response;
use crate::error::{Error, Kind};
use crate::ids::{DeploymentId, Principal, ServiceId, TaskId};
use crate::limits;
use crate::service::{Deployment, RolloutState, Service, ServiceSpec, ServiceStatus};
use crate::state::State;
use crate::task_set::{NewTaskSet, Scale, TaskSet, TaskSetCommand, TaskSets};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn decide(
    state: &mut State,
    by: &Principal,
    command: &TaskSetCommand,
) -> Result<Response, Error> {
    match command {
        TaskSetCommand::CreateService { id, cluster, spec, tags } => {
            let cluster = find::active_cluster(state, *cluster)?;
            fits(spec)?;
            service::can_roll(&spec.deployment)?;
            let new = service::fresh(state, *id, cluster.id, spec, tags)?;
            state.put_service(Arc::new(Service { created_by: author(by), ..new }));
            put(state, TaskSets { service: *id, primary: None, sets: BTreeMap::new() });
            Ok(Response::Service(*id))
        }
        TaskSetCommand::Create(new) => create(state, new),
        TaskSetCommand::Scale { service, set, scale } => {
            change(state, *service, *set, |row| row.scale = *scale)
        }
        TaskSetCommand::SetPrimary { service, set } => set_primary(state, *service, *set),
        TaskSetCommand::Delete { service, set, force } => delete(state, *service, *set, *force),
    }
}

/// What is said of how Muster deploys has no meaning where it does not.
pub(super) fn fits(spec: &ServiceSpec) -> Result<(), Error> {
    let beyond = match () {
        () if spec.is_daemon() => ("schedulingStrategy", "DAEMON", "REPLICA"),
        () if spec.strict => ("strict", "true", "false"),
        () if spec.circuit_breaker.enable => {
            ("deploymentConfiguration.deploymentCircuitBreaker.enable", "true", "false")
        }
        () if spec.alarms.enable => ("deploymentConfiguration.alarms.enable", "true", "false"),
        () if spec.strategy.shifts_traffic() => {
            ("deploymentConfiguration.strategy", spec.strategy.pace.shown(), "ROLLING")
        }
        () if spec.az_rebalancing => ("availabilityZoneRebalancing", "ENABLED", "DISABLED"),
        () => return Ok(()),
    };
    let (field, value, allowed) = beyond;
    let allowed = format!("{allowed} with the EXTERNAL deployment controller");
    Err(Error::invalid(field, value, allowed))
}

fn external(state: &State, id: ServiceId) -> Result<(Arc<Service>, TaskSets), Error> {
    let service = find::active_service(state, id)?;
    match state.task_sets(id) {
        Some(row) => Ok((service, TaskSets::clone(row))),
        None => Err(Error::invalid(
            "service",
            &service.spec.name,
            "a service whose deploymentController is EXTERNAL: the others have no task sets",
        )),
    }
}

fn put(state: &mut State, row: TaskSets) {
    state.put_task_sets(Arc::new(row));
}

fn create(state: &mut State, new: &NewTaskSet) -> Result<Response, Error> {
    let (old, mut row) = external(state, new.service)?;
    let definition = find::active_definition(state, new.definition)?;
    let cluster = find::active_cluster(state, old.cluster)?;
    privilege::admit(&cluster, &definition)?;
    definition::takes_constraints(&definition, &old.spec.placement)?;
    find::at_most("task sets of the service", row.sets.len() + 1, limits::TASK_SETS_MAX)?;
    find::at_most("tags", new.tags.len(), limits::TAGS_MAX)?;
    if row.sets.contains_key(&new.id) {
        return Err(Error::Exists { kind: Kind::TaskSet, name: new.id.shown() });
    }
    let taken = |set: &TaskSet| new.external_id.is_some() && set.external_id == new.external_id;
    if let Some((id, _)) = row.sets.iter().find(|(_, set)| taken(set)) {
        return Err(Error::Exists { kind: Kind::TaskSet, name: id.shown() });
    }
    let fresh = deployment::fresh(new.id, new.definition, state.now());
    let mut service = Service::clone(&old);
    // It is on its way to nowhere: no verdict is to be had, and nothing to be rolled back to.
    service.deployments.insert(0, Deployment { rollout: RolloutState::Completed, ..fresh });
    service.version += 1;
    let set = TaskSet {
        external_id: new.external_id.clone(),
        scale: new.scale,
        draining: false,
        tags: Arc::new(new.tags.clone()),
    };
    row.sets.insert(new.id, set);
    state.put_service(Arc::new(service));
    put(state, row);
    Ok(Response::TaskSet { service: new.service, set: new.id })
}

/// Writes what `with` makes of a set that does not drain.
fn change(
    state: &mut State,
    service: ServiceId,
    id: DeploymentId,
    with: impl FnOnce(&mut TaskSet),
) -> Result<Response, Error> {
    let (old, mut row) = external(state, service)?;
    let set = active(&mut row, id)?;
    let before = set.clone();
    with(set);
    if *set != before {
        put(state, row);
        touch(state, &old, id);
    }
    Ok(Response::TaskSet { service, set: id })
}

fn active(row: &mut TaskSets, id: DeploymentId) -> Result<&mut TaskSet, Error> {
    match row.sets.get_mut(&id) {
        None => Err(Error::not_found(Kind::TaskSet, id.shown())),
        Some(set) if set.draining => {
            Err(Error::NotActive { kind: Kind::TaskSet, name: id.shown() })
        }
        Some(set) => Ok(set),
    }
}

/// The set was changed now, and with it its service: whoever compares versions sees it.
fn touch(state: &mut State, old: &Service, id: DeploymentId) {
    let mut service = old.clone();
    let now = state.now();
    for row in service.deployments.iter_mut().filter(|row| row.id == id) {
        row.updated_at = now;
    }
    service.version += 1;
    reserve::shrink(state, &service);
    state.put_service(Arc::new(service));
}

fn set_primary(state: &mut State, service: ServiceId, id: DeploymentId) -> Result<Response, Error> {
    let (old, mut row) = external(state, service)?;
    active(&mut row, id)?;
    if row.primary != Some(id) {
        row.primary = Some(id);
        put(state, row);
        touch(state, &old, id);
    }
    Ok(Response::TaskSet { service, set: id })
}

/// A repeated delete is not an error, as with services. The primary one goes like any other: its
/// owner has said so.
fn delete(
    state: &mut State,
    service: ServiceId,
    id: DeploymentId,
    force: bool,
) -> Result<Response, Error> {
    let (old, mut row) = external(state, service)?;
    let Some(set) = row.sets.get_mut(&id) else {
        return Err(Error::not_found(Kind::TaskSet, id.shown()));
    };
    if set.draining {
        return Ok(Response::TaskSet { service, set: id });
    }
    if set.scale > Scale::NONE && !force {
        let percent = set.scale.percent();
        let what = format!("its scale is {percent} %; set it to 0 first, or delete with force");
        return Err(Error::InUse { kind: Kind::TaskSet, name: id.shown(), what });
    }
    set.draining = true;
    row.primary = row.primary.filter(|primary| *primary != id);
    put(state, row);
    touch(state, &old, id);
    Ok(Response::TaskSet { service, set: id })
}

/// A set that drained has no task left: it is forgotten.
pub(super) fn retire(state: &mut State, service: ServiceId, id: DeploymentId) -> Result<(), Error> {
    let (old, mut row) = external(state, service)?;
    if !row.sets.get(&id).is_some_and(|set| set.draining) {
        return Err(Error::refused(format!("task set {} does not drain", id.shown())));
    }
    if let Some(task) = left_of(state, service, id) {
        return Err(Error::refused(format!("task {task} has not ended")));
    }
    row.sets.remove(&id);
    let mut new = Service::clone(&old);
    new.deployments.retain(|row| row.id != id);
    new.version += 1;
    pin::prune(state, &new);
    state.put_service(Arc::new(new));
    put(state, row);
    Ok(())
}

fn left_of(state: &State, service: ServiceId, set: DeploymentId) -> Option<TaskId> {
    let mut own = state.tasks_of(service).filter(|task| task.deployment() == Some(set));
    own.find(|task| task.ended_at().is_none()).map(|task| task.id)
}

/// Why a service that has sets is not deleted without force.
pub(super) fn in_use(state: &State, row: &Service) -> Option<String> {
    let sets = state.task_sets(row.id).filter(|_| row.status == ServiceStatus::Active)?;
    let number = sets.sets.values().filter(|set| !set.draining).count();
    (number > 0).then(|| format!("it has {number} task sets; delete them first, or use force"))
}
