//! Deployments of a service and what each brings out, as objects of their own.
//!
//! A rolling deployment is a row of its service for as long as it is the newest, has tasks left or
//! could be rolled back to, and remembered for some time after. Each has its own revision of the
//! service; one that is rolled back is described as such, and the one before it, which is newest
//! again, as what it was.

use super::service::{Counts, count, definition};
use super::{int, strategy, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::service::{Deployment, HaltCause, Outcome, RolloutState};
use muster_model::{DeploymentId, Service, State, Time};
use std::sync::Arc;

/// What names the parts of a service.
pub(super) struct Names<'a> {
    arns: Arns<'a>,
    cluster: Arc<str>,
    service: &'a str,
}

impl<'a> Names<'a> {
    pub(super) fn of(state: &'a State, row: &'a Service) -> Self {
        let cluster = name_of(state, row.cluster);
        Self { arns: Arns::of(state), cluster, service: &row.spec.name }
    }
    pub(super) fn service(&self) -> String {
        self.arns.service(&self.cluster, self.service)
    }
    fn cluster(&self) -> String {
        self.arns.cluster(&self.cluster)
    }
    pub(super) fn deployment(&self, id: DeploymentId) -> String {
        self.arns.service_deployment(&self.cluster, self.service, id)
    }
    pub(super) fn revision(&self, id: DeploymentId) -> String {
        self.arns.service_revision(&self.cluster, self.service, id)
    }
}

/// Status, and when it came to its end. A deployment that a newer one overtook was stopped by it.
/// One that cleans up has ended well for whoever comes after it, and is not over.
fn status(state: &State, row: &Service, deployment: &Deployment) -> (&'static str, Option<Time>) {
    if state.shift(row.id).is_some_and(|shift| shift.green == deployment.id) {
        return ("IN_PROGRESS", None);
    }
    match (deployment.end, deployment.halt) {
        (Some(end), _) => (end.outcome.shown(), Some(end.at)),
        (None, Some(_)) => ("ROLLBACK_IN_PROGRESS", None),
        (None, None) => ("IN_PROGRESS", None),
    }
}

fn reason(deployment: &Deployment) -> String {
    match deployment.halt {
        Some(halt) => failed(deployment.id, halt.cause),
        None => match deployment.end.map(|end| end.outcome) {
            Some(Outcome::Replaced) => "a newer deployment took its place".into(),
            _ => String::new(),
        },
    }
}

/// ECS's words for a deployment that goes no further.
fn failed(id: DeploymentId, cause: HaltCause) -> String {
    match cause {
        HaltCause::TasksFailed => "ECS deployment circuit breaker: tasks failed to start.".into(),
        HaltCause::User => format!("ECS deployment {} stopped by user.", id.shown()),
        HaltCause::HookTimedOut => {
            format!("ECS deployment {} failed: a lifecycle hook timed out.", id.shown())
        }
        HaltCause::HookFailed => {
            format!("ECS deployment {} failed: a lifecycle hook failed.", id.shown())
        }
        HaltCause::Alarm => format!("ECS deployment {} failed: alarm detected.", id.shown()),
    }
}

/// ECS's `rolloutState` and `rolloutStateReason`.
pub(super) fn rollout(row: &Service, deployment: &Deployment) -> (&'static str, String) {
    let id = deployment.id.shown();
    match (deployment.rollout, deployment.halt) {
        (RolloutState::Completed, _) => ("COMPLETED", format!("ECS deployment {id} completed.")),
        (RolloutState::Failed, Some(halt)) => ("FAILED", failed(deployment.id, halt.cause)),
        (RolloutState::Failed, None) => ("FAILED", format!("ECS deployment {id} failed.")),
        (RolloutState::InProgress, _) => {
            let why = match row.rolled_back_to(deployment.id).and_then(|row| row.halt) {
                None => format!("ECS deployment {id} in progress."),
                Some(halt) => {
                    let who = match halt.cause {
                        HaltCause::TasksFailed => "ECS deployment circuit breaker",
                        HaltCause::User => "ECS deployment stopped by user",
                        HaltCause::HookTimedOut => "ECS deployment: a lifecycle hook timed out",
                        HaltCause::HookFailed => "ECS deployment: a lifecycle hook failed",
                        HaltCause::Alarm => "ECS deployment: alarm detected",
                    };
                    format!("{who}: rolling back to deploymentId {id}.")
                }
            };
            ("IN_PROGRESS", why)
        }
    }
}

/// A line of a list.
pub fn service_brief(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> pb::ServiceDeploymentBrief {
    let names = Names::of(state, row);
    let (status, finished) = status(state, row, deployment);
    pb::ServiceDeploymentBrief {
        service_deployment_arn: names.deployment(deployment.id),
        service_arn: names.service(),
        cluster_arn: names.cluster(),
        started_at: Some(timestamp(deployment.created_at)),
        created_at: Some(timestamp(deployment.created_at)),
        finished_at: finished.map(timestamp),
        target_service_revision_arn: names.revision(deployment.id),
        status: status.into(),
        status_reason: reason(deployment),
    }
}

/// As `service_brief`, with what it replaces and how it is guarded.
pub fn service_deployment(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> pb::ServiceDeployment {
    let brief = service_brief(state, row, deployment);
    let names = Names::of(state, row);
    let halt = deployment.halt;
    let back_to = halt.and_then(|halt| halt.back_to);
    let source = |other: &&Deployment| match back_to {
        Some(target) => other.id == target,
        None => (other.created_at, other.id) < (deployment.created_at, deployment.id),
    };
    let summaries = summaries(state, row);
    let summary = |of: &Deployment| {
        let arn = names.revision(of.id);
        let known = summaries.iter().find(|summary| summary.arn == arn).cloned();
        known.unwrap_or(pb::ServiceRevisionSummary { arn, ..Default::default() })
    };
    pb::ServiceDeployment {
        service_deployment_arn: brief.service_deployment_arn,
        service_arn: brief.service_arn,
        cluster_arn: brief.cluster_arn,
        created_at: brief.created_at,
        started_at: brief.started_at,
        finished_at: brief.finished_at,
        updated_at: Some(timestamp(deployment.updated_at)),
        target_service_revision: Some(summary(deployment)),
        source_service_revisions: row.deployments.iter().filter(source).map(summary).collect(),
        status: brief.status,
        status_reason: brief.status_reason,
        deployment_configuration: Some(configuration(state, row, deployment)),
        stopped_at: halt.map(|halt| timestamp(halt.at)),
        rollback: halt.zip(back_to).map(|(halt, target)| pb::Rollback {
            reason: failed(deployment.id, halt.cause),
            started_at: Some(timestamp(halt.at)),
            service_revision_arn: names.revision(target),
        }),
        deployment_circuit_breaker: Some(guarded(state, row, deployment)),
        lifecycle_stage: strategy::stage(state, row, deployment).into(),
        lifecycle_hook_details: strategy::waiting(state, row, deployment),
        alarms: super::alarm::of_deployment(state, row, deployment),
    }
}

/// What the service says now; but how its traffic shifts, as it was when the deployment began.
fn configuration(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> pb::DeploymentConfiguration {
    let now = super::service::configuration(row);
    let Some(shift) = state.shift(row.id).filter(|shift| shift.green == deployment.id) else {
        return now;
    };
    pb::DeploymentConfiguration {
        minimum_healthy_percent: now.minimum_healthy_percent,
        maximum_percent: now.maximum_percent,
        deployment_circuit_breaker: now.deployment_circuit_breaker,
        alarms: now.alarms,
        ..strategy::strategy(&shift.strategy)
    }
}

fn guarded(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> pb::ServiceDeploymentCircuitBreaker {
    let breaker = row.spec.circuit_breaker;
    let tripped = deployment.halt.is_some_and(|halt| halt.cause == HaltCause::TasksFailed);
    let status = monitor(tripped, breaker.enable, deployment);
    pb::ServiceDeploymentCircuitBreaker {
        status: status.into(),
        failure_count: int(deployment.failed_tasks),
        threshold: int(breaker.threshold.failures(state.desired_count(row))),
    }
}

/// ECS's status of what may end a deployment.
pub(super) fn monitor(triggered: bool, enabled: bool, deployment: &Deployment) -> &'static str {
    match (triggered, enabled, deployment.is_open()) {
        (true, ..) => "TRIGGERED",
        (_, false, _) => "DISABLED",
        (_, true, true) => "MONITORING",
        (_, true, false) => "MONITORING_COMPLETE",
    }
}

/// The revisions that have tasks or should, the newest first.
pub(super) fn summaries(state: &State, row: &Service) -> Vec<pb::ServiceRevisionSummary> {
    let (names, counts) = (Names::of(state, row), count(state, row));
    let shows = row.spec.strategy.shifts_traffic() || state.shift(row.id).is_some();
    let summary = |deployment: &Deployment| {
        let Counts { pending, running } = counts.get(&deployment.id).copied().unwrap_or_default();
        let side = state.side_made_of(row, deployment.id);
        let requested = side.map_or(0, |side| state.desired_on(row, side));
        let traffic = state.traffic(row, deployment.id);
        pb::ServiceRevisionSummary {
            arn: names.revision(deployment.id),
            requested_task_count: int(requested),
            running_task_count: int(running),
            pending_task_count: int(pending),
            requested_test_traffic_weight: shows.then(|| traffic.test.percent()),
            requested_production_traffic_weight: shows.then(|| traffic.production.percent()),
        }
    };
    let own = row.deployments.iter().filter(|_| !row.spec.is_external());
    own.map(summary).collect()
}

/// The ARN of the newest deployment, or of the one that is being rolled back to it; none once the
/// service is INACTIVE, or while somebody else deploys it.
pub(super) fn current(state: &State, row: &Service) -> String {
    let Some(newest) = row.primary().filter(|_| !row.spec.is_external()) else {
        return String::new();
    };
    let current = row.rolled_back_to(newest.id).unwrap_or(newest);
    Names::of(state, row).deployment(current.id)
}

/// What the deployment brings out, with the digest of each image that has but one in all tasks.
pub fn service_revision(
    state: &State,
    row: &Service,
    deployment: &Deployment,
) -> pb::ServiceRevision {
    let names = Names::of(state, row);
    let spec = state.definition(deployment.definition).map(|row| row.spec.clone());
    let pinned = |name: &str| {
        let pin = state.pins(row.id)?.pin(deployment.id, name)?;
        Some(&*pin.digest)
    };
    let images = spec.iter().flat_map(|spec| &spec.containers).map(|c| pb::ContainerImage {
        container_name: c.name.clone(),
        image_digest: c.named_digest().or_else(|| pinned(&c.name)).unwrap_or_default().to_owned(),
        image: c.image.clone(),
    });
    pb::ServiceRevision {
        service_revision_arn: names.revision(deployment.id),
        service_arn: names.service(),
        cluster_arn: names.cluster(),
        task_definition: definition(state, deployment.definition),
        launch_type: "EC2".into(),
        container_images: images.collect(),
        created_at: Some(timestamp(deployment.created_at)),
        load_balancers: Vec::new(),
        service_registries: Vec::new(),
    }
}
