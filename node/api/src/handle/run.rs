//! RunTask: run what fits now, and say what does not.
//!
//! As in ECS, a run is not all or nothing and never waits for room: tasks that the scheduler could
//! not place are stopped and come back as failures with ECS's reason codes. The waiting is done
//! beside the call, so that a caller who hangs up leaves no task waiting behind. Only if the
//! scheduler says nothing at all for `PLACEMENT_WAIT` (a leader change) is a task answered as it
//! is, PROVISIONING; should it turn out not to fit, it is stopped all the same.
//! A repeat with the same client token finds the same tasks, stopped ones by their reason.

use crate::call::{Call, Region};
use crate::dispatcher::Dispatcher;
use crate::limits::{PLACEMENT_WAIT, SETTLE_MAX};
use crate::make;
use crate::write::{Draft, fresh_for, unexpected};
use muster_model::cluster::DEFAULT_CLUSTER;
use muster_model::{
    Command, Entry, Error, InstanceStatus, Phase, Principal, Response, State, Task, TaskId, TraceId,
};
use muster_proto::arn;
use muster_proto::{convert, pb, view};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Begins the reason of a task that was stopped because it did not fit; ECS's words.
const DID_NOT_FIT: &str = "TaskFailedToStart: ";

impl Dispatcher {
    pub async fn run_task(
        self: &Arc<Self>,
        call: &Call,
        request: pb::RunTaskRequest,
    ) -> Result<pb::RunTaskResponse, Error> {
        let instances = self.any_instance(call, &request.cluster).await?;
        // Fargate would need no instances, so none being there is no answer to it.
        let strategy = &request.capacity_provider_strategy;
        convert::capacity::no_strategy(&request.launch_type, strategy)?;
        convert::launch_type(&request.launch_type)?;
        required(&request.cluster, instances)?;
        let fresh = fresh_for(&request.task_definition);
        let make = |draft: &mut Draft<'_>| make::run_task(draft, &request);
        let written = self.write(call, &request.client_token, fresh, make).await?;
        let Response::Tasks(tasks) = written.response else {
            return Err(unexpected(&written.response));
        };
        let by = (call.principal.clone(), call.trace);
        let settle = self.clone().settle(tasks.clone(), by, call.region().clone());
        let settling = self.under_way.spawn(settle);
        let until = call.deadline.min(Instant::now() + PLACEMENT_WAIT);
        let unfit = match tokio::time::timeout_at(until, settling).await {
            Ok(Ok(unfit)) => unfit,
            // It goes on without us.
            Ok(Err(_)) | Err(_) => BTreeMap::new(),
        };
        let there = |state: &State| tasks.iter().all(|id| started(state, *id));
        let state = self.simulated(call, call.seeing(self.replica.state()), there).await;
        call.saw(&state, None);
        Ok(answer(&state, &tasks, unfit))
    }

    /// Whether the cluster, which must be there, has an instance.
    pub(super) async fn any_instance(&self, call: &Call, cluster: &str) -> Result<bool, Error> {
        if any_instance(&call.seeing(self.replica.state()), cluster) == Ok(true) {
            return Ok(true);
        }
        any_instance(&call.seeing(self.replica.read(call.deadline).await?), cluster)
    }

    /// Waits for the scheduler's word on each task, and stops those that do not fit.
    async fn settle(
        self: Arc<Self>,
        mut open: Vec<TaskId>,
        (by, trace): (Principal, Option<TraceId>),
        region: Region,
    ) -> BTreeMap<TaskId, pb::Failure> {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut states = self.replica.watch();
        states.mark_changed();
        let mut unfit = BTreeMap::new();
        while !open.is_empty() {
            match tokio::time::timeout_at(deadline, states.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
            let state = region.seeing(states.borrow_and_update().clone());
            let mut explained = Vec::new();
            open.retain(|id| match state.task(*id) {
                Some(task) if task.wanted() && task.instance.is_none() => {
                    let failure = view::placement_failure(&state, task);
                    explained.extend(failure.map(|failure| (*id, failure)));
                    task.waiting.is_none()
                }
                _ => false,
            });
            for (id, failure) in explained {
                self.stop_unfit(id, &failure, &by, trace, deadline).await;
                unfit.insert(id, failure);
            }
        }
        unfit
    }

    async fn stop_unfit(
        &self,
        task: TaskId,
        failure: &pb::Failure,
        by: &Principal,
        trace: Option<TraceId>,
        deadline: Instant,
    ) {
        let reason = format!("{DID_NOT_FIT}{} {}", failure.reason, failure.detail);
        let entry = Entry {
            request: self.ids().request(),
            at: self.time(),
            by: by.clone(),
            trace,
            command: Command::StopTask { task, reason: reason.into() },
        };
        if let Err(error) = self.commit(entry, deadline).await {
            tracing::warn!(%task, %error, "task that does not fit was not stopped: it waits");
        }
    }
}

/// RUNNING, or past it, or never going to be.
pub(super) fn started(state: &State, id: TaskId) -> bool {
    let there = |task: &Arc<Task>| task.last_status() >= Phase::Running || !task.wanted();
    state.task(id).is_none_or(there)
}

/// ECS: a cluster without instances is an error, not a failure.
pub(super) fn required(cluster: &str, instances: bool) -> Result<(), Error> {
    let name = if cluster.is_empty() { DEFAULT_CLUSTER } else { cluster };
    let allowed =
        "No Container Instances were found in your cluster. (Add one with `muster join`.)";
    instances.then_some(()).ok_or_else(|| Error::invalid("cluster", name, allowed))
}

fn any_instance(state: &State, cluster: &str) -> Result<bool, Error> {
    let cluster = arn::cluster(state, cluster)?.id;
    let usable = |status| status != InstanceStatus::Inactive;
    Ok(state.instances().any(|row| row.cluster == cluster && usable(row.status)))
}

/// Tasks that run or will, and failures for those that do not.
fn answer(
    state: &State,
    tasks: &[TaskId],
    mut unfit: BTreeMap<TaskId, pb::Failure>,
) -> pb::RunTaskResponse {
    let mut answer = pb::RunTaskResponse::default();
    for id in tasks {
        let row = state.task(*id);
        let earlier = || row.and_then(|task| failure_of_stopped(state, task));
        match (unfit.remove(id).or_else(earlier), row) {
            (Some(failure), _) => answer.failures.push(failure),
            (None, Some(task)) => answer.tasks.push(view::task(state, task)),
            // Long stopped and forgotten: a repeat, a day later.
            (None, None) => {}
        }
    }
    answer
}

/// What an earlier attempt of the same request was told of this task.
fn failure_of_stopped(state: &State, task: &Task) -> Option<pb::Failure> {
    let reason = task.observed.reason.as_deref()?.strip_prefix(DID_NOT_FIT)?;
    task.instance.is_none().then_some(())?;
    let (reason, detail) = reason.split_once(' ').unwrap_or((reason, ""));
    let arn = view::placement_failure(state, task).map(|failure| failure.arn).unwrap_or_default();
    Some(pb::Failure { arn, reason: reason.into(), detail: detail.into() })
}
