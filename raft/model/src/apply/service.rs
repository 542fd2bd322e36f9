//! Services as users write them: create, update, delete. What follows from it is the leader's.

use super::{author, definition, deployment, find, pin, privilege, reserve, shift, task_set};
use crate::command::{CreateService, Response, UpdateService};
use crate::error::{Error, Kind};
use crate::ids::{ClusterId, ServiceId};
use crate::limits;
use crate::placement::PlacementChange;
use crate::service::{
    Backoff, DeploymentConfiguration, Service, ServiceChange, ServiceSpec, ServiceStatus,
};
use crate::spec::Tags;
use crate::state::{DefinitionRow, State};
use std::sync::Arc;

fn desired_in_range(count: u32) -> Result<(), Error> {
    find::at_most("desiredCount", count as usize, limits::DESIRED_COUNT_MAX as usize)
}

/// What a DAEMON service cannot have, in ECS's words.
fn fits_daemon(spec: &ServiceSpec, asked: Option<u32>) -> Result<(), Error> {
    if !spec.is_daemon() {
        return Ok(());
    }
    let maximum = spec.deployment.maximum_percent;
    let (field, value, why) = match asked {
        Some(count) => (
            "desiredCount",
            count.to_string(),
            "The daemon scheduling strategy does not support a desired count for services. Remove \
             the desired count value and try again.",
        ),
        None if !spec.placement.strategies.is_empty() => (
            "placementStrategy",
            format!("{} of them", spec.placement.strategies.len()),
            "The daemon scheduling strategy does not support placement strategies. Remove the \
             placement strategy and try again.",
        ),
        None if maximum != DeploymentConfiguration::DAEMON.maximum_percent => (
            "deploymentConfiguration.maximumPercent",
            maximum.to_string(),
            "The daemon scheduling strategy does not support values above 100 for maximumPercent \
             on a deployment configuration. Change the maximumPercent value to 100, and try again.",
        ),
        None if spec.strategy.shifts_traffic() => (
            "deploymentConfiguration.strategy",
            spec.strategy.pace.shown().to_string(),
            "ROLLING: a DAEMON service has room for one revision on each container instance",
        ),
        None => return Ok(()),
    };
    Err(Error::invalid(field, value, why))
}

/// What no service can be, whatever overtook the request that makes it so, in ECS's words. A
/// service from before a rule stays as it is until its user touches what the rule is about.
pub(super) fn can_roll(deployment: &DeploymentConfiguration) -> Result<(), Error> {
    match (deployment.minimum_healthy_percent, deployment.maximum_percent) {
        (100, 100) => Err(Error::invalid(
            "deploymentConfiguration",
            "100 and 100",
            "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block \
             deployments.",
        )),
        _ => Ok(()),
    }
}

/// A strict singleton keeps what makes it one, with every change and with every definition.
fn fits_strict(spec: &ServiceSpec, definition: Option<&DefinitionRow>) -> Result<(), Error> {
    if let Some((field, value, allowed)) = spec.beyond_strict() {
        return Err(Error::invalid(field, value, allowed));
    }
    let Some(row) = definition.filter(|_| spec.strict) else { return Ok(()) };
    match row.spec.beyond_strict() {
        None => Ok(()),
        Some(allowed) => {
            let name = format!("{}:{}", row.family, row.revision);
            Err(Error::invalid("taskDefinition", name, allowed))
        }
    }
}

fn can_rebalance(spec: &ServiceSpec) -> Result<(), Error> {
    match spec.can_rebalance() {
        true => Ok(()),
        false => Err(Error::invalid(
            "availabilityZoneRebalancing",
            "ENABLED",
            "DISABLED with DAEMON, with a maximumPercent of 100, and where the first placement \
             strategy is not spread over attribute:ecs.availability-zone",
        )),
    }
}

const STILL_DRAINING: &str = "Unable to Start a service that is still Draining. (Wait until its \
                              tasks have stopped: `muster service describe`.)";

pub(super) fn create(
    state: &mut State,
    by: &crate::Principal,
    command: &CreateService,
) -> Result<Response, Error> {
    let spec = &command.spec;
    let cluster = find::active_cluster(state, command.cluster)?;
    let definition = find::active_definition(state, command.definition)?;
    privilege::admit(&cluster, &definition)?;
    definition::takes_constraints(&definition, &spec.placement)?;
    let new = fresh(state, command.id, command.cluster, spec, &command.tags)?;
    fits_daemon(spec, Some(spec.desired_count).filter(|count| *count > 0))?;
    fits_strict(spec, Some(&definition))?;
    can_roll(&spec.deployment)?;
    if spec.az_rebalancing {
        can_rebalance(spec)?;
    }
    let first = deployment::fresh(command.deployment, command.definition, state.now());
    let (deployments, created_by) = (vec![first], author(by));
    state.put_service(Arc::new(Service { deployments, created_by, ..new }));
    Ok(Response::Service(command.id))
}

/// A service of this spec with nothing to run yet, if there may be one more.
pub(super) fn fresh(
    state: &State,
    id: ServiceId,
    cluster: ClusterId,
    spec: &Arc<ServiceSpec>,
    tags: &Tags,
) -> Result<Service, Error> {
    if spec.name.is_empty() {
        return Err(Error::invalid("serviceName", "", "1 to 255 characters"));
    }
    if let Some(row) = state.service_named(cluster, &spec.name) {
        let (kind, name) = (Kind::Service, spec.name.clone());
        return Err(match row.status {
            ServiceStatus::Active => Error::Exists { kind, name },
            // ECS's sentence. Its name is free again once its tasks have stopped.
            _ => Error::invalid("serviceName", name, STILL_DRAINING),
        });
    }
    if state.service(id).is_some() {
        return Err(Error::Exists { kind: Kind::Service, name: id.to_string() });
    }
    desired_in_range(spec.desired_count)?;
    let services = state.service_count(cluster) + 1;
    find::at_most("services in the cluster", services, limits::SERVICES_PER_CLUSTER_MAX)?;
    find::at_most("tags", tags.len(), limits::TAGS_MAX)?;
    Ok(Service {
        id,
        cluster,
        spec: spec.clone(),
        status: ServiceStatus::Active,
        deployments: Vec::new(),
        backoff: Backoff::default(),
        tags: Arc::new(tags.clone()),
        created_at: state.now(),
        created_by: "".into(),
        deleted_at: None,
        next_event: 0,
        version: 1,
        past: Vec::new(),
    })
}

/// What only a task set can say where somebody else deploys, in ECS's words.
fn deploys_itself(old: &Service, command: &UpdateService) -> Result<(), Error> {
    let (field, value, why) = match () {
        () if !old.spec.is_external() => return Ok(()),
        () if command.definition.is_some() => (
            "taskDefinition",
            "",
            "Unable to update task definition on services with an EXTERNAL deployment controller. \
             (Create a task set with it.)",
        ),
        () if command.force_new_deployment => (
            "forceNewDeployment",
            "true",
            "Cannot force a new deployment on services with an EXTERNAL deployment controller. \
             (Create a task set.)",
        ),
        () => return Ok(()),
    };
    Err(Error::invalid(field, value, why))
}

/// Another definition, or force, starts a new deployment; numbers and placement alone do not.
pub(super) fn update(state: &mut State, command: &UpdateService) -> Result<Response, Error> {
    let old = find::active_service(state, command.service)?;
    if let Some(expected) = command.expected_version.filter(|v| *v != old.version) {
        let (kind, name, found) = (Kind::Service, old.spec.name.clone(), old.version);
        return Err(Error::VersionMismatch { kind, name, found, expected });
    }
    deploys_itself(&old, command)?;
    let current = old.primary().map(|primary| primary.definition);
    let next = match command.definition {
        Some(id) if Some(id) != current => {
            let definition = find::active_definition(state, id)?;
            let cluster = find::active_cluster(state, old.cluster)?;
            privilege::admit(&cluster, &definition)?;
            fits_strict(&old.spec, Some(&definition))?;
            Some(id)
        }
        // The service runs this one already, so it may be INACTIVE by now.
        _ => current.filter(|_| command.force_new_deployment),
    };
    if next.is_some() && old.all_deployments().any(|d| d.id == command.deployment) {
        let name = command.deployment.to_string();
        return Err(Error::Exists { kind: Kind::Deployment, name });
    }
    if let Some(count) = command.change.desired_count {
        desired_in_range(count)?;
    }
    let mut new = Service::clone(&old);
    let spec = changed(&old.spec, &command.change);
    if let Some(id) = next.or(current)
        && (next.is_some() || spec.placement.constraints != old.spec.placement.constraints)
    {
        let definition = find::definition(state, id)?;
        definition::takes_constraints(&definition, &spec.placement)?;
    }
    fits_daemon(&spec, command.change.desired_count)?;
    fits_strict(&spec, None)?;
    if spec.is_external() {
        task_set::fits(&spec)?;
    }
    if spec.deployment != old.spec.deployment {
        can_roll(&spec.deployment)?;
    }
    if command.change.az_rebalancing == Some(true) {
        can_rebalance(&spec)?;
    }
    if spec != *old.spec {
        new.spec = Arc::new(spec);
    }
    if let Some(definition) = next {
        deployment::begin(&mut new, command.deployment, definition, state.now());
    }
    if new != *old {
        new.version += 1;
        reserve::shrink(state, &new);
        pin::prune(state, &new);
        let new = Arc::new(new);
        state.put_service(new.clone());
        if next.is_some() {
            shift::begin(state, &new);
        }
    }
    Ok(Response::Service(command.service))
}

fn changed(old: &ServiceSpec, change: &ServiceChange) -> ServiceSpec {
    let mut spec = old.clone();
    spec.desired_count = change.desired_count.unwrap_or(spec.desired_count);
    let deployment = &mut spec.deployment;
    deployment.minimum_healthy_percent =
        change.minimum_healthy_percent.unwrap_or(deployment.minimum_healthy_percent);
    deployment.maximum_percent = change.maximum_percent.unwrap_or(deployment.maximum_percent);
    if let Some(placement) = &change.placement {
        let PlacementChange { constraints, strategies } = placement.clone();
        spec.placement.constraints = constraints.unwrap_or(spec.placement.constraints);
        spec.placement.strategies = strategies.unwrap_or(spec.placement.strategies);
    }
    spec.health_check_grace_secs = change.health_check_grace_secs.or(spec.health_check_grace_secs);
    spec.enable_execute_command =
        change.enable_execute_command.unwrap_or(spec.enable_execute_command);
    spec.az_rebalancing = change.az_rebalancing.unwrap_or(spec.az_rebalancing);
    spec.circuit_breaker = change.circuit_breaker.unwrap_or(spec.circuit_breaker);
    if let Some(alarms) = &change.alarms {
        spec.alarms = alarms.clone();
    }
    if let Some(strategy) = &change.strategy {
        spec.strategy = strategy.clone();
    }
    spec.propagate_tags = change.propagate_tags.unwrap_or(spec.propagate_tags);
    spec.managed_tags = change.managed_tags.unwrap_or(spec.managed_tags);
    spec
}

/// To DRAINING, with nothing desired any more; its name stays taken until `Step::Retire`.
pub(super) fn delete(state: &mut State, id: ServiceId, force: bool) -> Result<Response, Error> {
    let old = find::service(state, id)?;
    match old.status {
        ServiceStatus::Active => {}
        // A repeated delete is not an error, as in ECS.
        ServiceStatus::Draining => return Ok(Response::Service(id)),
        ServiceStatus::Inactive => {
            return Err(find::not_active(Kind::Service, &old.spec.name));
        }
    }
    if let Some(what) = task_set::in_use(state, &old).filter(|_| !force) {
        return Err(Error::InUse { kind: Kind::Service, name: old.spec.name.clone(), what });
    }
    if old.spec.desired_count > 0 && !force && !old.spec.is_external() {
        let what = format!(
            "its desired count is {}; set it to 0 first, or delete with force",
            old.spec.desired_count
        );
        return Err(Error::InUse { kind: Kind::Service, name: old.spec.name.clone(), what });
    }
    let mut new = Service::clone(&old);
    new.status = ServiceStatus::Draining;
    if new.spec.desired_count > 0 {
        Arc::make_mut(&mut new.spec).desired_count = 0;
    }
    new.version += 1;
    reserve::shrink(state, &new);
    state.put_service(Arc::new(new));
    shift::end(state, id);
    Ok(Response::Service(id))
}
