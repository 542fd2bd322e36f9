//! Requests about services.

use super::{At, alarm, capacity, deployment, name, number, one_of, placement, strategy, tags};
use crate::{arn, pb, spelled};
use muster_model::command::{CreateService, UpdateService};
use muster_model::limits::DESIRED_COUNT_MAX;
use muster_model::placement::PlacementChange;
use muster_model::service::{DeploymentConfiguration, ServiceChange};
use muster_model::{
    Command, DeploymentController, DeploymentStrategy, Error, IdSource, PropagateTags,
    SchedulingStrategy, Service, ServiceSpec, State, TaskSetCommand,
};
use std::sync::Arc;

/// ECS lets no more than all tasks stay, and ours at most ten times as many exist.
const MINIMUM_HEALTHY_PERCENT_MAX: u32 = 100;
const MAXIMUM_PERCENT_MAX: u32 = 1000;
/// ECS: the largest 32-bit number.
const GRACE_SECS_MAX: u32 = i32::MAX as u32;

/// CreateService. The task definition may be a family: its newest ACTIVE revision.
pub fn create(
    state: &State,
    ids: &mut IdSource,
    wire: &pb::CreateServiceRequest,
) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    name(&At::Field("serviceName"), &wire.service_name)?;
    capacity::no_strategy(&wire.launch_type, &wire.capacity_provider_strategy)?;
    placement::launch_type(&wire.launch_type)?;
    let controller = controller(wire.deployment_controller.as_ref())?.unwrap_or_default();
    let external = controller == DeploymentController::External;
    if external && !wire.task_definition.is_empty() {
        let allowed = "none with the EXTERNAL deployment controller: each task set names its own";
        return Err(Error::invalid("taskDefinition", &wire.task_definition, allowed));
    }
    if wire.task_definition.is_empty() && !external {
        let allowed = "family, family:revision or an ARN";
        return Err(Error::invalid("taskDefinition", "", allowed));
    }
    let wanted = wire.deployment_configuration.as_ref();
    let (minimum, maximum) = percents(wanted)?;
    let scheduling = scheduling(&wire.scheduling_strategy)?;
    let usual = match scheduling {
        _ if wire.strict => DeploymentConfiguration::STRICT,
        SchedulingStrategy::Replica => DeploymentConfiguration::default(),
        SchedulingStrategy::Daemon => DeploymentConfiguration::DAEMON,
    };
    let mut spec = ServiceSpec {
        name: wire.service_name.clone(),
        desired_count: desired_count(wire.desired_count)?,
        scheduling,
        deployment: DeploymentConfiguration {
            minimum_healthy_percent: minimum.unwrap_or(usual.minimum_healthy_percent),
            maximum_percent: maximum.unwrap_or(usual.maximum_percent),
        },
        placement: placement::placement(&wire.placement_constraints, &wire.placement_strategy)?,
        propagate_tags: propagate(&wire.propagate_tags)?.unwrap_or_default(),
        health_check_grace_secs: grace(wire.health_check_grace_period_seconds)?,
        enable_execute_command: wire.enable_execute_command,
        az_rebalancing: false,
        circuit_breaker: deployment::breaker(wanted)?.unwrap_or_default(),
        alarms: alarm::of_deployments(wanted)?.unwrap_or_default(),
        strategy: strategy::strategy(&DeploymentStrategy::default(), wanted)?.unwrap_or_default(),
        strict: wire.strict,
        managed_tags: wire.enable_ecs_managed_tags,
        controller,
    };
    // As in ECS, it is on unless it was said or cannot be.
    let asked = rebalancing(&wire.availability_zone_rebalancing)?;
    spec.az_rebalancing = asked.unwrap_or(spec.can_rebalance());
    let tags = tags(&At::Field("tags"), &wire.tags)?;
    capacity::no_default(state, cluster, &wire.launch_type)?;
    if external {
        let (id, cluster, spec) = (ids.service(), cluster.id, Arc::new(spec));
        return Ok(Command::TaskSet(TaskSetCommand::CreateService { id, cluster, spec, tags }));
    }
    Ok(Command::CreateService(CreateService {
        id: ids.service(),
        deployment: ids.deployment(),
        cluster: cluster.id,
        definition: arn::definition(state, &wire.task_definition)?.id,
        spec: Arc::new(spec),
        tags,
    }))
}

/// The lists that are replaced, each alone or both; `None`: they stay.
fn changed_placement(wire: &pb::UpdateServiceRequest) -> Result<Option<PlacementChange>, Error> {
    let constraints = wire.set_placement || wire.set_placement_constraints;
    let strategies = wire.set_placement || wire.set_placement_strategy;
    let unsaid = |list: usize, set: bool| list > 0 && !set;
    if unsaid(wire.placement_constraints.len(), constraints)
        || unsaid(wire.placement_strategy.len(), strategies)
    {
        let allowed = "true with placementConstraints or placementStrategy";
        return Err(Error::invalid("setPlacement", "false", allowed));
    }
    let wanted = placement::placement(&wire.placement_constraints, &wire.placement_strategy)?;
    Ok((constraints || strategies).then_some(PlacementChange {
        constraints: constraints.then_some(wanted.constraints),
        strategies: strategies.then_some(wanted.strategies),
    }))
}

/// UpdateService: fields that are absent stay as they are when it is applied; what must fit the
/// service as it is then, `apply` judges.
pub fn update(
    state: &State,
    ids: &mut IdSource,
    wire: &pb::UpdateServiceRequest,
) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let service = arn::service_to_change(state, cluster, &wire.service)?;
    same_controller(service, controller(wire.deployment_controller.as_ref())?)?;
    let wanted = wire.deployment_configuration.as_ref();
    let (minimum, maximum) = percents(wanted)?;
    let circuit_breaker = deployment::breaker(wanted)?;
    let definition = match wire.task_definition.as_str() {
        "" => None,
        text => Some(arn::definition(state, text)?.id),
    };
    let change = ServiceChange {
        desired_count: wire.desired_count.map(desired_count).transpose()?,
        minimum_healthy_percent: minimum,
        maximum_percent: maximum,
        placement: changed_placement(wire)?,
        health_check_grace_secs: grace(wire.health_check_grace_period_seconds)?,
        enable_execute_command: wire.enable_execute_command,
        az_rebalancing: rebalancing(&wire.availability_zone_rebalancing)?,
        circuit_breaker,
        alarms: alarm::of_deployments(wanted)?,
        strategy: strategy::strategy(&service.spec.strategy, wanted)?,
        propagate_tags: propagate(&wire.propagate_tags)?,
        managed_tags: wire.enable_ecs_managed_tags,
    };
    Ok(Command::UpdateService(UpdateService {
        service: service.id,
        expected_version: super::expected_version(wire.expected_version)?,
        deployment: ids.deployment(),
        definition,
        force_new_deployment: wire.force_new_deployment,
        change: Arc::new(change),
    }))
}

/// DeleteService; also of one that is draining already.
pub fn delete(state: &State, wire: &pb::DeleteServiceRequest) -> Result<Command, Error> {
    let cluster = arn::cluster(state, &wire.cluster)?;
    let service = arn::service(state, cluster, &wire.service)?;
    Ok(Command::DeleteService { service: service.id, force: wire.force })
}

fn desired_count(wire: i32) -> Result<u32, Error> {
    number(&At::Field("desiredCount"), wire, 0..=DESIRED_COUNT_MAX)
}

fn percents(
    wire: Option<&pb::DeploymentConfiguration>,
) -> Result<(Option<u32>, Option<u32>), Error> {
    let Some(wire) = wire else { return Ok((None, None)) };
    let at = At::Field("deploymentConfiguration");
    let percent = |field, wire: Option<i32>, allowed| {
        wire.map(|wire| number(&at.field(field), wire, allowed)).transpose()
    };
    Ok((
        percent(
            "minimumHealthyPercent",
            wire.minimum_healthy_percent,
            0..=MINIMUM_HEALTHY_PERCENT_MAX,
        )?,
        percent("maximumPercent", wire.maximum_percent, 100..=MAXIMUM_PERCENT_MAX)?,
    ))
}

/// What goes with DAEMON and what does not, `apply` says: it is the service's for good.
fn scheduling(text: &str) -> Result<SchedulingStrategy, Error> {
    match text {
        "" | "REPLICA" => Ok(SchedulingStrategy::Replica),
        "DAEMON" => Ok(SchedulingStrategy::Daemon),
        other => {
            Err(At::Field("schedulingStrategy")
                .invalid(other, one_of(spelled::SCHEDULING_STRATEGY)))
        }
    }
}

/// `None`: nothing was said.
fn controller(
    wire: Option<&pb::DeploymentController>,
) -> Result<Option<DeploymentController>, Error> {
    let at = At::Field("deploymentController.type");
    match wire.map(|wire| wire.r#type.as_str()) {
        None | Some("") => Ok(None),
        Some("ECS") => Ok(Some(DeploymentController::Ecs)),
        Some("EXTERNAL") => Ok(Some(DeploymentController::External)),
        Some(other @ "CODE_DEPLOY") => {
            let instead = "CodeDeploy is AWS's; use ECS with the strategy BLUE_GREEN, LINEAR or \
                           CANARY, or EXTERNAL with task sets";
            Err(at.unsupported(other, instead))
        }
        Some(other) => Err(at.invalid(other, "ECS or EXTERNAL")),
    }
}

/// ECS lets a service change to another one; ours is for good.
fn same_controller(service: &Service, said: Option<DeploymentController>) -> Result<(), Error> {
    match said {
        Some(said) if said != service.spec.controller => {
            let (value, allowed) = match said {
                DeploymentController::Ecs => ("ECS", "EXTERNAL"),
                DeploymentController::External => ("EXTERNAL", "ECS"),
            };
            let allowed = format!("{allowed}, as the service was created");
            Err(Error::invalid("deploymentController.type", value, allowed))
        }
        _ => Ok(()),
    }
}

/// `None`: nothing was said. Whether the service can be rebalanced, `apply` says.
fn rebalancing(text: &str) -> Result<Option<bool>, Error> {
    let at = At::Field("availabilityZoneRebalancing");
    match text {
        "" => Ok(None),
        "DISABLED" => Ok(Some(false)),
        "ENABLED" => Ok(Some(true)),
        other => Err(at.invalid(other, one_of(spelled::AVAILABILITY_ZONE_REBALANCING))),
    }
}

fn grace(wire: Option<i32>) -> Result<Option<u32>, Error> {
    let at = At::Field("healthCheckGracePeriodSeconds");
    wire.map(|wire| number(&at, wire, 0..=GRACE_SECS_MAX)).transpose()
}

/// `None`: nothing was said.
pub(super) fn propagate(text: &str) -> Result<Option<PropagateTags>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let found = PropagateTags::ALL.into_iter().find(|tags| tags.name() == text);
    let names = || PropagateTags::ALL.map(PropagateTags::name).join(", ");
    found.map(Some).ok_or_else(|| At::Field("propagateTags").invalid(text, names()))
}
