//! Container instances as callers see them.

use super::{arn_or, wants_tags};
use crate::limits::DESCRIBE_MAX;
use crate::page::Page;
use crate::resolve;
use crate::show;
use muster_model::{Error, InstanceStatus, State};
use muster_proto::arn::{self, Arns};
use muster_proto::convert::some_names;
use muster_proto::pb;
use muster_proto::view::missing;

/// # Errors
/// `NotFound` for the cluster, `Invalid` for no or too many names or an ambiguous prefix.
pub fn describe(
    state: &State,
    request: &pb::DescribeContainerInstancesRequest,
) -> Result<pb::DescribeContainerInstancesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    some_names("containerInstances", &request.container_instances, DESCRIBE_MAX)?;
    let tags = wants_tags(&request.include);
    let mut answer = pb::DescribeContainerInstancesResponse::default();
    for text in &request.container_instances {
        match resolve::instance(state, cluster, text) {
            Ok(row) => answer.container_instances.push(show::instance(state, row, tags)),
            Err(Error::NotFound { .. }) => {
                let arn = arn_or(state, "container-instance", cluster, text);
                answer.failures.push(missing(arn));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// By id. Without a status: ACTIVE and DRAINING ones.
///
/// # Errors
/// `NotFound` for the cluster, `Invalid` for a bad status or page, `Unsupported` for a filter.
pub fn list(
    state: &State,
    request: &pb::ListContainerInstancesRequest,
) -> Result<pb::ListContainerInstancesResponse, Error> {
    let cluster = arn::cluster(state, &request.cluster)?;
    if !request.filter.is_empty() {
        return Err(Error::Unsupported {
            feature: "filter (the cluster query language)".into(),
            instead: "list by status and describe".into(),
        });
    }
    let wanted = match request.status.as_str() {
        "" => None,
        "ACTIVE" => Some(InstanceStatus::Active),
        "DRAINING" => Some(InstanceStatus::Draining),
        "INACTIVE" => Some(InstanceStatus::Inactive),
        // ECS's names for what takes no time here: no instance is ever found in it.
        "REGISTERING" | "REGISTRATION_FAILED" | "DEREGISTERING" => {
            return Ok(pb::ListContainerInstancesResponse::default());
        }
        other => return Err(Error::invalid("status", other, "ACTIVE, DRAINING, INACTIVE")),
    };
    let kind = format!("instances {} {}", cluster.id, request.status);
    let page = Page::new(kind, &request.next_token, request.max_results)?;
    let shown = |status| match wanted {
        Some(wanted) => status == wanted,
        None => status != InstanceStatus::Inactive,
    };
    let arns = Arns::of(state);
    let items = state
        .instances()
        .filter(|row| row.cluster == cluster.id && shown(row.status))
        .map(|row| (row.id.to_string(), arns.instance(&cluster.name, row.id)))
        .filter(|(id, _)| page.after().is_none_or(|last| id.as_str() > last));
    let (container_instance_arns, next_token) = page.take(items);
    Ok(pb::ListContainerInstancesResponse { container_instance_arns, next_token })
}
