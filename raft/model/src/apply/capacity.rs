//! Capacity providers of the account, and which of them a cluster has.

use super::find;
use crate::capacity::{
    AutoScalingGroup, AutoScalingGroupChange, CapacityCommand, CapacityProvider, ClusterProviders,
    RESERVED,
};
use crate::cluster::Cluster;
use crate::command::{CreateCluster, Response};
use crate::error::{Error, Kind};
use crate::limits;
use crate::spec::Tags;
use crate::state::State;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn decide(state: &mut State, command: &CapacityCommand) -> Result<Response, Error> {
    match command {
        CapacityCommand::Create { name, group, tags } => create(state, name, group, tags),
        CapacityCommand::Update { name, change } => update(state, name, change),
        CapacityCommand::Delete { name } => delete(state, name),
        CapacityCommand::Put(wanted) => put(state, wanted),
        CapacityCommand::CreateCluster { create, providers } => {
            create_cluster(state, create, providers)
        }
    }
}

/// The name of a deleted one is free.
fn create(
    state: &mut State,
    name: &Arc<str>,
    group: &Arc<AutoScalingGroup>,
    tags: &Tags,
) -> Result<Response, Error> {
    if reserved(name) || active(state, name).is_ok() {
        return Err(Error::Exists { kind: Kind::CapacityProvider, name: name.to_string() });
    }
    fits(group)?;
    let count = state.capacity_providers().filter(|row| row.deleted_at.is_none()).count() + 1;
    find::at_most("capacity providers", count, limits::CAPACITY_PROVIDERS_MAX)?;
    find::at_most("tags", tags.len(), limits::TAGS_MAX)?;
    state.put_capacity_provider(Arc::new(CapacityProvider {
        name: name.clone(),
        group: group.clone(),
        tags: Arc::new(tags.clone()),
        updated_at: None,
        deleted_at: None,
    }));
    Ok(Response::CapacityProvider(name.clone()))
}

fn update(
    state: &mut State,
    name: &Arc<str>,
    change: &AutoScalingGroupChange,
) -> Result<Response, Error> {
    let old = own(state, name, "updated")?;
    let group = old.group.changed(change);
    fits(&group)?;
    let mut new = CapacityProvider::clone(&old);
    new.group = Arc::new(group);
    new.updated_at = Some(state.now());
    state.put_capacity_provider(Arc::new(new));
    Ok(Response::CapacityProvider(name.clone()))
}

/// Refused while a cluster has it, as in ECS; a repeated delete is not an error.
fn delete(state: &mut State, name: &Arc<str>) -> Result<Response, Error> {
    if state.capacity_provider(name).is_some_and(|row| row.deleted_at.is_some()) {
        return Ok(Response::CapacityProvider(name.clone()));
    }
    let old = own(state, name, "deleted")?;
    let of = state.cluster_providers.values().find(|row| row.names.contains(name));
    if let Some(cluster) = of.and_then(|row| state.cluster(row.cluster)) {
        let what = format!(
            "The capacity provider cannot be deleted because it is associated with cluster: {}. \
             Remove the capacity provider from the cluster and try again.",
            cluster.name
        );
        return Err(Error::InUse { kind: Kind::CapacityProvider, name: name.to_string(), what });
    }
    let mut row = CapacityProvider::clone(&old);
    row.deleted_at = Some(state.now());
    state.put_capacity_provider(Arc::new(row));
    forget_deleted(state);
    Ok(Response::CapacityProvider(name.clone()))
}

/// Replaces what the cluster has.
fn put(state: &mut State, wanted: &ClusterProviders) -> Result<Response, Error> {
    let cluster = find::active_cluster(state, wanted.cluster)?;
    belong(state, wanted)?;
    let empty = wanted.names.is_empty() && wanted.strategy.is_empty();
    let same = match state.providers_of(wanted.cluster) {
        Some(row) => **row == *wanted,
        None => empty,
    };
    if !same {
        match empty {
            true => state.remove_cluster_providers(wanted.cluster),
            false => state.put_cluster_providers(Arc::new(wanted.clone())),
        }
        let mut row = Cluster::clone(&cluster);
        row.version += 1;
        state.put_cluster(Arc::new(row));
    }
    Ok(Response::Cluster(wanted.cluster))
}

/// A cluster of this name that is there already stays as it is, as in ECS.
fn create_cluster(
    state: &mut State,
    command: &CreateCluster,
    wanted: &ClusterProviders,
) -> Result<Response, Error> {
    if state.cluster_named(&command.name).is_some() {
        return super::cluster::create(state, command);
    }
    belong(state, wanted)?;
    let answer = super::cluster::create(state, command)?;
    if !wanted.names.is_empty() {
        state.put_cluster_providers(Arc::new(ClusterProviders {
            cluster: command.id,
            ..wanted.clone()
        }));
    }
    Ok(answer)
}

/// The provider for a change of its tags; ECS's own have none.
pub(super) fn own(state: &State, name: &str, what: &str) -> Result<Arc<CapacityProvider>, Error> {
    if reserved(name) {
        let allowed = format!(
            "The FARGATE and FARGATE_SPOT capacity providers are reserved and cannot be {what}."
        );
        return Err(Error::invalid("capacityProvider", name, allowed));
    }
    active(state, name)
}

fn active(state: &State, name: &str) -> Result<Arc<CapacityProvider>, Error> {
    let row = state.capacity_provider(name).filter(|row| row.deleted_at.is_none());
    row.cloned().ok_or_else(|| Error::not_found(Kind::CapacityProvider, name))
}

fn reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// ECS: protection is the scaling's.
fn fits(group: &AutoScalingGroup) -> Result<(), Error> {
    if group.scaling.minimum_step > group.scaling.maximum_step {
        return Err(Error::invalid(
            "autoScalingGroupProvider.managedScaling.minimumScalingStepSize",
            group.scaling.minimum_step.to_string(),
            format!("at most the maximumScalingStepSize, {}", group.scaling.maximum_step),
        ));
    }
    match group.termination_protection && !group.scaling.enabled {
        false => Ok(()),
        true => Err(Error::invalid(
            "autoScalingGroupProvider.managedTerminationProtection",
            "ENABLED",
            "The managed termination protection setting for the capacity provider is invalid. To \
             enable managed termination protection for a capacity provider, enable managed \
             scaling and try again.",
        )),
    }
}

/// Every provider is there, and the strategy uses those of the cluster, all of one kind.
fn belong(state: &State, wanted: &ClusterProviders) -> Result<(), Error> {
    let names = wanted.names.len();
    find::at_most("capacity providers of the cluster", names, limits::CLUSTER_PROVIDERS_MAX)?;
    for name in wanted.names.iter().filter(|name| !reserved(name)) {
        if active(state, name).is_err() {
            let allowed = "The specified capacity provider was not found. Specify a valid name or \
                           ARN and try again.";
            return Err(Error::invalid("capacityProviders", &**name, allowed));
        }
    }
    let field = "defaultCapacityProviderStrategy";
    let foreign = wanted.strategy.iter().find(|item| !wanted.names.contains(&item.provider));
    if let Some(item) = foreign {
        let allowed = "The specified capacity provider strategy contains a capacity provider that \
                       is not associated with the cluster. Associate the capacity provider with \
                       the cluster and try again.";
        return Err(Error::invalid(field, &*item.provider, allowed));
    }
    let kinds: BTreeSet<bool> =
        wanted.strategy.iter().map(|item| reserved(&item.provider)).collect();
    match kinds.len() > 1 {
        false => Ok(()),
        true => Err(Error::invalid(
            field,
            "both kinds",
            "either providers of Auto Scaling groups or FARGATE and FARGATE_SPOT",
        )),
    }
}

/// Keeps the newest INACTIVE ones only: create and delete in a loop must not fill the state.
fn forget_deleted(state: &mut State) {
    let mut gone: Vec<_> = state
        .capacity_providers()
        .filter_map(|row| Some((row.deleted_at?, row.name.clone())))
        .collect();
    gone.sort_unstable();
    let excess = gone.len().saturating_sub(limits::INACTIVE_CAPACITY_PROVIDERS_MAX);
    for (_, name) in gone.into_iter().take(excess) {
        state.remove_capacity_provider(&name);
    }
}
