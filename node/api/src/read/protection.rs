//! Protection of tasks as callers see it.

use super::arn_or;
use crate::limits::DESCRIBE_MAX;
use crate::resolve;
use muster_model::{Error, State, Task};
use muster_proto::view::missing;
use muster_proto::{arn, pb, view};

/// Without names: the cluster's protected tasks, as many as ECS describes at once.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for too many names or an ambiguous prefix.
pub fn get(
    state: &State,
    request: &pb::GetTaskProtectionRequest,
) -> Result<pb::GetTaskProtectionResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let mut answer = pb::GetTaskProtectionResponse::default();
    if request.tasks.is_empty() {
        let here = |row: &&std::sync::Arc<Task>| row.cluster == cluster.id && may_be(row);
        let rows = state.protected_tasks().filter(here).take(DESCRIBE_MAX);
        answer.protected_tasks = rows.map(|row| view::protection(state, row)).collect();
        return Ok(answer);
    }
    muster_proto::convert::some_names("tasks", &request.tasks, DESCRIBE_MAX)?;
    for text in &request.tasks {
        match resolve::task(state, cluster, text) {
            Ok(row) if may_be(row) => {
                answer.protected_tasks.push(view::protection(state, row));
            }
            Ok(_) => answer.failures.push(not_valid(arn_or(state, "task", cluster, text))),
            Err(Error::NotFound { .. }) => {
                answer.failures.push(missing(arn_or(state, "task", cluster, text)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Only a wanted task of a service can be protected.
fn may_be(row: &Task) -> bool {
    row.service().is_some() && row.wanted()
}

/// ECS's failure for a task that cannot be protected.
pub fn not_valid(arn: impl Into<String>) -> pb::Failure {
    pb::Failure { arn: arn.into(), reason: "TASK_NOT_VALID".into(), detail: String::new() }
}
