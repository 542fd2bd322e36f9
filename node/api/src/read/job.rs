//! Jobs as callers see them.

use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use muster_model::{Error, State};
use muster_proto::view::missing;
use muster_proto::{arn, convert, pb, view};

/// Those that are named or whose ids are given, with their tasks.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for no names or too many.
pub fn describe(
    state: &State,
    request: &pb::DescribeJobsRequest,
) -> Result<pb::DescribeJobsResponse, Error> {
    convert::some_names("jobs", &request.jobs, DESCRIBE_MAX)?;
    let cluster = arn::cluster(state, &request.cluster)?;
    let mut answer = pb::DescribeJobsResponse::default();
    for name in &request.jobs {
        match convert::job::named(state, cluster, name) {
            Ok(row) => answer.jobs.push(view::job(state, row)),
            Err(_) => answer.failures.push(missing(name)),
        }
    }
    Ok(answer)
}

/// Those of a cluster, by name, without their tasks.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad page or status.
pub fn list(state: &State, request: &pb::ListJobsRequest) -> Result<pb::ListJobsResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let status = convert::job::status(&request.status)?;
    let kind = format!("jobs {} {}", cluster.name, request.status);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let items = state
        .jobs_in(cluster.id)
        .filter(|row| status.is_none_or(|wanted| row.state() == wanted))
        // No name has a blank: the keys are in the order of names, then of ids.
        .map(|row| (format!("{} {}", row.spec.name, row.id), row))
        .filter(|(key, _)| page.after().is_none_or(|last| key.as_str() > last))
        .map(|(key, row)| (key, pb::Job { task_arns: Vec::new(), ..view::job(state, row) }));
    let (jobs, next_token) = page.take(items);
    Ok(pb::ListJobsResponse { jobs, next_token })
}
