//! Schedules as callers see them.

use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use muster_model::{Error, State};
use muster_proto::view::missing;
use muster_proto::{arn, convert, pb, view};

/// Those that are named, with their runs.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for no names or too many.
pub fn describe(
    state: &State,
    request: &pb::DescribeSchedulesRequest,
) -> Result<pb::DescribeSchedulesResponse, Error> {
    convert::some_names("names", &request.names, DESCRIBE_MAX)?;
    let cluster = arn::cluster(state, &request.cluster)?;
    let mut answer = pb::DescribeSchedulesResponse::default();
    for name in &request.names {
        match state.schedule_named(cluster.id, name) {
            Some(row) => answer.schedules.push(view::schedule(state, row)),
            None => answer.failures.push(missing(name)),
        }
    }
    Ok(answer)
}

/// Those of a cluster, by name, without their runs.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad page.
pub fn list(
    state: &State,
    request: &pb::ListSchedulesRequest,
) -> Result<pb::ListSchedulesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    let kind = format!("schedules {}", cluster.name);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let items = state
        .schedules_in(cluster.id)
        .filter(|row| page.after().is_none_or(|last| row.spec.name.as_str() > last))
        .map(|row| {
            let shown = pb::Schedule { runs: Vec::new(), ..view::schedule(state, row) };
            (row.spec.name.clone(), shown)
        });
    let (schedules, next_token) = page.take(items);
    Ok(pb::ListSchedulesResponse { schedules, next_token })
}
