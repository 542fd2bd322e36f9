//! Look-ups that every rule needs, with the error a user sees when they fail.

use crate::cluster::{Cluster, ClusterStatus};
use crate::error::{Error, Kind};
use crate::ids::{ClusterId, DefinitionId, DeploymentId, InstanceId, ServiceId, TaskId};
use crate::instance::{Instance, InstanceStatus};
use crate::service::{Service, ServiceStatus};
use crate::state::{DefinitionRow, State};
use crate::task::Task;
use crate::task_set::TaskSets;
use std::sync::Arc;

pub(super) fn not_active(kind: Kind, name: impl ToString) -> Error {
    Error::NotActive { kind, name: name.to_string() }
}

pub(super) fn cluster(state: &State, id: ClusterId) -> Result<Arc<Cluster>, Error> {
    let row = state.cluster(id).ok_or_else(|| Error::not_found(Kind::Cluster, id))?;
    Ok(row.clone())
}

pub(super) fn active_cluster(state: &State, id: ClusterId) -> Result<Arc<Cluster>, Error> {
    let row = cluster(state, id)?;
    match row.status {
        ClusterStatus::Active => Ok(row),
        ClusterStatus::Inactive => Err(not_active(Kind::Cluster, &row.name)),
    }
}

pub(super) fn definition(state: &State, id: DefinitionId) -> Result<Arc<DefinitionRow>, Error> {
    let row = state.definition(id).ok_or_else(|| Error::not_found(Kind::TaskDefinition, id))?;
    Ok(row.clone())
}

/// One that may start new tasks and services.
pub(super) fn active_definition(
    state: &State,
    id: DefinitionId,
) -> Result<Arc<DefinitionRow>, Error> {
    let row = definition(state, id)?;
    match row.deregistered_at {
        None => Ok(row),
        Some(_) => {
            let name = format!("{}:{}", row.family, row.revision);
            Err(not_active(Kind::TaskDefinition, name))
        }
    }
}

pub(super) fn service(state: &State, id: ServiceId) -> Result<Arc<Service>, Error> {
    let row = state.service(id).ok_or_else(|| Error::not_found(Kind::Service, id))?;
    Ok(row.clone())
}

pub(super) fn active_service(state: &State, id: ServiceId) -> Result<Arc<Service>, Error> {
    let row = service(state, id)?;
    match row.status {
        ServiceStatus::Active => Ok(row),
        _ => Err(not_active(Kind::Service, &row.spec.name)),
    }
}

/// The row that has the set.
pub(super) fn task_sets(
    state: &State,
    service: ServiceId,
    set: DeploymentId,
) -> Result<Arc<TaskSets>, Error> {
    let row = state.task_sets(service).filter(|row| row.sets.contains_key(&set));
    row.cloned().ok_or_else(|| Error::not_found(Kind::TaskSet, set.shown()))
}

pub(super) fn task(state: &State, id: TaskId) -> Result<Arc<Task>, Error> {
    let row = state.task(id).ok_or_else(|| Error::not_found(Kind::Task, id))?;
    Ok(row.clone())
}

pub(super) fn instance(state: &State, id: InstanceId) -> Result<Arc<Instance>, Error> {
    let row = state.instance(id).ok_or_else(|| Error::not_found(Kind::ContainerInstance, id))?;
    Ok(row.clone())
}

/// One that was not deregistered.
pub(super) fn registered_instance(state: &State, id: InstanceId) -> Result<Arc<Instance>, Error> {
    let row = instance(state, id)?;
    match row.status {
        InstanceStatus::Inactive => Err(not_active(Kind::ContainerInstance, id)),
        _ => Ok(row),
    }
}

/// `value` more or less items of `what` than allowed.
pub(super) fn at_most(what: &str, value: usize, limit: usize) -> Result<(), Error> {
    if value <= limit {
        return Ok(());
    }
    let what = what.to_string();
    Err(Error::LimitExceeded { what, value: value as u64, limit: limit as u64 })
}
