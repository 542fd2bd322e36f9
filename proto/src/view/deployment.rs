//! Deployments of a service and what each brings out, as objects of their own.
//!
//! A rolling deployment is a row of its service for as long as it is the newest or has tasks left;
//! so long it can be described. Each deployment has its own revision of the service.

use super::service::{Counts, count, definition};
use super::{int, timestamp};
use crate::arn::{Arns, name_of};
use crate::pb;
use muster_model::service::{Deployment, RolloutState};
use muster_model::{Service, State, Time};
use std::sync::Arc;

/// What names the parts of a service.
struct Names<'a> {
    arns: Arns<'a>,
    cluster: Arc<str>,
    service: &'a str,
}

impl<'a> Names<'a> {
    fn of(state: &'a State, row: &'a Service) -> Self {
        let cluster = name_of(state, row.cluster);
        Self { arns: Arns::of(state), cluster, service: &row.spec.name }
    }
    fn service(&self) -> String {
        self.arns.service(&self.cluster, self.service)
    }
    fn cluster(&self) -> String {
        self.arns.cluster(&self.cluster)
    }
    fn deployment(&self, row: &Deployment) -> String {
        self.arns.service_deployment(&self.cluster, self.service, row.id)
    }
    fn revision(&self, row: &Deployment) -> String {
        self.arns.service_revision(&self.cluster, self.service, row.id)
    }
}

/// Status, and when it came to its end. A deployment that a newer one overtook was stopped by it.
fn status(row: &Service, at: usize) -> (&'static str, Option<Time>) {
    let deployment = &row.deployments[at];
    let newer = at.checked_sub(1).map(|newer| row.deployments[newer].created_at);
    match (deployment.rollout, newer) {
        (RolloutState::Completed, _) => ("SUCCESSFUL", Some(deployment.updated_at)),
        (RolloutState::Failed, _) => ("STOPPED", Some(deployment.updated_at)),
        (RolloutState::InProgress, Some(newer)) => ("STOPPED", Some(newer)),
        (RolloutState::InProgress, None) => ("IN_PROGRESS", None),
    }
}

fn reason(row: &Service, at: usize) -> String {
    match row.deployments[at].rollout {
        RolloutState::InProgress if at > 0 => "a newer deployment took its place".into(),
        _ => String::new(),
    }
}

/// A line of a list; `at` is its place among the service's deployments, the newest first.
pub fn service_brief(state: &State, row: &Service, at: usize) -> pb::ServiceDeploymentBrief {
    let (names, deployment) = (Names::of(state, row), &row.deployments[at]);
    let (status, finished) = status(row, at);
    pb::ServiceDeploymentBrief {
        service_deployment_arn: names.deployment(deployment),
        service_arn: names.service(),
        cluster_arn: names.cluster(),
        started_at: Some(timestamp(deployment.created_at)),
        created_at: Some(timestamp(deployment.created_at)),
        finished_at: finished.map(timestamp),
        target_service_revision_arn: names.revision(deployment),
        status: status.into(),
        status_reason: reason(row, at),
    }
}

/// As `service_brief`, with what it replaces.
pub fn service_deployment(state: &State, row: &Service, at: usize) -> pb::ServiceDeployment {
    let brief = service_brief(state, row, at);
    let mut summaries = summaries(state, row).into_iter().skip(at);
    pb::ServiceDeployment {
        service_deployment_arn: brief.service_deployment_arn,
        service_arn: brief.service_arn,
        cluster_arn: brief.cluster_arn,
        created_at: brief.created_at,
        started_at: brief.started_at,
        finished_at: brief.finished_at,
        updated_at: Some(timestamp(row.deployments[at].updated_at)),
        target_service_revision: summaries.next(),
        source_service_revisions: summaries.collect(),
        status: brief.status,
        status_reason: brief.status_reason,
        deployment_configuration: Some(super::service::configuration(row)),
    }
}

/// The revisions that have tasks or should, the newest first.
pub(super) fn summaries(state: &State, row: &Service) -> Vec<pb::ServiceRevisionSummary> {
    let (names, counts) = (Names::of(state, row), count(state, row));
    let summary = |(at, deployment): (usize, &Deployment)| {
        let Counts { pending, running } = counts.get(&deployment.id).copied().unwrap_or_default();
        let requested = if at == 0 { state.desired_count(row) } else { 0 };
        pb::ServiceRevisionSummary {
            arn: names.revision(deployment),
            requested_task_count: int(requested),
            running_task_count: int(running),
            pending_task_count: int(pending),
        }
    };
    row.deployments.iter().enumerate().map(summary).collect()
}

/// The ARN of the newest deployment; none once the service is INACTIVE.
pub(super) fn current(state: &State, row: &Service) -> String {
    row.primary().map(|newest| Names::of(state, row).deployment(newest)).unwrap_or_default()
}

/// What the deployment brings out, with the digest that each image came to where a task has it.
pub fn service_revision(state: &State, row: &Service, at: usize) -> pb::ServiceRevision {
    let (names, deployment) = (Names::of(state, row), &row.deployments[at]);
    let spec = state.definition(deployment.definition).map(|row| row.spec.clone());
    let tasks = || state.tasks_of(row.id).filter(|t| t.deployment() == Some(deployment.id));
    let digest = |name: &str| {
        let mut seen = tasks().flat_map(|task| &task.observed.containers);
        seen.find_map(|c| c.image_digest.as_deref().filter(|_| *c.name == *name))
    };
    let images = spec.iter().flat_map(|spec| &spec.containers).map(|c| pb::ContainerImage {
        container_name: c.name.clone(),
        image_digest: digest(&c.name).unwrap_or_default().to_owned(),
        image: c.image.clone(),
    });
    pb::ServiceRevision {
        service_revision_arn: names.revision(deployment),
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
