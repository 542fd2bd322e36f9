//! Task sets as callers see them.

use super::{arn_or, wants_tags};
use crate::limits::DESCRIBE_MAX;
use muster_model::{Error, State};
use muster_proto::arn;
use muster_proto::view::missing;
use muster_proto::{pb, spelled, view};

/// All of the service's, the newest first, or those that are named.
///
/// # Errors
/// `NotFound` for cluster or service, `Invalid` for too many names.
pub fn describe(
    state: &State,
    request: &pb::DescribeTaskSetsRequest,
) -> Result<pb::DescribeTaskSetsResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let service = arn::service(state, cluster, &request.service)?;
    if request.task_sets.len() > DESCRIBE_MAX {
        let allowed = format!("at most {DESCRIBE_MAX} ids or ARNs");
        let number = format!("{} of them", request.task_sets.len());
        return Err(Error::invalid("taskSets", number, allowed));
    }
    let tags = wants_tags(&request.include, spelled::TASK_SET_FIELD)?;
    let mut all = view::task_sets(state, service);
    if !tags {
        all.iter_mut().for_each(|set| set.tags.clear());
    }
    let mut answer = pb::DescribeTaskSetsResponse::default();
    if request.task_sets.is_empty() {
        answer.task_sets = all;
        return Ok(answer);
    }
    for text in &request.task_sets {
        let found = arn::task_set(state, cluster, service, text);
        let shown = |set: &&pb::TaskSet| found.as_ref().is_ok_and(|id| id.shown() == set.id);
        match all.iter().find(shown) {
            Some(set) => answer.task_sets.push(set.clone()),
            None => {
                let id = format!("{}/{text}", service.spec.name);
                let text = if text.starts_with("arn:") { text } else { &id };
                answer.failures.push(missing(arn_or(state, "task-set", cluster, text)));
            }
        }
    }
    Ok(answer)
}
