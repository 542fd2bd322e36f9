//! Container instances: one cluster for life, and an id that is refused for good once it was
//! deregistered.

use super::{find, task};
use crate::command::{InstanceAttribute, RegisterInstance, Response};
use crate::error::{Error, Kind};
use crate::ids::{InstanceId, Principal};
use crate::instance::{Health, Instance, InstanceSpec, InstanceStatus};
use crate::limits;
use crate::state::State;
use crate::task::Task;
use std::collections::BTreeMap;
use std::sync::Arc;

/// First registration comes from the manager that checked a join token and minted the id; an
/// agent itself can only renew what it is. So an id whose row was purged cannot come back either:
/// its certificate is an agent's, and there is no row.
pub(super) fn register(
    state: &mut State,
    by: &Principal,
    command: &RegisterInstance,
) -> Result<Response, Error> {
    if let Principal::Instance(id) = by {
        if *id != command.id {
            let action = format!("register container instance {}", command.id);
            return Err(Error::Denied { principal: by.to_string(), action });
        }
        find::registered_instance(state, *id)?;
    }
    if state.instance(command.id).is_some() {
        return renew(state, command);
    }
    find::active_cluster(state, command.cluster)?;
    find::at_most("container instances", state.instances.len() + 1, limits::INSTANCES_MAX)?;
    state.put_instance(Arc::new(Instance {
        id: command.id,
        cluster: command.cluster,
        spec: said(&command.spec, &BTreeMap::new()),
        status: InstanceStatus::Active,
        health: Health::Registered,
        registered_at: state.now(),
        deregistered_at: None,
        tags: Arc::default(),
        version: 1,
    }));
    Ok(Response::Instance(command.id))
}

fn renew(state: &mut State, command: &RegisterInstance) -> Result<Response, Error> {
    let old = find::registered_instance(state, command.id)?;
    if old.cluster != command.cluster {
        let name = |id| state.cluster(id).map_or_else(String::new, |row| row.name.to_string());
        let allowed = format!("{}, which it joined; to move it, join anew", name(old.cluster));
        return Err(Error::invalid("cluster", name(command.cluster), allowed));
    }
    let spec = said(&command.spec, &old.spec.custom);
    if old.spec != spec {
        let mut new = Instance::clone(&old);
        new.spec = spec;
        new.version += 1;
        state.put_instance(Arc::new(new));
    }
    Ok(Response::Instance(command.id))
}

/// What the agent says of its machine, with the attributes that users have put on it.
fn said(spec: &Arc<InstanceSpec>, custom: &BTreeMap<String, Option<String>>) -> Arc<InstanceSpec> {
    let mut spec = spec.clone();
    if spec.custom != *custom {
        Arc::make_mut(&mut spec).custom = custom.clone();
    }
    spec
}

/// Sets, then removes, all or nothing; removing what is not there is not an error, as in ECS.
pub(super) fn change(
    state: &mut State,
    set: &[InstanceAttribute],
    remove: &[(InstanceId, String)],
) -> Result<Response, Error> {
    let mut specs: BTreeMap<InstanceId, Arc<InstanceSpec>> = BTreeMap::new();
    let named = set.iter().map(|a| a.instance).chain(remove.iter().map(|(id, _)| *id));
    for id in named {
        let row = find::registered_instance(state, id);
        let row = row.map_err(|_| Error::not_found(Kind::Target, id))?;
        specs.insert(id, row.spec.clone());
    }
    for attribute in set {
        if let Some(spec) = specs.get_mut(&attribute.instance) {
            let (name, value) = (attribute.name.clone(), attribute.value.clone());
            Arc::make_mut(spec).custom.insert(name, value);
        }
    }
    for (id, name) in remove {
        if let Some(spec) = specs.get_mut(id) {
            Arc::make_mut(spec).custom.remove(name);
        }
    }
    for spec in specs.values() {
        find::at_most("attributes", spec.custom.len(), limits::CUSTOM_ATTRIBUTES_MAX)?;
    }
    for (id, spec) in specs {
        let old = find::instance(state, id)?;
        if old.spec != spec {
            let version = old.version + 1;
            state.put_instance(Arc::new(Instance { spec, version, ..Instance::clone(&old) }));
        }
    }
    Ok(Response::Done)
}

/// Between ACTIVE and DRAINING; INACTIVE comes from deregistration only.
pub(super) fn set_status(
    state: &mut State,
    id: InstanceId,
    status: InstanceStatus,
) -> Result<Response, Error> {
    let old = find::registered_instance(state, id)?;
    if status == InstanceStatus::Inactive {
        let allowed = "ACTIVE or DRAINING; deregister it to make it INACTIVE";
        return Err(Error::invalid("status", "INACTIVE", allowed));
    }
    if old.status != status {
        let mut new = Instance::clone(&old);
        new.status = status;
        new.version += 1;
        state.put_instance(Arc::new(new));
    }
    Ok(Response::Instance(id))
}

/// Refused while tasks run there unless forced; forced, they are abandoned and may be replaced. A
/// strict task is not: force does not know whether it runs on.
/// Doing it twice is not an error.
pub(super) fn deregister(
    state: &mut State,
    id: InstanceId,
    force: bool,
) -> Result<Response, Error> {
    let old = find::instance(state, id)?;
    if old.status == InstanceStatus::Inactive {
        return Ok(Response::Instance(id));
    }
    let tasks: Vec<Arc<Task>> =
        state.tasks_on(id).filter(|task| task.reserves()).cloned().collect();
    if let Some(task) = tasks.iter().find(|task| state.is_strict(task)) {
        let what = format!(
            "task {} of a strict service, which may still run there; stop it, or wait until it is \
             given up: less than two minutes after its agent was lost, unless its stopTimeout is \
             longer",
            task.id
        );
        return Err(Error::InUse { kind: Kind::ContainerInstance, name: id.to_string(), what });
    }
    if !tasks.is_empty() && !force {
        let what = format!("running tasks ({}); drain it first, or use force", tasks.len());
        return Err(Error::InUse { kind: Kind::ContainerInstance, name: id.to_string(), what });
    }
    let now = state.now();
    for lost in &tasks {
        task::abandon(state, lost);
    }
    let mut new = Instance::clone(&old);
    new.status = InstanceStatus::Inactive;
    new.deregistered_at = Some(now);
    if !matches!(new.health, Health::Down { .. }) {
        new.health = Health::Down { since: now };
    }
    new.version += 1;
    state.put_instance(Arc::new(new));
    Ok(Response::Instance(id))
}
