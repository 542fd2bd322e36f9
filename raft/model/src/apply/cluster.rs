//! Clusters: the first entry, creation by name, deletion of empty ones, and tags on anything.

use super::{capacity, find, privilege, reserve, tags};
use crate::capacity::CapacityProvider;
use crate::cluster::{
    Cluster, ClusterStatus, DEFAULT_CLUSTER, User, UserRole, ZONE_RESERVE_SETTING,
};
use crate::command::{Bootstrap, CreateCluster, Resource, Response};
use crate::error::{Error, Kind};
use crate::ids::{ClusterId, JobId};
use crate::instance::InstanceStatus;
use crate::limits;
use crate::spec::Tags;
use crate::state::{DefinitionRow, State};
use crate::task_set::TaskSets;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Only on a state that holds nothing: a second `init` must never take over a cluster.
pub(super) fn bootstrap(state: &mut State, first: &Bootstrap) -> Result<Response, Error> {
    if state.bootstrapped() {
        return Err(Error::Exists { kind: Kind::Cluster, name: state.meta().name.to_string() });
    }
    if first.name.is_empty() {
        return Err(Error::invalid("name", "", "a name for the cluster of managers"));
    }
    let now = state.now();
    let level = first.manager.level;
    let meta = state.meta_mut();
    meta.name = first.name.clone();
    meta.account = first.account.clone();
    meta.region = first.region.clone();
    meta.authority = Arc::new(first.authority.clone());
    meta.level = level.max(meta.level);
    meta.next_definition = 1;
    meta.next_manager = first.manager.id.0.saturating_add(1);
    state.put_manager(Arc::new(first.manager.clone()));
    state.put_user(Arc::new(User {
        name: first.admin.clone(),
        role: UserRole::Admin,
        created_at: now,
        serials: vec![first.admin_serial.clone()],
        removed_at: None,
    }));
    state.put_cluster(Arc::new(Cluster {
        id: first.default_cluster,
        name: Arc::from(DEFAULT_CLUSTER),
        status: ClusterStatus::Active,
        settings: Default::default(),
        tags: Arc::default(),
        created_at: now,
        deleted_at: None,
        version: 1,
    }));
    Ok(Response::Cluster(first.default_cluster))
}

/// Idempotent by name, as in ECS: an active cluster of this name is the answer, unchanged.
pub(super) fn create(state: &mut State, command: &CreateCluster) -> Result<Response, Error> {
    if let Some(row) = state.cluster_named(&command.name) {
        return Ok(Response::Cluster(row.id));
    }
    if command.name.is_empty() {
        return Err(Error::invalid("clusterName", "", "1 to 255 characters"));
    }
    if state.cluster(command.id).is_some() {
        return Err(Error::Exists { kind: Kind::Cluster, name: command.id.to_string() });
    }
    find::at_most("clusters", state.index.cluster_names.len() + 1, limits::CLUSTERS_MAX)?;
    find::at_most("tags", command.tags.len(), limits::TAGS_MAX)?;
    let mut row = Cluster {
        id: command.id,
        name: command.name.clone(),
        status: ClusterStatus::Active,
        settings: BTreeMap::new(),
        tags: Arc::new(command.tags.clone()),
        created_at: state.now(),
        deleted_at: None,
        version: 1,
    };
    set(&mut row, &command.settings)?;
    state.put_cluster(Arc::new(row));
    Ok(Response::Cluster(command.id))
}

/// Settings that are not named stay as they are.
pub(super) fn update(
    state: &mut State,
    id: ClusterId,
    settings: &BTreeMap<String, String>,
) -> Result<Response, Error> {
    let old = find::active_cluster(state, id)?;
    let mut new = Cluster::clone(&old);
    set(&mut new, settings)?;
    privilege::may_become(state, &old, &new)?;
    if new != *old {
        new.version += 1;
        reserve::set(state, &old, &new);
        state.put_cluster(Arc::new(new));
    }
    Ok(Response::Cluster(id))
}

/// A reserve that is set to nothing is gone.
fn set(row: &mut Cluster, settings: &BTreeMap<String, String>) -> Result<(), Error> {
    row.settings.extend(settings.iter().map(|(name, value)| (name.clone(), value.clone())));
    row.settings.retain(|name, value| !name.starts_with(ZONE_RESERVE_SETTING) || !value.is_empty());
    find::at_most("zones with a reserve", row.zone_reserves().count(), limits::ZONE_RESERVES_MAX)
}

/// Refused while anything lives in it. `default` may go too, as in ECS.
pub(super) fn delete(state: &mut State, id: ClusterId) -> Result<Response, Error> {
    let row = find::active_cluster(state, id)?;
    if let Some(what) = contents(state, id) {
        return Err(Error::InUse { kind: Kind::Cluster, name: row.name.to_string(), what });
    }
    let mut row = Cluster::clone(&row);
    row.status = ClusterStatus::Inactive;
    row.deleted_at = Some(state.now());
    row.version += 1;
    state.put_cluster(Arc::new(row));
    state.remove_cluster_providers(id);
    let ended: Vec<JobId> = state.jobs_in(id).map(|job| job.id).collect();
    ended.into_iter().for_each(|job| state.remove_job(job));
    forget_deleted(state);
    Ok(Response::Cluster(id))
}

/// What keeps a cluster from being deleted, if anything does. A running task sits on one of the
/// instances, so only waiting ones are looked for by themselves.
fn contents(state: &State, id: ClusterId) -> Option<String> {
    let services = state.service_count(id);
    if services > 0 {
        return Some(format!("services ({services}); delete them first"));
    }
    let here = |i: &&Arc<crate::Instance>| i.cluster == id && i.status != InstanceStatus::Inactive;
    let instances = state.instances().filter(here).count();
    if instances > 0 {
        return Some(format!("container instances ({instances}); deregister them first"));
    }
    let schedules = state.schedules_in(id).count();
    if schedules > 0 {
        return Some(format!("schedules ({schedules}); delete them first"));
    }
    let jobs = state.jobs_in(id).filter(|row| row.end.is_none()).count();
    if jobs > 0 {
        return Some(format!("jobs ({jobs}); stop them first"));
    }
    let tasks = state.waiting().filter(|task| task.cluster == id).count();
    (tasks > 0).then(|| format!("tasks ({tasks}); stop them first"))
}

/// Keeps the newest INACTIVE clusters only: create and delete in a loop must not fill the state.
fn forget_deleted(state: &mut State) {
    let mut gone: Vec<_> = state
        .clusters()
        .filter(|row| row.status == ClusterStatus::Inactive)
        .map(|row| (row.deleted_at, row.id))
        .collect();
    gone.sort_unstable();
    let excess = gone.len().saturating_sub(limits::INACTIVE_CLUSTERS_MAX);
    for (_, id) in gone.into_iter().take(excess) {
        state.remove_cluster(id);
    }
}

/// Sets, then removes. Something deleted takes no tags; a stopped task does.
pub(super) fn tag(
    state: &mut State,
    resource: &Resource,
    set: &Tags,
    remove: &[String],
) -> Result<Response, Error> {
    let change = |old: &Arc<Tags>| -> Result<Option<Arc<Tags>>, Error> {
        let mut new = Tags::clone(old);
        new.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        new.retain(|key, _| !remove.contains(key));
        tags::at_most(&new)?;
        Ok((new != **old).then(|| Arc::new(new)))
    };
    macro_rules! tag_row {
        ($row:expr, $put:ident) => {{
            let row = $row;
            if let Some(tags) = change(&row.tags)? {
                let mut row = (*row).clone();
                row.tags = tags;
                row.version += 1;
                state.$put(Arc::new(row));
            }
        }};
    }
    match resource {
        Resource::Cluster(id) => tag_row!(find::active_cluster(state, *id)?, put_cluster),
        Resource::Service(id) => tag_row!(find::active_service(state, *id)?, put_service),
        Resource::Task(id) => tag_row!(find::task(state, *id)?, put_task),
        Resource::Instance(id) => tag_row!(find::registered_instance(state, *id)?, put_instance),
        // The tags stand in what was registered; running tasks have their own.
        Resource::Definition(id) => {
            let old = find::definition(state, *id)?;
            if let Some(tags) = change(&Arc::new(old.spec.tags.clone()))? {
                let mut new = DefinitionRow::clone(&old);
                Arc::make_mut(&mut new.spec).tags = Tags::clone(&tags);
                state.put_definition(Arc::new(new));
            }
        }
        Resource::TaskSet { service, set } => {
            let row = find::task_sets(state, *service, *set)?;
            let old = row.sets.get(set).map(|set| set.tags.clone()).unwrap_or_default();
            if let Some(tags) = change(&old)? {
                let mut row = TaskSets::clone(&row);
                row.sets.entry(*set).and_modify(|set| set.tags = tags);
                state.put_task_sets(Arc::new(row));
            }
        }
        Resource::CapacityProvider(name) => {
            let old = capacity::own(state, name, "tagged")?;
            if let Some(tags) = change(&old.tags)? {
                let row = CapacityProvider { tags, ..CapacityProvider::clone(&old) };
                state.put_capacity_provider(Arc::new(row));
            }
        }
    }
    Ok(Response::Done)
}
