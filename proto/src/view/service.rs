//! Services with their deployments, counts and events.

use super::definition::constraints;
use super::{alarm, deployment, int, pending, strategy, tags, task_set, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::placement::{BinpackField, PlacementStrategy, SpreadField};
use muster_model::service::{Deployment, RolloutState};
use muster_model::{
    CircuitBreaker, DefinitionId, DeploymentId, Event, Phase, Service, ServiceStatus, State,
    Threshold,
};
use std::collections::{BTreeMap, BTreeSet};

/// Tasks of one deployment that should run.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub pending: u32,
    pub running: u32,
}

pub fn service(state: &State, row: &Service) -> pb::Service {
    let arns = Arns::of(state);
    let cluster = name_of(state, row.cluster);
    let counts = count(state, row);
    let all = counts.values().fold(Counts::default(), |all, one| Counts {
        pending: all.pending + one.pending,
        running: all.running + one.running,
    });
    let present = present(state, row);
    let rolling_back = row.primary().is_some_and(|one| one.rollout == RolloutState::InProgress);
    let failed = |one: &Deployment| rolling_back && one.rollout == RolloutState::Failed;
    let listed = row
        .deployments
        .iter()
        .enumerate()
        .filter(|(index, one)| *index == 0 || present.contains(&one.id) || failed(one));
    // With the EXTERNAL controller they are its task sets.
    let listed = listed.filter(|_| !row.spec.is_external());
    let deployments = listed.map(|(index, one)| {
        let counts = counts.get(&one.id).copied().unwrap_or_default();
        show(state, row, one, index == 0, counts)
    });
    let rebalancing = if row.spec.az_rebalancing { "ENABLED" } else { "DISABLED" };
    // What holds tasks back matters only as long as it does.
    let throttled = row.backoff.until > state.meta().now;
    pb::Service {
        service_arn: arns.service(&cluster, &row.spec.name),
        service_name: row.spec.name.clone(),
        cluster_arn: arns.cluster(&cluster),
        status: status(row.status).into(),
        desired_count: int(state.desired_count(row)),
        running_count: int(all.running),
        pending_count: int(all.pending),
        task_definition: state
            .newest(row)
            .map_or(String::new(), |d| definition(state, d.definition)),
        launch_type: "EC2".into(),
        scheduling_strategy: if row.spec.is_daemon() { "DAEMON" } else { "REPLICA" }.into(),
        deployment_configuration: Some(configuration(row)),
        deployments: deployments.collect(),
        events: state.events(row.id).rev().map(|(n, e)| event(row, n, e)).collect(),
        placement_constraints: constraints(&row.spec.placement.constraints),
        placement_strategy: row.spec.placement.strategies.iter().map(placement_strategy).collect(),
        created_at: Some(timestamp(row.created_at)),
        created_by: row.created_by.to_string(),
        tags: tags(&row.tags),
        propagate_tags: row.spec.propagate_tags.name().into(),
        version: i64::try_from(row.version).unwrap_or(i64::MAX),
        throttled_until: throttled.then(|| timestamp(row.backoff.until)),
        load_balancers: Vec::new(),
        service_registries: Vec::new(),
        current_service_deployment: deployment::current(state, row),
        current_service_revisions: deployment::summaries(state, row),
        deployment_controller: Some(pb::DeploymentController {
            r#type: if row.spec.is_external() { "EXTERNAL" } else { "ECS" }.into(),
        }),
        health_check_grace_period_seconds: int(row.spec.health_check_grace_secs.unwrap_or(0)),
        enable_ecs_managed_tags: row.spec.managed_tags,
        enable_execute_command: row.spec.enable_execute_command,
        availability_zone_rebalancing: rebalancing.into(),
        strict: row.spec.strict,
        task_sets: task_set::task_sets(state, row),
    }
}

pub(super) fn configuration(row: &Service) -> pb::DeploymentConfiguration {
    pb::DeploymentConfiguration {
        minimum_healthy_percent: Some(int(row.spec.deployment.minimum_healthy_percent)),
        maximum_percent: Some(int(row.spec.deployment.maximum_percent)),
        deployment_circuit_breaker: Some(breaker(row.spec.circuit_breaker)),
        alarms: alarm::of_deployments(&row.spec.alarms),
        ..strategy::strategy(&row.spec.strategy)
    }
}

fn breaker(row: CircuitBreaker) -> pb::DeploymentCircuitBreaker {
    let (kind, value) = match row.threshold {
        Threshold::Count(value) => ("COUNT", value),
        Threshold::BoundedPercent(value) => ("BOUNDED_PERCENT", value),
        Threshold::UnboundedPercent(value) => ("UNBOUNDED_PERCENT", value),
    };
    pb::DeploymentCircuitBreaker {
        enable: row.enable,
        rollback: row.rollback,
        reset_on_healthy_task: Some(row.reset_on_healthy_task),
        threshold_configuration: Some(pb::ThresholdConfiguration {
            r#type: kind.into(),
            value: int(value),
        }),
    }
}

fn status(status: ServiceStatus) -> &'static str {
    match status {
        ServiceStatus::Active => "ACTIVE",
        ServiceStatus::Draining => "DRAINING",
        ServiceStatus::Inactive => "INACTIVE",
    }
}

/// ECS counts what should run: a task that is being stopped is in neither number.
pub(super) fn count(state: &State, row: &Service) -> BTreeMap<DeploymentId, Counts> {
    let mut counts: BTreeMap<DeploymentId, Counts> = BTreeMap::new();
    for task in state.tasks_of(row.id).filter(|task| task.wanted()) {
        let Some(deployment) = task.deployment() else { continue };
        let counts = counts.entry(deployment).or_default();
        match task.last_status() {
            Phase::Running => counts.running += 1,
            phase if pending(phase) => counts.pending += 1,
            _ => {}
        }
    }
    counts
}

/// Deployments that still have tasks. ECS lists an older one until its last task has stopped, a
/// failed one while it is rolled back: waiters and tools look for a list of one.
fn present(state: &State, row: &Service) -> BTreeSet<DeploymentId> {
    let there = state.tasks_of(row.id).filter(|task| task.ended_at().is_none());
    there.filter_map(|task| task.deployment()).collect()
}

fn show(
    state: &State,
    row: &Service,
    one: &Deployment,
    primary: bool,
    counts: Counts,
) -> pb::Deployment {
    let (rollout, reason) = deployment::rollout(row, one);
    let side = state.side_made_of(row, one.id);
    let desired = side.map_or(0, |side| state.desired_on(row, side));
    pb::Deployment {
        id: one.id.shown(),
        status: if primary { "PRIMARY" } else { "ACTIVE" }.into(),
        task_definition: definition(state, one.definition),
        desired_count: int(desired),
        pending_count: int(counts.pending),
        running_count: int(counts.running),
        failed_tasks: int(one.failed_tasks),
        created_at: Some(timestamp(one.created_at)),
        updated_at: Some(timestamp(one.updated_at)),
        rollout_state: rollout.into(),
        rollout_state_reason: reason,
        launch_type: "EC2".into(),
    }
}

/// The ARN of a definition; empty if it is gone.
pub(super) fn definition(state: &State, id: DefinitionId) -> String {
    let arn = |row: &std::sync::Arc<muster_model::DefinitionRow>| {
        Arns::of(state).definition(&row.family, row.revision)
    };
    state.definition(id).map(arn).unwrap_or_default()
}

pub(super) fn placement_strategy(row: &PlacementStrategy) -> pb::PlacementStrategy {
    let of = |kind: &str, field: &str| pb::PlacementStrategy {
        r#type: kind.into(),
        field: field.into(),
        ..pb::PlacementStrategy::default()
    };
    match row {
        PlacementStrategy::Spread { field, max_skew } => {
            let field = match field {
                SpreadField::InstanceId => "instanceId".into(),
                SpreadField::Attribute(name) => format!("attribute:{name}"),
            };
            let max_skew = max_skew.map(int);
            pb::PlacementStrategy { max_skew, ..of("spread", &field) }
        }
        PlacementStrategy::Binpack(BinpackField::Cpu) => of("binpack", "cpu"),
        PlacementStrategy::Binpack(BinpackField::Memory) => of("binpack", "memory"),
        PlacementStrategy::Random => of("random", ""),
        PlacementStrategy::Prefer { expression, weight } => pb::PlacementStrategy {
            expression: expression.to_string(),
            weight: Some(*weight),
            ..of("prefer", "")
        },
    }
}

/// One event of a service; its id is the service's and its number in it.
pub fn event(service: &Service, number: u64, event: &Event) -> pb::ServiceEvent {
    pb::ServiceEvent {
        id: format!("{}-{number}", service.id),
        created_at: Some(timestamp(event.at)),
        message: event.text.to_string(),
    }
}
