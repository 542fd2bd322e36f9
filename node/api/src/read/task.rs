//! Tasks as callers see them.

use super::{OF_MOST, arn_or, wants_tags};
use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use crate::resolve;
use crate::show;
use muster_model::{ClusterId, Error, InstanceId, Owner, ServiceId, State, Task, TaskId};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::{has_launch_type, one_of, some_names};
use muster_proto::view::missing;
use muster_proto::{pb, spelled};
use std::ops::Bound;
use std::sync::Arc;

/// # Errors
/// `NotFound` for the cluster, `Invalid` for no or too many names or an ambiguous prefix.
pub fn describe(
    state: &State,
    request: &pb::DescribeTasksRequest,
) -> Result<pb::DescribeTasksResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    some_names("tasks", &request.tasks, DESCRIBE_MAX)?;
    let tags = wants_tags(&request.include, OF_MOST)?;
    let mut answer = pb::DescribeTasksResponse::default();
    for text in &request.tasks {
        match resolve::task(state, cluster, text) {
            Ok(row) => answer.tasks.push(show::task(state, row, tags)),
            Err(Error::NotFound { .. }) => {
                answer.failures.push(missing(arn_or(state, "task", cluster, text)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// What a list of tasks shows; every field narrows it.
struct Filter {
    cluster: ClusterId,
    instance: Option<InstanceId>,
    service: Option<ServiceId>,
    family: Option<String>,
    started_by: Option<String>,
    stopped: bool,
    /// Whether there can be any: all that runs here has one launch type, and nothing a desired
    /// status of PENDING.
    any: bool,
}

impl Filter {
    fn new(state: &State, request: &pb::ListTasksRequest) -> Result<Self, Error> {
        let cluster = arn::cluster(state, &request.cluster)?;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let instance = match request.container_instance.as_str() {
            "" => None,
            text => Some(resolve::instance(state, cluster, text)?.id),
        };
        let service = match request.service_name.as_str() {
            "" => None,
            text => Some(arn::service_or_deleted(state, cluster, text)?.id),
        };
        let (stopped, desired) = match request.desired_status.as_str() {
            "" | "RUNNING" => (false, true),
            "STOPPED" => (true, true),
            // ECS takes it, and never desires it of a task.
            "PENDING" => (false, false),
            other => {
                return Err(Error::invalid(
                    "desiredStatus",
                    other,
                    one_of(spelled::DESIRED_STATUS),
                ));
            }
        };
        Ok(Self {
            cluster: cluster.id,
            instance,
            service,
            family: given(&request.family),
            started_by: given(&request.started_by),
            stopped,
            any: has_launch_type(&request.launch_type)? && desired,
        })
    }

    fn shows(&self, state: &State, task: &Task) -> bool {
        let family = || state.definition(task.definition).map(|row| row.family.clone());
        let started_by = |wanted: &String| match &task.owner {
            Owner::Run { started_by, .. } => started_by.as_deref() == Some(wanted),
            Owner::Job { started_by, .. } => **started_by == **wanted,
            // A deployment's id is the `startedBy` of its tasks.
            Owner::Service { deployment, .. } => deployment.shown() == *wanted,
        };
        self.any
            // ECS: no task but a failure, which RunTask has answered.
            && !task.found_no_place()
            && task.cluster == self.cluster
            && task.wanted() != self.stopped
            && self.instance.is_none_or(|wanted| task.instance == Some(wanted))
            && self.service.is_none_or(|wanted| task.service() == Some(wanted))
            && self.started_by.as_ref().is_none_or(started_by)
            && self.family.as_ref().is_none_or(|wanted| family().as_deref() == Some(wanted))
    }

    /// Tells the tokens of different lists apart.
    fn kind(&self) -> String {
        let Self { cluster, instance, service, family, started_by, stopped, any } = self;
        format!(
            "tasks {cluster} {instance:?} {service:?} {family:?} {started_by:?} {stopped} {any}"
        )
    }
}

/// By id.
///
/// # Errors
/// `NotFound` for a cluster, instance or service, `Invalid` for a bad page or status.
pub fn list(state: &State, request: &pb::ListTasksRequest) -> Result<pb::ListTasksResponse, Error> {
    let filter = Filter::new(state, request)?;
    let page = Page::new(filter.kind(), &request.next_token, request.max_results)?;
    let from = match page.after() {
        None => Bound::Unbounded,
        Some(last) => Bound::Excluded(last.parse::<TaskId>()?),
    };
    let range = (from, Bound::Unbounded);
    let rows: Box<dyn Iterator<Item = &Arc<Task>>> = match filter.service {
        // A service knows its tasks; the rest of a large cluster need not be looked at.
        Some(service) => Box::new(
            state
                .tasks_of(service)
                .filter(move |task| std::ops::RangeBounds::contains(&range, &task.id)),
        ),
        None => Box::new(state.tasks_within(range)),
    };
    let (arns, name) = (Arns::of(state), arn::name_of(state, filter.cluster));
    let items = rows
        .filter(|task| filter.shows(state, task))
        .map(|task| (task.id.to_string(), arns.task(&name, task.id)));
    let (task_arns, next_token) = page.take(items);
    Ok(pb::ListTasksResponse { task_arns, next_token })
}
